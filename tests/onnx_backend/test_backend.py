"""Every model of ONNX's own test data comes through a document as it was, and computes what it did."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from onnx_backend import cases, frozen, report
from onnx_backend.judging import FAILING, IDENTICAL, Verdict, judge


@pytest.mark.parametrize("group", cases.groups())
def test_cases_have_the_outcomes_that_are_listed(group: str, tmp_path: Path, accept: bool) -> None:
    if accept and "PYTEST_XDIST_WORKER" in os.environ:
        pytest.fail("--accept writes one file for all groups: run it without -n")
    verdicts = {}
    for case in cases.of_group(group):
        folder = tmp_path / case.name
        folder.mkdir()
        verdicts[case.name] = judge(case, folder)
        shutil.rmtree(folder)
    if accept:
        report.accept(group, verdicts)
    if report.is_current():
        count, listed = report.expected(group)
        assert len(verdicts) == count
        assert unexpected(verdicts, listed) == {}
    else:
        assert {name: verdict for name, verdict in verdicts.items() if verdict.outcome == FAILING} == {}


@pytest.mark.parametrize("group", [group for group in cases.groups() if group.startswith("node-")])
def test_weights_compute_the_same_in_every_encoding(group: str, tmp_path: Path, accept: bool) -> None:
    count, wrong = frozen.judge_all(cases.of_group(group), tmp_path)
    if accept:
        report.accept_weights(group, count, wrong)
    if report.is_current():
        assert (count, wrong) == report.expected_weights(group)
    else:
        assert set(wrong.values()) <= {frozen.ROUNDED}


def unexpected(found: dict[str, Verdict], listed: dict[str, Verdict]) -> dict[str, str]:
    """The cases that do not do what is listed, a case that does better included."""
    assert listed.keys() <= found.keys()
    wrong = {}
    for name, verdict in found.items():
        expected = listed.get(name, Verdict(IDENTICAL))
        either = verdict.outcome != FAILING and (verdict.depends_on_machine or expected.depends_on_machine)
        if verdict != expected and not either:
            wrong[name] = f"{verdict} instead of {expected}"
    return wrong


def test_nothing_fails() -> None:
    table = report.table()["groups"]
    assert [group for group, entry in table.items() if FAILING in entry["exceptions"]] == []
    reasons = {reason for entry in table.values() for reason in entry.get("wrong_weights", {}).values()}
    assert reasons <= {frozen.ROUNDED}
    assert sorted(table) == sorted(cases.groups())


def test_real_networks_are_those_of_light() -> None:
    named = {path.name for path in (cases.BACKEND / "data" / "real").glob("test_*")}
    assert {case.name.replace("light_", "") for case in cases.of_group("light")} == named


def test_the_page_tells_the_table(accept: bool) -> None:
    if accept:
        report.PAGE.write_text(report.page(), encoding="utf-8")
    assert report.PAGE.read_text(encoding="utf-8") == report.page()
