"""Extents for the inputs of two networks: those that are fixed, a batch, and guesses for those that are open."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deepstruct.errors import UsageError, did_you_mean
from deepstruct.structure import ValueInfo

Place = tuple[int, int]
"""Number of an input, and axis."""

_GUESSES = {1: 8, 2: 8, 3: 8, 4: 32, 5: 8}
"""Rank of an input -> first guess for an extent that is open and not the batch."""

_FURTHER_GUESSES = (16, 4, 64, 2, 1, 128, 224, 256, 512)


class CannotSampleError(Exception):
    """Inputs cannot be made up; the message says why, and what would help."""


@dataclass(frozen=True)
class Assignment:
    """Extents of all inputs.

    Attributes:
        shapes: name in the first network -> extents, None for the batch.
    """

    shapes: Mapping[str, tuple[int | None, ...]]

    @property
    def has_batch(self) -> bool:
        """Whether the size of the batch can be chosen."""
        return any(extent is None for shape in self.shapes.values() for extent in shape)

    def shape(self, name: str, batch: int) -> tuple[int, ...]:
        """The extents of an input with a batch of some size, which means nothing where there is none."""
        return tuple(batch if extent is None else extent for extent in self.shapes[name])

    def batch_axis(self, name: str) -> int | None:
        """The axis of the batch in an input, if there is one."""
        shape = self.shapes[name]
        return shape.index(None) if None in shape else None

    def to_json(self) -> dict[str, Any]:
        """Name -> extents, ``"batch"`` for the batch."""
        return {name: ["batch" if n is None else n for n in shape] for name, shape in self.shapes.items()}


def assignments(
    a: Sequence[ValueInfo], b: Sequence[ValueInfo], given: Mapping[str, Sequence[int]]
) -> tuple[Assignment, ...]:
    """Extents that may fit, the most likely ones first.

    An extent that is fixed on one side is so on both. Dimensions of one name have one extent.

    Args:
        a: inputs of the first network.
        b: inputs of the second, in the same order.
        given: name in the first network -> extents that the user asks for, -1 for one that stays as it is.

    Raises:
        CannotSampleError: the rank of an input is unknown.
        UsageError: what the user asks for does not fit to the inputs.
    """
    unknown = sorted(given.keys() - {info.name for info in a})
    if unknown:
        names = [info.name for info in a]
        raise UsageError(f"--input-shape: there is no input {unknown[0]!r}{did_you_mean(unknown[0], names)}")
    shapes = [_merged(one, other, given.get(one.name)) for one, other in zip(a, b, strict=True)]
    classes, extents = _solved(shapes)
    roots = {place: classes.find(place) for place, extent in extents.items() if extent is None}
    batch = _batch(roots, classes.named)
    found: dict[tuple[int, ...], Assignment] = {}
    others = list(dict.fromkeys(root for root in roots.values() if root not in batch))
    for guess in (None, *_FURTHER_GUESSES):
        chosen = {root: _guess(root, roots, shapes) if guess is None else guess for root in others}
        made = {
            info.name: tuple(
                extents[i, axis] if (i, axis) not in roots else chosen.get(roots[i, axis])
                for axis in range(len(shapes[i]))
            )
            for i, info in enumerate(a)
        }
        found.setdefault(tuple(chosen.values()), Assignment(made))
    return tuple(found.values())


Dims = list[tuple[int | str | None, ...]]
"""What is said about each axis: by the user, by the first network, by the second."""


def _merged(a: ValueInfo, b: ValueInfo, given: Sequence[int] | None) -> Dims:
    said = [shape for shape in (a.shape, b.shape) if shape is not None]
    ranks = {len(shape) for shape in said} | ({len(given)} if given is not None and not said else set())
    if not ranks:
        raise CannotSampleError(f"the rank of the input {a.name!r} is unknown; --input-shape {a.name}=N,... says it")
    rank = ranks.pop()
    if ranks:
        raise CannotSampleError(f"the input {a.name!r} has another rank in the second network")
    if given is not None and len(given) != rank:
        raise UsageError(f"--input-shape {a.name}: {len(given)} extents for a tensor of rank {rank}")
    dims: Dims = []
    for axis in range(rank):
        ours, theirs = (None if info.shape is None else info.shape[axis] for info in (a, b))
        asked = None if given is None or given[axis] == -1 else given[axis]
        if asked is not None and (asked < 0 or any(isinstance(n, int) and n != asked for n in (ours, theirs))):
            fixed = ours if isinstance(ours, int) else theirs
            raise UsageError(f"--input-shape {a.name}: the extent of axis {axis} is {fixed}, not {asked}")
        dims.append((asked, ours, theirs))
    return dims


class _Classes:
    """Dimensions that must have the same extent."""

    def __init__(self) -> None:
        self._parents: dict[Hashable, Hashable] = {}
        self._names: set[Hashable] = set()

    def find(self, item: Hashable) -> Hashable:
        """What stands for all dimensions that are the same as this one."""
        while (parent := self._parents.setdefault(item, item)) != item:
            item = parent
        return item

    def join(self, place: Place, name: tuple[int, str]) -> None:
        """Says that the dimension at a place has a name on one side."""
        self._parents[self.find(name)] = self.find(place)
        self._names.add(name)

    @property
    def named(self) -> set[Hashable]:
        """What stands for dimensions that have names."""
        return {self.find(name) for name in self._names}


def _solved(shapes: Sequence[Dims]) -> tuple[_Classes, dict[Place, int | None]]:
    classes = _Classes()
    fixed: dict[Place, int] = {}
    for number, dims in enumerate(shapes):
        for axis, said in enumerate(dims):
            classes.find((number, axis))
            for side, dim in enumerate(said):
                if isinstance(dim, int):
                    fixed.setdefault((number, axis), dim)
                elif dim is not None:
                    classes.join((number, axis), (side, dim))
    of_class = {classes.find(place): extent for place, extent in reversed(fixed.items())}
    places = [(number, axis) for number, dims in enumerate(shapes) for axis in range(len(dims))]
    return classes, {place: fixed.get(place, of_class.get(classes.find(place))) for place in places}


def _batch(roots: Mapping[Place, Hashable], named: set[Hashable]) -> set[Hashable]:
    """The named dimension that every open input has, the one nearest to the front, else the first open one of each."""
    first: dict[int, Place] = {}
    inputs_of: dict[Hashable, set[int]] = {}
    axis_of: dict[Hashable, int] = {}
    for place, root in sorted(roots.items()):
        first.setdefault(place[0], place)
        inputs_of.setdefault(root, set()).add(place[0])
        axis_of[root] = min(axis_of.get(root, place[1]), place[1])
    everywhere = [root for root, inputs in inputs_of.items() if root in named and len(inputs) == len(first)]
    if everywhere:
        return {min(everywhere, key=axis_of.__getitem__)}
    return {roots[place] for place in first.values()}


def _guess(root: Hashable, roots: Mapping[Place, Hashable], shapes: Sequence[Dims]) -> int:
    return min(_GUESSES.get(len(shapes[place[0]]), 4) for place, other in roots.items() if other == root)
