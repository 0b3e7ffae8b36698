"""The GitHub Action: its steps are installed from a checkout and run as a runner does."""

from __future__ import annotations

import json
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from recipes import scratch
from recipes.scratch import change, digits, load, run
from recipes.steps import Step, perform

import deepstruct

ACTION = load(scratch.ACTION)
INSTALLED = "steps.install.outputs.folder"


@pytest.fixture(scope="module")
def installed(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder into which the action has installed itself, from its own checkout, with the packages that are here."""
    folder = tmp_path_factory.mktemp("action")
    python = folder / "python"
    packages = sysconfig.get_path("purelib")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    python.write_text(
        f'#!/bin/sh\nset -e\n{sys.executable} "$@"\nfor venv in "$@"; do :; done\n'
        f'echo "import sys; sys.path.insert(0, \'{packages}\')" > "$venv/lib/{version}/site-packages/packages.pth"\n',
        encoding="utf-8",
    )
    python.chmod(0o755)
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    known = {"steps.python.outputs.python-path": str(python)}
    (setup, install, _) = ACTION["runs"]["steps"]
    assert setup["id"] == "python"
    (folder / "pip.py").write_text("raise SystemExit('the repository took part')", encoding="utf-8")
    done = perform(install, folder, folder, known, {"GITHUB_ACTION_PATH": str(checkout), **offline})
    assert done.code == 0, done.log
    return done.outputs["folder"]


@pytest.fixture
def action(installed: str, repository: Path, tmp_path: Path) -> Callable[..., Step]:
    """The action, run in the repository."""

    def act(**inputs: str) -> Step:
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        assert set(given) <= set(ACTION["inputs"])
        known = {f"inputs.{name}": given.get(name, facts["default"]) for name, facts in ACTION["inputs"].items()}
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        (folder / "bin").symlink_to(Path(installed) / "bin")
        return perform(ACTION["runs"]["steps"][2], repository, folder, known | {INSTALLED: str(folder)})

    return act


def test_the_action_installs_what_is_checked_out(installed: str, repository: Path) -> None:
    code = "import deepstruct; print(deepstruct.__file__)"
    done = run([Path(installed) / "bin" / "python", "-I", "-c", code], repository)
    assert done.stdout.startswith(installed)


def test_the_action_accepts_a_valid_document(action: Callable[..., Step]) -> None:
    step = action(budget="budget.toml", format_check="true")
    assert (step.code, step.outputs["valid"]) == (0, "true"), step.log
    assert json.loads(Path(step.outputs["report"]).read_text(encoding="utf-8"))["valid"]
    assert {command.name for command in step.commands()} == {"notice"}
    assert step.summary


def test_the_action_annotates_the_line_of_a_fault(action: Callable[..., Step], repository: Path) -> None:
    change(repository / "nets" / "digits.structure.json", '"Relu"', '"Rleu"')
    step = action(paths="nets\n", sarif_file="report.sarif")
    assert (step.code, step.outputs["valid"]) == (1, "false")
    (error,) = step.commands()
    place = {"file": "nets/digits.structure.json", "line": "22", "col": "32"}
    assert (error.name, place.items() <= error.properties.items()) == ("error", True)
    assert error.data.startswith("opset 20 has no operator 'Rleu'; did you mean 'Relu'?")
    assert "UNKNOWN_OPERATOR" in step.summary
    (file,) = json.loads(Path(step.outputs["report"]).read_text(encoding="utf-8"))["files"]
    assert [fault["line"] for fault in file["faults"]] == [22]
    (sarif,) = json.loads((repository / "report.sarif").read_text(encoding="utf-8"))["runs"]
    assert [result["ruleId"] for result in sarif["results"]] == ["UNKNOWN_OPERATOR"]


def test_the_action_says_that_there_is_nothing_to_validate(action: Callable[..., Step], repository: Path) -> None:
    (repository / "empty").mkdir()
    step = action(paths="empty", format_check="true")
    assert (step.code, step.outputs) == (2, {"valid": "false"})
    assert "empty: there is no *.structure.json in this folder or below" in step.log
    assert [command.data for command in step.commands()] == ["Exit code 2; the log of this step says why."]


def test_the_action_finds_text_that_is_not_canonical(action: Callable[..., Step], repository: Path) -> None:
    change(repository / "nets" / "digits.structure.json", '"format": "deepstruct",\n', '"format":"deepstruct",')
    step = action()
    assert (step.code, step.outputs["valid"]) == (0, "true"), step.log
    step = action(format_check="true")
    assert (step.code, step.outputs["valid"]) == (1, "true")
    assert "would format nets/digits.structure.json" in step.log
    assert step.commands()[-1].properties == {"title": "deepstruct format"}


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ({}, 0),
        ({"arguments": "--severity=DEAD_UNITS=warning"}, 0),
        ({"arguments": "--severity=DEAD_UNITS=warning", "strict": "true"}, 1),
        ({"arguments": "--severity=DEAD_UNITS=error\n--ignore=DEAD_UNITS\n"}, 0),
        ({"arguments": "--no-such-option"}, 2),
        ({"budget": "missing.toml"}, 3),
        ({"strict": "yes"}, 2),
        ({"format_check": ""}, 2),
        ({"paths": ""}, 2),
        ({"sarif_file": "missing/report.sarif"}, 7),
    ],
)
def test_inputs_of_the_action(inputs: dict[str, str], code: int, action: Callable[..., Step]) -> None:
    step = action(**inputs)
    assert step.code == code, step.log
    assert code <= 1 or "error" in {command.name for command in step.commands()}


def test_the_action_looks_at_weights_unless_told_otherwise(action: Callable[..., Step], repository: Path) -> None:
    (repository / "nets" / "digits.safetensors").unlink()
    assert action().code == 1
    assert action(no_weights="true").code == 0


def test_no_input_of_the_action_is_executed(action: Callable[..., Step], repository: Path) -> None:
    odd = "$(touch made) `touch made`; touch made #'\" && *"
    folder = repository / odd
    folder.mkdir()
    deepstruct.save(digits(), folder / "a.structure.json")
    step = action(paths=odd)
    assert step.code == 0, step.log
    (file,) = json.loads(Path(step.outputs["report"]).read_text(encoding="utf-8"))["files"]
    assert file["path"] == f"{odd}/a.structure.json"
    for name in ("strict", "budget", "arguments", "sarif_file"):
        action(**{name: '"; touch made; $(touch made)'})
    assert action(paths="--help").code == 3
    assert not list(repository.rglob("made"))


def test_documents_give_no_commands_to_the_runner(action: Callable[..., Step], repository: Path) -> None:
    odd = "::add-mask::a ##[add-mask]b\n::add-mask::c"
    path = repository / f"{odd}.structure.json"
    text = (repository / "nets" / "digits.structure.json").read_text(encoding="utf-8")
    path.write_text(text.replace('"Relu"', json.dumps(odd)), encoding="utf-8")
    step = action(paths=".", format_check="true", arguments="--ignore=DEAD_UNITS")
    assert step.code == 1
    assert {command.name for command in step.commands()} == {"error"}
