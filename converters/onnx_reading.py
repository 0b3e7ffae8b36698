"""ONNX file -> Model, for every model that has no control flow and no functions of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import google.protobuf.message
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from deepstruct import attributes, files, jsonprofile
from deepstruct.converters import onnx_keys, onnx_tensors
from deepstruct.errors import FaultyError, MalformedFileError, UnsupportedError
from deepstruct.formats import ReadOptions
from deepstruct.frozen import FrozenMapping
from deepstruct.limits import Limits
from deepstruct.losses import Loss
from deepstruct.mask import Mask
from deepstruct.model import Model, Weights
from deepstruct.structure import AttributeValue, Node, Parameter, Structure, ValueInfo
from deepstruct.tensor import MAX_ELEMENTS, Tensor


def read(path: Path, options: ReadOptions, losses: list[Loss]) -> Model:
    """The model of an ONNX file; its numbers stay in the file's own buffers until asked for.

    Raises:
        MalformedFileError: the file is no ONNX model, or inconsistent.
        UnsupportedError: it has control flow, local functions or a dtype without a name in documents.
    """
    return from_proto(_parse(path), path, options, losses)


def from_proto(proto: ModelProto, path: Path, options: ReadOptions, losses: list[Loss]) -> Model:
    """The model of a protocol buffer; `path` is what errors call it, and where external data lie beside."""
    graph = proto.graph
    if proto.functions:
        raise UnsupportedError(f"{path}: the model-local function {proto.functions[0].name!r} cannot be carried")
    _check_opsets(path, proto)
    losses += _read_losses(proto)
    reader = _Tensors(path, options)
    reader.declare(proto)
    for tensor in graph.initializer:
        reader.add_dense(tensor)
    for sparse in graph.sparse_initializer:
        reader.add_sparse(sparse, "")
    reader.add_unused(proto)
    nodes = [_read_node(path, n, i, reader) for i, n in enumerate(graph.node)]
    inputs = _read_values(path, graph.input)
    try:
        structure = Structure(
            name=graph.name or "main",
            opset=FrozenMapping({_domain(entry.domain): entry.version for entry in proto.opset_import}),
            inputs=tuple(value for value in inputs if not reader.initialises(value)),
            outputs=tuple(_read_values(path, graph.output)),
            nodes=tuple(_with_names([node for node in nodes if node is not None])),
            parameters=tuple(reader.parameters.values()),
            constants=FrozenMapping(reader.constants),
            attributes=_read_attributes(path, proto, options.limits),
        )
    except FaultyError as error:
        raise type(error)(f"{path}: not a valid ONNX model", error.faults) from error
    return Model(structure, Weights(structure, reader.load))


def _parse(path: Path) -> ModelProto:
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


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _check_opsets(path: Path, proto: ModelProto) -> None:
    versions: dict[str, int] = {}
    for entry in proto.opset_import:
        if versions.setdefault(_domain(entry.domain), entry.version) != entry.version:
            raise MalformedFileError(str(path), f"the operator set {entry.domain or 'ai.onnx'!r} has two versions")


def _read_attributes(path: Path, proto: ModelProto, limits: Limits) -> dict[str, Any]:
    for entry in proto.metadata_props:
        if entry.key == onnx_keys.ATTRIBUTES:
            try:
                found = jsonprofile.parse(entry.value.encode(), limits)
            except FaultyError as error:
                raise MalformedFileError(str(path), f"metadata {onnx_keys.ATTRIBUTES!r}: {error.faults[0]}") from error
            if not isinstance(found, dict):
                raise MalformedFileError(str(path), f"metadata {onnx_keys.ATTRIBUTES!r} is no JSON object")
            return found
    return {}


def _read_losses(proto: ModelProto) -> list[Loss]:
    """What a Model has no place for."""
    graph = proto.graph
    parts: list[tuple[str, Any]] = [("model", proto), ("graph", graph)]
    parts += [(node.name or node.op_type, node) for node in graph.node]
    parts += [(value.name, value) for value in (*graph.input, *graph.output)]
    parts += [(tensor.name, tensor) for tensor in graph.initializer]
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
    ):
        if present:
            losses.append(Loss(what, "model", "documents have no place for it"))
    initialised = {tensor.name for tensor in graph.initializer}
    optional = [value.name for value in graph.input if value.name in initialised and proto.ir_version >= 4]
    if optional:
        losses.append(Loss("input", optional[0], "an input with a default becomes the default alone"))
    return losses


def _has_notes(part: Any, what: str) -> bool:
    value = getattr(part, what)
    if what == "doc_string":
        return bool(value)
    return any(entry.key not in onnx_keys.ALL for entry in value)


class _Tensors:
    """The initializers of a model, sorted into parameters and constants."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self.path = path
        self.limits: Limits = options.limits
        self.infer_masks = options.infer_masks
        self.parameters: dict[str, Parameter] = {}
        self.constants: dict[str, Tensor] = {}
        self._small: set[str] = set()
        self._dense: dict[str, TensorProto] = {}
        self._kept: dict[str, NDArray[Any]] = {}

    def declare(self, proto: ModelProto) -> None:
        """Notes which tensors are parameters although they are as small as constants."""
        for entry in proto.metadata_props:
            if entry.key == onnx_keys.PARAMETERS:
                self._small = set(entry.value.split("\n"))

    def add_dense(self, proto: TensorProto, name: str = "") -> None:
        name = self._new(name or proto.name)
        if onnx_tensors.is_constant(proto) and name not in self._small:
            self.constants[name] = onnx_tensors.to_constant(self.path, proto)
            return
        dtype = onnx_tensors.dtype_name(self.path, name, proto.data_type)
        if dtype == "string":
            raise UnsupportedError(f"{self.path}: tensor {name!r} has more than {MAX_ELEMENTS} strings")
        array = onnx_tensors.to_array(self.path, proto)
        mask = Mask.of_zeros(array) if self.infer_masks else None
        self.parameters[name] = Parameter(name, dtype, tuple(proto.dims), mask)
        self._dense[name] = proto

    def add_sparse(self, proto: onnx.SparseTensorProto, name: str) -> None:
        name = self._new(name or proto.values.name)
        sparse = onnx_tensors.from_sparse(self.path, proto, self.limits, name)
        self.parameters[name], self._kept[name] = sparse.parameter, sparse.kept

    def add_unused(self, proto: ModelProto) -> None:
        """Takes in the parameters that are noted beside the graph, because no operator uses them."""
        for entry in proto.metadata_props:
            if entry.key == onnx_keys.UNUSED:
                place = f"metadata {onnx_keys.UNUSED!r}"
                try:
                    noted = jsonprofile.parse(entry.value.encode(), self.limits)
                    if not isinstance(noted, dict):
                        raise MalformedFileError(str(self.path), f"{place} is no JSON object")
                    constants = {self._new(name): attributes.tensor_from_json(value) for name, value in noted.items()}
                except FaultyError as error:
                    raise MalformedFileError(str(self.path), f"{place}: {error.faults[0]}") from error
                for name, constant in constants.items():
                    self.parameters[name] = Parameter(name, constant.dtype, constant.shape)
                    self._kept[name] = constant.to_array()

    def _new(self, name: str) -> str:
        if not name:
            raise MalformedFileError(str(self.path), "an initializer has no name")
        if name in self.parameters or name in self.constants:
            raise MalformedFileError(str(self.path), f"two initializers are called {name!r}")
        return name

    def initialises(self, value: ValueInfo) -> bool:
        """Whether a graph input is only the declaration of an initializer, as IR versions before 4 demand."""
        tensor = self.parameters.get(value.name) or self.constants.get(value.name)
        if tensor is None:
            return False
        declared = value.shape if value.shape is not None else tensor.shape
        fits = len(declared) == len(tensor.shape) and all(
            dim == extent or not isinstance(dim, int) for dim, extent in zip(declared, tensor.shape, strict=True)
        )
        if value.dtype != tensor.dtype or not fits:
            message = f"the initializer {value.name!r} is {tensor.dtype} {list(tensor.shape)}, but declared otherwise"
            raise MalformedFileError(str(self.path), message)
        return True

    def load(self, parameter: Parameter) -> NDArray[Any]:
        if parameter.name in self._kept:
            return self._kept[parameter.name]
        return onnx_tensors.to_array(self.path, self._dense[parameter.name])


def _read_values(path: Path, protos: Iterable[ValueInfoProto]) -> list[ValueInfo]:
    values = []
    for proto in protos:
        try:
            values.append(_read_value(path, proto))
        except FaultyError as error:
            raise MalformedFileError(str(path), f"graph value {proto.name!r}: {error.faults[0].message}") from error
    return values


def _read_value(path: Path, proto: ValueInfoProto) -> ValueInfo:
    if proto.type.WhichOneof("value") != "tensor_type":
        kind = proto.type.WhichOneof("value") or "missing type"
        raise UnsupportedError(f"{path}: the graph value {proto.name!r} is no tensor ({kind})")
    tensor = proto.type.tensor_type
    dims: list[int | str | None] = []
    for dim in tensor.shape.dim:
        kind = dim.WhichOneof("value")
        dims.append(dim.dim_value if kind == "dim_value" else dim.dim_param or None)
    dtype = onnx_tensors.dtype_name(path, proto.name, tensor.elem_type)
    return ValueInfo(proto.name, dtype, tuple(dims) if tensor.HasField("shape") else None)


def _read_node(path: Path, proto: NodeProto, position: int, tensors: _Tensors) -> Node | None:
    """The node, or None for a Constant whose value has become a parameter."""
    if (
        proto.op_type == "Constant"
        and not _domain(proto.domain)
        and len(proto.attribute) == 1
        and len(proto.output) == 1
    ):
        (attribute,) = proto.attribute
        if attribute.name == "sparse_value":
            tensors.add_sparse(attribute.sparse_tensor, proto.output[0])
            return None
        if attribute.name == "value" and not onnx_tensors.is_constant(attribute.t):
            tensors.add_dense(attribute.t, proto.output[0])
            return None
    place = f"node {proto.name or position!r} ({proto.op_type})"
    if proto.overload:
        raise UnsupportedError(f"{path}: {place}: overloads of local functions cannot be carried")
    values = {a.name: _read_attribute(path, a, place) for a in proto.attribute}
    scope = next((entry.value for entry in proto.metadata_props if entry.key == onnx_keys.SCOPE), "")
    try:
        return Node(
            name=proto.name or f"\0{position}",
            op_type=proto.op_type,
            inputs=tuple(proto.input),
            outputs=tuple(proto.output),
            attributes=FrozenMapping(values),
            scope=scope,
            domain=_domain(proto.domain),
        )
    except FaultyError as error:
        raise MalformedFileError(str(path), f"{place}: {error.faults[0].message}") from error


def _with_names(nodes: list[Node]) -> Iterable[Node]:
    """The nodes with a name for each that ONNX has left without one, or that shares one with another."""
    taken = {node.name for node in nodes}
    seen: set[str] = set()
    for position, node in enumerate(nodes):
        name = node.name
        if name.startswith("\0") or name in seen:
            name = f"{node.op_type}_{position}"
            while name in taken:
                name += "_"
        taken.add(name)
        seen.add(name)
        yield replace(node, name=name)


def _read_attribute(path: Path, proto: AttributeProto, place: str) -> AttributeValue:
    kinds = AttributeProto.AttributeType
    if proto.ref_attr_name:
        raise UnsupportedError(f"{path}: {place}: attribute {proto.name!r} refers to one of a local function")
    if proto.type == kinds.TENSOR:
        return onnx_tensors.to_constant(path, proto.t)
    if proto.type in (kinds.INT, kinds.FLOAT, kinds.INTS, kinds.FLOATS, kinds.STRING, kinds.STRINGS):
        value = helper.get_attribute_value(proto)
        try:
            if isinstance(value, bytes):
                return value.decode()
            return tuple(v.decode() if isinstance(v, bytes) else v for v in value) if _is_list(value) else value
        except UnicodeDecodeError as error:
            raise UnsupportedError(f"{path}: {place}: attribute {proto.name!r} is no UTF-8 text") from error
    try:
        kind = kinds.Name(proto.type)
    except ValueError:
        kind = str(proto.type)
    raise UnsupportedError(f"{path}: {place}: attributes of type {kind} cannot be carried ({proto.name!r})")


def _is_list(value: Any) -> bool:
    return not isinstance(value, (int, float))
