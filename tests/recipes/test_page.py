"""The page `docs/ci.md`: its commands print what it says, and its files are what their services understand."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from recipes.scratch import ACTION, FILES, PAGE, WORKFLOWS, change, load, run

TRANSCRIPTS = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("transcript", TRANSCRIPTS)
def test_the_commands_of_the_page_print_what_it_says(transcript: str, repository: Path) -> None:
    for step in transcript.split("$ ")[1:]:
        command, _, expected = step.partition("\n")
        done = run(["bash", "-c", command], repository)
        actual = done.stdout + (f"? {done.returncode}\n" if done.returncode else "")
        pattern = "(?:.*\n)*".join(map(re.escape, expected.split("…\n")))
        assert re.fullmatch(pattern, actual), f"{command}\n{actual}"


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ("vendor.github-actions", ACTION),
        *(("vendor.github-workflows", FILES[name]) for name in WORKFLOWS),
        ("vendor.gitlab-ci", FILES[".gitlab-ci.yml"]),
    ],
)
def test_files_follow_the_schemas_of_their_services(schema: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "file.yml").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, "file.yml"]
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stdout


def test_the_workflows_give_the_action_inputs_that_it_has() -> None:
    for name in WORKFLOWS:
        for job in load(FILES[name])["jobs"].values():
            for step in job["steps"]:
                if step.get("uses", "").startswith("OWNER/deepstruct@"):
                    assert set(step.get("with", {})) <= set(load(ACTION)["inputs"])


def test_no_expression_is_pasted_into_a_script() -> None:
    scripts = [step["run"] for step in load(ACTION)["runs"]["steps"] if "run" in step]
    for name in WORKFLOWS:
        for job in load(FILES[name])["jobs"].values():
            scripts += [step["run"] for step in job["steps"] if "run" in step]
            scripts += [step["with"]["script"] for step in job["steps"] if "script" in step.get("with", {})]
    assert len(scripts) == 5
    assert not [script for script in scripts if "${{" in script]


@pytest.mark.parametrize("broken", [False, True])
def test_the_job_for_gitlab_writes_both_reports(broken: bool, repository: Path) -> None:
    job = load(FILES[".gitlab-ci.yml"])["structures"]
    if broken:
        change(repository / "nets" / "digits.structure.json", '"Relu"', '"Rleu"')
    done = run(["bash", "-eo", "pipefail", "-c", "\n".join(job["script"])], repository)
    assert done.returncode == int(broken), done.stdout
    reports = job["artifacts"]["reports"]
    findings = json.loads((repository / reports["codequality"]).read_text(encoding="utf-8"))
    errors = [finding for finding in findings if finding["check_name"] == "UNKNOWN_OPERATOR"]
    assert [finding["location"]["lines"]["begin"] for finding in errors] == [22] * broken
    suite = ElementTree.parse(repository / reports["junit"]).getroot()
    assert len(suite.findall(".//failure")) == broken
