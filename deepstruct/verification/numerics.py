"""Tier 3, numerics: each operation of both sides on the same inputs, against the rounding bound of its outputs.

The bounds are in `bounds`; the inputs of an operation are what the first side computed on real inputs.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from deepstruct import dtypes
from deepstruct.verification import bounds
from deepstruct.verification.operations import Step
from deepstruct.verification.runtimes import Runtime, Value
from deepstruct.verification.sides import NotCertifiableError, Runner, Side

Finding = Literal["exact", "within", "uninformative", "outside"]
_FIRST, _SECOND, _REFERENCE = "a", "b", "reference"
_MOST = 2**25  # elements of all inputs together, for the reference
_MOST_IN_WINDOWS = 2**14
_WINDOWS = frozenset(
    [
        "Conv",
        "ConvTranspose",
        "AveragePool",
        "MaxPool",
        "LpPool",
        "Resize",
        "Upsample",
        "GridSample",
        "LSTM",
        "GRU",
        "RNN",
        "DeformConv",
        "RoiAlign",
    ]
)
_RANK: dict[Finding, int] = {"exact": 0, "within": 1, "uninformative": 2, "outside": 3}


@dataclass(slots=True)
class Layer:
    """What the third tier says about one operation; it gets worse with each case, never better.

    Attributes:
        a: node in the first structure.
        b: node in the second.
        operator: of both.
        finding: ``exact``: the same bits where these are demanded; ``within``: all runtimes within the bound;
            ``uninformative``: no bound is known, or it is too wide to say anything, and the bits differ; ``outside``.
        ratio: largest error divided by its bound: of the first side ``a``, the second ``b``, and of onnx's
            ``reference`` evaluator, which is for information.
        message: what is wrong, if anything.
    """

    a: str
    b: str
    operator: str
    finding: Finding = "exact"
    ratio: dict[str, float] = field(default_factory=dict)
    message: str = ""

    @property
    def worst(self) -> float:
        """The largest ratio of all runtimes."""
        return max(self.ratio.values(), default=0.0)

    def add(self, finding: Finding, ratios: Mapping[str, float], message: str = "") -> None:
        """Takes in another case."""
        for name, ratio in ratios.items():
            self.ratio[name] = max(self.ratio.get(name, 0.0), ratio)
        if _RANK[finding] > _RANK[self.finding]:
            self.finding, self.message = finding, message

    def to_json(self) -> dict[str, Any]:
        """The layer as a JSON object; a ratio beyond all numbers is null."""
        ratio = {name: ratio if math.isfinite(ratio) else None for name, ratio in self.ratio.items()}
        return {**asdict(self), "ratio": ratio}


@dataclass(frozen=True, slots=True)
class Numerics:
    """Verdict of the third tier.

    Attributes:
        verdict: ``failed`` if a layer is out of its bound, ``uninformative`` if one has none that says anything.
        layers: in the order of the first structure.
        cases: number of inputs on which each was computed.
        reason: why the tier did not run.
    """

    verdict: Literal["passed", "failed", "uninformative", "not run"]
    layers: tuple[Layer, ...] = ()
    cases: int = 0
    reason: str = ""

    @property
    def worst(self) -> Layer | None:
        """The layer that comes closest to its bound, or is farthest out of it."""
        return max(self.layers, key=lambda layer: (_RANK[layer.finding], layer.worst), default=None)

    def to_json(self) -> dict[str, Any]:
        """The tier as a JSON object."""
        return {**asdict(self), "layers": [layer.to_json() for layer in self.layers]}


class LayerCheck:
    """Walks both structures with real inputs. After each operation both sides go on with the first side's values."""

    def __init__(self, a: Side, b: Side, cases: Sequence[Mapping[str, Value]], reference: Runtime | None) -> None:
        """A check that has not left the graph inputs.

        Args:
            a: the first side.
            b: the second.
            cases: name of each graph input of the first structure -> value.
            reference: a third runtime, which computes the first side's operations where it can.
        """
        self._a, self._b = a, b
        self._reference = reference
        self._cases = [dict(case) for case in cases]
        self._twins: dict[str, str] = {}
        self._layers: list[Layer] = []

    def step(self, step: Step) -> None:
        """Computes one operation in all cases and judges its outputs."""
        layer = Layer(step.a.name, step.b.name, step.a.op_type)
        for name, place in zip(step.a.inputs, step.order, strict=True):
            if name and place >= 0:
                self._twins.setdefault(step.b.inputs[place], name)
        runner_a, runner_b = self._a.runner(step.a), self._b.runner(step.b)
        runners = [(_FIRST, self._a, runner_a), (_SECOND, self._b, runner_b)]
        referee = self._referee(step, runner_a, runner_b)
        for values in self._cases:
            arguments_a, arguments_b = self._arguments(step, values)
            results = [
                (name, runner.run(arguments, side.fixed(arguments)))
                for (name, side, runner), arguments in zip(runners, (arguments_a, arguments_b), strict=True)
            ]
            if referee is not None and _is_quick(step, arguments_a):
                with contextlib.suppress(NotCertifiableError):
                    results.append((_REFERENCE, referee.run(arguments_a, self._a.fixed(arguments_a))))
            _judge(layer, step, arguments_a, results, self._a.structure.opset.get("", 0))
            values.update(zip(filter(None, step.a.outputs), results[0][1], strict=True))
        for first, second in zip(step.a.outputs, step.b.outputs, strict=False):
            if first and second:
                self._twins[second] = first
        self._layers.append(layer)

    def _referee(self, step: Step, a: Runner, b: Runner) -> Runner | None:
        """The reference, unless one side is computed by it already or it lacks the operator."""
        if self._reference is None or self._reference.name in (a.runtime.name, b.runtime.name):
            return None
        try:
            return self._a.first(step.a.nodes, tuple(filter(None, step.a.outputs)), [self._reference])
        except NotCertifiableError:
            return None

    def _arguments(self, step: Step, values: dict[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
        """The same values for both operations, and each side's own leaves."""
        arguments_a: dict[str, Value] = {}
        for name in filter(None, step.a.inputs):
            if self._a.is_leaf(name):
                arguments_a[name] = self._a.leaf(name).array
            else:
                self._a.supply(name, values)
                arguments_a[name] = values[name]
        arguments_b: dict[str, Value] = {}
        for name in filter(None, step.b.inputs):
            if self._b.is_leaf(name):
                arguments_b[name] = self._b.leaf(name).array
            else:
                twin = self._twins.get(name)
                if twin is None:
                    raise NotCertifiableError(f"{self._b.name}: the value {name!r} has no counterpart")
                self._a.supply(twin, values)
                arguments_b[name] = values[twin]
        return arguments_a, arguments_b

    def forget(self, names_a: Sequence[str], _names_b: Sequence[str]) -> None:
        """Lets go of values of the first side that nothing needs any more."""
        for values in self._cases:
            for name in names_a:
                values.pop(name, None)

    def result(self) -> Numerics:
        """What the check comes to."""
        found = {layer.finding for layer in self._layers}
        verdict: Literal["passed", "failed", "uninformative"] = "passed"
        if "outside" in found:
            verdict = "failed"
        elif "uninformative" in found:
            verdict = "uninformative"
        return Numerics(verdict, tuple(self._layers), len(self._cases))


def _is_quick(step: Step, arguments: Mapping[str, Value]) -> bool:
    """Whether the reference, which goes through windows one by one in Python, gets done soon."""
    elements = sum(value.size for value in arguments.values() if isinstance(value, np.ndarray))
    return elements <= (_MOST_IN_WINDOWS if step.a.op_type in _WINDOWS else _MOST)


def _judge(
    layer: Layer, step: Step, arguments: Mapping[str, Value], results: Sequence[tuple[str, list[Any]]], opset: int
) -> None:
    """Judges what the runtimes gave for one operation, those of both sides and, after them, the reference."""
    first = iter(results[0][1])
    own = [next(first) if name else None for name in step.a.outputs]
    names = [dtypes.from_numpy(x.dtype) if isinstance(x, np.ndarray) else "" for x in own]
    inputs = [arguments[name] if name else None for name in step.a.inputs]
    rules = bounds.bounds(step.a, inputs, opset, names)
    used = [rule for rule, name in zip(rules, step.a.outputs, strict=True) if name]
    for position, rule in enumerate(used):
        given = [(name, outputs[position]) for name, outputs in results]
        if isinstance(rule, bounds.Bound):
            _judge_bounded(layer, rule, given)
        else:
            _judge_same(layer, given, is_demanded=rule is not None)


def _judge_bounded(layer: Layer, rule: bounds.Bound, given: Sequence[tuple[str, Any]]) -> None:
    judged = {name: bounds.judge(rule, output) for name, output in given}
    ratios = {name: judgement.ratio for name, judgement in judged.items()}
    same = all(bounds.compare(given[0][1], output).ratio == 0 for _, output in given[1:2])
    outside = [name for name, judgement in judged.items() if not judgement.is_within and name != _REFERENCE]
    if given[0][1].dtype != given[1][1].dtype or outside:
        names = " and ".join(outside) or "the two"
        place = judged[outside[0]].position if outside else None
        where = f" at {list(place)}" if place is not None else ""
        layer.add("outside", ratios, f"{names}: further from the exact result than rounding can explain{where}")
    elif not judged[_FIRST].is_informative and not same:
        layer.add("uninformative", ratios, "the rounding bound is too wide to say anything")
    else:
        layer.add("exact" if same and not any(ratios.values()) else "within", ratios)


def _judge_same(layer: Layer, given: Sequence[tuple[str, Any]], *, is_demanded: bool) -> None:
    (_, first), (_, second) = given[:2]
    if _are_same(first, second):
        layer.add("exact", {})
    elif is_demanded:
        layer.add("outside", {_SECOND: math.inf}, "the outputs must have the same bits, and have not")
    else:
        layer.add("uninformative", {}, "no rounding bound is known for this operator, and the bits differ")


def _are_same(first: Any, second: Any) -> bool:
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_are_same, first, second))
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return bounds.compare(first, second).ratio == 0
    return first is None and second is None
