"""The layers of graphs and their edges as entries of masks."""

from __future__ import annotations

import itertools
import time
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typed_graphs import typed_graphs

from deepstruct.graph import CachedLayeredGraph, LabeledDAG, LayeredGraph
from deepstruct.wiring import wiring_of

Graph = Any  # networkx is not generic at run time


@given(graph=typed_graphs(), kind=st.sampled_from([nx.DiGraph, LayeredGraph, CachedLayeredGraph, nx.MultiDiGraph]))
def test_every_edge_is_an_entry_of_a_mask(graph: Graph, kind: Any) -> None:
    directed: Graph = kind()
    directed.add_nodes_from(graph)
    place = {vertex: number for number, vertex in enumerate(graph)}
    directed.add_edges_from({(u, v) if place[u] < place[v] else (v, u) for u, v in graph.edges()})
    wiring, connections = wiring_of(directed)
    layers = list(nx.topological_generations(nx.DiGraph(directed)))
    assert [set(layer) for layer in wiring.vertices] == [set(layer) for layer in layers]
    assert all(list(layer) == sorted(layer, key=list(directed).index) for layer in wiring.vertices)
    found = set()
    for position, index in zip(connections.layer.tolist(), connections.index.tolist(), strict=True):
        source, target = wiring.pairs[position]
        row, column = divmod(index, wiring.sizes[source])
        found.add((wiring.vertices[source][column], wiring.vertices[target][row]))
    assert found == set(directed.edges())
    assert connections.layer.size == directed.number_of_edges()
    assert wiring.skips == tuple(sorted(set(wiring.skips), key=lambda pair: pair[::-1]))


def test_layers_that_the_user_gave() -> None:
    graph = LabeledDAG()
    graph.add_vertices(2, layer=0)
    graph.add_vertices(1, layer=3)
    graph.add_vertices(1, layer=7)
    graph.add_edges_from([(0, 3), (1, 2)])
    wiring, connections = wiring_of(graph)
    assert wiring.vertices == ((0, 1), (2,), (3,))
    assert wiring.skips == ((0, 2),)
    assert sorted(zip(connections.layer.tolist(), connections.index.tolist(), strict=True)) == [(0, 1), (2, 0)]


@pytest.mark.parametrize(
    ("graph", "match"),
    [
        (nx.cycle_graph(3, create_using=nx.DiGraph), "cycle.* 0 -> 1 -> 2 -> 0"),
        (nx.DiGraph([(1, 1)]), "cycle.* 1 -> 1"),
        (nx.DiGraph(), "no vertices"),
        (nx.path_graph(3), "undirected"),
        (nx.MultiDiGraph([(0, 1), (0, 1)]), "2 parallel edges 0 -> 1"),
    ],
    ids=["cycle", "loop", "empty", "undirected", "parallel"],
)
def test_what_has_no_layers_is_refused(graph: Graph, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        wiring_of(graph)


def test_time_is_linear_in_vertices_and_edges() -> None:
    def seconds(vertices: int) -> float:
        graph: Graph = nx.DiGraph(itertools.pairwise(range(vertices)))
        graph.add_edges_from((vertex, vertex + 7) for vertex in range(vertices - 7))
        started = time.perf_counter()
        wiring, _ = wiring_of(graph)
        assert len(wiring.skips) == vertices - 7
        return time.perf_counter() - started

    seconds(1_000)
    small, large = min(seconds(10_000) for _ in range(3)), min(seconds(80_000) for _ in range(2))
    assert large < 40 * small
    assert np.isfinite(large)
