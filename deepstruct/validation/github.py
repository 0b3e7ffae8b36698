"""The form for GitHub Actions: workflow commands that annotate lines. The job summary is in `github_summary`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from deepstruct.errors import Severity
from deepstruct.printable import printable
from deepstruct.validation.findings import STANDARD_INPUT, Finding, by_severity, counted, findings, left_out, root
from deepstruct.validation.logs import inert
from deepstruct.validation.report import FileReport
from deepstruct.validation.text import total

MOST = 10
"""Annotations of one kind that GitHub shows of one step."""

_COMMANDS: dict[Severity, str] = {"error": "error", "warning": "warning", "info": "notice", "hint": "notice"}
_LINES = 10


def render(reports: Sequence[FileReport], environment: Mapping[str, str]) -> str:
    """Workflow commands, errors first and at most `MOST` of each kind, and below them what they leave out.

    If there are more findings of a kind, those with the same code in the same file share an annotation.

    Args:
        reports: of the files.
        environment: of the process; ``GITHUB_WORKSPACE`` is the folder that paths are relative to.
    """
    found: dict[str, list[Finding]] = {command: [] for command in _COMMANDS.values()}
    for finding in by_severity(findings(reports, root(environment))):
        found[_COMMANDS[finding.fault.severity]].append(finding)
    missing = left_out(reports)
    lines = []
    for command, members in found.items():
        groups = _groups(members)
        lines += [_command(command, group) for group in groups[:MOST]]
        for group in groups[MOST:]:
            for finding in group:
                missing[finding.fault.severity] += 1
    lines.append(f"deepstruct validate: {total(reports)}")
    if any(missing.values()):
        lines.append(
            f"no annotation for {counted(missing)}: GitHub shows {MOST} of each kind; --format text lists them"
        )
    return "".join(f"{line}\n" for line in lines)


def _groups(found: list[Finding]) -> list[list[Finding]]:
    """The findings that share an annotation."""
    if len(found) <= MOST:
        return [[finding] for finding in found]
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in found:
        groups.setdefault((finding.path, finding.code.name), []).append(finding)
    return list(groups.values())


def _command(command: str, group: list[Finding]) -> str:
    first = group[0]
    properties = ",".join(f"{name}={_escaped_property(value)}" for name, value in _properties(first))
    message = "\n".join(_message(group))
    return inert(f"::{command} {properties}::{_escaped(message)}")


def _properties(finding: Finding) -> Iterator[tuple[str, str]]:
    fault = finding.fault
    if finding.path != STANDARD_INPUT:
        yield "file", printable(finding.path)
    if fault.line is not None:
        yield "line", str(fault.line)
    if fault.column is not None:
        yield "col", str(fault.column)
    yield "title", f"deepstruct {finding.code.name}"


def _message(group: list[Finding]) -> Iterator[str]:
    first, *others = group
    yield first.message
    if first.pointer:
        yield f"at {first.pointer}"
    yield first.code.advice
    if others:
        lines = sorted({finding.fault.line for finding in others if finding.fault.line is not None})
        places = ", ".join(str(line) for line in lines[:_LINES])
        where = f": {'line' if len(lines) == 1 else 'lines'} {places}{', ...' if len(lines) > _LINES else ''}"
        yield f"and {len(others):,} more in this file{where if lines else ''}"


def _escaped(text: str) -> str:
    """The message of a command, as actions/toolkit escapes it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escaped_property(text: str) -> str:
    """A property of a command, as actions/toolkit escapes it."""
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
