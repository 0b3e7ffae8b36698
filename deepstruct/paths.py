"""Paths along connections: how long the ways from inputs to outputs are, and how many there are.

Paths follow the direction of connections and lie within one step of a sequence: recurrent connections are left out.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepstruct.layer_matrices import Incoming, LayerMatrices

EXACT = 2**53
"""Whole numbers below this one are exact in float64, and in every JSON reader."""

_FAR = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class Paths:
    """The paths from an input unit to an output unit; all None if there is none.

    A unit that is input and output is a path of length 0.

    Attributes:
        shortest: connections on the shortest path.
        longest: connections on the longest path, the depth.
        mean_shortest: over the output units that are reached, of the shortest path from any input.
        count: number of paths, exact; None from 2^53 on.
        log10_count: decimal logarithm of the number of paths.
    """

    shortest: int | None
    longest: int | None
    mean_shortest: float | None
    count: int | None
    log10_count: float | None

    def to_json(self) -> dict[str, Any]:
        """The paths as a JSON object."""
        return asdict(self)


def paths(matrices: LayerMatrices) -> Paths:
    """Lengths and number of the paths from inputs to outputs."""
    inputs, outputs = matrices.inputs, matrices.outputs
    near = np.where(inputs, 0, _FAR).astype(np.int32)
    far = np.where(inputs, 0, -1).astype(np.int32)
    for layer, incoming, _ in matrices:
        own = slice(layer.start, layer.stop)
        closest = incoming.reduced(np.minimum, near, _FAR)
        closest[closest < _FAR] += 1
        near[own] = np.minimum(near[own], closest)
        farthest = incoming.reduced(np.maximum, far, -1)
        farthest[farthest >= 0] += 1
        far[own] = np.maximum(far[own], farthest)
    reached = outputs & (far >= 0)
    if not reached.any():
        return Paths(None, None, None, 0, None)
    number = _count(matrices, inputs, reached)
    return Paths(
        shortest=int(near[reached].min()),
        longest=int(far[reached].max()),
        mean_shortest=float(near[reached].mean()),
        count=int(number) if number < EXACT else None,
        log10_count=math.log10(number) if number < math.inf else _log10_count(matrices, inputs, reached),
    )


def _count(matrices: LayerMatrices, inputs: NDArray[np.bool_], outputs: NDArray[np.bool_]) -> float:
    """Number of paths, exact below 2^53; infinite beyond the range of float64.

    Counts at units from which no output is reached may be inexact or infinite; they are not used.
    """
    number = inputs.astype(np.float64)
    with np.errstate(over="ignore"):
        for layer, incoming, _ in matrices:
            number[layer.start : layer.stop] += incoming.matrix @ number[incoming.window]
        return float(number[outputs].sum())


def _log10_count(matrices: LayerMatrices, inputs: NDArray[np.bool_], outputs: NDArray[np.bool_]) -> float:
    """The same for numbers of any size, from logarithms at every unit."""
    logarithm = np.where(inputs, 0.0, -np.inf)
    for layer, incoming, _ in matrices:
        own = slice(layer.start, layer.stop)
        logarithm[own] = np.logaddexp(logarithm[own], _log_sum(incoming, logarithm))
    return float(np.logaddexp.reduce(logarithm[outputs]) / math.log(10))


def _log_sum(incoming: Incoming, logarithm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the sum over the sources of each target."""
    greatest = incoming.reduced(np.maximum, logarithm, -np.inf)
    offset = np.where(np.isfinite(greatest), greatest, 0.0)
    matrix = incoming.matrix
    terms = np.exp(logarithm[incoming.window][matrix.indices] - np.repeat(offset, np.diff(matrix.indptr)))
    sums = type(matrix)((terms, matrix.indices, matrix.indptr), shape=matrix.shape).sum(axis=1)
    with np.errstate(divide="ignore"):
        found: NDArray[np.float64] = offset + np.log(sums)
    return found
