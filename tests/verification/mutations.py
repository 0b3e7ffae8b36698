"""Faults that conversions make, planted into networks, and what a certificate must say of each.

Those of numbers and masks are here, those of operators in `node_mutations` and `recurrent_mutations`, and those in
files that were written already in `file_mutations`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from verification.drawn_networks import with_parameters

from deepstruct import Mask, Model, Node, Parameter, Structure, Tensor, Weights
from deepstruct.structure import AttributeValue

Index = tuple[int, ...]


@dataclass(frozen=True)
class Planted:
    """What a fault has changed.

    Attributes:
        names: of parameters, values and nodes; the certificate must name one of them.
        differing: how many entries of one parameter are not the same, None if the fault is none of a parameter.
        entries: which these are.
        parameter: that they are entries of.
        is_same_function: the network computes the same numbers but for rounding, and is another one all the same.
    """

    names: frozenset[str]
    differing: int | None = None
    entries: frozenset[Index] = frozenset()
    parameter: str = ""
    is_same_function: bool = False


@dataclass
class Draft:
    """A network that can be changed.

    Attributes:
        structure: nodes, parameters and constants as they are now.
        arrays: numbers of all parameters, dense.
        rng: that chooses.
    """

    structure: Structure
    arrays: dict[str, NDArray[Any]]
    rng: Generator
    _used: frozenset[str] = field(default=frozenset(), init=False)

    def __post_init__(self) -> None:
        self._used = frozenset(name for node in self.structure.nodes for name in node.inputs)

    @classmethod
    def of(cls, model: Model, rng: Generator) -> Draft:
        """A copy of a model."""
        assert model.weights is not None
        return cls(model.structure, {name: model.weights[name].copy() for name in model.weights}, rng)

    def model(self) -> Model:
        """The network as it is now."""
        return Model(self.structure, Weights(self.structure, self.arrays))

    def chosen(self, items: Iterable[Any]) -> Any:
        """One of several things; None of none."""
        things = list(items)
        return things[int(self.rng.integers(len(things)))] if things else None

    def parameters(self, least_rank: int = 1, most_rank: int = 9) -> list[Parameter]:
        """Floating parameters that something uses."""
        return [
            p
            for p in self.structure.parameters
            if p.name in self._used and "float" in p.dtype and least_rank <= len(p.shape) <= most_rank
        ]

    def kept(self, name: str) -> NDArray[np.bool_]:
        """Which entries exist."""
        mask = self.structure.parameter(name).mask
        return np.ones(self.arrays[name].shape, np.bool_) if mask is None else mask.to_array()

    def put(self, name: str, array: NDArray[Any], kept: NDArray[np.bool_] | None = None) -> Planted | None:
        """Gives a parameter other numbers, and other entries; None if nothing is different then."""
        before, old = self.arrays[name], self.kept(name)
        kept = old if kept is None else kept
        array = np.where(kept, array, np.zeros((), array.dtype))
        if before.shape == array.shape:
            bits = f"u{before.dtype.itemsize}"
            other = (old != kept) | (old & kept & (before.view(bits) != array.view(bits)))
            entries = frozenset(tuple(int(i) for i in index) for index in np.argwhere(other))
            if not entries:
                return None
            differing: int | None = len(entries)
        else:
            entries, differing = frozenset(), None
        parameter = replace(self.structure.parameter(name), shape=array.shape, mask=Mask.from_array(kept))
        self.arrays[name] = array
        self.structure = with_parameters(
            self.structure, [parameter if p.name == name else p for p in self.structure.parameters]
        )
        return Planted(self.reached(name), differing, entries, name)

    def reached(self, *names: str) -> frozenset[str]:
        """Names, what is computed from them alone and fixed numbers, and the nodes that take any of it."""
        leaves = {p.name for p in self.structure.parameters} | set(self.structure.constants)
        found, nodes = set(names), set()
        for node in self.structure.nodes:
            sources = set(node.sources) - {""}
            if sources & found:
                nodes.add(node.name)
                if sources <= leaves:
                    found |= set(node.outputs) - {""}
            if sources and sources <= leaves:
                leaves |= set(node.outputs)
        return frozenset(found | nodes)

    def change(self, *nodes: Node, constants: dict[str, Tensor] | None = None) -> Planted:
        """Puts nodes in place of those of the same names."""
        new = {node.name: node for node in nodes}
        self.structure = replace(
            self.structure,
            nodes=tuple(new.get(node.name, node) for node in self.structure.nodes),
            constants={**self.structure.constants, **(constants or {})},
        )
        outputs = {name for node in nodes for name in node.outputs}
        return Planted(frozenset(new) | outputs | {reader.name for reader in self.readers(outputs)})

    def readers(self, names: Iterable[str]) -> list[Node]:
        """The nodes that take one of some values."""
        wanted = set(names) - {""}
        return [node for node in self.structure.nodes if wanted & set(node.sources)]

    def nodes(self, *operators: str) -> list[Node]:
        """The nodes with some operators, on whose outputs something depends."""
        needed = {value.name for value in self.structure.outputs}
        found = []
        for node in reversed(self.structure.nodes):
            if needed & set(node.outputs):
                needed |= set(node.sources)
                if node.op_type in operators:
                    found.append(node)
        return found[::-1]

    def leaves(self) -> set[str]:
        """Names of what depends on no graph input."""
        leaves = {p.name for p in self.structure.parameters} | set(self.structure.constants)
        for node in self.structure.nodes:
            if node.sources and set(node.sources) - {""} <= leaves:
                leaves |= set(node.outputs)
        return leaves


def attributes(node: Node) -> dict[str, Any]:
    """The attributes of a node, of whatever types."""
    return dict(node.attributes)


def with_attributes(node: Node, **changed: AttributeValue) -> Node:
    """The node with some attributes changed."""
    return replace(node, attributes={**node.attributes, **changed})


Fault = Callable[[Draft], Planted | None]
FAULTS: dict[str, Fault] = {}
"""Faults by name. Each gives None where the network has nothing that it could change."""


def fault(name: str) -> Callable[[Fault], Fault]:
    """Registers a fault."""

    def registered(function: Fault) -> Fault:
        FAULTS[name] = function
        return function

    return registered


def _entries(draft: Draft, least: int = 1, *, absent: bool = False) -> tuple[str, list[Index]] | None:
    """A matrix or higher tensor, and its entries that exist, or that do not, in a random order."""
    for parameter in draft.rng.permutation(np.array([p.name for p in draft.parameters(2)], dtype=object)):
        found = np.argwhere(draft.kept(parameter) != absent)
        if len(found) >= least:
            return parameter, [tuple(int(i) for i in index) for index in draft.rng.permutation(found)]
    return None


def _changed_entry(draft: Draft, change: Callable[[Any], Any]) -> Planted | None:
    found = _entries(draft)
    if found is None:
        return None
    name, (index, *_) = found
    array = draft.arrays[name].copy()
    array[index] = change(array[index])
    return draft.put(name, array)


@fault("connection dropped")
def _(draft: Draft) -> Planted | None:
    found = _entries(draft, 2)
    if found is None:
        return None
    kept = draft.kept(found[0])
    kept[found[1][0]] = False
    return draft.put(found[0], draft.arrays[found[0]], kept)


@fault("smallest connection dropped")
def _(draft: Draft) -> Planted | None:
    found = _entries(draft, 2)
    if found is None:
        return None
    kept = draft.kept(found[0])
    kept[min(found[1], key=lambda index: abs(float(draft.arrays[found[0]][index])))] = False
    return draft.put(found[0], draft.arrays[found[0]], kept)


def _added(draft: Draft, number: float) -> Planted | None:
    found = _entries(draft, absent=True)
    if found is None:
        return None
    name, (index, *_) = found
    kept, array = draft.kept(name), draft.arrays[name].copy()
    kept[index], array[index] = True, number
    return draft.put(name, array, kept)


@fault("connection added")
def _(draft: Draft) -> Planted | None:
    return _added(draft, float(draft.rng.standard_normal()))


@fault("connection of weight 0 added")
def _(draft: Draft) -> Planted | None:
    return _added(draft, 0.0)


@fault("connection moved")
def _(draft: Draft) -> Planted | None:
    found = _entries(draft, absent=True)
    if found is None or not draft.kept(found[0]).any():
        return None
    name, (target, *_) = found
    kept, array = draft.kept(name), draft.arrays[name].copy()
    source = tuple(draft.chosen(np.argwhere(kept)))
    array[target], array[source] = array[source], 0
    kept[target], kept[source] = True, False
    return draft.put(name, array, kept)


@fault("weight 0 in place of a number")
def _(draft: Draft) -> Planted | None:
    return _changed_entry(draft, lambda number: number * 0)


@fault("two weights swapped")
def _(draft: Draft) -> Planted | None:
    found = _entries(draft, 2)
    if found is None:
        return None
    name, (first, second, *_) = found
    array = draft.arrays[name].copy()
    array[first], array[second] = array[second], array[first]
    return draft.put(name, array)


@fault("square matrix transposed")
def _(draft: Draft) -> Planted | None:
    name = draft.chosen(p.name for p in draft.parameters(2) if p.shape[0] == p.shape[1])
    if name is None:
        return None
    array, kept = (np.swapaxes(x, 0, 1).copy() for x in (draft.arrays[name], draft.kept(name)))
    return draft.put(name, array, kept)


@fault("weight rounded to float16")
def _(draft: Draft) -> Planted | None:
    return _changed_entry(draft, lambda number: number.dtype.type(np.float16(number)))


@fault("last bit flipped")
def _(draft: Draft) -> Planted | None:
    return _changed_entry(draft, lambda number: np.nextafter(number, number.dtype.type(np.inf)))


@fault("sign flipped")
def _(draft: Draft) -> Planted | None:
    return _changed_entry(draft, lambda number: -number)


@fault("weight NaN")
def _(draft: Draft) -> Planted | None:
    return _changed_entry(draft, lambda number: number * np.nan)


@fault("stale mask")
def _(draft: Draft) -> Planted | None:
    found = _entries(draft, absent=True)
    if found is None:
        return None
    before = draft.kept(found[0])
    after = draft.rng.permutation(before.reshape(-1)).reshape(before.shape)
    return draft.put(found[0], draft.arrays[found[0]], after)


@fault("rows permuted")
def _(draft: Draft) -> Planted | None:
    name = draft.chosen(p.name for p in draft.parameters(2) if p.shape[0] > 1)
    if name is None:
        return None
    order = draft.rng.permutation(len(draft.arrays[name]))
    return draft.put(name, draft.arrays[name][order], draft.kept(name)[order])


@fault("layer rounded to float16")
def _(draft: Draft) -> Planted | None:
    name = draft.chosen(p.name for p in draft.parameters(2))
    return draft.put(name, draft.arrays[name].astype(np.float16).astype(draft.arrays[name].dtype))


@fault("weights of two layers swapped")
def _(draft: Draft) -> Planted | None:
    shapes: dict[Any, list[str]] = {}
    for parameter in draft.parameters():
        shapes.setdefault(parameter.shape, []).append(parameter.name)
    names = draft.chosen(names for names in shapes.values() if len(names) > 1)
    if names is None:
        return None
    first, second = draft.rng.permutation(np.array(names, dtype=object))[:2]
    numbers = [(draft.arrays[name], draft.kept(name)) for name in (first, second)]
    planted = [draft.put(first, *numbers[1]), draft.put(second, *numbers[0])]
    both = [each for each in planted if each is not None]
    return Planted(frozenset().union(*(each.names for each in both))) if both else None


@fault("entry of a bias changed")
def _(draft: Draft) -> Planted | None:
    name = draft.chosen(p.name for p in draft.parameters(1, 1))
    if name is None:
        return None
    array = draft.arrays[name].copy()
    index = int(draft.rng.integers(array.size))
    array[index] = array[index] * array.dtype.type(1.001) + array.dtype.type(1e-3)
    return draft.put(name, array)


@fault("scale of a normalisation changed")
def _(draft: Draft) -> Planted | None:
    normal = "LayerNormalization", "BatchNormalization", "InstanceNormalization"
    name = draft.chosen(node.inputs[1] for node in draft.nodes(*normal) if node.inputs[1] in draft.arrays)
    if name is None:
        return None
    array = draft.arrays[name].copy()
    array[int(draft.rng.integers(array.size))] *= array.dtype.type(1.01)
    return draft.put(name, array)


@fault("mean and variance swapped")
def _(draft: Draft) -> Planted | None:
    node = draft.chosen(draft.nodes("BatchNormalization"))
    if node is None:
        return None
    names = node.inputs[3:5]
    numbers = [draft.arrays[name] for name in names]
    planted = draft.put(names[0], numbers[1])
    draft.put(names[1], np.abs(numbers[0]))
    return None if planted is None else replace(planted, names=planted.names | {names[1]}, differing=None)


@fault("units permuted")
def _(draft: Draft) -> Planted | None:
    """The rows of a layer and the columns of the next one, so that the function stays the same."""
    pairs = []
    for second in draft.nodes("Gemm"):
        chain: list[Node] = []
        before = _maker(draft, second.inputs[0])
        while before is not None and len(draft.readers(before.outputs)) == 1:
            if before.op_type == "Gemm":
                pairs.append((before, second, chain))
                break
            chain.append(before)
            if before.op_type not in ELEMENTWISE and before.op_type != "LayerNormalization":
                break
            before = _maker(draft, before.inputs[0])
    chosen = draft.chosen(pairs)
    if chosen is None:
        return None
    first, second, chain = chosen
    order = draft.rng.permutation(len(draft.arrays[first.inputs[1]]))
    if bool((order == np.arange(len(order))).all()):
        return None
    norms = [name for node in chain for name in node.inputs[1:] if node.op_type == "LayerNormalization"]
    rows = [*first.inputs[1:], *norms]
    planted = [draft.put(name, draft.arrays[name][order], draft.kept(name)[order]) for name in rows]
    columns = second.inputs[1]
    planted.append(draft.put(columns, draft.arrays[columns][:, order], draft.kept(columns)[:, order]))
    return Planted(draft.reached(*rows, columns), is_same_function=True) if any(planted) else None


ELEMENTWISE = ("Relu", "Tanh", "Sigmoid", "Gelu", "LeakyRelu", "Elu", "Selu", "Mish", "Softplus")


def _maker(draft: Draft, name: str) -> Node | None:
    return next((node for node in draft.structure.nodes if name in node.outputs), None)
