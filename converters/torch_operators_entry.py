"""What the tables of operators are made of: the entry of one operator, and helpers that several of them use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from deepstruct.structure import Node, Structure
from deepstruct.tensor import Tensor as Constant

Result = Tensor | tuple[Tensor, ...]
Function = Callable[..., Result]
Numbers = float | Sequence[float]  # an input that is read as Python numbers

DTYPES: dict[int, torch.dtype] = {  # TensorProto.DataType
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    4: torch.uint16,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    12: torch.uint32,
    13: torch.uint64,
    14: torch.complex64,
    15: torch.complex128,
    16: torch.bfloat16,
    17: torch.float8_e4m3fn,
    18: torch.float8_e4m3fnuz,
    19: torch.float8_e5m2,
    20: torch.float8_e5m2fnuz,
}


@dataclass(frozen=True)
class Operator:
    """How one operator is computed.

    Attributes:
        function: takes the inputs in the operator's order, None for one left out, and the attributes by name.
        note: what is not computed, in a few words.
        refuse: the reason why a node cannot be computed, or None.
        before: opset -> function of the operator in the opsets before it.
        counted: the function takes ``count``, how many outputs the node has.
        numbers: inputs that the function takes as `Numbers` and not as tensors.
    """

    function: Function
    note: str = ""
    refuse: Callable[[Node, Structure], str | None] | None = None
    before: Mapping[int, Function] = field(default_factory=dict)
    counted: bool = False
    numbers: tuple[int, ...] = ()

    def of(self, opset: int) -> Function:
        """The function that an opset needs."""
        return next((self.before[end] for end in sorted(self.before) if opset < end), self.function)


def integers(values: Numbers | None) -> list[int] | None:
    """A list from what is an attribute in some opsets and an input in others."""
    if values is None or isinstance(values, Sequence):
        return None if values is None else [int(value) for value in values]
    return [int(values)]


def scalar(value: Numbers) -> float:
    """The number that an input of one element holds."""
    return value[0] if isinstance(value, Sequence) else value


def positive(axis: int, rank: int) -> int:
    """An axis counted from the front.

    Raises:
        IndexError: there is no such axis.
    """
    if not -rank <= axis < rank:
        raise IndexError(f"axis {axis} is out of range for {rank} dimensions")
    return axis + rank if axis < 0 else axis


def along(axis: int, index: Any) -> tuple[Any, ...]:
    """An index into one axis, counted from the front."""
    return (*(slice(None),) * axis, index)


def known(name: str, structure: Structure) -> Constant | None:
    """The value of a node's input where the structure holds it: a constant or the output of a Constant node."""
    if name in structure.constants:
        return structure.constants[name]
    for node in structure.nodes:
        if name and name in node.outputs and node.op_type == "Constant" and not node.domain:
            value = node.attributes.get("value")
            return value if isinstance(value, Constant) else None
    return None


def refuse_values(**allowed: tuple[Any, ...]) -> Callable[[Node, Structure], str | None]:
    """Refuses a node in which an attribute has another value than those allowed."""

    def refuse(node: Node, _: Structure) -> str | None:
        for name, values in allowed.items():
            value = node.attributes.get(name, values[0])
            if value not in values:
                return f"{name}={value!r:.60} is not one of {', '.join(map(repr, values))}"
        return None

    return refuse
