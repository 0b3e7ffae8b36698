"""MaskedDeepDAN against one module for each pair of connected layers: building, forward, forward and backward.

The peer is the layout of the older library in plain torch: masks filled entry by entry, one linear module with a mask
for each pair. Also measured: how the time to build grows with the edges, and the memory of a network of 100,000 units.
Graphs are random and undirected, and each edge is oriented from the lower to the higher vertex.
"""

from __future__ import annotations

import gc
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import networkx as nx
import numpy as np
import torch
from torch import Tensor, nn

from deepstruct.dan import MaskedDeepDAN

FEATURES, CLASSES, BATCH, STEPS = 784, 10, 64, 5
SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
LARGEST = 100_000


class PeerLayer(nn.Linear):
    """A linear layer whose weight is multiplied with a mask."""

    mask: Tensor

    def __init__(self, source: int, target: int) -> None:
        super().__init__(source, target)
        self.register_buffer("mask", torch.ones(target, source))

    def forward(self, input: Tensor) -> Tensor:
        """Maps (batch, source) to (batch, target)."""
        return nn.functional.linear(input.float(), self.weight * self.mask, self.bias)


class Peer(nn.Module):
    """One module for each pair of connected layers."""

    def __init__(self, graph: nx.DiGraph) -> None:  # type: ignore[type-arg]  # networkx is not generic at run time
        super().__init__()
        layers = [sorted(layer) for layer in nx.topological_generations(graph)]
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
        """Maps (batch, features) to (batch, classes)."""
        results = [self.activation(self.first(input))]
        for target, layer in enumerate(self.main, start=1):
            out = self.activation(layer(results[-1]))
            for source, position in self.sources.get(target, []):
                out = out + self.activation(self.skips[position](results[source]))
            results.append(out)
        output: Tensor = self.out(results[-1])
        return output


def oriented(graph: nx.Graph[int]) -> Any:
    """The graph with each edge from the lower to the higher vertex."""
    directed: nx.DiGraph[int] = nx.DiGraph()
    directed.add_nodes_from(graph)
    directed.add_edges_from((min(edge), max(edge)) for edge in graph.edges)
    return directed


def small_world(size: int) -> Any:
    """Watts-Strogatz with 4 neighbours, half of them rewired."""
    return oriented(nx.watts_strogatz_graph(size, 4, 0.5, seed=0))


def ours(graph: Any) -> MaskedDeepDAN:
    """The network that is measured."""
    return MaskedDeepDAN(FEATURES, CLASSES, graph)


def seconds(function: Callable[[], object]) -> float:
    """Process time of a call, without collecting garbage."""
    gc.collect()
    gc.disable()
    start = time.process_time()
    result = function()
    duration = time.process_time() - start
    gc.enable()
    del result
    return duration


def ratio(peer: Callable[[], object], own: Callable[[], object], rounds: int) -> float:
    """Median time of the peer in units of ours, both measured in turn after one warm-up."""
    pairs = [(seconds(peer), seconds(own)) for _ in range(rounds + 1)][1:]
    return statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)


def exponent(sizes: Sequence[int]) -> float:
    """Least-squares slope of the time to build in the number of edges, both logarithmic."""
    graphs = [small_world(size) for size in sizes]
    for graph in graphs:
        ours(graph)
    rounds = [[seconds(lambda graph=graph: ours(graph)) for graph in graphs] for _ in range(7)]  # type: ignore[misc]  # mypy infers no lambda with defaults
    times = [statistics.median(column) for column in zip(*rounds, strict=True)]
    edges = [graph.number_of_edges() for graph in graphs]
    for count, duration in zip(edges, times, strict=True):
        print(f"  {count:>7} edges: {1e3 * duration:6.1f} ms, {1e6 * duration / count:.2f} us an edge")
    return float(np.polyfit(np.log(edges), np.log(times), 1)[0])


def same_weights(graph: Any) -> tuple[Peer, MaskedDeepDAN]:
    """Both networks with the same weights.

    Raises:
        AssertionError: they compute something else, or one has another gradient.
    """
    peer, own = Peer(graph), ours(graph)
    names = {"first": "layer_first", "main": "layers_main_hidden", "skips": "layers_skip_hidden", "out": "layer_out"}
    state = {
        ".".join([names[scope], *rest]).replace("mask", "_mask"): value
        for scope, *rest in (key.split(".") for key in peer.state_dict())
        for value in [peer.state_dict()[".".join([scope, *rest])]]
    }
    own.load_state_dict(state)
    x = torch.randn(BATCH, FEATURES)
    torch.testing.assert_close(own(x), peer(x), rtol=1e-3, atol=1e-4)
    own(x).square().mean().backward()
    peer(x).square().mean().backward()
    torch.testing.assert_close(own.layer_first.weight.grad, peer.first.weight.grad, rtol=1e-3, atol=1e-4)
    return peer, own


def speed(graph: Any) -> tuple[float, float]:
    """Ratios of forward, and of forward and backward."""
    peer, own = same_weights(graph)
    x = torch.randn(BATCH, FEATURES)

    def forward(model: nn.Module) -> None:
        with torch.no_grad():
            for _ in range(STEPS):
                model(x)

    def both(model: nn.Module) -> None:
        for _ in range(STEPS):
            model.zero_grad()
            model(x).square().mean().backward()

    return (
        ratio(lambda: forward(peer), lambda: forward(own), 15),
        ratio(lambda: both(peer), lambda: both(own), 15),
    )


def memory(size: int) -> tuple[int, int]:
    """Growth of the peak of resident memory while a network is built, and the size of its dense weights, in bytes."""
    graph = small_world(size)
    ours(small_world(100))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = ours(graph)
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    sizes = model.wiring.sizes
    return 1024 * growth, 4 * sum(sizes[source] * sizes[target] for source, target in model.wiring.pairs)


def main() -> int:
    """Prints the figures; exits 1 if a claim does not hold."""
    if sys.argv[1:] == ["--memory"]:
        print(*memory(LARGEST))
        return 0
    torch.set_num_threads(1)
    torch.manual_seed(0)
    graphs = {"Watts-Strogatz": small_world(2_000), "G(n, 0.05)": oriented(nx.gnp_random_graph(2_000, 0.05, seed=0))}
    building = {
        name: ratio(lambda graph=graph: Peer(graph), lambda graph=graph: ours(graph), 3)  # type: ignore[misc]  # as above
        for name, graph in graphs.items()
    }
    slope = exponent(SIZES)
    forward, both = speed(small_world(1_000))
    done = subprocess.run([sys.executable, __file__, "--memory"], check=True, capture_output=True, text=True)
    growth, dense = map(int, done.stdout.split())
    print(f"building 2,000 units: Watts-Strogatz {building['Watts-Strogatz']:.1f}x faster than the peer (at least 5)")
    print(f"building 2,000 units: G(n, 0.05) {building['G(n, 0.05)']:.1f}x faster than the peer (at least 20)")
    print(f"building 1,000 to 50,000 units: time grows with edges^{slope:.3f} (at most 1.15)")
    print(f"building {LARGEST:,} units: {growth / 1e9:.2f} GB, dense weights {dense / 1e9:.2f} GB (at most a quarter)")
    print(f"1,000 units, batch {BATCH}: forward {forward:.1f}x faster than the peer (at least 5)")
    print(f"1,000 units, batch {BATCH}: forward and backward {both:.1f}x faster than the peer (at least 4)")
    holds = (
        building["Watts-Strogatz"] >= 5,
        building["G(n, 0.05)"] >= 20,
        slope <= 1.15,
        growth <= dense / 4,
        forward >= 5,
        both >= 4,
    )
    return int(not all(holds))


if __name__ == "__main__":
    sys.exit(main())
