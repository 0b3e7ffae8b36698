"""Rewrite documents in place without going through the hub, so that everything unknown stays as it is."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from deepstruct import canonical, document, files, jsonprofile, migrations
from deepstruct.document import Reading
from deepstruct.errors import DocumentError, UnsupportedError
from deepstruct.files import Targets
from deepstruct.limits import Limits, variable
from deepstruct.mask import Mask


def migrate(path: Path, *, write: bool) -> tuple[str, str]:
    """Brings a document to the current version.

    Args:
        path: of the document, which is replaced if its version changes.
        write: replace it; otherwise only say what would happen.

    Returns:
        The version before and after.

    Raises:
        DocumentError: it is no valid document, or no migration leads on from its version.
        UnreadableFileError: the operating system does not let us read it.
        WriteError: the operating system does not let us replace it.
    """
    limits = Limits.from_environment()
    try:
        before = jsonprofile.read(path, limits)
        reading = document.from_json(before, limits)
        after = migrations.migrate(before)
    except DocumentError as error:
        raise DocumentError(str(path), error.faults) from error
    if write and after is not before:
        _replace(path, _text(after, reading, limits))
    return before["version"], after["version"]


def format_file(path: Path, *, write: bool, digests: bool = False) -> bool:
    """Brings a document into canonical text; the file with its weights is not looked at.

    Args:
        path: of the document, which is replaced if its text changes.
        write: replace it; otherwise only say what would happen.
        digests: put the right digests in place of those of the document and of its masks that are wrong.

    Returns:
        Whether its text is, or was, another.

    Raises:
        DocumentError: it is no valid document.
        UnreadableFileError: the operating system does not let us read it.
        WriteError: the operating system does not let us replace it.
        UnsupportedError: the canonical text is beyond what readers accept.
    """
    limits = Limits.from_environment()
    content = files.read_bytes(path, limits.document_bytes + 1)
    try:
        text = format_text(content, digests=digests, limits=limits)
    except DocumentError as error:
        raise DocumentError(str(path), error.faults) from error
    if write and text != content:
        _replace(path, text)
    return text != content


def format_text(content: bytes, *, digests: bool = False, limits: Limits | None = None) -> bytes:
    """The canonical text of a document: members in the order of our writer, one node, value or parameter a line.

    Its meaning is the same, numbers, payloads of masks and unknown members included. What our writer writes stays as
    it is, byte for byte, and so does canonical text.

    Args:
        content: of the document's file.
        digests: put the right digests in place of those of the document and of its masks that are wrong.
        limits: bounds on what the document may claim.

    Raises:
        DocumentError: it is no valid document.
        UnsupportedError: the canonical text is beyond what readers accept.
    """
    limits = limits or Limits()
    value = jsonprofile.parse(content, limits)
    if digests:
        value, reading = with_right_digests(value, limits)
    else:
        reading = document.from_json(value, limits)
    return _text(value, reading, limits)


def with_right_digests(value: Any, limits: Limits) -> tuple[dict[str, Any], Reading]:
    """A document in which those digests of the whole and of masks that it has are right, and what it describes.

    The argument is not changed. The digest of the weights stays: it belongs to another file.

    Raises:
        DocumentError: it has faults other than wrong digests.
    """
    reading = document.from_json(_without_digests(value), limits)
    result = dict(value)
    if "digest" in result:
        result["digest"] = document.digest(reading.structure)
    if "parameters" in result:
        result["parameters"] = dict(result["parameters"])
        for parameter in reading.structure.parameters:
            described = result["parameters"].get(parameter.name, {})
            if "digest" in described.get("mask", {}):
                mask = parameter.mask or Mask.full(parameter.shape)
                result["parameters"][parameter.name] = {
                    **described,
                    "mask": {**described["mask"], "digest": mask.digest()},
                }
    return result, reading


def _without_digests(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    bare = {key: item for key, item in value.items() if key != "digest"}
    if isinstance(bare.get("parameters"), dict):
        bare["parameters"] = {name: _without_mask_digest(item) for name, item in bare["parameters"].items()}
    return bare


def _without_mask_digest(parameter: Any) -> Any:
    if not isinstance(parameter, dict) or not isinstance(parameter.get("mask"), dict):
        return parameter
    return {**parameter, "mask": {key: item for key, item in parameter["mask"].items() if key != "digest"}}


def _text(value: dict[str, Any], reading: Reading, limits: Limits) -> bytes:
    """The canonical text of a document that describes what was read."""
    file = io.BytesIO()
    names = [parameter.name for parameter in reading.structure.parameters]
    values = jsonprofile.write(file, canonical.ordered(value, names))
    for name, found in (("values", values), ("document_bytes", file.tell())):
        if found > getattr(limits, name):
            message = f"canonical text would have {found} {name.replace('_', ' ')}, and readers accept"
            raise UnsupportedError(f"{message} {getattr(limits, name)}; set {variable(name)} to allow it")
    return file.getvalue()


def _replace(path: Path, text: bytes) -> None:
    with Targets(overwrite=True) as targets:
        targets.open(path).write(text)
