"""Many masked linear layers in few tensors, so that a network of them is built and computed in few operations.

Each layer remains a `MaskedLinearLayer` to look at and to change: its weight, bias and mask are views.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepstruct.masked import MaskedLinearLayer

_DRAWN_WHOLE = 2**24  # entries


class PackedTensors(nn.Module):
    """Weights, biases and masks of many layers, row-major, one layer after the other.

    Layers with the same inputs form a group and follow each other, so that the weights of a group are one matrix.

    Attributes:
        weight: ``[entries]``
        bias: ``[rows]`` of the layers that have one.
        mask: bool ``[entries]``, True where the connection exists.
    """

    mask: Tensor
    arrivals: Tensor

    def __init__(
        self,
        shapes: Sequence[tuple[int, int]],
        biased: Sequence[bool],
        groups: Sequence[Sequence[int]],
        connections: tuple[NDArray[np.int64], NDArray[np.int64]],
        arrivals: Tensor,
    ) -> None:
        """Tensors drawn from the distribution with which `torch.nn.Linear` begins.

        Entries that do not exist are drawn as well, unless there are more than 2^24 of all: then they are left 0,
        and memory without any connection is never taken from the system.

        Args:
            shapes: (out, in) of each layer.
            biased: whether each layer has a bias.
            groups: positions of the layers of each group, all of which have the same inputs.
            connections: of the entries that exist, position of the layer and row-major index into it.
            arrivals: int64 of any shape, kept beside the tensors on their device.
        """
        super().__init__()
        self.shapes = list(shapes)
        self._areas = [sum(shapes[position][0] * shapes[position][1] for position in group) for group in groups]
        self._columns = [shapes[group[0]][1] for group in groups]
        self._first_entry, self._first_row = [0] * len(shapes), [-1] * len(shapes)
        self._bias_rows: list[int] = []
        entries = rows = 0
        for group in groups:
            self._bias_rows.append(-rows)
            for position in group:
                out, columns = shapes[position]
                self._first_entry[position] = entries
                entries += out * columns
                if biased[position]:
                    self._first_row[position] = rows
                    rows += out
            self._bias_rows[-1] += rows
        layer, index = connections
        indices = np.array(self._first_entry, dtype=np.int64)[layer] + index
        mask = _zeros(entries, torch.bool)
        mask.numpy()[indices] = True
        weight, bias = _zeros(entries, torch.get_default_dtype()), _zeros(rows, torch.get_default_dtype())
        for values, sizes in ((weight, self._areas), (bias, self._bias_rows)):
            if values is bias or entries <= _DRAWN_WHOLE:
                for part, columns in zip(values.split_with_sizes(sizes), self._columns, strict=True):
                    part.uniform_(-(columns**-0.5), columns**-0.5)
        if entries > _DRAWN_WHOLE:
            bounds = np.array([columns**-0.5 for _, columns in shapes])[layer]
            drawn = torch.rand(indices.size, dtype=weight.dtype, device="cpu") * 2 - 1
            weight[torch.from_numpy(indices)] = drawn * torch.from_numpy(bounds).to(weight.dtype)
        device = torch.get_default_device()
        self.weight = nn.Parameter(weight.to(device))
        self.bias = nn.Parameter(bias.to(device))
        self.register_buffer("mask", mask.to(device))
        self.register_buffer("arrivals", arrivals.to(device), persistent=False)

    def masked(self) -> Tensor:
        """``[entries]``: the weight, 0 where no connection exists."""
        return torch.where(self.mask, self.weight, 0)

    def biases(self) -> Sequence[Tensor]:
        """Bias of each group."""
        return self.bias.split_with_sizes(self._bias_rows)

    def entries(self, position: int) -> slice:
        """Where the weight and the mask of a layer are."""
        out, columns = self.shapes[position]
        return slice(self._first_entry[position], self._first_entry[position] + out * columns)

    def rows(self, position: int) -> slice | None:
        """Where the bias of a layer is, if it has one."""
        first = self._first_row[position]
        return None if first < 0 else slice(first, first + self.shapes[position][0])

    def _save_to_state_dict(self, *_args: Any) -> None:
        """The layers save their views, under their own names."""

    def _load_from_state_dict(self, *_args: Any) -> None:
        """The layers load their views."""


def _zeros(size: int, dtype: torch.dtype) -> Tensor:
    """Zeros; many of them in small pages of memory, none of which is taken before something is written there."""
    if size <= _DRAWN_WHOLE:
        return torch.zeros(size, dtype=dtype, device="cpu")
    if not hasattr(mmap, "MADV_NOHUGEPAGE"):  # not Linux
        return torch.from_numpy(np.zeros(size * dtype.itemsize, np.uint8)).view(dtype)
    memory = mmap.mmap(-1, size * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype)


class _View(Tensor):
    """A part of a packed parameter, whose gradient is that part of the parameter's gradient."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # as nn.Parameter does
    _is_param = True  # for isinstance(layer.weight, nn.Parameter)
    _whole: nn.Parameter
    _part: slice

    @classmethod
    def of(cls, whole: nn.Parameter, part: slice, shape: tuple[int, ...]) -> _View:
        view = whole[part].view(shape).as_subclass(cls)
        view._whole, view._part = whole, part
        return view

    @property
    def grad(self) -> Tensor | None:
        whole = self._whole.grad
        return None if whole is None else whole[self._part].view(self.shape)

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if self._whole.grad is None:
            self._whole.grad = torch.zeros_like(self._whole)
        self._whole.grad[self._part] = 0 if value is None else value.reshape(-1)


class PackedLayer(MaskedLinearLayer):
    """One of the layers of `PackedTensors`: a `MaskedLinearLayer` whose tensors are views.

    What is computed with its weight, in the layer or outside, trains the packed parameters.
    """

    _packed: PackedTensors
    _position: int

    def __init__(self, packed: PackedTensors, position: int) -> None:
        """The layer at a position."""
        nn.Module.__init__(self)
        self.__dict__.update(_packed=packed, _position=position, _masks_as_params=False, _saliency=None)
        self.out_features, self.in_features = packed.shapes[position]
        self.keep_layer_input = False
        self.layer_input = None

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # an attribute of nn.Linear
        """The weight, (out, in)."""
        packed = self._packed
        return _View.of(packed.weight, packed.entries(self._position), packed.shapes[self._position])

    @property
    def bias(self) -> Tensor | None:  # type: ignore[override]  # an attribute of nn.Linear
        """The bias, (out,), or None."""
        packed = self._packed
        rows = packed.rows(self._position)
        return None if rows is None else _View.of(packed.bias, rows, (self.out_features,))

    @property
    def _mask(self) -> Tensor:  # type: ignore[override]  # an attribute of MaskedLinearLayer
        packed = self._packed
        return packed.mask[packed.entries(self._position)].view(packed.shapes[self._position])

    def __setattr__(self, name: str, value: Any) -> None:
        """Copies what is given for a tensor into the view."""
        if name in ("weight", "bias", "_mask") and isinstance(value, Tensor):
            with torch.no_grad():
                self._tensors()[name].copy_(value)
        else:
            super().__setattr__(name, value)

    def _tensors(self) -> dict[str, Tensor]:
        return {n: t for n, t in (("weight", self.weight), ("bias", self.bias), ("_mask", self._mask)) if t is not None}

    def named_parameters(self, prefix: str = "", *_args: Any, **_options: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Weight and bias; they belong to the parameters of the whole network and cannot be frozen alone."""
        for name, tensor in self._tensors().items():
            if name != "_mask":
                yield f"{prefix}.{name}" if prefix else name, cast("nn.Parameter", tensor)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, tensor in self._tensors().items():
            destination[prefix + name] = tensor if keep_vars else tensor.detach().as_subclass(Tensor)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],  # noqa: ARG002 - torch's signature
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        views = self._tensors()
        missing_keys += [prefix + name for name in views if prefix + name not in state_dict] if strict else []
        if strict:
            unexpected_keys += [k for k in state_dict if k.startswith(prefix) and k.removeprefix(prefix) not in views]
        for name, view in views.items():
            value = state_dict.get(prefix + name)
            if value is not None and value.shape != view.shape:
                shapes = f"{tuple(value.shape)} from the checkpoint, {tuple(view.shape)} in the network"
                error_msgs.append(f"size mismatch for {prefix}{name}: {shapes}")
            elif value is not None:
                with torch.no_grad():
                    view.copy_(value)


class PackedLayers(nn.ModuleList):
    """Some layers of `PackedTensors`, made when they are first looked at."""

    def __init__(self, packed: PackedTensors, positions: range) -> None:
        """The layers at some positions."""
        super().__init__()
        self.__dict__.update(_packed=packed, _positions=positions)

    @property  # type: ignore[override]  # an attribute of nn.ModuleList
    def _modules(self) -> dict[str, nn.Module | None]:
        made: dict[str, nn.Module | None] = self.__dict__["_modules"]
        positions = self.__dict__.get("_positions", ())
        if not made and positions:
            made.update((str(number), PackedLayer(self._packed, p)) for number, p in enumerate(positions))
        return made

    @_modules.setter
    def _modules(self, modules: dict[str, nn.Module | None]) -> None:
        self.__dict__["_modules"] = modules

    def __getattr__(self, name: str) -> Any:
        """Makes the layers first: torch looks into the dictionary of modules itself."""
        return self._modules.get(name) or super().__getattr__(name)

    @property
    def is_untouched(self) -> bool:
        """Whether every layer does nothing else than multiply with its part of the packed weight."""
        return all(map(_is_untouched, self.__dict__["_modules"].values()))


def _is_untouched(layer: nn.Module) -> bool:
    members = layer.__dict__
    return type(layer) is PackedLayer and not (
        members["_forward_pre_hooks"]
        or members["_forward_hooks"]
        or members["_backward_pre_hooks"]
        or members["_backward_hooks"]
        or members["keep_layer_input"]
        or "forward" in members
    )
