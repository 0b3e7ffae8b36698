"""Every runtime lies within the rounding bound of an operator, and a wrong weight does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from verification.bound_cases import REFERENCE, SUBJECTS
from verification.bound_runtimes import KINDS, Array, Draw, Subject, by_torch, drawn, runs

from deepstruct.converters.torch_operators_table import NOT_COMPUTED, OPERATORS
from deepstruct.verification import bounds_exact
from deepstruct.verification.bounds import EXACT, RULES, Bound, bounds, compare, judge
from deepstruct.verification.operations import Operation

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

RNG = np.random.default_rng(0)


def rules(subject: Subject, arrays: list[Array | None], outputs: list[Array]) -> list[Any]:
    return bounds(subject.operation, arrays, subject.opset, [str(output.dtype) for output in outputs])


def bound_of(subject: Subject, arrays: list[Array | None], dtype: str = "float32") -> Bound:
    bound = bounds(subject.operation, arrays, subject.opset, [dtype] * subject.outputs)[0]
    assert isinstance(bound, Bound)
    return bound


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.op_type)
@settings(max_examples=12)
@given(st.data())
def test_runtimes_lie_within_the_bound(subject: Subject, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(subject.dtypes))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    scale, kind = data.draw(st.sampled_from(subject.scales)), data.draw(st.sampled_from(["normal", *KINDS]))
    subject, arrays = drawn(subject, rng, dtype, scale, kind)
    results = runs(subject, arrays)
    if kind != "normal":
        results.pop("reference", None)
    assert dtype != "float32" or "torch" in results
    for name, outputs in results.items():
        for position, (rule, output) in enumerate(zip(rules(subject, arrays, outputs), outputs, strict=True)):
            if rule == EXACT:
                assert compare(output, results["torch"][position]).ratio == 0, name
            else:
                judgement = judge(rule, output)
                assert judgement.is_within, (name, judgement)


LINEAR = [
    Subject("Gemm", lambda d: [d.one(4, 40), d.sparse(9, 40, density=0.5), d.one(9)], {"transB": 1}),
    Subject("MatMul", lambda d: [d.one(4, 40), d.sparse(40, 9, density=0.5)]),
    Subject("Conv", lambda d: [d.one(2, 3, 7, 8), d.sparse(4, 3, 3, 3, density=0.5), d.one(4)]),
    Subject("ConvTranspose", lambda d: [d.one(2, 3, 7, 8), d.sparse(3, 4, 3, 3, density=0.5), d.one(4)]),
    Subject("Einsum", lambda d: [d.one(4, 40), d.sparse(40, 9, density=0.5)], {"equation": "ij,jk->ik"}),
    Subject("PRelu", lambda d: [d.one(4, 40), d.one(40)]),
    Subject("LayerNormalization", lambda d: [d.one(4, 40), d.one(40), d.one(40)]),
    Subject("BatchNormalization", lambda d: [d.one(4, 5, 6), d.one(5), d.one(5), d.one(5), np.abs(d.one(5)) + 1]),
    Subject("RNN", lambda d: [d.one(4, 3, 8), d.one(1, 6, 8) / 3, d.one(1, 6, 6) / 3], {"hidden_size": 6}, outputs=2),
    Subject("GRU", lambda d: [d.one(4, 3, 8), d.one(1, 18, 8) / 3, d.one(1, 18, 6) / 3], {"hidden_size": 6}, outputs=2),
    Subject(
        "LSTM", lambda d: [d.one(4, 3, 8), d.one(1, 24, 8) / 3, d.one(1, 24, 6) / 3], {"hidden_size": 6}, outputs=3
    ),
]


@pytest.mark.parametrize("factor", [0.0, 1.001])
@pytest.mark.parametrize("subject", LINEAR, ids=lambda subject: subject.op_type)
def test_a_wrong_weight_is_out_of_bound(subject: Subject, factor: float) -> None:
    arrays = [np.asarray(x) for x in subject.build(Draw(RNG, "float32", 1.0))]
    bound = bound_of(subject, [*arrays])
    assert judge(bound, by(subject, arrays)).is_within
    assert bound.informative == 1
    for place in np.argwhere(arrays[1] != 0)[:: max(1, arrays[1].size // 20)]:
        wrong = arrays[1].copy()
        wrong[tuple(place)] *= factor
        outputs = by(subject, [arrays[0], wrong, *arrays[2:]])
        share = np.abs(outputs - bound.centre).max() / bound.scale
        assert share < (5e-5 if subject.outputs > 1 else 1e-5) or not judge(bound, outputs).is_within


def by(subject: Subject, arrays: list[Array]) -> Array:
    outputs = by_torch(subject, [*arrays])
    assert outputs is not None
    return outputs[0]


@pytest.mark.parametrize(
    "subject",
    [
        *(
            Subject(name, lambda d: [d.one(6, 30)])
            for name in ("Elu", "Gelu", "Sigmoid", "Softmax", "Softplus", "Tanh")
        ),
        *(Subject(name, lambda d: [np.abs(d.one(6, 30))]) for name in ("Log", "ReduceL2", "ReduceSum", "Sqrt")),
        *(Subject(name, lambda d: [d.one(6, 30), d.one(30)]) for name in ("Add", "Div", "Mul", "Sub")),
        Subject("GlobalAveragePool", lambda d: [d.one(2, 3, 4, 4)]),
        Subject("Resize", lambda d: [d.one(1, 1, 4, 4), None, None, np.array([1, 1, 7, 9])], {"mode": "linear"}),
    ],
    ids=lambda subject: subject.op_type,
)
def test_an_input_wrong_by_a_thousandth_is_out_of_bound(subject: Subject) -> None:
    arrays = subject.build(Draw(RNG, "float32", 1.0))
    outputs = by(subject, [arrays[0] * np.float32(1.001), *arrays[1:]])
    assert not judge(bound_of(subject, arrays), outputs).is_within


MOVED = np.arange(24, dtype=np.float32).reshape(2, 3, 4) - 11.3
EXACT_SUBJECTS = [
    *(
        Subject(name, lambda _: [MOVED])
        for name in ("Abs", "Ceil", "Floor", "Identity", "Neg", "Relu", "Round", "Sign")
    ),
    *(Subject(name, lambda _: [MOVED, MOVED[::-1]]) for name in ("Equal", "Greater", "LessOrEqual", "Max", "Min")),
    *(Subject(name, lambda _: [MOVED]) for name in ("ArgMax", "IsNaN", "NonZero", "ReduceMax", "ReduceMin", "Shape")),
    *(Subject(name, lambda _: [MOVED]) for name in ("Hardmax", "Size", "ThresholdedRelu", "Transpose")),
    Subject("Clip", lambda _: [MOVED, np.float32(-2.2), np.float32(3.1)]),
    Subject("Concat", lambda _: [MOVED, MOVED], {"axis": 1}),
    Subject("Dropout", lambda _: [MOVED]),
    Subject("Expand", lambda _: [MOVED, np.array([5, 2, 3, 4])], constants=(1,)),
    Subject("Gather", lambda _: [MOVED, np.array([2, 0])], {"axis": 1}),
    Subject("GlobalMaxPool", lambda _: [MOVED], wrong=REFERENCE),
    Subject("MaxPool", lambda _: [MOVED], {"kernel_shape": [2]}, outputs=2, wrong=REFERENCE),
    Subject("Pad", lambda _: [MOVED, np.array([0, 1, 0, 1, 0, 2])], {"mode": "reflect"}, constants=(1,)),
    Subject("Reshape", lambda _: [MOVED, np.array([6, 4])]),
    Subject("Slice", lambda _: [MOVED, np.array([3]), np.array([0]), np.array([2]), np.array([-2])]),
    Subject("Split", lambda _: [MOVED], {"axis": 2}, outputs=2, opset=12),
    Subject("Tile", lambda _: [MOVED, np.array([1, 2, 1])]),
    Subject("TopK", lambda _: [MOVED, np.array([2])], {"axis": 0}, outputs=2, constants=(1,)),
    Subject("Where", lambda _: [MOVED > 0, MOVED, MOVED[::-1]]),
    *(Subject(name, lambda _: [np.arange(6), np.arange(6) + 1]) for name in ("Add", "Div", "Mul", "Sub")),
    Subject("MatMul", lambda _: [np.arange(6), np.arange(6) + 1]),
    Subject("Cast", lambda _: [MOVED / np.float32(1e5)], {"to": 10}),
    Subject("Cast", lambda _: [MOVED], {"to": 11}),
    Subject("Cast", lambda _: [np.arange(2**24 - 3, 2**24 + 9)], {"to": 1}),
    Subject("Resize", lambda _: [MOVED, None, np.array([1, 2, 4], np.float32)], {"mode": "nearest"}, constants=(2,)),
]


@pytest.mark.parametrize("subject", EXACT_SUBJECTS, ids=lambda subject: subject.op_type)
def test_what_does_not_round_is_the_same_in_every_runtime(subject: Subject) -> None:
    arrays = [None if x is None else np.ascontiguousarray(x) for x in subject.build(Draw(RNG, "float32", 1.0))]
    results = runs(subject, arrays)
    assert {"torch", "onnxruntime"} <= set(results)
    for outputs in results.values():
        assert rules(subject, arrays, outputs) == [EXACT] * len(outputs)
        for first, second in zip(outputs, results["torch"], strict=True):
            assert compare(first, second).ratio == 0


def test_every_operator_of_torch_has_a_rule_or_is_known_to_have_none() -> None:
    without = {"LinearAttention", "NonMaxSuppression"}
    known = set(RULES) | bounds_exact.INTEGERS
    assert set(OPERATORS) - known == without
    assert not without & known
    assert known - set(OPERATORS) <= set(NOT_COMPUTED)


def operation(op_type: str, outputs: int = 1, **attributes: Any) -> Operation:
    return Operation("n", op_type, (), tuple(f"o{k}" for k in range(outputs)), (), attributes)


def only(op_type: str, *arrays: Any, dtype: str = "float32", **attributes: Any) -> Any:
    (rule,) = bounds(operation(op_type, **attributes), arrays, 22, [dtype])
    return rule


def test_there_is_no_rule_for_what_is_unknown_random_or_left_open() -> None:
    x = np.array([1.5, np.nan], np.float32)
    assert only("LinearAttention", x) is None
    assert only("RandomNormalLike", x) is None
    assert only("Relu", x) is None
    assert only("Relu", x[:1]) == EXACT
    assert only("Dropout", x, None, np.array(True)) is None
    assert bounds(replace(operation("Relu"), domain="com.example"), [x], 22, ["float32"]) == [None]
    assert bounds(operation("TopK", 2, sorted=0), [x[:1], np.array([1])], 22, ["float32", "int64"]) == [None, None]
    assert only("Softmax", x, dtype="float8_e4m3fn") is None
    assert only("RNN", x.reshape(1, 1, 2), activations=("Softsign",), hidden_size=1) is None


def test_only_weights_that_are_not_zero_count() -> None:
    x, weight = np.ones((1, 1000), np.float32), np.zeros((3, 1000), np.float32)
    weight[1, 7] = weight[2, :10] = 1
    bound = only("Gemm", x, weight, transB=1).bound[0]
    assert bound[0] < 1e-30
    assert bound[1] == pytest.approx(3 * 2**-24, rel=1e-3)
    assert bound[2] == pytest.approx(12 * 2**-24 * 10, rel=1e-3)


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Counts matrix products."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "mm" in str(function)
        return function(*args, **(kwargs or {}))


def test_a_matrix_product_takes_two_in_float64() -> None:
    with Products() as products:  # type: ignore[no-untyped-call]  # torch leaves it untyped
        only("Gemm", np.ones((3, 4), np.float32), np.ones((5, 4), np.float32), np.ones(5, np.float32), transB=1)
    assert products.count == 2


def test_what_may_overflow_may_be_anything() -> None:
    big = np.full((1, 4), 1e38, np.float32)
    assert np.isinf(only("MatMul", big, np.array([[9], [9], [-9], [-9]], np.float32)).bound).all()
    assert np.isinf(only("Sinh", np.array([88.9], np.float32)).bound).all()
    assert np.isinf(only("Add", big, big * 3).bound).all()
    assert np.isfinite(only("Add", big, big).bound).all()
    assert np.isinf(only("Exp", np.array([12], np.float16), dtype="float16").bound).all()
    assert np.isinf(only("MatMul", np.array([[np.inf, 1]], np.float32), np.array([[0], [1]], np.float32)).bound).all()


def test_infinities_that_are_given_stay() -> None:
    bound = only("Add", np.array([1, 2], np.float32), np.array([-np.inf, 1], np.float32))
    assert judge(bound, np.array([-np.inf, 3], np.float32)).ratio == 0
    assert not judge(bound, np.array([-1e38, 3], np.float32)).is_within


def test_a_variance_that_cancels_is_of_unknown_error() -> None:
    scale, bias = np.ones(8, np.float32), np.zeros(8, np.float32)
    x = RNG.standard_normal((1, 8)).astype(np.float32)
    assert only("LayerNormalization", x, scale, bias).informative == 1
    assert np.isinf(only("LayerNormalization", x + np.float32(1e4), scale, bias).bound).all()


def test_a_number_out_of_the_range_of_an_integer_may_become_any() -> None:
    bound = only("Cast", np.array([-3.7, 300.0, np.nan, 5e9], np.float32), dtype="int8", to=3)
    assert bound.bound.tolist() == [0, np.inf, np.inf, np.inf]
    assert judge(bound, np.array([-3, 7, 0, 1], np.int8)).is_within
    assert not judge(bound, np.array([-4, 7, 0, 1], np.int8)).is_within


def test_an_integer_may_differ_only_near_a_tie() -> None:
    x, scale = np.array([0.25, 0.3, 0.15], np.float32), np.float32(0.1)
    bound = only("QuantizeLinear", x, np.asarray(scale), np.asarray(np.uint8(0)), dtype="uint8")
    assert bound.bound.tolist() == [0.5, 0, 0.5]
    assert judge(bound, np.array([2, 3, 1], np.uint8)).is_within
    assert judge(bound, np.array([3, 3, 2], np.uint8)).is_within
    assert not judge(bound, np.array([2, 4, 1], np.uint8)).is_within


def test_an_attribute_may_be_rounded_to_the_dtype() -> None:
    x = np.array([-1.0], np.float16)
    assert judge(only("LeakyRelu", x, dtype="float16", alpha=0.3), -np.array([0.3], np.float16)).is_within
    wide = only("LeakyRelu", x.astype(np.float64), dtype="float64", alpha=0.3)
    assert judge(wide, np.array([-0.3])).is_within
    assert judge(wide, -np.array([np.float32(0.3)], np.float64)).is_within
    assert only("LeakyRelu", x.astype(np.float64), dtype="float64", alpha=0.25).bound[0] < 1e-15


def test_half_precision_is_bounded_by_six_deviations() -> None:
    x, weight = np.ones((1, 5000), np.float16) / 100, np.ones((1, 5000), np.float16)
    bound = only("Gemm", x, weight, transB=1, dtype="float16")
    assert bound.bound[0, 0] == pytest.approx(6 * np.sqrt(2 * 5002) * 2**-11 * bound.centre[0, 0], rel=1e-2)
    assert np.isinf(only("Gemm", x * 100, weight * 20, transB=1, dtype="float16").bound).all()


def test_a_judgement_names_the_worst_element() -> None:
    bound = Bound(np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([[0.1, 0.1], [np.inf, 0.0]]))
    judgement = judge(bound, np.array([[1.05, 2.3], [1e9, -0.0]]))
    assert judgement.ratio == pytest.approx(3)
    assert judgement.position == (0, 1)
    assert not judgement.is_within
    assert judgement.informative == 0.25
    assert not judgement.is_informative
    assert judge(bound, np.array([[1.0, 2.0], [np.nan, 1e-9]])).ratio == np.inf
    assert judge(bound, np.array([[np.nan, 2.0], [3.0, 0.0]])).position == (0, 0)
    assert judge(bound, np.zeros(4)).ratio == np.inf
    assert judge(Bound(np.zeros(0), np.zeros(0)), np.zeros(0)).is_informative


def test_outputs_are_the_same_but_for_the_sign_of_zero_and_kinds_of_nan() -> None:
    x = np.array([0.0, np.nan, 1.0], np.float32)
    assert compare(x, np.array([-0.0, -np.nan, 1.0], np.float32)).ratio == 0
    assert compare(x, x.astype(ml_dtypes.bfloat16)).ratio == np.inf
    assert compare(x.astype(ml_dtypes.bfloat16), x.astype(ml_dtypes.bfloat16)).ratio == 0
    assert compare(x, np.array([0.0, np.nan, 1.0000001], np.float32)).position == (2,)
    assert compare(np.array(["a", "b"], object), np.array(["a", "c"], object)).position == (1,)
