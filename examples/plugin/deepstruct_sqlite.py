"""SQLite <-> Model: a table with the structure document, and one with the kept entries of each parameter as a BLOB."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

import deepstruct
from deepstruct import Loss, Model, Parameter, Structure, Weights
from deepstruct.errors import FaultyError, MalformedFileError
from deepstruct.formats import Format, ReadOptions, WriteOptions

if TYPE_CHECKING:
    from deepstruct.files import Targets

FORMAT = Format(
    name="sqlite",
    summary="SQLite file, one BLOB a parameter",
    suffixes=(".sqlite",),
    converter="deepstruct_sqlite",
    reads=True,
    writes=True,
    carries=frozenset({"operators", "masks", "weights", "scopes", "attributes"}),
    magic=(b"SQLite format 3\0",),
    specification="https://www.sqlite.org/fileformat2.html",
)
_TABLES = ("CREATE TABLE document (text BLOB)", "CREATE TABLE parameter (name TEXT PRIMARY KEY, kept BLOB)")


def write(model: Model, path: Path, targets: Targets, options: WriteOptions) -> list[Loss]:
    """Writes a model; `targets` puts the file in place once everything is there. Nothing is lost."""
    file = targets.open(path)
    with closing(sqlite3.connect(":memory:")) as database:
        for statement in _TABLES:
            database.execute(statement)
        database.execute("INSERT INTO document VALUES (?)", (_to_text(model.structure),))
        if model.weights is not None:
            for parameter in options.progress(model.structure.parameters):
                row = (parameter.name, model.weights.kept(parameter.name).tobytes())
                database.execute("INSERT INTO parameter VALUES (?, ?)", row)
        database.commit()
        file.write(database.serialize())
    return []


def read(path: Path, options: ReadOptions, losses: list[Loss]) -> Model:  # noqa: ARG001 - nothing is lost
    """The model in a file.

    Raises:
        MalformedFileError: it is no SQLite file, or one of something else.
    """
    text, stored = _content(path)
    structure = _from_text(text, path, options)
    if not stored:
        return Model(structure)
    if stored.keys() != {parameter.name for parameter in structure.parameters}:
        raise MalformedFileError(str(path), "its numbers are not those of its parameters")
    arrays = {parameter.name: _numbers(parameter, stored[parameter.name], path) for parameter in structure.parameters}
    return Model(structure, Weights(structure, arrays))


def _content(path: Path) -> tuple[Any, dict[str, Any]]:
    """The document, and the numbers by the name of their parameter, as they stand in the tables."""
    content = path.read_bytes()
    if not content.startswith(FORMAT.magic):
        raise MalformedFileError(str(path), "is no SQLite file")
    try:
        with closing(sqlite3.connect(":memory:")) as database:
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(len(content), 1_000))  # no value is longer than the file
            database.deserialize(content)
            tables = database.execute("SELECT sql FROM sqlite_schema WHERE sql NOT NULL ORDER BY name").fetchall()
            if tables != [(statement,) for statement in _TABLES]:  # a view or a trigger might run for ever
                raise MalformedFileError(str(path), "has other tables than those of a network")
            texts = database.execute("SELECT text FROM document").fetchall()
            stored = dict(database.execute("SELECT name, kept FROM parameter"))
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise MalformedFileError(str(path), f"is a damaged SQLite file: {error}") from error
    if len(texts) != 1:
        raise MalformedFileError(str(path), f"has {len(texts)} documents instead of one")
    return texts[0][0], stored


def _numbers(parameter: Parameter, blob: Any, path: Path) -> np.ndarray[Any, Any]:
    """The entries of a parameter that exist: little-endian, ``[nnz]``."""
    dtype = np.dtype(getattr(ml_dtypes, parameter.dtype, parameter.dtype)).newbyteorder("<")
    if not isinstance(blob, bytes) or len(blob) != parameter.nnz * dtype.itemsize:
        raise MalformedFileError(str(path), f"the numbers of {parameter.name!r} are not {parameter.nnz} {dtype}")
    return np.frombuffer(blob, dtype)


def _to_text(structure: Structure) -> bytes:
    """The document of a structure."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.structure.json"
        deepstruct.save(Model(structure), file)
        return file.read_bytes()


def _from_text(text: Any, path: Path, options: ReadOptions) -> Structure:
    """The structure of a document, which is checked as any other."""
    if not isinstance(text, bytes):
        raise MalformedFileError(str(path), "its document is no BLOB")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.structure.json"
        file.write_bytes(text)
        try:
            return deepstruct.load(file, weights=False, limits=options.limits).structure
        except FaultyError as error:
            raise MalformedFileError(str(path), f"its document is invalid: {error.faults[0]}") from error
