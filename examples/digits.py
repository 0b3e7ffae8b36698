"""Train a masked network on handwritten digits, prune it step by step to 10 % of its connections, save model.pt."""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import deepstruct
from deepstruct.sparse import MaskedDeepFFN, maskable_layers

DENSITIES = (1.0, 0.6, 0.4, 0.25, 0.15, 0.1)


def data() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Training images, test images, training labels, test labels: 8x8 pixels in [0, 1], 10 classes."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split((images / 16).astype(np.float32), labels, random_state=0, stratify=labels)
    x_train, x_test, y_train, y_test = (torch.from_numpy(part) for part in parts)
    return x_train, x_test, y_train, y_test


def accuracy(outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of rows whose largest output is the label."""
    return float((outputs.argmax(dim=1) == labels).float().mean())


def prune(model: MaskedDeepFFN, density: float) -> None:
    """Keeps the connections of largest magnitude in each layer."""
    for layer in maskable_layers(model):
        smallest = (layer.saliency * layer.mask).flatten().argsort()
        layer.mask = (smallest.argsort() >= round((1 - density) * len(smallest))).view_as(layer.weight)


def main(folder: Path) -> None:
    """Writes model.pt into a folder."""
    torch.manual_seed(0)
    x_train, x_test, y_train, y_test = data()
    model = MaskedDeepFFN(64, 10, [200, 100])
    for density in DENSITIES:
        prune(model, density)
        optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.01, total_steps=150)
        for _ in range(150):
            optimiser.zero_grad()
            torch.autograd.backward(F.cross_entropy(model(x_train), y_train, label_smoothing=0.1))
            optimiser.step()
            schedule.step()
        model.apply_mask()
        print(f"density {density:4.0%}: test accuracy {accuracy(model(x_test), y_test):.2%}")
    folder.mkdir(parents=True, exist_ok=True)
    deepstruct.save(model, folder / "model.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
