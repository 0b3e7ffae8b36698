"""The frozen corpus: documents of every released version load forever and mean what they meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from samples import SAMPLES, with_weights

import deepstruct
from deepstruct import document
from deepstruct.validation import validate

CORPUS = Path(__file__).parent / "versions"
DOCUMENTS = sorted(CORPUS.glob("*/*.structure.json"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_it_loads_and_means_the_same(path: Path) -> None:
    sample = path.name.removesuffix(".structure.json")
    model = deepstruct.load(path)
    assert model == with_weights(SAMPLES[sample])
    assert json.loads(path.read_text(encoding="utf-8"))["digest"] == document.digest(model.structure)
    assert validate(path, strict=True).faults == ()


def test_every_sample_is_frozen() -> None:
    assert {path.name for path in (CORPUS / "1.0.0").glob("*.json")} == {f"{name}.structure.json" for name in SAMPLES}


@pytest.mark.parametrize("sample", SAMPLES)
def test_documents_are_written_as_they_were(sample: str, tmp_path: Path, accept: bool) -> None:
    """Same input, same bytes; what the newest version looks like is a golden file."""
    path = CORPUS / "1.0.0" / f"{sample}.structure.json"
    if accept:
        deepstruct.save(with_weights(SAMPLES[sample]), path)
    deepstruct.save(with_weights(SAMPLES[sample]), tmp_path / path.name)
    ours = json.loads((tmp_path / path.name).read_text(encoding="utf-8"))
    golden = json.loads(path.read_text(encoding="utf-8"))
    for value in (ours, golden):
        for parameter in value["parameters"].values():
            parameter.get("mask", {}).pop("data", None)  # zlib builds differ in the bytes they make
        value["generator"].pop("version")
    assert ours == golden
