"""What must hold between the objects of a structure: names, references, order, operators and shapes."""

from __future__ import annotations

import graphlib
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from deepstruct import operator_checks, operators, shapes
from deepstruct.errors import Fault, did_you_mean, pointer
from deepstruct.node import AttributeReference, Function, Graph, Node, walk

if TYPE_CHECKING:
    from deepstruct.structure import Structure


_SHOWN = 20


def faults(structure: Structure) -> list[Fault]:
    """Every fault of a structure whose members are valid by themselves, with the document's pointers."""
    found = [*_definitions(structure), *_opset(structure.opset, "/graph/opset")]
    shared = {parameter.name for parameter in structure.parameters} | set(structure.constants)
    checker = _Checker(structure)
    inputs = {value.name for value in structure.inputs}
    found += checker.scope(structure.nodes, "/graph", dict.fromkeys(shared | inputs, ""), structure.opset)
    made = {name for node in structure.nodes for name in node.outputs if name}
    for position, value in enumerate(structure.outputs):
        if value.name not in made | inputs | shared:
            found.append(_unresolved(value.name, pointer("graph", "outputs", position, "name"), made))
    for position, function in enumerate(structure.functions):
        found += checker.function(function, pointer("graph", "functions", position), shared)
    found += _calls(structure.functions)
    if not found:
        found += shapes.faults(structure)
    return found


def _definitions(structure: Structure) -> Iterator[Fault]:
    """Inputs without a type; inputs, parameters and constants whose name is taken."""
    defined: dict[str, str] = {}
    places = [(value.name, pointer("graph", "inputs", i)) for i, value in enumerate(structure.inputs)]
    places += [(parameter.name, pointer("parameters", parameter.name)) for parameter in structure.parameters]
    places += [(name, pointer("graph", "constants", name)) for name in structure.constants]
    for value, (_, place) in zip(structure.inputs, places, strict=False):
        if value.dtype is None:
            yield Fault("MISSING_PROPERTY", place, "the member 'dtype' is missing")
    for name, place in places:
        if name in defined:
            yield _twice(name, place, defined[name])
        defined.setdefault(name, place)


def _twice(name: str, place: str, first: str) -> Fault:
    where = f" at {first}" if first else ""
    return Fault("DUPLICATE_NAME", place, f"the value {name!r} is defined already{where}; every value has one origin")


def _unresolved(name: str, place: str, known: Collection[str]) -> Fault:
    return Fault("UNRESOLVED_REFERENCE", place, f"nothing is called {name!r:.200}{did_you_mean(name, known)}")


def _way(names: list[str]) -> str:
    """The names along a cycle, only the ends of a long one."""
    shown = [repr(name) for name in names]
    return " -> ".join(shown if len(shown) <= _SHOWN else [*shown[: _SHOWN // 2], "...", *shown[-_SHOWN // 2 :]])


def _opset(opset: Mapping[str, int], place: str) -> Iterator[Fault]:
    for domain, version in opset.items():
        at = place + pointer(domain)
        if domain == "ai.onnx":
            yield Fault("INVALID_VALUE", at, 'the domain of ONNX itself is written "", not "ai.onnx"')
        if type(version) is not int or not 1 <= version < 2**31:
            yield Fault("TYPE_MISMATCH", at, f"an opset version is a positive integer, not {version!r:.40}")
        elif operators.is_known_domain(domain) and version > operators.newest_opset(domain):
            newest = operators.newest_opset(domain)
            yield Fault("UNKNOWN_OPSET", at, f"opset {version} is newer than {newest}, the newest known here")


class _Checker:
    """Checks graphs, those within attributes, and the bodies of functions."""

    def __init__(self, structure: Structure) -> None:
        self.hints = _SHOWN  # more names to suggest than errors show take too long
        self.functions = {function.key for function in structure.functions}
        self.parameters = {parameter.name for parameter in structure.parameters}

    def scope(
        self,
        nodes: tuple[Node, ...],
        place: str,
        outside: Mapping[str, str],
        opset: Mapping[str, int],
        *,
        in_function: bool = False,
    ) -> Iterator[Fault]:
        """Faults of nodes that see the names `outside`, which have their places as values."""
        names: set[str] = set()
        available = dict(outside)
        producers = {name: i for i, node in enumerate(nodes) for name in node.outputs if name}
        late: list[Fault] = []
        for position, node in enumerate(nodes):
            at = place + pointer("nodes", position)
            if node.name in names:
                yield Fault("DUPLICATE_NAME", at + "/name", f"a node before is called {node.name!r} already")
            names.add(node.name)
            for number, name in enumerate(node.inputs):
                if not name or name in available:
                    continue
                origin = at + pointer("inputs", number)
                if name in producers:
                    producer = nodes[producers[name]].name
                    message = f"{name!r} comes from the later node {producer!r}; nodes stand in topological order"
                    late.append(Fault("NODE_ORDER", origin, message))
                else:
                    self.hints -= 1
                    yield _unresolved(name, origin, producers if self.hints >= 0 else ())
            for fault in operator_checks.faults(node, opset, self.functions):
                yield fault.under(at)
            yield from self._attributes(node, at + "/attributes", available, opset, in_function)
            for number, name in enumerate(node.outputs):
                if name in available:
                    yield _twice(name, at + pointer("outputs", number), available[name])
                elif name:
                    available[name] = at + pointer("outputs", number)
        cycle = _cycle(nodes, producers) if late else None
        if cycle:
            text = _way([nodes[i].name for i in cycle])
            yield Fault("GRAPH_CYCLE", place + pointer("nodes", cycle[0]), f"the graph has a cycle: {text}")
        else:
            yield from late

    def _attributes(
        self, node: Node, place: str, available: Mapping[str, str], opset: Mapping[str, int], in_function: bool
    ) -> Iterator[Fault]:
        for name in node.references:
            if name not in self.parameters:
                yield _unresolved(name, place, self.parameters)
        for name, value in node.attributes.items():
            at = place + pointer(name)
            if isinstance(value, AttributeReference) and not in_function:
                message = "only a node in the body of a function refers to an attribute of the function"
                yield Fault("OPERATOR_ATTRIBUTE", at, message)
            for position, graph in enumerate(value if isinstance(value, tuple) else (value,)):
                if isinstance(graph, Graph):
                    under = at + (pointer(position) if isinstance(value, tuple) else "")
                    yield from self._graph(graph, under, available, opset, in_function)

    def _graph(
        self, graph: Graph, place: str, available: Mapping[str, str], opset: Mapping[str, int], in_function: bool
    ) -> Iterator[Fault]:
        inside = dict(available)
        for number, value in enumerate(graph.inputs):
            at = place + pointer("inputs", number)
            if value.name in inside:
                yield _twice(value.name, at, inside[value.name])
            inside[value.name] = at
        yield from self.scope(graph.nodes, place, inside, opset, in_function=in_function)
        own = {value.name for value in graph.inputs} | {name for node in graph.nodes for name in node.outputs}
        for number, value in enumerate(graph.outputs):
            if value.name not in own:
                message = f"{value.name!r} comes from no node of the graph{did_you_mean(value.name, own)}"
                yield Fault("UNRESOLVED_REFERENCE", place + pointer("outputs", number, "name"), message)

    def function(self, function: Function, place: str, shared: Collection[str]) -> Iterator[Fault]:
        """Faults of a function whose body sees the names `shared`, unless it has values of these names itself."""
        yield from _opset(function.opset, place + "/opset")
        for side in ("inputs", "attributes"):
            names = getattr(function, side)
            for position, name in enumerate(names):
                if name in names[:position]:
                    yield Fault("DUPLICATE_NAME", place + pointer(side, position), f"{name!r} occurs twice")
        own = function.local_names
        outside = dict.fromkeys({name for name in shared if name not in own} | set(function.inputs), "")
        yield from self.scope(function.nodes, place, outside, function.opset, in_function=True)
        for position, name in enumerate(function.outputs):
            if name not in own:
                yield _unresolved(name, place + pointer("outputs", position), own)


def _cycle(nodes: tuple[Node, ...], producers: Mapping[str, int]) -> list[int] | None:
    """Positions of the nodes of one cycle, in the direction of data flow."""
    sorter = graphlib.TopologicalSorter(
        {i: [producers[name] for name in node.sources if name in producers] for i, node in enumerate(nodes)}
    )
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        cycle: list[int] = error.args[1]
        return cycle
    return None


def _calls(functions: tuple[Function, ...]) -> Iterator[Fault]:
    """Functions that are defined twice, or by themselves."""
    places: dict[tuple[str, str, str], int] = {}
    for position, function in enumerate(functions):
        if function.key in places:
            message = f"a function before is called {function.name!r} in domain {function.domain!r} already"
            yield Fault("DUPLICATE_NAME", pointer("graph", "functions", position, "name"), message)
        places.setdefault(function.key, position)
    calls = {places[f.key]: {places[n.called] for n in walk(f.nodes) if n.called in places} for f in functions}
    try:
        graphlib.TopologicalSorter(calls).prepare()
    except graphlib.CycleError as error:
        cycle: list[int] = error.args[1]
        names = _way([functions[i].name for i in reversed(cycle)])
        yield Fault("GRAPH_CYCLE", pointer("graph", "functions", cycle[0]), f"a function calls itself: {names}")
