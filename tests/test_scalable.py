"""Families of networks: sizes follow the proportions, grown graphs have every copy and edge, equality is symmetric."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable
from itertools import product
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepstruct.graph import CachedLayeredGraph, LabeledDAG, LayeredGraph, uniform_proportions
from deepstruct.scalable import ScalableDAN, ScalableDeepFFN
from deepstruct.sparse import MaskedDeepDAN, MaskedDeepFFN

EDGES = [("a", "c"), ("b", "c"), ("c", "d"), ("a", "d")]


@st.composite
def shares(draw: st.DrawFn, length: int | None = None) -> list[float]:
    parts = draw(st.lists(st.integers(0, 20), min_size=length or 1, max_size=length or 6).filter(any))
    return [part / sum(parts) for part in parts]


@st.composite
def families(draw: st.DrawFn) -> ScalableDAN:
    structure = CachedLayeredGraph()
    structure.add_nodes_from(range(draw(st.integers(1, 6))))
    vertex = st.sampled_from(list(structure))
    for pair in draw(st.lists(st.tuples(vertex, vertex), max_size=12)):
        if pair[0] != pair[1]:
            structure.add_edge(max(pair), min(pair))
    return ScalableDAN(structure, dict(zip(structure, draw(shares(len(structure))), strict=True)))


def quietly(grow: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return grow()


def blow_up(family: ScalableDAN, sizes: dict[Any, int]) -> nx.DiGraph[Any]:
    """The grown graph in the words of networkx: (vertex, copy) for each copy."""
    graph: nx.DiGraph[Any] = nx.DiGraph()
    graph.add_nodes_from((vertex, number) for vertex, size in sizes.items() for number in range(size))
    for source, target in family.structure.edges:
        graph.add_edges_from(
            ((source, one), (target, other)) for one, other in product(range(sizes[source]), range(sizes[target]))
        )
    return graph


@given(shares(), st.integers(1, 5000), st.integers(1, 4))
def test_sizes_follow_the_proportions(proportions: list[float], scale: int, precision: int) -> None:
    family = ScalableDeepFFN(proportions)
    family.precision = precision
    sizes = family.draw(scale)
    assert family.precision == precision
    for size, share in zip(sizes, family.proportions, strict=True):
        assert size == max(1, math.floor(share * scale))
        assert type(size) is int


def test_feed_forward_networks() -> None:
    family = ScalableDeepFFN([0.2, 0.5, 0.3])
    assert family.draw(100) == [20, 50, 30]
    assert str(family) == "[20, 50, 30]"
    model = family.build((2, 3), 4, 10)
    assert isinstance(model, MaskedDeepFFN)
    assert model(torch.rand(5, 2, 3)).shape == (5, 4)
    assert [layer.in_features for layer in (model._layers_hidden[0], model._layers_hidden[2])] == [2, 5]
    assert ScalableDeepFFN([1 / 3, 2 / 3]).proportions.tolist() == [0.33, 0.67]


def test_building_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    ScalableDeepFFN([0.5, 0.5]).build(3, 2, 10)
    ScalableDAN(nx.DiGraph(EDGES)).build(3, 2, 10)
    assert capsys.readouterr() == ("", "")


def test_given_proportions_are_copied() -> None:
    proportions = np.array([0.5, 0.5])
    family = ScalableDeepFFN(proportions)
    proportions[0] = 7
    family.proportions[0] = 7
    assert family.draw(10) == [5, 5]


@given(shares(), shares())
def test_equality_is_symmetric(one: list[float], two: list[float]) -> None:
    first, second = ScalableDeepFFN(one), ScalableDeepFFN(two)
    assert first == ScalableDeepFFN([*one, 0])
    assert (first == second) == (second == first)
    assert first.entropy_similarity(first) == 0
    divergence = first.entropy_similarity(second)
    padded = [[*list_, *[0] * (6 - len(list_))] for list_ in (one, two)]
    if any(own > 0 == other for own, other in zip(*padded, strict=True)):
        assert divergence == math.inf
    else:
        p, q = map(torch.tensor, padded)
        used = p > 0
        expected = torch.nn.functional.kl_div(q[used].log(), p[used], reduction="sum")
        assert divergence == pytest.approx(expected.item(), abs=1e-5)


def test_families_near_each_other_are_equal() -> None:
    family, near, far = (ScalableDeepFFN(list_) for list_ in ([0.5, 0.5], [0.45, 0.55], [0.1, 0.9]))
    assert family == near
    assert family != far
    near.entropy_similarity_epsilon = 1e-6
    assert near.entropy_similarity_epsilon == 1e-6
    assert family != near
    assert family != [0.5, 0.5]
    assert ScalableDeepFFN([1.0]) != ScalableDeepFFN([0.95, 0.05])
    with pytest.raises(TypeError, match="unhashable"):
        hash(family)
    with pytest.raises(TypeError, match="not a list"):
        family.entropy_similarity([0.5, 0.5])  # type: ignore[arg-type]  # the fault is the test


@pytest.mark.parametrize(
    ("proportions", "message"),
    [
        ([], r"at least one share, not of shape \(0,\)"),
        ([[0.5], [0.5]], r"not of shape \(2, 1\)"),
        ([0.5, 0.4], "must add up to 1, not 0.9"),
        ([1.5, -0.5], "from 0 to 1, not -0.5"),
        ([1, math.nan], "from 0 to 1, not nan"),
        ([1, math.inf], "from 0 to 1, not inf"),
    ],
)
def test_impossible_proportions_are_refused(proportions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScalableDeepFFN(proportions)


@pytest.mark.parametrize("value", [0, -3, math.nan])
def test_impossible_sizes_are_refused(value: Any) -> None:
    ffn, dan = ScalableDeepFFN([1]), ScalableDAN(nx.DiGraph(EDGES))
    calls: list[Callable[[], object]] = [
        lambda: ffn.draw(value),
        lambda: ffn.build(3, 2, value),
        lambda: dan.grow(value),
        lambda: dan.build(3, 2, value),
        lambda: setattr(ffn, "precision", value),
        lambda: setattr(ffn, "entropy_similarity_epsilon", value),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=rf"must be (a )?positive.*, not {value}"):
            call()


@given(families(), st.integers(1, 30))
def test_a_grown_graph_has_every_copy_and_edge(family: ScalableDAN, scale: int) -> None:
    sizes = {vertex: round(share * scale) for vertex, share in family.proportions.items()}
    if not any(sizes.values()):
        with pytest.raises(ValueError, match=f"scale {scale} is too small: all {len(sizes)} vertices"):
            family.grow(scale)
        return
    vanished = [vertex for vertex, size in sizes.items() if size == 0]
    if vanished:
        with pytest.warns(UserWarning, match="round to 0 copies") as caught:
            grown = family.grow(scale)
        assert caught[0].filename == __file__
        assert all(repr(vertex) in str(caught[0].message) for vertex in vanished)
    else:
        grown = family.grow(scale)
    assert list(grown) == list(range(sum(sizes.values())))
    assert all(type(vertex) is int for vertex in grown)
    structure = family.structure
    order = [vertex for layer in structure.layers for vertex in structure.get_vertices(layer)]
    names = [(vertex, number) for vertex in order for number in range(sizes[vertex])]
    expected = blow_up(family, sizes)
    assert set(expected) == set(names)
    assert {(names[source], names[target]) for source, target in grown.edges} == set(expected.edges)
    again = quietly(lambda: family.grow(scale))
    assert again is not grown
    assert list(again.edges) == list(grown.edges)


@given(families(), st.lists(st.integers(0, 3), min_size=12, max_size=12), st.randoms(use_true_random=False))
def test_vertices_can_be_scaled_in_any_order(family: ScalableDAN, steps: list[int], order: random.Random) -> None:
    vertices = [vertex for vertex in family.structure for _ in range(2)]
    order.shuffle(vertices)
    sizes = dict.fromkeys(family.structure, 0)
    names: list[tuple[Any, int]] = []
    grown = CachedLayeredGraph()
    for vertex, size in zip(vertices, steps, strict=False):
        names += [(vertex, sizes[vertex] + number) for number in range(size)]
        sizes[vertex] += size
        grown = family.scale(vertex, size)
    assert list(grown) == list(range(len(names)))
    assert {(names[source], names[target]) for source, target in grown.edges} == set(blow_up(family, sizes).edges)


def test_scaling_goes_on_after_growing() -> None:
    family = ScalableDAN(nx.DiGraph(EDGES))
    grown = family.grow(8)
    assert [grown.get_layer_size(layer) for layer in grown.layers] == [4, 2, 2]
    assert family.scale("d", 3) is grown
    assert [grown.get_layer_size(layer) for layer in grown.layers] == [4, 2, 5]
    assert len(family.grow(8)) == 8
    family.reset()
    assert len(family.scale("d", 3)) == 3
    with pytest.raises(ValueError, match="the structure has no vertex 'e'"):
        family.scale("e", 3)
    with pytest.raises(ValueError, match="vertex 'd' cannot have -1 more copies"):
        family.scale("d", -1)


def test_networks_in_the_shape_of_a_graph() -> None:
    family = ScalableDAN(CachedLayeredGraph(EDGES), {"a": 0.2, "b": 0.3, "c": 0.1, "d": 0.4})
    model, graph = family.build((2, 3), 4, 10, return_graph=True)
    assert isinstance(model, MaskedDeepDAN)
    assert model.use_layer_norm
    assert model(torch.rand(5, 2, 3)).shape == (5, 4)
    assert [graph.get_layer_size(layer) for layer in graph.layers] == [5, 1, 4]
    assert set(model.generate_structure().edges) == set(graph.edges)
    plain = family.build(6, 4, 10, use_layer_norm=False)
    assert not plain.use_layer_norm
    other = ScalableDAN.model(6, 4, graph)
    other.load_state_dict(model.state_dict())
    x = torch.rand(5, 6)
    assert torch.equal(other(x), model(x.view(5, 2, 3)))
    assert len(family.scale("a", 1)) == 1


def test_given_layers_are_grown_in_their_order() -> None:
    structure = LabeledDAG()
    structure.add_vertices(2, layer=3)
    structure.add_vertex(layer=0)
    structure.add_edge(2, 0)
    grown = ScalableDAN(structure).grow(6)
    assert set(grown.edges) == {(0, 2), (0, 3), (1, 2), (1, 3)}


def test_structures_and_proportions_must_fit() -> None:
    structure = nx.DiGraph(EDGES)
    family = ScalableDAN(structure)
    assert isinstance(family.structure, LayeredGraph)
    assert family.proportions == dict.fromkeys(structure, 0.25)
    family.proportions = uniform_proportions(family.structure)
    wrong: list[tuple[Any, str]] = [
        ({"a": 1}, r"the 4 vertices .* missing: 'c', 'b', 'd'; no vertices: none"),
        ({**dict.fromkeys("abcd", 0.2), "x": 0.2}, "missing: none; no vertices: 'x'"),
        (dict.fromkeys("abcd", 0.3), "must add up to 1, not 1.2"),
        ({"a": -0.5, "b": 0.5, "c": 0.5, "d": 0.5}, "from 0 to 1, not -0.5"),
    ]
    for proportions, message in wrong:
        with pytest.raises(ValueError, match=message):
            family.proportions = proportions
    family.scale("a", 2)
    family.structure = CachedLayeredGraph([(0, 1)])
    assert len(family.scale(0, 1)) == 1
    with pytest.raises(ValueError, match="missing: 0, 1; no vertices: 'a'"):
        family.grow(10)
    with pytest.raises(ValueError, match=r"missing: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 5 more;"):
        ScalableDAN(nx.path_graph(15, nx.DiGraph), {})
    graphs: list[tuple[Any, str]] = [
        (nx.DiGraph(), "no vertices"),
        (nx.DiGraph([(0, 1), (1, 0)]), "cycle"),
        (nx.Graph([(0, 1)]), "undirected"),
    ]
    for graph, message in graphs:
        with pytest.raises(ValueError, match=message):
            ScalableDAN(graph)
