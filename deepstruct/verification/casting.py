"""A declared cast: the model that one becomes when its numbers are rounded to another floating dtype."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepstruct import dtypes
from deepstruct.errors import UsageError
from deepstruct.model import Model, Weights
from deepstruct.structure import Parameter, Structure

CASTS = ("float16", "bfloat16", "float32", "float64")
"""Dtypes that can be declared."""


def cast(model: Model, dtype: str, other: Structure) -> Model:
    """A model rounded to nearest, ties to even (IEEE 754, section 4.3.1).

    Where both have the same dtypes of inputs and outputs, only weights have been rounded for storage, and the model
    still computes in its own dtype. Otherwise all of it becomes `dtype`, as by ``torch.nn.Module.to``.

    Args:
        model: to round.
        dtype: one of `CASTS`.
        other: the structure that it is compared with.

    Raises:
        UsageError: no such cast.
    """
    if dtype not in CASTS:
        raise UsageError(f"unknown cast {dtype!r:.60}; choose from {', '.join(CASTS)}")
    structure = model.structure
    if _interface(structure) != _interface(other):
        from deepstruct.converters import torch_operators_dtypes

        floats = {p.dtype for p in structure.parameters} | {v.dtype for v in (*structure.inputs, *structure.outputs)}
        floats |= {constant.dtype for constant in structure.constants.values()} | set(CASTS)
        names = {name: dtype for name in floats if name is not None and "float" in name}
        structure = torch_operators_dtypes.cast(structure, names)
    if model.weights is None:
        return Model(structure)
    weights, own = model.weights, {p.name: p for p in structure.parameters}

    def load(parameter: Parameter) -> NDArray[Any]:
        kept = weights.kept(parameter.name)
        if "float" not in kept.dtype.name:
            return kept
        final = own[parameter.name].dtype
        with np.errstate(over="ignore", under="ignore"):
            return kept.astype(dtypes.to_numpy(dtype)).astype(dtypes.to_numpy(final))

    if structure is model.structure:
        return Model(structure, Weights(structure, load))
    masks = {p.name: p.mask for p in model.structure.parameters}
    structure = replace(structure, parameters=tuple(replace(p, mask=masks.get(p.name)) for p in structure.parameters))
    return Model(structure, Weights(structure, load))


def _interface(structure: Structure) -> list[str | None]:
    return [value.dtype for value in (*structure.inputs, *structure.outputs)]
