"""The JUnit form, read back as XML and by another program."""

from __future__ import annotations

from xml.etree import ElementTree

from ci_logs import commands
from file_reports import PLAIN, reports
from hypothesis import given, settings
from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from deepstruct.errors import Fault
from deepstruct.printable import printable
from deepstruct.validation import junit
from deepstruct.validation.codes import table
from deepstruct.validation.findings import below, shown
from deepstruct.validation.report import FileReport


def test_a_file_is_a_test_case() -> None:
    missing, unused = table()["MISSING_PROPERTY"].advice, table()["UNUSED_EXTENSION"].advice
    unreadable = table()["FILE_UNREADABLE"].advice
    assert (
        junit.render(PLAIN, {})
        == f"""\
<?xml version='1.0' encoding='us-ascii'?>
<testsuites name="deepstruct validate" tests="3" failures="1" errors="1">
 <testsuite name="deepstruct validate" tests="3" failures="1" errors="1" skipped="0">
  <testcase classname="deepstruct" name="nets/a.structure.json" file="nets/a.structure.json">
   <failure type="invalid" message="2 errors">nets/a.structure.json:3:5: error: the member 'name' is missing \
[MISSING_PROPERTY] /graph
    help: {missing}
nets/a.structure.json:9:7: error: the member 'op' is missing [MISSING_PROPERTY] /graph/nodes/0</failure>
   <system-out>nets/a.structure.json:2:20: hint: 'ACME_x' does not occur [UNUSED_EXTENSION] /extensions_used/0
    help: {unused}</system-out>
  </testcase>
  <testcase classname="deepstruct" name="gone.structure.json" file="gone.structure.json">
   <error type="unreadable" message="no such file">gone.structure.json: error: no such file [FILE_UNREADABLE]
    help: {unreadable}</error>
  </testcase>
  <testcase classname="deepstruct" name="b.structure.json" file="b.structure.json" />
 </testsuite>
</testsuites>
"""
    )


def test_a_file_with_warnings_only_has_passed() -> None:
    fault = Fault("DEAD_UNITS", "", "one unit is dead", "warning", 1, 1)
    root = ElementTree.fromstring(junit.render([FileReport("a.json", (fault,), {"hint": 2})], {}))
    assert (root.get("failures"), root.get("errors")) == ("0", "0")
    output = root.findtext(".//system-out") or ""
    assert output.startswith("a.json:1:1: warning: one unit is dead [DEAD_UNITS]")
    assert output.endswith("a.json: 2 hints left out; --max-issues 0 shows all")
    assert root.find(".//failure") is None


def test_another_program_reads_it() -> None:
    parsed = JUnitXml.fromstring(junit.render(PLAIN, {}).encode("ascii"))
    [suite] = parsed
    assert isinstance(suite, TestSuite)
    assert (suite.tests, suite.failures, suite.errors) == (3, 1, 1)
    cases = [case for case in suite if isinstance(case, TestCase)]
    assert [case.name for case in cases] == ["nets/a.structure.json", "gone.structure.json", "b.structure.json"]
    assert [[type(result) for result in case.result] for case in cases] == [[Failure], [Error], []]


@settings(max_examples=40)
@given(reports)
def test_whatever_a_file_holds_the_xml_is_sound(drawn: list[FileReport]) -> None:
    text = junit.render(drawn, {})
    assert text.isascii()
    assert commands(text) == []
    root = ElementTree.fromstring(text)
    cases = root.findall("testsuite/testcase")
    assert [case.get("name") for case in cases] == [printable(below(".", report.path)) for report in drawn]
    assert root.get("tests") == str(len(drawn))
    assert int(root.get("failures", "")) + int(root.get("errors", "")) == sum(not report.valid for report in drawn)
    for case, report in zip(cases, drawn, strict=True):
        assert {part.tag for part in case} <= {"error", "failure", "system-out"}
        assert (case.find("failure") is None and case.find("error") is None) == report.valid
        said = "".join(case.itertext()).replace(r"\u0023", "#")
        assert all(shown(fault.message).replace(r"\u0023", "#") in said for fault in report.faults)
