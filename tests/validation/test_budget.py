"""Budgets: limits of a network as a quality gate, and what is wrong with a budget file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import deepstruct
from deepstruct import Model, analysis
from deepstruct.errors import UnreadableFileError, UsageError
from deepstruct.testing import feed_forward, skip_connection, with_weights
from deepstruct.validation import budget_file
from deepstruct.validation.validate import validate


def found(tmp_path: Path, toml: str, model: Model | None = None) -> list[tuple[str, str]]:
    """Codes and places of what a network exceeds."""
    (tmp_path / "budget.toml").write_text(toml)
    deepstruct.save(model or with_weights(feed_forward()), tmp_path / "net.structure.json")
    report = validate(tmp_path / "net.structure.json", budget=budget_file.read(tmp_path / "budget.toml"))
    return [(fault.code, fault.pointer) for fault in report.faults if fault.code.startswith("BUDGET_")]


STRUCTURE = feed_forward()
WHOLE = analysis.analyse(STRUCTURE, measures=()).whole
EFFECTIVE = WHOLE.density.effective_density or 0.0


@pytest.mark.parametrize(
    ("limit", "value", "code", "place"),
    [
        ("max_nnz", STRUCTURE.nnz, "BUDGET_NNZ", "/parameters"),
        ("max_density", STRUCTURE.density, "BUDGET_DENSITY", "/parameters"),
        ("max_effective_density", EFFECTIVE, "BUDGET_EFFECTIVE_DENSITY", "/parameters"),
        ("max_nodes", 3, "BUDGET_NODES", "/graph/nodes"),
        ("max_dead_units", WHOLE.dead, "BUDGET_DEAD_UNITS", "/graph"),
        ("max_dead_inputs", WHOLE.dead_inputs, "BUDGET_DEAD_UNITS", "/graph/inputs"),
    ],
)
def test_a_limit_holds_up_to_its_value(tmp_path: Path, limit: str, value: float, code: str, place: str) -> None:
    assert value > 0
    assert found(tmp_path, f"[network]\n{limit} = {value!r}\n") == []
    below = value - 1 if isinstance(value, int) else value * 0.999
    assert found(tmp_path, f"[network]\n{limit} = {below!r}\n") == [(code, place)]


@pytest.mark.parametrize(("limit", "value"), [("min_density", STRUCTURE.density), ("min_effective_density", EFFECTIVE)])
def test_a_lower_limit_holds_from_its_value(tmp_path: Path, limit: str, value: float) -> None:
    assert found(tmp_path, f"[network]\n{limit} = {value!r}\n") == []
    assert [code for code, _ in found(tmp_path, f"[network]\n{limit} = {value * 1.001!r}\n")] == [
        limit.replace("min", "budget").upper()
    ]


def test_bytes_are_those_of_document_and_weights(tmp_path: Path) -> None:
    found(tmp_path, "[network]\nmax_nodes = 9\n")
    size = sum((tmp_path / name).stat().st_size for name in ("net.structure.json", "net.safetensors"))
    assert found(tmp_path, f"[network]\nmax_bytes = {size}\n") == []
    assert found(tmp_path, f"[network]\nmax_bytes = {size - 1}\n") == [("BUDGET_BYTES", "")]


def test_dead_outputs_and_collapsed_layers(tmp_path: Path) -> None:
    model = with_weights(feed_forward(density=0.0))
    limits = "[network]\nmax_dead_outputs = 0\nmax_collapsed_layers = 0\n"
    codes = [code for code, _ in found(tmp_path, limits, model)]
    assert sorted(codes) == ["BUDGET_COLLAPSED_LAYER", "BUDGET_DEAD_UNITS"]


def test_operators_that_are_not_listed(tmp_path: Path) -> None:
    model = with_weights(skip_connection())
    assert found(tmp_path, '[network]\noperators = ["MatMul", "Gemm", "Add"]\n', model) == [
        ("BUDGET_OPERATOR", "/graph/nodes/1/op"),
        ("BUDGET_OPERATOR", "/graph/nodes/3/op"),
    ]


def test_parameters_keep_the_limits_of_every_pattern_that_matches(tmp_path: Path) -> None:
    tables = {"*.weight": "max_nnz = 11", "fc1.*": "max_density = 0.5", "no*": "max_nnz = 1"}
    toml = "".join(f'[parameters."{pattern}"]\n{limit}\n' for pattern, limit in tables.items())
    nnz = {p.name: p.nnz for p in STRUCTURE.parameters}
    assert nnz["fc0.weight"] <= 11
    assert found(tmp_path, toml) == [("BUDGET_UNMATCHED", "/parameters"), ("BUDGET_DENSITY", "/parameters/fc1.bias")]
    toml = '[parameters."fc0.weight"]\nsparsity_structure = {n = 2, m = 5, axis = 1}\n'
    assert found(tmp_path, toml) == [("BUDGET_STRUCTURE", "/parameters/fc0.weight")]
    assert found(tmp_path, toml.replace("n = 2", "n = 5")) == []


def test_what_cannot_be_measured_is_never_within(tmp_path: Path) -> None:
    convolution = """{"format": "deepstruct", "version": "1.0.0", "graph": {"opset": {"": 20},
        "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 2, "h", "w"]}], "outputs": [{"name": "y"}],
        "nodes": [{"name": "c", "op": "Conv", "inputs": ["x", "k"], "outputs": ["y"]}]},
        "parameters": {"k": {"dtype": "float32", "shape": [3, 2, 3, 3]}}}"""
    (tmp_path / "net.structure.json").write_text(convolution)
    for more, code in (("", "BUDGET_NOT_MEASURED"), ("input_shapes = {x = [1, 2, 5, 6]}\n", "")):
        (tmp_path / "budget.toml").write_text(f"[network]\nmax_dead_outputs = 0\n{more}")
        report = validate(tmp_path / "net.structure.json", budget=budget_file.read(tmp_path / "budget.toml"))
        assert [fault.code for fault in report.faults] == [code] * bool(code)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("", "it limits nothing"),
        ("[network]\n", "it limits nothing"),
        ('[parameters."*"]\n', "it limits nothing"),
        ("[network", "no TOML"),
        ("[network]\nmax_nzz = 1\n", "there is no limit network.'max_nzz'; did you mean 'max_nnz'"),
        ("[netwrok]\nmax_nnz = 1\n", "there is no limit 'netwrok'; did you mean 'network'"),
        ("network = 5\n", "network must be a table"),
        ("[network]\nmax_nnz = -1\n", "network.max_nnz: must be an integer from 0 on, not -1"),
        ("[network]\nmax_nnz = true\n", "must be an integer from 0 on"),
        ("[network]\nmax_nnz = 1e3\n", "must be an integer from 0 on"),
        ("[network]\nmax_density = 10\n", "must be a number from 0 to 1, not 10"),
        ("[network]\nmax_density = nan\n", "must be a number from 0 to 1, not nan"),
        ('[network]\noperators = "Gemm"\n', "must be a list of names"),
        ('[network]\nunknown = "some"\n', 'must be "error" or "full"'),
        ("[network]\ninput_shapes = {x = 3}\n", "must be a table of lists"),
        ("[network]\ninput_shapes = {x = [-3]}\n", "must be an integer from 0 on"),
        ('parameters = {"*" = 4}\n', 'parameters."\\*" must be a table'),
        ('[parameters."*"]\nsparsity_structure = "2:4"\n', "must be a table such as"),
        ('[parameters."*"]\nsparsity_structure = {n = 4, m = 2, axis = 0}\n', "1 <= n <= m"),
        ("a = " + "[" * 5000, "no TOML"),
    ],
)
def test_budgets_that_are_none_are_refused(tmp_path: Path, toml: str, message: str) -> None:
    (tmp_path / "budget.toml").write_text(toml)
    with pytest.raises(UsageError, match=message):
        budget_file.read(tmp_path / "budget.toml")


def test_everything_wrong_with_a_budget_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "budget.toml").write_text('[network]\nmax_nnz = -1\nmax_x = 2\n[parameters."*"]\nmax_density = 2\n')
    with pytest.raises(UsageError) as caught:
        budget_file.read(tmp_path / "budget.toml")
    for part in ("max_nnz", "max_x", "max_density"):
        assert part in str(caught.value)


def test_files_that_are_no_text_or_too_large_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "budget.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="no TOML"):
        budget_file.read(path)
    path.write_bytes(b"#" * (1 << 21))
    with pytest.raises(UsageError, match="at most"):
        budget_file.read(path)
    with pytest.raises(UnreadableFileError):
        budget_file.read(tmp_path / "none.toml")


def test_without_scipy_only_what_needs_it_is_refused(tmp_path: Path) -> None:
    found(tmp_path, "[network]\nmax_nnz = 1000\n")
    code = (
        "import sys\nsys.modules['scipy'] = None\n"
        f"sys.argv = ['deepstruct', 'validate', {str(tmp_path / 'net.structure.json')!r}, '--budget', sys.argv[1]]\n"
        "from deepstruct.__main__ import main\nmain()\n"
    )
    expected = {"max_nnz = 1000": 0, "max_dead_outputs = 0": 6}
    for limit, exit_code in expected.items():
        (tmp_path / "budget.toml").write_text(f"[network]\n{limit}\n")
        command = [sys.executable, "-c", code, str(tmp_path / "budget.toml")]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == exit_code, result.stderr
