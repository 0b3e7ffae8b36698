"""Bounds for normalisations: each number less a mean, over a deviation, times a scale, plus a bias."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from deepstruct.converters.torch_operators_entry import DTYPES
from deepstruct.verification.bounds_arithmetic import Arithmetic, Ball
from deepstruct.verification.bounds_case import Case, Rule


def _moments(arithmetic: Arithmetic, x: Tensor, axes: list[int]) -> tuple[Ball, Ball]:
    """Mean and variance over axes, which stay; the latter maybe as the mean of squares less the square of the mean."""
    mean = arithmetic.mean(Ball(x), axes, True)
    squares = x.square().mean(axes, keepdim=True)
    count = math.prod(x.shape[axis] for axis in axes)
    error = 4 * arithmetic.gamma(count + 4) * squares + 4 * arithmetic.least
    return mean, arithmetic.made((x - mean.value).square().mean(axes, keepdim=True), error, squares * count)


def _normalised(
    arithmetic: Arithmetic, x: Tensor, mean: Ball, inverse: Ball, scale: Ball | None, bias: Ball | None
) -> Ball:
    """(x - mean) * inverse * scale + bias, maybe as x times a factor plus a term of the rest."""
    wide = 4 * arithmetic.unit * (x.abs() + mean.size) + mean.radius + arithmetic.least
    factor = inverse if scale is None else arithmetic.multiply(inverse, scale)
    ball = arithmetic.multiply(Ball(x - mean.value, wide), factor, 2.0)
    ball = ball if bias is None else arithmetic.add(ball, bias, 3.0)
    most = factor.size if scale is None else torch.maximum(factor.size, scale.size)
    return arithmetic.made(ball.value, ball.radius, (x.abs() + mean.size) * most.clamp(min=1))


def _inverse_deviation(case: Case, arithmetic: Arithmetic, variance: Ball) -> Ball:
    return arithmetic.reciprocal_sqrt(
        arithmetic.add(variance, arithmetic.constant(float(case.attribute("epsilon", 1e-5))))
    )


def _stages(case: Case) -> tuple[Arithmetic, Arithmetic]:
    """The arithmetic of the statistics, as the node asks for, and the coarser of that and the output's for the rest."""
    dtype = str(DTYPES[int(case.attribute("stash_type", 1))]).removeprefix("torch.")
    first = Arithmetic.of([dtype])
    assert first is not None
    return first, replace(case.arithmetic, unit=max(case.arithmetic.unit, first.unit))


def _along_channels(x: Tensor, rank: int) -> Ball:
    """One number for each channel, to go with (n, channels, ...)."""
    return Ball(x.double().reshape(-1, *(1,) * (rank - 2)) if rank > 1 else x.double())


def _batch(case: Case) -> list[Ball]:
    x = case.tensor(0)
    scale, bias, mean, variance = (_along_channels(case.tensor(position), x.ndim) for position in range(1, 5))
    return [_normalised(case.arithmetic, x, mean, _inverse_deviation(case, case.arithmetic, variance), scale, bias)]


def _instance(case: Case) -> list[Ball]:
    x = case.tensor(0)
    mean, variance = _moments(case.arithmetic, x, list(range(2, x.ndim)))
    scale, bias = (_along_channels(case.tensor(position), x.ndim) for position in (1, 2))
    return [_normalised(case.arithmetic, x, mean, _inverse_deviation(case, case.arithmetic, variance), scale, bias)]


def _group(case: Case) -> list[Ball]:
    x, groups = case.tensor(0), int(case.attribute("num_groups", 1))
    repeats = x.shape[1] // case.tensor(1).shape[0]
    scale, bias = (_along_channels(case.tensor(p).repeat_interleave(repeats), x.ndim) for p in (1, 2))
    first, second = _stages(case)
    mean, variance = _moments(first, x.reshape(x.shape[0], groups, -1), [2])
    inverse = _inverse_deviation(case, first, variance)

    def spread(ball: Ball) -> Ball:
        size = x.shape[1] // groups
        value, error = (t.reshape(x.shape[0], groups).repeat_interleave(size, 1) for t in (ball.value, ball.radius))
        return Ball(value, error).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))

    return [_normalised(second, x, spread(mean), spread(inverse), scale, bias)]


def _layer(case: Case) -> list[Ball]:
    x, axis = case.tensor(0), int(case.attribute("axis", -1))
    axes = list(range(axis % x.ndim, x.ndim))
    first, second = _stages(case)
    mean, variance = _moments(first, x, axes)
    inverse = _inverse_deviation(case, first, variance)
    return [_normalised(second, x, mean, inverse, case.ball(1), case.optional(2)), mean, inverse]


def _root_mean_square(case: Case) -> list[Ball]:
    x, axis = case.ball(0), int(case.attribute("axis", -1))
    axes = list(range(axis % x.value.ndim, x.value.ndim))
    first, second = _stages(case)
    inverse = _inverse_deviation(case, first, first.mean(first.multiply(x, x), axes, True))
    return [second.multiply(second.multiply(x, inverse), case.ball(1), 2.0)]


def _lp(case: Case) -> list[Ball]:
    arithmetic, x, axis = case.arithmetic, case.ball(0), int(case.attribute("axis", -1))
    is_absolute = int(case.attribute("p", 2)) == 1
    powers = Ball(x.value.abs()) if is_absolute else arithmetic.multiply(x, x)
    total = arithmetic.sum(powers, [axis % x.value.ndim], True)
    norm = total if is_absolute else arithmetic.sqrt(total)
    (value,) = case.evaluate()
    ball = arithmetic.divide(x, Ball(torch.where(norm.value == 0, 1, norm.value), norm.radius))
    return [Ball(value, torch.where(x.value == 0, arithmetic.least, ball.radius))]


def _local_response(case: Case) -> list[Ball]:
    """LRN; a sum over neighbours may be that of the channel before, plus one square and less another."""
    arithmetic, x, size = case.arithmetic, case.tensor(0), int(case.attribute("size", 1))
    alpha, beta, bias = case.constant("alpha", 1e-4), case.constant("beta", 0.75), case.constant("bias", 1.0)
    around = [*[0, 0] * (x.ndim - 2), (size - 1) // 2, size // 2]
    squares = torch.nn.functional.pad(x * x, around).unfold(1, size, 1)
    total = arithmetic.sum(Ball(squares), [squares.ndim - 1], False, 1)
    whole = (x * x).sum(1, keepdim=True).expand_as(x)
    total = arithmetic.made(total.value, total.radius + arithmetic.gamma(2 * x.shape[1] + 4) * whole, whole)
    base = arithmetic.add(bias, arithmetic.multiply(Ball(alpha.value / size, alpha.radius / size), total, 4.0))
    logarithm = base.value.log()
    share = base.radius / base.value
    relative = beta.size * -torch.log1p(-share.clamp(max=0.5)) + beta.radius * logarithm.abs()
    power = (beta.value * logarithm).exp()
    error = torch.where(share < 0.5, torch.expm1(relative), math.inf) * power
    return [arithmetic.divide(Ball(x), arithmetic.computed("Pow", power, 1.0, error))]


def _mean_variance(case: Case) -> list[Ball]:
    """The function in the specification adds 1e-9 to the deviation, its formula and onnxruntime do not."""
    arithmetic, x = case.arithmetic, case.tensor(0)
    axes = [axis % x.ndim for axis in case.attribute("axes", (0, 2, 3))]
    mean, variance = _moments(arithmetic, x, axes)
    deviation = arithmetic.add(
        arithmetic.sqrt(variance), Ball(torch.tensor(1e-9).double(), torch.tensor(1e-9).double())
    )
    wide = Ball(x - mean.value, 4 * arithmetic.unit * (x.abs() + mean.size) + mean.radius)
    return [arithmetic.divide(wide, deviation)]


RULES: dict[str, Rule] = {
    "BatchNormalization": _batch,
    "GroupNormalization": _group,
    "InstanceNormalization": _instance,
    "LRN": _local_response,
    "LayerNormalization": _layer,
    "LpNormalization": _lp,
    "MeanVarianceNormalization": _mean_variance,
    "RMSNormalization": _root_mean_square,
}
