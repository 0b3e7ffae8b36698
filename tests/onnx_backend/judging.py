"""The verdict on one case: what runs it, and whether what deepstruct has made of it gives the same."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import onnx
from onnx import ModelProto

import deepstruct
from deepstruct.losses import Loss
from deepstruct.options import SparseEncoding
from onnx_backend import graphs, running, values
from onnx_backend.cases import Case
from onnx_backend.running import RunError
from onnx_backend.values import Value

IDENTICAL = "identical"
RANDOM = "random"
OTHER = "other"
REFERENCE = "reference"
UNCHECKED = "unchecked"
FAILING = "failing"

OUTCOMES = {
    IDENTICAL: "onnxruntime gives the expected outputs, and the same bits from deepstruct's file",
    RANDOM: "onnxruntime draws random numbers; outputs of the same types and shapes from deepstruct's file",
    OTHER: "onnxruntime gives other outputs than the expected ones, and the same bits from deepstruct's file",
    REFERENCE: "onnxruntime does not run it; the reference evaluator gives the expected outputs from deepstruct's file",
    UNCHECKED: "neither runs it as expected; deepstruct's file has the same graph and numbers",
    FAILING: "deepstruct refuses it or makes another model of it",
}
"""What each outcome means; the first is the one that needs no reason."""

ROUNDED = "onnxruntime rounds otherwise"
_ROUNDING = 4e-3
"""Four units in the last place of float16 at 1."""

_PREFERRED: tuple[Any, ...] = ("auto", "coo")
_SPARSE = next(encoding for encoding in _PREFERRED if encoding in get_args(SparseEncoding))

WAYS: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({}, {}),
    ({"infer_masks": True}, {"sparse_encoding": _SPARSE}),
)
"""Options for reading and writing: the defaults, and what makes zeros masked entries."""


@dataclass(frozen=True)
class Verdict:
    """An outcome and why it is not the first one."""

    outcome: str
    reason: str = ""

    @property
    def depends_on_machine(self) -> bool:
        """Whether the case may do better elsewhere: with another processor or other locales."""
        return self.reason == ROUNDED or running.LACKING in self.reason


class _DifferenceError(Exception):
    """Deepstruct's file is not the model that it was made of."""


def judge(case: Case, folder: Path) -> Verdict:
    """Takes a case through a document and back in a folder that is its own."""
    inputs, expected = [data[0] for data in case.data], [data[1] for data in case.data]
    try:
        results = _results(case, folder)
    except _DifferenceError as error:
        return Verdict(FAILING, str(error))
    except Exception as error:  # a bug, and the other cases of the group are to be judged all the same
        return Verdict(FAILING, told(error, folder))
    try:
        baseline = running.with_onnxruntime(case.model, inputs)
    except RunError as error:
        return _by_reference(case, results, f"onnxruntime {error}")
    try:
        ours = [running.with_onnxruntime(result, inputs) for result in results]
    except RunError as error:
        return Verdict(FAILING, f"onnxruntime {error}")
    if not all(_all_same(outputs, baseline) for outputs in ours):
        if _all_same(running.with_onnxruntime(case.model, inputs), baseline):
            return Verdict(FAILING, "onnxruntime gives other outputs than from the original")
        alike = all(values.alike(a, b) for run in ours for a, b in zip(_flat(run), _flat(baseline), strict=True))
        return Verdict(RANDOM, "random numbers") if alike else Verdict(FAILING, "outputs of other types or shapes")
    if _all_close(case, baseline, expected):
        return Verdict(IDENTICAL)
    return Verdict(
        OTHER, ROUNDED if _all_close(case, baseline, expected, _ROUNDING) else "onnxruntime computes otherwise"
    )


def _by_reference(case: Case, results: Sequence[ModelProto], reason: str) -> Verdict:
    inputs, expected = [data[0] for data in case.data], [data[1] for data in case.data]
    try:
        baseline = running.with_reference(case.model, inputs)
    except RunError as error:
        return Verdict(UNCHECKED, f"{reason}; the reference evaluator raises {error}")
    try:
        ours = [running.with_reference(result, inputs) for result in results]
    except RunError as error:
        return Verdict(FAILING, f"the reference evaluator raises {error}")
    if not all(_all_same(outputs, baseline) for outputs in ours):
        if _all_same(running.with_reference(case.model, inputs), baseline):
            return Verdict(FAILING, "the reference evaluator gives other outputs than from the original")
        return Verdict(RANDOM, f"{reason}; the reference evaluator draws random numbers")
    if not _all_close(case, baseline, expected):
        return Verdict(UNCHECKED, f"{reason}; the reference evaluator's outputs are not the expected ones")
    return Verdict(REFERENCE, reason)


def _results(case: Case, folder: Path) -> list[ModelProto]:
    """What deepstruct makes of a case, in each way; the same file is returned once."""
    source = folder / "source.onnx"
    source.write_bytes(case.model.SerializeToString())
    found: list[bytes] = []
    for number, (reading, writing) in enumerate(WAYS):
        place = folder / str(number)
        place.mkdir()
        content = _through_document(source, place, reading, writing)
        if content not in found:
            found.append(content)
    results = []
    for content in found:
        result = ModelProto.FromString(content)
        wrong = graphs.differences(result, case.model)
        if wrong:
            raise _DifferenceError(wrong[0])
        results.append(result)
    return results


def _through_document(source: Path, folder: Path, reading: dict[str, Any], writing: dict[str, Any]) -> bytes:
    losses: list[Loss] = []
    model = deepstruct.load(source, losses=losses, **reading)
    deepstruct.save(model, folder / "net.structure.json", fail_on_loss=True)
    again = deepstruct.load(folder / "net.structure.json")
    if again != model:
        raise _DifferenceError("the document is not the model")
    result = folder / "result.onnx"
    deepstruct.save(again, result, fail_on_loss=True, **writing)
    if deepstruct.load(result, losses=losses) != again:
        raise _DifferenceError("the file is read as another model than it was written from")
    proto = onnx.load(result)
    return bytes(proto.SerializeToString())


def _all_same(ours: Sequence[Sequence[Value]], theirs: Sequence[Sequence[Value]]) -> bool:
    return all(values.all_same(a, b) for a, b in zip(ours, theirs, strict=True))


def _all_close(
    case: Case, ours: Sequence[Sequence[Value]], theirs: Sequence[Sequence[Value]], least: float = 0
) -> bool:
    rtol, atol = max(case.rtol, least), max(case.atol, least)
    return all(values.all_close(a, b, rtol, atol) for a, b in zip(ours, theirs, strict=True))


def _flat(runs: Sequence[Sequence[Value]]) -> list[Value]:
    return [value for outputs in runs for value in outputs]


def told(error: Exception, folder: Path) -> str:
    """What an error says, on one line and without the folder that the files lay in."""
    message = re.sub(r"\s+", " ", str(error).replace(f"{folder}/", ""))
    return textwrap.shorten(f"{type(error).__name__}: {message}", 200, placeholder=" …")
