"""The hidden layers of a packed MaskedDeepDAN with few operations, and their gradient.

`MaskedDeepDAN` computes the same in plain torch where this is not possible. Here units stand layer by layer in the
rows of one matrix, (units, batch), and what leaves a layer is one product, added to the rows of all its targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(slots=True)
class Layout:
    """Which layers are connected, and what follows from it for units and products.

    Attributes:
        sizes: number of units of each layer.
        targets: layers that each layer but the last is connected with.
        sum_before_activation: activate units instead of the rows of the products.
        units: rows of each layer in the matrix of units.
        rows: number of rows of the product of each layer but the last.
    """

    sizes: Sequence[int]
    targets: Sequence[Sequence[int]]
    sum_before_activation: bool
    units: list[slice] = field(init=False)
    rows: list[int] = field(init=False)

    def __post_init__(self) -> None:
        ends = accumulate(self.sizes)
        self.units = [slice(end - size, end) for size, end in zip(self.sizes, ends, strict=True)]
        self.rows = [sum(self.sizes[target] for target in targets) for targets in self.targets]

    def arrivals(self) -> Tensor:
        """int64 ``[rows of all products]``: the unit that each row is added to."""
        reached = [target for targets in self.targets for target in targets]
        sizes = np.array(self.sizes)[reached] if reached else np.empty(0, np.int64)
        starts = np.array([self.units[target].start for target in reached], dtype=np.int64)
        return torch.from_numpy(np.arange(sizes.sum()) + np.repeat(starts - np.cumsum(sizes) + sizes, sizes))

    def matrices(self, weights: Tensor) -> list[Tensor]:
        """(rows, units of the source) of each product, from all entries one after the other."""
        areas = [rows * size for rows, size in zip(self.rows, self.sizes, strict=False)]
        parts = zip(weights.split_with_sizes(areas), self.rows, strict=True)
        return [part.view(rows, -1) for part, rows in parts]


def last_layer(layout: Layout, first: Tensor, weights: Tensor, biases: Tensor, arrivals: Tensor) -> Tensor:
    """The units of the last layer, (batch, units).

    Args:
        layout: of the network.
        first: units of the first layer, (batch, units).
        weights: masked weights of all products, row-major, one after the other.
        biases: of each row of the products; to sum before the activation, of each unit behind the first layer.
        arrivals: of the layout.
    """
    if torch.is_grad_enabled():
        apply = cast("Callable[..., Tensor]", _LastLayer.apply)
        return apply(layout, first, weights, biases, arrivals)
    units, _ = _forward(layout, first, weights, biases, arrivals)
    return units[layout.units[-1]].T


def _forward(
    layout: Layout, first: Tensor, weights: Tensor, biases: Tensor, arrivals: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """All units, activated, and the rows of each product."""
    units = first.new_zeros(layout.units[-1].stop, first.shape[0])
    units[layout.units[0]] = first.T
    if layout.sum_before_activation:
        units[layout.units[0].stop :] = biases[:, None]
        offsets: Sequence[Tensor | None] = [None] * len(layout.rows)
    else:
        offsets = biases[:, None].split_with_sizes(layout.rows)
    products = []
    steps = zip(layout.units, layout.matrices(weights), offsets, arrivals.split_with_sizes(layout.rows), strict=False)
    for source, weight, bias, rows in steps:
        hidden = units[source]
        product = weight @ hidden.relu_() if bias is None else torch.addmm(bias, weight, hidden).relu_()
        units.index_add_(0, rows, product)
        products.append(product)
    if layout.sum_before_activation:
        units[layout.units[-1]].relu_()
    return units, products


class _LastLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layout: Layout, first: Tensor, weights: Tensor, biases: Tensor, arrivals: Tensor) -> Tensor:
        units, products = _forward(layout, first, weights, biases, arrivals)
        ctx.layout = layout
        ctx.save_for_backward(weights, arrivals, units, *products)
        return units[layout.units[-1]].T.contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        layout: Layout = ctx.layout
        weights, arrivals, units, *products = ctx.saved_tensors
        before = layout.sum_before_activation
        gradients = torch.zeros_like(units)
        last = layout.units[-1]
        gradients[last] = _through_relu(gradient.T, units[last]) if before else gradient.T
        of_weights = torch.empty_like(weights)
        of_rows: list[Tensor] = []
        layers = list(zip(layout.units, layout.matrices(weights), layout.matrices(of_weights), strict=False))
        arriving = zip(arrivals.split_with_sizes(layout.rows), products, strict=True)
        for (source, weight, of_weight), (rows, product) in reversed(list(zip(layers, arriving, strict=True))):
            of_product = gradients.index_select(0, rows)
            if not before:
                of_product = _through_relu(of_product, product)
                of_rows.append(of_product.sum(1))
            hidden = units[source]
            torch.mm(of_product, hidden.T, out=of_weight)
            of_hidden = torch.mm(weight.T, of_product)
            gradients[source] = _through_relu(of_hidden, hidden) if before and source.start else of_hidden
        of_biases = gradients[layout.units[0].stop :].sum(1) if before else torch.cat([*of_rows[::-1], weights[:0]])
        return None, gradients[layout.units[0]].T, of_weights, of_biases, None


def _through_relu(gradient: Tensor, activated: Tensor) -> Tensor:
    through: Tensor = torch.ops.aten.threshold_backward(gradient, activated, 0)
    return through
