"""The frozen corpus: documents of every released version load forever and mean what they meant.

`versions/SHA256SUMS` lists the files, `versions/<version>/digests.json` what each document means. ``--accept`` adds
what is new to both, and changes nothing that is there.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import pytest

import deepstruct
from deepstruct import Model, document
from deepstruct.errors import DocumentWarning
from deepstruct.testing import SAMPLES, with_weights
from deepstruct.validation.validate import validate

CORPUS = Path(__file__).parent / "versions"
SUMS = CORPUS / "SHA256SUMS"
DOCUMENTS = sorted(CORPUS.glob("*/*.structure.json"))
KINDS = (".structure.json", ".safetensors")


def frozen_files() -> dict[str, str]:
    """Name of each frozen file -> SHA-256."""
    lines = (line.split("  ") for line in SUMS.read_text(encoding="utf-8").splitlines())
    return {name: digest for digest, name in lines}


def frozen_meaning(version: str) -> dict[str, Any]:
    """Name of each document -> what it means."""
    table: dict[str, Any] = json.loads((CORPUS / version / "digests.json").read_text(encoding="utf-8"))
    return table


def load(path: Path) -> Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DocumentWarning)
        return deepstruct.load(path)


def meaning(model: Model) -> dict[str, Any]:
    """All that the format has a digest for."""
    parameters = {p.name: p.mask for p in model.structure.parameters}
    return {
        "document": document.digest(model.structure),
        "weights": None if model.weights is None else model.weights.digest(),
        "masks": {
            name: {"nnz": mask.nnz, "digest": mask.digest()}
            for name, mask in sorted(parameters.items())
            if mask is not None
        },
    }


def name_of(path: Path) -> str:
    return path.name.removesuffix(".structure.json")


def test_no_frozen_file_changes_or_disappears(accept: bool) -> None:
    files = {f"{path.parent.name}/{path.name}": path for kind in KINDS for path in CORPUS.glob(f"*/*{kind}")}
    sums = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    if accept:
        lines = sorted({**sums, **frozen_files()}.items())
        SUMS.write_text("".join(f"{digest}  {name}\n" for name, digest in lines), encoding="utf-8")
    assert sums == frozen_files()


def test_there_is_nothing_else_in_the_corpus() -> None:
    names = {path.relative_to(CORPUS).as_posix() for path in CORPUS.rglob("*") if path.is_file()}
    tables = {f"{path.parent.name}/digests.json" for path in DOCUMENTS}
    assert names == {*frozen_files(), "SHA256SUMS", *tables}
    for path in CORPUS.glob("*/*.safetensors"):
        assert path.with_name(f"{path.stem}.structure.json").is_file()


@pytest.mark.parametrize("version", sorted({path.parent.name for path in DOCUMENTS}))
def test_every_document_has_a_frozen_meaning(version: str, accept: bool) -> None:
    paths = {name_of(path): path for path in DOCUMENTS if path.parent.name == version}
    if accept:
        known = frozen_meaning(version)
        table = {name: known.get(name) or meaning(load(path)) for name, path in paths.items()}
        text = json.dumps(table, indent=1, ensure_ascii=False) + "\n"
        (CORPUS / version / "digests.json").write_text(text, encoding="utf-8")
    assert frozen_meaning(version).keys() == paths.keys()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{name_of(path)}")
def test_a_document_loads_and_means_the_same(path: Path, tmp_path: Path) -> None:
    expected = frozen_meaning(path.parent.name)[name_of(path)]
    model = load(path)
    assert meaning(model) == expected
    said = json.loads(path.read_text(encoding="utf-8"))
    assert said.get("digest", expected["document"]) == expected["document"]
    assert said.get("weights", {}).get("digest") == expected["weights"]
    assert [fault for fault in validate(path).faults if fault.severity == "error"] == []
    deepstruct.save(model, tmp_path / path.name)
    again = load(tmp_path / path.name)
    assert again == model
    assert meaning(again) == expected


@pytest.mark.parametrize("sample", SAMPLES)
def test_samples_are_written_as_they_were(sample: str, tmp_path: Path, accept: bool) -> None:
    """Same input, same document, whatever versions came since: writers emit the lowest one that can hold it."""
    path = CORPUS / "1.0.0" / f"{sample}.structure.json"
    model = with_weights(SAMPLES[sample])
    if accept and not path.exists():
        deepstruct.save(model, path)
    assert load(path) == model
    deepstruct.save(model, tmp_path / path.name)
    ours = json.loads((tmp_path / path.name).read_text(encoding="utf-8"))
    frozen = json.loads(path.read_text(encoding="utf-8"))
    for value in (ours, frozen):
        for parameter in value["parameters"].values():
            parameter.get("mask", {}).pop("data", None)  # zlib builds differ in the bytes they make
        value["generator"].pop("version")
    assert ours == frozen
