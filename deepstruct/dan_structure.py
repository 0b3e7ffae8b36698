"""What the structure of a network in the shape of a directed acyclic graph is, made from its graph and read off again.

`deepstruct.sparse.MaskedDeepDAN` is the torch module with that structure, and the names are those of its state_dict.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepstruct import typed_json
from deepstruct.errors import Fault, StructureError, UnsupportedError, pointer
from deepstruct.mask import Mask
from deepstruct.node_list import NodeList
from deepstruct.structure import Node, Parameter, Structure, ValueInfo
from deepstruct.typed_json import TypedJsonError
from deepstruct.wiring import Connections, Wiring

FAMILY = "dan"
EPSILON = 1e-5  # of layer normalisation, as torch has it
MOST_UNITS = 2**26

ParametersOf: TypeAlias = Callable[[str], Sequence[Parameter]]
"""Scope of a layer -> its weight and, if it has one, its bias."""


@dataclass(frozen=True, slots=True)
class Dan:
    """What determines a network but its masks and numbers; see `deepstruct.sparse.MaskedDeepDAN`.

    Attributes:
        wiring: layers, and which of them are connected.
        in_features: number of inputs.
        out_features: number of outputs.
        use_layer_norm: whether all hidden layers but the first are normalised.
        sum_before_activation: whether the connections of a unit are summed before the activation.
    """

    wiring: Wiring
    in_features: int
    out_features: int
    use_layer_norm: bool = False
    sum_before_activation: bool = False


def to_structure(
    dan: Dan,
    parameters_of: ParametersOf,
    *,
    vertices: Sequence[Sequence[Any]] | None = None,
    graph: Mapping[str, Any] | None = None,
    epsilons: Sequence[float] | None = None,
) -> Structure:
    """The structure of a network: a Gemm for each masked layer, and a Sum where several connections arrive.

    Args:
        dan: the network.
        parameters_of: asked once for each layer, in the order of use.
        vertices: keys of each layer as `deepstruct.typed_json` has them; without, they are numbered.
        graph: what `deepstruct.graph_data` says of the graph, if there is anything to say.
        epsilons: of the normalisation of each layer, where it is not torch's default.
    """
    made = _Nodes(dan, parameters_of, epsilons)
    attributes: dict[str, Any] = {"family": FAMILY, "skips": dan.wiring.skips}
    if dan.sum_before_activation:
        attributes["sum_before_activation"] = True
    if vertices is not None:
        attributes["vertices"] = vertices
    if graph:
        attributes["graph"] = graph
    dtype = made.parameters["layer_first.weight"].dtype
    return Structure(
        nodes=tuple(made.list.nodes),
        inputs=(ValueInfo("x", dtype, ("batch", dan.in_features)),),
        outputs=(ValueInfo("y", dtype, ("batch", dan.out_features)),),
        parameters=tuple(made.parameters.values()),
        attributes=attributes,
    )


class _Nodes:
    """Operators and parameters of a network, made one after the other."""

    def __init__(self, dan: Dan, parameters_of: ParametersOf, epsilons: Sequence[float] | None) -> None:
        self.list = NodeList()
        self.parameters: dict[str, Parameter] = {}
        self._dan = dan
        self._parameters_of = parameters_of
        self._epsilons = epsilons
        hidden = [self._activated(self._linear("layer_first", "x"), "h0")]
        arriving: dict[int, list[tuple[int, int]]] = {}
        for position, (source, target) in enumerate(dan.wiring.skips):
            arriving.setdefault(target, []).append((source, position))
        for target in range(1, len(dan.wiring.vertices)):
            hidden.append(self._layer(target, hidden, arriving.get(target, [])))
        self._linear("layer_out", hidden[-1], "y")
        if dan.use_layer_norm:
            self._names("layer_normalizations.0")  # computes nothing, but is in the state_dict

    def _names(self, scope: str) -> list[str]:
        found = self._parameters_of(scope)
        self.parameters |= {parameter.name: parameter for parameter in found}
        return [parameter.name for parameter in found]

    def _linear(self, scope: str, source: str, output: str = "") -> str:
        return self.list.add("Gemm", [source, *self._names(scope)], output or f"{scope}.sum", scope, {"transB": 1})

    def _activated(self, value: str, output: str) -> str:
        return self.list.add("Relu", [value], output, "activation")

    def _normalised(self, value: str, target: int) -> str:
        if not self._dan.use_layer_norm:
            return value
        scope = f"layer_normalizations.{target}"
        attributes = {"axis": -1, "epsilon": EPSILON if self._epsilons is None else self._epsilons[target]}
        return self.list.add("LayerNormalization", [value, *self._names(scope)], f"{scope}.out", scope, attributes)

    def _layer(self, target: int, hidden: list[str], arriving: list[tuple[int, int]]) -> str:
        """The units of a layer, from what the layer before and the skips into it bring."""
        scope = f"layers_main_hidden.{target - 1}"
        main = self._linear(scope, hidden[target - 1])
        skips = [self._linear(f"layers_skip_hidden.{position}", hidden[source]) for source, position in arriving]
        if self._dan.sum_before_activation:
            total = self.list.add("Sum", [main, *skips], f"s{target}") if skips else main
            return self._activated(self._normalised(total, target), f"h{target}")
        main = self._normalised(main, target)
        if not skips:
            return self._activated(main, f"h{target}")
        pieces = [self._activated(main, f"{scope}.out")]
        pieces += [self._activated(skip, skip.removesuffix(".sum") + ".out") for skip in skips]
        return self.list.add("Sum", pieces, f"h{target}")


def parameters_by_scope(dan: Dan, dtype: str, connections: Connections | None = None) -> ParametersOf:
    """The parameters of a network by scope: hidden layers with the given connections, or with all; others full."""
    pairs, sizes = dan.wiring.pairs, dan.wiring.sizes
    main = len(sizes) - 1
    entries: list[NDArray[np.int64]] = []
    if connections is not None:
        order = np.argsort(connections.layer, kind="stable")
        ends = np.searchsorted(connections.layer[order], np.arange(1, len(pairs)))
        entries = np.split(connections.index[order], ends)

    def linear(scope: str, rows: int, columns: int, mask: Mask | None = None, *, bias: bool = True) -> list[Parameter]:
        weight = Parameter(f"{scope}.weight", dtype, (rows, columns), mask)
        return [weight, Parameter(f"{scope}.bias", dtype, (rows,))] if bias else [weight]

    def parameters_of(scope: str) -> list[Parameter]:
        kind, _, number = scope.partition(".")
        if kind == "layer_first":
            return linear(scope, sizes[0], dan.in_features)
        if kind == "layer_out":
            return linear(scope, dan.out_features, sizes[-1])
        if kind == "layer_normalizations":
            return [Parameter(f"{scope}.{name}", dtype, (sizes[int(number)],)) for name in ("weight", "bias")]
        position = int(number) + (main if kind == "layers_skip_hidden" else 0)
        source, target = pairs[position]
        mask = Mask.from_indices((sizes[target], sizes[source]), entries[position]) if entries else None
        return linear(scope, sizes[target], sizes[source], mask, bias=position < main or not dan.sum_before_activation)

    return parameters_of


def weight_names(wiring: Wiring) -> list[str]:
    """Name of the masked weight of each pair of connected layers, in the order of `Wiring.pairs`."""
    return [
        *(f"layers_main_hidden.{position}.weight" for position in range(len(wiring.vertices) - 1)),
        *(f"layers_skip_hidden.{position}.weight" for position in range(len(wiring.skips))),
    ]


def from_structure(structure: Structure) -> Dan:
    """The network that a structure of the family is by its attributes and parameters, whatever its operators.

    Raises:
        UnsupportedError: it is of another family, or of none.
        StructureError: attributes and parameters do not fit to each other.
    """
    family = structure.attributes.get("family")
    if family != FAMILY:
        raise UnsupportedError(
            f"the structure holds no graph: its attribute 'family' is {family!r:.40}, and only structures that "
            f"deepstruct.from_networkx or a MaskedDeepDAN made hold one, whose family is {FAMILY!r}"
        )
    shapes = {parameter.name: parameter.shape for parameter in structure.parameters}
    first, last = (_matrix(shapes, name) for name in ("layer_first.weight", "layer_out.weight"))
    sizes = [first[0]]
    while (name := f"layers_main_hidden.{len(sizes) - 1}.weight") in shapes:
        sizes.append(_matrix(shapes, name)[0])
    if sum(sizes) > MOST_UNITS:
        raise UnsupportedError(f"the layers have {sum(sizes)} units together, more than the {MOST_UNITS} allowed")
    return Dan(
        Wiring(_vertices(structure, sizes), _skips(structure, len(sizes))),
        in_features=first[1],
        out_features=last[0],
        use_layer_norm="layer_normalizations.0.weight" in shapes,
        sum_before_activation=structure.attributes.get("sum_before_activation") is True,
    )


def _fault(code: str, place: str, message: str) -> StructureError:
    return StructureError("structure", [Fault(code, place, message)])


def _matrix(shapes: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, int]:
    shape = shapes.get(name, ())
    if len(shape) != 2 or 0 in shape:
        message = f"the family {FAMILY!r} needs the parameter {name!r} with two extents, none of them 0"
        raise _fault("INVALID_VALUE", pointer("parameters", name), message)
    return shape[0], shape[1]


def _skips(structure: Structure, layers: int) -> tuple[tuple[int, int], ...]:
    skips: Any = structure.attributes.get("skips")
    if not isinstance(skips, tuple) or not all(
        isinstance(pair, tuple)
        and len(pair) == 2
        and all(type(layer) is int for layer in pair)
        and 0 <= pair[0] < pair[1] - 1 < layers - 1
        for pair in skips
    ):
        message = "must list the [source, target] of layers that are not neighbours, source first"
        raise _fault("INVALID_VALUE", "/graph/attributes/skips", message)
    if len(set(skips)) < len(skips):
        raise _fault("DUPLICATE_NAME", "/graph/attributes/skips", "a pair of layers occurs twice")
    return skips


def _vertices(structure: Structure, sizes: Sequence[int]) -> tuple[tuple[Hashable, ...], ...]:
    given: Any = structure.attributes.get("vertices")
    if given is None:
        return tuple(tuple(range(end - size, end)) for size, end in zip(sizes, accumulate(sizes), strict=True))
    place = "/graph/attributes/vertices"
    if not isinstance(given, tuple) or not all(isinstance(layer, tuple) for layer in given):
        raise _fault("TYPE_MISMATCH", place, "must be a list of the keys of each layer")
    if [len(layer) for layer in given] != list(sizes):
        raise _fault("INVALID_VALUE", place, f"the layers have {list(sizes)!s:.80} units, and others have keys")
    return tuple(map(tuple, decoded_keys(given, place)))


def decoded_keys(layers: Sequence[Sequence[Any]], place: str) -> list[list[Hashable]]:
    """Vertex keys of a structure's attribute.

    Raises:
        StructureError: a key is none, or two are equal in Python, as 1, 1.0 and True are.
    """
    seen: set[Hashable] = set()
    decoded: list[list[Hashable]] = []
    for number, layer in enumerate(layers):
        decoded.append([])
        for position, value in enumerate(layer):
            at = place + pointer(number, position)
            try:
                key = typed_json.decode_key(value)
            except TypedJsonError as error:
                raise _fault("INVALID_VALUE", at, str(error)) from error
            if key in seen:
                message = (
                    f"the key {key!r:.40} is equal to one before, and networkx tells vertices apart by ==; rename one"
                )
                raise _fault("DUPLICATE_NAME", at, message)
            seen.add(key)
            decoded[-1].append(key)
    return decoded


def require_computed(structure: Structure, dan: Dan) -> None:
    """Makes sure that the operators of a structure are those of the network that it says to be.

    Raises:
        UnsupportedError: it computes something else, so that its masks mean something else.
    """
    parameters = {parameter.name: parameter for parameter in structure.parameters}
    epsilons: dict[str, Any] = {
        node.outputs[0]: node.attributes.get("epsilon")
        for node in structure.nodes
        if node.op_type == "LayerNormalization"
    }
    parameters_of_dan = parameters_by_scope(dan, "float32")

    def parameters_of(scope: str) -> Sequence[Parameter]:
        wanted = parameters_of_dan(scope)
        found = [parameters.get(parameter.name) for parameter in wanted]
        if [None if p is None else p.shape for p in found] != [p.shape for p in wanted]:
            raise _other(scope)
        return wanted

    names = [f"layer_normalizations.{layer}.out" for layer in range(len(dan.wiring.vertices))]
    values = [value if isinstance(value := epsilons.get(name), float) else EPSILON for name in names]
    expected = _Nodes(dan, parameters_of, values).list.nodes
    for found, wanted in zip(structure.nodes, expected, strict=False):
        if _computed(found) != _computed(wanted):
            raise _other(found.name)
    if len(structure.nodes) != len(expected):
        raise _other(structure.nodes[-1].name)


def _computed(node: Node) -> tuple[Any, ...]:
    return node.op_type, node.domain, node.inputs, node.outputs, node.attributes


def _other(name: str) -> UnsupportedError:
    return UnsupportedError(
        f"the structure says that it is of the family {FAMILY!r}, but computes something else (see {name!r:.60}), so "
        "that its masks are no graph; remove the attribute 'family', or restore the operators"
    )
