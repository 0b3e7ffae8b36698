"""The commands that report on structures: info, analyze and diff. What they say is worked out elsewhere."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import click

from deepstruct.cli_options import expansion_options, from_option, json_option, reading_options
from deepstruct.errors import UsageError

if TYPE_CHECKING:
    from deepstruct.comparison import Difference
    from deepstruct.comparison_sides import Side
    from deepstruct.ledger import LedgerEntry
    from deepstruct.model import Model


@click.command()
@click.argument("path")
@from_option
@reading_options
@json_option
def info(path: str, source_format: str | None, as_json: bool, **options: Any) -> None:
    """Show the structure in PATH as a table.

    Shape, connections, density and bytes of each parameter, and totals. "-" is standard input.
    """
    from deepstruct import io, streams, summary

    with streams.source(path) as readable:
        structure = io.load(readable, format=source_format, losses=[], weights=False, **options).structure
        ledger = io.ledger(readable, format=source_format, **options)
    found = summary.summarise(structure)
    if as_json:
        entries = {"ledger": [asdict(entry) | {"best": entry.best} for entry in ledger]} if ledger else {}
        click.echo(json.dumps(found.to_json() | entries, indent=1))
        return
    from tabulate import tabulate

    rows = [
        [
            p.name,
            p.dtype,
            "x".join(map(str, p.shape)) or "scalar",
            p.nnz,
            _percent(p.density),
            p.dense_bytes,
            p.value_bytes,
            p.mask_bytes,
            p.encoding or "-",
        ]
        for p in found.parameters
    ]
    totals = [found.nnz, _percent(found.density), found.dense_bytes, found.value_bytes, found.mask_bytes, ""]
    rows.append(["total", "", "", *totals])
    operators = ", ".join(f"{count} {name}" for name, count in found.operators.items())
    click.echo(f"{found.name}: {' ; '.join(found.inputs)} -> {' ; '.join(found.outputs)}")
    click.echo(f"operators: {operators or 'none'}")
    click.echo(f"{found.digest}\n")
    headers = [
        "parameter",
        "dtype",
        "shape",
        "nnz",
        "density",
        "dense bytes",
        "kept bytes",
        "mask bytes",
        "encoding",
    ]
    align = ("left", "left", "left", "right", "right", "right", "right", "right", "left")
    click.echo(tabulate(rows, headers, tablefmt="github", colalign=align, intfmt=","))
    if ledger:
        click.echo("\nbytes in each encoding, where zeros of matrices are left out:\n")
        click.echo(_ledger_table(ledger))


def _ledger_table(ledger: tuple[LedgerEntry, ...]) -> str:
    from tabulate import tabulate

    encodings = list(ledger[0].by_encoding)
    rows: list[list[Any]] = []
    for entry in ledger:
        sizes = [entry.by_encoding[name] for name in encodings]
        rows.append([entry.name, entry.nnz, entry.encoding, entry.bytes, *sizes, entry.best])
    sums = [sum(row[column] for row in rows if row[column] is not None) for column in (1, 3, 4)]
    best = sum(entry.by_encoding[entry.best] or 0 for entry in ledger)
    rows.append(["total", sums[0], "", sums[1], sums[2], *[None] * (len(encodings) - 1), f"{best:,}"])
    headers = ["parameter", "not 0", "stored as", "bytes", *encodings, "smallest"]
    align = ("left", "right", "left", *["right"] * (len(encodings) + 1), "left")
    return tabulate(rows, headers, tablefmt="github", colalign=align, intfmt=",", missingval="-")


@click.command()
@click.argument("path")
@from_option
@reading_options
@click.option(
    "--order",
    type=click.IntRange(0, 1),
    default=0,
    show_default=True,
    help="Units to analyze: 0 single neurons, 1 channels.",
)
@expansion_options
@click.option(
    "--measures",
    metavar="NAME,NAME,...",
    default="default",
    show_default=True,
    help="What to measure beside densities: degrees, assortativity, paths, components, cores, distances, butterflies, "
    "triangles, spectrum, small-world; default, or all.",
)
@json_option
def analyze(
    path: str,
    source_format: str | None,
    order: Literal[0, 1],
    input_shapes: dict[str, list[int]] | None,
    unknown: Literal["error", "full"],
    measures: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure the units and connections of the network in PATH.

    Density and effective density of each layer, dead units, degrees, paths, components. Measures that take long are
    taken if they are named. "-" is standard input.
    """
    from deepstruct import analysis

    names = analysis.chosen(measures.split(","))
    found = analysis.analyse(
        _model(path, source_format, options), order=order, shapes=input_shapes, unknown=unknown, measures=names
    )
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1, allow_nan=False))
        return
    from deepstruct.analysis_text import text

    click.echo(text(found))


@click.command()
@click.argument("before")
@click.argument("after")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown"]),
    help="Tables, JSON, or the text of a comment on a pull request.  [default: text]",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.pass_context
def diff(context: click.Context, before: str, after: str, form: str | None, as_json: bool) -> None:
    """Compare the structures in BEFORE and AFTER.

    Layers added, removed and resized; connections kept, lost and new; density, nominal and effective. Weights are not
    compared. Exit 0 if equal, 1 if different.
    """
    from deepstruct import comparison, comparison_sides, io, streams

    if before == after == "-":
        raise UsageError("only one of the two can be standard input")
    if as_json and form not in (None, "json"):
        raise UsageError(f"--json and --format {form} contradict each other: leave one out")
    with streams.source(before) as path_before, streams.source(after) as path_after:
        structures = [io.load(path, losses=[], weights=False).structure for path in (path_before, path_after)]
        found = comparison.compare(*structures)
        if found.equal and not as_json and form in (None, "text"):
            click.echo("equal")
            return
        names = ("standard input" if name == "-" else name for name in (before, after))
        sides = list(map(comparison_sides.side, names, structures, (path_before, path_after)))
    if as_json or form == "json":
        figures = {"before": sides[0].to_json(), "after": sides[1].to_json()}
        click.echo(json.dumps({**found.to_json(), **figures}, indent=1))
    elif form == "markdown":
        from deepstruct.comparison_markdown import markdown

        click.echo(markdown(found, *sides), nl=False)
    else:
        _print_difference(found, *sides)
    if not found.equal:
        context.exit(1)


def _print_difference(found: Difference, before: Side, after: Side) -> None:
    from tabulate import tabulate

    for kind, names in found.nodes.items():
        if names:
            click.echo(f"nodes {kind}: {', '.join(names)}")
    if found.graph:
        click.echo(f"graph: {', '.join(found.graph)} changed")
    click.echo(f"density: {_percent(before.density)} -> {_percent(after.density)}")
    if before.effective_density is not None or after.effective_density is not None:
        shares = (_percent(side.effective_density) for side in (before, after))
        click.echo(f"effective density: {' -> '.join(shares)}")
    for note in dict.fromkeys(side.note for side in (before, after) if side.note):
        click.echo(f"effective density is not known: {note}")
    counts = ["kept", "lost", "new"]
    total = [getattr(found.connections, name) for name in counts]
    layers = [[p.name, p.change, p.before, p.after, p.kept, p.lost, p.new] for p in found.layers]
    click.echo(
        tabulate(
            [*layers, ["all layers", "", "", "", *total]],
            ["layer", "change", "before", "after", *counts],
            tablefmt="github",
            intfmt=",",
        )
    )
    rows = [[p.name, p.change, p.before, p.after, p.kept, p.lost, p.new] for p in found.parameters]
    if rows:
        headers = ["parameter", "change", "before", "after", *counts]
        click.echo()
        click.echo(tabulate(rows, headers, tablefmt="github", intfmt=",", missingval="-"))


def _model(path: str, source_format: str | None, options: dict[str, Any]) -> Model:
    """The model of a file, without numbers where a document's weights file is not there."""
    from deepstruct import io, streams
    from deepstruct.errors import UnreadableFileError

    with streams.source(path) as readable:
        try:
            return io.load(readable, format=source_format, losses=[], **options)
        except UnreadableFileError:
            return io.load(readable, format=source_format, losses=[], weights=False, **options)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"
