"""DeepCellDAN: convolutional networks whose cells stand at the vertices of any directed acyclic graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import networkx as nx
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from deepstruct.graph import Vertex, layers_of
from deepstruct.masked import MaskableModule, checked_sizes

__all__ = ["DeepCellDAN"]

_CHANNELS = 100  # of the last convolution


class DeepCellDAN(MaskableModule):
    """Cells on a graph: each takes what its predecessors give, and the sinks are classified.

    A cell without predecessors takes the input. Any other takes the outputs of its predecessors, in the order of the
    graph's edges, along the channels; smaller ones are padded with zeros at the right and the bottom to the largest
    height and width. The outputs of the cells without successors, joined in the same way, go through a 1x1
    convolution to 100 channels, batch norm, the mean over all positions and a linear layer.
    """

    def __init__(
        self,
        num_classes: int,
        input_channel_size: int,
        cell_constructor: Callable[..., nn.Module],
        structure: nx.DiGraph,  # type: ignore[type-arg]  # networkx is not generic at run time
    ) -> None:
        """A network with a new cell for each vertex.

        Args:
            num_classes: number of output features.
            input_channel_size: channels of the input, (batch, channels, height, width).
            cell_constructor: makes a cell of the keywords is_input, is_output, in_degree, out_degree, layer and
                input_channel_size. A cell maps (batch, channels, height, width) to (batch, 1, height, width);
                its input has as many channels as it has predecessors, or `input_channel_size` without any.
            structure: a directed acyclic graph with at least one vertex. It is not kept, only its vertices and
                edges are.

        Raises:
            TypeError: the structure is no networkx graph, a size no integer, or the constructor made no module.
            ValueError: the graph is undirected, has parallel edges, a cycle or no vertex, or a size is not positive.
        """
        super().__init__()
        _, self._input_channel_size, num_classes = checked_sizes(1, input_channel_size, num_classes)
        layers = layers_of(structure)
        graph = structure if structure.is_directed() else nx.DiGraph(structure)  # no edges, so no directions
        layer_of = {vertex: number for number, layer in enumerate(layers) for vertex in layer}
        self._arrange(graph, layers)
        self._nodes = nn.ModuleList()
        for vertex in self.vertices:
            cell = cell_constructor(
                is_input=graph.in_degree(vertex) == 0,
                is_output=graph.out_degree(vertex) == 0,
                in_degree=graph.in_degree(vertex),
                out_degree=graph.out_degree(vertex),
                layer=layer_of[vertex],
                input_channel_size=self._input_channel_size,
            )
            if not isinstance(cell, nn.Module):
                raise TypeError(f"the cell of vertex {vertex!r} is a {type(cell).__name__}, not a torch module")
            self._nodes.append(cell)
        self._last_convolution = nn.Conv2d(len(self._sinks), _CHANNELS, (1, 1))
        self._last_batch_norm = nn.BatchNorm2d(_CHANNELS)
        self._last_fc = nn.Linear(_CHANNELS, num_classes)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Also takes what deepstruct 0.10 pickled."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # torch has no type for it
        if "_structure" in self.__dict__:
            graph = self.__dict__.pop("_structure")
            for name in ("_num_classes", "_input_nodes", "_output_nodes", "_node_cells", "_output_channel_size"):
                del self.__dict__[name]
            self._arrange(graph, layers_of(graph))

    def _arrange(self, graph: nx.DiGraph, layers: list[list[Any]]) -> None:  # type: ignore[type-arg]  # as above
        """Remembers the order of cells and what each takes."""
        position = {vertex: number for number, vertex in enumerate(graph)}
        self.vertices: tuple[Vertex, ...] = tuple(position)
        self.predecessors = tuple(tuple(position[source] for source in graph.predecessors(v)) for v in position)
        self._order = [position[vertex] for layer in layers for vertex in layer]
        self._sinks = [position[vertex] for vertex in position if graph.out_degree(vertex) == 0]

    def forward(self, input: Tensor) -> Tensor:
        """Maps (batch, channels, height, width) to (batch, num_classes).

        Raises:
            ValueError: a cell gives something else than a tensor of rank 4, or the sinks give too many channels.
        """
        outputs: dict[int, Tensor] = {}
        for number in self._order:
            sources = self.predecessors[number]
            taken = _join([outputs[source] for source in sources]) if sources else input
            outputs[number] = self._checked(self._nodes[number](taken), number)
        joined = _join([outputs[sink] for sink in self._sinks])
        if joined.shape[1] != len(self._sinks):
            raise ValueError(f"{len(self._sinks)} sinks give {joined.shape[1]} channels; each cell must give one")
        normalised = self._last_batch_norm(self._last_convolution(joined))
        result: Tensor = self._last_fc(F.adaptive_avg_pool2d(normalised, (1, 1)).flatten(start_dim=1))
        return result

    def _checked(self, output: object, number: int) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 4:
            kind = f"a tensor of rank {output.ndim}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
            raise ValueError(
                f"the cell of vertex {self.vertices[number]!r} gives {kind}, not (batch, channels, height, width)"
            )
        return output


def _join(outputs: Sequence[Tensor]) -> Tensor:
    """Tensors of rank 4 along their channels, padded with zeros at the right and the bottom to the largest."""
    height, width = (max(output.shape[axis] for output in outputs) for axis in (2, 3))
    return torch.cat([F.pad(o, (0, width - o.shape[3], 0, height - o.shape[2])) for o in outputs], dim=1)
