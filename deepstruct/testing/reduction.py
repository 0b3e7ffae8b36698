"""What is left of a model in a format that carries some of its features only."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from deepstruct.formats import Feature
from deepstruct.model import Model, Weights
from deepstruct.node import AttributeValue, Graph, Node
from deepstruct.structure import Parameter, Structure


def reduced(model: Model, carries: Collection[Feature]) -> Model | None:
    """The model without what is not carried; None without operators, for then nothing is left that can be compared."""
    if "operators" not in carries:
        return None
    structure = model.structure
    if "scopes" not in carries:
        structure = _with_nodes(structure, lambda node: replace(node, scope=""))
    if "attributes" not in carries:
        structure = replace(structure, attributes={})
    if "masks" not in carries:
        structure = replace(structure, parameters=tuple(map(_unmasked, structure.parameters)))
    if model.weights is None or "weights" not in carries:
        return Model(structure)
    return Model(structure, Weights(structure, model.weights))


def _unmasked(parameter: Parameter) -> Parameter:
    return replace(parameter, mask=None, sparsity_structure=None)


def without_extras(model: Model) -> Model:
    """The model without members of its document that no version knows, and without claims on masks."""
    structure = _without_extras(model.structure)
    return Model(structure, None if model.weights is None else Weights(structure, model.weights))


def _without_extras(structure: Structure) -> Structure:
    known = _with_nodes(structure, lambda node: replace(node, extra={}))
    return replace(
        known,
        inputs=tuple(replace(value, extra={}) for value in known.inputs),
        outputs=tuple(replace(value, extra={}) for value in known.outputs),
        parameters=tuple(replace(parameter, extra={}, sparsity_structure=None) for parameter in known.parameters),
        functions=tuple(replace(function, extra={}) for function in known.functions),
        extra={},
    )


def _with_nodes(structure: Structure, change: Callable[[Node], Node]) -> Structure:
    """The structure with each node changed, those of functions and of graphs in attributes included."""
    functions = tuple(replace(f, nodes=_changed(f.nodes, change)) for f in structure.functions)
    return replace(structure, nodes=_changed(structure.nodes, change), functions=functions)


def _changed(nodes: tuple[Node, ...], change: Callable[[Node], Node]) -> tuple[Node, ...]:
    def inner(value: AttributeValue) -> AttributeValue:
        if isinstance(value, tuple):
            return tuple(inner(item) for item in value)  # type: ignore[return-value]  # of the same types
        return replace(value, nodes=_changed(value.nodes, change)) if isinstance(value, Graph) else value

    attributes = ({name: inner(value) for name, value in node.attributes.items()} for node in nodes)
    return tuple(replace(change(node), attributes=values) for node, values in zip(nodes, attributes, strict=True))
