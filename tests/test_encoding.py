"""Mask encodings: every one comes back, the smallest is chosen, and no payload is believed."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepstruct import Mask, blocks, leb128
from deepstruct.encoding import ENCODINGS, decode, encode
from deepstruct.errors import DocumentError
from deepstruct.limits import Limits
from deepstruct.testing import masks, random_mask


@given(masks(), st.sampled_from([None, *ENCODINGS]))
def test_every_encoding_comes_back(mask: Mask, encoding: Any) -> None:
    if encoding == "full" and not mask.is_full:
        with pytest.raises(ValueError, match="full"):
            encode(mask, encoding)
        return
    encoded = json.loads(json.dumps(encode(mask, encoding)))
    assert encoding in (None, encoded["encoding"])
    assert decode(encoded, mask.shape) == mask


@given(masks())
def test_the_smallest_is_chosen(mask: Mask) -> None:
    chosen = len(json.dumps(encode(mask)))
    others = [len(json.dumps(encode(mask, name))) for name in ("coo", "bitmap", "delta-varint")]
    assert chosen <= min(others)


@given(st.lists(st.integers(0, 2**63 - 1)), st.integers(1, 7))
def test_leb128_comes_back_in_blocks(values: list[int], block: int) -> None:
    encoded = leb128.encode(np.array(values, dtype=np.int64))
    blocks = [encoded[start : start + block] for start in range(0, encoded.size, block)]
    assert [value for part in leb128.decode(blocks) for value in part.tolist()] == values


def test_leb128_bytes() -> None:
    assert leb128.encode(np.array([0, 127, 128, 300])).tolist() == [0, 127, 0x80, 1, 0xAC, 2]


@pytest.mark.parametrize(
    ("density", "encoding"), [(0.5, "bitmap"), (0.05, "delta-varint"), (0.0, "coo"), (1.0, "full")]
)
def test_choice_by_density(density: float, encoding: str) -> None:
    assert encode(random_mask((300, 200), density))["encoding"] == encoding


@pytest.mark.parametrize("slab", [1, 1000, 1 << 22])
@pytest.mark.parametrize("block", [(1, 200), (300, 1), (4, 8), (2, 5)])
def test_blocks_are_found_and_cheap(block: tuple[int, int], slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_SLAB", slab)
    grid = random_mask((300 // block[0], 200 // block[1]), 0.5).to_array()
    array = grid.repeat(block[0], axis=0).repeat(block[1], axis=1)
    mask = Mask.from_array(array)
    encoded = encode(mask)
    assert tuple(encoded["block_shape"]) == block == blocks.find(mask)
    assert len(base64.b64decode(encoded["data"])) <= (grid.size + 7) // 8 + 16
    assert decode(encoded, mask.shape) == mask


@pytest.mark.parametrize("slab", [1, 5, 17, 1 << 22])
@pytest.mark.parametrize(
    ("grid", "block"),
    [((3,), (4,)), ((5, 2), (1, 3)), ((2, 3, 4), (2, 1, 2)), ((2, 5, 1), (3, 2, 7)), ((0, 3), (2, 2))],
)
def test_blocks_become_entries(
    grid: tuple[int, ...], block: tuple[int, ...], slab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_SLAB", slab)
    mask = random_mask(grid, 0.4)
    entries = mask.to_array()
    for axis, extent in enumerate(block):
        entries = np.repeat(entries, extent, axis=axis)
    assert blocks.expand(mask, block) == Mask.from_array(entries)


@pytest.mark.parametrize("level", [0, 9])
def test_deflated_payloads_are_read_piece_by_piece(level: int) -> None:
    raw = random_mask((8, 300_007), 0.5).packed.tobytes()
    compressed = zlib.compress(raw, level)
    whole = {
        "nnz": Mask((8, 300_007), np.frombuffer(raw, np.uint8)).nnz,
        "encoding": "bitmap",
        "compression": "deflate",
    }
    assert decode({**whole, "data": base64.b64encode(compressed).decode()}, (8, 300_007)).packed.tobytes() == raw
    for wrong in (compressed[:-1], compressed[: len(compressed) // 2], compressed + b"\0", compressed + bytes(1 << 18)):
        with pytest.raises(DocumentError, match="deflate stream") as caught:
            decode({**whole, "data": base64.b64encode(wrong).decode()}, (8, 300_007))
        assert caught.value.faults[0].code == "MASK_DATA"


def test_large_masks_are_sampled_and_still_small() -> None:
    """Above the size where everything is tried, a 2:4 pattern must still find its repetitions."""
    rng = np.random.default_rng(0)
    array = (rng.random((2048, 512, 4)).argsort(axis=2) < 2).reshape(2048, 2048)
    payload = base64.b64decode(encode(Mask.from_array(array))["data"])
    assert len(payload) < 0.7 * array.size / 8


def encoded(**members: Any) -> dict[str, Any]:
    """A mask of shape (3, 4) with entries 1 and 7."""
    good = {"nnz": 2, "encoding": "bitmap", "data": base64.b64encode(bytes([0b10000010, 0])).decode()}
    if members.get("encoding") == "coo":
        del good["data"]
    return {key: value for key, value in {**good, **members}.items() if value is not None}


def packed(content: bytes) -> str:
    return base64.b64encode(content).decode()


BOMB = packed(zlib.compress(bytes(50_000_000), 9))

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no-encoding": (encoded(encoding=None), "MISSING_PROPERTY"),
    "new-encoding": (encoded(encoding="rice"), "UNKNOWN_ENCODING"),
    "new-compression": (encoded(compression="zstd"), "UNKNOWN_ENCODING"),
    "unhashable-encoding": (encoded(encoding=[]), "UNKNOWN_ENCODING"),
    "no-nnz": (encoded(nnz=None), "MISSING_PROPERTY"),
    "nnz-is-true": (encoded(nnz=True), "MASK_COUNT_MISMATCH"),
    "nnz-too-large": (encoded(nnz=13), "MASK_COUNT_MISMATCH"),
    "nnz-wrong": (encoded(nnz=3), "MASK_COUNT_MISMATCH"),
    "no-data": (encoded(data=None), "MISSING_PROPERTY"),
    "data-is-number": (encoded(data=7), "TYPE_MISMATCH"),
    "not-base64": (encoded(data="%%%"), "MASK_DATA"),
    "base64-not-ascii": (encoded(data="ÄÄ=="), "MASK_DATA"),
    "bitmap-short": (encoded(data=packed(b"\x82")), "MASK_SIZE"),
    "bitmap-long": (encoded(data=packed(b"\x82\0\0")), "MASK_SIZE"),
    "bitmap-padding": (encoded(data=packed(b"\x82\x10")), "MASK_PADDING_NONZERO"),
    "digest": (encoded(digest="sha256:" + "0" * 64), "DIGEST_MISMATCH"),
    "block-rank": (encoded(block_shape=[2]), "MASK_BLOCK_SHAPE"),
    "block-zero": (encoded(block_shape=[0, 1]), "MASK_BLOCK_SHAPE"),
    "block-no-divisor": (encoded(block_shape=[2, 2]), "MASK_BLOCK_SHAPE"),
    "block-no-multiple": (encoded(block_shape=[3, 1]), "MASK_COUNT_MISMATCH"),
    "not-deflate": (encoded(compression="deflate"), "MASK_DATA"),
    "deflate-truncated": (
        encoded(compression="deflate", data=packed(zlib.compress(b"\x82\0")[:-4])),
        "MASK_DATA",
    ),
    "deflate-then-more": (
        encoded(compression="deflate", data=packed(zlib.compress(b"\x82\0") + b"x")),
        "MASK_DATA",
    ),
    "bitmap-bomb": (encoded(compression="deflate", data=BOMB), "MASK_SIZE"),
    "varint-bomb": (encoded(encoding="delta-varint", compression="deflate", data=BOMB), "MASK_SIZE"),
    "varint-truncated": (encoded(encoding="delta-varint", data=packed(b"\x01\x85")), "MASK_DATA"),
    "varint-endless": (encoded(encoding="delta-varint", data=packed(b"\xff" * 10 + b"\0")), "MASK_DATA"),
    "varint-not-shortest": (encoded(encoding="delta-varint", data=packed(b"\x01\x85\x00")), "MASK_DATA"),
    "varint-too-long": (encoded(encoding="delta-varint", data=packed(bytes(100))), "MASK_SIZE"),
    "varint-behind-end": (encoded(encoding="delta-varint", data=packed(b"\x01\x0b")), "MASK_INDEX_OUT_OF_RANGE"),
    "varint-overflow": (
        encoded(encoding="delta-varint", data=packed(b"\xff" * 8 + b"\x7f" + b"\1")),
        "MASK_INDEX_OUT_OF_RANGE",
    ),
    "base64-unused-bits": (encoded(data="ggB="), "MASK_DATA"),
    "coo-with-data": (encoded(encoding="coo", indices=[], data=""), "UNEXPECTED_PROPERTY"),
    "coo-compressed": (encoded(encoding="coo", indices=[], compression="none"), "UNEXPECTED_PROPERTY"),
    "full-with-data": (encoded(encoding="full", nnz=12), "UNEXPECTED_PROPERTY"),
    "bitmap-with-indices": (encoded(indices=[]), "UNEXPECTED_PROPERTY"),
    "coo-no-indices": (encoded(encoding="coo"), "MISSING_PROPERTY"),
    "coo-not-lists": (encoded(encoding="coo", indices=[1, 7]), "TYPE_MISMATCH"),
    "coo-rank": (encoded(encoding="coo", indices=[[1], [7]]), "TYPE_MISMATCH"),
    "coo-float": (encoded(encoding="coo", indices=[[0, 1.0], [1, 3]]), "TYPE_MISMATCH"),
    "coo-negative": (encoded(encoding="coo", indices=[[0, -1], [1, 3]]), "MASK_INDEX_OUT_OF_RANGE"),
    "coo-outside": (encoded(encoding="coo", indices=[[0, 1], [1, 4]]), "MASK_INDEX_OUT_OF_RANGE"),
    "coo-unsorted": (encoded(encoding="coo", indices=[[1, 3], [0, 1]]), "MASK_NOT_SORTED"),
    "coo-twice": (encoded(encoding="coo", indices=[[0, 1], [0, 1]]), "MASK_NOT_SORTED"),
}


def test_the_good_one_is_good() -> None:
    assert decode(encoded(), (3, 4)).indices().tolist() == [1, 7]


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_mask_is_refused_in_bounded_memory(name: str) -> None:
    value, code = WRONG[name]
    tracemalloc.start()
    try:
        with pytest.raises(DocumentError) as caught:
            decode(value, (3, 4))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [fault.code for fault in caught.value.faults] == [code]
    assert peak < 20_000_000


@pytest.mark.parametrize("encoding", ["full", "bitmap", "delta-varint"])
def test_a_small_document_cannot_claim_a_large_mask(encoding: str) -> None:
    value = {"nnz": 0, "encoding": encoding, **({} if encoding == "full" else {"data": ""})}
    with pytest.raises(DocumentError) as caught:
        decode(value, (10**6, 10**6))
    assert "DEEPSTRUCT_MAX_MASK_ELEMENTS" in str(caught.value)


@pytest.mark.parametrize("nnz", [0, 1, 2])
def test_a_large_sparse_mask_costs_its_bits_only(nnz: int) -> None:
    shape = (20_000, 20_000)
    value = {"nnz": nnz, "encoding": "coo", "indices": [[0, 0], [19_999, 3]][:nnz]}
    tracemalloc.start()
    try:
        mask = decode(value, shape)
        encoded = encode(mask)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert decode(encoded, shape) == mask
    assert peak < 3 * mask.packed.size


def test_limits_can_be_raised() -> None:
    mask = random_mask((30, 20), 0.1)
    with pytest.raises(DocumentError, match="LIMIT_EXCEEDED"):
        decode(encode(mask), mask.shape, Limits(mask_elements=599))
    assert decode(encode(mask), mask.shape, Limits(mask_elements=600)) == mask
