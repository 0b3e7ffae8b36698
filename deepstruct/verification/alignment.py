"""What corresponds in two structures that should be one network: `align`."""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from deepstruct.frozen import FrozenMapping
from deepstruct.structure import Node, Structure
from deepstruct.verification import guesses, preparation, statics
from deepstruct.verification.correspondence import Match, Matching, Zeros
from deepstruct.verification.decompositions import Group
from deepstruct.verification.guesses import Digests
from deepstruct.verification.matching import match
from deepstruct.verification.normal_form import MOST_ELEMENTS, NormalForm
from deepstruct.verification.operations import Alignment, GraphDifference, LeafPair, Operation, Step


def align(a: Structure, b: Structure, fingerprints: Digests | None = None, zeros: Zeros | None = None) -> Alignment:
    """What corresponds in two structures whose inputs and outputs correspond by position.

    Without differences, both compute the same on inputs with the extents that either of them fixes, if all pairs of
    leaves are equal and each step that only reshapes gives the same shapes; see `statics`, `normal_form`, `operands`,
    `movement` and `decompositions` for what is seen through.

    Args:
        a: a structure.
        b: another one.
        fingerprints: for either, name of a parameter -> digest of its numbers. Where operands may stand in several
            orders, parameters with equal digests are paired first, before those with equal names.
        zeros: for either, names of the parameters in which each entry is 0. A bias of zeros is the same as none; only
            with these names is it certain that another one is not.
    """
    a, b = preparation.inlined(a), preparation.inlined(b)
    a, b, reason = preparation.of_one_opset(a, b)
    (a, known_a), (b, known_b) = statics.specialised(a, b)
    forms = NormalForm.of_structure(a, known_a), NormalForm.of_structure(b, known_b)
    too_large = [form.excessive[:1] for form in forms]
    if any(too_large):
        return Alignment((), (), tuple(_excessive(too_large)), structure_a=a, structure_b=b)
    found = match(*guesses.sides(*forms, fingerprints), zeros)
    differences = _by_place(found)
    if reason and differences:
        differences.append(GraphDifference("opset", "", "", reason, False))
    for structure in (a, b):
        for function in structure.functions:
            text = f"the function {function.name!r} cannot be put in place of its calls"
            differences.append(GraphDifference("opset", "", "", text, False))
    steps, is_ordered = _steps(found, *forms)
    if not is_ordered:
        text = "shapes in one graph depend on values that come later in the other"
        differences.append(GraphDifference("wiring", "", "", text, False))
    leaves = dict.fromkeys(pair for step in steps for pair in step.leaves)
    leaves.update(found.leaves)
    return Alignment(
        steps=tuple(steps),
        leaves=tuple(leaves),
        differences=tuple(differences),
        derivations_a=_derivations(forms[0], (step.a for step in steps), (pair.a for pair in leaves)),
        derivations_b=_derivations(forms[1], (step.b for step in steps), (pair.b for pair in leaves)),
        unused_a=_unused(a, forms[0]),
        unused_b=_unused(b, forms[1]),
        structure_a=a,
        structure_b=b,
        outputs=tuple(zip(forms[0].outputs, forms[1].outputs, strict=False)),
    )


def _excessive(names: Sequence[Sequence[str]]) -> Iterator[GraphDifference]:
    for which, found in zip(("first", "second"), names, strict=True):
        for name in found:
            text = f"the fixed tensor {name!r} of the {which} graph would have more than {MOST_ELEMENTS:,} elements"
            yield GraphDifference("leaf", "", "", text, False)


def _by_place(found: Matching) -> list[GraphDifference]:
    """The differences from the inputs on; one is certain only if all are, since others may make up for it."""
    differences = [difference for _, difference in sorted(found.differences, key=lambda item: item[0])]
    if all(difference.is_certain for difference in differences):
        return differences
    return [d if d.kind == "outputs" else replace(d, is_certain=False) for d in differences]


def origin(name: str, derivations: Mapping[str, tuple[Node, ...]]) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """Where the numbers of a leaf come from.

    Args:
        name: of the leaf.
        derivations: of the leaves of its structure, as `Alignment` has them.

    Returns:
        Names of the parameters and constants that it is computed from; and, if it is one of them but for the order of
        its axes, the permutation that gives the leaf by ``numpy.transpose``, else None. It is None, too, for a
        parameter or constant as it is.
    """
    nodes = derivations.get(name, ())
    made = {output for node in nodes for output in node.outputs}
    used = (source for node in nodes for source in (*node.sources, *node.references))
    names = tuple(dict.fromkeys(source for source in used if source and source not in made)) or (name,)
    perm = nodes[0].attributes.get("perm") if len(nodes) == 1 and nodes[0].op_type == "Transpose" else None
    return names, perm if isinstance(perm, tuple) else None  # type: ignore[return-value]  # axes are ints


def _derivations(
    form: NormalForm, operations: Iterable[Operation], names: Iterable[str]
) -> FrozenMapping[tuple[Node, ...]]:
    used = dict.fromkeys(names)
    used.update(dict.fromkeys(name for operation in operations for name in operation.inputs))
    return FrozenMapping({n: form.derivation(n) for n in used if n in form.leaves and n in form.makers})


def _unused(structure: Structure, form: NormalForm) -> tuple[str, ...]:
    return tuple(parameter.name for parameter in structure.parameters if not form.uses[parameter.name])


def _steps(found: Matching, a: NormalForm, b: NormalForm) -> tuple[list[Step], bool]:
    """The steps, in an order in which both graphs can be computed, and whether there is one."""
    matches = [found.matches[place] for place in sorted(found.matches)]
    made = _made(a, (m.a for m in matches)), _made(b, (m.b for m in matches))
    steps = [_step(m, a, b, made) for m in matches]
    makers: tuple[dict[str, int], dict[str, int]] = ({}, {})
    for number, step in enumerate(steps):
        for side, operation in zip(makers, (step.a, step.b), strict=True):
            side.update((name, number) for name in operation.outputs if name)
    return _ordered(steps, makers)


def _made(form: NormalForm, positions: Iterable[Sequence[int]]) -> set[str]:
    """Values that are known before or behind one of the operations."""
    made = {name for nodes in positions for name in form.nodes[nodes[-1]].outputs}
    return made | set(form.inputs) | set(form.leaves)


def _ordered(steps: list[Step], makers: tuple[dict[str, int], dict[str, int]]) -> tuple[list[Step], bool]:
    followers: list[list[int]] = [[] for _ in steps]
    waits = [0] * len(steps)
    for number, step in enumerate(steps):
        before = {side[n] for side, op in zip(makers, (step.a, step.b), strict=True) for n in op.inputs if n in side}
        waits[number] = len(before - {number})
        for other in before - {number}:
            followers[other].append(number)
    ready = [number for number, count in enumerate(waits) if not count]
    done = []
    while ready:
        number = heapq.heappop(ready)
        done.append(number)
        for other in followers[number]:
            waits[other] -= 1
            if not waits[other]:
                heapq.heappush(ready, other)
    if len(done) < len(steps):
        return steps, False
    return [steps[number] for number in done], True


def _step(found: Match, a: NormalForm, b: NormalForm, made: tuple[set[str], set[str]]) -> Step:
    if found.groups is not None:
        first, second = _grouped(a, found.groups[0]), _grouped(b, found.groups[1])
    else:
        first = _operation(a, found.a, [x for x, _ in found.inputs], found.shapes[0], made[0])
        second = _operation(b, found.b, [y for _, y in found.inputs], found.shapes[1], made[1])
    first, second = _with_common_outputs(first, second)
    special = {(pair.a, pair.b) for pair in found.leaves}
    plain = [pair for pair in found.inputs if pair[0] in a.leaves and pair[1] in b.leaves and pair not in special]
    leaves = dict.fromkeys([*found.leaves, *(LeafPair(x, y) for x, y in plain)])
    return Step(first, second, _order(first.inputs, second.inputs, found.inputs), tuple(leaves))


def _with_common_outputs(first: Operation, second: Operation) -> tuple[Operation, Operation]:
    """Both operations with the outputs that either graph uses, as far as both have them."""
    names = first.nodes[-1].outputs, second.nodes[-1].outputs
    used = [
        any(number < len(side.outputs) and side.outputs[number] for side in (first, second))
        for number in range(len(names[0]))
    ]
    kept = [use and all(number < len(side) and side[number] for side in names) for number, use in enumerate(used)]
    outputs = [
        tuple(name if number < len(kept) and kept[number] else "" for number, name in enumerate(side)) for side in names
    ]
    return replace(first, outputs=outputs[0]), replace(second, outputs=outputs[1])


def _order(first: Sequence[str], second: Sequence[str], pairs: Sequence[tuple[str, str]]) -> tuple[int, ...]:
    """For each input of an operation, the position of its counterpart, each used once if it can be."""
    places: dict[str, list[int]] = {}
    for position, name in enumerate(second):
        places.setdefault(name, []).append(position)
    others = dict(reversed(pairs))
    left = {name: list(positions) for name, positions in places.items()}
    found = []
    for number, name in enumerate(first):
        given = number < len(pairs) and pairs[number][0] == name
        other = pairs[number][1] if given else others.get(name)
        free = left.get(other, []) if other is not None else []
        if free:
            found.append(free.pop(free.index(number) if number in free else 0))
        else:
            found.append(places[other][0] if other in places else -1)
    return tuple(found)


def _grouped(form: NormalForm, group: Group) -> Operation:
    """Nodes that are one operator; the numbers that define it are among them."""
    own = [form.nodes[position] for position in group.positions]
    known = {*group.inputs, *(name for node in own for name in node.outputs)}
    numbers = {name: form.leaves[name].tensor for node in own for name in node.inputs if name and name not in known}
    constants = [
        Node(name, "Constant", (), (name,), FrozenMapping({"value": tensor}))
        for name, tensor in numbers.items()
        if tensor is not None
    ]
    last = own[-1]
    return Operation(
        last.name, group.op_type, group.inputs, last.outputs, (*constants, *own), FrozenMapping(group.attributes)
    )


def _operation(
    form: NormalForm, positions: Sequence[int], paired: Sequence[str], shapes: Sequence[str], known: Container[str]
) -> Operation:
    """A node, or several that reshape, with those that compute nothing but the shapes."""
    own = [form.nodes[position] for position in positions]
    last = own[-1]
    captured = tuple(dict.fromkeys(last.sources[len(last.inputs) :]))
    inputs, nodes = last.inputs + captured, own
    if shapes or len(own) > 1:
        nodes = [form.nodes[number] for number in sorted({*form.behind(shapes, known), *positions})]
        made = {name for node in nodes for name in node.outputs}
        needed = [name for node in nodes for name in node.sources]
        inputs = tuple(dict.fromkeys(name for name in (paired[0], *needed) if name and name not in made))
    outputs = tuple(name if form.uses[name] else "" for name in last.outputs)
    attributes = FrozenMapping(form.attributes(last))
    return Operation(last.name, last.op_type, inputs, outputs, tuple(nodes), attributes, last.domain)
