"""What must hold between the objects of a structure: names, references, order, operators and shapes."""

from __future__ import annotations

import graphlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deepstruct import operator_checks, operators, shapes
from deepstruct.errors import Fault, did_you_mean, pointer
from deepstruct.node import (
    AttributeReference,
    AttributeValue,
    Function,
    Graph,
    Node,
    ParameterReference,
    graphs_in,
    walk,
)
from deepstruct.scopes import Scope

if TYPE_CHECKING:
    from deepstruct.structure import Parameter
    from deepstruct.tensor import Tensor
    from deepstruct.value_info import ValueInfo


_SHOWN = 20
_SUGGESTIONS = 100  # of known names for unknown ones; more take too long


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


def faults(draft: Draft) -> Iterator[Fault]:
    """Every fault of a structure whose members are valid by themselves, with the document's pointers."""
    codes: set[str] = set()
    broken: set[str] = set()
    for fault in _faults_of_names(draft):
        codes.add(fault.code)
        if fault.pointer.startswith("/graph/nodes/"):
            broken.add(fault.pointer.split("/", 4)[3])
        yield fault
    if not codes & _UNORDERED:
        sound = [None if str(position) in broken else node for position, node in enumerate(draft.nodes)]
        yield from shapes.faults(replace(draft, nodes=sound) if broken else draft)


def _faults_of_names(draft: Draft) -> Iterator[Fault]:
    """All faults but those of shapes and dtypes."""
    yield from _definitions(draft)
    yield from _opset(draft.opset, "/graph/opset")
    checker = _Checker(draft)
    names = [*(parameter.name for parameter in draft.parameters), *draft.constants]
    shared = Scope(dict.fromkeys(names, ""))
    inputs = [value.name for value in draft.inputs if value is not None]
    whole = Scope(dict.fromkeys(inputs, ""), shared)
    yield from checker.scope(draft.nodes, "/graph", whole, draft.opset)
    for position, value in enumerate(draft.outputs):
        if value is not None and value.name not in whole and value.name not in draft.unread:
            yield checker.unresolved(value.name, pointer("graph", "outputs", position, "name"), whole)
    for position, function in enumerate(draft.functions):
        if function is not None:
            yield from checker.function(function, pointer("graph", "functions", position), shared)
    yield from _calls(draft.functions)


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


def _twice(name: str, place: str, first: str | None) -> Fault:
    where = f" at {first:.200}" if first else ""
    message = f"the value {name!r:.80} is defined already{where}; every value has one origin"
    return Fault("DUPLICATE_NAME", place, message)


def _way(names: list[str]) -> str:
    """The names along a cycle, only the ends of a long one."""
    shown = [f"{name!r:.80}" for name in names]
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

    def __init__(self, draft: Draft) -> None:
        self.suggestions = _SUGGESTIONS
        self.functions = {function.key for function in draft.functions if function is not None}
        self.parameters = {parameter.name for parameter in draft.parameters}
        self.unread = draft.unread

    def scope(
        self,
        nodes: Sequence[Node | None],
        place: str,
        scope: Scope,
        opset: Mapping[str, int],
        function: Function | None = None,
    ) -> Iterator[Fault]:
        """Faults of nodes, of a function or not, that see the names of a scope; their own names are added to it."""
        names: set[str] = set()
        producers = {name: i for i, node in enumerate(nodes) if node is not None for name in node.outputs if name}
        late: list[Fault] = []
        for position, node in enumerate(nodes):
            if node is None:
                continue
            at = place + pointer("nodes", position)
            if node.name in names:
                yield Fault("DUPLICATE_NAME", at + "/name", f"a node before is called {node.name!r:.80} already")
            names.add(node.name)
            for number, name in enumerate(node.inputs):
                if not name or name in scope or name in self.unread:
                    continue
                origin = at + pointer("inputs", number)
                if name in producers:
                    producer = nodes[producers[name]]
                    by = "" if producer is None else f" {producer.name!r:.80}"
                    message = f"{name!r:.80} comes from the later node{by}; nodes stand in topological order"
                    late.append(Fault("NODE_ORDER", origin, message))
                else:
                    yield self.unresolved(name, origin, itertools.chain(producers, scope))
            for fault in operator_checks.faults(node, opset, self.functions, suggest=self.suggestions > 0):
                self.suggestions -= 1
                yield fault.under(at)
            yield from self._attributes(node.attributes, at + "/attributes", scope, opset, function)
            for number, name in enumerate(node.outputs):
                if name in scope:
                    yield _twice(name, at + pointer("outputs", number), scope.origin(name))
                elif name:
                    scope.define(name, at + pointer("outputs", number))
        cycle = _cycle(nodes, producers) if late else None
        if cycle:
            text = _way([node.name for node in (nodes[i] for i in cycle) if node is not None])
            yield Fault("GRAPH_CYCLE", place + pointer("nodes", cycle[0]), f"the graph has a cycle: {text}")
        else:
            yield from late

    def unresolved(self, name: str, place: str, known: Iterable[str]) -> Fault:
        """The fault of a name that nothing has, with a suggestion as long as there have not been many."""
        self.suggestions -= 1
        hint = did_you_mean(name, known if self.suggestions >= 0 else ())
        return Fault("UNRESOLVED_REFERENCE", place, f"nothing is called {name!r:.200}{hint}")

    def _attributes(
        self,
        values: Mapping[str, AttributeValue],
        place: str,
        scope: Scope,
        opset: Mapping[str, int],
        function: Function | None,
    ) -> Iterator[Fault]:
        for name, value in values.items():
            at = place + pointer(name)
            if isinstance(value, AttributeReference):
                yield from _reference(value, at, function)
            items = value if isinstance(value, tuple) else (value,)
            if {Graph, ParameterReference}.isdisjoint(map(type, items)):
                continue
            for position, item in enumerate(items):
                under = at + (pointer(position) if isinstance(value, tuple) else "")
                if isinstance(item, Graph):
                    yield from self._graph(item, under, scope, opset, function)
                elif isinstance(item, ParameterReference) and not self._is_parameter(item.name):
                    yield self.unresolved(item.name, under, self.parameters)

    def _is_parameter(self, name: str) -> bool:
        return name in self.parameters or name in self.unread

    def _graph(
        self, graph: Graph, place: str, scope: Scope, opset: Mapping[str, int], function: Function | None
    ) -> Iterator[Fault]:
        inside = Scope({}, scope)
        for number, value in enumerate(graph.inputs):
            at = place + pointer("inputs", number)
            if value.name in inside:
                yield _twice(value.name, at, inside.origin(value.name))
            inside.define(value.name, at)
        yield from self.scope(graph.nodes, place, inside, opset, function)
        own = {value.name for value in graph.inputs} | {name for node in graph.nodes for name in node.outputs}
        for number, value in enumerate(graph.outputs):
            if value.name not in own:
                yield self.unresolved(value.name, place + pointer("outputs", number, "name"), own)

    def function(self, function: Function, place: str, shared: Scope) -> Iterator[Fault]:
        """Faults of a function whose body sees the names `shared`, unless it has values of these names itself."""
        yield from _opset(function.opset, place + "/opset")
        for side in ("inputs", "attributes"):
            seen: set[str] = set()
            for position, name in enumerate(getattr(function, side)):
                if name in seen:
                    yield Fault("DUPLICATE_NAME", place + pointer(side, position), f"{name!r:.80} occurs twice")
                seen.add(name)
        inside = Scope(dict.fromkeys(function.inputs, ""), shared, function.local_names)
        yield from self.scope(function.nodes, place, inside, function.opset, function)
        own = {*function.inputs, *(name for node in function.nodes for name in node.outputs)}
        for position, name in enumerate(function.outputs):
            if name not in own:
                yield self.unresolved(name, place + pointer("outputs", position), own)
        yield from self._attributes(function.defaults, place + "/defaults", inside, function.opset, function)


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
    for graph in graphs_in(function.defaults):
        yield from walk(graph.nodes)
