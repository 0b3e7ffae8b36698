"""MaskedDeepDAN: its formula unit by unit, the graphs it takes and gives back, and what it refuses."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from deepstruct import pruning
from deepstruct.dan import MaskedDeepDAN
from deepstruct.ffn import MaskedDeepFFN
from deepstruct.graph import CachedLayeredGraph, LabeledDAG, LayeredGraph
from deepstruct.masked import MaskedLinearLayer, maskable_layers, maskable_layers_with_name

KEYS = [3, "a", (1, 2), 0.5, "", frozenset({1}), b"b", Fraction(1, 3), -1]
KINDS = list(itertools.product([False, True], [False, True]))
DIAMOND = [("a", "b"), ("b", "c"), ("a", "c"), ("c", "e"), ("a", "e"), ("d", "e")]
Graph = Any  # networkx is not generic at run time


@st.composite
def dags(draw: st.DrawFn) -> Graph:
    """Directed acyclic graphs with keys of several types, in an order that is not topological."""
    keys = draw(st.permutations(KEYS))[: draw(st.integers(1, len(KEYS)))]
    pairs = list(itertools.combinations(keys, 2))
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    graph: Graph = draw(st.sampled_from([nx.DiGraph, LayeredGraph, CachedLayeredGraph, nx.MultiDiGraph]))()
    graph.add_nodes_from(draw(st.permutations(keys)))
    graph.add_edges_from(edges)
    return graph


@st.composite
def labelled(draw: st.DrawFn) -> LabeledDAG:
    """Graphs with layers of their own, whose numbers have gaps and which edges need not join."""
    graph = LabeledDAG()
    vertices = [
        (int(vertex), layer)
        for layer in sorted(draw(st.sets(st.integers(0, 20), min_size=1, max_size=4)))
        for vertex in graph.add_vertices(draw(st.integers(1, 3)), layer=layer)
    ]
    pairs = [(u, v) for (u, first), (v, second) in itertools.combinations(vertices, 2) if first < second]
    graph.add_edges_from(draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else [])
    return graph


def layers_of(graph: Graph) -> list[list[Any]]:
    """Layers by their definition: those of a LabeledDAG, else longest paths."""
    if isinstance(graph, LabeledDAG):
        return [graph.get_vertices(layer) for layer in graph.layers]
    depth: dict[Any, int] = {}
    directed: Graph = nx.DiGraph(graph)
    for vertex in nx.topological_sort(directed):
        depth[vertex] = 1 + max((depth[source] for source in directed.predecessors(vertex)), default=-1)
    return [[v for v in graph if depth[v] == layer] for layer in range(max(depth.values()) + 1)]


def randomised(model: nn.Module) -> None:
    """Other values than the initial ones, for all that is trained, and also where nothing is connected."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()


def expected(model: MaskedDeepDAN, graph: Graph, x: Tensor) -> Tensor:
    """The output from graph and state_dict, unit by unit."""
    state: dict[str, Tensor] = model.state_dict()
    layers = layers_of(graph)
    place = {vertex: number for number, layer in enumerate(layers) for vertex in layer}
    skips = sorted({(place[v], place[u]) for u, v in graph.edges() if place[v] - place[u] > 1})

    def sums(name: str, hidden: list[Tensor], source: int, target: int) -> Tensor:
        units = []
        for row, v in enumerate(layers[target]):
            terms = [torch.zeros(len(x), dtype=x.dtype)]
            if f"{name}.bias" in state:
                terms.append(state[f"{name}.bias"][row].expand(len(x)))
            for column, u in enumerate(layers[source]):
                if graph.has_edge(u, v):
                    terms.append(state[f"{name}.weight"][row, column] * hidden[source][:, column])
            units.append(torch.stack(terms).sum(0))
        return torch.stack(units, dim=1)

    def norm(target: int, values: Tensor) -> Tensor:
        if not model.use_layer_norm:
            return values
        name = f"layer_normalizations.{target}"
        centred = values - values.mean(1, keepdim=True)
        scale = (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        return centred / scale * state[f"{name}.weight"] + state[f"{name}.bias"]

    hidden = [(x.flatten(1) @ state["layer_first.weight"].T + state["layer_first.bias"]).relu()]
    for target in range(1, len(layers)):
        total = sums(f"layers_main_hidden.{target - 1}", hidden, target - 1, target)
        if not model.sum_before_activation:
            total = norm(target, total).relu()
        for number, (_, source) in ((n, pair) for n, pair in enumerate(skips) if pair[0] == target):
            skipped = sums(f"layers_skip_hidden.{number}", hidden, source, target)
            total = total + (skipped if model.sum_before_activation else skipped.relu())
        hidden.append(norm(target, total).relu() if model.sum_before_activation else total)
    return hidden[-1] @ state["layer_out.weight"].T + state["layer_out.bias"]


def gradients(model: MaskedDeepDAN, x: Tensor) -> dict[str, Tensor | None]:
    """Gradient of each weight and bias of each layer by its name in the state_dict."""
    model.zero_grad()
    model(x).square().sum().backward()
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, MaskedLinearLayer | nn.LayerNorm):
            tensors = {"weight": module.weight, "bias": module.bias}
            found.update({f"{name}.{key}": tensor.grad for key, tensor in tensors.items() if tensor is not None})
    return found


@pytest.mark.parametrize(("use_layer_norm", "sum_before_activation"), KINDS)
@given(graph=dags() | labelled(), batch=st.sampled_from([0, 1, 5]), seed=st.integers(0, 2**16))
@example(graph=nx.DiGraph(DIAMOND), batch=3, seed=0)
@example(graph=nx.path_graph(12, create_using=nx.DiGraph), batch=3, seed=1)
@example(graph=nx.DiGraph(itertools.combinations(range(8), 2)), batch=3, seed=2)
@example(graph=nx.complete_multipartite_graph(4, 5, 6).to_directed().edge_subgraph([(0, 4), (4, 9)]), batch=2, seed=0)
@example(graph=nx.empty_graph(3, create_using=nx.DiGraph), batch=2, seed=3)
@example(graph=nx.empty_graph(3), batch=2, seed=3)
def test_it_computes_its_formula(
    use_layer_norm: bool, sum_before_activation: bool, graph: Graph, batch: int, seed: int
) -> None:
    torch.manual_seed(seed)
    x = torch.randn(batch, 2, 3, dtype=torch.float64)
    flags = (use_layer_norm, sum_before_activation)
    packed = MaskedDeepDAN((2, 3), 2, graph, *flags).double()
    randomised(packed)
    apart = MaskedDeepDAN((2, 3), 2, graph, *flags, packed=False).double()
    assert list(apart.state_dict()) == list(packed.state_dict())
    apart.load_state_dict(packed.state_dict())
    wanted = expected(packed, graph, x)
    for model in (packed, apart):
        torch.testing.assert_close(model(x), wanted, rtol=1e-10, atol=1e-10)
        with torch.no_grad():
            torch.testing.assert_close(model(x), wanted, rtol=1e-10, atol=1e-10)
    mine, theirs = gradients(packed, x), gradients(apart, x)
    assert mine.keys() == theirs.keys()
    for name, gradient in theirs.items():
        zeros = torch.zeros_like(packed.state_dict()[name])
        given_back, reference = mine[name], gradient
        torch.testing.assert_close(
            zeros if given_back is None else given_back, zeros if reference is None else reference, rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("use_layer_norm", "sum_before_activation"), KINDS)
def test_state_dict_keys_are_those_of_the_earlier_library(
    use_layer_norm: bool, sum_before_activation: bool, packed: bool
) -> None:
    model = MaskedDeepDAN(4, 2, nx.DiGraph(DIAMOND), use_layer_norm, sum_before_activation, packed)
    own: tuple[str, ...] = ("weight", "bias", "_mask")
    skip = ("weight", "_mask") if sum_before_activation else own
    keys = [("layer_first", own), *((f"layers_main_hidden.{i}", own) for i in range(3))]
    keys += [(f"layer_normalizations.{i}", own[:2]) for i in range(4) if use_layer_norm]
    keys += [*((f"layers_skip_hidden.{i}", skip) for i in range(2)), ("layer_out", own)]
    assert list(model.state_dict()) == [f"{scope}.{name}" for scope, names in keys for name in names]
    names = [name for name, _ in maskable_layers_with_name(model)]
    assert names == [scope for scope, _ in keys if not scope.startswith("layer_n")]


def test_skips_are_ordered_by_target_then_source() -> None:
    edges = [(0, 1), (1, 2), (2, 3), (3, 4), (1, 4), (0, 3), (0, 4), (0, 2)]
    model = MaskedDeepDAN(4, 2, nx.DiGraph(edges))
    assert model.wiring.skips == ((0, 2), (0, 3), (0, 4), (1, 4))
    assert model.wiring.pairs == [(0, 1), (1, 2), (2, 3), (3, 4), *model.wiring.skips]
    assert len(model.layers_skip_hidden) == 4


@pytest.mark.parametrize("size", [6, np.int64(6), (1, 2, 3), [6], torch.Size([2, 3]), np.array([2, 3])])
def test_input_sizes_are_multiplied(size: Any) -> None:
    model = MaskedDeepDAN(size, 2, nx.DiGraph(DIAMOND))
    assert model.layer_first.in_features == 6
    assert model(torch.randn(4, 2, 3)).shape == (4, 2)
    assert MaskedDeepFFN(size, 2, [3])._layer_first.in_features == 6


def cycle() -> Graph:
    return nx.DiGraph([(1, 2), (2, 1)])


@pytest.mark.parametrize(
    ("structure", "error", "words"),
    [
        (cycle(), ValueError, "cycle.*1 -> 2"),
        (nx.DiGraph([(1, 1)]), ValueError, "cycle"),
        (nx.DiGraph([(0, 1), (1, 2), (2, 1), (2, 3)]), ValueError, "cycle"),
        (nx.path_graph(3), ValueError, "undirected"),
        (nx.MultiDiGraph([(1, 2), (1, 2)]), ValueError, "parallel"),
        (nx.DiGraph(), ValueError, "no vertices"),
        (CachedLayeredGraph(), ValueError, "no vertices"),
        (LabeledDAG(), ValueError, "no vertices"),
        ([(0, 1)], TypeError, "networkx"),
        (None, TypeError, "networkx"),
    ],
)
def test_what_is_no_graph_of_layers_is_refused(structure: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        MaskedDeepDAN(4, 2, structure)


@pytest.mark.parametrize(
    ("size_input", "size_output", "error"),
    [
        (0, 2, ValueError),
        ((2, 0), 2, ValueError),
        ((-2, -3), 2, ValueError),
        (4, 0, ValueError),
        (4, -1, ValueError),
        (1.5, 2, TypeError),
        ("4", 2, TypeError),
        (4, 2.0, TypeError),
        (None, 2, TypeError),
    ],
)
@pytest.mark.parametrize(
    "build", [lambda i, o: MaskedDeepDAN(i, o, nx.DiGraph(DIAMOND)), lambda i, o: MaskedDeepFFN(i, o, [3])]
)
def test_impossible_sizes_are_refused(
    build: Callable[[Any, Any], object], size_input: Any, size_output: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        build(size_input, size_output)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("include_input", "include_output"), KINDS)
@given(graph=dags() | labelled(), seed=st.integers(0, 2**16))
def test_the_graph_of_a_network_has_an_edge_for_each_connection(
    packed: bool, include_input: bool, include_output: bool, graph: Graph, seed: int
) -> None:
    torch.manual_seed(seed)
    model = MaskedDeepDAN(3, 2, graph, packed=packed)
    for layer in maskable_layers(model):
        layer.mask = layer.mask & (torch.rand(layer.weight.shape) < 0.8)
    layers = layers_of(graph)
    units = [("in", i) for i in range(3 * include_input)]
    units += [("unit", vertex) for layer in layers for vertex in layer]
    units += [("out", i) for i in range(2 * include_output)]
    number = {unit: position for position, unit in enumerate(units)}
    edges = set()
    for (source, target), layer in zip(
        model.wiring.pairs, [*model.layers_main_hidden, *model.layers_skip_hidden], strict=True
    ):
        for row, column in layer.mask.nonzero().tolist():
            edges.add((number["unit", layers[source][column]], number["unit", layers[target][row]]))
    if include_input:
        first = model.layer_first.mask.nonzero().tolist()
        edges |= {(number["in", column], number["unit", layers[0][row]]) for row, column in first}
    if include_output:
        last = model.layer_out.mask.nonzero().tolist()
        edges |= {(number["unit", layers[-1][column]], number["out", row]) for row, column in last}
    found = model.generate_structure(include_input, include_output)
    assert list(found) == list(range(len(units)))
    assert set(found.edges) == edges
    assert {v: data["vertex"] for v, data in found.nodes(data=True) if data} == {
        position: vertex for (kind, vertex), position in number.items() if kind == "unit"
    }
    matrix = model.adjacency(include_input, include_output)
    assert (type(matrix).__name__, matrix.dtype, matrix.shape) == ("csr_array", np.bool_, (len(units),) * 2)
    assert set(zip(*(ends.tolist() for ends in matrix.nonzero()), strict=True)) == edges


@given(graph=dags() | labelled())
def test_the_graph_of_a_new_network_is_its_own(graph: Graph) -> None:
    model = MaskedDeepDAN(3, 2, graph)
    found = model.generate_structure()
    key = nx.get_node_attributes(found, "vertex")
    assert set(key.values()) == set(graph)
    assert {(key[u], key[v]) for u, v in found.edges} == set(nx.DiGraph(graph).edges)
    if isinstance(graph, LabeledDAG):
        return
    assert [len(layer) for layer in layers_of(found)] == model.wiring.sizes
    again = MaskedDeepDAN(3, 2, found)
    assert again.wiring.skips == model.wiring.skips
    again.load_state_dict(model.state_dict())
    x = torch.randn(4, 3)
    assert torch.equal(again(x), model(x))


@pytest.mark.parametrize("include_input", [False, True])
@pytest.mark.parametrize("include_output", [False, True])
@pytest.mark.parametrize("hidden", [[5], [5, 7], [5, 7, 3]])
def test_the_matrix_of_a_feed_forward_network(include_input: bool, include_output: bool, hidden: list[int]) -> None:
    model = MaskedDeepFFN(4, 2, hidden)
    for layer in maskable_layers(model):
        layer.mask = torch.rand(layer.weight.shape) < 0.5
    graph = model.generate_structure(include_input, include_output)
    matrix = model.adjacency(include_input, include_output)
    assert matrix.dtype == np.bool_
    assert (matrix.toarray() == nx.to_numpy_array(graph)).all()


def test_a_wiring_alone_gives_empty_masks() -> None:
    graph = nx.DiGraph(DIAMOND)
    model = MaskedDeepDAN(4, 2, graph, True, True)
    empty = MaskedDeepDAN.from_wiring(4, 2, model.wiring, use_layer_norm=True, sum_before_activation=True)
    assert not any(layer.mask.any() for layer in [*empty.layers_main_hidden, *empty.layers_skip_hidden])
    empty.load_state_dict(model.state_dict())
    x = torch.randn(3, 4)
    assert torch.equal(empty(x), model(x))
    with pytest.raises(ValueError, match="positive"):
        MaskedDeepDAN.from_wiring(0, 2, model.wiring)


def test_the_graph_is_not_kept() -> None:
    graph = nx.DiGraph(DIAMOND)
    model = MaskedDeepDAN(4, 2, graph)
    x = torch.randn(3, 4)
    before, structure = model(x), model.generate_structure()
    assert not any(isinstance(value, nx.Graph) for value in vars(model).values())
    graph.remove_node("c")
    graph.add_edge("e", "a")
    assert torch.equal(model(x), before)
    assert nx.utils.graphs_equal(model.generate_structure(), structure)


@pytest.mark.parametrize("packed", [True, False])
def test_pruning_removes_exactly_what_is_asked(packed: bool) -> None:
    torch.manual_seed(0)
    graph = nx.DiGraph(edge for edge in itertools.combinations(range(12), 2) if sum(edge) % 3)
    model = MaskedDeepDAN(4, 2, graph, packed=packed)

    def count() -> int:
        return sum(int(layer.get_weight_count()) for layer in maskable_layers(model))

    before = count()
    pruning.prune_network_by_saliency(model, 10, pruning.PruningStrategy.ABSOLUTE)
    pruning.prune_layer_by_saliency(model, 5, pruning.PruningStrategy.ABSOLUTE)
    pruning.magnitude_class_blinded(model, 0)
    assert count() == before - 15
    for prune in (pruning.magnitude_class_blinded, pruning.random_pruning, pruning.magnitude_class_distributed):
        remaining = count()
        prune(model, 50)
        assert count() == remaining - round(remaining / 2)
    pruning.magnitude_class_uniform(model, 100)
    assert count() == 0
    fresh: Any = MaskedDeepDAN(4, 2, nx.DiGraph([(0, 2), (1, 2), (0, 3), (1, 3)]), packed=packed)
    pruning.prune_n_m(fresh, 1, 2)
    assert fresh.layers_main_hidden[0].mask.sum() == 2


def test_layers_of_hidden_units_learn() -> None:
    torch.manual_seed(0)
    model = MaskedDeepDAN(4, 2, nx.DiGraph(DIAMOND), use_layer_norm=False, sum_before_activation=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    x = torch.randn(64, 4)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss: Any = nn.functional.cross_entropy(model(x), (x[:, 0] > 0).long())
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


MEMORY = """
import resource, networkx as nx
from deepstruct.dan import MaskedDeepDAN
small = nx.watts_strogatz_graph(20, 4, 0.5, seed=0)
undirected = nx.watts_strogatz_graph(20_000, 4, 0.5, seed=0)
graph = nx.DiGraph((min(edge), max(edge)) for edge in undirected.edges)
MaskedDeepDAN(3, 2, nx.DiGraph((min(edge), max(edge)) for edge in small.edges))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = MaskedDeepDAN(3, 2, graph)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sizes = model.wiring.sizes
dense = 4 * sum(sizes[source] * sizes[target] for source, target in model.wiring.pairs)
print(1024 * (after - before), dense)
assert model._packed.mask.sum() == graph.number_of_edges()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts in kilobytes, and pages are taken as on Linux")
def test_memory_is_taken_for_connections_only() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True)
    growth, dense = map(int, done.stdout.split())
    assert growth < dense / 4
