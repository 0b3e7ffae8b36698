"""Standard input and output as files, for converters that need a path."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deepstruct import files, formats
from deepstruct.errors import UsageError


@contextlib.contextmanager
def source(name: str) -> Iterator[Path]:
    """The path to read from; ``-`` is a temporary copy of standard input."""
    if name != "-":
        yield Path(name)
        return
    with tempfile.TemporaryDirectory(prefix="deepstruct-") as folder:
        path = Path(folder) / "standard-input"
        with files.writing(path), path.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        yield path


@contextlib.contextmanager
def target(name: str, format_name: str | None) -> Iterator[Path]:
    """The path to write to; ``-`` is a temporary file that is copied to standard output in the end."""
    if name != "-":
        yield Path(name)
        return
    if format_name is None:
        raise UsageError("standard output has no suffix: name the format with --to")
    with tempfile.TemporaryDirectory(prefix="deepstruct-") as folder:
        path = Path(folder) / f"standard-output{formats.by_name(format_name).suffixes[0]}"
        yield path
        with path.open("rb") as result:
            shutil.copyfileobj(result, sys.stdout.buffer)
        sys.stdout.buffer.flush()
