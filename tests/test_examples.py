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


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60
