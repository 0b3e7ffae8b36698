"""What a validation found, as data: a `FileReport` for each file, and the JSON report of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deepstruct.errors import Fault, Severity
from deepstruct.validation.codes import SEVERITIES, table
from deepstruct.version import __version__

FORMAT = "deepstruct-validation"
VERSION = "1.0.0"
"""Of the JSON report, whose schema is `schemas/validation-1.0.0.json`."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a valid document describes, in numbers.

    Attributes:
        version: of the document.
        nodes: operators of the graph, those within functions and attributes not counted.
        parameters: tensors.
        entries: of all parameters, existing or not.
        nnz: entries that exist.
    """

    version: str
    nodes: int
    parameters: int
    entries: int
    nnz: int

    def to_json(self) -> dict[str, Any]:
        """The facts as a JSON object."""
        return {
            "version": self.version,
            "nodes": self.nodes,
            "parameters": self.parameters,
            "entries": self.entries,
            "nnz": self.nnz,
        }


@dataclass(frozen=True, slots=True)
class FileReport:
    """What was found in one file.

    Attributes:
        path: as it was given, ``-`` for standard input.
        faults: in the order of the text, each with line and column if the text could be read.
        left_out: faults beyond the number that was asked for, by severity.
        facts: of a document without errors, else None.
    """

    path: str
    faults: tuple[Fault, ...]
    left_out: Mapping[Severity, int]
    facts: Facts | None = None

    @property
    def counts(self) -> dict[Severity, int]:
        """Severity -> number of faults, those left out included."""
        counts = {severity: self.left_out.get(severity, 0) for severity in SEVERITIES}
        for fault in self.faults:
            counts[fault.severity] += 1
        return counts

    @property
    def valid(self) -> bool:
        """Whether there is no error."""
        return not self.counts["error"]

    @property
    def readable(self) -> bool:
        """Whether the file could be read at all."""
        return all(fault.code != "FILE_UNREADABLE" for fault in self.faults)

    def to_json(self) -> dict[str, Any]:
        """The report of the file as a JSON object."""
        return {
            "path": _text(self.path),
            "valid": self.valid,
            "counts": self.counts,
            "truncated": any(self.left_out.values()),
            "faults": [_fault(fault) for fault in self.faults],
            "facts": None if self.facts is None else self.facts.to_json(),
        }


def _text(text: str) -> str:
    """Text that UTF-8 can hold: halves of surrogate pairs are spelled as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _fault(fault: Fault) -> dict[str, Any]:
    return {
        "code": fault.code,
        "severity": fault.severity,
        "pointer": _text(fault.pointer),
        "line": fault.line,
        "column": fault.column,
        "message": _text(fault.message),
        "advice": table()[fault.code].advice,
    }


def to_json(reports: Sequence[FileReport]) -> dict[str, Any]:
    """The JSON report of several files."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "generator": {"name": "deepstruct", "version": __version__},
        "valid": all(report.valid for report in reports),
        "files": [report.to_json() for report in reports],
    }
