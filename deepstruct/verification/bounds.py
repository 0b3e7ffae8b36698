"""Rounding bounds: around which numbers, and how near, the outputs of one operation must lie in every correct runtime.

`docs/verification.md` derives them. The rules are in the modules called ``bounds_*``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepstruct import dtypes
from deepstruct.errors import UnsupportedError
from deepstruct.structure import Node
from deepstruct.verification import (
    bounds_attention,
    bounds_elementwise,
    bounds_exact,
    bounds_linear,
    bounds_normalization,
    bounds_quantization,
    bounds_recurrent,
    bounds_sampling,
    bounds_signal,
)
from deepstruct.verification.bounds_arithmetic import Ball
from deepstruct.verification.bounds_case import Case, Exact, Rule
from deepstruct.verification.operations import Operation

__all__ = ["EXACT", "INFORMATIVE", "RULES", "Bound", "Exact", "Judgement", "bounds", "compare", "judge"]

EXACT = Exact()

INFORMATIVE = 0.01
"""A bound above this share of an output's scale says nothing about a network."""

RULES: dict[str, Rule] = {
    **bounds_attention.RULES,
    **bounds_elementwise.RULES,
    **bounds_exact.RULES,
    **bounds_linear.RULES,
    **bounds_normalization.RULES,
    **bounds_quantization.RULES,
    **bounds_recurrent.RULES,
    **bounds_sampling.RULES,
    **bounds_signal.RULES,
}
"""Operator with floating outputs -> its rule."""


@dataclass(frozen=True, eq=False)
class Bound:
    """Where the numbers of one output must lie.

    Attributes:
        centre: float64, of the output's shape: the operation in float64 on the given inputs.
        bound: float64, likewise: how far a runtime's numbers may be from it; infinite where anything is right.
    """

    centre: NDArray[np.float64]
    bound: NDArray[np.float64]

    @property
    def scale(self) -> float:
        """The root mean square of the numbers, those that are not finite left out; 0 if there are none."""
        finite = self.centre[np.isfinite(self.centre)]
        most = float(np.abs(finite).max(initial=0.0))
        return most * float(np.sqrt(np.mean((finite / most) ** 2))) if most else 0.0

    @property
    def informative(self) -> float:
        """Share of the elements whose bound is at most `INFORMATIVE` of the scale; 1 if there are none."""
        return float(np.mean(self.bound <= INFORMATIVE * self.scale)) if self.bound.size else 1.0


@dataclass(frozen=True)
class Judgement:
    """How one output of one runtime lies to its bound.

    Attributes:
        ratio: the worst of ``|output - centre| / bound``, 0 where both are 0; infinite for another shape.
        position: of the worst element, None if there is none.
        informative: share of the elements that the bound says something about.
    """

    ratio: float
    position: tuple[int, ...] | None
    informative: float

    @property
    def is_within(self) -> bool:
        """Whether a correct runtime may give this output."""
        return self.ratio <= 1

    @property
    def is_informative(self) -> bool:
        """Whether the bound says something about at least half of the elements."""
        return self.informative >= 0.5


def bounds(
    operation: Operation, inputs: Sequence[NDArray[Any] | list[Any] | None], opset: int, outputs: Sequence[str]
) -> list[Bound | Exact | None]:
    """What every correct runtime must give for one operation.

    Args:
        operation: whose operator, attributes and outputs matter.
        inputs: in the operator's order, None for one that is left out.
        opset: version of ONNX's operator set.
        outputs: dtype of each output as documents name it, ``""`` for one that is left out.

    Returns:
        For each output a bound, or that it must be the same everywhere, or None where no rule is known.
    """
    unknown: list[Bound | Exact | None] = [None] * len(outputs)
    if operation.domain:
        return unknown
    while inputs and inputs[-1] is None:
        inputs = inputs[:-1]
    names = tuple(f"{position}" if x is not None else "" for position, x in enumerate(inputs))
    made = tuple(name and f"out{position}" for position, name in enumerate(outputs))
    node = Node(operation.name, operation.op_type, names, made, operation.attributes)
    case = Case(node, tuple(inputs), opset, tuple(outputs))
    rule = _rule(case)
    if rule is None:
        return unknown
    try:
        if rule not in _WITHOUT_TORCH:
            case.require()
        with np.errstate(all="ignore"), torch.no_grad():
            results = [*rule(case), *unknown][: len(outputs)]
    except (UnsupportedError, NotImplementedError, RuntimeError):  # torch cannot evaluate this form
        return unknown
    return [_bound(result) if isinstance(result, Ball) else result for result in results]


_WITHOUT_TORCH = (bounds_exact.exact, bounds_exact.order, bounds_exact.cast, bounds_exact.dropout)


def _rule(case: Case) -> Rule | None:
    name = case.node.op_type
    if name in bounds_exact.MOVEMENT:
        return bounds_exact.exact
    if name == "Pow" and str(case.arrays[0].dtype) in bounds_exact.DTYPES_BY_NAME and case.arrays[0].dtype.kind in "iu":
        return bounds_exact.integer_power
    if not any(dtype in dtypes.DTYPES and "float" in dtype for dtype in case.dtypes) and not case.is_float:
        return bounds_exact.exact if name in bounds_exact.INTEGERS | bounds_exact.ORDER else RULES.get(name)
    return RULES.get(name)


def _bound(ball: Ball) -> Bound:
    known = ~ball.radius.isnan() & (ball.value.isfinite() | (ball.value.isinf() & (ball.radius == 0)))
    return Bound(ball.value.contiguous().numpy(), torch.where(known, ball.radius, math.inf).numpy())


def judge(bound: Bound, output: NDArray[Any]) -> Judgement:
    """How an output lies to its bound.

    Args:
        bound: of the output.
        output: of a runtime, of any dtype.
    """
    if output.shape != bound.centre.shape:
        return Judgement(np.inf, None, bound.informative)
    with np.errstate(all="ignore"):
        wide = output.astype(np.float64)
        error = np.where(wide == bound.centre, 0.0, np.abs(wide - bound.centre))
        ratios = np.where(error == 0, 0.0, error / bound.bound)
    ratios = np.where(np.isinf(bound.bound), 0.0, np.where(np.isnan(ratios), np.inf, ratios))
    return _worst(ratios, bound.informative)


def compare(first: NDArray[Any], second: NDArray[Any]) -> Judgement:
    """How two outputs that must be the same are: ratio 0, or infinite at the first element that differs."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return Judgement(np.inf, None, 1.0)
    same = first == second
    if first.dtype.kind not in "biuOSU":
        same |= (first != first) & (second != second)
    return _worst(np.where(same, 0.0, np.inf), 1.0)


def _worst(ratios: NDArray[np.float64], informative: float) -> Judgement:
    if not ratios.size:
        return Judgement(0.0, None, informative)
    place = np.unravel_index(int(ratios.argmax()), ratios.shape)
    return Judgement(float(ratios[place]), tuple(map(int, place)), informative)
