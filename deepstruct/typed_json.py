"""Python values <-> JSON values with their exact types: the vertex keys and the attributes of networkx graphs.

A JSON object with one member whose name begins with ``$`` is tagged: it stands for a value that JSON has no form for.
All else stands for itself. A JSON array is a list among attribute values, and a tuple in keys, which cannot be lists.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from typing import Any, TypeAlias

import numpy as np

from deepstruct.frozen import FrozenMapping, check_text
from deepstruct.losses import Loss

NumpyTypes: TypeAlias = set[str]

_TAG = "$"
_LEVELS = 24
_MOST_BITS = 14_000  # of integers: about 4,200 digits, which Python reads and writes at once
_LARGEST = 2**53 - 1
_INFINITE = {"inf": math.inf, "-inf": -math.inf}


class TypedJsonError(ValueError):
    """A value has no typed JSON form, or a JSON value is none; the text says why, and nothing about the place."""


def numpy_loss(where: str, numpy_types: NumpyTypes) -> Loss:
    """The loss of the types of numpy scalars."""
    why = f"{', '.join(sorted(numpy_types))} become Python's own types with the same values"
    return Loss("numpy types", where, why)


def encode(value: Any, numpy_types: NumpyTypes, levels: int = _LEVELS) -> Any:
    """The JSON value of an attribute value.

    Args:
        value: None, bool, int, float, str, and lists, tuples and dicts of such, exactly of these types. A numpy scalar
            becomes the Python number with its value.
        numpy_types: gets the names of the types of numpy scalars.
        levels: how many levels of JSON arrays and objects there may be.

    Raises:
        TypedJsonError: the value, or one inside it, has no such form.
    """
    kind = type(value)
    if kind is list:
        return [encode(item, numpy_types, levels - 1) for item in _within(value, levels)]
    if kind is tuple:
        return {"$tuple": [encode(item, numpy_types, levels - 2) for item in _within(value, levels - 1)]}
    if kind is not dict:
        return _scalar(value, numpy_types)
    _within(value, levels)
    if all(type(key) is str for key in value) and not (len(value) == 1 and next(iter(value)).startswith(_TAG)):
        return {_text(key): encode(item, numpy_types, levels - 1) for key, item in value.items()}
    _within(value, levels - 2)
    return {"$dict": [[encode_key(k, numpy_types), encode(v, numpy_types, levels - 3)] for k, v in value.items()]}


def encode_key(value: Any, numpy_types: NumpyTypes, levels: int = _LEVELS) -> Any:
    """The JSON value of a key: as `encode`, but of None, bool, int, float, str and tuples of such, an array each.

    Raises:
        TypedJsonError: the key has no such form, or contains NaN.
    """
    if type(value) is tuple:
        return [encode_key(item, numpy_types, levels - 1) for item in _within(value, levels)]
    if isinstance(value, (float, np.floating)) and math.isnan(value):
        raise TypedJsonError("NaN is not equal to itself, so that no key with it can be found again; use another key")
    return _scalar(value, numpy_types)


def _within(value: Any, levels: int) -> Any:
    if levels < 1:
        raise TypedJsonError(
            f"it has more than {_LEVELS} levels of JSON, of which a list takes one, a tuple two and a dict one or three"
        )
    return value


def _scalar(value: Any, numpy_types: NumpyTypes) -> Any:
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is int:
        return value if abs(value) <= _LARGEST else {"$int": _digits(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if value is None or kind is bool:
        return value
    if isinstance(value, np.generic):
        plain = value.item()
        if type(plain) in (bool, int, float, str):
            numpy_types.add(f"numpy.{kind.__name__}")
            return _scalar(plain, numpy_types)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    raise TypedJsonError(f"a {name} has no JSON form that comes back the same")


def _text(value: str) -> str:
    try:
        return check_text(value)
    except TypeError as error:
        raise TypedJsonError(str(error)) from error


def _digits(value: int) -> str:
    if value.bit_length() > _MOST_BITS:
        raise TypedJsonError(f"an integer has more than {_MOST_BITS} bits")
    try:
        return str(value)
    except ValueError as error:  # the interpreter was told to allow fewer digits
        raise TypedJsonError(str(error)) from error


def decode(value: Any) -> Any:
    """The attribute value of a frozen JSON value (`deepstruct.frozen`), as fresh lists and dicts.

    Raises:
        TypedJsonError: a tagged object is none of those that `encode` writes.
    """
    if isinstance(value, tuple):
        return [decode(item) for item in value]
    if not isinstance(value, FrozenMapping):
        return value
    tag, content = _tagged(value)
    if tag == "$tuple":
        return tuple(decode(item) for item in _array(content, tag))
    if tag == "$dict":
        return _pairs(content)
    if tag:
        return _number(tag, content)
    return {key: decode(item) for key, item in value.items()}


def decode_key(value: Any) -> Hashable:
    """The key of a frozen JSON value.

    Raises:
        TypedJsonError: it is none that `encode_key` writes.
    """
    if isinstance(value, tuple):
        return tuple(decode_key(item) for item in value)
    if not isinstance(value, FrozenMapping):
        key: Hashable = value
        return key
    tag, content = _tagged(value)
    number = _number(tag, content)
    if number != number:
        raise TypedJsonError("NaN is no key")
    return number


def _tagged(value: FrozenMapping[Any]) -> tuple[str, Any]:
    """Tag and content of a tagged object, or ``""`` and nothing."""
    if len(value) == 1:
        ((tag, content),) = value.items()
        if tag.startswith(_TAG):
            return tag, content
    return "", None


def _number(tag: str, content: Any) -> int | float:
    if tag == "$int" and isinstance(content, str) and re.fullmatch(r"-?[1-9][0-9]{0,4999}", content):
        try:
            return int(content)
        except ValueError as error:  # more digits than the interpreter allows
            raise TypedJsonError(str(error)) from error
    if tag == "$float" and content == "nan":
        return math.nan
    if tag == "$float" and isinstance(content, str) and content in _INFINITE:
        return _INFINITE[content]
    if tag in ("$int", "$float"):
        raise TypedJsonError(f"{content!r:.40} is not what {tag} stands for")
    raise TypedJsonError(f"an object with the member {tag!r:.40} stands for nothing known here")


def _array(content: Any, tag: str) -> tuple[Any, ...]:
    if not isinstance(content, tuple):
        raise TypedJsonError(f"{tag} takes an array, not {content!r:.40}")
    return content


def _pairs(content: Any) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for pair in _array(content, "$dict"):
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypedJsonError(f"$dict takes pairs of a key and a value, not {pair!r:.40}")
        key = decode_key(pair[0])
        if key in result:
            raise TypedJsonError(f"the key {key!r:.40} occurs twice")
        result[key] = decode(pair[1])
    return result
