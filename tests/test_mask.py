"""Mask: canonical bits, immutability, equality, digest."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepstruct import Mask
from deepstruct.errors import StructureError
from deepstruct.testing import masks


@given(masks())
def test_bits_come_back(mask: Mask) -> None:
    array = mask.to_array()
    assert array.shape == mask.shape
    assert Mask.from_array(array) == mask
    assert Mask(mask.shape, mask.packed) == mask
    assert Mask.from_indices(mask.shape, mask.indices()) == mask
    assert mask.nnz == array.sum() == mask.indices().size
    assert mask.is_full == bool(array.all())
    assert hash(Mask.from_array(array)) == hash(mask)


def test_bits_are_row_major_and_least_significant_first() -> None:
    mask = Mask.from_array(np.array([[True, False, False], [False, True, True]]))
    assert mask.packed.tolist() == [0b110001]
    assert mask.indices().tolist() == [0, 4, 5]


def test_digest_is_that_of_shape_and_bits() -> None:
    mask = Mask.from_indices((2, 3), np.array([0, 4, 5]))
    expected = hashlib.sha256(b"deepstruct.mask.v1\0[2,3]\0" + bytes([0b110001])).hexdigest()
    assert mask.digest() == f"sha256:{expected}"


def test_shape_is_part_of_identity() -> None:
    bits = np.ones(6, np.bool_)
    assert Mask.from_array(bits.reshape(2, 3)) != Mask.from_array(bits.reshape(3, 2))
    assert Mask.from_array(bits.reshape(2, 3)).digest() != Mask.from_array(bits.reshape(3, 2)).digest()


def test_it_cannot_be_changed() -> None:
    array = np.zeros((2, 3), np.bool_)
    mask = Mask.from_array(array)
    array[0, 0] = True
    assert mask.nnz == 0
    with pytest.raises(ValueError, match="read-only"):
        mask.packed[0] = 1


def test_density_of_a_mask_without_entries_is_one() -> None:
    assert Mask.full((0, 3)).density == 1.0


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: Mask((2, 3), np.zeros(2, np.uint8)), "MASK_SIZE"),
        (lambda: Mask((2, 3), np.array([0b01000000], np.uint8)), "MASK_PADDING_NONZERO"),
        (lambda: Mask((2, -3), np.zeros(1, np.uint8)), "TYPE_MISMATCH"),
        (lambda: Mask((2**40, 2**40), np.zeros(1, np.uint8)), "LIMIT_EXCEEDED"),
        (lambda: Mask.from_array(np.zeros((2, 3))), "TYPE_MISMATCH"),  # type: ignore[arg-type]  # on purpose
        (lambda: Mask((2, 3), b"\0"), "TYPE_MISMATCH"),  # type: ignore[arg-type]  # on purpose
        (lambda: Mask.from_indices((2, 3), np.array([True, False])), "TYPE_MISMATCH"),
        (lambda: Mask.from_indices((2, 3), [0]), "TYPE_MISMATCH"),  # type: ignore[arg-type]  # on purpose
        (lambda: Mask.from_indices((2, 3), np.array([6])), "MASK_INDEX_OUT_OF_RANGE"),
        (lambda: Mask.from_indices((2, 3), np.array([-1])), "MASK_INDEX_OUT_OF_RANGE"),
        (lambda: Mask.from_indices((2, 3), np.array([1, 1])), "MASK_NOT_SORTED"),
    ],
)
def test_an_invalid_mask_cannot_be_made(make: object, code: str) -> None:
    with pytest.raises(StructureError) as caught:
        make()  # type: ignore[operator]  # a lambda
    assert [fault.code for fault in caught.value.faults] == [code]


@given(masks(), st.data())
def test_parts_are_those_of_the_whole(mask: Mask, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, mask.size))
    stop = data.draw(st.integers(start, mask.size))
    part = mask.flat()[start:stop]
    assert mask.bits(start, stop).tolist() == part.tolist()
    assert mask.packed_bits(start, stop).tobytes() == np.packbits(part, bitorder="little").tobytes()


def test_bits_that_are_handed_over_are_not_copied() -> None:
    bits = np.array([0b101], np.uint8)
    assert Mask((3,), bits).packed is not bits
    bits.flags.writeable = False
    assert Mask((3,), bits).packed is bits
    assert Mask((3,), bits[:]).packed is not bits
