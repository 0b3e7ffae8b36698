"""Pruning of masked layers: which connections go, by saliency, at random, or in N:M patterns.

Every function removes connections from the masks of a module's maskable layers and leaves the weights alone;
`apply_mask` sets what is masked to 0. Saliency is the magnitude of the weight unless a layer was given another.
Exactly the asked number of connections goes; of equally salient ones, those that stand first.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import torch
from torch import Tensor, nn

from deepstruct.sparse import MaskedLinearLayer, maskable_layers

__all__ = [
    "PruningStrategy",
    "magnitude_class_blinded",
    "magnitude_class_distributed",
    "magnitude_class_uniform",
    "prune_layer_by_saliency",
    "prune_n_m",
    "prune_network_by_saliency",
    "random_pruning",
    "set_distributed_saliency",
    "set_random_saliency",
]


class PruningStrategy(Enum):
    """What the amount of a pruning means: a percentage of the connections that still exist, or their number."""

    PERCENTAGE = 0
    ABSOLUTE = 1


def prune_network_by_saliency(
    network: nn.Module, value: float, strategy: PruningStrategy = PruningStrategy.PERCENTAGE
) -> None:
    """Removes the least salient connections of all layers together.

    Raises:
        ValueError: the network has no maskable layer, or the amount is impossible.
    """
    _remove(_layers(network), value, strategy)


def prune_layer_by_saliency(
    network: nn.Module, value: float, strategy: PruningStrategy = PruningStrategy.PERCENTAGE
) -> None:
    """Removes the least salient connections of each layer by itself.

    An absolute number is shared among the layers in proportion to the connections that they have.

    Raises:
        ValueError: the network has no maskable layer, or the amount is impossible.
    """
    layers = _layers(network)
    if strategy is PruningStrategy.PERCENTAGE:
        shares = [value] * len(layers)
    else:
        existing = [int(layer.mask.sum()) for layer in layers]
        shares = [float(share) for share in _apportion(_amount(sum(existing), value, strategy), existing)]
    for layer, share in zip(layers, shares, strict=True):
        _remove([layer], share, strategy)


def magnitude_class_blinded(network: nn.Module, percentage: float) -> None:
    """Removes the smallest weights of all layers together (class-blind, See et al. 2016, arXiv:1606.09274)."""
    prune_network_by_saliency(network, percentage)


def magnitude_class_uniform(network: nn.Module, percentage: float) -> None:
    """Removes the same percentage of smallest weights from each layer (class-uniform, See et al. 2016)."""
    prune_layer_by_saliency(network, percentage)


def magnitude_class_distributed(network: nn.Module, percentage: float) -> None:
    """Removes the smallest weights relative to the standard deviation of their layer (Han et al. 2015, 1506.02626).

    The saliency that this takes stays set.
    """
    set_distributed_saliency(network)
    prune_network_by_saliency(network, percentage)


def random_pruning(network: nn.Module, percentage: float, generator: torch.Generator | None = None) -> None:
    """Removes connections of all layers together at random. The random saliency stays set."""
    set_random_saliency(network, generator)
    prune_network_by_saliency(network, percentage)


def set_random_saliency(network: nn.Module, generator: torch.Generator | None = None) -> None:
    """Gives every connection a random saliency in [0, 1)."""
    for layer in _layers(network):
        layer.saliency = torch.rand(layer.weight.shape, generator=generator).to(layer.weight.device)


def set_distributed_saliency(network: nn.Module) -> None:
    """Sets the saliency to the magnitude divided by the standard deviation of the layer's existing weights."""
    for layer in _layers(network):
        weight = layer.weight.detach()
        existing = weight[layer.mask.bool()]
        deviation = existing.std() if existing.numel() > 1 else torch.ones((), device=weight.device)
        layer.saliency = weight.abs() / deviation.clamp_min(torch.finfo(weight.dtype).tiny)


def prune_n_m(network: nn.Module, n: int, m: int) -> None:
    """Keeps at most the `n` most salient of each `m` neighbouring inputs of a unit, in every layer.

    Raises:
        ValueError: not ``0 <= n <= m``, or the inputs of a layer are no multiple of `m`.
    """
    if not 0 <= n <= m or m < 1:
        raise ValueError(f"N:M needs 0 <= n <= m, not {n}:{m}")
    layers = _layers(network)
    for layer in layers:
        if layer.in_features % m:
            raise ValueError(f"{layer.in_features} inputs of a layer are no multiple of {m}")
    for layer in layers:
        groups = _existing_saliency(layer).view(layer.out_features, -1, m)
        rank = groups.argsort(dim=2, descending=True, stable=True).argsort(dim=2)
        layer.mask = layer.mask.bool() & (rank < n).view_as(layer.weight)


def _layers(network: nn.Module) -> list[MaskedLinearLayer]:
    layers = [network] if isinstance(network, MaskedLinearLayer) else list(maskable_layers(network))
    if not layers:
        raise ValueError(f"a {type(network).__name__} has no maskable layer to prune")
    return layers


def _existing_saliency(layer: MaskedLinearLayer) -> Tensor:
    """(out, in): saliency, below every real one where no connection exists."""
    return layer.saliency.to(torch.float64).masked_fill(~layer.mask.bool(), -torch.inf)


def _amount(existing: int, value: float, strategy: PruningStrategy) -> int:
    if strategy is PruningStrategy.PERCENTAGE:
        if not 0 <= value <= 100:
            raise ValueError(f"a percentage lies in 0..100, not {value}")
        return round(existing * value / 100)
    if not 0 <= value <= existing:
        raise ValueError(f"{value} connections cannot be removed from {existing}")
    return int(value)


def _apportion(total: int, sizes: Sequence[int]) -> list[int]:
    """Whole shares of `total` in proportion to `sizes`, by largest remainders."""
    exact = [total * size / max(sum(sizes), 1) for size in sizes]
    shares = [int(share) for share in exact]
    for position in sorted(range(len(sizes)), key=lambda i: shares[i] - exact[i])[: total - sum(shares)]:
        shares[position] += 1
    return shares


def _remove(layers: list[MaskedLinearLayer], value: float, strategy: PruningStrategy) -> None:
    masks = [layer.mask.bool().flatten() for layer in layers]
    number = _amount(sum(int(mask.sum()) for mask in masks), value, strategy)
    saliency = torch.cat([layer.saliency.flatten()[mask] for layer, mask in zip(layers, masks, strict=True)])
    kept = torch.ones(saliency.numel(), dtype=torch.bool, device=saliency.device)
    kept[saliency.argsort(stable=True)[:number]] = False
    parts = torch.split(kept, [int(mask.sum()) for mask in masks])
    for layer, mask, part in zip(layers, masks, parts, strict=True):
        layer.mask = mask.masked_scatter(mask, part).view_as(layer.weight)
