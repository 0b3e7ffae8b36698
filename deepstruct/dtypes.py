"""Element types: the names used in documents, and what numpy and safetensors call them."""

from __future__ import annotations

from typing import Any

import numpy as np

# name in documents (numpy's and torch's name) -> name in safetensors, or None where it has none
SAFETENSORS_NAMES: dict[str, str | None] = {
    "bool": "BOOL",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "int4": "U8",
    "uint4": "U8",
    "int2": "U8",
    "uint2": "U8",
    "float4_e2m1fn": "U8",
    "float6_e2m3fn": "U8",
    "float6_e3m2fn": "U8",
    "complex64": "C64",
    "complex128": "F64",
    "string": None,
}
DTYPES = frozenset(SAFETENSORS_NAMES)

BITS = {
    **{"bool": 1, "int2": 2, "uint2": 2, "int4": 4, "uint4": 4},
    **{"float4_e2m1fn": 4, "float6_e2m3fn": 6, "float6_e3m2fn": 6},
}
"""Dtypes of less than 8 bits -> low bits of the byte that each entry takes; the others are 0."""

NARROW = frozenset(BITS) - {"bool"}
"""Those of them that numpy and torch lack, and that ONNX packs."""


def to_numpy(name: str) -> np.dtype[Any]:
    """The little-endian numpy dtype of the document dtype `name`.

    Raises:
        KeyError: `name` is not one of `DTYPES`, or is ``string``, which has no fixed size.
    """
    if name not in DTYPES or name == "string":
        raise KeyError(name)
    if name == "bfloat16" or name.startswith("float8") or name in NARROW:
        import ml_dtypes

        extended: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return extended
    return np.dtype(name).newbyteorder("<")


def from_numpy(dtype: np.dtype[Any]) -> str:
    """The document's name of a numpy dtype.

    Raises:
        KeyError: the dtype has no name in documents.
    """
    name = "string" if dtype.kind in "UO" else dtype.name
    if name not in DTYPES:
        raise KeyError(name)
    return name


def integers(name: str) -> range:
    """The integers that an integer dtype holds."""
    bits = int(name.lstrip("uint"))
    return range(2**bits) if name.startswith("u") else range(-(2 ** (bits - 1)), 2 ** (bits - 1))
