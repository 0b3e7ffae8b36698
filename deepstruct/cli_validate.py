"""The commands validate and explain: their arguments and what they print. The work is done in `validation`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from deepstruct.errors import Severity, UsageError
from deepstruct.running import say

if TYPE_CHECKING:
    from deepstruct.validation.codes import Code
    from deepstruct.validation.report import FileReport

FORMS = ("text", "json", "github", "sarif", "gitlab", "junit")


def _severities(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, Severity]:
    chosen = {}
    for text in given:
        code, equals, level = text.partition("=")
        if not equals:
            raise UsageError(f"--severity is CODE=LEVEL, for example DEAD_UNITS=warning, not {text!r:.60}")
        chosen[code] = cast(Severity, level)
    return chosen


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--format", "form", type=click.Choice(FORMS), default="text", show_default=True, help="Of the report.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--output", type=click.Path(), metavar="FILE", help="Write the report there, and text to the terminal.")
@click.option("--strict", is_flag=True, help="Warnings are errors, and no members but those of the schema are allowed.")
@click.option("--ignore", multiple=True, metavar="CODE", help="Leave out faults of this code.")
@click.option("--only", multiple=True, metavar="CODE", help="Leave out all other faults.")
@click.option(
    "--severity",
    "severities",
    multiple=True,
    callback=_severities,
    metavar="CODE=LEVEL",
    help="Make faults of a code an error, a warning, info or a hint.",
)
@click.option(
    "--max-issues",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    metavar="N",
    help="Faults of one file to show, the most severe first; 0 shows all.",
)
@click.option("--no-weights", is_flag=True, help="Do not look at weights files.")
@click.option("--budget", "budget_path", metavar="FILE", help="What a network may cost (docs/validation.md).")
@click.pass_context
def validate(
    context: click.Context,
    paths: tuple[str, ...],
    form: str,
    as_json: bool,
    output: str | None,
    strict: bool,
    ignore: tuple[str, ...],
    only: tuple[str, ...],
    severities: dict[str, Severity],
    max_issues: int,
    no_weights: bool,
    budget_path: str | None,
) -> None:
    """Check documents PATHS and their weights.

    PATHS are files, folders (every *.structure.json below), patterns, and "-" for standard input. Every fault is shown
    with its line and column, its code and what to do; `deepstruct explain CODE` says more. Exit 1 if a document has an
    error, 3 if a file cannot be read.
    """
    from deepstruct import document_files
    from deepstruct.validation.selection import Selection

    selection = Selection(
        ignore=frozenset(ignore), only=frozenset(only), severities=severities, strict=strict, most=max_issues
    )
    budget = None
    if budget_path is not None:
        from deepstruct.validation import budget_file

        budget = budget_file.read(Path(budget_path))
    chosen = "json" if as_json else form
    reports = []
    for report in _reports(document_files.expand(paths), selection, no_weights, budget):
        reports.append(report)
        if chosen == "text" or output is not None:
            _show(report, to_stdout=output is None)
    if len(reports) > 1 and (chosen == "text" or output is not None):
        from deepstruct.validation import text

        say(text.total(reports))
    if output is None and chosen != "text":
        click.echo(_rendered(chosen, reports), nl=False)
    if output is not None:
        _write(Path(output), _rendered(chosen, reports))
    if chosen == "github":
        _write_summary(reports)
    if not all(report.readable for report in reports):
        context.exit(3)
    if not all(report.valid for report in reports):
        context.exit(1)


def _reports(names: list[str], selection: Any, no_weights: bool, budget: Any) -> Iterator[FileReport]:
    from dataclasses import replace

    from deepstruct import streams
    from deepstruct.validation.validate import validate as check

    for name in names:
        weights = False if no_weights else None if name == "-" else True
        with streams.source(name) as readable:
            report = check(readable, weights=weights, selection=selection, budget=budget)
        yield replace(report, path=name)


def _show(report: FileReport, *, to_stdout: bool) -> None:
    from deepstruct.validation import text

    for line in text.lines(report):
        click.echo(line, err=not to_stdout)
    click.echo(text.verdict(report), err=not to_stdout or not report.valid)


def _rendered(form: str, reports: list[FileReport]) -> str:
    """The whole report in a form, with a line end."""
    from deepstruct.validation import github, gitlab, junit, logs, report, sarif, text

    if form == "json":
        return logs.to_json(report.to_json(reports), indent=1) + "\n"
    if form == "text":
        return "".join(f"{line}\n" for found in reports for line in (*text.lines(found), text.verdict(found)))
    renderers = {"github": github.render, "sarif": sarif.render, "gitlab": gitlab.render, "junit": junit.render}
    return renderers[form](reports, os.environ)


def _write(path: Path, content: str) -> None:
    from deepstruct.files import Targets

    with Targets(overwrite=True) as targets:
        targets.open(path).write(content.encode("utf-8", "backslashreplace"))
    say(f"wrote {path}")


def _write_summary(reports: list[FileReport]) -> None:
    from deepstruct.validation import github_summary

    place = os.environ.get("GITHUB_STEP_SUMMARY")
    if place:
        reason = github_summary.append_summary(place, github_summary.summary(reports, os.environ))
        if reason:
            say(f"warning: {reason}")


@click.command()
@click.argument("codes", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def explain(codes: tuple[str, ...], as_json: bool) -> None:
    """Say what CODES of faults mean, and what to do about them.

    Without any, list them all.
    """
    from dataclasses import asdict

    from deepstruct.validation.codes import lookup, table

    chosen = [lookup(name) for name in codes] or list(table().values())
    if as_json:
        click.echo(json.dumps([asdict(code) for code in chosen], indent=1, ensure_ascii=False))
    elif codes:
        click.echo("\n\n".join(map(_explained, chosen)))
    else:
        from tabulate import tabulate

        rows = [[code.name, code.severity, code.title] for code in chosen]
        click.echo(tabulate(rows, ["code", "severity", "rule"], tablefmt="github"))


def _explained(code: Code) -> str:
    lines = [
        f"{code.name}: {code.title}",
        "",
        f"  severity:   {code.severity}" + (" (cannot be changed)" if code.fatal else ""),
        f"  why:        {code.meaning}",
        f"  what to do: {code.advice}",
    ]
    if code.section:
        lines.append(f"  rule:       docs/format.md#{code.section}")
    return "\n".join(lines)
