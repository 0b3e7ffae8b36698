"""Faults of operators: other ones, other attributes, other inputs, another order."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from verification.mutations import ELEMENTWISE, Draft, Planted, attributes, fault, with_attributes

import deepstruct
from deepstruct import Node, Tensor
from deepstruct.structure import AttributeValue

_OTHERS: dict[str, list[tuple[str, dict[str, AttributeValue]]]] = {
    "Relu": [("LeakyRelu", {}), ("Softplus", {}), ("ThresholdedRelu", {"alpha": 1e-3})],
    "Tanh": [("Sigmoid", {}), ("Softsign", {})],
    "Sigmoid": [("HardSigmoid", {}), ("Tanh", {})],
    "Gelu": [("Gelu", {"approximate": "tanh"}), ("Relu", {})],
    "LeakyRelu": [("LeakyRelu", {"alpha": 0.02}), ("Relu", {})],
    "Elu": [("Elu", {"alpha": 1.5}), ("Selu", {}), ("Celu", {"alpha": 1.1})],
    "Selu": [("Selu", {"alpha": 1.6732631921768188}), ("Elu", {})],
    "Mish": [("Gelu", {}), ("Softplus", {})],
    "Softplus": [("Relu", {}), ("Mish", {})],
    "HardSwish": [("Relu", {})],
    "HardSigmoid": [("HardSigmoid", {"alpha": 0.2}), ("Sigmoid", {})],
    "MaxPool": [("AveragePool", {})],
    "AveragePool": [("MaxPool", {})],
    "GlobalAveragePool": [("GlobalMaxPool", {})],
    "ReduceMean": [("ReduceMax", {}), ("ReduceSum", {})],
    "ReduceMax": [("ReduceMean", {})],
    "Max": [("Min", {})],
    "LogSoftmax": [("Softmax", {})],
}
_ORDERED = ("Concat", "Sub", "Div", "Pow")
_SUMS = ("Add", "Sum")
_RECURRENT = ("LSTM", "GRU", "RNN")
_WINDOWS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")
_NORMS = ("BatchNormalization", "LayerNormalization", "InstanceNormalization")


def types(draft: Draft) -> dict[str, tuple[int, tuple[Any, ...]]]:
    """Element type and shape of each value that is computed, where onnx infers them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        deepstruct.save(draft.model(), path, sparse_encoding="dense")
        graph = onnx.load(path).graph
    return {
        value.name: (
            value.type.tensor_type.elem_type,
            tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim),
        )
        for value in (*graph.value_info, *graph.input, *graph.output)
    }


@fault("wrong activation")
def _(draft: Draft) -> Planted | None:
    node = draft.chosen(draft.nodes(*(name for name in ELEMENTWISE if name in _OTHERS), "HardSwish", "HardSigmoid"))
    if node is None:
        return None
    op_type, others = draft.chosen(_OTHERS[node.op_type])
    return draft.change(replace(node, op_type=op_type, attributes=others))


@fault("wrong pooling or reduction")
def _(draft: Draft) -> Planted | None:
    pools = "MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceMax", "Max", "LogSoftmax"
    node = draft.chosen(draft.nodes(*pools))
    if node is None:
        return None
    op_type, _ = draft.chosen(_OTHERS[node.op_type])
    others = {k: v for k, v in node.attributes.items() if k not in ("storage_order", "count_include_pad", "dilations")}
    return draft.change(replace(node, op_type=op_type, attributes=others))


@fault("activation clipped at 6")
def _(draft: Draft) -> Planted | None:
    node = draft.chosen(draft.nodes("Relu"))
    if node is None:
        return None
    dtype = str(draft.structure.inputs[0].dtype)
    constants = {"clip.least": Tensor(dtype, (), (0.0,)), "clip.most": Tensor(dtype, (), (6.0,))}
    return draft.change(
        replace(node, op_type="Clip", inputs=(*node.inputs, *constants), attributes={}), constants=constants
    )


@fault("activation on the other side of the sum")
def _(draft: Draft) -> Planted | None:
    """``f(a + b)`` in place of ``f(a) + f(b)``, and the other way round."""
    found: list[tuple[Any, ...]] = []
    for total in draft.nodes(*_SUMS):
        makers = [next((n for n in draft.structure.nodes if name in n.outputs), None) for name in total.inputs]
        readers = draft.readers(total.outputs)
        if len(readers) == 1 and readers[0].op_type in ELEMENTWISE:
            found.append((total, readers[0]))
        if all(m is not None and m.op_type == "Relu" and draft.readers(m.outputs) == [total] for m in makers):
            found.append((total, *makers))
    chosen = draft.chosen(found)
    if chosen is None:
        return None
    total, *others = chosen
    if len(others) == 1 and others[0].inputs[0] in total.outputs:
        (after,) = others
        inner = [
            replace(after, name=f"{after.name}.{i}", inputs=(name,), outputs=(f"{after.outputs[0]}.{i}",))
            for i, name in enumerate(total.inputs)
        ]
        outer = replace(total, inputs=tuple(n.outputs[0] for n in inner), outputs=after.outputs)
        return _in_place_of(draft, (total, after), (*inner, outer))
    plain = replace(total, inputs=tuple(n.inputs[0] for n in others), outputs=(f"{total.outputs[0]}.sum",))
    outer = replace(others[0], name=f"{total.name}.after", inputs=plain.outputs, outputs=total.outputs)
    return _in_place_of(draft, (*others, total), (plain, outer))


def _in_place_of(draft: Draft, old: tuple[Node, ...], new: tuple[Node, ...]) -> Planted:
    """Removes nodes, and puts others where the last of them stood."""
    last = max(draft.structure.nodes.index(node) for node in old)
    nodes: list[Node] = []
    for place, node in enumerate(draft.structure.nodes):
        nodes += [] if node in old else [node]
        nodes += new if place == last else []
    draft.structure = replace(draft.structure, nodes=tuple(nodes))
    names = {node.name for node in (*old, *new)} | {name for node in (*old, *new) for name in node.outputs}
    return Planted(frozenset(names | {reader.name for reader in draft.readers(names)}))


@fault("input taken from elsewhere")
def _(draft: Draft) -> Planted | None:
    """A connection between layers that begins at another value of the same shape."""
    kinds = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16
    known = {name: kind for name, kind in types(draft).items() if kind[0] in kinds}
    leaves = draft.leaves()
    earlier = [value.name for value in draft.structure.inputs]
    found: list[tuple[Node, int, str]] = []
    needed = {id(node) for node in draft.nodes(*{node.op_type for node in draft.structure.nodes})}
    for node in draft.structure.nodes:
        if id(node) in needed:
            found += [
                (node, place, other)
                for place, name in enumerate(node.inputs)
                for other in earlier
                if name in known and name not in leaves and other != name and known[other] == known[name]
            ]
        earlier += [name for name in node.outputs if name in known and name not in leaves]
    chosen = draft.chosen(found)
    if chosen is None:
        return None
    node, place, other = chosen
    makers = {n.name for n in draft.structure.nodes if {other, node.inputs[place]} & set(n.outputs)}
    planted = draft.change(replace(node, inputs=(*node.inputs[:place], other, *node.inputs[place + 1 :])))
    return replace(planted, names=planted.names | makers)


@fault("skip connection dropped")
def _(draft: Draft) -> Planted | None:
    leaves = draft.leaves()
    node = draft.chosen(n for n in draft.nodes(*_SUMS) if not set(n.inputs) & leaves)
    if node is None:
        return None
    gone = int(draft.rng.integers(len(node.inputs)))
    rest = (*node.inputs[:gone], *node.inputs[gone + 1 :])
    return draft.change(replace(node, op_type="Sum" if len(rest) > 1 else "Identity", inputs=rest))


@fault("skip connection counted twice")
def _(draft: Draft) -> Planted | None:
    node = draft.chosen(draft.nodes(*_SUMS))
    if node is None:
        return None
    return draft.change(replace(node, op_type="Sum", inputs=(*node.inputs, draft.chosen(node.inputs))))


@fault("bias dropped")
def _(draft: Draft) -> Planted | None:
    node = draft.chosen(
        n
        for n in draft.nodes("Gemm", "Conv", "ConvTranspose", *_RECURRENT)
        if len(n.inputs) > 2 + (n.op_type in _RECURRENT)
    )
    if node is None:
        return None
    place = 3 if node.op_type in _RECURRENT else 2
    rest = node.inputs[place + 1 :]
    planted = draft.change(replace(node, inputs=(*node.inputs[:place], "", *rest) if rest else node.inputs[:place]))
    return replace(planted, names=planted.names | draft.reached(node.inputs[place]))


@fault("epsilon of a normalisation changed")
def _(draft: Draft) -> Planted | None:
    node = draft.chosen(draft.nodes(*_NORMS))
    return None if node is None else draft.change(with_attributes(node, epsilon=draft.chosen((2e-3, 1.1e-5))))


@fault("factor of a product changed")
def _(draft: Draft) -> Planted | None:
    node = draft.chosen(draft.nodes("Gemm"))
    if node is None:
        return None
    return draft.change(
        with_attributes(node, **{"beta" if len(node.inputs) > 2 and draft.rng.random() < 0.3 else "alpha": 0.999})
    )


@fault("matrix taken as its transpose")
def _(draft: Draft) -> Planted | None:
    shapes = {p.name: p.shape for p in draft.structure.parameters}
    node = draft.chosen(
        n
        for n in draft.nodes("Gemm")
        if len(set(shapes.get(n.inputs[1], (0, 1)))) == 1
        and not np.array_equal(draft.arrays[n.inputs[1]], draft.arrays[n.inputs[1]].T)
    )
    if node is None:
        return None
    planted = draft.change(with_attributes(node, transB=1 - attributes(node).get("transB", 0)))
    return replace(planted, names=planted.names | {node.inputs[1]})


@fault("operands swapped")
def _(draft: Draft) -> Planted | None:
    leaves = draft.leaves()
    node = draft.chosen(n for n in draft.nodes(*_ORDERED) if len(set(n.inputs)) > 1 and not set(n.outputs) <= leaves)
    if node is None:
        return None
    first, second, *rest = node.inputs
    return draft.change(replace(node, inputs=(second, first, *rest)))


@fault("attribute of a window changed")
def _(draft: Draft) -> Planted | None:
    node = draft.chosen(draft.nodes(*_WINDOWS))
    if node is None:
        return None
    variants = [with_attributes(node, **changed) for changed in _window_variants(node)]
    return draft.change(draft.chosen(variants)) if variants else None


def _window_variants(node: Node) -> Iterator[dict[str, AttributeValue]]:
    given = attributes(node)
    if "pads" not in given or "kernel_shape" not in given:
        return
    pads, extents = given["pads"], given["kernel_shape"]
    half = len(pads) // 2
    if pads[half]:
        yield {"pads": (pads[0] + pads[half], *pads[1:half], 0, *pads[half + 1 :])}
    if node.op_type == "Conv" and set(extents) == {3} and set(pads) == {1}:
        yield {"dilations": (2,) * half, "pads": (2,) * (2 * half)}
    if node.op_type == "AveragePool" and any(pads):
        yield {"count_include_pad": 0 if given.get("count_include_pad") else 1}
    yield {"strides": tuple(2 if s == 1 else 1 for s in given.get("strides", (1,) * half))}


@fault("groups of a convolution joined")
def _(draft: Draft) -> Planted | None:
    node = draft.chosen(n for n in draft.nodes("Conv") if attributes(n).get("group", 1) > 1)
    if node is None:
        return None
    name, groups = node.inputs[1], attributes(node)["group"]
    if draft.readers([name]) != [node]:
        return None
    array, kept = (np.concatenate([x] * groups, axis=1) for x in (draft.arrays[name], draft.kept(name)))
    planted = draft.put(name, array, kept)
    assert planted is not None
    return replace(draft.change(with_attributes(node, group=1)), names=planted.names | {node.name})


@fault("axes permuted in another way")
def _(draft: Draft) -> Planted | None:
    known, leaves = types(draft), draft.leaves()
    found = []
    for node in draft.nodes("Transpose"):
        perm, (_, shape) = list(attributes(node)["perm"]), known.get(node.inputs[0], (0, ()))
        pairs = [(i, j) for i in range(len(shape)) for j in range(i) if shape[perm[i]] == shape[perm[j]]]
        for i, j in [] if node.outputs[0] in leaves else pairs:
            other = list(perm)
            other[i], other[j] = other[j], other[i]
            found.append(with_attributes(node, perm=tuple(other)))
    node = draft.chosen(found)
    return None if node is None else draft.change(node)


@fault("axis of a normalisation or softmax changed")
def _(draft: Draft) -> Planted | None:
    node = draft.chosen(draft.nodes("Softmax", "LogSoftmax"))
    return None if node is None else draft.change(with_attributes(node, axis=0))


@fault("constant changed in the last bit")
def _(draft: Draft) -> Planted | None:
    floats = {n: c for n, c in draft.structure.constants.items() if c.dtype in ("float32", "float64") and c.data}
    name = draft.chosen(name for name in floats if draft.readers([name]))
    if name is None:
        return None
    array = floats[name].to_array()
    array.reshape(-1)[0] = np.nextafter(array.reshape(-1)[0], array.dtype.type(np.inf))
    constants = {**draft.structure.constants, name: Tensor.from_array(array)}
    draft.structure = replace(draft.structure, constants=constants)
    return Planted(draft.reached(name))


@fault("outputs crossed")
def _(draft: Draft) -> Planted | None:
    """Two outputs keep their names and places, and each is computed as the other one was."""
    known = types(draft)
    names = [value.name for value in draft.structure.outputs]
    pairs = [(a, b) for a in names for b in names if a < b and known.get(a, a) == known.get(b, b)]
    pair = draft.chosen(pairs)
    if pair is None or set(pair) & {value.name for value in draft.structure.inputs}:
        return None
    other = {pair[0]: pair[1], pair[1]: pair[0]}
    before = draft.structure.nodes
    nodes = tuple(
        replace(
            node,
            outputs=tuple(other.get(name, name) for name in node.outputs),
            inputs=tuple(other.get(name, name) for name in node.inputs),
        )
        for node in before
    )
    draft.structure = replace(draft.structure, nodes=nodes)
    return Planted(frozenset(pair) | {node.name for node in nodes if set(node.outputs) & set(pair)})
