"""Networks as people write them, small: the styles of torchvision, timm and transformers, and every kind of layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Residual block, written with operations in place."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, groups=2, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        out += self.downsample(x)
        return F.relu(out)


class ResNet(nn.Module):
    """Stem, residual blocks, global pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(4, 4), BasicBlock(4, 8, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Any:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.avgpool(self.layer1(x)), 1))


class DenseNet(nn.Module):
    """Concatenations of everything before, and branches as Inception has them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, (1, 7), padding=(0, 3))
        self.block = nn.ModuleDict({f"layer{i}": nn.Conv2d(4 + 3 * i, 3, 3, padding=1) for i in range(3)})
        self.norm = nn.BatchNorm2d(13, eps=1e-3)
        self.out = nn.Linear(13, 4)

    def forward(self, x: Tensor) -> Any:
        features = [self.stem(x)]
        for layer in self.block.values():
            features.append(F.relu(layer(torch.cat(features, 1))))
        whole = F.avg_pool2d(self.norm(torch.cat(features, 1)), 3, stride=1, padding=1)
        return self.out(F.adaptive_avg_pool2d(F.max_pool2d(whole, 3, 2, ceil_mode=True), (1, 1)).flatten(1))


class SqueezeExcitation(nn.Module):
    """Channels scaled by what a small network makes of their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, 2, 1)
        self.fc2 = nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))))


def mobile_net() -> nn.Module:
    """Depthwise convolutions, ReLU6, SiLU, Hardswish, dropout in training mode."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1),
        nn.ReLU6(),
        nn.Conv2d(6, 6, 3, 1, 1, groups=6, bias=False),
        nn.BatchNorm2d(6),
        nn.SiLU(),
        SqueezeExcitation(6),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(6, 3),
    )


class UNet(nn.Module):
    """Down, up by a transposed convolution and by interpolation, and skips; group and instance norm, PReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.down = self.twice(2, 4)
        self.middle = self.twice(4, 8)
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.resize = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.out = nn.Conv2d(16, 1, 1)

    @staticmethod
    def twice(channels: int, out: int) -> nn.Module:
        first = nn.Conv2d(channels, out, 3, padding=1, padding_mode="reflect")
        second = nn.Conv2d(out, out, 3, padding="same", dilation=2)
        norms = nn.GroupNorm(2, out), nn.InstanceNorm2d(out, affine=True)
        return nn.Sequential(first, norms[0], nn.LeakyReLU(0.1, inplace=True), second, norms[1], nn.PReLU(out))

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        low = self.middle(F.max_pool2d(skip, 2))
        return torch.sigmoid(self.out(torch.cat([skip, self.up(low), self.resize(low)], 1)))


class ConvNeXt(nn.Module):
    """Layer norm over channels, GELU, and a scale for the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(6, 6, 7, padding=3, groups=6)
        self.norm = nn.LayerNorm(6, eps=1e-6)
        self.narrow = nn.Linear(6, 12)
        self.wide = nn.Linear(12, 6)
        self.layer_scale = nn.Parameter(torch.full((6, 1, 1), 0.01))

    def forward(self, x: Tensor) -> Any:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.wide(F.gelu(self.narrow(y))).permute(0, 3, 1, 2)
        return x + self.layer_scale * y


class VisionTransformer(nn.Module):
    """Patches, a class token, and torch's own encoder with attention of two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.position = nn.Parameter(torch.randn(1, 5, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, norm=nn.LayerNorm(8), enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.encoder(x)[:, 0])


class Bert(nn.Module):
    """An encoder with an attention mask; called by names, it returns a dict; a layer is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.word = nn.Embedding(20, 8, padding_idx=0)
        self.position = nn.Embedding(16, 8)
        self.register_buffer("position_ids", torch.arange(16).expand((1, -1)), persistent=False)
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
        self.norm = nn.LayerNorm(8, eps=1e-12)
        self.pooler = nn.Linear(8, 8)

    def heads(self, x: Tensor) -> Tensor:
        return x.view(x.size(0), x.size(1), 2, -1).permute(0, 2, 1, 3)

    def layer(self, x: Tensor, mask: Tensor) -> Any:
        query, key, value = self.heads(self.query(x)), self.heads(self.key(x)), self.heads(self.value(x))
        weights = (query @ key.transpose(-1, -2) / math.sqrt(4) + mask).softmax(-1)
        return self.norm((weights @ value).permute(0, 2, 1, 3).contiguous().flatten(2) + x)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        ids: Any = self.position_ids
        x = self.word(input_ids) + self.position(ids[:, : input_ids.shape[1]])
        mask = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * torch.finfo(x.dtype).min
        x = self.layer(self.layer(x, mask), mask)
        return {"last_hidden_state": x, "pooler_output": torch.tanh(self.pooler(x[:, 0]))}


class Gpt(nn.Module):
    """A decoder with a causal mask in a buffer, and an embedding that is the output layer too."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(20, 8)
        self.wpe = nn.Embedding(16, 8)
        self.c_attn = nn.Linear(8, 24)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(approximate="tanh"), nn.Linear(16, 8))
        self.register_buffer("bias", torch.tril(torch.ones(16, 16)).view(1, 1, 16, 16))
        self.lm_head = nn.Linear(8, 20, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, ids: Tensor) -> Any:
        count = ids.size(1)
        x = self.wte(ids) + self.wpe(torch.arange(count, device=ids.device))
        query, key, value = (t.unflatten(2, (2, 4)).transpose(1, 2) for t in self.c_attn(x).split(8, dim=2))
        causal: Any = self.bias
        scores = (query @ key.transpose(-2, -1) * 0.5).masked_fill(causal[:, :, :count, :count] == 0, -math.inf)
        x = x + (scores.softmax(-1) @ value).transpose(1, 2).reshape(x.shape)
        return self.lm_head(x + self.mlp(x))


class Llama(nn.Module):
    """RMS norm, rotary positions from buffers, causal attention by torch's own function, a gated MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(8)
        self.query, self.key, self.out = (nn.Linear(8, 8, bias=False) for _ in range(3))
        self.gate, self.up = (nn.Linear(8, 12, bias=False) for _ in range(2))
        self.down = nn.Linear(12, 8, bias=False)
        angles = torch.outer(torch.arange(16.0), torch.tensor([1.0, 0.01]))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin(), persistent=False)

    def rotated(self, x: Tensor) -> Tensor:
        cos, sin = (self.get_buffer(name)[: x.shape[2]] for name in ("cos", "sin"))
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)

    def forward(self, x: Tensor) -> Any:
        y = self.norm(x)
        query, key = (self.rotated(layer(y).unflatten(2, (2, 4)).transpose(1, 2)) for layer in (self.query, self.key))
        value = y.unflatten(2, (2, 4)).transpose(1, 2)
        x = x + self.out(F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.down(F.silu(self.gate(x)) * self.up(x))


class Recurrent(nn.Module):
    """An LSTM in two layers and directions, a GRU and an RNN, one after another, with their states."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 4, num_layers=2, bidirectional=True, batch_first=True, dropout=0.3)
        self.gru = nn.GRU(8, 3, batch_first=True)
        self.rnn = nn.RNN(3, 2, nonlinearity="relu", bias=False, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x, (hidden, cell) = self.lstm(x)
        x, state = self.gru(x)
        return *self.rnn(x), hidden, cell, state


class Stateful(nn.Module):
    """An LSTM whose states come in and go out, with time before batch."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 4)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, ...]:
        out, states = self.lstm(x, (hidden, cell))
        return out, *states


class Cells(nn.Module):
    """Cells in a loop that the trace unrolls."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTMCell(5, 4), nn.GRUCell(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = cell = x.new_zeros(x.shape[0], 4)
        state, outputs = None, []
        for step in range(x.shape[1]):
            hidden, cell = self.lstm(x[:, step], (hidden, cell))
            state = self.gru(hidden, state)
            outputs.append(state)
        return torch.stack(outputs, 1)


class Pieces(nn.Module):
    """Several inputs in containers, several outputs, indices, and functions without layers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6))
        self.frozen = nn.Bilinear(6, 2, 4)
        self.frozen.requires_grad_(False)
        self.unused = nn.Linear(2, 3)
        self.register_buffer("index", torch.tensor([2, 0, 1]))
        self.register_buffer("scale", torch.rand(4))

    def forward(self, x: Tensor, more: dict[str, Any]) -> list[Any]:
        y = torch.einsum("bif,of->bio", x, self.weight) * self.get_buffer("scale")
        values, places = y.topk(2, dim=1)
        both = self.frozen(x[:, 0], more["a"][0])
        rest = (
            y[:, self.get_buffer("index")].cumsum(1),
            y.flip(1).roll(1, 2),
            y.std(dim=(1, 2)),
            torch.where(both > 0, both, 0.5),
        )
        return [values, {"places": places, "rest": rest}, torch.gather(y, 1, places) + torch.tensor([1.0, 2.0, 3.0, 4])]


class GraphConvolution(nn.Module):
    """Messages along edges, added up at their targets."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 3)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        source, target = edges
        x = self.linear(x)
        total = torch.zeros_like(x).index_add(0, target, x[source])
        degree = torch.zeros(x.size(0)).scatter_add(0, target, torch.ones(edges.size(1)))
        return F.log_softmax(total / degree.clamp(min=1)[:, None], dim=1)


class Scorer(nn.Module):
    """A half-precision network in a module whose names are those of values of its graph."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Parameter(torch.randn(5, 4))
        self.x = nn.Parameter(torch.ones(4))
        self.out = nn.Linear(5, 2)
        self.half()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = F.linear(x * self.x, self.linear)
        return self.out(y.tanh()), x, self.linear


def one_dimensional() -> nn.Module:
    """Convolutions of one dimension in float64."""
    layers: tuple[nn.Module, ...] = (
        nn.Conv1d(3, 4, 3, stride=2, padding=1),
        nn.BatchNorm1d(4),
        nn.Mish(),
        nn.ConvTranspose1d(4, 4, 3, stride=2, padding=1, output_padding=1, groups=2),
        nn.MaxPool1d(2),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
        nn.LogSoftmax(-1),
    )
    return nn.Sequential(*layers).double()


def volume() -> nn.Module:
    """Convolutions of three dimensions."""
    return nn.Sequential(
        nn.Conv3d(2, 3, 3, padding=1),
        nn.ELU(),
        nn.MaxPool3d(2),
        nn.ConvTranspose3d(3, 2, 2, 2),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Softplus(),
    )


torch.manual_seed(0)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "resnet": (ResNet, torch.randn(2, 3, 16, 16)),
    "densenet": (DenseNet, torch.randn(2, 3, 8, 8)),
    "mobilenet": (mobile_net, torch.randn(1, 3, 8, 8)),
    "unet": (UNet, torch.randn(2, 2, 8, 8)),
    "convnext": (ConvNeXt, torch.randn(2, 6, 8, 8)),
    "vit": (VisionTransformer, torch.randn(2, 3, 8, 8)),
    "bert": (
        Bert,
        {
            "input_ids": torch.randint(0, 20, (2, 6)),
            "attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]),
        },
    ),
    "gpt": (Gpt, torch.randint(0, 20, (2, 6))),
    "llama": (Llama, torch.randn(2, 6, 8)),
    "recurrent": (Recurrent, torch.randn(2, 6, 5)),
    "cells": (Cells, torch.randn(2, 3, 5)),
    "pieces": (Pieces, (torch.randn(3, 5, 6), {"a": [torch.randn(3, 2)]})),
    "scorer": (Scorer, torch.randn(3, 4).half()),
    "one-dimensional": (one_dimensional, torch.randn(2, 3, 12, dtype=torch.float64)),
    "volume": (volume, torch.randn(2, 2, 4, 6, 6)),
}


def made(name: str) -> tuple[nn.Module, Any]:
    """A network in training mode, with statistics as after training, and example inputs for it."""
    make, example_inputs = NETWORKS[name]
    torch.manual_seed(0)
    module = make()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(part.weight, 0.5, 2)
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return module, example_inputs


def called(module: nn.Module, example_inputs: Any) -> list[Tensor]:
    """The tensors that a module in evaluation mode returns for example inputs as `from_module` takes them."""
    with torch.no_grad():
        if isinstance(example_inputs, dict):
            result = module(**example_inputs)
        else:
            result = module(*(example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)))
    return torch.utils._pytree.tree_leaves(result)
