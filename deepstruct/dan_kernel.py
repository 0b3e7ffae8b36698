"""The hidden layers of a packed MaskedDeepDAN with few operations, and their gradient.

`MaskedDeepDAN` computes the same in plain torch where this is not possible. Here units stand layer by layer in the
rows of one matrix, (units, batch). What leaves a layer is one product, and a unit is the sum of the rows for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Plain: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Where the rows of all products go, int64.

    Attributes:
        units: ``[rows]``, the unit that each row is added to.
        rows: ``[rows]``, the rows in the order of these units.
        firsts: ``[units behind the first layer]``, place of the first row of each unit among the rows of its layer.
        counts: number of rows that arrive in each layer behind the first.
    """

    units: NDArray[np.int64]
    rows: NDArray[np.int64]
    firsts: NDArray[np.int64]
    counts: list[int]


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
    _arrivals: Arrivals | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self.rows = [sum(self.sizes[target] for target in targets) for targets in self.targets]

    @property
    def arrivals(self) -> Arrivals:
        """Where the rows go; computed when it is first needed."""
        if self._arrivals is None:
            reached = np.fromiter((target for targets in self.targets for target in targets), np.int64)
            sizes = np.array(self.sizes)
            starts, repeated = np.cumsum(sizes) - sizes, sizes[reached]
            within = np.arange(repeated.sum()) - np.repeat(np.cumsum(repeated) - repeated, repeated)
            units = np.repeat(starts[reached], repeated) + within
            blocks = np.bincount(reached, minlength=sizes.size)[1:]
            firsts = np.arange(sizes[0], sizes.sum()) - np.repeat(starts[1:], sizes[1:])
            self._arrivals = Arrivals(
                units,
                np.argsort(units, kind="stable"),
                firsts * np.repeat(blocks, sizes[1:]),
                (blocks * sizes[1:]).tolist(),
            )
        return self._arrivals

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
    if torch.is_grad_enabled():
        apply = cast("Callable[..., Tensor]", _LastLayer.apply)
        return apply(layout, plain, first, weights, biases)
    layers, _ = _forward(layout, first, weights, biases)
    return layers[-1].T


def _forward(layout: Layout, first: Tensor, weights: Tensor, biases: Tensor) -> tuple[list[Tensor], Tensor]:
    """The units of each layer, activated, and the rows of all products."""
    before, arrivals, following = layout.sum_before_activation, layout.arrivals, layout.sizes[1:]
    products = first.new_empty(len(arrivals.rows), first.shape[0])
    if not before:
        products.copy_(biases[:, None])
    columns = biases[:, None].split_with_sizes(following) if before else [biases] * len(following)
    hidden = first.T
    layers = [hidden]
    steps = zip(
        layout.matrices(weights),
        products.split_with_sizes(layout.rows),
        torch.from_numpy(arrivals.rows).to(first.device).split_with_sizes(arrivals.counts),
        torch.from_numpy(arrivals.firsts).to(first.device).split_with_sizes(following),
        columns,
        strict=True,
    )
    for weight, product, rows, firsts, bias in steps:
        if before:
            torch.mm(weight, hidden, out=product)
        else:
            product.addmm_(weight, hidden).relu_()
        hidden = torch.embedding_bag(products, rows, firsts)[0]  # sums of rows
        if before:
            hidden.add_(bias).relu_()
        layers.append(hidden)
    return layers, products


class _LastLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layout: Layout, plain: Plain, first: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
        layers, products = _forward(layout, first, weights, biases)
        ctx.layout, ctx.plain = layout, plain
        ctx.save_for_backward(first, weights, biases, torch.cat(layers), products)
        return layers[-1].T.clone(memory_format=torch.contiguous_format)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        first, weights, biases, units, products = ctx.saved_tensors
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
            )
        of_first, of_weights, of_biases = _backward(ctx.layout, gradient, weights, units, products)
        return None, None, of_first, of_weights, of_biases


def _backward(
    layout: Layout, gradient: Tensor, weights: Tensor, units: Tensor, products: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the first layer, the weights and the biases."""
    before, sizes = layout.sum_before_activation, list(layout.sizes)
    of_units, of_weights = torch.empty_like(units), torch.empty_like(weights)
    of_products = torch.empty_like(products)
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
        torch.from_numpy(layout.arrivals.units).to(units.device).split_with_sizes(layout.rows),
        units.split_with_sizes(sizes) if before else products.split_with_sizes(layout.rows),
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
