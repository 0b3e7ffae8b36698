"""What continuous integration systems take for commands in a log, as far as they do it at most."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command: of ``::name property=value,...::data``, or of ``##[...`` with nothing but a name."""

    name: str
    properties: dict[str, str]
    data: str


def commands(log: str) -> list[Command]:
    """The commands in a log, as actions/runner reads it: ``::`` at the beginnings of lines, ``##[`` anywhere.

    More than that is taken for a command: any name, and characters that are not seen do not count.
    """
    found = []
    for line in re.split(r"[\r\n]", log):
        seen = "".join(char for char in line if unicodedata.category(char) not in ("Cc", "Cf", "Mn", "Cs")).lstrip()
        if seen.startswith("::") and "::" in seen[2:]:
            head, _, data = line.lstrip()[2:].partition("::")
            name, _, properties = head.partition(" ")
            pairs = (pair.partition("=") for pair in properties.split(",") if pair)
            found.append(Command(name, {key: _plain(value) for key, _, value in pairs}, _plain(data)))
        elif match := re.search(r"##(vso|teamcity)?\[", seen):
            found.append(Command(match[0], {}, ""))
    return found


def _plain(text: str) -> str:
    for escaped, char in {"%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ",", "%25": "%"}.items():
        text = text.replace(escaped, char)
    return text
