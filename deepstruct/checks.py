"""What must hold between the objects of a structure: names, references, order, operators and shapes."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from deepstruct import operators, shapes
from deepstruct.errors import Fault, did_you_mean, pointer
from deepstruct.tensor import Tensor

if TYPE_CHECKING:
    from deepstruct.structure import Node, Structure

_TYPES: dict[str, type] = {"INT": int, "FLOAT": float, "STRING": str, "TENSOR": Tensor}
_LIST_TYPES: dict[str, type] = {"INTS": int, "FLOATS": float, "STRINGS": str}


def faults(structure: Structure) -> list[Fault]:
    """Every fault of a structure whose members are valid by themselves, with the document's pointers."""
    found = [*_names(structure), *_opset(structure), *_references(structure)]
    for position, node in enumerate(structure.nodes):
        place = pointer("graph", "nodes", position)
        found += [fault.under(place) for fault in _operator(node, structure.opset)]
    if not found:
        found += shapes.faults(structure)
    return found


def _names(structure: Structure) -> Iterable[Fault]:
    seen: set[str] = set()
    for position, node in enumerate(structure.nodes):
        if node.name in seen:
            place = pointer("graph", "nodes", position, "name")
            yield Fault("DUPLICATE_NAME", place, f"a node before is called {node.name!r} already")
        seen.add(node.name)
    defined: dict[str, str] = {}
    for name, place in _definitions(structure):
        if name in defined:
            message = f"the value {name!r} is defined already at {defined[name]}; every value has one origin"
            yield Fault("DUPLICATE_NAME", place, message)
        defined.setdefault(name, place)


def _definitions(structure: Structure) -> Iterable[tuple[str, str]]:
    """Name and place of everything that a node can use as an input."""
    for position, value in enumerate(structure.inputs):
        yield value.name, pointer("graph", "inputs", position)
    for parameter in structure.parameters:
        yield parameter.name, pointer("parameters", parameter.name)
    for name in structure.constants:
        yield name, pointer("graph", "constants", name)
    for position, node in enumerate(structure.nodes):
        for output, name in enumerate(node.outputs):
            if name:
                yield name, pointer("graph", "nodes", position, "outputs", output)


def _opset(structure: Structure) -> Iterable[Fault]:
    for domain, version in structure.opset.items():
        place = pointer("graph", "opset", domain)
        if domain == "ai.onnx":
            yield Fault("INVALID_VALUE", place, 'the domain of ONNX itself is written "", not "ai.onnx"')
        if type(version) is not int or not 1 <= version < 2**31:
            yield Fault("TYPE_MISMATCH", place, f"an opset version is a positive integer, not {version!r:.40}")
        elif operators.is_known_domain(domain) and version > operators.newest_opset(domain):
            newest = operators.newest_opset(domain)
            yield Fault("UNKNOWN_OPSET", place, f"opset {version} is newer than {newest}, the newest known here")


def _references(structure: Structure) -> Iterable[Fault]:
    available = {value.name for value in structure.inputs}
    available |= {parameter.name for parameter in structure.parameters}
    available |= set(structure.constants)
    producers = {name: i for i, node in enumerate(structure.nodes) for name in node.outputs if name}
    late: list[Fault] = []
    for position, node in enumerate(structure.nodes):
        for number, name in enumerate(node.inputs):
            if not name or name in available:
                continue
            place = pointer("graph", "nodes", position, "inputs", number)
            if name in producers:
                producer = structure.nodes[producers[name]].name
                message = f"{name!r} comes from the later node {producer!r}; nodes stand in topological order"
                late.append(Fault("NODE_ORDER", place, message))
            else:
                yield Fault(
                    "UNRESOLVED_REFERENCE",
                    place,
                    f"nothing is called {name!r}{did_you_mean(name, producers)}",
                )
        available |= {name for name in node.outputs if name}
    cycle = _cycle(structure, producers) if late else None
    if cycle:
        names = " -> ".join(repr(structure.nodes[i].name) for i in cycle)
        yield Fault("GRAPH_CYCLE", pointer("graph", "nodes", cycle[0]), f"the graph has a cycle: {names}")
    else:
        yield from late
    for position, value in enumerate(structure.outputs):
        if value.name not in available:
            place = pointer("graph", "outputs", position, "name")
            message = f"nothing is called {value.name!r}{did_you_mean(value.name, producers)}"
            yield Fault("UNRESOLVED_REFERENCE", place, message)


def _cycle(structure: Structure, producers: dict[str, int]) -> list[int] | None:
    """Positions of the nodes of one cycle, in the direction of data flow."""
    sorter = graphlib.TopologicalSorter(
        {i: [producers[name] for name in node.inputs if name in producers] for i, node in enumerate(structure.nodes)}
    )
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        cycle: list[int] = error.args[1]
        return cycle
    return None


def _operator(node: Node, opset: Mapping[str, int]) -> Iterable[Fault]:
    if node.domain not in opset:
        message = f"domain {node.domain!r} has no version in graph.opset"
        yield Fault("UNKNOWN_OPSET", "/domain" if node.domain else "/op", message)
        return
    version = opset[node.domain]
    if type(version) is not int:
        return
    if not operators.is_known_domain(node.domain):
        for name, value in node.attributes.items():
            if value == ():
                place = pointer("attributes", name)
                yield Fault("OPERATOR_ATTRIBUTE", place, "an empty list has no type where no specification gives one")
        return
    operator = operators.lookup(node.domain, node.op_type, version)
    if operator is None:
        hint = did_you_mean(node.op_type, operators.names(node.domain))
        yield Fault("UNKNOWN_OPERATOR", "/op", f"opset {version} has no operator {node.op_type!r:.60}{hint}")
        return
    if operator.deprecated:
        message = f"{node.op_type} is deprecated in opset {version} (since {operator.since})"
        yield Fault("UNKNOWN_OPERATOR", "/op", message)
        return
    for side, (least, most) in (("inputs", operator.inputs), ("outputs", operator.outputs)):
        count = len(getattr(node, side))
        if not least <= count <= most:
            allowed = str(least) if least == most else f"{least} to {most if most < 2**31 - 1 else 'any number of'}"
            yield Fault("OPERATOR_ARITY", f"/{side}", f"{node.op_type} takes {allowed} {side}, not {count}")
        for position, name in enumerate(getattr(node, side)[:least]):
            if not name:
                yield Fault("OPERATOR_ARITY", f"/{side}/{position}", f"{node.op_type} cannot do without this one")
    for name in sorted(operator.required - set(node.attributes)):
        yield Fault("OPERATOR_ATTRIBUTE", "/attributes", f"{node.op_type} needs the attribute {name!r}")
    for name, value in node.attributes.items():
        place = pointer("attributes", name)
        kind = operator.attributes.get(name)
        if kind is None:
            hint = did_you_mean(name, operator.attributes)
            yield Fault("OPERATOR_ATTRIBUTE", place, f"{node.op_type} has no attribute {name!r:.60}{hint}")
        elif not _has_type(value, kind):
            yield Fault("OPERATOR_ATTRIBUTE", place, f"{node.op_type}.{name} is of type {kind}, not {value!r:.60}")


def _has_type(value: object, kind: str) -> bool:
    if kind in _LIST_TYPES:
        return isinstance(value, tuple) and all(type(item) is _LIST_TYPES[kind] for item in value)
    return kind in _TYPES and type(value) is _TYPES[kind]
