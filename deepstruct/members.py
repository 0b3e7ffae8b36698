"""Names of the members that each object of a document has in this version; all others are unknown and preserved."""

from __future__ import annotations

from deepstruct import canonical

ROOT = frozenset(canonical.ROOT)
GRAPH = frozenset(canonical.GRAPH)
SUBGRAPH = frozenset(canonical.SUBGRAPH)
FUNCTION = frozenset(canonical.FUNCTION)
VALUE = frozenset(canonical.VALUE)
NODE = frozenset(canonical.NODE)
PARAMETER = frozenset(canonical.PARAMETER)
MASK = frozenset(canonical.MASK)
WEIGHTS = frozenset(canonical.WEIGHTS)

CARRIED = frozenset({"version", "min_version", "extensions_used"})
"""Known members of the root that a document of a newer minor keeps as they are."""
