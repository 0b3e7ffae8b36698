"""The command verify: whether two files hold the same network. The evidence is gathered elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from deepstruct.cli_options import input_shape_option, json_option, reading_options
from deepstruct.errors import UsageError
from deepstruct.running import say


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--from-a", "format_a", metavar="FORMAT", help="Format of A.")
@click.option("--from-b", "format_b", metavar="FORMAT", help="Format of B.")
@click.option("-o", "--certificate", "target", metavar="FILE", help="Write the certificate to FILE, whatever it says.")
@click.option("--check", "certificate", metavar="FILE", help="Only check that the certificate in FILE is of A and B.")
@click.option("--repro", metavar="FOLDER", help="If they differ: write the smallest models and input that show it.")
@click.option(
    "--cast",
    type=click.Choice(["float16", "bfloat16", "float32", "float64"]),
    help="Expect B's numbers to be those of A, rounded to this dtype.",
)
@click.option("--by-position", is_flag=True, help="Match inputs and outputs by position, whatever they are called.")
@input_shape_option
@click.option("--inputs", metavar="FILE", help="Further inputs to compute on: an .npz file, with an array for each.")
@click.option("--seed", type=click.IntRange(0, 2**53 - 1), default=0, show_default=True, help="Of the random inputs.")
@click.option(
    "--rows", type=click.IntRange(1, 4096), default=8, show_default=True, help="Extent of the batch, where it is open."
)
@click.option(
    "--scale",
    type=click.FloatRange(0, 1e30, min_open=True),
    default=1.0,
    show_default=True,
    help="Standard deviation of the random inputs.",
)
@reading_options
@json_option
@click.pass_context
def verify(
    context: click.Context,
    /,
    a: str,
    b: str,
    certificate: str | None,
    target: str | None,
    repro: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Certify that the files A and B hold the same network.

    Masks and weights are compared bit by bit, the wiring with integers through both runtimes, each operation against
    its rounding bound, and the outputs end to end. Exit 0 if they are the same, 1 if they differ, 4 if it cannot be
    told. docs/verification.md says what each step proves.
    """
    from deepstruct import streams
    from deepstruct.verification import checking, report, verify

    if a == b == "-":
        raise UsageError("only one of the two can be standard input")
    if target == "-":
        raise UsageError("-o names a file; --json prints the certificate")
    with streams.source(a) as first, streams.source(b) as second:
        if target is not None and any(Path(target).exists() and Path(target).samefile(x) for x in (first, second)):
            raise UsageError(f"{target}: is one of the two files; choose another name for the certificate")
        if certificate is not None:
            faults = checking.faults(Path(certificate), first, second)
            if as_json:
                click.echo(json.dumps({"belongs": not faults, "faults": faults}, indent=1))
            else:
                for fault in faults or [f"{certificate} certifies that {a} and {b} hold the same network"]:
                    click.echo(fault)
            context.exit(1 if faults else 0)
        found = verify.verify(first, second, repro=repro, **options)
    if target is not None:
        found.save(Path(target))
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        click.echo(report.text(found))
        if target is not None:
            say(f"wrote {target}")
        if repro is not None and found.verdict == "different":
            written = (Path(repro) / "README.md").exists()
            say(f"wrote {repro}" if written else "no smaller models show the difference; --repro has written nothing")
    context.exit(found.exit_code)
