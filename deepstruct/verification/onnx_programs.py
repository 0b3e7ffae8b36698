"""Fragments in onnxruntime and in ONNX's reference evaluator."""

from __future__ import annotations

import ctypes
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from deepstruct import dtypes
from deepstruct.converters import onnx_tensors
from deepstruct.structure import Structure
from deepstruct.verification import fragments
from deepstruct.verification.runtimes import Fragment, NotRunnableError, Value

_ORDINARY = frozenset(
    {
        *("float", "double", "float16", "bool", "string", "complex64", "complex128"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    }
)
"""Element types, as onnxruntime calls them, that it exchanges with numpy."""

_MOST_SESSIONS = 8

_REWORDED = (
    (r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", ""),
    (r".*Could not find an implementation for (\w+)\((\d+)\).*", r"has no kernel for \1-\2 with these types"),
    (r".*Failed to find kernel for (\w+)\((\d+)\).*", r"has no kernel for \1-\2 with these types"),
    (r".*?([\w.]+):(\w+)\(-1\) is not a registered function/op.*", r"does not know the operator \1.\2"),
    (r"^(Load model from \S+ failed:|This is an invalid model\. )", ""),
    (r"^Non-zero status code returned while running (\w+) node\. Name:'([^']*)' Status Message: ", r"\1 (\2): "),
    (r"/\S+:\d+ .*?\)(?:::<lambda\(\)>)?(?: const)?(?: \[with [^\]]*\])? ", ""),
)
_LONGEST = 300


def session_options(optimise: bool, threads: int) -> onnxruntime.SessionOptions:
    """Options under which onnxruntime rewrites the graph in every way or in none, and says nothing on its own."""
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False  # which would keep what was freed
    return options


def open_session(model: bytes | Path, optimise: bool, threads: int) -> onnxruntime.InferenceSession:
    """A session of a serialised model, or of a file.

    Raises:
        NotRunnableError: onnxruntime refuses the model.
    """
    source = str(model) if isinstance(model, Path) else model
    try:
        return onnxruntime.InferenceSession(
            source, session_options(optimise, threads), providers=["CPUExecutionProvider"]
        )
    except MemoryError:
        raise
    except Exception as error:  # onnxruntime has a class of its own for each of its codes
        raise NotRunnableError(reason(error)) from error


def run_session(session: onnxruntime.InferenceSession, values: Mapping[str, Value]) -> list[Value]:
    """The outputs of a session, values of every element type included.

    Raises:
        NotRunnableError: onnxruntime fails.
    """
    types = [value.type for value in (*session.get_inputs(), *session.get_outputs())]
    odd = any(kind.startswith("tensor(") and kind[7:-1] not in _ORDINARY for kind in types)
    try:
        if not odd:
            return [_plain(value) for value in session.run(None, dict(values))]
        feeds = {name: _to_runtime(name, value) for name, value in values.items()}
        return [_from_runtime(value) for value in session.run_with_ort_values(None, feeds)]
    except (MemoryError, NotRunnableError):
        raise
    except Exception as error:  # as above
        raise NotRunnableError(reason(error)) from error


def _plain(value: Any) -> Value:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if value is None else np.asarray(value)


def _to_runtime(name: str, value: Value) -> onnxruntime.OrtValue:
    """The value without a copy, unless its elements take less than a byte."""
    if not isinstance(value, np.ndarray):
        raise NotRunnableError(f"{name!r} is no tensor, and cannot be handed over beside types that numpy lacks")
    array = np.ascontiguousarray(value).reshape(value.shape)
    if array.dtype.isbuiltin == 1:  # numpy's own
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    number = onnx_tensors.data_type(array.dtype.name)
    if array.dtype.name not in dtypes.NARROW:
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(f"u{array.itemsize}"), number)
    content = bytes(onnx_tensors.raw_data(array.dtype.name, array))
    made = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(array.shape), number)
    ctypes.memmove(made.data_ptr(), content, len(content))
    return made


def _from_runtime(value: onnxruntime.OrtValue) -> Value:
    if not value.is_tensor() or value.data_type()[7:-1] in _ORDINARY:
        return _plain(value.numpy())
    tensor = TensorProto(data_type=value.element_type(), dims=value.shape())
    tensor.raw_data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    array: NDArray[Any] = numpy_helper.to_array(tensor)
    return array


def open_reference(model: ModelProto | Path) -> ReferenceEvaluator:
    """ONNX's reference evaluator of a model, or of a file.

    Raises:
        NotRunnableError: it does not know an operator.
    """
    with _reference():
        return ReferenceEvaluator(str(model) if isinstance(model, Path) else model)


def run_reference(evaluator: ReferenceEvaluator, values: Mapping[str, Value]) -> list[Value]:
    """The outputs that the evaluator computes.

    Raises:
        NotRunnableError: it fails.
    """
    with _reference():
        return [_plain(value) for value in evaluator.run(None, dict(values))]


@contextmanager
def _reference() -> Iterator[None]:
    """Keeps the evaluator from talking, and turns whatever numpy and Python raise into NotRunnableError."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    except MemoryError:
        raise
    except Exception as error:
        raise NotRunnableError(f"{type(error).__name__}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What an error of onnxruntime says, in one line, without codes, addresses and places in its source."""
    text = " ".join(str(error).split())
    for pattern, words in _REWORDED:
        text = re.sub(pattern, words, text)
    text = text.strip() or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


class OnnxProgram:
    """A fragment in onnxruntime; sessions are kept by the types of the values, and the numbers that they contain."""

    def __init__(self, fragment: Fragment, optimise: bool, threads: int) -> None:
        self._fragment = fragment
        self._optimise = optimise
        self._threads = threads
        self._sessions: dict[tuple[object, ...], onnxruntime.InferenceSession] = {}

    def run(self, values: Mapping[str, Value], fixed: frozenset[str] = frozenset()) -> list[Value]:
        """The outputs; see `deepstruct.verification.runtimes.Program`."""
        structure = fragments.structure_of(self._fragment, values, fixed)
        small = fragments.baked(structure, values, large=False)
        try:
            return self._run(structure, values, small)
        except NotRunnableError:
            if len(small) == len(structure.parameters):
                raise
            try:
                return self._run(structure, values, fragments.baked(structure, values, large=True))
            except NotRunnableError:
                pass  # the first reason is the one without the detour
            raise

    def _run(self, structure: Structure, values: Mapping[str, Value], part: Sequence[str]) -> list[Value]:
        key = fragments.key_of(structure, values, part)
        if key not in self._sessions:
            if len(self._sessions) >= _MOST_SESSIONS:
                self._sessions.clear()
            try:
                content = fragments.model_of(structure, values, part).SerializeToString()
            except ValueError as error:  # more than a message of protocol buffers holds
                raise NotRunnableError(f"its numbers do not fit into a model: {error}") from error
            self._sessions[key] = open_session(content, self._optimise, self._threads)
        session = self._sessions[key]
        return run_session(session, {value.name: values[value.name] for value in session.get_inputs()})


class ReferenceProgram:
    """A fragment in the evaluator of the onnx package."""

    def __init__(self, fragment: Fragment) -> None:
        self._fragment = fragment

    def run(self, values: Mapping[str, Value], fixed: frozenset[str] = frozenset()) -> list[Value]:
        """The outputs; see `deepstruct.verification.runtimes.Program`."""
        structure = fragments.structure_of(self._fragment, values, fixed)
        part = fragments.baked(structure, values, large=False)
        evaluator = open_reference(fragments.model_of(structure, values, part))
        return run_reference(evaluator, {name: values[name] for name in evaluator.input_names})
