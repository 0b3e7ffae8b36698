"""Positions: from JSON pointers (RFC 6901) to line and column in the text, without a second tree of the document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from json.decoder import scanstring  # type: ignore[attr-defined]  # there, but not in the stubs
from typing import Any

from deepstruct.errors import Fault
from deepstruct.validation.codes import table

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


@dataclass(slots=True)
class _Wanted:
    """A place that is looked for, and what is looked for below it."""

    pointer: str
    below: dict[str, _Wanted] = field(default_factory=dict)


def locate(text: str, faults: Iterable[Fault]) -> list[Fault]:
    """The faults in the order of the text, each with its line and column, from 1, in Unicode code points.

    A fault whose pointer leads to nothing is at the innermost object or array on the way there. Of members with the
    same name the last counts, as it does for parsers.

    Args:
        text: JSON.
        faults: those that have a line already keep it.
    """
    found = list(faults)
    root = _Wanted("")
    for fault in found:
        if fault.line is None:
            current = root
            for token in fault.pointer.split("/")[1:]:
                current = current.below.setdefault(token, _Wanted(f"{current.pointer}/{token}"))
    places = _Places(text)
    places.walk(_skip(text, 0), root)
    offsets = [_offset(fault, places) if fault.line is None else None for fault in found]
    lines = _lines(text, {offset for offset in offsets if offset is not None})
    for i, offset in enumerate(offsets):
        if offset is not None:
            line, column = lines[offset]
            found[i] = replace(found[i], line=line, column=column)
    return sorted(found, key=lambda fault: (fault.line or 1, fault.column or 1))


def _offset(fault: Fault, places: _Places) -> int:
    code = table().get(fault.code)
    if code is not None and code.anchor == "key" and fault.pointer in places.keys:
        return places.keys[fault.pointer]
    pointer = fault.pointer
    while pointer not in places.values:
        pointer = pointer.rpartition("/")[0]
    return places.values[pointer]


class _Places:
    """Where the values that were looked for begin, and their keys, by pointer."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.values: dict[str, int] = {}
        self.keys: dict[str, int] = {}

    def walk(self, at: int, wanted: _Wanted) -> int:
        """Notes the value that begins at an offset and what is wanted of it; returns the offset behind it."""
        self.values[wanted.pointer] = at
        if wanted.below and self.text[at] == "{":
            return self._members(at, wanted)
        if wanted.below and self.text[at] == "[":
            return self._items(at, wanted)
        return self._pass(at)

    def _members(self, at: int, wanted: _Wanted) -> int:
        text = self.text
        at = _skip(text, at + 1)
        while text[at] != "}":
            start = at
            name, at = scanstring(text, at + 1)
            at = _skip(text, _skip(text, at) + 1)
            child = wanted.below.get(name.replace("~", "~0").replace("/", "~1"))
            if child is None:
                at = self._pass(at)
            else:
                self.keys[child.pointer] = start
                at = self.walk(at, child)
            at = _skip(text, at)
            if text[at] == ",":
                at = _skip(text, at + 1)
        return at + 1

    def _items(self, at: int, wanted: _Wanted) -> int:
        text, number = self.text, 0
        at = _skip(text, at + 1)
        while text[at] != "]":
            child = wanted.below.get(str(number))
            at = _skip(text, self._pass(at) if child is None else self.walk(at, child))
            if text[at] == ",":
                at = _skip(text, at + 1)
            number += 1
        return at + 1

    def _pass(self, at: int) -> int:
        """The offset behind the value that begins at an offset."""
        end: int = _DECODER.raw_decode(self.text, at)[1]
        return end


def _skip(text: str, at: int) -> int:
    """The offset of the next character that is no white space."""
    match: Any = _SPACE.match(text, at)
    end: int = match.end()
    return end


def _lines(text: str, offsets: set[int]) -> dict[int, tuple[int, int]]:
    """Offset -> line and column, in one pass over the text."""
    found = {}
    line, start, before = 1, 0, 0
    for offset in sorted(offsets):
        passed = text.count("\n", before, offset)
        if passed:
            line += passed
            start = text.rfind("\n", before, offset) + 1
        found[offset] = (line, offset - start + 1)
        before = offset
    return found
