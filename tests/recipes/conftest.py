"""Repositories that recipes run in, and one that they come from."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from recipes.scratch import FILES, ROOT, commit, digits, git

import deepstruct


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with a document, its weights and a budget; the last commit prunes the document."""
    folder = tmp_path / "repository"
    (folder / "nets").mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    (folder / "budget.toml").write_text(FILES["budget.toml"], encoding="utf-8")
    for pruned in (False, True):
        deepstruct.save(digits(pruned=pruned), folder / "nets" / "digits.structure.json")
        commit(folder)
    return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a service has of this repository."""
    target = tmp_path_factory.mktemp("checkout") / "deepstruct"
    copy(target)
    return target


def copy(target: Path) -> None:
    """A git repository with the files of this one as they are now."""
    target.mkdir()
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    names = [name for name in listed if os.path.lexists(ROOT / name) and name]
    archive = subprocess.run(["tar", "-c", "--", *names], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x"], cwd=target, input=archive, check=True)
    git(target, "init", "--quiet")
    commit(target)
