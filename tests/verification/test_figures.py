"""What tier 4 makes of outputs: figures, faults, and runs that fail, with functions in place of files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from deepstruct import Node, Structure, ValueInfo
from deepstruct.verification import figures, outputs
from deepstruct.verification.native import Native, Run
from deepstruct.verification.outputs import Outputs
from deepstruct.verification.runtimes import NotRunnableError, Value
from deepstruct.verification.sampling import Sampler


def fake(setting: str, run: Run, **options: Any) -> Native:
    @contextmanager
    def opened() -> Iterator[Run]:
        yield run

    return Native(setting, opened, **options)


def identity(values: Mapping[str, Value]) -> list[Value]:
    return list(values.values())


def end_to_end(a: Run, b: Run, *, is_large: bool = False) -> Outputs:
    structure = Structure(
        nodes=(Node("i", "Identity", ("x",), ("y",)),),
        inputs=(ValueInfo("x", "float32", ("n", 3)),),
        outputs=(ValueInfo("y", "float32", ("n", 3)),),
    )
    sampler = Sampler(structure, structure)
    runs = outputs.Runs(sampler, sampler.candidates()[0], ("y",), is_large=is_large)
    runs.go([fake("a", a)], [fake("b", b)])
    found = runs.result()
    json.dumps(found.to_json(), allow_nan=False)
    return found


def changing(change: Callable[[Any], Any]) -> Run:
    return lambda values: [change(np.array(value)) for value in values.values()]


def failing(values: Mapping[str, Value]) -> list[Value]:
    raise NotRunnableError("it cannot")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.astype(np.float64), "the output 'y' has dtype float32 in one and float64 in the other"),
        (lambda x: [x], "the output 'y' is a tensor in one and a sequence in the other"),
        (lambda _: None, "the output 'y' is a tensor in one and nothing in the other"),
        (lambda x: np.where(x == 1, np.float32(np.nan), x), "entries are NaN or infinite on one side only"),
    ],
    ids=["dtype", "sequence", "nothing", "nan"],
)
def test_faults_on_either_side(change: Any, message: str) -> None:
    found = end_to_end(identity, changing(change))
    assert found.verdict == "failed"
    assert len(found.faults) == 1
    assert message in found.faults[0]
    assert end_to_end(changing(change), identity).verdict == "failed"


def test_what_is_no_fault() -> None:
    assert end_to_end(identity, identity).summary == "14 cases in 2 settings, bitwise the same on all ordinary ones"
    assert end_to_end(identity, changing(lambda x: np.clip(x, -1e30, 1e30))).verdict == "passed"
    not_empty = changing(lambda x: x if len(x) else x.reshape(0, 3, 1))
    assert end_to_end(identity, not_empty).verdict == "passed"
    assert (
        end_to_end(identity, lambda v: [*identity(v), *identity(v)])
        .faults[0]
        .startswith("one gives 1 outputs, the other 2")
    )


def test_failures_at_run_time() -> None:
    one_sided = end_to_end(identity, failing)
    assert one_sided.verdict == "failed"
    assert one_sided.faults == ("only the second file cannot be run on normal inputs, batch 2: it cannot",)
    both = end_to_end(failing, failing)
    assert (both.verdict, both.faults) == ("not run", ())
    assert both.reason == "there are no inputs on which both files run: it cannot"

    def picky(values: Mapping[str, Value]) -> list[Value]:
        x = values["x"]
        if isinstance(x, np.ndarray) and len(x) == 17:
            raise NotRunnableError("too many")
        return [x]

    some = end_to_end(picky, picky)
    assert (some.verdict, some.faults) == ("passed", ())
    assert {failure.case.batch for failure in some.failures if failure.case} == {17}


def test_large_models_are_run_less_often() -> None:
    counts = [len(end_to_end(identity, identity, is_large=large).comparisons) for large in (False, True)]
    assert counts[1] < counts[0] / 2


def test_lanes_of_nan_are_told_apart() -> None:
    found = end_to_end(identity, changing(np.nan_to_num))
    assert found.verdict == "passed"
    lanes = {c.case.kind: c.to_json()["spoiled"] for c in found.comparisons if c.spoiled is not None}
    assert lanes["nan-lane"] == {"first": ["y"], "other": [], "agree": False}
    assert set(lanes) == {"nan-lane", "inf-lane"}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_distances_in_units_of_the_last_place(dtype: Any) -> None:
    info = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]  # ml_dtypes leaves it untyped
    smallest, one = np.array(info.smallest_subnormal, dtype), np.array(1, dtype)
    pairs = [
        ((one + info.eps).astype(dtype), one, 1),
        (one, one, 0),
        (np.array(-0.0, dtype), np.array(0.0, dtype), 0),
        (-smallest, smallest, 2),
        (np.array(0, dtype), smallest, 1),
    ]
    for a, b, steps in pairs:
        for ours, theirs in ((a, b), (b, a), (-a, -b)):
            found = figures.compared(["y"], [np.array([ours], dtype)], [np.array([theirs], dtype)])
            assert found.max_ulp == steps
    ends = [np.array([end], dtype) for end in (info.max, -info.max)]
    widest = figures.compared(["y"], ends[:1], ends[1:]).max_ulp
    assert widest is not None
    assert 2 ** (8 * np.dtype(dtype).itemsize - 1) < widest < 2 ** (8 * np.dtype(dtype).itemsize)


def test_figures_of_several_outputs() -> None:
    a: list[Value] = [
        np.array([[1, 2], [3, -4]], np.float32),
        [np.array([1, 2])],
        np.array([np.nan, np.inf], np.float32),
    ]
    b: list[Value] = [
        np.array([[1, 2], [3.5, 4]], np.float32),
        [np.array([1, 3])],
        np.array([np.nan, -np.inf], np.float32),
    ]
    found = figures.compared(["y", "n", "z"], a, b)
    assert found == figures.Figures(
        equal=False,
        max_absolute=8.0,
        max_relative=2.0,
        max_relative_elementwise=2.0,
        max_ulp=2 * 0x40800000,
        top1=0.5,
        one_sided=1,
        differing=4,
        worst="y",
    )
    assert figures.compared(["y", "n", "z"], a, a).equal
    words = [np.array(["a"], object)], [np.array(["b"], object)]
    assert figures.compared(["w"], *words).differing == 1
    assert list(figures.faults(["n"], [[a[0]]], [[]])) == ["the output 'n' holds 1 tensors in one and 0 in the other"]
    huge = [np.array([1e308, -1e308])], [np.array([-1e308, 1e308])]
    assert np.isfinite(figures.compared(["y"], *huge).max_absolute)
