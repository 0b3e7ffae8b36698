"""Operators with inputs of many kinds, for the tests of the rounding bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
from verification.bound_runtimes import DTYPES, Array, Build, Draw, Subject


def _gemm(d: Draw) -> list[Any]:
    m, k, n = d.size(), d.size(1, 300), d.size(3, 20)
    return [d(m, k), d.sparse(n, k, density=float(d.rng.choice([0.1, 1.0]))), d(n)]


def _matmul(d: Draw) -> list[Any]:
    m, k, n = d.size(), d.size(1, 200), d.size()
    shapes = [((m, k), (k, n)), ((k,), (k, n)), ((m, k), (k,)), ((2, m, k), (k, n)), ((2, 1, m, k), (3, k, n))]
    left, right = shapes[d.size(0, 4)]
    return [d(*left), d.sparse(*right, density=0.3)]


def _conv(d: Draw) -> list[Any]:
    c, h, w = 2 * d.size(1, 4), d.size(5, 12), d.size(5, 12)
    return [d(d.size(1, 3), c, h, w), d.sparse(6, c // 2, 3, 2, density=0.5), d(6)]


def _conv_transpose(d: Draw) -> list[Any]:
    c = 2 * d.size(1, 4)
    return [d(2, c, d.size(3, 7), d.size(3, 7)), d.sparse(c, 3, 3, 2, density=0.5), d(6)]


def _norm(d: Draw) -> list[Any]:
    c = 2 * d.size(1, 5)
    return [d(2, c, d.size(3, 9), d.size(3, 9), shift=d.scale * float(d.rng.choice([0, 0, 3]))), d.one(c), d.one(c)]


def _layer_norm(d: Draw) -> list[Any]:
    n = d.size(2, 200)
    return [d(d.size(), n, shift=d.scale * float(d.rng.choice([0, 0, 3]))), d.one(n), d.one(n)]


def _batch_norm(d: Draw) -> list[Any]:
    x, scale, bias = _norm(d)
    return [x, scale, bias, d(len(scale)), np.abs(d(len(scale))) * np.asarray(d.scale, x.dtype)]


def _recurrent(gates: int, states: int, extra: bool = False, directions: int = 1) -> Build:
    def build(d: Draw) -> list[Any]:
        steps, batch, inputs, hidden = d.size(1, 6), d.size(1, 4), d.size(1, 9), d.size(2, 8)
        shape = (directions, batch, hidden)
        arrays = [
            d(steps, batch, inputs),
            d.sparse(directions, gates * hidden, inputs, density=0.5),
            d.sparse(directions, gates * hidden, hidden, density=0.5),
            d.one(directions, 2 * gates * hidden),
            d.integers(1, steps, batch, dtype=np.int32) if extra else None,
            *(d.one(*shape) for _ in range(states)),
        ]
        if extra and states == 2:
            arrays.append(d.one(directions, 3 * hidden))
        return arrays

    return build


def _x(d: Draw) -> list[Any]:
    return [d(d.size(2, 5), d.size(2, 6), d.size(2, 40))]


def _unit(d: Draw) -> list[Any]:
    return [(d.rng.uniform(-1, 1, (5, 40))).astype(DTYPES[d.dtype])]


def _two(d: Draw) -> list[Any]:
    n = d.size(1, 30)
    return [d(d.size(), n), d.one(n)]


def _image(d: Draw) -> Array:
    return d(2, 3, d.size(4, 9), d.size(4, 9))


def _resize(d: Draw) -> list[Any]:
    x = _image(d)
    return [x, None, None, np.array([2, 3, d.size(3, 25), d.size(3, 25)])]


def _attention(d: Draw) -> list[Any]:
    b, h, s, t, e = 2, 2, d.size(2, 5), d.size(2, 20), 4 * d.size(1, 4)
    mask = np.where(d.rng.random((s, t)) < 0.8, 0, -np.inf)
    mask[:, 0] = 0
    return [d.one(b, h, s, e), d(b, h, t, e), d(b, h, t, e), mask.astype(DTYPES[d.dtype])]


def _attention_flat(d: Draw) -> list[Any]:
    b, s, t, e, past = 2, d.size(2, 5), d.size(2, 9), 4 * d.size(1, 4), d.size(1, 4)
    return [d.one(b, s, 4 * e), d(b, t, 2 * e), d(b, t, 2 * e), None, d(b, 2, past, e), d(b, 2, past, e)]


def _loss(d: Draw) -> list[Any]:
    n, c = d.size(2, 6), d.size(2, 9)
    return [d(n, c, 3), d.integers(0, c - 1, n, 3), np.abs(d.one(c)) + np.asarray(0.1, DTYPES[d.dtype])]


def _causal(d: Draw) -> list[Any]:
    return [d(2, 4, 9), d.one(4, 1, 3), d.one(4), d(2, 4, 2)]


def _quantize(d: Draw) -> list[Any]:
    return [d(5, 40), np.asarray(d.scale / 37, DTYPES[d.dtype]), np.asarray(d.size(100, 150), np.uint8)]


def _dequantize(d: Draw) -> list[Any]:
    return [d.integers(0, 255, 5, 40, dtype=np.uint8), np.asarray(d.scale / 37, DTYPES[d.dtype]), np.uint8(120)]


def _qlinear_matmul(d: Draw) -> list[Any]:
    k = d.size(1, 60)
    scales = [np.float32(x) for x in (0.02, 0.013, 0.3)]
    a, b = d.integers(0, 255, 4, k, dtype=np.uint8), d.integers(0, 255, k, 5, dtype=np.uint8)
    return [a, scales[0], np.uint8(120), b, scales[1], np.uint8(130), scales[2], np.uint8(128)]


def _qlinear_conv(d: Draw) -> list[Any]:
    x, w = d.integers(0, 255, 1, 3, 6, 7, dtype=np.uint8), d.integers(-99, 99, 4, 3, 3, 2, dtype=np.int8)
    bias = d.integers(-999, 999, 4, dtype=np.int32)
    scale = np.abs(d.rng.standard_normal(4)).astype(np.float32) / 100
    return [x, np.float32(0.02), np.uint8(120), w, scale, np.zeros(4, np.int8), np.float32(0.1), np.uint8(128), bias]


def _axes(d: Draw) -> list[Any]:
    return [*_x(d), np.array([[1], [2], [0, 2], [0, 1, 2]][d.size(0, 3)])]


def _positive_axes(d: Draw) -> list[Any]:
    return [d.positive(3, 4, 30), np.array([1, 2])]


REFERENCE = ("reference",)
BACKWARDS = {"hidden_size": 0, "direction": "reverse"}
TWO_WAYS = {"hidden_size": 0, "direction": "bidirectional"}
FLOATS = ("float32", "float16")

FUNCTIONS = (
    *("Asinh", "Atan", "Celu", "Cos", "Cosh", "Elu", "Exp", "Gelu", "HardSigmoid", "LeakyRelu"),
    *("Mish", "Reciprocal", "Selu", "Sigmoid", "Sin", "Sinh", "Softplus", "Softsign", "Tan", "Tanh"),
)

SUBJECTS = [
    *(Subject(name, _x) for name in FUNCTIONS),
    *(Subject(name, _x, wrong=REFERENCE) for name in ("Erf", "HardSwish")),
    Subject("Shrink", _x, {}, wrong=("onnxruntime",)),
    *(Subject(name, lambda d: [d.positive(4, 30)]) for name in ("Log", "Sqrt")),
    *(Subject(name, _unit) for name in ("Acos", "Asin", "Atanh")),
    Subject("Acosh", lambda d: [d.positive(4, 30) + np.asarray(1, DTYPES[d.dtype])]),
    Subject("Celu", _x, {"alpha": 0.3}),
    Subject("Elu", _x, {"alpha": 2.3}),
    Subject("Gelu", _x, {"approximate": "tanh"}),
    Subject("HardSigmoid", _x, {"alpha": 0.3, "beta": 0.1}),
    Subject("LeakyRelu", _x, {"alpha": 0.3}),
    Subject("Selu", _x, {"alpha": 1.3, "gamma": 2.1}),
    Subject("Shrink", _x, {"bias": 0.3, "lambd": 0.7}, wrong=("onnxruntime",)),
    Subject("Swish", _x, {"alpha": 1.7}, opset=24),
    *(Subject(name, _two) for name in ("Add", "Div", "Mean", "Mul", "PRelu", "Sub", "Sum")),
    *(Subject(name, lambda d: [d(3, 7), d(7), d(3, 1), d(3, 7)]) for name in ("Mean", "Sum")),
    Subject("Mod", _two, {"fmod": 1}),
    Subject("Pow", lambda d: [d.positive(4, 30), d.one(30)]),
    Subject("Pow", lambda d: [d(4, 30), np.asarray(d.size(-3, 4), DTYPES[d.dtype])]),
    Subject("Range", lambda d: [np.asarray(v, DTYPES[d.dtype]) for v in (d.scale, 40.3 * d.scale, 0.7 * d.scale)]),
    Subject("Gemm", _gemm, {"transB": 1}),
    Subject("Gemm", lambda d: _gemm(d)[:2], {"transB": 1, "alpha": 0.3}),
    Subject("Gemm", _gemm, {"transB": 1, "alpha": 0.5, "beta": 1.7}),
    Subject("MatMul", _matmul),
    Subject("Conv", _conv, {"group": 2, "pads": [1, 0, 2, 1], "strides": [2, 1]}),
    Subject(
        "Conv", lambda d: [d(1, 3, 20), d.sparse(4, 3, 4, density=0.5)], {"dilations": [2], "auto_pad": "SAME_UPPER"}
    ),
    Subject("ConvTranspose", _conv_transpose, {"group": 2, "strides": [2, 1], "pads": [1, 0, 1, 0]}),
    Subject("Einsum", lambda d: [d(3, 4, 20), d.sparse(2, 20, 5)], {"equation": "bij,cjk->bcik"}),
    Subject("Einsum", lambda d: [d(4, 20), d.one(20, 6), d.one(6, 3)], {"equation": "ij,jk,kl->il"}),
    *(Subject(name, _axes, {"keepdims": 0}) for name in ("ReduceL1", "ReduceL2", "ReduceMean", "ReduceSum")),
    *(Subject(name, _axes) for name in ("ReduceLogSumExp", "ReduceSumSquare")),
    Subject("ReduceProd", _axes, scales=(0.1, 1.0, 3.0)),
    Subject("ReduceLogSum", _positive_axes),
    Subject("CumSum", lambda d: [d(4, 30), np.array(1)], {"reverse": 1, "exclusive": 1}),
    Subject("AveragePool", lambda d: [_image(d)], {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [1, 2]}),
    Subject("GlobalAveragePool", lambda d: [_image(d)]),
    Subject("GlobalLpPool", lambda d: [_image(d)], {"p": 2}),
    Subject("LpPool", lambda d: [_image(d)], {"kernel_shape": [3, 2], "p": 2}),
    Subject("ScatterElements", lambda d: [d(5, 3), d.integers(0, 4, 9, 3), d(9, 3)], {"reduction": "add"}),
    Subject("ScatterND", lambda d: [d(5, 3), d.integers(0, 4, 9, 1), d(9, 3)], {"reduction": "add"}),
    Subject("Det", lambda d: [d(3, 5, 5)], scales=(1e-3, 1.0, 1e3)),
    Subject("BatchNormalization", _batch_norm),
    Subject("InstanceNormalization", _norm),
    Subject("GroupNormalization", _norm, {"num_groups": 2}),
    Subject("LayerNormalization", _layer_norm, wrong=REFERENCE),
    Subject("LayerNormalization", _layer_norm, {"epsilon": 0.01}, outputs=3, wrong=REFERENCE),
    Subject("RMSNormalization", lambda d: _layer_norm(d)[:2], opset=23, wrong=REFERENCE),
    Subject("LpNormalization", _x),
    Subject("LpNormalization", _x, {"p": 1, "axis": 1}, wrong=REFERENCE),
    Subject("LRN", lambda d: [d(2, 7, 3, 4)], {"size": 3, "alpha": 0.3, "bias": 1.5}, wrong=REFERENCE),
    Subject("MeanVarianceNormalization", lambda d: [_image(d)]),
    Subject("Softmax", _x),
    Subject("Softmax", _x, {"axis": 1}, opset=11, wrong=REFERENCE),
    Subject("LogSoftmax", _x, {"axis": 1}, wrong=REFERENCE),
    Subject("Attention", _attention, opset=24),
    Subject("Attention", lambda d: _attention(d)[:3], {"softcap": 5.0, "is_causal": 1}, opset=24),
    Subject("Attention", _attention_flat, {"q_num_heads": 4, "kv_num_heads": 2, "scale": 0.3}, outputs=3, opset=24),
    Subject("Attention", _attention, {"qk_matmul_output_mode": 3}, outputs=4, opset=24),
    Subject("RotaryEmbedding", lambda d: [d(2, 3, 4, 8), d.one(2, 4, 4), d.one(2, 4, 4)], opset=23),
    Subject("NegativeLogLikelihoodLoss", _loss),
    Subject("SoftmaxCrossEntropyLoss", _loss, outputs=2, wrong=REFERENCE),
    Subject("LSTM", _recurrent(4, 2), {"hidden_size": 0}, outputs=3),
    Subject("LSTM", _recurrent(4, 2, True, 2), {**TWO_WAYS, "clip": 0.7}, outputs=3, wrong=REFERENCE),
    Subject("LSTM", _recurrent(4, 2), {"hidden_size": 0, "input_forget": 1}, outputs=3, wrong=REFERENCE),
    Subject("GRU", _recurrent(3, 1), {"hidden_size": 0}, outputs=2),
    Subject("GRU", _recurrent(3, 1, True), {**BACKWARDS, "linear_before_reset": 1}, outputs=2, wrong=REFERENCE),
    Subject("RNN", _recurrent(1, 1), {"hidden_size": 0}, outputs=2),
    Subject("RNN", _recurrent(1, 1), {"hidden_size": 0, "activations": ["Relu"]}, outputs=2, wrong=REFERENCE),
    *(
        Subject("Resize", _resize, {"mode": mode}, constants=(3,), wrong=REFERENCE)
        for mode in ("linear", "cubic", "nearest")
    ),
    Subject("GridSample", lambda d: [_image(d), np.clip(d.one(2, 4, 5, 2), -2, 2)]),
    Subject("DFT", lambda d: [d(2, d.size(2, 40), 3, 1), None, np.array(1)], wrong=REFERENCE),
    Subject("DFT", lambda d: [d(2, d.size(2, 40), 2)], {"inverse": 1, "axis": 1}, opset=17, wrong=REFERENCE),
    Subject("STFT", lambda d: [d(2, 40, 1), np.array(4), d.one(8)], {"onesided": 1}, wrong=REFERENCE),
    *(Subject(f"{name}Window", lambda d: [np.array(d.size(2, 50))]) for name in ("Blackman", "Hamming", "Hann")),
    Subject("SwiGLU", lambda d: [d(4, 30), d.one(4, 30)], opset=27),
    Subject("CausalConvWithState", _causal, {"activation": "silu"}, outputs=2, opset=27, wrong=REFERENCE),
    Subject("AffineGrid", lambda d: [d(2, 2, 3), np.array([2, 1, 4, 5])], wrong=REFERENCE),
    Subject("Col2Im", lambda d: [d(2, 12, 20), np.array([5, 6]), np.array([2, 2])]),
    Subject("CumProd", lambda d: [d(4, 20), np.array(1)], opset=26, scales=(0.1, 1.0, 3.0)),
    Subject("QuantizeLinear", _quantize, dtypes=FLOATS, wrong=REFERENCE),
    Subject("DequantizeLinear", _dequantize, dtypes=FLOATS),
    Subject("DynamicQuantizeLinear", lambda d: [d(5, 40)], dtypes=("float32",), outputs=3),
    Subject("QLinearMatMul", _qlinear_matmul, dtypes=("float32",)),
    Subject("QLinearConv", _qlinear_conv, dtypes=("float32",)),
]
