"""How far two outputs are apart, in figures that inform and do not judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepstruct.verification.runtimes import Value

_GROSS = {"float32": 1e-3, "float64": 1e-3}
_GROSS_OTHERWISE = 5e-2
"""Relative differences beyond which two networks are not the same whatever is rounded, by dtype."""


@dataclass(frozen=True)
class Figures:
    """How far two sets of outputs are apart; distances are over numbers that are finite on both sides.

    Attributes:
        equal: all bits are the same.
        max_absolute: largest difference.
        max_relative: largest difference, relative to the largest number of that output.
        max_relative_elementwise: largest difference relative to the number itself, where that is not 0.
        max_ulp: largest number of floating numbers of the dtype between two; None without such outputs.
        top1: share of rows whose largest number stands in the same place; None without rows of more than one number.
        one_sided: entries that are NaN or infinite on one side only, or infinite with another sign.
        differing: entries that are not the same.
        worst: the output with the largest `max_relative`, else the first that differs; ``""`` if all are equal.
    """

    equal: bool
    max_absolute: float
    max_relative: float
    max_relative_elementwise: float
    max_ulp: int | None
    top1: float | None
    one_sided: int
    differing: int
    worst: str

    def to_json(self) -> dict[str, Any]:
        """The figures as a JSON object."""
        return asdict(self)


def compared(names: Sequence[str], a: Sequence[Value], b: Sequence[Value]) -> Figures:
    """The figures of outputs whose types and shapes are the same; see `faults`."""
    found = [
        _of_tensor(name, one, other)
        for whole, ours, theirs in zip(names, a, b, strict=True)
        for name, one, other in _tensors(whole, ours, theirs)
    ]
    ulps = [figures.max_ulp for figures in found if figures.max_ulp is not None]
    shares = [figures.top1 for figures in found if figures.top1 is not None]
    unequal = [figures for figures in found if not figures.equal]
    return Figures(
        equal=not unequal,
        max_absolute=max((figures.max_absolute for figures in found), default=0.0),
        max_relative=max((figures.max_relative for figures in found), default=0.0),
        max_relative_elementwise=max((figures.max_relative_elementwise for figures in found), default=0.0),
        max_ulp=max(ulps, default=None),
        top1=min(shares, default=None),
        one_sided=sum(figures.one_sided for figures in found),
        differing=sum(figures.differing for figures in found),
        worst=max(unequal, key=lambda figures: figures.max_relative).worst if unequal else "",
    )


def faults(names: Sequence[str], a: Sequence[Value], b: Sequence[Value]) -> list[str]:
    """Why two sets of outputs cannot be compared: other numbers of outputs, types or shapes."""
    if len(a) != len(b):
        return [f"one gives {len(a)} outputs, the other {len(b)}"]
    return [fault for name, one, other in zip(names, a, b, strict=True) for fault in _faults(name, one, other)]


class Drift:
    """How far outputs are apart over several cases, relative to the largest number that an output ever has."""

    def __init__(self, names: Sequence[str]) -> None:
        """Nothing is seen yet.

        Args:
            names: of the outputs.
        """
        self._names = tuple(names)
        self._absolute = dict.fromkeys(names, 0.0)
        self._largest = dict.fromkeys(names, 0.0)
        self._dtypes: dict[str, str] = {}

    def see(self, a: Sequence[Value], b: Sequence[Value]) -> None:
        """Takes in the outputs of one case, of the same types and shapes on both sides."""
        for whole, ours, theirs in zip(self._names, a, b, strict=True):
            for name, one, other in _tensors(whole, ours, theirs):
                found = _of_tensor(name, one, other)
                self._absolute[whole] = max(self._absolute[whole], found.max_absolute)
                if is_float(one):
                    self._dtypes[whole] = one.dtype.name
                    wide = np.abs(as_float64(one))
                    largest = float(wide[np.isfinite(wide)].max(initial=0.0))
                    self._largest[whole] = max(self._largest[whole], largest)

    def relative(self, name: str) -> float:
        """The largest difference of an output of floating numbers, relative to its largest number."""
        absolute, largest = self._absolute[name], self._largest[name]
        return _finite(absolute / largest) if largest else float(absolute > 0)

    @property
    def largest(self) -> float:
        """The largest of these over all outputs."""
        return max(map(self.relative, self._names), default=0.0)

    def gross(self) -> list[str]:
        """Differences that rounding does not explain, in sentences; integers may stand for ranks, and so for ties."""
        return [
            f"the output {name!r} differs by {self.relative(name):.2g} of its largest number"
            for name, dtype in self._dtypes.items()
            if self.relative(name) > _GROSS.get(dtype, _GROSS_OTHERWISE)
        ]


def _faults(name: str, a: Value, b: Value) -> Iterator[str]:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        if a.dtype != b.dtype and not (a.dtype.kind in "OU" and b.dtype.kind in "OU"):
            yield f"the output {name!r} has dtype {a.dtype} in one and {b.dtype} in the other"
        if a.shape != b.shape:
            yield f"the output {name!r} has shape {list(a.shape)} in one and {list(b.shape)} in the other"
    elif isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            yield f"the output {name!r} holds {len(a)} tensors in one and {len(b)} in the other"
        for number, (one, other) in enumerate(zip(a, b, strict=False)):
            yield from _faults(f"{name}[{number}]", one, other)
    elif type(a) is not type(b):
        kinds = ["nothing" if v is None else "a sequence" if isinstance(v, list) else "a tensor" for v in (a, b)]
        yield f"the output {name!r} is {kinds[0]} in one and {kinds[1]} in the other"


def _tensors(name: str, a: Value, b: Value) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        yield name, a, b
    elif isinstance(a, list) and isinstance(b, list):
        for number, (one, other) in enumerate(zip(a, b, strict=True)):
            yield from _tensors(f"{name}[{number}]", one, other)


def is_float(array: NDArray[Any]) -> bool:
    """Whether a tensor holds floating numbers, those of `ml_dtypes` included."""
    return "float" in array.dtype.name


def as_float64(array: NDArray[Any]) -> NDArray[np.float64]:
    """Floating numbers in float64, in which all of them are exact."""
    return array.astype(np.float64)


def _of_tensor(name: str, a: NDArray[Any], b: NDArray[Any]) -> Figures:
    if not is_float(a):
        differing = int(np.count_nonzero(a != b))
        worst = name if differing else ""
        return Figures(not differing, 0.0, 0.0, 0.0, None, None, 0, differing, worst)
    equal = np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()
    one, other = as_float64(a), as_float64(b)
    both = np.isfinite(one) & np.isfinite(other)
    one_sided = ~both & ~((np.isnan(one) & np.isnan(other)) | (one == other))
    with np.errstate(over="ignore"):
        distance = np.abs(np.subtract(one, other, where=both, out=np.zeros_like(one)))
        scale = np.abs(np.where(both, one, 0.0))
        elementwise = np.divide(distance, scale, where=scale > 0, out=np.zeros_like(scale))
    largest, absolute = float(scale.max(initial=0.0)), float(distance.max(initial=0.0))
    return Figures(
        equal=equal,
        max_absolute=_finite(absolute),
        max_relative=_finite(absolute / largest) if largest else 0.0,
        max_relative_elementwise=_finite(float(elementwise.max(initial=0.0))),
        max_ulp=_max_ulp(a, b, both),
        top1=_top1(one, other),
        one_sided=int(np.count_nonzero(one_sided)),
        differing=int(np.count_nonzero(~((one == other) | (np.isnan(one) & np.isnan(other))))),
        worst="" if equal else name,
    )


def _finite(number: float) -> float:
    """The number, or the largest one where a difference or quotient went beyond it."""
    return min(number, float(np.finfo(np.float64).max))


def _max_ulp(a: NDArray[Any], b: NDArray[Any], where: NDArray[np.bool_]) -> int | None:
    """The largest number of steps from one floating number to the next, between numbers of the same place."""
    if a.dtype.itemsize not in (1, 2, 4, 8) or a.dtype.kind == "c":
        return None
    one, other = _ordered(a[where]), _ordered(b[where])
    steps = np.maximum(one, other).view(np.uint64) - np.minimum(one, other).view(np.uint64)  # wraps around rightly
    return int(steps.max(initial=0))


def _ordered(array: NDArray[Any]) -> NDArray[np.int64]:
    """Integers in the order of floating numbers, one apart for neighbours; both zeros are 0."""
    bits = 8 * array.dtype.itemsize
    raw = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}").astype(np.uint64)
    sign = np.uint64(1) << np.uint64(bits - 1)
    magnitude = (raw & (sign - np.uint64(1))).view(np.int64)
    return np.where(raw & sign, -magnitude, magnitude)


def _top1(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    if not a.ndim or a.shape[-1] < 2 or not a.size:
        return None
    same = np.argmax(a, axis=-1) == np.argmax(b, axis=-1)
    return float(same.mean())
