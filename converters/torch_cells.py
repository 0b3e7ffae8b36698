"""DeepCellDAN <-> Structure: each cell is a structure of its own, and the network joins them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import networkx as nx
import torch
from torch import Tensor, nn
from torch.export import Dim

from deepstruct.cell_dan import DeepCellDAN
from deepstruct.converters import torch_export, torch_tracing
from deepstruct.converters.torch_dan import vertex_keys
from deepstruct.converters.torch_graph import StructureModule
from deepstruct.converters.torch_parameters import Collector, refuse_changed_forward
from deepstruct.dan_structure import decoded_keys
from deepstruct.errors import FaultyError, UnsupportedError
from deepstruct.node_list import NodeList
from deepstruct.structure import Dimension, Node, Parameter, Structure, ValueInfo

Cell: TypeAlias = tuple[Structure, dict[str, Tensor]]

_EXTENT = 32  # of the images that trace cells when no example is given
_OPEN = {0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO}


def to_structure(module: DeepCellDAN, collector: Collector, example_inputs: Any) -> Structure:
    """The structure of a network: its cells as `torch.export` traces them, joined with padding where several meet.

    Args:
        module: the network.
        collector: gets its tensors.
        example_inputs: positional arguments for one call, or None for images of 32x32.

    Raises:
        UnsupportedError: a cell cannot be traced, or is no function of its own input alone.
    """
    for scope in ("", "_last_convolution", "_last_batch_norm", "_last_fc"):
        refuse_changed_forward(module.get_submodule(scope), scope)
    cells = _cells(module, example_inputs, collector)
    graph = NodeList()
    parameters: dict[str, Parameter] = {}
    outputs: dict[int, str] = {}
    for number in module._order:
        cell, tensors = cells[number]
        sources = [outputs[source] for source in module.predecessors[number]]
        taken = _join(graph, sources, f"join.{number}") if sources else "x"
        outputs[number] = _place(graph, cell, f"_nodes.{number}.", taken, parameters)
        collector.tensors.update((f"_nodes.{number}.{name}", tensor) for name, tensor in tensors.items())

    def names(scope: str, *members: str) -> list[str]:
        found = [collector.parameter(module.get_submodule(scope), member, scope) for member in members]
        parameters.update((parameter.name, parameter) for parameter in found if parameter is not None)
        return [parameter.name for parameter in found if parameter is not None]

    value = _join(graph, [outputs[sink] for sink in module._sinks], "sinks")
    value = graph.add("Conv", [value, *names("_last_convolution", "weight", "bias")], "features", "_last_convolution")
    statistics = names("_last_batch_norm", "weight", "bias", "running_mean", "running_var")
    names("_last_batch_norm", "num_batches_tracked")
    epsilon = {"epsilon": module._last_batch_norm.eps}
    value = graph.add("BatchNormalization", [value, *statistics], "normalised", "_last_batch_norm", epsilon)
    value = graph.add("Flatten", [graph.add("GlobalAveragePool", [value], "pooled")], "flat", "", {"axis": 1})
    graph.add("Gemm", [value, *names("_last_fc", "weight", "bias")], "y", "_last_fc", {"transB": 1})
    dtype = parameters["_last_fc.weight"].dtype
    attributes: dict[str, Any] = {"family": "cell-dan", "predecessors": module.predecessors}
    vertices = vertex_keys((module.vertices,), collector.losses)
    if vertices is not None:
        attributes["vertices"] = vertices[0]
    return Structure(
        nodes=tuple(graph.nodes),
        inputs=(ValueInfo("x", dtype, _input_shape(module, cells)),),
        outputs=(ValueInfo("y", dtype, ("batch", module._last_fc.out_features)),),
        parameters=tuple(parameters.values()),
        constants=graph.constants,
        attributes=attributes,
    )


def _input_shape(module: DeepCellDAN, cells: Sequence[Cell]) -> tuple[Dimension, ...]:
    """Height and width are open unless tracing a cell that takes the input has fixed them."""
    shape: list[Dimension] = ["batch", module._input_channel_size, "height", "width"]
    for number, sources in enumerate(module.predecessors):
        traced = cells[number][0].inputs[0].shape
        if not sources and traced is not None:
            shape = [dim if isinstance(dim, int) else known for dim, known in zip(traced, shape, strict=True)]
    return tuple(shape)


def _join(graph: NodeList, values: Sequence[str], name: str) -> str:
    """Values along their channels, padded with zeros at the right and the bottom to the largest."""
    if len(values) == 1:
        return values[0]
    shapes = [graph.add("Shape", [v], f"{name}.{i}.shape", "", {"start": 2}) for i, v in enumerate(values)]
    largest = graph.add("Max", shapes, f"{name}.largest")
    none = graph.integers(0, 0, 0, 0, 0, 0)
    padded = []
    for number, (value, shape) in enumerate(zip(values, shapes, strict=True)):
        lacking = graph.add("Sub", [largest, shape], f"{name}.{number}.lacking")
        pads = graph.add("Concat", [none, lacking], f"{name}.{number}.pads", "", {"axis": 0})
        padded.append(graph.add("Pad", [value, pads], f"{name}.{number}"))
    return graph.add("Concat", padded, name, "", {"axis": 1})


def _place(graph: NodeList, cell: Structure, prefix: str, taken: str, parameters: dict[str, Parameter]) -> str:
    """Puts a cell into a network under a prefix, and gives the name of its output back."""
    scope = prefix.removesuffix(".")
    own = {parameter.name for parameter in cell.parameters} | set(cell.constants)
    renamed = {cell.inputs[0].name: taken, "": ""}
    renamed |= {name: prefix + name for name in own}
    renamed |= {name: prefix + name for node in cell.nodes for name in node.outputs if name}
    for node in cell.nodes:
        graph.nodes.append(
            replace(
                node,
                name=prefix + node.name,
                inputs=tuple(renamed[name] for name in node.inputs),
                outputs=tuple(renamed[name] for name in node.outputs),
                scope=prefix + node.scope if node.scope else scope,
            )
        )
    parameters.update((prefix + p.name, replace(p, name=prefix + p.name)) for p in cell.parameters)
    graph.constants.update((prefix + name, constant) for name, constant in cell.constants.items())
    return renamed[cell.outputs[0].name]


def _cells(module: DeepCellDAN, example_inputs: Any, collector: Collector) -> list[Cell]:
    """The structure and tensors of each cell, in the order of the vertices."""
    cells = list(module._nodes)
    if all(isinstance(cell, StructureModule) for cell in cells):
        return [(cell.structure(), cell.tensors()) for cell in cells if isinstance(cell, StructureModule)]
    if len(set(cells)) < len(cells):
        raise UnsupportedError("two vertices have the same cell, which is not mapped; give each a cell of its own")
    taken = _inputs_of_cells(module, example_inputs)
    together, tensors = torch_export.from_module(
        _Apart(module._nodes), (taken,), ([_OPEN] * len(taken),), collector.losses
    )
    found = []
    for number, cell in enumerate(cells):
        prefix = f"_nodes.{number}."
        own = _ancestors(together, number, prefix)
        if own is None:  # tracing has made one computation of parts of two cells
            found.append(torch_export.from_module(cell, (taken[number],), (_OPEN,), collector.losses))
        else:
            found.append((own, {p.name: tensors[prefix + p.name] for p in own.parameters}))
    return found


class _Apart(nn.Module):
    """All cells of a network side by side, each with an input of its own."""

    def __init__(self, nodes: nn.ModuleList) -> None:
        super().__init__()
        self._nodes = nodes

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        return [cell(value) for cell, value in zip(self._nodes, inputs, strict=True)]


def _inputs_of_cells(module: DeepCellDAN, example_inputs: Any) -> list[Tensor]:
    """What each cell takes when the network is called, for two samples or more."""
    if example_inputs is None:
        example_inputs = module._last_fc.weight.new_zeros(2, module._input_channel_size, _EXTENT, _EXTENT)
    (images,) = example_inputs if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    if len(images) == 1:
        images = torch.cat([images, images])
    taken: dict[nn.Module, Tensor] = {}
    hooks = [cell.register_forward_pre_hook(lambda c, a: taken.update({c: a[0]})) for cell in module._nodes]
    try:
        with torch_tracing.evaluating(module), torch.no_grad():
            module(images)
    except Exception as error:  # whatever the cells raise
        why = torch_tracing.reason(error)
        raise UnsupportedError(f"the network cannot be called with {tuple(images.shape)}: {why}") from error
    finally:
        for hook in hooks:
            hook.remove()
    return [taken[cell].clone() for cell in module._nodes]  # torch takes one tensor for one input


def _ancestors(together: Structure, number: int, prefix: str) -> Structure | None:
    """What one output of a structure is computed with, or None if that is more than one input and own parameters."""
    output, source = together.outputs[number], together.inputs[number]
    needed = {output.name}
    nodes: list[Node] = []
    for node in reversed(together.nodes):
        if needed.intersection(node.outputs):
            nodes.append(node)
            needed.update(node.inputs)
    others = {value.name for value in together.inputs} - {source.name}
    if needed & others or any(p.name in needed and not p.name.startswith(prefix) for p in together.parameters):
        return None
    parameters = [p for p in together.parameters if p.name in needed or p.name.startswith(prefix)]
    constants = {name: value for name, value in together.constants.items() if name in needed}
    return _stripped(nodes[::-1], source, output, parameters, constants, together, prefix)


def _stripped(
    nodes: Sequence[Node],
    source: ValueInfo,
    output: ValueInfo,
    parameters: Sequence[Parameter],
    constants: Mapping[str, Any],
    whole: Structure,
    prefix: str,
) -> Structure:
    """A part of a structure as one of its own, in which names no longer begin with the prefix."""

    def strip(name: str) -> str:
        return name.removeprefix(prefix)

    return Structure(
        nodes=tuple(
            replace(
                node,
                name=strip(node.name),
                inputs=tuple(map(strip, node.inputs)),
                outputs=tuple(map(strip, node.outputs)),
                scope=strip(f"{node.scope}.").removesuffix("."),
            )
            for node in nodes
        ),
        inputs=(source,),
        outputs=(replace(output, name=strip(output.name), shape=None),),
        parameters=tuple(replace(parameter, name=strip(parameter.name)) for parameter in parameters),
        constants={strip(name): value for name, value in constants.items()},
        opset=whole.opset,
    )


def to_module(structure: Structure) -> DeepCellDAN | None:
    """The network whose family attributes a structure has, freshly initialised, or None if they make no sense."""
    graph = _graph(structure)
    classes = [p.shape for p in structure.parameters if p.name == "_last_fc.weight"]
    shape = structure.inputs[0].shape if len(structure.inputs) == 1 else None
    if graph is None or not classes or shape is None or len(shape) != 4 or type(shape[1]) is not int:
        return None
    cells: list[nn.Module] = []
    for number in range(len(graph)):
        cell = _part(structure, f"_nodes.{number}.", shape)
        if cell is None:
            return None
        cells.append(StructureModule(cell))
    made = iter(cells)
    return DeepCellDAN(classes[0][0], shape[1], lambda **_: next(made), graph)


def _graph(structure: Structure) -> nx.DiGraph[Any] | None:
    """The graph of the attributes ``predecessors`` and ``vertices``, in their orders."""
    predecessors = structure.attributes.get("predecessors")
    if not isinstance(predecessors, tuple) or not predecessors:
        return None
    count = len(predecessors)
    given = structure.attributes.get("vertices", tuple(range(count)))
    if not isinstance(given, tuple) or len(given) != count:
        return None
    try:
        (vertices,) = decoded_keys((given,), "/graph/attributes/vertices")
    except FaultyError:
        return None
    graph: nx.DiGraph[Any] = nx.DiGraph()
    graph.add_nodes_from(vertices)
    for target, sources in enumerate(predecessors):
        if not isinstance(sources, tuple) or not all(type(s) is int and 0 <= s < count for s in sources):
            return None
        graph.add_edges_from((vertices[source], vertices[target]) for source in sources)
    return graph if nx.is_directed_acyclic_graph(graph) else None


def _part(structure: Structure, prefix: str, shape: tuple[Dimension, ...]) -> Structure | None:
    """The cell whose names begin with a prefix, or None if it is no function of one value."""
    nodes = [node for node in structure.nodes if node.name.startswith(prefix)]
    inside = {name for node in nodes for name in node.outputs}
    used = {name for node in nodes for name in node.inputs if name}
    given = used - inside - {p.name for p in structure.parameters} - set(structure.constants)
    outside = {name for node in structure.nodes if not node.name.startswith(prefix) for name in node.inputs}
    results = inside & outside - {""}
    dtype = structure.inputs[0].dtype
    if not nodes:
        same = ValueInfo("x", dtype, None)
        return Structure(nodes=(), inputs=(same,), outputs=(same,), opset=structure.opset)
    if len(given) != 1 or len(results) != 1:
        return None
    (source,), (result,) = given, results
    parameters = [p for p in structure.parameters if p.name.startswith(prefix)]
    constants = {name: value for name, value in structure.constants.items() if name.startswith(prefix)}
    extents = shape if source == structure.inputs[0].name else (None, None, None, None)
    info = ValueInfo(source, dtype, extents)
    return _stripped(nodes, info, ValueInfo(result, dtype, None), parameters, constants, structure, prefix)
