"""`deepstruct diff`: layers, connections of each, and what counts as one of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deepstruct import Mask, Node, Parameter, Structure, ValueInfo
from deepstruct.comparison import Connections, Difference, compare
from deepstruct.structure import Function
from deepstruct.testing import SAMPLES, chains, feed_forward, masks


def changes(found: Difference) -> dict[str, tuple[Any, ...]]:
    return {c.name: (c.change, c.before, c.after, c.kept, c.lost, c.new) for c in found.layers}


def network(*weights: Parameter, scopes: tuple[str, ...] = (), bias: bool = False) -> Structure:
    """Linear layers one behind the other; a bias belongs to the last."""
    nodes, parameters = [], list(weights)
    for number, weight in enumerate(weights):
        inputs: tuple[str, ...] = (f"v{number}", weight.name)
        if bias and number == len(weights) - 1:
            parameters.append(Parameter("bias", "float32", (weight.shape[0],)))
            inputs = (*inputs, "bias")
        scope = scopes[number] if scopes else f"scope.{weight.name}"
        nodes.append(Node(f"node{number}", "Gemm", inputs, (f"v{number + 1}",), {"transB": 1}, scope))
    return Structure(
        nodes=tuple(nodes),
        inputs=(ValueInfo("v0", "float32", ("batch", weights[0].shape[1])),),
        outputs=(ValueInfo(f"v{len(weights)}", "float32", ("batch", weights[-1].shape[0])),),
        parameters=tuple(parameters),
    )


def weight(name: str, *shape: int, kept: int | None = None) -> Parameter:
    mask = None if kept is None else Mask.from_indices(shape, np.arange(kept))
    return Parameter(name, "float32", shape, mask)


def test_equal_structures_keep_everything() -> None:
    for structure in SAMPLES.values():
        found = compare(structure, structure)
        assert found.equal
        assert not found.layers
        assert not found.parameters
        connections = sum(p.nnz for p in structure.parameters if len(p.shape) > 1)
        assert found.connections == Connections(connections, 0, 0)


@given(st.data())
def test_connections_of_a_layer(data: st.DataObject) -> None:
    before, after = (data.draw(st.none() | masks((4, 6))) for _ in range(2))
    found = compare(*(network(Parameter("w", "float32", (4, 6), mask)) for mask in (before, after)))
    old, new = (np.ones((4, 6), bool) if mask is None else mask.to_array() for mask in (before, after))
    expected = Connections(int((old & new).sum()), int((old & ~new).sum()), int((new & ~old).sum()))
    assert found.connections == expected
    if (old == new).all():
        assert found.equal
    else:
        numbers = (expected.kept, expected.lost, expected.new)
        assert changes(found) == {"scope.w": ("rewired", "4x6", "4x6", *numbers)}
        (parameter,) = found.parameters
        assert (parameter.kept, parameter.lost, parameter.new) == numbers


@given(chains(), chains())
def test_connections_add_up(before: Structure, after: Structure) -> None:
    found = compare(before, after)
    for structure, gone in ((before, found.connections.lost), (after, found.connections.new)):
        total = sum(p.nnz for p in structure.parameters if len(p.shape) > 1)
        assert found.connections.kept + gone == total
    assert all(min(layer.kept, layer.lost, layer.new) >= 0 for layer in found.layers)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["equal"] == found.equal


def test_layers_added_removed_and_resized() -> None:
    before = network(weight("a", 3, 2), weight("b", 4, 3, kept=5), weight("c", 2, 4))
    after = network(weight("a", 3, 2), weight("b", 5, 3, kept=7), weight("d", 2, 5))
    found = compare(before, after)
    assert changes(found) == {
        "scope.b": ("resized", "4x3", "5x3", 0, 5, 7),
        "scope.c": ("removed", "2x4", "", 0, 8, 0),
        "scope.d": ("added", "", "2x5", 0, 0, 10),
    }
    assert found.connections == Connections(6, 13, 17)


def test_another_dtype_keeps_connections() -> None:
    found = compare(feed_forward(), feed_forward(dtype="float64"))
    assert {layer.change for layer in found.layers} == {"resized"}
    assert found.connections.lost == found.connections.new == 0


def test_a_bias_is_no_connection_but_a_change() -> None:
    found = compare(network(weight("w", 3, 2)), network(weight("w", 3, 2), bias=True))
    assert changes(found) == {"scope.w": ("changed", "3x2", "3x2", 6, 0, 0)}


def test_a_scope_is_one_layer_and_a_node_without_scope_another() -> None:
    before = network(weight("a", 3, 2), weight("b", 4, 3), weight("c", 2, 4), scopes=("block", "block", ""))
    after = network(*(weight(p.name, *p.shape, kept=1) for p in before.parameters), scopes=("block", "block", ""))
    assert changes(compare(before, after)) == {
        "block": ("rewired", "3x2, 4x3", "3x2, 4x3", 2, 16, 0),
        "node2": ("rewired", "2x4", "2x4", 1, 7, 0),
    }


def test_another_scope_is_no_other_connection() -> None:
    before, after = (network(weight("a", 3, 2), scopes=(scope,)) for scope in ("one", "other"))
    found = compare(before, after)
    assert not found.equal
    assert found.layers == ()
    assert found.connections == Connections(6, 0, 0)
    assert found.nodes["changed"] == ("node0",)


def test_another_function_is_a_difference() -> None:
    def calling(operator: str) -> Structure:
        nodes = (Node("inner", operator, ("a",), ("b",)),)
        function = Function(name="f", domain="own", inputs=("a",), outputs=("b",), opset={"": 20}, nodes=nodes)
        return Structure(
            opset={"": 20, "own": 1},
            functions=(function,),
            nodes=(Node("call", "f", ("x",), ("y",), domain="own"),),
            inputs=(ValueInfo("x", "float32", (3,)),),
            outputs=(ValueInfo("y", "float32", (3,)),),
        )

    assert compare(calling("Relu"), calling("Relu")).equal
    found = compare(calling("Relu"), calling("Tanh"))
    assert not found.equal
    assert found.graph == ("functions",)


def test_density_of_a_layer_is_that_of_its_parameters_with_connections() -> None:
    before = network(weight("a", 3, 2, kept=3), bias=True)
    after = network(weight("a", 4, 2, kept=6), weight("b", 2, 4, kept=1))
    first, second = compare(before, after).layers
    assert (first.density_before, first.density_after) == (0.5, 0.75)
    assert (second.density_before, second.density_after) == (None, 0.125)
