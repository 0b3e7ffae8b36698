"""Kinds of models that other tools write compute the same bits after deepstruct, with the same inputs and outputs."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

import deepstruct
from deepstruct.errors import UnsupportedError

Inputs = dict[str, NDArray[Any]]

MICROSOFT = helper.make_opsetid("com.microsoft", 1)
LEARNING = helper.make_opsetid("ai.onnx.ml", 3)


def numbers(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(shape).standard_normal(shape, np.float32)


def pruned(*shape: int) -> NDArray[np.float32]:
    array = numbers(*shape)
    array[np.abs(array) < 1.6] = 0
    return array


def value(name: str, shape: Any, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: list[NodeProto],
    inputs: list[Any],
    outputs: list[Any],
    tensors: dict[str, NDArray[Any]] | None = None,
    *,
    opset: int = 17,
    imports: tuple[Any, ...] = (),
    functions: tuple[Any, ...] = (),
    ir_version: int = 8,
) -> ModelProto:
    initializers = [numpy_helper.from_array(array, name) for name, array in (tensors or {}).items()]
    graph = helper.make_graph(nodes, "main", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", opset), *imports]
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=ir_version)


def contrib() -> tuple[ModelProto, list[Inputs]]:
    """What onnxruntime's own optimisations make of a transformer."""
    domain = "com.microsoft"
    nodes = [
        helper.make_node("FusedMatMul", ["x", "w"], ["a"], domain=domain, alpha=0.5, transB=1),
        helper.make_node("BiasGelu", ["a", "b"], ["g"], domain=domain),
        helper.make_node("SkipLayerNormalization", ["g", "a", "b", "b"], ["y"], domain=domain, epsilon=1e-5),
    ]
    tensors = {"w": pruned(48, 32), "b": numbers(48)}
    proto = model(nodes, [value("x", ["b", "s", 32])], [value("y", ["b", "s", 48])], tensors, imports=(MICROSOFT,))
    return proto, [{"x": numbers(*shape, 32)} for shape in ((1, 1), (2, 5))]


def quantised() -> tuple[ModelProto, list[Inputs]]:
    """A layer between QuantizeLinear and DequantizeLinear, with a scale for each channel."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"]),
        helper.make_node("DequantizeLinear", ["wq", "sw", "zw"], ["w"], axis=1),
        helper.make_node("MatMul", ["xd", "w"], ["y"]),
    ]
    tensors: dict[str, NDArray[Any]] = {
        "wq": (pruned(16, 24) * 30).astype(np.int8),
        "sw": np.abs(numbers(24)),
        "zw": np.zeros(24, np.int8),
        "sx": np.array(0.02, np.float32),
        "zx": np.array(128, np.uint8),
    }
    proto = model(nodes, [value("x", ["n", 16])], [value("y", ["n", 24])], tensors, opset=13)
    return proto, [{"x": numbers(n, 16)} for n in (1, 3)]


def classifier() -> tuple[ModelProto, list[Inputs]]:
    """Labels and, from ZipMap, a map of probabilities for each row."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Softmax", ["h"], ["p"]),
        helper.make_node("ArgMax", ["p"], ["i"], axis=1, keepdims=0),
        helper.make_node(
            "LabelEncoder", ["i"], ["label"], domain="ai.onnx.ml", keys_int64s=[0, 1, 2], values_strings=["a", "ä", ""]
        ),
        helper.make_node("ZipMap", ["p"], ["maps"], domain="ai.onnx.ml", classlabels_strings=["a", "ä", ""]),
    ]
    maps = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    outputs = [
        value("label", [None], TensorProto.STRING),
        helper.make_value_info("maps", helper.make_sequence_type_proto(maps)),
    ]
    proto = model(nodes, [value("x", [None, 40])], outputs, {"w": pruned(40, 3)}, imports=(LEARNING,))
    return proto, [{"x": numbers(n, 40)} for n in (1, 4)]


def old() -> tuple[ModelProto, list[Inputs]]:
    """A network of opset 7, whose initializers are inputs too, as the format of that time demands."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        helper.make_node("MaxPool", ["n"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["p", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "k", "o"], ["d"]),
        helper.make_node("Dropout", ["d"], ["y"]),
    ]
    tensors: dict[str, NDArray[Any]] = {
        "w": pruned(8, 3, 3, 3),
        "k": pruned(128, 10),
        "o": numbers(10),
        "shape": np.array([-1, 128]),
        "v": np.abs(numbers(8)),
        **{name: numbers(8, i)[:, 0].copy() for i, name in enumerate("sbm", 1)},
    }
    declared = [value(n, a.shape, helper.np_dtype_to_tensor_dtype(a.dtype)) for n, a in tensors.items()]
    inputs = [value("x", ["n", 3, 8, 8]), *declared]
    proto = model(nodes, inputs, [value("y", ["n", 10])], tensors, opset=7, ir_version=3)
    return proto, [{"x": numbers(n, 3, 8, 8)} for n in (1, 3)]


KINDS = {made.__name__: made for made in (contrib, quantised, classifier, old)}


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")  # other sums for weights that are computed
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def ends(path: Path) -> list[tuple[str, str, Any]]:
    """Inputs and outputs as onnxruntime sees them."""
    opened = session(path)
    return [(v.name, v.type, v.shape) for v in (*opened.get_inputs(), *opened.get_outputs())]


def results(path: Path, feeds: list[Inputs]) -> list[Any]:
    """All outputs, arrays as bytes."""
    found = [output for feed in feeds for output in session(path).run(None, feed)]
    return [
        (a.shape, str(a.dtype), a.tolist() if a.dtype == object else a.tobytes()) if _is_array(a) else a for a in found
    ]


def _is_array(found: Any) -> bool:
    return isinstance(found, np.ndarray)


def saved(proto: ModelProto, folder: Path, **options: Any) -> Path:
    path = folder / "source.onnx"
    onnx.save(proto, path, **options)
    return path


def opset_of(path: Path) -> int:
    return next(int(entry.version) for entry in onnx.load(path).opset_import if not entry.domain)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> tuple[ModelProto, list[Inputs]]:
    return KINDS[request.param]()


@pytest.mark.parametrize("encoding", ["auto", "dense", "coo", "constant", "packed", "packed-flat"])
def test_it_computes_the_same_after_a_document(
    kind: tuple[ModelProto, list[Inputs]], encoding: str, tmp_path: Path
) -> None:
    proto, feeds = kind
    source, document, target = saved(proto, tmp_path), tmp_path / "m.structure.json", tmp_path / "target.onnx"
    deepstruct.convert(source, document, infer_masks=True)
    opset = 13 if opset_of(source) < 11 and encoding in ("constant", "packed", "packed-flat") else None
    deepstruct.convert(document, target, sparse_encoding=encoding, opset=opset)
    assert results(target, feeds) == results(source, feeds)
    assert ends(target) == ends(source)
    back = tmp_path / "back.onnx"
    deepstruct.convert(target, back, sparse_encoding="dense")
    assert results(back, feeds) == results(source, feeds)
    if opset is None:
        assert deepstruct.load(target) == deepstruct.load(document)


@pytest.mark.parametrize("one", [True, False])
def test_external_data_of_others(one: bool, tmp_path: Path) -> None:
    proto, feeds = contrib()
    options = {"location": "numbers.bin"} if one else {}
    source = saved(
        proto, tmp_path, save_as_external_data=True, all_tensors_to_one_file=one, size_threshold=0, **options
    )
    assert len(list(tmp_path.iterdir())) == (2 if one else 3)
    target = tmp_path / "elsewhere" / "target.onnx"
    target.parent.mkdir()
    deepstruct.convert(source, target, infer_masks=True, external_data=True)
    assert results(target, feeds) == results(source, feeds)


@pytest.mark.parametrize(
    ("made", "version"), [(contrib, 21), (quantised, 17), (quantised, 21), (classifier, 21), (old, 13)]
)
def test_in_a_newer_opset(made: Any, version: int, tmp_path: Path) -> None:
    proto, feeds = made()
    source, target = saved(proto, tmp_path), tmp_path / "target.onnx"
    deepstruct.convert(source, target, infer_masks=True, opset=version)
    assert opset_of(target) == version
    assert results(target, feeds) == results(source, feeds)


IMAGE = [value("x", [1, 2, 5, 7])]
ANY = [value("y", None)]
SCALES = {"s": np.array([1, 1, 2.3, 1.7], np.float32)}
SOFTMAX = helper.make_function(
    "own", "F", ["a"], ["b"], [helper.make_node("Softmax", ["a"], ["b"])], [helper.make_opsetid("", 12)]
)


def in_function() -> ModelProto:
    node = helper.make_node("F", ["x"], ["y"], domain="own")
    return model([node], IMAGE, ANY, opset=12, imports=(helper.make_opsetid("own", 1),), functions=(SOFTMAX,))


MEANINGS = {
    **{
        f"{op_type}-{mode}": (
            model([helper.make_node(op_type, ["x", "s"], ["y"], mode=mode)], IMAGE, ANY, SCALES, opset=old),
            13,
        )
        for op_type, old in (("Resize", 10), ("Upsample", 9))
        for mode in ("linear", "nearest")
    },
    "Hardmax": (model([helper.make_node("Hardmax", ["x"], ["y"])], IMAGE, ANY, opset=11), 13),
    "Softmax": (model([helper.make_node("Softmax", ["x"], ["y"])], IMAGE, ANY, opset=11), 13),
    "Softmax in a function": (in_function(), 13),
    "ReduceMean": (
        model(
            [helper.make_node("ReduceMean", ["x", "a"], ["y"], noop_with_empty_axes=0)],
            IMAGE,
            ANY,
            {"a": np.array([2])},
            opset=18,
        ),
        17,
    ),
}


@pytest.mark.parametrize("name", MEANINGS)
def test_operators_that_changed_their_meaning_keep_it_or_are_refused(name: str, tmp_path: Path) -> None:
    proto, version = MEANINGS[name]
    source, target = saved(proto, tmp_path), tmp_path / "target.onnx"
    try:
        deepstruct.convert(source, target, opset=version)
    except UnsupportedError:
        return
    feeds = [{"x": numbers(1, 2, 5, 7)}]
    assert results(target, feeds) == results(source, feeds)


def test_open_extents_stay_without_a_name(tmp_path: Path) -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["i"]), helper.make_node("Transpose", ["i"], ["y"])]
    proto = model(nodes, [value("x", ["n"])], [value("y", [None, 1], TensorProto.INT64)])
    source, target = saved(proto, tmp_path), tmp_path / "target.onnx"
    deepstruct.convert(source, target)
    assert ends(target) == ends(source)


def test_a_weight_that_is_an_output_stays_a_dense_tensor(tmp_path: Path) -> None:
    outputs = [value("y", ["n", 64]), value("w", [64, 64])]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    source = saved(model([node], [value("x", ["n", 64])], outputs, {"w": pruned(64, 64)}), tmp_path)
    target, feeds = tmp_path / "target.onnx", [{"x": numbers(2, 64)}]
    deepstruct.convert(source, target, infer_masks=True)
    assert results(target, feeds) == results(source, feeds)


def test_nodes_in_another_order(tmp_path: Path) -> None:
    """As onnxruntime's conversion to float16 writes them; onnxruntime sorts them itself."""
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Neg", ["x"], ["a"])]
    source, target = saved(model(nodes, IMAGE, ANY), tmp_path), tmp_path / "target.onnx"
    deepstruct.convert(source, target)
    feeds = [{"x": numbers(1, 2, 5, 7)}]
    assert results(target, feeds) == results(source, feeds)


def test_auto_is_the_smallest(tmp_path: Path) -> None:
    """Also where notes on masks beside dense tensors take more than the tensors themselves."""
    tensors = {"w": pruned(16, 16), **{f"bias_with_a_name_{i}": np.zeros((1, 1), np.float32) for i in range(8)}}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h0"])]
    nodes += [helper.make_node("Add", [f"h{i}", f"bias_with_a_name_{i}"], [f"h{i + 1}"]) for i in range(8)]
    source = saved(model(nodes, [value("x", ["n", 16])], [value("h8", ["n", 16])], tensors), tmp_path)
    sizes = {}
    for encoding in ("auto", "dense", "coo", "constant", "packed"):
        target = tmp_path / f"{encoding}.onnx"
        deepstruct.convert(source, target, infer_masks=True, sparse_encoding=encoding)
        sizes[encoding] = target.stat().st_size
    assert sizes["auto"] == min(sizes.values())


def test_long_attributes_are_read_as_wholes(tmp_path: Path) -> None:
    """A forest is a few attributes of very many numbers, for each of which little is called."""
    count, rng = 20_000, np.random.default_rng(0)
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1)
    for name in ("nodes_featureids", "nodes_falsenodeids", "nodes_truenodeids", "nodes_nodeids", "nodes_treeids"):
        node.attribute.append(helper.make_attribute(name, rng.integers(0, 6, count).tolist()))
    node.attribute.append(helper.make_attribute("nodes_values", rng.random(count).tolist()))
    node.attribute.append(helper.make_attribute("nodes_modes", ["BRANCH_LEQ"] * count))
    proto = model([node], [value("x", ["n", 6])], [value("y", ["n", 1])], imports=(LEARNING,))
    source = saved(proto, tmp_path)
    deepstruct.load(source)
    calls = Counter[str]()
    before = sys.getprofile()
    sys.setprofile(lambda _frame, event, _argument: calls.update([event]))
    try:
        deepstruct.load(source)
    finally:
        sys.setprofile(before)
    assert calls["call"] < 5 * count * len(node.attribute)
