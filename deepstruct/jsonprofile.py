"""The JSON profile of documents: what may be parsed (`docs/format.md`, "JSON profile") and how it is laid out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from deepstruct import files
from deepstruct.errors import DocumentError, Fault, pointer
from deepstruct.limits import Limits, variable

LARGEST_INTEGER = 2**53 - 1


class _RefusedError(ValueError):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


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
        DocumentError: it is no JSON of the profile, or larger or deeper than `limits` allow.
    """
    limits = limits or Limits()
    if len(content) > limits.document_bytes:
        raise _fault("LIMIT_EXCEEDED", _beyond(f"{len(content)} bytes", limits, "document_bytes"))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"not UTF-8 text (byte {content[error.start]:#04x} at offset {error.start}); is it a document?"
        raise _fault("INVALID_JSON", message) from error
    count = _values(text)
    if count > limits.values:
        raise _fault("LIMIT_EXCEEDED", _beyond(f"about {count} values", limits, "values"))
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except json.JSONDecodeError as error:
        at = f"line {error.lineno} column {error.colno}"
        ended = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        message = f"not JSON, {at}: {error.msg.removesuffix(' at')}{'; is the file truncated?' if ended else ''}"
        raise _fault("INVALID_JSON", message) from error
    except RecursionError as error:
        raise _fault("LIMIT_EXCEEDED", _beyond("deeper nesting", limits, "depth")) from error
    except _RefusedError as error:
        raise _fault(error.code, error.message) from error
    if "\\ud" in text.lower():  # half of a surrogate pair can only come from an escape
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise _fault("INVALID_VALUE", "a string contains half of a surrogate pair") from error
    if depth(value) > limits.depth:
        raise _fault("LIMIT_EXCEEDED", _beyond(f"{depth(value)} levels of nesting", limits, "depth"))
    return value


def _fault(code: str, message: str) -> DocumentError:
    return DocumentError("document", [Fault(code, "", message)])


def _beyond(claim: str, limits: Limits, name: str) -> str:
    return f"{claim}, more than the {getattr(limits, name)} allowed; set {variable(name)} to allow it"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # set.add gives None
        raise _RefusedError("DUPLICATE_KEY", f"the key {twice!r:.80} occurs twice in one object")
    return result


def _constant(text: str) -> float:
    raise _RefusedError("NON_FINITE_NUMBER", f"{text} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _RefusedError("NON_FINITE_NUMBER", f"{text:.40} is beyond the largest float64")
    return value


def _int(text: str) -> int | float:
    """An int as far as every JSON reader has it exactly; beyond, a number is a double however it is spelled."""
    if len(text) > 17 or abs(int(text)) > LARGEST_INTEGER:
        return _float(text)
    return int(text)


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
