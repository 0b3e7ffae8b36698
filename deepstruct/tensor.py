"""Tensor: a small constant that is part of the structure, such as a shape, an axis or an index list."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepstruct import dtypes
from deepstruct.errors import Fault, StructureError
from deepstruct.frozen import freeze, strict_key
from deepstruct.mask import check_shape

MAX_ELEMENTS = 1024
MAX_STRINGS = 2**20
"""Strings cannot be a parameter, so that a constant may have more of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """An immutable constant of at most `MAX_ELEMENTS` elements, or `MAX_STRINGS` strings.

    Attributes:
        dtype: one of `deepstruct.dtypes.DTYPES`, complex types excluded; elements are rounded to it.
        shape: extents.
        data: elements in row-major order, as bool, int, float or str.
    """

    dtype: str
    shape: tuple[int, ...]
    data: tuple[bool | int | float | str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", check_shape(self.shape))
        object.__setattr__(self, "data", tuple(self.data))
        if self.dtype not in dtypes.DTYPES or self.dtype.startswith("complex"):
            raise self._error("UNKNOWN_DTYPE", "/dtype", f"a constant cannot have dtype {self.dtype!r:.40}")
        most = MAX_STRINGS if self.dtype == "string" else MAX_ELEMENTS
        if math.prod(self.shape) != len(self.data) or len(self.data) > most:
            message = f"{len(self.data)} elements for shape {list(self.shape)} (at most {most} are allowed)"
            raise self._error("SHAPE_MISMATCH", "/data", message)
        element = _element_type(self.dtype)
        if not all(type(item) is element for item in self.data):
            raise self._error("TYPE_MISMATCH", "/data", f"elements of {self.dtype} are {element.__name__}")
        if element is str:
            try:
                freeze(self.data)
            except TypeError as error:
                raise self._error("INVALID_VALUE", "/data", str(error)) from error
        if element is int:
            allowed = dtypes.integers(self.dtype)
            if any(item not in allowed for item in self.data):
                raise self._error("INVALID_VALUE", "/data", f"an element does not fit into {self.dtype}")
        if element is float:
            exact = np.array(self.data, dtype=np.float64)
            with np.errstate(over="ignore"):
                rounded = _to_odd(exact, self.dtype).astype(dtypes.to_numpy(self.dtype)).astype(np.float64)
            if (np.isnan(rounded) != np.isnan(exact)).any() or (np.isinf(rounded) != np.isinf(exact)).any():
                raise self._error("INVALID_VALUE", "/data", f"an element does not fit into {self.dtype}")
            object.__setattr__(self, "data", tuple(rounded.tolist()))

    @classmethod
    def from_array(cls, array: NDArray[Any]) -> Tensor:
        """The constant with the elements of a numpy array.

        Raises:
            StructureError: the dtype has no name in documents, or there are too many elements.
        """
        array = np.asarray(array)
        if array.dtype == np.object_ and not all(isinstance(item, (str, bytes)) for item in array.reshape(-1)):
            raise StructureError("tensor", [Fault("UNKNOWN_DTYPE", "/dtype", "objects other than strings")])
        try:
            dtype = dtypes.from_numpy(array.dtype)
        except KeyError:
            raise StructureError(
                "tensor", [Fault("UNKNOWN_DTYPE", "/dtype", f"no document dtype for {array.dtype}")]
            ) from None
        flat = array.reshape(-1)
        items = [_to_text(item) for item in flat] if dtype == "string" else _widen(flat, dtype).tolist()
        return cls(dtype, array.shape, tuple(items))

    def to_array(self) -> NDArray[Any]:
        """The elements as a fresh numpy array of `shape`; strings have dtype object."""
        dtype = np.dtype(object) if self.dtype == "string" else dtypes.to_numpy(self.dtype)
        return np.array(self.data, dtype=dtype).reshape(self.shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tensor) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> Any:
        return (self.dtype, self.shape, strict_key(self.data))

    @staticmethod
    def _error(code: str, pointer: str, message: str) -> StructureError:
        return StructureError("tensor", [Fault(code, pointer, message)])


def _to_odd(exact: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    """Float64 ``[n]`` for a cast to `dtype` that goes by way of float32, so that it rounds but once.

    What is no float32 becomes that of its two neighbours whose last bit is 1 (rounding to odd, Boldo & Melquiond 2008),
    which the next rounding takes to neither side wrongly. float8_e8m0fnu has a rounding of its own.
    """
    if dtype in ("float64", "float32", "float8_e8m0fnu"):
        return exact
    near = exact.astype(np.float32)
    truncated = np.where(np.abs(near.astype(np.float64)) > np.abs(exact), np.nextafter(near, np.float32(0)), near)
    inexact = np.isfinite(exact) & (truncated.astype(np.float64) != exact)
    odd: NDArray[np.float32] = (truncated.view(np.uint32) | inexact.astype(np.uint32)).view(np.float32)
    return odd


def _element_type(dtype: str) -> type:
    if dtype in ("bool", "string"):
        return {"bool": bool, "string": str}[dtype]
    return int if "int" in dtype else float


def _widen(flat: NDArray[Any], dtype: str) -> NDArray[Any]:
    return flat.astype(np.float64) if _element_type(dtype) is float else flat


def _to_text(item: Any) -> str:
    return item.decode("utf-8") if isinstance(item, bytes) else str(item)
