"""Model: a structure and, where there are any, its weights, read one tensor at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import rfc8785
from numpy.typing import NDArray

from deepstruct import dtypes
from deepstruct.errors import Fault, StructureError, pointer
from deepstruct.structure import Parameter, Structure

_OTHER_PARAMETER = (
    "the weights belong to a parameter of another dtype, shape or mask; "
    "Weights(structure, weights) carries their dense numbers over to new masks"
)

Load = Callable[[Parameter], NDArray[Any]]


class Weights(Mapping[str, NDArray[Any]]):
    """The numbers of a structure's parameters: parameter name -> dense array, computed or read when asked for.

    Masked entries do not exist, so they are exactly 0 in a dense array, whatever the source held there.
    """

    def __init__(self, structure: Structure, load: Load | Mapping[str, NDArray[Any]]) -> None:
        """Weights for every parameter of a structure.

        Args:
            structure: whose parameters get numbers.
            load: array of a parameter, called anew at each access; or a mapping from parameter names. The array
                has the parameter's shape, or is one-dimensional with only the entries that exist, in row-major
                order; its dtype is the parameter's.

        Raises:
            StructureError: a mapping lacks a parameter or has other names.
        """
        if not isinstance(structure, Structure):
            raise TypeError(f"weights belong to a Structure, not to a {type(structure).__name__}")
        self._parameters = {parameter.name: parameter for parameter in structure.parameters}
        if isinstance(load, Mapping):
            arrays: Mapping[str, NDArray[Any]] = load
            if arrays.keys() != self._parameters.keys():
                raise _name_faults(self._parameters.keys() - arrays.keys(), arrays.keys() - self._parameters.keys())
            load = _from_mapping(arrays)
        if not callable(load):
            raise TypeError(f"numbers come from a mapping or a function, not from a {type(load).__name__}")
        self._load = load

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters that the numbers belong to, by name."""
        return MappingProxyType(self._parameters)

    def kept(self, name: str) -> NDArray[Any]:
        """The entries that exist, ``[nnz]`` in row-major order.

        Raises:
            KeyError: no such parameter.
            StructureError: the source has an array of another shape or dtype.
        """
        parameter, array = self._fetch(name)
        if array.shape == parameter.shape and parameter.mask is not None:
            return parameter.mask.take(array)
        return array.reshape(-1)

    def __getitem__(self, name: str) -> NDArray[Any]:
        parameter, array = self._fetch(name)
        if parameter.mask is None:
            return array.reshape(parameter.shape)
        dense = np.zeros(parameter.size, dtype=array.dtype)
        present = parameter.mask.flat()
        dense[present] = array if array.shape != parameter.shape else array.reshape(-1)[present]
        return dense.reshape(parameter.shape)

    def _fetch(self, name: str) -> tuple[Parameter, NDArray[Any]]:
        parameter = self._parameters[name]
        array = self._load(parameter)
        if not isinstance(array, np.ndarray):
            message = f"the numbers are a {type(array).__name__}, not a numpy array"
            raise StructureError("weights", [Fault("TYPE_MISMATCH", pointer("parameters", name), message)])
        expected = dtypes.to_numpy(parameter.dtype)
        if array.dtype != expected or array.shape not in (parameter.shape, (parameter.nnz,)):
            message = (
                f"the numbers have dtype {array.dtype} and shape {list(array.shape)}, the structure has "
                f"{parameter.dtype} {list(parameter.shape)} with {parameter.nnz} entries"
            )
            raise StructureError("weights", [Fault("WEIGHTS_SHAPE", pointer("parameters", name), message)])
        return parameter, array

    def digest(self) -> str:
        """SHA-256 over names, dtypes, shapes and kept entries, as `docs/format.md` section "Digests" defines it."""
        return combine_digests({name: tensor_digest(p, self.kept(name)) for name, p in self._parameters.items()})

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)


def tensor_digest(parameter: Parameter, kept: NDArray[Any]) -> bytes:
    """SHA-256 of one parameter's name, dtype, shape and kept entries (little-endian)."""
    head = rfc8785.dumps([parameter.name, parameter.dtype, list(parameter.shape)])
    digest = hashlib.sha256(head + b"\0")
    digest.update(np.ascontiguousarray(kept).view(np.uint8).data)
    return digest.digest()


def combine_digests(digests: Mapping[str, bytes]) -> str:
    """The digest of all weights, from the digest of each tensor by parameter name."""
    total = hashlib.sha256(b"deepstruct.weights.v1\0")
    for name in sorted(digests):
        total.update(digests[name])
    return f"sha256:{total.hexdigest()}"


def _from_mapping(arrays: Mapping[str, NDArray[Any]]) -> Load:
    return lambda parameter: arrays[parameter.name]


def _name_faults(missing: set[str], unexpected: set[str]) -> StructureError:
    faults = [Fault("WEIGHTS_MISSING", pointer("parameters", n), "has no weights") for n in sorted(missing)]
    faults += [
        Fault("WEIGHTS_UNEXPECTED", pointer("parameters", n), "there are weights, but no such parameter")
        for n in sorted(unexpected)
    ]
    return StructureError("weights", faults)


@dataclass(frozen=True, eq=False)
class Model:
    """A structure and its weights.

    Two models are equal if their structures are and every entry that exists has the same bits.

    Attributes:
        structure: what the network is.
        weights: its numbers; None for a structure alone, which is a normal thing to have.
    """

    structure: Structure
    weights: Weights | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.structure, Structure):
            raise TypeError(f"a Model has a Structure, not a {type(self.structure).__name__}")
        if self.weights is None:
            return
        if not isinstance(self.weights, Weights):
            message = f"a Model has Weights, not a {type(self.weights).__name__}: use Weights(structure, arrays)"
            raise TypeError(message)
        names = {parameter.name for parameter in self.structure.parameters}
        if self.weights.keys() != names:
            raise _name_faults(names - self.weights.keys(), self.weights.keys() - names)
        faults = [
            Fault("WEIGHTS_SHAPE", pointer("parameters", p.name), _OTHER_PARAMETER)
            for p in self.structure.parameters
            if replace(p, extra={}) != replace(self.weights.parameters[p.name], extra={})
        ]
        if faults:
            raise StructureError("weights", faults)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Model):
            return NotImplemented
        if self.structure != other.structure or (self.weights is None) != (other.weights is None):
            return False
        if self.weights is None or other.weights is None:
            return True
        return all(self.weights.kept(name).tobytes() == other.weights.kept(name).tobytes() for name in self.weights)

    def __hash__(self) -> int:
        return hash(self.structure)
