"""GEXF 1.2 (https://gexf.net) of graphs; 1.1 and 1.3 are read too, as Gephi writes them."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any
from xml.etree.ElementTree import SubElement

from networkx.readwrite.gexf import GEXF, GEXFReader, GEXFWriter

from deepstruct.converters import graph_files, graph_spelling, graph_xml
from deepstruct.converters.graph_files import Graph
from deepstruct.converters.graph_spelling import TYPED, Fit, Scope
from deepstruct.files import Targets
from deepstruct.formats import ReadOptions, WriteOptions
from deepstruct.limits import Limits
from deepstruct.losses import Loss
from deepstruct.model import Model

_VERSION, _OLD_VERSION = "1.2draft", "1.1draft"
_TIMES = frozenset({"start", "end", "spells", "slices", "viz"})
_RESERVED: dict[Scope, frozenset[str]] = {
    "graph": frozenset(),
    "node": _TIMES | {"id", "pid", "parents"},
    "edge": _TIMES | {"id", "type", "label", "networkx_key"},
}
_TYPES = {"short": "long", "byte": "long", "biginteger": "long", "bigdecimal": "double"}


def read(path: Path, options: ReadOptions, losses: list[Loss]) -> Model:
    """The model of the graph in a file."""
    return graph_files.to_model(read_graph(path, options.limits, losses), path, options, losses)


def write(model: Model, path: Path, targets: Targets, options: WriteOptions) -> list[Loss]:
    """Writes the graph of a model."""
    return graph_files.save(model, path, targets, options, write_graph)


def write_graph(graph: Graph, file: IO[bytes], losses: list[Loss]) -> None:
    """Writes a graph without parallel edges; nothing of it is lost.

    The format has no attributes of graphs: theirs stand as JSON text in the description of the file.
    """
    names = graph_spelling.unique_names(graph, graph_xml.SAFE_NAME)
    mixed = _mixed(graph)
    last = all(next(reversed(data)) == "weight" for *_, data in graph.edges(data=True) if "weight" in data)

    def judge(scope: Scope, name: str, value: Any) -> Fit:
        if name in _RESERVED[scope] or (scope, name) in mixed:
            return Fit.HIDDEN
        if not graph_xml.SAFE_NAME.fullmatch(name):
            return Fit.HIDDEN
        if not graph_spelling.is_scalar(value, 2**63 - 1, graph_xml.SAFE_TEXT):
            return Fit.HIDDEN
        if scope == "graph":  # the name is all that is said of one
            return Fit.SHOWN if name == "name" and type(value) is str else Fit.HIDDEN
        if (scope, name) == ("edge", "weight"):  # a float whatever it was, read after the attributes
            if type(value) not in (int, float):
                return Fit.HIDDEN
            return Fit.EXACT if last and type(value) is float else Fit.SHOWN
        if (scope, name) == ("node", "label"):  # every vertex has one; by default its name
            return Fit.SHOWN if type(value) is str else Fit.HIDDEN
        return Fit.EXACT

    plain = graph_spelling.spell(graph, judge, names, losses)
    description = plain.graph.pop(TYPED, "{}")
    writer = GEXFWriter(version=_VERSION)
    meta = writer.xml.find("meta")
    meta.attrib.clear()  # no date: the same graph gives the same bytes
    meta.find("creator").text = "deepstruct"
    SubElement(meta, "description").text = TYPED + description
    writer.add_graph(plain)
    writer.write(file)
    file.write(b"\n")


def _mixed(graph: Graph) -> set[tuple[Scope, Any]]:
    """Attributes that have values of several types; the format has one type for a name."""
    types: dict[tuple[Scope, Any], type] = {}
    mixed: set[tuple[Scope, Any]] = set()
    found: list[tuple[Scope, Any]] = [("node", data) for _, data in graph.nodes(data=True)]
    found += [("edge", data) for *_, data in graph.edges(data=True)]
    for scope, data in found:
        for name, value in data.items():
            if types.setdefault((scope, name), type(value)) is not type(value):
                mixed.add((scope, name))
    return mixed - {("edge", "weight"), ("node", "label")}


def read_graph(path: Path, limits: Limits, losses: list[Loss]) -> Graph:
    """The graph in a file: vertices are strings if another program wrote it.

    Raises:
        MalformedFileError: the file is no GEXF, or exceeds a limit.
    """
    content = graph_files.content(path, limits)
    version = _OLD_VERSION if b"gexf.net/1.1draft" in content[:2000] else _VERSION
    namespace = GEXF.versions[version]["NS_GEXF"]
    root = graph_xml.parse(content, path, "gexf", namespace, limits)
    with graph_files.refusing(path, "GEXF"):
        element = root.find(f"{{{namespace}}}graph")
        if element is None:
            raise ValueError("there is no <graph>")
        reader: Any = GEXFReader(version=version)
        for attribute in element.iter(f"{{{namespace}}}attribute"):
            declared = attribute.get("type", "string")
            attribute.set("type", declared if declared in reader.python_type else _TYPES.get(declared, "string"))
        graph: Graph = reader.make_graph(element)
        description = root.findtext(f"{{{namespace}}}meta/{{{namespace}}}description") or ""
        ours = description.startswith(TYPED)
        if ours:
            graph.graph[TYPED] = description.removeprefix(TYPED)
        elif description:
            losses.append(Loss("description", "file", f"a graph has no place for {description!r:.60}"))
        if any(part.tag.startswith(f"{{{namespace}/viz}}") for edge in element.iter(_edge(namespace)) for part in edge):
            losses.append(Loss("drawing", "edges", "colours, shapes and thickness are read of vertices alone"))
        _tidy(graph, ours)
        return graph_spelling.unspell(graph)


def _edge(namespace: str) -> str:
    return f"{{{namespace}}}edge"


def _tidy(graph: Graph, ours: bool) -> None:
    """Removes what networkx adds of its own, and gives the defaults of the file to vertices and edges without."""
    of_nodes, of_edges = graph.graph.pop("node_default", {}), graph.graph.pop("edge_default", {})
    if graph.graph.get("mode") == "static":
        del graph.graph["mode"]
    for name, data in graph.nodes(data=True):
        if ours or data.get("label") in (name, None):
            data.pop("label", None)
        data.update({key: value for key, value in of_nodes.items() if key not in data})
    for *_, data in graph.edges(data=True):
        if ours:
            data.pop("id", None)
        data.update({key: value for key, value in of_edges.items() if key not in data})
