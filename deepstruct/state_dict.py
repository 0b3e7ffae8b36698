"""What a bare state_dict says about a feed-forward network, and what it does not say.

A state_dict has names, shapes and numbers, but no wiring and no activation functions. The names of
`deepstruct.sparse.MaskedDeepFFN` say everything; any other chain of linear layers needs to be told its
activation; the rest is refused with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from deepstruct.errors import UnsupportedError, UsageError
from deepstruct.sequential import ACTIVATIONS, Step, layer_norm, linear
from deepstruct.structure import Parameter

FAMILY = "ffn"
EPSILON = 1e-5  # of torch.nn.LayerNorm unless told otherwise; MaskedDeepFFN never is

_WAY_OUT = "save the module itself with deepstruct.save(module, path), which keeps its structure"


def mask_keys(keys: Sequence[str]) -> dict[str, str]:
    """Parameter name -> key of its mask, for every convention of state_dicts that has masks beside weights.

    ``layer._mask`` masks ``layer.weight`` (deepstruct); ``layer.weight_mask`` masks ``layer.weight``, which
    `torch.nn.utils.prune` keeps as ``layer.weight_orig``.
    """
    masks: dict[str, str] = {}
    known = set(keys)
    for key in keys:
        prefix, _, last = key.rpartition(".")
        if last == "_mask":
            masks[f"{prefix}.weight" if prefix else "weight"] = key
        elif last.endswith("_mask") and {key[:-5], f"{key[:-5]}_orig"} & known:
            masks[key[:-5]] = key
    return masks


_OTHER_FAMILIES = {
    "MaskedDeepDAN": ("layer_first.weight", "layer_out.weight"),
    "DeepCellDAN": ("_last_convolution.weight", "_last_fc.weight"),
    "MaskedDeepRNN": ("_recurrent_layers.0._weight_ih", "_recurrent_layers.0._weight_hh"),
}


def is_feed_forward_family(names: Mapping[str, object]) -> bool:
    """Whether parameter names are those of `deepstruct.sparse.MaskedDeepFFN`."""
    return "_layer_first.weight" in names and "_layer_out.weight" in names


def infer(parameters: Mapping[str, Parameter], activation: str | None) -> tuple[list[Step], dict[str, str]]:
    """The steps that a state_dict's parameters imply, in its order, and the structure's attributes.

    Args:
        parameters: by name, in the order of the state_dict.
        activation: a key of `ACTIVATIONS` to stand between linear layers, or None if nobody told.

    Raises:
        UnsupportedError: the parameters do not say how they are wired; the message says what is missing.
        UsageError: `activation` contradicts the names.
    """
    if is_feed_forward_family(parameters):
        if activation not in (None, "relu"):
            raise UsageError(f"the names are those of MaskedDeepFFN, whose activation is relu, not {activation}")
        return _family(parameters), {"family": FAMILY}
    for family, names in _OTHER_FAMILIES.items():
        if all(name in parameters for name in names):
            raise UnsupportedError(
                f"the names are those of {family}, whose state_dict does not say what the constructor was told: make "
                "the network, load the state_dict into it, and save it with deepstruct.save(network, path)"
            )
    return _chain(parameters, activation), {}


def _layers(parameters: Mapping[str, Parameter]) -> dict[str, dict[str, Parameter]]:
    """Module path -> ``weight`` and perhaps ``bias``."""
    layers: dict[str, dict[str, Parameter]] = {}
    for name, parameter in parameters.items():
        prefix, _, last = name.rpartition(".")
        layers.setdefault(prefix, {})[last] = parameter
    for prefix, members in layers.items():
        if not {"weight"} <= members.keys() <= {"weight", "bias"}:
            odd = sorted(members.keys() - {"weight", "bias"}) or ["bias without weight"]
            raise UnsupportedError(
                f"the state_dict is not that of a plain feed-forward network: {prefix or 'it'} has "
                f"{', '.join(odd)}, and a state_dict does not say what that computes; {_WAY_OUT}"
            )
    return layers


def _linear(members: dict[str, Parameter], scope: str) -> Step:
    weight, bias = members["weight"], members.get("bias")
    if len(weight.shape) != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        raise UnsupportedError(
            f"{weight.name} has shape {list(weight.shape)}, which is no linear layer, and a state_dict does not "
            f"say what it computes; {_WAY_OUT}"
        )
    return linear(weight, bias, scope)


def _family(parameters: Mapping[str, Parameter]) -> list[Step]:
    layers = _layers(parameters)
    hidden = {}
    for scope in layers.keys() - {"_layer_first", "_layer_out"}:
        match = re.fullmatch(r"_layers_hidden\.(\d+)", scope)
        if match is None:
            raise UnsupportedError(f"MaskedDeepFFN has no layer {scope!r}; {_WAY_OUT}")
        hidden[int(match[1])] = scope
    steps = [_linear(layers["_layer_first"], "_layer_first"), Step("Relu", scope="_activation")]
    for number, scope in sorted(hidden.items()):
        weight = layers[scope]["weight"]
        if len(weight.shape) == 1:
            steps.append(layer_norm(weight, layers[scope].get("bias"), EPSILON, scope))
        else:
            steps.append(_linear(layers[scope], scope))
        following = layers.get(hidden.get(number + 1, ""), {}).get("weight")
        if following is None or len(following.shape) != 1:
            steps.append(Step("Relu", scope="_activation"))
    return [*steps, _linear(layers["_layer_out"], "_layer_out")]


def _chain(parameters: Mapping[str, Parameter], activation: str | None) -> list[Step]:
    layers = _layers(parameters)
    if not layers:
        raise UnsupportedError(f"there is no weight in it; {_WAY_OUT}")
    linears = [_linear(members, scope) for scope, members in layers.items()]
    for first, second in pairwise(layers):
        if re.sub(r"\d+", "#", first) == re.sub(r"\d+", "#", second) and _numbers(first) > _numbers(second):
            raise UnsupportedError(
                f"{second!r} stands behind {first!r}: the state_dict is not in the order of its layers; {_WAY_OUT}"
            )
    for before, after in pairwise(linears):
        out, into = before.parameters[0], after.parameters[0]
        if out.shape[0] != into.shape[1]:
            raise UnsupportedError(
                f"the layers are no chain: {out.name} gives {out.shape[0]} features, but {into.name}, the next in "
                f"the state_dict, takes {into.shape[1]}; {_WAY_OUT}"
            )
    if activation is None and len(linears) == 1 and len(linears[0].parameters) == 1:
        raise UnsupportedError(
            f"a lone matrix {linears[0].parameters[0].name!r} may be a linear layer without bias or an embedding; a "
            f"state_dict does not say which. --activation none says that it is linear, or {_WAY_OUT}"
        )
    if len(linears) > 1 and activation is None:
        raise UnsupportedError(
            f"a state_dict does not say which activation stands between its {len(linears)} linear layers. Name it "
            f"with --activation ({', '.join(sorted(ACTIVATIONS))}), or {_WAY_OUT}"
        )
    between = ACTIVATIONS[activation] if activation else None
    steps: list[Step] = []
    for position, step in enumerate(linears):
        steps.append(step)
        if between and position + 1 < len(linears):
            steps.append(Step(between))
    return steps


def _numbers(scope: str) -> list[int]:
    """The numbers in a module path, in order."""
    return [int(number) for number in re.findall(r"\d+", scope)]
