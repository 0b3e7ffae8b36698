"""Graphs within nodes, functions, and attributes and values of every type: ONNX -> Model -> document -> ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, helper, numpy_helper

import deepstruct
from deepstruct.errors import DeepstructError, StructureError, UnsupportedError
from deepstruct.losses import Loss
from deepstruct.structure import EmptyList, Graph, Node, Structure, ValueInfo

RNG = np.random.default_rng(5)
X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", None])
C = helper.make_tensor_value_info("c", TensorProto.BOOL, [])


def tensor(name: str, *shape: int) -> TensorProto:
    return numpy_helper.from_array(RNG.standard_normal(shape).astype(np.float32), name)


def model(nodes: list[onnx.NodeProto], inputs: list[Any], outputs: list[Any], **more: Any) -> onnx.ModelProto:
    initializer, opset = more.pop("initializer", []), more.pop("opset", 20)
    graph = helper.make_graph(nodes, "main", inputs, outputs, initializer)
    imports = [helper.make_opsetid("", opset), *more.pop("imports", [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=10, **more)


def run(path: Path, feeds: dict[str, Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    found: list[Any] = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feeds)
    return found


def round_trip(proto: onnx.ModelProto, folder: Path, **options: Any) -> tuple[Path, deepstruct.Model]:
    """The model read, and an ONNX file written from its document."""
    source = folder / "source.onnx"
    onnx.save(proto, source)
    deepstruct.convert(source, folder / "model.structure.json", **options)
    found = deepstruct.load(source, **options)
    assert deepstruct.load(folder / "model.structure.json") == found
    written = folder / "written.onnx"
    report = deepstruct.convert(folder / "model.structure.json", written)
    assert report.losses == ()
    onnx.checker.check_model(onnx.load(written))
    return written, found


def branches() -> onnx.ModelProto:
    """Two branches with weights of the same name, one of them sparse, one in a Constant, one handed back as it is."""
    dense = numpy_helper.to_array(tensor("w", 3, 4)).copy()
    kept = np.array([1, 6, 7])
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("w", TensorProto.FLOAT, [3], dense.reshape(-1)[kept]),
        helper.make_tensor("", TensorProto.INT64, [3], kept),
        [3, 4],
    )
    out = helper.make_tensor_value_info("h", TensorProto.FLOAT, None)
    product = helper.make_node("MatMul", ["x", "w"], ["h"])
    left = helper.make_graph([product], "left", [], [out], [tensor("w", 3, 4)])
    right = helper.make_graph([product], "right", [], [out])
    right.sparse_initializer.append(sparse)
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["h"], value=tensor("", 2, 4))],
        "inner",
        [],
        [helper.make_tensor_value_info("h", TensorProto.FLOAT, [2, 4])],
    )
    nested = helper.make_graph(
        [helper.make_node("If", ["d"], ["r"], "nested", then_branch=right, else_branch=inner)],
        "outer",
        [],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["c"], ["y"], "choice", then_branch=left, else_branch=nested)
    return model([node], [X, C, helper.make_tensor_value_info("d", TensorProto.BOOL, [])], [Y])


@pytest.mark.parametrize("options", [{}, {"sparse_encoding": "dense"}, {"sparse_encoding": "coo"}])
@pytest.mark.parametrize("c", [True, False])
@pytest.mark.parametrize("d", [True, False])
def test_nested_branches_compute_the_same(tmp_path: Path, c: bool, d: bool, options: dict[str, Any]) -> None:
    proto = branches()
    _, found = round_trip(proto, tmp_path)
    written = tmp_path / "other.onnx"
    deepstruct.save(found, written, **options)
    feeds = {"x": RNG.standard_normal((2, 3)).astype(np.float32), "c": np.array(c), "d": np.array(d)}
    assert np.array_equal(run(tmp_path / "source.onnx", feeds)[0], run(written, feeds)[0])


def test_weights_of_branches_are_parameters(tmp_path: Path) -> None:
    _, found = round_trip(branches(), tmp_path)
    names = {p.name: p.nnz for p in found.structure.parameters}
    assert sorted(names.values()) == [3, 8, 12]
    assert len(set(names)) == 3


def loop(shadowing: bool) -> onnx.ModelProto:
    """A loop that adds a matrix product, whose body has a name of the outside if `shadowing`."""
    inner = "x" if shadowing else "state"
    body = helper.make_graph(
        [
            helper.make_node("MatMul", [inner, "w"], ["product"]),
            helper.make_node("Add", ["product", inner], ["next"]),
            helper.make_node("Identity", ["condition"], ["again"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info(inner, TensorProto.FLOAT, [2, 3]),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [2, 3]),
        ],
        [tensor("w", 3, 3)],
    )
    count = numpy_helper.from_array(np.array(3), "count")
    return model([helper.make_node("Loop", ["count", "", "x"], ["y"], body=body)], [X], [Y], initializer=[count])


def test_a_loop_computes_the_same(tmp_path: Path) -> None:
    written, _ = round_trip(loop(shadowing=False), tmp_path)
    feeds = {"x": RNG.standard_normal((2, 3)).astype(np.float32)}
    assert np.array_equal(run(tmp_path / "source.onnx", feeds)[0], run(written, feeds)[0])


def test_names_that_hide_others_get_names_of_their_own(tmp_path: Path) -> None:
    _, found = round_trip(loop(shadowing=True), tmp_path)
    (body,) = found.structure.nodes[0].graphs
    assert [value.name for value in body.inputs][:2] == ["i", "condition"]
    assert body.inputs[2].name not in ("x", "state")


def functions() -> onnx.ModelProto:
    """A function with a weight, an attribute, a default, and a call of another function."""
    leaky = helper.make_node("LeakyRelu", ["p"], ["q"])
    leaky.attribute.add(name="alpha", type=AttributeProto.FLOAT, ref_attr_name="slope")
    inner = helper.make_function("own", "Activate", ["p"], ["q"], [leaky], [helper.make_opsetid("", 20)], ["slope"])
    call = helper.make_node("Activate", ["h"], ["b"], domain="own")
    call.attribute.add(name="slope", type=AttributeProto.FLOAT, ref_attr_name="slope")
    outer = helper.make_function(
        "own",
        "Layer",
        ["a"],
        ["b"],
        [
            helper.make_node("Constant", [], ["w"], value=tensor("", 3, 4)),
            helper.make_node("MatMul", ["a", "w"], ["h"]),
            call,
        ],
        [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)],
        attribute_protos=[helper.make_attribute("slope", 0.25)],
    )
    nodes = [
        helper.make_node("Layer", ["x"], ["h"], domain="own", slope=0.5),
        helper.make_node("Layer", ["x"], ["g"], domain="own"),
        helper.make_node("Add", ["h", "g"], ["s"]),
        helper.make_node("MatMul", ["s", "w"], ["y"]),
    ]
    imports = [helper.make_opsetid("own", 1)]
    return model(nodes, [X], [Y], initializer=[tensor("w", 4, 5)], functions=[inner, outer], imports=imports)


def test_functions_compute_the_same(tmp_path: Path) -> None:
    written, found = round_trip(functions(), tmp_path)
    assert [function.name for function in found.structure.functions] == ["Activate", "Layer"]
    assert {parameter.shape for parameter in found.structure.parameters} == {(4, 5), (3, 4)}
    feeds = {"x": RNG.standard_normal((2, 3)).astype(np.float32)}
    assert np.array_equal(run(tmp_path / "source.onnx", feeds)[0], run(written, feeds)[0])


def test_sparse_weights_of_functions_stay_sparse(tmp_path: Path) -> None:
    proto = functions()
    array = np.zeros((3, 4), np.float32)
    array[1, 2] = 2
    proto.functions[1].node[0].attribute[0].t.CopyFrom(numpy_helper.from_array(array))
    _, found = round_trip(proto, tmp_path, infer_masks=True)
    name = next(p.name for p in found.structure.parameters if p.shape == (3, 4))
    deepstruct.save(found, tmp_path / "sparse.onnx", sparse_encoding="constant")
    again = deepstruct.load(tmp_path / "sparse.onnx")
    assert again.structure.parameter(name).nnz == 1
    feeds = {"x": RNG.standard_normal((2, 3)).astype(np.float32)}
    assert np.array_equal(run(tmp_path / "source.onnx", feeds)[0], run(tmp_path / "sparse.onnx", feeds)[0])


def foreign(**attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Magic", ["x"], ["y"], domain="elsewhere", **attributes)


SPARSE = helper.make_sparse_tensor(
    helper.make_tensor("v", TensorProto.FLOAT, [2], [1.0, 2.0]),
    helper.make_tensor("i", TensorProto.INT64, [2], [0, 4]),
    [2, 3],
)
GRAPH = helper.make_graph(
    [helper.make_node("Relu", ["x"], ["r"], "relu")], "g", [], [helper.make_tensor_value_info("r", 1, None)]
)
TYPE = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["n", 2]))
ATTRIBUTES: dict[str, Any] = {
    "INT": 3,
    "FLOAT": 0.1,
    "STRING": "text",
    "STRING-bytes": b"\xff\x00",
    "TENSOR": tensor("t", 2, 2),
    "TENSOR-large": tensor("t", 40, 50),
    "SPARSE_TENSOR": SPARSE,
    "GRAPH": GRAPH,
    "TYPE_PROTO": TYPE,
    "INTS": [1, 2],
    "FLOATS": [0.5, 2.0],
    "STRINGS": ["a", "b"],
    "STRINGS-bytes": [b"a", b"\xff"],
    "TENSORS": [tensor("t", 2), tensor("u", 40, 50)],
    "SPARSE_TENSORS": [SPARSE, SPARSE],
    "GRAPHS": [GRAPH, GRAPH],
    "TYPE_PROTOS": [TYPE, TYPE],
}


def without_names(attribute: AttributeProto) -> str:
    """The attribute without the names of tensors in it, which have no meaning there."""
    copy = AttributeProto()
    copy.CopyFrom(attribute)
    for found in (copy.t, *copy.tensors, copy.sparse_tensor.values, *(sparse.values for sparse in copy.sparse_tensors)):
        array = numpy_helper.to_array(found) if found.data_type else None
        found.Clear()
        if array is not None:
            found.CopyFrom(numpy_helper.from_array(array))
    for sparse in (copy.sparse_tensor, *copy.sparse_tensors):
        sparse.indices.name = ""
    return str(copy)


@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_attributes_of_every_type_come_back(kind: str, tmp_path: Path) -> None:
    node = foreign(a=ATTRIBUTES[kind])
    written, _ = round_trip(model([node], [X], [Y], imports=[helper.make_opsetid("elsewhere", 1)]), tmp_path)
    (found,) = onnx.load(written).graph.node
    assert without_names(found.attribute[0]) == without_names(node.attribute[0])


@pytest.mark.parametrize("kind", ["INTS", "FLOATS", "STRINGS", "TENSORS", "GRAPHS", "TYPE_PROTOS", "SPARSE_TENSORS"])
def test_empty_lists_keep_their_type(kind: str, tmp_path: Path) -> None:
    node = foreign()
    node.attribute.add(name="a", type=AttributeProto.AttributeType.Value(kind))
    written, found = round_trip(model([node], [X], [Y], imports=[helper.make_opsetid("elsewhere", 1)]), tmp_path)
    assert found.structure.nodes[0].attributes["a"] == EmptyList(kind)
    assert onnx.load(written).graph.node[0].attribute[0].type == AttributeProto.AttributeType.Value(kind)


def test_attributes_without_a_type_have_that_of_their_value(tmp_path: Path) -> None:
    node = helper.make_node("LeakyRelu", ["x"], ["y"])
    node.attribute.add(name="alpha", f=0.5)
    proto = model([node], [X], [Y])
    onnx.save(proto, tmp_path / "a.onnx")
    assert deepstruct.load(tmp_path / "a.onnx").structure.nodes[0].attributes["alpha"] == 0.5


DTYPES = [name for name, number in TensorProto.DataType.items() if number and name != "STRING"]


@pytest.mark.parametrize("name", DTYPES)
def test_weights_of_every_dtype_come_back(name: str, tmp_path: Path) -> None:
    number = TensorProto.DataType.Value(name)
    dtype = helper.tensor_dtype_to_np_dtype(number)
    codes = RNG.integers(0, 2, (41, 133), dtype=np.uint8)
    array: NDArray[Any] = codes.astype(dtype)
    if dtype.itemsize == 1 and name not in ("BOOL",):
        bits = {"INT2": 2, "UINT2": 2, "INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6}
        array = RNG.integers(0, 2 ** bits.get(name, 8), (41, 133), dtype=np.uint8).view(dtype)
    node = foreign()
    node.input.append("w")
    proto = model(
        [node],
        [X],
        [Y],
        initializer=[numpy_helper.from_array(array, "w")],
        imports=[helper.make_opsetid("elsewhere", 1)],
    )
    source, document, written = tmp_path / "a.onnx", tmp_path / "a.structure.json", tmp_path / "b.onnx"
    onnx.save(proto, source)
    deepstruct.convert(source, document)
    deepstruct.convert(document, written)
    (found,) = onnx.load(written).graph.initializer
    assert found.data_type == number
    assert numpy_helper.to_array(found).tobytes() == numpy_helper.to_array(proto.graph.initializer[0]).tobytes()
    onnx.save(proto, tmp_path / "large.onnx", save_as_external_data=True, location="large.data", size_threshold=0)
    assert deepstruct.load(tmp_path / "large.onnx") == deepstruct.load(document)
    deepstruct.save(deepstruct.load(document), tmp_path / "c.onnx", external_data=True)
    assert (tmp_path / "c.onnx.data").stat().st_size
    assert (
        numpy_helper.to_array(onnx.load(tmp_path / "c.onnx").graph.initializer[0]).tobytes()
        == numpy_helper.to_array(found).tobytes()
    )


def test_many_strings_come_back(tmp_path: Path) -> None:
    words = np.array([f"word {number}" for number in range(5000)], dtype=object)
    gather = helper.make_node("Gather", ["words", "i"], ["y"])
    index = helper.make_tensor_value_info("i", TensorProto.INT64, [2])
    out = helper.make_tensor_value_info("y", TensorProto.STRING, [2])
    strings = helper.make_tensor("words", TensorProto.STRING, [5000], [word.encode() for word in words])
    written, _ = round_trip(model([gather], [index], [out], initializer=[strings]), tmp_path)
    assert run(written, {"i": np.array([7, 4999])})[0].tolist() == ["word 7", "word 4999"]


def test_sequences_and_optionals_are_values(tmp_path: Path) -> None:
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    at = numpy_helper.from_array(np.array(1), "one")
    node = helper.make_node("SequenceAt", ["s", "one"], ["y"])
    written, found = round_trip(model([node], [sequence], [Y], initializer=[at]), tmp_path)
    assert found.structure.inputs[0].containers == ("sequence",)
    feeds = [np.zeros((2, 3), np.float32), np.ones((4,), np.float32)]
    assert np.array_equal(run(written, {"s": feeds})[0], feeds[1])


def test_values_of_graphs_may_be_without_a_type(tmp_path: Path) -> None:
    proto = branches()
    for graph in (proto.graph.node[0].attribute[0].g, proto.graph.node[0].attribute[1].g):
        graph.output[0].ClearField("type")
    written, found = round_trip(proto, tmp_path)
    assert {graph.outputs[0].dtype for graph in found.structure.nodes[0].graphs} == {None}
    feeds = {"x": RNG.standard_normal((2, 3)).astype(np.float32), "c": np.array(True), "d": np.array(True)}
    assert np.array_equal(run(tmp_path / "source.onnx", feeds)[0], run(written, feeds)[0])


def test_notes_everywhere_are_reported(tmp_path: Path) -> None:
    proto = functions()
    proto.functions[0].doc_string = "what it does"
    onnx.save(proto, tmp_path / "a.onnx")
    losses: list[Loss] = []
    deepstruct.load(tmp_path / "a.onnx", losses=losses)
    assert [(loss.what, loss.where) for loss in losses] == [("doc_string", "Activate")]


def test_a_function_that_calls_itself_is_refused(tmp_path: Path) -> None:
    call = helper.make_node("F", ["a"], ["b"], domain="own")
    recursive = helper.make_function("own", "F", ["a"], ["b"], [call], [helper.make_opsetid("own", 1)])
    node = helper.make_node("F", ["x"], ["y"], domain="own")
    proto = model([node], [X], [Y], functions=[recursive], imports=[helper.make_opsetid("own", 1)])
    onnx.save(proto, tmp_path / "a.onnx")
    with pytest.raises(DeepstructError, match="a function calls itself: 'F' -> 'F'"):
        deepstruct.load(tmp_path / "a.onnx")


def test_faults_within_graphs_have_their_place() -> None:
    body = Graph((Node("n", "Relu", ("nothing",), ("r",)),), (), (ValueInfo("q", None, None),))
    node = Node("if", "If", ("c",), ("y",), {"then_branch": body, "else_branch": body})
    with pytest.raises(StructureError) as caught:
        Structure(nodes=(node,), inputs=(ValueInfo("c", "bool", ()),), outputs=(ValueInfo("y", "float32", None),))
    places = [(fault.code, fault.pointer) for fault in caught.value.faults]
    assert places == [
        ("UNRESOLVED_REFERENCE", "/graph/nodes/0/attributes/then_branch/nodes/0/inputs/0"),
        ("UNRESOLVED_REFERENCE", "/graph/nodes/0/attributes/then_branch/outputs/0/name"),
        ("UNRESOLVED_REFERENCE", "/graph/nodes/0/attributes/else_branch/nodes/0/inputs/0"),
        ("UNRESOLVED_REFERENCE", "/graph/nodes/0/attributes/else_branch/outputs/0/name"),
    ]


def test_nesting_that_no_document_holds_is_refused(tmp_path: Path) -> None:
    graph = GRAPH
    for level in range(20):
        node = foreign(g=graph)
        node.output[0] = f"y{level}"
        graph = helper.make_graph([node], "g", [], [helper.make_tensor_value_info(f"y{level}", 1, None)])
    proto = model([foreign(g=graph)], [X], [Y], imports=[helper.make_opsetid("elsewhere", 1)])
    (tmp_path / "a.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(UnsupportedError, match="levels"):
        deepstruct.convert(tmp_path / "a.onnx", tmp_path / "a.structure.json")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.onnx"]


def test_names_of_packed_weights_collide_with_nothing(tmp_path: Path) -> None:
    array = np.zeros((64, 48), np.float32)
    array[RNG.integers(0, 64, 300), RNG.integers(0, 48, 300)] = 2
    names = ["w", "w.codes", "w.values"]
    initializer = [numpy_helper.from_array(array.T if name != "w" else array, name) for name in names]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w.codes"], ["i"])]
    nodes.append(helper.make_node("MatMul", ["h", "w.values"], ["y"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 64])
    proto = model(nodes, [x], [Y], initializer=initializer)
    onnx.save(proto, tmp_path / "a.onnx")
    found = deepstruct.load(tmp_path / "a.onnx", infer_masks=True)
    report = deepstruct.save(found, tmp_path / "b.onnx", sparse_encoding="packed")
    assert {tensor.name: tensor.encoding for tensor in report.tensors}["w"] == "dense"
    assert deepstruct.load(tmp_path / "b.onnx") == found


@pytest.mark.parametrize("encoding", ["auto", "dense", "coo", "constant", "packed", "packed-flat"])
def test_a_weight_that_is_an_output_is_a_tensor(encoding: str, tmp_path: Path) -> None:
    array = np.zeros((64, 48), np.float32)
    array[RNG.integers(0, 64, 300), RNG.integers(0, 48, 300)] = 2
    out = helper.make_tensor_value_info("w", TensorProto.FLOAT, [64, 48])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 64])
    proto = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [x],
        [Y, out],
        initializer=[numpy_helper.from_array(array, "w")],
    )
    onnx.save(proto, tmp_path / "a.onnx")
    deepstruct.convert(tmp_path / "a.onnx", tmp_path / "b.onnx", infer_masks=True, sparse_encoding=encoding)
    feeds = {"x": RNG.standard_normal((2, 64)).astype(np.float32)}
    for ours, theirs in zip(run(tmp_path / "b.onnx", feeds), run(tmp_path / "a.onnx", feeds), strict=True):
        assert np.array_equal(ours, theirs)


def test_a_document_that_no_reader_would_accept_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(branches(), tmp_path / "a.onnx")
    monkeypatch.setenv("DEEPSTRUCT_MAX_VALUES", "50")
    with pytest.raises(UnsupportedError, match="values, and readers accept 50"):
        deepstruct.convert(tmp_path / "a.onnx", tmp_path / "a.structure.json")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.onnx"]


def test_a_normalisation_that_was_deprecated_later_is_read(tmp_path: Path) -> None:
    node = helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4, 3])
    proto = model([node], [x], [Y], initializer=[tensor("s", 2), tensor("b", 2)], opset=18)
    proto.graph.output[0].ClearField("type")
    proto.graph.output[0].type.CopyFrom(x.type)
    onnx.save(proto, tmp_path / "source.onnx")
    deepstruct.convert(tmp_path / "source.onnx", tmp_path / "written.onnx")
    feeds = {"x": RNG.standard_normal((2, 4, 3)).astype(np.float32)}
    assert np.array_equal(run(tmp_path / "written.onnx", feeds)[0], run(tmp_path / "source.onnx", feeds)[0])


def test_a_loaded_model_keeps_its_numbers_when_its_files_get_others(tmp_path: Path) -> None:
    array = RNG.standard_normal((64, 48)).astype(np.float32)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 64])
    for name, numbers in (("a", array), ("b", array + 1)):
        initializer = [numpy_helper.from_array(numbers, "w")]
        onnx.save(
            model([helper.make_node("MatMul", ["x", "w"], ["y"])], [x], [Y], initializer=initializer), tmp_path / name
        )
    target = tmp_path / "c.onnx"
    deepstruct.convert(tmp_path / "a", target, source_format="onnx", external_data=True)
    loaded = deepstruct.load(target)
    deepstruct.convert(tmp_path / "b", target, source_format="onnx", external_data=True)
    assert loaded.weights is not None
    assert np.array_equal(loaded.weights["w"], array)


def test_files_without_functions_are_not_packed(tmp_path: Path) -> None:
    array = np.zeros((256, 200), np.float32)
    array[RNG.integers(0, 256, 6000), RNG.integers(0, 200, 6000)] = 2
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 256])
    nodes, initializer = [helper.make_node("MatMul", ["x", "w"], ["y"])], [numpy_helper.from_array(array, "w")]
    onnx.save(model(nodes, [x], [Y], initializer=initializer, opset=13), tmp_path / "a.onnx")
    found = deepstruct.load(tmp_path / "a.onnx", infer_masks=True)
    assert [t.encoding for t in deepstruct.save(found, tmp_path / "b.onnx").tensors] == ["packed"]
    assert [t.encoding for t in deepstruct.save(found, tmp_path / "b.onnx", ir_version=7).tensors] == ["coo"]
    assert onnx.load(tmp_path / "b.onnx").ir_version == 7
    with pytest.raises(UnsupportedError, match="packed-flat"):
        deepstruct.save(found, tmp_path / "b.onnx", ir_version=7, sparse_encoding="packed")
