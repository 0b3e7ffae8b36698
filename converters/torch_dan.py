"""MaskedDeepDAN <-> Structure."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from torch import nn

from deepstruct import dan_structure, typed_json
from deepstruct.converters.torch_parameters import Collector, refuse_changed_forward
from deepstruct.dan import MaskedDeepDAN
from deepstruct.dan_structure import Dan
from deepstruct.errors import FaultyError, UnsupportedError
from deepstruct.frozen import FrozenMapping
from deepstruct.losses import Loss
from deepstruct.structure import Parameter, Structure
from deepstruct.typed_json import TypedJsonError


def to_structure(module: MaskedDeepDAN, collector: Collector) -> Structure:
    """The structure of a network, with the parameters that it has now.

    Raises:
        UnsupportedError: hooks or another activation may change what the network computes.
    """
    for path, part in module.named_modules():
        refuse_changed_forward(part, path)
    if type(module.activation) is not nn.ReLU:
        raise UnsupportedError(f"'activation' is a {type(module.activation).__qualname__}, not a ReLU")
    dan = Dan(
        module.wiring,
        module.layer_first.in_features,
        module.layer_out.out_features,
        use_layer_norm=module.use_layer_norm,
        sum_before_activation=module.sum_before_activation,
    )

    def parameters_of(scope: str) -> list[Parameter]:
        kind, _, number = scope.partition(".")
        part = getattr(module, kind)[int(number)] if number else getattr(module, kind)
        found = [collector.parameter(part, name, scope) for name in ("weight", "bias")]
        return [parameter for parameter in found if parameter is not None]

    return dan_structure.to_structure(
        dan,
        parameters_of,
        vertices=vertex_keys(module.wiring.vertices, collector.losses),
        graph=module.graph_data,
        epsilons=[norm.eps for norm in module.layer_normalizations if isinstance(norm, nn.LayerNorm)],
    )


def vertex_keys(layers: tuple[tuple[Hashable, ...], ...], losses: list[Loss]) -> list[list[Any]] | None:
    """Vertex keys as JSON values, or None, with a loss, if one has no JSON form that comes back the same."""
    numpy_types: set[str] = set()
    keys: list[list[Any]] = [[] for _ in layers]
    for layer, encoded in zip(layers, keys, strict=True):
        for key in layer:
            try:
                encoded.append(typed_json.encode_key(key, numpy_types))
            except TypedJsonError as error:
                why = f"the key {key!r:.60} cannot be kept: {error}; vertices are numbered instead"
                losses.append(Loss("vertex keys", "graph", why))
                return None
    if numpy_types:
        losses.append(typed_json.numpy_loss("vertex keys", numpy_types))
    return keys


def to_module(structure: Structure) -> MaskedDeepDAN | None:
    """The network whose family attributes a structure has, freshly initialised, or None if they make no sense."""
    try:
        dan = dan_structure.from_structure(structure)
    except (FaultyError, UnsupportedError):
        return None
    module = MaskedDeepDAN.from_wiring(
        dan.in_features,
        dan.out_features,
        dan.wiring,
        use_layer_norm=dan.use_layer_norm,
        sum_before_activation=dan.sum_before_activation,
    )
    graph = structure.attributes.get("graph")
    module.graph_data = graph if isinstance(graph, FrozenMapping) else None
    return module
