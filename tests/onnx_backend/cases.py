"""The cases: what ONNX's own test data hold, group by group, each group made only when it is asked for."""

from __future__ import annotations

import importlib.util
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto

from onnx_backend import values
from onnx_backend.values import Value

BACKEND = Path(onnx.__file__).parent / "backend" / "test"
STORED = ("light", "pytorch-converted", "pytorch-operator", "simple")
"""Folders of models in files. `real` holds nothing but references to `light`."""

_SOURCES = {"node": "onnx.backend.test.case.node", "model": "onnx.backend.test.case.model"}
"""Packages whose modules make models and data when they are imported."""

_LISTS = {"node": ("_NodeTestCases", "_existing_names"), "model": ("_SimpleModelTestCases",)}


@dataclass(frozen=True)
class Case:
    """A model and what it computes.

    Attributes:
        kind: where it is from: `node`, `model` or a folder of `STORED`.
        name: as ONNX calls it.
        model: as ONNX has it.
        data: inputs by name, and expected outputs in the order of the graph's.
        rtol: relative tolerance of the outputs.
        atol: absolute tolerance of the outputs.
    """

    kind: str
    name: str
    model: ModelProto
    data: tuple[tuple[dict[str, Value], list[Value]], ...]
    rtol: float
    atol: float


@cache
def groups() -> tuple[str, ...]:
    """Names of all groups: `node-a` has the operators whose modules begin with an a."""
    letters = sorted({path.stem[0] for path in _modules("node")})
    return (*(f"node-{letter}" for letter in letters), "node-ml", "model", *STORED)


def of_group(group: str) -> list[Case]:
    """The cases of a group, by name."""
    kind, _, part = group.partition("-")
    if group in STORED:
        found = list(_light()) if group == "light" else list(_stored(group))
    elif part == "ml":
        found = [case for path in _modules(kind, "ai_onnx_ml") for case in _made(kind, path)]
    else:
        found = [case for path in _modules(kind) if path.stem.startswith(part) for case in _made(kind, path)]
    return sorted(found, key=lambda case: case.name)


def _modules(kind: str, inside: str = "") -> list[Path]:
    return sorted((BACKEND / "case" / kind / inside).glob("[!_]*.py"))


def _made(kind: str, path: Path) -> Iterator[Case]:
    """What one module makes: it is run anew, so that it does not matter who has imported it before."""
    with _empty_lists(kind) as made, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of numpy, while the expected outputs are computed
        spec = importlib.util.spec_from_file_location(f"_onnx_backend_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    for case in made:
        data = tuple(
            (_named(case.model, [values.plain(value) for value in inputs]), [values.plain(value) for value in outputs])
            for inputs, outputs in case.data_sets
        )
        yield Case(kind, case.name, case.model, data, case.rtol, case.atol)


@contextmanager
def _empty_lists(kind: str) -> Iterator[list[Any]]:
    """The list that modules of a package add their cases to, with what they know of others out of the way."""
    importlib.import_module(_SOURCES[kind])
    package = sys.modules[_SOURCES[kind]]
    before = {name: getattr(package, name) for name in _LISTS[kind]}
    for name, value in before.items():
        setattr(package, name, type(value)())
    try:
        yield getattr(package, _LISTS[kind][0])
    finally:
        for name, value in before.items():
            setattr(package, name, value)


def _named(model: ModelProto, inputs: Sequence[Value]) -> dict[str, Value]:
    """Inputs by name; those that have an initializer are only meant if there is data for all."""
    initialised = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in initialised]
    if len(inputs) > len(names):
        names = [value.name for value in model.graph.input]
    return dict(zip(names, inputs, strict=True))


def _stored(kind: str) -> Iterator[Case]:
    for folder in sorted((BACKEND / "data" / kind).glob("test_*")):
        model = onnx.load(folder / "model.onnx")
        types = {value.name: value.type for value in model.graph.input}
        data = []
        for place in sorted(folder.glob("test_data_set_*")):
            files = [_numbered(place, "input"), _numbered(place, "output")]
            names = list(_named(model, [None] * len(files[0])))
            inputs = {name: values.stored(file, types[name]) for name, file in zip(names, files[0], strict=True)}
            outputs = [
                values.stored(file, output.type) for file, output in zip(files[1], model.graph.output, strict=True)
            ]
            data.append((inputs, outputs))
        yield Case(kind, folder.name, model, tuple(data), rtol=1e-3, atol=1e-7)


def _numbered(folder: Path, what: str) -> list[Path]:
    return sorted(folder.glob(f"{what}_*.pb"), key=lambda path: int(re.findall(r"\d+", path.stem)[-1]))


def _light() -> Iterator[Case]:
    """The networks whose weights are constants; the inputs are those that ONNX's own runner makes up."""
    for path in sorted((BACKEND / "data" / "light").glob("*.onnx")):
        model = onnx.load(path)
        initialised = {tensor.name for tensor in model.graph.initializer}
        inputs: list[Value] = []
        for value in model.graph.input:
            if value.name not in initialised:
                shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
                count = int(np.prod(shape))
                inputs.append((np.arange(count).reshape(shape) / count).astype(np.float32))
        expected = values.stored(path.with_name(f"{path.stem}_output_0.pb"), model.graph.output[0].type)
        rtol = 2e-3 if "densenet121" in path.stem else 1e-3
        yield Case("light", f"test_{path.stem}", model, ((_named(model, inputs), [expected]),), rtol, atol=1e-7)
