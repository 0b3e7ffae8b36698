"""Bounds for what compares and weighs: softmax, attention, rotary embeddings and losses."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from deepstruct.verification.bounds_arithmetic import Arithmetic, Ball
from deepstruct.verification.bounds_case import Case, Exact, Rule


def _softmax(arithmetic: Arithmetic, x: Ball) -> Ball:
    """Along the last axis; numbers that are minus infinity count as none."""
    shifted = _shifted(arithmetic, x)
    powers = arithmetic.exp(shifted)
    return arithmetic.divide(powers, arithmetic.sum(powers, [x.value.ndim - 1], True))


def _shifted(arithmetic: Arithmetic, x: Ball) -> Ball:
    """X less its largest number along the last axis."""
    most = x.value.amax(-1, True)
    above, below = (x.value + x.radius).amax(-1, True) - most, most - (x.value - x.radius).amax(-1, True)
    slack = torch.maximum(above, below).nan_to_num(nan=math.inf, posinf=math.inf)
    value = x.value - torch.where(most.isfinite(), most, 0)
    error = (x.radius + slack) * (1 + arithmetic.unit) + arithmetic.unit * value.abs() + arithmetic.least
    return Ball(value, torch.where(value == -math.inf, 0, error))


def _log_softmax(arithmetic: Arithmetic, x: Ball) -> Ball:
    shifted = _shifted(arithmetic, x)
    logarithm = arithmetic.log(arithmetic.sum(arithmetic.exp(shifted), [x.value.ndim - 1], True))
    value = shifted.value - logarithm.value
    scale = x.value.abs() + 2 * x.value.abs().amax(-1, True) + 2 * logarithm.size
    return arithmetic.rounded(value, shifted.radius + logarithm.radius, 1.0, 2 * scale + 4)


def _along_axis(function: Callable[[Arithmetic, Ball], Ball]) -> Rule:
    """Softmax and its kind; until opset 12 they ran over all dimensions from ``axis`` on, taken as one."""

    def rule(case: Case) -> list[Ball]:
        x = case.tensor(0)
        if case.opset < 13:
            axis = int(case.attribute("axis", 1))
            rows = math.prod(x.shape[: axis + x.ndim if axis < 0 else axis])
            return [function(case.arithmetic, Ball(x.reshape(rows, -1))).reshape(*x.shape)]
        axis = int(case.attribute("axis", -1))
        ball = function(case.arithmetic, Ball(x.movedim(axis, -1)))
        return [Ball(ball.value.movedim(-1, axis), ball.radius.movedim(-1, axis))]

    return rule


def _heads(x: Tensor, count: int) -> Tensor:
    return x.reshape(*x.shape[:2], count, -1).transpose(1, 2) if x.ndim == 3 else x


_SCALE = 4 * 2.0**-24
"""Relative error of the scale, whose root runtimes may take in float32 whatever the dtype is."""
_OUTPUTS = ("y", "key", "value", "scores")


def _attention(case: Case) -> list[Ball | Exact | None]:
    """Scores, softmax and the mean of the values that they weigh, in one pass over the keys or in several."""
    arithmetic, q = case.arithmetic, case.tensor(0)
    attributes = {name: value for name, value in case.node.attributes.items() if name != "softmax_precision"}

    def scores(mode: int, changed: dict[int, Tensor] | None = None) -> Tensor:
        probe = case.with_attributes({**attributes, "qk_matmul_output_mode": mode}, _OUTPUTS)
        return probe.evaluate(changed)[3]

    raw = scores(0)
    absolute = {position: case.tensor(position).abs() for position in (0, 1, 4) if case.has(position)}
    size = _heads(q, int(case.attribute("q_num_heads", 0))).shape[-1]
    magnitude = scores(0, absolute)
    stages = [arithmetic.dot(raw, magnitude, size + 12, _SCALE * magnitude)]
    cap = float(case.attribute("softcap", 0.0))
    if cap:
        factor = arithmetic.constant(cap)
        stages.append(arithmetic.multiply(arithmetic.tanh(arithmetic.divide(stages[0], factor)), factor))
    else:
        stages.append(stages[0])
    biased = scores(2)
    rounding = torch.where(biased == -math.inf, 0, arithmetic.unit * (biased.abs() + stages[1].size))
    stages.append(Ball(biased, stages[1].radius + rounding))
    stages.append(_softmax(arithmetic, stages[2]))
    heads = _heads(case.tensor(2), int(case.attribute("kv_num_heads", 0)))
    values = torch.cat([case.tensor(5), heads], 2) if case.has(5) else heads
    values = values.repeat_interleave(raw.shape[1] // values.shape[1], 1)
    y = arithmetic.matmul(stages[3], Ball(values), None, 8 + values.shape[2] // 8)
    if q.ndim == 3:
        y = Ball(y.value.transpose(1, 2).flatten(2), y.radius.transpose(1, 2).flatten(2))
    return [y, Exact(), Exact(), stages[int(case.attribute("qk_matmul_output_mode", 0))]]


def _rotary(case: Case) -> list[Ball]:
    """Two products each, whose signs are such that one of two evaluations adds up their absolute values."""
    (value,) = case.evaluate()
    x, cos, sin = (case.tensor(position).abs() for position in range(3))
    (first,), (second,) = case.evaluate({0: x, 1: cos, 2: sin}), case.evaluate({0: x, 1: cos, 2: -sin})
    return [case.arithmetic.dot(value, torch.maximum(first.abs(), second.abs()), 3)]


def _likelihood(case: Case, scores: Ball, weight: Tensor | None) -> Ball | None:
    """The negative log likelihood loss of scores."""
    if weight is not None and bool((weight < 0).any()):
        return None
    names = {name: value for name, value in case.node.attributes.items() if name in ("reduction", "ignore_index")}
    loss = case.with_attributes(names, ("loss",), "NegativeLogLikelihoodLoss")
    value, magnitude, propagated = (
        loss.evaluate({0: scores_of})[0] for scores_of in (scores.value, -scores.value.abs(), -scores.radius)
    )
    ball = case.arithmetic.dot(value, magnitude, 2 * case.tensor(1).numel() + 4, propagated)
    total = (
        loss.with_attributes({**names, "reduction": "sum"}) if case.attribute("reduction", "mean") == "mean" else loss
    )
    return case.arithmetic.made(value, ball.radius, total.evaluate({0: -scores.size})[0])


def _log_likelihood(case: Case) -> list[Ball | None]:
    return [_likelihood(case, case.ball(0), case.tensors[2] if case.has(2) else None)]


def _cross_entropy(case: Case) -> list[Ball | None]:
    x = Ball(case.tensor(0).movedim(1, -1))
    ball = _log_softmax(case.arithmetic, x)
    scores = Ball(ball.value.movedim(-1, 1), ball.radius.movedim(-1, 1))
    return [_likelihood(case, scores, case.tensors[2] if case.has(2) else None), scores]


RULES: dict[str, Rule] = {
    "Attention": _attention,
    "LogSoftmax": _along_axis(_log_softmax),
    "NegativeLogLikelihoodLoss": _log_likelihood,
    "RotaryEmbedding": _rotary,
    "Softmax": _along_axis(_softmax),
    "SoftmaxCrossEntropyLoss": _cross_entropy,
}
