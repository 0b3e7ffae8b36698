"""Torch tensors <-> numpy arrays and masks, for every dtype that both know; and the archives that hold them."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepstruct import dtypes
from deepstruct.errors import MalformedFileError, UnsupportedError
from deepstruct.limits import Limits, variable
from deepstruct.mask import Mask

_BYTES_VIEW = {1: torch.uint8, 2: torch.int16}


def to_numpy(path: Path | None, name: str, tensor: Any) -> NDArray[Any]:
    """A tensor's elements without a copy where it is contiguous.

    Args:
        path: of the file that the tensor was read from, or None for a live one.
        name: of the tensor.
        tensor: to look at.

    Raises:
        MalformedFileError: the tensor claims more elements than the file holds, or is none.
        UnsupportedError: it is sparse, quantised or of a dtype without a name in documents.
    """
    if not isinstance(tensor, torch.Tensor):
        raise MalformedFileError(str(path or "module"), f"{name} is a {type(tensor).__name__}, not a tensor")
    kinds = {"nested": tensor.is_nested, "quantized": tensor.is_quantized, "meta": tensor.is_meta}
    kind = next((word for word, holds in kinds.items() if holds), str(tensor.layout).removeprefix("torch."))
    if kind != "strided":
        raise UnsupportedError(f"{name} is a {kind} tensor; save a plain dense one")
    if path and tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        message = f"{name} claims {tensor.numel()} elements, more than the file holds; save a contiguous() copy of it"
        raise MalformedFileError(str(path), message)
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    name_of_dtype = str(tensor.dtype).removeprefix("torch.")
    if name_of_dtype not in dtypes.DTYPES or name_of_dtype in dtypes.NARROW:
        raise UnsupportedError(f"{name} has dtype {tensor.dtype}, which documents have no name for")
    target = dtypes.to_numpy(name_of_dtype)
    if name_of_dtype == "bfloat16" or name_of_dtype.startswith("float8"):
        array: NDArray[Any] = tensor.view(_BYTES_VIEW[tensor.element_size()]).numpy().view(target)
        return array
    plain: NDArray[Any] = tensor.numpy()
    return plain


def require_dtype(what: str, dtype: str | None) -> None:
    """Raises an UnsupportedError that names `what` unless torch computes with a document's dtype."""
    if dtype == "string":
        raise UnsupportedError(f"{what}: torch has no strings")
    if dtype is None or not hasattr(torch, dtype) or dtype in dtypes.NARROW:
        raise UnsupportedError(f"{what}: torch has no dtype {dtype}")


def to_tensor(array: NDArray[Any], dtype: str) -> torch.Tensor:
    """A tensor of the document's dtype with an array's elements, without a copy where it can be written to."""
    array = np.require(array, requirements=["C", "W"])
    if dtype == "bfloat16" or dtype.startswith("float8"):
        whole: torch.Tensor = torch.from_numpy(array.view(f"i{array.itemsize}" if array.itemsize > 1 else "u1"))
        return whole.view(getattr(torch, dtype))
    return torch.from_numpy(array)


def is_scores(key: str, shape: Sequence[int]) -> bool:
    """Whether a mask of a state_dict holds the scores of `MaskedLinearLayer` with ``mask_as_params``."""
    return key.rpartition(".")[2] == "_mask" and len(shape) == 3 and shape[2] == 2


def to_mask(path: Path | None, key: str, tensor: Any) -> Mask:
    """The mask that a tensor of zeros and ones holds, or of the scores of ``mask_as_params``.

    Raises:
        MalformedFileError: it has other values.
    """
    array = to_numpy(path, key, tensor)
    if is_scores(key, array.shape):
        array = array.argmax(axis=2)
    if array.dtype != np.bool_:
        present = array != 0
        if not bool((array[present] == 1).all()):
            raise MalformedFileError(str(path or "module"), f"{key} is no mask: it has other values than 0 and 1")
        array = present
    return Mask.from_array(array)


def check_members(
    path: Path, members: Sequence[zipfile.ZipInfo], limits: Limits, kind: str, suffix: str, content: str
) -> None:
    """Refuses an archive that unpacks to more than it holds, or whose description is too large; torch never compresses.

    Args:
        path: of the archive.
        members: of the archive.
        limits: bounds on what is taken in.
        kind: what the file should be, in words.
        suffix: of the members that describe the tensors.
        content: what these hold, in words.

    Raises:
        MalformedFileError: there is such a member.
    """
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED:
            raise MalformedFileError(str(path), f"no {kind}: {member.filename!r:.60} is compressed")
        if member.filename.endswith(suffix) and member.file_size > limits.pickle_bytes:
            message = f"its {content} takes {member.file_size} bytes; set {variable('pickle_bytes')} to allow it"
            raise MalformedFileError(str(path), message)
