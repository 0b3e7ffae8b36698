"""Torch files in torch: modules and exported programs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.utils import _pytree as pytree

import deepstruct
from deepstruct.converters import torch_tensors, torch_tracing
from deepstruct.errors import DeepstructError
from deepstruct.model import Model
from deepstruct.structure import ValueInfo
from deepstruct.verification.runtimes import NotRunnableError, Value
from deepstruct.verification.torch_programs import reason, to_tensor


def module_of(model: Model) -> torch.nn.Module:
    """The module that a model describes, in evaluation mode.

    Raises:
        NotRunnableError: it has no numbers, or an operator is not mapped to torch.
    """
    if model.weights is None and model.structure.parameters:
        raise NotRunnableError("it has a structure only, and no numbers")
    try:
        return deepstruct.to_module(model).eval()
    except DeepstructError as error:
        raise NotRunnableError(str(error).splitlines()[0]) from error


def pickled_module(path: Path) -> torch.nn.Module | None:
    """The module in a trusted file, in evaluation mode; None if the file holds something else.

    Raises:
        NotRunnableError: torch cannot load it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about file formats; what matters ends in an error
            content = torch.load(path, map_location="cpu", weights_only=False)
    except MemoryError:
        raise
    except Exception as error:  # a pickle can fail in any way
        raise NotRunnableError(reason(error)) from error
    return content.eval() if isinstance(content, torch.nn.Module) else None


def program(path: Path) -> tuple[ExportedProgram, torch.nn.Module]:
    """An exported program and the module that computes it.

    The file was read before, so that loading it is known to run no code that it brings.

    Raises:
        NotRunnableError: torch cannot load it.
    """
    try:
        with torch_tracing.quiet():
            exported = torch.export.load(path)
            return exported, exported.module()
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise NotRunnableError(reason(error)) from error


def run(module: torch.nn.Module, inputs: Sequence[ValueInfo], values: Mapping[str, Value]) -> list[Value]:
    """The tensors that a module returns, whatever they are in.

    Args:
        module: to call with positional arguments.
        inputs: of its structure, in that order.
        values: by name.

    Raises:
        NotRunnableError: it fails, or returns something that is no tensor.
    """
    tensors = [to_tensor(info.name, values[info.name]) for info in inputs]
    return _called(module, tensors, {})


def run_program(
    exported: ExportedProgram, module: torch.nn.Module, names: Sequence[str], values: Mapping[str, Value]
) -> list[Value]:
    """The tensors that an exported program returns.

    Args:
        exported: says in which containers it takes its arguments.
        module: that computes it.
        names: inputs of its structure, in that order; those that are no tensors are part of the program.
        values: by name.

    Raises:
        NotRunnableError: it fails, or refuses the shapes.
    """
    pending = [to_tensor(name, values[name]) for name in names]
    leaves: list[Any] = []
    for spec in exported.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            is_constant = isinstance(spec.arg, ConstantArgument)
            if not is_constant and not pending:
                raise NotRunnableError(f"the program takes more tensors than the {len(names)} inputs of its structure")
            leaves.append(spec.arg.value if is_constant else pending.pop(0))
    if pending:
        raise NotRunnableError(f"the program takes fewer tensors than the {len(names)} inputs of its structure")
    arguments, named = pytree.tree_unflatten(leaves, exported.call_spec.in_spec)
    return _called(module, arguments, named)


def _called(module: torch.nn.Module, arguments: Sequence[Any], named: Mapping[str, Any]) -> list[Value]:
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            leaves = [leaf for leaf in pytree.tree_leaves(module(*arguments, **named)) if leaf is not None]
        return [torch_tensors.to_numpy(None, f"output {number}", leaf) for number, leaf in enumerate(leaves)]
    except MemoryError:
        raise
    except Exception as error:  # of the module's own code
        raise NotRunnableError(reason(error)) from error
