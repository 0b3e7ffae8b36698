"""Examples run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_demo_does_the_main_job(tmp_path: Path) -> None:
    script = [sys.executable, str(EXAMPLES / "demo.py"), str(tmp_path)]
    result = subprocess.run(script, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "masks and kept weights bitwise equal all the way round: True" in result.stdout
    accuracies = [float(share) for share in re.findall(r"test accuracy ([\d.]+)%", result.stdout)]
    assert min(accuracies) > 97
    assert accuracies[-1] > accuracies[0] - 1.5
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.pt",
        "digits.structure.json",
        "digits.safetensors",
        "digits.onnx",
        "back.pt",
    }


def run(name: str, folder: Path) -> str:
    """What an example prints."""
    script = [sys.executable, str(EXAMPLES / name), str(folder)]
    result = subprocess.run(script, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_checkpoint_of_the_older_library_goes_on_living(tmp_path: Path) -> None:
    output = run("switching.py", tmp_path)
    assert "outputs as before: True" in output
    assert "MaskedDeepDAN after pruning" in output
    assert min(float(share) for share in re.findall(r"accuracy ([\d.]+)%", output)) > 94
    edges = re.search(r"(\d+) of (\d+) edges", output)
    assert edges is not None
    assert int(edges[1]) < int(edges[2])


def test_a_lottery_ticket_is_found(tmp_path: Path) -> None:
    output = run("lottery_ticket.py", tmp_path)
    assert min(float(share) for share in re.findall(r"(?:accuracy|again:|weights:) ([\d.]+)%", output)) > 92
    assert {path.name for path in tmp_path.iterdir()} == {"ticket.pt", "ticket.structure.json"}


def test_a_pruned_convolutional_network_is_small_and_right(tmp_path: Path) -> None:
    output = run("pruned_convnet.py", tmp_path)
    first, second = (float(share) for share in re.findall(r"(?:torch|onnxruntime) ([\d.]+)%", output))
    assert first == second > 96
    assert (tmp_path / "convnet.onnx").stat().st_size < 12_000


def test_graphs_of_three_kinds_learn_and_are_measured(tmp_path: Path) -> None:
    output = run("small_world.py", tmp_path)
    rows = [re.split(r"  +", line) for line in output.splitlines()[2:]]
    assert [row[0] for row in rows] == ["small-world", "scale-free", "random"]
    assert min(float(row[-1].rstrip("%")) for row in rows) > 94
    small_world, scale_free, random = (
        dict(zip(("inputs", "path", "clustering", "sigma"), map(float, row[3:7]), strict=True)) for row in rows
    )
    assert small_world["sigma"] > scale_free["sigma"] > 1.5 > random["sigma"] > 0.5
    assert scale_free["inputs"] > 2 * random["inputs"]
    assert {path.name for path in tmp_path.iterdir()} == {f"{row[0]}.structure.json" for row in rows}


def test_the_three_orders_of_a_network_become_a_picture(tmp_path: Path) -> None:
    run("three_orders.py", tmp_path / "orders.png")
    picture = (tmp_path / "orders.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 50_000


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60
