"""The size ledger of an ONNX file: bytes of each tensor as it is stored, and as it could be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deepstruct.converters import onnx_encodings
from deepstruct.converters.onnx_reading import read_tensors
from deepstruct.ledger import LedgerEntry
from deepstruct.options import ReadOptions


def ledger(path: Path, options: ReadOptions) -> tuple[LedgerEntry, ...]:
    """One entry for each parameter; zeros of matrices and higher tensors count as masked.

    Raises:
        DeepstructError: the file cannot be read, as `read` would say.
    """
    model, stored = read_tensors(path, replace(options, infer_masks=True), [])
    opset = model.structure.opset.get("", 0)
    entries = []
    for parameter in model.structure.parameters:
        sizes = onnx_encodings.measure(parameter, opset)
        encoding, size = stored[parameter.name]
        entries.append(
            LedgerEntry(
                name=parameter.name,
                dtype=parameter.dtype,
                shape=parameter.shape,
                nnz=parameter.nnz,
                encoding=encoding,
                bytes=size,
                by_encoding={name: sizes.of(name) for name in ("dense", "coo", "constant", "packed")},
            )
        )
    return tuple(entries)
