"""The weights file of a document: what does not belong to it is refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepstruct
from deepstruct import Model, Parameter, Structure, Weights
from deepstruct.errors import DeepstructError, MalformedFileError, UnreadableFileError, UnsupportedError
from deepstruct.testing import feed_forward, with_weights
from deepstruct.validation.validate import validate


@pytest.fixture(params=["values", "dense"])
def document(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "net.structure.json"
    deepstruct.save(with_weights(feed_forward()), path, layout=request.param)
    return path


def rewrite(path: Path, change: Any) -> None:
    """Changes header and data of a safetensors file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), bytearray(content[8 + length :])
    text = change(header, data)
    text = json.dumps(header) if text is None else text
    path.write_bytes(struct.pack("<Q", len(text)) + text.encode() + bytes(data))


def damage_number(_header: Any, data: bytearray) -> None:
    data[-1] ^= 1


def errors(document: Path) -> list[str]:
    return [fault.code for fault in validate(document).faults if fault.severity == "error"]


def rename(header: Any, _data: bytearray) -> None:
    header["other"] = header.pop("fc0.bias")


def retype(header: Any, _data: bytearray) -> None:
    header["fc0.bias"]["dtype"] = "I32"


def reshape(header: Any, _data: bytearray) -> None:
    header["fc0.bias"]["shape"] = [1, *header["fc0.bias"]["shape"]]


def repeat(header: Any, _data: bytearray) -> str:
    text = json.dumps(header)
    return text[:-1] + ', "fc0.bias": ' + json.dumps(header["fc0.bias"]) + "}"


@pytest.mark.parametrize(
    ("change", "reason", "code"),
    [
        (damage_number, "digest does not belong|numbers other than 0", "DIGEST_MISMATCH WEIGHTS_VALUE"),
        (rename, "there is a tensor 'other'.*there is no tensor 'fc0.bias'", "WEIGHTS_TENSOR"),
        (retype, "'fc0.bias' has I32", "WEIGHTS_TENSOR"),
        (reshape, r"'fc0.bias' has F32 \[1, 7\]", "WEIGHTS_TENSOR"),
        (repeat, "valid safetensors file", "WEIGHTS_FILE"),
    ],
)
def test_other_weights_are_refused(document: Path, change: Any, reason: str, code: str) -> None:
    weights = document.parent / "net.safetensors"
    rewrite(weights, change)
    with pytest.raises(MalformedFileError, match=reason):
        deepstruct.load(document)
    assert set(errors(document)) <= set(code.split())
    assert validate(document, weights=False).valid
    assert deepstruct.load(document, weights=False).weights is None


def test_every_truncation_is_noticed(document: Path) -> None:
    weights = document.parent / "net.safetensors"
    whole = weights.read_bytes()
    for length in range(0, len(whole), 7):
        weights.write_bytes(whole[:length])
        with pytest.raises(MalformedFileError, match="no valid safetensors file"):
            deepstruct.load(document)


def test_missing_weights_are_named(document: Path) -> None:
    (document.parent / "net.safetensors").unlink()
    with pytest.raises(UnreadableFileError, match="does not exist; net"):
        deepstruct.load(document)
    assert errors(document) == ["WEIGHTS_MISSING"]
    (document.parent / "net.safetensors").mkdir()
    with pytest.raises(UnreadableFileError, match="is a directory"):
        deepstruct.load(document)


@pytest.mark.parametrize("uri", ["../net.safetensors", "/etc/passwd", "a\\b", "x:y", "", "n" * 300])
def test_uris_stay_in_the_folder(document: Path, uri: str) -> None:
    value = json.loads(document.read_text())
    value["weights"]["uri"] = uri
    document.write_text(json.dumps(value))
    with pytest.raises(DeepstructError):
        deepstruct.load(document)
    assert not validate(document).valid


def test_numbers_under_a_mask_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.structure.json"
    deepstruct.save(with_weights(feed_forward(density=0.0)), path, layout="dense")

    def fill(_header: Any, data: bytearray) -> None:
        data[:] = b"\x01" * len(data)

    rewrite(tmp_path / "net.safetensors", fill)
    with pytest.raises(MalformedFileError, match="numbers other than 0 where the mask has no connection"):
        deepstruct.load(path)


def one(parameter: Parameter) -> Model:
    structure = Structure(nodes=(), inputs=(), outputs=(), parameters=(parameter,))
    return Model(structure, Weights(structure, {parameter.name: np.ones(parameter.shape, parameter.dtype)}))


def test_bools_are_zero_or_one(tmp_path: Path) -> None:
    path = tmp_path / "net.structure.json"
    deepstruct.save(one(Parameter("flags", "bool", (5,))), path)

    def fill(_header: Any, data: bytearray) -> None:
        data[2] = 2

    rewrite(tmp_path / "net.safetensors", fill)
    with pytest.raises(MalformedFileError, match="bytes beyond 1"):
        deepstruct.load(path)


def test_what_safetensors_cannot_hold_is_said(tmp_path: Path) -> None:
    parameter = Parameter("__metadata__", "float32", (2,))
    with pytest.raises(UnsupportedError, match="--no-weights"):
        deepstruct.save(one(parameter), tmp_path / "net.structure.json")
    assert list(tmp_path.iterdir()) == []
    deepstruct.save(one(parameter), tmp_path / "net.structure.json", weights=False)


def test_files_have_no_holes_and_are_aligned(document: Path) -> None:
    content = (document.parent / "net.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert length % 8 == 0
    offset = 0
    for entry in json.loads(content[8 : 8 + length]).values():
        assert entry["data_offsets"][0] == offset
        offset = entry["data_offsets"][1]
    assert 8 + length + offset == len(content)
