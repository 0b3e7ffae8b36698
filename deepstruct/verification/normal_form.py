"""The nodes of a graph without those that do nothing or the same again, and which values are fixed.

Each of these rewrites is exact, whatever the inputs are:

============================================  ========================================================
what                                          becomes
============================================  ========================================================
Identity; Concat, Sum, Max or Min of one      its input
Dropout that does not train, without a mask   its input
Cast to the dtype that its input has          its input
Transpose that moves no axis                  its input
Transpose of a Transpose                      one Transpose
constants with the same bits                  the first of them
nodes with the same inputs and attributes     the first of them, unless they are random
operators that reshape, and Expand, to the    the value that has this shape already
shape that was there before
nodes that reach no output                    nothing
============================================  ========================================================

The last but one takes extents that are fixed (`statics`).

A value that depends on no graph input, and that no random or unknown operator makes, is a *leaf*: a parameter, a
constant, or derived from such.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx

from deepstruct import dtypes
from deepstruct.frozen import FrozenMapping
from deepstruct.structure import AttributeValue, Graph, Node, ParameterReference, Structure, ValueInfo
from deepstruct.tensor import Tensor
from deepstruct.verification import meaning
from deepstruct.verification.statics import Statics, extents

_OF_ONE = frozenset({"Concat", "Identity", "Max", "Min", "Sum"})


@dataclass(frozen=True)
class Leaf:
    """What is known of a tensor that depends on no graph input.

    Attributes:
        dtype: None if it is unknown.
        shape: None if it is unknown.
        tensor: its elements, if they are part of the structure.
        is_zero: each of its entries is known to be 0, since they are all masked or part of the structure.
        stored: it is a parameter or a constant, not computed from such.
    """

    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    tensor: Tensor | None = None
    is_zero: bool = False
    stored: bool = False


MOST_ELEMENTS = 2**26
"""Of a fixed tensor that is computed, unless the tensors that it is computed from have more."""


class NormalForm:
    """A graph, or a graph within a node, in normal form.

    Attributes:
        nodes: those that reach an output, leaves' own included, in topological order. Names of values are replaced by
            those of the values that they are.
        inputs: names.
        outputs: names of the values that the outputs are.
        leaves: fixed values, by name.
        makers: value -> position among `nodes`, and among the outputs of that node.
        uses: value -> how many inputs of nodes, graphs within nodes, and outputs it is.
        opset: operator set domain -> version.
        shapes: value -> extents, where the rank is known.
        excessive: fixed values that are too large to be computed.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        inputs: Sequence[ValueInfo],
        outputs: Sequence[ValueInfo],
        opset: Mapping[str, int],
        leaves: Mapping[str, Leaf] | None = None,
        statics: Statics = Statics(),  # noqa: B008 - immutable
    ) -> None:
        """The normal form of nodes; values within a graph of a node are no leaves, so that `leaves` is None there."""
        self.opset = opset
        self.shapes = statics.shapes
        self.excessive: list[str] = []
        self._tensors = statics.tensors
        self._origins: dict[str, str] = {}
        self.inputs = tuple(value.name for value in inputs)
        self._inputs = frozenset(self.inputs)
        self._attributes: dict[str, dict[str, AttributeValue]] = {}
        self.leaves = dict(leaves or {})
        self._names: dict[str, str] = {}
        self._dtypes = {value.name: value.dtype for value in inputs if not value.containers}
        self._dtypes |= {name: leaf.dtype for name, leaf in self.leaves.items()}
        self._merge_constants()
        self._used = {name for node in nodes for name in node.sources if name} | {value.name for value in outputs}
        self._seen: dict[Hashable, Node] = {}
        self._transposes: dict[str, Node] = {}
        kept = [found for node in nodes if (found := self._kept(node, leaves is not None)) is not None]
        self.outputs = tuple(self._names.get(value.name, value.name) for value in outputs)
        self.nodes = tuple(_alive(kept, self.outputs))
        self.makers = {
            name: (position, number)
            for position, node in enumerate(self.nodes)
            for number, name in enumerate(node.outputs)
            if name
        }
        self.uses = Counter(name for node in self.nodes for name in (*node.sources, *node.references))
        self.uses.update(self.outputs)

    @classmethod
    def of_structure(cls, structure: Structure, statics: Statics) -> NormalForm:
        """The normal form of a whole structure, of which some shapes and integers are fixed."""
        leaves = {p.name: Leaf(p.dtype, p.shape, None, p.nnz == 0, True) for p in structure.parameters}
        leaves |= {name: Leaf(t.dtype, t.shape, t, not any(t.data), True) for name, t in structure.constants.items()}
        return cls(structure.nodes, structure.inputs, structure.outputs, structure.opset, leaves, statics)

    @classmethod
    def of_graph(cls, graph: Graph, opset: Mapping[str, int]) -> NormalForm:
        """The normal form of a graph within a node."""
        return cls(graph.nodes, graph.inputs, graph.outputs, opset)

    def version(self, node: Node) -> int:
        """The version of the operator set that the node is from; 0 if none is given."""
        return self.opset.get(node.domain, 0)

    def maker(self, name: str) -> Node | None:
        """The node that makes a value; None if none does."""
        return self.nodes[self.makers[name][0]] if name in self.makers else None

    def is_outside(self, name: str) -> bool:
        """Whether a value is none of the graph's own, but one that it sees as a graph within a node."""
        return bool(name) and not (name in self.makers or name in self.leaves or name in self._inputs)

    def dtype(self, name: str) -> str | None:
        """The dtype of a value, None if it is unknown."""
        return self._dtypes.get(name)

    def attributes(self, node: Node) -> dict[str, AttributeValue]:
        """The attributes of a node that say something (`meaning.plain_attributes`)."""
        if node.name not in self._attributes:
            self._attributes[node.name] = self._plain_attributes(node)
        return self._attributes[node.name]

    def _plain_attributes(self, node: Node) -> dict[str, AttributeValue]:
        position = meaning.weight_position(node)
        weight = self.leaves.get(node.inputs[position]) if position is not None else None
        used = [number for number, name in enumerate(node.outputs, 1) if self.uses[name]]
        shape = None if weight is None else weight.shape
        return meaning.plain_attributes(node, self.version(node), shape, max(used, default=1))

    def derivation(self, name: str) -> tuple[Node, ...]:
        """The nodes that compute a leaf, in topological order; none for a parameter or a constant."""
        return tuple(self.nodes[position] for position in self.behind([name], ()))

    def behind(self, names: Iterable[str], known: Container[str]) -> list[int]:
        """Positions, ascending, of the nodes that compute values from those that are `known`."""
        found: set[int] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name in known or name not in self.makers or self.makers[name][0] in found:
                continue
            position = self.makers[name][0]
            found.add(position)
            todo.extend(self.nodes[position].sources)
        return sorted(found)

    def _merge_constants(self) -> None:
        first: dict[Tensor, str] = {}
        for name, leaf in self.leaves.items():
            if leaf.tensor is not None:
                self._names[name] = first.setdefault(leaf.tensor, name)

    def _kept(self, node: Node, derive: bool) -> Node | None:
        """The node in normal form; None if each of its outputs is a value that is there already."""
        node = self._merged(self._renamed(node))
        same = self._same(node)
        if same is not None:
            self._names[node.outputs[0]] = same
            return None
        earlier = self._earlier(node)
        if earlier is not None:
            self._names.update((name, first) for name, first in zip(node.outputs, earlier.outputs, strict=True) if name)
            return None
        self._note_dtype(node)
        if node.op_type == "Transpose" and not node.domain:
            self._transposes[node.outputs[0]] = node
        if derive and meaning.is_derivable(node) and all(not name or name in self.leaves for name in node.sources):
            for name in filter(None, node.outputs):
                self.leaves[name] = self._derived(node, name)
                if self._is_excessive(node, name):
                    self.excessive.append(name)
        return node

    def _is_excessive(self, node: Node, name: str) -> bool:
        """Whether a fixed value has more elements than should be computed."""
        shape = self.leaves[name].shape
        if shape is None:
            return node.op_type in meaning.GROWING
        sources = sum(math.prod(self.leaves[source].shape or ()) for source in node.sources if source)
        return math.prod(shape) > max(MOST_ELEMENTS, sources)

    def _renamed(self, node: Node) -> Node:
        inputs = tuple(self._names.get(name, name) for name in node.inputs)
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        attributes = node.attributes
        if node.graphs and any(name in self._names for graph in node.graphs for name in graph.captured):
            attributes = FrozenMapping({name: _with_names(v, self._names) for name, v in attributes.items()})
        if inputs == node.inputs and attributes is node.attributes:
            return node
        return replace(node, inputs=inputs, attributes=attributes)

    def _same(self, node: Node) -> str | None:
        """The value that the node's first output is without further ado, its only output that anything can use."""
        if node.domain or not node.outputs or not node.outputs[0] or not self._used.isdisjoint(node.outputs[1:]):
            return None
        if node.op_type == "Constant":
            value = node.attributes.get("value")
            return value.name if isinstance(value, ParameterReference) else None
        first = node.inputs[0] if node.inputs else ""
        if not first:
            return None
        does_nothing = {
            "Dropout": self._is_idle_dropout,
            "Cast": self._is_idle_cast,
            "Transpose": _is_idle_transpose,
        }
        if node.op_type in _OF_ONE:
            return first if len(node.inputs) == 1 else None
        if node.op_type in meaning.RESHAPING or node.op_type == "Expand":
            return self._as_before(node)
        return first if node.op_type in does_nothing and does_nothing[node.op_type](node) else None

    def _as_before(self, node: Node) -> str | None:
        """The value that was given other shapes, and now gets its own again."""
        first = node.inputs[0]
        shape = extents(self.shapes.get(node.outputs[0]))
        origin = first if node.op_type == "Expand" else self._origins.get(first, first)
        self._origins[node.outputs[0]] = node.outputs[0] if node.op_type == "Expand" else origin
        found = (name for name in (first, origin) if shape is not None and self.shapes.get(name) == shape)
        return next(found, None)

    def _is_idle_dropout(self, node: Node) -> bool:
        version = self.version(node)
        if version < 7:
            return bool(node.attributes.get("is_test", 0))
        if version < 12 or len(node.inputs) < 3 or not node.inputs[2]:
            return True
        trains = self.leaves.get(node.inputs[2], Leaf()).tensor
        return trains is not None and trains.data == (False,)

    def _is_idle_cast(self, node: Node) -> bool:
        known = self._dtypes.get(node.inputs[0])
        return known is not None and known == _dtype_name(node.attributes.get("to"))

    def _merged(self, node: Node) -> Node:
        """One Transpose for two that follow one another."""
        before = self._transposes.get(node.inputs[0]) if node.inputs else None
        if node.op_type != "Transpose" or node.domain or before is None:
            return node
        first, second = before.attributes.get("perm"), node.attributes.get("perm")
        rank = len(first if isinstance(first, tuple) else second if isinstance(second, tuple) else ())
        first = first if isinstance(first, tuple) else tuple(range(rank))[::-1]
        second = second if isinstance(second, tuple) else tuple(range(rank))[::-1]
        if not rank or len(first) != len(second):
            return node
        perm: tuple[int, ...] = tuple(first[axis] for axis in second)  # type: ignore[index,misc]  # axes are ints
        return replace(node, inputs=before.inputs, attributes=FrozenMapping({"perm": perm}))

    def _earlier(self, node: Node) -> Node | None:
        """A node before that computes the same."""
        if node.graphs or meaning.is_random(node) or node.op_type in meaning.SEQUENCES:
            return None
        pattern = tuple(bool(name) for name in node.outputs)
        key = (node.domain, node.op_type, node.overload, node.inputs, node.attributes, pattern)
        first = self._seen.setdefault(key, node)
        return None if first is node else first

    def _note_dtype(self, node: Node) -> None:
        if not node.outputs:
            return
        if node.op_type == "Cast" and not node.domain:
            self._dtypes[node.outputs[0]] = _dtype_name(node.attributes.get("to"))
            return
        for position in meaning.result_type_positions(node.domain, node.op_type, self.version(node)):
            if position < len(node.inputs) and (known := self._dtypes.get(node.inputs[position])) is not None:
                self._dtypes[node.outputs[0]] = known
                return

    def _derived(self, node: Node, name: str) -> Leaf:
        tensor = node.attributes.get("value") if node.op_type == "Constant" else None
        tensor = tensor if isinstance(tensor, Tensor) else self._tensors.get(name)
        if tensor is not None:
            return Leaf(tensor.dtype, tensor.shape, tensor, not any(tensor.data))
        source = self.leaves.get(node.inputs[0]) if node.inputs else None
        if node.op_type == "Transpose" and source is not None and source.shape is not None:
            perm = node.attributes.get("perm", tuple(range(len(source.shape)))[::-1])
            if isinstance(perm, tuple) and sorted(perm) == list(range(len(source.shape))):  # type: ignore[type-var]  # ints
                shape = tuple(source.shape[axis] for axis in perm)  # type: ignore[index]  # ints
                return Leaf(source.dtype, shape, None, source.is_zero)
        dtype = self._dtypes.get(node.outputs[0]) if len(node.outputs) == 1 else None
        return Leaf(dtype, extents(self.shapes.get(name)))


def _is_idle_transpose(node: Node) -> bool:
    perm = node.attributes.get("perm")
    return isinstance(perm, tuple) and perm == tuple(range(len(perm)))


def _dtype_name(number: object) -> str | None:
    """The document's name of an ONNX data type."""
    if not isinstance(number, int) or number not in onnx.TensorProto.DataType.values():
        return None
    name = onnx.TensorProto.DataType.Name(number).lower()
    name = {"float": "float32", "double": "float64"}.get(name, name)
    name = name.replace("float8e", "float8_e").replace("float4e", "float4_e")
    return name if name in dtypes.DTYPES else None


def _with_names(value: AttributeValue, names: Mapping[str, str]) -> AttributeValue:
    """A value of an attribute with other names for what its graphs take from outside."""
    if isinstance(value, tuple):
        return tuple(_with_names(item, names) for item in value)  # type: ignore[return-value]  # of one type
    if not isinstance(value, Graph):
        return value
    names = {name: names[name] for name in value.captured if name in names}
    nodes = [
        replace(
            node,
            inputs=tuple(names.get(name, name) for name in node.inputs),
            attributes=FrozenMapping({name: _with_names(v, names) for name, v in node.attributes.items()}),
        )
        for node in value.nodes
    ]
    return replace(value, nodes=tuple(nodes))


def _alive(nodes: Sequence[Node], outputs: Iterable[str]) -> Iterable[Node]:
    """Those that an output depends on, in order."""
    needed = set(outputs)
    found = []
    for node in reversed(nodes):
        if not needed.isdisjoint(name for name in node.outputs if name):
            found.append(node)
            needed.update(node.sources)
    return reversed(found)
