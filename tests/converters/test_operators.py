"""Every operator that is mapped to torch computes what onnxruntime computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from deepstruct import Model, Node, Structure, Tensor, ValueInfo
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
    *(("GlobalLpPool", [RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)], {"p": p}) for p in (1, 2, 3)),
    ("LayerNormalization", [X, ROW], {}),
    ("LayerNormalization", [THREE, ROW, ROW], {"epsilon": 0.1}),
    ("LayerNormalization", [THREE, RNG.standard_normal((3, 4)).astype(np.float32)], {"axis": 1}),
]


def both(
    op_type: str,
    arrays: list[Any],
    attributes: dict[str, Any],
    opset: int,
    constants: tuple[int, ...] = (),
    count: int = 1,
) -> list[tuple[Any, Any]]:
    """Outputs of torch and of onnxruntime; the inputs at `constants` are part of the structure."""
    names = ["" if array is None else f"i{position}" for position, array in enumerate(arrays)]
    fixed = {f"i{position}" for position in constants}
    given = {name: array for name, array in zip(names, arrays, strict=True) if name}
    fed = {name: array for name, array in given.items() if name not in fixed}
    values = {name: (name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape) for name, array in given.items()}
    outputs = [f"y{position}" for position in range(count)]
    graph = helper.make_graph(
        [helper.make_node(op_type, names, outputs, **attributes)],
        "g",
        [helper.make_tensor_value_info(*values[name]) for name in fed],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(given[name], name) for name in names if name in fixed],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    theirs = session.run(None, fed)
    structure = Structure(
        nodes=(Node("n", op_type, tuple(names), tuple(outputs), attributes),),
        inputs=tuple(ValueInfo(name, str(array.dtype), array.shape) for name, array in fed.items()),
        outputs=tuple(ValueInfo(name, str(array.dtype), None) for name, array in zip(outputs, theirs, strict=True)),
        constants={name: Tensor.from_array(given[name]) for name in names if name in fixed},
        opset={"": opset},
    )
    ours = to_module(Model(structure))(*(torch.from_numpy(array.copy()) for array in fed.values()))
    ours = ours if isinstance(ours, tuple) else (ours,)
    return [(mine.numpy(), other) for mine, other in zip(ours, theirs, strict=True)]


def assert_same(pairs: list[tuple[Any, Any]], rtol: float = 1e-5, atol: float = 1e-5) -> None:
    for ours, theirs in pairs:
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("op_type", "arrays", "attributes"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_operators_compute_what_onnxruntime_computes(
    op_type: str, arrays: list[Any], attributes: dict[str, Any]
) -> None:
    assert_same(both(op_type, arrays, attributes, 22 if op_type == "HardSwish" else 20))


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_softmax_before_opset_13_runs_over_several_dimensions(op_type: str, axis: int) -> None:
    assert_same(both(op_type, [THREE], {"axis": axis}, 11))


Case = tuple[list[Any], dict[str, Any]]
Draw = Callable[[np.random.Generator], Case]


def numbers(rng: np.random.Generator, *shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


def windows(rng: np.random.Generator, rank: int, *, most_pad: int, dilated: bool = True) -> dict[str, Any]:
    """Kernel, strides, dilations and padding of one operator, explicit or automatic."""
    kernel = [int(k) for k in rng.integers(1, 4, rank)]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": [int(s) for s in rng.integers(1, 4, rank)]}
    if dilated and rng.random() < 0.5:
        attributes["dilations"] = [int(d) for d in rng.integers(1, 3, rank)]
    if rng.random() < 0.3:
        attributes["auto_pad"] = str(rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    elif rng.random() < 0.8:
        attributes["pads"] = [int(rng.integers(0, min(k, most_pad + 1))) for k in kernel * 2]
    return attributes


def extents(rng: np.random.Generator, rank: int) -> list[int]:
    return [int(extent) for extent in rng.integers(7, 12, rank)]


def conv(rng: np.random.Generator) -> Case:
    rank, group = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    attributes = windows(rng, rank, most_pad=3) | {"group": group}
    weight = numbers(rng, 3 * group, 2, *attributes["kernel_shape"])
    bias = numbers(rng, 3 * group) if rng.random() < 0.5 else None
    if "auto_pad" in attributes:
        attributes.pop("dilations", None)
    return [numbers(rng, 2, 2 * group, *extents(rng, rank)), weight, bias], attributes


def conv_transpose(rng: np.random.Generator) -> Case:
    rank, group = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    attributes = windows(rng, rank, most_pad=2) | {"group": group}
    strides = attributes["strides"]
    x = numbers(rng, 2, 2 * group, *extents(rng, rank))
    if "auto_pad" in attributes:
        attributes.pop("dilations", None)
        attributes["strides"] = [min(pair) for pair in zip(strides, attributes["kernel_shape"], strict=True)]
    elif rng.random() < 0.5:
        attributes["output_padding"] = [int(rng.integers(0, stride)) for stride in strides]
    elif rng.random() < 0.5:
        attributes.pop("pads", None)
        attributes["output_shape"] = [extent * stride for extent, stride in zip(x.shape[2:], strides, strict=True)]
        attributes["kernel_shape"] = [max(k, s) for k, s in zip(attributes["kernel_shape"], strides, strict=True)]
    weight = numbers(rng, 2 * group, 3, *attributes["kernel_shape"])
    return [x, weight, numbers(rng, 3 * group) if rng.random() < 0.5 else None], attributes


def pool(rng: np.random.Generator, **more: int) -> Case:
    rank = int(rng.integers(1, 4))
    attributes = windows(rng, rank, most_pad=2) | more
    if "auto_pad" in attributes:
        attributes.pop("dilations", None)
        attributes["strides"] = [
            min(pair) for pair in zip(attributes["strides"], attributes["kernel_shape"], strict=True)
        ]
    elif rng.random() < 0.5:
        attributes["ceil_mode"] = 1
    return [numbers(rng, 2, 3, *extents(rng, rank))], attributes


def batch_norm(rng: np.random.Generator) -> Case:
    shape = (3, 4, *extents(rng, int(rng.integers(0, 4))))
    statistics = [numbers(rng, 4), numbers(rng, 4), numbers(rng, 4), np.abs(numbers(rng, 4)) + 0.1]
    return [numbers(rng, *shape), *statistics], {"epsilon": float(rng.choice([1e-5, 0.1]))}


def recurrent(rng: np.random.Generator, gates: int, activations: int) -> Case:
    steps, batch, size, hidden = (int(extent) for extent in rng.integers(2, 6, 4))
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    directions = 2 if direction == "bidirectional" else 1
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    arrays = [
        numbers(rng, steps, batch, size),
        numbers(rng, directions, gates * hidden, size),
        numbers(rng, directions, gates * hidden, hidden),
        numbers(rng, directions, 2 * gates * hidden) if rng.random() < 0.7 else None,
        rng.integers(1, steps + 1, batch).astype(np.int32) if rng.random() < 0.4 else None,
        numbers(rng, directions, batch, hidden) if rng.random() < 0.5 else None,
    ]
    if rng.random() < 0.3:
        attributes["clip"] = 0.5
    if rng.random() < 0.3:
        names = ["Relu", "Tanh", "Sigmoid", "Softsign", "HardSigmoid", "LeakyRelu", "ScaledTanh", "Elu", "Affine"]
        attributes["activations"] = [str(name) for name in rng.choice(names, activations * directions)]
        attributes["activation_alpha"] = [0.3] * activations * directions
        attributes["activation_beta"] = [0.6] * activations * directions
    return arrays, attributes


def rnn(rng: np.random.Generator) -> Case:
    return recurrent(rng, 1, 1)


def gru(rng: np.random.Generator) -> Case:
    arrays, attributes = recurrent(rng, 3, 2)
    return arrays, attributes | {"linear_before_reset": int(rng.integers(0, 2))}


def lstm(rng: np.random.Generator) -> Case:
    arrays, attributes = recurrent(rng, 4, 3)
    directions, hidden, batch = arrays[2].shape[0], arrays[2].shape[2], arrays[0].shape[1]
    arrays.append(numbers(rng, directions, batch, hidden) if rng.random() < 0.5 else None)
    arrays.append(numbers(rng, directions, 3 * hidden) if rng.random() < 0.4 else None)
    return arrays, attributes | {"input_forget": int(rng.random() < 0.2)}


def resize(rng: np.random.Generator) -> Case:
    mode = str(rng.choice(["nearest", "linear", "cubic"]))
    shape = (1, 2, *(int(extent) for extent in rng.integers(3, 8, 2)))
    modes = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": str(rng.choice(modes))}
    if mode == "nearest":
        attributes["nearest_mode"] = str(rng.choice(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]))
    if mode == "cubic":
        attributes |= {"cubic_coeff_a": float(rng.choice([-0.5, -0.75])), "exclude_outside": int(rng.integers(0, 2))}
    if rng.random() < 0.5:
        sizes = np.array([1, 2, *rng.integers(2, 12, 2)])
        return [numbers(rng, *shape), None, None, sizes], attributes
    scales = np.array([1, 1, *rng.choice([0.5, 0.6, 1.5, 2, 3], 2)], np.float32)
    return [numbers(rng, *shape), None, scales], attributes


def gather(rng: np.random.Generator) -> Case:
    x = numbers(rng, *extents(rng, 3))
    axis = int(rng.integers(-3, 3))
    indices = rng.integers(-x.shape[axis], x.shape[axis], tuple(rng.integers(1, 4, rng.integers(0, 3))))
    return [x, np.asarray(indices, np.int64)], {"axis": axis}


def slices(rng: np.random.Generator) -> Case:
    x = numbers(rng, *extents(rng, 4))
    axes = rng.permutation(4)[: rng.integers(1, 5)]
    bounds = rng.integers(-15, 15, (2, len(axes)))
    steps = rng.choice([-3, -2, -1, 1, 2, 3], len(axes))
    return [x, bounds[0], bounds[1], axes - 4 * rng.integers(0, 2, len(axes)), steps], {}


def pad(rng: np.random.Generator) -> Case:
    mode = str(rng.choice(["constant", "reflect", "edge", "wrap"]))
    x = numbers(rng, *extents(rng, 3))
    sizes = rng.integers(-2 if mode == "constant" else 0, 5, 6)
    value = np.array(rng.standard_normal(), np.float32) if mode == "constant" else None
    return [x, sizes, value], {"mode": mode}


def reduction(rng: np.random.Generator) -> Case:
    x = np.abs(numbers(rng, *extents(rng, 4))) + 0.1
    axes = rng.permutation(4)[: rng.integers(0, 4)]
    options = {"keepdims": int(rng.integers(0, 2)), "noop_with_empty_axes": int(rng.integers(0, 2))}
    return [x, axes if len(axes) else None], options


REDUCTIONS = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]
DRAWN: dict[str, tuple[Draw, tuple[int, ...], int, int]] = {  # draw, constant inputs, outputs, opset
    "AveragePool": (lambda rng: pool(rng, count_include_pad=int(rng.integers(0, 2))), (), 1, 20),
    "BatchNormalization": (batch_norm, (), 1, 20),
    "Conv": (conv, (), 1, 20),
    "ConvTranspose": (conv_transpose, (), 1, 20),
    "GRU": (gru, (), 2, 14),
    "Gather": (gather, (1,), 1, 20),
    "LSTM": (lstm, (), 3, 14),
    "LpPool": (lambda rng: pool(rng, p=int(rng.integers(1, 4))), (), 1, 18),
    "MaxPool": (lambda rng: pool(rng, storage_order=int(rng.integers(0, 2))), (), 2, 20),
    "Pad": (pad, (1, 2), 1, 19),
    "RNN": (rnn, (), 2, 14),
    "Resize": (resize, (2, 3), 1, 19),
    "Slice": (slices, (1, 2, 3, 4), 1, 20),
    **{f"Reduce{name}": (reduction, (1,), 1, 20) for name in REDUCTIONS},
}


@pytest.mark.parametrize("op_type", sorted(DRAWN))
def test_drawn_operators_compute_what_onnxruntime_computes(op_type: str) -> None:
    draw, constants, count, opset = DRAWN[op_type]
    for seed in range(8 if op_type.startswith("Reduce") else 60):
        arrays, attributes = draw(np.random.default_rng(seed))
        places = tuple(place for place in constants if place < len(arrays) and arrays[place] is not None)
        try:
            assert_same(both(op_type, arrays, attributes, opset, places, count), rtol=1e-4, atol=1e-4)
        except Exception as error:
            error.add_note(f"seed {seed}: {[getattr(a, 'shape', None) for a in arrays]} {attributes}")
            raise


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
        with pytest.raises(UnsupportedError, match=r"'n': Dropout .* in training mode it is random"):
            to_module(model)
    else:
        assert torch.equal(to_module(model)(torch.from_numpy(X)), torch.from_numpy(X))
