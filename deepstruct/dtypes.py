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
    "complex64": "C64",
    "complex128": None,
    "string": None,
}
DTYPES = frozenset(SAFETENSORS_NAMES)


def to_numpy(name: str) -> np.dtype[Any]:
    """The little-endian numpy dtype of the document dtype `name`.

    Raises:
        KeyError: `name` is not one of `DTYPES`, or is ``string``, which has no fixed size.
    """
    if name not in DTYPES or name == "string":
        raise KeyError(name)
    if name == "bfloat16" or name.startswith("float8"):
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
