"""What is found about two graphs while they are compared, and what follows from that: pairs, leaves, differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from deepstruct.verification import meaning, spelling
from deepstruct.verification.correspondence import OUTPUTS, Matching, Pair, Place, Zeros
from deepstruct.verification.guesses import Side
from deepstruct.verification.operations import GraphDifference, Kind, LeafPair


class Findings:
    """What is found about two graphs, `matching` being done with it.

    Attributes:
        a: first graph.
        b: second graph.
        zeros: names of the leaves in either of which each entry is known to be 0, None if numbers are not known.
        found: the result.
        pairs: values of the first graph -> those of the second that correspond.
        back: likewise, the other way round.
        done: positions of the nodes of either that are compared.
        todo: pairs of values to compare, and the nodes that take them.
        mentioned: names of nodes that differences are about.
        left_out: values of either that are passed through -> what they are made from.
        is_resumed: there was a difference, and the comparison goes on behind it.
    """

    def __init__(self, a: Side, b: Side, zeros: Zeros | None) -> None:
        self.a, self.b, self.zeros = a, b, zeros
        self.found = Matching()
        self.pairs: dict[str, str] = {}
        self.back: dict[str, str] = {}
        self.done: tuple[set[int], set[int]] = (set(), set())
        self.todo: list[tuple[str, str, Place]] = []
        self.mentioned: set[str] = set()
        self.left_out: tuple[dict[str, str], dict[str, str]] = ({}, {})
        self.is_resumed = False

    def push(self, pairs: Iterator[Pair] | Sequence[Pair], at: Place) -> None:
        """Notes values to compare next, which the nodes at a place take."""
        self.todo.extend([(x, y, at) for x, y in pairs if x or y][::-1])

    def pair(self, x: str, y: str) -> None:
        """Notes that two values correspond."""
        self.pairs[x] = y
        self.back[y] = x

    def leaf_pair(self, pair: LeafPair, at: Place) -> None:
        """Notes two leaves, and a difference if their ranks are not the same."""
        if pair in self.found.leaves:
            return
        self.found.leaves[pair] = None
        first, second = self.a.form.leaves[pair.a].shape, self.b.form.leaves[pair.b].shape
        if pair.broadcast:
            return
        if first is not None and second is not None and len(first) != len(second):
            extents = [n for n in first if n != 1], [n for n in second if n != 1]
            message = f"{pair.a!r} of shape {list(first)} stands where {pair.b!r} of shape {list(second)} does"
            self.differ("leaf", at, message, extents[0] != extents[1] and all(extents))

    def leaves_at(self, x: str, y: str, at: Place) -> LeafPair:
        """Two leaves that the nodes at a place take; their leading extents of 1 do not matter if both are broadcast."""
        shapes = self.a.form.leaves[x].shape, self.b.form.leaves[y].shape
        if at == OUTPUTS or None in shapes or len(shapes[0]) == len(shapes[1]):  # type: ignore[arg-type]  # not None
            return LeafPair(x, y)
        first, second = self.a.form.nodes[at[0]], self.b.form.nodes[at[1]]
        rank = max(len(shape) for shape in shapes if shape is not None)
        are_slopes = [x, y] == [node.inputs[1] for node in (first, second) if node.op_type == "PRelu"]
        is_broadcast = are_slopes or (
            {first.op_type, second.op_type} <= meaning.ELEMENTWISE
            and any(
                len(shape) >= rank
                for side, node, leaf in ((self.a, first, x), (self.b, second, y))
                for name in node.inputs
                if name != leaf and name not in side.form.leaves and (shape := side.form.shapes.get(name)) is not None
            )
        )
        return LeafPair(x, y, None, is_broadcast and not first.domain and _bare(shapes[0]) == _bare(shapes[1]))

    def misplaced(self, kind: Kind, x: str, y: str, at: Place) -> None:
        """Two values that do not correspond, after a difference only if that is no consequence of it."""
        self.found.matches.pop(at, None)
        makers = [node for node in (self.a.form.maker(x), self.b.form.maker(y)) if node is not None]
        if self.is_resumed and any(node.name in self.mentioned for node in makers):
            return
        said = spelling.said(self.a.form, x), spelling.said(self.b.form, y)
        if at == OUTPUTS:
            self.differ(kind, at, f"an output is {said[0]} in one graph, {said[1]} in the other", False)
        else:
            names = self.a.form.nodes[at[0]].name, self.b.form.nodes[at[1]].name
            message = f"node {names[0]!r} takes {said[0]}, where node {names[1]!r} takes {said[1]}"
            self.differ(kind, at, message, False)
        self.mentioned.update(node.name for node in makers)

    def differ(self, kind: Kind, at: Place, message: str, certain: bool, near: int = -1) -> None:
        """Notes a difference at two nodes, or near one of the first graph; a position of -1 stands for no node."""
        a, b = self.a.form.nodes, self.b.form.nodes
        names = a[at[0]].name if at[0] >= 0 else "", b[at[1]].name if at[1] >= 0 else ""
        self.mentioned.update(name for name in names if name)
        position = max(at[0], near) if max(at[0], near) >= 0 else len(a)
        self.found.differences.append((position, GraphDifference(kind, *names, message, certain)))

    def finish(self, i: int, j: int) -> None:
        """Two nodes are compared, and their outputs correspond."""
        self.done[0].add(i)
        self.done[1].add(j)
        for x, y in zip(self.a.form.nodes[i].outputs, self.b.form.nodes[j].outputs, strict=False):
            if x and y and x not in self.pairs and y not in self.back:
                self.pair(x, y)

    def take(self, a: Sequence[int], b: Sequence[int]) -> bool:
        """Notes that nodes of both graphs correspond, and the outputs of the last ones; False if some are taken."""
        if not self.done[0].isdisjoint(a) or not self.done[1].isdisjoint(b):
            return False
        self.done[0].update(a)
        self.done[1].update(b)
        self.finish(a[-1], b[-1])
        return True

    def one_sided(self, at: Place, x: str, y: str, *, is_bias: bool) -> None:
        """An input that is left out on one side: a difference, unless it is a bias of zeros, which adds nothing."""
        nodes = self.a.form.nodes[at[0]], self.b.form.nodes[at[1]]
        which, name = (0, x) if x else (1, y)
        leaf = (self.a.form, self.b.form)[which].leaves.get(name)
        names = nodes[which].name, nodes[1 - which].name
        if leaf is None or not is_bias:
            self.differ("wiring", at, f"node {names[0]!r} has the input {name!r}, node {names[1]!r} has none", False)
        elif not leaf.is_zero and (self.zeros is None or name not in self.zeros[which]):
            message = f"node {names[0]!r} has the bias {name!r}, node {names[1]!r} has none"
            self.differ("wiring", at, message, self.zeros is not None and leaf.stored)

    def doubt(self, before: int) -> None:
        """Makes what was noted about one node uncertain if it is more than one thing, which may make up for another."""
        noted = self.found.differences[before:]
        if len(noted) > 1:
            self.found.differences[before:] = [(place, replace(d, is_certain=False)) for place, d in noted]

    def widened(self, x: str, y: str, at: Place) -> LeafPair | None:
        """A pair of leaves that are broadcast from other ranks."""
        if x not in self.a.form.leaves or y not in self.b.form.leaves:
            return None
        pair = self.leaves_at(x, y, at)
        return pair if pair.broadcast else None


def _bare(shape: Sequence[int] | None) -> list[int]:
    """A shape without its leading extents of 1."""
    found = list(shape or ())
    while found and found[0] == 1:
        del found[0]
    return found
