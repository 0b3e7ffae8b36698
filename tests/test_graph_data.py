"""What a graph has beyond its wiring: kept exactly, changed with the masks, and never believed unchecked."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typed_graphs import content, exact, oriented, typed_graphs

import deepstruct
from deepstruct import Loss, Mask, Structure, ValueInfo, document, jsonprofile, typed_json
from deepstruct.errors import StructureError, UnsupportedError
from deepstruct.frozen import thaw
from deepstruct.graph_data import original_graph
from deepstruct.testing import feed_forward

Graph = Any  # networkx is not generic at run time


def structure_of(graph: Graph, **options: Any) -> Structure:
    return deepstruct.from_networkx(graph, 3, 2, orientation=oriented(graph), **options).structure


def through_text(structure: Structure) -> Structure:
    text = "".join(jsonprofile.layout(document.to_json(structure)))
    return document.from_json(jsonprofile.parse(text.encode())).structure


def sample() -> Graph:
    """A diamond with a tail, whose vertices stand in another order than its layers."""
    graph: Graph = nx.DiGraph(name="n", year=1.0)
    graph.add_nodes_from(["d", "a", ("b", 1), "c"])
    graph.add_edges_from([("a", ("b", 1)), (("b", 1), "c"), ("c", "d")], weight=2)
    graph.add_edge("a", "d", source="x")
    graph.nodes["a"].update(id=True, layer=[1])
    return graph


@given(graph=typed_graphs())
@example(graph=nx.DiGraph([(1, 2)], one=1))
@example(graph=nx.empty_graph(3))
def test_a_graph_comes_back_from_a_document(graph: Graph) -> None:
    structure = structure_of(graph)
    again = through_text(structure)
    assert again == structure
    assert content(original_graph(again)) == content(graph)


@given(graph=typed_graphs(), seed=st.integers(0, 2**16))
def test_edges_are_what_the_masks_hold_now(graph: Graph, seed: int) -> None:
    structure = structure_of(graph)
    rng = np.random.default_rng(seed)
    hidden = [p for p in structure.parameters if p.name.startswith("layers_") and len(p.shape) == 2]
    masks = {p.name: rng.random(p.shape) < 0.5 for p in hidden}
    parameters = tuple(
        replace(p, mask=Mask.from_array(masks[p.name])) if p.name in masks else p for p in structure.parameters
    )
    found = original_graph(replace(structure, parameters=parameters))
    attributes = structure.attributes
    layers = [[json.dumps(thaw(key)) for key in layer] for layer in attributes["vertices"]]
    pairs = [*((i, i + 1) for i in range(len(layers) - 1)), *attributes["skips"]]
    names = [f"layers_main_hidden.{i}.weight" for i in range(len(layers) - 1)]
    names += [f"layers_skip_hidden.{i}.weight" for i in range(len(attributes["skips"]))]
    keys = {json.dumps(typed_json.encode_key(vertex, set())): vertex for vertex in found}
    expected = {
        (exact(keys[layers[source][column]]), exact(keys[layers[target][row]]))
        for (source, target), name in zip(pairs, names, strict=True)
        for row, column in np.argwhere(masks[name]).tolist()
    }
    sides = tuple if graph.is_directed() else frozenset
    assert {sides(map(exact, edge)) for edge in found.edges()} == set(map(sides, expected))
    assert found.number_of_edges() == len(expected)
    for u, v, data in found.edges(data=True):
        old = graph.get_edge_data(u, v, default={})
        old = next(iter(old.values()), {}) if graph.is_multigraph() else old
        assert dict(exact(data)[1:]) == dict(exact(old)[1:])


def test_the_layout() -> None:
    assert thaw(structure_of(sample()).attributes) == {
        "family": "dan",
        "skips": [[0, 3]],
        "vertices": [["a"], [["b", 1]], ["c"], ["d"]],
        "graph": {
            "attributes": {"name": "n", "year": 1.0},
            "order": [3, 0, 1, 2],
            "vertex_attributes": [
                {"name": "id", "values": [True], "at": [0]},
                {"name": "layer", "values": [[1]], "at": [0]},
            ],
            "edges": {
                "sources": [0, 0, 1, 2],
                "targets": [1, 3, 2, 3],
                "attributes": [
                    {"name": "weight", "values": [2, 2, 2], "at": [0, 2, 3]},
                    {"name": "source", "values": ["x"], "at": [1]},
                ],
            },
        },
    }
    assert "graph" not in structure_of(nx.DiGraph([(1, 2), (2, 3), (1, 3)])).attributes
    assert thaw(structure_of(nx.Graph([(1, 2)])).attributes["graph"]) == {"directed": False}
    multi: Graph = nx.MultiDiGraph()
    multi.add_edges_from([(1, 2, "a"), (1, 3, 0), (2, 3, 7)])
    assert thaw(structure_of(multi).attributes["graph"]) == {
        "multigraph": True,
        "edges": {"sources": [0, 1], "targets": [1, 2], "keys": {"values": ["a", 7]}},
    }


def test_columns_that_python_holds_equal_stay_apart() -> None:
    graph: Graph = nx.DiGraph()
    graph.add_nodes_from([("a", {1: "int"}), ("b", {True: "bool"}), ("c", {1.0: "float"}), ("d", {"1": "str"})])
    assert content(original_graph(through_text(structure_of(graph)))) == content(graph)


def test_order_of_vertices_and_of_their_neighbours_is_the_order_of_the_graph() -> None:
    graph: Graph = nx.DiGraph()
    graph.add_nodes_from("dcba")
    graph.add_edges_from([("a", "d"), ("b", "d"), ("c", "d"), ("a", "b"), ("a", "c")])
    found: Graph = original_graph(structure_of(graph))
    assert list(found) == list("dcba")
    assert list(found.predecessors("d")) == list("cba")
    assert list(found.successors("a")) == list("dcb")


def test_other_structures_hold_no_graph() -> None:
    with pytest.raises(UnsupportedError, match=r"holds no graph: its attribute 'family' is None.*from_networkx"):
        original_graph(feed_forward())


def test_a_family_that_computes_something_else_holds_no_graph() -> None:
    structure = structure_of(sample())
    plain = structure_of(sample(), sum_before_activation=True)
    edited = [
        replace(structure, attributes={**structure.attributes, "sum_before_activation": True}),
        replace(plain, attributes={**plain.attributes, "sum_before_activation": 1}),
        replace(plain, nodes=plain.nodes[:-1], outputs=(ValueInfo("h3", "float32", None),)),
        replace(feed_forward(), attributes={**structure.attributes}),
    ]
    for other in edited:
        with pytest.raises((UnsupportedError, StructureError), match=r"computes something else|needs the parameter"):
            original_graph(other)


def test_a_structure_without_tables_gives_its_wiring() -> None:
    structure = structure_of(sample())
    bare = replace(structure, attributes={"family": "dan", "skips": ((0, 3),)})
    found = original_graph(bare)
    assert list(found) == [0, 1, 2, 3]
    assert set(found.edges) == {(0, 1), (1, 2), (2, 3), (0, 3)}


HOSTILE: dict[str, dict[str, Any]] = {
    "no-object": {"graph": [1]},
    "unknown-member": {"graph": {"vertex": []}},
    "flag": {"graph": {"directed": 0}},
    "attributes-list": {"graph": {"attributes": [1]}},
    "attributes-tag": {"graph": {"attributes": {"$set": []}}},
    "order-short": {"graph": {"order": [0, 1, 2]}},
    "order-twice": {"graph": {"order": [0, 1, 2, 2]}},
    "order-large": {"graph": {"order": [0, 1, 2, 4]}},
    "order-negative": {"graph": {"order": [0, 1, 2, -1]}},
    "order-bool": {"graph": {"order": [False, True, 2, 3]}},
    "order-object": {"graph": {"order": {"0": 1}}},
    "columns-object": {"graph": {"vertex_attributes": {"name": "a"}}},
    "column-string": {"graph": {"vertex_attributes": ["a"]}},
    "column-without-name": {"graph": {"vertex_attributes": [{"values": [1, 2, 3, 4]}]}},
    "column-without-values": {"graph": {"vertex_attributes": [{"name": "a"}]}},
    "column-with-more": {"graph": {"vertex_attributes": [{"name": "a", "values": [], "at": [], "x": 1}]}},
    "column-name": {"graph": {"vertex_attributes": [{"name": {"$float": "nan"}, "values": [], "at": []}]}},
    "column-twice": {"graph": {"vertex_attributes": [{"name": n, "values": [1], "at": [0]} for n in (1, 1.0)]}},
    "values-short": {"graph": {"vertex_attributes": [{"name": "a", "values": [1, 2, 3]}]}},
    "values-text": {"graph": {"vertex_attributes": [{"name": "a", "values": "abcd"}]}},
    "values-tag": {"graph": {"vertex_attributes": [{"name": "a", "values": [{"$int": "x"}], "at": [0]}]}},
    "at-long": {"graph": {"vertex_attributes": [{"name": "a", "values": [1], "at": [0, 1]}]}},
    "at-descending": {"graph": {"vertex_attributes": [{"name": "a", "values": [1, 2], "at": [1, 0]}]}},
    "at-twice": {"graph": {"vertex_attributes": [{"name": "a", "values": [1, 2], "at": [1, 1]}]}},
    "at-large": {"graph": {"vertex_attributes": [{"name": "a", "values": [1], "at": [4]}]}},
    "edges-list": {"graph": {"edges": []}},
    "edges-without-targets": {"graph": {"edges": {"sources": [0]}}},
    "edges-uneven": {"graph": {"edges": {"sources": [0], "targets": [1, 2]}}},
    "edges-descending": {"graph": {"edges": {"sources": [1, 0], "targets": [2, 1]}}},
    "edges-twice": {"graph": {"edges": {"sources": [0, 0], "targets": [1, 1]}}},
    "edges-backward": {"graph": {"edges": {"sources": [1], "targets": [0]}}},
    "edges-loop": {"graph": {"edges": {"sources": [1], "targets": [1]}}},
    "edges-large": {"graph": {"edges": {"sources": [0], "targets": [2**52]}}},
    "edge-values": {"graph": {"edges": {"sources": [0], "targets": [1], "attributes": [{"name": "a", "values": []}]}}},
    "edge-keys": {"graph": {"edges": {"sources": [0], "targets": [1], "keys": {"values": ["a"]}}}},
    "edge-keys-null": {
        "graph": {"multigraph": True, "edges": {"sources": [0], "targets": [1], "keys": {"values": [None]}}}
    },
    "edge-keys-list": {"graph": {"multigraph": True, "edges": {"sources": [0], "targets": [1], "keys": ["a"]}}},
    "skips": {"skips": [[0, 1]]},
    "skips-missing": {"skips": None},
    "skips-twice": {"skips": [[0, 3], [0, 3]]},
    "skips-other": {"skips": [[1, 3]]},
    "vertices-null": {"vertices": [[None], ["b"], ["c"], ["d"]]},
    "vertices-equal": {"vertices": [[1], [True], ["c"], ["d"]]},
    "vertices-object": {"vertices": [[{"a": 1}], ["b"], ["c"], ["d"]]},
    "vertices-nan": {"vertices": [[{"$float": "nan"}], ["b"], ["c"], ["d"]]},
    "vertices-short": {"vertices": [["a"], ["b"], ["c"]]},
    "vertices-flat": {"vertices": ["a", "b", "c", "d"]},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_attributes_are_refused_where_they_are(name: str) -> None:
    structure = structure_of(sample())
    edited = through_text(replace(structure, attributes={**structure.attributes, **HOSTILE[name]}))
    with pytest.raises((StructureError, UnsupportedError)) as caught:
        original_graph(edited)
    if isinstance(caught.value, StructureError):
        member = next(iter(HOSTILE[name]))
        assert caught.value.faults[0].pointer.startswith(f"/graph/attributes/{member}")
    else:
        assert "skips" in name


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.sampled_from(["at", "$int", "x"]), values),
    max_leaves=6,
)


@given(data=st.data(), graph=typed_graphs(least=3))
def test_any_other_value_at_any_place_gives_a_graph_or_an_error(data: st.DataObject, graph: Graph) -> None:
    structure = structure_of(graph)
    attributes: Any = thaw(structure.attributes)
    owner, key = attributes, data.draw(st.sampled_from(["graph", "vertices", "skips"]))
    while isinstance(owner.get(key) if isinstance(owner, dict) else owner[key], (dict, list)) and owner[key]:
        if not data.draw(st.booleans(), label="deeper"):
            break
        owner = owner[key]
        key = data.draw(st.sampled_from(list(owner) if isinstance(owner, dict) else range(len(owner))))
    owner[key] = data.draw(JSON)
    try:
        edited = replace(structure, attributes=attributes)
        found = original_graph(edited)
    except (StructureError, UnsupportedError):
        return
    assert len(found) == len(graph)
    assert found.number_of_edges() == graph.number_of_edges()


def test_what_would_need_endless_memory_is_refused() -> None:
    side = 2**20
    shapes: dict[str, tuple[int, ...]] = {
        "layer_first.weight": (side, 1),
        "layers_main_hidden.0.weight": (side, side),
        "layer_out.weight": (1, side),
    }
    shapes |= {"layer_first.bias": (side,), "layers_main_hidden.0.bias": (side,), "layer_out.bias": (1,)}
    structure = structure_of(nx.DiGraph([(0, 1)]))
    parameters = tuple(replace(p, shape=shapes[p.name], mask=None) for p in structure.parameters)
    inputs = (replace(structure.inputs[0], shape=("batch", 1)),)
    outputs = (replace(structure.outputs[0], shape=("batch", 1)),)
    huge = replace(
        structure, parameters=parameters, inputs=inputs, outputs=outputs, attributes={"family": "dan", "skips": ()}
    )
    with pytest.raises(UnsupportedError, match="1099511627776 connections, more than"):
        original_graph(huge)


class Strange:
    """An object with no form."""


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda g: g.nodes["a"].update(x=Strange()),
            r"the vertex 'a': the attribute 'x': a .*Strange has no JSON form",
        ),
        (lambda g: g.edges["a", "d"].update(w=b""), r"the edge 'a' -> 'd': the attribute 'w': a bytes .* remove the"),
        (lambda g: g.graph.update(y=[{1}]), r"the attribute 'y' of the graph: a set has no JSON form"),
        (lambda g: g.add_node(frozenset("z")), r"the vertex frozenset.*: a frozenset has no .*relabel_nodes"),
        (lambda g: g.add_node(float("nan")), r"the vertex nan: NaN is not equal to itself"),
        (lambda g: g.add_node(("z", float("nan"))), r"the vertex \('z', nan\): NaN is not equal to itself"),
        (lambda g: g.add_node("\ud800"), r"surrogate"),
        (lambda g: g.nodes["a"].update({"\ud800": 1}), r"the vertex 'a': an attribute's name: .*surrogate"),
        (lambda g: g.nodes["a"].update({b"": 1}), r"the vertex 'a': an attribute's name: a bytes"),
    ],
    ids=range(9),
)
def test_what_cannot_be_kept_is_named(change: Any, match: str) -> None:
    graph = sample()
    change(graph)
    with pytest.raises(UnsupportedError, match=match):
        structure_of(graph)


def test_numpy_scalars_are_one_loss_a_column() -> None:
    graph: Graph = nx.DiGraph([(np.int64(1), np.int64(2)), (2, 3)], size=np.float32(0.5))
    for _, _, data in graph.edges(data=True):
        data["weight"] = np.float64(2)
    for _, data in graph.nodes(data=True):
        data["on"] = [np.bool_(True)]
    losses: list[Loss] = []
    found = original_graph(deepstruct.from_networkx(graph, 3, 2, losses=losses).structure)
    places = ["vertex keys", "graph attributes", "vertex attribute 'on'", "edge attribute 'weight'"]
    assert [(loss.what, loss.where) for loss in losses] == [("numpy types", place) for place in places]
    assert [type(vertex) for vertex in found] == [int] * 3
    assert type(found.graph["size"]) is type(found.edges[1, 2]["weight"]) is float
    assert found.nodes[3]["on"] == [True]
