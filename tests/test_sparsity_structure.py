"""Claims of N:M masks: what is true of every mask, on every way through files, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deepstruct
from deepstruct import Mask, Model, Node, Parameter, Structure, ValueInfo, document, sparsity_structure
from deepstruct.errors import DocumentError, StructureError
from deepstruct.sparsity_structure import SparsityStructure

TWO_OF_FOUR = Mask.from_array(np.tile(np.array([True, False, True, False]), (6, 2)))


def structure(mask: Mask | None, claim: SparsityStructure | None, shape: tuple[int, ...] = (6, 8)) -> Structure:
    return Structure(
        nodes=(Node("fc", "Gemm", ("x", "w"), ("y",), {"transB": 1}),),
        inputs=(ValueInfo("x", "float32", ("batch", shape[1])),),
        outputs=(ValueInfo("y", "float32", ("batch", shape[0])),),
        parameters=(Parameter("w", "float32", shape, mask, sparsity_structure=claim),),
    )


@given(data=st.data(), axis=st.integers(0, 2), m=st.integers(1, 4), seed=st.integers(0, 99))
def test_a_claim_is_true_exactly_if_no_group_has_more(data: st.DataObject, axis: int, m: int, seed: int) -> None:
    shape = [2, 3, 5]
    shape[axis] = m * data.draw(st.integers(1, 3))
    n = data.draw(st.integers(1, m))
    array = np.random.default_rng(seed).random(shape) < 0.6
    along = np.moveaxis(array, axis, -1)
    counts = along.reshape(*along.shape[:-1], -1, m).sum(axis=-1)
    claim, mask = SparsityStructure(n, m, axis), Mask.from_array(array)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparsity_structure, "_SLAB", data.draw(st.sampled_from([1, 7, 1 << 22])))
        found = list(claim.faults(mask.shape, mask))
    assert bool(found) == bool((counts > n).any())


def test_the_first_crowded_group_is_named() -> None:
    array = TWO_OF_FOUR.to_array()
    array[4, 5] = True
    with pytest.raises(StructureError, match=r"more than 2 of the 4 entries from \[4, 4\] on"):
        Parameter("w", "float32", (6, 8), Mask.from_array(array), sparsity_structure=SparsityStructure(2, 4, 1))


@pytest.mark.parametrize("suffix", ["structure.json", "pt", "graphml", "node-link.json"])
def test_a_claim_survives_files(tmp_path: Path, suffix: str) -> None:
    model = Model(structure(TWO_OF_FOUR, SparsityStructure(2, 4, 1)))
    deepstruct.save(model, tmp_path / f"a.{suffix}", fail_on_loss=True)
    assert deepstruct.load(tmp_path / f"a.{suffix}") == model


def test_onnx_says_that_it_loses_a_claim(tmp_path: Path) -> None:
    model = Model(structure(TWO_OF_FOUR, SparsityStructure(2, 4, 1)))
    weights = deepstruct.Weights(model.structure, {"w": np.ones((6, 8), np.float32)})
    report = deepstruct.save(replace(model, weights=weights), tmp_path / "a.onnx")
    assert [(loss.what, loss.where) for loss in report.losses] == [("sparsity structure", "w")]


@pytest.mark.parametrize(("shape", "holds"), [((0, 4), True), ((4, 0), True), ((4, 4), False), ((4, 5), False)])
def test_claims_of_all_entries_hold_only_where_there_are_none(shape: tuple[int, ...], holds: bool) -> None:
    claim = SparsityStructure(2, 4, 1)
    for mask in (None, Mask.full(shape)):
        if holds:
            assert Parameter("w", "float32", shape, mask, sparsity_structure=claim).sparsity_structure == claim
        else:
            with pytest.raises(StructureError, match="MASK_STRUCTURE"):
                Parameter("w", "float32", shape, mask, sparsity_structure=claim)


def test_a_claim_about_all_entries_is_about_the_shape_too() -> None:
    for axis, m in ((7, 2), (1, 3)):
        with pytest.raises(StructureError, match="MASK_STRUCTURE"):
            Parameter("w", "float32", (6, 8), sparsity_structure=SparsityStructure(m, m, axis))


def test_a_claim_of_a_full_mask_stays() -> None:
    whole = structure(None, SparsityStructure(4, 4, 1))
    value = document.to_json(whole)
    assert value["parameters"]["w"]["mask"]["encoding"] == "full"
    assert document.from_json(value).structure == whole
    assert document.digest(whole) != document.digest(structure(None, None))


@pytest.mark.parametrize(
    ("claim", "code"),
    [
        ({"type": "n:m", "n": 1, "m": 4, "axis": 1}, "MASK_STRUCTURE"),
        ({"type": "n:m", "n": 2, "m": 4, "axis": 0}, "MASK_STRUCTURE"),
        ({"type": "n:m", "n": 2, "m": 5, "axis": 1}, "MASK_STRUCTURE"),
        ({"type": "n:m", "n": 2, "m": 4, "axis": 2}, "MASK_STRUCTURE"),
        ({"type": "n:m", "n": 5, "m": 4, "axis": 1}, "INVALID_VALUE"),
        ({"type": "n:m", "n": 0, "m": 4, "axis": 1}, "INVALID_VALUE"),
        ({"type": "n:m", "n": 2, "m": 4, "axis": -1}, "INVALID_VALUE"),
        ({"type": "n:m", "n": True, "m": 4, "axis": 1}, "INVALID_VALUE"),
        ({"type": "n:m", "n": 2.0, "m": 4, "axis": 1}, "INVALID_VALUE"),
        ({"type": "block", "n": 2, "m": 4, "axis": 1}, "INVALID_VALUE"),
        ({"type": "n:m", "n": 2, "m": 4}, "INVALID_VALUE"),
        ({"type": "n:m", "n": 2, "m": 4, "axis": 1, "more": 1}, "INVALID_VALUE"),
        ("2:4", "INVALID_VALUE"),
        (None, "INVALID_VALUE"),
    ],
)
def test_false_claims_are_refused(claim: Any, code: str) -> None:
    value = document.to_json(structure(TWO_OF_FOUR, SparsityStructure(2, 4, 1)))
    value["parameters"]["w"]["mask"]["sparsity_structure"] = claim
    del value["digest"]
    with pytest.raises(DocumentError) as caught:
        document.from_json(json.loads(json.dumps(value)))
    found = [(fault.code, fault.pointer) for fault in caught.value.faults]
    assert found == [(code, "/parameters/w/mask/sparsity_structure")]
