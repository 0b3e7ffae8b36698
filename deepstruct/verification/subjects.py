"""The files that a model consists of, and their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from deepstruct import document, files
from deepstruct.formats import Format
from deepstruct.model import Model
from deepstruct.verification.certificate import FileDigest, Subject


def subject(path: Path, row: Format, model: Model | None = None) -> Subject:
    """The digests of a model's files.

    Args:
        path: of the file that is named.
        row: its format.
        model: what was read from it.

    Raises:
        FileError: a file cannot be read.
    """
    digests = tuple(digest_of(place) for place in (path, *_companions(path, row)))
    return Subject(row.name, digests, document.digest(model.structure) if model is not None else "")


def digest_of(path: Path) -> FileDigest:
    """The digest of one file.

    Raises:
        UnreadableFileError: it cannot be read.
    """
    with files.reading(path), path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256")
        return FileDigest(path.name, file.tell(), content.hexdigest())


def _companions(path: Path, row: Format) -> Iterator[Path]:
    """The files that a file refers to."""
    if row.name == "json":
        from deepstruct.converters import json

        uri = json.weights_uri(path)
        if uri is not None:
            yield files.beside(path, uri, "weights.uri")
    elif row.name == "onnx":
        from deepstruct.converters import onnx_external

        for location in onnx_external.locations(path):
            yield files.beside(path, location, "external data")
