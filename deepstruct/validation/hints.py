"""Hints: what is right in a structure, but there for nothing. Only masks and names are looked at, no paths of units."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from deepstruct import blocks
from deepstruct.errors import Fault, pointer
from deepstruct.mask import Mask
from deepstruct.structure import Structure

_SHOWN = 8
_LONGEST = 1 << 24
_PART = 1 << 16  # rows or columns looked at together


def hints(structure: Structure) -> Iterator[Fault]:
    """Parameters without use, nodes that lead nowhere, and units without connections in a single mask."""
    for parameter in structure.parameters:
        place = pointer("parameters", parameter.name)
        if parameter.name not in structure.used:
            yield Fault("UNUSED_PARAMETER", place, f"no node uses {parameter.name!r:.80}", "hint")
        if parameter.mask is not None and _has_lines(parameter.shape):
            lines = [
                _lacking(f"{name} (axis {axis})", ~occupied)
                for axis, (name, occupied) in enumerate(
                    zip(("rows", "columns"), _occupied(parameter.mask), strict=True)
                )
                if not occupied.all()
            ]
            if lines:
                yield Fault("DEAD_UNITS", place + "/mask", f"without any connection: {'; '.join(lines)}", "hint")
    yield from _dead_nodes(structure)


def _has_lines(shape: tuple[int, ...]) -> bool:
    """Whether there are rows and columns, and few enough to have a byte for each entry of a row, and for each row."""
    return len(shape) > 1 and min(shape) > 0 and max(shape[0], math.prod(shape[1:])) <= _LONGEST


def _lacking(what: str, dead: NDArray[np.bool_]) -> str:
    """How many there are, and the first ones."""
    count = int(np.count_nonzero(dead))
    found = (
        start + i for start in range(0, dead.size, 1 << 16) for i in np.flatnonzero(dead[start : start + (1 << 16)])
    )
    names = ", ".join(str(position) for position in islice(found, _SHOWN))
    return f"{count} of {dead.size} {what}: {names}{', ...' if count > _SHOWN else ''}"


def _occupied(mask: Mask) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Bool ``[shape[0]]`` and ``[shape[1]]``: where there is an entry."""
    rows, columns = mask.shape[:2]
    if len(mask.shape) == 2 and columns % 8 == 0:
        lines = mask.packed.reshape(rows, columns // 8)
        along = np.unpackbits(np.bitwise_or.reduce(lines, axis=0), bitorder="little")
        return np.asarray(lines.any(axis=1)), along.view(np.bool_)
    in_row, in_column = np.zeros(rows, np.bool_), np.zeros(columns, np.bool_)
    for start, slab in blocks.slabs(mask):
        kernels = np.asarray(slab.reshape(*slab.shape[:2], -1).any(axis=2))
        in_row[start : start + len(slab)] = kernels.any(axis=1)
        in_column |= kernels.any(axis=0)
    return in_row, in_column


def _dead_nodes(structure: Structure) -> Iterator[Fault]:
    needed = {value.name for value in structure.outputs}
    dead = []
    for position, node in reversed(list(enumerate(structure.nodes))):
        if needed.isdisjoint(node.outputs):
            message = f"no output of {node.name!r:.80} leads to an output of the graph"
            dead.append(Fault("DEAD_NODE", pointer("graph", "nodes", position), message, "hint"))
        else:
            needed.update(node.sources)
    yield from reversed(dead)
