"""Components and cores: which units hang together, and how firmly, whatever the direction of connections."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array  # type: ignore[import-untyped]  # scipy has no types
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]  # scipy has no types

from deepstruct.degrees import Distribution
from deepstruct.layer_matrices import LayerMatrices
from deepstruct.liveness import Liveness
from deepstruct.units import Numbers


@dataclass(frozen=True, slots=True)
class Component:
    """Weakly connected components of some units; a unit without connections is one by itself.

    Attributes:
        number: of components.
        largest: units of the largest.
        share: of the units that are in the largest, None without units.
    """

    number: int
    largest: int
    share: float | None


@dataclass(frozen=True, slots=True)
class Components:
    """Components of all units, and of the live units and the connections between them."""

    units: Component
    live: Component

    def to_json(self) -> dict[str, Any]:
        """The components as a JSON object."""
        return asdict(self)


def components(matrices: LayerMatrices, found: Liveness) -> Components:
    """Weakly connected components, recurrent connections included."""
    whole = matrices.whole
    if found.live.all():
        same = _components(whole)
        return Components(same, same)
    live = np.flatnonzero(found.live)
    return Components(_components(whole), _components(csr_array(whole[live][:, live])))


def _components(matrix: csr_array) -> Component:
    units = matrix.shape[0]
    if not units:
        return Component(0, 0, None)
    number, labels = connected_components(matrix, directed=True, connection="weak")
    largest = int(np.bincount(labels).max())
    return Component(int(number), largest, largest / units)


@dataclass(frozen=True, slots=True)
class Cores:
    """The k-cores of the undirected graph: what is left when units with fewer than k neighbours are taken away.

    Attributes:
        largest: greatest k whose core is not empty, the degeneracy; None without units.
        units: in that core.
        numbers: distribution of the core number of a unit, the greatest k whose core it is in.
    """

    largest: int | None
    units: int
    numbers: Distribution | None

    def to_json(self) -> dict[str, Any]:
        """The cores as a JSON object."""
        return asdict(self)


def cores(matrices: LayerMatrices) -> Cores:
    """Core numbers of the undirected graph, recurrent connections included, self-loops left out."""
    numbers = core_numbers(matrices.undirected)
    if not numbers.size:
        return Cores(None, 0, None)
    largest = int(numbers.max())
    return Cores(largest, int(np.count_nonzero(numbers == largest)), Distribution.of(numbers))


def core_numbers(undirected: csr_array) -> Numbers:
    """Core number of each unit of a symmetric matrix without diagonal, int64 ``[units]``.

    Units are taken away in rounds, as Batagelj & Zaversnik (2003) do one by one; each connection is looked at twice.
    """
    indptr, indices = undirected.indptr, undirected.indices
    degree = np.diff(indptr).astype(np.int64)
    numbers = np.zeros(degree.size, np.int64)
    left = np.flatnonzero(degree >= 0)
    removed = np.zeros(degree.size, np.bool_)
    k = 0
    while left.size:
        k = max(k, int(degree[left].min()))
        frontier = left[degree[left] <= k]
        while frontier.size:
            numbers[frontier] = k
            removed[frontier] = True
            neighbours = _neighbours(indptr, indices, frontier)
            neighbours = neighbours[~removed[neighbours]]
            distinct, lost = np.unique(neighbours, return_counts=True)
            degree[distinct] -= lost
            frontier = distinct[degree[distinct] <= k]
        left = left[~removed[left]]
    return numbers


def _neighbours(indptr: NDArray[np.integer], indices: NDArray[np.integer], rows: Numbers) -> NDArray[np.integer]:
    """Columns of several rows of a CSR matrix, one row after another."""
    starts = indptr[rows].astype(np.int64)
    sizes = indptr[rows + 1] - starts
    ends = np.cumsum(sizes)
    offsets = np.arange(ends[-1]) - np.repeat(ends - sizes, sizes)
    found: NDArray[np.integer] = indices[np.repeat(starts, sizes) + offsets]
    return found
