"""LabeledDAG: networkx DAGs whose layers are given by the user."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from operator import index
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from deepstruct.layered_graph import (
    LAYER,
    CachedLayeredGraph,
    LayeredGraph,
    Vertex,
    edges_by_target,
    is_view,
)


class LabeledDAG(LayeredGraph):
    """A directed acyclic graph whose layers the user gives, and whose vertices are numbered in order of creation.

    The labels of the vertices are 0, 1, 2, ... and never given by the user; the label of a removed vertex is not used
    again. The layer of a vertex is what its maker said, an integer from 0, and is also its attribute ``layer``, which
    is only to be read. Every edge leads to a later layer, the next one or any other, so that there are no cycles. Layer
    numbers may have gaps: `layers` lists, ascending, those that have vertices. Inside a layer, vertices stand by label.

    A method that raises ValueError or TypeError has changed nothing. Copies, also of subgraphs, keep the labels;
    `networkx.relabel_nodes` can only permute them.
    """

    _node: dict[Any, dict[str, Any]]  # networkx's own

    def __init__(self, incoming_graph_data: Any = None, **attr: Any) -> None:
        """A graph with the vertices and edges of another one, or none.

        Args:
            incoming_graph_data: another `LabeledDAG`, whose labels are kept; or anything that `networkx.DiGraph` takes,
                whose vertices are numbered in their order. Their layers are those of their attribute ``layer`` if all
                have one, else lengths of longest paths.
            **attr: attributes of the graph.

        Raises:
            ValueError: the other graph is undirected, or has parallel edges, a cycle or an edge to no later layer.
        """
        self._next_label = 0
        self._vertices: dict[int, list[int]] = {}  # by layer, all but the new ones
        self._places: dict[int, int] = {}  # of vertices in their layers, of all but the new ones
        self._new: list[int] = []
        self._removed = False  # or has come in between
        super().__init__(None)
        if incoming_graph_data is not None:
            self._take(incoming_graph_data)
        self.graph.update(attr)

    def _take(self, incoming: Any) -> None:
        """Adds what another graph has to a graph without vertices."""
        other = incoming if isinstance(incoming, LayeredGraph) else CachedLayeredGraph(incoming)
        self.graph.update(other.graph)
        keep = isinstance(other, LabeledDAG)
        label = {vertex: vertex if keep else position for position, vertex in enumerate(other)}
        layers = dict(other.nodes(data=LAYER))
        if None in layers.values():
            layers = other._layer_of()
        self.add_nodes_from((label[vertex], {**data, LAYER: layers[vertex]}) for vertex, data in other.nodes(data=True))
        self.add_edges_from((label[source], label[target], data) for source, target, data in edges_by_target(other))

    @classmethod
    def load_from(cls, graph: nx.Graph[Any]) -> LayeredGraph:
        """A `LabeledDAG` with the vertices of any graph; see there for the layers.

        An edge of an undirected graph leads from the vertex that was added first to the other one.

        Raises:
            ValueError: the graph has parallel edges, a cycle or an edge to no later layer.
        """
        return cls(super().load_from(graph))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Also takes what deepstruct 0.10 pickled."""
        self.__dict__.update(state)
        if "_next_label" not in state:
            for name in ("_vertex_by_layer", "_has_changed"):
                del self.__dict__[name]
            for vertex, layer in self.__dict__.pop("_layer_index").items():
                self._node[vertex][LAYER] = int(layer)
            self._next_label = max(self._node, default=-1) + 1
            self._vertices, self._places, self._new = {}, {}, []
            self._removed = True  # so that the index is made when it is asked for

    def _layers(self) -> dict[int, list[Any]]:
        if is_view(self):
            return self._grouped()
        if self._removed:
            self._vertices, self._places, self._new = {}, {}, sorted(self)
            self._removed = False
        for vertex in self._new:
            members = self._vertices.setdefault(self.get_layer(vertex), [])
            self._places[vertex] = len(members)
            members.append(vertex)
        self._new = []
        return self._vertices

    def _grouped(self) -> dict[int, list[int]]:
        layers: dict[int, list[int]] = {}
        for vertex in sorted(self):
            layers.setdefault(self.get_layer(vertex), []).append(vertex)
        return layers

    @property
    def layers(self) -> list[int]:
        """Numbers of the layers that have vertices, ascending."""
        return sorted(self._layers())

    @property
    def first_layer(self) -> int | None:  # type: ignore[override]  # the older library's answer, as for last_layer
        """Number of the first layer; None if the graph has no vertices."""
        return min(self._layers(), default=None)

    @property
    def last_layer(self) -> int | None:  # type: ignore[override]
        """Number of the last layer; None if the graph has no vertices."""
        return max(self._layers(), default=None)

    def get_layer(self, vertex: Vertex) -> int:
        """Layer of a vertex.

        Raises:
            KeyError: there is no such vertex.
        """
        layer: int = self.nodes[vertex][LAYER]
        return layer

    def index_in_layer(self, vertex: int) -> int:
        """Place of a vertex in its layer, from 0.

        Raises:
            KeyError: there is no such vertex.
        """
        layers = self._layers()
        return layers[self.get_layer(vertex)].index(vertex) if is_view(self) else self._places[vertex]

    def add_vertex(self, layer: int = 0, **attr: Any) -> int:
        """Adds a vertex to a layer.

        Returns:
            Its label.

        Raises:
            ValueError: the layer is negative.
        """
        label = self._next_label
        self._insert([(label, {**attr, LAYER: _layer_number(layer)})])
        return label

    def add_vertices(self, num_vertices: int, layer: int = 0, **attr: Any) -> NDArray[np.int64]:
        """Adds several vertices to a layer.

        Returns:
            Their labels, (num_vertices,).

        Raises:
            ValueError: there is not at least one vertex to add, or the layer is negative.
        """
        if index(num_vertices) < 1:
            raise ValueError(f"num_vertices must be at least 1, not {num_vertices}")
        first, data = self._next_label, {**attr, LAYER: _layer_number(layer)}
        self._insert([(label, data) for label in range(first, first + index(num_vertices))])
        return np.arange(first, self._next_label, dtype=np.int64)

    def add_node(  # type: ignore[override]  # networkx gives None
        self,
        node_for_adding: Any,  # noqa: ARG002 - the name that networkx uses
        **attr: Any,
    ) -> int:
        """Adds a vertex with the next label, whatever it is called here.

        Args:
            node_for_adding: ignored.
            **attr: attributes of the vertex; ``layer`` is its layer, 0 if not given.

        Returns:
            Its label.
        """
        return self.add_vertex(attr.pop(LAYER, 0), **attr)

    def add_nodes_from(self, nodes_for_adding: Iterable[Any], **attr: Any) -> NDArray[np.int64]:  # type: ignore[override]
        """Adds a vertex with the next label for each of several ones, whatever they are called here.

        Args:
            nodes_for_adding: anything, or pairs of anything and a dict of attributes. A pair of an integer and
                attributes with a ``layer`` stands for a vertex of another `LabeledDAG`, which keeps its label; if the
                graph has that label already, the vertex gets the attributes.
            **attr: attributes of all vertices; ``layer`` is their layer, 0 if not given.

        Returns:
            Their labels.

        Raises:
            ValueError: a layer is negative, or another one than that of the vertex that has the label already.
        """
        labels: list[int] = []
        vertices: dict[int, dict[str, Any]] = {}
        following = self._next_label
        for given in nodes_for_adding:
            name, own = given if _has_attributes(given) else (None, {})
            layer = _layer_number(own.get(LAYER, attr.get(LAYER, 0)))
            kept = LAYER in own and isinstance(name, int | np.integer) and name >= 0
            label = int(name) if kept else following
            present = vertices[label][LAYER] if label in vertices else self._node.get(label, {}).get(LAYER, layer)
            if present != layer:
                raise ValueError(f"vertex {label} is in layer {present} already, so it cannot be in layer {layer}")
            vertices[label] = {**vertices.get(label, {}), **attr, **own, LAYER: layer}
            labels.append(label)
            following = max(following, label + 1)
        self._insert(vertices.items())
        return np.array(labels, dtype=np.int64)

    def _insert(self, vertices: Iterable[tuple[int, dict[str, Any]]]) -> None:
        """Adds vertices whose labels and layers have been checked."""
        if nx.is_frozen(self):
            raise nx.NetworkXError("a frozen graph cannot be changed")
        vertices = list(vertices)
        new = sorted(label for label, _ in vertices if label not in self._node)
        super().add_nodes_from(vertices)
        self._removed |= bool(new) and new[0] < self._next_label
        self._new += new
        self._next_label = max(self._next_label, new[-1] + 1 if new else 0)

    def add_edge(
        self,
        u_of_edge: Any,
        v_of_edge: Any,
        *,
        source_layer: int = 0,
        target_layer: int | None = None,
        **attr: Any,
    ) -> None:
        """Adds an edge; a vertex that the graph has not is made, with the next label, whatever it is called here.

        Args:
            u_of_edge: label of the source, or anything else for a new vertex.
            v_of_edge: label of the target, or anything else for a new vertex.
            source_layer: layer of the source if it is new.
            target_layer: layer of the target if it is new; None stands for the layer behind the source.
            **attr: attributes of the edge.

        Raises:
            ValueError: the edge does not lead to a later layer, or a layer is negative.
        """
        self.add_edges_from([(u_of_edge, v_of_edge)], source_layer=source_layer, target_layer=target_layer, **attr)

    def add_edges_from(
        self,
        ebunch_to_add: Iterable[Any],
        *,
        source_layer: int = 0,
        target_layer: int | None = None,
        **attr: Any,
    ) -> None:
        """Adds edges, one after the other, as `add_edge`.

        Args:
            ebunch_to_add: (source, target) or (source, target, attributes). What is no label before the call stands
                for a new vertex, and for the same one each time. Where it comes first decides about its layer.
            source_layer: layer of the sources that are new.
            target_layer: layer of the targets that are new; None stands for the layer behind the source.
            **attr: attributes of all edges.

        Raises:
            ValueError: an edge does not lead to a later layer, a layer is negative, or something is not an edge.
        """
        new: dict[Any, tuple[int, int]] = {}
        edges: list[tuple[int, int, dict[str, Any]]] = []

        def located(given: Any, layer: int) -> tuple[int, int]:
            """Label and layer of a vertex, which is made if need be."""
            if given in self._node:
                return int(given), self._node[given][LAYER]
            return new.setdefault(given, (self._next_label + len(new), layer))

        for edge in ebunch_to_add:
            if not isinstance(edge, Collection) or len(edge) not in (2, 3):
                raise ValueError(f"an edge is (source, target) or (source, target, attributes), not {edge!r}")
            given_source, given_target, *data = edge
            source, tail = located(given_source, _layer_number(source_layer))
            target, head = located(given_target, tail + 1 if target_layer is None else _layer_number(target_layer))
            if tail >= head:
                raise ValueError(
                    f"the edge {given_source!r} -> {given_target!r} leads from layer {tail} to layer {head}; "
                    "an edge must lead to a later layer"
                )
            edges.append((source, target, {**attr, **(data[0] if data else {})}))
        self._insert((label, {LAYER: layer}) for label, layer in new.values())
        super().add_edges_from(edges)

    def append(self, other: LayeredGraph) -> None:
        """Adds another graph behind this one; its first layer is this one's last, vertex by vertex in their order.

        The other layers of the other graph follow with the distances that they have there, with new labels in the
        order of layers.

        Raises:
            ValueError: this graph is empty, the other one has fewer than two layers, or its first layer has not the
                size of this one's last.
        """
        last, layers = self.last_layer, other.layers
        if last is None:
            raise ValueError("a graph without vertices has no last layer to append to")
        if len(layers) < 2:
            raise ValueError(f"a graph to append must have at least 2 layers, not {len(layers)}")
        members = {layer: other.get_vertices(layer) for layer in layers}
        if self.get_layer_size(last) != len(members[layers[0]]):
            raise ValueError(
                f"the last layer has {self.get_layer_size(last)} vertices, "
                f"the first one of the graph to append {len(members[layers[0]])}"
            )
        label = dict(zip(members[layers[0]], self.get_vertices(last), strict=True))
        vertices: list[tuple[int, dict[str, Any]]] = []
        for layer in layers[1:]:
            for vertex in members[layer]:
                label[vertex] = self._next_label + len(vertices)
                vertices.append((label[vertex], {**other.nodes[vertex], LAYER: last + layer - layers[0]}))
        edges = [
            (label[source], label[target], dict(data))
            for layer in layers[1:]
            for target in members[layer]
            for source, _, data in other.in_edges(target, data=True)
        ]
        self._insert(vertices)
        super().add_edges_from(edges)

    def remove_node(self, n: int) -> None:
        """As networkx."""
        self._removed = True
        super().remove_node(n)

    def remove_nodes_from(self, nodes: Iterable[int]) -> None:
        """As networkx."""
        self._removed = True
        super().remove_nodes_from(nodes)

    def clear(self) -> None:
        """As networkx; labels begin at 0 again."""
        super().clear()
        self._next_label = 0
        self._vertices, self._places, self._new = {}, {}, []

    def reverse(self, copy: bool = True) -> Any:
        """The graph with every edge turned round, and so with its layers in reversed order.

        Args:
            copy: give a `LabeledDAG` with the same labels; else a view, a plain `networkx.DiGraph` without layers.
        """
        if not copy:
            return nx.reverse_view(nx.graphviews.generic_graph_view(self, nx.DiGraph))
        turned = type(self)()
        turned.graph.update(self.graph)
        ends = sum(self.layers[:1] + self.layers[-1:])
        turned.add_nodes_from((label, {**data, LAYER: ends - data[LAYER]}) for label, data in self.nodes(data=True))
        turned.add_edges_from((target, source, data) for source, target, data in self.edges(data=True))
        return turned


def _layer_number(layer: Any) -> int:
    try:
        number = index(layer)
    except TypeError as error:
        raise ValueError(f"a layer is an integer from 0, not {layer!r}") from error
    if number < 0:
        raise ValueError(f"a layer is an integer from 0, not {layer!r}")
    return number


def _has_attributes(given: Any) -> bool:
    """Whether an item of `add_nodes_from` is a pair of a vertex and its attributes, as networkx has them."""
    return isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], dict)
