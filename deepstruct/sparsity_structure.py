"""SparsityStructure: the claim that a mask has at most n of each m entries, as sparse hardware asks for (2:4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepstruct import blocks
from deepstruct.errors import Fault, StructureError
from deepstruct.mask import Mask

TYPE = "n:m"


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

    def faults(self, mask: Mask) -> Iterator[Fault]:
        """What makes the claim false of a mask: one fault, or none."""
        shape = mask.shape
        if self.axis >= len(shape):
            message = f"there is no axis {self.axis} in shape {list(shape)}"
            yield Fault("MASK_STRUCTURE", "", message)
        elif shape[self.axis] % self.m:
            message = f"{shape[self.axis]} entries along axis {self.axis} do not make groups of {self.m}"
            yield Fault("MASK_STRUCTURE", "", message)
        else:
            crowded = self._crowded(mask)
            if crowded is not None:
                message = f"the mask is not {self}: more than {self.n} of the {self.m} entries from {crowded} on exist"
                yield Fault("MASK_STRUCTURE", "", message)

    def _crowded(self, mask: Mask) -> list[int] | None:
        """Coordinates of the first entry of the first group that has too many."""
        if self.n == self.m or not mask.size:
            return None
        for start, slab in blocks.slabs(mask, multiple=self.m if self.axis == 0 else 1):
            extents = (*slab.shape[: self.axis], -1, self.m, *slab.shape[self.axis + 1 :])
            counts = slab.reshape(extents).sum(axis=self.axis + 1, dtype=np.int64)
            wrong = np.argwhere(counts > self.n)
            if wrong.size:
                place = [int(coordinate) for coordinate in wrong[0]]
                place[self.axis] *= self.m
                place[0] += start
                return place
        return None
