"""XML of graphs, read as if it were hostile: no DOCTYPE, bounded depth and size, every edge between vertices."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from deepstruct.converters.graph_files import Budget, beyond
from deepstruct.errors import MalformedFileError
from deepstruct.limits import Limits

SAFE_TEXT = re.compile("[\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
"""Strings that come back from XML as they are: XML has no control characters, and reads CR as LF."""

SAFE_NAME = re.compile("[\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")
"""Names that come back from an XML attribute as they are."""


def parse(content: bytes, path: Path, root: str, namespace: str, limits: Limits) -> Element:
    """The tree of an XML document about a graph.

    The namespace of the root becomes `namespace`, whatever version of the format it says, and one below it one below
    that. Elements ``node`` have an ``id`` each, and elements ``edge`` name two of them as ``source`` and ``target``.

    Args:
        content: of the file.
        path: of the file, for errors.
        root: name of the root element.
        namespace: of the root element in the tree.
        limits: how deep and large the document may be.

    Raises:
        MalformedFileError: the document is none of these, with the line.
    """
    return _Reading(path, root, namespace, limits).parse(content)


class _Reading:
    """One pass over a document."""

    def __init__(self, path: Path, root: str, namespace: str, limits: Limits) -> None:
        self._path = path
        self._root = root
        self._namespace = namespace
        self._own: str | None = None
        self._limits = limits
        self._budget = Budget(path, limits)
        self._depth = 0
        self._vertices: set[str] = set()
        self._ends: dict[str, int] = {}
        self._tree = TreeBuilder()
        self._parser = expat.ParserCreate(namespace_separator="}")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.EntityDeclHandler = self._doctype
        self._parser.ExternalEntityRefHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._tree.data

    def parse(self, content: bytes) -> Element:
        try:
            self._parser.Parse(content, True)
        except MalformedFileError:
            raise
        except (LookupError, ValueError) as error:  # of an encoding that Python does not know, or not for XML
            self._refuse(f"not XML: {error}")
        except expat.ExpatError as error:
            message = expat.ErrorString(error.code)
            self._refuse(f"not XML: {message}{'; is the file truncated?' if self._ended(error) else ''}", error.lineno)
        for vertex, line in self._ends.items():
            if vertex not in self._vertices:
                self._refuse(f"an edge names the vertex {vertex!r:.80}, which does not exist", line)
        return self._tree.close()

    def _ended(self, error: expat.ExpatError) -> bool:
        return error.code in (
            expat.errors.codes[expat.errors.XML_ERROR_NO_ELEMENTS],
            expat.errors.codes[expat.errors.XML_ERROR_UNCLOSED_TOKEN],
            expat.errors.codes[expat.errors.XML_ERROR_PARTIAL_CHAR],
            expat.errors.codes[expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION],
        )

    def _refuse(self, reason: str, line: int | None = None) -> NoReturn:
        raise MalformedFileError(str(self._path), f"line {line or self._parser.CurrentLineNumber}: {reason}")

    def _doctype(self, *_: object) -> NoReturn:
        self._refuse("has a DOCTYPE, which can define entities that fill the memory or read other files; remove it")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        namespace, _, local = name.rpartition("}")
        if self._own is None:
            if local != self._root:
                self._refuse(f"the root element is <{local:.40}>, not <{self._root}>")
            self._own = namespace
        self._depth += 1
        if self._depth > self._limits.depth:
            self._refuse(beyond("elements nested deeper", self._limits, "depth"))
        self._budget.spend(1 + len(attributes))
        if namespace == self._own:
            self._check(local, attributes)
        self._tree.start(
            self._tag(namespace, local),
            {f"{{{key}" if "}" in key else key: value for key, value in attributes.items()},
        )

    def _check(self, local: str, attributes: dict[str, str]) -> None:
        if local == "node":
            vertex = attributes.get("id")
            if vertex is None:
                self._refuse("a <node> has no id")
            if vertex in self._vertices:
                self._refuse(f"the vertex {vertex!r:.80} occurs twice")
            self._vertices.add(vertex)
        elif local == "edge":
            for end in ("source", "target"):
                if end not in attributes:
                    self._refuse(f"an <edge> has no {end}")
                self._ends.setdefault(attributes[end], self._parser.CurrentLineNumber)

    def _end(self, name: str) -> None:
        self._depth -= 1
        namespace, _, local = name.rpartition("}")
        self._tree.end(self._tag(namespace, local))

    def _tag(self, namespace: str, local: str) -> str:
        if namespace == self._own:
            return f"{{{self._namespace}}}{local}"
        if self._own and namespace.startswith(f"{self._own}/"):
            return f"{{{self._namespace}{namespace.removeprefix(self._own)}}}{local}"
        return f"{{{namespace}}}{local}" if namespace else local
