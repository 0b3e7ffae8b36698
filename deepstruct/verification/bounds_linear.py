"""Bounds for inner products and sums: matrix products, convolutions, reductions and pools."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deepstruct.verification.bounds_arithmetic import Ball, non_zeros, unknown_products
from deepstruct.verification.bounds_case import Case, Rule


def _gemm(case: Case) -> list[Ball]:
    arithmetic = case.arithmetic
    a, b = case.tensor(0), case.tensor(1)
    a = a.T if case.attribute("transA", 0) else a
    b = b.T if case.attribute("transB", 0) else b
    alpha, beta = case.constant("alpha", 1.0), case.constant("beta", 1.0)
    value, magnitude = alpha.value * (a @ b), alpha.size * (a.abs() @ b.abs())
    propagated = alpha.radius / alpha.size.clamp(min=1e-300) * magnitude
    if case.has(2):
        c = case.tensor(2)
        value, magnitude = value + beta.value * c, magnitude + beta.size * c.abs()
        propagated = propagated + beta.radius * c.abs()
    count = torch.minimum(non_zeros(a, 1)[:, None], non_zeros(b, 0)[None])
    scalings = sum(float(x.value) != 1 for x in (alpha, beta))
    ball = arithmetic.dot(value, magnitude, count + 2 + scalings, propagated)
    error = torch.where(unknown_products(a, b, magnitude), math.inf, ball.radius)
    return [arithmetic.made(value, error, magnitude / min(float(alpha.size), 1.0) if alpha.size else magnitude)]


def _matmul(case: Case) -> list[Ball]:
    a, b = case.ball(0).value, case.ball(1).value
    rows = a[None] if a.ndim == 1 else a
    columns = b[:, None] if b.ndim == 1 else b
    ball = case.arithmetic.matmul(Ball(rows), Ball(columns))
    shape = torch.matmul(torch.empty(a.shape, device="meta"), torch.empty(b.shape, device="meta")).shape
    return [ball.reshape(*shape)]


def _convolution(case: Case) -> list[Ball]:
    """Conv, ConvTranspose and CausalConvWithState without activation."""
    (value, *_), absolute = case.evaluate(), {p: case.tensor(p).abs() for p in range(len(case.tensors)) if case.has(p)}
    (magnitude, *_) = case.evaluate(absolute)
    return [_unless_unknown(case, case.arithmetic.dot(value, magnitude, _terms(case, value.ndim) + 2), (0, 1))]


def _unless_unknown(case: Case, ball: Ball, factors: tuple[int, ...]) -> Ball:
    """A ball of unknown error where an infinity or NaN goes into a product: kernels may leave it out at a 0."""
    for position in factors:
        is_unknown = ~case.tensor(position).isfinite()
        if bool(is_unknown.any()):
            ones = {p: torch.full_like(x, p in factors) for p, x in enumerate(case.tensors) if x is not None}
            touched = case.evaluate({**ones, position: is_unknown.double()})[0]
            ball = ball.widened(torch.where(touched > 0, math.inf, 0.0))
    return ball


def _terms(case: Case, rank: int) -> Tensor:
    """How many weights of each output channel are not zero."""
    weight = case.tensor(1)
    if case.node.op_type != "ConvTranspose":
        counts = non_zeros(weight.flatten(1), 1)
    else:
        group = int(case.attribute("group", 1))
        counts = torch.cat(
            [non_zeros(part.flatten(2).transpose(1, 2).flatten(0, 1), 0) for part in weight.chunk(group)]
        )
    return counts.reshape(-1, *(1,) * (rank - 2))


def _causal(case: Case) -> list[Ball | None]:
    (ball,) = _convolution(case.with_attributes({}))
    if case.attribute("activation", "none") != "none":
        ball = case.arithmetic.multiply(ball, case.arithmetic.sigmoid(ball), 3.0)
    state = case.evaluate()[1]
    return [ball, Ball(state)]


def _einsum(case: Case) -> list[Ball]:
    operands = [case.tensor(position) for position in range(len(case.tensors))]
    (value,) = case.evaluate()
    (magnitude,) = case.evaluate({p: x.abs() for p, x in enumerate(operands)})
    (count,) = case.evaluate({p: (x != 0).double() for p, x in enumerate(operands)})
    stages = 1 if len(operands) <= 2 else len(operands) - 1
    ball = case.arithmetic.dot(value, magnitude, stages * count + len(operands))
    if stages > 1:
        (most,) = case.evaluate({p: x.abs().clamp(min=1) for p, x in enumerate(operands)})
        lost = stages * (count + 1) * case.arithmetic.least * most
        ball = case.arithmetic.made(value, ball.radius + lost, most)
    return [_unless_unknown(case, ball, tuple(range(len(operands))))]


def _linear(roundings: int) -> Rule:
    """An operator that adds up entries of its first input, each times the same number or none."""

    def rule(case: Case) -> list[Ball]:
        x = case.tensor(0).double()
        (value,) = case.evaluate({0: x})
        (magnitude,) = case.evaluate({0: x.abs()})
        (count,) = case.evaluate({0: (x != 0).double()})
        return [case.arithmetic.dot(value, magnitude, count + roundings)]

    return rule


def _axes(case: Case) -> list[int]:
    """Axes that a reduction is over, empty for none."""
    rank = case.tensor(0).ndim
    given = case.tensor(1).reshape(-1).tolist() if case.has(1) else list(case.attribute("axes", ()))
    if not given and case.attribute("noop_with_empty_axes", 0):
        return []
    return [axis % rank for axis in given] or list(range(rank))


def _reduced(case: Case) -> list[Ball]:
    """The reductions, as compositions of operations on balls."""
    arithmetic, x, axes = case.arithmetic, case.ball(0), _axes(case)
    name, keep = case.node.op_type, bool(case.attribute("keepdims", 1))
    if name in ("ReduceL1", "ReduceL2", "ReduceSumSquare"):
        x = Ball(x.value.abs()) if name == "ReduceL1" else arithmetic.multiply(x, x)
    if name == "ReduceLogSumExp":
        return [_log_sum_exp(case, x, axes, keep)]
    if name == "ReduceProd":
        return [_product(case, x.value, axes)]
    if not axes:
        total = x
    elif name == "ReduceMean":
        total = arithmetic.mean(x, axes, keep)
    else:
        total = arithmetic.sum(x, axes, keep)
    if name == "ReduceL2":
        return [arithmetic.sqrt(total)]
    return [arithmetic.log(total) if name == "ReduceLogSum" else total]


def _log_sum_exp(case: Case, x: Ball, axes: list[int], keep: bool) -> Ball:
    arithmetic = case.arithmetic
    if not axes:
        return x.widened(8 * arithmetic.unit * x.value.abs())
    most = x.value.amax(axes, True)
    most = torch.where(most.isfinite(), most, 0)
    total = arithmetic.log(arithmetic.sum(arithmetic.exp(arithmetic.subtract(x, Ball(most))), axes, True))
    total = total.widened(4 * arithmetic.unit)
    ball = arithmetic.rounded(total.value + most, total.radius, 1.0, 2 * most.abs())
    ball = arithmetic.made(ball.value, ball.radius, x.value.abs().amax(axes, True))
    return ball if keep else ball.reshape(*x.value.sum(axes).shape)


def _product(case: Case, x: Tensor, axes: list[int]) -> Ball:
    """A product in any order: what is lost in an underflow may grow by all factors above 1."""
    arithmetic = case.arithmetic
    (value,) = case.evaluate({0: x})
    if not axes:
        return Ball(value)
    (most,) = case.evaluate({0: x.abs().clamp(min=1)})
    count = math.prod(x.shape[axis] for axis in axes)
    error = arithmetic.gamma(count) * value.abs() + count * arithmetic.least * most
    return arithmetic.made(value, error, most)


def _cumulative_product(case: Case) -> list[Ball]:
    axis = int(case.tensor(1)) if case.has(1) else 0
    (value,) = case.evaluate()
    (most,) = case.evaluate({0: case.tensor(0).abs().clamp(min=1)})
    error = case.arithmetic.gamma(value.shape[axis]) * value.abs() + value.shape[axis] * case.arithmetic.least * most
    return [case.arithmetic.made(value, error, most)]


def _average_pool(case: Case) -> list[Ball]:
    return [_mean_of(case, math.prod(case.attribute("kernel_shape", ())))]


def _global_average_pool(case: Case) -> list[Ball]:
    return [_mean_of(case, math.prod(case.tensor(0).shape[2:]))]


def _mean_of(case: Case, count: int) -> Ball:
    (value,), (magnitude,) = case.evaluate(), case.evaluate({0: case.tensor(0).abs()})
    ball = case.arithmetic.dot(value, magnitude, count + 3)
    return case.arithmetic.made(value, ball.radius, magnitude * count)


def _norm_pool(case: Case) -> list[Ball]:
    """LpPool and GlobalLpPool: the p-th root of a sum of p-th powers."""
    p, kernel = int(case.attribute("p", 2)), case.attribute("kernel_shape", case.tensor(0).shape[2:])
    (value,) = case.evaluate()
    arithmetic = case.arithmetic
    error = (arithmetic.gamma(math.prod(kernel) + 16 * p) / p + 16 * arithmetic.unit) * value
    lost = (math.prod(kernel) * arithmetic.least) ** (1 / p)
    power = case.tensor(0).abs().pow(p).amax() * math.prod(kernel)
    return [arithmetic.made(value, error + lost, torch.maximum(value, power.expand_as(value)))]


def _scatter(case: Case) -> list[Ball]:
    """ScatterElements and ScatterND: entries of an output that several updates are added to, or multiplied into."""
    x, updates = case.tensor(0), case.tensor(2)
    (value,) = case.evaluate()
    (magnitude,) = case.evaluate({0: x.abs(), 2: updates.abs()})
    adding = case.with_attributes({**case.node.attributes, "reduction": "add"})
    (count,) = adding.evaluate({0: torch.zeros_like(x), 2: torch.ones_like(updates)})
    reduction = case.attribute("reduction", "none")
    if reduction == "mul":
        (most,) = case.evaluate({0: x.abs().clamp(min=1), 2: updates.abs().clamp(min=1)})
        error = case.arithmetic.gamma(count) * magnitude + case.arithmetic.least * most * (count + 1)
        return [case.arithmetic.made(value, error, most)]
    if reduction == "add":
        return [case.arithmetic.dot(value, magnitude, count)]
    return [Ball(value, torch.where(value.isnan(), math.inf, 0.0))]


def _affine_grid(case: Case) -> list[Ball]:
    (value,) = case.evaluate()
    magnitude = case.tensor(0).abs().sum(2)
    return [case.arithmetic.dot(value, magnitude.reshape(len(magnitude), *(1,) * (value.ndim - 2), -1), 16)]


def _determinant(case: Case) -> list[Ball]:
    """Backward error of the LU factorisation with partial pivoting, whose growth is taken to be at most 8."""
    x = case.tensor(0)
    n = x.shape[-1]
    value = torch.linalg.det(x)
    norms = x.abs().pow(2).sum(-1).sqrt()
    error = case.arithmetic.gamma(8 * n**3) * norms.prod(-1) + case.arithmetic.least
    is_tiny = (norms < case.arithmetic.least / case.arithmetic.unit).any(-1)
    return [case.arithmetic.made(value, torch.where(is_tiny, math.inf, error), norms.clamp(min=1).prod(-1))]


REDUCTIONS = (
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum"),
    "ReduceSumSquare",
)

RULES: dict[str, Rule] = {
    **dict.fromkeys(REDUCTIONS, _reduced),
    "AffineGrid": _affine_grid,
    "AveragePool": _average_pool,
    "CausalConvWithState": _causal,
    "Col2Im": _linear(0),
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "CumProd": _cumulative_product,
    "CumSum": _linear(0),
    "Det": _determinant,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "GlobalLpPool": _norm_pool,
    "LpPool": _norm_pool,
    "MatMul": _matmul,
    "ScatterElements": _scatter,
    "ScatterND": _scatter,
}
