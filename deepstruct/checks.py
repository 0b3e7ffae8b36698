"""What must hold between the objects of a structure: names, references, order, operators and shapes."""

from __future__ import annotations

import graphlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deepstruct import operator_checks, operators, shapes
from deepstruct.errors import Fault, did_you_mean, pointer
from deepstruct.node import AttributeReference, AttributeValue, Function, Graph, Node, ParameterReference, walk

if TYPE_CHECKING:
    from deepstruct.structure import Parameter
    from deepstruct.tensor import Tensor
    from deepstruct.value_info import ValueInfo


_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The parts of a structure before it is one; None stands where an object could not be read.

    Attributes:
        unread: names that such objects may define.
    """

    nodes: Sequence[Node | None]
    inputs: Sequence[ValueInfo | None]
    outputs: Sequence[ValueInfo | None]
    parameters: Sequence[Parameter]
    constants: Mapping[str, Tensor]
    functions: Sequence[Function | None]
    opset: Mapping[str, int]
    unread: frozenset[str] = frozenset()


def faults(draft: Draft) -> list[Fault]:
    """Every fault of a structure whose members are valid by themselves, with the document's pointers."""
    found = [*_definitions(draft), *_opset(draft.opset, "/graph/opset")]
    shared = {parameter.name for parameter in draft.parameters} | set(draft.constants)
    functions = [function for function in draft.functions if function is not None]
    checker = _Checker(draft, functions)
    inputs = {value.name for value in draft.inputs if value is not None}
    found += checker.scope(draft.nodes, "/graph", dict.fromkeys(shared | inputs, ""), draft.opset)
    made = {name for node in draft.nodes if node is not None for name in node.outputs if name}
    for position, value in enumerate(draft.outputs):
        if value is not None and value.name not in made | inputs | shared | draft.unread:
            found.append(_unresolved(value.name, pointer("graph", "outputs", position, "name"), made))
    for position, function in enumerate(draft.functions):
        if function is not None:
            found += checker.function(function, pointer("graph", "functions", position), shared)
    found += _calls(draft.functions)
    if all(fault.code not in _UNORDERED for fault in found):
        places = {fault.pointer.split("/")[3] for fault in found if fault.pointer.startswith("/graph/nodes/")}
        sound = [None if str(position) in places else node for position, node in enumerate(draft.nodes)]
        found += shapes.faults(replace(draft, nodes=sound) if places else draft)
    return found


_UNORDERED = {"DUPLICATE_NAME", "GRAPH_CYCLE", "NODE_ORDER"}
"""Faults after which it is unknown which value a name means."""


def _definitions(draft: Draft) -> Iterator[Fault]:
    """Inputs without a type; inputs, parameters and constants whose name is taken."""
    defined: dict[str, str] = {}
    inputs = [(value, pointer("graph", "inputs", i)) for i, value in enumerate(draft.inputs) if value is not None]
    places = [(value.name, place) for value, place in inputs]
    places += [(parameter.name, pointer("parameters", parameter.name)) for parameter in draft.parameters]
    places += [(name, pointer("graph", "constants", name)) for name in draft.constants]
    for value, place in inputs:
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

    def __init__(self, draft: Draft, functions: Sequence[Function]) -> None:
        self.hints = _SHOWN  # more names to suggest than errors show take too long
        self.functions = {function.key for function in functions}
        self.parameters = {parameter.name for parameter in draft.parameters}
        self.unread = draft.unread

    def scope(
        self,
        nodes: Sequence[Node | None],
        place: str,
        outside: Mapping[str, str],
        opset: Mapping[str, int],
        function: Function | None = None,
    ) -> Iterator[Fault]:
        """Faults of nodes, of a function or not, that see the names `outside`, which have their places as values."""
        names: set[str] = set()
        available = dict(outside)
        producers = {name: i for i, node in enumerate(nodes) if node is not None for name in node.outputs if name}
        late: list[Fault] = []
        for position, node in enumerate(nodes):
            if node is None:
                continue
            at = place + pointer("nodes", position)
            if node.name in names:
                yield Fault("DUPLICATE_NAME", at + "/name", f"a node before is called {node.name!r} already")
            names.add(node.name)
            for number, name in enumerate(node.inputs):
                if not name or name in available or name in self.unread:
                    continue
                origin = at + pointer("inputs", number)
                if name in producers:
                    producer = nodes[producers[name]]
                    by = "" if producer is None else f" {producer.name!r}"
                    message = f"{name!r} comes from the later node{by}; nodes stand in topological order"
                    late.append(Fault("NODE_ORDER", origin, message))
                else:
                    self.hints -= 1
                    yield _unresolved(name, origin, [*producers, *available] if self.hints >= 0 else ())
            for fault in operator_checks.faults(node, opset, self.functions):
                yield fault.under(at)
            yield from self._attributes(node.attributes, at + "/attributes", available, opset, function)
            for number, name in enumerate(node.outputs):
                if name in available:
                    yield _twice(name, at + pointer("outputs", number), available[name])
                elif name:
                    available[name] = at + pointer("outputs", number)
        cycle = _cycle(nodes, producers) if late else None
        if cycle:
            text = _way([node.name for node in (nodes[i] for i in cycle) if node is not None])
            yield Fault("GRAPH_CYCLE", place + pointer("nodes", cycle[0]), f"the graph has a cycle: {text}")
        else:
            yield from late

    def _attributes(
        self,
        values: Mapping[str, AttributeValue],
        place: str,
        available: Mapping[str, str],
        opset: Mapping[str, int],
        function: Function | None,
    ) -> Iterator[Fault]:
        for name, value in values.items():
            at = place + pointer(name)
            if isinstance(value, AttributeReference):
                yield from _reference(value, at, function)
            for position, item in enumerate(value if isinstance(value, tuple) else (value,)):
                under = at + (pointer(position) if isinstance(value, tuple) else "")
                if isinstance(item, Graph):
                    yield from self._graph(item, under, available, opset, function)
                elif isinstance(item, ParameterReference) and item.name not in self.parameters | self.unread:
                    yield _unresolved(item.name, under, self.parameters)

    def _graph(
        self,
        graph: Graph,
        place: str,
        available: Mapping[str, str],
        opset: Mapping[str, int],
        function: Function | None,
    ) -> Iterator[Fault]:
        inside = dict(available)
        for number, value in enumerate(graph.inputs):
            at = place + pointer("inputs", number)
            if value.name in inside:
                yield _twice(value.name, at, inside[value.name])
            inside[value.name] = at
        yield from self.scope(graph.nodes, place, inside, opset, function)
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
        outside = dict.fromkeys(set(shared) - function.local_names | set(function.inputs), "")
        yield from self.scope(function.nodes, place, outside, function.opset, function)
        own = {*function.inputs, *(name for node in function.nodes for name in node.outputs)}
        for position, name in enumerate(function.outputs):
            if name not in own:
                yield _unresolved(name, place + pointer("outputs", position), own)
        visible = outside | dict.fromkeys(own, "")
        yield from self._attributes(function.defaults, place + "/defaults", visible, function.opset, function)


def _reference(value: AttributeReference, place: str, function: Function | None) -> Iterator[Fault]:
    """What is wrong with a reference to an attribute of a function, from within it or from elsewhere."""
    if function is None:
        message = "only a node in the body of a function refers to an attribute of the function"
        yield Fault("OPERATOR_ATTRIBUTE", place, message)
        return
    known = {*function.attributes, *function.defaults}
    if value.name not in known:
        hint = did_you_mean(value.name, known)
        message = f"the function {function.name!r:.80} has no attribute {value.name!r:.80}{hint}"
        yield Fault("UNRESOLVED_REFERENCE", place, message)


def _cycle(nodes: Sequence[Node | None], producers: Mapping[str, int]) -> list[int] | None:
    """Positions of the nodes of one cycle, in the direction of data flow."""
    sorter = graphlib.TopologicalSorter(
        {
            i: [producers[name] for name in node.sources if name in producers]
            for i, node in enumerate(nodes)
            if node is not None
        }
    )
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        cycle: list[int] = error.args[1]
        return cycle
    return None


def _calls(functions: Sequence[Function | None]) -> Iterator[Fault]:
    """Functions that are defined twice, or by themselves."""
    places: dict[tuple[str, str, str], int] = {}
    for position, function in enumerate(functions):
        if function is None:
            continue
        if function.key in places:
            message = f"a function before is called {function.name!r} in domain {function.domain!r} already"
            yield Fault("DUPLICATE_NAME", pointer("graph", "functions", position, "name"), message)
        places.setdefault(function.key, position)
    calls: dict[int, set[int]] = {}
    for function in functions:
        if function is not None:
            called = [node.called for node in _body(function)]
            calls[places[function.key]] = {places[key] for key in called if key in places}
    try:
        graphlib.TopologicalSorter(calls).prepare()
    except graphlib.CycleError as error:
        cycle: list[int] = error.args[1]
        names = _way([f.name for f in (functions[i] for i in reversed(cycle)) if f is not None])
        yield Fault("GRAPH_CYCLE", pointer("graph", "functions", cycle[0]), f"a function calls itself: {names}")


def _body(function: Function) -> Iterator[Node]:
    """The nodes of a function, and those of the graphs that it has as defaults."""
    yield from walk(function.nodes)
    for value in function.defaults.values():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Graph):
                yield from walk(item.nodes)
