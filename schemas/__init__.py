"""The released JSON Schemas, one open and one strict file a version, and the table of ONNX operators."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

VERSIONS = ("1.0.0",)


def text(name: str) -> str:
    """Content of the file `name` of this folder.

    Raises:
        FileNotFoundError: there is none.
    """
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


@cache
def structure_schema(version: str = VERSIONS[-1], *, strict: bool = False) -> dict[str, Any]:
    """JSON Schema of the document `version`.

    Args:
        version: one of `VERSIONS`.
        strict: the closed twin, which our writer's output meets, instead of the open one for readers.

    Raises:
        KeyError: no such version was released.
    """
    if version not in VERSIONS:
        raise KeyError(version)
    twin = "-strict" if strict else ""
    schema: dict[str, Any] = json.loads(text(f"structure-{version}{twin}.json"))
    return schema
