"""ONNX attribute values and small tensors <-> their JSON form (`docs/format.md`, "Attributes")."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from deepstruct import operators
from deepstruct.errors import Fault, FaultyError, StructureError
from deepstruct.jsonprofile import LARGEST_INTEGER
from deepstruct.mask import check_shape
from deepstruct.structure import AttributeValue
from deepstruct.tensor import Tensor

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_SCALARS = {"int": int, "float": float}
_LISTS = {"ints": int, "floats": float}


def kinds(domain: str, op_type: str, opset: Mapping[str, Any]) -> dict[str, str]:
    """Attribute name -> AttributeProto type for an operator; empty if the operator is not in the table."""
    version = opset.get(domain)
    operator = operators.lookup(domain, op_type, version) if type(version) is int else None
    return operator.attributes if operator else {}


def to_json(value: AttributeValue, kind: str | None) -> Any:
    """The JSON form of a node attribute; `kind` is its type in the operator table, if it is there."""
    if isinstance(value, Tensor):
        return {"type": "tensor", **tensor_to_json(value)}
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        if all(isinstance(item, str) for item in value):
            return list(value)
        plain = all(_is_plain(item, kind) for item in value)
        items = [_number(item) for item in value]
        return items if plain else {"type": "ints" if type(value[0]) is int else "floats", "value": items}
    if _is_plain(value, kind):
        return _number(value)
    return {"type": "int" if type(value) is int else "float", "value": _number(value)}


def _is_plain(value: Any, kind: str | None) -> bool:
    """Whether a JSON number says it all: an integer is an int, and the operator says what is a float."""
    if type(value) is int:
        return abs(value) <= LARGEST_INTEGER
    return math.isfinite(value) and kind in ("FLOAT", "FLOATS")


def _number(value: Any) -> int | float | str:
    if type(value) is int:
        return value if abs(value) <= LARGEST_INTEGER else str(value)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return float(str(np.float32(value)))


def from_json(value: Any, kind: str | None) -> AttributeValue:
    """The attribute of a JSON form; the inverse of `to_json`.

    Raises:
        StructureError: it is none.
    """
    if isinstance(value, dict):
        return _from_typed(value)
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            return tuple(value)
        return tuple(_parse(item, float if kind == "FLOATS" else int) for item in value)
    return _parse(value, float if kind == "FLOAT" else int)  # type: ignore[no-any-return]  # int or float


def _from_typed(value: dict[str, Any]) -> AttributeValue:
    kind = value.get("type")
    if not isinstance(kind, str):
        raise _fault("the type of an attribute object must be a string")
    if kind == "tensor":
        return tensor_from_json({key: item for key, item in value.items() if key != "type"})
    if value.keys() != {"type", "value"}:
        raise _fault(f"an attribute object has the members type and value, not {', '.join(map(repr, value))[:80]}")
    if kind in _SCALARS:
        return _parse(value.get("value"), _SCALARS[kind])  # type: ignore[no-any-return]  # int or float
    if kind in _LISTS and isinstance(value.get("value"), list):
        return tuple(_parse(item, _LISTS[kind]) for item in value["value"])
    names = ", ".join([*_SCALARS, *_LISTS, "tensor"])
    raise _fault(f"an attribute object has a type of {names} and its value, not {value!r:.60}")


def _parse(value: Any, kind: type) -> Any:
    if isinstance(value, str):
        if kind is float and value in _NON_FINITE:
            return _NON_FINITE[value]
        if kind is int and re.fullmatch(r"-?(0|[1-9][0-9]{0,19})", value):
            return int(value)
    elif kind is float and type(value) in (int, float):
        return float(value)
    elif kind is int and type(value) is int:
        return value
    hint = '; write {"type": "float", "value": ...}' if kind is int and type(value) is float else ""
    raise _fault(f"{value!r:.60} is no {kind.__name__}{hint}")


def tensor_to_json(tensor: Tensor) -> dict[str, Any]:
    """The JSON object of a constant; integers beyond 2^53 - 1 and non-finite floats are strings."""
    data = [item if type(item) in (bool, str) else _exact(item) for item in tensor.data]
    return {"dtype": tensor.dtype, "shape": list(tensor.shape), "data": data}


def _exact(item: Any) -> int | float | str:
    return item if type(item) is float and math.isfinite(item) else _number(item)


def tensor_from_json(value: Any) -> Tensor:
    """The constant of a JSON object; the inverse of `tensor_to_json`.

    Raises:
        StructureError: it is none; pointers are relative to the object.
    """
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise _fault("a constant is an object with dtype, shape and data")
    if value.keys() != {"dtype", "shape", "data"}:
        raise _fault(f"a constant has the members dtype, shape and data only, not {', '.join(map(repr, value))[:80]}")
    dtype = value.get("dtype")
    if not isinstance(dtype, str):
        raise StructureError("tensor", [Fault("TYPE_MISMATCH", "/dtype", "must be a string")])
    numeric = float if "float" in dtype else int if "int" in dtype else None
    try:
        shape = check_shape(value.get("shape"))  # type: ignore[arg-type]  # checked there
    except FaultyError as error:
        raise StructureError("tensor", [fault.under("/shape") for fault in error.faults]) from error
    data = [_parse(item, numeric) if numeric else item for item in value["data"]]
    return Tensor(dtype, shape, tuple(data))


def _fault(message: str) -> StructureError:
    return StructureError("attribute", [Fault("OPERATOR_ATTRIBUTE", "", message)])
