"""Each measure against networkx, or against counting one by one, on small random graphs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array  # type: ignore[import-untyped]  # scipy has no types
from unit_graphs import chain, directed, matrices, undirected, unit_graph, unit_graphs, units_of

from deepstruct import motifs
from deepstruct.components import components, core_numbers, cores
from deepstruct.degrees import BINS, Distribution, assortativity, degrees
from deepstruct.distances import Lengths, distances, undirected_lengths
from deepstruct.liveness import liveness
from deepstruct.paths import paths
from deepstruct.units import UnitGraph


@given(unit_graphs())
def test_matrices_have_each_connection_once(graph: UnitGraph) -> None:
    found = matrices(graph)
    for whole, recurrent in ((found.whole, True), (found.acyclic, False)):
        expected = sorted((target, source) for source, target in directed(graph, recurrent=recurrent).edges)
        assert sorted(zip(*(ends.tolist() for ends in whole.nonzero()), strict=True)) == expected
        assert whole.has_canonical_format
    assert (found.whole != graph.adjacency().T).nnz == 0
    pairs = {tuple(sorted(ends)) for ends in zip(*(e.tolist() for e in found.undirected.nonzero()), strict=True)}
    assert pairs == {tuple(sorted(edge)) for edge in undirected(graph).edges}
    assert (found.undirected != found.undirected.T).nnz == 0


@given(unit_graphs())
def test_liveness(graph: UnitGraph) -> None:
    found = liveness(matrices(graph))
    network = directed(graph)
    inputs, outputs = set(units_of(graph, graph.inputs)), set(graph.output_units.tolist())
    reached = inputs.union(*(nx.descendants(network, unit) for unit in inputs))
    used = outputs.union(*(nx.ancestors(network, unit) for unit in outputs))
    assert set(np.flatnonzero(found.reached)) == reached
    assert set(np.flatnonzero(found.used)) == used
    assert set(np.flatnonzero(found.live)) == reached & used
    forward = set(directed(graph, recurrent=False).edges)
    back = {edge for one in graph.blocks if one.recurrent for edge in zip(*graph.edges(one), strict=True)}
    for position, layer in enumerate(graph.layers):
        into = [edge for kind in (forward, back) for edge in kind if layer.start <= edge[1] < layer.stop]
        live = [edge for edge in into if edge[0] in reached and edge[1] in used]
        assert found.connections[position] == len(live)


@given(unit_graphs())
def test_degrees(graph: UnitGraph) -> None:
    found = degrees(matrices(graph))
    network = directed(graph)
    for distribution, values in ((found.incoming, network.in_degree()), (found.outgoing, network.out_degree())):
        numbers = [value for _, value in values]
        if not numbers:
            assert distribution is None
            continue
        assert distribution is not None
        assert (distribution.minimum, distribution.maximum) == (min(numbers), max(numbers))
        assert distribution.mean == pytest.approx(np.mean(numbers))
        assert distribution.std == pytest.approx(np.std(numbers), abs=1e-12)
        assert [(one.first, one.last, one.units) for one in distribution.histogram] == [
            (value, value, count) for value, count in sorted(Counter(numbers).items())
        ]
    for layer, own in zip(graph.layers, found.layers, strict=True):
        if own.incoming is not None:
            assert own.incoming.mean * layer.size == pytest.approx(
                sum(network.in_degree(unit) for unit in range(layer.start, layer.stop))
            )


def degrees_like() -> st.SearchStrategy[list[int]]:
    """Few values, and many different ones, which are put into bins."""
    seeds = st.builds(np.random.default_rng, st.integers(0, 2**32 - 1))
    many = st.builds(lambda rng, high: rng.integers(high // 2, high, 200).tolist(), seeds, st.integers(70, 1000))
    return st.lists(st.integers(0, 500), min_size=1, max_size=200) | many


@given(degrees_like())
def test_distributions(values: list[int]) -> None:
    found = Distribution.of(np.array(values))
    assert found is not None
    assert len(found.histogram) <= BINS
    for one in found.histogram:
        assert one.units == sum(one.first <= value <= one.last for value in values)
    assert sum(one.units for one in found.histogram) == len(values)
    assert all(left.last < right.first for left, right in zip(found.histogram, found.histogram[1:], strict=False))
    if not any(values):
        assert found.gini is None
    else:
        difference = np.abs(np.subtract.outer(values, values)).mean()
        assert found.gini == pytest.approx(difference / (2 * np.mean(values)), abs=1e-12)


@given(unit_graphs())
def test_assortativity(graph: UnitGraph) -> None:
    found = assortativity(matrices(graph))
    network = directed(graph)
    incoming, outgoing = dict(network.in_degree()), dict(network.out_degree())
    for name, of_source, of_target in (
        ("out_in", outgoing, incoming),
        ("out_out", outgoing, outgoing),
        ("in_in", incoming, incoming),
        ("in_out", incoming, outgoing),
    ):
        x = [of_source[source] for source, _ in network.edges]
        y = [of_target[target] for _, target in network.edges]
        if len(set(x)) < 2 or len(set(y)) < 2:
            assert getattr(found, name) is None
        else:
            assert getattr(found, name) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)


def test_assortativity_is_that_of_networkx() -> None:
    rng = np.random.default_rng(0)
    edges = [(i, j) for i in range(20) for j in range(20, 40) if rng.random() < 0.2]
    edges += [(i, j) for i in range(20, 40) for j in range(40, 50) if rng.random() < 0.3]
    graph = unit_graph([20, 20, 10], edges)
    found = assortativity(matrices(graph))
    for x in ("out", "in"):
        for y in ("out", "in"):
            expected = nx.degree_pearson_correlation_coefficient(directed(graph), x, y)
            assert getattr(found, f"{x}_{y}") == pytest.approx(expected)


@given(unit_graphs(most=3))
def test_paths(graph: UnitGraph) -> None:
    found = paths(matrices(graph))
    network = directed(graph, recurrent=False)
    inputs, outputs = units_of(graph, graph.inputs), sorted(set(graph.output_units.tolist()))
    lengths: list[int] = []
    nearest: dict[int, int] = {}
    for source in inputs:
        for target in outputs:
            own = [0] if source == target else [len(p) - 1 for p in nx.all_simple_paths(network, source, target)]
            lengths += own
            if own:
                nearest[target] = min(nearest.get(target, 99), *own, 99)
    assert found.count == len(lengths)
    if not lengths:
        assert (found.shortest, found.longest, found.mean_shortest, found.log10_count) == (None,) * 4
    else:
        assert (found.shortest, found.longest) == (min(lengths), max(lengths))
        assert found.mean_shortest == pytest.approx(np.mean(list(nearest.values())))
        assert found.log10_count == pytest.approx(math.log10(len(lengths)), abs=1e-12)


@pytest.mark.parametrize(("layers", "width"), [(20, 4), (26, 4), (27, 4), (40, 5), (300, 12)])
def test_many_paths(layers: int, width: int) -> None:
    """Full layers one behind the other: the number is a power, and grows beyond float64."""
    full = [np.ones((width, width)).tolist()] * layers
    found = paths(matrices(chain(*full)))
    expected = width ** (layers + 1)
    assert found.count == (expected if expected < 2**53 else None)
    assert found.log10_count == pytest.approx((layers + 1) * math.log10(width), rel=1e-12)
    assert found.longest == layers


def test_counts_that_no_output_needs_do_not_matter() -> None:
    """A dead branch with more paths than float64 holds beside one that leads to the output."""
    width, layers = 12, 300
    dead = np.ones((width, width))
    masks = []
    for _ in range(layers):
        mask = np.zeros((width + 1, width + 1))
        mask[:width, :width] = dead
        mask[width, width] = 1
        masks.append(mask.tolist())
    last = np.zeros((1, width + 1))
    last[0, width] = 1
    assert paths(matrices(chain(*masks, last.tolist()))).count == 1


def same(found: Lengths, expected: Lengths) -> bool:
    """Whether two are the same but for the order of the sum that an efficiency is."""
    assert found.efficiency == pytest.approx(expected.efficiency)
    return replace(found, efficiency=None) == replace(expected, efficiency=None)


def lengths_of(network: nx.DiGraph[int] | nx.Graph[int], sources: list[int], targets: set[int]) -> Lengths:
    found = [
        length
        for source in sources
        for target, length in nx.single_source_shortest_path_length(network, source).items()
        if target in targets and target != source
    ]
    possible = sum(target != source for source in sources for target in targets)
    return Lengths(
        sources=len(sources),
        exact=True,
        pairs=len(found),
        mean=sum(found) / len(found) if found else None,
        longest=max(found, default=None),
        efficiency=sum(1 / length for length in found) / possible if possible else None,
    )


@given(unit_graphs())
def test_distances(graph: UnitGraph) -> None:
    found = distances(matrices(graph))
    network = directed(graph, recurrent=False)
    everything = list(network)
    outputs = set(graph.output_units.tolist())
    assert same(found.input_output, lengths_of(network, units_of(graph, graph.inputs), outputs))
    assert same(found.directed, lengths_of(network, everything, set(everything)))
    assert same(found.undirected, lengths_of(undirected(graph, recurrent=False), everything, set(everything)))


def test_distances_of_more_units_than_a_word_has_bits_and_than_are_sampled() -> None:
    rng = np.random.default_rng(1)
    graph = chain(*(rng.random((90, 90)) < 0.03 for _ in range(4)))
    network = undirected(graph)
    exact = undirected_lengths(matrices(graph).acyclic, sample=10_000)
    assert same(exact, lengths_of(network, list(network), set(network)))
    sampled = undirected_lengths(matrices(graph).acyclic, sample=100)
    assert (sampled.sources, sampled.exact) == (100, False)
    assert sampled.mean == pytest.approx(exact.mean, rel=0.05)
    assert sampled == undirected_lengths(matrices(graph).acyclic, sample=100)


@given(unit_graphs())
def test_components(graph: UnitGraph) -> None:
    own = matrices(graph)
    state = liveness(own)
    found = components(own, state)
    network = directed(graph)
    for component, part in (
        (found.units, network),
        (found.live, network.subgraph(np.flatnonzero(state.live).tolist())),
    ):
        sizes = [len(units) for units in nx.weakly_connected_components(part)]
        assert (component.number, component.largest) == (len(sizes), max(sizes, default=0))
        assert component.share == (pytest.approx(max(sizes) / sum(sizes)) if sizes else None)


@given(unit_graphs())
def test_cores(graph: UnitGraph) -> None:
    expected = nx.core_number(undirected(graph))
    own = matrices(graph)
    assert core_numbers(own.undirected).tolist() == [expected[unit] for unit in range(graph.units)]
    found = cores(own)
    assert found.largest == max(expected.values(), default=None)
    assert found.units == sum(number == found.largest for number in expected.values())


@given(st.integers(2, 60), st.integers(0, 2**32 - 1), st.floats(0.02, 0.5))
def test_core_numbers_of_any_graph(size: int, seed: int, density: float) -> None:
    network = nx.gnp_random_graph(size, density, seed=seed)
    matrix = csr_array(nx.to_scipy_sparse_array(network), dtype=np.bool_)
    assert core_numbers(matrix).tolist() == [nx.core_number(network)[unit] for unit in range(size)]


def bipartite(graph: UnitGraph, units: range) -> nx.Graph[tuple[str, int]]:
    """Sources and targets of the connections into some units, each unit once on either side."""
    found: nx.Graph[tuple[str, int]] = nx.Graph()
    for source, target in directed(graph, recurrent=False).edges:
        if target in units:
            found.add_edge(("source", source), ("target", target))
    return found


def counted_butterflies(network: nx.Graph[tuple[str, int]]) -> int:
    targets = [node for node in network if node[0] == "target"]
    shared = (len(set(network[one]) & set(network[other])) for one, other in combinations(targets, 2))
    return sum(math.comb(number, 2) for number in shared)


@given(unit_graphs())
def test_butterflies(graph: UnitGraph) -> None:
    found = motifs.butterflies(matrices(graph))
    by_name = {own.name: own for own in found.layers}
    parts = [(by_name[layer.name], range(layer.start, layer.stop)) for layer in graph.layers if layer.name in by_name]
    for own, units in [*parts, (found.whole, range(graph.units))]:
        network = bipartite(graph, units)
        assert own.butterflies == counted_butterflies(network)
        degree = network.degree
        assert own.three_paths == sum((degree[a] - 1) * (degree[b] - 1) for a, b in network.edges)
        if own.three_paths:
            expected = nx.bipartite.robins_alexander_clustering(network)
            assert own.clustering == pytest.approx(expected)
        else:
            assert own.clustering is None


@pytest.mark.parametrize("density", [0.01, 0.9])
def test_butterflies_of_large_matrices_in_pieces(density: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motifs, "_CHUNK", 1_000)
    mask = np.random.default_rng(0).random((150, 200)) < density
    common = mask.astype(np.int64) @ mask.T
    expected = sum(math.comb(int(common[i, j]), 2) for i, j in combinations(range(150), 2))
    for matrix in (mask, mask.T):
        assert motifs.count_butterflies(csr_array(matrix)) == expected


def test_both_ways_of_counting_agree() -> None:
    rng = np.random.default_rng(0)
    left, right = (csr_array(rng.random((rows, 50)) < 0.2) for rows in (30, 40))
    sums = [
        sum(int((one * (one - 1) // 2).sum()) for one in products(left, right))
        for products in (motifs.dense_products, motifs.sparse_products)
    ]
    assert sums[0] == sums[1] > 0


def test_counting_that_would_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motifs, "MAX_WEDGES", 0)
    with pytest.raises(motifs.TooManyWedgesError, match="meet in a unit"):
        motifs.butterflies(matrices(chain(np.ones((3, 3)).tolist())))
    with pytest.raises(motifs.TooManyWedgesError, match="meet in a unit"):
        motifs.triangles(matrices(unit_graph([1, 1, 1], [(0, 1), (1, 2), (0, 2)])))


@given(unit_graphs())
def test_triangles(graph: UnitGraph) -> None:
    found = motifs.triangles(matrices(graph))
    network = undirected(graph, recurrent=False)
    assert found.triangles == sum(number for _, number in nx.triangles(network).items()) // 3  # type: ignore[union-attr,misc]  # a dict for all nodes
    assert found.triples == sum(math.comb(degree, 2) for _, degree in network.degree)
    if found.triples:
        assert found.transitivity == pytest.approx(nx.transitivity(network))
    else:
        assert found.transitivity is None
    assert found.skips or not found.triangles
