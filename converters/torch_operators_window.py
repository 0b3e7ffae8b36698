"""Convolutions and pools, for one to three spatial dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from deepstruct.converters.torch_operators_entry import Numbers, Operator, integers
from deepstruct.structure import Node, Structure

_AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
_MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


class _Window:
    """Kernel, strides, dilations and padding of a node, and how far its output extends."""

    def __init__(
        self,
        extents: Sequence[int],
        kernel: Sequence[int],
        *,
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        auto_pad: str = "NOTSET",
        ceil_mode: int = 0,
    ) -> None:
        rank = len(kernel)
        self.kernel = list(kernel)
        self.strides = list(strides or (1,) * rank)
        self.dilations = list(dilations or (1,) * rank)
        self.spans = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            self._pad_to_same(extents, auto_pad == "SAME_UPPER")
        else:
            given = [0] * 2 * rank if auto_pad == "VALID" or not pads else list(pads)
            self.begins, self.ends = given[:rank], given[rank:]
        self.outputs = [
            _steps(extent, begin, end, span, stride, bool(ceil_mode))
            for extent, begin, end, span, stride in zip(
                extents, self.begins, self.ends, self.spans, self.strides, strict=True
            )
        ]
        self.is_rounded_up = bool(ceil_mode)

    def _pad_to_same(self, extents: Sequence[int], upper: bool) -> None:
        self.begins, self.ends = [], []
        for extent, stride, span in zip(extents, self.strides, self.spans, strict=True):
            total = max((-(-extent // stride) - 1) * stride + span - extent, 0)
            half = total // 2
            self.begins.append(half if upper else total - half)
            self.ends.append(total - half if upper else half)

    @property
    def is_symmetric(self) -> bool:
        """Whether torch can pad by itself: as much before as behind, and no more than half a kernel."""
        return self.begins == self.ends and all(
            2 * begin <= size for begin, size in zip(self.begins, self.kernel, strict=True)
        )

    def padded(self, x: Tensor, value: float) -> Tensor:
        """`x` with exactly the extents that the outputs need."""
        sizes = []
        for axis in range(len(self.kernel))[::-1]:
            needed = (self.outputs[axis] - 1) * self.strides[axis] + self.spans[axis]
            begin = self.begins[axis]
            sizes += [begin, needed - begin - x.shape[axis + 2]]
        return F.pad(x, sizes, value=value) if any(sizes) else x

    def views(self, x: Tensor) -> Tensor:
        """What each output looks at, of (n, c, outputs..., kernel...), from a padded `x`."""
        for axis, span in enumerate(self.spans):
            x = x.unfold(axis + 2, span, self.strides[axis])[..., :: self.dilations[axis]]
        return x


def _steps(extent: int, begin: int, end: int, span: int, stride: int, up: bool) -> int:
    """Number of window positions; one that would start behind the input and its padding before is left out."""
    room = extent + begin + end - span
    if not up:
        return room // stride + 1
    steps = -(-room // stride) + 1
    return steps - 1 if (steps - 1) * stride >= extent + begin else steps


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    **attributes: Any,
) -> Tensor:
    """Conv, as ONNX defines it; the keywords are its attributes."""
    window = _Window(x.shape[2:], kernel_shape or weight.shape[2:], **attributes)
    padding = window.begins
    if window.begins != window.ends:
        sizes = zip(window.begins[::-1], window.ends[::-1], strict=True)
        x, padding = F.pad(x, [size for pair in sizes for size in pair]), [0] * len(padding)
    return torch.convolution(
        x, weight, bias, window.strides, padding, window.dilations, False, [0] * len(padding), group
    )


def _conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
) -> Tensor:
    kernel = kernel_shape or weight.shape[2:]
    rank = len(kernel)
    strides, dilations = list(strides or (1,) * rank), list(dilations or (1,) * rank)
    extra = list(output_padding or (0,) * rank)
    begins, ends = [0] * rank, [0] * rank
    for axis, extent in enumerate(x.shape[2:]):
        full = strides[axis] * (extent - 1) + extra[axis] + (kernel[axis] - 1) * dilations[axis] + 1
        if output_shape is not None or auto_pad.startswith("SAME"):
            total = full - (extent * strides[axis] if output_shape is None else output_shape[-rank:][axis])
            total = total if output_shape is not None else max(total, 0)
            small, large = total // 2, total - total // 2
            begins[axis], ends[axis] = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
        elif pads and auto_pad != "VALID":
            begins[axis], ends[axis] = pads[axis], pads[axis + rank]
    if begins == ends and min(begins) >= 0:
        return torch.convolution(x, weight, bias, strides, begins, dilations, True, extra, group)
    full_output = torch.convolution(x, weight, None, strides, [0] * rank, dilations, True, extra, group)
    sizes = zip(begins[::-1], ends[::-1], strict=True)
    result = F.pad(full_output, [-size for pair in sizes for size in pair])
    return result if bias is None else result + bias.reshape(-1, *(1,) * rank)


def _max_pool(
    x: Tensor, *, count: int, kernel_shape: Sequence[int], storage_order: int = 0, **attributes: Any
) -> Tensor | tuple[Tensor, Tensor]:
    window = _Window(x.shape[2:], kernel_shape, **attributes)
    pool = _MAX_POOLS[len(kernel_shape)]
    if window.is_symmetric and not window.is_rounded_up:
        padding, padded = window.begins, x
    else:
        lowest = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
        padding, padded = [0] * len(kernel_shape), window.padded(x, lowest)
    arguments = (padded, window.kernel, window.strides, padding, window.dilations)
    if count == 1:
        result: Tensor = pool(*arguments)
        return result
    result, places = pool(*arguments, return_indices=True)
    return result, _flat_indices(x, places, padded.shape[2:], window, padded is not x, bool(storage_order))


def _flat_indices(
    x: Tensor, places: Tensor, extents: Sequence[int], window: _Window, is_padded: bool, columns_first: bool
) -> Tensor:
    """Places in a channel, of padded extents, as places in the whole unpadded tensor."""
    coordinates = []
    for axis in range(len(extents))[::-1]:
        coordinates.append(places % extents[axis] - (window.begins[axis] if is_padded else 0))
        places = places // extents[axis]
    flat = torch.zeros_like(places)
    axes = range(len(extents))
    for axis in axes[::-1] if columns_first else axes:
        flat = flat * x.shape[axis + 2] + coordinates[len(extents) - 1 - axis]
    channels = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(*x.shape[:2], *(1,) * len(extents))
    return flat + channels * math.prod(x.shape[2:])


def _average_pool(x: Tensor, *, kernel_shape: Sequence[int], count_include_pad: int = 0, **attributes: Any) -> Tensor:
    window = _Window(x.shape[2:], kernel_shape, **attributes)
    if window.is_symmetric and not window.is_rounded_up and max(window.dilations) == 1:
        pool = _AVERAGE_POOLS[len(kernel_shape)]
        averages: Tensor = pool(x, window.kernel, window.strides, window.begins, False, bool(count_include_pad))
        return averages
    axes = tuple(range(-len(kernel_shape), 0))
    counted = torch.ones_like(x[:1, :1])
    if count_include_pad:
        sizes = zip(window.begins[::-1], window.ends[::-1], strict=True)
        counted = F.pad(counted, [size for pair in sizes for size in pair], value=1)
        window_of_counts = _Window(x.shape[2:], kernel_shape, **attributes)
        window_of_counts.begins = [0] * len(kernel_shape)
        counts = window.views(window_of_counts.padded(counted, 0)).sum(axes)
    else:
        counts = window.views(window.padded(counted, 0)).sum(axes)
    return window.views(window.padded(x, 0)).sum(axes) / counts


def _lp_pool(x: Tensor, *, kernel_shape: Sequence[int], p: int = 2, **attributes: Any) -> Tensor:
    window = _Window(x.shape[2:], kernel_shape, **attributes)
    axes = tuple(range(-len(kernel_shape), 0))
    norms: Tensor = torch.linalg.vector_norm(window.views(window.padded(x, 0)), p, axes)
    return norms


def _global_average_pool(x: Tensor) -> Tensor:
    return x.mean(tuple(range(2, x.ndim)), keepdim=True)


def _global_max_pool(x: Tensor) -> Tensor:
    return x.amax(tuple(range(2, x.ndim)), keepdim=True)


def _global_lp_pool(x: Tensor, *, p: int = 2) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(x, p, tuple(range(2, x.ndim)), keepdim=True)
    return norms


def _max_unpool(
    x: Tensor,
    indices: Tensor,
    shape: Numbers | None = None,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
) -> Tensor:
    rank = len(kernel_shape)
    steps, cuts = strides or (1,) * rank, pads or (0,) * 2 * rank
    spatial = [
        (extent - 1) * steps[axis] + kernel_shape[axis] - cuts[axis] - cuts[axis + rank]
        for axis, extent in enumerate(x.shape[2:])
    ]
    inferred = [*x.shape[:2], *spatial]
    flat = torch.zeros(math.prod(inferred), dtype=x.dtype, device=x.device)
    result = flat.scatter(0, indices.reshape(-1), x.reshape(-1)).reshape(inferred)
    wanted = integers(shape) or inferred
    sizes = [size for axis in range(len(wanted))[::-1] for size in (0, wanted[axis] - inferred[axis])]
    return F.pad(result, sizes)


def _col2im(
    x: Tensor,
    image_shape: Numbers,
    block_shape: Numbers,
    *,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
) -> Tensor:
    extents, kernel = integers(image_shape) or [], integers(block_shape) or []
    window = _Window(extents, kernel, strides=strides, dilations=dilations, pads=pads)
    padded = [sum(sizes) for sizes in zip(extents, window.begins, window.ends, strict=True)]
    places = torch.arange(math.prod(padded), device=x.device).reshape(1, 1, *padded)
    rank = len(kernel)
    looked_at = window.views(places)[0, 0].permute(*range(rank, 2 * rank), *range(rank)).reshape(-1)
    columns = x.reshape(x.shape[0], x.shape[1] // math.prod(kernel), -1)
    flat = torch.zeros(*columns.shape[:2], places.numel(), dtype=x.dtype, device=x.device)
    result = flat.index_add(2, looked_at, columns).reshape(*columns.shape[:2], *padded)
    cuts = zip(window.begins[::-1], window.ends[::-1], strict=True)
    return F.pad(result, [-size for pair in cuts for size in pair])


def refuse_window(node: Node, structure: Structure) -> str | None:
    """The reason why a convolution or pool cannot be computed, or None."""
    attributes = node.attributes
    kernel = attributes.get("kernel_shape")
    if kernel is None and len(node.inputs) > 1:
        shapes = {parameter.name: parameter.shape for parameter in structure.parameters}
        kernel = shapes.get(node.inputs[1], ())[2:]
    if isinstance(kernel, tuple) and len(kernel) > 3:
        return f"torch has no kernels of {len(kernel)} dimensions"
    auto_pad = attributes.get("auto_pad", "NOTSET")
    if auto_pad not in _AUTO_PADS:
        return f"auto_pad={auto_pad!r:.60} is not one of {', '.join(_AUTO_PADS)}"
    if node.op_type.endswith("Pool"):
        return _refuse_automatic_pool(node, str(auto_pad))
    return None


def _refuse_automatic_pool(node: Node, auto_pad: str) -> str | None:
    """Two combinations about which the specification and runtimes disagree."""
    kernel: Any = node.attributes["kernel_shape"]
    strides: Any = node.attributes.get("strides") or (1,) * len(kernel)
    dilations: Any = node.attributes.get("dilations") or (1,) * len(kernel)
    if auto_pad == "VALID" and node.attributes.get("ceil_mode"):
        return "ceil_mode with auto_pad=VALID has two readings"
    if auto_pad.startswith("SAME") and any(
        (k - 1) * d + 1 < s for k, d, s in zip(kernel, dilations, strides, strict=True)
    ):
        return f"auto_pad={auto_pad} with strides beyond the window has two readings"
    return None


_NOTE = "one to three spatial dimensions"
_POOL_NOTE = f"{_NOTE}; auto_pad neither with ceil_mode nor with strides beyond the window"

OPERATORS: dict[str, Operator] = {
    "AveragePool": Operator(_average_pool, _POOL_NOTE, refuse_window),
    "Col2Im": Operator(_col2im, numbers=(1, 2)),
    "Conv": Operator(convolve, _NOTE, refuse_window),
    "ConvTranspose": Operator(_conv_transpose, _NOTE, refuse_window),
    "GlobalAveragePool": Operator(_global_average_pool),
    "GlobalLpPool": Operator(_global_lp_pool),
    "GlobalMaxPool": Operator(_global_max_pool),
    "LpPool": Operator(_lp_pool, _POOL_NOTE, refuse_window),
    "MaxPool": Operator(_max_pool, _POOL_NOTE, refuse_window, counted=True),
    "MaxUnpool": Operator(_max_unpool, numbers=(2,)),
}
