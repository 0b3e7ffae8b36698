"""What must hold for a single node: number of inputs and outputs, attributes and their types, as ONNX specifies."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from deepstruct import operators
from deepstruct.errors import Fault, did_you_mean, pointer
from deepstruct.node import AttributeReference, Graph, Node, ParameterReference
from deepstruct.tensor import Tensor
from deepstruct.value_info import TypeInfo

_TYPES: dict[str, tuple[type, ...]] = {
    "INT": (int,),
    "FLOAT": (float,),
    "STRING": (str, bytes),
    "TENSOR": (Tensor, ParameterReference),
    "SPARSE_TENSOR": (ParameterReference,),
    "GRAPH": (Graph,),
    "TYPE_PROTO": (TypeInfo,),
}


def faults(
    node: Node, opset: Mapping[str, int], functions: Collection[tuple[str, str, str]], *, suggest: bool = True
) -> Iterator[Fault]:
    """What a node has that its operator does not allow, with pointers relative to the node.

    Args:
        node: to check.
        opset: operator set domain -> version of the graph or function that the node is in.
        functions: keys of the functions that the node may call (`deepstruct.node.Function.key`).
        suggest: known names for unknown ones.
    """
    if node.domain not in opset:
        message = f"domain {node.domain!r} has no version in opset"
        yield Fault("UNKNOWN_OPSET", "/domain" if node.domain else "/op", message)
        return
    version = opset[node.domain]
    if type(version) is not int:
        return
    if not operators.is_known_domain(node.domain) or node.called in functions:
        for name, value in node.attributes.items():
            if value == ():
                place = pointer("attributes", name)
                yield Fault("OPERATOR_ATTRIBUTE", place, "an empty list has no type where no specification gives one")
        return
    operator = operators.lookup(node.domain, node.op_type, version)
    if operator is None:
        names = operators.names(node.domain)
        newer = node.op_type in names
        hint = "; a newer one has" if newer else did_you_mean(node.op_type, names if suggest else ())
        yield Fault("UNKNOWN_OPERATOR", "/op", f"opset {version} has no operator {node.op_type!r:.60}{hint}")
        return
    if operator.deprecated:
        message = f"{node.op_type} is deprecated in opset {version} (since {operator.since})"
        yield Fault("UNKNOWN_OPERATOR", "/op", message)
        return
    sides = (
        ("inputs", operator.inputs, operator.optional_inputs),
        ("outputs", operator.outputs, operator.optional_outputs),
    )
    for side, (least, most), optional in sides:
        count = len(getattr(node, side))
        if not least <= count <= most:
            allowed = str(least) if least == most else f"{least} to {most if most < 2**31 - 1 else 'any number of'}"
            noun = side.removesuffix("s") if allowed == "1" else side
            yield Fault("OPERATOR_ARITY", f"/{side}", f"{node.op_type} has {allowed} {noun}, not {count}")
        for position, name in enumerate(getattr(node, side)[:least]):
            if not name and position not in optional:
                yield Fault("OPERATOR_ARITY", f"/{side}/{position}", f"{node.op_type} cannot do without this one")
    for name in sorted(operator.required - set(node.attributes)):
        yield Fault("OPERATOR_ATTRIBUTE", "/attributes", f"{node.op_type} needs the attribute {name!r}")
    for name, value in node.attributes.items():
        place = pointer("attributes", name)
        kind = operator.attributes.get(name)
        if kind is None:
            hint = did_you_mean(name, operator.attributes if suggest else ())
            yield Fault("OPERATOR_ATTRIBUTE", place, f"{node.op_type} has no attribute {name!r:.60}{hint}")
        elif not _has_type(value, kind):
            yield Fault("OPERATOR_ATTRIBUTE", place, f"{node.op_type}.{name} is of type {kind}, not {value!r:.60}")


def _has_type(value: object, kind: str) -> bool:
    if isinstance(value, AttributeReference):
        return value.kind == kind
    if kind in _TYPES:
        return _is_single(value, kind)
    if not isinstance(value, tuple):
        return False
    single = kind.removesuffix("S")
    references = (item for item in value if isinstance(item, ParameterReference))
    return {*map(type, value)}.issubset(_TYPES[single]) and all(_is_single(item, single) for item in references)


def _is_single(value: object, kind: str) -> bool:
    sparse = isinstance(value, ParameterReference) and value.sparse
    return type(value) in _TYPES[kind] and sparse == (kind == "SPARSE_TENSOR")
