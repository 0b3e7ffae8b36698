"""Nodes and constants in short, and what holds of every alignment."""

from __future__ import annotations

from typing import Any

from deepstruct.frozen import FrozenMapping
from deepstruct.structure import Node
from deepstruct.tensor import Tensor
from deepstruct.verification.operations import Alignment


def node(op_type: str, inputs: str, outputs: str, name: str | None = None, **attributes: Any) -> Node:
    """A node whose inputs and outputs are separated by spaces, ``-`` for one that is left out."""
    split = [tuple("" if part == "-" else part for part in names.split()) for names in (inputs, outputs)]
    return Node(name or f"n_{outputs.split()[0]}", op_type, split[0], split[1], FrozenMapping(attributes))


def ints(*values: int) -> Tensor:
    return Tensor("int64", (len(values),), values)


def assert_sound(found: Alignment) -> None:
    """Every step takes only what is there, on both sides, and computes it by its own nodes."""
    for side, whole in ((0, found.structure_a), (1, found.structure_b)):
        derivations = (found.derivations_a, found.derivations_b)[side]
        known = {v.name for v in whole.inputs} | {p.name for p in whole.parameters} | set(whole.constants)
        known |= set(derivations)
        for step in found.steps:
            operation = (step.a, step.b)[side]
            assert set(operation.inputs) - {""} <= known
            made: set[str] = set()
            for part in operation.nodes:
                assert set(part.sources) - {""} <= made | set(operation.inputs)
                made |= set(part.outputs)
            assert set(operation.outputs) <= made | {""}
            known |= made
        assert {pair[side] for pair in found.outputs} <= known
        for name, nodes in derivations.items():
            assert name in nodes[-1].outputs
    for step in found.steps:
        assert len(step.order) == len(step.a.inputs)
        assert all(-1 <= place < len(step.b.inputs) for place in step.order)
        for pair in step.leaves:
            places = [n for n, name in enumerate(step.a.inputs) if name == pair.a]
            assert not places or any(step.order[n] == -1 or step.b.inputs[step.order[n]] == pair.b for n in places)
