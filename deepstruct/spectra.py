"""Spectra: how well connections mix units, by the largest eigenvalues of a layer's bipartite graph and of the whole.

All values are of matrices of zeros and ones; weights play no part. Lanczos iterations start from a fixed vector.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array  # type: ignore[import-untyped]  # scipy has no types
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]  # scipy has no types
from scipy.sparse.linalg import (  # type: ignore[import-untyped]  # scipy has no types
    ArpackError,
    LinearOperator,
    eigsh,
)

from deepstruct.errors import UnsupportedError
from deepstruct.layer_matrices import LayerMatrices

DENSE = 200
"""Matrices whose smaller side is at most that are decomposed densely."""

_CHUNK = 10**7  # entries of a dense matrix that are held at a time
_ITERATIONS = 1_000
_TOLERANCE = 1e-10


@dataclass(frozen=True, slots=True)
class LayerSpectrum:
    """The bipartite graph of the connections into one layer, within one step.

    Attributes:
        name: of the layer.
        first: largest singular value of the biadjacency matrix, which is the largest eigenvalue of the graph.
        second: the next one, equal to `first` if two components share it; None if one target or one source alone has
            connections.
        gap: ``first - second``.
        bound: sqrt(l - 1) + sqrt(r - 1) with the mean degrees l and r of targets and sources that have connections.
        ramanujan_gap: ``bound - second``; not negative for a Ramanujan graph (Hoang et al. 2023).
    """

    name: str
    first: float
    second: float | None
    gap: float | None
    bound: float
    ramanujan_gap: float | None


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Spectra of layers, and the spectral gap of the whole.

    Attributes:
        layers: those that have connections into them.
        laplacian_gap: second smallest eigenvalue of the normalised Laplacian of the largest weakly connected component,
            recurrent connections included, self-loops left out; None if that is one unit, or if the iteration does
            not end.
        component: units of that component.
    """

    layers: tuple[LayerSpectrum, ...]
    laplacian_gap: float | None
    component: int

    def to_json(self) -> dict[str, Any]:
        """The spectra as a JSON object."""
        return asdict(self)


def spectrum(matrices: LayerMatrices) -> Spectrum:
    """Spectra of every layer and of the whole."""
    layers = tuple(_layer_spectrum(layer.name, incoming.compact()) for layer, incoming, _ in matrices if incoming.nnz)
    largest = _largest_component(matrices.undirected)
    gap = laplacian_gap(largest) if largest.shape[0] > 1 else None
    return Spectrum(layers, None if gap is None else _rounded(gap), int(largest.shape[0]))


def _layer_spectrum(name: str, matrix: csr_array) -> LayerSpectrum:
    matrix = csr_array(matrix[np.flatnonzero(np.diff(matrix.indptr))])
    bound = sum(math.sqrt(matrix.nnz / extent - 1) for extent in matrix.shape)
    first, second = largest_singular_values(matrix)
    if second is None:
        return LayerSpectrum(name, _rounded(first), None, None, _rounded(bound), None)
    gaps = _rounded(first - second), _rounded(bound - second)
    return LayerSpectrum(name, _rounded(first), _rounded(second), gaps[0], _rounded(bound), gaps[1])


def _rounded(value: float) -> float:
    """The value to 9 decimals, so that it does not depend on the order of sums."""
    return round(value, 9) + 0.0


def largest_singular_values(matrix: csr_array) -> tuple[float, float | None]:
    """The two largest singular values of a matrix of zeros and ones; the second is None with one row or column.

    They are found component by component: within one, the first is simple (Perron and Frobenius), so that an
    iteration cannot miss that two are equal.
    """
    rows, columns = matrix.shape
    if min(rows, columns) <= DENSE:
        first, *others = _dense_values(matrix)
        return first, next(iter(others), None)
    ends = np.append(matrix.indptr, np.full(columns, matrix.nnz, matrix.indptr.dtype))
    shape = (rows + columns, rows + columns)
    square = csr_array((matrix.data, matrix.indices + rows, ends), shape=shape)
    number, labels = connected_components(square, directed=True, connection="weak")
    of_row, of_column = labels[:rows], labels[rows:]
    row_order, column_order = np.argsort(of_row, kind="stable"), np.argsort(of_column, kind="stable")
    row_ends = np.searchsorted(of_row[row_order], np.arange(number + 1))
    column_ends = np.searchsorted(of_column[column_order], np.arange(number + 1))
    bounds = _bounds(matrix, of_row, of_column, number)
    found = [0.0, 0.0]
    for component in np.argsort(-bounds, kind="stable").tolist():
        if bounds[component] <= found[1]:
            break
        own = row_order[row_ends[component] : row_ends[component + 1]]
        part = matrix[own][:, column_order[column_ends[component] : column_ends[component + 1]]]
        values = _dense_values(part) if min(part.shape) <= DENSE else _iterated(part)
        found = sorted([*found, *values], reverse=True)[:2]
    return found[0], found[1]


def _bounds(matrix: csr_array, of_row: NDArray[Any], of_column: NDArray[Any], number: int) -> NDArray[np.float64]:
    """For each component, what no singular value exceeds: the geometric mean of the largest degrees of the sides."""
    rows, columns = np.zeros(number), np.zeros(number)
    np.maximum.at(rows, of_row, np.diff(matrix.indptr))
    np.maximum.at(columns, of_column, np.bincount(matrix.indices, minlength=matrix.shape[1]))
    return np.sqrt(rows * columns)


def _dense_values(matrix: csr_array) -> list[float]:
    """The two largest singular values of a matrix with a short side; one, if that is 1."""
    long = csr_array(matrix.T) if matrix.shape[0] <= matrix.shape[1] else matrix
    gram = np.zeros((long.shape[1], long.shape[1]))
    step = max(1, _CHUNK // long.shape[1])
    for start in range(0, long.shape[0], step):
        rows = long[start : start + step].astype(np.float64).toarray()
        gram += rows.T @ rows
    return _roots(np.linalg.eigvalsh(gram)[-2:])


def _roots(values: NDArray[np.float64]) -> list[float]:
    """Singular values from one or two eigenvalues of a Gram matrix, greatest first."""
    roots = np.sqrt(np.sort(values)[::-1].clip(0)).tolist()
    return [root if root > 1e-7 * roots[0] else 0.0 for root in roots]  # as accurate as roots of eigenvalues are


def _iterated(matrix: csr_array) -> list[float]:
    """The two largest singular values of a large matrix whose largest is simple."""
    numbers = matrix.astype(np.float64)
    if numbers.shape[0] > numbers.shape[1]:
        numbers = csr_array(numbers.T)
    other = csr_array(numbers.T)
    size = numbers.shape[0]
    gram = LinearOperator((size, size), matvec=lambda x: numbers @ (other @ x), dtype=np.float64)
    try:
        values = eigsh(
            gram, k=2, which="LA", v0=_start(size), maxiter=_ITERATIONS, tol=_TOLERANCE, return_eigenvectors=False
        )
    except ArpackError as error:
        raise UnsupportedError(f"the singular values of a layer were not found: {error}") from error
    return _roots(values)


def _start(size: int) -> NDArray[np.float64]:
    """The vector that iterations start from, in no special position to the sought ones."""
    return np.random.default_rng(0).standard_normal(size)


def _largest_component(matrix: csr_array) -> csr_array:
    """The largest connected component of a symmetric matrix, the first of equal ones."""
    if not matrix.shape[0]:
        return matrix
    _, labels = connected_components(matrix, directed=False)
    own = np.flatnonzero(labels == np.bincount(labels).argmax())
    return csr_array(matrix[own][:, own])


def laplacian_gap(matrix: csr_array) -> float | None:
    """Second smallest eigenvalue of the normalised Laplacian of a connected graph of at least two units.

    The eigenvalue 0 is known, with the roots of degrees as its vector; it is moved out of the way.
    """
    size = matrix.shape[0]
    degrees = np.diff(matrix.indptr).astype(np.float64)
    scale = diags_array(1 / np.sqrt(degrees))
    numbers = csr_array(scale @ matrix.astype(np.float64) @ scale)
    if size <= DENSE:
        return max(0.0, 1.0 - float(np.linalg.eigvalsh(numbers.toarray())[-2]))
    known = np.sqrt(degrees / degrees.sum())
    moved = LinearOperator(
        (size, size), matvec=lambda x: numbers @ x - 2 * known * (known @ x.reshape(-1)), dtype=np.float64
    )
    try:
        (value,) = eigsh(
            moved, k=1, which="LA", v0=_start(size), maxiter=_ITERATIONS, tol=_TOLERANCE, return_eigenvectors=False
        )
    except ArpackError:
        return None
    return max(0.0, 1.0 - float(value))
