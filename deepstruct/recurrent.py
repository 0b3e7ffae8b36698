"""Recurrent torch modules with masks on their input and hidden weights.

Names, constructor arguments, ``state_dict`` keys and outputs are those of the earlier deepstruct library. Gates stand
in torch's order: reset, update, new for GRU; input, forget, cell, output for LSTM.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from deepstruct.masked import checked_mask, with_checked_masks

__all__ = ["BaseRecurrentLayer", "MaskedDeepRNN", "MaskedGRULayer", "MaskedLSTMLayer", "MaskedRecurrentLayer"]


class BaseRecurrentLayer(nn.Module):
    """Weights and masks of one recurrent layer; a subclass says how a step computes.

    ``_weight_ih`` and its mask ``_mask_i2h`` are (gates * hidden, input), ``_weight_hh`` and ``_mask_h2h`` are
    (gates * hidden, hidden). A masked weight has no effect whatever its value.
    """

    gates: ClassVar[int] = 1
    masks: ClassVar[dict[str, str]] = {"_weight_ih": "_mask_i2h", "_weight_hh": "_mask_h2h"}
    _mask_i2h: Tensor
    _mask_h2h: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        batch_first: bool = False,
        nonlinearity: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """A layer with full masks.

        Args:
            input_size: number of input features.
            hidden_size: number of hidden units.
            batch_first: sequences are (batch, step, feature) instead of (step, batch, feature).
            nonlinearity: of the plain recurrent layer; others have their own and take no notice.
        """
        super().__init__()
        if type(self) is BaseRecurrentLayer:
            raise TypeError("a BaseRecurrentLayer is abstract: make one of its subclasses")
        del nonlinearity
        if input_size < 1 or hidden_size < 1:
            raise ValueError(f"layer sizes must be positive, not {input_size} and {hidden_size}")
        self._input_size = input_size
        self._hidden_size = hidden_size
        self._batch_first = bool(batch_first)
        rows = self.gates * hidden_size
        self._weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self._weight_hh = nn.Parameter(torch.empty(rows, hidden_size))
        self._bias_ih = nn.Parameter(torch.empty(rows))
        self._bias_hh = nn.Parameter(torch.empty(rows))
        self.register_buffer("_mask_i2h", torch.ones((rows, input_size), dtype=torch.bool))
        self.register_buffer("_mask_h2h", torch.ones((rows, hidden_size), dtype=torch.bool))
        self.reset_parameters()

    def reset_parameters(self, keep_mask: bool = False) -> None:
        """Draws all weights from U(-1/sqrt(hidden), 1/sqrt(hidden)).

        Args:
            keep_mask: leave the masks alone instead of filling them.
        """
        bound = 1 / math.sqrt(self._hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        if not keep_mask:
            self._mask_i2h.fill_(True)
            self._mask_h2h.fill_(True)

    def set_i2h_mask(self, mask: Tensor) -> None:
        """Sets the mask of the input weights, (gates * hidden, input), of zeros and ones."""
        self._mask_i2h.copy_(checked_mask(mask, self._weight_ih))

    def set_h2h_mask(self, mask: Tensor) -> None:
        """Sets the mask of the hidden weights, (gates * hidden, hidden), of zeros and ones."""
        self._mask_h2h.copy_(checked_mask(mask, self._weight_hh))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        """Takes masks of any dtype that hold zeros and ones."""
        weights = {mask: getattr(self, weight) for weight, mask in self.masks.items()}
        checked = with_checked_masks(state_dict, prefix, weights, rest[-1])
        if checked is not None:
            super()._load_from_state_dict(checked, prefix, local_metadata, *rest)

    def _inputs(self, features: Tensor) -> Tensor:
        return F.linear(
            features.to(self._weight_ih.dtype), torch.where(self._mask_i2h.bool(), self._weight_ih, 0), self._bias_ih
        )

    def _hidden_weight(self) -> Tensor:
        return torch.where(self._mask_h2h.bool(), self._weight_hh, 0)

    def _initial(self, hidden: Tensor) -> Any:
        return hidden

    def _step(self, inputs: Tensor, state: Any, hidden_weight: Tensor) -> Any:
        """The state after a step: `inputs` is (batch, gates * hidden), a state (batch, hidden) or a tuple of such."""
        raise NotImplementedError(f"{type(self).__name__} must define forward or _step")

    def forward(self, input: Tensor, hx: Any) -> Any:
        """One step: (batch, input) and the state before give the state after."""
        return self._step(self._inputs(input), hx, self._hidden_weight())

    def unfold(self, input: Tensor, hx: Tensor) -> Tensor:
        """Hidden states of all steps of a sequence, in its own layout, from the state `hx` (batch, hidden)."""
        dimension = 1 if self._batch_first else 0
        own = type(self).forward is not BaseRecurrentLayer.forward  # a subclass computes a step in its own way
        hidden_weight, state = self._hidden_weight(), self._initial(hx)
        outputs = []
        for inputs in (input if own else self._inputs(input)).unbind(dimension):
            state = self.forward(inputs, state) if own else self._step(inputs, state, hidden_weight)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs, dimension)

    def extra_repr(self) -> str:
        """Sizes, for ``print(module)``."""
        return f"in_features={self._input_size}, out_features={self._hidden_size}, batch_first={self._batch_first}"


class MaskedRecurrentLayer(BaseRecurrentLayer):
    """``h' = f(W_ih x + b_ih + W_hh h + b_hh)``, as `torch.nn.RNNCell`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        batch_first: bool = False,
        nonlinearity: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """A layer with full masks; f is tanh unless another nonlinearity is given."""
        super().__init__(input_size, hidden_size, batch_first)
        if nonlinearity is not None and not callable(nonlinearity):
            raise TypeError(f"the nonlinearity must be callable, not {nonlinearity!r}")
        self._nonlinearity = nonlinearity or nn.Tanh()

    def _step(self, inputs: Tensor, state: Tensor, hidden_weight: Tensor) -> Tensor:
        return self._nonlinearity(inputs + F.linear(state, hidden_weight, self._bias_hh))


class MaskedGRULayer(BaseRecurrentLayer):
    """A gated recurrent unit, as `torch.nn.GRUCell`."""

    gates = 3

    def _step(self, inputs: Tensor, state: Tensor, hidden_weight: Tensor) -> Tensor:
        input_reset, input_update, input_new = inputs.chunk(3, 1)
        hidden_reset, hidden_update, hidden_new = F.linear(state, hidden_weight, self._bias_hh).chunk(3, 1)
        reset = torch.sigmoid(input_reset + hidden_reset)
        update = torch.sigmoid(input_update + hidden_update)
        new = torch.tanh(input_new + reset * hidden_new)
        return new + update * (state - new)


class MaskedLSTMLayer(BaseRecurrentLayer):
    """Long short-term memory, as `torch.nn.LSTMCell`; its state is (hidden, cell)."""

    gates = 4

    def _initial(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return hidden, hidden.clone()

    def _step(self, inputs: Tensor, state: tuple[Tensor, Tensor], hidden_weight: Tensor) -> tuple[Tensor, Tensor]:
        hidden, cell = state
        take, forget, new, out = (inputs + F.linear(hidden, hidden_weight, self._bias_hh)).chunk(4, 1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(take) * torch.tanh(new)
        return torch.sigmoid(out) * torch.tanh(cell), cell


class MaskedDeepRNN(nn.Module):
    """Recurrent layers on top of each other; the output is the last layer's hidden state after the last step."""

    def __init__(
        self,
        input_size: int,
        hidden_layers: Sequence[int],
        build_recurrent_layer: Callable[..., BaseRecurrentLayer] = MaskedRecurrentLayer,
        nonlinearity: Callable[[Tensor], Tensor] | None = None,
        batch_first: bool = False,
    ) -> None:
        """A network with full masks.

        Args:
            input_size: number of input features.
            hidden_layers: number of units of each layer, at least one layer.
            build_recurrent_layer: makes a layer of (input_size, hidden_size, batch_first, nonlinearity=...).
            nonlinearity: of plain recurrent layers, tanh by default; GRU and LSTM have their own.
            batch_first: sequences are (batch, step, feature) instead of (step, batch, feature).
        """
        super().__init__()
        if not hidden_layers:
            raise ValueError("hidden_layers must name at least one layer size")
        self._input_size = input_size
        self._hidden_layers = list(hidden_layers)
        self._batch_first = bool(batch_first)
        sources = [input_size, *hidden_layers[:-1]]
        self._recurrent_layers = nn.ModuleList(
            build_recurrent_layer(source, target, batch_first, nonlinearity=nonlinearity)
            for source, target in zip(sources, hidden_layers, strict=True)
        )

    def apply_mask(self, threshold: float = 0.0, i2h: bool = False, h2h: bool = False) -> None:
        """Makes new masks from the weights alone: a connection exists where ``|w| >= threshold``.

        Args:
            threshold: smallest magnitude that is kept.
            i2h: do so for the input weights.
            h2h: do so for the hidden weights.
        """
        for layer in self._layers():
            if i2h:
                layer.set_i2h_mask(layer._weight_ih.abs() >= threshold)
            if h2h:
                layer.set_h2h_mask(layer._weight_hh.abs() >= threshold)

    def _layers(self) -> list[BaseRecurrentLayer]:
        return [layer for layer in self._recurrent_layers if isinstance(layer, BaseRecurrentLayer)]

    def forward(self, input: Tensor) -> Tensor:
        """Maps sequences to (batch, hidden_layers[-1]); all states begin as 0."""
        batch = input.shape[0 if self._batch_first else 1]
        for layer, hidden in zip(self._recurrent_layers, self._hidden_layers, strict=True):
            like = next(layer.parameters(), input)
            input = cast("BaseRecurrentLayer", layer).unfold(input, like.new_zeros(batch, hidden))
        return input.select(1 if self._batch_first else 0, -1)
