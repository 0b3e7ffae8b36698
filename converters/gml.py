"""GML (https://en.wikipedia.org/wiki/Graph_Modelling_Language) of graphs, as networkx, igraph and Gephi write it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import networkx as nx

from deepstruct.converters import graph_files, graph_spelling
from deepstruct.converters.graph_files import Budget, Graph
from deepstruct.converters.graph_spelling import Fit, Scope
from deepstruct.files import Targets
from deepstruct.formats import ReadOptions, WriteOptions
from deepstruct.limits import Limits
from deepstruct.losses import Loss
from deepstruct.model import Model

_RESERVED: dict[Scope, frozenset[str]] = {
    "graph": frozenset({"directed", "multigraph", "node", "edge"}),
    "node": frozenset({"id", "label"}),
    "edge": frozenset({"source", "target"}),
}
_NAME = re.compile(r"[A-Za-z][0-9A-Za-z_]*")
_TEXT = re.compile(r"(?!(?:\(\)|\[\])\Z).*", re.DOTALL)  # networkx reads these two as an empty tuple and list
_WORD = re.compile(r"\S+")


def read(path: Path, options: ReadOptions, losses: list[Loss]) -> Model:
    """The model of the graph in a file."""
    return graph_files.to_model(read_graph(path, options.limits, losses), path, options, losses)


def write(model: Model, path: Path, targets: Targets, options: WriteOptions) -> list[Loss]:
    """Writes the graph of a model."""
    return graph_files.save(model, path, targets, options, write_graph)


def write_graph(graph: Graph, file: IO[bytes], losses: list[Loss]) -> None:
    """Writes a graph without parallel edges; nothing of it is lost."""
    names = graph_spelling.unique_names(graph, _TEXT)
    for line in nx.generate_gml(graph_spelling.spell(graph, _judge, names, losses)):
        file.write(line.encode("ascii") + b"\n")


def _judge(scope: Scope, name: str, value: Any) -> Fit:
    if name in _RESERVED[scope] or not _NAME.fullmatch(name):
        return Fit.HIDDEN
    if not graph_spelling.is_scalar(value, 2**31 - 1, _TEXT):
        return Fit.HIDDEN
    if type(value) is bool or (name == "label" and type(value) is not str):  # 0 and 1; text
        return Fit.SHOWN
    return Fit.EXACT


def read_graph(path: Path, limits: Limits, losses: list[Loss]) -> Graph:  # noqa: ARG001 - nothing is lost
    """The graph in a file: vertices are called by their labels if each has its own, else by their ids.

    Raises:
        MalformedFileError: the file is no GML, or exceeds a limit.
    """
    text = graph_files.text(path, limits)
    with graph_files.refusing(path, "GML"):
        by_id: Any = None  # the annotations of networkx allow only a name
        plain: Graph = nx.parse_gml(_lines(text, Budget(path, limits)), label=by_id)
        return graph_spelling.unspell(_by_label(plain))


def _lines(text: str, budget: Budget) -> Iterator[str]:
    for line in io.StringIO(text, newline=None):
        budget.spend(sum(1 for _ in _WORD.finditer(line)) // 2)
        yield line


def _by_label(graph: Graph) -> Graph:
    labels = nx.get_node_attributes(graph, "label")
    if len(labels) < len(graph) or not all(isinstance(label, str) for label in labels.values()):
        return graph
    if len(set(labels.values())) < len(graph):
        return graph
    for _, data in graph.nodes(data=True):
        del data["label"]
    result: Graph = nx.relabel_nodes(graph, labels)
    return result
