"""Whole files in their own runtimes: ONNX files in onnxruntime, torch files in torch, documents in both.

Nothing is opened before it is asked for, and nothing is kept after the end of the block that asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import deepstruct
from deepstruct.errors import DeepstructError
from deepstruct.model import Model
from deepstruct.structure import walk
from deepstruct.verification.runtimes import NotRunnableError, OnnxRuntime, Reference, Torch, Value, load

_LARGE = 20_000_000
"""Entries of all parameters together from which on a model is large."""

Run = Callable[[Mapping[str, Value]], list[Value]]
"""Graph inputs by name -> graph outputs in the structure's order. Raises NotRunnableError if the runtime cannot."""

SEVERAL = max(2, min(4, os.cpu_count() or 1))
"""Threads of a run with more than one."""

_LARGEST_OF_REFERENCE = 2_000_000
"""Entries of all parameters together up to which the slow reference evaluator may stand in."""


@dataclass(frozen=True)
class Native:
    """A whole file in a runtime under one setting.

    Attributes:
        setting: runtime, version and setting, in words.
        open: opens the file; what it gives runs it.
        is_spare: to be used only where no other setting can open the file.
    """

    setting: str
    open: Callable[[], AbstractContextManager[Run]] = field(repr=False, compare=False)
    is_spare: bool = False

    @contextmanager
    def opened(self) -> Iterator[Run]:
        """What runs the file, until the end of the block.

        Raises:
            NotRunnableError: the runtime cannot open it.
        """
        with self.open() as run:
            yield run


def onnx_settings(*, is_large: bool) -> tuple[tuple[bool, int], ...]:
    """Whether onnxruntime optimises, and in how many threads it computes: all four settings, two for a large file."""
    if is_large:
        return (False, SEVERAL), (True, 1)
    return tuple((optimise, threads) for optimise in (False, True) for threads in (1, SEVERAL))


def is_large(model: Model) -> bool:
    """Whether a model is run in fewer settings and on fewer cases."""
    return model.structure.size >= _LARGE


def of_file(path: Path, format_name: str, model: Model, *, trust_pickle: bool = False) -> tuple[Native, ...]:
    """Every way in which a file can be run; the first one is that to which the others are compared.

    Args:
        path: of the file.
        format_name: of its format.
        model: what `deepstruct.load` read from it, after it had made sure that loading runs no code.
        trust_pickle: let a pickled module run its code.
    """
    if format_name == "onnx":
        chosen = onnx_settings(is_large=is_large(model))
        settings = tuple(of_onnx(path, optimise, threads) for optimise, threads in chosen)
        is_slow = any(node.op_type in ("Loop", "Scan") for node in walk(model.structure.nodes))
        is_quick = not is_slow and model.structure.size <= _LARGEST_OF_REFERENCE
        small = (of_reference(path),) if is_quick else ()
        what = f"{_torch_setting()}, of the structure that was read"
        return *settings, *small, Native(what, partial(_open_module, model, None), is_spare=True)
    if format_name in ("torch", "torch-export"):
        return (of_torch(path, format_name, model, trust_pickle=trust_pickle),)
    return of_document(model)


def of_onnx(path: Path, optimise: bool, threads: int) -> Native:
    """An ONNX file in onnxruntime; external data are found beside it."""
    return Native(_onnx_setting(optimise, threads), partial(_open_onnx, path, optimise, threads))


def of_reference(path: Path) -> Native:
    """An ONNX file in ONNX's reference evaluator, which knows types for which onnxruntime has no kernels."""
    return Native(f"onnx {Reference().version}, reference evaluator", partial(_open_reference, path), is_spare=True)


def of_torch(path: Path, format_name: str, model: Model, *, trust_pickle: bool = False) -> Native:
    """A torch file in torch, in evaluation mode.

    A pickled module is that very module if it is trusted, an exported program is called itself, and a checkpoint, which
    holds no code, becomes the module that `deepstruct.to_module` makes.

    Args:
        path: of the file.
        format_name: ``torch`` or ``torch-export``.
        model: what `deepstruct.load` read from it, after it had made sure that loading runs no code.
        trust_pickle: let a pickled module run its code.
    """
    names = tuple(value.name for value in model.structure.inputs)
    if format_name == "torch-export":
        return Native(f"{_torch_setting()}, exported program", partial(_open_program, path, names))
    pickled = path if trust_pickle else None
    return Native(f"{_torch_setting()}, evaluation mode", partial(_open_module, model, pickled))


def of_document(model: Model) -> tuple[Native, ...]:
    """A model in torch, and in onnxruntime by way of a temporary file with dense weights."""
    in_torch = Native(f"{_torch_setting()}, evaluation mode", partial(_open_module, model, None))
    return in_torch, written(model, optimise=False, threads=1), written(model, optimise=True, threads=SEVERAL)


def written(model: Model, *, optimise: bool, threads: int) -> Native:
    """A model in onnxruntime, written with dense weights into a temporary folder that goes with the session."""
    return Native(f"{_onnx_setting(optimise, threads)}, dense", partial(_open_written, model, optimise, threads))


def _onnx_setting(optimise: bool, threads: int) -> str:
    level = "all" if optimise else "no"
    of_threads = "1 thread" if threads == 1 else f"{threads} threads"
    return f"onnxruntime {OnnxRuntime().version}, {level} optimisations, {of_threads}"


def _torch_setting() -> str:
    return f"torch {Torch().version}"


@contextmanager
def _open_onnx(path: Path, optimise: bool, threads: int) -> Iterator[Run]:
    programs = load("onnx_programs")
    session = programs.open_session(path, optimise, threads)
    yield partial(programs.run_session, session)


@contextmanager
def _open_reference(path: Path) -> Iterator[Run]:
    programs = load("onnx_programs")
    yield partial(programs.run_reference, programs.open_reference(path))


@contextmanager
def _open_written(model: Model, optimise: bool, threads: int) -> Iterator[Run]:
    with TemporaryDirectory(prefix="deepstruct-") as folder:
        path = Path(folder) / "model.onnx"
        try:
            deepstruct.save(model, path, sparse_encoding="dense")
        except DeepstructError as error:
            raise NotRunnableError(_without_place(str(error), path)) from error
        with _open_onnx(path, optimise, threads) as run:
            yield run


def _without_place(text: str, path: Path) -> str:
    return text.splitlines()[0].removeprefix(f"{path}: ")


@contextmanager
def _open_module(model: Model, pickled: Path | None) -> Iterator[Run]:
    natives = load("torch_natives")
    module = natives.pickled_module(pickled) if pickled is not None else None
    yield partial(natives.run, natives.module_of(model) if module is None else module, model.structure.inputs)


@contextmanager
def _open_program(path: Path, names: tuple[str, ...]) -> Iterator[Run]:
    natives = load("torch_natives")
    yield partial(natives.run_program, *natives.program(path), names)
