"""FrozenMapping: a read-only, hashable mapping whose equality tells 1, 1.0 and True apart."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from functools import cached_property
from typing import Any, Generic, TypeVar

V = TypeVar("V")


_NUMBERS = frozenset({int, float, bool})


def check_text(text: str) -> str:
    """`text`, if UTF-8 can hold it.

    Raises:
        TypeError: it contains half of a surrogate pair.
    """
    if not text.isascii() and any(0xD800 <= ord(char) < 0xE000 for char in text):
        raise TypeError("text contains half of a surrogate pair")
    return text


def freeze(value: Any) -> Any:
    """An immutable copy of `value`: lists become tuples, mappings become `FrozenMapping`.

    Raises:
        TypeError: for anything else than None, bool, int, float, str, sequences, mappings with string keys,
            and objects that are hashable already.
    """
    if isinstance(value, FrozenMapping):
        return value
    if isinstance(value, Mapping):
        return FrozenMapping(value)
    if isinstance(value, (list, tuple)):
        if _NUMBERS.issuperset(map(type, value)):
            return tuple(value)
        return tuple(freeze(item) for item in value)
    if isinstance(value, str):
        return check_text(value)
    if not isinstance(value, Hashable):
        raise TypeError(f"a {type(value).__name__} cannot be an attribute value")
    return value


def thaw(value: Any) -> Any:
    """Plain lists and dicts again, ready for JSON; the inverse of `freeze` for JSON values."""
    if isinstance(value, FrozenMapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [thaw(item) for item in value]
    return value


def strict_key(value: Any) -> Hashable:
    """A key that is equal for two values only if they have the same types and the same bits.

    Unlike ``==``, it tells ``1``, ``1.0`` and ``True`` apart, and ``0.0`` and ``-0.0``; NaN equals itself.
    """
    if isinstance(value, FrozenMapping):
        return value.key
    if isinstance(value, tuple):
        return ("tuple", *(strict_key(item) for item in value))
    if isinstance(value, float):
        return ("float", value.hex())
    if isinstance(value, (bool, int)):
        return (type(value).__name__, value)
    return value  # type: ignore[no-any-return]  # freeze() let only hashable objects in


class FrozenMapping(Mapping[str, V], Generic[V]):
    """A mapping with string keys that can be neither changed nor confused by Python's numeric equality.

    Iteration keeps the order of construction; equality and hash do not depend on it.
    """

    def __init__(self, items: Mapping[str, V] | None = None) -> None:
        self._items: dict[str, V] = {}
        for key, value in (items or {}).items():
            if not isinstance(key, str):
                raise TypeError(f"keys are strings, not {type(key).__name__}")
            self._items[check_text(key)] = freeze(value)

    @cached_property
    def key(self) -> Hashable:
        """What equality and hash compare."""
        return frozenset((name, strict_key(value)) for name, value in self._items.items())

    def __getitem__(self, name: str) -> V:
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Mapping) and not isinstance(other, FrozenMapping):
            other = freeze(other)
        return isinstance(other, FrozenMapping) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return repr(self._items)
