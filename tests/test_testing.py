"""The public tools for testing: strategies give what they promise, and the suite finds the faults of converters."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faulty_converters import FAULTS, Partial, Toy, changed, column_major, each_parameter
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import deepstruct.testing
from deepstruct import Mask, Model, Structure, document, dtypes, formats
from deepstruct.formats import Format
from deepstruct.testing import (
    FLOATS,
    OPERATORS,
    QUIRKS,
    SAMPLES,
    ConverterSuite,
    documents,
    feed_forward,
    json_values,
    masks,
    models,
    numbers,
    structures,
    with_weights,
)
from deepstruct.testing.differences import differences
from deepstruct.testing.reduction import without_extras

NUMERIC = sorted(dtypes.DTYPES - {"string"})


def operators(structure: Structure) -> set[str]:
    return {node.op_type for node in structure.nodes}


# strategies


@given(structures(extra=True))
def test_random_structures_are_valid_and_rectangular(structure: Structure) -> None:
    for parameter in structure.parameters:
        matrix = [extent for extent in parameter.shape if extent != 1]
        assert len(matrix) != 2 or matrix[0] != matrix[1]
    assert structure.nodes
    assert structure.outputs


def test_random_structures_become_small() -> None:
    smallest = find(structures(operators=["LSTM", "Gemm"]), lambda structure: "LSTM" in operators(structure))
    assert len(smallest.nodes) == len(smallest.inputs) == 1
    assert len(smallest.parameters) == 2
    assert smallest.attributes == {}


def test_random_structures_have_skip_connections() -> None:
    def skips(structure: Structure) -> bool:
        made = {name: position for position, node in enumerate(structure.nodes) for name in node.outputs}
        uses = [(at, made[name]) for at, node in enumerate(structure.nodes) for name in node.inputs if name in made]
        return any(at > source + 1 for at, source in uses) and len(structure.outputs) > 1

    assert len(find(structures(), skips).nodes) <= 4


def test_random_structures_keep_to_what_is_asked_for() -> None:
    @given(structures(operators=["Gemm", "Relu"], dtypes=["float64", "int8"]))
    def check(structure: Structure) -> None:
        assert operators(structure) <= {"Gemm", "Relu"}
        assert {parameter.dtype for parameter in structure.parameters} <= {"float64", "int8"}
        assert without_extras(Model(structure)) == Model(structure)

    check()


@pytest.mark.parametrize(
    "holds",
    [
        lambda mask: mask.nnz == 0 and mask.size,
        lambda mask: mask.is_full and mask.size,
        lambda mask: mask.nnz == 1 and mask.size > 9,
        lambda mask: len(mask.shape) > 2 and 0.3 < mask.density < 0.7,
        lambda mask: mask.shape[-1:] == (8,) and (mask.to_array().reshape(-1, 4).sum(1) == 2).all() and mask.size > 30,
        lambda mask: len(mask.shape) == 2 and (mask.to_array() == mask.to_array()[:1]).all() and 0 < mask.density < 1,
        lambda mask: mask.shape == (),
        lambda mask: 0 in mask.shape,
    ],
    ids=["empty", "full", "one", "random", "2 of 4", "columns", "scalar", "without entries"],
)
def test_masks_of_every_kind_are_drawn(holds: Callable[[Mask], bool]) -> None:
    find(masks(), lambda mask: bool(holds(mask)), settings=settings(max_examples=5000))


@given(masks((3, 5)))
def test_masks_have_the_shape_that_is_asked_for(mask: Mask) -> None:
    assert mask.shape == (3, 5)


@pytest.mark.parametrize("kind", [type(None), bool, int, float, str, list, dict])
def test_user_data_are_of_every_json_type(kind: type) -> None:
    find(json_values(), lambda value: type(value) is kind)


def test_every_operator_occurs() -> None:
    seen: set[str] = set()

    @settings(max_examples=200)
    @given(structures())
    def collect(structure: Structure) -> None:
        seen.update(node.domain or node.op_type for node in structure.nodes)

    collect()
    others = {"Function": "example.functions", "Custom": "example.operators", "Table": "example.operators"}
    assert seen == {others.get(name, name) for name in OPERATORS} | {"ReduceSum"}


@given(documents())
def test_random_documents_are_read(made: dict[str, Any]) -> None:
    structure = document.from_json(json.loads(json.dumps(made))).structure
    assert document.digest(structure) == made["digest"]


@pytest.mark.parametrize("dtype", FLOATS)
def test_kept_numbers_are_special(dtype: str) -> None:
    weights = with_weights(feed_forward(dtype=dtype), numbers).weights
    assert weights is not None
    kept = weights.kept("fc0.weight").astype(np.float64)
    assert np.isnan(kept).any()
    assert np.isinf(kept).any()
    assert sorted(np.signbit(kept[kept == 0])) == [False, True]


@settings(max_examples=60)
@given(models(structures(dtypes=NUMERIC)))
def test_random_models_have_numbers_of_every_dtype(model: Model) -> None:
    assert model.weights is not None
    for parameter in model.structure.parameters:
        array = model.weights[parameter.name]
        assert (array.dtype, array.shape) == (dtypes.to_numpy(parameter.dtype), parameter.shape)


def test_samples_are_what_their_names_say() -> None:
    assert QUIRKS.keys().isdisjoint(SAMPLES)
    assert operators(QUIRKS["loop"]) == {"Loop"}
    assert {parameter.dtype for parameter in QUIRKS["complex"].parameters} == {"complex64", "complex128"}
    normal = {unicodedata.normalize("NFC", p.name.lower()) for p in QUIRKS["names"].parameters}
    assert len(normal) < len(QUIRKS["names"].parameters) - 1
    assert any(isinstance(value, bytes) for value in QUIRKS["attributes"].nodes[0].attributes.values())


@pytest.mark.parametrize("package", ["hypothesis", "pytest"])
def test_a_missing_package_is_named(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import deepstruct.testing"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"deepstruct.testing needs the package '{package}'" in result.stderr
    assert "pip install 'deepstruct[testing]'" in result.stderr


def test_no_framework_is_loaded() -> None:
    code = "import sys, deepstruct.testing; assert not {'torch', 'onnx', 'networkx'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_exists() -> None:
    for name in deepstruct.testing.__all__:
        assert getattr(deepstruct.testing, name) is not None


# the suite, on a converter and on others that each have one fault


ROW = Format(
    name="toy",
    summary="for tests",
    suffixes=(".toy",),
    converter="toy_converter",
    reads=True,
    writes=True,
    carries=formats.by_name("json").carries,
    magic=(b"toy1",),
    specification="here",
)


class ToySuite(ConverterSuite):
    format_name = "toy"
    dtypes = NUMERIC
    max_examples = 10


def offer(monkeypatch: pytest.MonkeyPatch, converter: object, row: Format = ROW) -> None:
    """Makes a converter one of the table, as an entry point would."""
    monkeypatch.setitem(sys.modules, "toy_converter", converter)
    monkeypatch.setattr(formats, "installed", lambda: formats.table([row]))


def failures(folder: Path, *names: str) -> Iterator[tuple[str, BaseException]]:
    """What fails of the suite, or of the tests named."""
    for name in names or [name for name in dir(ToySuite) if name.startswith("test_")]:
        test = getattr(ToySuite(), name)
        marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
        arguments = [{mark.args[0]: value} for mark in marks for value in mark.args[1]] or [{}]
        for number, chosen in enumerate(arguments):
            place = folder / f"{name}-{number}"
            place.mkdir()
            given_folder = {} if name == "test_its_row_is_sane" else {"tmp_path": place}
            try:
                test(**given_folder, **chosen)
            except pytest.skip.Exception:
                continue
            except (Exception, KeyboardInterrupt, pytest.fail.Exception) as error:
                yield f"{name} {chosen}", error


def test_a_converter_without_faults_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    offer(monkeypatch, Toy())
    assert list(failures(tmp_path)) == []


@pytest.fixture
def unshrunk() -> Iterator[None]:
    """Failures are wanted, and how small they could be does not matter."""
    parent = settings.get_profile("deepstruct")
    settings.register_profile("unshrunk", parent, phases=[Phase.generate])
    settings.load_profile("unshrunk")
    yield
    settings.load_profile("deepstruct")


@pytest.mark.usefixtures("unshrunk")
@pytest.mark.parametrize(("converter", "test"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_each_fault_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, converter: type[Toy], test: str) -> None:
    offer(monkeypatch, converter())
    assert list(failures(tmp_path, test))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Toy box"},
        {"summary": "two\nlines"},
        {"summary": ""},
        {"suffixes": ()},
        {"suffixes": ("toy",)},
        {"specification": ""},
        {"options": frozenset({"colour"})},
        {"carries": frozenset({"colours"})},
        {"requires": ("numpy",)},
        {"ledger": True},
        {"reads": False, "writes": False},
    ],
    ids=str,
)
def test_rows_that_claim_nonsense_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: Any) -> None:
    row = replace(ROW, **change)
    offer(monkeypatch, Toy(), row)
    monkeypatch.setattr(ToySuite, "format_name", row.name)
    assert list(failures(tmp_path, "test_its_row_is_sane"))


@pytest.mark.parametrize("change", [{"suffixes": (".json",)}, {"magic": (b"{",)}], ids=str)
def test_rows_that_take_the_files_of_others_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: Any
) -> None:
    offer(monkeypatch, Toy(), replace(ROW, **change))
    assert list(failures(tmp_path, "test_it_is_told_from_suffix_and_content"))


def test_what_is_lost_may_be_lost_if_the_row_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    offer(monkeypatch, Partial(), replace(ROW, carries=frozenset({"operators", "weights"})))
    assert list(failures(tmp_path)) == []


@pytest.mark.parametrize(("reads", "writes"), [(True, False), (False, True)])
def test_converters_of_one_direction_pass(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reads: bool, writes: bool
) -> None:
    offer(monkeypatch, Toy(), replace(ROW, reads=reads, writes=writes))
    assert list(failures(tmp_path)) == []


# what the suite says


def test_differences_are_said_in_sentences() -> None:
    plain, other = SAMPLES["plain"], SAMPLES["skip-connection"]
    model = with_weights(plain, numbers)
    assert differences(model, with_weights(plain, numbers)) == []
    assert differences(model, Model(plain)) == ["weights: there are none after reading"]
    assert differences(Model(plain), model) == ["weights: there are some after reading"]
    text = "\n".join(differences(Model(plain), Model(other)))
    assert "parameter 'fc0.weight' is removed: float32 [7, 5] -> nothing" in text
    assert "outputs: " in text
    mask = plain.parameter("fc0.weight").mask
    assert mask is not None
    wrong = each_parameter(plain, lambda p: replace(p, mask=column_major(mask)) if p.name == "fc0.weight" else p)
    assert any("column-major" in line for line in differences(Model(plain), Model(wrong)))
    positive = changed(model, kept=lambda array: np.where(array == 0, np.float32(0), array))
    sentence = differences(model, positive)[0]
    assert "of 'fc0.weight': 1 of 10 entries have other bits" in sentence
    assert "was np.float32(-0.0) and is np.float32(0.0)" in sentence


@given(st.sampled_from(sorted(QUIRKS)), st.sampled_from(sorted(QUIRKS)))
def test_there_are_differences_exactly_between_different_models(one: str, two: str) -> None:
    assert bool(differences(Model(QUIRKS[one]), Model(QUIRKS[two]))) == (one != two)


# docs/testing.md


def test_the_examples_of_the_page_work(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "testing.md").read_text(encoding="utf-8")
    suite, samples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "test_mine.py").write_text(suite)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "test_mine.py",
        "-k",
        "samples_come_back",
    ]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    result = subprocess.run([sys.executable, "-c", samples], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == re.findall(r"^print\(.*\)  # (.*)$", samples, re.MULTILINE)
