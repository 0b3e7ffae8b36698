"""Mutations of the text of a file, whatever it says: bits, bytes, tokens, encodings."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

TOKENS = (
    *(b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b"\\u", b"\\ud800", b"\\u0000", b"\0", b"\x1b[31m", b"\x7f"),
    *(b"NaN", b"-Infinity", b"null", b"true", b"tru", b"-", b"-0", b"0.0", b"1e999", b"-1e-999", b"01", b"1.", b".5"),
    *(b"9" * 400, b"9" * 5000, b"1" + b"0" * 20, b"0." + b"0" * 400 + b"1", b"1e" + b"9" * 400, b"//", b"/**/", b"'"),
    *(b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x80\xae", b"\xef\xbb\xbf", b"\r", b"\r\n"),
    *(b"\xc2\x85", b"\xe2\x80\xa8", b"\x0c", b"\xf0\x9f\x98\x80", b"[" * 70, b'{"":' * 70, b"[" * 100_000),
)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The content after one to four mutations."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        content = rng.choice(_MUTATIONS)(content, rng)
    return content


def _flip(content: bytes, rng: random.Random) -> bytes:
    made = bytearray(content)
    if made:
        made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    return bytes(made)


def _truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _delete(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + content[at + rng.choice((1, 1, 4, 40, 400)) :]


def _insert(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(TOKENS) + content[at:]


def _copy(content: bytes, rng: random.Random) -> bytes:
    start, at = rng.randrange(len(content) + 1), rng.randrange(len(content) + 1)
    return content[:at] + content[start : start + rng.choice((1, 10, 100, 1000))] + content[at:]


def _token(content: bytes, rng: random.Random) -> bytes:
    """A number, word or string of the text becomes another token."""
    tokens = list(re.finditer(rb'"(?:[^"\\]|\\.)*"|[-+.\w]+', content))
    if not tokens:
        return content
    chosen = rng.choice(tokens)
    return content[: chosen.start()] + rng.choice((*TOKENS, rng.choice(tokens)[0])) + content[chosen.end() :]


def _twice(content: bytes, rng: random.Random) -> bytes:
    """A member occurs twice in its object."""
    members = list(re.finditer(rb'"\w*": *(?:"\w*"|\d+|\[\]|\{\})', content))
    if not members:
        return content
    chosen = rng.choice(members)
    return content[: chosen.end()] + b", " + chosen[0] + content[chosen.end() :]


def _encoded(content: bytes, rng: random.Random) -> bytes:
    text = content.decode("utf-8", "replace")
    return rng.choice(
        (
            b"\xef\xbb\xbf" + content,
            text.encode("utf-16"),
            text.encode("utf-32-le"),
            text.encode("utf-7"),
            text.encode("cp1252", "replace"),
            content.replace(b"\n", b"\r\n"),
            content.replace(b"\n", b"\r"),
            content.replace(b"\n", b"\xe2\x80\xa8"),
            content.replace(b" ", b"\t"),
            content + b"\n" * 50,
            content + content,
            content + b"\0",
        )
    )


_MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_flip, _flip, _truncate, _delete, _insert, _insert, _copy, _token, _token, _twice, _encoded),
)
