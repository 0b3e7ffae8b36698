"""What the constructors of hub objects check, every fault collected before one error is raised."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from deepstruct.errors import Fault, StructureError, pointer
from deepstruct.frozen import FrozenMapping, check_text

_DEEPEST = 32  # levels of nested attributes; documents bound their own nesting (`deepstruct.limits`)


class Faults:
    """Collects the faults of one object under construction."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.faults: list[Fault] = []

    def add(self, code: str, place: str, message: str) -> None:
        """Note a fault."""
        self.faults.append(Fault(code, place, message))

    def text(self, value: object, place: str, *, empty: bool = False) -> None:
        """Demand a string that UTF-8 can hold."""
        if not isinstance(value, str) or (not value and not empty):
            self.add("TYPE_MISMATCH", place, f"must be a non-empty string, not {value!r:.60}")
        else:
            try:
                check_text(value)
            except TypeError as error:
                self.add("INVALID_VALUE", place, str(error))

    def raise_if_any(self) -> None:
        """Raise the error with all faults that were noted."""
        if self.faults:
            raise StructureError(self.subject, self.faults)


def sequence_of(values: object) -> tuple[Any, ...]:
    """`values` as a tuple, or the value itself alone where it is no sequence, for the checks to refuse."""
    if isinstance(values, Sequence) and not isinstance(values, (str, bytes)):
        return tuple(values)
    return (values,)


def mapping_of(found: Faults, value: object, place: str) -> FrozenMapping[Any]:
    """`value` frozen, or an empty mapping and a fault."""
    if not isinstance(value, Mapping):
        found.add("TYPE_MISMATCH", place, f"must be a mapping, not {type(value).__name__}")
        return FrozenMapping()
    try:
        return FrozenMapping(value)
    except (TypeError, RecursionError) as error:
        found.add("TYPE_MISMATCH", place, str(error))
        return FrozenMapping()


def unknown_members(found: Faults, extra: object, known: Collection[str], place: str = "") -> FrozenMapping[Any]:
    """Members that a document's object has beyond the known ones."""
    mapping = mapping_of(found, extra, place)
    for name in (name for name in mapping if name in known):
        found.add("INVALID_VALUE", place + pointer(name), f"extra holds unknown members only, and {name!r} is known")
    for at, message in not_json(mapping, place):
        found.add("ATTRIBUTE_VALUE", at, message)
    return mapping


def require_nested(found: Faults, extra: Mapping[str, Any], name: str, known: Collection[str]) -> None:
    """Check the unknown members of the object that a document has in the member `name`."""
    if name in extra:
        unknown_members(found, extra[name], known, pointer(name))


def not_json(value: Any, place: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Places of what a JSON document could not hold exactly, with the reason."""
    if depth > _DEEPEST:
        yield place, f"attributes are nested more than {_DEEPEST} levels deep"
    elif isinstance(value, FrozenMapping):
        for key, item in value.items():
            yield from not_json(item, place + pointer(key), depth + 1)
    elif isinstance(value, tuple):
        for position, item in enumerate(value):
            yield from not_json(item, place + pointer(position), depth + 1)
    elif type(value) is int and abs(value) >= 2**53:
        yield place, f"{value} is beyond 2^53 - 1, the largest integer every JSON reader holds exactly"
    elif type(value) is float and not math.isfinite(value):
        yield place, f"{value} has no JSON form"
    elif value is not None and type(value) not in (bool, int, float, str):
        yield place, f"a {type(value).__name__} has no JSON form"
