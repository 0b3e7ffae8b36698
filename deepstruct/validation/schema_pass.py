"""The schema pass: what the JSON Schema of the document says, in codes and pointers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any

import jsonschema_rs

from deepstruct import schemas
from deepstruct.errors import Fault, bounded, pointer

_CODES = {
    "required": "MISSING_PROPERTY",
    "type": "TYPE_MISMATCH",
    "additionalProperties": "UNEXPECTED_PROPERTY",
}
_MOST = 1_000
"""Faults that are looked for; the reader of documents finds the same ones by itself."""


def faults(document: Any, *, strict: bool) -> list[Fault]:
    """What the schema finds in a parsed document whose strings are all Unicode text.

    Args:
        document: the JSON value.
        strict: use the closed twin, which allows no members that it does not name.
    """
    found = (fault for error in _validator(strict).iter_errors(document) for fault in _faults(error, strict))
    return list(islice(bounded(found), _MOST))


@cache
def _validator(strict: bool) -> jsonschema_rs.Draft7Validator:
    return jsonschema_rs.Draft7Validator(schemas.structure_schema(strict=strict))


def _faults(error: jsonschema_rs.ValidationError, strict: bool) -> Iterator[Fault]:
    place = pointer(*error.instance_path)
    keyword = str(error.schema_path[-1]) if error.schema_path else ""
    code = _CODES.get(keyword, "INVALID_VALUE")
    names = getattr(error.kind, "unexpected", None)
    if code == "UNEXPECTED_PROPERTY" and names and strict:
        for name in names:
            yield Fault(code, place + pointer(name), f"the strict schema has no member {name!r:.60} here")
    else:
        yield Fault(code, place, _shorten(error.message))


def _shorten(message: str) -> str:
    """A message without the middle of the long values that it quotes."""
    return re.sub(r"(.{120}).+(.{60})", r"\1 ... \2", message, flags=re.DOTALL) if len(message) > 240 else message
