"""The command as people see it: transcripts in tests/cli, with standard error and exit codes.

Each transcript runs in a folder of its own with the files that `scene` makes. A line ``$ command`` is followed by
what it prints, standard error included, and by ``? code`` if it does not exit with 0. Refresh with ``--accept``.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import deepstruct
from deepstruct import cli, running
from deepstruct.sparse import MaskedDeepFFN, maskable_layers
from deepstruct.testing import feed_forward, with_weights

TRANSCRIPTS = sorted((Path(__file__).parent / "cli").glob("*.md"))


def environment() -> dict[str, str]:
    folder = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100"}


def scene(folder: Path) -> None:
    """The files that transcripts use."""
    torch.manual_seed(0)
    model = MaskedDeepFFN(6, 4, [8, 5])
    for layer in maskable_layers(model):
        layer.mask = torch.arange(layer.weight.numel()).view_as(layer.weight) % 3 == 0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.arange(parameter.numel()).view_as(parameter) / 8)
    model.apply_mask()
    deepstruct.save(model, folder / "model.pt")
    deepstruct.save(model, folder / "net.structure.json")
    plain = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4))
    torch.save(plain.state_dict(), folder / "plain.pt")
    torch.save(plain, folder / "pickled.pt")
    text = (folder / "net.structure.json").read_text(encoding="utf-8")
    (folder / "broken.structure.json").write_text(text[:700], encoding="utf-8")
    (folder / "wrong.structure.json").write_text(
        text.replace('"Relu"', '"Rleu"').replace('"transB": 1', '"transC": 1', 1), encoding="utf-8"
    )
    (folder / "binary.json").write_bytes(b"\x80\x81\x82")
    (folder / "folder").mkdir()
    model._layer_first[0, 0] = False
    model._layer_first[0, 1] = True
    model.apply_mask()
    deepstruct.save(model, folder / "other.pt")


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcripts(path: Path, tmp_path: Path, accept: bool) -> None:
    scene(tmp_path)
    text = path.read_text(encoding="utf-8")
    seen = []
    for line in text.splitlines():
        if not line.startswith("$ "):
            continue
        result = subprocess.run(
            ["bash", "-c", f"exec 2>&1; {line[2:]}"],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        seen += [line, *result.stdout.splitlines()]
        if result.returncode:
            seen.append(f"? {result.returncode}")
    title = text.partition("```")[0]
    actual = f"{title}```console\n" + "\n".join(seen) + "\n```\n"
    if accept:
        path.write_text(actual, encoding="utf-8")
    assert actual == text


def test_every_command_has_help_and_a_summary() -> None:
    for name, command in cli.cli.commands.items():
        result = CliRunner().invoke(cli.cli, [name, "--help"])
        assert result.exit_code == 0
        assert command.get_short_help_str(limit=200).endswith(".")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    result = CliRunner().invoke(cli.cli, ["completion", shell])
    assert "_DEEPSTRUCT_COMPLETE" in result.output


def test_completion_completes() -> None:
    variables = {"_DEEPSTRUCT_COMPLETE": "bash_complete", "COMP_WORDS": "deepstruct con", "COMP_CWORD": "1"}
    result = subprocess.run(
        ["deepstruct"], env={**environment(), **variables}, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "plain,convert"


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    result = subprocess.run(
        ["bash", "-c", "set -o pipefail; deepstruct schema | head -c 1"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "{", "")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    source, target = tmp_path / "source.structure.json", tmp_path / "target.structure.json"
    deepstruct.save(with_weights(feed_forward((2000, 2001, 2002), 0.5)), source)
    deepstruct.save(with_weights(feed_forward()), target)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    process = subprocess.Popen(
        ["deepstruct", "convert", str(source), str(target), "--force"],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while not list(tmp_path.glob(".*.tmp")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.001)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (130, 143)
    assert "Traceback" not in errors
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", ["structure.json", "pt", "onnx"])
def test_a_full_disk_changes_nothing(tmp_path: Path, suffix: str) -> None:
    source, target = tmp_path / "source.structure.json", tmp_path / f"target.{suffix}"
    deepstruct.save(with_weights(feed_forward((200, 300), 0.5)), source)
    deepstruct.save(with_weights(feed_forward()), target)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    limited = f"ulimit -f 8; trap '' XFSZ; exec deepstruct convert {source} {target} --force"
    result = subprocess.run(["bash", "-c", limited], env=environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 7, result.stderr
    assert re.fullmatch(
        r"error: .*: the file would be larger than the system allows; nothing was changed\n", result.stderr
    )
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_bugs_are_told_apart_from_errors(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def bug() -> None:
        raise RuntimeError("unexpected")

    assert running.run(bug, debug=False) == 70
    assert "a bug in deepstruct (RuntimeError: unexpected)" in capsys.readouterr().err
    assert running.run(bug, debug=True) == 70
    assert "Traceback" in capsys.readouterr().err


def shell(script: str, folder: Path) -> tuple[int, str]:
    """Exit code and standard error of a line of bash."""
    result = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=60
    )
    return result.returncode, result.stderr


@pytest.mark.parametrize(
    ("script", "code", "message"),
    [
        ("deepstruct schema > /dev/full", 7, "error: standard output cannot be written: No space left on device\n"),
        ("deepstruct --help > /dev/full", 7, "error: standard output cannot be written: No space left on device\n"),
        ("deepstruct info missing 2> /dev/full", 3, ""),
        ("deepstruct schema >&-", 0, ""),
        ("deepstruct info - <&-", 4, "standard input: unknown format"),
        ("mkfifo pipe; deepstruct info pipe", 3, "pipe: is no regular file"),
        ("deepstruct info ''", 2, "an empty name is no file"),
        ("deepstruct diff - - < /dev/null", 2, "only one of the two"),
        ("deepstruct migrate -", 2, "name a file"),
        ("DEEPSTRUCT_MAX_DEPTH=no deepstruct validate x", 2, "is not a positive integer"),
    ],
)
def test_streams_and_names_in_trouble(script: str, code: int, message: str, tmp_path: Path) -> None:
    returned, errors = shell(script, tmp_path)
    assert returned == code, errors
    assert message in errors
    assert "Traceback" not in errors


def test_a_pipe_closed_before_anything_is_written(tmp_path: Path) -> None:
    deepstruct.save(with_weights(feed_forward()), tmp_path / "a.structure.json")
    script = "deepstruct diff a.structure.json a.structure.json | true; exit ${PIPESTATUS[0]}"
    assert shell(script, tmp_path) == (0, "")
