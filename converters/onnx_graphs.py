"""Nodes, graphs and functions of a structure -> the messages of ONNX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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

_FIELDS = {"STRING": "s", "TENSOR": "t", "GRAPH": "g", "SPARSE_TENSOR": "sparse_tensor", "TYPE_PROTO": "tp"}


def graph_proto(structure: Structure, stored: Stored) -> GraphProto:
    """The main graph with its constants, but without its parameters."""
    graph = GraphProto(name=structure.name)
    graph.input.extend(map(value_proto, structure.inputs))
    graph.output.extend(map(value_proto, structure.outputs))
    graph.initializer.extend(onnx_tensors.from_constant(c, name) for name, c in sorted(structure.constants.items()))
    graph.node.extend(_nodes(structure.nodes, structure.opset, stored))
    return graph


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
    proto.attribute_proto.extend(
        _attribute(name, value, None, function.opset, stored) for name, value in sorted(function.defaults.items())
    )
    for name in function.captured:
        constant = structure.constants.get(name)
        tensor = onnx_tensors.from_constant(constant) if constant is not None else stored(name, None)
        node = proto.node.add(name=name, op_type="Constant", output=[name])
        key = "sparse_value" if isinstance(tensor, SparseTensorProto) else "value"
        node.attribute.append(helper.make_attribute(key, tensor))
    proto.node.extend(_nodes(function.nodes, function.opset, stored))
    return proto


def opset_ids(opset: Mapping[str, int]) -> list[Any]:
    """The imported operator sets, in the order of their domains."""
    return [helper.make_opsetid(domain, version) for domain, version in sorted(opset.items())]


def _nodes(nodes: Iterable[Node], opset: Mapping[str, int], stored: Stored) -> Iterable[NodeProto]:
    for node in nodes:
        proto = NodeProto(name=node.name, op_type=node.op_type, input=node.inputs, output=node.outputs)
        if node.domain:
            proto.domain = node.domain
        if node.overload:
            proto.overload = node.overload
        kinds = attributes.kinds(node.domain, node.op_type, opset)
        for name, value in sorted(node.attributes.items()):
            proto.attribute.append(_attribute(name, value, kinds.get(name), opset, stored))
        if node.scope:
            proto.metadata_props.add(key=onnx_keys.SCOPE, value=node.scope)
        yield proto


def _attribute(
    name: str, value: AttributeValue, kind: str | None, opset: Mapping[str, int], stored: Stored
) -> AttributeProto:
    types = AttributeProto.AttributeType
    if isinstance(value, AttributeReference):
        return AttributeProto(name=name, ref_attr_name=value.name, type=types.Value(value.kind))
    if isinstance(value, EmptyList) or value == ():
        kind = value.kind if isinstance(value, EmptyList) else kind or "INTS"
        return AttributeProto(name=name, type=types.Value(kind))
    if isinstance(value, tuple):
        return helper.make_attribute(name, [_item(item, opset, stored) for item in value])
    return helper.make_attribute(name, _item(value, opset, stored))


def _item(value: Any, opset: Mapping[str, int], stored: Stored) -> Any:
    """What protocol buffers hold for a single value."""
    if isinstance(value, Tensor):
        return onnx_tensors.from_constant(value)
    if isinstance(value, ParameterReference):
        return stored(value.name, value.sparse)
    if isinstance(value, TypeInfo):
        return type_proto(value)
    if isinstance(value, Graph):
        graph = GraphProto(name=value.name)
        graph.input.extend(map(value_proto, value.inputs))
        graph.output.extend(map(value_proto, value.outputs))
        graph.node.extend(_nodes(value.nodes, opset, stored))
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
