"""The schema of the JSON report: it takes every report that is made, and nothing else."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import jsonschema_rs
import pytest
from file_reports import PLAIN, reports
from hypothesis import given, settings

import deepstruct
from deepstruct import schemas
from deepstruct.testing import feed_forward
from deepstruct.validation.report import VERSION, FileReport, to_json
from deepstruct.validation.validate import validate

SCHEMA = json.loads(schemas.text(f"validation-{VERSION}.json"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FAST = jsonschema_rs.Draft202012Validator(SCHEMA)


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$id"] == f"urn:deepstruct:schema:validation:{VERSION}"
    assert SCHEMA["properties"]["version"]["const"] == VERSION


def test_it_takes_reports_of_files(tmp_path: Path) -> None:
    deepstruct.save(deepstruct.Model(feed_forward()), tmp_path / "good.structure.json")
    contents = {
        "text": b"{",
        "bytes": b"\xff\xfe",
        "number": b"1",
        "empty": b"",
        "object": b"{}",
        "head": b'{"format": "deepstruct", "version": "1.0.0"}',
        "keys": b'{"format": "deepstruct", "format": "deepstruct", "a/~b": NaN}',
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.structure.json").write_bytes(content)
    found = [validate(path) for path in sorted(tmp_path.glob("*.json"))] + [validate(tmp_path / "gone")]
    report = to_json(found)
    VALIDATOR.validate(report)
    FAST.validate(report)
    assert [file["valid"] for file in report["files"]].count(True) == 1
    assert report["files"][-1]["faults"][0]["code"] == "FILE_UNREADABLE"


def test_it_takes_the_report_of_nothing() -> None:
    VALIDATOR.validate(to_json([]))


def objects(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where there are objects in a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * isinstance(value, dict) + [place for key, item in items for place in objects(item, (*path, key))]


def test_it_refuses_members_that_are_missing_or_unknown() -> None:
    whole = to_json(PLAIN)
    VALIDATOR.validate(whole)
    places = objects(whole)
    assert len(places) > 10
    for place in places:
        for change in ("unknown", *_at(whole, place)):
            broken = copy.deepcopy(whole)
            if change == "unknown":
                _at(broken, place)[change] = 1
            else:
                del _at(broken, place)[change]
            assert not VALIDATOR.is_valid(broken), (place, change)
            assert not FAST.is_valid(broken), (place, change)


def _at(value: Any, place: tuple[str | int, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("format",), "deepstruct"),
        (("version",), "1.1.0"),
        (("valid",), 1),
        (("files", 0, "counts", "error"), 0),
        (("files", 0, "counts", "hint"), -1),
        (("files", 0, "facts"), {"version": "1.0.0", "nodes": 1, "parameters": 1, "entries": 1, "nnz": 1}),
        (("files", 2, "counts", "error"), 1),
        (("files", 2, "facts", "nnz"), 1.5),
        (("files", 0, "faults", 0, "line"), 0),
        (("files", 0, "faults", 0, "column"), "1"),
        (("files", 0, "faults", 0, "pointer"), "graph"),
        (("files", 0, "faults", 0, "pointer"), "/a~2"),
        (("files", 0, "faults", 0, "code"), "mask size"),
        (("files", 0, "faults", 0, "severity"), "fatal"),
        (("files", 0, "faults", 0, "advice"), ""),
    ],
)
def test_it_refuses_values_that_a_report_cannot_have(place: tuple[str | int, ...], value: Any) -> None:
    broken = to_json(PLAIN)
    _at(broken, place[:-1])[place[-1]] = value
    assert not VALIDATOR.is_valid(broken)
    assert not FAST.is_valid(broken)


@settings(max_examples=40)
@given(reports)
def test_it_takes_reports_of_any_text(drawn: list[FileReport]) -> None:
    report = to_json(drawn)
    faults = [fault for file in report["files"] for fault in file["faults"]]
    for fault in faults:
        tokens = fault["pointer"].split("/")[1:]
        fault["pointer"] = "".join("/" + token.replace("~", "~0") for token in tokens)
        fault["message"] = fault["message"] or "x"
    VALIDATOR.validate(report)
