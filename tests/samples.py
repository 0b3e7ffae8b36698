"""Masks, structures and models for tests: hypothesis strategies, and samples named by their quirk."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from deepstruct import Mask, Model, Node, Parameter, Structure, Tensor, ValueInfo, Weights, dtypes
from deepstruct.sequential import Step, layer_norm, linear, to_structure

FLOATS = ("float32", "float64", "float16", "bfloat16")


def random_mask(shape: tuple[int, ...], density: float, seed: int = 0) -> Mask:
    return Mask.from_array(np.random.default_rng(seed).random(shape) < density)


@st.composite
def shapes(draw: st.DrawFn, least: int = 0, most: int = 4) -> tuple[int, ...]:
    """Shapes whose extents differ, so that a transposed array is seen."""
    return tuple(draw(st.lists(st.integers(0, 9), min_size=least, max_size=most, unique=True)))


@st.composite
def masks(draw: st.DrawFn, shape: tuple[int, ...] | None = None) -> Mask:
    """Masks that are empty, full, with one entry, random, or made of blocks."""
    shape = draw(shapes()) if shape is None else shape
    size = math.prod(shape)
    kind = draw(st.sampled_from(["empty", "full", "one", "random", "blocks"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bits = np.zeros(size, dtype=np.bool_)
    if kind == "full":
        bits[:] = True
    elif kind == "one" and size:
        bits[rng.integers(size)] = True
    elif kind == "random":
        bits = rng.random(size) < draw(st.sampled_from([0.02, 0.1, 0.5, 0.9]))
    elif kind == "blocks" and shape:
        axis = draw(st.integers(0, len(shape) - 1))
        line = rng.random(shape[axis]) < 0.5
        along = [-1 if i == axis else 1 for i in range(len(shape))]
        return Mask.from_array(np.broadcast_to(line.reshape(along), shape).copy())
    return Mask.from_array(bits.reshape(shape))


def numbers(parameter: Parameter, seed: int = 0) -> NDArray[Any]:
    """Random numbers of a parameter's shape and dtype, with zeros, -0.0, infinity and NaN among the kept ones."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(parameter.shape)
    flat = values.reshape(-1)
    for position, special in zip(rng.permutation(flat.size), [0.0, -0.0, np.inf, np.nan], strict=False):
        flat[position] = special
    return np.asarray(flat.reshape(parameter.shape).astype(dtypes.to_numpy(parameter.dtype)))


def tame(parameter: Parameter, seed: int = 0) -> NDArray[Any]:
    """Random finite numbers, one of the kept ones 0."""
    values = np.random.default_rng(seed).standard_normal(parameter.shape)
    values.reshape(-1)[: min(1, values.size)] = 0
    return np.asarray(values.astype(dtypes.to_numpy(parameter.dtype)))


def with_weights(structure: Structure, make: Any = tame) -> Model:
    arrays = {p.name: make(p, seed) for seed, p in enumerate(structure.parameters)}
    return Model(structure, Weights(structure, arrays))


@st.composite
def chains(draw: st.DrawFn, dtype: str = "float32") -> Structure:
    """Feed-forward structures with masked weights and biases, any activations, some with layer norm."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=2, max_size=5))
    steps: list[Step] = []
    for number, (source, target) in enumerate(pairwise(sizes)):
        scope = draw(st.sampled_from(["", "blöcke.0.fc", "~/x"])) + str(number)
        weight = Parameter(f"{scope}.weight", dtype, (target, source), draw(st.none() | masks((target, source))))
        bias = Parameter(f"{scope}.bias", dtype, (target,), draw(st.none() | masks((target,))))
        steps.append(linear(weight, draw(st.sampled_from([bias, None])), scope))
        if draw(st.booleans()):
            scale = Parameter(f"{scope}.norm.weight", dtype, (target,))
            steps.append(layer_norm(scale, None, draw(st.sampled_from([1e-5, 1e-12, 0.1])), f"{scope}.norm"))
        steps.append(Step(draw(st.sampled_from(["Relu", "Tanh", "Sigmoid", "Identity"]))))
    return to_structure(steps, {"note": draw(st.sampled_from([1, 1.0, True, None, "ü", [1, 2.5], {"a": []}]))})


def feed_forward(sizes: tuple[int, ...] = (5, 7, 3), density: float = 0.3, dtype: str = "float32") -> Structure:
    """A small plain network ``x -> fc0 -> relu -> ... -> y``."""
    steps: list[Step] = []
    for number, (source, target) in enumerate(pairwise(sizes)):
        scope = f"fc{number}"
        mask = random_mask((target, source), density, seed=number)
        weight = Parameter(f"{scope}.weight", dtype, (target, source), mask)
        steps += [linear(weight, Parameter(f"{scope}.bias", dtype, (target,)), scope), Step("Relu")]
    return to_structure(steps[:-1])


def skip_connection() -> Structure:
    """Two layers whose input is added to their output, MatMul orientation, a constant and a masked bias."""
    mask = random_mask((4, 6), 0.4)
    return Structure(
        name="skip",
        opset={"": 18},
        inputs=(ValueInfo("x", "float32", ("batch", 4)),),
        outputs=(ValueInfo("z", "float32", (None, 4)), ValueInfo("t", "float32", ("batch", 4))),
        nodes=(
            Node("up", "MatMul", ("x", "w.up"), ("u",), scope="block.up"),
            Node("act", "Elu", ("u",), ("a",), {"alpha": 0.5}),
            Node("down", "Gemm", ("a", "w.down", "b.down"), ("d",), {"alpha": 2.0, "transB": 1}),
            Node("twice", "Mul", ("x", "two"), ("t",)),
            Node("add", "Add", ("d", "t"), ("z",)),
        ),
        parameters=(
            Parameter("w.up", "float32", (4, 6), mask),
            Parameter("w.down", "float32", (4, 6), Mask.from_indices((4, 6), np.array([23]))),
            Parameter("b.down", "float32", (4,), Mask.from_indices((4,), np.empty(0, np.int64))),
        ),
        constants={"two": Tensor("float32", (), (2.0,))},
        attributes={"family": "none of ours"},
    )


SAMPLES: dict[str, Structure] = {
    "plain": feed_forward(),
    "single-layer": feed_forward((3, 2)),
    "all-masked": feed_forward(density=0.0),
    "unmasked": feed_forward(density=1.0),
    "float64": feed_forward(dtype="float64"),
    "float16": feed_forward(dtype="float16"),
    "bfloat16": feed_forward(dtype="bfloat16"),
    "skip-connection": skip_connection(),
}
"""Structures named by their quirk."""
