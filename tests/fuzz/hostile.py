"""Hostile documents by quirk that are too large to keep as files: each was, or could be, a hang or too much memory."""

from __future__ import annotations

import base64
import json
import random
import zlib
from collections.abc import Callable
from typing import Any

from fuzz.documents import Files
from fuzz.seeds import DOCUMENT, WEIGHTS

MANY = 4_000
"""Far below the number of faults after which nothing is looked at any more."""

_X = {"name": "x", "dtype": "float32", "shape": ["b", 3]}
_CONDITION = {"name": "c", "dtype": "bool", "shape": []}
_DIGITS = "@digits@"

HOSTILE: dict[str, Callable[[], Files]] = {}
"""Quirk -> what makes the files of the folder."""


def _hostile(make: Callable[[], Any]) -> Callable[[], Any]:
    HOSTILE[make.__name__.strip("_").replace("_", "-")] = lambda: _files(make())
    return make


def _files(made: Any) -> Files:
    return {DOCUMENT: made if isinstance(made, bytes) else json.dumps(made).encode("ascii")}


def _document(
    *nodes: Any, inputs: Any = (_X,), outputs: Any = (), parameters: Any = None, graph: Any = None, **more: Any
) -> dict[str, Any]:
    members = {"opset": {"": 20, "z": 1}, "inputs": list(inputs), "outputs": list(outputs), "nodes": list(nodes)}
    described = {"graph": {**members, **(graph or {})}, "parameters": parameters or {}}
    return {"format": "deepstruct", "version": "1.0.0", **described, **more}


def _relu(source: str, target: str, name: str = "", **more: Any) -> dict[str, Any]:
    return {"name": name or f"n {target}", "op": "Relu", "inputs": [source], "outputs": [target], **more}


def _graph(output: str, *nodes: Any) -> dict[str, Any]:
    return {"type": "graph", "inputs": [], "outputs": [{"name": output}], "nodes": list(nodes)}


def _function(number: int, **more: Any) -> dict[str, Any]:
    members = {"name": f"f{number}", "domain": "d", "opset": {"": 20}, "inputs": [], "outputs": [], "nodes": []}
    return {**members, **more}


def _masked(shape: list[int], **mask: Any) -> dict[str, Any]:
    empty = {"nnz": 0, "encoding": "coo", "indices": []}
    return _document(parameters={"w": {"dtype": "float32", "shape": shape, "mask": mask or empty}})


def _blocks(shape: list[int], blocks: list[int]) -> dict[str, Any]:
    return _masked(shape, nnz=0, encoding="coo", indices=[], block_shape=blocks)


def _deflated(raw: bytes) -> dict[str, Any]:
    return {"compression": "deflate", "data": base64.b64encode(zlib.compress(raw, 9)).decode()}


def _digits(text: str) -> bytes:
    return json.dumps(_document(graph={"attributes": {"a": _DIGITS}})).replace(f'"{_DIGITS}"', text).encode("ascii")


@_hostile
def _many_extensions() -> Any:
    return _document(extensions_used=[f"A_a{number}" for number in range(40_000)])


@_hostile
def _many_names_of_a_function() -> Any:
    names = [f"i{number}" for number in range(40_000)]
    return _document(graph={"functions": [_function(0, inputs=names, attributes=names)]})


@_hostile
def _many_outputs_that_nothing_makes() -> Any:
    outputs = [{"name": f"wert{number}"} for number in range(MANY)]
    return _document(*(_relu("x", f"value{number}") for number in range(1_000)), outputs=outputs)


@_hostile
def _many_outputs_of_a_function_that_nothing_makes() -> Any:
    nodes = [_relu(f"i{number}", f"value{number}") for number in range(500)]
    names = [f"wert{number}" for number in range(MANY)]
    inputs = [f"i{number}" for number in range(500)]
    return _document(graph={"functions": [_function(0, inputs=inputs, outputs=names, nodes=nodes)]})


@_hostile
def _many_outputs_of_a_branch_that_nothing_makes() -> Any:
    graph = _graph("v0", *(_relu("x", f"value{number}") for number in range(500)))
    graph["outputs"] = [{"name": f"wert{number}"} for number in range(MANY)]
    node = {"name": "n", "op": "A", "domain": "z", "inputs": ["x"], "outputs": ["y"], "attributes": {"a": graph}}
    return _document(node)


@_hostile
def _many_attributes_that_refer_to_nothing() -> Any:
    tables = [{"type": "parameter", "value": f"wert{number}"} for number in range(MANY)]
    node = {"name": "n", "op": "A", "domain": "z", "inputs": ["x"], "outputs": ["y"], "attributes": {"a": tables}}
    parameters = {f"value{number}": {"dtype": "float32", "shape": [2]} for number in range(500)}
    return _document(node, parameters=parameters)


@_hostile
def _many_unknown_operators() -> Any:
    return _document(*(_relu("x", f"v{number}", op=f"Rellu{number}") for number in range(MANY)))


@_hostile
def _many_unknown_members() -> Any:
    return _document(*(_relu("x", f"v{number}", inputz=1, scobe=2) for number in range(MANY)))


@_hostile
def _many_unknown_attributes() -> Any:
    return _document(*(_relu("x", f"v{number}", attributes={f"alpa{number}": 1}) for number in range(MANY)))


@_hostile
def _many_unknown_members_of_one_object() -> Any:
    return {**_document(), **{f"k{number}": [] for number in range(40_000)}}


@_hostile
def _two_long_names_that_are_alike() -> Any:
    rng = random.Random(1)
    names = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz" * 40, k=100_000)) for _ in range(2)]
    return _document(_relu(names[0], names[1]))


@_hostile
def _long_name_with_many_unknown_members() -> Any:
    parameter = {"dtype": "float32", "shape": [2], **{f"m{number}": 1 for number in range(MANY)}}
    return _document(parameters={"p" * 500_000: parameter})


@_hostile
def _long_name_with_many_wrong_extents() -> Any:
    return _document(parameters={"p" * 500_000: {"dtype": "float32", "shape": [-1] * MANY}})


@_hostile
def _long_key_with_many_broken_strings() -> Any:
    return _document(graph={"attributes": {"k" * 500_000: ["\ud800"] * 2_000}})


@_hostile
def _long_key_with_many_values_beside_a_broken_string() -> Any:
    return _document(graph={"attributes": {"k" * 500_000: [0] * 50_000, "y": "\ud800"}})


@_hostile
def _long_names_of_one_value_many_times() -> Any:
    return _document(*({**_relu("x", "y" * 50_000), "name": f"n{number}"} for number in range(20)))


@_hostile
def _many_branches() -> Any:
    def node(at: int) -> Any:
        branches = {key: _graph(f"{key}{at}", _relu("x", f"{key}{at}")) for key in ("then_branch", "else_branch")}
        return {"name": f"n{at}", "op": "If", "inputs": ["c"], "outputs": [f"v{at}"], "attributes": branches}

    return _document(*map(node, range(2_500)), inputs=[_X, _CONDITION])


@_hostile
def _many_graphs_of_one_node_beside_many_parameters() -> Any:
    graph = {"type": "graph", "inputs": [], "outputs": [], "nodes": []}
    attributes = {"gs": [graph] * 6_000}
    node = {"name": "n", "op": "A", "domain": "z", "inputs": ["x"], "outputs": ["y"], "attributes": attributes}
    return _document(node, parameters={f"p{number}": {"dtype": "float32", "shape": [1]} for number in range(6_000)})


@_hostile
def _many_functions_beside_many_parameters() -> Any:
    parameters = {f"p{number}": {"dtype": "float32", "shape": [1]} for number in range(6_000)}
    return _document(parameters=parameters, graph={"functions": [_function(number) for number in range(6_000)]})


@_hostile
def _branches_within_branches() -> Any:
    graph = _graph("q14", _relu("x", "q14"))
    for level in range(13, -1, -1):
        attributes = {"then_branch": graph, "else_branch": _graph(f"e{level}", _relu("x", f"e{level}"))}
        name = f"q{level}"
        node = {"name": name, "op": "If", "inputs": ["c"], "outputs": [name], "attributes": attributes}
        graph = _graph(name, node, *(_relu("x", f"v{level} {number}") for number in range(200)))
    return _document(graph["nodes"][0], inputs=[_X, _CONDITION])


@_hostile
def _many_nodes_too_early() -> Any:
    return _document(*(_relu(f"v{number + 1}", f"v{number}") for number in range(MANY)))


@_hostile
def _long_cycle() -> Any:
    return _document(*(_relu(f"v{(number + 1) % MANY}", f"v{number}") for number in range(MANY)))


@_hostile
def _many_nodes_that_lead_nowhere() -> Any:
    return _document(*(_relu("x", f"v{number}") for number in range(MANY)))


@_hostile
def _many_coordinates() -> Any:
    indices = [[number] for number in range(100_000)]
    return _masked([1_000_000], nnz=100_000, encoding="coo", indices=indices)


@_hostile
def _flatten_beyond_every_integer() -> Any:
    node = {"name": "f", "op": "Flatten", "inputs": ["x"], "outputs": ["y"]}
    inputs = [{"name": "x", "dtype": "float32", "shape": ["b", *[2**53 - 1] * 60]}]
    wide = [{"name": "z", "dtype": "float32", "shape": [1, *[2**53 - 1] * 400]}]
    nodes = [node, {**node, "name": "g", "inputs": ["z"], "outputs": ["t"]}]
    return _document(*nodes, inputs=inputs + wide, outputs=[{"name": name, "shape": [1, 2]} for name in ("y", "t")])


@_hostile
def _sum_of_many_of_many_dimensions() -> Any:
    inputs = [{"name": "x", "dtype": "float32", "shape": [None] * 30_000}]
    return _document({"name": "s", "op": "Sum", "inputs": ["x"] * 30_000, "outputs": ["y"]}, inputs=inputs)


@_hostile
def _many_containers() -> Any:
    return _document(inputs=[{**_X, "containers": ["sequence"] * 100_000}, {**_X, "containers": ["?"] * MANY}])


@_hostile
def _integer_of_a_million_digits() -> Any:
    return _digits("1" * 1_000_000)


@_hostile
def _fraction_of_a_million_digits() -> Any:
    return _digits(f"[0.{'0' * 1_000_000}1e1000000, 1.{'1' * 500_000}]")


@_hostile
def _many_integers_of_a_thousand_digits() -> Any:
    return _digits("[" + ",".join(["1" * 1_000] * 1_000) + "]")


@_hostile
def _uri_of_many_folders() -> Any:
    return _document(weights={"uri": "/".join("a" * 5_000), "format": "safetensors", "layout": "values"})


@_hostile
def _uri_longer_than_a_path() -> Any:
    return _document(weights={"uri": "a" * 100_000, "format": "safetensors", "layout": "values"})


@_hostile
def _schema_faults_of_large_values() -> Any:
    return _document(graph={key: {"a": [0] * 50_000} for key in ("inputs", "outputs", "nodes")})


@_hostile
def _blocks_of_two_columns() -> Any:
    return _blocks([2**26, 2], [1, 2])


@_hostile
def _blocks_of_a_vector() -> Any:
    return _blocks([2**27], [2])


@_hostile
def _blocks_of_two_long_rows() -> Any:
    return _blocks([2, 2**26], [2, 1])


@_hostile
def _blocks_that_are_long_rows() -> Any:
    return _blocks([4, 2**26], [1, 2**25])


@_hostile
def _blocks_of_many_dimensions() -> Any:
    return _blocks([2] * 27 + [1] * 37, [2] * 26 + [1] * 38)


@_hostile
def _tall_mask_without_entries() -> Any:
    return _masked([2**27, 1])


@_hostile
def _wide_mask_without_entries() -> Any:
    return _masked([1, 2**27])


@_hostile
def _vector_without_entries() -> Any:
    return _masked([2**27])


@_hostile
def _kernel_without_entries() -> Any:
    return _masked([1, 1, 2**27])


@_hostile
def _tall_mask_of_bytes() -> Any:
    return _masked([2**24, 8])


@_hostile
def _mask_without_entries() -> Any:
    return _masked([2**13, 2**14])


@_hostile
def _full_mask() -> Any:
    return _masked([2**13, 2**14], nnz=2**27, encoding="full")


@_hostile
def _extents_beside_a_zero() -> Any:
    blocks = _blocks([2**40, 0], [2**39, 1])["parameters"]["w"]
    claim = {"type": "n:m", "n": 1, "m": 2, "axis": 0}
    claimed = _masked([2**40, 0], nnz=0, encoding="bitmap", data="", sparsity_structure=claim)["parameters"]["w"]
    return _document(parameters={"a": blocks, "b": claimed})


@_hostile
def _claim_along_a_long_vector() -> Any:
    claim = {"type": "n:m", "n": 1, "m": 2**26, "axis": 0}
    return _masked([2**27], nnz=0, encoding="coo", indices=[], sparsity_structure=claim)


@_hostile
def _claim_that_is_wrong_everywhere() -> Any:
    bits = b"\xff" * (2**21 // 8 - 1) + b"\x7f"
    claim = {"type": "n:m", "n": 1, "m": 2, "axis": 0}
    mask = {"nnz": 2**21 - 1, "encoding": "bitmap", **_deflated(bits), "sparsity_structure": claim}
    return _masked([2**21, *[1] * 63], **mask)


@_hostile
def _deflate_bomb() -> Any:
    return _masked([64], nnz=1, encoding="bitmap", **_deflated(bytes(50_000_000)))


@_hostile
def _deflate_stream_of_empty_blocks() -> Any:
    raw = zlib.compress(b"\1" * 8)
    data = base64.b64encode(raw[:2] + b"\0\0\0\xff\xff" * 100_000 + raw[2:]).decode()
    return _masked([64], nnz=8, encoding="bitmap", compression="deflate", data=data)


@_hostile
def _gaps_of_a_full_mask() -> Any:
    return _masked([2**24], nnz=2**24, encoding="delta-varint", **_deflated(bytes(2**24)))


@_hostile
def _gaps_that_are_long_zeros() -> Any:
    return _masked([2**24], nnz=2**24, encoding="delta-varint", **_deflated(b"\x80" * 2**24))


def _many_tensors_of_others() -> Files:
    entry = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    head = json.dumps({f"t{number}": entry for number in range(20_000)}).encode()
    weights = {"uri": WEIGHTS, "format": "safetensors", "layout": "values"}
    return {**_files(_document(weights=weights)), WEIGHTS: len(head).to_bytes(8, "little") + head}


HOSTILE["many-tensors-of-others"] = _many_tensors_of_others
