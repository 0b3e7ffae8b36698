"""The conformance kit in tests/conformance: its cases, and positions of JSON values found in another way than ours."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepstruct.limits import Limits
from deepstruct.validation import budget_file
from deepstruct.validation.report import FileReport
from deepstruct.validation.selection import Selection
from deepstruct.validation.validate import validate

FOLDER = Path(__file__).parent.parent / "conformance"
SUFFIX = ".structure.json"


@dataclass(frozen=True)
class Case:
    """One document with faults, and how it is to be looked at."""

    name: str

    @property
    def path(self) -> Path:
        return FOLDER / "invalid" / f"{self.name}{SUFFIX}"

    @property
    def golden(self) -> Path:
        return self.path.with_name(f"{self.name}.report.json")

    @property
    def code(self) -> str:
        return self.name.partition("-")[0]

    @property
    def options(self) -> dict[str, Any]:
        place = self.path.with_name(f"{self.name}.options.json")
        options: dict[str, Any] = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
        return options

    def report(self) -> FileReport:
        options = self.options
        budget = options.get("budget")
        return validate(
            self.path,
            weights=options.get("weights", True),
            selection=Selection(strict=options.get("strict", False)),
            budget=None if budget is None else budget_file.read(self.path.with_name(budget)),
            limits=Limits(**options.get("limits", {})),
        )


CASES = [Case(path.name.removesuffix(SUFFIX)) for path in sorted((FOLDER / "invalid").glob(f"*{SUFFIX}"))]


def golden_text(report: FileReport) -> str:
    """What a golden report says, one fault a line; advice is that of the code and left out."""
    whole = report.to_json()
    faults = [json.dumps({key: value for key, value in fault.items() if key != "advice"}) for fault in whole["faults"]]
    head = json.dumps({"valid": whole["valid"], "counts": whole["counts"], "facts": whole["facts"]})
    return f'{head[:-1]}, "faults": [\n ' + ",\n ".join(faults) + "\n]}\n"


_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[\[\]{}:,]|[^\s\[\]{}:,"]+)', re.DOTALL)


def places(text: str) -> dict[str, tuple[int, int]]:
    """Pointer -> offset of each value and of its key, from the tokens of a text; the last of two members counts."""
    found: dict[str, tuple[int, int]] = {}
    tokens = [(match.start(1), match[1]) for match in _TOKEN.finditer(text)]
    position = 0

    def value(pointer: str, key: int | None) -> None:
        nonlocal position
        start, token = tokens[position]
        found[pointer] = (start, start if key is None else key)
        position += 1
        if token not in "[{":
            return
        number = 0
        while tokens[position][1] not in "]}":
            at, name = tokens[position]
            if token == "{":
                position += 2
                value(f"{pointer}/{json.loads(name).replace('~', '~0').replace('/', '~1')}", at)
            else:
                value(f"{pointer}/{number}", None)
            number += 1
            position += tokens[position][1] == ","
        position += 1

    value("", None)
    return found


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    before = text[:offset].split("\n")
    return len(before), len(before[-1]) + 1
