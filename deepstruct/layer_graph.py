"""LayerGraph: the layers of a network and how they are connected, without the units in them (order 2).

Layers are those of `expansion`, found without extents: what acts on each unit by itself, moves units or pools them
belongs to the layer before; every other operator makes a layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from deepstruct.expansion_elementwise import ELEMENTWISE, JOINED, SUMS
from deepstruct.expansion_movement import MOVED
from deepstruct.expansion_windows import POOLS
from deepstruct.structure import Node, Structure

_PASSING = ELEMENTWISE | POOLS | (MOVED.keys() - {"Gather", "Where"})


@dataclass(slots=True)
class Layer:
    """Units that one operator makes, or several whose results are summed.

    Attributes:
        name: unique; the scope of the operator, or its name.
        op_type: operator, ``"Input"`` for graph inputs.
        scope: path of the module that the operator came from.
        parameters: names of the parameters that it and what belongs to it use, in order of use.
        sources: layer that connections come from -> parameters that make them, if no other layer shares them.
    """

    name: str
    op_type: str
    scope: str
    parameters: list[str] = field(default_factory=list)
    sources: dict[int, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LayerGraph:
    """The layers of a network.

    Attributes:
        layers: in topological order.
        inputs: positions of the graph inputs.
        outputs: positions of the layers that graph outputs are made of.
    """

    layers: tuple[Layer, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Value:
    """The layers that a value is made of, and the one that it is alone and that nothing else uses, if any."""

    layers: frozenset[int]
    own: int | None = None


def layer_graph(structure: Structure) -> LayerGraph:
    """The layers of a network; works for every operator and needs no extents."""
    return _Builder(structure).result()


class _Builder:
    def __init__(self, structure: Structure) -> None:
        self._structure = structure
        self._layers: list[Layer] = []
        self._gone: dict[int, int] = {}
        self._values: dict[str, _Value] = {}
        self._derived: dict[str, tuple[str, ...]] = {p.name: (p.name,) for p in structure.parameters}
        self._uses = Counter(name for node in structure.nodes for name in node.sources)
        self._uses.update(value.name for value in structure.outputs)
        self._inputs = []
        for value in structure.inputs:
            if value.name not in self._derived:
                self._inputs.append(len(self._layers))
                self._values[value.name] = self._new(Layer(value.name, "Input", ""))
        for node in structure.nodes:
            self._add(node)

    def _new(self, layer: Layer) -> _Value:
        self._layers.append(layer)
        place = len(self._layers) - 1
        return _Value(frozenset({place}), place)

    def _add(self, node: Node) -> None:
        measured = node.domain == "" and node.op_type in ("Shape", "Size")
        given = [] if measured else [self._values[name] for name in node.sources if name in self._values]
        names = [parameter for name in node.sources for parameter in self._derived.get(name, ())]
        parameters = tuple(dict.fromkeys(names))
        if given:
            made = self._made(node, given, parameters)
            self._values |= dict.fromkeys(filter(None, node.outputs), made)
        elif parameters:
            self._derived |= dict.fromkeys(filter(None, node.outputs), parameters)

    def _made(self, node: Node, given: list[_Value], parameters: Iterable[str]) -> _Value:
        layers = frozenset(self._present(layer) for value in given for layer in value.layers)
        alone = all(self._uses[name] == 1 for name in node.sources if name in self._values)
        standard = node.domain == ""
        passes = standard and (
            node.op_type in _PASSING
            or (node.op_type == "Gather" and node.inputs[1] not in self._values)
            or (node.op_type in JOINED and len({value.layers for value in given}) == 1)
        )
        if passes:
            own = given[0].own if alone and len(given) == 1 else None
            if len(layers) == 1:
                known = self._layers[next(iter(layers))].parameters
                known += [name for name in parameters if name not in known]
            return _Value(layers, own)
        if standard and node.op_type in SUMS and alone:
            merged = self._merged([value.own for value in given])
            if merged is not None:
                return merged
        layer = Layer(node.scope or node.name, node.op_type, node.scope, list(parameters))
        layer.sources = {source: list(parameters) if len(layers) == 1 else [] for source in sorted(layers)}
        return self._new(layer)

    def _merged(self, layers: list[int | None]) -> _Value | None:
        """The sum of layers that are made for it alone, as one layer; None if they are not."""
        found = [layer for layer in layers if layer is not None]
        parts = [self._layers[layer] for layer in found]
        sources = [source for part in parts for source in part.sources]
        if len(found) < len(layers) or len(set(found)) < len(found) or len(set(sources)) < len(sources):
            return None
        if any(not part.sources for part in parts):
            return None
        last = max(found)
        self._layers[last] = Layer(
            parts[0].name,
            parts[0].op_type,
            parts[0].scope,
            list(dict.fromkeys(name for part in parts for name in part.parameters)),
            {source: names for part in parts for source, names in part.sources.items()},
        )
        self._gone |= {layer: last for layer in found if layer != last}
        return _Value(frozenset({last}), last)

    def _present(self, layer: int) -> int:
        while layer in self._gone:
            layer = self._gone[layer]
        return layer

    def result(self) -> LayerGraph:
        """The layers that are left, by new positions."""
        kept = [place for place in range(len(self._layers)) if place not in self._gone]
        new = {place: position for position, place in enumerate(kept)}
        names: Counter[str] = Counter()
        for place in kept:
            layer = self._layers[place]
            layer.sources = {new[self._present(source)]: found for source, found in layer.sources.items()}
            names[layer.name] += 1
            if names[layer.name] > 1:
                layer.name = f"{layer.name}#{names[layer.name]}"
        ends = [self._values[value.name].layers for value in self._structure.outputs if value.name in self._values]
        outputs = {new[self._present(layer)] for layers in ends for layer in layers}
        return LayerGraph(
            tuple(self._layers[place] for place in kept),
            tuple(new[place] for place in self._inputs),
            tuple(sorted(outputs)),
        )
