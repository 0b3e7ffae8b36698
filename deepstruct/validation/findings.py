"""Findings: faults as other programs track them, with paths below a root and fingerprints that outlive moved lines."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from deepstruct.errors import Fault, Severity
from deepstruct.printable import printable
from deepstruct.validation.codes import SEVERITIES, Code, table
from deepstruct.validation.report import FileReport

STANDARD_INPUT = "-"
MOST_CHARACTERS = 1_000
"""Of one message or pointer that are shown."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of one file.

    Attributes:
        path: of the file, see `below`; neither escaped nor shortened.
        fault: what was found.
        code: the rule.
        fingerprint: 64 hexadecimal digits made of path, code and pointer, and of a number where these are equal. No two
            findings have the same, and it stays the same where lines move or messages change.
    """

    path: str
    fault: Fault
    code: Code
    fingerprint: str

    @property
    def message(self) -> str:
        """The message for a person, see `shown`."""
        return shown(self.fault.message)

    @property
    def pointer(self) -> str:
        """The pointer for a person, see `shown`."""
        return shown(self.fault.pointer)


def root(environment: Mapping[str, str]) -> str:
    """The folder that paths in reports are relative to: that of the repository, which CI systems name, or this one.

    Args:
        environment: of the process.
    """
    return environment.get("GITHUB_WORKSPACE") or environment.get("CI_PROJECT_DIR") or "."


def findings(reports: Iterable[FileReport], folder: str) -> Iterator[Finding]:
    """The findings in the order of the reports.

    Args:
        reports: of any files; the same file may be there twice.
        folder: that paths are relative to.
    """
    codes = table()
    seen: Counter[tuple[str, str, str]] = Counter()
    for report in reports:
        path = below(folder, report.path)
        for fault in report.faults:
            key = (path, fault.code, fault.pointer)
            identity = f"{path}\0{fault.code}\0{seen[key]}\0{fault.pointer}".encode("utf-8", "surrogatepass")
            seen[key] += 1
            yield Finding(path, fault, codes[fault.code], hashlib.sha256(identity).hexdigest())


def by_severity(found: Iterable[Finding]) -> list[Finding]:
    """The findings, the most severe first, else in the order they had."""
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.fault.severity))


def left_out(reports: Iterable[FileReport]) -> dict[Severity, int]:
    """Severity -> number of faults that the reports count but do not hold."""
    missing = dict.fromkeys(SEVERITIES, 0)
    for report in reports:
        for severity, number in report.left_out.items():
            missing[severity] += number
    return missing


def below(folder: str, path: str) -> str:
    """`path` as seen from `folder`, or the absolute path if it is not inside; always with ``/``.

    ``-``, standard input, stays as it is.
    """
    if path == STANDARD_INPUT:
        return path
    absolute = os.path.abspath(path)
    for spelling in (os.path.abspath(folder), os.path.realpath(folder)):
        inside = os.path.join(spelling, "")
        if absolute.startswith(inside) and absolute != inside:
            absolute = absolute.removeprefix(inside)
            break
    return absolute.replace(os.sep, "/")


def uri(path: str) -> str:
    """A path of `below` as a URI reference (RFC 3986): relative, or ``file:///...`` if the path is absolute."""
    try:
        name = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        name = path.encode("utf-8", "surrogatepass")
    quoted = quote(name)
    return f"file://{quoted}" if quoted.startswith("/") else quoted


def shown(text: str) -> str:
    """Text for a person: one line in which every character is seen, and that is not overlong."""
    return printable(text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…")


def counted(counts: Mapping[Severity, int]) -> str:
    """``3 errors, 1 warning``: the most severe first, empty if there is nothing to count."""
    return ", ".join(number(counts[name], name) for name in SEVERITIES if counts.get(name))


def number(count: int, noun: str) -> str:
    """``1 error``, ``1,000 errors``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
