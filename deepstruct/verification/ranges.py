"""Which integers a graph input may hold: the ids of an embedding have a largest one, shapes cannot be made up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from deepstruct.structure import Node, Structure, walk

Scoped = tuple[tuple[str, str, str] | None, str]
"""A value: key of the function that it belongs to, None for the main graph, and name."""

_PASSING = {
    **dict.fromkeys(("Cast", "CastLike", "Clip", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape"), (0,)),
    **dict.fromkeys(("Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"), (0,)),
    "Concat": None,
    "Where": (1, 2),
}
"""Operator -> inputs whose numbers it hands on; None for all."""

_COMPUTING = ("Abs", "Add", "Div", "Max", "Min", "Mod", "Mul", "Neg", "ReduceProd", "ReduceSum", "Sub")

_OF_INDICES = {"Gather": 1, "GatherElements": 1, "GatherND": 1, "OneHot": 0}
"""Operator -> input that holds indices."""

_OF_SHAPES: Mapping[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "MaxUnpool": (2,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
"""Operator -> inputs that decide about shapes."""


class Uses:
    """What becomes of the values of a structure."""

    def __init__(self, structure: Structure) -> None:
        self._structure = structure
        self._functions = {function.key: function for function in structure.functions}
        self._consumers: dict[Scoped, list[tuple[Node, int]]] = defaultdict(list)
        scopes = [(None, structure.nodes), *((f.key, f.nodes) for f in structure.functions)]
        self._makers: dict[Scoped, Node] = {}
        for scope, nodes in scopes:
            for node in walk(nodes):
                for position, name in enumerate(node.inputs):
                    self._consumers[scope, name].append((node, position))
                self._makers.update(((scope, name), node) for name in node.outputs)

    def limit(self, name: str) -> int | None:
        """One more than the largest index that an input may hold, None if it is no index into anything known."""
        found = [
            extent
            for scope, node, position in self._reached(name, computed=False)
            if _OF_INDICES.get(node.op_type) == position and not node.domain
            for extent in self._extents(scope, node)
        ]
        return min(found, default=None)

    def shape_use(self, name: str) -> Node | None:
        """A node that takes an input, or what is computed from it, for a shape, an axis or a count."""
        for _, node, position in self._reached(name, computed=True):
            if not node.domain and position in _OF_SHAPES.get(node.op_type, ()):
                return node
        return None

    def _reached(self, name: str, *, computed: bool) -> Iterator[tuple[tuple[str, str, str] | None, Node, int]]:
        """Nodes that see the numbers of an input, with the position at which they do."""
        seen: set[Scoped] = {(None, name)}
        pending: list[Scoped] = [(None, name)]
        while pending:
            scope, value = pending.pop()
            for node, position in self._consumers.get((scope, value), ()):
                yield scope, node, position
                onward: list[Scoped] = []
                if node.called in self._functions:
                    inputs = self._functions[node.called].inputs
                    onward = [(node.called, inputs[position])] if position < len(inputs) else []
                elif not node.domain and self._hands_on(node, position, computed):
                    onward = [(scope, output) for output in node.outputs]
                pending += [item for item in onward if item not in seen]
                seen.update(onward)

    @staticmethod
    def _hands_on(node: Node, position: int, computed: bool) -> bool:
        if node.op_type in _PASSING:
            positions = _PASSING[node.op_type]
            return positions is None or position in positions
        return computed and node.op_type in _COMPUTING

    def _extents(self, scope: tuple[str, str, str] | None, node: Node) -> list[int]:
        """The extents that indices of a node are bound by, as far as they are known."""
        if node.op_type == "OneHot":
            depth = self._structure.constants.get(node.inputs[1])
            return [int(depth.data[0])] if depth is not None and depth.data else []
        shape = self._shape(scope, node.inputs[0])
        if not shape:
            return []
        if node.op_type == "GatherND":
            first = node.attributes.get("batch_dims", 0)
            return list(shape[first if isinstance(first, int) else 0 :])
        axis = node.attributes.get("axis", 0)
        return [shape[axis]] if isinstance(axis, int) and -len(shape) <= axis < len(shape) else []

    def _shape(self, scope: tuple[str, str, str] | None, name: str) -> tuple[int, ...] | None:
        """The extents of a tensor that is fixed, casts of one included."""
        while (maker := self._makers.get((scope, name))) is not None:
            if maker.op_type not in ("Cast", "Identity") or maker.domain:
                return None
            name = maker.inputs[0]
        if name in self._structure.constants:
            return self._structure.constants[name].shape
        return next((p.shape for p in self._structure.parameters if p.name == name), None)
