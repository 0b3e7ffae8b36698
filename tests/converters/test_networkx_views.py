"""Structure -> networkx graph of order 0, 1 or 2 -> the same structure."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_expansion import NETWORKS, pruned
from torch import nn

import deepstruct
from deepstruct import Model, Structure
from deepstruct.converters.networkx import from_networkx
from deepstruct.errors import DeepstructError, DocumentError, StructureError, UnsupportedError, UsageError
from deepstruct.sparse import MaskedDeepDAN, MaskedDeepFFN, maskable_layers
from deepstruct.testing import chains, feed_forward, with_weights

ORDERS = (0, 1, 2)


def graph_made() -> Structure:
    graph = nx.DiGraph([("a", 1), (1, (2, "x")), ("a", (2, "x")), (1, 2.5)], name="odd")
    graph.add_node("iso", id=1)
    return from_networkx(graph, 5, 3)


@given(chains(), st.sampled_from(ORDERS), st.booleans(), st.booleans())
def test_the_structure_comes_back(structure: Structure, order: Any, first: bool, last: bool) -> None:
    graph = deepstruct.to_networkx(structure, order, include_input=first, include_output=last)
    assert deepstruct.from_networkx(graph).structure == structure


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("order", ORDERS)
def test_the_structure_of_any_network_comes_back(name: str, order: Any) -> None:
    torch.manual_seed(5)
    make, shape = NETWORKS[name]
    structure = deepstruct.from_module(pruned(make()), (torch.randn(shape),), losses=[]).structure
    graph = deepstruct.to_networkx(structure, order, include_input=True, include_output=True)
    assert nx.is_directed_acyclic_graph(graph)
    assert deepstruct.from_networkx(graph).structure == structure


@pytest.mark.parametrize("order", ORDERS)
def test_a_network_in_the_shape_of_a_graph_comes_back(order: Any) -> None:
    structure = graph_made()
    graph = deepstruct.to_networkx(structure, order)
    assert deepstruct.from_networkx(graph).structure == structure
    if order == 0:
        assert [data["vertex"] for _, data in graph.nodes(data=True)] == ["a", "iso", 1, (2, "x"), 2.5]
        whole = deepstruct.to_networkx(structure, 0, include_input=True)
        assert [whole.nodes[vertex].get("vertex") for vertex in range(4, 7)] == [None, "a", "iso"]


def test_without_an_order_the_own_graph_comes_back() -> None:
    graph = deepstruct.to_networkx(graph_made())
    assert list(graph) == ["a", 1, (2, "x"), 2.5, "iso"]
    assert graph.graph == {"name": "odd"}
    assert graph.nodes["iso"] == {"id": 1}
    other = deepstruct.to_networkx(feed_forward())
    assert other.graph["order"] == 0


def test_units_and_connections_are_described() -> None:
    ffn = MaskedDeepFFN(4, 2, [5, 3])
    for layer in maskable_layers(ffn):
        layer.mask = torch.rand(layer.mask.shape) < 0.5
    model = deepstruct.from_module(ffn, losses=[])
    graph = deepstruct.to_networkx(model, 0, weights=True)
    assert graph.graph["layers"] == ["_layer_first", "_layers_hidden.0"]
    assert nx.utils.graphs_equal(nx.DiGraph(graph.edges), nx.DiGraph(ffn.generate_structure().edges))
    assert graph.nodes[6] == {"layer": 1, "unit": 1}
    assert model.weights is not None
    for source, target, data in graph.edges(data=True):
        assert data["parameter"] == "_layers_hidden.0.weight"
        row, column = divmod(data["index"], 5)
        assert (column, row + 5) == (source, target)
        assert data["weight"] == model.weights["_layers_hidden.0.weight"][row, column]


def test_kernels_have_the_share_that_is_kept() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 2, bias=False))
    mask = torch.zeros(3, 2, 2, 2)
    mask[0, 1, 0, 1] = mask[0, 1, 1, 1] = mask[2, 0, 0, 0] = 1
    torch.nn.utils.prune.custom_from_mask(net[0], "weight", mask)  # type: ignore[no-untyped-call]  # torch has no type for it
    model = deepstruct.from_module(net, (torch.randn(1, 2, 5, 4),), losses=[])
    graph = deepstruct.to_networkx(model, 1, include_input=True, include_output=True)
    shares = {(source, target): data["share"] for source, target, data in graph.edges(data=True)}
    assert shares == {(1, 2): 0.5, (0, 4): 0.25}
    units = deepstruct.to_networkx(model, 0, include_input=True, include_output=True)
    assert units.number_of_nodes() == 40 + 36
    assert units.number_of_edges() == 3 * 12


def test_connections_that_are_removed_are_gone() -> None:
    structure = graph_made()
    graph = deepstruct.to_networkx(structure, 0)
    source, target, data = next(iter(graph.edges(data=True)))
    graph.remove_edge(source, target)
    mask = deepstruct.from_networkx(graph).structure.parameter(data["parameter"]).mask
    assert mask is not None
    assert not mask.flat()[data["index"]]
    graph.add_edge(source, target, **data)
    assert deepstruct.from_networkx(graph).structure == structure
    graph.remove_node(source)
    assert deepstruct.from_networkx(graph).structure.nnz == structure.nnz - 2


def test_one_of_parallel_connections_is_the_edge_and_none_is_lost() -> None:
    make, shape = NETWORKS["twice the same"]
    structure = deepstruct.from_module(make(), (torch.randn(shape),), losses=[]).structure
    graph = deepstruct.to_networkx(structure, 0, include_input=True, include_output=True)
    assert graph.number_of_edges() == 12
    assert deepstruct.from_networkx(graph).structure == structure


def test_skip_connections_are_edges_of_layers() -> None:
    graph = nx.DiGraph([(0, 1), (1, 2), (2, 3), (0, 3), (1, 3)])
    module = MaskedDeepDAN(2, 3, graph)
    structure = deepstruct.from_module(module, losses=[]).structure
    layers = deepstruct.to_networkx(structure, 2)
    assert nx.is_isomorphic(layers, graph)
    assert sum(data["connections"] for _, _, data in layers.edges(data=True)) == 5
    assert layers.nodes["layers_main_hidden.2"]["op_type"] == "Gemm"


def test_cells_are_contracted_by_their_scope() -> None:
    cells = nn.ModuleDict({f"cell{i}": nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4)) for i in range(3)})

    class Cells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = cells

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a = self.cells["cell0"](x)
            b = self.cells["cell1"](a)
            result: torch.Tensor = self.cells["cell2"](torch.cat([a, b], dim=1)[:, :4])
            return result

    structure = deepstruct.from_module(Cells(), (torch.randn(2, 4),), losses=[]).structure
    options: Any = {"include_input": True, "include_output": True}
    graph = deepstruct.to_networkx(structure, 2, depth=2, **options)
    assert set(graph) == {"x", "cells.cell0", "cells.cell1", "cells.cell2"}
    assert set(graph.edges) == {
        ("x", "cells.cell0"),
        ("cells.cell0", "cells.cell1"),
        ("cells.cell0", "cells.cell2"),
        ("cells.cell1", "cells.cell2"),
    }
    assert graph.nodes["cells.cell0"]["size"] == 4 * 6 + 6 + 6 * 4 + 4
    assert set(deepstruct.to_networkx(structure, 2, depth=1, **options)) == {"x", "cells"}
    assert deepstruct.to_networkx(structure, 2, **options).number_of_nodes() == 7


@pytest.mark.parametrize("order", [1, 2])
def test_changes_that_say_nothing_about_entries_are_refused(order: Any) -> None:
    graph = deepstruct.to_networkx(feed_forward((4, 5, 6, 3)), order, include_input=True)
    graph.remove_edge(*next(iter(graph.edges)))
    with pytest.raises(UnsupportedError, match="order 0"):
        deepstruct.from_networkx(graph)


def test_an_edge_that_stands_for_nothing_is_refused() -> None:
    graph = deepstruct.to_networkx(feed_forward((4, 5, 6, 3), density=0.1), 0)
    graph.add_edge(0, 5)
    with pytest.raises(UnsupportedError, match="'index'"):
        deepstruct.from_networkx(graph)


@pytest.mark.parametrize(
    "data",
    [{"index": 0}, {"parameter": "no", "index": 0}, {"index": 10**9}, {"index": -1}, {"index": 1.0}, {"index": True}],
)
def test_an_edge_that_stands_for_an_entry_that_is_not_there_is_refused(data: dict[str, Any]) -> None:
    structure = feed_forward((4, 5, 6, 3))
    graph = deepstruct.to_networkx(structure, 0)
    source, target = next(iter(graph.edges))
    known = {"parameter": structure.parameters[1].name} if data != {"index": 0} else {}
    graph.edges[source, target].clear()
    graph.edges[source, target].update({**known, **data})
    with pytest.raises(StructureError, match=r"entry|index"):
        deepstruct.from_networkx(graph)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "deepstruct"}', "\ud800"])
def test_a_broken_document_is_refused(text: str) -> None:
    graph = deepstruct.to_networkx(feed_forward(), 0)
    graph.graph["deepstruct"] = text
    with pytest.raises(DocumentError, match="'deepstruct'"):
        deepstruct.from_networkx(graph)


@pytest.mark.parametrize(
    "options",
    [
        {"order": 3},
        {"order": True},
        {"order": 0, "weights": True},
        {"order": 0, "depth": 1},
        {"order": 2, "depth": 0},
        {"order": 0, "shapes": {"z": (1, 1)}},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        deepstruct.to_networkx(feed_forward(), **options)


def test_weights_are_of_single_connections() -> None:
    with pytest.raises(UsageError, match="order 0"):
        deepstruct.to_networkx(with_weights(feed_forward()), 1, weights=True)
    with pytest.raises(UsageError, match="Structure or a Model"):
        deepstruct.to_networkx(nn.Linear(2, 3), 0)  # type: ignore[arg-type]  # the type is the test


def test_a_false_family_is_not_believed() -> None:
    structure = feed_forward()
    liar = Structure(
        nodes=structure.nodes,
        inputs=structure.inputs,
        outputs=structure.outputs,
        parameters=structure.parameters,
        attributes={"family": "dan", "skips": []},
    )
    with pytest.raises(DeepstructError):
        deepstruct.to_networkx(liar)
    assert np.isfinite(deepstruct.to_networkx(Model(structure)).number_of_edges())


def test_a_view_can_be_the_shape_of_another_network() -> None:
    graph = deepstruct.to_networkx(feed_forward((4, 5, 6, 3), density=0.5), 0)
    other = deepstruct.from_networkx(graph, 3, 2).structure
    own = deepstruct.to_networkx(other)
    assert nx.utils.graphs_equal(nx.DiGraph(own.edges), nx.DiGraph(graph.edges))
    assert "deepstruct" not in own.graph
    assert deepstruct.from_networkx(deepstruct.to_networkx(other, 0)).structure == other


def test_sizes_are_no_layers() -> None:
    model = deepstruct.from_module(nn.LSTM(3, 4, batch_first=True), (torch.randn(2, 5, 3),), losses=[])
    graph = deepstruct.to_networkx(model, 2, include_input=True, include_output=True)
    assert "Shape" not in {data["op_type"] for _, data in graph.nodes(data=True)}
