"""Any torch module or exported program -> Structure: torch's own exporter lowers it to ONNX operators.

Parameters and buffers go through the lowering as inputs of the graph, so that none of them is folded, transposed or
renamed: they keep their ``state_dict`` names and orientation, and masks are recognised where they are applied.
"""

from __future__ import annotations

import ast
import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from deepstruct import dtypes
from deepstruct.converters import torch_masks, torch_tensors
from deepstruct.errors import MissingDependencyError, UnsupportedError
from deepstruct.formats import ReadOptions
from deepstruct.losses import Loss
from deepstruct.structure import Parameter, Structure

if TYPE_CHECKING:
    import onnx_ir

    from deepstruct.model import Model

_SCOPES = "pkg.torch.onnx.name_scopes"  # torch.onnx: path of modules, then the operator's own name
_SUBJECT = Path("the exported program")


def from_module(
    module: nn.Module, example_inputs: Any, dynamic_shapes: Any, losses: list[Loss]
) -> tuple[Structure, dict[str, Tensor]]:
    """The structure of any module that `torch.export` can trace, and its tensors by parameter name.

    Args:
        module: to trace, in evaluation mode; it is left as it was.
        example_inputs: positional arguments for one call.
        dynamic_shapes: as `torch.export.export` takes them; None leaves the first dimension of each input open.
        losses: gets what cannot be carried.

    Raises:
        UnsupportedError: torch cannot trace it, or an operator has no ONNX counterpart; the reason is torch's own.
    """
    arguments = tuple(example_inputs) if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    if dynamic_shapes is None:
        arguments = _two_samples(arguments)
        dynamic_shapes = pytree.tree_map(
            lambda value: {0: Dim.AUTO} if isinstance(value, Tensor) and value.ndim else None, arguments
        )
    with evaluating(module), torch.no_grad(), quiet():
        try:
            program = torch.export.export(module, arguments, dynamic_shapes=dynamic_shapes, strict=False)
        except Exception as error:  # whatever the module's own code raises
            raise UnsupportedError(f"torch.export cannot trace the module: {first_line(error)}") from error
    return from_program(program, losses)


def from_program(program: ExportedProgram, losses: list[Loss]) -> tuple[Structure, dict[str, Tensor]]:
    """The structure of an exported program, and its tensors by parameter name.

    Raises:
        UnsupportedError: an operator has no ONNX counterpart.
    """
    tensors = {name: t for name, t in {**program.state_dict, **program.constants}.items() if isinstance(t, Tensor)}
    try:
        read = _lowered(program, set(tensors))
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or "onnxscript", "all", "tracing torch modules") from error
    assert read.weights is not None
    for parameter in read.structure.parameters:  # numbers that the lowering made, such as the scale of attention
        tensors[parameter.name] = torch_tensors.to_tensor(read.weights[parameter.name], parameter.dtype)
    structure = _with_parameters(read.structure, tensors, losses)
    return torch_masks.absorb(structure, tensors, set(program.graph_signature.parameters))


def _lowered(program: ExportedProgram, names: set[str]) -> Model:
    """The model of a program as ONNX operators, in which the named tensors are inputs."""
    from deepstruct.converters import onnx_reading

    with quiet():
        try:
            lowered = torch.onnx.export(program, dynamo=True, optimize=False, verbose=False)
        except ModuleNotFoundError:
            raise
        except Exception as error:  # of torch's exporter, which has no common root
            raise UnsupportedError(f"torch.onnx cannot lower the program: {first_line(error)}") from error
    assert lowered is not None
    _simplify(lowered.model, names)
    return onnx_reading.from_proto(lowered.model_proto, _SUBJECT, ReadOptions(), [])


def _simplify(model: onnx_ir.Model, names: set[str]) -> None:
    """Makes the named initializers inputs, simplifies around them, and keeps nothing but scopes as metadata."""
    from onnxscript import optimizer

    from deepstruct.converters import onnx_keys

    graph = model.graph
    for name in names & graph.initializers.keys():
        value = graph.initializers.pop(name)
        value.const_value = None
        graph.inputs.append(value)
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
        node.metadata_props.clear()
        if len(scopes) > 1 and not scopes[-2].startswith("_empty_nn_module"):
            node.metadata_props[onnx_keys.SCOPE] = scopes[-2]


def _name_dimensions(value: onnx_ir.Value, symbols: dict[str, str], *, given: bool = True) -> None:
    """Calls the open first dimension of inputs ``batch``, and other open ones ``dim_1``, ``dim_2`` and so on."""
    import onnx_ir

    dims: list[int | str | None] = []
    for position, dim in enumerate(value.shape or ()):
        if isinstance(dim, int):
            dims.append(dim)
            continue
        symbol = str(dim.value)
        if given and symbol not in symbols:
            is_batch = position == 0 and "batch" not in symbols.values()
            symbols[symbol] = "batch" if is_batch else f"dim_{len(symbols)}"
        dims.append(symbols.get(symbol))
    if value.shape is not None:
        value.shape = onnx_ir.Shape(dims)


def _with_parameters(structure: Structure, tensors: Mapping[str, Tensor], losses: list[Loss]) -> Structure:
    """The structure in which the inputs that are tensors of a module are its parameters; unused ones included."""
    used = {name for node in structure.nodes for name in node.inputs} | {value.name for value in structure.outputs}
    first: dict[Any, str] = {}
    for name in (name for name in tensors if name in used):
        first.setdefault(_place(tensors[name]), name)
    parameters = []
    for name, tensor in tensors.items():
        other = first.get(_place(tensor), name)
        if name not in used and other != name and tensor.numel():
            losses.append(Loss("sharing", name, f"it is one tensor with {other}, and is kept under that name only"))
            continue
        array = torch_tensors.to_numpy(None, name, tensor)
        parameters.append(Parameter(name, dtypes.from_numpy(array.dtype), array.shape))
    inputs = tuple(value for value in structure.inputs if value.name not in tensors)
    return replace(structure, name="main", inputs=inputs, parameters=tuple(parameters))


def _place(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _two_samples(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments with two samples where there is one, because torch takes a dimension of 1 for a fixed one."""
    inputs = [value for value in pytree.tree_leaves(arguments) if isinstance(value, Tensor) and value.ndim]
    if any(value.shape[0] != 1 for value in inputs):
        return arguments

    def twice(value: Any) -> Any:
        return torch.cat([value, value]) if isinstance(value, Tensor) and value.ndim else value

    doubled: tuple[Any, ...] = pytree.tree_map(twice, arguments)
    return doubled


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every part of the module is in the mode that it was in."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps torch's exporter from talking; what matters ends in an error."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def first_line(error: Exception) -> str:
    """What an exception says, in one line of bounded length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]:.200}" if lines else type(error).__name__
