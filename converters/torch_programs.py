"""Programs that `torch.export` has saved (``.pt2``) -> Model. Loading runs no code unless `trust_pickle` says so.

Torch unpickles parts of such an archive, evaluates the expressions of its shapes and looks operators and containers
up by name, so all of these are checked before torch gets to see the file.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from deepstruct.converters import torch_export, torch_modules, torch_tensors, torch_tracing
from deepstruct.errors import MalformedFileError, UnsupportedError
from deepstruct.formats import ReadOptions
from deepstruct.limits import Limits
from deepstruct.losses import Loss
from deepstruct.model import Model

_MEMBER = re.compile(
    r"models/model\.json|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)|data/sample_inputs/model\.pt|extra/[^/]+"
    r"|archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)"
)
_PAYLOAD = re.compile(r"(weight|tensor)_\d+")
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed|torchvision)"
    r"\.(?!from_file\b)((?!__)\w+|__i?(and|or|xor|lshift|rshift)__)(\.(?!_)\w+)?"
    r"|torch\.ops\.higher_order\.(cond|while_loop|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|_operator\.(add|and_|eq|floordiv|ge|getitem|gt|le|lt|mod|mul|ne|neg|or_|pow|sub|truediv)"
    r"|torch\.sym_\w+|math\.(ceil|floor|trunc)"
)
_WORD = re.compile(
    r"\b(Symbol|positive|nonnegative|integer|True|Integer|Rational|Add|Mul|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv"
    r"|CeilToInt|FloorToInt|IntTrueDiv|TruncToInt|[suz]\d{1,9}|\d{1,18})\b|'[suz]\d{1,9}'"
    r"|\bPow\((Symbol\('[suz]\d+'(, \w+=True)*\)|[suz]\d+), (Integer\(\d\)|\d)\)|(?<!\*)\*(?!\*)|[-+/%(),=<>\s]"
)
_CONTAINER = re.compile(
    r"builtins\.(tuple|list|dict)|collections\.(OrderedDict|deque)"
    r"|torch\.fx\.immutable_collections\.immutable_(list|dict)"
)


def read(path: Path, options: ReadOptions, losses: list[Loss]) -> Model:
    """The model of a saved program.

    Raises:
        MalformedFileError: the file is no such archive, or damaged.
        UnsupportedError: loading it would run code that it brings, or an operator has no ONNX counterpart.
    """
    if not options.trust_pickle:
        _refuse_code(path, options.limits)
    try:
        with torch_tracing.quiet():
            program = torch.export.load(path)
    except MemoryError:
        raise
    except Exception as error:  # a damaged archive can make torch fail in any way
        why = "torch cannot read it" if "warnings above" in str(error) else torch_tracing.reason(error)
        raise MalformedFileError(str(path), f"no exported program: {why}; save it anew, with this torch") from error
    for name, tensor in {**program.state_dict, **program.constants}.items():
        torch_tensors.to_numpy(path, name, tensor)  # refuses more elements than the file holds
    program._guards_code = []  # conditions on inputs as Python code, which lowering does not need
    try:
        return from_object(program, losses, infer_masks=options.infer_masks)
    except UnsupportedError as error:
        raise UnsupportedError(f"{path}: {error}") from error


def from_object(value: ExportedProgram, losses: list[Loss], *, infer_masks: bool = False, **examples: Any) -> Model:
    """The model of a program; its tensors are shared, not copied.

    Raises:
        UnsupportedError: an operator has no ONNX counterpart, or example inputs are given: a program has its own.
    """
    if examples:
        raise UnsupportedError(f"an exported program takes no {' and '.join(examples)}: it has its own")
    structure, tensors = torch_export.from_program(value, losses)
    return torch_modules.of_tensors(structure, tensors, losses, infer_masks=infer_masks)


def _refuse_code(path: Path, limits: Limits) -> None:
    """Makes sure that torch finds nothing in an archive that it would run.

    Raises:
        MalformedFileError: it is no archive of this kind.
        UnsupportedError: there is something.
    """
    try:
        members = _members(path, limits)
        archive = torch._C.PyTorchFileReader(str(path))  # what torch reads, where a zip file can be read in two ways
        is_whole = sorted(archive.get_all_records()) == sorted(members) and "models/model.json" in members
        found = [("its members", name) for name in members if not _MEMBER.fullmatch(name)]
        for name in members:
            if name.endswith(".json"):
                found += _code(json.loads(archive.get_record(name)))
        sample = archive.get_record("data/sample_inputs/model.pt")
    except MalformedFileError:
        raise
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, TypeError, LookupError) as error:
        raise MalformedFileError(str(path), "no exported program: damaged, or of another kind") from error
    if not is_whole:
        raise MalformedFileError(str(path), "no exported program: it has no models/model.json, or members twice")
    for place, text in found:
        raise UnsupportedError(f"{path}: {_would_run(place, text)}")
    try:
        torch.load(io.BytesIO(sample), weights_only=True)
    except Exception as error:  # of torch's unpickler
        raise UnsupportedError(f"{path}: {_would_run('sample_inputs', 'pickled objects')}") from error


def _members(path: Path, limits: Limits) -> list[str]:
    """Names of the members of an archive, without the folder that they lie in."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    torch_tensors.check_members(path, members, limits, "exported program", ".json", "text")
    names = [member.filename.partition("/")[2] for member in members]
    if len({name.casefold() for name in names}) < len(names):
        raise MalformedFileError(str(path), "no exported program: two of its members have one name")
    return names


def _would_run(place: str, text: str) -> str:
    return (
        f"loading it could run what it says in {place!r} ({text!r:.60}), which is none of torch's own operators, "
        "shapes and containers; for a file you made yourself, --trust-pickle (in Python: trust_pickle=True) loads it"
    )


def _code(value: Any) -> Iterator[tuple[str, str]]:
    """Where a document says more than torch's own operators, shapes and plain containers, and what."""
    if isinstance(value, list):
        for item in value:
            yield from _code(item)
        return
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        allowed = {"target": _OPERATOR, "path_name": _PAYLOAD}.get(key)
        if (
            (allowed is not None and isinstance(item, str) and not allowed.fullmatch(item))
            or (key == "expr_str" and not (isinstance(item, str) and len(item) < 10_000 and not _WORD.sub("", item)))
            or (key == "use_pickle" and item)
        ):
            yield key, str(item)
        elif key in ("in_spec", "out_spec") and item:
            yield from _code_of_containers(key, json.loads(item))
        else:
            yield from _code(item)


def _code_of_containers(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """What a tree of containers says beyond plain ones whose keys are texts and numbers."""
    _, tree = value
    trees = [tree]
    while trees:
        tree = trees.pop()
        kind, context = tree["type"], tree["context"]
        if kind is not None and not _CONTAINER.fullmatch(kind):
            yield key, kind
        content = json.loads(context) if isinstance(context, str) else context
        if isinstance(content, dict) or (
            isinstance(content, list) and any(isinstance(x, dict | list) for x in content)
        ):
            yield key, str(context)
        trees += tree["children_spec"]
