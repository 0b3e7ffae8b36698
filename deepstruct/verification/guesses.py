"""Guesses about what corresponds in two graphs, where order and names leave it open; `matching` checks them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from deepstruct.structure import Node
from deepstruct.verification.normal_form import Leaf, NormalForm
from deepstruct.verification.signatures import Numbers, Signatures, attributes_key, shallow

Key = Callable[[str], Hashable]
Digests = tuple[Mapping[str, bytes], Mapping[str, bytes]]


@dataclass(frozen=True)
class Side:
    """One of two graphs that are compared.

    Attributes:
        form: the graph.
        levels: keys of values, equal for values that may correspond, the most telling ones first.
        plain: signatures that know no names.
        exact: signatures that tell shapes and constants apart.
        named: signatures that know names which both graphs have.
    """

    form: NormalForm
    levels: tuple[Key, ...]
    plain: Signatures
    exact: Signatures
    named: Signatures


def sides(
    a: NormalForm, b: NormalForm, digests: Digests | None = None, outer: tuple[Side, Side] | None = None
) -> tuple[Side, Side]:
    """Two graphs with what helps to guess.

    Args:
        a: a graph.
        b: another one.
        digests: of leaves, by name, that are equal if their numbers may be.
        outer: the graphs that they stand in.
    """
    numbers: tuple[Numbers, ...] = ({}, {}, {}, {})
    shared = {n for n, leaf in a.leaves.items() if leaf.stored and not leaf.tensor and n in b.leaves}
    return _side(a, numbers, shared, digests and digests[0], outer and outer[0]), _side(
        b, numbers, shared, digests and digests[1], outer and outer[1]
    )


def _side(
    form: NormalForm,
    numbers: tuple[Numbers, ...],
    shared: Set[str],
    digests: Mapping[str, bytes] | None,
    outer: Side | None,
) -> Side:
    def plain(name: str, leaf: Leaf | None) -> Hashable:
        if leaf is None:
            return outer.plain[name] if outer is not None else name
        return leaf.dtype, leaf.shape

    def exact(name: str, leaf: Leaf | None) -> Hashable:
        if leaf is None and outer is not None:
            return outer.exact[name]
        return plain(name, leaf), leaf and leaf.tensor

    def named(name: str, leaf: Leaf | None) -> Hashable:
        if leaf is None and outer is not None:
            return outer.named[name]
        return plain(name, leaf), name if name in shared else ""

    def digested(name: str, leaf: Leaf | None) -> Hashable:
        return plain(name, leaf), (digests or {}).get(name)

    near = shallow(form)
    signatures = Signatures(form, numbers[0], plain), Signatures(form, numbers[2], named)
    levels: list[Key] = [s.__getitem__ for s in signatures[::-1]]
    if digests is not None:
        levels.insert(0, Signatures(form, numbers[3], digested).__getitem__)
    return Side(
        form, (*levels, near.get), signatures[0], Signatures(form, numbers[1], exact, exact=True), signatures[1]
    )


def order(a: Side, b: Side, first: Sequence[str], second: Sequence[str], pairs: Mapping[str, str]) -> list[int]:
    """For each of some values, the position of that one of as many others with which it is best compared.

    Those that are known to correspond come first, then those whose keys are equal, then the rest as it stands.
    """
    found: dict[int, int] = {}
    places = {name: position for position, name in enumerate(second)}
    for position, name in enumerate(first):
        if pairs.get(name) in places and places[pairs[name]] not in found.values():
            found[position] = places[pairs[name]]
    for keys in (*zip(a.levels, b.levels, strict=True), (_nothing, _nothing)):
        if len(found) == len(first):
            break
        taken = set(found.values())
        left: dict[Hashable, list[int]] = {}
        for position, name in enumerate(second):
            if position not in taken:
                left.setdefault(keys[1](name), []).append(position)
        for position, name in enumerate(first):
            same = left.get(keys[0](name)) if position not in found else None
            if same:
                found[position] = same.pop(same.index(position) if position in same else 0)
    return [found[position] for position in range(len(first))]


def _nothing(_name: str) -> Hashable:
    return None


def is_permuted(a: Side, b: Side, first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether values are computed as others are, but in another order.

    Names do not count: the same network may have them in another order.
    """
    levels: list[tuple[Key, Key]] = [(a.plain.__getitem__, b.plain.__getitem__)]
    if len(a.levels) > 3:
        levels.append((a.levels[0], b.levels[0]))
    for key, other in levels:
        keys = [key(name) for name in first], [other(name) for name in second]
        if keys[0] != keys[1] and Counter(keys[0]) == Counter(keys[1]):
            return True
    return False


def may_take_the_same(a: Side, b: Side, first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether two nodes take as many inputs, and at least one of them may be the same value, leaves apart."""
    if [bool(name) for name in first] != [bool(name) for name in second]:
        return False
    for x, y in zip(first, second, strict=True):
        known = x in a.form.leaves or y in b.form.leaves
        if x and not known and any(key(x) == other(y) for key, other in zip(a.levels, b.levels, strict=True)):
            return True
    return False


def anchors(a: Side, b: Side, done: tuple[Set[int], Set[int]]) -> Iterator[tuple[int, int]]:
    """Pairs of nodes that are likely to correspond, from which to go on behind a difference, the last ones first.

    First those that are computed in the same way, if that is said of one pair only; then those of one name, then those
    that use a parameter of one name.
    """
    kinds: list[Callable[[Side, Node], Hashable]] = [_by_names, _by_shapes, _by_name, _by_leaf]
    for kind in kinds:
        own, others = _single(a, done[0], kind), _single(b, done[1], kind)
        yield from sorted(((own[key], others[key]) for key in own.keys() & others.keys()), reverse=True)


def _single(side: Side, done: Set[int], kind: Callable[[Side, Node], Hashable]) -> dict[Hashable, int]:
    """Key -> position of the only node, among those that are not done and make no leaf, that has it."""
    found: dict[Hashable, list[int]] = {}
    for position, node in enumerate(side.form.nodes):
        if position not in done and node.outputs and not any(name in side.form.leaves for name in node.outputs):
            found.setdefault(kind(side, node), []).append(position)
    return {key: positions[0] for key, positions in found.items() if len(positions) == 1 and key is not None}


def _by_names(side: Side, node: Node) -> Hashable:
    return side.named[next(filter(None, node.outputs), "")]


def _by_shapes(side: Side, node: Node) -> Hashable:
    return side.plain[next(filter(None, node.outputs), "")]


def _by_name(side: Side, node: Node) -> Hashable:
    leaves = [name in side.form.leaves and side.plain[name] for name in node.inputs]
    return node.called, node.name, tuple(leaves), attributes_key(side.form, node)


def _by_leaf(side: Side, node: Node) -> Hashable:
    stored = [name for name in node.inputs if name in side.form.leaves and side.form.leaves[name].stored]
    stored = [name for name in stored if side.form.leaves[name].tensor is None]
    return (node.called, stored[0]) if stored else None
