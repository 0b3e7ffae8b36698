"""DeepCellDAN: its formula restated, the order of predecessors, and what it refuses."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import networkx as nx
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from deepstruct.cell_dan import DeepCellDAN
from deepstruct.graph import CachedLayeredGraph, LabeledDAG

KEYS = [3, "a", (1, 2), 0.5, "", frozenset({1}), -1]
Graph = Any  # networkx is not generic at run time


class Cell(nn.Module):
    """A convolution to one channel, with a stride and so a size that depends on the place in the graph."""

    def __init__(self, *, in_degree: int, layer: int, input_channel_size: int, out_degree: int, **rest: bool) -> None:
        super().__init__()
        assert rest == {"is_input": in_degree == 0, "is_output": out_degree == 0}
        stride = (1 + (in_degree + layer) % 2, 1 + (in_degree + out_degree) % 3)
        channels = in_degree or input_channel_size
        self.convolution = nn.Conv2d(channels, 1, 3, stride=stride, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.convolution(input)
        return output.tanh()


@st.composite
def dags(draw: st.DrawFn) -> Graph:
    keys = draw(st.permutations(KEYS))[: draw(st.integers(1, len(KEYS)))]
    pairs = list(itertools.combinations(keys, 2))
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    graph: Graph = draw(st.sampled_from([nx.DiGraph, CachedLayeredGraph, nx.MultiDiGraph]))()
    graph.add_nodes_from(draw(st.permutations(keys)))
    graph.add_edges_from(edges)
    return graph


def joined(outputs: list[Tensor]) -> Tensor:
    height, width = max(o.shape[2] for o in outputs), max(o.shape[3] for o in outputs)
    result = outputs[0].new_zeros(len(outputs[0]), sum(o.shape[1] for o in outputs), height, width)
    channel = 0
    for output in outputs:
        result[:, channel : channel + output.shape[1], : output.shape[2], : output.shape[3]] = output
        channel += output.shape[1]
    return result


def expected(model: DeepCellDAN, graph: Graph, x: Tensor) -> Tensor:
    cells = dict(zip(graph, model._nodes, strict=True))
    outputs: dict[Any, Tensor] = {}
    directed: Graph = nx.DiGraph(graph)
    for vertex in nx.topological_sort(directed):
        sources = [source for source, _ in graph.in_edges(vertex)]
        outputs[vertex] = cells[vertex](joined([outputs[source] for source in sources]) if sources else x)
    last = model._last_convolution(joined([outputs[v] for v in graph if graph.out_degree(v) == 0]))
    norm = model._last_batch_norm
    mean, variance = last.mean((0, 2, 3), keepdim=True), last.var((0, 2, 3), keepdim=True, unbiased=False)
    weight, bias = norm.weight[:, None, None], norm.bias[:, None, None]
    last = (last - mean) / (variance + norm.eps).sqrt() * weight + bias
    result: Tensor = last.mean((2, 3)) @ model._last_fc.weight.T + model._last_fc.bias
    return result


@given(graph=dags(), size=st.tuples(st.integers(3, 9), st.integers(3, 9)), seed=st.integers(0, 2**16))
@example(graph=nx.path_graph(6, create_using=nx.DiGraph), size=(7, 5), seed=0)
@example(graph=nx.empty_graph(3, create_using=nx.DiGraph), size=(7, 5), seed=0)
@example(graph=nx.DiGraph(itertools.combinations(range(6), 2)), size=(9, 4), seed=0)
def test_it_computes_its_formula(graph: Graph, size: tuple[int, int], seed: int) -> None:
    torch.manual_seed(seed)
    model = DeepCellDAN(4, 3, Cell, graph).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(model(x), expected(model, graph, x), rtol=1e-9, atol=1e-9)


def test_state_dict_keys_are_those_of_the_earlier_library() -> None:
    model = DeepCellDAN(4, 3, Cell, nx.DiGraph([("b", "a"), ("a", "c")]))
    keys = [f"_nodes.{i}.convolution.{name}" for i in range(3) for name in ("weight", "bias")]
    keys += [f"_last_convolution.{name}" for name in ("weight", "bias")]
    keys += [f"_last_batch_norm.{n}" for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]
    assert list(model.state_dict()) == [*keys, "_last_fc.weight", "_last_fc.bias"]
    assert model.vertices == ("b", "a", "c")
    assert model.predecessors == ((), (0,), (1,))


def test_the_order_of_predecessors_is_kept() -> None:
    models = []
    for edges in ([(0, 2), (1, 2)], [(1, 2), (0, 2)]):
        graph: Graph = nx.DiGraph()
        graph.add_nodes_from(range(3))
        graph.add_edges_from(edges)
        torch.manual_seed(0)
        models.append(DeepCellDAN(2, 3, Cell, graph))
    one, other = models
    assert (one.predecessors[2], other.predecessors[2]) == ((0, 1), (1, 0))
    other.load_state_dict(one.state_dict())
    x = torch.randn(4, 3, 8, 8)
    assert not torch.allclose(one(x), other(x), atol=1e-4)
    with torch.no_grad():
        other.get_parameter("_nodes.2.convolution.weight").copy_(
            one.get_parameter("_nodes.2.convolution.weight").flip(1)
        )
    torch.testing.assert_close(one(x), other(x))


def test_the_constructor_is_told_the_place_of_each_cell() -> None:
    told = []

    def cell(**place: Any) -> nn.Module:
        told.append(place)
        return Cell(**place)

    DeepCellDAN(2, 3, cell, nx.DiGraph([(0, 1), (1, 2), (0, 2)]))
    names = ("is_input", "is_output", "in_degree", "out_degree", "layer", "input_channel_size")
    assert [tuple(place[name] for name in names) for place in told] == [
        (True, False, 0, 2, 0, 3),
        (False, False, 1, 1, 1, 3),
        (False, True, 2, 0, 2, 3),
    ]
    assert all(set(place) == set(names) for place in told)


def test_layers_of_a_labelled_graph_are_its_own() -> None:
    graph = LabeledDAG()
    for layer in (2, 5, 9):
        graph.add_vertices(2, layer=layer)
    graph.add_edges_from([(0, 2), (1, 4), (3, 4), (2, 5)])
    layers = []

    def cell(**place: Any) -> nn.Module:
        layers.append(place["layer"])
        return Cell(**place)

    model = DeepCellDAN(2, 3, cell, graph)
    assert layers == [0, 0, 1, 1, 2, 2]
    assert model(torch.randn(2, 3, 6, 6)).shape == (2, 2)


def test_it_learns_and_is_copied() -> None:
    torch.manual_seed(0)
    graph: Graph = nx.DiGraph([(0, 2), (1, 2), (2, 3), (0, 3)])
    model = DeepCellDAN(2, 1, Cell, graph)
    x = torch.randn(32, 1, 6, 6)
    x[:16] += 1
    target = torch.arange(32) // 16
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss: Any = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    model.eval()
    graph.clear()
    other = DeepCellDAN(2, 1, Cell, nx.DiGraph([(0, 2), (1, 2), (2, 3), (0, 3)])).eval()
    other.load_state_dict(model.state_dict())
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), other):
        assert torch.equal(copied(x), model(x))
    weight = model.get_parameter("_last_fc.weight").clone()
    model.reset_parameters()
    assert not torch.equal(model.get_parameter("_last_fc.weight"), weight)


class Gives(nn.Module):
    """Gives something, whatever it takes."""

    def __init__(self, output: object) -> None:
        super().__init__()
        self.output = output

    def forward(self, *_inputs: Tensor) -> object:
        return self.output


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (torch.ones(2, 3), "cell of vertex 'a' gives a tensor of rank 2"),
        (None, "cell of vertex 'a' gives a NoneType"),
        ((torch.ones(1, 1, 2, 2),), "cell of vertex 'a' gives a tuple"),
        (torch.ones(1, 2, 2, 2), "1 sinks give 2 channels"),
    ],
)
def test_what_no_cell_may_give_is_refused(output: object, words: str) -> None:
    model = DeepCellDAN(2, 1, lambda **_: Gives(output), nx.DiGraph([("a", "b")]).subgraph(["a"]))
    with pytest.raises(ValueError, match=words):
        model(torch.ones(1, 1, 2, 2))


@pytest.mark.parametrize(
    ("structure", "error", "words"),
    [
        (nx.DiGraph([(1, 2), (2, 1)]), ValueError, "cycle"),
        (nx.DiGraph([(1, 1)]), ValueError, "cycle"),
        (nx.path_graph(3), ValueError, "undirected"),
        (nx.MultiDiGraph([(1, 2), (1, 2)]), ValueError, "parallel"),
        (nx.DiGraph(), ValueError, "no vertices"),
        ([(0, 1)], TypeError, "networkx"),
    ],
)
def test_what_is_no_graph_of_layers_is_refused(structure: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        DeepCellDAN(2, 1, Cell, structure)


@pytest.mark.parametrize(
    ("classes", "channels", "error"),
    [(0, 1, ValueError), (2, 0, ValueError), (2.5, 1, TypeError), (2, (1,), TypeError)],
)
def test_impossible_sizes_are_refused(classes: Any, channels: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        DeepCellDAN(classes, channels, Cell, nx.empty_graph(1, create_using=nx.DiGraph))


def test_a_constructor_must_make_modules() -> None:
    make: Any = lambda **_: torch.relu  # noqa: E731 - as short as the mistake itself
    with pytest.raises(TypeError, match="vertex 0"):
        DeepCellDAN(2, 1, make, nx.empty_graph(1, create_using=nx.DiGraph))


def test_a_graph_without_edges_has_no_directions() -> None:
    assert DeepCellDAN(2, 1, Cell, nx.empty_graph(3))(torch.ones(2, 1, 4, 4)).shape == (2, 2)
