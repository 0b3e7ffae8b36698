"""Torch checkpoints and state_dicts <-> Model. Loading runs no code unless `trust_pickle` says so.

A checkpoint written here is a dict that `torch.load(path, weights_only=True)` opens anywhere::

    {"format": "deepstruct", "structure": <document without masks, as text>,
     "state_dict": {...}, "masks": {parameter name: state_dict key of its bool mask}}
"""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from deepstruct import document, dtypes, files, jsonprofile, sequential, state_dict
from deepstruct.converters import torch_modules, torch_tensors
from deepstruct.converters.torch_modules import from_object, to_module
from deepstruct.errors import FaultyError, MalformedFileError, UnsupportedError, WriteError
from deepstruct.files import Targets
from deepstruct.formats import ReadOptions, WriteOptions
from deepstruct.limits import Limits
from deepstruct.losses import Loss
from deepstruct.model import Model
from deepstruct.sparsity_structure import SparsityStructure
from deepstruct.structure import Parameter

__all__ = ["from_object", "read", "to_module", "write"]

_FORMAT = "deepstruct"
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net")  # where trainers put the state_dict
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile
_DEEPEST = 3  # dicts in dicts before the state_dict


def read(path: Path, options: ReadOptions, losses: list[Loss]) -> Model:
    """The model of a checkpoint, a state_dict, or, if trusted, a pickled module.

    Raises:
        MalformedFileError: the file is no torch file, or inconsistent.
        UnsupportedError: it is a pickle that was not trusted, or does not say how its parameters are wired.
    """
    content = _load(path, options)
    try:
        if isinstance(content, torch.nn.Module):
            return from_object(content, losses, infer_masks=options.infer_masks)
        if not isinstance(content, Mapping):
            raise UnsupportedError(f"holds a {type(content).__name__}, not a state_dict or a checkpoint")  # noqa: TRY301 - named below
        if content.get("format") == _FORMAT:
            return _from_checkpoint(path, content, options, losses)
        return _from_state_dict(path, content, options, losses)
    except UnsupportedError as error:
        raise UnsupportedError(f"{path}: {error}") from error
    except FaultyError as error:
        raise type(error)(f"{path}: {error.subject}", error.faults) from error


def _load(path: Path, options: ReadOptions) -> Any:
    """What torch.load gives, memory-mapped where the file is of a kind that can be."""
    trust_pickle = options.trust_pickle
    _check_archive(path, options.limits)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about file formats; what matters ends in an error
            try:
                return torch.load(path, map_location="cpu", weights_only=not trust_pickle, mmap=True)
            except RuntimeError as error:
                if "mmap can only be used" not in str(error):
                    raise
                return torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    except pickle.UnpicklingError as error:
        if not _is_pickle(path, str(error)):
            raise MalformedFileError(str(path), "no torch file: truncated or of another kind") from error
        raise UnsupportedError(
            f"{path}: holds pickled Python objects, and loading them would run code that the file brings. Save "
            "the module with deepstruct.save(module, path) or its numbers with torch.save(module.state_dict(), "
            "path); for a file you made yourself, --trust-pickle (in Python: trust_pickle=True) loads it"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle can make torch's unpickler fail in any way
        if trust_pickle and isinstance(error, (ModuleNotFoundError, AttributeError)):
            message = f"the pickled module needs code that is not importable here ({error}); run where its class is"
            raise MalformedFileError(str(path), message) from error
        if "TorchScript" in str(error):
            message = "holds a TorchScript program; save the module with deepstruct.save(module, path) instead"
            raise UnsupportedError(f"{path}: {message}") from error
        raise MalformedFileError(str(path), "no torch file: truncated or of another kind") from error


def _check_archive(path: Path, limits: Limits) -> None:
    """Refuses exported programs, and archives that unpack to far more than they hold; torch never compresses."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError) as error:
        raise MalformedFileError(str(path), "no torch file: a damaged zip archive") from error
    if any(member.filename.endswith("archive_format") for member in members):
        raise UnsupportedError(f"{path}: holds an exported program: name it .pt2, or say --from torch-export")
    torch_tensors.check_members(path, members, limits, "torch file", ".pkl", "pickle")


def _is_pickle(path: Path, complaint: str) -> bool:
    """Whether torch refused Python objects, and not bytes that are no pickle at all."""
    if "Unsupported operand" in complaint:
        return files.read_bytes(path, 1) == pickle.PROTO
    return any(word in complaint for word in ("GLOBAL", "Unsupported", "unrecognized function", "Can only"))


def _from_checkpoint(path: Path, content: Mapping[str, Any], options: ReadOptions, losses: list[Loss]) -> Model:
    text, tensors, keys = content.get("structure"), content.get("state_dict"), content.get("masks")
    if not isinstance(text, str) or not isinstance(tensors, Mapping) or not isinstance(keys, Mapping):
        raise MalformedFileError(str(path), "a deepstruct checkpoint lacks its structure, state_dict or masks")
    content_of_text = text.encode("utf-8", "surrogatepass")
    structure = document.from_json(jsonprofile.parse(content_of_text, options.limits), options.limits).structure
    names = {parameter.name for parameter in structure.parameters}
    values = {key if isinstance(key, str) else repr(key) for key in keys.values()}
    odd = (keys.keys() - names) | (values - tensors.keys()) | (tensors.keys() - names - values)
    if odd:
        message = f"state_dict, masks and structure do not belong together: {', '.join(sorted(map(str, odd)))[:200]}"
        raise MalformedFileError(str(path), message)
    masks = {name: torch_tensors.to_mask(path, keys[name], tensors[keys[name]]) for name in keys}
    given = content.get("sparsity_structures", {})
    if not isinstance(given, Mapping):
        raise MalformedFileError(str(path), "the sparsity structures of a deepstruct checkpoint are a mapping")
    claims = {name: SparsityStructure.from_json(claim) for name, claim in given.items()}
    parameters = tuple(
        replace(p, mask=masks.get(p.name), sparsity_structure=claims.get(p.name)) for p in structure.parameters
    )
    numbers = {p.name: tensors[p.name] for p in parameters if p.name in tensors}
    if not numbers and parameters:
        return Model(replace(structure, parameters=parameters))
    lacking = [p.name for p in parameters if p.name not in numbers]
    if lacking:
        raise MalformedFileError(str(path), f"the state_dict lacks {', '.join(lacking[:5])}")
    arrays = {name: torch_tensors.to_numpy(path, name, tensor) for name, tensor in numbers.items()}
    structure = replace(structure, parameters=parameters)
    return torch_modules.of_arrays(structure, arrays, losses, infer_masks=options.infer_masks)


def _from_state_dict(path: Path, content: Mapping[str, Any], options: ReadOptions, losses: list[Loss]) -> Model:
    tensors = _find_tensors(path, content, losses)
    keys = state_dict.mask_keys(list(tensors))
    names = [key.removesuffix("_orig") if key.removesuffix("_orig") in keys else key for key in tensors]
    for name in keys:
        if name in tensors and f"{name}_orig" in tensors:
            raise MalformedFileError(str(path), f"has {name} twice: as {name} and as {name}_orig")
    losses += _state_dict_losses(tensors, keys)
    arrays = {
        name: torch_tensors.to_numpy(path, key, tensors[key])
        for name, key in zip(names, tensors, strict=True)
        if key not in keys.values()
    }
    masks = {name: torch_tensors.to_mask(path, key, tensors[key]) for name, key in keys.items()}
    orphans = sorted(keys[name] for name in masks.keys() - arrays.keys())
    if orphans:
        raise MalformedFileError(str(path), f"the mask {orphans[0]} has no weight beside it")
    parameters = {
        name: Parameter(name, dtypes.from_numpy(array.dtype), array.shape, masks.get(name))
        for name, array in arrays.items()
    }
    steps, attributes = state_dict.infer(parameters, options.activation)
    structure = sequential.to_structure(steps, attributes)
    return torch_modules.of_arrays(structure, arrays, losses, infer_masks=options.infer_masks)


def _state_dict_losses(tensors: Mapping[str, torch.Tensor], keys: Mapping[str, str]) -> list[Loss]:
    """What masks and parameters of a state_dict say beyond a Model: trained scores, and sharing."""
    why = "scores become a mask: the larger one decides, and the scores are not kept"
    scores = [key for key in keys.values() if torch_tensors.is_scores(key, tensors[key].shape)]
    losses = [Loss("mask scores", key, why) for key in scores]
    first: dict[tuple[int, int], str] = {}
    for name, tensor in tensors.items():
        if tensor.numel() and tensor.layout == torch.strided and not tensor.is_nested:
            other = first.setdefault((tensor.data_ptr(), tensor.numel()), name)
            if other != name:
                losses.append(Loss("sharing", name, f"it is one tensor with {other}; they become two"))
    return losses


def _find_tensors(
    path: Path, content: Mapping[str, Any], losses: list[Loss], depth: int = 0
) -> dict[str, torch.Tensor]:
    """The state_dict inside what a trainer saved, without the prefixes of wrappers."""
    if depth < _DEEPEST and not any(isinstance(value, torch.Tensor) for value in content.values()):
        for key in _WRAPPERS:
            if isinstance(content.get(key), Mapping):
                others = ", ".join(repr(name) for name in content if name != key)
                if others:
                    losses.append(Loss("entries", path.name, f"only {key!r} is part of a model, not {others}"))
                return _find_tensors(path, content[key], losses, depth + 1)
    tensors = {}
    for key, value in content.items():
        if not isinstance(key, str):
            raise MalformedFileError(str(path), f"the key {key!r:.60} is no name of a parameter")
        if not isinstance(value, torch.Tensor):
            losses.append(Loss("entry", key, f"a {type(value).__name__} is not part of a model"))
            continue
        tensors[key] = value
    if not tensors:
        raise UnsupportedError("there is no tensor in it: it is no state_dict")
    while prefix := next((p for p in _PREFIXES if all(key.startswith(p) for key in tensors)), ""):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def write(model: Model, path: Path, targets: Targets, options: WriteOptions) -> list[Loss]:  # noqa: ARG001 - has no options
    """Writes a checkpoint with structure, masks and, if there are any, weights."""
    structure = model.structure
    stripped = replace(
        structure, parameters=tuple(replace(p, mask=None, sparsity_structure=None) for p in structure.parameters)
    )
    keys = {p.name: f"{p.name}_mask" for p in structure.parameters if p.mask is not None}
    keys |= torch_modules.mask_keys(structure)
    tensors: dict[str, torch.Tensor] = {}
    for parameter in structure.parameters:
        if model.weights is not None:
            torch_tensors.require_dtype(f"parameter {parameter.name!r}", parameter.dtype)
            tensors[parameter.name] = torch_tensors.to_tensor(model.weights[parameter.name], parameter.dtype)
        if parameter.name in keys:
            tensors[keys[parameter.name]] = torch_modules.mask_tensor(parameter)
    content: dict[str, Any] = {
        "format": _FORMAT,
        "structure": json.dumps(document.to_json(stripped)),
        "state_dict": tensors,
        "masks": keys,
    }
    claims = {p.name: p.sparsity_structure.to_json() for p in structure.parameters if p.sparsity_structure is not None}
    if claims:
        content["sparsity_structures"] = claims
    try:
        torch.save(content, targets.open(path))
    except RuntimeError as error:  # torch's archive writer hides what the system said
        cause = error.__context__
        raise cause if isinstance(cause, OSError) else WriteError(str(path), "cannot be written") from error
    return document.unplaced(structure)
