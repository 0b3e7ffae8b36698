"""The order of nodes, which ONNX demands to be topological and some programs leave to the runtime."""

from __future__ import annotations

import graphlib

from onnx import NodeProto


def in_order(protos: list[NodeProto]) -> list[NodeProto]:
    """The nodes in topological order; as they are if there is a cycle."""
    makers = {name: i for i, proto in enumerate(protos) for name in proto.output if name}
    needs = {i: {makers[name] for name in _taken(proto) if name in makers} for i, proto in enumerate(protos)}
    if all(max(before, default=-1) < i for i, before in needs.items()):
        return protos
    try:
        return [protos[i] for i in graphlib.TopologicalSorter(needs).static_order()]
    except graphlib.CycleError:
        return protos


def _taken(node: NodeProto) -> set[str]:
    """What a node takes, by itself or in its graphs."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            names |= {name for inner in graph.node for name in _taken(inner)} | {v.name for v in graph.output}
    return names
