"""LayerMatrices: a unit graph as one sparse matrix for each layer, which all measures of `analysis` work on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array  # type: ignore[import-untyped]  # scipy has no types

from deepstruct.units import Numbers, Rows, UnitGraph, UnitLayer

Values = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Incoming:
    """The connections into one layer from a range of units.

    Attributes:
        matrix: bool (units of the layer, units of the range), row = target, column = source, all stored entries True,
            without duplicates.
        first: number of the first unit of the range.
    """

    matrix: csr_array
    first: int

    @property
    def nnz(self) -> int:
        """Number of connections."""
        return int(self.matrix.nnz)

    @property
    def window(self) -> slice:
        """The range of units that connections come from."""
        return slice(self.first, self.first + self.matrix.shape[1])

    @property
    def sources(self) -> Numbers:
        """Number of the source of each connection, int ``[nnz]``, by target."""
        found: Numbers = self.matrix.indices + self.first
        return found

    def compact(self) -> csr_array:
        """The matrix without the columns of units that feed nothing here."""
        matrix = self.matrix
        feeding = np.bincount(matrix.indices, minlength=matrix.shape[1]) > 0
        if feeding.all():
            return matrix
        place = np.cumsum(feeding, dtype=matrix.indices.dtype) - 1
        shape = (matrix.shape[0], int(np.count_nonzero(feeding)))
        return csr_array((matrix.data, place[matrix.indices], matrix.indptr), shape=shape)

    def reduced(self, ufunc: np.ufunc, values: Values, empty: Any) -> Values:
        """Reduces the values of the sources of each target.

        Args:
            ufunc: such as `numpy.maximum`.
            values: any dtype ``[all units, ...]``.
            empty: for targets without a source.
        """
        matrix = self.matrix
        result = np.full((matrix.shape[0], *values.shape[1:]), empty, values.dtype)
        fed = np.flatnonzero(np.diff(matrix.indptr))
        if fed.size:
            result[fed] = ufunc.reduceat(values[self.window][matrix.indices], matrix.indptr[fed])
        return result


@dataclass(frozen=True, eq=False)
class LayerMatrices:
    """The connections of a unit graph; parallel ones between the same two units are one.

    Attributes:
        graph: whose connections they are.
        forward: for each layer, the connections within one step.
        recurrent: for each layer, the connections from the step before, None if it has none.
    """

    graph: UnitGraph
    forward: tuple[Incoming, ...]
    recurrent: tuple[Incoming | None, ...]

    @property
    def units(self) -> int:
        """Number of units."""
        return self.graph.units

    def __iter__(self) -> Iterator[tuple[UnitLayer, Incoming, Incoming | None]]:
        return zip(self.graph.layers, self.forward, self.recurrent, strict=True)

    def marked(self, layers: Sequence[int]) -> NDArray[np.bool_]:
        """Bool ``[units]``: units of some layers, given by position."""
        marks = np.zeros(self.units, np.bool_)
        for position in layers:
            layer = self.graph.layers[position]
            marks[layer.start : layer.stop] = True
        return marks

    @cached_property
    def inputs(self) -> NDArray[np.bool_]:
        """Bool ``[units]``: units of graph inputs."""
        return self.marked(self.graph.inputs)

    @cached_property
    def outputs(self) -> NDArray[np.bool_]:
        """Bool ``[units]``: units that graph outputs are made of."""
        marks = np.zeros(self.units, np.bool_)
        marks[self.graph.output_units[self.graph.output_units >= 0]] = True
        return marks

    @cached_property
    def acyclic(self) -> csr_array:
        """All connections within one step, bool (units, units), row = target, column = source."""
        return self._stacked(self.forward)

    @cached_property
    def whole(self) -> csr_array:
        """All connections, bool (units, units), row = target, column = source."""
        if not any(self.recurrent):
            return self.acyclic
        parts = [
            Incoming(csr_array((layer.size, 0), dtype=np.bool_), 0) if part is None else part
            for layer, part in zip(self.graph.layers, self.recurrent, strict=True)
        ]
        return self.acyclic + self._stacked(parts)

    @cached_property
    def undirected(self) -> csr_array:
        """Pairs of different units with a connection in either direction, bool (units, units), symmetric."""
        matrix = self.whole
        if any(self.recurrent):
            matrix = matrix.copy()
            matrix.setdiag(False)
            matrix.eliminate_zeros()
        both = csr_array(matrix + matrix.T)
        both.sort_indices()
        return both

    def _stacked(self, parts: Sequence[Incoming]) -> csr_array:
        """The matrices of all layers below one another, with a column for each unit."""
        ends = list(accumulate((part.nnz for part in parts), initial=0))
        kind = np.int32 if max(ends[-1], self.units) < 2**31 else np.int64
        indptr = np.zeros(self.units + 1, kind)
        indices = np.empty(ends[-1], kind)
        for layer, part, end in zip(self.graph.layers, parts, ends, strict=False):
            indptr[layer.start + 1 : layer.stop + 1] = part.matrix.indptr[1:].astype(kind) + kind(end)
            np.add(part.matrix.indices, part.first, out=indices[end : end + part.nnz], casting="same_kind")
        data = np.ones(indices.size, np.bool_)
        return csr_array((data, indices, indptr), shape=(self.units, self.units))


def layer_matrices(graph: UnitGraph) -> LayerMatrices:
    """The connections of a unit graph as matrices, computed block by block."""
    forward: list[list[Incoming]] = [[] for _ in graph.layers]
    recurrent: list[list[Incoming]] = [[] for _ in graph.layers]
    for block in graph.blocks:
        layers = [graph.layers[position] for position in block.layers]
        first = min((layer.start for layer in layers), default=0)
        stop = max((layer.stop for layer in layers), default=first)
        found = _matrix(block.rows(), first, stop - first)
        (recurrent if block.recurrent else forward)[block.layer].append(Incoming(found, first))
    return LayerMatrices(
        graph,
        tuple(_merged(parts, layer) for parts, layer in zip(forward, graph.layers, strict=True)),
        tuple(_merged(parts, layer) if parts else None for parts, layer in zip(recurrent, graph.layers, strict=True)),
    )


def _matrix(rows: Rows, first: int, width: int) -> csr_array:
    """Rows as a matrix in canonical form whose column 0 is the unit `first`."""
    kind = np.int32 if max(rows.sources.size, width) < 2**31 else np.int64
    indices = np.subtract(rows.sources, first).astype(kind)
    data = np.ones(indices.size, np.bool_)
    matrix = csr_array((data, indices, rows.indptr.astype(kind)), shape=(rows.indptr.size - 1, width))
    matrix.sum_duplicates()
    return matrix


def _merged(parts: Sequence[Incoming], layer: UnitLayer) -> Incoming:
    """Several matrices of one layer as one; nothing is copied where there is one only."""
    if not parts:
        return Incoming(csr_array((layer.size, 0), dtype=np.bool_), 0)
    if len(parts) == 1:
        return parts[0]
    first = min(part.first for part in parts)
    width = max(part.first + part.matrix.shape[1] for part in parts) - first
    total = csr_array((layer.size, width), dtype=np.bool_)
    for part in parts:
        matrix = part.matrix
        total = total + csr_array(
            (matrix.data, matrix.indices + matrix.indices.dtype.type(part.first - first), matrix.indptr),
            shape=total.shape,
        )
    return Incoming(csr_array(total), first)
