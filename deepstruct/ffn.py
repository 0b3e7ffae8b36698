"""MaskedDeepFFN: feed-forward networks of masked layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from deepstruct.graph import CachedLayeredGraph
from deepstruct.masked import MaskableModule, MaskedLinearLayer, maskable_layers


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
        """
        super().__init__()
        features = size_input if isinstance(size_input, int) else math.prod(int(size) for size in size_input)
        sizes = [int(size) for size in hidden_layers]
        if not sizes:
            raise ValueError("hidden_layers must name at least one layer size")
        if min(features, size_output, *sizes) < 1:
            raise ValueError(f"layer sizes must be positive, not {[features, *sizes, size_output]}")
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
        layers = list(maskable_layers(self))
        chosen = layers[0 if include_input else 1 : len(layers) if include_output else -1]
        graph = CachedLayeredGraph()
        graph.add_nodes_from(range(chosen[0].in_features if chosen else layers[0].out_features))
        offset = 0
        for layer in chosen:
            first = offset + layer.in_features
            graph.add_nodes_from(range(first, first + layer.out_features))
            source, target = layer.mask.T.nonzero(as_tuple=True)
            graph.add_edges_from(zip((source + offset).tolist(), (target + first).tolist(), strict=True))
            offset = first
        return graph

    def forward(self, input: Tensor) -> Tensor:
        """Maps (batch, ...) to (batch, size_output); everything behind the batch is flattened."""
        out: Tensor = self._activation(self._layer_first(input.flatten(start_dim=1)))
        for layer in self._layers_hidden:
            out = layer(out)
        result: Tensor = self._layer_out(out)
        return result
