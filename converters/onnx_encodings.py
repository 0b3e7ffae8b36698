"""Which encoding each tensor of an ONNX file gets, by the bytes that each takes."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

from deepstruct import dtypes
from deepstruct.converters import onnx_messages, onnx_packed, onnx_tensors
from deepstruct.converters.onnx_packed import Plan
from deepstruct.errors import UnsupportedError
from deepstruct.options import NO_MASK, SparseEncoding, StoredTensor
from deepstruct.structure import Parameter, Structure, walk

CONSTANT_OPSET = 11
"""The first opset in which Constant has ``sparse_value``."""

_LARGEST_SPARSE = 2**31 - 1  # bytes of the dense tensor that onnxruntime makes of a standard sparse one
_NOTE_BYTES = 8  # of the note that a dense tensor has a mask, without its name
_SPARSE_BYTES = 18  # of messages around values and indices, beyond those around dense numbers
_NODE_BYTES = 64  # of a Constant around a sparse tensor, without the name
_NOT_SPARSE = dtypes.NARROW | {"string"}


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of one tensor in each encoding; None where the encoding cannot hold it.

    Attributes:
        dense: the numbers of all entries, and the note that there is a mask.
        coo: kept values and indices in a sparse initializer.
        constant: the same in a Constant.
        packed: codes and kept values, and the nodes that decode them.
        plan: how it would be packed.
    """

    dense: int
    coo: int | None
    constant: int | None
    packed: int | None
    plan: Plan | None

    def of(self, encoding: str) -> int | None:
        """Bytes in an encoding of `deepstruct.options.SparseEncoding`."""
        found: int | None = getattr(self, encoding.removesuffix("-flat"))
        return found


def measure(parameter: Parameter, opset: int, *, flat: bool = False, taken: Set[str] = frozenset()) -> Sizes:
    """The sizes of a parameter with its mask, or of one without, which is dense.

    Args:
        parameter: to store.
        opset: version of ONNX's own operators that the model uses.
        flat: whether packed tensors are decoded without functions.
        taken: names that what decodes a packed tensor cannot have.
    """
    dense = onnx_tensors.stored_bytes(parameter.dtype, parameter.size)
    mask = parameter.mask
    if mask is None or not parameter.size or parameter.dtype in _NOT_SPARSE:
        return Sizes(dense, None, None, None, None)
    dense += len(parameter.name.encode()) + _NOTE_BYTES
    plan, packed = None, None
    if onnx_packed.fits(parameter.dtype, opset):
        plan = onnx_packed.plan(parameter.name, mask, parameter.dtype)
        nodes = onnx_packed.assemble({parameter.name: plan}, opset, function=not flat).nodes
        names = {name for node in nodes for name in node.output} - {parameter.name}
        names |= {name for node in nodes for name in node.input}
        heads = sum(_SPARSE_BYTES + 2 * len(chunk.name.encode()) for chunk in plan.chunks)
        packed = plan.payload + heads + sum(node.ByteSize() + 4 for node in nodes)
        if not names.isdisjoint(taken):
            plan, packed = None, None
    if not parameter.shape or dense > _LARGEST_SPARSE:
        return Sizes(dense, None, None, packed, plan)
    values = onnx_tensors.stored_bytes(parameter.dtype, mask.nnz)
    coo = values + onnx_messages.varint_bytes(mask) + _SPARSE_BYTES
    constant = coo + _NODE_BYTES + 2 * len(parameter.name.encode())
    return Sizes(dense, coo, constant if opset >= CONSTANT_OPSET else None, packed, plan)


@dataclass(frozen=True, slots=True)
class Choice:
    """How every parameter of a structure is stored.

    Attributes:
        stored: by name of the parameter.
        plans: of those that are packed, by name.
    """

    stored: dict[str, StoredTensor]
    plans: dict[str, Plan]


def choose(structure: Structure, wanted: SparseEncoding, *, functions: bool = True) -> Choice:
    """The encoding that each parameter gets, none of them ``auto``.

    Args:
        structure: whose parameters are stored.
        wanted: encoding of those with a mask.
        functions: whether the file may have functions, as ``packed`` needs them.

    Raises:
        UnsupportedError: the model's opset, or a file without functions, has no such encoding.
    """
    opset = structure.opset.get("", 0)
    masked = {parameter.name for parameter in structure.parameters if parameter.mask is not None}
    if masked and wanted == "constant" and opset < CONSTANT_OPSET:
        raise UnsupportedError(
            f"Constant has sparse values from opset {CONSTANT_OPSET} on, not in {opset}; use --opset"
        )
    if masked and wanted.startswith("packed") and not onnx_packed.fits("float32", opset):
        raise UnsupportedError(f"opset {opset} lacks operators that decode packed tensors; use --opset")
    if masked and wanted == "packed" and not functions:
        raise UnsupportedError("packed tensors need functions, of IR version 8 on; use packed-flat, or --ir-version")
    flat = wanted == "packed-flat"
    taken = _names(structure)
    sizes = {p.name: measure(p, opset, flat=flat, taken=taken) for p in structure.parameters}
    for value in structure.outputs:
        if value.name in sizes:  # runtimes would hand back a sparse tensor
            sizes[value.name] = replace(sizes[value.name], coo=None, constant=None)
    measured = {name: found for name, found in sizes.items() if name in masked}
    smallest = _smallest(measured, opset, functions=functions) if wanted == "auto" else {}
    stored = {}
    for name, found in sizes.items():
        encoding, reason = "dense", NO_MASK
        if name in smallest:
            encoding, reason = smallest[name], "the smallest"
        elif name in masked and found.of(wanted) is not None:
            encoding, reason = wanted, "as asked for"
        elif name in masked:
            reason = f"{wanted} cannot hold it"
        stored[name] = StoredTensor(name, encoding, found.of(encoding) or 0, found.dense, reason)
    plans = {name: found.plan for name, found in sizes.items() if stored[name].encoding.startswith("packed")}
    return Choice(stored, {name: plan for name, plan in plans.items() if plan is not None})


def _names(structure: Structure) -> set[str]:
    """Every name of a value, wherever it is defined."""
    nodes = tuple(walk(structure.nodes))
    names = {name for node in nodes for name in node.outputs} | set(structure.constants)
    names |= {value.name for node in nodes for graph in node.graphs for value in graph.inputs}
    return names | {value.name for value in structure.inputs} | {p.name for p in structure.parameters}


def _smallest(sizes: Mapping[str, Sizes], opset: int, *, functions: bool) -> dict[str, str]:
    """The smallest encoding of each tensor; what all packed tensors share must be worth it."""
    standard = {name: _least(found, ("dense", "coo", "constant")) for name, found in sizes.items()}
    if not functions:
        return standard
    best = {name: _least(found, ("dense", "coo", "constant", "packed")) for name, found in sizes.items()}
    plans = {name: plan for name, found in sizes.items() if best[name] == "packed" and (plan := found.plan)}
    parts = onnx_packed.assemble(plans, opset, function=True)
    shared = sum(f.ByteSize() for f in parts.functions) + sum(t.ByteSize() for t in parts.initializers)
    gain = sum((sizes[name].of(standard[name]) or 0) - (sizes[name].of(best[name]) or 0) for name in sizes)
    return best if gain > shared else standard


def _least(sizes: Sizes, encodings: tuple[str, ...]) -> str:
    possible = [(size, position) for position, name in enumerate(encodings) if (size := sizes.of(name)) is not None]
    return encodings[min(possible)[1]]
