"""Bounds for operators that sample images: places are float32 whatever the image is, and have an error."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deepstruct.verification.bounds_arithmetic import Ball
from deepstruct.verification.bounds_case import Case, Exact, Rule

_PLACE = 2.0**-24
_ROUNDINGS = 8.0
_SLOPES = {"linear": 1.0, "bilinear": 1.0, "cubic": 4.0, "bicubic": 4.0}


def _resize(case: Case) -> list[Ball | Exact | None]:
    """Resize and Upsample: the error of a place times the slope of the image; ties of the nearest are open."""
    mode = str(case.attribute("mode", "nearest"))
    if case.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return [None]
    (value,) = case.evaluate()
    if mode == "nearest":
        return [_nearest(case, value)]
    if not case.is_float:
        return [None]
    return [_smooth(case, value, tuple(range(value.ndim)), _SLOPES[mode])]


def _smooth(case: Case, value: Tensor, axes: tuple[int, ...], steepness: float) -> Ball:
    """An image between its numbers: roundings of a few products, and errors of places along the axes."""
    x = case.tensor(0)
    inner = tuple(range(2, x.ndim))
    most = x.abs().amax(inner, keepdim=True)
    places = sum(x.shape[axis] + value.shape[axis] for axis in axes if x.shape[axis] > 1)
    precision = max(_PLACE, case.arithmetic.unit)
    error = 2 * steepness * _ROUNDINGS * (_PLACE * places + precision * 2 ** len(inner)) * most
    return case.arithmetic.made(
        value, error.expand_as(value) + 2 ** (len(inner) + 2) * case.arithmetic.least, 4 * steepness * most
    )


def _nearest(case: Case, value: Tensor) -> Ball | Exact:
    """Exact but for places so near to where the choice changes that their error decides; powers of 2 are exact."""
    x = case.tensor(0)
    factors = [new / old for new, old in zip(value.shape, x.shape, strict=True)]
    given = (
        case.tensors[-1 if case.node.op_type == "Upsample" or case.opset < 11 else 2] if len(case.tensors) > 1 else None
    )
    if given is not None and given.is_floating_point() and given.numel() == x.ndim:
        factors = given.tolist()
    if case.attribute("coordinate_transformation_mode", "half_pixel") != "align_corners" and all(
        math.frexp(factor)[0] == 0.5 for factor in factors
    ):
        return Exact()
    is_open = torch.zeros_like(value, dtype=torch.bool)
    linear = case.with_attributes({**case.node.attributes, "mode": "linear"})
    middle = 0.5 if str(case.attribute("nearest_mode", "round_prefer_floor")).startswith("round") else 0.0
    middle = middle if case.opset >= 11 and case.node.op_type == "Resize" else 0.0
    for axis, extent in enumerate(x.shape):
        ramp = torch.arange(extent, dtype=torch.float64).reshape(-1, *(1,) * (x.ndim - axis - 1))
        (places,) = linear.evaluate({0: ramp.expand(x.shape)})
        distance = (places - middle - (places - middle).round()).abs()
        is_inside = (places > 0) & (places < extent - 1)
        is_open |= is_inside & (distance <= _ROUNDINGS * _PLACE * (extent + value.shape[axis])) & (extent > 1)
    return Ball(value.double(), torch.where(is_open, math.inf, 0.0).double())


def _grid_sample(case: Case) -> list[Ball | None]:
    mode = str(case.attribute("mode", "linear"))
    if mode == "nearest":
        return [None]
    (value,) = case.evaluate()
    x = case.tensor(0)
    ball = _smooth(case, value, tuple(range(2, x.ndim)), _SLOPES[mode])
    coarseness = case.arithmetic.unit / _PLACE
    return [Ball(ball.value, ball.radius * max(coarseness, 1.0))]


RULES: dict[str, Rule] = {"GridSample": _grid_sample, "Resize": _resize, "Upsample": _resize}
