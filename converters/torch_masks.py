"""Masks that a graph applies to its parameters, by multiplication or selection, -> masks of the parameters.

`torch.nn.utils.prune`, parametrizations and layers with masks of their own all come out of torch's exporter as
``Mul(weight, mask)`` or ``Where(mask, weight, 0)``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from deepstruct.converters import torch_operators, torch_operators_shape, torch_tensors
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
        applied: dict[str, str] = {}
        renamed: dict[str, Parameter] = {}
        for parameter, mask, uses in masked:
            name = _plain_name(parameter.name, structure)
            bits = mask.numpy() if parameter.mask is None else mask.numpy() & parameter.mask.to_array()
            renamed[parameter.name] = replace(parameter, name=name, mask=Mask.from_array(bits))
            found[name] = found.pop(parameter.name)
            applied |= {use.node.outputs[0]: name if use.value == parameter.name else use.value for use in uses}
            used.add(name)
        trained = {*trained, *(parameter.name for parameter in renamed.values())}
        structure = _attach(structure, renamed, applied)
    return _without_unused(_with_cached(structure, found, used), found, used)


@dataclass(frozen=True, slots=True)
class _Use:
    """A node that uses a parameter, or `value`, which is the parameter with its dimensions in another order."""

    node: Node
    value: str
    order: tuple[int, ...]


def _masked(
    structure: Structure, tensors: Mapping[str, Tensor], trained: Set[str]
) -> Iterator[tuple[Parameter, Tensor, list[_Use]]]:
    """Each parameter that is used through one mask only, with the mask and the uses that apply it."""
    evaluator = _Evaluator(structure, tensors, trained)
    users: dict[str, list[Node]] = {}
    for node in structure.nodes:
        for name in dict.fromkeys(node.inputs):
            users.setdefault(name, []).append(node)
    outputs = {value.name for value in structure.outputs}
    for parameter in structure.parameters:
        if parameter.name not in trained or parameter.name in outputs or "float" not in parameter.dtype:
            continue
        uses = list(_uses(parameter.name, tuple(range(len(parameter.shape))), users, outputs))
        masks = [evaluator.mask(use, parameter) for use in uses]
        first = masks[0] if masks else None
        if first is not None and all(mask is not None and torch.equal(mask, first) for mask in masks):
            yield parameter, first, uses


def _uses(value: str, order: tuple[int, ...], users: Mapping[str, list[Node]], outputs: Set[str]) -> Iterator[_Use]:
    """The nodes that use a value, those after a transposition instead of the transposition."""
    for node in users.get(value, []):
        if node.op_type == "Transpose" and not node.domain and node.outputs[0] not in outputs:
            permutation = node.attributes.get("perm", tuple(reversed(range(len(order)))))
            assert isinstance(permutation, tuple)
            yield from _uses(
                node.outputs[0], tuple(order[axis] for axis in permutation if isinstance(axis, int)), users, outputs
            )
        else:
            yield _Use(node, value, order)


class _Evaluator:
    """Computes values that depend on nothing but buffers and constants."""

    def __init__(self, structure: Structure, tensors: Mapping[str, Tensor], trained: Set[str]) -> None:
        self._structure = structure
        self._tensors = tensors
        self._producers = {name: node for node in structure.nodes for name in node.outputs}
        self._values: dict[str, Tensor | None] = {
            name: tensor
            for name, tensor in tensors.items()
            if name not in trained or torch_tensors.is_scores(name, tensor.shape)
        }
        for name, constant in structure.constants.items():
            if constant.dtype != "string":
                self._values[name] = torch_operators_shape.from_constant(constant)

    def mask(self, use: _Use, parameter: Parameter) -> Tensor | None:
        """Bool tensor of the parameter's shape, if that is what a node multiplies it with or selects it by."""
        shape = tuple(parameter.shape[axis] for axis in use.order)
        found = self._factor(use.node, use.value)
        mask = None if found is None else _as_mask(found, shape)
        if mask is None:
            return None
        mask = mask.permute([use.order.index(axis) for axis in range(len(shape))]).contiguous()
        hidden = self._tensors[parameter.name].detach().cpu()[~mask]
        return mask if use.node.op_type == "Where" or bool(hidden.isfinite().all()) else None

    def _factor(self, node: Node, value: str) -> Tensor | None:
        """What a node multiplies a value with, or where it does not replace it by 0."""
        if node.domain or node.inputs.count(value) != 1:
            return None
        if node.op_type == "Mul":
            return self._value(next(name for name in node.inputs if name != value))
        if node.op_type == "Where" and node.inputs[0] != value:
            condition, chosen, otherwise = node.inputs
            is_kept, rest = self._value(condition), self._value(otherwise if chosen == value else chosen)
            if is_kept is None or rest is None or bool((rest != 0).any()):
                return None
            return is_kept if chosen == value else ~is_kept
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


def _as_mask(factor: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """`factor` as a mask of some shape, if it holds zeros and ones and spreads over the shape."""
    if not bool(((factor == 0) | (factor == 1)).all()):
        return None
    try:
        return (factor != 0).detach().cpu().broadcast_to(shape)
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


def _attach(structure: Structure, renamed: Mapping[str, Parameter], applied: Mapping[str, str]) -> Structure:
    """The structure with masks on parameters and other names in place of the values in which masks were applied."""
    names = {**{old: parameter.name for old, parameter in renamed.items()}, **applied}
    outputs = {value.name for value in structure.outputs}
    nodes = []
    for node in structure.nodes:
        result = node.outputs[0]
        if result not in applied:
            nodes.append(replace(node, inputs=tuple(names.get(name, name) for name in node.inputs)))
        elif result in outputs:
            nodes.append(replace(node, op_type="Identity", inputs=(applied[result],), attributes={}))
    parameters = [renamed.get(parameter.name, parameter) for parameter in structure.parameters]
    return replace(structure, nodes=tuple(nodes), parameters=tuple(parameters))


def _with_cached(structure: Structure, tensors: Mapping[str, Tensor], used: set[str]) -> Structure:
    """The structure with masks on the products that `torch.nn.utils.prune` keeps, where a module uses these.

    Attention takes the weight of its last layer without calling the layer, which would compute the product anew.
    """
    known = {parameter.name for parameter in structure.parameters}
    parameters = []
    for parameter in structure.parameters:
        mask, whole = f"{parameter.name}_mask", f"{parameter.name}_orig"
        if {mask, whole} <= known - used and tensors[mask].shape == parameter.shape:
            bits = tensors[mask].detach().cpu() != 0
            if not bool((tensors[parameter.name].detach().cpu() * ~bits).any()):
                parameters.append(replace(parameter, mask=Mask.from_array(bits.numpy())))
                used |= {mask, whole}
                continue
        parameters.append(parameter)
    return replace(structure, parameters=tuple(parameters))


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
