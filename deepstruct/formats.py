"""The table of formats: what each is called, how it is recognised, which converter reads and writes it.

Built-in rows stand here; other packages add rows through the entry-point group ``deepstruct.formats``, each a
`Format` object. Nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from deepstruct import files, recognition
from deepstruct.errors import MissingDependencyError, UnsupportedError, UsageError, did_you_mean
from deepstruct.losses import Loss
from deepstruct.options import ReadOptions, WriteOptions

if TYPE_CHECKING:
    from deepstruct.files import Targets
    from deepstruct.ledger import LedgerEntry
    from deepstruct.model import Model

__all__ = [
    "BUILT_IN",
    "ENTRY_POINTS",
    "Converter",
    "Feature",
    "Format",
    "ReadOptions",
    "WriteOptions",
    "by_name",
    "by_suffix",
    "installed",
    "of_object",
    "of_source",
    "of_target",
    "table",
]

ENTRY_POINTS = "deepstruct.formats"

Feature = Literal["weights", "masks", "scopes", "attributes", "operators"]


class Converter(Protocol):
    """What a converter module offers: at least one of `read` and `write`, as its row says."""

    def read(self, path: Path, options: ReadOptions, losses: list[Loss]) -> Model:
        """The model in a file; what the file has and a Model has not is appended to `losses`."""

    def write(self, model: Model, path: Path, targets: Targets, options: WriteOptions) -> list[Loss]:
        """Writes a model through `targets` and returns what the format could not carry."""

    def ledger(self, path: Path, options: ReadOptions) -> tuple[LedgerEntry, ...]:
        """What each tensor of a file takes, and would take in each encoding of the format."""

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
        recognises: whether a file is of this format, from its first bytes (`deepstruct.recognition.WINDOW`), where
            other formats share the suffix or the magic.
        ledger: whether its files have several encodings of a tensor, and the converter a `ledger` of them.
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
    recognises: Callable[[bytes], bool] | None = None
    ledger: bool = False
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
_OF_GRAPHS = frozenset(
    {"in_features", "out_features", "orientation", "init", "seed", "order", "depth", "input_shapes", "unknown"}
)

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
        summary="ONNX model, masked weights in the smallest of several encodings",
        suffixes=(".onnx",),
        converter="deepstruct.converters.onnx",
        reads=True,
        writes=True,
        carries=_EVERYTHING,
        options=frozenset({"infer_masks", "sparse_encoding", "opset", "ir_version", "external_data"}),
        ledger=True,
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
    Format(
        name="graphml",
        summary="GraphML of a networkx graph",
        suffixes=(".graphml",),
        converter="deepstruct.converters.graphml",
        reads=True,
        writes=True,
        carries=_EVERYTHING - {"weights"},
        options=_OF_GRAPHS,
        magic=(b"<",),
        recognises=recognition.is_graphml,
        specification="http://graphml.graphdrawing.org/specification.html",
    ),
    Format(
        name="gexf",
        summary="GEXF of a networkx graph",
        suffixes=(".gexf",),
        converter="deepstruct.converters.gexf",
        reads=True,
        writes=True,
        carries=_EVERYTHING - {"weights"},
        options=_OF_GRAPHS,
        magic=(b"<",),
        recognises=recognition.is_gexf,
        specification="https://gexf.net/schema.html",
    ),
    Format(
        name="gml",
        summary="GML of a networkx graph",
        suffixes=(".gml",),
        converter="deepstruct.converters.gml",
        reads=True,
        writes=True,
        carries=_EVERYTHING - {"weights"},
        options=_OF_GRAPHS,
        specification="https://networkx.org/documentation/stable/reference/readwrite/gml.html",
    ),
    Format(
        name="node-link",
        summary="node-link JSON of a networkx graph",
        suffixes=(".node-link.json", ".json"),
        converter="deepstruct.converters.node_link",
        reads=True,
        writes=True,
        carries=_EVERYTHING - {"weights"},
        options=_OF_GRAPHS,
        magic=(b"{",),
        recognises=recognition.is_node_link,
        specification="https://networkx.org/documentation/stable/reference/readwrite/json_graph.html",
    ),
    Format(
        name="adjacency-list",
        summary="targets of each vertex of a graph, one vertex a line",
        suffixes=(".adjlist",),
        converter="deepstruct.converters.adjacency_list",
        reads=True,
        writes=True,
        carries=frozenset(),
        options=_OF_GRAPHS,
        specification="https://networkx.org/documentation/stable/reference/readwrite/adjlist.html",
    ),
    Format(
        name="edge-list",
        summary="edges of a graph, one a line",
        suffixes=(".edgelist",),
        converter="deepstruct.converters.edge_list",
        reads=True,
        writes=True,
        carries=frozenset(),
        options=_OF_GRAPHS,
        specification="https://networkx.org/documentation/stable/reference/readwrite/edgelist.html",
    ),
    Format(
        name="npz",
        summary="sparse adjacency matrix of scipy",
        suffixes=(".npz",),
        converter="deepstruct.converters.npz",
        reads=True,
        writes=True,
        carries=frozenset(),
        options=_OF_GRAPHS,
        magic=(b"PK\x03\x04",),
        recognises=recognition.is_npz,
        requires=("scipy",),
        extra="graph",
        specification="https://docs.scipy.org/doc/scipy/reference/generated/scipy.sparse.save_npz.html",
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
        UsageError: two rows have one name, or an entry point cannot be imported or is no `Format`.
    """
    rows = []
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            row = entry.load()
        except Exception as error:  # whatever happens when another package is imported
            package = entry.dist.name if entry.dist else "a package"
            raise UsageError(
                f"the format {entry.name!r} of {package} cannot be loaded: {entry.value} raises "
                f"{type(error).__name__}: {error}; repair or uninstall it"
            ) from error
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
    """The first row with the longest suffix that a file name ends with, if there is one."""
    return next(iter(_by_suffix(path)), None)


def _by_suffix(path: Path) -> list[Format]:
    name = path.name.lower()
    matches = [(len(suffix), row) for row in installed().values() for suffix in row.suffixes if name.endswith(suffix)]
    longest = max((length for length, _ in matches), default=0)
    return [row for length, row in matches if length == longest]


def _by_content(path: Path) -> Format | None:
    """The row that recognises a file, else the first one whose magic it begins with and that recognises nothing."""
    start = _start(path)
    rows = [row for row in installed().values() if any(start.lstrip().startswith(magic) for magic in row.magic)]
    others = (row for row in rows if row.recognises is None)
    return next((row for row in rows if row.recognises and row.recognises(start)), next(others, None))


def _start(path: Path) -> bytes:
    return files.read_bytes(path, recognition.WINDOW)


def of_source(path: Path, name: str | None = None) -> Format:
    """The format to read a file with: as named, by its suffix, or by how it begins.

    Where formats share a suffix, the one that recognises the file, else the first.

    Raises:
        UnsupportedError: it is unknown, or cannot be read.
        UnreadableFileError: the file cannot be opened.
    """
    if name is not None:
        row: Format | None = by_name(name)
    else:
        rows = _by_suffix(path)
        row = rows[0] if rows else _by_content(path)
        if len(rows) > 1:
            start = _start(path)
            row = next((other for other in rows if other.recognises and other.recognises(start)), row)
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
        suffixes = dict.fromkeys(suffix for r in installed().values() if r.writes for suffix in r.suffixes)
        known = ", ".join(suffixes)
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
