"""Unit graphs of a feed-forward network with 1.8 million connections: as a networkx graph, and as a scipy matrix.

The peers: `DiGraph.add_edges_from` on tuples that are there already, and a Python loop over the entries of the masks,
which are looked up one by one as the older library did; the loop is timed on a part of its rows.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import networkx as nx
import torch

from deepstruct.ffn import MaskedDeepFFN
from deepstruct.masked import maskable_layers

ROUNDS, SHARE = 5, 50


def seconds(function: Callable[[], object]) -> float:
    """Process time of a call; its result goes afterwards."""
    gc.collect()
    start = time.process_time()
    result = function()
    duration = time.process_time() - start
    del result
    return duration


def looped(model: MaskedDeepFFN) -> list[tuple[int, int]]:
    """Connections of every 50th row of the masks, entry by entry."""
    found, offset = [], 0
    for layer in maskable_layers(model):
        mask, first = layer.mask, offset + layer.in_features
        for row in range(0, layer.out_features, SHARE):
            for column in range(layer.in_features):
                if mask[row, column]:
                    found.append((offset + column, first + row))  # noqa: PERF401 - a loop is what is measured
        offset = first
    return found


def main() -> int:
    """Prints the figures; exits 1 if a claim does not hold."""
    torch.set_num_threads(1)
    model = MaskedDeepFFN(784, 10, [1000, 1000])
    edges = list(model.generate_structure(True, True).edges)
    matrix = model.adjacency(True, True)
    if set(zip(*(ends.tolist() for ends in matrix.nonzero()), strict=True)) != set(edges):
        raise AssertionError("graph and matrix have other edges")

    def least() -> nx.DiGraph[int]:
        graph: nx.DiGraph[int] = nx.DiGraph()
        graph.add_edges_from(edges)
        return graph

    graphs = [(seconds(lambda: model.generate_structure(True, True)), seconds(least)) for _ in range(ROUNDS)]
    slower = statistics.median(a for a, _ in graphs) / statistics.median(b for _, b in graphs)
    matrices = [(seconds(lambda: model.adjacency(True, True)), seconds(lambda: looped(model))) for _ in range(ROUNDS)]
    own, loop = (statistics.median(times) for times in zip(*matrices, strict=True))
    rows = [(layer.out_features, -(-layer.out_features // SHARE)) for layer in maskable_layers(model)]
    faster = loop * sum(row for row, _ in rows) / sum(part for _, part in rows) / own
    print(f"{len(edges):,} connections")
    print(f"generate_structure: {slower:.2f}x add_edges_from (at most 1.5)")
    print(f"adjacency: {faster:.0f}x faster than a loop over the entries (at least 100)")
    return int(slower > 1.5 or faster < 100)


if __name__ == "__main__":
    sys.exit(main())
