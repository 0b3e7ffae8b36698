"""Signatures: numbers that two values share if they are computed in the same way, for guesses that are checked."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from deepstruct.frozen import strict_key
from deepstruct.structure import AttributeValue, Graph, Node, ParameterReference
from deepstruct.verification import decompositions, meaning
from deepstruct.verification.normal_form import Leaf, NormalForm
from deepstruct.verification.operands import reading

Numbers = dict[Hashable, int]
"""What was signed -> its number; the same for all values of two graphs."""

_ROUNDS = 3
LeafKey = Callable[[str, Leaf | None], Hashable]


@dataclass(frozen=True)
class Linear:
    """A product with a matrix, and a bias, whether one operator or two.

    Attributes:
        data: value that is multiplied.
        weight: the matrix.
        bias: what is added, ``""`` for nothing.
        transposed: the weight is (target, source), not (source, target).
        positions: of the nodes that compute it, the last one last.
    """

    data: str
    weight: str
    bias: str
    transposed: bool
    positions: tuple[int, ...]


def linear(form: NormalForm, position: int) -> Linear | None:
    """What a node is as a product with a weight that is a leaf; None if it is no such product."""
    node = form.nodes[position]
    if node.domain:
        return None
    if node.op_type == "Gemm":
        attributes = form.attributes(node)
        if attributes.keys() - {"transB"} or node.inputs[1] not in form.leaves:
            return None
        bias = node.inputs[2] if len(node.inputs) > 2 else ""
        if bias and bias not in form.leaves:
            return None
        return Linear(node.inputs[0], node.inputs[1], bias, bool(attributes.get("transB")), (position,))
    if node.op_type == "MatMul":
        data, weight = node.inputs
        shape = form.leaves.get(weight, Leaf()).shape
        known = weight in form.leaves and data not in form.leaves and (shape is None or len(shape) == 2)
        return Linear(data, weight, "", False, (position,)) if known else None
    return _biased(form, position) if node.op_type == "Add" else None


def _biased(form: NormalForm, position: int) -> Linear | None:
    """The sum of a bias and of a product that nothing else uses."""
    for product, bias in (form.nodes[position].inputs, form.nodes[position].inputs[::-1]):
        shape = form.leaves.get(bias, Leaf()).shape
        if bias not in form.leaves or (shape is not None and len(shape) > 2) or form.uses[product] != 1:
            continue
        maker = form.maker(product)
        if maker is None or maker.op_type != "MatMul":
            continue
        before = form.makers[product][0]
        found = linear(form, before)
        if found is not None:
            return Linear(found.data, found.weight, bias, False, (before, position))
    return None


class Signatures:
    """Signatures of one kind of all values of a graph.

    Attributes:
        of: value -> number.
    """

    def __init__(self, form: NormalForm, numbers: Numbers, leaf: LeafKey, *, exact: bool = False) -> None:
        """Signs every value.

        Args:
            form: the graph.
            numbers: of what was signed before; new ones are added.
            leaf: what tells leaves apart, from name and what is known; values that a graph within a node takes from
                outside are given to it, too.
            exact: operators that only reshape differ if shapes do, and a Gemm differs from a MatMul.
        """
        self._form = form
        self._numbers = numbers
        self._leaf = leaf
        self._exact = exact
        self._bases: dict[str, str] = {}
        self.of: dict[str, int] = {}
        for position, name in enumerate(form.inputs):
            self.of[name] = self._number(("input", position))
        for position, node in enumerate(form.nodes):
            fixed = all(not name or name in form.leaves for name in node.outputs)
            key: Hashable = None if fixed else self._key(position, node)
            for output, name in enumerate(node.outputs):
                if name in form.leaves:
                    self.of[name] = self._number(("leaf", leaf(name, form.leaves[name])))
                elif name:
                    self.of[name] = self._number((key, output))

    def __getitem__(self, name: str) -> int:
        if name not in self.of:
            self.of[name] = self._number(("leaf", self._leaf(name, self._form.leaves.get(name)))) if name else 0
        return self.of[name]

    def _number(self, key: Hashable) -> int:
        return self._numbers.setdefault(key, len(self._numbers) + 1)

    def _key(self, position: int, node: Node) -> Hashable:
        if not self._exact and not node.domain:
            if node.op_type in meaning.RESHAPING:
                base = self._bases.get(node.inputs[0], node.inputs[0])
                self._bases[node.outputs[0]] = base
                return "reshaping", self[base]
            product = linear(self._form, position)
            if product is not None:
                return "linear", self[product.data], self._weight(product.weight), self[product.bias]
            group = next(decompositions.of_several(self._form, position), None)
            if group is not None:
                inputs = tuple(self[name] for name in group.inputs)
                return ("", group.op_type, ""), _key(group.attributes), inputs, ()
        said = reading(self._form, node)
        inputs = tuple(self[name] for name in said.inputs)
        if not node.domain and node.op_type in meaning.COMMUTATIVE:
            inputs = tuple(sorted(inputs))
        captured = tuple(self[name] for name in node.sources[len(node.inputs) :])
        return said.called, _key(said.attributes), inputs, captured

    def _weight(self, name: str) -> Hashable:
        """A matrix and its transpose are alike."""
        leaf = self._form.leaves[name]
        if leaf.shape is None:
            return "weight"
        return self._leaf(name, Leaf(leaf.dtype, tuple(sorted(leaf.shape)), leaf.tensor, leaf.is_zero, leaf.stored))


def shallow(form: NormalForm) -> Mapping[str, Hashable]:
    """What each value is made by, and what the inputs of that are made by, a few nodes far."""
    found: dict[str, Hashable] = dict.fromkeys(form.leaves, "leaf")
    found.update((name, ("input", position)) for position, name in enumerate(form.inputs))
    for _ in range(_ROUNDS):
        deeper = dict(found)
        for node in form.nodes:
            if node.outputs and all(name in form.leaves for name in node.outputs):
                continue
            key = hash((node.op_type, tuple(found.get(name) for name in node.inputs)))
            deeper.update((name, (key, number)) for number, name in enumerate(node.outputs) if name)
        found = deeper
    return found


def attributes_key(form: NormalForm, node: Node) -> Hashable:
    """What tells attributes apart that say something, graphs only by their operators."""
    return _key(form.attributes(node))


def _key(attributes: Mapping[str, AttributeValue]) -> Hashable:
    return frozenset((name, _attribute_key(value)) for name, value in attributes.items())


def _attribute_key(value: AttributeValue) -> Hashable:
    """What tells values of attributes apart, for graphs only how many nodes of which kind they have."""
    if isinstance(value, tuple):
        return tuple(_attribute_key(item) for item in value)
    if isinstance(value, Graph):
        return len(value.inputs), tuple(node.op_type for node in value.nodes)
    if isinstance(value, ParameterReference):
        return value.sparse
    key: Hashable = strict_key(value)
    return key
