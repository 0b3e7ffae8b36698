"""Mutations of the files beside a document: safetensors files (headers, offsets, claims), and budgets."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

from fuzz import texts, trees

_SIZES = (0, 1, 2, 7, 8, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**64 - 1, 100_000_000, 100_000_001)
_BUDGET_TOKENS = (
    *(
        b"0x" + b"f" * 4000,
        b"9" * 5000,
        b"-1",
        b"inf",
        b"nan",
        b"1e400",
        b"1979-05-27T07:32:00Z",
        b"true",
        b"[]",
        b"{}",
    ),
    *(b'"full"', b"[[network]]\n", b"[network]\n", b"a." * 3000 + b"a = 1\n", b"[" * 3000, b"x = {a = " * 500),
    *(b'[parameters."' + b"*a" * 40 + b'"]\nmax_nnz = 1\n', b'[parameters."[!"]\nmax_nnz = 0\n', b"\\u0000", b"'''"),
    *(b"max_nnz = 1e3\n", b"input_shapes = { x = [9223372036854775808] }\n", b"[parameters]\n", b"[parameters.w]\n"),
)


def weights(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file after a mutation of its header, its length, its tensors or its bytes."""
    if len(content) < 8 or rng.random() < 0.2:
        return texts.mutated(content, rng)
    (length,) = struct.unpack("<Q", content[:8])
    head, data = content[8 : 8 + length], content[8 + length :]
    kind = rng.randrange(4)
    if kind == 0:
        return struct.pack("<Q", rng.choice((*_SIZES, length + 1, length - 1, len(content)))) + head + data
    if kind == 1:
        return content[: 8 + length] + _numbers(data, rng)
    if kind == 2:
        head = _twice(head, rng)
    else:
        try:
            head = json.dumps(_header(json.loads(head), rng)).encode("utf-8", "surrogatepass")
        except ValueError:
            head = texts.mutated(head, rng)
    return struct.pack("<Q", len(head)) + head + data


def _numbers(data: bytes, rng: random.Random) -> bytes:
    changes: tuple[Callable[[], bytes], ...] = (
        lambda: data[:-1],
        lambda: data + b"\0",
        lambda: bytes(len(data)),
        lambda: b"\xff" * len(data),
        lambda: rng.randbytes(len(data)),
        lambda: texts.mutated(data, rng),
    )
    return rng.choice(changes)()


def _twice(head: bytes, rng: random.Random) -> bytes:
    """A tensor, or a member of one, occurs twice."""
    at = head.find(b"{", rng.choice((0, 1)))
    extra = rng.choice(
        (b'"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},', b'"dtype":"U8",', b'"__metadata__":{},')
    )
    return head[: at + 1] + extra + extra + head[at + 1 :]


def _header(header: Any, rng: random.Random) -> Any:
    entries = [entry for entry in header.values() if isinstance(entry, dict)] if isinstance(header, dict) else []
    if not entries or rng.random() < 0.4:
        return trees.mutated(header, rng)
    entry = rng.choice(entries)
    kind = rng.randrange(5)
    if kind == 0:
        entry["data_offsets"] = [rng.choice(_SIZES), rng.choice(_SIZES)]
    elif kind == 1:
        entry["shape"] = rng.choice(([rng.choice(_SIZES)], [2**32, 2**32], [], [0, 2**63], [1] * 100))
    elif kind == 2:
        entry["dtype"] = rng.choice(("BOOL", "F4", "F6_E2M3", "F8_E8M0", "I4", "C64", "F32 ", "", "U64"))
    elif kind == 3:
        header[rng.choice((*trees.NAMES[:8], "__metadata__"))] = dict(entry)
    else:
        header["__metadata__"] = rng.choice(({"a": "b"}, {"a": 1}, [], None, {"a": "x" * 100_000}))
    return header


def budget(content: bytes, rng: random.Random) -> bytes:
    """A budget after a mutation of its text, or of one line."""
    if rng.random() < 0.3:
        return texts.mutated(content, rng)
    lines = content.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    token = rng.choice(_BUDGET_TOKENS)
    if b"=" in lines[at] and not token.endswith(b"\n"):
        lines[at] = lines[at].split(b"=")[0] + b"= " + token + b"\n"
    else:
        lines.insert(at, token)
    return b"".join(lines)
