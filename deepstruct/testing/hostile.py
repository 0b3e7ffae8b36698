"""Contents of files that no converter can read: of other kinds, cut short, and damaged."""

from __future__ import annotations

import io
import pickle
import random
import zipfile
from collections.abc import Iterator


def _archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("hello.txt"), "hello")
    return buffer.getvalue()


OTHER_KINDS = {
    "nothing": b"",
    "a zero": b"\0",
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "white space": b" \r\n\t" * 20,
    "prose": 'Once upon a time, es war einmal, il était une fois: a (small) "file".\n'.encode() * 3,
    "Latin-1": b"\xe4\xf6\xfc\n",
    "UTF-16": "text".encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf",
    "an empty object": b"{}",
    "an empty array": b"[]",
    "null": b"null",
    "deep nesting": b"[" * 100_000,
    "another document": b'{"format": "another", "version": "1.0.0"}',
    "markup": b'<?xml version="1.0"?><html><body/></html>',
    "an archive": _archive(),
    "an empty archive": b"PK\5\6" + bytes(18),
    "the head of an archive": b"PK\3\4" + bytes(40),
    "a pickle": pickle.dumps({"weight": [1, 2.5]}, protocol=4),
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(32),
    "the head of a database": b"SQLite format 3\0" + bytes(96),
    "compressed": b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + bytes(16),
    "noise": random.Random(7).randbytes(2000),
}
"""Name -> content of files that are of no format of networks."""


def cut_short(content: bytes) -> Iterator[bytes]:
    """Beginnings of a file, most of them near its ends."""
    size = len(content)
    near = {1, 2, 7, 8, 16, 64, size - 64, size - 8, size - 2, size - 1}
    spread = {size * part // 16 for part in range(1, 16)}
    yield from (content[:length] for length in sorted(near | spread) if 0 < length < size)


def damaged(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """The file with a few bytes changed, removed, repeated or exchanged, `count` times."""
    rng = random.Random(seed)
    for _ in range(count):
        made = bytearray(content)
        for _ in range(rng.choice([1, 1, 1, 4])):
            start = rng.randrange(len(made) + 1)
            stop = min(len(made), start + rng.choice([1, 1, 2, 8, 64]))
            kind = rng.randrange(5)
            if kind == 0 and start < stop:
                made[start] ^= 1 << rng.randrange(8)
            elif kind == 1:
                del made[start:stop]
            elif kind == 2:
                made[start:start] = made[start:stop]
            elif kind == 3:
                made[start:stop] = rng.randbytes(stop - start)
            else:
                made[start:stop] = rng.choice([b"\0", b"\xff", b"9"]) * (stop - start)
        yield bytes(made)
