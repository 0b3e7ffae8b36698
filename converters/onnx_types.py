"""Types of the values between the nodes, inferred where weights are dense."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto

from deepstruct.converters import onnx_graphs
from deepstruct.errors import UnsupportedError
from deepstruct.structure import Structure, ValueInfo

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
    try:
        inferred = onnx.shape_inference.infer_shapes(twin, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        if str(error).count(_IN_A_NODE) < 2:
            reason = str(error).strip().splitlines()[-1]
            raise UnsupportedError(f"{path}: ONNX does not allow this structure: {reason}") from error
        inferred = onnx.shape_inference.infer_shapes(twin)
    graph.value_info.extend(inferred.graph.value_info)
    for output, found in zip(graph.output, inferred.graph.output, strict=True):
        if not output.type.WhichOneof("value") or (
            output.type.WhichOneof("value") == "tensor_type" and not output.type.tensor_type.HasField("shape")
        ):
            output.CopyFrom(found)
