"""Families of networks of one shape in any size: proportions of layers, or of the vertices of a graph."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from operator import index
from typing import Any, Literal, overload

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepstruct.graph import CachedLayeredGraph, LayeredGraph, Vertex, layered
from deepstruct.sparse import MaskedDeepDAN, MaskedDeepFFN

__all__ = ["ScalableDAN", "ScalableDeepFFN"]


class ScalableDeepFFN:
    """Feed-forward networks whose hidden layers have given shares of any number of units.

    Two families are equal if the Kullback-Leibler divergence of their proportions, as of `entropy_similarity`, is less
    than `entropy_similarity_epsilon` in both directions. That is no equivalence, so families cannot be hashed.
    """

    def __init__(self, proportions: ArrayLike) -> None:
        """A family of networks.

        Args:
            proportions: share of each hidden layer, (layers,), from 0 to 1, together 1 up to an error of 0.001.

        Raises:
            ValueError: there are no proportions, or they are something else.
        """
        shares = np.array(proportions, dtype=np.float64)
        if shares.ndim != 1 or not shares.size:
            raise ValueError(f"proportions must be a list of at least one share, not of shape {shares.shape}")
        _check_shares(shares.tolist(), 0.001)
        self._proportions = shares
        self._precision = 2
        self._epsilon = 0.1

    @property
    def entropy_similarity_epsilon(self) -> float:
        """Divergence from which on families differ."""
        return self._epsilon

    @entropy_similarity_epsilon.setter
    def entropy_similarity_epsilon(self, epsilon: float) -> None:
        if not epsilon > 0:
            raise ValueError(f"entropy_similarity_epsilon must be positive, not {epsilon}")
        self._epsilon = epsilon

    @property
    def precision(self) -> int:
        """Number of decimals to which `proportions` are rounded."""
        return self._precision

    @precision.setter
    def precision(self, precision: int) -> None:
        if not precision > 0:
            raise ValueError(f"precision must be positive, not {precision}")
        self._precision = index(precision)

    @property
    def proportions(self) -> NDArray[np.float64]:
        """Share of each hidden layer, (layers,), rounded to `precision` decimals."""
        rounded: NDArray[np.float64] = np.round(self._proportions, self._precision)
        return rounded

    def draw(self, scale: float) -> list[int]:
        """Sizes of the hidden layers for about `scale` units: `proportions` times scale, cut to integers, at least 1.

        Raises:
            ValueError: the scale is not positive.
        """
        _check_scale(scale)
        return [max(1, int(size)) for size in scale * self.proportions]

    def build(self, input_shape: int | Sequence[int], output_shape: int, scale: float) -> MaskedDeepFFN:
        """A network with hidden layers of the sizes of `draw`.

        Args:
            input_shape: number of input features; several extents are multiplied, as inputs are flattened.
            output_shape: number of output features.
            scale: number of hidden units.

        Raises:
            ValueError: the scale or another size is not positive.
        """
        return MaskedDeepFFN(input_shape, output_shape, self.draw(scale))

    def entropy_similarity(self, other: ScalableDeepFFN) -> float:
        """Kullback-Leibler divergence of another family's proportions from these, in nats.

        The shorter list counts as filled up with zeros. Layers without a share here contribute nothing; the
        divergence is infinite if one has a share here and none in the other family.
        """
        if not isinstance(other, ScalableDeepFFN):
            raise TypeError(f"a ScalableDeepFFN can only be compared with another one, not a {type(other).__name__}")
        length = max(self._proportions.size, other._proportions.size)
        own, others = (np.pad(shares, (0, length - shares.size)) for shares in (self._proportions, other._proportions))
        shared = own > 0
        if not others[shared].all():
            return math.inf
        return float(np.sum(own[shared] * np.log(own[shared] / others[shared])))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ScalableDeepFFN):
            return NotImplemented
        return (
            self.entropy_similarity(other) < self.entropy_similarity_epsilon
            and other.entropy_similarity(self) < other.entropy_similarity_epsilon
        )

    def __str__(self) -> str:
        return str(self.draw(10**self.precision))


class ScalableDAN:
    """Networks in the shape of a graph in which each vertex stands for a given share of any number of units.

    In a grown graph each vertex has as many copies as its proportion of the scale, rounded to an integer (halves to
    the even one), and an edge leads from every copy of its source to every copy of its target. Copies are numbered
    from 0 by the layers of their vertices, then by the order of vertices in the layer.
    """

    def __init__(
        self,
        structure: nx.DiGraph[Any],
        proportion_map: Mapping[Any, float] | None = None,
    ) -> None:
        """A family of networks.

        Args:
            structure: a directed acyclic graph with at least one vertex.
            proportion_map: share of each vertex, together 1; equal ones if None.

        Raises:
            ValueError: the graph has no vertices, is undirected, or has parallel edges or a cycle; or the proportions
                do not fit it.
        """
        self.structure = structure
        equal = 1 / len(self._structure)
        self.proportions = dict.fromkeys(self._structure, equal) if proportion_map is None else proportion_map

    @property
    def structure(self) -> LayeredGraph:
        """The graph that is grown; setting it forgets what has been grown."""
        return self._structure

    @structure.setter
    def structure(self, structure: nx.DiGraph[Any]) -> None:
        self._structure = layered(structure)
        self.reset()

    @property
    def proportions(self) -> dict[Any, float]:
        """Share of each vertex of the structure."""
        return self._proportions

    @proportions.setter
    def proportions(self, proportion_map: Mapping[Any, float]) -> None:
        self._check_vertices(proportion_map)
        _check_shares(proportion_map.values(), 1e-5)
        self._proportions = dict(proportion_map)

    def _check_vertices(self, proportions: Mapping[Any, float]) -> None:
        missing = [vertex for vertex in self._structure if vertex not in proportions]
        foreign = [vertex for vertex in proportions if vertex not in self._structure]
        if missing or foreign:
            raise ValueError(
                f"proportions must be given for the {len(self._structure)} vertices of the structure and no others; "
                f"missing: {_listing(missing)}; no vertices: {_listing(foreign)}"
            )

    def reset(self) -> None:
        """Forgets what `scale` and `grow` have grown."""
        self._grown: CachedLayeredGraph | None = None
        self._copies: dict[Vertex, list[int]] = {}

    def grow(self, scale: float) -> CachedLayeredGraph:
        """The graph with copies of all vertices, about `scale` in all, grown afresh.

        A vertex whose copies round to 0 vanishes with its edges, and its successors may so come to stand in an earlier
        layer. A UserWarning names such vertices.

        Raises:
            ValueError: the scale is not positive, or so small that all vertices vanish; or the structure has vertices
                without a proportion.
        """
        return self._grow(scale, stacklevel=3)

    def _grow(self, scale: float, stacklevel: int) -> CachedLayeredGraph:
        _check_scale(scale)
        self._check_vertices(self._proportions)
        layers = [self._structure.get_vertices(layer) for layer in self._structure.layers]
        sizes = {vertex: round(float(self._proportions[vertex] * scale)) for layer in layers for vertex in layer}
        vanished = [vertex for vertex, size in sizes.items() if size == 0]
        if len(vanished) == len(sizes):
            raise ValueError(f"scale {scale} is too small: all {len(sizes)} vertices round to 0 copies")
        if vanished:
            warnings.warn(
                f"at scale {scale} vertices round to 0 copies and vanish with their edges: {_listing(vanished)}",
                stacklevel=stacklevel,
            )
        self.reset()
        grown = CachedLayeredGraph()
        for vertex, size in sizes.items():
            grown = self.scale(vertex, size)
        return grown

    def scale(self, vertex: Vertex, size: int) -> CachedLayeredGraph:
        """Adds copies of a vertex to the graph grown so far, with edges from and to all copies of its neighbours.

        The vertices may be scaled in any order and repeatedly.

        Returns:
            The graph grown so far; it is the same object until `reset`, `grow` or `build`.

        Raises:
            ValueError: the structure has no such vertex, or the size is negative.
        """
        if vertex not in self._structure:
            raise ValueError(f"the structure has no vertex {vertex!r}")
        if index(size) < 0:
            raise ValueError(f"vertex {vertex!r} cannot have {size} more copies")
        if self._grown is None:
            self._grown = CachedLayeredGraph()
        graph, first = self._grown, len(self._grown)
        new = range(first, first + index(size))
        graph.add_nodes_from(new)
        self._copies.setdefault(vertex, []).extend(new)
        for source in self._structure.predecessors(vertex):
            graph.add_edges_from(product(self._copies.get(source, ()), new))
        for target in self._structure.successors(vertex):
            graph.add_edges_from(product(new, self._copies.get(target, ())))
        return graph

    @overload
    def build(
        self,
        input_shape: int | Sequence[int],
        output_shape: int,
        scale: float,
        use_layer_norm: bool = True,
        return_graph: Literal[False] = False,
    ) -> MaskedDeepDAN: ...

    @overload
    def build(
        self,
        input_shape: int | Sequence[int],
        output_shape: int,
        scale: float,
        use_layer_norm: bool = True,
        *,
        return_graph: Literal[True],
    ) -> tuple[MaskedDeepDAN, CachedLayeredGraph]: ...

    def build(
        self,
        input_shape: int | Sequence[int],
        output_shape: int,
        scale: float,
        use_layer_norm: bool = True,
        return_graph: bool = False,
    ) -> MaskedDeepDAN | tuple[MaskedDeepDAN, CachedLayeredGraph]:
        """A network in the shape of the grown graph, as `grow`, which is forgotten afterwards.

        Args:
            input_shape: number of input features; several extents are multiplied, as inputs are flattened.
            output_shape: number of output features.
            scale: number of units.
            use_layer_norm: normalise before the activation of every layer but the first.
            return_graph: give the grown graph, too.
        """
        graph = self._grow(scale, stacklevel=3)
        self.reset()
        module = self.model(input_shape, output_shape, graph, use_layer_norm)
        return (module, graph) if return_graph else module

    @staticmethod
    def model(
        input_shape: int | Sequence[int],
        output_shape: int,
        structure: nx.DiGraph[Any],
        use_layer_norm: bool = True,
    ) -> MaskedDeepDAN:
        """A network in the shape of a graph that has been grown before."""
        return MaskedDeepDAN(input_shape, output_shape, structure, use_layer_norm=use_layer_norm)


def _check_shares(shares: Iterable[float], tolerance: float) -> None:
    listed = list(shares)
    for share in listed:
        if not 0 <= share < math.inf:
            raise ValueError(f"a proportion must be a number from 0 to 1, not {share}")
    total = math.fsum(listed)
    if not abs(total - 1) <= tolerance:
        raise ValueError(f"the proportions must add up to 1, not {total}")


def _check_scale(scale: float) -> None:
    if not 0 < scale < math.inf:
        raise ValueError(f"scale must be a positive number, not {scale}")


def _listing(vertices: Sequence[Any]) -> str:
    """The first ones of several vertices in words."""
    if not vertices:
        return "none"
    return ", ".join(map(repr, vertices[:10])) + (f" and {len(vertices) - 10} more" if len(vertices) > 10 else "")
