"""What `deepstruct info` says about a structure, as plain data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from deepstruct import dtypes, encoding
from deepstruct.document import digest
from deepstruct.structure import Parameter, Structure, ValueInfo, walk


@dataclass(frozen=True, slots=True)
class ParameterSummary:
    """One parameter in numbers.

    Attributes:
        shape: extents.
        nnz: entries that exist.
        density: nnz divided by the number of entries.
        dense_bytes: the whole tensor.
        value_bytes: the entries that exist.
        mask_bytes: the mask as text in a document, 0 without a mask.
        encoding: of the mask, ``""`` without one.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nnz: int
    density: float
    dense_bytes: int
    value_bytes: int
    mask_bytes: int
    encoding: str


@dataclass(frozen=True, slots=True)
class Summary:
    """A structure in numbers; totals are sums over the parameters."""

    name: str
    digest: str
    opset: dict[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: dict[str, int]
    parameters: tuple[ParameterSummary, ...]
    entries: int
    nnz: int
    density: float
    dense_bytes: int
    value_bytes: int
    mask_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The summary as a JSON object."""
        return asdict(self)


def summarise(structure: Structure) -> Summary:
    """The numbers of a structure."""
    parameters = tuple(_parameter(parameter) for parameter in structure.parameters)
    operators: dict[str, int] = {}
    for node in walk(structure.nodes):
        name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        operators[name] = operators.get(name, 0) + 1
    return Summary(
        name=structure.name,
        digest=digest(structure),
        opset=dict(structure.opset),
        inputs=tuple(_value(value) for value in structure.inputs),
        outputs=tuple(_value(value) for value in structure.outputs),
        operators=operators,
        parameters=parameters,
        entries=structure.size,
        nnz=structure.nnz,
        density=structure.density,
        dense_bytes=sum(p.dense_bytes for p in parameters),
        value_bytes=sum(p.value_bytes for p in parameters),
        mask_bytes=sum(p.mask_bytes for p in parameters),
    )


def _value(value: ValueInfo) -> str:
    dims = "?" if value.shape is None else ", ".join("?" if dim is None else str(dim) for dim in value.shape)
    containers = "".join(f"{container} of " for container in value.containers)
    return f"{value.name}: {containers}{value.dtype or '?'} [{dims}]"


def _parameter(parameter: Parameter) -> ParameterSummary:
    encoded = encoding.encode(parameter.mask) if parameter.mask is not None else {}
    text = encoded.get("data") or json.dumps(encoded.get("indices", ""), separators=(",", ":")).strip('"')
    item = 0 if parameter.dtype == "string" else dtypes.to_numpy(parameter.dtype).itemsize
    return ParameterSummary(
        name=parameter.name,
        dtype=parameter.dtype,
        shape=parameter.shape,
        nnz=parameter.nnz,
        density=parameter.density,
        dense_bytes=parameter.size * item,
        value_bytes=parameter.nnz * item,
        mask_bytes=len(text),
        encoding=encoded.get("encoding", ""),
    )
