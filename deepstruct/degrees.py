"""Degrees: how many connections units have, and whether units with many are connected with others that have many."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepstruct.layer_matrices import LayerMatrices
from deepstruct.units import Numbers

BINS = 32


@dataclass(frozen=True, slots=True)
class Bin:
    """How many units have a value from `first` to `last`, both included."""

    first: int
    last: int
    units: int


@dataclass(frozen=True, slots=True)
class Distribution:
    """Whole numbers of many units, summed up.

    Attributes:
        std: standard deviation of the population.
        gini: Gini coefficient, 0 if all are equal; None if all are 0.
        histogram: a bin for each value that occurs, or bins of equal width if there are too many values.
    """

    minimum: int
    mean: float
    maximum: int
    std: float
    gini: float | None
    histogram: tuple[Bin, ...]

    @classmethod
    def of(cls, values: Numbers) -> Distribution | None:
        """The distribution of int ``[units]``, none negative; None of nothing."""
        if not values.size:
            return None
        distinct, counts = np.unique(values, return_counts=True)
        low, high = int(distinct[0]), int(distinct[-1])
        first = last = distinct
        units = counts
        if distinct.size > BINS:
            width = -(-(high - low + 1) // BINS)
            place = (distinct - low) // width
            units = np.bincount(place, weights=counts).astype(np.int64)
            occupied = np.flatnonzero(units)
            first = low + occupied * width
            last = np.minimum(first + width - 1, high)
            units = units[occupied]
        mean = float(np.average(distinct, weights=counts))
        return cls(
            minimum=low,
            mean=mean,
            maximum=high,
            std=math.sqrt(float(np.average((distinct - mean) ** 2, weights=counts))),
            gini=_gini(distinct, counts),
            histogram=tuple(
                Bin(*numbers) for numbers in zip(first.tolist(), last.tolist(), units.tolist(), strict=True)
            ),
        )


def _gini(distinct: Numbers, counts: Numbers) -> float | None:
    """Mean absolute difference of two values, relative to twice the mean, of distinct ascending values and counts."""
    total, n = float(distinct @ counts), int(counts.sum())
    if not total:
        return None
    ranks = np.cumsum(counts) - (counts - 1) / 2  # mean rank of equal values
    return float(2 * (ranks * counts) @ distinct / (n * total) - (n + 1) / n)


@dataclass(frozen=True, slots=True)
class LayerDegrees:
    """Degrees of the units of one layer; None where no layer is wired on that side."""

    name: str
    incoming: Distribution | None
    outgoing: Distribution | None


@dataclass(frozen=True, slots=True)
class Degrees:
    """Degrees of all units: directed, recurrent connections included."""

    incoming: Distribution | None
    outgoing: Distribution | None
    layers: tuple[LayerDegrees, ...]

    def to_json(self) -> dict[str, Any]:
        """The degrees as a JSON object."""
        return asdict(self)


def degrees(matrices: LayerMatrices) -> Degrees:
    """Degree distributions of each layer and of the whole."""
    graph = matrices.graph
    incoming, outgoing = _degrees(matrices)
    fed = {block.layer for block in graph.blocks}
    feeding = {source for block in graph.blocks for source in block.layers}
    layers = tuple(
        LayerDegrees(
            layer.name,
            Distribution.of(incoming[layer.start : layer.stop]) if position in fed else None,
            Distribution.of(outgoing[layer.start : layer.stop]) if position in feeding else None,
        )
        for position, layer in enumerate(graph.layers)
    )
    return Degrees(Distribution.of(incoming), Distribution.of(outgoing), layers)


def _degrees(matrices: LayerMatrices) -> tuple[Numbers, Numbers]:
    whole = matrices.whole
    incoming = np.diff(whole.indptr).astype(np.int64)
    return incoming, np.bincount(whole.indices, minlength=matrices.units)


@dataclass(frozen=True, slots=True)
class Assortativity:
    """Correlation of a degree of the source with a degree of the target over all connections, in [-1, 1].

    Each is named source_target and None where a side has no variance.
    """

    out_in: float | None
    out_out: float | None
    in_in: float | None
    in_out: float | None

    def to_json(self) -> dict[str, Any]:
        """The coefficients as a JSON object."""
        return asdict(self)


def assortativity(matrices: LayerMatrices) -> Assortativity:
    """Degree assortativity of the directed graph, recurrent connections included."""
    incoming, outgoing = _degrees(matrices)

    def correlation(of_source: Numbers, of_target: Numbers) -> float | None:
        source, target = _standardised(of_source, outgoing), _standardised(of_target, incoming)
        if source is None or target is None:
            return None
        found = float(target @ (matrices.whole @ source)) / int(matrices.whole.nnz)
        return min(1.0, max(-1.0, found))

    return Assortativity(
        correlation(outgoing, incoming),
        correlation(outgoing, outgoing),
        correlation(incoming, incoming),
        correlation(incoming, outgoing),
    )


def _standardised(values: Numbers, weights: Numbers) -> NDArray[np.float64] | None:
    """Values with weighted mean 0 and variance 1; None if they do not vary."""
    seen = values[weights > 0]
    if not seen.size or seen.min() == seen.max():
        return None
    total = float(weights.sum())
    centred = values.astype(np.float64) - float(weights @ values) / total
    return centred / math.sqrt(float(weights @ centred**2) / total)
