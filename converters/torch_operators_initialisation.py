"""First numbers of a structure's parameters, by what the operators do with them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from deepstruct.structure import Node, Structure

_ONES = {  # inputs that start as 1 where they have one dimension: scales, running variances and factors
    "BatchNormalization": (1, 4),
    "Div": (0, 1),
    "GroupNormalization": (1,),
    "InstanceNormalization": (1,),
    "LayerNormalization": (1,),
    "Mul": (0, 1),
    "RMSNormalization": (1,),
    "Resize": (1, 2),
    "Upsample": (1,),
}
_SLOPE = 0.25  # of PRelu, as in torch.nn.PReLU


def initialise(structure: Structure, tensors: Mapping[str, Tensor]) -> None:
    """Fills every floating parameter: matrices and higher tensors as `torch.nn.Linear` does, the others with 0 or 1.

    Args:
        structure: that the parameters belong to.
        tensors: by parameter name.
    """
    filled: dict[str, float] = {}
    sources: dict[str, int] = {}
    for node in structure.nodes:
        for position, name in enumerate(node.inputs):
            if name in tensors:
                _note(node, position, tensors[name].shape, filled, sources, name)
    with torch.no_grad():
        for name, tensor in tensors.items():
            if tensor.dtype.is_floating_point:
                _fill(tensor, filled.get(name), sources.get(name))


def _note(
    node: Node, position: int, shape: torch.Size, filled: dict[str, float], sources: dict[str, int], name: str
) -> None:
    """Writes down what one use of a parameter says about its numbers; the first use to say anything counts."""
    fan_in = _sources(node, position, shape)
    if fan_in is not None:
        sources.setdefault(name, fan_in)
    is_vector = sum(extent != 1 for extent in shape) <= 1
    if position in _ONES.get(node.op_type, ()) and (is_vector or node.op_type not in ("Mul", "Div")):
        filled.setdefault(name, 1.0)
    elif node.op_type == "PRelu" and position == 1:
        filled.setdefault(name, _SLOPE)
    elif node.op_type in ("LSTM", "GRU", "RNN") and position > 2:
        filled.setdefault(name, 0.0)


def _sources(node: Node, position: int, shape: torch.Size) -> int | None:
    """How many numbers each output of a weight sums up, or None if the operator does not weigh with this input."""
    kind = node.op_type, position
    if len(shape) < 2:
        return None
    if kind == ("MatMul", 1) or (kind == ("Gemm", 1) and not node.attributes.get("transB")):
        return shape[-2]
    if kind == ("Gemm", 0) and node.attributes.get("transA"):
        return shape[0]
    if node.op_type in ("MatMul", "Gemm") and position < 2:
        return shape[-1]
    if kind == ("Conv", 1):
        return math.prod(shape[1:])
    if kind == ("ConvTranspose", 1):
        group = node.attributes.get("group", 1)
        assert isinstance(group, int)
        return shape[0] // group * math.prod(shape[2:])
    if node.op_type in ("LSTM", "GRU", "RNN") and position in (1, 2):
        return shape[-1]
    return None


def _fill(tensor: Tensor, value: float | None, sources: int | None) -> None:
    is_vector = sum(extent != 1 for extent in tensor.shape) <= 1
    if sources is None and (value is not None or is_vector):
        tensor.fill_(value or 0.0)
    elif tensor.numel():
        bound = 1 / math.sqrt(math.prod(tensor.shape[1:]) if sources is None else sources)
        nn.init.uniform_(tensor, -bound, bound)
