"""Whether a certificate belongs to two files, and certifies that they hold the same network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepstruct import formats
from deepstruct.verification import certificate
from deepstruct.verification.subjects import digest_of, subject


def faults(path: Path, a: Path, b: Path) -> list[str]:
    """What is wrong, in sentences; nothing if the certificate holds.

    Args:
        path: of the certificate.
        a: the first file.
        b: the second.

    Raises:
        MalformedFileError: it is no certificate, or was changed.
        FileError: one of the files cannot be read.
    """
    content = certificate.load(path)
    found = []
    for side, place, other in (("a", a, "b"), ("b", b, "a")):
        file = digest_of(place)
        expected = content[side]["files"][0]
        if file.sha256 != expected["sha256"]:
            swapped = file.sha256 == content[other]["files"][0]["sha256"]
            found.append(_fault(place, file, expected) + (", but the other one" if swapped else ""))
            continue
        row = formats.of_source(place, content[side]["format"])
        parts = subject(place, row).files
        if row.name != content[side]["format"] or len(parts) != len(content[side]["files"]):
            found.append(f"{place}: the certificate lists other files than those that it consists of")
            continue
        entries = zip(content[side]["files"], parts, strict=True)
        found += [_fault(place, part, entry) for entry, part in entries if entry["sha256"] != part.sha256]
    failed = [name for name, tier in content["tiers"].items() if tier["verdict"] == "failed"]
    if content["verdict"] == "equivalent" and (failed or "identity" not in content["tiers"]):
        found.append(f"{path}: the verdict of this certificate does not follow from its tiers")
    if content["verdict"] != "equivalent":
        found.append(f"{path}: the verdict of this certificate is {content['verdict']!r}")
    return found


def _fault(place: Path, file: certificate.FileDigest, expected: Mapping[str, Any]) -> str:
    name = place.with_name(file.name)
    digests = f"SHA-256 {file.sha256[:12]}... instead of {expected['sha256'][:12]}..."
    return f"{name}: is not the file {expected['name']} that was certified ({digests})"
