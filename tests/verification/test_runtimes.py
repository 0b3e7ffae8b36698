"""Fragments in the three runtimes: the same numbers as whole files give, and clean reasons where they cannot."""

from __future__ import annotations

import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from networks import made
from numpy.typing import NDArray

import deepstruct
from deepstruct.converters.torch_graph import StructureModule
from deepstruct.converters.torch_tensors import to_tensor
from deepstruct.errors import MissingDependencyError
from deepstruct.structure import AttributeReference, Function, Graph, Node, ParameterReference, ValueInfo
from deepstruct.tensor import Tensor
from deepstruct.verification.runtimes import Fragment, NotRunnableError, OnnxRuntime, Reference, Runtime, Torch

RUNTIMES: list[Runtime] = [OnnxRuntime(), OnnxRuntime(optimise=False), Torch(), Reference()]
IDS = ["onnxruntime", "onnxruntime-plain", "torch", "reference"]
GEMM = Fragment((Node("fc", "Gemm", ("x", "w", "b"), ("y",), {"transB": 1}),), ("y",), {"": 20})


def traced(name: str) -> tuple[deepstruct.Model, dict[str, Any]]:
    """The model of a network, and its example inputs by name."""
    module, example_inputs = made(name)
    model = deepstruct.from_module(module.eval(), example_inputs, losses=[])
    tensors = torch.utils._pytree.tree_leaves(example_inputs)
    return model, {info.name: t.numpy() for info, t in zip(model.structure.inputs, tensors, strict=True)}


def gemm_values(out: int = 3, dtype: Any = np.float32, rows: int = 2) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    shapes = {"x": (rows, 4), "w": (out, 4), "b": (out,)}
    return {name: rng.integers(-3, 4, shape).astype(dtype) for name, shape in shapes.items()}


@pytest.mark.parametrize("runtime", RUNTIMES, ids=IDS)
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_a_gemm_is_computed(runtime: Any, rows: int) -> None:
    values = gemm_values(rows=rows)
    (y,) = runtime.program(GEMM).run(values, frozenset({"w", "b"}))
    np.testing.assert_array_equal(y, values["x"] @ values["w"].T + values["b"])
    assert y.dtype == np.float32
    assert runtime.version[0].isdigit()
    assert runtime.name in ("onnxruntime", "torch", "reference")


@pytest.mark.parametrize("runtime", RUNTIMES, ids=IDS)
def test_other_dtypes_and_ranks_run_in_the_same_program(runtime: Any) -> None:
    program = runtime.program(Fragment((Node("add", "Add", ("x", "b"), ("y",)),), ("y",), {"": 20}))
    for dtype in (np.float32, np.float64, np.float16, np.int64):
        for shape in ((3,), (2, 3), (4, 2, 3)):
            x, b = np.ones(shape, dtype), np.arange(3, dtype=dtype)
            (y,) = program.run({"x": x, "b": b}, frozenset({"b"}))
            assert y.dtype == dtype
            np.testing.assert_array_equal(y, x + b)


@pytest.mark.parametrize("runtime", RUNTIMES, ids=IDS)
def test_other_leaves_are_not_mistaken_for_those_of_the_last_run(runtime: Any) -> None:
    program = runtime.program(GEMM)
    for factor in (1, 2, -1, 1):
        values = gemm_values()
        values["w"] *= factor
        (y,) = program.run(values, frozenset({"w", "b"}))
        np.testing.assert_array_equal(y, values["x"] @ values["w"].T + values["b"])


@pytest.mark.parametrize("runtime", RUNTIMES, ids=IDS)
def test_other_shapes_given_as_constants_are_seen(runtime: Any) -> None:
    program = runtime.program(Fragment((Node("r", "Reshape", ("x", "s"), ("y",)),), ("y",), {"": 20}))
    x = np.arange(6, dtype=np.float32)
    for shape in ([2, 3], [3, 2], [6, 1]):
        (y,) = program.run({"x": x, "s": np.array(shape, np.int64)}, frozenset({"s"}))
        np.testing.assert_array_equal(y, x.reshape(shape))


def test_large_leaves_are_inputs_and_not_copied() -> None:
    program = OnnxRuntime().program(GEMM)
    values = gemm_values(out=10_000)
    for _ in range(10):
        values["w"] = values["w"] + 1
        (y,) = program.run(values, frozenset({"w", "b"}))
        np.testing.assert_array_equal(y, values["x"] @ values["w"].T + values["b"])
    assert len(program._sessions) == 1  # type: ignore[attr-defined]  # no public name counts them


def test_sessions_do_not_pile_up() -> None:
    program = OnnxRuntime().program(GEMM)
    for number in range(20):
        program.run(gemm_values() | {"b": np.full(3, number, np.float32)}, frozenset({"w", "b"}))
    assert len(program._sessions) <= 8  # type: ignore[attr-defined]  # as above


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
@pytest.mark.parametrize("runtime", [RUNTIMES[0], RUNTIMES[1], RUNTIMES[2]], ids=IDS[:3])
def test_types_that_numpy_lacks_go_in_and_come_out(runtime: Any, dtype: Any) -> None:
    code = {"bfloat16": 16, "float8_e4m3fn": 17, "float8_e5m2": 19}[np.dtype(dtype).name]
    nodes = Node("up", "Cast", ("x",), ("f",), {"to": 1}), Node("down", "Cast", ("f",), ("y",), {"to": code})
    x = np.array([[1, 2, -3], [0.5, 8, 0]]).astype(dtype)
    y, f = runtime.program(Fragment(nodes, ("y", "f"), {"": 20})).run({"x": x})
    assert y.dtype == dtype
    assert y.tobytes() == x.tobytes()
    np.testing.assert_array_equal(f, x.astype(np.float32))


def test_numbers_of_four_bits_are_packed_and_unpacked() -> None:
    nodes = (Node("up", "Cast", ("x",), ("f",), {"to": 1}), Node("down", "Cast", ("f",), ("y",), {"to": 22}))
    x = np.array([[1, -2, 7], [-8, 0, 3], [1, 1, 1]]).astype(ml_dtypes.int4)
    for fixed in (frozenset[str](), frozenset({"x"})):
        y, f = OnnxRuntime(optimise=False).program(Fragment(nodes, ("y", "f"), {"": 21})).run({"x": x}, fixed)
        assert isinstance(y, np.ndarray)
        assert isinstance(f, np.ndarray)
        assert y.dtype == x.dtype
        assert y.tolist() == x.tolist()
        np.testing.assert_array_equal(f, x.astype(np.float32))
    with pytest.raises(NotRunnableError, match="torch has no dtype for 'x', which is int4"):
        Torch().program(Fragment(nodes[:1], ("f",), {"": 21})).run({"x": x})


def test_a_bfloat16_layer_is_the_same_in_torch_and_in_wide_numbers() -> None:
    values = gemm_values(dtype=ml_dtypes.bfloat16)
    (y,) = Torch().program(GEMM).run(values, frozenset({"w", "b"}))
    assert isinstance(y, np.ndarray)
    wide = {name: value.astype(np.float32) for name, value in values.items()}
    np.testing.assert_array_equal(y.astype(np.float32), wide["x"] @ wide["w"].T + wide["b"])


@pytest.mark.parametrize("runtime", [RUNTIMES[0], RUNTIMES[3]], ids=["onnxruntime", "reference"])
def test_strings_and_sequences(runtime: Any) -> None:
    nodes = (
        Node("split", "SplitToSequence", ("x", "sizes"), ("parts",), {"axis": 0}),
        Node("pick", "SequenceAt", ("parts", "which"), ("y",)),
    )
    x = np.arange(6, dtype=np.float32)
    values = {"x": x, "sizes": np.array([2, 4], np.int64), "which": np.array(1, np.int64)}
    parts, y = runtime.program(Fragment(nodes, ("parts", "y"), {"": 20})).run(values, frozenset({"sizes", "which"}))
    assert [part.tolist() for part in parts] == [[0, 1], [2, 3, 4, 5]]
    np.testing.assert_array_equal(y, x[2:])
    pick = runtime.program(Fragment(nodes[1:], ("y",), {"": 20}))
    np.testing.assert_array_equal(pick.run({"parts": parts, "which": values["which"]})[0], x[2:])
    with pytest.raises(NotRunnableError, match="'parts' is a sequence of unknown type"):
        pick.run({"parts": [], "which": values["which"]})
    with pytest.raises(NotRunnableError, match="'parts' is an optional value of unknown type"):
        pick.run({"parts": None, "which": values["which"]})
    words = np.array(["b", "ä"], dtype=object)
    concat = Fragment((Node("c", "Concat", ("s", "t"), ("y",), {"axis": 0}),), ("y",), {"": 20})
    (y,) = runtime.program(concat).run({"s": words, "t": words}, frozenset({"t"}))
    assert y.tolist() == ["b", "ä", "b", "ä"]
    with pytest.raises(NotRunnableError, match="'t': torch has no such values"):
        Torch().program(concat).run({"s": words, "t": words}, frozenset({"t"}))


def if_fragment() -> Fragment:
    unknown = (ValueInfo("z", "float32", None),)
    then = Graph((Node("t", "Mul", ("x", "w"), ("z",)),), (), unknown)
    other = Graph((Node("e", "Add", ("x", "w"), ("z",)),), (), unknown)
    node = Node("if", "If", ("c",), ("y",), {"then_branch": then, "else_branch": other})
    return Fragment((node,), ("y",), {"": 20})


@pytest.mark.parametrize("runtime", [RUNTIMES[0], RUNTIMES[1], RUNTIMES[3]], ids=["onnxruntime", "plain", "reference"])
@pytest.mark.parametrize("size", [3, 20_000])
def test_graphs_see_what_is_outside(runtime: Any, size: int) -> None:
    x, w = np.full(size, 3, np.float32), np.arange(size, dtype=np.float32)
    program = runtime.program(if_fragment())
    for condition, expected in ((True, x * w), (False, x + w)):
        (y,) = program.run({"c": np.array(condition), "x": x, "w": w}, frozenset({"w"}))
        np.testing.assert_array_equal(y, expected)
    with pytest.raises(NotRunnableError, match="control flow"):
        Torch().program(if_fragment())


@pytest.mark.parametrize("runtime", [RUNTIMES[0], RUNTIMES[3]], ids=["onnxruntime", "reference"])
@pytest.mark.parametrize("size", [3, 20_000])
def test_functions_see_leaves(runtime: Any, size: int) -> None:
    slope = Node("k", "Constant", (), ("k",), {"value_float": AttributeReference("slope", "FLOAT")})
    function = Function(
        name="Scale",
        domain="mine",
        inputs=("x",),
        outputs=("z",),
        nodes=(Node("s", "Mul", ("x", "w"), ("u",)), slope, Node("m", "Mul", ("u", "k"), ("z",))),
        opset={"": 20},
        attributes=("slope",),
    )
    unused = Function(
        name="No",
        domain="mine",
        inputs=(),
        outputs=("z",),
        nodes=(Node("i", "Identity", ("elsewhere",), ("z",)),),
        opset={"": 20},
    )
    node = Node("call", "Scale", ("x",), ("y",), {"slope": 0.5}, domain="mine")
    fragment = Fragment((node,), ("y",), {"": 20, "mine": 1}, (unused, function))
    program = runtime.program(fragment)
    x = np.full(size, -1, np.float32)
    for factor in (1, 3):
        w = factor * np.arange(size, dtype=np.float32)
        (y,) = program.run({"x": x, "w": w}, frozenset({"w"}))
        np.testing.assert_array_equal(y, 0.5 * x * w)
    with pytest.raises(NotRunnableError, match="torch computes no functions such as 'Scale'"):
        Torch().program(fragment)


@pytest.mark.parametrize("sparse", [False, True])
def test_attributes_refer_to_leaves(sparse: bool) -> None:
    key = "sparse_value" if sparse else "value"
    constant = Node("k", "Constant", (), ("k",), {key: ParameterReference("w", sparse=sparse)})
    fragment = Fragment((constant, Node("a", "Add", ("x", "k"), ("y",))), ("y",), {"": 20})
    program = OnnxRuntime().program(fragment)
    for factor in (1, 2):
        w = factor * np.array([[0, 1, 0], [2, 0, 0]], np.float32)
        (y,) = program.run({"x": np.ones((2, 3), np.float32), "w": w}, frozenset({"w"}))
        assert isinstance(y, np.ndarray)
        np.testing.assert_array_equal(y, 1 + w)


def test_weights_that_a_kernel_demands_beforehand_become_part_of_the_model() -> None:
    node = Node("q", "DynamicQuantizeMatMul", ("x", "w", "s", "z"), ("y",), domain="com.microsoft")
    fragment = Fragment((node,), ("y",), {"": 20, "com.microsoft": 1})
    rng = np.random.default_rng(0)
    values: dict[str, Any] = {
        "x": rng.standard_normal((2, 400)).astype(np.float32),
        "w": rng.integers(0, 255, (400, 300)).astype(np.uint8),
        "s": np.full((), 0.1, np.float32),
        "z": np.full((), 128, np.uint8),
    }
    (y,) = OnnxRuntime().program(fragment).run(values, frozenset({"w", "s", "z"}))
    assert isinstance(y, np.ndarray)
    assert y.shape == (2, 300)


@pytest.mark.parametrize(
    ("node", "opset", "values", "reason"),
    [
        (Node("n", "Nonsense", ("x",), ("y",), domain="mine"), {"mine": 1, "": 20}, {}, "mine.Nonsense"),
        (Node("n", "Tan", ("x",), ("y",)), {"": 20}, {"x": np.ones(3, np.float64)}, "has no kernel for Tan-7"),
        (
            Node("n", "Reshape", ("x", "s"), ("y",)),
            {"": 20},
            {"s": np.array([5])},
            r"Reshape \(n\): .*cannot be reshaped",
        ),
        (Node("n", "Relu", ("x",), ("y",)), {"": 20}, {"x": np.ones(3, np.bool_)}, "^Type Error: .*is invalid"),
    ],
    ids=["unknown", "kernel", "run", "type"],
)
def test_a_refusal_is_one_clean_line(node: Node, opset: Any, values: Any, reason: str) -> None:
    with pytest.raises(NotRunnableError, match=reason) as caught:
        OnnxRuntime().program(Fragment((node,), ("y",), opset)).run({"x": np.ones(3, np.float32)} | values)
    assert "\n" not in str(caught.value)
    assert "ONNXRuntimeError" not in str(caught.value)
    assert "/onnxruntime" not in str(caught.value)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    fragment = Fragment((Node("n", "Reshape", ("x", "s"), ("y",)),), ("y",), {"": 20})
    with pytest.raises(NotRunnableError):
        OnnxRuntime().program(fragment).run({"x": np.ones(3, np.float32), "s": np.array([5])})
    assert capfd.readouterr() == ("", "")


def test_torch_refuses_what_a_module_would_refuse() -> None:
    dropout = Node("d", "Dropout", ("x", "r", "t"), ("y",))
    program = Torch().program(Fragment((dropout,), ("y",), {"": 20}))
    values: dict[str, Any] = {"x": np.ones(3, np.float32), "r": np.array(0.5, np.float32), "t": np.array(False)}
    (y,) = program.run(values, frozenset({"r", "t"}))
    assert isinstance(y, np.ndarray)
    assert y.tolist() == [1, 1, 1]
    for case in (values | {"t": np.array(True)}, values):
        with pytest.raises(NotRunnableError, match="in training mode it is random"):
            program.run(case, frozenset({"r", "t"} if case["t"] else ()))
    within = Node("t", "Constant", (), ("t",), {"value": Tensor("bool", (), (False,))})
    (y,) = Torch().program(Fragment((within, dropout), ("y",), {"": 20})).run(values, frozenset({"r"}))
    assert isinstance(y, np.ndarray)
    with pytest.raises(NotRunnableError, match="random"):
        Torch().program(Fragment((Node("r", "RandomNormalLike", ("x",), ("y",)),), ("y",), {"": 20}))
    with pytest.raises(NotRunnableError, match="opset 6"):
        Torch().program(Fragment((Node("r", "Relu", ("x",), ("y",)),), ("y",), {"": 6}))
    with pytest.raises(NotRunnableError, match="'x' is no tensor"):
        Torch().program(Fragment((Node("r", "Relu", ("x",), ("y",)),), ("y",), {"": 20})).run({"x": []})
    with pytest.raises(NotRunnableError, match="must match"):
        Torch().program(GEMM).run(gemm_values() | {"b": np.ones(7, np.float32)})


def test_the_reference_evaluator_refuses_in_one_line() -> None:
    fragment = Fragment((Node("n", "Nonsense", ("x",), ("y",), domain="mine"),), ("y",), {"mine": 1, "": 20})
    with pytest.raises(NotRunnableError) as caught:
        Reference().program(fragment).run({"x": np.ones(3, np.float32)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["recurrent", "scorer"])
def test_torch_computes_a_node_as_the_module_does(name: str) -> None:
    model, inputs = traced(name)
    assert model.weights is not None
    module = deepstruct.to_module(model).eval()
    assert isinstance(module, StructureModule)
    values: dict[str, Any] = {c: tensor.to_array() for c, tensor in model.structure.constants.items()}
    values |= {p: model.weights[p] for p in model.weights}
    fixed = frozenset(values)
    values |= inputs
    for node in model.structure.nodes:
        outputs = tuple(output for output in node.outputs if output)
        needed = {name: values[name] for name in node.inputs if name}
        results = Torch().program(Fragment((node,), outputs, model.structure.opset)).run(needed, fixed)
        tensors = {name: to_tensor(value, value.dtype.name) for name, value in needed.items()}
        with torch.no_grad():
            expected = module._run(node, tensors) if node.op_type != "Constant" else ()
        for result, tensor in zip(results, expected, strict=False):
            assert isinstance(result, np.ndarray)
            assert result.shape == tensor.shape
            assert result.tobytes() == tensor.contiguous().numpy().tobytes()
        values.update(zip(outputs, results, strict=True))


def test_outputs_may_be_inputs() -> None:
    fragment = Fragment((Node("r", "Relu", ("x",), ("y",)),), ("x", "y"), {"": 20})
    for runtime in RUNTIMES:
        x, y = runtime.program(fragment).run({"x": np.array([-1, 2], np.float32)})
        assert isinstance(x, np.ndarray)
        assert isinstance(y, np.ndarray)
        assert x.tolist() == [-1, 2]
        assert y.tolist() == [0, 2]


def test_types_of_values_are_those_of_onnx() -> None:
    fragment = Fragment((Node("r", "Relu", ("x",), ("y",)),), ("y",), {"": 20})
    for runtime in (OnnxRuntime(), Torch()):
        with pytest.raises(NotRunnableError, match=r"longdouble|float128"):
            runtime.program(fragment).run({"x": np.ones(2, np.longdouble)})


def test_a_missing_framework_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "deepstruct.verification.torch_programs", raising=False)
    with pytest.raises(MissingDependencyError, match=r"deepstruct\[torch\]"):
        Torch().program(GEMM)
