"""Numbers for structures without weights, drawn by numpy alone, with regard to the masks."""

from __future__ import annotations

import hashlib
import math
import operator
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepstruct import dtypes
from deepstruct.errors import UnsupportedError, UsageError, did_you_mean
from deepstruct.model import Weights
from deepstruct.structure import Node, Parameter, Structure

Side: TypeAlias = Literal["targets", "sources"]

INITS = ("kaiming", "xavier", "zeros", "ones")

_NORMALISATIONS = ("LayerNormalization", "BatchNormalization", "InstanceNormalization", "GroupNormalization")
_ADDITIONS = ("Add", "Sub", "Sum")
_RECURRENT = ("RNN", "GRU", "LSTM")

# what parameters of an operator begin with that are no weights of connections, by (operator, input)
_CONSTANT: dict[tuple[str, int], float] = {
    **{(kind, 1): 1.0 for kind in (*_NORMALISATIONS, "RMSNormalization")},
    **{(kind, 2): 0.0 for kind in _NORMALISATIONS},
    ("BatchNormalization", 4): 1.0,
    **{(kind, position): 0.0 for kind in _RECURRENT for position in (3, 5, 6, 7)},
    ("Mul", 0): 1.0,
    ("Mul", 1): 1.0,
    ("Div", 1): 1.0,
    ("PRelu", 1): 0.25,  # He et al. 2015
}


def initial_weights(structure: Structure, init: str, seed: int | None = None) -> Weights:
    """Numbers for every parameter, drawn when they are asked for, the same each time.

    Weights of connections are drawn from normal distributions with mean 0. Their fans are counted over the
    connections that exist, unit by unit, as Evci et al., "Gradient Flow in Sparse Neural Networks and How Lottery
    Tickets Win" (AAAI 2022) do, so that units with few connections get larger weights:

    - ``kaiming``: variance 2 / fan_in, He et al., "Delving Deep into Rectifiers" (ICCV 2015). fan_in is the number of
      connections into the unit: of its row in a Gemm with transB, of its column in a MatMul, of its filter in a Conv.
      Where the products of several such parameters, and nothing else but biases, are summed, it counts all of them.
    - ``xavier``: variance 2 / (fan_in + fan_out), Glorot and Bengio, "Understanding the difficulty of training deep
      feedforward neural networks" (AISTATS 2010). fan_out is counted likewise, over all products of the same value.
    - ``zeros`` and ``ones``: exactly that.

    With any of them biases are 0, scales and variances of normalisations 1, and parameters that are no floating-point
    or complex numbers 0. In parameters of other operators with two or more dimensions, fan_in counts along the last.

    Args:
        structure: what to draw for. Masked entries have no numbers.
        init: one of `INITS`.
        seed: not negative; the same one gives the same numbers to a parameter of the same name. None draws one.

    Raises:
        UsageError: the init or the seed is none.
        UnsupportedError: a parameter holds strings.
    """
    if init not in INITS:
        raise UsageError(f"unknown init {init!r:.40}; choose from {', '.join(INITS)}{did_you_mean(str(init), INITS)}")
    entropy = _entropy(seed)
    for parameter in structure.parameters:
        if parameter.dtype == "string":
            raise UnsupportedError(f"the parameter {parameter.name!r} holds strings, which cannot be initialised")
    parameters = {parameter.name: parameter for parameter in structure.parameters}
    weights = [_weight(node, parameters) for node in structure.nodes]
    fans = _Fans(structure, weights)
    constants = _constants(structure, {weight.name for weight in weights if weight is not None})

    def load(parameter: Parameter) -> NDArray[Any]:
        dtype = dtypes.to_numpy(parameter.dtype)
        constant = 0.0 if dtype.kind in "biu" else constants.get(parameter.name)
        if constant is None and init in ("zeros", "ones"):
            constant = float(init == "ones")
        if constant is not None:
            return np.full(parameter.nnz, constant).astype(dtype)
        rng = np.random.default_rng([entropy, *hashlib.sha256(parameter.name.encode()).digest()])
        drawn = rng.standard_normal(parameter.nnz)
        return np.asarray(fans.scaled(parameter, drawn, with_fan_out=init == "xavier").astype(dtype))

    return Weights(structure, load)


def _entropy(seed: Any) -> int:
    if seed is None:
        drawn: Any = np.random.SeedSequence().entropy
        return int(drawn)
    try:
        number = -1 if isinstance(seed, bool) else operator.index(seed)
    except TypeError:
        number = -1
    if number < 0:
        raise UsageError(f"the seed must be an integer that is not negative, not {seed!r:.40}")
    return number


def _constants(structure: Structure, weights: Set[str]) -> dict[str, float]:
    """Parameter name -> the number that it is filled with, for all that are no weights of connections."""
    found: dict[str, float] = {}
    used: set[str] = set()
    for node in structure.nodes:
        for position, name in enumerate(node.inputs):
            used.add(name)
            constant = 0.0 if node.op_type in _ADDITIONS else _CONSTANT.get((node.op_type, position))
            if constant is not None and not node.domain and name not in weights:
                found.setdefault(name, constant)
    for parameter in structure.parameters:
        if len(parameter.shape) < 2 and parameter.name not in weights:
            unused_scale = parameter.name not in used and parameter.name.endswith("weight")
            found.setdefault(parameter.name, float(unused_scale))
    return found


@dataclass(frozen=True, slots=True)
class _Weight:
    """How a parameter connects units.

    Attributes:
        name: of the parameter.
        shape: that it is seen with, its entries in the same order.
        targets: dimensions that together number the units that the connections lead to.
        sources: the same of those that they come from.
        value: that the sources are.
    """

    name: str
    shape: tuple[int, ...]
    targets: tuple[int, ...]
    sources: tuple[int, ...]
    value: str

    def dimensions(self, side: Side) -> tuple[int, ...]:
        """Those that number the units of a side."""
        return self.targets if side == "targets" else self.sources

    def units(self, side: Side) -> int:
        """Number of units of a side."""
        return math.prod(self.shape[dimension] for dimension in self.dimensions(side))


def _weight(node: Node, parameters: Mapping[str, Parameter]) -> _Weight | None:
    """The weight of an operator that computes weighted sums, if it is a parameter."""
    if node.domain or node.op_type not in ("Gemm", "MatMul", "Conv", "ConvTranspose"):
        return None
    position = 1 if node.inputs[1] in parameters else 0
    name, value = node.inputs[position], node.inputs[1 - position]
    if name not in parameters:
        return None
    shape = parameters[name].shape
    if node.op_type in ("Gemm", "MatMul"):
        if len(shape) < 2:
            return _Weight(name, (1, *shape), (0,), tuple(range(1, 1 + len(shape))), value)
        transposed = node.attributes.get("transB" if position else "transA", 0) != 0
        batch, rows, columns = tuple(range(len(shape) - 2)), len(shape) - 2, len(shape) - 1
        target, source = (rows, columns) if transposed == bool(position) else (columns, rows)
        return _Weight(name, shape, (*batch, target), (*batch, source), value)
    groups = node.attributes.get("group", 1)
    if position == 0 or len(shape) < 2 or not isinstance(groups, int) or groups < 1 or shape[0] % groups:
        return None
    sides: tuple[tuple[int, ...], ...] = ((0, 1), (0, 2))
    targets, sources = sides if node.op_type == "Conv" else sides[::-1]
    return _Weight(name, (groups, shape[0] // groups, *shape[1:]), targets, sources, value)


class _Fans:
    """How many connections each unit has, over all parameters that it has them by."""

    def __init__(self, structure: Structure, weights: Sequence[_Weight | None]) -> None:
        """Counts nothing before it is asked.

        Args:
            structure: where the units are.
            weights: those of its nodes.
        """
        self._parameters = {parameter.name: parameter for parameter in structure.parameters}
        self._weights = {weight.name: weight for weight in reversed(weights) if weight is not None}
        uses = Counter(name for node in structure.nodes for name in node.sources)
        uses.update(value.name for value in structure.outputs)
        sums: dict[str, list[str]] = {}
        leaving: dict[str, list[str]] = {}
        for node, weight in zip(structure.nodes, weights, strict=True):
            if weight is not None:
                sums[node.outputs[0]] = [weight.name]
                leaving.setdefault(weight.value, []).append(weight.name)
            elif node.op_type in ("Add", "Sum") and not node.domain:
                terms = [name for name in node.inputs if not self._is_bias(name)]
                if all(name in sums and uses[name] == 1 for name in terms):
                    sums[node.outputs[0]] = [member for name in terms for member in sums.pop(name)]
        self._groups = {"targets": self._grouped(sums, "targets"), "sources": self._grouped(leaving, "sources")}
        self._counts: dict[int, NDArray[np.int64]] = {}

    def _is_bias(self, name: str) -> bool:
        return name in self._parameters and len(self._parameters[name].shape) < 2

    def _grouped(self, groups: Mapping[str, Sequence[str]], side: Side) -> dict[str, list[_Weight]]:
        """Name of a parameter -> all parameters that have connections of its units."""
        found: dict[str, list[_Weight]] = {}
        for names in groups.values():
            members = [self._weights[name] for name in names]
            same = len({member.units(side) for member in members}) == 1
            for member in members:
                found.setdefault(member.name, members if same else [member])
        return found

    def scaled(self, parameter: Parameter, drawn: NDArray[np.float64], *, with_fan_out: bool) -> NDArray[np.float64]:
        """Numbers of variance 1, ``[nnz]``, with the variance of a parameter."""
        last = len(parameter.shape) - 1
        other = _Weight(parameter.name, parameter.shape, tuple(range(last)), (last,), "")
        weight = self._weights.get(parameter.name, other)
        fans = self._fans(weight, "targets")
        if with_fan_out:
            fans = fans + self._fans(weight, "sources")
        scale = np.sqrt(2 / np.maximum(fans, 1))
        if parameter.mask is None:
            return np.reshape(drawn.reshape(weight.shape) * scale, -1)
        places = np.unravel_index(parameter.mask.indices(), weight.shape)
        return np.asarray(drawn * np.broadcast_to(scale, weight.shape)[places])

    def _fans(self, weight: _Weight, side: Side) -> NDArray[np.int64]:
        """Number of connections of each unit, with the dimensions of the weight, of which all others have extent 1."""
        group = self._groups[side].setdefault(weight.name, [weight])
        if id(group) not in self._counts:
            self._counts[id(group)] = np.sum([self._count(member, side) for member in group], axis=0)
        dimensions = weight.dimensions(side)
        shape = [extent if number in dimensions else 1 for number, extent in enumerate(weight.shape)]
        return self._counts[id(group)].reshape(shape)

    def _count(self, weight: _Weight, side: Side) -> NDArray[np.int64]:
        """Number of connections of each unit in one parameter, ``[units]``."""
        units, dimensions = weight.units(side), weight.dimensions(side)
        mask = self._parameters[weight.name].mask
        if mask is None:
            return np.full(units, math.prod(weight.shape) // max(units, 1), np.int64)
        places = np.unravel_index(mask.indices(), weight.shape)
        extents = [weight.shape[dimension] for dimension in dimensions]
        unit = np.ravel_multi_index([places[dimension] for dimension in dimensions], extents)
        return np.bincount(unit, minlength=units)
