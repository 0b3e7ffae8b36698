"""Ctrl-C at the worst moments of writing a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from deepstruct.files import Targets
from deepstruct.model import Model, Weights
from deepstruct.structure import Parameter


def opening(number: int) -> Callable[[Targets, Path], IO[bytes]]:
    """`Targets.open` in which Ctrl-C is pressed once a file, counted from 0, is open and half-written."""
    original, opened = Targets.open, 0

    def open_(targets: Targets, path: Path) -> IO[bytes]:
        nonlocal opened
        file = original(targets, path)
        opened += 1
        if opened > number:
            file.write(b"half")
            raise KeyboardInterrupt
        return file

    return open_


def fetching(model: Model, number: int) -> Model:
    """The model, but Ctrl-C is pressed when the numbers of one of its parameters, counted from 0, are fetched."""
    structure, weights = model.structure, model.weights

    def load(parameter: Parameter) -> NDArray[Any]:
        if weights is None or parameter == structure.parameters[number]:
            raise KeyboardInterrupt
        return weights[parameter.name]

    return Model(structure, Weights(structure, load))
