"""A document as text for people and for diffs: a line for each thing that can change, masks row by row.

What a line says depends on that one thing alone, so that a change of it is a change of one line. Digests of documents
and masks are left out: they follow from the rest.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepstruct import canonical, files, jsonprofile, migrations, rewriting
from deepstruct.errors import FaultyError
from deepstruct.limits import Limits
from deepstruct.mask import Mask, count
from deepstruct.printable import printable
from deepstruct.structure import Parameter

FAULTS = 20
"""Faults that are said of a file that is no valid document."""

LONGEST_VALUE = 300
"""Characters of a JSON value that are shown; of a longer one, a hash says whether it is the same."""

ROWS = 2**16
"""Lines for one mask at most; a mask with more rows has a line for every few of them."""

RANGES = 2**18
"""Ranges that are listed of one mask at most: each of its rows has an equal share, and at most `RANGES_OF_A_ROW`."""

RANGES_OF_A_ROW = 256

LISTED = 2**27
"""Entries of a mask up to which columns are listed at all; each row of a larger one has its count and its hash."""

LINES = 2**20
"""Lines for all masks of a document; a mask for which none are left has one."""

_AT_ONCE = 2**22  # entries that are unpacked at a time


def textconv(path: Path) -> Iterator[bytes]:
    """The text of a document in pieces.

    A file that is no valid document gives its faults as lines that begin with ``#``, and then its content as it is. One
    whose digests alone are wrong, after an edit by hand, is shown like any other.

    Raises:
        UnreadableFileError: the operating system does not let us read it.
    """
    limits = Limits.from_environment()
    try:
        value = jsonprofile.read(path, limits)
        right, reading = rewriting.with_right_digests(value, limits)
    except FaultyError as error:
        faults = [fault for fault in error.faults if fault.severity == "error"]
        yield _line(f"# no valid document: {len(faults)} {'fault' if len(faults) == 1 else 'faults'}")
        for fault in islice(faults, FAULTS):
            yield _line(f"# {fault}")
        yield from _content(path)
        return
    if right != value:
        yield _line("# digests do not belong to this content; deepstruct format --digests puts the right ones there")
    parameters = {parameter.name: parameter for parameter in reading.structure.parameters}
    document = canonical.ordered(migrations.migrate(right), parameters)
    yield from map(_line, _head(document))
    yield from map(_line, _graph(document["graph"]))
    lines = LINES
    for name, described in document.get("parameters", {}).items():
        parameter = parameters[name]
        yield _line(_parameter(parameter, described))
        if parameter.mask is not None:
            rows = _rows(parameter.mask, lines)
            lines -= min(lines, _line_count(parameter.mask))
            yield from rows


def _content(path: Path) -> Iterator[bytes]:
    with files.reading(path), path.open("rb") as file:
        while block := file.read(2**20):
            yield block


def _line(text: str) -> bytes:
    return (printable(text) + "\n").encode()


def _name(text: str) -> str:
    """A name as it is if it cannot be taken for anything else, otherwise in quotes."""
    return text if re.fullmatch(r"[\w./:~$-]+", text) and text.isprintable() else _json(text)


def _json(value: Any) -> str:
    """JSON on one line; of a long value the beginning and a hash."""
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= LONGEST_VALUE:
        return text
    return f"{text[:LONGEST_VALUE]}... ({len(text):,} characters, #{_hash(text.encode())})"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _others(value: Mapping[str, Any], known: tuple[str, ...]) -> str:
    """Members of an object that are not said otherwise, each behind a space."""
    return "".join(f" {_name(key)}={_json(item)}" for key, item in value.items() if key not in known)


def _head(document: dict[str, Any]) -> Iterator[str]:
    yield f"{document['format']} document {document['version']}"
    for key, value in document.items():
        if key not in ("format", "version", "digest", "graph", "parameters") and value != []:
            yield f"{_name(key)} {_json(value)}"


def _graph(graph: dict[str, Any]) -> Iterator[str]:
    yield f"graph {_name(graph.get('name', 'main'))}{_others(graph, canonical.GRAPH)}"
    for domain, version in graph["opset"].items():
        yield f"opset {_name(domain or 'ai.onnx')} {version}"
    for key, value in graph.get("attributes", {}).items():
        yield f"attribute {_name(key)} {_json(value)}"
    for side in ("inputs", "outputs"):
        for value in graph[side]:
            yield f"{side[:-1]} {_value(value)}"
    for name, constant in graph.get("constants", {}).items():
        yield f"constant {_name(name)}: {_type(constant)} {_json(constant['data'])}"
    for function in graph.get("functions", []):
        yield from _function(function)
    yield from _nodes(graph["nodes"], "")


def _type(value: Mapping[str, Any]) -> str:
    containers = "".join(f"{container} of " for container in value.get("containers", []))
    shape = value.get("shape")
    extents = "?" if shape is None else ", ".join("?" if extent is None else str(extent) for extent in shape)
    return f"{containers}{value.get('dtype', '?')} [{extents}]"


def _value(value: Mapping[str, Any]) -> str:
    return f"{_name(value['name'])}: {_type(value)}{_others(value, canonical.VALUE)}"


def _operator(owner: Mapping[str, Any], key: str) -> str:
    domain, overload = (owner.get(part, "") for part in ("domain", "overload"))
    return f"{_name(domain) + '::' if domain else ''}{_name(owner[key])}{':' + _name(overload) if overload else ''}"


def _names(names: list[str]) -> str:
    return ", ".join(_name(name) if name else "-" for name in names)


def _function(function: Mapping[str, Any]) -> Iterator[str]:
    outputs, attributes = _names(function["outputs"]), "".join(f" {_name(a)}" for a in function.get("attributes", []))
    own = _others(function, canonical.FUNCTION)
    head = f"function {_operator(function, 'name')}({_names(function['inputs'])}) -> {outputs}"
    yield f"{head} opset={_json(function['opset'])}{f' attributes{attributes}' if attributes else ''}{own}"
    for key, value in function.get("defaults", {}).items():
        yield f"  default {_name(key)}={_json(value)}"
    yield from _nodes(function["nodes"], "  ")


def _nodes(nodes: list[dict[str, Any]], indent: str) -> Iterator[str]:
    """A line for each node; graphs in its attributes follow it, further to the right."""
    for node in nodes:
        flat, graphs = {}, []
        for key, value in node.get("attributes", {}).items():
            items = value if isinstance(value, list) else [value]
            if any(isinstance(item, dict) and item.get("type") == "graph" for item in items):
                graphs += [(key, item) for item in items]
            else:
                flat[key] = value
        operator = f"{_operator(node, 'op')}({_names(node['inputs'])}) -> {_names(node['outputs'])}"
        scope = f" scope={_name(node['scope'])}" if node.get("scope") else ""
        others = _others(node, canonical.NODE)
        yield f"{indent}node {_name(node['name'])}: {operator}{_others(flat, ())}{scope}{others}"
        for key, graph in graphs:
            yield f"{indent}  graph {_name(key)} {_name(graph.get('name', 'main'))}{_others(graph, canonical.SUBGRAPH)}"
            for side in ("inputs", "outputs"):
                for value in graph[side]:
                    yield f"{indent}    {side[:-1]} {_value(value)}"
            yield from _nodes(graph["nodes"], indent + "    ")


def _parameter(parameter: Parameter, described: Mapping[str, Any]) -> str:
    text = f"parameter {_name(parameter.name)}: {parameter.dtype} {list(parameter.shape)}"
    if parameter.mask is not None:
        text += f" {parameter.nnz:,} of {parameter.size:,} entries, {100 * parameter.density:.2f} %"
    if parameter.sparsity_structure is not None:
        text += f", at most {parameter.sparsity_structure}"
    text += _others(described, canonical.PARAMETER)
    others = _others(described.get("mask", {}), canonical.MASK)
    return f"{text} mask:{others}" if others else text


def _matrix(mask: Mask) -> tuple[int, int, int]:
    """A mask as rows, columns and entries of a column: targets, sources, and the kernel between two of them.

    One of less than two dimensions is one row.
    """
    shape = (1, *mask.shape) if len(mask.shape) < 2 else mask.shape
    return shape[0], shape[1] if len(shape) > 1 else 1, math.prod(shape[2:])


def _line_count(mask: Mask) -> int:
    return min(_matrix(mask)[0], ROWS)


def _rows(mask: Mask, lines: int) -> Iterator[bytes]:
    """A line for each row of a mask: its number, and the columns that exist as ranges.

    Where only some of the entries of a column exist, a colon and their number follow it, and a hash the row. A row of
    more ranges than are listed says how many entries it has, and its hash. Both depend on the row and the shape alone.

    Args:
        mask: of at least one entry that does not exist.
        lines: that may be written; if there are more rows than that, one for the mask.
    """
    rows, columns, kernel = _matrix(mask)
    width = columns * kernel
    together = rows if _line_count(mask) > lines else math.ceil(rows / ROWS)
    if together > 1 or width > _AT_ONCE or mask.size > LISTED:
        for first in range(0, rows, together):
            last = min(first + together, rows)
            yield _line(_numbered(mask, first, last) + _summary(mask, first * width, last * width))
        return
    band = _AT_ONCE // width
    most = min(RANGES_OF_A_ROW, RANGES // rows)
    for first in range(0, rows, band):
        last = min(first + band, rows)
        bits = mask.bits(first * width, last * width).reshape(last - first, columns, kernel)
        texts = enumerate(_listed(bits, most), first)
        yield "".join(f"{_numbered(mask, row, row + 1)}{text}\n" for row, text in texts).encode()


def _numbered(mask: Mask, first: int, last: int) -> str:
    """What stands in front of a line for rows from `first` to before `last`; a vector has no numbers of rows."""
    if len(mask.shape) < 2:
        return "  "
    return f"  [{first}] " if last == first + 1 else f"  [{first}-{last - 1}] "


def _summary(mask: Mask, start: int, stop: int) -> str:
    """How many entries of a part exist, and the hash of its bits, in memory that does not grow with the part."""
    existing, digest = 0, hashlib.sha256()
    for at in range(start, stop, 8 * _AT_ONCE):
        part = mask.packed_bits(at, min(at + 8 * _AT_ONCE, stop))
        existing += count(part)
        digest.update(part.data)
    return f"{existing:,} of {stop - start:,} #{digest.hexdigest()[:12]}"


def _listed(bits: NDArray[np.bool_], most: int) -> Iterator[str]:
    """What exists of each row of bool ``[rows, columns, kernel]``; at most `most` ranges are listed of one."""
    rows, columns, kernel = bits.shape
    counts = bits.sum(axis=2, dtype=np.int32)
    changes = np.ones((rows, columns), np.bool_)
    changes[:, 1:] = counts[:, 1:] != counts[:, :-1]
    starts = np.flatnonzero(changes)
    ends = np.append(starts[1:], rows * columns)
    values = counts.reshape(-1)[starts]
    existing = values > 0
    starts, ends, values = starts[existing], ends[existing], values[existing]
    row_of = starts // columns
    ranges = np.bincount(row_of, minlength=rows)
    totals = counts.sum(axis=1, dtype=np.int64).tolist()
    partial = (counts % kernel).any(axis=1).tolist()
    packed = np.packbits(bits.reshape(rows, -1), axis=1, bitorder="little")
    shown = ranges[row_of] <= most
    columns_of = (starts - row_of * columns)[shown].tolist(), (ends - 1 - row_of * columns)[shown].tolist()
    texts = map(_range, *columns_of, values[shown].tolist(), [kernel] * int(np.count_nonzero(shown)))
    for row, number in enumerate(ranges.tolist()):
        if number > most:
            yield f"{totals[row]:,} of {columns * kernel:,} #{_hash(packed[row].tobytes())}"
        else:
            tail = f" #{_hash(packed[row].tobytes())}" if partial[row] else ""
            yield (" ".join(islice(texts, number)) or "none") + tail


def _range(start: int, end: int, count: int, kernel: int) -> str:
    text = str(start) if start == end else f"{start}-{end}"
    return text if count == kernel else f"{text}:{count}"
