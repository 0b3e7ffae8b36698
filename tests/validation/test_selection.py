"""What is reported, and how severe: options that leave out, leave in, raise and lower."""

from __future__ import annotations

from typing import Any

import pytest

from deepstruct.errors import Fault, UsageError
from deepstruct.validation.selection import Selection

FAULTS = (
    Fault("DEAD_UNITS", "/a", "", "hint"),
    Fault("UNEXPECTED_PROPERTY", "/b", "", "warning"),
    Fault("MASK_SIZE", "/c", "", "error"),
    Fault("UNKNOWN_EXTENSION", "/d", "", "info"),
    Fault("MASK_SIZE", "/e", "", "error"),
)


def kept(**options: Any) -> list[tuple[str, str]]:
    return [(fault.pointer, fault.severity) for fault in Selection(**options).apply(FAULTS)[0]]


def test_everything_is_kept_by_default() -> None:
    assert Selection().apply(FAULTS) == (FAULTS, {})


def test_codes_are_left_out_or_left_in() -> None:
    assert [pointer for pointer, _ in kept(ignore=frozenset({"MASK_SIZE", "dead_units"}))] == ["/b", "/d"]
    assert [pointer for pointer, _ in kept(only=frozenset({"MASK_SIZE"}))] == ["/c", "/e"]
    assert kept(only=frozenset({"MASK_SIZE"}), ignore=frozenset({"MASK_SIZE"})) == []


def test_severities_change_and_strictness_comes_last() -> None:
    changed = {"MASK_SIZE": "info", "DEAD_UNITS": "warning"}
    assert [severity for _, severity in kept(severities=changed)] == ["warning", "warning", "info", "info", "info"]
    assert [severity for _, severity in kept(severities=changed, strict=True)][:2] == ["error", "error"]


def test_the_most_severe_are_kept_in_their_order() -> None:
    found, left_out = Selection(most=3).apply(FAULTS)
    assert [fault.pointer for fault in found] == ["/b", "/c", "/e"]
    assert left_out == {"info": 1, "hint": 1}
    assert len(Selection(most=0).apply(FAULTS * 1000)[0]) == 5000


def test_fatal_faults_can_neither_be_left_out_nor_lowered() -> None:
    fatal = Fault("INVALID_JSON", "", "")
    assert Selection(only=frozenset({"MASK_SIZE"})).apply([fatal]) == ((fatal,), {})
    for options in ({"ignore": {"INVALID_JSON"}}, {"severities": {"INVALID_JSON": "hint"}}):
        with pytest.raises(UsageError, match="INVALID_JSON"):
            Selection(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ignore": {"MASK_SIZ"}}, "did you mean 'MASK_SIZE'"),
        ({"only": {"nothing"}}, "no code is called 'nothing'"),
        ({"severities": {"MASK_SIZE": "fatal"}}, "no severity; choose one of error, warning, info, hint"),
    ],
)
def test_what_is_misspelt_is_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Selection(**options)
