"""The text form for terminals and logs: one line a fault, advice below the first fault of each code, verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from deepstruct.errors import Severity
from deepstruct.validation.codes import table
from deepstruct.validation.findings import counted, number, shown
from deepstruct.validation.logs import inert, inert_path
from deepstruct.validation.report import FileReport


def lines(report: FileReport) -> Iterator[str]:
    """What was found in one file, one line a fault: ``path:line:column: severity: message [CODE] /pointer``.

    Nothing in a file or in its name can end a line, move the cursor, or be taken for a command by a CI system that
    reads them from logs.
    """
    path = inert_path(report.path)
    explained = set()
    for fault in report.faults:
        place = ":".join(str(part) for part in (path, fault.line, fault.column) if part is not None)
        pointer = f" {shown(fault.pointer)}" if fault.pointer else ""
        yield inert(f"{place}: {fault.severity}: {shown(fault.message)} [{fault.code}]{pointer}")
        if fault.code not in explained:
            explained.add(fault.code)
            yield f"    help: {table()[fault.code].advice}"
    if any(report.left_out.values()):
        yield inert(f"{path}: {counted(report.left_out)} left out; --max-issues 0 shows all")


def verdict(report: FileReport) -> str:
    """``net.structure.json: invalid (3 errors, 1 warning)``."""
    return inert(f"{inert_path(report.path)}: {judgement(report)}")


def judgement(report: FileReport) -> str:
    """``invalid (3 errors, 1 warning)``."""
    found = counted(report.counts)
    return f"{_word(report)} ({found})" if found else _word(report)


def total(reports: Sequence[FileReport]) -> str:
    """``3 files: 2 valid, 1 invalid (3 errors, 1 warning)``."""
    words = Counter(_word(report) for report in reports)
    verdicts = ", ".join(f"{words[name]:,} {name}" for name in ("valid", "invalid", "unreadable") if words[name])
    counts: Counter[Severity] = Counter()
    for report in reports:
        counts.update(report.counts)
    found = counted(counts)
    return f"{number(len(reports), 'file')}{f': {verdicts}' if verdicts else ''}{f' ({found})' if found else ''}"


def _word(report: FileReport) -> str:
    """The verdict on a file in one word."""
    if not report.readable:
        return "unreadable"
    return "valid" if report.valid else "invalid"
