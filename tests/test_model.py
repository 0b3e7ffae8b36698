"""Weights and Model: lazy numbers, masked entries never seen, bitwise equality."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given

import deepstruct
from deepstruct import Mask, Model, Parameter, Structure, Weights
from deepstruct.errors import StructureError
from deepstruct.testing import chains, feed_forward, masks, numbers, with_weights


@given(masks())
def test_kept_entries_and_dense_array_say_the_same(mask: Mask) -> None:
    structure = Structure(nodes=(), inputs=(), outputs=(), parameters=(Parameter("w", "float32", mask.shape, mask),))
    dense = numbers(structure.parameters[0])
    bits = mask.to_array()
    from_dense = Weights(structure, {"w": dense})
    from_kept = Weights(structure, {"w": dense[bits].reshape(-1)})
    for weights in (from_dense, from_kept):
        assert weights.kept("w").tobytes() == dense[bits].tobytes()
        assert weights["w"].tobytes() == np.where(bits, dense, np.float32(0)).tobytes()
    assert from_dense.digest() == from_kept.digest()


@given(chains("bfloat16"))
def test_equality_is_bitwise(structure: Structure) -> None:
    model = with_weights(structure, numbers)
    assert model == with_weights(structure, numbers)
    assert model != Model(structure)
    if structure.nnz:
        arrays = {name: array.copy() for name, array in (model.weights or {}).items()}
        name = next(p.name for p in structure.parameters if p.nnz)
        parameter = structure.parameter(name)
        position = 0 if parameter.mask is None else int(parameter.mask.indices()[0])
        arrays[name].view(np.uint16).reshape(-1)[position] ^= 1
        assert model != Model(structure, Weights(structure, arrays))


def test_a_negative_zero_is_another_number() -> None:
    structure = Structure(nodes=(), inputs=(), outputs=(), parameters=(Parameter("w", "float32", (2, 3)),))
    zeros = np.zeros((2, 3), np.float32)
    assert Model(structure, Weights(structure, {"w": zeros})) != Model(structure, Weights(structure, {"w": -zeros}))


def test_numbers_are_read_one_tensor_at_a_time() -> None:
    structure, seen = feed_forward(), []

    def load(parameter: Parameter) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        seen.append(parameter.name)
        return np.ones(parameter.shape, np.float32)

    weights = Weights(structure, load)
    assert len(weights) == 4
    assert seen == []
    assert weights["fc0.bias"].shape == (7,)
    assert seen == ["fc0.bias"]


def test_weights_belong_to_their_masks() -> None:
    model = with_weights(feed_forward())
    assert model.weights is not None
    rewired = feed_forward(density=0.5)
    with pytest.raises(StructureError, match="another dtype, shape or mask"):
        dataclasses.replace(model, structure=rewired)
    carried = Model(rewired, Weights(rewired, model.weights))
    assert carried.weights is not None
    old, new = model.structure.parameter("fc0.weight").mask, rewired.parameter("fc0.weight").mask
    assert old is not None
    assert new is not None
    both = old.to_array() & new.to_array()
    assert np.array_equal(carried.weights["fc0.weight"], np.where(both, model.weights["fc0.weight"], 0))


def test_masks_can_be_pickled_and_stay_immutable() -> None:
    mask = feed_forward().parameter("fc0.weight").mask
    twin = pickle.loads(pickle.dumps(mask))
    assert twin == mask
    assert not twin.packed.flags.writeable


def test_names_shapes_and_dtypes_must_fit() -> None:
    structure = feed_forward()
    arrays = {p.name: np.zeros(p.shape, np.float32) for p in structure.parameters}
    with pytest.raises(StructureError) as caught:
        Weights(structure, {**{k: v for k, v in arrays.items() if k != "fc0.bias"}, "extra": arrays["fc0.bias"]})
    assert [(f.code, f.pointer) for f in caught.value.faults] == [
        ("WEIGHTS_MISSING", "/parameters/fc0.bias"),
        ("WEIGHTS_UNEXPECTED", "/parameters/extra"),
    ]
    for wrong in (np.zeros((5, 7), np.float32), np.zeros((7, 5)), np.zeros(3, np.float32)):
        with pytest.raises(StructureError, match="WEIGHTS_SHAPE"):
            Weights(structure, {**arrays, "fc0.weight": wrong})["fc0.weight"]
    smaller = dataclasses.replace(structure, parameters=structure.parameters)
    assert Model(smaller, Weights(smaller, arrays)).weights is not None
    with pytest.raises(StructureError):
        Model(feed_forward((5, 7)), Weights(structure, arrays))


def test_what_is_no_model_is_refused_at_once() -> None:
    structure = feed_forward()
    for make in (
        lambda: Model("x"),  # type: ignore[arg-type]  # on purpose
        lambda: Model(structure, {}),  # type: ignore[arg-type]  # on purpose
        lambda: Weights(None, {}),  # type: ignore[arg-type]  # on purpose
        lambda: Weights(structure, 5),  # type: ignore[arg-type]  # on purpose
        lambda: deepstruct.to_module(structure),  # type: ignore[arg-type]  # on purpose
    ):
        with pytest.raises(TypeError):
            make()
    with pytest.raises(StructureError, match="not a numpy array"):
        Weights(structure, lambda _: None)["fc0.bias"]  # type: ignore[arg-type,return-value]  # on purpose
