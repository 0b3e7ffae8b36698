"""Selection: which faults a caller wants to hear of, and how severe they are to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from deepstruct.errors import Fault, Severity, UsageError
from deepstruct.validation.codes import SEVERITIES, lookup, table

MOST = 1_000
"""Faults of one file that are shown by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a caller wants to hear of.

    Attributes:
        ignore: codes that are left out.
        only: codes that are left in; all if there are none.
        severities: code -> severity instead of the usual one.
        strict: warnings are errors.
        most: faults of one file that are kept, the most severe first; 0 keeps all.
    """

    ignore: frozenset[str] = frozenset()
    only: frozenset[str] = frozenset()
    severities: Mapping[str, Severity] = field(default_factory=dict)
    strict: bool = False
    most: int = MOST

    def __post_init__(self) -> None:
        for member in ("ignore", "only"):
            object.__setattr__(self, member, frozenset(lookup(name).name for name in getattr(self, member)))
        chosen = {lookup(name).name: severity for name, severity in self.severities.items()}
        object.__setattr__(self, "severities", chosen)
        for name, severity in chosen.items():
            if severity not in SEVERITIES:
                raise UsageError(f"{severity!r:.40} is no severity; choose one of {', '.join(SEVERITIES)}")
            if table()[name].fatal and severity != "error":
                raise UsageError(f"{name} stays an error: nothing behind it can be looked at")
        fatal = sorted(name for name in self.ignore if table()[name].fatal)
        if fatal:
            raise UsageError(f"{', '.join(fatal)} cannot be ignored: nothing behind it can be looked at")

    def apply(self, faults: Iterable[Fault]) -> tuple[tuple[Fault, ...], dict[Severity, int]]:
        """The chosen faults in their order, with their severities, and how many of each severity are left out."""
        chosen = [self._judged(fault) for fault in faults if self._wanted(fault)]
        if not self.most or len(chosen) <= self.most:
            return tuple(chosen), {}
        ranked = sorted(range(len(chosen)), key=lambda i: SEVERITIES.index(chosen[i].severity))
        kept = set(ranked[: self.most])
        left_out = Counter(fault.severity for i, fault in enumerate(chosen) if i not in kept)
        return tuple(fault for i, fault in enumerate(chosen) if i in kept), dict(left_out)

    def _wanted(self, fault: Fault) -> bool:
        if table()[fault.code].fatal:
            return True
        return fault.code not in self.ignore and (not self.only or fault.code in self.only)

    def _judged(self, fault: Fault) -> Fault:
        severity = self.severities.get(fault.code, fault.severity)
        if self.strict and severity == "warning":
            severity = "error"
        return fault if severity == fault.severity else replace(fault, severity=severity)
