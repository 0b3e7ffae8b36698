"""Programs that torch.export has saved: read like the module, and nothing in them is ever run."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from networks import called, made
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.nn.utils import prune

import deepstruct
from deepstruct.cli import cli
from deepstruct.errors import DeepstructError, MalformedFileError, UnsupportedError

Members = dict[str, bytes]


def exported() -> tuple[nn.Sequential, ExportedProgram]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv1d(2, 3, 1), nn.Flatten(), nn.Linear(12, 4))
    module.eval()
    prune.l1_unstructured(module[2], "weight", 0.5)  # type: ignore[no-untyped-call]  # torch's
    shapes: Any = ({0: Dim.AUTO},)
    with warnings.catch_warnings(action="ignore"):  # about what prune assigns in forward
        return module, torch.export.export(module, (torch.randn(2, 2, 4),), dynamic_shapes=shapes)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("programs") / "net.pt2"
    with warnings.catch_warnings(action="ignore"):
        torch.export.save(exported()[1], path)
    return path


def test_programs_say_what_their_module_says(archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    module, program = exported()
    x = torch.randn(5, 2, 4)
    live = deepstruct.from_module(module, torch.randn(2, 2, 4), losses=[])
    assert deepstruct.from_module(program, losses=[]) == live
    model = deepstruct.load(archive, losses=[])
    assert model == live
    assert torch.equal(deepstruct.to_module(model)(x), module(x))
    mask = model.structure.parameter("2.weight").mask
    assert mask is not None
    assert np.array_equal(mask.to_array(), module[2].get_buffer("weight_mask").numpy() != 0)
    assert deepstruct.load(archive, infer_masks=True, losses=[]).structure.parameter("0.weight").mask is None
    result = CliRunner().invoke(cli, ["convert", str(archive), str(tmp_path / "net.structure.json")])
    assert result.exit_code == 0, result.output
    assert deepstruct.load(tmp_path / "net.structure.json") == live
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["bert", "recurrent", "pieces"])
def test_programs_of_networks(name: str, tmp_path: Path) -> None:
    module, inputs = made(name)
    module.eval()
    positional = inputs if isinstance(inputs, tuple) else () if isinstance(inputs, dict) else (inputs,)
    with warnings.catch_warnings(action="ignore"):
        program = torch.export.export(module, positional, inputs if isinstance(inputs, dict) else None)
        torch.export.save(program, tmp_path / "a.pt2")
    model = deepstruct.load(tmp_path / "a.pt2")
    found = deepstruct.to_module(model)(*torch.utils._pytree.tree_leaves(inputs))
    for a, b in zip(torch.utils._pytree.tree_leaves(found), called(module, inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=5e-7)


def test_programs_take_no_examples() -> None:
    with pytest.raises(UnsupportedError, match="takes no example_inputs: it has its own"):
        deepstruct.from_module(exported()[1], torch.randn(2, 2, 4))


def rewrite(source: Path, target: Path, change: Callable[[Members], object]) -> None:
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def edit(place: str, change: Callable[[Any], object]) -> Callable[[Members], None]:
    """Changes one JSON document of an archive."""

    def apply(members: Members) -> None:
        name = next(name for name in members if name.endswith(place))
        document = json.loads(members[name])
        change(document)
        members[name] = json.dumps(document).encode()

    return apply


def put(place: str, content: bytes) -> Callable[[Members], None]:
    """Replaces or adds a member of an archive."""
    return lambda members: members.update({f"net/{place}": content})


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def _all(value: Any, key: str) -> list[dict[str, Any]]:
    """Every object in a document that has a key."""
    if isinstance(value, list):
        return [found for item in value for found in _all(item, key)]
    if not isinstance(value, dict):
        return []
    return ([value] if key in value else []) + _all(list(value.values()), key)


def _set(key: str, text: Any) -> Callable[[Members], None]:
    return edit("models/model.json", lambda document: _all(document, key)[0].update({key: text}))


def _payload(**changes: Any) -> Callable[[Members], None]:
    return edit("model_weights_config.json", lambda d: next(iter(d["config"].values())).update(changes))


def _tree(kind: str, context: Any) -> str:
    return json.dumps([1, {"type": kind, "context": json.dumps(context), "children_spec": []}])


def _constant(members: Members) -> None:
    payload = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": False, "tensor_meta": None}
    edit("model_constants_config.json", lambda d: d["config"].update({"x": payload}))(members)


def attacks(trace: Path) -> dict[str, list[Callable[[Members], object]]]:
    """Archives in which torch would run something, each of which would make the file `trace`."""
    bomb = pickle.dumps(Bomb(trace))
    saved = io.BytesIO()
    torch.save(Bomb(trace), saved)
    code = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    member = {"__enum__": True, "fqn": "antigravity:x", "name": "y"}
    spelled = _tree("builtins.tuple", None).replace("builtins.tuple", "collections.default\\u0064ict")
    return {
        "pickled weights": [_payload(use_pickle=True), put("data/weights/weight_0", saved.getvalue())],
        "opaque object": [_constant, put("data/constants/opaque_obj_0", bomb)],
        "sample inputs": [put("data/sample_inputs/model.pt", saved.getvalue())],
        "target": [_set("target", "torch.hub.load")],
        "inner target": [_set("target", "torch.ops.aten.__class__.__init__")],
        "file": [_set("target", "torch.ops.aten.from_file.default")],
        "expression": [_set("expr_str", code)],
        "power": [_set("expr_str", "9**9**9**9")],
        "named power": [_set("expr_str", "Pow(Integer(9), Pow(Integer(9), Integer(999999999)))")],
        "type": [_set("in_spec", _tree("collections.defaultdict", {"default_factory_module": "antigravity"}))],
        "spelled type": [_set("in_spec", spelled)],
        "enum": [_set("in_spec", _tree("builtins.dict", [member]))],
        "compiled code": [put("data/aotinductor/model/a.so", b"")],
        "older archive": [put("serialized_exported_program.json", b"{}")],
    }


@pytest.mark.parametrize("name", attacks(Path("x")))
def test_nothing_is_run(name: str, archive: Path, tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "net.pt2"

    def change(members: Members) -> None:
        for step in attacks(trace)[name]:
            step(members)

    rewrite(archive, path, change)
    with pytest.raises(UnsupportedError, match=r"could run what it says in .*--trust-pickle") as caught:
        deepstruct.load(path, losses=[])
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert not trace.exists()


def test_one_archive_is_read_in_one_way(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    for extra in ("version", "other/models/model.json", "net/models/MODEL.json"):
        rewrite(archive, path, lambda members, extra=extra: members.update({extra: b"{}"}))  # type: ignore[misc]  # bound early
        with pytest.raises(DeepstructError):
            deepstruct.load(path, losses=[])


def test_trusted_programs_may_hold_pickles(archive: Path, tmp_path: Path) -> None:
    weight = io.BytesIO()
    torch.save(nn.Parameter(torch.ones(3, 2, 1)), weight)

    def change(members: Members) -> None:
        _payload(use_pickle=True)(members)
        put("data/weights/weight_0", weight.getvalue())(members)

    rewrite(archive, tmp_path / "net.pt2", change)
    with pytest.raises(UnsupportedError, match="use_pickle"):
        deepstruct.load(tmp_path / "net.pt2", losses=[])
    model = deepstruct.load(tmp_path / "net.pt2", losses=[], trust_pickle=True)
    assert model.weights is not None
    assert (model.weights["0.weight"] == 1).all()


def test_tensors_that_claim_more_than_they_hold(archive: Path, tmp_path: Path) -> None:
    def grow(document: Any) -> None:
        meta = next(iter(document["config"].values()))["tensor_meta"]
        meta["sizes"], meta["strides"] = [{"as_int": 10**4}] * 3, [{"as_int": 0}] * 3

    rewrite(archive, tmp_path / "net.pt2", edit("model_weights_config.json", grow))
    with pytest.raises(MalformedFileError, match="more than the file holds"):
        deepstruct.load(tmp_path / "net.pt2", losses=[])


def test_broken_files_are_refused(archive: Path, tmp_path: Path) -> None:
    path, whole = tmp_path / "a.pt2", archive.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(MalformedFileError, match=r"a.pt2: no exported program: damaged"):
            deepstruct.load(path)
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("a/b.txt", "text")
    with pytest.raises(MalformedFileError, match="no exported program"):
        deepstruct.load(path)
    torch.save({"weight": torch.ones(2, 3)}, path)
    with pytest.raises(MalformedFileError, match="no exported program"):
        deepstruct.load(path)
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(MalformedFileError, match="is compressed"):
        deepstruct.load(path)


def test_large_texts_are_refused(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSTRUCT_MAX_PICKLE_BYTES", "1000")
    with pytest.raises(MalformedFileError, match="set DEEPSTRUCT_MAX_PICKLE_BYTES"):
        deepstruct.load(archive)


def test_damaged_bytes_never_cause_another_error(archive: Path, tmp_path: Path) -> None:
    whole = np.frombuffer(archive.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = whole.copy()
        damaged[rng.integers(whole.size, size=3)] ^= np.uint8(1 << rng.integers(8))
        (tmp_path / "a.pt2").write_bytes(damaged.tobytes())
        with contextlib.suppress(DeepstructError):
            deepstruct.load(tmp_path / "a.pt2", losses=[])


def test_documents_of_nonsense_never_cause_another_error(archive: Path, tmp_path: Path) -> None:
    nonsense: list[Callable[[Members], object]] = [
        _set("in_spec", "nonsense"),
        _set("in_spec", "[1, 2]"),
        _set("expr_str", 3),
        _set("target", ["torch.hub.load"]),
        edit("models/model.json", lambda document: document.clear()),
        edit("model_weights_config.json", lambda document: document["config"].clear()),
        put("models/model.json", b"[" * 100_000),
        put("models/model.json", b"\xff"),
        put("archive_format", b"other"),
    ]
    for change in nonsense:
        rewrite(archive, tmp_path / "a.pt2", change)
        with pytest.raises(DeepstructError):
            deepstruct.load(tmp_path / "a.pt2", losses=[])


def test_a_program_under_another_suffix_is_named(archive: Path, tmp_path: Path) -> None:
    shutil.copy(archive, tmp_path / "a.pt")
    with pytest.raises(UnsupportedError, match=r"a\.pt: holds an exported program: name it \.pt2") as caught:
        deepstruct.load(tmp_path / "a.pt")
    assert "\n" not in str(caught.value)
    assert deepstruct.load(tmp_path / "a.pt", format="torch-export", losses=[]) == deepstruct.load(archive, losses=[])
