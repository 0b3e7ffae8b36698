"""Validate one document: text, schema, structure, masks and weights; every fault at once, each with its place."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepstruct import document, files, jsonprofile, sidecar
from deepstruct.errors import Fault, MalformedFileError, UnreadableFileError
from deepstruct.limits import Limits
from deepstruct.structure import Structure
from deepstruct.validation import positions, schema_pass
from deepstruct.validation.hints import hints
from deepstruct.validation.report import Facts, FileReport
from deepstruct.validation.selection import Selection

if TYPE_CHECKING:
    from deepstruct.validation.budget import Budget


def validate(
    path: Path,
    *,
    weights: bool | None = True,
    selection: Selection | None = None,
    budget: Budget | None = None,
    limits: Limits | None = None,
) -> FileReport:
    """Everything that is wrong with a document and, unless told otherwise, with its weights file.

    Nothing that a file contains raises an exception, is run or fetched, or makes another file outside of its folder
    be read; memory is bounded by `limits`.

    Args:
        path: of the document.
        weights: check the weights file too; None says that there is no folder in which it could be.
        selection: what to report, and how severe it is.
        budget: what the network may cost.
        limits: bounds on what the file may claim.
    """
    chosen = selection or Selection()
    bounds = limits or Limits.from_environment()
    try:
        content = files.read_bytes(path, bounds.document_bytes + 1)
    except UnreadableFileError as error:
        return FileReport(str(path), (Fault("FILE_UNREADABLE", "", error.reason),), {})
    value, broken = jsonprofile.examine(content, bounds)
    parsed = value is not None or not broken
    del content
    found, reading = broken, None
    if parsed:
        others, reading = _read(value, bounds, strict=chosen.strict, clean=not broken)
        found = [*broken, *_without(others, {fault.pointer for fault in broken})]
    if reading is not None:
        if weights and reading.weights is not None:
            found += _weights(path, reading.structure, reading.weights)
        elif weights is None and reading.weights is not None:
            message = f"the weights file {reading.weights.uri!r:.80} was not looked for"
            found.append(Fault("WEIGHTS_UNCHECKED", "/weights", message, "info"))
        if budget is not None:
            found += budget.faults(path, reading.structure, reading.weights)
        found += hints(reading.structure)
    kept, left_out = chosen.apply(found)
    report = FileReport(str(path), tuple(_placed(path, kept, bounds, parsed=parsed)), left_out)
    if reading is None or not report.valid or any(fault.severity == "error" for fault in found):
        return report
    return replace(report, facts=_facts(value["version"], reading.structure))


def _read(value: Any, limits: Limits, *, strict: bool, clean: bool) -> tuple[list[Fault], document.Reading | None]:
    """Faults of schema and reader, those that the reader found too only once; and what was read."""
    head = [fault for fault in document.check_head(value) if fault.severity == "error"]
    if head:
        return head, None
    reading, found = document.examine(value, limits)
    if clean and all(fault.code != "LIMIT_EXCEEDED" for fault in found):
        found += _beside(schema_pass.faults(value, strict=strict), found)
    return found, reading


def _beside(faults: list[Fault], known: list[Fault]) -> Iterator[Fault]:
    """Those of the faults that are neither at, above nor below a known error."""
    places = {fault.pointer for fault in known}
    within = {fault.pointer for fault in known if fault.severity == "error" and fault.code != "MISSING_PROPERTY"}
    above = {"/".join(parts[:n]) for place in places for parts in [place.split("/")] for n in range(1, len(parts))}
    taken = places | above
    for fault in faults:
        parts = fault.pointer.split("/")
        inside = any("/".join(parts[:n]) in within for n in range(1, len(parts)))
        if fault.pointer not in taken and not inside:
            yield fault


def _without(faults: list[Fault], places: Collection[str]) -> list[Fault]:
    return [fault for fault in faults if fault.pointer not in places]


def _weights(path: Path, structure: Structure, reference: document.WeightsReference) -> list[Fault]:
    try:
        place = files.beside(path, reference.uri, "weights.uri")
    except MalformedFileError as error:
        return [Fault("WEIGHTS_URI", "/weights/uri", error.reason)]
    try:
        return sidecar.faults(place, structure, reference.layout, reference.digest)
    except UnreadableFileError as error:
        message = f"{reference.uri!r:.80}: {error.reason}; --no-weights leaves weights out"
        return [Fault("WEIGHTS_MISSING", "/weights/uri", message)]


def _facts(version: str, structure: Structure) -> Facts:
    return Facts(version, len(structure.nodes), len(structure.parameters), structure.size, structure.nnz)


def _placed(path: Path, faults: tuple[Fault, ...], limits: Limits, *, parsed: bool) -> list[Fault]:
    """The faults with lines and columns; the file is read again, since few files have any."""
    if not parsed or not faults:
        return list(faults)
    try:
        text = files.read_bytes(path, limits.document_bytes + 1).decode("utf-8")
        return positions.locate(text, faults)
    except (UnreadableFileError, ValueError, LookupError, StopIteration):  # it changed in between
        return list(faults)
