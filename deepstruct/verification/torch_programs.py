"""Fragments in torch, node by node, with the operators of `deepstruct.to_module`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from deepstruct import dtypes
from deepstruct.converters import torch_operators, torch_operators_shape, torch_operators_table, torch_tensors
from deepstruct.errors import UnsupportedError
from deepstruct.structure import Node, Parameter, Structure
from deepstruct.tensor import MAX_ELEMENTS, Tensor
from deepstruct.verification.runtimes import Fragment, NotRunnableError, Value


class TorchProgram:
    """A fragment in torch."""

    def __init__(self, fragment: Fragment) -> None:
        self._fragment = fragment
        called = {function.key for function in fragment.functions}
        bare = Structure(nodes=(), inputs=(), outputs=(), opset=fragment.opset)
        for node in fragment.nodes:
            if node.called in called:
                raise NotRunnableError(f"node {node.name!r}: torch computes no functions such as {node.op_type!r}")
            operator = torch_operators_table.OPERATORS.get(node.op_type)
            if node.domain or operator is None or operator.refuse is None:
                _require(node, bare)

    def run(self, values: Mapping[str, Value], fixed: frozenset[str] = frozenset()) -> list[Value]:
        """The outputs; see `deepstruct.verification.runtimes.Program`."""
        known = self._known(values, fixed)
        for node in self._fragment.nodes:
            _require(node, known)
        try:
            with torch.no_grad():
                return self._run(values)
        except (MemoryError, NotRunnableError):
            raise
        except Exception as error:  # torch raises whatever Python raises
            raise NotRunnableError(reason(error)) from error

    def _run(self, values: Mapping[str, Value]) -> list[Value]:
        tensors: dict[str, torch.Tensor] = {}
        needed = {name for node in self._fragment.nodes for name in node.inputs} | set(self._fragment.outputs)
        made = {name for node in self._fragment.nodes for name in node.outputs} | {""}
        for name in needed - made:
            tensors[name] = to_tensor(name, values[name])
        for node in self._fragment.nodes:
            if node.op_type == "Constant":
                results: tuple[torch.Tensor, ...] = (torch_operators_shape.constant(dict(node.attributes)),)
            else:
                arguments = [tensors.get(name) for name in node.inputs]
                results = torch_operators.apply(node, arguments, self._fragment.opset[""])
            tensors.update((name, result) for name, result in zip(node.outputs, results, strict=False) if name)
        return [torch_tensors.to_numpy(None, name, tensors[name]) for name in self._fragment.outputs]

    def _known(self, values: Mapping[str, Value], fixed: frozenset[str]) -> Structure:
        """What is known beforehand, as far as it decides whether torch can compute a node."""
        constants: dict[str, Tensor] = {}
        parameters = []
        for name in dict.fromkeys(name for node in self._fragment.nodes for name in node.inputs if name in fixed):
            value = values[name]
            if not isinstance(value, np.ndarray) or value.dtype.kind in "OU":
                raise NotRunnableError(f"{name!r}: torch has no such values")
            if value.dtype.kind in "biu" and value.size <= MAX_ELEMENTS:
                constants[name] = Tensor.from_array(value)
            else:
                parameters.append(Parameter(name, dtypes.from_numpy(value.dtype), value.shape))
        return Structure(
            nodes=tuple(node for node in self._fragment.nodes if node.op_type == "Constant"),
            inputs=(),
            outputs=(),
            parameters=tuple(parameters),
            constants=constants,
            opset=self._fragment.opset,
        )


def _require(node: Node, known: Structure) -> None:
    try:
        torch_operators.require(node, known)
    except UnsupportedError as error:
        raise NotRunnableError(str(error)) from error


def to_tensor(name: str, value: Value) -> torch.Tensor:
    """A value that errors call `name` as a tensor, without a copy where it can be written to.

    Raises:
        NotRunnableError: torch has no such values.
    """
    if not isinstance(value, np.ndarray):
        raise NotRunnableError(f"{name!r} is no tensor, and torch computes with nothing else")
    try:
        dtype = dtypes.from_numpy(value.dtype)
        torch_tensors.require_dtype(repr(name), dtype)
    except (KeyError, UnsupportedError) as error:
        raise NotRunnableError(f"torch has no dtype for {name!r}, which is {value.dtype}") from error
    return torch_tensors.to_tensor(value, dtype)


def reason(error: Exception) -> str:
    """What an error of torch says, in one line."""
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
