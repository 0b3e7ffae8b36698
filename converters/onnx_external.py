"""The further files in which an ONNX file keeps tensors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import Message
from onnx import TensorProto

from deepstruct.converters import onnx_reading


def locations(path: Path) -> tuple[str, ...]:
    """Names of the files with external data, relative to the file that refers to them, in the order of their use.

    Raises:
        MalformedFileError: it is no ONNX file.
    """
    return tuple(dict.fromkeys(_locations(onnx_reading.parse(path))))


def _locations(message: Message) -> Iterator[str]:
    if isinstance(message, TensorProto):
        if message.data_location == TensorProto.EXTERNAL:
            yield from (entry.value for entry in message.external_data if entry.key == "location")
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for item in value if not isinstance(value, Message) else [value]:
                yield from _locations(item)
