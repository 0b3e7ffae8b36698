"""The networks of `deepstruct.sparse` and `deepstruct.recurrent` <-> Structure, each as an object of its class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from deepstruct import sequential, state_dict
from deepstruct.converters import torch_cells, torch_dan, torch_recurrent, torch_sequential
from deepstruct.converters.torch_graph import StructureModule
from deepstruct.converters.torch_parameters import Collector, refuse_changed_forward, without_mask
from deepstruct.recurrent import BaseRecurrentLayer, MaskedDeepRNN
from deepstruct.sparse import DeepCellDAN, MaskedDeepDAN, MaskedDeepFFN, MaskedLinearLayer
from deepstruct.structure import Structure


@dataclass(frozen=True, slots=True)
class Family:
    """A class of networks that comes back from a structure as itself.

    Attributes:
        kind: the class.
        to_structure: the structure of a network, whose attribute ``family`` names the family; takes example inputs.
        to_module: a freshly initialised network of a structure, or None if it is none of the family.
    """

    kind: type[nn.Module]
    to_structure: Callable[[Any, Collector, Any], Structure]
    to_module: Callable[[Structure], nn.Module | None]


def _feed_forward(module: MaskedDeepFFN, collector: Collector, _example_inputs: Any) -> Structure:
    refuse_changed_forward(module, "")
    found = list(torch_sequential.steps(module._layer_first, "_layer_first", collector))
    found += torch_sequential.steps(module._activation, "_activation", collector)
    for position, layer in enumerate(module._layers_hidden):
        scope = "_activation" if layer is module._activation else f"_layers_hidden.{position}"
        found += torch_sequential.steps(layer, scope, collector)
    found += torch_sequential.steps(module._layer_out, "_layer_out", collector)
    return torch_sequential.to_structure(found, collector, {"family": state_dict.FAMILY})


def _feed_forward_module(structure: Structure) -> MaskedDeepFFN | None:
    steps = sequential.from_structure(structure)
    if steps is None:
        return None
    shapes = [step.parameters[0].shape for step in steps if step.op_type == "Gemm"]
    if len(shapes) < 2 or any(0 in shape for shape in shapes):
        return None
    sizes = [shape[0] for shape in shapes]
    has_norm = any(step.op_type == "LayerNormalization" for step in steps)
    return MaskedDeepFFN(shapes[0][-1], sizes[-1], sizes[:-1], use_layer_norm=has_norm)


FAMILIES: dict[str, Family] = {
    state_dict.FAMILY: Family(MaskedDeepFFN, _feed_forward, _feed_forward_module),
    "dan": Family(
        MaskedDeepDAN, lambda module, collector, _: torch_dan.to_structure(module, collector), torch_dan.to_module
    ),
    "cell-dan": Family(DeepCellDAN, torch_cells.to_structure, torch_cells.to_module),
    "rnn": Family(
        MaskedDeepRNN,
        lambda module, collector, _: torch_recurrent.to_structure(module, collector),
        torch_recurrent.to_module,
    ),
}


def of_module(module: nn.Module) -> Family | None:
    """The family of a network, subclasses excluded: they may compute something else."""
    return next((family for family in FAMILIES.values() if type(module) is family.kind), None)


def to_module(structure: Structure) -> nn.Module | None:
    """The network of the family that a structure belongs to, freshly initialised, or None if it has none.

    The family is believed only if its network computes exactly this structure.
    """
    name = structure.attributes.get("family")
    family = FAMILIES.get(name) if isinstance(name, str) else None
    found = {parameter.dtype for parameter in structure.parameters if "float" in parameter.dtype}
    dtype = getattr(torch, found.pop(), None) if len(found) == 1 else None
    if family is None or dtype is None or not dtype.is_floating_point:
        return None
    module = family.to_module(structure)
    if module is None:
        return None
    module = module.to(dtype)
    expected = family.to_structure(module, Collector([], without_mask), None)
    return module if _computed(expected) == _computed(structure) else None


def _computed(structure: Structure) -> tuple[Any, ...]:
    """What a structure computes, whatever its scopes and masks."""
    return (
        [(node.op_type, node.domain, node.inputs, node.outputs, node.attributes) for node in structure.nodes],
        {(p.name, p.dtype, p.shape) for p in structure.parameters},
        [(value.name, value.dtype) for value in (*structure.inputs, *structure.outputs)],
        structure.constants,
        structure.opset,
    )


def mask_keys(module: nn.Module) -> dict[str, str]:
    """Parameter name -> state_dict key of its mask in a module that `to_module` or `StructureModule` makes."""
    keys: dict[str, str] = {}
    for path, part in module.named_modules():
        prefix = f"{path}." if path else ""
        if isinstance(part, StructureModule):
            keys |= {prefix + name: prefix + key for name, key in part.mask_keys.items()}
        elif isinstance(part, MaskedLinearLayer):
            keys[f"{prefix}weight"] = f"{prefix}_mask"
        elif isinstance(part, BaseRecurrentLayer):
            keys |= {prefix + weight: prefix + mask for weight, mask in part.masks.items()}
    return keys
