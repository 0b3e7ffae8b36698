"""What corresponds in two graphs in normal form, by positions of nodes and names of values."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from deepstruct.verification.decompositions import Group
from deepstruct.verification.operations import GraphDifference, LeafPair

Pair = tuple[str, str]
Zeros = tuple[Container[str], Container[str]]
Place = tuple[int, int]
"""Positions of two nodes; -1 for outputs of the graphs."""

OUTPUTS: Place = (-1, -1)
"""The place of the graphs' outputs."""


@dataclass(frozen=True)
class Match:
    """Two operations that correspond.

    Attributes:
        a: positions of the nodes in the first graph, the one that gives the outputs last; several if they are one
            product, or only reshape one after the other.
        b: likewise, in the second.
        inputs: pairs of values, in the order of the first one's operator; ``("", "")`` for one that is left out.
        leaves: pairs that are not in their given orientation, and those of attributes.
        shapes: values in either graph that say which shape the result has.
        groups: both, if they are one operator that at least one graph writes down as several, or in another way.
    """

    a: tuple[int, ...]
    b: tuple[int, ...]
    inputs: tuple[Pair, ...]
    leaves: tuple[LeafPair, ...] = ()
    shapes: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    groups: tuple[Group, Group] | None = None


@dataclass
class Matching:
    """What was found about two graphs.

    Attributes:
        matches: operations that correspond, by the positions of their last nodes.
        leaves: pairs of leaves, in the order in which they were found.
        captured: pairs of values from outside of the graphs.
        differences: with the position in the first graph that they are at.
        reshaped: nodes that give their input other shapes by other means, which only steps of their own compare.
    """

    matches: dict[Place, Match] = field(default_factory=dict)
    leaves: dict[LeafPair, None] = field(default_factory=dict)
    captured: dict[Pair, None] = field(default_factory=dict)
    differences: list[tuple[int, GraphDifference]] = field(default_factory=list)
    reshaped: list[Place] = field(default_factory=list)
