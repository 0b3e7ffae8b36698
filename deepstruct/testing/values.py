"""Hypothesis strategies for the parts of a structure: shapes, masks, names, JSON values, attributes of operators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from deepstruct.mask import Mask
from deepstruct.node import AttributeValue, EmptyList
from deepstruct.tensor import Tensor
from deepstruct.value_info import TypeInfo

SCOPES = ("", "fc", "blöcke.0", "~/x", "a/b c", "層", 'q"<&>', "e\u0301", "é")
"""Beginnings of names: none, plain, and such as XML, paths or normalised Unicode change."""


T = TypeVar("T")


@cache
def _below(count: int) -> st.SearchStrategy[int]:
    return st.integers(0, count - 1)


def choose(draw: st.DrawFn, options: Sequence[T]) -> T:
    """One of some options, the first one being the simplest; takes a fraction of the time of `sampled_from`."""
    return options[draw(_below(len(options)))]


def maybe(draw: st.DrawFn) -> bool:
    """False or True, the former being simpler."""
    return bool(draw(_below(2)))


@st.composite
def shapes(draw: st.DrawFn, least: int = 0, most: int = 4) -> tuple[int, ...]:
    """Shapes of `least` to `most` extents from 0 to 9, all different, so that a transposed array is seen."""
    return tuple(draw(st.lists(st.integers(0, 9), min_size=least, max_size=most, unique=True)))


@st.composite
def masks(draw: st.DrawFn, shape: tuple[int, ...] | None = None) -> Mask:
    """Masks that are empty, full, with one entry, random, made of whole rows or columns, or N of each M in a row.

    Args:
        draw: given by hypothesis.
        shape: of the mask; any of `shapes` if None.
    """
    return draw_mask(draw, draw(shapes()) if shape is None else shape)


def draw_mask(draw: st.DrawFn, shape: tuple[int, ...]) -> Mask:
    """One of `masks`."""
    size = math.prod(shape)
    kind = choose(draw, ("empty", "full", "one", "random", "blocks", "n of m"))
    if kind == "empty" or not size:
        return Mask.from_array(np.zeros(shape, dtype=np.bool_))
    if kind == "full":
        return Mask.full(shape)
    rng = np.random.default_rng(draw(_below(2**16)))
    if kind == "one":
        return Mask.from_indices(shape, rng.integers(size, size=1))
    if kind == "blocks" and shape:
        axis = choose(draw, range(len(shape)))
        line = rng.random(shape[axis]) < 0.5
        along = [-1 if i == axis else 1 for i in range(len(shape))]
        return Mask.from_array(np.broadcast_to(line.reshape(along), shape).copy())
    if kind == "n of m" and shape:
        return Mask.from_array(_n_of_m(rng, shape, *choose(draw, ((1, 2), (2, 4), (1, 4)))))
    return Mask.from_array(np.asarray(rng.random(shape) < choose(draw, (0.5, 0.02, 0.1, 0.9))))


def _n_of_m(rng: np.random.Generator, shape: tuple[int, ...], kept: int, group: int) -> NDArray[np.bool_]:
    """Bool array of `shape` with the `kept` largest of each `group` along the last axis of random scores."""
    scores = rng.random(shape)
    ragged = -shape[-1] % group
    padded = np.concatenate([scores, np.full((*shape[:-1], ragged), -1.0)], axis=-1).reshape(-1, group)
    chosen = np.argsort(np.argsort(-padded, axis=1), axis=1) < kept
    return chosen.reshape(*shape[:-1], shape[-1] + ragged)[..., : shape[-1]]


_TEXTS = st.sampled_from(["", "a", "ü", "1", "NaN", "\N{GRINNING FACE}", "a\tb\n", "</x>", "\\u0000", "\x7f"])
_SCALARS = st.sampled_from([None, True, False, 0, 1, -1, 2**53 - 1, 0.0, -0.0, 1.0, 0.1, 5e-324, 1e300]) | _TEXTS
_KEYS = st.sampled_from(["note", "ü", "a/b", "~", "", "A b", "1"])
_LISTS = st.lists(_SCALARS, max_size=3)
_JSON = _SCALARS | _LISTS | st.dictionaries(_KEYS, _SCALARS | _LISTS, max_size=3) | st.lists(_LISTS, max_size=2)


def json_values() -> st.SearchStrategy[Any]:
    """JSON values of every type, as user data may have them: null, booleans, integers, floats, text, arrays, objects.

    ``1``, ``1.0`` and ``true`` are told apart, and ``0.0`` and ``-0.0``; integers stay within 2^53 - 1, floats finite.
    """
    return _JSON


USER_DATA = st.dictionaries(_KEYS, _JSON, max_size=2)
"""JSON objects for the attributes of a structure, none of which names a family."""

UNKNOWN_MEMBERS = st.dictionaries(st.sampled_from(["x-note", "x-ü"]), _JSON, min_size=1, max_size=1)
"""Members that no version of the document has, for `extra`."""


_INTS = st.sampled_from([0, 1, -1, 2**53, 2**63 - 1, -(2**63)])
_FLOATS = st.sampled_from([0.0, -0.0, 1.0, 0.1, 3.4028234663852886e38, 1e-45, math.inf, -math.inf, math.nan])
_TENSORS = st.sampled_from(
    [
        Tensor("int64", (2, 3), (0, 1, 2, -1, 2**63 - 1, -(2**63))),
        Tensor("bool", (2,), (True, False)),
        Tensor("float32", (), (-0.0,)),
        Tensor("string", (3,), ("", "ü", "a/b")),
        Tensor("int32", (0, 4), ()),
    ]
)
_TYPES = st.sampled_from(
    [
        TypeInfo("float32", ("n", 3, None)),
        TypeInfo("int64", None),
        TypeInfo("string", (), containers=("optional", "sequence", "map:int64")),
    ]
)
_BYTES = st.sampled_from([b"\xff", b"\x00\xfe\xff", b"\xed\xa0\x80"])
_EMPTY = st.sampled_from([EmptyList("INTS"), EmptyList("FLOATS"), EmptyList("STRINGS"), EmptyList("TENSORS")])


def _several(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(items, min_size=1, max_size=3).map(tuple)


_SINGLES = (_INTS, _FLOATS, _TEXTS, _TENSORS, _TYPES)

ATTRIBUTE_VALUES: st.SearchStrategy[list[AttributeValue]] = st.lists(
    st.one_of(*_SINGLES, *map(_several, _SINGLES), _BYTES, _several(_TEXTS | _BYTES), _EMPTY), max_size=3
)
"""Values of ONNX attributes of every kind, except graphs and what refers to something else."""
