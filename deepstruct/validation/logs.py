"""What a CI system reads in a log: lines with ``::`` or ``##[`` in the wrong place are commands, here they are not.

GitHub Actions takes ``::name ...::`` for a command if a line begins with it, spaces aside, and ``##[name ...]``
anywhere in a line; Azure Pipelines has ``##vso[``, TeamCity ``##teamcity[``. Some ignore characters that are not seen,
so that others than ASCII in between are no help.
"""

from __future__ import annotations

import json
import re
from typing import Any

from deepstruct.printable import printable

_HASH = re.compile(r"#(?=[^\x00-\x7f]*#)")


def inert(line: str) -> str:
    """A line of text in which every ``##`` is spelled so that it begins no command."""
    return _HASH.sub(r"\\u0023", line)


def inert_path(path: str) -> str:
    """A path for the beginning of a line, in printable characters."""
    spelled = printable(path)
    return f"./{spelled}" if re.match(r" *[^\x00-\x7f]*:", spelled) else spelled


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON in ASCII without ``##`` in it, which changes no value."""
    separators = (",", ":") if indent is None else None
    return _HASH.sub(r"\\u0023", json.dumps(value, indent=indent, separators=separators))


def to_xml(text: str) -> str:
    """XML in ASCII without ``##`` in it, which changes no value."""
    return _HASH.sub("&#35;", text)
