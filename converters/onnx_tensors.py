"""ONNX tensors, dense, sparse and external, <-> numpy arrays, masks and constants."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import SparseTensorProto, TensorProto, numpy_helper

from deepstruct import dtypes, files
from deepstruct.errors import FaultyError, MalformedFileError, UnsupportedError
from deepstruct.limits import Limits, variable
from deepstruct.mask import Mask, check_shape, strides
from deepstruct.structure import Parameter
from deepstruct.tensor import MAX_ELEMENTS, Tensor


def dtype_name(path: Path, name: str, data_type: int) -> str:
    """The document's dtype for a TensorProto.DataType.

    Raises:
        MalformedFileError: there is no such type.
        UnsupportedError: documents have no name for it.
    """
    if data_type == TensorProto.STRING:
        return "string"
    try:
        return dtypes.from_numpy(onnx.helper.tensor_dtype_to_np_dtype(data_type))
    except KeyError:
        known = data_type in TensorProto.DataType.values() and data_type != TensorProto.UNDEFINED
    if known:
        spelled = TensorProto.DataType.Name(data_type)
        raise UnsupportedError(f"{path}: tensor {name!r}: documents have no dtype for ONNX's {spelled}")
    raise MalformedFileError(str(path), f"tensor {name!r} has no valid data type ({data_type})")


def data_type(dtype: str) -> int:
    """The TensorProto.DataType of a document's dtype."""
    if dtype == "string":
        return int(TensorProto.STRING)
    return int(onnx.helper.np_dtype_to_tensor_dtype(dtypes.to_numpy(dtype).newbyteorder("=")))


def to_array(path: Path, proto: TensorProto, name: str = "") -> NDArray[Any]:
    """The elements of a dense tensor, which errors call `name`; external data are memory-mapped.

    Raises:
        MalformedFileError: the data do not have the size that the shape asks for, or lie elsewhere.
    """
    name = name or proto.name
    dtype = dtype_name(path, name, proto.data_type)
    if proto.data_location == TensorProto.EXTERNAL:
        return _external(path, proto, dtype)
    raw = len(proto.raw_data) if proto.HasField("raw_data") else None
    if raw is not None and (
        _has_typed_data(proto) or (dtype in dtypes.BITS and raw != stored_bytes(dtype, size_of(proto)))
    ):
        message = "its numbers are there twice, or raw data have another size"
        raise MalformedFileError(str(path), f"tensor {name!r} is inconsistent: {message}")
    try:
        array = _clean(numpy_helper.to_array(proto), dtype)
    except (ValueError, TypeError, AttributeError) as error:
        raise MalformedFileError(str(path), f"tensor {name!r} is inconsistent: {error}") from error
    if array.shape != tuple(proto.dims):
        raise MalformedFileError(str(path), f"tensor {name!r} is inconsistent: its data have another size")
    return array


def _has_typed_data(proto: TensorProto) -> bool:
    kinds = ("float", "int32", "string", "int64", "double", "uint64")
    return any(getattr(proto, f"{kind}_data") for kind in kinds)


def _clean(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    """The same numbers, without what readers leave in the unused bits of types of less than 8 bits."""
    bits = dtypes.BITS.get(dtype)
    if bits is None:
        return array
    if dtype == "bool":
        codes = np.ascontiguousarray(array).view(np.uint8)
        return (codes != 0).reshape(array.shape) if bool((codes > 1).any()) else array
    return (np.ascontiguousarray(array).view(np.uint8) & np.uint8(2**bits - 1)).view(array.dtype).reshape(array.shape)


def _external(path: Path, proto: TensorProto, dtype: str) -> NDArray[Any]:
    entries = {entry.key: entry.value for entry in proto.external_data}
    place = files.beside(path, entries.get("location", ""), f"tensor {proto.name!r}: external location")
    if dtype == "string":
        raise UnsupportedError(f"{path}: tensor {proto.name!r}: strings cannot lie in an external file")
    try:
        shape = check_shape(tuple(proto.dims))
    except FaultyError as error:
        raise MalformedFileError(str(path), f"tensor {proto.name!r}: {error.faults[0].message}") from error
    expected = stored_bytes(dtype, math.prod(shape))
    texts = entries.get("offset", "0"), entries.get("length", str(expected))
    if not all(re.fullmatch(r"[0-9]{1,18}", text) for text in texts):
        raise MalformedFileError(str(path), f"tensor {proto.name!r}: external offset and length are no numbers")
    offset, length = map(int, texts)
    with files.reading(place):
        size = place.stat().st_size
        if length != expected or offset + length > size:
            raise MalformedFileError(
                str(path),
                f"tensor {proto.name!r} takes {expected} bytes, but refers to {length} bytes at offset {offset} of "
                f"{place.name}, which has {size}",
            )
        if not length:
            return np.empty(shape, dtypes.to_numpy(dtype))
        content = np.memmap(place, dtype=np.uint8, mode="r", offset=offset, shape=(length,))
    if dtype in dtypes.NARROW:
        packed = TensorProto(data_type=proto.data_type, dims=shape, raw_data=content.tobytes())
        return _clean(numpy_helper.to_array(packed), dtype)
    return _clean(np.asarray(content).view(dtypes.to_numpy(dtype)).reshape(shape), dtype)


def stored_bytes(dtype: str, size: int) -> int:
    """Bytes of the raw data of a dense tensor; types of less than 8 bits are packed (onnx.proto, TensorProto)."""
    if dtype in dtypes.NARROW:
        return (size * dtypes.BITS[dtype] + 7) // 8
    return size * dtypes.to_numpy(dtype).itemsize


@dataclass(frozen=True)
class Sparse:
    """A sparse tensor as a parameter with a mask, and its kept entries in mask order."""

    parameter: Parameter
    kept: NDArray[Any]


def from_sparse(path: Path, proto: SparseTensorProto, limits: Limits, name: str = "") -> Sparse:
    """The parameter of a sparse tensor; its entries, zeros included, are exactly the mask.

    Raises:
        MalformedFileError: dims, indices and values do not fit together (onnx.proto, SparseTensorProto).
    """
    name = name or proto.values.name

    def wrong(reason: str) -> MalformedFileError:
        return MalformedFileError(str(path), f"sparse tensor {name!r}: {reason}")

    shape = tuple(proto.dims)
    size = math.prod(shape)
    if any(extent < 0 for extent in shape) or size > limits.mask_elements:
        bound = f"more than {limits.mask_elements} elements; set {variable('mask_elements')} to allow it"
        raise wrong(f"dims {list(shape)} are negative or have {bound}")
    values = to_array(path, proto.values, name).reshape(-1)
    if not values.size and not proto.HasField("indices"):
        indices: NDArray[Any] = np.empty(0, dtype=np.int64)
    else:
        indices = to_array(path, proto.indices, f"indices of {name}")
    if indices.dtype.kind != "i":
        raise wrong(f"indices are {indices.dtype}, not int64")
    if indices.ndim == 2 and indices.shape[1] == len(shape):
        outside = (indices < 0) | (indices >= np.array(shape))
        if outside.any():
            raise wrong(f"index {indices[outside.any(axis=1)][0].tolist()} is outside of {list(shape)}")
        indices = indices.astype(np.int64) @ np.array(strides(shape), dtype=np.int64)
    elif indices.ndim != 1:
        raise wrong(f"indices have shape {list(indices.shape)}, not [nnz] or [nnz, {len(shape)}]")
    if indices.shape != values.shape:
        raise wrong(f"{values.size} values, but {indices.size} indices")
    if bool((indices[1:] <= indices[:-1]).any()):
        position = int(np.flatnonzero(indices[1:] <= indices[:-1])[0]) + 1
        raise wrong(f"indices must be sorted and without duplicates; number {position} is not larger than the last")
    try:
        mask = Mask.from_indices(shape, indices)
        parameter = Parameter(name, dtypes.from_numpy(values.dtype), shape, mask)
    except FaultyError as error:
        raise wrong(error.faults[0].message) from error
    return Sparse(parameter, values)


def bytes_of(path: Path, proto: TensorProto) -> int:
    """Bytes of the raw data that a dense tensor claims to have."""
    return stored_bytes(dtype_name(path, proto.name, proto.data_type), size_of(proto))


def size_of(proto: TensorProto) -> int:
    """Number of elements that a tensor claims to have."""
    return math.prod(proto.dims)


def can_be_constant(proto: TensorProto) -> bool:
    """Whether constants of a structure can have the tensor's dtype."""
    return proto.data_type not in (TensorProto.COMPLEX64, TensorProto.COMPLEX128)


def is_constant(proto: TensorProto) -> bool:
    """Whether a tensor is part of the structure: strings, a scalar, or small and of integers or bools."""
    if proto.data_type == TensorProto.STRING:
        return True
    if not proto.dims:
        return can_be_constant(proto)
    return proto.data_type in _INTEGERS and size_of(proto) <= MAX_ELEMENTS


_INTEGERS = frozenset(
    number for name, number in TensorProto.DataType.items() if name == "BOOL" or name.startswith(("INT", "UINT"))
)


def is_small(parameter: Parameter) -> bool:
    """Whether `is_constant` would take a parameter's tensor for a constant."""
    proto = TensorProto(data_type=data_type(parameter.dtype), dims=parameter.shape)
    return parameter.mask is None and is_constant(proto)


def to_constant(path: Path, proto: TensorProto) -> Tensor:
    """A tensor as a constant of the structure."""
    try:
        return Tensor.from_array(to_array(path, proto))
    except UnicodeDecodeError as error:
        raise UnsupportedError(f"{path}: tensor {proto.name!r} has strings that are no UTF-8 text") from error
    except FaultyError as error:
        raise UnsupportedError(f"{path}: tensor {proto.name!r}: {error.faults[0].message}") from error


def from_constant(constant: Tensor, name: str = "") -> TensorProto:
    """The dense TensorProto of a constant."""
    array = constant.to_array()
    if constant.dtype == "string":
        strings = [str(item).encode() for item in constant.data]
        return TensorProto(name=name, data_type=TensorProto.STRING, dims=constant.shape, string_data=strings)
    return numpy_helper.from_array(array, name)


def head(name: str, dtype: str, shape: tuple[int, ...]) -> TensorProto:
    """A dense tensor without its numbers."""
    return TensorProto(name=name, data_type=data_type(dtype), dims=shape)


def raw_data(dtype: str, array: NDArray[Any]) -> memoryview:
    """The bytes of a dense tensor (onnx.proto, TensorProto.raw_data)."""
    if dtype in dtypes.NARROW:
        return memoryview(numpy_helper.from_array(array).raw_data)
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def dense(parameter: Parameter, array: NDArray[Any]) -> TensorProto:
    """The dense tensor of a parameter's whole array."""
    tensor = head(parameter.name, parameter.dtype, parameter.shape)
    tensor.raw_data = bytes(raw_data(parameter.dtype, array))
    return tensor


def sparse(parameter: Parameter, mask: Mask, kept: NDArray[Any]) -> SparseTensorProto:
    """The sparse tensor of a parameter's kept entries, with flat indices.

    The indices stand in the typed field, where a small number takes few bytes, instead of 8 bytes each raw; the
    field is there even if it is empty, as onnxruntime demands.
    """
    values = TensorProto(
        name=parameter.name,
        data_type=data_type(parameter.dtype),
        dims=[mask.nnz],
        raw_data=np.ascontiguousarray(kept).tobytes(),
    )
    indices = TensorProto(data_type=TensorProto.INT64, dims=[mask.nnz])
    indices.int64_data.extend(mask.indices().tolist())
    return SparseTensorProto(values=values, indices=indices, dims=parameter.shape)
