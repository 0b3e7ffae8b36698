"""Mask: which entries of a parameter exist, one bit each. How masks are stored is in `encoding`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepstruct.errors import Fault, StructureError

MAX_RANK = 64  # numpy's and torch's own limit
MAX_ELEMENTS = 2**48
_DENSE = 32  # entries for each one that exists, up to which setting them one byte each is faster
_SLAB = 2**15  # bytes of bits that are unpacked at a time, so that they stay in the processor's cache


class Mask:
    """An immutable boolean array; True means that the connection exists.

    A mask says nothing about numbers: a connection that exists may have weight 0. It has the orientation of
    its parameter, which for torch's and Gemm-transB weights is (target, source).

    In memory it is one bit an element: row-major, least significant bit first, unused bits of the last byte 0.
    Two masks are equal if shape and bits are.
    """

    __slots__ = ("__dict__", "_packed", "_shape")

    def __init__(self, shape: Sequence[int], packed: NDArray[np.uint8]) -> None:
        """Take over packed bits; `from_array` and `from_indices` are the usual ways in.

        Args:
            shape: of the parameter.
            packed: uint8 ``[ceil(size / 8)]``, row-major bits, least significant first, padding bits 0. It is copied
                unless it owns its memory and is read-only already.

        Raises:
            StructureError: the shape is invalid, the length is wrong, or a padding bit is set.
        """
        self._shape = check_shape(shape)
        size = math.prod(self._shape)
        if not isinstance(packed, np.ndarray):
            raise _wrong_type(f"bits are a numpy array of uint8, not a {type(packed).__name__}")
        if packed.dtype != np.uint8 or packed.shape != ((size + 7) // 8,):
            raise StructureError(
                "mask",
                [
                    Fault(
                        "MASK_SIZE",
                        "",
                        f"shape {list(self._shape)} takes {(size + 7) // 8} bytes of bits, not {packed.size}",
                    )
                ],
            )
        if size % 8 and packed[-1] >> (size % 8):
            raise StructureError("mask", [Fault("MASK_PADDING_NONZERO", "", "bits behind the last element must be 0")])
        handed_over = packed.base is None and not packed.flags.writeable and packed.flags.c_contiguous
        self._packed: NDArray[np.uint8] = packed if handed_over else packed.copy()
        self._packed.flags.writeable = False

    @classmethod
    def from_array(cls, array: NDArray[np.bool_]) -> Mask:
        """The mask of a bool array of the parameter's shape.

        Raises:
            StructureError: the dtype is not bool.
        """
        array = np.asarray(array)
        if array.dtype != np.bool_:
            raise StructureError(
                "mask",
                [Fault("TYPE_MISMATCH", "", f"a mask is made of a bool array, not of {array.dtype}")],
            )
        return cls(array.shape, np.packbits(array.reshape(-1), bitorder="little"))

    @classmethod
    def of_zeros(cls, array: NDArray[Any]) -> Mask | None:
        """The mask of the entries other than 0 of a matrix or higher tensor; None if there is nothing to mask."""
        array = np.asarray(array)
        if array.ndim < 2 or not bool((array == 0).any()):
            return None
        return cls.from_array(np.asarray(array != 0))

    @classmethod
    def from_indices(cls, shape: Sequence[int], indices: NDArray[np.integer[Any]]) -> Mask:
        """The mask with exactly the given entries.

        Args:
            shape: of the parameter.
            indices: int ``[nnz]``, row-major flat indices in any order, without duplicates.

        Raises:
            StructureError: an index is out of range or occurs twice.
        """
        shape = check_shape(shape)
        size = math.prod(shape)
        if not isinstance(indices, np.ndarray) or indices.dtype.kind not in "iu" or indices.ndim != 1:
            raise _wrong_type("indices are a one-dimensional numpy array of integers")
        if indices.size and (int(indices.min()) < 0 or int(indices.max()) >= size):
            wrong = int(indices[(indices < 0) | (indices >= size)][0])
            raise StructureError(
                "mask",
                [Fault("MASK_INDEX_OUT_OF_RANGE", "", f"index {wrong} is outside 0..{size - 1}")],
            )
        packed = np.zeros((size + 7) // 8, dtype=np.uint8)
        set_bits(packed, np.sort(indices))
        mask = cls(shape, packed)
        if mask.nnz != indices.size:
            raise StructureError("mask", [Fault("MASK_NOT_SORTED", "", "an index occurs twice")])
        return mask

    @classmethod
    def full(cls, shape: Sequence[int]) -> Mask:
        """The mask in which every entry exists."""
        shape = check_shape(shape)
        size = math.prod(shape)
        packed = np.full((size + 7) // 8, 0xFF, dtype=np.uint8)
        if size % 8:
            packed[-1] = (1 << (size % 8)) - 1
        return cls(shape, packed)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameter."""
        return self._shape

    @property
    def packed(self) -> NDArray[np.uint8]:
        """uint8 ``[ceil(size / 8)]``, read-only: the bits in canonical form."""
        return self._packed

    @property
    def size(self) -> int:
        """Number of entries, existing or not."""
        return math.prod(self._shape)

    @cached_property
    def nnz(self) -> int:
        """Number of entries that exist."""
        return count(self._packed)

    @property
    def density(self) -> float:
        """``nnz / size`` in [0, 1]; 1.0 for a mask without entries, in which nothing is missing."""
        return self.nnz / self.size if self.size else 1.0

    @property
    def is_full(self) -> bool:
        """Whether every entry exists."""
        return self.nnz == self.size

    def bits(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Bool ``[stop - start]``: the entries between two flat indices, a fresh array."""
        bits = np.unpackbits(self._packed[start // 8 : (stop + 7) // 8], bitorder="little")
        return bits[start % 8 : start % 8 + stop - start].view(np.bool_)

    def packed_bits(self, start: int, stop: int) -> NDArray[np.uint8]:
        """uint8 ``[ceil((stop - start) / 8)]``: the entries between two flat indices, in the form of `packed`."""
        shift, size = start % 8, stop - start
        own = self._packed[start // 8 : (stop + 7) // 8]
        part = own >> np.uint8(shift)
        if shift:
            part[:-1] |= own[1:] << np.uint8(8 - shift)
        part = part[: (size + 7) // 8]
        if size % 8:
            part[-1] &= (1 << size % 8) - 1
        return part

    def flat(self) -> NDArray[np.bool_]:
        """Bool ``[size]``, row-major: a fresh array."""
        return np.unpackbits(self._packed, count=self.size, bitorder="little").view(np.bool_)

    def to_array(self) -> NDArray[np.bool_]:
        """Bool array of the parameter's shape: a fresh array."""
        return self.flat().reshape(self._shape)

    def occupied(self) -> NDArray[np.int64]:
        """int64 ``[n]``: positions of the bytes of `packed` that are not 0, ascending."""
        words = np.flatnonzero(self._packed[: self._packed.size & -8].view(np.uint64))
        if 32 * words.size > self._packed.size:
            return np.flatnonzero(self._packed)
        behind = np.arange(self._packed.size & -8, self._packed.size)
        inside: NDArray[np.int64] = np.concatenate([(words[:, None] * 8 + np.arange(8)).reshape(-1), behind])
        found: NDArray[np.int64] = inside[self._packed[inside] != 0]
        return found

    def indices(self) -> NDArray[np.int64]:
        """int64 ``[nnz]``: row-major flat indices of the entries that exist, ascending."""
        occupied = self.occupied()
        if 2 * occupied.size > self._packed.size:
            found = np.empty(self.nnz, dtype=np.int64)
            at = 0
            for first, positions in self._slabs():
                np.add(positions, first, out=found[at : at + positions.size])
                at += positions.size
            return found
        bits = np.unpackbits(self._packed[occupied], bitorder="little").reshape(-1, 8)
        byte, bit = np.nonzero(bits)
        return occupied[byte] * 8 + bit

    def take(self, entries: NDArray[Any]) -> NDArray[Any]:
        """``[nnz]``: those of all entries, in row-major order, that exist."""
        flat = entries.reshape(-1)
        kept = np.empty(self.nnz, dtype=flat.dtype)
        at = 0
        for first, positions in self._slabs():
            kept[at : at + positions.size] = flat[first : first + 8 * _SLAB][positions]
            at += positions.size
        return kept

    def _slabs(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """First flat index of consecutive slabs, and in each the positions, from 0, of the entries that exist."""
        for first in range(0, self._packed.size, _SLAB):
            bits = np.unpackbits(self._packed[first : first + _SLAB], bitorder="little")
            yield 8 * first, np.flatnonzero(bits.view(np.bool_))

    def digest(self) -> str:
        """SHA-256 of shape and bits as `docs/format.md` defines it, independent of any encoding."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        head = json.dumps(list(self._shape), separators=(",", ":")).encode()
        digest = hashlib.sha256(b"deepstruct.mask.v1\0" + head + b"\0")
        digest.update(self._packed.data)
        return f"sha256:{digest.hexdigest()}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        return self._shape == other._shape and np.array_equal(self._packed, other._packed)

    def __hash__(self) -> int:
        return hash((self._shape, self._packed.tobytes()))

    def __reduce__(self) -> tuple[type[Mask], tuple[tuple[int, ...], NDArray[np.uint8]]]:
        return Mask, (self._shape, self._packed)

    def __repr__(self) -> str:
        return f"Mask(shape={self._shape}, nnz={self.nnz}, density={self.density:.4g})"


def _wrong_type(message: str) -> StructureError:
    return StructureError("mask", [Fault("TYPE_MISMATCH", "", message)])


def count(packed: NDArray[np.uint8]) -> int:
    """Number of bits that are set in uint8 ``[n]``, in memory that does not grow with it."""
    words = packed[: packed.size & -8].view(np.uint64)
    starts = range(0, words.size, 1 << 17)
    counts = (np.bitwise_count(words[start : start + (1 << 17)]).sum(dtype=np.int64) for start in starts)
    return sum(map(int, counts)) + int(np.bitwise_count(packed[packed.size & -8 :]).sum(dtype=np.int64))


def strides(shape: tuple[int, ...]) -> list[int]:
    """Row-major strides of a shape, in elements."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def set_bits(packed: NDArray[np.uint8], indices: NDArray[np.integer[Any]]) -> None:
    """Sets bits of a packed mask, in memory that grows with the number of indices, not with the mask.

    Args:
        packed: uint8, changed in place.
        indices: int ``[n]`` ascending row-major indices within the mask.
    """
    if not indices.size:
        return
    start, stop = int(indices[0]) >> 3, (int(indices[-1]) >> 3) + 1
    if 8 * (stop - start) <= _DENSE * indices.size:
        entries = np.zeros(8 * (stop - start), dtype=np.bool_)
        entries[indices - 8 * start] = True
        packed[start:stop] |= np.packbits(entries, bitorder="little")
    else:
        bits = np.left_shift(np.uint8(1), (indices & 7).astype(np.uint8))
        np.bitwise_or.at(packed, indices >> 3, bits)


def check_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """`shape` as a tuple of non-negative ints.

    Raises:
        StructureError: it is anything else, or its element count does not fit into 63 bits.
    """
    if not isinstance(shape, Sequence) or isinstance(shape, (str, bytes)):
        message = f"a shape is a list of non-negative integers, not {shape!r:.80}"
        raise StructureError("shape", [Fault("TYPE_MISMATCH", "", message)])
    dims = tuple(shape)
    wrong = [
        Fault("TYPE_MISMATCH", f"/{axis}", f"an extent is a non-negative integer, not {extent!r:.80}")
        for axis, extent in enumerate(dims)
        if not isinstance(extent, int) or isinstance(extent, bool) or extent < 0
    ]
    if wrong:
        raise StructureError("shape", wrong)
    if len(dims) > MAX_RANK or math.prod(dim for dim in dims if dim) > MAX_ELEMENTS:
        message = f"more than {MAX_RANK} dimensions or 2^48 elements: {str(dims)[:80]}"
        raise StructureError("shape", [Fault("LIMIT_EXCEEDED", "", message)])
    return dims
