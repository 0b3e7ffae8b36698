"""How two graphs in normal form spell what they compute: attributes, and words for messages."""

from __future__ import annotations

from collections.abc import Mapping

from deepstruct.frozen import strict_key
from deepstruct.structure import AttributeValue, Graph, ParameterReference
from deepstruct.verification.normal_form import NormalForm


def unequal(
    own: Mapping[str, AttributeValue], others: Mapping[str, AttributeValue]
) -> dict[str, tuple[AttributeValue | None, AttributeValue | None]]:
    """Attributes that do not say the same, None for one that is left out.

    Of graphs and parameters only that they are there is compared.
    """
    names = sorted(own.keys() | others.keys())
    return {name: (own.get(name), others.get(name)) for name in names if key(own.get(name)) != key(others.get(name))}


def items(value: AttributeValue) -> tuple[AttributeValue, ...]:
    """The items of a list, or a single value."""
    return value if isinstance(value, tuple) else (value,)


def key(value: AttributeValue | None) -> object:
    """What two values of an attribute must have in common, whatever their graphs and parameters are."""
    if isinstance(value, tuple):
        return ("tuple", *map(key, value))
    if isinstance(value, Graph):
        return "graph"
    if isinstance(value, ParameterReference):
        return "parameter", value.sparse
    return strict_key(value)


def short(value: AttributeValue | None) -> str:
    """A value of an attribute as messages show it."""
    return "the default" if value is None else f"{value!r:.60}"


def said(form: NormalForm, name: str) -> str:
    """A value as messages name it."""
    maker = form.maker(name)
    if name in form.leaves:
        return f"the fixed tensor {name!r}"
    if maker is not None:
        return f"an output of node {maker.name!r} ({maker.op_type})"
    return f"the input {name!r}" if name in form.inputs else f"{name!r} from outside" if name else "nothing"
