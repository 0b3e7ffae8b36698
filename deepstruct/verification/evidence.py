"""The evidence of a verification: tensors and operations in one walk over both structures, then runs of both files."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepstruct.verification import interface, outputs, repro
from deepstruct.verification.alignment import align
from deepstruct.verification.extents import Assignment, CannotSampleError
from deepstruct.verification.fingerprints import fingerprints
from deepstruct.verification.identity import Comparison
from deepstruct.verification.numerics import LayerCheck, Numerics
from deepstruct.verification.operations import Alignment, LeafPair, Step
from deepstruct.verification.runtimes import OnnxRuntime, Reference, Runtime, Torch
from deepstruct.verification.sampling import Case, Sampler, from_npz
from deepstruct.verification.sides import NotCertifiableError, Side
from deepstruct.verification.verdict import Evidence
from deepstruct.verification.wiring import MODULUS, Wiring, WiringProof

if TYPE_CHECKING:
    from deepstruct.verification.verify import Options, Source

Inputs = dict[str, NDArray[Any]]

_ROWS_OF_INTEGERS = 3
_SCALES = (1e-4, 1e4)
"""Further scales of the inputs that operations are computed on, relative to the one asked for."""


def gather(a: Source, b: Source, options: Options) -> Evidence:
    """Everything that can be found out about two models.

    Raises:
        NotCertifiableError: something stands in the way of all comparison; it is said.
        UsageError: an option does not fit to the models.
    """
    first, second = a.model.structure, b.model.structure
    faults = interface.interface_faults(first, second, options.by_position)
    for source in (a, b):
        faults += [f"{source.path.name}: {reason}" for reason in interface.randomness(source.model.structure)]
    if faults:
        raise NotCertifiableError(*faults)
    found = _gathered(a, b, align(first, second), options)
    if a.model.weights is None or b.model.weights is None:
        return found
    if not found.alignment.differences and not found.identity.differences:
        return found
    (digests_a, zeros_a), (digests_b, zeros_b) = fingerprints(a.model.weights), fingerprints(b.model.weights)
    again = align(first, second, (digests_a, digests_b), (zeros_a, zeros_b))
    if again.steps == found.alignment.steps and again.differences == found.alignment.differences:
        return found
    better = _gathered(a, b, again, options, found.outputs)
    return better if _faults(better) <= _faults(found) else found


def _faults(found: Evidence) -> tuple[int, int]:
    return len(found.alignment.differences), sum(tensor.differing for tensor in found.identity.differences)


def _gathered(
    a: Source, b: Source, alignment: Alignment, options: Options, ran: outputs.Outputs | None = None
) -> Evidence:
    """The evidence for one way in which two structures may correspond.

    Args:
        a: the first file.
        b: the second.
        alignment: of their structures.
        options: of the verification.
        ran: the fourth tier, which knows nothing of the alignment, if it was done before.
    """
    first, second = a.model.structure, b.model.structure
    walk = Walk(a, b, alignment)
    try:
        given = None if options.inputs is None else from_npz(options.inputs, first)
        sampler = Sampler(first, second, seed=options.seed, shapes=options.shapes, given=given)
        assignment = outputs.choose(sampler, outputs.natives(a), outputs.natives(b))
    except CannotSampleError as error:
        return walk.go(str(error))
    walk.prepare(sampler, assignment, options)
    shown = Case("normal", options.rows, options.scale) if options.inputs is None else Case("given", 1)
    inputs = sampler.inputs(assignment, shown)
    found = replace(walk.go(), inputs=inputs)
    if found.lacking:
        return found
    return replace(found, outputs=ran or outputs.check(a, b, sampler, assignment))


class Walk:
    """One pass over all steps. A weight is loaded once, and let go of when its step is done."""

    def __init__(self, a: Source, b: Source, alignment: Alignment) -> None:
        """A walk that compares tensors, and computes nothing until `prepare`.

        Args:
            a: the first file.
            b: the second.
            alignment: of their structures.
        """
        self._alignment = alignment
        self._lacking = tuple(source.path.name for source in (a, b) if source.model.weights is None)
        self._a, self._b = sides(a, b, alignment)
        self._comparison = Comparison(masks_only=bool(self._lacking))
        self._compared: set[LeafPair] = set()
        self._proof: WiringProof | None = None
        self._check: LayerCheck | None = None

    def prepare(self, sampler: Sampler, assignment: Assignment, options: Options) -> None:
        """Makes the inputs for what is computed on the way."""
        integers = sampler.inputs(assignment, Case("integers", _ROWS_OF_INTEGERS, below=MODULUS))
        self._proof = WiringProof(self._a, self._b, integers, sampler.renamed(integers))
        if self._lacking:
            return
        scales = (1.0, *_SCALES)
        rows = (options.rows, *(min(options.rows, 2) for _ in _SCALES))
        normal = [Case("normal", n, options.scale * scale) for n, scale in zip(rows, scales, strict=True)]
        cases = _joined([sampler.inputs(assignment, case) for case in normal], assignment)
        if options.inputs is not None:
            cases.append(sampler.inputs(assignment, Case("given", 1)))
        self._check = LayerCheck(self._a, self._b, cases, Reference())

    def go(self, obstacle: str = "") -> Evidence:
        """Walks through all steps.

        Args:
            obstacle: why nothing can be computed, if so.
        """
        spent = _last_uses(self._alignment)
        for step, (names_a, names_b) in zip(self._alignment.steps, spent, strict=True):
            self._compare(step.leaves)
            if not obstacle:
                failure = self._compute(step)
                obstacle = "" if self._comparison.differ(step.leaves) else failure
            for walker in (self._proof, self._check):
                if walker is not None:
                    walker.forget(names_a, names_b)
            self._a.forget()
            self._b.forget()
        self._compare(self._alignment.leaves)
        if not obstacle:
            self._settle()
        is_computed = self._proof is not None and not obstacle
        why = obstacle or (f"{' and '.join(self._lacking)} without weights" if self._lacking else "")
        return Evidence(
            self._alignment,
            self._comparison.result(self._alignment.differences),
            self._proof.result() if self._proof is not None and is_computed else Wiring("not run", reason=why),
            self._check.result() if self._check is not None and is_computed else Numerics("not run", reason=why),
            lacking=self._lacking,
            obstacles=(obstacle,) if obstacle else (),
        )

    def _compare(self, pairs: Sequence[LeafPair]) -> None:
        for pair in pairs:
            if pair not in self._compared:
                self._compared.add(pair)
                self._comparison.add(pair, self._a.leaf(pair.a), self._b.leaf(pair.b))

    def _settle(self) -> None:
        """Computes operators that differ on the same inputs, which shows whether they are two spellings of one."""
        for difference in self._alignment.differences:
            if difference.kind in ("operator", "attribute") and self._check is not None:
                step = repro.step_of(self._alignment, difference.a, difference.b)
                if step is not None and len(step.a.outputs) == len(step.b.outputs):
                    with contextlib.suppress(NotCertifiableError):
                        self._check.step(step)

    def _compute(self, step: Step) -> str:
        """Runs a step, and says why if that cannot be done."""
        try:
            if self._proof is not None:
                self._proof.step(step)
            if self._check is not None:
                self._check.step(step)
        except NotCertifiableError as error:
            return str(error)
        return ""


def _joined(cases: list[Inputs], assignment: Assignment) -> list[Inputs]:
    """All cases as one batch, if its size is open, so that each weight is used once."""
    axes = {name: assignment.batch_axis(name) for name in cases[0]}
    if any(axis is None for axis in axes.values()):
        return cases
    return [{name: np.concatenate([case[name] for case in cases], axis=axis) for name, axis in axes.items()}]


def sides(a: Source, b: Source, alignment: Alignment) -> tuple[Side, Side]:
    """Both files as they are walked through; without numbers if one of them has none."""
    has_numbers = a.model.weights is not None and b.model.weights is not None
    structures = alignment.structure_a, alignment.structure_b
    derivations = alignment.derivations_a, alignment.derivations_b
    first, second = (
        Side(
            source.path.name,
            structure,
            source.model.weights if has_numbers else None,
            derived,
            _runtimes(source, other, is_first=source is a),
        )
        for source, other, structure, derived in zip((a, b), (b, a), structures, derivations, strict=True)
    )
    return first, second


def _runtimes(source: Source, other: Source, *, is_first: bool) -> tuple[Runtime, ...]:
    """What computes the operations of a file: its own runtime, or if it has none, another one than its partner's."""
    if source.row.name == "onnx":
        return (OnnxRuntime(),)
    if is_first or other.row.name == "onnx":
        return (Torch(), Reference(), OnnxRuntime())
    return (OnnxRuntime(), Reference(), Torch())


def _last_uses(alignment: Alignment) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """For each step, the values of either side that nothing needs after it; none where the graphs differ."""
    if alignment.differences:
        return [((), ()) for _ in alignment.steps]
    seen: tuple[set[str], set[str]] = (set(), set())
    found = []
    for step in reversed(alignment.steps):
        used = tuple(
            tuple(name for name in dict.fromkeys((*operation.inputs, *operation.outputs)) if name and name not in names)
            for operation, names in zip((step.a, step.b), seen, strict=True)
        )
        for names, spent in zip(seen, used, strict=True):
            names.update(spent)
        found.append((used[0], used[1]))
    return found[::-1]
