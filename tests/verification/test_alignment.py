"""Which structures align, which do not, and where they say that they differ."""

from __future__ import annotations

import random
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import made
from torch import nn
from verification.drafts import assert_sound, ints, node

import deepstruct
from deepstruct.frozen import FrozenMapping
from deepstruct.structure import (
    AttributeReference,
    AttributeValue,
    Function,
    Graph,
    Node,
    Parameter,
    ParameterReference,
    Structure,
    ValueInfo,
)
from deepstruct.tensor import Tensor
from deepstruct.testing import SAMPLES, chains
from deepstruct.verification.alignment import align, origin
from deepstruct.verification.operations import Alignment, LeafPair


def value(name: str, *shape: int | str, dtype: str = "float32") -> ValueInfo:
    return ValueInfo(name, dtype, shape)


def structure(
    nodes: list[Node],
    outputs: tuple[str, ...] = ("y",),
    *,
    inputs: tuple[str, ...] = ("x",),
    parameters: Mapping[str, tuple[int, ...]] | None = None,
    constants: Mapping[str, Tensor] | None = None,
    opset: int = 20,
    functions: tuple[Function, ...] = (),
) -> Structure:
    domains = {"": opset, "custom": 1}
    return Structure(
        nodes=tuple(nodes),
        inputs=tuple(value(name, "batch", 4) for name in inputs),
        outputs=tuple(ValueInfo(name, "float32", None) for name in outputs),
        parameters=tuple(Parameter(name, "float32", shape) for name, shape in (parameters or {}).items()),
        constants=FrozenMapping(constants or {}),
        opset=FrozenMapping(domains),
        functions=functions,
    )


def renamed(original: Structure, seed: int = 0) -> Structure:
    """The structure with other names for everything."""
    rng = random.Random(seed)
    names: dict[str, str] = {"": ""}

    def new(name: str) -> str:
        if name not in names:
            names[name] = f"v{rng.randrange(10**6)}_{len(names)}"
        return names[name]

    def attribute(given: AttributeValue) -> AttributeValue:
        if isinstance(given, Graph):
            inputs, outputs = ([replace(v, name=new(v.name)) for v in vs] for vs in (given.inputs, given.outputs))
            nodes = tuple(map(changed, given.nodes))
            return replace(given, nodes=nodes, inputs=tuple(inputs), outputs=tuple(outputs))
        return replace(given, name=new(given.name)) if isinstance(given, ParameterReference) else given

    def changed(old: Node) -> Node:
        return replace(
            old,
            name=f"m{rng.randrange(10**6)}_{new(old.name)}",
            inputs=tuple(map(new, old.inputs)),
            outputs=tuple(map(new, old.outputs)),
            attributes=FrozenMapping({name: attribute(given) for name, given in old.attributes.items()}),
        )

    return replace(
        original,
        nodes=tuple(map(changed, original.nodes)),
        inputs=tuple(replace(v, name=new(v.name)) for v in original.inputs),
        outputs=tuple(replace(v, name=new(v.name)) for v in original.outputs),
        parameters=tuple(replace(p, name=new(p.name)) for p in original.parameters),
        constants=FrozenMapping({new(name): tensor for name, tensor in original.constants.items()}),
    )


def pairs(found: Alignment) -> set[tuple[str, str]]:
    return {(pair.a, pair.b) for pair in found.leaves}


def kinds(found: Alignment) -> list[str]:
    return [difference.kind for difference in found.differences]


def assert_aligned(a: Structure, b: Structure) -> Alignment:
    found = align(a, b)
    assert found.differences == ()
    assert_sound(found)
    return found


# the same network from different sources


@pytest.mark.parametrize("name", SAMPLES)
def test_a_structure_aligns_with_a_renamed_copy(name: str) -> None:
    original = SAMPLES[name]
    found = assert_aligned(original, renamed(original))
    assert len(found.steps) == len(original.nodes)
    assert len(found.leaves) == len(original.parameters) + len(original.constants)


@given(chains(), st.integers(0, 99))
def test_renamed_chains_align(original: Structure, seed: int) -> None:
    found = assert_aligned(original, renamed(original, seed))
    assert len(found.steps) == sum(n.op_type != "Identity" for n in original.nodes)


def lowered(name: str) -> deepstruct.Model:
    module, example_inputs = made(name)
    return deepstruct.from_module(module.eval(), example_inputs=example_inputs)


@pytest.mark.parametrize("name", ["resnet", "vit", "recurrent", "pieces"])
def test_networks_align_with_their_onnx_files(name: str, tmp_path: Path) -> None:
    model = lowered(name)
    deepstruct.save(model, tmp_path / "a.onnx")
    found = assert_aligned(model.structure, deepstruct.load(tmp_path / "a.onnx").structure)
    assert all(pair.a == pair.b for pair in found.leaves)
    assert_aligned(model.structure, renamed(model.structure))


@pytest.mark.parametrize("opset", [17, 21, 23])
@pytest.mark.parametrize("name", ["densenet", "mobilenet"])
def test_networks_align_in_another_opset(name: str, opset: int, tmp_path: Path) -> None:
    model = lowered(name)
    deepstruct.save(model, tmp_path / "a.onnx", opset=opset)
    other = deepstruct.load(tmp_path / "a.onnx").structure
    assert_aligned(model.structure, other)
    assert_aligned(other, model.structure)


@pytest.mark.parametrize(("older", "newer"), [(13, 21), (13, 17), (12, 13), (17, 21)])
def test_structures_of_two_opsets_align(older: int, newer: int) -> None:
    def network(opset: int) -> Structure:
        axes: dict[str, Any] = {"axes": (0,)} if opset < 13 else {}
        nodes = [
            node("BatchNormalization", "x s b m v", "n"),
            node("Relu", "n", "r"),
            node("Reshape", "r rows", "f"),
            node("Unsqueeze", "f" if axes else "f zero", "u", **axes),
            node("Squeeze", "u" if axes else "u zero", "q", **axes),
            node("Gemm", "q w b", "y", transB=1),
        ]
        weights: dict[str, tuple[int, ...]] = {**dict.fromkeys("sbmv", (4,)), "w": (4, 4)}
        constants = {"rows": ints(-1, 4)} | ({} if axes else {"zero": ints(0)})
        return structure(nodes, parameters=weights, constants=constants, opset=opset)

    for found in (align(network(older), network(newer)), align(network(newer), network(older))):
        assert found.differences == ()
        assert_sound(found)
        assert {("w", "w"), ("s", "s")} <= pairs(found)
        assert found.structure_a.opset[""] == found.structure_b.opset[""] or older == 17


class Residual(nn.Module):
    """Convolutions around which their input goes, pooling, layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = nn.LayerNorm(4)
        self.out = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> Any:
        h = torch.relu(self.first(x))
        h = h + torch.tanh(self.second(h))
        return self.out(self.norm(torch.flatten(torch.nn.functional.avg_pool2d(h, 6), 1)))


EXPORTED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 3)), (2, 5)),
    "deep-mlp": (lambda: nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)), (2, 4, 5)),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(64, 3)
        ),
        (2, 1, 8, 8),
    ),
    "norm": (lambda: nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 3), nn.Softmax(-1)), (2, 5)),
    "residual": (Residual, (2, 3, 6, 6)),
}


def exported(module: nn.Module, example: torch.Tensor, path: Path, *, dynamo: bool) -> Structure:
    """The structure of the file that torch itself writes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(module, (example,), str(path), dynamo=True, verbose=False, dynamic_shapes=shapes)
        else:
            axes = {"x": {0: "batch"}}
            torch.onnx.export(
                module, (example,), str(path), dynamo=False, opset_version=20, input_names=["x"], dynamic_axes=axes
            )
        return deepstruct.load(path).structure


@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("name", EXPORTED)
def test_what_torch_exports_aligns(name: str, dynamo: bool, tmp_path: Path) -> None:
    make, shape = EXPORTED[name]
    module, example = make().eval(), torch.randn(shape)
    model = deepstruct.from_module(module, example_inputs=example)
    assert_aligned(model.structure, exported(module, example, tmp_path / "a.onnx", dynamo=dynamo))


def test_a_folded_normalization_is_named(tmp_path: Path) -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )
    example = torch.randn(2, 1, 8, 8)
    model = deepstruct.from_module(module.eval(), example_inputs=example)
    found = align(model.structure, exported(module, example, tmp_path / "a.onnx", dynamo=False))
    (difference,) = found.differences
    assert "BatchNormalization" in difference.message
    assert not difference.is_certain
    assert [step.a.op_type for step in found.steps] == ["Relu", found.steps[1].a.op_type, "Gemm"]


# normal form


def test_nodes_that_do_nothing_are_passed_through() -> None:
    a = structure([node("Relu", "x", "y")])
    b = structure(
        [
            node("Identity", "x", "i"),
            node("Dropout", "i ratio training", "d mask"),
            node("Cast", "d", "c", to=1),
            node("Transpose", "c", "t", perm=(1, 0)),
            node("Transpose", "t", "u", perm=(1, 0)),
            node("Concat", "u", "v", axis=1),
            node("Relu", "v", "r"),
            node("Tanh", "r", "unused"),
            node("Identity", "r", "y"),
        ],
        parameters={"never": (3,)},
        constants={"ratio": Tensor("float32", (), (0.5,)), "training": Tensor("bool", (), (False,))},
    )
    found = assert_aligned(a, b)
    (step,) = found.steps
    assert step.b.inputs == ("x",)
    assert step.b.outputs == ("r",)
    assert found.outputs == (("y", "r"),)
    assert found.unused_b == ("never",)


@pytest.mark.parametrize(
    "other",
    [
        node("Dropout", "x ratio training", "i"),
        node("Cast", "x", "i", to=10),
        node("Transpose", "x", "i", perm=(1, 0)),
    ],
    ids=["training", "narrower", "transposed"],
)
def test_nodes_that_do_something_are_not_passed_through(other: Node) -> None:
    constants = {"ratio": Tensor("float32", (), (0.5,)), "training": Tensor("bool", (), (True,))}
    a = structure([node("Relu", "x", "y")])
    b = structure([other, node("Relu", "i", "y")], constants=constants)
    assert kinds(align(a, b)) == ["operator"]
    assert kinds(align(b, a)) == ["operator"]


def test_a_dropout_whose_mask_is_used_stays() -> None:
    a = structure([node("Identity", "x", "y"), node("Identity", "x", "m")], ("y", "m"))
    b = structure([node("Dropout", "x", "y m")], ("y", "m"))
    assert align(a, b).differences


def test_defaults_and_attributes_without_effect_are_dropped() -> None:
    weights = {"w": (3, 2, 3, 3), "s": (3,), "b": (3,), "m": (3,), "v": (3,)}
    plain = [
        node("Conv", "x w", "c"),
        node("BatchNormalization", "c s b m v", "n"),
        node("MaxPool", "n", "p", kernel_shape=(2, 2)),
        node("LeakyRelu", "p", "y"),
    ]
    wordy = [
        node("Conv", "x w", "c", strides=(1, 1), dilations=(1, 1), pads=(0,) * 4, kernel_shape=(3, 3), group=1),
        node("BatchNormalization", "c s b m v", "n", momentum=0.1, epsilon=1e-5, training_mode=0),
        node("MaxPool", "n", "p", kernel_shape=(2, 2), storage_order=1, ceil_mode=0, auto_pad="NOTSET"),
        node("LeakyRelu", "p", "y", alpha=0.01),
    ]
    a, b = (structure(nodes, parameters=weights) for nodes in (plain, wordy))
    images = (value("x", "batch", 2, 8, 8),)
    found = assert_aligned(replace(a, inputs=images), replace(b, inputs=images))
    assert [dict(step.b.attributes) for step in found.steps] == [{}, {}, {"kernel_shape": (2, 2)}, {}]


def test_values_made_of_parameters_are_leaves() -> None:
    a = structure([node("MatMul", "x w", "y")], parameters={"w": (4, 3)})
    b = structure(
        [node("Mul", "w mask", "masked"), node("Transpose", "masked", "t"), node("MatMul", "x t", "y")],
        parameters={"w": (3, 4), "mask": (3, 4)},
    )
    found = assert_aligned(a, b)
    assert found.leaves == (LeafPair("w", "t"),)
    assert [n.op_type for n in found.derivations_b["t"]] == ["Mul", "Transpose"]
    assert origin("t", found.derivations_b) == (("w", "mask"), None)
    assert origin("w", found.derivations_a) == (("w",), None)


def test_the_origin_of_a_transposed_leaf_has_its_permutation() -> None:
    a = structure([node("Gemm", "x w", "y", transB=1)], parameters={"w": (3, 4)})
    b = structure([node("Transpose", "w", "t", perm=(1, 0)), node("MatMul", "x t", "y")], parameters={"w": (3, 4)})
    found = assert_aligned(a, b)
    assert found.leaves == (LeafPair("w", "t", (1, 0)),)
    assert origin("t", found.derivations_b) == (("w",), (1, 0))


def test_random_values_are_no_leaves() -> None:
    a = structure([node("RandomNormal", "", "r", "r", shape=(4,)), node("Add", "x r", "y")], parameters={})
    b = structure([node("Add", "x r", "y")], parameters={"r": (4,)})
    assert kinds(align(a, b)) == ["leaf"]


def test_an_output_may_be_a_leaf() -> None:
    a = structure([node("Relu", "x", "y"), node("Neg", "w", "z")], ("y", "z"), parameters={"w": (3,)})
    found = assert_aligned(a, renamed(a))
    assert [pair.a for pair in found.leaves] == ["z"]
    assert found.unused_a == ()


def test_equal_computations_are_one() -> None:
    a = structure([node("Relu", "x", "r"), node("Mul", "r r", "y")])
    b = structure([node("Relu", "x", "r"), node("Relu", "x", "s"), node("Mul", "r s", "y")])
    (_, product) = assert_aligned(a, b).steps
    assert product.order == (0, 1)


# products with weights

GEMMS = {
    "gemm": [node("Gemm", "x w b", "y")],
    "transposed": [node("Gemm", "x v b", "y", transB=1, alpha=1.0)],
    "two": [node("MatMul", "x w", "m"), node("Add", "m b", "y")],
    "two-swapped": [node("MatMul", "x w", "m"), node("Add", "b m", "y")],
}


@pytest.mark.parametrize("first", GEMMS)
@pytest.mark.parametrize("second", GEMMS)
def test_spellings_of_a_linear_layer_align(first: str, second: str) -> None:
    weights = {"w": (4, 3), "v": (3, 4), "b": (3,)}
    a, b = (structure(GEMMS[name], parameters=weights) for name in (first, second))
    found = assert_aligned(a, b)
    permutation = (1, 0) if (first == "transposed") != (second == "transposed") else None
    names = ["v" if name == "transposed" else "w" for name in (first, second)]
    assert LeafPair(names[0], names[1], permutation) in found.leaves
    assert LeafPair("b", "b") in found.leaves


def test_a_product_without_bias_is_a_gemm_without_bias() -> None:
    weights = {"w": (4, 3), "v": (3, 4)}
    a = structure([node("MatMul", "x w", "y")], parameters=weights)
    b = structure([node("Gemm", "x v", "y", transB=1)], parameters=weights)
    (step,) = assert_aligned(a, b).steps
    assert (step.a.op_type, step.b.op_type, dict(step.b.attributes)) == ("Gemm", "Gemm", {"transB": 1})


@pytest.mark.parametrize(
    "other",
    [
        [node("Gemm", "x w b", "y", beta=0.0)],
        [node("Gemm", "x w b", "y", alpha=0.5)],
        [node("Gemm", "x w c", "m"), node("Add", "m b", "y")],
        [node("MatMul", "x w", "m"), node("Sub", "m b", "y")],
        [node("MatMul", "x w", "m"), node("Sub", "b m", "y")],
        [node("MatMul", "x w", "m"), node("Add", "m b", "s"), node("Add", "s m", "y")],
        [node("MatMul", "x w", "y")],
    ],
)
@pytest.mark.parametrize("first", ["gemm", "two"])
def test_other_products_do_not_align(first: str, other: list[Node]) -> None:
    weights = {"w": (4, 3), "v": (3, 4), "b": (3,), "c": (3,)}
    a, b = (structure(nodes, parameters=weights) for nodes in (GEMMS[first], other))
    assert align(a, b).differences
    assert align(b, a).differences


def test_a_bias_is_missing() -> None:
    weights = {"w": (4, 3), "b": (3,)}
    a = structure([node("Gemm", "x w b", "y")], parameters=weights)
    b = structure([node("Gemm", "x w", "y")], parameters=weights)
    (unknown,) = align(a, b).differences
    (certain,) = align(a, b, zeros=((), ())).differences
    assert (unknown.kind, unknown.is_certain, certain.is_certain) == ("wiring", False, True)
    assert unknown.message == "node 'n_y' has the bias 'b', node 'n_y' has none"


def test_a_bias_of_zeros_is_none() -> None:
    weights = {"w": (4, 3), "b": (3,)}
    a = structure([node("Gemm", "x w b", "y")], parameters=weights)
    b = structure([node("MatMul", "x w", "y")], parameters=weights)
    (step,) = align(a, b, zeros=({"b"}, set())).steps
    assert step.order == (0, 1, -1)
    assert [pair.a for pair in step.leaves] == ["w"]


# shapes


def test_operators_that_only_reshape_correspond() -> None:
    nodes = [node("Relu", "x", "r")]
    a = structure([*nodes, node("Flatten", "r", "f"), node("Tanh", "f", "y")])
    b = structure(
        [
            *nodes,
            node("Shape", "x", "shape"),
            node("Gather", "shape zero", "rows", axis=0),
            node("Unsqueeze", "rows zeros", "row"),
            node("Concat", "row rest", "target", axis=0),
            node("Reshape", "r target", "f"),
            node("Tanh", "f", "y"),
        ],
        constants={"zero": Tensor("int64", (), (0,)), "zeros": ints(0), "rest": ints(-1)},
    )
    found = assert_aligned(a, b)
    step = found.steps[1]
    assert [n.op_type for n in step.b.nodes] == ["Shape", "Gather", "Unsqueeze", "Concat", "Reshape"]
    assert step.b.inputs == ("r", "x", "zero", "zeros", "rest")
    assert step.order == (0,)
    assert assert_aligned(b, a).steps[1].order == (0, -1, -1, -1, -1)


def test_chains_that_only_reshape_correspond() -> None:
    a = structure([node("Unsqueeze", "x both", "u"), node("Neg", "u", "y")], constants={"both": ints(1, 2)})
    b = structure(
        [node("Unsqueeze", "x one", "t"), node("Unsqueeze", "t two", "u"), node("Neg", "u", "y")],
        constants={"one": ints(1), "two": ints(2)},
    )
    found = assert_aligned(a, b)
    assert [len(step.b.nodes) for step in found.steps] == [2, 1]


def test_a_reshape_on_one_side_is_a_difference() -> None:
    a = structure([node("Relu", "x", "y")])
    b = structure([node("Flatten", "x", "f"), node("Relu", "f", "y")])
    (difference,) = align(a, b).differences
    assert (difference.kind, difference.is_certain) == ("operator", False)
    assert (difference.a, difference.b) == ("", "n_f")


# commutative operators


def residual(swapped: bool = False, op_type: str = "Add") -> Structure:
    weights = {"w": (4, 4), "v": (4, 4)}
    nodes = [
        node("MatMul", "x w", "h"),
        node("MatMul", "h v", "f"),
        node("Relu", "f", "r"),
        node(op_type, "r h" if swapped else "h r", "y"),
    ]
    return structure(nodes, parameters=weights)


def test_operands_of_commutative_operators_are_swapped() -> None:
    found = assert_aligned(residual(), residual(swapped=True))
    assert found.steps[-1].order == (1, 0)
    assert pairs(found) == {("w", "w"), ("v", "v")}
    assert_aligned(residual(), renamed(residual(swapped=True)))


def test_operands_of_other_operators_are_not_swapped() -> None:
    found = align(residual(op_type="Sub"), residual(swapped=True, op_type="Sub"))
    (difference,) = found.differences
    assert difference.kind == "wiring"
    assert (difference.a, difference.b) == ("n_y", "n_y")


def branches(first: str, second: str) -> Structure:
    nodes = [node("MatMul", f"x {first}", "p"), node("MatMul", f"x {second}", "q"), node("Add", "p q", "y")]
    return structure(nodes, parameters={first: (4, 3), second: (4, 3)})


def test_equal_branches_are_paired_by_name_or_by_numbers() -> None:
    assert pairs(assert_aligned(branches("v", "w"), branches("w", "v"))) == {("v", "v"), ("w", "w")}
    assert pairs(assert_aligned(branches("v", "w"), branches("c", "d"))) == {("v", "c"), ("w", "d")}
    digests = {"v": b"1", "w": b"2"}, {"c": b"2", "d": b"1"}
    assert pairs(align(branches("v", "w"), branches("c", "d"), digests)) == {("v", "d"), ("w", "c")}


def test_tied_weights_pair_with_several() -> None:
    tied = structure([node("MatMul", "x w", "h"), node("MatMul", "h w", "y")], parameters={"w": (4, 4)})
    untied = structure([node("MatMul", "x w", "h"), node("MatMul", "h v", "y")], parameters={"w": (4, 4), "v": (4, 4)})
    assert pairs(assert_aligned(tied, untied)) == {("w", "w"), ("w", "v")}


# differences


def mlp(middle: list[Node] | None = None, **changes: Any) -> Structure:
    weights = {"w0": (4, 5), "w1": (5, 6), "w2": (6, 2)}
    nodes = [
        node("MatMul", "x w0", "a"),
        *(middle or [node("Relu", "a", "b", "act")]),
        node("MatMul", "b w1", "c"),
        node("LeakyRelu", "c", "d", **changes),
        node("MatMul", "d w2", "y"),
    ]
    return structure(nodes, parameters=weights)


def test_another_operator_is_one_difference() -> None:
    found = align(mlp(), mlp([node("Tanh", "a", "b", "/act/Tanh")]))
    (difference,) = found.differences
    assert (difference.kind, difference.is_certain) == ("operator", False)
    assert difference.message == "node 'act' is Relu, node '/act/Tanh' is Tanh"
    assert [step.a.op_type for step in found.steps] == ["MatMul", "MatMul", "LeakyRelu", "MatMul"]


def test_another_attribute_is_one_difference() -> None:
    found = align(mlp(), mlp(alpha=0.5))
    (difference,) = found.differences
    assert (difference.kind, difference.is_certain, difference.a) == ("attribute", True, "n_d")
    assert "alpha" in difference.message
    assert len(found.steps) == 4


@pytest.mark.parametrize("names", ["same", "other"])
def test_a_node_more_is_one_difference(names: str) -> None:
    longer = mlp([node("Relu", "a", "r", "act"), node("Tanh", "r", "b", "more")])
    longer = renamed(longer) if names == "other" else longer
    for found, side in ((align(mlp(), longer), "b"), (align(longer, mlp()), "a")):
        (difference,) = found.differences
        assert difference.kind == "operator"
        assert "Tanh" in difference.message
        assert {"a": difference.b, "b": difference.a}[side] == ""
        assert len(found.steps) == 5


def test_two_nodes_more_are_found_between_what_is_the_same() -> None:
    longer = mlp([node("Relu", "a", "r", "act"), node("Tanh", "r", "t"), node("Abs", "t", "b", "more")])
    found = align(mlp(), longer)
    assert kinds(found) == ["wiring"] or kinds(found) == ["operator", "operator"]
    assert pairs(found) == {("w0", "w0"), ("w1", "w1"), ("w2", "w2")}


def test_a_moved_activation_is_one_difference() -> None:
    weights = {"w": (4, 4), "v": (4, 4)}
    before = [node("MatMul", "x w", "h"), node("Add", "h x", "s", "add"), node("Relu", "s", "r", "act")]
    after = [node("MatMul", "x w", "h"), node("Relu", "h", "s", "act"), node("Add", "s x", "r", "add")]
    end = node("MatMul", "r v", "y")
    found = align(structure([*before, end], parameters=weights), structure([*after, end], parameters=weights))
    (difference,) = found.differences
    assert difference.kind == "wiring"
    assert (difference.a, difference.b) == ("act", "add")
    assert pairs(found) == {("w", "w"), ("v", "v")}


def test_differences_stand_in_the_order_of_the_graph() -> None:
    other = mlp([node("Tanh", "a", "b", "act")], alpha=0.5)
    assert kinds(align(mlp(), other)) == ["operator", "attribute"]
    assert not any(difference.is_certain for difference in align(mlp(), other).differences)


def test_outputs_are_compared_by_position() -> None:
    nodes = [node("Relu", "x", "y"), node("Tanh", "x", "z")]
    assert_aligned(structure(nodes, ("y", "z")), structure(nodes, ("y", "z")))
    assert align(structure(nodes, ("y", "z")), structure(nodes, ("z", "y"))).differences
    found = align(structure(nodes, ("y", "z")), structure(nodes, ("y",)))
    assert [(d.kind, d.is_certain) for d in found.differences] == [("outputs", True)]


def test_inputs_are_compared_by_position() -> None:
    a = structure([node("Sub", "x z", "y")], inputs=("x", "z"))
    b = structure([node("Sub", "z x", "y")], inputs=("x", "z"))
    assert kinds(align(a, b)) == ["wiring"]
    assert_aligned(
        structure([node("Add", "x z", "y")], inputs=("x", "z")), structure([node("Add", "z x", "y")], inputs=("x", "z"))
    )


PAIRS_THAT_DIFFER = {
    "concat-order": (
        [node("Relu", "x", "r"), node("Concat", "x r", "y", axis=1)],
        [node("Relu", "x", "r"), node("Concat", "r x", "y", axis=1)],
    ),
    "other-output": (
        [node("Split", "x", "p q", num_outputs=2), node("Relu", "p", "y")],
        [node("Split", "x", "p q", num_outputs=2), node("Relu", "q", "y")],
    ),
    "outputs-swapped-inside": (
        [node("Split", "x", "p q", num_outputs=2), node("Sub", "p q", "y")],
        [node("Split", "x", "p q", num_outputs=2), node("Sub", "q p", "y")],
    ),
    "number-of-parts": (
        [node("Split", "x", "p q", num_outputs=2), node("Relu", "p", "y")],
        [node("Split", "x", "p q r", num_outputs=3), node("Relu", "p", "y")],
    ),
    "one-value-for-two": (
        [node("Relu", "x", "p"), node("Tanh", "x", "q"), node("Mul", "p q", "y")],
        [node("Relu", "x", "p"), node("Tanh", "x", "q"), node("Mul", "p p", "y")],
    ),
    "exponent-and-base": (
        [node("Relu", "x", "p"), node("Pow", "p x", "y")],
        [node("Relu", "x", "p"), node("Pow", "x p", "y")],
    ),
    "weight-first": ([node("MatMul", "x w", "y")], [node("MatMul", "w x", "y")]),
    "scale-and-shift": (
        [node("Mul", "x s", "m"), node("Add", "m t", "y")],
        [node("Add", "x t", "m"), node("Mul", "m s", "y")],
    ),
    "skipped-layer": (
        [node("MatMul", "x w", "h"), node("MatMul", "h w", "y")],
        [node("MatMul", "x w", "y")],
    ),
    "custom-operators": (
        [Node("c", "Op", ("x",), ("y",), domain="custom")],
        [Node("c", "Op", ("x",), ("y",), {"a": 1}, domain="custom")],
    ),
    "custom-outputs": (
        [Node("c", "Op", ("x",), ("y",), domain="custom")],
        [Node("c", "Op", ("x",), ("y", "z"), domain="custom")],
    ),
    "transpose": ([node("Transpose", "x", "y", perm=(0, 1))], [node("Transpose", "x", "y")]),
    "negative-zero": (
        [node("Clip", "x zero", "y")],
        [node("Max", "x zero", "y")],
    ),
}


@pytest.mark.parametrize("name", PAIRS_THAT_DIFFER)
def test_look_alikes_do_not_align(name: str) -> None:
    weights = {"w": (4, 4), "s": (4,), "t": (4,)}
    constants = {"zero": Tensor("float32", (), (0.0,))}
    a, b = (structure(nodes, parameters=weights, constants=constants) for nodes in PAIRS_THAT_DIFFER[name])
    assert align(a, b).differences
    assert align(b, a).differences
    assert align(a, renamed(b)).differences
    assert_aligned(a, renamed(a))
    assert_aligned(b, renamed(b))


def test_a_leaf_of_another_rank_is_a_difference() -> None:
    a = structure([node("Add", "x w", "y")], parameters={"w": (4,)})
    other = structure([node("Add", "x w", "y")], parameters={"w": (3, 4)})
    batch = structure([node("Add", "x w", "y")], parameters={"w": (1, 1, 4)})
    assert [(d.kind, d.is_certain) for d in align(a, other).differences] == [("leaf", True)]
    assert [(d.kind, d.is_certain) for d in align(a, batch).differences] == [("leaf", False)]


# graphs within nodes, functions, opsets


def branch(op_type: str, source: str, output: str) -> Graph:
    return Graph((node(op_type, source, output),), (), (ValueInfo(output, None, None),))


def choice(then: Graph, other: Graph, more: list[Node] | None = None) -> Structure:
    nodes = [
        node("ReduceSum", "x", "s", keepdims=0),
        node("Cast", "s", "c", to=9),
        node("Relu", "x", "r"),
        node("Tanh", "x", "t"),
        *(more or []),
        node("If", "c", "z", "if", then_branch=then, else_branch=other),
        node("Neg", "z", "y"),
    ]
    return structure(nodes, parameters={"w": (4,), "v": (4,)})


def test_branches_align() -> None:
    a = choice(branch("Abs", "r", "p"), branch("Add", "t w", "q"))
    found = assert_aligned(a, renamed(a))
    (step,) = (step for step in found.steps if step.a.op_type == "If")
    assert step.a.inputs == ("c", "t", "w", "r")
    assert step.order == (0, 1, 2, 3)
    assert [pair.a for pair in step.leaves] == ["w"]
    copied = choice(branch("Abs", "i", "p"), branch("Add", "w t", "q"), [node("Identity", "r", "i")])
    assert_aligned(a, copied)


@pytest.mark.parametrize(
    "other",
    [
        (branch("Abs", "r", "p"), branch("Add", "r w", "q")),
        (branch("Add", "t w", "p"), branch("Abs", "r", "q")),
        (branch("Abs", "t", "p"), branch("Add", "t w", "q")),
        (branch("Abs", "r", "p"), branch("Sub", "t w", "q")),
        (branch("Abs", "r", "p"), branch("Add", "w w", "q")),
        (
            branch("Abs", "r", "p"),
            Graph((node("Elu", "t", "e", alpha=0.5), node("Add", "e w", "q")), (), (ValueInfo("q", None, None),)),
        ),
    ],
)
def test_other_branches_do_not_align(other: tuple[Graph, Graph]) -> None:
    a = choice(branch("Abs", "r", "p"), branch("Add", "t w", "q"))
    assert align(a, choice(*other)).differences
    assert align(choice(*other), a).differences


def test_an_attribute_within_a_branch_matters() -> None:
    def elu(alpha: float) -> Graph:
        return Graph((node("Elu", "r", "p", alpha=alpha),), (), (ValueInfo("p", None, None),))

    a, b = (choice(elu(alpha), branch("Abs", "t", "q")) for alpha in (0.5, 0.25))
    (difference,) = align(a, b).differences
    assert difference.kind == "attribute"
    assert difference.message.startswith("within node 'if'")


def test_names_within_branches_are_their_own() -> None:
    """The name that one branch takes from outside is a value of the other one's own."""
    inner = Graph((node("Abs", "r", "p"), node("Neg", "p", "q")), (), (ValueInfo("q", None, None),))
    a = choice(inner, branch("Add", "t w", "u"))
    swapped = Graph((node("Abs", "t", "p"), node("Neg", "p", "q")), (), (ValueInfo("q", None, None),))
    assert_aligned(a, renamed(a))
    assert align(a, choice(swapped, branch("Add", "t w", "u"))).differences


def loop(op_type: str = "Add", steps: int = 3, swapped: bool = False) -> Structure:
    infos = [ValueInfo(name, None, None) for name in ("i", "go", "h")]
    outputs = [ValueInfo(name, None, None) for name in ("again", "next")]
    body = Graph(
        (node("Identity", "go", "again"), node(op_type, "w h" if swapped else "h w", "next")),
        tuple(infos),
        tuple(outputs),
    )
    return structure(
        [node("Loop", "count - x", "y", "loop", body=body)],
        parameters={"w": (4,)},
        constants={"count": Tensor("int64", (), (steps,))},
    )


def test_loops_align() -> None:
    found = assert_aligned(loop(), renamed(loop(swapped=True)))
    (step,) = found.steps
    assert step.a.inputs == ("count", "", "x", "w")
    assert step.order == (0, 1, 2, 3)
    assert align(loop("Sub"), loop("Sub", swapped=True)).differences
    assert align(loop(), loop("Mul")).differences


def function(name: str, output: str, nodes: tuple[Node, ...], opset: int = 20, **more: Any) -> Function:
    versions = FrozenMapping({"": opset})
    return Function(name=name, domain="custom", inputs=("u",), outputs=(output,), nodes=nodes, opset=versions, **more)


def test_calls_of_functions_align_with_their_bodies() -> None:
    body = (
        Node("a", "Elu", ("u",), ("h",), {"alpha": AttributeReference("strength", "FLOAT")}),
        Node("b", "Add", ("h", "w"), ("v",)),
    )
    block = function("Block", "v", body, attributes=("strength",))
    calls = [
        Node("one", "Block", ("x",), ("m",), {"strength": 0.5}, domain="custom"),
        Node("two", "Block", ("m",), ("y",), {"strength": 0.25}, domain="custom"),
    ]
    called = structure(calls, parameters={"w": (4,)}, functions=(block,))

    def plain(second: float) -> Structure:
        nodes = [
            node("Elu", "x", "p", alpha=0.5),
            node("Add", "p w", "q"),
            node("Elu", "q", "r", alpha=second),
            node("Add", "w r", "y"),
        ]
        return structure(nodes, parameters={"w": (4,)})

    found = assert_aligned(called, plain(0.25))
    assert [step.a.name for step in found.steps] == ["one/a", "one/b", "two/a", "two/b"]
    assert found.structure_a.functions == ()
    assert kinds(align(called, plain(0.125))) == ["attribute"]
    assert_aligned(called, called)


def test_functions_that_give_their_input_back() -> None:
    same = function("Same", "u", ())
    call = Node("call", "Same", ("x",), ("m",), domain="custom")
    called = structure([call, node("Relu", "m", "y")], functions=(same,))
    assert_aligned(called, structure([node("Relu", "x", "y")]))


def test_functions_with_other_operators_stay() -> None:
    body = (Node("a", "Softmax", ("u",), ("v",)),)
    old = function("Old", "v", body, opset=11)
    called = structure([Node("call", "Old", ("x",), ("y",), domain="custom")], functions=(old,))
    assert "opset" in kinds(align(called, structure([node("Softmax", "x", "y")])))


def test_operators_of_another_meaning_do_not_align() -> None:
    cubes = (value("x", 2, 3, 4),)
    a = replace(structure([node("Softmax", "x", "y")], opset=11), inputs=cubes)
    b = replace(structure([node("Softmax", "x", "y")], opset=13), inputs=cubes)
    assert align(a, b).differences


def test_an_opset_that_cannot_be_converted_is_named() -> None:
    nodes = [node("Hardmax", "x", "h"), node("Relu", "h", "y")]
    found = align(structure(nodes, opset=11), structure(nodes, opset=13))
    assert set(kinds(found)) == {"opset"}
    assert not any(difference.is_certain for difference in found.differences)
    assert [step.a.op_type for step in found.steps] == ["Relu"]


# size


def chain(count: int) -> Structure:
    names = ["x", *(f"h{n}" for n in range(count - 1)), "y"]
    nodes = [
        node("Add", f"{names[n]} w{n % 7}", names[n + 1]) if n % 2 else node("Tanh", names[n], names[n + 1])
        for n in range(count)
    ]
    return structure(nodes, parameters={f"w{n}": (4,) for n in range(7)})


def calls(function: Callable[[], object]) -> int:
    """How many functions a call of a function calls."""
    counted: Counter[str] = Counter()
    before = sys.getprofile()
    sys.setprofile(lambda _frame, event, _argument: counted.update([event]))
    try:
        function()
    finally:
        sys.setprofile(before)
    return counted["call"] + counted["c_call"]


def test_the_work_of_a_chain_grows_with_its_length() -> None:
    short, long = chain(300), chain(1200)
    assert calls(lambda: align(long, long)) < 5 * calls(lambda: align(short, short))


def test_a_deep_chain_has_one_fault() -> None:
    count = 20_000
    a = chain(count)
    b = renamed(a)
    found = align(a, b)
    assert found.differences == ()
    assert len(found.steps) == count
    changed = replace(a, nodes=(*a.nodes[:9000], replace(a.nodes[9000], op_type="Sigmoid"), *a.nodes[9001:]))
    assert kinds(align(changed, b)) == ["operator"]


def test_wide_sums_are_paired_by_what_they_add() -> None:
    count = 300
    nodes = [node("Mul", f"x w{n}", f"p{n}") for n in range(count)]
    order = list(np.random.default_rng(0).permutation(count))
    weights = {f"w{n}": (4,) for n in range(count)}
    a = structure([*nodes, node("Sum", " ".join(f"p{n}" for n in range(count)), "y")], parameters=weights)
    b = structure([*nodes, node("Sum", " ".join(f"p{n}" for n in order), "y")], parameters=weights)
    assert pairs(assert_aligned(a, b)) == {(f"w{n}", f"w{n}") for n in range(count)}
