"""Numbers for the parameters of a structure: ordinary ones, and those that careless converters lose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepstruct import dtypes
from deepstruct.model import Model, Weights
from deepstruct.structure import Parameter, Structure

Make = Callable[[Parameter, int], NDArray[Any]]


def numbers(parameter: Parameter, seed: int = 0) -> NDArray[Any]:
    """Random numbers of a parameter's shape and dtype; kept ones among them are 0, -0.0, infinity and NaN.

    Args:
        parameter: of any dtype but ``string``. Integers are spread over all that the dtype holds.
        seed: of the numbers.
    """
    rng = np.random.default_rng(seed)
    dtype = dtypes.to_numpy(parameter.dtype)
    if parameter.dtype in dtypes.BITS:
        codes = rng.integers(2 ** dtypes.BITS[parameter.dtype], size=parameter.shape, dtype=np.uint8)
        return np.asarray(codes).view(dtype)
    if "int" in parameter.dtype:
        return np.frombuffer(rng.bytes(parameter.size * dtype.itemsize), dtype).reshape(parameter.shape)
    values = np.array(rng.standard_normal(parameter.shape))
    flat = values.reshape(-1)
    kept = np.arange(parameter.size) if parameter.mask is None else parameter.mask.indices()
    for position, special in zip(rng.permutation(kept), [0.0, -0.0, np.inf, np.nan], strict=False):
        flat[position] = special
    with np.errstate(all="ignore"):  # dtypes of 8 bits lack some of these
        return values.astype(dtype)


def tame(parameter: Parameter, seed: int = 0) -> NDArray[Any]:
    """Random finite numbers of a parameter's shape and dtype, the first of them 0."""
    values = np.array(np.random.default_rng(seed).standard_normal(parameter.shape))
    values.reshape(-1)[: min(1, values.size)] = 0
    return values.astype(dtypes.to_numpy(parameter.dtype))


def with_weights(structure: Structure, make: Make = tame) -> Model:
    """The model of a structure with made-up weights.

    Args:
        structure: whose parameters get numbers.
        make: gives the array of a parameter, of its shape and dtype; also gets the parameter's position as a seed.
    """
    arrays = {parameter.name: make(parameter, seed) for seed, parameter in enumerate(structure.parameters)}
    return Model(structure, Weights(structure, arrays))
