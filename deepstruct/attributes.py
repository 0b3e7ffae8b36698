"""ONNX attribute values and small tensors <-> their JSON form (`docs/format.md`, "Attributes")."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from deepstruct import operators
from deepstruct.errors import Fault, FaultyError, StructureError
from deepstruct.jsonprofile import LARGEST_INTEGER
from deepstruct.mask import check_shape
from deepstruct.node import AttributeReference, AttributeValue, EmptyList, Graph, ParameterReference
from deepstruct.tensor import Tensor
from deepstruct.value_info import TypeInfo, ValueInfo

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_SCALARS = {"int": int, "float": float}
_LISTS = {"ints": int, "floats": float}


def kinds(domain: str, op_type: str, opset: Mapping[str, Any]) -> dict[str, str]:
    """Attribute name -> AttributeProto type for an operator; empty if the operator is not in the table."""
    version = opset.get(domain)
    operator = operators.lookup(domain, op_type, version) if type(version) is int else None
    return operator.attributes if operator else {}


def to_json(value: AttributeValue, kind: str | None) -> Any:
    """The JSON form of an attribute without graphs; `kind` is its type in the operator table, if it is there."""
    if isinstance(value, EmptyList):
        return {"type": "empty", "kind": value.kind}
    if isinstance(value, AttributeReference):
        return {"type": "reference", "kind": value.kind, "value": value.name}
    if isinstance(value, tuple):
        numbers = value and type(value[0]) in (int, float)
        if not numbers:
            return [to_json(item, kind) for item in value]
        items = [_number(item) for item in value]
        plain = all(_is_plain(item, kind) for item in value)
        return items if plain else {"type": "ints" if type(value[0]) is int else "floats", "value": items}
    if isinstance(value, (int, float)):
        if _is_plain(value, kind):
            return _number(value)
        return {"type": "int" if type(value) is int else "float", "value": _number(value)}
    return _single_to_json(value)


def _single_to_json(value: str | bytes | Tensor | Graph | TypeInfo | ParameterReference) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return {"type": "bytes", "value": base64.b64encode(value).decode()}
    if isinstance(value, Tensor):
        return {"type": "tensor", **tensor_to_json(value)}
    if isinstance(value, TypeInfo):
        return {"type": "type", **type_to_json(value)}
    if isinstance(value, ParameterReference):
        return {"type": "sparse_parameter" if value.sparse else "parameter", "value": value.name}
    raise TypeError("graphs have their JSON form in documents")


def type_to_json(value: TypeInfo | ValueInfo) -> dict[str, Any]:
    """The members of a JSON object that say the type of a value."""
    result: dict[str, Any] = {} if value.dtype is None else {"dtype": value.dtype}
    result["shape"] = None if value.shape is None else list(value.shape)
    if value.containers:
        result["containers"] = list(value.containers)
    return result


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
        return _from_typed(value)  # type: ignore[no-any-return]  # one of the kinds
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        if not all(isinstance(item, (str, dict)) for item in value):
            return tuple(_parse(item, float if kind == "FLOATS" else int) for item in value)
        items = [_from_typed(item) if isinstance(item, dict) else item for item in value]
        if any(isinstance(item, (int, float, tuple, AttributeReference, EmptyList)) for item in items):
            raise _fault("an array holds plain numbers only, or strings, or typed objects")
        return tuple(items)
    return _parse(value, float if kind == "FLOAT" else int)  # type: ignore[no-any-return]  # int or float


def _from_typed(value: dict[str, Any]) -> Any:
    kind = value.get("type")
    if not isinstance(kind, str):
        raise _fault("the type of an attribute object must be a string")
    others = {key: item for key, item in value.items() if key != "type"}
    if kind == "tensor":
        return tensor_from_json(others)
    if kind == "type":
        return _type_from_json(others)
    members = {"empty": {"kind"}, "reference": {"kind", "value"}}.get(kind, {"value"})
    if others.keys() != members:
        wanted = " and ".join(sorted({"type", *members}))
        raise _fault(f"this attribute object has the members {wanted}, not {', '.join(map(repr, value))[:80]}")
    return _from_members(kind, others)


def _from_members(kind: str, members: dict[str, Any]) -> Any:
    item = members.get("value")
    if kind in _SCALARS:
        return _parse(item, _SCALARS[kind])
    if kind in _LISTS and isinstance(item, list):
        return tuple(_parse(number, _LISTS[kind]) for number in item)
    if kind == "bytes" and isinstance(item, str):
        try:
            return base64.b64decode(item, validate=True)
        except ValueError as error:
            raise _fault(f"{item!r:.60} is no base64") from error
    if kind in ("parameter", "sparse_parameter") and isinstance(item, str):
        return ParameterReference(item, kind != "parameter")
    if kind == "reference" and isinstance(item, str) and isinstance(members["kind"], str):
        return AttributeReference(item, members["kind"])
    if kind == "empty" and isinstance(members["kind"], str):
        return EmptyList(members["kind"])
    raise _fault(f"no attribute object has the type {kind!r:.40} and the value {item!r:.60}")


def _type_from_json(members: dict[str, Any]) -> TypeInfo:
    if not members.keys() <= {"dtype", "shape", "containers"}:
        raise _fault(f"a type has the members dtype, shape and containers, not {', '.join(map(repr, members))[:80]}")
    shape = members.get("shape")
    containers = members.get("containers", [])
    if not isinstance(members.get("dtype", ""), str) or not isinstance(shape, (list, type(None))):
        raise _fault("the dtype of a type is a string, its shape a list or null")
    return TypeInfo(members.get("dtype"), None if shape is None else tuple(shape), containers=containers)


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
