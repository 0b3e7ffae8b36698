"""What RNN, GRU and LSTM do to units: a layer of gates and a layer of states, whatever the number of steps.

Each gate of each hidden unit is a unit of its own, so that each entry of the weights is one connection; the states are
connected with their gates without a parameter. A plain RNN has one gate, which is the state itself. Connections of the
recurrent weight reach from the states of one step to the gates of the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from deepstruct.expansion_linear import Weighted
from deepstruct.expansion_parameters import matrices
from deepstruct.expansion_values import Entries, Known, Rule, Units, UnknownUnitsError, Value
from deepstruct.structure import Node
from deepstruct.units import Numbers
from deepstruct.windows import integer
from deepstruct.wires import EntryMatrix, Links

if TYPE_CHECKING:
    from deepstruct.expansion import Expansion

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def _recurrent(expansion: Expansion, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    value, weight, again = inputs[:3]
    if (
        not isinstance(value, Units)
        or not isinstance(weight, Entries | Known)
        or not isinstance(again, Entries | Known)
    ):
        raise UnknownUnitsError(f"{node.op_type} takes its weights from units")
    if any(isinstance(other, Units) for other in (*inputs[3:4], *inputs[7:8])):
        raise UnknownUnitsError(f"{node.op_type} takes its bias or its peepholes from units")
    gates = _GATES[node.op_type]
    directions, rows, features = weight.shape
    hidden = rows // gates
    batch_first = integer(node, "layout", 0) == 1
    numbers = np.swapaxes(value.numbers, 0, 1) if batch_first else value.numbers
    steps, batch = numbers.shape[:2]
    windows = numbers.reshape(-1, 1, features)
    name = node.scope or node.name
    made = expansion.new_layer(name if gates == 1 else f"{name}.gates", node.op_type, (directions * rows,))
    _wire(expansion, made, windows, matrices(expansion, weight, (directions * rows, features)))
    states = made
    if gates > 1:
        states = expansion.new_layer(name, node.op_type, (directions * hidden,))
        own = made.numbers.reshape(directions, gates, hidden)
        expansion.wire(states, Links(np.swapaxes(own, 1, 2).reshape(-1, gates)))
    for initial in inputs[5:7]:
        if isinstance(initial, Units):
            samples = np.moveaxis(initial.numbers, 0 if batch_first else 1, -1)
            expansion.wire(states, Links(samples.reshape(directions * hidden, -1)))
    for direction in range(directions):
        source = states.numbers.reshape(directions, 1, 1, hidden)[direction]
        for matrix in matrices(expansion, again, (directions * rows, hidden)):
            order = np.arange(direction * rows * hidden, (direction + 1) * rows * hidden).reshape(rows, hidden)
            part = matrix if directions == 1 else matrix.picked(order)
            if directions > 1 and not part.kept().any():
                continue
            Weighted(expansion, made).by_matrix(source, part, direction * rows, recurrent=True)
    own = states.numbers.reshape(directions, 1, hidden)
    last: Numbers = np.broadcast_to(own, (directions, batch, hidden))
    every: Numbers = np.broadcast_to(own, (steps, directions, batch, hidden))
    if batch_first:
        last, every = np.swapaxes(last, 0, 1), np.moveaxis(every, 2, 0)
    return [Units(every), Units(last), Units(last)]


def _wire(expansion: Expansion, made: Units, windows: Numbers, weights: Sequence[EntryMatrix]) -> None:
    """Wires gates with the input of every step; a step that has units of its own has connections of its own."""
    distinct: Numbers = np.unique(windows, axis=0)
    for step in range(distinct.shape[0]):
        for matrix in weights:
            Weighted(expansion, made).by_matrix(distinct[step : step + 1], matrix)


RULES: dict[str, Rule] = dict.fromkeys(_GATES, _recurrent)
