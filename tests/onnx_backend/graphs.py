"""What of one ONNX model is missing from another, or is different there: a list of sentences, empty for none."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TypeProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from onnx_backend.values import same

_PLAIN_CONSTANTS = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_string": object,
    "value_strings": object,
}


def differences(result: ModelProto, original: ModelProto) -> list[str]:
    """What is other than in the original.

    Constants may be initializers, of the main graph too where a branch or body has them, and shapes may be known.
    Branches and bodies may call their values otherwise. Numbers that nothing reads may lie elsewhere.
    """
    found = list(_main(result.graph, original.graph))
    if _opsets(result) != _opsets(original):
        found.append(f"the operator sets are {_opsets(result)} instead of {_opsets(original)}")
    ours, theirs = _functions(result), _functions(original)
    if list(ours) != list(theirs):
        found.append(f"the functions are {list(ours)} instead of {list(theirs)}")
    for key in ours.keys() & theirs.keys():
        found += _function(f"function {key[1]}: ", ours[key], theirs[key])
    return found


@dataclass(frozen=True)
class _Scope:
    """What is known where a node stands.

    Attributes:
        ours: numbers by name.
        theirs: numbers by name.
        names: what we call a value that is no numbers, by the name that they give it.
    """

    ours: ChainMap[str, NDArray[Any]] = field(default_factory=ChainMap)
    theirs: ChainMap[str, NDArray[Any]] = field(default_factory=ChainMap)
    names: ChainMap[str, str] = field(default_factory=ChainMap)

    def inner(self, ours: dict[str, NDArray[Any]], theirs: dict[str, NDArray[Any]]) -> _Scope:
        return _Scope(self.ours.new_child(ours), self.theirs.new_child(theirs), self.names.new_child())

    def agrees(self, ours: str, theirs: str) -> bool:
        """Whether two names mean the same."""
        if theirs in self.theirs:
            return ours in self.ours and same(self.ours[ours], self.theirs[theirs])
        return ours == (self.names.get(theirs) if theirs else "")


def _opsets(model: ModelProto) -> dict[str, int]:
    return {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in model.opset_import}


def _functions(model: ModelProto) -> dict[tuple[str, str, str], FunctionProto]:
    return {(function.domain, function.name, function.overload): function for function in model.functions}


def _function(place: str, ours: FunctionProto, theirs: FunctionProto) -> Iterator[str]:
    for what in ("input", "output", "attribute"):
        if list(getattr(ours, what)) != list(getattr(theirs, what)):
            yield f"{place}{what}: {list(getattr(ours, what))} instead of {list(getattr(theirs, what))}"
    scope = _Scope().inner(_constants(ours.node), _constants(theirs.node))
    scope.names.update(zip(theirs.input, theirs.input, strict=True))
    yield from _nodes(place, ours.node, theirs.node, scope)


def _main(ours: GraphProto, theirs: GraphProto) -> Iterator[str]:
    scope = _Scope().inner(tensors(ours), tensors(theirs))
    found = [[value for value in graph.input if value.name not in scope.theirs] for graph in (ours, theirs)]
    yield from _values("inputs", *found)
    yield from _values("outputs", ours.output, theirs.output)
    scope.names.update((value.name, value.name) for value in theirs.input)
    yield from _nodes("", ours.node, theirs.node, scope)


def _values(place: str, ours: Iterable[ValueInfoProto], theirs: Iterable[ValueInfoProto]) -> Iterator[str]:
    names = [value.name for value in ours], [value.name for value in theirs]
    if names[0] != names[1]:
        yield f"{place}: {names[0]} instead of {names[1]}"
        return
    for a, b in zip(ours, theirs, strict=True):
        if not _fits(a.type, b.type):
            yield f"{place}: {a.name!r} is {helper.printable_type(a.type)}, not {helper.printable_type(b.type)}"


def _inner(place: str, ours: GraphProto, theirs: GraphProto, outer: _Scope) -> Iterator[str]:
    """The differences of a branch or body."""
    scope = outer.inner(tensors(ours), tensors(theirs))
    if len(ours.input) != len(theirs.input) or len(ours.output) != len(theirs.output):
        yield f"{place}another number of inputs or outputs"
        return
    scope.names.update({b.name: a.name for a, b in zip(ours.input, theirs.input, strict=True)})
    nodes = _without_copies(ours, scope.ours), _without_copies(theirs, scope.theirs)
    yield from _nodes(place, *nodes, scope)
    for what in ("input", "output"):
        for a, b in zip(getattr(ours, what), getattr(theirs, what), strict=True):
            if not _fits(a.type, b.type):
                yield f"{place}{what} {a.name!r}: {helper.printable_type(a.type)}, not {helper.printable_type(b.type)}"
    for a, b in zip(ours.output, theirs.output, strict=True):
        if not scope.agrees(a.name, b.name):
            yield f"{place}output: {a.name!r} instead of {b.name!r}"


def _without_copies(graph: GraphProto, known: MutableMapping[str, NDArray[Any]]) -> list[NodeProto]:
    """The nodes but those that only make an output of numbers from further out, which are known under its name then."""
    outputs = {value.name for value in graph.output}
    nodes = []
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in known and node.output[0] in outputs:
            known[node.output[0]] = known[node.input[0]]
        else:
            nodes.append(node)
    return nodes


def _fits(ours: TypeProto, theirs: TypeProto) -> bool:
    kind = theirs.WhichOneof("value")
    if kind is None:
        return True
    if ours.WhichOneof("value") != kind:
        return False
    if kind in ("sequence_type", "optional_type"):
        return _fits(getattr(ours, kind).elem_type, getattr(theirs, kind).elem_type)
    if kind == "map_type":
        a, b = ours.map_type, theirs.map_type
        return a.key_type == b.key_type and _fits(a.value_type, b.value_type)
    a, b = getattr(ours, kind), getattr(theirs, kind)
    if a.elem_type != b.elem_type:
        return False
    if not b.HasField("shape"):
        return True
    dims = [[_dim(dim) for dim in shape.dim] for shape in (a.shape, b.shape)]
    return len(dims[0]) == len(dims[1]) and all(y in (None, x) for x, y in zip(*dims, strict=True))


def _dim(dim: Any) -> int | str | None:
    return dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None


def _nodes(place: str, ours: Iterable[NodeProto], theirs: Iterable[NodeProto], scope: _Scope) -> Iterator[str]:
    found = [node for node in ours if not _is_constant(node)]
    expected = [node for node in theirs if not _is_constant(node)]
    kinds = [[(node.domain.removeprefix("ai.onnx"), node.op_type) for node in nodes] for nodes in (found, expected)]
    if kinds[0] != kinds[1]:
        yield f"{place}the operators are {[kind for _, kind in kinds[0]]} instead of {[kind for _, kind in kinds[1]]}"
        return
    for position, (a, b) in enumerate(zip(found, expected, strict=True)):
        where = f"{place}{b.op_type}[{position}]: "
        if len(a.input) != len(b.input) or len(a.output) != len(b.output):
            yield f"{where}another number of inputs or outputs"
            return
        for one, other in zip(a.input, b.input, strict=True):
            if not scope.agrees(one, other):
                yield f"{where}input: {one!r} instead of {other!r}"
        yield from _attributes(where, a, b, scope)
        if not place and list(a.output) != list(b.output):
            yield f"{where}outputs: {list(a.output)} instead of {list(b.output)}"
        scope.names.update(zip(b.output, a.output, strict=True))


def _attributes(place: str, ours: NodeProto, theirs: NodeProto, scope: _Scope) -> Iterator[str]:
    found, expected = ({attribute.name: attribute for attribute in node.attribute} for node in (ours, theirs))
    if found.keys() != expected.keys():
        yield f"{place}attributes: {sorted(found)} instead of {sorted(expected)}"
        return
    for name, b in expected.items():
        a, where = found[name], f"{place}{name}: "
        if a.type != b.type or a.ref_attr_name != b.ref_attr_name or len(a.graphs) != len(b.graphs):
            yield f"{where}another type"
        elif b.type == AttributeProto.GRAPH:
            yield from _inner(where, a.g, b.g, scope)
        elif b.type == AttributeProto.GRAPHS:
            for one, other in zip(a.graphs, b.graphs, strict=True):
                yield from _inner(where, one, other, scope)
        elif not _same_attribute(a, b):
            yield f"{where}another value"


def _same_attribute(ours: AttributeProto, theirs: AttributeProto) -> bool:
    if theirs.ref_attr_name:
        return True
    if theirs.type == AttributeProto.TENSOR:
        return same(numpy_helper.to_array(ours.t), numpy_helper.to_array(theirs.t))
    a, b = helper.get_attribute_value(ours), helper.get_attribute_value(theirs)
    if theirs.type in (AttributeProto.FLOAT, AttributeProto.FLOATS):
        return same(np.asarray(a, np.float32), np.asarray(b, np.float32))
    return bool(list(a) == list(b) if isinstance(b, (list, tuple)) or hasattr(b, "append") else a == b)


def _is_constant(node: NodeProto) -> bool:
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or len(node.attribute) != 1:
        return False
    return not node.attribute[0].ref_attr_name


def tensors(graph: GraphProto) -> dict[str, NDArray[Any]]:
    """The numbers of a graph by name: initializers, dense or sparse, and constants."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found.update({sparse.values.name: dense(sparse) for sparse in graph.sparse_initializer})
    return found | _constants(graph.node)


def _constants(nodes: Iterable[NodeProto]) -> dict[str, NDArray[Any]]:
    found = {}
    for node in filter(_is_constant, nodes):
        (attribute,) = node.attribute
        if attribute.name == "value":
            found[node.output[0]] = numpy_helper.to_array(attribute.t)
        elif attribute.name == "sparse_value":
            found[node.output[0]] = dense(attribute.sparse_tensor)
        else:
            value = helper.get_attribute_value(attribute)
            found[node.output[0]] = np.asarray(value, _PLAIN_CONSTANTS[attribute.name])
    return found


def dense(sparse: SparseTensorProto) -> NDArray[Any]:
    """A sparse tensor with its zeros."""
    kept, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    array = np.zeros(tuple(sparse.dims), kept.dtype)
    if indices.ndim == 2:
        array[tuple(indices.T)] = kept
    else:
        array.reshape(-1)[indices] = kept
    return array
