"""Validate a document file: JSON, schema, structure, masks and weights; every fault at once, each with its place."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepstruct import document, files, jsonprofile, schemas, sidecar
from deepstruct.errors import Fault, FaultyError, MalformedFileError, UnreadableFileError, pointer
from deepstruct.limits import Limits

if TYPE_CHECKING:
    from jsonschema import ValidationError

_CODES = {
    "required": "MISSING_PROPERTY",
    "type": "TYPE_MISMATCH",
    "additionalProperties": "UNEXPECTED_PROPERTY",
}


@dataclass(frozen=True, slots=True)
class Validation:
    """What was found in one file.

    Attributes:
        path: the file, ``-`` for standard input.
        faults: errors and warnings, in the order of the document where that is known.
    """

    path: str
    faults: tuple[Fault, ...]

    @property
    def valid(self) -> bool:
        """Whether there is no error."""
        return all(fault.severity != "error" for fault in self.faults)


def validate(path: Path, *, weights: bool = True, strict: bool = False, limits: Limits | None = None) -> Validation:
    """Everything that is wrong with a document and, unless told otherwise, with its weights file.

    Args:
        path: of the document.
        weights: check the weights file too.
        strict: allow no members that the schema does not name.
        limits: bounds on what the file may claim.

    Raises:
        UnreadableFileError: the operating system does not let us read the document.
    """
    limits = limits or Limits.from_environment()
    try:
        value = jsonprofile.read(path, limits)
        found = _schema_faults(value, strict)
        if any(fault.severity == "error" for fault in found):
            return Validation(str(path), tuple(found))
        reading = document.from_json(value, limits)
    except FaultyError as error:
        return Validation(str(path), error.faults)
    found += [fault for fault in reading.warnings if fault not in found]
    if weights and reading.weights is not None:
        try:
            place = files.beside(path, reading.weights.uri, "weights.uri")
            sidecar.read(place, reading.structure, reading.weights.layout, reading.weights.digest)
        except UnreadableFileError as error:
            found.append(Fault("WEIGHTS_MISSING", "/weights/uri", f"{error}; --no-weights leaves them out"))
        except MalformedFileError as error:
            found.append(Fault("WEIGHTS_MISMATCH", "/weights", str(error)))
    return Validation(str(path), tuple(found))


def _schema_faults(value: Any, strict: bool) -> list[Fault]:
    import jsonschema

    head = document.check_head(value)
    if any(fault.severity == "error" for fault in head):
        return head
    schema = schemas.structure_schema(strict=strict)
    validator = jsonschema.Draft7Validator(schema)
    errors = sorted(validator.iter_errors(value), key=lambda error: [str(part) for part in error.absolute_path])
    return [*head, *(fault for error in errors for fault in _leaves(error))]


def _leaves(error: ValidationError) -> Iterable[Fault]:
    if error.context:
        for cause in error.context:
            yield from _leaves(cause)
        return
    place = pointer(*error.absolute_path)
    yield Fault(_CODES.get(str(error.validator), "INVALID_VALUE"), place, _shorten(error.message))


def _shorten(message: str) -> str:
    """A message without the middle of the long values that jsonschema quotes."""
    return re.sub(r"(.{120}).+(.{60})", r"\1 ... \2", message, flags=re.DOTALL) if len(message) > 240 else message
