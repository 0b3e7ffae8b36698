"""What the ONNX specification says about each operator: arity and attribute types, from committed data.

The table `deepstruct.schemas/onnx-operators.json` is generated from the onnx package, so that structures can
be checked where onnx is not installed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from deepstruct import schemas


@dataclass(frozen=True, slots=True)
class Operator:
    """One version of one operator.

    Attributes:
        since: opset version that introduced this version.
        inputs: least and largest number of inputs.
        outputs: least and largest number of outputs.
        deprecated: whether the version ended the operator; one that was deprecated only later is usable.
        optional_inputs: positions below the least number that may nevertheless be left empty.
        optional_outputs: likewise.
        attributes: name -> type as AttributeProto names it (``INT``, ``FLOATS``, ...).
        required: names of the attributes without a default.
    """

    name: str
    domain: str
    since: int
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    deprecated: bool = False
    optional_inputs: frozenset[int] = frozenset()
    optional_outputs: frozenset[int] = frozenset()
    attributes: dict[str, str] = field(default_factory=dict)
    required: frozenset[str] = frozenset()


def is_known_domain(domain: str) -> bool:
    """Whether the table covers `domain`; operators of other domains cannot be checked."""
    return domain in _table()["domains"]


def newest_opset(domain: str) -> int:
    """The newest opset version of a known domain that the table covers."""
    version: int = _table()["newest"][domain]
    return version


@cache
def lookup(domain: str, name: str, opset: int) -> Operator | None:
    """The version of an operator that opset version `opset` of `domain` uses, or None if it has none."""
    versions = _table()["domains"].get(domain, {}).get(name, [])
    current = [version for version in versions if version["since"] <= opset]
    if not current:
        return None
    entry = current[-1]
    attributes = entry.get("attributes", {})
    return Operator(
        name=name,
        domain=domain,
        since=entry["since"],
        inputs=tuple(entry["inputs"]),
        outputs=tuple(entry["outputs"]),
        deprecated=entry.get("deprecated", False) and entry is not versions[0],
        optional_inputs=frozenset(entry.get("optional_inputs", ())),
        optional_outputs=frozenset(entry.get("optional_outputs", ())),
        attributes={attribute: kind.rstrip("!") for attribute, kind in attributes.items()},
        required=frozenset(attribute for attribute, kind in attributes.items() if kind.endswith("!")),
    )


@cache
def names(domain: str) -> tuple[str, ...]:
    """All operator names of a domain, sorted."""
    return tuple(sorted(_table()["domains"].get(domain, {})))


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(schemas.text("onnx-operators.json"))
    return table
