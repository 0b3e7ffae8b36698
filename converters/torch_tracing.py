"""What a call into torch's exporter leaves behind and says: nothing, but one line about what went wrong."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

_TABLES = ("_parameters", "_buffers", "_modules")
_OURS = Path(__file__).parent
_TORCHS = Path(torch.__file__).parent


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every part of the module has the mode, attributes and buffers that it had."""
    before = {part: _copied(vars(part)) for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, attributes in before.items():
            vars(part).clear()
            vars(part).update(attributes)


def _copied(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: dict(value) if name in _TABLES else value for name, value in attributes.items()}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps torch from talking; what matters ends in an error."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def reason(error: BaseException) -> str:
    """Why torch could not do something, in one line of bounded length, with the line of the module's own code."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    own = [link for link in chain if type(link).__module__.startswith("torch.onnx")]
    told = own[-1] if len(own) > 1 else chain[-1] if own else error
    text = re.sub(r"\x1b\[\d*m", "", str(told))
    unknown = re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", text)
    if unknown:
        return f"the operator {unknown[1]} has no ONNX counterpart"
    if "data-dependent" in text:
        text = "its control flow depends on the numbers that it is given"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    place = _place(error)
    return f"{type(told).__name__}{f': {lines[0]:.200}' if lines else ''}{f' (at {place})' if place else ''}"


def _place(error: BaseException) -> str:
    """File, line and function of the last call that is neither torch's nor ours, if there is one."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not {_OURS, _TORCHS, Path(contextlib.__file__).parent} & set(Path(frame.filename).parents)
    ]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
