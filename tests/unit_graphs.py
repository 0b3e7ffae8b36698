"""Small unit graphs for tests, and the same as networkx graphs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

import networkx as nx
import numpy as np
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from deepstruct.layer_matrices import LayerMatrices, layer_matrices
from deepstruct.units import Block, Rows, UnitGraph, UnitLayer

Edge = tuple[int, int]


def block(layers: Sequence[UnitLayer], layer: int, edges: Iterable[Edge], *, recurrent: bool = False) -> Block:
    """The block of some edges (source, target) into one layer."""
    own = sorted((target - layers[layer].start, source) for source, target in edges)
    targets = np.array([target for target, _ in own], np.int64)
    sources = np.array([source for _, source in own], np.int64)
    rows = Rows(np.searchsorted(targets, np.arange(layers[layer].size + 1)), sources)
    present = np.unique(np.searchsorted([one.stop for one in layers], sources, side="right"))
    return Block(layer, tuple(present.tolist()), "", lambda: rows, recurrent=recurrent)


def unit_graph(
    sizes: Sequence[int],
    edges: Iterable[Edge],
    *,
    recurrent: Iterable[Edge] = (),
    inputs: Sequence[int] = (0,),
    outputs: Sequence[int] = (-1,),
    copies: int = 1,
) -> UnitGraph:
    """A graph of layers of the given sizes; each edge is there `copies` times."""
    starts = list(accumulate(sizes, initial=0))
    layers = tuple(
        UnitLayer(f"layer{position}", "Input" if position in inputs else "Gemm", start, (size,))
        for position, (start, size) in enumerate(zip(starts, sizes, strict=False))
    )
    into: dict[tuple[int, bool], list[Edge]] = {}
    for chosen, again in ((edges, False), (recurrent, True)):
        for source, target in chosen:
            into.setdefault((bisect_right(starts, target) - 1, again), []).append((source, target))
    blocks = [
        block(layers, position, own, recurrent=again)
        for (position, again), own in sorted(into.items())
        for _ in range(copies)
    ]
    ends = tuple(sorted({position % len(sizes) for position in outputs})) if sizes else ()
    units = [np.arange(layers[position].start, layers[position].stop) for position in ends]
    numbers = np.concatenate([*units, np.empty(0, np.int64)]).astype(np.int64)
    return UnitGraph(layers, tuple(blocks), tuple(inputs) if sizes else (), ends, numbers)


def chain(*masks: ArrayLike) -> UnitGraph:
    """A graph of layers one behind the other, from masks (target, source)."""
    arrays = [np.array(mask, np.bool_) for mask in masks]
    sizes = [arrays[0].shape[1], *(array.shape[0] for array in arrays)]
    starts = list(accumulate(sizes, initial=0))
    edges = [
        (starts[position] + source, starts[position + 1] + target)
        for position, array in enumerate(arrays)
        for target, source in np.argwhere(array).tolist()
    ]
    return unit_graph(sizes, edges)


@st.composite
def unit_graphs(draw: st.DrawFn, *, recurrent: bool = True, most: int = 5) -> UnitGraph:
    """Random graphs with skip connections, empty layers, several inputs and outputs, and parallel connections."""
    sizes = draw(st.lists(st.integers(0, most), min_size=1, max_size=5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.1, 0.3, 0.7, 1.0]))
    layer_of = np.repeat(np.arange(len(sizes)), sizes)
    skips = draw(st.booleans())
    candidates = [
        (source, target)
        for source in range(layer_of.size)
        for target in range(layer_of.size)
        if layer_of[source] < layer_of[target] and (skips or layer_of[target] - layer_of[source] == 1)
    ]
    edges = [edge for edge in candidates if rng.random() < density]
    back = []
    if recurrent and draw(st.booleans()):
        back = [
            (source, target)
            for source in range(layer_of.size)
            for target in range(layer_of.size)
            if layer_of[source] >= layer_of[target] > 0 and rng.random() < 0.15
        ]
    inputs = [0, 1] if len(sizes) > 2 and draw(st.booleans()) else [0]
    edges = [(source, target) for source, target in edges if layer_of[target] not in inputs]
    back = [(source, target) for source, target in back if layer_of[target] not in inputs]
    outputs = draw(st.sampled_from([(-1,), (-1, -2), (0, -1)]))
    return unit_graph(
        sizes, edges, recurrent=back, inputs=inputs, outputs=outputs, copies=draw(st.sampled_from([1, 1, 2]))
    )


def directed(graph: UnitGraph, *, recurrent: bool = True) -> nx.DiGraph[int]:
    """All units and connections."""
    found: nx.DiGraph[int] = nx.DiGraph()
    found.add_nodes_from(range(graph.units))
    for one in graph.blocks:
        if recurrent or not one.recurrent:
            found.add_edges_from(zip(*(ends.tolist() for ends in graph.edges(one)), strict=True))
    return found


def undirected(graph: UnitGraph, *, recurrent: bool = True) -> nx.Graph[int]:
    """Pairs of different units with a connection in either direction."""
    found = nx.Graph(directed(graph, recurrent=recurrent))
    found.remove_edges_from(list(nx.selfloop_edges(found)))
    return found


def matrices(graph: UnitGraph) -> LayerMatrices:
    return layer_matrices(graph)


def units_of(graph: UnitGraph, positions: Sequence[int]) -> list[int]:
    return [unit for position in positions for unit in range(graph.layers[position].start, graph.layers[position].stop)]
