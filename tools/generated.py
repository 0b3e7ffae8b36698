"""Files that are generated and committed: written, or with `--check` compared with what would be written."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path


def main(description: str | None, files: Mapping[Path, Callable[[], str]]) -> int:
    """Writes or checks files; returns the exit code.

    Args:
        description: of the script, for its help.
        files: path -> what makes its content.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="compare with what is committed; exit 1 on a difference")
    check = parser.parse_args().check
    status = 0
    for path, make in files.items():
        if check:
            same = path.exists() and path.read_text(encoding="utf-8") == make()
            print(f"{path.name} is {'up to date' if same else 'out of date: run this script without --check'}")
            status |= not same
        else:
            path.write_text(make(), encoding="utf-8")
            print(f"wrote {path}")
    return status
