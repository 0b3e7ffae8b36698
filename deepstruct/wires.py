"""How the units of one layer are wired to others: by the entries of a matrix, by shares of kernels, or one to one.

Units have provisional numbers from 1 while a structure is being expanded; 0 stands for no unit: padding, a constant.
Wires are renumbered once all units are known, and find their connections by target when asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deepstruct.structure import Parameter
from deepstruct.units import Numbers, Rows, columns_of, kept_rows, without_sources

NOTHING = 0  # no unit, among provisional numbers
ABSENT = -1  # no unit, among final numbers


class Wires(Protocol):
    """Connections into the units of one layer.

    Attributes:
        sources: int64, numbers of the units that connections come from, in the order of each kind.
    """

    @property
    def sources(self) -> Numbers:
        """Numbers of units, `NOTHING` or `ABSENT` where there is none."""

    @property
    def most(self) -> int:
        """The number of connections, or more."""

    def renumbered(self, numbers: Numbers) -> Wires:
        """The same wiring between units that are called ``numbers[unit]`` now."""

    def rows(self, size: int) -> Rows:
        """The connections into each of `size` targets, those from `ABSENT` left out."""


@dataclass(frozen=True, slots=True, eq=False)
class EntryMatrix:
    """A parameter, or entries of it in another order, as a matrix (targets, sources).

    Attributes:
        shape: of the matrix.
        parameter: whose entries they are; None for numbers that are no entries of a single parameter.
        transposed: the parameter itself is (sources, targets).
        entries: int64 of `shape`, 1 + row-major index into the parameter, 0 where no entry exists; None if the matrix
            is the whole parameter in its own order, or, without a parameter, if everything exists.
    """

    shape: tuple[int, int]
    parameter: Parameter | None = None
    transposed: bool = False
    entries: Numbers | None = None

    @property
    def name(self) -> str:
        """Name of the parameter, or ``""``."""
        return "" if self.parameter is None else self.parameter.name

    @property
    def nnz(self) -> int:
        """Number of entries that exist."""
        if self.entries is not None:
            return int(np.count_nonzero(self.entries))
        return math.prod(self.shape) if self.parameter is None else self.parameter.nnz

    def kept(self) -> NDArray[np.bool_]:
        """Bool of `shape`: which entries exist."""
        if self.entries is not None:
            present: NDArray[np.bool_] = self.entries != 0
            return present
        if self.parameter is None or self.parameter.mask is None:
            return np.ones(self.shape, np.bool_)
        own = self.parameter.mask.flat()
        if self.transposed:
            return np.ascontiguousarray(own.reshape(self.shape[::-1]).T)
        return own.reshape(self.shape)

    def index(self, flat: Numbers) -> Numbers:
        """Row-major index into the parameter of each entry, given by row-major index into the matrix."""
        if self.parameter is None:
            return np.full(flat.size, -1)
        if self.entries is not None:
            found: Numbers = self.entries.reshape(-1)[flat] - 1
            return found
        if not self.transposed:
            return flat
        target, source = np.divmod(flat, self.shape[1])
        index: Numbers = source * self.shape[0] + target
        return index

    def picked(self, order: Numbers) -> EntryMatrix:
        """The matrix of some entries, given by row-major index: int64 of the new shape."""
        kept = self.kept().reshape(-1)[order]
        index = self.index(order.reshape(-1)).reshape(order.shape) + 1 if self.parameter else 1
        rows, columns = order.shape
        return EntryMatrix((rows, columns), self.parameter, entries=np.where(kept, index, 0))


@dataclass(frozen=True, slots=True, eq=False)
class MatrixWires:
    """Targets that share one matrix at several positions, as those of a convolution or of a linear layer do.

    Attributes:
        matrix: (targets at one position, sources of a window).
        sources: int64 ``[positions, groups, sources of a window]``; the rows of the matrix are shared out evenly
            among the groups.
        first: number of the first target, within its layer.
        position_first: targets are numbered position by position, else row by row of the matrix.
    """

    matrix: EntryMatrix
    sources: Numbers
    first: int = 0
    position_first: bool = True

    @property
    def most(self) -> int:
        """See `Wires`."""
        return int(self.sources.shape[0]) * self.matrix.nnz

    def renumbered(self, numbers: Numbers) -> MatrixWires:
        """See `Wires`."""
        return replace(self, sources=numbers[self.sources])

    def rows(self, size: int) -> Rows:
        """See `Wires`."""
        indptr, flat = kept_rows(self.matrix.kept())
        sources = self._gathered(indptr, columns_of(indptr, flat, self.matrix.shape[1]))
        rows = Rows(self._ends(indptr, size), sources)
        return without_sources(rows, ABSENT) if (self.sources == ABSENT).any() else rows

    def entries(self) -> Numbers:
        """Row-major index into the parameter of each connection, in the order of `rows`, -1 without a parameter."""
        indptr, flat = kept_rows(self.matrix.kept())
        index = self._spread(indptr, self.matrix.index(flat))
        present = self._gathered(indptr, columns_of(indptr, flat, self.matrix.shape[1])) != ABSENT
        return index if present.all() else index[present]

    def _ends(self, indptr: Numbers, size: int) -> Numbers:
        """`indptr` for all targets of a layer of `size` units."""
        positions = self.sources.shape[0]
        degrees = np.diff(indptr)
        own = np.tile(degrees, positions) if self.position_first else np.repeat(degrees, positions)
        ends = np.zeros(size + 1, np.int64)
        ends[self.first + 1 : self.first + 1 + own.size] = own
        return np.cumsum(ends)

    def _spread(self, indptr: Numbers, of_entry: Numbers) -> Numbers:
        """What belongs to each entry, for each connection."""
        positions = self.sources.shape[0]
        if positions == 1:
            return of_entry
        if self.position_first:
            return np.tile(of_entry, positions)
        parts = np.split(of_entry, indptr[1:-1])
        return np.concatenate([np.tile(part, positions) for part in parts])

    def _gathered(self, indptr: Numbers, columns: Numbers) -> Numbers:
        positions, groups, _ = self.sources.shape
        if positions == 1 and groups == 1:
            window = self.sources[0, 0]
            first = int(window[0]) if window.size else 0
            if np.array_equal(window, np.arange(first, first + window.size)):
                columns += first
                return columns
            found: Numbers = window[columns]
            return found
        rows = self.matrix.shape[0]
        group = np.arange(rows) // max(1, rows // groups)
        if self.position_first:
            each = np.repeat(group, np.diff(indptr))
            return self.sources[:, each, columns].reshape(-1)
        parts = [self.sources[:, group[row], columns[indptr[row] : indptr[row + 1]]].reshape(-1) for row in range(rows)]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class ShareWires:
    """Connections between channels, each of which stands for several entries.

    Attributes:
        sources: int64 ``[nnz]``, by target.
        targets: int64 ``[nnz]``, ascending, numbered within their layer.
        shares: float64 ``[nnz]`` in (0, 1], kept entries / all entries.
    """

    sources: Numbers
    targets: Numbers
    shares: NDArray[np.float64]

    @property
    def most(self) -> int:
        """See `Wires`."""
        return self.sources.size

    def renumbered(self, numbers: Numbers) -> ShareWires:
        """See `Wires`."""
        return replace(self, sources=numbers[self.sources])

    def rows(self, size: int) -> Rows:
        """See `Wires`."""
        return Rows(np.searchsorted(self.targets, np.arange(size + 1)), self.sources)


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """Connections without a parameter, as those of pooling or of a product of units.

    Attributes:
        sources: int64 ``[targets, k]``; a unit that occurs several times in a row is connected once.
        first: number of the first target, within its layer.
    """

    sources: Numbers
    first: int = 0

    @property
    def most(self) -> int:
        """See `Wires`."""
        return self.sources.size

    def renumbered(self, numbers: Numbers) -> Links:
        """See `Wires`."""
        return replace(self, sources=numbers[self.sources])

    def rows(self, size: int) -> Rows:
        """See `Wires`."""
        ordered = np.sort(self.sources, axis=1)
        present = ordered != ABSENT
        present[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
        ends = np.zeros(size + 1, np.int64)
        ends[self.first + 1 : self.first + 1 + present.shape[0]] = np.count_nonzero(present, axis=1)
        return Rows(np.cumsum(ends), ordered[present])


def shares_of(
    columns: Numbers, sources: Numbers, kept: NDArray[np.integer], entries: int, first: int = 0
) -> ShareWires:
    """Connections from channels to the targets of a matrix, with the kept share of the entries between them.

    Args:
        columns: int64 ``[n]``, column of the matrix that a channel has part in.
        sources: int64 ``[n]``, the channel. A channel may have several columns, and a column several channels.
        kept: int (targets, columns), number of entries that exist.
        entries: number of entries that each element of `kept` counts, existing or not.
        first: number of the first target, within its layer.
    """
    present = sources != NOTHING
    columns, sources = columns[present], sources[present]
    order = np.argsort(sources, kind="stable")
    columns, sources = columns[order], sources[order]
    channels, starts = np.unique(sources, return_index=True)
    if not channels.size:
        none = np.empty(0, np.int64)
        return ShareWires(none, none, np.empty(0))
    counts = np.add.reduceat(kept[:, columns], starts, axis=1, dtype=np.int64)
    totals = np.diff(np.append(starts, sources.size)) * entries
    targets, channel = np.nonzero(counts)
    return ShareWires(channels[channel], targets + first, counts[targets, channel] / totals[channel])
