"""ONNX file -> Model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import google.protobuf.message
from onnx import GraphProto, ModelProto

from deepstruct import files
from deepstruct.converters import onnx_keys, onnx_packed_operators, onnx_packed_reading, onnx_tensors
from deepstruct.converters.onnx_initializers import Initializers
from deepstruct.converters.onnx_scopes import ScopeReader, opset_of, read_values
from deepstruct.errors import FaultyError, MalformedFileError
from deepstruct.frozen import FrozenMapping
from deepstruct.limits import Limits
from deepstruct.losses import Loss
from deepstruct.model import Model, Weights
from deepstruct.options import ReadOptions
from deepstruct.structure import Structure, walk


def read(path: Path, options: ReadOptions, losses: list[Loss]) -> Model:
    """The model of an ONNX file; its numbers stay in the file's own buffers until asked for.

    Raises:
        MalformedFileError: the file is no ONNX model, or inconsistent.
        UnsupportedError: it has a type without a name in documents.
    """
    return read_tensors(path, options, losses)[0]


def read_tensors(path: Path, options: ReadOptions, losses: list[Loss]) -> tuple[Model, Mapping[str, tuple[str, int]]]:
    """The model of an ONNX file; and parameter -> encoding and bytes that the file has it in."""
    return _read(parse(path), path, options, losses)


def from_proto(proto: ModelProto, path: Path, options: ReadOptions, losses: list[Loss]) -> Model:
    """The model of a protocol buffer; `path` is what errors call it, and where external data lie beside."""
    return _read(proto, path, options, losses)[0]


def _read(
    proto: ModelProto, path: Path, options: ReadOptions, losses: list[Loss]
) -> tuple[Model, Mapping[str, tuple[str, int]]]:
    graph = proto.graph
    opset = opset_of(path, proto.opset_import)
    losses += _read_losses(proto)
    initializers = Initializers(path, options)
    initializers.declare(proto)
    packed = onnx_packed_reading.recognise(proto)
    for weight in packed.weights:
        sparse = onnx_packed_reading.decode(path, weight, options.limits)
        size = sum(onnx_tensors.bytes_of(path, tensor) for piece in weight.pieces for tensor in piece.inputs.values())
        initializers.add_kept(sparse.parameter, sparse.kept, "packed", size)
    scopes = ScopeReader(path, initializers, graph, proto.functions)
    nodes = scopes.main(graph, opset, packed.nodes, packed.initializers)
    own = [f for f in proto.functions if f.domain != onnx_packed_operators.DOMAIN or f.name not in packed.functions]
    functions = tuple(scopes.function(function) for function in own)
    if packed.functions and not any(node.domain == onnx_packed_operators.DOMAIN for node in walk(nodes)):
        opset.pop(onnx_packed_operators.DOMAIN, None)
    initializers.add_unused(proto)
    try:
        structure = Structure(
            name=graph.name or "main",
            opset=FrozenMapping(opset),
            inputs=initializers.without_defaults(read_values(path, graph.input)),
            outputs=tuple(read_values(path, graph.output)),
            nodes=nodes,
            parameters=tuple(initializers.parameters.values()),
            constants=FrozenMapping(initializers.constants),
            functions=functions,
            attributes=_read_attributes(path, proto, options.limits),
        )
    except FaultyError as error:
        raise type(error)(f"{path}: not a valid ONNX model", error.faults) from error
    return Model(structure, Weights(structure, initializers.load)), initializers.stored


def parse(path: Path) -> ModelProto:
    """The protocol buffer of an ONNX file, without external data.

    Raises:
        MalformedFileError: the file is no ONNX model.
    """
    try:
        proto: ModelProto = ModelProto.FromString(files.read_bytes(path))
    except google.protobuf.message.DecodeError as error:
        raise MalformedFileError(str(path), "no ONNX model: truncated or of another kind") from error
    if not proto.ir_version or not proto.HasField("graph") or not proto.opset_import:
        raise MalformedFileError(str(path), "no ONNX model: it lacks its IR version, operator set or graph")
    _check_text(path, proto, "model")
    return proto


def _check_text(path: Path, message: google.protobuf.message.Message, place: str) -> None:
    """Makes sure that every string of a message is text; protocol buffers hand out others as bytes."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            for item in (value,) if isinstance(value, (str, bytes)) else value:
                if isinstance(item, bytes):
                    raise MalformedFileError(str(path), f"{place}.{field.name} is no UTF-8 text: {item!r:.60}")
        elif field.type == field.TYPE_MESSAGE:
            repeated = not isinstance(value, google.protobuf.message.Message)
            for position, item in enumerate(value if repeated else (value,)):
                _check_text(path, item, f"{place}.{field.name}" + (f"[{position}]" if repeated else ""))


def _read_attributes(path: Path, proto: ModelProto, limits: Limits) -> dict[str, Any]:
    for entry in proto.metadata_props:
        if entry.key == onnx_keys.ATTRIBUTES:
            return onnx_keys.json_object(path, entry, limits)
    return {}


def _read_losses(proto: ModelProto) -> list[Loss]:
    """What a Model has no place for."""
    graph = proto.graph
    parts: list[tuple[str, Any]] = [("model", proto), *_parts(graph)]
    for function in proto.functions:
        parts += [(function.name, function), *((node.name or node.op_type, node) for node in function.node)]
    losses = []
    for what in ("doc_string", "metadata_props"):
        owners = [name for name, part in parts if _has_notes(part, what)]
        if owners:
            more = f" (and of {len(owners) - 1} more)" if len(owners) > 1 else ""
            losses.append(Loss(what, owners[0], f"documents have no place for it{more}"))
    for what, present in (
        ("domain", proto.domain),
        ("model_version", proto.model_version),
        ("training_info", len(proto.training_info)),
        ("quantization_annotation", len(graph.quantization_annotation)),
        ("configuration", len(proto.configuration)),
    ):
        if present:
            losses.append(Loss(what, "model", "documents have no place for it"))
    initialised = {tensor.name for tensor in graph.initializer}
    optional = [value.name for value in graph.input if value.name in initialised and proto.ir_version >= 4]
    if optional:
        losses.append(Loss("input", optional[0], "an input with a default becomes the default alone"))
    return losses


def _parts(graph: GraphProto) -> Iterator[tuple[str, Any]]:
    """Everything in a graph that can carry notes, with its name."""
    yield graph.name or "graph", graph
    for value in (*graph.input, *graph.output, *graph.initializer):
        yield value.name, value
    for node in graph.node:
        yield node.name or node.op_type, node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.output:
                    yield from _parts(inner)


def _has_notes(part: Any, what: str) -> bool:
    value = getattr(part, what)
    if what == "doc_string":
        return bool(value)
    return any(entry.key not in onnx_keys.ALL for entry in value)
