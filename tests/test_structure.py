"""Structure and its parts: values that cannot be invalid, cannot be changed, and compare by content."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from deepstruct import Mask, Node, Parameter, Structure, Tensor, ValueInfo
from deepstruct.errors import StructureError
from deepstruct.frozen import FrozenMapping
from deepstruct.testing import SAMPLES, chains, feed_forward, random_mask, skip_connection


@given(chains())
def test_structures_are_values(structure: Structure) -> None:
    twin = dataclasses.replace(structure, parameters=tuple(reversed(structure.parameters)))
    assert twin == structure
    assert hash(twin) == hash(structure)
    assert structure.nnz <= structure.size


def test_they_cannot_be_changed() -> None:
    structure = feed_forward()
    with pytest.raises(dataclasses.FrozenInstanceError):
        structure.name = "other"  # type: ignore[misc]  # on purpose
    with pytest.raises(TypeError):
        structure.nodes[0].attributes["transB"] = 0  # type: ignore[index]  # on purpose
    source = {"a": [1]}
    frozen = dataclasses.replace(structure, attributes=source)
    source["a"].append(2)
    assert frozen.attributes["a"] == (1,)


def test_a_full_mask_says_the_same_as_none() -> None:
    assert Parameter("w", "float32", (2, 3), Mask.full((2, 3))) == Parameter("w", "float32", (2, 3))


def test_parameters_stand_in_the_order_of_use() -> None:
    assert [p.name for p in skip_connection().parameters] == ["w.up", "w.down", "b.down"]


@pytest.mark.parametrize(("left", "right"), [(1, 1.0), (1, True), (0.0, -0.0), (0, None), ("1", 1)])
def test_attributes_tell_types_apart(left: Any, right: Any) -> None:
    assert FrozenMapping({"a": left}) != FrozenMapping({"a": right})
    assert FrozenMapping({"a": [left]}) != FrozenMapping({"a": [right]})
    assert FrozenMapping({"a": {"b": left}}) != FrozenMapping({"a": {"b": right}})
    assert FrozenMapping({"a": left}) == {"a": left}


def test_floats_are_those_that_onnx_stores() -> None:
    node = Node("n", "LayerNormalization", ("x", "s"), ("y",), {"epsilon": 1e-5})
    assert node.attributes["epsilon"] == float(np.float32(1e-5)) != 1e-5


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_valid(name: str) -> None:
    assert SAMPLES[name].nodes


X = ValueInfo("x", "float32", ("batch", 3))
Y = ValueInfo("y", "float32", ("batch", 5))
W = Parameter("w", "float32", (5, 3))


def gemm(**changes: Any) -> Node:
    good: dict[str, Any] = {"name": "g", "op_type": "Gemm", "inputs": ("x", "w"), "outputs": ("y",)}
    return Node(**{**good, "attributes": {"transB": 1}, **changes})


def structure(**changes: Any) -> Structure:
    good: dict[str, Any] = {"nodes": (gemm(),), "inputs": (X,), "outputs": (Y,), "parameters": (W,)}
    return Structure(**{**good, **changes})


RELU = Node("r", "Relu", ("y",), ("z",))

LOOP: dict[str, Any] = {}
LOOP["a"] = [LOOP]

WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "nodes-of-another-type": ({"nodes": ("g",)}, "TYPE_MISMATCH", "/graph/nodes"),
    "parameters-are-a-string": ({"parameters": "w"}, "TYPE_MISMATCH", "/parameters"),
    "node-twice": ({"nodes": (gemm(), gemm(outputs=("z",)))}, "DUPLICATE_NAME", "/graph/nodes/1/name"),
    "value-twice": ({"nodes": (gemm(), gemm(name="h"))}, "DUPLICATE_NAME", "/graph/nodes/1/outputs/0"),
    "parameter-like-input": (
        {"parameters": (W, Parameter("x", "float32", (3,)))},
        "DUPLICATE_NAME",
        "/parameters/x",
    ),
    "unknown-input": ({"nodes": (gemm(inputs=("x", "v")),)}, "UNRESOLVED_REFERENCE", "/graph/nodes/0/inputs/1"),
    "unknown-output": (
        {"outputs": (ValueInfo("q", "float32", None),)},
        "UNRESOLVED_REFERENCE",
        "/graph/outputs/0/name",
    ),
    "late-input": ({"nodes": (RELU, gemm())}, "NODE_ORDER", "/graph/nodes/0/inputs/0"),
    "cycle": (
        {"nodes": (gemm(inputs=("z", "w")), RELU)},
        "GRAPH_CYCLE",
        "/graph/nodes/0",
    ),
    "unknown-operator": ({"nodes": (gemm(op_type="Gem"),)}, "UNKNOWN_OPERATOR", "/graph/nodes/0/op"),
    "deprecated-operator": (
        {"nodes": (Node("u", "Upsample", ("x", "w"), ("y",)),)},
        "UNKNOWN_OPERATOR",
        "/graph/nodes/0/op",
    ),
    "too-few-inputs": ({"nodes": (gemm(inputs=("x",)),)}, "OPERATOR_ARITY", "/graph/nodes/0/inputs"),
    "too-many-outputs": ({"nodes": (gemm(outputs=("y", "z")),)}, "OPERATOR_ARITY", "/graph/nodes/0/outputs"),
    "unknown-attribute": (
        {"nodes": (gemm(attributes={"transC": 1}),)},
        "OPERATOR_ATTRIBUTE",
        "/graph/nodes/0/attributes/transC",
    ),
    "attribute-type": (
        {"nodes": (gemm(attributes={"alpha": 1}),)},
        "OPERATOR_ATTRIBUTE",
        "/graph/nodes/0/attributes/alpha",
    ),
    "missing-attribute": (
        {"nodes": (Node("c", "Concat", ("x", "w"), ("y",)),)},
        "OPERATOR_ATTRIBUTE",
        "/graph/nodes/0/attributes",
    ),
    "opset-zero": ({"opset": {"": 0}}, "TYPE_MISMATCH", "/graph/opset/"),
    "opset-of-the-future": ({"opset": {"": 10_000}}, "UNKNOWN_OPSET", "/graph/opset/"),
    "no-opset": ({"opset": {}}, "UNKNOWN_OPSET", "/graph/nodes/0/op"),
    "shapes": ({"parameters": (Parameter("w", "float32", (5, 4)),)}, "SHAPE_MISMATCH", "/graph/nodes/0/inputs/1"),
    "transposed": ({"nodes": (gemm(attributes={}),)}, "SHAPE_MISMATCH", "/graph/nodes/0/inputs/1"),
    "output-shape": (
        {"outputs": (ValueInfo("y", "float32", ("batch", 6)),)},
        "SHAPE_MISMATCH",
        "/graph/outputs/0/shape",
    ),
    "attribute-not-json": ({"attributes": {"a": [float("nan")]}}, "ATTRIBUTE_VALUE", "/graph/attributes/a/0"),
    "attribute-huge": ({"attributes": {"a": 2**53}}, "ATTRIBUTE_VALUE", "/graph/attributes/a"),
    "extra-known": ({"extra": {"format": "x"}}, "INVALID_VALUE", "/format"),
    "extra-graph-known": ({"extra": {"graph": {"nodes": 5}}}, "INVALID_VALUE", "/graph/nodes"),
    "extra-graph-no-object": ({"extra": {"graph": 5}}, "TYPE_MISMATCH", "/graph"),
    "extra-no-json": ({"extra": {"k": [b"x"]}}, "ATTRIBUTE_VALUE", "/k/0"),
    "extra-nan": ({"extra": {"k": float("nan")}}, "ATTRIBUTE_VALUE", "/k"),
    "attributes-inside-themselves": ({"attributes": LOOP}, "TYPE_MISMATCH", "/graph/attributes"),
    "softmax-axis": (
        {"nodes": (gemm(outputs=("h",)), Node("s", "Softmax", ("h",), ("y",), {"axis": 2}))},
        "SHAPE_MISMATCH",
        "/graph/nodes/1/inputs/0",
    ),
    "norm-scale": (
        {"nodes": (gemm(outputs=("h",)), Node("n", "LayerNormalization", ("h", "x"), ("y",)))},
        "SHAPE_MISMATCH",
        "/graph/nodes/1/inputs/1",
    ),
    "name-surrogate": ({"name": "\ud800"}, "INVALID_VALUE", "/graph/name"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_invalid_structure_cannot_be_made(name: str) -> None:
    changes, code, place = WRONG[name]
    with pytest.raises(StructureError) as caught:
        structure(**changes)
    assert (code, place) in [(fault.code, fault.pointer) for fault in caught.value.faults]


def test_all_faults_come_at_once() -> None:
    with pytest.raises(StructureError) as caught:
        structure(nodes=(gemm(inputs=("x", "v")), Node("r", "Rel", ("q",), ("z",))))
    assert len(caught.value.faults) == 3
    assert "did you mean 'Relu'" in str(caught.value)


def test_a_cycle_is_named() -> None:
    with pytest.raises(StructureError, match=r"'g' -> 'r' -> 'g'|'r' -> 'g' -> 'r'"):
        structure(nodes=(gemm(inputs=("z", "w")), RELU))


def test_other_domains_are_taken_as_they_are() -> None:
    node = Node("m", "Anything", ("x", "", "w"), ("y",), {"k": 1.5}, domain="com.example")
    assert structure(nodes=(node,), opset={"com.example": 1}).nodes == (node,)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Node("", "Relu", ("x",), ("y",)),
        lambda: Node("n", "Relu", "x", ("y",), {"a": object()}),  # type: ignore[arg-type,dict-item]  # on purpose
        lambda: Node("n", "Relu", ("x",), ("y",), {"a": True}),
        lambda: Node("n", "Relu", ("x",), ("y",), {"a": [1, 2.0]}),  # type: ignore[dict-item]  # on purpose
        lambda: Node("n", "Relu", ("x",), ("y",), {"a": 2**63}),
        lambda: Node("n", "Relu", ("x",), ("y",), {"a": 1e300}),
        lambda: Node("n", "Relu", ("x",), (7,)),  # type: ignore[arg-type]  # on purpose
        lambda: ValueInfo("x", "float33", (1,)),
        lambda: ValueInfo("x", "float32", (-1,)),
        lambda: ValueInfo("x", "float32", (True,)),
        lambda: Parameter("w", "float32", (2, True)),
        lambda: Parameter("w", "float32", (2, 3), random_mask((3, 2), 0.5)),
        lambda: Parameter("w", "float32", (2, 3), np.ones((2, 3))),  # type: ignore[arg-type]  # on purpose
        lambda: Parameter("", "float32", (2, 3)),
        lambda: Tensor("int64", (2,), (1,)),
        lambda: Tensor("int64", (1,), (1.0,)),
        lambda: Tensor("int8", (1,), (128,)),
        lambda: Tensor("float32", (2000,), (0.0,) * 2000),
        lambda: Tensor("complex64", (), (0.0,)),
        lambda: Tensor.from_array(np.array([None, 1], object)),
        lambda: Node("n", "Relu", ("x",), ("y",), extra={"op": 1}),
        lambda: ValueInfo("x", "float32", None, extra={"dtype": 1}),
        lambda: Parameter("w", "float32", (2, 3), extra={"mask": {"nnz": 1}}),
        lambda: Parameter("w", "float32", (2, 3), extra={"mask": 1}),
    ],
)
def test_invalid_parts_cannot_be_made(make: Any) -> None:
    with pytest.raises(StructureError):
        make()


@pytest.mark.parametrize(
    "array",
    [np.array([[1, -2, 3]], np.int8), np.array(2.5, np.float16), np.array([True, False]), np.array(["a", "ü"])],
)
def test_tensors_come_back(array: Any) -> None:
    tensor = Tensor.from_array(array)
    back = tensor.to_array()
    assert back.shape == array.shape
    assert back.tolist() == array.tolist()
    assert Tensor.from_array(back) == tensor
