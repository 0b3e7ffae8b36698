"""Masks in modules of every kind: found where the graph applies them, at the right parameter, and nowhere else."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import deepstruct
from deepstruct import Loss, Model
from deepstruct.sparse import MaskedLinearLayer

torch.manual_seed(0)
MASK = torch.rand(7, 5) > 0.5
X = torch.randn(3, 5)
_prune: Any = prune  # torch leaves it untyped


def traced(module: nn.Module, x: Tensor) -> tuple[Model, dict[str, Any]]:
    """The model of a module, whose outputs are checked, and its masks by name."""
    losses: list[Loss] = []
    model = deepstruct.from_module(module, x, losses=losses)
    assert {loss.what for loss in losses} <= {"masked values", "sharing", "mask scores"}
    with torch.no_grad():
        torch.testing.assert_close(deepstruct.to_module(model)(x), module.eval()(x), rtol=1e-6, atol=1e-7)
    masks = {p.name: p.mask.to_array() for p in model.structure.parameters if p.mask is not None}
    return model, masks


def check_masks(masks: dict[str, Any], expected: dict[str, Tensor]) -> None:
    assert masks.keys() == expected.keys()
    for name, mask in expected.items():
        assert np.array_equal(masks[name], mask.bool().numpy()), name


class Convolutional(nn.Module):
    """Everything that `torch.nn.utils.prune` can prune."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, groups=2)
        self.norm = nn.BatchNorm2d(6)
        self.up = nn.ConvTranspose2d(6, 4, 2, 2)
        self.embedding = nn.Embedding(9, 12)
        self.lstm = nn.LSTM(8, 4, batch_first=True, bidirectional=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.wide = nn.Linear(8, 5)
        self.narrow = nn.Linear(5, 3, bias=False)

    def forward(self, ids: Tensor) -> Any:
        x = self.embedding(ids).view(-1, 4, 3, 6)
        x = self.up(self.norm(self.conv(x)).relu())
        x = self.lstm(x.reshape(-1, 8, 8))[0]
        return self.narrow(self.wide(self.attention(x, x, x)[0]).tanh())


def test_pruned_modules_keep_names_and_masks(tmp_path: Path) -> None:
    module = Convolutional()
    names = list(module.state_dict())
    with warnings.catch_warnings(action="ignore"):  # about weights of the LSTM that do not lie side by side
        _prune.l1_unstructured(module.conv, "weight", 0.3)
        _prune.random_structured(module.up, "weight", 0.5, dim=1)
        _prune.l1_unstructured(module.norm, "weight", 2)
        _prune.l1_unstructured(module.embedding, "weight", 0.5)
        _prune.l1_unstructured(module.lstm, "weight_ih_l0", 0.4)
        _prune.l1_unstructured(module.lstm, "weight_hh_l0_reverse", 0.4)
        _prune.l1_unstructured(module.lstm, "bias_hh_l0", 0.4)
        _prune.l1_unstructured(module.attention, "in_proj_weight", 0.4)
        _prune.l1_unstructured(module.attention.out_proj, "weight", 0.4)
        _prune.ln_structured(module.wide, "weight", 0.4, 2, 0)
        _prune.l1_unstructured(module.wide, "bias", 2)
        _prune.custom_from_mask(module.narrow, "weight", torch.rand(3, 5) > 0.5)
        _prune.global_unstructured(
            [(module.wide, "weight"), (module.narrow, "weight")], prune.L1Unstructured, amount=0.2
        )
        module.eval()
        model, masks = traced(module, torch.randint(0, 9, (2, 6)))
    own = module.state_dict()
    check_masks(masks, {k.removesuffix("_mask"): v for k, v in own.items() if k.endswith("_mask")})
    assert {p.name for p in model.structure.parameters} == set(names)
    assert model.weights is not None
    for name in masks:
        original = own[f"{name}_orig"].numpy()
        assert np.array_equal(model.weights[name], np.where(masks[name], original, 0)), name
    for file in ("a.structure.json", "a.onnx", "a.pt"):
        deepstruct.save(model, tmp_path / file, fail_on_loss=True)
        assert deepstruct.load(tmp_path / file) == model


class Masking(nn.Module):
    """A parametrization of a weight by a mask."""

    def __init__(self, mask: Tensor, function: Callable[[Tensor, Any], Tensor]) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.function = function

    def forward(self, weight: Tensor) -> Tensor:
        return self.function(weight, self.mask)


def _times(w: Tensor, m: Any) -> Tensor:
    return w * m  # type: ignore[no-any-return]  # a tensor


ROWS = (torch.arange(7) % 2).float()
COLUMNS = torch.tensor([1.0, 0, 1, 0, 1])
ONE = F.one_hot(torch.tensor(13), 35).view(7, 5)
PARAMETRIZATIONS: dict[str, tuple[Tensor, Callable[[Tensor, Any], Tensor], Tensor]] = {
    "float": (MASK.float(), _times, MASK),
    "bool": (MASK, _times, MASK),
    "int": (MASK.long(), _times, MASK),
    "masked_fill": (MASK, lambda w, m: w.masked_fill(m, 0), ~MASK),
    "where": (MASK, lambda w, m: torch.where(m, w, 0.0), MASK),
    "where not": (MASK, lambda w, m: torch.where(~m, torch.zeros_like(w), w), MASK),
    "inverted": (MASK.float(), lambda w, m: w * (1 - m), ~MASK),
    "threshold": (torch.arange(35.0).view(7, 5), lambda w, m: w * (m > 12).float(), torch.arange(35).view(7, 5) > 12),
    "transposed": (MASK.T.float().contiguous(), lambda w, m: (w.t() * m).t(), MASK),
    "twice transposed": (MASK.T.contiguous(), lambda w, m: torch.where(m, w.t(), 0).t() * m.t(), MASK),
    "rows": (ROWS[:, None], _times, ROWS[:, None].expand(7, 5)),
    "columns": (COLUMNS, _times, COLUMNS.expand(7, 5)),
    "product": (ROWS, lambda w, m: w * (m[:, None] * COLUMNS), ROWS[:, None] * COLUMNS),
    "one entry": (ONE.float(), _times, ONE),
    "none": (torch.zeros(7, 5), _times, torch.zeros(7, 5)),
}


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_parametrizations_that_mask(name: str) -> None:
    mask, function, expected = PARAMETRIZATIONS[name]
    module = nn.Sequential(nn.Tanh(), nn.Linear(5, 7))
    parametrize.register_parametrization(module[1], "weight", Masking(mask, function))
    model, masks = traced(module, X)
    check_masks(masks, {"1.weight": expected})
    assert [(p.name, p.shape) for p in model.structure.parameters] == [("1.weight", (7, 5)), ("1.bias", (7,))]
    assert [node.op_type for node in model.structure.nodes if node.op_type != "Transpose"] == ["Tanh", "Gemm"]


def test_parametrizations_in_a_row() -> None:
    module = nn.Sequential(nn.Tanh(), nn.Linear(5, 7))
    parametrize.register_parametrization(module[1], "weight", Masking(MASK, _times))
    parametrize.register_parametrization(module[1], "weight", Masking(MASK.roll(1), _times))
    check_masks(traced(module, X)[1], {"1.weight": MASK & MASK.roll(1)})


def test_full_masks_are_none() -> None:
    module = nn.Sequential(nn.Tanh(), nn.Linear(5, 7))
    parametrize.register_parametrization(module[1], "weight", Masking(torch.ones(7, 5), _times))
    model, masks = traced(module, X)
    assert not masks
    assert [p.name for p in model.structure.parameters] == ["1.weight", "1.bias"]


@pytest.mark.parametrize("kind", ["weight norm", "spectral norm", "mask after norm"])
def test_other_parametrizations_stay_in_the_graph(kind: str) -> None:
    layer: Any = nn.Linear(5, 7)
    norm: Any = parametrizations.spectral_norm if kind == "spectral norm" else parametrizations.weight_norm
    module = nn.Sequential(nn.Tanh(), norm(layer))
    if kind == "mask after norm":
        parametrize.register_parametrization(layer, "weight", Masking(MASK.float(), _times))
    model, masks = traced(module, X)
    assert not masks
    assert {p.name for p in model.structure.parameters} == module.state_dict().keys()


class Own(nn.Module):
    """A layer with a mask of its own."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **more: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(7, 5))
        self.bias = nn.Parameter(torch.randn(7))
        self.function = forward
        for name, tensor in ({"mask": MASK.float()} | more).items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor, persistent=name != "hidden")

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def _own(self: Any, x: Tensor) -> Tensor:
    return F.linear(x, self.weight * self.mask, self.bias)


LAYERS: dict[str, tuple[Callable[[Any, Tensor], Any], dict[str, Tensor], dict[str, Tensor]]] = {
    "its own": (_own, {}, {"weight": MASK}),
    "not in the state": (lambda s, x: F.linear(x, s.weight * s.hidden), {"hidden": MASK}, {"weight": MASK}),
    "without a name": (lambda s, x: F.linear(x, s.weight * MASK), {}, {"weight": MASK}),
    "by matmul": (lambda s, x: x @ torch.where(s.mask.bool(), s.weight, 0).T, {}, {"weight": MASK}),
    "weight and bias": (
        lambda s, x: F.linear(x, s.mask * s.weight, s.bias * s.rows),
        {"rows": ROWS},
        {"weight": MASK, "bias": ROWS},
    ),
    "twice": (
        lambda s, x: F.linear(x, s.weight * s.mask) + F.linear(x * 2, s.weight * s.mask),
        {},
        {"weight": MASK},
    ),
    "two masks": (
        lambda s, x: F.linear(x, s.weight * s.mask) + F.linear(x, s.weight * s.other),
        {"other": MASK.roll(1)},
        {},
    ),
    "once without": (lambda s, x: F.linear(x, s.weight * s.mask) + F.linear(x, s.weight), {}, {}),
    "returned too": (lambda s, x: (F.linear(x, s.weight * s.mask), s.weight)[0] + s.weight.sum(), {}, {}),
    "a trained gate": (_own, {"mask": nn.Parameter(MASK.float())}, {}),
    "a trained gate called mask": (
        lambda s, x: F.linear(x, s.weight * s.weight_mask),
        {"weight_mask": nn.Parameter(MASK.float())},
        {},
    ),
    "a frozen gate": (_own, {"mask": nn.Parameter(MASK.float(), requires_grad=False)}, {}),
    "numbers other than 0 and 1": (_own, {"mask": MASK.float() * 0.5}, {}),
    "of activations": (lambda s, x: F.linear(x, s.weight) * s.rows, {"rows": ROWS}, {}),
    "filled with 1": (lambda s, x: F.linear(x, s.weight.masked_fill(s.mask.bool(), 1.0)), {}, {}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_masks_of_peoples_own_layers(name: str) -> None:
    forward, more, expected = LAYERS[name]
    module = Own(forward, **more)
    model, masks = traced(module, X)
    check_masks(masks, expected)
    if not expected:
        assert {p.name for p in model.structure.parameters} == module.state_dict().keys()


def test_numbers_that_multiplication_does_not_hide() -> None:
    module = Own(_own)
    with torch.no_grad():
        module.weight[~MASK] = torch.inf
    model = deepstruct.from_module(module, X)
    assert all(p.mask is None for p in model.structure.parameters)
    assert torch.equal(deepstruct.to_module(model)(X).isnan(), module(X).isnan())


class Gated(nn.Module):
    """Layers of this package in a module that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedLinearLayer(5, 7)
        self.scored = MaskedLinearLayer(7, 3, mask_as_params=True)
        self.first.mask = MASK
        self.scored[1:, 2:] = 0

    def forward(self, x: Tensor) -> Any:
        return self.scored(self.first(x).relu()) + self.scored(self.first(x).tanh())


def test_masked_layers_in_other_modules() -> None:
    module = Gated()
    model, masks = traced(module, X)
    check_masks(masks, {"first.weight": MASK, "scored.weight": module.scored.mask})
    names = ["first.weight", "first.bias", "scored.weight", "scored.bias"]
    assert [p.name for p in model.structure.parameters] == names


def test_one_weight_under_two_prunings() -> None:
    first, second = nn.Linear(5, 5), nn.Linear(5, 5)
    second.weight = first.weight
    for layer in (first, second):
        _prune.random_unstructured(layer, "weight", 0.5)
    module = nn.Sequential(nn.Tanh(), first, second)
    model, masks = traced(module, X)
    assert not masks
    assert sum(p.shape == (5, 5) for p in model.structure.parameters) == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_masks_in_every_precision(dtype: torch.dtype) -> None:
    layer = nn.Linear(5, 7)
    _prune.random_unstructured(layer, "weight", 0.5)
    module = nn.Sequential(nn.Tanh(), layer).to(dtype)
    check_masks(traced(module, X.to(dtype))[1], {"1.weight": layer.get_buffer("weight_mask")})


def test_zeros_become_masks_on_request() -> None:
    layer = nn.Conv1d(5, 7, 1)
    _prune.random_unstructured(layer, "weight", 0.5)
    _prune.remove(layer, "weight")
    module, x = nn.Sequential(nn.Tanh(), layer), torch.randn(2, 5, 3)
    assert deepstruct.from_module(module, x).structure.parameter("1.weight").mask is None
    inferred = deepstruct.from_module(module, x, infer_masks=True).structure
    mask = inferred.parameter("1.weight").mask
    assert mask is not None
    assert np.array_equal(mask.to_array(), layer.weight.detach().numpy() != 0)
    assert inferred.parameter("1.bias").mask is None
