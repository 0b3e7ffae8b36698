"""The smallest two models and input that show a difference: one unit of one layer on one row, if that does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import deepstruct
from deepstruct import dtypes, files
from deepstruct.errors import FaultyError, UnsupportedError, UsageError
from deepstruct.mask import Mask
from deepstruct.model import Model, Weights
from deepstruct.structure import Node, Parameter, Structure, ValueInfo
from deepstruct.verification.operations import Alignment, Operation, Step
from deepstruct.verification.runtimes import Value
from deepstruct.verification.sides import NotCertifiableError, Side

_UNIT_AXIS = {"Conv": 1, "Gemm": -1, "MatMul": -1}  # operator -> axis of its output along which the units are


@dataclass(frozen=True)
class Case:
    """Two models and an input on which they are expected to differ.

    Attributes:
        a: the first.
        b: the second.
        inputs: name of each graph input of the first -> value.
        what: what it is, in words.
    """

    a: Model
    b: Model
    inputs: Mapping[str, Value]
    what: str


def write(
    folder: Path, cases: Iterator[Case], suffixes: tuple[str, str], shows: Callable[[Path, Path, Path], bool]
) -> bool:
    """Writes the first of several cases that shows the difference, and says whether there is one.

    Args:
        folder: that gets the two models, ``inputs.npz`` and ``README.md``; made if it does not exist.
        cases: from the smallest to the largest.
        suffixes: of the two models, which decide on their formats.
        shows: whether two files with an input do differ.

    Raises:
        UsageError: the folder has something in it.
        WriteError: the operating system does not let us.
    """
    a, b, inputs = folder / f"a{suffixes[0]}", folder / f"b{suffixes[1]}", folder / "inputs.npz"
    for case in cases:
        try:
            deepstruct.save(case.a, a)
            deepstruct.save(case.b, b)
        except (FaultyError, UnsupportedError):
            continue
        with files.writing(inputs), inputs.open("wb") as file:
            arrays: dict[str, Any] = {name: x for name, x in case.inputs.items() if isinstance(x, np.ndarray)}
            np.savez(file, **arrays)
        if shows(a, b, inputs):
            command = f"deepstruct verify {a.name} {b.name} --by-position --inputs {inputs.name}"
            text = f"# A difference\n\n{case.what}\n\n    {command}\n"
            with files.writing(folder / "README.md"):
                (folder / "README.md").write_text(text, encoding="utf-8")
            return True
    for path in folder.iterdir():
        path.unlink()
    return False


def require_empty(folder: Path) -> None:
    """Makes a folder, unless it is there and empty.

    Raises:
        UsageError: there is something in it, or it is no folder.
        WriteError: the operating system does not let us.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: exists and is no empty folder; choose another one for --repro")
    with files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def step_of(alignment: Alignment, a: str, b: str) -> Step | None:
    """The step of two nodes; where they differ in operator or attributes, one made for them.

    Args:
        alignment: of the two structures.
        a: name of the node in the first.
        b: name of the node in the second.
    """
    for step in alignment.steps:
        if (step.a.name, step.b.name) == (a, b):
            return step
    nodes = [
        next((node for node in structure.nodes if node.name == name), None)
        for structure, name in ((alignment.structure_a, a), (alignment.structure_b, b))
    ]
    first, second = nodes
    if first is None or second is None or len(first.inputs) != len(second.inputs):
        return None
    return Step(_operation(first), _operation(second), tuple(range(len(first.inputs))))


def _operation(node: Node) -> Operation:
    return Operation(node.name, node.op_type, node.inputs, node.outputs, (node,), node.attributes, node.domain)


def of_step(step: Step, a: Side, b: Side, values: Mapping[str, Value], unit: int | None = None) -> Iterator[Case]:
    """Cases of one layer: a unit that differs on one row, then the layer on one row, then on all.

    Args:
        step: the layer.
        a: the first side.
        b: the second.
        values: name of a value of the first side -> value; those that the layer takes are among them.
        unit: that has other weights; else the one with the largest difference.

    Raises:
        NotCertifiableError: a runtime cannot compute the layer.
    """
    what = f"the layer {step.a.name!r} ({step.a.op_type})"
    layer = _Layer(step, a, b, {name: values[name] for name in step.a.inputs if name and not a.is_leaf(name)})
    place = layer.worst()
    if place is not None:
        short = layer.of_row(place[0])
        if short is not None:
            yield from short.of_unit(place, unit, f"One unit of {what}, on one row.")
            yield short.case(f"Only {what}, on one row.")
    yield layer.case(f"Only {what}.")


class _Layer:
    """One layer of both sides on some values."""

    def __init__(self, step: Step, a: Side, b: Side, values: Mapping[str, Value]) -> None:
        self._step, self._a, self._b = step, a, b
        self._values = values
        twins = {
            step.b.inputs[place]: name for name, place in zip(step.a.inputs, step.order, strict=True) if place >= 0
        }
        self._values_b = {name: values[twins[name]] for name in step.b.inputs if name and not b.is_leaf(name)}
        self._results_a = _results(step.a, a, values)
        self._results_b = _results(step.b, b, self._values_b)

    def case(self, what: str) -> Case:
        """Both models of the layer."""
        first = _model(self._step.a, self._a, self._values, self._results_a)
        second = _model(self._step.b, self._b, self._values_b, self._results_b)
        return Case(first, second, self._values, what)

    def worst(self) -> tuple[int, ...] | None:
        """Where the first outputs differ most, None if they do not or cannot be compared."""
        first, second = self._results_a[0], self._results_b[0]
        if not isinstance(first, np.ndarray) or first.shape != second.shape or not first.ndim or not first.size:
            return None
        with np.errstate(all="ignore"):
            error = np.abs(np.nan_to_num(first.astype(np.float64) - second.astype(np.float64), nan=np.inf))
        return tuple(int(i) for i in np.unravel_index(int(error.argmax()), error.shape))

    def of_row(self, row: int) -> _Layer | None:
        """The same layer on one row of the batch, None if the values have none."""
        rows = self._results_a[0].shape[0]
        values = {
            name: value[row : row + 1]
            for name, value in self._values.items()
            if isinstance(value, np.ndarray) and value.ndim and value.shape[0] == rows
        }
        return _Layer(self._step, self._a, self._b, values) if len(values) == len(self._values) else None

    def of_unit(self, place: tuple[int, ...], unit: int | None, what: str) -> Iterator[Case]:
        """The case of a single unit, if the operator has units that stand for themselves."""
        axis = _UNIT_AXIS.get(self._step.a.op_type)
        if axis is None or self._step.a.op_type != self._step.b.op_type or "group" in self._step.a.attributes:
            return
        case = self.case(what)
        cut = [
            _of_unit(model, operation, place[axis] if unit is None else unit)
            for model, operation in ((case.a, self._step.a), (case.b, self._step.b))
        ]
        if cut[0] is not None and cut[1] is not None:
            yield replace(case, a=cut[0], b=cut[1])


def _results(operation: Operation, side: Side, values: Mapping[str, Value]) -> list[Any]:
    names = tuple(filter(None, operation.inputs))
    given = {name: side.leaf(name).array if side.is_leaf(name) else values[name] for name in names}
    return side.runner(operation).run(given, side.fixed(names))


def _model(operation: Operation, side: Side, values: Mapping[str, Value], results: list[Any]) -> Model:
    """A model of one operation, with the parameters that it takes."""
    nodes = (*side.derivation(operation.inputs), *operation.nodes)
    used = {name for node in nodes for name in (*node.sources, *node.references)}
    structure = side.structure
    outputs = zip(filter(None, operation.outputs), results, strict=True)
    found = Structure(
        inputs=tuple(_value_info(name, value) for name, value in values.items()),
        outputs=tuple(_value_info(name, value) for name, value in outputs),
        nodes=nodes,
        parameters=tuple(p for p in structure.parameters if p.name in used),
        constants={name: constant for name, constant in structure.constants.items() if name in used},
        opset=structure.opset,
        functions=structure.functions,
    )
    weights = side.weights
    return Model(found, None if weights is None else Weights(found, lambda parameter: weights.kept(parameter.name)))


def _value_info(name: str, value: Value) -> ValueInfo:
    if not isinstance(value, np.ndarray):
        raise NotCertifiableError(f"the value {name!r} is no tensor")
    return ValueInfo(name, dtypes.from_numpy(value.dtype), tuple(value.shape))


def _of_unit(model: Model, operation: Operation, unit: int) -> Model | None:
    """The model with one unit of its layer, None if its parameters do not show which entries are the unit's."""
    weight, *others = (name for name in operation.inputs[1:] if name)
    axes = {weight: _weight_axis(operation), **dict.fromkeys(others, -1)}
    parameters = {p.name: p for p in model.structure.parameters}
    if model.weights is None or axes.keys() != parameters.keys() or any(not p.shape for p in parameters.values()):
        return None
    arrays, cut = {}, []
    for name, axis in axes.items():
        parameter = parameters[name]
        arrays[name] = _slice(model.weights[name], axis, unit)
        mask = None if parameter.mask is None else Mask.from_array(_slice(parameter.mask.to_array(), axis, unit))
        cut.append(Parameter(name, parameter.dtype, arrays[name].shape, mask))
    (output,) = model.structure.outputs
    assert output.shape is not None
    place = _UNIT_AXIS[operation.op_type] % len(output.shape)
    shape = tuple(1 if axis == place else extent for axis, extent in enumerate(output.shape))
    structure = replace(model.structure, parameters=tuple(cut), outputs=(replace(output, shape=shape),))
    return Model(structure, Weights(structure, arrays))


def unit_of(step: Step, parameter: str, index: tuple[int, ...]) -> int | None:
    """The unit that an entry of a parameter belongs to, None if the operator has none that stand for themselves."""
    if step.a.op_type not in _UNIT_AXIS or parameter not in step.a.inputs[1:]:
        return None
    return index[_weight_axis(step.a) if parameter == step.a.inputs[1] else -1]


def _slice(array: NDArray[Any], axis: int, unit: int) -> NDArray[Any]:
    if array.shape[axis] == 1:
        return array
    return np.ascontiguousarray(np.take(array, [unit], axis=axis))


def _weight_axis(operation: Operation) -> int:
    """Axis of the weight along which there is one unit each."""
    if operation.op_type == "Conv" or operation.attributes.get("transB"):
        return 0
    return -1
