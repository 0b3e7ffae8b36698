"""Graphs of three kinds become networks in their shape, learn handwritten digits, and are measured as graphs."""

from __future__ import annotations

import sys
from pathlib import Path

import networkx as nx
import numpy as np
import torch
from lottery_ticket import trained_accuracy
from tabulate import tabulate

import deepstruct
from deepstruct.analysis import analyse
from deepstruct.expansion import unit_graph
from deepstruct.graph import LabeledDAG

GRAPHS = {
    "small-world": nx.watts_strogatz_graph(300, 10, 0.1, seed=0),
    "scale-free": nx.barabasi_albert_graph(300, 5, seed=0),
    "random": nx.gnm_random_graph(300, 1500, seed=0),
}
HEADERS = ("graph", "edges", "effective density", "most inputs", "mean path", "clustering", "sigma", "accuracy")


def directed(graph: nx.Graph[int]) -> LabeledDAG:
    """Vertices in five random layers; edges lead to later layers, and those inside a layer are left out."""
    layer = (np.random.default_rng(0).permutation(len(graph)) * 5 // len(graph)).tolist()
    found: nx.DiGraph[int] = nx.DiGraph()
    found.add_nodes_from((vertex, {"layer": layer[vertex]}) for vertex in graph)
    found.add_edges_from((u, v) for edge in graph.edges for u, v in (edge, edge[::-1]) if layer[u] < layer[v])
    return LabeledDAG(found)


def row(name: str, graph: LabeledDAG, folder: Path) -> list[object]:
    """Measures of the hidden units and their connections, and mean test accuracy from three different first weights."""
    models = [deepstruct.from_networkx(graph, 64, 10, init="kaiming", seed=seed) for seed in range(3)]
    deepstruct.save(models[0], folder / f"{name}.structure.json", weights=False)
    accuracy = np.mean([trained_accuracy(deepstruct.to_module(model), steps=100) for model in models])
    hidden = [found for parameter, found in analyse(models[0]).parameters.items() if "hidden" in parameter]
    density = sum(found.live for found in hidden) / sum(found.entries for found in hidden)
    units = unit_graph(models[0])
    inner = analyse(units.without({*units.inputs, *units.outputs}), measures=["degrees", "small-world"])
    degrees, world = inner.measures["degrees"], inner.measures["small-world"]
    shape = [degrees.incoming.maximum, world.path_length, world.clustering, world.sigma]
    return [name, inner.whole.connections, f"{density:.2%}", *shape, f"{accuracy:.1%}"]


def main(folder: Path) -> None:
    """Writes the structure of each network and prints one table of all."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # more do not help networks of this size
    rows = (row(name, directed(graph), folder) for name, graph in GRAPHS.items())
    print(tabulate(rows, HEADERS, floatfmt=".2f", intfmt=","))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
