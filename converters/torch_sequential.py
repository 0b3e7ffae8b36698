"""Feed-forward torch modules <-> chains of operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

from deepstruct import sequential, state_dict
from deepstruct.converters import torch_graph
from deepstruct.errors import UnsupportedError
from deepstruct.frozen import FrozenMapping
from deepstruct.losses import Loss
from deepstruct.sequential import Step
from deepstruct.sparse import MaskedDeepFFN, MaskedLinearLayer, maskable_layers_with_name
from deepstruct.structure import Parameter, Structure

Describe = Callable[[str, torch.Tensor, torch.Tensor | None], Parameter]


def from_module(module: nn.Module, losses: list[Loss], describe: Describe) -> tuple[Structure, dict[str, torch.Tensor]]:
    """The structure of a feed-forward module, and its tensors by parameter name.

    Args:
        module: a `MaskedDeepFFN`, or linear layers, activations and layer norms in `nn.Sequential`.
        losses: gets what acts in training only.
        describe: makes the Parameter of a name, a tensor and its mask.

    Raises:
        UnsupportedError: a module inside is of another kind; its path is named.
    """
    walk = _Walk(losses, describe)
    attributes = {}
    if type(module) is MaskedDeepFFN:
        _refuse_changed_forward(module, "")
        steps = [*walk.steps(module._layer_first, "_layer_first"), *walk.steps(module._activation, "_activation")]
        for position, layer in enumerate(module._layers_hidden):
            scope = "_activation" if layer is module._activation else f"_layers_hidden.{position}"
            steps += walk.steps(layer, scope)
        steps += walk.steps(module._layer_out, "_layer_out")
        attributes = {"family": state_dict.FAMILY}
    else:
        steps = list(walk.steps(module, ""))
    if steps and steps[0].op_type == "Flatten":
        why = "inputs of a structure are matrices of features: flatten what you feed"
        losses.append(Loss("input shape", steps[0].scope, why))
    return sequential.to_structure(steps, attributes), walk.tensors


class _Walk:
    """Walks through modules in the order in which data flows and gathers their tensors."""

    def __init__(self, losses: list[Loss], describe: Describe) -> None:
        self.losses = losses
        self.describe = describe
        self.tensors: dict[str, torch.Tensor] = {}
        self._seen: list[tuple[torch.Tensor, Parameter]] = []

    def steps(self, module: nn.Module, scope: str) -> Iterator[Step]:
        _refuse_changed_forward(module, scope)
        if type(module) is nn.Sequential:
            for name, child in module._modules.items():  # named_children() leaves out what is used twice
                if child is not None:
                    yield from self.steps(child, f"{scope}.{name}" if scope else name)
            return
        emit = _EMITTERS.get(type(module))
        if emit is None:
            raise UnsupportedError(_unmapped(module, scope))
        yield from emit(self, module, scope)

    def parameter(self, module: nn.Module, name: str, scope: str) -> Parameter | None:
        """A module's parameter with its mask: its own, that of `torch.nn.utils.prune`, or both.

        A tensor that was met before under the same mask is the same parameter.
        """
        path = f"{scope}.{name}" if scope else name
        tensor = getattr(module, f"{name}_orig", getattr(module, name))
        if tensor is None:
            return None
        mask = getattr(module, f"{name}_mask", None)
        if isinstance(module, MaskedLinearLayer) and name == "weight":
            mask = module.mask if mask is None else module.mask.bool() & mask.bool()
            if module.mask.dtype != torch.bool:
                why = "scores become a mask: the larger one decides, and the scores are not kept"
                self.losses.append(Loss("mask scores", path, why))
        parameter = self.describe(path, tensor, mask)
        for other, known in self._seen:
            if other is tensor:
                if replace(parameter, name=known.name) == known:
                    return known
                why = f"it is one tensor with {known.name} under another mask; they become two"
                self.losses.append(Loss("sharing", path, why))
        self._seen.append((tensor, parameter))
        self.tensors[path] = tensor
        return parameter

    def linear(self, module: nn.Linear, scope: str) -> Iterator[Step]:
        weight = self.parameter(module, "weight", scope)
        if weight is not None:
            yield sequential.linear(weight, self.parameter(module, "bias", scope), scope)

    def layer_norm(self, module: nn.LayerNorm, scope: str) -> Iterator[Step]:
        scale = self.parameter(module, "weight", scope)
        if scale is None:
            raise UnsupportedError(f"{scope}: LayerNorm without weights has no ONNX operator; use the affine one")
        yield sequential.layer_norm(scale, self.parameter(module, "bias", scope), module.eps, scope)

    def dropout(self, _module: nn.Module, scope: str) -> Iterator[Step]:
        self.losses.append(Loss("dropout", scope, "it acts in training only, and a structure describes inference"))
        yield from ()

    def nothing(self, _module: nn.Module, _scope: str) -> Iterator[Step]:
        yield from ()


def _refuse_changed_forward(module: nn.Module, scope: str) -> None:
    """Hooks can change what a module computes; only those of `torch.nn.utils.prune` are understood."""
    place = repr(scope) if scope else "the module"
    hooks = [h for h in module._forward_pre_hooks.values() if not isinstance(h, prune.BasePruningMethod)]
    if hooks or module._forward_hooks:
        raise UnsupportedError(f"{place} has forward hooks, which may change its output; remove them")
    if "forward" in vars(module):
        raise UnsupportedError(f"{place} has a forward of its own, which may compute something else; remove it")


def _unmapped(module: nn.Module, scope: str) -> str:
    known = ", ".join(sorted(kind.__name__ for kind in (*_EMITTERS, nn.Sequential, MaskedDeepFFN)))
    place = f"{scope!r} is" if scope else "the module is"
    return f"{place} a {type(module).__qualname__}, which is not mapped to ONNX operators. Mapped are: {known}"


def _activation(op_type: str, **attributes: Callable[[Any], Any]) -> Callable[[_Walk, Any, str], Iterator[Step]]:
    """An emitter for a module without parameters; attributes are taken from the module, defaults left out."""

    def emit(_walk: _Walk, module: Any, scope: str) -> Iterator[Step]:
        values = {name: get(module) for name, get in attributes.items()}
        values = {name: value for name, value in values.items() if value is not None}
        yield Step(op_type, attributes=FrozenMapping(values), scope=scope)

    return emit


def _flatten(walk: _Walk, module: nn.Flatten, scope: str) -> Iterator[Step]:
    if (module.start_dim, module.end_dim) != (1, -1):
        raise UnsupportedError(
            f"{scope}: Flatten({module.start_dim}, {module.end_dim}) is no ONNX Flatten; use (1, -1)"
        )
    yield from _activation("Flatten", axis=lambda _: 1)(walk, module, scope)


def _gelu(walk: _Walk, module: nn.GELU, scope: str) -> Iterator[Step]:
    if module.approximate not in ("none", "tanh"):
        raise UnsupportedError(f"{scope}: GELU has no approximation {module.approximate!r}; use none or tanh")
    emit = _activation("Gelu", approximate=lambda m: None if m.approximate == "none" else m.approximate)
    yield from emit(walk, module, scope)


def _softplus(walk: _Walk, module: nn.Softplus, scope: str) -> Iterator[Step]:
    if module.beta != 1 or module.threshold != 20:
        raise UnsupportedError(f"{scope}: {module} is no ONNX Softplus; use the defaults of beta and threshold")
    yield from _activation("Softplus")(walk, module, scope)


def _softmax(walk: _Walk, module: nn.Softmax | nn.LogSoftmax, scope: str) -> Iterator[Step]:
    if module.dim is None:
        raise UnsupportedError(f"{scope}: {type(module).__name__} without dim is ambiguous; give it one")
    yield from _activation(type(module).__name__, axis=lambda m: m.dim)(walk, module, scope)


_EMITTERS: dict[type, Callable[[Any, Any, str], Iterator[Step]]] = {
    nn.Linear: _Walk.linear,
    MaskedLinearLayer: _Walk.linear,
    nn.LayerNorm: _Walk.layer_norm,
    nn.Dropout: _Walk.dropout,
    nn.AlphaDropout: _Walk.dropout,
    nn.Identity: _Walk.nothing,
    nn.Flatten: _flatten,
    nn.ReLU: _activation("Relu"),
    nn.Tanh: _activation("Tanh"),
    nn.Sigmoid: _activation("Sigmoid"),
    nn.SELU: _activation("Selu"),
    nn.Mish: _activation("Mish"),
    nn.Softsign: _activation("Softsign"),
    nn.Softplus: _softplus,
    nn.Softmax: _softmax,
    nn.LogSoftmax: _softmax,
    nn.ELU: _activation("Elu", alpha=lambda m: float(m.alpha)),
    nn.CELU: _activation("Celu", alpha=lambda m: float(m.alpha)),
    nn.LeakyReLU: _activation("LeakyRelu", alpha=lambda m: float(m.negative_slope)),
    nn.GELU: _gelu,
    nn.Hardswish: _activation("HardSwish"),
    nn.Hardsigmoid: _activation("HardSigmoid", alpha=lambda _: 1 / 6, beta=lambda _: 0.5),
}


def to_module(structure: Structure) -> nn.Module | None:
    """The module of the family that a structure belongs to, freshly initialised, or None if it has none.

    The family is believed only if its module computes exactly this structure.
    """
    if structure.attributes.get("family") != state_dict.FAMILY:
        return None
    steps = sequential.from_structure(structure)
    found = {parameter.dtype for parameter in structure.parameters}
    dtype = getattr(torch, found.pop(), None) if len(found) == 1 else None
    if steps is None or dtype is None or not dtype.is_floating_point:
        return None
    shapes = [step.parameters[0].shape for step in steps if step.op_type == "Gemm"]
    has_norm = any(step.op_type == "LayerNormalization" for step in steps)
    if len(shapes) < 2 or any(0 in shape for shape in shapes):
        return None
    sizes = [shape[0] for shape in shapes]
    module = MaskedDeepFFN(shapes[0][-1], sizes[-1], sizes[:-1], use_layer_norm=has_norm).to(dtype)
    expected, _ = from_module(module, [], _without_mask)
    same = sequential.from_structure(expected)
    return module if same is not None and _computed(same) == _computed(steps) else None


def _without_mask(name: str, tensor: torch.Tensor, _mask: torch.Tensor | None) -> Parameter:
    return Parameter(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def _computed(steps: list[Step]) -> list[Any]:
    """What steps compute, whatever their scopes and masks."""
    return [(step.op_type, step.attributes, [(p.name, p.dtype, p.shape) for p in step.parameters]) for step in steps]


def mask_keys(structure: Structure) -> dict[str, str]:
    """Parameter name -> state_dict key of its mask in the module that `to_module` makes of a structure."""
    with torch.device("meta"):
        module = to_module(structure)
    if module is None:
        return torch_graph.mask_keys(structure)
    return {f"{name}.weight": f"{name}._mask" for name, _ in maskable_layers_with_name(module)}
