"""Fail if a schema changed by more than its version number says, or if a released schema file changed at all.

`schema_changes.py` finds the step that a change asks for. `docs/format.md` can ask for more than its schema shows, so a
larger step than the one found is fine.

Files are called `<family>-X.Y.Z.json`. Those with `-strict` are generated from the others, so they are not compared.
`released.json` has the SHA-256 of each released file, `--release structure-1.0.0` adds those of a version.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from schema_changes import Level, required_bump
from semantic_version import Version

FOLDER = Path(__file__).resolve().parent.parent / "schemas"
TABLE = "released.json"

_FILE = re.compile(r"(?P<family>[a-z][a-z-]*)-(?P<version>[0-9]+\.[0-9]+\.[0-9]+)(-strict)?\.json")


def families(folder: Path) -> dict[str, dict[Version, list[str]]]:
    """Family -> version, oldest first -> names of its files."""
    found: dict[str, dict[Version, list[str]]] = {}
    for path in sorted(folder.iterdir()):
        if match := _FILE.fullmatch(path.name):
            versions = found.setdefault(match["family"], {})
            versions.setdefault(Version(match["version"]), []).append(path.name)
    return {family: dict(sorted(versions.items())) for family, versions in sorted(found.items())}


def step(old: Version, new: Version) -> Level | None:
    """How large a step is; None if versions are left out or not reset."""
    steps = {old.next_patch(): Level.PATCH, old.next_minor(): Level.MINOR, old.next_major(): Level.MAJOR}
    return steps.get(new)


def released(folder: Path) -> dict[str, str]:
    """Name of each released file -> SHA-256.

    Raises:
        ValueError: the table is something else.
    """
    table = _json(folder / TABLE)
    if not isinstance(table, dict):
        raise ValueError(f"{TABLE} must be an object")  # noqa: TRY004 - of the file, not of a caller
    for name, digest in table.items():
        if not _FILE.fullmatch(name) or not re.fullmatch("[0-9a-f]{64}", str(digest)):
            raise ValueError(f"{TABLE}: {name!r:.60} is no schema file with a SHA-256")
    return table


def frozen_faults(folder: Path, table: dict[str, str]) -> Iterator[str]:
    """Released files that changed, and files that are not released although a newer version is there."""
    for name, expected in table.items():
        if not (folder / name).is_file():
            yield f"{name} is released and missing: restore it"
        elif _sha256(folder / name) != expected:
            yield f"{name} is released and changed: restore it, and make a new version instead"
    for family, versions in families(folder).items():
        newest = max(versions)
        for version, names in versions.items():
            missing = [name for name in names if name not in table]
            if missing and (version != newest or len(missing) < len(names)):
                yield f"{' and '.join(missing)} is not in {TABLE}, and {family} {version} is no unreleased version"


def step_faults(folder: Path) -> Iterator[str]:
    """Steps between consecutive versions that are smaller than what changed."""
    for family, versions in families(folder).items():
        for before, after in pairwise(versions):
            taken = step(before, after)
            if taken is None:
                yield f"{family} {after} does not follow {before}: next is a patch, a minor or a major version"
                continue
            old, new = (_json(folder / f"{family}-{version}.json") for version in (before, after))
            bump = required_bump(old, new)
            print(f"{family} {before} -> {after}: {taken.name}; what changed asks for {bump.level.name}")
            for reason in bump.reasons:
                print(f"  {reason.level.name} {reason.pointer or '(root)'}: {reason.message}")
            if bump.level > taken:
                yield f"{family} {after} is a {taken.name} version, but changes since {before} are {bump.level.name}"


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name} is no JSON file that can be read: {error}") from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def freeze(folder: Path, release: str, table: dict[str, str]) -> list[str]:
    """Adds the files of a version, such as ``structure-1.0.0``, to the table; returns their names.

    Raises:
        ValueError: there is none, or it is released already.
    """
    names = [name for name in (f"{release}.json", f"{release}-strict.json") if (folder / name).is_file()]
    if not names or not _FILE.fullmatch(names[0]):
        raise ValueError(f"there is no schema {release} in {folder}")
    if names[0] in table:
        raise ValueError(f"{release} is released already")
    table = {**table, **{name: _sha256(folder / name) for name in names}}
    (folder / TABLE).write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a folder of schemas, and release a version if told so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="of the schemas")
    parser.add_argument("--release", metavar="FAMILY-X.Y.Z", help="add the files of this version to the released ones")
    options = parser.parse_args(arguments)
    try:
        table = released(options.folder)
        faults: Iterable[str] = [*frozen_faults(options.folder, table), *step_faults(options.folder)]
        if options.release and not faults:
            print(f"released {' and '.join(freeze(options.folder, options.release, table))}")
    except (OSError, ValueError) as error:
        faults = [str(error)]
    for fault in faults:
        print(f"error: {fault}")
    if not faults:
        print(f"{options.folder.name}: versions and released files are in order")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
