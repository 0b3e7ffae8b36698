"""Structure: what a network is, without its numbers. A value: immutable, hashable, valid by construction.

Operators are ONNX operators with ONNX semantics (https://onnx.ai/onnx/operators/). Rules that look at more than
one object are in `checks`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from deepstruct import checks, dtypes, members
from deepstruct.construction import Faults, mapping_of, not_json, require_nested, sequence_of, unknown_members
from deepstruct.errors import FaultyError, bounded, pointer
from deepstruct.frozen import FrozenMapping
from deepstruct.mask import Mask, check_shape
from deepstruct.node import (
    AttributeReference,
    AttributeValue,
    EmptyList,
    Function,
    Graph,
    Node,
    ParameterReference,
    check_attribute,
    round_to_float32,
    walk,
)
from deepstruct.sparsity_structure import SparsityStructure
from deepstruct.tensor import Tensor
from deepstruct.value_info import Dimension, TypeInfo, ValueInfo

__all__ = [
    "AttributeReference",
    "AttributeValue",
    "Dimension",
    "EmptyList",
    "Function",
    "Graph",
    "Node",
    "Parameter",
    "ParameterReference",
    "SparsityStructure",
    "Structure",
    "TypeInfo",
    "ValueInfo",
    "check_attribute",
    "round_to_float32",
    "walk",
]


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
    sparsity_structure: SparsityStructure | None = field(default=None, kw_only=True)
    extra: Mapping[str, Any] = field(default_factory=FrozenMapping, kw_only=True)

    def __post_init__(self) -> None:
        found = Faults(f"parameter {self.name!r}")
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
        if self.sparsity_structure is not None and not found.faults:
            self._check_claim(found, self.sparsity_structure)
        object.__setattr__(self, "extra", unknown_members(found, self.extra, members.PARAMETER - {"mask"}))
        require_nested(found, self.extra, "mask", members.MASK)
        found.raise_if_any()

    def _check_claim(self, found: Faults, claim: object) -> None:
        place = "/mask/sparsity_structure"
        if not isinstance(claim, SparsityStructure):
            found.add("TYPE_MISMATCH", place, f"must be a SparsityStructure, not {type(claim).__name__}")
        else:
            found.faults += [fault.under(place) for fault in claim.faults(self.shape, self.mask)]

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


_RELATED = ("nodes", "inputs", "outputs", "parameters", "constants", "functions", "opset")


@dataclass(frozen=True, kw_only=True)
class Structure:
    """A network: operators, the values between them, and parameters with masks but without numbers.

    Attributes:
        nodes: operators in topological order, as ONNX demands of a graph.
        inputs: graph inputs.
        outputs: graph outputs.
        parameters: in any order; kept in the order in which the nodes use them.
        constants: name -> small tensor that is part of the structure (shapes, axes, indices).
        functions: operators that are defined by nodes.
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
    functions: tuple[Function, ...] = ()
    opset: Mapping[str, int] = field(default_factory=lambda: FrozenMapping({"": 20}))
    name: str = "main"
    attributes: Mapping[str, Any] = field(default_factory=FrozenMapping)
    extra: Mapping[str, Any] = field(default_factory=FrozenMapping)

    def __post_init__(self) -> None:
        found = Faults("structure")
        found.text(self.name, "/graph/name")
        kinds: list[tuple[str, type, str]] = [
            ("nodes", Node, "/graph/nodes"),
            ("inputs", ValueInfo, "/graph/inputs"),
            ("outputs", ValueInfo, "/graph/outputs"),
            ("functions", Function, "/graph/functions"),
            ("parameters", Parameter, "/parameters"),
        ]
        for member, kind, place in kinds:
            items = sequence_of(getattr(self, member))
            object.__setattr__(self, member, items)
            if not all(isinstance(item, kind) for item in items):
                found.add("TYPE_MISMATCH", place, f"must hold {kind.__name__} objects only")
        mappings = [
            ("constants", "/graph/constants"),
            ("opset", "/graph/opset"),
            ("attributes", "/graph/attributes"),
        ]
        for member, place in mappings:
            object.__setattr__(self, member, mapping_of(found, getattr(self, member), place))
        known = members.ROOT - members.CARRIED - {"graph", "weights"}
        object.__setattr__(self, "extra", unknown_members(found, self.extra, known))
        require_nested(found, self.extra, "graph", members.GRAPH)
        require_nested(found, self.extra, "weights", members.WEIGHTS)
        for place, message in not_json(self.attributes, "/graph/attributes"):
            found.add("ATTRIBUTE_VALUE", place, message)
        for name in self.constants:
            found.text(name, pointer("graph", "constants", name))
        if not all(isinstance(constant, Tensor) for constant in self.constants.values()):
            found.add("TYPE_MISMATCH", "/graph/constants", "must hold Tensor objects only")
        found.raise_if_any()
        parts = {member: getattr(self, member) for member in _RELATED}
        found.faults += bounded(checks.faults(checks.Draft(**parts)))
        found.raise_if_any()
        object.__setattr__(self, "parameters", self._in_order_of_use())

    @cached_property
    def used(self) -> frozenset[str]:
        """Names of values, parameters and constants that a node takes or that leave the graph."""
        return frozenset({*self._uses(), *(value.name for value in self.outputs)})

    def _in_order_of_use(self) -> tuple[Parameter, ...]:
        order: dict[str, int] = {}
        for name in self._uses():
            order.setdefault(name, len(order))
        last = len(order)
        return tuple(sorted(self.parameters, key=lambda p: (order.get(p.name, last), p.name)))

    def _uses(self) -> Iterator[str]:
        """Every name that a node uses, wherever the node stands."""
        for node in walk(self.nodes):
            yield from node.inputs
            yield from node.references
        for function in self.functions:
            for node in walk(function.nodes):
                yield from node.inputs
                yield from node.references

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
