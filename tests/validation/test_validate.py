"""Validation of one file: what the passes find together, and that nothing a file holds makes it fail otherwise."""

from __future__ import annotations

import copy
import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import deepstruct
from deepstruct import document, schemas
from deepstruct.errors import DocumentError
from deepstruct.limits import Limits
from deepstruct.testing import SAMPLES, chains, feed_forward, with_weights
from deepstruct.validation import schema_pass
from deepstruct.validation.selection import Selection
from deepstruct.validation.validate import validate

GOOD = json.loads(json.dumps(document.to_json(SAMPLES["skip-connection"])))
del GOOD["digest"]


def places(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path into a JSON value but the empty one."""
    found = [prefix] if prefix else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*prefix, key))
    return found


ITEMS: list[Any] = [None, True, -1, 1.5, 2**53 - 1, "", "x", "sha256:" + "0" * 64, [], {}, [[]], {"type": "graph"}]


@st.composite
def mutants(draw: st.DrawFn) -> Any:
    """A document with up to three values replaced or removed."""
    value = copy.deepcopy(GOOD)
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(places(value)))
        owner = value
        for key in path:
            owner = owner[key]
        if draw(st.booleans()):
            del owner[last]
        else:
            owner[last] = copy.deepcopy(draw(st.sampled_from(ITEMS)))
        if not places(value):
            break
    return value


def written(folder: Path, value: Any) -> Path:
    path = folder / "a.structure.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=mutants())
def test_what_the_reader_accepts_the_schema_does_and_the_validator_agrees(tmp_path: Path, value: Any) -> None:
    _, faults = document.examine(value)
    errors = [fault for fault in faults if fault.severity == "error"]
    assert errors or not schema_pass.faults(value, strict=False)
    assert validate(written(tmp_path, value)).valid == (not errors)


@settings(max_examples=100)
@given(value=mutants())
def test_two_implementations_of_the_schema_agree(value: Any) -> None:
    for strict in (False, True):
        schema = schemas.structure_schema(strict=strict)
        expected = {error.json_path for error in jsonschema.Draft7Validator(schema).iter_errors(value)}
        found = {fault.pointer for fault in schema_pass.faults(value, strict=strict)}
        assert bool(found) == bool(expected)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=mutants())
def test_every_fault_is_reported_once_with_its_place(tmp_path: Path, value: Any) -> None:
    path = written(tmp_path, value)
    report = validate(path)
    assert len({(f.code, f.pointer, f.message) for f in report.faults}) == len(report.faults)
    length = len(path.read_text(encoding="utf-8"))
    for fault in report.faults:
        assert fault.line == 1
        assert 1 <= (fault.column or 0) <= length


OWN_NODES: dict[str, dict[str, Any]] = {
    "UNKNOWN_OPERATOR": {"name": "own", "op": "Own", "inputs": ["x"], "outputs": ["own.y"]},
    "UNRESOLVED_REFERENCE": {"name": "own", "op": "Relu", "inputs": ["own.x"], "outputs": ["own.y"]},
}
OWN_PARAMETER = {"dtype": "float32", "shape": [3, 2], "mask": {"nnz": 4, "encoding": "full"}}


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much])
@given(value=mutants(), code=st.sampled_from([*OWN_NODES, "MASK_COUNT_MISMATCH"]))
def test_faults_elsewhere_hide_nothing(tmp_path: Path, value: Any, code: str) -> None:
    """A fault planted in a part of its own is found, whatever else is wrong."""
    head = {"format": "deepstruct", "version": "1.0.0"}
    assume({key: value.get(key) for key in head} == head and value.get("min_version") in (None, "1.0.0"))
    graph, parameters = value.get("graph"), value.get("parameters")
    assume(isinstance(graph, dict) and graph.get("opset") == {"": 18})
    if code in OWN_NODES:
        assume(isinstance(graph.get("nodes"), list))
        graph["nodes"].append(OWN_NODES[code])
    else:
        assume(isinstance(parameters, dict))
        parameters["own"] = OWN_PARAMETER
    found = [fault for fault in validate(written(tmp_path, value)).faults if fault.code == code]
    assert any("own" in fault.pointer + fault.message.lower() for fault in found)


def test_weights_are_looked_at_even_if_the_digest_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.structure.json"
    deepstruct.save(with_weights(feed_forward()), path)
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r'^  "digest": "sha256:....', '  "digest": "sha256:0000', text, flags=re.MULTILINE))
    (tmp_path / "a.safetensors").write_bytes(b"")
    assert [f.code for f in validate(path).faults if f.severity == "error"] == ["DIGEST_MISMATCH", "WEIGHTS_FILE"]
    assert [f.code for f in validate(path, weights=False).faults if f.severity == "error"] == ["DIGEST_MISMATCH"]


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    deepstruct.save(with_weights(feed_forward()), inside / "a.structure.json")
    (inside / "a.safetensors").rename(tmp_path / "secret.safetensors")
    (inside / "a.safetensors").symlink_to(tmp_path / "secret.safetensors")
    errors = [f for f in validate(inside / "a.structure.json").faults if f.severity == "error"]
    assert [(f.code, f.pointer) for f in errors] == [("WEIGHTS_URI", "/weights/uri")]


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "unreadable"])
def test_files_that_cannot_be_read_are_a_fault(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.structure.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "unreadable":
        path.symlink_to(path)
    report = validate(path)
    assert [fault.code for fault in report.faults] == ["FILE_UNREADABLE"]
    assert not report.valid
    assert not report.readable


def test_facts_are_those_of_a_valid_document(tmp_path: Path) -> None:
    structure = SAMPLES["skip-connection"]
    deepstruct.save(deepstruct.Model(structure), tmp_path / "a.structure.json")
    facts = validate(tmp_path / "a.structure.json").facts
    assert facts is not None
    assert (facts.nodes, facts.parameters, facts.entries, facts.nnz) == (5, 3, structure.size, structure.nnz)
    assert validate(written(tmp_path, {**GOOD, "graph": 5})).facts is None


def test_a_file_that_changes_in_between_loses_its_places_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, {**GOOD, "colour": 1})
    examine = document.examine

    def changing(*arguments: Any) -> Any:
        path.write_text("[")
        return examine(*arguments)

    monkeypatch.setattr(document, "examine", changing)
    assert [(fault.code, fault.line) for fault in validate(path).faults if fault.severity == "warning"] == [
        ("UNEXPECTED_PROPERTY", None)
    ]


@pytest.mark.parametrize("side", ["inputs", "outputs", "nodes", "functions"])
def test_no_number_of_faults_uses_up_the_memory(tmp_path: Path, side: str) -> None:
    value = copy.deepcopy(GOOD)
    value["graph"][side] = [7] * 200_000
    report = validate(written(tmp_path, value), selection=Selection(most=0))
    assert 10_000 < sum(report.counts.values()) < 10_100
    assert "LIMIT_EXCEEDED" in {fault.code for fault in report.faults}


def test_no_number_of_unknown_members_makes_a_document_unreadable(tmp_path: Path) -> None:
    value = copy.deepcopy(GOOD) | {f"member {i}": i for i in range(20_000)}
    report = validate(written(tmp_path, value), selection=Selection(most=0))
    assert report.valid
    assert report.counts["warning"] == 10_000
    with pytest.warns(deepstruct.errors.DocumentWarning, match="and 9999 more"):
        assert deepstruct.load(written(tmp_path, value)).structure.nodes == SAMPLES["skip-connection"].nodes


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(structure=chains())
def test_what_is_written_has_no_fault_but_hints(tmp_path: Path, structure: deepstruct.Structure) -> None:
    deepstruct.save(with_weights(structure), tmp_path / "a.structure.json")
    report = validate(tmp_path / "a.structure.json", selection=Selection(strict=True))
    assert {fault.severity for fault in report.faults} <= {"hint"}
    assert report.facts is not None


def test_limits_are_those_that_are_given(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    for name, value in (("document_bytes", 100), ("depth", 3), ("values", 10), ("mask_elements", 5)):
        report = validate(path, limits=Limits(**{name: value}))
        assert [fault.code for fault in report.faults if fault.severity == "error"][:1] == ["LIMIT_EXCEEDED"]


def test_readers_refuse_what_validators_call_an_error(tmp_path: Path) -> None:
    value = copy.deepcopy(GOOD)
    value["weights"] = {"uri": "w", "format": "safetensors", "layout": "values", "digest": "md5:0"}
    with pytest.raises(DocumentError, match="a digest is sha256"):
        deepstruct.load(written(tmp_path, value), weights=False)
