"""Shape and dtype checks of feed-forward operators, for where the onnx package and its inference are not installed.

Only operators whose rule is a line or two are covered; what is behind any other operator is unknown here, never
guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from deepstruct.errors import Fault, pointer

if TYPE_CHECKING:
    from deepstruct.checks import Draft
    from deepstruct.structure import Dimension, Node

    Shape = tuple[Dimension, ...] | None
    Rule = Callable[[Node, list[Shape]], Shape]

_SAME_AS_FIRST = [
    "Abs",
    "Celu",
    "Clip",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LayerNormalization",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "Mish",
    "Neg",
    "Relu",
    "Selu",
    "Sigmoid",
    "Sign",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tanh",
    "ThresholdedRelu",
]
_MOST_EXTENTS = 64  # of a shape; one that has more counts as unknown
_LARGEST_EXTENT = 2**53 - 1
_FIRST_OPSET = 8  # until then, operators broadcast by an attribute
_SEVERAL_DTYPES = ("Dropout", "Pow")
_BROADCASTING = ["Add", "Div", "Max", "Mean", "Min", "Mod", "Mul", "Pow", "PRelu", "Sub", "Sum"]


class _MismatchError(Exception):
    """The shapes of a node's inputs do not fit together."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number
        self.message = message


def faults(draft: Draft) -> Iterable[Fault]:
    """Every place where shapes or dtypes contradict each other, with the document's pointers."""
    version = draft.opset.get("", _FIRST_OPSET)
    if type(version) is not int or version < _FIRST_OPSET:
        return
    tensors = [value for value in draft.inputs if value is not None and not value.containers]
    known: dict[str, Shape] = {value.name: value.shape for value in tensors if len(value.shape or ()) <= _MOST_EXTENTS}
    known |= {parameter.name: parameter.shape for parameter in draft.parameters}
    known |= {name: constant.shape for name, constant in draft.constants.items()}
    types = {value.name: value.dtype for value in tensors if value.dtype is not None}
    types |= {parameter.name: parameter.dtype for parameter in draft.parameters}
    types |= {name: constant.dtype for name, constant in draft.constants.items()}
    functions = {function.key for function in draft.functions if function is not None}
    for position, node in enumerate(draft.nodes):
        if node is None or node.domain or node.called in functions or node.op_type not in _RULES:
            continue
        rule = _RULES[node.op_type]
        try:
            known[node.outputs[0]] = rule(node, [known.get(name) for name in node.inputs])
        except _MismatchError as error:
            place = pointer("graph", "nodes", position, "inputs", error.number)
            yield Fault("SHAPE_MISMATCH", place, f"{node.op_type} {node.name!r}: {error.message}")
        first = types.get(node.inputs[0])
        for number, name in enumerate(node.inputs):
            other = types.get(name, first)
            if first and other != first and node.op_type not in _SEVERAL_DTYPES:
                place = pointer("graph", "nodes", position, "inputs", number)
                message = f"{node.op_type} {node.name!r} takes one dtype, but gets {first} and {other}"
                yield Fault("DTYPE_MISMATCH", place, message)
        if first:
            types[node.outputs[0]] = first
    for position, value in enumerate(draft.outputs):
        if value is None or value.containers or value.dtype is None:
            continue
        if types.get(value.name, value.dtype) != value.dtype:
            message = f"the nodes give {types[value.name]}, declared is {value.dtype}"
            yield Fault("DTYPE_MISMATCH", pointer("graph", "outputs", position, "dtype"), message)
        inferred = known.get(value.name)
        if inferred is None or value.shape is None:
            continue
        pairs = zip(inferred, value.shape, strict=False)
        if len(inferred) != len(value.shape) or any(_differ(a, b) for a, b in pairs):
            place = pointer("graph", "outputs", position, "shape")
            message = f"the nodes give {_text(inferred)}, declared is {_text(value.shape)}"
            yield Fault("SHAPE_MISMATCH", place, message)


def _text(shape: Shape) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape or ()) + "]"


def _differ(a: Dimension, b: Dimension) -> bool:
    return isinstance(a, int) and isinstance(b, int) and a != b


def _first(_node: Node, inputs: list[Shape]) -> Shape:
    return inputs[0]


def _broadcast(_node: Node, inputs: list[Shape]) -> Shape:
    result: tuple[Dimension, ...] = ()
    for number, shape in enumerate(inputs):
        if shape is None:
            return None
        result = _broadcast_two(result, shape, number)
    return result


def _broadcast_two(a: tuple[Dimension, ...], b: tuple[Dimension, ...], number: int) -> tuple[Dimension, ...]:
    rank = max(len(a), len(b))
    left, right = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    result: list[Dimension] = []
    for x, y in zip(left, right, strict=True):
        if _differ(x, y) and 1 not in (x, y):
            raise _MismatchError(number, f"{_text(b)} does not broadcast with {_text(a)}")
        if x == 1 or x == y:
            result.append(y)
        elif y == 1:
            result.append(x)
        else:
            result.append(next((dim for dim in (x, y) if isinstance(dim, int)), None))
    return tuple(result)


def _gemm(node: Node, inputs: list[Shape]) -> Shape:
    a, b = inputs[0], inputs[1]
    for number, shape in enumerate((a, b)):
        if shape is not None and len(shape) != 2:
            raise _MismatchError(number, f"needs a matrix, not {_text(shape)}")
    rows, inner = (None, None) if a is None else a[::-1] if node.attributes.get("transA") else a
    inner_b, columns = (None, None) if b is None else b[::-1] if node.attributes.get("transB") else b
    if _differ(inner, inner_b):
        raise _MismatchError(1, f"multiplies {inner} columns with {inner_b} rows")
    if len(inputs) > 2 and inputs[2] is not None:
        result = _broadcast_two((rows, columns), inputs[2], 2)
        grown = len(result) > 2 or any(_differ(x, y) for x, y in zip(result, (rows, columns), strict=True))
        if grown:
            raise _MismatchError(2, f"the bias {_text(inputs[2])} does not broadcast to {_text((rows, columns))}")
    return rows, columns


def _matmul(_node: Node, inputs: list[Shape]) -> Shape:
    a, b = inputs[0], inputs[1]
    if a is None or b is None:
        return None
    for number, shape in enumerate((a, b)):
        if not shape:
            raise _MismatchError(number, "needs at least one dimension")
    inner_b = b[-2] if len(b) > 1 else b[0]
    if _differ(a[-1], inner_b):
        raise _MismatchError(1, f"multiplies {a[-1]} columns with {inner_b} rows")
    batch = _broadcast_two(a[:-2], b[:-2], 1)
    return batch + (a[-2:-1] if len(a) > 1 else ()) + (b[-1:] if len(b) > 1 else ())


def _axis(node: Node, shape: tuple[Dimension, ...], default: int, most: int) -> int:
    axis = node.attributes.get("axis", default)
    if not isinstance(axis, int) or not -len(shape) <= axis <= most:
        raise _MismatchError(0, f"axis {axis!r} is outside of {_text(shape)}")
    return axis + len(shape) if axis < 0 else axis


def _softmax(node: Node, inputs: list[Shape]) -> Shape:
    if inputs[0] is not None:
        _axis(node, inputs[0], 0, len(inputs[0]) - 1)
    return inputs[0]


def _layer_norm(node: Node, inputs: list[Shape]) -> Shape:
    shape = inputs[0]
    if shape is None:
        return None
    normalised = shape[_axis(node, shape, -1, len(shape) - 1) :]
    for number, other in enumerate(inputs[1:], start=1):
        if other is None:
            continue
        fits = len(other) <= len(shape) and all(
            dim == 1 or not _differ(dim, extent) for dim, extent in zip(other[::-1], shape[::-1], strict=False)
        )
        if not fits:
            raise _MismatchError(number, f"{_text(other)} does not broadcast to the normalised {_text(normalised)}")
    return shape


def _flatten(node: Node, inputs: list[Shape]) -> Shape:
    shape = inputs[0]
    if shape is None:
        return (None, None)
    axis = _axis(node, shape, 1, len(shape))
    return _product(shape[:axis]), _product(shape[axis:])


def _product(dims: tuple[Dimension, ...]) -> Dimension:
    if len(dims) == 1:
        return dims[0]
    product = 1
    for dim in dims:
        if not isinstance(dim, int):
            return None
        product *= dim
    return product if product <= _LARGEST_EXTENT else None


_RULES: dict[str, Rule] = {
    **dict.fromkeys(_SAME_AS_FIRST, _first),
    **dict.fromkeys(_BROADCASTING, _broadcast),
    "Flatten": _flatten,
    "LayerNormalization": _layer_norm,
    "LogSoftmax": _softmax,
    "Softmax": _softmax,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
