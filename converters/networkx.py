"""Networkx graphs -> Structure of a network in their shape: a hidden unit a vertex, a connection an edge."""

from __future__ import annotations

import operator
from typing import Any

import networkx as nx

from deepstruct import dan_structure, graph_data
from deepstruct.converters import networkx_views
from deepstruct.converters.networkx_views import to_networkx
from deepstruct.dan_structure import Dan
from deepstruct.errors import Fault, StructureError, UnsupportedError, UsageError, did_you_mean
from deepstruct.graph import CachedLayeredGraph, LabeledDAG, LayeredGraph
from deepstruct.losses import Loss
from deepstruct.model import Model
from deepstruct.structure import Structure
from deepstruct.wiring import Connections, Wiring, wiring_of

__all__ = ["DTYPES", "ORIENTATIONS", "from_networkx", "from_object", "to_networkx"]

DTYPES = ("float32", "float64", "float16", "bfloat16")
ORIENTATIONS = ("vertex-order",)

_MOST_FEATURES = 2**31 - 1
_KEPT_CLASSES = (nx.Graph, nx.DiGraph, nx.MultiGraph, nx.MultiDiGraph)
_OWN_CLASSES = (LayeredGraph, CachedLayeredGraph, LabeledDAG)


def from_object(value: Any, losses: list[Loss], **options: Any) -> Model:
    """The model of a graph, which is a structure alone; options are those of `from_networkx`."""
    return Model(from_networkx(value, losses=losses, **options))


def from_networkx(
    graph: nx.Graph[Any],
    in_features: int | None = None,
    out_features: int | None = None,
    *,
    orientation: str | None = None,
    use_layer_norm: bool = False,
    sum_before_activation: bool = False,
    dtype: str = "float32",
    losses: list[Loss] | None = None,
) -> Structure:
    """The structure of a network whose hidden units are the vertices of a graph; see `deepstruct.from_networkx`.

    Args:
        graph: acyclic, or undirected, or a view that `to_networkx` made, whose structure is given back if neither
            number of features is given.
        in_features: number of inputs, all of which are connected with all vertices of the first layer.
        out_features: number of outputs, all of which are connected with all vertices of the last layer.
        orientation: of the edges of an undirected graph: ``vertex-order``, from the end that comes first among the
            graph's vertices to the other one.
        use_layer_norm: normalise before the activation of every layer but the first.
        sum_before_activation: sum the connections of a unit before its activation instead of after it.
        dtype: of the parameters, one of `DTYPES`.
        losses: gets what the graph has and a structure cannot.

    Raises:
        UsageError: an argument means nothing, or an undirected graph comes without `orientation`.
        StructureError: the graph has a cycle or no vertices.
        UnsupportedError: the graph has parallel edges, or keys or attributes without a JSON form.
    """
    collected: list[Loss] = [] if losses is None else losses
    if isinstance(graph, nx.Graph) and in_features is out_features is None and networkx_views.is_view(graph):
        return networkx_views.to_structure(graph)
    if in_features is None or out_features is None:
        raise UsageError(
            "in_features and out_features are needed: only a graph that deepstruct.to_networkx made says them itself"
        )
    graph = networkx_views.without_view(graph)
    wiring, connections = _wired(graph, orientation)
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r:.40}; choose from {', '.join(DTYPES)}")
    dan = Dan(
        wiring,
        _features(in_features, "in_features"),
        _features(out_features, "out_features"),
        use_layer_norm=bool(use_layer_norm),
        sum_before_activation=bool(sum_before_activation),
    )
    _report_class(graph, collected)
    return dan_structure.to_structure(
        dan,
        dan_structure.parameters_by_scope(dan, dtype, connections),
        vertices=graph_data.vertex_keys(wiring, collected),
        graph=graph_data.describe(graph, wiring, collected),
    )


def _features(value: Any, name: str) -> int:
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if not 1 <= number <= _MOST_FEATURES:
        raise UsageError(f"{name} must be an integer from 1 to {_MOST_FEATURES}, not {value!r:.40}")
    return number


def _report_class(graph: nx.Graph[Any], losses: list[Loss]) -> None:
    """A class beyond those that come back is lost, but deepstruct's own hold nothing that is not kept."""
    if type(graph) in (*_KEPT_CLASSES, *_OWN_CLASSES):
        return
    kept = next(kind for kind in type(graph).__mro__ if kind in _KEPT_CLASSES)
    name = f"{type(graph).__module__}.{type(graph).__qualname__}"
    losses.append(Loss("graph class", "graph", f"a {name} comes back as a networkx.{kept.__name__}"))


def _wired(graph: Any, orientation: str | None) -> tuple[Wiring, Connections]:
    """Layers and connections of a graph that can be a network."""
    if not isinstance(graph, nx.Graph):
        raise UsageError(f"from_networkx takes a networkx graph, not a {type(graph).__name__}")
    if orientation is not None and orientation not in ORIENTATIONS:
        hint = did_you_mean(str(orientation), ORIENTATIONS)
        raise UsageError(f"unknown orientation {orientation!r:.40}; the only one is {ORIENTATIONS[0]!r}{hint}")
    if not len(graph):
        raise StructureError("graph", [Fault("INVALID_VALUE", "", "it has no vertices; add one at least")])
    if isinstance(graph, nx.MultiGraph):
        _refuse_parallel(graph)
    if graph.is_directed() and orientation is not None:
        raise UsageError("orientation is for undirected graphs, and the graph is directed; leave it out")
    directed = graph if isinstance(graph, nx.DiGraph) else _oriented(graph, orientation)
    try:
        return wiring_of(directed)
    except ValueError as error:
        advice = "remove an edge of it or turn one round (networkx.find_cycle finds it)"
        raise StructureError("graph", [Fault("GRAPH_CYCLE", "", f"{error}; {advice}")]) from error


def _oriented(graph: nx.Graph[Any], orientation: str | None) -> nx.DiGraph[Any]:
    """A directed graph with the vertices and edges of an undirected one, without attributes."""
    if orientation is None and graph.number_of_edges():
        raise UsageError(
            "the graph is undirected: say how its edges are directed, orientation='vertex-order' (from the end that "
            "comes first among the graph's vertices to the other one), or make a networkx.DiGraph of it yourself"
        )
    directed: nx.DiGraph[Any] = nx.DiGraph()
    directed.add_nodes_from(graph)
    place = {vertex: number for number, vertex in enumerate(graph)}
    directed.add_edges_from((u, v) if place[u] <= place[v] else (v, u) for u, v in graph.edges())
    return directed


def _refuse_parallel(graph: nx.MultiGraph[Any]) -> None:
    for source, targets in graph.adj.items():
        for target, between in targets.items():
            if len(between) > 1:
                raise UnsupportedError(
                    f"there are {len(between)} parallel edges between {source!r:.60} and {target!r:.60}, and a network "
                    "has one connection at most; keep one of them"
                )
