"""Networks as graphs: adjacency matrix, networkx graph, and the document of a graph against the files of networkx.

The peers, on the same network in the same run: `numpy.flatnonzero` over its masks, which has to look at every entry;
`DiGraph.add_edges_from` on tuples that are there already; networkx's node-link JSON and GraphML, written and read.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import networkx as nx
import numpy as np
from numpy.typing import NDArray

import deepstruct
from deepstruct import Mask, Model, Node, Parameter, Structure, ValueInfo
from deepstruct.expansion import unit_graph

ROUNDS = 5


def seconds(function: Callable[[], object]) -> float:
    """Process time of a call; its result goes afterwards."""
    gc.collect()
    start = time.process_time()
    result = function()
    duration = time.process_time() - start
    del result
    return duration


def ratio(ours: Callable[[], object], theirs: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median time of one divided by that of the other, measured in turns."""
    times = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    return statistics.median(own for own, _ in times) / statistics.median(other for _, other in times)


def feed_forward(sizes: list[int], density: float) -> Structure:
    """A feed-forward structure with random masks."""
    rng = np.random.default_rng(0)
    masks = [Mask.from_array(rng.random((b, a), np.float32) < density) for a, b in pairwise(sizes)]
    values = ["x", *(f"h{number}" for number in range(len(masks)))]
    return Structure(
        nodes=tuple(
            Node(f"fc{number}", "Gemm", (values[number], f"w{number}"), (values[number + 1],), {"transB": 1})
            for number in range(len(masks))
        ),
        inputs=(ValueInfo("x", "float32", ("batch", sizes[0])),),
        outputs=(ValueInfo(values[-1], "float32", ("batch", sizes[-1])),),
        parameters=tuple(Parameter(f"w{number}", "float32", mask.shape, mask) for number, mask in enumerate(masks)),
    )


def layered_graph(layers: int, width: int, edges: int) -> nx.DiGraph[int]:
    """A random graph of layers, three quarters of whose edges lead to the next one and the rest further."""
    rng = np.random.default_rng(0)
    source = rng.integers(0, layers - 1, edges)
    target = np.where(rng.random(edges) < 0.75, source + 1, rng.integers(source + 1, layers))
    ends = [level * width + rng.integers(0, width, edges) for level in (source, target)]
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(layers * width))
    graph.add_edges_from((unit - width, unit) for unit in range(width, layers * width))  # each layer is a layer
    graph.add_edges_from(zip(*(numbers.tolist() for numbers in ends), strict=True))
    return graph


def connected(structure: Structure) -> object:
    """The matrix of a network."""
    return unit_graph(structure).adjacency()


def found(masks: list[NDArray[np.bool_]]) -> object:
    """What exists, without knowing where it belongs."""
    return [np.flatnonzero(mask) for mask in masks]


def adjacency() -> bool:
    """The matrix of 10^7 connections."""
    fits = True
    for sizes, density, most in (([8000, 6000, 8000], 0.1, 5.0), ([20000, 25000, 20000], 0.01, 5.0)):
        structure = feed_forward(sizes, density)
        masks = [parameter.mask.to_array() for parameter in structure.parameters if parameter.mask is not None]
        slower = ratio(partial(connected, structure), partial(found, masks))
        print(f"adjacency, {structure.nnz:,} connections ({density:.0%}): {slower:.2f}x flatnonzero (at most {most})")
        fits &= slower <= most
    return fits


def networkx_graph() -> bool:
    """The networkx graph of 10^6 connections, with the attributes of its edges."""
    structure = feed_forward([784, 2000, 2000, 1000], 0.132)

    def view() -> nx.Graph[Any]:
        return deepstruct.to_networkx(structure, 0, include_input=True, include_output=True)

    plain, described = list(view().edges), list(view().edges(data=True))

    def added(edges: list[Any]) -> nx.DiGraph[int]:
        graph: nx.DiGraph[int] = nx.DiGraph()
        graph.add_edges_from(edges)
        return graph

    slower = ratio(view, lambda: added(described))
    print(f"networkx graph, {len(plain):,} edges: {slower:.2f}x add_edges_from of the same edges (at most 1.5)")
    bare = ratio(view, lambda: added(plain))
    print(
        f"                {'':>{len(f'{len(plain):,}')}}        {bare:.2f}x add_edges_from of edges without attributes"
    )
    return slower <= 1.5


def document(folder: Path) -> bool:
    """A graph of 10^6 edges, written and read."""
    graph = layered_graph(10, 1000, 1_000_000)
    model = deepstruct.from_networkx(graph, 100, 10)
    gc.freeze()  # what only waits here is no work for the collector
    paths = {name: folder / f"graph.{name}" for name in ("structure.json", "json", "graphml")}
    if not nx.utils.graphs_equal(deepstruct.to_networkx(model), graph):
        raise AssertionError("the graph of the structure is another one")

    def ours() -> Model:
        deepstruct.save(model, paths["structure.json"])
        return deepstruct.load(paths["structure.json"])

    def node_link() -> nx.Graph[Any]:
        paths["json"].write_text(json.dumps(nx.node_link_data(graph, edges="edges")))
        read: nx.Graph[Any] = nx.node_link_graph(json.loads(paths["json"].read_text()), edges="edges")
        return read

    def graphml() -> nx.Graph[Any]:
        nx.write_graphml(graph, paths["graphml"])
        return nx.read_graphml(paths["graphml"], node_type=int)

    def whole() -> nx.Graph[Any]:
        deepstruct.save(deepstruct.from_networkx(graph, 100, 10), paths["structure.json"])
        return deepstruct.to_networkx(deepstruct.load(paths["structure.json"]))

    fits = ours().structure == model.structure
    own, complete = min(seconds(ours) for _ in range(3)), seconds(whole)
    print(f"document, {graph.number_of_edges():,} edges:")
    for name, function in (("json", node_link), ("graphml", graphml)):
        theirs = seconds(function)
        smaller, faster = (paths[other].stat().st_size for other in ("structure.json", name)), theirs / own
        share = next(smaller) / next(smaller)
        print(
            f"  {name}: {share:.3f} of the bytes (at most 0.25), written and read {faster:.1f}x faster (at least 10); "
            f"{theirs / complete:.2f}x with the way from and to networkx"
        )
        fits &= share <= 0.25 and faster >= 10
    return fits


def main() -> int:
    """Prints the figures; exits 1 if a claim does not hold."""
    with tempfile.TemporaryDirectory() as folder:
        fits = [adjacency(), networkx_graph(), document(Path(folder))]
    return int(not all(fits))


if __name__ == "__main__":
    sys.exit(main())
