"""LSTM, GRU and RNN: torch's fused kernels where they compute the same, a loop over the steps elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from deepstruct.converters.torch_operators_entry import Operator
from deepstruct.structure import Node, Structure

Activation = Callable[[Tensor], Tensor]
Step = Callable[["_Cell", Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]

# name in lower case -> function of (x, alpha, beta), default alpha, default beta
_ACTIVATIONS: dict[str, tuple[Callable[[Tensor, float, float], Tensor], float, float]] = {
    "affine": (lambda x, alpha, beta: alpha * x + beta, 1.0, 0.0),
    "elu": (lambda x, alpha, _: F.elu(x, alpha), 1.0, 0.0),
    "hardsigmoid": (lambda x, alpha, beta: torch.clamp(alpha * x + beta, 0, 1), 0.2, 0.5),
    "leakyrelu": (lambda x, alpha, _: F.leaky_relu(x, alpha), 0.01, 0.0),
    "relu": (lambda x, *_: torch.relu(x), 0.0, 0.0),
    "scaledtanh": (lambda x, alpha, beta: alpha * torch.tanh(beta * x), 1.0, 1.0),
    "sigmoid": (lambda x, *_: torch.sigmoid(x), 0.0, 0.0),
    "softplus": (lambda x, *_: F.softplus(x, threshold=40.0), 0.0, 0.0),
    "softsign": (lambda x, *_: F.softsign(x), 0.0, 0.0),
    "tanh": (lambda x, *_: torch.tanh(x), 0.0, 0.0),
    "thresholdedrelu": (lambda x, alpha, _: torch.where(x >= alpha, x, 0), 1.0, 0.0),
}
_TAKES_ALPHA = ("affine", "elu", "hardsigmoid", "leakyrelu", "scaledtanh", "thresholdedrelu")
_TAKES_BETA = ("affine", "hardsigmoid", "scaledtanh")


@dataclass(frozen=True)
class _Kind:
    """What sets one of the operators apart: its activations, gates, steps and fused kernel."""

    activations: tuple[str, ...]
    states: int
    order: tuple[int, ...]
    step: Step


@dataclass
class _Cell:
    """One direction: weights (gates * hidden, ...), biases and functions of each step."""

    weight: Tensor
    recurrence: Tensor
    bias: Tensor
    bias_recurrent: Tensor
    peepholes: tuple[Tensor, ...]
    functions: tuple[Activation, ...]
    clip: float | None
    input_forget: bool
    linear_before_reset: bool

    def clipped(self, x: Tensor) -> Tensor:
        return x if self.clip is None else x.clamp(-self.clip, self.clip)


def _lstm_step(cell: _Cell, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    hidden, memory = state
    sums = projected + F.linear(hidden, cell.recurrence)
    i, o, f, c = sums.chunk(4, 1)
    gate, candidate, output = cell.functions
    if cell.peepholes:
        i, f = i + cell.peepholes[0] * memory, f + cell.peepholes[2] * memory
    i = gate(cell.clipped(i))
    f = 1 - i if cell.input_forget else gate(cell.clipped(f))
    memory = f * memory + i * candidate(cell.clipped(c))
    o = o + cell.peepholes[1] * memory if cell.peepholes else o
    return gate(cell.clipped(o)) * output(memory), memory


def _gru_step(cell: _Cell, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (hidden,) = state
    size = hidden.shape[1]
    gate, candidate = cell.functions
    gates = projected[:, : 2 * size] + F.linear(hidden, cell.recurrence[: 2 * size])
    z, r = gate(cell.clipped(gates)).chunk(2, 1)
    recurrence, bias = cell.recurrence[2 * size :], cell.bias_recurrent[2 * size :]
    if cell.linear_before_reset:
        reset = r * F.linear(hidden, recurrence, bias)
    else:
        reset = F.linear(r * hidden, recurrence, bias)
    h = candidate(cell.clipped(projected[:, 2 * size :] + reset))
    return ((1 - z) * h + z * hidden,)


def _rnn_step(cell: _Cell, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (hidden,) = state
    return (cell.functions[0](cell.clipped(projected + F.linear(hidden, cell.recurrence))),)


_KINDS = {
    "LSTM": _Kind(("sigmoid", "tanh", "tanh"), 2, (0, 2, 3, 1), _lstm_step),
    "GRU": _Kind(("sigmoid", "tanh"), 1, (1, 0, 2), _gru_step),
    "RNN": _Kind(("tanh",), 1, (0,), _rnn_step),
}


def _recurrent(
    kind: str,
    inputs: Sequence[Tensor | None],
    *,
    hidden_size: int | None = None,
    direction: str = "forward",
    layout: int = 0,
    activations: Sequence[str] | None = None,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    clip: float | None = None,
    input_forget: int = 0,
    linear_before_reset: int = 0,
    output_sequence: int = 0,
) -> tuple[Tensor, ...]:
    del hidden_size, output_sequence
    padded: list[Tensor | None] = [*inputs, *[None] * (8 - len(inputs))]
    x, weight, recurrence, bias, lengths, *rest = padded
    assert x is not None
    assert weight is not None
    assert recurrence is not None
    count = _KINDS[kind].states
    states, peepholes = rest[:count], rest[count]
    x = x.transpose(0, 1) if layout else x
    shape = (weight.shape[0], x.shape[1], recurrence.shape[2])
    initial = tuple(
        x.new_zeros(shape) if state is None else state.transpose(0, 1) if layout else state for state in states
    )
    bias = x.new_zeros(shape[0], 2 * weight.shape[1]) if bias is None else bias
    rows = len(_KINDS[kind].order) * shape[2]
    fitting = [(weight, (shape[0], rows, x.shape[2])), (recurrence, (shape[0], rows, shape[2]))]
    for tensor, expected in [*fitting, (bias, (shape[0], 2 * rows)), *((state, shape) for state in initial)]:
        if tensor.shape != expected:  # torch's own kernel would read beyond the end
            raise ValueError(f"an input has shape {tuple(tensor.shape)}, not {tuple(expected)}")
    names = tuple(name.lower() for name in activations or ()) or _KINDS[kind].activations * shape[0]
    plain = clip is None and peepholes is None and lengths is None and not input_forget
    if plain and _is_fused(kind, names, bool(linear_before_reset)) and x.numel():
        y, *final = _fused(kind, names, x, weight, recurrence, bias, initial, direction)
    else:
        functions = _functions(names, activation_alpha, activation_beta)
        cells = []
        for d in range(shape[0]):
            own_bias, recurrent_bias = bias[d].chunk(2)
            per_cell = len(functions) // shape[0]
            cells.append(
                _Cell(
                    weight[d],
                    recurrence[d],
                    own_bias,
                    recurrent_bias,
                    () if peepholes is None else peepholes[d].chunk(3),
                    functions[d * per_cell : (d + 1) * per_cell],
                    clip,
                    bool(input_forget),
                    bool(linear_before_reset),
                )
            )
        y, *final = _loop(kind, cells, x, lengths, initial, direction)
    if layout:
        return (y.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in final))
    return y, *final


def _is_fused(kind: str, names: tuple[str, ...], linear_before_reset: bool) -> bool:
    if kind == "RNN":
        return set(names) in ({"tanh"}, {"relu"})
    defaults = _KINDS[kind].activations
    return names == defaults * (len(names) // len(defaults)) and (kind == "LSTM" or linear_before_reset)


def _fused(
    kind: str,
    names: tuple[str, ...],
    x: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor,
    initial: tuple[Tensor, ...],
    direction: str,
) -> tuple[Tensor, ...]:
    """Y (steps, directions, batch, hidden) and the final states, from torch's own kernel."""
    directions, batch, hidden = initial[0].shape
    order = _KINDS[kind].order
    weights, recurrences = (_reordered(tensor, order) for tensor in (weight, recurrence))
    biases = _reordered(bias.reshape(directions, 2, -1).flatten(0, 1), order)
    parameters = [
        tensor for d in range(directions) for tensor in (weights[d], recurrences[d], biases[2 * d], biases[2 * d + 1])
    ]
    kernel: Any = {
        "LSTM": torch._VF.lstm,
        "GRU": torch._VF.gru,
        "RNN": torch._VF.rnn_relu if names[0] == "relu" else torch._VF.rnn_tanh,
    }[kind]
    x = x.flip(0) if direction == "reverse" else x
    state: Any = initial if kind == "LSTM" else initial[0]
    y, *final = kernel(x, state, parameters, True, 1, 0.0, False, directions == 2, False)
    y = y.flip(0) if direction == "reverse" else y
    return y.reshape(-1, batch, directions, hidden).transpose(1, 2), *final


def _reordered(tensor: Tensor, order: tuple[int, ...]) -> Tensor:
    """Weights or biases, (n, gates * hidden, ...), with their gates in torch's order."""
    if len(order) == 1:
        return tensor
    parts = tensor.chunk(len(order), 1)
    return torch.cat([parts[position] for position in order], 1)


def _loop(
    kind: str,
    cells: list[_Cell],
    x: Tensor,
    lengths: Tensor | None,
    initial: tuple[Tensor, ...],
    direction: str,
) -> tuple[Tensor, ...]:
    """Y (steps, directions, batch, hidden) and the final states, step by step."""
    outputs, finals = [], []
    for position, cell in enumerate(cells):
        is_reversed = direction == "reverse" or position == 1
        y, final = _one_direction(kind, cell, x, lengths, tuple(s[position] for s in initial), is_reversed)
        outputs.append(y)
        finals.append(final)
    return torch.stack(outputs, 1), *(torch.stack(states) for states in zip(*finals, strict=True))


def _one_direction(
    kind: str, cell: _Cell, x: Tensor, lengths: Tensor | None, state: tuple[Tensor, ...], is_reversed: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    bias = cell.bias + _bias_outside(kind, cell)
    projected = F.linear(x, cell.weight, bias)
    outputs = [state[0]] * x.shape[0]
    steps = range(x.shape[0])
    for step in steps[::-1] if is_reversed else steps:
        following = _KINDS[kind].step(cell, projected[step], state)
        if lengths is None:
            state = following
            outputs[step] = state[0]
        else:
            active = (step < lengths).unsqueeze(1)
            state = tuple(torch.where(active, new, old) for new, old in zip(following, state, strict=True))
            outputs[step] = torch.where(active, state[0], 0)
    return torch.stack(outputs) if outputs else x.new_zeros(0, *state[0].shape), state


def _bias_outside(kind: str, cell: _Cell) -> Tensor:
    """The part of the recurrent bias that does not depend on the state's gates."""
    if kind != "GRU":
        return cell.bias_recurrent
    size = cell.bias_recurrent.shape[0] // 3
    return torch.cat([cell.bias_recurrent[: 2 * size], torch.zeros_like(cell.bias_recurrent[2 * size :])])


def _functions(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> tuple[Activation, ...]:
    """The activations by name, each with the next of the coefficients that it takes."""
    remaining_alphas, remaining_betas = list(alphas), list(betas)
    functions: list[Activation] = []
    for name in names:
        function, alpha, beta = _ACTIVATIONS[name]
        if name in _TAKES_ALPHA and remaining_alphas:
            alpha = remaining_alphas.pop(0)
        if name in _TAKES_BETA and remaining_betas:
            beta = remaining_betas.pop(0)
        functions.append(lambda x, f=function, a=alpha, b=beta: f(x, a, b))  # type: ignore[misc]  # bound early
    return tuple(functions)


def _refuse(node: Node, _: Structure) -> str | None:
    names = node.attributes.get("activations", ())
    assert isinstance(names, tuple)
    direction = node.attributes.get("direction", "forward")
    if direction not in ("forward", "reverse", "bidirectional"):
        return f"direction={direction!r:.60} is not one of forward, reverse and bidirectional"
    unknown = [name for name in names if str(name).lower() not in _ACTIVATIONS]
    if unknown:
        return f"the activation {unknown[0]!r:.60} is not one of ONNX's"
    needed = len(_KINDS[node.op_type].activations) * (2 if direction == "bidirectional" else 1)
    if names and len(names) != needed:
        return f"it has {len(names)} activations, not {needed}"
    return None


def _operator(kind: str) -> Operator:
    return Operator(lambda *inputs, **attributes: _recurrent(kind, inputs, **attributes), refuse=_refuse)


OPERATORS: dict[str, Operator] = {kind: _operator(kind) for kind in _KINDS}
