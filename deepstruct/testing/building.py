"""A random structure while it is being built, for `structures`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hypothesis import strategies as st

from deepstruct.mask import Mask
from deepstruct.node import AttributeValue, Function, Node
from deepstruct.sparsity_structure import SparsityStructure
from deepstruct.structure import Parameter, Structure
from deepstruct.tensor import Tensor
from deepstruct.testing.values import UNKNOWN_MEMBERS, USER_DATA, choose, draw_mask, maybe
from deepstruct.value_info import Dimension, ValueInfo

_MOST_INPUTS = 3
_EXTENTS = st.lists(st.integers(1, 9), min_size=3, max_size=3, unique=True)


class Value(NamedTuple):
    """A value that operators may take."""

    name: str
    shape: tuple[Dimension, ...]


class Building:
    """A structure that grows by one layer after the other."""

    def __init__(self, draw: st.DrawFn, dtype: str, opset: int, extra: bool) -> None:
        self.draw = draw
        self.dtype = dtype
        self.opset = {"": opset}
        self.nodes: list[Node] = []
        self.inputs: list[ValueInfo] = []
        self.parameters: list[Parameter] = []
        self.constants: dict[str, Tensor] = {}
        self.functions: list[Function] = []
        self.values: list[Value] = []
        self.scope = ""
        self._extra = extra
        self._names = 0
        self._batch = choose(draw, ["batch", None, 2])
        self._extents = draw(_EXTENTS)

    def name(self, kind: str) -> str:
        """A new name in the scope of the present layer."""
        self._names += 1
        return f"{self.scope}.{kind}{self._names}" if self.scope else f"{kind}{self._names}"

    def extra(self) -> Mapping[str, Any]:
        """Unknown members, if there may be any."""
        return self.draw(UNKNOWN_MEMBERS) if self._extra and maybe(self.draw) else {}

    def input(self, dtype: str, shape: tuple[Dimension, ...]) -> Value:
        """A new input of the graph."""
        value = Value(self.name("in"), shape)
        self.inputs.append(ValueInfo(value.name, dtype, shape, extra=self.extra()))
        return value

    def value(self, *ranks: int) -> Value:
        """A value of one of some ranks that is there already, the latest first, or a new input."""
        found: list[Value | None] = [value for value in reversed(self.values) if len(value.shape) in ranks]
        if not found or len(self.inputs) < _MOST_INPUTS:
            found.append(None)
        chosen = choose(self.draw, found)
        if chosen is None:
            shape: tuple[Dimension, ...] = (self._batch, self.extent())
            if ranks[0] == 3:
                shape = (choose(self.draw, (2, 1, 3)), *shape)
            if ranks[0] == 4:
                shape = (*shape, *choose(self.draw, [(7, 5), (4, 6)]))
            chosen = self.input(self.dtype, shape)
            self.values.append(chosen)
        return chosen

    def extent(self, *others: Dimension | float) -> int:
        """Number of features of a layer, other than those given."""
        return choose(self.draw, [n for n in self._extents if n not in others])

    def parameter(self, kind: str, shape: tuple[int, ...], dtype: str | None = None) -> str:
        """Name of a new parameter."""
        mask = draw_mask(self.draw, shape) if maybe(self.draw) else None
        claim = self._claim(mask) if mask is not None and shape and self._extra else None
        parameter = Parameter(
            self.name(kind), dtype or self.dtype, shape, mask, sparsity_structure=claim, extra=self.extra()
        )
        self.parameters.append(parameter)
        return parameter.name

    def _claim(self, mask: Mask) -> SparsityStructure | None:
        """A claim that a mask fulfils, if one of those that are tried is true."""
        n, m = choose(self.draw, ((2, 4), (1, 2), (3, 3)))
        claim = SparsityStructure(n, m, choose(self.draw, range(len(mask.shape))))
        return None if mask.is_full or any(claim.faults(mask.shape, mask)) else claim

    def constant(self, tensor: Tensor) -> str:
        """Name of a new constant."""
        name = self.name("constant")
        self.constants[name] = tensor
        return name

    def node(self, op: str, inputs: tuple[str, ...], shape: tuple[Dimension, ...], /, **attributes: Any) -> None:
        """Adds an operator whose output has a shape."""
        value = Value(self.name("v"), shape)
        self.append(self.make(op, inputs, (value.name,), attributes), value)

    def make(
        self,
        op: str,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        attributes: Mapping[str, AttributeValue],
        domain: str = "",
        overload: str = "",
    ) -> Node:
        """A node with a name of its own."""
        name = self.name(op.lower())
        return Node(name, op, inputs, outputs, attributes, self.scope, domain, overload=overload, extra=self.extra())

    def append(self, node: Node, value: Value) -> None:
        """Adds a node and the value that it makes."""
        self.nodes.append(node)
        self.values.append(value)

    def typed(self, value: Value) -> ValueInfo:
        """A value of the network's dtype with what is known of it."""
        return ValueInfo(value.name, self.dtype, value.shape, extra=self.extra())

    def structure(self) -> Structure:
        """What has been built, its outputs the values that nothing takes, and some that something takes."""
        inputs = {value.name for value in self.inputs}
        taken = {name for node in self.nodes for name in node.sources}
        outputs = [value for value in self.values if value.name not in taken]
        within = [value for value in self.values if value.name in taken - inputs]
        if within and maybe(self.draw):
            outputs.append(choose(self.draw, within))
        return Structure(
            name=choose(self.draw, ["main", "a/b", "größer"]),
            nodes=tuple(self.nodes),
            inputs=tuple(self.inputs),
            outputs=tuple(self.typed(value) for value in outputs),
            parameters=tuple(self.parameters),
            constants=self.constants,
            functions=tuple(self.functions),
            opset=self.opset,
            attributes=self.draw(USER_DATA),
            extra=self.extra(),
        )
