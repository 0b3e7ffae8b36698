"""Blocks: masks that are constant inside equal blocks, as one bit a block.

Masks are walked through in slabs along their first axis, so that memory stays far below one byte an element.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from deepstruct.mask import Mask, strides

_SLAB = 1 << 22  # elements unpacked at a time, unless one row of the first axis has more


def find(mask: Mask) -> tuple[int, ...]:
    """The largest blocks, aligned to the origin, inside which a mask is constant.

    Along each axis that is the greatest common divisor of the extent and of all positions where a slice differs from
    the one before.
    """
    if not mask.size or not mask.shape:
        return (1,) * len(mask.shape)
    sizes = _probed(mask)
    if max(sizes) == 1:
        return tuple(sizes)
    last: NDArray[np.bool_] | None = None
    for start, slab in slabs(mask):
        before = slab if last is None else np.concatenate([last, slab])
        _narrow(sizes, 0, before, start if last is None else start - 1)
        for axis in range(1, slab.ndim):
            _narrow(sizes, axis, slab, 0)
        if max(sizes) == 1:
            break
        last = slab[-1:]
    return tuple(sizes)


def _probed(mask: Mask) -> list[int]:
    """Extents of the mask, but 1 where the neighbours of an entry along an axis are not as itself."""
    sizes = list(mask.shape)
    occupied = mask.occupied()
    for byte in occupied[[0, occupied.size // 2, -1]] if occupied.size else ():
        entry = int(byte) * 8 + (int(mask.packed[byte]) & -int(mask.packed[byte])).bit_length() - 1
        for axis, (extent, stride) in enumerate(zip(mask.shape, strides(mask.shape), strict=True)):
            place = entry // stride % extent
            beside = [entry + step * stride for step in (-1, 1) if 0 <= place + step < extent]
            if not any(mask.packed[other >> 3] >> (other & 7) & 1 for other in beside):
                sizes[axis] = 1
    return sizes


def _narrow(sizes: list[int], axis: int, array: NDArray[np.bool_], offset: int) -> None:
    """Lowers the block size along an axis by the changes in an array that begins at `offset` of that axis."""
    if sizes[axis] == 1:
        return
    along = np.moveaxis(array, axis, 0)
    others = tuple(range(1, array.ndim))
    changes = np.flatnonzero((along[1:] != along[:-1]).any(axis=others)) + 1 + offset
    sizes[axis] = int(np.gcd.reduce(changes, initial=sizes[axis]))


def slabs(mask: Mask) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """First row, and unpacked rows of the first axis, some at a time, of a mask that has entries and an axis."""
    row = mask.size // mask.shape[0]
    rows = max(1, _SLAB // row)
    for start in range(0, mask.shape[0], rows):
        stop = min(start + rows, mask.shape[0])
        yield start, _rows(mask, start, stop)


def _rows(mask: Mask, start: int, stop: int) -> NDArray[np.bool_]:
    """Rows of the first axis as a bool array."""
    row = mask.size // mask.shape[0]
    return mask.bits(start * row, stop * row).reshape(stop - start, *mask.shape[1:])


def reduce(mask: Mask, block_shape: tuple[int, ...]) -> Mask:
    """The mask with one entry for each block; blocks must be constant."""
    if math.prod(block_shape) == 1:
        return mask
    grid = tuple(extent // block for extent, block in zip(mask.shape, block_shape, strict=True))
    inside = tuple(slice(None, None, block) for block in block_shape[1:])
    corners = [_rows(mask, row, row + 1)[(slice(None), *inside)] for row in range(0, mask.shape[0], block_shape[0])]
    return Mask.from_array(np.concatenate(corners).reshape(grid))


def expand(coarse: Mask, block_shape: tuple[int, ...]) -> Mask:
    """The mask in which each entry of `coarse` has become a block; the inverse of `reduce`."""
    if math.prod(block_shape) == 1:
        return coarse
    shape = tuple(extent * block for extent, block in zip(coarse.shape, block_shape, strict=True))
    size = math.prod(shape)
    packed = np.zeros((size + 7) // 8, dtype=np.uint8)
    at = 0
    for bits in _expanded(coarse, shape, block_shape, 0, 0):
        lead = at % 8
        part = np.packbits(np.concatenate([np.zeros(lead, np.bool_), bits]), bitorder="little")
        packed[at // 8 : at // 8 + part.size] |= part
        at += bits.size
    packed.flags.writeable = False
    return Mask(shape, packed)


def _expanded(
    coarse: Mask, shape: tuple[int, ...], block_shape: tuple[int, ...], axis: int, first: int
) -> Iterator[NDArray[np.bool_]]:
    """Entries of the fine mask in row-major order, some at a time: those of one index of all axes before `axis`.

    Args:
        coarse: one entry for each block.
        shape: of the fine mask.
        block_shape: extents of a block.
        axis: first of the axes that are walked through.
        first: row-major index of their first entry in `coarse`.
    """
    if not math.prod(shape):
        return
    inside = coarse.shape[axis + 1 :]
    row, fine_row = math.prod(inside), math.prod(shape[axis + 1 :])
    block = block_shape[axis]
    if fine_row > _SLAB:
        for start in range(first, first + coarse.shape[axis] * row, row):
            for _ in range(block):
                yield from _expanded(coarse, shape, block_shape, axis + 1, start)
        return
    together, repeats = max(1, _SLAB // (fine_row * block)), min(block, _SLAB // fine_row)
    for start in range(0, coarse.shape[axis], together):
        rows = min(together, coarse.shape[axis] - start)
        begin = first + start * row
        lines = coarse.bits(begin, begin + rows * row).reshape(rows, *inside)
        for along, size in enumerate((repeats, *block_shape[axis + 1 :])):
            if size > 1:
                lines = np.repeat(lines, size, axis=along)
        for done in range(0, block, repeats):
            yield lines.reshape(-1)[: rows * min(repeats, block - done) * fine_row]
