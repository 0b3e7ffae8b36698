"""Cases with weights: what a case has as inputs of floats becomes initializers, most of whose entries are 0."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from onnx import ModelProto, numpy_helper

import deepstruct
from deepstruct import Model
from deepstruct.errors import UnsupportedError
from deepstruct.losses import Loss
from deepstruct.options import SparseEncoding
from onnx_backend import running, values
from onnx_backend.cases import Case
from onnx_backend.judging import told
from onnx_backend.running import RunError
from onnx_backend.values import Value

ENCODINGS: tuple[Any, ...] = get_args(SparseEncoding)
ROUNDED = "rounded otherwise"
_SHARE = 0.7
TRIED = 2


def frozen(case: Case) -> Case | None:
    """The case with weights, without expected outputs, or None if it has no matrices of floats or several data sets."""
    if len(case.data) != 1:
        return None
    inputs = dict(case.data[0][0])
    model = ModelProto()
    model.CopyFrom(case.model)
    model.ir_version = max(model.ir_version, 4)  # from there on an initializer need not be an input too
    generator = np.random.default_rng(zlib.crc32(case.name.encode()))
    for value in [value for value in model.graph.input if is_matrix(inputs.get(value.name))]:
        array: Any = inputs.pop(value.name)
        pruned = np.where(generator.random(array.shape) < _SHARE, np.zeros((), array.dtype), array)
        model.graph.initializer.append(numpy_helper.from_array(pruned, value.name))
        model.graph.input.remove(value)
    return replace(case, model=model, data=((inputs, []),)) if len(inputs) < len(case.data[0][0]) else None


def is_matrix(value: Any) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.dtype.name.endswith(("float16", "float32", "float64"))
        and (value.ndim >= 2 and value.size >= 4)
    )


def judge_all(cases: Iterable[Case], folder: Path) -> tuple[int, dict[str, str]]:
    """How many cases have weights and run, and which of them do not come out as they were, with the reason."""
    count, wrong = 0, {}
    for case in filter(None, map(frozen, cases)):
        place = folder / case.name
        place.mkdir()
        inputs = [case.data[0][0]]
        try:
            runs = [running.with_onnxruntime(case.model, inputs, optimised=False)[0] for _ in range(2)]
        except RunError:
            continue
        if values.all_same(*runs):  # others draw random numbers
            count += 1
            reasons = list(_wrong(case, runs[0], place))
            if reasons:
                wrong[case.name] = "; ".join(reasons)
        shutil.rmtree(place)
    return count, wrong


def _wrong(case: Case, expected: Sequence[Value], folder: Path) -> Iterator[str]:
    """What goes wrong with the encodings that are tried: `TRIED`, not the same with each case."""
    source = folder / "source.onnx"
    source.write_bytes(case.model.SerializeToString())
    losses: list[Loss] = []
    first = zlib.crc32(case.name.encode()) % len(ENCODINGS)
    encoding = ""
    try:
        model = deepstruct.load(source, infer_masks=True, losses=losses)
        deepstruct.save(model, folder / "net.structure.json", fail_on_loss=True)
        model = deepstruct.load(folder / "net.structure.json")
        tried = 0
        for encoding in [*ENCODINGS[first:], *ENCODINGS[:first]]:
            path = folder / f"{encoding}.onnx"
            if tried == TRIED or not _offered(model, path, encoding):
                continue
            tried += 1
            if encoding != "dense" and deepstruct.load(path, losses=losses) != model:
                yield f"{encoding}: read as another model"
            result = ModelProto.FromString(path.read_bytes())
            outputs = running.with_onnxruntime(result, [case.data[0][0]], optimised=False)[0]
            if not values.all_same(outputs, expected):
                rounded = values.all_close(outputs, expected, 1e-5, 1e-6)
                yield ROUNDED if rounded else f"{encoding}: other numbers"
    except Exception as error:  # the other cases are to be judged all the same
        yield f"{encoding}: {told(error, folder)}"


def _offered(model: Model, path: Path, encoding: Any) -> bool:
    """Writes a model, if its operator set has what the encoding needs."""
    try:
        deepstruct.save(model, path, sparse_encoding=encoding)
    except UnsupportedError as error:
        if "--opset" not in str(error):
            raise
        return False
    return True
