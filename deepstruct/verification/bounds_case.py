"""Case: one operation with its inputs, as the rules for its rounding bound take it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepstruct import dtypes
from deepstruct.converters import torch_operators
from deepstruct.errors import UnsupportedError
from deepstruct.structure import AttributeValue, Node, Structure
from deepstruct.verification.bounds_arithmetic import Arithmetic, Ball


@dataclass(frozen=True)
class Exact:
    """Every runtime must give the same numbers; zeros of either sign are equal, and so are NaNs."""


Rule = Callable[["Case"], Sequence[Ball | Exact | None]]
"""Gives one result for each output, None where there is no rule."""

WIDE_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "bool")


@dataclass(frozen=True, eq=False)
class Case:
    """One operation with its inputs.

    Attributes:
        node: operator, attributes and outputs.
        arrays: inputs in the operator's order, None for one that is left out.
        opset: of the operator.
        dtypes: of the outputs, as documents name them; ``""`` for one that is left out.
    """

    node: Node
    arrays: tuple[Any, ...]
    opset: int
    dtypes: tuple[str, ...]

    @cached_property
    def arithmetic(self) -> Arithmetic:
        """That of the coarsest output.

        Raises:
            UnsupportedError: no output is a float of 16 bits or more.
        """
        arithmetic = Arithmetic.of(self.dtypes)
        if arithmetic is None:
            raise UnsupportedError(f"no rounding bounds for outputs of {', '.join(self.dtypes)}")
        return arithmetic

    @cached_property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """The inputs, floats widened to float64 and integers that torch does not compute with to int64."""
        return tuple(None if array is None else _to_tensor(array) for array in self.arrays)

    @cached_property
    def is_float(self) -> bool:
        """Whether an input is of a floating dtype."""
        return any("float" in dtypes.from_numpy(np.asarray(x).dtype) for x in self.arrays if x is not None)

    def __len__(self) -> int:
        return len(self.node.outputs)

    def attribute(self, name: str, default: Any) -> Any:
        """The value of an attribute, or what holds without it."""
        return self.node.attributes.get(name, default)

    def constant(self, name: str, default: float) -> Ball:
        """The number that an attribute holds."""
        return self.arithmetic.constant(float(self.attribute(name, default)))

    def has(self, position: int) -> bool:
        """Whether an input is given."""
        return len(self.tensors) > position and self.tensors[position] is not None

    def tensor(self, position: int) -> Tensor:
        """An input that the operator demands."""
        tensor = self.tensors[position]
        assert tensor is not None
        return tensor

    def ball(self, position: int) -> Ball:
        """An input that the operator demands, without error."""
        return Ball(self.tensor(position).double())

    def optional(self, position: int) -> Ball | None:
        """An input without error, None if it is left out."""
        return self.ball(position) if self.has(position) else None

    def with_attributes(
        self, attributes: Mapping[str, AttributeValue], outputs: tuple[str, ...] = (), op_type: str = ""
    ) -> Case:
        """The same operation with other attributes, and maybe other outputs and another operator."""
        outputs, op_type = outputs or self.node.outputs, op_type or self.node.op_type
        return replace(self, node=replace(self.node, attributes=attributes, outputs=outputs, op_type=op_type))

    def with_inputs(self, inputs: tuple[Tensor, ...]) -> Case:
        """The same operation of other numbers."""
        names = tuple(map(str, range(len(inputs))))
        arrays = tuple(tensor.numpy() for tensor in inputs)
        return replace(self, node=replace(self.node, inputs=names), arrays=arrays)

    def evaluate(self, changed: Mapping[int, Tensor] | None = None) -> tuple[Tensor, ...]:
        """The outputs, computed in float64.

        Args:
            changed: position of an input -> what it is instead.
        """
        inputs = [(changed or {}).get(position, tensor) for position, tensor in enumerate(self.tensors)]
        return torch_operators.apply(self.node, inputs, self.opset)

    def require(self) -> None:
        """Raises an UnsupportedError where torch cannot evaluate the operation."""
        torch_operators.require(self.node, Structure(nodes=(), inputs=(), outputs=(), opset={"": self.opset}))


def _to_tensor(array: NDArray[Any]) -> Tensor:
    array = np.asarray(array)
    name = dtypes.from_numpy(array.dtype)
    if "float" in name:
        array = array.astype(np.float64)
    elif name not in WIDE_INTEGERS:
        array = array.astype(np.int64)
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))
