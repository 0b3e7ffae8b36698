"""The table of formats: recognition by suffix and content, errors that help, rows from other packages."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import deepstruct
from deepstruct import formats
from deepstruct.errors import MissingDependencyError, UnreadableFileError, UnsupportedError, UsageError
from deepstruct.testing import SAMPLES, with_weights

PLUGIN = """
from deepstruct.formats import Format

ROW = Format(
    name="toy", summary="names of parameters, one a line", suffixes=(".graph.json", ".toy"), converter="toy_converter",
    reads=False, writes=True, carries=frozenset(),
)

def write(model, path, targets, options):
    from deepstruct import Loss

    targets.open(path).write("\\n".join(p.name for p in model.structure.parameters).encode())
    return [Loss("weights", "model", "toys have none")]
"""


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    """The environment of an interpreter in which another package offers a format."""
    site = tmp_path / "site"
    (site / "toy-1.0.dist-info").mkdir(parents=True)
    (site / "toy-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (site / "toy-1.0.dist-info" / "entry_points.txt").write_text("[deepstruct.formats]\ntoy = toy_converter:ROW\n")
    (site / "toy_converter.py").write_text(PLUGIN)
    return {"PYTHONPATH": str(site)}


def run(environment: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    import os

    command = [sys.executable, "-m", "deepstruct", *arguments]
    result = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout, result.stderr


def test_other_packages_add_formats(plugin: dict[str, str], tmp_path: Path) -> None:
    deepstruct.save(with_weights(SAMPLES["plain"]), tmp_path / "a.structure.json")
    assert "| toy " in run(plugin, "formats")[1]
    code, _, errors = run(plugin, "convert", str(tmp_path / "a.structure.json"), str(tmp_path / "a.graph.json"))
    assert (code, "toys have none" in errors) == (0, True), errors
    assert (tmp_path / "a.graph.json").read_text().splitlines()[0] == "fc0.weight"
    assert run(plugin, "info", str(tmp_path / "a.toy"))[0] == 4
    loss = ("convert", str(tmp_path / "a.structure.json"), str(tmp_path / "b.toy"), "--fail-on-loss")
    assert run(plugin, *loss)[0] == 5
    assert not (tmp_path / "b.toy").exists()


def test_two_rows_of_one_name_are_an_error_that_names_both(plugin: dict[str, str], tmp_path: Path) -> None:
    site = Path(plugin["PYTHONPATH"])
    (site / "toy_converter.py").write_text(PLUGIN.replace('name="toy"', 'name="onnx"'))
    code, _, errors = run(plugin, "formats")
    assert code == 2
    assert "deepstruct.converters.onnx" in errors
    assert "toy_converter" in errors
    (site / "toy_converter.py").write_text("ROW = 7")
    code, _, errors = run(plugin, "formats")
    assert (code, "which is no Format" in errors) == (2, True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.structure.json", "json"), ("A.JSON", "json"), ("x.0.onnx", "onnx"), ("a.pth", "torch"), ("a.xyz", None)],
)
def test_suffixes(name: str, expected: str | None) -> None:
    row = formats.by_suffix(Path(name))
    assert (row.name if row else None) == expected


def test_content_decides_where_the_suffix_says_nothing(tmp_path: Path) -> None:
    deepstruct.save(with_weights(SAMPLES["plain"]), tmp_path / "a", format="torch")
    deepstruct.save(with_weights(SAMPLES["plain"]), tmp_path / "b", format="json")
    assert formats.of_source(tmp_path / "a").name == "torch"
    assert deepstruct.load(tmp_path / "a") == deepstruct.load(tmp_path / "b")
    (tmp_path / "c").write_bytes(b"something else")
    with pytest.raises(UnsupportedError, match="name it with --from"):
        formats.of_source(tmp_path / "c")
    with pytest.raises(UnreadableFileError, match="does not exist"):
        formats.of_source(tmp_path / "d")


def test_what_cannot_be_done_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedError, match="did you mean 'torch'"):
        formats.by_name("troch")
    with pytest.raises(UnsupportedError, match="no format has this suffix"):
        formats.of_target(Path("a.xyz"))
    with pytest.raises(UnsupportedError, match="is neither a deepstruct"):
        deepstruct.save({}, tmp_path / "a.pt")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(UsageError, match="no option of WriteOptions"):
        deepstruct.save(with_weights(SAMPLES["plain"]), tmp_path / "a.pt", colour="red")
    with pytest.raises(UsageError, match="--sparse-encoding means nothing"):
        deepstruct.save(with_weights(SAMPLES["plain"]), tmp_path / "a.pt", sparse_encoding="dense")
    mistakes: list[tuple[str, dict[str, Any]]] = [
        ("a.json", {"layout": "odd"}),
        ("a.json", {"layout": []}),
        ("a.json", {"weights": "no"}),
        ("a.onnx", {"sparse_encoding": "csr"}),
    ]
    for name, mistake in mistakes:
        with pytest.raises(UsageError, match="choose from"):
            deepstruct.save(with_weights(SAMPLES["plain"]), tmp_path / name, **mistake)
    deepstruct.save(with_weights(SAMPLES["plain"]), tmp_path / "a.pt")
    readings: list[dict[str, Any]] = [{"activation": "foo"}, {"weights": ""}, {"infer_masks": 1}, {"limits": 5}]
    for refused in readings:
        with pytest.raises(UsageError):
            deepstruct.load(tmp_path / "a.pt", **refused)
    onnx = formats.by_name("onnx")
    one_way = {"onnx": replace(onnx, reads=False), "torch": replace(formats.by_name("torch"), writes=False)}
    monkeypatch.setattr(formats, "installed", lambda: one_way)
    monkeypatch.setattr(formats, "table", lambda: one_way)
    with pytest.raises(UnsupportedError, match="can write 'onnx', but not read it"):
        formats.of_source(Path("a.onnx"))
    with pytest.raises(UnsupportedError, match="can read 'torch', but not write it"):
        formats.of_target(Path("a.pt"))


def test_a_missing_package_is_named_with_the_way_to_get_it() -> None:
    row = replace(formats.by_name("onnx"), converter="no_such_package.converter", requires=("no_such_package",))
    with pytest.raises(MissingDependencyError, match=r"pip install 'deepstruct\[onnx\]'"):
        row.load()
    with pytest.raises(ModuleNotFoundError):
        replace(row, requires=("another",)).load()


def test_names_are_unique() -> None:
    with pytest.raises(UsageError, match="two converters call their format 'json'"):
        formats.table([formats.by_name("json")])
