"""The workflow commands of the github form, read as the runner of GitHub Actions reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from ci_logs import commands
from file_reports import PLAIN, many, reports
from hypothesis import given, settings

from deepstruct.errors import Fault
from deepstruct.printable import printable
from deepstruct.validation import github
from deepstruct.validation.codes import table
from deepstruct.validation.findings import below, shown
from deepstruct.validation.report import FileReport


def test_a_fault_is_an_annotation_of_its_line() -> None:
    missing, unused = table()["MISSING_PROPERTY"].advice, table()["UNUSED_EXTENSION"].advice
    unreadable = table()["FILE_UNREADABLE"].advice
    assert github.render(PLAIN, {}).splitlines() == [
        "::error file=nets/a.structure.json,line=3,col=5,title=deepstruct MISSING_PROPERTY"
        f"::the member 'name' is missing%0Aat /graph%0A{missing}",
        "::error file=nets/a.structure.json,line=9,col=7,title=deepstruct MISSING_PROPERTY"
        f"::the member 'op' is missing%0Aat /graph/nodes/0%0A{missing}",
        f"::error file=gone.structure.json,title=deepstruct FILE_UNREADABLE::no such file%0A{unreadable}",
        "::notice file=nets/a.structure.json,line=2,col=20,title=deepstruct UNUSED_EXTENSION"
        f"::'ACME_x' does not occur%0Aat /extensions_used/0%0A{unused}",
        "deepstruct validate: 3 files: 1 valid, 1 invalid, 1 unreadable (3 errors, 1 hint)",
    ]


def test_what_has_a_meaning_in_commands_is_escaped() -> None:
    fault = Fault("MASK_SIZE", "", "100%,\n::error::x", "warning", 1, 2)
    line = github.render([FileReport("a,b:50%.json", (fault,), {})], {}).splitlines()[0]
    assert line.startswith(r"::warning file=a%2Cb%3A50%25.json,line=1,col=2,title=deepstruct MASK_SIZE::100%25,\n::err")


def test_errors_come_first_and_no_kind_has_more_than_ten_annotations() -> None:
    found = [
        many(3, severity="hint"),
        *(many(2, path=f"{i}.json") for i in range(12)),
        *(many(1, severity="warning", path=f"{i}.json") for i in range(10)),
    ]
    *lines, total, missing = github.render(found, {}).splitlines()
    names = [command.name for command in commands("\n".join(lines))]
    assert names == ["error"] * 10 + ["warning"] * 10 + ["notice"] * 3
    assert total == "deepstruct validate: 23 files: 11 valid, 12 invalid (24 errors, 10 warnings, 3 hints)"
    assert missing == "no annotation for 4 errors: GitHub shows 10 of each kind; --format text lists them"


def test_more_than_ten_with_the_same_code_in_a_file_share_an_annotation() -> None:
    [command] = commands(github.render([many(38)], {}))
    assert command.properties == {"file": "a.json", "line": "1", "col": "1", "title": "deepstruct MASK_SIZE"}
    assert command.data.splitlines()[-1] == "and 37 more in this file: lines 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ..."
    assert "annotation" not in github.render([many(38)], {})


def test_what_was_left_out_before_is_counted() -> None:
    report = FileReport("a.json", PLAIN[0].faults, {"error": 5, "hint": 2})
    assert "\nno annotation for 5 errors, 2 hints: " in github.render([report], {})


def test_paths_are_relative_to_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fault = (Fault("MASK_SIZE", "", "x"),)
    seen = []
    for path in ("a.json", "./nets/../a.json", f"{tmp_path}/b.json", "../c.json", "-"):
        [command] = commands(github.render([FileReport(path, fault, {})], {"GITHUB_WORKSPACE": str(tmp_path.parent)}))
        seen.append(command.properties.get("file"))
    name = tmp_path.name
    assert seen == [f"{name}/a.json", f"{name}/a.json", f"{name}/b.json", "c.json", None]
    [command] = commands(github.render([FileReport("../c.json", fault, {})], {}))
    assert command.properties["file"] == f"{tmp_path.parent}/c.json"


def test_a_workspace_that_is_a_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "link")
    assert below(str(tmp_path / "link"), "a.json") == "a.json"
    assert below(str(tmp_path / "link"), str(tmp_path / "link" / "a.json")) == "a.json"


@settings(max_examples=40)
@given(reports)
def test_whatever_a_file_holds_the_commands_are_those_meant(drawn: list[FileReport]) -> None:
    log = github.render(drawn, {})
    assert all(line.isprintable() for line in log.splitlines())
    found = commands(log)
    assert {command.name for command in found} <= {"error", "warning", "notice"}
    meant = [(report.path, fault) for report in drawn for fault in report.faults]
    assert len(found) <= min(30, len(meant))
    for command in found:
        assert set(command.properties) <= {"file", "line", "col", "title"}
        assert any(
            command.properties["title"] == f"deepstruct {fault.code}"
            and command.properties.get("line") == (None if fault.line is None else str(fault.line))
            and _same(command.properties.get("file", "-"), printable(below(".", path)))
            and _same(command.data.split("\n")[0], shown(fault.message))
            for path, fault in meant
        )


def _same(seen: str, meant: str) -> bool:
    return seen.replace(r"\u0023", "#") == meant.replace(r"\u0023", "#")
