"""ONNX models <-> Model: masked weights as sparse initializers, whose entries are exactly the mask.

Written with the protocol buffer classes of the onnx package, tensor by tensor, so that memory does not grow with
the model. What ONNX has no field for goes into ``metadata_props``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import google.protobuf.message
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from deepstruct import attributes as attribute_values
from deepstruct import files, jsonprofile
from deepstruct.converters import onnx_tensors
from deepstruct.errors import FaultyError, MalformedFileError, UnsupportedError
from deepstruct.files import Targets
from deepstruct.formats import ReadOptions, WriteOptions
from deepstruct.frozen import FrozenMapping, thaw
from deepstruct.limits import Limits
from deepstruct.losses import Loss
from deepstruct.mask import Mask
from deepstruct.model import Model, Weights
from deepstruct.structure import AttributeValue, Node, Parameter, Structure, ValueInfo
from deepstruct.tensor import MAX_ELEMENTS, Tensor
from deepstruct.version import __version__

IR_VERSION = 10  # the first with metadata_props on nodes; every onnxruntime since 1.18 accepts it
_ATTRIBUTES_KEY = "deepstruct.attributes"
_SCOPE_KEY = "deepstruct.scope"
_LARGEST = 2**31 - 1  # bytes of one protocol buffer message


def read(path: Path, options: ReadOptions, losses: list[Loss]) -> Model:
    """The model of an ONNX file; its numbers stay in the file's own buffers until asked for.

    Raises:
        MalformedFileError: the file is no ONNX model, or inconsistent.
        UnsupportedError: it has control flow, local functions or a dtype without a name in documents.
    """
    proto = _parse(path)
    graph = proto.graph
    if proto.functions:
        raise UnsupportedError(f"{path}: the model-local function {proto.functions[0].name!r} cannot be carried")
    _check_opsets(path, proto)
    losses += _read_losses(proto)
    reader = _Tensors(path, options)
    for tensor in graph.initializer:
        reader.add_dense(tensor)
    for sparse in graph.sparse_initializer:
        reader.add_sparse(sparse, "")
    nodes = [_read_node(path, n, i, reader) for i, n in enumerate(graph.node)]
    inputs = [_read_value(path, value) for value in graph.input]
    try:
        structure = Structure(
            name=graph.name or "main",
            opset=FrozenMapping({_domain(entry.domain): entry.version for entry in proto.opset_import}),
            inputs=tuple(value for value in inputs if not reader.initialises(value)),
            outputs=tuple(_read_value(path, value) for value in graph.output),
            nodes=tuple(_with_names([node for node in nodes if node is not None])),
            parameters=tuple(reader.parameters.values()),
            constants=FrozenMapping(reader.constants),
            attributes=_read_attributes(path, proto, options.limits),
        )
    except FaultyError as error:
        raise type(error)(f"{path}: not a valid ONNX model", error.faults) from error
    return Model(structure, Weights(structure, reader.load) if options.weights else None)


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
        if entry.key == _ATTRIBUTES_KEY:
            try:
                attributes = jsonprofile.parse(entry.value.encode(), limits)
            except FaultyError as error:
                raise MalformedFileError(str(path), f"metadata {_ATTRIBUTES_KEY!r}: {error.faults[0]}") from error
            if not isinstance(attributes, dict):
                raise MalformedFileError(str(path), f"metadata {_ATTRIBUTES_KEY!r} is no JSON object")
            return attributes
    return {}


def _read_losses(proto: ModelProto) -> list[Loss]:
    """What a Model has no place for."""
    losses = []
    props = [entry.key for entry in proto.metadata_props if entry.key != _ATTRIBUTES_KEY]
    if props:
        losses.append(Loss("metadata_props", "model", f"documents have no place for {', '.join(props)}"))
    annotated = [n.name for n in proto.graph.node if any(e.key != _SCOPE_KEY for e in n.metadata_props)]
    if annotated:
        why = f"documents have no place for exporter notes on nodes ({len(annotated)} nodes)"
        losses.append(Loss("metadata_props", annotated[0], why))
    for what, where, present in (
        ("doc_string", "model", proto.doc_string or proto.graph.doc_string),
        ("training_info", "model", len(proto.training_info)),
        ("quantization_annotation", "graph", len(proto.graph.quantization_annotation)),
    ):
        if present:
            losses.append(Loss(what, where, "documents have no place for it"))
    return losses


class _Tensors:
    """The initializers of a model, sorted into parameters and constants."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self.path = path
        self.limits: Limits = options.limits
        self.infer_masks = options.infer_masks
        self.parameters: dict[str, Parameter] = {}
        self.constants: dict[str, Tensor] = {}
        self._dense: dict[str, TensorProto] = {}
        self._kept: dict[str, NDArray[Any]] = {}

    def add_dense(self, proto: TensorProto, name: str = "") -> None:
        name = self._new(name or proto.name)
        if onnx_tensors.is_constant(proto):
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
    if proto.op_type == "Constant" and not proto.domain and len(proto.attribute) == 1 and len(proto.output) == 1:
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
    scope = next((entry.value for entry in proto.metadata_props if entry.key == _SCOPE_KEY), "")
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


def write(model: Model, path: Path, targets: Targets, options: WriteOptions) -> list[Loss]:
    """Writes an ONNX file.

    Raises:
        UnsupportedError: the model has no weights, which ONNX demands, or is larger than one file can be.
    """
    structure, weights = model.structure, model.weights
    if weights is None and structure.parameters:
        raise UnsupportedError("ONNX demands weights, and the source has a structure only")
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
        proto.metadata_props.add(key=_ATTRIBUTES_KEY, value=text)
    _add_types(proto, graph, structure)
    file = targets.open(path)
    file.write(proto.SerializeToString(deterministic=True))
    start = _begin_message(file, 7)
    file.write(graph.SerializeToString(deterministic=True))
    for parameter in options.progress(structure.parameters):
        if weights is None:
            break
        number, message = _initializer(parameter, weights, options.sparse_encoding, losses)
        content = message.SerializeToString(deterministic=True)
        file.write(_key(number) + _varint(len(content)) + content)
    _end_message(path, file, start)
    return losses


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
            proto.metadata_props.add(key=_SCOPE_KEY, value=node.scope)
    return graph


def _value(name: str, dtype: str, shape: Any) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx_tensors.data_type(dtype), shape)


def _attribute(name: str, value: AttributeValue, kind: str | None) -> AttributeProto:
    if isinstance(value, Tensor):
        return helper.make_attribute(name, onnx_tensors.from_constant(value))
    number = AttributeProto.AttributeType.Value(kind) if kind else AttributeProto.INTS
    return helper.make_attribute(name, value, attr_type=number if value == () else None)


def _add_types(proto: ModelProto, graph: GraphProto, structure: Structure) -> None:
    """Adds the types of the values between the nodes, which inference cannot find once weights are sparse.

    They are inferred on a twin in which every parameter is a graph input. An output whose rank the structure leaves
    open gets the inferred shape too, since onnx.checker demands one.
    """
    twin = ModelProto()
    twin.CopyFrom(proto)
    twin.graph.CopyFrom(graph)
    twin.graph.input.extend(_value(p.name, p.dtype, p.shape) for p in structure.parameters)
    inferred = onnx.shape_inference.infer_shapes(twin)
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
