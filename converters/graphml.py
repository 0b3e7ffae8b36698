"""GraphML (http://graphml.graphdrawing.org/specification.html), as networkx, yEd, igraph and Gephi write it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from xml.etree.ElementTree import Element

import networkx as nx
from networkx.readwrite.graphml import GraphMLReader

from deepstruct.converters import graph_files, graph_spelling, graph_xml
from deepstruct.converters.graph_files import Graph
from deepstruct.converters.graph_spelling import Fit, Scope
from deepstruct.files import Targets
from deepstruct.formats import ReadOptions, WriteOptions
from deepstruct.limits import Limits
from deepstruct.losses import Loss
from deepstruct.model import Model

_NAMESPACE = GraphMLReader.NS_GRAPHML
_RESERVED: dict[Scope, frozenset[str]] = {
    "graph": frozenset({"id", "node_default", "edge_default"}),
    "node": frozenset(),
    "edge": frozenset({"id"}),
}


def read(path: Path, options: ReadOptions, losses: list[Loss]) -> Model:
    """The model of the graph in a file."""
    return graph_files.to_model(read_graph(path, options.limits, losses), path, options, losses)


def write(model: Model, path: Path, targets: Targets, options: WriteOptions) -> list[Loss]:
    """Writes the graph of a model."""
    return graph_files.save(model, path, targets, options, write_graph)


def write_graph(graph: Graph, file: IO[bytes], losses: list[Loss]) -> None:
    """Writes a graph without parallel edges; nothing of it is lost."""
    names = graph_spelling.unique_names(graph, graph_xml.SAFE_NAME)
    nx.write_graphml_xml(graph_spelling.spell(graph, _judge, names, losses), file)
    file.write(b"\n")


def _judge(scope: Scope, name: str, value: Any) -> Fit:
    if name in _RESERVED[scope] or not graph_xml.SAFE_NAME.fullmatch(name):
        return Fit.HIDDEN
    return Fit.EXACT if graph_spelling.is_scalar(value, 2**63 - 1, graph_xml.SAFE_TEXT) else Fit.HIDDEN


def read_graph(path: Path, limits: Limits, losses: list[Loss]) -> Graph:
    """The graph in a file: vertices are strings if another program wrote it.

    Defaults of attributes are given to the vertices and edges that have none.

    Raises:
        MalformedFileError: the file is no GraphML, or exceeds a limit.
    """
    root = graph_xml.parse(graph_files.content(path, limits), path, "graphml", _NAMESPACE, limits)
    with graph_files.refusing(path, "GraphML"):
        _simplify(root, losses)
        reader: Any = GraphMLReader()
        keys, defaults = reader.find_graphml_keys(root)
        graphs = root.findall(_tag("graph"))
        if not graphs:
            raise ValueError("there is no <graph>")
        graph: Graph = reader.make_graph(graphs[0], keys, defaults)
        if len(graphs) > 1:
            losses.append(Loss("graphs", "file", f"only the first of {len(graphs)} graphs is read"))
        return graph_spelling.unspell(_with_defaults(graph))


def _tag(name: str) -> str:
    return f"{{{_NAMESPACE}}}{name}"


def _simplify(root: Element, losses: list[Loss]) -> None:
    """Takes out what networkx warns of or passes over in silence, and says so."""
    for key in root.findall(_tag("key")):
        if key.get("attr.type") is None and key.get("yfiles.type") is None:
            key.set("attr.type", "string")
        if key.get("attr.name") is None and key.get("yfiles.type") is None:
            key.set("attr.name", key.get("id", ""))
    ports = 0
    for element in (*root.iter(_tag("node")), *root.iter(_tag("edge"))):
        for port in element.findall(_tag("port")):
            element.remove(port)
            ports += 1
        ports += "sourceport" in element.attrib or "targetport" in element.attrib
    if ports:
        losses.append(Loss("ports", "vertices and edges", f"a graph has none; {ports} are passed over"))
    nested = sum(node.get("yfiles.foldertype") != "group" for node in _with_graphs(root))
    if nested:
        raise ValueError(f"{nested} vertices contain graphs of their own; only the groups of yEd are understood")
    if any(element.tag.startswith(f"{{{GraphMLReader.NS_Y}}}") for element in root.iter()):
        losses.append(Loss("drawing", "graph", "of what yEd draws, labels, positions and shapes are read"))


def _with_graphs(root: Element) -> Iterator[Element]:
    return (node for node in root.iter(_tag("node")) if node.find(_tag("graph")) is not None)


def _with_defaults(graph: Graph) -> Graph:
    """The graph with the defaults of the file given to each vertex and edge that says nothing else."""
    of_nodes, of_edges = graph.graph.pop("node_default", {}), graph.graph.pop("edge_default", {})
    everything = [(of_nodes, (data for _, data in graph.nodes(data=True)))]
    everything.append((of_edges, (data for *_, data in graph.edges(data=True))))
    for defaults, all_data in everything:
        if defaults:
            for data in all_data:
                data.update({name: value for name, value in defaults.items() if name not in data})
    return graph
