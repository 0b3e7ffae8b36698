"""Operators that pick, place, search and order elements."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from deepstruct.converters.torch_operators_entry import Numbers, Operator, along, positive, refuse_values, scalar

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _from_front(indices: Tensor, extent: int) -> Tensor:
    """Indices as int64, negative ones counted from the front."""
    indices = indices.long()
    return torch.where(indices < 0, indices + extent, indices)


def _gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    return x[along(positive(axis, x.ndim), indices)]


def _gather_elements(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    return torch.gather(x, axis, _from_front(indices, x.shape[axis]))


def _gather_nd(x: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    batch = x.shape[:batch_dims]
    inner = indices.ndim - 1 - batch_dims
    grids = []
    for axis, extent in enumerate(batch):
        grid = torch.arange(extent, device=x.device)
        grids.append(grid.reshape(-1, *(1,) * (batch_dims - axis - 1 + inner)))
    return x[(*grids, *indices.unbind(-1))]


def _scatter(x: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none") -> Tensor:
    indices = _from_front(indices, x.shape[axis])
    if reduction == "none":
        return torch.scatter(x, axis, indices, updates)
    return torch.scatter_reduce(x, axis, indices, updates, _REDUCTIONS[reduction])


def _scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    depth = indices.shape[-1]
    leading, rest = x.shape[:depth], x.shape[depth:]
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=x.device)
    for position, extent in enumerate(leading):
        flat = flat * extent + _from_front(indices[..., position], extent)
    rows = x.reshape(math.prod(leading), math.prod(rest))
    changes = updates.reshape(flat.numel(), math.prod(rest))
    places = flat.reshape(-1, 1).expand(changes.shape)
    return _scatter(rows, places, changes, reduction=reduction).reshape(x.shape)


def _tensor_scatter(
    x: Tensor, update: Tensor, starts: Tensor | None = None, *, axis: int = -2, mode: str = "linear"
) -> Tensor:
    axis, extent = positive(axis, x.ndim), x.shape[axis]
    positions = torch.arange(update.shape[axis], device=x.device)
    if starts is not None:
        positions = positions + starts.reshape(-1, 1)
    positions = (positions % extent if mode == "circular" else positions).expand(x.shape[0], -1)
    places = positions.reshape(x.shape[0], *(1,) * (axis - 1), -1, *(1,) * (x.ndim - axis - 1))
    return torch.scatter(x, axis, places.expand(update.shape), update)


def _nonzero(x: Tensor) -> Tensor:
    return torch.nonzero(x).T


def _compress(x: Tensor, condition: Tensor, *, axis: int | None = None) -> Tensor:
    kept = torch.nonzero(condition.reshape(-1)).reshape(-1)
    return x.reshape(-1)[kept] if axis is None else x.index_select(axis, kept)


def _one_hot(indices: Tensor, depth: Numbers, values: Tensor, *, axis: int = -1) -> Tensor:
    classes = int(scalar(depth))
    axis = positive(axis, indices.ndim + 1)
    numbers = torch.arange(classes, device=indices.device).reshape(-1, *(1,) * (indices.ndim - axis))
    return torch.where(_from_front(indices, classes).unsqueeze(axis) == numbers, values[1], values[0])


def _trilu(x: Tensor, k: Numbers | None = None, *, upper: int = 1) -> Tensor:
    diagonal = 0 if k is None else int(scalar(k))
    return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)


def _top_k(
    x: Tensor,
    count: Numbers | None = None,
    *,
    k: int | None = None,
    axis: int = -1,
    largest: int = 1,
    sorted: int = 1,  # ONNX's attribute name
) -> tuple[Tensor, Tensor]:
    del sorted  # sorted is one of the orders that unsorted allows
    wanted = k if count is None else int(scalar(count))
    values, indices = torch.sort(x, dim=axis, descending=bool(largest), stable=True)
    kept = along(positive(axis, x.ndim), slice(wanted))
    return values[kept], indices[kept]


def _arg(function: Any) -> Operator:
    def compute(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
        if not select_last_index:
            found: Tensor = function(x, axis, bool(keepdims))
            return found
        from_behind: Tensor = function(x.flip(axis), axis, bool(keepdims))
        return x.shape[axis] - 1 - from_behind

    return Operator(compute)


def _cumulative(function: Any, neutral: int) -> Operator:
    def compute(x: Tensor, axis: Numbers, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
        dim = positive(int(scalar(axis)), x.ndim)
        x = x.flip(dim) if reverse else x
        if exclusive:
            first = torch.full_like(x[along(dim, slice(1))], neutral)
            x = torch.cat([first, x[along(dim, slice(-1))]], dim)
        result: Tensor = function(x, dim, dtype=x.dtype)
        return result.flip(dim) if reverse else result

    return Operator(compute, numbers=(1,))


def _reverse_sequence(x: Tensor, lengths: Tensor, *, batch_axis: int = 1, time_axis: int = 0) -> Tensor:
    steps = torch.arange(x.shape[time_axis], device=x.device)
    sizes = lengths.reshape(-1, 1).to(x.device)
    order = torch.where(steps < sizes, sizes - 1 - steps, steps)
    order = order if batch_axis < time_axis else order.T
    places = order.reshape(*order.shape, *(1,) * (x.ndim - 2)).expand(x.shape)
    return torch.gather(x, time_axis, places)


def _unique(
    x: Tensor,
    *,
    axis: int | None = None,
    sorted: int = 1,  # ONNX's attribute name
) -> tuple[Tensor, ...]:
    values, inverse, counts = torch.unique(x, sorted=True, return_inverse=True, return_counts=True, dim=axis)
    flat = inverse.reshape(-1)
    first = torch.full_like(counts, flat.numel())
    first = first.scatter_reduce(0, flat, torch.arange(flat.numel(), device=x.device), "amin")
    if not sorted:
        order = torch.argsort(first)
        values = values.index_select(axis or 0, order)
        first, counts, flat = first[order], counts[order], torch.argsort(order)[flat]
    return values, first, flat, counts


def _suppress(
    boxes: Tensor,
    scores: Tensor,
    most: Numbers | None = None,
    overlap: Numbers | None = None,
    least: Numbers | None = None,
    *,
    center_point_box: int = 0,
) -> Tensor:
    limit = 0 if most is None else int(scalar(most))
    threshold = 0.0 if overlap is None else scalar(overlap)
    chosen: list[list[int]] = []
    for batch, classes in enumerate(scores):
        shared = _intersections_over_unions(_corners(boxes[batch], bool(center_point_box))).cpu()
        for label, ranks in enumerate(classes.cpu()):
            kept: list[int] = []
            for box in torch.argsort(ranks, descending=True, stable=True).tolist():
                if len(kept) == limit or (least is not None and ranks[box] <= scalar(least)):
                    break
                if not kept or bool((shared[box, kept] <= threshold).all()):
                    kept.append(box)
            chosen += [[batch, label, box] for box in kept]
    return torch.tensor(chosen, dtype=torch.int64, device=boxes.device).reshape(-1, 3)


def _corners(boxes: Tensor, centered: bool) -> Tensor:
    """Boxes as (y1, x1, y2, x2), the lower corner first."""
    if centered:
        x, y, width, height = boxes.unbind(-1)
        return torch.stack([y - height / 2, x - width / 2, y + height / 2, x + width / 2], -1)
    first, second = boxes[:, :2], boxes[:, 2:]
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], -1)


def _intersections_over_unions(corners: Tensor) -> Tensor:
    low = torch.maximum(corners[:, None, :2], corners[None, :, :2])
    high = torch.minimum(corners[:, None, 2:], corners[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = (corners[:, 2:] - corners[:, :2]).prod(-1)
    union = areas[:, None] + areas[None] - shared
    return torch.where(union > 0, shared / union, 0)


_REDUCTION = refuse_values(reduction=("none", *_REDUCTIONS))

OPERATORS: dict[str, Operator] = {
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "Compress": Operator(_compress),
    "CumProd": _cumulative(torch.cumprod, 1),
    "CumSum": _cumulative(torch.cumsum, 0),
    "Gather": Operator(_gather),
    "GatherElements": Operator(_gather_elements),
    "GatherND": Operator(_gather_nd),
    "NonMaxSuppression": Operator(_suppress, numbers=(2, 3, 4)),
    "NonZero": Operator(_nonzero),
    "OneHot": Operator(_one_hot, numbers=(1,)),
    "ReverseSequence": Operator(_reverse_sequence),
    "Scatter": Operator(_scatter),
    "ScatterElements": Operator(_scatter, refuse=_REDUCTION),
    "ScatterND": Operator(_scatter_nd, refuse=_REDUCTION),
    "TensorScatter": Operator(_tensor_scatter, refuse=refuse_values(mode=("linear", "circular"))),
    "TopK": Operator(_top_k, numbers=(1,)),
    "Trilu": Operator(_trilu, numbers=(1,)),
    "Unique": Operator(_unique),
}
