"""Two structures made comparable: functions put in place of their calls, and one version of ONNX's own operators."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deepstruct.errors import FaultyError, UnsupportedError
from deepstruct.frozen import FrozenMapping
from deepstruct.model import Model, Weights
from deepstruct.structure import AttributeReference, AttributeValue, Function, Graph, Node, Parameter, Structure, walk
from deepstruct.verification import meaning

MAX_NODES = 500_000
"""Functions are left as they are where their bodies would be more nodes than that."""

Key = tuple[str, str, str]


def inlined(structure: Structure) -> Structure:
    """The structure with the bodies of functions in place of their calls, under names that are new.

    Functions stay where a body is made for other versions of operators, or where there would be too many nodes.
    """
    if not structure.functions:
        return structure
    functions = {function.key: function for function in structure.functions}
    if not all(_fits(function, structure, functions) for function in structure.functions):
        return structure
    if _count(structure.nodes, functions) > MAX_NODES:
        return structure
    opset = {domain: version for f in structure.functions for domain, version in f.opset.items()}
    try:
        return replace(
            structure,
            nodes=tuple(_Inlining(structure, functions).nodes(structure.nodes)),
            functions=(),
            opset=FrozenMapping({**opset, **structure.opset}),
        )
    except FaultyError:
        return structure


def _fits(function: Function, structure: Structure, functions: Mapping[Key, Function]) -> bool:
    for node in walk(function.nodes):
        here, there = function.opset.get(node.domain), structure.opset.get(node.domain)
        if node.called in functions or here == there or here is None or there is None:
            continue
        if meaning.signature(node.domain, node.op_type, here) != meaning.signature(node.domain, node.op_type, there):
            return False
    return True


def _count(nodes: tuple[Node, ...], functions: Mapping[Key, Function]) -> int:
    """How many nodes there are without functions."""
    sizes: dict[Key, int] = {}

    def size(body: tuple[Node, ...]) -> int:
        return sum(of_call(node.called) if node.called in functions else 1 for node in walk(body))

    def of_call(key: Key) -> int:
        if key not in sizes:
            sizes[key] = size(functions[key].nodes)
        return sizes[key]

    return size(nodes)


@dataclass(frozen=True)
class _Call:
    """What names and attributes of a function's body stand for where it is called."""

    names: Mapping[str, str]
    attributes: Mapping[str, AttributeValue]
    prefix: str


class _Inlining:
    def __init__(self, structure: Structure, functions: Mapping[Key, Function]) -> None:
        self.functions = functions
        everything = tuple(walk(structure.nodes))
        self.taken = {name for node in everything for name in (node.name, *node.outputs)}
        self.taken |= {value.name for node in everything for graph in node.graphs for value in graph.inputs}
        self.taken |= {value.name for value in (*structure.inputs, *structure.outputs)}
        self.taken |= {parameter.name for parameter in structure.parameters} | set(structure.constants)

    def nodes(self, nodes: Iterable[Node]) -> Iterator[Node]:
        for node in nodes:
            if node.called in self.functions:
                yield from self.nodes(self._body(node, self.functions[node.called]))
            elif node.graphs:
                yield replace(node, attributes=FrozenMapping({n: self._in(v) for n, v in node.attributes.items()}))
            else:
                yield node

    def _in(self, value: AttributeValue) -> AttributeValue:
        if isinstance(value, tuple):
            return tuple(self._in(item) for item in value)  # type: ignore[return-value]  # of one type
        return replace(value, nodes=tuple(self.nodes(value.nodes))) if isinstance(value, Graph) else value

    def _new(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self.taken:
            name, number = f"{wanted}.{number}", number + 1
        self.taken.add(name)
        return name

    def _body(self, call: Node, function: Function) -> Iterator[Node]:
        given = call.inputs + ("",) * (len(function.inputs) - len(call.inputs))
        names = dict(zip(function.inputs, given, strict=False))
        passed: list[tuple[str, str]] = []
        for inner, outer in zip(function.outputs, call.outputs, strict=False):
            if outer and inner in names:
                passed.append((inner, outer))
            elif outer:
                names[inner] = outer
        for name in sorted(function.local_names - names.keys() - {""}):
            names[name] = self._new(f"{call.name}/{name}")
        attributes = {**function.defaults, **call.attributes}
        context = _Call(names, attributes, call.name)
        for node in function.nodes:
            yield replace(_substituted(node, context), name=self._new(f"{call.name}/{node.name}"))
        for inner, outer in passed:
            yield Node(self._new(f"{call.name}/{outer}"), "Identity", (names[inner],), (outer,))


def _substituted(node: Node, call: _Call) -> Node:
    attributes = {}
    for name, value in node.attributes.items():
        if not isinstance(value, AttributeReference):
            attributes[name] = _in_graphs(value, call)
        elif value.name in call.attributes:
            attributes[name] = call.attributes[value.name]
    return replace(
        node,
        inputs=tuple(call.names.get(name, name) for name in node.inputs),
        outputs=tuple(call.names.get(name, name) for name in node.outputs),
        attributes=FrozenMapping(attributes),
    )


def _in_graphs(value: AttributeValue, call: _Call) -> AttributeValue:
    if isinstance(value, tuple):
        return tuple(_in_graphs(item, call) for item in value)  # type: ignore[return-value]  # of one type
    if not isinstance(value, Graph):
        return value
    return replace(
        value,
        nodes=tuple(_substituted(node, call) for node in value.nodes),
        inputs=tuple(replace(info, name=call.names.get(info.name, info.name)) for info in value.inputs),
        outputs=tuple(replace(info, name=call.names.get(info.name, info.name)) for info in value.outputs),
    )


def of_one_opset(a: Structure, b: Structure) -> tuple[Structure, Structure, str]:
    """Both with the newer one's version of ONNX's own operators, or as they are where nothing depends on it.

    Returns:
        The two structures, and why one could not be brought to the other's version, ``""`` if nothing went wrong.
    """
    versions = a.opset.get(""), b.opset.get("")
    if None in versions or versions[0] == versions[1] or (_agree(a, versions) and _agree(b, versions)):
        return a, b, ""
    try:
        if versions[0] < versions[1]:  # type: ignore[operator]  # neither is None
            return _with_opset(a, versions[1]), b, ""  # type: ignore[arg-type]  # neither is None
        return a, _with_opset(b, versions[0]), ""  # type: ignore[arg-type]  # neither is None
    except UnsupportedError as error:
        return a, b, str(error)


def _agree(structure: Structure, versions: tuple[int | None, int | None]) -> bool:
    """Whether the structure's operators are the same in two versions."""
    used = {node.op_type for node in walk(structure.nodes) if not node.domain}
    first, second = versions[0] or 0, versions[1] or 0
    return all(meaning.signature("", name, first) == meaning.signature("", name, second) for name in used)


def _with_opset(structure: Structure, version: int) -> Structure:
    """The structure with ONNX's own operators in another version.

    Raises:
        UnsupportedError: they have no equivalent there, or only numbers would tell.
    """
    from deepstruct.converters import onnx_opsets

    def refuse(parameter: Parameter) -> NDArray[np.generic]:
        raise UnsupportedError(f"the numbers of {parameter.name!r} would have to be known for another opset")

    converted = onnx_opsets.with_opset(Model(structure, Weights(structure, refuse)), version).structure
    known = {parameter.name for parameter in structure.parameters}
    if any(parameter.name not in known for parameter in converted.parameters):
        raise UnsupportedError(f"opset {version} needs parameters that the structure does not have")
    return converted
