"""Mutations of parsed documents: members and elements replaced, removed, repeated, exchanged and moved."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

Place = tuple[Any, Any]
"""A container and the key or index of one of its values."""

NAMES = (
    "",
    "x",
    "\0",
    "ü",
    "e\u0301",
    "\u202ethgir",
    "\x1b[2J",
    "::error::",
    "##[error]",
    "a" * 5000,
    "\ud800",
    "~1/0",
)
NUMBERS = (0, 1, -1, 2, 7, 2**31 - 1, 2**31, 2**53 - 1, 2**53, 2**63, 2**64, -(2**63), 10**400)
FLOATS = (0.0, -0.0, 0.5, 1.0, 2.0, 1e308, 5e-324, 3.5e38, float("nan"), float("inf"), float("-inf"))
SHAPES: tuple[Any, ...] = (
    [],
    [0],
    [0, 2**40],
    [2**16, 2**15],
    [2**24, 1],
    [1, 2**24],
    [2**48],
    [2**49],
    [1] * 64,
    [1] * 65,
    [-1],
    [2.0],
    ["n", None],
    [None],
    [True],
    None,
)
DTYPES = ("float32", "bool", "int4", "float4_e2m1fn", "complex128", "string", "float8_e8m0fnu", "float33")
TYPED: tuple[Any, ...] = (
    {"type": "int", "value": "-9223372036854775808"},
    {"type": "int", "value": "9" * 20},
    {"type": "float", "value": "NaN"},
    {"type": "float", "value": 1e39},
    {"type": "ints", "value": []},
    {"type": "ints", "value": [1, "2", "00"]},
    {"type": "floats", "value": [1, "-Infinity", 1e-50]},
    {"type": "bytes", "value": "/+8="},
    {"type": "bytes", "value": "/+9="},
    {"type": "tensor", "dtype": "float16", "shape": [2], "data": [65519.9, "NaN"]},
    {"type": "tensor", "dtype": "float16", "shape": [1], "data": [65520]},
    {"type": "tensor", "dtype": "int64", "shape": [0, 2**40], "data": []},
    {"type": "tensor", "dtype": "string", "shape": [2], "data": ["a", "\udfff"]},
    {"type": "tensor", "dtype": "float8_e8m0fnu", "shape": [], "data": [0]},
    {"type": "tensor", "dtype": "float4_e2m1fn", "shape": [1], "data": ["NaN"]},
    {"type": "parameter", "value": "w.up"},
    {"type": "sparse_parameter", "value": "w.up"},
    {"type": "graph", "inputs": [], "outputs": [], "nodes": []},
    {"type": "graph", "inputs": [{"name": "x"}], "outputs": [{"name": "x"}], "nodes": [{}]},
    {"type": "type", "dtype": "float32", "shape": [None, "n"], "containers": ["map:int64", "optional"]},
    {"type": "type"},
    {"type": "reference", "kind": "INT", "value": "axis"},
    {"type": "empty", "kind": "TENSORS"},
    {"type": "empty", "kind": "INT"},
    {"type": []},
    {"$int": "9" * 5000},
    {"$dict": [[1, 2], [True, 3]]},
)
MASKS: tuple[Any, ...] = (
    {"nnz": 0, "encoding": "coo", "indices": []},
    {"nnz": 0, "encoding": "bitmap", "data": ""},
    {"nnz": 1, "encoding": "delta-varint", "data": "AA=="},
    {"nnz": 1, "encoding": "delta-varint", "data": "gICAgICAgIB/"},
    {"nnz": 0, "encoding": "delta-varint", "compression": "deflate", "data": "eJwDAAAAAAE="},
    {"nnz": 2**53 - 1, "encoding": "full"},
    {"nnz": 1, "encoding": "coo", "indices": [[]]},
    {"nnz": 1, "encoding": ["full"]},
)
MEMBERS = (
    *("name", "op", "domain", "overload", "inputs", "outputs", "attributes", "scope", "dtype", "shape", "containers"),
    *("mask", "nnz", "encoding", "data", "indices", "compression", "block_shape", "sparsity_structure", "digest"),
    *("format", "version", "min_version", "generator", "extensions", "extensions_used", "extensions_required", "graph"),
    *("parameters", "weights", "opset", "constants", "functions", "nodes", "defaults", "type", "kind", "value", "uri"),
    *("layout", "family", "skips", "vertices", "$schema"),
)
TEXTS = (
    *("1.0.0", "1.1.0", "1.999999999.0", "2.0.0", "0.9.0", "1.0", "1.0.0-a", "01.0.0", "deepstruct", "ffn", "dan"),
    *("Gemm", "Relu", "If", "Loop", "Constant", "Custom", "ai.onnx", "ai.onnx.ml", "com.example", "VENDOR_feature"),
    *("full", "coo", "bitmap", "delta-varint", "deflate", "none", "dense", "values", "safetensors", "n:m"),
    *("../net.safetensors", "/etc/passwd", "net.structure.json", "link", ".", "a/../b", "a" * 300, "file:x", "sub/x"),
    *("sha256:" + "0" * 64, "INT", "TENSORS", "sequence", "map:string", "sparse_tensor", "AAAA", "AB==", "A", "eJw="),
)
OPSETS = (1, 7, 8, 13, 20, 22, 99, 2**31 - 1, 0)
STRUCTURES: tuple[Any, ...] = (
    {"type": "n:m", "n": 1, "m": 2, "axis": 0},
    {"type": "n:m", "n": 1, "m": 2**40, "axis": 1},
    {"type": "n:m", "n": 0, "m": 0, "axis": -1},
    {"type": "n:m", "n": 2, "m": 1, "axis": 2**40},
)


def mutated(value: Any, rng: random.Random) -> Any:
    """A copy of a JSON value after one to four mutations."""
    root = [copy.deepcopy(value)]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = list(walk(root))
        rng.choice(_MUTATIONS)(root, places, rng)
    return root[0]


def walk(value: Any) -> Iterator[Place]:
    """Every place within a container, in the order of the text."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield value, key
        if isinstance(item, (dict, list)):
            yield from walk(item)


def anything(key: Any, rng: random.Random) -> Any:
    """A value that may stand at a key: often of the kind that is expected there, with an odd content."""
    fitting: dict[str, tuple[Any, ...]] = {
        "shape": SHAPES,
        "block_shape": SHAPES,
        "dtype": DTYPES,
        "mask": MASKS,
        "sparsity_structure": STRUCTURES,
        "axis": NUMBERS,
        "nnz": NUMBERS,
        "": OPSETS,
    }
    if key in fitting and rng.random() < 0.7:
        return copy.deepcopy(rng.choice(fitting[key]))
    pool = rng.choice((NAMES, NUMBERS, FLOATS, SHAPES, TYPED, TEXTS, (None, True, False, [], {}, [[]], {"": {}})))
    return copy.deepcopy(rng.choice(pool))


def _replace(_root: list[Any], places: list[Place], rng: random.Random) -> None:
    container, key = rng.choice(places)
    container[key] = anything(key, rng)


def _remove(_root: list[Any], places: list[Place], rng: random.Random) -> None:
    container, key = rng.choice(places[1:] or places)
    del container[key]
    if not _root:
        _root.append(None)


def _add(_root: list[Any], places: list[Place], rng: random.Random) -> None:
    container, _ = rng.choice(places)
    name = rng.choice(rng.choice((MEMBERS, MEMBERS, NAMES)))
    if isinstance(container, dict):
        container[name] = anything(name, rng)
    elif container is not _root:
        container.insert(rng.randrange(len(container) + 1), anything(name, rng))


def _repeat(root: list[Any], places: list[Place], rng: random.Random) -> None:
    container, key = rng.choice(places)
    if isinstance(container, list) and container is not root:
        container[key:key] = [copy.deepcopy(container[key]) for _ in range(rng.choice((1, 1, 2, 70)))]
    elif isinstance(container, dict):
        container[f"{key}{rng.randrange(3)}"] = copy.deepcopy(container[key])


def _exchange(_root: list[Any], places: list[Place], rng: random.Random) -> None:
    """Exchanges two values of the same kind: names between nodes, shapes between parameters, graphs between nodes."""
    container, key = rng.choice(places)
    alike = [place for place in places if type(place[0][place[1]]) is type(container[key])]
    other, at = rng.choice(alike)
    container[key], other[at] = copy.deepcopy(other[at]), copy.deepcopy(container[key])


def _shuffle(_root: list[Any], places: list[Place], rng: random.Random) -> None:
    container, _ = rng.choice(places)
    if isinstance(container, list):
        rng.shuffle(container)
    else:
        items = list(container.items())
        rng.shuffle(items)
        container.clear()
        container.update(items)


def _rename(_root: list[Any], places: list[Place], rng: random.Random) -> None:
    """One key of an object becomes another, or that of another object."""
    members = [place for place in places if isinstance(place[0], dict)]
    if members:
        container, key = rng.choice(members)
        new = rng.choice((rng.choice(NAMES), rng.choice(MEMBERS), rng.choice(members)[1]))
        items = [(new if name == key else name, item) for name, item in container.items()]
        container.clear()
        container.update(items)


def _reference(_root: list[Any], places: list[Place], rng: random.Random) -> None:
    """Something refers to what another thing refers to: cycles, references to later nodes, two origins of a name."""
    texts = [place for place in places if isinstance(place[0][place[1]], str)]
    if texts:
        container, key = rng.choice(texts)
        other, at = rng.choice(texts)
        container[key] = other[at]


def _number(_root: list[Any], places: list[Place], rng: random.Random) -> None:
    numbers = [place for place in places if type(place[0][place[1]]) in (int, float)]
    if numbers:
        container, key = rng.choice(numbers)
        old = container[key]
        container[key] = rng.choice((old + 1, old - 1, -old, old * 2, _double(old), str(old), rng.choice(NUMBERS)))


def _nest(_root: list[Any], places: list[Place], rng: random.Random) -> None:
    container, key = rng.choice(places)
    value = container[key]
    for _ in range(rng.choice((1, 2, 30, 64))):
        value = [value] if rng.random() < 0.5 else {rng.choice(("", "a", "type")): value}
    container[key] = value


def _nest_graph(_root: list[Any], places: list[Place], rng: random.Random) -> None:
    """A node becomes the body of an If within itself, several times."""
    nodes = [place for place in places if isinstance(place[0][place[1]], dict) and "op" in place[0][place[1]]]
    if nodes:
        container, key = rng.choice(nodes)
        for level in range(rng.choice((1, 2, 13))):
            node = container[key]
            made = node.get("outputs")
            outputs = [{"name": name} for name in made if isinstance(name, str)] if isinstance(made, list) else []
            graph = {"type": "graph", "inputs": [], "outputs": outputs, "nodes": [node]}
            attributes = {"then_branch": graph, "else_branch": copy.deepcopy(graph) if level < 2 else graph}
            made = [f"{level}"] if rng.random() < 0.5 else made
            container[key] = {"name": "n", "op": "If", "inputs": ["x"], "outputs": made, "attributes": attributes}
            if level >= 2:
                attributes["else_branch"] = copy.deepcopy({**graph, "nodes": []})


_MUTATIONS: tuple[Callable[[list[Any], list[Place], random.Random], None], ...] = (
    *(_replace, _replace, _replace, _remove, _add, _add, _repeat, _exchange, _exchange, _shuffle, _rename),
    *(_reference, _reference, _number, _number, _nest, _nest_graph),
)


def _double(number: float) -> float | str:
    """The number as a double, or its digits where no double holds it."""
    try:
        return float(number)
    except OverflowError:
        return str(number)
