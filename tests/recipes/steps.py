"""Steps of GitHub's workflows, run as a runner runs them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ci_logs import Command, commands
from recipes.scratch import run


@dataclass(frozen=True)
class Step:
    """What a runner sees of a step: exit code, log, outputs and job summary."""

    code: int
    log: str
    outputs: dict[str, str]
    summary: str

    def commands(self) -> list[Command]:
        """The commands that a runner obeys: all but those between stop and resume."""
        return commands(re.sub(r"^::stop-commands::(\w+)\n(?s:.*?)^::\1::\n", "", self.log, flags=re.MULTILINE))


def perform(
    step: Mapping[str, Any],
    folder: Path,
    temporary: Path,
    known: Mapping[str, str],
    more: Mapping[str, str] | None = None,
) -> Step:
    """Runs the script of a step as a runner does.

    Args:
        step: as the file of the workflow or action has it.
        folder: of the repository.
        temporary: the runner's own folder.
        known: values of expressions; there must be no others.
        more: environment variables.
    """

    def value(text: str) -> str:
        return re.sub(r"\$\{\{ ([\w.-]+) \}\}", lambda match: known[match[1]], text)

    files = {name: temporary / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "script.sh")}
    for path in files.values():
        path.write_text("", encoding="utf-8")
    files["script.sh"].write_text(step["run"], encoding="utf-8")
    variables = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(files["GITHUB_OUTPUT"]),
        "GITHUB_STEP_SUMMARY": str(files["GITHUB_STEP_SUMMARY"]),
        "GITHUB_WORKSPACE": str(folder),
        "RUNNER_TEMP": str(temporary),
        **{name: value(text) for name, text in step.get("env", {}).items()},
        **(more or {}),
    }
    done = run(["bash", "--noprofile", "--norc", "-eo", "pipefail", files["script.sh"]], folder, variables)
    lines = files["GITHUB_OUTPUT"].read_text(encoding="utf-8").splitlines()
    summary = files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8")
    return Step(done.returncode, done.stdout, dict(line.split("=", 1) for line in lines), summary)
