"""Pruning: exactly the asked number goes, the least salient first, and never comes back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from deepstruct import pruning
from deepstruct.pruning import PruningStrategy
from deepstruct.sparse import MaskedDeepFFN, MaskedLinearLayer, maskable_layers


def network() -> MaskedDeepFFN:
    torch.manual_seed(0)
    return MaskedDeepFFN(8, 4, [12, 5])


def masks(model: nn.Module) -> list[torch.Tensor]:
    return [layer.mask.clone() for layer in maskable_layers(model)]


def counts(model: nn.Module) -> list[int]:
    return [int(mask.sum()) for mask in masks(model)]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=4), st.booleans())
def test_the_asked_share_of_what_exists_goes(percentages: list[float], whole: bool) -> None:
    model = network()
    prune = pruning.prune_network_by_saliency if whole else pruning.prune_layer_by_saliency
    for percentage in percentages:
        before, existing = masks(model), counts(model)
        prune(model, percentage)
        if whole:
            assert sum(counts(model)) == sum(existing) - round(sum(existing) * percentage / 100)
        else:
            assert counts(model) == [count - round(count * percentage / 100) for count in existing]
        assert all(not (mask & ~old).any() for mask, old in zip(masks(model), before, strict=True))


def test_the_least_salient_go_first() -> None:
    model = network()
    pruning.magnitude_class_blinded(model, 50)
    kept = torch.cat([layer.weight[layer.mask].abs() for layer in maskable_layers(model)])
    gone = torch.cat([layer.weight[~layer.mask].abs() for layer in maskable_layers(model)])
    assert gone.max() <= kept.min()
    model = network()
    pruning.magnitude_class_uniform(model, 50)
    for layer in maskable_layers(model):
        assert layer.weight[~layer.mask].abs().max() <= layer.weight[layer.mask].abs().min()


@given(st.integers(0, 176))
def test_absolute_numbers(number: int) -> None:
    for prune in (pruning.prune_network_by_saliency, pruning.prune_layer_by_saliency):
        model = network()
        prune(model, number, PruningStrategy.ABSOLUTE)
        assert sum(counts(model)) == 96 + 60 + 20 - number


def test_saliency_that_was_set_decides() -> None:
    layer = MaskedLinearLayer(3, 2)
    layer.saliency = torch.arange(6.0).view(2, 3).flip(1)
    pruning.prune_network_by_saliency(layer, 4, PruningStrategy.ABSOLUTE)
    assert layer.mask.tolist() == [[False, False, False], [True, True, False]]


def test_magnitudes_decide_whatever_went_before() -> None:
    model, other = network(), network()
    for layer in maskable_layers(model):
        layer.saliency = torch.rand(layer.weight.shape)
    for each in (model, other):
        pruning.random_pruning(each, 0)
        pruning.magnitude_class_blinded(each, 50)
    assert all(torch.equal(a, b) for a, b in zip(masks(model), masks(other), strict=True))


def test_saliency_can_be_reset() -> None:
    layer = MaskedLinearLayer(3, 2)
    layer.saliency = torch.zeros(2, 3)
    layer.saliency = None
    assert torch.equal(layer.saliency, layer.weight.detach().abs())


def test_random_pruning_can_be_repeated() -> None:
    first, second = network(), network()
    for model in (first, second):
        pruning.random_pruning(model, 40, torch.Generator().manual_seed(7))
    assert all(torch.equal(a, b) for a, b in zip(masks(first), masks(second), strict=True))
    assert sum(counts(first)) == round(0.6 * 176)


def test_distributed_pruning_does_not_depend_on_scale() -> None:
    model, scaled = network(), network()
    with torch.no_grad():
        scaled._layer_first.weight.mul_(1000)
    for each in (model, scaled):
        pruning.magnitude_class_distributed(each, 50)
    assert all(torch.equal(a, b) for a, b in zip(masks(model), masks(scaled), strict=True))


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (0, 2), (1, 1)])
def test_n_of_m(n: int, m: int) -> None:
    layer = MaskedLinearLayer(8, 3)
    pruning.prune_n_m(layer, n, m)
    groups = layer.mask.view(3, -1, m)
    assert (groups.sum(dim=2) == n).all()
    weights = layer.weight.detach().abs().view(3, -1, m)
    smallest = weights.masked_fill(~groups, torch.inf).amin(dim=2)
    largest = weights.masked_fill(groups, -torch.inf).amax(dim=2)
    assert (largest <= smallest).all()


def test_n_of_m_brings_nothing_back() -> None:
    layer = MaskedLinearLayer(8, 3)
    layer[:, :3] = False
    pruning.prune_n_m(layer, 2, 4)
    assert not layer.mask[:, :3].any()
    assert (layer.mask.view(3, -1, 4).sum(dim=2) <= 2).all()


@pytest.mark.parametrize(
    ("prune", "reason"),
    [
        (lambda: pruning.prune_network_by_saliency(nn.Linear(2, 3), 10), "no maskable layer"),
        (lambda: pruning.prune_network_by_saliency(network(), 101), "percentage"),
        (lambda: pruning.prune_layer_by_saliency(network(), -1), "percentage"),
        (lambda: pruning.prune_network_by_saliency(network(), 177, PruningStrategy.ABSOLUTE), "cannot be removed"),
        (lambda: pruning.prune_layer_by_saliency(network(), 2.7, PruningStrategy.ABSOLUTE), "cannot be removed"),
        (lambda: pruning.prune_layer_by_saliency(network(), 177, PruningStrategy.ABSOLUTE), "cannot be removed"),
        (lambda: pruning.prune_n_m(MaskedLinearLayer(7, 3), 2, 4), "no multiple"),
        (lambda: pruning.prune_n_m(MaskedLinearLayer(8, 3), 5, 4), "0 <= n <= m"),
    ],
)
def test_impossible_amounts_change_nothing(prune: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        prune()


def test_random_masks_and_their_number() -> None:
    torch.manual_seed(0)
    model = MaskedDeepFFN(20, 5, [30, 10])
    model.apply(pruning.set_random_masks)
    assert int(pruning.get_network_weight_count(model)) == sum(counts(model))
    assert 0.4 < sum(counts(model)) / sum(layer.weight.numel() for layer in maskable_layers(model)) < 0.6
