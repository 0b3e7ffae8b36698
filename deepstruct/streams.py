"""Standard input and output as files, for converters that need a path."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deepstruct import files
from deepstruct.errors import DeepstructError, UsageError


@contextlib.contextmanager
def source(name: str) -> Iterator[Path]:
    """The path to read from; ``-`` is a temporary copy of standard input, which errors call by that name."""
    if name != "-":
        yield _path(name)
        return
    with tempfile.TemporaryDirectory(prefix="deepstruct-") as folder:
        path = Path(folder) / "standard-input"
        with files.writing(path), path.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        with _called("standard input", path):
            yield path


@contextlib.contextmanager
def _called(name: str, path: Path) -> Iterator[None]:
    """Gives a path another name in errors."""

    def renamed(value: object) -> object:
        return value.replace(str(path), name) if isinstance(value, str) else value

    try:
        yield
    except DeepstructError as error:
        error.args = tuple(renamed(item) for item in error.args)
        for attribute, value in vars(error).items():
            setattr(error, attribute, renamed(value))
        raise


def _path(name: str) -> Path:
    if not name:
        raise UsageError("an empty name is no file")
    return Path(name)


@contextlib.contextmanager
def target(name: str, format_name: str | None) -> Iterator[Path]:
    """The path to write to; ``-`` is a temporary file that is copied to standard output in the end."""
    if name != "-":
        yield _path(name)
        return
    if format_name is None:
        raise UsageError("standard output has no suffix: name the format with --to")
    from deepstruct import formats

    with tempfile.TemporaryDirectory(prefix="deepstruct-") as folder:
        path = Path(folder) / f"standard-output{formats.by_name(format_name).suffixes[0]}"
        with _called("standard output", path):
            yield path
        with path.open("rb") as result:
            shutil.copyfileobj(result, sys.stdout.buffer)
        sys.stdout.buffer.flush()
