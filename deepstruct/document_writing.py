"""Structure -> the plain JSON value of a document of the current version (`docs/format.md`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import rfc8785

from deepstruct import attributes, canonical, encoding, migrations
from deepstruct.frozen import FrozenMapping, thaw
from deepstruct.losses import Loss
from deepstruct.mask import Mask
from deepstruct.node import AttributeValue, Function, Graph, Node
from deepstruct.structure import Parameter, Structure
from deepstruct.value_info import ValueInfo
from deepstruct.version import __version__

FORMAT = "deepstruct"
SCHEMA_URN = "urn:deepstruct:schema:structure:1"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsReference:
    """What a document says about the weights file beside it.

    Attributes:
        uri: file name, relative to the folder of the document.
        layout: ``values`` (entries that exist only) or ``dense`` (whole tensors).
        digest: of the decoded weights, or None.
    """

    uri: str
    layout: str
    digest: str | None


def to_json(structure: Structure, weights: WeightsReference | None = None) -> dict[str, Any]:
    """The document of a structure in canonical order, masks in their smallest encoding, for `jsonprofile.layout`."""
    document: dict[str, Any] = {
        "$schema": SCHEMA_URN,
        "format": FORMAT,
        "generator": {"name": "deepstruct", "version": __version__},
        "extensions_used": [],
        "extensions_required": [],
        "digest": digest(structure),
        "graph": _graph(structure),
        "parameters": {p.name: _parameter(p, encoding.encode) for p in structure.parameters},
    }
    if weights is not None:
        document["weights"] = {
            "uri": weights.uri,
            "format": "safetensors",
            "layout": weights.layout,
            **({"digest": weights.digest} if weights.digest else {}),
        }
    document |= {"version": migrations.lowest(document), "min_version": f"{migrations.CURRENT.major}.0.0"}
    extra = {key: value for key, value in structure.extra.items() if key != "weights" or weights is not None}
    return canonical.ordered(_with_extra(document, extra), [p.name for p in structure.parameters])


def unplaced(structure: Structure) -> list[Loss]:
    """The loss of unknown members about weights where what is written has no object for them."""
    if "weights" not in structure.extra:
        return []
    names = ", ".join(sorted(structure.extra["weights"]))
    return [Loss("unknown members", "weights", f"there is no object about weights that could hold {names}")]


def digest(structure: Structure) -> str:
    """SHA-256 of the canonical JSON (RFC 8785) of graph and parameters, masks replaced by their digests.

    It does not depend on encodings, member order, the generator or the weights.
    """
    content = {
        "graph": _with_extra(_graph(structure), structure.extra.get("graph")),
        "parameters": {p.name: _parameter(p, _mask_digest) for p in structure.parameters},
    }
    head = b"deepstruct.structure.v1\0"
    return f"sha256:{hashlib.sha256(head + rfc8785.dumps(content)).hexdigest()}"


def _mask_digest(mask: Mask) -> dict[str, Any]:
    return {"digest": mask.digest()}


def _with_extra(document: dict[str, Any], extra: Any) -> dict[str, Any]:
    """`document` with preserved unknown members put back where they were."""
    for key, value in (extra or {}).items():
        if isinstance(value, FrozenMapping) and isinstance(document.get(key), dict):
            document[key] = _with_extra(document[key], value)
        else:
            document[key] = thaw(value)
    return document


def _graph(structure: Structure) -> dict[str, Any]:
    graph: dict[str, Any] = {
        "name": structure.name,
        "opset": dict(structure.opset),
        "attributes": thaw(structure.attributes),
        "inputs": [_value_info(value) for value in structure.inputs],
        "outputs": [_value_info(value) for value in structure.outputs],
    }
    if structure.constants:
        graph["constants"] = {name: attributes.tensor_to_json(value) for name, value in structure.constants.items()}
    if structure.functions:
        graph["functions"] = [_function(function) for function in structure.functions]
    graph["nodes"] = [_node(node, structure.opset) for node in structure.nodes]
    return graph


def _value_info(value: ValueInfo) -> dict[str, Any]:
    return _with_extra({"name": value.name, **attributes.type_to_json(value)}, value.extra)


def _node(node: Node, opset: Mapping[str, int]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": node.name,
        "op": node.op_type,
        "inputs": list(node.inputs),
        "outputs": list(node.outputs),
    }
    if node.domain:
        result["domain"] = node.domain
    if node.overload:
        result["overload"] = node.overload
    if node.attributes:
        kinds = attributes.kinds(node.domain, node.op_type, opset)
        result["attributes"] = _attributes(node.attributes, kinds, opset)
    if node.scope:
        result["scope"] = node.scope
    return _with_extra(result, node.extra)


def _attributes(values: Mapping[str, AttributeValue], kinds: Mapping[str, str], opset: Mapping[str, int]) -> Any:
    return {name: _attribute(value, kinds.get(name), opset) for name, value in values.items()}


def _attribute(value: AttributeValue, kind: str | None, opset: Mapping[str, int]) -> Any:
    if isinstance(value, Graph):
        return _subgraph(value, opset)
    if isinstance(value, tuple) and value and isinstance(value[0], Graph):
        return [_attribute(item, kind, opset) for item in value]
    return attributes.to_json(value, kind)


def _subgraph(graph: Graph, opset: Mapping[str, int]) -> dict[str, Any]:
    result = {
        "type": "graph",
        "name": graph.name,
        "inputs": [_value_info(value) for value in graph.inputs],
        "outputs": [_value_info(value) for value in graph.outputs],
        "nodes": [_node(node, opset) for node in graph.nodes],
    }
    return _with_extra(result, graph.extra)


def _function(function: Function) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": function.name,
        "domain": function.domain,
        "opset": dict(function.opset),
        "inputs": list(function.inputs),
        "outputs": list(function.outputs),
        "nodes": [_node(node, function.opset) for node in function.nodes],
    }
    if function.overload:
        result["overload"] = function.overload
    if function.attributes:
        result["attributes"] = list(function.attributes)
    if function.defaults:
        result["defaults"] = _attributes(function.defaults, {}, function.opset)
    return _with_extra(result, function.extra)


def _parameter(parameter: Parameter, encode: Any) -> dict[str, Any]:
    result: dict[str, Any] = {"dtype": parameter.dtype, "shape": list(parameter.shape)}
    mask = parameter.mask
    claim = parameter.sparsity_structure
    if mask is None and (claim is not None or "mask" in parameter.extra):  # what is said of a full mask
        mask = Mask.full(parameter.shape)
    if mask is not None:
        result["mask"] = encode(mask)
        if claim is not None:
            result["mask"]["sparsity_structure"] = claim.to_json()
    return _with_extra(result, parameter.extra)
