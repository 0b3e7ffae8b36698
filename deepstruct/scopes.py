"""Scope: which names nodes see, where scopes lie within each other."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping


class Scope:
    """Names with the places of their origins: its own ones, and those of the scope around it that are not hidden.

    Nothing is copied from the scope around it, so that many small scopes in a large one take no time.
    """

    def __init__(
        self, names: Mapping[str, str], outer: Scope | None = None, hidden: Collection[str] = frozenset()
    ) -> None:
        self._own = dict(names)
        self._outer = outer
        self._hidden = hidden

    def origin(self, name: str) -> str | None:
        """The place where a name was defined, ``""`` if it has none; None if the name is not seen."""
        scope: Scope | None = self
        while scope is not None:
            found = scope._own.get(name)
            if found is not None:
                return found
            if name in scope._hidden:
                return None
            scope = scope._outer
        return None

    def define(self, name: str, place: str) -> None:
        """Adds a name."""
        self._own[name] = place

    def __contains__(self, name: str) -> bool:
        return self.origin(name) is not None

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        if self._outer is not None:
            yield from (name for name in self._outer if name not in self._hidden)
