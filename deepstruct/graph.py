"""Networkx DAGs that know their layers, under the names of the older library; networks from graphs and back."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np

from deepstruct.io import from_networkx, to_networkx
from deepstruct.labeled_dag import LabeledDAG
from deepstruct.layered_graph import (
    CachedLayeredGraph,
    LayeredGraph,
    Vertex,
    build_layer_index,
    edges_by_target,
    is_view,
    layer_index,
    refuse_parallel,
    refuse_undirected,
)

__all__ = [
    "CachedLayeredGraph",
    "LabeledDAG",
    "LayeredGraph",
    "Vertex",
    "build_layer_index",
    "from_networkx",
    "layer_index",
    "layered",
    "layers_of",
    "to_networkx",
    "uniform_proportions",
]


def layered(graph: Any) -> LayeredGraph:
    """A graph as one that answers about its layers at once, with the same vertices, edges and order of predecessors.

    Args:
        graph: anything that `networkx.DiGraph` takes. A `CachedLayeredGraph` or `LabeledDAG` is given back as it is.

    Raises:
        ValueError: the graph is undirected, or has parallel edges, a cycle or no vertices.
    """
    if not isinstance(graph, nx.Graph):
        graph = CachedLayeredGraph(graph)
    _refuse_unlayered(graph)
    if isinstance(graph, CachedLayeredGraph | LabeledDAG) and not is_view(graph):
        result: CachedLayeredGraph | LabeledDAG = graph
    else:
        result = LabeledDAG() if isinstance(graph, LabeledDAG) else CachedLayeredGraph()
        result.add_nodes_from(graph.nodes(data=True))
        result.add_edges_from(edges_by_target(graph) if graph.is_directed() else ())
    result._layers()
    return result


def layers_of(graph: nx.DiGraph) -> list[list[Any]]:  # type: ignore[type-arg]  # networkx is not generic at run time
    """The vertices of each layer: those that a layered graph has itself, else those of longest paths.

    Raises:
        TypeError: it is no networkx graph.
        ValueError: the graph is undirected, or has parallel edges, a cycle or no vertices.
    """
    if not isinstance(graph, nx.Graph):
        raise TypeError(f"the structure must be a networkx.DiGraph, not a {type(graph).__name__}")
    if isinstance(graph, LayeredGraph):
        own = layered(graph)
        return [own.get_vertices(layer) for layer in own.layers]
    _refuse_unlayered(graph)
    return layer_index(graph)


def _refuse_unlayered(graph: Any) -> None:
    refuse_undirected(graph)
    refuse_parallel(graph)
    if not len(graph):
        raise ValueError("the graph has no vertices, so it has no layers")


def uniform_proportions(graph: nx.Graph[Any], seed: int | np.random.Generator | None = None) -> dict[Any, float]:
    """Random shares of the vertices of a graph, all near each other, which add up to 1.

    They are drawn from a Dirichlet distribution whose parameters are all 100.

    Raises:
        ValueError: the graph has no vertices.
    """
    if not len(graph):
        raise ValueError("the graph has no vertices to share anything among")
    shares = np.random.default_rng(seed).dirichlet(np.full(len(graph), 100.0))
    return dict(zip(graph, shares.tolist(), strict=True))
