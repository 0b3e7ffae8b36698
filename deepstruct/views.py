"""UnitGraph -> networkx: one vertex a unit, one edge a connection."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any, TypeVar

import networkx as nx
import numpy as np

from deepstruct.model import Weights
from deepstruct.units import Block, UnitGraph

Graph = TypeVar("Graph", bound="nx.DiGraph[Any]")


DOCUMENT = "deepstruct"
"""Attribute of a graph: the document of the structure that it is a view of, as text. At order 0 its masks lack the
entries that edges stand for, so that the edges decide."""


def fill(graph: Graph, units: UnitGraph) -> Graph:
    """Adds the units, numbered from 0, and their connections to a graph, without attributes, and gives it back."""
    graph.add_nodes_from(range(units.units))
    number = _numbers(units)
    for block in units.blocks:
        graph.add_edges_from(zip(*(number[ends].tolist() for ends in units.edges(block)), strict=True))
    return graph


def describe(units: UnitGraph, weights: Weights | None = None) -> nx.DiGraph[Any]:
    """A graph of the units with their attributes and the connections with theirs.

    Vertices are numbered from 0 and have ``layer``, the position of their layer, and ``unit``, their number in it.
    An edge that is an entry of a parameter has ``parameter``, its name, and ``index``, the row-major index of the
    entry; one that stands for several has ``parameter`` and ``share``, the part of them that exists, in (0, 1]; one of
    a recurrent layer has ``recurrent``. Of parallel connections the last one is the edge.

    Args:
        units: what to show.
        weights: numbers for the attribute ``weight`` of edges that are entries.
    """
    graph: nx.DiGraph[Any] = nx.DiGraph()
    number = _numbers(units)
    for position, layer in enumerate(units.layers):
        vertices = zip(number[layer.start : layer.stop].tolist(), range(layer.size), strict=True)
        graph.add_nodes_from((vertex, {"layer": position, "unit": unit}) for vertex, unit in vertices)
    edges: Any = graph
    after, before = edges._succ, edges._pred  # filled as add_edge does; add_edges_from would copy all attributes
    for block in units.blocks:
        sources, targets = (number[ends].tolist() for ends in units.edges(block))
        for source, target, attributes in zip(sources, targets, _attributes(block, weights), strict=False):
            after[source][target] = before[target][source] = attributes
    return graph


def _numbers(units: UnitGraph) -> np.ndarray[Any, np.dtype[np.object_]]:
    """The numbers of the units, one integer object for all edges of a unit."""
    return np.arange(units.units).astype(object)


def _attributes(block: Block, weights: Weights | None) -> Iterator[dict[str, Any]]:
    """Attributes of the edges of a block, in the order of its rows."""
    fixed: dict[str, Any] = {"parameter": block.parameter} if block.parameter else {}
    if block.recurrent:
        fixed["recurrent"] = True
    if block.shares is not None:
        return ({**fixed, "share": share} for share in block.shares().tolist())
    if block.entries is None:
        return (dict(fixed) for _ in repeat(None))
    entries = block.entries()
    if weights is None:
        return ({**fixed, "index": index} for index in entries.tolist())
    numbers = weights[block.parameter].reshape(-1)[entries].tolist()
    return ({**fixed, "index": i, "weight": w} for i, w in zip(entries.tolist(), numbers, strict=True))
