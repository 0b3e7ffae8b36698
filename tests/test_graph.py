"""Layered graphs: layers by longest path, always up to date; the graph of a network's masks."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepstruct.graph import CachedLayeredGraph, LayeredGraph
from deepstruct.sparse import MaskedDeepFFN, maskable_layers

EDGES = [("in", 1.5), (1.5, (2, "a")), ("in", (2, "a")), ((2, "a"), "out")]


@pytest.mark.parametrize("kind", [LayeredGraph, CachedLayeredGraph])
def test_layers_are_longest_paths(kind: type[LayeredGraph]) -> None:
    graph = kind(EDGES)
    graph.add_node("alone")
    assert graph.layers == [0, 1, 2, 3]
    assert graph.num_layers == 4
    assert (graph.first_layer, graph.last_layer) == (0, 3)
    assert graph.get_vertices(0) == ["in", "alone"]
    assert [graph.get_layer(vertex) for vertex in ("in", 1.5, (2, "a"), "out", "alone")] == [0, 1, 2, 3, 0]
    assert (graph.first_layer_size, graph.last_layer_size, graph.get_layer_size(2)) == (2, 1, 1)
    assert graph.layer_connected(0, 2)
    assert not graph.layer_connected(3, 0)
    assert graph.layer_connection_size(1, 0) == 1
    with pytest.raises(ValueError, match="no edges inside"):
        graph.layer_connected(1, 1)
    with pytest.raises(KeyError):
        graph.get_vertices(4)
    with pytest.raises(KeyError):
        graph.get_layer("nobody")


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=40))
def test_they_agree_with_networkx(pairs: list[tuple[int, int]]) -> None:
    graph = CachedLayeredGraph()
    graph.add_nodes_from(range(16))
    graph.add_edges_from((min(pair), max(pair)) for pair in pairs if pair[0] != pair[1])
    for vertex in graph:
        ancestors = nx.ancestors(graph, vertex) | {vertex}
        assert graph.get_layer(vertex) == nx.dag_longest_path_length(graph.subgraph(ancestors), default_weight=1)
    for layer in graph.layers:
        vertices: list[Any] = graph.get_vertices(layer)
        assert vertices == sorted(vertices)


@pytest.mark.parametrize(
    ("change", "layers"),
    [
        (lambda g: g.remove_edge(1, 2), 2),
        (lambda g: g.remove_edges_from([(0, 1), (1, 2)]), 1),
        (lambda g: g.remove_node(2), 2),
        (lambda g: g.remove_nodes_from([1, 2]), 1),
        (lambda g: g.clear_edges(), 1),
        (lambda g: g.clear(), 0),
        (lambda g: g.add_edge(2, 3), 4),
        (lambda g: g.add_weighted_edges_from([(2, 3, 0.5)]), 4),
        (lambda g: g.add_path([2, 3, 4]), 5),
        (lambda g: g.add_star([2, 3, 4]), 4),
        (lambda g: g.update(edges=[(2, 3)]), 4),
        (lambda g: g.add_node(7), 3),
    ],
)
def test_every_change_is_noticed(change: Any, layers: int) -> None:
    graph = CachedLayeredGraph()
    graph.add_path([0, 1, 2])
    assert graph.num_layers == 3
    change(graph)
    assert graph.num_layers == layers


def test_a_change_that_fails_halfway_is_noticed_too() -> None:
    graph = CachedLayeredGraph([(0, 1)])
    assert graph.num_layers == 2
    with pytest.raises(TypeError):
        graph.add_edges_from([(1, 2), (2, 3), None])
    assert graph.num_layers == 4


def test_views_see_changes_of_the_original() -> None:
    graph = CachedLayeredGraph([(0, 1), (2, 1)])
    view: Any = graph.subgraph([0, 1, 2])
    assert view.num_layers == 2
    graph.add_edge(1, 2)
    graph.remove_edge(2, 1)
    assert view.num_layers == 3


def test_graphs_can_be_copied_and_converted() -> None:
    graph = CachedLayeredGraph(EDGES, name="g")
    for other in (graph.copy(), CachedLayeredGraph(nx.DiGraph(EDGES)), graph.subgraph(list(graph))):
        assert isinstance(other, CachedLayeredGraph)
        assert [other.get_layer(vertex) for vertex in graph] == [graph.get_layer(vertex) for vertex in graph]
    assert graph.reverse().get_layer("out") == 0


def test_long_paths_are_fine() -> None:
    graph = CachedLayeredGraph()
    graph.add_path(range(20_000, 0, -1))
    assert graph.num_layers == 20_000


@pytest.mark.parametrize("edges", [[(1, 1)], [(1, 2), (2, 3), (3, 1)]])
def test_a_cycle_is_named(edges: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="cycle, so it has no layers: 1"):
        CachedLayeredGraph(edges).layers  # noqa: B018 - the access is the test


@pytest.mark.parametrize("include_input", [False, True])
@pytest.mark.parametrize("include_output", [False, True])
@pytest.mark.parametrize("hidden", [[5], [5, 7], [5, 7, 3]])
def test_the_graph_of_a_network(include_input: bool, include_output: bool, hidden: list[int]) -> None:
    torch.manual_seed(0)
    model = MaskedDeepFFN(4, 2, hidden)
    for layer in maskable_layers(model):
        layer.mask = torch.rand(layer.weight.shape) < 0.5
    graph = model.generate_structure(include_input, include_output)
    sizes = [4] * include_input + hidden + [2] * include_output
    assert list(graph) == list(range(sum(sizes)))
    layers = list(maskable_layers(model))[0 if include_input else 1 : None if include_output else -1]
    edges, offset = set(), 0
    for layer in layers:
        for target, source in layer.mask.nonzero().tolist():
            edges.add((offset + source, offset + layer.in_features + target))
        offset += layer.in_features
    assert set(graph.edges) == edges
