"""Whole files in their own runtimes: what agrees, what is a fault, what cannot be run, and nothing left behind."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from networks import made

import deepstruct
from deepstruct import Model, Node, Parameter, Structure, ValueInfo, Weights, formats
from deepstruct.converters import torch_tracing
from deepstruct.sparse import MaskedDeepDAN
from deepstruct.structure import Graph
from deepstruct.testing import SAMPLES, feed_forward, with_weights
from deepstruct.verification import native, outputs, reading
from deepstruct.verification.extents import CannotSampleError
from deepstruct.verification.outputs import Outputs
from deepstruct.verification.runtimes import NotRunnableError
from deepstruct.verification.sampling import Case, Sampler
from deepstruct.verification.verify import Source


def source(path: Path, *, trust_pickle: bool = False) -> Source:
    row = formats.of_source(path)
    options: dict[str, Any] = {"trust_pickle": True} if trust_pickle else {}
    return Source(path, row, deepstruct.load(path, losses=[], **options), trust_pickle)


def checked(a: Source, b: Source) -> Outputs:
    sampler = Sampler(a.model.structure, b.model.structure)
    assignment = outputs.choose(sampler, outputs.natives(a), outputs.natives(b))
    found = outputs.check(a, b, sampler, assignment)
    json.dumps(found.to_json(), allow_nan=False)
    return found


@pytest.fixture
def leftovers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The folder for temporary files, which must be empty in the end."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    assert list(place.iterdir()) == []


def dan() -> Model:
    torch.manual_seed(0)
    return deepstruct.from_module(MaskedDeepDAN(4, 3, nx.DiGraph([(0, 1), (0, 2), (1, 3), (2, 3), (0, 3)])))


@pytest.mark.parametrize("encoding", ["auto", "dense", "coo", "constant", "packed"])
def test_checkpoint_and_onnx_file_of_one_network(encoding: str, tmp_path: Path, leftovers: Path) -> None:
    model = with_weights(feed_forward((30, 40, 3)))
    deepstruct.save(model, tmp_path / "a.pt")
    deepstruct.save(model, tmp_path / "b.onnx", sparse_encoding=encoding)
    found = checked(source(tmp_path / "a.pt"), source(tmp_path / "b.onnx"))
    assert (found.verdict, found.faults, found.failures, found.gross) == ("passed", (), (), ())
    assert len(found.settings) == 5
    assert found.settings[0].startswith("A: torch ")
    assert found.settings[0].endswith(", evaluation mode")
    assert found.settings[4].endswith(f"all optimisations, {native.SEVERAL} threads")
    assert [r.equal for r in found.readings] == [True]
    assert found.summary.startswith("14 cases in 5 settings")
    assert not found.disagree
    lanes = [c.spoiled for c in found.comparisons if c.case.kind == "nan-lane"]
    assert len(lanes) == 2
    assert all(spoiled is not None for spoiled in lanes)
    assert list(leftovers.iterdir()) == []


@pytest.mark.parametrize("name", ["float64", "float16", "skip-connection", "all-masked", "dan"])
def test_document_and_onnx_file_of_one_network(name: str, tmp_path: Path, leftovers: Path) -> None:
    model = dan() if name == "dan" else with_weights(SAMPLES[name])
    deepstruct.save(model, tmp_path / "a.structure.json")
    deepstruct.save(model, tmp_path / "b.onnx")
    found = checked(source(tmp_path / "a.structure.json"), source(tmp_path / "b.onnx"))
    assert (found.verdict, found.faults, found.failures, found.gross) == ("passed", (), (), ())
    assert [setting.split()[0] for setting in found.settings] == ["A:"] * 3 + ["B:"] * 4
    assert list(leftovers.iterdir()) == []


def test_another_runtime_stands_in_where_onnxruntime_has_no_kernels(tmp_path: Path) -> None:
    model = with_weights(SAMPLES["bfloat16"])
    deepstruct.save(model, tmp_path / "a.pt")
    deepstruct.save(model, tmp_path / "b.onnx", sparse_encoding="dense")
    found = checked(source(tmp_path / "a.pt"), source(tmp_path / "b.onnx"))
    assert found.verdict == "passed"
    assert "reference evaluator" in found.settings[1]
    assert len(found.settings) == 2
    assert found.notes[0].startswith("no runtime of its own opens the second file (has no kernel for Gemm-13")
    assert [failure.case for failure in found.failures] == [None] * 4
    assert [r.reason.partition(": ")[2] for r in found.readings] == ["has no kernel for Gemm-13 with these types"]


@pytest.mark.parametrize("name", ["resnet", "bert", "pieces"])
def test_programs_and_their_conversions(name: str, tmp_path: Path) -> None:
    module, example_inputs = made(name)
    named = isinstance(example_inputs, dict)
    arguments = () if named else example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    with torch_tracing.quiet():
        program = torch.export.export(module.eval(), arguments, example_inputs if named else None)
    torch.export.save(program, tmp_path / "a.pt2")
    a = source(tmp_path / "a.pt2")
    deepstruct.save(a.model, tmp_path / "b.onnx")
    found = checked(a, source(tmp_path / "b.onnx"))
    assert (found.verdict, found.faults, found.gross) == ("passed", (), ())
    assert found.settings[0].endswith(", exported program")
    assert [r.faults for r in found.readings] == [(), ()]
    assert found.readings[1].equal
    assert 0 <= found.readings[0].max_relative < 1e-5


def test_a_trusted_pickle_is_that_very_module(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Dropout(0.5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    torch.save(module.train(), tmp_path / "a.pt")
    a = source(tmp_path / "a.pt", trust_pickle=True)
    deepstruct.save(a.model, tmp_path / "b.onnx")
    found = checked(a, source(tmp_path / "b.onnx"))
    assert (found.verdict, found.faults) == ("passed", ())
    assert len(found.readings) == 2
    checkpoint = native.of_torch(tmp_path / "a.pt", "torch", a.model)
    x = np.ones((2, 4), np.float32)
    with checkpoint.opened() as one, outputs.natives(a)[0].opened() as other:
        np.testing.assert_array_equal(one({a.model.structure.inputs[0].name: x})[0], other({"x": x, "input": x})[0])


def test_open_extents_of_a_speech_model_are_found() -> None:
    path = Path(pytest.importorskip("silero_vad").__file__).parent / "data" / "silero_vad_16k_op15.onnx"
    found = checked(source(path), source(path))
    assert (found.verdict, found.faults, found.failures) == ("passed", (), ())
    assert found.extents is not None
    assert found.extents.shapes["state"] == (2, None, 128)
    assert all(r.equal for r in found.readings)


def test_torch_files_that_cannot_be_run(tmp_path: Path) -> None:
    model = with_weights(feed_forward())
    bad = tmp_path / "bad.pt"
    bad.write_bytes(b"nonsense")
    for name in ("torch", "torch-export"):
        opened = native.of_torch(bad, name, model, trust_pickle=True).opened()
        with pytest.raises(NotRunnableError), opened:
            pass
    with (
        native.of_torch(bad, "torch", model).opened() as run,
        pytest.raises(NotRunnableError, match=r"shape \(2, 9\)|mat1"),
    ):
        run({"x": np.ones((2, 9), np.float32)})
    program = torch.export.export(torch.nn.Linear(3, 2), (torch.ones(2, 3),))
    torch.export.save(program, tmp_path / "a.pt2")
    linear = with_weights(feed_forward((3, 2)))
    two = replace(linear.structure, inputs=(*linear.structure.inputs, ValueInfo("z", "float32", ())))
    x, z = np.ones((2, 3), np.float32), np.array(1, np.float32)
    for structure, message in ((two, "fewer tensors"), (replace(two, inputs=(), nodes=(), outputs=()), "more tensors")):
        of_program = native.of_torch(tmp_path / "a.pt2", "torch-export", Model(structure))
        with of_program.opened() as run, pytest.raises(NotRunnableError, match=message):
            run({"x": x, "z": z})


def test_other_numbers_are_seen_in_the_figures(tmp_path: Path) -> None:
    model = with_weights(feed_forward(density=1.0))
    assert model.weights is not None
    arrays = {name: model.weights[name].copy() for name in model.weights}
    arrays["fc1.weight"][0] *= -1
    deepstruct.save(model, tmp_path / "a.onnx")
    deepstruct.save(Model(model.structure, Weights(model.structure, arrays)), tmp_path / "b.onnx")
    found = checked(source(tmp_path / "a.onnx"), source(tmp_path / "b.onnx"))
    assert (found.verdict, found.faults) == ("passed", ())
    assert found.disagree
    assert found.gross[0].startswith("the output 'y' differs by ")
    assert len(found.settings) == 8


def scaled(factor: float, dtype: str = "float32", opset: int = 20) -> Model:
    structure = Structure(
        nodes=(Node("m", "Mul", ("x", "w"), ("u",)), Node("e", "Exp", ("u",), ("y",))),
        inputs=(ValueInfo("x", dtype, ("n", 3)),),
        outputs=(ValueInfo("y", None, None),),
        parameters=(Parameter("w", dtype, (3,)),),
        opset={"": opset},
    )
    return Model(structure, Weights(structure, {"w": np.full(3, factor, dtype)}))


def test_one_sided_infinity_is_a_fault(tmp_path: Path) -> None:
    deepstruct.save(scaled(1), tmp_path / "a.onnx")
    deepstruct.save(scaled(1e4), tmp_path / "b.onnx")
    found = checked(source(tmp_path / "a.onnx"), source(tmp_path / "b.onnx"))
    assert found.verdict == "failed"
    assert "entries are NaN or infinite on one side only (normal inputs, batch 2; A: onnxruntime" in found.faults[0]


def reshaped(*extents: int) -> Model:
    shape = deepstruct.Tensor("int64", (len(extents),), extents)
    structure = Structure(
        nodes=(Node("r", "Reshape", ("x", "s"), ("y",)),),
        inputs=(ValueInfo("x", "float32", ("n", 6)),),
        outputs=(ValueInfo("y", None, None),),
        constants={"s": shape},
        opset={"": 20},
    )
    return Model(structure, Weights(structure, {}))


def test_other_shapes_are_a_fault(tmp_path: Path) -> None:
    deepstruct.save(reshaped(-1, 2, 3), tmp_path / "a.onnx")
    deepstruct.save(reshaped(-1, 3, 2), tmp_path / "b.onnx")
    found = checked(source(tmp_path / "a.onnx"), source(tmp_path / "b.onnx"))
    assert found.verdict == "failed"
    assert found.faults[0].startswith("the output 'y' has shape [2, 2, 3] in one and [2, 3, 2] in the other (normal")


def test_a_file_that_runs_on_some_batches_only_is_another_one(tmp_path: Path) -> None:
    deepstruct.save(reshaped(-1, 6), tmp_path / "a.onnx")
    deepstruct.save(reshaped(2, 6), tmp_path / "b.onnx")
    found = checked(source(tmp_path / "a.onnx"), source(tmp_path / "b.onnx"))
    assert found.verdict == "failed"
    assert found.faults[0].startswith("only the second file cannot be run on normal inputs, batch 1: Reshape (r): ")


def loop_and_if() -> Model:
    """A Loop whose body has an If, both of which see a parameter outside."""
    unknown = (ValueInfo("z", "float32", None),)
    branches = {
        "then_branch": Graph((Node("t", "Mul", ("v", "w"), ("z",)),), (), unknown),
        "else_branch": Graph((Node("e", "Add", ("v", "w"), ("z",)),), (), unknown),
    }
    body = Graph(
        (Node("if", "If", ("again",), ("n",), branches), Node("c", "Identity", ("again",), ("go",))),
        (ValueInfo("i", "int64", ()), ValueInfo("again", "bool", ()), ValueInfo("v", "float32", None)),
        (ValueInfo("go", "bool", ()), ValueInfo("n", "float32", None)),
    )
    structure = Structure(
        nodes=(Node("loop", "Loop", ("three", "yes", "x"), ("y",), {"body": body}),),
        inputs=(ValueInfo("x", "float32", ("n", 3)),),
        outputs=(ValueInfo("y", "float32", ("n", 3)),),
        parameters=(Parameter("w", "float32", (3,)),),
        constants={"three": deepstruct.Tensor("int64", (), (3,)), "yes": deepstruct.Tensor("bool", (), (True,))},
        opset={"": 20},
    )
    return Model(structure, Weights(structure, {"w": np.array([0.5, 2, -1], np.float32)}))


def test_control_flow(tmp_path: Path, leftovers: Path) -> None:
    deepstruct.save(loop_and_if(), tmp_path / "a.structure.json")
    deepstruct.save(loop_and_if(), tmp_path / "b.onnx")
    found = checked(source(tmp_path / "a.structure.json"), source(tmp_path / "b.onnx"))
    assert (found.verdict, found.faults) == ("passed", ())
    (failure,) = found.failures
    assert failure.case is None
    assert "control flow" in failure.reason
    assert found.settings[0].endswith("dense")
    assert list(leftovers.iterdir()) == []


def test_what_no_runtime_opens_is_not_run(tmp_path: Path) -> None:
    node = Node("n", "Nonsense", ("x",), ("y",), domain="mine")
    structure = Structure(
        nodes=(node,),
        inputs=(ValueInfo("x", "float32", ("n", 3)),),
        outputs=(ValueInfo("y", "float32", ("n", 3)),),
        opset={"": 20, "mine": 1},
    )
    deepstruct.save(Model(structure, Weights(structure, {})), tmp_path / "a.onnx")
    a = source(tmp_path / "a.onnx")
    sampler = Sampler(structure, structure)
    assert outputs.choose(sampler, outputs.natives(a), outputs.natives(a)) == sampler.candidates()[0]
    found = outputs.check(a, a, sampler, sampler.candidates()[0])
    assert found.verdict == "not run"
    assert found.reason.startswith("no setting can run the first file: ")
    assert {failure.setting[0] for failure in found.failures} == {"A", "B"}
    assert all(r.reason for r in found.readings)


def test_structures_alone_cannot_be_run(tmp_path: Path) -> None:
    model = Model(feed_forward())
    sampler = Sampler(model.structure, model.structure)
    deepstruct.save(model, tmp_path / "a.structure.json")
    a = source(tmp_path / "a.structure.json")
    found = outputs.check(a, a, sampler, outputs.choose(sampler, outputs.natives(a), outputs.natives(a)))
    assert found.verdict == "not run"
    assert "it has a structure only, and no numbers" in found.reason


def test_extents_are_tried_until_both_run(tmp_path: Path) -> None:
    def convolution(kernel: int) -> Model:
        structure = Structure(
            nodes=(Node("c", "Conv", ("x", "w"), ("y",)),),
            inputs=(ValueInfo("x", "float32", ("n", 1, "t")),),
            outputs=(ValueInfo("y", None, None),),
            parameters=(Parameter("w", "float32", (1, 1, kernel)),),
            opset={"": 20},
        )
        return Model(structure, Weights(structure, {"w": np.ones((1, 1, kernel), np.float32)}))

    deepstruct.save(convolution(3), tmp_path / "a.onnx")
    deepstruct.save(convolution(100), tmp_path / "b.onnx")
    a, b = source(tmp_path / "a.onnx"), source(tmp_path / "b.onnx")
    sampler = Sampler(a.model.structure, b.model.structure)
    for one, other, expected in ((a, a, 8), (a, b, 128), (b, a, 128)):
        chosen = outputs.choose(sampler, outputs.natives(one), outputs.natives(other))
        assert chosen.shapes == {"x": (None, 1, expected)}
    assert outputs.choose(sampler, (), outputs.natives(b)).shapes == {"x": (None, 1, 128)}
    deepstruct.save(convolution(1000), tmp_path / "c.onnx")
    c = source(tmp_path / "c.onnx")
    with pytest.raises(CannotSampleError, match=r"the first file runs with none .* \(Conv.*\); --input-shape NAME=N"):
        outputs.choose(sampler, outputs.natives(c), outputs.natives(a))
    assert outputs.choose(sampler, outputs.natives(a), outputs.natives(c)).shapes == {"x": (None, 1, 8)}


def test_temporary_files_go_even_when_something_fails(leftovers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = with_weights(feed_forward())
    seen: list[Path] = []
    for _ in range(2):
        with pytest.raises(NotRunnableError), native.written(model, optimise=True, threads=1).opened() as run:  # noqa: PT012 - all of it
            seen += list(leftovers.iterdir())
            run({})
    assert len(set(seen)) == 2

    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise deepstruct.errors.UnsupportedError("no such model")

    monkeypatch.setattr(deepstruct, "save", refuse)
    opened = native.written(model, optimise=True, threads=1)
    with pytest.raises(NotRunnableError, match="no such model"), opened.opened():
        pass
    assert opened.setting.endswith("all optimisations, 1 thread, dense")


def test_a_misread_file_is_a_fault(tmp_path: Path) -> None:
    model = with_weights(feed_forward(density=1.0))
    deepstruct.save(model, tmp_path / "a.onnx")
    a = source(tmp_path / "a.onnx")
    assert model.weights is not None
    arrays = {name: model.weights[name] * np.float32(1.5) for name in model.weights}
    wrong = replace(a, model=Model(a.model.structure, Weights(a.model.structure, arrays)))
    sampler = Sampler(model.structure, model.structure)
    assignment = sampler.candidates()[0]
    found = outputs.check(wrong, a, sampler, assignment)
    assert found.verdict == "failed"
    assert "does not compute what was read from the file: the output 'y' differs by" in found.faults[0]
    slightly = {name: model.weights[name] * np.float32(1 + 1e-6) for name in model.weights}
    near = Model(a.model.structure, Weights(a.model.structure, slightly))
    own = reading.own_native(a.path, "onnx", near)
    assert own is not None
    case = Case("normal", 2)
    with own.opened() as run:
        seen = {case: run(sampler.inputs(assignment, case))}
    close = reading.reading(own, seen, near, sampler, assignment, second=False)
    assert (close.faults, close.equal) == ((), False)
    assert 0 < close.max_relative < 1e-4
    cast = replace(wrong, is_cast=True)
    assert outputs.check(cast, cast, sampler, assignment).readings == ()
    assert reading.own_native(a.path, "json", near) is None
    assert reading.own_native(a.path, "torch", near) is None
