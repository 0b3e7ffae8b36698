"""Options that several commands have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from deepstruct.errors import UsageError

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
_infer_option = click.option(
    "--infer-masks", is_flag=True, help="Take zeros of matrices for masked where there is no mask."
)
_activation_option = click.option(
    "--activation", metavar="NAME", help="Activation between the layers of a bare state_dict."
)
_trust_option = click.option(
    "--trust-pickle", is_flag=True, help="Run the code of a pickled module. Only for files of your own."
)
_features_in_option = click.option(
    "--in-features", type=click.IntRange(min=1), metavar="N", help="Inputs of the network in the shape of a graph."
)
_features_out_option = click.option(
    "--out-features", type=click.IntRange(min=1), metavar="N", help="Outputs of the network in the shape of a graph."
)
_orientation_option = click.option(
    "--orientation",
    type=click.Choice(["vertex-order"]),
    help="Direct the edges of an undirected graph, away from the vertex that stands first.",
)


def _extents(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, list[int]] | None:
    """Extents by name, of each NAME=N,N,..."""
    found = {}
    for text in given:
        name, equals, extents = text.rpartition("=")
        parts = extents.split(",") if extents else []
        if not equals or not all(part.isascii() and part.isdigit() for part in parts):
            raise UsageError(f"--input-shape is NAME=N,N,..., for example x=1,3,32,32, not {text!r:.60}")
        found[name] = [int(part) for part in parts]
    return found or None


input_shape_option = click.option(
    "--input-shape",
    "input_shapes",
    multiple=True,
    callback=_extents,
    metavar="NAME=N,N,...",
    help="Extents of an input where the structure leaves them open.",
)
_unknown_option = click.option(
    "--unknown",
    type=click.Choice(["error", "full"]),
    default="error",
    show_default=True,
    help="Operators whose units are not known: an error, or everything connected.",
)
from_option = click.option("-f", "--from", "source_format", metavar="FORMAT", help="Format of the source.")

_READING = (
    _infer_option,
    _activation_option,
    _trust_option,
    _features_in_option,
    _features_out_option,
    _orientation_option,
)


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say how a source is to be understood."""
    for option in reversed(_READING):
        command = option(command)
    return command


def expansion_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say how the units of a structure are found."""
    return input_shape_option(_unknown_option(command))
