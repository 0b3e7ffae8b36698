"""Recurrent layers: torch's own cells with masks, in torch's gate order."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepstruct.recurrent import (
    BaseRecurrentLayer,
    MaskedDeepRNN,
    MaskedGRULayer,
    MaskedLSTMLayer,
    MaskedRecurrentLayer,
)

KINDS: list[tuple[type[BaseRecurrentLayer], Any]] = [
    (MaskedRecurrentLayer, nn.RNN),
    (MaskedGRULayer, nn.GRU),
    (MaskedLSTMLayer, nn.LSTM),
]


def layers(model: MaskedDeepRNN) -> list[BaseRecurrentLayer]:
    return [layer for layer in model.modules() if isinstance(layer, BaseRecurrentLayer)]


def masked(kind: Any, batch_first: bool) -> MaskedDeepRNN:
    torch.manual_seed(0)
    model = MaskedDeepRNN(3, [5, 4], kind, batch_first=batch_first)
    for layer in layers(model):
        layer.set_i2h_mask(torch.rand(layer._mask_i2h.shape) < 0.5)
        layer.set_h2h_mask(torch.rand(layer._mask_h2h.shape) < 0.5)
    return model


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("kind", "peer"), KINDS)
def test_they_compute_what_torch_computes_with_masked_weights(kind: Any, peer: Any, batch_first: bool) -> None:
    model = masked(kind, batch_first)
    x = torch.randn(7, 6, 3)
    hidden = x
    for layer, size in zip(layers(model), [5, 4], strict=True):
        reference = peer(layer._input_size, size, batch_first=batch_first)
        with torch.no_grad():
            reference.weight_ih_l0.copy_(layer._weight_ih * layer._mask_i2h)
            reference.weight_hh_l0.copy_(layer._weight_hh * layer._mask_h2h)
            reference.bias_ih_l0.copy_(layer._bias_ih)
            reference.bias_hh_l0.copy_(layer._bias_hh)
        hidden, _ = reference(hidden)
    expected = hidden[:, -1] if batch_first else hidden[-1]
    assert torch.allclose(model(x), expected, atol=1e-6)


@pytest.mark.parametrize(("kind", "_peer"), KINDS)
def test_a_sequence_is_its_steps(kind: Any, _peer: Any) -> None:
    layer = layers(masked(kind, False))[0]
    x, hidden = torch.randn(7, 6, 3), torch.randn(6, 5)
    state = (hidden, hidden.clone()) if kind is MaskedLSTMLayer else hidden
    for step, unfolded in zip(x, layer.unfold(x, hidden), strict=True):
        state = layer(step, state)
        assert torch.allclose(state[0] if isinstance(state, tuple) else state, unfolded, atol=1e-6)


def test_state_dict_keys_are_those_of_the_earlier_library() -> None:
    names = ("_weight_ih", "_weight_hh", "_bias_ih", "_bias_hh", "_mask_i2h", "_mask_h2h")
    expected = {f"_recurrent_layers.{layer}.{name}" for layer in range(2) for name in names}
    assert set(MaskedDeepRNN(3, [5, 4], MaskedGRULayer).state_dict()) == expected


def test_the_nonlinearity_is_used() -> None:
    model = MaskedDeepRNN(3, [5], nonlinearity=nn.ReLU())
    assert (model(torch.randn(7, 6, 3)) >= 0).all()


def test_masks_from_magnitudes() -> None:
    model = masked(MaskedLSTMLayer, False)
    hidden = [layer._mask_h2h.clone() for layer in layers(model)]
    model.apply_mask(0.2, i2h=True)
    for layer, mask in zip(layers(model), hidden, strict=True):
        assert torch.equal(layer._mask_i2h, layer._weight_ih.abs() >= 0.2)
        assert torch.equal(layer._mask_h2h, mask)
    model.apply_mask(0.2, h2h=True)
    for layer in layers(model):
        assert torch.equal(layer._mask_h2h, layer._weight_hh.abs() >= 0.2)


def test_what_is_masked_has_no_effect_and_no_gradient() -> None:
    model = masked(MaskedGRULayer, False)
    x = torch.randn(7, 6, 3)
    before = model(x)
    with torch.no_grad():
        for layer in layers(model):
            layer._weight_hh[~layer._mask_h2h] = torch.nan
    assert torch.equal(model(x), before)
    model(x).sum().backward()
    for layer in layers(model):
        assert layer._weight_hh.grad is not None
        assert not layer._weight_hh.grad[~layer._mask_h2h].any()


def test_masks_survive_copies_and_resets() -> None:
    model = masked(MaskedGRULayer, False)
    layer, twin = layers(model)[0], layers(copy.deepcopy(model).double())[0]
    assert torch.equal(layer._mask_i2h, twin._mask_i2h)
    twin.reset_parameters(keep_mask=True)
    assert torch.equal(layer._mask_i2h, twin._mask_i2h)
    twin.reset_parameters()
    assert twin._mask_i2h.all()


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        MaskedGRULayer(0, 3)
    with pytest.raises(ValueError, match="at least one"):
        MaskedDeepRNN(3, [])
    with pytest.raises(TypeError, match="callable"):
        MaskedRecurrentLayer(3, 4, nonlinearity="tanh")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match="shape"):
        MaskedGRULayer(2, 3).set_i2h_mask(torch.ones(2, 9))
    with pytest.raises(ValueError, match="only 0 and 1"):
        MaskedGRULayer(2, 3).set_h2h_mask(torch.full((9, 3), 2))
    with pytest.raises(TypeError, match="batch_frist"):
        MaskedGRULayer(2, 3, batch_frist=True)  # type: ignore[call-arg]  # on purpose
    with pytest.raises(TypeError, match="abstract"):
        BaseRecurrentLayer(2, 3)


class Doubled(MaskedLSTMLayer):
    """A layer of a user, with a step of its own."""

    def forward(self, input: Tensor, hx: Any) -> Any:
        hidden, cell = super().forward(input, hx)
        return 2 * hidden, cell


def test_steps_of_subclasses_are_theirs() -> None:
    torch.manual_seed(0)
    network = MaskedDeepRNN(2, [3], Doubled)
    layer, inputs = network._recurrent_layers[0], torch.randn(5, 4, 2)
    state = torch.zeros(4, 3), torch.zeros(4, 3)
    for step in inputs:
        state = layer(step, state)
    assert torch.equal(network(inputs), state[0])


@pytest.mark.parametrize("assign", [False, True])
def test_masks_of_other_dtypes_load(assign: bool) -> None:
    layer, other = MaskedGRULayer(2, 3), MaskedGRULayer(2, 3)
    layer.set_i2h_mask(torch.rand(9, 2) > 0.5)
    state = {key: value.float() for key, value in layer.state_dict().items()}
    other.load_state_dict(state, assign=assign)
    assert other._mask_i2h.dtype == torch.bool
    inputs, hidden = torch.randn(4, 2), torch.randn(4, 3)
    assert torch.equal(other(inputs, hidden), layer(inputs, hidden))
    state["_mask_h2h"][0, 0] = 0.5
    with pytest.raises(RuntimeError, match="_mask_h2h: a mask holds only 0 and 1"):
        other.load_state_dict(state, assign=assign)
