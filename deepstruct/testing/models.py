"""Hypothesis strategies for feed-forward networks, models with numbers, and documents."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from deepstruct import document
from deepstruct.encoding import Encoding, encode
from deepstruct.model import Model
from deepstruct.sequential import Step, layer_norm, linear, to_structure
from deepstruct.structure import Parameter, Structure
from deepstruct.testing.numbers import Make, numbers, with_weights
from deepstruct.testing.structures import structures
from deepstruct.testing.values import masks

_ENCODINGS: tuple[Encoding, ...] = ("bitmap", "coo", "delta-varint")


@st.composite
def chains(draw: st.DrawFn, dtype: str = "float32") -> Structure:
    """Feed-forward networks with masked weights and biases, any activations, some with layer norm.

    Args:
        draw: given by hypothesis.
        dtype: of all parameters.
    """
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


@st.composite
def models(draw: st.DrawFn, of: st.SearchStrategy[Structure] | None = None, make: Make = numbers) -> Model:
    """Models: a structure and numbers, by default 0, -0.0, infinity and NaN among the entries that exist.

    Args:
        draw: given by hypothesis.
        of: the structures; any of `structures` if None.
        make: gives the numbers of a parameter, see `with_weights`.
    """
    structure = draw(structures() if of is None else of)
    first = draw(st.integers(0, 2**16))
    return with_weights(structure, lambda parameter, seed: make(parameter, first + seed))


@st.composite
def documents(draw: st.DrawFn, of: st.SearchStrategy[Structure] | None = None) -> dict[str, Any]:
    """Documents without weights, as JSON values: what `json.loads` gives for a valid one, masks in any encoding.

    Args:
        draw: given by hypothesis.
        of: the structures that they describe; any of `structures`, unknown members included, if None.
    """
    structure = draw(structures(extra=True) if of is None else of)
    made = document.to_json(structure)
    for parameter in structure.parameters:
        if parameter.mask is not None:
            encoding = draw(st.sampled_from(_ENCODINGS))
            mask = made["parameters"][parameter.name]["mask"]
            claim = {name: mask[name] for name in ("sparsity_structure",) if name in mask}
            made["parameters"][parameter.name]["mask"] = encode(parameter.mask, encoding) | claim
    return made
