"""A structure in other floating dtypes, as `torch.nn.Module.half` and its like ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch

from deepstruct import dtypes
from deepstruct.converters.torch_operators_entry import DTYPES
from deepstruct.converters.torch_operators_table import OPERATORS
from deepstruct.structure import AttributeValue, Node, Structure, ValueInfo
from deepstruct.tensor import Tensor


def name_of(dtype: torch.dtype) -> str:
    """The name of a dtype in documents."""
    return str(dtype).removeprefix("torch.")


_CODES = {name_of(dtype): code for code, dtype in DTYPES.items()}
_CODE_ATTRIBUTES = {  # attribute that holds a data type, and what it is by default
    "BlackmanWindow": ("output_datatype", "float32"),
    "Cast": ("to", ""),
    "EyeLike": ("dtype", ""),
    "HammingWindow": ("output_datatype", "float32"),
    "HannWindow": ("output_datatype", "float32"),
    "MelWeightMatrix": ("output_datatype", "float32"),
}
_TYPED_AS_DATA = {"Pad": (2,)}  # numbers whose dtype is that of the output


def cast(structure: Structure, names: Mapping[str, str]) -> Structure:
    """The structure with other floating dtypes everywhere but where it computes shapes.

    Args:
        structure: to cast; its masks stay.
        names: dtype -> dtype to have instead.
    """
    fixed = of_shapes(structure)

    def value(info: ValueInfo) -> ValueInfo:
        return replace(info, dtype=names.get(info.dtype or "", info.dtype))

    return replace(
        structure,
        nodes=tuple(node if fixed.intersection(node.outputs) else _cast_node(node, names) for node in structure.nodes),
        inputs=tuple(map(value, structure.inputs)),
        outputs=tuple(map(value, structure.outputs)),
        parameters=tuple(
            p if p.name in fixed else replace(p, dtype=names.get(p.dtype, p.dtype)) for p in structure.parameters
        ),
        constants={
            name: constant if name in fixed else _cast_tensor(constant, names)
            for name, constant in structure.constants.items()
        },
    )


def of_shapes(structure: Structure) -> frozenset[str]:
    """Names of the values that only shapes, axes and the like are computed from."""
    candidates = set(structure.constants) | {parameter.name for parameter in structure.parameters}
    for node in structure.nodes:
        if node.op_type in ("Shape", "Size") or all(name in candidates for name in node.inputs if name):
            candidates.update(filter(None, node.outputs))
    found: set[str] = set()
    for node in reversed(structure.nodes):
        operator = OPERATORS.get(node.op_type)
        if found.intersection(node.outputs) and node.op_type not in ("Shape", "Size"):
            found.update(node.inputs)
        elif operator is not None and not node.domain:
            typed = _TYPED_AS_DATA.get(node.op_type, ())
            found.update(
                n for p, n in enumerate(node.inputs) if p in operator.numbers and p not in typed and n in candidates
            )
    return frozenset(found - {""})


def _cast_node(node: Node, names: Mapping[str, str]) -> Node:
    attributes: dict[str, AttributeValue] = {
        name: _cast_tensor(value, names) if isinstance(value, Tensor) else value
        for name, value in node.attributes.items()
    }
    if node.domain:
        return replace(node, attributes=attributes)
    floats = names.get("float32", "float32")
    if node.op_type == "Constant" and floats != "float32":
        number, several = attributes.pop("value_float", None), attributes.pop("value_floats", None)
        if isinstance(number, float):
            attributes["value"] = _cast_tensor(Tensor("float32", (), (number,)), names)
        if isinstance(several, tuple):
            numbers = tuple(item for item in several if isinstance(item, float))
            attributes["value"] = _cast_tensor(Tensor("float32", (len(numbers),), numbers), names)
    if node.op_type == "ConstantOfShape" and floats != "float32":
        attributes.setdefault("value", Tensor(floats, (1,), (0.0,)))
    if node.op_type in _CODE_ATTRIBUTES:
        name, default = _CODE_ATTRIBUTES[node.op_type]
        code = attributes.get(name, _CODES.get(default))
        dtype = name_of(DTYPES[code]) if isinstance(code, int) else ""
        if dtype in names:
            attributes[name] = _CODES[names[dtype]]
    return replace(node, attributes=attributes)


def _cast_tensor(tensor: Tensor, names: Mapping[str, str]) -> Tensor:
    if names.get(tensor.dtype, tensor.dtype) == tensor.dtype:
        return tensor
    with np.errstate(over="ignore"):
        return Tensor.from_array(tensor.to_array().astype(dtypes.to_numpy(names[tensor.dtype])))


def changed_by(function: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, str]:
    """The floating dtypes that a conversion of tensors changes, with those that they become."""
    changed = {}
    for dtype in DTYPES.values():
        if dtype.is_floating_point:
            after = function(torch.empty(0, dtype=dtype, device="cpu")).dtype
            if after != dtype and after.is_floating_point:
                changed[name_of(dtype)] = name_of(after)
    return changed
