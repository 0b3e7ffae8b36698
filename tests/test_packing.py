"""Packed networks against ones whose layers own their tensors: what torch does with modules, and layers as views."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import networkx as nx
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils import parameters_to_vector, prune, vector_to_parameters

from deepstruct import packing
from deepstruct.dan import MaskedDeepDAN
from deepstruct.masked import MaskedLinearLayer, maskable_layers

KINDS = list(itertools.product([False, True], [False, True]))
IDS = ["after", "before", "norm-after", "norm-before"]
EDGES = [(0, 3), (1, 3), (2, 4), (3, 4), (3, 5), (0, 5), (4, 6), (5, 6), (1, 6), (4, 7), (0, 7), (2, 8), (6, 8), (7, 8)]


def graph() -> Any:
    made: Any = nx.empty_graph(10, create_using=nx.DiGraph)  # 9 is isolated
    made.add_edges_from(EDGES)
    return made


def network(flags: tuple[bool, bool] = (False, False), packed: bool = True) -> Any:
    """A network with rectangular layers, and values under its masks."""
    torch.manual_seed(1)
    return MaskedDeepDAN((2, 3), 3, graph(), *flags, packed=packed)


def pair(flags: tuple[bool, bool] = (False, False)) -> tuple[Any, Any]:
    """The same network packed and not."""
    packed, apart = network(flags), network(flags, packed=False)
    apart.load_state_dict(packed.state_dict())
    return packed, apart


def inputs(batch: int = 5, **options: Any) -> Tensor:
    return torch.randn(batch, 2, 3, **options, generator=torch.Generator().manual_seed(7))


def main_layer(model: Any, position: int = 1) -> Any:
    return model.layers_main_hidden[position]


def equal_states(one: nn.Module, other: nn.Module) -> None:
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


both_kinds = pytest.mark.parametrize("flags", KINDS, ids=IDS)


@both_kinds
@pytest.mark.parametrize(
    "change",
    [
        lambda model: copy.deepcopy(model),
        lambda model: pickle.loads(pickle.dumps(model)),  # the test's own bytes
        lambda model: reloaded(model),
        lambda model: model.share_memory(),
        lambda model: model.train().eval(),
        lambda model: model.double(),
        lambda model: model.bfloat16(),
        lambda model: model.half(),
        lambda model: model.requires_grad_(False),
        lambda model: nn.Sequential(model),
        lambda model: copy.copy(model),
    ],
)
@pytest.mark.parametrize("look", [True, False])
def test_what_people_do_with_modules(
    flags: tuple[bool, bool], change: Callable[[nn.Module], nn.Module], look: bool
) -> None:
    packed, apart = pair(flags)
    if not look:
        packed = network(flags)
    mine, theirs = change(packed), change(apart)
    x = inputs(dtype=next(iter(mine.parameters())).dtype)
    wide = x.dtype in (torch.float32, torch.float64)
    tolerance = 1e-5 if wide else 0.05
    torch.testing.assert_close(mine(x), theirs(x), rtol=tolerance, atol=tolerance)
    equal_states(mine, theirs)
    assert mine(x).requires_grad == theirs(x).requires_grad


def reloaded(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return cast("nn.Module", torch.load(buffer, weights_only=False))


@both_kinds
def test_copies_share_nothing(flags: tuple[bool, bool]) -> None:
    model = network(flags)
    main_layer(model)
    other = copy.deepcopy(model)
    before = other(inputs())
    with torch.no_grad():
        main_layer(model).weight.zero_()
    main_layer(model).mask = torch.zeros_like(main_layer(model).mask)
    assert torch.equal(other(inputs()), before)


@both_kinds
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_modes(flags: tuple[bool, bool], mode: Callable[[], Any]) -> None:
    packed, apart = pair(flags)
    with mode():
        mine, theirs = packed(inputs()), apart(inputs())
    torch.testing.assert_close(mine, theirs, rtol=0.02, atol=0.02)
    packed(inputs()).sum().backward()
    packed.zero_grad()
    if mine.requires_grad:
        mine.float().sum().backward()
        theirs.float().sum().backward()
        for one, other in zip(maskable_layers(packed), maskable_layers(apart), strict=True):
            torch.testing.assert_close(one.weight.grad, other.weight.grad, rtol=0.05, atol=0.05)


@both_kinds
def test_compiled_and_exported(flags: tuple[bool, bool]) -> None:
    model = network(flags)
    wanted = model(inputs())
    torch.compiler.reset()
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(inputs()), wanted)
    exported = torch.export.export(model, (inputs(),))
    torch.testing.assert_close(exported.module()(inputs()), wanted)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # by torch's own import for forward mode
@both_kinds
def test_functional_transforms(flags: tuple[bool, bool]) -> None:
    packed, apart = pair(flags)
    x = inputs()

    def loss(model: nn.Module) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
        return lambda values, x: torch.func.functional_call(model, values, (x,)).square().sum()

    values = {name: value.detach() for name, value in packed.named_parameters()}
    gradients = torch.func.grad(loss(packed))(values, x)
    packed(x).square().sum().backward()
    for name, parameter in packed.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad)
    torch.testing.assert_close(torch.vmap(packed)(inputs()[:, None]), apart(x)[:, None])
    each = torch.vmap(torch.func.grad(loss(packed)), in_dims=(None, 0))(values, x[:, None])
    torch.testing.assert_close(each["layer_out.weight"].sum(0), gradients["layer_out.weight"])
    torch.testing.assert_close(torch.func.jacrev(packed)(x), torch.func.jacrev(apart)(x))
    with forward_ad.dual_level():
        dual: Any = forward_ad
        tangents = [dual.unpack_dual(model(dual.make_dual(x, torch.ones_like(x)))).tangent for model in (packed, apart)]
    torch.testing.assert_close(*tangents)


@both_kinds
@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_of_gradients(flags: tuple[bool, bool], frozen: bool) -> None:
    packed, apart = (model.double().requires_grad_(not frozen) for model in pair(flags))
    found = []
    slope: Any
    for model in (packed, apart):
        x = inputs(dtype=torch.float64).requires_grad_()
        (slope,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
        slope.square().sum().backward()
        found.append((slope, x.grad, *(None if frozen else layer.weight.grad for layer in maskable_layers(model))))
    torch.testing.assert_close(*found)
    x = inputs(2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(packed, x)
    assert torch.autograd.gradgradcheck(packed, x)


@both_kinds
def test_checkpointed_and_differentiated_twice_without_graph(flags: tuple[bool, bool]) -> None:
    model = network(flags)
    out = model(inputs()).sum()
    out.backward(retain_graph=True)
    once = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    out.backward()
    torch.testing.assert_close([p.grad for p in model.parameters() if p.grad is not None], [2 * g for g in once])
    model.zero_grad()
    torch.utils.checkpoint.checkpoint(model, inputs(), use_reentrant=False).sum().backward()
    torch.testing.assert_close([p.grad for p in model.parameters() if p.grad is not None], once)


def test_distributed_data_parallel(tmp_path: Path) -> None:
    distributed = pytest.importorskip("torch.distributed")
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("needs gloo")
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = network()
        parallel = nn.parallel.DistributedDataParallel(model)
        parallel(inputs()).sum().backward()
        assert main_layer(model).weight.grad is not None
        torch.testing.assert_close(parallel(inputs()), model(inputs()))
    finally:
        distributed.destroy_process_group()


def test_vectors_and_averages_of_parameters() -> None:
    model = network()
    vector = parameters_to_vector(model.parameters())
    vector_to_parameters(vector * 2, model.parameters())
    assert torch.equal(parameters_to_vector(model.parameters()), vector * 2)
    average = torch.optim.swa_utils.AveragedModel(model)
    average.update_parameters(model)
    torch.testing.assert_close(average(inputs()), model(inputs()))


@both_kinds
def test_training_is_the_same(flags: tuple[bool, bool]) -> None:
    packed, apart = (model.double() for model in pair(flags))
    for kind in (torch.optim.SGD, torch.optim.AdamW):
        for model in (packed, apart):
            optimiser = kind(model.parameters(), lr=0.01, weight_decay=0.1)
            for _ in range(4):
                optimiser.zero_grad()
                model(inputs(dtype=torch.float64)).square().sum().backward()
                optimiser.step()
    torch.testing.assert_close(packed.state_dict(), apart.state_dict())


@both_kinds
@pytest.mark.parametrize(
    "optimiser",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.5),
        lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.5),
        lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.5),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_masks_stay_masks(
    flags: tuple[bool, bool], optimiser: Callable[[Any], torch.optim.Optimizer], packed: bool
) -> None:
    model = network(flags, packed)
    steps = optimiser(model.parameters())
    for step in range(6):
        if step == 3:
            for layer in maskable_layers(model):
                layer.mask = layer.mask & (torch.rand(layer.weight.shape) < 0.7)
        steps.zero_grad()
        model(inputs()).square().sum().backward()
        steps.step()
    for layer in maskable_layers(model):
        assert layer.weight.grad is None or not layer.weight.grad[~layer.mask].any()
    before = model(inputs())
    for value in (torch.nan, torch.inf, -1e30):
        with torch.no_grad():
            for layer in maskable_layers(model):
                layer.weight[~layer.mask] = value
        assert torch.equal(model(inputs()), before)
        model.zero_grad()
        model(inputs()).sum().backward()
        for layer in maskable_layers(model):
            assert layer.weight.grad is None or layer.weight.grad.isfinite().all()
    model.apply_mask()
    assert torch.equal(model(inputs()), before)
    assert not any(layer.weight[~layer.mask].any() for layer in maskable_layers(model))


# The state_dict


@both_kinds
@pytest.mark.parametrize("packed", [True, False])
def test_a_checkpoint_of_the_earlier_library_loads(flags: tuple[bool, bool], packed: bool) -> None:
    source, model = network(flags), network(flags, packed)
    for layer in maskable_layers(source):
        layer.mask = torch.rand(layer.weight.shape) < 0.5
    state = {
        key: value.float() if key.startswith(("layers_main", "layers_skip")) else value
        for key, value in source.state_dict().items()
    }
    model.load_state_dict(state)
    equal_states(model, source)
    torch.testing.assert_close(model(inputs()), source(inputs()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("layers_main_hidden.1.weight"), 'Missing.*"layers_main_hidden.1.weight"'),
        (lambda s: s.pop("layers_skip_hidden.1._mask"), 'Missing.*"layers_skip_hidden.1._mask"'),
        (lambda s: s.update({"layers_skip_hidden.0.x": torch.ones(1)}), 'Unexpected.*"layers_skip_hidden.0.x"'),
        (lambda s: s.update({"layers_skip_hidden.77.weight": torch.ones(1)}), 'Unexpected.*"layers_skip_hidden.77.w'),
        (lambda s: s.update({"layers_main_hidden.1.weight": torch.ones(1, 1)}), "size mismatch.*main_hidden.1.weight"),
        (lambda s: s.update({"layers_main_hidden.1.bias": torch.ones(1)}), "size mismatch.*main_hidden.1.bias"),
        (lambda s: s.update({"layers_main_hidden.1._mask": torch.ones(1)}), "size mismatch.*main_hidden.1._mask"),
        (lambda s: s["layers_main_hidden.1._mask"].fill_(0.5), "layers_main_hidden.1._mask: a mask holds only 0 and 1"),
        (lambda s: s.update({"layers_main_hidden.1.weight": None}), "layers_main_hidden.1.weight"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_what_does_not_fit_is_reported(change: Callable[[Any], object], words: str, packed: bool) -> None:
    model = network(packed=packed)
    state = {key: value.float() for key, value in model.state_dict().items()}
    change(state)
    with pytest.raises(RuntimeError, match=f"(?s){words}"):
        model.load_state_dict(state)


def test_names_of_the_packed_tensors_are_unknown() -> None:
    model = network()
    state = model.state_dict() | {"_packed.weight": torch.ones(3)}
    with pytest.raises(RuntimeError, match=r'Unexpected.*"_packed.weight"'):
        model.load_state_dict(state)
    assert model.load_state_dict(state, strict=False).unexpected_keys == ["_packed.weight"]
    assert model.load_state_dict({}, strict=False).missing_keys == list(model.state_dict())


def test_loading_converts_and_assigning_does_not() -> None:
    model, state = network(), network().double().state_dict()
    model.load_state_dict(state)
    assert main_layer(model).weight.dtype == torch.float32
    with pytest.raises(RuntimeError, match=r"layers_main_hidden.0.weight is torch.float32.*packed=False"):
        model.load_state_dict(state, assign=True)
    narrow = {key: value.float() for key, value in state.items()}
    narrow["layers_main_hidden.0.bias"] = torch.full((1,), 3.0)
    for other in (network(), network(packed=False)):
        other.load_state_dict(narrow, assign=True)
        assert main_layer(other, 0).bias == 3
        assert main_layer(other, 0).mask.dtype == torch.bool
        assert other(inputs()).shape == (5, 3)


def test_state_of_views(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    model = network()
    safetensors.save_file(model.state_dict(), tmp_path / "m.safetensors")
    torch.testing.assert_close(safetensors.load_file(tmp_path / "m.safetensors"), dict(model.state_dict()))
    assert all(type(value) is Tensor and not value.requires_grad for value in model.state_dict().values())
    kept = model.state_dict(keep_vars=True)
    assert kept["layers_main_hidden.1.weight"].requires_grad
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    torch.testing.assert_close(torch.load(buffer, weights_only=True), model.state_dict())


# Layers


def test_masks_are_set_in_the_network() -> None:
    packed, apart = pair()
    for model in (packed, apart):
        layer = main_layer(model, 2)
        layer[0, 1] = True
        layer[1, :] = 0
        assert layer.mask.tolist() == [[bool(layer[0, 0]), True], [False, False]]
        layer.mask[1, 0] = True
        assert layer[1, 0]
        assert isinstance(layer.mask, Tensor)
    torch.testing.assert_close(packed(inputs()), apart(inputs()))


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.weight.data.fill_(0.5),
        lambda layer: layer.bias.data.fill_(0.5),
        lambda layer: setattr(layer, "weight", nn.Parameter(torch.full((2, 2), 0.25))),
        lambda layer: setattr(layer, "bias", nn.Parameter(torch.full((2,), 0.25))),
        lambda layer: copied(layer, torch.full((2, 2), 0.125)),
        lambda layer: layer.apply_mask(),
        lambda layer: layer.recompute_mask(0.3),
        lambda layer: reset(layer, keep_mask=True),
        lambda layer: reset(layer, keep_mask=False),
        lambda layer: nn.init.orthogonal_(layer.weight),
    ],
)
def test_what_changes_a_layer_changes_the_network(change: Callable[[Any], object]) -> None:
    packed, apart = pair()
    for model in (packed, apart):
        torch.manual_seed(3)
        layer = main_layer(model, 2)
        before = layer.state_dict()
        before = {key: value.clone() for key, value in before.items()}
        change(layer)
        assert any(not torch.equal(before[key], value) for key, value in layer.state_dict().items())
    equal_states(packed, apart)
    torch.testing.assert_close(packed(inputs()), apart(inputs()))


pruned: Any = prune.l1_unstructured


def copied(layer: MaskedLinearLayer, value: Tensor) -> None:
    with torch.no_grad():
        layer.weight.copy_(value)


def reset(layer: MaskedLinearLayer, *, keep_mask: bool) -> None:
    layer.reset_parameters(keep_mask=keep_mask)


def test_resetting_a_network_keeps_masks_only_if_told() -> None:
    model = network((True, False))
    masks = [layer.mask.clone() for layer in maskable_layers(model)]
    weight = main_layer(model).weight.detach().clone()
    model.reset_parameters(keep_mask=True)
    assert not torch.equal(main_layer(model).weight, weight)
    assert all(torch.equal(layer.mask, mask) for layer, mask in zip(maskable_layers(model), masks, strict=True))
    model.recompute_mask(0.2)
    assert all(torch.equal(layer.mask, layer.weight.abs() >= 0.2) for layer in maskable_layers(model))
    model.reset_parameters()
    assert all(layer.mask.all() for layer in maskable_layers(model))


def test_data_of_views_are_the_networks() -> None:
    network = MaskedDeepDAN(5, 3, nx.DiGraph([(0, 2), (1, 2), (0, 1)]))
    layer: Any = network.layers_main_hidden[0]
    given = torch.full_like(layer.weight.detach(), 7)
    layer.weight.data = given
    assert torch.equal(layer.weight, given)
    assert float(network._packed.weight.detach().max()) == 7
    layer.weight.data.zero_()
    layer.weight.data *= 2
    assert not layer.weight.any()
    assert layer.weight.requires_grad


def test_gradients_of_views() -> None:
    packed, apart = pair()
    layer = main_layer(packed, 2)
    assert layer.weight.grad is None
    for model in (packed, apart):
        penalty = sum(layer.weight.square().sum() for layer in maskable_layers(model))
        (model(inputs()).sum() + penalty).backward()
    for one, other in zip(maskable_layers(packed), maskable_layers(apart), strict=True):
        torch.testing.assert_close(one.weight.grad, other.weight.grad)
    layer.weight.grad = torch.ones(2, 2)
    assert packed._packed.weight.grad is not None
    assert layer.weight.grad.sum() == 4
    nn.utils.clip_grad_norm_(layer.parameters(), 0.1)
    assert layer.weight.grad.sum() < 0.3
    layer.zero_grad()
    assert not layer.weight.grad.any()
    assert main_layer(packed, 1).weight.grad.any()
    packed.zero_grad()
    assert layer.weight.grad is None
    layer.weight.grad = torch.ones(2, 2)
    assert main_layer(packed, 1).weight.grad.sum() == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weight", torch.ones(1)),
        ("weight", torch.ones(3, 2)),
        ("weight", None),
        ("bias", None),
        ("bias", torch.ones(3)),
        ("_mask", torch.ones(1, 2)),
    ],
)
def test_tensors_of_other_shapes_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name} is a tensor .*packed=False"):
        setattr(main_layer(network(), 2), name, value)
    with pytest.raises(ValueError, match=r"bias is None .*packed=False"):
        network((False, True)).layers_skip_hidden[0].bias = torch.ones(1)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.layers_main_hidden[1].requires_grad_(False),
        lambda model: model.layers_main_hidden.requires_grad_(False),
        lambda model: model.layers_main_hidden[1].weight.requires_grad_(False),
        lambda model: setattr(model.layers_main_hidden[1].weight, "requires_grad", False),
        lambda model: pruned(model.layers_main_hidden[1], "weight", 0.5),
        lambda model: torch.optim.SGD(model.layers_main_hidden.parameters()),
        lambda model: torch.optim.SGD(model.layers_main_hidden[0].parameters()),
    ],
)
def test_what_only_layers_of_their_own_can_do(change: Callable[[Any], object]) -> None:
    with pytest.raises((RuntimeError, ValueError), match=r"non-leaf|leaf variables|packed=False"):
        change(network())
    change(network(packed=False))


def test_errors_say_what_to_do() -> None:
    layer = main_layer(network())
    with pytest.raises(RuntimeError, match="packed=False"):
        pruned(layer, "weight", 0.5)
    with pytest.raises(RuntimeError, match=r"non-leaf.*packed=False"):
        layer.requires_grad_(False)
    layer.requires_grad_(True)


def test_tensors_by_name() -> None:
    packed, apart = pair()
    getters: list[Callable[[Any], Any]] = [
        lambda model: dict(model.layers_main_hidden[1].named_parameters()),
        lambda model: dict(model.layers_main_hidden[1].named_buffers()),
        lambda model: dict(model.layers_main_hidden.named_parameters("x")),
        lambda model: dict(model.get_submodule("layers_skip_hidden.0").state_dict()),
    ]
    for get in getters:
        torch.testing.assert_close(get(packed), get(apart))
    assert isinstance(main_layer(packed).weight, nn.Parameter)
    assert sum(p.numel() for p in packed.parameters()) == sum(p.numel() for p in apart.parameters())


@pytest.mark.parametrize("packed", [True, False])
def test_lists_of_layers(packed: bool) -> None:
    model = network(packed=packed)
    layers = model.layers_skip_hidden
    assert len(layers) == len(list(layers)) == 3
    assert model.get_submodule("layers_skip_hidden.0") is layers[0] is next(iter(layers))
    assert layers[-1] is layers[2]
    with pytest.raises(IndexError):
        layers[3]
    part = layers[1:3]
    assert list(part) == [layers[1], layers[2]]
    assert type(part) is nn.ModuleList
    assert layers[0] in layers
    assert "in_features" in repr(model)
    assert [name for name, _ in model.named_children() if name != "_packed"] == [
        "layer_first",
        "layers_main_hidden",
        "layer_normalizations",
        "layers_skip_hidden",
        "layer_out",
        "activation",
    ]
    assert not model.eval().layers_skip_hidden[0].training
    assert model.train().layers_skip_hidden[0].training
    assert torch.equal(layers[0].saliency, layers[0].weight.detach().abs())
    layers[0].saliency = torch.ones_like(layers[0].weight)
    assert layers[0].saliency.sum() == layers[0].weight.numel()


@pytest.mark.parametrize("packed", [True, False])
def test_a_layer_may_be_replaced(packed: bool) -> None:
    for position in (0, 2):
        model, other = network(packed=packed), network(packed=packed)
        old = main_layer(model, position)
        new = MaskedLinearLayer(old.in_features, old.out_features)
        new.load_state_dict(old.state_dict())
        model.layers_main_hidden[position] = new
        torch.testing.assert_close(model(inputs()), other(inputs()))
        new[:] = 0
        other.layers_main_hidden[position][:] = 0
        torch.testing.assert_close(model(inputs()), other(inputs()))
        assert dict(model.named_parameters())[f"layers_main_hidden.{position}.weight"] is new.weight
    model.layers_main_hidden[position] = nn.Sequential(new, nn.Identity())
    torch.testing.assert_close(model(inputs()), other(inputs()))


def test_layers_of_another_place_or_network_are_computed_where_they_stand() -> None:
    model, other = network(), network()
    layers = model.layers_skip_hidden
    same = [n for n in range(len(layers)) if layers[n].weight.shape == layers[0].weight.shape][:2]
    layers[same[0]], layers[same[1]] = layers[same[1]], layers[same[0]]
    swapped = network(packed=False)
    swapped.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(inputs()), swapped(inputs()))
    assert len(same) == 2
    assert not torch.equal(model(inputs()), other(inputs()))
    model, lender = network(), network().double().float()
    with torch.no_grad():
        lender.layers_main_hidden[2].weight.fill_(2)
    model.layers_main_hidden[2] = lender.layers_main_hidden[2]
    with torch.no_grad():
        other.layers_main_hidden[2].weight.fill_(2)
    torch.testing.assert_close(model(inputs()), other(inputs()))


@both_kinds
def test_lists_that_were_emptied_stay_empty(flags: tuple[bool, bool]) -> None:
    model = network(flags)
    while len(model.layers_skip_hidden):
        del model.layers_skip_hidden[0]
    assert not list(model.layers_skip_hidden)
    assert not list(copy.deepcopy(model).layers_skip_hidden)


def hooks(model: Any) -> Iterator[nn.Module]:
    yield from (model.layers_main_hidden[1], model.layers_skip_hidden[1], model.activation, *model.layer_normalizations)


@both_kinds
def test_hooks_are_honoured(flags: tuple[bool, bool]) -> None:
    packed, apart = pair(flags)
    for mine, theirs in zip(hooks(packed), hooks(apart), strict=True):
        handles: list[Any] = []
        calls: tuple[list[str], list[str]] = ([], [])
        for module, seen in zip((mine, theirs), calls, strict=True):
            handles += [
                module.register_forward_pre_hook(lambda *_, seen=seen: seen.append("pre")),
                module.register_forward_hook(lambda *given, seen=seen: (seen.append("post"), given[2] * 0.5)[1]),
                module.register_full_backward_hook(lambda *_, seen=seen: seen.append("back")),
            ]
        results = [model(inputs()) for model in (packed, apart)]
        torch.testing.assert_close(*results)
        for result in results:
            result.sum().backward()
        assert sorted(calls[0]) == sorted(calls[1])
        assert calls[0] or (mine in packed.layer_normalizations and mine is packed.layer_normalizations[0])
        for handle in handles:
            handle.remove()
    torch.testing.assert_close(packed(inputs()), apart(inputs()))


def test_other_activations_and_global_hooks_are_honoured() -> None:
    packed, apart = pair()
    for activation in (nn.Tanh(), nn.ReLU(inplace=True), nn.Softplus()):
        packed.activation = apart.activation = activation
        torch.testing.assert_close(packed(inputs()), apart(inputs()))
    seen: list[nn.Module] = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module))
    try:
        packed(inputs())
    finally:
        handle.remove()
    assert {module for module in seen if isinstance(module, MaskedLinearLayer)} == set(maskable_layers(packed))


def test_hooks_under_transforms() -> None:
    packed, apart = pair()
    for model in (packed, apart):
        main_layer(model).register_forward_hook(lambda *given: given[2] * 0.5)
    torch.testing.assert_close(torch.func.jacrev(packed)(inputs()), torch.func.jacrev(apart)(inputs()))
    torch.testing.assert_close(torch.vmap(packed)(inputs()[:, None]), apart(inputs())[:, None])


@both_kinds
def test_the_latest_input_is_kept_if_told(flags: tuple[bool, bool]) -> None:
    packed, apart = pair(flags)
    for model in (packed, apart):
        main_layer(model).keep_layer_input = True
    torch.testing.assert_close(packed(inputs()), apart(inputs()))
    torch.testing.assert_close(main_layer(packed).layer_input, main_layer(apart).layer_input)
    assert main_layer(packed).layer_input is not None


def test_default_dtype_and_device() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert network()(inputs(dtype=torch.float64)).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        model = MaskedDeepDAN(6, 3, graph())
        apart = MaskedDeepDAN(6, 3, graph(), packed=False)
    assert {p.device.type for m in (model, apart) for p in m.parameters()} == {"meta"}


def test_large_networks_draw_only_what_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_DRAWN_WHOLE", 8)
    dense = nx.DiGraph(pair for pair in itertools.combinations(range(60), 2) if sum(pair) % 5)
    torch.manual_seed(0)
    model = MaskedDeepDAN(6, 3, dense)
    apart = MaskedDeepDAN(6, 3, dense, packed=False)
    for layer, other in zip(maskable_layers(model), maskable_layers(apart), strict=True):
        assert torch.equal(layer.mask, other.mask)
        if isinstance(layer, packing.PackedLayer):
            assert torch.equal(layer.weight != 0, layer.mask)
            assert layer.weight.abs().max() <= layer.in_features**-0.5
            assert layer.bias is not None
            assert layer.bias.abs().max() <= layer.in_features**-0.5
    apart.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(inputs()), apart(inputs()))
    torch.testing.assert_close(copy.deepcopy(model)(inputs()), apart(inputs()))


def test_weights_begin_as_those_of_torch() -> None:
    torch.manual_seed(0)
    dense = nx.complete_multipartite_graph(40, 50, 60)
    model: Any = MaskedDeepDAN(6, 3, nx.DiGraph((min(e), max(e)) for e in dense.edges))
    for layer in model.layers_main_hidden:
        bound = layer.in_features**-0.5
        assert 0.97 * bound < layer.weight.abs().max() <= bound
        assert abs(layer.weight.mean()) < 0.05 * bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert layer.bias.abs().max() <= bound
