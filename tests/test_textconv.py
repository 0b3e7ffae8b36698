"""The text of a document for diffs: one change is one line, and every file gives some text."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_rewriting import rich, with_unknown

import deepstruct
from deepstruct import Mask, Model, Parameter, Structure, cli_documents, document, textconv
from deepstruct.encoding import encode
from deepstruct.sequential import linear, to_structure
from deepstruct.testing import SAMPLES, chains, feed_forward, masks, random_mask, skip_connection


def shown(value: Any, folder: Path) -> list[str]:
    """Lines of the text of a document, which is a structure or JSON or bytes."""
    path = folder / "x.structure.json"
    if isinstance(value, Structure):
        value = document.to_json(value)
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return b"".join(textconv.textconv(path)).decode().splitlines()


def rows(mask: Mask, lines: int = textconv.LINES) -> list[str]:
    return b"".join(textconv._rows(mask, lines)).decode().splitlines()


def of(array: NDArray[np.bool_] | list[Any]) -> list[str]:
    return rows(Mask.from_array(np.array(array, dtype=np.bool_)))


def test_a_whole_document(tmp_path: Path) -> None:
    assert shown(SAMPLES["skip-connection"], tmp_path) == [
        "deepstruct document 1.0.0",
        '$schema "urn:deepstruct:schema:structure:1"',
        'min_version "1.0.0"',
        f'generator {{"name": "deepstruct", "version": "{deepstruct.__version__}"}}',
        "graph skip",
        "opset ai.onnx 18",
        'attribute family "none of ours"',
        "input x: float32 [batch, 4]",
        "output z: float32 [?, 4]",
        "output t: float32 [batch, 4]",
        "constant two: float32 [] [2.0]",
        "node up: MatMul(x, w.up) -> u scope=block.up",
        "node act: Elu(u) -> a alpha=0.5",
        "node down: Gemm(a, w.down, b.down) -> d alpha=2.0 transB=1",
        "node twice: Mul(x, two) -> t",
        "node add: Add(d, t) -> z",
        "parameter w.up: float32 [4, 6] 9 of 24 entries, 37.50 %",
        "  [0] 1-3",
        "  [1] 5",
        "  [2] 1 3",
        "  [3] 0 2-3",
        "parameter w.down: float32 [4, 6] 1 of 24 entries, 4.17 %",
        *("  [0] none", "  [1] none", "  [2] none", "  [3] 5"),
        "parameter b.down: float32 [4] 0 of 4 entries, 0.00 %",
        "  none",
    ]


def test_functions_and_graphs_in_attributes_have_lines_of_their_own(tmp_path: Path) -> None:
    lines = shown(rich(), tmp_path)
    for expected in (
        'function local::f(a) -> b opset={"": 20} attributes k',
        "  default z=1",
        "  node g: Relu(a) -> b",
        "node if: If(cond) -> y",
        "  graph then_branch main",
        "    output t_y: ? [?]",
        "    node t: Mul(x, p) -> t_y",
        "parameter w: float32 [4, 4], at most 4:4 along axis 1",
        "  1 3",
    ):
        assert expected in lines


def parsed(line: str) -> dict[int, int]:
    """Columns of a line -> entries of each, None for all."""
    found: dict[int, int] = {}
    for part in line.split("]")[-1].split("#")[0].split():
        ends, _, count = part.partition(":")
        if part != "none":
            first, _, last = ends.partition("-")
            found |= dict.fromkeys(range(int(first), int(last or first) + 1), int(count or -1))
    return found


@given(masks())
def test_rows_say_which_columns_exist(mask: Mask) -> None:
    if mask.is_full:
        return
    shape = mask.shape if len(mask.shape) > 1 else (1, mask.size)
    counts = mask.to_array().reshape(shape[0], shape[1], -1).sum(axis=2)
    kernel = math.prod(shape[2:])
    lines = rows(mask)
    assert len(lines) == shape[0]
    for line, row in zip(lines, counts.tolist(), strict=True):
        assert parsed(line) == {column: -1 if n == kernel else n for column, n in enumerate(row) if n}
        assert ("#" in line) == any(0 < n < kernel for n in row)


def test_kernels_that_exist_in_part_have_a_number_and_a_hash() -> None:
    whole = np.zeros((2, 5, 3, 1), np.bool_)
    whole[0, [0, 2, 3]] = True
    whole[1, 4] = True
    assert of(whole) == ["  [0] 0 2-3", "  [1] 4"]
    whole[0, 2, 1] = False
    (first, second) = of(whole)
    assert re.fullmatch(r"  \[0\] 0 2:2 3 #[0-9a-f]{12}", first)
    assert second == "  [1] 4"
    moved = whole.copy()
    moved[0, 2] = np.roll(whole[0, 2], 1, axis=0)
    assert of(moved)[0].partition("#")[0] == first.partition("#")[0]
    assert of(moved)[0] != first


@pytest.mark.parametrize(
    "shape", [(3, 1000), (70_000, 3), (textconv.ROWS, 9), (1000, 600), (2, 50, 5, 7), (1, 9000), (9000,), (5, 9)]
)
def test_each_change_changes_the_line_of_its_row_and_no_other(shape: tuple[int, ...]) -> None:
    array = random_mask(shape, 0.5).to_array()
    before = of(array)
    assert len(before) <= textconv.ROWS
    together = math.ceil(shape[0] / textconv.ROWS)
    rng = np.random.default_rng(0)
    for _ in range(3):
        place = tuple(rng.integers(shape))
        array[place] ^= True
        after = of(array)
        array[place] ^= True
        changed = [number for number, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        assert changed == ([place[0] // together] if len(shape) > 1 else [0])


def test_long_rows_say_their_count_and_a_hash() -> None:
    array = np.zeros((2, 1000), np.bool_)
    array[:, ::2] = True
    array[1, 512:] = False
    first, second = of(array)
    assert re.fullmatch(r"  \[0\] 500 of 1,000 #[0-9a-f]{12}", first)
    assert second == "  [1] " + " ".join(map(str, range(0, 512, 2)))


def test_wide_rows_and_parts_do_not_depend_on_what_is_unpacked_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = random_mask((3, 1001), 0.3)
    high = random_mask((1001, 3), 0.3)
    expected = rows(high)
    monkeypatch.setattr(textconv, "_AT_ONCE", 2**6)
    assert rows(high) == expected
    lines = rows(wide)
    for row, line in enumerate(lines):
        assert line.startswith(f"  [{row}] {int(wide.to_array()[row].sum())} of 1,001 #")
    assert len({line.partition("#")[2] for line in lines}) == 3


def test_lines_of_a_document_are_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(textconv, "LINES", 8)
    lines = shown(feed_forward(), tmp_path)
    assert sum(line.startswith("  [") for line in lines) == 8
    assert [line for line in lines if line.startswith("  [0-2] 5 of 21 #")]
    assert len(rows(random_mask((200_000, 2), 0.5))) <= textconv.ROWS


def test_long_values_are_cut_and_still_tell_apart(tmp_path: Path) -> None:
    value = document.to_json(feed_forward())
    del value["digest"]
    value["graph"]["attributes"] = {"long": [0] * 1000}
    before = shown(value, tmp_path)
    value["graph"]["attributes"]["long"][-1] = 1
    after = shown(value, tmp_path)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
    assert max(map(len, after)) < 400


@given(chains(), st.randoms(use_true_random=False))
def test_the_text_does_not_depend_on_form(structure: Structure, rng: Any) -> None:
    value = with_unknown(document.to_json(structure), rng)
    del value["digest"]
    other = {key: value[key] for key in sorted(value)}
    other["parameters"] = dict(reversed(value["parameters"].items()))
    for parameter in structure.parameters:
        if parameter.mask is not None:
            old = other["parameters"][parameter.name]
            mask = {**old["mask"], **encode(parameter.mask, "bitmap")}
            mask = {key: item for key, item in mask.items() if key not in ("indices", "digest")}
            if "data" in old["mask"] and "compression" not in encode(parameter.mask, "bitmap"):
                mask.pop("compression", None)
            if "block_shape" not in encode(parameter.mask, "bitmap"):
                mask.pop("block_shape", None)
            other["parameters"][parameter.name] = {**old, "mask": mask}
    with tempfile.TemporaryDirectory() as folder:
        assert shown(value, Path(folder)) == shown(other, Path(folder))


def test_every_member_is_seen(tmp_path: Path) -> None:
    """Whatever is changed in a document, its text is another one."""
    value = with_unknown(document.to_json(rich()), random.Random(1))
    del value["digest"]
    before = shown(value, tmp_path)
    seen = 0

    def visit(item: Any, place: str = "") -> None:
        nonlocal seen
        pairs = list(item.items()) if isinstance(item, dict) else list(enumerate(item))
        for key, inner in pairs:
            at = f"{place}/{key}"
            if isinstance(inner, (dict, list)):
                visit(inner, at)
            elif not re.search(r"/(format|min_version|nnz|encoding|data|compression)$|/mask/digest", at):
                item[key] = inner + "x" if isinstance(inner, str) else 7 if inner != 7 else 8
                lines = shown(value, tmp_path)
                assert lines != before, at
                seen += not lines[0].startswith("#")
                item[key] = inner

    visit(value)
    assert seen > 50


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\x80\x81\r\n", b'{"format": "other"}', b"[1]\n", b'{"a": 1, "a": 2}', b"[" * 100_000],
    ids=["empty", "cut", "binary", "other", "list", "twice", "deep"],
)
def test_what_is_no_document_is_shown_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.structure.json"
    path.write_bytes(content)
    result = CliRunner().invoke(cli_documents.textconv, [str(path)])
    assert result.exit_code == 0
    first, second, rest = result.stdout_bytes.split(b"\n", 2)
    assert first == b"# no valid document: 1 fault"
    assert second.startswith(b"# ")
    assert rest == content


def test_faults_come_first_and_are_bounded(tmp_path: Path) -> None:
    value = document.to_json(feed_forward(tuple(range(2, 40))))
    for node in value["graph"]["nodes"]:
        node["op"] = "No\n\x1bSuch"
    lines = shown(value, tmp_path)
    count = len([line for line in lines if line.startswith("#")])
    assert count == textconv.FAULTS + 1
    assert lines[0].startswith("# no valid document: ")
    assert not any("\x1b" in line for line in lines[:count])
    assert "\n".join(lines[count:]) == json.dumps(value)


def test_wrong_digests_are_said_and_no_more(tmp_path: Path) -> None:
    value = document.to_json(feed_forward())
    before = shown(value, tmp_path)
    value["parameters"]["fc0.weight"]["mask"]["digest"] = value["digest"]
    first, *lines = shown(value, tmp_path)
    assert "deepstruct format --digests" in first
    assert lines == before


def test_names_stay_on_their_line_and_mean_nothing_to_a_terminal(tmp_path: Path) -> None:
    odd = "a\n# \x1b[31m\u202e\x9b, b"
    value = document.to_json(
        to_structure([linear(Parameter(odd, "float32", (2, 3), random_mask((2, 3), 0.5)), None, odd)])
    )
    value["graph"]["attributes"] = {odd: odd, "\x85": {"\u2028": "\r"}}
    del value["digest"]
    lines = shown(value, tmp_path)
    assert not any(line.startswith("#") for line in lines)
    assert all(line.isprintable() for line in lines)
    quoted = r'"a\n# \u001b[31m\u202e\u009b, b"'
    assert [line for line in lines if line.startswith(f"parameter {quoted}: float32 [2, 3]")]
    assert r'attribute "\u0085" {"\u2028": "\r"}' in lines


def test_a_newer_minor_is_shown_with_what_is_unknown(tmp_path: Path) -> None:
    value = document.to_json(feed_forward()) | {"version": "1.9.0", "colour": ["red"]}
    value["graph"]["nodes"][0]["device"] = "cpu"
    value["parameters"]["fc0.weight"]["mask"]["hint"] = {"a": 1}
    del value["digest"]
    lines = shown(value, tmp_path)
    assert lines[0] == "deepstruct document 1.9.0"
    assert 'colour ["red"]' in lines
    assert 'node fc0: Gemm(x, fc0.weight, fc0.bias) -> h0 transB=1 scope=fc0 device="cpu"' in lines
    assert 'parameter fc0.weight: float32 [7, 5] 10 of 35 entries, 28.57 % mask: hint={"a": 1}' in lines


# git


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a document that git shows through textconv."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_EXTERNAL_DIFF", "GIT_CONFIG_PARAMETERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "textconv.py"
    program.write_text("from deepstruct.cli_documents import textconv\n\ntextconv()\n")
    git("init", "-q")
    git("config", "diff.deepstruct.textconv", f"'{sys.executable}' '{program}'")
    Path(".gitattributes").write_text("*.structure.json diff=deepstruct\n")
    deepstruct.save(Model(skip_connection()), "net.structure.json")
    git("add", "net.structure.json")
    return tmp_path


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True).stdout.decode(errors="replace")


def rewired(change: dict[tuple[int, int], bool]) -> None:
    """Changes connections of ``w.up`` and writes the document anew."""
    structure = skip_connection()
    array = structure.parameter("w.up").mask.to_array()  # type: ignore[union-attr]  # it has one
    for place, exists in change.items():
        array[place] = exists
    parameters = [
        Parameter(p.name, p.dtype, p.shape, Mask.from_array(array)) if p.name == "w.up" else p
        for p in structure.parameters
    ]
    fields = ("name", "opset", "inputs", "outputs", "nodes", "constants", "attributes")
    changed = Structure(parameters=tuple(parameters), **{name: getattr(structure, name) for name in fields})
    deepstruct.save(Model(changed), "net.structure.json")


def changed_lines() -> list[str]:
    lines = git("diff", "--", "net.structure.json").splitlines()
    return [line for line in lines if re.match(r"[-+](?![-+])", line)]


def test_git_shows_a_moved_connection_as_one_line(repository: Path) -> None:
    rewired({(2, 3): False, (2, 4): True})
    assert changed_lines() == ["-  [2] 1 3", "+  [2] 1 4"]
    assert "@@ parameter w.up: float32 [4, 6]" in git("diff", "-U0")


def test_git_shows_a_pruned_neuron_as_its_row_and_the_count_of_its_parameter(repository: Path) -> None:
    rewired({(2, 1): False, (2, 3): False})
    assert changed_lines() == [
        "-parameter w.up: float32 [4, 6] 9 of 24 entries, 37.50 %",
        "+parameter w.up: float32 [4, 6] 7 of 24 entries, 29.17 %",
        "-  [2] 1 3",
        "+  [2] none",
    ]


def test_git_shows_broken_files_too(repository: Path) -> None:
    Path("net.structure.json").write_text("{")
    lines = changed_lines()
    assert "+# no valid document: 1 fault" in lines
    assert "+{" in lines
    Path("net.structure.json").write_bytes(b"\0\xff")
    assert "+# no valid document: 1 fault" in changed_lines()
    Path("net.structure.json").unlink()
    assert all(line.startswith("-") for line in changed_lines())
