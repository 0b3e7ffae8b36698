"""Every operator that is mapped to torch computes what onnxruntime computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import helper

from deepstruct import Model, Node, Structure, Tensor, ValueInfo
from deepstruct.converters import torch_operators
from deepstruct.converters.torch import to_module
from deepstruct.errors import UnsupportedError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4)).astype(np.float32) * 3
POSITIVE = np.abs(X) + 0.1
ROW = RNG.standard_normal(4).astype(np.float32)
W = RNG.standard_normal((4, 5)).astype(np.float32)
INTEGERS = RNG.integers(-9, 9, (3, 4))
THREE = RNG.standard_normal((2, 3, 4)).astype(np.float32)

PLAIN = (
    *("Abs", "Celu", "Clip", "Dropout", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity"),
    *("LeakyRelu", "LogSoftmax", "Mish", "Neg", "Relu", "Selu", "Sigmoid", "Softmax", "Softplus", "Softsign", "Tanh"),
)

CASES: list[tuple[str, list[Any], dict[str, Any]]] = [
    *((name, [X], {}) for name in PLAIN),
    *((name, [POSITIVE], {}) for name in ("Log", "Sqrt")),
    *((name, [X, ROW], {}) for name in ("Add", "Div", "Max", "Min", "Mul", "PRelu", "Sub", "Sum")),
    *((name, [INTEGERS, INTEGERS | 1], {}) for name in ("Add", "Div", "Mul", "Sub")),
    ("Sum", [X, ROW, X], {}),
    ("Max", [X], {}),
    ("Min", [X, ROW, X], {}),
    ("Pow", [POSITIVE, ROW], {}),
    ("Pow", [POSITIVE, np.array(3, np.int64)], {}),
    ("Pow", [np.abs(INTEGERS), np.array(2.0, np.float32)], {}),
    ("Celu", [X], {"alpha": 0.5}),
    ("Elu", [X], {"alpha": 2.0}),
    ("Gelu", [X], {"approximate": "tanh"}),
    ("HardSigmoid", [X], {"alpha": 0.3, "beta": 0.1}),
    ("LeakyRelu", [X], {"alpha": 0.3}),
    ("Selu", [X], {"alpha": 1.5, "gamma": 2.0}),
    ("Selu", [X], {"gamma": 2.0}),
    ("Softmax", [THREE], {"axis": 1}),
    ("LogSoftmax", [THREE], {"axis": -2}),
    ("Clip", [X, np.array(-1, np.float32)], {}),
    ("Clip", [X, None, np.array(1, np.float32)], {}),
    ("Clip", [X, np.array(-1, np.float32), np.array(1, np.float32)], {}),
    *(("Flatten", [THREE], {"axis": axis}) for axis in (0, 1, 2, 3, -1)),
    ("MatMul", [X, W], {}),
    ("MatMul", [THREE, W], {}),
    ("MatMul", [THREE, ROW], {}),
    ("Gemm", [X, W], {}),
    ("Gemm", [X, W.T.copy(), RNG.standard_normal(5).astype(np.float32)], {"transB": 1}),
    ("Gemm", [X.T.copy(), W, np.array(2, np.float32)], {"transA": 1, "alpha": 0.5, "beta": 3.0}),
    ("Gemm", [X, W, RNG.standard_normal((3, 1)).astype(np.float32)], {"beta": 0.0}),
    ("LayerNormalization", [X, ROW], {}),
    ("LayerNormalization", [THREE, ROW, ROW], {"epsilon": 0.1}),
    ("LayerNormalization", [THREE, RNG.standard_normal((3, 4)).astype(np.float32)], {"axis": 1}),
]


def both(op_type: str, arrays: list[Any], attributes: dict[str, Any], opset: int) -> tuple[Any, Any]:
    """Outputs of torch and of onnxruntime."""
    names = ["" if array is None else f"i{position}" for position, array in enumerate(arrays)]
    given = {name: array for name, array in zip(names, arrays, strict=True) if name}
    values = [(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape) for name, array in given.items()]
    graph = helper.make_graph(
        [helper.make_node(op_type, names, ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info(*value) for value in values],
        [helper.make_tensor_value_info("y", values[0][1], None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    structure = Structure(
        nodes=(Node("n", op_type, tuple(names), ("y",), attributes),),
        inputs=tuple(ValueInfo(name, str(array.dtype), array.shape) for name, array in given.items()),
        outputs=(ValueInfo("y", str(arrays[0].dtype), None),),
        opset={"": opset},
    )
    module = to_module(Model(structure))
    return module(*(torch.from_numpy(array) for array in given.values())).numpy(), session.run(None, given)[0]


@pytest.mark.parametrize(
    ("op_type", "arrays", "attributes"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_operators_compute_what_onnxruntime_computes(
    op_type: str, arrays: list[Any], attributes: dict[str, Any]
) -> None:
    opset = 22 if op_type == "HardSwish" else 20
    ours, theirs = both(op_type, arrays, attributes, opset)
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_softmax_before_opset_13_runs_over_several_dimensions(op_type: str, axis: int) -> None:
    ours, theirs = both(op_type, [THREE], {"axis": axis}, 11)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_every_operator_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(torch_operators.OPERATORS)


def small(node: Node, opset: int, constants: dict[str, Tensor]) -> Structure:
    x = ValueInfo("x", "float32", (3, 4))
    return Structure(
        nodes=(node,), inputs=(x,), outputs=(ValueInfo("y", "float32", None),), opset={"": opset}, constants=constants
    )


def test_old_opsets_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="opset 6"):
        to_module(Model(small(Node("n", "Add", ("x", "x"), ("y",)), 6, {})))


@pytest.mark.parametrize("training", [True, False])
def test_dropout_that_drops_is_refused(training: bool) -> None:
    constants = {"ratio": Tensor("float32", (), (0.5,)), "training": Tensor("bool", (), (training,))}
    model = Model(small(Node("n", "Dropout", ("x", "ratio", "training"), ("y",)), 20, constants))
    if training:
        with pytest.raises(UnsupportedError, match="it is random"):
            to_module(model)
    else:
        assert torch.equal(to_module(model)(torch.from_numpy(X)), torch.from_numpy(X))
