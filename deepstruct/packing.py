"""Many masked linear layers in few tensors, so that a network of them is built and computed in few operations.

Each layer remains a `MaskedLinearLayer` to look at and to change: its weight, bias and mask are views.
"""

from __future__ import annotations

import functools
import mmap
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepstruct.masked import MaskedLinearLayer

_DRAWN_WHOLE = 2**22  # entries


class PackedTensors(nn.Module):
    """Weights, biases and masks of many layers, row-major, one layer after the other.

    Layers with the same inputs form a group and follow each other, so that the weights of a group are one matrix.

    Attributes:
        weight: ``[entries]``
        bias: ``[rows]`` of the layers that have one.
        mask: bool ``[entries]``, True where the connection exists.
        is_changed: whether a layer has or had something that must be asked for it alone, such as a hook.
    """

    mask: Tensor

    def __init__(
        self,
        shapes: Sequence[tuple[int, int]],
        biased: Sequence[bool],
        groups: Sequence[Sequence[int]],
        connections: tuple[NDArray[np.int64], NDArray[np.int64]],
    ) -> None:
        """Tensors drawn from the distribution with which `torch.nn.Linear` begins.

        Entries that do not exist are drawn as well, unless there are more than 2^22 of all: then they are left 0,
        and memory without any connection is never taken from the system.

        Args:
            shapes: (out, in) of each layer.
            biased: whether each layer has a bias.
            groups: positions of the layers of each group, all of which have the same inputs.
            connections: of the entries that exist, position of the layer and row-major index into it.
        """
        super().__init__()
        self.shapes = list(shapes)
        self.is_changed = False
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
        weight, bias = _zeros(entries, torch.get_default_dtype()), _zeros(rows, torch.get_default_dtype())
        mask = _zeros(entries, torch.bool)
        layer, index = connections
        indices = np.array(self._first_entry, dtype=np.int64)[layer] + index
        if entries > _DRAWN_WHOLE:
            order = np.argsort(indices)  # memory is taken fastest in its own order
            indices, bounds = indices[order], np.array([columns**-0.5 for _, columns in shapes])[layer[order]]
            drawn = torch.rand(indices.size, dtype=weight.dtype, device="cpu") * 2 - 1
            weight[torch.from_numpy(indices)] = drawn * torch.from_numpy(bounds).to(weight.dtype)
        mask.numpy()[indices] = True
        for values, sizes in ((weight, self._areas), (bias, self._bias_rows)):
            if values is bias or entries <= _DRAWN_WHOLE:
                for part, columns in zip(values.split_with_sizes(sizes), self._columns, strict=True):
                    part.uniform_(-(columns**-0.5), columns**-0.5)
        device = torch.get_default_device()
        self.weight = nn.Parameter(weight.to(device))
        self.bias = nn.Parameter(bias.to(device))
        self.register_buffer("mask", mask.to(device))

    def masked(self) -> Tensor:
        """``[entries]``: the weight, 0 where no connection exists."""
        return torch.where(self.mask, self.weight, 0)

    def parts_of_bias(self, bias: Tensor) -> Sequence[Tensor]:
        """The rows of each group."""
        return bias.split_with_sizes(self._bias_rows)

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

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        _local_metadata: dict[str, Any],
        strict: bool,
        _missing_keys: list[str],
        unexpected_keys: list[str],
        _error_msgs: list[str],
    ) -> None:
        """The layers load their views."""
        unexpected_keys += [key for key in state_dict if strict and key.startswith(prefix)]


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

    @property
    def data(self) -> Tensor:
        return self._whole.data[self._part].view(self.shape)

    @data.setter
    def data(self, value: Tensor) -> None:
        self.data.copy_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        _refuse_freezing(self._whole, requires_grad)
        return self


def _refuse_freezing(whole: nn.Parameter, requires_grad: bool) -> None:
    if requires_grad != whole.requires_grad:
        raise RuntimeError(
            "a layer of a packed network is a non-leaf view of its parameters, which cannot be frozen alone: "
            "freeze the whole network, or build it with packed=False"
        )


class PackedLayer(MaskedLinearLayer):
    """One of the layers of `PackedTensors`: a `MaskedLinearLayer` whose tensors are views.

    What is computed with its weight, in the layer or outside, trains the packed parameters. They are parameters of
    the whole network, so that the layer has none that could be frozen, pruned by torch, or parametrised alone.
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
        if name not in ("weight", "bias", "_mask"):
            self._packed.is_changed |= name == "forward" or (name == "keep_layer_input" and value)
            super().__setattr__(name, value)
            return
        view = getattr(self, name)
        if view is None or not isinstance(value, Tensor) or value.shape != view.shape:
            given = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            here = "None" if view is None else f"a tensor {tuple(view.shape)}"
            raise ValueError(
                f"{name} is {here} and cannot become {given}; build the network with packed=False for that"
            )
        with torch.no_grad():
            view.copy_(value)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:  # noqa: ARG002 - torch's signature
        """Refuses: the packed tensors belong to the whole network.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(
            f"a layer of a packed network has no parameters of its own, so {name!r} cannot be added: "
            "build the network with packed=False"
        )

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Refuses to freeze the layer alone.

        Raises:
            RuntimeError: the network is not as the layer should be.
        """
        _refuse_freezing(self._packed.weight, requires_grad)
        return self

    def _with_own_tensors(self) -> PackedLayer:
        """The layer as one that owns its views, for what torch does with tensors by name."""
        twin = PackedLayer.__new__(PackedLayer)
        twin.__dict__.update(self.__dict__)
        twin.__dict__.update(_parameters={"weight": self.weight, "bias": self.bias}, _buffers={"_mask": self._mask})
        return twin

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """The views of weight and bias; none without `recurse`, as torch asks for what each module owns itself."""
        owner = self._with_own_tensors() if recurse else self
        return nn.Module.named_parameters(owner, prefix, recurse, remove_duplicate)

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """The view of the mask; none without `recurse`."""
        owner = self._with_own_tensors() if recurse else self
        return nn.Module.named_buffers(owner, prefix, recurse, remove_duplicate)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        nn.Module._save_to_state_dict(self._with_own_tensors(), destination, prefix, keep_vars)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        twin, (*_, errors) = self._with_own_tensors(), rest
        if local_metadata.get("assign_to_params_buffers"):
            for name in ("weight", "bias"):
                view, value = getattr(self, name), state_dict.get(prefix + name)
                if value is not None and view is not None and (value.dtype, value.device) != (view.dtype, view.device):
                    errors.append(
                        f"{prefix}{name} is {view.dtype} on {view.device} and cannot be assigned as {value.dtype} on "
                        f"{value.device}: convert the network first, or build it with packed=False"
                    )
        MaskedLinearLayer._load_from_state_dict(twin, state_dict, prefix, local_metadata, *rest)


def _noting(name: str) -> Callable[..., Any]:
    """A method of torch modules, noting that a layer is no longer a mere part of the packed tensors."""
    register = getattr(nn.Module, name)

    @functools.wraps(register)
    def noted(layer: PackedLayer, *arguments: Any, **options: Any) -> Any:
        layer._packed.is_changed = True
        return register(layer, *arguments, **options)

    return noted


for _name in ("forward_pre_hook", "forward_hook", "full_backward_pre_hook", "full_backward_hook", "backward_hook"):
    setattr(PackedLayer, f"register_{_name}", _noting(f"register_{_name}"))


class PackedLayers(nn.ModuleList):
    """Some layers of `PackedTensors`, made when they are first looked at."""

    def __init__(self, packed: PackedTensors, positions: range) -> None:
        """The layers at some positions."""
        super().__init__()
        self.__dict__.update(_packed=packed, _positions=positions, _made=None)

    @property  # type: ignore[override]  # an attribute of nn.ModuleList
    def _modules(self) -> dict[str, nn.Module | None]:
        members = self.__dict__
        modules: dict[str, nn.Module | None] = members["_modules"]
        if members.get("_made", ()) is None:
            members["_made"] = [PackedLayer(members["_packed"], position) for position in members["_positions"]]
            modules.update((str(number), layer) for number, layer in enumerate(members["_made"]))
        return modules

    @_modules.setter
    def _modules(self, modules: dict[str, nn.Module | None]) -> None:
        self.__dict__["_modules"] = modules

    def __getattr__(self, name: str) -> Any:
        """Makes the layers first: torch looks into the dictionary of modules itself."""
        modules = self._modules
        return modules[name] if name in modules else super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Makes the layers first, as above."""
        _ = self._modules
        super().__setattr__(name, value)

    def __getitem__(self, idx: int | slice) -> Any:
        """A layer, or several as an ordinary list."""
        layers = list(self._modules.values())
        return nn.ModuleList(layers[idx]) if isinstance(idx, slice) else super().__getitem__(idx)  # type: ignore[arg-type]  # none is None

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """The views of all layers; none without `recurse`."""
        for name, layer in self.named_children() if recurse else ():
            path = f"{prefix}.{name}" if prefix else name
            yield from layer.named_parameters(path, recurse, remove_duplicate)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Refuses to freeze these layers alone.

        Raises:
            RuntimeError: the network is not as the layers should be.
        """
        for layer in self:
            layer.requires_grad_(requires_grad)
        return self

    @property
    def are_untouched(self) -> bool:
        """Whether every layer does nothing else than multiply with its part of the packed weight."""
        members = self.__dict__
        made = members["_made"]
        return made is None or (
            list(members["_modules"].values()) == made
            and (
                not members["_packed"].is_changed
                or all(has_no_hooks(layer) and not layer.keep_layer_input for layer in made)
            )
        )


def has_no_hooks(module: nn.Module) -> bool:
    """Whether calling a module does nothing else than its class's ``forward``."""
    members = module.__dict__
    return not (
        members["_forward_pre_hooks"]
        or members["_forward_hooks"]
        or members["_backward_pre_hooks"]
        or members["_backward_hooks"]
        or "forward" in members
    )
