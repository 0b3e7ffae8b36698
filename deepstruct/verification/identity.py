"""Tier 1, identity: the same masks, and every number that exists with the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepstruct.verification.operations import GraphDifference, LeafPair

MOST_CONNECTIONS = 10
"""Differing entries that are listed one by one; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A tensor that depends on no graph input.

    Attributes:
        array: dense; masked entries are 0.
        kept: bool of the same shape, the entries that exist; None if nothing says that some do not.
    """

    array: NDArray[Any]
    kept: NDArray[np.bool_] | None = None

    def transposed(self, permutation: tuple[int, ...] | None) -> Leaf:
        """The same tensor with its axes in another order."""
        if permutation is None or len(permutation) != self.array.ndim:
            return self
        kept = None if self.kept is None else np.transpose(self.kept, permutation)
        return Leaf(np.transpose(self.array, permutation), kept)

    def with_rank(self, rank: int) -> Leaf:
        """The same tensor with more or fewer leading extents of 1, as far as there are such."""
        shape = self.array.shape
        while len(shape) > rank and shape[0] == 1:
            shape = shape[1:]
        shape = (1,) * (rank - len(shape)) + shape
        return Leaf(self.array.reshape(shape), None if self.kept is None else self.kept.reshape(shape))


@dataclass(frozen=True, slots=True)
class Connection:
    """One entry that is not the same on both sides.

    Attributes:
        index: in the orientation of the first structure.
        a: the number there, ``""`` if the entry does not exist.
        b: likewise in the second structure.
    """

    index: tuple[int, ...]
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """Two tensors that should be the same and are not.

    Attributes:
        a: name in the first structure.
        b: name in the second.
        shape: in the first structure.
        message: what is different, in a few words.
        lost: entries that exist in the first structure only.
        new: entries that exist in the second structure only.
        changed: entries that exist in both, with other bits.
        connections: the first of them, at most `MOST_CONNECTIONS`.
    """

    a: str
    b: str
    shape: tuple[int, ...]
    message: str
    lost: int = 0
    new: int = 0
    changed: int = 0
    connections: tuple[Connection, ...] = ()

    @property
    def differing(self) -> int:
        """Number of entries that differ."""
        return self.lost + self.new + self.changed


@dataclass(frozen=True, slots=True)
class Identity:
    """Verdict of the first tier.

    Attributes:
        verdict: ``failed`` if a tensor differs, or the graphs do in what they compute; ``uninformative`` if the graphs
            are spelled in different ways, so that not all of them was compared.
        tensors: pairs that were compared.
        entries: in those of the first structure.
        kept: of which exist there.
        masks_only: numbers were not compared, because one side has none.
        differences: tensors that are not the same.
        graph: places where the graphs are not the same.
        notes: what was taken for the same although it is written in another way.
    """

    verdict: Literal["passed", "failed", "uninformative"]
    tensors: int = 0
    entries: int = 0
    kept: int = 0
    masks_only: bool = False
    differences: tuple[TensorDifference, ...] = ()
    graph: tuple[GraphDifference, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The tier as a JSON object."""
        return asdict(self)


class Comparison:
    """Compares pairs of tensors, one after the other."""

    def __init__(self, *, masks_only: bool = False) -> None:
        """Nothing compared yet.

        Args:
            masks_only: the numbers only stand for entries that exist, because one side has none.
        """
        self._masks_only = masks_only
        self._tensors = self._entries = self._kept = 0
        self._differences: list[TensorDifference] = []
        self._notes: dict[str, None] = {}

    def add(self, pair: LeafPair, a: Leaf, b: Leaf) -> None:
        """Compares two tensors."""
        self._tensors += 1
        self._entries += a.array.size
        self._kept += a.array.size if a.kept is None else int(np.count_nonzero(a.kept))
        difference = self._compared(pair, a, b)
        if difference is not None:
            self._differences.append(difference)

    def differ(self, pairs: Sequence[LeafPair]) -> bool:
        """Whether one of some pairs was found to be different."""
        found = {(difference.a, difference.b) for difference in self._differences}
        return any((pair.a, pair.b) in found for pair in pairs)

    def _compared(self, pair: LeafPair, a: Leaf, b: Leaf) -> TensorDifference | None:
        shape = tuple(a.array.shape)
        expected = a.transposed(pair.permutation)
        if pair.broadcast:
            expected, b = expected.with_rank(len(shape)), b.with_rank(len(shape))
        if expected.array.shape != b.array.shape:
            message = f"shape {list(b.array.shape)} instead of {list(expected.array.shape)}"
            return TensorDifference(pair.a, pair.b, shape, message)
        if expected.array.dtype != b.array.dtype:
            message = f"dtype {b.array.dtype} instead of {expected.array.dtype}"
            return TensorDifference(pair.a, pair.b, shape, message)
        lost, new, changed = self._masks(expected, b)
        counts = [0 if bits is None else int(np.count_nonzero(bits)) for bits in (lost, new, changed)]
        if not any(counts):
            return None
        words = ("lost", "new", "with another number")
        found = [f"{count:,} {word}" for count, word in zip(counts, words, strict=True) if count]
        entries = "entry" if sum(counts) == 1 else "entries"
        message = f"{sum(counts):,} differing {entries}: {', '.join(found)}"
        different = np.zeros(b.array.shape, np.bool_)
        for bits in (lost, new, changed):
            if bits is not None:
                different |= bits
        connections = tuple(_connection(pair, expected, b, flat) for flat in _first(different, MOST_CONNECTIONS))
        return TensorDifference(pair.a, pair.b, shape, message, counts[0], counts[1], counts[2], connections)

    def _masks(self, a: Leaf, b: Leaf) -> list[NDArray[np.bool_] | None]:
        """Entries that exist on the first side only, on the second only, and on both with other bits."""
        changed = other_bits(a.array, b.array)
        if a.kept is None and b.kept is None:
            return [None, None, changed]
        zeros = (a.array == 0) & (b.array == 0)
        if a.kept is not None and b.kept is not None:
            lost, new = a.kept & ~b.kept, b.kept & ~a.kept
            return [lost, new, changed & a.kept & b.kept]
        known, side = (a.kept, "second") if a.kept is not None else (b.kept, "first")
        assert known is not None
        changed &= ~(zeros & ~known)
        self._notes[
            f"masks are given on one side only; zeros of the {side} stand for the entries that do not exist"
        ] = None
        outside = changed & ~known
        inside = changed & known
        return [None, outside, inside] if a.kept is not None else [outside, None, inside]

    def result(self, graph: tuple[GraphDifference, ...]) -> Identity:
        """What all comparisons come to, together with the differences of the graphs."""
        failed = self._differences or any(difference.is_certain for difference in graph)
        verdict: Literal["passed", "uninformative"] = "uninformative" if graph else "passed"
        return Identity(
            "failed" if failed else verdict,
            self._tensors,
            self._entries,
            self._kept,
            self._masks_only,
            tuple(self._differences),
            graph,
            tuple(self._notes),
        )


def other_bits(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    """Where two arrays of one dtype and shape do not have the same bits."""
    if a.dtype.kind in "OUSb":
        return np.asarray(a != b, dtype=np.bool_)
    if a.dtype.itemsize in (1, 2, 4, 8):
        kind = np.dtype(f"u{a.dtype.itemsize}")
        different = np.ascontiguousarray(a).view(kind) != np.ascontiguousarray(b).view(kind)
        return np.asarray(different).reshape(a.shape)  # no axis becomes one
    parts = [np.ascontiguousarray(x).reshape(-1).view(np.uint64).reshape(-1, a.dtype.itemsize // 8) for x in (a, b)]
    return np.asarray((parts[0] != parts[1]).any(axis=1).reshape(a.shape))


def _first(different: NDArray[np.bool_], most: int) -> list[int]:
    return [int(flat) for flat in np.flatnonzero(different)[:most]]


def _connection(pair: LeafPair, a: Leaf, b: Leaf, flat: int) -> Connection:
    index = tuple(int(i) for i in np.unravel_index(flat, b.array.shape))
    own = index
    if pair.permutation is not None:
        placed = [0] * len(index)
        for position, axis in enumerate(pair.permutation):
            placed[axis] = index[position]
        own = tuple(placed)
    return Connection(own, _number(a, index), _number(b, index))


def _number(leaf: Leaf, index: tuple[int, ...]) -> str:
    """A number such that its bits can be told from the text; nothing for an entry that does not exist."""
    if leaf.kept is not None and not leaf.kept[index]:
        return ""
    return str(leaf.array[index])
