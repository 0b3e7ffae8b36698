"""Typed values and networkx graphs for tests: strategies, and comparisons that tell 1, 1.0 and True apart."""

from __future__ import annotations

from typing import Any

import networkx as nx
from hypothesis import strategies as st

Graph = Any  # networkx is not generic at run time

TEXTS = st.text(st.characters(codec="utf-8"), max_size=5) | st.sampled_from(["$int", "$tuple", "$", "", "id"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.sampled_from([2**53 - 1, 2**53, -(2**53), 10**1000, 0, 1, -0.0, 1.0, 5e-324, 1e300, 1e16])
    | st.floats()
    | TEXTS
)
KEYS = st.recursive(SCALARS, lambda keys: st.lists(keys, max_size=3).map(tuple), max_leaves=4).filter(
    lambda key: "nan" not in repr(key)
)
VALUES = st.recursive(
    SCALARS,
    lambda values: (
        st.lists(values, max_size=3)
        | st.lists(values, max_size=3).map(tuple)
        | st.dictionaries(TEXTS, values, max_size=3)
        | st.dictionaries(KEYS, values, max_size=3)
    ),
    max_leaves=8,
)


def exact(value: Any) -> Any:
    """What is equal for two values only if they are equal with all their types; order of dicts included."""
    if isinstance(value, (list, tuple)):
        return (type(value), *map(exact, value))
    if isinstance(value, dict):
        return (dict, *((exact(key), exact(item)) for key, item in value.items()))
    return (type(value), value.hex() if isinstance(value, float) else value)


NAMES = st.sampled_from(["id", "source", "target", "key", "name", "weight", "label", "$int", ""]) | KEYS
DATA: st.SearchStrategy[dict[Any, Any]] = st.just({}) | st.dictionaries(NAMES, VALUES, max_size=2)


@st.composite
def typed_graphs(draw: st.DrawFn, least: int = 1, most: int = 8) -> Graph:
    """Acyclic or undirected graphs with typed keys and attributes, in an order that is not topological."""
    keys = draw(st.lists(KEYS.filter(lambda key: key is not None), min_size=least, max_size=most, unique=True))
    kind = draw(st.sampled_from([nx.DiGraph, nx.Graph, nx.MultiDiGraph, nx.MultiGraph]))
    graph: Graph = kind()
    graph.graph.update(draw(DATA))
    for key in draw(st.permutations(keys)):
        graph.add_nodes_from([(key, draw(DATA))])
    pairs = [(u, v) for i, u in enumerate(keys) for v in keys[i + 1 :]]
    for u, v in draw(st.lists(st.sampled_from(pairs), unique_by=repr)) if pairs else []:
        if graph.is_multigraph():
            name = draw(st.just(0) | KEYS.filter(lambda key: key is not None))
            graph.add_edges_from([(u, v, name, draw(DATA))])
        else:
            graph.add_edges_from([(u, v, draw(DATA))])
    return graph


def content(graph: Graph) -> Any:
    """All that a graph holds with exact types: equal for two graphs only if these are; attributes in any order."""

    def data(attributes: dict[Any, Any]) -> Any:
        return frozenset((exact(name), exact(value)) for name, value in attributes.items())

    ends = tuple if graph.is_directed() else frozenset
    names = {vertex: exact(vertex) for vertex in graph}
    edges: list[Any]
    if graph.is_multigraph():
        edges = [(ends((names[u], names[v])), exact(k), data(d)) for u, v, k, d in graph.edges(keys=True, data=True)]
    else:
        edges = [(ends((names[u], names[v])), data(d)) for u, v, d in graph.edges(data=True)]
    vertices = [(names[vertex], data(attributes)) for vertex, attributes in graph.nodes(data=True)]
    return type(graph), data(graph.graph), vertices, set(edges), len(edges)


def oriented(graph: Graph) -> str | None:
    """The option that a graph needs."""
    return None if graph.is_directed() else "vertex-order"
