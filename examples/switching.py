"""A checkpoint of deepstruct 0.x: same names, same outputs; then it is pruned, saved, and becomes a graph again."""

import sys
from pathlib import Path

import digits
import networkx as nx
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom

import deepstruct
from deepstruct.pruning import prune_network_by_saliency
from deepstruct.sparse import CachedLayeredGraph, MaskedDeepDAN


def graph() -> CachedLayeredGraph:
    """Four groups of 40 vertices; random edges lead from each to all later ones."""
    directed = CachedLayeredGraph()
    edges = nx.gnp_random_graph(160, 0.2, seed=0).edges
    directed.add_edges_from((source, target) for source, target in edges if source // 40 < target // 40)
    return directed


def train(model: MaskedDeepDAN, steps: int) -> None:
    """Fits the training images."""
    x_train, _, y_train, _ = digits.data()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(x_train), y_train))
        optimiser.step()


def main(folder: Path) -> None:
    """Writes old.pt as the older library did, and everything that follows from it."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    first = MaskedDeepDAN(64, 10, graph())
    train(first, 150)
    state = {k: v.float() if "hidden" in k and k.endswith("_mask") else v for k, v in first.state_dict().items()}
    torch.save(state, folder / "old.pt")  # masks of hidden layers were floats in 0.x

    model = MaskedDeepDAN(64, 10, graph())
    model.load_state_dict(torch.load(folder / "old.pt"))
    _, x_test, _, y_test = digits.data()
    print("outputs as before:", torch.equal(model(x_test), first(x_test)))
    prune_network_by_saliency(model, 50)
    train(model, 100)
    model.apply_mask()
    deepstruct.save(model, folder / "dan.structure.json")
    back = deepstruct.to_module(deepstruct.load(folder / "dan.structure.json"))
    print(f"{type(back).__name__} after pruning: test accuracy {digits.accuracy(back(x_test), y_test):.2%}")
    found = model.generate_structure()
    print(f"as a graph: {found.number_of_edges()} of {graph().number_of_edges()} edges, {found.num_layers} layers")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
