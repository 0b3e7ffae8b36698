"""What `deepstruct info` and `deepstruct diff` say about structures, as plain data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from deepstruct import dtypes, encoding
from deepstruct.document import digest
from deepstruct.mask import Mask, count
from deepstruct.structure import Parameter, Structure


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
    for node in structure.nodes:
        name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        operators[name] = operators.get(name, 0) + 1
    return Summary(
        name=structure.name,
        digest=digest(structure),
        opset=dict(structure.opset),
        inputs=tuple(_value(v.name, v.dtype, v.shape) for v in structure.inputs),
        outputs=tuple(_value(v.name, v.dtype, v.shape) for v in structure.outputs),
        operators=operators,
        parameters=parameters,
        entries=structure.size,
        nnz=structure.nnz,
        density=structure.density,
        dense_bytes=sum(p.dense_bytes for p in parameters),
        value_bytes=sum(p.value_bytes for p in parameters),
        mask_bytes=sum(p.mask_bytes for p in parameters),
    )


def _value(name: str, dtype: str, shape: Any) -> str:
    dims = "?" if shape is None else ", ".join("?" if dim is None else str(dim) for dim in shape)
    return f"{name}: {dtype} [{dims}]"


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


@dataclass(frozen=True, slots=True)
class ParameterChange:
    """How one parameter differs between two structures.

    Attributes:
        change: ``added``, ``removed``, ``resized`` (shape or dtype) or ``rewired`` (mask).
        before: dtype and shape, ``""`` if added.
        after: dtype and shape, ``""`` if removed.
        kept: connections in both; None unless rewired.
        lost: connections only before; None unless rewired.
        new: connections only after; None unless rewired.
    """

    name: str
    change: str
    before: str
    after: str
    kept: int | None = None
    lost: int | None = None
    new: int | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between two structures; weights are not compared.

    Attributes:
        parameters: those that differ.
        nodes: names of nodes that were added, removed or changed.
        graph: whether inputs, outputs, opset, constants, name or attributes differ.
    """

    parameters: tuple[ParameterChange, ...]
    nodes: dict[str, tuple[str, ...]]
    graph: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether the structures are the same."""
        return not (self.parameters or any(self.nodes.values()) or self.graph)

    def to_json(self) -> dict[str, Any]:
        """The difference as a JSON object."""
        return {"equal": self.equal, **asdict(self)}


def compare(before: Structure, after: Structure) -> Difference:
    """What differs from one structure to the other."""
    old = {parameter.name: parameter for parameter in before.parameters}
    new = {parameter.name: parameter for parameter in after.parameters}
    changes = [_change(old.get(name), new.get(name)) for name in {**old, **new}]
    old_nodes = {node.name: node for node in before.nodes}
    new_nodes = {node.name: node for node in after.nodes}
    both = [name for name in old_nodes if name in new_nodes]
    nodes = {
        "added": tuple(name for name in new_nodes if name not in old_nodes),
        "removed": tuple(name for name in old_nodes if name not in new_nodes),
        "changed": tuple(name for name in both if old_nodes[name] != new_nodes[name]),
        "reordered": tuple(
            name
            for name, position in zip(both, (n for n in new_nodes if n in old_nodes), strict=True)
            if name != position
        ),
    }
    members = ("name", "opset", "inputs", "outputs", "constants", "attributes", "extra")
    graph = tuple(member for member in members if getattr(before, member) != getattr(after, member))
    return Difference(tuple(change for change in changes if change is not None), nodes, graph)


def _type(parameter: Parameter | None) -> str:
    return "" if parameter is None else f"{parameter.dtype} {list(parameter.shape)}"


def _change(before: Parameter | None, after: Parameter | None) -> ParameterChange | None:
    name = before.name if before is not None else after.name if after is not None else ""
    types = (_type(before), _type(after))
    if before is None or after is None:
        return ParameterChange(name, "added" if before is None else "removed", *types)
    if types[0] != types[1]:
        return ParameterChange(name, "resized", *types)
    if before == after:
        return None
    old = before.mask or Mask.full(before.shape)
    new = after.mask or Mask.full(after.shape)
    kept = count(old.packed & new.packed)
    return ParameterChange(name, "rewired", *types, kept=kept, lost=old.nnz - kept, new=new.nnz - kept)
