"""Numbers for structures without weights: their distribution, their determinism, and what they leave alone."""

from __future__ import annotations

import itertools
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deepstruct
from deepstruct import Mask, Node, Parameter, Structure, ValueInfo
from deepstruct.errors import UnsupportedError, UsageError
from deepstruct.initialisation import INITS, initial_weights
from deepstruct.testing import SAMPLES, chains, feed_forward, random_mask

KINDS = ("float16", "bfloat16", "float32", "float64")


def single(node: Node, *parameters: Parameter) -> Structure:
    """One operator between x and y, whose shapes are open."""
    dtype = parameters[0].dtype
    return Structure(
        nodes=(node,),
        inputs=(ValueInfo("x", dtype, None),),
        outputs=(ValueInfo("y", dtype, None),),
        parameters=parameters,
    )


def deviation(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values.astype(np.float64)))))


@given(structure=chains() | st.sampled_from(list(SAMPLES.values())), init=st.sampled_from(INITS), seed=st.integers(0))
def test_every_parameter_gets_numbers_of_its_dtype(structure: Structure, init: str, seed: int) -> None:
    weights = initial_weights(structure, init, seed)
    for parameter in structure.parameters:
        kept = weights.kept(parameter.name)
        assert kept.shape == (parameter.nnz,)
        assert np.isfinite(kept.astype(np.float64)).all()
        assert np.array_equal(kept, weights.kept(parameter.name))
        dense = weights[parameter.name]
        assert np.count_nonzero(dense) <= parameter.nnz
        if init in ("kaiming", "xavier") and len(parameter.shape) == 2:
            assert len(set(kept.tolist())) >= len(kept) / 2


@pytest.mark.parametrize("dtype", KINDS)
def test_dtypes(dtype: str) -> None:
    weights = initial_weights(feed_forward((50, 60, 3), 0.5, dtype), "kaiming", 0)
    assert {str(array.dtype) for array in weights.values()} == {dtype}
    reference = initial_weights(feed_forward((50, 60, 3), 0.5, "float64"), "kaiming", 0)
    for name, array in weights.items():
        np.testing.assert_allclose(array.astype(np.float64), reference[name], rtol=1e-2)


def test_numbers_depend_on_seed_and_name_alone() -> None:
    small, large = feed_forward((6, 5)), feed_forward((6, 5, 4, 3))
    first, second = initial_weights(small, "kaiming", 7), initial_weights(large, "kaiming", 7)
    assert np.array_equal(first["fc0.weight"], second["fc0.weight"])
    assert list(reversed([first[name].tobytes() for name in first])) == [
        first[n].tobytes() for n in reversed(list(first))
    ]
    others = [initial_weights(small, "kaiming", seed)["fc0.weight"].tobytes() for seed in (7, 8, 2**70, None, None)]
    assert others[0] == first["fc0.weight"].tobytes()
    assert len(set(others)) == len(others)
    unseeded = initial_weights(small, "kaiming")
    assert np.array_equal(unseeded["fc0.weight"], unseeded["fc0.weight"])
    assert not np.array_equal(second["fc1.weight"][:3, :3], second["fc2.weight"][:3, :3])


CONNECTIONS: dict[str, tuple[Node, tuple[int, ...], tuple[int, ...]]] = {
    "gemm-transposed": (Node("n", "Gemm", ("x", "w"), ("y",), {"transB": 1}), (300, 200), (1,)),
    "gemm": (Node("n", "Gemm", ("x", "w"), ("y",)), (300, 200), (0,)),
    "gemm-left": (Node("n", "Gemm", ("w", "x"), ("y",)), (300, 200), (1,)),
    "gemm-left-transposed": (Node("n", "Gemm", ("w", "x"), ("y",), {"transA": 1}), (300, 200), (0,)),
    "matmul": (Node("n", "MatMul", ("x", "w"), ("y",)), (300, 200), (0,)),
    "matmul-left": (Node("n", "MatMul", ("w", "x"), ("y",)), (300, 200), (1,)),
    "matmul-batch": (Node("n", "MatMul", ("x", "w"), ("y",)), (4, 150, 100), (1,)),
    "conv": (Node("n", "Conv", ("x", "w"), ("y",)), (60, 100, 3, 5), (1, 2, 3)),
    "conv-grouped": (Node("n", "Conv", ("x", "w"), ("y",), {"group": 4}), (60, 100, 3, 5), (1, 2, 3)),
    "conv-transposed": (Node("n", "ConvTranspose", ("x", "w"), ("y",)), (60, 100, 3, 5), (0, 2, 3)),
    "embedding": (Node("n", "Gather", ("w", "x"), ("y",)), (300, 200), (1,)),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", CONNECTIONS)
def test_variance_is_that_of_the_connections_that_exist(name: str, masked: bool) -> None:
    node, shape, axes = CONNECTIONS[name]
    density = np.linspace(0.1, 1, shape[-1] * shape[0]).reshape(shape[0], *[1] * (len(shape) - 2), shape[-1])
    kept = np.random.default_rng(0).random(shape) < (density if masked else 1)
    if masked:
        kept.reshape(-1)[:7] = False
    structure = single(node, Parameter("w", "float64", shape, Mask.from_array(kept)))
    fan_in = np.broadcast_to(kept.sum(axis=axes, keepdims=True), shape)
    weights = initial_weights(structure, "kaiming", 3)["w"]
    assert not weights[~kept].any()
    assert deviation(weights[kept] * np.sqrt(fan_in[kept] / 2)) == pytest.approx(1, abs=0.02)
    few = kept & (fan_in <= np.quantile(fan_in[kept], 0.2))
    assert deviation(weights[few] * np.sqrt(fan_in[few] / 2)) == pytest.approx(1, abs=0.05)


def test_xavier_counts_both_sides() -> None:
    kept = random_mask((300, 200), 0.4).to_array()
    node = CONNECTIONS["gemm-transposed"][0]
    weights = initial_weights(single(node, Parameter("w", "float64", kept.shape, Mask.from_array(kept))), "xavier", 3)
    total = kept.sum(axis=1, keepdims=True) + kept.sum(axis=0, keepdims=True)
    assert deviation((weights["w"] * np.sqrt(total / 2))[kept]) == pytest.approx(1, abs=0.02)


def test_a_unit_counts_the_connections_of_its_whole_sum() -> None:
    graph: nx.DiGraph[Any] = nx.DiGraph()
    graph.add_edges_from(itertools.product(range(40), range(40, 80)))
    graph.add_edges_from(itertools.product(range(20, 60), range(80, 200)))
    summed = deepstruct.from_networkx(graph, 3, 2, sum_before_activation=True, init="kaiming", seed=0).weights
    apart = deepstruct.from_networkx(graph, 3, 2, init="kaiming", seed=0).weights
    assert summed is not None
    assert apart is not None
    for name, fan_in in (("layers_main_hidden.1.weight", 20), ("layers_skip_hidden.0.weight", 20)):
        assert deviation(summed.kept(name)) == pytest.approx(np.sqrt(2 / 40), rel=0.05)
        assert deviation(apart.kept(name)) == pytest.approx(np.sqrt(2 / fan_in), rel=0.05)


def test_nested_additions_are_one_sum_and_a_residual_is_none() -> None:
    square = [Parameter(f"w{i}", "float64", (100, 100)) for i in range(4)]
    structure = Structure(
        inputs=(ValueInfo("x", "float64", ("n", 100)),),
        outputs=(ValueInfo("y", "float64", ("n", 100)),),
        nodes=(
            *(Node(f"m{i}", "MatMul", ("x", f"w{i}"), (f"p{i}",)) for i in range(3)),
            Node("add", "Add", ("p0", "p1"), ("a",)),
            Node("bias", "Add", ("a", "b"), ("ab",)),
            Node("more", "Add", ("ab", "p2"), ("s",)),
            Node("act", "Relu", ("s",), ("r",)),
            Node("last", "MatMul", ("r", "w3"), ("q",)),
            Node("skip", "Add", ("r", "q"), ("y",)),
        ),
        parameters=(*square, Parameter("b", "float64", (100,))),
    )
    weights = initial_weights(structure, "kaiming", 0)
    for name in ("w0", "w1", "w2"):
        assert deviation(weights[name]) == pytest.approx(np.sqrt(2 / 300), rel=0.03)
    assert deviation(weights["w3"]) == pytest.approx(np.sqrt(2 / 100), rel=0.03)
    assert not weights["b"].any()


@pytest.mark.parametrize("init", INITS)
def test_biases_and_normalisations_begin_neutral(init: str) -> None:
    names = ["scale", "shift", "mean", "var"]
    parameters = [Parameter(name, "float32", (6,)) for name in names]
    node = Node("n", "BatchNormalization", ("x", *names), ("y",))
    weights = initial_weights(single(node, *parameters), init, 0)
    assert {name: set(weights[name].tolist()) for name in names} == {
        "scale": {1.0},
        "shift": {0.0},
        "mean": {0.0},
        "var": {1.0},
    }
    graph: nx.DiGraph[Any] = nx.DiGraph([(0, 1)])
    model = deepstruct.from_networkx(graph, 3, 2, use_layer_norm=True, init=init)
    assert model.weights is not None
    for name, array in model.weights.items():
        if "normalizations" in name or name.endswith("bias"):
            assert set(array.tolist()) == {float("normalizations" in name and name.endswith("weight"))}


@pytest.mark.parametrize(("init", "number"), [("zeros", 0), ("ones", 1)])
def test_constants(init: str, number: int) -> None:
    weights = initial_weights(feed_forward(), init)
    assert set(weights.kept("fc0.weight").tolist()) == {number}
    assert weights["fc0.weight"].sum() == number * weights.kept("fc0.weight").size


@pytest.mark.parametrize("dtype", ["int8", "uint64", "bool"])
def test_integers_are_zeros(dtype: str) -> None:
    structure = single(Node("n", "Gather", ("w", "x"), ("y",)), Parameter("w", dtype, (3, 4)))
    array = initial_weights(structure, "kaiming", 0)["w"]
    assert (str(array.dtype), bool(array.any())) == (dtype, False)


def test_empty_parameters_and_units_without_connections() -> None:
    node = CONNECTIONS["gemm-transposed"][0]
    for mask in (Mask.from_array(np.zeros((4, 3), bool)), Mask.from_array(np.zeros((0, 3), bool)), None):
        shape = (0, 3) if mask is None else mask.shape
        for init in INITS:
            array = initial_weights(single(node, Parameter("w", "float32", shape, mask)), init, 0)["w"]
            assert (array.shape, bool(array.any())) == (shape, False)


@pytest.mark.parametrize("seed", [-1, True, 1.0, "1"], ids=repr)
def test_a_seed_that_is_none_is_refused(seed: Any) -> None:
    with pytest.raises(UsageError, match="the seed must be an integer"):
        initial_weights(feed_forward(), "kaiming", seed)


def test_an_unknown_init_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown init 'kaming'; choose from kaiming, .*did you mean 'kaiming'"):
        initial_weights(feed_forward(), "kaming")


def test_strings_are_refused() -> None:
    structure = single(Node("n", "Identity", ("w",), ("y",)), Parameter("w", "string", (3,)))
    with pytest.raises(UnsupportedError, match="the parameter 'w' holds strings"):
        initial_weights(structure, "zeros")
