"""StructureModule: a torch module that computes any structure whose operators are in `torch_operators`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepstruct.converters import torch_operators, torch_tensors
from deepstruct.errors import UnsupportedError
from deepstruct.mask import Mask
from deepstruct.sparse import MaskableModule
from deepstruct.structure import Node, Parameter, Structure
from deepstruct.tensor import Tensor as Constant

_SCALES_AT = {"LayerNormalization": 1}  # input that scales, and so starts as 1


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


def _has_sources_first(node: Node) -> bool:
    """Whether a node's weight is (source, target), as that of MatMul."""
    return node.op_type == "MatMul" or (node.op_type == "Gemm" and not node.attributes.get("transB"))


def _numeric(name: str, constant: Constant) -> NDArray[Any]:
    if constant.dtype == "string":
        raise UnsupportedError(f"constant {name!r}: torch has no strings")
    return constant.to_array()


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
        for node in structure.nodes:
            torch_operators.require(node, structure)
        self._mask_keys = mask_keys(structure)
        for parameter in structure.parameters:
            self._add(parameter)
        self._constants = {
            name: torch_tensors.to_tensor(_numeric(name, constant), constant.dtype)
            for name, constant in structure.constants.items()
        }
        self.reset_parameters(keep_mask=True)

    def _add(self, parameter: Parameter) -> None:
        *path, name = parameter.name.split(".")
        dtype = getattr(torch, parameter.dtype, None)
        if dtype is None:
            raise UnsupportedError(f"parameter {parameter.name!r}: torch has no dtype {parameter.dtype}")
        tensor = torch.zeros(parameter.shape, dtype=dtype)
        owner: nn.Module = self
        try:
            for part in path:
                if part not in owner._modules:
                    owner.add_module(part, nn.Module())
                owner = owner.get_submodule(part)
            if dtype.is_floating_point:
                owner.register_parameter(name, nn.Parameter(tensor))
            else:
                owner.register_buffer(name, tensor)
            if parameter.mask is not None:
                mask = torch.from_numpy(parameter.mask.to_array()).to(tensor.device)
                owner.register_buffer(self._mask_keys[parameter.name].rpartition(".")[2], mask)
        except (KeyError, AttributeError) as error:
            raise UnsupportedError(f"parameter {parameter.name!r} cannot be called so in torch: {error}") from error

    def reset_parameters(self, keep_mask: bool = False) -> None:
        """Initialises matrices and higher tensors as `torch.nn.Linear` does, scales to 1, everything else to 0.

        Args:
            keep_mask: leave the masks alone instead of filling them.
        """
        sources_first = {n.inputs[1] for n in self._structure.nodes if _has_sources_first(n)}
        scales = {n.inputs[_SCALES_AT[n.op_type]] for n in self._structure.nodes if n.op_type in _SCALES_AT}
        with torch.no_grad():
            for parameter in self._structure.parameters:
                tensor = self._tensor(parameter.name)
                if not tensor.dtype.is_floating_point:
                    continue
                if tensor.ndim > 1 and tensor.numel():
                    targets_first = tensor.transpose(-1, -2) if parameter.name in sources_first else tensor
                    nn.init.kaiming_uniform_(targets_first, a=5**0.5)
                else:
                    tensor.fill_(1 if parameter.name in scales else 0)
                if not keep_mask and parameter.mask is not None:
                    self._tensor(self._mask_keys[parameter.name]).fill_(True)

    def _tensor(self, name: str) -> Tensor:
        path, _, last = name.rpartition(".")
        tensor: Tensor = getattr(self.get_submodule(path), last)
        return tensor

    def apply_mask(self) -> None:
        """Sets every masked entry to 0."""
        with torch.no_grad():
            for parameter in self._structure.parameters:
                if parameter.mask is not None:
                    self._tensor(parameter.name).copy_(self._effective(parameter))

    def recompute_mask(self, theta: float = 0.0001) -> None:
        """Makes new masks from the weights alone, for parameters that have one: kept where ``|w| >= theta``."""
        with torch.no_grad():
            for parameter in self._structure.parameters:
                if parameter.mask is not None:
                    kept = self._tensor(parameter.name).abs() >= theta
                    self._tensor(self._mask_keys[parameter.name]).copy_(kept)

    def _effective(self, parameter: Parameter) -> Tensor:
        tensor = self._tensor(parameter.name)
        if parameter.mask is None:
            return tensor
        return torch.where(self._tensor(self._mask_keys[parameter.name]), tensor, torch.zeros((), dtype=tensor.dtype))

    def tensors(self) -> dict[str, Tensor]:
        """Parameter name -> tensor."""
        return {parameter.name: self._tensor(parameter.name) for parameter in self._structure.parameters}

    def structure(self) -> Structure:
        """The structure with the masks and dtypes as they are now, after ``half()`` for example."""
        parameters, dtypes = [], {}
        for parameter in self._structure.parameters:
            mask = parameter.mask
            if mask is not None:
                mask = Mask.from_array(self._tensor(self._mask_keys[parameter.name]).detach().cpu().numpy())
            dtype = str(self._tensor(parameter.name).dtype).removeprefix("torch.")
            dtypes[parameter.dtype] = dtype
            parameters.append(replace(parameter, mask=mask, dtype=dtype))
        inputs, outputs = (
            tuple(replace(value, dtype=dtypes.get(value.dtype, value.dtype)) for value in values)
            for values in (self._structure.inputs, self._structure.outputs)
        )
        return replace(self._structure, parameters=tuple(parameters), inputs=inputs, outputs=outputs)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Takes the structure's inputs in order and returns its output, or a tuple of several."""
        if len(inputs) != len(self._structure.inputs):
            names = ", ".join(value.name for value in self._structure.inputs)
            raise TypeError(f"takes {len(self._structure.inputs)} inputs ({names}), not {len(inputs)}")
        values = {info.name: tensor for info, tensor in zip(self._structure.inputs, inputs, strict=True)}
        values |= {parameter.name: self._effective(parameter) for parameter in self._structure.parameters}
        device = next(iter(values.values())).device
        values |= {name: constant.to(device) for name, constant in self._constants.items()}
        for node in self._structure.nodes:
            arguments = [values[name] if name else None for name in node.inputs]
            results = torch_operators.apply(node, arguments, self._structure.opset[""])
            values.update(zip(node.outputs, results, strict=False))
        outputs = tuple(values[info.name] for info in self._structure.outputs)
        return outputs[0] if len(outputs) == 1 else outputs
