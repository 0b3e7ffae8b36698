"""Node: one ONNX operator with its attributes; graphs within attributes, and functions that nodes may call."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Union

from deepstruct import members
from deepstruct.construction import Faults, mapping_of, sequence_of, unknown_members
from deepstruct.errors import pointer
from deepstruct.frozen import FrozenMapping
from deepstruct.tensor import Tensor
from deepstruct.value_info import TypeInfo, ValueInfo

KINDS = frozenset(
    kind + plural
    for kind in ("INT", "FLOAT", "STRING", "TENSOR", "SPARSE_TENSOR", "GRAPH", "TYPE_PROTO")
    for plural in ("", "S")
)
"""AttributeProto.AttributeType, without UNDEFINED."""


@dataclass(frozen=True, slots=True)
class ParameterReference:
    """A tensor attribute whose numbers are those of a parameter.

    Attributes:
        name: of the parameter.
        sparse: the attribute is a SPARSE_TENSOR, not a TENSOR.
    """

    name: str
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class AttributeReference:
    """In the body of a function: the value of one of the function's own attributes.

    Attributes:
        name: of the attribute of the function.
        kind: its AttributeProto type, one of `KINDS`.
    """

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class EmptyList:
    """An empty list, where no specification says of what.

    Attributes:
        kind: its AttributeProto type, a plural of `KINDS`.
    """

    kind: str


Single = Union[int, float, str, bytes, Tensor, "Graph", TypeInfo, ParameterReference]
AttributeValue = (
    Single
    | AttributeReference
    | EmptyList
    | tuple[int, ...]
    | tuple[float, ...]
    | tuple[str, ...]
    | tuple[str | bytes, ...]
    | tuple[Tensor | ParameterReference, ...]
    | tuple["Graph", ...]
    | tuple[TypeInfo, ...]
)


@dataclass(frozen=True, slots=True)
class Node:
    """One ONNX operator.

    Attributes:
        name: unique among the nodes of its graph.
        op_type: operator of the ONNX specification, of `domain`, or a function of the structure.
        inputs: value, parameter or constant names in the operator's order; ``""`` leaves an optional one out.
        outputs: value names; ``""`` leaves an optional one out.
        attributes: ONNX attributes; floats are rounded to float32 as ONNX stores them.
        scope: path of the torch module that the node came from, ``""`` if unknown.
        domain: operator set; ``""`` is ONNX's own.
        overload: which function of several with one name, ``""`` if there is one only.
        extra: members of the document's object that this version does not know, kept as they are.
    """

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, AttributeValue] = field(default_factory=FrozenMapping)
    scope: str = ""
    domain: str = ""
    overload: str = field(default="", kw_only=True)
    extra: Mapping[str, Any] = field(default_factory=FrozenMapping, kw_only=True)

    def __post_init__(self) -> None:
        found = Faults(f"node {self.name!r}")
        found.text(self.name, "/name")
        found.text(self.op_type, "/op")
        found.text(self.scope, "/scope", empty=True)
        found.text(self.overload, "/overload", empty=True)
        _check_domain(found, self.domain)
        for side in ("inputs", "outputs"):
            _check_names(found, self, side, empty=True)
        object.__setattr__(self, "attributes", _attributes(found, self.attributes, "attributes"))
        object.__setattr__(self, "extra", unknown_members(found, self.extra, members.NODE))
        found.raise_if_any()

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The graphs among the attributes, in the order of their names."""
        return graphs_in(self.attributes)

    @property
    def references(self) -> tuple[str, ...]:
        """The parameters that attributes refer to, in the order of the attributes' names."""
        values = (value if isinstance(value, tuple) else (value,) for _, value in sorted(self.attributes.items()))
        return tuple(item.name for items in values for item in items if isinstance(item, ParameterReference))

    @property
    def called(self) -> tuple[str, str, str]:
        """Domain, operator and overload: the key of the function that the node calls, if there is one."""
        return self.domain, self.op_type, self.overload

    @property
    def sources(self) -> tuple[str, ...]:
        """Every name that must have a value before the node runs: its inputs, and what its graphs take from outside."""
        captured = tuple(name for graph in self.graphs for name in graph.captured)
        return self.inputs + captured if captured else self.inputs


@dataclass(frozen=True)
class Graph:
    """A graph within an attribute: the body of an If, Loop or Scan. It sees every value that its node could use.

    Attributes:
        nodes: operators in topological order.
        inputs: values that the operator hands over; ONNX lets their types be unknown.
        outputs: values that it hands back, each the output of one of the nodes, or an input.
        name: of the graph.
        extra: members of the document's object that this version does not know, kept as they are.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    name: str = "main"
    extra: Mapping[str, Any] = field(default_factory=FrozenMapping, kw_only=True)

    def __post_init__(self) -> None:
        found = Faults(f"graph {self.name!r}")
        found.text(self.name, "/name")
        for member, kind in (("nodes", Node), ("inputs", ValueInfo), ("outputs", ValueInfo)):
            _check_items(found, self, member, kind)
        object.__setattr__(self, "extra", unknown_members(found, self.extra, members.SUBGRAPH))
        found.raise_if_any()

    @cached_property
    def captured(self) -> tuple[str, ...]:
        """Names that the graph takes from outside, in the order of their first use."""
        inside = {"", *(value.name for value in self.inputs)}
        found: dict[str, None] = {}
        for node in self.nodes:
            found.update(dict.fromkeys(name for name in node.sources if name not in inside))
            inside.update(node.outputs)
        found.update(dict.fromkeys(value.name for value in self.outputs if value.name not in inside))
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function of the structure, as ONNX's FunctionProto: an operator that is defined by nodes.

    Its nodes see its inputs and, unlike in ONNX, parameters and constants of the structure, where no value of its own
    has that name. ONNX files hold those as constants within the function.

    Attributes:
        name: operator that it defines.
        domain: operator set of that operator.
        overload: tells functions of one name apart.
        inputs: value names.
        outputs: value names.
        nodes: operators in topological order.
        opset: operator set domain -> version, for its nodes.
        attributes: names of attributes that a call must have.
        defaults: attributes that a call may have, with their values otherwise.
        extra: members of the document's object that this version does not know, kept as they are.
    """

    name: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    opset: Mapping[str, int]
    overload: str = ""
    attributes: tuple[str, ...] = ()
    defaults: Mapping[str, AttributeValue] = field(default_factory=FrozenMapping)
    extra: Mapping[str, Any] = field(default_factory=FrozenMapping)

    def __post_init__(self) -> None:
        found = Faults(f"function {self.name!r}")
        found.text(self.name, "/name")
        found.text(self.overload, "/overload", empty=True)
        _check_domain(found, self.domain)
        for side in ("inputs", "outputs", "attributes"):
            _check_names(found, self, side, empty=False)
        _check_items(found, self, "nodes", Node)
        object.__setattr__(self, "opset", mapping_of(found, self.opset, "/opset"))
        object.__setattr__(self, "defaults", _attributes(found, self.defaults, "defaults"))
        object.__setattr__(self, "extra", unknown_members(found, self.extra, members.FUNCTION))
        found.raise_if_any()

    @property
    def key(self) -> tuple[str, str, str]:
        """Domain, name and overload, by which nodes call it."""
        return self.domain, self.name, self.overload

    @cached_property
    def local_names(self) -> frozenset[str]:
        """Names of its own values, those in graphs within it included; they hide names of the structure."""
        nodes = tuple(walk(self.nodes))
        names = {*self.inputs, *(name for node in nodes for name in node.outputs)}
        return frozenset(names | {value.name for node in nodes for graph in node.graphs for value in graph.inputs})

    @property
    def captured(self) -> tuple[str, ...]:
        """Names of parameters and constants that the nodes use, in the order of their first use."""
        used = (name for node in walk(self.nodes) for name in node.inputs)
        return tuple(dict.fromkeys(name for name in used if name and name not in self.local_names))


def graphs_in(attributes: Mapping[str, AttributeValue]) -> tuple[Graph, ...]:
    """The graphs among attributes, in the order of their names."""
    found: list[Graph] = []
    for _, value in sorted(attributes.items()):
        items = value if isinstance(value, tuple) else (value,)
        found += [item for item in items if isinstance(item, Graph)]
    return tuple(found)


def walk(nodes: tuple[Node, ...]) -> Iterator[Node]:
    """The nodes and those of the graphs in their attributes, each before what is in it."""
    for node in nodes:
        yield node
        for graph in node.graphs:
            yield from walk(graph.nodes)


def check_attribute(value: Any) -> AttributeValue:
    """`value` as an ONNX attribute holds it, floats rounded to float32.

    Raises:
        TypeError: no attribute has this type, or a sequence mixes types.
        OverflowError: a number does not fit into int64 or float32.
    """
    if isinstance(value, (AttributeReference, EmptyList)):
        if value.kind not in KINDS or (isinstance(value, EmptyList) and not value.kind.endswith("S")):
            what = "a type of lists" if isinstance(value, EmptyList) else "a type"
            raise TypeError(f"{value.kind!r:.40} is not {what} of ONNX attributes")
        return value
    if isinstance(value, tuple):
        types = set(map(type, value))
        if ParameterReference in types and len({getattr(item, "sparse", False) for item in value}) > 1:
            raise TypeError("a list holds dense tensors or sparse ones")
        if len({_ALIKE.get(found, found) for found in types}) > 1:
            raise TypeError(f"{value!r:.60} mixes types")
        if types == {float}:
            return _rounded(value)
        if types == {int} and min(value) >= -(2**63) and max(value) < 2**63:
            return value
        return tuple(_check_single(item) for item in value)  # type: ignore[return-value]  # one type
    return _check_single(value)


def _check_single(value: Any) -> Single:
    if type(value) is float:
        return round_to_float32(value)
    if type(value) is int:
        if not -(2**63) <= value < 2**63:
            raise OverflowError(f"{value} does not fit into int64")
        return value
    if isinstance(value, (str, bytes, Tensor, Graph, TypeInfo, ParameterReference)):
        return value
    raise TypeError(
        f"{value!r:.60} is no ONNX attribute: use an int, float, str, bytes, Tensor, Graph, TypeInfo, "
        "ParameterReference, or a list of one of them"
    )


_ALIKE = {bytes: str, ParameterReference: Tensor}
"""Types that may stand in one list."""


def _rounded(values: tuple[float, ...]) -> tuple[float, ...]:
    """All of them rounded to float32 at once.

    Raises:
        OverflowError: one is finite but larger than any float32.
    """
    try:
        return struct.unpack(f"<{len(values)}f", struct.pack(f"<{len(values)}f", *values))
    except OverflowError as error:
        raise OverflowError("a number does not fit into float32") from error


def round_to_float32(value: float) -> float:
    """The nearest float32, as a Python float.

    Raises:
        OverflowError: it is finite but larger than any float32.
    """
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError as error:
        raise OverflowError(f"{value} does not fit into float32") from error


def _attributes(found: Faults, values: object, member: str) -> FrozenMapping[AttributeValue]:
    checked = {}
    for name, value in mapping_of(found, values, f"/{member}").items():
        try:
            checked[name] = check_attribute(value)
        except (TypeError, OverflowError) as error:
            found.add("OPERATOR_ATTRIBUTE", pointer(member, name), str(error))
    return FrozenMapping(checked)


def _check_domain(found: Faults, domain: str) -> None:
    found.text(domain, "/domain", empty=True)
    if domain == "ai.onnx":
        found.add("INVALID_VALUE", "/domain", 'the domain of ONNX itself is written "", not "ai.onnx"')


def _check_names(found: Faults, owner: object, member: str, *, empty: bool) -> None:
    names = sequence_of(getattr(owner, member))
    object.__setattr__(owner, member, names)
    for position, name in enumerate(names):
        found.text(name, pointer(member, position), empty=empty)


def _check_items(found: Faults, owner: object, member: str, kind: type) -> None:
    items = sequence_of(getattr(owner, member))
    object.__setattr__(owner, member, items)
    if not all(isinstance(item, kind) for item in items):
        found.add("TYPE_MISMATCH", f"/{member}", f"must hold {kind.__name__} objects only")
