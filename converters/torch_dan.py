"""MaskedDeepDAN <-> Structure."""

from __future__ import annotations

import math
from collections.abc import Hashable
from itertools import accumulate
from typing import Any

from torch import nn

from deepstruct.converters.torch_nodes import NodeList
from deepstruct.converters.torch_parameters import Collector, refuse_changed_forward
from deepstruct.dan import MaskedDeepDAN, Wiring
from deepstruct.errors import UnsupportedError
from deepstruct.losses import Loss
from deepstruct.structure import Parameter, Structure, ValueInfo


def to_structure(module: MaskedDeepDAN, collector: Collector) -> Structure:
    """The structure of a network: a Gemm for each masked layer, and a Sum where several connections arrive.

    Raises:
        UnsupportedError: hooks or another activation may change what the network computes.
    """
    for path, part in module.named_modules():
        refuse_changed_forward(part, path)
    if type(module.activation) is not nn.ReLU:
        raise UnsupportedError(f"'activation' is a {type(module.activation).__qualname__}, not a ReLU")
    graph = _Graph(module, collector)
    hidden = [graph.activated(graph.linear(module.layer_first, "layer_first", "x"), "h0")]
    arriving: dict[int, list[tuple[int, int]]] = {}
    for position, (source, target) in enumerate(module.wiring.skips):
        arriving.setdefault(target, []).append((source, position))
    for target in range(1, len(module.wiring.vertices)):
        hidden.append(graph.layer(target, hidden, arriving.get(target, [])))
    graph.linear(module.layer_out, "layer_out", hidden[-1], "y")
    if module.use_layer_norm:
        graph.unused(module.layer_normalizations[0], "layer_normalizations.0")
    attributes: dict[str, Any] = {"family": "dan", "skips": module.wiring.skips}
    if module.sum_before_activation:
        attributes["sum_before_activation"] = True
    vertices = vertex_keys(module.wiring.vertices, collector.losses)
    if vertices is not None:
        attributes["vertices"] = vertices
    dtype = graph.parameters["layer_first.weight"].dtype
    return Structure(
        nodes=tuple(graph.list.nodes),
        inputs=(ValueInfo("x", dtype, ("batch", module.layer_first.in_features)),),
        outputs=(ValueInfo("y", dtype, ("batch", module.layer_out.out_features)),),
        parameters=tuple(graph.parameters.values()),
        attributes=attributes,
    )


class _Graph:
    def __init__(self, module: MaskedDeepDAN, collector: Collector) -> None:
        self.list = NodeList()
        self.parameters: dict[str, Parameter] = {}
        self._module = module
        self._collector = collector

    def _names(self, module: nn.Module, scope: str) -> list[str]:
        """Names of a module's weight and, if it has one, bias."""
        found = [self._collector.parameter(module, name, scope) for name in ("weight", "bias")]
        self.parameters |= {parameter.name: parameter for parameter in found if parameter is not None}
        return [parameter.name for parameter in found if parameter is not None]

    def unused(self, module: nn.Module, scope: str) -> None:
        """Takes in the parameters of a module that computes nothing."""
        self._names(module, scope)

    def linear(self, module: nn.Module, scope: str, source: str, output: str = "") -> str:
        names = [source, *self._names(module, scope)]
        return self.list.add("Gemm", names, output or f"{scope}.sum", scope, {"transB": 1})

    def activated(self, value: str, output: str) -> str:
        return self.list.add("Relu", [value], output, "activation")

    def _normalised(self, value: str, target: int) -> str:
        if not self._module.use_layer_norm:
            return value
        scope = f"layer_normalizations.{target}"
        norm = self._module.layer_normalizations[target]
        assert isinstance(norm, nn.LayerNorm)
        names = [value, *self._names(norm, scope)]
        return self.list.add("LayerNormalization", names, f"{scope}.out", scope, {"axis": -1, "epsilon": norm.eps})

    def layer(self, target: int, hidden: list[str], arriving: list[tuple[int, int]]) -> str:
        """The units of a layer, from what the layer before and the skips into it bring."""
        module = self._module
        scope = f"layers_main_hidden.{target - 1}"
        main = self.linear(module.layers_main_hidden[target - 1], scope, hidden[target - 1])
        skips = [
            self.linear(module.layers_skip_hidden[position], f"layers_skip_hidden.{position}", hidden[source])
            for source, position in arriving
        ]
        if module.sum_before_activation:
            total = self.list.add("Sum", [main, *skips], f"s{target}") if skips else main
            return self.activated(self._normalised(total, target), f"h{target}")
        main = self._normalised(main, target)
        if not skips:
            return self.activated(main, f"h{target}")
        pieces = [self.activated(main, f"{scope}.out")]
        pieces += [self.activated(skip, skip.removesuffix(".sum") + ".out") for skip in skips]
        return self.list.add("Sum", pieces, f"h{target}")


def vertex_keys(layers: tuple[tuple[Hashable, ...], ...], losses: list[Loss]) -> list[list[Any]] | None:
    """Vertex keys as JSON values, or None, with a loss, if one has no JSON form that comes back the same."""
    for layer in layers:
        for key in layer:
            if not _is_json(key):
                why = f"the key {key!r:.60} has no JSON form; vertices are numbered instead"
                losses.append(Loss("vertex keys", "graph", why))
                return None
    return [list(layer) for layer in layers]


def _is_json(key: object) -> bool:
    if isinstance(key, tuple):
        return type(key) is tuple and all(_is_json(item) for item in key)
    if type(key) is float:
        return math.isfinite(key)
    return key is None or type(key) in (bool, str) or (type(key) is int and abs(key) < 2**53)


def to_module(structure: Structure) -> MaskedDeepDAN | None:
    """The network whose family attributes a structure has, freshly initialised, or None if they make no sense."""
    shapes = {parameter.name: parameter.shape for parameter in structure.parameters}
    first, last = shapes.get("layer_first.weight", ()), shapes.get("layer_out.weight", ())
    if len(first) != 2 or len(last) != 2 or 0 in first + last:
        return None
    sizes = [first[0]]
    while len(shape := shapes.get(f"layers_main_hidden.{len(sizes) - 1}.weight", ())) == 2:
        sizes.append(shape[0])
    skips: Any = structure.attributes.get("skips")
    vertices = structure.attributes.get("vertices") or _numbered(sizes)
    if not _are_pairs(skips, len(sizes)) or not _are_keys(vertices, sizes):
        return None
    return MaskedDeepDAN.from_wiring(
        first[1],
        last[0],
        Wiring(vertices, skips),
        use_layer_norm="layer_normalizations.0.weight" in shapes,
        sum_before_activation=structure.attributes.get("sum_before_activation") is True,
    )


def _numbered(sizes: list[int]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(range(end - size, end)) for size, end in zip(sizes, accumulate(sizes), strict=True))


def _are_pairs(skips: Any, layers: int) -> bool:
    return isinstance(skips, tuple) and all(
        isinstance(pair, tuple)
        and len(pair) == 2
        and all(type(layer) is int for layer in pair)
        and 0 <= pair[0] < pair[1] - 1 < layers - 1
        for pair in skips
    )


def _are_keys(vertices: Any, sizes: list[int]) -> bool:
    return (
        isinstance(vertices, tuple)
        and all(isinstance(layer, tuple) for layer in vertices)
        and [len(layer) for layer in vertices] == sizes
        and len({key for layer in vertices for key in layer}) == sum(sizes)
    )
