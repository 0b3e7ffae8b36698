"""Types of the values between the nodes, inferred where weights are dense."""

from __future__ import annotations

import graphlib
from collections.abc import Collection
from pathlib import Path

import google.protobuf.message
import onnx
from onnx import GraphProto, ModelProto, TypeProto

from deepstruct.converters import onnx_graphs
from deepstruct.errors import UnsupportedError
from deepstruct.structure import Structure, ValueInfo, walk

_REFUSALS = (
    onnx.shape_inference.InferenceError,
    onnx.checker.ValidationError,
    google.protobuf.message.DecodeError,  # the types that it adds would be nested deeper than messages can be
    ValueError,
)
_MOST_CALLS = 100_000  # nodes of functions; inference looks at each again in every call
_IN_A_NODE = "Inference error(s)"  # twice in a message about a node within the definition of another operator


def add_types(path: Path, proto: ModelProto, graph: GraphProto, structure: Structure) -> None:
    """Adds the types of the values between the nodes, which inference cannot find once weights are sparse.

    They are inferred on a twin in which every parameter is a graph input. An output whose rank the structure leaves
    open gets the inferred shape too, since onnx.checker demands one.

    Definitions of operators that inference itself stumbles over are passed by.

    Raises:
        UnsupportedError: types or shapes are not what the operators take, so no runtime would accept the model.
    """
    twin = ModelProto()
    twin.CopyFrom(proto)
    twin.graph.CopyFrom(graph)
    parameters = [ValueInfo(p.name, p.dtype, p.shape) for p in structure.parameters]
    twin.graph.input.extend(map(onnx_graphs.value_proto, parameters))
    if _calls(structure) > _MOST_CALLS:
        del twin.functions[:]
    inferred = _inferred(path, twin)
    own = {
        dim for value in (*structure.inputs, *structure.outputs) for dim in value.shape or () if isinstance(dim, str)
    }
    for found in (*inferred.graph.value_info, *inferred.graph.output):
        _forget_names(found.type, own)
    graph.value_info.extend(inferred.graph.value_info)
    for output, found in zip(graph.output, inferred.graph.output, strict=True):
        if not output.type.WhichOneof("value") or (
            output.type.WhichOneof("value") == "tensor_type" and not output.type.tensor_type.HasField("shape")
        ):
            output.CopyFrom(found)


def _inferred(path: Path, twin: ModelProto) -> ModelProto:
    try:
        try:
            return onnx.shape_inference.infer_shapes(twin, check_type=True, strict_mode=True)
        except onnx.shape_inference.InferenceError as error:
            if str(error).count(_IN_A_NODE) < 2:
                raise
            return onnx.shape_inference.infer_shapes(twin)
    except _REFUSALS as error:
        reason = str(error).strip().splitlines()[-1]
        raise UnsupportedError(f"{path}: ONNX does not allow this structure: {reason}") from error


def _calls(structure: Structure) -> int:
    """Nodes that there would be if every call of a function were replaced by its nodes."""
    functions = {function.key: tuple(walk(function.nodes)) for function in structure.functions}
    called = {key: {node.called for node in nodes if node.called in functions} for key, nodes in functions.items()}
    sizes: dict[tuple[str, str, str], int] = {}
    for key in graphlib.TopologicalSorter(called).static_order():
        sizes[key] = sum(1 + sizes.get(node.called, 0) for node in functions[key])
    return sum(sizes.get(node.called, 0) for node in walk(structure.nodes))


def _forget_names(proto: TypeProto, own: Collection[str]) -> None:
    """Removes the names that inference gave to open extents, which runtimes would show at the outputs."""
    kind = proto.WhichOneof("value")
    if kind in ("sequence_type", "optional_type"):
        _forget_names(getattr(proto, kind).elem_type, own)
    elif kind == "map_type":
        _forget_names(proto.map_type.value_type, own)
    elif kind in ("tensor_type", "sparse_tensor_type"):
        for dim in getattr(proto, kind).shape.dim:
            if dim.dim_param.startswith("unk__") and dim.dim_param not in own:
                dim.Clear()
