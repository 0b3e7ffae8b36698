"""Live torch modules <-> Model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepstruct.converters import torch_export, torch_families, torch_graph, torch_sequential, torch_tensors
from deepstruct.converters.torch_parameters import Collector
from deepstruct.losses import Loss
from deepstruct.mask import Mask
from deepstruct.model import Model, Weights
from deepstruct.structure import Parameter, Structure

_SMALL = 2**20
"""Entries up to which a module is initialised for nothing, which is faster than what torch loads to leave that out."""


def from_object(
    value: nn.Module,
    losses: list[Loss],
    *,
    infer_masks: bool = False,
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
) -> Model:
    """The model of a live torch module, in evaluation mode; its tensors are shared, not copied.

    Raises:
        UnsupportedError: the module, or one inside it, is of a kind that is not mapped; its path is named.
    """
    family = torch_families.of_module(value)
    collector = Collector(losses)
    if isinstance(value, torch_graph.StructureModule):
        structure, tensors = value.structure(), value.tensors()
    elif family is not None:
        structure, tensors = family.to_structure(value, collector, example_inputs), collector.tensors
    elif example_inputs is not None:
        structure, tensors = torch_export.from_module(value, example_inputs, dynamic_shapes, losses)
    else:
        structure, tensors = torch_sequential.from_module(value, collector), collector.tensors
    return of_tensors(structure, tensors, losses, infer_masks=infer_masks)


def of_tensors(
    structure: Structure, tensors: Mapping[str, Tensor], losses: list[Loss], *, infer_masks: bool = False
) -> Model:
    """The model of a structure whose numbers are in live tensors."""
    arrays = {p.name: torch_tensors.to_numpy(None, p.name, tensors[p.name]) for p in structure.parameters}
    return of_arrays(structure, arrays, losses, infer_masks=infer_masks)


def of_arrays(
    structure: Structure, arrays: Mapping[str, NDArray[Any]], losses: list[Loss], *, infer_masks: bool = False
) -> Model:
    """The model of a structure and its numbers; what masks hide is reported, or made masks of on request."""
    if infer_masks:
        parameters = tuple(infer_mask(p, arrays[p.name]) for p in structure.parameters)
        structure = replace(structure, parameters=parameters)
    losses += _latent_losses(structure.parameters, arrays)
    return Model(structure, Weights(structure, arrays))


def infer_mask(parameter: Parameter, array: NDArray[Any]) -> Parameter:
    """A parameter with the mask of its zeros, if it has none and is a matrix or a higher tensor."""
    return parameter if parameter.mask is not None else replace(parameter, mask=Mask.of_zeros(array))


def _latent_losses(parameters: tuple[Parameter, ...], arrays: Mapping[str, NDArray[Any]]) -> list[Loss]:
    """A Loss if parameters have numbers other than 0 where their masks have no connection."""
    hidden = {}
    for parameter in parameters:
        array = arrays[parameter.name]
        if parameter.mask is not None and array.shape == parameter.shape:
            hidden[parameter.name] = int(np.count_nonzero((array != 0) & ~parameter.mask.to_array()))
    hidden = {name: count for name, count in hidden.items() if count}
    if not hidden:
        return []
    others = f" in it and {len(hidden) - 1} more" if len(hidden) > 1 else ""
    total = sum(hidden.values())
    why = f"{total} numbers other than 0{others} are masked and so no part of the network; apply_mask() drops them"
    return [Loss("masked values", next(iter(hidden)), why)]


def to_module(model: Model) -> nn.Module:
    """A torch module that computes what the model describes; see `deepstruct.to_module`."""
    structure = model.structure
    if model.weights is None:
        module = build(structure)
    elif structure.size <= _SMALL:
        with torch.random.fork_rng(devices=[]):
            module = build(structure)
    else:
        with torch.device("meta"):
            module = build(structure)
        module = module.to_empty(device="cpu")
    keys = torch_families.mask_keys(module)
    state = module.state_dict()
    with torch.no_grad():
        for parameter in structure.parameters:
            if parameter.name in keys:
                state[keys[parameter.name]].copy_(mask_tensor(parameter))
            if model.weights is not None:
                state[parameter.name].copy_(torch_tensors.to_tensor(model.weights[parameter.name], parameter.dtype))
    return module


def build(structure: Structure) -> nn.Module:
    """A freshly initialised module: of the structure's family, else one that computes it operator by operator."""
    return torch_families.to_module(structure) or torch_graph.StructureModule(structure)


def mask_keys(structure: Structure) -> dict[str, str]:
    """Parameter name -> state_dict key of its mask in the module that `to_module` makes of a structure."""
    with torch.device("meta"):
        module = torch_families.to_module(structure)
    return torch_graph.mask_keys(structure) if module is None else torch_families.mask_keys(module)


def mask_tensor(parameter: Parameter) -> Tensor:
    """Bool tensor of a parameter's shape, True where entries exist."""
    shape, mask = parameter.shape, parameter.mask
    return torch.ones(shape, dtype=torch.bool) if mask is None else torch.from_numpy(mask.to_array())
