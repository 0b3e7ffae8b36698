"""Structure: what a network is, without its numbers. A value: immutable, hashable, valid by construction.

Operators are ONNX operators with ONNX semantics (https://onnx.ai/onnx/operators/). Rules that look at more than
one object are in `checks`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from deepstruct import checks, dtypes, members
from deepstruct.errors import Fault, FaultyError, StructureError, pointer
from deepstruct.frozen import FrozenMapping, check_text
from deepstruct.mask import Mask, check_shape
from deepstruct.tensor import Tensor

AttributeValue = int | float | str | Tensor | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]
Dimension = int | str | None

_DEEPEST = 32  # levels of nested attributes; documents bound their own nesting (`deepstruct.limits`)


class _Faults:
    """Collects the faults of one object under construction."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.faults: list[Fault] = []

    def add(self, code: str, place: str, message: str) -> None:
        self.faults.append(Fault(code, place, message))

    def text(self, value: object, place: str, *, empty: bool = False) -> None:
        """Demand a string that UTF-8 can hold."""
        if not isinstance(value, str) or (not value and not empty):
            self.add("TYPE_MISMATCH", place, f"must be a non-empty string, not {value!r:.60}")
        else:
            try:
                check_text(value)
            except TypeError as error:
                self.add("INVALID_VALUE", place, str(error))

    def raise_if_any(self) -> None:
        if self.faults:
            raise StructureError(self.subject, self.faults)


def _names(values: object) -> tuple[Any, ...]:
    """`values` as a tuple, or the value itself alone where it is no sequence, for the checks to refuse."""
    if isinstance(values, Sequence) and not isinstance(values, (str, bytes)):
        return tuple(values)
    return (values,)


def _mapping(found: _Faults, value: object, place: str) -> FrozenMapping[Any]:
    if not isinstance(value, Mapping):
        found.add("TYPE_MISMATCH", place, f"must be a mapping, not {type(value).__name__}")
        return FrozenMapping()
    try:
        return FrozenMapping(value)
    except (TypeError, RecursionError) as error:
        found.add("TYPE_MISMATCH", place, str(error))
        return FrozenMapping()


def _unknown_members(found: _Faults, extra: object, known: Collection[str], place: str = "") -> FrozenMapping[Any]:
    """Members that a document's object has beyond the known ones."""
    mapping = _mapping(found, extra, place)
    for name in mapping.keys() & known:
        found.add("INVALID_VALUE", place + pointer(name), f"extra holds unknown members only, and {name!r} is known")
    for at, message in _not_json(mapping, place):
        found.add("ATTRIBUTE_VALUE", at, message)
    return mapping


def _require_nested(found: _Faults, extra: Mapping[str, Any], name: str, known: Collection[str]) -> None:
    if name in extra:
        _unknown_members(found, extra[name], known, pointer(name))


def _not_json(value: Any, place: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Places of what a JSON document could not hold exactly, with the reason."""
    if depth > _DEEPEST:
        yield place, f"attributes are nested more than {_DEEPEST} levels deep"
    elif isinstance(value, FrozenMapping):
        for key, item in value.items():
            yield from _not_json(item, place + pointer(key), depth + 1)
    elif isinstance(value, tuple):
        for position, item in enumerate(value):
            yield from _not_json(item, place + pointer(position), depth + 1)
    elif type(value) is int and abs(value) >= 2**53:
        yield place, f"{value} is beyond 2^53 - 1, the largest integer every JSON reader holds exactly"
    elif type(value) is float and not math.isfinite(value):
        yield place, f"{value} has no JSON form"
    elif value is not None and type(value) not in (bool, int, float, str):
        yield place, f"a {type(value).__name__} has no JSON form"


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """Type of a graph input or output, as ONNX's ValueInfoProto.

    Attributes:
        name: value name.
        dtype: one of `deepstruct.dtypes.DTYPES`.
        shape: extents; a string names a dimension that is open (``"batch"``), None one that is unknown.
            None instead of the list: the rank is unknown.
        extra: members of the document's object that this version does not know, kept as they are.
    """

    name: str
    dtype: str
    shape: tuple[Dimension, ...] | None
    extra: Mapping[str, Any] = field(default_factory=FrozenMapping, kw_only=True)

    def __post_init__(self) -> None:
        found = _Faults(f"value {self.name!r}")
        found.text(self.name, "/name")
        if self.dtype not in dtypes.DTYPES:
            found.add("UNKNOWN_DTYPE", "/dtype", f"{self.dtype!r:.40} is not a known dtype")
        if self.shape is not None:
            dims = _names(self.shape)
            object.__setattr__(self, "shape", dims)
            for position, dim in enumerate(dims):
                place = pointer("shape", position)
                if isinstance(dim, str):
                    found.text(dim, place)
                elif dim is not None and (type(dim) is not int or not 0 <= dim < 2**53):
                    found.add("TYPE_MISMATCH", place, f"a dimension is an integer, a name or null, not {dim!r:.40}")
        object.__setattr__(self, "extra", _unknown_members(found, self.extra, members.VALUE))
        found.raise_if_any()


@dataclass(frozen=True, slots=True)
class Node:
    """One ONNX operator.

    Attributes:
        name: unique among the nodes of a structure.
        op_type: operator of the ONNX specification, or of `domain`.
        inputs: value, parameter or constant names in the operator's order; ``""`` leaves an optional one out.
        outputs: value names; ``""`` leaves an optional one out.
        attributes: ONNX attributes; floats are rounded to float32 as ONNX stores them.
        domain: operator set; ``""`` is ONNX's own.
        scope: path of the torch module that the node came from, ``""`` if unknown.
        extra: members of the document's object that this version does not know, kept as they are.
    """

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, AttributeValue] = field(default_factory=FrozenMapping)
    scope: str = ""
    domain: str = ""
    extra: Mapping[str, Any] = field(default_factory=FrozenMapping, kw_only=True)

    def __post_init__(self) -> None:
        found = _Faults(f"node {self.name!r}")
        found.text(self.name, "/name")
        found.text(self.op_type, "/op")
        found.text(self.scope, "/scope", empty=True)
        found.text(self.domain, "/domain", empty=True)
        if self.domain == "ai.onnx":
            found.add("INVALID_VALUE", "/domain", 'the domain of ONNX itself is written "", not "ai.onnx"')
        for side in ("inputs", "outputs"):
            values = _names(getattr(self, side))
            object.__setattr__(self, side, values)
            for position, value in enumerate(values):
                found.text(value, pointer(side, position), empty=True)
        attributes = {}
        for name, value in _mapping(found, self.attributes, "/attributes").items():
            try:
                attributes[name] = check_attribute(value)
            except (TypeError, OverflowError) as error:
                found.add("OPERATOR_ATTRIBUTE", pointer("attributes", name), str(error))
        object.__setattr__(self, "attributes", FrozenMapping(attributes))
        object.__setattr__(self, "extra", _unknown_members(found, self.extra, members.NODE))
        found.raise_if_any()


def check_attribute(value: Any) -> AttributeValue:
    """`value` as an ONNX attribute holds it, floats rounded to float32.

    Raises:
        TypeError: it is no int, float, str, Tensor or homogeneous sequence of ints, floats or strings.
        OverflowError: a number does not fit into int64 or float32.
    """
    if type(value) is float:
        return round_to_float32(value)
    if type(value) is int:
        if not -(2**63) <= value < 2**63:
            raise OverflowError(f"{value} does not fit into int64")
        return value
    if isinstance(value, (str, Tensor)):
        return value
    if isinstance(value, tuple) and {type(item) for item in value} in (set(), {int}, {float}, {str}):
        return tuple(check_attribute(item) for item in value)  # type: ignore[return-value]  # one type
    raise TypeError(
        f"{value!r:.60} is no ONNX attribute: use an int, float, str, Tensor, or a list of one of the first three"
    )


def round_to_float32(value: float) -> float:
    """The nearest float32, as a Python float.

    Raises:
        OverflowError: it is finite but larger than any float32.
    """
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError as error:
        raise OverflowError(f"{value} does not fit into float32") from error


@dataclass(frozen=True, slots=True)
class Parameter:
    """A named tensor without its numbers.

    Attributes:
        name: the torch ``state_dict`` key where the source is torch.
        dtype: one of `deepstruct.dtypes.DTYPES`.
        shape: extents.
        mask: entries that exist, in the parameter's own orientation; None if all do. A full mask is the same
            statement and becomes None.
        extra: members of the document's object that this version does not know, kept as they are.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    mask: Mask | None = None
    extra: Mapping[str, Any] = field(default_factory=FrozenMapping, kw_only=True)

    def __post_init__(self) -> None:
        found = _Faults(f"parameter {self.name!r}")
        found.text(self.name, "")
        if self.dtype not in dtypes.DTYPES:
            found.add("UNKNOWN_DTYPE", "/dtype", f"{self.dtype!r:.40} is not a known dtype")
        try:
            object.__setattr__(self, "shape", check_shape(self.shape))
        except FaultyError as error:
            found.faults += [fault.under("/shape") for fault in error.faults]
            found.raise_if_any()
        if self.mask is not None:
            if not isinstance(self.mask, Mask):
                found.add("TYPE_MISMATCH", "/mask", f"must be a Mask, not {type(self.mask).__name__}")
            elif self.mask.shape != self.shape:
                found.add(
                    "MASK_SHAPE_MISMATCH",
                    "/mask",
                    f"the mask has shape {list(self.mask.shape)}, the parameter {list(self.shape)}",
                )
            elif self.mask.is_full:
                object.__setattr__(self, "mask", None)
        object.__setattr__(self, "extra", _unknown_members(found, self.extra, members.PARAMETER - {"mask"}))
        _require_nested(found, self.extra, "mask", members.MASK)
        found.raise_if_any()

    @property
    def size(self) -> int:
        """Number of entries, existing or not."""
        return math.prod(self.shape)

    @property
    def nnz(self) -> int:
        """Number of entries that exist."""
        return self.size if self.mask is None else self.mask.nnz

    @property
    def density(self) -> float:
        """``nnz / size`` in [0, 1]."""
        return 1.0 if self.mask is None else self.mask.density


@dataclass(frozen=True, kw_only=True)
class Structure:
    """A network: operators, the values between them, and parameters with masks but without numbers.

    Attributes:
        nodes: operators in topological order, as ONNX demands of a graph.
        inputs: graph inputs.
        outputs: graph outputs.
        parameters: in any order; kept in the order in which the nodes use them.
        constants: name -> small tensor that is part of the structure (shapes, axes, indices).
        opset: operator set domain -> version.
        name: of the graph.
        attributes: free user data (JSON values); ``family`` names the torch family to rebuild, if any.
        extra: members of the document and of its ``graph`` and ``weights`` objects that this version does not
            know, nested as in the document, kept as they are.

    Raises:
        StructureError: with every fault that was found; pointers are those of the document.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    parameters: tuple[Parameter, ...] = ()
    constants: Mapping[str, Tensor] = field(default_factory=FrozenMapping)
    opset: Mapping[str, int] = field(default_factory=lambda: FrozenMapping({"": 20}))
    name: str = "main"
    attributes: Mapping[str, Any] = field(default_factory=FrozenMapping)
    extra: Mapping[str, Any] = field(default_factory=FrozenMapping)

    def __post_init__(self) -> None:
        found = _Faults("structure")
        found.text(self.name, "/graph/name")
        kinds: list[tuple[str, type, str]] = [
            ("nodes", Node, "/graph/nodes"),
            ("inputs", ValueInfo, "/graph/inputs"),
            ("outputs", ValueInfo, "/graph/outputs"),
            ("parameters", Parameter, "/parameters"),
        ]
        for member, kind, place in kinds:
            items = _names(getattr(self, member))
            object.__setattr__(self, member, items)
            if not all(isinstance(item, kind) for item in items):
                found.add("TYPE_MISMATCH", place, f"must hold {kind.__name__} objects only")
        mappings = [
            ("constants", "/graph/constants"),
            ("opset", "/graph/opset"),
            ("attributes", "/graph/attributes"),
        ]
        for member, place in mappings:
            object.__setattr__(self, member, _mapping(found, getattr(self, member), place))
        known = members.ROOT - members.CARRIED - {"graph", "weights"}
        object.__setattr__(self, "extra", _unknown_members(found, self.extra, known))
        _require_nested(found, self.extra, "graph", members.GRAPH)
        _require_nested(found, self.extra, "weights", members.WEIGHTS)
        for place, message in _not_json(self.attributes, "/graph/attributes"):
            found.add("ATTRIBUTE_VALUE", place, message)
        for name in self.constants:
            found.text(name, pointer("graph", "constants", name))
        if not all(isinstance(constant, Tensor) for constant in self.constants.values()):
            found.add("TYPE_MISMATCH", "/graph/constants", "must hold Tensor objects only")
        found.raise_if_any()
        found.faults += checks.faults(self)
        found.raise_if_any()
        object.__setattr__(self, "parameters", self._in_order_of_use())

    def _in_order_of_use(self) -> tuple[Parameter, ...]:
        order: dict[str, int] = {}
        for node in self.nodes:
            for name in node.inputs:
                order.setdefault(name, len(order))
        last = len(order)
        return tuple(sorted(self.parameters, key=lambda p: (order.get(p.name, last), p.name)))

    @cached_property
    def _by_name(self) -> dict[str, Parameter]:
        return {parameter.name: parameter for parameter in self.parameters}

    def parameter(self, name: str) -> Parameter:
        """The parameter called `name`.

        Raises:
            KeyError: there is none.
        """
        return self._by_name[name]

    @property
    def size(self) -> int:
        """Entries of all parameters together, existing or not."""
        return sum(parameter.size for parameter in self.parameters)

    @property
    def nnz(self) -> int:
        """Entries of all parameters that exist."""
        return sum(parameter.nnz for parameter in self.parameters)

    @property
    def density(self) -> float:
        """``nnz / size`` in [0, 1]; 1.0 without parameters."""
        return self.nnz / self.size if self.size else 1.0
