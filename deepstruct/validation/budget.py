"""Budget: what a network may cost; a quality gate beside the rules of the format. `budget_file` reads one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from deepstruct.errors import Fault, UnsupportedError, UsageError, pointer
from deepstruct.sparsity_structure import SparsityStructure
from deepstruct.structure import Node, Parameter, Structure, walk

if TYPE_CHECKING:
    from deepstruct.analysis import Whole
    from deepstruct.document import WeightsReference


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterBudget:
    """Limits for each parameter that a pattern matches.

    Attributes:
        max_nnz: entries that may exist.
        min_density: share of entries that must exist.
        max_density: share of entries that may exist.
        sparsity_structure: that the mask must have.
    """

    max_nnz: int | None = None
    min_density: float | None = None
    max_density: float | None = None
    sparsity_structure: SparsityStructure | None = None

    def faults(self, parameter: Parameter) -> Iterator[Fault]:
        """What a parameter exceeds."""
        place, name = pointer("parameters", parameter.name), f"{parameter.name!r:.80}"
        yield from _above("BUDGET_NNZ", place, f"entries of {name} that exist", parameter.nnz, self.max_nnz)
        yield from _outside(
            "BUDGET_DENSITY", place, f"{name} has density", parameter.density, self.min_density, self.max_density
        )
        if self.sparsity_structure is not None:
            for fault in self.sparsity_structure.faults(parameter.shape, parameter.mask):
                yield Fault("BUDGET_STRUCTURE", place, f"{name}: {fault.message}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits for a network as a whole, and for its parameters.

    Attributes:
        max_nnz: entries of all parameters that may exist.
        min_density: share of them that must exist.
        max_density: share of them that may exist.
        min_effective_density: share that must be on a path from an input to an output (`docs/analysis.md`).
        max_effective_density: share that may be.
        max_bytes: of the document and its weights file together.
        max_nodes: of the graph; those within functions and attributes count too.
        max_dead_units: units on no path from an input to an output.
        max_dead_inputs: input units that no output depends on.
        max_dead_outputs: output units that depend on no input.
        max_collapsed_layers: layers that no signal passes.
        operators: that may occur, ``Name`` or ``domain::Name``; None allows all.
        unknown: how units of unknown operators are connected: ``error`` (they cannot be measured) or ``full``.
        input_shapes: extents of inputs that the structure leaves open.
        parameters: pattern of names -> limits; a parameter keeps those of all patterns that match it.
    """

    max_nnz: int | None = None
    min_density: float | None = None
    max_density: float | None = None
    min_effective_density: float | None = None
    max_effective_density: float | None = None
    max_bytes: int | None = None
    max_nodes: int | None = None
    max_dead_units: int | None = None
    max_dead_inputs: int | None = None
    max_dead_outputs: int | None = None
    max_collapsed_layers: int | None = None
    operators: frozenset[str] | None = None
    unknown: Literal["error", "full"] = "error"
    input_shapes: Mapping[str, list[int]] = field(default_factory=dict)
    parameters: Mapping[str, ParameterBudget] = field(default_factory=dict)

    def faults(self, path: Path, structure: Structure, weights: WeightsReference | None) -> Iterator[Fault]:
        """What a network exceeds.

        Args:
            path: of the document.
            structure: that it describes.
            weights: what it says of its weights file.

        Raises:
            MissingDependencyError: effective densities or dead units are limited, and scipy is not installed.
        """
        yield from _above("BUDGET_NNZ", "/parameters", "connections", structure.nnz, self.max_nnz)
        yield from _outside(
            "BUDGET_DENSITY", "/parameters", "the density is", structure.density, self.min_density, self.max_density
        )
        if self.max_bytes is not None:
            size = sum(file.stat().st_size for file in _files(path, weights))
            yield from _above("BUDGET_BYTES", "", "bytes of document and weights", size, self.max_bytes)
        nodes = [*walk(structure.nodes), *(node for f in structure.functions for node in walk(f.nodes))]
        yield from _above("BUDGET_NODES", "/graph/nodes", "nodes", len(nodes), self.max_nodes)
        yield from self._operators(structure.nodes, nodes)
        for pattern, limits in self.parameters.items():
            matching = [p for p in structure.parameters if fnmatchcase(p.name, pattern)]
            if not matching:
                message = f"no parameter matches the pattern {pattern!r:.80} of the budget"
                yield Fault("BUDGET_UNMATCHED", "/parameters", message, "warning")
            for parameter in matching:
                yield from limits.faults(parameter)
        if any(getattr(self, name) is not None for name in _MEASURED):
            yield from self._measured(structure)

    def _operators(self, own: tuple[Node, ...], nodes: list[Node]) -> Iterator[Fault]:
        if self.operators is None:
            return
        places = {id(node): pointer("graph", "nodes", position, "op") for position, node in enumerate(own)}
        for node in nodes:
            name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            if name not in self.operators:
                message = f"node {node.name!r:.80} is a {name}, which the budget does not list"
                yield Fault("BUDGET_OPERATOR", places.get(id(node), "/graph"), message)

    def _measured(self, structure: Structure) -> Iterator[Fault]:
        from deepstruct.analysis import analyse

        known = {value.name for value in structure.inputs}
        shapes = {name: extents for name, extents in self.input_shapes.items() if name in known}
        try:
            whole = analyse(structure, shapes=shapes, unknown=self.unknown, measures=()).whole
        except (UnsupportedError, UsageError) as error:
            yield Fault("BUDGET_NOT_MEASURED", "/graph", f"units cannot be counted: {error}")
            return
        yield from self._live(whole)

    def _live(self, whole: Whole) -> Iterator[Fault]:
        density = whole.density.effective_density
        if density is not None:
            bounds = self.min_effective_density, self.max_effective_density
            yield from _outside("BUDGET_EFFECTIVE_DENSITY", "/parameters", "the effective density is", density, *bounds)
        counts = [
            ("/graph", "dead units", whole.dead, self.max_dead_units),
            ("/graph/inputs", "dead input units", whole.dead_inputs, self.max_dead_inputs),
            ("/graph/outputs", "dead output units", whole.dead_outputs, self.max_dead_outputs),
        ]
        for place, what, found, most in counts:
            yield from _above("BUDGET_DEAD_UNITS", place, what, found, most)
        names = ", ".join(f"{name!r:.40}" for name in whole.collapsed[:5])
        what = f"collapsed layers ({names})"
        yield from _above("BUDGET_COLLAPSED_LAYER", "/graph", what, len(whole.collapsed), self.max_collapsed_layers)


_MEASURED = (
    "min_effective_density",
    "max_effective_density",
    "max_dead_units",
    "max_dead_inputs",
    "max_dead_outputs",
    "max_collapsed_layers",
)


def _files(path: Path, weights: WeightsReference | None) -> Iterator[Path]:
    yield path
    if weights is not None:
        beside = path.parent / weights.uri
        if beside.is_file():
            yield beside


def _above(code: str, place: str, what: str, found: int, most: int | None) -> Iterator[Fault]:
    if most is not None and found > most:
        yield Fault(code, place, f"{what}: {found:,}; the budget allows {most:,}")


def _outside(
    code: str, place: str, what: str, found: float, least: float | None, most: float | None
) -> Iterator[Fault]:
    if most is not None and found > most:
        yield Fault(code, place, f"{what} {found:.6g}; the budget allows at most {most:.6g}")
    if least is not None and found < least:
        yield Fault(code, place, f"{what} {found:.6g}; the budget asks for at least {least:.6g}")
