"""Bounds for quantisation: an integer may differ where the number that is rounded lies within its error of a tie."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deepstruct.verification.bounds_arithmetic import Arithmetic, Ball
from deepstruct.verification.bounds_case import Case, Exact, Rule
from deepstruct.verification.bounds_exact import DTYPES_BY_NAME


def _spread(value: Tensor, x: Tensor, axis: int, block_size: int) -> Tensor:
    """Scales or zero points as float64, in a shape that goes with `x`."""
    value = value.double()
    if value.numel() == 1:
        return value.reshape(())
    axis = axis % x.ndim
    if not block_size:
        return value.reshape(-1, *(1,) * (x.ndim - axis - 1))
    return value.repeat_interleave(block_size, axis).narrow(axis, 0, x.shape[axis])


def _integers(quotient: Ball, zero_point: Tensor | float, low: int, high: int) -> Ball:
    """What the numbers may be rounded to, ties to even, and saturated: from the least to the greatest integer."""
    least, most = (
        (torch.round(quotient.value + sign * quotient.radius) + zero_point).clamp(low, high) for sign in (-1, 1)
    )
    return Ball((least + most) / 2, (most - least) / 2)


def _arithmetic(case: Case, *positions: int) -> Arithmetic:
    """That of some inputs, or of float32 where they are integers."""
    names = [str(case.arrays[position].dtype) for position in positions if case.has(position)]
    return Arithmetic.of([*names, "float32"]) or case.arithmetic


def _limits(dtype: str) -> tuple[int, int] | None:
    if dtype in DTYPES_BY_NAME and not DTYPES_BY_NAME[dtype].is_floating_point:
        limits = torch.iinfo(DTYPES_BY_NAME[dtype])
        return limits.min, limits.max
    narrow = {"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3)}
    return narrow.get(dtype)


def _quantize(case: Case) -> list[Ball | None]:
    limits = _limits(case.dtypes[0])
    if limits is None:
        return [None]
    x, axis, block = case.tensor(0).double(), int(case.attribute("axis", 1)), int(case.attribute("block_size", 0))
    scale = _spread(case.tensor(1), x, axis, block)
    shift = _spread(case.tensor(2), x, axis, block) if case.has(2) else 0.0
    quotient = x / scale
    is_power_of_two = torch.frexp(scale).mantissa.abs() == 0.5
    error = torch.where(is_power_of_two, 0.0, 3 * _arithmetic(case, 0, 1).unit * quotient.abs())
    return [_integers(Ball(quotient, error), shift, *limits)]


def _dequantize(case: Case) -> list[Ball]:
    x, axis, block = case.tensor(0).double(), int(case.attribute("axis", 1)), int(case.attribute("block_size", 0))
    scale = _spread(case.tensor(1), x, axis, block)
    shift = _spread(case.tensor(2), x, axis, block) if case.has(2) else torch.zeros((), dtype=torch.float64)
    ball = case.arithmetic.multiply(Ball(x - shift), Ball(scale), 2.0)
    is_exact = x == shift
    return [Ball(ball.value, torch.where(is_exact, 0.0, ball.radius))]


def _dynamic(case: Case) -> list[Ball]:
    arithmetic, x = _arithmetic(case, 0), case.tensor(0)
    most, least = x.max().clamp(min=0), x.min().clamp(max=0)
    scale = arithmetic.rounded(torch.where(most == least, 1.0, most - least) / 255, 0.0, 3.0)
    scale = arithmetic.made(scale.value, torch.where(most == least, math.inf, scale.radius), most - least)
    zero = arithmetic.divide(Ball(-least), scale)
    zero_point = _integers(zero, 0.0, 0, 255)
    quotient = arithmetic.divide(Ball(x), scale)
    y = _integers(quotient, 0.0, -(2**31), 2**31)
    total = Ball((y.value + zero_point.value).clamp(0, 255), y.radius + zero_point.radius)
    return [total, scale, zero_point]


def _requantized(
    case: Case, sums: Tensor, scales: list[Tensor], y_scale: Tensor, zero_point: Tensor
) -> list[Ball | None]:
    """Sums of products of integers, scaled and rounded."""
    limits = _limits(case.dtypes[0])
    if limits is None:
        return [None]
    unit = _arithmetic(case, 1, 4).unit
    value = sums.double() * scales[0].double() * scales[1].double() / y_scale.double()
    shift = zero_point.double()
    return [_integers(Ball(value, 8 * unit * (value.abs() + shift.abs())), shift, *limits)]


def _matmul(case: Case) -> list[Ball | None]:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (case.tensor(position) for position in range(8))
    rows = [t.unsqueeze(-1) if t.ndim == 1 and t.numel() > 1 else t for t in (a_scale, a_zero)]
    sums = (a.double() - rows[1].double()) @ (b.double() - b_zero.double())
    return _requantized(case, sums, [rows[0], b_scale], y_scale, y_zero)


def _convolution(case: Case) -> list[Ball | None]:
    weight = case.tensor(3)
    spread = (-1, *(1,) * (weight.ndim - 1))
    inputs = [
        case.tensor(0).double() - case.tensor(2).double(),
        weight.double() - case.tensor(5).double().reshape(spread),
    ]
    inputs += [case.tensor(8).double()] if case.has(8) else []
    sums = case.with_attributes(case.node.attributes, ("y",), "Conv").with_inputs(tuple(inputs)).evaluate()[0]
    scales = [case.tensor(1), case.tensor(4).reshape(-1, *(1,) * (weight.ndim - 2))]
    return _requantized(case, sums, scales, case.tensor(6), case.tensor(7))


def _exact(case: Case) -> list[Exact]:
    return [Exact()] * len(case)


RULES: dict[str, Rule] = {
    "ConvInteger": _exact,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "MatMulInteger": _exact,
    "QLinearConv": _convolution,
    "QLinearMatMul": _matmul,
    "QuantizeLinear": _quantize,
}
