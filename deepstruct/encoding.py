"""How a mask is written in a document: encodings, and the choice of the smallest.

The rules are those of `docs/format.md`, section "Masks". Nothing here knows about files.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from deepstruct import blocks, leb128
from deepstruct.errors import DocumentError, Fault, FaultyError
from deepstruct.limits import Limits, variable
from deepstruct.mask import Mask, set_bits, strides

Encoding = Literal["full", "coo", "bitmap", "delta-varint"]
ENCODINGS: tuple[str, ...] = get_args(Encoding)
COMPRESSIONS = ("none", "deflate")

_BLOCK = 1 << 16  # bytes inflated at a time, so that what they decode to stays in the processor's cache
_EXHAUSTIVE = 1 << 18  # bytes; of larger payloads samples are compressed first
_SMALL = 1 << 12  # payloads up to this size are small enough to try everything
_COO_LIMIT = 64  # above this many indices plain JSON never beats the packed encodings


def encode(mask: Mask, encoding: Encoding | None = None) -> dict[str, Any]:
    """The document's object for a mask, in the given encoding or else the one with the shortest JSON.

    Ties go to the more readable encoding. The result has keys ``nnz``, ``encoding``, ``digest`` and, as the
    encoding needs, ``block_shape``, ``compression`` and ``data`` or ``indices``.

    Raises:
        ValueError: ``full`` was asked for a mask that is not full.
    """
    if encoding == "full" and not mask.is_full:
        raise ValueError("only a full mask can be encoded as 'full'")
    head = {"nnz": mask.nnz}
    tail = {"digest": mask.digest()}
    if encoding == "full" or (encoding is None and mask.is_full):
        return {**head, "encoding": "full", **tail}
    candidates = []
    if encoding == "coo" or (encoding is None and mask.nnz <= _COO_LIMIT):
        candidates.append({"encoding": "coo", "indices": _coo(mask)})
    if encoding != "coo":
        candidates += _packed_candidates(mask, encoding)
    smallest = min(candidates, key=lambda candidate: len(json.dumps(candidate)))
    return {**head, **smallest, **tail}


def _coo(mask: Mask) -> list[list[int]]:
    coordinates: list[list[int]] = [[] for _ in range(mask.nnz)]
    indices = mask.indices()
    for extent, stride in zip(mask.shape, strides(mask.shape), strict=True):
        column = indices // stride % extent
        for coordinate, value in zip(coordinates, column.tolist(), strict=True):
            coordinate.append(value)
    return coordinates


def _packed_candidates(mask: Mask, encoding: Encoding | None) -> list[dict[str, Any]]:
    block_shape = blocks.find(mask)
    coarse = blocks.reduce(mask, block_shape)
    form = {} if coarse is mask else {"block_shape": list(block_shape)}
    raws: dict[str, NDArray[np.uint8]] = {}
    # A gap takes at least one byte, so on large dense masks it cannot compete with one bit an element.
    worthwhile = 3 * coarse.nnz <= coarse.size or coarse.size <= _EXHAUSTIVE
    if encoding == "delta-varint" or (encoding is None and worthwhile):
        raws["delta-varint"] = leb128.encode(np.diff(coarse.indices(), prepend=-1) - 1)
    # On sparse masks the bitmap's empty bytes alone compress to more than all gaps take.
    hopeless = coarse.packed.size > _SMALL and "delta-varint" in raws and 16 * coarse.nnz < coarse.packed.size
    if encoding == "bitmap" or (encoding is None and not hopeless):
        raws = {"bitmap": coarse.packed, **raws}
    candidates = []
    for name, raw in raws.items():
        candidates.append(_with_data(name, form, "none", raw.tobytes()))
    estimates = {name: _entropy_bytes(raw) for name, raw in raws.items()}
    for name, raw in raws.items():
        promising = raw.size <= _SMALL or estimates[name] <= 1.05 * min(estimates.values())
        if promising:
            candidates.append(_with_data(name, form, "deflate", _deflate(raw, huffman_only=True)))
        if raw.size <= _SMALL or _repeats(raw):
            candidates.append(_with_data(name, form, "deflate", _deflate(raw, huffman_only=False)))
    return candidates


def _with_data(encoding: str, form: dict[str, Any], compression: str, payload: bytes) -> dict[str, Any]:
    compressed = {} if compression == "none" else {"compression": compression}
    data = base64.b64encode(payload).decode("ascii")
    return {"encoding": encoding, **form, **compressed, "data": data}


def _deflate(raw: NDArray[np.uint8], *, huffman_only: bool) -> bytes:
    strategy = zlib.Z_HUFFMAN_ONLY if huffman_only else zlib.Z_DEFAULT_STRATEGY
    compressor = zlib.compressobj(6, zlib.DEFLATED, 15, 9, strategy)
    return compressor.compress(raw.data) + compressor.flush()


def _entropy_bytes(raw: NDArray[np.uint8]) -> float:
    """What Huffman coding alone can reach, in bytes: the order-0 entropy, or one bit a byte if that is more."""
    counts = np.bincount(raw, minlength=1)
    counts = counts[counts > 0]
    return max(raw.size / 8, float(-(counts * np.log2(counts / max(raw.size, 1))).sum() / 8))


def _repeats(raw: NDArray[np.uint8]) -> bool:
    """Whether looking for repetitions may pay: by how many 16 bytes occur twice, or on windows of a large payload."""
    if raw.size <= _EXHAUSTIVE:
        halves = np.lib.stride_tricks.sliding_window_view(raw, 16).copy().view(np.uint64)
        mixed = np.sort(halves[:, 0] * np.uint64(0x9E3779B97F4A7C15) + halves[:, 1])
        return 10 * int(np.count_nonzero(mixed[1:] == mixed[:-1])) > mixed.size
    window = _EXHAUSTIVE // 4
    middle = (raw.size - window) // 2
    sample = np.concatenate([raw[:window], raw[middle : middle + window], raw[-window:]])
    return len(_deflate(sample, huffman_only=False)) < 0.98 * len(_deflate(sample, huffman_only=True))


@dataclass(frozen=True)
class _Payload:
    """The members of a mask object, type-checked."""

    shape: tuple[int, ...]
    block_shape: tuple[int, ...]
    nnz: int
    encoding: str
    compression: str
    data: str
    indices: list[Any]

    @property
    def grid(self) -> tuple[int, ...]:
        return tuple(extent // block for extent, block in zip(self.shape, self.block_shape, strict=True))

    @property
    def grid_nnz(self) -> int:
        return self.nnz // math.prod(self.block_shape)


def decode(value: Mapping[str, Any], shape: tuple[int, ...], limits: Limits | None = None) -> Mask:
    """The mask that a document's mask object describes for a parameter of `shape`.

    Memory is bounded by the element count of `shape`, which is checked against `limits` first.

    Raises:
        DocumentError: a rule is broken; pointers of the faults are relative to the mask object.
    """
    limits = limits or Limits()
    if math.prod(shape) > limits.mask_elements:
        raise _wrong(
            "LIMIT_EXCEEDED",
            "",
            f"the mask has {math.prod(shape)} elements, more than {limits.mask_elements}; "
            f"set {variable('mask_elements')} to allow it",
        )
    payload = _read_members(value, shape)
    if payload.encoding == "full":
        mask = Mask.full(shape)
    elif payload.encoding == "coo":
        mask = _decode_coo(payload)
    else:
        mask = _decode_packed(payload)
    faults = []
    if mask.nnz != payload.nnz:
        message = f"nnz says {payload.nnz}, but the data has {mask.nnz} entries"
        faults.append(Fault("MASK_COUNT_MISMATCH", "/nnz", message))
    if "digest" in value and value["digest"] != mask.digest():
        message = (
            "the digest does not belong to this mask; the data was changed or damaged. "
            "Restore it, or run `deepstruct format --digests` if the change was intended"
        )
        faults.append(Fault("DIGEST_MISMATCH", "/digest", message))
    if faults:
        raise DocumentError("mask", faults)
    return mask


def _wrong(code: str, pointer: str, message: str) -> DocumentError:
    return DocumentError("mask", [Fault(code, pointer, message)])


def _read_members(value: Mapping[str, Any], shape: tuple[int, ...]) -> _Payload:
    faults: list[Fault] = []
    encoding = value.get("encoding")
    if "encoding" not in value:
        faults.append(Fault("MISSING_PROPERTY", "", "the member 'encoding' is missing"))
    elif encoding not in ENCODINGS:
        message = f"{encoding!r:.40} is no known encoding ({', '.join(ENCODINGS)})"
        faults.append(Fault("UNKNOWN_ENCODING", "/encoding", message))
    compression = value.get("compression", "none")
    if compression not in COMPRESSIONS:
        message = f"{compression!r:.40} is no known compression ({', '.join(COMPRESSIONS)})"
        faults.append(Fault("UNKNOWN_ENCODING", "/compression", message))
    nnz = value.get("nnz")
    if "nnz" not in value:
        faults.append(Fault("MISSING_PROPERTY", "", "the member 'nnz' is missing"))
    elif type(nnz) is not int or not 0 <= nnz <= math.prod(shape):
        message = f"nnz must be an integer from 0 to {math.prod(shape)}, not {nnz!r:.40}"
        faults.append(Fault("MASK_COUNT_MISMATCH", "/nnz", message))
    data, indices = value.get("data", ""), value.get("indices", [])
    if not isinstance(data, str):
        faults.append(Fault("TYPE_MISMATCH", "/data", "data must be a base64 string"))
    if not isinstance(indices, list):
        faults.append(Fault("TYPE_MISMATCH", "/indices", "indices must be a list of coordinate lists"))
    if encoding in ENCODINGS:
        faults += _misplaced(value, encoding)
    block_shape = value.get("block_shape", [1] * len(shape))
    if not _divides(block_shape, shape):
        message = f"block_shape must have one positive divisor for each extent of {list(shape)}"
        faults.append(Fault("MASK_BLOCK_SHAPE", "/block_shape", message))
    elif type(nnz) is int and nnz % math.prod(block_shape):
        message = f"nnz {nnz} is no multiple of {math.prod(block_shape)}, the size of a block"
        faults.append(Fault("MASK_COUNT_MISMATCH", "/nnz", message))
    if faults or not isinstance(nnz, int):
        raise DocumentError("mask", faults)
    return _Payload(shape, tuple(block_shape), nnz, str(encoding), compression, data, indices)


def _misplaced(value: Mapping[str, Any], encoding: str) -> Iterator[Fault]:
    """Members that the encoding needs and lacks, or has and must not have."""
    needed = {"coo": "indices", "bitmap": "data", "delta-varint": "data"}.get(encoding)
    if needed and needed not in value:
        yield Fault("MISSING_PROPERTY", "", f"encoding {encoding!r} needs {needed!r}")
    for member in ("indices", "data", "compression"):
        if member in value and member != needed and (member, needed) != ("compression", "data"):
            yield Fault("UNEXPECTED_PROPERTY", f"/{member}", f"encoding {encoding!r} has no {member!r}")


def _divides(block_shape: Any, shape: tuple[int, ...]) -> bool:
    return (
        isinstance(block_shape, list)
        and len(block_shape) == len(shape)
        and all(type(block) is int and block >= 1 for block in block_shape)
        and all(extent % block == 0 for extent, block in zip(shape, block_shape, strict=True))
    )


def _decode_coo(payload: _Payload) -> Mask:
    rank = len(payload.grid)
    for position, index in enumerate(payload.indices):
        if not isinstance(index, list) or len(index) != rank or not {*map(type, index)} <= {int}:
            raise _wrong("TYPE_MISMATCH", f"/indices/{position}", f"an index is a list of {rank} integers")
    indices = np.array(payload.indices, dtype=np.int64).reshape(len(payload.indices), rank)
    outside = np.flatnonzero(((indices < 0) | (indices >= np.array(payload.grid, dtype=np.int64))).any(axis=1))
    if outside.size:
        first = int(outside[0])
        message = f"{payload.indices[first]} is outside of {list(payload.grid)}"
        raise _wrong("MASK_INDEX_OUT_OF_RANGE", f"/indices/{first}", message)
    flat = indices @ np.array(strides(payload.grid), dtype=np.int64)
    descents = np.flatnonzero(np.diff(flat) <= 0)
    if descents.size:
        message = "indices must be sorted and without duplicates"
        raise _wrong("MASK_NOT_SORTED", f"/indices/{int(descents[0]) + 1}", message)
    return blocks.expand(Mask.from_indices(payload.grid, flat), payload.block_shape)


def _decode_packed(payload: _Payload) -> Mask:
    size = math.prod(payload.grid)
    try:
        raw = base64.b64decode(payload.data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _wrong("MASK_DATA", "/data", f"data is not base64 (RFC 4648 section 4): {error}") from error
    if payload.data[-4:] != base64.b64encode(raw[-(len(raw) % 3 or 3) :]).decode("ascii"):
        raise _wrong("MASK_DATA", "/data", "the unused bits at the end of the base64 text must be 0")
    if payload.encoding == "bitmap":
        packed = _collect(_inflated(raw, payload, (size + 7) // 8), (size + 7) // 8)
        try:
            coarse = Mask(payload.grid, packed)
        except FaultyError as error:
            raise DocumentError("mask", [fault.under("/data") for fault in error.faults]) from error
        return blocks.expand(coarse, payload.block_shape)
    # Gaps below 128 take one byte; every further byte of a number needs a gap of at least 128.
    longest = payload.grid_nnz + size // 127 + leb128.MAX_BYTES
    bits = np.zeros((size + 7) // 8, dtype=np.uint8)
    position = -1
    try:
        for gaps in leb128.decode(_inflated(raw, payload, longest)):
            if float(gaps.sum(dtype=np.float64)) + gaps.size > size - 1 - position:
                raise _wrong("MASK_INDEX_OUT_OF_RANGE", "/data", f"a gap leads behind the {size} elements")
            gaps += 1
            gaps[0] += position
            indices = np.cumsum(gaps, out=gaps)
            set_bits(bits, indices)
            position = int(indices[-1])
    except ValueError as error:
        if isinstance(error, DocumentError):
            raise
        raise _wrong("MASK_DATA", "/data", f"not a delta-varint sequence: {error}") from error
    bits.flags.writeable = False
    return blocks.expand(Mask(payload.grid, bits), payload.block_shape)


def _collect(parts: Iterator[NDArray[np.uint8]], expected: int) -> NDArray[np.uint8]:
    packed = np.concatenate([np.empty(0, dtype=np.uint8), *parts])
    if packed.size != expected:
        raise _wrong("MASK_SIZE", "/data", f"the bitmap has {packed.size} bytes, the shape takes {expected}")
    packed.flags.writeable = False
    return packed


def _inflated(raw: bytes, payload: _Payload, longest: int) -> Iterator[NDArray[np.uint8]]:
    """The payload's bytes in blocks, inflated where compressed; stops a payload longer than `longest`."""
    if payload.compression == "none":
        if len(raw) > longest:
            raise _wrong("MASK_SIZE", "/data", f"{len(raw)} bytes, but the mask takes at most {longest}")
        for start in range(0, len(raw), _BLOCK):
            yield np.frombuffer(raw, dtype=np.uint8)[start : start + _BLOCK]
        return
    inflater, produced, taken, pending = zlib.decompressobj(), 0, 0, b""
    try:
        while not inflater.eof:
            if not pending:
                pending = raw[taken : taken + _BLOCK]
                taken += len(pending)
            block = inflater.decompress(pending, _BLOCK)
            produced += len(block)
            if produced > longest:
                raise _wrong("MASK_SIZE", "/data", f"inflates to more than the {longest} bytes a mask takes")
            if not block and not pending and not inflater.eof:
                raise _wrong("MASK_DATA", "/data", "the deflate stream is truncated")
            pending = inflater.unconsumed_tail
            yield np.frombuffer(block, dtype=np.uint8)
    except zlib.error as error:
        raise _wrong("MASK_DATA", "/data", f"not a zlib stream (RFC 1950): {error}") from error
    if inflater.unused_data or taken < len(raw):
        raise _wrong("MASK_DATA", "/data", "there are bytes behind the deflate stream")
