"""Unit graphs: the units of a network numbered from 0 and its connections, as a networkx graph or a scipy matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepstruct.graph import CachedLayeredGraph
from deepstruct.masked import MaskedLinearLayer

if TYPE_CHECKING:
    from scipy.sparse import csr_array  # type: ignore[import-untyped]  # scipy has no types


class Block(NamedTuple):
    """The connections of one masked layer.

    Attributes:
        layer: its mask is (target, source).
        first_source: number of its first source.
        first_target: number of its first target.
    """

    layer: MaskedLinearLayer
    first_source: int
    first_target: int


def edges(blocks: Sequence[Block]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Source and target of each connection that exists now, int64 ``[nnz]``, by block, source, then target."""
    found = [np.empty((2, 0), np.int64)]
    for layer, first_source, first_target in blocks:
        mask = layer.mask.detach().cpu().numpy()
        source, target = np.nonzero(mask.T)
        found.append(np.stack([source + first_source, target + first_target]))
    sources, targets = np.concatenate(found, axis=1)
    return sources, targets


def unit_graph(units: int, blocks: Sequence[Block]) -> CachedLayeredGraph:
    """A graph of all units and the connections between them."""
    graph = CachedLayeredGraph()
    graph.add_nodes_from(range(units))
    number = np.arange(units).astype(object)  # one integer object for all edges of a unit
    graph.add_edges_from(zip(*(number[ends].tolist() for ends in edges(blocks)), strict=True))
    return graph


def unit_adjacency(units: int, blocks: Sequence[Block]) -> csr_array:
    """Matrix of bool (units, units), row = source, column = target, True where a connection exists.

    Raises:
        ImportError: scipy is not installed.
    """
    from scipy.sparse import csr_array

    ends = edges(blocks)
    return csr_array((np.ones(ends[0].size, np.bool_), ends), shape=(units, units))
