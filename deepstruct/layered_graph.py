"""LayeredGraph: networkx DAGs whose layers are found by longest path."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeAlias

import networkx as nx

Vertex: TypeAlias = Hashable

LAYER = "layer"  # attribute of the vertices of a LabeledDAG
PLACE = "predecessor_place"  # attribute of edges in files: place among the edges into the same vertex


class LayeredGraph(nx.DiGraph):  # type: ignore[type-arg]  # networkx is not generic at run time
    """A directed acyclic graph in layers: the layer of a vertex is the length of the longest path that ends there.

    Vertices without predecessors, isolated ones included, form layer 0. Inside a layer, vertices stand in the order in
    which they were added to the graph. An edge that is added twice is one edge. A cycle, of which a self-loop is one,
    may be added, but a graph that has one answers no question about layers. The layers are computed at each call, in
    time linear in vertices and edges; `CachedLayeredGraph` remembers them.
    """

    def __init__(self, incoming_graph_data: Any = None, **attr: Any) -> None:
        """A graph with the vertices and edges of another one, or none; see `networkx.DiGraph`.

        Raises:
            ValueError: the other graph is undirected, or has parallel edges.
        """
        refuse_undirected(incoming_graph_data)
        refuse_parallel(incoming_graph_data)
        super().__init__(incoming_graph_data, **attr)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LayeredGraph:
        """The graph of a GraphML file, as `load_from`; edges into a vertex keep the order that `save` found."""
        graph = nx.read_graphml(path)
        edges = sorted(graph.edges(data=True), key=lambda edge: edge[2].pop(PLACE, 0))
        graph.clear_edges()
        graph.add_edges_from(edges)
        return cls.load_from(graph)

    @classmethod
    def load_from(cls, graph: nx.Graph[Any]) -> LayeredGraph:
        """A `CachedLayeredGraph` with the vertices of any graph, numbered from 0 in their order.

        An edge of an undirected graph leads from the vertex that was added first to the other one.

        Raises:
            ValueError: the graph has parallel edges.
        """
        refuse_parallel(graph)
        number = {vertex: position for position, vertex in enumerate(graph)}
        structure = CachedLayeredGraph()
        structure.add_nodes_from((number[vertex], data) for vertex, data in graph.nodes(data=True))
        edges = edges_by_target(graph) if graph.is_directed() else graph.edges(data=True)
        structure.add_edges_from((number[source], number[target], data) for source, target, data in edges)
        return structure

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the graph as GraphML, its vertices numbered from 0 in their order."""
        number = {vertex: position for position, vertex in enumerate(self)}
        document: nx.DiGraph[int] = nx.DiGraph()
        document.add_nodes_from((number[vertex], data) for vertex, data in self.nodes(data=True))
        for vertex in self:
            for place, (source, _, data) in enumerate(self.in_edges(vertex, data=True)):
                document.add_edges_from([(number[source], number[vertex], {**data, PLACE: place})])
        nx.write_graphml(document, path)

    def to_directed_class(self) -> type[nx.DiGraph[Any]]:
        """The class of directed copies: the graph's own."""
        return type(self)

    def _layers(self) -> dict[int, list[Any]]:
        return dict(enumerate(layer_index(self)))

    def _layer_of(self) -> dict[Vertex, int]:
        return {vertex: number for number, vertices in self._layers().items() for vertex in vertices}

    @property
    def layers(self) -> list[int]:
        """Numbers of the layers, ascending."""
        return list(self._layers())

    @property
    def num_layers(self) -> int:
        """Number of layers."""
        return len(self._layers())

    @property
    def first_layer(self) -> int:
        """Number of the first layer.

        Raises:
            ValueError: the graph has no vertices.
        """
        return self._layer_at(0)

    @property
    def last_layer(self) -> int:
        """Number of the last layer.

        Raises:
            ValueError: the graph has no vertices.
        """
        return self._layer_at(-1)

    @property
    def first_layer_size(self) -> int:
        """Number of vertices in the first layer.

        Raises:
            ValueError: the graph has no vertices.
        """
        return self.get_layer_size(self._layer_at(0))

    @property
    def last_layer_size(self) -> int:
        """Number of vertices in the last layer.

        Raises:
            ValueError: the graph has no vertices.
        """
        return self.get_layer_size(self._layer_at(-1))

    def _layer_at(self, position: int) -> int:
        layers = self.layers
        if not layers:
            raise ValueError("the graph has no vertices, so it has no layers")
        return layers[position]

    def get_layer(self, vertex: Vertex) -> int:
        """Layer of a vertex.

        Raises:
            KeyError: there is no such vertex.
        """
        return self._layer_of()[vertex]

    def get_vertices(self, layer: int) -> list[Any]:
        """Vertices of a layer, in the order in which they were added to the graph.

        Raises:
            KeyError: there is no such layer.
        """
        return list(self._layers()[layer])

    def get_layer_size(self, layer: int) -> int:
        """Number of vertices in a layer.

        Raises:
            KeyError: there is no such layer.
        """
        return len(self._layers()[layer])

    def layer_connected(self, layer_index1: int, layer_index2: int) -> bool:
        """Whether there is an edge between two layers.

        Raises:
            ValueError: the layers are the same one, which has no edges inside by definition.
        """
        return any(self._edges_between(layer_index1, layer_index2))

    def layer_connection_size(self, layer_index1: int, layer_index2: int) -> int:
        """Number of edges between two layers.

        Raises:
            ValueError: the layers are the same one, which has no edges inside by definition.
        """
        return sum(self._edges_between(layer_index1, layer_index2))

    def _edges_between(self, layer_index1: int, layer_index2: int) -> Iterator[bool]:
        """For each edge out of the earlier one of two layers, whether it leads to the later one."""
        if layer_index1 == layer_index2:
            raise ValueError(f"a layer has no edges inside, so layer {layer_index1} cannot be compared with itself")
        source, target = sorted((layer_index1, layer_index2))
        layers = self._layers()
        targets = set(layers[target])
        return (successor in targets for vertex in layers[source] for successor in self.successors(vertex))


class CachedLayeredGraph(LayeredGraph):
    """A `LayeredGraph` that computes its layers once after each change."""

    def __init__(self, incoming_graph_data: Any = None, **attr: Any) -> None:
        """A graph with the vertices and edges of another one, or none; see `networkx.DiGraph`.

        Raises:
            ValueError: the other graph is undirected, or has parallel edges.
        """
        self._cached_layers: dict[int, list[Any]] | None = None
        self._cached_layer_of: dict[Vertex, int] | None = None
        super().__init__(incoming_graph_data, **attr)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Also takes what deepstruct 0.10 pickled, with its order of vertices inside layers."""
        self.__dict__.update(state)
        if "_cached_layers" not in state:
            index, layers = self.__dict__.pop("_layer_index"), self.__dict__.pop("_vertex_by_layer")
            stale = self.__dict__.pop("_has_changed") or layers is None
            self._cached_layers = None if stale else layers
            self._cached_layer_of = None if stale else index

    def _changed(self) -> None:
        self._cached_layers = self._cached_layer_of = None

    def _layers(self) -> dict[int, list[Any]]:
        if is_view(self):
            return super()._layers()
        if self._cached_layers is None:
            self._cached_layers = super()._layers()
        return self._cached_layers

    def _layer_of(self) -> dict[Vertex, int]:
        if is_view(self):
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
        nx.add_path(self, nodes, **attr)

    def add_star(self, nodes: Iterable[Vertex], **attr: Any) -> None:
        """Adds edges from the first vertex to all others."""
        nx.add_star(self, nodes, **attr)

    def add_cycle(self, nodes: Iterable[Vertex], **attr: Any) -> None:
        """Adds the edges of a cycle through vertices; the graph has no layers until one of them is removed."""
        nx.add_cycle(self, nodes, **attr)


def is_view(graph: nx.DiGraph) -> bool:  # type: ignore[type-arg]  # networkx is not generic at run time
    """Whether a graph shows another one, of whose changes it is not told."""
    return hasattr(graph, "_graph")


def refuse_undirected(graph: Any) -> None:
    """Raises ValueError for a graph whose edges have no direction."""
    if isinstance(graph, nx.Graph) and not graph.is_directed() and graph.number_of_edges():
        raise ValueError(
            "the graph is undirected, so it has no layers: orient its edges first, for example with "
            "LayeredGraph.load_from, where each leads away from the vertex that was added first"
        )


def refuse_parallel(graph: Any) -> None:
    """Raises ValueError for a graph with several edges between the same vertices."""
    if isinstance(graph, nx.MultiGraph):
        for source, targets in graph.adj.items():
            for target, edges in targets.items():
                if len(edges) > 1:
                    raise ValueError(
                        f"there are {len(edges)} parallel edges {source!r} -> {target!r}; keep one of them"
                    )


def edges_by_target(graph: Any) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    """Edges and their attributes by target, so that a vertex keeps the order of its predecessors."""
    return (edge for vertex in graph for edge in graph.in_edges(vertex, data=True))


def layer_index(graph: nx.DiGraph) -> list[list[Any]]:  # type: ignore[type-arg]  # networkx is not generic
    """Vertices of each layer, in time linear in vertices and edges.

    The layer of a vertex is the length of the longest path that ends there. Parallel edges count as one.

    Raises:
        ValueError: the graph is undirected or has a cycle, which is named; a self-loop is one.
    """
    refuse_undirected(graph)
    directed = graph if graph.is_directed() else nx.DiGraph(graph)
    position = {vertex: number for number, vertex in enumerate(directed)}
    try:
        return [sorted(layer, key=position.__getitem__) for layer in nx.topological_generations(directed)]
    except nx.NetworkXUnfeasible as error:
        raise ValueError(f"the graph has a cycle, so it has no layers: {_cycle(directed)}") from error


def _cycle(graph: nx.DiGraph) -> str:  # type: ignore[type-arg]  # networkx is not generic
    """A cycle of a graph that has one, in words; only the first of very many vertices."""
    edges = nx.find_cycle(graph)
    names = [repr(edge[0]) for edge in islice(edges, 10)]
    names.append("..." if len(edges) > len(names) else names[0])
    return " -> ".join(names) + (f" ({len(edges)} vertices)" if len(edges) > 10 else "")


def build_layer_index(graph: nx.DiGraph) -> tuple[dict[Any, int], dict[int, list[Any]]]:  # type: ignore[type-arg]  # networkx is not generic
    """Layer of each vertex, and vertices of each layer; see `layer_index`."""
    layers = dict(enumerate(layer_index(graph)))
    return {vertex: layer for layer, vertices in layers.items() for vertex in vertices}, layers
