"""Digests of weights that do not depend on the order of their entries: what is likely to correspond to what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepstruct.model import Weights

_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio (Knuth, section 6.4)
_SHIFT = np.uint64(29)


def fingerprints(weights: Weights) -> tuple[Mapping[str, bytes], frozenset[str]]:
    """Parameter -> digest of its dtype and its numbers other than 0; and the parameters that have none."""
    digests, zeros = {}, set()
    for name in weights:
        kept = weights.kept(name)
        numbers = kept[kept != 0]
        if not numbers.size:
            zeros.add(name)
        digests[name] = f"{kept.dtype.name} {numbers.size} ".encode() + _mixed(numbers)
    return digests, frozenset(zeros)


def _mixed(numbers: NDArray[Any]) -> bytes:
    """The sum of hashes of all numbers."""
    parts = np.ascontiguousarray(numbers).view(np.uint8).reshape(numbers.size, numbers.dtype.itemsize)
    total = np.zeros(1, np.uint64)
    for start in range(0, parts.shape[1], 8):
        piece = np.zeros((numbers.size, 8), np.uint8)
        piece[:, : parts.shape[1] - start] = parts[:, start : start + 8]
        words = piece.view(np.uint64).reshape(-1)
        with np.errstate(over="ignore"):
            words = (words ^ (words >> _SHIFT)) * _FACTOR
            total = total * _FACTOR + ((words ^ (words >> _SHIFT)) * _FACTOR).sum(dtype=np.uint64)
    return total.tobytes()
