"""Model -> ONNX file, with the protocol buffer classes of the onnx package.

Tensors are written one after the other, so that memory does not grow with the model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, ValueInfoProto, helper

from deepstruct import attributes as attribute_values
from deepstruct.converters import onnx_keys, onnx_tensors
from deepstruct.errors import UnsupportedError
from deepstruct.files import Targets
from deepstruct.formats import WriteOptions
from deepstruct.frozen import thaw
from deepstruct.losses import Loss
from deepstruct.model import Model, Weights
from deepstruct.structure import AttributeValue, Parameter, Structure
from deepstruct.tensor import MAX_ELEMENTS, Tensor
from deepstruct.version import __version__

IR_VERSION = 10  # the first with metadata_props on nodes; every onnxruntime since 1.18 accepts it
_LARGEST = 2**31 - 1  # bytes of one protocol buffer message


def write(model: Model, path: Path, targets: Targets, options: WriteOptions) -> list[Loss]:
    """Writes an ONNX file.

    Raises:
        UnsupportedError: the model has no weights, which ONNX demands, or is larger than one file can be.
    """
    structure, weights = model.structure, model.weights
    if weights is None and structure.parameters:
        why = "the source has a structure only; --init draws them for a graph"
        raise UnsupportedError(f"ONNX demands weights, and {why}")
    losses = _write_losses(structure)
    graph = _graph(structure)
    proto = ModelProto(
        ir_version=max(IR_VERSION, _ir_version_of(structure.opset)),
        producer_name="deepstruct",
        producer_version=__version__,
        opset_import=[helper.make_opsetid(domain, version) for domain, version in sorted(structure.opset.items())],
    )
    if structure.attributes:
        text = json.dumps(thaw(structure.attributes), sort_keys=True, ensure_ascii=False)
        proto.metadata_props.add(key=onnx_keys.ATTRIBUTES, value=text)
    unused = _unused(structure)
    if unused and weights is not None:
        constants = {name: Tensor.from_array(weights[name]) for name in unused}
        text = json.dumps({name: attribute_values.tensor_to_json(value) for name, value in constants.items()})
        proto.metadata_props.add(key=onnx_keys.UNUSED, value=text)
    written = [parameter for parameter in structure.parameters if parameter.name not in unused]
    small = [p.name for p in written if onnx_tensors.is_small(p)]
    if small:
        proto.metadata_props.add(key=onnx_keys.PARAMETERS, value="\n".join(small))
    _add_types(path, proto, graph, structure)
    file = targets.open(path)
    file.write(proto.SerializeToString(deterministic=True))
    start = _begin_message(file, 7)
    file.write(graph.SerializeToString(deterministic=True))
    for parameter in options.progress(written):
        if weights is None:
            break
        number, message = _initializer(parameter, weights, options.sparse_encoding, losses)
        content = message.SerializeToString(deterministic=True)
        file.write(_key(number) + _varint(len(content)) + content)
    _end_message(path, file, start)
    return losses


def _unused(structure: Structure) -> list[str]:
    """Small parameters that no operator uses, such as the batch counts of batch norm, of which runtimes warn."""
    used = {name for node in structure.nodes for name in node.inputs} | {value.name for value in structure.outputs}
    return [
        p.name
        for p in structure.parameters
        if p.name not in used and p.mask is None and p.size <= MAX_ELEMENTS and not p.dtype.startswith("complex")
    ]


def _ir_version_of(opset: Mapping[str, int]) -> int:
    known = [helper.make_opsetid(d, v) for d, v in opset.items() if (d or "ai.onnx", v) in helper.OP_SET_ID_VERSION_MAP]
    return int(helper.find_min_ir_version_for(known)) if known else IR_VERSION


def _initializer(
    parameter: Parameter, weights: Weights, encoding: str, losses: list[Loss]
) -> tuple[int, TensorProto | onnx.SparseTensorProto]:
    """Field number in GraphProto and message of a parameter's initializer."""
    mask = parameter.mask
    if mask is not None and encoding == "coo" and parameter.shape:
        return 15, onnx_tensors.sparse(parameter, mask, weights.kept(parameter.name))
    if mask is not None:
        why = "a dense initializer does not tell masked from 0; write it sparse, or read it back with --infer-masks"
        losses.append(Loss("mask", parameter.name, why))
    return 5, onnx_tensors.dense(parameter, weights[parameter.name])


def _write_losses(structure: Structure) -> list[Loss]:
    owners: list[tuple[str, Any]] = [("document", structure)]
    owners += [(node.name, node) for node in structure.nodes]
    owners += [(parameter.name, parameter) for parameter in structure.parameters]
    owners += [(value.name, value) for value in (*structure.inputs, *structure.outputs)]
    return [
        Loss("unknown members", name, f"ONNX has no place for {', '.join(sorted(item.extra))}")
        for name, item in owners
        if item.extra
    ]


def _graph(structure: Structure) -> GraphProto:
    """The graph without its parameters."""
    graph = GraphProto(name=structure.name)
    graph.input.extend(_value(v.name, v.dtype, v.shape) for v in structure.inputs)
    graph.output.extend(_value(v.name, v.dtype, v.shape) for v in structure.outputs)
    graph.initializer.extend(onnx_tensors.from_constant(c, name) for name, c in sorted(structure.constants.items()))
    for node in structure.nodes:
        proto = graph.node.add(
            name=node.name, op_type=node.op_type, domain=node.domain, input=node.inputs, output=node.outputs
        )
        kinds = attribute_values.kinds(node.domain, node.op_type, structure.opset)
        for name, value in sorted(node.attributes.items()):
            proto.attribute.append(_attribute(name, value, kinds.get(name)))
        if node.scope:
            proto.metadata_props.add(key=onnx_keys.SCOPE, value=node.scope)
    return graph


def _value(name: str, dtype: str, shape: Any) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx_tensors.data_type(dtype), shape)


def _attribute(name: str, value: AttributeValue, kind: str | None) -> AttributeProto:
    if isinstance(value, Tensor):
        return helper.make_attribute(name, onnx_tensors.from_constant(value))
    number = AttributeProto.AttributeType.Value(kind) if kind else AttributeProto.INTS
    return helper.make_attribute(name, value, attr_type=number if value == () else None)


def _add_types(path: Path, proto: ModelProto, graph: GraphProto, structure: Structure) -> None:
    """Adds the types of the values between the nodes, which inference cannot find once weights are sparse.

    They are inferred on a twin in which every parameter is a graph input. An output whose rank the structure leaves
    open gets the inferred shape too, since onnx.checker demands one.

    Raises:
        UnsupportedError: types or shapes are not what the operators take, so no runtime would accept the model.
    """
    twin = ModelProto()
    twin.CopyFrom(proto)
    twin.graph.CopyFrom(graph)
    twin.graph.input.extend(_value(p.name, p.dtype, p.shape) for p in structure.parameters)
    try:
        inferred = onnx.shape_inference.infer_shapes(twin, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UnsupportedError(f"{path}: ONNX does not allow this structure: {reason}") from error
    graph.value_info.extend(inferred.graph.value_info)
    for output, found in zip(graph.output, inferred.graph.output, strict=True):
        if not output.type.tensor_type.HasField("shape"):
            output.CopyFrom(found)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _key(field: int) -> bytes:
    """Key of a length-delimited field (https://protobuf.dev/programming-guides/encoding/)."""
    return _varint(field << 3 | 2)


def _begin_message(file: IO[bytes], field: int) -> int:
    """Opens a field whose length is not known yet; returns where its content begins."""
    file.write(_key(field) + b"\0" * 5)
    return file.tell()


def _end_message(path: Path, file: IO[bytes], start: int) -> None:
    """Closes the field: its length becomes a varint padded to 5 bytes, which every decoder reads."""
    end = file.tell()
    if end > _LARGEST:
        raise UnsupportedError(f"{path}: the model takes {end} bytes, and one ONNX file holds less than 2 GiB")
    length = end - start
    septets = [(length >> (7 * i)) & 0x7F for i in range(5)]
    file.seek(start - 5)
    file.write(bytes(septet | (0x80 if i < 4 else 0) for i, septet in enumerate(septets)))
    file.seek(end)
