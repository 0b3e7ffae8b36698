"""Runs a model: with onnxruntime, values of every element type included, and with ONNX's reference evaluator."""

from __future__ import annotations

import ctypes
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto, TypeProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_backend.values import Value, plain

ORDINARY = frozenset(
    {
        *(TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BOOL, TensorProto.STRING),
        *(TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64),
        *(TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64),
    }
)
"""Element types that onnxruntime exchanges with numpy."""


class RunError(Exception):
    """A model cannot be run; the message says why, without the parts that differ from model to model."""


NEWEST_IR = 13
"""The newest IR version that onnxruntime reads. Versions after it add nothing that a graph could compute with."""

LACKING = "lacks, on this machine,"
"""How a reason begins that another machine may not have."""

_REWORDED = (
    (r".*Could not find an implementation for (\w+)\((\d+)\).*", r"has no kernel for \1-\2 with these types"),
    (r".*Failed to find kernel for (\w+)\((\d+)\).*", r"has no kernel for \1-\2 with these types"),
    (r".*?([\w.]+):(\w+)\(-1\) is not a registered function/op.*", r"does not know the operator \1.\2"),
    (r".*No Op registered for \w+ with domain_version of (\d+).*", r"does not know opset \1"),
    (r".*Unrecognized attribute: (\w+) for operator (\w+).*", r"does not know the attribute \1 of \2"),
    (r".*Failed to construct locale with name:(\S+?):.*", rf"{LACKING} the locale \1"),
    (r"^\w+ : ", ""),
    (r"/onnxruntime_src/\S+:\d+ .*?\)(?:::<lambda\(\)>)?(?: const)?(?: \[with [^\]]*\])? ", ""),
    (r"Non-zero status code returned while running (\w+) node\. Name:'[^']*' Status Message: ", r"\1: "),
    (r"Exception during initialization: ", ""),
    (r"^(?!has |does |lacks)", "says: "),
)


def with_onnxruntime(
    proto: ModelProto, data: Sequence[Mapping[str, Value]], optimised: bool = True
) -> list[list[Value]]:
    """The outputs for each set of inputs.

    Raises:
        RunError: onnxruntime refuses the model or fails.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    types = [value.type for value in (*proto.graph.input, *proto.graph.output)]
    odd = any(kind.HasField("tensor_type") and kind.tensor_type.elem_type not in ORDINARY for kind in types)
    run = _run_with_bytes if odd else _run_with_numpy
    try:
        with _unreleased_operators():
            session = onnxruntime.InferenceSession(_readable(proto), options, providers=["CPUExecutionProvider"])
        return [run(session, proto, inputs) for inputs in data]
    except Exception as error:  # onnxruntime has a class of its own for each of its codes
        raise RunError(_told_by_onnxruntime(str(error))) from error


def _readable(proto: ModelProto) -> bytes:
    if proto.ir_version <= NEWEST_IR:
        return bytes(proto.SerializeToString())
    older = ModelProto()
    older.CopyFrom(proto)
    older.ir_version = NEWEST_IR
    return bytes(older.SerializeToString())


def _run_with_numpy(
    session: onnxruntime.InferenceSession, proto: ModelProto, inputs: Mapping[str, Value]
) -> list[Value]:
    del proto
    return [plain(value) for value in session.run(None, dict(inputs))]


def _run_with_bytes(
    session: onnxruntime.InferenceSession, proto: ModelProto, inputs: Mapping[str, Value]
) -> list[Value]:
    types = {value.name: value.type for value in (*proto.graph.input, *proto.graph.output)}
    feeds = {name: _to_runtime(value, types[name]) for name, value in inputs.items()}
    names = [value.name for value in proto.graph.output]
    return [_from_runtime(value) for value in session.run_with_ort_values(names, feeds)]


def _to_runtime(value: Value, kind: TypeProto) -> onnxruntime.OrtValue:
    if not isinstance(value, np.ndarray):
        raise RunError("the harness has no way to hand in sequences beside types that numpy lacks")
    element = kind.tensor_type.elem_type
    if element in ORDINARY:
        return onnxruntime.OrtValue.ortvalue_from_numpy(value)
    content = numpy_helper.from_array(value).raw_data
    made = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(value.shape), element)
    ctypes.memmove(made.data_ptr(), content, len(content))
    return made


def _from_runtime(value: onnxruntime.OrtValue) -> Value:
    if not value.is_tensor() or value.element_type() in ORDINARY:
        return plain(value.numpy())
    tensor = TensorProto(data_type=value.element_type(), dims=value.shape())
    tensor.raw_data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return numpy_helper.to_array(tensor)


def _told_by_onnxruntime(message: str) -> str:
    """What an error says, without names of nodes and files, lines and addresses."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : ", "", message.strip().split("\n")[0])
    for pattern, words in _REWORDED:
        text = re.sub(pattern, words, text)
    return text.strip()


@contextmanager
def _unreleased_operators() -> Iterator[None]:
    """Lets onnxruntime open models of an operator set that is newer than it; operators that it lacks stay refused."""
    name = "ALLOW_RELEASED_ONNX_OPSET_ONLY"
    before = os.environ.get(name)
    os.environ[name] = "0"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def with_reference(proto: ModelProto, data: Sequence[Mapping[str, Value]]) -> list[list[Value]]:
    """The outputs for each set of inputs.

    Raises:
        RunError: the reference evaluator refuses the model or fails.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = ReferenceEvaluator(proto)
            return [[plain(value) for value in evaluator.run(None, dict(inputs))] for inputs in data]
    except Exception as error:  # it raises whatever numpy and Python raise
        raise RunError(type(error).__name__) from error
