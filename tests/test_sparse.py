"""Masked torch modules: the formulae, constructor arguments and state_dict keys of the earlier library."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from deepstruct.recurrent import MaskedGRULayer
from deepstruct.sparse import (
    MaskableModule,
    MaskedDeepFFN,
    MaskedLinearLayer,
    maskable_layers,
    maskable_layers_with_name,
)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def masked(model: nn.Module, density: float = 0.4) -> None:
    for layer in maskable_layers(model):
        layer.mask = torch.rand(layer.weight.shape) < density


def test_a_layer_computes_its_formula() -> None:
    layer = MaskedLinearLayer(5, 3)
    mask = torch.rand(3, 5) < 0.5
    layer.mask = mask
    x = torch.randn(7, 5)
    assert torch.allclose(layer(x), x @ (layer.weight * mask).T + layer.bias)
    assert layer.get_weight_count() == mask.sum()
    assert layer.mask.dtype == torch.bool


def test_what_is_masked_has_no_effect_whatever_it_is() -> None:
    layer = MaskedLinearLayer(5, 3)
    layer[0, 2] = False
    x = torch.randn(7, 5)
    before = layer(x)
    for value in (float("nan"), float("inf"), 1e30):
        with torch.no_grad():
            layer.weight[0, 2] = value
        assert torch.equal(layer(x), before)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad[0, 2] == 0


def test_a_network_computes_its_formula() -> None:
    model = MaskedDeepFFN((1, 2, 3), 4, [7, 5, 8], use_layer_norm=True)
    masked(model)
    x = torch.randn(9, 1, 2, 3)
    state = model.state_dict()

    def lin(name: str, h: torch.Tensor) -> torch.Tensor:
        product = h @ (state[f"{name}.weight"] * state[f"{name}._mask"]).T
        result: torch.Tensor = product + state[f"{name}.bias"]
        return result

    def norm(name: str, h: torch.Tensor) -> torch.Tensor:
        return nn.functional.layer_norm(h, h.shape[1:], state[f"{name}.weight"], state[f"{name}.bias"])

    h = torch.relu(lin("_layer_first", x.flatten(1)))
    h = torch.relu(norm("_layers_hidden.1", lin("_layers_hidden.0", h)))
    h = torch.relu(norm("_layers_hidden.4", lin("_layers_hidden.3", h)))
    assert torch.allclose(model(x), lin("_layer_out", h), atol=1e-6)


def test_state_dict_keys_are_those_of_the_earlier_library() -> None:
    plain = set(MaskedDeepFFN(6, 4, [7, 5]).state_dict())
    layers = ("_layer_first", "_layers_hidden.0", "_layer_out")
    assert plain == {f"{layer}.{name}" for layer in layers for name in ("weight", "bias", "_mask")}
    normed = set(MaskedDeepFFN(6, 4, [7, 5], use_layer_norm=True).state_dict())
    assert normed - plain == {"_layers_hidden.1.weight", "_layers_hidden.1.bias"}


def test_checkpoints_with_float_masks_load() -> None:
    model = MaskedDeepFFN(6, 4, [7])
    state = {key: value.float() for key, value in model.state_dict().items()}
    state["_layer_first._mask"][0, 0] = 0
    model.load_state_dict(state)
    assert model._layer_first.mask.dtype == torch.bool
    assert not model._layer_first.mask[0, 0]


def test_assigned_masks_become_bool() -> None:
    model = MaskedDeepFFN(6, 4, [7])
    state = {key: value.double() for key, value in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    assert model._layer_first.mask.dtype == torch.bool
    assert model(torch.randn(2, 6)).dtype == torch.float64
    state["_layer_first._mask"] = torch.full((7, 6), torch.nan)
    with pytest.raises(RuntimeError, match=r"_layer_first\._mask: a mask holds only 0 and 1"):
        model.load_state_dict(state)


def test_apply_and_recompute_mask() -> None:
    model = MaskedDeepFFN(6, 4, [7])
    masked(model)
    x = torch.randn(3, 6)
    before, masks = model(x), [layer.mask.clone() for layer in maskable_layers(model)]
    model.apply_mask()
    assert torch.equal(model(x), before)
    for layer, mask in zip(maskable_layers(model), masks, strict=True):
        assert not layer.weight[~mask].any()
    model.recompute_mask(theta=0.1)
    for layer in maskable_layers(model):
        assert torch.equal(layer.mask, layer.weight.abs() >= 0.1)


def test_recompute_mask_ignores_the_old_mask() -> None:
    layer = MaskedLinearLayer(5, 3)
    layer[:] = False
    layer.recompute_mask(0.0)
    assert layer.mask.all()


def test_reset_parameters_keeps_masks_only_if_told() -> None:
    for keep in (True, False):
        model = MaskedDeepFFN(6, 4, [7, 5], use_layer_norm=True)
        masked(model)
        weight, mask = model._layer_first.weight.clone(), model._layer_first.mask.clone()
        model.reset_parameters(keep_mask=keep)
        assert not torch.equal(model._layer_first.weight, weight)
        assert torch.equal(model._layer_first.mask, mask) == keep


def test_masks_survive_what_people_do_with_modules() -> None:
    model = MaskedDeepFFN(6, 4, [7, 5], use_layer_norm=True)
    masked(model)
    masks = [layer.mask.clone() for layer in maskable_layers(model)]
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    loaded = MaskedDeepFFN(6, 4, [7, 5], use_layer_norm=True)
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    for other in (copy.deepcopy(model), loaded, copy.deepcopy(model).double(), copy.deepcopy(model).bfloat16()):
        kept = [layer.mask for layer in maskable_layers(other)]
        assert all(torch.equal(a, b) for a, b in zip(masks, kept, strict=True))
        assert other(torch.randn(2, 6)).dtype == other._layer_out.weight.dtype


def test_optimisers_never_bring_a_masked_weight_into_effect() -> None:
    model = MaskedDeepFFN(6, 4, [7])
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    for step in range(6):
        if step == 3:
            masked(model)
        optimiser.zero_grad()
        model(torch.randn(8, 6)).square().sum().backward()
        optimiser.step()
    x = torch.randn(3, 6)
    before = model(x)
    model.apply_mask()
    assert torch.equal(model(x), before)


def test_scores_as_parameters() -> None:
    layer = MaskedLinearLayer(5, 3, mask_as_params=True)
    assert layer.mask.all()
    assert layer.mask.dtype == torch.int64
    assert dict(layer.named_parameters())["_mask"].shape == (3, 5, 2)
    mask = torch.rand(3, 5) < 0.5
    layer.mask = mask
    assert torch.equal(layer.mask.bool(), mask)
    layer[1, 2] = 0
    assert layer[1, 2] == 0
    x = torch.randn(7, 5)
    assert torch.allclose(layer(x), x @ (layer.weight * layer.mask).T + layer.bias, atol=1e-6)
    layer(x).sum().backward()
    assert layer._mask.grad is not None
    assert layer._mask.grad.any()
    layer.recompute_mask(0.1)
    assert torch.equal(layer.mask.bool(), layer.weight.abs() >= 0.1)
    layer.reset_parameters()
    assert layer.mask.all()


def test_scores_in_other_dtypes_and_with_nan_under_the_mask() -> None:
    layer = MaskedLinearLayer(5, 3, mask_as_params=True).bfloat16()
    layer[0, 2] = 0
    with torch.no_grad():
        layer.weight[0, 2] = torch.nan
    out = layer(torch.randn(7, 5))
    assert out.dtype == torch.bfloat16
    assert out.isfinite().all()


def test_nested_modules_keep_their_masks() -> None:
    class Outer(MaskableModule):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.ModuleList([MaskedDeepFFN(6, 4, [7]), MaskedGRULayer(4, 3)])

    outer = Outer()
    masked(outer, 0.0)
    gru = outer.inner[1]
    assert isinstance(gru, MaskedGRULayer)
    gru.set_i2h_mask(torch.zeros(9, 4))
    outer.reset_parameters(keep_mask=True)
    assert not any(layer.mask.any() for layer in maskable_layers(outer))
    assert not gru._mask_i2h.any()
    outer.reset_parameters()
    assert all(layer.mask.all() for layer in maskable_layers(outer))
    assert gru._mask_i2h.all()


def test_saliency_is_magnitude_unless_set() -> None:
    layer = MaskedLinearLayer(5, 3)
    assert torch.equal(layer.saliency, layer.weight.detach().abs())
    layer.saliency = torch.ones(3, 5)
    assert layer.saliency.sum() == 15
    with pytest.raises(ValueError, match="shape"):
        layer.saliency = torch.ones(5, 3)


def test_the_latest_input_is_kept_if_told() -> None:
    layer = MaskedLinearLayer(5, 3, keep_layer_input=True)
    x = torch.randn(2, 5)
    layer(x)
    assert layer.layer_input is not None
    assert torch.equal(layer.layer_input, x)


def test_advanced_indices_set_the_mask() -> None:
    layer = MaskedLinearLayer(5, 3)
    layer[[0, 2], [1, 4]] = 0
    assert layer.mask.sum() == 13
    assert not layer[0, 1]


@pytest.mark.parametrize(
    "mask", [torch.ones(5, 3), torch.ones(3, 5, 1), torch.full((3, 5), 0.5), torch.full((3, 5), 2)]
)
def test_what_is_no_mask_is_refused(mask: torch.Tensor) -> None:
    layer = MaskedLinearLayer(5, 3)
    with pytest.raises(ValueError, match="mask"):
        layer.mask = mask
    assert layer.mask.all()


@pytest.mark.parametrize(("sizes", "hidden"), [((6, 4), []), ((0, 4), [5]), ((6, 4), [5, 0]), ((6, -1), [5])])
def test_impossible_sizes_are_refused(sizes: tuple[int, int], hidden: list[int]) -> None:
    with pytest.raises(ValueError, match="layer size"):
        MaskedDeepFFN(*sizes, hidden)


def test_maskable_layers_are_found_at_any_depth() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(MaskedLinearLayer(3, 4)), MaskedDeepFFN(4, 2, [5]))
    names = [name for name, _ in maskable_layers_with_name(model)]
    assert names == ["1.0", "2._layer_first", "2._layer_out"]
    assert isinstance(model[2], MaskableModule)
