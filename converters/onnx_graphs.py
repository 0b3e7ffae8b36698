"""Nodes, graphs and functions of a structure -> the messages of ONNX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    helper,
)

from deepstruct import attributes
from deepstruct.converters import onnx_keys, onnx_tensors
from deepstruct.structure import (
    AttributeReference,
    AttributeValue,
    EmptyList,
    Function,
    Graph,
    Node,
    ParameterReference,
    Structure,
    TypeInfo,
    ValueInfo,
)
from deepstruct.tensor import Tensor

Stored = Callable[[str, bool | None], TensorProto | SparseTensorProto]
"""The tensor of a parameter by name, for places outside of the main graph: dense, sparse, or (None) what is smaller."""


def graph_proto(structure: Structure, stored: Stored) -> GraphProto:
    """The main graph with its constants, but without its parameters."""
    graph = GraphProto(name=structure.name)
    graph.input.extend(map(value_proto, structure.inputs))
    graph.output.extend(map(value_proto, structure.outputs))
    homes = _homes(structure)
    inner = {name for names in homes.values() for name in names}
    graph.initializer.extend(
        onnx_tensors.from_constant(constant, name)
        for name, constant in sorted(structure.constants.items())
        if name not in inner
    )
    graph.node.extend(_Writer(structure.opset, stored, homes, structure.constants).nodes(structure.nodes))
    return graph


def _homes(structure: Structure) -> dict[int, list[str]]:
    """Graph within a node, by its id -> constants that nothing outside of it uses.

    They stand in it, since some evaluators hide the outside from the bodies of some operators.
    """
    paths: dict[str, list[int]] = {value.name: [] for value in structure.outputs}

    def visit(nodes: tuple[Node, ...], path: list[int]) -> None:
        for node in nodes:
            for name in node.inputs:
                common = takewhile(lambda pair: pair[0] == pair[1], zip(paths.get(name, path), path, strict=False))
                paths[name] = [first for first, _ in common]
            for graph in node.graphs:
                visit(graph.nodes, [*path, id(graph)])

    visit(structure.nodes, [])
    homes: dict[int, list[str]] = {}
    for name in sorted(structure.constants):
        if paths.get(name):
            homes.setdefault(paths[name][-1], []).append(name)
    return homes


def function_proto(function: Function, structure: Structure, stored: Stored) -> FunctionProto:
    """A function; parameters and constants that it uses become constants within it."""
    proto = FunctionProto(
        name=function.name,
        domain=function.domain,
        input=function.inputs,
        output=function.outputs,
        attribute=function.attributes,
        opset_import=opset_ids(function.opset),
    )
    if function.overload:
        proto.overload = function.overload
    writer = _Writer(function.opset, stored, {}, {})
    proto.attribute_proto.extend(
        writer.attribute(name, value, None) for name, value in sorted(function.defaults.items())
    )
    for name in function.captured:
        constant = structure.constants.get(name)
        tensor = onnx_tensors.from_constant(constant) if constant is not None else stored(name, None)
        node = proto.node.add(name=name, op_type="Constant", output=[name])
        key = "sparse_value" if isinstance(tensor, SparseTensorProto) else "value"
        node.attribute.append(helper.make_attribute(key, tensor))
    proto.node.extend(writer.nodes(function.nodes))
    return proto


def opset_ids(opset: Mapping[str, int]) -> list[Any]:
    """The imported operator sets, in the order of their domains."""
    return [helper.make_opsetid(domain, version) for domain, version in sorted(opset.items())]


@dataclass(frozen=True)
class _Writer:
    """Writes nodes of one operator set.

    Attributes:
        opset: operator set domain -> version.
        stored: tensors of parameters within attributes.
        homes: graph within a node, by its id -> constants that stand in it.
        constants: by name.
    """

    opset: Mapping[str, int]
    stored: Stored
    homes: Mapping[int, Sequence[str]]
    constants: Mapping[str, Tensor]

    def nodes(self, nodes: Iterable[Node]) -> Iterator[NodeProto]:
        for node in nodes:
            proto = NodeProto(name=node.name, op_type=node.op_type, input=node.inputs, output=node.outputs)
            if node.domain:
                proto.domain = node.domain
            if node.overload:
                proto.overload = node.overload
            kinds = attributes.kinds(node.domain, node.op_type, self.opset)
            for name, value in sorted(node.attributes.items()):
                proto.attribute.append(self.attribute(name, value, kinds.get(name)))
            if node.scope:
                proto.metadata_props.add(key=onnx_keys.SCOPE, value=node.scope)
            yield proto

    def attribute(self, name: str, value: AttributeValue, kind: str | None) -> AttributeProto:
        types = AttributeProto.AttributeType
        if isinstance(value, AttributeReference):
            return AttributeProto(name=name, ref_attr_name=value.name, type=types.Value(value.kind))
        if isinstance(value, EmptyList) or value == ():
            kind = value.kind if isinstance(value, EmptyList) else kind or "INTS"
            return AttributeProto(name=name, type=types.Value(kind))
        if isinstance(value, tuple):
            return helper.make_attribute(name, [self._item(item) for item in value])
        return helper.make_attribute(name, self._item(value))

    def _item(self, value: Any) -> Any:
        """What protocol buffers hold for a single value."""
        if isinstance(value, Tensor):
            return onnx_tensors.from_constant(value)
        if isinstance(value, ParameterReference):
            return self.stored(value.name, value.sparse)
        if isinstance(value, TypeInfo):
            return type_proto(value)
        if isinstance(value, Graph):
            graph = GraphProto(name=value.name)
            graph.input.extend(map(value_proto, value.inputs))
            graph.output.extend(map(value_proto, value.outputs))
            names = self.homes.get(id(value), ())
            graph.initializer.extend(onnx_tensors.from_constant(self.constants[name], name) for name in names)
            graph.node.extend(self.nodes(value.nodes))
            return graph
        return value


def value_proto(value: ValueInfo) -> ValueInfoProto:
    """A graph input or output."""
    proto = ValueInfoProto(name=value.name)
    if value.dtype is not None:
        proto.type.CopyFrom(type_proto(value))
    return proto


def type_proto(info: TypeInfo | ValueInfo) -> TypeProto:
    """The type of a value."""
    if info.dtype is None:
        return TypeProto()
    number = onnx_tensors.data_type(info.dtype)
    if info.containers and info.containers[-1] == "sparse_tensor":
        proto, containers = helper.make_sparse_tensor_type_proto(number, info.shape), info.containers[:-1]
    else:
        proto, containers = helper.make_tensor_type_proto(number, info.shape), info.containers
    for container in reversed(containers):
        if container == "sequence":
            proto = helper.make_sequence_type_proto(proto)
        elif container == "optional":
            proto = helper.make_optional_type_proto(proto)
        else:
            key = onnx_tensors.data_type(container.removeprefix("map:"))
            proto = helper.make_map_type_proto(key, proto)
    return proto
