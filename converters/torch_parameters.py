"""The parameters that live torch modules hold, with their masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from deepstruct import dtypes
from deepstruct.converters import torch_tensors
from deepstruct.errors import UnsupportedError
from deepstruct.losses import Loss
from deepstruct.sparse import MaskedLinearLayer
from deepstruct.structure import Parameter

Describe: TypeAlias = Callable[[str, Tensor, Tensor | None], Parameter]


def with_mask(name: str, tensor: Tensor, mask: Tensor | None) -> Parameter:
    """The parameter of a tensor and its mask."""
    array = torch_tensors.to_numpy(None, name, tensor)
    described = None if mask is None else torch_tensors.to_mask(None, f"{name} mask", mask)
    return Parameter(name, dtypes.from_numpy(array.dtype), array.shape, described)


def without_mask(name: str, tensor: Tensor, _mask: Tensor | None) -> Parameter:
    """The parameter of a tensor that may be on the meta device."""
    return Parameter(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


class Collector:
    """Gathers parameters, and remembers the tensors that they belong to.

    Attributes:
        losses: gets what a parameter cannot say.
        tensors: by parameter name.
    """

    def __init__(self, losses: list[Loss], describe: Describe = with_mask) -> None:
        self.losses = losses
        self.tensors: dict[str, Tensor] = {}
        self._describe = describe
        self._seen: dict[int, tuple[Tensor, Parameter]] = {}

    def parameter(self, module: nn.Module, name: str, scope: str, mask: str = "") -> Parameter | None:
        """A module's parameter with its mask: its own, that of `torch.nn.utils.prune`, or both.

        A tensor that was met before under the same mask is the same parameter.

        Args:
            module: that has the parameter.
            name: of its attribute.
            scope: path of the module.
            mask: name of the attribute that masks it, for modules other than `MaskedLinearLayer`.
        """
        path = f"{scope}.{name}" if scope else name
        tensor: Tensor | None = getattr(module, f"{name}_orig", getattr(module, name))
        if tensor is None:
            return None
        bits = getattr(module, mask or f"{name}_mask", None)
        if isinstance(module, MaskedLinearLayer) and name == "weight":
            bits = module.mask if bits is None else module.mask.bool() & bits.bool()
            if module.mask.dtype != torch.bool:
                why = "scores become a mask: the larger one decides, and the scores are not kept"
                self.losses.append(Loss("mask scores", path, why))
        parameter = self._describe(path, tensor, bits)
        if id(tensor) in self._seen:
            known = self._seen[id(tensor)][1]
            if replace(parameter, name=known.name) == known:
                return known
            why = f"it is one tensor with {known.name} under another mask; they become two"
            self.losses.append(Loss("sharing", path, why))
        self._seen[id(tensor)] = (tensor, parameter)
        self.tensors[path] = tensor
        return parameter


def refuse_changed_forward(module: nn.Module, scope: str) -> None:
    """Hooks can change what a module computes; only those of `torch.nn.utils.prune` are understood.

    Raises:
        UnsupportedError: the module has others, or a ``forward`` of its own.
    """
    place = repr(scope) if scope else "the module"
    hooks = [h for h in module._forward_pre_hooks.values() if not isinstance(h, prune.BasePruningMethod)]
    if hooks or module._forward_hooks:
        raise UnsupportedError(f"{place} has forward hooks, which may change its output; remove them")
    if "forward" in vars(module):
        raise UnsupportedError(f"{place} has a forward of its own, which may compute something else; remove it")
