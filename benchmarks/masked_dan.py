"""MaskedDeepDAN against one module for each connected layer pair: building, forward, forward and backward.

The peer is the layout of the older library in plain torch: layers found by recursion over ancestors, masks filled
entry by entry, one linear module with a mask for each pair.
"""

from __future__ import annotations

import networkx as nx
import torch
from torch import Tensor, nn

FEATURES, CLASSES, BATCH = 784, 10, 64


class PeerLayer(nn.Linear):
    """A linear layer whose weight is multiplied with a mask."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__(source, target)
        self.register_buffer("mask", torch.ones(target, source))

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.linear(input.float(), self.weight * self.mask, self.bias)


class Peer(nn.Module):
    """One module for each pair of connected layers."""

    def __init__(self, graph: nx.DiGraph) -> None:  # type: ignore[type-arg]  # networkx is not generic at run time
        super().__init__()
        layers = [list(layer) for layer in nx.topological_generations(graph)]
        self.first = PeerLayer(FEATURES, len(layers[0]))
        self.main = nn.ModuleList()
        self.skips = nn.ModuleList()
        self.sources: dict[int, list[tuple[int, int]]] = {}
        for target in range(1, len(layers)):
            self.main.append(self._filled(graph, layers[target - 1], layers[target]))
            for source in range(target - 1):
                if any(graph.has_edge(u, v) for u in layers[source] for v in layers[target]):
                    self.sources.setdefault(target, []).append((source, len(self.skips)))
                    self.skips.append(self._filled(graph, layers[source], layers[target]))
        self.out = PeerLayer(len(layers[-1]), CLASSES)
        self.activation = nn.ReLU()

    @staticmethod
    def _filled(graph: nx.DiGraph, sources: list[int], targets: list[int]) -> PeerLayer:  # type: ignore[type-arg]  # as above
        layer = PeerLayer(len(sources), len(targets))
        mask = torch.zeros(len(targets), len(sources))
        for column, u in enumerate(sources):
            for row, v in enumerate(targets):
                if graph.has_edge(u, v):
                    mask[row][column] = 1
        layer.mask = mask
        return layer

    def forward(self, input: Tensor) -> Tensor:
        results = [self.activation(self.first(input))]
        for target, layer in enumerate(self.main, start=1):
            out = self.activation(layer(results[-1]))
            for source, position in self.sources.get(target, []):
                out = out + self.activation(self.skips[position](results[source]))
            results.append(out)
        output: Tensor = self.out(results[-1])
        return output
