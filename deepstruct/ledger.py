"""What a file's tensors take, and would take in each of the format's encodings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One tensor.

    Attributes:
        name: of the parameter.
        dtype: of its entries.
        shape: extents.
        nnz: entries that exist, or that are not 0 if the file has no mask.
        encoding: in which the file has it.
        bytes: that it takes there.
        by_encoding: encoding -> bytes that it would take, None where it cannot be encoded so.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nnz: int
    encoding: str
    bytes: int
    by_encoding: Mapping[str, int | None]

    @property
    def best(self) -> str:
        """The encoding that takes least, the first of those that take the same."""
        possible = {name: size for name, size in self.by_encoding.items() if size is not None}
        return min(possible, key=lambda name: possible[name])
