"""Chains of operators that only move entries: they give another shape to a tensor, or another order to its axes."""

from __future__ import annotations

import math
from collections.abc import Container

import numpy as np
from numpy.typing import NDArray

from deepstruct.structure import Node
from deepstruct.verification import meaning
from deepstruct.verification.guesses import Side
from deepstruct.verification.normal_form import NormalForm
from deepstruct.verification.statics import extents

MOVING = meaning.RESHAPING | {"Transpose"}
_MOST = 2**24  # entries that are numbered to find out where they go
_LONGEST = 12


def chain(form: NormalForm, position: int, done: Container[int], moving: Container[str]) -> list[int]:
    """Positions of operators of some kinds that nothing else uses, in their order, up to the one at a position."""
    found = [position]
    while True:
        data = form.nodes[found[-1]].inputs[0]
        maker = form.maker(data)
        if maker is None or maker.domain or maker.op_type not in moving or form.uses[data] != 1:
            return found[::-1]
        before = form.makers[data][0]
        if before in done or data in form.leaves:
            return found[::-1]
        found.append(before)


def alike(
    a: Side, i: int, b: Side, j: int, done: tuple[Container[int], Container[int]]
) -> tuple[list[int], list[int]] | None:
    """Two chains that move the same entries to the same places, if all their shapes are fixed.

    Args:
        a: the first graph.
        i: position in it of the last operator of a chain.
        b: the second graph.
        j: likewise, in the second.
        done: positions of nodes that belong to something else.
    """
    chains = [chain(side.form, n, d, MOVING)[-_LONGEST:] for side, n, d in ((a, i, done[0]), (b, j, done[1]))]
    for first in (chains[0][n:] for n in range(len(chains[0]))):
        for second in (chains[1][n:] for n in range(len(chains[1]))):
            data = a.form.nodes[first[0]].inputs[0], b.form.nodes[second[0]].inputs[0]
            if a.plain[data[0]] != b.plain[data[1]]:
                continue
            moved = _moved(a.form, first), _moved(b.form, second)
            if moved[0] is not None and moved[1] is not None and np.array_equal(moved[0], moved[1]):
                return first, second
    return None


def _moved(form: NormalForm, positions: list[int]) -> NDArray[np.int32] | None:
    """The numbers of a tensor's entries, moved by a chain; None if it cannot be told where they go."""
    nodes = [form.nodes[position] for position in positions]
    shape = extents(form.shapes.get(nodes[0].inputs[0]))
    if shape is None or math.prod(shape) > _MOST:
        return None
    array = np.arange(math.prod(shape), dtype=np.int32).reshape(shape)
    for node in nodes:
        moved = _one(form, node, array)
        if moved is None:
            return None
        array = moved
    return array


def _one(form: NormalForm, node: Node, array: NDArray[np.int32]) -> NDArray[np.int32] | None:
    if node.op_type == "Transpose":
        perm = node.attributes.get("perm", tuple(range(array.ndim))[::-1])
        is_order = isinstance(perm, tuple) and sorted(perm) == list(range(array.ndim))  # type: ignore[type-var]  # ints
        return np.transpose(array, perm) if is_order else None  # type: ignore[arg-type]  # ints
    shape = extents(form.shapes.get(node.outputs[0]))
    return array.reshape(shape) if shape is not None and math.prod(shape) == array.size else None
