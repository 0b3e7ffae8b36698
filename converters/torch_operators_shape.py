"""Operators that make, reshape, join and cut tensors without looking at their elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from deepstruct.converters import torch_tensors
from deepstruct.converters.torch_operators_entry import (
    DTYPES,
    Numbers,
    Operator,
    along,
    integers,
    positive,
    refuse_values,
    scalar,
)
from deepstruct.structure import Node, Structure
from deepstruct.tensor import Tensor as Constant

_LEAST = -(2**62)  # torch warns about a slice that begins or ends near the least integer


def from_constant(constant: Constant) -> Tensor:
    """The torch tensor of a constant that is no string."""
    return torch_tensors.to_tensor(constant.to_array(), constant.dtype)


def _shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor(x.shape[start:end], dtype=torch.int64, device="cpu")


def _size(x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64, device="cpu")


def _reshape(x: Tensor, shape: Numbers, *, allowzero: int = 0) -> Tensor:
    extents = integers(shape)
    assert extents is not None
    if not allowzero:
        extents = [x.shape[axis] if extent == 0 else extent for axis, extent in enumerate(extents)]
    if -1 in extents and not x.numel():
        given = math.prod(extent for extent in extents if extent > 0)
        extents[extents.index(-1)] = math.prod(extent for extent in x.shape if extent) // given if 0 in extents else 0
    return x.reshape(extents)


def _flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _transpose(x: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    return x.permute(tuple(range(x.ndim))[::-1] if perm is None else tuple(perm))


def _squeeze(x: Tensor, indices: Numbers | None = None, *, axes: Sequence[int] | None = None) -> Tensor:
    chosen = integers(indices if axes is None else axes)
    if chosen is None:
        return x.squeeze()
    for axis in chosen:
        if x.shape[axis] != 1:
            raise ValueError(f"axis {axis} of shape {list(x.shape)} cannot be squeezed")
    return x.squeeze(tuple(chosen))


def _unsqueeze(x: Tensor, indices: Numbers | None = None, *, axes: Sequence[int] | None = None) -> Tensor:
    chosen = integers(indices if axes is None else axes) or []
    rank = x.ndim + len(chosen)
    for axis in sorted(positive(axis, rank) for axis in chosen):
        x = x.unsqueeze(axis)
    return x


def _split(
    x: Tensor,
    sizes: Numbers | None = None,
    *,
    count: int,
    axis: int = 0,
    split: Sequence[int] | None = None,
    num_outputs: int | None = None,
) -> tuple[Tensor, ...]:
    chosen = integers(sizes if split is None else split)
    if chosen is not None:
        return torch.split(x, chosen, axis)
    parts, extent = num_outputs or count, x.shape[axis]
    chunk = -(-extent // parts)
    if num_outputs is None and chunk * parts != extent:
        raise ValueError(f"{extent} entries do not split into {parts} equal parts")
    return torch.split(x, [max(min(chunk, extent - start * chunk), 0) for start in range(parts)], axis)


def _slice(
    x: Tensor,
    starts: Numbers,
    ends: Numbers,
    axes: Numbers | None = None,
    steps: Numbers | None = None,
) -> Tensor:
    first, last = integers(starts) or [], integers(ends) or []
    chosen = integers(axes)
    chosen = list(range(len(first))) if chosen is None else chosen
    strides = integers(steps) or [1] * len(first)
    for axis, start, end, step in zip(chosen, first, last, strides, strict=True):
        axis = positive(axis, x.ndim)
        if step > 0:
            x = x[along(axis, slice(max(start, _LEAST), max(end, _LEAST), step))]
        else:
            x = x.index_select(axis, _backwards(start, end, step, x.shape[axis]).to(x.device))
    return x


def _backwards(start: int, end: int, step: int, extent: int) -> Tensor:
    """Positions from `start` down to `end`, which is left out; ONNX clamps other than Python does."""
    first = min(max(start + extent if start < 0 else start, 0), extent - 1)
    last = min(max(end + extent if end < 0 else end, -1), extent - 1)
    return torch.tensor(range(first, last, step), dtype=torch.int64, device="cpu")


def _slice_before_10(
    x: Tensor, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None
) -> Tensor:
    return _slice(x, starts, ends, axes)


def _expand(x: Tensor, shape: Numbers) -> Tensor:
    extents = integers(shape) or []
    missing = max(len(extents) - x.ndim, 0)
    own = [*[1] * missing, *x.shape]
    wanted = [*[1] * (len(own) - len(extents)), *extents]
    return x.expand([old if new == 1 else new for old, new in zip(own, wanted, strict=True)])


def _tile(x: Tensor, repeats: Numbers) -> Tensor:
    return x.repeat(tuple(integers(repeats) or ()))


def _pad(
    x: Tensor,
    amounts: Numbers | None = None,
    filler: Numbers | None = None,
    axes: Numbers | None = None,
    *,
    mode: str = "constant",
    pads: Sequence[int] | None = None,
    value: float = 0.0,
) -> Tensor:
    sizes = integers(amounts if pads is None else pads) or []
    chosen = integers(axes)
    chosen = list(range(x.ndim)) if chosen is None else [positive(axis, x.ndim) for axis in chosen]
    before, after = [0] * x.ndim, [0] * x.ndim
    for axis, begin, end in zip(chosen, sizes[: len(chosen)], sizes[len(chosen) :], strict=True):
        before[axis], after[axis] = begin, end
    if mode == "constant":
        flat = [size for axis in range(x.ndim)[::-1] for size in (before[axis], after[axis])]
        return F.pad(x, flat, value=value if filler is None else scalar(filler))
    for axis in range(x.ndim):
        if before[axis] or after[axis]:
            x = _pad_from_inside(x, axis, before[axis], after[axis], mode)
    return x


def _pad_from_inside(x: Tensor, axis: int, begin: int, end: int, mode: str) -> Tensor:
    """Pads one axis with its own entries, after cutting where a size is negative."""
    x = x[along(axis, slice(max(-begin, 0), x.shape[axis] + min(end, 0)))]
    extent = x.shape[axis]
    positions = torch.arange(-max(begin, 0), extent + max(end, 0), device=x.device)
    if mode == "wrap":
        positions = positions % extent
    elif mode == "reflect" and extent > 1:
        period = 2 * (extent - 1)
        positions = (extent - 1) - ((positions % period) - (extent - 1)).abs()
    else:
        positions = positions.clamp(0, extent - 1)
    return x.index_select(axis, positions)


def _depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    if mode == "CRD":
        return F.pixel_shuffle(x, blocksize)
    n, c, h, w = x.shape
    parts = x.reshape(n, blocksize, blocksize, c // blocksize**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // blocksize**2, h * blocksize, w * blocksize)


def _space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    if mode == "CRD":
        return F.pixel_unshuffle(x, blocksize)
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // blocksize, blocksize, w // blocksize, blocksize).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, c * blocksize**2, h // blocksize, w // blocksize)


def _center_crop_pad(x: Tensor, shape: Numbers, *, axes: Sequence[int] | None = None) -> Tensor:
    chosen = range(x.ndim) if axes is None else axes
    for axis, extent in zip(chosen, integers(shape) or [], strict=True):
        axis = positive(axis, x.ndim)
        missing = extent - x.shape[axis]
        begin = -(-missing // 2) if missing < 0 else missing // 2
        sizes = [0, 0] * (x.ndim - axis - 1) + [begin, missing - begin]
        x = F.pad(x, sizes)
    return x


def constant(attributes: dict[str, Any]) -> Tensor:
    """The value of a Constant node that is no string."""
    ((name, value),) = attributes.items()
    if name == "value":
        return from_constant(value)
    return torch.tensor(value, dtype=torch.float32 if "float" in name else torch.int64, device="cpu")


def _refuse_constant(node: Node, _: Structure) -> str | None:
    value = node.attributes.get("value")
    if isinstance(value, Constant) and value.dtype != "string":
        return None
    plain = {"value_int", "value_ints", "value_float", "value_floats"}
    return None if plain & set(node.attributes) else "it is neither a number nor a tensor of numbers"


def _constant_of_shape(shape: Numbers, *, value: Constant | None = None) -> Tensor:
    filler = torch.zeros((), device="cpu") if value is None else from_constant(value)
    return torch.full(integers(shape) or (), filler.item(), dtype=filler.dtype, device="cpu")


def _range(start: Tensor, limit: Tensor, delta: Tensor, **_: int) -> Tensor:
    first, last, step = start.item(), limit.item(), delta.item()
    count = max(math.ceil((last - first) / step), 0)
    if not start.is_floating_point():
        return torch.arange(count, dtype=start.dtype, device=start.device) * step + first
    wide = torch.float64 if start.dtype == torch.float64 else torch.float32
    return (torch.arange(count, dtype=wide, device=start.device) * step + first).to(start.dtype)


def _eye_like(x: Tensor, *, dtype: int | None = None, k: int = 0) -> Tensor:
    rows, columns = (torch.arange(extent, device=x.device) for extent in x.shape)
    return (columns - rows[:, None] == k).to(x.dtype if dtype is None else DTYPES[dtype])


OPERATORS: dict[str, Operator] = {
    "CenterCropPad": Operator(_center_crop_pad, numbers=(1,)),
    "Concat": Operator(lambda *parts, axis: torch.cat(parts, axis)),
    "Constant": Operator(lambda **attributes: constant(attributes), "not strings and sparse tensors", _refuse_constant),
    "ConstantOfShape": Operator(_constant_of_shape, numbers=(0,)),
    "DepthToSpace": Operator(_depth_to_space, refuse=refuse_values(mode=("DCR", "CRD"))),
    "Expand": Operator(_expand, numbers=(1,)),
    "EyeLike": Operator(_eye_like, refuse=refuse_values(dtype=(None, *DTYPES))),
    "Flatten": Operator(_flatten),
    "Identity": Operator(lambda x: x),
    "Pad": Operator(_pad, refuse=refuse_values(mode=("constant", "reflect", "edge", "wrap")), numbers=(1, 2, 3)),
    "Range": Operator(_range),
    "Reshape": Operator(_reshape, numbers=(1,)),
    "Shape": Operator(_shape),
    "Size": Operator(_size),
    "Slice": Operator(_slice, before={10: _slice_before_10}, numbers=(1, 2, 3, 4)),
    "SpaceToDepth": Operator(_space_to_depth, refuse=refuse_values(mode=("DCR", "CRD"))),
    "Split": Operator(_split, counted=True, numbers=(1,)),
    "Squeeze": Operator(_squeeze, numbers=(1,)),
    "Tile": Operator(_tile, numbers=(1,)),
    "Transpose": Operator(_transpose),
    "Unsqueeze": Operator(_unsqueeze, numbers=(1,)),
}
