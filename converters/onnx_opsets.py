"""Versions of operator sets and of the ONNX file format: which a model needs, and how to bring it to another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, helper

from deepstruct.converters import onnx_graphs
from deepstruct.converters.onnx_initializers import Initializers
from deepstruct.converters.onnx_scopes import ScopeReader, opset_of
from deepstruct.errors import FaultyError, UnsupportedError
from deepstruct.frozen import FrozenMapping
from deepstruct.model import Model, Weights
from deepstruct.options import ReadOptions
from deepstruct.structure import Function, Parameter, Structure, ValueInfo, walk

IR_VERSION = 10
"""The first with metadata_props on nodes, which hold their scopes and which readers of older ones pass by.

Every onnxruntime since 1.18 accepts it.
"""

OF_FUNCTIONS = 8
"""The first IR version with functions."""

_OF_OVERLOADS = 10
_OF_DTYPES = {"float4_e2m1fn": 11, "float8_e8m0fnu": 12, "int2": 13, "uint2": 13}


def ir_version(structure: Structure, wanted: int | None) -> int:
    """The version of the file format to write: as wanted, or the oldest that holds the structure.

    Raises:
        UnsupportedError: the structure needs a newer one, or the onnx package does not know it.
    """
    used = [p.dtype for p in structure.parameters] + [c.dtype for c in structure.constants.values()]
    least = max([_of_opset(structure), *(_OF_DTYPES.get(dtype, 0) for dtype in used)])
    least = max(least, OF_FUNCTIONS if structure.functions else 3)
    if any(function.overload for function in structure.functions):
        least = max(least, _OF_OVERLOADS)
    if wanted is None:
        return max(least, IR_VERSION)
    if not least <= wanted <= onnx.IR_VERSION:
        raise UnsupportedError(f"this model can have IR version {least} to {onnx.IR_VERSION}, not {wanted}")
    return wanted


def _of_opset(structure: Structure) -> int:
    known = [
        helper.make_opsetid(domain, version)
        for domain, version in structure.opset.items()
        if (domain or "ai.onnx", version) in helper.OP_SET_ID_VERSION_MAP
    ]
    return int(helper.find_min_ir_version_for(known)) if known else 3


def with_opset(model: Model, version: int) -> Model:
    """The model with ONNX's own operators in another version, converted by the onnx package.

    Masks and numbers stay as they are; small constants may become attributes and the other way round.

    Raises:
        UnsupportedError: there is no such version, or an operator has no equivalent in it.
    """
    structure = model.structure
    before = structure.opset.get("")
    if before is None or before == version:
        return model
    newest = onnx.defs.onnx_opset_version()
    if version > newest:
        raise UnsupportedError(f"the newest opset here is {newest}, not {version}")
    parameters = [ValueInfo(p.name, p.dtype, p.shape) for p in structure.parameters]
    weights = Weights(structure, {}) if model.weights is None else model.weights
    graph = onnx_graphs.graph_proto(structure, _refuse)
    graph.input.extend(map(onnx_graphs.value_proto, parameters))
    functions = tuple(_carried(function, version) for function in structure.functions)
    _check_meaning(structure, weights, before, version)
    proto = ModelProto(
        ir_version=max(IR_VERSION, _of_opset(structure)),
        opset_import=onnx_graphs.opset_ids(structure.opset),
        graph=graph,
    )
    try:
        converted = onnx.version_converter.convert_version(proto, version)
    except (onnx.version_converter.ConvertError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1].rpartition("failed: ")[2]
        raise UnsupportedError(f"opset {before} cannot be converted to {version}: {reason}") from error
    if before < 11 <= version:
        _keep_resizing(converted.graph)
    path = Path(structure.name)
    initializers = Initializers(path, ReadOptions())
    scopes = ScopeReader(path, initializers, converted.graph, ())
    nodes = scopes.main(converted.graph, opset_of(path, converted.opset_import))
    places = {node.outputs: node.scope for node in structure.nodes}
    try:
        changed = replace(
            structure,
            nodes=tuple(replace(node, scope=places.get(node.outputs, "")) for node in nodes),
            parameters=(*structure.parameters, *initializers.parameters.values()),
            constants=FrozenMapping(initializers.constants),
            functions=functions,
            opset=FrozenMapping({**structure.opset, "": version}),
        )
    except FaultyError as error:
        reason = error.faults[0].message
        raise UnsupportedError(f"opset {before} cannot be converted to {version}: {reason}") from error

    def load(parameter: Parameter) -> NDArray[np.generic]:
        return weights.kept(parameter.name) if parameter.name in weights else initializers.load(parameter)

    return Model(changed, Weights(changed, load))


def _refuse(name: str, _sparse: bool | None) -> onnx.TensorProto:
    raise UnsupportedError(f"the attribute with the tensor {name!r} cannot be brought to another opset")


def _carried(function: Function, version: int) -> Function:
    """The function in another version of ONNX's own operators, all of which must have the same signature in both.

    Raises:
        UnsupportedError: an operator is another one in that version; the onnx package converts no functions.
    """
    before = function.opset.get("")
    if before is None or before == version:
        return function
    for node in walk(function.nodes):
        if not node.domain and _signature(node.op_type, before) != _signature(node.op_type, version):
            why = f"{node.op_type} in the function {function.name!r} is another one there"
            raise UnsupportedError(f"opset {before} cannot be converted to {version}: {why}")
    return replace(function, opset=FrozenMapping({**function.opset, "": version}))


def _signature(op_type: str, version: int) -> object:
    """Attributes with their defaults, and number of inputs and outputs, of an operator."""
    try:
        schema = onnx.defs.get_schema(op_type, version, "")
    except onnx.defs.SchemaError:
        return None
    attributes = {name: (a.required, a.default_value.SerializeToString()) for name, a in schema.attributes.items()}
    return attributes, schema.min_input, schema.max_input, schema.min_output, schema.max_output


def _check_meaning(structure: Structure, weights: Weights, before: int, version: int) -> None:
    """Refuses operators whose meaning the onnx package does not keep.

    Raises:
        UnsupportedError: there is one.
    """
    for node in walk(structure.nodes):
        if node.domain:
            continue
        lost = node.op_type == "Hardmax" and before < 13 <= version
        if node.op_type == "GroupNormalization":  # until opset 20 it has a scale for each group, then for each channel
            lost = (before < 21) != (version < 21)
        if node.op_type == "Resize" and before < 11 <= version and node.attributes.get("mode", "nearest") == "nearest":
            scales = node.inputs[1]
            lost = scales not in weights or bool((weights[scales] < 1).any())
        if lost:
            why = f"{node.name!r} would compute something else, since {node.op_type} has changed"
            raise UnsupportedError(f"opset {before} cannot be converted to {version}: {why}")


def _keep_resizing(graph: GraphProto) -> None:
    """Makes the Resize of opset 11 and later what it and Upsample were before."""
    for node in graph.node:
        if node.op_type == "Resize" and not node.domain:
            kept = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            present = {attribute.name for attribute in node.attribute}
            node.attribute.extend(helper.make_attribute(k, v) for k, v in kept.items() if k not in present)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _keep_resizing(inner)
