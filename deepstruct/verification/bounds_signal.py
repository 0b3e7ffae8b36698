"""Bounds for Fourier transforms and window functions."""

from __future__ import annotations

import torch
from torch import Tensor

from deepstruct.verification.bounds_arithmetic import Ball
from deepstruct.verification.bounds_case import Case, Rule

_FLOAT32 = 2.0**-24
_ANGLES = 16
"""Roundings of each term for every entry of a signal: angles grow with the entry, and so does their error."""


def _transformed(case: Case, value: Tensor, magnitude: Tensor, count: int) -> Ball:
    """A discrete Fourier transform, maybe as plain sums: each entry is at most the sum of all absolute values."""
    unit = max(case.arithmetic.unit, _FLOAT32)
    error = _ANGLES * (count + 1) * unit * magnitude.expand_as(value) + count * case.arithmetic.least
    return case.arithmetic.made(value, error, count * magnitude.expand_as(value))


def _fourier(case: Case) -> list[Ball]:
    x, is_inverse = case.tensor(0), bool(case.attribute("inverse", 0))
    (value,) = case.evaluate()
    axis = int(case.attribute("axis", 1)) if case.opset < 20 else int(case.tensor(2)) if case.has(2) else -2
    count = int(case.tensor(1)) if case.has(1) else x.shape[axis]
    magnitude = x.abs().sum(-1, keepdim=True).sum(axis, keepdim=True)
    return [_transformed(case, value, magnitude * 2 / count if is_inverse else magnitude, count)]


def _short_time(case: Case) -> list[Ball]:
    signal = case.tensor(0).abs().sum(-1)
    (value,) = case.evaluate()
    given = case.tensor(3) if case.has(3) else None
    window = case.tensor(2).abs() if case.has(2) else None
    size = int(given) if given is not None else signal.shape[1] if window is None else len(window)
    frames = signal.unfold(1, size, int(case.tensor(1)))
    magnitude = (frames if window is None else frames * window).sum(-1)
    return [_transformed(case, value, magnitude[..., None, None], size)]


def _window(case: Case) -> list[Ball]:
    """A sum of cosines of angles of at most four pi, computed in float32 or better."""
    (value,) = case.with_attributes({**case.node.attributes, "output_datatype": 11}).evaluate()
    unit = max(case.arithmetic.unit, _FLOAT32)
    return [Ball(value, torch.full_like(value, 64 * unit))]


RULES: dict[str, Rule] = {
    "BlackmanWindow": _window,
    "DFT": _fourier,
    "HammingWindow": _window,
    "HannWindow": _window,
    "STFT": _short_time,
}
