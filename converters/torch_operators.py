"""ONNX operators computed with torch, with ONNX's semantics and default attributes."""

from __future__ import annotations

import torch
from torch import Tensor

from deepstruct.converters.torch_operators_table import OPERATORS
from deepstruct.errors import UnsupportedError
from deepstruct.structure import Node, Structure

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
        raise UnsupportedError(
            f"node {node.name!r}: the operator {operator} is not mapped to torch. "
            f"Mapped are: {', '.join(sorted(OPERATORS))}"
        )
    refuse = OPERATORS[node.op_type].refuse
    reason = refuse(node, structure) if refuse else None
    if reason:
        raise UnsupportedError(f"node {node.name!r}: {node.op_type} is not mapped to torch in this form: {reason}")


def apply(node: Node, inputs: list[Tensor | None], opset: int) -> tuple[Tensor, ...]:
    """The outputs of a node; `inputs` are in the operator's order, None for one that is left out."""
    try:
        return _compute(node, inputs, opset)
    except NotImplementedError:
        dtype = next((tensor.dtype for tensor in inputs if tensor is not None and tensor.dtype in _UNSIGNED), None)
        if dtype is None:
            raise
        results = _compute(node, [_widened(node, tensor) for tensor in inputs], opset)
        if node.op_type in _GIVES_INDICES:
            return results
        return tuple(result.to(dtype) if result.dtype == torch.int64 else result for result in results)


def _compute(node: Node, inputs: list[Tensor | None], opset: int) -> tuple[Tensor, ...]:
    operator = OPERATORS[node.op_type]
    attributes = dict(node.attributes)
    if operator.counted:
        attributes["count"] = max(position + 1 for position, name in enumerate(node.outputs) if name)
    result = operator.of(opset)(*_on_one_device(inputs, operator.numbers), **attributes)
    return result if isinstance(result, tuple) else (result,)


def _widened(node: Node, tensor: Tensor | None) -> Tensor | None:
    """An unsigned tensor, for which torch has few operators, as int64.

    Raises:
        UnsupportedError: a number is too large, and the operator would not come out right.
    """
    if tensor is None or tensor.dtype not in _UNSIGNED:
        return tensor
    wide = tensor.to(torch.int64)
    if node.op_type not in _WRAPS_AROUND and bool((wide < 0).any()):
        raise UnsupportedError(f"node {node.name!r}: {node.op_type} of uint64 is computed below 2^63 only")
    return wide


def _on_one_device(inputs: list[Tensor | None], numbers: tuple[int, ...] | None) -> list[Tensor | None]:
    """The inputs, those that are not read as numbers moved from the CPU to where the others are."""
    if numbers is None:
        return inputs
    devices = {tensor.device for place, tensor in enumerate(inputs) if tensor is not None and place not in numbers}
    if len(devices) < 2:
        return inputs
    device = next(device for device in devices if device.type != "cpu")
    return [tensor if tensor is None or place in numbers else tensor.to(device) for place, tensor in enumerate(inputs)]
