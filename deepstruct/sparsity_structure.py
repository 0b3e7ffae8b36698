"""SparsityStructure: the claim that a mask has at most n of each m entries, as sparse hardware asks for (2:4)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepstruct.errors import Fault, StructureError
from deepstruct.mask import Mask

TYPE = "n:m"

_SLAB = 1 << 20  # entries unpacked at a time


@dataclass(frozen=True, slots=True)
class SparsityStructure:
    """At most `n` of each `m` consecutive entries along an axis exist (`docs/format.md`, "Masks").

    Attributes:
        n: entries of a group that may exist, from 1 to `m`.
        m: entries of a group; the extent of the axis is a multiple of it.
        axis: along which the groups lie, from 0.
    """

    n: int
    m: int
    axis: int

    def __post_init__(self) -> None:
        wrong = [name for name in ("n", "m", "axis") if type(getattr(self, name)) is not int]
        if wrong or not 1 <= self.n <= self.m or self.axis < 0:
            given = {name: getattr(self, name) for name in ("n", "m", "axis")}
            message = f"n, m and axis are integers with 1 <= n <= m and 0 <= axis, not {given!r:.80}"
            raise StructureError("sparsity structure", [Fault("INVALID_VALUE", "", message)])

    @classmethod
    def from_json(cls, value: Any) -> SparsityStructure:
        """The claim of a document's object.

        Raises:
            StructureError: it is none; the pointers of the faults are relative to the object.
        """
        expected = {"type", "n", "m", "axis"}
        if not isinstance(value, dict) or value.keys() != expected or value["type"] != TYPE:
            message = f'must have the members type, which is "{TYPE}", n, m and axis, and no others, not {value!r:.80}'
            raise StructureError("sparsity structure", [Fault("INVALID_VALUE", "", message)])
        return cls(value["n"], value["m"], value["axis"])

    def to_json(self) -> dict[str, Any]:
        """The document's object."""
        return {"type": TYPE, "n": self.n, "m": self.m, "axis": self.axis}

    def __str__(self) -> str:
        return f"{self.n}:{self.m} along axis {self.axis}"

    def faults(self, shape: tuple[int, ...], mask: Mask | None) -> Iterator[Fault]:
        """What makes the claim false: one fault, or none.

        Args:
            shape: of the parameter.
            mask: of that shape; None if every entry exists.
        """
        if self.axis >= len(shape):
            message = f"there is no axis {self.axis} in shape {list(shape)}"
            yield Fault("MASK_STRUCTURE", "", message)
        elif shape[self.axis] % self.m:
            message = f"{shape[self.axis]} entries along axis {self.axis} do not make groups of {self.m}"
            yield Fault("MASK_STRUCTURE", "", message)
        elif self.n < self.m and 0 not in shape:
            crowded = [0] * len(shape) if mask is None else self._crowded(mask)
            if crowded is not None:
                message = f"the mask is not {self}: more than {self.n} of the {self.m} entries from {crowded} on exist"
                yield Fault("MASK_STRUCTURE", "", message)

    def _crowded(self, mask: Mask) -> list[int] | None:
        """Coordinates of the first entry of a group that has too many, or None."""
        inner = math.prod(mask.shape[self.axis + 1 :])
        for start, counts in self._counts(mask, inner):
            wrong = np.flatnonzero(counts > self.n)
            if wrong.size:
                block, offset = divmod(int(wrong[0]), inner)
                return [int(i) for i in np.unravel_index(start + block * self.m * inner + offset, mask.shape)]
        return None

    def _counts(self, mask: Mask, inner: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Flat index of an entry, and int64 ``[n]``: entries of groups, the first of which begins there.

        Groups begin at `inner` consecutive entries, and then at those `m` times as far away.
        """
        group = self.m * inner
        together = _SLAB // group * group
        if together:
            for start in range(0, mask.size, together):
                groups = mask.bits(start, min(start + together, mask.size)).reshape(-1, self.m, inner)
                yield start, groups.sum(axis=1, dtype=np.int64).reshape(-1)
            return
        width = min(inner, _SLAB)
        rows = _SLAB // width if width == inner else 1
        for start in range(0, mask.size, group):
            for left in range(start, start + inner, width):
                counts = np.zeros(min(width, start + inner - left), dtype=np.int64)
                for first in range(0, self.m, rows):
                    last = min(first + rows, self.m)
                    bits = mask.bits(left + first * inner, left + (last - 1) * inner + counts.size)
                    counts += bits.reshape(-1, counts.size).sum(axis=0, dtype=np.int64)
                yield left, counts
