"""Pruning of masked layers: which connections go, by saliency, at random, or in N:M patterns.

Every function removes connections from the masks of a module's maskable layers and leaves weights and saliencies
alone; `apply_mask` sets what is masked to 0. The saliency of a layer is the magnitude of its weights unless it was
given another. Exactly the asked number of connections goes; of equally salient ones, those that stand first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

import torch
from torch import Tensor, nn

from deepstruct.sparse import MaskedLinearLayer, maskable_layers

__all__ = [
    "PruningStrategy",
    "get_network_weight_count",
    "magnitude_class_blinded",
    "magnitude_class_distributed",
    "magnitude_class_uniform",
    "prune_layer_by_saliency",
    "prune_n_m",
    "prune_network_by_saliency",
    "random_pruning",
    "set_random_masks",
]

Measure = Callable[[MaskedLinearLayer], Tensor]


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
    _prune_network(network, value, strategy, _saliency)


def prune_layer_by_saliency(
    network: nn.Module, value: float, strategy: PruningStrategy = PruningStrategy.PERCENTAGE
) -> None:
    """Removes the least salient connections of each layer by itself.

    An absolute number is shared among the layers in proportion to the connections that they have.

    Raises:
        ValueError: the network has no maskable layer, or the amount is impossible.
    """
    _prune_layers(network, value, strategy, _saliency)


def magnitude_class_blinded(network: nn.Module, percentage: float) -> None:
    """Removes the smallest weights of all layers together (class-blind, See et al. 2016, arXiv:1606.09274)."""
    _prune_network(network, percentage, PruningStrategy.PERCENTAGE, _magnitude)


def magnitude_class_uniform(network: nn.Module, percentage: float) -> None:
    """Removes the same percentage of smallest weights from each layer (class-uniform, See et al. 2016)."""
    _prune_layers(network, percentage, PruningStrategy.PERCENTAGE, _magnitude)


def magnitude_class_distributed(network: nn.Module, percentage: float) -> None:
    """Removes the weights smallest relative to the standard deviation of their layer (Han et al. 2015, 1506.02626)."""
    _prune_network(network, percentage, PruningStrategy.PERCENTAGE, _relative_magnitude)


def random_pruning(network: nn.Module, percentage: float, generator: torch.Generator | None = None) -> None:
    """Removes connections of all layers together at random."""

    def drawn(layer: MaskedLinearLayer) -> Tensor:
        return torch.rand(layer.weight.shape, generator=generator).to(layer.weight.device)

    _prune_network(network, percentage, PruningStrategy.PERCENTAGE, drawn)


def set_random_masks(module: nn.Module) -> None:
    """Gives a masked layer a random mask, each connection with probability 1/2; for ``network.apply``."""
    if isinstance(module, MaskedLinearLayer):
        module.mask = torch.rand_like(module.weight.detach()) < 0.5


def get_network_weight_count(network: nn.Module) -> Tensor:
    """Number of connections that exist in all layers, as a 0-d tensor."""
    return torch.stack([layer.get_weight_count() for layer in _layers(network)]).sum()


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


def _saliency(layer: MaskedLinearLayer) -> Tensor:
    return layer.saliency


def _magnitude(layer: MaskedLinearLayer) -> Tensor:
    return layer.weight.detach().abs()


def _relative_magnitude(layer: MaskedLinearLayer) -> Tensor:
    magnitude = _magnitude(layer)
    existing = layer.weight.detach()[layer.mask.bool()]
    if existing.numel() < 2:
        return magnitude
    return magnitude / existing.std().clamp_min(torch.finfo(existing.dtype).tiny)


def _existing_saliency(layer: MaskedLinearLayer) -> Tensor:
    """(out, in): saliency, below every real one where no connection exists."""
    return layer.saliency.to(torch.float64).masked_fill(~layer.mask.bool(), -torch.inf)


def _amount(existing: int, value: float, strategy: PruningStrategy) -> int:
    if strategy is PruningStrategy.PERCENTAGE:
        if not 0 <= value <= 100:
            raise ValueError(f"a percentage lies in 0..100, not {value}")
        return round(existing * value / 100)
    if value != int(value) or not 0 <= value <= existing:
        raise ValueError(f"{value} connections cannot be removed from {existing}")
    return int(value)


def _apportion(total: int, sizes: Sequence[int]) -> list[int]:
    """Whole shares of `total` in proportion to `sizes`, by largest remainders."""
    exact = [total * size / max(sum(sizes), 1) for size in sizes]
    shares = [int(share) for share in exact]
    for position in sorted(range(len(sizes)), key=lambda i: shares[i] - exact[i])[: total - sum(shares)]:
        shares[position] += 1
    return shares


def _prune_network(network: nn.Module, value: float, strategy: PruningStrategy, measure: Measure) -> None:
    layers = _layers(network)
    existing = sum(int(layer.mask.sum()) for layer in layers)
    _remove(layers, _amount(existing, value, strategy), measure)


def _prune_layers(network: nn.Module, value: float, strategy: PruningStrategy, measure: Measure) -> None:
    layers = _layers(network)
    existing = [int(layer.mask.sum()) for layer in layers]
    if strategy is PruningStrategy.PERCENTAGE:
        numbers = [_amount(count, value, strategy) for count in existing]
    else:
        numbers = _apportion(_amount(sum(existing), value, strategy), existing)
    for layer, number in zip(layers, numbers, strict=True):
        _remove([layer], number, measure)


def _remove(layers: list[MaskedLinearLayer], number: int, measure: Measure) -> None:
    """Removes the given number of connections, the least salient of all layers together."""
    masks = [layer.mask.bool().flatten() for layer in layers]
    saliency = torch.cat([measure(layer).flatten()[mask] for layer, mask in zip(layers, masks, strict=True)])
    kept = torch.ones(saliency.numel(), dtype=torch.bool, device=saliency.device)
    kept[saliency.argsort(stable=True)[:number]] = False
    parts = torch.split(kept, [int(mask.sum()) for mask in masks])
    for layer, mask, part in zip(layers, masks, parts, strict=True):
        layer.mask = mask.masked_scatter(mask, part).view_as(layer.weight)
