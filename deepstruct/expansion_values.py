"""What a value is while a structure is expanded: units, entries of parameters, or known numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepstruct.errors import MissingDependencyError, UnsupportedError, UsageError
from deepstruct.structure import Node, Parameter, ValueInfo
from deepstruct.units import Numbers

if TYPE_CHECKING:
    from deepstruct.expansion import Expansion

MAX_UNITS = 2**28
MAX_CONNECTIONS = 2**29
OPEN_EXTENTS = (
    "an open extent of the inputs counts as 1: give the extents that the network needs as shapes or --input-shape"
)


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """A value that depends on the graph's inputs.

    Attributes:
        numbers: int64 of the value's shape: provisional number of the unit of each element, `NOTHING` for constants.
        layer: the layer whose units the elements are, one by one and in order, if nothing else uses them; else None.
    """

    numbers: Numbers
    layer: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents of the value."""
        return self.numbers.shape


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """A value that is made of entries of parameters alone.

    Attributes:
        shape: extents of the value.
        parameter: the parameter that the value is, unchanged; None if entries were moved.
        numbers: int64 of the shape, 1 + number of each entry among those of all parameters, 0 where none exists; None
            if the value is a parameter, unchanged, or computed from entries, so that everything exists.
    """

    shape: tuple[int, ...]
    parameter: Parameter | None = None
    numbers: Numbers | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A value that depends on nothing: a constant, or computed from constants and shapes."""

    array: NDArray[np.generic]

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents of the value."""
        return self.array.shape


Value = Units | Entries | Known
Rule = Callable[["Expansion", Node, Sequence[Value | None]], Sequence[Value]]


class UnknownUnitsError(UnsupportedError):
    """An operator does something to units that no rule describes."""


def extents_of(value: ValueInfo, given: Sequence[int] | None) -> tuple[int, ...]:
    """Extents of a graph input, those that are open 1.

    Raises:
        UnsupportedError: the rank is unknown, and nothing is given.
        UsageError: what is given is not what the structure declares.
    """
    declared = value.shape
    if given is None:
        if declared is None:
            raise UnsupportedError(
                f"input {value.name!r} has an unknown rank: give its extents as shapes or --input-shape"
            )
        return tuple(extent if isinstance(extent, int) else 1 for extent in declared)
    extents = tuple(given)
    fits = declared is None or (
        len(extents) == len(declared)
        and all(not isinstance(own, int) or own == new for own, new in zip(declared, extents, strict=True))
    )
    if not all(type(extent) is int and 0 < extent < 2**31 for extent in extents) or not fits:
        own = "of any rank" if declared is None else str(["?" if dim is None else dim for dim in declared])
        raise UsageError(f"the input {value.name!r} is {own}, which does not admit {list(extents)!r:.60}")
    return extents


def refuse_more(node: Node, elements: int) -> None:
    """Raises UnsupportedError for more elements than any network that can be expanded has."""
    if elements > MAX_UNITS:
        raise UnsupportedError(
            f"node {node.name!r}: {node.op_type} takes more than {MAX_UNITS:,} elements to follow; order 1 takes fewer"
        )


def require_onnx() -> None:
    """Raises MissingDependencyError where the onnx package is not installed."""
    try:
        import onnx.reference  # noqa: F401 - only whether it is there
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] not in ("onnx", "google"):
            raise
        raise MissingDependencyError("onnx", "graph", "following units through operators that move values") from error
