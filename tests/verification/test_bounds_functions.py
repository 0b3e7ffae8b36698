"""The constants of the rounding bounds of functions, measured on dense sweeps; the documentation has the figures."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from verification.bound_runtimes import Array, Subject, by_onnxruntime, by_torch

from deepstruct.verification.bounds import Bound, bounds, judge
from deepstruct.verification.bounds_accuracy import FUNCTIONS

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

PAGE = Path(__file__).parents[2] / "docs" / "verification.md"
HEAD = (
    "| operator | relative | absolute | per input | torch | onnxruntime | onnxruntime, double |\n"
    "|---|---|---|---|---|---|---|\n"
)
MEASURED = (
    ("torch", "float32"),
    ("onnxruntime", "float32"),
    ("onnxruntime", "float64"),
)  # the centre is torch's float64
FORMS: dict[str, tuple[dict[str, Any], ...]] = {
    "Gelu": ({}, {"approximate": "tanh"}),
    "Elu": ({}, {"alpha": 2.5}),
    "Celu": ({}, {"alpha": 0.3}),
}
INSIDE = {"Acos": (-1, 1), "Asin": (-1, 1), "Atanh": (-1, 1), "Acosh": (1, np.inf), "Log": (0, np.inf)}


@functools.cache
def sweep(dtype: str) -> Array:
    """Numbers of all magnitudes and signs, and many where functions bend."""
    info = np.finfo(dtype)
    small = np.geomspace(float(info.smallest_subnormal), 1e-3, 1000)
    usual, large = np.geomspace(1e-6, 1e6, 12000), np.geomspace(1e6, float(info.max), 1000)
    magnitudes = np.concatenate([small, usual, large])
    dense = [np.linspace(-top, top, 12001) for top in (1, 10, 100)]
    return np.concatenate([magnitudes, -magnitudes, *dense, np.linspace(0.99, 1.01, 2001)]).astype(dtype)


def inputs(name: str, dtype: str) -> list[Array]:
    x = sweep(dtype)
    if name == "Pow":
        bases = np.abs(x[(np.abs(x) > 1e-6) & (np.abs(x) < 1e6)])
        return [bases, np.tile(np.array([-2.5, -1, 0.3, 0.5, 2, 3, 1.7], x.dtype), bases.size)[: bases.size]]
    low, high = INSIDE.get(name, (-np.inf, np.inf))
    return [x[(x >= low) & (x <= high)]]


@functools.cache
def measured(name: str, runtime: str, dtype: str) -> float | None:
    """The worst error divided by its bound, None where the runtime has no kernel."""
    worst = 0.0
    for attributes in FORMS.get(name, ({},)):
        subject = Subject(name, lambda _: [], attributes)
        arrays = inputs(name, dtype)
        outputs = by_torch(subject, [*arrays]) if runtime == "torch" else by_onnxruntime(subject, [*arrays], True)
        if outputs is None:
            return None
        (bound,) = bounds(subject.operation, arrays, subject.opset, [dtype])
        assert isinstance(bound, Bound)
        worst = max(worst, judge(bound, outputs[0]).ratio)
    return worst


@pytest.mark.parametrize("name", FUNCTIONS)
def test_constants_are_four_times_the_error_and_not_much_more(name: str) -> None:
    known = [ratio for kind in MEASURED if (ratio := measured(name, *kind)) is not None]
    assert len(known) >= 2
    assert 0.02 < max(known) <= 0.25


def row(name: str) -> str:
    accuracy = FUNCTIONS[name]
    cells = [name, *(f"{value:g}" for value in (accuracy.relative, accuracy.absolute, accuracy.per_input))]
    ratios = [measured(name, *kind) for kind in MEASURED]
    cells += ["-" if ratio is None else f"{ratio:.2g}" for ratio in ratios]
    return f"| {' | '.join(cells)} |\n"


def test_the_page_has_the_constants_and_ratios_that_keep_to_them(accept: bool) -> None:
    text = PAGE.read_text()
    if accept:
        table = HEAD + "".join(map(row, FUNCTIONS))
        PAGE.write_text(re.sub(re.escape(HEAD) + r"(\|.*\|\n)*", lambda _: table, text))
        return
    rows = {
        cells[1].strip(): cells[2:-1]
        for line in text.partition(HEAD)[2].partition("\n\n")[0].splitlines()
        if (cells := line.split("|"))[1:]
    }
    assert set(rows) == set(FUNCTIONS)
    for name, accuracy in FUNCTIONS.items():
        constants = [float(cell) for cell in rows[name][:3]]
        assert constants == [accuracy.relative, accuracy.absolute, accuracy.per_input], name
        assert all(float(cell) <= 0.25 for cell in rows[name][3:] if cell.strip() != "-"), name
