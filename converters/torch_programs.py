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

from deepstruct.converters import torch_export, torch_modules, torch_tracing
from deepstruct.errors import MalformedFileError, UnsupportedError
from deepstruct.formats import ReadOptions
from deepstruct.limits import Limits, variable
from deepstruct.losses import Loss
from deepstruct.model import Model

_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|higher_order|quantized_decomposed|torchvision)(\.\w+){1,2}"
    r"|_operator\.(add|and_|eq|floordiv|ge|getitem|gt|le|lt|mod|mul|ne|neg|or_|pow|sub|truediv)"
    r"|torch\.sym_\w+|math\.(ceil|floor|trunc)"
)
_WORD = re.compile(
    r"Symbol|'[a-z]+\d+'|positive|nonnegative|integer|True|Integer|Rational|Add|Mul|Pow|Max|Min|Mod|PythonMod"
    r"|FloorDiv|CeilDiv|CeilToInt|FloorToInt|IntTrueDiv|TruncToInt|[su]\d+|\d+|[-+*/%(),=<>\s]"
)
_CONTAINER = re.compile(r"builtins\.(tuple|list|dict)|collections\.(OrderedDict|deque)")


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
        raise MalformedFileError(str(path), f"no exported program: {torch_tracing.reason(error)}") from error
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
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            for member in members:
                if member.compress_type != zipfile.ZIP_STORED:
                    raise MalformedFileError(str(path), f"no exported program: {member.filename!r:.60} is compressed")
                if member.filename.endswith(".json") and member.file_size > limits.pickle_bytes:
                    message = f"its text takes {member.file_size} bytes; set {variable('pickle_bytes')} to allow it"
                    raise MalformedFileError(str(path), message)
            names = [member.filename for member in members]
            if not any(re.search(r"models/[^/]+\.json$", name) for name in names):
                raise MalformedFileError(str(path), "no exported program: it has no models/*.json")
            documents = [json.loads(archive.read(name)) for name in names if name.endswith(".json")]
            samples = [archive.read(name) for name in names if "sample_inputs/" in name]
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, RecursionError) as error:
        raise MalformedFileError(str(path), "no exported program: damaged, or of another kind") from error
    for place, text in (found for document in documents for found in _code(document)):
        raise UnsupportedError(f"{path}: {_would_run(place, text)}")
    for sample in samples:
        try:
            torch.load(io.BytesIO(sample), weights_only=True)
        except Exception as error:  # of torch's unpickler
            raise UnsupportedError(f"{path}: {_would_run('sample_inputs', 'pickled objects')}") from error


def _would_run(place: str, text: str) -> str:
    return (
        f"loading it would run what it says in {place!r} ({text!r:.60}), which is none of torch's own operators; for a "
        "file you made yourself, --trust-pickle (in Python: trust_pickle=True) loads it"
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
        if (key == "target" and isinstance(item, str) and not _OPERATOR.fullmatch(item)) or (
            key == "expr_str" and isinstance(item, str) and _WORD.sub("", item)
        ):
            yield key, item
        elif key == "use_pickle" and item:
            yield key, str(item)
        elif key in ("in_spec", "out_spec") and isinstance(item, str):
            containers = re.findall(r'"type":\s*"([^"]*)"', item)
            yield from ((key, name) for name in containers if not _CONTAINER.fullmatch(name))
        else:
            yield from _code(item)
