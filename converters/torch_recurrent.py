"""MaskedDeepRNN <-> Structure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import nn

from deepstruct.converters.torch_parameters import Collector, refuse_changed_forward
from deepstruct.errors import UnsupportedError
from deepstruct.node_list import NodeList
from deepstruct.recurrent import (
    BaseRecurrentLayer,
    MaskedDeepRNN,
    MaskedGRULayer,
    MaskedLSTMLayer,
    MaskedRecurrentLayer,
)
from deepstruct.structure import AttributeValue, Parameter, Structure, ValueInfo

_OPERATORS: dict[type[BaseRecurrentLayer], str] = {
    MaskedRecurrentLayer: "RNN",
    MaskedGRULayer: "GRU",
    MaskedLSTMLayer: "LSTM",
}
_GATES = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}
"""Position in torch's order of each gate in ONNX's: z, r, h of GRU; i, o, f, c of LSTM."""
_ATTRIBUTES: dict[str, dict[str, AttributeValue]] = {"RNN": {}, "GRU": {"linear_before_reset": 1}, "LSTM": {}}
_NONLINEARITIES: dict[str, tuple[type[nn.Module], tuple[Callable[..., Any], ...]]] = {
    "Relu": (nn.ReLU, (torch.relu, F.relu, torch.Tensor.relu)),
    "Sigmoid": (nn.Sigmoid, (torch.sigmoid, F.sigmoid, torch.Tensor.sigmoid)),
    "Softsign": (nn.Softsign, (F.softsign,)),
    "Tanh": (nn.Tanh, (torch.tanh, F.tanh, torch.Tensor.tanh)),
}
_PARAMETERS = ("_weight_ih", "_weight_hh", "_bias_ih", "_bias_hh")


def to_structure(module: MaskedDeepRNN, collector: Collector) -> Structure:
    """The structure of a network: a recurrent operator for each layer, with gates put in ONNX's order before it.

    Raises:
        UnsupportedError: a layer is of another kind, its nonlinearity has no ONNX name, or hooks may change it.
    """
    graph = NodeList()
    parameters: list[Parameter] = []
    value = graph.add("Transpose", ["x"], "steps", "", {"perm": (1, 0, 2)}) if module._batch_first else "x"
    last = len(module._recurrent_layers) - 1
    refuse_changed_forward(module, "")
    for position, layer in enumerate(module._recurrent_layers):
        scope = f"_recurrent_layers.{position}"
        refuse_changed_forward(layer, scope)
        op_type = _OPERATORS.get(type(layer))  # type: ignore[arg-type]  # any module is looked up
        if op_type is None or not isinstance(layer, BaseRecurrentLayer):
            known = ", ".join(kind.__name__ for kind in _OPERATORS)
            raise UnsupportedError(f"{scope!r} is a {type(layer).__qualname__}, not one of {known}")
        found = [collector.parameter(layer, name, scope, layer.masks.get(name, "")) for name in _PARAMETERS]
        names = [parameter.name for parameter in found if parameter is not None]
        parameters += [parameter for parameter in found if parameter is not None]
        weight_ih, weight_hh, bias_ih, bias_hh = (_reordered(graph, op_type, name, scope) for name in names)
        biases = graph.add("Concat", [bias_ih, bias_hh], f"{scope}.biases", scope, {"axis": 0})
        first = graph.integers(0)
        inputs = [value]
        for name, tensor in (("W", weight_ih), ("R", weight_hh), ("B", biases)):
            inputs.append(graph.add("Unsqueeze", [tensor, first], f"{scope}.{name}", scope))
        attributes = {"hidden_size": layer._hidden_size, **_ATTRIBUTES[op_type], **_activations(layer, scope)}
        if position == last:
            graph.add_node(op_type, inputs, ("", f"{scope}.last"), scope, attributes)
            graph.add("Squeeze", [f"{scope}.last", first], "y", scope)
        else:
            graph.add_node(op_type, inputs, (f"{scope}.all",), scope, attributes)
            value = graph.add("Squeeze", [f"{scope}.all", graph.integers(1)], f"{scope}.out", scope)
    batch = ("batch", "step") if module._batch_first else ("step", "batch")
    dtype = parameters[0].dtype
    return Structure(
        nodes=tuple(graph.nodes),
        inputs=(ValueInfo("x", dtype, (*batch, module._input_size)),),
        outputs=(ValueInfo("y", dtype, ("batch", module._hidden_layers[-1])),),
        parameters=tuple(parameters),
        constants=graph.constants,
        attributes={"family": "rnn"},
    )


def _reordered(graph: NodeList, op_type: str, name: str, scope: str) -> str:
    """A weight or bias with its gates in ONNX's order."""
    order = _GATES[op_type]
    if len(order) == 1:
        return name
    gates = tuple(f"{name}.gate_{gate}" for gate in range(len(order)))
    graph.add_node("Split", [name], gates, scope, {"axis": 0, "num_outputs": len(order)})
    return graph.add("Concat", [gates[gate] for gate in order], f"{name}.gates", scope, {"axis": 0})


def _activations(layer: BaseRecurrentLayer, scope: str) -> dict[str, AttributeValue]:
    if not isinstance(layer, MaskedRecurrentLayer):
        return {}
    used = layer._nonlinearity
    for name, (kind, functions) in _NONLINEARITIES.items():
        if type(used) is kind or used in functions:
            return {} if name == "Tanh" else {"activations": (name,)}
    known = ", ".join(_NONLINEARITIES).lower()
    raise UnsupportedError(f"{scope!r} has the nonlinearity {used!r:.60}; ONNX knows {known}")


def to_module(structure: Structure) -> MaskedDeepRNN | None:
    """The network that the recurrent operators of a structure make, freshly initialised, or None if they make none."""
    shapes = {parameter.name: parameter.shape for parameter in structure.parameters}
    layers = [node for node in structure.nodes if node.op_type in _GATES]
    sizes: list[int] = []
    while len(shape := shapes.get(f"_recurrent_layers.{len(sizes)}._weight_hh", ())) == 2:
        sizes.append(shape[1])
    first = shapes.get("_recurrent_layers.0._weight_ih", ())
    if len(first) != 2 or not layers or len(layers) != len(sizes) or 0 in (*sizes, first[1]):
        return None
    kinds = iter([next(kind for kind, op_type in _OPERATORS.items() if op_type == node.op_type) for node in layers])
    names = {str(name) for node in layers for name in node.attributes.get("activations", ())}  # type: ignore[union-attr]  # strings
    if len(names) > 1 or not names <= _NONLINEARITIES.keys():
        return None
    return MaskedDeepRNN(
        first[1],
        sizes,
        lambda *arguments, **options: next(kinds)(*arguments, **options),
        nonlinearity=_NONLINEARITIES[names.pop()][0]() if names else None,
        batch_first=any(node.op_type == "Transpose" for node in structure.nodes),
    )
