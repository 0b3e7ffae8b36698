"""Versions of operator sets and of the ONNX file format: which a model needs, and how to bring it to another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, helper

from deepstruct.converters import onnx_graphs
from deepstruct.converters.onnx_initializers import Initializers
from deepstruct.converters.onnx_scopes import ScopeReader, opset_of
from deepstruct.errors import UnsupportedError
from deepstruct.frozen import FrozenMapping
from deepstruct.model import Model, Weights
from deepstruct.options import ReadOptions
from deepstruct.structure import Parameter, Structure, ValueInfo

IR_VERSION = 10
"""The first with metadata_props on nodes, which hold their scopes and which readers of older ones pass by.

Every onnxruntime since 1.18 accepts it.
"""

_OF_FUNCTIONS = 8
_OF_OVERLOADS = 10
_OF_DTYPES = {"float4_e2m1fn": 11, "float8_e8m0fnu": 12, "int2": 13, "uint2": 13}


def ir_version(structure: Structure, wanted: int | None) -> int:
    """The version of the file format to write: as wanted, or the oldest that holds the structure.

    Raises:
        UnsupportedError: the structure needs a newer one, or the onnx package does not know it.
    """
    used = [p.dtype for p in structure.parameters] + [c.dtype for c in structure.constants.values()]
    least = max([_of_opset(structure), *(_OF_DTYPES.get(dtype, 0) for dtype in used)])
    least = max(least, _OF_FUNCTIONS if structure.functions else 3)
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
    path = Path(structure.name)
    initializers = Initializers(path, ReadOptions())
    scopes = ScopeReader(path, initializers, converted.graph, ())
    nodes = scopes.main(converted.graph, opset_of(path, converted.opset_import))
    places = {node.outputs: node.scope for node in structure.nodes}
    changed = replace(
        structure,
        nodes=tuple(replace(node, scope=places.get(node.outputs, "")) for node in nodes),
        parameters=(*structure.parameters, *initializers.parameters.values()),
        constants=FrozenMapping(initializers.constants),
        opset=FrozenMapping({**structure.opset, "": version}),
    )

    def load(parameter: Parameter) -> NDArray[np.generic]:
        return weights.kept(parameter.name) if parameter.name in weights else initializers.load(parameter)

    return Model(changed, Weights(changed, load))


def _refuse(name: str, _sparse: bool | None) -> onnx.TensorProto:
    raise UnsupportedError(f"the attribute with the tensor {name!r} cannot be brought to another opset")
