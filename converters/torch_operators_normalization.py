"""Operators that normalise, over batches, instances, groups, layers and channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from deepstruct.converters.torch_operators_entry import DTYPES, Operator, positive, refuse_values
from deepstruct.structure import Node, Structure


def _batch_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    **_: Any,
) -> Tensor:
    if x.ndim == 1:
        return _batch_norm(x.unsqueeze(1), scale, bias, mean, variance, epsilon=epsilon).squeeze(1)
    if len({x.dtype, scale.dtype, bias.dtype, mean.dtype, variance.dtype}) == 1:
        return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)
    wide = [tensor.float() if tensor.element_size() < 4 else tensor for tensor in (x, mean, variance, scale, bias)]
    common = torch.float64 if any(tensor.dtype == torch.float64 for tensor in wide) else torch.float32
    x_, mean_, variance_, scale_, bias_ = (tensor.to(common) for tensor in wide)
    return F.batch_norm(x_, mean_, variance_, scale_, bias_, False, 0.0, epsilon).to(x.dtype)


def _refuse_training(node: Node, structure: Structure) -> str | None:
    if node.attributes.get("training_mode") or any(node.outputs[1:]):
        return "batches are normalised by their own statistics in training mode"
    if structure.opset[""] < 9 and node.attributes.get("spatial", 1) != 1:
        return "spatial=0 normalises each position by itself"
    return None


def _instance_norm(x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5, **_: Any) -> Tensor:
    return torch.instance_norm(x, scale, bias, None, None, True, 0.0, epsilon, torch.backends.cudnn.enabled)


def _group_norm(
    x: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    del stash_type  # torch computes half precision in float32 as the default asks, and double in double
    repeats = x.shape[1] // scale.shape[0]  # until opset 20 there was one scale for each group
    if repeats > 1:
        scale, bias = scale.repeat_interleave(repeats), bias.repeat_interleave(repeats)
    return torch.group_norm(x, num_groups, scale, bias, epsilon, torch.backends.cudnn.enabled)


def _layer_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    count: int,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    shape = x.shape[axis:]
    if scale.shape == shape and (bias is None or bias.shape == shape):
        y = F.layer_norm(x, shape, scale, bias, epsilon)
    else:
        y = F.layer_norm(x, shape, None, None, epsilon) * scale
        y = y if bias is None else y + bias
    if count == 1:
        return y
    axes = tuple(range(positive(axis, x.ndim), x.ndim))
    wide = x.to(DTYPES[stash_type])
    variance, mean = torch.var_mean(wide, axes, correction=0, keepdim=True)
    return y, mean, torch.rsqrt(variance + epsilon)


def _rms_norm(x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Tensor:
    wide = x if x.dtype == torch.float64 else x.to(DTYPES[stash_type])
    return F.rms_norm(wide, x.shape[axis:], None, epsilon).to(x.dtype) * scale


def _lp_normalization(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return torch.where(norm == 0, 0, x / torch.where(norm == 0, 1, norm))


def _local_response_norm(x: Tensor, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Tensor:
    around = [*[0, 0] * (x.ndim - 2), (size - 1) // 2, size // 2]
    squares = F.pad(x * x, around).unfold(1, size, 1).sum(-1)
    return x / (bias + alpha / size * squares) ** beta


def _mean_variance_normalization(x: Tensor, *, axes: Sequence[int] = (0, 2, 3)) -> Tensor:
    variance, mean = torch.var_mean(x, tuple(axes), correction=0, keepdim=True)
    return (x - mean) / (variance.sqrt() + 1e-9)


_STASH = refuse_values(stash_type=(1, 10, 11, 16))

OPERATORS: dict[str, Operator] = {
    "BatchNormalization": Operator(_batch_norm, "in evaluation mode; not spatial=0", _refuse_training),
    "GroupNormalization": Operator(_group_norm, refuse=_STASH),
    "InstanceNormalization": Operator(_instance_norm),
    "LRN": Operator(_local_response_norm),
    "LayerNormalization": Operator(_layer_norm, refuse=_STASH, counted=True),
    "LpNormalization": Operator(_lp_normalization, refuse=refuse_values(p=(2, 1))),
    "MeanVarianceNormalization": Operator(_mean_variance_normalization),
    "RMSNormalization": Operator(_rms_norm, refuse=_STASH),
}
