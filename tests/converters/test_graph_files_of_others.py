"""Files of graphs as other programs write them: what is read of each, and what is said to be passed over."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from typed_graphs import content

import deepstruct
from deepstruct import formats
from deepstruct.errors import MalformedFileError
from deepstruct.limits import Limits
from deepstruct.losses import Loss
from deepstruct.testing import feed_forward, with_weights

GEPHI = """<?xml version='1.0' encoding='UTF-8'?>
<gexf xmlns="{namespace}" version="1.3" xmlns:viz="{namespace}/viz"
      xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="{namespace} {namespace}/gexf.xsd">
  <meta lastmodifieddate="2024-03-01"><creator>Gephi 0.10.1</creator><description>mine</description></meta>
  <graph defaultedgetype="directed" mode="static">
    <attributes class="node" mode="static">
      <attribute id="layer" title="layer" type="integer"/>
      <attribute id="role" title="role" type="string"><default>hidden</default></attribute>
      <attribute id="rank" title="rank" type="short"/>
      <attribute id="since" title="since" type="datetime"/>
    </attributes>
    <nodes>
      <node id="0" label="input">
        <attvalues>
          <attvalue for="layer" value="0"/><attvalue for="rank" value="7"/><attvalue for="since" value="2024"/>
        </attvalues>
        <viz:size value="10.0"/><viz:position x="-1.5" y="2.0"/><viz:color r="192" g="0" b="4"/>
      </node>
      <node id="1" label="1"><attvalues><attvalue for="role" value="output"/></attvalues></node>
    </nodes>
    <edges><edge id="5" source="0" target="1" weight="0.5"><attvalues></attvalues></edge></edges>
  </graph>
</gexf>
"""

YED = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns" xmlns:y="http://www.yworks.com/xml/graphml"
         xmlns:yed="http://www.yworks.com/xml/yed/3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <!--Created by yEd 3.22-->
  <key attr.name="Description" attr.type="string" for="graph" id="d0"/>
  <key for="port" id="d1" yfiles.type="portgraphics"/>
  <key attr.name="description" attr.type="string" for="node" id="d5"/>
  <key for="node" id="d6" yfiles.type="nodegraphics"/>
  <key for="graphml" id="d7" yfiles.type="resources"/>
  <key for="edge" id="d10" yfiles.type="edgegraphics"/>
  <graph edgedefault="directed" id="G">
    <data key="d0" xml:space="preserve"/>
    <node id="n0">
      <data key="d5"/>
      <data key="d6"><y:ShapeNode><y:Geometry height="30.0" width="30.0" x="5.0" y="6.0"/><y:Fill color="#FFCC00"/>
        <y:NodeLabel alignment="center">in</y:NodeLabel><y:Shape type="ellipse"/></y:ShapeNode></data>
      <port name="North"/>
    </node>
    <node id="n1" yfiles.foldertype="group"><data key="d5"/>
      <graph edgedefault="directed" id="n1:">
        <node id="n1::n0"><data key="d6"><y:ShapeNode><y:NodeLabel>out</y:NodeLabel></y:ShapeNode></data></node>
      </graph>
    </node>
    <edge id="e0" source="n0" target="n1::n0" sourceport="North">
      <data key="d10"><y:PolyLineEdge><y:EdgeLabel>skip</y:EdgeLabel></y:PolyLineEdge></data>
    </edge>
  </graph>
  <data key="d7"><y:Resources/></data>
</graphml>
"""

IGRAPH_GRAPHML = """<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<!-- Created by igraph -->
  <key id="v_name" for="node" attr.name="name" attr.type="string"/>
  <key id="e_weight" for="edge" attr.name="weight" attr.type="double"><default>1.5</default></key>
  <key id="e_on" for="edge" attr.name="on"/>
  <graph id="G" edgedefault="directed">
    <node id="n0"><data key="v_name">a</data></node>
    <node id="n1"><data key="v_name">b &amp; c</data></node>
    <node id="n2"></node>
    <edge source="n0" target="n1"><data key="e_weight">0.25</data></edge>
    <edge source="n1" target="n2"><data key="e_on">yes</data></edge>
  </graph>
</graphml>
"""

IGRAPH_GML = """Creator "igraph version 0.10.4 Fri Mar  1 12:00:00 2024"
Version 1
graph
[
  directed 1
  node
  [
    id 0
    name "a &quot;quoted&quot;"
  ]
  node
  [
    id 1
    name "b"
  ]
  edge
  [
    source 0
    target 1
    weight 0.25
  ]
]
"""

GEPHI_GML = 'graph [\r\n directed 1\r\n node [ id 0 label "Größe" graphics [ x 1.5 w 2 ] ]\r\n'
GEPHI_GML += ' node [ id 1 label "b" ]\r\n edge [ id 7 source 0 target 1 value 1.0 ]\r\n]\r\n'


def read(name: str, text: str, folder: Path) -> tuple[Any, list[Loss]]:
    path = folder / "graph"
    path.write_text(text, encoding="utf-8")
    losses: list[Loss] = []
    return importlib.import_module(formats.by_name(name).converter).read_graph(path, Limits(), losses), losses


@pytest.mark.parametrize(
    "namespace", ["http://gexf.net/1.3", "http://www.gexf.net/1.3", "http://www.gexf.net/1.2draft"]
)
def test_gephi(namespace: str, tmp_path: Path) -> None:
    text = GEPHI.format(namespace=namespace)
    assert [loss.what for loss in read("gexf", text, tmp_path)[1]] == ["description"]
    drawn = text.replace("<attvalues></attvalues></edge>", "<viz:thickness value='2'/></edge>").replace("mine", "")
    graph, losses = read("gexf", drawn, tmp_path)
    assert [loss.what for loss in losses] == ["drawing"]
    assert graph.graph == {}
    assert dict(graph.nodes) == {
        "0": {
            "label": "input",
            "layer": 0,
            "rank": 7,
            "since": "2024",
            "role": "hidden",
            "viz": {
                "size": 10.0,
                "position": {"x": -1.5, "y": 2.0, "z": 0.0},
                "color": {"r": 192, "g": 0, "b": 4, "a": 1.0},
            },
        },
        "1": {"role": "output"},
    }
    assert dict(graph.edges) == {("0", "1"): {"weight": 0.5, "id": "5"}}


def test_yed(tmp_path: Path) -> None:
    graph, losses = read("graphml", YED, tmp_path)
    assert [loss.what for loss in losses] == ["ports", "drawing"]
    assert list(graph) == ["n0", "n1", "n1::n0"]
    assert graph.nodes["n0"] == {"label": "in", "x": "5.0", "y": "6.0", "shape_type": "ellipse", "description": ""}
    assert dict(graph.edges) == {("n0", "n1::n0"): {"label": "skip", "id": "e0"}}


def test_igraph(tmp_path: Path) -> None:
    graph, losses = read("graphml", IGRAPH_GRAPHML, tmp_path)
    assert losses == []
    assert dict(graph.nodes) == {"n0": {"name": "a"}, "n1": {"name": "b & c"}, "n2": {}}
    assert dict(graph.edges) == {("n0", "n1"): {"weight": 0.25}, ("n1", "n2"): {"on": "yes", "weight": 1.5}}
    graph, losses = read("gml", IGRAPH_GML, tmp_path)
    assert dict(graph.nodes) == {0: {"name": 'a "quoted"'}, 1: {"name": "b"}}
    assert dict(graph.edges) == {(0, 1): {"weight": 0.25}}


def test_gml_with_labels_and_letters_beyond_ascii(tmp_path: Path) -> None:
    graph, _ = read("gml", GEPHI_GML, tmp_path)
    assert dict(graph.nodes) == {"Größe": {"graphics": {"x": 1.5, "w": 2}}, "b": {}}
    graph, _ = read("gml", GEPHI_GML.replace('"b"', '"Größe"'), tmp_path)
    assert dict(graph.nodes) == {0: {"label": "Größe", "graphics": {"x": 1.5, "w": 2}}, 1: {"label": "Größe"}}


def sample() -> Any:
    graph: Any = nx.DiGraph(name="n")
    graph.add_edges_from([(0, (1, "x"), {"weight": 1.0}), (0, "a"), ("a", (1, "x"))])
    return graph


@pytest.mark.parametrize("edges", ["links", "edges"])
def test_node_link_data_of_networkx(edges: str, tmp_path: Path) -> None:
    text = json.dumps(nx.node_link_data(sample(), edges=edges), sort_keys=edges == "links")
    graph, losses = read("node-link", text, tmp_path)
    assert losses == []
    assert content(graph) == content(sample())


def test_node_link_data_of_d3(tmp_path: Path) -> None:
    text = '{"nodes": [{"name": "a"}, {"name": "b"}], "links": [{"source": 0, "target": 1, "value": 2}], "zoom": 1}'
    graph, losses = read("node-link", text, tmp_path)
    assert [str(loss) for loss in losses] == [
        "members of file: 'zoom' belong neither to the graph, its vertices nor its edges"
    ]
    assert dict(graph.nodes) == {0: {"name": "a"}, 1: {"name": "b"}}
    assert dict(graph.edges) == {(0, 1): {"value": 2}}
    assert not graph.is_directed()
    old = '{"directed": true, "multigraph": true, "graph": [["name", "n"]], "nodes": [{"id": 1}, {"id": 2}], '
    old += '"links": [{"source": 1, "target": 2, "key": 0}, {"source": 1, "target": 2, "key": "k"}]}'
    graph, _ = read("node-link", old, tmp_path)
    assert (type(graph), graph.graph) == (nx.MultiDiGraph, {"name": "n"})
    assert list(graph.edges) == [(1, 2, 0), (1, 2, "k")]


def test_lists_of_networkx(tmp_path: Path) -> None:
    graph: Any = nx.DiGraph([(3, 1), (3, 2), (1, 2)])
    graph.add_node(5)
    nx.write_adjlist(graph, tmp_path / "adjacency")
    assert content(read("adjacency-list", (tmp_path / "adjacency").read_text(), tmp_path)[0]) == content(graph)
    graph.remove_node(5)
    nx.set_edge_attributes(graph, {(3, 1): 0.5}, "weight")
    nx.write_edgelist(graph, tmp_path / "edges")
    assert content(read("edge-list", (tmp_path / "edges").read_text(), tmp_path)[0]) == content(graph)


def test_files_are_recognised_by_content(tmp_path: Path) -> None:
    node_link = json.dumps(nx.node_link_data(nx.path_graph(3)))
    late = '{"graph": {"directed": [{"nodes": "\\"]"}]}, "links": [], "nodes": []}'
    document = tmp_path / "document.structure.json"
    deepstruct.save(with_weights(feed_forward()), document)
    contents = {
        "a.json": (node_link, "node-link"),
        "b.json": (late, "node-link"),
        "c.node-link.json": ("", "node-link"),
        "d.json": (document.read_text(), "json"),
        "e.json": ("{}", "json"),
        "f": (node_link, "node-link"),
        "g": (document.read_text(), "json"),
        "h": (YED, "graphml"),
        "i": (GEPHI.format(namespace="x"), "gexf"),
    }
    for name, (text, expected) in contents.items():
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        assert formats.of_source(path).name == expected, name
    assert formats.of_target(Path("a.json")).name == "json"
    assert formats.of_target(Path("a.node-link.json")).name == "node-link"


def test_nested_graphs_and_several_graphs_are_told(tmp_path: Path) -> None:
    text = IGRAPH_GRAPHML.replace("</graphml>", '<graph edgedefault="directed"><node id="z"/></graph></graphml>')
    graph, losses = read("graphml", text, tmp_path)
    assert ([loss.what for loss in losses], "z" in graph) == (["graphs"], False)
    nested = IGRAPH_GRAPHML.replace('<node id="n2">', '<node id="n2"><graph edgedefault="directed"/>')
    with pytest.raises(MalformedFileError, match="contain graphs of their own"):
        read("graphml", nested, tmp_path)
