"""Shapes and small integers of two structures that are fixed once the extents of their inputs are.

What is fixed on one side is so on both: the comparison is for these extents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import google.protobuf.message
import onnx
from onnx import GraphProto, ModelProto

from deepstruct.errors import DeepstructError
from deepstruct.frozen import FrozenMapping
from deepstruct.node import Node
from deepstruct.structure import Dimension, Structure, ValueInfo
from deepstruct.tensor import MAX_ELEMENTS, Tensor

Shape = tuple[Dimension, ...]

_ROUNDS = 8
_REFUSALS = (
    onnx.shape_inference.InferenceError,
    google.protobuf.message.DecodeError,
    google.protobuf.message.EncodeError,
    DeepstructError,
    RuntimeError,
    ValueError,
)
_FOLDED = frozenset(
    {
        *("Abs", "Add", "And", "Cast", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Flatten", "Gather"),
        *("Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not"),
        *("Or", "Range", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "ScatterND", "Slice"),
        *("Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where"),
    }
)
"""Operators that are computed on integers, in which all runtimes agree."""


@dataclass(frozen=True)
class Statics:
    """What is known of the values of a structure.

    Attributes:
        shapes: value -> extents, for those whose rank is known; names and None stand for open ones.
        tensors: value -> its elements, for few integers.
    """

    shapes: Mapping[str, Shape] = field(default_factory=FrozenMapping)
    tensors: Mapping[str, Tensor] = field(default_factory=FrozenMapping)


def specialised(a: Structure, b: Structure) -> tuple[tuple[Structure, Statics], tuple[Structure, Statics]]:
    """Two structures for the input extents that either of them fixes, and what follows from these.

    Each Shape and Size of a value with fixed extents becomes a Constant. Extents of one name are one extent.

    Args:
        a: a structure.
        b: another one, whose inputs correspond by position.
    """
    return tuple(_of_one(structure, shapes) for structure, shapes in zip((a, b), _merged(a, b), strict=True))  # type: ignore[return-value]  # two


def extents(shape: Shape | None) -> tuple[int, ...] | None:
    """A shape of which all extents are fixed, else None."""
    if shape is None or not all(isinstance(extent, int) for extent in shape):
        return None
    return shape  # type: ignore[return-value]  # ints


def _merged(a: Structure, b: Structure) -> tuple[list[Shape | None], list[Shape | None]]:
    """The shapes of the inputs of both, with the extents that either fixes."""
    shapes = [value.shape for value in a.inputs], [value.shape for value in b.inputs]
    named: tuple[dict[str, int], dict[str, int]] = ({}, {})
    for _ in range(2 * len(a.inputs) + 2):
        before = len(named[0]), len(named[1])
        for number, (first, second) in enumerate(zip(*shapes, strict=False)):
            x, y = _or_open(first, second), _or_open(second, first)
            if x is not None and y is not None and len(x) == len(y):
                shapes[0][number], shapes[1][number] = _together(x, named[0], y), _together(y, named[1], x)
        if (len(named[0]), len(named[1])) == before:
            break
    fixed = [
        [shape and tuple(_fixed(n, known) for n in shape) for shape in side]
        for side, known in zip(shapes, named, strict=True)
    ]
    return fixed[0], fixed[1]


def _or_open(shape: Shape | None, other: Shape | None) -> Shape | None:
    """A shape, or if its rank is unknown, one of the other's rank."""
    return (None,) * len(other) if shape is None and other is not None else shape


def _together(own: Shape, named: dict[str, int], other: Shape) -> Shape:
    """A shape with the extents that the other one fixes, which are noted for the names of open ones."""
    found: list[Dimension] = []
    for mine, theirs in zip(own, other, strict=True):
        if isinstance(mine, str) and isinstance(theirs, int):
            named.setdefault(mine, theirs)
        mine = _fixed(mine, named)
        found.append(theirs if isinstance(theirs, int) and not isinstance(mine, int) else mine)
    return tuple(found)


def _fixed(extent: Dimension, named: Mapping[str, int]) -> Dimension:
    return named.get(extent, extent) if isinstance(extent, str) else extent


def _of_one(structure: Structure, inputs: Sequence[Shape | None]) -> tuple[Structure, Statics]:
    known = {p.name: p.shape for p in structure.parameters}
    known |= {name: tensor.shape for name, tensor in structure.constants.items()}
    given = [replace(value, shape=shape) for value, shape in zip(structure.inputs, inputs, strict=True)]
    tensors = {name: tensor for name, tensor in structure.constants.items() if _is_integer(tensor)}
    folded: dict[str, Tensor] = {}
    shapes: dict[str, Shape] = dict(known)
    shapes |= {value.name: value.shape for value in given if value.shape is not None and not value.containers}
    if structure.functions or "" not in structure.opset:
        return structure, Statics(FrozenMapping(shapes), FrozenMapping(tensors))
    try:
        twin = _Twin(structure, given)
        for _ in range(_ROUNDS):
            shapes |= twin.inferred()
            found = _fold(structure, shapes, tensors, folded)
            if not found or all(extents(shapes.get(n)) is not None for node in structure.nodes for n in node.outputs):
                break
            twin.put(folded)
    except _REFUSALS:
        pass
    nodes = tuple(_constant(node, folded) if node.op_type in ("Shape", "Size") else node for node in structure.nodes)
    if nodes != structure.nodes:
        structure = replace(structure, nodes=nodes)
    return structure, Statics(FrozenMapping(shapes), FrozenMapping(tensors))


def _constant(node: Node, folded: Mapping[str, Tensor]) -> Node:
    """The node, or one that gives what it gives whatever the inputs are."""
    if node.domain or len(node.outputs) != 1 or node.outputs[0] not in folded:
        return node
    return replace(
        node, op_type="Constant", inputs=(), attributes=FrozenMapping({"value": folded[node.outputs[0]]}), overload=""
    )


class _Twin:
    """The structure as an ONNX model whose parameters are inputs; what its outputs are said to be does not count."""

    def __init__(self, structure: Structure, inputs: Sequence[ValueInfo]) -> None:
        from deepstruct.converters import onnx_graphs

        parameters = [ValueInfo(p.name, p.dtype, p.shape) for p in structure.parameters]
        graph: GraphProto = onnx_graphs.graph_proto(structure, _refuse)
        del graph.input[:], graph.output[:]
        graph.input.extend(map(onnx_graphs.value_proto, (*inputs, *parameters)))
        graph.output.extend(onnx_graphs.value_proto(ValueInfo(v.name, None, None)) for v in structure.outputs)
        opset = onnx_graphs.opset_ids(structure.opset)
        for proto in graph.node:
            if proto.op_type == "Split" and not proto.domain and _is_miscounted(proto):
                proto.domain = "deepstruct.unknown"
        self._model = ModelProto(ir_version=10, opset_import=opset, graph=graph)
        self._nodes = structure.nodes

    def inferred(self) -> dict[str, Shape]:
        """Value -> extents, for those whose rank is known."""
        graph = onnx.shape_inference.infer_shapes(self._model).graph
        found: dict[str, Shape] = {}
        for value in (*graph.value_info, *graph.output):
            if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
                found[value.name] = tuple(map(_extent, value.type.tensor_type.shape.dim))
        return found

    def put(self, folded: Mapping[str, Tensor]) -> None:
        """Puts values in place of what computes them."""
        from deepstruct.converters import onnx_tensors

        for node, proto in zip(self._nodes, self._model.graph.node, strict=True):
            if proto.op_type != "Constant" and len(node.outputs) == 1 and node.outputs[0] in folded:
                tensor = onnx_tensors.from_constant(folded[node.outputs[0]])
                proto.CopyFrom(onnx.helper.make_node("Constant", [], node.outputs, value=tensor))


def _is_miscounted(proto: onnx.NodeProto) -> bool:
    """Whether a Split has another number of outputs than it says, at which shape inference ends the process."""
    return any(a.name == "num_outputs" and a.i != len(proto.output) for a in proto.attribute)


def _refuse(name: str, _sparse: bool | None) -> onnx.TensorProto:
    raise ValueError(f"the tensor {name!r} stands within an attribute")


def _extent(dim: onnx.TensorShapeProto.Dimension) -> Dimension:
    if dim.HasField("dim_value"):
        return dim.dim_value if dim.dim_value >= 0 else None
    return dim.dim_param or None


def _is_integer(tensor: Tensor) -> bool:
    return tensor.dtype in ("bool", "int32", "int64")


def _fold(
    structure: Structure, shapes: Mapping[str, Shape], tensors: dict[str, Tensor], folded: dict[str, Tensor]
) -> bool:
    """Adds what is fixed by now to known `tensors`, and to those that are `folded`; whether there was any."""
    before = len(folded)
    for node in structure.nodes:
        if node.domain or node.graphs or len(node.outputs) != 1 or node.outputs[0] in tensors:
            continue
        name = node.outputs[0]
        found = _given(node)
        if found is not None:
            tensors[name] = found
            continue
        if node.op_type in ("Shape", "Size"):
            found = _size(node, shapes.get(node.inputs[0]))
        elif node.op_type in _FOLDED and node.inputs and all(n in tensors for n in node.inputs if n):
            found = _computed(structure, node, extents(shapes.get(name)), tensors)
        if found is not None:
            tensors[name] = folded[name] = found
    return len(folded) > before


def _given(node: Node) -> Tensor | None:
    """The integers of a Constant."""
    if node.op_type != "Constant":
        return None
    value = node.attributes.get("value")
    if isinstance(value, Tensor):
        return value if _is_integer(value) else None
    one, several = node.attributes.get("value_int"), node.attributes.get("value_ints")
    if isinstance(one, int):
        return Tensor("int64", (), (one,))
    if isinstance(several, tuple) and 0 < len(several) <= MAX_ELEMENTS:
        return Tensor("int64", (len(several),), several)  # type: ignore[arg-type]  # ints
    return None


def _size(node: Node, shape: Shape | None) -> Tensor | None:
    """What a Shape or a Size gives, if it is fixed."""
    if shape is None:
        return None
    start, end = node.attributes.get("start"), node.attributes.get("end")
    whole = slice(start if isinstance(start, int) else None, end if isinstance(end, int) else None)
    part = extents(shape[whole] if node.op_type == "Shape" else shape)
    if part is None:
        return None
    if node.op_type == "Size":
        size = math.prod(part)
        return Tensor("int64", (), (size,)) if size < 2**63 else None
    return Tensor("int64", (len(part),), part)


def _computed(
    structure: Structure, node: Node, shape: tuple[int, ...] | None, tensors: Mapping[str, Tensor]
) -> Tensor | None:
    """What a node gives, if that are few integers."""
    from deepstruct.verification.runtimes import Fragment, NotRunnableError, Reference

    if shape is None or math.prod(shape) > MAX_ELEMENTS:
        return None
    values = {name: tensors[name].to_array() for name in node.inputs if name}
    if node.op_type in ("Div", "Mod"):
        dividend, divisor = (values[name] for name in node.inputs)
        if (dividend < 0).any() or (divisor <= 0).any():
            return None
    try:
        (result,) = Reference().program(Fragment((node,), node.outputs, structure.opset)).run(values)
        tensor = Tensor.from_array(result)  # type: ignore[arg-type]  # checked by what follows
    except (NotRunnableError, DeepstructError, TypeError, ValueError):
        return None
    return tensor if tensor.shape == shape and _is_integer(tensor) else None
