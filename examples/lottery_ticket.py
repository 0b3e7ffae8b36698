"""Lottery ticket (Frankle and Carbin, arXiv:1803.03635): prune, rewind to the first weights, hand on the structure."""

import copy
import sys
from pathlib import Path

import digits
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import nn

import deepstruct
from deepstruct.pruning import magnitude_class_uniform
from deepstruct.sparse import MaskedDeepFFN, maskable_layers


def trained_accuracy(model: nn.Module, steps: int = 150) -> float:
    """Fits the training images; share of test images that come out right."""
    x_train, x_test, y_train, y_test = digits.data()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(x_train), y_train))
        optimiser.step()
    return digits.accuracy(model(x_test), y_test)


def rewind(model: MaskedDeepFFN, first: MaskedDeepFFN) -> None:
    """Sets all weights to those of the beginning and leaves the masks alone."""
    for parameter, value in zip(model.parameters(), first.parameters(), strict=True):
        parameter.data.copy_(value)


def main(folder: Path) -> None:
    """Writes ticket.structure.json, the structure alone, and ticket.pt with the first weights."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = MaskedDeepFFN(64, 10, [200, 100])
    first = copy.deepcopy(model)
    print(f"dense: test accuracy {trained_accuracy(model):.2%}")
    for _ in range(8):
        magnitude_class_uniform(model, 30)  # percent of the connections of each layer
        rewind(model, first)
        density = torch.cat([layer.mask.flatten() for layer in maskable_layers(model)]).float().mean()
        print(f"density {density:6.1%}: test accuracy {trained_accuracy(model):.2%}")
    rewind(model, first)
    model.apply_mask()
    deepstruct.save(model, folder / "ticket.pt")
    deepstruct.convert(folder / "ticket.pt", folder / "ticket.structure.json", weights=False)
    ticket = deepstruct.to_module(deepstruct.load(folder / "ticket.pt"))
    fresh = deepstruct.to_module(deepstruct.load(folder / "ticket.structure.json"))
    print(
        f"the ticket, trained again: {trained_accuracy(ticket):.2%}; its structure with other first weights: ", end=""
    )
    print(f"{trained_accuracy(fresh):.2%}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
