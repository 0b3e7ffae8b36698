"""What operators that move, repeat or pick elements do to units: the same as to any numbers.

They are computed by the reference implementation of the onnx package, on the numbers of the units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepstruct.errors import UnsupportedError
from deepstruct.expansion_values import (
    OPEN_EXTENTS,
    Entries,
    Known,
    Rule,
    Units,
    UnknownUnitsError,
    Value,
    refuse_more,
    require_onnx,
)
from deepstruct.structure import Node
from deepstruct.tensor import Tensor
from deepstruct.wires import NOTHING

if TYPE_CHECKING:
    from deepstruct.expansion import Expansion

MOVED: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("CenterCropPad", "Compress", "DepthToSpace", "Expand", "Flatten", "Gather"), (0,)),
    **dict.fromkeys(("GatherElements", "GatherND", "Pad", "Resize", "Reshape", "ReverseSequence", "Slice"), (0,)),
    **dict.fromkeys(("SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze", "Upsample"), (0,)),
    "Concat": None,
    "ScatterElements": (0, 2),
    "ScatterND": (0, 2),
    "Where": (1, 2),
}
"""Operator -> positions of the inputs whose elements are moved; None for all."""
_PERMUTING = frozenset({"Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_SIZED = {"Expand": 1, "Reshape": 1, "ConstantOfShape": 0}
"""Operator -> position of the input that says how large the output is."""


def run(expansion: Expansion, node: Node, arrays: Sequence[NDArray[Any] | None], **changed: Any) -> list[NDArray[Any]]:
    """The outputs of an operator for given inputs, computed by onnx's reference implementation."""
    require_onnx()
    import onnx
    from onnx.reference import ReferenceEvaluator

    _refuse_large(node, arrays)
    attributes = {name: _attribute(value) for name, value in {**node.attributes, **changed}.items()}
    names = [f"input_{position}" if array is not None else "" for position, array in enumerate(arrays)]
    outputs = [f"output_{position}" for position in range(len(node.outputs))]
    proto = onnx.helper.make_node(node.op_type, names, outputs, domain=node.domain, **attributes)
    given, made = ([onnx.ValueInfoProto(name=name) for name in side if name] for side in (names, outputs))
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in expansion.structure.opset.items()]
    model = onnx.helper.make_model(onnx.helper.make_graph([proto], "node", given, made), opset_imports=opsets)
    feeds = {name: array for name, array in zip(names, arrays, strict=True) if name}
    try:
        found = ReferenceEvaluator(model).run(None, feeds)
    except Exception as error:
        shapes = ", ".join(str(list(array.shape)) for array in arrays if array is not None)
        open_extents = any(
            type(extent) is not int for value in expansion.structure.inputs for extent in value.shape or "?"
        )
        advice = f"; {OPEN_EXTENTS}" if open_extents else ""
        raise UnknownUnitsError(
            f"onnx computes no {node.op_type} on shapes {shapes} ({_line(error)}){advice}"
        ) from error
    return [np.asarray(array) for array in found]


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def _attribute(value: Any) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(value.to_array()) if isinstance(value, Tensor) else value


def _refuse_large(node: Node, arrays: Sequence[NDArray[Any] | None]) -> None:
    """Refuses what would need more elements than any network that can be expanded has."""
    given = [array for array in arrays if array is not None]
    size = max((array.size for array in given), default=0)
    with np.errstate(all="ignore"):
        if node.op_type in _SIZED and len(arrays) > _SIZED[node.op_type]:
            size = max(size, math.prod(int(extent) for extent in given[_SIZED[node.op_type]].reshape(-1)))
        elif node.op_type == "Tile":
            size *= math.prod(int(repeat) for repeat in given[1].reshape(-1))
        elif node.op_type == "Pad" and len(given) > 1:
            grown = [abs(int(extent)) for extent in given[1].reshape(-1)]
            half = len(grown) // 2
            size = math.prod(
                extent + low + high for extent, low, high in zip(given[0].shape, grown, grown[half:], strict=False)
            )
        elif node.op_type in ("Resize", "Upsample") and len(given) > 1:
            last = given[-1].astype(np.float64)
            sizes = len(arrays) > 3 and arrays[3] is not None
            size = int(min(2.0**62, last.prod() * (1 if sizes else size)))
        elif node.op_type == "CenterCropPad":
            axes: Any = node.attributes.get("axes", range(given[0].ndim))
            extents = dict(enumerate(given[0].shape))
            extents |= {axis % given[0].ndim: int(extent) for axis, extent in zip(axes, given[1], strict=False)}
            size = math.prod(extents.values())
        elif node.op_type == "Range":
            start, stop, step = (float(array) for array in given[:3])
            size = int(min(2.0**62, abs((stop - start) / step))) if step else 0
    refuse_more(node, size)


def broadcast(node: Node, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape that others have together.

    Raises:
        UnsupportedError: there is none, or it is too large.
    """
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError as error:
        text = ", ".join(str(list(shape)) for shape in shapes)
        raise UnsupportedError(f"node {node.name!r}: the shapes {text} do not broadcast; {OPEN_EXTENTS}") from error
    refuse_more(node, math.prod(shape))
    return shape


def computed(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    """Constants behind an operator that depends on nothing else."""
    arrays = [value.array if isinstance(value, Known) else None for value in inputs]
    if any(kind in node.op_type for kind in ("Random", "Bernoulli", "Multinomial")):
        raise UnknownUnitsError(f"{node.op_type} gives random numbers")
    return [Known(array) for array in run(expansion, node, arrays)]


def moved(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    """Units behind an operator that moves them; what is no unit becomes `NOTHING`."""
    if node.attributes.get("reduction", "none") != "none":
        raise UnknownUnitsError(f"{node.op_type} with the reduction {node.attributes['reduction']!r} mixes units")
    arrays = _indices(expansion, node, inputs, NOTHING)
    outputs = _run_on_numbers(expansion, node, arrays)
    first = inputs[0]
    if node.op_type in _PERMUTING and isinstance(first, Units) and node.op_type != "Transpose":
        return [expansion.passed_on(node, first, outputs[0])]
    return [Units(numbers) for numbers in outputs]


def moved_entries(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    """Entries of parameters behind an operator that moves them."""
    arrays = _indices(expansion, node, inputs, 0)
    return [Entries(numbers.shape, None, numbers) for numbers in _run_on_numbers(expansion, node, arrays)]


def _indices(
    expansion: Expansion, node: Node, inputs: Sequence[Value | None], nothing: int
) -> list[NDArray[Any] | None]:
    """What to compute on: numbers of units or entries where elements are moved, the inputs themselves elsewhere."""
    positions = MOVED[node.op_type]
    has_units = any(isinstance(value, Units) for value in inputs)
    arrays: list[NDArray[Any] | None] = []
    for position, value in enumerate(inputs):
        if value is None:
            arrays.append(None)
        elif positions is not None and position not in positions:
            arrays.append(_without_fill(node, position, expansion.constant(value, node)))
        elif isinstance(value, Units):
            arrays.append(value.numbers)
        elif isinstance(value, Entries) and not has_units:
            arrays.append(expansion.entry_numbers(value))
        else:
            arrays.append(np.full(value.shape, nothing, np.int64))
    return arrays


def _without_fill(node: Node, position: int, array: NDArray[Any]) -> NDArray[Any]:
    """The number that padding puts in is no unit."""
    return np.zeros_like(array, np.int64) if node.op_type == "Pad" and position == 2 else array


def _run_on_numbers(expansion: Expansion, node: Node, arrays: Sequence[NDArray[Any] | None]) -> list[NDArray[np.int64]]:
    if node.op_type == "Flatten":
        data = arrays[0]
        assert data is not None
        axis = node.attributes.get("axis", 1)
        assert isinstance(axis, int)
        rows = math.prod(data.shape[:axis])
        return [data.reshape(rows, -1 if data.size else math.prod(data.shape[axis:]))]
    if node.op_type in ("Resize", "Upsample"):
        return _resized(expansion, node, arrays)
    changed: dict[str, Any] = {}
    if node.op_type == "Pad":
        arrays, changed = _without_negative_pads(node, arrays)
    return [array.astype(np.int64, copy=False) for array in run(expansion, node, arrays, **changed)]


def _resized(expansion: Expansion, node: Node, arrays: Sequence[NDArray[Any] | None]) -> list[NDArray[np.int64]]:
    if node.attributes.get("mode", "nearest") != "nearest" and expansion.order == 0:
        raise UnknownUnitsError(f"{node.op_type} with mode {node.attributes['mode']!r} mixes units")
    if node.op_type == "Resize" and len(arrays) > 2:  # at order 1 all positions of a channel are one unit
        return [array.astype(np.int64) for array in run(expansion, node, arrays, mode="nearest")]
    data, *given = arrays
    assert data is not None
    scales: Any = given[0] if given else node.attributes["scales"]
    for axis, scale in enumerate(np.asarray(scales, np.float64).tolist()):
        extent = int(data.shape[axis] * scale)
        data = data.take(np.minimum((np.arange(extent) / scale).astype(np.int64), data.shape[axis] - 1), axis=axis)
    return [data]


def _without_negative_pads(
    node: Node, arrays: Sequence[NDArray[Any] | None]
) -> tuple[Sequence[NDArray[Any] | None], dict[str, Any]]:
    """The inputs of a Pad whose negative pads are cut off already, and the attributes that say the rest."""
    data, *given = arrays
    assert data is not None
    stated: Any = given[0] if given else node.attributes["pads"]
    pads = np.asarray(stated, np.int64).reshape(2, -1)
    axes = given[2] if len(given) > 2 and given[2] is not None else np.arange(data.ndim)
    for axis, low, high in zip(axes.tolist(), *pads.tolist(), strict=True):
        cut = [slice(None)] * data.ndim
        cut[axis] = slice(max(0, -low), data.shape[axis] - max(0, -high))
        data = data[tuple(cut)]
    rest = np.maximum(pads, 0).reshape(-1)
    if given:
        return [data, rest, *given[1:]], {}
    return [data], {"pads": rest.tolist(), **({"value": 0.0} if "value" in node.attributes else {})}


def _shape(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    value = inputs[0]
    assert value is not None
    return [Known(array) for array in run(expansion, node, [np.broadcast_to(np.int8(0), value.shape)])]


def output_shapes(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> list[tuple[int, ...]]:
    """Extents of each output of an operator, by onnx's shape inference or as the graph's outputs declare them.

    Raises:
        UnsupportedError: neither tells.
    """
    declared = {value.name: value.shape for value in expansion.structure.outputs}
    inferred = _inferred(expansion, node, inputs)
    shapes = []
    for position, name in enumerate(node.outputs):
        shape = inferred.get(f"output_{position}", declared.get(name))
        if shape is None:
            raise UnsupportedError(
                f"node {node.name!r}: the extents of {name!r}, which {node.op_type} gives, are unknown"
            )
        shapes.append(tuple(extent if isinstance(extent, int) else 1 for extent in shape))
    return shapes


def _inferred(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> dict[str, tuple[int | None, ...]]:
    require_onnx()
    import onnx

    opset = expansion.structure.opset.get(node.domain, 1)
    if not onnx.defs.has(node.op_type, opset, node.domain):
        return {}
    names = [f"input_{position}" if value is not None else "" for position, value in enumerate(inputs)]
    outputs = [f"output_{position}" for position in range(len(node.outputs))]
    attributes = {name: _attribute(value) for name, value in node.attributes.items()}
    proto = onnx.helper.make_node(node.op_type, names, outputs, domain=node.domain, **attributes)
    graph = onnx.helper.make_graph([proto], "node", [], [onnx.ValueInfoProto(name=name) for name in outputs])
    for name, value in zip(names, inputs, strict=True):
        if isinstance(value, Known) and value.array.size <= 4096:
            graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value.array), name))
        elif value is not None:
            kind = (
                onnx.TensorProto.FLOAT
                if not isinstance(value, Known)
                else onnx.helper.np_dtype_to_tensor_dtype(value.array.dtype)
            )
            graph.input.append(onnx.helper.make_tensor_value_info(name, kind, value.shape))
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in expansion.structure.opset.items()]
    model = onnx.helper.make_model(graph, opset_imports=opsets)
    try:
        found = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return {}
    shapes = {}
    for value_info in found.graph.output:
        tensor = value_info.type.tensor_type
        if tensor.HasField("shape"):
            shapes[value_info.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim
            )
    return shapes


RULES: dict[str, Rule] = {**dict.fromkeys(MOVED.keys() - {"Gather", "Where"}, moved), "Shape": _shape, "Size": _shape}
