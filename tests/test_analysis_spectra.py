"""Spectra against dense linear algebra, and small worlds against their definition, on small random graphs."""

from __future__ import annotations

import warnings
from collections import Counter

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array  # type: ignore[import-untyped]  # scipy has no types
from scipy.sparse.linalg import ArpackNoConvergence  # type: ignore[import-untyped]  # scipy has no types
from unit_graphs import chain, matrices, undirected, unit_graphs

from deepstruct import spectra
from deepstruct.errors import UnsupportedError
from deepstruct.small_world import random_reference, small_world
from deepstruct.units import UnitGraph


@given(unit_graphs())
def test_spectrum(graph: UnitGraph) -> None:
    found = spectra.spectrum(matrices(graph))
    dense = graph.adjacency().toarray().T
    acyclic = matrices(graph).acyclic.toarray()
    by_name = {own.name: own for own in found.layers}
    for layer in graph.layers:
        mask = acyclic[layer.start : layer.stop]
        assert (layer.name in by_name) == mask.any()
        if not mask.any():
            continue
        own = by_name[layer.name]
        values = [*np.linalg.svd(mask.astype(float), compute_uv=False), 0.0][:2]
        assert own.first == pytest.approx(values[0])
        alone = min(np.count_nonzero(mask.any(axis=axis)) for axis in (0, 1)) == 1
        assert own.second == (None if alone else pytest.approx(values[1], abs=1e-6))
        means = [mask.sum() / np.count_nonzero(mask.any(axis=axis)) for axis in (0, 1)]
        assert own.bound == pytest.approx(sum(np.sqrt(mean - 1) for mean in means), abs=1e-9)
    network = undirected(graph)
    sizes = [len(part) for part in nx.connected_components(network)]
    assert found.component == max(sizes, default=0)
    largest = [part for part in nx.connected_components(network) if len(part) == found.component]
    if found.component < 2:
        assert found.laplacian_gap is None
    elif len(largest) == 1:
        laplacian = nx.normalized_laplacian_matrix(network.subgraph(largest[0])).toarray()
        assert found.laplacian_gap == pytest.approx(np.linalg.eigvalsh(laplacian)[1], abs=1e-8)
    assert dense.shape == (graph.units, graph.units)


@st.composite
def wide_masks(draw: st.DrawFn) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Masks of several components, some of them the same twice."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parts = [
        rng.random((draw(st.integers(1, 12)), draw(st.integers(1, 12)))) < draw(st.sampled_from([0.2, 0.6, 1.0]))
        for _ in range(draw(st.integers(1, 4)))
    ]
    parts += parts[: draw(st.integers(0, 2))]
    mask = np.zeros((sum(p.shape[0] for p in parts) + 1, sum(p.shape[1] for p in parts) + 1), np.bool_)
    row = column = 0
    for part in parts:
        mask[row : row + part.shape[0], column : column + part.shape[1]] = part
        row, column = row + part.shape[0], column + part.shape[1]
    return mask[rng.permutation(mask.shape[0])][:, rng.permutation(mask.shape[1])]


@given(wide_masks())
def test_singular_values_of_iterations(mask: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> None:
    """With matrices above 3 rows iterated component by component, equal values are found twice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spectra, "DENSE", 3)
        patch.setattr(spectra, "_CHUNK", 5)
        found = spectra.largest_singular_values(csr_array(mask))
    expected = [*np.linalg.svd(mask.astype(float), compute_uv=False), 0.0][:2]
    assert found == pytest.approx(tuple(expected), abs=1e-5)


@given(st.integers(4, 40), st.integers(0, 2**32 - 1))
def test_laplacian_gap_of_iterations(size: int, seed: int) -> None:
    network = nx.compose(nx.gnp_random_graph(size, 0.1, seed=seed), nx.path_graph(size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spectra, "DENSE", 3)
        found = spectra.laplacian_gap(csr_array(nx.to_scipy_sparse_array(network), dtype=np.bool_))
    expected = np.linalg.eigvalsh(nx.normalized_laplacian_matrix(network).toarray())[1]
    assert found == pytest.approx(expected, abs=1e-8)


def test_iterations_that_do_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_: object, **__: object) -> None:
        raise ArpackNoConvergence("no convergence", [], [])

    monkeypatch.setattr(spectra, "DENSE", 1)
    monkeypatch.setattr(spectra, "eigsh", endless)
    with pytest.raises(UnsupportedError, match="were not found"):
        spectra.spectrum(matrices(chain(np.ones((3, 3)))))
    assert spectra.laplacian_gap(csr_array(nx.to_scipy_sparse_array(nx.path_graph(4)), dtype=np.bool_)) is None


def test_small_world() -> None:
    """Neighbours connected with neighbours: clustered more than chance, and hardly longer ways."""
    near = [[int(abs(i - j) % 96 in (0, 1, 2, 94, 95)) for j in range(100)] for i in range(100)]
    found = small_world(matrices(chain(near, near, near)))
    assert found.clustering is not None
    assert found.reference_clustering is not None
    assert found.sigma is not None
    assert found.clustering > 5 * found.reference_clustering
    assert found.sigma > 1
    assert found == small_world(matrices(chain(near, near, near)))


@given(unit_graphs())
def test_references_have_as_many_connections(graph: UnitGraph) -> None:
    own = matrices(graph)
    other = matrices(random_reference(own, np.random.default_rng(0)))
    counts = []
    for one in (own, other):
        targets, sources = one.acyclic.nonzero()
        counts.append(Counter(zip(graph.layer_of[sources].tolist(), graph.layer_of[targets].tolist(), strict=True)))
    assert counts[0] == counts[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small_world(own)
