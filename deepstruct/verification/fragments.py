"""Fragments as structures of their own, and as ONNX models, once the values that they run on are known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, SparseTensorProto, TensorProto, numpy_helper

from deepstruct import dtypes
from deepstruct.converters import onnx_graphs, onnx_opsets, onnx_tensors
from deepstruct.errors import FaultyError
from deepstruct.mask import Mask
from deepstruct.structure import Function, Node, Parameter, Structure, ValueInfo, walk
from deepstruct.tensor import Tensor
from deepstruct.verification.runtimes import Fragment, NotRunnableError, Value

_LARGEST = 2**16
"""Bytes of a leaf that may be part of the model; larger ones are inputs, so that they are not copied."""


def structure_of(fragment: Fragment, values: Mapping[str, Value], fixed: frozenset[str]) -> Structure:
    """The fragment as a structure: leaves are its constants and parameters, all other values from outside its inputs.

    Raises:
        NotRunnableError: a value has no type that ONNX knows, or the nodes contradict each other.
    """
    functions = _called(fragment)
    embedded = _embedded(fragment.nodes, functions)
    needed = dict.fromkeys((*_from_outside(fragment), *embedded))
    inputs, parameters, constants = [], [], {}
    for name in needed:
        value = values[name]
        info = _info(name, value)
        if name in embedded or (name in fixed and isinstance(value, np.ndarray) and info.dtype != "string"):
            assert isinstance(value, np.ndarray)
            assert info.dtype is not None
            parameter = Parameter(name, info.dtype, value.shape)
            if onnx_tensors.is_small(parameter):
                constants[name] = Tensor.from_array(value)
            else:
                parameters.append(parameter)
        elif name in fixed and isinstance(value, np.ndarray):
            constants[name] = Tensor.from_array(value)
        else:
            inputs.append(info)
    try:
        return Structure(
            nodes=fragment.nodes,
            inputs=tuple(inputs),
            outputs=tuple(ValueInfo(name, None, None) for name in fragment.outputs),
            parameters=tuple(parameters),
            constants=constants,
            functions=functions,
            opset=fragment.opset,
        )
    except FaultyError as error:
        raise NotRunnableError(error.faults[0].message) from error


def baked(structure: Structure, values: Mapping[str, Value], *, large: bool) -> tuple[str, ...]:
    """Names of the parameters that become part of the model; the others become inputs of it.

    Args:
        structure: as `structure_of` gives it.
        values: of its parameters.
        large: all of them, not the small ones alone. Some kernels demand that of weights.
    """
    embedded = _embedded(structure.nodes, structure.functions)
    return tuple(
        parameter.name
        for parameter in structure.parameters
        if large or parameter.name in embedded or _array(values, parameter.name).nbytes <= _LARGEST
    )


def key_of(structure: Structure, values: Mapping[str, Value], part: Iterable[str]) -> tuple[object, ...]:
    """What a model depends on beside the fragment: the types of its inputs, and every number that is part of it."""
    names = sorted((*part, *structure.constants))
    digest = hashlib.blake2b()
    for name in names:
        array = _array(values, name)
        content = repr(array.tolist()).encode() if array.dtype == object else np.ascontiguousarray(array).tobytes()
        digest.update(f"{name!r} {array.dtype} {array.shape} {len(content)} ".encode() + content)
    leaves = tuple((parameter.name, parameter.dtype, len(parameter.shape)) for parameter in structure.parameters)
    return structure.inputs, leaves, tuple(names), digest.digest()


def model_of(structure: Structure, values: Mapping[str, Value], part: Iterable[str]) -> ModelProto:
    """The ONNX model of a fragment.

    Args:
        structure: as `structure_of` gives it.
        values: of its parameters.
        part: those that become part of the model.
    """

    def stored(name: str, sparse: bool | None) -> TensorProto | SparseTensorProto:
        array = _array(values, name)
        if not sparse:
            return numpy_helper.from_array(array, name)
        mask = Mask.from_array(array != 0)
        return onnx_tensors.sparse(structure.parameter(name), mask, array[array != 0])

    graph = onnx_graphs.graph_proto(structure, stored)
    used = _from_outside(structure)
    kept = set(part)
    graph.initializer.extend(numpy_helper.from_array(_array(values, name), name) for name in part if name in used)
    left = (p for p in structure.parameters if p.name not in kept)
    graph.input.extend(onnx_graphs.value_proto(ValueInfo(p.name, p.dtype, (None,) * len(p.shape))) for p in left)
    return ModelProto(
        ir_version=onnx_opsets.ir_version(structure, None),
        opset_import=onnx_graphs.opset_ids(structure.opset),
        functions=[onnx_graphs.function_proto(function, structure, stored) for function in structure.functions],
        graph=graph,
    )


def _array(values: Mapping[str, Value], name: str) -> NDArray[Any]:
    value = values[name]
    assert isinstance(value, np.ndarray)
    return value


def _info(name: str, value: Value) -> ValueInfo:
    """The type of a value, its extents left open."""
    if isinstance(value, list):
        if not value or not all(isinstance(item, np.ndarray) for item in value):
            raise NotRunnableError(f"{name!r} is a sequence of unknown type")
        return ValueInfo(name, _dtype(name, value[0]), None, containers=("sequence",))
    if not isinstance(value, np.ndarray):
        raise NotRunnableError(f"{name!r} is an optional value of unknown type")
    return ValueInfo(name, _dtype(name, value), (None,) * value.ndim)


def _dtype(name: str, array: NDArray[Any]) -> str:
    try:
        return dtypes.from_numpy(array.dtype)
    except KeyError:
        raise NotRunnableError(f"{name!r} has the dtype {array.dtype}, which ONNX does not have") from None


def _from_outside(graph: Fragment | Structure) -> dict[str, None]:
    """Names that the nodes take from outside, and outputs that none of them makes."""
    made = {""}
    found: dict[str, None] = {}
    for node in graph.nodes:
        found.update(dict.fromkeys(name for name in node.sources if name not in made))
        made.update(node.outputs)
    outputs = [output if isinstance(output, str) else output.name for output in graph.outputs]
    found.update(dict.fromkeys(name for name in outputs if name not in made))
    return found


def _embedded(nodes: tuple[Node, ...], functions: tuple[Function, ...]) -> dict[str, None]:
    """Names of values that stand within attributes and functions of a model."""
    inner = [node for function in functions for node in walk(function.nodes)]
    found = dict.fromkeys(name for node in (*walk(nodes), *inner) for name in node.references)
    return found | dict.fromkeys(name for function in functions for name in function.captured)


def _called(fragment: Fragment) -> tuple[Function, ...]:
    """The functions that the nodes call, and those that these call."""
    functions = {function.key: function for function in fragment.functions}
    found: set[tuple[str, str, str]] = set()
    pending = [node.called for node in walk(fragment.nodes)]
    while pending:
        key = pending.pop()
        if key in functions and key not in found:
            found.add(key)
            pending += [node.called for node in walk(functions[key].nodes)]
    return tuple(function for key, function in functions.items() if key in found)
