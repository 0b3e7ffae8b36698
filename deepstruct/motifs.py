"""Motifs: how often small patterns of connections occur: butterflies in each layer, triangles across skip connections.

A butterfly is two units that share two sources, the 4-cycle of a bipartite graph (Sanei-Mehri et al. 2018). Triangles
exist only where a connection skips a layer; without skip connections triangle clustering is 0 by construction.
Recurrent connections are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array  # type: ignore[import-untyped]  # scipy has no types

from deepstruct.errors import UnsupportedError
from deepstruct.layer_matrices import LayerMatrices

MAX_WEDGES = 2 * 10**10
"""Pairs of connections with a unit in common above which counting is refused; up to there it takes about a minute."""

_CHUNK = 10**7  # wedges, or entries of a dense product, that are held at a time
_DENSE = 100  # multiplications of a dense product in the time that a sparse one takes for one wedge


class TooManyWedgesError(UnsupportedError):
    """Counting would take too long."""

    def __init__(self, wedges: float) -> None:
        super().__init__(f"{wedges:.1e} pairs of connections meet in a unit, and {MAX_WEDGES:.0e} are the limit")


@dataclass(frozen=True, slots=True)
class Butterflies:
    """Butterflies of a bipartite graph of sources and targets.

    Attributes:
        name: of the layer of the targets; ``""`` for the whole.
        butterflies: number of 4-cycles.
        three_paths: number of paths of three connections.
        clustering: ``4 * butterflies / three_paths`` (Robins & Alexander 2004), None without such paths.
    """

    name: str
    butterflies: int
    three_paths: int
    clustering: float | None


@dataclass(frozen=True, slots=True)
class ButterflyCounts:
    """Butterflies of each layer that connections lead to, and of the whole.

    Attributes:
        whole: of the graph in which each unit is once a source and once a target; with skip connections it has
            butterflies whose targets are in different layers.
    """

    whole: Butterflies
    layers: tuple[Butterflies, ...]

    def to_json(self) -> dict[str, Any]:
        """The counts as a JSON object."""
        return asdict(self)


def butterflies(matrices: LayerMatrices) -> ButterflyCounts:
    """Counts butterflies.

    Raises:
        TooManyWedgesError: it would take too long.
    """
    layers = tuple(
        _clustered(layer.name, incoming.compact(), count_butterflies(incoming.compact()))
        for layer, incoming, _ in matrices
        if incoming.matrix.shape[1]
    )
    total = sum(layer.butterflies for layer in layers) + _across_layers(matrices)
    return ButterflyCounts(_clustered("", matrices.acyclic, total), layers)


def _clustered(name: str, matrix: csr_array, number: int) -> Butterflies:
    """Adds the paths of length 3: each connection with another one at either end."""
    of_target = np.diff(matrix.indptr).astype(np.int64) - 1
    of_source = np.bincount(matrix.indices, minlength=matrix.shape[1]) - 1
    long = int(of_target.clip(0) @ (matrix @ of_source)) if matrix.nnz else 0
    return Butterflies(name, number, long, 4 * number / long if long else None)


def count_butterflies(matrix: csr_array) -> int:
    """Number of pairs of rows with two common columns, each such pair of columns counted.

    Args:
        matrix: bool, all stored entries True.

    Raises:
        TooManyWedgesError: it would take too long.
    """
    transposed = csr_array(matrix.T)
    side = min(matrix, transposed, key=lambda one: min(_work(one, one)))
    degrees = np.diff(side.indptr).astype(np.int64)
    with_itself = int((degrees * (degrees - 1) // 2).sum())
    return (_common_pairs(side, side) - with_itself) // 2


def _across_layers(matrices: LayerMatrices) -> int:
    """Butterflies whose two targets are in different layers."""
    whole = matrices.acyclic
    number = 0
    shared = np.zeros(matrices.units, np.bool_)
    for layer, incoming, _ in matrices:
        sources = np.unique(incoming.sources)
        if shared[sources].any():
            number += _common_pairs(whole[layer.start : layer.stop], whole[: layer.start])
        shared[sources] = True
    return number


def _work(left: csr_array, right: csr_array) -> tuple[float, float]:
    """Cost of multiplying with the transpose: wedges of a sparse product, and what a dense one takes in their time."""
    columns = (np.bincount(side.indices, minlength=side.shape[1]) for side in (left, right))
    return float(next(columns) @ next(columns)), left.shape[0] * right.shape[0] * left.shape[1] / _DENSE


def _common_pairs(left: csr_array, right: csr_array) -> int:
    """Sum of n (n - 1) / 2 over all pairs of a row of `left` and one of `right`, which have n columns in common."""
    sparse, dense = _work(left, right)
    if min(sparse, dense) > MAX_WEDGES:
        raise TooManyWedgesError(min(sparse, dense))
    products = dense_products(left, right) if dense < sparse else sparse_products(left, right)
    return sum(int((common * (common - 1) // 2).sum()) for common in products)


def dense_products(left: csr_array, right: csr_array) -> Iterator[NDArray[np.int64]]:
    """Numbers of common columns, for some rows of either side at a time, by dense multiplication in exact float32."""
    kind = np.float32 if left.shape[1] < 2**24 else np.float64
    rows = max(1, _CHUNK // max(1, left.shape[1]))
    for first in range(0, right.shape[0], rows):
        other = right[first : first + rows].astype(kind).toarray().T
        step = max(1, min(rows, _CHUNK // max(1, other.shape[1])))
        for start in range(0, left.shape[0], step):
            yield (left[start : start + step].astype(kind).toarray() @ other).astype(np.int64)


def sparse_products(left: csr_array, right: csr_array) -> Iterator[NDArray[np.int64]]:
    """The same by sparse multiplication, numbers that are 0 left out."""
    other = csr_array(right.T).astype(np.int64)
    for rows in _chunks(left, np.diff(other.indptr)):
        yield (left[rows].astype(np.int64) @ other).data


def _chunks(matrix: csr_array, weights: NDArray[np.integer]) -> Iterator[slice]:
    """Ranges of rows whose products with a matrix with so many entries in each row stay small."""
    work = np.cumsum(matrix @ weights.astype(np.int64))
    start = 0
    while start < matrix.shape[0]:
        done = int(work[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(work, done + _CHUNK, side="right")))
        yield slice(start, stop)
        start = stop


@dataclass(frozen=True, slots=True)
class Triangles:
    """Triangles of the undirected graph.

    Attributes:
        triangles: number.
        triples: pairs of connections with a unit in common.
        transitivity: ``3 * triangles / triples`` (Newman, Strogatz & Watts 2001), None without triples.
        skips: whether any unit has sources in layers of which one feeds the other; without, there are no triangles.
    """

    triangles: int
    triples: int
    transitivity: float | None
    skips: bool

    def to_json(self) -> dict[str, Any]:
        """The counts as a JSON object."""
        return asdict(self)


def triangles(matrices: LayerMatrices) -> Triangles:
    """Counts triangles.

    Raises:
        TooManyWedgesError: it would take too long.
    """
    whole = matrices.acyclic
    degrees = np.diff(whole.indptr).astype(np.int64) + np.bincount(whole.indices, minlength=matrices.units)
    triples = int((degrees * (degrees - 1) // 2).sum())
    fed: dict[int, set[int]] = {}
    for block in matrices.graph.blocks:
        if not block.recurrent:
            fed.setdefault(block.layer, set()).update(block.layers)
    number, skips = 0, False
    for position, sources in fed.items():
        between = [source for source in sorted(sources) if fed.get(source, set()) & sources]
        if between:
            skips = True
            layer = matrices.graph.layers[position]
            own = csr_array(whole[layer.start : layer.stop])
            middle = np.flatnonzero(matrices.marked(between))
            number += _closed(csr_array(own[:, middle]), csr_array(whole[middle]), own)
    return Triangles(number, triples, 3 * number / triples if triples else None, skips)


def _closed(own: csr_array, above: csr_array, direct: csr_array) -> int:
    """Paths of two connections, ``own @ above``, between whose ends there is a direct one."""
    weights = np.diff(above.indptr)
    wedges = int(np.bincount(own.indices, minlength=own.shape[1]) @ weights)
    if wedges > MAX_WEDGES:
        raise TooManyWedgesError(wedges)
    other = above.astype(np.int64)
    return sum(int((own[rows].astype(np.int64) @ other).multiply(direct[rows]).sum()) for rows in _chunks(own, weights))
