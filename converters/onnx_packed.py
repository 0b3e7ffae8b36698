"""Masked weights as packed initializers, which standard operators turn into the dense tensor (`docs/packed.md`)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import FunctionProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from deepstruct import dtypes
from deepstruct.converters import onnx_packed_layout as layouts
from deepstruct.converters import onnx_packed_operators as operators
from deepstruct.converters import onnx_tensors
from deepstruct.converters.onnx_packed_layout import BITS, Gaps, Layout
from deepstruct.mask import Mask, count

CHUNK = 1 << 19
"""Entries, kept or not, that are decoded at once: few enough that memory is used again instead of fetched anew."""

STAGES = 9
"""Groups of chunks, one for each pass of onnxruntime's optimisation; it makes at most ten."""

_STAGE_BYTES = 32 << 20  # below this, freeing memory is not worth a stage
_CHUNKS = 64  # that a weight has at most, roughly
_CHUNK_BYTES = 1 << 17  # of values in a chunk of up to _LONGEST entries, at least
_LONGEST = 1 << 22
_MANY = 5 / 8  # density above which a bit for each entry is smaller than one of three codes for each kept one


@dataclass(frozen=True)
class Chunk:
    """Consecutive entries of a weight that are decoded by themselves.

    Attributes:
        name: of its dense tensor.
        shape: that of the weight but for a range of its first axis that is longer than 1.
        start: flat position of its first entry in the weight.
        nnz: number of its kept entries.
        length: number of its codes.
        op_type: operator that decodes it.
        codes: uint8 ``[bytes]``, or None where the bits of the mask say it all.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    nnz: int
    length: int
    op_type: str
    codes: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)

    @property
    def size(self) -> int:
        """Number of entries, kept or not."""
        return math.prod(self.shape)

    @property
    def shape_name(self) -> str:
        """Name of the initializer that holds the shape, which chunks of the same shape share."""
        return f"{operators.DOMAIN}.shape.{'x'.join(map(str, self.shape))}"


@dataclass(frozen=True)
class Plan:
    """How a weight is packed, without its values.

    Attributes:
        name: of the weight.
        dtype: document's name of its dtype.
        shape: of the weight.
        layout: of the codes.
        chunks: in order; one of the name and shape of the weight if that is small.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: Layout
    chunks: tuple[Chunk, ...]

    @property
    def payload(self) -> int:
        """Exact bytes of codes and values."""
        itemsize = dtypes.to_numpy(self.dtype).itemsize
        return sum(self.layout.bytes_of(chunk.length) + (chunk.nnz + 1) * itemsize for chunk in self.chunks)

    @property
    def axis(self) -> int:
        """The axis along which chunks are joined: the first that is longer than 1."""
        return next((axis for axis, extent in enumerate(self.shape) if extent > 1), 0)


@dataclass(frozen=True)
class Parts:
    """What a model needs beside the codes and values of its packed weights.

    Attributes:
        nodes: before all others; each weight is an output under its own name.
        initializers: small constants that the weights share.
        functions: definitions of the operators of domain ``deepstruct``, version 1; none in the flat spelling.
        value_info: types that shape inference cannot find.
    """

    nodes: list[NodeProto]
    initializers: list[TensorProto]
    functions: list[FunctionProto]
    value_info: list[ValueInfoProto]


def fits(dtype: str, opset: int) -> bool:
    """Whether weights of a document's dtype can be packed in a model with this version of ai.onnx."""
    return opset >= operators.MINIMUM_OPSET.get(dtype, math.inf)


def plan(name: str, mask: Mask, dtype: str, *, layout: Layout | None = None, chunk: int | None = None) -> Plan:
    """How to pack a weight in the fewest bytes.

    Args:
        name: of the weight.
        mask: of the weight.
        dtype: document's name of its dtype.
        layout: of the codes, instead of the smallest.
        chunk: entries to be decoded at once, instead of `CHUNK` or more; a chunk has more only where one index of its
            first axis does.
    """
    ranges = _ranges(mask.shape, chunk or _chunk(mask, dtype))
    if layout is None and mask.density > _MANY:
        layout = BITS
    parts: list[NDArray[np.int64]] = []
    gaps: list[Gaps] = []
    if layout is BITS:
        counts = [count(_bits(mask, start, math.prod(shape))) for shape, start in ranges]
    else:
        parts = list(_split(mask.indices(), ranges))
        gaps = [Gaps(part) for part in parts]
        counts = [part.nnz for part in gaps]
    sizes = [math.prod(shape) if nnz else 0 for (shape, _), nnz in zip(ranges, counts, strict=True)]
    if layout is None:
        layout = layouts.choose(gaps, sizes)
    lengths = sizes if layout is BITS else [part.length(layout) for part in gaps]
    chunks = []
    for position, ((shape, start), nnz, length) in enumerate(zip(ranges, counts, lengths, strict=True)):
        part = name if len(ranges) == 1 else f"{name}.{position}"
        op_type = operators.operation(layout, nnz, length, dtype)
        codes = layouts.encode(parts[position], layout) if layout is not BITS else None
        chunks.append(Chunk(part, shape, start, nnz, length, op_type, codes))
    return Plan(name, dtype, mask.shape, layout, tuple(chunks))


def _chunk(mask: Mask, dtype: str) -> int:
    """Entries of a chunk: more than `CHUNK` where its values would be few beside the nodes that decode them."""
    few = mask.size * _CHUNK_BYTES // max(1, mask.nnz * dtypes.to_numpy(dtype).itemsize)
    return max(CHUNK, min(few, _LONGEST), mask.size // _CHUNKS)


def _ranges(shape: tuple[int, ...], chunk: int) -> list[tuple[tuple[int, ...], int]]:
    """Shape and first flat position of each chunk."""
    axis = next((axis for axis, extent in enumerate(shape) if extent > 1), None)
    size = math.prod(shape)
    if axis is None or size <= chunk:
        return [(shape, 0)]
    inner = size // shape[axis]
    rows = max(1, chunk // inner)
    if rows >= 8:
        number = max(1, round(shape[axis] / rows))
        rows = -(-shape[axis] // (8 * number)) * 8  # as even as whole bytes of bits allow
    starts = range(0, shape[axis], rows)
    return [((*shape[:axis], min(rows, shape[axis] - first), *shape[axis + 1 :]), first * inner) for first in starts]


def _split(indices: NDArray[np.int64], ranges: list[tuple[tuple[int, ...], int]]) -> Iterator[NDArray[np.int64]]:
    """The flat indices of each chunk, counted from its start."""
    borders = [*np.searchsorted(indices, [start for _, start in ranges]).tolist(), indices.size]
    for (_, start), (first, last) in zip(ranges, pairwise(borders), strict=True):
        yield indices[first:last] - start if start else indices[first:last]


def _bits(mask: Mask, start: int, size: int) -> NDArray[np.uint8]:
    """uint8 ``[ceil(size / 8)]``: bits of consecutive entries, padding 0."""
    found = mask.packed[start // 8 : (start + size + 7) // 8]
    if not start % 8 and (not size % 8 or start + size == mask.size):
        return found
    bits = np.unpackbits(found, bitorder="little")[start % 8 : start % 8 + size]
    return np.packbits(bits, bitorder="little")


def initializers(plan: Plan, mask: Mask, kept: NDArray[Any]) -> Iterator[TensorProto]:
    """The codes and values of a packed weight.

    Args:
        plan: of the weight.
        mask: that the plan was made for.
        kept: ``[nnz]``, the kept entries in row-major order.
    """
    data_type = onnx_tensors.data_type(plan.dtype)
    kept = np.ascontiguousarray(kept)
    first = 0
    for chunk in plan.chunks:
        if chunk.nnz:
            codes = chunk.codes
            if codes is None:
                codes = layouts.encode_bits(_bits(mask, chunk.start, chunk.size), chunk.size)
            yield _tensor(f"{chunk.name}.codes", TensorProto.UINT8, codes)
        if "length" in operators.inputs_of(chunk.op_type):
            yield _tensor(f"{chunk.name}.length", TensorProto.INT64, np.array([chunk.length]))
        values = np.zeros(chunk.nnz + 1, dtype=kept.dtype)
        values[1:] = kept[first : first + chunk.nnz]
        first += chunk.nnz
        yield _tensor(f"{chunk.name}.values", data_type, values)


def _tensor(name: str, data_type: int, array: NDArray[Any]) -> TensorProto:
    return TensorProto(name=name, data_type=data_type, dims=array.shape, raw_data=array.tobytes())


def assemble(plans: Mapping[str, Plan], opset: int, *, function: bool, stages: int = STAGES) -> Parts:
    """The operators that turn packed weights into dense ones.

    Args:
        plans: weights by name.
        opset: version of ai.onnx in the model.
        function: whether operators are model-local functions; otherwise they are written out.
        stages: groups of chunks that onnxruntime decodes one after the other, so that it frees memory in between.
            Only the spelling with functions has them.
    """
    stage = _stages(plans.values(), stages) if function else {}
    constants: dict[str, NDArray[Any]] = {}
    used: dict[str, None] = {}
    nodes: list[NodeProto] = []
    value_info = []
    gates = max(stage.values(), default=0)
    if gates:
        constants[operators.gate(0)] = np.array([True])
        nodes += [operators.gate_node(position) for position in range(1, gates + 1)]
        value_info = [
            helper.make_tensor_value_info(operators.gate(position), TensorProto.BOOL, [1])
            for position in range(1, gates + 1)
        ]
    for name, plan in plans.items():
        for chunk in plan.chunks:
            constants[chunk.shape_name] = np.array(chunk.shape, dtype=np.int64)
            names = {part: f"{chunk.name}.{part}" for part in operators.inputs_of(chunk.op_type)}
            names |= {"shape": chunk.shape_name, "dense": chunk.name}
            position = stage.get(chunk.name, 0)
            if position and "codes" in names:
                nodes.append(operators.delayed(position, names["codes"], f"{chunk.name}.delayed"))
                names["codes"] = f"{chunk.name}.delayed"
            if function:
                used[chunk.op_type] = None
                nodes.append(operators.call(chunk.op_type, names))
            else:
                flat, shared = operators.write_out(chunk.op_type, names, chunk.name)
                nodes += flat
                constants |= shared
        if len(plan.chunks) > 1:
            nodes.append(operators.join([chunk.name for chunk in plan.chunks], name, plan.axis))
    return Parts(
        nodes,
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
        [operators.function(op_type, opset) for op_type in used],
        value_info,
    )


def _stages(plans: Collection[Plan], stages: int) -> dict[str, int]:
    """The stage of each chunk, from 0: of the ways to group chunks in order, that with the smallest largest group."""
    needed = [(chunk.name, _working_bytes(plan, chunk)) for plan in plans for chunk in plan.chunks]
    low, high = _STAGE_BYTES, max(_STAGE_BYTES, sum(amount for _, amount in needed))
    found = _fill(needed, high)
    while high - low > 1 + high // 64:
        middle = (low + high) // 2
        tried = _fill(needed, middle)
        if max(tried.values(), default=0) < stages:
            found, high = tried, middle
        else:
            low = middle
    return found


def _fill(needed: list[tuple[str, int]], bound: int) -> dict[str, int]:
    """The stage of each chunk if a stage ends where the bytes of its chunks would exceed a bound."""
    found: dict[str, int] = {}
    stage, working = 0, 0
    for name, amount in needed:
        if working and working + amount > bound:
            stage, working = stage + 1, 0
        found[name] = stage
        working += amount
    return found


def _working_bytes(plan: Plan, chunk: Chunk) -> int:
    """What lies between the operators that decode a chunk, which onnxruntime frees after each pass."""
    itemsize = dtypes.to_numpy(plan.dtype).itemsize
    joined = math.prod(plan.shape) * itemsize if len(plan.chunks) > 1 and chunk is plan.chunks[-1] else 0
    if chunk.op_type == operators.WHOLE:
        return joined + chunk.size * (16 + 2 * itemsize)
    return joined + chunk.size * 3 * itemsize + chunk.length * (24 + itemsize)
