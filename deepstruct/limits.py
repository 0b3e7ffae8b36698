"""Limits on what a file may claim, so that a small hostile file cannot use up the memory."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields

from deepstruct.errors import UsageError

_PREFIX = "DEEPSTRUCT_MAX_"


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds for a document; each can be raised by the environment variable that errors name.

    Attributes:
        document_bytes: size of the JSON text, in bytes.
        depth: nesting of JSON arrays and objects.
        values: number of JSON values in the document.
        mask_elements: elements of one mask.
        total_mask_elements: elements of all masks of a document together (one bit of memory each).
        pickle_bytes: size of the pickle in a torch archive, which has the names and shapes but no numbers.
        graph_bytes: size of a file with a networkx graph, in bytes, and of what a compressed one inflates to.
        graph_values: vertices, edges and attribute values in such a file.
    """

    document_bytes: int = 512 * 2**20
    depth: int = 64
    values: int = 5_000_000
    mask_elements: int = 2**31
    total_mask_elements: int = 2**33
    pickle_bytes: int = 16 * 2**20
    graph_bytes: int = 512 * 2**20
    graph_values: int = 10_000_000

    @classmethod
    def from_environment(cls) -> Limits:
        """The defaults, overridden by ``DEEPSTRUCT_MAX_<NAME>`` variables.

        Raises:
            UsageError: a variable does not hold a positive integer.
        """
        chosen = {}
        for field in fields(cls):
            text = os.environ.get(variable(field.name))
            if text is None:
                continue
            if not re.fullmatch(r"[1-9][0-9]{0,17}", text):
                raise UsageError(f"{variable(field.name)}={text!r:.40} is not a positive integer")
            chosen[field.name] = int(text)
        return cls(**chosen)


def variable(name: str) -> str:
    """Name of the environment variable that overrides the limit `name`."""
    return _PREFIX + name.upper()
