"""One suite over every format: what a format says it carries comes back exactly; what it loses, it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import deepstruct
from deepstruct import Model, dtypes, formats
from deepstruct.errors import UnsupportedError, UsageError
from deepstruct.testing import OPERATORS, QUIRKS, SAMPLES, ConverterSuite, numbers, with_weights

BOTH_WAYS = sorted((name, row.carries) for name, row in formats.table().items() if row.reads and row.writes)
FORMATS = [name for name, carries in BOTH_WAYS if "weights" in carries]
STRUCTURES = [name for name, carries in BOTH_WAYS if carries and "weights" not in carries]
SHAPES = [name for name, carries in BOTH_WAYS if not carries]
NUMERIC = sorted(dtypes.DTYPES - {"string"})


class OnnxSuite(ConverterSuite):
    """ONNX demands weights and the rank of outputs, and has small tensors in attributes by value, without a name.

    float8_e8m0fnu has no zero to stand where nothing is.
    """

    needs_weights = True
    dtypes = tuple(name for name in NUMERIC if name != "float8_e8m0fnu")
    operators = tuple(name for name in OPERATORS if name != "Table")

    @pytest.mark.parametrize("sample", sorted(QUIRKS.keys() - {"tables"}))
    def test_quirks_come_back(self, tmp_path: Path, sample: str) -> None:
        super().test_quirks_come_back(tmp_path, sample)

    def differences(self, expected: Model, found: Model) -> list[str]:
        pairs = zip(expected.structure.outputs, found.structure.outputs, strict=True)
        outputs = tuple(theirs if ours.shape is None else ours for ours, theirs in pairs)
        return super().differences(Model(replace(expected.structure, outputs=outputs), expected.weights), found)


OF_STRUCTURES: dict[str, Any] = {"may_refuse": True, "exit_codes": (2, 3, 4), "max_examples": 15}
"""Not every operator has units, and a graph without its document lacks the numbers of its inputs and outputs."""

OF_SHAPES: dict[str, Any] = {**OF_STRUCTURES, "reading": {"in_features": 3, "out_features": 2}, "exit_codes": (3, 4)}

SUITES: dict[str, tuple[type[ConverterSuite], dict[str, Any]]] = {
    "json": (ConverterSuite, {"dtypes": NUMERIC}),
    "onnx": (OnnxSuite, {}),
    **dict.fromkeys(STRUCTURES, (ConverterSuite, OF_STRUCTURES)),
    **dict.fromkeys(SHAPES, (ConverterSuite, OF_SHAPES)),
}

for _name in formats.table():
    _base, _members = SUITES.get(_name, (ConverterSuite, {}))
    _class = f"Test{_name.title().replace('-', '')}"
    globals()[_class] = type(_class, (_base,), {"format_name": _name, **_members})


def target(folder: Path, name: str) -> Path:
    return folder / f"model{formats.by_name(name).suffixes[0]}"


def test_onnx_demands_weights(tmp_path: Path) -> None:
    path = target(tmp_path, "onnx")
    with pytest.raises(UnsupportedError, match="demands weights"):
        deepstruct.save(Model(SAMPLES["plain"]), path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("order", [None, 0, 1, 2])
@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("name", STRUCTURES)
def test_formats_of_structures_lose_weights_alone(tmp_path: Path, name: str, sample: str, order: int | None) -> None:
    path = target(tmp_path, name)
    report = deepstruct.save(with_weights(SAMPLES[sample], numbers), path, order=order)
    assert [loss.what for loss in report.losses] == ["weights"]
    assert deepstruct.load(path) == Model(SAMPLES[sample])
    deepstruct.save(Model(SAMPLES[sample]), path, order=order, fail_on_loss=True)
    content = path.read_bytes()
    back = deepstruct.load(path)
    assert back == Model(SAMPLES[sample])
    deepstruct.save(back, path, order=order)
    assert path.read_bytes() == content


@pytest.mark.parametrize("source", STRUCTURES)
@pytest.mark.parametrize("name", [*FORMATS, *STRUCTURES])
def test_structures_become_every_other_format(tmp_path: Path, source: str, name: str) -> None:
    first, second = target(tmp_path, source), tmp_path / f"other{formats.by_name(name).suffixes[0]}"
    deepstruct.save(Model(SAMPLES["skip-connection"]), first)
    if name == "onnx":
        with pytest.raises(UnsupportedError, match="demands weights"):
            deepstruct.convert(first, second)
    else:
        deepstruct.convert(first, second, fail_on_loss=True)
        assert deepstruct.load(second).structure == SAMPLES["skip-connection"]


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("name", SHAPES)
def test_formats_of_shapes_say_what_they_lose(tmp_path: Path, name: str, sample: str) -> None:
    path = target(tmp_path, name)
    report = deepstruct.save(Model(SAMPLES[sample]), path)
    assert ("attributes", "graph") in {(loss.what, loss.where) for loss in report.losses}
    content = path.read_bytes()
    with pytest.raises(UsageError, match="--in-features"):
        deepstruct.load(path)
    if SAMPLES[sample].nnz > 30:
        model = deepstruct.load(path, in_features=3, out_features=2, init="kaiming")
        assert model.structure.attributes["family"] == "dan"
    deepstruct.save(Model(SAMPLES[sample]), path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_becomes_every_other(tmp_path: Path, source: str, name: str) -> None:
    first, second = target(tmp_path, source), tmp_path / f"other{formats.by_name(name).suffixes[-1]}"
    model = with_weights(SAMPLES["skip-connection"])
    deepstruct.save(model, first)
    deepstruct.convert(first, second, fail_on_loss=True)
    assert deepstruct.load(second) == model


@pytest.mark.parametrize("value", [0, 1])
def test_masks_of_dense_onnx_tensors_are_noted(tmp_path: Path, value: int) -> None:
    path = tmp_path / "model.onnx"
    model = with_weights(SAMPLES["skip-connection"], lambda parameter, _: np.full(parameter.shape, value, np.float32))
    deepstruct.save(model, path, sparse_encoding="dense", fail_on_loss=True)
    assert deepstruct.load(path) == model


def test_masks_can_be_inferred_from_zeros(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = with_weights(SAMPLES["plain"], lambda parameter, _: np.ones(parameter.shape, np.float32))
    deepstruct.save(model, path, sparse_encoding="dense")
    assert deepstruct.load(path) == model
    proto = onnx.load(path)
    del proto.metadata_props[:]
    onnx.save(proto, path)
    assert deepstruct.load(path).structure.density == 1
    assert deepstruct.load(path, infer_masks=True) == model


def test_documents_do_not_overwrite_weights_of_others(tmp_path: Path) -> None:
    model = with_weights(SAMPLES["plain"])
    deepstruct.save(model, tmp_path / "net.json")
    deepstruct.save(model, tmp_path / "net.json")
    with pytest.raises(UsageError, match="is not the weights file"):
        deepstruct.save(model, tmp_path / "net.structure.json")
    assert deepstruct.load(tmp_path / "net.json") == model
