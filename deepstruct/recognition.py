"""How files begin: tells formats apart that share a suffix or their first bytes, from the first bytes alone."""

from __future__ import annotations

import re

WINDOW = 64 * 2**10
"""How many of a file's first bytes the functions here are given."""

_JSON_PIECE = re.compile(rb'"(?:[^"\\]|\\.)*"\s*:?|[{}\[\]]|"')
_NODE_LINK = {b"nodes", b"links", b"edges", b"directed", b"multigraph"}
_DOCUMENT = {b"$schema", b"format", b"version", b"parameters"}


def is_node_link(start: bytes) -> bool:
    """Whether the first telling member of a JSON object is one of node-link data, not of a deepstruct document."""
    depth = 0
    for match in _JSON_PIECE.finditer(start):
        piece = match.group()
        if piece in b"{[":
            depth += 1
        elif piece in b"}]":
            depth -= 1
        elif depth == 1 and piece.endswith(b":"):
            name = piece[:-1].strip()[1:-1]
            if name in _NODE_LINK | _DOCUMENT:
                return name in _NODE_LINK
    return False


def is_graphml(start: bytes) -> bool:
    """Whether the root of an XML document is ``graphml``."""
    return b"<graphml" in start[:4096]


def is_gexf(start: bytes) -> bool:
    """Whether the root of an XML document is ``gexf``."""
    return b"<gexf" in start[:4096]


def is_npz(start: bytes) -> bool:
    """Whether the first member of a ZIP archive is an array of numpy.

    A local file header is 30 bytes and the name (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.7).
    """
    return start[30 : 30 + int.from_bytes(start[26:28], "little")].endswith(b".npy")
