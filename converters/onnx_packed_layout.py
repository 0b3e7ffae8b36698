"""Codes that say which entries of a flat tensor are kept, as bytes: `docs/packed.md` defines them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepstruct.errors import Fault, StructureError

_COUNTED = 1 << 16  # gaps below this are counted in an array, longer ones by sorting


@dataclass(frozen=True)
class Layout:
    """How codes lie in bytes: `codes` of them, each below `radix`, form one little-endian word of `width` bytes.

    A code c below the escape, ``radix - 1``, skips c masked entries and takes the next one; the escape skips as many
    as its value and takes none.
    """

    width: int
    codes: int
    radix: int

    @property
    def escape(self) -> int:
        """The code that takes no entry."""
        return self.radix - 1

    @property
    def name(self) -> str:
        """Short name, width first: ``2x3`` is three codes in two bytes."""
        return f"{self.width}x{self.codes}"

    @cached_property
    def powers(self) -> NDArray[np.int32]:
        """int32 ``[codes]``: what each code of a word counts, the first one 1."""
        return np.array([self.radix**i for i in range(self.codes)], dtype=np.int32)

    def bytes_of(self, length: int) -> int:
        """Bytes that `length` codes take."""
        return -(-length // self.codes) * self.width


BITS = Layout(1, 8, 2)
LAYOUTS = (
    BITS,
    Layout(1, 5, 3),
    Layout(1, 4, 4),
    Layout(1, 3, 6),
    Layout(1, 2, 16),
    Layout(2, 3, 40),
    Layout(1, 1, 256),
    Layout(3, 2, 4096),
    Layout(2, 1, 65536),
)
"""Every layout, by ascending radix, which is the largest whose words fit into their bytes."""


class Gaps:
    """How many masked entries lie before each kept one, counted."""

    def __init__(self, indices: NDArray[np.int64]) -> None:
        """Count the gaps of ascending flat indices, int64 ``[nnz]``."""
        gaps = gaps_of(indices)
        short = gaps if not gaps.size or int(gaps.max()) < _COUNTED else gaps[gaps < _COUNTED]
        counts = np.bincount(short)
        lengths = np.flatnonzero(counts)
        counts = counts[lengths]
        if short.size != gaps.size:
            long, numbers = np.unique(gaps[gaps >= _COUNTED], return_counts=True)
            lengths, counts = np.concatenate([lengths, long]), np.concatenate([counts, numbers])
        self.nnz = int(gaps.size)
        self._lengths, self._counts = lengths, counts

    def length(self, layout: Layout) -> int:
        """Number of codes that the gaps take, escapes included."""
        return self.nnz + int((self._lengths // layout.escape * self._counts).sum())


def gaps_of(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 ``[nnz]``: masked entries before each of the ascending flat indices, int64 ``[nnz]``."""
    gaps = np.empty_like(indices)
    gaps[:1] = indices[:1]
    np.subtract(indices[1:], indices[:-1], out=gaps[1:])
    gaps[1:] -= 1
    return gaps


def encode(indices: NDArray[np.int64], layout: Layout) -> NDArray[np.uint8]:
    """uint8: the codes of ascending flat indices, int64 ``[nnz]``; escapes fill the last word."""
    gaps = gaps_of(indices)
    escapes = gaps // layout.escape
    if escapes.any():
        gaps -= escapes * layout.escape
        places = np.cumsum(escapes, out=escapes)
        length = gaps.size + int(places[-1])
        places += np.arange(gaps.size)
    else:
        places, length = None, gaps.size
    words = -(-length // layout.codes)
    stored: Any = np.uint8 if layout.width == 1 else np.uint32
    codes = np.full(words * layout.codes, layout.escape, dtype=stored)
    codes[slice(0, length) if places is None else places] = gaps
    packed = codes[:: layout.codes].copy()
    for position in range(1, layout.codes):
        packed += codes[position :: layout.codes] * stored(layout.powers[position])
    if layout.width == 1:
        return packed
    return np.ascontiguousarray(packed.astype("<u4").view(np.uint8).reshape(-1, 4)[:, : layout.width]).reshape(-1)


def encode_bits(bits: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """uint8 ``[ceil(size / 8)]``: the codes of `BITS` for bits of a mask, least significant first, padding too."""
    codes = ~bits
    if size % 8:
        codes[-1] &= (1 << size % 8) - 1
        codes[-1] |= 0xFF << size % 8 & 0xFF
    return codes


def decode(codes: NDArray[np.uint8], layout: Layout, length: int, size: int) -> NDArray[np.int64]:
    """int64 ``[nnz]``: the ascending flat indices that the first `length` codes take.

    Args:
        codes: uint8 ``[bytes]``.
        layout: of the codes.
        length: number of codes that count.
        size: number of entries, kept or not.

    Raises:
        StructureError: codes are too few or too many, no codes of this radix, or lead past the last entry.
    """
    if codes.dtype != np.uint8 or codes.ndim != 1:
        raise wrong(f"codes are {codes.dtype} {list(codes.shape)}, not uint8 [bytes]")
    if length < 0 or length > size or layout.bytes_of(length) != codes.size:
        raise wrong(f"{codes.size} bytes do not hold {length} codes of layout {layout.name} for {size} entries")
    words = np.zeros(codes.size // layout.width, dtype=np.int64)
    for position in range(layout.width):
        words += codes[position :: layout.width].astype(np.int64) << 8 * position
    if words.size and int(words.max()) >= layout.radix**layout.codes:
        raise wrong(f"a word of layout {layout.name} is {int(words.max())}, not below {layout.radix**layout.codes}")
    digits = np.empty((words.size, layout.codes), dtype=np.int32)
    for position in range(layout.codes):
        np.remainder(words, layout.radix, out=digits[:, position], casting="unsafe")
        words //= layout.radix
    taken = digits.reshape(-1)[:length]
    kept = taken < layout.escape
    positions = np.cumsum(taken + kept, dtype=np.int64)
    if positions.size and int(positions[-1]) > size:
        raise wrong(f"codes lead to entry {int(positions[-1]) - 1} of {size}")
    return positions[kept] - 1


def wrong(message: str) -> StructureError:
    """The error for packed tensors whose parts do not fit together."""
    return StructureError("packed tensor", [Fault("MASK_SIZE", "", message)])


def choose(chunks: Sequence[Gaps], sizes: Sequence[int]) -> Layout:
    """The layout in which the chunks of a tensor take the fewest bytes.

    A code more counts some bits beside those it takes, so that of nearly equal layouts the faster one is chosen.

    Args:
        chunks: gaps of each chunk.
        sizes: number of entries, kept or not, of each chunk; `BITS` has a code for each.
    """

    def cost(layout: Layout) -> float:
        lengths = sizes if layout is BITS else [gaps.length(layout) for gaps in chunks]
        return sum(map(layout.bytes_of, lengths)) + (0 if layout is BITS else sum(lengths) / 64)

    return min(LAYOUTS, key=cost)
