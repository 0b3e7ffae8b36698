"""Versions of the document: what this package reads and writes, and the steps from older versions to newer ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from packaging.version import Version

from deepstruct.errors import DocumentError, Fault

CURRENT = Version("1.0.0")

Step = tuple[str, str, Callable[[dict[str, Any]], dict[str, Any]]]

STEPS: tuple[Step, ...] = ()
"""(from version, to version, pure function document -> document), oldest first; 1.0.0 is the first version."""

Addition = tuple[str, Callable[[dict[str, Any]], bool]]

ADDITIONS: tuple[Addition, ...] = ()
"""(minor version of the current major, whether a document has a member that it added), oldest first."""


def check(document: dict[str, Any]) -> list[Fault]:
    """What the version fields of a document mean for this reader: errors, or a warning, or nothing.

    The patch number is editorial and ignored (`docs/format.md`, "Versions").
    """
    version, faults = _parse(document, "version")
    if version is None:
        return faults
    if version.major != CURRENT.major:
        message = f"document version {version}, but this reader knows {CURRENT.major}.x only"
        advice = "update deepstruct" if version > CURRENT else "run `deepstruct migrate` of an older deepstruct"
        return [Fault("UNKNOWN_MAJOR_VERSION", "/version", f"{message}; {advice}")]
    if "min_version" in document:
        least, faults = _parse(document, "min_version")
        if least is None:
            return faults
        if least.major != version.major:
            message = f"min_version {least} must have the major number of version {version}"
            return [Fault("INVALID_VERSION", "/min_version", message)]
        if least > version:
            message = f"min_version {least} is above version {version}"
            return [Fault("MIN_VERSION_ABOVE_VERSION", "/min_version", message)]
        if is_newer(least):
            message = f"the document needs a reader of version {least}, this one is {CURRENT}; update deepstruct"
            return [Fault("UNSUPPORTED_MIN_VERSION", "/min_version", message)]
    if is_newer(version):
        message = f"version {version} is newer than {CURRENT}; what is unknown is kept but not understood"
        return [Fault("UNKNOWN_MINOR_VERSION", "/version", message, "warning")]
    return []


def is_newer(version: Version) -> bool:
    """Whether a version has a newer minor than this package, so that fields may be unknown."""
    return _minor(version) > _minor(CURRENT)


def _minor(version: Version) -> tuple[int, int]:
    return version.major, version.minor


def lowest(document: dict[str, Any]) -> str:
    """The lowest version that can hold a document of the current version; its own version fields do not count."""
    versions = [f"{CURRENT.major}.0.0", *(version for version, has_any in ADDITIONS if has_any(document))]
    return versions[-1]


def migrate(
    document: dict[str, Any],
    steps: Sequence[Step] = STEPS,
    current: Version = CURRENT,
) -> dict[str, Any]:
    """The document in version `current`, one step after the other; the argument is not changed.

    A document of the current or a newer version is returned as it is.

    Raises:
        DocumentError: the version is malformed or no step leads on from it.
    """
    version, faults = _parse(document, "version")
    if version is None:
        raise DocumentError("document", faults)
    by_origin = {origin: (target, step) for origin, target, step in steps}
    while _minor(version) < _minor(current):
        origin = f"{version.major}.{version.minor}.0"
        if origin not in by_origin:
            message = f"there is no migration from version {version} to {current}"
            raise DocumentError("document", [Fault("UNKNOWN_MAJOR_VERSION", "/version", message)])
        target, step = by_origin[origin]
        document = {**step(document), "version": target}
        version = Version(target)
    return document


def _parse(document: dict[str, Any], key: str) -> tuple[Version | None, list[Fault]]:
    text = document.get(key)
    if not isinstance(text, str):
        return None, [Fault("TYPE_MISMATCH", f"/{key}", f"must be a SemVer string such as {str(CURRENT)!r}")]
    number = r"(0|[1-9][0-9]{0,8})"
    if not re.fullmatch(rf"{number}\.{number}\.{number}", text):
        return None, [Fault("INVALID_VERSION", f"/{key}", f"{text!r:.40} is not a version MAJOR.MINOR.PATCH")]
    return Version(text), []
