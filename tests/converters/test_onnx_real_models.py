"""Networks that people use come through a document bit by bit, whole and pruned, with weights inside their branches."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper
from onnx_backend import graphs

import deepstruct
from deepstruct.errors import UnsupportedError
from deepstruct.options import SparseEncoding

Inputs = dict[str, NDArray[Any]]

LEAST = 256
SHARE = 0.9
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
ENCODINGS = get_args(SparseEncoding)
DECODED = ("auto", "packed", "packed-flat")
SILERO = "silero_vad/data"


def sound(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(shape).standard_normal(shape, np.float32) / np.float32(8)


def speech(*batches: int, rates: tuple[int, ...] = (16000,), with_rate: bool = True) -> list[Inputs]:
    """One step of voice detection: 32 ms with what came before, and the state."""
    return [
        {"input": sound(batch, 576 * rate // 16000), "state": sound(2, batch, 128)}
        | ({"sr": np.array(rate, np.int64)} if with_rate else {})
        for batch in batches
        for rate in rates
    ]


def content(*batches: int) -> list[Inputs]:
    """Beginnings and ends of files as Magika takes them: bytes, 256 where there is none."""
    return [{"bytes": np.random.default_rng(n).integers(0, 257, (n, 2048), np.int32)} for n in batches]


MODELS: dict[str, list[Inputs]] = {
    f"{SILERO}/silero_vad.onnx": speech(1, 3, rates=(8000, 16000)),
    f"{SILERO}/silero_vad_16k_op15.onnx": speech(1, 2, 5),
    f"{SILERO}/silero_vad_16k_sequence.onnx": [
        {"input": sound(length, 576), "h": sound(1, 1, 128), "c": sound(1, 1, 128)[..., ::-1].copy()}
        for length in (1, 4, 9)
    ],
    f"{SILERO}/silero_vad_half.onnx": speech(1, 2, with_rate=False),
    f"{SILERO}/silero_vad_op18_ifless.onnx": speech(1, 2, rates=(8000, 16000)),
    f"{SILERO}/silero_vad_openvino_16k.onnx": speech(1, with_rate=False),
    "magika/models/standard_v3_3/model.onnx": content(1, 2, 7),
}


def installed(name: str) -> Path:
    """The model's file; its package is not imported, since nothing of it is needed but the file."""
    package, _, inside = name.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip(f"the package {package} is not installed")
    return Path(next(iter(spec.submodule_search_locations)), inside)


@pytest.fixture(params=MODELS, ids=lambda name: Path(name).stem if "silero" in name else "magika")
def model(request: pytest.FixtureRequest) -> tuple[Path, list[Inputs]]:
    return installed(request.param), MODELS[request.param]


def run(path: Path, data: list[Inputs], optimised: bool = False) -> list[NDArray[Any]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return [output for inputs in data for output in session.run(None, inputs)]


def assert_same(ours: list[NDArray[Any]], theirs: list[NDArray[Any]]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
        assert a.tobytes() == b.tobytes()


def through_document(source: Path, target: Path, *, infer_masks: bool = False, **options: Any) -> None:
    """Source -> document -> target."""
    document = target.with_suffix(".structure.json")
    loaded = deepstruct.load(source, infer_masks=infer_masks, losses=[])
    deepstruct.save(loaded, document, fail_on_loss=True)
    again = deepstruct.load(document)
    assert again == loaded
    deepstruct.save(again, target, **options)


def through_newer_opset(source: Path, target: Path, encoding: str) -> bool:
    """Source -> document -> target, in the opset that the encoding needs; whether it is not the source's."""
    try:
        through_document(source, target, infer_masks=True, sparse_encoding=encoding)
    except UnsupportedError as error:
        needed = re.search(r"opset (\d+).*--opset", str(error))
        if needed is None:
            raise
        through_document(source, target, infer_masks=True, sparse_encoding=encoding, opset=int(needed[1]))
        return True
    return False


def weights(graph: GraphProto) -> Iterator[TensorProto]:
    """Tensors of floats wherever they stand: initializers and constants, in branches and bodies too."""
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t] if node.op_type == "Constant" and attribute.name == "value" else []
            for inner in (attribute.g, *attribute.graphs):
                yield from weights(inner)
    yield from (t for t in found if t.data_type in FLOATS and np.prod(t.dims) >= LEAST)


def prune(source: Path, target: Path) -> int:
    """Sets the smallest entries of each weight to 0; returns how many weights there are."""
    proto = onnx.load(source)
    count = 0
    for tensor in weights(proto.graph):
        array = numpy_helper.to_array(tensor).copy()
        magnitudes = np.abs(array).reshape(-1)
        array.reshape(-1)[np.argsort(magnitudes, kind="stable")[: int(SHARE * array.size)]] = 0
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        count += 1
    target.write_bytes(proto.SerializeToString())
    return count


def test_models_come_through_a_document(model: tuple[Path, list[Inputs]], tmp_path: Path) -> None:
    source, data = model
    target = tmp_path / "model.onnx"
    through_document(source, target)
    assert_same(run(target, data), run(source, data))
    for ours, theirs in zip(run(target, data, optimised=True), run(source, data, optimised=True), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert graphs.differences(onnx.load(target), onnx.load(source)) == []


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_pruned_models_come_through_a_document(model: tuple[Path, list[Inputs]], encoding: str, tmp_path: Path) -> None:
    source, data = model
    pruned, dense, target = (tmp_path / f"{name}.onnx" for name in ("pruned", "dense", "target"))
    assert prune(source, pruned) >= 5
    expected = run(pruned, data)
    assert any((a != b).any() for a, b in zip(expected, run(source, data), strict=True))
    newer = through_newer_opset(pruned, target, encoding)
    if encoding in DECODED:  # unoptimised, onnxruntime does not see constants, and its kernels sum in another order
        assert_same(run(target, data, optimised=True), run(pruned, data, optimised=True))
        for ours, theirs in zip(run(target, data), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    else:
        assert_same(run(target, data), expected)
    if encoding != "dense":
        assert target.stat().st_size < 0.5 * pruned.stat().st_size
    deepstruct.convert(target, dense, sparse_encoding="dense")
    assert_same(run(dense, data), expected)
    if not newer:
        assert graphs.differences(onnx.load(dense), ModelProto.FromString(pruned.read_bytes())) == []
