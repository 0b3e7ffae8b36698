"""What reading a document collects on the way: faults within bounds, places that are wrong, extensions that occur."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from deepstruct.errors import MOST_CHARACTERS, MOST_FAULTS, TOO_MANY, Fault, did_you_mean, pointer

_SUGGESTIONS = 100  # of known members for unknown ones; more take too long


class ReadingEnded(Exception):  # noqa: N818 - it says that reading ended, and the faults why
    """There are faults after which there is nothing to read."""


class FaultCollector:
    """Faults of one document, and what is looked up to tell causes from consequences.

    Attributes:
        faults: errors, in the order in which they were found.
        notes: faults that are no errors.
        wrong: places of errors, and of members that are missing.
        extended: extension -> where its data stand first.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.notes: list[Fault] = []
        self.wrong: set[str] = set()
        self.extended: dict[str, str] = {}
        self._characters = self._noted = 0  # in errors, and in other faults
        self._suggestions = _SUGGESTIONS

    def note_under(self, place: str, faults: Iterable[Fault]) -> None:
        """Keeps faults of an object at `place`, one after the other: the place may be long, and they may be many."""
        for fault in faults:
            self.note(fault.under(place))

    def note(self, *faults: Fault) -> None:
        """Keeps faults; too many errors end the reading, of too many others the first are kept."""
        for fault in faults:
            characters = len(fault.pointer) + len(fault.message)
            if fault.severity == "error":
                self.faults.append(fault)
                self.wrong.add(fault.pointer)
                self._characters += characters
            elif len(self.notes) < MOST_FAULTS and self._noted + characters <= MOST_CHARACTERS:
                self.notes.append(fault)
                self._noted += characters
            if fault.code == "LIMIT_EXCEEDED" and not fault.pointer:
                raise ReadingEnded
        if len(self.faults) > MOST_FAULTS or self._characters > MOST_CHARACTERS:
            self.faults.append(TOO_MANY)
            raise ReadingEnded

    def member(self, owner: dict[str, Any], key: str, kind: type, place: str, default: Any = None) -> Any:
        """`owner[key]` if it is of `kind`; else a fault and an empty value. A missing key gives the default."""
        value = owner.get(key, default)
        if value is None and key not in owner:
            self.note(Fault("MISSING_PROPERTY", place, f"the member {key!r} is missing"))
            self.wrong.add(place + pointer(key))
            return kind()
        if not isinstance(value, kind):
            message = f"must be {_JSON_NAMES[kind]}, not {shown(value)}"
            self.note(Fault("TYPE_MISMATCH", place + pointer(key), message))
            return kind()
        return value

    def unknown(self, owner: dict[str, Any], known: Collection[str], place: str) -> dict[str, Any]:
        """Members this version does not know, with a warning for each; ``extensions`` is made for them."""
        extra = {key: value for key, value in owner.items() if key not in known}
        for name in self.member(owner, "extensions", dict, place, {}):
            self.extended.setdefault(name, place + pointer("extensions", name))
        for key in (key for key in extra if key != "extensions"):
            self._suggestions -= 1
            hint = did_you_mean(key, known if self._suggestions >= 0 else ())
            message = f"this version has no member {key!r:.60} here; it is kept but not understood{hint}"
            self.note(Fault("UNEXPECTED_PROPERTY", place + pointer(key), message, "warning"))
        return extra


def shown(value: Any) -> str:
    """The beginning of a value, as JSON spells the constants."""
    return json.dumps(value) if value is None or isinstance(value, bool) else f"{value!r:.60}"


_JSON_NAMES = {dict: "an object", list: "a list", str: "a string", int: "an integer"}
