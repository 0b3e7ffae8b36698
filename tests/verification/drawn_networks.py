"""Networks of five families, drawn anew for each seed: structures, masks of any density, weights, statistics."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import networks
import networkx as nx
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

import deepstruct
from deepstruct import Mask, Model, Parameter, Structure, Weights, dtypes
from deepstruct.recurrent import MaskedDeepRNN, MaskedGRULayer, MaskedLSTMLayer, MaskedRecurrentLayer
from deepstruct.sparse import DeepCellDAN, MaskedDeepDAN, MaskedDeepFFN

FAMILIES = ("feed-forward", "dan", "cells", "recurrent", "convolutional")
LEAST_DENSITY = 0.05
_TRACED = {  # names of traced networks, the quick ones first
    "convolutional": ("densenet", "mobilenet", "one-dimensional", "convnext", "volume", "resnet", "unet"),
    "recurrent": ("gru", "stateful", "gru-bidirectional", "lstm-bidirectional"),
    "cells": ("0", "1", "2", "3", "4"),
}
_UNMASKED = ("_last_convolution", "_last_fc")
"""Layers of DeepCellDAN that are torch's own and hold no mask."""
_DTYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def drawn(family: str, seed: int, dtype: str = "float32", *, few: bool = False) -> Model:
    """A network of a family.

    Args:
        family: one of `FAMILIES`.
        seed: decides on everything.
        dtype: of its parameters; traced networks have a choice between float32 and float64.
        few: take the first two only of those that must be traced, which takes seconds each.
    """
    rng = np.random.default_rng([FAMILIES.index(family), seed])
    if family == "feed-forward":
        structure = _untrained(_feed_forward(rng, dtype), dtype)
    elif family == "dan":
        structure = _untrained(_dan(rng), dtype)
    elif family == "recurrent" and rng.random() < 0.5:
        structure = _untrained(_recurrent(rng), dtype)
    else:
        names = _TRACED[family][: 2 if few else None]
        structure = _traced(family, names[rng.integers(len(names))], dtype)
    return redrawn(structure, rng)


def redrawn(structure: Structure, rng: Generator) -> Model:
    """The structure with new weights, and new masks where it has none; integers stay 0."""
    positive = {name for node in structure.nodes for name in _positive(node)}
    density = LEAST_DENSITY ** rng.random()
    parameters, arrays = [], {}
    for parameter in structure.parameters:
        array, mask = np.zeros(parameter.shape, dtypes.to_numpy(parameter.dtype)), parameter.mask
        if "float" in parameter.dtype:
            numbers = rng.standard_normal(parameter.shape) * _deviation(parameter)
            numbers = np.abs(numbers) + 0.5 if parameter.name in positive else numbers
            array = np.asarray(numbers.astype(array.dtype))
            if mask is None and len(parameter.shape) > 1 and not parameter.name.startswith(_UNMASKED):
                mask = Mask.from_array(np.asarray(rng.random(parameter.shape) < density))
        arrays[parameter.name] = array
        parameters.append(Parameter(parameter.name, parameter.dtype, parameter.shape, mask))
    masked = with_parameters(structure, parameters)
    return Model(masked, Weights(masked, arrays))


def with_parameters(structure: Structure, parameters: Iterable[Parameter]) -> Structure:
    """The structure with other parameters of the same names."""
    return Structure(
        nodes=structure.nodes,
        inputs=structure.inputs,
        outputs=structure.outputs,
        parameters=tuple(parameters),
        constants=structure.constants,
        functions=structure.functions,
        opset=structure.opset,
        attributes=structure.attributes,
    )


def inputs(structure: Structure, seed: int, rows: int = 8, scale: float = 1.0) -> dict[str, NDArray[Any]]:
    """Random inputs; an extent that is open is the number of rows, of time steps or of pixels."""
    rng = np.random.default_rng(seed)
    extents = {"batch": rows, "step": 5, "height": 11, "width": 9}
    found = {}
    for value in structure.inputs:
        assert value.shape is not None
        assert value.dtype is not None
        shape = [extent if isinstance(extent, int) else extents[str(extent)] for extent in value.shape]
        found[value.name] = np.asarray((rng.standard_normal(shape) * scale).astype(dtypes.to_numpy(value.dtype)))
    return found


def _positive(node: Any) -> tuple[str, ...]:
    """Scales and variances."""
    if node.op_type in ("LayerNormalization", "GroupNormalization", "InstanceNormalization"):
        return tuple(node.inputs[1:2])
    return (node.inputs[1], node.inputs[4]) if node.op_type == "BatchNormalization" else ()


def _deviation(parameter: Parameter) -> float:
    return 1.0 if len(parameter.shape) < 2 else 1.5 / float(np.sqrt(max(parameter.nnz / parameter.shape[0], 1)))


def _untrained(module: nn.Module, dtype: str) -> Structure:
    return deepstruct.from_module(module.to(_DTYPES[dtype]).eval(), losses=[]).structure


def _sizes(rng: Generator, least: int = 2) -> list[int]:
    """Extents of layers; one in three times a matrix in the middle is square."""
    sizes = [int(size) for size in rng.integers(2, 25, int(rng.integers(least, 5)) + 1)]
    if len(sizes) > 3 and rng.random() < 0.6:
        sizes[2] = sizes[1]
    return sizes


_ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.ReLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.GELU,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.Mish,
    nn.Softplus,
)


def _feed_forward(rng: Generator, dtype: str) -> nn.Module:
    sizes = _sizes(rng)
    if rng.random() < 0.4:
        return MaskedDeepFFN(sizes[0], sizes[-1], sizes[1:-1], use_layer_norm=bool(rng.random() < 0.5))
    kinds = _ACTIVATIONS[: 3 if dtype == "float64" else None]  # onnxruntime has no others in float64
    layers: list[nn.Module] = []
    for source, target in itertools.pairwise(sizes):
        layers.append(nn.Linear(source, target, bias=bool(rng.random() < 0.8)))
        if rng.random() < 0.3:
            layers.append(nn.LayerNorm(target))
        layers.append(kinds[int(rng.integers(len(kinds)))]())
    return nn.Sequential(*layers)


def _graph(rng: Generator, vertices: int) -> nx.DiGraph[int]:
    """A random acyclic graph with a path through it, so that there are several layers."""
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(vertices))
    pairs = [(i, j) for i in range(vertices) for j in range(i + 1, vertices)]
    graph.add_edges_from(pair for pair in pairs if rng.random() < 0.4)
    graph.add_edges_from((i, i + 2) for i in range(0, vertices - 2, 2))
    return graph


def _dan(rng: Generator) -> nn.Module:
    sizes = [int(size) for size in rng.integers(2, 12, 2)]
    norm, before = bool(rng.random() < 0.3), bool(rng.random() < 0.5)
    return MaskedDeepDAN(
        sizes[0], sizes[1], _graph(rng, int(rng.integers(6, 16))), use_layer_norm=norm, sum_before_activation=before
    )


def _recurrent(rng: Generator) -> nn.Module:
    kind = (MaskedRecurrentLayer, MaskedGRULayer, MaskedLSTMLayer)[int(rng.integers(3))]
    sizes = [int(size) for size in rng.integers(2, 8, int(rng.integers(2, 4)))]
    if rng.random() < 0.4:
        sizes[-1] = sizes[-2]
    plain = (None, nn.ReLU(), torch.sigmoid)[int(rng.integers(3))] if kind is MaskedRecurrentLayer else None
    return MaskedDeepRNN(sizes[0], sizes[1:], kind, nonlinearity=plain, batch_first=bool(rng.random() < 0.5))


class _Cell(nn.Module):
    """A cell that halves the image in every second layer, so that outputs must be padded."""

    def __init__(self, is_input: bool, in_degree: int, input_channel_size: int, layer: int, **_: Any) -> None:
        super().__init__()
        channels = input_channel_size if is_input else in_degree
        self.convolution = nn.Conv2d(channels, 1, 3, stride=1 + layer % 2, padding=1)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, input: Tensor) -> Tensor:
        return torch.relu(self.norm(self.convolution(input)))


class _Sequence(nn.Module):
    """The outputs of torch's own recurrent layer."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Any:
        return self.layer(x)[0]


_LAYERS: dict[str, Callable[[], nn.RNNBase]] = {
    "gru": lambda: nn.GRU(4, 4, batch_first=True),
    "gru-bidirectional": lambda: nn.GRU(3, 5, bidirectional=True, batch_first=True),
    "lstm-bidirectional": lambda: nn.LSTM(6, 4, 2, bidirectional=True, batch_first=True),
}


@functools.cache
def _traced(family: str, name: str, dtype: str) -> Structure:
    torch.manual_seed(0)
    if family == "cells":
        rng = np.random.default_rng(int(name))
        module: nn.Module = DeepCellDAN(int(rng.integers(2, 5)), 2, _Cell, _graph(rng, int(rng.integers(3, 6))))
        return deepstruct.from_module(module.to(_DTYPES[dtype]).eval(), losses=[]).structure
    example: Any
    if name == "stateful":
        module, example = networks.Stateful(), (torch.randn(3, 2, 5), torch.randn(1, 2, 4), torch.randn(1, 2, 4))
    elif family == "recurrent":
        layer = _LAYERS[name]()
        module, example = _Sequence(layer), torch.randn(3, 4, layer.input_size)
    else:
        module, example = networks.made(name)
    example = torch.utils._pytree.tree_map(lambda tensor: tensor.to(_DTYPES[dtype]), example)
    return deepstruct.from_module(module.to(_DTYPES[dtype]).eval(), example, losses=[]).structure
