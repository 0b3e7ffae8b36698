"""Tier 4: whole files run in their own runtimes, from end to end; the figures inform, only gross faults fail."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from deepstruct.verification import figures, native
from deepstruct.verification.extents import Assignment, CannotSampleError
from deepstruct.verification.figures import Figures
from deepstruct.verification.native import Native, Run
from deepstruct.verification.reading import Reading, own_native, reading
from deepstruct.verification.runtimes import NotRunnableError, Value
from deepstruct.verification.sampling import Case, Sampler

if TYPE_CHECKING:
    from deepstruct.verification.verify import Source


@dataclass(frozen=True)
class Comparison:
    """One case in two settings.

    Attributes:
        case: what the files were run on.
        first: setting of the first file to which the other is compared.
        other: file and setting that is compared.
        figures: how far the outputs are apart; None if they have other types or shapes.
        spoiled: outputs with NaN or infinity, of the first and of the other, for a lane of those.
    """

    case: Case
    first: str
    other: str
    figures: Figures | None
    spoiled: tuple[tuple[str, ...], tuple[str, ...]] | None = None

    def to_json(self) -> dict[str, Any]:
        """The comparison as a JSON object."""
        content = {
            "case": self.case.to_json(),
            "first": self.first,
            "other": self.other,
            "figures": None if self.figures is None else self.figures.to_json(),
        }
        if self.spoiled is not None:
            ours, theirs = self.spoiled
            content["spoiled"] = {"first": list(ours), "other": list(theirs), "agree": ours == theirs}
        return content


@dataclass(frozen=True)
class Failure:
    """A case, or all of them, that a setting cannot run.

    Attributes:
        setting: file and setting.
        case: None if the file cannot even be opened.
        reason: of the runtime.
    """

    setting: str
    case: Case | None
    reason: str

    def to_json(self) -> dict[str, Any]:
        """The failure as a JSON object."""
        return {
            "setting": self.setting,
            "case": None if self.case is None else self.case.to_json(),
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Outputs:
    """What running two files has shown.

    Attributes:
        verdict: ``failed`` if there are faults, ``not run`` if nothing can be said.
        reason: why the tier did not run.
        seed: of the inputs.
        extents: of the inputs; None if none were found.
        settings: file and setting of everything that ran.
        comparisons: case by case.
        failures: what could not be run, and why.
        faults: sentences that say why the two are different.
        readings: whether each file computes what was read from it.
        gross: sentences about differences that rounding does not explain. They are no faults by themselves, because
            equal networks of many layers could come to that.
        notes: sentences about files that only another runtime than their own can run.
    """

    verdict: Literal["passed", "failed", "not run"]
    reason: str = ""
    seed: int = 0
    extents: Assignment | None = None
    settings: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    failures: tuple[Failure, ...] = ()
    faults: tuple[str, ...] = ()
    readings: tuple[Reading, ...] = ()
    gross: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def disagree(self) -> bool:
        """Whether the outputs differ by more than rounding explains."""
        return bool(self.gross)

    @property
    def summary(self) -> str:
        """The figures of the ordinary cases, in one line."""
        found = [c.figures for c in self.comparisons if c.figures is not None and c.case.is_ordinary]
        cases = len({comparison.case for comparison in self.comparisons})
        text = f"{cases} cases in {len(self.settings)} settings"
        if not found:
            return text
        if all(figure.equal for figure in found):
            return f"{text}, bitwise the same on all ordinary ones"
        ulps = [figure.max_ulp for figure in found if figure.max_ulp is not None]
        shares = [figure.top1 for figure in found if figure.top1 is not None]
        text += f"; largest difference {max(figure.max_relative for figure in found):.2g} of an output's largest number"
        text += f", {max(ulps):,} ULP" if ulps else ""
        return text + (f", top-1 the same in {100 * min(shares):.4g} %" if shares else "")

    def to_json(self) -> dict[str, Any]:
        """The findings as a JSON object."""
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "summary": self.summary,
            "seed": self.seed,
            "extents": None if self.extents is None else self.extents.to_json(),
            "settings": list(self.settings),
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "failures": [failure.to_json() for failure in self.failures],
            "faults": list(self.faults),
            "readings": [reading.to_json() for reading in self.readings],
            "gross": list(self.gross),
            "notes": list(self.notes),
        }


def natives(source: Source) -> tuple[Native, ...]:
    """The settings that a file is run in; that which was rounded stands for the file."""
    if source.is_cast:
        return native.of_document(source.model)
    return native.of_file(source.path, source.row.name, source.model, trust_pickle=source.trust_pickle)


def check(a: Source, b: Source, sampler: Sampler, assignment: Assignment) -> Outputs:
    """The whole tier: both files in all settings, and each compared with what was read from it.

    Args:
        a: the first file.
        b: the second.
        sampler: of the inputs.
        assignment: extents of the inputs; see `choose`.
    """
    names = tuple(info.name for info in a.model.structure.outputs)
    runs = Runs(sampler, assignment, names, is_large=native.is_large(a.model))
    runs.go(natives(a), natives(b))
    readings: list[Reading] = []
    for side, source in (("A", a), ("B", b)):
        own = own_native(source.path, source.row.name, source.model, trust_pickle=source.trust_pickle)
        if own is not None and not source.is_cast:
            seen = runs.seen.get(f"{side}: {own.setting}", {})
            readings.append(reading(own, seen, source.model, sampler, assignment, second=side == "B"))
    found = runs.result()
    misread = [
        f"{r.file} does not compute what was read from the file: {fault}" for r in readings for fault in r.faults
    ]
    faults = _elsewhere(a, b, sampler, assignment)
    if faults:
        found = replace(found, verdict="failed", faults=(*found.faults, *faults))
    if misread:
        found = replace(found, verdict="failed", faults=(*misread, *found.faults))
    return replace(found, readings=tuple(readings))


def _elsewhere(a: Source, b: Source, sampler: Sampler, assignment: Assignment) -> tuple[str, ...]:
    """Why two files differ on other extents than those that were computed on, where the inputs leave some open."""
    others = [other for other in sampler.candidates() if other != assignment]
    names = tuple(info.name for info in a.model.structure.outputs)
    settings = [next(one for one in natives(source) if not one.is_spare) for source in (a, b)]
    alone: dict[str, list[str]] = {"first": [], "second": []}
    with contextlib.suppress(NotRunnableError):
        if not others:
            return ()
        with settings[0].opened() as first, settings[1].opened() as second:
            for other in others:
                case = sampler.cases(other)[0]
                given: dict[str, list[Value]] = {}
                for which, run in (("first", first), ("second", second)):
                    with contextlib.suppress(NotRunnableError):
                        given[which] = _run(sampler, other, case, run, second=which == "second")
                where = f"{case}, extents {other.to_json()}"
                if len(given) == 2:
                    return tuple(f"{fault} ({where})" for fault in figures.faults(names, *given.values()))
                for which in given:
                    alone[which].append(where)
    return tuple(
        f"only the {which} file runs on other extents than {assignment.to_json()}, for example {places[0]}"
        for which, places in alone.items()
        if len(places) > 1
    )


def choose(sampler: Sampler, a: Sequence[Native], b: Sequence[Native]) -> Assignment:
    """The first extents with which both files run, else those with which the first one does.

    A file that cannot be opened has no say; without any that can, the likeliest extents are taken. Nothing is run where
    there is no choice.

    Args:
        sampler: of the inputs.
        a: settings of the first file.
        b: settings of the second.

    Raises:
        CannotSampleError: a file can be opened, but runs with none of the extents; the first reason is given.
    """
    candidates = sampler.candidates()
    if len(candidates) == 1:
        return candidates[0]
    ours = _first_fitting(sampler, a, candidates, "first")
    likeliest = (ours, *(other for other in candidates if other != ours)) if ours is not None else candidates
    theirs = _first_fitting(sampler, b, likeliest, "second", must_run=ours is None)
    if ours is None or theirs is None or theirs == ours:
        return ours or theirs or candidates[0]
    return _first_fitting(sampler, a, (theirs,), "first", must_run=False) or ours


def _first_fitting(
    sampler: Sampler, settings: Sequence[Native], candidates: Sequence[Assignment], which: str, *, must_run: bool = True
) -> Assignment | None:
    """The first extents with which a file gives outputs that are not empty, else the first with which it runs."""
    reasons: list[str] = []
    empty: list[Assignment] = []
    for one in settings:
        try:
            with one.opened() as run:
                for assignment in candidates:
                    case = sampler.cases(assignment)[0]
                    try:
                        outputs = _run(sampler, assignment, case, run, second=which == "second")
                    except NotRunnableError as error:
                        reasons.append(str(error))
                        continue
                    if any(not isinstance(value, np.ndarray) or value.size for value in outputs):
                        return assignment
                    empty.append(assignment)
        except NotRunnableError:
            continue
        if not one.is_spare:
            break
    if reasons and not empty and must_run:
        why = f"the {which} file runs with none of the input shapes that were tried ({reasons[0]})"
        raise CannotSampleError(f"{why}; --input-shape NAME=N,... or --inputs FILE says what fits")
    return empty[0] if empty else None


def _run(sampler: Sampler, assignment: Assignment, case: Case, run: Run, *, second: bool) -> list[Value]:
    values = sampler.inputs(assignment, case)
    return run(sampler.renamed(values) if second else values)


_WHICH = {"A": "first", "B": "second"}


class Runs:
    """What has been seen so far."""

    def __init__(self, sampler: Sampler, assignment: Assignment, names: tuple[str, ...], *, is_large: bool) -> None:
        """Nothing has run yet.

        Args:
            sampler: of the inputs.
            assignment: extents of the inputs.
            names: of the outputs, in the first network.
            is_large: run fewer cases.
        """
        cases = sampler.cases(assignment)
        if is_large:
            kinds = ("given", "ones", "cancellation")
            cases = tuple(c for c in cases if c.kind in kinds or (c.kind == "normal" and c.batch in (1, 2)))
        self.cases = cases
        self.seen: dict[str, dict[Case, list[Value]]] = {}
        self.first: dict[Case, tuple[str, list[Value]]] = {}
        self._sampler = sampler
        self._assignment = assignment
        self._names = names
        self._settings: list[str] = []
        self._comparisons: list[Comparison] = []
        self._failures: list[Failure] = []
        self._faults: dict[str, str] = {}
        self._drift, self._drift_of_large = figures.Drift(names), figures.Drift(names)
        self._ran: dict[str, set[Case]] = {"A": set(), "B": set()}
        self._opened: set[str] = set()

    def go(self, a: Sequence[Native], b: Sequence[Native]) -> None:
        """Runs both files on every case and compares all settings with the first setting of the first file.

        One file is open at a time. Cases that are not ordinary are run in the first setting of the first file, and in
        the first and the last one of the second.

        Args:
            a: settings of the first file.
            b: settings of the second.
        """
        for one in a:
            self._add("A", one, [case for case in self.cases if case.is_ordinary or case not in self.first])
        last = max((number for number, one in enumerate(b) if not one.is_spare), default=0)
        for number, one in enumerate(b):
            everything = number in (0, last) or one.is_spare
            self._add("B", one, [case for case in self.cases if everything or case.is_ordinary])

    def _add(self, side: str, one: Native, cases: Sequence[Case]) -> None:
        """Runs one side in one setting, unless that is a spare one and another one has done."""
        if one.is_spare and (side in self._opened or self._ran[side]):
            return
        setting = f"{side}: {one.setting}"
        try:
            with one.opened() as run:
                if not one.is_spare:
                    self._opened.add(side)
                self._settings.append(setting)
                for case in cases:
                    try:
                        outputs = _run(self._sampler, self._assignment, case, run, second=side == "B")
                    except NotRunnableError as error:
                        self._failures.append(Failure(setting, case, str(error)))
                        continue
                    self._ran[side].add(case)
                    self.seen.setdefault(setting, {})[case] = outputs
                    self._see(side, setting, case, outputs)
        except NotRunnableError as error:
            self._failures.append(Failure(setting, None, str(error)))

    def _see(self, side: str, setting: str, case: Case, outputs: list[Value]) -> None:
        if case not in self.first:
            if side == "A":
                self.first[case] = setting, outputs
            return
        first, expected = self.first[case]
        faults = figures.faults(self._names, expected, outputs)
        found = None if faults else figures.compared(self._names, expected, outputs)
        if found is not None and side == "B" and (case.is_generic or case.kind == "large"):
            (self._drift if case.is_generic else self._drift_of_large).see(expected, outputs)
        if case.is_ordinary:
            if found is not None and found.one_sided:
                fault = f"{found.one_sided} entries are NaN or infinite on one side only"
                self._faults.setdefault(setting, f"{fault} ({case}; {first}; {setting})")
            for fault in faults:
                self._faults.setdefault(fault, f"{fault} ({case}; {first}; {setting})")
        spoiled = None
        if case.kind in ("nan-lane", "inf-lane"):
            spoiled = self._spoiled(expected), self._spoiled(outputs)
        self._comparisons.append(Comparison(case, first, setting, found, spoiled))

    def _spoiled(self, outputs: Sequence[Value]) -> tuple[str, ...]:
        """Names of the outputs that have entries which are no finite numbers."""
        pairs = zip(self._names, outputs, strict=False)
        return tuple(
            name
            for name, value in pairs
            if isinstance(value, np.ndarray)
            and figures.is_float(value)
            and not np.isfinite(figures.as_float64(value)).all()
        )

    def result(self) -> Outputs:
        """What all of it comes to."""
        obstacles = [
            f"no setting can run the {which} file: {self._reason(side, None)}"
            for side, which in _WHICH.items()
            if side not in self._opened and not self._ran[side]
        ]
        ordinary = [case for case in self.cases if case.is_ordinary]
        for case in ordinary:
            lacking = [side for side in _WHICH if case not in self._ran[side]]
            if len(lacking) == 1 and lacking[0] in self._opened:
                fault = f"only the {_WHICH[lacking[0]]} file cannot be run"
                reason = self._reason(lacking[0], case)
                self._faults.setdefault(f"{fault}: {reason}", f"{fault} on {case}: {reason}")
        if not obstacles and not any(case in self._ran["A"] and case in self._ran["B"] for case in ordinary):
            obstacles.append(f"there are no inputs on which both files run: {self._reason('A', None)}")
        notes = [
            f"no runtime of its own opens the {which} file ({self._reason(side, None)}); another one stands in"
            for side, which in _WHICH.items()
            if side not in self._opened and self._ran[side]
        ]
        verdict: Literal["passed", "failed", "not run"] = "not run" if obstacles else "passed"
        return Outputs(
            "failed" if self._faults else verdict,
            "; ".join(obstacles),
            seed=self._sampler.seed,
            extents=self._assignment,
            settings=tuple(self._settings),
            comparisons=tuple(self._comparisons),
            failures=tuple(self._failures),
            faults=tuple(self._faults.values()),
            gross=(*self._drift.gross(), *self._drift_of_large.gross()),
            notes=tuple(notes),
        )

    def _reason(self, side: str, case: Case | None) -> str:
        """The first reason why a side failed on a case, or at all."""
        found = (f for f in self._failures if f.setting.startswith(side) and case in (None, f.case))
        return next((failure.reason for failure in found), "it has no way to run")
