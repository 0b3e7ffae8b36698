"""Graphs as lines of words: what edge lists and adjacency lists have in common, and what neither can say."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterator
from pathlib import Path
from typing import Any

import networkx as nx

from deepstruct.converters import graph_files
from deepstruct.converters.graph_files import Budget, Graph
from deepstruct.errors import MalformedFileError
from deepstruct.limits import Limits
from deepstruct.losses import Loss

_INTEGER = re.compile("0|-?[1-9][0-9]{0,17}")
_WORD = re.compile(r"[^\s#\x00-\x1f\ud800-\udfff\ufeff]+")


def lines(path: Path, limits: Limits) -> Iterator[tuple[int, list[str], str]]:
    """Number, words and text of each line that has words, without what follows ``#``.

    Raises:
        MalformedFileError: it is no text, or exceeds a limit.
    """
    budget = Budget(path, limits)
    text = graph_files.text(path, limits)
    if "\0" in text:
        raise MalformedFileError(
            str(path), f"line {text[: text.index(chr(0))].count(chr(10)) + 1}: not text, but binary"
        )
    start = 0
    number = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        number += 1
        line = text[start:end].partition("#")[0]
        start = end + 1
        budget.spend(sum(1 for _ in _WORD.finditer(line)))
        words = line.split()
        if words:
            yield number, words, line


def with_integers(graph: Graph) -> Graph:
    """The graph with integers for vertices if all look like integers, else as it is."""
    if not all(_INTEGER.fullmatch(vertex) for vertex in graph):
        return graph
    result: Graph = nx.relabel_nodes(graph, {vertex: int(vertex) for vertex in graph})
    return result


def relabelled(graph: Graph, named: Collection[Hashable], losses: list[Loss]) -> Graph:
    """The graph with words for vertices; the losses say what of them and of attributes outside edges is lost.

    Strings and integers stand as they are. Where two vertices would become one word, or a vertex no word, all become
    numbers in their order.

    Args:
        graph: any.
        named: the vertices that the file will name.
        losses: gets what the words and the file cannot say.
    """
    words = {vertex: str(vertex) for vertex in graph}
    if len(set(words.values())) < len(words) or not all(_WORD.fullmatch(word) for word in words.values()):
        words = {vertex: str(number) for number, vertex in enumerate(graph)}
        losses.append(Loss("vertex keys", "graph", "not each is a word of its own; they are numbered in their order"))
    elif not _come_back({vertex: words[vertex] for vertex in named}):
        losses.append(
            Loss("vertex keys", "graph", "words have no types; those that are not alike come back as strings")
        )
    if not graph.is_directed() and graph.number_of_edges():
        losses.append(Loss("directions", "edges", "lists do not say that a graph is undirected; read it as such"))
    report_attributes(graph.graph, "graph", losses)
    report_attributes({name for _, data in graph.nodes(data=True) for name in data}, "vertices", losses)
    result: Graph = nx.relabel_nodes(graph, words)
    return result


def _come_back(words: dict[Hashable, str]) -> bool:
    integers = all(_INTEGER.fullmatch(word) for word in words.values())
    return all(type(vertex) is (int if integers else str) for vertex in words)


def report_attributes(names: Collection[Any], where: str, losses: list[Loss]) -> None:
    """Appends the loss of attributes with these names, if there are any."""
    if names:
        shown = sorted(map(str, names))
        listed = ", ".join(shown[:5]) + (", ..." if len(shown) > 5 else "")
        losses.append(Loss("attributes", where, f"the format has no place for them: {listed:.200}"))
