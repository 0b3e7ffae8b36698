"""ONNX operators computed with torch, with ONNX's semantics and default attributes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from deepstruct.errors import UnsupportedError
from deepstruct.structure import Node, Structure

Function = Callable[..., Tensor]


def require(node: Node, structure: Structure) -> None:
    """Makes sure that a node's operator can be computed.

    Raises:
        UnsupportedError: it cannot; operator and node are named.
    """
    opset = structure.opset.get("", 7)
    if opset < 7:
        raise UnsupportedError(f"opset {opset} is not mapped to torch: until 6, operators broadcast otherwise")
    training = node.inputs[2] if node.op_type == "Dropout" and len(node.inputs) > 2 else ""
    constant = structure.constants.get(training)
    if training and (constant is None or constant.data != (False,)):
        raise UnsupportedError(f"node {node.name!r}: Dropout in training mode is not mapped to torch, it is random")
    if node.domain or node.op_type not in OPERATORS or len([name for name in node.outputs if name]) != 1:
        operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        raise UnsupportedError(
            f"node {node.name!r}: the operator {operator} with {len(node.outputs)} outputs is not mapped to torch. "
            f"Mapped are: {', '.join(sorted(OPERATORS))}"
        )


def apply(node: Node, inputs: list[Tensor | None], opset: int) -> tuple[Tensor]:
    """The output of a node; `inputs` are in the operator's order, None for one that is left out."""
    attributes = dict(node.attributes)
    if node.op_type in ("Softmax", "LogSoftmax") and opset < 13:
        return (_softmax_before_13(node.op_type, inputs, attributes),)
    return (OPERATORS[node.op_type](*inputs, **attributes),)


def _elementwise(function: Callable[..., Tensor]) -> Function:
    return lambda x, **_: function(x)


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Function:
    def fold(first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = function(first, other)
        return first

    return fold


def _gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803 - ONNX's attribute name
    transB: int = 0,  # noqa: N803 - ONNX's attribute name
) -> Tensor:
    a = a.T if transA else a
    weight = b if transB else b.T
    if alpha == 1.0 and beta == 1.0 and (c is None or c.ndim == 1):
        return F.linear(a, weight, c)
    product = F.linear(a, weight)
    product = product if alpha == 1.0 else (alpha * product).to(a.dtype)
    if c is None:
        return product
    return product + (c if beta == 1.0 else (beta * c).to(c.dtype))


def _layer_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Tensor:
    del stash_type  # torch computes half precision in float32 as the default asks, and double in double
    shape = x.shape[axis:]
    if scale.shape == shape and (bias is None or bias.shape == shape):
        return F.layer_norm(x, shape, scale, bias, epsilon)
    scaled = F.layer_norm(x, shape, None, None, epsilon) * scale
    return scaled if bias is None else scaled + bias


def _flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    axis = axis + x.ndim if axis < 0 else axis
    rows = int(torch.tensor(x.shape[:axis]).prod())
    return x.reshape(rows, -1) if x.numel() else x.reshape(rows, int(torch.tensor(x.shape[axis:]).prod()))


def _softmax_before_13(op_type: str, inputs: list[Any], attributes: Any) -> Tensor:
    """Until opset 12 softmax ran over all dimensions from ``axis`` on, taken as one."""
    (x,) = inputs
    flat = _flatten(x, axis=attributes.get("axis", 1))
    function = F.softmax if op_type == "Softmax" else F.log_softmax
    return function(flat, dim=1).reshape(x.shape)


def _clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None, **bounds: float) -> Tensor:
    least, most = bounds.get("min", low), bounds.get("max", high)
    return x if least is None and most is None else torch.clamp(x, min=least, max=most)  # type: ignore[arg-type]  # both kinds


OPERATORS: dict[str, Function] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "Celu": lambda x, *, alpha=1.0: F.celu(x, alpha),
    "Clip": _clip,
    "Div": lambda a, b: torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc"),
    "Dropout": lambda x, *_, **__: x,
    "Elu": lambda x, *, alpha=1.0: F.elu(x, alpha),
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Flatten": _flatten,
    "Gelu": lambda x, *, approximate="none": F.gelu(x, approximate=approximate),
    "Gemm": _gemm,
    "HardSigmoid": lambda x, *, alpha=0.2, beta=0.5: torch.clamp(alpha * x + beta, 0, 1),
    "HardSwish": _elementwise(F.hardswish),
    "Identity": _elementwise(lambda x: x),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda x, *, alpha=0.01: F.leaky_relu(x, alpha),
    "Log": torch.log,
    "LogSoftmax": lambda x, *, axis=-1: F.log_softmax(x, dim=axis),
    "MatMul": torch.matmul,
    "Max": _folded(torch.maximum),
    "Min": _folded(torch.minimum),
    "Mish": _elementwise(F.mish),
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Pow": lambda x, exponent: torch.pow(x, exponent).to(x.dtype),
    "PRelu": lambda x, slope: torch.where(x < 0, x * slope, x),
    "Relu": _elementwise(torch.relu),
    "Selu": lambda x, *, alpha=None, gamma=None: _selu(x, alpha, gamma),
    "Sigmoid": torch.sigmoid,
    "Softmax": lambda x, *, axis=-1: F.softmax(x, dim=axis),
    "Softplus": _elementwise(F.softplus),
    "Softsign": _elementwise(F.softsign),
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Sum": _folded(torch.add),
    "Tanh": torch.tanh,
}


def _selu(x: Tensor, alpha: float | None, gamma: float | None) -> Tensor:
    if alpha is None and gamma is None:
        return F.selu(x)
    alpha, gamma = 1.6732632 if alpha is None else alpha, 1.0507010 if gamma is None else gamma
    return torch.where(x > 0, gamma * x, gamma * alpha * torch.expm1(x))
