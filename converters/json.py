"""The deepstruct document: JSON text, weights in a safetensors file beside it (`docs/format.md`)."""

from __future__ import annotations

import warnings
from pathlib import Path

from deepstruct import document, files, jsonprofile, sidecar
from deepstruct.errors import (
    DeepstructError,
    DocumentError,
    DocumentWarning,
    UnreadableFileError,
    UnsupportedError,
    UsageError,
)
from deepstruct.files import Targets
from deepstruct.formats import ReadOptions, WriteOptions
from deepstruct.limits import Limits, variable
from deepstruct.losses import Loss
from deepstruct.model import Model


def read(path: Path, options: ReadOptions, losses: list[Loss]) -> Model:  # noqa: ARG001 - nothing is lost
    """The model of a document.

    Raises:
        DocumentError: the document breaks a rule.
        MalformedFileError: its weights file is missing, elsewhere, or another model's.
    """
    try:
        reading = document.from_json(jsonprofile.read(path, options.limits), options.limits)
    except DocumentError as error:
        raise DocumentError(str(path), error.faults) from error
    if reading.warnings:
        first, *others = reading.warnings
        more = f" (and {len(others)} more warnings: see deepstruct validate)" if others else ""
        warnings.warn(f"{path}: {first}{more}", DocumentWarning, stacklevel=2)
    if reading.weights is None or not options.weights:
        return Model(reading.structure)
    place = files.beside(path, reading.weights.uri, "weights.uri")
    try:
        weights = sidecar.read(place, reading.structure, reading.weights.layout, reading.weights.digest)
    except UnreadableFileError as error:
        reason = f"{error.reason}; {path.name} keeps its weights there, and --no-weights reads without them"
        raise UnreadableFileError(error.path, reason) from error
    return Model(reading.structure, weights)


def write(model: Model, path: Path, targets: Targets, options: WriteOptions) -> list[Loss]:
    """Writes the document and, if there are weights, the safetensors file beside it."""
    reference = None
    file = targets.open(path)
    if model.weights is not None:
        place = weights_path(path)
        if place.exists() and weights_uri(path) != place.name:
            raise UsageError(
                f"{place}: exists and is not the weights file of a document {path.name}, so it is not overwritten; "
                "move it, or call the document otherwise"
            )
        digest = sidecar.write(targets.open(place), model, options.layout, options.progress)
        reference = document.WeightsReference(uri=place.name, layout=options.layout, digest=digest)
    written = document.to_json(model.structure, reference)
    limits = Limits.from_environment()
    claims = {
        "depth": (jsonprofile.depth(written), "levels of nesting"),
        "values": (jsonprofile.write(file, written), "values"),
    }
    for name, (found, unit) in claims.items():
        if found > getattr(limits, name):
            message = f"the document would have {found} {unit}, and readers accept {getattr(limits, name)}"
            raise UnsupportedError(f"{path}: {message}; with {variable(name)} set higher for both, they do")
    return document.unplaced(model.structure) if reference is None else []


def weights_uri(path: Path) -> str | None:
    """The name of the weights file that an existing document refers to, or None."""
    try:
        uri = jsonprofile.read(path, Limits.from_environment())["weights"]["uri"]
    except (DeepstructError, LookupError, TypeError):
        return None
    return uri if isinstance(uri, str) else None


def weights_path(path: Path) -> Path:
    """Where the weights of a document go: ``net.structure.json`` has ``net.safetensors`` beside it."""
    stem = path.name
    for suffix in (".json", ".structure"):
        stem = stem.removesuffix(suffix)
    return path.with_name(f"{stem or 'weights'}.safetensors")
