"""What two networks take and give, and whether they give the same twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from deepstruct.structure import Node, Structure, ValueInfo
from deepstruct.tensor import Tensor

_RANDOM = frozenset(
    ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
)


def interface_faults(a: Structure, b: Structure, by_position: bool) -> list[str]:
    """What keeps the two from taking the same inputs and giving outputs that can be compared, in sentences.

    Args:
        a: first network.
        b: second network.
        by_position: names may differ.
    """
    faults: list[str] = []
    for what, ours, theirs in (("input", a.inputs, b.inputs), ("output", a.outputs, b.outputs)):
        if len(ours) != len(theirs):
            faults.append(f"one has {_counted(len(ours), what)}, the other {len(theirs)}")
            continue
        if not by_position:
            faults += _name_faults(what, ours, theirs)
        for one, other in zip(ours, theirs, strict=True):
            faults += _type_faults(what, one, other)
    return faults


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _name_faults(what: str, ours: Sequence[ValueInfo], theirs: Sequence[ValueInfo]) -> Iterator[str]:
    names = [info.name for info in ours], [info.name for info in theirs]
    if names[0] != names[1] and sorted(names[0]) == sorted(names[1]):
        yield f"the {what}s stand in another order: {', '.join(names[0])} and {', '.join(names[1])}"
        return
    for number, (one, other) in enumerate(zip(*names, strict=True)):
        if one != other:
            yield f"{what} {number} is called {one!r} in one and {other!r} in the other; --by-position passes by names"


def _type_faults(what: str, a: ValueInfo, b: ValueInfo) -> Iterator[str]:
    name = f"the {what} {a.name!r}"
    if a.dtype is not None and b.dtype is not None and a.dtype != b.dtype:
        yield f"{name} has dtype {a.dtype} in one and {b.dtype} in the other"
    if a.containers != b.containers and a.dtype is not None and b.dtype is not None:
        kinds = [" of ".join(info.containers) or "tensor" for info in (a, b)]
        yield f"{name} is a {kinds[0]} in one and a {kinds[1]} in the other"
    if a.shape is None or b.shape is None:
        return
    if len(a.shape) != len(b.shape):
        yield f"{name} has rank {len(a.shape)} in one and {len(b.shape)} in the other"
        return
    for axis, (one, other) in enumerate(zip(a.shape, b.shape, strict=True)):
        if isinstance(one, int) and isinstance(other, int) and one != other:
            yield f"{name} has {one} entries along axis {axis} in one and {other} in the other"


def narrowings(a: Structure, b: Structure) -> list[str]:
    """Inputs of which one network takes extents that the other does not, in sentences: nothing is shown of those."""
    found = []
    for one, other in zip(a.inputs, b.inputs, strict=True):
        for axis, (ours, theirs) in enumerate(zip(one.shape or (), other.shape or (), strict=False)):
            if isinstance(ours, int) != isinstance(theirs, int):
                extent = ours if isinstance(ours, int) else theirs
                found.append(f"of the input {one.name!r} one takes {extent} entries along axis {axis} only")
    return [f"{sentence}; this is about those" for sentence in found]


def randomness(structure: Structure) -> list[str]:
    """Why two runs on the same inputs may give other outputs, in sentences; empty if they give the same."""
    functions = {function.key: function for function in structure.functions}
    found: dict[str, None] = {}
    seen: set[tuple[str, str, str]] = set()
    main = {**_constants(structure.nodes), **structure.constants}
    pending = [(node, structure.opset, main) for node in _needed(structure.nodes, {v.name for v in structure.outputs})]
    while pending:
        node, opset, constants = pending.pop(0)
        function = functions.get(node.called)
        if function is not None:
            if node.called not in seen:
                seen.add(node.called)
                own = {name: c for name, c in structure.constants.items() if name not in function.local_names}
                own |= _constants(function.nodes)
                pending += [(inner, function.opset, own) for inner in _needed(function.nodes, set(function.outputs))]
            continue
        for graph in node.graphs:
            inside = {**constants, **_constants(graph.nodes)}
            pending += [(inner, opset, inside) for inner in graph.nodes]
        why = _randomness(node, opset.get("", 0), constants)
        if why:
            found[f"node {node.name!r}: {node.op_type} {why}"] = None
    return list(found)


def _needed(nodes: Sequence[Node], wanted: set[str]) -> list[Node]:
    """The nodes that some values depend on, in their order."""
    needed = set(wanted)
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.sources)
    return kept[::-1]


def _constants(nodes: Sequence[Node]) -> dict[str, Tensor]:
    return {
        node.outputs[0]: value
        for node in nodes
        if node.op_type == "Constant" and isinstance(value := node.attributes.get("value"), Tensor)
    }


def _randomness(node: Node, opset: int, constants: Mapping[str, Tensor]) -> str:
    if node.domain:
        return ""
    if node.op_type in _RANDOM:
        return "draws numbers"
    old_training = opset < 7 and not node.attributes.get("is_test")
    if node.op_type == "BatchNormalization":
        by_outputs = opset < 14 and any(node.outputs[1:])
        if node.attributes.get("training_mode") or by_outputs or old_training:
            return "is in training mode, where it normalises by the batch that it sees"
    if node.op_type == "Dropout":
        mode = node.inputs[2] if opset >= 12 and len(node.inputs) > 2 else ""
        if mode and mode not in constants:
            return "may be in training mode, where it draws numbers"
        if old_training or (mode and any(constants[mode].data)):
            return "is in training mode, where it draws numbers"
    return ""
