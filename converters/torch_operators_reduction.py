"""Operators that sum over axes: the reductions, matrix products and everything of the softmax kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from deepstruct.converters.torch_operators_entry import Numbers, Operator, integers

Reduce = Callable[[Tensor, list[int], bool], Tensor]


def _reduction(reduce: Reduce, alone: Callable[[Tensor], Tensor] = lambda x: x) -> Operator:
    """A Reduce operator.

    Args:
        reduce: computes it over at least one axis.
        alone: computes it over none.
    """

    def compute(
        x: Tensor,
        indices: Numbers | None = None,
        *,
        axes: Sequence[int] | None = None,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Tensor:
        chosen = integers(indices if axes is None else axes)
        if not chosen and noop_with_empty_axes:
            return alone(x)
        chosen = chosen or list(range(x.ndim))
        return reduce(x, chosen, bool(keepdims)).to(x.dtype) if chosen else alone(x)

    return Operator(compute, numbers=(1,))


def _sum(x: Tensor, axes: list[int], keepdims: bool) -> Tensor:
    return torch.sum(x, axes, keepdims, dtype=x.dtype)


def _mean(x: Tensor, axes: list[int], keepdims: bool) -> Tensor:
    return torch.mean(x if x.is_floating_point() else x.double(), axes, keepdims)


def _product(x: Tensor, axes: list[int], keepdims: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = torch.prod(x, axis, keepdims, dtype=x.dtype)
    return x


def _extreme(function: Callable[[Tensor, list[int], bool], Tensor], largest: bool) -> Reduce:
    def reduce(x: Tensor, axes: list[int], keepdims: bool) -> Tensor:
        if all(x.shape[axis] for axis in axes):
            return function(x, axes, keepdims)
        if x.dtype == torch.bool:
            neutral: float = not largest
        elif x.is_floating_point():
            neutral = -math.inf if largest else math.inf
        else:
            neutral = torch.iinfo(x.dtype).min if largest else torch.iinfo(x.dtype).max
        return torch.full_like(torch.sum(x, axes, keepdims), neutral, dtype=x.dtype)

    return reduce


def _log_sum_exp(x: Tensor, axes: list[int], keepdims: bool) -> Tensor:
    return torch.logsumexp(x if x.is_floating_point() else x.double(), axes, keepdims)


def _norm(x: Tensor, axes: list[int], keepdims: bool) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x if x.is_floating_point() else x.double(), 2, axes, keepdims)
    return norm


def _in_float(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: function(x if x.is_floating_point() else x.double()).to(x.dtype)


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


def _determinant(x: Tensor) -> Tensor:
    wide = x.float() if x.element_size() < 4 else x
    determinant: Tensor = torch.linalg.det(wide)
    return determinant.to(x.dtype)


def _hardmax(x: Tensor, *, axis: int = -1) -> Tensor:
    first = torch.argmax(x, axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, first, 1)


def _along_one(function: Callable[..., Tensor]) -> Operator:
    """An operator along one axis; until opset 12 it ran over all dimensions from ``axis`` on, taken as one."""

    def compute(x: Tensor, *, axis: int = -1) -> Tensor:
        return function(x, axis)

    def before_13(x: Tensor, *, axis: int = 1) -> Tensor:
        rows = math.prod(x.shape[: axis + x.ndim if axis < 0 else axis])
        flat = x.reshape(rows, math.prod(x.shape[axis:]) if axis != x.ndim else 1)
        return function(flat, 1).reshape(x.shape)

    return Operator(compute, before={13: before_13})


def _softmax(x: Tensor, axis: int) -> Tensor:
    return F.softmax(x, dim=axis)


def _log_softmax(x: Tensor, axis: int) -> Tensor:
    return F.log_softmax(x, dim=axis)


def _einsum(*operands: Tensor, equation: str) -> Tensor:
    return torch.einsum(equation.replace(" ", ""), *operands)


OPERATORS: dict[str, Operator] = {
    "Det": Operator(_determinant),
    "Einsum": Operator(_einsum),
    "Gemm": Operator(_gemm),
    "Hardmax": _along_one(lambda x, axis: _hardmax(x, axis=axis)),
    "LogSoftmax": _along_one(_log_softmax),
    "MatMul": Operator(torch.matmul),
    "ReduceL1": _reduction(lambda x, axes, keepdims: _sum(x.abs(), axes, keepdims), torch.abs),
    "ReduceL2": _reduction(_norm, torch.abs),
    "ReduceLogSum": _reduction(lambda x, axes, keepdims: torch.log(torch.sum(x, axes, keepdims)), _in_float(torch.log)),
    "ReduceLogSumExp": _reduction(_log_sum_exp),
    "ReduceMax": _reduction(_extreme(torch.amax, True)),
    "ReduceMean": _reduction(_mean),
    "ReduceMin": _reduction(_extreme(torch.amin, False)),
    "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(_sum),
    "ReduceSumSquare": _reduction(lambda x, axes, keepdims: _sum(x * x, axes, keepdims), lambda x: x * x),
    "Softmax": _along_one(_softmax),
}
