"""Any torch module that torch can trace: its structure, the way back, and what is refused."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from networks import NETWORKS, Cells, GraphConvolution, Stateful, called, made
from torch import Tensor, nn
from torch.export import Dim
from torch.utils import _pytree as pytree

import deepstruct
from deepstruct import Loss, Model
from deepstruct.converters import torch_tensors
from deepstruct.errors import DeepstructError, LossWarning, UnsupportedError

AUTO: Any = Dim.AUTO


def state(module: nn.Module) -> dict[str, Any]:
    """Everything that a conversion must leave alone."""
    numbers = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    return {
        "numbers": numbers,
        "modes": [part.training for part in module.modules()],
        "attributes": [sorted(vars(part)) for part in module.modules()],
        "trained": [parameter.requires_grad for parameter in module.parameters()],
    }


def same_state(a: dict[str, Any], b: dict[str, Any]) -> bool:
    numbers = a.pop("numbers"), b.pop("numbers")
    equal = all(torch.equal(numbers[0][name], numbers[1][name]) for name in numbers[0])
    return a == b and equal and list(numbers[0]) == list(numbers[1])


def check_outputs(back: nn.Module, module: nn.Module, inputs: Any) -> None:
    expected = called(module, inputs)
    with torch.no_grad():
        found = pytree.tree_leaves(back(*pytree.tree_leaves(inputs)))
    assert [(t.dtype, t.shape) for t in found] == [(t.dtype, t.shape) for t in expected]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=5e-7)


def check_onnxruntime(path: Path, module: nn.Module, inputs: Any) -> None:
    session = onnxruntime.InferenceSession(str(path))
    names = [value.name for value in session.get_inputs()]
    given = {name: t.numpy() for name, t in zip(names, pytree.tree_leaves(inputs), strict=True)}
    for a, b in zip(session.run(None, given), called(module, inputs), strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-3, atol=1e-3 if b.dtype == torch.half else 1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_become_structures_and_come_back(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    module, inputs = made(name)
    before, generator = state(module), torch.get_rng_state()
    losses: list[Loss] = []
    model = deepstruct.from_module(module, inputs, losses=losses)
    assert same_state(state(module), before)
    assert torch.equal(torch.get_rng_state(), generator)
    assert capfd.readouterr() == ("", "")

    own = module.state_dict()
    without_name = {"llama": {"sin"}}.get(name, set())
    assert {p.name for p in model.structure.parameters} - without_name == own.keys() - {loss.where for loss in losses}
    assert [(loss.what, loss.where) for loss in losses] == ([("sharing", "lm_head.weight")] if name == "gpt" else [])
    assert model.weights is not None
    for parameter in model.structure.parameters:
        if parameter.name in own:
            numbers = torch_tensors.to_numpy(None, parameter.name, own[parameter.name])
            assert np.array_equal(model.weights[parameter.name], numbers)

    back = deepstruct.to_module(model)
    module.eval()
    check_outputs(back, module, inputs)
    for size in (1, 5):
        others = pytree.tree_map(lambda t: t[torch.arange(size) % t.shape[0]], inputs)  # noqa: B023 - called at once
        check_outputs(back, module, others)
    module.load_state_dict({**own, **{k: v for k, v in back.state_dict().items() if k in own}})

    for file in ("a.structure.json", "a.onnx", "a.pt"):
        deepstruct.save(model, tmp_path / file, fail_on_loss=True)
        assert deepstruct.load(tmp_path / file) == model
    if name != "one-dimensional":  # onnxruntime has no convolution in float64
        check_onnxruntime(tmp_path / "a.onnx", module, inputs)
    with warnings.catch_warnings(action="ignore", category=LossWarning):
        assert deepstruct.from_module(module, inputs) == model


def test_modules_are_saved_with_examples_alike_every_time(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        module, inputs = made("mobilenet")
        for file in ("net.structure.json", "net.onnx", "net.pt"):
            deepstruct.save(module, tmp_path / folder / file, example_inputs=inputs)
    for file in ("net.structure.json", "net.safetensors", "net.onnx"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_graphs_are_free_of_noise() -> None:
    module = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.ReLU())
    traced = deepstruct.from_module(nn.Sequential(nn.Identity(), module), torch.randn(2, 4)).structure
    assert [(node.op_type, dict(node.attributes), node.scope) for node in traced.nodes] == [
        ("Gemm", {"transB": 1}, "1.0"),
        ("LayerNormalization", {}, "1.1"),
        ("Relu", {}, "1.2"),
    ]
    assert [p.name for p in traced.parameters] == ["1.0.weight", "1.0.bias", "1.1.weight", "1.1.bias"]


def test_graphs_of_graphs() -> None:
    edges = torch.tensor([[0, 1, 2, 3, 3], [1, 2, 3, 0, 1]])
    module = GraphConvolution()
    model = deepstruct.from_module(module, (torch.randn(4, 5), edges), dynamic_shapes=({0: AUTO}, {1: AUTO}))
    assert {p.name for p in model.structure.parameters} == set(module.state_dict())
    check_outputs(deepstruct.to_module(model), module, (torch.randn(6, 5), edges[:, :3]))


def test_open_dimensions_are_those_that_are_asked_for() -> None:
    module = Stateful().eval()
    inputs = torch.randn(6, 2, 5), torch.randn(1, 2, 4), torch.randn(1, 2, 4)
    model = deepstruct.from_module(module, inputs, dynamic_shapes=({1: AUTO}, {1: AUTO}, {1: AUTO}))
    assert [value.shape for value in model.structure.inputs] == [(6, "dim_0", 5), (1, "dim_0", 4), (1, "dim_0", 4)]
    back = deepstruct.to_module(model)
    check_outputs(back, module, (torch.randn(6, 4, 5), torch.randn(1, 4, 4), torch.randn(1, 4, 4)))
    with pytest.raises(ValueError, match="an input has shape"):
        back(torch.randn(6, 4, 5), torch.randn(1, 3, 4), torch.randn(1, 4, 4))
    with pytest.raises(ValueError, match=r"input 'x' has shape \(3, 4, 5\), not \(6, 'dim_0', 5\)"):
        back(torch.randn(3, 4, 5), torch.randn(1, 4, 4), torch.randn(1, 4, 4))
    fixed = deepstruct.from_module(Cells(), torch.randn(1, 2, 5), dynamic_shapes=({},))
    assert fixed.structure.inputs[0].shape == (1, 2, 5)


class Small(nn.Module):
    """A linear layer, whose forward the tests give."""

    def __init__(self, forward: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("count", torch.tensor(0))
        self.function = forward

    def forward(self, *args: Any, **named: Any) -> Any:
        return self.function(self, *args, **named)


def _average(self: Any, x: Tensor) -> Tensor:
    self.mean.mul_(0.9).add_(x.mean(0))
    self.count += 1
    return self.layer(x) + self.mean  # type: ignore[no-any-return]  # a tensor


def _remember(self: Any, x: Tensor) -> Tensor:
    self.last = x
    self.mean = self.mean + 1
    return self.layer(x) + self.mean  # type: ignore[no-any-return]  # a tensor


@pytest.mark.parametrize(("forward", "where"), [(_average, ["mean", "count"]), (_remember, ["mean"])])
def test_what_a_call_changes_is_a_loss(forward: Any, where: list[str]) -> None:
    module, x = Small(forward).eval(), torch.randn(3, 4)
    before = state(module)
    losses: list[Loss] = []
    model = deepstruct.from_module(module, x, losses=losses)
    assert same_state(state(module), before)
    assert [(loss.what, loss.where) for loss in losses] == [("update", name) for name in where]
    check_outputs(deepstruct.to_module(model), module, x)


def _positions(self: Any, x: Tensor) -> Tensor:
    return self.layer(x)[:, torch.tensor([1, 0, 3, 2])] + torch.tensor([1.0, 2.0, 3.0, 4.0]) + torch.ones(2, 1, 1)  # type: ignore[no-any-return]  # a tensor


def test_numbers_in_code_are_no_parameters(tmp_path: Path) -> None:
    module, x = Small(_positions), torch.randn(3, 4)
    model = deepstruct.from_module(module, x)
    assert {p.name for p in model.structure.parameters} == set(module.state_dict())
    check_outputs(deepstruct.to_module(model), module, x)
    deepstruct.save(model, tmp_path / "a.onnx", fail_on_loss=True)
    assert deepstruct.load(tmp_path / "a.onnx") == model


def test_arguments_by_name_and_others_than_tensors() -> None:
    class Named(nn.Linear):
        def forward(self, x: Tensor, *, power: float = 1, twice: bool = False, y: Any = None) -> Tensor:
            x = super().forward(x) ** power
            return x * 2 if twice else x - y

    module, x, y = Named(4, 3), torch.randn(2, 4), torch.randn(2, 3)
    model = deepstruct.from_module(module, {"x": x, "power": 2, "y": y})
    assert [(value.name, value.shape) for value in model.structure.inputs] == [("x", ("batch", 4)), ("y", ("batch", 3))]
    with torch.no_grad():
        assert torch.equal(deepstruct.to_module(model)(x, y), module(x, power=2, y=y))
    assert len(deepstruct.from_module(module, {"x": x, "twice": True}).structure.inputs) == 1


def _branch(self: Any, x: Tensor) -> Any:
    return self.layer(x) if x.sum() > 0 else x


def _fail(self: Any, x: Tensor) -> Any:
    raise KeyError("first\nsecond")


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "control flow": (_branch, torch.randn(3, 4), r"depends on the numbers .*test_torch_export.py:\d+ in _branch"),
    "graph in a graph": (
        lambda self, x: torch.cond(x.sum() > 0, self.layer, lambda x: x * 1, (x,)),
        torch.randn(3, 4),
        "If with a graph of its own",
    ),
    "no ONNX": (lambda _, x: torch.special.bessel_j0(x), torch.randn(3, 4), "prims.bessel_j0 has no ONNX counter"),
    "a number": (lambda _, x: (x + 1, 3), torch.randn(3, 4), "returns 3, which is no tensor"),
    "a text": (lambda _, x: {"a": x + 1, "b": "text"}, torch.randn(3, 4), "returns 'text', which is no tensor"),
    "complex": (lambda _, x: x.real, torch.randn(3, 4, dtype=torch.complex64), "complex"),
    "its own error": (_fail, torch.randn(3, 4), r"KeyError: 'first\\nsecond' \(at test_torch_export.py:\d+ in _fail\)"),
    "wrong shape": (lambda self, x: self.layer(x), torch.randn(3, 5), r"reduction dim"),
    "too many": (lambda self, x: self.layer(x), (torch.randn(3, 4), torch.randn(3, 4)), "takes 2 positional arguments"),
    "numpy": (lambda _, x: torch.from_numpy(x.numpy()), torch.randn(3, 4), "numpy"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_line_and_quiet(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    forward, inputs, why = REFUSED[name]
    module = Small(forward)
    before = state(module)
    with pytest.raises(UnsupportedError, match=why) as caught:
        deepstruct.from_module(module, inputs)
    assert "\n" not in str(caught.value)
    assert same_state(state(module), before)
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == logging.NOTSET


def test_modules_without_numbers_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"^1.weight has no numbers yet"):
        deepstruct.from_module(nn.Sequential(nn.Flatten(), nn.Conv1d(1, 2, 3, device="meta")), torch.randn(2, 1, 4))
    with pytest.raises(UnsupportedError, match=r"^1.weight has no numbers yet"):
        deepstruct.from_module(nn.Sequential(nn.Tanh(), nn.LazyConv1d(2, 3)), torch.randn(2, 1, 4))


def test_random_operators_are_named_on_the_way_back() -> None:
    model = deepstruct.from_module(Small(lambda self, x: self.layer(x) + torch.randn_like(x)), torch.randn(3, 4))
    with pytest.raises(DeepstructError, match="RandomNormalLike is not mapped to torch"):
        deepstruct.to_module(Model(model.structure))


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM])
def test_steps_that_are_unrolled_or_built_in_are_not_open(kind: Any, steps: int) -> None:
    module = kind(3, 4, bidirectional=True).eval()
    example = torch.randn(steps, 2, 3)
    model = deepstruct.from_module(module, (example,), losses=[])
    assert model.structure.inputs[0].shape == (steps, 2, 3)
    outputs = deepstruct.to_module(model)(example)
    expected, _ = module(example)
    torch.testing.assert_close(outputs[0], expected)
