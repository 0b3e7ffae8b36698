"""Streaming of protocol buffer messages: parts of a large message are written one after the other.

The wire format is https://protobuf.dev/programming-guides/encoding/; the onnx package's classes hold whole messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any

from numpy.typing import NDArray
from onnx import TensorProto

from deepstruct.converters import onnx_tensors
from deepstruct.mask import Mask, count
from deepstruct.structure import Parameter

GRAPH = 7
"""Field of ModelProto."""

NODE = 1
"""Field of GraphProto, as the following."""

INITIALIZER = 5
SPARSE_INITIALIZER = 15

_RAW_DATA = 9  # of TensorProto
_ALIGNMENT = 4096  # offsets of external data, so that they can be mapped into memory (onnx.proto, external_data)
_EXTERNAL_FROM = 1024  # bytes; what is smaller stays in the model


class Stream:
    """An ONNX file that is written front to back, and the file with its external data, if there is one.

    Args:
        file: gets the model.
        open_data: opens the file that gets what is large, or None for a model of one file.
        location: name of that file, as the model refers to it.
    """

    def __init__(self, file: IO[bytes], open_data: Callable[[], IO[bytes]] | None, location: str) -> None:
        self.file = file
        self._open_data = open_data
        self._data: IO[bytes] | None = None
        self._location = location

    def write(self, field: int, message: Any) -> None:
        """Writes one field of the message that is being written."""
        content = message.SerializeToString(deterministic=True)
        self.file.write(_key(field) + _varint(len(content)) + content)

    def write_dense(self, field: int, parameter: Parameter, array: NDArray[Any]) -> None:
        """Writes a dense tensor without a copy of its numbers."""
        head = onnx_tensors.head(parameter.name, parameter.dtype, parameter.shape)
        raw = onnx_tensors.raw_data(parameter.dtype, array)
        if self._is_external(len(raw)):
            self.write(field, self._external(head, raw))
            return
        start = head.SerializeToString(deterministic=True) + _key(_RAW_DATA) + _varint(len(raw))
        self.file.write(_key(field) + _varint(len(start) + len(raw)) + start)
        self.file.write(raw)

    def placed(self, tensor: TensorProto) -> TensorProto:
        """The tensor, or if it is large and there is a file for that, a reference to its numbers there."""
        if not self._is_external(len(tensor.raw_data)):
            return tensor
        head = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        return self._external(head, memoryview(tensor.raw_data))

    def _is_external(self, size: int) -> bool:
        return self._open_data is not None and size >= _EXTERNAL_FROM

    def _external(self, head: TensorProto, raw: memoryview) -> TensorProto:
        if self._data is None:
            assert self._open_data is not None
            self._data = self._open_data()
        offset = self._data.tell()
        offset += -offset % _ALIGNMENT
        self._data.seek(offset)
        self._data.write(raw)
        head.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self._location), ("offset", str(offset)), ("length", str(len(raw)))):
            head.external_data.add(key=key, value=value)
        return head

    def begin(self, field: int) -> int:
        """Opens a field whose length is not known yet; returns where its content begins."""
        self.file.write(_key(field) + b"\0" * 5)
        return self.file.tell()

    def end(self, start: int) -> int:
        """Closes the field and returns the size of the file so far.

        The length becomes a varint padded to 5 bytes, which every decoder reads.
        """
        end = self.file.tell()
        septets = [((end - start) >> (7 * i)) & 0x7F for i in range(5)]
        self.file.seek(start - 5)
        self.file.write(bytes(septet | (0x80 if i < 4 else 0) for i, septet in enumerate(septets)))
        self.file.seek(end)
        return end


def varint_bytes(mask: Mask) -> int:
    """Bytes that the flat indices of a mask take as varints, each of which holds 7 bits."""
    total, bits = mask.nnz, 7
    while 1 << bits < mask.size:
        total += mask.nnz - count(mask.packed[: 1 << bits - 3])
        bits += 7
    return total


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _key(field: int) -> bytes:
    """Key of a length-delimited field."""
    return _varint(field << 3 | 2)
