"""Graphs and functions of an ONNX model -> nodes, with every name resolved in its scope.

Initializers of graphs within nodes, and constants in functions, become parameters of the one structure; where their
names, or names that hide one from outside, would collide, they get others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TypeProto, ValueInfoProto

from deepstruct import attributes
from deepstruct.converters import onnx_keys, onnx_tensors
from deepstruct.converters.onnx_initializers import Initializers
from deepstruct.converters.onnx_order import in_order
from deepstruct.errors import FaultyError, MalformedFileError, UnsupportedError
from deepstruct.frozen import FrozenMapping
from deepstruct.structure import (
    AttributeReference,
    AttributeValue,
    EmptyList,
    Function,
    Graph,
    Node,
    ParameterReference,
    TypeInfo,
    ValueInfo,
)
from deepstruct.tensor import MAX_ELEMENTS

_FIELDS = {
    **{"FLOAT": "f", "INT": "i", "STRING": "s", "TENSOR": "t", "GRAPH": "g", "SPARSE_TENSOR": "sparse_tensor"},
    **{"TYPE_PROTO": "tp", "FLOATS": "floats", "INTS": "ints", "STRINGS": "strings", "TENSORS": "tensors"},
    **{"GRAPHS": "graphs", "SPARSE_TENSORS": "sparse_tensors", "TYPE_PROTOS": "type_protos"},
}


_VALUES = frozenset(_FIELDS.values())


def domain_of(domain: str) -> str:
    """The name that documents have for an operator set's domain."""
    return "" if domain == "ai.onnx" else domain


@dataclass(frozen=True)
class _Scope:
    """Where a name is looked up.

    Attributes:
        place: what the scope is called in names that must be new.
        names: name in the file -> name in the structure, of everything visible.
        opset: operator set domain -> version.
        closed: it is within a function, where no other names are visible.
    """

    place: str
    names: Mapping[str, str]
    opset: Mapping[str, int]
    closed: bool = False


class ScopeReader:
    """Reads the graphs and functions of one model."""

    def __init__(self, path: Path, initializers: Initializers, graph: GraphProto, functions: Iterable[FunctionProto]):
        self.path = path
        self.initializers = initializers
        self._numbers: Counter[str] = Counter()
        self._defined = Counter(_definitions(graph))
        for function in functions:
            self._defined.update([*function.input, *_made(function.node)])

    def main(
        self,
        graph: GraphProto,
        opset: Mapping[str, int],
        nodes: frozenset[int] = frozenset(),
        initializers: frozenset[str] = frozenset(),
    ) -> tuple[Node, ...]:
        """The nodes of the main graph, but for those at the given positions and the initializers of the given names.

        What is left out decodes packed weights, which are parameters already.
        """
        for tensor in graph.initializer:
            if tensor.name not in initializers:
                self.initializers.add_dense(tensor, tensor.name)
        for sparse in graph.sparse_initializer:
            self.initializers.add_sparse(sparse, sparse.values.name, "coo")
        own = [value.name for value in (*graph.input, *graph.output)]
        own += [tensor.name for tensor in graph.initializer] + [s.values.name for s in graph.sparse_initializer]
        names = {name: name for name in (*own, *(name for node in graph.node for name in node.output))}
        kept = [node for position, node in enumerate(graph.node) if position not in nodes]
        return self._nodes(kept, _Scope("", names, opset))

    def _nodes(self, protos: Iterable[NodeProto], scope: _Scope) -> tuple[Node, ...]:
        nodes = [self._node(proto, position, scope) for position, proto in enumerate(in_order(list(protos)))]
        return tuple(_with_names([node for node in nodes if node is not None]))

    def _graph(self, proto: GraphProto, place: str, outer: _Scope) -> Graph:
        """A graph within an attribute."""
        values = [value.name for value in proto.input]
        values += [name for node in proto.node if not _is_stored(node) for name in node.output if name]
        names = dict(outer.names)
        for name in values:
            names[name] = self._unique(f"{place}.{name}") if name in outer.names else name
        for node in proto.node:
            if _is_stored(node):
                names[node.output[0]] = self._free(node.output[0], place)
        self._require_distinct(proto)
        for tensor in proto.initializer:
            names[tensor.name] = self._free(tensor.name, place)
            self.initializers.add_dense(tensor, names[tensor.name])
        for sparse in proto.sparse_initializer:
            names[sparse.values.name] = self._free(sparse.values.name, place)
            self.initializers.add_sparse(sparse, names[sparse.values.name], "coo")
        scope = _Scope(place, names, outer.opset, outer.closed)
        nodes = list(self._nodes(proto.node, scope))
        own = {names[name] for name in values}
        inputs = [replace(value, name=names[value.name]) for value in read_values(self.path, proto.input)]
        outputs = []
        for value in read_values(self.path, proto.output):
            name = self._visible(value.name, scope, place)
            if name not in own:  # a graph hands back nothing but what its nodes make
                made = self._unique(f"{place}.{value.name}")
                nodes.append(Node(made, "Identity", (name,), (made,)))
                name = made
            outputs.append(replace(value, name=name))
        return Graph(tuple(_with_names(nodes)), tuple(inputs), tuple(outputs), proto.name or "main")

    def function(self, proto: FunctionProto) -> Function:
        """A function of the model."""
        opset = opset_of(self.path, proto.opset_import)
        names = {name: name for name in (*proto.input, *_results(proto.node))}
        for node in proto.node:
            if _is_stored(node):
                names[node.output[0]] = self._free(node.output[0], proto.name)
        scope = _Scope(proto.name, names, opset, closed=True)
        defaults = {a.name: self._attribute(a, f"function {proto.name!r}", scope, {}) for a in proto.attribute_proto}
        nodes = list(self._nodes(proto.node, scope))
        outputs = []
        for name in proto.output:
            resolved = names.get(name, name)
            if resolved in self.initializers.parameters:
                made = self._unique(f"{proto.name}.{name}.output")
                nodes.append(Node(made, "Identity", (resolved,), (made,)))
                resolved = made
            outputs.append(resolved)
        try:
            return Function(
                name=proto.name,
                domain=domain_of(proto.domain),
                overload=proto.overload,
                inputs=tuple(proto.input),
                outputs=tuple(outputs),
                nodes=tuple(nodes),
                opset=FrozenMapping(opset),
                attributes=tuple(proto.attribute),
                defaults=FrozenMapping(defaults),
            )
        except FaultyError as error:
            raise MalformedFileError(str(self.path), f"function {proto.name!r}: {error.faults[0].message}") from error

    def _free(self, name: str, place: str) -> str:
        """The name itself for a tensor if nothing else in the model is called so, else one with its place."""
        return name if self._defined[name] <= 1 else self._unique(f"{place}.{name}")

    def _unique(self, name: str) -> str:
        found = name
        while self._defined[found]:
            number = self._numbers[name]
            found = f"{name}_{number or ''}"
            self._numbers[name] += 1
        self._defined[found] += 1
        return found

    def _require_distinct(self, proto: GraphProto) -> None:
        names = [tensor.name for tensor in proto.initializer] + [s.values.name for s in proto.sparse_initializer]
        for name, number in Counter(names).items():
            if not name:
                raise MalformedFileError(str(self.path), f"an initializer of the graph {proto.name!r} has no name")
            if number > 1:
                raise MalformedFileError(str(self.path), f"two initializers are called {name!r}")

    def _visible(self, name: str, scope: _Scope, place: str) -> str:
        """The name in the structure."""
        if name and scope.closed and name not in scope.names:
            message = f"{place}: nothing in the function is called {name!r}, and a function sees nothing outside"
            raise MalformedFileError(str(self.path), message)
        return scope.names.get(name, name)

    def _node(self, proto: NodeProto, position: int, scope: _Scope) -> Node | None:
        """The node, or None for a Constant whose value has become a parameter."""
        if _is_stored(proto):
            (attribute,) = proto.attribute
            name = scope.names[proto.output[0]]
            if attribute.name == "sparse_value":
                self.initializers.add_sparse(attribute.sparse_tensor, name, "constant")
            else:
                self.initializers.add_dense(attribute.t, name)
            return None
        place = f"node {proto.name or position!r} ({proto.op_type})"
        domain = domain_of(proto.domain)
        kinds = attributes.kinds(domain, proto.op_type, scope.opset)
        inner = f"{scope.place}{'.' if scope.place else ''}{proto.name or f'{proto.op_type}_{position}'}"
        for name, number in Counter(a.name for a in proto.attribute).items():
            if number > 1:
                raise MalformedFileError(str(self.path), f"{place}: the attribute {name!r} is there twice")
        values = {
            a.name: self._attribute(a, place, replace(scope, place=f"{inner}.{a.name}"), kinds) for a in proto.attribute
        }
        try:
            return Node(
                name=proto.name or f"\0{position}",
                op_type=proto.op_type,
                inputs=tuple(self._visible(name, scope, place) for name in proto.input),
                outputs=tuple(scope.names.get(name, name) for name in proto.output),
                attributes=FrozenMapping(values),
                scope=next((entry.value for entry in proto.metadata_props if entry.key == onnx_keys.SCOPE), ""),
                domain=domain,
                overload=proto.overload,
            )
        except FaultyError as error:
            raise MalformedFileError(str(self.path), f"{place}: {error.faults[0].message}") from error

    def _attribute(self, proto: AttributeProto, place: str, scope: _Scope, kinds: Mapping[str, str]) -> AttributeValue:
        kind = _kind(proto)
        if sum(field.name in _VALUES for field, _ in proto.ListFields()) > 1:
            raise MalformedFileError(str(self.path), f"{place}: attribute {proto.name!r} has values of two types")
        if kind is None:
            message = f"{place}: attribute {proto.name!r} has no valid type ({proto.type})"
            raise MalformedFileError(str(self.path), message)
        if proto.ref_attr_name:
            return AttributeReference(proto.ref_attr_name, kind)
        value = getattr(proto, _FIELDS[kind])
        if not kind.endswith("S"):
            return self._single(value, kind, place, scope)  # type: ignore[no-any-return]  # one of its kinds
        if not value and proto.name not in kinds:
            return EmptyList(kind)
        if kind in ("INTS", "FLOATS"):
            return tuple(value)
        if kind == "STRINGS":
            return tuple(map(_text, value))
        return tuple(
            self._single(item, kind[:-1], place, replace(scope, place=f"{scope.place}.{number}"))
            for number, item in enumerate(value)
        )

    def _single(self, value: Any, kind: str, place: str, scope: _Scope) -> Any:
        if kind == "STRING":
            return _text(value)
        if kind == "GRAPH":
            return self._graph(value, scope.place, scope)
        if kind == "TYPE_PROTO":
            return _read_type(self.path, value, place)
        if kind == "SPARSE_TENSOR":
            name = self._unique(scope.place)
            self.initializers.add_sparse(value, name, "constant")
            return ParameterReference(name, sparse=True)
        if kind == "TENSOR":
            if onnx_tensors.size_of(value) <= MAX_ELEMENTS and onnx_tensors.can_be_constant(value):
                return onnx_tensors.to_constant(self.path, value)
            name = self._unique(scope.place)
            self.initializers.add_dense(value, name)
            return ParameterReference(name)
        return value


def _text(value: bytes) -> str | bytes:
    """A string, or bytes that are none in UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return bytes(value)


def _kind(proto: AttributeProto) -> str | None:
    """The type of an attribute; the first versions of the format did not say it beside the value."""
    if proto.type:
        names = {number: name for name, number in AttributeProto.AttributeType.items()}
        return names.get(proto.type)
    present = {field.name for field, _ in proto.ListFields()}
    return next((kind for kind, field in _FIELDS.items() if field in present), None)


def _is_stored(proto: NodeProto) -> bool:
    """Whether a node is a Constant whose value is a parameter."""
    if proto.op_type != "Constant" or domain_of(proto.domain) or len(proto.attribute) != 1 or len(proto.output) != 1:
        return False
    (attribute,) = proto.attribute
    if attribute.ref_attr_name:
        return False
    return attribute.name == "sparse_value" or (attribute.name == "value" and not onnx_tensors.is_constant(attribute.t))


def _results(nodes: Iterable[NodeProto]) -> Iterator[str]:
    """Names that nodes define where they stand."""
    return (name for node in nodes for name in node.output if name)


def _made(nodes: Iterable[NodeProto]) -> Iterator[str]:
    """Names that nodes define, those of graphs in their attributes included."""
    for node in nodes:
        yield from (name for name in node.output if name)
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _definitions(graph)


def _definitions(graph: GraphProto) -> Iterator[str]:
    declared = {tensor.name for tensor in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
    yield from declared
    yield from (value.name for value in graph.input if value.name not in declared)
    yield from _made(graph.node)


def opset_of(path: Path, imports: Iterable[Any]) -> dict[str, int]:
    """Operator set domain -> version.

    Raises:
        MalformedFileError: a domain has two versions.
    """
    versions: dict[str, int] = {}
    for entry in imports:
        if versions.setdefault(domain_of(entry.domain), entry.version) != entry.version:
            raise MalformedFileError(str(path), f"the operator set {entry.domain or 'ai.onnx'!r} has two versions")
    return versions


def read_values(path: Path, protos: Iterable[ValueInfoProto]) -> list[ValueInfo]:
    """Graph inputs or outputs.

    Raises:
        MalformedFileError: one has no name, or an invalid type.
        UnsupportedError: documents have no name for a type.
    """
    values = []
    for proto in protos:
        place = f"graph value {proto.name!r}"
        try:
            found = _read_type(path, proto.type, place)
            values.append(ValueInfo(proto.name, found.dtype, found.shape, containers=found.containers))
        except FaultyError as error:
            raise MalformedFileError(str(path), f"{place}: {error.faults[0].message}") from error
    return values


def _read_type(path: Path, proto: TypeProto, place: str) -> TypeInfo:
    containers = []
    kind = proto.WhichOneof("value")
    while kind in ("sequence_type", "optional_type", "map_type"):
        if kind == "map_type":
            containers.append(f"map:{onnx_tensors.dtype_name(path, place, proto.map_type.key_type)}")
            proto = proto.map_type.value_type
        else:
            containers.append(kind.removesuffix("_type"))
            proto = getattr(proto, kind).elem_type
        kind = proto.WhichOneof("value")
    if kind is None or (kind != "opaque_type" and not getattr(proto, kind).elem_type):
        return TypeInfo(None, None)
    if kind == "opaque_type":
        raise UnsupportedError(f"{path}: {place} has an opaque type, which documents have no name for")
    if kind == "sparse_tensor_type":
        containers.append("sparse_tensor")
    tensor = getattr(proto, kind)
    dims: list[int | str | None] = []
    for dim in tensor.shape.dim:
        known = dim.WhichOneof("value") == "dim_value" and dim.dim_value >= 0  # some exporters write -1 for unknown
        dims.append(dim.dim_value if known else dim.dim_param or None)
    dtype = onnx_tensors.dtype_name(path, place, tensor.elem_type)
    shape = tuple(dims) if tensor.HasField("shape") else None
    return TypeInfo(dtype, shape, containers=tuple(containers))


def _with_names(nodes: list[Node]) -> Iterator[Node]:
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
        yield node if name == node.name else replace(node, name=name)
