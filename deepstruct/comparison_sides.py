"""Each of the two that `deepstruct diff` compares, in a few figures: densities, dead units, bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deepstruct import comparison, files, formats, jsonprofile
from deepstruct.errors import DeepstructError, MissingDependencyError, UnsupportedError
from deepstruct.limits import Limits
from deepstruct.structure import Structure


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared.

    Effective density and dead units are those of channels, as ``deepstruct analyze --order 1`` has them.

    Attributes:
        name: of the file, as it was given.
        density: share of the entries of parameters with connections that exist, None without entries.
        effective_density: share of those that are on a path from an input to an output too; None if not known.
        units: of all layers; None if not known.
        dead_units: those that are on no such path; None if not known.
        note: why something is not known, ``""`` if all is.
        file_bytes: size of the file.
        weights_bytes: size of the weights file that a document refers to, None if there is none.
    """

    name: str
    density: float | None
    effective_density: float | None
    units: int | None
    dead_units: int | None
    note: str
    file_bytes: int
    weights_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        """The figures as a JSON object."""
        return asdict(self)


def side(name: str, structure: Structure, path: Path) -> Side:
    """A structure and the file in which it is.

    Args:
        name: of the file, as it was given.
        structure: in it.
        path: where it is.
    """
    from deepstruct.analysis import analyse

    sizes = path.stat().st_size, _weights_bytes(path)
    try:
        whole = analyse(structure, order=1, measures=()).whole
    except (MissingDependencyError, UnsupportedError) as error:
        return Side(name, comparison.density(structure.parameters), None, None, None, str(error), *sizes)
    density = whole.density.density, whole.density.effective_density
    return Side(name, *density, whole.units, whole.dead, "", *sizes)


def _weights_bytes(path: Path) -> int | None:
    if formats.of_source(path, None).name != "json":
        return None
    try:
        uri = jsonprofile.read(path, Limits.from_environment())["weights"]["uri"]
        return files.beside(path, uri, "weights.uri").stat().st_size
    except (DeepstructError, KeyError, OSError):
        return None
