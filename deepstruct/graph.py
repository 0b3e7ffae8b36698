"""Layered graphs: networkx DAGs that know the layer of each vertex."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from itertools import pairwise
from typing import Any, TypeAlias

import networkx as nx

Vertex: TypeAlias = Hashable


class LayeredGraph(nx.DiGraph):  # type: ignore[type-arg]  # networkx is not generic at run time
    """A directed acyclic graph in layers: the layer of a vertex is the length of the longest path that ends there.

    Vertices without predecessors, isolated ones included, form layer 0. Inside a layer, vertices stand in the order in
    which they were added to the graph. The layers are computed at each call; `CachedLayeredGraph` remembers them.
    """

    def _layers(self) -> list[list[Vertex]]:
        return layer_index(self)

    def _layer_of(self) -> dict[Vertex, int]:
        return {vertex: number for number, vertices in enumerate(self._layers()) for vertex in vertices}

    @property
    def layers(self) -> list[int]:
        """Numbers of the layers, ascending from 0."""
        return list(range(len(self._layers())))

    @property
    def num_layers(self) -> int:
        """Number of layers."""
        return len(self._layers())

    @property
    def first_layer(self) -> int:
        """Number of the first layer."""
        return self.layers[0]

    @property
    def last_layer(self) -> int:
        """Number of the last layer."""
        return self.layers[-1]

    @property
    def first_layer_size(self) -> int:
        """Number of vertices in the first layer."""
        return self.get_layer_size(self.first_layer)

    @property
    def last_layer_size(self) -> int:
        """Number of vertices in the last layer."""
        return self.get_layer_size(self.last_layer)

    def get_layer(self, vertex: Vertex) -> int:
        """Layer of a vertex.

        Raises:
            KeyError: there is no such vertex.
        """
        return self._layer_of()[vertex]

    def get_vertices(self, layer: int) -> list[Vertex]:
        """Vertices of a layer, in the order in which they were added to the graph.

        Raises:
            KeyError: there is no such layer.
        """
        layers = self._layers()
        if not 0 <= layer < len(layers):
            raise KeyError(layer)
        return list(layers[layer])

    def get_layer_size(self, layer: int) -> int:
        """Number of vertices in a layer."""
        return len(self.get_vertices(layer))

    def layer_connected(self, layer_index1: int, layer_index2: int) -> bool:
        """Whether there is an edge between two layers."""
        return self.layer_connection_size(layer_index1, layer_index2) > 0

    def layer_connection_size(self, layer_index1: int, layer_index2: int) -> int:
        """Number of edges between two layers.

        Raises:
            ValueError: the layers are the same one, which has no edges inside by definition.
        """
        if layer_index1 == layer_index2:
            raise ValueError(f"a layer has no edges inside, so layer {layer_index1} cannot be compared with itself")
        source, target = sorted((layer_index1, layer_index2))
        targets = set(self.get_vertices(target))
        return sum(
            successor in targets for vertex in self.get_vertices(source) for successor in self.successors(vertex)
        )


class CachedLayeredGraph(LayeredGraph):
    """A `LayeredGraph` that computes its layers once after each change."""

    def __init__(self, incoming_graph_data: Any = None, **attr: Any) -> None:
        """A graph with the vertices and edges of another one, or none; see `networkx.DiGraph`."""
        self._cached_layers: list[list[Vertex]] | None = None
        self._cached_layer_of: dict[Vertex, int] | None = None
        super().__init__(incoming_graph_data, **attr)

    def _changed(self) -> None:
        self._cached_layers = self._cached_layer_of = None

    def _layers(self) -> list[list[Vertex]]:
        if hasattr(self, "_graph"):  # a view of another graph, which is not told of changes
            return super()._layers()
        if self._cached_layers is None:
            self._cached_layers = super()._layers()
        return self._cached_layers

    def _layer_of(self) -> dict[Vertex, int]:
        if hasattr(self, "_graph"):
            return super()._layer_of()
        if self._cached_layer_of is None:
            self._cached_layer_of = super()._layer_of()
        return self._cached_layer_of

    def add_node(self, node_for_adding: Vertex, **attr: Any) -> None:
        """As networkx."""
        self._changed()
        super().add_node(node_for_adding, **attr)

    def add_nodes_from(self, nodes_for_adding: Iterable[Any], **attr: Any) -> None:
        """As networkx."""
        self._changed()
        super().add_nodes_from(nodes_for_adding, **attr)

    def add_edge(self, u_of_edge: Vertex, v_of_edge: Vertex, **attr: Any) -> None:
        """As networkx."""
        self._changed()
        super().add_edge(u_of_edge, v_of_edge, **attr)

    def add_edges_from(self, ebunch_to_add: Iterable[Any], **attr: Any) -> None:
        """As networkx."""
        self._changed()
        super().add_edges_from(ebunch_to_add, **attr)

    def remove_node(self, n: Vertex) -> None:
        """As networkx."""
        self._changed()
        super().remove_node(n)

    def remove_nodes_from(self, nodes: Iterable[Vertex]) -> None:
        """As networkx."""
        self._changed()
        super().remove_nodes_from(nodes)

    def remove_edge(self, u: Vertex, v: Vertex) -> None:
        """As networkx."""
        self._changed()
        super().remove_edge(u, v)

    def remove_edges_from(self, ebunch: Iterable[Any]) -> None:
        """As networkx."""
        self._changed()
        super().remove_edges_from(ebunch)

    def clear(self) -> None:
        """As networkx."""
        self._changed()
        super().clear()

    def clear_edges(self) -> None:
        """As networkx."""
        self._changed()
        super().clear_edges()

    def add_path(self, nodes: Iterable[Vertex], **attr: Any) -> None:
        """Adds the edges of a path through vertices."""
        self.add_edges_from(pairwise(list(nodes)), **attr)

    def add_star(self, nodes: Iterable[Vertex], **attr: Any) -> None:
        """Adds edges from the first vertex to all others."""
        centre, *others = nodes
        self.add_edges_from(((centre, vertex) for vertex in others), **attr)


def layer_index(graph: nx.DiGraph) -> list[list[Vertex]]:  # type: ignore[type-arg]  # networkx is not generic
    """Vertices of each layer, in time linear in vertices and edges.

    The layer of a vertex is the length of the longest path that ends there.

    Raises:
        ValueError: the graph has a cycle, which is named; a self-loop is one.
    """
    position = {vertex: number for number, vertex in enumerate(graph)}
    try:
        return [sorted(layer, key=position.__getitem__) for layer in nx.topological_generations(graph)]
    except nx.NetworkXUnfeasible as error:
        cycle = " -> ".join(repr(edge[0]) for edge in nx.find_cycle(graph))
        raise ValueError(f"the graph has a cycle, so it has no layers: {cycle}") from error
