"""The hidden layers of a packed MaskedDeepDAN with few operations, and their gradient.

`MaskedDeepDAN` computes the same in plain torch where this is not possible. Here units stand layer by layer in the
rows of one matrix, (units, batch), and what leaves a layer is one product, added to the rows of all its targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Plain: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(slots=True)
class Layout:
    """Which layers are connected, and what follows from it for units and products.

    Attributes:
        sizes: number of units of each layer.
        targets: layers that each layer but the last is connected with.
        sum_before_activation: activate units instead of the rows of the products.
        rows: number of rows of the product of each layer but the last.
    """

    sizes: Sequence[int]
    targets: Sequence[Sequence[int]]
    sum_before_activation: bool
    rows: list[int] = field(init=False)
    _arrivals: NDArray[np.int64] | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self.rows = [sum(self.sizes[target] for target in targets) for targets in self.targets]

    def arrivals(self, device: torch.device) -> Tensor:
        """int64 ``[rows of all products]`` on a device: the unit that each row is added to."""
        if self._arrivals is None:
            reached = [target for targets in self.targets for target in targets]
            sizes = np.array(self.sizes)[reached] if reached else np.empty(0, np.int64)
            starts = np.array([0, *accumulate(self.sizes)])[reached] if reached else sizes
            self._arrivals = np.arange(sizes.sum()) + np.repeat(starts - np.cumsum(sizes) + sizes, sizes)
        return torch.from_numpy(self._arrivals).to(device)

    def matrices(self, weights: Tensor) -> list[Tensor]:
        """(rows, units of the source) of each product, from all entries one after the other."""
        areas = [rows * size for rows, size in zip(self.rows, self.sizes, strict=False)]
        return [part.view(r, -1) for part, r in zip(weights.split_with_sizes(areas), self.rows, strict=True)]


def last_layer(layout: Layout, first: Tensor, weights: Tensor, biases: Tensor, plain: Plain) -> Tensor:
    """The units of the last layer, (batch, units).

    Args:
        layout: of the network.
        first: units of the first layer, (batch, units).
        weights: masked weights of all products, row-major, one after the other.
        biases: of each row of the products; to sum before the activation, of each unit behind the first layer.
        plain: computes the same from `first`, `weights` and `biases` with operations that can be differentiated twice.
    """
    arrivals = layout.arrivals(first.device)
    if torch.is_grad_enabled():
        apply = cast("Callable[..., Tensor]", _LastLayer.apply)
        return apply(layout, plain, first, weights, biases, arrivals)
    units, _ = _forward(layout, first, weights, biases, arrivals)
    return units[units.shape[0] - layout.sizes[-1] :].T


def _forward(layout: Layout, first: Tensor, weights: Tensor, biases: Tensor, arrivals: Tensor) -> tuple[Tensor, Tensor]:
    """All units, activated, and the rows of all products."""
    batch = first.shape[0]
    units, products = first.new_zeros(sum(layout.sizes), batch), first.new_empty(arrivals.shape[0], batch)
    before = layout.sum_before_activation
    (units[layout.sizes[0] :] if before else products).copy_(biases[:, None])
    hidden = units.split_with_sizes(list(layout.sizes))
    hidden[0].copy_(first.T)
    steps = zip(
        hidden,
        layout.matrices(weights),
        products.split_with_sizes(layout.rows),
        arrivals.split_with_sizes(layout.rows),
        strict=False,
    )
    for source, weight, product, rows in steps:
        if before:
            torch.mm(weight, source.relu_(), out=product)
        else:
            product.addmm_(weight, source).relu_()
        units.index_add_(0, rows, product)
    if before:
        hidden[-1].relu_()
    return units, products


class _LastLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, layout: Layout, plain: Plain, first: Tensor, weights: Tensor, biases: Tensor, arrivals: Tensor
    ) -> Tensor:
        units, products = _forward(layout, first, weights, biases, arrivals)
        ctx.layout, ctx.plain = layout, plain
        activated = units if layout.sum_before_activation else products
        ctx.save_for_backward(first, weights, biases, arrivals, units, activated)
        return units[units.shape[0] - layout.sizes[-1] :].T.clone(memory_format=torch.contiguous_format)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        first, weights, biases, arrivals, units, activated = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient will be differentiated itself
            inputs = [tensor for tensor in (first, weights, biases) if tensor.requires_grad]
            found = torch.autograd.grad(
                ctx.plain(first, weights, biases), inputs, gradient, create_graph=True, allow_unused=True
            )
            gradients = iter(found)
            return (
                None,
                None,
                *(next(gradients) if tensor.requires_grad else None for tensor in (first, weights, biases)),
                None,
            )
        of_first, of_weights, of_biases = _backward(ctx.layout, gradient, weights, arrivals, units, activated)
        return None, None, of_first, of_weights, of_biases, None


def _backward(
    layout: Layout, gradient: Tensor, weights: Tensor, arrivals: Tensor, units: Tensor, activated: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the first layer, the weights and the biases."""
    before, sizes = layout.sum_before_activation, list(layout.sizes)
    of_units, of_weights = torch.empty_like(units), torch.empty_like(weights)
    of_products = units.new_empty(arrivals.shape[0], units.shape[1])
    of_hidden = of_units.split_with_sizes(sizes)
    of_hidden[-1].copy_(gradient.T)
    if before:
        _through_relu(of_hidden[-1], units[units.shape[0] - sizes[-1] :])
    steps = zip(
        units.split_with_sizes(sizes),
        of_hidden,
        layout.matrices(weights),
        layout.matrices(of_weights),
        of_products.split_with_sizes(layout.rows),
        arrivals.split_with_sizes(layout.rows),
        activated.split_with_sizes(sizes if before else layout.rows),
        strict=False,
    )
    for number, (source, of_source, weight, of_weight, of_product, rows, active) in reversed(list(enumerate(steps))):
        torch.index_select(of_units, 0, rows, out=of_product)
        if not before:
            _through_relu(of_product, active)
        torch.mm(of_product, source.T, out=of_weight)
        torch.mm(weight.T, of_product, out=of_source)
        if before and number:
            _through_relu(of_source, active)
    return of_hidden[0].T, of_weights, (of_units[sizes[0] :] if before else of_products).sum(1)


def _through_relu(gradient: Tensor, activated: Tensor) -> None:
    """Sets the gradient to 0 where the activation is."""
    torch.ops.aten.threshold_backward.grad_input(gradient, activated, 0, grad_input=gradient)
