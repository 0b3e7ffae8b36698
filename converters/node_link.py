"""Node-link JSON of graphs, as networkx and D3 write it: ``nodes`` and ``edges`` or ``links``, an object each."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import IO, Any

import networkx as nx

from deepstruct import jsonprofile
from deepstruct.converters import graph_files, graph_spelling
from deepstruct.converters.graph_files import Budget, Graph
from deepstruct.converters.graph_spelling import Fit, Scope
from deepstruct.errors import DocumentError, Fault, MalformedFileError
from deepstruct.files import Targets
from deepstruct.formats import ReadOptions, WriteOptions
from deepstruct.limits import Limits
from deepstruct.losses import Loss
from deepstruct.model import Model

_RESERVED: dict[Scope, frozenset[str]] = {
    "graph": frozenset(),
    "node": frozenset({"id"}),
    "edge": frozenset({"source", "target", "key"}),
}
_TEXT = re.compile("[^\ud800-\udfff]*")
_KNOWN = frozenset({"directed", "multigraph", "graph", "nodes", "edges", "links"})


def read(path: Path, options: ReadOptions, losses: list[Loss]) -> Model:
    """The model of the graph in a file."""
    return graph_files.to_model(read_graph(path, options.limits, losses), path, options, losses)


def write(model: Model, path: Path, targets: Targets, options: WriteOptions) -> list[Loss]:
    """Writes the graph of a model."""
    return graph_files.save(model, path, targets, options, write_graph)


def write_graph(graph: Graph, file: IO[bytes], losses: list[Loss]) -> None:
    """Writes a graph without parallel edges, one vertex and edge a line; nothing of it is lost."""
    texts = graph_spelling.unique_names(graph, _TEXT)
    names = {vertex: vertex if _is_plain_key(vertex) else text for vertex, text in texts.items()}
    plain = graph_spelling.spell(graph, _judge, names, losses)
    head = {"directed": plain.is_directed(), "multigraph": False, "graph": plain.graph}
    file.write(_line(head)[:-1].encode() + b', "nodes": [')
    _write_lines(file, ({**data, "id": name} for name, data in plain.nodes(data=True)))
    file.write(b'], "edges": [')
    _write_lines(
        file, ({**data, "source": source, "target": target} for source, target, data in plain.edges(data=True))
    )
    file.write(b"]}\n")


def _write_lines(file: IO[bytes], objects: Iterator[dict[str, Any]]) -> None:
    separator = "\n"
    for found in objects:
        file.write((separator + _line(found)).encode())
        separator = ",\n"
    file.write(b"\n")


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _judge(scope: Scope, name: str, value: Any) -> Fit:
    if name in _RESERVED[scope] or not _TEXT.fullmatch(name):
        return Fit.HIDDEN
    return Fit.EXACT if _is_plain(value, 8) else Fit.HIDDEN


def _is_plain(value: Any, levels: int) -> bool:
    """Whether JSON has a form of its own for the value, which comes back as it is."""
    if type(value) is list:
        return levels > 0 and all(_is_plain(item, levels - 1) for item in value)
    if type(value) is dict:
        plain = levels > 0 and all(type(name) is str and _TEXT.fullmatch(name) for name in value)
        return plain and all(_is_plain(item, levels - 1) for item in value.values())
    return value is None or graph_spelling.is_scalar(value, jsonprofile.LARGEST_INTEGER, _TEXT)


def _is_plain_key(key: Hashable) -> bool:
    """Whether a vertex can be its own ``id``; tuples stand as arrays there."""
    if type(key) is tuple:
        return all(item is None or _is_plain_key(item) for item in key)
    return graph_spelling.is_scalar(key, jsonprofile.LARGEST_INTEGER, _TEXT)


def read_graph(path: Path, limits: Limits, losses: list[Loss]) -> Graph:
    """The graph in a file; a file that does not say so is neither directed nor a multigraph, as networkx has it.

    Raises:
        MalformedFileError: the file is no node-link JSON, or exceeds a limit.
    """
    try:
        found = jsonprofile.read(path, limits)
    except DocumentError as error:
        raise MalformedFileError(str(path), "; ".join(map(_told, error.faults))) from error
    with graph_files.refusing(path, "node-link JSON"):
        return graph_spelling.unspell(_graph(found, Budget(path, limits), losses))


def _told(fault: Fault) -> str:
    return fault.message if fault.line is None else f"{fault.message} (line {fault.line} column {fault.column})"


def _graph(found: Any, budget: Budget, losses: list[Loss]) -> Graph:
    root = _object(found, "the file")
    directed, multigraph = (_flag(root, name) for name in ("directed", "multigraph"))
    graph: Graph = {
        (False, False): nx.Graph,
        (False, True): nx.MultiGraph,
        (True, False): nx.DiGraph,
        (True, True): nx.MultiDiGraph,
    }[directed, multigraph]()
    attributes = root.get("graph", {})
    graph.graph.update(dict(attributes) if isinstance(attributes, list) else _object(attributes, "graph"))
    if "nodes" not in root or not ("edges" in root or "links" in root):
        raise ValueError('it has no "nodes", or neither "edges" nor "links"')
    _add_vertices(graph, _array(root, "nodes"), budget)
    for name in ("edges", "links"):
        if name in root:
            _add_edges(graph, name, _array(root, name), budget)
    others = sorted(root.keys() - _KNOWN)
    if others:
        shown = ", ".join(repr(name) for name in others[:5]) + (", ..." if len(others) > 5 else "")
        losses.append(Loss("members", "file", f"{shown:.200} belong neither to the graph, its vertices nor its edges"))
    return graph


def _add_vertices(graph: Graph, vertices: list[Any], budget: Budget) -> None:
    for number, item in enumerate(vertices):
        place = f"nodes[{number}]"
        data = dict(_object(item, place))
        budget.spend(1 + len(data))
        vertex = _key(data.pop("id", number), place)
        if vertex in graph:
            raise ValueError(f"{place}: the vertex {vertex!r:.80} occurs twice")
        graph.add_nodes_from([(vertex, data)])


def _add_edges(graph: Graph, name: str, edges: list[Any], budget: Budget) -> None:
    for number, item in enumerate(edges):
        place = f"{name}[{number}]"
        data = dict(_object(item, place))
        budget.spend(1 + len(data))
        if not {"source", "target"} <= data.keys():
            raise ValueError(f'{place}: an edge has a "source" and a "target"')
        source, target = (_key(data.pop(end), place) for end in ("source", "target"))
        for end in (source, target):
            if end not in graph:
                raise ValueError(f"{place}: the vertex {end!r:.80} does not exist")
        if isinstance(graph, nx.MultiGraph):
            key = _key(data.pop("key", graph.new_edge_key(source, target)), place)
            if graph.has_edge(source, target, key):
                raise ValueError(f"{place}: the edge {source!r:.80} -> {target!r:.80} occurs twice with one key")
            edge: Any = (source, target, key, data)
            graph.add_edges_from([edge])
        elif graph.has_edge(source, target):
            raise ValueError(f"{place}: the edge {source!r:.80} -> {target!r:.80} occurs twice")
        else:
            graph.add_edges_from([(source, target, data)])


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{place} is no object, but {value!r:.60}")
    return value


def _array(root: dict[str, Any], name: str) -> list[Any]:
    if not isinstance(root[name], list):
        raise TypeError(f"{name} is no array, but {root[name]!r:.60}")
    found: list[Any] = root[name]
    return found


def _flag(root: dict[str, Any], name: str) -> bool:
    value = root.get(name, False)
    if not isinstance(value, bool):
        raise TypeError(f"{name} is neither true nor false, but {value!r:.60}")
    return value


def _key(value: Any, place: str) -> Hashable:
    if isinstance(value, list):
        return tuple(None if item is None else _key(item, place) for item in value)
    if value is None or isinstance(value, dict):
        raise TypeError(f"{place}: {value!r:.60} is no name of a vertex")
    key: Hashable = value
    return key
