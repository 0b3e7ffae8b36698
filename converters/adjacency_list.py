"""Adjacency lists as networkx writes them (`networkx.readwrite.adjlist`): a vertex and its targets a line."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import networkx as nx

from deepstruct.converters import graph_files, graph_words
from deepstruct.converters.graph_files import Graph
from deepstruct.errors import MalformedFileError
from deepstruct.files import Targets
from deepstruct.formats import ReadOptions, WriteOptions
from deepstruct.limits import Limits
from deepstruct.losses import Loss
from deepstruct.model import Model


def read(path: Path, options: ReadOptions, losses: list[Loss]) -> Model:
    """The model of the graph in a file."""
    graph = read_graph(path, options.limits, losses)
    return graph_files.to_model(graph, path, options, losses, says_directions=False)


def write(model: Model, path: Path, targets: Targets, options: WriteOptions) -> list[Loss]:
    """Writes the graph of a model."""
    return graph_files.save(model, path, targets, options, write_graph)


def write_graph(graph: Graph, file: IO[bytes], losses: list[Loss]) -> None:
    """Writes the vertices of a graph in their order, each with its targets; of an undirected graph each edge once."""
    plain = graph_words.relabelled(graph, graph, losses)
    names = {name for *_, data in plain.edges(data=True) for name in data}
    graph_words.report_attributes(names, "edges", losses)
    for line in nx.generate_adjlist(plain):
        file.write(line.encode() + b"\n")


def read_graph(path: Path, limits: Limits, losses: list[Loss]) -> Graph:  # noqa: ARG001 - nothing is lost
    """The graph in a file, directed from the first word of each line to the others.

    Vertices with a line of their own come first, in the order of the lines. They are integers if all look like
    integers, else strings.

    Raises:
        MalformedFileError: an edge occurs twice, or a limit is exceeded.
    """
    graph: Graph = nx.DiGraph()
    found = [(number, words) for number, words, _ in graph_words.lines(path, limits)]
    graph.add_nodes_from(words[0] for _, words in found)
    for number, (source, *targets) in found:
        for target in targets:
            if graph.has_edge(source, target):
                raise MalformedFileError(
                    str(path), f"line {number}: the edge {source:.40} -> {target:.40} occurs twice"
                )
            graph.add_edges_from([(source, target)])
    return graph_words.with_integers(graph)
