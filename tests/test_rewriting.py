"""`format` and `migrate`: one canonical text for each document, nothing lost, and files that stay whole."""

from __future__ import annotations

import copy
import functools
import json
import os
import random
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

import deepstruct
from deepstruct import (
    Mask,
    Node,
    Parameter,
    Structure,
    Tensor,
    ValueInfo,
    canonical,
    cli_documents,
    document,
    jsonprofile,
    members,
    migrations,
    rewriting,
    running,
)
from deepstruct.errors import DocumentError, UnsupportedError
from deepstruct.limits import Limits
from deepstruct.sparsity_structure import SparsityStructure
from deepstruct.structure import Function, Graph, ParameterReference
from deepstruct.testing import SAMPLES, chains, feed_forward, with_weights


def rich() -> Structure:
    """A structure with all that has an order of members: functions, bodies, constants, attributes of all kinds."""
    attributes: dict[str, Any] = {
        "huge": 2**62,
        "float": 1.5,
        "zero": -0.0,
        "nan": [float("nan"), 1.0],
        "names": [b"\xff", "ü"],
        "tensor": Tensor("float64", (2, 1), (-0.0, 1e300)),
        "weights": ParameterReference("used.by.attribute", sparse=False),
        "kind": deepstruct.structure.TypeInfo("float32", (2, None)),
    }
    body = Graph(
        nodes=(Node("inner", "Add", ("x", "c"), ("inner_y",), scope="body"),),
        inputs=(),
        outputs=(ValueInfo("inner_y", None, None),),
    )
    branches = {"else_branch": body, "then_branch": Graph((Node("t", "Abs", ("x",), ("t_y",)),), (), body.outputs)}
    branches["then_branch"] = Graph((Node("t", "Mul", ("x", "p"), ("t_y",)),), (), (ValueInfo("t_y", None, None),))
    function = Function(
        name="f",
        domain="local",
        inputs=("a",),
        outputs=("b",),
        attributes=("k",),
        defaults={"z": 1, "alpha": 0.5},
        opset={"": 20},
        nodes=(Node("g", "Relu", ("a",), ("b",)),),
    )
    return Structure(
        name="rich",
        opset={"": 20, "local": 1, "any": 2},
        inputs=(ValueInfo("x", "float32", ("n", 4)), ValueInfo("cond", "bool", ())),
        outputs=(ValueInfo("y", "float32", ("n", 4)), ValueInfo("z", None, None)),
        constants={"c": Tensor("float32", (), (2.0,)), "b": Tensor("int64", (1,), (2**60,))},
        functions=(function,),
        nodes=(
            Node("call", "f", ("x",), ("h",), {"k": 1}, domain="local"),
            Node("any", "Any", ("h", "w", "b"), ("z",), attributes, domain="any", scope="top"),
            Node("if", "If", ("cond",), ("y",), branches),
        ),
        parameters=(
            Parameter("unused", "float32", (0, 2)),
            Parameter("p", "float32", (4,), Mask.from_indices((4,), np.array([1, 3]))),
            Parameter("w", "float32", (4, 4), Mask.full((4, 4)), sparsity_structure=SparsityStructure(4, 4, 1)),
            Parameter("used.by.attribute", "float32", (3,)),
        ),
        attributes={"z": {"b": 1, "a": [-0.0, 1e300, None]}, "a": True},
    )


STRUCTURES = {**SAMPLES, "rich": rich()}

UNKNOWN = {
    "zebra": {"b": 1, "a": [1, 2.5, None]},
    "Ähre": "\u2028\x7f",
    "extensions": {"A_b": {"y": -0.0, "x": 10**15}},
}
FREE = {"opset", "constants", "parameters", "attributes", "defaults"}
"""Members whose own members have free names."""


def with_unknown(value: Any, rng: random.Random, key: str = "") -> Any:
    """A document with unknown members in every object that may have them."""
    if isinstance(value, list):
        return [with_unknown(item, rng, "") if isinstance(item, dict) else item for item in value]
    closed = key == "sparsity_structure"
    typed = value.get("type", "graph") != "graph" or ("data" in value and "encoding" not in value)
    result = {}
    for name, item in value.items():
        inside = isinstance(item, dict) or (isinstance(item, list) and any(isinstance(i, dict) for i in item))
        user = name == "attributes" and "opset" in value and "nodes" in value
        result[name] = with_unknown(item, rng, name) if inside and not user and name not in UNKNOWN else item
    if key not in FREE and key != "generator" and not typed and not closed:
        result |= {name: item for name, item in UNKNOWN.items() if rng.random() < 0.5}
    return result


def spelled(value: Any, rng: random.Random, shuffle: bool = True) -> str:
    """JSON text of a value with members in any order, odd spacing, escapes and numbers written otherwise."""

    def space() -> str:
        return "".join(rng.choices(" \n\r\t", k=rng.choice([0, 0, 1, 3])))

    if isinstance(value, dict):
        items = list(value.items())
        if shuffle:
            rng.shuffle(items)
        is_graph = {"nodes", "opset"} <= value.keys() and "domain" not in value
        parts = []
        for name, item in items:
            own = shuffle and name not in UNKNOWN and not (is_graph and name == "attributes")
            parts.append(space() + string(name, rng) + space() + ":" + space() + spelled(item, rng, own) + space())
        return "{" + (",".join(parts) or space()) + "}"
    if isinstance(value, list):
        return "[" + (",".join(space() + spelled(item, rng, shuffle) + space() for item in value) or space()) + "]"
    if isinstance(value, str):
        return string(value, rng)
    if isinstance(value, float):
        return rng.choice(
            [repr(value), f"{value!r}00" if re.fullmatch(r"-?\d+\.\d+", repr(value)) else f"{value:.17e}"]
        )
    return json.dumps(value)


def string(text: str, rng: random.Random) -> str:
    def char(c: str) -> str:
        if rng.random() < 0.2 or c in '"\\' or ord(c) < 0x20:
            units = c.encode("utf-16-be").hex()
            return "".join(rf"\u{units[i : i + 4]}" for i in range(0, len(units), 4))
        return c

    return '"' + "".join(map(char, text)) + '"'


def text(value: Any) -> bytes:
    return "".join(jsonprofile.layout(value)).encode()


def key(value: Any) -> Any:
    """Equal for two values only if they are the same but for the order of members."""
    if isinstance(value, dict):
        return {name: key(item) for name, item in value.items()}
    if isinstance(value, list):
        return [key(item) for item in value]
    return (type(value).__name__, repr(value))


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Documents with right digests, most with unknown members, some of a newer minor."""
    structure = draw(st.sampled_from(list(STRUCTURES.values())) | chains())
    value = document.to_json(
        structure, draw(st.none() | st.just(document.WeightsReference(uri="w", layout="dense", digest=None)))
    )
    rng = random.Random(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        value = with_unknown(value, rng)
    if draw(st.booleans()):
        value["version"] = "1.9.2"
    for name in draw(st.sets(st.sampled_from(["$schema", "generator", "extensions_used", "digest"]))):
        del value[name]
    return rewriting.with_right_digests(value, Limits())[0]


@given(documents(), st.integers(0, 2**32))
def test_formatting_changes_the_text_and_nothing_else(value: dict[str, Any], seed: int) -> None:
    content = spelled(value, random.Random(seed)).encode()
    formatted = rewriting.format_text(content)
    assert key(jsonprofile.parse(formatted)) == key(value)
    before, after = (document.from_json(jsonprofile.parse(each)) for each in (content, formatted))
    assert before.structure == after.structure
    assert before.weights == after.weights
    assert document.digest(before.structure) == document.digest(after.structure)
    assert rewriting.format_text(formatted) == formatted
    assert rewriting.format_text(formatted, digests=True) == formatted


@given(documents(), st.integers(0, 2**32))
def test_one_document_has_one_text_however_it_is_spelled(value: dict[str, Any], seed: int) -> None:
    expected = rewriting.format_text(json.dumps(value).encode())
    assert rewriting.format_text(spelled(value, random.Random(seed)).encode()) == expected


@given(st.sampled_from(list(STRUCTURES.values())) | chains())
def test_what_the_writer_writes_is_canonical(structure: Structure) -> None:
    reference = document.WeightsReference(uri="w", layout="values", digest="sha256:" + "0" * 64)
    for value in (document.to_json(structure), document.to_json(structure, reference)):
        assert rewriting.format_text(text(value)) == text(value)


@given(documents(), st.integers(0, 2**32))
def test_what_is_read_and_written_again_is_canonical(value: dict[str, Any], seed: int) -> None:
    """Unknown members stand where format puts them, not where they happened to be."""
    reading = document.from_json(jsonprofile.parse(spelled(value, random.Random(seed)).encode()))
    written = text(document.to_json(reading.structure, reading.weights))
    assert rewriting.format_text(written) == written


def test_members_have_one_order_each_and_are_those_that_readers_know() -> None:
    for name in ("ROOT", "GRAPH", "SUBGRAPH", "FUNCTION", "VALUE", "NODE", "PARAMETER", "MASK", "WEIGHTS"):
        order = getattr(canonical, name)
        assert len(set(order)) == len(order)
        assert set(order) == getattr(members, name)


def test_parameters_stand_in_the_order_of_use() -> None:
    value = document.to_json(rich())
    expected = ["w", "used.by.attribute", "p", "unused"]
    assert list(value["parameters"]) == expected
    value["parameters"] = dict(sorted(value["parameters"].items()))
    assert list(json.loads(rewriting.format_text(json.dumps(value).encode()))["parameters"]) == expected


def test_the_order_of_use_does_not_depend_on_the_order_of_attributes() -> None:
    value = document.to_json(rich())
    del value["digest"]
    value["graph"]["nodes"][1]["attributes"] = {
        "b": {"type": "parameter", "value": "unused"},
        "a": {"type": "parameter", "value": "used.by.attribute"},
    }
    formatted = rewriting.format_text(json.dumps(value).encode())
    assert list(json.loads(formatted)["parameters"]) == ["w", "used.by.attribute", "unused", "p"]
    assert rewriting.format_text(formatted) == formatted


def test_one_change_is_one_line() -> None:
    value = document.to_json(rich())
    del value["digest"]
    before = rewriting.format_text(json.dumps(value).encode()).decode().splitlines()
    changes: list[Callable[[dict[str, Any]], Any]] = [
        lambda d: d["graph"]["nodes"][0].update(name="other"),
        lambda d: d["graph"]["nodes"][2]["attributes"]["then_branch"]["nodes"][0].update(scope="s"),
        lambda d: d["graph"]["functions"][0]["nodes"][0].update(note=1),
        lambda d: d["graph"]["inputs"][0].update(shape=[3, 4]),
        lambda d: d["graph"]["constants"]["b"].update(data=[5]),
        lambda d: d["parameters"]["unused"].update(hint={"a": 1}),
        lambda d: d.update(version="1.0.7"),
    ]
    for change in changes:
        changed = copy.deepcopy(value)
        change(changed)
        after = rewriting.format_text(json.dumps(changed).encode()).decode().splitlines()
        assert len(after) == len(before)
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


def test_payloads_stay_as_they_are() -> None:
    """Bytes of deflate differ between builds of zlib; only the content counts, so nothing is encoded anew."""
    mask = feed_forward().parameter("fc0.weight").mask
    assert mask is not None
    value = document.to_json(feed_forward())
    for encoding in get_args(deepstruct.encoding.Encoding)[1:]:
        described = deepstruct.encoding.encode(mask, encoding)
        value["parameters"]["fc0.weight"]["mask"] = described
        formatted = jsonprofile.parse(rewriting.format_text(json.dumps(value).encode()))
        assert formatted["parameters"]["fc0.weight"]["mask"] == described


@pytest.mark.parametrize(
    ("number", "canonical_form"),
    [
        ("1.50", "1.5"),
        ("1e2", "100.0"),
        ("-0.0", "-0.0"),
        ("-0e5", "-0.0"),
        ("0.1000", "0.1"),
        ("9007199254740993", "9007199254740992.0"),
        ("-0", "0"),
        ("5e-324", "5e-324"),
        ("1e-999", "0.0"),
        ("1E400000", None),
    ],
)
def test_numbers(number: str, canonical_form: str | None) -> None:
    value = document.to_json(feed_forward())
    value["graph"]["attributes"] = {"n": "NUMBER"}
    del value["digest"]
    content = json.dumps(value).replace('"NUMBER"', number).encode()
    if canonical_form is None:
        with pytest.raises(DocumentError):
            rewriting.format_text(content)
    else:
        assert f'"attributes": {{"n": {canonical_form}}}' in rewriting.format_text(content).decode()


def edited() -> dict[str, Any]:
    """A document that was edited by hand: its own digest and that of a mask are stale."""
    value = document.to_json(feed_forward())
    value["graph"]["nodes"][1]["op"] = "Tanh"
    value["parameters"]["fc0.weight"]["mask"] |= {"digest": "sha256:" + "0" * 64}
    return value


def test_stale_digests_are_a_fault_unless_they_are_to_be_replaced() -> None:
    content = json.dumps(edited()).encode()
    with pytest.raises(DocumentError, match="DIGEST_MISMATCH"):
        rewriting.format_text(content)
    value = jsonprofile.parse(rewriting.format_text(content, digests=True))
    reading = document.from_json(value)
    assert value["digest"] == document.digest(reading.structure)
    expected = document.to_json(reading.structure)
    assert value == expected


def test_digests_that_are_not_there_are_not_added() -> None:
    value = edited()
    del value["digest"]
    del value["parameters"]["fc0.weight"]["mask"]["digest"]
    value["parameters"]["fc1.bias"]["mask"] = {"nnz": 3, "encoding": "full", "digest": 5}
    value["weights"] = {"uri": "w", "format": "safetensors", "layout": "dense", "digest": "sha256:" + "0" * 64}
    formatted = jsonprofile.parse(rewriting.format_text(json.dumps(value).encode(), digests=True))
    assert "digest" not in formatted
    assert "digest" not in formatted["parameters"]["fc0.weight"]["mask"]
    assert formatted["parameters"]["fc1.bias"]["mask"]["digest"] == Mask.full((3,)).digest()
    assert formatted["weights"] == value["weights"]


@pytest.mark.parametrize("value", [None, [], {}, {"parameters": 5}, {"parameters": {"a": 1, "b": {"mask": 2}}}, "x"])
@pytest.mark.parametrize("digests", [False, True])
def test_what_is_no_document_is_refused(value: Any, digests: bool) -> None:
    for item in (value, {**document.to_json(feed_forward()), "parameters": value}):
        with pytest.raises(DocumentError):
            rewriting.format_text(json.dumps(item).encode(), digests=digests)


def test_other_faults_are_faults_with_digests_too() -> None:
    value = edited()
    value["graph"]["nodes"][0]["op"] = "Gmm"
    value["parameters"]["fc0.weight"]["mask"]["nnz"] = 1
    with pytest.raises(DocumentError) as caught:
        rewriting.format_text(json.dumps(value).encode(), digests=True)
    assert not any(fault.code == "DIGEST_MISMATCH" for fault in caught.value.faults)


def test_text_that_readers_would_refuse_is_not_written() -> None:
    value = document.to_json(feed_forward())
    value["note"] = "," * 100
    content = json.dumps(value).replace(",,", r"\u002c\u002c").encode()
    count = sum(map(content.decode().count, ",[{:"))
    with pytest.raises(UnsupportedError, match="DEEPSTRUCT_MAX_VALUES"):
        rewriting.format_text(content, limits=Limits(values=count + 5))
    small = json.dumps(value, separators=(",", ":")).encode()
    with pytest.raises(UnsupportedError, match="DEEPSTRUCT_MAX_DOCUMENT_BYTES"):
        rewriting.format_text(small, limits=Limits(document_bytes=len(small)))


# Files


def run(command: Any, *arguments: str | Path, stdin: bytes | None = None) -> Result:
    result = CliRunner().invoke(command, [*map(str, arguments)], input=stdin, catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


PLAIN, SKIP = (document.to_json(SAMPLES[name]) for name in ("plain", "skip-connection"))


def shuffled(value: dict[str, Any] = PLAIN, seed: int = 3) -> bytes:
    return spelled(value, random.Random(seed)).encode()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a canonical document, two that are not, and one with faults."""
    monkeypatch.chdir(tmp_path)
    deepstruct.save(with_weights(feed_forward()), "a.structure.json")
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.structure.json").write_bytes(shuffled())
    (tmp_path / "sub/c.structure.json").write_bytes(shuffled(SKIP).replace(b"\n", b"\r\n"))
    (tmp_path / "sub/d.structure.json").write_bytes(b"{")
    return tmp_path


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_format_rewrites_what_is_not_canonical_and_goes_on_after_a_fault(tree: Path) -> None:
    before = contents(tree)
    result = run(cli_documents.format_command, ".")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "sub/d.structure.json" in result.stderr
    assert "INVALID_JSON" in result.stderr
    assert "formatted b.structure.json" in result.stderr
    after = contents(tree)
    assert {name for name in before if before[name] != after[name]} == {"b.structure.json", "sub/c.structure.json"}
    assert after["b.structure.json"][0] == text(PLAIN)
    assert after["sub/c.structure.json"][0] == text(SKIP)
    assert sorted(before) == sorted(after)
    Path("sub/d.structure.json").unlink()
    result = run(cli_documents.format_command, ".")
    assert (result.exit_code, result.stderr) == (0, "3 documents are canonical\n")
    assert {name: after[name] for name in contents(tree)} == contents(tree)


def test_check_lists_what_would_change_and_changes_nothing(tree: Path) -> None:
    before = contents(tree)
    result = run(cli_documents.format_command, ".", "--check")
    assert result.exit_code == 3
    result = run(cli_documents.format_command, "--check", "*.json", "sub/c*")
    assert result.exit_code == 1
    assert "would format b.structure.json" in result.stderr
    assert "would format sub/c.structure.json" in result.stderr
    assert "a.structure.json" not in result.stderr
    assert contents(tree) == before
    assert run(cli_documents.format_command, "--check", "a.structure.json").exit_code == 0


def test_digests_are_renewed_in_files(tree: Path) -> None:
    Path("b.structure.json").write_text(json.dumps(edited()))
    before = Path("b.structure.json").read_bytes()
    assert run(cli_documents.format_command, "b.structure.json").exit_code == 3
    assert run(cli_documents.format_command, "b.structure.json", "--digests", "--check").exit_code == 1
    assert Path("b.structure.json").read_bytes() == before
    assert run(cli_documents.format_command, "b.structure.json", "--digests").exit_code == 0
    assert deepstruct.load("b.structure.json").structure.nodes[1].op_type == "Tanh"


def test_standard_input_is_formatted_to_standard_output(tree: Path) -> None:
    result = run(cli_documents.format_command, "-", stdin=shuffled())
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout_bytes == text(PLAIN)
    assert run(cli_documents.format_command, "-", stdin=result.stdout_bytes).stdout_bytes == result.stdout_bytes
    result = run(cli_documents.format_command, "-", "--check", stdin=shuffled())
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "would format standard input\n1 of 1 document would be formatted\n"
    result = run(cli_documents.format_command, "-", stdin=b"{")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("error: standard input:")


def test_nothing_found_is_an_error(tree: Path) -> None:
    for command in (cli_documents.format_command, cli_documents.migrate):
        for argument in ("*.nothing", str(tree / "sub/empty")):
            (tree / "sub/empty").mkdir(exist_ok=True)
            with pytest.raises(deepstruct.errors.UsageError, match="no "):
                run(command, "a.structure.json", argument)


def test_mode_and_link_of_a_file_are_kept(tree: Path) -> None:
    path = Path("b.structure.json")
    path.chmod(0o640)
    Path("link.structure.json").symlink_to(path)
    assert run(cli_documents.format_command, "link.structure.json").exit_code == 0
    assert Path("link.structure.json").is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.read_bytes() == text(PLAIN)


def test_a_write_protected_file_is_said_and_the_others_are_formatted(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "b.structure.json" and access(path, mode))
    before = Path("b.structure.json").read_bytes()
    result = run(cli_documents.format_command, "b.structure.json", "sub/c.structure.json")
    assert result.exit_code == 7
    assert "b.structure.json: no permission to write there; nothing was changed" in result.stderr
    assert "formatted sub/c.structure.json" in result.stderr
    assert Path("b.structure.json").read_bytes() == before


@pytest.mark.parametrize("command", [cli_documents.format_command, cli_documents.migrate])
def test_odd_names_stay_on_their_line(tree: Path, command: Any) -> None:
    name = "a\n::error::x\x1b[31m.structure.json"
    Path(name).write_bytes(shuffled())
    Path("bad\n.structure.json").write_bytes(b"{")
    result = run(command, name, "bad\n.structure.json", "missing\n")
    assert "\x1b" not in result.stderr
    assert "\n::" not in result.stderr
    assert r"a\n::error::x\u001b[31m.structure.json" in result.stderr
    assert result.exit_code == 3


def step(value: dict[str, Any]) -> dict[str, Any]:
    return {"added": True, **value}


@pytest.fixture
def newer(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up version 1.1.0, and the step to it, once there are documents of 1.0.0."""
    current = Version("1.1.0")
    monkeypatch.setattr(migrations, "CURRENT", current)
    chain = functools.partial(migrations.migrate, steps=[("1.0.0", "1.1.0", step)], current=current)
    monkeypatch.setattr(migrations, "migrate", chain)


def test_current_documents_are_left_alone(tree: Path) -> None:
    before = contents(tree)
    result = run(cli_documents.migrate, "a.structure.json", "b.structure.json")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "a.structure.json: 1.0.0, current",
        "b.structure.json: 1.0.0, current",
        "current version: 1.0.0",
    ]
    assert contents(tree) == before


@pytest.mark.usefixtures("newer")
def test_a_folder_is_migrated_and_a_bad_file_is_said(tree: Path) -> None:
    before = contents(tree)
    result = run(cli_documents.migrate, ".", "--check")
    assert result.exit_code == 3
    assert contents(tree) == before
    result = run(cli_documents.migrate, ".")
    assert result.exit_code == 3
    assert result.stderr.splitlines()[:2] == ["a.structure.json: 1.0.0 -> 1.1.0", "b.structure.json: 1.0.0 -> 1.1.0"]
    assert "error: sub/d.structure.json:" in result.stderr
    assert contents(tree)["sub/d.structure.json"] == before["sub/d.structure.json"]
    Path("sub/d.structure.json").unlink()
    for path in tree.rglob("*.structure.json"):
        value = json.loads(path.read_text())
        assert (value["version"], value["added"]) == ("1.1.0", True)
        assert list(value)[-1] == "added"
    assert run(cli_documents.migrate, ".").exit_code == 0
    assert run(cli_documents.migrate, ".", "--check").exit_code == 0
    assert run(cli_documents.format_command, ".", "--check").exit_code == 0


@pytest.mark.usefixtures("newer")
def test_check_for_migration_exits_with_1_if_nothing_is_bad(tree: Path) -> None:
    result = run(cli_documents.migrate, "*.structure.json", "--check")
    assert result.exit_code == 1
    assert "a.structure.json: 1.0.0 -> 1.1.0 needed" in result.stderr


def test_migration_works_in_place_only(tree: Path) -> None:
    with pytest.raises(deepstruct.errors.UsageError, match="in place"):
        run(cli_documents.migrate, "a.structure.json", "-")


@pytest.mark.usefixtures("newer")
def test_a_write_protected_file_is_not_migrated(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "a.structure.json" and access(path, mode))
    result = run(cli_documents.migrate, "a.structure.json", "b.structure.json")
    assert result.exit_code == 7
    assert json.loads(Path("a.structure.json").read_text())["version"] == "1.0.0"
    assert json.loads(Path("b.structure.json").read_text())["version"] == "1.1.0"


@pytest.mark.usefixtures("newer")
@pytest.mark.parametrize("command", [cli_documents.format_command, cli_documents.migrate])
def test_an_interruption_leaves_each_file_whole(tree: Path, monkeypatch: pytest.MonkeyPatch, command: Any) -> None:
    """Ctrl-C while the second file is put in place: the first is done, the others are as they were."""
    for name in "efg":
        (tree / f"{name}.structure.json").write_bytes(shuffled(seed=ord(name)))
    Path("sub/d.structure.json").unlink()
    before = contents(tree)
    commit = deepstruct.files.Targets._finish
    calls: list[None] = []

    def interrupted(self: Any) -> None:
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt
        commit(self)

    monkeypatch.setattr(deepstruct.files.Targets, "_finish", interrupted)
    assert running.run(lambda: command.main(["[efg]*"], standalone_mode=False), debug=False) == 130
    after = contents(tree)
    assert sorted(before) == sorted(after)
    assert [name for name in before if before[name] != after[name]] == ["e.structure.json"]
    rewriting.format_text(after["e.structure.json"][0])


PROGRAM = """
import functools, sys
from packaging.version import Version
from deepstruct import cli_documents, migrations, running
current = Version("1.1.0")
migrations.CURRENT = current
step = ("1.0.0", "1.1.0", lambda value: {**value, "added": True})
migrations.migrate = functools.partial(migrations.migrate, steps=[step], current=current)
sys.exit(running.run(lambda: getattr(cli_documents, sys.argv[1]).main(["."], standalone_mode=False), False))
"""


def test_two_runs_at_once_do_the_same_as_one(tree: Path) -> None:
    Path("sub/d.structure.json").unlink()
    for number in range(30):
        (tree / f"{number}.structure.json").write_bytes(shuffled(seed=number))
    names = ["migrate", "migrate", "format_command", "format_command"]
    processes = [subprocess.Popen([sys.executable, "-c", PROGRAM, name], stderr=subprocess.PIPE) for name in names]
    outputs = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    subprocess.run([sys.executable, "-c", PROGRAM, "migrate"], check=True, stderr=subprocess.PIPE)
    files = sorted(tree.rglob("*"))
    assert [path for path in files if path.suffix == ".tmp"] == []
    for path in tree.rglob("*.structure.json"):
        value = json.loads(path.read_text())
        assert (value["version"], value["added"]) == ("1.1.0", True)


def test_nothing_is_written_where_nothing_changes(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> Iterator[None]:
        raise AssertionError

    monkeypatch.setattr(deepstruct.files.Targets, "open", refused)
    assert run(cli_documents.format_command, "a.structure.json").exit_code == 0
    assert run(cli_documents.migrate, "a.structure.json").exit_code == 0
