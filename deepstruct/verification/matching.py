"""Which values of two graphs in normal form are computed in the same way, from their outputs backwards.

What is paired is equal if the leaves are, but for shapes that operators give to their first input by other means.
What is compared with what is a guess where several orders are possible (`guesses`); a wrong one ends in a difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from deepstruct.structure import Graph, Node, ParameterReference
from deepstruct.verification import guesses, meaning, spelling
from deepstruct.verification.correspondence import Match, Matching, Pair, Place, Zeros
from deepstruct.verification.guesses import Side
from deepstruct.verification.normal_form import NormalForm
from deepstruct.verification.operations import GraphDifference, Kind, LeafPair
from deepstruct.verification.signatures import linear

_OUTPUTS = (-1, -1)


def match(a: Side, b: Side, zeros: Zeros | None = None) -> Matching:
    """What corresponds in two graphs, whose inputs and outputs correspond by position.

    Args:
        a: a graph.
        b: another one.
        zeros: names of the leaves in either of which each entry is known to be 0, None if numbers are not known.
    """
    return _Matcher(a, b, zeros).run()


class _Matcher:
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

    def run(self) -> Matching:
        a, b = self.a.form, self.b.form
        for x, y in zip(a.inputs, b.inputs, strict=False):
            self._pair(x, y)
        if len(a.inputs) != len(b.inputs):
            self._differ("wiring", _OUTPUTS, f"one graph has {len(a.inputs)} inputs, the other {len(b.inputs)}", True)
        if len(a.outputs) != len(b.outputs):
            self._differ(
                "outputs", _OUTPUTS, f"one graph has {len(a.outputs)} outputs, the other {len(b.outputs)}", True
            )
        self._push(zip(a.outputs, b.outputs, strict=False), _OUTPUTS)
        self._drain()
        if self.found.differences:
            self.is_resumed = True
            for i, j in guesses.anchors(self.a, self.b, self.done):
                if i not in self.done[0] and j not in self.done[1]:
                    self._nodes(i, j)
                    self._drain()
        return self.found

    def _push(self, pairs: Iterator[Pair] | Sequence[Pair], at: Place) -> None:
        self.todo.extend([(x, y, at) for x, y in pairs if x or y][::-1])

    def _drain(self) -> None:
        while self.todo:
            self._values(*self.todo.pop())

    def _pair(self, x: str, y: str) -> None:
        self.pairs[x] = y
        self.back[y] = x

    def _values(self, x: str, y: str, at: Place) -> None:
        """Compares two values that the nodes at a place take as the same input."""
        x, y = self.left_out[0].get(x, x), self.left_out[1].get(y, y)
        if x in self.pairs and self.pairs[x] == y and self.back[y] == x:
            return
        a, b = self.a.form, self.b.form
        leaves = x in a.leaves, y in b.leaves
        outside = a.is_outside(x), b.is_outside(y)
        if all(leaves):
            self._leaf_pair(LeafPair(x, y), at)
        elif all(outside):
            self.found.captured[x, y] = None
        elif any(leaves) or any(outside):
            self._misplaced("leaf" if any(leaves) else "wiring", x, y, at)
        elif not self._may_be_made_alike(x, y):
            if not self._left_out(x, y, at):
                self._misplaced("wiring", x, y, at)
        else:
            self._nodes(a.makers[x][0], b.makers[y][0])
            if self.pairs.get(x) != y and x not in self.left_out[0] and y not in self.left_out[1]:
                self.found.matches.pop(at, None)

    def _may_be_made_alike(self, x: str, y: str) -> bool:
        """Whether neither of two values is paired, and nodes make them that are not compared with others."""
        makers, others = self.a.form.makers, self.b.form.makers
        if x in self.pairs or y in self.back or x not in makers or y not in others:
            return False
        (i, k), (j, n) = makers[x], others[y]
        return k == n and i not in self.done[0] and j not in self.done[1]

    def _leaf_pair(self, pair: LeafPair, at: Place) -> None:
        if pair in self.found.leaves:
            return
        self.found.leaves[pair] = None
        first, second = self.a.form.leaves[pair.a].shape, self.b.form.leaves[pair.b].shape
        if first is not None and second is not None and len(first) != len(second):
            extents = [n for n in first if n != 1], [n for n in second if n != 1]
            message = f"{pair.a!r} of shape {list(first)} stands where {pair.b!r} of shape {list(second)} does"
            self._differ("leaf", at, message, extents[0] != extents[1] and all(extents))

    def _misplaced(self, kind: Kind, x: str, y: str, at: Place) -> None:
        """Two values that do not correspond, after a difference only if that is no consequence of it."""
        self.found.matches.pop(at, None)
        makers = [node for node in (self.a.form.maker(x), self.b.form.maker(y)) if node is not None]
        if self.is_resumed and any(node.name in self.mentioned for node in makers):
            return
        said = spelling.said(self.a.form, x), spelling.said(self.b.form, y)
        if at == _OUTPUTS:
            self._differ(kind, at, f"an output is {said[0]} in one graph, {said[1]} in the other", False)
        else:
            names = self.a.form.nodes[at[0]].name, self.b.form.nodes[at[1]].name
            message = f"node {names[0]!r} takes {said[0]}, where node {names[1]!r} takes {said[1]}"
            self._differ(kind, at, message, False)
        self.mentioned.update(node.name for node in makers)

    def _differ(self, kind: Kind, at: Place, message: str, certain: bool, near: int = -1) -> None:
        """Notes a difference at two nodes, or near one of the first graph; a position of -1 stands for no node."""
        a, b = self.a.form.nodes, self.b.form.nodes
        names = a[at[0]].name if at[0] >= 0 else "", b[at[1]].name if at[1] >= 0 else ""
        self.mentioned.update(name for name in names if name)
        position = max(at[0], near) if max(at[0], near) >= 0 else len(a)
        self.found.differences.append((position, GraphDifference(kind, *names, message, certain)))

    def _finish(self, i: int, j: int) -> None:
        """Two nodes are compared, and their outputs correspond."""
        self.done[0].add(i)
        self.done[1].add(j)
        for x, y in zip(self.a.form.nodes[i].outputs, self.b.form.nodes[j].outputs, strict=False):
            if x and y and x not in self.pairs and y not in self.back:
                self._pair(x, y)

    def _nodes(self, i: int, j: int) -> None:
        first, second = self.a.form.nodes[i], self.b.form.nodes[j]
        if self._linear(i, j):
            return
        if not first.domain and not second.domain and {first.op_type, second.op_type} <= meaning.RESHAPING:
            self._reshaping(i, j)
        elif first.called == second.called:
            self._same(i, j)
        else:
            self._other(i, j)

    def _linear(self, i: int, j: int) -> bool:
        """Compares two products with a weight, if they are such in other spellings."""
        a, b = linear(self.a.form, i), linear(self.b.form, j)
        ops = self.a.form.nodes[i].op_type, self.b.form.nodes[j].op_type
        if a is None or b is None or (ops[0] == ops[1] and a.transposed == b.transposed):
            return False
        if not self.done[0].isdisjoint(a.positions) or not self.done[1].isdisjoint(b.positions):
            return False
        if bool(a.bias) != bool(b.bias) and self.a.plain[a.data] != self.b.plain[b.data]:
            return False
        self.done[0].update(a.positions)
        self.done[1].update(b.positions)
        self._finish(i, j)
        weight = LeafPair(a.weight, b.weight, None if a.transposed == b.transposed else (1, 0))
        self._leaf_pair(weight, (i, j))
        pairs = [(a.data, b.data), (a.weight, b.weight)]
        before = len(self.found.differences)
        if bool(a.bias) != bool(b.bias):
            self._one_sided((i, j), a.bias, b.bias, is_bias=True)
        elif a.bias:
            pairs.append((a.bias, b.bias))
        if len(self.found.differences) == before:
            self.found.matches[i, j] = Match(a.positions, b.positions, tuple(pairs), (weight,), linear=(a, b))
        self._push([pairs[0], *pairs[2:]], (i, j))
        return True

    def _one_sided(self, at: Place, x: str, y: str, *, is_bias: bool) -> None:
        """An input that is left out on one side: a difference, unless it is a bias of zeros, which adds nothing."""
        nodes = self.a.form.nodes[at[0]], self.b.form.nodes[at[1]]
        which, name = (0, x) if x else (1, y)
        leaf = (self.a.form, self.b.form)[which].leaves.get(name)
        names = nodes[which].name, nodes[1 - which].name
        if leaf is None or not is_bias:
            self._differ("wiring", at, f"node {names[0]!r} has the input {name!r}, node {names[1]!r} has none", False)
        elif not leaf.is_zero and (self.zeros is None or name not in self.zeros[which]):
            message = f"node {names[0]!r} has the bias {name!r}, node {names[1]!r} has none"
            self._differ("wiring", at, message, self.zeros is not None and leaf.stored)

    def _reshaping(self, i: int, j: int) -> None:
        first, second = self.a.form.nodes[i], self.b.form.nodes[j]
        others = first.inputs[1:], second.inputs[1:]
        if first.op_type == second.op_type and len(others[0]) == len(others[1]):
            attributes = spelling.unequal_attributes(self.a.form, first, self.b.form, second)
            if not attributes and all(self._is_exactly(x, y) for x, y in zip(*others, strict=True)):
                self._same(i, j)
                return
        chains = spelling.chain(self.a.form, i, self.done[0]), spelling.chain(self.b.form, j, self.done[1])
        if len(chains[0]) == len(chains[1]):
            chains = [i], [j]
        self.done[0].update(chains[0])
        self.done[1].update(chains[1])
        self._finish(i, j)
        nodes = [[side.form.nodes[n] for n in chain] for side, chain in zip((self.a, self.b), chains, strict=True)]
        data = nodes[0][0].inputs[0], nodes[1][0].inputs[0]
        shapes = [tuple(name for node in chain for name in node.inputs[1:] if name) for chain in nodes]
        self.found.matches[i, j] = Match(tuple(chains[0]), tuple(chains[1]), (data,), shapes=(shapes[0], shapes[1]))
        self._push([data], (i, j))

    def _is_exactly(self, x: str, y: str) -> bool:
        known = [
            leaves[name].tensor for leaves, name in ((self.a.form.leaves, x), (self.b.form.leaves, y)) if name in leaves
        ]
        return self.a.exact[x] == self.b.exact[y] and None not in known

    def _same(self, i: int, j: int) -> None:
        """Compares two nodes with one operator."""
        first, second = self.a.form.nodes[i], self.b.form.nodes[j]
        before = len(self.found.differences)
        self._compare_versions(i, j)
        self._compare_outputs(i, j)
        unequal = spelling.unequal_attributes(self.a.form, first, self.b.form, second)
        if unequal:
            certain = all(meaning.is_decisive(name, x, y) for name, (x, y) in unequal.items())
            said = ", ".join(
                f"{name} {spelling.short(x)} against {spelling.short(y)}" for name, (x, y) in sorted(unequal.items())
            )
            names = f"nodes {first.name!r} and {second.name!r} ({first.op_type})"
            self._differ("attribute", (i, j), f"{names} have other attributes: {said}", certain)
        self._finish(i, j)
        captured, leaves = self._in_attributes(i, j)
        pairs = self._inputs(i, j)
        self._doubt(before)
        if len(self.found.differences) == before:
            self.found.matches[i, j] = Match((i,), (j,), (*pairs, *captured), tuple(leaves))
        self._push([*pairs, *captured], (i, j))

    def _doubt(self, before: int) -> None:
        """Makes what was noted about one node uncertain if it is more than one thing, which may make up for another."""
        noted = self.found.differences[before:]
        if len(noted) > 1:
            self.found.differences[before:] = [(place, replace(d, is_certain=False)) for place, d in noted]

    def _compare_versions(self, i: int, j: int) -> None:
        first, second = self.a.form.nodes[i], self.b.form.nodes[j]
        versions = self.a.form.version(first), self.b.form.version(second)
        kinds = [meaning.signature(first.domain, first.op_type, version) for version in versions]
        if kinds[0] != kinds[1]:
            names = f"nodes {first.name!r} and {second.name!r} are {first.op_type}"
            message = f"{names} of opsets {versions[0]} and {versions[1]}, which may not be the same"
            self._differ("opset", (i, j), message, False)

    def _compare_outputs(self, i: int, j: int) -> None:
        first, second = self.a.form.nodes[i], self.b.form.nodes[j]
        if first.domain == "" and first.op_type in meaning.OPTIONAL_OUTPUTS:
            return
        patterns = [[n for n, name in enumerate(node.outputs) if name] for node in (first, second)]
        if patterns[0] != patterns[1]:
            counts = f"{len(patterns[0])} and {len(patterns[1])} outputs"
            self._differ("wiring", (i, j), f"nodes {first.name!r} and {second.name!r} have {counts}", False)

    def _in_attributes(self, i: int, j: int) -> tuple[list[Pair], list[LeafPair]]:
        """Pairs of what the graphs and parameters in two nodes' attributes are from outside."""
        first, second = self.a.form.nodes[i], self.b.form.nodes[j]
        captured: dict[Pair, None] = {}
        leaves = []
        for name in sorted(first.attributes.keys() & second.attributes.keys()):
            for x, y in zip(
                spelling.items(first.attributes[name]), spelling.items(second.attributes[name]), strict=False
            ):
                if isinstance(x, ParameterReference) and isinstance(y, ParameterReference):
                    if x.name in self.a.form.leaves and y.name in self.b.form.leaves:
                        leaves.append(LeafPair(x.name, y.name))
                        self._leaf_pair(leaves[-1], (i, j))
                    else:
                        self.found.captured[x.name, y.name] = None
                if isinstance(x, Graph) and isinstance(y, Graph):
                    inner = self._graphs(x, y, i, first)
                    captured.update(inner.captured)
        return list(captured), leaves

    def _graphs(self, x: Graph, y: Graph, position: int, node: Node) -> Matching:
        forms = NormalForm.of_graph(x, self.a.form.opset), NormalForm.of_graph(y, self.b.form.opset)
        inner = match(*guesses.sides(*forms, outer=(self.a, self.b)))
        for _, difference in inner.differences:
            kind, names, certain = difference.kind, (difference.a, difference.b), difference.is_certain
            message = f"within node {node.name!r}: {difference.message}"
            self.found.differences.append((position, GraphDifference(kind, *names, message, certain)))
        return inner

    def _inputs(self, i: int, j: int) -> list[Pair]:
        """Pairs of the inputs of two nodes with one operator, those apart that only one of them has."""
        first, second = self.a.form.nodes[i], self.b.form.nodes[j]
        a, b = first.inputs, second.inputs
        if len(a) == len(b) and all(a) and all(b):
            order = guesses.order(self.a, self.b, a, b, self.pairs)
            if first.op_type in meaning.COMMUTATIVE and not first.domain:
                return [(x, b[n]) for x, n in zip(a, order, strict=True)]
            if guesses.is_permuted(self.a, self.b, a, b):
                message = (
                    f"nodes {first.name!r} and {second.name!r} ({first.op_type}) take their inputs in another order"
                )
                self._differ("wiring", (i, j), message, False)
                return [(x, b[n]) for x, n in zip(a, order, strict=True)]
            return list(zip(a, b, strict=True))
        pairs = []
        bias = None if first.domain else meaning.ADDENDS.get(first.op_type)
        for number in range(max(len(a), len(b))):
            x, y = (names[number] if number < len(names) else "" for names in (a, b))
            if bool(x) != bool(y):
                self._one_sided((i, j), x, y, is_bias=number == bias)
            pairs.append((x, y) if bool(x) == bool(y) else ("", ""))
        return pairs

    def _other(self, i: int, j: int) -> None:
        """Compares two nodes with different operators: one may be left out, or stand for the other."""
        first, second = self.a.form.nodes[i], self.b.form.nodes[j]
        message = f"node {first.name!r} is {first.op_type}, node {second.name!r} is {second.op_type}"
        if self._left_out(first.outputs[0], second.outputs[0], (i, j)) or self._folded(i, j):
            return
        if guesses.may_take_the_same(self.a, self.b, first.inputs, second.inputs):
            self._differ("operator", (i, j), message, False)
            self._finish(i, j)
            order = guesses.order(self.a, self.b, first.inputs, second.inputs, self.pairs)
            self._push([(x, second.inputs[n]) for x, n in zip(first.inputs, order, strict=True)], (i, j))
            return
        if not self.is_resumed or self.mentioned.isdisjoint((first.name, second.name)):
            self._differ("wiring", (i, j), message, False)

    def _left_out(self, x: str, y: str, at: Place) -> bool:
        """Whether a node that makes one of two values only stands between the other and what both have; notes that."""
        for which, (made, other) in enumerate(((x, y), (y, x))):
            own, others = (self.a, self.b) if which == 0 else (self.b, self.a)
            position = own.form.makers.get(made, (-1, 0))[0]
            if position < 0 or position in self.done[which] or made in own.form.leaves:
                continue
            node = own.form.nodes[position]
            if self.is_resumed and node.name in self.mentioned:
                continue
            for name in node.inputs:
                if not name or own.plain[name] != others.plain[other]:
                    continue
                self.done[which].add(position)
                self.left_out[which].update((output, name) for output in node.outputs if output)
                text = (
                    f"node {node.name!r} ({node.op_type}) has no counterpart in the {('second', 'first')[which]} graph"
                )
                near = position if which == 0 else self.a.form.makers.get(x, (at[0], 0))[0]
                self._differ("operator", (position, -1) if which == 0 else (-1, position), text, False, near)
                self._push([(name, other) if which == 0 else (other, name)], at)
                return True
        return False

    def _folded(self, i: int, j: int) -> bool:
        """Whether one node is a batch normalization of what the other gives, with other weights; notes that."""
        for which, (form, position, other) in enumerate(((self.a.form, i, j), (self.b.form, j, i))):
            norm, product = form.nodes[position], (self.b.form, self.a.form)[which].nodes[other]
            maker = form.maker(norm.inputs[0]) if norm.op_type == "BatchNormalization" and norm.inputs else None
            if maker is None or maker.called != product.called or product.op_type not in meaning.ADDENDS:
                continue
            before = form.makers[norm.inputs[0]][0]
            done = self.done[which]
            if before in done or form.uses[norm.inputs[0]] != 1:
                continue
            done.add(before)
            text = (
                f"node {norm.name!r} (BatchNormalization) of the {('first', 'second')[which]} graph seems to be part of"
            )
            self._differ("operator", (i, j), f"{text} node {product.name!r} ({product.op_type}) in the other", False)
            self._finish(i, j)
            pair = maker.inputs[0], product.inputs[0]
            self._push([pair if which == 0 else pair[::-1]], (i, j))
            return True
        return False
