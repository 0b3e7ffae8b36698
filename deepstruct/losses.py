"""Loss: one thing that a target could not carry, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Loss:
    """One thing that a conversion could not carry.

    Attributes:
        what: stable kind, for example ``weights`` or ``scope``.
        where: name of the node, parameter or file part it concerns.
        why: one sentence with the reason and, where there is one, the way to keep it.
    """

    what: str
    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.what} of {self.where}: {self.why}"
