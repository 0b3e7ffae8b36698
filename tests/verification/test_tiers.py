"""Tiers 2 and 3 on their own: what they find when files are the same and a runtime is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import deepstruct
from deepstruct import Certificate
from deepstruct.converters import torch_operators
from deepstruct.structure import Node
from deepstruct.testing import feed_forward, with_weights
from deepstruct.verification import bounds

Outputs = tuple[torch.Tensor, ...]


def verified(model: Any, folder: Path, example_inputs: Any = None, **options: Any) -> Certificate:
    deepstruct.save(model, folder / "a.pt", example_inputs=example_inputs)
    deepstruct.convert(folder / "a.pt", folder / "b.onnx")
    return deepstruct.verify(folder / "a.pt", folder / "b.onnx", **options)


def break_torch(monkeypatch: pytest.MonkeyPatch, op_type: str, change: Any) -> None:
    """Makes torch compute an operator wrongly where its input is a float32, as nodes of the first side are."""
    right = torch_operators.apply

    def wrong(node: Node, inputs: Sequence[Any], opset: int) -> Outputs:
        results = right(node, inputs, opset)
        if node.op_type == op_type and results[0].dtype == torch.float32:
            return tuple(change(result) for result in results)
        return results

    monkeypatch.setattr(torch_operators, "apply", wrong)


def finding(found: Certificate, operator: str) -> dict[str, Any]:
    return next(layer for layer in found.tiers["numerics"]["layers"] if layer["operator"] == operator)


def test_a_runtime_that_multiplies_wrongly_is_found_by_integers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_torch(monkeypatch, "Gemm", lambda y: y.roll(1, dims=1))
    found = verified(with_weights(feed_forward(density=0.4)), tmp_path)
    assert found.verdict == "different"
    tiers = {name: tier["verdict"] for name, tier in found.tiers.items()}
    assert (tiers["identity"], tiers["wiring"], tiers["numerics"]) == ("passed", "failed", "failed")
    failures = found.tiers["wiring"]["failures"]
    assert [failure["operator"] for failure in failures] == ["Gemm", "Gemm"]
    assert found.first_difference is not None
    assert (found.first_difference.tier, found.first_difference.a) == ("wiring", failures[0]["a"])


def test_a_runtime_that_rounds_too_much_is_found_by_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_torch(monkeypatch, "Gemm", lambda y: y * (1 + 2**-12) if bool((y != y.round()).any()) else y)
    found = verified(with_weights(feed_forward(density=0.4)), tmp_path)
    assert found.verdict == "different"
    tiers = {name: tier["verdict"] for name, tier in found.tiers.items()}
    assert (tiers["identity"], tiers["wiring"], tiers["numerics"]) == ("passed", "passed", "failed")
    gemm = finding(found, "Gemm")
    assert gemm["finding"] == "outside"
    assert gemm["ratio"]["a"] > 1 > gemm["ratio"]["b"]
    assert "a: further from the exact result" in gemm["message"]


def test_exact_operations_must_agree_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_torch(monkeypatch, "Relu", lambda y: torch.where(y > 3, y * (1 + 2**-23), y))
    found = verified(with_weights(feed_forward(density=0.4)), tmp_path)
    assert finding(found, "Relu")["finding"] == "outside"
    assert found.verdict == "different"


def test_without_a_rule_other_bits_are_uninformative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bounds.RULES, "Gemm", lambda case: [None] * len(case))
    break_torch(monkeypatch, "Gemm", lambda y: y * (1 + 2**-20) if bool((y != y.round()).any()) else y)
    found = verified(with_weights(feed_forward(density=0.4)), tmp_path)
    assert found.tiers["numerics"]["verdict"] == "uninformative"
    assert finding(found, "Gemm")["finding"] == "uninformative"
    assert found.verdict == "equivalent"
    assert "the rounding of 2 of 3 operations could not be bounded" in found.reasons[0]


def test_long_sums_stay_exact_with_smaller_integers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = verified(nn.Sequential(nn.Linear(300_000, 2), nn.ReLU(), nn.Linear(2, 3)), tmp_path)
    wiring = found.tiers["wiring"]
    assert (found.verdict, wiring["verdict"], wiring["computed"], wiring["passed_on"]) == ("equivalent", "passed", 3, 0)


def test_what_is_not_exact_on_integers_is_passed_on(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 7), nn.Sigmoid(), nn.LayerNorm(7), nn.Linear(7, 3), nn.Softmax(-1))
    found = verified(module.eval(), tmp_path, torch.zeros(2, 5))
    wiring = found.tiers["wiring"]
    assert (found.verdict, wiring["verdict"], wiring["computed"], wiring["passed_on"]) == ("equivalent", "passed", 2, 3)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_correct_conversions_pass_at_every_scale(tmp_path: Path, dtype: torch.dtype, scale: float) -> None:
    torch.manual_seed(0)
    activation = nn.Sigmoid() if dtype == torch.float64 else nn.GELU()  # onnxruntime has no Gelu of float64
    module = nn.Sequential(nn.Linear(40, 9), activation, nn.Linear(9, 5), nn.Tanh()).to(dtype)
    found = verified(module, tmp_path, torch.zeros(2, 40, dtype=dtype), scale=scale, rows=17, seed=3)
    assert found.verdict == "equivalent", found.reasons
    assert found.options["scale"] == scale


def test_recurrent_matrices_are_part_of_the_wiring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 4, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            states: torch.Tensor = self.lstm(x)[0]
            return states[:, -1]

    found = verified(Last().eval(), tmp_path, torch.zeros(2, 5, 3))
    assert found.verdict == "equivalent"
    break_torch(monkeypatch, "MatMul", lambda y: y + 1)
    found = deepstruct.verify(tmp_path / "a.pt", tmp_path / "b.onnx")
    assert [failure["operator"] for failure in found.tiers["wiring"]["failures"]] == ["LSTM", "LSTM"]


def test_reports_are_the_same_each_time(tmp_path: Path) -> None:
    model = with_weights(feed_forward(density=0.4))
    first = verified(model, tmp_path)
    again = deepstruct.verify(tmp_path / "a.pt", tmp_path / "b.onnx")
    other = deepstruct.verify(tmp_path / "a.pt", tmp_path / "b.onnx", seed=1)
    assert first.to_json() == again.to_json() != other.to_json()
    assert not np.isnan(other.tiers["numerics"]["layers"][0]["ratio"]["a"])
