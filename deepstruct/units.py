"""UnitGraph: the units of a network in layers and the connections between them, as arrays, never object by object."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array  # type: ignore[import-untyped]  # scipy has no types

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class UnitLayer:
    """Units that one operator, or one graph input, makes.

    Attributes:
        name: unique; the scope of the operator, or the name of the value, where that is not unique.
        op_type: operator that makes the units, ``"Input"`` for graph inputs.
        start: number of its first unit.
        shape: extents of the layer; their product is the number of units, which are numbered row-major.
    """

    name: str
    op_type: str
    start: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of units."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def stop(self) -> int:
        """Number behind its last unit."""
        return self.start + self.size


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Connections by target, as the rows of a CSR matrix.

    Attributes:
        indptr: int64 ``[targets + 1]``, where each target's connections begin.
        sources: int64 ``[nnz]``, numbers of the units that they come from.
    """

    indptr: Numbers
    sources: Numbers

    def targets(self, first: int) -> Numbers:
        """int64 ``[nnz]``, numbers of the units that they lead to, the first of which is `first`."""
        return np.repeat(np.arange(first, first + self.indptr.size - 1), np.diff(self.indptr))


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The connections into one layer that one parameter, or one operator without one, makes.

    Attributes:
        layer: position of the layer of the targets.
        layers: positions of the layers that sources are in, ascending.
        parameter: name of the parameter whose entries the connections are, ``""`` if they are no entries.
        rows: finds the connections; targets are all units of the layer.
        entries: finds the row-major index into the parameter of each connection, int64 ``[nnz]`` in the order of
            `rows`, -1 for one that stands for no single entry; None if there is no parameter.
        shares: finds the kept share of the entries that each connection stands for, float64 ``[nnz]`` in the order of
            `rows`; None if each connection stands for one entry.
        recurrent: the connections reach from one step of a sequence into the next.
    """

    layer: int
    layers: tuple[int, ...]
    parameter: str
    rows: Callable[[], Rows]
    entries: Callable[[], Numbers] | None = None
    shares: Callable[[], NDArray[np.float64]] | None = None
    recurrent: bool = False


@dataclass(frozen=True, eq=False)
class UnitGraph:
    """Layers of units and the blocks of connections between them.

    Units are numbered from 0, layer by layer. A layer comes after all layers that connections into it come from,
    recurrent ones excepted.

    Attributes:
        layers: in order of their units.
        blocks: ascending by layer.
        inputs: positions of the layers of graph inputs.
        outputs: positions of the layers that graph outputs are made of.
        output_units: int64 ``[n]``, the unit of each element of the graph outputs, in their order; -1 for a constant.
    """

    layers: tuple[UnitLayer, ...]
    blocks: tuple[Block, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    output_units: Numbers

    @property
    def units(self) -> int:
        """Number of units."""
        return self.layers[-1].stop if self.layers else 0

    @property
    def is_recurrent(self) -> bool:
        """Whether a connection reaches into the next step of a sequence."""
        return any(block.recurrent for block in self.blocks)

    @cached_property
    def layer_of(self) -> Numbers:
        """int64 ``[units]``: position of the layer of each unit."""
        return np.repeat(np.arange(len(self.layers)), [layer.size for layer in self.layers])

    def edges(self, block: Block) -> tuple[Numbers, Numbers]:
        """Source and target of each connection of a block, int64 ``[nnz]``, by target."""
        rows = block.rows()
        return rows.sources, rows.targets(self.layers[block.layer].start)

    def adjacency(self) -> csr_array:
        """All connections, bool, (units, units), row = source, column = target; parallel ones are one entry.

        Raises:
            ImportError: scipy is not installed.
        """
        from scipy.sparse import csc_array, csr_array

        into: list[list[Rows]] = [[] for _ in self.layers]
        for block in self.blocks:
            into[block.layer].append(block.rows())
        small = np.int32 if self.units < 2**31 else np.int64
        columns = [_joined(rows, layer.size) for rows, layer in zip(into, self.layers, strict=True)]
        ends = list(accumulate((rows.sources.size for rows in columns), initial=0))
        kind = small if ends[-1] < 2**31 else np.int64
        indptr = np.zeros(self.units + 1, kind)
        indices = np.empty(ends[-1], kind)
        for layer, rows, end in zip(self.layers, columns, ends, strict=False):
            indptr[layer.start + 1 : layer.stop + 1] = rows.indptr[1:] + end
            indices[end : end + rows.sources.size] = rows.sources
        data = np.ones(indices.size, np.bool_)
        matrix = csr_array(csc_array((data, indices, indptr), shape=(self.units, self.units)))
        matrix.sum_duplicates()
        return matrix

    def without(self, dropped: Collection[int]) -> UnitGraph:
        """The graph without some layers, given by position, and the connections into and out of them.

        A layer that had connections from one of them is an input now, and one that had connections to one of them an
        output.
        """
        kept = [position for position in range(len(self.layers)) if position not in dropped]
        place = {position: new for new, position in enumerate(kept)}
        if len(kept) == len(self.layers):
            return self
        ends = list(accumulate((self.layers[position].size for position in kept), initial=0))
        layers = tuple(replace(self.layers[old], start=start) for old, start in zip(kept, ends, strict=False))
        moved = np.full(self.units, -1, np.int64)
        for old, layer in zip(kept, layers, strict=True):
            moved[self.layers[old].start : self.layers[old].stop] = np.arange(layer.start, layer.stop)
        blocks = tuple(
            _moved(block, place, moved)
            for block in self.blocks
            if block.layer in place and any(layer in place for layer in block.layers)
        )
        fed = {block.layer for block in self.blocks if not place.keys() >= set(block.layers)}
        feeding = {layer for block in self.blocks if block.layer not in place for layer in block.layers}
        inputs, outputs = (
            tuple(sorted(place[position] for position in {*side, *more} if position in place))
            for side, more in ((self.inputs, fed), (self.outputs, feeding))
        )
        cut = [np.arange(layers[place[old]].start, layers[place[old]].stop) for old in sorted(feeding & place.keys())]
        ends_at = moved[self.output_units[self.output_units >= 0]]
        output_units = np.concatenate([ends_at[ends_at >= 0], *cut])
        return UnitGraph(layers, blocks, inputs, outputs, output_units)


def _moved(block: Block, place: dict[int, int], moved: Numbers) -> Block:
    """A block with other numbers of its sources; connections from units without one vanish."""

    def stay() -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = moved[block.rows().sources] >= 0
        return found

    def rows() -> Rows:
        old = block.rows()
        return without_sources(Rows(old.indptr, moved[old.sources]), -1)

    entries, shares = block.entries, block.shares
    return replace(
        block,
        layer=place[block.layer],
        layers=tuple(place[layer] for layer in block.layers if layer in place),
        rows=rows,
        entries=None if entries is None else lambda: entries()[stay()],
        shares=None if shares is None else lambda: shares()[stay()],
    )


def without_sources(rows: Rows, nothing: int) -> Rows:
    """Rows without the connections from `nothing`."""
    kept = rows.sources != nothing
    if kept.all():
        return rows
    before = np.concatenate([[0], np.cumsum(kept)])
    return Rows(before[rows.indptr], rows.sources[kept])


def _joined(parts: Sequence[Rows], size: int) -> Rows:
    """The connections of several blocks into one layer of `size` units."""
    if not parts:
        return Rows(np.zeros(size + 1, np.int64), np.empty(0, np.int64))
    if len(parts) == 1:
        return parts[0]
    targets = np.concatenate([rows.targets(0) for rows in parts])
    order = np.argsort(targets, kind="stable")
    indptr = np.sum([rows.indptr for rows in parts], axis=0)
    return Rows(indptr, np.concatenate([rows.sources for rows in parts])[order])


def kept_rows(kept: NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """The entries that exist in a bool matrix (targets, sources): indptr ``[targets + 1]``, flat index ``[nnz]``."""
    flat = np.flatnonzero(kept)
    return np.searchsorted(flat, np.arange(kept.shape[0] + 1) * kept.shape[1]), flat


def columns_of(indptr: Numbers, flat: Numbers, width: int) -> Numbers:
    """Column of each entry that `kept_rows` found in a matrix with `width` columns."""
    before = np.repeat(np.arange(indptr.size - 1) * width, np.diff(indptr))
    return np.subtract(flat, before, out=before)


def masked_block(layer: int, source: int, first_source: int, mask: Callable[[], NDArray[np.bool_]]) -> Block:
    """The block of one masked layer whose mask (target, source) connects the units of one layer with another."""

    def rows() -> Rows:
        kept = mask()
        indptr, flat = kept_rows(kept)
        return Rows(indptr, columns_of(indptr, flat, kept.shape[1]) + first_source)

    return Block(layer, (source,), "", rows)
