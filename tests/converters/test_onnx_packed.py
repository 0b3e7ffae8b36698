"""Packed weights: exact in every runtime, as small as claimed, folded by onnxruntime, and read back or left alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from deepstruct import dtypes
from deepstruct.converters import (
    onnx_packed,
    onnx_packed_layout,
    onnx_packed_operators,
    onnx_packed_reading,
    onnx_tensors,
)
from deepstruct.converters.onnx_packed_layout import BITS, LAYOUTS
from deepstruct.errors import MalformedFileError
from deepstruct.limits import Limits
from deepstruct.mask import Mask

PATH = Path("a.onnx")
DTYPES = sorted(onnx_packed_operators.MINIMUM_OPSET)
LEVELS = onnxruntime.GraphOptimizationLevel


def masks(max_side: int = 12) -> st.SearchStrategy[NDArray[np.bool_]]:
    shapes = hnp.array_shapes(min_dims=1, max_dims=4, max_side=max_side)
    return shapes.flatmap(
        lambda shape: st.one_of(
            hnp.arrays(np.bool_, shape),
            st.just(np.zeros(shape, np.bool_)),
            st.just(np.ones(shape, np.bool_)),
            st.integers(0, math.prod(shape) - 1).map(lambda i: (np.arange(math.prod(shape)) == i).reshape(shape)),
        )
    )


def values(dtype: str, mask: NDArray[np.bool_], seed: int = 0) -> NDArray[Any]:
    """Any bits, among them -0, NaN with payloads and 0, under a mask."""
    rng = np.random.default_rng(seed)
    of = dtypes.to_numpy(dtype)
    if dtype == "bool":
        return np.asarray(mask & (rng.random(mask.shape) < 0.5))
    array = np.frombuffer(rng.bytes(mask.size * of.itemsize), of).reshape(mask.shape).copy()
    array[rng.random(mask.shape) < 0.1] = 0
    if dtype.startswith("float"):
        array[rng.random(mask.shape) < 0.1] = -0.0
    array[~mask] = 0
    return array


def build(
    weights: dict[str, tuple[NDArray[Any], NDArray[np.bool_]]],
    *,
    function: bool = True,
    opset: int = 18,
    layout: onnx_packed_layout.Layout | None = None,
    chunk: int | None = None,
    stages: int = onnx_packed.STAGES,
) -> ModelProto:
    """A model whose outputs are its packed weights, behind an Identity each."""
    plans, initializers = {}, []
    for name, (array, kept) in weights.items():
        mask = Mask.from_array(kept)
        dtype = dtypes.from_numpy(array.dtype)
        plans[name] = onnx_packed.plan(name, mask, dtype, layout=layout, chunk=chunk)
        stored = list(onnx_packed.initializers(plans[name], mask, array.reshape(-1)[mask.indices()]))
        data = [tensor for tensor in stored if tensor.name.endswith((".codes", ".values"))]
        assert plans[name].payload == sum(len(tensor.raw_data) for tensor in data)
        initializers += stored
    parts = onnx_packed.assemble(plans, opset, function=function, stages=stages)
    assert function or not parts.functions
    data_types = {name: onnx_tensors.data_type(plan.dtype) for name, plan in plans.items()}
    outputs = [helper.make_tensor_value_info(f"{n}'", data_types[n], array.shape) for n, (array, _) in weights.items()]
    identities = [helper.make_node("Identity", [name], [f"{name}'"]) for name in weights]
    graph = helper.make_graph(
        parts.nodes + identities, "g", [], outputs, parts.initializers + initializers, value_info=parts.value_info
    )
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(onnx_packed_operators.DOMAIN, onnx_packed_operators.VERSION)] if function else []
    return helper.make_model(graph, opset_imports=opsets, functions=parts.functions, ir_version=10)


def run(model: ModelProto, level: Any = LEVELS.ORT_ENABLE_ALL) -> list[bytes]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    shapes = [value.shape for value in session.get_outputs()]
    binding = session.io_binding()
    found = []
    for name, shape, value in zip(names, shapes, model.graph.output, strict=True):
        of = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        array = np.zeros(shape, of)
        data_type = value.type.tensor_type.elem_type
        binding.bind_output(name, "cpu", 0, data_type, shape, array.ctypes.data)
        found.append(array)
    session.run_with_iobinding(binding)
    return [array.tobytes() for array in found]


def read(model: ModelProto, limits: Limits | None = None) -> dict[str, onnx_tensors.Sparse]:
    found = onnx_packed_reading.recognise(ModelProto.FromString(model.SerializeToString()))
    return {w.name: onnx_packed_reading.decode(PATH, w, limits or Limits()) for w in found.weights}


@settings(max_examples=60, deadline=None)
@given(
    kept=masks(),
    layout=st.sampled_from([None, *LAYOUTS]),
    function=st.booleans(),
    chunk=st.sampled_from([8, 50, None]),
    dtype=st.sampled_from(["float32", "float16", "int8", "bool"]),
    seed=st.integers(0, 9),
)
def test_every_runtime_and_our_reader_get_the_same_bits(
    kept: NDArray[np.bool_], layout: Any, function: bool, chunk: int | None, dtype: str, seed: int
) -> None:
    array = values(dtype, kept, seed)
    model = build({"w": (array, kept)}, function=function, layout=layout, chunk=chunk)
    onnx.checker.check_model(model, full_check=True)
    assert run(model) == run(model, LEVELS.ORT_DISABLE_ALL) == [array.tobytes()]
    if np.count_nonzero(kept) < 64 or not any(f.name == onnx_packed_operators.WHOLE for f in model.functions):
        (evaluated,) = ReferenceEvaluator(model).run(None, {})
        assert np.asarray(evaluated).tobytes() == array.tobytes()
    sparse = read(model)["w"]
    assert (sparse.parameter.mask or Mask.full(kept.shape)) == Mask.from_array(kept)
    assert sparse.parameter.dtype == dtype
    assert sparse.kept.tobytes() == array[kept].tobytes()


@pytest.mark.parametrize("function", [True, False])
@pytest.mark.parametrize("opset", [11, 25])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_that_fits(dtype: str, opset: int, function: bool) -> None:
    if not onnx_packed.fits(dtype, opset):
        opset = onnx_packed_operators.MINIMUM_OPSET[dtype]
    kept = np.random.default_rng(0).random((16, 24)) < 0.3
    array = values(dtype, kept)
    for layout in (BITS, LAYOUTS[4], LAYOUTS[5]):
        model = build({"w": (array, kept)}, function=function, opset=opset, layout=layout, chunk=100)
        onnx.checker.check_model(model, full_check=True)
        assert run(model) == run(model, LEVELS.ORT_DISABLE_ALL) == [array.tobytes()]
        assert read(model)["w"].kept.tobytes() == array[kept].tobytes()


@pytest.mark.parametrize("dtype", ["complex64", "float8_e4m3fn", "string"])
def test_dtypes_that_do_not_fit(dtype: str) -> None:
    assert not onnx_packed.fits(dtype, 25)
    assert not onnx_packed.fits("float32", 10)


@pytest.mark.parametrize("function", [True, False])
@pytest.mark.parametrize("sparsity", [0.5, 0.75, 0.9, 0.95, 0.99, 0.999])
def test_size_is_close_to_the_entropy_bound(sparsity: float, function: bool) -> None:
    kept = np.random.default_rng(0).random((1024, 1024)) >= sparsity
    model = build({"w": (values("float32", kept), kept)}, function=function)
    entropy = -sparsity * math.log2(sparsity) - (1 - sparsity) * math.log2(1 - sparsity)
    bound = (int(kept.sum()) * 32 + kept.size * entropy) / 8
    assert model.ByteSize() <= 1.02 * bound + 8000
    payload = onnx_packed.plan("w", Mask.from_array(kept), "float32").payload
    assert payload <= (1.02 if sparsity <= 0.99 else 1.03) * bound
    assert model.ByteSize() / (4 * kept.size) <= {0.5: 0.54, 0.75: 0.3, 0.9: 0.118, 0.95: 0.062, 0.99: 0.016}.get(
        sparsity, 1
    )


def nodes_left(model: ModelProto, tmp_path: Path) -> list[str]:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]


@pytest.mark.parametrize("function", [True, False])
@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.99])
def test_onnxruntime_folds_every_stage(tmp_path: Path, sparsity: float, function: bool) -> None:
    rng = np.random.default_rng(0)
    weights = {}
    for position in range(3):
        kept = rng.random((1024, 1024)) >= sparsity
        weights[f"w{position}"] = values("float32", kept), kept
    model = build(weights, function=function, chunk=1 << 17)
    staged = [node for node in model.graph.node if node.op_type == "If"]
    assert len(staged) == 0 or function
    model.graph.ClearField("output")
    model.graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1024]))
    model.graph.output.append(helper.make_tensor_value_info("y2", TensorProto.FLOAT, ["n", 1024]))
    for before, position in zip(["x", "y0", "y1"], range(3), strict=True):
        model.graph.node.append(helper.make_node("MatMul", [before, f"w{position}"], [f"y{position}"]))
    assert nodes_left(model, tmp_path) == ["MatMul"] * 3


def test_stages_begin_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_packed, "_STAGE_BYTES", 1)
    kept = np.random.default_rng(0).random((64, 64)) < 0.2
    array = values("float32", kept)
    model = build({"w": (array, kept)}, chunk=256)
    assert [node.op_type for node in model.graph.node].count("If") == onnx_packed.STAGES - 1
    onnx.checker.check_model(model, full_check=True)
    assert run(model) == run(model, LEVELS.ORT_DISABLE_ALL) == [array.tobytes()]
    assert nodes_left(model, tmp_path) == []
    found = onnx_packed_reading.recognise(model)
    assert {model.graph.node[i].op_type for i in range(len(model.graph.node)) if i not in found.nodes} == {"Identity"}
    assert found.initializers == {tensor.name for tensor in model.graph.initializer}
    assert read(model)["w"].parameter.mask == Mask.from_array(kept)


@pytest.mark.parametrize("function", [True, False])
def test_what_serves_packed_weights_alone_is_used_up(function: bool) -> None:
    kept = np.random.default_rng(0).random((30, 16)) < 0.2
    array = values("float32", kept)
    model = build({"a": (array, kept), "b": (array, kept)}, function=function, chunk=200)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "other"))
    found = onnx_packed_reading.recognise(model)
    assert [weight.name for weight in found.weights] == ["a", "b"]
    assert found.nodes == frozenset(range(len(model.graph.node) - 2))
    assert found.initializers == {tensor.name for tensor in model.graph.initializer} - {"other"}
    assert found.functions == {function.name for function in model.functions}


def renamed(model: ModelProto) -> None:
    model.CopyFrom(onnx.compose.add_prefix(model, "p/", rename_functions=False))


def sorted_anew(model: ModelProto) -> None:
    nodes = sorted(model.graph.initializer, key=lambda tensor: tensor.name)
    model.graph.ClearField("initializer")
    model.graph.initializer.extend(nodes)


@pytest.mark.parametrize("function", [True, False])
@pytest.mark.parametrize("change", [renamed, sorted_anew])
def test_harmless_changes_do_not_matter(function: bool, change: Callable[[ModelProto], None]) -> None:
    kept = np.random.default_rng(0).random((30, 16)) < 0.2
    array = values("float32", kept)
    model = build({"w": (array, kept)}, function=function, chunk=200)
    change(model)
    (sparse,) = read(model).values()
    assert sparse.kept.tobytes() == array[kept].tobytes()


def other_constant(model: ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name.startswith("deepstruct.escape"):
            tensor.CopyFrom(numpy_helper.from_array(np.array(3, np.int32), tensor.name))
    for function in model.functions:
        for node in function.node:
            if node.op_type == "Constant" and "escape" in node.output[0]:
                node.attribute[0].t.CopyFrom(numpy_helper.from_array(np.array(3, np.int32)))


def other_operator(model: ModelProto) -> None:
    for node in (*model.graph.node, *(node for function in model.functions for node in function.node)):
        if node.op_type == "Less":
            node.op_type = "LessOrEqual"


def seen_inside(model: ModelProto) -> None:
    last = next(node for node in model.graph.node if node.op_type in ("ScatterElements", "SparseDecode1x2"))
    model.graph.output.append(helper.make_tensor_value_info(last.output[0], TensorProto.FLOAT, None))
    model.graph.node.append(helper.make_node("Identity", [last.input[0]], ["seen"]))


def unmarked(model: ModelProto) -> None:
    for node in model.graph.node:
        node.ClearField("metadata_props")
    for function in model.functions:
        function.domain = "elsewhere"


def overridable(model: ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name.endswith(".codes"):
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))


@pytest.mark.parametrize("function", [True, False])
@pytest.mark.parametrize("change", [other_constant, other_operator, unmarked, overridable])
def test_operators_that_are_not_exactly_ours_are_left_alone(
    function: bool, change: Callable[[ModelProto], None]
) -> None:
    kept = np.random.default_rng(0).random((30, 16)) < 0.2
    model = build({"w": (values("float32", kept), kept)}, function=function, layout=LAYOUTS[4])
    assert read(model)
    change(model)
    assert onnx_packed_reading.recognise(model) == onnx_packed_reading.Found()


def test_values_that_others_take_stay() -> None:
    kept = np.random.default_rng(0).random((30, 16)) < 0.2
    model = build({"w": (values("float32", kept), kept)}, function=False, layout=LAYOUTS[4])
    seen_inside(model)
    assert not onnx_packed_reading.recognise(model).weights
    model = build({"w": (values("float32", kept), kept)}, function=True, layout=LAYOUTS[4])
    model.graph.node.append(helper.make_node("Identity", ["w.codes"], ["seen"]))
    assert "w.codes" not in onnx_packed_reading.recognise(model).initializers


@pytest.mark.parametrize("shape", [(1, 70_000, 65_536), (2**34,), (3, 2**31 - 1)])
def test_chunks_follow_each_other_and_fit_32_bits(shape: tuple[int, ...]) -> None:
    ranges = onnx_packed._ranges(shape, math.prod(shape) // 64)
    assert 1 < len(ranges) <= 66
    assert max(math.prod(chunk) for chunk, _ in ranges) < 2**31
    ends = [start + math.prod(chunk) for chunk, start in ranges]
    assert [start for _, start in ranges] == [0, *ends[:-1]]
    assert ends[-1] == math.prod(shape)


def test_chunks_that_others_take_are_weights_of_their_own() -> None:
    kept = np.random.default_rng(0).random((32, 16)) < 0.2
    array = values("float32", kept)
    model = build({"w": (array, kept)}, chunk=256)
    model.graph.node.append(helper.make_node("Identity", ["w.0"], ["seen"]))
    found = read(model)
    assert list(found) == ["w.0", "w.1"]
    assert found["w.1"].kept.tobytes() == array[16:][kept[16:]].tobytes()


def replace(model: ModelProto, name: str, array: NDArray[Any]) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(array, name))


HOSTILE = {
    "too few codes": ("1x2", "w.codes", np.zeros(1, np.uint8), "do not hold"),
    "too many codes": ("1x2", "w.codes", np.zeros(400, np.uint8), "do not hold"),
    "codes of another dtype": ("1x2", "w.codes", np.zeros(16, np.int8), "not uint8"),
    "codes of another rank": ("1x1", "w.codes", np.zeros((4, 4), np.uint8), "not uint8"),
    "past the end": ("1x1", "w.codes", np.full(9, 254, np.uint8), "lead to entry"),
    "no codes of the radix": ("2x3", "w.codes", np.full(200, 255, np.uint8), "do not hold|a word"),
    "negative length": ("1x2", "w.length", np.array([-1]), "do not hold"),
    "absurd length": ("1x2", "w.length", np.array([2**62]), "do not hold"),
    "length of another shape": ("1x2", "w.length", np.array([[1]]), "number of codes"),
    "too few values": ("1x2", "w.values", np.zeros(3, np.float32), "values have shape"),
    "too many values": ("1x2", "w.values", np.zeros(300, np.float32), "values have shape"),
    "values of another rank": ("1x2", "w.values", np.zeros((1, 1), np.float32), "values have shape"),
    "no leading zero": ("1x2", "w.values", np.ones(97, np.float32), "values have shape"),
    "too few bits": ("bits", "w.codes", np.zeros(3, np.uint8), "not a bit for each"),
    "shape too small": ("1x2", "deepstruct.shape.30x16", np.array([2, 3]), "do not hold|lead to"),
    "shape too large": ("1x2", "deepstruct.shape.30x16", np.array([2**40, 2**40]), "elements"),
    "negative shape": ("1x2", "deepstruct.shape.30x16", np.array([-1, 16]), "shape"),
    "shape of floats": ("1x2", "deepstruct.shape.30x16", np.array([30.0, 16.0]), "shape"),
}


@pytest.mark.parametrize("function", [True, False])
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_payloads_are_refused(case: str, function: bool) -> None:
    layout, name, array, reason = HOSTILE[case]
    kept = np.zeros((30, 16), np.bool_)
    kept.reshape(-1)[::5] = True
    by_name = {one.name: one for one in LAYOUTS} | {"bits": BITS}
    model = build({"w": (values("float32", kept), kept)}, function=function, layout=by_name[layout])
    replace(model, name, array)
    with pytest.raises(MalformedFileError, match=reason) as caught:
        read(model, Limits(mask_elements=10_000))
    assert "packed tensor 'w'" in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(
    codes=st.binary(max_size=40), layout=st.sampled_from(LAYOUTS), length=st.integers(0, 60), size=st.integers(0, 500)
)
def test_any_bytes_decode_or_are_refused(codes: bytes, layout: Any, length: int, size: int) -> None:
    try:
        found = onnx_packed_layout.decode(np.frombuffer(codes, np.uint8), layout, length, size)
    except ValueError:
        return
    assert (np.diff(found) > 0).all()
    assert not found.size or (found[0] >= 0 and found[-1] < size)


@settings(max_examples=100, deadline=None)
@given(kept=masks(max_side=40), layout=st.sampled_from(LAYOUTS[1:]))
def test_lengths_are_known_without_codes(kept: NDArray[np.bool_], layout: Any) -> None:
    indices = np.flatnonzero(kept)
    codes = onnx_packed_layout.encode(indices, layout)
    length = onnx_packed_layout.Gaps(indices).length(layout)
    assert codes.size == layout.bytes_of(length)
    np.testing.assert_array_equal(onnx_packed_layout.decode(codes, layout, length, kept.size), indices)


def test_gaps_longer_than_any_code() -> None:
    for last, layouts in ((10**6, LAYOUTS), (2**33, LAYOUTS[-1:])):
        indices = np.array([0, 3, 200_000, 200_001, last])
        for layout in layouts:
            length = onnx_packed_layout.Gaps(indices).length(layout)
            codes = onnx_packed_layout.encode(indices, layout)
            assert codes.size == layout.bytes_of(length)
            np.testing.assert_array_equal(onnx_packed_layout.decode(codes, layout, length, last + 1), indices)


def test_radix_is_the_largest_that_fits() -> None:
    for layout in LAYOUTS:
        assert layout.radix**layout.codes <= 256**layout.width < (layout.radix + 1) ** layout.codes
