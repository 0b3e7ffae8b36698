"""Distances: shortest paths between pairs of units, from a sample of sources, 64 sources at a time.

A set of sources is one bit each of a 64-bit word at every unit; a step along all connections is one bitwise or.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array  # type: ignore[import-untyped]  # scipy has no types

from deepstruct.layer_matrices import Incoming, LayerMatrices
from deepstruct.units import Numbers

SAMPLE = 256
WORD = 64


@dataclass(frozen=True, slots=True)
class Lengths:
    """Shortest paths from some sources to other units, over the pairs between which there is one.

    Attributes:
        sources: number of units that paths were followed from.
        exact: all units that could be sources were.
        pairs: number of pairs with a path.
        mean: length, None without pairs.
        longest: None without pairs.
        efficiency: mean of 1 / length over all pairs, 0 for those without a path; None if there are no pairs at all.
    """

    sources: int
    exact: bool
    pairs: int
    mean: float | None
    longest: int | None
    efficiency: float | None


@dataclass(frozen=True, slots=True)
class Distances:
    """Shortest paths between different units, recurrent connections left out.

    Attributes:
        seed: of the random samples.
        input_output: from input units to output units, directed.
        directed: from any unit to any other.
        undirected: between any two units, in either direction of each connection.
    """

    seed: int
    input_output: Lengths
    directed: Lengths
    undirected: Lengths

    def to_json(self) -> dict[str, Any]:
        """The distances as a JSON object."""
        return asdict(self)


def distances(matrices: LayerMatrices, *, seed: int = 0, sample: int = SAMPLE) -> Distances:
    """Lengths from at most `sample` random sources each."""
    inputs = np.flatnonzero(matrices.inputs)
    everything = np.ones(matrices.units, np.bool_)
    return Distances(
        seed,
        _lengths(matrices.acyclic, _sampled(inputs, sample, seed), inputs.size, matrices.outputs),
        _lengths(matrices.acyclic, _sampled(np.arange(matrices.units), sample, seed), matrices.units, everything),
        undirected_lengths(matrices.acyclic, seed=seed, sample=sample),
    )


def undirected_lengths(acyclic: csr_array, *, seed: int = 0, sample: int = SAMPLE) -> Lengths:
    """Lengths between units, given the connections, bool (units, units), in either direction of each."""
    units = acyclic.shape[0]
    both = csr_array(acyclic + acyclic.T)
    return _lengths(both, _sampled(np.arange(units), sample, seed), units, np.ones(units, np.bool_))


def _sampled(candidates: Numbers, sample: int, seed: int) -> Numbers:
    if candidates.size <= sample:
        return candidates
    return np.sort(np.random.default_rng(seed).choice(candidates, sample, replace=False))


def _lengths(matrix: csr_array, sources: Numbers, candidates: int, targets: NDArray[np.bool_]) -> Lengths:
    """Lengths from sources to targets along a matrix (target, source)."""
    pairs = total = longest = 0
    harmonic = 0.0
    for start in range(0, sources.size, WORD):
        for length, found in enumerate(_newly_reached(matrix, sources[start : start + WORD], targets), 1):
            pairs += found
            total += length * found
            harmonic += found / length
            longest = max(longest, length if found else 0)
    possible = sources.size * int(np.count_nonzero(targets)) - int(np.count_nonzero(targets[sources]))
    return Lengths(
        sources=int(sources.size),
        exact=sources.size == candidates,
        pairs=pairs,
        mean=total / pairs if pairs else None,
        longest=longest if pairs else None,
        efficiency=harmonic / possible if possible else None,
    )


def _newly_reached(matrix: csr_array, sources: Numbers, targets: NDArray[np.bool_]) -> list[int]:
    """How many pairs of a source and a target are 1, 2, ... steps apart."""
    incoming = Incoming(matrix, 0)
    seen = np.zeros(matrix.shape[0], np.uint64)
    seen[sources] = np.left_shift(np.uint64(1), np.arange(sources.size, dtype=np.uint64))
    frontier, found = seen, []
    while frontier.any():
        frontier = incoming.reduced(np.bitwise_or, frontier, 0) & ~seen
        seen = seen | frontier
        found.append(int(np.bitwise_count(frontier[targets]).sum(dtype=np.int64)))
    return found
