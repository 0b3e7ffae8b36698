"""Which values of two graphs in normal form are computed in the same way, from their outputs backwards.

What is paired is equal if the leaves are, but for shapes that operators give to their first input by other means.
What is compared with what is a guess where several orders are possible (`guesses`); a wrong one ends in a difference.
"""

from __future__ import annotations

from deepstruct.frozen import FrozenMapping
from deepstruct.structure import Graph, Node, ParameterReference
from deepstruct.verification import decompositions, guesses, meaning, movement, operands, spelling
from deepstruct.verification.correspondence import OUTPUTS, Match, Matching, Pair, Place, Zeros
from deepstruct.verification.decompositions import Group
from deepstruct.verification.findings import Findings
from deepstruct.verification.guesses import Side
from deepstruct.verification.normal_form import NormalForm
from deepstruct.verification.operands import Reading
from deepstruct.verification.operations import GraphDifference, LeafPair
from deepstruct.verification.signatures import Linear, linear


def match(a: Side, b: Side, zeros: Zeros | None = None) -> Matching:
    """What corresponds in two graphs, whose inputs and outputs correspond by position.

    Args:
        a: a graph.
        b: another one.
        zeros: names of the leaves in either of which each entry is known to be 0, None if numbers are not known.
    """
    return _Matcher(a, b, zeros).run()


class _Matcher(Findings):
    def run(self) -> Matching:
        a, b = self.a.form, self.b.form
        for x, y in zip(a.inputs, b.inputs, strict=False):
            self.pair(x, y)
        if len(a.inputs) != len(b.inputs):
            self.differ("wiring", OUTPUTS, f"one graph has {len(a.inputs)} inputs, the other {len(b.inputs)}", True)
        if len(a.outputs) != len(b.outputs):
            self.differ("outputs", OUTPUTS, f"one graph has {len(a.outputs)} outputs, the other {len(b.outputs)}", True)
        self.push(zip(a.outputs, b.outputs, strict=False), OUTPUTS)
        self._drain()
        if self.found.differences:
            self.is_resumed = True
            for i, j in guesses.anchors(self.a, self.b, self.done):
                if i not in self.done[0] and j not in self.done[1]:
                    self._nodes(i, j)
                    self._drain()
        return self.found

    def _drain(self) -> None:
        while self.todo:
            self._values(*self.todo.pop())

    def _values(self, x: str, y: str, at: Place) -> None:
        """Compares two values that the nodes at a place take as the same input."""
        x, y = self.left_out[0].get(x, x), self.left_out[1].get(y, y)
        if x in self.pairs and self.pairs[x] == y and self.back[y] == x:
            return
        a, b = self.a.form, self.b.form
        leaves = x in a.leaves, y in b.leaves
        outside = a.is_outside(x), b.is_outside(y)
        if all(leaves):
            self.leaf_pair(self.leaves_at(x, y, at), at)
        elif all(outside):
            self.found.captured[x, y] = None
        elif any(leaves) or any(outside):
            self.misplaced("leaf" if any(leaves) else "wiring", x, y, at)
        elif not self._may_be_made_alike(x, y):
            if not self._left_out(x, y, at):
                self.misplaced("wiring", x, y, at)
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

    def _nodes(self, i: int, j: int) -> None:
        first, second = self.a.form.nodes[i], self.b.form.nodes[j]
        if self._linear(i, j):
            return
        if not first.domain and not second.domain:
            ops = {first.op_type, second.op_type}
            if ops <= movement.MOVING and not self._are_alike(i, j) and self._moving(i, j):
                return
            if ops <= meaning.RESHAPING:
                self._reshaping(i, j)
                return
            if (len(ops) > 1 or not self._are_alike(i, j)) and self._decomposed(i, j):
                return
        said = operands.readings(self.a.form, first, self.b.form, second)
        if said[0].called == said[1].called:
            self._same(i, j, *said)
        else:
            self._other(i, j)

    def _are_alike(self, i: int, j: int) -> bool:
        """Whether two nodes are one operator, and are likely to be computed in the same way."""
        first, second = self.a.form.nodes[i], self.b.form.nodes[j]
        outputs = [next(filter(None, node.outputs), "") for node in (first, second)]
        return first.op_type == second.op_type and self.a.exact[outputs[0]] == self.b.exact[outputs[1]]

    def _linear(self, i: int, j: int) -> bool:
        """Compares two products with a weight, if they are such in other spellings."""
        a, b = linear(self.a.form, i), linear(self.b.form, j)
        ops = self.a.form.nodes[i].op_type, self.b.form.nodes[j].op_type
        if a is None or b is None or (ops[0] == ops[1] and a.transposed == b.transposed):
            return False
        if bool(a.bias) != bool(b.bias) and self.a.plain[a.data] != self.b.plain[b.data]:
            return False
        groups = _product(a), _product(b)
        if not self.take(groups[0].positions, groups[1].positions):
            return False
        weight = LeafPair(a.weight, b.weight, None if a.transposed == b.transposed else (1, 0))
        self.leaf_pair(weight, (i, j))
        pairs = [(a.data, b.data), (a.weight, b.weight)]
        before = len(self.found.differences)
        if bool(a.bias) != bool(b.bias):
            self.one_sided((i, j), a.bias, b.bias, is_bias=True)
        elif a.bias:
            pairs.append((a.bias, b.bias))
        if len(self.found.differences) == before:
            self.found.matches[i, j] = Match(*_positions(groups), tuple(pairs), (weight,), groups=groups)
        self.push([pairs[0], *pairs[2:]], (i, j))
        return True

    def _moving(self, i: int, j: int) -> bool:
        """Compares two chains that move entries, if they move the same ones to the same places."""
        chains = movement.alike(self.a, i, self.b, j, self.done)
        if chains is None or not self.take(*chains):
            return False
        nodes = [[side.form.nodes[n] for n in chain] for side, chain in zip((self.a, self.b), chains, strict=True)]
        data = nodes[0][0].inputs[0], nodes[1][0].inputs[0]
        shapes = [tuple(name for node in chain for name in node.inputs[1:] if name) for chain in nodes]
        self.found.matches[i, j] = Match(tuple(chains[0]), tuple(chains[1]), (data,), shapes=(shapes[0], shapes[1]))
        self.push([data], (i, j))
        return True

    def _decomposed(self, i: int, j: int) -> bool:
        """Compares two operators of which at least one is written down as several, if they are the same."""
        groups = decompositions.alike(self.a.form, i, self.b.form, j)
        if groups is None or not self.take(*_positions(groups)):
            return False
        pairs = tuple(zip(groups[0].inputs, groups[1].inputs, strict=False))
        is_whole = len(groups[0].inputs) == len(groups[1].inputs)
        if is_whole:
            self.found.matches[i, j] = Match(*_positions(groups), pairs, groups=groups)
        else:
            names = self.a.form.nodes[i].name, self.b.form.nodes[j].name
            self.differ("wiring", (i, j), f"nodes {names[0]!r} and {names[1]!r} have other numbers of inputs", False)
        self.push(pairs, (i, j))
        return True

    def _reshaping(self, i: int, j: int) -> None:
        first, second = self.a.form.nodes[i], self.b.form.nodes[j]
        others = first.inputs[1:], second.inputs[1:]
        if first.op_type == second.op_type and len(others[0]) == len(others[1]):
            attributes = spelling.unequal(self.a.form.attributes(first), self.b.form.attributes(second))
            if not attributes and all(self._is_exactly(x, y) for x, y in zip(*others, strict=True)):
                self._same(i, j, *operands.readings(self.a.form, first, self.b.form, second))
                return
        kinds = meaning.RESHAPING
        chains = (
            movement.chain(self.a.form, i, self.done[0], kinds),
            movement.chain(self.b.form, j, self.done[1], kinds),
        )
        if len(chains[0]) == len(chains[1]):
            chains = [i], [j]
        self.done[0].update(chains[0])
        self.done[1].update(chains[1])
        self.finish(i, j)
        nodes = [[side.form.nodes[n] for n in chain] for side, chain in zip((self.a, self.b), chains, strict=True)]
        data = nodes[0][0].inputs[0], nodes[1][0].inputs[0]
        shapes = [tuple(name for node in chain for name in node.inputs[1:] if name) for chain in nodes]
        self.found.matches[i, j] = Match(tuple(chains[0]), tuple(chains[1]), (data,), shapes=(shapes[0], shapes[1]))
        self.found.reshaped.append((i, j))
        self.push([data], (i, j))

    def _is_exactly(self, x: str, y: str) -> bool:
        known = [
            leaves[name].tensor for leaves, name in ((self.a.form.leaves, x), (self.b.form.leaves, y)) if name in leaves
        ]
        return self.a.exact[x] == self.b.exact[y] and None not in known

    def _same(self, i: int, j: int, own: Reading, other: Reading) -> None:
        """Compares two nodes that are read as one operator."""
        first, second = self.a.form.nodes[i], self.b.form.nodes[j]
        before = len(self.found.differences)
        self._compare_versions(i, j)
        self._compare_outputs(i, j)
        unequal = spelling.unequal(own.attributes, other.attributes)
        if unequal:
            certain = all(meaning.is_decisive(name, x, y) for name, (x, y) in unequal.items())
            said = ", ".join(
                f"{name} {spelling.short(x)} against {spelling.short(y)}" for name, (x, y) in sorted(unequal.items())
            )
            names = f"nodes {first.name!r} and {second.name!r} ({first.op_type})"
            self.differ("attribute", (i, j), f"{names} have other attributes: {said}", certain)
        self.finish(i, j)
        captured, leaves = self._in_attributes(i, j)
        pairs = self._inputs(i, j, own, other)
        leaves += [pair for x, y in pairs if (pair := self.widened(x, y, (i, j))) is not None]
        self.doubt(before)
        if len(self.found.differences) == before:
            self.found.matches[i, j] = Match((i,), (j,), (*pairs, *captured), tuple(leaves))
        self.push([*pairs, *captured], (i, j))

    def _compare_versions(self, i: int, j: int) -> None:
        first, second = self.a.form.nodes[i], self.b.form.nodes[j]
        versions = self.a.form.version(first), self.b.form.version(second)
        kinds = [meaning.signature(first.domain, first.op_type, version) for version in versions]
        if kinds[0] != kinds[1]:
            names = f"nodes {first.name!r} and {second.name!r} are {first.op_type}"
            message = f"{names} of opsets {versions[0]} and {versions[1]}, which may not be the same"
            self.differ("opset", (i, j), message, False)

    def _compare_outputs(self, i: int, j: int) -> None:
        first, second = self.a.form.nodes[i], self.b.form.nodes[j]
        if first.domain == "" and first.op_type in meaning.OPTIONAL_OUTPUTS:
            return
        patterns = [[n for n, name in enumerate(node.outputs) if name] for node in (first, second)]
        if patterns[0] != patterns[1]:
            counts = f"{len(patterns[0])} and {len(patterns[1])} outputs"
            self.differ("wiring", (i, j), f"nodes {first.name!r} and {second.name!r} have {counts}", False)

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
                        self.leaf_pair(leaves[-1], (i, j))
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
        for i, j in inner.reshaped:  # no step computes them on their own
            names = forms[0].nodes[i].name, forms[1].nodes[j].name
            message = f"within node {node.name!r}: nodes {names[0]!r} and {names[1]!r} reshape in other words"
            self.found.differences.append((position, GraphDifference("wiring", *names, message, False)))
        return inner

    def _inputs(self, i: int, j: int, own: Reading, other: Reading) -> list[Pair]:
        """Pairs of the inputs of two nodes with one operator, those apart that only one of them has."""
        first, second = self.a.form.nodes[i], self.b.form.nodes[j]
        a, b = own.inputs, other.inputs
        read = [
            (x, y)
            for position, (x, y) in enumerate(zip(first.inputs, second.inputs, strict=False))
            if position in own.read & other.read and x and y and self._is_exactly(x, y)
        ]
        if len(a) == len(b) and all(a) and all(b):
            order = guesses.order(self.a, self.b, a, b, self.pairs)
            if first.op_type in meaning.COMMUTATIVE and not first.domain:
                return [(x, b[n]) for x, n in zip(a, order, strict=True)]
            if guesses.is_permuted(self.a, self.b, a, b):
                message = (
                    f"nodes {first.name!r} and {second.name!r} ({first.op_type}) take their inputs in another order"
                )
                self.differ("wiring", (i, j), message, False)
                return [(x, b[n]) for x, n in zip(a, order, strict=True)]
            return [*zip(a, b, strict=True), *read]
        pairs = []
        bias = None if first.domain else meaning.ADDENDS.get(first.op_type)
        for number in range(max(len(a), len(b))):
            x, y = (names[number] if number < len(names) else "" for names in (a, b))
            if bool(x) != bool(y) and not (first.op_type == "Pad" and self._is_zero(x, y)):
                self.one_sided((i, j), x, y, is_bias=number == bias)
            pairs.append((x, y) if bool(x) == bool(y) else ("", ""))
        return pairs + read

    def _is_zero(self, x: str, y: str) -> bool:
        """Whether the one of two inputs that is there is a fixed 0."""
        leaf = self.a.form.leaves.get(x) if x else self.b.form.leaves.get(y)
        return leaf is not None and leaf.is_zero

    def _other(self, i: int, j: int) -> None:
        """Compares two nodes with different operators: one may be left out, or stand for the other."""
        first, second = self.a.form.nodes[i], self.b.form.nodes[j]
        message = f"node {first.name!r} is {first.op_type}, node {second.name!r} is {second.op_type}"
        if self._left_out(first.outputs[0], second.outputs[0], (i, j)) or self._folded(i, j):
            return
        if guesses.may_take_the_same(self.a, self.b, first.inputs, second.inputs):
            self.differ("operator", (i, j), message, False)
            self.finish(i, j)
            order = guesses.order(self.a, self.b, first.inputs, second.inputs, self.pairs)
            self.push([(x, second.inputs[n]) for x, n in zip(first.inputs, order, strict=True)], (i, j))
            return
        if not self.is_resumed or self.mentioned.isdisjoint((first.name, second.name)):
            self.differ("wiring", (i, j), message, False)

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
                self.differ("operator", (position, -1) if which == 0 else (-1, position), text, False, near)
                self.push([(name, other) if which == 0 else (other, name)], at)
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
            self.differ("operator", (i, j), f"{text} node {product.name!r} ({product.op_type}) in the other", False)
            self.finish(i, j)
            pair = maker.inputs[0], product.inputs[0]
            self.push([pair if which == 0 else pair[::-1]], (i, j))
            return True
        return False


def _positions(groups: tuple[Group, Group]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return groups[0].positions, groups[1].positions


def _product(found: Linear) -> Group:
    """A product with a weight as a Gemm."""
    inputs = (found.data, found.weight, found.bias) if found.bias else (found.data, found.weight)
    return Group("Gemm", inputs, FrozenMapping({"transB": 1} if found.transposed else {}), found.positions)
