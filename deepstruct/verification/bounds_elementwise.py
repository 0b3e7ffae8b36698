"""Bounds for operators that compute each element by itself: arithmetic and functions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from deepstruct.verification.bounds_accuracy import FUNCTIONS
from deepstruct.verification.bounds_arithmetic import Ball
from deepstruct.verification.bounds_case import Case, Rule

_FLOAT32 = 2.0**-24


_OWN = ("Celu", "Elu", "Pow", "Selu", "Sigmoid")  # functions with a rule of their own


def _function(case: Case) -> list[Ball]:
    (value,), x = case.evaluate(), case.tensor(0)
    arithmetic, accuracy = case.arithmetic, FUNCTIONS[case.node.op_type]
    ball = arithmetic.computed(case.node.op_type, value)
    if accuracy.per_input:
        units = arithmetic.unit * arithmetic.accuracy(accuracy.per_input) + _FLOAT32 * accuracy.constants
        ball = ball.widened(units * x.abs())
    most = x.abs().exp() if accuracy.grows else torch.maximum(value.abs(), x.abs() * accuracy.room)
    return [arithmetic.made(value, ball.radius, most)]


def _sigmoid(case: Case) -> list[Ball]:
    return [case.arithmetic.sigmoid(case.ball(0))]


def _exponential_unit(case: Case) -> list[Ball]:
    """Elu, Celu and Selu: an error near 0 of that of 1 where a runtime subtracts 1 from the exponential."""
    (value,) = case.evaluate()
    is_scaled = case.node.op_type == "Selu"
    alpha = case.constant("alpha", 1.6732632 if is_scaled else 1.0)
    gamma = case.constant("gamma", 1.0507010) if is_scaled else Ball(torch.ones((), dtype=torch.float64))
    ball = case.arithmetic.computed(
        case.node.op_type, value, torch.where(case.tensor(0) > 0, 0, alpha.size * gamma.size)
    )
    share = alpha.radius / alpha.value.abs() + gamma.radius / gamma.value.abs()
    steepest = value.abs() + torch.where(case.tensor(0) > 0, 0, alpha.size * gamma.size)
    return [ball.widened(2 * share * steepest)]


def _leaky(case: Case) -> list[Ball]:
    x = case.ball(0)
    scaled = case.arithmetic.multiply(x, case.constant("alpha", 0.01))
    return [_where_negative(x.value, scaled)]


def _parametric(case: Case) -> list[Ball]:
    ball = _where_negative(case.tensor(0), case.arithmetic.multiply(case.ball(0), case.ball(1)))
    return [Ball(ball.value, torch.where(case.tensor(1).isfinite(), ball.radius, math.inf))]


def _where_negative(x: Tensor, other: Ball) -> Ball:
    """A ball where x is negative, x without error elsewhere."""
    return Ball(
        torch.where(x < 0, other.value, x), torch.where(x < 0, other.radius, torch.where(x.isnan(), math.inf, 0))
    )


def _hard_sigmoid(case: Case) -> list[Ball]:
    arithmetic = case.arithmetic
    x, alpha, beta = case.ball(0), case.constant("alpha", 0.2), case.constant("beta", 0.5)
    return [arithmetic.clamp(arithmetic.add(arithmetic.multiply(x, alpha), beta), 0.0, 1.0)]


def _swish(case: Case) -> list[Ball]:
    return [swish(case, case.ball(0))]


def swish(case: Case, x: Ball) -> Ball:
    """The product of x and sigmoid(alpha x)."""
    arithmetic = case.arithmetic
    alpha = case.constant("alpha", 1.0)
    inner = x if alpha.error is None and float(alpha.value) == 1.0 else arithmetic.multiply(x, alpha)
    return arithmetic.multiply(x, arithmetic.sigmoid(inner), 3.0)


def _swiglu(case: Case) -> list[Ball]:
    return [case.arithmetic.multiply(swish(case, case.ball(0)), case.ball(1))]


def _shrink(case: Case) -> list[Ball]:
    x, bias, threshold = case.tensor(0), case.constant("bias", 0.0), case.constant("lambd", 0.5)
    (value,) = case.evaluate()
    ball = case.arithmetic.rounded(value, bias.radius)
    is_open = ((x.abs() - threshold.value).abs() <= threshold.radius) & (threshold.radius > 0)
    return [Ball(value, torch.where(is_open, math.inf, torch.where(value == 0, 0, ball.radius)))]


def _pow(case: Case) -> list[Ball]:
    value = torch.pow(case.tensor(0), case.tensor(1).double())
    return [case.arithmetic.computed("Pow", value)]


def _mod(case: Case) -> list[Ball]:
    """The remainder of floats is exact with the sign of the first, and rounded once with that of the second."""
    (value,) = case.evaluate()
    divisor = case.tensor(1).abs()
    ball = case.arithmetic.rounded(value, 0.0, 0.0, 0.0 if case.attribute("fmod", 0) else divisor)
    return [case.arithmetic.made(value, ball.radius, case.tensor(0).abs() / divisor)]


def _add_up(case: Case, divisor: int = 1) -> Ball:
    """The sum of all inputs, in any order."""
    terms = [case.tensor(position) for position in range(len(case.tensors))]
    value: Tensor = functools.reduce(torch.add, terms)
    magnitude = functools.reduce(torch.add, [term.abs() for term in terms])
    total = case.arithmetic.dot(value, magnitude, len(terms) - 1 if divisor == 1 else len(terms) + 2)
    return Ball(value / divisor, total.radius / divisor + case.arithmetic.least)


def _binary(name: str) -> Rule:
    """An operation of two numbers; what is infinite already stays so."""

    def rule(case: Case) -> list[Ball]:
        operation: Callable[[Ball, Ball], Ball] = getattr(case.arithmetic, name)
        ball = operation(case.ball(0), case.ball(1))
        is_infinite = ball.value.isinf() & (case.tensor(0).isinf() | case.tensor(1).isinf())
        return [Ball(ball.value, torch.where(is_infinite, 0, ball.radius))]

    return rule


def _range(case: Case) -> list[Ball]:
    """Products with the step, or as many sums of it."""
    start, delta = case.tensor(0), case.tensor(2)
    (value,) = case.evaluate()
    steps = torch.arange(len(value), dtype=torch.float64)
    return [case.arithmetic.dot(start + steps * delta, start.abs() + steps * delta.abs(), steps + 2)]


def _sum(case: Case) -> Sequence[Ball]:
    return [_add_up(case)]


def _mean(case: Case) -> Sequence[Ball]:
    return [_add_up(case, len(case.tensors))]


RULES: dict[str, Rule] = {
    **dict.fromkeys(set(FUNCTIONS).difference(_OWN), _function),
    "Add": _binary("add"),
    "Celu": _exponential_unit,
    "Div": _binary("divide"),
    "Elu": _exponential_unit,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _leaky,
    "Mean": _mean,
    "Mod": _mod,
    "Mul": _binary("multiply"),
    "PRelu": _parametric,
    "Pow": _pow,
    "Range": _range,
    "Selu": _exponential_unit,
    "Shrink": _shrink,
    "Sigmoid": _sigmoid,
    "Sub": _binary("subtract"),
    "Sum": _sum,
    "SwiGLU": _swiglu,
    "Swish": _swish,
}
