"""Bounds for LSTM, GRU and RNN: a running error analysis through the steps.

The errors of the states go into the next step: with the absolute values of the recurrent weights into the gates, and
with the slopes of the activations, at most 1 and 1/4, out of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deepstruct.verification.bounds_arithmetic import Arithmetic, Ball, non_zeros
from deepstruct.verification.bounds_case import Case, Rule

Activation = Callable[[Ball], Ball]
State = tuple[Ball, ...]

_DEFAULTS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}

_TANH = 8.0
"""Absolute error, in units of roundoff: onnxruntime's cells compute 2 sigmoid(2x) - 1."""


@dataclass(frozen=True, eq=False)
class _Cell:
    """One direction: weights (gates * hidden, ...), the projected inputs of every step, and functions."""

    arithmetic: Arithmetic
    recurrence: Tensor
    bias: Tensor
    projected: Tensor
    magnitude: Tensor
    count: Tensor
    peepholes: tuple[Tensor, ...]
    functions: tuple[Activation, ...]
    clip: float | None
    input_forget: bool
    linear_before_reset: bool

    def sums(self, step: int, hidden: Ball, rows: slice, *peephole: Tensor | Ball) -> Ball:
        """Some gates before their activation, clipped: projected input, recurrence, bias and maybe a peephole."""
        recurrence = self.recurrence[rows].T
        value = self.projected[step][:, rows] + hidden.value @ recurrence
        magnitude = self.magnitude[step][:, rows] + hidden.value.abs() @ recurrence.abs()
        propagated = hidden.radius @ recurrence.abs()
        if peephole:
            weight, memory = peephole
            assert isinstance(weight, Tensor)
            assert isinstance(memory, Ball)
            value, magnitude = value + weight * memory.value, magnitude + weight.abs() * memory.value.abs()
            propagated = propagated + weight.abs() * memory.radius
        return self.clipped(self.arithmetic.dot(value, magnitude, self.count[rows] + 5, propagated))

    def clipped(self, ball: Ball) -> Ball:
        return ball if self.clip is None else self.arithmetic.clamp(ball, -self.clip, self.clip)


def _rows(gate: int, size: int, gates: int = 1) -> slice:
    return slice(gate * size, (gate + gates) * size)


def _lstm(cell: _Cell, step: int, state: State) -> State:
    arithmetic, (hidden, memory) = cell.arithmetic, state
    size = hidden.value.shape[1]
    gate, candidate, output = cell.functions
    peepholes = [(weight, memory) if cell.peepholes else () for weight in cell.peepholes or range(3)]
    i = gate(cell.sums(step, hidden, _rows(0, size), *peepholes[0]))
    f = gate(cell.sums(step, hidden, _rows(2, size), *peepholes[2]))
    if cell.input_forget:
        f = arithmetic.subtract(Ball(torch.ones_like(i.value)), i)
    c = candidate(cell.sums(step, hidden, _rows(3, size)))
    memory = arithmetic.add(arithmetic.multiply(f, memory), arithmetic.multiply(i, c))
    o = gate(cell.sums(step, hidden, _rows(1, size), *((cell.peepholes[1], memory) if cell.peepholes else ())))
    return arithmetic.multiply(o, output(memory)), memory


def _gru(cell: _Cell, step: int, state: State) -> State:
    arithmetic, (hidden,) = cell.arithmetic, state
    size = hidden.value.shape[1]
    gate, candidate = cell.functions
    z, r = (gate(cell.sums(step, hidden, _rows(k, size))) for k in (0, 1))
    rows = _rows(2, size)
    recurrence, bias = Ball(cell.recurrence[rows].T), Ball(cell.bias[rows])
    if cell.linear_before_reset:
        reset = arithmetic.multiply(r, arithmetic.matmul(hidden, recurrence, bias))
    else:
        reset = arithmetic.matmul(arithmetic.multiply(r, hidden), recurrence, bias)
    value, magnitude = cell.projected[step][:, rows] + reset.value, cell.magnitude[step][:, rows] + reset.size
    new = candidate(cell.clipped(arithmetic.dot(value, magnitude, cell.count[rows] + 5, reset.radius)))
    mixed = (1 - z.value) * new.value + z.value * hidden.value
    error = (1 - z.value).abs() * new.radius + z.value.abs() * hidden.radius
    error = error + z.radius * ((hidden.value - new.value).abs() + new.radius + hidden.radius)
    return (arithmetic.rounded(mixed, error, 1.0, 4 * (new.size + hidden.size)),)


def _rnn(cell: _Cell, step: int, state: State) -> State:
    return (cell.functions[0](cell.sums(step, state[0], slice(None))),)


_STEPS = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}


def _recurrent(case: Case) -> list[Ball] | list[None]:
    kind, arithmetic = case.node.op_type, case.arithmetic
    names = [str(name).lower() for name in case.attribute("activations", ())]
    known: dict[str, Activation] = {
        "relu": lambda x: Ball(x.value.relu(), x.error),
        "sigmoid": arithmetic.sigmoid,
        "tanh": lambda x: arithmetic.tanh(x).widened(arithmetic.accuracy(_TANH) * arithmetic.unit),
    }
    if any(name not in known for name in names):
        return [None] * len(case)
    is_batch_first = bool(case.attribute("layout", 0))
    x, weight, recurrence = (case.tensor(position) for position in range(3))
    x = x.transpose(0, 1) if is_batch_first else x
    directions, batch, size = weight.shape[0], x.shape[1], recurrence.shape[2]
    functions = [known[name] for name in names or _DEFAULTS[kind] * directions]
    states = 2 if kind == "LSTM" else 1
    outputs, finals = [], []
    for d in range(directions):
        state = tuple(_initial(case, 5 + k, d, (batch, size), is_batch_first) for k in range(states))
        cell = _cell(case, d, x, tuple(functions[d * len(_DEFAULTS[kind]) :][: len(_DEFAULTS[kind])]))
        is_reversed = case.attribute("direction", "forward") == "reverse" or d == 1
        y, state = _run(kind, cell, state, case.tensors[4] if case.has(4) else None, is_reversed)
        outputs.append(y)
        finals.append(state)
    last = [_stacked([state[k] for state in finals], 1 if is_batch_first else 0) for k in range(states)]
    whole = _stacked(outputs, 1)
    if is_batch_first:
        whole = Ball(whole.value.permute(2, 0, 1, 3), whole.radius.permute(2, 0, 1, 3))
    return [whole, *last]


def _initial(case: Case, position: int, d: int, shape: tuple[int, int], is_batch_first: bool) -> Ball:
    if not case.has(position):
        return Ball(torch.zeros(shape, dtype=torch.float64))
    given = case.tensor(position)
    return Ball((given.transpose(0, 1) if is_batch_first else given)[d])


def _cell(case: Case, d: int, x: Tensor, functions: tuple[Activation, ...]) -> _Cell:
    kind = case.node.op_type
    weight, recurrence = case.tensor(1)[d], case.tensor(2)[d]
    size = recurrence.shape[1]
    both = case.tensor(3)[d] if case.has(3) else torch.zeros(2 * len(weight), dtype=torch.float64)
    own, recurrent = both.chunk(2)
    outside = recurrent.clone()
    if kind == "GRU":
        outside[2 * size :] = 0
    peephole = 7 if kind == "LSTM" else 8
    clip = case.attribute("clip", None)
    return _Cell(
        case.arithmetic,
        recurrence,
        recurrent,
        x @ weight.T + own + outside,
        x.abs() @ weight.abs().T + own.abs() + outside.abs(),
        non_zeros(weight, 1) + non_zeros(recurrence, 1),
        tuple(case.tensor(peephole)[d].chunk(3)) if case.has(peephole) else (),
        functions,
        None if clip is None else float(clip),
        bool(case.attribute("input_forget", 0)),
        bool(case.attribute("linear_before_reset", 0)),
    )


def _run(kind: str, cell: _Cell, state: State, lengths: Tensor | None, is_reversed: bool) -> tuple[Ball, State]:
    """Y (steps, batch, hidden) of one direction and its last state."""
    steps = range(len(cell.projected))
    outputs = [state[0]] * len(steps)
    for step in steps[::-1] if is_reversed else steps:
        following = _STEPS[kind](cell, step, state)
        if lengths is None:
            state = following
            outputs[step] = state[0]
            continue
        active = (step < lengths).unsqueeze(1)
        state = tuple(
            Ball(torch.where(active, new.value, old.value), torch.where(active, new.radius, old.radius))
            for new, old in zip(following, state, strict=True)
        )
        outputs[step] = Ball(torch.where(active, state[0].value, 0), torch.where(active, state[0].radius, 0))
    return _stacked(outputs, 0), state


def _stacked(balls: list[Ball], axis: int) -> Ball:
    return Ball(torch.stack([ball.value for ball in balls], axis), torch.stack([ball.radius for ball in balls], axis))


RULES: dict[str, Rule] = dict.fromkeys(_STEPS, _recurrent)
