"""What all graph files have in common: their graph becomes a model, a model's graph is written, junk is refused."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

import networkx as nx

from deepstruct import files
from deepstruct.errors import DeepstructError, FaultyError, MalformedFileError, UnsupportedError, UsageError
from deepstruct.files import Targets
from deepstruct.formats import ReadOptions, WriteOptions
from deepstruct.limits import Limits, variable
from deepstruct.losses import Loss
from deepstruct.model import Model
from deepstruct.views import DOCUMENT

Graph: TypeAlias = "nx.Graph[Any]"


def to_model(
    graph: Graph, path: Path, options: ReadOptions, losses: list[Loss], *, says_directions: bool = True
) -> Model:
    """The model of a graph that was read from a file.

    Args:
        graph: of the file.
        path: of the file, for errors.
        options: what the user says of the graph.
        losses: gets what the graph has and a model cannot.
        says_directions: whether the format tells directed from undirected graphs. If not, an orientation means that
            the edges have no directions of their own.

    Raises:
        UsageError: the graph has no document of deepstruct, and it was not said what of it cannot be told from it.
        UnsupportedError: the graph has something that no network in its shape has, such as parallel edges.
        MalformedFileError: the graph is no structure, for example because of a cycle.
    """
    if options.orientation is not None and not says_directions:
        graph = undirected(graph, losses)
    if DOCUMENT not in graph.graph:
        _require_said(graph, path, options)
    elif options.in_features is not None:
        why = "the file holds one, which gives way to a new one in the shape of the graph, with the given features"
        losses.append(Loss("network", "graph", why))
    converter: Any = importlib.import_module("deepstruct.converters.networkx")
    try:
        structure = converter.from_networkx(
            graph, options.in_features, options.out_features, orientation=options.orientation, losses=losses
        )
    except FaultyError as error:
        reasons = (str(fault) if fault.pointer else fault.message for fault in error.faults[:5])
        raise MalformedFileError(str(path), "; ".join(reasons)) from error
    except (UsageError, UnsupportedError) as error:
        raise type(error)(f"{path}: {error}") from error
    if options.init is None or not options.weights:
        return Model(structure)
    from deepstruct.initialisation import initial_weights

    return Model(structure, initial_weights(structure, options.init, options.seed))


def _require_said(graph: Graph, path: Path, options: ReadOptions) -> None:
    if None in (options.in_features, options.out_features):
        raise UsageError(
            f"{path}: a graph does not say how many features come in and go out: "
            "add --in-features and --out-features (in Python: in_features=, out_features=)"
        )
    if not graph.is_directed() and graph.number_of_edges() and options.orientation is None:
        raise UsageError(
            f"{path}: the graph is undirected: add --orientation vertex-order (in Python: orientation='vertex-order'), "
            "which leads each edge away from the vertex that stands first in the file"
        )


def save(
    model: Model,
    path: Path,
    targets: Targets,
    options: WriteOptions,
    write_graph: Callable[[Graph, IO[bytes], list[Loss]], None],
) -> list[Loss]:
    """Writes the graph of a model with a format's `write_graph` and returns what was lost on the way.

    Without an order it is the graph that the network was made of, if there was one, else that of its units.
    """
    losses: list[Loss] = []
    file = targets.open(path)
    graph = _graph_of(model, options)
    if model.weights is not None:
        why = "a graph is read as a structure alone; a document, a checkpoint or an ONNX file keeps numbers"
        losses.append(Loss("weights", "model", why))
    if DOCUMENT not in graph.graph:
        why = "it is the one that the network was made of, which has no inputs and outputs; --order 0 keeps them"
        losses.append(Loss("features", "graph", why))
    write_graph(graph, file, losses)
    return losses


def _graph_of(model: Model, options: WriteOptions) -> Graph:
    converter: Any = importlib.import_module("deepstruct.converters.networkx_views")
    order = options.order
    if order is None and not converter.comes_from_graph(model.structure):
        order = 0
    given: dict[str, Any] = {"depth": options.depth}
    if order is not None:
        given |= {"include_input": True, "include_output": True}
        given |= {"shapes": options.input_shapes, "unknown": options.unknown}
    if order == 0:
        given["weights"] = model.weights is not None
    graph: Graph = converter.to_networkx(model, order, **given)
    return graph


def content(path: Path, limits: Limits) -> bytes:
    """The bytes of a graph file.

    Raises:
        MalformedFileError: there are more than `limits` allow.
    """
    with files.reading(path):
        size = path.stat().st_size
    if size > limits.graph_bytes:
        raise MalformedFileError(str(path), beyond(f"{size} bytes, more", limits, "graph_bytes"))
    return files.read_bytes(path, size)


def text(path: Path, limits: Limits) -> str:
    """The text of a graph file, which is UTF-8.

    Raises:
        MalformedFileError: it is not, or longer than `limits` allow.
    """
    found = content(path, limits)
    try:
        return found.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = found.count(b"\n", 0, error.start) + 1
        reason = f"line {line}: not UTF-8 text (byte {found[error.start]:#04x} at offset {error.start})"
        raise MalformedFileError(str(path), reason) from error


def beyond(claim: str, limits: Limits, name: str) -> str:
    """The sentence about a limit that a file exceeds."""
    return f"{claim} than the {getattr(limits, name)} allowed; set {variable(name)} to allow it"


class Budget:
    """Counts the vertices, edges and values of a file as they are read, and stops at the limit."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._left = limits.graph_values

    def spend(self, count: int) -> None:
        """Counts some more.

        Raises:
            MalformedFileError: that is more than the limit.
        """
        self._left -= count
        if self._left < 0:
            reason = beyond("more vertices, edges and values", self._limits, "graph_values")
            raise MalformedFileError(str(self._path), reason)


@contextlib.contextmanager
def refusing(path: Path, kind: str) -> Iterator[None]:
    """Turns whatever a reader stumbles over in a malformed file into `MalformedFileError`; only for reading.

    networkx raises errors of many kinds, KeyError and AssertionError among them, and documents few.
    """
    try:
        yield
    except DeepstructError:
        raise
    except RecursionError as error:
        raise MalformedFileError(str(path), f"is nested too deeply for {kind}") from error
    except nx.NetworkXException as error:
        raise MalformedFileError(str(path), f"is no {kind} that can be read: {error!s:.300}") from error
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = f"is no {kind} that can be read: {type(error).__name__}: {error!s:.300}"
        raise MalformedFileError(str(path), reason) from error


def undirected(graph: Graph, losses: list[Loss]) -> Graph:
    """The graph without directions, for formats that do not say whether there are any.

    Of two edges in opposite directions one stays, with the attributes of the one that leads to the later vertex.
    """
    result: Graph = nx.Graph()
    result.add_nodes_from(graph.nodes(data=True))
    place = {vertex: number for number, vertex in enumerate(graph)}
    edges = sorted(graph.edges(data=True), key=lambda edge: place[edge[0]] > place[edge[1]])
    different = 0
    for source, target, data in edges:
        if result.has_edge(source, target):
            different += result.edges[source, target] != data
        else:
            result.add_edges_from([(source, target, data)])
    if different:
        where = f"{different} pairs of edges"
        losses.append(
            Loss("attributes", where, "both directions have their own; those towards the later vertex are kept")
        )
    return result
