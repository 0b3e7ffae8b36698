"""Operators that exporters write down as several: what these are, with exactly the constants that define them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deepstruct import dtypes
from deepstruct.node import round_to_float32
from deepstruct.structure import AttributeValue, Node
from deepstruct.verification import meaning
from deepstruct.verification.normal_form import NormalForm
from deepstruct.verification.operands import reading

Pattern = Any
"""A number, a name (``x`` a value, ``epsilon`` any number, ``scale`` or ``bias`` a vector), or a node.

A node is a tuple of its operator, its attributes in a dict if they matter, and the patterns of its inputs.
"""


@dataclass(frozen=True)
class Group:
    """Nodes that together are one operator.

    Attributes:
        op_type: the operator, of ONNX.
        inputs: values that it takes.
        attributes: of the operator, without those that say what holds anyway.
        positions: of the nodes, the one that gives the result last.
    """

    op_type: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, AttributeValue]
    positions: tuple[int, ...]


@dataclass
class _Found:
    """What the names in a pattern stand for, and the nodes that belong to it."""

    names: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    positions: frozenset[int] = frozenset()


def _products(*factors: Pattern) -> Iterator[Pattern]:
    """A product of three in each order."""
    for n in range(3):
        rest = [factor for k, factor in enumerate(factors) if k != n]
        yield ("Mul", factors[n], ("Mul", *rest))


_ROOT = math.sqrt(2)
_CUBE = 0.044715
_SOFTPLUS = ("Where", ("Greater", "x", 20.0), "x", ("Softplus", "x"))
_RELU6 = ("Clip", ("Add", "x", 3.0), 0.0, 6.0)
_SQUARES = (("Pow", "x", 2.0), ("Mul", "x", "x"))
_CENTRED = ("Sub", "x", ("ReduceMean", "x"))
_DEVIATIONS = (("Pow", _CENTRED, 2.0), ("Mul", _CENTRED, _CENTRED))


def _gelus() -> Iterator[tuple[dict[str, AttributeValue], Pattern]]:
    inner: Pattern
    cube: Pattern
    for inner in (("Div", "x", _ROOT), ("Mul", "x", 1 / _ROOT)):
        for product in _products("x", 0.5, ("Add", 1.0, ("Erf", inner))):
            yield {}, product
    for cube in (("Pow", "x", 3.0), ("Mul", "x", ("Mul", "x", "x"))):
        inner = ("Mul", math.sqrt(2 / math.pi), ("Add", "x", ("Mul", _CUBE, cube)))
        for product in _products("x", 0.5, ("Add", 1.0, ("Tanh", inner))):
            yield {"approximate": "tanh"}, product


def _roots(squares: Pattern) -> Pattern:
    return ("Sqrt", ("Add", ("ReduceMean", squares), "epsilon"))


_PATTERNS: tuple[tuple[str, dict[str, AttributeValue], Pattern], ...] = (
    *(("Gelu", attributes, pattern) for attributes, pattern in _gelus()),
    ("Softplus", {}, _SOFTPLUS),
    *(("Mish", {}, ("Mul", "x", ("Tanh", inner))) for inner in (("Softplus", "x"), _SOFTPLUS)),
    ("HardSwish", {}, ("Mul", "x", ("HardSigmoid", {"alpha": 1 / 6}, "x"))),
    ("HardSwish", {}, ("Div", ("Mul", "x", _RELU6), 6.0)),
    ("HardSwish", {}, ("Mul", "x", ("Div", _RELU6, 6.0))),
    ("HardSigmoid", {"alpha": round_to_float32(1 / 6)}, ("Div", _RELU6, 6.0)),
    ("Swish", {}, ("Mul", "x", ("Sigmoid", "x"))),
    *(
        ("LayerNormalization", {}, ("Add", ("Mul", ("Div", _CENTRED, _roots(squares)), "scale"), "bias"))
        for squares in _DEVIATIONS
    ),
    *(("RMSNormalization", {}, ("Mul", ("Div", "x", _roots(squares)), "scale")) for squares in _SQUARES),
    *(
        ("RMSNormalization", {}, ("Mul", ("Mul", "x", ("Reciprocal", _roots(squares))), "scale"))
        for squares in _SQUARES
    ),
)
_BY_LAST: dict[str, list[tuple[str, dict[str, AttributeValue], Pattern]]] = {}
for _row in _PATTERNS:
    _BY_LAST.setdefault(_row[2][0], []).append(_row)
_NORMALISING = {"LayerNormalization": ("x", "scale", "bias"), "RMSNormalization": ("x", "scale")}
_NARROW = ("float16", "bfloat16", "float32")
"""Dtypes in which log(1 + exp(x)) is x for x > 20, and in which runtimes agree on what 1/6 is."""


def alike(a: NormalForm, i: int, b: NormalForm, j: int) -> tuple[Group, Group] | None:
    """Two groups that are the same operator with the same attributes, at least one of them of several nodes."""
    others = {(group.op_type, _key(group.attributes)): group for group in _groups(b, j)}
    for group in _groups(a, i):
        other = others.get((group.op_type, _key(group.attributes)))
        if other is not None and len(group.positions) + len(other.positions) > 2:
            return group, other
    return None


def of_several(form: NormalForm, position: int) -> Iterator[Group]:
    """The operators that a node and those before it are together."""
    node = form.nodes[position]
    for op_type, attributes, pattern in () if node.domain else _BY_LAST.get(node.op_type, ()):
        found = next(_matched(form, node.outputs[0], pattern, _Found()), None)
        if found is not None:
            group = _group(form, position, op_type, attributes, found)
            if group is not None:
                yield group


def _groups(form: NormalForm, position: int) -> Iterator[Group]:
    yield from of_several(form, position)
    node = form.nodes[position]
    if not node.domain and len([name for name in node.outputs if name]) == 1:
        said = reading(form, node)
        yield Group(node.op_type, said.inputs, _with_epsilon(node, said.attributes), (position,))


def _with_epsilon(node: Node, attributes: Mapping[str, AttributeValue]) -> Mapping[str, AttributeValue]:
    if node.op_type not in _NORMALISING:
        return attributes
    return {"epsilon": round_to_float32(1e-5), **attributes}


def _key(attributes: Mapping[str, AttributeValue]) -> frozenset[tuple[str, object]]:
    return frozenset((name, repr(value)) for name, value in attributes.items())


def _group(
    form: NormalForm, position: int, op_type: str, attributes: dict[str, AttributeValue], found: _Found
) -> Group | None:
    """What matches a pattern, if all that the pattern leaves open is as the operator has it."""
    dtype = form.dtype(found.names["x"])
    positions = (*sorted(found.positions - {position}), position)
    shape = form.shapes.get(found.names["x"])
    if not shape or dtype not in _NARROW:
        return None
    if op_type not in _NORMALISING:
        return Group(op_type, (found.names["x"],), attributes, positions)
    if dtype != "float32":
        return None
    last = len(shape) - 1
    for n in positions:
        if form.nodes[n].op_type == "ReduceMean" and dict(reading(form, form.nodes[n]).attributes) != {"axes": (last,)}:
            return None
    vectors = [form.leaves[found.names[name]].shape for name in _NORMALISING[op_type][1:]]
    if any(vector is None or len(vector) != 1 or vector != shape[last:] for vector in vectors):
        return None
    inputs = tuple(found.names[name] for name in _NORMALISING[op_type])
    return Group(op_type, inputs, {"axis": last, "epsilon": round_to_float32(found.numbers["epsilon"])}, positions)


def _matched(form: NormalForm, name: str, pattern: Pattern, found: _Found) -> Iterator[_Found]:
    """The ways in which a value is what a pattern says."""
    if isinstance(pattern, float):
        if _is_number(form, name, pattern):
            yield found
    elif isinstance(pattern, str):
        yield from _NAMES.get(pattern, _bound)(form, name, pattern, found)
    else:
        yield from _matched_node(form, name, pattern, found)


def _bound(form: NormalForm, name: str, pattern: str, found: _Found) -> Iterator[_Found]:
    is_vector = pattern in ("scale", "bias")
    if found.names.get(pattern, name) == name and (name in form.leaves) == is_vector:
        yield _Found({**found.names, pattern: name}, found.numbers, found.positions)


def _any_number(form: NormalForm, name: str, pattern: str, found: _Found) -> Iterator[_Found]:
    number = _number(form, name)
    if number is not None:
        yield _Found(found.names, {**found.numbers, pattern: number}, found.positions)


_NAMES: Mapping[str, Callable[[NormalForm, str, str, _Found], Iterator[_Found]]] = {"epsilon": _any_number}


def _matched_node(form: NormalForm, name: str, pattern: tuple[Any, ...], found: _Found) -> Iterator[_Found]:
    node = form.maker(name)
    if node is None or node.domain or node.op_type != pattern[0] or node.outputs[0] != name:
        return
    wanted: dict[str, float] = pattern[1] if isinstance(pattern[1], dict) else {}
    inputs = pattern[2:] if wanted else pattern[1:]
    makers = {maker.op_type for value in node.inputs if (maker := form.maker(value)) is not None}
    if any(isinstance(part, tuple) and part[0] not in makers for part in inputs):
        return
    said = reading(form, node)
    attributes = {key: round_to_float32(value) for key, value in wanted.items()}
    if node.op_type != "ReduceMean" and said.attributes != attributes:
        return
    if len(said.inputs) != len(inputs) or not all(said.inputs):
        return
    orders = [said.inputs]
    if node.op_type in meaning.COMMUTATIVE and len(inputs) == 2:
        orders.append(said.inputs[::-1])
    start = _Found(found.names, found.numbers, found.positions | {form.makers[name][0]})
    for order in orders:
        states = [start]
        for value, part in zip(order, inputs, strict=True):
            states = [after for state in states for after in _matched(form, value, part, state)]
        yield from states


def _number(form: NormalForm, name: str) -> float | None:
    """The number that a fixed tensor of one element is; by being broadcast it changes no shape other than ()."""
    leaf = form.leaves.get(name)
    if leaf is None or leaf.tensor is None or len(leaf.tensor.data) != 1 or len(leaf.tensor.shape) > 1:
        return None
    number = leaf.tensor.data[0]
    return float(number) if isinstance(number, (int, float)) else None


def _is_number(form: NormalForm, name: str, number: float) -> bool:
    """Whether a fixed tensor is a number, as near as its dtype has it."""
    found = _number(form, name)
    if found is None:
        return False
    tensor = form.leaves[name].tensor
    assert tensor is not None
    if "float" not in tensor.dtype:
        return found == number
    return found == float(np.asarray(number, dtypes.to_numpy(tensor.dtype)))
