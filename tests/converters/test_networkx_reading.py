"""Networkx graphs become networks: equal to those of torch, computed alike everywhere, and refused with reasons."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from typed_graphs import content, oriented, typed_graphs

import deepstruct
from deepstruct import Loss, Structure
from deepstruct.errors import DeepstructError, LossWarning, StructureError, UnsupportedError, UsageError
from deepstruct.graph import CachedLayeredGraph, LabeledDAG, LayeredGraph
from deepstruct.graph_data import original_graph
from deepstruct.sparse import MaskedDeepDAN

Graph = Any  # networkx is not generic at run time
FLAGS = [(norm, first) for norm in (False, True) for first in (False, True)]


@st.composite
def plain_dags(draw: st.DrawFn) -> Graph:
    """Graphs without attributes whose vertices stand in the order of their layers."""
    graph = draw(typed_graphs())
    bare: Graph = nx.DiGraph()
    keys = list(graph)
    place = {vertex: number for number, vertex in enumerate(keys)}
    edges = {tuple(sorted(edge, key=place.__getitem__)) for edge in graph.edges()}
    directed: Graph = nx.DiGraph()
    directed.add_nodes_from(keys)
    directed.add_edges_from(edges)
    for layer in nx.topological_generations(directed):
        bare.add_nodes_from(layer)
    bare.add_edges_from(edges)
    return bare


GRAPHS: dict[str, Callable[[], Graph]] = {
    "vertex": lambda: nx.empty_graph(1, nx.DiGraph),
    "apart": lambda: nx.empty_graph(5, nx.DiGraph),
    "chain": lambda: nx.path_graph(7, nx.DiGraph),
    "star": lambda: nx.DiGraph((0, leaf) for leaf in range(1, 6)),
    "into-one": lambda: nx.DiGraph((leaf, 9) for leaf in range(6)),
    "diamond": lambda: nx.DiGraph([(1, 2), (2, 3), (1, 3), (3, 5), (1, 5), (4, 5)]),
    "complete": lambda: nx.DiGraph((u, v) for u in range(6) for v in range(u + 1, 6)),
    "random": lambda: nx.DiGraph((u, v) for u, v in nx.gnp_random_graph(30, 0.2, seed=1).edges),
}


def module_of(graph: Graph, use_layer_norm: bool = False, sum_before_activation: bool = False) -> MaskedDeepDAN:
    return MaskedDeepDAN(3, 2, graph, use_layer_norm, sum_before_activation)


@given(graph=plain_dags(), flags=st.sampled_from(FLAGS), packed=st.booleans())
@example(graph=nx.empty_graph(1, nx.DiGraph), flags=(True, True), packed=True)
def test_the_structure_is_that_of_the_torch_module(graph: Graph, flags: tuple[bool, bool], packed: bool) -> None:
    found = deepstruct.from_networkx(graph, 3, 2, use_layer_norm=flags[0], sum_before_activation=flags[1])
    module = MaskedDeepDAN(3, 2, graph, *flags, packed=packed)
    assert found.structure == deepstruct.from_module(module, losses=[]).structure
    assert found.weights is None
    assert "graph" not in found.structure.attributes


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("name", GRAPHS)
def test_runtimes_agree_on_a_network_without_torch_origin(tmp_path: Path, name: str, flags: tuple[bool, bool]) -> None:
    graph = GRAPHS[name]()
    options: dict[str, Any] = {"use_layer_norm": flags[0], "sum_before_activation": flags[1]}
    model = deepstruct.from_networkx(graph, 5, 3, init="kaiming", seed=1, **options)
    module = deepstruct.to_module(model).eval()
    assert type(module) is MaskedDeepDAN
    deepstruct.save(model, tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    inputs = torch.randn(7, 5)
    (found,) = session.run(None, {"x": inputs.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, module(inputs).numpy(), rtol=1e-4, atol=1e-5)
    assert content(original_graph(deepstruct.load(tmp_path / "a.onnx").structure)) == content(graph)


@pytest.mark.parametrize("suffix", [".structure.json", ".onnx", ".pt"])
def test_the_graph_survives_every_format_and_the_module(tmp_path: Path, suffix: str) -> None:
    graph: Graph = nx.Graph(source="s")
    graph.add_nodes_from(["c", (1, 2.0), True, 2**60])
    graph.add_edges_from([("c", 2**60), ((1, 2.0), "c"), (True, 2**60)], weight=(1, float("nan")))
    graph.nodes["c"]["id"] = {1: None}
    model = deepstruct.from_networkx(graph, 4, 2, orientation="vertex-order", init="xavier", seed=0)
    path = tmp_path / f"a{suffix}"
    deepstruct.save(model, path, fail_on_loss=True)
    assert content(original_graph(deepstruct.load(path).structure)) == content(graph)
    module: Any = deepstruct.to_module(deepstruct.load(path))
    assert isinstance(module, MaskedDeepDAN)
    assert module.wiring.vertices == (("c", True), ((1, 2.0), 2**60))
    layer: Any = module.layers_main_hidden[0]
    layer.mask = layer.mask & torch.tensor([[True, True], [False, True]])
    deepstruct.save(module.apply_mask(), path, fail_on_loss=True)
    graph.remove_edge("c", 2**60)
    assert content(original_graph(deepstruct.load(path).structure)) == content(graph)


def test_sizes_may_differ_and_inputs_are_connected_with_the_first_layer() -> None:
    graph: Graph = nx.DiGraph([("a", "c"), ("b", "c"), ("c", "d"), ("b", "d")])
    structure = deepstruct.from_networkx(graph, 11, 7, dtype="float64").structure
    shapes = {p.name: (p.shape, p.nnz) for p in structure.parameters if p.name.endswith("weight")}
    assert shapes == {
        "layer_first.weight": ((2, 11), 22),
        "layers_main_hidden.0.weight": ((1, 2), 2),
        "layers_main_hidden.1.weight": ((1, 1), 1),
        "layers_skip_hidden.0.weight": ((1, 2), 1),
        "layer_out.weight": ((7, 1), 7),
    }
    assert {p.dtype for p in structure.parameters} == {"float64"}
    assert (structure.inputs[0].shape, structure.outputs[0].shape) == (("batch", 11), ("batch", 7))


def test_sizes_are_integers_of_any_type() -> None:
    graph: Graph = nx.DiGraph([(0, 1)])
    sizes: Any = np.int32(3), np.uint8(2)
    assert deepstruct.from_networkx(graph, *sizes) == deepstruct.from_networkx(graph, 3, 2)


@pytest.mark.parametrize("kind", [LayeredGraph, CachedLayeredGraph])
def test_layered_graphs_are_taken_as_they_are(kind: Any) -> None:
    edges = [(3, 1), (1, 2), (3, 2)]
    found = deepstruct.from_networkx(kind(edges), 3, 2)
    assert found == deepstruct.from_networkx(nx.DiGraph(edges), 3, 2)
    assert type(original_graph(found.structure)) is nx.DiGraph


def test_layers_that_the_user_gave_are_kept() -> None:
    graph = LabeledDAG()
    graph.add_vertices(2, layer=0)
    graph.add_vertices(1, layer=4)
    graph.add_edges_from([(0, 2)])
    structure = deepstruct.from_networkx(graph, 3, 2).structure
    assert structure.attributes["vertices"] == ((0, 1), (2,))
    assert LabeledDAG(original_graph(structure)).get_layer(2) == 4


def test_views_are_graphs() -> None:
    graph: Graph = nx.DiGraph([(i, j) for i in range(6) for j in range(i + 1, 6)])
    for view in (graph.subgraph([5, 3, 0]), graph.reverse(copy=False), nx.freeze(graph.copy())):
        found = original_graph(deepstruct.from_networkx(view, 3, 2).structure)
        assert list(found) == list(view)
        assert set(found.edges) == set(view.edges)
    undirected = graph.to_undirected().subgraph([4, 2, 1])
    structure = deepstruct.from_networkx(undirected, 3, 2, orientation="vertex-order").structure
    assert nx.utils.graphs_equal(original_graph(structure), nx.Graph(undirected))


class Own(nx.DiGraph):  # type: ignore[type-arg]  # networkx is not generic at run time
    """A class of graphs that deepstruct does not know."""


def test_another_class_of_graphs_is_a_loss() -> None:
    losses: list[Loss] = []
    assert deepstruct.from_networkx(Own([(0, 1)]), 3, 2, losses=losses)
    assert [(loss.what, loss.where) for loss in losses] == [("graph class", "graph")]
    with pytest.warns(LossWarning, match=r"an? Own: not carried: .*Own comes back as a networkx.DiGraph"):
        deepstruct.from_networkx(Own([(0, 1)]), 3, 2)


@given(graph=typed_graphs())
def test_undirected_edges_lead_away_from_the_first_vertex(graph: Graph) -> None:
    found = deepstruct.from_networkx(graph, 3, 2, orientation=oriented(graph)).structure
    place = {vertex: number for number, vertex in enumerate(graph)}
    directed: Graph = nx.DiGraph()
    directed.add_nodes_from(graph)
    given_order = graph.is_directed()
    directed.add_edges_from((u, v) if given_order or place[u] < place[v] else (v, u) for u, v in graph.edges())
    expected = deepstruct.from_networkx(directed, 3, 2).structure
    assert found.parameters == expected.parameters
    assert found.nodes == expected.nodes


def long_cycle() -> Graph:
    return nx.cycle_graph(50, create_using=nx.DiGraph)


@pytest.mark.parametrize(
    ("graph", "options", "kind", "match"),
    [
        (
            nx.DiGraph([(0, 1), (1, 2), (2, 1)]),
            {},
            StructureError,
            r"cycle.*: 1 -> 2 -> 1; remove an edge.*GRAPH_CYCLE",
        ),
        (long_cycle(), {}, StructureError, r"8 -> 9 -> \.\.\. \(50 vertices\)"),
        (nx.DiGraph([("a", "a")]), {}, StructureError, r"'a' -> 'a'"),
        (nx.Graph([("a", "a")]), {"orientation": "vertex-order"}, StructureError, r"'a' -> 'a'"),
        (nx.DiGraph(), {}, StructureError, "no vertices"),
        (nx.path_graph(3), {}, UsageError, "undirected: say how.*orientation='vertex-order'"),
        (nx.path_graph(3), {"orientation": "vertex-ordr"}, UsageError, "did you mean 'vertex-order'"),
        (nx.path_graph(3), {"orientation": 1}, UsageError, "unknown orientation 1"),
        (nx.path_graph(3, nx.DiGraph), {"orientation": "vertex-order"}, UsageError, "the graph is directed"),
        (nx.MultiDiGraph([(0, 1), (0, 1)]), {}, UnsupportedError, "2 parallel edges between 0 and 1"),
        (nx.MultiGraph([(0, 1), (1, 0)]), {"orientation": "vertex-order"}, UnsupportedError, "2 parallel edges"),
        ([(0, 1)], {}, UsageError, "takes a networkx graph, not a list"),
        (nx.path_graph(3, nx.DiGraph), {"dtype": "int8"}, UsageError, "unknown dtype 'int8'"),
        (nx.path_graph(3, nx.DiGraph), {"init": "best"}, UsageError, "unknown init 'best'"),
        (nx.path_graph(3, nx.DiGraph), {"seed": 1}, UsageError, "a seed means nothing without init"),
    ],
    ids=range(15),
)
def test_what_is_no_network_is_refused(graph: Graph, options: Any, kind: type[DeepstructError], match: str) -> None:
    with pytest.raises(kind, match=match):
        deepstruct.from_networkx(graph, 3, 2, **options)


@pytest.mark.parametrize("size", [0, -1, True, 1.0, 2**31, 10**30, "3", [3]], ids=repr)
@pytest.mark.parametrize("name", ["in_features", "out_features"])
def test_sizes_that_are_none_are_refused(name: str, size: Any) -> None:
    sizes: Any = {"in_features": 3, "out_features": 2, name: size}
    with pytest.raises(UsageError, match=f"{name} must be an integer from 1 to 2147483647"):
        deepstruct.from_networkx(nx.DiGraph([(0, 1)]), **sizes)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import networkx as nx, deepstruct
from deepstruct.graph_data import original_graph
graph = nx.DiGraph([(0, 1), (1, 2), (0, 2)], name="a")
model = deepstruct.from_networkx(graph, 3, 2, init="kaiming", seed=1)
deepstruct.save(model, sys.argv[1])
assert nx.utils.graphs_equal(original_graph(deepstruct.load(sys.argv[1]).structure), graph)
assert not {"onnx", "scipy"} & set(sys.modules)
"""


def test_torch_is_not_needed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "a.structure.json")], check=True)


def test_a_hundred_thousand_edges() -> None:
    rng = np.random.default_rng(0)
    layer = rng.integers(0, 12, 20_000)
    ends = rng.integers(0, 20_000, (2, 120_000))
    graph: Graph = nx.DiGraph()
    graph.add_nodes_from(range(20_000))
    graph.add_edges_from(ends[:, layer[ends[0]] < layer[ends[1]]].T.tolist())
    graph.add_edges_from((u, v, {"weight": u / 7}) for u, v in list(graph.edges)[::10])
    assert graph.number_of_edges() > 50_000
    structure: Structure = deepstruct.from_networkx(graph, 10, 3).structure
    assert nx.utils.graphs_equal(original_graph(structure), graph)


def test_old_documents_keep_their_keys() -> None:
    module = module_of(nx.DiGraph([(2, "b"), ("b", 1.5), (2, ("c", (1, None))), (True, 1.5), ("b", "é")]))
    structure = deepstruct.from_module(module, losses=[]).structure
    assert structure.attributes["vertices"] == ((2, True), ("b", ("c", (1, None))), (1.5, "é"))
    assert set(original_graph(structure)) == {2, True, "b", ("c", (1, None)), 1.5, "é"}


@pytest.mark.parametrize("sizes", [{}, {"in_features": 3}, {"out_features": 2}])
def test_sizes_are_needed_unless_a_graph_says_them(sizes: Any) -> None:
    with pytest.raises(UsageError, match="in_features and out_features are needed"):
        deepstruct.from_networkx(nx.DiGraph([(0, 1)]), **sizes)
