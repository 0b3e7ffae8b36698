"""What `deepstruct diff` says about two structures, as plain data: parameters, layers, connections, nodes.

A layer is what uses parameters: the scope of the first node that takes one, or that node itself if it has no scope.
Its connections are the entries that exist in those of its parameters that have at least two dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deepstruct.mask import count
from deepstruct.structure import Parameter, Structure, walk


@dataclass(frozen=True, slots=True)
class Connections:
    """How many connections are in both structures, only before, and only after.

    Those of a parameter that has another shape are all lost and all new: there is no telling which unit is which.
    """

    kept: int
    lost: int
    new: int

    def __add__(self, other: Connections) -> Connections:
        return Connections(self.kept + other.kept, self.lost + other.lost, self.new + other.new)


@dataclass(frozen=True, slots=True)
class ParameterChange:
    """How one parameter differs between two structures.

    Attributes:
        change: ``added``, ``removed``, ``resized`` (shape or dtype) or ``rewired`` (mask).
        before: dtype and shape, ``""`` if added.
        after: dtype and shape, ``""`` if removed.
        kept: connections in both; None unless rewired.
        lost: connections only before; None unless rewired.
        new: connections only after; None unless rewired.
    """

    name: str
    change: str
    before: str
    after: str
    kept: int | None = None
    lost: int | None = None
    new: int | None = None


@dataclass(frozen=True, slots=True)
class LayerChange:
    """How one layer differs between two structures.

    Attributes:
        name: the scope or the node.
        change: ``added``, ``removed``, ``resized`` (a parameter has another shape or dtype), ``rewired`` (another mask)
            or ``changed`` (a parameter more or less).
        before: shapes of its parameters with connections, ``""`` if there are none.
        after: the same.
        kept: connections in both.
        lost: connections only before.
        new: connections only after.
        density_before: share of the entries of those parameters that existed, None without entries.
        density_after: the same.
    """

    name: str
    change: str
    before: str
    after: str
    kept: int
    lost: int
    new: int
    density_before: float | None
    density_after: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between two structures; weights are not compared.

    Attributes:
        parameters: those that differ.
        nodes: names of nodes that were added, removed or changed.
        graph: which of name, opset, inputs, outputs, constants, functions, attributes and unknown members differ.
        layers: those that differ.
        connections: of all layers, also of those that are the same.
    """

    parameters: tuple[ParameterChange, ...]
    nodes: Mapping[str, tuple[str, ...]]
    graph: tuple[str, ...]
    layers: tuple[LayerChange, ...]
    connections: Connections

    @property
    def equal(self) -> bool:
        """Whether the structures are the same."""
        return not (self.parameters or any(self.nodes.values()) or self.graph)

    def to_json(self) -> dict[str, Any]:
        """The difference as a JSON object."""
        return {"equal": self.equal, **asdict(self)}


@dataclass(frozen=True, slots=True)
class _Pair:
    """One parameter in both structures, None where it is missing."""

    before: Parameter | None
    after: Parameter | None


def compare(before: Structure, after: Structure) -> Difference:
    """What differs from one structure to the other."""
    pairs = _pairs(before, after)
    layers, total = _layers(pairs, {**_layer_names(before), **_layer_names(after)})
    members = ("name", "opset", "inputs", "outputs", "constants", "functions", "attributes", "extra")
    return Difference(
        parameters=tuple(change for pair in pairs.values() if (change := _change(pair)) is not None),
        nodes=_nodes(before, after),
        graph=tuple(member for member in members if getattr(before, member) != getattr(after, member)),
        layers=layers,
        connections=total,
    )


def _pairs(before: Structure, after: Structure) -> dict[str, _Pair]:
    old = {parameter.name: parameter for parameter in before.parameters}
    new = {parameter.name: parameter for parameter in after.parameters}
    return {name: _Pair(old.get(name), new.get(name)) for name in {**old, **new}}


def _nodes(before: Structure, after: Structure) -> dict[str, tuple[str, ...]]:
    old = {node.name: node for node in before.nodes}
    new = {node.name: node for node in after.nodes}
    both = [name for name in old if name in new]
    return {
        "added": tuple(name for name in new if name not in old),
        "removed": tuple(name for name in old if name not in new),
        "changed": tuple(name for name in both if old[name] != new[name]),
        "reordered": tuple(
            name for name, position in zip(both, (n for n in new if n in old), strict=True) if name != position
        ),
    }


def _layer_names(structure: Structure) -> dict[str, str]:
    """Parameter -> layer that it belongs to: itself, if no node uses it."""
    names = {parameter.name: parameter.name for parameter in structure.parameters}
    found: dict[str, str] = {}
    for node in walk(structure.nodes):
        for name in node.inputs:
            if name in names:
                found.setdefault(name, node.scope or node.name)
    return names | found


def _layers(pairs: Mapping[str, _Pair], layer_names: Mapping[str, str]) -> tuple[tuple[LayerChange, ...], Connections]:
    """The layers that differ, in the order of their parameters, and the connections of all."""
    own: dict[str, list[_Pair]] = {}
    for name, pair in pairs.items():
        own.setdefault(layer_names[name], []).append(pair)
    changes, total = [], Connections(0, 0, 0)
    for name, parts in own.items():
        connections = sum((_connections(pair) for pair in parts), Connections(0, 0, 0))
        total += connections
        kinds = {change.change for pair in parts if (change := _change(pair)) is not None}
        if kinds:
            kind = _layer_kind(parts, kinds)
            shapes = _shapes(pair.before for pair in parts), _shapes(pair.after for pair in parts)
            counts = connections.kept, connections.lost, connections.new
            shares = density(pair.before for pair in parts), density(pair.after for pair in parts)
            changes.append(LayerChange(name, kind, *shapes, *counts, *shares))
    return tuple(changes), total


def _layer_kind(parts: list[_Pair], kinds: set[str]) -> str:
    """What the changes of its parameters are to a layer."""
    if all(pair.before is None for pair in parts):
        return "added"
    if all(pair.after is None for pair in parts):
        return "removed"
    return next((kind for kind in ("resized", "rewired") if kind in kinds), "changed")


def _has_connections(parameter: Parameter | None) -> bool:
    return parameter is not None and len(parameter.shape) > 1


def density(parameters: Iterable[Parameter | None]) -> float | None:
    """Share of the entries that exist, of the parameters that have connections; None without entries."""
    counted = [p for p in parameters if p is not None and _has_connections(p)]
    entries = sum(p.size for p in counted)
    return sum(p.nnz for p in counted) / entries if entries else None


def _shapes(parameters: Iterable[Parameter | None]) -> str:
    return ", ".join("x".join(map(str, p.shape)) for p in parameters if p is not None and _has_connections(p))


def _connections(pair: _Pair) -> Connections:
    before, after = (p if _has_connections(p) else None for p in (pair.before, pair.after))
    if before is not None and after is not None and before.shape == after.shape:
        return _common(before, after)
    return Connections(0, 0 if before is None else before.nnz, 0 if after is None else after.nnz)


def _common(before: Parameter, after: Parameter) -> Connections:
    """Connections of a parameter that has the same shape in both."""
    if before.mask is None or after.mask is None or before.mask == after.mask:
        kept = min(before.nnz, after.nnz)
    else:
        kept = count(before.mask.packed & after.mask.packed)
    return Connections(kept, before.nnz - kept, after.nnz - kept)


def _type(parameter: Parameter | None) -> str:
    return "" if parameter is None else f"{parameter.dtype} {list(parameter.shape)}"


def _change(pair: _Pair) -> ParameterChange | None:
    before, after = pair.before, pair.after
    types = (_type(before), _type(after))
    if before is None or after is None:
        name = before.name if before is not None else after.name if after is not None else ""
        return ParameterChange(name, "added" if before is None else "removed", *types)
    if types[0] != types[1]:
        return ParameterChange(before.name, "resized", *types)
    if before == after:
        return None
    common = _common(before, after)
    return ParameterChange(before.name, "rewired", *types, kept=common.kept, lost=common.lost, new=common.new)
