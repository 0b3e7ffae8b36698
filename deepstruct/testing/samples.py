"""Small networks that every format of structures must carry, named by their quirk."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType

import numpy as np

from deepstruct.mask import Mask
from deepstruct.sequential import Step, linear, to_structure
from deepstruct.structure import Node, Parameter, Structure, ValueInfo
from deepstruct.tensor import Tensor


def random_mask(shape: tuple[int, ...], density: float, seed: int = 0) -> Mask:
    """The mask in which each entry exists with probability `density`."""
    return Mask.from_array(np.random.default_rng(seed).random(shape) < density)


def feed_forward(sizes: tuple[int, ...] = (5, 7, 3), density: float = 0.3, dtype: str = "float32") -> Structure:
    """A plain network ``x -> fc0 -> relu -> ... -> y`` of layers with `sizes`, its weights masked."""
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


SAMPLES: Mapping[str, Structure] = MappingProxyType(
    {
        "plain": feed_forward(),
        "single-layer": feed_forward((3, 2)),
        "all-masked": feed_forward(density=0.0),
        "unmasked": feed_forward(density=1.0),
        "float64": feed_forward(dtype="float64"),
        "float16": feed_forward(dtype="float16"),
        "bfloat16": feed_forward(dtype="bfloat16"),
        "skip-connection": skip_connection(),
    }
)
"""Quirk -> structure."""
