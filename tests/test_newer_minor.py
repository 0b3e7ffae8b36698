"""A newer minor version: a made-up document of 1.1.0 read here, and old documents read by a made-up 1.1.0."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

import deepstruct
from deepstruct import document, migrations, rewriting
from deepstruct.errors import DocumentError, DocumentWarning

HERE = Path(__file__).parent
NAME = "made-up-1.1.0"
CORPUS = sorted((HERE / "versions" / "1.0.0").glob("*.structure.json"))

Change = Callable[[Any], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A copy of the document of 1.1.0 and its weights."""
    for file in (HERE / "newer_minor").iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path / f"{NAME}.structure.json"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deepstruct", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def kept(path: Path) -> Any:
    """What another writer has to keep: all but its own name, digests that are optional, and the name of the weights."""
    value = read(path)
    for owner in (value, value["parameters"]["b"]["mask"]):
        owner.pop("digest", None)
    del value["generator"], value["weights"]["uri"]
    return value


def members(value: Any, name: str) -> int:
    """How many objects within a value have a member of a name."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return (isinstance(value, dict) and name in value) + sum(members(item, name) for item in inner)


def test_the_document_has_unknown_members_in_every_kind_of_object(path: Path) -> None:
    value = read(path)
    assert (value["version"], value["min_version"], value["extensions_used"]) == ("1.1.0", "1.0.0", ["EXT_made_up"])
    kinds = [
        item["made_up"]["of"]
        for item in [value, value["graph"], *value["graph"]["inputs"], *value["graph"]["outputs"]]
        if "made_up" in item
    ]
    assert kinds == ["root", "graph", "input", "output"]
    assert members(value, "made_up") == 14
    assert members(value, "extensions") == 9
    assert "build" in value["generator"]


def test_validation_warns_and_passes(path: Path) -> None:
    result = run("validate", path, "--format", "json")
    assert result.returncode == 0, result.stdout
    for code in ("UNKNOWN_MINOR_VERSION", "UNEXPECTED_PROPERTY"):
        assert code in result.stdout
    assert '"severity": "error"' not in result.stdout


def test_loading_warns_once(path: Path) -> None:
    with pytest.warns(DocumentWarning, match=r"1\.1\.0 is newer than .*UNKNOWN_MINOR_VERSION") as caught:
        deepstruct.load(path)
    assert len(caught) == 1


def test_conversion_to_a_document_keeps_everything(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "other.structure.json"
    result = run("convert", path, target, "--fail-on-loss")
    assert result.returncode == 0, result.stderr
    assert "UNKNOWN_MINOR_VERSION" in result.stderr
    assert kept(target) == kept(path)
    assert read(target)["generator"]["name"] == "deepstruct"
    with pytest.warns(DocumentWarning):
        assert deepstruct.load(target) == deepstruct.load(path)


def test_a_checkpoint_keeps_everything_of_the_structure(path: Path, tmp_path: Path) -> None:
    with pytest.warns(DocumentWarning):
        report = deepstruct.convert(path, tmp_path / "model.pt")
    assert [(loss.what, loss.where) for loss in report.losses] == [("unknown members", "weights")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DocumentWarning)
        deepstruct.convert(tmp_path / "model.pt", tmp_path / "back.structure.json", fail_on_loss=True)
    before, after = kept(path), kept(tmp_path / "back.structure.json")
    for key in ("made_up", "extensions"):
        del before["weights"][key]
    assert after == before


def test_onnx_says_what_it_loses(path: Path, tmp_path: Path) -> None:
    with pytest.warns(DocumentWarning):
        report = deepstruct.convert(path, tmp_path / "model.onnx")
    lost = {loss.where: loss.why for loss in report.losses if loss.what == "unknown members"}
    assert lost.keys() >= {"document", "x", "y", "choose", "yes", "up", "F", "n", "w", "b"}
    for member in ("extensions_used", "graph", "made_up", "min_version", "version", "weights"):
        assert member in lost["document"]
    assert "mask" in lost["w"]
    result = run("convert", path, tmp_path / "other.onnx", "--fail-on-loss")
    assert result.returncode == 5
    assert not (tmp_path / "other.onnx").exists()


def test_migration_leaves_it_byte_for_byte(path: Path) -> None:
    before = path.read_bytes()
    for options in ([], ["--check"]):
        result = run("migrate", path, *options)
        assert (result.returncode, path.read_bytes()) == (0, before), result.stderr
    assert "1.1.0" in result.stderr


def test_info_and_diff_work(path: Path, tmp_path: Path) -> None:
    result = run("info", path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("newer: x: float32 [batch, 3]")
    value = read(path)
    value["graph"]["made_up"]["of"] = "something else"
    del value["parameters"]["w"]["mask"]["digest"]
    value["parameters"]["w"]["mask"] |= {"encoding": "coo", "indices": [[0, 0]], "nnz": 1}
    del value["parameters"]["w"]["mask"]["data"], value["weights"]
    other = tmp_path / "changed.structure.json"
    other.write_text(json.dumps(value), encoding="utf-8")
    assert run("diff", path, path).returncode == 0
    result = run("diff", path, other, "--json")
    assert result.returncode == 1, result.stderr
    assert "rewired" in result.stdout


def set_min_version(value: Any) -> None:
    value["min_version"] = "1.1.0"


def require_an_extension(value: Any) -> None:
    value["extensions_required"] = ["EXT_made_up"]


def use_an_encoding(value: Any) -> None:
    value["parameters"]["w"]["mask"]["encoding"] = "run-length"


def use_a_compression(value: Any) -> None:
    value["parameters"]["w"]["mask"]["compression"] = "zstd"


def use_an_operator(value: Any) -> None:
    value["graph"]["nodes"][1]["op"] = "AddOfTomorrow"


def use_an_operator_in_a_body(value: Any) -> None:
    value["graph"]["nodes"][0]["attributes"]["then_branch"]["nodes"][0]["op"] = "MatMulOfTomorrow"


def use_an_operator_set(value: Any) -> None:
    value["graph"]["opset"][""] = 10_000


def use_a_dtype(value: Any) -> None:
    value["parameters"]["b"]["dtype"] = "float2"


def use_an_attribute_type(value: Any) -> None:
    value["graph"]["nodes"][2]["attributes"] = {"a": {"type": "map", "value": {}}}


def use_a_weights_format(value: Any) -> None:
    value["weights"]["format"] = "gguf"


REFUSED: list[tuple[Change, str]] = [
    (set_min_version, "UNSUPPORTED_MIN_VERSION"),
    (require_an_extension, "UNSUPPORTED_EXTENSION"),
    (use_an_encoding, "UNKNOWN_ENCODING"),
    (use_a_compression, "UNKNOWN_ENCODING"),
    (use_an_operator, "UNKNOWN_OPERATOR"),
    (use_an_operator_in_a_body, "UNKNOWN_OPERATOR"),
    (use_an_operator_set, "UNKNOWN_OPSET"),
    (use_a_dtype, "UNKNOWN_DTYPE"),
    (use_an_attribute_type, "OPERATOR_ATTRIBUTE"),
    (use_a_weights_format, "UNKNOWN_ENCODING"),
]


@pytest.mark.parametrize(("change", "code"), REFUSED, ids=lambda value: getattr(value, "__name__", None))
def test_what_a_minor_version_may_not_add_is_refused(path: Path, change: Change, code: str) -> None:
    value = read(path)
    change(value)
    with pytest.raises(DocumentError) as caught:
        document.from_json(value)
    assert code in {fault.code for fault in caught.value.faults if fault.severity == "error"}


@pytest.mark.parametrize(("change", "code"), REFUSED[:2], ids=lambda value: getattr(value, "__name__", None))
def test_refusals_have_their_exit_codes(path: Path, tmp_path: Path, change: Change, code: str) -> None:
    value = read(path)
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")
    checked, converted = run("validate", path), run("convert", path, tmp_path / "other.structure.json")
    assert (checked.returncode, converted.returncode) == (1, 3)
    assert code in checked.stdout
    assert code in converted.stderr
    assert not (tmp_path / "other.structure.json").exists()


def test_without_min_version_it_is_read_as_well(path: Path) -> None:
    value = read(path)
    del value["min_version"]
    again = document.to_json(document.from_json(value).structure)
    assert again["version"] == "1.1.0"


def load(path: Path) -> deepstruct.Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DocumentWarning)
        return deepstruct.load(path)


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes this package one of version 1.1.0; versions that its step was asked to bring up."""
    seen: list[str] = []

    def step(value: dict[str, Any]) -> dict[str, Any]:
        seen.append(value["version"])
        return dict(value)

    def has_addition(value: dict[str, Any]) -> bool:
        return bool(value["graph"]["name"] == "needs 1.1.0")

    current = Version("1.1.0")
    steps = (("1.0.0", "1.1.0", step),)
    monkeypatch.setattr(migrations, "CURRENT", current)
    monkeypatch.setattr(migrations, "STEPS", steps)
    monkeypatch.setattr(migrations, "ADDITIONS", (("1.1.0", has_addition),))
    monkeypatch.setattr(migrations, "migrate", functools.partial(migrations.migrate, steps=steps, current=current))
    return seen


@pytest.mark.parametrize("old", CORPUS, ids=lambda old: old.name)
def test_a_newer_reader_reads_and_writes_all_old_documents_as_before(
    old: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    target = tmp_path / old.name
    model = load(old)
    deepstruct.save(model, target)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    seen = request.getfixturevalue("newer")
    assert load(old) == model
    assert seen == [read(old)["version"]]
    deepstruct.save(load(old), target)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert (read(target)["version"], read(target)["min_version"]) == ("1.0.0", "1.0.0")


@pytest.mark.parametrize("old", CORPUS, ids=lambda old: old.name)
def test_a_newer_package_migrates_all_old_documents(old: Path, tmp_path: Path, newer: list[str]) -> None:
    for file in old.parent.glob(f"{old.name.removesuffix('.structure.json')}.*"):
        shutil.copy(file, tmp_path)
    copy = tmp_path / old.name
    assert rewriting.migrate(copy, write=True) == (read(old)["version"], "1.1.0")
    assert read(copy) == {**read(old), "version": "1.1.0"}
    assert load(copy) == load(old)


def test_a_newer_writer_emits_its_version_only_where_it_is_needed(path: Path, newer: list[str]) -> None:
    plain = deepstruct.Structure(nodes=(), inputs=(), outputs=())
    assert document.to_json(plain)["version"] == "1.0.0"
    written = document.to_json(deepstruct.Structure(nodes=(), inputs=(), outputs=(), name="needs 1.1.0"))
    assert (written["version"], written["min_version"]) == ("1.1.0", "1.0.0")
    assert list(written)[:4] == ["$schema", "format", "version", "min_version"]


def test_a_newer_reader_does_not_warn_of_its_own_version(path: Path, newer: list[str]) -> None:
    reading = document.from_json(read(path))
    assert "UNKNOWN_MINOR_VERSION" not in {warning.code for warning in reading.warnings}
    assert newer == []
