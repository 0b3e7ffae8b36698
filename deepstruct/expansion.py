"""Expansion: Structure -> UnitGraph. Values are followed from operator to operator as arrays of the units in them.

What each operator does to units is in the rules (`expansion_linear`, `expansion_elementwise`, `expansion_movement`,
`expansion_windows`, `expansion_recurrent`). Units are counted for one sample: an open dimension has extent 1.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from deepstruct import (
    expansion_elementwise,
    expansion_linear,
    expansion_movement,
    expansion_parameters,
    expansion_recurrent,
    expansion_windows,
)
from deepstruct.errors import UnsupportedError, UsageError
from deepstruct.expansion_elementwise import ELEMENTWISE
from deepstruct.expansion_values import (
    MAX_CONNECTIONS,
    MAX_UNITS,
    Entries,
    Known,
    Rule,
    Units,
    UnknownUnitsError,
    Value,
    extents_of,
)
from deepstruct.expansion_windows import CHANNELS_FIRST
from deepstruct.model import Model
from deepstruct.options import UnitOrder, Unknown
from deepstruct.structure import Node, Parameter, Structure, ValueInfo
from deepstruct.units import Block, Numbers, UnitGraph, UnitLayer
from deepstruct.wires import ABSENT, NOTHING, Links, MatrixWires, ShareWires, Wires


@dataclass(slots=True, eq=False)
class _Layer:
    name: str
    op_type: str
    first: int
    shape: tuple[int, ...]
    sources: set[int] = field(default_factory=set)
    wires: list[tuple[str, Wires, bool]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def unit_graph(
    model: Structure | Model,
    order: UnitOrder = 0,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    unknown: Unknown = "error",
) -> UnitGraph:
    """The units of a network and their connections.

    Args:
        model: a structure, or a model, whose numbers are read only where indices or shapes are computed from them.
        order: 0 for single units, one connection for each entry that exists; 1 for channels, which at order 0 are the
            units of one channel at all positions, one connection for each kernel that has an entry.
        shapes: name of a graph input -> its extents, where the structure leaves them open. Every extent that stays
            open is 1.
        unknown: what to do with an operator whose units are not known: raise, or connect each of its outputs with
            all of its inputs.

    Raises:
        UnsupportedError: an operator is unknown, or extents are needed that are open; the node is named.
        UsageError: an option makes no sense.
        MissingDependencyError: values are moved or computed, for which the onnx package is needed.
    """
    if order not in (0, 1) or isinstance(order, bool):
        raise UsageError(f"units have order 0 or 1, not {order!r:.40}")
    if unknown not in ("error", "full"):
        raise UsageError(f"unknown is 'error' or 'full', not {unknown!r:.40}")
    return Expansion(model, order, shapes or {}, unknown).result()


class Expansion:
    """The state of one expansion; rules make layers and wires through it.

    Attributes:
        structure: what is expanded.
        order: 0 or 1.
    """

    def __init__(self, model: Structure | Model, order: int, shapes: Mapping[str, Sequence[int]], unknown: str) -> None:
        self.structure = model.structure if isinstance(model, Model) else model
        self.order = order
        self._weights = model.weights if isinstance(model, Model) else None
        self._unknown = unknown
        self._layers: list[_Layer] = []
        self._firsts: list[int] = []
        self._merged: dict[int, int] = {}
        self._free = 1
        self._connections = 0
        self._functions = {function.key for function in self.structure.functions}
        self._uses = Counter(name for node in self.structure.nodes for name in node.inputs)
        self._uses.update(value.name for value in self.structure.outputs)
        self._values: dict[str, Value] = {"": Known(np.empty(0))}
        self._offsets: dict[str, int] = {}
        total = 0
        for parameter in self.structure.parameters:
            self._values[parameter.name] = self._parameter(parameter)
            self._offsets[parameter.name] = total
            total += parameter.size
        for name, constant in self.structure.constants.items():
            self._values[name] = Known(constant.to_array())
        self._inputs = self._begin(shapes)
        for node in self.structure.nodes:
            self._run(node)

    def _parameter(self, parameter: Parameter) -> Value:
        """A parameter; indices and conditions are known numbers where the model has them."""
        if self._weights is not None and parameter.mask is None and parameter.dtype in ("int64", "int32", "bool"):
            return Known(self._weights[parameter.name])
        return Entries(parameter.shape, parameter)

    def _begin(self, shapes: Mapping[str, Sequence[int]]) -> list[int]:
        names = [value.name for value in self.structure.inputs]
        for name in shapes:
            if name not in names:
                raise UsageError(f"no input is called {name!r}; inputs: {', '.join(names)}")
        layers = []
        for value in self.structure.inputs:
            if value.name in self._values:
                continue
            if value.containers:
                raise UnsupportedError(f"the input {value.name!r} is a {value.containers[0]}, which has no units")
            layers.append(len(self._layers))
            extents = extents_of(value, shapes.get(value.name))
            self._values[value.name] = self.new_layer(value.name, "Input", extents, self._channel_axis(value, extents))
        return layers

    def _channel_axis(self, value: ValueInfo, extents: tuple[int, ...]) -> int:
        """The axis of an input along which its channels lie: that of the first operator that tells."""
        followed = {value.name}
        for node in self.structure.nodes if self.order and len(extents) > 2 else ():
            if followed.isdisjoint(node.inputs):
                continue
            if node.op_type in CHANNELS_FIRST:
                return 1
            if node.op_type not in ELEMENTWISE:
                break
            followed.update(node.outputs)
        return len(extents) - 1

    def _run(self, node: Node) -> None:
        if node.graphs or node.called in self._functions:
            kind = "has graphs of its own" if node.graphs else "calls a function"
            raise UnsupportedError(f"node {node.name!r}: {node.op_type} {kind}, whose units cannot be told apart")
        inputs = [self._values[name] if name else None for name in node.inputs]
        try:
            outputs = self._outputs(node, inputs)
        except UnknownUnitsError as error:
            if self._unknown == "error" or not any(isinstance(value, Units) for value in inputs):
                raise UnsupportedError(
                    f"node {node.name!r}: {error}; with unknown='full' (--unknown full) its outputs count as "
                    "connected with all its inputs"
                ) from error
            outputs = self._fully_connected(node, inputs)
        for name, value in zip(node.outputs, outputs, strict=False):
            if name:
                self._values[name] = value

    def _outputs(self, node: Node, inputs: list[Value | None]) -> Sequence[Value]:
        kinds = {type(value) for value in inputs if value is not None}
        if kinds <= {Known}:
            return expansion_movement.computed(self, node, inputs)
        if Units not in kinds:
            return expansion_parameters.outputs(self, node, inputs)
        rule = RULES.get(node.op_type) if node.domain == "" else None
        if rule is None:
            name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            raise UnknownUnitsError(f"it is not known how {name} maps units to units")
        return rule(self, node, inputs)

    def _fully_connected(self, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
        sources = np.concatenate([value.numbers.reshape(-1) for value in inputs if isinstance(value, Units)])
        row = np.unique(sources)[None]
        outputs: list[Value] = []
        for name, shape in zip(node.outputs, expansion_movement.output_shapes(self, node, inputs), strict=True):
            made = self.new_layer(name or node.name, node.op_type, shape, len(shape) - 1)
            self.wire(made, Links(np.broadcast_to(row, (self.size_of(made), row.size))))
            outputs.append(made)
        return outputs

    def new_layer(self, name: str, op_type: str, shape: Sequence[int], channel_axis: int = -1) -> Units:
        """A value of new units: one for each element, or at order 1 one for each index along the channel axis."""
        extents = tuple(int(extent) for extent in shape)
        own = extents if self.order == 0 or not extents else (extents[channel_axis],)
        layer = _Layer(name, op_type, self._free, own)
        if math.prod(extents) > MAX_UNITS or self._free + layer.size > MAX_UNITS:
            raise UnsupportedError(f"{name!r} brings the network above {MAX_UNITS:,} units; order 1 counts channels")
        numbers = np.arange(layer.first, layer.first + layer.size)
        if own != extents:
            along = [1] * len(extents)
            along[channel_axis] = extents[channel_axis]
            numbers = np.broadcast_to(numbers.reshape(along), extents)
        self._free += layer.size
        self._layers.append(layer)
        self._firsts.append(layer.first)
        return Units(numbers.reshape(extents), len(self._layers) - 1)

    def linked(self, node: Node, shape: Sequence[int], sources: Numbers) -> Units:
        """A value of which each element depends on a few others: new units, or the others where that is one each.

        Args:
            node: that computes the value.
            shape: of the value.
            sources: int64 ``[elements, k]``, provisional numbers.
        """
        ordered = np.sort(sources, axis=1)
        highest = ordered[:, -1] if ordered.shape[1] else np.zeros(ordered.shape[0], np.int64)
        if bool(((ordered == NOTHING) | (ordered == highest[:, None])).all()):
            return Units(highest.reshape(shape))
        name = node.scope or node.name
        if self.order == 0:
            made = self.new_layer(name, node.op_type, shape)
            self.wire(made, Links(ordered))
            return made
        first, place = self._distinct_rows(ordered)
        made = self.new_layer(name, node.op_type, first.shape)
        self.wire(made, Links(ordered[first]))
        return Units(made.numbers[place.reshape(shape)])

    def _distinct_rows(self, rows: Numbers) -> tuple[Numbers, Numbers]:
        """Position of one of each kind of row, and the kind of each row."""
        if self._free ** rows.shape[1] < 2**63:
            keys = rows @ (self._free ** np.arange(rows.shape[1]))
            _, first, place = np.unique(keys, return_index=True, return_inverse=True)
        else:
            _, first, place = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        return first, place

    def channels(self, value: Units) -> Numbers | None:
        """int64 ``[channels]``: the units along axis 1, if at order 1 each is the same at all positions; else None."""
        if not self.order or not value.numbers.size:
            return None
        first = value.numbers.reshape(*value.shape[:2], -1)[0, :, 0]
        along = first.reshape(1, -1, *(1 for _ in value.shape[2:]))
        return first if bool((value.numbers == along).all()) else None

    def size_of(self, value: Units) -> int:
        """Number of units of the layer that a value is."""
        assert value.layer is not None
        return self._layers[value.layer].size

    def wire(self, value: Units, wires: Wires, parameter: str = "", *, recurrent: bool = False) -> None:
        """Adds connections into the layer that a value is."""
        assert value.layer is not None
        layer = self._layers[value.layer]
        self._connections += wires.most
        if self._connections > MAX_CONNECTIONS:
            raise UnsupportedError(
                f"{layer.name!r} brings the network above {MAX_CONNECTIONS:,} connections; order 1 counts kernels"
            )
        layer.wires.append((parameter, wires, recurrent))
        if not recurrent:
            layer.sources |= self._layers_of(wires.sources)

    def _layers_of(self, numbers: Numbers) -> set[int]:
        found = np.unique(numbers)
        layers = set()
        place = int(np.searchsorted(found, NOTHING, side="right"))
        while place < found.size:
            layer = bisect.bisect_right(self._firsts, int(found[place])) - 1
            layers.add(self._canonical(layer))
            place = int(np.searchsorted(found, self._firsts[layer] + self._layers[layer].size))
        return layers

    def _canonical(self, layer: int) -> int:
        while layer in self._merged:
            layer = self._merged[layer]
        return layer

    def only_use(self, name: str) -> bool:
        """Whether one operator alone, and no graph output, uses a value."""
        return self._uses[name] == 1

    def passed_on(self, node: Node, value: Units, numbers: Numbers | None = None, position: int = 0) -> Units:
        """The output of an operator that gives each unit of an input on as it is, perhaps in another shape."""
        kept = value.layer if self.only_use(node.inputs[position]) else None
        return Units(value.numbers if numbers is None else numbers, kept)

    def merged(self, values: Sequence[Units]) -> Units | None:
        """The sum of layers that are made for this sum alone, as one layer; None if they are not.

        Layers that share a source stay apart: two connections between the same units would become one.
        """
        layers = [value.layer for value in values if value.layer is not None]
        if len(layers) < len(values) or len(set(layers)) < len(layers) or len({v.shape for v in values}) > 1:
            return None
        parts = [self._layers[layer] for layer in layers]
        sources = [part.sources for part in parts]
        if any(not part.wires for part in parts) or len(set().union(*sources)) < sum(map(len, sources)):
            return None
        offsets = [value.numbers - part.first for value, part in zip(values, parts, strict=True)]
        if any(not np.array_equal(offset, offsets[0]) for offset in offsets[1:]):
            return None
        last = max(range(len(layers)), key=lambda position: layers[position])
        kept = parts[last]
        kept.name = parts[0].name
        kept.op_type = parts[0].op_type
        kept.wires = [wire for part in parts for wire in part.wires]
        kept.sources = set().union(*sources)
        self._merged |= {layer: layers[last] for layer in layers if layer != layers[last]}
        return values[last]

    def constant(self, value: Value | None, node: Node) -> NDArray[np.generic]:
        """The numbers of an input that has to be known.

        Raises:
            UnknownUnitsError: it depends on inputs, or on numbers that nobody gave.
        """
        if isinstance(value, Known):
            return value.array
        if isinstance(value, Entries) and value.parameter is not None and self._weights is not None:
            return self._weights[value.parameter.name]
        raise UnknownUnitsError(f"an input of {node.op_type} is computed, where a constant is needed to follow units")

    def entry_numbers(self, value: Entries) -> Numbers:
        """int64 of the value's shape: 1 + number of each entry among those of all parameters, 0 where none exists."""
        if value.numbers is not None:
            return value.numbers
        if value.parameter is None:
            raise UnknownUnitsError("it moves numbers that are computed from parameters")
        first = self._offsets[value.parameter.name] + 1
        numbers = np.arange(first, first + value.parameter.size).reshape(value.shape)
        return numbers if value.parameter.mask is None else numbers * value.parameter.mask.to_array()

    def parameters_of(self, numbers: Numbers) -> list[tuple[Parameter, Numbers]]:
        """The parameters that entries belong to, each with 1 + the row-major index into it, 0 elsewhere."""
        found = []
        present = numbers[numbers != 0]
        starts = list(self._offsets.values())
        around = (
            [bisect.bisect_left(starts, int(end)) for end in (present.min(), present.max())] if present.size else [0, 0]
        )
        for parameter in self.structure.parameters[max(0, around[0] - 1) : around[1]]:
            first = self._offsets[parameter.name]
            own = numbers - first
            inside = (own > 0) & (own <= parameter.size)
            if inside.any():
                found.append((parameter, np.where(inside, own, 0)))
        return found

    def result(self) -> UnitGraph:
        """The graph of everything that has been added."""
        kept = [position for position in range(len(self._layers)) if position not in self._merged]
        place = {position: new for new, position in enumerate(kept)}
        numbers = np.full(self._free, ABSENT, np.int64)
        layers: list[UnitLayer] = []
        names: Counter[str] = Counter()
        start = 0
        for position in kept:
            layer = self._layers[position]
            numbers[layer.first : layer.first + layer.size] = np.arange(start, start + layer.size)
            names[layer.name] += 1
            name = layer.name if names[layer.name] == 1 else f"{layer.name}#{names[layer.name]}"
            leading = sum(1 for _ in takewhile(lambda extent: extent == 1, layer.shape[:-1]))
            layers.append(UnitLayer(name, layer.op_type, start, layer.shape[leading:]))
            start += layer.size
        for position in self._merged:
            old, new = self._layers[position], self._layers[self._canonical(position)]
            numbers[old.first : old.first + old.size] = numbers[new.first : new.first + old.size]
        blocks = [
            self._block(place, numbers, position, *wires) for position in kept for wires in self._layers[position].wires
        ]
        made = [self._values[value.name] for value in self.structure.outputs]
        units = [
            value.numbers.reshape(-1) if isinstance(value, Units) else np.full(math.prod(value.shape), NOTHING)
            for value in made
        ]
        ends = np.concatenate([np.empty(0, np.int64), *units])
        return UnitGraph(
            tuple(layers),
            tuple(blocks),
            tuple(place[layer] for layer in self._inputs),
            tuple(sorted(place[layer] for layer in self._layers_of(ends))),
            numbers[ends],
        )

    def _block(
        self, place: dict[int, int], numbers: Numbers, position: int, parameter: str, wires: Wires, recurrent: bool
    ) -> Block:
        sources = tuple(sorted(place[layer] for layer in self._layers_of(wires.sources)))
        final = wires.renumbered(numbers)
        size = self._layers[position].size
        return Block(
            place[position],
            sources,
            parameter,
            lambda: final.rows(size),
            final.entries if isinstance(final, MatrixWires) and final.matrix.parameter is not None else None,
            (lambda: final.shares) if isinstance(final, ShareWires) else None,
            recurrent,
        )


RULES: Mapping[str, Rule] = {
    **expansion_elementwise.RULES,
    **expansion_linear.RULES,
    **expansion_movement.RULES,
    **expansion_recurrent.RULES,
    **expansion_windows.RULES,
}
"""Operator -> what it does to units."""
