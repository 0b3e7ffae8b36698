"""The documentation is true: its examples run, its tables are generated, its links lead somewhere."""

from __future__ import annotations

import itertools
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from test_cli import environment

from deepstruct import Mask, Weights, document, formats, jsonprofile
from deepstruct.encoding import encode
from deepstruct.limits import Limits, variable
from deepstruct.testing import masks

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", read(name), re.DOTALL)


def test_the_document_in_the_specification_is_valid() -> None:
    (example,) = blocks("docs/format.md", "json")
    reading = document.from_json(jsonprofile.parse(example.encode()))
    assert reading.warnings == ()
    mask = reading.structure.parameter("fc.weight").mask
    assert mask is not None
    assert mask.nnz == 3
    ones = {p.name: np.ones(p.shape, np.float32) for p in reading.structure.parameters}
    expected = [mask.digest(), document.digest(reading.structure), Weights(reading.structure, ones).digest()]
    assert re.findall(r"^[\w .]+  (sha256:\w{64})$", read("docs/format.md"), re.MULTILINE) == expected


@given(masks())
def test_the_decoder_in_the_specification_decodes(mask: Mask) -> None:
    (code,) = blocks("docs/format.md", "python")

    def unravel(index: int, shape: list[int]) -> list[int]:
        coordinates: list[int] = []
        for extent in reversed(shape):
            index, coordinate = divmod(index, extent)
            coordinates.insert(0, coordinate)
        return coordinates

    def ravel(coordinates: list[int], shape: tuple[int, ...]) -> int:
        index = 0
        for extent, coordinate in zip(shape, coordinates, strict=True):
            index = index * extent + coordinate
        return index

    import base64
    import zlib

    names: dict[str, Any] = {
        "base64": base64,
        "zlib": zlib,
        "itertools": itertools,
        "math": math,
        "ravel": ravel,
        "unravel": unravel,
    }
    exec(code, names)
    encodings: list[Any] = [None, "coo", "bitmap", "delta-varint"]
    for encoding in encodings:
        value = json.loads(json.dumps(encode(mask, encoding)))
        assert names["decode"](value, mask.shape) == set(mask.indices().tolist())


@pytest.mark.parametrize(
    ("number", "files"),
    [
        (0, {"model.pt", "net.structure.json", "net.safetensors", "net.onnx"}),
        (1, {"dan.structure.json", "dan.safetensors", "convnet.onnx"}),
    ],
)
def test_the_python_examples_of_the_readme_run(tmp_path: Path, number: int, files: set[str]) -> None:
    example = blocks("README.md", "python")[number]
    result = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert number or "Mask(shape=(300, 784)" in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == files


@pytest.mark.parametrize("page", ["docs/analysis.md", "docs/graphs.md"])
def test_the_python_examples_of_a_page_print_what_it_says(page: str, tmp_path: Path) -> None:
    code = "".join(blocks(page, "python"))
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == re.findall(r"^print\(.*\) +# (.*)$", code, re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", "docs/graphs.md"])
def test_commands_on_graphs_print_what_a_page_says(page: str, tmp_path: Path) -> None:
    (commands,) = (block for block in blocks(page, "console") if "write_graphml" in block)
    for step in commands.split("$ ")[1:]:
        command, _, expected = step.partition("\n")
        options: Any = {"shell": True, "cwd": tmp_path, "env": environment(), "stderr": subprocess.STDOUT}
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, **options)
        assert result.returncode == 0, result.stdout
        pattern = "(?:.*\n)*".join(map(re.escape, expected.split("…\n")))
        assert re.fullmatch(pattern, result.stdout), result.stdout


def formats_table() -> str:
    from tabulate import tabulate

    features = ["operators", "masks", "weights", "scopes", "attributes"]
    rows = []
    for name, row in sorted(formats.table().items()):
        carries = ["yes" if feature in row.carries else "no" for feature in features]
        suffixes = " ".join(f"`{suffix}`" for suffix in row.suffixes)
        rows.append([f"`{name}`", row.summary, suffixes, *carries])
    return str(tabulate(rows, ["format", "what it is", "suffixes", *features], tablefmt="github"))


def test_the_table_of_formats_is_generated(accept: bool) -> None:
    path = ROOT / "docs" / "converters.md"
    pattern = re.compile(r"(<!-- formats.*?-->\n).*?(<!-- /formats -->)", re.DOTALL)
    text = path.read_text(encoding="utf-8")
    expected = pattern.sub(lambda match: f"{match[1]}{formats_table()}\n{match[2]}", text)
    if accept:
        path.write_text(expected, encoding="utf-8")
    assert text == expected


def test_the_limits_are_documented() -> None:
    limits = Limits()
    for name in Limits.__dataclass_fields__:
        assert f"| `{variable(name)}` |" in read("SECURITY.md")
        assert f"| {getattr(limits, name)} |" in read("SECURITY.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_that_are_named_exist(page: Path) -> None:
    for path in re.findall(
        r"`((?:docs|tests|schemas|benchmarks|deepstruct|converters|tools)/[\w./-]+\.\w+)`", page.read_text()
    ):
        if "X.Y.Z" not in path:
            assert (ROOT / path).exists(), path
