"""Rewrite documents in place without going through the hub, so that everything unknown stays as it is."""

from __future__ import annotations

from pathlib import Path

from deepstruct import document, jsonprofile, migrations
from deepstruct.errors import DocumentError
from deepstruct.files import Targets
from deepstruct.limits import Limits


def migrate(path: Path, *, write: bool) -> tuple[str, str]:
    """Brings a document to the current version.

    Args:
        path: of the document, which is replaced if its version changes.
        write: replace it; otherwise only say what would happen.

    Returns:
        The version before and after.

    Raises:
        DocumentError: it is no valid document, or no migration leads on from its version.
        UnreadableFileError: the operating system does not let us read it.
    """
    limits = Limits.from_environment()
    try:
        before = jsonprofile.read(path, limits)
        document.from_json(before, limits)
        after = migrations.migrate(before)
    except DocumentError as error:
        raise DocumentError(str(path), error.faults) from error
    if write and after is not before:
        with Targets(overwrite=True) as targets:
            jsonprofile.write(targets.open(path), after)
    return before["version"], after["version"]
