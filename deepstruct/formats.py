"""The table of formats: what each is called, how it is recognised, which converter reads and writes it.

Built-in rows stand here; other packages add rows through the entry-point group ``deepstruct.formats``, each a
`Format` object. Nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, get_args

from deepstruct import files
from deepstruct.errors import MissingDependencyError, UnsupportedError, UsageError, did_you_mean
from deepstruct.limits import Limits
from deepstruct.losses import Loss

if TYPE_CHECKING:
    from deepstruct.files import Targets
    from deepstruct.model import Model
    from deepstruct.structure import Parameter

ENTRY_POINTS = "deepstruct.formats"

Feature = Literal["weights", "masks", "scopes", "attributes", "operators"]
Layout = Literal["values", "dense"]
SparseEncoding = Literal["coo", "dense"]


def no_progress(parameters: Iterable[Parameter]) -> Iterable[Parameter]:
    """The parameters themselves: nobody watches."""
    return parameters


def _require_choice(options: object, name: str, choices: tuple[object, ...]) -> None:
    value = getattr(options, name)
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        known = ", ".join(str(choice) for choice in choices)
        raise UsageError(f"unknown {name.replace('_', ' ')} {value!r:.60}; choose from {known}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """What a reader may be told; a format's row names those that it heeds.

    Attributes:
        weights: read numbers too, not the structure alone.
        infer_masks: where there is no mask, take the zeros of matrices and higher tensors for masked entries.
        trust_pickle: let a pickled torch module run its code. Only for files you made yourself.
        activation: what stands between the layers of a bare state_dict, which does not say it: a key of
            `deepstruct.sequential.ACTIVATIONS`.
        limits: bounds on what the file may claim.
    """

    weights: bool = True
    infer_masks: bool = False
    trust_pickle: bool = False
    activation: str | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name in ("weights", "infer_masks", "trust_pickle"):
            _require_choice(self, name, (True, False))
        if self.activation is not None:
            from deepstruct.sequential import ACTIVATIONS

            _require_choice(self, "activation", tuple(ACTIVATIONS))
        if not isinstance(self.limits, Limits):
            raise UsageError(f"limits must be Limits, not {self.limits!r:.60}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """What a writer may be told; a format's row names those that it heeds.

    Attributes:
        weights: write numbers too, not the structure alone.
        layout: of a document's weights file: the entries that exist, or whole tensors.
        sparse_encoding: of masked ONNX initializers: sparse with their mask, or dense with zeros.
        progress: wraps the parameters while their numbers are written.
    """

    weights: bool = True
    layout: Layout = "values"
    sparse_encoding: SparseEncoding = "coo"
    progress: Callable[[Iterable[Parameter]], Iterable[Parameter]] = no_progress

    def __post_init__(self) -> None:
        _require_choice(self, "weights", (True, False))
        _require_choice(self, "layout", get_args(Layout))
        _require_choice(self, "sparse_encoding", get_args(SparseEncoding))


class Converter(Protocol):
    """What a converter module offers: at least one of `read` and `write`, as its row says."""

    def read(self, path: Path, options: ReadOptions, losses: list[Loss]) -> Model:
        """The model in a file; what the file has and a Model has not is appended to `losses`."""

    def write(self, model: Model, path: Path, targets: Targets, options: WriteOptions) -> list[Loss]:
        """Writes a model through `targets` and returns what the format could not carry."""

    def from_object(self, value: Any, losses: list[Loss], **options: Any) -> Model:
        """The model of a live object of the row's `object_type`; options are those of `deepstruct.from_module`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One row of the table.

    Attributes:
        name: for ``--from`` and ``--to``.
        summary: one line.
        suffixes: of file names, the preferred one first.
        converter: module that has `read` and `write`.
        reads: whether it has a reader.
        writes: whether it has a writer.
        carries: features of a model that survive in this format.
        options: fields of `ReadOptions` and `WriteOptions` that it heeds.
        magic: byte strings that files may begin with.
        object_type: ``module:class`` of live objects that `from_object` takes, or ``""``.
        requires: import names of packages that the converter needs: the one to install, then what comes with it.
        extra: optional dependency group of deepstruct that installs them.
        specification: where the format is defined.
    """

    name: str
    summary: str
    suffixes: tuple[str, ...]
    converter: str
    reads: bool
    writes: bool
    carries: frozenset[Feature]
    options: frozenset[str] = frozenset()
    magic: tuple[bytes, ...] = ()
    object_type: str = ""
    requires: tuple[str, ...] = ()
    extra: str = ""
    specification: str = ""

    def load(self) -> Converter:
        """The converter module.

        Raises:
            MissingDependencyError: a package that it declares is not installed.
        """
        try:
            return cast(Converter, importlib.import_module(self.converter))
        except ModuleNotFoundError as error:
            if error.name in self.requires:
                raise MissingDependencyError(self.requires[0], self.extra, f"the format {self.name!r}") from error
            raise


_EVERYTHING: frozenset[Feature] = frozenset({"weights", "masks", "scopes", "attributes", "operators"})

BUILT_IN: tuple[Format, ...] = (
    Format(
        name="json",
        summary="deepstruct document, weights in a safetensors file beside it",
        suffixes=(".structure.json", ".json"),
        converter="deepstruct.converters.json",
        reads=True,
        writes=True,
        carries=_EVERYTHING,
        options=frozenset({"weights", "layout"}),
        magic=(b"{",),
        specification="docs/format.md",
    ),
    Format(
        name="onnx",
        summary="ONNX model, masked weights as sparse initializers",
        suffixes=(".onnx",),
        converter="deepstruct.converters.onnx",
        reads=True,
        writes=True,
        carries=_EVERYTHING,
        options=frozenset({"infer_masks", "sparse_encoding"}),
        requires=("onnx", "google"),
        extra="onnx",
        specification="https://onnx.ai/onnx/repo-docs/IR.html",
    ),
    Format(
        name="torch",
        summary="torch checkpoint or state_dict",
        suffixes=(".pt", ".pth", ".ckpt", ".bin"),
        converter="deepstruct.converters.torch",
        reads=True,
        writes=True,
        carries=_EVERYTHING,
        options=frozenset({"infer_masks", "trust_pickle", "activation"}),
        magic=(b"PK\x03\x04", b"\x80\x02"),
        object_type="torch.nn.modules.module:Module",
        requires=("torch",),
        extra="torch",
        specification="https://docs.pytorch.org/docs/stable/notes/serialization.html",
    ),
    Format(
        name="torch-export",
        summary="program that torch.export has saved",
        suffixes=(".pt2",),
        converter="deepstruct.converters.torch_programs",
        reads=True,
        writes=False,
        carries=_EVERYTHING,
        options=frozenset({"infer_masks", "trust_pickle"}),
        object_type="torch.export.exported_program:ExportedProgram",
        requires=("torch",),
        extra="torch",
        specification="https://docs.pytorch.org/docs/stable/export.html",
    ),
)


def table(plugins: Iterable[Format] = ()) -> Mapping[str, Format]:
    """Name -> row of the built-in formats and the given others.

    Raises:
        UsageError: two rows have one name.
    """
    rows: dict[str, Format] = {}
    for row in (*BUILT_IN, *plugins):
        if row.name in rows:
            raise UsageError(
                f"two converters call their format {row.name!r}: {rows[row.name].converter} and {row.converter}; "
                "uninstall one of them"
            )
        rows[row.name] = row
    return MappingProxyType(rows)


@cache
def installed() -> Mapping[str, Format]:
    """All formats, those of other installed packages included.

    Raises:
        UsageError: two rows have one name, or an entry point is no `Format`.
    """
    rows = []
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        row = entry.load()
        if not isinstance(row, Format):
            raise UsageError(f"the entry point {entry.name!r} of {ENTRY_POINTS} is {entry.value}, which is no Format")
        rows.append(row)
    return table(rows)


def by_name(name: str) -> Format:
    """The row called `name`.

    Raises:
        UnsupportedError: there is none.
    """
    row = table().get(name) or installed().get(name)
    if row is None:
        known = ", ".join(sorted(installed()))
        raise UnsupportedError(f"no format is called {name!r} (there are {known}){did_you_mean(name, installed())}")
    return row


def by_suffix(path: Path) -> Format | None:
    """The row with the longest suffix that a file name ends with, if there is one."""
    name = path.name.lower()
    matches = [(len(suffix), row) for row in installed().values() for suffix in row.suffixes if name.endswith(suffix)]
    return max(matches, key=lambda match: match[0])[1] if matches else None


def of_source(path: Path, name: str | None = None) -> Format:
    """The format to read a file with: as named, by its suffix, or by how it begins.

    Raises:
        UnsupportedError: it is unknown, or cannot be read.
        UnreadableFileError: the file cannot be opened.
    """
    row = by_suffix(path) if name is None else by_name(name)
    if row is None:
        start = files.read_bytes(path, 16).lstrip()
        row = next((r for r in installed().values() if any(start.startswith(m) for m in r.magic)), None)
    if row is None:
        raise UnsupportedError(f"{path}: unknown format; name it with --from ({', '.join(sorted(installed()))})")
    if not row.reads:
        raise UnsupportedError(f"{path}: deepstruct can write {row.name!r}, but not read it")
    return row


def of_target(path: Path, name: str | None = None) -> Format:
    """The format to write a file with: as named, or by its suffix.

    Raises:
        UnsupportedError: it is unknown, or cannot be written.
    """
    row = by_suffix(path) if name is None else by_name(name)
    if row is None:
        known = ", ".join(suffix for r in installed().values() if r.writes for suffix in r.suffixes)
        raise UnsupportedError(f"{path}: no format has this suffix; use one of {known}, or name it with --to")
    if not row.writes:
        raise UnsupportedError(f"{path}: deepstruct can read {row.name!r}, but not write it")
    return row


def of_object(value: object) -> Format:
    """The format whose converter turns a live object into a Model.

    Raises:
        UnsupportedError: there is none.
    """
    names = {f"{kind.__module__}:{kind.__qualname__}" for kind in type(value).__mro__}
    for row in installed().values():
        if row.object_type in names:
            return row
    raise UnsupportedError(
        f"a {type(value).__module__}.{type(value).__qualname__} is neither a deepstruct.Model nor an object that "
        "a converter knows, such as a torch module"
    )
