"""ONNX models <-> Model: masked weights as sparse initializers, whose entries are exactly the mask.

What ONNX has no field for goes into ``metadata_props`` (`onnx_keys`).
"""

from __future__ import annotations

from deepstruct.converters.onnx_reading import read
from deepstruct.converters.onnx_writing import write

__all__ = ["read", "write"]
