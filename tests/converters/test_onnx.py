"""ONNX: valid files that onnxruntime runs to the same outputs, and models from elsewhere read exactly."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, SparseTensorProto, TensorProto, helper, numpy_helper

import deepstruct
from deepstruct import Loss, Model, Parameter, Structure
from deepstruct.errors import DeepstructError, MalformedFileError, UnreadableFileError, UnsupportedError
from deepstruct.testing import SAMPLES, chains, tame, with_weights

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
WEIGHT = np.arange(6, dtype=np.float32).reshape(3, 2)


def run(path: Path, *inputs: NDArray[Any]) -> list[NDArray[Any]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    results: list[NDArray[Any]] = session.run(None, dict(zip(names, inputs, strict=True)))
    return results


def outputs(model: Model, *inputs: NDArray[Any]) -> list[NDArray[Any]]:
    with torch.no_grad():
        result = deepstruct.to_module(model)(*(torch.from_numpy(array) for array in inputs))
    return [tensor.numpy() for tensor in (result if isinstance(result, tuple) else (result,))]


def numeric_input(structure: Structure, batch: int = 5) -> NDArray[np.float32]:
    shape = structure.inputs[0].shape
    assert shape is not None
    features = [dim for dim in shape[1:] if isinstance(dim, int)]
    return np.random.default_rng(0).standard_normal((batch, *features)).astype(np.float32)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(structure=chains(), encoding=st.sampled_from(["coo", "dense"]))
def test_files_are_valid_and_compute_what_torch_computes(tmp_path: Path, structure: Structure, encoding: str) -> None:
    path = tmp_path / "a.onnx"
    model = with_weights(structure, tame)
    deepstruct.save(model, path, sparse_encoding=encoding)
    onnx.checker.check_model(onnx.load(path), full_check=encoding == "dense")
    x = numeric_input(structure)
    for ours, theirs in zip(outputs(model, x), run(path, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [n for n, s in SAMPLES.items() if s.inputs[0].dtype == "float32"])
def test_samples_run(name: str, tmp_path: Path) -> None:
    model = with_weights(SAMPLES[name])
    deepstruct.save(model, tmp_path / "a.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "a.onnx"))
    for batch in (1, 2, 17):
        x = numeric_input(SAMPLES[name], batch)
        for ours, theirs in zip(outputs(model, x), run(tmp_path / "a.onnx", x), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_file_is_what_we_say(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    deepstruct.save(with_weights(SAMPLES["skip-connection"]), path, sparse_encoding="coo")
    proto = onnx.load(path)
    assert proto.ir_version == 10
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 18)]
    sparse = {tensor.values.name: tensor for tensor in proto.graph.sparse_initializer}
    assert set(sparse) == {"w.up", "w.down", "b.down"}
    assert list(sparse["w.down"].dims) == [4, 6]
    assert list(sparse["w.down"].indices.int64_data) == [23]
    assert not sparse["w.down"].indices.HasField("raw_data")
    assert sparse["b.down"].HasField("indices")
    assert list(sparse["b.down"].indices.dims) == [0]
    assert [tensor.name for tensor in proto.graph.initializer] == ["two"]
    assert {value.name for value in proto.graph.value_info} == {"u", "a", "d"}
    assert all(value.type.tensor_type.shape.dim[1].dim_value for value in proto.graph.value_info)


def test_typed_indices_are_a_third_smaller(tmp_path: Path) -> None:
    from deepstruct.testing import feed_forward

    deepstruct.save(with_weights(feed_forward((256, 256), 0.1)), tmp_path / "a.onnx", sparse_encoding="coo")
    nnz = deepstruct.load(tmp_path / "a.onnx").structure.parameter("fc0.weight").nnz
    assert (tmp_path / "a.onnx").stat().st_size < 0.67 * 12 * nnz


def save(path: Path, nodes: Sequence[NodeProto], *tensors: TensorProto | SparseTensorProto, **changes: Any) -> Path:
    """An ONNX file as others make it."""
    graph = helper.make_graph(
        nodes,
        "g",
        changes.get("inputs", [X]),
        changes.get("outputs", [Y]),
        [tensor for tensor in tensors if isinstance(tensor, TensorProto)],
        sparse_initializer=[tensor for tensor in tensors if isinstance(tensor, SparseTensorProto)],
    )
    opsets = changes.get("opsets", [helper.make_opsetid("", 17)])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=changes.get("functions", []))
    path.write_bytes(model.SerializeToString())
    return path


def matmul(weight: str = "w") -> NodeProto:
    return helper.make_node("MatMul", ["x", weight], ["y"])


def sparse(
    indices: Any, dims: Sequence[int] = (3, 2), values: Any = (1.0, 2.0), dtype: Any = np.int64
) -> SparseTensorProto:
    return helper.make_sparse_tensor(
        numpy_helper.from_array(np.array(values, np.float32), "w"),
        numpy_helper.from_array(np.array(indices, dtype), "i"),
        list(dims),
    )


@pytest.mark.parametrize(
    ("tensor", "kept"),
    [
        (sparse([1, 4]), [1, 4]),
        (sparse([1, 4], values=[0.0, -0.0]), [1, 4]),
        (sparse([[0, 1], [2, 0]]), [1, 4]),
        (sparse([1, 4], dtype=np.int32), [1, 4]),
        (sparse(np.empty(0), values=[]), []),
        (sparse(np.empty((0, 2)), values=[]), []),
        (SparseTensorProto(values=numpy_helper.from_array(np.empty(0, np.float32), "w"), dims=[3, 2]), []),
        (sparse(range(6), values=range(6)), None),
    ],
)
def test_sparse_initializers_are_masks(tensor: SparseTensorProto, kept: list[int] | None, tmp_path: Path) -> None:
    model = deepstruct.load(save(tmp_path / "a.onnx", [matmul()], tensor))
    mask = model.structure.parameter("w").mask
    assert (None if mask is None else mask.indices().tolist()) == kept
    assert model.weights is not None
    assert model.weights.kept("w").tobytes() == numpy_helper.to_array(tensor.values).tobytes()


def test_an_output_of_unknown_rank_gets_the_inferred_one(tmp_path: Path) -> None:
    model = with_weights(SAMPLES["plain"])
    value = replace(model.structure.outputs[0], shape=None)
    deepstruct.save(with_weights(replace(model.structure, outputs=(value,))), tmp_path / "a.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "a.onnx"))
    assert deepstruct.load(tmp_path / "a.onnx").structure.outputs == model.structure.outputs


def test_constants_that_hold_weights_become_parameters(tmp_path: Path) -> None:
    dense = helper.make_node("Constant", [], ["v"], value=numpy_helper.from_array(np.ones((2, 600), np.float32), "v"))
    masked = helper.make_node("Constant", [], ["w"], sparse_value=sparse([1, 4]))
    other = helper.make_node("MatMul", ["y", "v"], ["z"])
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    model = deepstruct.load(save(tmp_path / "a.onnx", [masked, matmul(), dense, other], outputs=[z]))
    assert [node.op_type for node in model.structure.nodes] == ["MatMul", "MatMul"]
    assert [(p.name, p.nnz) for p in model.structure.parameters] == [("w", 2), ("v", 1200)]


def test_small_integers_are_structure_and_survive(tmp_path: Path) -> None:
    shape = numpy_helper.from_array(np.array([-1, 2], np.int64), "shape")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Reshape", ["h", "shape"], ["y"])]
    path = save(tmp_path / "a.onnx", nodes, numpy_helper.from_array(WEIGHT, "w"), shape)
    model = deepstruct.load(path)
    assert model.structure.constants["shape"].data == (-1, 2)
    deepstruct.convert(path, tmp_path / "a.structure.json")
    deepstruct.convert(tmp_path / "a.structure.json", tmp_path / "b.onnx")
    assert deepstruct.load(tmp_path / "b.onnx") == model
    x = np.ones((4, 3), np.float32)
    assert np.array_equal(run(path, x)[0], run(tmp_path / "b.onnx", x)[0])


def test_initializers_that_are_inputs_too_are_parameters(tmp_path: Path) -> None:
    w = helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 2])
    losses: list[Loss] = []
    path = save(tmp_path / "a.onnx", [matmul()], numpy_helper.from_array(WEIGHT, "w"), inputs=[X, w])
    assert [value.name for value in deepstruct.load(path, losses=losses).structure.inputs] == ["x"]
    assert [(loss.what, loss.where) for loss in losses] == [("input", "w")]
    proto = onnx.load(path)
    proto.ir_version = 3  # until then, every initializer had to be declared so
    path.write_bytes(proto.SerializeToString())
    assert deepstruct.load(path).structure.inputs[0].name == "x"


def test_old_operator_sets_have_their_own_broadcasting(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["x", "b"], ["y"], broadcast=1, axis=0)
    bias = numpy_helper.from_array(np.ones(2, np.float32), "b")
    two = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])
    opsets = [helper.make_opsetid("", 6)]
    path = save(tmp_path / "a.onnx", [node], bias, inputs=[two], outputs=[out], opsets=opsets)
    deepstruct.convert(path, tmp_path / "a.structure.json")
    deepstruct.convert(tmp_path / "a.structure.json", tmp_path / "b.onnx")
    assert deepstruct.load(tmp_path / "b.onnx") == deepstruct.load(path)


def test_nodes_without_names_get_some(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Relu", ["a"], ["b"], name="Relu_0"), matmul()]
    model = deepstruct.load(save(tmp_path / "a.onnx", nodes, numpy_helper.from_array(WEIGHT, "w")))
    names = [node.name for node in model.structure.nodes]
    assert len(set(names)) == 3
    assert names[1] == "Relu_0"


@pytest.mark.parametrize("dynamo", [True, False])
def test_models_of_torchs_exporter(tmp_path: Path, dynamo: bool) -> None:
    pytest.importorskip("onnxscript") if dynamo else None
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(6, 7), torch.nn.Tanh(), torch.nn.Linear(7, 4)).eval()
    x = torch.randn(3, 6)
    path = tmp_path / "a.onnx"
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(module, (x,), path, dynamo=dynamo)
    losses: list[Loss] = []
    model = deepstruct.load(path, losses=losses)
    np.testing.assert_allclose(outputs(model, x.numpy())[0], module(x).detach().numpy(), atol=1e-6)
    deepstruct.save(model, tmp_path / "b.onnx")
    np.testing.assert_allclose(run(tmp_path / "b.onnx", x.numpy())[0], module(x).detach().numpy(), atol=1e-6)


def test_external_data_are_mapped(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", [matmul()], numpy_helper.from_array(WEIGHT, "w"))
    proto = onnx.load(path)
    onnx.save(proto, tmp_path / "b.onnx", save_as_external_data=True, size_threshold=0, location="b.data")
    assert deepstruct.load(tmp_path / "b.onnx") == deepstruct.load(path)
    (tmp_path / "b.data").write_bytes(b"\0" * 23)
    with pytest.raises(MalformedFileError, match="takes 24 bytes"):
        deepstruct.load(tmp_path / "b.onnx")
    (tmp_path / "b.data").unlink()
    with pytest.raises(UnreadableFileError, match=r"b\.data: does not exist"):
        deepstruct.load(tmp_path / "b.onnx")


def external(
    location: str, dims: Sequence[int] = (3, 2), kind: int = TensorProto.FLOAT, offset: str = "0"
) -> TensorProto:
    tensor = TensorProto(name="w", data_type=kind, dims=dims, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="offset", value=offset)
    return tensor


def wrong_size() -> TensorProto:
    return TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 2], raw_data=b"\0" * 20)


REFERRING = helper.make_node("LeakyRelu", ["x"], ["y"])
REFERRING.attribute.add(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="a")

WRONG: dict[str, tuple[list[NodeProto], list[Any], dict[str, Any], type[DeepstructError], str]] = {
    "unsorted": ([matmul()], [sparse([4, 1])], {}, MalformedFileError, "sorted"),
    "duplicate": ([matmul()], [sparse([4, 4])], {}, MalformedFileError, "sorted"),
    "outside": ([matmul()], [sparse([1, 6])], {}, MalformedFileError, "outside"),
    "negative": ([matmul()], [sparse([-1, 1])], {}, MalformedFileError, "outside"),
    "outside-2d": ([matmul()], [sparse([[0, 1], [0, 2]])], {}, MalformedFileError, "outside"),
    "rank": ([matmul()], [sparse([[0, 1, 0], [0, 2, 0]])], {}, MalformedFileError, "indices have shape"),
    "counts": ([matmul()], [sparse([1, 2, 3])], {}, MalformedFileError, "2 values, but 3"),
    "float-indices": ([matmul()], [sparse([1, 4], dtype=np.float32)], {}, MalformedFileError, "not int64"),
    "huge-dims": ([matmul()], [sparse([1, 4], dims=[10**6, 10**6])], {}, MalformedFileError, "MAX_MASK_ELEMENTS"),
    "overflowing-dims": ([matmul()], [sparse([1, 4], dims=[2**62, 2**62])], {}, MalformedFileError, "dims"),
    "negative-dims": ([matmul()], [sparse([1, 4], dims=[-3, -2])], {}, MalformedFileError, "dims"),
    "wrong-size": ([matmul()], [wrong_size()], {}, MalformedFileError, "'w' is inconsistent"),
    "twice": ([matmul()], [sparse([1, 4]), sparse([1, 4])], {}, MalformedFileError, "two initializers"),
    "external-up": ([matmul()], [external("../w")], {}, MalformedFileError, "is not allowed"),
    "external-absolute": ([matmul()], [external("/etc/passwd")], {}, MalformedFileError, "is not allowed"),
    "external-empty": ([matmul()], [external("")], {}, MalformedFileError, "is not allowed"),
    "unknown-operator": ([helper.make_node("Magic", ["x"], ["y"])], [], {}, DeepstructError, "UNKNOWN_OPERATOR"),
    "unknown-opset": (
        [matmul()],
        [sparse([1, 4])],
        {"opsets": [helper.make_opsetid("", 999)]},
        DeepstructError,
        "UNKNOWN_OPSET",
    ),
    "missing-input": ([matmul("nothing")], [], {}, DeepstructError, "UNRESOLVED_REFERENCE"),
    "cycle": (
        [helper.make_node("Add", ["x", "y"], ["a"]), helper.make_node("Relu", ["a"], ["y"])],
        [],
        {},
        DeepstructError,
        "GRAPH_CYCLE",
    ),
    "two-opsets": (
        [matmul()],
        [sparse([1, 4])],
        {"opsets": [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx", 7)]},
        MalformedFileError,
        "two versions",
    ),
    "huge-opset": (
        [matmul()],
        [sparse([1, 4])],
        {"opsets": [helper.make_opsetid("", 17), helper.make_opsetid("d", 2**62)]},
        DeepstructError,
        "positive integer",
    ),
    "declared-otherwise": (
        [matmul()],
        [sparse([1, 4])],
        {"inputs": [X, helper.make_tensor_value_info("w", TensorProto.FLOAT, [7, 7])]},
        MalformedFileError,
        "declared otherwise",
    ),
    "external-negative": ([matmul()], [external("w", dims=(-4, -3))], {}, MalformedFileError, "non-negative"),
    "external-huge": ([matmul()], [external("w", dims=(0, 2**62))], {}, MalformedFileError, "2.48 elements"),
    "external-strings": (
        [matmul()],
        [external("w", kind=TensorProto.STRING, dims=(2000,))],
        {},
        UnsupportedError,
        "strings",
    ),
    "external-offset": ([matmul()], [external("w", offset="-1")], {}, MalformedFileError, "no numbers"),
    "constant-without-output": (
        [helper.make_node("Constant", [], [], sparse_value=sparse([1, 4])), matmul("x")],
        [],
        {},
        DeepstructError,
        "attributes of type SPARSE_TENSOR|OPERATOR_ARITY",
    ),
    "required-input-left-out": ([matmul("")], [], {}, DeepstructError, "cannot do without"),
    "reference-to-function": ([REFERRING], [], {}, DeepstructError, "only a node in the body of a function"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name: str, tmp_path: Path) -> None:
    nodes, tensors, changes, kind, reason = WRONG[name]
    path = save(tmp_path / "a.onnx", nodes, *tensors, **changes)
    with pytest.raises(kind, match=reason):
        deepstruct.convert(path, tmp_path / "a.structure.json")
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]


def test_broken_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    deepstruct.save(with_weights(SAMPLES["plain"]), path)
    whole = path.read_bytes()
    for length in [0, 1, 5, 50, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(MalformedFileError, match="no ONNX model"):
            deepstruct.load(path)
    for content in (b"{}", b"\xff" * 100, ModelProto(ir_version=8).SerializeToString()):
        path.write_bytes(content)
        with pytest.raises(MalformedFileError, match="no ONNX model"):
            deepstruct.load(path)


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": 1, "a": 2}', '{"a": ' + "[" * 40 + "]" * 40 + "}"])
def test_attributes_in_metadata_are_not_believed(text: str, tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", [matmul()], sparse([1, 4]))
    proto = onnx.load(path)
    proto.metadata_props.add(key="deepstruct.attributes", value=text)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(DeepstructError, match=r"a\.onnx"):
        deepstruct.load(path)


def test_damaged_bytes_never_cause_another_error(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    deepstruct.save(with_weights(SAMPLES["skip-connection"]), path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(500):
        damaged = whole.copy()
        damaged[rng.integers(whole.size)] ^= 1 << rng.integers(8)
        path.write_bytes(damaged.tobytes())
        with contextlib.suppress(DeepstructError):
            deepstruct.load(path, losses=[])


def test_what_documents_have_no_place_for_is_said(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", [matmul()], sparse([1, 4]))
    proto = onnx.load(path)
    proto.metadata_props.add(key="author", value="someone")
    proto.graph.doc_string = "text"
    proto.model_version = 3
    proto.graph.node[0].metadata_props.add(key="note", value="text")
    path.write_bytes(proto.SerializeToString())
    losses: list[Loss] = []
    deepstruct.load(path, losses=losses)
    assert [(loss.what, loss.where) for loss in losses] == [
        ("doc_string", "g"),
        ("metadata_props", "model"),
        ("model_version", "model"),
    ]


def test_small_parameters_stay_parameters(tmp_path: Path) -> None:
    scale, shift = Parameter("scale", "float32", ()), Parameter("shift", "int64", (2, 3))
    plain = with_weights(SAMPLES["plain"]).structure
    structure = replace(plain, parameters=(*plain.parameters, scale, shift))
    model = with_weights(structure)
    deepstruct.save(model, tmp_path / "a.onnx", fail_on_loss=True)
    assert deepstruct.load(tmp_path / "a.onnx") == model


def test_what_no_runtime_would_accept_is_not_written(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.CELU()).double()
    with pytest.raises(UnsupportedError, match="ONNX does not allow"):
        deepstruct.save(module, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_operator_without_torch_is_named(tmp_path: Path) -> None:
    node = helper.make_node("RandomNormalLike", ["x"], ["y"], name="d")
    model = deepstruct.load(save(tmp_path / "a.onnx", [node]))
    with pytest.raises(UnsupportedError, match="node 'd': the operator RandomNormalLike"):
        deepstruct.to_module(model)
