"""Faults of recurrent layers: gates, direction, activations, biases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
from verification.mutations import Draft, Planted, attributes, fault, with_attributes
from verification.node_mutations import types

from deepstruct import Node

RECURRENT = ("LSTM", "GRU", "RNN")


def _recurrent(change: Callable[[Draft, Node], Node | None]) -> Callable[[Draft], Planted | None]:
    def planted(draft: Draft) -> Planted | None:
        node = draft.chosen(draft.nodes(*RECURRENT))
        other = None if node is None else change(draft, node)
        return None if other is None else draft.change(other)

    return planted


@fault("gates in another order")
def _(draft: Draft) -> Planted | None:
    leaves = draft.leaves()
    gates = [n for n in draft.nodes("Concat") if set(n.inputs) <= leaves and len(set(n.inputs)) > 2]
    node = draft.chosen(n for n in gates if _is_float(draft, n) and _has_entries(draft, n))
    if node is None:
        return None
    first, *rest = node.inputs
    planted = draft.change(replace(node, inputs=(first, rest[-1], *rest[:-1])))
    return replace(planted, names=planted.names | draft.reached(node.outputs[0]))


def _has_entries(draft: Draft, node: Node) -> bool:
    """Whether each gate has an entry, so that another order of the gates is another matrix."""
    sources = [p for p in draft.structure.parameters if node.inputs[0] in draft.reached(p.name)]
    masks = [p.mask.to_array() for p in sources if p.mask is not None]
    return all(gate.any() for mask in masks for gate in np.split(mask, len(node.inputs)))


def _is_float(draft: Draft, node: Node) -> bool:
    kinds = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16
    return types(draft).get(node.outputs[0], (0, ()))[0] in kinds


@fault("direction reversed")
@_recurrent
def _(_draft: Draft, node: Node) -> Node | None:
    directions = {b"forward": "reverse", "forward": "reverse"}
    direction = attributes(node).get("direction", "forward")
    return with_attributes(node, direction=directions[direction]) if direction in directions else None


@fault("linear_before_reset flipped")
@_recurrent
def _(_draft: Draft, node: Node) -> Node | None:
    if node.op_type != "GRU":
        return None
    return with_attributes(node, linear_before_reset=1 - attributes(node).get("linear_before_reset", 0))


@fault("activations of a recurrent layer changed")
@_recurrent
def _(_draft: Draft, node: Node) -> Node | None:
    usual = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}[node.op_type]
    names = list(attributes(node).get("activations", usual))
    names[-1] = "Relu" if names[-1] != "Relu" else "Tanh"
    if attributes(node).get("direction") == "bidirectional" and len(names) == len(usual):
        names = [*usual, *names]
    return with_attributes(node, activations=tuple(names))


@fault("biases of input and state swapped")
def _(draft: Draft) -> Planted | None:
    """Of a GRU that is another function; others add the two, so that only the network is another one."""
    found = []
    for layer in draft.nodes(*RECURRENT):
        reached = draft.reached(*[p.name for p in draft.parameters(1, 1)])
        for node in draft.structure.nodes:
            if node.op_type == "Concat" and len(set(node.inputs)) == 2 and set(node.inputs) <= reached:
                found += [(layer, node)] if layer.inputs[3] in draft.reached(node.outputs[0]) else []
    chosen = draft.chosen(found)
    if chosen is None:
        return None
    layer, node = chosen
    first, second = node.inputs
    planted = draft.change(replace(node, inputs=(second, first)))
    return replace(
        planted, names=planted.names | draft.reached(node.outputs[0]), is_same_function=layer.op_type != "GRU"
    )
