"""Chains of operators <-> Structure: what feed-forward networks are, whichever library they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deepstruct.errors import UnsupportedError
from deepstruct.frozen import FrozenMapping
from deepstruct.structure import AttributeValue, Node, Parameter, Structure, ValueInfo

ACTIVATIONS: dict[str, str | None] = {
    "elu": "Elu",
    "gelu": "Gelu",
    "leaky-relu": "LeakyRelu",
    "mish": "Mish",
    "none": None,
    "relu": "Relu",
    "selu": "Selu",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "tanh": "Tanh",
}
"""Names for people -> ONNX operators, with the defaults that torch and ONNX agree on."""


@dataclass(frozen=True, slots=True)
class Step:
    """One operator of a chain.

    Attributes:
        op_type: ONNX operator.
        parameters: its inputs behind the value that flows through the chain.
        attributes: ONNX attributes.
        scope: module path that it came from.
    """

    op_type: str
    parameters: tuple[Parameter, ...] = ()
    attributes: Mapping[str, AttributeValue] = field(default_factory=FrozenMapping)
    scope: str = ""


def linear(weight: Parameter, bias: Parameter | None, scope: str) -> Step:
    """``y = x W^T + b``: a Gemm whose weight is (target, source), as torch stores it."""
    parameters = (weight,) if bias is None else (weight, bias)
    return Step("Gemm", parameters, FrozenMapping({"transB": 1}), scope)


def layer_norm(scale: Parameter, bias: Parameter | None, epsilon: float, scope: str) -> Step:
    """Normalisation over the last ``scale.ndim`` dimensions."""
    parameters = (scale,) if bias is None else (scale, bias)
    attributes: Mapping[str, AttributeValue] = FrozenMapping({"axis": -len(scale.shape), "epsilon": epsilon})
    return Step("LayerNormalization", parameters, attributes, scope)


def to_structure(steps: Sequence[Step], attributes: dict[str, Any] | None = None) -> Structure:
    """The structure that applies steps one after the other to ``x`` and returns ``y``.

    Input and output are matrices of features, one row a sample; the number of rows, ``batch``, is open.

    Raises:
        UnsupportedError: no step has a weight, so that the number of features is unknown.
        StructureError: the shapes of two steps do not fit together.
    """
    matrices = [step.parameters[0] for step in steps if step.op_type == "Gemm"]
    if not matrices:
        raise UnsupportedError("a network without a linear layer does not say how many features it takes")
    parameters = [parameter for step in steps for parameter in step.parameters]
    taken = {parameter.name for parameter in parameters}
    nodes: list[Node] = []
    names: set[str] = set()
    source = _free("x", taken)
    for position, step in enumerate(steps):
        last = position + 1 == len(steps)
        target = _free("y" if last else f"h{position}", taken)
        name = step.scope if step.scope and step.parameters else f"{step.op_type.lower()}_{position}"
        name = _free(name, names)
        names.add(name)
        inputs = [
            nodes[-1].outputs[0] if nodes else source,
            *(parameter.name for parameter in step.parameters),
        ]
        nodes.append(Node(name, step.op_type, tuple(inputs), (target,), step.attributes, step.scope))
    features_in, features_out = matrices[0].shape[-1], matrices[-1].shape[0]
    dtype = matrices[0].dtype
    return Structure(
        nodes=tuple(nodes),
        inputs=(ValueInfo(source, dtype, ("batch", features_in)),),
        outputs=(ValueInfo(nodes[-1].outputs[0], dtype, ("batch", features_out)),),
        parameters=tuple({parameter.name: parameter for parameter in parameters}.values()),
        attributes=FrozenMapping(attributes or {}),
    )


def _free(name: str, taken: set[str]) -> str:
    """`name`, or `name` with underscores behind it where it is taken."""
    while name in taken:
        name += "_"
    return name


def from_structure(structure: Structure) -> list[Step] | None:
    """The steps of a structure that is a chain of parametrised operators, else None."""
    if len(structure.inputs) != 1 or len(structure.outputs) != 1 or structure.constants:
        return None
    steps: list[Step] = []
    parameters = {parameter.name: parameter for parameter in structure.parameters}
    flowing = structure.inputs[0].name
    for node in structure.nodes:
        plain = node.domain == "" and len(node.outputs) == 1 and node.inputs and node.inputs[0] == flowing
        if not plain or not all(name in parameters for name in node.inputs[1:]):
            return None
        operands = tuple(parameters[name] for name in node.inputs[1:])
        steps.append(Step(node.op_type, operands, node.attributes, node.scope))
        flowing = node.outputs[0]
    return steps if flowing == structure.outputs[0].name else None
