"""The JSON profile of documents: what may be parsed (`docs/format.md`, "JSON profile") and how it is laid out."""

from __future__ import annotations

import collections
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from deepstruct import files
from deepstruct.errors import DocumentError, Fault, bounded, pointer
from deepstruct.frozen import check_text
from deepstruct.limits import Limits, variable

LARGEST_INTEGER = 2**53 - 1


def read(path: Path, limits: Limits) -> Any:
    """The JSON value in a file, of which no more is read than `limits` allow.

    Raises:
        UnreadableFileError: the operating system does not let us read it.
        DocumentError: it is no JSON of the profile, or larger or deeper than `limits` allow.
    """
    return parse(files.read_bytes(path, limits.document_bytes + 1), limits)


def write(file: IO[bytes], document: dict[str, Any]) -> int:
    """Writes a document's text to a binary file; returns how many values readers will count in it."""
    count = 0
    for piece in layout(document):
        file.write(piece.encode())
        count += _values(piece)
    return count


def _values(text: str) -> int:
    """Each JSON value but the first follows one of these; strings may only push the count up."""
    return sum(map(text.count, ",[{:"))


def parse(content: bytes, limits: Limits | None = None) -> Any:
    """The JSON value of a file's content.

    Raises:
        DocumentError: it is no JSON of the profile, or larger or deeper than `limits` allow; with every fault found.
    """
    value, faults = examine(content, limits)
    if faults:
        raise DocumentError("document", faults)
    return value


def examine(content: bytes, limits: Limits | None = None) -> tuple[Any, list[Fault]]:
    """The JSON value of a file's content, and how its text breaks the profile.

    Of two members of one name the last counts. If the text is no JSON at all or beyond `limits`, the value is None, and
    the last fault says so.
    """
    limits = limits or Limits()
    if len(content) > limits.document_bytes:
        return None, [_limit(f"{len(content)} bytes", limits, "document_bytes")]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"not UTF-8 text (byte {content[error.start]:#04x} at offset {error.start}); is it a document?"
        before = content[: error.start].decode("utf-8")
        return None, [_at(Fault("INVALID_JSON", "", message), before, len(before))]
    del content
    count = _values(text)
    if count > limits.values:
        return None, [_limit(f"about {count} values", limits, "values")]
    parser = _Parser()
    try:
        value = parser.parse(text)
    except json.JSONDecodeError as error:
        ended = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        message = f"not JSON: {error.msg.removesuffix(' at')}{'; is the file truncated?' if ended else ''}"
        return None, [_at(Fault("INVALID_JSON", "", message), text, error.pos)]
    except RecursionError:
        return None, [_at(_limit("deeper nesting", limits, "depth"), text, _too_deep(text, limits.depth))]
    levels = depth(value)
    if levels > limits.depth:
        fault = _limit(f"{levels} levels of nesting", limits, "depth")
        return None, [_at(fault, text, _too_deep(text, limits.depth))]
    suspicious = parser.suspicious or ("\\u" in text and _SURROGATE.search(text) is not None)
    return value, list(bounded(_breaches(value))) if suspicious else []


def _limit(claim: str, limits: Limits, name: str) -> Fault:
    message = f"{claim}, more than the {getattr(limits, name)} allowed; set {variable(name)} to allow it"
    return Fault("LIMIT_EXCEEDED", "", message)


def _at(fault: Fault, text: str, offset: int) -> Fault:
    """The fault with line and column of a place in the text."""
    start = text.rfind("\n", 0, offset) + 1
    return replace(fault, line=text.count("\n", 0, offset) + 1, column=offset - start + 1)


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""Half of a surrogate pair can only come from an escape."""

_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|$)|[\[{]|[\]}]', re.DOTALL)


def _too_deep(text: str, most: int) -> int:
    """Where the first array or object below `most` others begins."""
    level = 0
    for match in _BRACKETS.finditer(text):
        level += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if level > most:
            return match.start()
    return 0


class _Twice(dict[str, Any]):
    """An object with members of the same name; `names` has those that occur again."""

    names: tuple[str, ...]


class _Beyond(float):
    """A number that no double holds, or that is none; `spelling` is how it stands in the text."""

    spelling: str


class _Parser:
    """Parses JSON and marks in the value what the profile does not allow."""

    def __init__(self) -> None:
        self.suspicious = False

    def parse(self, text: str) -> Any:
        """The value of a text; of two members of one name the last counts."""
        return json.loads(
            text,
            object_pairs_hook=self._object,
            parse_constant=self._float,
            parse_float=self._float,
            parse_int=self._int,
        )

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) == len(pairs):
            return result
        self.suspicious = True
        twice = _Twice(result)
        counts = collections.Counter(name for name, _ in pairs)
        twice.names = tuple(name for name, times in counts.items() if times > 1)
        return twice

    def _float(self, text: str) -> float:
        value = float(text)
        if math.isfinite(value):
            return value
        self.suspicious = True
        beyond = _Beyond(value)
        beyond.spelling = text
        return beyond

    def _int(self, text: str) -> int | float:
        """An int as far as every JSON reader has it exactly; beyond, a number is a double however it is spelled."""
        if len(text) > 17 or abs(int(text)) > LARGEST_INTEGER:
            return self._float(text)
        return int(text)


_Place = tuple["_Place", str | int] | None
"""Where a value is: the place of what holds it, and its key or position there; None for the root."""


def _breaches(value: Any) -> Iterator[Fault]:
    """What the profile does not allow within a parsed value, in the order of the text."""
    stack: list[tuple[Any, _Place]] = [(value, None)]
    while stack:
        current, place = stack.pop()
        if isinstance(current, _Twice):
            for name in current.names:
                message = f"the key {name!r:.80} occurs twice in one object"
                yield Fault("DUPLICATE_KEY", _pointer((place, name)), message)
        if isinstance(current, _Beyond):
            reason = "is beyond the largest float64" if current.spelling[-1].isdigit() else "is not JSON"
            yield Fault("NON_FINITE_NUMBER", _pointer(place), f"{current.spelling:.40} {reason}")
        elif isinstance(current, str):
            if not _is_text(current):
                yield Fault("INVALID_VALUE", _pointer(place), "a string contains half of a surrogate pair")
        elif isinstance(current, dict):
            for name in current:
                if not _is_text(name):
                    message = "a key contains half of a surrogate pair"
                    yield Fault("INVALID_VALUE", _pointer((place, name)), message)
            stack += [(item, (place, name)) for name, item in reversed(current.items())]
        elif isinstance(current, list):
            stack += [(item, (place, i)) for i, item in reversed(list(enumerate(current)))]


def _pointer(place: _Place) -> str:
    parts = []
    while place is not None:
        place, part = place
        parts.append(part)
    return pointer(*reversed(parts))


def _is_text(text: str) -> bool:
    try:
        check_text(text)
    except TypeError:
        return False
    return True


def depth(value: Any) -> int:
    """Levels of arrays and objects in each other, of which `value` is the first."""
    deepest, stack = 0, [(value, 1)]
    while stack:
        current, level = stack.pop()
        if isinstance(current, (dict, list)):
            deepest = max(deepest, level)
            items = current.values() if isinstance(current, dict) else current
            stack.extend((item, level + 1) for item in items if isinstance(item, (dict, list)))
    return deepest


# Objects and arrays whose members stand on lines of their own; everything else is written on one line.
_SPREAD = {"", "/graph", "/graph/inputs", "/graph/outputs", "/graph/constants", "/parameters"}


def _has_nodes(value: Any) -> bool:
    """Whether there is a graph in an attribute or a function, whose nodes stand on lines of their own too."""
    if isinstance(value, list):
        return any(_has_nodes(item) for item in value if isinstance(item, dict))
    if not isinstance(value, dict) or "encoding" in value:
        return False
    return isinstance(value.get("nodes"), list) or any(_has_nodes(item) for item in value.values())


def layout(document: dict[str, Any]) -> Iterator[str]:
    """A document as text in pieces: one node, value and parameter a line, so that a change is a line.

    The text is a function of the document alone and ends with a newline.
    """
    yield from _pieces(document, "", "")
    yield "\n"


def _pieces(value: Any, place: str, indent: str) -> Iterator[str]:
    operators = place.startswith(("/graph/nodes", "/graph/functions"))
    spread = place in _SPREAD or (operators and (place.endswith("/nodes") or _has_nodes(value)))
    if not spread or not isinstance(value, (dict, list)) or not value:
        yield json.dumps(value, ensure_ascii=False, allow_nan=False)
        return
    inner = indent + "  "
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    members = value.items() if isinstance(value, dict) else enumerate(value)
    separator = opening + "\n"
    for key, item in members:
        label = json.dumps(key, ensure_ascii=False) + ": " if isinstance(value, dict) else ""
        yield separator + inner + label
        yield from _pieces(item, place + pointer(key), inner)
        separator = ",\n"
    yield "\n" + indent + closing
