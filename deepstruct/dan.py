"""MaskedDeepDAN: networks with the units and connections of any directed acyclic graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, reduce
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, cast

import networkx as nx
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from deepstruct import dan_kernel
from deepstruct.dan_kernel import Layout
from deepstruct.graph import CachedLayeredGraph
from deepstruct.masked import MaskableModule, MaskedLinearLayer, checked_sizes, kept_entries
from deepstruct.packing import PackedLayers, PackedTensors, has_no_hooks
from deepstruct.units import UnitGraph, UnitLayer, masked_block
from deepstruct.views import fill
from deepstruct.wiring import Connections, Wiring, wiring_of

if TYPE_CHECKING:
    from scipy.sparse import csr_array  # type: ignore[import-untyped]  # scipy has no types

__all__ = ["MaskedDeepDAN", "Wiring"]


class MaskedDeepDAN(MaskableModule):
    """A network in the shape of a directed acyclic graph: layers of units with masked connections, also past layers.

    The layer of a unit is that of its vertex in a `deepstruct.graph.LayeredGraph`. With L the masked linear layer of
    a pair of connected layers, N the optional layer norm and R = ReLU::

        h0 = R(L0(x));  hl = R(N(L(hl-1))) + sum over skips s of R(L(hs));  y = Lout(hlast)

    With ``sum_before_activation`` a unit is a neuron, all of whose incoming connections are summed before its
    activation, and the graph is the network::

        hl = R(N(L(hl-1) + sum over skips s of L(hs)))

    `layer_first` and `layer_out` are full. `layers_main_hidden` connects each layer with the next one,
    `layers_skip_hidden` the others, by target, then source. Each is a `MaskedLinearLayer` whose mask, weight and hooks
    may be changed one by one.

    Attributes:
        graph_data: what the structure that the network was made from says about its graph beyond vertices and edges
            (`deepstruct.graph_data`), so that it is written again; None if nothing.
    """

    graph_data: Mapping[str, Any] | None = None

    def __init__(
        self,
        size_input: int | Sequence[int],
        size_output: int,
        structure: nx.DiGraph,  # type: ignore[type-arg]  # networkx is not generic at run time
        use_layer_norm: bool = False,
        sum_before_activation: bool = False,
        packed: bool = True,
    ) -> None:
        """A network whose masks are the edges of a graph.

        Args:
            size_input: number of input features; several extents are multiplied, as inputs are flattened.
            size_output: number of output features.
            structure: a directed acyclic graph with at least one vertex. It is not kept, only its vertices are.
            use_layer_norm: normalise before the activation of every layer but the first; only what comes from the
                layer before, unless ``sum_before_activation``.
            sum_before_activation: sum the connections of a unit before the activation instead of after it. Skip
                layers have no bias then.
            packed: keep the tensors of all hidden layers in few parameters, which is many times faster. Without,
                each layer has parameters of its own, which can be frozen, replaced or parametrised one by one. The
                ``state_dict`` is the same.

        Raises:
            TypeError: the structure is no networkx graph, or a size no integer.
            ValueError: the graph is undirected, has parallel edges, a cycle or no vertex, or a size is not positive.
        """
        super().__init__()
        features, size_output = checked_sizes(size_input, size_output)
        wiring, connections = wiring_of(structure)
        self._build(
            features, size_output, wiring, connections, bool(use_layer_norm), bool(sum_before_activation), packed=packed
        )

    @classmethod
    def from_wiring(
        cls,
        size_input: int,
        size_output: int,
        wiring: Wiring,
        *,
        use_layer_norm: bool = False,
        sum_before_activation: bool = False,
    ) -> MaskedDeepDAN:
        """A network with the layers of a wiring and empty masks between its hidden layers."""
        features, size_output = checked_sizes(size_input, size_output)
        module = cls.__new__(cls)
        MaskableModule.__init__(module)
        none = np.empty(0, np.int64)
        module._build(
            features, size_output, wiring, Connections(none, none), use_layer_norm, sum_before_activation, packed=True
        )
        return module

    def _build(
        self,
        features: int,
        size_output: int,
        wiring: Wiring,
        connections: Connections,
        use_layer_norm: bool,
        sum_before_activation: bool,
        *,
        packed: bool,
    ) -> None:
        sizes = wiring.sizes
        pairs = wiring.pairs
        main = len(sizes) - 1
        shapes = [(sizes[target], sizes[source]) for source, target in pairs]
        biased = [position < main or not sum_before_activation for position in range(len(pairs))]
        self._connect(wiring, sum_before_activation=sum_before_activation)
        self.layer_first = MaskedLinearLayer(features, sizes[0])
        layers: list[nn.ModuleList]
        if packed:
            existing = (connections.layer, connections.index)
            self._packed = PackedTensors(shapes, biased, self._leaving, existing)
            layers = [PackedLayers(self._packed, part) for part in (range(main), range(main, len(pairs)))]
        else:
            order = np.argsort(connections.layer, kind="stable")
            ends = np.searchsorted(connections.layer[order], np.arange(1, len(pairs)))
            entries = np.split(connections.index[order], ends) if pairs else []
            made = [_layer(*parts) for parts in zip(entries, shapes, biased, strict=True)]
            layers = [nn.ModuleList(made[:main]), nn.ModuleList(made[main:])]
        self.layers_main_hidden = layers[0]
        self.layer_normalizations = nn.ModuleList(nn.LayerNorm(size) for size in sizes if use_layer_norm)
        self.layers_skip_hidden = layers[1]
        self.layer_out = MaskedLinearLayer(sizes[-1], size_output)
        self.activation: nn.Module = nn.ReLU()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Also takes what deepstruct 0.10 pickled."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # torch has no type for it
        if "wiring" in state:
            return
        graph, skips = self.__dict__.pop("_structure"), self.__dict__.pop("_skip_targets")
        for name in ("_use_layer_norm", "_layers_normalization"):
            del self.__dict__[name]
        vertices = tuple(tuple(graph.get_vertices(layer)) for layer in graph.layers)
        pairs = tuple((skip["source"], target) for target, entries in skips.items() for skip in entries)
        self._connect(Wiring(vertices, pairs), sum_before_activation=False)

    def _connect(self, wiring: Wiring, *, sum_before_activation: bool) -> None:
        """Remembers which layers are connected."""
        pairs = wiring.pairs
        self.wiring = wiring
        self.sum_before_activation = sum_before_activation
        self._leaving: list[list[int]] = [[] for _ in range(len(wiring.sizes) - 1)]
        for position, (source, _) in enumerate(pairs):
            self._leaving[source].append(position)
        targets = [[pairs[position][1] for position in positions] for positions in self._leaving]
        self._layout = Layout(wiring.sizes, targets, sum_before_activation)

    @property
    def use_layer_norm(self) -> bool:
        """Whether hidden layers behind the first are normalised."""
        return len(self.layer_normalizations) > 0

    def generate_structure(self, include_input: bool = False, include_output: bool = False) -> CachedLayeredGraph:
        """The units and the connections that exist now as a graph, unit by unit.

        Vertices are numbered from 0, layer by layer. Those of the network's own graph carry its key as ``vertex``.

        Args:
            include_input: begin with the input features instead of the first layer.
            include_output: end with the output features instead of the last layer.
        """
        first = self.layer_first.in_features if include_input else 0
        graph = fill(CachedLayeredGraph(), self._units(include_input, include_output))
        for unit, vertex in enumerate(chain.from_iterable(self.wiring.vertices), first):
            graph.nodes[unit]["vertex"] = vertex
        return graph

    def adjacency(self, include_input: bool = False, include_output: bool = False) -> csr_array:
        """The same as a bool matrix, (units, units), row = source, column = target; needs scipy."""
        return self._units(include_input, include_output).adjacency()

    def _units(self, include_input: bool, include_output: bool) -> UnitGraph:
        sizes = [self.layer_first.in_features] * include_input + self.wiring.sizes
        sizes += [self.layer_out.out_features] * include_output
        pairs = [(source + include_input, target + include_input) for source, target in self.wiring.pairs]
        masked = list(zip(pairs, self._masked_layers(), strict=True))
        if include_input:
            masked.append(((0, 1), self.layer_first))
        if include_output:
            masked.append(((len(sizes) - 2, len(sizes) - 1), self.layer_out))
        starts = [0, *accumulate(sizes)]
        layers = [UnitLayer(f"{place}", "Gemm", starts[place], (size,)) for place, size in enumerate(sizes)]
        blocks = [
            masked_block(target, source, starts[source], partial(kept_entries, layer))
            for (source, target), layer in sorted(masked, key=lambda pair: pair[0][::-1])
        ]
        return UnitGraph(
            tuple(layers), tuple(blocks), (0,), (len(layers) - 1,), np.arange(layers[-1].start, layers[-1].stop)
        )

    def _masked_layers(self) -> Iterator[MaskedLinearLayer]:
        for layers in (self.layers_main_hidden, self.layers_skip_hidden):
            yield from cast("Iterator[MaskedLinearLayer]", layers._modules.values())

    def forward(self, input: Tensor) -> Tensor:
        """Maps (batch, ...) to (batch, size_output); everything behind the batch is flattened."""
        first: Tensor = self.activation(self.layer_first(input.flatten(start_dim=1)))
        if not self._is_untouched():
            last = self._hidden(first, self._one_by_one())
        else:
            packed = self._packed
            weights = packed.masked()
            if self.use_layer_norm or _is_transformed(first):
                last = self._in_plain_torch(first, weights, packed.bias)
            else:
                last = dan_kernel.last_layer(self._layout, first, weights, packed.bias, self._in_plain_torch)
        result: Tensor = self.layer_out(last)
        return result

    def _hidden(self, hidden: Tensor, leave: Callable[[Tensor, int], Sequence[Tensor]]) -> Tensor:
        """The units of the last layer from those of the first."""
        arriving: list[list[Tensor]] = [[] for _ in self.wiring.vertices]
        for source, targets in enumerate(self._layout.targets):
            for target, piece in zip(targets, leave(hidden, source), strict=True):
                arriving[target].append(piece)
            hidden = self._join(arriving[source + 1], source + 1)
            arriving[source + 1] = []
        return hidden

    def _is_untouched(self) -> bool:
        """Whether the hidden layers are packed and nothing but masks and numbers was changed in them."""
        if type(self.activation) is not nn.ReLU or not has_no_hooks(self.activation):
            return False
        both = (self.layers_main_hidden, self.layers_skip_hidden)
        if _has_any_global_hook():  # type: ignore[no-untyped-call]  # torch has no type for it
            return False
        return all(isinstance(layers, PackedLayers) and layers.are_untouched for layers in both)

    def _one_by_one(self) -> Callable[[Tensor, int], Sequence[Tensor]]:
        """What goes from a layer to each of its targets, the next layer first: (batch, units of the target) each."""
        layers = [*self.layers_main_hidden, *self.layers_skip_hidden]

        def leave(hidden: Tensor, source: int) -> Sequence[Tensor]:
            main, *skips = [layers[position](hidden) for position in self._leaving[source]]
            if self.sum_before_activation:
                return main, *skips
            return self._activate(main, source + 1), *map(self.activation, skips)

        return leave

    def _in_plain_torch(self, first: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
        """The units of the last layer in one matrix product for all targets of a layer."""
        layout = self._layout
        matrices, parts = layout.matrices(weights), self._packed.parts_of_bias(biases)
        rows = [[layout.sizes[target] for target in targets] for targets in layout.targets]

        def leave(hidden: Tensor, source: int) -> Sequence[Tensor]:
            sizes, bias = rows[source], parts[source]
            if self.sum_before_activation:
                bias = F.pad(bias, (0, sum(sizes[1:])))  # skip layers have none
            product = F.linear(hidden, matrices[source], bias)
            if self.sum_before_activation:
                return product.split_with_sizes(sizes, dim=1)
            if self.use_layer_norm:
                main, skips = product.split_with_sizes([sizes[0], sum(sizes[1:])], dim=1)
                product = torch.cat([self.layer_normalizations[source + 1](main), skips], dim=1)
            return torch.relu(product).split_with_sizes(sizes, dim=1)

        return self._hidden(first, leave)

    def _join(self, pieces: list[Tensor], target: int) -> Tensor:
        """The units of a layer, (batch, units), from all that arrives there."""
        total = reduce(torch.add, pieces) if len(pieces) < 5 else torch.stack(pieces).sum(0)
        return self._activate(total, target) if self.sum_before_activation else total

    def _activate(self, sums: Tensor, target: int) -> Tensor:
        activated: Tensor = self.activation(self.layer_normalizations[target](sums) if self.use_layer_norm else sums)
        return activated


def _is_transformed(tensor: Tensor) -> bool:
    """Whether something other than plain autograd follows the computation."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]  # torch has no type for it
        or torch.is_autocast_enabled(tensor.device.type)
        or torch.autograd.forward_ad._current_level >= 0
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


def _layer(entries: NDArray[np.int64], shape: tuple[int, int], bias: bool) -> MaskedLinearLayer:
    layer = MaskedLinearLayer(shape[1], shape[0], bias)
    mask = torch.zeros(shape, dtype=torch.bool, device="cpu")
    mask.view(-1)[torch.from_numpy(entries)] = True
    layer.mask = mask
    return layer
