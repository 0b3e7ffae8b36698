"""Any torch module or exported program -> Structure: torch's own exporter lowers it to ONNX operators.

Parameters and buffers go through the lowering as inputs of the graph, so that none of them is folded, transposed or
renamed: they keep their ``state_dict`` names and orientation, and masks are recognised where they are applied.
"""

from __future__ import annotations

import inspect
from collections.abc import Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import ConstantArgument
from torch.utils import _pytree as pytree

from deepstruct import dtypes
from deepstruct.converters import torch_lowering, torch_masks, torch_tensors
from deepstruct.converters.torch_tracing import evaluating, quiet, reason
from deepstruct.errors import MissingDependencyError, UnsupportedError
from deepstruct.losses import Loss
from deepstruct.structure import Node, Parameter, Structure
from deepstruct.tensor import MAX_ELEMENTS
from deepstruct.tensor import Tensor as Constant

if TYPE_CHECKING:
    from deepstruct.model import Model


def from_module(
    module: nn.Module, example_inputs: Any, dynamic_shapes: Any, losses: list[Loss]
) -> tuple[Structure, dict[str, Tensor]]:
    """The structure of any module that `torch.export` can trace, and its tensors by parameter name.

    Args:
        module: to trace, in evaluation mode; it is left as it was.
        example_inputs: arguments for one call: a tuple of positional ones, a dict of named ones, or a single value.
        dynamic_shapes: as `torch.export.export` takes them; None leaves the first dimension of each input open.
        losses: gets what cannot be carried.

    Raises:
        UnsupportedError: torch cannot trace it, or an operator has no ONNX counterpart; the reason is torch's own.
    """
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_meta or nn.parameter.is_lazy(tensor):
            raise UnsupportedError(f"{name} has no numbers yet; load them, or call the module once if it is lazy")
    call = _call(module, example_inputs)
    attempts = [call]
    if dynamic_shapes is None:
        doubled = _two_samples(call)
        attempts = [call] if doubled is call else [doubled, call]
    for attempt in attempts:
        try:
            program = _program(module, attempt, dynamic_shapes)
        except Exception as error:  # whatever the module's own code raises
            if attempt is not call:
                continue
            raise UnsupportedError(f"torch.export cannot trace the module: {reason(error)}") from error
        found: list[Loss] = []
        result = from_program(program, found)
        if attempt is call or all(isinstance(extent, str) for extent in _first_extents(result[0])):
            losses += found
            return result
    raise AssertionError("the call itself is the last attempt")


def _program(module: nn.Module, call: Any, dynamic_shapes: Any) -> ExportedProgram:
    arguments, named = call
    with evaluating(module), torch.no_grad(), quiet():
        shapes = _first_open(module, arguments, named) if dynamic_shapes is None else dynamic_shapes
        return torch.export.export(module, arguments, named, dynamic_shapes=shapes, strict=False)


def _first_extents(structure: Structure) -> list[Any]:
    """The first extent of each input; two samples in place of one are no example where it is not open."""
    return [value.shape[0] for value in structure.inputs if value.shape]


def _call(module: nn.Module, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named arguments; a dict holds named ones only if `forward` has all of the names."""
    if isinstance(inputs, (tuple, list)):
        return tuple(inputs), {}
    if isinstance(inputs, dict) and inputs.keys() <= inspect.signature(module.forward).parameters.keys():
        return (), inputs
    return (inputs,), {}


def _two_samples(call: Any) -> Any:
    """The arguments with two samples where there is one, because torch takes a dimension of 1 for a fixed one."""
    inputs = [value for value in pytree.tree_leaves(call) if isinstance(value, Tensor) and value.ndim]
    if not inputs or any(value.shape[0] != 1 for value in inputs):
        return call
    return pytree.tree_map(lambda x: torch.cat([x, x]) if isinstance(x, Tensor) and x.ndim else x, call)


def _first_open(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Which dimensions are open by default, by the names of `forward`: the first of each tensor."""
    bound = inspect.signature(module.forward).bind(*arguments, **named).arguments
    return pytree.tree_map(lambda x: {0: Dim.AUTO} if isinstance(x, Tensor) and x.ndim else None, bound)


def from_program(program: ExportedProgram, losses: list[Loss]) -> tuple[Structure, dict[str, Tensor]]:
    """The structure of an exported program, and its tensors by parameter name.

    Args:
        program: to lower; it is left as it was.
        losses: gets what cannot be carried.

    Raises:
        UnsupportedError: an operator has no ONNX counterpart, or something that is no tensor is returned.
    """
    signature = program.graph_signature
    for spec in signature.output_specs:
        if isinstance(spec.arg, ConstantArgument) and spec.arg.value is not None:
            raise UnsupportedError(f"it returns {spec.arg.value!r:.60}, which is no tensor; return tensors only")
    visible = {*signature.user_inputs, *signature.user_outputs}
    for node in program.graph.nodes:
        if node.name in visible and isinstance(value := node.meta.get("val"), Tensor) and value.is_complex():
            raise UnsupportedError(f"{node.name} is complex, which ONNX is not; use torch.view_as_real")
    tensors = {name: t for name, t in {**program.state_dict, **program.constants}.items() if isinstance(t, Tensor)}
    try:
        read = torch_lowering.lowered(program, set(tensors), losses)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or "onnxscript", "all", "tracing torch modules") from error
    buffers = {name for name in signature.non_persistent_buffers if tensors[name].is_floating_point()}
    structure, tensors = _with_tensors(read, tensors, program.constants.keys() - buffers, losses)
    structure, kept = torch_masks.absorb(structure, tensors, set(signature.parameters))
    for name in tensors.keys() - kept.keys():
        if torch_tensors.is_scores(name, tensors[name].shape):
            why = "scores become a mask: the larger one decides, and the scores are not kept"
            losses.append(Loss("mask scores", name, why))
    return structure, kept


def _with_tensors(
    read: Model, tensors: dict[str, Tensor], unnamed: Set[str], losses: list[Loss]
) -> tuple[Structure, dict[str, Tensor]]:
    """The structure in which the inputs that are tensors of a module are its parameters, and those by name.

    Unused ones are included; one that has several names gets the first. What the lowering made, or the module's code
    without a name, is part of the structure where that is possible.
    """
    assert read.weights is not None
    first: dict[Any, str] = {}
    aliases = {name: first.setdefault(_place(tensor), name) for name, tensor in tensors.items() if tensor.numel()}
    for name, other in aliases.items():
        if name != other:
            losses.append(Loss("sharing", name, f"it is one tensor with {other}, and is kept under that name only"))
    arrays = {
        name: torch_tensors.to_numpy(None, name, t) for name, t in tensors.items() if aliases.get(name) in (name, None)
    }
    arrays |= {parameter.name: read.weights[parameter.name] for parameter in read.structure.parameters}
    structure, parameters = read.structure, []
    constants, nodes = dict(structure.constants), []
    for name, array in arrays.items():
        inlined = _inlined(name, array) if name in unnamed or name not in tensors else None
        if inlined is None:
            dtype = dtypes.from_numpy(array.dtype)
            parameters.append(Parameter(name, dtype, array.shape))
            tensors.setdefault(name, torch_tensors.to_tensor(array, dtype))
        else:
            constants |= inlined[0]
            nodes += inlined[1]
    for node in structure.nodes:
        nodes.append(replace(node, inputs=tuple(aliases.get(name, name) for name in node.inputs)))
    inputs = tuple(value for value in structure.inputs if value.name not in tensors)
    structure = replace(
        structure, name="main", inputs=inputs, nodes=tuple(nodes), parameters=tuple(parameters), constants=constants
    )
    return structure, {parameter.name: tensors[parameter.name] for parameter in parameters}


def _place(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _inlined(name: str, array: NDArray[Any]) -> tuple[dict[str, Constant], list[Node]] | None:
    """A tensor as a constant or a node that makes it, or None if it can only be a parameter."""
    is_small = array.size <= MAX_ELEMENTS
    if array.dtype.kind == "c" or not array.size:
        return None
    if is_small and (array.dtype.kind in "biu" or not array.ndim):
        return {name: Constant.from_array(array)}, []
    if is_small and array.ndim == 1 and array.dtype == np.float32 and np.isfinite(array).all():
        return {}, [Node(name, "Constant", (), (name,), {"value_floats": tuple(array.tolist())})]
    value = array.ravel()[:1]
    if array.tobytes() == np.full(array.shape, value).tobytes():
        shape = f"{name}.shape"
        made = Node(name, "ConstantOfShape", (shape,), (name,), {"value": Constant.from_array(value)})
        return {shape: Constant.from_array(np.array(array.shape, dtype=np.int64))}, [made]
    return None
