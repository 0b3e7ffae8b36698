"""Packed weights found in the graph of an ONNX model, and decoded to masks and kept values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

from deepstruct.converters import onnx_packed_layout as layouts
from deepstruct.converters import onnx_packed_operators as operators
from deepstruct.converters import onnx_tensors
from deepstruct.errors import FaultyError, MalformedFileError
from deepstruct.limits import Limits, variable
from deepstruct.mask import MAX_RANK, Mask
from deepstruct.structure import Parameter


@dataclass(frozen=True)
class Piece:
    """One operator that decodes a weight or a chunk of one: its kind, and its inputs as stored."""

    op_type: str
    inputs: Mapping[str, TensorProto]
    nodes: frozenset[int]


@dataclass(frozen=True)
class Weight:
    """A packed weight: its pieces, in order, and the axis along which they are joined."""

    name: str
    pieces: tuple[Piece, ...]
    axis: int = 0


@dataclass(frozen=True)
class Found:
    """The packed weights of a model.

    Attributes:
        weights: in the order of the graph.
        nodes: positions in the graph of all nodes that only serve to decode them.
        initializers: names of those that no other node takes.
        functions: names of the functions of domain ``deepstruct`` that nothing else calls.
    """

    weights: tuple[Weight, ...] = ()
    nodes: frozenset[int] = frozenset()
    initializers: frozenset[str] = frozenset()
    functions: frozenset[str] = frozenset()


@dataclass
class _Graph:
    """The nodes of a graph or function, who produces each value, and which values are constant."""

    nodes: Sequence[NodeProto]
    constants: Mapping[str, TensorProto]
    producers: dict[str, int] = field(init=False)
    uses: Counter[str] = field(init=False)
    gates: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.producers = {name: i for i, node in enumerate(self.nodes) for name in node.output}
        self.uses = Counter(name for node in self.nodes for name in _taken(node))

    def producer(self, name: str) -> NodeProto | None:
        return self.nodes[self.producers[name]] if name in self.producers else None


def recognise(model: ModelProto) -> Found:
    """The packed weights of a model; what is not exactly as `docs/packed.md` says is left alone.

    Found are calls of the functions and, where their last node is marked, the operators that they consist of, under
    whatever names.
    """
    functions = {f.name: f for f in model.functions if f.domain == operators.DOMAIN and not f.overload}
    numbers = Counter(f.name for f in model.functions if f.domain == operators.DOMAIN)
    own = {name for name, f in functions.items() if name in operators.OPERATIONS and numbers[name] == 1 and _is_own(f)}
    marked = any(_mark(node) for node in model.graph.node)
    if not own and not marked:
        return Found()
    inputs = {value.name for value in model.graph.input}
    outputs = {value.name for value in model.graph.output}
    graph = _Graph(model.graph.node, {t.name: t for t in model.graph.initializer if t.name not in inputs})
    pieces: dict[str, Piece] = {}
    for node in model.graph.node:
        piece = (
            _called(graph, node) if node.domain == operators.DOMAIN and node.op_type in own else _written(graph, node)
        )
        if piece is not None and not _seen_elsewhere(graph, piece.nodes, node.output[0], outputs):
            pieces[node.output[0]] = piece
    weights = _join(graph, pieces, outputs)
    used = {i for weight, nodes in weights for piece in weight.pieces for i in piece.nodes | nodes}
    used |= _gates(graph, used)
    left = Counter(name for i, node in enumerate(graph.nodes) if i not in used for name in _taken(node))
    taken = {name for i in used for name in _taken(graph.nodes[i])}
    calls = {node.op_type for i, node in enumerate(graph.nodes) if i not in used and node.domain == operators.DOMAIN}
    nested = {node.op_type for f in model.functions for node in f.node if node.domain == operators.DOMAIN}
    return Found(
        tuple(weight for weight, _ in weights),
        frozenset(used),
        frozenset(name for name in taken if name in graph.constants and not left[name] and name not in outputs),
        frozenset(own - calls - nested),
    )


def decode(path: Path, weight: Weight, limits: Limits) -> onnx_tensors.Sparse:
    """The parameter of a packed weight and its kept entries, in row-major order; zeros among them are kept.

    Raises:
        MalformedFileError: codes, values and shape do not fit together.
    """

    def wrong(reason: str) -> MalformedFileError:
        return MalformedFileError(str(path), f"packed tensor {weight.name!r}: {reason}")

    shapes = [_shape(onnx_tensors.to_array(path, piece.inputs["shape"])) for piece in weight.pieces]
    dims = [list(shape) if shape else None for shape in shapes]
    shape = _joined(shapes, weight.axis)
    if shape is None:
        raise wrong(f"shapes {dims} are none, or cannot be joined along axis {weight.axis}")
    if math.prod(shape) > limits.mask_elements:
        bound = f"more than {limits.mask_elements} elements; set {variable('mask_elements')} to allow it"
        raise wrong(f"shape {list(shape)} has {bound}")
    start, indices, kept = 0, [], []
    for piece, own in zip(weight.pieces, shapes, strict=True):
        values = onnx_tensors.to_array(path, piece.inputs["values"])
        stored = {name: onnx_tensors.to_array(path, piece.inputs[name]) for name in piece.inputs if name != "values"}
        size = math.prod(own or ())
        try:
            found = _indices(piece.op_type, stored, size)
        except FaultyError as error:
            raise wrong(error.faults[0].message) from error
        if values.shape != (found.size + 1,) or values[:1].view(np.uint8).any():
            raise wrong(f"values have shape {list(values.shape)}, not a zero and then {found.size} kept entries")
        indices.append(found + start)
        kept.append(values[1:])
        start += size
    if len({values.dtype for values in kept}) > 1:
        raise wrong("its parts have different dtypes")
    try:
        mask = Mask.from_indices(shape, np.concatenate(indices))
        dtype = onnx_tensors.dtype_name(path, weight.name, weight.pieces[0].inputs["values"].data_type)
        parameter = Parameter(weight.name, dtype, shape, mask)
    except FaultyError as error:
        raise wrong(error.faults[0].message) from error
    return onnx_tensors.Sparse(parameter, kept[0] if len(kept) == 1 else np.concatenate(kept))


def _shape(array: NDArray[Any]) -> tuple[int, ...] | None:
    if array.dtype != np.int64 or array.ndim != 1 or array.size > MAX_RANK or bool((array < 0).any()):
        return None
    return tuple(array.tolist())


def _joined(shapes: Sequence[tuple[int, ...] | None], axis: int) -> tuple[int, ...] | None:
    """The shape of the whole, if the parts follow each other in it; axes before that of the join have extent 1."""
    first = shapes[0]
    if len(shapes) == 1 or first is None:
        return first
    if not 0 <= axis < len(first) or math.prod(first[:axis]) != 1:
        return None
    extents = []
    for shape in shapes:
        if shape is None or (*shape[:axis], *shape[axis + 1 :]) != (*first[:axis], *first[axis + 1 :]):
            return None
        extents.append(shape[axis])
    return (*first[:axis], sum(extents), *first[axis + 1 :])


def _indices(op_type: str, stored: Mapping[str, NDArray[Any]], size: int) -> NDArray[np.int64]:
    """int64 ``[nnz]``: the flat indices that a piece keeps, ascending.

    Raises:
        StructureError: its inputs do not fit together.
    """
    layout = operators.OPERATIONS[op_type]
    if layout is None:
        return np.empty(0, dtype=np.int64)
    codes = stored["codes"]
    if op_type == operators.WHOLE:
        if codes.dtype != np.uint8 or codes.ndim != 1 or codes.size * 8 != size:
            raise layouts.wrong(f"codes are {codes.dtype} {list(codes.shape)}, not a bit for each of {size} entries")
        return np.flatnonzero(np.unpackbits(codes, bitorder="little") == 0).astype(np.int64, copy=False)
    length = stored.get("length")
    if length is None:
        number = codes.size // layout.width if codes.ndim == 1 else -1
    elif length.dtype != np.int64 or length.shape != (1,):
        raise layouts.wrong(f"the number of codes is {length.dtype} {list(length.shape)}, not int64 [1]")
    else:
        number = int(length[0])
    return layouts.decode(codes, layout, number, size)


def _called(graph: _Graph, node: NodeProto) -> Piece | None:
    """The piece that a call of one of our functions decodes."""
    names = operators.inputs_of(node.op_type)
    if len(node.input) != len(names) or len(node.output) != 1 or node.attribute or node.overload:
        return None
    return _piece(graph, node.op_type, dict(zip(names, node.input, strict=True)), {graph.producers[node.output[0]]})


def _written(graph: _Graph, node: NodeProto) -> Piece | None:
    """The piece whose last operator is a marked node."""
    op_type = _mark(node)
    if op_type not in operators.OPERATIONS or len(node.output) != 1:
        return None
    expected, constants = operators.expand(op_type, str, function=False)
    matched = _match(graph, expected, "dense", node.output[0])
    if matched is None:
        return None
    names, nodes = matched
    if not all(_equals(graph.constants.get(names[name]), array) for name, array in constants.items()):
        return None
    return _piece(graph, op_type, {name: names[name] for name in operators.inputs_of(op_type)}, nodes)


def _piece(graph: _Graph, op_type: str, names: dict[str, str], nodes: set[int]) -> Piece | None:
    """The piece with inputs of the given names, if they are initializers, codes perhaps behind a gate."""
    delay = graph.producer(names.get("codes", ""))
    if delay is not None and delay.op_type == "Where" and _mark(delay) == "stage" and len(delay.input) == 3:
        gate, codes, other = delay.input
        if codes != other or not _is_gate(graph, gate):
            return None
        nodes = nodes | {graph.producers[names["codes"]]}
        names = {**names, "codes": codes}
    if any(name not in graph.constants for name in names.values()):
        return None
    return Piece(op_type, {part: graph.constants[name] for part, name in names.items()}, frozenset(nodes))


def _is_gate(graph: _Graph, name: str) -> bool:
    """Whether a value is a bool ``[1]`` that is true, by itself or from one by the nodes that begin a stage."""
    way: dict[str, None] = {}
    while name not in graph.constants and name not in graph.gates:
        node = graph.producer(name)
        way[name] = None
        if node is None or node.op_type != "If" or _mark(node) != "stage" or len(node.input) != 1:
            break
        if node.input[0] in way or len(node.output) != 1 or len(node.attribute) != 2:
            break
        if not all(_keeps(attribute, node.input[0]) for attribute in node.attribute):
            break
        name = node.input[0]
    if name in graph.constants:
        graph.gates[name] = _equals(graph.constants[name], np.array([True]))
    found = graph.gates.get(name, False)
    graph.gates.update(dict.fromkeys(way, found))
    return found


def _keeps(branch: AttributeProto, name: str) -> bool:
    if len(branch.g.node) != 1 or branch.g.initializer or len(branch.g.output) != 1:
        return False
    (node,) = branch.g.node
    ends = list(node.output) == [branch.g.output[0].name]
    return node.op_type == "Compress" and list(node.input) == [name, name] and not node.attribute and ends


def _gates(graph: _Graph, used: set[int]) -> set[int]:
    """The gates that serve only nodes that are used up."""
    users: dict[str, list[int]] = {}
    for i, node in enumerate(graph.nodes):
        for name in _taken(node):
            users.setdefault(name, []).append(i)
    found: set[int] = set()
    for i in reversed(range(len(graph.nodes))):
        node = graph.nodes[i]
        if node.op_type != "If" or _mark(node) != "stage" or len(node.output) != 1:
            continue
        if _is_gate(graph, node.output[0]) and all(j in used or j in found for j in users.get(node.output[0], ())):
            found.add(i)
    return found


def _join(graph: _Graph, pieces: Mapping[str, Piece], outputs: set[str]) -> list[tuple[Weight, frozenset[int]]]:
    """The weights, joined from their chunks where a marked Concat says so, and the nodes that join them."""
    weights: dict[str, tuple[Weight, frozenset[int]]] = {
        name: (Weight(name, (piece,)), frozenset()) for name, piece in pieces.items()
    }
    for i, node in enumerate(graph.nodes):
        axis = [attribute.i for attribute in node.attribute if attribute.name == "axis"]
        if node.op_type != "Concat" or _mark(node) != "join" or not node.input or len(node.output) != 1 or not axis:
            continue
        if all(name in pieces and graph.uses[name] == 1 and name not in outputs for name in node.input):
            for name in node.input:
                del weights[name]
            joined = Weight(node.output[0], tuple(pieces[name] for name in node.input), axis[0])
            weights[node.output[0]] = joined, frozenset({i})
    return list(weights.values())


def _seen_elsewhere(graph: _Graph, nodes: Iterable[int], result: str, outputs: set[str]) -> bool:
    """Whether anything but these nodes takes what is between them."""
    nodes = set(nodes)
    inside = Counter(name for i in nodes for name in _taken(graph.nodes[i]))
    between = {name for i in nodes for name in graph.nodes[i].output} - {result}
    return any(name in outputs or graph.uses[name] != inside[name] for name in between)


def _is_own(function: FunctionProto) -> bool:
    """Whether a function consists of exactly the operators that its name stands for, under whatever names."""
    values = {
        node.output[0]: node.attribute[0].t
        for node in function.node
        if node.op_type == "Constant"
        and node.domain in _ONNX
        and len(node.attribute) == len(node.output) == 1
        and (node.attribute[0].name, node.attribute[0].type) == ("value", AttributeProto.TENSOR)
        and not node.attribute[0].ref_attr_name
    }
    graph = _Graph(function.node, values)
    expected, constants = operators.expand(function.name, str, function=True)
    inputs = operators.inputs_of(function.name)
    if len(function.output) != 1 or len(function.input) != len(inputs) or function.attribute:
        return False
    if not any(entry.domain in _ONNX and entry.version >= _FIRST_OPSET for entry in function.opset_import):
        return False
    if not graph.producers.keys().isdisjoint(function.input):
        return False
    matched = _match(graph, expected, "dense", function.output[0])
    if matched is None or any(matched[0][name] != own for name, own in zip(inputs, function.input, strict=True)):
        return False
    return all(_equals(graph.constants.get(matched[0][name]), array) for name, array in constants.items())


def _match(
    graph: _Graph, expected: Sequence[NodeProto], result: str, actual: str
) -> tuple[dict[str, str], set[int]] | None:
    """Names in the graph for those of the expected nodes, and positions of its nodes, if `actual` is their result."""
    names, nodes = {result: actual}, set()
    for node in reversed(expected):
        found = graph.producer(names[node.output[0]])
        if found is None or found.op_type != node.op_type or found.domain not in ("", "ai.onnx"):
            return None
        if len(found.input) != len(node.input) or len(found.output) != 1 or _attributes(found) != _attributes(node):
            return None
        if any(names.setdefault(mine, other) != other for mine, other in zip(node.input, found.input, strict=True)):
            return None
        nodes.add(graph.producers[found.output[0]])
    return names, nodes


def _attributes(node: NodeProto) -> dict[str, tuple[int, int]]:
    """Attributes by name; those of our operators are integers, and any other kind equals none of them."""
    return {
        a.name: (a.type, a.i if a.type == AttributeProto.INT and not a.ref_attr_name else -1) for a in node.attribute
    }


def _equals(proto: TensorProto | None, array: NDArray[Any]) -> bool:
    if proto is None or proto.data_location == TensorProto.EXTERNAL or tuple(proto.dims) != array.shape:
        return False
    if proto.data_type != onnx.helper.np_dtype_to_tensor_dtype(array.dtype):
        return False
    try:
        return bool(np.array_equal(onnx.numpy_helper.to_array(proto), array))
    except (ValueError, TypeError):
        return False


def _mark(node: NodeProto) -> str:
    if node.domain not in _ONNX:
        return ""
    return next((entry.value for entry in node.metadata_props if entry.key == operators.MARK), "")


def _taken(node: NodeProto) -> set[str]:
    """What a node takes, by itself or in its subgraphs."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs) if attribute.type in _GRAPHS else ():
            names |= _taken_within(graph)
    return names


def _taken_within(graph: GraphProto) -> set[str]:
    return {name for node in graph.node for name in _taken(node)} | {value.name for value in graph.output}


_ONNX = ("", "ai.onnx")
_FIRST_OPSET = min(operators.MINIMUM_OPSET.values())
_GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
