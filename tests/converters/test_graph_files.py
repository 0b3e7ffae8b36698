"""Files of graphs: what was written comes back with its exact types, or the losses say what does not."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import scipy.sparse  # type: ignore[import-untyped]  # scipy has no types
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typed_graphs import content, oriented, typed_graphs

import deepstruct
from deepstruct import formats
from deepstruct.errors import MalformedFileError, UnsupportedError, UsageError
from deepstruct.limits import Limits
from deepstruct.losses import Loss

EXACT = ["graphml", "gexf", "gml", "node-link"]
LISTS = ["adjacency-list", "edge-list", "npz"]


def converter(name: str) -> Any:
    return importlib.import_module(formats.by_name(name).converter)


def written(name: str, graph: Any) -> tuple[bytes, list[Loss]]:
    losses: list[Loss] = []
    file = io.BytesIO()
    converter(name).write_graph(graph, file, losses)
    return file.getvalue(), losses


def read(name: str, data: bytes | str, folder: Path, limits: Limits | None = None) -> tuple[Any, list[Loss]]:
    losses: list[Loss] = []
    path = folder / "graph"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return converter(name).read_graph(path, limits or Limits(), losses), losses


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=typed_graphs(least=0))
def test_graphs_come_back_exactly(tmp_path: Path, name: str, graph: Any) -> None:
    before = content(graph)
    data, losses = written(name, graph)
    assert content(graph) == before
    back, others = read(name, data, tmp_path)
    assert content(back) == before
    assert losses == others == []
    assert written(name, graph)[0] == data


AWKWARD = [
    "id",
    "label",
    "self",
    "node_for_adding",
    "u_of_edge",
    "key",
    "type",
    "viz",
    "pid",
    "start",
    "deepstructTyped",
]
AWKWARD += ["mode", "node_default", "directed", "node", "source", "weight", "parents", "a b", "ü", "\n", "\0", "", "1"]
PLAIN = (
    st.booleans() | st.integers(-(2**33), 2**33) | st.floats(allow_nan=False) | st.sampled_from([*AWKWARD, "\r", "()"])
)


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_names_that_formats_use_themselves_come_back(tmp_path: Path, name: str, draw: st.DataObject) -> None:
    data = st.dictionaries(st.sampled_from(AWKWARD), PLAIN, max_size=4)
    graph: Any = nx.DiGraph()
    graph.graph.update(draw.draw(data))
    keys = draw.draw(st.lists(st.sampled_from([*AWKWARD, 1, 2, (1, None), False, 0.5]), min_size=1, unique=True))
    graph.add_nodes_from((key, draw.draw(data)) for key in keys)
    pairs = draw.draw(st.lists(st.tuples(st.sampled_from(keys), st.sampled_from(keys)), max_size=4, unique=True))
    graph.add_edges_from((*pair, draw.draw(data)) for pair in pairs)
    back, _ = read(name, written(name, graph)[0], tmp_path)
    assert content(back) == content(graph)


@pytest.mark.parametrize("name", EXACT)
def test_what_a_format_can_say_other_programs_can_read(tmp_path: Path, name: str) -> None:
    graph: Any = nx.DiGraph(name="mine")
    graph.add_node("a", label="first", size=3, share=0.5, on=True)
    graph.add_edge("a", "b", weight=2.0, kind="skip")
    path = tmp_path / "graph"
    path.write_bytes(written(name, graph)[0])
    readers: dict[str, Any] = {
        "graphml": nx.read_graphml,
        "gexf": nx.read_gexf,
        "gml": lambda path: nx.read_gml(path, label="label"),
        "node-link": lambda path: nx.node_link_graph(__import__("json").loads(path.read_text())),
    }
    other = readers[name](path)
    assert list(other) == ["a", "b"]
    assert other.nodes["a"].items() >= {"size": 3, "share": 0.5, "on": True}.items()
    assert other.edges["a", "b"].items() >= {"weight": 2.0, "kind": "skip"}.items()


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=typed_graphs())
def test_networks_in_the_shape_of_graphs_come_back(tmp_path: Path, name: str, graph: Any) -> None:
    options: Any = {"in_features": 3, "out_features": 2, "orientation": oriented(graph)}
    model = deepstruct.from_networkx(graph, **options, losses=[])
    path = tmp_path / f"graph{formats.by_name(name).suffixes[0]}"
    report = deepstruct.save(model, path)
    assert [loss.what for loss in report.losses] == ["features"]
    assert deepstruct.load(path, **options, losses=[]) == model


def ends(graph: Any, number: dict[Any, int]) -> set[Any]:
    kind = tuple if graph.is_directed() else frozenset
    return {kind((number[source], number[target])) for source, target, *_ in graph.edges}


@pytest.mark.parametrize("name", LISTS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=typed_graphs(least=0))
def test_lists_lose_what_they_say_and_no_more(tmp_path: Path, name: str, graph: Any) -> None:
    data, losses = written(name, graph)
    back, others = read(name, data, tmp_path)
    lost = {(loss.what, loss.where) for loss in losses}
    assert len(lost) == len(losses) <= 7
    assert others == []
    if ("order", "vertices") in lost or any("no edges" in loss.why for loss in losses):
        assert name == "edge-list"
        assert back.number_of_edges() == graph.number_of_edges()
        return
    number = {vertex: place for place, vertex in enumerate(back)}
    found = ends(back, number)
    if not graph.is_directed():
        found = {frozenset(pair) for pair in found}
    assert found == ends(graph, {vertex: place for place, vertex in enumerate(graph)})
    if not lost:
        assert content(nx.DiGraph(back)) == content(nx.DiGraph(graph))


@pytest.mark.parametrize(
    ("name", "edges", "expected"),
    [
        ("edge-list", [("a", "b"), ("b", "c")], set()),
        ("edge-list", [(0, 1), (1, 2)], set()),
        ("edge-list", [(0, "b")], {"vertex keys"}),
        ("edge-list", [("a b", "c")], {"vertex keys"}),
        ("edge-list", [("1", "2")], {"vertex keys"}),
        ("edge-list", [("#", "b")], {"vertex keys"}),
        ("adjacency-list", [(2, 1)], set()),
        ("npz", [(0, 1)], set()),
        ("npz", [(1, 0)], {"vertex keys"}),
    ],
)
def test_vertices_of_lists(name: str, edges: Any, expected: set[str], tmp_path: Path) -> None:
    graph: Any = nx.DiGraph(edges)
    data, losses = written(name, graph)
    assert {loss.what for loss in losses} == expected
    if not expected:
        assert content(read(name, data, tmp_path)[0]) == content(graph)


def test_edge_lists_carry_weights_and_say_what_else_they_lose(tmp_path: Path) -> None:
    graph: Any = nx.DiGraph()
    graph.add_weighted_edges_from([("b", "a", 0.1), ("a", "c", 7)])
    data, losses = written("edge-list", graph)
    assert (data, losses) == (b"b a 0.1\na c 7\n", [])
    assert content(read("edge-list", data, tmp_path)[0]) == content(graph)
    graph.add_node("alone", colour="red")
    graph.nodes["c"]["colour"] = "blue"
    graph.edges["a", "c"]["kind"] = "skip"
    losses = written("edge-list", graph)[1]
    assert [(loss.what, loss.where) for loss in losses] == [
        ("attributes", "vertices"),
        ("attributes", "edges"),
        ("vertices", "graph"),
    ]
    graph = nx.DiGraph([("b", "c")])
    graph.add_edge("a", "b")
    assert written("adjacency-list", graph)[1] == []
    assert written("edge-list", nx.DiGraph([(0, 2), (1, 2)]))[1] == []
    graph = nx.DiGraph()
    graph.add_nodes_from("abc")
    graph.add_edges_from(["ac", "bc"])
    assert [loss.what for loss in written("edge-list", graph)[1]] == ["order"]


@pytest.mark.parametrize(
    ("line", "data"),
    [
        ("a b", {}),
        ("a\tb\t0.5 # note", {"weight": 0.5}),
        ("a b {}", {}),
        ("a b {'weight': 3, 'colour': 'dark red', 'on': True, 'off': None}", None),
        ('a b {"weight": -1.5e3, "on": true, "off": null}', {"weight": -1500.0, "on": True, "off": None}),
    ],
)
def test_data_of_edge_lists(line: str, data: dict[str, Any] | None, tmp_path: Path) -> None:
    expected = {"weight": 3, "colour": "dark red", "on": True, "off": None} if data is None else data
    graph, _ = read("edge-list", f"# a comment\n\n{line}\r\n", tmp_path)
    assert graph.edges["a", "b"] == expected


@pytest.mark.parametrize("layout", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_matrices_of_every_layout(layout: str, kind: str, tmp_path: Path) -> None:
    dense = np.zeros((4, 4))
    dense[0, 1], dense[0, 2], dense[2, 3] = 2.5, 1, -1
    file = io.BytesIO()
    scipy.sparse.save_npz(file, getattr(scipy.sparse, f"{layout}_{kind}")(dense))
    graph, _ = read("npz", file.getvalue(), tmp_path)
    assert list(graph) == [0, 1, 2, 3]
    assert dict(graph.edges) == {(0, 1): {"weight": 2.5}, (0, 2): {"weight": 1.0}, (2, 3): {"weight": -1.0}}


def test_stored_zeros_of_matrices_are_edges(tmp_path: Path) -> None:
    file = io.BytesIO()
    ends = ([0, 1, 1], [1, 2, 2])
    scipy.sparse.save_npz(file, scipy.sparse.coo_array((np.array([0, 2, 3]), ends), shape=(3, 3)))
    graph, _ = read("npz", file.getvalue(), tmp_path)
    assert dict(graph.edges) == {(0, 1): {"weight": 0}, (1, 2): {"weight": 5}}


def test_parallel_edges_and_strange_values_are_not_written() -> None:
    graph: Any = nx.MultiDiGraph([(0, 1), (0, 1)])
    with pytest.raises(UnsupportedError, match="edge 0 -> 1 has another one parallel"):
        written("graphml", graph)
    for graph in (nx.DiGraph(a=object()), nx.DiGraph([(object(), 1)])):
        with pytest.raises(UnsupportedError, match="cannot be written: a"):
            written("gexf", graph)
    data, losses = written("gml", nx.DiGraph(a=np.float32(0.5)))
    assert [loss.what for loss in losses] == ["numpy types"]
    assert b"0.5" in data


@pytest.mark.parametrize("name", [*EXACT, *LISTS])
def test_models_need_features_and_orientation(name: str, tmp_path: Path) -> None:
    module = converter(name)
    path = tmp_path / "graph"
    path.write_bytes(written(name, nx.Graph([(0, 1), (2, 1)]))[0])
    with pytest.raises(UsageError, match="add --in-features and --out-features"):
        module.read(path, formats.ReadOptions(in_features=3), [])
    options: Any = {"in_features": 3, "out_features": 2}
    if name in EXACT:
        with pytest.raises(UsageError, match="add --orientation vertex-order"):
            module.read(path, formats.ReadOptions(**options), [])
    model = module.read(path, formats.ReadOptions(**options, orientation="vertex-order", init="kaiming", seed=3), [])
    again = module.read(path, formats.ReadOptions(**options, orientation="vertex-order", init="kaiming", seed=3), [])
    assert model == again
    assert model.weights is not None
    path.write_bytes(written(name, nx.DiGraph([(0, 1), (1, 0)]))[0])
    with pytest.raises(MalformedFileError, match=r"graph: .*cycle"):
        module.read(path, formats.ReadOptions(**options), [])


def test_both_directions_become_one_and_differences_are_told(tmp_path: Path) -> None:
    path = tmp_path / "graph"
    path.write_text("0 1 2.5\n1 0 3.5\n1 2\n2 1\n")
    losses: list[Loss] = []
    options = formats.ReadOptions(in_features=1, out_features=1, orientation="vertex-order")
    model = converter("edge-list").read(path, options, losses)
    assert [(loss.what, loss.where) for loss in losses] == [("attributes", "1 pairs of edges")]
    assert model.structure.attributes["family"] == "dan"
