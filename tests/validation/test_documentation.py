"""docs/validation.md and docs/codes.md are true: what they show runs, what they list is all there is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import generate_codes
from test_cli import environment
from validation.kit import FOLDER

import deepstruct
from deepstruct import cli_validate
from deepstruct.testing import feed_forward, with_weights
from deepstruct.validation.budget import Budget, ParameterBudget
from deepstruct.validation.codes import table

TEXT = (Path(__file__).parents[2] / "docs" / "validation.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_transcript_is_what_the_commands_print(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "invalid" / "UNKNOWN_OPERATOR-misspelt.structure.json", tmp_path / "wrong.structure.json")
    (transcript,) = blocks("console")
    seen = []
    for line in transcript.splitlines():
        if line.startswith("$ "):
            command = ["bash", "-c", f"exec 2>&1; {line[2:]}"]
            options = {"cwd": tmp_path, "env": environment()}
            result = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]  # a dict of options
            seen += [line, *result.stdout.splitlines(), *([f"? {result.returncode}"] if result.returncode else [])]
    assert "\n".join(seen) + "\n" == transcript


def test_the_example_runs(tmp_path: Path) -> None:
    deepstruct.save(with_weights(feed_forward()), tmp_path / "net.structure.json")
    (code,) = blocks("python")
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "BUDGET_NNZ connections: 25; the budget allows 10" in result.stdout


def test_every_limit_of_a_budget_is_listed() -> None:
    names = {field.name for kind in (Budget, ParameterBudget) for field in fields(kind)} - {"parameters"}
    rows = re.findall(r"^\| (`[^|]*) \|", TEXT.partition("## Budgets")[2], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == names
    assert {code.name for code in table().values() if code.kind == "budget"} <= set(re.findall(r"BUDGET_\w+", TEXT))


def test_every_option_and_form_is_listed() -> None:
    listed = set(re.findall(r"`(--[a-z-]+)", TEXT))
    assert {
        option for param in cli_validate.validate.params for option in param.opts if option.startswith("--")
    } <= listed
    forms = TEXT.partition("## Forms")[2].partition("## Budgets")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", forms, re.MULTILINE)) == cli_validate.FORMS


def test_the_page_of_codes_is_generated() -> None:
    assert generate_codes.TARGET.read_text(encoding="utf-8") == generate_codes.text()


def test_every_section_that_a_code_names_exists() -> None:
    text = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
    anchors = {line.lower().replace(" ", "-") for line in re.findall(r"^##+ (.*)$", text, re.MULTILINE)}
    assert {code.section for code in table().values()} - {""} <= anchors
