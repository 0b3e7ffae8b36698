"""The conformance kit: every document with faults has a golden report, with exact places, and every code a document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_versions import meaning
from validation.kit import CASES, FOLDER, SUFFIX, Case, golden_text, line_and_column, places

import deepstruct
from deepstruct.validation.codes import table
from deepstruct.validation.validate import validate

SYNTAX = {
    "INVALID_JSON-byte-order-mark": "\ufeff{",
    "INVALID_JSON-comment": "// the graph",
    "INVALID_JSON-control-character": "\tny",
    "INVALID_JSON-empty": "",
    "INVALID_JSON-not-utf-8": "\ufffdny",
    "INVALID_JSON-single-quotes": "'tiny'",
    "INVALID_JSON-trailing-comma": '},\n    "inputs"',
    "INVALID_JSON-truncated": "",
    "INVALID_JSON-two-values": "{}\n",
    "LIMIT_EXCEEDED-depth": "[[]]]]",
}
"""What stands at the place of a fault to which no pointer leads."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_reports_are_golden(case: Case, accept: bool) -> None:
    text = golden_text(case.report())
    if accept:
        case.golden.write_text(text, encoding="utf-8")
    assert text == case.golden.read_text(encoding="utf-8")
    assert case.code in {fault["code"] for fault in json.loads(text)["faults"]}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_places_are_exact(case: Case) -> None:
    faults = json.loads(case.golden.read_text(encoding="utf-8"))["faults"]
    if faults[0]["line"] is None:
        assert {fault["code"] for fault in faults} <= {"FILE_UNREADABLE", "LIMIT_EXCEEDED"}
        return
    text = case.path.read_bytes().decode("utf-8", "replace")
    if case.name in SYNTAX or case.name == "INVALID_JSON-utf-16":
        (fault,) = faults
        offset = text.index(SYNTAX[case.name], -8) if case.name == "INVALID_JSON-two-values" else None
        lines = text.split("\n")
        found = sum(len(line) + 1 for line in lines[: fault["line"] - 1]) + fault["column"] - 1
        assert offset is None or found == offset
        expected = SYNTAX.get(case.name, "\ufffd")
        assert text[found:].startswith(expected)
        assert expected or found >= len(text.rstrip())
        return
    known = places(text)
    for fault in faults:
        anchor = table()[fault["code"]].anchor
        pointer = fault["pointer"]
        if pointer in known:
            offset = known[pointer][anchor == "key"]
        else:
            while pointer not in known:
                pointer = pointer.rpartition("/")[0]
            offset = known[pointer][0]
        assert (fault["line"], fault["column"]) == line_and_column(text, offset), fault


VALID = sorted((FOLDER / "valid").glob(f"*{SUFFIX}"))
WARNED = {"newer-minor": {"UNKNOWN_MINOR_VERSION", "UNEXPECTED_PROPERTY"}}


@pytest.mark.filterwarnings("ignore::deepstruct.errors.DocumentWarning")
@pytest.mark.parametrize("path", VALID, ids=lambda path: path.name.removesuffix(SUFFIX))
def test_valid_documents_mean_what_the_table_says(path: Path, accept: bool) -> None:
    name = path.name.removesuffix(SUFFIX)
    report = validate(path)
    assert report.valid
    assert {fault.code for fault in report.faults if fault.severity == "warning"} == WARNED.get(name, set())
    place = path.with_name("digests.json")
    known = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    found = meaning(deepstruct.load(path))
    if accept:
        place.write_text(json.dumps(dict(sorted({**known, name: found}.items())), indent=1) + "\n", encoding="utf-8")
    else:
        assert found == known[name]


def test_the_table_names_every_valid_document() -> None:
    digests = json.loads((FOLDER / "valid" / "digests.json").read_text(encoding="utf-8"))
    assert sorted(digests) == [path.name.removesuffix(SUFFIX) for path in VALID]


def test_faults_stand_in_the_order_of_the_text() -> None:
    for case in CASES:
        faults = json.loads(case.golden.read_text(encoding="utf-8"))["faults"]
        order = [(fault["line"] or 0, fault["column"] or 0) for fault in faults]
        assert order == sorted(order), case.name


def test_every_code_has_a_document() -> None:
    assert {case.code for case in CASES} == set(table())


def test_every_file_of_the_kit_belongs_to_a_case() -> None:
    folder = CASES[0].path.parent
    suffixes = (".structure.json", ".report.json", ".options.json", ".budget.toml", ".safetensors")
    names = [path.name for path in folder.iterdir()]
    stems = {name.removesuffix(suffix) for name in names for suffix in suffixes if name.endswith(suffix)}
    assert stems == {case.name for case in CASES}
    assert all(name.endswith(suffixes) for name in names)
