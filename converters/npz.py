"""Sparse adjacency matrices in the ``.npz`` files of `scipy.sparse.save_npz`: row = source, column = target."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import networkx as nx
import numpy as np
import scipy.sparse  # type: ignore[import-untyped]  # scipy has no types

from deepstruct.converters import graph_files
from deepstruct.converters.graph_files import Budget, Graph, beyond
from deepstruct.errors import MalformedFileError
from deepstruct.files import Targets
from deepstruct.formats import ReadOptions, WriteOptions
from deepstruct.limits import Limits
from deepstruct.losses import Loss
from deepstruct.model import Model

_COST = 8  # values that a vertex without edges counts as: it takes as much memory, and none in the file


def read(path: Path, options: ReadOptions, losses: list[Loss]) -> Model:
    """The model of the graph in a file."""
    graph = read_graph(path, options.limits, losses)
    return graph_files.to_model(graph, path, options, losses, says_directions=False)


def write(model: Model, path: Path, targets: Targets, options: WriteOptions) -> list[Loss]:
    """Writes the graph of a model."""
    return graph_files.save(model, path, targets, options, write_graph)


def write_graph(graph: Graph, file: IO[bytes], losses: list[Loss]) -> None:
    """Writes a matrix of bool (vertices, vertices), True where there is an edge; both ways if it is undirected."""
    if any(type(vertex) is not int or vertex != number for number, vertex in enumerate(graph)):
        losses.append(Loss("vertex keys", "graph", "rows have no names; vertices are numbered in their order"))
    if not graph.is_directed() and graph.number_of_edges():
        losses.append(Loss("directions", "edges", "a matrix does not say that a graph is undirected; it is symmetric"))
    everything = {
        "graph": set(graph.graph),
        "vertices": {name for _, data in graph.nodes(data=True) for name in data},
        "edges": {name for *_, data in graph.edges(data=True) for name in data},
    }
    for where, names in everything.items():
        if names:
            shown = sorted(map(str, names))
            listed = ", ".join(shown[:5]) + (", ..." if len(shown) > 5 else "")
            losses.append(Loss("attributes", where, f"a matrix has no place for them: {listed:.200}"))
    rows = {vertex: number for number, vertex in enumerate(graph)}
    ends = np.array([[rows[source], rows[target]] for source, target in graph.edges()], np.int64).reshape(-1, 2)
    if not graph.is_directed():
        ends = np.concatenate([ends, ends[ends[:, 0] != ends[:, 1], ::-1]])
    matrix = scipy.sparse.csr_array((np.ones(len(ends), np.bool_), (ends[:, 0], ends[:, 1])), shape=(len(rows),) * 2)
    scipy.sparse.save_npz(file, matrix)


def read_graph(path: Path, limits: Limits, losses: list[Loss]) -> Graph:  # noqa: ARG001 - nothing is lost
    """The directed graph of a matrix; vertices are the numbers of its rows.

    Entries that are stored are edges, also if they are 0, except where the layout stores whole blocks or diagonals:
    there 0 is no edge. Unless all are 1 they are the attribute ``weight`` of the edges. Entries that are stored twice
    add up, as in scipy.

    Raises:
        MalformedFileError: the file is no square sparse matrix of numbers, or exceeds a limit.
    """
    content = graph_files.content(path, limits)
    with graph_files.refusing(path, "sparse matrix"):
        try:
            found = _load(content, path, limits)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
            raise ValueError(f"{error}; is the file damaged?") from error
        whole = found.format in ("bsr", "dia")
        if found.format in ("csr", "csc", "bsr"):
            found.check_format(full_check=True)
        matrix = scipy.sparse.coo_array(found)
        matrix.sum_duplicates()
        return _graph(matrix, whole)


def _load(content: bytes, path: Path, limits: Limits) -> Any:
    shape = _check(content, path, limits)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"an adjacency matrix is square, and this has the shape {list(shape)}")
    Budget(path, limits).spend(_COST * shape[0])
    return scipy.sparse.load_npz(io.BytesIO(content))


def _check(content: bytes, path: Path, limits: Limits) -> tuple[int, ...]:
    """The shape of the matrix, once each array is known to be no larger than it says and than is allowed."""
    shape: tuple[int, ...] | None = None
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(member.file_size for member in archive.infolist()) > limits.graph_bytes:
            raise MalformedFileError(str(path), beyond("inflates to more bytes", limits, "graph_bytes"))
        budget = Budget(path, limits)
        for member in archive.infolist():
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{member.filename} is compressed in a way that numpy does not write")
            with archive.open(member) as file:
                extents, dtype = _header(file, member.filename)
                if math.prod(extents) * dtype.itemsize != member.file_size - file.tell():
                    raise ValueError(f"{member.filename} claims the shape {list(extents)} and has other data")
                budget.spend(math.prod(extents))
                if member.filename == "shape.npy":
                    shape = tuple(map(int, np.frombuffer(file.read(), dtype)))
    if shape is None:
        raise ValueError("it has no shape.npy, so it is not what scipy.sparse.save_npz writes")
    return shape


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    extents, _, dtype = reader(file)
    kinds = "SU" if name == "format.npy" else "biuf" if name == "data.npy" else "biu"
    if dtype.kind not in kinds:
        raise ValueError(f"{name} has the dtype {dtype}, which is none of a matrix of numbers")
    return extents, dtype


def _graph(matrix: Any, whole: bool) -> Graph:
    values = matrix.data
    if not np.all(np.isfinite(values)):
        raise ValueError("a weight is not finite")
    kept = values != 0 if whole else np.ones(values.size, np.bool_)
    values = values[kept]
    graph: Graph = nx.DiGraph()
    graph.add_nodes_from(range(matrix.shape[0]))
    number = list(range(matrix.shape[0]))  # one integer object for all edges of a vertex
    sources, targets = ([number[end] for end in ends[kept].tolist()] for ends in (matrix.row, matrix.col))
    if np.all(values == 1):
        graph.add_edges_from(zip(sources, targets, strict=True))
    else:
        graph.add_weighted_edges_from(zip(sources, targets, values.tolist(), strict=True))
    return graph
