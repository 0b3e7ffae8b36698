"""What elementwise operators, normalisations and sums do to units.

A normalisation and a softmax count as acting on each unit by itself: what a unit does to others through a mean or a
maximum is no connection. A sum of layers that are made for it alone is one layer, whose units have the connections of
all of them. Every other operator on several values makes units of its own, connected without a parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from deepstruct import expansion_movement, expansion_parameters
from deepstruct.expansion_values import Known, Rule, Units, UnknownUnitsError, Value
from deepstruct.structure import Node

if TYPE_CHECKING:
    from deepstruct.expansion import Expansion

ELEMENTWISE = frozenset(
    {
        *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "CastLike", "Ceil", "Celu"),
        *("Clip", "Cos", "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity"),
        *("IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink"),
        *("Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu"),
        *("Dropout", "DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"),
        *("BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "LRN"),
        *("LpNormalization", "MeanVarianceNormalization", "RMSNormalization"),
        *("Hardmax", "LogSoftmax", "Softmax"),
    }
)
"""Operators that give each unit of their first input on."""
SUMS = frozenset({"Add", "Sub", "Sum"})
"""Operators whose result is one layer if their inputs are layers made for it alone."""
JOINED = SUMS | frozenset(
    {
        *("And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual"),
        *("Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Xor"),
        "Where",
    }
)
"""Operators that combine the elements of several inputs one by one."""


def _given_on(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    value = inputs[0]
    if not isinstance(value, Units) or any(isinstance(other, Units) for other in inputs[1:]):
        raise UnknownUnitsError(f"{node.op_type} takes its scale, shift or limits from units")
    if node.op_type == "DynamicQuantizeLinear":
        return [expansion.passed_on(node, value), Known(np.float32(1) * np.ones(())), Known(np.zeros((), np.uint8))]
    return [expansion.passed_on(node, value)] * len(node.outputs)


def _joined(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    given = [value for value in inputs if value is not None]
    shape = expansion_movement.broadcast(node, [value.shape for value in given])
    units = [value for value in given if isinstance(value, Units)]
    if len(units) == 1:
        return [_scaled(expansion, node, inputs, units[0], shape)]
    if node.op_type in SUMS:
        alone = all(
            expansion.only_use(name)
            for name, value in zip(node.inputs, inputs, strict=True)
            if isinstance(value, Units)
        )
        total = expansion.merged(units) if alone else None
        if total is not None and total.shape == shape:
            return [total]
    numbers = [np.broadcast_to(value.numbers, shape).reshape(-1) for value in units]
    return [expansion.linked(node, shape, np.stack(numbers, axis=1))]


def _scaled(
    expansion: Expansion, node: Node, inputs: Sequence[Value | None], value: Units, shape: tuple[int, ...]
) -> Units:
    """The units of the one input that has any; those that are multiplied by nothing are none."""
    numbers = np.broadcast_to(value.numbers, shape)
    if node.op_type == "Mul":
        for other in inputs:
            if other is not None and other is not value:
                exists = expansion_parameters.present(expansion, other)
                if not exists.all():
                    return Units(numbers * exists)
    position = next(place for place, found in enumerate(inputs) if found is value)
    if shape != value.shape:
        return Units(numbers)
    return expansion.passed_on(node, value, position=position)


def _where(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> Sequence[Value]:
    if isinstance(inputs[0], Known):
        return expansion_movement.moved(expansion, node, inputs)
    return _joined(expansion, node, inputs)


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _given_on),
    **dict.fromkeys(JOINED, _joined),
    "Where": _where,
}
