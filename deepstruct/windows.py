"""Where the windows of convolutions and pooling lie, as ONNX's attributes state it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepstruct.errors import UnsupportedError
from deepstruct.expansion_values import OPEN_EXTENTS, refuse_more
from deepstruct.structure import Node
from deepstruct.units import Numbers


def integer(node: Node, name: str, default: int) -> int:
    """An attribute of type INT."""
    value = node.attributes.get(name, default)
    assert isinstance(value, int)
    return value


def integers(node: Node, name: str, default: Sequence[int]) -> list[int]:
    """An attribute of type INTS, the default if it is missing or empty."""
    value: Any = node.attributes.get(name) or tuple(default)
    return [int(item) for item in value]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where the windows of a convolution or pooling lie, one entry for each spatial axis.

    Attributes:
        kernel: extents of a window.
        strides: distance of windows.
        dilations: distance of the elements of a window.
        before: padding in front.
        behind: padding behind.
        spread: distance that a transposed convolution puts between the elements of its input.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    behind: tuple[int, ...]
    spread: tuple[int, ...] = ()

    @classmethod
    def of(cls, node: Node, shape: Sequence[int], kernel: Sequence[int]) -> Geometry:
        """The geometry that the attributes of an operator state (ONNX, Conv and MaxPool)."""
        rank = len(kernel)
        if len(shape) != rank + 2:
            raise UnsupportedError(
                f"node {node.name!r}: {node.op_type} with {rank} spatial axes gets shape {list(shape)}"
            )
        strides, dilations = integers(node, "strides", [1] * rank), integers(node, "dilations", [1] * rank)
        reach = [(extent - 1) * step + 1 for extent, step in zip(kernel, dilations, strict=True)]
        pads = integers(node, "pads", [0] * (2 * rank))
        before, behind = pads[:rank], pads[rank:]
        auto = node.attributes.get("auto_pad", "NOTSET")
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            total = [
                max(0, (-(-extent // stride) - 1) * stride + own - extent)
                for extent, stride, own in zip(shape[2:], strides, reach, strict=True)
            ]
            less, more = [extent // 2 for extent in total], [extent - extent // 2 for extent in total]
            before, behind = (less, more) if auto == "SAME_UPPER" else (more, less)
        elif auto == "VALID":
            before = behind = [0] * rank
        if node.attributes.get("ceil_mode"):
            for axis, extent in enumerate(shape[2:]):
                room = extent + before[axis] + behind[axis] - reach[axis]
                last = -(-room // strides[axis]) * strides[axis]
                if last < extent + before[axis]:
                    behind[axis] += max(0, last - room)
        return cls(tuple(kernel), tuple(strides), tuple(dilations), tuple(before), tuple(behind))

    @classmethod
    def of_transposed(cls, node: Node, shape: Sequence[int], kernel: Sequence[int]) -> Geometry:
        """The geometry of the convolution that a ConvTranspose is over its input with gaps."""
        rank = len(kernel)
        if len(shape) != rank + 2:
            raise UnsupportedError(
                f"node {node.name!r}: {node.op_type} with {rank} spatial axes gets shape {list(shape)}"
            )
        spread, dilations = integers(node, "strides", [1] * rank), integers(node, "dilations", [1] * rank)
        extra = integers(node, "output_padding", [0] * rank)
        pads = integers(node, "pads", [0] * (2 * rank))
        reach = [(extent - 1) * step for extent, step in zip(kernel, dilations, strict=True)]
        before, behind = pads[:rank], pads[rank:]
        asked = integers(node, "output_shape", [])[-rank:]
        auto = node.attributes.get("auto_pad", "NOTSET")
        if asked or auto in ("SAME_UPPER", "SAME_LOWER"):
            asked = asked or [extent * stride for extent, stride in zip(shape[2:], spread, strict=True)]
            total = [
                (extent - 1) * stride + far + 1 + more - wanted
                for extent, stride, far, more, wanted in zip(shape[2:], spread, reach, extra, asked, strict=True)
            ]
            less = [extent // 2 for extent in total]
            more_of = [extent - extent // 2 for extent in total]
            before, behind = (less, more_of) if auto == "SAME_UPPER" else (more_of, less)
        return cls(
            tuple(kernel),
            (1,) * rank,
            tuple(dilations),
            tuple(far - pad for far, pad in zip(reach, before, strict=True)),
            tuple(far - pad + more for far, pad, more in zip(reach, behind, extra, strict=True)),
            tuple(spread),
        )

    def windows(self, node: Node, numbers: Numbers) -> Numbers:
        """The windows of units ``[batch, channels, ...]``: a view ``[batch, channels, positions..., elements...]``."""
        padded = [
            (extent + max(0, low) + max(0, high))
            for extent, low, high in zip(numbers.shape[2:], self.before, self.behind, strict=True)
        ]
        refuse_more(node, math.prod((*numbers.shape[:2], *padded)))
        pairs = list(zip(self.before, self.behind, strict=True))
        numbers = np.pad(numbers, [(0, 0), (0, 0), *((max(0, low), max(0, high)) for low, high in pairs)])
        cut = [slice(max(0, -low), extent - max(0, -high)) for (low, high), extent in zip(pairs, padded, strict=True)]
        numbers = numbers[(slice(None), slice(None), *cut)]
        reach = [(extent - 1) * step + 1 for extent, step in zip(self.kernel, self.dilations, strict=True)]
        if any(own > extent for own, extent in zip(reach, numbers.shape[2:], strict=True)):
            raise UnsupportedError(
                f"node {node.name!r}: a window of {reach} does not fit into {list(numbers.shape[2:])}; {OPEN_EXTENTS}"
            )
        axes = tuple(range(2, numbers.ndim))
        view: NDArray[np.int64] = np.lib.stride_tricks.sliding_window_view(numbers, reach, axis=axes)
        steps = (slice(None, None, stride) for stride in self.strides)
        inside = (slice(None, None, step) for step in self.dilations)
        return view[(slice(None), slice(None), *steps, *inside)]
