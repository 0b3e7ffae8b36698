"""Names of the members that each object of a document has in this version; all others are unknown and preserved."""

from __future__ import annotations

ROOT = frozenset(
    {
        *("$schema", "format", "version", "min_version", "generator", "extensions_used", "extensions_required"),
        *("digest", "graph", "parameters", "weights"),
    }
)
GRAPH = frozenset({"name", "opset", "attributes", "inputs", "outputs", "constants", "functions", "nodes"})
SUBGRAPH = frozenset({"type", "name", "inputs", "outputs", "nodes"})
FUNCTION = frozenset(
    {"name", "domain", "overload", "opset", "inputs", "outputs", "attributes", "defaults", "nodes"},
)
VALUE = frozenset({"name", "dtype", "shape", "containers"})
NODE = frozenset({"name", "op", "domain", "overload", "inputs", "outputs", "attributes", "scope"})
PARAMETER = frozenset({"dtype", "shape", "mask"})
MASK = frozenset(
    {"nnz", "encoding", "compression", "block_shape", "data", "indices", "sparsity_structure", "digest"},
)
WEIGHTS = frozenset({"uri", "format", "layout", "digest"})

CARRIED = frozenset({"version", "min_version", "extensions_used"})
"""Known members of the root that a document of a newer minor keeps as they are."""
