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
from deepstruct.structure import Parameter, Structure
from deepstruct.units import UnitGraph
from deepstruct.views import DOCUMENT


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
    sizes = [block.rows().sources.size for block in units.blocks]
    connections = sum(sizes)
    if connections > graph_data.MOST_EDGES:
        raise UnsupportedError(
            f"the network has {connections:,} connections, more than the {graph_data.MOST_EDGES:,} that networkx could "
            "hold; order 1 has an edge for each kernel, and deepstruct.expansion.unit_graph has matrices"
        )
    graph = views.describe(units, numbers if weights else None)
    _name_vertices(graph, structure, whole, dropped)
    exact = graph.number_of_edges() == connections  # else there are parallel ones, of which one is the edge
    unplaced = sum(size for size, block in zip(sizes, units.blocks, strict=True) if block.entries is None)
    shown = None if order else _entries(units) if exact else _shown(graph)
    graph.graph |= {
        "order": order or 0,
        "layers": [layer.name for layer in units.layers],
        DOCUMENT: _text(structure if shown is None else _without(structure, shown)),
        "vertices": graph.number_of_nodes(),
        "edges": unplaced if exact else _unplaced(graph),
    }
    return graph


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


def _entries(units: UnitGraph) -> dict[str, list[NDArray[np.int64]]]:
    """The entries that connections stand for: row-major indices by name of the parameter."""
    found: dict[str, list[NDArray[np.int64]]] = {}
    for block in units.blocks:
        if block.entries is not None:
            found.setdefault(block.parameter, []).append(block.entries())
    return found


def _without(structure: Structure, shown: Mapping[str, Sequence[NDArray[np.int64]]]) -> Structure:
    """The structure without some entries."""
    parameters = []
    for parameter in structure.parameters:
        kept = None
        for entries in shown.get(parameter.name, ()):
            kept = _kept(parameter) if kept is None else kept
            kept[entries] = False
        parameters.append(parameter if kept is None else _masked(parameter, kept))
    return replace(structure, parameters=tuple(parameters))


def _kept(parameter: Parameter) -> NDArray[np.bool_]:
    """Bool ``[size]``: which entries of a parameter exist."""
    return np.ones(parameter.size, np.bool_) if parameter.mask is None else parameter.mask.flat()


def _masked(parameter: Parameter, kept: NDArray[np.bool_]) -> Parameter:
    return replace(parameter, mask=Mask.from_array(kept.reshape(parameter.shape)))


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
    graph.graph |= {DOCUMENT: _text(structure), "vertices": len(graph), "edges": graph.number_of_edges()}
    return graph


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


def _shown(graph: nx.Graph[Any]) -> dict[str, list[NDArray[np.int64]]]:
    """The entries that edges stand for: row-major indices by name of the parameter."""
    shown: dict[str, list[int]] = {}
    for source, target, data in graph.edges(data=True):
        if "index" in data:
            name, index = data.get("parameter"), data["index"]
            if not isinstance(name, str) or type(index) is not int or not 0 <= index < 2**48:
                message = f"the edge {source!r:.40} -> {target!r:.40} has an index, but needs a name and an integer"
                raise StructureError("graph", [Fault("TYPE_MISMATCH", "", f"{message} as 'parameter' and 'index'")])
            shown.setdefault(name, []).append(index)
    return {name: [np.array(indices)] for name, indices in shown.items()}


def _with_edges(structure: Structure, graph: nx.Graph[Any]) -> Structure:
    known = {parameter.name: parameter for parameter in structure.parameters}
    for name, (indices,) in _shown(graph).items():
        parameter = known.get(name)
        if parameter is None or indices.max() >= parameter.size:
            there = "is no parameter" if parameter is None else f"has {parameter.size} entries only"
            message = f"an edge stands for an entry of {name!r:.60}, which {there}"
            raise StructureError("graph", [Fault("INVALID_VALUE", "", message)])
        kept = _kept(parameter)
        kept[indices] = True
        known[name] = _masked(parameter, kept)
    return replace(structure, parameters=tuple(known.values()))
