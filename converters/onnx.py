"""ONNX models <-> Model: masked weights in the smallest encoding that a runtime understands.

What ONNX has no field for goes into ``metadata_props`` (`onnx_keys`).
"""

from __future__ import annotations

from deepstruct.converters.onnx_ledger import ledger
from deepstruct.converters.onnx_reading import read
from deepstruct.converters.onnx_writing import write

__all__ = ["ledger", "read", "write"]
