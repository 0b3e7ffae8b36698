"""Files of graphs that are broken or made to harm: each is refused with its name and, where there is one, the line."""

from __future__ import annotations

import importlib
import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import scipy.sparse  # type: ignore[import-untyped]  # scipy has no types
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepstruct import formats
from deepstruct.errors import MalformedFileError
from deepstruct.limits import Limits

NAMES = ["graphml", "gexf", "gml", "node-link", "adjacency-list", "edge-list", "npz"]
ML = '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">'
GEXF = '<gexf xmlns="http://www.gexf.net/1.2draft"><graph defaultedgetype="directed">'
BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


def module(name: str) -> Any:
    return importlib.import_module(formats.by_name(name).converter)


def read(name: str, data: bytes | str, folder: Path, limits: Limits | None = None) -> Any:
    path = folder / "graph"
    path.write_bytes(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)
    return module(name).read_graph(path, limits or Limits(), [])


def good(name: str) -> bytes:
    graph: Any = nx.DiGraph(name="good")
    graph.add_edges_from([(0, 1), (0, 2), (1, 2)], weight=0.5)
    graph.add_nodes_from([0, 1, 2], layer="a b")
    file = io.BytesIO()
    module(name).write_graph(graph, file, [])
    return file.getvalue()


XML = [
    (f"{BOMB}{ML}<graph/></graphml>", "line 1: has a DOCTYPE, which can define entities"),
    (f"\n\n{OUTSIDE}{ML}<graph/></graphml>", "line 3: has a DOCTYPE"),
    ('<!DOCTYPE graphml SYSTEM "http://example.org/x.dtd"><graphml/>', "has a DOCTYPE"),
    ("<html><body/></html>", "line 1: the root element is <html>"),
    ("", "line 1: not XML: no element found; is the file truncated"),
    ("PK\x03\x04", "not XML: not well-formed"),
    ('<?xml version="1.0" encoding="klingon"?><graphml/>', "not XML: unknown encoding"),
    (f"{ML}&nbsp;</graphml>", "not XML: undefined entity"),
]
GRAPHML = [
    (f"{ML}</graphml>", "there is no <graph>"),
    (f'{ML}<graph edgedefault="directed"><node/></graph></graphml>', "line 1: a <node> has no id"),
    (f'{ML}<graph>\n<node id="a"/>\n<node id="a"/></graph></graphml>', "line 3: the vertex 'a' occurs twice"),
    (f'{ML}<graph><node id="a"/>\n<edge source="a" target="b"/></graph></graphml>', "line 2: an edge names .* 'b'"),
    (f'{ML}<graph><node id="a"/><edge source="a"/></graph></graphml>', "an <edge> has no target"),
    (f'{ML}<graph><node id="a"><data key="x">1</data></node></graph></graphml>', "no key x"),
    (f"{ML}<graph><hyperedge/></graph></graphml>", "hyperedges"),
    (f'{ML}<key id="k" for="node" attr.name="n" attr.type="odd"/><graph/></graphml>', "KeyError: 'odd'"),
    (
        f'{ML}<key id="k" for="node" attr.name="n" attr.type="int"/><graph><node id="a"><data key="k">x</data></node>'
        "</graph></graphml>",
        "ValueError: invalid literal",
    ),
    (
        f'{ML}<key id="k" for="node" attr.name="self" attr.type="int"/><graph><node id="a"><data key="k">1</data>'
        "</node></graph></graphml>",
        "TypeError",
    ),
    (
        f'{ML}<key id="k" for="node" attr.name="deepstructTyped" attr.type="string"/><graph><node id="a">'
        '<data key="k">{"key": {"$int": 1}}</data></node></graph></graphml>',
        "not what",
    ),
    (f"{ML}{'<a>' * 100}{'</a>' * 100}</graphml>", "nested deeper than the 64 allowed; set DEEPSTRUCT_MAX_DEPTH"),
    (f"{ML}{'<graph>' * 1_000_000}", "nested deeper"),
]
GEXFS = [
    ("<gexf/>", "there is no <graph>"),
    (f'{GEXF}<attributes class="odd"/></graph></gexf>', "GEXF that can be read: RuntimeError"),
    (f'{GEXF}<nodes><node id="a"/></nodes><edges><edge source="a" target="z"/></edges></graph></gexf>', "'z'"),
    (f'{GEXF}<nodes><node id="a"/><node id="a"/></nodes></graph></gexf>', "occurs twice"),
    (f'{GEXF}<nodes><node id="a"><attvalues><attvalue for="x"/></attvalues></node></nodes></graph></gexf>', "for=x"),
    (
        "<gexf><meta><description>deepstructTyped[1]</description></meta><graph><nodes/></graph></gexf>",
        "is not what deepstruct writes",
    ),
]
GMLS = [
    ("", "input contains no graph"),
    ("graph [ node [ id 0 ]", "expected"),
    ("graph [ node [ id 0 ] node [ id 0 ] ]", "node id 0 is duplicated"),
    ("graph [ node [ id 0 ] edge [ source 0 target 1 ] ]", "undefined target 1"),
    ("graph [ node [ id 0 ] edge [ source 0 target 0 ] edge [ source 0 target 0 ] ]", "is duplicated"),
    ("graph 5", "is no GML that can be read"),
    ("graph [ node [ id 0 self 1 ] ]", "TypeError"),
    ("graph [ node [ id [ a 1 ] ] ]", "TypeError"),
    (f"graph {'[ a ' * 5000}", "nested too deeply for GML"),
    (f"graph [ node [ id {'9' * 5000} ] ]", "ValueError"),
    ('graph [\n a "b\n\n" ]', "IndexError"),
    ("\x80\x81 graph", "line 1: not UTF-8|cannot tokenize"),
    (b"graph [\n\xff\xfe ]", "line 2: not UTF-8 text"),
]
NODE_LINKS: list[tuple[str | bytes, str]] = [
    ("", "not JSON: .*line 1 column"),
    ('{"nodes": [], "edges": [', "is the file truncated"),
    ("[]", "the file is no object"),
    ('{"nodes": []}', 'neither "edges" nor "links"'),
    ('{"nodes": 5, "edges": []}', "nodes is no array"),
    ('{"nodes": [5], "edges": []}', r"nodes\[0\] is no object"),
    ('{"nodes": [{"id": 1}, {"id": 1.0}], "edges": []}', r"nodes\[1\]: the vertex 1.0 occurs twice"),
    ('{"nodes": [{"id": null}], "edges": []}', "is no name of a vertex"),
    ('{"nodes": [{"id": {"a": 1}}], "edges": []}', "is no name of a vertex"),
    ('{"nodes": [{"id": 1}], "edges": [{"source": 1}]}', r"edges\[0\]: an edge has"),
    ('{"nodes": [{"id": 1}], "links": [{"source": 1, "target": 2}]}', r"links\[0\]: the vertex 2 does not exist"),
    ('{"nodes": [{"id": 1}], "edges": [{"source": 1, "target": 1}, {"source": 1, "target": 1}]}', "occurs twice"),
    (
        '{"multigraph": true, "nodes": [{"id": 1}], "edges": '
        '[{"source": 1, "target": 1, "key": 0}, {"source": 1, "target": 1, "key": 0}]}',
        "occurs twice with one key",
    ),
    ('{"directed": 1, "nodes": [], "edges": []}', "directed is neither true nor false"),
    ('{"graph": 5, "nodes": [], "edges": []}', "graph is no object"),
    ('{"nodes": [{"id": 1, "x": NaN}], "edges": []}', "NaN is not JSON"),
    ('{"nodes": [], "nodes": [], "edges": []}', "the key 'nodes' occurs twice"),
    ('{"nodes": [{"id": 1, "deepstructTyped": "{}]"}], "edges": []}', "is not what deepstruct writes"),
    ('{"nodes": [{"id": 1, "deepstructTyped": 5}], "edges": []}', "is not what deepstruct writes"),
    (f'{{"nodes": {"[" * 100}{"]" * 100}, "edges": []}}', "nesting"),
    ('{"nodes": [{"id": 1, "deepstructTyped": "' + "[" * 200_000 + '"}], "edges": []}', "nested too deeply"),
]
LISTS: list[tuple[str | bytes, str]] = [
    ("a b\nc d\na b", "line 3: the edge a -> b occurs twice"),
    (b"a b\n\xff c", "line 2: not UTF-8"),
    ("a b\n\0", "line 2: not text, but binary"),
]
EDGES: list[tuple[str | bytes, str]] = [
    ("a b\n\nalone # comment", "line 3: an edge has a source and a target, not 'alone' alone"),
    ("a b red", "line 1: 'red' is neither a number nor a dict"),
    ("a b nan", "is neither a number"),
    ("a b 1e999", "beyond the largest float64"),
    ("a b {'w': __import__('os')}", "does not go on as a flat dict"),
    ("a b {'w': [1]}", "does not go on as a flat dict"),
    ("a b {'w': 1", "does not go on as a flat dict"),
    ("a b {'w': nan}", "'nan' is no number"),
    ("a b {'w': 1, 'w': 2}", "occurs twice"),
    (f"a b {'{' * 100_000}", "does not go on"),
    (f"a b {'-' * 100_000}1", "neither a number"),
]
CASES = [
    *(("graphml", *case) for case in XML + GRAPHML),
    *(("gexf", case[0].replace("graphml", "gexf"), case[1]) for case in XML[:4]),
    *(("gexf", *case) for case in GEXFS),
    *(("gml", *case) for case in GMLS),
    *(("node-link", *case) for case in NODE_LINKS),
    *((name, *case) for case in LISTS for name in ("edge-list", "adjacency-list")),
    *(("edge-list", *case) for case in EDGES),
]


@pytest.mark.parametrize(("name", "data", "message"), CASES, ids=lambda part: str(part)[:30].encode("unicode_escape"))
def test_broken_files_are_refused(name: str, data: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(MalformedFileError, match=message) as caught:
        read(name, data, tmp_path)
    assert caught.value.path == str(tmp_path / "graph")
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("name", NAMES)
def test_truncated_files_are_refused_or_whole(name: str, tmp_path: Path) -> None:
    data = good(name)
    for length in range(0, len(data) - 2, 1 + len(data) // 150):
        if name in ("adjacency-list", "edge-list"):  # each beginning of a list is a list, but for half a number
            continue
        with pytest.raises(MalformedFileError):
            read(name, data[:length], tmp_path)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_damaged_files_are_refused_or_read(tmp_path: Path, name: str, draw: st.DataObject) -> None:
    data = bytearray(good(name))
    for _ in range(draw.draw(st.integers(1, 4))):
        start = draw.draw(st.integers(0, len(data)))
        piece = draw.draw(st.binary(max_size=4) | st.sampled_from([b"<", b"[", b"]", b'"', b"9" * 30, b"&#0;", b" "]))
        data[start : start + draw.draw(st.integers(0, 8))] = piece
    try:
        read(name, bytes(data), tmp_path)
    except MalformedFileError:
        return


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_junk_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    try:
        read(name, data, tmp_path)
    except MalformedFileError:
        return
    assert name in ("adjacency-list", "edge-list")


@pytest.mark.parametrize("name", NAMES)
def test_limits_hold(name: str, tmp_path: Path) -> None:
    data = good(name)
    limits = Limits(document_bytes=10) if name == "node-link" else Limits(graph_bytes=10)
    with pytest.raises(MalformedFileError, match=r"than the .* allowed; set DEEPSTRUCT_MAX_"):
        read(name, data, tmp_path, limits)
    with pytest.raises(MalformedFileError, match="more vertices, edges and values than the 4 allowed"):
        read(name, data, tmp_path, Limits(graph_values=4))


def archive(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def matrix(**changed: Any) -> bytes:
    ends = np.array([1, 0], np.int32), np.array([0, 1, 2], np.int32)
    found: dict[str, Any] = {
        "format": b"csr",
        "shape": (2, 2),
        "data": np.ones(2),
        "indices": ends[0],
        "indptr": ends[1],
    }
    return archive(**{name: value for name, value in (found | changed).items() if value is not None})


def header_bomb() -> bytes:
    """An archive whose array claims to be of 8 TB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as found:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
        header = header.ljust(117) + b"\n"
        found.writestr("data.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    return file.getvalue()


def objects() -> bytes:
    file = io.BytesIO()
    np.savez(file, data=np.array([object], dtype=object))
    return file.getvalue()


def zeros() -> bytes:
    file = io.BytesIO()
    scipy.sparse.save_npz(file, scipy.sparse.csr_array((10**4, 10**4)))
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (matrix(shape=(2, 3)), r"is square, and this has the shape \[2, 3\]"),
        (matrix(shape=(10**12, 10**12)), "more vertices, edges and values"),
        (matrix(shape=(-2, -2)), "ValueError"),
        (matrix(shape=None), "no shape.npy"),
        (matrix(format=None), "does not contain"),
        (matrix(format=b"lil"), "is the file damaged"),
        (matrix(format=b"os"), "ValueError"),
        (matrix(indices=np.array([1, 5], np.int32)), "ValueError"),
        (matrix(indices=np.array([1, -1], np.int32)), "ValueError"),
        (matrix(indptr=np.array([0, 9, 2], np.int32)), "ValueError"),
        (matrix(indptr=np.array([0, 2], np.int32)), "ValueError"),
        (matrix(data=np.array([1, np.nan])), "a weight is not finite"),
        (matrix(data=np.array([1, 1j])), "data.npy has the dtype complex128"),
        (matrix(data=np.ones((2, 2))), "ValueError"),
        (matrix(format=b"coo", row=np.array([0, 7]), col=np.array([0, 1])), "ValueError"),
        (matrix(format=b"dia", offsets=np.array([0, 1])), "ValueError"),
        (archive(a=np.ones(3, np.int64)), "no shape.npy"),
        (header_bomb(), r"data.npy claims the shape \[1000000000000\] and has other data"),
        (objects(), "has the dtype object"),
        (b"PK\x03\x04" + bytes(100), "is no sparse matrix that can be read"),
    ],
)
def test_hostile_matrices(data: bytes, message: str, tmp_path: Path) -> None:
    tracemalloc.start()
    with pytest.raises(MalformedFileError, match=message):
        read("npz", data, tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    tracemalloc.stop()


def test_archives_that_inflate_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    data = matrix(data=np.zeros(10**6))
    assert len(data) < 10**4
    with pytest.raises(MalformedFileError, match="inflates to more bytes than the 1000000 allowed"):
        read("npz", data, tmp_path, Limits(graph_bytes=10**6))
    with pytest.raises(MalformedFileError, match="more vertices"):
        read("npz", zeros(), tmp_path, Limits(graph_values=10**4))
