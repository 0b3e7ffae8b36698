"""Exported program -> Model of ONNX operators in which parameters are inputs, free of the exporter's noise."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind

from deepstruct.converters.torch_tracing import quiet, reason
from deepstruct.errors import UnsupportedError
from deepstruct.formats import ReadOptions
from deepstruct.losses import Loss

if TYPE_CHECKING:
    import onnx
    import onnx_ir

    from deepstruct.model import Model

_SCOPES = "pkg.torch.onnx.name_scopes"  # torch.onnx: path of modules, then the operator's own name
_SUBJECT = Path("the exported program")


def lowered(program: ExportedProgram, names: set[str], losses: list[Loss]) -> Model:
    """The model of a program as ONNX operators, in which the named tensors are inputs.

    Args:
        program: to lower.
        names: of the parameters and buffers.
        losses: gets what the program changes in each call.

    Raises:
        UnsupportedError: an operator has no ONNX counterpart, or one that holds a graph.
        ModuleNotFoundError: a package that torch's exporter needs is not installed.
    """
    from deepstruct.converters import onnx_reading

    with quiet():
        try:
            result = torch.onnx.export(program, dynamo=True, optimize=False, verbose=False)
        except ModuleNotFoundError:
            raise
        except Exception as error:  # of torch's exporter, which has no common root
            raise UnsupportedError(f"torch.onnx cannot lower the program: {reason(error)}") from error
        assert result is not None
        assert result.exported_program is not None
        for spec in result.exported_program.graph_signature.output_specs:
            if spec.kind in (OutputKind.BUFFER_MUTATION, OutputKind.USER_INPUT_MUTATION):
                why = "the module changes it in each call; in a structure each call begins with the same"
                losses.append(Loss("update", str(spec.target), why))
        _simplify(result.model, names)
        proto = result.model_proto
    _leave_out_defaults(proto)
    return onnx_reading.from_proto(proto, _SUBJECT, ReadOptions(), [])


def _simplify(model: onnx_ir.Model, names: set[str]) -> None:
    """Makes the named initializers inputs, simplifies around them, and keeps nothing but scopes as metadata."""
    import onnx_ir
    from onnxscript import optimizer

    from deepstruct.converters import onnx_keys

    graph = model.graph
    for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
        if value.name in names:
            value.name = f"{value.name}.value"
    for name in names & graph.initializers.keys():
        value = graph.initializers.pop(name)
        value.const_value = None
        graph.inputs.append(value)
    for position, value in enumerate(graph.outputs):
        if value.is_graph_input():  # else the optimizer would rename the input
            copy = onnx_ir.node("Identity", [value], name=f"{value.name}.out")
            result = copy.outputs[0]
            result.name, result.shape, result.type = copy.name, value.shape, value.type
            graph.append(copy)
            graph.outputs[position] = result
    optimizer.optimize(model)
    symbols: dict[str, str] = {}
    for value in graph.inputs:
        if value.name not in names:
            _name_dimensions(value, symbols)
    for value in graph.outputs:
        _name_dimensions(value, symbols, given=False)
    model.metadata_props.clear()
    graph.metadata_props.clear()
    for node in graph:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
        scope = scopes[-2] if len(scopes) > 1 and not scopes[-2].startswith("_empty_nn_module") else ""
        if any(attribute.type == onnx_ir.AttributeType.GRAPH for attribute in node.attributes.values()):
            why = f"a {node.op_type} with a graph of its own, which cannot be carried"
            raise UnsupportedError(f"{scope or 'the module'} comes out of torch.onnx as {why}")
        node.metadata_props.clear()
        if scope:
            node.metadata_props[onnx_keys.SCOPE] = scope


def _name_dimensions(value: onnx_ir.Value, symbols: dict[str, str], *, given: bool = True) -> None:
    """Calls the open first dimension of inputs ``batch``, and other open ones ``dim_1``, ``dim_2`` and so on."""
    import onnx_ir

    dims: list[int | str | None] = []
    for position, dim in enumerate(value.shape or ()):
        if isinstance(dim, int):
            dims.append(dim)
            continue
        symbol = str(dim.value)
        if symbol.isdigit():  # open for torch.export, but fixed by an operator once it was lowered
            dims.append(int(symbol))
            continue
        if given and symbol not in symbols:
            is_batch = position == 0 and "batch" not in symbols.values()
            symbols[symbol] = "batch" if is_batch else f"dim_{len(symbols)}"
        dims.append(symbols.get(symbol))
    if value.shape is not None:
        value.shape = onnx_ir.Shape(dims)


def _leave_out_defaults(proto: onnx.ModelProto) -> None:
    """Removes the attributes that say what their operator does without them."""
    import onnx

    versions = {entry.domain: entry.version for entry in proto.opset_import}
    for node in proto.graph.node:
        if onnx.defs.has(node.op_type, node.domain):
            known = onnx.defs.get_schema(node.op_type, versions[node.domain], node.domain).attributes
            kept = [a for a in node.attribute if a.name not in known or a != known[a.name].default_value]
            del node.attribute[:]
            node.attribute.extend(kept)
