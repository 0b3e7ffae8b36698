"""Operators on quantised numbers, to and from 8 bits and more, computed with plain integers and floats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deepstruct.converters.torch_operators_elementwise import convert
from deepstruct.converters.torch_operators_entry import DTYPES, Operator, positive, refuse_values
from deepstruct.converters.torch_operators_window import convolve, refuse_window


def _spread(value: Tensor, x: Tensor, axis: int, block_size: int) -> Tensor:
    """Scales or zero points in a shape that goes with `x`."""
    if value.numel() == 1:
        return value.reshape(())
    axis = positive(axis, x.ndim)
    if not block_size:
        return value.reshape(-1, *(1,) * (x.ndim - axis - 1))
    return value.repeat_interleave(block_size, axis).narrow(axis, 0, x.shape[axis])


def _quantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Tensor:
    dtype = DTYPES[output_dtype or 2] if zero_point is None else zero_point.dtype
    wide = DTYPES[precision] if precision else scale.dtype if scale.is_floating_point() else torch.float32
    quotient = x.to(wide) / _spread(scale, x, axis, block_size).to(wide)
    if dtype.is_floating_point:
        return convert(quotient, dtype, saturate)
    shift = 0 if zero_point is None else _spread(zero_point, x, axis, block_size).double()
    return _saturated(torch.round(quotient).double() + shift, dtype)


def _saturated(x: Tensor, dtype: torch.dtype) -> Tensor:
    bounds = torch.iinfo(dtype)
    return x.clamp(bounds.min, bounds.max).to(dtype)


def _dequantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Tensor:
    dtype = DTYPES[output_dtype] if output_dtype else scale.dtype
    wide = x.float() if x.is_floating_point() else x.double()
    if zero_point is not None:
        wide = wide - _spread(zero_point.to(wide.dtype), x, axis, block_size)
    product = wide.float() * _spread(scale, x, axis, block_size).float()
    return product.to(dtype)


def _dynamic_quantize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    largest, least = x.max().clamp(min=0), x.min().clamp(max=0)
    scale = torch.where(largest == least, 1, largest - least) / 255
    zero_point = torch.round((-least / scale).clamp(0, 255))
    y = (torch.round(x / scale) + zero_point).clamp(0, 255)
    return y.to(torch.uint8), scale, zero_point.to(torch.uint8)


def _shifted(x: Tensor, zero_point: Tensor | None, axis: int) -> Tensor:
    """Quantised numbers less their zero points, which are one, one for each entry of an axis, or in full."""
    wide = x.to(torch.int32)
    if zero_point is None:
        return wide
    shift = zero_point.to(torch.int32)
    if shift.ndim == 1 and shift.numel() > 1:
        shift = shift.reshape(-1, *(1,) * (x.ndim - positive(axis, x.ndim) - 1))
    return wide - (shift.reshape(()) if shift.numel() == 1 else shift)


def _matmul_integer(
    a: Tensor, b: Tensor, a_zero_point: Tensor | None = None, b_zero_point: Tensor | None = None
) -> Tensor:
    return torch.matmul(_shifted(a, a_zero_point, -2), _shifted(b, b_zero_point, -1))


def _conv_integer(
    x: Tensor, weight: Tensor, x_zero_point: Tensor | None = None, w_zero_point: Tensor | None = None, **window: Any
) -> Tensor:
    products = convolve(_shifted(x, x_zero_point, 1).double(), _shifted(weight, w_zero_point, 0).double(), **window)
    return products.to(torch.int32)


def _rescaled(sums: Tensor, scales: Sequence[Tensor], y_scale: Tensor, y_zero_point: Tensor) -> Tensor:
    factor = scales[0] * scales[1] / y_scale
    return _saturated(torch.round(sums * factor + y_zero_point.to(factor.dtype)), y_zero_point.dtype)


def _qlinear_matmul(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
) -> Tensor:
    sums = _matmul_integer(a, b, a_zero_point, b_zero_point)
    rows = a_scale.unsqueeze(-1) if a_scale.ndim == 1 and a_scale.numel() > 1 else a_scale
    return _rescaled(sums, (rows, b_scale), y_scale, y_zero_point)


def _qlinear_conv(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    weight: Tensor,
    w_scale: Tensor,
    w_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    bias: Tensor | None = None,
    **window: Any,
) -> Tensor:
    wide, kernel = _shifted(x, x_zero_point, 1).double(), _shifted(weight, w_zero_point, 0).double()
    sums = convolve(wide, kernel, None if bias is None else bias.double(), **window)
    channels = w_scale.reshape(-1, *(1,) * (x.ndim - 2))
    return _rescaled(sums.float(), (x_scale, channels), y_scale, y_zero_point)


_NOTE = "types of 8 bits and more"
_TO = refuse_values(output_dtype=(0, *DTYPES), precision=(0, 1, 10, 16))

OPERATORS: dict[str, Operator] = {
    "ConvInteger": Operator(_conv_integer, refuse=refuse_window),
    "DequantizeLinear": Operator(_dequantize, _NOTE, _TO),
    "DynamicQuantizeLinear": Operator(_dynamic_quantize),
    "MatMulInteger": Operator(_matmul_integer),
    "QLinearConv": Operator(_qlinear_conv),
    "QLinearMatMul": Operator(_qlinear_matmul),
    "QuantizeLinear": Operator(_quantize, _NOTE, _TO),
}
