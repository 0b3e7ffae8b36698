"""Small worlds: clustering and path length of a network against random ones with as many connections in each layer.

The usual definition compares triangles, of which a layered network has none; butterflies take their place.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deepstruct.distances import undirected_lengths
from deepstruct.layer_matrices import LayerMatrices, layer_matrices
from deepstruct.motifs import butterflies
from deepstruct.units import Block, Rows, UnitGraph

REFERENCES = 3


@dataclass(frozen=True, slots=True)
class SmallWorld:
    """A network and its random references, whose numbers are means.

    Attributes:
        clustering: of butterflies in the whole network (`motifs`).
        path_length: mean undirected shortest path between connected units (`distances`).
        reference_clustering: the same of the references.
        reference_path_length: the same of the references.
        sigma: ``(clustering / reference_clustering) / (path_length / reference_path_length)``, above 1 for a small
            world (Humphries & Gurney 2008); None where a part is missing or 0.
        references: number of random networks.
        seed: of the random networks, and of the sample of units that path lengths are taken from.
    """

    clustering: float | None
    path_length: float | None
    reference_clustering: float | None
    reference_path_length: float | None
    sigma: float | None
    references: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """The comparison as a JSON object."""
        return asdict(self)


def small_world(matrices: LayerMatrices, *, seed: int = 0) -> SmallWorld:
    """Compares a network with random ones that have as many connections between each two layers.

    Raises:
        TooManyWedgesError: counting butterflies would take too long.
    """
    clustering, length = _measured(matrices, seed)
    rng = np.random.default_rng(seed)
    measured = [_measured(layer_matrices(random_reference(matrices, rng)), seed) for _ in range(REFERENCES)]
    of_clustering, of_length = (_mean(column) for column in zip(*measured, strict=True))
    sigma = None
    if clustering and length and of_clustering and of_length:
        sigma = (clustering / of_clustering) / (length / of_length)
    return SmallWorld(clustering, length, of_clustering, of_length, sigma, REFERENCES, seed)


def _measured(matrices: LayerMatrices, seed: int) -> tuple[float | None, float | None]:
    return butterflies(matrices).whole.clustering, undirected_lengths(matrices.acyclic, seed=seed).mean


def _mean(values: tuple[float | None, ...]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def random_reference(matrices: LayerMatrices, rng: np.random.Generator) -> UnitGraph:
    """Random connections, as many between each two layers, without recurrent ones."""
    graph = matrices.graph
    blocks = []
    for position, (layer, incoming, _) in enumerate(matrices):
        by_layer = np.bincount(graph.layer_of[incoming.sources], minlength=len(graph.layers))
        for source in np.flatnonzero(by_layer).tolist():
            start, width = graph.layers[source].start, graph.layers[source].size
            flat = np.sort(rng.choice(layer.size * width, by_layer[source], replace=False, shuffle=False))
            indptr = np.searchsorted(flat, np.arange(layer.size + 1) * width)
            rows = Rows(indptr, flat % width + start)
            blocks.append(Block(position, (source,), "", lambda rows=rows: rows))  # type: ignore[misc]  # mypy infers no lambda with defaults
    return UnitGraph(graph.layers, tuple(blocks), graph.inputs, graph.outputs, graph.output_units)
