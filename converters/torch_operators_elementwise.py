"""Operators that compute each element by itself: arithmetic, comparison, logic, bits and activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from deepstruct.converters.torch_operators_entry import DTYPES, Function, Operator, known, refuse_values
from deepstruct.structure import Node, Structure


def _plain(function: Callable[..., Tensor]) -> Operator:
    """An operator that is a torch function, whose attributes (of old opsets) do not matter."""
    return Operator(lambda *inputs, **_: function(*inputs))


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Function:
    def fold(first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = function(first, other)
        return first

    return fold


def _mean(*inputs: Tensor) -> Tensor:
    total = _folded(torch.add)(*inputs)
    assert isinstance(total, Tensor)
    return total / len(inputs)


def _div(a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc")


def _pow(x: Tensor, exponent: Tensor) -> Tensor:
    if exponent.is_floating_point() and not x.is_floating_point():
        return torch.pow(x.double(), exponent).to(x.dtype)
    return torch.pow(x, exponent).to(x.dtype)


def _mod(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    if fmod or not a.is_floating_point():
        return torch.fmod(a, b) if fmod else torch.remainder(a, b)
    unbounded = torch.isinf(b) & torch.isfinite(a) & (a != 0)
    return torch.where(unbounded, torch.where((a > 0) == (b > 0), a, b), torch.remainder(a, b))


def _clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None, **bounds: float) -> Tensor:
    least, most = bounds.get("min", low), bounds.get("max", high)
    return x if least is None and most is None else torch.clamp(x, min=least, max=most)  # type: ignore[arg-type]  # both kinds


def _shift(x: Tensor, amount: Tensor, *, direction: str) -> Tensor:
    """Shifts by as many bits as a number has, or more, leave nothing but copies of the sign."""
    bits = 8 * x.element_size()
    beyond = (amount < 0) | (amount >= bits)
    within = torch.where(beyond, 0, amount)
    if direction == "LEFT":
        return torch.where(beyond, 0, torch.bitwise_left_shift(x, within)).to(x.dtype)
    return torch.where(beyond, torch.where(x < 0, -1, 0), torch.bitwise_right_shift(x, within)).to(x.dtype)


def _is_infinite(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    if detect_negative and detect_positive:
        return torch.isinf(x)
    if detect_negative or detect_positive:
        return torch.isposinf(x) if detect_positive else torch.isneginf(x)
    return torch.zeros_like(x, dtype=torch.bool)


def _cast(x: Tensor, *, to: int, saturate: int = 1, **_: Any) -> Tensor:
    return convert(x, DTYPES[to], saturate)


def convert(x: Tensor, dtype: torch.dtype, saturate: int) -> Tensor:
    """Cast to a dtype; numbers beyond the range of 8 bit floats become the largest, or NaN or infinity."""
    if dtype.itemsize == 1 and dtype.is_floating_point and dtype != x.dtype:
        limit = torch.finfo(dtype).max
        wide = x.float() if x.dtype.itemsize == 1 or not x.is_floating_point() else x
        if saturate:
            wide = wide.clamp(-limit, limit)
        elif dtype == torch.float8_e4m3fn:  # has no infinity; up to 464 is rounded to the largest number, 448
            wide = torch.where(wide.abs() > 464, torch.nan, wide)
        return wide.to(dtype)
    return x.to(dtype)


def _cast_like(x: Tensor, target: Tensor, *, saturate: int = 1, **_: Any) -> Tensor:
    return convert(x, target.dtype, saturate)


def _refuse_dtype(attribute: str) -> Callable[[Node, Structure], str | None]:
    def refuse(node: Node, _: Structure) -> str | None:
        code = node.attributes.get(attribute)
        return None if code is None or code in DTYPES else f"torch has no dtype for ONNX's data type {code!r}"

    return refuse


def _bit_cast(x: Tensor, *, to: int) -> Tensor:
    if DTYPES[to].itemsize != x.element_size():
        raise TypeError(f"{x.dtype} and {DTYPES[to]} differ in width")
    return x.view(DTYPES[to])


def _selu(x: Tensor, *, alpha: float | None = None, gamma: float | None = None) -> Tensor:
    if alpha is None and gamma is None:
        return F.selu(x)
    alpha, gamma = 1.6732632 if alpha is None else alpha, 1.0507010 if gamma is None else gamma
    return torch.where(x > 0, gamma * x, gamma * alpha * torch.expm1(x))


def _shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, 0)).to(x.dtype)


def _swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


def _refuse_dropping(node: Node, structure: Structure) -> str | None:
    training = node.inputs[2] if len(node.inputs) > 2 else ""
    value = known(training, structure)
    is_off = not training or (value is not None and value.data == (False,))
    return None if is_off else "in training mode it is random"


def _dropout(x: Tensor, *_inputs: Tensor | None, count: int, **_: Any) -> tuple[Tensor, ...]:
    return (x,) if count == 1 else (x, torch.ones_like(x, dtype=torch.bool))


def _dropout_before_10(x: Tensor, *, count: int, **_: Any) -> tuple[Tensor, ...]:
    return (x,) if count == 1 else (x, torch.ones_like(x))


ARITHMETIC: dict[str, Operator] = {
    **{name: _plain(getattr(torch, name.lower())) for name in ("Abs", "Ceil", "Erf", "Exp", "Floor", "Log", "Neg")},
    **{name: _plain(getattr(torch, name.lower())) for name in ("Reciprocal", "Round", "Sign", "Sqrt")},
    **{name: _plain(getattr(torch, name.lower())) for name in ("Cos", "Cosh", "Sin", "Sinh", "Tan", "Tanh")},
    **{name: _plain(getattr(torch, name.lower())) for name in ("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh")},
    "Add": _plain(torch.add),
    "Clip": Operator(_clip),
    "Div": _plain(_div),
    "Max": Operator(_folded(torch.maximum)),
    "Mean": Operator(_mean),
    "Min": Operator(_folded(torch.minimum)),
    "Mod": Operator(_mod),
    "Mul": _plain(torch.mul),
    "Pow": _plain(_pow),
    "Sub": _plain(torch.sub),
    "Sum": Operator(_folded(torch.add)),
}

LOGIC: dict[str, Operator] = {
    "And": _plain(torch.logical_and),
    "BitCast": Operator(_bit_cast, "not to types of less than 8 bits", _refuse_dtype("to")),
    "BitShift": Operator(_shift),
    "BitwiseAnd": _plain(torch.bitwise_and),
    "BitwiseNot": _plain(torch.bitwise_not),
    "BitwiseOr": _plain(torch.bitwise_or),
    "BitwiseXor": _plain(torch.bitwise_xor),
    "Cast": Operator(_cast, "not to strings, float8e8m0 and types of less than 8 bits", _refuse_dtype("to")),
    "CastLike": Operator(_cast_like),
    "Equal": _plain(torch.eq),
    "Greater": _plain(torch.gt),
    "GreaterOrEqual": _plain(torch.ge),
    "IsInf": Operator(_is_infinite),
    "IsNaN": _plain(torch.isnan),
    "Less": _plain(torch.lt),
    "LessOrEqual": _plain(torch.le),
    "Not": _plain(torch.logical_not),
    "Or": _plain(torch.logical_or),
    "Where": _plain(torch.where),
    "Xor": _plain(torch.logical_xor),
}

ACTIVATIONS: dict[str, Operator] = {
    "Celu": Operator(lambda x, *, alpha=1.0: F.celu(x, alpha)),
    "Dropout": Operator(
        _dropout, "in evaluation mode", _refuse_dropping, before={10: _dropout_before_10}, counted=True
    ),
    "Elu": Operator(lambda x, *, alpha=1.0: F.elu(x, alpha)),
    "Gelu": Operator(
        lambda x, *, approximate="none": F.gelu(x, approximate=approximate),
        refuse=refuse_values(approximate=("none", "tanh")),
    ),
    "HardSigmoid": Operator(lambda x, *, alpha=0.2, beta=0.5: torch.clamp(alpha * x + beta, 0, 1)),
    "HardSwish": _plain(F.hardswish),
    "LeakyRelu": Operator(lambda x, *, alpha=0.01: F.leaky_relu(x, alpha)),
    "Mish": _plain(F.mish),
    "PRelu": _plain(lambda x, slope: torch.where(x < 0, x * slope, x)),
    "Relu": _plain(torch.relu),
    "Selu": Operator(_selu),
    "Shrink": Operator(_shrink),
    "Sigmoid": _plain(torch.sigmoid),
    "Softplus": _plain(lambda x: F.softplus(x, threshold=40.0)),
    "Softsign": _plain(F.softsign),
    "SwiGLU": Operator(lambda gate, x, *, alpha=1.0: _swish(gate, alpha=alpha) * x),
    "Swish": Operator(_swish),
    "ThresholdedRelu": Operator(lambda x, *, alpha=1.0: torch.where(x > alpha, x, 0)),
}

OPERATORS = ARITHMETIC | LOGIC | ACTIVATIONS
