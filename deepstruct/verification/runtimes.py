"""Runtimes that compute some nodes of a structure on their own: onnxruntime, torch, and ONNX's reference evaluator."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol, cast

from numpy.typing import NDArray

from deepstruct.errors import MissingDependencyError
from deepstruct.structure import Function, Node

Value = NDArray[Any] | list[Any] | None
"""A tensor is a numpy array (those of `ml_dtypes` for bfloat16 and its like), a sequence a list of tensors."""

_EXTRAS = {"onnx": "onnx", "onnxruntime": "onnx", "google": "onnx", "torch": "torch"}


class NotRunnableError(Exception):
    """A runtime cannot run something; the message says why in one line."""


@dataclass(frozen=True)
class Fragment:
    """Some nodes of a structure, to run on their own.

    Attributes:
        nodes: in topological order.
        outputs: names of the values to compute.
        opset: operator set domain -> version.
        functions: that the nodes may call; others do no harm.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    opset: Mapping[str, int]
    functions: tuple[Function, ...] = ()


class Program(Protocol):
    """A fragment in a runtime; it can be run many times, with other values, dtypes and ranks each time."""

    def run(self, values: Mapping[str, Value], fixed: frozenset[str] = frozenset()) -> list[Value]:
        """The outputs of the fragment, in its order.

        Args:
            values: of every name that the nodes need from outside, those included that their graphs and functions
                take from outside and that attributes refer to. Others do no harm. Nothing is cast.
            fixed: those of them that are leaves, such as weights. The runtime may take them for known beforehand.

        Raises:
            NotRunnableError: the runtime cannot compute this.
        """


class Runtime(Protocol):
    """Something that computes nodes."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def version(self) -> str:
        """Version of the package that computes."""

    def program(self, fragment: Fragment) -> Program:
        """The fragment, ready to run.

        Raises:
            NotRunnableError: the runtime does not have these operators.
        """


@dataclass(frozen=True)
class OnnxRuntime:
    """Microsoft's onnxruntime, on the CPU.

    Attributes:
        optimise: let it rewrite the graph in every way that it knows; otherwise in none.
        threads: within an operator.
    """

    optimise: bool = True
    threads: int = 1

    @property
    def name(self) -> str:
        """What it is called."""
        return "onnxruntime"

    @property
    def version(self) -> str:
        """Version of the onnxruntime package."""
        return importlib.metadata.version("onnxruntime")

    def program(self, fragment: Fragment) -> Program:
        """The fragment, ready to run; whether onnxruntime has the operators is seen in the first run."""
        made = load("onnx_programs").OnnxProgram(fragment, self.optimise, self.threads)
        return cast(Program, made)


@dataclass(frozen=True)
class Torch:
    """Torch, with the operators that a module of `deepstruct.to_module` computes with."""

    @property
    def name(self) -> str:
        """What it is called."""
        return "torch"

    @property
    def version(self) -> str:
        """Version of the torch package."""
        return importlib.metadata.version("torch")

    def program(self, fragment: Fragment) -> Program:
        """The fragment, ready to run.

        Raises:
            NotRunnableError: there is control flow, a function, or an operator that is not mapped to torch.
        """
        return cast(Program, load("torch_programs").TorchProgram(fragment))


@dataclass(frozen=True)
class Reference:
    """The evaluator of the onnx package, written in numpy: slow, and for operators that torch does not have."""

    @property
    def name(self) -> str:
        """What it is called."""
        return "reference"

    @property
    def version(self) -> str:
        """Version of the onnx package."""
        return importlib.metadata.version("onnx")

    def program(self, fragment: Fragment) -> Program:
        """The fragment, ready to run; whether the evaluator has the operators is seen in the first run."""
        return cast(Program, load("onnx_programs").ReferenceProgram(fragment))


def load(module: str) -> ModuleType:
    """A module of this package that needs a framework.

    Raises:
        MissingDependencyError: the framework is not installed.
    """
    try:
        return importlib.import_module(f"deepstruct.verification.{module}")
    except ModuleNotFoundError as error:
        if error.name in _EXTRAS:
            raise MissingDependencyError(error.name, _EXTRAS[error.name], "verify") from error
        raise
