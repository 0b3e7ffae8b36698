"""Layered graphs: layers by longest path, always up to date; which graphs are refused; files; networks' masks."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepstruct.graph import (
    CachedLayeredGraph,
    LabeledDAG,
    LayeredGraph,
    build_layer_index,
    layer_index,
    layered,
    uniform_proportions,
)
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
        (lambda g: g.add_path([3]), 3),
        (lambda g: g.add_star([]), 3),
        (lambda g: g.add_nodes_from([7, 8]), 3),
        (lambda g: nx.add_path(g, [2, 5]), 4),
        (lambda g: nx.relabel_nodes(g, {0: 9}, copy=False), 3),
        (lambda g: (g.add_cycle([0, 1, 2]), g.remove_edge(2, 0)), 3),
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


def test_a_cycle_that_is_added_is_noticed() -> None:
    graph = CachedLayeredGraph([(0, 1), (1, 2)])
    assert graph.num_layers == 3
    graph.add_cycle([0, 1, 2])
    with pytest.raises(ValueError, match="cycle, so it has no layers: 0 -> 1 -> 2 -> 0"):
        graph.get_layer(0)


COPIES: dict[str, Callable[[CachedLayeredGraph], Any]] = {
    "copy": lambda g: g.copy(),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda g: pickle.loads(pickle.dumps(g)),
    "constructor": CachedLayeredGraph,
    "from networkx": lambda g: CachedLayeredGraph(nx.DiGraph(g)),
    "to_directed": lambda g: g.to_directed(),
    "view of to_directed": lambda g: g.to_directed(as_view=True),
    "view": lambda g: g.copy(as_view=True),
    "subgraph": lambda g: g.subgraph(list(g)),
    "copied subgraph": lambda g: g.subgraph(list(g)).copy(),
    "reversed twice": lambda g: g.reverse().reverse(),
    "layered": layered,
}


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("asked", [False, True])
def test_graphs_can_be_copied_and_converted(name: str, asked: bool) -> None:
    graph = CachedLayeredGraph(EDGES, name="g")
    graph.add_edge("in", "out", weight=2)
    if asked:
        assert graph.num_layers == 4
    other = COPIES[name](graph)
    assert type(other) is CachedLayeredGraph
    assert other.graph == graph.graph
    assert list(other.edges(data=True)) == list(graph.edges(data=True))
    assert [other.get_layer(vertex) for vertex in graph] == [graph.get_layer(vertex) for vertex in graph]
    if not nx.is_frozen(other) and other is not graph:
        other.add_edge("out", "end")
        assert (other.num_layers, graph.num_layers) == (5, 4)


def test_reversed_and_undirected_graphs() -> None:
    graph = CachedLayeredGraph(EDGES)
    assert graph.reverse().get_layer("out") == 0
    assert graph.reverse(copy=False).get_layer("in") == 3
    assert type(graph.to_undirected()) is nx.Graph
    assert set(graph.to_undirected().edges) == set(nx.Graph(EDGES).edges)


@pytest.mark.parametrize("kind", [LayeredGraph, CachedLayeredGraph])
def test_an_empty_graph_has_no_first_layer(kind: type[LayeredGraph]) -> None:
    graph = kind()
    assert (graph.layers, graph.num_layers) == ([], 0)
    for name in ("first_layer", "last_layer", "first_layer_size", "last_layer_size"):
        with pytest.raises(ValueError, match="the graph has no vertices, so it has no layers"):
            getattr(graph, name)


@pytest.mark.parametrize("make", [LayeredGraph, CachedLayeredGraph, LabeledDAG, layered, layer_index])
def test_undirected_graphs_must_be_oriented_first(make: Callable[[Any], object]) -> None:
    for graph in (nx.path_graph(3), nx.MultiGraph([(0, 1)]), nx.Graph([(0, 0)])):
        with pytest.raises(ValueError, match=r"undirected.*orient its edges first.*load_from"):
            make(graph)
    make(nx.empty_graph(3))


@pytest.mark.parametrize("make", [LayeredGraph, CachedLayeredGraph, LabeledDAG, layered, LayeredGraph.load_from])
def test_parallel_edges_are_refused(make: Callable[[Any], object]) -> None:
    with pytest.raises(ValueError, match="there are 2 parallel edges 'a' -> 'b'; keep one of them"):
        make(nx.MultiDiGraph([(0, "a"), ("a", "b"), ("a", "b")]))
    make(nx.MultiDiGraph([("a", "b"), ("b", "c"), ("a", "c")]))


def test_the_layers_of_a_multigraph() -> None:
    assert layer_index(nx.MultiDiGraph([(0, 1), (0, 1), (1, 2)])) == [[0], [1], [2]]


def test_an_edge_that_is_added_twice_is_one() -> None:
    graph = CachedLayeredGraph([(0, 1), (0, 1)])
    assert graph.layer_connection_size(0, 1) == 1


def test_unhashable_vertices_are_refused() -> None:
    graph = CachedLayeredGraph([(0, 1)])
    with pytest.raises(TypeError, match="unhashable"):
        graph.add_edge([], 1)  # type: ignore[arg-type]  # the fault is the test
    with pytest.raises(TypeError, match="unhashable"):
        graph.get_layer([])  # type: ignore[arg-type]  # the fault is the test
    assert graph.layers == [0, 1]


@pytest.mark.parametrize("kind", [LayeredGraph, CachedLayeredGraph])
def test_long_paths_are_fine(kind: type[LayeredGraph]) -> None:
    graph = kind()
    nx.add_path(graph, range(100_000, 0, -1))
    assert graph.num_layers == 100_000
    assert graph.last_layer_size == 1
    graph.add_edge(1, 100_000)
    with pytest.raises(ValueError, match=r"layers: 100000 -> 99999 .* -> 99991 -> \.\.\. \(100000 vertices\)$"):
        graph.layers  # noqa: B018 - the access is the test


@pytest.mark.parametrize(("edges", "cycle"), [([(1, 1)], "1 -> 1"), ([(1, 2), (2, 3), (3, 1)], "1 -> 2 -> 3 -> 1")])
def test_a_cycle_is_named(edges: list[tuple[int, int]], cycle: str) -> None:
    with pytest.raises(ValueError, match=f"cycle, so it has no layers: {cycle}$"):
        CachedLayeredGraph(edges).layers  # noqa: B018 - the access is the test


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_index_and_connections_fit_the_graph(pairs: list[tuple[int, int]]) -> None:
    graph = nx.DiGraph((source, target) for source, target in pairs if source < target)
    layer_of, vertices = build_layer_index(graph)
    assert [vertices[layer] for layer in sorted(vertices)] == layer_index(graph)
    assert {vertex: layer for layer, members in vertices.items() for vertex in members} == layer_of
    cached = CachedLayeredGraph(graph)
    for one in vertices:
        for other in range(one):
            edges = [edge for edge in graph.edges if {layer_of[edge[0]], layer_of[edge[1]]} == {one, other}]
            assert cached.layer_connection_size(one, other) == cached.layer_connection_size(other, one) == len(edges)
            assert cached.layer_connected(one, other) == bool(edges)


def test_layered_graphs_for_networks() -> None:
    graph = nx.DiGraph([(2, 9), (1, 9), (0, 9)])
    graph.add_nodes_from([0, 1, 2])
    for given_graph in (graph, LayeredGraph(graph), CachedLayeredGraph(graph).subgraph(list(graph)), [(2, 9), (1, 9)]):
        result = layered(given_graph)
        assert type(result) is CachedLayeredGraph
        assert not nx.is_frozen(result)
    assert list(layered(graph).predecessors(9)) == [2, 1, 0]
    labeled = LabeledDAG([(0, 1), (1, 2)])
    assert layered(labeled) is labeled
    part = layered(labeled.subgraph([1, 2]))
    assert isinstance(part, LabeledDAG)
    assert list(part.edges) == [(1, 2)]
    with pytest.raises(ValueError, match="no vertices"):
        layered(nx.DiGraph())
    with pytest.raises(ValueError, match="cycle"):
        layered([(0, 1), (1, 0)])


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30), st.integers(0, 9))
def test_undirected_edges_lead_from_the_vertex_added_first(pairs: list[tuple[int, int]], first: int) -> None:
    graph = nx.Graph((source, target) for source, target in pairs if source != target)
    graph.add_node(first)
    structure = LayeredGraph.load_from(graph)
    number = {vertex: position for position, vertex in enumerate(graph)}
    assert list(structure) == list(range(len(graph)))
    assert {(min(e), max(e)) for e in ((number[s], number[t]) for s, t in graph.edges)} == set(structure.edges)
    assert structure.num_layers == nx.dag_longest_path_length(nx.DiGraph(structure), default_weight=1) + 1


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=40))
def test_files_keep_vertices_and_the_order_of_predecessors(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]]
) -> None:
    graph = CachedLayeredGraph()
    graph.add_edges_from((f"v{min(pair)}", f"v{max(pair)}") for pair in pairs if pair[0] != pair[1])
    path: Path = tmp_path_factory.mktemp("graphs") / "g.graphml"
    graph.save(path)
    number = {vertex: position for position, vertex in enumerate(graph)}
    for other in (LayeredGraph.load(path), CachedLayeredGraph.load(str(path)), LayeredGraph.load_from(graph)):
        assert type(other) is CachedLayeredGraph
        assert list(other) == list(range(len(graph)))
        for vertex in graph:
            assert list(other.predecessors(number[vertex])) == [number[v] for v in graph.predecessors(vertex)]
            assert other.get_layer(number[vertex]) == graph.get_layer(vertex)
        assert all(not data for _, _, data in other.edges(data=True))


def test_files_of_others_can_be_loaded(tmp_path: Path) -> None:
    nx.write_graphml(nx.Graph([("b", "a"), ("c", "a")]), tmp_path / "g.graphml")
    assert set(LayeredGraph.load(tmp_path / "g.graphml").edges) == {(0, 1), (1, 2)}
    nx.write_graphml(nx.MultiDiGraph([("b", "a"), ("b", "a")]), tmp_path / "g.graphml")
    with pytest.raises(ValueError, match="2 parallel edges"):
        LayeredGraph.load(tmp_path / "g.graphml")


def test_uniform_proportions_are_nearly_equal() -> None:
    graph = nx.path_graph(["a", "b", "c", "d"])
    proportions = uniform_proportions(graph, seed=1)
    assert list(proportions) == list(graph)
    assert sum(proportions.values()) == pytest.approx(1)
    assert all(0.1 < share < 0.5 for share in proportions.values())
    assert proportions == uniform_proportions(graph, np.random.default_rng(1)) != uniform_proportions(graph)
    with pytest.raises(ValueError, match="no vertices"):
        uniform_proportions(nx.DiGraph())


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
