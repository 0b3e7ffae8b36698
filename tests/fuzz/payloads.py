"""Mutations of the payloads of masks: decoded, changed and encoded again, so that the faults lie deep inside."""

from __future__ import annotations

import base64
import copy
import json
import math
import random
import zlib
from typing import Any

from deepstruct import encoding
from deepstruct.errors import FaultyError
from deepstruct.mask import Mask
from fuzz.trees import NUMBERS, SHAPES, STRUCTURES

ENCODINGS: tuple[encoding.Encoding, ...] = ("bitmap", "coo", "delta-varint")
_FACTORS = (1, 2, 3, 8, 1024, 2**20)


def mutated(value: Any, rng: random.Random) -> Any:
    """A copy of a document in which one to three masks are others; the value itself if it has no parameters."""
    value = copy.deepcopy(value)
    parameters = value.get("parameters") if isinstance(value, dict) else None
    found = [item for item in parameters.values() if isinstance(item, dict)] if isinstance(parameters, dict) else []
    if found:
        for parameter in rng.choices(found, k=rng.choice((1, 1, 2, 3))):
            _mutate(parameter, rng)
    return value


def _mutate(parameter: dict[str, Any], rng: random.Random) -> None:
    mask = parameter.setdefault("mask", {"nnz": 0, "encoding": "full"})
    if not isinstance(mask, dict):
        return
    if rng.random() < 0.5:
        _enlarge(parameter, mask, rng)
    if rng.random() < 0.5:
        mask = parameter["mask"] = _encoded_anew(parameter, mask, rng)
    kind = rng.randrange(8)
    if kind <= 3:
        mask["data"] = _payload(mask, rng)
        mask.setdefault("encoding", rng.choice(ENCODINGS))
    elif kind == 4:
        mask["nnz"] = rng.choice((mask.get("nnz"), rng.choice(NUMBERS)))
        mask["block_shape"] = rng.choice((rng.choice(SHAPES), parameter.get("shape")))
    elif kind == 5:
        mask["sparsity_structure"] = copy.deepcopy(rng.choice(STRUCTURES))
    elif kind == 6 and isinstance(mask.get("indices"), list):
        rng.shuffle(mask["indices"])
        mask["indices"] += rng.choice(([[0]], [[0, 0]], [[-1, 0]], [[True, 0]], [0], mask["indices"][:1]))
    if rng.random() < 0.8:
        mask.pop("digest", None)


def _enlarge(parameter: dict[str, Any], mask: dict[str, Any], rng: random.Random) -> None:
    """The parameter and its blocks grow together, so that the mask stays right and becomes large."""
    shape = parameter.get("shape")
    if not isinstance(shape, list) or not all(type(extent) is int for extent in shape):
        return
    factors = [rng.choice(_FACTORS) for _ in shape]
    if math.prod(factors) * math.prod(shape) > 2**26:
        factors = [1 if factor > 8 else factor for factor in factors]
    blocks = mask.get("block_shape", [1] * len(shape))
    if isinstance(blocks, list) and len(blocks) == len(shape) and all(type(block) is int for block in blocks):
        parameter["shape"] = [extent * factor for extent, factor in zip(shape, factors, strict=True)]
        mask["block_shape"] = [block * factor for block, factor in zip(blocks, factors, strict=True)]
        if type(mask.get("nnz")) is int:
            mask["nnz"] *= math.prod(factors)


def _encoded_anew(parameter: dict[str, Any], mask: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The same mask in another encoding, or what stands there if it is none."""
    shape = parameter.get("shape")
    small = isinstance(shape, list) and all(type(extent) is int and extent >= 0 for extent in shape)
    if not small or math.prod(shape or [1]) > 2**12:
        return mask
    try:
        decoded = encoding.decode(mask, tuple(shape or ()))
    except FaultyError:
        decoded = Mask.full(tuple(shape or ()))
    return encoding.encode(decoded, rng.choice(ENCODINGS))


def _payload(mask: dict[str, Any], rng: random.Random) -> str:
    """The payload of a mask with other bytes, compressed again if it was or if it is now said to be."""
    try:
        raw = base64.b64decode(mask["data"])
        if mask.get("compression") == "deflate":
            raw = zlib.decompress(raw)
    except (KeyError, TypeError, ValueError, zlib.error):
        raw = b""
    raw = _damaged(raw, rng)
    if rng.random() < 0.5:
        mask["compression"] = "deflate"
    if mask.get("compression") == "deflate":
        raw = zlib.compress(raw, rng.choice((0, 1, 9)))
        if rng.random() < 0.3:
            raw = rng.choice((raw[:-1], raw + b"\0", raw[:2] + b"\0\0\0\xff\xff" * 50 + raw[2:], _damaged(raw, rng)))
    text = base64.b64encode(raw).decode("ascii")
    if rng.random() < 0.1:
        text = rng.choice((text.rstrip("="), text + "=", text + "\n", text.replace("A", "_"), "ü" + text, text[:-1]))
    return text


def _damaged(raw: bytes, rng: random.Random) -> bytes:
    made = bytearray(raw)
    at = rng.randrange(len(made) + 1)
    kind = rng.randrange(6)
    if kind == 0 and made:
        made[at % len(made)] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del made[at:]
    elif kind == 2:
        made[at:at] = rng.choice((b"\0", b"\x80", b"\xff" * 8 + b"\x7f", b"\x80" * 9, b"\x80\0"))
    elif kind == 3:
        made[at:at] = bytes([rng.choice((0, 1, 255))]) * rng.choice((1, 100, 100_000, 4_000_000))
    elif kind == 4:
        made = bytearray(rng.randbytes(rng.choice((1, 5, 300))))
    else:
        made += json.dumps(list(made[:9])).encode()
    return bytes(made)
