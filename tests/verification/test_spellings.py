"""Spellings of one computation align, look-alikes do not: axes, extents, padding, decompositions, fixed inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from verification.drafts import assert_sound, ints, node

from deepstruct.frozen import FrozenMapping
from deepstruct.structure import Node, Parameter, Structure, ValueInfo
from deepstruct.tensor import Tensor
from deepstruct.verification.alignment import align
from deepstruct.verification.identity import Comparison, Leaf
from deepstruct.verification.operations import Alignment, LeafPair

Shape = tuple[int | str | None, ...]


def number(value: float, *shape: int, dtype: str = "float32") -> Tensor:
    return Tensor(dtype, shape, (value,))


CONSTANTS: dict[str, Tensor] = {
    **{f"i{n}": ints(n) for n in range(-3, 9)},
    "i2_3": ints(2, 3),
    "i-1_-2": ints(-1, -2),
    "i1_3": ints(1, 3),
    "i4_4": ints(4, 4),
    "i5_3": ints(5, 3),
    "i2_2_4": ints(2, 2, 4),
    "i2_4_2": ints(2, 4, 2),
    "last": ints(2**63 - 1),
    "scalar-1": Tensor("int64", (), (-1,)),
    "scalar7": Tensor("int64", (), (7,)),
    "scalar6": Tensor("int64", (), (6,)),
    "huge": ints(2**40),
    **{f"f{value:g}": number(value) for value in (0.0, 1.0, 2.0, 3.0, 6.0, 20.0, 0.5, 5.0, 10.0)},
    "root": number(math.sqrt(2)),
    "inverse": number(1 / math.sqrt(2)),
    "near": number(1.4142),
    "tanh": number(math.sqrt(2 / math.pi)),
    "cube": number(0.044715),
    "epsilon": number(1e-5),
}


def graph(
    nodes: list[Node],
    shape: Shape | None = ("batch", 4, 6, 8),
    *,
    outputs: tuple[str, ...] = ("y",),
    parameters: Mapping[str, tuple[int, ...]] | None = None,
    dtype: str = "float32",
    opset: int = 20,
) -> Structure:
    weights = {"w": (4, 4, 3, 3), "s": (4, 1, 1), "r": (1, 4, 1, 1), "v": (8,), "u": (8,), **(parameters or {})}
    used = {name for n in nodes for name in n.inputs} - {name for n in nodes for name in n.outputs}
    return Structure(
        nodes=tuple(nodes),
        inputs=(ValueInfo("x", dtype, shape),),
        outputs=tuple(ValueInfo(name, None, None) for name in outputs),
        parameters=tuple(Parameter(name, dtype, extents) for name, extents in weights.items() if name in used),
        constants=FrozenMapping({name: tensor for name, tensor in CONSTANTS.items() if name in used}),
        opset=FrozenMapping({"": opset}),
    )


def both(a: Structure, b: Structure) -> list[Alignment]:
    return [align(a, b), align(b, a)]


def assert_same(a: Structure, b: Structure) -> None:
    for found in both(a, b):
        assert [difference.message for difference in found.differences] == []
        assert_sound(found)


def assert_other(a: Structure, b: Structure, kind: str | None = None, certain: bool | None = None) -> None:
    """They differ, by a difference of the graphs or by fixed tensors of other shapes or numbers."""
    for found in both(a, b):
        assert found.differences
        assert kind is None or [difference.kind for difference in found.differences] == [kind]
        assert certain is None or all(difference.is_certain is certain for difference in found.differences)


GAP = [node("GlobalAveragePool", "x", "y")]
OPEN: Shape = ("n", "c", "h", "w")


def mean(axes: str, **attributes: Any) -> list[Node]:
    return [node("ReduceMean", f"x {axes}", "y", **attributes)]


@pytest.mark.parametrize("shape", [("batch", 4, 6, 8), OPEN])
def test_the_mean_over_all_space_is_global_pooling(shape: Shape) -> None:
    for axes in ("i2_3", "i-1_-2"):
        assert_same(graph(GAP, shape), graph(mean(axes), shape))
    largest = graph([node("ReduceMax", "x i2_3", "y")], shape)
    assert_same(graph([node("GlobalMaxPool", "x", "y")], shape), largest)


def test_other_means_are_not_global_pooling() -> None:
    assert_other(graph(GAP), graph(mean("i1_3")), "attribute", certain=True)
    assert_other(graph(GAP), graph(mean("i2")), "attribute", certain=True)
    assert_other(graph(GAP), graph(mean("i2_3", keepdims=0)), "attribute", certain=True)
    assert_other(graph(GAP), graph([node("ReduceMean", "x", "y")]))
    assert_other(graph(GAP), graph([node("ReduceSum", "x i2_3", "y")]))
    assert_other(graph(GAP), graph([node("ReduceMax", "x i2_3", "y")]))
    assert_other(graph(GAP, None), graph(mean("i2_3"), None))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (mean("i-1"), mean("i3")),
        (mean("-"), [node("ReduceMean", "x", "y", noop_with_empty_axes=0)]),
        ([node("Softmax", "x", "y")], [node("Softmax", "x", "y", axis=3)]),
        ([node("Concat", "x x", "y", axis=-3)], [node("Concat", "x x", "y", axis=1)]),
        ([node("CumSum", "x i-1", "y")], [node("CumSum", "x i3", "y")]),
        ([node("Slice", "x i1 last i-1", "y")], [node("Slice", "x i1 i8 i3 i1", "y")]),
        ([node("Slice", "x i-3 last i-1", "y")], [node("Slice", "x i5 i8 i3", "y")]),
        ([node("Gather", "x scalar-1", "y", axis=-1)], [node("Gather", "x scalar7", "y", axis=3)]),
        ([node("Split", "x i4_4", "y z", axis=-1)], [node("Split", "x", "y z", axis=3, num_outputs=2)]),
        ([node("Split", "x i4_4", "y z", axis=3)], [node("Split", "x i4_4", "y z", axis=-1)]),
    ],
)
def test_axes_and_ends_are_counted_from_either_side(first: list[Node], second: list[Node]) -> None:
    outputs = first[-1].outputs
    assert_same(graph(first, outputs=outputs), graph(second, outputs=outputs))
    assert_same(graph(first, (2, 4, 6, 8), outputs=outputs), graph(second, outputs=outputs))


@pytest.mark.parametrize(
    ("first", "second", "certain"),
    [
        (mean("i-1"), mean("i2"), True),
        (mean("i1"), mean("i-1"), True),
        ([node("Softmax", "x", "y")], [node("Softmax", "x", "y", axis=2)], True),
        ([node("Slice", "x i1 last i3", "y")], [node("Slice", "x i1 i7 i3", "y")], True),
        ([node("Slice", "x i1 last i3 i1", "y")], [node("Slice", "x i1 last i3 i2", "y")], True),
        ([node("Slice", "x i1 i8 i3", "y")], [node("Slice", "x i1 i8 i2", "y")], True),
        ([node("Slice", "x i0 i2 i0", "y")], [node("Slice", "x i0 i3 i0", "y")], False),
        ([node("Slice", "x i0 last i0", "y")], [node("Slice", "x i0 i8 i0", "y")], False),
        ([node("Split", "x i5_3", "y z", axis=3)], [node("Split", "x i4_4", "y z", axis=3)], True),
        ([node("Split", "x i5_3", "y z", axis=3)], [node("Split", "x", "y z", axis=3, num_outputs=2)], True),
        ([node("Split", "x i4_4", "y z", axis=0)], [node("Split", "x", "y z", axis=0, num_outputs=2)], False),
        ([node("Trilu", "x i1", "y")], [node("Trilu", "x", "y")], True),
    ],
)
def test_other_integers_are_other_attributes(first: list[Node], second: list[Node], certain: bool) -> None:
    outputs = first[-1].outputs
    assert_other(graph(first, outputs=outputs), graph(second, outputs=outputs), "attribute", certain=certain)


def test_an_axis_of_an_unknown_rank_is_compared_as_it_is() -> None:
    assert_other(graph(mean("i-1"), None), graph(mean("i1"), None), "attribute", certain=False)
    assert_same(graph(mean("i-1"), None), graph(mean("i-1"), None))
    assert_same(graph(mean("i-1"), None), graph(mean("i2"), ("a", "b", "c")))
    assert_other(graph(mean("i-1"), None), graph(mean("i1"), ("a", "b", "c")), "attribute", certain=True)


def test_indices_that_are_data_stay_tensors() -> None:
    a, b = (graph([node("Gather", f"x {name}", "y", axis=3)]) for name in ("scalar-1", "scalar6"))
    (pair,) = align(a, b).leaves
    assert (pair.a, pair.b) == ("scalar-1", "scalar6")


PADDED = [node("Conv", "x w", "y", pads=(1, 1, 1, 1))]


def test_padding_that_keeps_extents_is_written_down() -> None:
    same = [node("Conv", "x w", "y", auto_pad="SAME_UPPER")]
    assert_same(graph(PADDED, OPEN), graph(same, OPEN))
    strided: dict[str, Any] = {"strides": (2, 2)}
    lower = [node("Conv", "x w", "y", auto_pad="SAME_LOWER", **strided)]
    upper = [node("Conv", "x w", "y", auto_pad="SAME_UPPER", **strided)]
    assert_same(graph(lower), graph([node("Conv", "x w", "y", pads=(1, 1, 0, 0), **strided)]))
    assert_same(graph(upper), graph([node("Conv", "x w", "y", pads=(0, 0, 1, 1), **strided)]))
    assert_other(graph(upper), graph(lower), "attribute", certain=True)
    assert_other(graph(upper, OPEN), graph([node("Conv", "x w", "y", pads=(0, 0, 1, 1), **strided)], OPEN))
    assert_other(graph(same), graph([node("Conv", "x w", "y", pads=(1, 1, 1, 0))]), "attribute", certain=True)
    assert_other(graph(same), graph([node("Conv", "x w", "y")]), "attribute")
    pool: dict[str, Any] = {"kernel_shape": (3, 3), "strides": (2, 2)}
    pooled = [node("MaxPool", "x", "y", auto_pad="SAME_UPPER", **pool)]
    assert_same(graph(pooled), graph([node("MaxPool", "x", "y", pads=(0, 0, 1, 1), **pool)]))
    assert_other(graph(pooled), graph([node("MaxPool", "x", "y", pads=(1, 1, 0, 0), **pool)]), "attribute")


def test_leading_extents_of_one_do_not_matter_where_tensors_are_broadcast() -> None:
    for op_type in ("PRelu", "Mul", "Sub"):
        a, b = graph([node(op_type, "x s", "y")]), graph([node(op_type, "x r", "y")])
        assert_same(a, b)
        assert align(a, b).leaves == (LeafPair("s", "r", None, broadcast=True),)
    longer = {"r": (1, 1, 4, 1, 1)}
    assert_other(graph([node("Mul", "x s", "y")]), graph([node("Mul", "x r", "y")], parameters=longer), "leaf")
    assert_other(graph([node("Mul", "x s", "y")], None), graph([node("Mul", "x r", "y")], None), "leaf")
    square = {"s": (6, 6), "r": (1, 6, 6)}
    products = [graph([node("MatMul", f"{name} x", "y")], parameters=square) for name in "sr"]
    assert_other(products[0], products[1], "leaf")
    transposed = {"s": (4, 1, 1), "r": (1, 1, 6, 1)}
    assert_other(graph([node("Mul", "x s", "y")]), graph([node("Mul", "x r", "y")], parameters=transposed), "leaf")
    data = [node("PRelu", "s t", "y"), node("PRelu", "r t", "y")]
    shrunk = node("ReduceSum", "x", "t", keepdims=0)
    assert_other(graph([shrunk, data[0]]), graph([shrunk, data[1]]), "leaf")


def test_tensors_of_another_rank_are_compared_by_their_numbers() -> None:
    numbers = np.arange(3, dtype=np.float32)
    for broadcast, expected in ((True, 0), (False, 1)):
        comparison = Comparison()
        comparison.add(LeafPair("a", "b", None, broadcast), Leaf(numbers), Leaf(numbers.reshape(1, 3)))
        assert len(comparison.result(()).differences) == expected
    comparison = Comparison()
    comparison.add(LeafPair("a", "b", None, broadcast=True), Leaf(numbers), Leaf(numbers[::-1].reshape(1, 3)))
    assert comparison.result(()).differences[0].changed == 2


# inputs whose extents are fixed on one side


def token(shape: list[Node]) -> list[Node]:
    return [*shape, node("Expand", "t size", "e"), node("Concat", "e x", "y", axis=1)]


DYNAMIC = token([node("Shape", "x", "n", end=1), node("Concat", "n i1 i8", "size", axis=0)])
WEIGHTS = {"t": (1, 1, 8), "folded": (2, 1, 8), "other": (3, 1, 8)}


def test_shapes_of_inputs_are_fixed_on_both_sides() -> None:
    a = graph(DYNAMIC, ("batch", 5, 8), parameters=WEIGHTS)
    b = graph([node("Concat", "folded x", "y", axis=1)], (2, 5, 8), parameters=WEIGHTS)
    assert_same(a, b)
    found = align(a, b)
    assert [(pair.a, pair.b) for pair in found.leaves] == [("e", "folded")]
    assert [n.op_type for n in found.derivations_a["e"]] == ["Constant", "Concat", "Expand"]
    assert {n.op_type for n in found.structure_a.nodes} == {"Constant", "Concat", "Expand"}


def test_open_shapes_stay_open() -> None:
    a = graph(DYNAMIC, ("batch", 5, 8), parameters=WEIGHTS)
    assert [n.op_type for n in align(a, a).structure_a.nodes] == [n.op_type for n in DYNAMIC]
    assert_same(a, a)
    b = graph([node("Concat", "folded x", "y", axis=1)], ("batch", 5, 8), parameters=WEIGHTS)
    assert_other(a, b, "leaf", certain=False)


def test_extents_of_one_name_are_one() -> None:
    nodes = [node("Shape", "x", "n"), node("ConstantOfShape", "n", "c"), node("Add", "x c", "y")]
    a, b = graph(nodes, ("n", "n")), graph([node("Add", "x z", "y")], (3, None), parameters={"z": (3, 3)})
    assert_same(a, b)


def test_what_an_output_is_declared_to_be_does_not_count() -> None:
    nodes = [node("NonZero", "x", "z"), node("Shape", "z", "n"), node("Cast", "n", "y", to=1)]
    lying = Structure(
        nodes=tuple(nodes),
        inputs=(ValueInfo("x", "float32", (2, 3)),),
        outputs=(ValueInfo("y", "float32", (2,)), ValueInfo("z", "int64", (2, 5))),
    )
    assert [n.op_type for n in align(lying, lying).structure_a.nodes] == ["NonZero", "Shape", "Cast"]


def test_tensors_that_are_too_large_are_not_computed() -> None:
    nodes = [node("ConstantOfShape", "huge", "c"), node("ReduceSum", "c", "s"), node("Add", "x s", "y")]
    for found in both(graph(nodes), graph([node("Relu", "x", "y")])):
        (difference,) = found.differences
        assert (difference.kind, difference.is_certain, found.steps) == ("leaf", False, ())
        assert "'c'" in difference.message


def test_an_operator_that_changes_no_shape_is_nothing() -> None:
    relu = node("Relu", "x", "y")
    for before in (
        [node("Expand", "x i1", "e"), node("Relu", "e", "y")],
        [node("Flatten", "x", "f"), node("Reshape", "f i2_2_4", "e"), node("Relu", "e", "y")],
    ):
        assert_same(graph(before, (2, 2, 4)), graph([relu], (2, 2, 4)))
    grown = [node("Expand", "x i2", "e"), node("Relu", "e", "y")]
    assert_other(graph(grown, (2, 2, 1)), graph([relu], (2, 2, 1)))


def moved(*nodes: Node) -> Structure:
    return graph([node("Relu", "x", "r"), *nodes], (2, 2, 4))


def test_chains_that_move_the_same_entries_align() -> None:
    whole = [node("Transpose", "r", "y", perm=(0, 2, 1))]
    parts = [
        node("Unsqueeze", "r i0", "u"),
        node("Transpose", "u", "t", perm=(0, 1, 3, 2)),
        node("Squeeze", "t i0", "y"),
    ]
    other = [*parts[:1], node("Transpose", "u", "t", perm=(0, 3, 2, 1)), *parts[2:]]
    assert_same(moved(*whole), moved(*parts))
    assert_other(moved(*whole), moved(*other))
    assert_other(moved(*whole), moved(node("Reshape", "r i2_4_2", "y")))


# decompositions


def erf(outer: list[Node], inner: str = "Div x root") -> list[Node]:
    op_type, left, right = inner.split()
    return [node(op_type, f"{left} {right}", "d"), node("Erf", "d", "e"), node("Add", "e f1", "a"), *outer]


LAST = [node("Mul", "x a", "m"), node("Mul", "m f0.5", "y")]
RMS = [
    node("Mul", "x x", "p"),
    node("ReduceMean", "p i-1", "m"),
    node("Add", "m epsilon", "a"),
    node("Sqrt", "a", "q"),
    node("Div", "x q", "n"),
    node("Mul", "n v", "y"),
]


def layer_norm(axis: str = "i-1", epsilon: str = "epsilon", power: str = "f2") -> list[Node]:
    return [
        node("ReduceMean", f"x {axis}", "m"),
        node("Sub", "x m", "d"),
        node("Pow", f"d {power}", "p"),
        node("ReduceMean", f"p {axis}", "w2"),
        node("Add", f"w2 {epsilon}", "a"),
        node("Sqrt", "a", "q"),
        node("Div", "d q", "n"),
        node("Mul", "n v", "k"),
        node("Add", "k u", "y"),
    ]


GELU = [node("Gelu", "x", "y")]
TANH = [
    node("Pow", "x f3", "c"),
    node("Mul", "c cube", "k"),
    node("Add", "x k", "s"),
    node("Mul", "s tanh", "t"),
    node("Tanh", "t", "h"),
    node("Add", "h f1", "a"),
    *LAST,
]
RELU6 = [node("Add", "x f3", "p"), node("Clip", "p f0 f6", "c")]


def softplus(threshold: str = "f20", otherwise: str = "x") -> list[Node]:
    return [
        node("Softplus", "x", "s"),
        node("Greater", f"x {threshold}", "g"),
        node("Where", f"g {otherwise} s", "y"),
    ]


@pytest.mark.parametrize(
    ("whole", "parts"),
    [
        (GELU, erf(LAST)),
        (GELU, erf(LAST, "Mul x inverse")),
        (GELU, erf([node("Mul", "f0.5 x", "m"), node("Mul", "m a", "y")])),
        (GELU, erf([node("Mul", "f0.5 a", "m"), node("Mul", "x m", "y")])),
        ([node("Gelu", "x", "y", approximate="tanh")], TANH),
        ([node("Softplus", "x", "y")], softplus()),
        ([node("Mish", "x", "y")], [node("Softplus", "x", "s"), node("Tanh", "s", "t"), node("Mul", "x t", "y")]),
        ([node("HardSwish", "x", "y")], [node("HardSigmoid", "x", "h", alpha=1 / 6), node("Mul", "h x", "y")]),
        ([node("HardSwish", "x", "y")], [*RELU6, node("Mul", "x c", "m"), node("Div", "m f6", "y")]),
        ([node("HardSigmoid", "x", "y", alpha=1 / 6)], [*RELU6, node("Div", "c f6", "y")]),
        ([node("LayerNormalization", "x v u", "y")], layer_norm()),
    ],
)
def test_an_operator_is_what_it_is_made_of(whole: list[Node], parts: list[Node]) -> None:
    assert_same(graph(whole), graph(parts))
    (step,) = align(graph(parts), graph(whole)).steps
    assert step.a.op_type == step.b.op_type == whole[0].op_type
    assert {n.op_type for n in step.a.nodes} - {"Constant"} == {n.op_type for n in parts}
    assert [n.op_type for n in step.b.nodes] == [whole[0].op_type]


@pytest.mark.parametrize("opset", [23, 24])
def test_operators_of_later_opsets_are_what_they_are_made_of(opset: int) -> None:
    whole = graph([node("RMSNormalization", "x v", "y")], opset=opset)
    assert_same(whole, graph(RMS, opset=opset))
    squared = [RMS[0], node("ReduceMean", "p i1", "m"), *RMS[2:]]
    assert_other(whole, graph(squared, opset=opset))


@pytest.mark.parametrize(
    ("whole", "parts"),
    [
        (GELU, erf(LAST, "Div x near")),
        (GELU, erf(LAST, "Mul x root")),
        (GELU, erf(LAST, "Div root x")),
        (GELU, erf([node("Mul", "x a", "m"), node("Mul", "m f1", "y")])),
        (GELU, erf([node("Mul", "e a", "m"), node("Mul", "m f0.5", "y")])),
        (GELU, TANH),
        ([node("Gelu", "x", "y", approximate="tanh")], erf(LAST)),
        ([node("Softplus", "x", "y")], softplus("f10")),
        ([node("Softplus", "x", "y")], softplus(otherwise="s")),
        ([node("Mish", "x", "y")], [node("Sigmoid", "x", "s"), node("Tanh", "s", "t"), node("Mul", "x t", "y")]),
        ([node("Mish", "x", "y")], [node("Softplus", "x", "s"), node("Tanh", "s", "t"), node("Mul", "s t", "y")]),
        ([node("HardSwish", "x", "y")], [node("HardSigmoid", "x", "h"), node("Mul", "h x", "y")]),
        ([node("HardSwish", "x", "y")], [*RELU6, node("Mul", "x c", "m"), node("Div", "m f5", "y")]),
        ([node("HardSigmoid", "x", "y")], [*RELU6, node("Div", "c f6", "y")]),
        ([node("LayerNormalization", "x v u", "y")], layer_norm(axis="i2")),
        ([node("LayerNormalization", "x v u", "y")], layer_norm(power="f3")),
        ([node("LayerNormalization", "x v u", "y")], layer_norm(epsilon="f1")),
        ([node("LayerNormalization", "x v u", "y", epsilon=1e-6)], layer_norm()),
        ([node("LayerNormalization", "x v u", "y", axis=2)], layer_norm()),
        ([node("LayerNormalization", "x v", "y")], layer_norm()),
    ],
)
def test_look_alikes_of_operators_are_others(whole: list[Node], parts: list[Node]) -> None:
    assert_other(graph(whole), graph(parts))


def test_a_threshold_says_something_in_double_precision() -> None:
    tensor = number(20.0, dtype="float64")
    a = graph([node("Softplus", "x", "y")], dtype="float64")
    b = graph(softplus(), dtype="float64")
    b = Structure(
        nodes=b.nodes, inputs=b.inputs, outputs=b.outputs, constants=FrozenMapping({"f20": tensor}), opset=b.opset
    )
    assert_other(a, b)


def test_a_split_into_other_parts_than_it_says_is_no_reason_to_stop() -> None:
    wrong = graph([node("Split", "x", "y z", num_outputs=3)], (2, 3))
    assert_same(wrong, wrong)
    assert_other(wrong, graph([node("Split", "x i1", "y z", axis=1)], (2, 3)))
