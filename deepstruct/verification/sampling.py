"""Inputs for two networks that take the same: made up with a seed, or given by the user."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from deepstruct import dtypes, files
from deepstruct.errors import MalformedFileError, UsageError, did_you_mean
from deepstruct.structure import Node, Structure, ValueInfo, walk
from deepstruct.verification.extents import Assignment, CannotSampleError, assignments
from deepstruct.verification.ranges import Uses

__all__ = ["Assignment", "CannotSampleError", "Case", "Sampler", "from_npz"]

Kind = Literal[
    "given",
    "normal",
    "ones",
    "zeros",
    "one-hot",
    "integers",
    "extremes",
    "denormals",
    "cancellation",
    "large",
    "nan-lane",
    "inf-lane",
]

_ORDINARY: frozenset[Kind] = frozenset(("given", "normal", "ones", "zeros", "one-hot"))

_MOST_ELEMENTS = 2**28  # of one sample of an input

_WORDS = ("", "a", "deep", "structure", "größe")


@dataclass(frozen=True)
class Case:
    """One set of inputs.

    Attributes:
        kind: ``given``: by the user; ``normal``: standard normal times `scale`; ``ones`` and ``zeros``; ``one-hot``: a
            single 1 in each sample; ``integers``: from 0 to `below` - 1, as floats too; ``extremes``: half of the
            largest number of the dtype, with either sign; ``denormals``: close to the smallest one; ``cancellation``:
            one magnitude in each sample, signs in turn; ``large``: normal times 100; ``nan-lane`` and ``inf-lane``:
            normal, but for one entry of the first sample.
        batch: number of samples, where that is open.
        scale: of normal numbers.
        below: bound of small integers.
    """

    kind: Kind
    batch: int
    scale: float = 1.0
    below: int = 4

    @property
    def is_ordinary(self) -> bool:
        """Whether runtimes must cope with it: no numbers at their limits, and at least one sample."""
        return self.kind in _ORDINARY and self.batch > 0

    @property
    def is_generic(self) -> bool:
        """Whether it is ordinary, and equal numbers in it mean nothing."""
        return self.kind in ("given", "normal") and self.batch > 0

    def __str__(self) -> str:
        return f"{self.kind} inputs, batch {self.batch}"

    def to_json(self) -> dict[str, Any]:
        """The case as a JSON object."""
        return asdict(self)


class Sampler:
    """Makes inputs; the same ones for the same seed and case, whatever was made before.

    Values are called as the inputs of the first network are.
    """

    def __init__(
        self,
        a: Structure,
        b: Structure,
        *,
        seed: int = 0,
        shapes: Mapping[str, Sequence[int]] | None = None,
        given: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Plans inputs that both networks take, whose inputs correspond by position.

        Args:
            a: the first network.
            b: the second, with as many inputs.
            seed: of what is made up.
            shapes: name of an input -> extents, -1 for one that stays as it is.
            given: values of all inputs, as `from_npz` reads them.

        Raises:
            CannotSampleError: an input cannot be made up; it is named, with what would help.
            UsageError: a shape means nothing.
        """
        self.seed = seed
        self._inputs = a.inputs
        self._others = tuple(info.name for info in b.inputs)
        self._given = dict(given) if given is not None else None
        self._copes_with_none = not any(_ends_the_process(node) for s in (a, b) for node in _all_nodes(s))
        if given is not None:
            if shapes:
                raise UsageError("--input-shape means nothing beside --inputs, whose tensors have shapes")
            self._candidates: tuple[Assignment, ...] = (Assignment({n: given[n].shape for n in self._names}),)
            self._limits: dict[str, int | None] = {}
            return
        uses = Uses(a), Uses(b)
        for info, other in zip(a.inputs, b.inputs, strict=True):
            for side, name in zip(uses, (info.name, other.name), strict=True):
                _refuse(info, name, side)
        limits = [[side.limit(name) for name in names] for side, names in zip(uses, self._both, strict=True)]
        self._limits = {
            name: min((limit for limit in pair if limit is not None), default=None)
            for name, *pair in zip(self._names, *limits, strict=True)
        }
        self._candidates = assignments(a.inputs, b.inputs, shapes or {})
        for name, shape in self._candidates[0].shapes.items():
            if math.prod(extent for extent in shape if extent is not None) > _MOST_ELEMENTS:
                raise CannotSampleError(f"the input {name!r} has extents {list(shape)}, too many entries to make up")

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(info.name for info in self._inputs)

    @property
    def _both(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self._names, self._others

    def candidates(self) -> tuple[Assignment, ...]:
        """Extents to try until the networks run, the most likely ones first; at most a dozen."""
        return self._candidates

    def renamed(self, values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Values as the second network calls them."""
        return {other: values[name] for name, other in zip(self._names, self._others, strict=True)}

    def cases(self, assignment: Assignment) -> tuple[Case, ...]:
        """What to run networks on, the ordinary cases first."""
        first: list[Case] = [Case("given", 1)] if self._given is not None else []
        sizes = (2, 1, 3, 17, 0)[: 5 if self._copes_with_none else 4] if assignment.has_batch else (1,)
        few, many = sizes[0], max(sizes)
        ordinary = [Case("normal", size) for size in sizes]
        ordinary += [Case("ones", few), Case("zeros", few), Case("one-hot", many)]
        others: tuple[Kind, ...] = ("extremes", "denormals", "cancellation", "large", "nan-lane", "inf-lane")
        cases = (*first, *ordinary, *(Case(kind, few) for kind in others))
        floats = any(info.dtype is not None and "float" in info.dtype for info in self._inputs)
        return cases if floats else tuple(case for case in cases if case.kind in ("given", "normal", "ones", "zeros"))

    def inputs(self, assignment: Assignment, case: Case) -> dict[str, NDArray[Any]]:
        """The inputs of a case.

        Values that the user gave stay as they are where they are no floats.
        """
        if self._given is not None and case.kind == "given":
            return {name: self._given[name] for name in self._names}
        kinds = get_args(Kind)
        rng = np.random.default_rng([self.seed, kinds.index(case.kind), case.batch])
        values = {}
        for info in self._inputs:
            assert info.dtype is not None
            if self._given is not None and "float" not in info.dtype:
                values[info.name] = self._given[info.name]
            else:
                axis = assignment.batch_axis(info.name)
                shape = assignment.shape(info.name, case.batch)
                values[info.name] = _array(rng, info.dtype, shape, axis, case, self._limits.get(info.name))
        if case.kind in ("nan-lane", "inf-lane"):
            self._spoil(rng, assignment, case, values)
        return values

    def _spoil(
        self, rng: np.random.Generator, assignment: Assignment, case: Case, values: dict[str, NDArray[Any]]
    ) -> None:
        """Puts NaN or infinity into one entry of the first sample of the first input that can hold it."""
        for info in self._inputs:
            array = values[info.name]
            bad = np.array(np.nan if case.kind == "nan-lane" else np.inf).astype(array.dtype)
            if info.dtype is None or "float" not in info.dtype or not array.size or np.isfinite(bad):
                continue
            place = [int(rng.integers(extent)) for extent in array.shape]
            axis = assignment.batch_axis(info.name)
            if axis is not None:
                place[axis] = 0
            array[tuple(place)] = bad
            return


def _all_nodes(structure: Structure) -> Iterator[Node]:
    yield from walk(structure.nodes)
    for function in structure.functions:
        yield from walk(function.nodes)


def _ends_the_process(node: Node) -> bool:
    """Whether onnxruntime may not survive a node whose inputs hold nothing."""
    return bool(node.domain) or node.op_type in ("GRU", "LSTM")


def _refuse(info: ValueInfo, name: str, uses: Uses) -> None:
    """Makes sure that an input can be made up."""
    if info.containers or info.dtype is None:
        kind = info.containers[0] if info.containers else "value of unknown type"
        raise CannotSampleError(f"the input {info.name!r} is a {kind}, which cannot be made up")
    if info.dtype != "bool" and len(info.shape or ()) <= 1:
        node = uses.shape_use(name)
        if node is not None:
            why = f"the {node.op_type} {node.name!r} takes it for a shape, an axis or a count"
            raise CannotSampleError(f"the input {info.name!r} cannot be made up: {why}; give values with --inputs")


def _array(
    rng: np.random.Generator, dtype: str, shape: tuple[int, ...], axis: int | None, case: Case, limit: int | None
) -> NDArray[Any]:
    """Numbers of a dtype; `axis` is that of the batch, `limit` a bound for integers."""
    if dtype == "string":
        return np.array(rng.choice(_WORDS, shape), dtype=object).reshape(shape)
    target = dtypes.to_numpy(dtype)
    if dtype == "bool":
        constant = {"ones": True, "zeros": False}.get(case.kind)
        return rng.random(shape) < 0.5 if constant is None else np.full(shape, constant)
    if "int" in dtype:
        return _integers(rng, dtype, shape, case, limit).astype(target)
    exact = np.asarray(_MAKERS[case.kind](rng, shape, axis, case, target))
    if dtype.startswith("complex"):
        exact = exact + 1j * np.asarray(_MAKERS[case.kind](rng, shape, axis, case, target))
    with np.errstate(over="ignore", invalid="ignore"):
        return exact.astype(target)


def _integers(
    rng: np.random.Generator, dtype: str, shape: tuple[int, ...], case: Case, limit: int | None
) -> NDArray[Any]:
    """Indices below the limit; without one, all numbers of 8 bits or less, otherwise 0 and 1."""
    allowed = dtypes.integers(dtype)
    low, high = 0, min(2 if limit is None else limit, allowed.stop)
    if limit is None and allowed.stop - allowed.start <= 256:
        whole = low, min(case.below, allowed.stop)
        low, high = whole if case.kind == "integers" else (allowed.start, allowed.stop)
    if case.kind in ("ones", "zeros"):
        return np.full(shape, min(int(case.kind == "ones"), max(high - 1, 0)))
    return rng.integers(low, max(high, low + 1), shape)


Maker = Callable[[np.random.Generator, tuple[int, ...], int | None, Case, np.dtype[Any]], NDArray[Any]]


def _normal(rng: np.random.Generator, shape: tuple[int, ...], _axis: int | None, case: Case, _dtype: Any) -> Any:
    return case.scale * rng.standard_normal(shape)


def _small_integers(rng: np.random.Generator, shape: tuple[int, ...], _axis: int | None, case: Case, _d: Any) -> Any:
    return rng.integers(0, case.below, shape)


def _one_hot(rng: np.random.Generator, shape: tuple[int, ...], axis: int | None, _case: Case, _dtype: Any) -> Any:
    """A basis vector in each sample, another one in each as far as there are any."""
    samples = 1 if axis is None else shape[axis]
    rest = shape if axis is None else (*shape[:axis], *shape[axis + 1 :])
    size = int(np.prod(rest, dtype=np.int64))
    made = np.zeros((samples, size))
    if size:
        made[np.arange(samples), np.resize(rng.permutation(size), samples)] = 1
    made = made.reshape(samples, *rest)
    return made[0] if axis is None else np.moveaxis(made, 0, axis)


def _extremes(rng: np.random.Generator, shape: tuple[int, ...], _axis: int | None, _case: Case, dtype: Any) -> Any:
    return float(_limits(dtype).max) / 2 * rng.choice((-1.0, 1.0), shape)


def _denormals(rng: np.random.Generator, shape: tuple[int, ...], _axis: int | None, _case: Case, dtype: Any) -> Any:
    return float(_limits(dtype).smallest_subnormal) * rng.integers(-3, 4, shape)


def _cancellation(rng: np.random.Generator, shape: tuple[int, ...], axis: int | None, _case: Case, _dtype: Any) -> Any:
    signs = 1.0 - 2.0 * (np.arange(int(np.prod(shape, dtype=np.int64))) % 2).reshape(shape)
    along = [extent if i == axis else 1 for i, extent in enumerate(shape)]
    return signs * (1 + rng.random(along))


def _limits(dtype: np.dtype[Any]) -> Any:
    plain = np.dtype(f"f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype
    return ml_dtypes.finfo(plain)  # type: ignore[no-untyped-call]  # ml_dtypes leaves it untyped


_MAKERS: Mapping[str, Maker] = {
    "normal": _normal,
    "ones": lambda _rng, shape, *_: np.ones(shape),
    "zeros": lambda _rng, shape, *_: np.zeros(shape),
    "one-hot": _one_hot,
    "integers": _small_integers,
    "extremes": _extremes,
    "denormals": _denormals,
    "cancellation": _cancellation,
    "large": lambda rng, shape, *_: 100 * rng.standard_normal(shape),
    "nan-lane": _normal,
    "inf-lane": _normal,
}


def from_npz(path: Path, structure: Structure) -> dict[str, NDArray[Any]]:
    """The inputs of a network from a numpy archive that has a tensor for each.

    Types that numpy lacks, such as bfloat16, are taken from what `numpy.savez` makes of them.

    Raises:
        UnreadableFileError: the file cannot be opened.
        MalformedFileError: it is no such archive, or holds Python objects.
        UsageError: a tensor is missing, superfluous, or has another dtype or shape than the input.
    """
    with files.reading(path):
        arrays = dict(_members(path))
    names = {info.name for info in structure.inputs}
    for name in sorted(arrays.keys() - names):
        raise UsageError(f"{path}: there is no input {name!r}{did_you_mean(name, names)}")
    for name in sorted(names - arrays.keys()):
        raise UsageError(f"{path}: the input {name!r} is missing")
    return {info.name: _fitting(path, info, arrays[info.name]) for info in structure.inputs}


def _members(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    wrong = MalformedFileError(str(path), "no numpy archive of plain tensors; make it with numpy.savez")
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise wrong
            for name in archive.files:
                yield name, archive[name]
    except MemoryError:
        raise
    except (ValueError, TypeError, EOFError, KeyError, SyntaxError, zipfile.BadZipFile, NotImplementedError) as error:
        raise wrong from error


def _fitting(path: Path, info: ValueInfo, array: NDArray[Any]) -> NDArray[Any]:
    """The tensor as the input takes it."""
    if info.containers or info.dtype is None:
        raise UsageError(f"{path}: the input {info.name!r} is no tensor, and no file can give it")
    if info.dtype == "string":
        array = array.astype(object) if array.dtype.kind == "U" else array
        is_right = array.dtype == object
    else:
        expected = dtypes.to_numpy(info.dtype)
        if array.dtype.kind == "V" and array.dtype.names is None and expected.isbuiltin != 1:
            array = array.view(expected) if array.dtype.itemsize == expected.itemsize else array
        is_right = array.dtype == expected
    if not is_right:
        raise UsageError(f"{path}: the input {info.name!r} is {info.dtype}, not {array.dtype}")
    shape = info.shape
    if shape is not None and (
        len(shape) != array.ndim
        or any(isinstance(n, int) and n != extent for n, extent in zip(shape, array.shape, strict=True))
    ):
        wanted = ", ".join("?" if n is None else str(n) for n in shape)
        raise UsageError(f"{path}: the input {info.name!r} has shape [{wanted}], not {list(array.shape)}")
    return array
