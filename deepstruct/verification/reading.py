"""Whether a file computes what was read from it: a gross check, which can only fail and proves nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deepstruct.model import Model
from deepstruct.verification import figures, native
from deepstruct.verification.extents import Assignment
from deepstruct.verification.native import Native
from deepstruct.verification.runtimes import NotRunnableError, Value
from deepstruct.verification.sampling import Case, Sampler


@dataclass(frozen=True)
class Reading:
    """How a file and a plain writing of its structure differ when both are run.

    Attributes:
        file: setting of the file.
        written: setting of the writing.
        cases: on which both were run.
        equal: all outputs have the same bits.
        max_relative: largest difference of an output, relative to its largest number over all cases.
        faults: sentences; the structure is not what the file computes.
        reason: why nothing was compared, else ``""``.
    """

    file: str
    written: str
    cases: int = 0
    equal: bool = False
    max_relative: float = 0.0
    faults: tuple[str, ...] = ()
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """The findings as a JSON object."""
        return {**asdict(self), "faults": list(self.faults)}


def own_native(path: Path, format_name: str, model: Model, *, trust_pickle: bool = False) -> Native | None:
    """What runs a file without the structure that was read from it; None for formats that only hold a structure.

    Args:
        path: of the file.
        format_name: of its format.
        model: what was read from it.
        trust_pickle: let a pickled module run its code. Without, a torch checkpoint holds no code of its own.
    """
    if format_name == "onnx":
        return native.of_onnx(path, optimise=True, threads=1)
    if format_name == "torch-export" or (format_name == "torch" and trust_pickle):
        return native.of_torch(path, format_name, model, trust_pickle=trust_pickle)
    return None


def reading(
    own: Native,
    seen: Mapping[Case, list[Value]],
    model: Model,
    sampler: Sampler,
    assignment: Assignment,
    *,
    second: bool,
) -> Reading:
    """Compares a file with its structure, written with dense weights and run in onnxruntime, on the ordinary cases.

    Args:
        own: what ran the file.
        seen: case -> outputs that it gave.
        model: what was read from the file.
        sampler: of the inputs.
        assignment: extents of the inputs.
        second: the file is the second of the two that the sampler knows.
    """
    plain = native.written(model, optimise=True, threads=1)
    pairs: list[tuple[Case, list[Value], list[Value]]] = []
    try:
        with plain.opened() as run:
            for case, outputs in seen.items():
                if case.is_ordinary:
                    values = sampler.inputs(assignment, case)
                    with suppress(NotRunnableError):
                        pairs.append((case, outputs, run(sampler.renamed(values) if second else values)))
    except NotRunnableError as error:
        return Reading(own.setting, plain.setting, reason=f"{plain.setting}: {error}")
    if not pairs:
        return Reading(own.setting, plain.setting, reason="there are no inputs on which both run")
    return _compared(own.setting, plain.setting, [info.name for info in model.structure.outputs], pairs)


def _compared(
    file: str, written: str, names: Sequence[str], pairs: Sequence[tuple[Case, list[Value], list[Value]]]
) -> Reading:
    faults = dict.fromkeys(fault for _, a, b in pairs for fault in figures.faults(names, a, b))
    if faults:
        return Reading(file, written, len(pairs), faults=tuple(faults))
    drift = figures.Drift(names)
    equal, one_sided = True, 0
    for case, a, b in pairs:
        found = figures.compared(names, a, b)
        equal, one_sided = equal and found.equal, one_sided + found.one_sided
        if case.is_generic:
            drift.see(a, b)
    gross = drift.gross()
    if one_sided:
        gross.append(f"{one_sided} entries of outputs are NaN or infinite on one side only")
    return Reading(file, written, len(pairs), equal, drift.largest, tuple(gross))
