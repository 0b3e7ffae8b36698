"""Documents: JSON profile, structure <-> JSON, versions, extensions, and every fault with its place."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from packaging.version import Version

import deepstruct
from deepstruct import Node, Structure, Tensor, ValueInfo, document, jsonprofile, migrations, rewriting, schemas
from deepstruct.errors import DocumentError
from deepstruct.limits import Limits
from deepstruct.testing import SAMPLES, chains, feed_forward, with_weights
from deepstruct.validation.validate import validate


def text(structure: Structure) -> bytes:
    return "".join(jsonprofile.layout(document.to_json(structure))).encode()


@given(chains())
def test_structures_come_back(structure: Structure) -> None:
    content = text(structure)
    reading = document.from_json(jsonprofile.parse(content))
    assert reading.structure == structure
    assert reading.warnings == ()
    assert text(reading.structure) == content


@given(chains())
def test_our_documents_meet_both_schemas_in_both_drafts(structure: Structure) -> None:
    value = document.to_json(structure)
    for strict in (False, True):
        schema = schemas.structure_schema(strict=strict)
        jsonschema.Draft7Validator(schema).validate(value)
        jsonschema.Draft202012Validator({k: v for k, v in schema.items() if k != "$schema"}).validate(value)


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_come_back(name: str) -> None:
    assert document.from_json(document.to_json(SAMPLES[name])).structure == SAMPLES[name]


def test_attributes_of_every_type_come_back() -> None:
    values: dict[str, Any] = {
        "int": -3,
        "huge": 2**63 - 1,
        "float": 1.0,
        "tiny": 1e-42,
        "nan": float("nan"),
        "infinity": float("-inf"),
        "string": "ü",
        "ints": [1, -(2**62)],
        "floats": [1.0, 2.5, float("inf")],
        "strings": ["a", ""],
        "tensor": Tensor("int64", (2, 1), (2**62, -1)),
        "scalar": Tensor("float16", (), (0.1,)),
        "names": Tensor("string", (2,), ("a", "b")),
    }
    structure = Structure(
        nodes=(Node("n", "Any", ("x",), ("y",), values, domain="com.example"),),
        inputs=(ValueInfo("x", "float32", None),),
        outputs=(ValueInfo("y", "string", (None, "n")),),
        opset={"com.example": 7},
    )
    assert document.from_json(jsonprofile.parse(text(structure))).structure == structure


@pytest.mark.parametrize("value", [1.0, 0.5, [0.5], [], {"type": "floats", "value": []}])
def test_numbers_of_unknown_operators_say_their_type(value: Any) -> None:
    content = without_digest()
    content["graph"]["opset"]["com.example"] = 1
    content["graph"]["nodes"][0] |= {"domain": "com.example", "op": "Any", "attributes": {"a": value}}
    assert codes(content) == [("OPERATOR_ATTRIBUTE", "/graph/nodes/0/attributes/a")]


def test_unknown_members_of_a_full_mask_survive() -> None:
    value = without_digest()
    value["parameters"]["fc0.bias"]["mask"] = {"nnz": 7, "encoding": "full", "hint": 1}
    structure = document.from_json(value).structure
    assert structure.parameter("fc0.bias").mask is None
    again = document.to_json(structure)
    assert again["parameters"]["fc0.bias"]["mask"].items() >= {"nnz": 7, "encoding": "full", "hint": 1}.items()
    assert document.from_json(again).structure == structure


def test_integers_stand_for_floats_where_the_operator_says_so() -> None:
    value = document.to_json(SAMPLES["skip-connection"])
    value["graph"]["nodes"][1]["attributes"] = {"alpha": 2}
    del value["digest"]
    node = document.from_json(value).structure.nodes[1]
    assert type(node.attributes["alpha"]) is float


def test_one_change_is_one_line() -> None:
    before = text(feed_forward(density=0.3)).decode().splitlines()
    after = (
        text(feed_forward(density=0.3, sizes=(5, 7, 3))).decode().replace('"op": "Relu"', '"op": "Tanh"').splitlines()
    )
    assert len(before) == len(after)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


def test_the_digest_does_not_depend_on_form() -> None:
    structure = feed_forward()
    value = document.to_json(structure)
    value["parameters"] = dict(reversed(value["parameters"].items()))
    for parameter in value["parameters"].values():
        if "mask" in parameter:
            parameter["mask"] = {**parameter["mask"], **{"encoding": "coo", "compression": "none"}}
            mask = structure.parameter(next(n for n, p in value["parameters"].items() if p is parameter)).mask
            assert mask is not None
            from deepstruct.encoding import encode

            parameter["mask"] = encode(mask, "coo")
    assert document.from_json(value).structure == structure


def good() -> dict[str, Any]:
    return document.to_json(feed_forward())


def without_digest() -> dict[str, Any]:
    value = good()
    del value["digest"]
    return value


def codes(value: Any) -> list[tuple[str, str]]:
    with pytest.raises(DocumentError) as caught:
        document.from_json(value)
    return [(fault.code, fault.pointer) for fault in caught.value.faults if fault.severity == "error"]


def set_at(value: Any, place: str, item: Any) -> Any:
    """`value` with `item` at a JSON pointer; a `del` item removes."""
    *path, last = [part.replace("~1", "/").replace("~0", "~") for part in place.split("/")[1:]]
    owner = value
    for part in path:
        owner = owner[int(part)] if isinstance(owner, list) else owner[part]
    key: Any = int(last) if isinstance(owner, list) else last
    if item is ...:
        del owner[key]
    else:
        owner[key] = item
    return value


WRONG: list[tuple[str, Any, str, str]] = [
    ("/format", "other", "NOT_A_DOCUMENT", ""),
    ("/version", "2.0.0", "UNKNOWN_MAJOR_VERSION", "/version"),
    ("/version", "0.9.0", "UNKNOWN_MAJOR_VERSION", "/version"),
    ("/version", "1.0", "INVALID_VERSION", "/version"),
    ("/version", 1.0, "TYPE_MISMATCH", "/version"),
    ("/version", ..., "TYPE_MISMATCH", "/version"),
    ("/version", "1.0.0-rc1", "INVALID_VERSION", "/version"),
    ("/min_version", "1.1.0", "MIN_VERSION_ABOVE_VERSION", "/min_version"),
    ("/extensions_required", ["EXT_magic"], "UNSUPPORTED_EXTENSION", "/extensions_required/0"),
    ("/extensions_used", "EXT_magic", "TYPE_MISMATCH", "/extensions_used"),
    ("/min_version", "0.9.0", "INVALID_VERSION", "/min_version"),
    ("/graph/nodes/0/domain", "ai.onnx", "INVALID_VALUE", "/graph/nodes/0/domain"),
    ("/graph/opset", {"ai.onnx": 20, "": 20}, "INVALID_VALUE", "/graph/opset/ai.onnx"),
    ("/graph/constants", {"": {"dtype": "int64", "shape": [], "data": [1]}}, "TYPE_MISMATCH", "/graph/constants/"),
    (
        "/graph/constants",
        {"c": {"dtype": "int64", "shape": [], "data": [1], "more": 1}},
        "OPERATOR_ATTRIBUTE",
        "/graph/constants/c",
    ),
    (
        "/graph/constants",
        {"c": {"dtype": "float16", "shape": [], "data": [1e6]}},
        "INVALID_VALUE",
        "/graph/constants/c/data",
    ),
    (
        "/graph/nodes/0/attributes/alpha",
        {"type": "float", "value": 1, "more": 1},
        "OPERATOR_ATTRIBUTE",
        "/graph/nodes/0/attributes/alpha",
    ),
    ("/graph/nodes/0/attributes/alpha", 1e39, "OPERATOR_ATTRIBUTE", "/graph/nodes/0/attributes/alpha"),
    ("/graph/outputs/0/dtype", "float64", "DTYPE_MISMATCH", "/graph/outputs/0/dtype"),
    ("/parameters/fc0.bias/dtype", "float64", "DTYPE_MISMATCH", "/graph/nodes/0/inputs/2"),
    ("/extensions_used", ["magic"], "INVALID_VALUE", "/extensions_used/0"),
    ("/generator", 5, "TYPE_MISMATCH", "/generator"),
    ("/generator", {}, "MISSING_PROPERTY", "/generator"),
    ("/extensions_used", ["A_b", "A_b"], "DUPLICATE_NAME", "/extensions_used/1"),
    ("/extensions", 5, "TYPE_MISMATCH", "/extensions"),
    ("/graph/nodes/0/extensions", 5, "TYPE_MISMATCH", "/graph/nodes/0/extensions"),
    (
        "/graph/nodes/0/attributes/transB",
        {"type": [], "value": 1},
        "OPERATOR_ATTRIBUTE",
        "/graph/nodes/0/attributes/transB",
    ),
    ("/graph/name", "", "TYPE_MISMATCH", "/graph/name"),
    ("/version", "1.0.0\n", "INVALID_VERSION", "/version"),
    ("/graph/nodes/0/inputs/1", "", "OPERATOR_ARITY", "/graph/nodes/0/inputs/1"),
    ("/graph/opset", {"": 2**40}, "TYPE_MISMATCH", "/graph/opset/"),
    ("/parameters/fc0.weight/shape", [1] * 65, "LIMIT_EXCEEDED", "/parameters/fc0.weight/shape"),
    ("/parameters/fc0.weight/shape", [0, 2**50], "LIMIT_EXCEEDED", "/parameters/fc0.weight/shape"),
    ("/graph", ..., "MISSING_PROPERTY", ""),
    ("/graph", [], "TYPE_MISMATCH", "/graph"),
    ("/graph/nodes", {}, "TYPE_MISMATCH", "/graph/nodes"),
    ("/graph/nodes/0", None, "TYPE_MISMATCH", "/graph/nodes/0"),
    ("/graph/nodes/0/op", ..., "MISSING_PROPERTY", "/graph/nodes/0"),
    ("/graph/nodes/0/op", 7, "TYPE_MISMATCH", "/graph/nodes/0/op"),
    ("/graph/nodes/0/op", "Gmm", "UNKNOWN_OPERATOR", "/graph/nodes/0/op"),
    ("/graph/nodes/0/inputs", "x", "TYPE_MISMATCH", "/graph/nodes/0/inputs"),
    ("/graph/nodes/0/inputs/1", "v", "UNRESOLVED_REFERENCE", "/graph/nodes/0/inputs/1"),
    ("/graph/nodes/0/inputs/1", 7, "TYPE_MISMATCH", "/graph/nodes/0/inputs/1"),
    ("/graph/nodes/0/attributes/transB", "1", "OPERATOR_ATTRIBUTE", "/graph/nodes/0/attributes/transB"),
    ("/graph/nodes/0/attributes/transB", True, "OPERATOR_ATTRIBUTE", "/graph/nodes/0/attributes/transB"),
    ("/graph/nodes/0/attributes/transB", {"type": "x"}, "OPERATOR_ATTRIBUTE", "/graph/nodes/0/attributes/transB"),
    ("/graph/nodes/0/attributes/transB", 0, "SHAPE_MISMATCH", "/graph/nodes/0/inputs/1"),
    ("/graph/opset", {"": "20"}, "TYPE_MISMATCH", "/graph/opset/"),
    ("/graph/inputs/0/dtype", "float", "UNKNOWN_DTYPE", "/graph/inputs/0/dtype"),
    ("/graph/inputs/0/shape", "3", "TYPE_MISMATCH", "/graph/inputs/0/shape"),
    ("/graph/inputs/0/shape", [-1], "TYPE_MISMATCH", "/graph/inputs/0/shape/0"),
    ("/graph/constants", {"c": 3}, "OPERATOR_ATTRIBUTE", "/graph/constants/c"),
    ("/parameters/fc0.weight", [], "TYPE_MISMATCH", "/parameters/fc0.weight"),
    ("/parameters/fc0.weight/shape", [7], "MASK_COUNT_MISMATCH", "/parameters/fc0.weight/mask/nnz"),
    ("/parameters/fc0.weight/shape", [7, 10**12], "LIMIT_EXCEEDED", "/parameters/fc0.weight/mask"),
    ("/parameters/fc0.weight/shape", [7, -5], "TYPE_MISMATCH", "/parameters/fc0.weight/shape/1"),
    ("/parameters/fc0.weight/shape", None, "TYPE_MISMATCH", "/parameters/fc0.weight/shape"),
    ("/parameters/fc0.weight/dtype", "float33", "UNKNOWN_DTYPE", "/parameters/fc0.weight/dtype"),
    ("/parameters/fc0.weight/mask", [], "TYPE_MISMATCH", "/parameters/fc0.weight/mask"),
    ("/parameters/fc0.weight/mask/nnz", 0, "MASK_COUNT_MISMATCH", "/parameters/fc0.weight/mask/nnz"),
    ("/parameters/fc0.bias", ..., "UNRESOLVED_REFERENCE", "/graph/nodes/0/inputs/2"),
    ("/weights", {"uri": "w", "format": "npz", "layout": "values"}, "UNKNOWN_ENCODING", "/weights/format"),
    ("/weights", {"uri": "w", "format": "safetensors"}, "MISSING_PROPERTY", "/weights"),
    ("/weights", {"uri": 7, "format": "safetensors", "layout": "dense"}, "TYPE_MISMATCH", "/weights/uri"),
]


@pytest.mark.parametrize(("place", "item", "code", "where"), WRONG)
def test_every_fault_has_its_code_and_place(place: str, item: Any, code: str, where: str) -> None:
    value = without_digest()
    assert (code, where) in codes(set_at(value, place, item))


@pytest.mark.parametrize("value", [None, [], "x", 7, {}, {"format": ["deepstruct"]}])
def test_what_is_no_document_is_said_to_be_none(value: Any) -> None:
    assert codes(value) == [("NOT_A_DOCUMENT", "")]


def test_a_change_without_a_new_digest_is_noticed() -> None:
    value = good()
    value["graph"]["nodes"][1]["op"] = "Tanh"
    assert codes(value) == [("DIGEST_MISMATCH", "/digest")]


def places(value: Any, prefix: str = "") -> list[str]:
    """Every JSON pointer into a value."""
    found = [prefix] if prefix else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, f"{prefix}/{str(key).replace('~', '~0').replace('/', '~1')}")
    return found


@pytest.mark.parametrize("item", [..., None, True, -1, 1.5, 2**53 - 1, "", "x", [], {}, [[]], "\ud800"])
def test_no_value_anywhere_causes_another_error(item: Any) -> None:
    template = good()
    template["weights"] = {"uri": "w.safetensors", "format": "safetensors", "layout": "values"}
    for place in places(template):
        value = set_at(copy.deepcopy(template), place, item)
        with contextlib.suppress(DocumentError):
            document.from_json(value)


def test_a_newer_minor_is_read_and_what_is_unknown_survives() -> None:
    value = good()
    value |= {"version": "1.7.0", "min_version": "1.0.0", "colour": "red", "extensions_used": ["EXT_hint"]}
    value["graph"]["layout"] = {"x": [1, 2.5]}
    value["graph"]["nodes"][0]["device"] = "cpu"
    value["graph"]["inputs"][0]["range"] = [0, 1]
    value["parameters"]["fc0.weight"]["extensions"] = {"EXT_hint": {"a": None}}
    value["parameters"]["fc0.weight"]["mask"]["pattern"] = "n:m"
    del value["digest"]
    reading = document.from_json(value)
    assert {warning.code for warning in reading.warnings} == {"UNKNOWN_MINOR_VERSION", "UNEXPECTED_PROPERTY"}
    again = document.to_json(reading.structure)
    del again["digest"]
    assert again == value
    value["min_version"] = "1.7.0"
    assert codes(value) == [("UNSUPPORTED_MIN_VERSION", "/min_version")]


def test_migrations_are_a_chain_of_pure_steps() -> None:
    steps: list[migrations.Step] = [
        ("1.0.0", "1.1.0", lambda d: {**d, "a": 1}),
        ("1.1.0", "1.2.0", lambda d: {**d, "b": d["a"] + 1}),
    ]
    value = {"version": "1.0.3"}
    target = Version("1.2.0")
    assert migrations.migrate(value, steps, target) == {"version": "1.2.0", "a": 1, "b": 2}
    assert value == {"version": "1.0.3"}
    with pytest.raises(DocumentError, match="no migration"):
        migrations.migrate({"version": "1.1.0"}, steps[:1], target)


@pytest.mark.parametrize("suffix", ["structure.json", "pt"])
def test_unknown_members_of_weights_go_with_the_weights(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "a.structure.json"
    deepstruct.save(with_weights(feed_forward()), path)
    value = json.loads(path.read_text())
    value["weights"]["extensions"] = {"A_b": 1}
    value["extensions_used"] = ["A_b"]
    path.write_text(json.dumps(value))
    report = deepstruct.convert(path, tmp_path / f"b.{suffix}", weights=False)
    assert [loss.what for loss in report.losses] == ["unknown members"]
    assert deepstruct.load(tmp_path / f"b.{suffix}").weights is None
    report = deepstruct.convert(path, tmp_path / "c.structure.json")
    assert report.losses == ()
    assert json.loads((tmp_path / "c.structure.json").read_text())["weights"]["extensions"] == {"A_b": 1}


def test_the_reader_and_the_validator_agree(tmp_path: Path) -> None:
    """Whatever replaces whatever: what one accepts, the other does."""
    path = tmp_path / "a.structure.json"
    template = good()
    del template["digest"]
    items: list[Any] = [..., None, 5, "x", [], {}, ["A_b", "A_b"]]
    for place in places(template):
        for item in items:
            value = set_at(copy.deepcopy(template), place, item)
            path.write_text(json.dumps(value))
            try:
                document.from_json(value)
                accepted = True
            except DocumentError:
                accepted = False
            assert validate(path).valid == accepted, (place, item)


def test_migrating_a_file_keeps_what_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(value: dict[str, Any]) -> dict[str, Any]:
        return {**value, "added": True}

    path = tmp_path / "a.structure.json"
    content = {**good(), "colour": "red"}
    path.write_text(json.dumps(content))
    assert rewriting.migrate(path, write=True) == ("1.0.0", "1.0.0")
    assert json.loads(path.read_text()) == content
    newer = Version("1.1.0")
    chain = functools.partial(migrations.migrate, steps=[("1.0.0", "1.1.0", step)], current=newer)
    monkeypatch.setattr(migrations, "migrate", chain)
    before = path.read_text()
    assert rewriting.migrate(path, write=False) == ("1.0.0", "1.1.0")
    assert path.read_text() == before
    assert rewriting.migrate(path, write=True) == ("1.0.0", "1.1.0")
    assert json.loads(path.read_text()) == {**content, "version": "1.1.0", "added": True}
    path.write_text("{")
    with pytest.raises(DocumentError, match=r"a\.structure\.json"):
        rewriting.migrate(path, write=True)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "INVALID_JSON"),
        (b"{", "INVALID_JSON"),
        (b'{"a": 1', "INVALID_JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "INVALID_JSON"),
        (b"\x80\x04\x95", "INVALID_JSON"),
        ('{"a": 1}'.encode("utf-16"), "INVALID_JSON"),
        (b'{"a": 1, "a": 1}', "DUPLICATE_KEY"),
        (b'{"a": {"b": 1, "b": 2}}', "DUPLICATE_KEY"),
        (b'{"a": NaN}', "NON_FINITE_NUMBER"),
        (b'{"a": -Infinity}', "NON_FINITE_NUMBER"),
        (b'{"a": 1e400}', "NON_FINITE_NUMBER"),
        (rb'{"a": "\ud800"}', "INVALID_VALUE"),
        (rb'{"\uDFFFx": 1}', "INVALID_VALUE"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "NON_FINITE_NUMBER"),
        (b"[" * 65 + b"]" * 65, "LIMIT_EXCEEDED"),
        (b"[" * 100_000, "LIMIT_EXCEEDED"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "LIMIT_EXCEEDED"),
        (b"[" + b"1," * 200 + b"1]", "LIMIT_EXCEEDED"),
        (b'"' + b"x" * 2000 + b'"', "LIMIT_EXCEEDED"),
    ],
)
def test_json_outside_the_profile_is_refused(content: bytes, code: str) -> None:
    limits = Limits(document_bytes=200_000, values=150_000)
    if code == "LIMIT_EXCEEDED" and len(content) < 5000:
        limits = Limits(document_bytes=1500, values=150)
    with pytest.raises(DocumentError) as caught:
        jsonprofile.parse(content, limits)
    assert [fault.code for fault in caught.value.faults] == [code]


def test_large_numbers_are_doubles_however_they_are_spelled() -> None:
    values = jsonprofile.parse(b"[9007199254740991, 9007199254740992, 100000000000000000000]")
    assert [type(value) for value in values] == [int, float, float]


def test_errors_in_json_have_line_and_column() -> None:
    with pytest.raises(DocumentError, match="line 2 column 8"):
        jsonprofile.parse(b'{\n  "a": ,\n}')


def test_the_released_schema_says_what_the_operator_table_and_dtypes_say() -> None:
    from deepstruct import dtypes

    schema = json.loads(schemas.text("structure-1.0.0.json"))
    assert set(schema["definitions"]["dtype"]["enum"]) == dtypes.DTYPES
