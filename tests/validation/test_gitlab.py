"""The Code Quality report for GitLab."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from ci_logs import commands
from file_reports import PLAIN, many, reports
from hypothesis import given, settings

from deepstruct.errors import Fault
from deepstruct.validation import gitlab
from deepstruct.validation.report import FileReport


def issues(found: list[FileReport]) -> list[dict[str, Any]]:
    issues: list[dict[str, Any]] = json.loads(gitlab.render(found, {}))
    return issues


def test_a_finding_is_an_object_with_the_members_that_gitlab_reads() -> None:
    issue = issues(list(PLAIN))[1]
    assert len(issue.pop("fingerprint")) == 64
    assert issue == {
        "description": "the member 'op' is missing (/graph/nodes/0)",
        "check_name": "MISSING_PROPERTY",
        "severity": "major",
        "location": {"path": "nets/a.structure.json", "lines": {"begin": 9}},
    }


def test_without_a_finding_the_array_is_empty() -> None:
    assert gitlab.render([PLAIN[2]], {}) == "[]\n"


def test_severities_are_those_of_gitlab() -> None:
    seen = [issues([many(1, severity=severity)])[0]["severity"] for severity in ("error", "warning", "info", "hint")]
    assert seen == ["major", "minor", "info", "info"]
    assert issues([PLAIN[1]])[0]["severity"] == "blocker"
    assert (
        issues([FileReport("a.json", (Fault("INVALID_JSON", "", "x", "error", 1, 1),), {})])[0]["severity"]
        == "critical"
    )


def test_a_fingerprint_does_not_change_with_lines_and_is_unique() -> None:
    report = many(1)
    moved = replace(report, faults=(replace(report.faults[0], line=100),))
    first, second = issues([report, moved])
    assert issues([moved])[0]["fingerprint"] == first["fingerprint"] != second["fingerprint"]


def test_a_finding_without_a_line_is_at_the_first() -> None:
    assert issues([PLAIN[1]])[0]["location"] == {"path": "gone.structure.json", "lines": {"begin": 1}}


@settings(max_examples=40)
@given(reports)
def test_whatever_a_file_holds_the_report_is_sound(drawn: list[FileReport]) -> None:
    text = gitlab.render(drawn, {})
    found = json.loads(text)
    assert text.isascii()
    assert commands(text) == []
    assert len(found) == sum(len(report.faults) for report in drawn)
    assert len({issue["fingerprint"] for issue in found}) == len(found)
    for issue in found:
        assert issue["description"].isprintable()
        assert issue["location"]["path"].isprintable()
        assert issue["location"]["lines"]["begin"] >= 1
        assert issue["severity"] in ("info", "minor", "major", "critical", "blocker")
