"""Lines and columns: those of every value of any JSON text, found without a second parse of what is not asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from validation.kit import line_and_column, places

from deepstruct.errors import Fault
from deepstruct.validation import positions

TEXTS = st.text(st.sampled_from('ab~/"\\ {}[],:\n\té層\U0001f600'), max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@st.composite
def spellings(draw: st.DrawFn) -> str:
    """A JSON text with white space wherever it may stand."""
    space = st.sampled_from(["", " ", "\n", "\r\n", "\t\n "])
    ascii_only = draw(st.booleans())

    def spelt(value: Any) -> str:
        if isinstance(value, dict):
            members = [f"{spelt(k)}{draw(space)}:{draw(space)}{spelt(v)}" for k, v in value.items()]
            return "{" + draw(space) + f"{draw(space)},{draw(space)}".join(members) + draw(space) + "}"
        if isinstance(value, list):
            return "[" + draw(space) + f"{draw(space)},{draw(space)}".join(map(spelt, value)) + draw(space) + "]"
        return json.dumps(value, ensure_ascii=ascii_only)

    return draw(space) + spelt(draw(VALUES)) + draw(space)


@given(spellings(), st.data())
def test_every_pointer_has_its_place(text: str, data: st.DataObject) -> None:
    known = places(text)
    chosen = data.draw(st.lists(st.sampled_from(sorted(known)), max_size=6))
    code = data.draw(st.sampled_from(["UNEXPECTED_PROPERTY", "TYPE_MISMATCH"]))
    found = positions.locate(text, [Fault(code, pointer, "") for pointer in chosen])
    expected = [line_and_column(text, known[p][code == "UNEXPECTED_PROPERTY"]) for p in chosen]
    assert [(fault.line, fault.column) for fault in found] == sorted(expected)
    for fault in found:
        offset = known[fault.pointer][code == "UNEXPECTED_PROPERTY"]
        assert (fault.line, fault.column) == line_and_column(text, offset)


@pytest.mark.parametrize(
    ("text", "pointer", "place"),
    [
        ('{"a": [1, 2]}', "/a/7", (1, 7)),
        ('{"a": [1, 2]}', "/b/c", (1, 1)),
        ('{"a": 1,\n "a": 2}', "/a", (2, 7)),
        ('{"a": {"b": 1}, "a": {}}', "/a/b", (1, 13)),
        ("7", "/a", (1, 1)),
    ],
)
def test_pointers_that_lead_nowhere_have_the_place_on_the_way(text: str, pointer: str, place: tuple[int, int]) -> None:
    (found,) = positions.locate(text, [Fault("TYPE_MISMATCH", pointer, "")])
    assert (found.line, found.column) == place


def test_places_that_are_known_already_stay() -> None:
    faults = [Fault("INVALID_JSON", "", "", line=3, column=9), Fault("TYPE_MISMATCH", "/a", "")]
    found = positions.locate('{"a": 1}', faults)
    assert [(fault.line, fault.column) for fault in found] == [(1, 7), (3, 9)]


def test_many_faults_in_a_long_text_take_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "[\n" + ",\n".join(f'{{"name": "{"x" * 50}", "i": {i}}}' for i in range(20_000)) + "\n]"
    calls: list[int] = []
    walk = positions._Places._pass

    def counted(self: positions._Places, at: int) -> int:
        calls.append(at)
        return walk(self, at)

    monkeypatch.setattr(positions._Places, "_pass", counted)
    faults = [Fault("TYPE_MISMATCH", f"/{i}/i", "") for i in range(0, 20_000, 2)]
    found = positions.locate(text, faults)
    assert [fault.line for fault in found] == list(range(2, 20_002, 2))
    assert len(calls) == len(set(calls)) == 30_000
