"""The initializers and constants of an ONNX model, wherever they stand, as those of one structure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, SparseTensorProto, TensorProto

from deepstruct import attributes, encoding
from deepstruct.converters import onnx_keys, onnx_tensors
from deepstruct.errors import FaultyError, MalformedFileError
from deepstruct.limits import variable
from deepstruct.mask import Mask
from deepstruct.options import ReadOptions
from deepstruct.structure import Parameter, ValueInfo
from deepstruct.tensor import Tensor


class Initializers:
    """Collects tensors under names that are unique in the whole model.

    Attributes:
        parameters: by name.
        constants: by name.
        stored: name of a parameter -> encoding and bytes that the file has it in.
    """

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self.path = path
        self.options = options
        self.parameters: dict[str, Parameter] = {}
        self.constants: dict[str, Tensor] = {}
        self.stored: dict[str, tuple[str, int]] = {}
        self._small: set[str] = set()
        self._masks: dict[str, Any] = {}
        self._dense: dict[str, TensorProto] = {}
        self._kept: dict[str, NDArray[Any]] = {}
        self._masked = 0

    def declare(self, proto: ModelProto) -> None:
        """Notes which tensors are parameters although they are as small as constants, and the masks of dense ones.

        Raises:
            MalformedFileError: the notes are not what `deepstruct` writes.
        """
        for entry in proto.metadata_props:
            if entry.key == onnx_keys.PARAMETERS:
                self._small = set(onnx_keys.json_object(self.path, entry, self.options.limits))
            if entry.key == onnx_keys.MASKS:
                self._masks = onnx_keys.json_object(self.path, entry, self.options.limits)

    def add_dense(self, proto: TensorProto, name: str) -> None:
        """Adds a tensor; small ones that are no weights become constants.

        Raises:
            MalformedFileError: it is inconsistent, or its name is taken.
            UnsupportedError: a constant of a dtype that constants cannot have.
        """
        self._require_new(name)
        if onnx_tensors.is_constant(proto) and name not in self._small and name not in self._masks:
            self.constants[name] = onnx_tensors.to_constant(self.path, proto)
            return
        dtype = onnx_tensors.dtype_name(self.path, name, proto.data_type)
        array = onnx_tensors.to_array(self.path, proto)
        mask = Mask.of_zeros(array) if self.options.infer_masks else None
        if name in self._masks:
            mask = self._noted_mask(name, array)
        self.parameters[name] = self._parameter(name, dtype, tuple(proto.dims), mask)
        self.stored[name] = "dense", onnx_tensors.stored_bytes(dtype, array.size)
        if proto.data_location == TensorProto.EXTERNAL:  # the file may get other content; what is mapped stays
            self._kept[name] = array
        else:
            self._dense[name] = proto

    def _parameter(self, name: str, dtype: str, shape: tuple[int, ...], mask: Mask | None = None) -> Parameter:
        try:
            return Parameter(name, dtype, shape, mask)
        except FaultyError as error:
            raise MalformedFileError(str(self.path), f"tensor {name!r}: {error.faults[0].message}") from error

    def _noted_mask(self, name: str, array: NDArray[Any]) -> Mask:
        """The mask of a dense tensor that is noted to have one."""
        present, noted = np.asarray(array != 0), self._masks[name]
        if noted is not True:
            if not isinstance(noted, dict):
                raise MalformedFileError(str(self.path), f"mask of {name!r}: must be true or an object")
            try:
                zeros = encoding.decode(noted, array.shape, self.options.limits)
            except FaultyError as error:
                raise MalformedFileError(str(self.path), f"mask of {name!r}: {error.faults[0]}") from error
            present |= zeros.to_array()
        return Mask.from_array(present)

    def add_sparse(self, proto: SparseTensorProto, name: str, stored_as: str) -> None:
        """Adds a sparse tensor, whose entries are its mask, from an initializer (``coo``) or a ``constant``.

        Raises:
            MalformedFileError: it is inconsistent, or its name is taken.
        """
        self._require_new(name)
        sparse = onnx_tensors.from_sparse(self.path, proto, self.options.limits, name)
        self.add_kept(sparse.parameter, sparse.kept, stored_as, proto.ByteSize())

    def add_kept(self, parameter: Parameter, kept: NDArray[Any], stored_as: str, size: int) -> None:
        """Adds a parameter with the entries that exist, in mask order, and with what the file has of it.

        Raises:
            MalformedFileError: its name is taken.
        """
        self._require_new(parameter.name)
        self._masked += parameter.size if parameter.mask is not None else 0
        if self._masked > self.options.limits.total_mask_elements:
            bound = f"{self.options.limits.total_mask_elements}; set {variable('total_mask_elements')} to allow it"
            raise MalformedFileError(
                str(self.path), f"all masks up to that of {parameter.name!r} have more elements than {bound}"
            )
        self.parameters[parameter.name], self._kept[parameter.name] = parameter, kept
        self.stored[parameter.name] = stored_as, size

    def add_unused(self, proto: ModelProto) -> None:
        """Adds the parameters that are noted beside the graph, because no operator uses them.

        Raises:
            MalformedFileError: the note is not what `deepstruct` writes.
        """
        for entry in proto.metadata_props:
            if entry.key == onnx_keys.UNUSED:
                noted = onnx_keys.json_object(self.path, entry, self.options.limits)
                try:
                    constants = {name: attributes.tensor_from_json(value) for name, value in noted.items()}
                except FaultyError as error:
                    raise MalformedFileError(str(self.path), f"metadata {entry.key!r}: {error.faults[0]}") from error
                for name, constant in constants.items():
                    if constant.dtype == "string":
                        raise MalformedFileError(str(self.path), f"metadata {entry.key!r}: {name!r} has strings")
                    array = constant.to_array().reshape(-1)
                    self.add_kept(self._parameter(name, constant.dtype, constant.shape), array, "noted", array.nbytes)

    def _require_new(self, name: str) -> None:
        if not name:
            raise MalformedFileError(str(self.path), "an initializer has no name")
        if name in self.parameters or name in self.constants:
            raise MalformedFileError(str(self.path), f"two initializers are called {name!r}")

    def without_defaults(self, inputs: Iterable[ValueInfo]) -> tuple[ValueInfo, ...]:
        """The graph inputs that are no mere declaration of an initializer, as IR versions before 4 demand it.

        Raises:
            MalformedFileError: an initializer is not what it is declared to be.
        """
        return tuple(value for value in inputs if not self._initialises(value))

    def _initialises(self, value: ValueInfo) -> bool:
        tensor = self.parameters.get(value.name) or self.constants.get(value.name)
        if tensor is None:
            return False
        declared = value.shape if value.shape is not None else tensor.shape
        fits = len(declared) == len(tensor.shape) and all(
            dim == extent or not isinstance(dim, int) for dim, extent in zip(declared, tensor.shape, strict=True)
        )
        if value.dtype != tensor.dtype or value.containers or not fits:
            message = f"the initializer {value.name!r} is {tensor.dtype} {list(tensor.shape)}, but declared otherwise"
            raise MalformedFileError(str(self.path), message)
        return True

    def load(self, parameter: Parameter) -> NDArray[Any]:
        """The numbers of a parameter: all entries, or those that exist."""
        if parameter.name in self._kept:
            return self._kept[parameter.name]
        return onnx_tensors.to_array(self.path, self._dense[parameter.name])
