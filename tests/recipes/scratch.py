"""The recipes of `docs/ci.md`, and scratch repositories to run them in."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from test_cli import environment

from deepstruct import Mask, Model
from deepstruct.testing import feed_forward, with_weights

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
FILES: dict[str, str] = dict(re.findall(r"```(?:yaml|toml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
"""Name -> text of the files that the page shows."""

WORKFLOWS = [name for name in FILES if name.startswith(".github/")]
ACTION = (ROOT / "action.yml").read_text(encoding="utf-8")


def load(text: str) -> Any:
    """What a YAML text means."""
    return YAML(typ="safe").load(text)


def clean() -> dict[str, str]:
    """The environment of people: no variables of git and of the machine that runs this, and deepstruct on the path."""
    names = {name: value for name, value in environment().items() if not re.match("GIT_|GITHUB_|PRE_COMMIT", name)}
    who = {f"GIT_{role}_{what}": "someone" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return {**names, **who, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_PAGER": "cat"}


def run(
    command: Sequence[str | Path], folder: Path, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Standard output and error together, as a log has them."""
    return subprocess.run(
        command,
        cwd=folder,
        env={**clean(), **(more or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def git(folder: Path, *arguments: str | Path) -> str:
    """What git prints; it must not fail."""
    done = run(["git", *arguments], folder)
    assert done.returncode == 0, done.stdout
    return done.stdout.strip()


def commit(folder: Path) -> str:
    """Commits whatever is there; returns the commit."""
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--message", "change")
    return git(folder, "rev-parse", "HEAD")


def digits(*, pruned: bool = False) -> Model:
    """A network of two layers; `pruned`, without the two connections to the second of its outputs."""
    structure = feed_forward((64, 20, 10), 0.1)
    if pruned:
        mask = structure.parameter("fc1.weight").mask
        assert mask is not None
        kept = mask.to_array()
        kept[1] = False
        parameters = (
            replace(p, mask=Mask.from_array(kept)) if p.name == "fc1.weight" else p for p in structure.parameters
        )
        structure = replace(structure, parameters=tuple(parameters))
    return with_weights(structure)


def change(path: Path, old: str, new: str) -> None:
    """Replaces a text that a file has."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
