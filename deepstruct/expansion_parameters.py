"""What operators do to values that are made of parameters alone."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepstruct import expansion_movement
from deepstruct.expansion_values import Entries, Known, Units, UnknownUnitsError, Value
from deepstruct.structure import Node
from deepstruct.wires import EntryMatrix

if TYPE_CHECKING:
    from deepstruct.expansion import Expansion

ZERO_STAYS = frozenset(
    {
        *("Abs", "Cast", "CastLike", "Ceil", "DequantizeLinear", "Erf", "Floor", "Identity", "Neg", "QuantizeLinear"),
        *("Relu", "Round", "Sign", "Sin", "Sinh", "Sqrt", "Tan", "Tanh"),
    }
)
"""Operators of one tensor that give 0 for 0."""


def outputs(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    """Entries behind an operator: the same ones, moved ones, or numbers that all exist."""
    first = inputs[0]
    if node.domain == "" and node.op_type in ZERO_STAYS and isinstance(first, Entries):
        return [first]
    if node.domain == "" and node.op_type in ("Mul", "Div"):
        return [_product(expansion, node, inputs)]
    if node.domain == "" and node.op_type in expansion_movement.MOVED:
        with contextlib.suppress(UnknownUnitsError):
            return expansion_movement.moved_entries(expansion, node, inputs)
    return [Entries(shape) for shape in expansion_movement.output_shapes(expansion, node, inputs)]


def _product(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> Value:
    """Entries of the first factor that has any, where the other factors are not 0."""
    shape = expansion_movement.broadcast(node, [value.shape for value in inputs if value is not None])
    factors = [value for value in inputs if isinstance(value, Entries)]
    whole = [value for value in factors if value.shape == shape and (value.parameter or value.numbers is not None)]
    if not whole:
        return Entries(shape)
    numbers = expansion.entry_numbers(whole[0])
    for position, value in enumerate(inputs):
        if value is None or value is whole[0] or (node.op_type == "Div" and position):
            continue
        numbers = numbers * present(expansion, value)
    return Entries(shape, None, numbers)


def present(expansion: Expansion, value: Value) -> NDArray[np.bool_]:
    """Bool of the value's shape: where a parameter or constant has a number that may be other than 0."""
    if isinstance(value, Known):
        return np.asarray(value.array != 0)
    if isinstance(value, Entries) and (value.numbers is not None or (value.parameter and value.parameter.mask)):
        return np.asarray(expansion.entry_numbers(value) != 0)
    return np.ones(value.shape, np.bool_)


def rearranged(expansion: Expansion, value: Value, order: Sequence[int], shape: Sequence[int]) -> Value:
    """A value with its axes in another order, and then of another shape."""
    if isinstance(value, Units):
        return Units(np.transpose(value.numbers, order).reshape(shape))
    if isinstance(value, Known):
        return Known(np.transpose(value.array, order).reshape(shape))
    if value.parameter is None and value.numbers is None:
        return Entries(tuple(shape))
    if list(order) == list(range(len(order))) and tuple(shape) == value.shape:
        return value
    return Entries(tuple(shape), None, np.transpose(expansion.entry_numbers(value), order).reshape(shape))


def matrices(
    expansion: Expansion, value: Value, shape: tuple[int, int], *, transposed: bool = False
) -> list[EntryMatrix]:
    """A weight as matrices (targets, sources), one for each parameter that it has entries of.

    Args:
        expansion: that the value belongs to.
        value: of `shape` when flattened, or of the reverse of it if `transposed`.
        shape: (targets, sources).
        transposed: the value is (sources, targets).
    """
    if isinstance(value, Entries) and value.parameter is not None:
        return [EntryMatrix(shape, value.parameter, transposed)]
    if isinstance(value, Entries) and value.numbers is not None:
        numbers = value.numbers
        pairs = expansion.parameters_of(numbers.reshape(shape[::-1]).T if transposed else numbers.reshape(shape))
        return [EntryMatrix(shape, parameter, entries=entries) for parameter, entries in pairs]
    exists = present(expansion, value).astype(np.int64)
    return [EntryMatrix(shape, entries=exists.reshape(shape[::-1]).T if transposed else exists.reshape(shape))]
