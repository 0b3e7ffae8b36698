"""One operator in every runtime, on drawn inputs, for the tests of the rounding bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator

from deepstruct import dtypes
from deepstruct.converters import torch_operators, torch_tensors
from deepstruct.structure import Node
from deepstruct.verification.operations import Operation

Array = NDArray[Any]
RNG = np.random.Generator

DTYPES: dict[str, Any] = {
    "float32": np.float32,
    "float64": np.float64,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
}


KINDS: dict[str, Callable[[RNG, tuple[int, ...]], Array]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "constant": lambda _, shape: np.full(shape, 1 / 3),
    "alternating": lambda _, shape: np.where(np.indices(shape).sum(0) % 2, 1 / 3, -1 / 3) if shape else np.array(1 / 3),
    "huge": lambda rng, shape: rng.standard_normal(shape) * 1e38,
    "mixed": lambda rng, shape: rng.standard_normal(shape) * 10.0 ** rng.integers(-30, 30, shape),
    "subnormal": lambda rng, shape: rng.standard_normal(shape) * 1e-39,
}


class Draw:
    """Random arrays of one dtype, kind and scale."""

    def __init__(self, rng: RNG, dtype: str, scale: float, kind: str = "normal") -> None:
        self.rng, self.dtype, self.scale, self.kind = rng, dtype, scale, kind

    def __call__(self, *shape: int, scale: float | None = None, shift: float = 0.0) -> Array:
        """Numbers of the kind times the scale."""
        values = KINDS[self.kind](self.rng, shape) * (self.scale if scale is None else scale) + shift
        return values.astype(DTYPES[self.dtype])

    def one(self, *shape: int, shift: float = 0.0) -> Array:
        """Normal numbers of the order of 1."""
        return self(*shape, scale=1.0, shift=shift)

    def positive(self, *shape: int) -> Array:
        """Absolute values of normal numbers times the scale, and a little more."""
        return (np.abs(self.rng.standard_normal(shape)) * self.scale + self.scale / 10).astype(DTYPES[self.dtype])

    def sparse(self, *shape: int, density: float = 0.1) -> Array:
        """Weights of the order of 1, most of them 0; the first row has none and the second one at most."""
        weight = self.one(*shape)
        weight[self.rng.random(shape) >= density] = 0
        if len(shape) > 1 and shape[0] > 2:
            weight[0] = 0
            weight[1].reshape(-1)[1:] = 0
        return weight

    def size(self, least: int = 1, most: int = 9) -> int:
        return int(self.rng.integers(least, most + 1))

    def integers(self, low: int, high: int, *shape: int, dtype: Any = np.int64) -> Array:
        """Integers from low to high, both included."""
        return self.rng.integers(low, high, shape, endpoint=True).astype(dtype)


Build = Callable[[Draw], list[Any]]


@dataclass(frozen=True)
class Subject:
    """An operator with attributes, and how its inputs are drawn.

    Attributes:
        op_type: operator.
        build: draws the inputs.
        attributes: of the operator.
        outputs: how many there are.
        opset: of the operator.
        constants: inputs that must be initializers.
        scales: of the inputs.
        dtypes: of the inputs.
        wrong: runtimes that do not compute the operator as it is specified, or not in its dtype.
    """

    op_type: str
    build: Build
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    opset: int = 22
    constants: tuple[int, ...] = ()
    scales: tuple[float, ...] = (1e-6, 1e-3, 1.0, 30.0, 1e6)
    dtypes: tuple[str, ...] = tuple(DTYPES)
    wrong: tuple[str, ...] = ()

    @property
    def node(self) -> Node:
        """The operator as a node of a structure, with all inputs."""
        outputs = tuple(f"o{position}" for position in range(self.outputs))
        return Node("subject", self.op_type, (), outputs, self.attributes)

    @property
    def operation(self) -> Operation:
        """The operator as an operation in normal form."""
        return Operation("subject", self.op_type, (), self.node.outputs, (), self.node.attributes)


def by_torch(subject: Subject, arrays: list[Array | None]) -> list[Array] | None:
    """The outputs of torch, None where it has no kernel for the dtypes."""
    tensors = [None if x is None else torch_tensors.to_tensor(x.copy(), dtypes.from_numpy(x.dtype)) for x in arrays]
    try:
        results = torch_operators.apply(subject.node, tensors, subject.opset)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None
    return [torch_tensors.to_numpy(None, "output", result) for result in results[: subject.outputs]]


def model_of(subject: Subject, arrays: list[Array | None]) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A model of one node, and what to feed it."""
    names = ["" if x is None else f"i{position}" for position, x in enumerate(arrays)]
    fed, inputs, initializers = {}, [], []
    for position, (name, x) in enumerate(zip(names, arrays, strict=True)):
        if x is None:
            continue
        kind = helper.np_dtype_to_tensor_dtype(x.dtype)
        if position in subject.constants:
            initializers.append(onnx.numpy_helper.from_array(x, name))
        else:
            fed[name] = x
            inputs.append(helper.make_tensor_value_info(name, kind, x.shape))
    node = helper.make_node(subject.op_type, names, list(subject.node.outputs), **subject.attributes)
    outputs = [helper.make_empty_tensor_value_info(name) for name in subject.node.outputs]
    graph = helper.make_graph([node], "subject", inputs, outputs, initializers)
    opset = [helper.make_opsetid("", subject.opset)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10), fed


def by_onnxruntime(subject: Subject, arrays: list[Array | None], optimised: bool) -> list[Array] | None:
    """The outputs of onnxruntime, None where it has no kernel for the dtypes."""
    model, fed = model_of(subject, arrays)
    if any(x.dtype == ml_dtypes.bfloat16 for x in fed.values()):
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        outputs: list[Array] = session.run(None, fed)
    except Exception as error:
        if type(error).__module__.startswith("onnxruntime"):
            return None
        raise
    return outputs


def by_reference(subject: Subject, arrays: list[Array | None]) -> list[Array] | None:
    """The outputs of ONNX's reference implementation, None where it does not compute this."""
    model, fed = model_of(subject, arrays)
    try:
        outputs: Any = ReferenceEvaluator(model).run(None, fed)
    except Exception:
        return None
    return list(outputs)


def runs(subject: Subject, arrays: list[Array | None]) -> dict[str, list[Array]]:
    """The outputs of every runtime that computes the operator."""
    results = {
        "torch": by_torch(subject, arrays),
        "onnxruntime": by_onnxruntime(subject, arrays, False),
        "onnxruntime, optimised": by_onnxruntime(subject, arrays, True),
        "reference": by_reference(subject, arrays),
    }
    return {
        name: result
        for name, result in results.items()
        if result is not None and name.partition(",")[0] not in subject.wrong
    }


def drawn(
    subject: Subject, rng: RNG, dtype: str, scale: float, kind: str = "normal"
) -> tuple[Subject, list[Array | None]]:
    """The subject, its hidden size set to fit, and inputs."""
    with np.errstate(all="ignore"):
        arrays = [None if x is None else np.asarray(x) for x in subject.build(Draw(rng, dtype, scale, kind))]
    if "hidden_size" in subject.attributes:
        recurrence = arrays[2]
        assert recurrence is not None
        subject = replace(subject, attributes={**subject.attributes, "hidden_size": recurrence.shape[2]})
    return subject, arrays
