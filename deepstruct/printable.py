"""Text from files and names of files, shown so that it stays on its line and means nothing to a terminal."""

from __future__ import annotations

import re


def printable(text: str) -> str:
    """`text` with every character escaped that is not seen: control characters, line ends, directions of writing."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    """A character as JSON spells it."""
    short = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}.get(char)
    if short is not None:
        return short
    units = char.encode("utf-16-be", errors="surrogatepass")
    return re.sub("(....)", r"\\u\1", units.hex())
