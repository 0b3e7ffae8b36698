"""Reads a budget from its TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from deepstruct import files
from deepstruct.errors import FaultyError, UsageError, did_you_mean
from deepstruct.sparsity_structure import SparsityStructure
from deepstruct.validation.budget import Budget, ParameterBudget

_LARGEST_FILE = 1 << 20


def read(path: Path) -> Budget:
    """The budget in a TOML file.

    The table ``network`` has the limits of `Budget`, each table ``parameters."PATTERN"`` those of `ParameterBudget`.

    Raises:
        UsageError: it is no TOML, or says something else; with everything that is wrong.
        UnreadableFileError: the operating system does not let us read it.
    """
    content = files.read_bytes(path, _LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise UsageError(f"{path}: a budget has at most {_LARGEST_FILE} bytes")
    try:
        found = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: no TOML: {error}") from error
    wrong: list[str] = []
    network, patterns = (_table(found, name, name, wrong) for name in ("network", "parameters"))
    _unknown(found, {"network", "parameters"}, "", wrong)
    chosen = _limits(Budget, network, "network", wrong)
    parameters = {}
    for pattern in patterns:
        where = f'parameters."{pattern}"'
        parameters[pattern] = _limits(ParameterBudget, _table(patterns, pattern, where, wrong), where, wrong)
    if not wrong and not chosen and not any(parameters.values()):
        wrong.append("it limits nothing")
    if wrong:
        raise UsageError(f"{path}: no budget: " + "; ".join(wrong[:20]))
    each = {pattern: ParameterBudget(**limits) for pattern, limits in parameters.items()}
    return Budget(**chosen, parameters=each)


def _table(owner: dict[str, Any], name: str, where: str, wrong: list[str]) -> dict[str, Any]:
    value = owner.get(name, {})
    if isinstance(value, dict):
        return value
    wrong.append(f"{where} must be a table, not {value!r:.40}")
    return {}


def _unknown(owner: Mapping[str, Any], known: set[str], where: str, wrong: list[str]) -> None:
    odd = sorted(owner.keys() - known)
    wrong += [f"there is no limit {where}{name!r:.60}{did_you_mean(name, known)}" for name in odd]


def _limits(
    kind: type[Budget | ParameterBudget], table: dict[str, Any], where: str, wrong: list[str]
) -> dict[str, Any]:
    """The limits of a table that are right; what is wrong is appended to `wrong`."""
    names = {item.name for item in fields(kind)} - {"parameters"}
    _unknown(table, names, f"{where}.", wrong)
    chosen = {}
    for name in sorted(table.keys() & names):
        try:
            chosen[name] = _reader(name)(table[name])
        except (TypeError, ValueError) as error:
            reason = "; ".join(fault.message for fault in error.faults) if isinstance(error, FaultyError) else error
            wrong.append(f"{where}.{name}: {reason}")
    return chosen


def _reader(name: str) -> Callable[[Any], Any]:
    special = {
        "operators": _operators,
        "unknown": _unknown_units,
        "input_shapes": _input_shapes,
        "sparsity_structure": _sparsity_structure,
    }
    return special.get(name) or (_share if name.endswith("density") else _count)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"must be an integer from 0 on, not {value!r:.40}")
    return value


def _share(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ValueError(f"must be a number from 0 to 1, not {value!r:.40}")
    return float(value)


def _operators(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"must be a list of names such as Gemm, not {value!r:.40}")
    return frozenset(value)


def _unknown_units(value: Any) -> str:
    if value not in ("error", "full"):
        raise ValueError(f'must be "error" or "full", not {value!r:.40}')
    return str(value)


def _input_shapes(value: Any) -> dict[str, list[int]]:
    if not isinstance(value, dict) or not all(isinstance(extents, list) for extents in value.values()):
        raise ValueError(f"must be a table of lists of integers, not {value!r:.40}")
    return {name: [_count(extent) for extent in extents] for name, extents in value.items()}


def _sparsity_structure(value: Any) -> SparsityStructure:
    if not isinstance(value, dict) or value.keys() != {"n", "m", "axis"}:
        raise ValueError(f"must be a table such as {{n = 2, m = 4, axis = 1}}, not {value!r:.40}")
    return SparsityStructure(**value)
