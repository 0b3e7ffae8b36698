"""ONNX operators computed with torch, with ONNX's semantics and default attributes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deepstruct.converters.torch_operators_entry import Numbers
from deepstruct.converters.torch_operators_table import NOT_COMPUTED, OPERATORS
from deepstruct.errors import UnsupportedError
from deepstruct.structure import Node, Structure

Input = Tensor | Numbers | None

_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
_WRAPS_AROUND = frozenset(("Add", "BitwiseNot", "Mul", "Sub", "Sum"))  # right modulo 2^64
_GIVES_INDICES = frozenset(("ArgMax", "ArgMin", "NonZero"))  # whose int64 is no widened uint


def require(node: Node, structure: Structure) -> None:
    """Makes sure that a node's operator can be computed.

    Raises:
        UnsupportedError: it cannot; operator and node are named.
    """
    opset = structure.opset.get("", 7)
    if opset < 7:
        raise UnsupportedError(f"opset {opset} is not mapped to torch: until 6, operators broadcast otherwise")
    if node.domain or node.op_type not in OPERATORS:
        operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        reason = "of another domain" if node.domain else NOT_COMPUTED.get(node.op_type, "unknown")
        raise UnsupportedError(
            f"node {node.name!r}: the operator {operator} is not mapped to torch ({reason}); "
            "docs/operators.md lists those that are"
        )
    refuse = OPERATORS[node.op_type].refuse
    fault = refuse(node, structure) if refuse else None
    if fault:
        raise UnsupportedError(f"node {node.name!r}: {node.op_type} is not mapped to torch in this form: {fault}")


def apply(node: Node, inputs: Sequence[Input], opset: int) -> tuple[Tensor, ...]:
    """The outputs of a node.

    Args:
        node: that `require` has let through.
        inputs: in the operator's order, None for one that is left out; those that the operator reads as numbers
            may be Python numbers or a list of them.
        opset: version of ONNX's operator set.
    """
    try:
        return _compute(node, inputs, opset)
    except NotImplementedError:
        dtype = next((x.dtype for x in inputs if isinstance(x, Tensor) and x.dtype in _UNSIGNED), None)
        if dtype is None:
            raise
        results = _compute(node, [_widened(node, tensor) for tensor in inputs], opset)
        if node.op_type in _GIVES_INDICES:
            return results
        return tuple(result.to(dtype) if result.dtype == torch.int64 else result for result in results)


def _compute(node: Node, inputs: Sequence[Input], opset: int) -> tuple[Tensor, ...]:
    operator = OPERATORS[node.op_type]
    attributes = dict(node.attributes)
    if operator.counted:
        attributes["count"] = max(position + 1 for position, name in enumerate(node.outputs) if name)
    arguments = [
        x.tolist() if place in operator.numbers and isinstance(x, Tensor) else x for place, x in enumerate(inputs)
    ]
    result = operator.of(opset)(*_on_one_device(arguments), **attributes)
    return result if isinstance(result, tuple) else (result,)


def _widened(node: Node, x: Input) -> Input:
    """An unsigned tensor, for which torch has few operators, as int64.

    Raises:
        UnsupportedError: a number is too large, and the operator would not come out right.
    """
    if not isinstance(x, Tensor) or x.dtype not in _UNSIGNED:
        return x
    wide = x.to(torch.int64)
    if node.op_type not in _WRAPS_AROUND and bool((wide < 0).any()):
        raise UnsupportedError(f"node {node.name!r}: {node.op_type} of uint64 is computed below 2^63 only")
    return wide


def _on_one_device(inputs: list[Input]) -> list[Input]:
    """The inputs, with tensors on the CPU moved to where others are."""
    devices = {x.device for x in inputs if isinstance(x, Tensor)}
    if len(devices) < 2:
        return inputs
    device = next(device for device in devices if device.type != "cpu")
    return [x.to(device) if isinstance(x, Tensor) else x for x in inputs]
