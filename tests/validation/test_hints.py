"""Hints: what is there for nothing, in masks of every shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepstruct import Mask, Node, Parameter, Structure, ValueInfo, blocks
from deepstruct.testing import feed_forward, masks, shapes
from deepstruct.validation import hints


@given(data=st.data())
def test_rows_and_columns_without_entries_are_found(data: st.DataObject) -> None:
    shape = data.draw(shapes(least=2))
    mask = data.draw(masks(shape).filter(lambda mask: mask.size > 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_SLAB", data.draw(st.sampled_from([1, 16, 1 << 22])))
        rows, columns = hints._occupied(mask)
    array = mask.to_array()
    assert rows.tolist() == array.reshape(shape[0], -1).any(axis=1).tolist()
    assert columns.tolist() == np.moveaxis(array, 1, 0).reshape(shape[1], -1).any(axis=1).tolist()


def found(structure: Structure) -> list[tuple[str, str]]:
    return [(fault.code, fault.pointer) for fault in hints.hints(structure)]


def test_parameters_and_nodes_without_use_are_found() -> None:
    structure = feed_forward(density=1.0)
    extra = replace(
        structure,
        nodes=(Node("a", "Tanh", ("x",), ("t",)), Node("b", "Relu", ("t",), ("u",)), *structure.nodes),
        parameters=(*structure.parameters, Parameter("spare", "float32", (3, 2))),
    )
    assert found(structure) == []
    assert found(extra) == [
        ("UNUSED_PARAMETER", "/parameters/spare"),
        ("DEAD_NODE", "/graph/nodes/0"),
        ("DEAD_NODE", "/graph/nodes/1"),
    ]


def test_a_parameter_that_leaves_the_graph_is_used() -> None:
    structure = Structure(
        nodes=(),
        inputs=(),
        outputs=(ValueInfo("w", "float32", (2, 3)),),
        parameters=(Parameter("w", "float32", (2, 3), Mask.from_indices((2, 3), np.array([0, 5]))),),
    )
    assert found(structure) == [("DEAD_UNITS", "/parameters/w/mask")]


def test_only_the_first_of_many_dead_units_are_named() -> None:
    mask = Mask.from_indices((100, 3), np.array([0, 1, 2]))
    (fault,) = hints.hints(
        Structure(
            nodes=(Node("n", "MatMul", ("x", "w"), ("y",)),),
            inputs=(ValueInfo("x", "float32", (1, 100)),),
            outputs=(ValueInfo("y", "float32", None),),
            parameters=(Parameter("w", "float32", (100, 3), mask),),
        )
    )
    assert fault.message == "without any connection: 99 of 100 rows (axis 0): 1, 2, 3, 4, 5, 6, 7, 8, ..."
    assert fault.severity == "hint"
