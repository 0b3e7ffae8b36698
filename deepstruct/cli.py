"""The command `deepstruct`: its arguments and what it prints. The work is done elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import click

from deepstruct import cli_documents, cli_reports, cli_validate, cli_verify
from deepstruct.cli_options import expansion_options, from_option, json_option, reading_options
from deepstruct.errors import UsageError
from deepstruct.options import NO_MASK, StoredTensor
from deepstruct.running import say
from deepstruct.version import __version__

_EPILOG = """\b
Exit codes: 0 done; 1 a finding (invalid, different); 2 usage; 3 unreadable input; 4 unsupported;
5 loss under --fail-on-loss; 6 missing package; 7 output cannot be written; 70 a bug of deepstruct;
130 and 143 interrupted.
"""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="deepstruct")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error. [anywhere]")
def cli() -> None:
    """Move sparse neural-network structure between documents, torch and ONNX, and check it."""


for _command in (
    cli_reports.info,
    cli_reports.analyze,
    cli_reports.diff,
    cli_verify.verify,
    cli_validate.validate,
    cli_validate.explain,
    cli_documents.format_command,
    cli_documents.migrate,
    cli_documents.textconv,
):
    cli.add_command(_command)


@cli.command()
@click.argument("source")
@click.argument("target")
@from_option
@click.option("-t", "--to", "target_format", metavar="FORMAT", help="Format of the target.")
@click.option("--force", is_flag=True, help="Replace existing files.")
@click.option("--no-weights", is_flag=True, help="Convert the structure alone.")
@click.option(
    "--layout",
    type=click.Choice(["values", "dense"]),
    default="values",
    show_default=True,
    help="Weights file of a document: the entries that exist, or whole tensors.",
)
@click.option(
    "--sparse-encoding",
    type=click.Choice(["auto", "dense", "coo", "constant", "packed", "packed-flat"]),
    default="auto",
    show_default=True,
    help="Masked weights in ONNX: sparse initializers (coo), sparse constants, codes that the runtime decodes when it "
    "loads the model (packed, or packed-flat without a function), dense with zeros, or the smallest of each.",
)
@click.option(
    "--opset", type=click.IntRange(min=1), metavar="N", help="Version of the operators in ONNX to convert to."
)
@click.option("--ir-version", type=click.IntRange(min=1), metavar="N", help="Version of the ONNX file format to write.")
@click.option("--external-data", is_flag=True, help="Put the numbers of an ONNX model into a second file.")
@click.option(
    "--order",
    type=click.IntRange(0, 2),
    help="Graph to write: 0 units, 1 channels, 2 layers.  [default: the own graph of a network, else its units]",
)
@click.option(
    "--depth", type=click.IntRange(min=1), metavar="N", help="Levels of the scope that make a vertex, with --order 2."
)
@expansion_options
@reading_options
@click.option(
    "--init",
    type=click.Choice(["kaiming", "xavier", "zeros", "ones"]),
    help="Draw weights for a graph, which has none.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the weights that --init draws."
)
@click.option("--fail-on-loss", is_flag=True, help="Write nothing if something cannot be carried; exit 5.")
@click.option("--verify", is_flag=True, help="Write nothing unless it is certified to hold the same network.")
@json_option
def convert(
    source: str,
    target: str,
    source_format: str | None,
    target_format: str | None,
    force: bool,
    no_weights: bool,
    as_json: bool,
    fail_on_loss: bool,
    **options: Any,
) -> None:
    """Convert SOURCE to TARGET.

    Formats are told from suffix and content. A document's weights go into a safetensors file beside it. All files
    are put in place together at the end, or none is. "-" is standard input or output.
    """
    from deepstruct import formats, io, streams

    with streams.source(source) as readable, streams.target(target, target_format) as writable:
        if target == "-" and not no_weights and formats.of_target(writable, target_format).name == "json":
            raise UsageError("a document on standard output has no place for weights beside it: add --no-weights")
        report = io.convert(
            readable,
            writable,
            source_format=source_format,
            target_format=target_format,
            overwrite=force,
            fail_on_loss=fail_on_loss,
            weights=not no_weights,
            progress=_progress,
            **options,
        )
        if target == "-" and len(report.files) > 1:
            raise UsageError("standard output has no place for a second file with the numbers of the model")
    losses = [{"what": loss.what, "where": loss.where, "why": loss.why} for loss in report.losses]
    written = () if target == "-" else report.files
    if as_json and target != "-":
        files = [{"path": str(path), "bytes": size} for path, size in written]
        tensors = {"tensors": [asdict(tensor) for tensor in report.tensors]} if report.tensors else {}
        evidence = {"certificate": report.certificate.to_json()} if report.certificate is not None else {}
        click.echo(json.dumps({"written": files, "losses": losses, **tensors, **evidence}))
        return
    for line in _encodings(report.tensors):
        say(line)
    for loss in report.losses:
        say(f"not carried: {loss}")
    if report.certificate is not None:
        from deepstruct.verification.report import text

        say(text(report.certificate))
    if written:
        say("wrote " + ", ".join(f"{path} ({_bytes(size)})" for path, size in written))


def _encodings(tensors: Sequence[StoredTensor]) -> Iterator[str]:
    """How masked tensors are stored: a line for each encoding and reason."""
    groups: dict[tuple[str, str], list[StoredTensor]] = {}
    for tensor in tensors:
        if tensor.reason != NO_MASK:
            groups.setdefault((tensor.encoding, tensor.reason), []).append(tensor)
    for (encoding, reason), group in groups.items():
        stored, dense = sum(tensor.bytes for tensor in group), sum(tensor.dense_bytes for tensor in group)
        instead = f" instead of {_bytes(dense)}" if encoding != "dense" else ""
        plural = "s" if len(group) > 1 else ""
        yield f"stored {len(group)} tensor{plural} {encoding} ({reason}): {_bytes(stored)}{instead}"


@cli.command()
@json_option
def formats(as_json: bool) -> None:
    """List the formats and their suffixes."""
    from deepstruct import formats as table

    rows = [row for _, row in sorted(table.installed().items())]
    if as_json:
        listed = [
            {
                "name": row.name,
                "summary": row.summary,
                "suffixes": row.suffixes,
                "reads": row.reads,
                "writes": row.writes,
                "carries": sorted(row.carries),
                "extra": row.extra,
                "specification": row.specification,
            }
            for row in rows
        ]
        click.echo(json.dumps(listed, indent=1))
        return
    from tabulate import tabulate

    cells = [
        [row.name, " ".join(row.suffixes), _direction(row.reads, row.writes), row.extra or "-", row.summary]
        for row in rows
    ]
    click.echo(tabulate(cells, ["format", "suffixes", "direction", "extra", "summary"], tablefmt="github"))


@cli.command()
@click.option("--version", "version", help="Version of the document.  [default: the current one]")
@click.option("--strict", is_flag=True, help="The closed twin, which writers must meet.")
def schema(version: str | None, strict: bool) -> None:
    """Print the JSON Schema of the document."""
    from deepstruct import schemas

    chosen = schemas.VERSIONS[-1] if version is None else version
    if chosen not in schemas.VERSIONS:
        raise UsageError(f"there is no schema {chosen!r}; versions: {', '.join(schemas.VERSIONS)}")
    click.echo(schemas.text(f"structure-{chosen}{'-strict' if strict else ''}.json"), nl=False)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    For example:  eval "$(deepstruct completion bash)"
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"no completion for {shell}")
    click.echo(kind(cli, {}, "deepstruct", "_DEEPSTRUCT_COMPLETE").source())


def _direction(reads: bool, writes: bool) -> str:
    return {(True, True): "read, write", (True, False): "read", (False, True): "write"}.get((reads, writes), "-")


def _bytes(size: int) -> str:
    if size < 1000:
        return f"{size} bytes"
    power, unit = next((p, u) for p, u in ((1, "kB"), (2, "MB"), (3, "GB")) if size < 1000 ** (p + 1) or u == "GB")
    return f"{size / 1000**power:.3g} {unit}"


def _progress(parameters: Any) -> Any:
    if not sys.stderr.isatty():
        return parameters
    from tqdm import tqdm

    return tqdm(parameters, unit="tensor", delay=1, leave=False, file=sys.stderr)
