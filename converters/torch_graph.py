"""StructureModule: a torch module that computes any structure whose operators are in `torch_operators`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor, nn

from deepstruct.converters import (
    torch_operators,
    torch_operators_dtypes,
    torch_operators_initialisation,
    torch_operators_shape,
    torch_operators_table,
    torch_tensors,
)
from deepstruct.errors import UnsupportedError
from deepstruct.mask import Mask
from deepstruct.sparse import MaskableModule
from deepstruct.structure import Node, Parameter, Structure

_RUNNING = {"BatchNormalization": (3, 4)}  # inputs that no optimiser moves: running means and variances


def mask_keys(structure: Structure) -> dict[str, str]:
    """Parameter name -> state_dict key of its mask, which is ``name_mask`` unless a parameter is called so."""
    taken = {parameter.name for parameter in structure.parameters}
    keys = {}
    for parameter in structure.parameters:
        if parameter.mask is not None:
            key = f"{parameter.name}_mask"
            while key in taken:
                key += "_"
            taken.add(key)
            keys[parameter.name] = key
    return keys


def _constants(structure: Structure) -> dict[str, Tensor]:
    """Every constant by name, those of Constant nodes included."""
    for name, constant in structure.constants.items():
        torch_tensors.require_dtype(f"constant {name!r}", constant.dtype)
    constants = {name: torch_operators_shape.from_constant(value) for name, value in structure.constants.items()}
    for node in structure.nodes:
        if node.op_type == "Constant":
            constants[node.outputs[0]] = torch_operators_shape.constant(dict(node.attributes))
    return constants


def _untrained(structure: Structure) -> frozenset[str]:
    """Names of the parameters that become buffers: running statistics and numbers that shapes come from."""
    running = {
        name
        for node in structure.nodes
        for position, name in enumerate(node.inputs)
        if position in _RUNNING.get(node.op_type, ())
    }
    return torch_operators_dtypes.of_shapes(structure) | running


def _last_uses(structure: Structure) -> list[tuple[str, ...]]:
    """For each node the values that nothing needs after it."""
    seen = {value.name for value in structure.outputs} | {""}
    uses = []
    for node in reversed(structure.nodes):
        names = dict.fromkeys((*node.inputs, *node.outputs))
        uses.append(tuple(name for name in names if name not in seen))
        seen.update(names)
    return uses[::-1]


class StructureModule(MaskableModule):
    """Computes a structure operator by operator, in evaluation mode.

    Its ``state_dict`` has each parameter under its own name and the mask of ``name`` as ``name_mask``. A masked
    entry counts as 0 whatever its value. Parameters of a floating dtype can be trained.
    """

    def __init__(self, structure: Structure) -> None:
        """A freshly initialised module.

        Raises:
            UnsupportedError: an operator is not mapped to torch, or a parameter's name cannot be one in torch.
        """
        super().__init__()
        self._structure = structure
        for value in structure.inputs:
            if value.containers:
                raise UnsupportedError(f"input {value.name!r}: a module cannot take a {value.containers[0]}")
            torch_tensors.require_dtype(f"input {value.name!r}", value.dtype)
        if structure.functions:
            name = structure.functions[0].name
            raise UnsupportedError(f"function {name!r}: only operators of the ONNX specification are mapped to torch")
        for node in structure.nodes:
            torch_operators.require(node, structure)
        self._constants = _constants(structure)
        self._numbers = {name: constant.tolist() for name, constant in self._constants.items()}
        self._last_uses = _last_uses(structure)
        self.mask_keys = mask_keys(structure)
        untrained = _untrained(structure)
        for parameter in structure.parameters:
            self._add(parameter, parameter.name not in untrained)
        self.reset_parameters(keep_mask=True)

    def _add(self, parameter: Parameter, is_trained: bool) -> None:
        *path, name = parameter.name.split(".")
        torch_tensors.require_dtype(f"parameter {parameter.name!r}", parameter.dtype)
        dtype = getattr(torch, parameter.dtype)
        tensor = torch.zeros(parameter.shape, dtype=dtype)
        owner: nn.Module = self
        try:
            for part in path:
                if part not in owner._modules:
                    owner.add_module(part, nn.Module())
                owner = owner.get_submodule(part)
            if dtype.is_floating_point and is_trained:
                owner.register_parameter(name, nn.Parameter(tensor))
            else:
                owner.register_buffer(name, tensor)
            if parameter.mask is not None:
                mask = torch.from_numpy(parameter.mask.to_array()).to(tensor.device)
                owner.register_buffer(self.mask_keys[parameter.name].rpartition(".")[2], mask)
        except (KeyError, AttributeError) as error:
            raise UnsupportedError(f"parameter {parameter.name!r} cannot be called so in torch: {error}") from error

    def reset_parameters(self, keep_mask: bool = False) -> Self:
        """Initialises matrices and higher tensors as `torch.nn.Linear` does, scales to 1, everything else to 0.

        Args:
            keep_mask: leave the masks alone instead of filling them.
        """
        torch_operators_initialisation.initialise(self._structure, self.tensors())
        if not keep_mask:
            with torch.no_grad():
                for key in self.mask_keys.values():
                    self._tensor(key).fill_(True)
        return self

    def _tensor(self, name: str) -> Tensor:
        path, _, last = name.rpartition(".")
        tensor: Tensor = getattr(self.get_submodule(path), last)
        return tensor

    def apply_mask(self) -> Self:
        """Sets every masked entry to 0."""
        with torch.no_grad():
            for parameter in self._structure.parameters:
                if parameter.mask is not None:
                    self._tensor(parameter.name).copy_(self._effective(parameter))
        return self

    def recompute_mask(self, theta: float = 0.0001) -> Self:
        """Makes new masks from the weights alone, for parameters that have one: kept where ``|w| >= theta``."""
        with torch.no_grad():
            for parameter in self._structure.parameters:
                if parameter.mask is not None:
                    kept = self._tensor(parameter.name).abs() >= theta
                    self._tensor(self.mask_keys[parameter.name]).copy_(kept)
        return self

    def _effective(self, parameter: Parameter) -> Tensor:
        tensor = self._tensor(parameter.name)
        if parameter.mask is None:
            return tensor
        return torch.where(self._tensor(self.mask_keys[parameter.name]), tensor, torch.zeros((), dtype=tensor.dtype))

    def tensors(self) -> dict[str, Tensor]:
        """Parameter name -> tensor."""
        return {parameter.name: self._tensor(parameter.name) for parameter in self._structure.parameters}

    def structure(self) -> Structure:
        """The structure with the masks and dtypes as they are now, after ``half()`` for example."""
        parameters = []
        for parameter in self._structure.parameters:
            mask = parameter.mask
            if mask is not None and not (bits := self._tensor(self.mask_keys[parameter.name])).is_meta:
                mask = Mask.from_array(bits.detach().cpu().numpy())
            dtype = torch_operators_dtypes.name_of(self._tensor(parameter.name).dtype)
            parameters.append(replace(parameter, mask=mask, dtype=dtype))
        return replace(self._structure, parameters=tuple(parameters))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Converts constants along with the parameters, as ``half()`` and its like ask for."""
        kept = {name: self._tensor(name) for name in self._fixed_parameters()}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        for name, tensor in kept.items():
            now = self._tensor(name)
            if now.dtype != tensor.dtype:
                path, _, last = name.rpartition(".")
                setattr(self.get_submodule(path), last, tensor.to(now.device))
        names = torch_operators_dtypes.changed_by(fn)
        if names:
            self._structure = torch_operators_dtypes.cast(self._structure, names)
            self._constants = _constants(self._structure)
            self._numbers = {name: constant.tolist() for name, constant in self._constants.items()}
        return self

    def _fixed_parameters(self) -> list[str]:
        fixed = torch_operators_dtypes.of_shapes(self._structure)
        return [parameter.name for parameter in self._structure.parameters if parameter.name in fixed]

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Takes the structure's inputs in order and returns its output, or a tuple of several."""
        if len(inputs) != len(self._structure.inputs):
            names = ", ".join(value.name for value in self._structure.inputs)
            raise TypeError(f"takes {len(self._structure.inputs)} inputs ({names}), not {len(inputs)}")
        for info, tensor in zip(self._structure.inputs, inputs, strict=True):
            pairs = zip(info.shape or (), tensor.shape, strict=False)
            if len(info.shape or ()) == tensor.ndim and any(isinstance(d, int) and d != extent for d, extent in pairs):
                raise ValueError(f"input {info.name!r} has shape {tuple(tensor.shape)}, not {info.shape}")
        values = dict(zip((info.name for info in self._structure.inputs), inputs, strict=True))
        values |= self._constants
        values |= {parameter.name: self._effective(parameter) for parameter in self._structure.parameters}
        for node, done in zip(self._structure.nodes, self._last_uses, strict=True):
            if node.op_type != "Constant":
                results = self._run(node, values)
                values.update((name, tensor) for name, tensor in zip(node.outputs, results, strict=False) if name)
            for name in done:
                values.pop(name, None)
        outputs = tuple(values[info.name] for info in self._structure.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _run(self, node: Node, values: dict[str, Tensor]) -> tuple[Tensor, ...]:
        numbers = torch_operators_table.OPERATORS[node.op_type].numbers
        arguments: list[torch_operators.Input] = [
            self._numbers[name] if place in numbers and name in self._numbers else values.get(name)
            for place, name in enumerate(node.inputs)
        ]
        try:
            return torch_operators.apply(node, arguments, self._structure.opset[""])
        except Exception as error:
            error.add_note(f"at node {node.name!r} ({node.op_type})")
            raise
