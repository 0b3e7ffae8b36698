"""MaskedLinearLayer: a torch linear layer with a mask, and the ways to reach all such layers of a module."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, SupportsIndex

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = [
    "MaskableModule",
    "MaskedLinearLayer",
    "maskable_layers",
    "maskable_layers_with_name",
]


def _reset(module: nn.Module, keep_mask: bool) -> None:
    """Initialises a module anew, or the modules inside one that cannot do so itself."""
    reset = getattr(module, "reset_parameters", None)
    if not callable(reset):
        for child in module.children():
            _reset(child, keep_mask)
    elif "keep_mask" in inspect.signature(reset).parameters:
        reset(keep_mask=keep_mask)
    else:
        reset()


def checked_mask(mask: Any, weight: Tensor) -> Tensor:
    """`mask` as a bool tensor.

    Raises:
        ValueError: it has another shape than the weight, or other values than zeros and ones.
    """
    value = mask.detach() if isinstance(mask, Tensor) else torch.as_tensor(mask, device=weight.device)
    if value.shape != weight.shape:
        raise ValueError(f"the mask has shape {tuple(value.shape)}, the weight {tuple(weight.shape)}")
    if not bool(((value == 0) | (value == 1)).all()):
        raise ValueError("a mask holds only 0 and 1, or False and True")
    return value != 0


def kept_entries(layer: MaskedLinearLayer) -> NDArray[np.bool_]:
    """Bool (out, in): the mask of a layer as it is now."""
    mask: NDArray[np.bool_] = layer.mask.detach().cpu().numpy().astype(np.bool_, copy=False)
    return mask


def with_checked_masks(
    state_dict: dict[str, Any], prefix: str, weights: Mapping[str, Tensor], errors: list[str]
) -> dict[str, Any] | None:
    """A state_dict for one layer in which masks are bool tensors, or None, with errors, if they are no masks.

    Args:
        state_dict: that is loaded.
        prefix: of the layer's keys.
        weights: name of each mask -> the weight that it masks. A mask of another shape is left to torch.
        errors: gets what is wrong.
    """
    checked, wrong = dict(state_dict), len(errors)
    for name, weight in weights.items():
        mask = state_dict.get(f"{prefix}{name}")
        if isinstance(mask, Tensor) and mask.shape == weight.shape:
            try:
                checked[f"{prefix}{name}"] = checked_mask(mask, weight)
            except ValueError as error:
                errors.append(f"{prefix}{name}: {error}")
    return checked if len(errors) == wrong else None


def checked_sizes(size_input: SupportsIndex | Iterable[SupportsIndex], *others: SupportsIndex) -> list[int]:
    """Number of input features, of which several extents are multiplied, and other sizes of layers.

    Raises:
        TypeError: a size is no integer.
        ValueError: a size is not positive.
    """
    extents = size_input if isinstance(size_input, Iterable) else [size_input]
    inputs, sizes = list(map(operator.index, extents)), list(map(operator.index, others))
    if min([*inputs, *sizes], default=1) < 1:
        raise ValueError(f"layer sizes must be positive, not {[*inputs, *sizes]}")
    return [math.prod(inputs), *sizes]


class MaskableModule(nn.Module):
    """A module whose weights can be masked, by itself or in its layers."""

    def apply_mask(self) -> Self:
        """Sets every masked weight to 0, in all layers."""
        for layer in maskable_layers(self):
            layer.apply_mask()
        return self

    def recompute_mask(self, theta: float = 0.0001) -> Self:
        """Makes new masks from the weights alone: a connection exists where ``|w| >= theta``."""
        for layer in maskable_layers(self):
            layer.recompute_mask(theta)
        return self

    def reset_parameters(self, keep_mask: bool = False) -> Self:
        """Initialises all layers anew.

        Args:
            keep_mask: leave the masks alone instead of filling them.
        """
        for child in self.children():
            _reset(child, keep_mask)
        return self

    @property
    def maskable_children(self) -> Iterator[MaskedLinearLayer]:
        """The layers that `maskable_layers` finds."""
        return maskable_layers(self)

    @property
    def maskable_children_with_name(self) -> Iterator[tuple[str, MaskedLinearLayer]]:
        """The layers that `maskable_layers_with_name` finds."""
        return maskable_layers_with_name(self)


class MaskedLinearLayer(nn.Linear, MaskableModule):
    """``y = x (W * M)^T + b``: a linear layer in which the mask M, (out, in), switches connections off.

    The bias is never masked. A masked weight has no effect whatever its value, NaN and infinity included, and
    gets no gradient.
    """

    _mask: Tensor

    def __init__(
        self,
        in_feature: int,
        out_features: int,
        bias: bool = True,
        keep_layer_input: bool = False,
        mask_as_params: bool = False,
    ) -> None:
        """A layer with a full mask.

        Args:
            in_feature: number of input features.
            out_features: number of output features.
            bias: add a bias to each output.
            keep_layer_input: keep the latest input in `layer_input`.
            mask_as_params: make the mask a trainable parameter of scores, (out, in, 2): a connection exists where
                the second score is the larger one.
        """
        self._masks_as_params = bool(mask_as_params)
        self._saliency: Tensor | None = None
        super().__init__(in_feature, out_features, bias)
        if mask_as_params:
            self._mask = nn.Parameter(_scores(torch.ones(out_features, in_feature)))
        else:
            self.register_buffer("_mask", torch.ones((out_features, in_feature), dtype=torch.bool))
        self.keep_layer_input = keep_layer_input
        self.layer_input: Tensor | None = None

    @property
    def mask(self) -> Tensor:
        """(out, in), True or 1 where a connection exists: bool, or int64 for `mask_as_params`."""
        return self._mask.argmax(dim=2) if self._masks_as_params else self._mask

    @mask.setter
    def mask(self, mask: Tensor) -> None:
        value = checked_mask(mask, self.weight)
        with torch.no_grad():
            self._mask.copy_(_scores(value) if self._masks_as_params else value)

    def __getitem__(self, key: Any) -> Tensor:
        return self.mask[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        mask = self.mask.clone()
        mask[key] = torch.as_tensor(value, dtype=mask.dtype, device=mask.device)
        self.mask = mask

    @property
    def saliency(self) -> Tensor:
        """(out, in): how much each weight matters; its magnitude unless something else was set. None resets it."""
        return self.weight.detach().abs() if self._saliency is None else self._saliency

    @saliency.setter
    def saliency(self, saliency: Tensor | None) -> None:
        if saliency is not None and saliency.shape != self.weight.shape:
            raise ValueError(f"the saliency has shape {tuple(saliency.shape)}, the weight {tuple(self.weight.shape)}")
        self._saliency = saliency

    def get_weight_count(self) -> Tensor:
        """Number of connections that exist, as a 0-d tensor."""
        return self.mask.sum()

    def apply_mask(self) -> Self:
        """Sets every masked weight to 0."""
        with torch.no_grad():
            self.weight.copy_(torch.where(self.mask.bool(), self.weight, 0))
        return self

    def recompute_mask(self, theta: float = 0.001) -> Self:
        """Makes a new mask from the weights alone: a connection exists where ``|w| >= theta``.

        The old mask is not looked at, so masked weights that still have a value come back; call `apply_mask`
        first to keep them off.
        """
        self.mask = self.weight.detach().abs() >= theta
        return self

    def reset_parameters(self, keep_mask: bool = False) -> Self:  # type: ignore[override]  # nn.Linear gives None
        """Initialises the weights anew as `torch.nn.Linear` does.

        Args:
            keep_mask: leave the mask alone instead of filling it.
        """
        nn.Linear.reset_parameters(self)
        if hasattr(self, "_mask") and not keep_mask:  # nn.Linear constructs before there is a mask
            self.mask = torch.ones(self.weight.shape, dtype=torch.bool)
        return self

    def masked_weight(self) -> Tensor:
        """(out, in): the weight with 0 wherever no connection exists."""
        if not self._masks_as_params or not torch.is_grad_enabled():
            return torch.where(self.mask.bool(), self.weight, 0)
        # The mask is a step function of the scores; its gradient is taken from the softmax instead
        # (straight-through estimator, Bengio et al. 2013, arXiv:1308.3432).
        soft = self._mask.softmax(dim=2)[..., 1].to(self.weight.dtype)
        finite = self.weight.detach().nan_to_num(0, 0, 0)
        return torch.where(self.mask.bool(), self.weight, 0) + finite * (soft - soft.detach())

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        """Takes masks of any dtype, also where torch would put the given tensor itself into the layer."""
        weights = {} if self._masks_as_params else {"_mask": self.weight}
        checked = with_checked_masks(state_dict, prefix, weights, rest[-1])
        if checked is not None:
            super()._load_from_state_dict(checked, prefix, local_metadata, *rest)

    def forward(self, input: Tensor) -> Tensor:
        """Maps (..., in) to (..., out), in the dtype of the weights."""
        features = input.to(self.weight.dtype)
        if self.keep_layer_input:
            self.layer_input = features.detach()
        return F.linear(features, self.masked_weight(), self.bias)


def _scores(mask: Tensor) -> Tensor:
    """(..., 2) scores whose larger one says whether the mask has the connection."""
    on = mask.to(torch.float32)
    return torch.stack([0.9 - 0.8 * on, 0.1 + 0.8 * on], dim=-1)


def maskable_layers(model: nn.Module) -> Iterator[MaskedLinearLayer]:
    """Every `MaskedLinearLayer` inside a module, at any depth, in the order of ``named_modules``."""
    for _, layer in maskable_layers_with_name(model):
        yield layer


def maskable_layers_with_name(model: nn.Module) -> Iterator[tuple[str, MaskedLinearLayer]]:
    """Path inside the module and layer, for every `MaskedLinearLayer` inside it."""
    for name, module in model.named_modules():
        if module is not model and isinstance(module, MaskedLinearLayer):
            yield name, module
