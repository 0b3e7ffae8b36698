"""Graphs of any vertex keys and attributes <-> graphs of what a format can say, exact types in an attribute beside."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from enum import Enum
from typing import Any, Literal, TypeAlias

import networkx as nx

from deepstruct import typed_json
from deepstruct.errors import UnsupportedError
from deepstruct.frozen import FrozenMapping
from deepstruct.losses import Loss
from deepstruct.typed_json import TypedJsonError

Graph: TypeAlias = "nx.Graph[Any]"
Scope: TypeAlias = Literal["graph", "node", "edge"]

TYPED = "deepstructTyped"
"""Attribute of a graph, vertex or edge with the JSON text of its key and attributes that the format cannot say."""

ARGUMENTS = frozenset({"self", "node_for_adding", "u_of_edge", "v_of_edge", "u_for_edge", "v_for_edge", "key", TYPED})
"""Names of attributes that the readers of networkx confuse with arguments of their own."""


class Fit(Enum):
    """How well a format can say an attribute.

    Members:
        EXACT: it comes back as it is.
        SHOWN: other programs understand it, but it does not come back as it is, so its exact value stands beside.
        HIDDEN: it has no form there; its value stands in `TYPED` alone.
    """

    EXACT = "exact"
    SHOWN = "shown"
    HIDDEN = "hidden"


Judge: TypeAlias = Callable[[Scope, str, Any], Fit]


def is_scalar(value: Any, largest_integer: int, text: re.Pattern[str]) -> bool:
    """Whether a value is a bool, a finite float, an integer that fits, or a string that the pattern matches."""
    kind = type(value)
    if kind is bool:
        return True
    if kind is int:
        return bool(-largest_integer <= value <= largest_integer)
    if kind is float:
        return math.isfinite(value)
    return kind is str and text.fullmatch(value) is not None


def spell(graph: Graph, judge: Judge, names: Mapping[Hashable, Any], losses: list[Loss]) -> Graph:
    """A graph without keys of edges, with the given names for vertices and such attributes as the format can say.

    Args:
        graph: a graph without parallel edges.
        judge: how well the format can say an attribute; it is asked about strings as names only.
        names: vertex -> its name in the file.
        losses: gets the types of numbers that come back as those of Python.

    Raises:
        UnsupportedError: there are parallel edges, or a key or value is none of those of `deepstruct.typed_json`.
    """
    spelling = _Spelling(judge)
    plain: Graph = nx.DiGraph() if graph.is_directed() else nx.Graph()
    plain.graph.update(
        spelling.split("graph", graph.graph, "the graph", {"multigraph": True} if graph.is_multigraph() else {})
    )
    for vertex, data in graph.nodes(data=True):
        place = f"vertex {vertex!r:.40}"
        beside = {} if _same(names[vertex], vertex) else {"key": vertex}
        plain.add_nodes_from([(names[vertex], spelling.split("node", data, place, beside))])
    for source, target, key, data in _edges(graph):
        place = f"edge {source!r:.40} -> {target!r:.40}"
        beside = {} if _same(key, 0) else {"key": key}
        if plain.has_edge(names[source], names[target]):
            raise UnsupportedError(f"{place} has another one parallel to it; keep one of them")
        plain.add_edges_from([(names[source], names[target], spelling.split("edge", data, place, beside))])
    if spelling.numpy_types:
        losses.append(typed_json.numpy_loss("keys and attributes", spelling.numpy_types))
    return plain


def _edges(graph: Graph) -> Iterator[tuple[Any, Any, Any, dict[Any, Any]]]:
    """Ends, key and attributes of each edge; the key is 0 where edges have none."""
    if isinstance(graph, nx.MultiGraph):
        yield from graph.edges(data=True, keys=True)
    else:
        yield from ((source, target, 0, data) for source, target, data in graph.edges(data=True))


def _same(name: Any, key: Any) -> bool:
    if type(name) is tuple and type(key) is tuple:
        return len(name) == len(key) and all(map(_same, name, key))
    return type(name) is type(key) and bool(name == key)


class _Spelling:
    """What a format can say of attributes, and the types of numpy that were met."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.numpy_types: set[str] = set()

    def split(self, scope: Scope, attributes: dict[Any, Any], place: str, beside: dict[str, Any]) -> dict[str, Any]:
        """Attributes for the file; what they do not say, and what stands `beside` them, is in `TYPED`.

        From the first one on that the file does not say exactly, all are in `TYPED`, so that they keep their order.
        """
        plain: dict[str, Any] = {}
        exact: dict[Any, Any] = {}
        for name, value in attributes.items():
            known = type(name) is str and name not in ARGUMENTS
            fit = self._judge(scope, name, value) if known else Fit.HIDDEN
            if fit is not Fit.HIDDEN:
                plain[name] = value
            if exact or fit is not Fit.EXACT:
                exact[name] = value
        try:
            typed = {name: typed_json.encode_key(value, self.numpy_types) for name, value in beside.items()}
            if exact:
                typed["attributes"] = typed_json.encode(exact, self.numpy_types)
        except TypedJsonError as error:
            raise UnsupportedError(f"{place} cannot be written: {error}") from error
        if typed:
            plain[TYPED] = json.dumps(typed, separators=(",", ":"), allow_nan=False)
        return plain


def unspell(plain: Graph) -> Graph:
    """The graph that `spell` was given; a graph of other programs, which has no `TYPED`, is the same object.

    Raises:
        ValueError: an attribute `TYPED` is none of ours, or two vertices have one key.
    """
    if not any(TYPED in data for data in _all_attributes(plain)):
        return plain
    beside, attributes = _join(plain.graph)
    multigraph = beside.get("multigraph") is True or plain.is_multigraph()
    graph: Graph = {
        (False, False): nx.Graph,
        (False, True): nx.MultiGraph,
        (True, False): nx.DiGraph,
        (True, True): nx.MultiDiGraph,
    }[plain.is_directed(), multigraph]()
    graph.graph.update(attributes)
    keys: dict[Any, Any] = {}
    for name, data in plain.nodes(data=True):
        beside, attributes = _join(data)
        keys[name] = typed_json.decode_key(beside["key"]) if "key" in beside else name
        if keys[name] in graph:
            raise ValueError(f"two vertices have the key {keys[name]!r:.80}")
        graph.add_nodes_from([(keys[name], attributes)])
    for source, target, key, data in _edges(plain):
        beside, attributes = _join(data)
        ends = keys[source], keys[target]
        if "key" in beside:
            key = typed_json.decode_key(beside["key"])
        edge: Any = (*ends, key, attributes) if multigraph else (*ends, attributes)
        graph.add_edges_from([edge])
    return graph


def _all_attributes(graph: Graph) -> Iterator[dict[str, Any]]:
    yield graph.graph
    yield from (data for _, data in graph.nodes(data=True))
    yield from (data for *_, data in graph.edges(data=True))


def _join(plain: dict[str, Any]) -> tuple[Mapping[str, Any], dict[Any, Any]]:
    """What stands beside the attributes, and the attributes."""
    attributes = {name: value for name, value in plain.items() if name != TYPED}
    if TYPED not in plain:
        return {}, attributes
    try:
        typed = FrozenMapping(json.loads(plain[TYPED]))
        exact = typed_json.decode(typed.get("attributes", FrozenMapping()))
        attributes = {name: value for name, value in attributes.items() if name not in exact} | exact
    except (AttributeError, TypeError, ValueError) as error:
        reason = f"the attribute {TYPED} {plain[TYPED]!r:.60} is not what deepstruct writes: {error}"
        raise ValueError(reason) from error
    return typed, attributes


def unique_names(graph: Graph, text: re.Pattern[str]) -> dict[Hashable, str]:
    """A string for each vertex: the vertex itself, its text, or its number, whichever fits the pattern and is free."""
    taken = {vertex for vertex in graph if type(vertex) is str and text.fullmatch(vertex)}
    names: dict[Hashable, str] = {}
    for number, vertex in enumerate(graph):
        if type(vertex) is str and vertex in taken:
            names[vertex] = vertex
            continue
        name = str(vertex)
        if not text.fullmatch(name):
            name = f"n{number}"
        while name in taken:
            name += "_"
        taken.add(name)
        names[vertex] = name
    return names
