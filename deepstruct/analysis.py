"""Analysis: the numbers that papers on network structure use, of units and their connections.

What each number means, what counts as a connection and which direction it is seen in is in `docs/analysis.md`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deepstruct.errors import MissingDependencyError, UnsupportedError, UsageError, did_you_mean
from deepstruct.model import Model
from deepstruct.options import UnitOrder, Unknown
from deepstruct.structure import Structure
from deepstruct.units import UnitGraph

if TYPE_CHECKING:
    from deepstruct.layer_matrices import LayerMatrices
    from deepstruct.liveness import Densities, Density, Liveness

DEFAULT = ("degrees", "assortativity", "paths", "components")
"""Measures that are taken if none is named; their time is linear in the number of connections."""

COSTLY = ("cores", "distances", "butterflies", "triangles", "spectrum", "small-world")
"""Measures that are taken only if they are named."""

MEASURES = (*DEFAULT, *COSTLY)

_FUNCTIONS = {
    "degrees": "degrees:degrees",
    "assortativity": "degrees:assortativity",
    "paths": "paths:paths",
    "components": "components:components",
    "cores": "components:cores",
    "distances": "distances:distances",
    "butterflies": "motifs:butterflies",
    "triangles": "motifs:triangles",
    "spectrum": "spectra:spectrum",
    "small-world": "small_world:small_world",
}


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer of units.

    Attributes:
        operator: that makes the units, ``Input`` for graph inputs.
        connections: into the layer.
        recurrent: those of them that come from the step before.
        live_connections: those on a path from an input to an output.
        live: units on such a path.
        unreached: units without a path from an input.
        unused: units without a path to an output.
        constant: nothing leads into the layer, and it is no input.
        collapsed: it has units, none of them live, and is not constant (Tanaka et al. 2020).
        density: of the entries that its connections stand for, None without any.
    """

    name: str
    operator: str
    units: int
    connections: int
    recurrent: int
    live_connections: int
    live: int
    unreached: int
    unused: int
    constant: bool
    collapsed: bool
    density: Density | None

    @property
    def dead(self) -> int:
        """Units that are not live."""
        return self.units - self.live

    def to_json(self) -> dict[str, Any]:
        """The layer as a JSON object."""
        counts = {name: getattr(self, name) for name in self.__slots__ if name != "density"}
        return {**counts, "dead": self.dead, **({} if self.density is None else self.density.to_json())}


@dataclass(frozen=True, slots=True)
class Whole:
    """All layers together; attributes as in `LayerReport`.

    Attributes:
        dead_inputs: input units that no output depends on.
        dead_outputs: output units that depend on no input.
        collapsed: names of collapsed layers.
        density: each parameter counted once.
    """

    units: int
    connections: int
    recurrent: int
    live_connections: int
    live: int
    unreached: int
    unused: int
    dead_inputs: int
    dead_outputs: int
    collapsed: tuple[str, ...]
    density: Density

    @property
    def dead(self) -> int:
        """Units that are not live."""
        return self.units - self.live

    def to_json(self) -> dict[str, Any]:
        """The whole as a JSON object."""
        counts = {name: getattr(self, name) for name in self.__slots__ if name not in ("density", "collapsed")}
        return {**counts, "dead": self.dead, "collapsed": list(self.collapsed), **self.density.to_json()}


@dataclass(frozen=True, slots=True)
class Analysis:
    """The numbers of a network.

    Attributes:
        order: of the units, None of a unit graph that was given as such.
        layers: in the order of the unit graph.
        parameters: name -> density of each parameter that connections stand for; empty without a structure.
        whole: all together.
        measures: name -> result of each measure that was taken: `Degrees`, `Assortativity`, `Paths`, `Components`,
            `Cores`, `Distances`, `ButterflyCounts`, `Triangles`, `Spectrum`, `SmallWorld`.
        omitted: name -> why a measure that was asked for is missing.
    """

    order: UnitOrder | None
    layers: tuple[LayerReport, ...]
    parameters: Mapping[str, Density]
    whole: Whole
    measures: Mapping[str, Any] = field(default_factory=dict)
    omitted: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The analysis as a JSON object, without NaN or infinity."""
        return {
            "order": self.order,
            "layers": [layer.to_json() for layer in self.layers],
            "parameters": {name: density.to_json() for name, density in self.parameters.items()},
            "whole": self.whole.to_json(),
            "measures": {name: measure.to_json() for name, measure in self.measures.items()},
            "omitted": dict(self.omitted),
        }


def analyse(
    structure: Structure | Model | UnitGraph,
    *,
    order: UnitOrder = 0,
    shapes: Mapping[str, Sequence[int]] | None = None,
    unknown: Unknown = "error",
    measures: str | Iterable[str] | None = None,
) -> Analysis:
    """The numbers of a network: densities and liveness always, and the measures that are named.

    Args:
        structure: what is analysed. A unit graph is taken as it is, and the next three arguments do not matter.
        order: 0 for single units, 1 for channels.
        shapes: name of a graph input -> its extents, where the structure leaves them open.
        unknown: what to do with an operator whose units are not known: ``error``, or ``full`` to connect all of
            its outputs with all of its inputs.
        measures: some of `DEFAULT` and `COSTLY`; ``"default"`` and ``"all"`` name several. None means ``"default"``.

    Raises:
        UsageError: an option makes no sense, or a measure is unknown.
        UnsupportedError: the units of an operator are not known.
        MissingDependencyError: scipy is not installed.
    """
    names = chosen(measures)
    try:
        from deepstruct import layer_matrices, liveness
    except ModuleNotFoundError as error:
        raise MissingDependencyError("scipy", "graph", "the analysis") from error
    if isinstance(structure, UnitGraph):
        graph, known, of_order = structure, None, None
    else:
        from deepstruct.expansion import unit_graph

        graph = unit_graph(structure, order, shapes=shapes, unknown=unknown)
        known, of_order = structure.structure if isinstance(structure, Model) else structure, order
    matrices = layer_matrices.layer_matrices(graph)
    found = liveness.liveness(matrices)
    densities = liveness.densities(matrices, found, known)
    layers = _layers(matrices, found, densities)
    taken, omitted = _taken(names, matrices, found)
    return Analysis(
        of_order, layers, densities.parameters, _whole(matrices, found, layers, densities.whole), taken, omitted
    )


def chosen(measures: str | Iterable[str] | None) -> tuple[str, ...]:
    """Names of measures in the order in which they are taken.

    Raises:
        UsageError: one is unknown.
    """
    groups = {"default": DEFAULT, "all": MEASURES}
    given = ["default"] if measures is None else [measures] if isinstance(measures, str) else list(measures)
    wanted: set[str] = set()
    for name in given:
        if name not in groups and name not in MEASURES:
            known = ", ".join([*MEASURES, *groups])
            raise UsageError(f"unknown measure {name!r:.40} (known: {known}){did_you_mean(str(name), MEASURES)}")
        wanted.update(groups.get(name, (name,)))
    return tuple(name for name in MEASURES if name in wanted)


def _taken(names: Iterable[str], matrices: LayerMatrices, found: Liveness) -> tuple[dict[str, Any], dict[str, str]]:
    taken: dict[str, Any] = {}
    omitted: dict[str, str] = {}
    for name in names:
        module, function = _FUNCTIONS[name].split(":")
        measure: Callable[..., Any] = getattr(importlib.import_module(f"deepstruct.{module}"), function)
        try:
            taken[name] = measure(matrices, found) if name == "components" else measure(matrices)
        except UnsupportedError as error:
            omitted[name] = str(error)
    return taken, omitted


def _layers(matrices: LayerMatrices, found: Liveness, densities: Densities) -> tuple[LayerReport, ...]:
    graph = matrices.graph
    fed = {block.layer for block in graph.blocks} | set(graph.inputs)
    reports = []
    for position, (layer, forward, recurrent) in enumerate(matrices):
        own = slice(layer.start, layer.stop)
        again = 0 if recurrent is None else recurrent.nnz
        live = int(found.live[own].sum())
        reports.append(
            LayerReport(
                name=layer.name,
                operator=layer.op_type,
                units=layer.size,
                connections=forward.nnz + again,
                recurrent=again,
                live_connections=found.connections[position],
                live=live,
                unreached=layer.size - int(found.reached[own].sum()),
                unused=layer.size - int(found.used[own].sum()),
                constant=position not in fed,
                collapsed=layer.size > 0 and live == 0 and position in fed,
                density=densities.layers[position],
            )
        )
    return tuple(reports)


def _whole(matrices: LayerMatrices, found: Liveness, layers: tuple[LayerReport, ...], density: Density) -> Whole:
    names = ("units", "connections", "recurrent", "live_connections", "live", "unreached", "unused")
    return Whole(
        **{name: sum(getattr(layer, name) for layer in layers) for name in names},
        dead_inputs=int((matrices.inputs & ~found.used).sum()),
        dead_outputs=int((matrices.outputs & ~found.reached).sum()),
        collapsed=tuple(layer.name for layer in layers if layer.collapsed),
        density=density,
    )
