"""A residual convolutional network, pruned with torch's own tools, becomes a small ONNX model."""

import sys
from pathlib import Path

import digits
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from onnxruntime import InferenceSession
from torch import Tensor, nn
from torch.nn.utils import prune

import deepstruct


class Network(nn.Module):
    """Two convolutions and a residual addition."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.block, self.head = nn.Conv2d(24, 24, 3, padding=1), nn.Linear(24 * 16, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (batch, 1, 8, 8) to (batch, 10)."""
        hidden = F.relu(self.norm(self.stem(images)))
        result: Tensor = self.head(F.max_pool2d(hidden + F.relu(self.block(hidden)), 2).flatten(1))
        return result


def train(model: Network, x: Tensor, y: Tensor) -> None:
    """Ten epochs."""
    optimiser = torch.optim.Adam(model.train().parameters(), lr=0.003)
    for batch in torch.split(torch.cat([torch.randperm(len(x)) for _ in range(10)]), 64):
        optimiser.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(x[batch]), y[batch]))
        optimiser.step()


def main(folder: Path) -> None:
    """Writes convnet.structure.json with its weights, and convnet.onnx."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    x_train, x_test, y_train, y_test = digits.data()
    x_train, x_test, model = x_train.view(-1, 1, 8, 8), x_test.view(-1, 1, 8, 8), Network()
    train(model, x_train, y_train)
    prune.global_unstructured([(model.block, "weight"), (model.head, "weight")], prune.L1Unstructured, amount=0.9)
    train(model, x_train, y_train)
    deepstruct.save(model.eval(), folder / "convnet.structure.json", example_inputs=x_test)
    report = deepstruct.convert(folder / "convnet.structure.json", folder / "convnet.onnx")
    print(f"density {deepstruct.load(folder / 'convnet.onnx').structure.density:.1%}, {report.files[0][1]:,} bytes")
    outputs = InferenceSession(folder / "convnet.onnx").run(None, {"images": x_test.numpy()})
    first, second = (digits.accuracy(found, y_test) for found in (model(x_test), torch.from_numpy(outputs[0])))
    print(f"test accuracy in torch {first:.2%}, in onnxruntime {second:.2%}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
