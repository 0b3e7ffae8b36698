"""MaskedDeepFFN: feed-forward networks of masked layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from deepstruct.graph import CachedLayeredGraph
from deepstruct.masked import MaskableModule, MaskedLinearLayer, checked_sizes, kept_entries, maskable_layers
from deepstruct.units import UnitGraph, UnitLayer, masked_block
from deepstruct.views import fill

if TYPE_CHECKING:
    from scipy.sparse import csr_array  # type: ignore[import-untyped]  # scipy has no types


class MaskedDeepFFN(MaskableModule):
    """A feed-forward network of masked linear layers with ReLU between them.

    ``h1 = R(L(x)); hk = R(N(L(hk-1))) for k > 1; y = L(hK)`` with R = ReLU, L = `MaskedLinearLayer` and N the
    optional layer norm.
    """

    def __init__(
        self,
        size_input: int | Sequence[int],
        size_output: int,
        hidden_layers: Sequence[int],
        use_layer_norm: bool = False,
    ) -> None:
        """A network with full masks.

        Args:
            size_input: number of input features; several extents are multiplied, as inputs are flattened.
            size_output: number of output features.
            hidden_layers: sizes of the hidden layers, at least one.
            use_layer_norm: normalise before the activation of every hidden layer but the first.

        Raises:
            TypeError: a size is no integer.
            ValueError: a size is not positive, or there is no hidden layer.
        """
        super().__init__()
        features, size_output, *sizes = checked_sizes(size_input, size_output, *hidden_layers)
        if not sizes:
            raise ValueError("hidden_layers must name at least one layer size")
        self._activation = nn.ReLU()
        self._layer_first = MaskedLinearLayer(features, sizes[0])
        self._layers_hidden = nn.ModuleList()
        for source, target in pairwise(sizes):
            self._layers_hidden.append(MaskedLinearLayer(source, target))
            if use_layer_norm:
                self._layers_hidden.append(nn.LayerNorm(target))
            self._layers_hidden.append(self._activation)
        self._layer_out = MaskedLinearLayer(sizes[-1], size_output)

    def generate_structure(self, include_input: bool = False, include_output: bool = False) -> CachedLayeredGraph:
        """The units and connections of the hidden layers as a graph, unit by unit.

        Vertices are numbered from 0, layer by layer; every unit is one, connected or not.

        Args:
            include_input: begin with the input features instead of the first hidden layer.
            include_output: end with the output features instead of the last hidden layer.
        """
        return fill(CachedLayeredGraph(), self._units(include_input, include_output))

    def adjacency(self, include_input: bool = False, include_output: bool = False) -> csr_array:
        """The same as a bool matrix, (units, units), row = source, column = target; needs scipy."""
        return self._units(include_input, include_output).adjacency()

    def _units(self, include_input: bool, include_output: bool) -> UnitGraph:
        masked = list(maskable_layers(self))
        sizes = [masked[0].in_features, *(layer.out_features for layer in masked)]
        chosen = range(0 if include_input else 1, len(sizes) if include_output else len(sizes) - 1)
        starts = list(accumulate((sizes[number] for number in chosen), initial=0))
        layers = [
            UnitLayer(f"{number}", "Gemm", starts[place], (sizes[number],)) for place, number in enumerate(chosen)
        ]
        blocks = [
            masked_block(place, place - 1, starts[place - 1], partial(kept_entries, masked[number - 1]))
            for place, number in enumerate(chosen)
            if place
        ]
        return UnitGraph(
            tuple(layers), tuple(blocks), (0,), (len(layers) - 1,), np.arange(layers[-1].start, layers[-1].stop)
        )

    def forward(self, input: Tensor) -> Tensor:
        """Maps (batch, ...) to (batch, size_output); everything behind the batch is flattened."""
        out: Tensor = self._activation(self._layer_first(input.flatten(start_dim=1)))
        for layer in self._layers_hidden:
            out = layer(out)
        result: Tensor = self._layer_out(out)
        return result
