"""Typed JSON: every value comes back with its exact type, plain values are plain, and all else is refused clearly."""

from __future__ import annotations

import enum
import json
import math
from collections import OrderedDict
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from typed_graphs import KEYS, VALUES, exact

from deepstruct import jsonprofile, typed_json
from deepstruct.frozen import FrozenMapping, freeze
from deepstruct.typed_json import TypedJsonError


def through_text(value: Any) -> Any:
    """A JSON value written, read by the profile and frozen, as a structure holds it."""
    return freeze(jsonprofile.parse(json.dumps(value, allow_nan=False, ensure_ascii=False).encode()))


@given(value=VALUES)
def test_values_come_back(value: Any) -> None:
    assert exact(typed_json.decode(through_text(typed_json.encode(value, set())))) == exact(value)


@given(key=KEYS)
def test_keys_come_back(key: Any) -> None:
    assert exact(typed_json.decode_key(through_text(typed_json.encode_key(key, set())))) == exact(key)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, 1.0, True, None, "a"], [1, 1.0, True, None, "a"]),
        ({"a": {"$x": 1, "b": []}}, {"a": {"$x": 1, "b": []}}),
        ((1, [2]), {"$tuple": [1, [2]]}),
        ({"$tuple": [1]}, {"$dict": [["$tuple", [1]]]}),
        ({1: 2, (3, "a"): ()}, {"$dict": [[1, 2], [[3, "a"], {"$tuple": []}]]}),
        (2**53, {"$int": "9007199254740992"}),
        (-math.inf, {"$float": "-inf"}),
        ([math.nan], [{"$float": "nan"}]),
    ],
    ids=repr,
)
def test_the_forms_of_values(value: Any, expected: Any) -> None:
    assert exact(typed_json.encode(value, set())) == exact(expected)


def test_the_forms_of_keys() -> None:
    assert typed_json.encode_key((1, ("a", 2**60)), set()) == [1, ["a", {"$int": "1152921504606846976"}]]
    assert typed_json.encode_key(math.inf, set()) == {"$float": "inf"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.float32(0.1), 0.10000000149011612),
        (np.float64(0.1), 0.1),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        ({"a": [np.float16(2)]}, {"a": [2.0]}),
    ],
    ids=repr,
)
def test_numpy_scalars_become_python_values(value: Any, expected: Any) -> None:
    types: set[str] = set()
    assert exact(typed_json.decode(through_text(typed_json.encode(value, types)))) == exact(expected)
    assert len(types) == 1
    assert next(iter(types)).startswith("numpy.")


class Colour(enum.IntEnum):
    RED = 1


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (object(), "a object has no JSON form"),
        ({1, 2}, "a set has no"),
        (b"a", "a bytes has no"),
        (1j, "a complex has no"),
        (Colour.RED, "Colour has no JSON form"),
        (OrderedDict(a=1), r"a collections.OrderedDict has no"),
        (np.zeros(2), r"a numpy.ndarray has no"),
        (np.longdouble(1), r"a numpy.longdouble has no"),
        (np.datetime64("2020-01-01"), "datetime64 has no"),
        (nx.DiGraph(), "DiGraph has no"),
        ("\ud800", "surrogate"),
        ({"\udfff": 1}, "surrogate"),
        ({math.nan: 1}, "NaN is not equal to itself"),
        (1 << 20_000, "more than 14000 bits"),
        (nested(25), "more than 24 levels"),
        (nested(100_000), "more than 24 levels"),
    ],
    ids=range(16),
)
def test_what_has_no_form_is_refused(value: Any, match: str) -> None:
    for whole in (value, [1, {"a": (value,)}]):
        with pytest.raises(TypedJsonError, match=match):
            typed_json.encode(whole, set())


def test_the_deepest_value_comes_back() -> None:
    assert typed_json.decode(freeze(typed_json.encode(nested(24), set()))) == nested(24)
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(TypedJsonError, match="levels"):
        typed_json.encode(endless, set())


@pytest.mark.parametrize("key", [math.nan, (1, (np.float32("nan"),)), [1], frozenset(), (1, {}), b"", "\ud800"])
def test_what_is_no_key_is_refused(key: Any) -> None:
    with pytest.raises(TypedJsonError):
        typed_json.encode_key(key, set())


@pytest.mark.parametrize(
    "value",
    [
        {"$int": "1.5"},
        {"$int": 7},
        {"$int": "007"},
        {"$int": "1_0"},
        {"$int": "9" * 5000},
        {"$int": "9" * 10**6},
        {"$float": "infinity"},
        {"$float": 1.0},
        {"$float": []},
        {"$set": []},
        {"$": 1},
        {"$tuple": 1},
        {"$dict": {}},
        {"$dict": [[1]]},
        {"$dict": [[1, 2], [1.0, 3]]},
        {"$dict": [[{"$float": "nan"}, 1]]},
        {"$dict": [[{"a": 1}, 1]]},
    ],
    ids=range(17),
)
def test_hostile_tags_are_refused(value: Any) -> None:
    with pytest.raises(TypedJsonError):
        typed_json.decode(freeze([value]))


@pytest.mark.parametrize("key", [{"$tuple": []}, {"a": 1}, {}, {"$float": "nan"}, [{"$dict": []}]], ids=repr)
def test_hostile_keys_are_refused(key: Any) -> None:
    with pytest.raises(TypedJsonError):
        typed_json.decode_key(freeze(key))


def test_decoded_values_are_fresh() -> None:
    frozen = FrozenMapping({"a": [1]})
    first, second = typed_json.decode(frozen), typed_json.decode(frozen)
    first["a"].append(2)
    assert second == {"a": [1]}
