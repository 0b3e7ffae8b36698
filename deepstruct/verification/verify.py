"""verify: files -> models -> what corresponds -> four tiers -> certificate."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepstruct import files, formats, io
from deepstruct.errors import FaultyError, MissingDependencyError, UsageError
from deepstruct.formats import Format
from deepstruct.model import Model
from deepstruct.verification.certificate import Certificate, Subject
from deepstruct.version import __version__

if TYPE_CHECKING:
    from deepstruct.verification.sides import NotCertifiableError
    from deepstruct.verification.verdict import Evidence

_PACKAGES = ("ml_dtypes", "numpy", "onnx", "onnxruntime", "torch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a verification may be told.

    Attributes:
        seed: of the random inputs.
        rows: extent of the batch, where it is open, of the inputs that the operations are computed on.
        scale: standard deviation of the random inputs.
        cast: dtype to which the second model's numbers have been rounded, None if to none.
        by_position: match graph inputs and outputs by position, whatever they are called.
        shapes: name of a graph input -> extents, where they are open.
        inputs: numpy archive with further inputs to compute on.
    """

    seed: int = 0
    rows: int = 8
    scale: float = 1.0
    cast: str | None = None
    by_position: bool = False
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    inputs: Path | None = None

    def __post_init__(self) -> None:
        from deepstruct.verification.casting import CASTS

        if type(self.seed) is not int or not 0 <= self.seed < 2**53:
            raise UsageError(f"seed must be an integer from 0 to 2^53 - 1, not {self.seed!r:.60}")
        if type(self.rows) is not int or not 1 <= self.rows <= 4096:
            raise UsageError(f"rows must be an integer from 1 to 4096, not {self.rows!r:.60}")
        if not isinstance(self.scale, (int, float)) or not 0 < self.scale <= 1e30:
            raise UsageError(f"scale must be a number above 0 and at most 1e30, not {self.scale!r:.60}")
        if any(extent >= 2**53 for extents in self.shapes.values() for extent in extents):
            raise UsageError("--input-shape: an extent must be below 2^53")
        if self.cast is not None and self.cast not in CASTS:
            raise UsageError(f"unknown cast {self.cast!r:.60}; choose from {', '.join(CASTS)}")


@dataclass(frozen=True)
class Source:
    """One of the two files, read.

    Attributes:
        path: of the file.
        row: its format.
        model: what it holds, rounded if a cast was declared.
        trust_pickle: its code may run.
        is_cast: the model is no longer what the file itself computes.
    """

    path: Path
    row: Format
    model: Model
    trust_pickle: bool = False
    is_cast: bool = False


def verify(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    format_a: str | None = None,
    format_b: str | None = None,
    repro: str | os.PathLike[str] | None = None,
    seed: int = 0,
    rows: int = 8,
    scale: float = 1.0,
    cast: str | None = None,
    by_position: bool = False,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    inputs: str | os.PathLike[str] | None = None,
    **reading: Any,
) -> Certificate:
    """Finds out whether two files hold the same network, and gives the evidence.

    Args:
        a: the first file: a torch checkpoint, a document, an ONNX file, or any other format.
        b: the second file.
        format_a: name of the first one's format, else told from suffix and content.
        format_b: likewise, of the second.
        repro: folder that gets the smallest models and input that show a difference, if there is one.
        seed: of the random inputs.
        rows: extent of the batch, where it is open, of the inputs that operations are computed on.
        scale: standard deviation of the random inputs.
        cast: dtype to which the second file's numbers are declared to have been rounded.
        by_position: match graph inputs and outputs by position, whatever they are called.
        input_shapes: name of a graph input -> extents, where the structures leave them open.
        inputs: numpy archive with further inputs to compute on, an array for each graph input.
        reading: fields of `deepstruct.formats.ReadOptions`; each goes to those of the two formats that know it.

    Raises:
        UsageError: an argument means nothing.
        MissingDependencyError: torch, onnx or onnxruntime is not installed.
        DeepstructError: a file cannot be read.
    """
    options = Options(
        seed=seed,
        rows=rows,
        scale=float(scale),
        cast=cast,
        by_position=by_position,
        shapes={name: tuple(extents) for name, extents in (input_shapes or {}).items()},
        inputs=None if inputs is None else Path(inputs),
    )
    return certify(Path(a), Path(b), format_a, format_b, reading, options, None if repro is None else Path(repro))


def certify(
    a: Path,
    b: Path,
    format_a: str | None = None,
    format_b: str | None = None,
    reading: Mapping[str, Any] | None = None,
    options: Options | None = None,
    repro: Path | None = None,
) -> Certificate:
    """`verify` with its options in one piece."""
    options = Options() if options is None else options
    _require_packages()
    if repro is not None:
        from deepstruct.verification.repro import require_empty

        require_empty(repro)
    from deepstruct.verification import evidence
    from deepstruct.verification.sides import NotCertifiableError
    from deepstruct.verification.subjects import subject

    rows = formats.of_source(a, format_a), formats.of_source(b, format_b)
    _require_known(reading or {}, rows)
    sources = [_read(path, row, reading or {}) for path, row in zip((a, b), rows, strict=True)]
    subjects = [subject(source.path, source.row, source.model) for source in sources]
    if options.cast is not None:
        from deepstruct.verification.casting import cast

        model = cast(sources[0].model, options.cast, sources[1].model.structure)
        sources[0] = Source(a, rows[0], model, sources[0].trust_pickle, True)
    try:
        found: Evidence | NotCertifiableError = evidence.gather(sources[0], sources[1], options)
    except NotCertifiableError as error:
        found = error
    except MemoryError:
        found = NotCertifiableError("there is not enough memory to run both files; --input-shape gives smaller extents")
    certificate = _certificate(found, subjects, options)
    if repro is not None and certificate.verdict == "different" and not isinstance(found, Exception):
        _reproduce(repro, sources, found, options)
    if repro is not None and not any(repro.iterdir()):
        repro.rmdir()
    return certificate


def _reproduce(folder: Path, sources: Sequence[Source], found: Evidence, options: Options) -> None:
    """Writes the smallest models and input that show the difference."""
    from deepstruct.verification import evidence
    from deepstruct.verification import repro as reproduction
    from deepstruct.verification.sides import NotCertifiableError

    def cases() -> Iterator[reproduction.Case]:
        first = found.first_difference()
        step = reproduction.step_of(found.alignment, first.a, first.b) if first is not None else None
        if step is not None and found.inputs:
            a, b = evidence.sides(sources[0], sources[1], found.alignment)
            with contextlib.suppress(NotCertifiableError, FaultyError):
                values = dict(found.inputs)
                for name in step.a.inputs:
                    if name and not a.is_leaf(name):
                        a.supply(name, values)
                unit = None
                if first is not None and first.connections:
                    unit = reproduction.unit_of(step, first.parameter, first.connections[0]["index"])
                yield from reproduction.of_step(step, a, b, values, unit)
        yield reproduction.Case(sources[0].model, sources[1].model, found.inputs, "Both models as they are.")

    def shows(a: Path, b: Path, inputs: Path) -> bool:
        again = Options(seed=options.seed, by_position=True, inputs=inputs if found.inputs else None)
        return certify(a, b, options=again).verdict == "different"

    suffixes = tuple(source.row.suffixes[0] for source in sources)
    reproduction.write(folder, cases(), (suffixes[0], suffixes[1]), shows)


def _require_packages() -> None:
    for package in ("torch", "onnx", "onnxruntime"):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            extra = "torch" if package == "torch" else "onnx"
            raise MissingDependencyError(package, extra, "verification") from None


def _require_known(reading: Mapping[str, Any], rows: Sequence[Format]) -> None:
    """Makes sure that one of the two formats knows each option that is given."""
    usual = formats.ReadOptions()
    for name, value in reading.items():
        known = name in ("limits", "weights") or any(name in row.options for row in rows)
        if not known and value != getattr(usual, name, None):
            formats_given = " and ".join(dict.fromkeys(row.name for row in rows))
            raise UsageError(f"--{name.replace('_', '-')} means nothing for the formats {formats_given}")


def _read(path: Path, row: Format, reading: Mapping[str, Any]) -> Source:
    known = {name: value for name, value in reading.items() if name in (*row.options, "limits")}
    model = io.load(path, format=row.name, losses=[], **known)
    return Source(path, row, model, bool(known.get("trust_pickle")))


def _certificate(found: Evidence | NotCertifiableError, subjects: Sequence[Subject], options: Options) -> Certificate:
    settings = {**asdict(options), "inputs": None}
    del settings["inputs"]
    if options.inputs is not None:
        settings["inputs"] = hashlib.sha256(files.read_bytes(options.inputs)).hexdigest()
    versions = {"deepstruct": __version__, **{name: importlib.metadata.version(name) for name in _PACKAGES}}
    a, b = subjects
    if isinstance(found, Exception):
        return Certificate("not certifiable", tuple(map(str, found.args)), a, b, settings, versions)
    verdict, reasons = found.verdict()
    return Certificate(verdict, reasons, a, b, settings, versions, found.tiers(), found.first_difference())
