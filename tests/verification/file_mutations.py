"""Faults in files that are written already: single numbers, bits of masks, names, nodes, whole tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.random import Generator
from verification.mutations import Draft, Planted

from deepstruct import Model, Node

FileFault = Callable[[Any, Generator], bool]
ONNX_FAULTS: dict[str, FileFault] = {}
"""Faults of ONNX models. Each says whether it has found something to change."""
CHECKPOINT_FAULTS: dict[str, FileFault] = {}
"""Faults of the tensors of checkpoints, by name."""


def mutate(name: str, path: Path, rng: Generator) -> bool:
    """Plants a fault into a file; False if there is nothing that it could change."""
    if name in ONNX_FAULTS:
        proto = onnx.load(path)
        found = ONNX_FAULTS[name](proto.graph, rng)
        onnx.save(proto, path)
    else:
        content = torch.load(path, weights_only=True)
        found = CHECKPOINT_FAULTS[name](content, rng)
        torch.save(content, path)
    return found


def difference(before: Model, after: Model) -> Planted | None:
    """What is not the same in two models: a parameter's entries, or nodes; None if nothing is."""
    draft = Draft.of(before, np.random.default_rng(0))
    other = Draft.of(after, np.random.default_rng(0))
    planted = [
        found
        for name in draft.arrays
        if name in other.arrays and (found := draft.put(name, other.arrays[name], other.kept(name))) is not None
    ]
    names: set[str] = set().union(*(each.names for each in planted))
    mine, theirs = ({node.name: node for node in model.structure.nodes} for model in (before, after))
    for node in set(mine.values()) ^ set(theirs.values()):
        names |= {node.name, *node.outputs} | {reader.name for reader in draft.readers(node.outputs)}
        names |= draft.reached(*(name for name in _other_inputs(node, mine, theirs) if name in draft.arrays))
    constants = before.structure.constants, after.structure.constants
    for name in constants[0].keys() | constants[1].keys():
        if constants[0].get(name) != constants[1].get(name):
            names |= draft.reached(name)
    outputs = [{value.name for value in model.structure.outputs} for model in (before, after)]
    if not names and outputs[0] == outputs[1] and before.structure.outputs == after.structure.outputs:
        return None
    is_one = len(planted) == 1 and set(mine.values()) == set(theirs.values())
    return replace(planted[0], names=frozenset(names)) if is_one else Planted(frozenset(names))


def _other_inputs(node: Node, mine: dict[str, Node], theirs: dict[str, Node]) -> set[str]:
    both = [nodes[node.name].inputs for nodes in (mine, theirs) if node.name in nodes]
    return set(both[0]) ^ set(both[-1]) if len(both) == 2 else set(node.inputs)


_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "dilations": ([1], [1, 1], [1, 1, 1]),
    "direction": (b"forward",),
    "epsilon": (float(np.float32(1e-5)),),
    "linear_before_reset": (0,),
    "count_include_pad": (0,),
}


def _onnx_fault(name: str) -> Callable[[FileFault], FileFault]:
    def registered(function: FileFault) -> FileFault:
        ONNX_FAULTS[name] = function
        return function

    return registered


def _chosen(items: list[Any], rng: Generator) -> Any:
    return items[int(rng.integers(len(items)))] if items else None


def _numbers(graph: Any) -> list[Any]:
    """Tensors of floating numbers, in whatever encoding."""
    tensors = [*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)]
    tensors += [a.sparse_tensor.values for node in graph.node for a in node.attribute if a.HasField("sparse_tensor")]
    kinds = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16
    used = {name for node in graph.node for name in node.input} | {""}
    sparse = {id(t) for t in tensors[len(graph.initializer) :]}
    return [t for t in tensors if t.data_type in kinds and t.raw_data and (t.name in used or id(t) in sparse)]


def _one_number(graph: Any, rng: Generator, change: Callable[[Any], Any]) -> bool:
    tensor = _chosen(_numbers(graph), rng)
    if tensor is None:
        return False
    array = np.frombuffer(tensor.raw_data, onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).copy()
    places = np.flatnonzero(array)
    if not places.size:
        return False
    place = int(rng.choice(places))
    array[place] = change(array[place])
    tensor.raw_data = array.tobytes()
    return True


@_onnx_fault("ONNX: last bit of a number flipped")
def _(graph: Any, rng: Generator) -> bool:
    return _one_number(graph, rng, lambda number: np.nextafter(number, number.dtype.type(0)))


@_onnx_fault("ONNX: sign of a number flipped")
def _(graph: Any, rng: Generator) -> bool:
    return _one_number(graph, rng, lambda number: -number)


@_onnx_fault("ONNX: bits of a packed mask moved")
def _(graph: Any, rng: Generator) -> bool:
    tensor = _chosen([t for t in graph.initializer if t.data_type == onnx.TensorProto.UINT8 and t.raw_data], rng)
    if tensor is None:
        return False
    data = bytearray(tensor.raw_data)
    places = [place for place, byte in enumerate(data[:-1]) if byte not in (0, 255)]
    if not places:
        return False
    place = int(rng.choice(places))
    data[place] = (data[place] << 1 | data[place] >> 7) & 255
    tensor.raw_data = bytes(data)
    return True


@_onnx_fault("ONNX: two initializers swapped")
def _(graph: Any, rng: Generator) -> bool:
    tensors = [t for t in _numbers(graph) if t.name and t.dims]
    pairs = [
        (a, b) for i, a in enumerate(tensors) for b in tensors[:i] if (a.dims, a.data_type) == (b.dims, b.data_type)
    ]
    pair = _chosen(pairs, rng)
    if pair is None or pair[0].raw_data == pair[1].raw_data:
        return False
    pair[0].raw_data, pair[1].raw_data = pair[1].raw_data, pair[0].raw_data
    return True


@_onnx_fault("ONNX: attribute removed")
def _(graph: Any, rng: Generator) -> bool:
    """An attribute whose default is another one than what it says."""
    pairs = [
        (node, place)
        for node in graph.node
        for place, attribute in enumerate(node.attribute)
        if attribute.name in _DEFAULTS and onnx.helper.get_attribute_value(attribute) not in _DEFAULTS[attribute.name]
    ]
    pair = _chosen(pairs, rng)
    if pair is None:
        return False
    del pair[0].attribute[pair[1]]
    return True


@_onnx_fault("ONNX: operator renamed")
def _(graph: Any, rng: Generator) -> bool:
    others = {"Relu": "Elu", "Tanh": "Softsign", "Sigmoid": "HardSigmoid", "Sum": "Mean", "Add": "Mul", "Sub": "Add"}
    node = _chosen([n for n in graph.node if n.op_type in others], rng)
    if node is None:
        return False
    node.op_type = others[node.op_type]
    return True


@_onnx_fault("ONNX: bias removed")
def _(graph: Any, rng: Generator) -> bool:
    node = _chosen([n for n in graph.node if n.op_type in ("Gemm", "Conv") and len(n.input) == 3], rng)
    if node is None:
        return False
    del node.input[2]
    return True


@_onnx_fault("ONNX: outputs in another order")
def _(graph: Any, rng: Generator) -> bool:
    if len(graph.output) < 2:
        return False
    outputs = list(graph.output)
    del graph.output[:]
    graph.output.extend(outputs[1:] + outputs[:1])
    return True


def _checkpoint_fault(name: str) -> Callable[[FileFault], FileFault]:
    def registered(function: FileFault) -> FileFault:
        CHECKPOINT_FAULTS[name] = function
        return function

    return registered


def _tensors(content: Any, least_rank: int = 1) -> list[Any]:
    """The floating tensors of a checkpoint."""
    return [t for t in content["state_dict"].values() if t.is_floating_point() and t.ndim >= least_rank and t.numel()]


@_checkpoint_fault("checkpoint: number changed")
def _(content: Any, rng: Generator) -> bool:
    flat = _chosen(_tensors(content), rng).view(-1)
    places = flat.nonzero().view(-1).tolist()
    if not places:
        return False
    flat[int(rng.choice(places))] *= 1.01
    return True


@_checkpoint_fault("checkpoint: mask changed")
def _(content: Any, rng: Generator) -> bool:
    mask = _chosen([content["state_dict"][key] for key in content["masks"].values()], rng)
    if mask is None or not mask.numel():
        return False
    place = int(rng.integers(mask.numel()))
    mask.view(-1)[place] = ~mask.view(-1)[place].bool()
    return True


@_checkpoint_fault("checkpoint: tensor rounded to half precision")
def _(content: Any, rng: Generator) -> bool:
    tensor = _chosen(_tensors(content, 2), rng)
    tensor.copy_(tensor.half())
    return True


@_checkpoint_fault("checkpoint: square matrix transposed")
def _(content: Any, rng: Generator) -> bool:
    tensor = _chosen([t for t in _tensors(content, 2) if t.shape[0] == t.shape[1] > 1], rng)
    if tensor is None:
        return False
    tensor.copy_(tensor.transpose(0, 1).clone())
    return True


@_checkpoint_fault("checkpoint: two tensors swapped")
def _(content: Any, rng: Generator) -> bool:
    tensors = _tensors(content)
    pair = _chosen([(a, b) for i, a in enumerate(tensors) for b in tensors[:i] if a.shape == b.shape], rng)
    if pair is None:
        return False
    first = pair[0].clone()
    pair[0].copy_(pair[1])
    pair[1].copy_(first)
    return True
