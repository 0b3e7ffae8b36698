"""The commands that rewrite or show documents: format, migrate and textconv. The work is done elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

import click

from deepstruct.errors import DeepstructError, UsageError
from deepstruct.printable import printable
from deepstruct.running import say

_paths_argument = click.argument("paths", nargs=-1, required=True)


@click.command("format")
@_paths_argument
@click.option("--check", is_flag=True, help="Change nothing; exit 1 if a document would change.")
@click.option("--digests", is_flag=True, help="Replace wrong digests of documents and masks, after an edit by hand.")
@click.pass_context
def format_command(context: click.Context, paths: tuple[str, ...], check: bool, digests: bool) -> None:
    """Bring documents PATHS into canonical text, in place.

    PATHS are files, folders and patterns. Members get one order, each node, value and parameter a line of its own, so
    that a change is a line. Meaning, masks, digests and unknown members stay as they are. "-" formats standard input
    to standard output. A document with faults is left alone; the others are formatted, and the exit code is 3.
    """
    from deepstruct import document_files

    changed: list[str] = []
    names = document_files.expand(paths)

    def work(name: str) -> None:
        if _format(name, check, digests):
            changed.append(name)
            if check or name != "-":
                say(f"{'would format' if check else 'formatted'} {_shown(name)}")

    code = _each(names, work)
    if check and changed:
        say(f"{len(changed)} of {len(names)} {_plural(names)} would be formatted")
    elif not changed and not code and names != ["-"]:
        say(f"{len(names)} {_plural(names)} {'is' if len(names) == 1 else 'are'} canonical")
    context.exit(code or int(check and bool(changed)))


def _format(name: str, check: bool, digests: bool) -> bool:
    """Formats a file, or standard input to standard output; returns whether its text is, or was, another."""
    from deepstruct import rewriting, streams

    if name != "-":
        with streams.source(name) as path:
            return rewriting.format_file(path, write=not check, digests=digests)
    with streams.source(name) as copy:
        changed = rewriting.format_file(copy, write=True, digests=digests)
        if not check:
            sys.stdout.buffer.write(copy.read_bytes())
            sys.stdout.buffer.flush()
    return changed


@click.command()
@_paths_argument
@click.option("--check", is_flag=True, help="Change nothing; exit 1 if a document is of an older version.")
@click.pass_context
def migrate(context: click.Context, paths: tuple[str, ...], check: bool) -> None:
    """Bring documents PATHS to the current version, in place.

    PATHS are files, folders and patterns. A document is replaced only if its version changes. One with faults is left
    alone; the others are migrated, and the exit code is 3.
    """
    from deepstruct import document_files, migrations, rewriting, streams

    if "-" in paths:
        raise UsageError("migrate works in place: name a file")
    outdated: list[str] = []

    def work(name: str) -> None:
        with streams.source(name) as path:
            before, after = rewriting.migrate(path, write=not check)
        if before != after:
            outdated.append(name)
        state = f"{before}, current" if before == after else f"{before} -> {after}" + (" needed" if check else "")
        say(f"{_shown(name)}: {state}")

    code = _each(document_files.expand(paths), work)
    say(f"current version: {migrations.CURRENT}")
    context.exit(code or int(check and bool(outdated)))


@click.command()
@click.argument("path")
def textconv(path: str) -> None:
    r"""Show the document PATH as text, a line for each thing that can change.

    \b
    For readable diffs in git, write into .gitattributes
        *.structure.json diff=deepstruct
    and run once
        git config diff.deepstruct.textconv "deepstruct textconv"

    Masks are shown row by row, as ranges of the columns that exist. A file that is no valid document is shown as it
    is, behind what is wrong with it. "-" is standard input.
    """
    from deepstruct import streams
    from deepstruct.textconv import textconv as convert

    with streams.source(path) as readable:
        for piece in convert(readable):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def _each(names: Iterable[str], work: Callable[[str], None]) -> int:
    """Does the work on every file, says what is wrong with some; returns the exit code of the first error, or 0."""
    code = 0
    for name in names:
        try:
            work(name)
        except DeepstructError as error:
            say(f"error: {error}")
            code = code or error.exit_code
    return code


def _shown(name: str) -> str:
    return "standard input" if name == "-" else printable(name)


def _plural(names: list[str]) -> str:
    return "document" if len(names) == 1 else "documents"
