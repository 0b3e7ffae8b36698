"""Reports of validations: one that is small and plain, and hypothesis strategies for hostile ones."""

from __future__ import annotations

from hypothesis import strategies as st

from deepstruct.errors import Fault, Severity
from deepstruct.validation.codes import SEVERITIES, table
from deepstruct.validation.report import Facts, FileReport

PLAIN = (
    FileReport(
        "nets/a.structure.json",
        (
            Fault("MISSING_PROPERTY", "/graph", "the member 'name' is missing", "error", 3, 5),
            Fault("MISSING_PROPERTY", "/graph/nodes/0", "the member 'op' is missing", "error", 9, 7),
            Fault("UNUSED_EXTENSION", "/extensions_used/0", "'ACME_x' does not occur", "hint", 2, 20),
        ),
        {},
    ),
    FileReport("gone.structure.json", (Fault("FILE_UNREADABLE", "", "no such file"),), {}),
    FileReport("b.structure.json", (), {}, Facts("1.0.0", 2, 1, 12, 7)),
)

FRAGMENTS = (
    "::error file=a::b",
    "::set-output name=x::y",
    "##[set-output name=x]y",
    "##vso[task.setvariable variable=x]y",
    "#\ufe0f#[add-mask]x",
    "\u034f::warning::x",
    "\n",
    "\r\n",
    "\x1b[2J",
    "\x9b31m",
    "\x00",
    "\u202e",
    "\u2028",
    "\ufffe",
    "\ud800",
    "\udce9",
    "%0A",
    "%",
    ",",
    ":",
    "|",
    "`",
    "``` ```",
    "<script>alert(1)</script>",
    "</code></details>",
    "<!--",
    "]]>",
    "&amp;",
    "&#10;",
    "[x](http://example.org)",
    "![](x)",
    "http://example.org",
    "www.example.org",
    "a@example.org",
    "@octocat",
    "#1",
    "{0}",
    "}}",
    "\\",
    "\\|",
    "~~a~~",
    "**a**",
    "/",
    "../",
    " ",
    "é",
    "\U0001d6fc",
)

_characters = st.characters(exclude_categories=())
hostile = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(_characters, max_size=5)), max_size=6).map("".join)
_paths = st.one_of(hostile.filter(bool), st.just("-"), st.sampled_from(["a.json", "/a b.json", "nets/é.json"]))
_severities: st.SearchStrategy[Severity] = st.sampled_from(SEVERITIES)


@st.composite
def faults(draw: st.DrawFn) -> Fault:
    """A fault of any code but that of files that cannot be read, anywhere or nowhere in a text."""
    code = draw(st.sampled_from([name for name in table() if name != "FILE_UNREADABLE"]))
    place = draw(st.one_of(st.just((None, None)), st.tuples(st.integers(1, 10**6), st.integers(1, 10**6))))
    pointer = draw(st.one_of(st.just(""), hostile.map("/{}".format)))
    return Fault(code, pointer, draw(hostile), draw(_severities), *place)


_left_out = st.dictionaries(_severities, st.integers(0, 10**6))
_readable = st.builds(FileReport, _paths, st.lists(faults(), max_size=8).map(tuple), st.just({}))
_cut = st.builds(FileReport, _paths, st.lists(faults(), min_size=1, max_size=8).map(tuple), _left_out)
_unreadable = st.builds(
    FileReport, _paths, hostile.map(lambda reason: (Fault("FILE_UNREADABLE", "", reason),)), st.just({})
)

reports = st.lists(st.one_of(_readable, _cut, _unreadable), max_size=4)


def many(number: int, *, severity: Severity = "error", path: str = "a.json", code: str = "MASK_SIZE") -> FileReport:
    """A report with `number` faults of one code at different places."""
    return FileReport(
        path, tuple(Fault(code, f"/parameters/{i}", f"message {i}", severity, i + 1, 1) for i in range(number)), {}
    )
