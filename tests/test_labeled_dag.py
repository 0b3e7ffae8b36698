"""LabeledDAG: own labels, given layers, edges to later layers only, and all of that in every kind of copy."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepstruct.graph import CachedLayeredGraph, LabeledDAG

Edge = tuple[int, int]


def contents(graph: LabeledDAG) -> tuple[Any, ...]:
    """All that a graph says about itself."""
    layers = {layer: graph.get_vertices(layer) for layer in graph.layers}
    places = {vertex: (graph.get_layer(vertex), graph.index_in_layer(vertex)) for vertex in sorted(graph)}
    return dict(graph.nodes(data=True)), sorted(graph.edges(data=True), key=repr), graph.graph, layers, places


def consistent(graph: LabeledDAG) -> None:
    """Asserts that the answers about layers fit each other and the edges."""
    expected: dict[int, list[int]] = {}
    for vertex in sorted(graph):
        assert type(vertex) is int
        expected.setdefault(graph.nodes[vertex]["layer"], []).append(vertex)
    assert graph.layers == sorted(expected)
    assert graph.num_layers == len(expected)
    for layer, vertices in expected.items():
        assert graph.get_vertices(layer) == vertices
        assert graph.get_layer_size(layer) == len(vertices)
        for place, vertex in enumerate(vertices):
            assert (graph.get_layer(vertex), graph.index_in_layer(vertex)) == (layer, place)
    assert all(graph.get_layer(source) < graph.get_layer(target) for source, target in graph.edges)
    for one in expected:
        for other in expected:
            if one != other:
                edges = {(s, t) for s, t in graph.edges if {graph.get_layer(s), graph.get_layer(t)} == {one, other}}
                assert graph.layer_connection_size(one, other) == len(edges)
                assert graph.layer_connected(one, other) == bool(edges)
    if expected:
        assert (graph.first_layer, graph.last_layer) == (min(expected), max(expected))
        assert (graph.first_layer_size, graph.last_layer_size) == (
            len(expected[min(expected)]),
            len(expected[max(expected)]),
        )
    else:
        assert (graph.first_layer, graph.last_layer) == (None, None)


@st.composite
def dags(draw: st.DrawFn, removals: bool = True) -> LabeledDAG:
    graph = LabeledDAG(name="g")
    for layer in draw(st.lists(st.integers(0, 6), min_size=1, max_size=12)):
        graph.add_vertex(layer, colour=layer % 2)
    vertices = st.sampled_from(sorted(graph))
    for pair in draw(st.lists(st.tuples(vertices, vertices), max_size=20)):
        source, target = sorted(pair, key=graph.get_layer)
        if graph.get_layer(source) < graph.get_layer(target):
            graph.add_edge(source, target, weight=source)
    if removals:
        graph.remove_nodes_from(draw(st.sets(vertices, max_size=3)))
    return graph


def test_labels_are_the_order_of_creation() -> None:
    graph = LabeledDAG()
    assert graph.add_node(5) == 0
    assert graph.add_node("a", layer=3, colour="red") == 1
    assert graph.add_vertex() == 2
    assert graph.add_node(0, layer=np.int64(1)) == 3
    labels = graph.add_vertices(3, layer=2)
    assert labels.dtype == np.int64
    assert labels.tolist() == [4, 5, 6]
    assert graph.add_nodes_from([(1, 2), "b", (7, {"colour": "blue"})], layer=1).tolist() == [7, 8, 9]
    assert graph.add_nodes_from([]).tolist() == []
    assert list(graph) == list(range(10))
    assert all(type(vertex) is int for vertex in graph)
    assert {layer: graph.get_vertices(layer) for layer in graph.layers} == {
        0: [0, 2],
        1: [3, 7, 8, 9],
        2: [4, 5, 6],
        3: [1],
    }
    assert graph.nodes[1] == {"colour": "red", "layer": 3}
    assert graph.nodes[9] == {"colour": "blue", "layer": 1}
    consistent(graph)


def test_edges_make_the_vertices_that_are_missing() -> None:
    graph = LabeledDAG()
    graph.add_edge(4, 3)
    assert (list(graph.edges), graph.layers) == ([(0, 1)], [0, 1])
    graph.add_edge("source", "target", source_layer=2, target_layer=7, weight=0.5)
    assert list(graph.edges(data=True)) == [(0, 1, {}), (2, 3, {"weight": 0.5})]
    assert (graph.get_layer(2), graph.get_layer(3)) == (2, 7)
    graph.add_edge(np.int64(0), np.int64(3))
    graph.add_edge(3, "new")
    assert graph.get_layer(4) == 8
    graph.add_edges_from(np.array([[0, 4], [2, 4]]))
    assert all(type(vertex) is int for vertices in (graph.succ[0], graph.pred[3]) for vertex in vertices)
    consistent(graph)


def test_one_call_makes_one_vertex_for_one_name() -> None:
    graph = LabeledDAG()
    graph.add_vertices(2)
    graph.add_edges_from([("b", "c"), ("c", "d"), (1, "d", {"weight": 2}), ("b", 3)], weight=1)
    assert list(graph.edges(data="weight")) == [(1, 4, 2), (2, 3, 1), (2, 5, 1), (3, 4, 1)]
    assert [graph.get_layer(vertex) for vertex in range(6)] == [0, 0, 0, 1, 2, 1]
    graph.add_edges_from([("b", "x"), ("c", "x")], source_layer=3, target_layer=5)
    assert [graph.get_layer(vertex) for vertex in (6, 7, 8)] == [3, 5, 3]
    consistent(graph)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([(0, 3), (3, 1)], "the edge 3 -> 1 leads from layer 2 to layer 1; an edge must lead to a later layer"),
        ([("a", "b"), ("b", "a")], "the edge 'b' -> 'a' leads from layer 1 to layer 0"),
        ([("a", "a")], "the edge 'a' -> 'a' leads from layer 0 to layer 0"),
        ([(0, 4)], "the edge 0 -> 4 leads from layer 0 to layer 0"),
        ([(2, 2)], "the edge 2 -> 2 leads from layer 1 to layer 1"),
        ([(0, 1), (0, 1, 2, 3)], "an edge is .* not"),
        ([(0, "new"), None], "an edge is .* not None"),
        (["abcd"], "an edge is .* not 'abcd'"),
    ],
)
def test_edges_that_lead_to_no_later_layer_change_nothing(edges: list[Any], message: str) -> None:
    graph = LabeledDAG([(0, 1), (0, 2), (1, 3)])
    graph.add_vertex()
    before = contents(graph)
    with pytest.raises(ValueError, match=message):
        graph.add_edges_from(edges)
    assert contents(graph) == before
    assert graph.add_vertex() == 5


@pytest.mark.parametrize(
    "change",
    [
        lambda g: g.add_vertex(-1),
        lambda g: g.add_vertex(0.5),
        lambda g: g.add_vertices(0),
        lambda g: g.add_vertices(2, layer=-3),
        lambda g: g.add_node("a", layer="1"),
        lambda g: g.add_nodes_from(["a", ("b", {"layer": -1})]),
        lambda g: g.add_nodes_from([(7, {"layer": 1}), (0, {"layer": 2})]),
        lambda g: g.add_nodes_from([(7, {"layer": 1}), (7, {"layer": 2})]),
        lambda g: g.add_edge("a", 1, source_layer=1),
        lambda g: g.add_edge(0, "b", target_layer=0),
        lambda g: g.add_edge("a", "b", source_layer=-1),
        lambda g: g.add_weighted_edges_from([("a", "b", 1), (1, 0, 1)]),
        lambda g: g.update(edges=[(1, 0)]),
    ],
)
def test_what_is_refused_changes_nothing(change: Callable[[LabeledDAG], object]) -> None:
    graph = LabeledDAG([(0, 1)])
    before = contents(graph)
    with pytest.raises(ValueError, match=r"layer|at least 1"):
        change(graph)
    assert contents(graph) == before


def test_unhashable_names_are_refused() -> None:
    graph = LabeledDAG()
    with pytest.raises(TypeError, match="unhashable"):
        graph.add_edges_from([("a", "b"), ("a", [])])
    assert not len(graph)


def test_an_empty_graph() -> None:
    graph = LabeledDAG()
    assert (graph.layers, graph.num_layers, graph.first_layer, graph.last_layer) == ([], 0, None, None)
    with pytest.raises(ValueError, match="no vertices"):
        graph.first_layer_size  # noqa: B018 - the access is the test
    with pytest.raises(ValueError, match="no vertices"):
        graph.last_layer_size  # noqa: B018 - the access is the test
    for question in (graph.get_layer, graph.get_vertices, graph.get_layer_size, graph.index_in_layer):
        with pytest.raises(KeyError):
            question(0)
    consistent(graph.copy())


@given(dags())
def test_answers_fit_each_other(graph: LabeledDAG) -> None:
    consistent(graph)
    assert nx.is_directed_acyclic_graph(graph)


@given(dags(), st.data())
def test_removals_are_noticed(graph: LabeledDAG, data: st.DataObject) -> None:
    largest = max(graph, default=-1)
    remove: list[Callable[[Any], None]] = [graph.remove_node, lambda vertex: graph.remove_nodes_from([vertex])]
    for vertex in data.draw(st.lists(st.sampled_from(sorted(graph)), unique=True)) if len(graph) else []:
        data.draw(st.sampled_from(remove))(vertex)
        consistent(graph)
        with pytest.raises(KeyError):
            graph.index_in_layer(vertex)
    assert graph.add_vertex() > largest
    for edge in list(graph.edges):
        graph.remove_edge(*edge)
        consistent(graph)
    graph.clear()
    consistent(graph)
    assert graph.add_vertex(3) == 0


COPIES: dict[str, Callable[[LabeledDAG], Any]] = {
    "copy": lambda g: g.copy(),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda g: pickle.loads(pickle.dumps(g)),
    "constructor": LabeledDAG,
    "to_directed": lambda g: g.to_directed(),
    "view": lambda g: g.copy(as_view=True),
    "subgraph": lambda g: g.subgraph(list(g)),
    "copied subgraph": lambda g: g.subgraph(list(g)).copy(),
    "reversed twice": lambda g: g.reverse().reverse(),
    "compose": lambda g: nx.compose(g, g),
}


@pytest.mark.parametrize("name", COPIES)
@given(graph=dags())
def test_copies_are_the_same(name: str, graph: LabeledDAG) -> None:
    other = COPIES[name](graph)
    assert isinstance(other, LabeledDAG)
    assert contents(other) == contents(graph)
    consistent(other)


@given(dags(), st.data())
def test_subgraphs_keep_labels(graph: LabeledDAG, data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.sampled_from(sorted(graph)))) if len(graph) else set()
    view: Any = graph.subgraph(chosen)
    consistent(view)
    other = view.copy()
    assert set(other) == chosen
    assert set(other.edges) == {edge for edge in graph.edges if chosen.issuperset(edge)}
    label = other.add_vertex(1)
    assert label == max(chosen, default=-1) + 1
    consistent(other)
    if len(graph):
        graph.add_edge(min(graph, key=graph.get_layer), "new", target_layer=9)
        graph.remove_node(min(graph))
    consistent(view)


@given(dags())
def test_the_reverse_has_the_layers_in_reversed_order(graph: LabeledDAG) -> None:
    other = graph.reverse()
    consistent(other)
    assert set(other.edges) == {(target, source) for source, target in graph.edges}
    assert [other.get_vertices(layer) for layer in reversed(other.layers)] == [
        graph.get_vertices(layer) for layer in graph.layers
    ]
    view = graph.reverse(copy=False)
    assert type(view) is nx.DiGraph
    assert set(view.edges) == set(other.edges)


def test_views_cannot_be_changed() -> None:
    graph = LabeledDAG([(0, 1)])
    for view in (graph.subgraph([0, 1]), graph.copy(as_view=True), nx.freeze(graph.copy())):
        for change in (view.add_vertex, lambda v=view: v.add_vertices(2), lambda v=view: v.append(graph)):
            with pytest.raises(nx.NetworkXError, match="frozen"):
                change()
    consistent(graph)
    assert len(graph) == 2


def test_other_graphs_are_numbered() -> None:
    source = nx.DiGraph([("c", "a"), ("c", "b"), ("a", "b")], name="n")
    graph = LabeledDAG(source, kind="k")
    assert graph.graph == {"name": "n", "kind": "k"}
    assert list(graph.edges) == [(0, 1), (0, 2), (1, 2)]
    assert [graph.get_layer(vertex) for vertex in graph] == [0, 1, 2]
    nx.set_node_attributes(source, {"c": 1, "a": 4, "b": 9}, "layer")
    assert LabeledDAG(source).layers == [1, 4, 9]
    nx.set_node_attributes(source, {"c": 1, "a": 9, "b": 4}, "layer")
    with pytest.raises(ValueError, match="the edge 1 -> 2 leads from layer 9 to layer 4"):
        LabeledDAG(source)
    nx.set_node_attributes(source, dict.fromkeys("abc", "conv"), "layer")
    with pytest.raises(ValueError, match="a layer is an integer from 0, not 'conv'"):
        LabeledDAG(source)
    with pytest.raises(ValueError, match="cycle"):
        LabeledDAG([(1, 2), (2, 1)])
    with pytest.raises(ValueError, match="undirected"):
        LabeledDAG(nx.Graph([(0, 1)]))
    assert LabeledDAG.load_from(nx.Graph([("b", "a"), ("a", "c")])).layers == [0, 1, 2]
    assert isinstance(LabeledDAG([(0, 1)]).to_undirected(), nx.Graph)


def test_vertices_of_another_graph_keep_their_labels_in_any_order() -> None:
    graph = LabeledDAG()
    assert graph.add_nodes_from([(7, {"layer": 1}), (3, {"layer": 1}), ("x", {"layer": 1})]).tolist() == [7, 3, 8]
    assert graph.get_vertices(1) == [3, 7, 8]
    graph.add_nodes_from([(5, {"layer": 1}), (3, {"layer": 1, "colour": "red"})])
    assert graph.nodes[3] == {"layer": 1, "colour": "red"}
    consistent(graph)
    assert graph.add_vertex() == 9


@given(dags(removals=False))
def test_relabelling_among_the_own_labels_works(graph: LabeledDAG) -> None:
    turned = {vertex: len(graph) - 1 - vertex for vertex in graph}
    other: Any = nx.relabel_nodes(graph, turned)
    consistent(other)
    assert set(other.edges) == {(turned[source], turned[target]) for source, target in graph.edges}
    assert {turned[vertex]: graph.get_layer(vertex) for vertex in graph} == dict(other.nodes(data="layer"))


def glued(first: LabeledDAG, second: LabeledDAG | CachedLayeredGraph) -> LabeledDAG:
    result = first.copy()
    result.append(second)
    return result


@given(dags(), dags())
def test_append_joins_the_last_layer_to_the_first(one: LabeledDAG, two: LabeledDAG) -> None:
    for first in (one, two):
        for second in (one, two):
            if first.num_layers and second.num_layers > 1 and first.last_layer_size == second.first_layer_size:
                result = glued(first, second)
                consistent(result)
                joint = len(first) + len(second) - second.first_layer_size
                assert len(result) == joint
                assert result.number_of_edges() == first.number_of_edges() + second.number_of_edges()
                upper = result.subgraph(
                    vertex for vertex in result if vertex not in first or first.get_layer(vertex) == first.last_layer
                )
                assert nx.is_isomorphic(upper, second)
                shift = result.layers[len(first.layers) - 1] - second.layers[0]
                assert [layer + shift for layer in second.layers] == result.layers[len(first.layers) - 1 :]
            else:
                before = contents(first)
                with pytest.raises(ValueError, match="layer"):
                    first.append(second)
                assert contents(first) == before


def test_append_itself_and_longest_path_graphs() -> None:
    graph = LabeledDAG([(0, 1), (0, 2), (1, 3), (2, 3)])
    graph.append(graph)
    assert graph.layers == [0, 1, 2, 3, 4]
    assert list(graph.out_edges(3)) == [(3, 4), (3, 5)]
    assert [graph.get_layer_size(layer) for layer in graph.layers] == [1, 2, 1, 2, 1]
    graph.append(CachedLayeredGraph([("a", "b"), ("a", "c"), ("b", "c")]))
    assert graph.layers == list(range(7))
    assert sorted(graph.in_edges(8)) == [(6, 8), (7, 8)]
    consistent(graph)
    with pytest.raises(ValueError, match="at least 2 layers, not 1"):
        graph.append(LabeledDAG(nx.empty_graph(1)))
    with pytest.raises(ValueError, match="the last layer has 1 vertices, the first one of the graph to append 2"):
        graph.append(LabeledDAG([(0, 2), (1, 2)]))


@given(dags())
def test_files_keep_layers_and_the_order_of_predecessors(tmp_path_factory: pytest.TempPathFactory, graph: Any) -> None:
    path: Path = tmp_path_factory.mktemp("graphs") / "g.graphml"
    graph.save(path)
    other = LabeledDAG.load(path)
    assert isinstance(other, LabeledDAG)
    consistent(other)
    number = {vertex: position for position, vertex in enumerate(graph)}
    assert list(other.nodes(data=True)) == [(number[vertex], data) for vertex, data in graph.nodes(data=True)]
    for vertex in graph:
        assert list(other.in_edges(number[vertex], data=True)) == [
            (number[source], number[vertex], data) for source, _, data in graph.in_edges(vertex, data=True)
        ]


def test_large_graphs_are_fine() -> None:
    graph = LabeledDAG()
    for vertex in range(100_000):
        graph.add_edge(vertex, vertex + 1)
        assert graph.index_in_layer(vertex + 1) == 0
        assert graph.get_layer_size(vertex + 1) == 1
    assert graph.num_layers == 100_001
    assert graph.last_layer == 100_000
    wide = LabeledDAG()
    wide.add_edges_from(("a", number) for number in range(1, 100_000))
    assert sum(wide.index_in_layer(vertex) for vertex in wide.get_vertices(1)) == sum(range(99_999))
