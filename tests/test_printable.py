"""What is quoted from files stays on its line and means nothing to a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deepstruct.errors import Fault, MalformedFileError
from deepstruct.printable import printable


@given(st.text())
def test_nothing_but_what_is_seen_gets_through(text: str) -> None:
    assert printable(text).isprintable()
    assert text.isprintable() == (printable(text) == text)


def test_escapes_are_those_of_json() -> None:
    assert printable("a\n\r\t\x1b\u202e\ud800\U000e0001é") == r"a\n\r\t\u001b\u202e\ud800\udb40\udc01é"


def test_errors_are_printable() -> None:
    assert "\n" not in str(Fault("MASK_SIZE", "/a\n::error::", "b\x1b[2J"))
    assert str(MalformedFileError("a\nb", "c")) == r"a\nb: c"
