"""The hooks for pre-commit, which builds an environment for them and runs them in a scratch repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from recipes.scratch import FILES, change, commit, git, run


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips if pip cannot download anything."""
    command = [
        "pip",
        "download",
        "--no-deps",
        "--no-cache-dir",
        "--retries",
        "0",
        "--timeout",
        "20",
        "packaging",
    ]
    done = run(command, tmp_path_factory.mktemp("registry"))
    if done.returncode:
        pytest.skip(
            f"pre-commit builds an environment with pip, which reaches no package registry: {done.stdout[-300:]}"
        )


def test_the_hooks_of_pre_commit(registry: None, checkout: Path, repository: Path, tmp_path: Path) -> None:
    def hook(*arguments: str) -> tuple[int, str]:
        done = run(["pre-commit", "run", *arguments], repository, {"PRE_COMMIT_HOME": str(tmp_path / "home")})
        return done.returncode, done.stdout

    git(checkout, "tag", "v1.0.0")
    name = ".pre-commit-config.yaml"
    configuration = FILES[name].replace("https://github.com/OWNER/deepstruct", checkout.as_uri())
    (repository / name).write_text(configuration, encoding="utf-8")
    (repository / "other.json").write_text("no document", encoding="utf-8")
    commit(repository)
    path = repository / "nets" / "digits.structure.json"
    good = path.read_text(encoding="utf-8")

    code, log = hook("--all-files", "--verbose")
    assert code == 0, log
    assert log.count("Passed") == 2
    assert "other.json" not in log
    (site,) = (tmp_path / "home").glob("repo*/py_env*/lib/python*/site-packages")
    assert (site / "deepstruct").is_dir()
    assert not {"torch", "onnx", "onnxruntime", "scipy"} & {package.name for package in site.iterdir()}

    path.write_text(json.dumps(json.loads(good)), encoding="utf-8")
    code, log = hook("--all-files")
    assert code == 1
    assert "formatted nets/digits.structure.json" in log
    assert path.read_text(encoding="utf-8") == good
    assert hook("--all-files")[0] == 0

    change(path, '"Relu"', '"Rleu"')
    git(repository, "add", "--all")
    code, log = hook()
    assert code == 1
    assert "nets/digits.structure.json:22:32: error: opset 20 has no operator 'Rleu'" in log

    git(repository, "reset", "--quiet", "--hard")
    (repository / "other.json").write_text("still no document", encoding="utf-8")
    git(repository, "add", "--all")
    code, log = hook()
    assert (code, log.count("Skipped")) == (0, 2)
