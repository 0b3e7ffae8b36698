"""Inputs and outputs of cases as plain values - arrays, lists of them, None - and how two of them compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from onnx import OptionalProto, SequenceProto, TensorProto, TypeProto, numpy_helper

Value = NDArray[Any] | list[Any] | None

_COARSE = 2**-6
"""Two units in the last place of bfloat16, the tolerance that ONNX's own runner gives it."""


def plain(value: Any) -> Value:
    """A value as the test data of ONNX hold it, without protocol buffers and numpy scalars."""
    if value is None:
        return None
    if isinstance(value, list):
        return [plain(item) for item in value]
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def stored(path: Path, kind: TypeProto) -> Value:
    """The value in a file of test data."""
    content = path.read_bytes()
    if kind.HasField("sequence_type"):
        return plain(numpy_helper.to_list(SequenceProto.FromString(content)))
    if kind.HasField("optional_type"):
        return plain(numpy_helper.to_optional(OptionalProto.FromString(content)))
    return plain(TensorProto.FromString(content))


def same(ours: Value, theirs: Value) -> bool:
    """Whether two values have the same type, shape and bits."""
    if ours is None or theirs is None:
        return ours is theirs
    if isinstance(ours, list) or isinstance(theirs, list):
        return isinstance(ours, list) and isinstance(theirs, list) and all_same(ours, theirs)
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return False
    if ours.dtype == object:
        return bool(ours.tolist() == theirs.tolist())
    return ours.tobytes() == theirs.tobytes()


def all_same(ours: Sequence[Value], theirs: Sequence[Value]) -> bool:
    return len(ours) == len(theirs) and all(map(same, ours, theirs))


def close(ours: Value, theirs: Value, rtol: float, atol: float) -> bool:
    """Whether two values have the same type and shape and the numbers of one are those of the other, roughly."""
    if ours is None or theirs is None:
        return ours is theirs
    if isinstance(ours, list) or isinstance(theirs, list):
        return isinstance(ours, list) and isinstance(theirs, list) and all_close(ours, theirs, rtol, atol)
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return False
    if ours.dtype == object:
        return bool(ours.tolist() == theirs.tolist())
    if ours.dtype == ml_dtypes.bfloat16:
        rtol = max(rtol, _COARSE)
    if ours.dtype.kind not in "biufc":
        ours, theirs = ours.astype(np.float32), theirs.astype(np.float32)
    return bool(np.allclose(ours, theirs, rtol=rtol, atol=atol, equal_nan=ours.dtype.kind in "fc"))


def all_close(ours: Sequence[Value], theirs: Sequence[Value], rtol: float, atol: float) -> bool:
    return len(ours) == len(theirs) and all(close(a, b, rtol, atol) for a, b in zip(ours, theirs, strict=True))


def alike(ours: Value, theirs: Value) -> bool:
    """Whether two values have the same type and shape, whatever their numbers are."""
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(alike, ours, theirs))
    if isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray):
        return ours.dtype == theirs.dtype and ours.shape == theirs.shape
    return ours is None and theirs is None
