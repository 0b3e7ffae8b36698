"""The job summary of GitHub Actions: markdown with a table a file, and how it gets into `$GITHUB_STEP_SUMMARY`."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence

from deepstruct.validation.findings import (
    STANDARD_INPUT,
    Finding,
    below,
    by_severity,
    findings,
    number,
    root,
    shown,
    uri,
)
from deepstruct.validation.report import FileReport
from deepstruct.validation.text import judgement, total

MOST_BYTES = 1 << 20
"""Of the summary of one step; GitHub shows nothing of a larger one."""
FOLDED = 20
"""Findings of one file from which on they are folded."""

_HEAD = "| severity | line | code | what is wrong |\n| --- | --- | --- | --- |\n"
_ROOM = 1_000


def summary(reports: Sequence[FileReport], environment: Mapping[str, str]) -> str:
    """The reports as markdown of at most `MOST_BYTES`: files with errors first, the most severe findings first.

    Args:
        reports: of the files.
        environment: of the process; lines become links if it says of which repository and commit they are.
    """
    blocks = [f"### deepstruct validate: {total(reports)}\n"]
    room = MOST_BYTES - _ROOM
    dirty = [report for report in reports if any(report.counts.values())]
    for report in sorted(dirty, key=lambda one: one.valid):
        block = _block(report, environment, room)
        if not block:
            blocks.append("\nThe findings of more files do not fit here; `--format text` lists them.\n")
            break
        blocks.append(block)
        room -= len(block.encode())
    if len(dirty) < len(reports):
        blocks.append(f"\n{number(len(reports) - len(dirty), 'file')} without a finding.\n")
    return "".join(blocks)


def append_summary(path: str, text: str) -> str | None:
    """Appends to the file that ``GITHUB_STEP_SUMMARY`` names.

    Args:
        path: of the file. It is not created, and anything else than a regular file is left alone.
        text: to be appended.

    Returns:
        Why nothing was appended, or None if it was.
    """
    name = f"the job summary {shown(path)!r}"
    try:
        descriptor = os.open(
            path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
    except (OSError, ValueError) as error:
        return f"{name} cannot be written: {getattr(error, 'strerror', None) or error}"
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        status = os.fstat(descriptor)
        content = f"\n{text}".encode()
        if not stat.S_ISREG(status.st_mode):
            return f"{name} is no regular file"
        if status.st_size + len(content) > MOST_BYTES:
            return f"{name} would be larger than 1 MiB, of which GitHub shows nothing"
        try:
            while content:
                content = content[file.write(content) :]
        except OSError as error:
            return f"{name} cannot be written: {error.strerror}"
    return None


def _block(report: FileReport, environment: Mapping[str, str], room: int) -> str:
    """The heading and the table of one file in at most `room` bytes, empty if there is no room for a row."""
    folder = root(environment)
    found = by_severity(findings([report], folder))
    head = f"\n#### {_code(below(folder, report.path))}: {judgement(report)}\n\n"
    closing = ""
    if len(found) >= FOLDED:
        head += f"<details><summary>{number(len(found), 'finding')}</summary>\n\n"
        closing = "\n</details>\n"
    head += _HEAD
    room -= len(head.encode()) + _ROOM
    rows: list[str] = []
    for row in _rows(found, _blob(environment)):
        room -= len(row.encode())
        if room < 0:
            break
        rows.append(row)
    if not rows:
        return ""
    missing = sum(report.counts.values()) - len(rows)
    note = f"\nand {number(missing, 'finding')} more\n" if missing else ""
    return "".join([head, *rows, closing, note])


def _rows(found: list[Finding], blob: str) -> Iterator[str]:
    explained = set()
    for finding in found:
        cells = [_escaped(finding.message)]
        if finding.pointer:
            cells.append(_code(finding.pointer))
        if finding.code.name not in explained:
            explained.add(finding.code.name)
            cells.append(_escaped(finding.code.advice))
        fault = finding.fault
        yield f"| {fault.severity} | {_line(finding, blob)} | `{fault.code}` | {'<br>'.join(cells)} |\n"


def _line(finding: Finding, blob: str) -> str:
    """The line of a finding, as a link to it if possible."""
    line = finding.fault.line
    if line is None:
        return ""
    if not blob or finding.path.startswith("/") or finding.path == STANDARD_INPUT:
        return str(line)
    return f"[{line}]({blob}/{uri(finding.path)}#L{line})"


def _blob(environment: Mapping[str, str]) -> str:
    """The address of the files of the commit that is looked at, empty if it is not known."""
    address = "/".join(environment.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY"))
    commit = environment.get("GITHUB_SHA", "")
    if re.fullmatch(r"https?://[\w.:-]+(/[\w.-]+){2}", address, re.ASCII) and re.fullmatch("[0-9a-f]{40,64}", commit):
        return f"{address}/blob/{commit}"
    return ""


def _code(text: str) -> str:
    return f"<code>{_escaped(text)}</code>"


def _escaped(text: str) -> str:
    """Text that markdown and HTML show as it is.

    Punctuation written as character references has no meaning in markdown. The comments keep names and numbers from
    becoming mentions and references to issues.
    """
    escaped = re.sub(r"[!-/:-@\[-`{-~]", lambda char: f"&#{ord(char[0])};", shown(text))
    return re.sub(r"&#(35|64);", r"\g<0><!-- -->", escaped)
