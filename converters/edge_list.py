"""Edge lists as networkx and SNAP write them (`networkx.readwrite.edgelist`): ``source target`` a line."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import IO, Any

import networkx as nx

from deepstruct.converters import graph_files, graph_words
from deepstruct.converters.graph_files import Graph
from deepstruct.errors import MalformedFileError
from deepstruct.files import Targets
from deepstruct.formats import ReadOptions, WriteOptions
from deepstruct.limits import Limits
from deepstruct.losses import Loss
from deepstruct.model import Model

_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,18}|(?:[0-9]{1,18}\.[0-9]*|\.[0-9]+|[0-9]{1,18})(?:[eE][+-]?[0-9]{1,3})?)")
_QUOTED = r"""'([^'\\]*)'|"([^"\\]*)\""""
_ITEM = re.compile(rf"""\s*(?:{_QUOTED})\s*:\s*(?:{_QUOTED}|([^\s,'"{{}}\[\]()]+))\s*(,|\}}$)""")
_CONSTANTS = {"true": True, "false": False, "none": None, "null": None}


def read(path: Path, options: ReadOptions, losses: list[Loss]) -> Model:
    """The model of the graph in a file."""
    graph = read_graph(path, options.limits, losses)
    return graph_files.to_model(graph, path, options, losses, says_directions=False)


def write(model: Model, path: Path, targets: Targets, options: WriteOptions) -> list[Loss]:
    """Writes the graph of a model."""
    return graph_files.save(model, path, targets, options, write_graph)


def write_graph(graph: Graph, file: IO[bytes], losses: list[Loss]) -> None:
    """Writes the edges of a graph, with a third word where each has a number called weight and nothing else."""
    named = [vertex for vertex in graph if graph.degree(vertex)]
    plain = graph_words.relabelled(graph, named, losses)
    names = {name for *_, data in plain.edges(data=True) for name in data}
    weighted = bool(names) and all(_is_number(data.get("weight")) for *_, data in plain.edges(data=True))
    graph_words.report_attributes(names - ({"weight"} if weighted else set()), "edges", losses)
    if len(named) < len(graph):
        losses.append(Loss("vertices", "graph", f"{len(graph) - len(named)} have no edges, so that nothing names them"))
    if list(dict.fromkeys(vertex for source, target, *_ in graph.edges for vertex in (source, target))) != named:
        losses.append(Loss("order", "vertices", "they come back in the order in which edges name them first"))
    data: Any = ["weight"] if weighted else False
    for line in nx.generate_edgelist(plain, data=data):
        file.write(line.encode() + b"\n")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and _NUMBER.fullmatch(repr(value)) is not None


def read_graph(path: Path, limits: Limits, losses: list[Loss]) -> Graph:  # noqa: ARG001 - nothing is lost
    """The graph in a file, directed from the first to the second word of each line.

    Behind them there may be a number, the weight, or a flat dict of attributes as Python or JSON writes it; it is not
    evaluated. Vertices are integers if all look like integers, else strings.

    Raises:
        MalformedFileError: a line is none of these, an edge occurs twice, or a limit is exceeded.
    """
    graph: Graph = nx.DiGraph()
    for number, words, line in graph_words.lines(path, limits):
        place = f"line {number}"
        if len(words) < 2:
            raise MalformedFileError(
                str(path), f"{place}: an edge has a source and a target, not {words[0]!r:.60} alone"
            )
        if graph.has_edge(*words[:2]):
            raise MalformedFileError(str(path), f"{place}: the edge {' -> '.join(words[:2]):.80} occurs twice")
        try:
            data = _data(line.split(maxsplit=2)[2:])
        except ValueError as error:
            raise MalformedFileError(str(path), f"{place}: {error}") from error
        graph.add_edges_from([(words[0], words[1], data)])
    return graph_words.with_integers(graph)


def _data(rest: list[str]) -> dict[str, Any]:
    if not rest:
        return {}
    text = rest[0].strip()
    if _NUMBER.fullmatch(text):
        return {"weight": _value(text)}
    if not text.startswith("{"):
        raise ValueError(f"{text!r:.60} is neither a number nor a dict of attributes")
    if text.removeprefix("{").strip() == "}":
        return {}
    data: dict[str, Any] = {}
    position, end = 1, ","
    while end == ",":
        item = _ITEM.match(text, position)
        if item is None:
            raise ValueError(f"{text[position:]!r:.60} does not go on as a flat dict of numbers and strings")
        single, double, single_value, double_value, word, end = item.groups()
        name = double if single is None else single
        strings = [value for value in (single_value, double_value) if value is not None]
        if name in data:
            raise ValueError(f"the attribute {name!r:.60} occurs twice")
        data[name] = strings[0] if strings else _value(word)
        position = item.end()
    return data


def _value(word: str) -> int | float | bool | None:
    if word.lower() in _CONSTANTS:
        return _CONSTANTS[word.lower()]
    if not _NUMBER.fullmatch(word):
        raise ValueError(f"{word!r:.60} is no number")
    value = int(word) if word.lstrip("+-").isdigit() else float(word)
    if not math.isfinite(value):
        raise ValueError(f"{word!r:.60} is beyond the largest float64")
    return value
