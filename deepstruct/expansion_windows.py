"""What pooling and reductions do to units: each element depends on those of a window, connected without a parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from deepstruct.expansion_values import Rule, Units, UnknownUnitsError, Value, refuse_more
from deepstruct.structure import Node
from deepstruct.windows import Geometry, integers

if TYPE_CHECKING:
    from deepstruct.expansion import Expansion

_POOLS = frozenset({"AveragePool", "LpPool", "MaxPool"})
_GLOBAL_POOLS = frozenset({"GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"})
_REDUCTIONS = frozenset(
    {
        *("ArgMax", "ArgMin", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"),
        *("ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
    }
)
POOLS = _POOLS | _GLOBAL_POOLS | _REDUCTIONS
"""Operators that make one element of several."""
CHANNELS_FIRST = (
    {"BatchNormalization", "Conv", "ConvInteger", "ConvTranspose", "DepthToSpace", "GroupNormalization"}
    | {"InstanceNormalization", "LRN", "QLinearConv", "SpaceToDepth"}
    | _POOLS
    | _GLOBAL_POOLS
)
"""Operators that take axis 1 for the channels."""


def _pooled(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    value = inputs[0]
    assert isinstance(value, Units)
    kernel = integers(node, "kernel_shape", value.shape[2:])
    windows = Geometry.of(node, value.shape, kernel).windows(node, value.numbers)
    shape = windows.shape[: 2 + len(kernel)]
    channels = expansion.channels(value)
    if channels is not None:
        same = np.broadcast_to(channels.reshape(1, -1, *(1 for _ in kernel)), shape)
        return [Units(same)] * len(node.outputs)
    refuse_more(node, windows.size)
    return [expansion.linked(node, shape, windows.reshape(math.prod(shape), -1))] * len(node.outputs)


def _pooled_globally(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    value = inputs[0]
    assert isinstance(value, Units)
    shape = (*value.shape[:2], *(1 for _ in value.shape[2:]))
    return [expansion.linked(node, shape, value.numbers.reshape(math.prod(shape), -1))]


def _reduced(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    value = inputs[0]
    if not isinstance(value, Units):
        raise UnknownUnitsError(f"{node.op_type} takes its axes from units")
    rank = len(value.shape)
    if node.op_type in ("ArgMax", "ArgMin"):
        axes = [node.attributes.get("axis", 0)]
    elif len(inputs) > 1 and inputs[1] is not None:
        axes = expansion.constant(inputs[1], node).reshape(-1).tolist()
    else:
        axes = list(node.attributes.get("axes", ()))  # type: ignore[arg-type]  # a tuple of integers
    if not axes and node.attributes.get("noop_with_empty_axes"):
        return [expansion.passed_on(node, value)]
    gone = sorted({int(axis) % rank for axis in axes} if axes else range(rank))  # type: ignore[arg-type]  # integers
    kept = [axis for axis in range(rank) if axis not in gone]
    numbers = np.transpose(value.numbers, [*kept, *gone])
    shape: Sequence[int] = numbers.shape[: len(kept)]
    windows = numbers.reshape(math.prod(shape), -1)
    if node.attributes.get("keepdims", 1):
        shape = [1 if axis in gone else extent for axis, extent in enumerate(value.shape)]
    return [expansion.linked(node, shape, windows)]


RULES: dict[str, Rule] = {
    **dict.fromkeys(_POOLS, _pooled),
    **dict.fromkeys(_GLOBAL_POOLS, _pooled_globally),
    **dict.fromkeys(_REDUCTIONS, _reduced),
}
