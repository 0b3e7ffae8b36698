"""ONNX files that are written: any name comes back, and writing that fails changes nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import deepstruct
from deepstruct import Mask, Model, Node, Parameter, Structure, ValueInfo, Weights, files
from deepstruct.errors import DeepstructError, UnsupportedError, WriteError
from deepstruct.testing import with_weights


def network(*names: str) -> Model:
    rng, parameters, nodes, arrays = np.random.default_rng(0), [], [], {}
    for position, name in enumerate(names):
        kept = rng.random((64, 64)) < 0.5
        shape = kept.shape if position % 2 == 0 else ()
        mask = Mask.from_array(kept) if shape else None
        parameters.append(Parameter(name, "float32", shape, mask))
        arrays[name] = np.asarray((kept if shape else kept[0, 0]) * np.float32(position + 1))
        source = f"v{position}" if position else "x"
        nodes.append(Node(f"n{position}", "MatMul" if shape else "Mul", (source, name), (f"v{position + 1}",)))
    ends = [ValueInfo(name, "float32", ("n", 64)) for name in ("x", f"v{len(names)}")]
    structure = Structure(nodes=tuple(nodes), inputs=(ends[0],), outputs=(ends[1],), parameters=tuple(parameters))
    return Model(structure, Weights(structure, arrays))


NAMES = [
    "../../w",
    "/etc/w",
    "a\nb",
    "a\0b",
    "w" * 3000,
    "é\u202e",
    "w.codes",
    "deepstruct.shape.64x64",
    "deepstruct.start",
    " ",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:30])
@pytest.mark.parametrize("encoding", ["auto", "dense", "coo", "constant", "packed", "packed-flat"])
def test_any_name_comes_back(name: str, encoding: Any, tmp_path: Path) -> None:
    found = network("w", name + "+", name)
    deepstruct.save(found, tmp_path / "a.onnx", sparse_encoding=encoding, external_data=True)
    assert deepstruct.load(tmp_path / "a.onnx") == found
    assert {file.name for file in tmp_path.iterdir()} == {"a.onnx", "a.onnx.data"}
    graph = onnx.load(tmp_path / "a.onnx", load_external_data=False).graph
    stored = [*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)]
    places = {entry.value for tensor in stored for entry in tensor.external_data if entry.key == "location"}
    assert places <= {"a.onnx.data"}


@pytest.mark.parametrize("target", ["a:b.onnx", "a\\b.onnx"])
def test_a_target_that_could_not_be_read_is_not_written(target: str, tmp_path: Path) -> None:
    with contextlib.suppress(DeepstructError):
        deepstruct.save(network("w"), tmp_path / target, external_data=True, sparse_encoding="dense")
        assert deepstruct.load(tmp_path / target) == network("w")


class Full:
    """A file on a disk that becomes full."""

    def __init__(self, file: Any, room: list[int]) -> None:
        self.file, self.room = file, room

    def write(self, data: Any) -> int:
        self.room[0] -= memoryview(data).nbytes
        if self.room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written: int = self.file.write(data)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def old_files(folder: Path) -> dict[str, bytes]:
    for name in ("a.onnx", "a.onnx.data"):
        (folder / name).write_bytes(name.encode())
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("room", [0, 1, 30, 100, 400, 10_000, 20_000, 33_000])
def test_a_full_disk_changes_nothing(room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, left = old_files(tmp_path), [room]
    opened = files.Targets.open
    monkeypatch.setattr(files.Targets, "open", lambda self, path: Full(opened(self, path), left))
    with pytest.raises(WriteError, match="disk is full; nothing was changed"):
        deepstruct.save(network("w", "b", "v"), tmp_path / "a.onnx", external_data=True, sparse_encoding="dense")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("method", ["replace", "open"])
def test_a_refusal_of_the_system_changes_nothing(
    number: int, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real, calls = old_files(tmp_path), getattr(Path, method), []

    def failing(self: Path, *arguments: Any, **options: Any) -> Any:
        calls.append(self)
        if len(calls) == number:
            raise OSError(errno.EIO, "broken")
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, method, failing)
    with pytest.raises(WriteError, match="nothing was changed"):
        deepstruct.save(network("w"), tmp_path / "a.onnx", external_data=True, sparse_encoding="dense")
    monkeypatch.undo()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("position", [0, 1, 2])
def test_an_interruption_changes_nothing(position: int, tmp_path: Path) -> None:
    before = old_files(tmp_path)

    def progress(parameters: Iterable[Parameter]) -> Iterator[Parameter]:
        for number, parameter in enumerate(parameters):
            if number == position:
                raise KeyboardInterrupt
            yield parameter

    found = network("w", "b", "v")
    with pytest.raises(KeyboardInterrupt):
        deepstruct.save(found, tmp_path / "a.onnx", external_data=True, sparse_encoding="dense", progress=progress)
    assert contents(tmp_path) == before


WRITER = """
import sys, deepstruct
model = deepstruct.load(sys.argv[1])
for _ in range(12):
    deepstruct.save(model, sys.argv[2], external_data=True, sparse_encoding="dense")
"""


def test_of_two_writers_one_wins_with_both_files(tmp_path: Path) -> None:
    models = [network("w", "b", "v"), with_weights(network("w", "b", "v").structure)]
    running = []
    for number, found in enumerate(models):
        deepstruct.save(found, tmp_path / f"{number}.pt")
        arguments = [sys.executable, "-c", WRITER, str(tmp_path / f"{number}.pt"), str(tmp_path / "a.onnx")]
        running.append(subprocess.Popen(arguments))
    assert [process.wait(60) for process in running] == [0, 0]
    assert deepstruct.load(tmp_path / "a.onnx") in models
    assert {file.suffix for file in tmp_path.iterdir()} == {".pt", ".onnx", ".data"}


@pytest.mark.parametrize(("before", "after"), [(18, 21), (20, 23), (21, 18), (23, 20)])
def test_group_normalization_with_scales_of_groups_is_no_later_one(before: int, after: int, tmp_path: Path) -> None:
    ends = [ValueInfo(name, "float32", (1, 4, 3)) for name in ("x", "y")]
    scales = [Parameter(name, "float32", (2 if before < 21 else 4,)) for name in ("scale", "bias")]
    structure = Structure(
        nodes=(Node("norm", "GroupNormalization", ("x", "scale", "bias"), ("y",), {"num_groups": 2}),),
        inputs=(ends[0],),
        outputs=(ends[1],),
        parameters=tuple(scales),
        opset={"": before},
    )
    model = Model(structure, Weights(structure, {p.name: np.ones(p.shape, np.float32) for p in scales}))
    with pytest.raises(UnsupportedError, match="GroupNormalization has changed"):
        deepstruct.save(model, tmp_path / "a.onnx", opset=after)
