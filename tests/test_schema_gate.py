"""The gate on schemas: what each change asks for, and that a smaller step or a changed release is refused."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import schema_gate
from hypothesis import given, settings
from hypothesis import strategies as st
from schema_changes import Level, required_bump
from semantic_version import Version

from deepstruct import schemas

Schema = Any
NONE, PATCH, MINOR, MAJOR = Level

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"

BASE: Schema = {
    "$schema": DRAFT_7,
    "$id": "urn:made-up:1.0.0",
    "title": "made up",
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"$ref": "#/definitions/name"},
        "kind": {"enum": ["a", "b", None]},
        "size": {"type": ["integer", "null"], "minimum": 0},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "free": {"type": "object"},
        "map": {"type": "object", "additionalProperties": {"$ref": "#/definitions/part"}},
        "closed": {"type": "object", "properties": {"a": {}}, "additionalProperties": False},
        "choice": {"oneOf": [{"type": "null"}, {"type": "object", "required": ["x"], "properties": {"x": {}}}]},
        "either": {"anyOf": [{"type": "null"}, {"type": "object", "required": ["x"], "properties": {"x": {}}}]},
        "tree": {"$ref": "#/definitions/part"},
        "format": {"const": "made-up"},
        "pairs": {"type": "object", "patternProperties": {"^p": {"$ref": "#/definitions/part"}}},
        "pages/~": {"type": "array", "items": [{"properties": {"n": {}}}, {"$ref": "#/definitions/part"}]},
    },
    "definitions": {
        "name": {"type": "string", "minLength": 1, "pattern": "^[a-z]+$"},
        "part": {
            "description": "recursive",
            "type": "object",
            "required": ["id"],
            "properties": {
                "id": {"type": "integer"},
                "hint": {"type": "string", "default": "none"},
                "parts": {"type": "array", "items": {"$ref": "#/definitions/part"}},
                "inner": {"$ref": "#/definitions/inner"},
            },
            "allOf": [
                {
                    "if": {"required": ["hint"], "properties": {"hint": {"const": "deep"}}},
                    "then": {"required": ["parts"], "properties": {"inner": {"properties": {"y": {"minimum": 1}}}}},
                }
            ],
        },
        "inner": {"type": "object", "properties": {"x": {"type": "number"}}},
        "condition": {"properties": {"id": {"const": 7}}},
        "unused": {"type": "null"},
    },
}

Edits = dict[str, Any]


def edited(schema: Schema, edits: Edits) -> Schema:
    """A copy with a value at each JSON pointer, or nothing where that is ``...``."""
    result = copy.deepcopy(schema)
    for place, value in edits.items():
        *path, last = [part.replace("~1", "/").replace("~0", "~") for part in place.split("/")[1:]]
        owner = result
        for part in path:
            owner = owner[int(part)] if isinstance(owner, list) else owner[part]
        if value is ...:
            del owner[last]
        elif isinstance(owner, list):
            owner[int(last) : int(last) + 1] = [value]
        else:
            owner[last] = value
    return result


def backwards(schema: Schema) -> Schema:
    """The same schema with the members of each object the other way round."""
    if isinstance(schema, dict):
        return {key: backwards(value) for key, value in reversed(schema.items())}
    return [backwards(item) for item in schema] if isinstance(schema, list) else schema


PART = BASE["definitions"]["part"]
TREE = "/properties/tree"
CHANGES: dict[str, tuple[Edits, Level, str]] = {
    # editorial
    "title": ({"/title": "else"}, PATCH, "/title"),
    "description": ({"/definitions/part/description": "else"}, PATCH, "/definitions/part/description"),
    "description gone": ({"/definitions/part/description": ...}, PATCH, "/definitions/part/description"),
    "comment": ({"/properties/size/$comment": "else"}, PATCH, "/properties/size/$comment"),
    "examples": ({"/definitions/name/examples": ["a"]}, PATCH, "/definitions/name/examples"),
    "id": ({"/$id": "urn:made-up:1.0.1"}, PATCH, "/$id"),
    "unused definition": ({"/definitions/more": {"type": "string"}}, PATCH, ""),
    "unused definition gone": ({"/definitions/unused": ...}, PATCH, ""),
    "definition in place of reference": ({TREE: PART}, PATCH, ""),
    "other name of a definition": (
        {
            "/definitions/name": ...,
            "/definitions/label": BASE["definitions"]["name"],
            "/properties/name/$ref": "#/definitions/label",
        },
        PATCH,
        "",
    ),
    "description beside a reference": ({"/properties/tree/description": "else"}, PATCH, ""),
    "order of required members": ({"/definitions/part/required": ["id"]}, NONE, ""),
    "order of values": ({"/properties/kind/enum": [None, "b", "a"]}, PATCH, ""),
    "one type as a list": ({"/properties/free/type": ["object"]}, PATCH, ""),
    "what is true anyway": ({"/properties/free/additionalProperties": True}, PATCH, ""),
    # members that are new and optional
    "optional member": ({"/properties/more": {"type": "integer"}}, MINOR, "/properties/more"),
    "optional member of a definition": (
        {"/definitions/part/properties/more": {}},
        MINOR,
        "/definitions/part/properties/more",
    ),
    "optional member with a definition of its own": (
        {"/definitions/more": {"required": ["q"]}, "/properties/more": {"$ref": "#/definitions/more"}},
        MINOR,
        "/properties/more",
    ),
    "optional member in a branch of several": (
        {"/properties/either/anyOf/1/properties/more": {}},
        MINOR,
        "/properties/either/anyOf/1/properties/more",
    ),
    "name with a slash": ({"/properties/a~1b~0c": {}}, MINOR, "/properties/a~1b~0c"),
    "member forbidden and free elsewhere": ({"/properties/x": {"type": "null"}}, MINOR, "/properties/x"),
    # everything else
    "required member": ({"/properties/more": {}, "/required": ["name", "more"]}, MAJOR, "/required"),
    "member becomes required": ({"/definitions/part/required/1": "hint"}, MAJOR, "/definitions/part/required"),
    "member becomes optional": ({"/required": ...}, MAJOR, "/required"),
    "member gone": ({"/properties/size": ...}, MAJOR, "/properties/size"),
    "member renamed": ({"/properties/size": ..., "/properties/extent": {}}, MAJOR, "/properties/size"),
    "type widened": ({"/definitions/name/type": ["string", "null"]}, MAJOR, "/definitions/name/type"),
    "type narrowed": ({"/properties/size/type": "integer"}, MAJOR, "/properties/size/type"),
    "type from integer to number": ({"/properties/size/type": ["number", "null"]}, MAJOR, "/properties/size/type"),
    "value added": ({"/properties/kind/enum/3": "c"}, MAJOR, "/properties/kind/enum"),
    "value gone": ({"/properties/kind/enum": ["a", None]}, MAJOR, "/properties/kind/enum"),
    "value true instead of 1": ({"/properties/kind": {"enum": [True]}}, MAJOR, "/properties/kind/enum"),
    "constant": ({"/properties/format/const": "other"}, MAJOR, "/properties/format/const"),
    "pattern": ({"/definitions/name/pattern": "^[a-z0-9]+$"}, MAJOR, "/definitions/name/pattern"),
    "pattern gone": ({"/definitions/name/pattern": ...}, MAJOR, "/definitions/name/pattern"),
    "bound": ({"/properties/size/minimum": 1}, MAJOR, "/properties/size/minimum"),
    "bound is new": ({"/properties/size/maximum": 9}, MAJOR, "/properties/size/maximum"),
    "default": ({"/definitions/part/properties/hint/default": ""}, MAJOR, "/definitions/part/properties/hint/default"),
    "elements": ({"/properties/tags/items/type": "integer"}, MAJOR, "/properties/tags/items/type"),
    "elements are free": ({"/properties/tags/items": ...}, MAJOR, "/properties/tags/items/type"),
    "elements by position": ({"/properties/tags/items": [{}]}, MAJOR, "/properties/tags/items"),
    "elements unique no more": ({"/properties/tags/uniqueItems": False}, MAJOR, "/properties/tags/uniqueItems"),
    "object opened": (
        {"/properties/closed/additionalProperties": ...},
        MAJOR,
        "/properties/closed/additionalProperties/not",
    ),
    "object closed": ({"/additionalProperties": False}, MAJOR, "/additionalProperties/not"),
    "member of a closed object": ({"/properties/closed/properties/b": {}}, MAJOR, "/properties/closed/properties/b"),
    "member where users name them": (
        {"/properties/free/properties": {"b": {}}},
        MAJOR,
        "/properties/free/properties/b",
    ),
    "member among named parts": ({"/properties/map/properties": {"b": {}}}, MAJOR, "/properties/map/properties/b"),
    "member of alternatives": (
        {"/properties/choice/oneOf/1/properties/more": {}},
        MAJOR,
        "/properties/choice/oneOf/1/properties/more",
    ),
    "rule for a member that is required elsewhere": (
        {"/allOf": [{"properties": {"more": {}}}]},
        MAJOR,
        "/allOf",
    ),
    "rule for a member in a consequence": (
        {"/definitions/part/allOf/0/then/properties/id": {"maximum": 3}},
        MAJOR,
        "/definitions/part/allOf/0/then/properties/id",
    ),
    "rule for a member that a consequence names": (
        {"/definitions/inner/properties/y": {"type": "integer"}},
        MAJOR,
        "/definitions/inner/properties/y",
    ),
    "rule in a condition": (
        {"/definitions/part/allOf/0/if/properties/more": {}},
        MAJOR,
        "/definitions/part/allOf/0/if/properties/more",
    ),
    "condition": ({"/definitions/part/allOf/0/if/required": ["id"]}, MAJOR, "/definitions/part/allOf/0/if/required"),
    "consequence": ({"/definitions/part/allOf/0/then/required": []}, MAJOR, "/definitions/part/allOf/0/then/required"),
    "alternative consequence": ({"/definitions/part/allOf/0/else": {}}, MAJOR, "/definitions/part/allOf/0/else"),
    "one rule more": ({"/definitions/part/allOf/1": {}}, MAJOR, "/definitions/part/allOf"),
    "one branch less": ({"/properties/either/anyOf": [{}]}, MAJOR, "/properties/either/anyOf"),
    "definition behind a pattern": ({"/definitions/part/required/1": "hint"}, MAJOR, "/definitions/part/required"),
    "another pattern of members": (
        {"/properties/pairs/patternProperties": {}},
        MAJOR,
        "/properties/pairs/patternProperties",
    ),
    "reference to another definition": (
        {"/properties/tree/$ref": "#/definitions/inner"},
        MAJOR,
        "/definitions/part/required",
    ),
    "reference out of the file": ({"/properties/tree/$ref": "other.json"}, MAJOR, "/properties/tree/$ref"),
    "reference to nowhere": ({"/properties/tree/$ref": "#/definitions/none"}, MAJOR, "/properties/tree/$ref"),
    "rule beside a reference": ({"/properties/tree/minProperties": 2}, MAJOR, "/properties/tree/minProperties"),
    "identifier within": ({"/definitions/part/$id": "urn:part"}, MAJOR, "/definitions/part/$id"),
    "anchor": ({"/definitions/part/$anchor": "part"}, MAJOR, "/definitions/part/$anchor"),
    "keyword that nobody knows": ({"/definitions/part/novel": 1}, MAJOR, "/definitions/part/novel"),
    "dependent members": ({"/dependencies": {"size": ["kind"]}}, MAJOR, "/dependencies"),
    "no schema": ({"/properties/tree": 5}, MAJOR, "/properties/tree"),
    "everything allowed": ({"/properties/kind": True}, MAJOR, "/properties/kind/enum"),
    "nothing allowed": ({"/properties/kind": False}, MAJOR, "/properties/kind/not"),
    "another dialect where a keyword differs": ({"/$schema": DRAFT_2020}, MAJOR, "/properties/pages~1~0/items"),
    "unknown dialect": ({"/$schema": "http://json-schema.org/draft-04/schema#"}, MAJOR, "/$schema"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_asks_for_its_step(name: str) -> None:
    edits, level, pointer = CHANGES[name]
    bump = required_bump(BASE, edited(BASE, edits))
    assert bump.level == level, bump.reasons
    largest = {reason.pointer for reason in bump.reasons if reason.level == level}
    assert (pointer in largest) == (level != NONE), bump.reasons
    assert all(reason.message for reason in bump.reasons)


def test_dialects_that_mean_the_same_are_editorial() -> None:
    old = edited(BASE, {"/properties/pages~1~0": ...})
    bump = required_bump(old, edited(old, {"/$schema": DRAFT_2020}))
    assert (bump.level, [reason.pointer for reason in bump.reasons]) == (PATCH, ["/$schema"])


def test_a_reference_with_rules_beside_it_depends_on_the_dialect() -> None:
    old = edited(BASE, {"/properties/pages~1~0": ..., "/properties/tree/minProperties": 2})
    assert required_bump(old, edited(old, {"/$schema": DRAFT_2020})).level == MAJOR


def test_the_largest_change_decides_and_all_are_told() -> None:
    bump = required_bump(BASE, edited(BASE, {"/title": "x", "/properties/more": {}, "/properties/size/minimum": 1}))
    assert [(reason.level, reason.pointer) for reason in bump.reasons] == [
        (MAJOR, "/properties/size/minimum"),
        (MINOR, "/properties/more"),
        (PATCH, "/title"),
    ]


ELSEWHERE: dict[str, tuple[Schema, Edits]] = {
    "in a condition": (
        {"properties": {"a": {}}, "allOf": [{"if": {"required": ["more"]}, "then": {"required": ["a"]}}]},
        {"/properties/more": {"type": "integer"}},
    ),
    "in what is beside a reference": (
        {"properties": {"a": {}}, "$ref": "#/definitions/r", "definitions": {"r": {"required": ["more"]}}},
        {"/properties/more": {"type": "integer"}},
    ),
    "in another rule for elements": (
        {"items": {"properties": {"a": {}}}, "contains": {"required": ["more"]}},
        {"/items/properties/more": {"type": "integer"}},
    ),
    "in a value as a whole": (
        {"properties": {"a": {"properties": {"b": {}}}}, "const": {"a": {"more": "x"}}},
        {"/properties/a/properties/more": {"type": "integer"}},
    ),
    "in a keyword that is not looked into": (
        {"dependencies": {"a": {"$ref": "#/definitions/r"}}, "definitions": {"r": {"properties": {"a": {}}}}},
        {"/definitions/r/properties/more": {"type": "integer"}},
    ),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_member_named_elsewhere_is_not_new(name: str) -> None:
    old, edits = ELSEWHERE[name]
    assert required_bump(old, edited(old, edits)).level == MAJOR


def test_a_member_that_is_gone_is_said_to_be() -> None:
    (reason,) = required_bump(BASE, edited(BASE, {"/properties/size": ...})).reasons
    assert reason.message == "the member 'size' is gone"


def test_references_that_lead_in_a_circle_end() -> None:
    schema = {
        "$ref": "#/definitions/a",
        "definitions": {"a": {"$ref": "#/definitions/b"}, "b": {"$ref": "#/definitions/a"}},
    }
    assert required_bump(schema, schema).level == NONE
    assert required_bump(schema, edited(schema, {"/title": "x"})).level == PATCH
    recursive = {"properties": {"a": {"$ref": "#"}}}
    bump = required_bump(recursive, edited(recursive, {"/properties/b": {"type": "null"}}))
    assert [(r.level, r.pointer) for r in bump.reasons] == [(MINOR, "/properties/b")]


@pytest.mark.parametrize("value", [None, 5, "x", [], [{}]])
def test_what_is_no_schema_is_not_understood(value: Any) -> None:
    assert required_bump(value, value).level == MAJOR
    assert required_bump(BASE, value).level == MAJOR
    assert required_bump(value, BASE).level == MAJOR


OWN = sorted(path.name for path in schema_gate.FOLDER.glob("*-[0-9]*.json"))


@pytest.mark.parametrize("name", OWN)
def test_our_schemas_do_not_differ_from_themselves(name: str) -> None:
    schema = json.loads(schemas.text(name))
    assert required_bump(schema, schema) == required_bump(True, True)
    assert required_bump(schema, backwards(schema)).level == PATCH


@pytest.mark.parametrize("place", ["graph", "value", "node", "subgraph", "function", "parameter", "mask", "weights"])
def test_each_object_of_our_document_can_get_another_member(place: str) -> None:
    schema = schemas.structure_schema()
    pointer = f"/definitions/{place}/properties/made_up"
    bump = required_bump(schema, edited(schema, {pointer: {"type": "object", "required": ["n"]}}))
    assert [(r.level, r.pointer) for r in bump.reasons] == [(MINOR, pointer)]
    strict = schemas.structure_schema(strict=True)
    assert required_bump(strict, edited(strict, {pointer: {}})).level == MAJOR


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/definitions/dtype/enum/28", "float2"),
        ("/definitions/mask/properties/encoding/enum/4", "run-length"),
        ("/definitions/weights/properties/format/const", "npz"),
        ("/definitions/typed/properties/type/enum/12", "map"),
        ("/definitions/graph/properties/attributes/properties", {"family": {"type": "string"}}),
    ],
)
def test_what_old_readers_of_our_document_refuse_is_major(pointer: str, value: Any) -> None:
    schema = schemas.structure_schema()
    assert required_bump(schema, edited(schema, {pointer: value})).level == MAJOR


NAMES, NEW_NAMES = "ab", "v"
LEAVES: list[Schema] = [
    *({}, True, {"type": "integer"}, {"type": "string"}, {"enum": ["x", 1]}, False, {"const": {"a": 1}}),
    *({"minProperties": 2}, {"maxProperties": 1}, {"propertyNames": {"maxLength": 1}}),
    *({"properties": {"a": {"$ref": "#"}}}, {"items": {"$ref": "#"}}),
]


def schemas_of(leaves: list[Schema], *, references: bool) -> st.SearchStrategy[Schema]:
    """Schemas that have at least one keyword with schemas in it."""

    def larger(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
        members = st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
        some = st.lists(inner, min_size=1, max_size=2)
        required = st.lists(st.sampled_from(NAMES + NEW_NAMES), max_size=1)
        optional: dict[str, st.SearchStrategy[Any]] = {
            "required": required,
            "additionalProperties": inner,
            "patternProperties": st.fixed_dictionaries({"[bv]": inner}),
            "not": inner,
            "dependencies": st.fixed_dictionaries({"a": inner}),
            **dict.fromkeys(("allOf", "anyOf", "oneOf"), some),
            **({"$ref": st.just("#/definitions/r")} if references else {}),
        }
        return (
            st.fixed_dictionaries({"properties": members}, optional={"required": required})
            | st.fixed_dictionaries({"properties": members}, optional=optional)
            | st.fixed_dictionaries({"if": inner}, optional={"then": inner, "else": inner})
            | st.fixed_dictionaries({"items": inner | some}, optional={"contains": inner})
        )

    parts = st.recursive(st.sampled_from(leaves), larger, max_leaves=6)
    return larger(parts).map(copy.deepcopy)


PLAIN = schemas_of(LEAVES, references=False)
REFERRING = schemas_of([*LEAVES, {"$ref": "#/definitions/r"}], references=True)
ROOTS = st.builds(lambda root, part: {**root, "definitions": {"r": part}}, REFERRING, PLAIN)


def small_documents() -> list[Any]:
    """Objects and arrays of two levels, with members that the schemas know, add, or never name."""
    scalars: list[Any] = [1, "y", {}]
    keys = (*NAMES, *NEW_NAMES, "u")
    flat: list[Any] = [{key: value} for key in keys for value in scalars]
    flat += [{**one, **other} for one, other in combinations(flat, 2) if one.keys() != other.keys()]
    deep: list[Any] = [{key: value} for key in keys for value in flat]
    deep += [{**value, "v": more} for value in deep if "v" not in value for more in scalars]
    return [*scalars, *flat, *deep, *([value] for value in flat), *([{}, value] for value in flat)]


DOCUMENTS = small_documents()


def parts(value: Any) -> list[dict[str, Any]]:
    """All schemas in a schema that are objects."""
    if isinstance(value, list):
        return [part for item in value for part in parts(item)]
    if not isinstance(value, dict):
        return []
    maps = [value.get(key, {}) for key in ("properties", "patternProperties", "dependencies", "definitions")]
    inner = [item for owner in [value, *maps] for key, item in owner.items() if key != "const" and item not in maps]
    return [value, *(part for item in inner for part in parts(item))]


@st.composite
def changed(draw: st.DrawFn, schema: Schema) -> Schema:
    """A schema with some changes, most of them another member."""
    result = copy.deepcopy(schema)
    for _ in range(draw(st.integers(1, 2))):
        owner = draw(st.sampled_from(parts(result)))
        kind = draw(st.sampled_from(["member"] * 9 + ["editorial", "keyword", "gone"]))
        if kind == "member":
            owner = draw(st.sampled_from([part for part in parts(result) if "properties" in part] or [result]))
            new = draw(st.just({"enum": ["x", 1]}) | PLAIN)
            owner.setdefault("properties", {})[draw(st.sampled_from(NEW_NAMES))] = new
        elif kind == "keyword":
            owner |= draw(PLAIN)
        elif kind == "gone" and owner.keys() - {"definitions"}:
            del owner[draw(st.sampled_from(sorted(owner.keys() - {"definitions"})))]
        else:
            owner["description"] = "else"
    return result


def valid(schema: Schema, value: Any) -> bool:
    return jsonschema.Draft7Validator(schema).is_valid(value)


@settings(max_examples=120)
@given(st.data())
def test_after_a_minor_change_each_side_can_read_what_the_other_wrote(data: st.DataObject) -> None:
    old = data.draw(ROOTS)
    new = data.draw(changed(old))
    if required_bump(old, new).level == MAJOR:
        return
    for value in data.draw(st.randoms()).sample(DOCUMENTS, 60):
        before, after = valid(old, value), valid(new, value)
        assert before or not after, "an old reader refuses a new document"
        assert after or not before or '"v"' in json.dumps(value), "a new reader refuses an old document"


@settings(max_examples=50)
@given(ROOTS)
def test_what_did_not_change_asks_for_nothing(schema: Schema) -> None:
    bump = required_bump(schema, copy.deepcopy(schema))
    assert {reason.message for reason in bump.reasons} <= {"references in `dependencies` are not followed here"}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the schemas in which nothing is released."""
    copied = tmp_path / "schemas"
    copied.mkdir()
    for name in OWN:
        shutil.copy(schema_gate.FOLDER / name, copied)
    (copied / "released.json").write_text("{}")
    return copied


def add(folder: Path, version: str, edits: Edits, since: str = "1.0.0", family: str = "structure") -> None:
    schema = json.loads((folder / f"{family}-{since}.json").read_text(encoding="utf-8"))
    text = json.dumps(edited(schema, {"/$id": f"urn:made-up:{version}", **edits}))
    (folder / f"{family}-{version}.json").write_text(text, encoding="utf-8")


MEMBER: Edits = {"/definitions/node/properties/made_up": {"type": "integer"}}
VALUE: Edits = {"/definitions/dtype/enum/28": "float2"}


def test_the_committed_schemas_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert schema_gate.main([]) == 0
    assert capsys.readouterr().out.endswith("versions and released files are in order\n")


def test_the_package_lists_the_versions_of_the_folder() -> None:
    versions = schema_gate.families(schema_gate.FOLDER)["structure"]
    assert [str(version) for version in versions] == list(schemas.VERSIONS)


@pytest.mark.parametrize(
    ("version", "edits", "code"),
    [
        ("1.0.1", {}, 0),
        ("1.0.1", {"/title": "x"}, 0),
        ("1.0.1", MEMBER, 1),
        ("1.0.1", VALUE, 1),
        ("1.1.0", {}, 0),
        ("1.1.0", MEMBER, 0),
        ("1.1.0", VALUE, 1),
        ("2.0.0", MEMBER, 0),
        ("2.0.0", VALUE, 0),
        ("1.0.2", {}, 1),
        ("1.1.1", MEMBER, 1),
        ("3.0.0", VALUE, 1),
    ],
)
def test_a_step_that_is_too_small_or_none_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], version: str, edits: Edits, code: int
) -> None:
    assert schema_gate.main([str(folder), "--release", "structure-1.0.0"]) == 0
    add(folder, version, edits)
    capsys.readouterr()
    assert schema_gate.main([str(folder)]) == code
    output = capsys.readouterr().out
    assert (f"error: structure {version}" in output) == bool(code)
    if version in ("1.0.1", "1.1.0", "2.0.0"):
        for pointer in edits:
            assert pointer.rstrip("/0123456789") in output


def test_versions_follow_each_other_by_their_numbers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for version, schema in (("1.9.0", True), ("1.10.0", {"properties": {"a": {}}})):
        (folder / f"other-{version}.json").write_text(json.dumps(schema))
        schema_gate.main([str(folder), "--release", f"other-{version}"])
    assert "other 1.9.0 -> 1.10.0: MINOR" in capsys.readouterr().out


def test_other_families_are_compared_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema_gate.main([str(folder), "--release", "certificate-1.0.0"])
    add(folder, "1.1.0", {"/properties/certificate_version/const": "1.1.0"}, family="certificate")
    assert schema_gate.main([str(folder)]) == 1
    assert "MAJOR /properties/certificate_version/const" in capsys.readouterr().out


def test_nothing_but_the_newest_version_may_be_unreleased(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(folder, "1.1.0", MEMBER)
    assert schema_gate.main([str(folder)]) == 1
    assert "structure 1.0.0 is no unreleased version" in capsys.readouterr().out


def test_a_release_lists_the_files_of_a_version(folder: Path) -> None:
    assert schema_gate.main([str(folder), "--release", "structure-1.0.0"]) == 0
    names = ["structure-1.0.0-strict.json", "structure-1.0.0.json"]
    table = {name: digest(folder / name) for name in names}
    assert json.loads((folder / "released.json").read_text()) == table
    assert schema_gate.main([str(folder), "--release", "certificate-1.0.0"]) == 0
    assert json.loads((folder / "released.json").read_text()) == {OWN[0]: digest(folder / OWN[0]), **table}
    assert next(iter(json.loads((folder / "released.json").read_text()))) == OWN[0]


@pytest.mark.parametrize(
    "release", ["structure-1.0.0", "structure-1.1.0", "onnx-operators", "../schemas/structure-1.0.0", ""]
)
def test_what_is_released_or_missing_cannot_be_released(folder: Path, release: str) -> None:
    schema_gate.main([str(folder), "--release", "structure-1.0.0"])
    before = (folder / "released.json").read_text()
    assert schema_gate.main([str(folder), "--release", release]) == (1 if release else 0)
    assert (folder / "released.json").read_text() == before


def test_a_wrong_version_is_not_released(folder: Path) -> None:
    schema_gate.main([str(folder), "--release", "structure-1.0.0"])
    add(folder, "1.0.1", VALUE)
    before = (folder / "released.json").read_text()
    assert schema_gate.main([str(folder), "--release", "structure-1.0.1"]) == 1
    assert (folder / "released.json").read_text() == before


@pytest.mark.parametrize("name", ["structure-1.0.0.json", "structure-1.0.0-strict.json"])
def test_a_released_file_neither_changes_nor_disappears(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    schema_gate.main([str(folder), "--release", "structure-1.0.0"])
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content + b"\n")
    assert schema_gate.main([str(folder)]) == 1
    assert f"{name} is released and changed" in capsys.readouterr().out
    (folder / name).unlink()
    assert schema_gate.main([str(folder)]) == 1
    assert f"{name} is released and missing" in capsys.readouterr().out
    (folder / name).write_bytes(content)
    assert schema_gate.main([str(folder)]) == 0
    table = json.loads((folder / "released.json").read_text())
    del table[name]
    (folder / "released.json").write_text(json.dumps(table))
    assert schema_gate.main([str(folder)]) == 1, "half of a version is no release"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("released.json", '{"structure-1.0.0.json": "xyz"}', "is no schema file with a SHA-256"),
        ("released.json", '{"structure-1.0.0.json": 5}', "is no schema file with a SHA-256"),
        ("released.json", f'{{"../structure-1.0.0.json": "{"0" * 64}"}}', "is no schema file with a SHA-256"),
        ("released.json", "[]", "must be an object"),
        ("released.json", "{", "released.json is no JSON file"),
        ("released.json", None, "released.json is no JSON file"),
        ("structure-1.0.1.json", "{", "structure-1.0.1.json is no JSON file"),
        ("structure-1.0.1.json", "\ufeff{}", "structure-1.0.1.json is no JSON file"),
        ("structure-1.0.1-strict.json", "{}", "structure-1.0.1.json is no JSON file"),
        ("structure-01.0.0.json", "{}", "01.0.0"),
    ],
)
def test_broken_files_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | None, message: str
) -> None:
    schema_gate.main([str(folder), "--release", "structure-1.0.0"])
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content, encoding="utf-8")
    capsys.readouterr()
    assert schema_gate.main([str(folder)]) == 1
    assert message in capsys.readouterr().out


def test_the_steps_of_versions() -> None:
    version = Version("1.2.3")
    steps = {"1.2.4": PATCH, "1.3.0": MINOR, "2.0.0": MAJOR, "1.2.3": None, "1.3.3": None, "2.2.3": None, "1.4.0": None}
    assert {text: schema_gate.step(version, Version(text)) for text in steps} == steps
