"""What is different between the model that was written and the one that was read, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deepstruct.comparison import compare
from deepstruct.mask import Mask
from deepstruct.model import Model, Weights
from deepstruct.structure import Parameter, Structure

_SHOWN = 300  # characters of a value


def differences(expected: Model, found: Model) -> list[str]:
    """Every difference of two models; none if they are equal.

    Whether a network without parameters has weights is no difference.
    """
    if expected.structure != found.structure:
        return list(_of_structures(expected.structure, found.structure)) or ["the structures differ"]
    if not expected.structure.parameters or expected.weights is found.weights is None:
        return []
    if expected.weights is None or found.weights is None:
        return [f"weights: there are {'none' if found.weights is None else 'some'} after reading"]
    return list(_of_weights(expected.weights, found.weights))


def _of_structures(expected: Structure, found: Structure) -> Iterator[str]:
    difference = compare(expected, found)
    for change in difference.parameters:
        types = f"{change.before or 'nothing'} -> {change.after or 'nothing'}"
        yield f"parameter {change.name!r} is {change.change}: {types}"
        if change.change == "rewired":
            yield from _of_masks(expected.parameter(change.name), found.parameter(change.name))
    for kind, names in difference.nodes.items():
        if names:
            yield f"nodes {kind}: {', '.join(map(repr, names))}"
    old = {node.name: node for node in expected.nodes}
    new = {node.name: node for node in found.nodes}
    for name in difference.nodes["changed"]:
        yield f"node {name!r}: {old[name]!r:.{_SHOWN}} -> {new[name]!r:.{_SHOWN}}"
    for member in (*difference.graph, *(["functions"] if expected.functions != found.functions else [])):
        yield f"{member}: {getattr(expected, member)!r:.{_SHOWN}} -> {getattr(found, member)!r:.{_SHOWN}}"


def _of_masks(expected: Parameter, found: Parameter) -> Iterator[str]:
    before, after = (parameter.mask or Mask.full(parameter.shape) for parameter in (expected, found))
    lost = before.flat() & ~after.flat()
    new = after.flat() & ~before.flat()
    yield f"  {lost.sum()} of {before.nnz} entries of its mask are lost, and {new.sum()} are new"
    if len(before.shape) > 1 and np.array_equal(before.to_array().T.reshape(-1), after.flat()):
        yield "  it holds the entries in column-major order; masks are row-major"


def _of_weights(expected: Weights, found: Weights) -> Iterator[str]:
    for name in expected:
        before, after = expected.kept(name), found.kept(name)
        if before.tobytes() == after.tobytes():
            continue
        bits = (array.reshape(-1, 1).view(np.uint8) for array in (before, after))
        different = np.flatnonzero(np.not_equal(*bits).any(axis=1))
        first = int(different[0])
        yield (
            f"numbers of {name!r}: {different.size} of {before.size} entries have other bits; "
            f"entry {first} of those that exist was {before[first]!r} and is {after[first]!r}"
        )
