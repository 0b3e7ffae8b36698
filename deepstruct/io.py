"""The verbs: load, save, convert, from_module and its like. Always file -> reader -> Model -> writer -> file."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepstruct import files, formats
from deepstruct.errors import LossError, LossWarning, NotCertifiedError, UsageError, VerificationError
from deepstruct.files import Targets
from deepstruct.formats import ReadOptions, WriteOptions
from deepstruct.limits import Limits
from deepstruct.losses import Loss
from deepstruct.model import Model
from deepstruct.options import Order, StoredTensor, Unknown
from deepstruct.structure import Structure

if TYPE_CHECKING:
    import networkx as nx
    import torch

    from deepstruct.ledger import LedgerEntry
    from deepstruct.verification.certificate import Certificate

    PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Report:
    """What was written.

    Attributes:
        files: path and size in bytes of each file.
        losses: what the target could not carry.
        tensors: how each tensor is stored, if the format has several ways.
        certificate: that the files hold the network of the source, if that was asked for.
    """

    files: tuple[tuple[Path, int], ...]
    losses: tuple[Loss, ...]
    tensors: tuple[StoredTensor, ...] = ()
    certificate: Certificate | None = None


def load(
    path: PathLike,
    *,
    format: str | None = None,
    losses: list[Loss] | None = None,
    **options: Any,
) -> Model:
    """The model in a file; numbers are read only when asked for, where the format allows.

    Args:
        path: of the file.
        format: name of the format, else told from suffix and content.
        losses: gets what the file holds and a Model cannot; without a list, a `LossWarning` tells.
        options: fields of `deepstruct.formats.ReadOptions`.

    Raises:
        DeepstructError: of the kind that says what is wrong.
    """
    place = Path(path)
    row = formats.of_source(place, format)
    collected: list[Loss] = [] if losses is None else losses
    with files.reading(place):
        model = row.load().read(place, _options(ReadOptions, row, options), collected)
    if not options.get("weights", True):
        model = Model(model.structure)
    if losses is None:
        _warn(str(place), collected)
    return model


def ledger(path: PathLike, *, format: str | None = None, **options: Any) -> tuple[LedgerEntry, ...]:
    """What each tensor of a file takes, and would take in each encoding of its format; empty if that has one only.

    Args:
        path: of the file.
        format: name of the format, else told from suffix and content.
        options: fields of `deepstruct.formats.ReadOptions`.

    Raises:
        DeepstructError: of the kind that says what is wrong.
    """
    place = Path(path)
    row = formats.of_source(place, format)
    if not row.ledger:
        return ()
    with files.reading(place):
        return row.load().ledger(place, _options(ReadOptions, row, options))


def save(
    model: Model | torch.nn.Module | torch.export.ExportedProgram,
    path: PathLike,
    *,
    format: str | None = None,
    overwrite: bool = True,
    fail_on_loss: bool = False,
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
    **options: Any,
) -> Report:
    """Writes a model, a torch module or an exported program; all files appear, or none.

    Args:
        model: what to write.
        path: of the file; the format's further files lie beside it.
        format: name of the format, else told from the suffix.
        overwrite: replace existing files.
        fail_on_loss: write nothing if something cannot be carried.
        example_inputs: of a module; see `from_module`.
        dynamic_shapes: of a module; see `from_module`.
        options: fields of `deepstruct.formats.WriteOptions`.

    Raises:
        LossError: something cannot be carried, and `fail_on_loss` is set.
        DeepstructError: of the kind that says what is wrong.
    """
    losses: list[Loss] = []
    if not isinstance(model, Model):
        model = _from_object(model, losses, example_inputs=example_inputs, dynamic_shapes=dynamic_shapes)
    return _write(model, Path(path), format, losses, overwrite, fail_on_loss, options)


def convert(
    source: PathLike,
    target: PathLike,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    overwrite: bool = True,
    fail_on_loss: bool = False,
    verify: bool = False,
    **options: Any,
) -> Report:
    """Reads one file and writes another; all target files appear, or none.

    Args:
        source: file to read.
        target: file to write.
        source_format: name of the source's format, else told from suffix and content.
        target_format: name of the target's format, else told from the suffix.
        overwrite: replace existing files.
        fail_on_loss: write nothing if something cannot be carried.
        verify: put the files in place only if they are certified to hold the network of the source.
        options: fields of `deepstruct.formats.ReadOptions` and `deepstruct.formats.WriteOptions`.

    Raises:
        LossError: something cannot be carried, and `fail_on_loss` is set.
        VerificationError: what would be written is not certified, and `verify` is set.
        DeepstructError: of the kind that says what is wrong.
    """
    row = formats.of_target(Path(target), target_format)
    if verify and not ("weights" in row.carries and row.reads and options.get("weights", True)):
        raise UsageError("--verify compares numbers, and this conversion leaves them out")
    losses: list[Loss] = []
    reading = {key: value for key, value in options.items() if key in ReadOptions.__dataclass_fields__}
    writing = {key: value for key, value in options.items() if key not in reading or key == "weights"}
    model = load(source, format=source_format, losses=losses, **reading)
    if not verify:
        return _write(model, Path(target), target_format, losses, overwrite, fail_on_loss, writing)
    found: list[Certificate] = []

    def check(written: Path) -> None:
        certificate = certify(
            Path(source), written, format_a=source_format, format_b=row.name, reading={**reading, "weights": True}
        )
        if certificate.verdict != "equivalent":
            kind = VerificationError if certificate.verdict == "different" else NotCertifiedError
            raise kind(str(target), certificate)
        found.append(certificate)

    from deepstruct.verification.verify import certify

    report = _write(model, Path(target), target_format, losses, overwrite, fail_on_loss, writing, check)
    return replace(report, certificate=found[0])


def from_module(
    module: torch.nn.Module | torch.export.ExportedProgram,
    example_inputs: Any = None,
    *,
    dynamic_shapes: Any = None,
    infer_masks: bool = False,
    losses: list[Loss] | None = None,
) -> Model:
    """The model of a live torch module, in evaluation mode; its numbers are the module's own, not copies.

    Networks of `deepstruct.sparse` and `deepstruct.recurrent` and chains of linear layers in `nn.Sequential` are read
    off; any other module is traced by `torch.export` with example inputs.

    Args:
        module: the module, or a program that `torch.export` made.
        example_inputs: arguments for one call, needed to trace a module: a tuple of positional ones, a single
            tensor, or a dict by the names of ``forward``.
        dynamic_shapes: which dimensions of the inputs are open, as `torch.export.export` takes them; by default
            the first of each, if the module's own code allows.
        infer_masks: where there is no mask, take the zeros of matrices and higher tensors for masked entries.
        losses: gets what the module has and a Model cannot; without a list, a `LossWarning` tells.

    Raises:
        UnsupportedError: the module, or one inside it, does not say what it computes, or cannot be traced.
    """
    collected: list[Loss] = [] if losses is None else losses
    given = {"example_inputs": example_inputs, "dynamic_shapes": dynamic_shapes}
    model = _from_object(module, collected, infer_masks=infer_masks, **given)
    if losses is None:
        _warn(f"a {type(module).__name__}", collected)
    return model


def from_networkx(
    graph: nx.Graph[Any],
    in_features: int | None = None,
    out_features: int | None = None,
    *,
    orientation: str | None = None,
    use_layer_norm: bool = False,
    sum_before_activation: bool = False,
    dtype: str = "float32",
    init: str | None = None,
    seed: int | None = None,
    losses: list[Loss] | None = None,
) -> Model:
    """The model of a network in the shape of a graph: that of a `deepstruct.sparse.MaskedDeepDAN`, without torch.

    Keys of vertices and attributes of the graph, its vertices and edges are kept with their exact types, if they are
    None, bool, int, float, str, list, tuple or dict; `deepstruct.graph_data.original_graph` gives the graph back.

    Args:
        graph: with at least one vertex. A directed one is acyclic, and its vertices stand in layers by the longest path
            that ends there, or in those of a `deepstruct.graph.LabeledDAG`.
        in_features: number of inputs, each connected with every vertex of the first layer. If neither number is given,
            the graph is one that `to_networkx` made, and the network is the one that it shows.
        out_features: number of outputs, each connected with every vertex of the last layer.
        orientation: of the edges of an undirected graph: ``vertex-order``, from the end that comes first among the
            graph's vertices to the other one.
        use_layer_norm: normalise before the activation of every layer but the first.
        sum_before_activation: sum the connections of a unit before its activation instead of after it.
        dtype: of the parameters: float32, float64, float16 or bfloat16.
        init: how the weights are drawn, see `deepstruct.initialisation.initial_weights`; None for a structure alone.
        seed: for the weights; None draws one.
        losses: gets what the graph has and a Model cannot; without a list, a `LossWarning` tells.

    Raises:
        UsageError: an argument means nothing, or an undirected graph comes without `orientation`.
        StructureError: the graph has a cycle or no vertices.
        UnsupportedError: the graph has parallel edges, or keys or attributes that no document can hold.
    """
    if seed is not None and init is None:
        raise UsageError("a seed means nothing without init, which says how the weights are drawn")
    collected: list[Loss] = [] if losses is None else losses
    converter: Any = importlib.import_module("deepstruct.converters.networkx")
    model: Model = converter.from_object(
        graph,
        collected,
        in_features=in_features,
        out_features=out_features,
        orientation=orientation,
        use_layer_norm=use_layer_norm,
        sum_before_activation=sum_before_activation,
        dtype=dtype,
    )
    if init is not None:
        from deepstruct.initialisation import initial_weights

        model = Model(model.structure, initial_weights(model.structure, init, seed))
    if losses is None:
        _warn(f"a {type(graph).__name__}", collected)
    return model


def to_networkx(
    model: Model | Structure,
    order: Order | None = None,
    *,
    include_input: bool = False,
    include_output: bool = False,
    weights: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
    unknown: Unknown = "error",
    depth: int | None = None,
) -> nx.Graph[Any]:
    """The networkx graph of a network.

    - Order None: the graph that the network was made from, with its keys and attributes; else as order 0.
    - Order 0: a vertex for each unit, an edge for each connection that exists. Convolutions are spread over all
      positions.
    - Order 1: a vertex for each channel, an edge for each kernel that has an entry, with the ``share`` that exists.
    - Order 2: a vertex for each layer, an edge between layers that are connected.

    `docs/graphs.md` says what attributes vertices and edges have. `deepstruct.from_networkx` gives the network of such
    a graph back; at order 0, connections that were removed from the graph are gone.

    Args:
        model: a model, or a structure alone.
        order: 0, 1, 2 or None.
        include_input: take in the graph inputs.
        include_output: take in the layers that graph outputs are made of.
        weights: give edges the ``weight`` of their connection; needs a model that has numbers, and order 0.
        shapes: name of a graph input -> its extents, for dimensions that the structure leaves open; else these are 1.
        unknown: ``full`` takes an operator of which nothing is known for a full connection of its outputs with its
            inputs, instead of raising an error.
        depth: at order 2, the number of levels of the scope that a vertex is: 1 makes one vertex of each child module.

    Raises:
        UsageError: an argument means nothing.
        UnsupportedError: nothing is known of an operator, or the network is too large; the node is named.
        MissingDependencyError: operators move values, which needs the onnx package.
    """
    converter: Any = importlib.import_module("deepstruct.converters.networkx_views")
    graph: nx.Graph[Any] = converter.to_networkx(
        model,
        order,
        include_input=include_input,
        include_output=include_output,
        weights=weights,
        shapes=shapes,
        unknown=unknown,
        depth=depth,
    )
    return graph


def _from_object(value: Any, losses: list[Loss], **options: Any) -> Model:
    """The model of a live object; converters that know no examples are not asked about them."""
    converter = formats.of_object(value).load()
    return converter.from_object(
        value, losses, **{k: v for k, v in options.items() if v is not None and v is not False}
    )


def _warn(source: str, losses: list[Loss]) -> None:
    if losses:
        shown = "; ".join(str(loss) for loss in losses)
        warnings.warn(f"{source}: not carried: {shown}", LossWarning, stacklevel=3)


def to_module(model: Model) -> torch.nn.Module:
    """A torch module that computes what the model describes, masks and weights in place.

    A structure without weights gives a freshly initialised module. Models of a family of `deepstruct.sparse`
    give an object of that class; all others a module that computes the structure operator by operator.

    Raises:
        UnsupportedError: the structure has an operator that is not mapped to torch; it is named.
    """
    if not isinstance(model, Model):
        raise TypeError(f"to_module takes a Model, not a {type(model).__name__}; a structure alone is Model(structure)")
    converter: Any = formats.by_name("torch").load()
    module: torch.nn.Module = converter.to_module(model)
    return module


def _options(kind: type[Any], row: formats.Format, options: dict[str, Any]) -> Any:
    for name, value in options.items():
        if name not in kind.__dataclass_fields__:
            raise UsageError(f"{name!r} is no option of {kind.__name__}")
        default = name in ("weights", "limits", "progress", "report") or value == getattr(kind(), name)
        if not default and name not in row.options:
            spelled = "--" + name.replace("_", "-")
            raise UsageError(f"{spelled} means nothing for the format {row.name!r}")
    if kind is ReadOptions:
        options = {"limits": Limits.from_environment(), **options}
    return kind(**options)


def _write(
    model: Model,
    path: Path,
    format_name: str | None,
    losses: list[Loss],
    overwrite: bool,
    fail_on_loss: bool,
    options: dict[str, Any],
    check: Callable[[Path], None] | None = None,
) -> Report:
    row = formats.of_target(path, format_name)
    tensors: list[StoredTensor] = []
    chosen = _options(WriteOptions, row, {"report": tensors.extend, **options})
    if not chosen.weights:
        model = Model(model.structure)
    converter = row.load()
    with files.writing(path), Targets(overwrite=overwrite) as targets:
        losses += converter.write(model, path, targets, chosen)
        if fail_on_loss and losses:
            raise LossError(losses)
        if check is not None:
            with targets.preview() as folder:
                check(folder / path.name)
    return Report(targets.sizes(), tuple(losses), tuple(tensors))
