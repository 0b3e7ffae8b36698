"""Which documents the arguments of a command mean: files, folders, patterns, and standard input."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from deepstruct.errors import UnreadableFileError, UsageError
from deepstruct.printable import printable

SUFFIX = ".structure.json"


def expand(arguments: Iterable[str]) -> list[str]:
    """The files that arguments mean, each once, in the order of the arguments and within one sorted by path.

    - A folder means every ``*.structure.json`` in it and below, a pattern with ``*``, ``?`` or ``[...]`` every file
      that matches, where ``**`` is any number of folders. Hidden folders are left out unless they are named, and links
      to folders are not followed.
    - Anything else is taken as it is: an existing file, whatever characters its name has, ``-`` for standard input, and
      names of files that do not exist, so that reading them says so.

    Args:
        arguments: as they were typed.

    Raises:
        UsageError: there is nothing in a folder or nothing matches a pattern, or a link that was found leads out of the
            folder that was searched.
        UnreadableFileError: a folder cannot be listed.
    """
    found: dict[str, str] = {}
    for argument in arguments:
        for name in _expanded(argument):
            found.setdefault("-" if name == "-" else os.path.realpath(name), name)
    return list(found.values())


def _expanded(argument: str) -> list[str]:
    if argument == "-" or not argument:
        return [argument]
    if os.path.isdir(argument):
        root, parts = Path(argument), ["**", f"*{SUFFIX}"]
        missing = f"there is no *{SUFFIX} in this folder or below; name another folder, or the files"
    elif os.path.lexists(argument) or not re.search(r"[*?[]", argument):
        return [argument]
    else:
        root, parts = _split(argument)
        missing = "no file matches this pattern; correct it, or name the files"
    names = sorted(_matching(root, parts), key=lambda path: path.parts)
    if not names:
        raise UsageError(f"{printable(argument)}: {missing}")
    top = os.path.realpath(root)
    for path in names:
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(top):
            advice = f"is a link that leads out of {printable(str(root))}; to have it read, name it itself"
            raise UsageError(f"{printable(str(path))}: {advice}")
    return ["./-" if str(path) == "-" else str(path) for path in names]


def _split(pattern: str) -> tuple[Path, list[str]]:
    """The folder to search, and what the parts of the path below it must match."""
    parts = list(Path(pattern).parts)
    first = next(position for position, part in enumerate(parts) if re.search(r"[*?[]", part))
    return Path(*parts[:first]), parts[first:] + ["*"] * (parts[-1] == "**")


def _matching(root: Path, parts: Sequence[str]) -> Iterator[Path]:
    """Files below `root` that match; each entry of a folder is looked at once, however many ``**`` there are."""
    goal = len(parts)
    folders = [(root, _reached(parts, {0}))]
    while folders:
        folder, states = folders.pop()
        for entry in _entries(folder):
            is_folder = entry.is_dir(follow_symlinks=False)
            following = _reached(parts, set(_steps(parts, states, entry.name, is_folder)))
            if is_folder and following - {goal}:
                folders.append((folder / entry.name, following))
            elif not is_folder and goal in following and not os.path.isdir(entry.path):
                yield folder / entry.name


def _steps(parts: Sequence[str], states: set[int], name: str, is_folder: bool) -> Iterator[int]:
    """How many parts are matched with this name, for each number that was matched without."""
    hidden = is_folder and name.startswith(".")
    for state in states - {len(parts)}:
        part = parts[state]
        if part == "**":
            if is_folder and not hidden:
                yield state
        elif fnmatchcase(name, part) and (not hidden or part.startswith(".")):
            yield state + 1


def _reached(parts: Sequence[str], states: set[int]) -> set[int]:
    """`states`, and those behind each ``**``, which may stand for no folder at all."""
    found = set(states)
    for state in range(len(parts)):
        if state in found and parts[state] == "**":
            found.add(state + 1)
    return found


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UnreadableFileError(str(folder), f"the folder cannot be listed: {error.strerror or error}") from error
