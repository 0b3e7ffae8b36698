"""Unsigned LEB128 for whole numpy arrays (DWARF 5, section 7.6; the varint of protocol buffers)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 9  # 63 bits


def encode(values: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The concatenated shortest encodings of non-negative int64 ``[n]`` values, as uint8."""
    if not values.size or int(values.max()) < 0x80:
        return values.astype(np.uint8)
    lengths = np.ones(values.size, dtype=np.int64)
    longest = (int(values.max()).bit_length() + 6) // 7
    for count in range(1, longest):
        lengths += values >= 1 << (7 * count)
    starts = np.cumsum(lengths) - lengths
    encoded = np.empty(int(lengths.sum()), dtype=np.uint8)
    encoded[starts] = (values & 0x7F) | (lengths > 1) << 7
    for position in range(1, longest):
        present = np.flatnonzero(lengths > position)
        septets = (values[present] >> (7 * position)) & 0x7F
        encoded[starts[present] + position] = septets | (lengths[present] > position + 1) << 7
    return encoded


def decode(blocks: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.int64]]:
    """The int64 values of a byte stream, block by block; a value may straddle two blocks.

    Raises:
        ValueError: a value has more than 63 bits or is not in its shortest form, or the stream ends inside a value.
    """
    rest = np.empty(0, dtype=np.uint8)
    for block in blocks:
        stream = np.concatenate([rest, block]) if rest.size else block
        ends = np.flatnonzero(stream < 0x80)
        cut = int(ends[-1]) + 1 if ends.size else 0
        rest = stream[cut:]
        if rest.size >= MAX_BYTES:
            raise ValueError(f"a number has more than {MAX_BYTES} bytes")
        if cut:
            yield _decode_complete(stream[:cut], ends)
    if rest.size:
        raise ValueError("the data ends in the middle of a number")


def _decode_complete(stream: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    if ends.size == stream.size:
        return stream.astype(np.int64)
    lengths = np.diff(ends, prepend=-1)
    long = np.flatnonzero(lengths > 1)
    last, lengths = ends[long], lengths[long]
    longest = int(lengths.max())
    if longest > MAX_BYTES:
        raise ValueError(f"a number has more than {MAX_BYTES} bytes")
    if bool((stream[last] == 0).any()):
        raise ValueError("a number is not in its shortest form")
    composed = np.zeros(long.size, dtype=np.int64)
    for position in range(longest):
        present = np.flatnonzero(lengths > position)
        septets = (stream[last[present] - lengths[present] + 1 + position] & 0x7F).astype(np.int64)
        composed[present] |= septets << (7 * position)
    values = stream[ends].astype(np.int64)
    values[long] = composed
    return values
