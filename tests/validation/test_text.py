"""The text form of reports, which is read by people, editors and, in logs, by CI systems."""

from __future__ import annotations

from ci_logs import commands
from file_reports import PLAIN, reports
from hypothesis import given, settings

from deepstruct.errors import Fault
from deepstruct.validation import text
from deepstruct.validation.codes import table
from deepstruct.validation.report import FileReport


def test_a_fault_is_a_line_that_begins_with_its_place_and_advice_comes_once_for_each_code() -> None:
    missing, unused = table()["MISSING_PROPERTY"].advice, table()["UNUSED_EXTENSION"].advice
    assert list(text.lines(PLAIN[0])) == [
        "nets/a.structure.json:3:5: error: the member 'name' is missing [MISSING_PROPERTY] /graph",
        f"    help: {missing}",
        "nets/a.structure.json:9:7: error: the member 'op' is missing [MISSING_PROPERTY] /graph/nodes/0",
        "nets/a.structure.json:2:20: hint: 'ACME_x' does not occur [UNUSED_EXTENSION] /extensions_used/0",
        f"    help: {unused}",
    ]
    assert list(text.lines(PLAIN[1])) == [
        "gone.structure.json: error: no such file [FILE_UNREADABLE]",
        f"    help: {table()['FILE_UNREADABLE'].advice}",
    ]
    assert list(text.lines(PLAIN[2])) == []


def test_what_is_left_out_is_counted() -> None:
    report = FileReport("a.json", PLAIN[0].faults, {"error": 1, "warning": 1234, "info": 0})
    assert list(text.lines(report))[-1] == "a.json: 1 error, 1,234 warnings left out; --max-issues 0 shows all"


def test_a_verdict_counts_all_faults() -> None:
    assert [text.verdict(report) for report in PLAIN] == [
        "nets/a.structure.json: invalid (2 errors, 1 hint)",
        "gone.structure.json: unreadable (1 error)",
        "b.structure.json: valid",
    ]
    hint = Fault("DEAD_UNITS", "", "one", "hint")
    assert text.verdict(FileReport("a.json", (hint,), {"hint": 1})) == "a.json: valid (2 hints)"


def test_the_total_counts_files_and_faults() -> None:
    assert text.total(PLAIN) == "3 files: 1 valid, 1 invalid, 1 unreadable (3 errors, 1 hint)"
    assert text.total(PLAIN[2:]) == "1 file: 1 valid"
    assert text.total([]) == "0 files"


def test_a_name_of_a_file_is_no_command() -> None:
    for path in ("::error::x", "  ::error::x", "\u034f::error::x", "##[error]x", "#\ufe0f#[error]x", "##vso[x]"):
        report = FileReport(path, PLAIN[0].faults, {"hint": 1})
        assert commands(f"{path}: error") != []
        assert commands("\n".join([*text.lines(report), text.verdict(report)])) == []
    assert text.verdict(FileReport("::error::x", (), {})) == "./::error::x: valid"
    assert text.verdict(FileReport("a##[b", (), {})) == r"a\u0023#[b: valid"


def test_an_overlong_pointer_is_cut() -> None:
    fault = Fault("MASK_SIZE", "/" + "x" * 10**6, "y" * 10**6)
    assert max(map(len, text.lines(FileReport("a.json", (fault,), {})))) < 2100


@settings(max_examples=40)
@given(reports)
def test_whatever_a_file_holds_every_line_is_printable_and_no_command(drawn: list[FileReport]) -> None:
    found = [line for report in drawn for line in (*text.lines(report), text.verdict(report))]
    assert all(line.isprintable() for line in found)
    assert commands("\n".join(found)) == []
    assert sum(not line.startswith("    help: ") for line in found) == sum(
        len(report.faults) + any(report.left_out.values()) + 1 for report in drawn
    )
