"""Codes of faults: what each means, how severe it is by default, and what to do about it. The table is `code_table`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from deepstruct.errors import Severity, UsageError, did_you_mean

Kind = Literal["file", "json", "version", "schema", "graph", "mask", "weights", "digest", "limit", "hint", "budget"]
Anchor = Literal["value", "key"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info", "hint")
"""Most severe first."""


@dataclass(frozen=True, slots=True)
class Code:
    """One rule.

    Attributes:
        name: stable, never reused for another rule.
        kind: what the rule is about.
        title: the rule that is broken, in one sentence.
        meaning: why that matters, in a sentence or two.
        advice: what to do, in one sentence.
        severity: by default.
        anchor: whether its place in the text is the value that its pointer leads to, or that value's key.
        fatal: nothing behind it was looked at, so that it can be neither left out nor made less severe.
        section: of `docs/format.md` that has the rule, ``""`` if none has.
    """

    name: str
    kind: Kind
    title: str
    meaning: str
    advice: str
    severity: Severity = "error"
    anchor: Anchor = "value"
    fatal: bool = False
    section: str = ""

    @property
    def link(self) -> str:
        """Where `docs/codes.md` explains it, relative to the documentation."""
        return f"codes.md#{self.name.lower()}"


@cache
def table() -> Mapping[str, Code]:
    """Name -> code, in the order of `docs/codes.md`."""
    from deepstruct.validation.code_table import CODES

    return {code.name: code for code in CODES}


def lookup(name: str) -> Code:
    """The code called `name`.

    Raises:
        UsageError: there is none.
    """
    found = table().get(name.upper())
    if found is None:
        raise UsageError(
            f"no code is called {name!r:.80}{did_you_mean(name.upper(), table())}; `deepstruct explain` lists them all"
        )
    return found
