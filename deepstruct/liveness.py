"""Liveness: which units and connections are on a path from an input to an output, and how dense a network is by that.

A connection that is on no such path exists in the masks, but nothing that the network computes depends on it
(Vysogorets & Kempe 2023). Recurrent connections are part of paths here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from deepstruct.layer_matrices import LayerMatrices
from deepstruct.structure import Structure
from deepstruct.units import Block, UnitGraph

Marks = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Density:
    """How many of the entries that connections could stand for exist, and how many are live.

    Attributes:
        entries: of the parameters; without a structure, pairs of units of layers that are wired.
        kept: those that exist.
        live: those that exist and have a live connection.
        density: ``kept / entries``, None without entries.
        effective_density: ``live / entries``, None without entries.
    """

    entries: int
    kept: int
    live: int

    @property
    def density(self) -> float | None:
        """``kept / entries``."""
        return self.kept / self.entries if self.entries else None

    @property
    def effective_density(self) -> float | None:
        """``live / entries``."""
        return self.live / self.entries if self.entries else None

    def to_json(self) -> dict[str, float | None]:
        """The density as a JSON object."""
        return {
            "entries": self.entries,
            "kept_entries": self.kept,
            "live_entries": self.live,
            "density": self.density,
            "effective_density": self.effective_density,
        }


@dataclass(frozen=True, eq=False)
class Liveness:
    """What is on a path from an input to an output.

    Attributes:
        reached: bool ``[units]``: there is a path from an input.
        used: bool ``[units]``: there is a path to an output.
        connections: for each layer, live connections into it.
    """

    reached: Marks
    used: Marks
    connections: tuple[int, ...]

    @cached_property
    def live(self) -> Marks:
        """Bool ``[units]``: there is a path from an input to an output through the unit."""
        return self.reached & self.used


def liveness(matrices: LayerMatrices) -> Liveness:
    """Follows connections from the inputs and back from the outputs until nothing changes.

    Without recurrent connections that is one product of each layer's matrix with a vector in either direction.
    """
    graph = matrices.graph
    reached = matrices.inputs.copy()
    used = matrices.outputs.copy()
    while True:
        before = np.count_nonzero(reached)
        reached_sources = []
        for layer, *parts in matrices:
            counts = np.zeros(layer.size, np.int32)
            for part in parts:
                if part is not None:
                    counts += part.matrix @ reached[part.window].astype(np.int32)
            reached[layer.start : layer.stop] |= counts > 0
            reached_sources.append(counts)
        if not any(matrices.recurrent) or np.count_nonzero(reached) == before:
            break
    while True:
        before = np.count_nonzero(used)
        for layer, *parts in reversed(list(matrices)):
            for part in parts:
                if part is not None:
                    used[part.window] |= part.matrix.T @ used[layer.start : layer.stop]
        if not any(matrices.recurrent) or np.count_nonzero(used) == before:
            break
    live = [
        int(counts[used[layer.start : layer.stop]].sum(dtype=np.int64))
        for counts, layer in zip(reached_sources, graph.layers, strict=True)
    ]
    return Liveness(reached, used, tuple(live))


@dataclass(frozen=True, slots=True)
class Densities:
    """Densities of all layers, of all parameters, and of the whole.

    Attributes:
        layers: for each layer, of the parameters whose entries its connections are; None without any.
        parameters: name -> of each parameter that connections stand for.
        whole: each parameter counted once.
    """

    layers: tuple[Density | None, ...]
    parameters: Mapping[str, Density]
    whole: Density


def densities(matrices: LayerMatrices, found: Liveness, structure: Structure | None) -> Densities:
    """Nominal and effective densities: of entries of parameters if the structure is known, else of pairs of units."""
    if structure is None:
        pairs = _pairs(matrices, found)
        return Densities(tuple(pairs), {}, _total(pairs))
    graph = matrices.graph
    known = {parameter.name: parameter for parameter in structure.parameters}
    blocks: dict[str, list[Block]] = {}
    for block in graph.blocks:
        if block.parameter in known:
            blocks.setdefault(block.parameter, []).append(block)
    parameters = {
        name: Density(
            known[name].size, known[name].nnz, _live_entries(graph, own, known[name].size, known[name].nnz, found)
        )
        for name, own in blocks.items()
    }
    layers = []
    for position in range(len(graph.layers)):
        own = [parameters[name] for name, users in blocks.items() if any(block.layer == position for block in users)]
        layers.append(_total(own) if own else None)
    return Densities(tuple(layers), parameters, _total(list(parameters.values())))


def _total(parts: list[Density]) -> Density:
    return Density(sum(d.entries for d in parts), sum(d.kept for d in parts), sum(d.live for d in parts))


def _pairs(matrices: LayerMatrices, found: Liveness) -> list[Density]:
    """For each layer, pairs of one of its units and a unit of a layer that it is wired to, recurrent ones apart."""
    graph = matrices.graph
    wired: list[set[tuple[int, bool]]] = [set() for _ in graph.layers]
    for block in graph.blocks:
        wired[block.layer] |= {(source, block.recurrent) for source in block.layers}
    return [
        Density(
            layer.size * sum(graph.layers[source].size for source, _ in sources),
            forward.nnz + (0 if recurrent is None else recurrent.nnz),
            live,
        )
        for (layer, forward, recurrent), sources, live in zip(matrices, wired, found.connections, strict=True)
    ]


def _live_entries(graph: UnitGraph, blocks: list[Block], size: int, kept: int, found: Liveness) -> int:
    """How many entries of a parameter have a live connection.

    Where connections stand for several entries each, the kept entries are shared out in proportion.
    """
    marks = np.zeros(size, np.bool_)
    shares = live_shares = 0.0
    for block in blocks:
        rows = block.rows()
        layer = graph.layers[block.layer]
        live = found.reached[rows.sources] & np.repeat(found.used[layer.start : layer.stop], np.diff(rows.indptr))
        if block.shares is not None:
            own = block.shares()
            shares += float(own.sum())
            live_shares += float(own[live].sum())
        elif block.entries is not None:
            entries = block.entries()[live]
            marks[entries[entries >= 0]] = True
    if shares:
        return round(kept * live_shares / shares)
    return int(np.count_nonzero(marks))
