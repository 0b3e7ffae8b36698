"""What a networkx graph has beyond the wiring of its network, as the attribute ``graph`` of a structure, and the graph.

Vertices are numbered as the units are, layer by layer. Tables are by column, and what is empty is left out:

- ``directed``: false if the graph is undirected; ``multigraph``: true if it is of a class that allows parallel edges;
- ``attributes``: those of the graph;
- ``order``: vertices in the order of the graph, where that is not the order of the units;
- ``vertex_attributes``: columns, a value for each vertex;
- ``edges``: ``sources`` and ``targets``, the vertices of each edge that has attributes or a key, in ascending order;
  ``attributes``, columns with a value for each of them; ``keys``, a column without name, where a key is not 0.

A column has a ``name``, ``values`` and, if not all have a value, their positions ``at``. Names and keys of edges are
keys as `deepstruct.typed_json` has them, values its values.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from deepstruct import dan_structure, typed_json
from deepstruct.errors import Fault, StructureError, UnsupportedError, pointer
from deepstruct.frozen import FrozenMapping, freeze, strict_key
from deepstruct.losses import Loss
from deepstruct.structure import Structure
from deepstruct.typed_json import NumpyTypes, TypedJsonError
from deepstruct.wiring import Wiring

MOST_EDGES = 2**25
_PLACE = "/graph/attributes/graph"
_TYPES = "use None, bool, int, float, str, list, tuple and dict only"


def vertex_keys(wiring: Wiring, losses: list[Loss]) -> list[list[Any]]:
    """The attribute ``vertices``: keys as typed JSON.

    Raises:
        UnsupportedError: a key has no JSON form.
    """
    numpy_types: NumpyTypes = set()
    keys = [[_key(key, f"the vertex {_named(key)}", numpy_types) for key in layer] for layer in wiring.vertices]
    _report(losses, "vertex keys", numpy_types)
    return keys


def describe(graph: nx.Graph[Any], wiring: Wiring, losses: list[Loss]) -> dict[str, Any]:
    """The attribute ``graph``, empty if there is nothing to say.

    Args:
        graph: of the wiring. An edge of an undirected one leads from the vertex that comes first to the other one.
        wiring: the layers of the graph.
        losses: gets the types of numpy scalars.

    Raises:
        UnsupportedError: an attribute has no JSON form; it is named.
    """
    number = {vertex: place for place, vertex in enumerate(chain.from_iterable(wiring.vertices))}
    described: dict[str, Any] = {}
    if not graph.is_directed():
        described["directed"] = False
    if graph.is_multigraph():
        described["multigraph"] = True
    if graph.graph:
        numpy_types: NumpyTypes = set()
        described["attributes"] = _graph_attributes(graph.graph, numpy_types)
        _report(losses, "graph attributes", numpy_types)
    order = [number[vertex] for vertex in graph]
    if order != list(range(len(order))):
        described["order"] = order
    keys = list(chain.from_iterable(wiring.vertices))
    if any(data for _, data in graph.nodes(data=True)):
        rows = [graph.nodes[key] for key in keys]
        described["vertex_attributes"] = _columns(
            rows, lambda row: f"the vertex {_named(keys[row])}", "vertex attribute", losses
        )
    edges = _edges(graph, number, keys, losses)
    if edges:
        described["edges"] = edges
    return described


def _graph_attributes(attributes: Mapping[Any, Any], numpy_types: NumpyTypes) -> Any:
    try:
        return typed_json.encode(dict(attributes), numpy_types)
    except TypedJsonError as error:
        where = "the attributes of the graph"
        for name, value in attributes.items():
            try:
                typed_json.encode({name: value}, numpy_types)
            except TypedJsonError:
                where = f"the attribute {_named(name)} of the graph"
                break
        raise UnsupportedError(f"{where}: {error}; {_TYPES}, or remove the attribute") from error


def _edges(
    graph: nx.Graph[Any], number: Mapping[Hashable, int], keys: Sequence[Hashable], losses: list[Loss]
) -> dict[str, Any]:
    """The table of the edges that have more than their ends."""
    if isinstance(graph, nx.MultiGraph):
        multi: Iterable[Any] = graph.edges(data=True, keys=True)
        found = [(number[u], number[v], data, key) for u, v, key, data in multi if data or not _is_zero(key)]
    else:
        found = [(number[u], number[v], data, 0) for u, v, data in graph.edges(data=True) if data]
    if not found:
        return {}
    found = [(min(u, v), max(u, v), data, key) for u, v, data, key in found]  # later layers have larger numbers
    found.sort(key=lambda edge: edge[:2])

    def edge(row: int) -> str:
        return f"the edge {_named(keys[found[row][0]])} -> {_named(keys[found[row][1]])}"

    table: dict[str, Any] = {"sources": [row[0] for row in found], "targets": [row[1] for row in found]}
    columns = _columns([row[2] for row in found], edge, "edge attribute", losses)
    if columns:
        table["attributes"] = columns
    numpy_types: NumpyTypes = set()
    given = [row for row, (_, _, _, key) in enumerate(found) if not _is_zero(key)]
    if given:
        values = [_key(found[row][3], f"{edge(row)}: its key", numpy_types) for row in given]
        table["keys"] = {"values": values} | ({"at": given} if len(given) < len(found) else {})
    _report(losses, "edge keys", numpy_types)
    return table


def _is_zero(key: object) -> bool:
    return type(key) is int and key == 0


class _Column:
    """Values of one attribute under construction."""

    def __init__(self, name: Any) -> None:
        self.name = name
        self.at: list[int] = []
        self.values: list[Any] = []
        self.numpy_types: NumpyTypes = set()

    def to_json(self, rows: int) -> dict[str, Any]:
        column = {"name": self.name, "values": self.values}
        return column if len(self.at) == rows else column | {"at": self.at}


def _columns(
    rows: Sequence[Mapping[Any, Any]], owner: Callable[[int], str], what: str, losses: list[Loss]
) -> list[dict[str, Any]]:
    """Attributes by name instead of by owner; names that only Python holds equal, as 1 and True, are apart."""
    columns: dict[Hashable, _Column] = {}
    numpy_types: NumpyTypes = set()
    for row, data in enumerate(rows):
        for name, value in data.items():
            group = name
            if type(name) is not str:
                group = ("name", strict_key(freeze(_key(name, f"{owner(row)}: an attribute's name", numpy_types))))
            if group not in columns:
                columns[group] = _Column(_key(name, f"{owner(row)}: an attribute's name", numpy_types))
            column = columns[group]
            column.at.append(row)
            try:
                column.values.append(typed_json.encode(value, column.numpy_types))
            except TypedJsonError as error:
                where = f"{owner(row)}: the attribute {_named(name)}"
                raise UnsupportedError(f"{where}: {error}; {_TYPES}, or remove the attribute") from error
    _report(losses, f"{what} names", numpy_types)
    for column in columns.values():
        _report(losses, f"{what} {_named(column.name)}", column.numpy_types)
    return [column.to_json(len(rows)) for column in columns.values()]


def _key(key: Any, where: str, numpy_types: NumpyTypes) -> Any:
    try:
        return typed_json.encode_key(key, numpy_types)
    except TypedJsonError as error:
        advice = "use None, bool, int, float, str and tuples of such, or relabel (networkx.relabel_nodes)"
        raise UnsupportedError(f"{where}: {error}; {advice}") from error


def _named(value: object) -> str:
    return reprlib.repr(value)


def _report(losses: list[Loss], where: str, numpy_types: NumpyTypes) -> None:
    if numpy_types:
        losses.append(typed_json.numpy_loss(where, numpy_types))


def original_graph(structure: Structure) -> nx.Graph[Any]:
    """The networkx graph of a network, with the connections that exist now.

    Connections that were pruned are no edges, and take their attributes with them; new ones have none. Vertices stand
    in their old order, edges in that of their sources, then targets.

    Returns:
        A graph of the class that the structure was made from, of networkx's own four; a `networkx.DiGraph` by default.

    Raises:
        UnsupportedError: the structure is not of the family ``dan``.
        StructureError: its attributes contradict each other or are none that deepstruct writes.
    """
    dan = dan_structure.from_structure(structure)
    dan_structure.require_computed(structure, dan)
    keys = list(chain.from_iterable(dan.wiring.vertices))
    if None in keys:
        raise _fault("INVALID_VALUE", "/graph/attributes/vertices", "networkx takes no vertex null")
    table = _Tables(structure.attributes.get("graph", FrozenMapping()), dan.wiring)
    kinds = {(0, 0): nx.Graph, (0, 1): nx.MultiGraph, (1, 0): nx.DiGraph, (1, 1): nx.MultiDiGraph}
    directed, multigraph = table.flag("directed", default=True), table.flag("multigraph", default=False)
    graph: nx.Graph[Any] = kinds[directed, multigraph]()
    graph.graph.update(table.attributes())
    order, vertices = table.order(), table.vertices()
    graph.add_nodes_from((keys[place], vertices[place]) for place in order.tolist())
    place_of = np.empty_like(order)
    place_of[order] = np.arange(order.size)
    sources, targets = edges(structure, dan.wiring)
    sorting = np.lexsort((place_of[targets], place_of[sources]))
    ends = zip(sources[sorting].tolist(), targets[sorting].tolist(), strict=True)
    data, edge_keys = table.edges()
    if not data:
        graph.add_edges_from((keys[u], keys[v]) for u, v in ends)
    elif isinstance(graph, nx.MultiGraph):
        described: Iterable[Any] = ((keys[u], keys[v], edge_keys.get((u, v), 0), data.get((u, v), {})) for u, v in ends)
        graph.add_edges_from(described)
    else:
        graph.add_edges_from((keys[u], keys[v], data.get((u, v), {})) for u, v in ends)
    return graph


def edges(structure: Structure, wiring: Wiring) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sources and targets of the connections that exist, int64 ``[nnz]`` each, as numbers of hidden units.

    Raises:
        UnsupportedError: there are more than networkx could hold.
    """
    parameters = [structure.parameter(name) for name in dan_structure.weight_names(wiring)]
    number = sum(parameter.nnz for parameter in parameters)
    if number > MOST_EDGES:
        raise UnsupportedError(f"the network has {number} connections, more than the {MOST_EDGES} allowed in a graph")
    starts = [0, *accumulate(wiring.sizes)]
    sources, targets = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for (source, target), parameter in zip(wiring.pairs, parameters, strict=True):
        mask = parameter.mask
        indices = np.arange(parameter.size) if mask is None else mask.indices()
        sources.append(indices % parameter.shape[1] + starts[source])
        targets.append(indices // parameter.shape[1] + starts[target])
    return np.concatenate(sources), np.concatenate(targets)


class _Tables:
    """Reads the attribute ``graph`` and trusts nothing in it."""

    def __init__(self, given: Any, wiring: Wiring) -> None:
        self._given = _members(given, _PLACE, known={*_FLAGS, "attributes", "order", "vertex_attributes", "edges"})
        self._count = sum(wiring.sizes)
        self._layer = np.repeat(np.arange(len(wiring.sizes)), wiring.sizes)

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._given.get(name, default)
        if type(value) is not bool:
            raise _fault("TYPE_MISMATCH", _PLACE + pointer(name), f"must be true or false, not {value!r:.40}")
        return value

    def attributes(self) -> dict[Any, Any]:
        place = _PLACE + "/attributes"
        value = _decoded(typed_json.decode, self._given.get("attributes", FrozenMapping()), place)
        if not isinstance(value, dict):
            raise _fault("TYPE_MISMATCH", place, f"must be a dict, not {value!r:.40}")
        return value

    def order(self) -> NDArray[np.int64]:
        if "order" not in self._given:
            return np.arange(self._count)
        place = _PLACE + "/order"
        order = _numbers(self._given["order"], self._count, place)
        if order.size != self._count or np.unique(order).size != self._count:
            raise _fault("INVALID_VALUE", place, f"must have each of the {self._count} vertices once")
        return order

    def vertices(self) -> list[dict[Any, Any]]:
        """Attributes of each vertex."""
        return _rows(self._given.get("vertex_attributes", ()), self._count, _PLACE + "/vertex_attributes")

    def edges(self) -> tuple[dict[tuple[int, int], dict[Any, Any]], dict[tuple[int, int], Hashable]]:
        """Attributes and keys of edges by their ends, as far as they have some."""
        if "edges" not in self._given:
            return {}, {}
        place = _PLACE + "/edges"
        table = _members(self._given["edges"], place, known={"attributes", "keys"}, required={"sources", "targets"})
        sources, targets = (
            _numbers(table[side], self._count, place + pointer(side)) for side in ("sources", "targets")
        )
        if sources.size != targets.size:
            raise _fault("INVALID_VALUE", place, f"there are {sources.size} sources and {targets.size} targets")
        if (np.diff(sources * self._count + targets) <= 0).any():
            raise _fault(
                "INVALID_VALUE", place, "edges must stand in ascending order of source, then target, once each"
            )
        if (self._layer[sources] >= self._layer[targets]).any():
            raise _fault("INVALID_VALUE", place, "every edge must lead to a later layer")
        ends = list(zip(sources.tolist(), targets.tolist(), strict=True))
        data = _rows(table.get("attributes", ()), len(ends), place + "/attributes")
        if "keys" not in table:
            return dict(zip(ends, data, strict=True)), {}
        if not self.flag("multigraph", default=False):
            raise _fault("INVALID_VALUE", place + "/keys", "only the edges of a multigraph have keys")
        column = _members(table["keys"], place + "/keys", known={"at"}, required={"values"})
        keys = {
            ends[row]: _decoded(typed_json.decode_key, value, place + "/keys/values")
            for row, value in _cells(column, len(ends), place + "/keys")
        }
        if None in keys.values():
            raise _fault("INVALID_VALUE", place + "/keys", "networkx takes no key null for an edge")
        return dict(zip(ends, data, strict=True)), keys


_FLAGS = ("directed", "multigraph")


def _fault(code: str, place: str, message: str) -> StructureError:
    return StructureError("structure", [Fault(code, place, message)])


def _members(value: Any, place: str, *, known: Collection[str], required: Collection[str] = ()) -> FrozenMapping[Any]:
    """`value`, if it is an object with the required members and no others than the known ones."""
    if not isinstance(value, FrozenMapping):
        raise _fault("TYPE_MISMATCH", place, f"must be an object, not {value!r:.40}")
    for name in required:
        if name not in value:
            raise _fault("MISSING_PROPERTY", place, f"the member {name!r} is missing")
    for name in value:
        if name not in known and name not in required:
            raise _fault("UNEXPECTED_PROPERTY", place + pointer(name), f"nothing is called {name!r:.40} here")
    return value


def _numbers(value: Any, count: int, place: str) -> NDArray[np.int64]:
    """A list of integers below `count` as int64."""
    if not isinstance(value, tuple) or not set(map(type, value)) <= {int}:
        raise _fault("TYPE_MISMATCH", place, "must be a list of integers")
    if value and not 0 <= min(value) <= max(value) < count:
        raise _fault("INVALID_VALUE", place, f"must have integers from 0 to {count - 1} only")
    return np.array(value, dtype=np.int64)


def _rows(columns: Any, count: int, place: str) -> list[dict[Any, Any]]:
    """Attributes of each owner, from columns."""
    rows: list[dict[Any, Any]] = [{} for _ in range(count)]
    if not isinstance(columns, tuple):
        raise _fault("TYPE_MISMATCH", place, f"must be a list, not {columns!r:.40}")
    for number, given in enumerate(columns):
        at = place + pointer(number)
        column = _members(given, at, known={"at"}, required={"name", "values"})
        name = _decoded(typed_json.decode_key, column["name"], at + "/name")
        for row, value in _cells(column, count, at):
            if name in rows[row]:
                raise _fault("DUPLICATE_NAME", at + "/name", f"{name!r:.40} is the name of a column before")
            rows[row][name] = _decoded(typed_json.decode, value, at + "/values")
    return rows


def _cells(column: FrozenMapping[Any], count: int, place: str) -> Iterable[tuple[int, Any]]:
    """Position and value of each cell of a column."""
    values = column["values"]
    if not isinstance(values, tuple):
        raise _fault("TYPE_MISMATCH", place + "/values", f"must be a list, not {values!r:.40}")
    at = _numbers(column["at"], count, place + "/at") if "at" in column else np.arange(count)
    if (np.diff(at) <= 0).any():
        raise _fault("INVALID_VALUE", place + "/at", "positions must ascend, each one once")
    if at.size != len(values):
        raise _fault("INVALID_VALUE", place + "/values", f"there are {len(values)} values for {at.size} positions")
    return zip(at.tolist(), values, strict=True)


def _decoded(decode: Callable[[Any], Any], value: Any, place: str) -> Any:
    try:
        return decode(value)
    except TypedJsonError as error:
        raise _fault("INVALID_VALUE", place, str(error)) from error
