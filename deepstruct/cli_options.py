"""Options that several commands have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

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
