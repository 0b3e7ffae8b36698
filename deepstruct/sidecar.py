"""The safetensors file that holds a document's weights: written tensor by tensor, read as memory maps.

The file format is https://github.com/huggingface/safetensors; the rules for its use are in `docs/format.md`,
section "Weights".
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from deepstruct import dtypes, files
from deepstruct.errors import Fault, MalformedFileError, UnreadableFileError, UnsupportedError, pointer
from deepstruct.model import Model, Weights, combine_digests, tensor_digest
from deepstruct.structure import Parameter, Structure

Progress = Callable[[Iterable[Parameter]], Iterable[Parameter]]


def write(file: IO[bytes], model: Model, layout: str, progress: Progress) -> str:
    """Writes a model's weights and returns their digest; one tensor is in memory at a time.

    The safetensors package can only write what is in memory as a whole, so the few lines of its format are here.
    Largest element type first keeps every tensor aligned, as that package does.

    Args:
        file: to write to, binary.
        model: with weights.
        layout: ``values``: one-dimensional tensors of the entries that exist; ``dense``: whole tensors.
        progress: wraps the parameters that are walked through.

    Raises:
        UnsupportedError: safetensors has no name for a parameter's dtype.
    """
    if model.weights is None:
        raise ValueError("the model has no weights")
    names = {parameter.name: _safetensors_name(parameter) for parameter in model.structure.parameters}
    itemsize = {name: dtypes.to_numpy(model.structure.parameter(name).dtype).itemsize for name in names}
    parameters = sorted(model.structure.parameters, key=lambda p: (-itemsize[p.name], p.name))
    header, offset = {}, 0
    for parameter in parameters:
        shape = _stored_shape(parameter, layout)
        end = offset + (parameter.nnz if layout == "values" else parameter.size) * itemsize[parameter.name]
        header[parameter.name] = {
            "dtype": names[parameter.name],
            "shape": shape,
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    digests = {}
    for parameter in progress(parameters):
        kept = np.ascontiguousarray(model.weights.kept(parameter.name))
        digests[parameter.name] = tensor_digest(parameter, kept)
        stored = kept if layout == "values" else np.ascontiguousarray(model.weights[parameter.name])
        file.write(stored.reshape(-1).view(np.uint8).data)
    return combine_digests(digests)


def _safetensors_name(parameter: Parameter) -> str:
    name = dtypes.SAFETENSORS_NAMES[parameter.dtype]
    if parameter.name == "__metadata__":
        raise UnsupportedError("safetensors has another use for the name '__metadata__'; write with --no-weights")
    if name is None:
        raise UnsupportedError(
            f"parameter {parameter.name!r}: safetensors has no dtype {parameter.dtype}; write with --no-weights"
        )
    return name


def _stored_shape(parameter: Parameter, layout: str) -> list[int]:
    shape = [parameter.nnz] if layout == "values" else list(parameter.shape)
    return [*shape, 2] if parameter.dtype == "complex128" else shape


def read(path: Path, structure: Structure, layout: str, digest: str | None) -> Weights:
    """The weights in a safetensors file, memory-mapped.

    Raises:
        MalformedFileError: the file is no safetensors file, does not hold exactly the tensors of `structure`, or
            does not have the given digest.
        UnreadableFileError: the operating system does not let us read it.
    """
    stored = _Stored(path, structure, layout)
    found = list(stored.faults(digest))
    if found:
        shown = "; ".join(fault.message for fault in found[:5])
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        raise MalformedFileError(str(path), f"these are not the weights of the document: {shown}{more}")
    return stored.weights


def faults(path: Path, structure: Structure, layout: str, digest: str | None) -> list[Fault]:
    """Everything that is wrong with a weights file, with pointers into the document that refers to it.

    Raises:
        UnreadableFileError: the operating system does not let us read it.
    """
    try:
        return list(_Stored(path, structure, layout).faults(digest))
    except UnreadableFileError:
        raise
    except MalformedFileError as error:
        return [Fault("WEIGHTS_FILE", "/weights/uri", error.reason)]


class _Stored:
    """A weights file and the structure whose weights it should have."""

    def __init__(self, path: Path, structure: Structure, layout: str) -> None:
        self.structure = structure
        self.layout = layout
        self.header, self.start = _read_header(path)
        with files.reading(path):
            self.content = np.memmap(path, dtype=np.uint8, mode="r") if self.header else np.empty(0, np.uint8)
        self.weights = Weights(structure, self.load)

    def load(self, parameter: Parameter) -> NDArray[Any]:
        """The entries of a parameter as they are stored: those that exist, or all of them."""
        begin, end = self.header[parameter.name]["data_offsets"]
        array = self.content[self.start + begin : self.start + end].view(dtypes.to_numpy(parameter.dtype))
        return np.asarray(array).reshape(parameter.nnz if self.layout == "values" else parameter.shape)

    def faults(self, digest: str | None) -> Iterator[Fault]:
        """What is wrong with the tensors; their numbers are looked at only if there are the right ones."""
        found = list(self._wrong_tensors()) or [
            fault for parameter in self.structure.parameters for fault in self._wrong_numbers(parameter)
        ]
        yield from found
        if not found and digest is not None and self.weights.digest() != digest:
            message = "the digest does not belong to these weights; restore the file"
            yield Fault("DIGEST_MISMATCH", "/weights/digest", message)

    def _wrong_tensors(self) -> Iterator[Fault]:
        known = {parameter.name for parameter in self.structure.parameters}
        for name in sorted(self.header.keys() - known):
            yield Fault("WEIGHTS_TENSOR", "/weights/uri", f"there is a tensor {name!r} that the document lacks")
        for parameter in self.structure.parameters:
            place = pointer("parameters", parameter.name)
            stored = self.header.get(parameter.name)
            expected = {
                "dtype": dtypes.SAFETENSORS_NAMES[parameter.dtype],
                "shape": _stored_shape(parameter, self.layout),
            }
            if stored is None:
                yield Fault("WEIGHTS_TENSOR", place, f"there is no tensor {parameter.name!r}")
            elif {key: stored[key] for key in expected} != expected:
                message = (
                    f"tensor {parameter.name!r} has {stored['dtype']} {stored['shape']}, "
                    f"the document asks for {expected['dtype']} {expected['shape']} ({self.layout} layout)"
                )
                yield Fault("WEIGHTS_TENSOR", place, message)

    def _wrong_numbers(self, parameter: Parameter) -> Iterator[Fault]:
        place = pointer("parameters", parameter.name)
        bits = dtypes.BITS.get(parameter.dtype, 8)
        if bits < 8 and bool((self.load(parameter).view(np.uint8) >> bits).any()):
            message = f"tensor {parameter.name!r} has bytes beyond {2**bits - 1}, the largest code of {parameter.dtype}"
            yield Fault("WEIGHTS_VALUE", place, message)
        if self.layout == "dense" and parameter.mask is not None:
            masked = self.load(parameter).reshape(-1)[~parameter.mask.flat()]
            if masked.view(np.uint8).any():
                message = f"tensor {parameter.name!r} has numbers other than 0 where the mask has no connection"
                yield Fault("WEIGHTS_VALUE", place, message)


class _Pairs(list[tuple[str, Any]]):
    """Members of a JSON object in which a name may occur twice."""


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Tensor name -> dtype, shape, data_offsets; and where the data begins. The package checks all its rules."""
    with files.reading(path):
        try:
            with safetensors.safe_open(path, framework="np"):
                pass
        except safetensors.SafetensorError as error:
            raise MalformedFileError(str(path), f"no valid safetensors file: {error}") from error
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            pairs: list[tuple[str, Any]] = json.loads(file.read(length), object_pairs_hook=_Pairs)
    header = {name: dict(entry) for name, entry in pairs if name != "__metadata__"}
    if len({name for name, _ in pairs}) != len(pairs):
        raise MalformedFileError(str(path), "no valid safetensors file: a tensor name occurs twice")
    return header, 8 + length
