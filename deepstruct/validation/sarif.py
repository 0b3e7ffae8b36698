"""The form for code scanning: SARIF 2.1.0 (OASIS, with errata 01), within the limits of GitHub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepstruct.errors import Severity
from deepstruct.validation.codes import Code
from deepstruct.validation.findings import (
    STANDARD_INPUT,
    Finding,
    below,
    by_severity,
    counted,
    findings,
    left_out,
    number,
    root,
    shown,
    uri,
)
from deepstruct.validation.logs import to_json
from deepstruct.validation.report import FileReport
from deepstruct.version import __version__

MOST_RESULTS = 25_000
"""Of one run; GitHub refuses more, and of these it keeps the 5,000 most severe."""
MOST_BYTES = 10_000_000
"""Of one file; GitHub refuses more than that even if it is compressed."""

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS: dict[Severity, str] = {"error": "error", "warning": "warning", "info": "note", "hint": "note"}
_ROOM = 1_000_000
_MOST_UNREADABLE = 20


def render(reports: Sequence[FileReport], environment: Mapping[str, str]) -> str:
    """One run as SARIF: the most severe results first; what does not fit is counted in a notification.

    Args:
        reports: of the files.
        environment: of the process; it tells which folder paths are relative to, for consumers ``%SRCROOT%``.
    """
    folder = root(environment)
    found = by_severity(findings(reports, folder))
    rules = {code.name: code for code in (finding.code for finding in found)}
    indices = {name: index for index, name in enumerate(rules)}
    results: list[dict[str, Any]] = []
    room = MOST_BYTES - _ROOM
    for finding in found[:MOST_RESULTS]:
        result = _result(finding, indices[finding.code.name])
        room -= len(to_json(result)) + 1
        if room < 0:
            break
        results.append(result)
    missing = left_out(reports)
    for finding in found[len(results) :]:
        missing[finding.fault.severity] += 1
    driver = {"name": "deepstruct", "semanticVersion": __version__, "rules": [_rule(code) for code in rules.values()]}
    run = {
        "tool": {"driver": driver},
        "invocations": [_invocation(reports, folder, missing)],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return to_json({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}) + "\n"


def _rule(code: Code) -> dict[str, Any]:
    explain = f"deepstruct explain {code.name}"
    return {
        "id": code.name,
        "name": code.name.title().replace("_", ""),
        "shortDescription": {"text": code.title},
        "fullDescription": {"text": f"{code.title} {code.meaning}"},
        "help": {
            "text": f"{code.advice} More: {explain}",
            "markdown": f"{code.meaning}\n\n**What to do:** {code.advice}\n\nMore: `{explain}`",
        },
        "defaultConfiguration": {"level": _LEVELS[code.severity]},
        "properties": {"tags": [code.kind]},
    }


def _result(finding: Finding, index: int) -> dict[str, Any]:
    fault = finding.fault
    physical: dict[str, Any] = {"artifactLocation": _artifact(finding.path)}
    if fault.line is not None:
        physical["region"] = {"startLine": fault.line}
        if fault.column is not None:
            physical["region"]["startColumn"] = fault.column
    location: dict[str, Any] = {"physicalLocation": physical}
    if fault.pointer:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.pointer, "kind": "value"}]
    return {
        "ruleId": finding.code.name,
        "ruleIndex": index,
        "level": _LEVELS[fault.severity],
        "message": _message(fault.message),
        "locations": [location],
        "partialFingerprints": {"deepstructFinding/v1": finding.fingerprint},
        "properties": {"severity": fault.severity},
    }


def _invocation(reports: Sequence[FileReport], folder: str, missing: Mapping[Severity, int]) -> dict[str, Any]:
    """Whether all files could be read, which could not, and how many results are left out."""
    unreadable = [report for report in reports if not report.readable]
    notifications = [_unreadable(report, folder) for report in unreadable[:_MOST_UNREADABLE]]
    others = len(unreadable) - len(notifications)
    if others:
        notifications.append({"level": "error", "message": _message(f"{number(others, 'more file')} cannot be read")})
    if any(missing.values()):
        notifications.append({"level": "warning", "message": _message(f"left out: {counted(missing)}")})
    return {"executionSuccessful": not unreadable, "toolExecutionNotifications": notifications}


def _unreadable(report: FileReport, folder: str) -> dict[str, Any]:
    location = {"physicalLocation": {"artifactLocation": _artifact(below(folder, report.path))}}
    return {
        "level": "error",
        "message": _message(f"{report.path} cannot be read: {report.faults[0].message}"),
        "locations": [location],
    }


def _artifact(path: str) -> dict[str, Any]:
    """SARIF 3.4: relative to the root of the sources, or absolute."""
    if path == STANDARD_INPUT:
        return {"uri": path, "description": {"text": "standard input"}}
    address = uri(path)
    return {"uri": address} if address.startswith("file:") else {"uri": address, "uriBaseId": "%SRCROOT%"}


def _message(text: str) -> dict[str, str]:
    """SARIF 3.11: braces are doubled, as single ones are placeholders, and nothing is a link."""
    return {"text": shown(text).replace("{", "{{").replace("}", "}}").replace("](", "] (")}
