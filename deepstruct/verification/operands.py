"""What a node says with its attributes and with operands that are integers, such as axes and extents.

Two nodes that say the same compute the same, from which end they count axes, and whether or not they write down what
holds anyway. All of that is told from ranks and extents that are fixed, and from operands whose numbers are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deepstruct.structure import AttributeValue, Node
from deepstruct.tensor import Tensor
from deepstruct.verification import counting, meaning
from deepstruct.verification.counting import Integers
from deepstruct.verification.normal_form import NormalForm
from deepstruct.verification.statics import Shape, extents

Attributes = dict[str, AttributeValue]

_REDUCTIONS = frozenset(
    {
        *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
        *("ReduceProd", "ReduceSum", "ReduceSumSquare"),
    }
)
_CONTROLS: Mapping[str, Mapping[int, str]] = {
    **{name: {1: "axes"} for name in _REDUCTIONS},
    "AffineGrid": {1: "size"},
    "CenterCropPad": {1: "shape"},
    "Col2Im": {1: "image_shape", 2: "block_shape"},
    "CumSum": {1: "axis"},
    "Expand": {1: "shape"},
    "MaxUnpool": {2: "output_shape"},
    "OneHot": {1: "depth"},
    "Pad": {1: "pads", 3: "axes"},
    "Resize": {3: "sizes"},
    "Slice": {1: "starts", 2: "ends", 3: "axes", 4: "steps"},
    "Split": {1: "split"},
    "Tile": {1: "repeats"},
    "TopK": {1: "k"},
    "Trilu": {1: "k"},
}
"""Operator -> operands that say how it computes, not on what, and what they would be called as attributes."""

_COUNTED = frozenset(
    {
        *("ArgMax", "ArgMin", "Compress", "Concat", "Gather", "GatherElements", "Hardmax", "LayerNormalization"),
        *("LogSoftmax", "LpNormalization", "RMSNormalization", "ScatterElements", "Softmax", "Split", "TopK"),
    }
)
"""Operators whose attribute ``axis`` counts the axes of the first input, from either end."""

_POOLS = {"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}
_SAME = frozenset({"AveragePool", "Conv", "ConvInteger", "LpPool", "MaxPool", "QLinearConv"})


@dataclass(frozen=True)
class Reading:
    """What a node says.

    Attributes:
        called: domain, operator and overload.
        attributes: those that say something, operands that are read as attributes included.
        inputs: the others, in the operator's order, ``""`` for those that are left out or read as attributes.
        read: positions of those that are read as attributes.
    """

    called: tuple[str, str, str]
    attributes: Attributes
    inputs: tuple[str, ...]
    read: Set[int] = frozenset()


def reading(form: NormalForm, node: Node) -> Reading:
    """What a node says, as far as its own graph tells."""
    known = _known(form, node)
    return _read(form, node, known.keys(), known, [form.shapes.get(name) for name in node.inputs])


def readings(a: NormalForm, first: Node, b: NormalForm, second: Node) -> tuple[Reading, Reading]:
    """What two nodes say if they take the same inputs and give the same outputs, as far as both graphs tell."""
    known = _known(a, first), _known(b, second)
    positions = {
        position
        for position in known[0].keys() | known[1].keys()
        if (position in known[0] or not _at(first.inputs, position))
        and (position in known[1] or not _at(second.inputs, position))
    }
    shapes = [
        _together(a.shapes.get(_at(first.inputs, n)), b.shapes.get(_at(second.inputs, n)))
        for n in range(max(len(first.inputs), len(second.inputs)))
    ]
    own, other = (
        _read(side, node, positions, ints, shapes)
        for side, node, ints in zip((a, b), (first, second), known, strict=True)
    )
    if own.called == other.called == ("", "Gather", "") and _point_alike(a, own, b, other, shapes[0]):
        return _without_indices(own), _without_indices(other)
    return own, other


def _point_alike(a: NormalForm, first: Reading, b: NormalForm, second: Reading, shape: Shape | None) -> bool:
    """Whether indices that are not the same numbers are so once they are counted from the front."""
    tensors = [
        form.leaves[said.inputs[1]].tensor if said.inputs[1] in form.leaves else None
        for form, said in ((a, first), (b, second))
    ]
    axis = first.attributes.get("axis", 0)
    if None in tensors or tensors[0] == tensors[1] or shape is None or not isinstance(axis, int) or axis >= len(shape):
        return False
    extent = shape[axis]
    own, other = (tensor for tensor in tensors if tensor is not None)
    if own.shape != other.shape or not isinstance(extent, int) or "int" not in own.dtype or "int" not in other.dtype:
        return False
    return _counted_all(own, extent) == _counted_all(other, extent) is not None


def _counted_all(tensor: Tensor, extent: int) -> list[int] | None:
    """Indices counted from the front, None if one is out of range."""
    indices: Any = tensor.data
    return [index % extent for index in indices] if all(-extent <= index < extent for index in indices) else None


def _without_indices(said: Reading) -> Reading:
    return replace(said, inputs=said.inputs[:1], read=said.read | {1})


def _at(names: Sequence[str], position: int) -> str:
    return names[position] if position < len(names) else ""


def _together(first: Shape | None, second: Shape | None) -> Shape | None:
    """What two shapes of one value say together."""
    if first is None or second is None or len(first) != len(second):
        return first if second is None else second if first is None else None
    return tuple(y if isinstance(y, int) else x for x, y in zip(first, second, strict=True))


def _known(form: NormalForm, node: Node) -> dict[int, Integers]:
    """Operands that say how a node computes, and whose numbers are known."""
    found = {}
    for position in _CONTROLS.get(node.op_type, {}) if not node.domain else ():
        leaf = form.leaves.get(_at(node.inputs, position))
        if leaf is not None and leaf.tensor is not None and "int" in leaf.tensor.dtype and len(leaf.tensor.shape) < 2:
            found[position] = leaf.tensor.data
    return found  # type: ignore[return-value]  # data of integer tensors are ints


def _read(
    form: NormalForm,
    node: Node,
    positions: Set[int],
    known: Mapping[int, Integers],
    inputs: Sequence[Shape | None],
) -> Reading:
    attributes = form.attributes(node)
    if node.domain:
        return Reading(node.called, attributes, node.inputs)
    names = _CONTROLS.get(node.op_type, {})
    said = {names[position]: known[position] for position in positions if position in known}
    is_read = all(position in positions or not _at(node.inputs, position) for position in names)
    op_type, found = node.op_type, dict(attributes)
    case = _Case(node, form.version(node), found, said, inputs)
    rule = _RULES.get(node.op_type)
    if rule is not None and is_read:
        op_type = rule(case) or op_type
    else:
        found.update(said)
    if node.op_type in _COUNTED:
        _count(case, "axis", len(inputs[0]) if inputs and inputs[0] is not None else None)
    if node.op_type in _SAME:
        _pad_explicitly(case)
    left = ["" if position in positions else name for position, name in enumerate(node.inputs)]
    if node.op_type == "Pad" and found.get("mode", "constant") != "constant" and len(left) > 2:
        left[2] = ""
    while left and not left[-1]:
        left.pop()
    return Reading(("", op_type, node.overload), found, tuple(left), frozenset(positions))


@dataclass(frozen=True)
class _Case:
    """A node whose attributes are to be read.

    Attributes:
        node: itself.
        version: of its operator set.
        attributes: changed in place.
        said: operands that are read as attributes, by name.
        inputs: shapes, None for those of unknown rank.
    """

    node: Node
    version: int
    attributes: Attributes
    said: dict[str, Integers]
    inputs: Sequence[Shape | None]

    def taken(self, name: str) -> Integers | None:
        """An operand or attribute that is a list of integers; it is an attribute no more."""
        value = self.said[name] if name in self.said else self.attributes.get(name)
        self.attributes.pop(name, None)
        if isinstance(value, int):
            return (value,)
        return value if isinstance(value, tuple) else None  # type: ignore[return-value]  # ints

    @property
    def shape(self) -> Shape | None:
        """The shape of the first input, None if its rank is unknown."""
        return self.inputs[0] if self.inputs else None


def _count(case: _Case, name: str, rank: int | None) -> None:
    """Counts an axis from the front, if the rank is known."""
    default = meaning.default(case.node.domain, case.node.op_type, case.version, name)
    axis = case.attributes.get(name, default)
    counted = counting.counted((axis,), rank) if isinstance(axis, int) else None
    if counted is not None:
        case.attributes[name] = counted[0]


def _reduce(case: _Case) -> None:
    rank = None if case.shape is None else len(case.shape)
    axes = case.taken("axes") or ()
    keeps = bool(case.attributes.get("noop_with_empty_axes"))
    if not axes and keeps:
        return
    case.attributes.pop("noop_with_empty_axes", None)
    counted = counting.counted(axes or tuple(range(rank or 0)), rank)
    if counted is not None:
        case.attributes["axes"] = tuple(sorted(counted))
    elif axes:
        case.attributes["axes"] = axes


def _pool(case: _Case) -> str | None:
    if case.shape is None or len(case.shape) < 3:
        return None
    case.attributes["axes"] = tuple(range(2, len(case.shape)))
    return _POOLS[case.node.op_type]


def _cum_sum(case: _Case) -> None:
    rank = None if case.shape is None else len(case.shape)
    axes = case.taken("axis") or ()
    counted = counting.counted(axes, rank)
    case.attributes["axis"] = axes if counted is None else counted


def _trilu(case: _Case) -> None:
    k = case.taken("k") or ()
    if any(k):
        case.attributes["k"] = k


def _expand(case: _Case) -> None:
    given, shape = case.taken("shape") or (), extents(case.shape)
    try:
        case.attributes["shape"] = given if shape is None else np.broadcast_shapes(given, shape)
    except ValueError:
        case.attributes["shape"] = given


def _split(case: _Case) -> None:
    parts = case.taken("split")
    count = len(case.node.outputs)
    axis = case.attributes.get("axis", 0)
    if parts is None and case.shape is not None and isinstance(axis, int):
        counted = counting.counted((axis,), len(case.shape))
        extent = case.shape[counted[0]] if counted is not None else None
        if isinstance(extent, int):
            parts = counting.equal_parts(extent, count, may_be_shorter=case.version >= 18)
    if parts is not None:
        case.attributes["split"] = parts
        case.attributes.pop("num_outputs", None)


def _pads(case: _Case) -> None:
    pads, axes = case.taken("pads"), case.taken("axes")
    if pads is None:
        return
    rank = None if case.shape is None else len(case.shape)
    count = len(pads) // 2
    counted = tuple(range(count)) if axes is None else counting.counted(axes, rank)
    if counted is None or len(counted) != count or len(pads) % 2:
        case.attributes["pads"] = pads
        case.attributes["axes"] = axes or ()
        return
    found = sorted(zip(counted, pads[:count], pads[count:], strict=True))
    case.attributes["pads"] = tuple(n for part in found if part[1:] != (0, 0) for n in part)


def _slice(case: _Case) -> None:
    starts, ends, axes, steps = (case.taken(name) for name in ("starts", "ends", "axes", "steps"))
    if starts is None or ends is None:
        return
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    counted = counting.counted(axes, None if case.shape is None else len(case.shape))
    if counted is None and axes == tuple(range(len(axes))):
        counted = axes
    if counted is None or not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raw = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
        case.attributes.update(raw)
        return
    parts = []
    name = "slice"
    for axis, start, end, step in sorted(zip(counted, starts, ends, steps, strict=True)):
        extent = case.shape[axis] if case.shape is not None and axis < len(case.shape) else None
        part = counting.part(start, end, step, extent)
        name = "slice" if isinstance(extent, int) and name == "slice" else "range"
        parts += [axis, *part] if part != (0, counting.ENDLESS, 1) else []
    case.attributes[name] = tuple(parts)


def _pad_explicitly(case: _Case) -> None:
    """Writes down the padding of a window that gives as many outputs as there are inputs, if it is known."""
    automatic = case.attributes.get("auto_pad")
    if automatic not in ("SAME_UPPER", "SAME_LOWER") or case.attributes.get("ceil_mode") or case.shape is None:
        return
    position = meaning.weight_position(case.node)
    kernel = case.attributes.get("kernel_shape")
    if kernel is None and position is not None and (weight := case.inputs[position]) is not None:
        kernel = weight[2:]  # type: ignore[assignment]  # checked by what follows
    rank = len(case.shape) - 2
    strides, dilations = (case.attributes.get(name, (1,) * rank) for name in ("strides", "dilations"))
    if not all(isinstance(x, tuple) and len(x) == rank for x in (kernel, strides, dilations)):
        return
    pads = counting.same_padding(case.shape[2:], kernel, strides, dilations, automatic == "SAME_UPPER")  # type: ignore[arg-type]  # tuples
    if pads is None:
        return
    for name in ("auto_pad", "pads"):
        case.attributes.pop(name, None)
    if any(pads):
        case.attributes["pads"] = pads
    else:
        case.attributes.pop("count_include_pad", None)


_RULES: Mapping[str, Callable[[_Case], str | None]] = {
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(_POOLS, _pool),
    "CumSum": _cum_sum,
    "Expand": _expand,
    "Pad": _pads,
    "Slice": _slice,
    "Split": _split,
    "Trilu": _trilu,
}
"""Operator -> what writes its attributes in one way, and says which other operator it is, if any."""
