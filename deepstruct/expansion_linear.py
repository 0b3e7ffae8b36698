"""What matrix products, convolutions and embeddings do to units: each makes a layer, wired by its weight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepstruct import expansion_movement
from deepstruct.errors import UnsupportedError
from deepstruct.expansion_parameters import matrices, present, rearranged
from deepstruct.expansion_values import OPEN_EXTENTS, Rule, Units, UnknownUnitsError, Value, refuse_more
from deepstruct.structure import Node
from deepstruct.units import Numbers
from deepstruct.windows import Geometry, integer
from deepstruct.wires import NOTHING, EntryMatrix, Links, MatrixWires, shares_of

if TYPE_CHECKING:
    from deepstruct.expansion import Expansion


@dataclass(frozen=True, slots=True)
class Weighted:
    """A layer under construction whose targets share matrices.

    Attributes:
        expansion: that it belongs to.
        made: the layer.
    """

    expansion: Expansion
    made: Units

    def by_matrix(
        self,
        windows: Numbers,
        matrix: EntryMatrix,
        first: int = 0,
        *,
        position_first: bool = True,
        recurrent: bool = False,
    ) -> None:
        """Wires the layer by a matrix (targets at one position, sources of a window)."""
        if self.expansion.order == 0:
            wires = MatrixWires(matrix, windows, first, position_first)
            self.expansion.wire(self.made, wires, matrix.name, recurrent=recurrent)
            return
        columns, sources = _distinct(windows.reshape(math.prod(windows.shape[:-1]), windows.shape[-1]))
        kept = matrix.kept().view(np.int8)
        shares = shares_of(columns, sources, kept, 1, first)
        self.expansion.wire(self.made, shares, matrix.name, recurrent=recurrent)

    def by_kernels(self, windows: Numbers, matrix: EntryMatrix, kernel: int) -> None:
        """Wires the layer by a matrix whose rows are kernels of `kernel` entries for each channel of a group."""
        if self.expansion.order == 0:
            self.by_matrix(windows, matrix, position_first=False)
            return
        positions, groups, width = windows.shape
        kept = np.count_nonzero(matrix.kept().reshape(matrix.shape[0], -1, kernel), axis=2)
        rows = matrix.shape[0] // groups
        for group in range(groups):
            window = windows[:, group].reshape(positions, width // kernel, kernel)
            columns, sources = _distinct(np.moveaxis(window, 2, 1).reshape(positions * kernel, width // kernel))
            own = kept[group * rows : (group + 1) * rows]
            self.expansion.wire(self.made, shares_of(columns, sources, own, kernel, group * rows), matrix.name)


def _distinct(windows: Numbers) -> tuple[Numbers, Numbers]:
    """Each column of int64 ``[positions, columns]`` with each of its numbers."""
    highest = windows.max(axis=0, initial=NOTHING)
    alike = ((windows == highest) | (windows == NOTHING)).all(axis=0)
    columns = np.flatnonzero(alike)
    found = [(columns, highest[columns])]
    for column in np.flatnonzero(~alike):
        units = np.unique(windows[:, column])
        found.append((np.full(units.size, column), units))
    return np.concatenate([part[0] for part in found]), np.concatenate([part[1] for part in found])


def _needs(node: Node, given: int, needed: int) -> None:
    if given != needed:
        raise UnsupportedError(
            f"node {node.name!r}: {node.op_type} gets {given} units where its weight has {needed}; {OPEN_EXTENTS}"
        )


def _refuse_bias(node: Node, inputs: Sequence[Value | None]) -> None:
    if any(isinstance(value, Units) for value in inputs[2:]):
        raise UnknownUnitsError(f"{node.op_type} takes its bias from units")


def _name(node: Node) -> str:
    return node.scope or node.name


def _gemm(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    left, right = inputs[0], inputs[1]
    assert left is not None
    assert right is not None
    _refuse_bias(node, inputs)
    swap = (bool(node.attributes.get("transA")), bool(node.attributes.get("transB")))
    return [_product(expansion, node, left, right, swap)]


def _matmul(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    left, right = inputs[0], inputs[1]
    assert left is not None
    assert right is not None
    return [_product(expansion, node, left, right, (False, False))]


def _product(expansion: Expansion, node: Node, left: Value, right: Value, swap: tuple[bool, bool]) -> Units:
    """A matrix product; `swap` says which factors are transposed first."""
    if isinstance(left, Units) and isinstance(right, Units):
        return _between_units(expansion, node, left, right, swap)
    if isinstance(left, Units):
        numbers = left.numbers.T if swap[0] else left.numbers
        if len(right.shape) <= 2:
            shape = right.shape if len(right.shape) == 2 else (right.shape[0], 1)
            made = _linear(expansion, node, numbers, right, shape[::-1] if swap[1] else shape, transposed=not swap[1])
            return made if len(right.shape) == 2 else Units(made.numbers[..., 0])
        return _batched(expansion, node, numbers, right)
    assert isinstance(right, Units)
    numbers = right.numbers.T if swap[1] else right.numbers
    vector = numbers.ndim == 1
    numbers = numbers[:, None] if vector else numbers
    if len(left.shape) > 2:
        axes = [*range(len(left.shape) - 2), len(left.shape) - 1, len(left.shape) - 2]
        turned = rearranged(expansion, left, axes, [left.shape[axis] for axis in axes])
        made = _batched(expansion, node, np.swapaxes(numbers, -1, -2), turned)
        result = np.swapaxes(made.numbers, -1, -2)
        return Units(result[..., 0] if vector else result)
    shape = left.shape if len(left.shape) == 2 else (1, left.shape[0])
    made = _linear(
        expansion, node, np.swapaxes(numbers, -1, -2), left, shape if swap[0] else shape[::-1], transposed=swap[0]
    )
    result = np.swapaxes(made.numbers, -1, -2)
    result = result[..., 0] if vector else result
    return Units(result if len(left.shape) == 2 else result[..., 0, :] if not vector else result[..., 0])


def _linear(
    expansion: Expansion, node: Node, numbers: Numbers, weight: Value, shape: tuple[int, ...], *, transposed: bool
) -> Units:
    """Units times a weight that is (sources, targets), like ``shape``; `transposed`: the value is stored that way."""
    vector = numbers.ndim == 1
    numbers = numbers[None] if vector else numbers
    sources, targets = shape
    _needs(node, numbers.shape[-1], sources)
    made = expansion.new_layer(_name(node), node.op_type, (*numbers.shape[:-1], targets))
    windows = numbers.reshape(math.prod(numbers.shape[:-1]), 1, sources)
    for matrix in matrices(expansion, weight, (targets, sources), transposed=transposed):
        Weighted(expansion, made).by_matrix(windows, matrix)
    return Units(made.numbers[0]) if vector else made


def _batched(expansion: Expansion, node: Node, numbers: Numbers, weight: Value) -> Units:
    """Units ``[..., m, k]`` times a batch of matrices ``[..., k, n]``."""
    if numbers.ndim == 1:
        return Units(_batched(expansion, node, numbers[None], weight).numbers[..., 0, :])
    rows, (sources, targets) = numbers.shape[-2], weight.shape[-2:]
    _needs(node, numbers.shape[-1], sources)
    batch = np.broadcast_shapes(numbers.shape[:-2], weight.shape[:-2])
    units = np.broadcast_to(numbers, (*batch, rows, sources)).reshape(math.prod(batch), rows, 1, sources)
    size = math.prod(weight.shape)
    order = np.broadcast_to(np.arange(size).reshape(weight.shape), (*batch, sources, targets))
    made = expansion.new_layer(_name(node), node.op_type, (*batch, rows, targets))
    whole = matrices(expansion, weight, (1, size))
    for position, index in enumerate(order.reshape(math.prod(batch), sources, targets)):
        for matrix in whole:
            part = matrix.picked(index.T)
            first = 0 if expansion.order else position * rows * targets
            Weighted(expansion, made).by_matrix(units[position], part, first)
    return made


def _between_units(expansion: Expansion, node: Node, left: Units, right: Units, swap: tuple[bool, bool]) -> Units:
    """A product of two values: each element depends on a row of one and a column of the other."""
    a = left.numbers.T if swap[0] else left.numbers
    b = right.numbers.T if swap[1] else right.numbers
    a, b = a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    refuse_more(node, math.prod(batch) * rows * columns * 2 * inner)
    a = np.broadcast_to(a[..., :, None, :], (*batch, rows, columns, inner))
    b = np.broadcast_to(np.swapaxes(b, -1, -2)[..., None, :, :], (*batch, rows, columns, inner))
    shape = (*batch, rows, columns)
    if left.numbers.ndim == 1:
        shape = (*shape[:-2], columns)
    if right.numbers.ndim == 1:
        shape = shape[:-1]
    return expansion.linked(node, shape, np.concatenate([a, b], axis=-1).reshape(-1, 2 * inner))


def _einsum(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    """A sum of products of two values, as a product of (batches of) matrices."""
    equation = str(node.attributes["equation"]).replace(" ", "")
    terms, arrow, result = equation.partition("->")
    labels = terms.split(",")
    values = [value for value in inputs if value is not None]
    if len(labels) != 2 or "." in equation or any(len(set(term)) < len(term) for term in labels):
        raise UnknownUnitsError(f"it is not known how Einsum {equation!r:.60} maps units to units")
    if not isinstance(values[0], Units):
        labels.reverse()
        values.reverse()
    left, right = labels
    result = result if arrow else "".join(sorted(set(left) ^ set(right)))
    extents = {
        label: extent
        for term, value in zip(labels, values, strict=True)
        for label, extent in zip(term, value.shape, strict=True)
    }
    shared = [label for label in left if label in right]
    batch, summed = ([label for label in shared if (label in result) == kept] for kept in (True, False))
    rows, columns = ([label for label in own if label not in shared] for own in (left, right))
    if any(label not in result for label in (*rows, *columns)):
        raise UnknownUnitsError(f"it is not known how Einsum {equation!r:.60} maps units to units")

    def arranged(value: Value, own: str, *groups: list[str]) -> Value:
        order = [own.index(label) for label in (*batch, *groups[0], *groups[1])]
        shape = [extents[label] for label in batch] + [math.prod(extents[label] for label in group) for group in groups]
        return rearranged(expansion, value, order, shape)

    made = _product(
        expansion,
        node,
        arranged(values[0], left, rows, summed),
        arranged(values[1], right, summed, columns),
        (False, False),
    )
    own = [*batch, *rows, *columns]
    numbers = made.numbers.reshape([extents[label] for label in own])
    return [Units(np.transpose(numbers, [own.index(label) for label in result]))]


def _convolution(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    value, weight = inputs[0], inputs[1]
    _refuse_bias(node, inputs)
    if not isinstance(value, Units) or isinstance(weight, Units) or weight is None:
        raise UnknownUnitsError(f"{node.op_type} takes its kernels from units")
    geometry = Geometry.of(node, value.shape, weight.shape[2:])
    groups = integer(node, "group", 1)
    _needs(node, value.shape[1], weight.shape[1] * groups)
    targets, kernel = weight.shape[0], math.prod(weight.shape[2:])
    matrix_shape = (targets, weight.shape[1] * kernel)
    return [_sliding(expansion, node, value, geometry, groups, kernel, matrices(expansion, weight, matrix_shape))]


def _transposed_convolution(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    """A convolution over the input with gaps, its kernels turned round."""
    value, weight = inputs[0], inputs[1]
    _refuse_bias(node, inputs)
    if not isinstance(value, Units) or isinstance(weight, Units) or weight is None:
        raise UnknownUnitsError(f"{node.op_type} takes its kernels from units")
    groups, extents = integer(node, "group", 1), weight.shape[2:]
    _needs(node, value.shape[1], weight.shape[0])
    geometry = Geometry.of_transposed(node, value.shape, extents)
    spread = [(extent - 1) * stride + 1 for extent, stride in zip(value.shape[2:], geometry.spread, strict=True)]
    refuse_more(node, math.prod((*value.shape[:2], *spread)))
    numbers = np.full((*value.shape[:2], *spread), NOTHING, np.int64)
    numbers[(slice(None), slice(None), *(slice(None, None, stride) for stride in geometry.spread))] = value.numbers
    kernel, targets = math.prod(extents), weight.shape[1] * groups
    order = np.arange(math.prod(weight.shape)).reshape(groups, -1, weight.shape[1], *extents)
    order = np.flip(np.swapaxes(order, 1, 2), tuple(range(3, order.ndim))).reshape(targets, -1)
    whole = matrices(expansion, weight, (1, order.size))
    parts = [matrix.picked(order) for matrix in whole]
    return [_sliding(expansion, node, Units(numbers), geometry, groups, kernel, parts)]


def _sliding(
    expansion: Expansion,
    node: Node,
    value: Units,
    geometry: Geometry,
    groups: int,
    kernel: int,
    weights: Sequence[EntryMatrix],
) -> Units:
    """A layer of channels, each of which looks at the windows of its group."""
    batch = value.shape[0]
    windows = geometry.windows(node, value.numbers)
    extents = windows.shape[2 : 2 + len(geometry.strides)]
    positions = math.prod(extents)
    targets = weights[0].shape[0] if weights else 0
    channels = expansion.channels(value)
    if channels is not None:
        own = np.repeat(channels, kernel).reshape(1, 1, groups, windows.shape[1] // groups * kernel)
    else:
        refuse_more(node, windows.size)
        own = np.moveaxis(windows.reshape(batch, windows.shape[1], positions, kernel), 2, 1)
        own = own.reshape(batch, positions, groups, windows.shape[1] // groups * kernel)
        if expansion.order:
            own = own.reshape(1, batch * positions, groups, own.shape[-1])
    made = []
    for sample in own:
        layer = expansion.new_layer(_name(node), node.op_type, (targets, *extents), 0)
        for matrix in weights:
            Weighted(expansion, layer).by_kernels(sample, matrix, kernel)
        made.append(layer)
    numbers = np.stack([layer.numbers for layer in made]) if made else np.empty((0, targets, *extents), np.int64)
    return Units(np.broadcast_to(numbers, (batch, targets, *extents)), made[0].layer if len(made) == 1 else None)


def _gather(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> Sequence[Value]:
    """Picks by constant indices move units; picks of parameters by units make a layer, as embeddings do."""
    table, index = inputs[0], inputs[1]
    if not isinstance(index, Units):
        return expansion_movement.moved(expansion, node, inputs)
    if isinstance(table, Units) or table is None:
        raise UnknownUnitsError("Gather picks units by units")
    axis = integer(node, "axis", 0) % len(table.shape)
    exists = present(expansion, table).any(axis=axis)
    shape = (*table.shape[:axis], *index.shape, *table.shape[axis + 1 :])
    own = np.expand_dims(exists, tuple(range(axis, axis + len(index.shape))))
    along = index.numbers.reshape((1,) * axis + index.shape + (1,) * (len(table.shape) - axis - 1))
    sources = np.broadcast_to(along, shape) * own
    made = expansion.new_layer(_name(node), node.op_type, shape)
    if expansion.order == 0:
        expansion.wire(made, Links(sources.reshape(-1, 1)))
    else:
        rows = np.moveaxis(sources, -1, 0).reshape(shape[-1], -1)
        expansion.wire(made, Links(rows))
    return [made]


RULES: dict[str, Rule] = {
    "Conv": _convolution,
    "ConvInteger": _convolution,
    "ConvTranspose": _transposed_convolution,
    "Einsum": _einsum,
    "Gather": _gather,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
}
