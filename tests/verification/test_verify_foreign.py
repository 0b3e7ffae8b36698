"""verify on ONNX models that deepstruct did not make: right pairs pass, no difference does, and none is a crash."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from deepstruct import cli, running
from deepstruct.verification import certificate

node = helper.make_node
Extents = Sequence[int | str | None] | None


def value(name: str, shape: Extents, kind: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def numbers(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def integers(*items: int) -> NDArray[np.int64]:
    return np.array(items, np.int64)


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    arrays: Mapping[str, Any] | None = None,
    opset: int = 17,
    *domains: str,
) -> ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in (arrays or {}).items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), initializer=tensors)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8 if opset < 19 else 10)


def run(*arguments: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = running.run(lambda: cli.cli.main(list(map(str, arguments)), standalone_mode=False), False)
    return code, out.getvalue(), err.getvalue()


def verdict(a: Path, b: Path, *options: str) -> str:
    """What a valid certificate of the two says, which agrees with the exit code."""
    code, out, err = run("verify", "--json", a, b, *options)
    assert out, err
    found = json.loads(out)
    jsonschema.Draft202012Validator(certificate.schema()).validate(found)
    assert certificate.EXIT_CODES[found["verdict"]] == code
    return str(found["verdict"])


def compared(folder: Path, a: ModelProto, b: ModelProto, *options: str) -> str:
    paths = folder / "a.onnx", folder / "b.onnx"
    for path, proto in zip(paths, (a, b), strict=True):
        path.write_bytes(proto.SerializeToString())
    return verdict(*paths, *options)


X, Y = value("x", ["N", 6]), value("y", ["N", None])
SAME, NOT_SAME = ("equivalent",), ("different", "not certifiable")


# Graphs within nodes


def reshaped(prefix: str, shape: Sequence[int], data: str = "x") -> list[NodeProto]:
    return [
        node("Constant", [], [f"{prefix}s"], value=numpy_helper.from_array(integers(*shape))),
        node("Reshape", [data, f"{prefix}s"], [f"{prefix}r"]),
        node("Transpose", [f"{prefix}r"], [f"{prefix}t"], perm=[0, 2, 1]),
        node("Flatten", [f"{prefix}t"], [f"{prefix}o"]),
    ]


def branching(then: Sequence[NodeProto], other: Sequence[NodeProto], threshold: float = 1.0) -> ModelProto:
    graphs = [
        helper.make_graph(list(nodes), name, [], [value(f"{name}o", None)])
        for name, nodes in (("t", then), ("e", other))
    ]
    nodes = [
        node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Greater", ["m", "threshold"], ["c"]),
        node("If", ["c"], ["y"], then_branch=graphs[0], else_branch=graphs[1]),
    ]
    arrays = {"threshold": np.float32(threshold), "v": numbers(6, 6), "w": numbers(6, 6, seed=1)}
    return model(nodes, [X], [Y], arrays)


def looping(shape: Sequence[int], times: int = 2) -> ModelProto:
    nodes = [*reshaped("b", shape, "v"), node("Identity", ["ci"], ["co"])]
    inputs = [value("i", [], TensorProto.INT64), value("ci", [], TensorProto.BOOL), value("v", None)]
    body = helper.make_graph(nodes, "b", inputs, [value("co", [], TensorProto.BOOL), value("bo", None)])
    loop = node("Loop", ["times", "c", "x"], ["y"], body=body)
    return model([loop], [X], [Y], {"times": np.int64(times), "c": np.array(True)})


RESHAPED, OTHERWISE = [-1, 2, 3], [-1, 3, 2]


def test_the_same_graphs_within_nodes_pass(tmp_path: Path) -> None:
    a = branching(reshaped("t", RESHAPED), reshaped("e", OTHERWISE))
    assert compared(tmp_path, a, a) == "equivalent"
    assert compared(tmp_path, looping(RESHAPED), looping(RESHAPED)) == "equivalent"


@pytest.mark.parametrize("threshold", [-100.0, 1.0, 100.0], ids=["always", "sometimes", "never"])
@pytest.mark.parametrize("which", [0, 1], ids=["then", "else"])
def test_a_branch_that_reshapes_otherwise_does_not_pass(threshold: float, which: int, tmp_path: Path) -> None:
    a = branching(reshaped("t", RESHAPED), reshaped("e", RESHAPED), threshold)
    shapes = [OTHERWISE if number == which else RESHAPED for number in (0, 1)]
    b = branching(reshaped("t", shapes[0]), reshaped("e", shapes[1]), threshold)
    assert compared(tmp_path, a, b) in NOT_SAME


def test_a_loop_that_reshapes_or_counts_otherwise_does_not_pass(tmp_path: Path) -> None:
    assert compared(tmp_path, looping(RESHAPED), looping(OTHERWISE)) in NOT_SAME
    assert compared(tmp_path, looping(RESHAPED, 1), looping(OTHERWISE, 1)) in NOT_SAME
    assert compared(tmp_path, looping(RESHAPED, 1), looping(RESHAPED, 2)) in NOT_SAME


def test_branches_that_take_each_other_s_weights_do_not_pass(tmp_path: Path) -> None:
    def multiplied(then: str, other: str) -> ModelProto:
        return branching([node("MatMul", ["x", then], ["to"])], [node("MatMul", ["x", other], ["eo"])], 1e9)

    assert compared(tmp_path, multiplied("v", "w"), multiplied("v", "w")) == "equivalent"
    assert compared(tmp_path, multiplied("v", "w"), multiplied("w", "v")) in NOT_SAME
    assert compared(tmp_path, multiplied("v", "w"), multiplied("v", "v")) in NOT_SAME


# Extents that are open


def sequence(shape: Sequence[int], extents: Extents = ("N", "S", 8)) -> ModelProto:
    nodes = [node("Reshape", ["x", "s"], ["r"]), node("MatMul", ["r", "w"], ["m"]), node("Relu", ["m"], ["y"])]
    outputs = [value("y", [None, None, None])]
    return model(nodes, [value("x", extents)], outputs, {"s": integers(*shape), "w": numbers(4, 4)})


@pytest.mark.parametrize("length", [4, 8, 16])
def test_a_length_written_into_a_shape_does_not_pass(length: int, tmp_path: Path) -> None:
    a, b = sequence([0, -1, 4]), sequence([0, 2 * length, 4])
    assert compared(tmp_path, a, b) in NOT_SAME
    assert compared(tmp_path, b, a) in NOT_SAME


@pytest.mark.parametrize("batch", [2, 3, 12])
def test_a_batch_written_into_a_shape_does_not_pass(batch: int, tmp_path: Path) -> None:
    assert compared(tmp_path, sequence([0, -1, 4]), sequence([batch, -1, 4])) in NOT_SAME


def test_what_is_squeezed_is_not_left_to_the_batch(tmp_path: Path) -> None:
    def squeezed(*axes: str) -> ModelProto:
        nodes = [node("Squeeze", ["x", *axes], ["q"]), node("Neg", ["q"], ["y"])]
        return model(nodes, [value("x", ["N", 1, 8])], [value("y", None)], {"axes": integers(1)})

    assert compared(tmp_path, squeezed("axes"), squeezed()) in NOT_SAME


# Numbers that are nearly the same


def constant(first: float, second: float) -> ModelProto:
    nodes = [
        node("Div", ["x", "p"], ["u"]),
        node("Div", ["x", "q"], ["v"]),
        node("Atan", ["u"], ["a"]),
        node("Add", ["a", "v"], ["y"]),
    ]
    return model(nodes, [X], [Y], {"p": np.float32(first), "q": np.float32(second)})


def leaky(first: float, second: float) -> ModelProto:
    nodes = [
        node("LeakyRelu", ["x"], ["u"], alpha=first),
        node("LeakyRelu", ["x"], ["v"], alpha=second),
        node("Div", ["u", "v"], ["y"]),
    ]
    return model(nodes, [X], [Y])


NEXT = float(np.nextafter(np.float32(0.1), np.float32(1)))


@pytest.mark.parametrize("make", [constant, leaky])
@pytest.mark.parametrize(
    ("a", "b"),
    [((0.0, -0.0), (-0.0, 0.0)), ((0.0, -0.0), (0.0, 0.0)), ((0.1, 0.2), (NEXT, 0.2)), ((0.1, 0.2), (0.2, 0.1))],
)
def test_signs_of_zero_and_last_bits_count(
    make: Callable[[float, float], ModelProto], a: tuple[float, float], b: tuple[float, float], tmp_path: Path
) -> None:
    assert compared(tmp_path, make(*a), make(*b)) in NOT_SAME
    assert compared(tmp_path, make(*a), make(*a)) == "equivalent"


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "Hardmax"])
def test_an_axis_means_something_else_in_another_opset(op_type: str, tmp_path: Path) -> None:
    def of(opset: int) -> ModelProto:
        extents: Extents = ["N", 3, 4]
        return model([node(op_type, ["x"], ["y"], axis=1)], [value("x", extents)], [value("y", extents)], None, opset)

    assert compared(tmp_path, of(11), of(13)) in NOT_SAME


# Values that only one of the two uses


def recurrent(*, rewired: str = "") -> ModelProto:
    place, _, name = rewired.partition("=")
    names = {"a": "ys", "b": "yh", "c": "ct", "d": "m", place: name}
    nodes = [
        node("LSTM", ["x", "w", "r"], ["ys", "yh", "yc"], hidden_size=4),
        node("Squeeze", [names["a"], "one"], ["sq"]),
        node("GRU", ["sq", "gw", "gr"], ["gs", "gh"], hidden_size=4),
        node("Concat", ["gh", names["b"]], ["ct"], axis=2),
        node("Split", [names["c"], "parts"], ["s1", "s2"], axis=2),
        node("Mul", ["s1", "s1"], ["m"]),
        node("Concat", [names["d"], "s2"], ["y"], axis=2),
    ]
    arrays = {"w": numbers(1, 16, 3), "r": numbers(1, 16, 4), "gw": numbers(1, 12, 4), "gr": numbers(1, 12, 4)}
    arrays |= {"one": integers(1), "parts": integers(3, 5)}  # type: ignore[dict-item]  # of another dtype
    return model(nodes, [value("x", [5, "N", 3])], [value("y", None)], arrays)


@pytest.mark.parametrize("rewired", ["b=yc", "b=gs", "c=gs", "d=s1", "d=s2", "a=yc"])
def test_a_rewired_recurrent_network_is_no_crash(rewired: str, tmp_path: Path) -> None:
    a, b = tmp_path / "a.onnx", tmp_path / "b.onnx"
    a.write_bytes(recurrent().SerializeToString())
    b.write_bytes(recurrent(rewired=rewired).SerializeToString())
    for pair in ((a, b), (b, a)):
        code, _, error = run("verify", *pair)
        assert code in (1, 3, 4), error
    assert verdict(a, a) == "equivalent"


# Randomness


def dropout(mode: Any) -> ModelProto:
    arrays = {"r": np.float32(0.5), "mode": np.array(mode)}
    return model([node("Dropout", ["x", "r", "mode"], ["y"])], [X], [Y], arrays)


def in_branch() -> ModelProto:
    return branching([node("RandomNormalLike", ["x"], ["to"])], [node("Identity", ["x"], ["eo"])], 1e9)


def in_function() -> ModelProto:
    made = model([node("F", ["x"], ["y"], domain="own")], [X], [Y], None, 17, "own")
    body = [node("RandomUniformLike", ["a"], ["b"])]
    made.functions.append(helper.make_function("own", "F", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    return made


RANDOM: dict[str, Callable[[], ModelProto]] = {
    "dropout": lambda: dropout(True),
    "bernoulli": lambda: model([node("Bernoulli", ["x"], ["y"], seed=1.0)], [X], [Y]),
    "branch": in_branch,
    "function": in_function,
    "leaf": lambda: model([node("RandomNormal", [], ["r"], shape=[6]), node("Add", ["x", "r"], ["y"])], [X], [Y]),
    "batch": lambda: model(
        [node("BatchNormalization", ["x", "g", "b", "m", "v"], ["y", "p", "q"], training_mode=1)],
        [X],
        [Y],
        {name: np.abs(numbers(6)) for name in "gbmv"},
    ),
}


@pytest.mark.parametrize("name", RANDOM)
def test_what_draws_numbers_cannot_be_certified(name: str, tmp_path: Path) -> None:
    made = RANDOM[name]()
    assert compared(tmp_path, made, made) == "not certifiable"


def test_dropout_that_does_not_train_is_nothing(tmp_path: Path) -> None:
    assert compared(tmp_path, dropout(False), model([node("Identity", ["x"], ["y"])], [X], [Y])) == "equivalent"


# Interfaces


def difference(order: str, inputs: str = "ab") -> ModelProto:
    return model([node("Sub", list(order), ["y"])], [value(name, ["N", 6]) for name in inputs], [Y])


def test_swapped_inputs(tmp_path: Path) -> None:
    assert compared(tmp_path, difference("ab"), difference("ba")) in NOT_SAME
    assert compared(tmp_path, difference("ab"), difference("ba", "ba")) == "not certifiable"
    assert compared(tmp_path, difference("ab"), difference("ba", "ba"), "--by-position") == "equivalent"
    assert compared(tmp_path, difference("ab"), difference("ab", "ba"), "--by-position") in NOT_SAME


def test_other_inputs_cannot_be_certified(tmp_path: Path) -> None:
    plain = model([node("Neg", ["x"], ["y"])], [X], [Y])
    others = [
        model([node("Neg", ["z"], ["y"])], [value("z", ["N", 6])], [Y]),
        model([node("Neg", ["x"], ["z"])], [X], [value("z", ["N", None])]),
        model([node("Neg", ["x"], ["y"])], [value("x", ["N", 5])], [Y]),
        model([node("Neg", ["x"], ["y"])], [value("x", ["N", 2, 3])], [value("y", None)]),
        model([node("Neg", ["x"], ["y"])], [X, value("u", ["N"])], [Y]),
        model(
            [node("Neg", ["x"], ["y"])],
            [value("x", ["N", 6], TensorProto.DOUBLE)],
            [value("y", ["N", 6], TensorProto.DOUBLE)],
        ),
    ]
    for other in others:
        assert compared(tmp_path, plain, other) == "not certifiable"
        assert compared(tmp_path, other, plain) == "not certifiable"


# Whatever others make


def quantised(scale: float = 0.05, zero: int = 3) -> ModelProto:
    nodes = [
        node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        node("DequantizeLinear", ["wq", "ws"], ["w"], axis=0),
        node("Gemm", ["xd", "w"], ["h"], transB=1),
        node("DynamicQuantizeLinear", ["h"], ["dq", "ds", "dz"]),
        node("MatMulInteger", ["dq", "v", "dz"], ["mi"]),
        node("Cast", ["mi"], ["mf"], to=TensorProto.FLOAT),
        node("Mul", ["mf", "ds"], ["y"]),
    ]
    arrays = {"xs": np.float32(scale), "xz": np.array(zero, np.uint8), "ws": np.abs(numbers(5))}
    arrays |= {"wq": np.arange(-15, 15).astype(np.int8).reshape(5, 6), "v": np.arange(20, dtype=np.uint8).reshape(5, 4)}
    return model(nodes, [X], [Y], arrays)


def of_dtype(kind: int) -> ModelProto:
    nodes = [node("Identity", ["x"], ["z"]), node("Identity", ["z"], ["y"])]
    return model(nodes, [value("x", ["N", 3], kind)], [value("y", ["N", 3], kind)], None, 19)


def perceptron(opset: int) -> ModelProto:
    nodes = [node("Gemm", ["x", "w", "b"], ["h"], transB=1), node("Relu", ["h"], ["y"])]
    return model(nodes, [X], [Y], {"w": numbers(4, 6), "b": numbers(4)}, opset)


FOREIGN: dict[str, Callable[[], ModelProto]] = {
    "quantised": quantised,
    "output is input": lambda: model([], [X], [X]),
    "output is weight": lambda: model([], [X], [X, value("w", [30, 40])], {"w": numbers(30, 40)}),
    "no inputs": lambda: model([node("Neg", ["w"], ["y"])], [], [value("y", [3])], {"w": numbers(3)}),
    "unused input": lambda: model([node("Neg", ["x"], ["y"])], [X, value("u", ["N", 2])], [Y]),
    "scalar input": lambda: model([node("Mul", ["x", "s"], ["y"])], [X, value("s", [])], [Y]),
    "scalars alone": lambda: model([node("Mul", ["s", "s"], ["y"])], [value("s", [])], [value("y", [])]),
    "nothing to add": lambda: model(
        [node("Concat", ["x", "w"], ["y"], axis=0)], [X], [Y], {"w": np.zeros((0, 6), np.float32)}
    ),
    "batch behind": lambda: model(
        [node("MatMul", ["w", "x"], ["y"])], [value("x", [6, "N"])], [value("y", [4, "N"])], {"w": numbers(4, 6)}
    ),
    "sequence": lambda: model(
        [node("SequenceConstruct", ["x", "x"], ["s"]), node("ConcatFromSequence", ["s"], ["y"], axis=1)], [X], [Y]
    ),
    "positions": lambda: model([node("NonZero", ["x"], ["y"])], [X], [value("y", [2, None], TensorProto.INT64)]),
    "scalar within": lambda: model(
        [node("ReduceSum", ["x"], ["s"], keepdims=0), node("Add", ["x", "s"], ["y"])], [X], [Y]
    ),
    "of microsoft": lambda: model(
        [node("FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft", alpha=2.0)],
        [X],
        [Y],
        {"w": numbers(6, 6)},
        17,
        "com.microsoft",
    ),
    **{f"dtype {kind}": lambda kind=kind: of_dtype(kind) for kind in (2, 9, 10, 11, 16, 17)},  # type: ignore[misc]  # default of a lambda
    **{f"opset {n}": lambda n=n: perceptron(n) for n in (7, 11, 18, 24)},  # type: ignore[misc]  # likewise
}


@pytest.mark.parametrize("name", FOREIGN)
def test_models_of_others_are_the_same_as_themselves(name: str, tmp_path: Path) -> None:
    made = FOREIGN[name]()
    assert compared(tmp_path, made, made) == "equivalent"


@pytest.mark.parametrize("name", FOREIGN)
def test_models_of_others_are_the_same_in_a_document(name: str, tmp_path: Path) -> None:
    source, document, again = (tmp_path / n for n in ("s.onnx", "d.structure.json", "t.onnx"))
    source.write_bytes(FOREIGN[name]().SerializeToString())
    assert run("convert", source, document)[0] == 0
    assert run("convert", document, again)[0] == 0
    assert verdict(source, again) == "equivalent"


def test_quantised_models_differ_in_each_number(tmp_path: Path) -> None:
    assert compared(tmp_path, quantised(), quantised(zero=4)) == "different"
    assert compared(tmp_path, quantised(), quantised(scale=float(np.nextafter(np.float32(0.05), 1)))) == "different"


def test_versions_of_operators_that_are_alike_do_not_matter(tmp_path: Path) -> None:
    assert compared(tmp_path, perceptron(7), perceptron(24)) == "equivalent"


REFUSED: dict[str, Callable[[], ModelProto]] = {
    "unknown operator": lambda: model([node("Foo", ["x"], ["y"], domain="my.own")], [X], [Y], None, 17, "my.own"),
    "shape as input": lambda: model(
        [node("Reshape", ["x", "s"], ["y"])], [X, value("s", [2], TensorProto.INT64)], [value("y", [None, None])]
    ),
    "large value": lambda: model(
        [node("ConstantOfShape", ["s"], ["z"]), node("ReduceMax", ["z"], ["m"]), node("Add", ["x", "m"], ["y"])],
        [X],
        [Y],
        {"s": integers(10**12)},
    ),
    "large range": lambda: model(
        [node("Range", ["a", "b", "c"], ["z"]), node("ReduceMax", ["z"], ["m"]), node("Add", ["x", "m"], ["y"])],
        [X],
        [Y],
        {"a": np.float32(0), "b": np.float32(1e12), "c": np.float32(1)},
    ),
    "large input": lambda: model([node("Neg", ["x"], ["y"])], [value("x", ["N", 2**40])], [Y]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_run_cannot_be_certified(name: str, tmp_path: Path) -> None:
    made = REFUSED[name]()
    assert compared(tmp_path, made, made) == "not certifiable"


# Models that people use, with faults planted by hand


def installed(name: str) -> Path:
    package, _, inside = name.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip(f"the package {package} is not installed")
    return Path(next(iter(spec.submodule_search_locations)), inside)


@pytest.fixture
def voice() -> Path:
    return installed("silero_vad/data/silero_vad_openvino_16k.onnx")


@pytest.mark.parametrize("options", [(), ("--external-data",), ("--sparse-encoding", "dense")])
@pytest.mark.parametrize("suffix", [".onnx", ".structure.json"])
def test_a_model_that_people_use_is_certified(
    options: tuple[str, ...], suffix: str, voice: Path, tmp_path: Path
) -> None:
    if options and suffix != ".onnx":
        pytest.skip("an option of ONNX files")
    target = tmp_path / f"t{suffix}"
    assert run("convert", voice, target, *options)[0] == 0
    assert verdict(voice, target) == "equivalent"


def tensors(graph: GraphProto) -> list[TensorProto]:
    found = list(graph.initializer)
    for inner in graph.node:
        found += [a.t for a in inner.attribute if a.type == AttributeProto.TENSOR]
        for attribute in inner.attribute:
            found += tensors(attribute.g) if attribute.type == AttributeProto.GRAPH else []
    return [tensor for tensor in found if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) > 1]


@pytest.mark.parametrize("number", range(4))
def test_one_bit_in_a_model_that_people_use_is_found(number: int, voice: Path, tmp_path: Path) -> None:
    proto = onnx.load(voice)
    found = tensors(proto.graph)
    tensor = found[number * len(found) // 4]
    array = numpy_helper.to_array(tensor).copy()
    array.reshape(-1)[array.size // 2 : array.size // 2 + 1].view(np.uint32)[:] ^= 1
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    path = tmp_path / "b.onnx"
    path.write_bytes(proto.SerializeToString())
    assert verdict(voice, path) == "different"
