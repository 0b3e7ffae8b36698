"""Torch: every kind of checkpoint in, the same module out, and nothing executed on the way."""

from __future__ import annotations

import contextlib
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn.utils import prune

import deepstruct
from deepstruct import Loss, Mask, Model, Structure
from deepstruct.errors import (
    DeepstructError,
    LossWarning,
    MalformedFileError,
    UnreadableFileError,
    UnsupportedError,
    UsageError,
)
from deepstruct.sparse import MaskedDeepFFN, MaskedLinearLayer, maskable_layers
from deepstruct.testing import SAMPLES, chains, tame, with_weights


@pytest.fixture
def network() -> MaskedDeepFFN:
    torch.manual_seed(0)
    model = MaskedDeepFFN(6, 4, [7, 5], use_layer_norm=True)
    for layer in maskable_layers(model):
        layer.mask = torch.rand(layer.weight.shape) < 0.4
    with torch.no_grad():
        model._layer_first.weight[0, 0] = 0.0
        model._layer_first[0, 0] = True
    model.apply_mask()
    return model


def same(a: nn.Module, b: nn.Module, x: torch.Tensor) -> bool:
    states = a.state_dict(), b.state_dict()
    equal = all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    return type(a) is type(b) and list(states[0]) == list(states[1]) and equal and torch.equal(a(x), b(x))


def test_a_module_comes_back_as_itself(network: MaskedDeepFFN, tmp_path: Path) -> None:
    for name in ("a.pt", "a.structure.json", "a.onnx"):
        deepstruct.save(network, tmp_path / name, fail_on_loss=True)
        assert same(deepstruct.to_module(deepstruct.load(tmp_path / name)), network, torch.randn(9, 6))


def test_a_kept_zero_is_no_masked_weight(network: MaskedDeepFFN, tmp_path: Path) -> None:
    deepstruct.save(network, tmp_path / "a.pt")
    mask = deepstruct.load(tmp_path / "a.pt").structure.parameter("_layer_first.weight").mask
    assert mask is not None
    assert mask.to_array()[0, 0]


def test_other_programs_can_open_our_checkpoint(network: MaskedDeepFFN, tmp_path: Path) -> None:
    deepstruct.save(network, tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    other = MaskedDeepFFN(6, 4, [7, 5], use_layer_norm=True)
    other.load_state_dict(content["state_dict"])
    assert same(other, network, torch.randn(9, 6))


@pytest.mark.parametrize("wrap", ["bare", "lightning", "data-parallel", "compiled", "legacy"])
def test_state_dicts_say_what_they_are(network: MaskedDeepFFN, tmp_path: Path, wrap: str) -> None:
    path, state = tmp_path / "a.pt", network.state_dict()
    expected: list[tuple[str, str]] = []
    if wrap == "lightning":
        torch.save({"epoch": 3, "state_dict": state, "optimizer_states": [{}]}, path)
        expected = [("entries", "a.pt")]
    elif wrap in ("data-parallel", "compiled"):
        prefix = "module." if wrap == "data-parallel" else "_orig_mod."
        torch.save({prefix + key: value for key, value in state.items()}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=wrap != "legacy")
    losses: list[Loss] = []
    model = deepstruct.load(path, losses=losses)
    assert [(loss.what, loss.where) for loss in losses] == expected
    assert same(deepstruct.to_module(model), network, torch.randn(9, 6))


def test_losses_are_a_warning_where_nobody_collects_them(network: MaskedDeepFFN, tmp_path: Path) -> None:
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, tmp_path / "a.pt")
    with pytest.warns(LossWarning, match="epoch"):
        deepstruct.load(tmp_path / "a.pt")


def test_numbers_under_a_mask_are_a_loss(network: MaskedDeepFFN, tmp_path: Path) -> None:
    with torch.no_grad():
        network._layer_out.weight.fill_(1)
    hidden = int((~network._layer_out.mask).sum())
    (loss,) = deepstruct.save(network, tmp_path / "a.pt").losses
    assert (loss.what, loss.where) == ("masked values", "_layer_out.weight")
    assert loss.why.startswith(str(hidden))


def sequential() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(6, 7),
        nn.Sequential(nn.ELU(0.5), nn.LayerNorm(7)),
        nn.Linear(7, 5, bias=False),
        nn.GELU(),
    )


def test_plain_modules_come_back_as_computations(tmp_path: Path) -> None:
    module = sequential()
    prune.random_unstructured(module[1], "weight", 0.5)  # type: ignore[no-untyped-call]  # torch's
    x = torch.randn(9, 2, 3)
    expected = module(x)
    deepstruct.save(module, tmp_path / "a.onnx")
    model = deepstruct.load(tmp_path / "a.onnx")
    assert [p.name for p in model.structure.parameters] == [
        "1.weight",
        "1.bias",
        "2.1.weight",
        "2.1.bias",
        "3.weight",
    ]
    mask = model.structure.parameter("1.weight").mask
    assert mask is not None
    assert np.array_equal(mask.to_array(), dict(module[1].named_buffers())["weight_mask"].numpy() != 0)
    back = deepstruct.to_module(model)
    assert torch.equal(back(x), expected)
    assert Model(back.structure(), model.weights) == model  # type: ignore[operator]  # a StructureModule's
    deepstruct.save(back, tmp_path / "b.pt")
    assert deepstruct.load(tmp_path / "b.pt") == model


@settings(max_examples=40)
@given(chains())
def test_every_chain_becomes_a_module_that_can_be_saved(structure: Structure) -> None:
    model = with_weights(structure, tame)
    module = deepstruct.to_module(model)
    state = module.state_dict()
    for parameter in structure.parameters:
        assert model.weights is not None
        assert np.array_equal(state[parameter.name].numpy(), model.weights[parameter.name])
    assert module(torch.zeros(2, *(d for d in structure.inputs[0].shape[1:] if isinstance(d, int)))) is not None  # type: ignore[index]  # has a shape


def test_a_structure_alone_makes_a_fresh_module(network: MaskedDeepFFN, tmp_path: Path) -> None:
    deepstruct.save(network, tmp_path / "a.structure.json", weights=False)
    assert [p.name for p in tmp_path.iterdir()] == ["a.structure.json"]
    fresh = deepstruct.to_module(deepstruct.load(tmp_path / "a.structure.json"))
    assert isinstance(fresh, MaskedDeepFFN)
    for a, b in zip(maskable_layers(fresh), maskable_layers(network), strict=True):
        assert torch.equal(a.mask, b.mask)
        assert not torch.equal(a.weight, b.weight)
        assert a.weight.std() > 0
    chain = deepstruct.to_module(Model(SAMPLES["skip-connection"]))
    assert all(tensor.isfinite().all() for tensor in chain.state_dict().values())


def test_the_family_is_believed_only_if_it_computes_the_same(network: MaskedDeepFFN, tmp_path: Path) -> None:
    path = tmp_path / "a.structure.json"
    deepstruct.save(network, path)
    path.write_text(
        path.read_text().replace('"op": "Relu"', '"op": "Tanh"', 1).replace('"digest": "sha256', '"x": "', 1)
    )
    with pytest.warns(UserWarning, match="no member 'x'"):
        module = deepstruct.to_module(deepstruct.load(path))
    assert type(module).__name__ == "StructureModule"


def test_masks_of_structure_modules_train_on(tmp_path: Path) -> None:
    module: Any = deepstruct.to_module(with_weights(SAMPLES["plain"]))
    module.recompute_mask(0.5)
    module.apply_mask()
    deepstruct.save(module, tmp_path / "a.pt", fail_on_loss=True)
    structure = deepstruct.load(tmp_path / "a.pt").structure
    weight = module.state_dict()["fc0.weight"]
    mask = structure.parameter("fc0.weight").mask
    assert mask is not None
    assert np.array_equal(mask.to_array(), (weight.abs() >= 0.5).numpy())


def test_prune_masks_in_a_bare_state_dict(tmp_path: Path) -> None:
    layer = nn.Linear(6, 7)
    prune.random_unstructured(layer, "weight", 0.5)  # type: ignore[no-untyped-call]  # torch's
    torch.save(layer.state_dict(), tmp_path / "a.pt")
    model = deepstruct.load(tmp_path / "a.pt", losses=[])
    assert model.structure.parameter("weight").mask == Mask.from_array(layer.weight_mask.numpy() != 0)  # type: ignore[operator]  # a tensor
    assert model.weights is not None
    assert np.array_equal(model.weights["weight"], layer.weight.detach().numpy())


def test_scores_become_masks(tmp_path: Path) -> None:
    layer = MaskedLinearLayer(6, 7, mask_as_params=True)
    layer[2:] = 0
    layer.apply_mask()
    for name, value in (("a.pt", layer), ("b.pt", layer.state_dict())):
        if isinstance(value, nn.Module):
            assert [loss.what for loss in deepstruct.save(value, tmp_path / name).losses] == ["mask scores"]
        else:
            torch.save(value, tmp_path / name)
        losses: list[Loss] = []
        assert deepstruct.load(tmp_path / name, losses=losses).structure.parameter("weight").nnz == 12
        assert [loss.what for loss in losses] == ([] if name == "a.pt" else ["mask scores"])


class Listed(nn.Module):
    """Layers in a ModuleList, whose names are those of neighbours in a Sequential."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 7), nn.Linear(7, 5), nn.Linear(5, 2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            x = torch.tanh(layer(x))
        return self.layers[-1](x)  # type: ignore[no-any-return]  # a tensor


def test_an_activation_must_be_named_for_a_bare_chain(tmp_path: Path) -> None:
    module = Listed()
    torch.save(module.state_dict(), tmp_path / "a.pt")
    with pytest.raises(UnsupportedError, match="--activation"):
        deepstruct.load(tmp_path / "a.pt")
    with pytest.raises(UsageError, match="unknown activation 'tangens'"):
        deepstruct.load(tmp_path / "a.pt", activation="tangens")
    model = deepstruct.load(tmp_path / "a.pt", activation="tanh")
    assert [node.op_type for node in model.structure.nodes] == ["Gemm", "Tanh", "Gemm", "Tanh", "Gemm"]
    x = torch.randn(9, 6)
    assert torch.equal(deepstruct.to_module(model)(x), module(x))
    linear = deepstruct.load(tmp_path / "a.pt", activation="none")
    assert [node.op_type for node in linear.structure.nodes] == ["Gemm"] * 3


def test_a_lone_matrix_may_be_an_embedding(tmp_path: Path) -> None:
    torch.save(nn.Embedding(5, 4).state_dict(), tmp_path / "a.pt")
    with pytest.raises(UnsupportedError, match="embedding"):
        deepstruct.load(tmp_path / "a.pt")
    assert deepstruct.load(tmp_path / "a.pt", activation="none").structure.inputs[0].shape == ("batch", 4)


def test_zeros_are_masked_only_if_asked(tmp_path: Path) -> None:
    state = {"weight": torch.tensor([[0.0, 1.0, -0.0], [2.0, 0.0, 3.0]]), "bias": torch.zeros(2)}
    torch.save(state, tmp_path / "a.pt")
    assert deepstruct.load(tmp_path / "a.pt").structure.parameter("weight").mask is None
    inferred = deepstruct.load(tmp_path / "a.pt", infer_masks=True).structure
    assert inferred.parameter("weight").nnz == 3
    assert inferred.parameter("bias").mask is None


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "executed"))


def test_nothing_is_executed(tmp_path: Path) -> None:
    for new in (True, False):
        torch.save({"weight": Bomb(tmp_path / "trace")}, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
        with pytest.raises(UnsupportedError, match="would run code"):
            deepstruct.load(tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "trace")))
    with pytest.raises(DeepstructError):
        deepstruct.load(tmp_path / "b.pt")
    assert not (tmp_path / "trace").exists()


def test_a_pickled_module_needs_trust(network: MaskedDeepFFN, tmp_path: Path) -> None:
    torch.save(network, tmp_path / "a.pt")
    with pytest.raises(UnsupportedError, match="--trust-pickle"):
        deepstruct.load(tmp_path / "a.pt")
    model = deepstruct.load(tmp_path / "a.pt", trust_pickle=True)
    assert same(deepstruct.to_module(model), network, torch.randn(9, 6))


class Own(nn.Module):
    """A module that nobody knows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class OwnLinear(nn.Linear):
    """A subclass may compute something else."""


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Sequential(nn.Linear(2, 3), Own()), "'1' is a Own"),
        (nn.Sequential(nn.Sequential(OwnLinear(2, 3))), "'0.0' is a OwnLinear"),
        (nn.Conv2d(1, 2, 3), "is a Conv2d"),
        (nn.Sequential(nn.ReLU()), "how many features"),
        (nn.Sequential(nn.Linear(2, 3), nn.Softmax()), "ambiguous"),
        (nn.Sequential(nn.Linear(2, 3), nn.Softplus(beta=2)), "beta"),
        (nn.Sequential(nn.Linear(2, 3), nn.Softplus(threshold=1)), "threshold"),
        (nn.Sequential(nn.Linear(2, 3), nn.Flatten(0)), "Flatten"),
        (nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3, elementwise_affine=False)), "LayerNorm"),
        (nn.Sequential(nn.Linear(2, 3), nn.Linear(4, 2)), "SHAPE_MISMATCH"),
    ],
)
def test_modules_that_are_not_mapped_are_named(module: nn.Module, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DeepstructError, match=reason):
        deepstruct.save(module, tmp_path / "a.pt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "make", [lambda: nn.Linear(2, 3), lambda: nn.Sequential(nn.Linear(2, 3)), lambda: MaskedDeepFFN(2, 3, [4])]
)
def test_changed_forwards_are_refused(make: Any) -> None:
    for place in ("register_forward_hook", "register_forward_pre_hook"):
        module = make()
        getattr(module, place)(lambda *_: None)
        with pytest.raises(UnsupportedError, match="hooks"):
            deepstruct.from_module(module)
    module = make()
    module.forward = lambda x: x
    with pytest.raises(UnsupportedError, match="forward of its own"):
        deepstruct.from_module(module)


def test_dropout_is_a_loss(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5))
    assert [(loss.what, loss.where) for loss in deepstruct.save(module, tmp_path / "a.pt").losses] == [("dropout", "1")]


W, B = torch.ones(3, 2), torch.ones(3)

LOOP: dict[str, Any] = {}
LOOP["model"] = LOOP

UNCLEAR: dict[str, tuple[Any, type[DeepstructError], str]] = {
    "convolution": ({"conv.weight": torch.ones(2, 1, 3, 3)}, UnsupportedError, "conv.weight has shape"),
    "norm": ({"bn.weight": B, "bn.running_mean": B}, UnsupportedError, "running_mean"),
    "no chain": ({"a.weight": W, "b.weight": torch.ones(2, 4)}, UnsupportedError, "no chain"),
    "bias alone": ({"a.bias": B}, UnsupportedError, "bias without weight"),
    "bias of another size": ({"weight": W, "bias": torch.ones(2)}, UnsupportedError, "no linear layer"),
    "nothing": ({}, UnsupportedError, "no tensor"),
    "numbers": ({"weight": 3.0}, UnsupportedError, "no tensor"),
    "a tensor": (W, UnsupportedError, "holds a Tensor"),
    "a list": ([W], UnsupportedError, "holds a list"),
    "keys are numbers": ({0: W}, MalformedFileError, "no name"),
    "itself inside": (LOOP, UnsupportedError, "no tensor"),
    "weight twice": (
        {"weight": W, "weight_orig": W, "weight_mask": W, "bias": B},
        MalformedFileError,
        "has weight twice",
    ),
    "mask of another shape": ({"weight": W, "_mask": torch.ones(2, 3)}, DeepstructError, "MASK_SHAPE_MISMATCH"),
    "mask of other values": ({"weight": W, "_mask": W * 0.5}, MalformedFileError, "no mask"),
    "mask without weight": ({"a._mask": W, "weight": W}, MalformedFileError, "no weight beside"),
    "sparse": ({"weight": W.to_sparse()}, UnsupportedError, "sparse"),
    "expanded": ({"weight": torch.ones(1).expand(10**6, 10**6)}, MalformedFileError, "more than the file holds"),
    "half of a family": ({"_layer_first.weight": W, "_layer_out.weight": W, "x.weight": W}, UnsupportedError, "'x'"),
    "checkpoint in part": ({"format": "deepstruct", "structure": "{}"}, MalformedFileError, "lacks its structure"),
    "checkpoint of nonsense": (
        {"format": "deepstruct", "structure": "{", "state_dict": {}, "masks": {}},
        DeepstructError,
        "INVALID_JSON",
    ),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_unclear_files_are_refused_with_what_is_missing(name: str, tmp_path: Path) -> None:
    content, kind, reason = UNCLEAR[name]
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(kind, match=reason):
        deepstruct.load(tmp_path / "a.pt", losses=[])


def test_checkpoints_that_were_tampered_with(network: MaskedDeepFFN, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    deepstruct.save(network, path)
    good = torch.load(path, weights_only=True)
    state = good["state_dict"]
    changes: list[tuple[dict[str, Any], str]] = [
        ({"masks": {"nothing": "_layer_first._mask"}}, "do not belong together"),
        ({"masks": {"_layer_first.weight": "nothing"}}, "do not belong together"),
        ({"masks": {"_layer_first.weight": [1]}}, "do not belong together"),
        ({"state_dict": {**state, "extra": torch.ones(1)}}, "do not belong together: extra"),
        ({"state_dict": {k: v for k, v in state.items() if k != "_layer_out.bias"}}, "lacks _layer_out.bias"),
        ({"state_dict": {**state, "_layer_out.bias": 3}}, "not a tensor"),
    ]
    for change, reason in changes:
        torch.save({**good, **change}, path)
        with pytest.raises(MalformedFileError, match=reason):
            deepstruct.load(path)
    torch.save({**good, "state_dict": {**state, "_layer_out.bias": torch.ones(4, dtype=torch.float64)}}, path)
    with pytest.raises(DeepstructError, match="WEIGHTS_SHAPE"):
        deepstruct.convert(path, tmp_path / "a.structure.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt"]


def test_broken_files_are_refused(network: MaskedDeepFFN, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(network.state_dict(), path)
    whole = path.read_bytes()
    for length in [0, 1, 10, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(MalformedFileError, match="truncated or of another kind"):
            deepstruct.load(path)
    for content in (b"no torch file at all", b"\0" * 1000):
        path.write_bytes(content)
        with pytest.raises(MalformedFileError, match="another kind"):
            deepstruct.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("something.txt", "else")
    with pytest.raises(MalformedFileError, match="another kind"):
        deepstruct.load(path)
    path.unlink()
    with pytest.raises(UnreadableFileError, match="does not exist"):
        deepstruct.load(path)
    path.mkdir()
    with pytest.raises(UnreadableFileError, match="directory"):
        deepstruct.load(path)


def test_ordered_dicts_and_shared_tensors(tmp_path: Path) -> None:
    weight = torch.randn(4, 4)
    torch.save(OrderedDict([("a.weight", weight), ("b.weight", weight)]), tmp_path / "a.pt")
    losses: list[Loss] = []
    model = deepstruct.load(tmp_path / "a.pt", activation="relu", losses=losses)
    assert [(loss.what, loss.where) for loss in losses] == [("sharing", "b.weight")]
    assert model.weights is not None
    assert np.array_equal(model.weights["a.weight"], model.weights["b.weight"])


def test_modules_that_are_used_twice_are_there_twice(tmp_path: Path) -> None:
    torch.manual_seed(0)
    act, layer, block = nn.ReLU(), nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    module = nn.Sequential(layer, act, layer, act, block, block, nn.Linear(4, 2))
    tied = nn.Linear(4, 4)
    tied.weight = layer.weight
    module.append(nn.Sequential(nn.Linear(2, 4), tied))
    x = torch.randn(5, 4)
    for name in ("a.pt", "a.onnx", "a.structure.json"):
        deepstruct.save(module, tmp_path / name, fail_on_loss=True)
        assert torch.equal(deepstruct.to_module(deepstruct.load(tmp_path / name))(x), module(x))
    assert len(deepstruct.from_module(module).structure.parameters) == 2 + 2 + 2 + 2 + 1


def test_one_tensor_under_two_masks_becomes_two() -> None:
    first, second = MaskedLinearLayer(4, 4, bias=False), MaskedLinearLayer(4, 4, bias=False)
    second.weight = first.weight
    second[0] = False
    losses: list[Loss] = []
    model = deepstruct.from_module(nn.Sequential(first, second), losses=losses)
    assert [p.nnz for p in model.structure.parameters] == [16, 12]
    assert [loss.what for loss in losses] == ["sharing", "masked values"]


def test_masks_of_both_kinds_add_up() -> None:
    layer = MaskedLinearLayer(4, 3)
    layer[0] = False
    prune.custom_from_mask(layer, "weight", torch.tensor([[0.0, 1, 1, 1]] * 3))  # type: ignore[no-untyped-call]  # torch's
    assert deepstruct.from_module(layer, losses=[]).structure.parameter("weight").nnz == 6


def test_the_activation_of_a_network_is_its_own(network: MaskedDeepFFN) -> None:
    network._activation = nn.Tanh()  # type: ignore[assignment]  # what people do
    for position, layer in enumerate(network._layers_hidden):
        if isinstance(layer, nn.ReLU):
            network._layers_hidden[position] = network._activation
    x = torch.randn(9, 6)
    assert torch.equal(deepstruct.to_module(deepstruct.from_module(network))(x), network(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_networks_of_every_dtype_come_back(network: MaskedDeepFFN, dtype: torch.dtype, tmp_path: Path) -> None:
    network.to(dtype)
    for name in ("a.pt", "a.structure.json", "a.onnx"):
        deepstruct.save(network, tmp_path / name)
        assert same(deepstruct.to_module(deepstruct.load(tmp_path / name)), network, torch.randn(9, 6))
    plain: Any = deepstruct.to_module(with_weights(SAMPLES["plain"])).to(dtype)
    deepstruct.save(plain, tmp_path / "b.structure.json")
    x = torch.randn(2, 5).to(dtype)
    assert torch.equal(deepstruct.to_module(deepstruct.load(tmp_path / "b.structure.json"))(x), plain(x))


def test_expanded_parameters_of_live_modules() -> None:
    layer = nn.Linear(4, 4)
    layer.weight = nn.Parameter(torch.randn(4, 1).expand(4, 4))
    model = deepstruct.from_module(layer)
    assert model.weights is not None
    assert np.array_equal(model.weights["weight"], layer.weight.detach().numpy())


def test_a_state_dict_out_of_order_is_refused(tmp_path: Path) -> None:
    module = nn.Sequential(*(nn.Linear(4, 4) for _ in range(11)))
    torch.save(dict(sorted(module.state_dict().items())), tmp_path / "a.pt")
    with pytest.raises(UnsupportedError, match="not in the order"):
        deepstruct.load(tmp_path / "a.pt", activation="relu")


def test_structures_alone_from_every_format(network: MaskedDeepFFN, tmp_path: Path) -> None:
    for name in ("a.pt", "a.structure.json", "a.onnx"):
        deepstruct.save(network, tmp_path / name)
        assert deepstruct.load(tmp_path / name, weights=False).weights is None
    deepstruct.convert(tmp_path / "a.pt", tmp_path / "b.pt", weights=False)
    assert deepstruct.load(tmp_path / "b.pt").weights is None


def test_a_parameter_called_like_a_mask(tmp_path: Path) -> None:
    structure = SAMPLES["skip-connection"]
    renamed = replace(
        structure,
        nodes=tuple(
            replace(n, inputs=tuple("w.up_mask" if i == "b.down" else i for i in n.inputs)) for n in structure.nodes
        ),
        parameters=tuple(replace(p, name="w.up_mask" if p.name == "b.down" else p.name) for p in structure.parameters),
    )
    model = with_weights(renamed)
    deepstruct.save(model, tmp_path / "a.pt")
    assert deepstruct.load(tmp_path / "a.pt") == model
    assert deepstruct.to_module(model)(torch.zeros(2, 4)) is not None


def test_transposed_tensors_keep_their_orientation(tmp_path: Path) -> None:
    weight = torch.randn(2, 3).T
    torch.save({"weight": weight}, tmp_path / "a.pt")
    model = deepstruct.load(tmp_path / "a.pt", activation="none")
    assert model.weights is not None
    assert np.array_equal(model.weights["weight"], weight.numpy())


def test_views_are_resolved(tmp_path: Path) -> None:
    weight = torch.randn(2, 3)
    torch.save({"weight": torch._neg_view(weight), "bias": torch.zeros(2)}, tmp_path / "a.pt")
    model = deepstruct.load(tmp_path / "a.pt")
    assert model.weights is not None
    assert np.array_equal(model.weights["weight"], -weight.numpy())


@pytest.mark.parametrize(
    ("pickle_bytes", "compression", "reason"),
    [
        (b"\x80\x02" + b"(" * 1000 + b".", zipfile.ZIP_DEFLATED, "is compressed"),
        (b"\x80\x02" + b"(" * 2**24 + b".", zipfile.ZIP_STORED, "DEEPSTRUCT_MAX_PICKLE_BYTES"),
        (b"\x80\x02" + b"(" * 1000 + b".", zipfile.ZIP_STORED, "truncated or of another kind"),
    ],
)
def test_archives_cannot_blow_up(pickle_bytes: bytes, compression: int, reason: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w", compression) as archive:
        archive.writestr("a/version", "3")
        archive.writestr("a/data.pkl", pickle_bytes)
    with pytest.raises(MalformedFileError, match=reason):
        deepstruct.load(tmp_path / "a.pt")


def test_damaged_bytes_never_cause_another_error(network: MaskedDeepFFN, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for new in (True, False):
        path = tmp_path / "a.pt"
        torch.save(network.state_dict(), path, _use_new_zipfile_serialization=new)
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        pickled = 3000  # the pickle, where damage matters most, stands first
        for _ in range(100):
            damaged = whole.copy()
            damaged[rng.integers(min(pickled, whole.size))] ^= 1 << rng.integers(8)
            path.write_bytes(damaged.tobytes())
            with contextlib.suppress(DeepstructError):
                deepstruct.load(path, losses=[])
