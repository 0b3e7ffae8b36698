"""The layers of a directed acyclic graph and its edges as entries of masks: what a network of its shape is made of."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice, pairwise

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from deepstruct.graph import CachedLayeredGraph, LayeredGraph, Vertex, layers_of

_LAYERED_BY_PATHS = (nx.DiGraph, LayeredGraph, CachedLayeredGraph)


@dataclass(frozen=True, slots=True)
class Wiring:
    """The layers of a graph and which of them are connected, without the connections themselves.

    Attributes:
        vertices: keys of the vertices of each layer, in the order of the units.
        skips: (source, target) of each pair of connected layers that are not neighbours, by target, then source.
    """

    vertices: tuple[tuple[Vertex, ...], ...]
    skips: tuple[tuple[int, int], ...]

    @property
    def sizes(self) -> list[int]:
        """Number of units of each layer."""
        return [len(layer) for layer in self.vertices]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(source, target) of every masked layer in the order of the module: neighbours, then skips."""
        return [*pairwise(range(len(self.vertices))), *self.skips]


@dataclass(frozen=True, slots=True)
class Connections:
    """Which entries of the masks of all masked layers exist.

    Attributes:
        layer: int64 ``[nnz]``, position of the masked layer in the order of `Wiring.pairs`.
        index: int64 ``[nnz]``, row-major index into its mask, (units of the target, units of the source).
    """

    layer: NDArray[np.int64]
    index: NDArray[np.int64]


def wiring_of(graph: nx.DiGraph) -> tuple[Wiring, Connections]:  # type: ignore[type-arg]  # networkx is not generic
    """The layers of a graph and its edges as entries of masks, in time linear in vertices and edges.

    Raises:
        TypeError: it is no networkx graph.
        ValueError: the graph is undirected, or has parallel edges, a cycle, an edge to no later layer or no vertices.
    """
    if not isinstance(graph, nx.Graph):
        layers_of(graph)  # says what is wrong
    keys, neighbours = list(graph), [targets for _, targets in graph.adjacency()]
    position = {vertex: number for number, vertex in enumerate(keys)}
    degrees = np.fromiter(map(len, neighbours), np.int64, len(keys))
    heads = np.fromiter(map(position.__getitem__, chain.from_iterable(neighbours)), np.int64, degrees.sum())
    tails = np.repeat(np.arange(len(keys)), degrees)
    if type(graph) in _LAYERED_BY_PATHS and keys:
        order, sizes = _longest_paths(graph, degrees, heads)
    else:
        own = layers_of(graph)
        order, sizes = np.array([position[vertex] for layer in own for vertex in layer]), np.array(list(map(len, own)))
    starts = np.cumsum(sizes) - sizes
    layer_of, unit_of = np.empty((2, len(keys)), np.int64)
    layer_of[order] = np.repeat(np.arange(sizes.size), sizes)
    unit_of[order] = np.arange(len(keys)) - np.repeat(starts, sizes)
    source, target = layer_of[tails], layer_of[heads]
    for edge in np.flatnonzero(source >= target)[:1]:
        raise ValueError(f"the edge {keys[tails[edge]]!r} -> {keys[heads[edge]]!r} does not lead to a later layer")
    is_skip = target - source > 1
    key = target * sizes.size + source
    skips = np.unique(key[is_skip])
    layer = np.where(is_skip, sizes.size - 1 + np.searchsorted(skips, key), source)
    index = unit_of[heads] * sizes[source] + unit_of[tails]
    flat = map(keys.__getitem__, order.tolist())
    vertices = tuple(tuple(islice(flat, size)) for size in sizes.tolist())
    pairs = zip((skips % sizes.size).tolist(), (skips // sizes.size).tolist(), strict=True)
    return Wiring(vertices, tuple(pairs)), Connections(layer, index)


def _longest_paths(
    graph: nx.DiGraph,  # type: ignore[type-arg]  # as above
    degrees: NDArray[np.int64],
    heads: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the vertices by layer, and the size of each layer; the edges are given by position."""
    waiting = np.bincount(heads, minlength=degrees.size).tolist()
    ends, targets = np.cumsum(degrees).tolist(), heads.tolist()
    layers = [0] * degrees.size
    reached = [vertex for vertex, number in enumerate(waiting) if not number]
    for vertex in reached:  # grows; layers never decrease on the way, so the last edge into a vertex decides
        following = layers[vertex] + 1
        for target in targets[ends[vertex - 1] if vertex else 0 : ends[vertex]]:
            waiting[target] -= 1
            if not waiting[target]:
                layers[target] = following
                reached.append(target)
    if len(reached) < degrees.size:
        layers_of(graph)  # says where the cycle is
    return np.argsort(layers, kind="stable"), np.bincount(layers)
