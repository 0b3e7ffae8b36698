"""The one order in which members stand in a document that we write, whether it was made or rewritten.

It carries no meaning (`docs/format.md`, "Root"); it is what makes two texts of one document the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

ROOT = (
    *("$schema", "format", "version", "min_version", "generator", "extensions_used", "extensions_required"),
    *("digest", "graph", "parameters", "weights"),
)
GENERATOR = ("name", "version")
GRAPH = ("name", "opset", "attributes", "inputs", "outputs", "constants", "functions", "nodes")
VALUE = ("name", "dtype", "shape", "containers")
TENSOR = ("dtype", "shape", "data")
FUNCTION = ("name", "domain", "overload", "opset", "inputs", "outputs", "attributes", "defaults", "nodes")
NODE = ("name", "op", "domain", "overload", "inputs", "outputs", "attributes", "scope")
SUBGRAPH = ("type", "name", "inputs", "outputs", "nodes")
TYPED = ("type", "kind", "value", "dtype", "shape", "containers", "data")
PARAMETER = ("dtype", "shape", "mask")
MASK = ("nnz", "encoding", "block_shape", "compression", "indices", "data", "sparsity_structure", "digest")
SPARSITY_STRUCTURE = ("type", "n", "m", "axis")
WEIGHTS = ("uri", "format", "layout", "digest")


def ordered(document: Mapping[str, Any], parameters: Iterable[str]) -> dict[str, Any]:
    """A valid document with the members of every object in the one order; values are those of the argument.

    Members that this version knows stand in the order above, those of objects with free names (operator sets,
    constants, attributes of nodes) and unknown members sorted, unknown ones last. What users put into
    ``graph.attributes`` and into unknown members stays in the order it has.

    Args:
        document: is not changed.
        parameters: their names in the order of use; others follow, sorted.
    """
    result = _members(document, ROOT)
    if "generator" in result:
        result["generator"] = _members(result["generator"], GENERATOR)
    result["graph"] = _graph(result["graph"])
    if "parameters" in result:
        described = result["parameters"]
        names = [*(name for name in parameters if name in described), *sorted(described)]
        result["parameters"] = {name: _parameter(described[name]) for name in dict.fromkeys(names)}
    if "weights" in result:
        result["weights"] = _members(result["weights"], WEIGHTS)
    return result


def _members(value: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    unknown = sorted(name for name in value if name not in known)
    return {name: value[name] for name in (*known, *unknown) if name in value}


def _sorted(value: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(value.items()))


def _graph(graph: Mapping[str, Any]) -> dict[str, Any]:
    result = _members(graph, GRAPH)
    result["opset"] = _sorted(result["opset"])
    if "constants" in result:
        constants = _sorted(result["constants"])
        result["constants"] = {name: _members(constant, TENSOR) for name, constant in constants.items()}
    if "functions" in result:
        result["functions"] = [_function(function) for function in result["functions"]]
    return _with_values(result)


def _with_values(graph: dict[str, Any]) -> dict[str, Any]:
    """A graph, or one in an attribute, with its values and nodes in order."""
    for key in ("inputs", "outputs"):
        graph[key] = [_members(value, VALUE) for value in graph[key]]
    graph["nodes"] = [_node(node) for node in graph["nodes"]]
    return graph


def _function(function: Mapping[str, Any]) -> dict[str, Any]:
    result = _members(function, FUNCTION)
    result["opset"] = _sorted(result["opset"])
    if "defaults" in result:
        result["defaults"] = _attributes(result["defaults"])
    result["nodes"] = [_node(node) for node in result["nodes"]]
    return result


def _node(node: Mapping[str, Any]) -> dict[str, Any]:
    result = _members(node, NODE)
    if "attributes" in result:
        result["attributes"] = _attributes(result["attributes"])
    return result


def _attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _attribute(value) for name, value in sorted(attributes.items())}


def _attribute(value: Any) -> Any:
    if isinstance(value, list):
        return [_attribute(item) for item in value] if any(isinstance(item, dict) for item in value) else value
    if not isinstance(value, dict):
        return value
    if value.get("type") == "graph":
        return _with_values(_members(value, SUBGRAPH))
    return _members(value, TYPED)


def _parameter(parameter: Mapping[str, Any]) -> dict[str, Any]:
    result = _members(parameter, PARAMETER)
    if "mask" in result:
        mask = result["mask"] = _members(result["mask"], MASK)
        if "sparsity_structure" in mask:
            mask["sparsity_structure"] = _members(mask["sparsity_structure"], SPARSITY_STRUCTURE)
    return result
