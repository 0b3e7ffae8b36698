"""The job summary, rendered by GitHub's own markdown parser."""

from __future__ import annotations

import os
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import cmarkgfm  # type: ignore[import-untyped]  # it has no stubs
import pytest
from cmarkgfm.cmark import Options  # type: ignore[import-untyped]  # it has no stubs
from file_reports import FRAGMENTS, PLAIN, many, reports
from hypothesis import given, settings

from deepstruct.errors import Fault
from deepstruct.validation.codes import table
from deepstruct.validation.findings import shown
from deepstruct.validation.github_summary import MOST_BYTES, append_summary, summary
from deepstruct.validation.report import FileReport

COMMIT = {
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "o/r",
    "GITHUB_SHA": "0123456789abcdef" * 2 + "0" * 8,
}
BLOB = f"https://github.com/o/r/blob/{COMMIT['GITHUB_SHA']}"


class Page(HTMLParser):
    """Tags, links, cells and text outside of tables of a page."""

    def __init__(self, markdown: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.links: list[str | None] = []
        self.rows: list[list[str]] = []
        self.headings: list[str] = []
        self._open: list[str] = []
        self.feed(cmarkgfm.github_flavored_markdown_to_html(markdown, options=Options.CMARK_OPT_UNSAFE))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert tag == "a" or not attrs
        self.links += [value for name, value in attrs if name == "href"]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "h4":
            self.headings.append("")
        elif tag == "br":
            self.handle_data("\n")
        if tag != "br":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data
        elif "h4" in self._open:
            self.headings[-1] += data


def test_each_file_has_a_table_with_lines_codes_and_advice() -> None:
    page = Page(summary(PLAIN, COMMIT))
    missing, unused = table()["MISSING_PROPERTY"].advice, table()["UNUSED_EXTENSION"].advice
    unreadable = table()["FILE_UNREADABLE"].advice
    assert page.headings == [
        "nets/a.structure.json: invalid (2 errors, 1 hint)",
        "gone.structure.json: unreadable (1 error)",
    ]
    assert [row for row in page.rows if row[0] != "severity"] == [
        ["error", "3", "MISSING_PROPERTY", f"the member 'name' is missing\n/graph\n{missing}"],
        ["error", "9", "MISSING_PROPERTY", "the member 'op' is missing\n/graph/nodes/0"],
        ["hint", "2", "UNUSED_EXTENSION", f"'ACME_x' does not occur\n/extensions_used/0\n{unused}"],
        ["error", "", "FILE_UNREADABLE", f"no such file\n{unreadable}"],
    ]
    assert page.links == [f"{BLOB}/nets/a.structure.json#L{line}" for line in (3, 9, 2)]


def test_files_without_a_finding_are_only_counted() -> None:
    clean = [FileReport(f"{i}.json", (), {}) for i in range(3)]
    assert summary(clean, {}) == ("### deepstruct validate: 3 files: 3 valid\n\n3 files without a finding.\n")


def test_files_with_errors_come_first_and_in_them_errors() -> None:
    hint, error = Fault("DEAD_UNITS", "", "one", "hint", 1, 1), Fault("MASK_SIZE", "", "two", "error", 2, 1)
    page = Page(summary([FileReport("a.json", (hint,), {}), FileReport("b.json", (hint, error), {})], {}))
    assert page.headings == ["b.json: invalid (1 error, 1 hint)", "a.json: valid (1 hint)"]
    assert [row[0] for row in page.rows] == ["severity", "error", "hint", "severity", "hint"]


def test_a_long_table_is_folded() -> None:
    assert "details" not in Page(summary([many(19)], {})).tags
    page = Page(summary([many(20)], {}))
    assert page.tags >= {"details", "summary", "table"}
    assert len(page.rows) == 21


@pytest.mark.parametrize(
    "broken",
    [
        {"GITHUB_SHA": ""},
        {"GITHUB_SHA": "main)[x](http://example.org"},
        {"GITHUB_SERVER_URL": "javascript:alert(1)//"},
        {"GITHUB_REPOSITORY": "o/r)|<b>"},
    ],
)
def test_without_a_sound_repository_and_commit_there_are_no_links(broken: dict[str, str]) -> None:
    page = Page(summary(PLAIN, COMMIT | broken))
    assert page.links == []
    assert page.rows[1][1] == "3"


def test_a_file_outside_of_the_workspace_has_no_links(tmp_path: Path) -> None:
    fault = (Fault("MASK_SIZE", "", "x", "error", 1, 1),)
    found = [FileReport(path, fault, {}) for path in ("-", f"{tmp_path.parent}/a.json", f"{tmp_path}/a (1)#?.json")]
    page = Page(summary(found, COMMIT | {"GITHUB_WORKSPACE": str(tmp_path)}))
    assert page.links == [f"{BLOB}/a%20%281%29%23%3F.json#L1"]


def test_it_stays_below_the_limit_of_github_and_says_what_is_missing() -> None:
    text = summary([many(1000, path=f"{i}.json") for i in range(20)], COMMIT)
    assert MOST_BYTES * 0.9 < len(text.encode()) < MOST_BYTES
    assert "findings more\n" in text
    assert "The findings of more files do not fit here" in text
    assert Page(text).tags >= {"details", "table"}
    left_out = FileReport("a.json", PLAIN[0].faults, {"hint": 3})
    assert "\nand 3 findings more\n" in summary([left_out], {})


@settings(max_examples=40)
@given(reports)
def test_whatever_a_file_holds_it_is_shown_as_text(drawn: list[FileReport]) -> None:
    page = Page(summary(drawn, COMMIT))
    assert page.tags <= {"h3", "h4", "p", "table", "thead", "tbody", "tr", "th", "td", "code", "br", "a"}
    assert all(link is not None and link.startswith(f"{BLOB}/") for link in page.links)
    rows = [row for row in page.rows if row[0] != "severity"]
    meant = sorted((fault.code, shown(fault.message).strip()) for report in drawn for fault in report.faults)
    assert sorted((row[2], row[3].split("\n")[0].strip()) for row in rows) == meant
    assert all(len(row) == 4 for row in rows)


def test_names_and_numbers_become_no_mentions() -> None:
    fault = Fault("MASK_SIZE", "", "ask @octocat about #1, see www.example.org or a@example.org")
    text = summary([FileReport("@octocat", (fault,), {})], {})
    html = cmarkgfm.github_flavored_markdown_to_html(text, options=Options.CMARK_OPT_UNSAFE)
    assert "@octocat" not in html
    assert "#1" not in html
    assert "<a" not in html


def test_the_summary_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "summary"
    path.write_text("before")
    assert append_summary(str(path), "### a\n") is None
    assert append_summary(str(path), "### é\n") is None
    assert path.read_text(encoding="utf-8") == "before\n### a\n\n### é\n"


def test_a_summary_that_cannot_be_written_is_said_and_nothing_else(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "full").write_bytes(b"x" * MOST_BYTES)
    for name, reason in {
        "gone": "No such file or directory",
        "gone/gone": "No such file or directory",
        ".": "Is a directory",
        "fifo": "No such device or address",
        "full": "would be larger than 1 MiB",
        "\0": "embedded null byte",
        "x" * 300: "File name too long",
    }.items():
        said = append_summary(os.path.join(tmp_path, name), "text")
        assert said is not None
        assert reason in said
        assert said.isprintable()
    assert append_summary("/dev/null", "text") == "the job summary '/dev/null' is no regular file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo", "full"]
    assert (tmp_path / "full").stat().st_size == MOST_BYTES


def test_a_path_in_a_link_leads_to_the_file() -> None:
    for name in FRAGMENTS:
        fault = Fault("MASK_SIZE", "", "x", "error", 7, 1)
        path = f"a{name}b.json".replace("../", "").replace("//", "").replace("\ud800", "")
        [link] = Page(summary([FileReport(path, (fault,), {})], COMMIT)).links
        assert link is not None
        assert unquote(link.removeprefix(f"{BLOB}/").removesuffix("#L7"), errors="surrogateescape") == path
