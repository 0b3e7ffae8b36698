"""The form for test reports: JUnit XML with one test case a file and without times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from xml.etree import ElementTree

from deepstruct.errors import Severity
from deepstruct.printable import printable
from deepstruct.validation.codes import SEVERITIES
from deepstruct.validation.findings import below, counted, root, shown
from deepstruct.validation.logs import to_xml
from deepstruct.validation.report import FileReport
from deepstruct.validation.text import lines

_NAME = "deepstruct validate"


def render(reports: Sequence[FileReport], environment: Mapping[str, str]) -> str:
    """A suite in which a file with errors has failed and an unreadable one is an error; all else found is output.

    Args:
        reports: of the files.
        environment: of the process; it tells which folder the names of the test cases are relative to.

    Returns:
        XML 1.0 in ASCII.
    """
    unreadable = sum(not report.readable for report in reports)
    invalid = sum(not report.valid for report in reports) - unreadable
    counts = {"tests": str(len(reports)), "failures": str(invalid), "errors": str(unreadable)}
    suites = ElementTree.Element("testsuites", {"name": _NAME, **counts})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": _NAME, **counts, "skipped": "0"})
    for report in reports:
        _case(suite, report, root(environment))
    ElementTree.indent(suites, " ")
    content: bytes = ElementTree.tostring(suites, encoding="us-ascii", xml_declaration=True)
    return to_xml(content.decode("ascii")) + "\n"


def _case(suite: ElementTree.Element, report: FileReport, folder: str) -> None:
    path = printable(below(folder, report.path))
    case = ElementTree.SubElement(suite, "testcase", {"classname": "deepstruct", "name": path, "file": path})
    errors, others = _only(report, {"error"}), _only(report, set(SEVERITIES) - {"error"})
    if not report.readable:
        unreadable = {"type": "unreadable", "message": shown(report.faults[0].message)}
        ElementTree.SubElement(case, "error", unreadable).text = _text(errors)
    elif not report.valid:
        ElementTree.SubElement(case, "failure", {"type": "invalid", "message": counted(errors.counts)}).text = _text(
            errors
        )
    if any(others.counts.values()):
        ElementTree.SubElement(case, "system-out").text = _text(others)


def _only(report: FileReport, severities: set[Severity]) -> FileReport:
    """The part of a report that is about faults of some severities."""
    return replace(
        report,
        faults=tuple(fault for fault in report.faults if fault.severity in severities),
        left_out={severity: number for severity, number in report.left_out.items() if severity in severities},
    )


def _text(report: FileReport) -> str:
    return "\n".join(lines(report))
