"""Arithmetic with axes, extents and padding, as ONNX defines it."""

from __future__ import annotations

from collections.abc import Sequence

from deepstruct.structure import Dimension

Integers = tuple[int, ...]

ENDLESS = 2**62
"""More than any extent."""


def counted(axes: Integers, rank: int | None) -> Integers | None:
    """Axes counted from the front; None if that is unknown, or if they are none or twice the same."""
    if rank is None or not all(-rank <= axis < rank for axis in axes):
        return None
    found = tuple(axis % rank for axis in axes) if rank else ()
    return found if len(set(found)) == len(axes) else None


def equal_parts(extent: int, count: int, *, may_be_shorter: bool) -> Integers | None:
    """The extents of so many equal parts of an axis, of which only the last may be shorter; None if there are none."""
    size = -(-extent // count)
    last = extent - (count - 1) * size
    if last <= 0 or (last != size and not may_be_shorter):
        return None
    return (size,) * (count - 1) + (last,)


def part(start: int, end: int, step: int, extent: Dimension) -> Integers:
    """What is taken of an axis: start, count and step where its extent is known, else start, end and step."""
    if not isinstance(extent, int):
        return max(-ENDLESS, min(start, ENDLESS)), max(-ENDLESS, min(end, ENDLESS)), step
    numbers = range(extent)[_reached(start, step, extent) : _stopped(end, step, extent) : step]
    if len(numbers) == extent and numbers.step == 1:
        return 0, ENDLESS, 1
    return (numbers.start, len(numbers), step if len(numbers) > 1 else 1) if numbers else (0, 0, 1)


def _reached(start: int, step: int, extent: int) -> int:
    """Where a slice starts, as Python counts."""
    start = start + extent if start < 0 else start
    return max(0, min(start, extent if step > 0 else extent - 1))


def _stopped(end: int, step: int, extent: int) -> int | None:
    """Where a slice ends, as Python counts."""
    end = end + extent if end < 0 else end
    if step > 0:
        return max(0, min(end, extent))
    return None if end < 0 else min(end, extent - 1)


def same_padding(
    extents: Sequence[Dimension], kernel: Sequence[int], strides: Integers, dilations: Integers, is_upper: bool
) -> Integers | None:
    """Padding with which a window gives as many outputs as its stride goes into the inputs, None if it is unknown.

    Args:
        extents: of the axes that the window moves along.
        kernel: extents of the window.
        strides: along each axis.
        dilations: along each axis.
        is_upper: an odd entry goes to the end.
    """
    before, after = [], []
    for extent, size, stride, dilation in zip(extents, kernel, strides, dilations, strict=True):
        reach = (size - 1) * dilation
        total = reach
        if stride != 1:
            if not isinstance(extent, int):
                return None
            total = max((-(-extent // stride) - 1) * stride + reach + 1 - extent, 0)
        before.append(total // 2 if is_upper else total - total // 2)
        after.append(total - before[-1])
    return (*before, *after)
