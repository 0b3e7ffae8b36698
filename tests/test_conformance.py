"""One suite over every format: what a format says it carries comes back exactly; what it loses, it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import FLOATS, SAMPLES, chains, numbers, with_weights

import deepstruct
from deepstruct import Model, formats
from deepstruct.errors import UnsupportedError, UsageError

BOTH_WAYS = sorted((name, row.carries) for name, row in formats.table().items() if row.reads and row.writes)
FORMATS = [name for name, carries in BOTH_WAYS if "weights" in carries]
STRUCTURES = [name for name, carries in BOTH_WAYS if carries and "weights" not in carries]
SHAPES = [name for name, carries in BOTH_WAYS if not carries]


def target(folder: Path, name: str) -> Path:
    return folder / f"model{formats.by_name(name).suffixes[0]}"


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("name", FORMATS)
def test_samples_come_back(tmp_path: Path, name: str, sample: str) -> None:
    path = target(tmp_path, name)
    model = with_weights(SAMPLES[sample], numbers)
    report = deepstruct.save(model, path, fail_on_loss=True)
    assert report.losses == ()
    assert {file for file, _ in report.files} == set(tmp_path.iterdir())
    back = deepstruct.load(path)
    assert back.structure == model.structure
    assert back == model
    content = [file.read_bytes() for file, _ in report.files]
    deepstruct.save(back, path)
    assert [file.read_bytes() for file, _ in report.files] == content


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), dtype=st.sampled_from(FLOATS))
def test_chains_come_back(tmp_path: Path, name: str, data: st.DataObject, dtype: str) -> None:
    structure = data.draw(chains(dtype))
    path = target(tmp_path, name)
    model = with_weights(structure, numbers)
    deepstruct.save(model, path, fail_on_loss=True)
    assert deepstruct.load(path) == model


@pytest.mark.parametrize("name", FORMATS)
def test_structures_alone_come_back_or_are_refused(tmp_path: Path, name: str) -> None:
    path = target(tmp_path, name)
    model = Model(SAMPLES["plain"])
    if name == "onnx":
        with pytest.raises(UnsupportedError, match="demands weights"):
            deepstruct.save(model, path)
        assert list(tmp_path.iterdir()) == []
    else:
        deepstruct.save(model, path)
        assert deepstruct.load(path) == model


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


@pytest.mark.parametrize("name", STRUCTURES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), dtype=st.sampled_from(FLOATS))
def test_chains_come_back_as_structures(tmp_path: Path, name: str, data: st.DataObject, dtype: str) -> None:
    structure = data.draw(chains(dtype))
    path = target(tmp_path, name)
    deepstruct.save(Model(structure), path, fail_on_loss=True)
    assert deepstruct.load(path) == Model(structure)


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
