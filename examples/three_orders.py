"""One pruned convolutional network as three graphs in one picture: its units, its channels and its layers."""

import sys
from collections import Counter
from math import isqrt
from pathlib import Path

import digits
import matplotlib.pyplot as plt
import networkx as nx
import torch
from pruned_convnet import Network, train
from torch import nn
from torch.nn.utils.prune import L1Unstructured, global_unstructured

import deepstruct

STYLES = (("units", 0.1, 0.4, 0.4, 6), ("channels", 0.1, 0.4, 0.8, 60), ("layers", -0.25, 2.0, 1.0, 0))
LABEL = "{op_type}\n{nnz} of {size}"


def main(path: Path) -> None:
    """Draws the graphs side by side: layers in rows, channels of a layer in a row, units of a channel in a square."""
    torch.manual_seed(0)
    (images, _, classes, _), model = digits.data(), Network()
    model.stem, model.norm = nn.Conv2d(1, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)
    model.block, model.head = nn.Conv2d(5, 5, 3, padding=1), nn.Linear(5 * 4, 10)
    train(model, nn.functional.avg_pool2d(images.view(-1, 1, 8, 8), 2), classes)
    layers = [(layer, "weight") for layer in (model.stem, model.block, model.head)]
    global_unstructured(layers, L1Unstructured, amount=0.8)
    found = deepstruct.from_module(model.eval(), torch.zeros(2, 1, 4, 4), losses=[])
    graphs = [deepstruct.to_networkx(found, n, include_input=True, include_output=True) for n in range(3)]  # type: ignore[arg-type]  # they are
    rows, operators = graphs[0].graph["layers"], {node.name: node.op_type for node in found.structure.nodes}
    figure, panels = plt.subplots(1, 3, sharex=True, sharey=True, figsize=(15, 7), layout="constrained")
    for order, (what, shift, width, alpha, dots) in enumerate(STYLES):
        graph, axes, where = graphs[order], panels[order], {}
        layer = {v: graph.graph["layers"][data["layer"]] if order < 2 else v for v, data in graph.nodes.items()}
        sizes = Counter(layer.values())
        for vertex, name in layer.items():
            channels = min(sizes[name], {"images": 1, "head": 10}.get(name, 5))
            side = isqrt(sizes[name] // channels)
            row, unit, middle = rows.index(name), graph.nodes[vertex].get("unit", 0), (side - 1) / 2
            x = (unit // side**2 + 0.5) / channels + shift * (row % 2) + 0.035 * (unit % side - middle)
            where[vertex] = (x, -row - 0.1 * (unit // side % side - middle))
        widths = [width + 4 * data.get("share", 0) for data in graph.edges.values()]
        colours = ["#0072B2" if data else "#D55E00" for data in graph.edges.values()]
        nx.draw_networkx_edges(graph, where, None, widths, colours, alpha=alpha, ax=axes, arrows=False)
        nx.draw_networkx_nodes(graph, where, ax=axes, node_size=dots, node_color="black")
        texts = {v: LABEL.format(**data).replace("\n0 of 0", "") for v, data in graph.nodes.data() if order == 2}
        nx.draw_networkx_labels(graph, where, texts, ax=axes, bbox={"boxstyle": "round,pad=0.5", "fc": "white"})
        axes.set(title=f"order {order}: {len(graph)} {what}, {graph.number_of_edges()} edges", frame_on=False)
    panels[0].tick_params(labelleft=True)
    panels[0].set_yticks([-row for row in range(len(rows))], [operators.get(name, name) for name in rows])
    figure.supxlabel("blue: weights, at order 1 as wide as the share that is kept; orange: sums and maxima")
    figure.savefig(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "three_orders.png"))
