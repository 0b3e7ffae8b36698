"""Tier 2, wiring: the same masks filled with small integers, compared bit by bit through both runtimes.

Sums and products of small integers are exact in every order of summation, so that the two sides must agree in every
bit. Between operations the values are reduced modulo a prime, which keeps them small at any depth: networks with other
wiring are other polynomials, and those differ at nearly all points (Schwartz 1980; Zippel 1979).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepstruct.structure import Node
from deepstruct.verification.identity import Leaf, other_bits
from deepstruct.verification.operations import LeafPair, Step
from deepstruct.verification.runtimes import Value
from deepstruct.verification.sides import Runner, Side, is_float

MODULUS = 31
_SMALLER = (31, 7, 3, 2)  # moduli of an operation whose sums would get too large
_LARGEST_EXACT = {2: 2.0**11, 4: 2.0**24, 8: 2.0**53}  # itemsize -> integers up to which all are exact
_MOST_WEIGHT = 3  # weights are 1, 2 or 3

_EXACT = frozenset(
    [
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Transpose",
        "Concat",
        "Slice",
        "Gather",
        "GatherND",
        "GatherElements",
        "ScatterND",
        "ScatterElements",
        "Pad",
        "Expand",
        "Tile",
        "Split",
        "Where",
        "DepthToSpace",
        "SpaceToDepth",
        "Compress",
        "Identity",
        "Cast",
        "ConstantOfShape",
        "Shape",
        "Size",
        "EyeLike",
        "Trilu",
        "ReverseSequence",
        "OneHot",
        "NonZero",
        "Gemm",
        "MatMul",
        "Conv",
        "ConvTranspose",
        "Einsum",
        "Add",
        "Sub",
        "Mul",
        "Sum",
        "ReduceSum",
        "CumSum",
        "Relu",
        "Max",
        "Min",
        "Abs",
        "Neg",
        "MaxPool",
        "GlobalMaxPool",
        "ReduceMax",
        "ReduceMin",
        "Sign",
        "Floor",
        "Ceil",
        "Round",
        "Less",
        "LessOrEqual",
        "Greater",
        "GreaterOrEqual",
        "Equal",
        "And",
        "Or",
        "Not",
        "Xor",
    ]
)
"""Operators that are exact on small integers."""

_RECURRENT = ("LSTM", "GRU", "RNN")


@dataclass(frozen=True, slots=True)
class WiringFailure:
    """An operation that gave different integers.

    Attributes:
        a: node in the first structure.
        b: node in the second.
        operator: of both.
        differing: number of elements of its outputs that differ.
        elements: of how many.
    """

    a: str
    b: str
    operator: str
    differing: int
    elements: int


@dataclass(frozen=True, slots=True)
class Wiring:
    """Verdict of the second tier.

    Attributes:
        verdict: ``failed`` if an operation gave different integers.
        modulus: of the integers between operations.
        computed: operations computed on integers by both sides.
        passed_on: operations that are not exact on integers: that their inputs are the same is checked, and what they
            compute is left to the third tier.
        runtimes: used by the first side and by the second.
        failures: in the order of the first structure.
        reason: why the tier did not run.
    """

    verdict: Literal["passed", "failed", "not run"]
    modulus: int = MODULUS
    computed: int = 0
    passed_on: int = 0
    runtimes: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    failures: tuple[WiringFailure, ...] = ()
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """The tier as a JSON object."""
        return asdict(self)


class WiringProof:
    """Walks both structures with integers. Each side goes on with its own values, until they differ."""

    def __init__(self, a: Side, b: Side, inputs_a: Mapping[str, Value], inputs_b: Mapping[str, Value]) -> None:
        """A proof that has not left the graph inputs.

        Args:
            a: the first side.
            b: the second.
            inputs_a: name of each graph input of the first structure -> small integers in its dtype.
            inputs_b: the same values under the names of the second.
        """
        self._a, self._b = a, b
        self._values_a = {name: _widened(value) for name, value in inputs_a.items()}
        self._values_b = {name: _widened(value) for name, value in inputs_b.items()}
        self._computed = self._passed_on = 0
        self._runtimes: tuple[dict[str, None], dict[str, None]] = ({}, {})
        self._failures: list[WiringFailure] = []

    def step(self, step: Step) -> None:
        """Computes one operation on both sides and compares."""
        arguments_a, arguments_b = self._arguments(step)
        if not step.a.domain and step.a.op_type in _EXACT:
            runner_a, runner_b = self._a.runner(step.a), self._b.runner(step.b)
            for modulus in _SMALLER:
                results_a = runner_a.run(_reduced(arguments_a, modulus), self._a.fixed(step.a.inputs))
                if all(map(_is_exact, results_a)):
                    results_b = runner_b.run(_reduced(arguments_b, modulus), self._b.fixed(step.b.inputs))
                    self._count(runner_a, runner_b)
                    self._compare(step, results_a, results_b)
                    return
        if step.a.op_type in _RECURRENT and not step.a.domain:
            self._compare_gates(step, arguments_a, arguments_b)
        self._pass_on(step, arguments_a, arguments_b)

    def _arguments(self, step: Step) -> tuple[dict[str, Value], dict[str, Value]]:
        """What both operations take: values that were made before, and integers in place of the leaves."""
        pairs = {pair.b: pair for pair in step.leaves}
        arguments_a: dict[str, Value] = {}
        for name in filter(None, step.a.inputs):
            if self._a.is_leaf(name):
                arguments_a[name] = self._integers(self._a.leaf(name), name)
            else:
                self._a.supply(name, self._values_a, _widened)
                arguments_a[name] = self._values_a[name]
        arguments_b: dict[str, Value] = {}
        for name in filter(None, step.b.inputs):
            if self._b.is_leaf(name):
                arguments_b[name] = self._counterpart(pairs.get(name), self._b.leaf(name), name)
            else:
                twin = next(
                    (
                        x
                        for x, place in zip(step.a.inputs, step.order, strict=True)
                        if place >= 0 and step.b.inputs[place] == name
                    ),
                    None,
                )
                if name not in self._values_b and twin is not None:
                    self._values_b[name] = self._values_a[twin]
                self._b.supply(name, self._values_b, _widened)
                arguments_b[name] = self._values_b[name]
        return arguments_a, arguments_b

    def _counterpart(self, pair: LeafPair | None, leaf: Leaf, name: str) -> Value:
        """Integers on the second side's own mask, those of the first side where both have an entry."""
        if pair is None:
            return self._integers(leaf, name)
        first = self._a.leaf(pair.a)
        leaf = leaf.with_rank(first.array.ndim) if pair.broadcast else leaf
        if not is_float(first.array):
            return leaf.array
        return _integers(
            first.transposed(pair.permutation).array.shape, leaf, pair.a, pair.permutation, first.array.shape
        )

    def _integers(self, leaf: Leaf, name: str) -> Value:
        return _integers(leaf.array.shape, leaf, name, None, leaf.array.shape) if is_float(leaf.array) else leaf.array

    def _count(self, runner_a: Runner, runner_b: Runner) -> None:
        self._computed += 1
        self._runtimes[0][runner_a.runtime.name] = None
        self._runtimes[1][runner_b.runtime.name] = None

    def _compare(self, step: Step, results_a: list[Any], results_b: list[Any]) -> None:
        """Compares outputs, and keeps those of each side if they agree, else those of the first for both."""
        differing, elements = _differing(results_a, results_b)
        if differing:
            self._failures.append(WiringFailure(step.a.name, step.b.name, step.a.op_type, differing, elements))
            results_b = results_a
        self._keep(step, results_a, results_b)

    def _keep(self, step: Step, results_a: Sequence[Any], results_b: Sequence[Any]) -> None:
        for operation, results, values in (
            (step.a, results_a, self._values_a),
            (step.b, results_b, self._values_b),
        ):
            for name, result in zip(filter(None, operation.outputs), results, strict=True):
                values[name] = _modulo(_widened(result), MODULUS)

    def _pass_on(self, step: Step, arguments_a: dict[str, Value], arguments_b: dict[str, Value]) -> None:
        """Takes integers past an operation that would not leave them exact, by the same rule on both sides."""
        self._passed_on += 1
        dynamic = [name for name in step.a.inputs if name and not self._a.is_leaf(name)]
        runner = self._a.runner(step.a)
        leaves = {name: _widened(self._a.leaf(name).array) for name in self._a.fixed(step.a.inputs)}
        results = runner.run({**arguments_a, **leaves}, frozenset(leaves))
        source = next((name for name in dynamic if is_float(arguments_a[name])), None)
        position = step.order[step.a.inputs.index(source)] if source is not None else -1
        twin = step.b.inputs[position] if position >= 0 else None
        kept_a, kept_b = [], []
        for result in results:
            like = arguments_a[source] if source is not None else None
            if twin in arguments_b and is_float(result) and result.shape == getattr(like, "shape", None):
                kept_a.append(like)
                kept_b.append(arguments_b[twin])
            else:
                kept_a.append(_scrambled(result))
                kept_b.append(kept_a[-1])
        self._keep(step, kept_a, kept_b)

    def _compare_gates(self, step: Step, arguments_a: dict[str, Value], arguments_b: dict[str, Value]) -> None:
        """Computes products of a recurrent operator's matrices with the same integers on both sides."""
        for place in (1, 2):
            first, second = arguments_a[step.a.inputs[place]], arguments_b[step.b.inputs[step.order[place]]]
            if not isinstance(first, np.ndarray) or not isinstance(second, np.ndarray) or first.ndim != 3:
                continue
            columns = np.random.default_rng(place).integers(0, MODULUS, (first.shape[2], 3)).astype(first.dtype)
            node = Node("gates", "MatMul", ("matrices", "columns"), ("products",))
            results = []
            for side, matrices in ((self._a, first), (self._b, second)):
                runner = side.first((node,), ("products",))
                results.append(runner.run({"matrices": matrices, "columns": columns}))
            differing, elements = _differing(results[0], results[1])
            if differing:
                self._failures.append(WiringFailure(step.a.name, step.b.name, step.a.op_type, differing, elements))

    def forget(self, names_a: Sequence[str], names_b: Sequence[str]) -> None:
        """Lets go of values that nothing needs any more."""
        for name in names_a:
            self._values_a.pop(name, None)
        for name in names_b:
            self._values_b.pop(name, None)

    def result(self) -> Wiring:
        """What the proof comes to."""
        return Wiring(
            "failed" if self._failures else "passed",
            MODULUS,
            self._computed,
            self._passed_on,
            (tuple(self._runtimes[0]), tuple(self._runtimes[1])),
            tuple(self._failures),
        )


def _integers(
    shape: tuple[int, ...],
    leaf: Leaf,
    name: str,
    permutation: tuple[int, ...] | None,
    own_shape: tuple[int, ...],
) -> NDArray[Any]:
    """Integers from 1 on where a leaf has entries, the same for every leaf of one name.

    Args:
        shape: of the integers, once transposed.
        leaf: whose entries decide; without a mask those other than 0.
        name: of the leaf of the first structure.
        permutation: axes by which they are transposed.
        own_shape: of the leaf of the first structure.
    """
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    numbers = generator.integers(1, _MOST_WEIGHT + 1, own_shape, dtype=np.int8)
    if permutation is not None and len(permutation) == numbers.ndim:
        numbers = np.transpose(numbers, permutation)
    kept = leaf.array != 0 if leaf.kept is None else leaf.kept
    if kept.shape == shape:
        numbers = numbers * kept
    return np.asarray(numbers.astype(_dtype(leaf.array.dtype)))


def _dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which a floating dtype's integers are computed: float32 instead of those with fewer bits."""
    return dtype if dtype in (np.float32, np.float64) else np.dtype(np.float32)


def _widened(value: Any) -> Any:
    return value.astype(_dtype(value.dtype)) if is_float(value) else value


def _modulo(value: Any, modulus: int) -> Any:
    return np.asarray(np.mod(value, modulus)) if is_float(value) else value


def _reduced(arguments: Mapping[str, Value], modulus: int) -> dict[str, Value]:
    """Arguments with smaller integers."""
    return {name: _modulo(value, modulus) if modulus != MODULUS else value for name, value in arguments.items()}


def _is_exact(value: Any) -> bool:
    """Whether all numbers are integers that their dtype and all sums up to them hold exactly."""
    if not is_float(value):
        return True
    most = _LARGEST_EXACT.get(value.dtype.itemsize, 2.0**8)
    with np.errstate(invalid="ignore"):
        return bool((np.abs(value) < most).all() and (np.floor(value) == value).all())


def _differing(a: Sequence[Any], b: Sequence[Any]) -> tuple[int, int]:
    """Number of elements that differ, and of elements."""
    differing = elements = 0
    for first, second in zip(a, b, strict=True):
        if not isinstance(first, np.ndarray) or not isinstance(second, np.ndarray):
            elements += 1
            differing += repr(first) != repr(second)
        elif first.shape != second.shape or first.dtype != second.dtype:
            elements += first.size
            differing += max(first.size, 1)
        else:
            elements += first.size
            different = other_bits(first, second)
            if is_float(first):
                different &= ~((first == 0) & (second == 0))
            differing += int(np.count_nonzero(different))
    return differing, elements


def _scrambled(value: Any) -> Any:
    """Integers made of the numbers of one runtime."""
    if not is_float(value):
        return value
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.nan_to_num(np.round(np.abs(_widened(value)) * 97)) % MODULUS, dtype=_dtype(value.dtype))
