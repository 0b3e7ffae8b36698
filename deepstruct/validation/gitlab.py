"""The form for merge requests of GitLab: a Code Quality report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepstruct.errors import Severity
from deepstruct.printable import printable
from deepstruct.validation.findings import Finding, findings, root
from deepstruct.validation.logs import to_json
from deepstruct.validation.report import FileReport

_SEVERITIES: dict[Severity, str] = {"error": "major", "warning": "minor", "info": "info", "hint": "info"}


def render(reports: Sequence[FileReport], environment: Mapping[str, str]) -> str:
    """An array with one object a finding, in the order of the reports.

    Args:
        reports: of the files.
        environment: of the process; ``CI_PROJECT_DIR`` is the folder that paths are relative to.
    """
    return to_json([_issue(finding) for finding in findings(reports, root(environment))], indent=1) + "\n"


def _issue(finding: Finding) -> dict[str, Any]:
    return {
        "description": f"{finding.message} ({finding.pointer})" if finding.pointer else finding.message,
        "check_name": finding.code.name,
        "fingerprint": finding.fingerprint,
        "severity": _severity(finding),
        "location": {"path": printable(finding.path), "lines": {"begin": finding.fault.line or 1}},
    }


def _severity(finding: Finding) -> str:
    """An unreadable file is a blocker, and a fault that kept us from looking further is critical."""
    if finding.code.kind == "file":
        return "blocker"
    return "critical" if finding.code.fatal else _SEVERITIES[finding.fault.severity]
