"""Operators that sample images: Resize, Upsample, GridSample, AffineGrid and RoiAlign."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from deepstruct.converters.torch_operators_entry import Numbers, Operator, integers, positive, refuse_values
from deepstruct.structure import Node, Structure

Floats = Sequence[float]

_COORDINATES = (
    *("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"),
    *("tf_crop_and_resize", "tf_half_pixel_for_nn"),
)
_NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@dataclass(frozen=True)
class _Axis:
    """One axis to resize: its extents, its scale as a fraction, and its region of interest."""

    axis: int
    source: int
    target: int
    scale: tuple[float, float]
    roi: tuple[float, float]

    def scaled_back(self, position: Tensor) -> Tensor:
        """Positions divided by the scale; that of two extents is exact, a given one a float32."""
        numerator, denominator = self.scale
        return position / numerator if denominator == 1.0 else position.double() * denominator / numerator


def _resize(
    x: Tensor,
    roi: Floats | None = None,
    scales: Floats | None = None,
    sizes: Floats | None = None,
    *,
    mode: str = "nearest",
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    keep_aspect_ratio_policy: str = "stretch",
    extrapolation_value: float = 0.0,
    antialias: int = 0,
    exclude_outside: int = 0,
    nearest_mode: str = "round_prefer_floor",
    cubic_coeff_a: float = -0.75,
) -> Tensor:
    chosen = list(range(x.ndim)) if axes is None else [positive(axis, x.ndim) for axis in axes]
    plans = _plans(x, chosen, roi, scales, sizes, keep_aspect_ratio_policy)
    crops = coordinate_transformation_mode == "tf_crop_and_resize"
    dtype = x.dtype
    x = x if mode == "nearest" or x.is_floating_point() else x.float()
    outside: list[tuple[_Axis, Tensor]] = []
    for plan in plans:
        if plan.source == plan.target and plan.scale[0] == plan.scale[1] and not crops:
            continue
        places = _places(plan, coordinate_transformation_mode).to(x.device)
        if mode == "nearest":
            x = x.index_select(plan.axis, _nearest(places, nearest_mode).clamp(0, plan.source - 1))
        else:
            stretch = max(1.0, plan.scale[1] / plan.scale[0]) if antialias else 1.0
            weights = _weights(places, plan.source, mode, stretch, cubic_coeff_a, bool(exclude_outside))
            x = _mix(x, plan.axis, *weights)
        outside.append((plan, (places < 0) | (places > plan.source - 1)))
    x = x if x.dtype == dtype else x.round().to(dtype)
    for plan, beyond in outside if crops else ():
        x = torch.where(beyond.reshape(-1, *(1,) * (x.ndim - plan.axis - 1)), extrapolation_value, x)
    return x


def _plans(
    x: Tensor, axes: list[int], roi: Floats | None, scales: Floats | None, sizes: Floats | None, policy: str
) -> list[_Axis]:
    """What to do with each axis, from the scales or the sizes."""
    sources = [x.shape[axis] for axis in axes]
    if scales:
        factors = torch.tensor(scales, dtype=torch.float32, device="cpu")
        targets = [int(t) for t in torch.floor(torch.tensor(sources, dtype=torch.float32, device="cpu") * factors)]
        ratios: list[tuple[float, float]] = [(factor, 1.0) for factor in factors.tolist()]
    else:
        targets = integers(sizes) or []
        ratios = [(float(target), float(source)) for target, source in zip(targets, sources, strict=True)]
        if policy != "stretch":
            choose = min if policy == "not_larger" else max
            ratio = choose(ratios, key=lambda pair: pair[0] / pair[1])
            ratios = [ratio] * len(axes)
            targets = [math.floor(ratio[0] * source / ratio[1] + 0.5) for source in sources]
    regions = list(roi) if roi else [0.0] * len(axes) + [1.0] * len(axes)
    bounds = zip(regions[: len(axes)], regions[len(axes) :], strict=True)
    return [_Axis(*plan) for plan in zip(axes, sources, targets, ratios, bounds, strict=True)]


def _places(plan: _Axis, mode: str) -> Tensor:
    """Where each output lies on the input's axis."""
    position = torch.arange(plan.target, dtype=torch.float32, device="cpu")
    if mode == "align_corners":
        return position * (plan.source - 1) / (plan.target - 1) if plan.target > 1 else position * 0
    if mode == "asymmetric":
        return plan.scaled_back(position)
    if mode == "tf_half_pixel_for_nn":
        return plan.scaled_back(position + 0.5)
    if mode == "tf_crop_and_resize":
        start, end = plan.roi
        if plan.target > 1:
            return start * (plan.source - 1) + position * (end - start) * (plan.source - 1) / (plan.target - 1)
        return position * 0 + 0.5 * (start + end) * (plan.source - 1)
    if mode == "pytorch_half_pixel" and plan.target <= 1:
        return position * 0
    places = plan.scaled_back(position + 0.5) - 0.5
    if mode == "half_pixel_symmetric":
        return places + plan.source / 2 * (1 - plan.target * plan.scale[1] / (plan.scale[0] * plan.source))
    return places


def _nearest(places: Tensor, mode: str) -> Tensor:
    if mode == "floor":
        return places.floor().long()
    if mode == "ceil":
        return places.ceil().long()
    return (places - 0.5).ceil().long() if mode == "round_prefer_floor" else (places + 0.5).floor().long()


def _weights(
    places: Tensor, extent: int, mode: str, stretch: float, a: float, exclude_outside: bool
) -> tuple[Tensor, Tensor]:
    """Entries that each output mixes and their weights, both (outputs, taps)."""
    reach = (1.0 if mode == "linear" else 2.0) * stretch
    taps = 2 * math.ceil(reach)
    first = (places - reach).floor() + 1 if stretch > 1 else places.floor() - (taps // 2 - 1)
    indices = first[:, None] + torch.arange(taps, device=places.device)
    distance = ((indices - places[:, None]) / stretch).abs()
    weights = (1 - distance).clamp(min=0) if mode == "linear" else _cubic(distance, a)
    if exclude_outside:
        weights = torch.where((indices < 0) | (indices > extent - 1), 0, weights)
    if exclude_outside or stretch > 1:
        weights = weights / weights.sum(1, keepdim=True)
    return indices.clamp(0, extent - 1).long(), weights


def _cubic(distance: Tensor, a: float) -> Tensor:
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0))


def _mix(x: Tensor, axis: int, indices: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of a few entries along an axis, for each output."""
    shape = (-1, *(1,) * (x.ndim - axis - 1))
    weights = weights.to(x.dtype)
    parts = [x.index_select(axis, indices[:, tap]) * weights[:, tap].reshape(shape) for tap in range(indices.shape[1])]
    return torch.stack(parts).sum(0) if len(parts) > 4 else sum(parts[1:], parts[0])


def _resize_before_11(x: Tensor, scales: Floats, *, mode: str = "nearest") -> Tensor:
    return _resize(x, None, scales, mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor")


def _upsample(
    x: Tensor, factors: Floats | None = None, *, mode: str = "nearest", scales: Sequence[float] | None = None
) -> Tensor:
    return _resize_before_11(x, factors or scales or (), mode=mode)


def _refuse_resize(node: Node, _: Structure) -> str | None:
    values = refuse_values(
        mode=("nearest", "linear", "cubic"),
        coordinate_transformation_mode=("half_pixel", *_COORDINATES),
        nearest_mode=_NEAREST,
        keep_aspect_ratio_policy=("stretch", "not_larger", "not_smaller"),
    )
    return values(node, _)


def _grid_sample(
    x: Tensor, grid: Tensor, *, mode: str = "linear", padding_mode: str = "zeros", align_corners: int = 0
) -> Tensor:
    name = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return F.grid_sample(x, grid.to(x.dtype), name, padding_mode, bool(align_corners))


def _affine_grid(theta: Tensor, size: Numbers, *, align_corners: int = 0) -> Tensor:
    return F.affine_grid(theta, integers(size) or [], bool(align_corners))


OPERATORS: dict[str, Operator] = {
    "AffineGrid": Operator(_affine_grid, numbers=(1,)),
    "GridSample": Operator(
        _grid_sample,
        "cubic for two spatial dimensions only",
        refuse_values(
            mode=("linear", "bilinear", "nearest", "cubic", "bicubic"),
            padding_mode=("zeros", "border", "reflection"),
        ),
    ),
    "Resize": Operator(_resize, refuse=_refuse_resize, before={11: _resize_before_11}, numbers=(1, 2, 3)),
    "Upsample": Operator(_upsample, refuse=_refuse_resize, numbers=(1,)),
}
