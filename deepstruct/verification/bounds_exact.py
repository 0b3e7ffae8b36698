"""Operators that do not round: they move, pick, compare or count, or compute with integers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deepstruct.converters.torch_operators_entry import DTYPES
from deepstruct.verification.bounds_arithmetic import Ball
from deepstruct.verification.bounds_case import Case, Exact, Rule

_MOVEMENT = (
    "BitCast CenterCropPad Compress Concat ConcatFromSequence Constant ConstantOfShape DepthToSpace Expand EyeLike "
    "Flatten Gather GatherElements GatherND Identity IsInf IsNaN MaxUnpool Neg Abs OneHot Optional OptionalGetElement "
    "OptionalHasElement Pad Reshape ReverseSequence Scatter SequenceAt SequenceConstruct SequenceEmpty SequenceErase "
    "SequenceInsert SequenceLength Shape Size Slice SpaceToDepth Split SplitToSequence Squeeze StringConcat "
    "StringSplit TensorScatter Tile Transpose Trilu Unsqueeze Where"
)
MOVEMENT = frozenset(_MOVEMENT.split())
"""Whatever the numbers are, NaN included."""

_ORDER = (
    "ArgMax ArgMin Ceil Equal Floor GlobalMaxPool Greater GreaterOrEqual Hardmax Less LessOrEqual Max MaxPool Min "
    "NonZero ReduceMax ReduceMin Relu Round Sign Unique"
)
ORDER = frozenset(_ORDER.split())
"""As long as no number is NaN, about which runtimes disagree."""

_INTEGERS = (
    "Add And BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Clip ConvInteger CumProd CumSum Det Div Einsum Gemm "
    "MatMul MatMulInteger Mod Mul Not Or Range ReduceL1 ReduceMean ReduceProd ReduceSum ReduceSumSquare "
    "ScatterElements ScatterND Sub Sum Xor"
)
INTEGERS = frozenset(_INTEGERS.split())
"""Where all numbers are integers."""


def exact(case: Case) -> list[Exact]:
    """The same in every runtime."""
    return [Exact()] * len(case)


def order(case: Case) -> list[Exact | None]:
    """The same in every runtime, unknown where there is a NaN."""
    has_nan = any(x is not None and x.is_floating_point() and bool(x.isnan().any()) for x in case.tensors)
    return [None if has_nan else Exact()] * len(case)


def top_k(case: Case) -> list[Exact | None]:
    """The same in every runtime, unless the order is left open."""
    return order(case) if case.attribute("sorted", 1) else [None] * len(case)


def without_error(value: Tensor, is_open: Tensor) -> Ball:
    """A ball of numbers that do not round, but where they are open."""
    return Ball(value.double(), torch.where(is_open, math.inf, 0.0).double())


def dropout(case: Case) -> list[Exact | None]:
    """In evaluation mode the input; otherwise random."""
    is_training = case.has(2) and bool(case.tensor(2))
    return [None if is_training else Exact()] * len(case)


def cast(case: Case) -> list[Ball | Exact | None]:
    """Correctly rounded, to half precision maybe by way of float32; open where an integer is out of range."""
    source = str(case.arrays[0].dtype)
    target = case.dtypes[0]
    if target == "string" and case.is_float:
        return [None]
    if not case.is_float or target in ("bool", "string"):
        by_way = source in ("int64", "uint64", "int32", "uint32") and target in ("float16", "bfloat16")
        return [_rounded_twice(case)] if by_way else [Exact()]
    if source == "float64" and target in ("float16", "bfloat16"):
        return [_rounded_twice(case)]
    if "int" not in target:
        return [Exact()]
    x = case.tensor(0)
    if target not in ("int4", "uint4", "int2", "uint2") and hasattr(torch, target):
        limits = torch.iinfo(getattr(torch, target))
        inside = (x.trunc() >= limits.min) & (x.trunc() <= limits.max) & (x.abs() < 2.0**63)
        return [without_error(torch.where(inside, x.trunc(), 0), ~inside)]
    return [None]


def _rounded_twice(case: Case) -> Ball:
    return case.arithmetic.rounded(case.tensor(0).double(), 0.0, 1.001)


def clip(case: Case) -> list[Ball | Exact | None]:
    """Exact, but that bounds which are attributes may be rounded to the dtype."""
    given = [float(case.attribute(name, 0)) for name in ("min", "max")]
    if case.dtypes[0] == "float32" or all(case.arithmetic.constant(bound).error is None for bound in given):
        return [*order(case)]
    (value,) = case.evaluate()
    moved = torch.where(value == case.tensor(0), 0, value.abs() * max(case.arithmetic.unit, 2.0**-24))
    return [Ball(value, moved)]


def thresholded(case: Case) -> list[Ball | Exact | None]:
    """Exact, but that the threshold may be rounded: unknown where a number is as near as that to it."""
    threshold = case.constant("alpha", 1.0)
    if threshold.error is None:
        return [*order(case)]
    (value,) = case.evaluate()
    return [without_error(value, (case.tensor(0) - threshold.value).abs() <= threshold.radius)]


def integer_power(case: Case) -> list[Ball]:
    """Powers of integers as far as float64 holds them."""
    value = torch.pow(case.tensor(0).double(), case.tensor(1).double())
    inside = value.abs() < min(2.0**53, torch.iinfo(DTYPES_BY_NAME.get(case.dtypes[0], torch.int64)).max)
    return [without_error(value.trunc(), ~inside)]


DTYPES_BY_NAME = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES.values() if not dtype.is_complex}

RULES: dict[str, Rule] = {
    **dict.fromkeys(MOVEMENT, exact),
    **dict.fromkeys(ORDER, order),
    "Cast": cast,
    "CastLike": cast,
    "Clip": clip,
    "Dropout": dropout,
    "ThresholdedRelu": thresholded,
    "TopK": top_k,
}
