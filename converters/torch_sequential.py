"""Chains of torch modules -> chains of operators: what can be read off without running anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from deepstruct import sequential
from deepstruct.converters.torch_parameters import Collector, refuse_changed_forward
from deepstruct.errors import UnsupportedError
from deepstruct.frozen import FrozenMapping
from deepstruct.losses import Loss
from deepstruct.sequential import Step
from deepstruct.sparse import MaskedLinearLayer
from deepstruct.structure import Structure


def from_module(module: nn.Module, collector: Collector) -> Structure:
    """The structure of linear layers, activations and layer norms in `nn.Sequential`.

    Raises:
        UnsupportedError: a module inside is of another kind; its path is named.
    """
    return to_structure(list(steps(module, "", collector)), collector, {})


def to_structure(found: list[Step], collector: Collector, attributes: dict[str, Any]) -> Structure:
    """The structure of steps; a Flatten in the beginning is reported."""
    if found and found[0].op_type == "Flatten":
        why = "inputs of a structure are matrices of features: flatten what you feed"
        collector.losses.append(Loss("input shape", found[0].scope, why))
    return sequential.to_structure(found, attributes)


def steps(module: nn.Module, scope: str, collector: Collector) -> Iterator[Step]:
    """The operators of a module, in the order in which data flows.

    Raises:
        UnsupportedError: it, or a module inside, is of a kind that is not mapped.
    """
    refuse_changed_forward(module, scope)
    if type(module) is nn.Sequential:
        for name, child in module._modules.items():  # named_children() leaves out what is used twice
            if child is not None:
                yield from steps(child, f"{scope}.{name}" if scope else name, collector)
        return
    emit = EMITTERS.get(type(module))
    if emit is None:
        raise UnsupportedError(_unmapped(module, scope))
    yield from emit(collector, module, scope)


def _linear(collector: Collector, module: nn.Linear, scope: str) -> Iterator[Step]:
    weight = collector.parameter(module, "weight", scope)
    if weight is not None:
        yield sequential.linear(weight, collector.parameter(module, "bias", scope), scope)


def _layer_norm(collector: Collector, module: nn.LayerNorm, scope: str) -> Iterator[Step]:
    scale = collector.parameter(module, "weight", scope)
    if scale is None:
        raise UnsupportedError(f"{scope}: LayerNorm without weights has no ONNX operator; use the affine one")
    yield sequential.layer_norm(scale, collector.parameter(module, "bias", scope), module.eps, scope)


def _dropout(collector: Collector, _module: nn.Module, scope: str) -> Iterator[Step]:
    why = "it acts in training only, and a structure describes inference"
    collector.losses.append(Loss("dropout", scope, why))
    yield from ()


def _nothing(_collector: Collector, _module: nn.Module, _scope: str) -> Iterator[Step]:
    yield from ()


def _unmapped(module: nn.Module, scope: str) -> str:
    known = ", ".join(sorted(kind.__name__ for kind in (*EMITTERS, nn.Sequential)))
    place = f"{scope!r} is" if scope else "the module is"
    return (
        f"{place} a {type(module).__qualname__}, which does not say what it computes: give example_inputs=(...) to "
        f"trace it. Known without tracing are: {known}"
    )


def _activation(op_type: str, **attributes: Callable[[Any], Any]) -> Callable[[Collector, Any, str], Iterator[Step]]:
    """An emitter for a module without parameters; attributes are taken from the module, defaults left out."""

    def emit(_collector: Collector, module: Any, scope: str) -> Iterator[Step]:
        values = {name: get(module) for name, get in attributes.items()}
        values = {name: value for name, value in values.items() if value is not None}
        yield Step(op_type, attributes=FrozenMapping(values), scope=scope)

    return emit


def _flatten(collector: Collector, module: nn.Flatten, scope: str) -> Iterator[Step]:
    if (module.start_dim, module.end_dim) != (1, -1):
        raise UnsupportedError(
            f"{scope}: Flatten({module.start_dim}, {module.end_dim}) is no ONNX Flatten; use (1, -1)"
        )
    yield from _activation("Flatten", axis=lambda _: 1)(collector, module, scope)


def _gelu(collector: Collector, module: nn.GELU, scope: str) -> Iterator[Step]:
    if module.approximate not in ("none", "tanh"):
        raise UnsupportedError(f"{scope}: GELU has no approximation {module.approximate!r}; use none or tanh")
    emit = _activation("Gelu", approximate=lambda m: None if m.approximate == "none" else m.approximate)
    yield from emit(collector, module, scope)


def _softplus(collector: Collector, module: nn.Softplus, scope: str) -> Iterator[Step]:
    if module.beta != 1 or module.threshold != 20:
        raise UnsupportedError(f"{scope}: {module} is no ONNX Softplus; use the defaults of beta and threshold")
    yield from _activation("Softplus")(collector, module, scope)


def _softmax(collector: Collector, module: nn.Softmax | nn.LogSoftmax, scope: str) -> Iterator[Step]:
    if module.dim is None:
        raise UnsupportedError(f"{scope}: {type(module).__name__} without dim is ambiguous; give it one")
    yield from _activation(type(module).__name__, axis=lambda m: m.dim)(collector, module, scope)


EMITTERS: dict[type, Callable[[Any, Any, str], Iterator[Step]]] = {
    nn.Linear: _linear,
    MaskedLinearLayer: _linear,
    nn.LayerNorm: _layer_norm,
    nn.Dropout: _dropout,
    nn.AlphaDropout: _dropout,
    nn.Identity: _nothing,
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
"""Kinds of modules -> what makes the operators of one."""
