"""Structure -> networkx graph of order 0, 1 or 2, and back."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from deepstruct import dan_structure, document, expansion, graph_data, jsonprofile, views
from deepstruct.dan_structure import Dan
from deepstruct.errors import DocumentError, Fault, StructureError, UnsupportedError, UsageError
from deepstruct.layer_graph import LayerGraph, layer_graph
from deepstruct.limits import Limits
from deepstruct.mask import Mask
from deepstruct.model import Model
from deepstruct.options import Unknown
from deepstruct.structure import Structure
from deepstruct.units import UnitGraph

DOCUMENT = "deepstruct"
"""Attribute of a graph: the document of the structure that it is a view of, as text. At order 0 its masks lack the
entries that edges stand for, so that the edges decide."""


def to_networkx(
    model: Structure | Model,
    order: int | None = None,
    *,
    include_input: bool = False,
    include_output: bool = False,
    weights: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
    unknown: Unknown = "error",
    depth: int | None = None,
) -> nx.Graph[Any]:
    """The graph of a network; see `deepstruct.to_networkx`."""
    structure = model.structure if isinstance(model, Model) else model
    if not isinstance(structure, Structure):
        kind = type(model).__name__
        raise UsageError(f"to_networkx takes a Structure or a Model, not a {kind}; deepstruct.from_module makes one")
    if order not in (None, 0, 1, 2) or isinstance(order, bool):
        raise UsageError(f"order is 0, 1, 2 or None, not {order!r:.40}")
    numbers = model.weights if isinstance(model, Model) else None
    if weights and (numbers is None or order in (1, 2)):
        raise UsageError("weights are attributes of single connections (order 0), of a model that has numbers")
    if depth is not None and (order != 2 or type(depth) is not int or depth < 1):
        raise UsageError("depth is a number of scope levels, at least 1, for order 2")
    if order is None and not (include_input or include_output or weights) and comes_from_graph(structure):
        return graph_data.original_graph(structure)
    if order == 2:
        return _layers(structure, include_input, include_output, depth)
    whole = expansion.unit_graph(model, 1 if order else 0, shapes=shapes, unknown=unknown)
    dropped = {*(() if include_input else whole.inputs), *(() if include_output else whole.outputs)}
    units = whole.without(dropped)
    connections = sum(block.rows().sources.size for block in units.blocks)
    if connections > graph_data.MOST_EDGES:
        raise UnsupportedError(
            f"the network has {connections:,} connections, more than the {graph_data.MOST_EDGES:,} that networkx could "
            "hold; order 1 has an edge for each kernel, and deepstruct.expansion.unit_graph has matrices"
        )
    graph: nx.DiGraph[Any] = views.describe(nx.DiGraph(), units, numbers if weights else None)
    _name_vertices(graph, structure, whole, dropped)
    graph.graph |= {
        "order": order or 0,
        "layers": [layer.name for layer in units.layers],
        DOCUMENT: _text(structure if order else _without_shown(structure, units, graph, connections)),
    }
    return _sealed(graph)


def comes_from_graph(structure: Structure) -> bool:
    """Whether a network was made in the shape of a graph, which `to_networkx` gives back."""
    return _shape(structure) is not None


def _shape(structure: Structure) -> Dan | None:
    """The shape of a network that comes from a graph, or None."""
    if structure.attributes.get("family") != dan_structure.FAMILY:
        return None
    dan = dan_structure.from_structure(structure)
    try:
        dan_structure.require_computed(structure, dan)
    except UnsupportedError:
        return None
    return dan


def _name_vertices(graph: nx.DiGraph[Any], structure: Structure, whole: UnitGraph, dropped: set[int]) -> None:
    """Gives the units of a network that comes from a graph the keys of its vertices."""
    dan = _shape(structure)
    if dan is not None:
        start = 0 if dropped.intersection(whole.inputs) else sum(whole.layers[place].size for place in whole.inputs)
        keys = enumerate(chain.from_iterable(dan.wiring.vertices), start)
        graph.add_nodes_from((vertex, {"vertex": key}) for vertex, key in keys)


def _text(structure: Structure) -> str:
    file = io.BytesIO()
    jsonprofile.write(file, document.to_json(structure))
    return file.getvalue().decode()


def _without_shown(structure: Structure, units: UnitGraph, graph: nx.DiGraph[Any], connections: int) -> Structure:
    """The structure without the entries that are connections of the graph."""
    shown: dict[str, list[NDArray[np.int64]]] = {}
    for block in units.blocks:
        if block.entries is not None:
            shown.setdefault(block.parameter, []).append(block.entries())
    if connections != graph.number_of_edges():  # of parallel connections only one is an edge
        shown = {name: [np.array(indices)] for name, indices in _shown(graph).items()}
    parameters = []
    for parameter in structure.parameters:
        if parameter.name in shown:
            kept = np.ones(parameter.size, np.bool_) if parameter.mask is None else parameter.mask.flat()
            for entries in shown[parameter.name]:
                kept[entries] = False
            parameter = replace(parameter, mask=Mask.from_array(kept.reshape(parameter.shape)))
        parameters.append(parameter)
    return replace(structure, parameters=tuple(parameters))


def _sealed(graph: nx.DiGraph[Any]) -> nx.DiGraph[Any]:
    """Notes how much there is that says nothing about single entries, so that changes of it are seen."""
    graph.graph["vertices"] = graph.number_of_nodes()
    graph.graph["edges"] = _unplaced(graph)
    return graph


def _unplaced(graph: nx.Graph[Any]) -> int:
    """Number of edges that stand for no single entry."""
    return sum("index" not in data for _, _, data in graph.edges(data=True))


def _layers(structure: Structure, include_input: bool, include_output: bool, depth: int | None) -> nx.DiGraph[Any]:
    found = layer_graph(structure)
    dropped = {*(() if include_input else found.inputs), *(() if include_output else found.outputs)}
    groups = {
        place: ".".join(layer.scope.split(".")[:depth]) if depth and layer.scope else layer.name
        for place, layer in enumerate(found.layers)
        if place not in dropped
    }
    graph: nx.DiGraph[Any] = nx.DiGraph(order=2)
    members: dict[str, list[int]] = {}
    for place, group in groups.items():
        members.setdefault(group, []).append(place)
    graph.add_nodes_from((group, _described(structure, found, places)) for group, places in members.items())
    for place, group in groups.items():
        for source, names in found.layers[place].sources.items():
            if source in groups and (groups[source] != group or depth is None):
                _connect(graph, structure, groups[source], group, names)
    graph.graph[DOCUMENT] = _text(structure)
    return _sealed(graph)


def _described(structure: Structure, found: LayerGraph, places: list[int]) -> dict[str, Any]:
    """Attributes of a layer, or of several in one scope."""
    layers = [found.layers[place] for place in places]
    names = list(dict.fromkeys(name for layer in layers for name in layer.parameters))
    parameters = [structure.parameter(name) for name in names]
    return {
        "op_type": layers[0].op_type if len(layers) == 1 else "",
        "layers": len(layers),
        "parameters": names,
        "size": sum(parameter.size for parameter in parameters),
        "nnz": sum(parameter.nnz for parameter in parameters),
    }


def _connect(graph: nx.DiGraph[Any], structure: Structure, source: str, target: str, names: list[str]) -> None:
    weights = [structure.parameter(name) for name in names]
    connections = sum(parameter.nnz for parameter in weights if len(parameter.shape) > 1)
    graph.add_edge(source, target)
    if connections:
        data = graph.edges[source, target]
        data["connections"] = data.get("connections", 0) + connections


def is_view(graph: nx.Graph[Any]) -> bool:
    """Whether `to_networkx` made a graph from a structure."""
    return isinstance(graph.graph.get(DOCUMENT), str)


def without_view(graph: nx.Graph[Any]) -> nx.Graph[Any]:
    """The graph itself, or, of a view, a copy that is none any more."""
    if not isinstance(graph, nx.Graph) or not is_view(graph):
        return graph
    plain = graph.copy()
    for name in (DOCUMENT, "order", "layers", "vertices", "edges"):
        plain.graph.pop(name, None)
    return plain


def to_structure(graph: nx.Graph[Any]) -> Structure:
    """The structure that a graph is a view of, with the connections that are edges now.

    Raises:
        DocumentError: the document in the graph breaks a rule.
        StructureError: an edge stands for nothing.
        UnsupportedError: the graph was changed where a change says nothing about entries.
    """
    try:
        given = jsonprofile.parse(graph.graph[DOCUMENT].encode(errors="surrogatepass"), Limits.from_environment())
        structure = document.from_json(given, Limits.from_environment()).structure
    except DocumentError as error:
        raise DocumentError(f"attribute {DOCUMENT!r} of the graph", error.faults) from error
    order, edges = graph.graph.get("order"), graph.graph.get("edges")
    if (order != 0 and graph.number_of_nodes() != graph.graph.get("vertices")) or _unplaced(graph) != edges:
        raise UnsupportedError(
            "the graph has other vertices or edges than the network that it shows: only edges that have 'parameter' "
            "and 'index' can be removed or added (order 0); to make a network in the shape of the graph, remove its "
            f"attribute {DOCUMENT!r}"
        )
    return structure if order != 0 else _with_edges(structure, graph)


def _shown(graph: nx.Graph[Any]) -> dict[str, list[int]]:
    """The entries that edges stand for: row-major indices by name of the parameter."""
    shown: dict[str, list[int]] = {}
    for source, target, data in graph.edges(data=True):
        if "index" in data:
            name, index = data.get("parameter"), data["index"]
            if not isinstance(name, str) or type(index) is not int:
                message = f"the edge {source!r:.40} -> {target!r:.40} has an index, but needs a name and an integer"
                raise StructureError("graph", [Fault("TYPE_MISMATCH", "", f"{message} as 'parameter' and 'index'")])
            shown.setdefault(name, []).append(index)
    return shown


def _with_edges(structure: Structure, graph: nx.Graph[Any]) -> Structure:
    known = {parameter.name: parameter for parameter in structure.parameters}
    for name, indices in _shown(graph).items():
        parameter = known.get(name)
        if parameter is None or min(indices) < 0 or max(indices) >= parameter.size:
            what = (
                f"there is no parameter {name!r:.60}"
                if parameter is None
                else f"{name!r:.60} has {parameter.size} entries"
            )
            raise StructureError("graph", [Fault("INVALID_VALUE", "", f"an edge stands for an entry, but {what}")])
        kept = np.ones(parameter.size, np.bool_) if parameter.mask is None else parameter.mask.flat()
        kept[np.array(indices)] = True
        known[name] = replace(parameter, mask=Mask.from_array(kept.reshape(parameter.shape)))
    return replace(structure, parameters=tuple(known.values()))
