"""verify, its certificates and `convert --verify` under attack: one clear answer, and nothing left behind."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
import rfc8785
import torch
from onnx import TensorProto, helper, numpy_helper

from deepstruct import cli, running
from deepstruct.verification import certificate

Answer = tuple[int, str, str]
Json = dict[str, Any]


def deepstruct(*arguments: object) -> Answer:
    """Exit code, standard output and standard error of a command, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        words = [os.fspath(a) if isinstance(a, Path) else str(a) for a in arguments]
        code = running.run(lambda: cli.cli.main(words, standalone_mode=False, prog_name="deepstruct"), False)
    return code, out.getvalue(), err.getvalue()


def network(path: Path, seed: int = 0, *, inputs: int = 3, units: int = 5, random: bool = False) -> Path:
    """A feed-forward network in ONNX, which can draw numbers."""
    rng = np.random.default_rng(seed)
    shapes = {"w": (units, inputs), "b": (units,), "v": (2, units), "c": (2,)}
    arrays = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "v", "c"], ["g"], transB=1),
        helper.make_node("RandomNormalLike", ["g"], ["y"]) if random else helper.make_node("Neg", ["g"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", inputs])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph(nodes, "g", [x], [y], initializer=arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return network(tmp_path / "a.onnx"), network(tmp_path / "b.onnx")


@pytest.fixture
def issued(pair: tuple[Path, Path]) -> tuple[Path, Path, Path]:
    path = pair[0].with_name("certificate.json")
    assert deepstruct("verify", *pair, "-o", path)[0] == 0
    return *pair, path


def assert_one_sentence(answer: Answer, code: int) -> None:
    assert answer[0] == code, answer
    assert answer[1] == ""
    assert answer[2].startswith(("error: ", "Usage: "))
    assert "Traceback" not in answer[2]


def assert_certificate(answer: Answer, code: int) -> Json:
    assert answer[0] == code, answer
    found: Json = json.loads(answer[1])
    jsonschema.Draft202012Validator(certificate.schema()).validate(found)
    assert certificate.EXIT_CODES[found["verdict"]] == code
    return found


# Certificates


def test_a_certificate_is_of_its_files_in_their_order(issued: tuple[Path, Path, Path], tmp_path: Path) -> None:
    a, b, path = issued
    other = network(tmp_path / "other.onnx", 1)
    assert deepstruct("verify", a, b, "--check", path)[0] == 0
    assert deepstruct("verify", a, other, "--check", path)[0] == 1
    assert deepstruct("verify", other, b, "--check", path)[0] == 1


def test_a_certificate_of_a_difference_does_not_check(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other, path = network(tmp_path / "other.onnx", 1), tmp_path / "c.json"
    assert deepstruct("verify", pair[0], other, "-o", path)[0] == 1
    code, out, _ = deepstruct("verify", pair[0], other, "--check", path)
    assert code == 1
    assert "'different'" in out


def put(*path: str | int, value: Any) -> Callable[[Json], None]:
    def change(content: Json) -> None:
        place: Any = content
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


EDITS: dict[str, Callable[[Json], None]] = {
    "verdict": put("verdict", value="different"),
    "digest of a file": put("b", "files", 0, "sha256", value="0" * 64),
    "seed": put("options", "seed", value=1),
    "no tiers": put("tiers", value={}),
    "a reason": put("reasons", value=["trust me"]),
    "a large integer": put("a", "files", 0, "bytes", value=2**60),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_certificate_is_refused(name: str, issued: tuple[Path, Path, Path]) -> None:
    a, b, path = issued
    content = json.loads(path.read_text())
    EDITS[name](content)
    path.write_text(json.dumps(content))
    assert_one_sentence(deepstruct("verify", a, b, "--check", path), 3)


FORGERIES: dict[str, Callable[[Json], None]] = {
    "one more file": lambda content: content["a"]["files"].append({"name": "z", "bytes": 1, "sha256": "0" * 64}),
    "no such format": put("a", "format", value="nonsense"),
    "another version": put("certificate_version", value="2.0.0"),
    "an unknown member": put("more", value=1),
    "a negative seed": put("options", "seed", value=-1),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_certificate_is_refused_without_a_crash(name: str, issued: tuple[Path, Path, Path]) -> None:
    a, b, path = issued
    content = json.loads(path.read_text())
    FORGERIES[name](content)
    kept = {key: value for key, value in content.items() if key != "digest"}
    content["digest"] = f"sha256:{hashlib.sha256(rfc8785.dumps(kept)).hexdigest()}"
    path.write_text(json.dumps(content))
    code, _, error = deepstruct("verify", a, b, "--check", path)
    assert code in (1, 3, 4), error
    assert "bug in deepstruct" not in error


BROKEN: dict[str, Callable[[str], bytes]] = {
    "truncated": lambda text: text[:-50].encode(),
    "empty": lambda _: b"",
    "null": lambda _: b"null",
    "deep": lambda _: b"[" * 100_000,
    "not a number": lambda text: text.replace('"scale": 1.0', '"scale": NaN').encode(),
    "beyond numbers": lambda text: text.replace('"scale": 1.0', '"scale": 1e999').encode(),
    "long number": lambda text: text.replace('"seed": 0', f'"seed": {"9" * 50_000}').encode(),
    "twice": lambda text: text.replace('"verdict"', '"verdict": "different", "verdict"', 1).encode(),
    "half a character": lambda text: text.replace('"a.onnx"', '"\\udcff"').encode(),
    "other text": lambda _: b'{"format": "x"}',
    "other bytes": lambda _: b"\xff\xfe\x00",
    "more behind it": lambda text: text.encode() + b"x",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_certificate_is_refused(name: str, issued: tuple[Path, Path, Path]) -> None:
    a, b, path = issued
    path.write_bytes(BROKEN[name](path.read_text()))
    assert_one_sentence(deepstruct("verify", a, b, "--check", path), 3)


@pytest.mark.parametrize("name", ["mit leer ünïcode 🎉.onnx", "new\nline.onnx", "'quoted\".onnx", "-dash.onnx"])
def test_names_do_not_matter(name: str, pair: tuple[Path, Path]) -> None:
    odd = pair[0].with_name(name)
    shutil.copy(pair[0], odd)
    assert_certificate(deepstruct("verify", "--json", odd, pair[1]), 0)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names that are text")
def test_a_name_that_is_no_text_is_no_crash(pair: tuple[Path, Path]) -> None:
    odd = os.fsdecode(os.fsencode(pair[0].parent) + b"/\xff.onnx")
    shutil.copy(pair[0], odd)
    code, out, error = deepstruct("verify", "--json", odd, pair[1])
    assert code in (0, 4), error
    assert json.loads(out)["a"]["files"][0]["bytes"] == pair[0].stat().st_size


# Options and files


def test_the_certificate_is_not_written_over_a_model(pair: tuple[Path, Path]) -> None:
    before = pair[0].read_bytes()
    assert_one_sentence(deepstruct("verify", *pair, "-o", pair[0]), 2)
    assert pair[0].read_bytes() == before


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--seed", str(2**53 - 1)], 0),
        (["--scale", "1e30"], 0),
        (["--scale", "1e-30"], 0),
        (["--input-shape", "x=5,3"], 0),
        (["--input-shape", "x=0,3"], 0),
        (["--input-shape", f"x={10**12},3"], 4),
    ],
    ids=str,
)
def test_the_limits_of_options_give_a_certificate(pair: tuple[Path, Path], options: list[str], code: int) -> None:
    assert_certificate(deepstruct("verify", "--json", *pair, *options), code)


@pytest.mark.parametrize(
    "options",
    [
        ["--seed", str(2**53)],
        ["--scale", "nan"],
        ["--rows", "0"],
        ["--input-shape", "x=5"],
        ["--input-shape", "x=5,4"],
        ["--input-shape", "z=5,3"],
        ["--input-shape", "x=-2,3"],
        ["--input-shape", "x=9000000000000000000,3"],
        ["--input-shape", f"x={10**26},3"],
        ["-o", "."],
        ["-o", "-"],
    ],
    ids=str,
)
def test_options_that_mean_nothing_are_refused(pair: tuple[Path, Path], options: list[str]) -> None:
    answer = deepstruct("verify", *pair, *options)
    assert answer[0] == 2, answer
    assert answer[1] == ""


FILES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "truncated": lambda content: content[:-40],
    "noise": lambda _: b"\x00\xff" * 100,
}


@pytest.mark.parametrize("name", FILES)
def test_broken_models_are_refused(name: str, pair: tuple[Path, Path]) -> None:
    pair[1].write_bytes(FILES[name](pair[1].read_bytes()))
    assert_one_sentence(deepstruct("verify", *pair), 3)
    assert_one_sentence(deepstruct("verify", *pair[::-1]), 3)


def archive(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


ROWS = np.ones((4, 3), np.float32)
ARCHIVES: dict[str, tuple[int, Callable[[Path], Path]]] = {
    "right": (0, lambda path: archive(path, x=ROWS)),
    "no rows": (0, lambda path: archive(path, x=ROWS[:0])),
    "not finite": (0, lambda path: archive(path, x=ROWS * np.nan)),
    "nothing": (2, lambda path: archive(path)),
    "one more": (2, lambda path: archive(path, x=ROWS, z=ROWS)),
    "dtype": (2, lambda path: archive(path, x=ROWS.astype(np.float64))),
    "rank": (2, lambda path: archive(path, x=ROWS[0])),
    "extents": (2, lambda path: archive(path, x=ROWS[:, :2])),
    "pickled": (3, lambda path: archive(path, x=np.array([None], object))),
    "truncated": (3, lambda path: written(path, archive(path, x=ROWS).read_bytes()[:-30])),
    "empty": (3, lambda path: written(path, b"")),
    "missing": (3, lambda path: path),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_given_inputs_are_checked(name: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    code, make = ARCHIVES[name]
    answer = deepstruct("verify", *pair, "--json", "--inputs", make(tmp_path / "inputs.npz"))
    if code:
        assert_one_sentence(answer, code)
    else:
        assert_certificate(answer, code)


# Bundles that show a difference


def change(path: Path, edit: Callable[[onnx.GraphProto], None]) -> Path:
    proto = onnx.load(path)
    edit(proto.graph)
    path.write_bytes(proto.SerializeToString())
    return path


def flip(name: str) -> Callable[[onnx.GraphProto], None]:
    def edit(graph: onnx.GraphProto) -> None:
        tensor = next(t for t in graph.initializer if t.name == name)
        array = numpy_helper.to_array(tensor).copy()
        array.reshape(-1)[-1:].view(np.uint32)[:] ^= 1
        tensor.CopyFrom(numpy_helper.from_array(array, name))

    return edit


def drop_bias(graph: onnx.GraphProto) -> None:
    del graph.node[0].input[2]


def other_activation(graph: onnx.GraphProto) -> None:
    graph.node[1].op_type = "Tanh"


@pytest.mark.parametrize("edit", [flip("w"), flip("c"), drop_bias, other_activation])
@pytest.mark.parametrize("target", [".onnx", ".structure.json"])
def test_a_bundle_shows_the_difference_again(
    edit: Callable[[onnx.GraphProto], None], target: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    other, folder = tmp_path / f"other{target}", tmp_path / "bundle"
    change(pair[1], edit)
    if target == ".onnx":
        other = pair[1]
    else:
        assert deepstruct("convert", pair[1], other)[0] == 0
    assert deepstruct("verify", pair[0], other, "--repro", folder)[0] == 1
    found = re.search(r"^    deepstruct (.*)$", (folder / "README.md").read_text(), re.MULTILINE)
    assert found is not None
    with contextlib.chdir(folder):
        assert deepstruct(*shlex.split(found[1]))[0] == 1


def test_a_folder_for_a_bundle_is_empty_or_new(pair: tuple[Path, Path], tmp_path: Path) -> None:
    full, new = tmp_path / "full", tmp_path / "new"
    full.mkdir()
    (full / "mine").write_text("")
    assert_one_sentence(deepstruct("verify", *pair, "--repro", full), 2)
    assert_one_sentence(deepstruct("verify", *pair, "--repro", pair[0]), 2)
    assert os.listdir(full) == ["mine"]
    assert deepstruct("verify", *pair, "--repro", new)[0] == 0
    assert not new.exists()


# Conversions that are not certified


@pytest.mark.parametrize("options", [[], ["--external-data"]], ids=["one file", "two files"])
@pytest.mark.parametrize("name", ["t.onnx", "t.structure.json", "mit leer ü.onnx"])
def test_nothing_is_left_of_a_conversion_that_is_not_certified(name: str, options: list[str], tmp_path: Path) -> None:
    if options and not name.endswith(".onnx"):
        pytest.skip("documents have two files anyway")
    source, folder = network(tmp_path / "random.onnx", random=True), tmp_path / "folder"
    folder.mkdir()
    assert deepstruct("convert", source, folder / name, "--verify", *options)[0] == 4
    assert os.listdir(folder) == []
    assert deepstruct("convert", network(tmp_path / "a.onnx"), folder / name, "--verify", *options)[0] == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert deepstruct("convert", source, folder / name, "--verify", "--force", *options)[0] == 4
    assert deepstruct("convert", source, folder / name, "--verify", *options)[0] == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_conversion_writes_through_a_link(pair: tuple[Path, Path], tmp_path: Path) -> None:
    random, real, link = network(tmp_path / "r.onnx", random=True), tmp_path / "real.onnx", tmp_path / "link.onnx"
    link.symlink_to(real)
    assert deepstruct("convert", random, link, "--verify", "--force")[0] == 4
    assert not real.exists()
    assert deepstruct("convert", pair[0], link, "--verify", "--force")[0] == 0
    assert link.is_symlink()
    assert deepstruct("verify", pair[0], real)[0] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_nothing_is_left_of_an_interrupted_conversion(number: int, code: int, tmp_path: Path) -> None:
    source, folder = network(tmp_path / "large.onnx", inputs=1500, units=3000), tmp_path / "folder"
    folder.mkdir()
    command = [sys.executable, "-m", "deepstruct", "convert", str(source), str(folder / "t.structure.json"), "--verify"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not any(path.is_dir() for path in folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(number)
    assert process.wait(30) == code
    assert os.listdir(folder) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")
def test_nothing_is_left_where_the_disk_is_full(tmp_path: Path) -> None:
    source, folder = network(tmp_path / "large.onnx", inputs=100, units=300), tmp_path / "folder"
    folder.mkdir()
    limits = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limits += "resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000)); "
    limits += "import sys; from deepstruct import cli, running; running.main(cli.cli)"
    target = folder / "t.structure.json"
    command = [sys.executable, "-c", limits, "convert", str(source), str(target), "--verify"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 7, done.stderr
    assert os.listdir(folder) == []


# Casts


def halves(state: dict[str, torch.Tensor], *, spoil: bool = False) -> dict[str, torch.Tensor]:
    rounded = {name: tensor.half().float() for name, tensor in state.items()}
    if spoil:
        weight = rounded["0.weight"].half()
        weight[1, 2] = torch.nextafter(weight[1, 2].float(), torch.tensor(0.0)).half()
        weight.view(torch.int16)[0, 0] ^= 1
        rounded["0.weight"] = weight.float()
    return rounded


def test_a_declared_cast_must_be_rounded_to_nearest(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2)).state_dict()
    paths = {name: tmp_path / f"{name}.pt" for name in ("plain", "rounded", "spoilt", "half")}
    torch.save(state, paths["plain"])
    torch.save(halves(state), paths["rounded"])
    torch.save(halves(state, spoil=True), paths["spoilt"])
    torch.save({name: tensor.half() for name, tensor in state.items()}, paths["half"])

    def code(other: str, *options: str) -> int:
        return deepstruct("verify", paths["plain"], paths[other], "--activation", "relu", *options)[0]

    assert code("rounded", "--cast", "float16") == 0
    assert code("half", "--cast", "float16") == 0
    assert code("rounded") == 1
    assert code("half") == 4
    assert code("plain", "--cast", "float16") == 1
    assert code("spoilt", "--cast", "float16") == 1
    assert code("rounded", "--cast", "bfloat16") == 1
