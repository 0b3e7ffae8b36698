"""Masks that a graph applies to its parameters, by multiplication or selection, -> masks of the parameters.

`torch.nn.utils.prune`, parametrizations and layers with masks of their own all come out of torch's exporter as
``Mul(weight, mask)`` or ``Where(mask, weight, 0)``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from deepstruct.converters import torch_operators, torch_operators_shape
from deepstruct.errors import UnsupportedError
from deepstruct.mask import Mask
from deepstruct.structure import Node, Parameter, Structure

Absorbed: TypeAlias = tuple[Structure, dict[str, Tensor]]


def absorb(structure: Structure, tensors: Mapping[str, Tensor], trained: Set[str]) -> Absorbed:
    """The structure with masks on its parameters instead of operators that apply them, and its tensors.

    A parameter gets a mask if every use of it goes through that mask, which is made of buffers and constants alone.
    It is called as without masks then: ``fc.weight`` instead of ``fc.weight_orig`` or
    ``fc.parametrizations.weight.original``.
    Tensors that only masks were made of are left out.

    Args:
        structure: whose nodes may mask its parameters.
        tensors: of its parameters, by name.
        trained: names of those that are no buffers.
    """
    used = {name for node in structure.nodes for name in node.inputs}
    found = dict(tensors)
    while masked := list(_masked(structure, found, trained)):
        applied: dict[str, Parameter] = {}
        for parameter, mask, nodes in masked:
            name = _plain_name(parameter.name, structure)
            bits = mask.numpy() if parameter.mask is None else mask.numpy() & parameter.mask.to_array()
            known = replace(parameter, name=name, mask=Mask.from_array(bits))
            found[name] = found.pop(parameter.name)
            applied |= {node.outputs[0]: known for node in nodes}
            used.add(name)
        trained = {*trained, *(parameter.name for parameter in applied.values())}
        old = {parameter.name for parameter, _, _ in masked}
        structure = _attach(structure, old, applied)
    return _without_unused(structure, found, used)


def _masked(
    structure: Structure, tensors: Mapping[str, Tensor], trained: Set[str]
) -> Iterator[tuple[Parameter, Tensor, list[Node]]]:
    """Each parameter that is used through one mask only, with the mask and the nodes that apply it."""
    evaluator = _Evaluator(structure, tensors, trained)
    uses: dict[str, list[Node]] = {}
    for node in structure.nodes:
        for name in dict.fromkeys(node.inputs):
            uses.setdefault(name, []).append(node)
    outputs = {value.name for value in structure.outputs}
    for parameter in structure.parameters:
        if parameter.name not in trained or parameter.name in outputs or "float" not in parameter.dtype:
            continue
        masks = [evaluator.mask(node, parameter) for node in uses.get(parameter.name, [])]
        first = masks[0] if masks else None
        if first is not None and all(mask is not None and torch.equal(mask, first) for mask in masks):
            yield parameter, first, uses[parameter.name]


class _Evaluator:
    """Computes values that depend on nothing but buffers and constants."""

    def __init__(self, structure: Structure, tensors: Mapping[str, Tensor], trained: Set[str]) -> None:
        self._structure = structure
        self._producers = {name: node for node in structure.nodes for name in node.outputs}
        self._values: dict[str, Tensor | None] = {
            name: tensor for name, tensor in tensors.items() if name not in trained or name.endswith("_mask")
        }
        for name, constant in structure.constants.items():
            if constant.dtype != "string":
                self._values[name] = torch_operators_shape.from_constant(constant)

    def mask(self, node: Node, parameter: Parameter) -> Tensor | None:
        """Bool tensor of the parameter's shape, if that is what a node multiplies it with or selects it by."""
        if node.domain or node.inputs.count(parameter.name) != 1:
            return None
        if node.op_type == "Mul":
            (other,) = (name for name in node.inputs if name != parameter.name)
            factor = self._value(other)
            return None if factor is None else _as_mask(factor, parameter)
        if node.op_type == "Where" and node.inputs[0] != parameter.name:
            condition, chosen, otherwise = node.inputs
            is_kept, rest = self._value(condition), self._value(otherwise if chosen == parameter.name else chosen)
            if is_kept is None or rest is None or bool((rest != 0).any()):
                return None
            return _as_mask(is_kept if chosen == parameter.name else ~is_kept, parameter)
        return None

    def _value(self, name: str) -> Tensor | None:
        """What a value always is, or None if it depends on inputs or trained parameters."""
        if name not in self._values:
            self._values[name] = None
            node = self._producers.get(name)
            inputs = [self._value(source) if source else None for source in node.inputs] if node else []
            if node is not None and all(
                (x is None) == (not source) for x, source in zip(inputs, node.inputs, strict=True)
            ):
                self._values.update(self._computed(node, inputs))
        return self._values[name]

    def _computed(self, node: Node, inputs: list[Tensor | None]) -> dict[str, Tensor]:
        try:
            torch_operators.require(node, self._structure)
        except UnsupportedError:
            return {}
        with torch.no_grad():
            return dict(zip(node.outputs, torch_operators.apply(node, inputs, self._structure.opset[""]), strict=False))


def _as_mask(factor: Tensor, parameter: Parameter) -> Tensor | None:
    """`factor` as a mask of a parameter, if it holds zeros and ones and spreads over the parameter's shape."""
    if not bool(((factor == 0) | (factor == 1)).all()):
        return None
    try:
        return (factor != 0).detach().cpu().broadcast_to(parameter.shape).contiguous()
    except RuntimeError:
        return None


def _plain_name(name: str, structure: Structure) -> str:
    """The name that a parameter has without `torch.nn.utils.prune` or parametrizations, unless it is taken."""
    plain = name.removesuffix("_orig")
    match = re.fullmatch(r"((?:.*\.)?)parametrizations\.([^.]+)\.original", name)
    if match:
        plain = match[1] + match[2]
    taken = {parameter.name for parameter in structure.parameters} | set(structure.constants)
    taken |= {value.name for value in structure.inputs}
    taken |= {value for node in structure.nodes for value in node.outputs}
    return name if plain in taken else plain


def _attach(structure: Structure, old: Set[str], applied: Mapping[str, Parameter]) -> Structure:
    """The structure in which masked parameters stand for the values in which a node applied their masks."""
    nodes = []
    for node in structure.nodes:
        if node.outputs[0] not in applied:
            inputs = tuple(applied[name].name if name in applied else name for name in node.inputs)
            nodes.append(replace(node, inputs=inputs))
        elif any(value.name == node.outputs[0] for value in structure.outputs):
            inputs = (applied[node.outputs[0]].name,)
            nodes.append(replace(node, op_type="Identity", inputs=inputs, attributes={}))
    known = {parameter.name: parameter for parameter in applied.values()}
    parameters = [parameter for parameter in structure.parameters if parameter.name not in old]
    return replace(structure, nodes=tuple(nodes), parameters=(*parameters, *known.values()))


def _without_unused(structure: Structure, tensors: Mapping[str, Tensor], used: Set[str]) -> Absorbed:
    """The structure without the nodes, constants and parameters that were used, and now are not."""
    needed = {value.name for value in structure.outputs}
    nodes = []
    for node in reversed(structure.nodes):
        if needed.intersection(node.outputs):
            nodes.append(node)
            needed.update(node.inputs)
    gone = used - needed
    parameters = tuple(parameter for parameter in structure.parameters if parameter.name not in gone)
    constants = {name: value for name, value in structure.constants.items() if name in needed}
    structure = replace(structure, nodes=tuple(nodes[::-1]), parameters=parameters, constants=constants)
    return structure, {parameter.name: tensors[parameter.name] for parameter in parameters}
