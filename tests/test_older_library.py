"""What deepstruct 0.10.0 computed is computed here, from the same calls and the same state.

`older_library.npz` was written by deepstruct 0.10.0 from PyPI with torch 2.13.0 and networkx 3.6.1 in float32, by the
constructors and functions below, all of which exist in both libraries. Per network it holds

- ``keys``: name, dtype and extents of each entry of the ``state_dict``, in its order, and ``state``: their values one
  after the other; weights, layer norms and masks were drawn at random after the network had been built;
- ``input`` and ``output``, and ``gradient``: that of the sum of the squared outputs, for every parameter, in order;
- ``fresh``: the masks that the constructor made, and ``edges``: those of ``generate_structure()`` with the state.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepstruct import pruning
from deepstruct.graph import CachedLayeredGraph, LabeledDAG
from deepstruct.recurrent import MaskedDeepRNN, MaskedGRULayer, MaskedLSTMLayer, MaskedRecurrentLayer
from deepstruct.scalable import ScalableDAN, ScalableDeepFFN
from deepstruct.sparse import DeepCellDAN, MaskedDeepDAN, MaskedDeepFFN, MaskedLinearLayer, maskable_layers

GOLDEN = Path(__file__).parent / "older_library.npz"
SKIPPING = [
    (0, 2),
    (1, 2),
    (1, 3),
    (2, 4),
    (3, 4),
    (0, 4),
    (4, 5),
    (0, 5),
    (3, 6),
    (1, 6),
    (6, 8),
    (2, 8),
]  # 7 is alone
SHUFFLED = [
    (7, 3),
    (5, 3),
    (7, 1),
    (2, 1),
    (3, 0),
    (1, 0),
    (5, 0),
    (3, 6),
    (7, 6),
    (0, 8),
    (6, 8),
    (2, 8),
    (6, 9),
    (5, 9),
]


class Cell(nn.Module):
    """One channel from a convolution with stride 2, except at sinks."""

    def __init__(self, is_input: bool, is_output: bool, in_degree: int, input_channel_size: int, **_: int) -> None:
        super().__init__()
        channels = input_channel_size if is_input else in_degree
        self.convolution = nn.Conv2d(channels, 1, 3, stride=1 if is_output else 2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return torch.sigmoid(self.convolution(images))


def graph(edges: list[tuple[int, int]], vertices: list[int]) -> CachedLayeredGraph:
    structure = CachedLayeredGraph()
    structure.add_nodes_from(vertices)
    structure.add_edges_from(edges)
    return structure


def labelled() -> LabeledDAG:
    structure = LabeledDAG()
    for layer, size in enumerate([2, 3, 2]):
        structure.add_vertices(size, layer=layer)
    structure.add_edges_from([(0, 2), (0, 3), (1, 4), (2, 5), (4, 6), (3, 6)])
    structure.add_edge(1, 5)
    structure.add_edge(5, 100)  # a new vertex, whatever its name
    structure.add_edges_from([(6, "new"), (2, "new")])
    return structure


def appended() -> LabeledDAG:
    structure, other = labelled(), LabeledDAG()
    first, second = other.add_vertices(2, layer=0), other.add_vertices(3, layer=1)
    other.add_edges_from((source, target) for source in first for target in second)
    structure.append(other)
    return structure


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: MaskedLinearLayer(4, 3),
    "linear without bias": lambda: MaskedLinearLayer(4, 3, bias=False, keep_layer_input=True),
    "linear with scores": lambda: MaskedLinearLayer(4, 3, mask_as_params=True),
    "ffn": lambda: MaskedDeepFFN((2, 3), 3, [5, 4, 4]),
    "ffn with norm": lambda: MaskedDeepFFN(6, 3, [5, 4, 4], use_layer_norm=True),
    "scalable ffn": lambda: ScalableDeepFFN(np.array([0.3, 0.5, 0.2])).build((2, 3), 2, 11),
    "dan": lambda: MaskedDeepDAN((2, 2), 3, graph(SKIPPING, list(range(9)))),
    "dan with norm": lambda: MaskedDeepDAN(4, 3, graph(SKIPPING, list(range(9))), use_layer_norm=True),
    "dan, labels shuffled": lambda: MaskedDeepDAN(4, 3, graph(SHUFFLED, [4, 1, 7, 9, 0, 5, 8, 3, 6, 2])),
    "dan of labelled": lambda: MaskedDeepDAN(4, 3, labelled(), use_layer_norm=True),
    "dan of appended": lambda: MaskedDeepDAN(4, 3, appended()),
    "scalable dan": lambda: ScalableDAN(graph(SKIPPING, list(range(9))), dict.fromkeys(range(9), 1 / 9)).build(
        4, 3, 18
    ),
    "cells": lambda: DeepCellDAN(2, 3, Cell, graph(SKIPPING, list(range(9)))),
    "rnn": lambda: MaskedDeepRNN(3, hidden_layers=[4, 2], build_recurrent_layer=MaskedRecurrentLayer),
    "rnn of relu": lambda: MaskedDeepRNN(3, [4, 2], MaskedRecurrentLayer, torch.nn.ReLU(), True),
    "gru": lambda: MaskedDeepRNN(3, [4, 2], build_recurrent_layer=MaskedGRULayer, batch_first=True),
    "lstm": lambda: MaskedDeepRNN(3, [4, 2], build_recurrent_layer=MaskedLSTMLayer),
}
DANS = [name for name in NETWORKS if "dan" in name]


def prune_twice(network: MaskedDeepFFN) -> None:
    pruning.prune_network_by_saliency(network, 50)
    pruning.prune_network_by_saliency(network, 50)


def prune_and_recompute(network: MaskedDeepFFN) -> None:
    pruning.prune_network_by_saliency(network, 25)
    network.apply_mask()
    network.recompute_mask()


ABSOLUTE = pruning.PruningStrategy.ABSOLUTE
PRUNINGS: dict[str, Callable[[MaskedDeepFFN], object]] = {
    "network, 25 %": lambda network: pruning.prune_network_by_saliency(network, 25),
    "network, 17": lambda network: pruning.prune_network_by_saliency(network, 17, ABSOLUTE),
    "layers, 50 %": lambda network: pruning.prune_layer_by_saliency(network, 50),
    "class-blind": lambda network: pruning.magnitude_class_blinded(network, 50),
    "class-uniform": lambda network: pruning.magnitude_class_uniform(network, 50),
    "class-distributed": lambda network: pruning.magnitude_class_distributed(network, 50),
    "twice": prune_twice,
    "from weights": lambda network: network.recompute_mask(0.2),
    "from weights, after applying": prune_and_recompute,
}
GRAPHS: dict[str, Callable[[], Any]] = {
    "labelled": labelled,
    "appended": appended,
    "grown": lambda: ScalableDAN(graph(SKIPPING, list(range(9))), dict.fromkeys(range(9), 1 / 9)).grow(14),
}


def tensors(name: str, golden: dict[str, NDArray[Any]]) -> dict[str, Tensor]:
    """The state dict as the older library had it, after a way through a file."""
    values, state = torch.from_numpy(golden[f"{name}.state"]), {}
    for line in golden[f"{name}.keys"].tolist():
        key, dtype, *extents = line.split()
        shape = [int(extent) for extent in extents]
        state[key] = values[: int(np.prod(shape))].view(shape).to(getattr(torch, dtype))
        values = values[int(np.prod(shape)) :]
    assert not values.numel()
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Tensor] = torch.load(file, weights_only=True)
    return loaded


def masks(network: nn.Module) -> NDArray[np.float32]:
    entries = [value.float().flatten() for key, value in network.state_dict().items() if key.endswith("_mask")]
    return torch.cat(entries).numpy()


def gradients(network: nn.Module, keys: list[str]) -> NDArray[np.float32]:
    """The gradients of what has these keys, one after the other."""
    found = []
    for key in keys:
        path, _, leaf = key.rpartition(".")
        tensor = getattr(network.get_submodule(path), leaf)
        found.append((torch.zeros_like(tensor) if tensor.grad is None else tensor.grad).flatten())
    return torch.cat(found).numpy()


def close(computed: Tensor | NDArray[Any], expected: NDArray[Any], tolerance: float = 1e-6) -> None:
    """They agree up to the rounding of float32, relative to the largest number."""
    values = computed.detach().numpy() if isinstance(computed, Tensor) else computed
    np.testing.assert_allclose(values, expected, rtol=0, atol=tolerance * max(float(np.abs(expected).max()), 1e-6))


@pytest.fixture(scope="module")
def golden() -> dict[str, NDArray[Any]]:
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_state_dict_of_the_older_library_gives_its_outputs_and_gradients(
    name: str, golden: dict[str, NDArray[Any]]
) -> None:
    network, state = NETWORKS[name](), tensors(name, golden)
    own = network.state_dict()
    assert list(own) == list(state)
    assert [value.shape for value in own.values()] == [value.shape for value in state.values()]
    network.load_state_dict(state)
    network.eval()
    output = network(torch.from_numpy(golden[f"{name}.input"]))
    close(output, golden[f"{name}.output"])
    output.square().sum().backward()
    trained = [key for key in state if "mask" not in key and "running" not in key and "num_batches" not in key]
    close(gradients(network, trained), golden[f"{name}.gradient"], 2e-6)


@pytest.mark.parametrize("name", DANS)
def test_a_dan_has_the_masks_and_edges_of_the_older_library(name: str, golden: dict[str, NDArray[Any]]) -> None:
    network = NETWORKS[name]()
    assert isinstance(network, MaskedDeepDAN)
    if "shuffled" not in name:  # vertices of a layer stand in another order
        np.testing.assert_array_equal(masks(network), golden[f"{name}.fresh"])
    network.load_state_dict(tensors(name, golden))
    edges = sorted([int(source), int(target)] for source, target in network.generate_structure().edges)
    assert edges == golden[f"{name}.edges"].tolist()


def test_scores_say_what_the_older_library_read_from_them(golden: dict[str, NDArray[Any]]) -> None:
    layer = MaskedLinearLayer(4, 3, mask_as_params=True)
    layer.load_state_dict(tensors("linear with scores", golden))
    mask = torch.from_numpy(golden["linear with scores.mask"])
    assert layer.mask.dtype == mask.dtype
    assert layer.mask.equal(mask)
    scores = layer._mask.detach().clone()
    layer.mask = torch.ones_like(mask)
    layer.mask = mask
    torch.testing.assert_close(layer._mask.detach(), scores)


@pytest.mark.parametrize("name", PRUNINGS)
def test_pruning_keeps_what_the_older_library_kept(name: str, golden: dict[str, NDArray[Any]]) -> None:
    network = MaskedDeepFFN(4, 3, [5, 4])
    network.load_state_dict(tensors("pruning", golden))
    PRUNINGS[name](network)
    np.testing.assert_array_equal(masks(network), golden[f"pruning.{name}"])
    assert len(list(maskable_layers(network))) == 3


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_has_the_layers_and_edges_of_the_older_library(name: str, golden: dict[str, NDArray[Any]]) -> None:
    structure = GRAPHS[name]()
    assert [int(vertex) for vertex in structure] == list(range(len(structure)))
    layers = [structure.get_layer(vertex) for vertex in range(len(structure))]
    assert layers == golden[f"graph.{name}.layers"].tolist()
    edges = sorted([int(source), int(target)] for source, target in structure.edges)
    assert edges == golden[f"graph.{name}.edges"].tolist()


def as_pickled(module: nn.Module, attributes: dict[str, Any], gone: set[str]) -> Any:
    """The module as it comes out of a pickle with the attributes that 0.10.0 had, masks of floats included."""
    state = {name: value for name, value in vars(module).items() if name not in gone} | attributes
    for part in module.modules():
        for name, buffer in part._buffers.items():
            if buffer is not None and name.startswith("_mask"):
                part._buffers[name] = buffer.float()
    copy: Any = type(module).__new__(type(module))
    copy.__setstate__(state)
    return copy


def test_a_pickled_dan_works() -> None:
    graph = CachedLayeredGraph([(0, 2), (1, 2), (2, 3), (0, 3), (1, 4), (3, 4)])
    module = MaskedDeepDAN(5, 3, graph, use_layer_norm=True, packed=False)
    inputs = torch.randn(4, 5)
    expected, wiring = module(inputs), module.wiring
    targets: dict[int, list[dict[str, Any]]] = {}
    for (source, target), layer in zip(wiring.skips, module.layers_skip_hidden, strict=True):
        targets.setdefault(target, []).append({"layer": layer, "source": source})
    old = {"_structure": graph, "_skip_targets": targets, "_use_layer_norm": True, "_layers_normalization": []}
    back = as_pickled(module, old, {"wiring", "sum_before_activation", "_leaving", "_layout"})
    torch.testing.assert_close(back(inputs), expected)
    assert back.wiring == wiring
    assert set(back.generate_structure().edges) == set(module.generate_structure().edges)
    assert not {"_structure", "_skip_targets"} & vars(back).keys()


class Convolution(nn.Conv2d):
    def __init__(self, is_input: bool, in_degree: int, input_channel_size: int, **_: Any) -> None:
        super().__init__(input_channel_size if is_input else in_degree, 1, 3)


def test_a_pickled_cell_dan_works() -> None:
    graph = CachedLayeredGraph([(0, 2), (1, 2), (0, 3)])
    module = DeepCellDAN(3, 2, Convolution, graph).eval()
    inputs = torch.randn(4, 2, 9, 8)
    expected, predecessors = module(inputs), module.predecessors
    names = ("_num_classes", "_input_nodes", "_output_nodes", "_node_cells", "_output_channel_size")
    old = {"_structure": graph, **dict.fromkeys(names)}
    back = as_pickled(module, old, {"vertices", "predecessors", "_order", "_sinks"})
    assert torch.equal(back(inputs), expected)
    assert back.predecessors == predecessors


@pytest.mark.parametrize("changed", [False, True])
def test_a_pickled_layered_graph_works(changed: bool) -> None:
    graph = CachedLayeredGraph([(1, 2), (0, 2), (2, 3)])
    state = {name: value for name, value in vars(graph).items() if not name.startswith("_cached")}
    index, layers = {0: 0, 1: 0, 2: 1, 3: 2}, {0: [0, 1], 1: [2], 2: [3]}
    state |= {"_has_changed": changed, "_layer_index": index, "_vertex_by_layer": layers}
    back = CachedLayeredGraph.__new__(CachedLayeredGraph)
    back.__setstate__(state)
    assert back.get_vertices(0) == ([1, 0] if changed else [0, 1])
    back.add_edge(3, 4)
    assert back.num_layers == 4


def test_a_pickled_labeled_dag_works() -> None:
    graph = LabeledDAG()
    graph.add_vertices(2, layer=0)
    graph.add_vertices(1, layer=3)
    graph.add_edge(0, 2)
    own = {"_removed", "_next_label", "_vertices", "_places", "_new"}
    state = {name: value for name, value in vars(graph).items() if name not in own}
    for data in state["_node"].values():
        data.clear()
    layers = {0: np.int64(0), 1: np.int64(0), 2: np.int64(3)}
    state |= {"_layer_index": layers, "_vertex_by_layer": {0: [0, 1], 3: [2]}, "_has_changed": False}
    back = LabeledDAG.__new__(LabeledDAG)
    back.__setstate__(state)
    assert back.layers == [0, 3]
    assert back.get_vertices(0) == [0, 1]
    assert back.add_vertex(layer=3) == 3
    assert back.get_layer_size(3) == 2
