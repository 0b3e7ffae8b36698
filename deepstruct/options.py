"""What readers and writers may be told; the options of all formats, each checked once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from deepstruct.errors import UsageError
from deepstruct.limits import Limits

if TYPE_CHECKING:
    from deepstruct.structure import Parameter

Layout = Literal["values", "dense"]
SparseEncoding = Literal["auto", "dense", "coo", "constant", "packed", "packed-flat"]
Order = Literal[0, 1, 2]
UnitOrder = Literal[0, 1]
Orientation = Literal["vertex-order"]
Unknown = Literal["error", "full"]


NO_MASK = "it has no mask"
"""Why a tensor is dense that has nothing to leave out."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """How a writer has stored the numbers of a parameter.

    Attributes:
        name: of the parameter.
        encoding: what the format calls it.
        bytes: that the numbers take, those of the mask included.
        dense_bytes: that all entries would take.
        reason: why this encoding.
    """

    name: str
    encoding: str
    bytes: int
    dense_bytes: int
    reason: str


def no_report(_stored: Sequence[StoredTensor]) -> None:
    """Nobody asks how tensors are stored."""


def no_progress(parameters: Iterable[Parameter]) -> Iterable[Parameter]:
    """The parameters themselves: nobody watches."""
    return parameters


def _require_choice(options: object, name: str, choices: tuple[object, ...]) -> None:
    value = getattr(options, name)
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        known = ", ".join(str(choice) for choice in choices)
        raise UsageError(f"unknown {name.replace('_', ' ')} {value!r:.60}; choose from {known}")


def _require_count(options: object, name: str, least: int) -> None:
    value = getattr(options, name)
    if type(value) is not int or value < least:
        raise UsageError(f"{name} must be an integer from {least} on, not {value!r:.60}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """What a reader may be told; a format's row names those that it heeds.

    Attributes:
        weights: read numbers too, not the structure alone.
        infer_masks: where there is no mask, take the zeros of matrices and higher tensors for masked entries.
        trust_pickle: let a pickled torch module run its code. Only for files you made yourself.
        activation: what stands between the layers of a bare state_dict, which does not say it: a key of
            `deepstruct.sequential.ACTIVATIONS`.
        in_features: number of inputs of the network in the shape of a graph.
        out_features: number of its outputs.
        orientation: of the edges of an undirected graph; see `deepstruct.from_networkx`.
        init: how to draw weights for a graph, which has none: one of `deepstruct.initialisation.INITS`.
        seed: of those weights.
        limits: bounds on what the file may claim.
    """

    weights: bool = True
    infer_masks: bool = False
    trust_pickle: bool = False
    activation: str | None = None
    in_features: int | None = None
    out_features: int | None = None
    orientation: str | None = None
    init: str | None = None
    seed: int = 0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name in ("weights", "infer_masks", "trust_pickle"):
            _require_choice(self, name, (True, False))
        if self.activation is not None:
            from deepstruct.sequential import ACTIVATIONS

            _require_choice(self, "activation", tuple(ACTIVATIONS))
        for name in ("in_features", "out_features"):
            if getattr(self, name) is not None:
                _require_count(self, name, 1)
        _require_count(self, "seed", 0)
        if self.orientation is not None:
            _require_choice(self, "orientation", get_args(Orientation))
        if self.init is not None:
            from deepstruct.initialisation import INITS

            _require_choice(self, "init", INITS)
        elif self.seed:
            raise UsageError("a seed means nothing without init, which says how the weights are drawn")
        if not isinstance(self.limits, Limits):
            raise UsageError(f"limits must be Limits, not {self.limits!r:.60}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """What a writer may be told; a format's row names those that it heeds.

    Attributes:
        weights: write numbers too, not the structure alone.
        layout: of a document's weights file: the entries that exist, or whole tensors.
        sparse_encoding: of masked tensors in ONNX, see `docs/converters.md`; ``auto`` takes the smallest of each.
        opset: version of ONNX's own operators to write; None keeps the structure's.
        ir_version: version of the ONNX file format to write; None takes the oldest that holds the model.
        external_data: put the numbers of an ONNX model into a second file even if one would be enough.
        order: of the graph that is written: 0 units, 1 channels, 2 layers; None lets the structure decide.
        depth: levels of the scope that a vertex of a graph of order 2 is; None for single layers.
        input_shapes: name of an input -> its extents, for graphs of order 0 and 1, where they are open.
        unknown: of operators whose units are not known, in graphs of order 0 and 1: ``error``, or ``full`` to connect
            all of their outputs with all of their inputs.
        progress: wraps the parameters while their numbers are written.
        report: is told how tensors are stored, by writers that can choose.
    """

    weights: bool = True
    layout: Layout = "values"
    sparse_encoding: SparseEncoding = "auto"
    opset: int | None = None
    ir_version: int | None = None
    external_data: bool = False
    order: int | None = None
    depth: int | None = None
    input_shapes: Mapping[str, Sequence[int]] | None = None
    unknown: Unknown = "error"
    progress: Callable[[Iterable[Parameter]], Iterable[Parameter]] = no_progress
    report: Callable[[Sequence[StoredTensor]], None] = no_report

    def __post_init__(self) -> None:
        _require_choice(self, "weights", (True, False))
        _require_choice(self, "layout", get_args(Layout))
        _require_choice(self, "sparse_encoding", get_args(SparseEncoding))
        for name in ("opset", "ir_version"):
            if getattr(self, name) is not None:
                _require_count(self, name, 1)
        _require_choice(self, "external_data", (True, False))
        if self.order is not None:
            _require_choice(self, "order", get_args(Order))
        if self.depth is not None:
            _require_count(self, "depth", 1)
        _require_choice(self, "unknown", get_args(Unknown))
