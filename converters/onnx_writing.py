"""Model -> ONNX file, with the protocol buffer classes of the onnx package.

Tensors are written one after the other, so that memory does not grow with the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from onnx import ModelProto, SparseTensorProto, TensorProto, helper

from deepstruct import attributes as attribute_values
from deepstruct import encoding
from deepstruct.converters import (
    onnx_encodings,
    onnx_graphs,
    onnx_keys,
    onnx_messages,
    onnx_opsets,
    onnx_packed,
    onnx_packed_operators,
    onnx_tensors,
)
from deepstruct.converters.onnx_messages import Stream
from deepstruct.converters.onnx_types import add_types
from deepstruct.errors import UnsupportedError, UsageError
from deepstruct.files import Targets
from deepstruct.frozen import thaw
from deepstruct.losses import Loss
from deepstruct.mask import Mask
from deepstruct.model import Model, Weights
from deepstruct.options import WriteOptions
from deepstruct.structure import Node, Parameter, Structure, walk
from deepstruct.tensor import MAX_ELEMENTS, Tensor
from deepstruct.version import __version__

_LARGEST = 2**31 - 1  # bytes of one protocol buffer message
_MARGIN = 2**26  # bytes left for what is not numbers


def write(model: Model, path: Path, targets: Targets, options: WriteOptions) -> list[Loss]:
    """Writes an ONNX file, and beside it one with external data if it would take 2 GiB or more.

    Raises:
        UnsupportedError: the model has no weights, which ONNX demands, or an option does not fit to it.
    """
    if model.weights is None and model.structure.parameters:
        why = "the source has a structure only; --init draws them for a graph"
        raise UnsupportedError(f"ONNX demands weights, and {why}")
    if options.opset is not None:
        model = onnx_opsets.with_opset(model, options.opset)
    return _Writer(model, path, options).write(targets)


class _Writer:
    """Writes one model."""

    def __init__(self, model: Model, path: Path, options: WriteOptions) -> None:
        self.structure = model.structure
        self.weights = Weights(model.structure, {}) if model.weights is None else model.weights
        self.path = path
        self.options = options
        functions = options.ir_version is None or options.ir_version >= onnx_opsets.OF_FUNCTIONS
        chosen = onnx_encodings.choose(model.structure, options.sparse_encoding, functions=functions)
        self.stored, self.plans = chosen.stored, chosen.plans
        self.losses = _write_losses(model.structure)
        self._masks: dict[str, Any] = {}

    def write(self, targets: Targets) -> list[Loss]:
        """Writes the files and returns what they do not hold."""
        structure = self.structure
        in_graph, unused = self._placed()
        graph = onnx_graphs.graph_proto(structure, self._embedded)
        proto = self._model()
        add_types(self.path, proto, graph, structure)
        unpacking = self._unpacking(in_graph)
        proto.functions.extend(unpacking.functions)
        if unpacking.functions:
            proto.opset_import.append(helper.make_opsetid(onnx_packed_operators.DOMAIN, onnx_packed_operators.VERSION))
        graph.initializer.extend(unpacking.initializers)
        graph.value_info.extend(unpacking.value_info)
        expected = sum(self.stored[p.name].bytes for p in in_graph)
        external = self.options.external_data or expected > _LARGEST - _MARGIN
        file = targets.open(self.path)
        place = self.path.with_name(self.path.name + ".data")
        if external and any(char in place.name for char in ":\\"):
            raise UsageError(
                f"{self.path}: no model can name {place.name!r} as the file of its numbers; choose another name"
            )
        stream = Stream(file, partial(targets.open, place) if external else None, place.name)
        file.write(proto.SerializeToString(deterministic=True))
        start = stream.begin(onnx_messages.GRAPH)
        for node in unpacking.nodes:
            stream.write(onnx_messages.NODE, node)
        for parameter in self.options.progress(in_graph):
            self._write_parameter(stream, parameter)
        file.write(graph.SerializeToString(deterministic=True))
        size = stream.end(start)
        file.write(self._metadata(in_graph, unused).SerializeToString(deterministic=True))
        if size > _LARGEST:
            message = f"the model takes {size} bytes, and one ONNX file holds less than 2 GiB"
            raise UnsupportedError(f"{self.path}: {message}; --external-data puts the numbers into a second one")
        self.options.report([self.stored[p.name] for p in in_graph])
        return self.losses

    def _unpacking(self, in_graph: list[Parameter]) -> onnx_packed.Parts:
        """What decodes the packed parameters of the main graph."""
        plans = {p.name: self.plans[p.name] for p in in_graph if p.name in self.plans}
        function = self.options.sparse_encoding != "packed-flat"
        return onnx_packed.assemble(plans, self.structure.opset.get("", 0), function=function)

    def _placed(self) -> tuple[list[Parameter], list[Parameter]]:
        """The parameters that become initializers, and those that no operator uses and that are noted beside them.

        Runtimes warn of unused initializers, such as the batch counts of batch norm. Parameters that only functions
        or attributes use stand there.
        """
        structure = self.structure
        used = {name for node in walk(structure.nodes) for name in node.inputs}
        used |= {value.name for value in structure.outputs}
        elsewhere = {name for function in structure.functions for name in function.captured}
        elsewhere |= {name for node in self._all_nodes() for name in node.references}
        unused = [
            p
            for p in structure.parameters
            if p.name not in used | elsewhere
            and p.mask is None
            and p.size <= MAX_ELEMENTS
            and not p.dtype.startswith("complex")
        ]
        away = {p.name for p in unused} | (elsewhere - used)
        return [p for p in structure.parameters if p.name not in away], unused

    def _all_nodes(self) -> Iterator[Node]:
        yield from walk(self.structure.nodes)
        for function in self.structure.functions:
            yield from walk(function.nodes)

    def _model(self) -> ModelProto:
        """The model without its graph."""
        structure = self.structure
        proto = ModelProto(
            ir_version=onnx_opsets.ir_version(structure, self.options.ir_version),
            producer_name="deepstruct",
            producer_version=__version__,
            opset_import=onnx_graphs.opset_ids(structure.opset),
        )
        proto.functions.extend(
            onnx_graphs.function_proto(function, structure, self._embedded) for function in structure.functions
        )
        return proto

    def _embedded(self, name: str, sparse: bool | None) -> TensorProto | SparseTensorProto:
        """The tensor of a parameter that stands within a function or an attribute."""
        parameter = self.structure.parameter(name)
        if sparse is None:
            sparse = self.stored[name].encoding != "dense"
        if sparse:
            mask = parameter.mask or Mask.full(parameter.shape)
            return onnx_tensors.sparse(parameter, mask, self.weights.kept(name))
        self._note_mask(parameter)
        return onnx_tensors.dense(parameter, self.weights[name])

    def _write_parameter(self, stream: Stream, parameter: Parameter) -> None:
        name, mask, stored = parameter.name, parameter.mask, self.stored[parameter.name].encoding
        if mask is None or stored == "dense":
            self._note_mask(parameter)
            stream.write_dense(onnx_messages.INITIALIZER, parameter, self.weights[name])
        elif name in self.plans:
            for tensor in onnx_packed.initializers(self.plans[name], mask, self.weights.kept(name)):
                stream.write(onnx_messages.INITIALIZER, stream.placed(tensor))
        else:
            sparse = onnx_tensors.sparse(parameter, mask, self.weights.kept(name))
            sparse.values.CopyFrom(stream.placed(sparse.values))
            if stored == "coo":
                stream.write(onnx_messages.SPARSE_INITIALIZER, sparse)
            else:
                node = helper.make_node("Constant", [], [name], name, sparse_value=sparse)
                stream.write(onnx_messages.NODE, node)

    def _note_mask(self, parameter: Parameter) -> None:
        """Notes that a dense tensor has a mask: its entries other than 0, and those that exist and are 0."""
        if parameter.mask is not None:
            zeros = parameter.mask.indices()[self.weights.kept(parameter.name) == 0]
            noted = encoding.encode(Mask.from_indices(parameter.shape, zeros)) if zeros.size else True
            self._masks[parameter.name] = noted

    def _metadata(self, in_graph: list[Parameter], unused: list[Parameter]) -> ModelProto:
        """What ONNX has no field for, which is known once all tensors are written."""
        proto = ModelProto()
        if self.structure.attributes:
            text = json.dumps(thaw(self.structure.attributes), sort_keys=True, ensure_ascii=False)
            proto.metadata_props.add(key=onnx_keys.ATTRIBUTES, value=text)
        if unused:
            constants = {p.name: Tensor.from_array(self.weights[p.name]) for p in unused}
            text = json.dumps({name: attribute_values.tensor_to_json(value) for name, value in constants.items()})
            proto.metadata_props.add(key=onnx_keys.UNUSED, value=text)
        small = {p.name: True for p in in_graph if onnx_tensors.is_small(p)}
        if small:
            proto.metadata_props.add(key=onnx_keys.PARAMETERS, value=json.dumps(small, ensure_ascii=False))
        if self._masks:
            proto.metadata_props.add(key=onnx_keys.MASKS, value=json.dumps(self._masks, separators=(",", ":")))
        return proto


def _write_losses(structure: Structure) -> list[Loss]:
    owners: list[tuple[str, Any]] = [("document", structure)]
    for nodes in (structure.nodes, *(function.nodes for function in structure.functions)):
        owners += [(node.name, node) for node in walk(nodes)]
        graphs = [graph for node in walk(nodes) for graph in node.graphs]
        owners += [(graph.name, graph) for graph in graphs]
        owners += [(value.name, value) for graph in graphs for value in (*graph.inputs, *graph.outputs)]
    owners += [(function.name, function) for function in structure.functions]
    owners += [(parameter.name, parameter) for parameter in structure.parameters]
    owners += [(value.name, value) for value in (*structure.inputs, *structure.outputs)]
    claims = [
        Loss("sparsity structure", parameter.name, f"ONNX has no place for the claim {parameter.sparsity_structure}")
        for parameter in structure.parameters
        if parameter.sparsity_structure is not None
    ]
    return claims + [
        Loss("unknown members", name, f"ONNX has no place for {', '.join(sorted(item.extra))}")
        for name, item in owners
        if item.extra
    ]
