"""A converter without faults, and converters that each have one, for tests of the suite in `deepstruct.testing`."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deepstruct import Loss, Mask, Model, Structure, Weights, document, dtypes, files
from deepstruct.errors import MalformedFileError, UnsupportedError, UsageError
from deepstruct.testing import with_weights
from deepstruct.testing.differences import differences
from deepstruct.testing.reduction import reduced


class Toy:
    """A converter without faults: a checksum, then a document and base64 of the numbers as JSON."""

    MAGIC = b"toy1"

    def write(self, model: Model, path: Path, targets: files.Targets, _options: Any) -> list[Loss]:
        targets.open(path).write(self.encode(model))
        return []

    def read(self, path: Path, _options: Any, _losses: list[Loss]) -> Model:
        return self.decode(path, files.read_bytes(path))

    def encode(self, model: Model) -> bytes:
        made: dict[str, Any] = {"document": document.to_json(model.structure)}
        if model.weights is not None:
            made["numbers"] = {n: b64encode(model.weights.kept(n).tobytes()).decode() for n in sorted(model.weights)}
        content = json.dumps(made).encode()
        return self.MAGIC + hashlib.sha256(content).digest() + content

    def decode(self, path: Path, content: bytes) -> Model:
        if content[:4] != self.MAGIC or hashlib.sha256(content[36:]).digest() != content[4:36]:
            raise MalformedFileError(str(path), "is no toy, or damaged")
        return self.parse(content[36:])

    def parse(self, content: bytes) -> Model:
        made = json.loads(content)
        structure = document.from_json(made["document"]).structure
        if "numbers" not in made:
            return Model(structure)
        arrays = {
            p.name: np.frombuffer(b64decode(made["numbers"][p.name]), dtypes.to_numpy(p.dtype))
            for p in structure.parameters
        }
        return Model(structure, Weights(structure, arrays))


def changed(
    model: Model,
    structure: Callable[[Structure], Structure] = lambda structure: structure,
    kept: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]] = lambda array: array,
) -> Model:
    """A model with another structure, whose parameters have the same numbers in the same order, themselves changed."""
    new = structure(model.structure)
    if model.weights is None:
        return Model(new)
    arrays = [kept(model.weights.kept(parameter.name)) for parameter in model.structure.parameters]
    return Model(new, Weights(new, {p.name: a for p, a in zip(new.parameters, arrays, strict=True)}))


def each_parameter(structure: Structure, change: Callable[[Any], Any]) -> Structure:
    return replace(structure, parameters=tuple(map(change, structure.parameters)))


class TransposedMasks(Toy):
    def parse(self, content: bytes) -> Model:
        def transposed(parameter: Any) -> Any:
            mask = parameter.mask
            return parameter if mask is None else replace(parameter, mask=column_major(mask))

        return changed(super().parse(content), lambda structure: each_parameter(structure, transposed))


def column_major(mask: Mask) -> Mask:
    return Mask.from_array(mask.to_array().T.reshape(mask.shape))


class ZerosBecomeMasked(Toy):
    def encode(self, model: Model) -> bytes:
        if model.weights is None:
            return super().encode(model)
        weights = model.weights
        found = {name: Mask.from_array(np.asarray(weights[name] != 0)) for name in weights}
        structure = each_parameter(model.structure, lambda p: replace(p, mask=found[p.name]))
        return super().encode(Model(structure, Weights(structure, {name: weights[name] for name in weights})))


class LosesNegativeZero(Toy):
    def parse(self, content: bytes) -> Model:
        return changed(super().parse(content), kept=lambda array: (array + array.dtype.type(0)).astype(array.dtype))


class LosesInfinity(Toy):
    def parse(self, content: bytes) -> Model:
        return changed(super().parse(content), kept=lambda array: np.where(np.isinf(array), np.nan, array))


class RoundsFloat64(Toy):
    def encode(self, model: Model) -> bytes:
        def rounded(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return array.astype(np.float32).astype(array.dtype) if array.dtype == np.float64 else array

        return super().encode(changed(model, kept=rounded))


class ChangesNames(Toy):
    def encode(self, model: Model) -> bytes:
        return super().encode(model).replace(b"fc0.weight", b"fc0_weight")

    def decode(self, path: Path, content: bytes) -> Model:
        return self.parse(content[36:]) if content.startswith(self.MAGIC) else super().decode(path, content)

    def parse(self, content: bytes) -> Model:
        made = json.loads(content)
        made["document"].pop("digest")
        return super().parse(json.dumps(made).encode())


class NormalisesNames(ChangesNames):
    def encode(self, model: Model) -> bytes:
        return super().encode(model).replace(b"\\u00e9", b"e\\u0301 ")


class SortsOutputs(Toy):
    def parse(self, content: bytes) -> Model:
        def sort(structure: Structure) -> Structure:
            return replace(structure, outputs=tuple(sorted(structure.outputs, key=lambda value: value.name)))

        return changed(super().parse(content), sort)


class DropsScopes(Toy):
    def encode(self, model: Model) -> bytes:
        nodes = tuple(replace(node, scope="") for node in model.structure.nodes)
        return super().encode(changed(model, lambda structure: replace(structure, nodes=nodes)))


class MakesFloatsIntegers(Toy):
    def parse(self, content: bytes) -> Model:
        def integral(value: Any) -> Any:
            if isinstance(value, list):
                return [integral(item) for item in value]
            return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value

        made = json.loads(content)
        user = made["document"]["graph"]["attributes"]
        made["document"]["graph"]["attributes"] = {name: integral(value) for name, value in user.items()}
        made["document"].pop("digest")
        return super().parse(json.dumps(made).encode())


class DropsUnknownMembers(Toy):
    def encode(self, model: Model) -> bytes:
        nodes = tuple(replace(node, extra={}) for node in model.structure.nodes)
        return super().encode(changed(model, lambda structure: replace(structure, nodes=nodes, extra={})))


class DropsClaims(Toy):
    def encode(self, model: Model) -> bytes:
        def without(parameter: Any) -> Any:
            return replace(parameter, sparsity_structure=None)

        return super().encode(changed(model, lambda structure: each_parameter(structure, without)))


class InventsNumbers(Toy):
    def encode(self, model: Model) -> bytes:
        return super().encode(model if model.weights else with_weights(model.structure))


class RefusesHalf(Toy):
    def encode(self, model: Model) -> bytes:
        if any(parameter.dtype == "float16" for parameter in model.structure.parameters):
            raise UnsupportedError("no float16")
        return super().encode(model)


class LosesSilently(Toy):
    def encode(self, model: Model) -> bytes:
        return super().encode(Model(model.structure))


class CriesWolf(Toy):
    def write(self, model: Model, path: Path, targets: files.Targets, _options: Any) -> list[Loss]:
        return [*super().write(model, path, targets, _options), Loss("names", "graph", "are long")]


class CriesWolfInReading(Toy):
    def read(self, path: Path, _options: Any, losses: list[Loss]) -> Model:
        losses.append(Loss("names", "graph", "are long"))
        return super().read(path, _options, losses)


class Counts(Toy):
    written = 0

    def encode(self, model: Model) -> bytes:
        self.written += 1
        structure = replace(model.structure, extra={"x-written": self.written})
        return super().encode(changed(model, lambda _: structure))

    def parse(self, content: bytes) -> Model:
        return changed(super().parse(content), lambda structure: replace(structure, extra={}))


class WritesAside(Toy):
    def write(self, model: Model, path: Path, _targets: files.Targets, _options: Any) -> list[Loss]:
        path.write_bytes(self.encode(model))
        return []


class LeavesAFileBehind(Toy):
    def write(self, model: Model, path: Path, targets: files.Targets, _options: Any) -> list[Loss]:
        path.with_suffix(".log").write_text("done")
        return super().write(model, path, targets, _options)


class IgnoresInterruptions(Toy):
    def encode(self, model: Model) -> bytes:
        try:
            return super().encode(model)
        except KeyboardInterrupt:
            return super().encode(Model(model.structure))


class ReadsLate(Toy):
    def read(self, path: Path, _options: Any, _losses: list[Loss]) -> Model:
        model = super().read(path, _options, _losses)
        if model.weights is None:
            return model

        def load(parameter: Any) -> Any:
            now = self.decode(path, path.read_bytes()).weights
            return now.kept(parameter.name) if now else None

        return Model(model.structure, Weights(model.structure, load))


class Touches(Toy):
    def read(self, path: Path, _options: Any, _losses: list[Loss]) -> Model:
        path.with_suffix(".cache").touch()
        return super().read(path, _options, _losses)


class LeaksErrors(Toy):
    def decode(self, _path: Path, content: bytes) -> Model:
        return self.parse(content[36:])


class NamesNoFile(Toy):
    def decode(self, _path: Path, content: bytes) -> Model:
        return super().decode(Path("the file"), content)


class TakesItForAUsageError(Toy):
    def decode(self, path: Path, content: bytes) -> Model:
        try:
            return super().decode(path, content)
        except MalformedFileError as error:
            raise UsageError(str(error)) from error


class FillsUp(Toy):
    """Takes missing numbers for zeros."""

    MAGIC = b"toy2"

    def encode(self, model: Model) -> bytes:
        content = Toy.encode(self, model)[36:]
        numbers = b"".join(map(np.ndarray.tobytes, map(model.weights.kept, model.weights))) if model.weights else b""
        text = json.dumps({"document": json.loads(content)["document"]}).encode()
        return self.MAGIC + len(text).to_bytes(4, "little") + text + numbers

    def decode(self, path: Path, content: bytes) -> Model:
        size = int.from_bytes(content[4:8], "little")
        if content[:4] != self.MAGIC or len(content) < 8 + size:
            raise MalformedFileError(str(path), "is no toy")
        try:
            structure = super().parse(content[8 : 8 + size]).structure
        except (ValueError, LookupError) as error:
            raise MalformedFileError(str(path), "is damaged") from error
        rest, arrays = content[8 + size :], {}
        for parameter in structure.parameters:
            dtype = dtypes.to_numpy(parameter.dtype)
            length = parameter.nnz * dtype.itemsize
            arrays[parameter.name] = np.frombuffer(rest[:length].ljust(length, b"\0"), dtype)
            rest = rest[length:]
        return Model(structure, Weights(structure, arrays))


class Partial(Toy):
    """Carries operators and weights, and says what it loses of masks, scopes and attributes."""

    def write(self, model: Model, path: Path, targets: files.Targets, _options: Any) -> list[Loss]:
        made = reduced(model, frozenset({"operators", "weights"}))
        assert made is not None
        targets.open(path).write(self.encode(made))
        return [Loss("masks", "model", "there is no place for them")] if differences(model, made) else []


FAULTS: list[tuple[type[Toy], str]] = [
    (TransposedMasks, "test_samples_come_back"),
    (ZerosBecomeMasked, "test_samples_come_back"),
    (LosesNegativeZero, "test_samples_come_back"),
    (LosesInfinity, "test_samples_come_back"),
    (RoundsFloat64, "test_samples_come_back"),
    (ChangesNames, "test_samples_come_back"),
    (NormalisesNames, "test_quirks_come_back"),
    (SortsOutputs, "test_samples_come_back"),
    (DropsScopes, "test_samples_come_back"),
    (MakesFloatsIntegers, "test_quirks_come_back"),
    (DropsUnknownMembers, "test_extras_are_kept_or_told"),
    (DropsClaims, "test_extras_are_kept_or_told"),
    (InventsNumbers, "test_structures_alone_come_back"),
    (InventsNumbers, "test_numbers_can_be_left_out"),
    (RefusesHalf, "test_samples_come_back"),
    (RefusesHalf, "test_feed_forward_networks_come_back"),
    (LosesSilently, "test_samples_come_back"),
    (LosesSilently, "test_documents_become_it_and_back"),
    (CriesWolf, "test_losses_are_told"),
    (CriesWolf, "test_samples_come_back"),
    (CriesWolfInReading, "test_samples_come_back"),
    (Counts, "test_same_models_make_the_same_bytes"),
    (WritesAside, "test_existing_files_are_kept_unless_told"),
    (WritesAside, "test_interruptions_leave_everything_as_it_was"),
    (WritesAside, "test_samples_come_back"),
    (LeavesAFileBehind, "test_samples_come_back"),
    (LeavesAFileBehind, "test_interruptions_leave_everything_as_it_was"),
    (IgnoresInterruptions, "test_interruptions_leave_everything_as_it_was"),
    (ReadsLate, "test_numbers_stay_those_of_the_file_that_was_read"),
    (Touches, "test_reading_changes_nothing"),
    (LeaksErrors, "test_files_of_other_kinds_are_refused"),
    (LeaksErrors, "test_files_cut_short_are_refused"),
    (LeaksErrors, "test_damaged_files_are_refused_or_read"),
    (NamesNoFile, "test_files_of_other_kinds_are_refused"),
    (TakesItForAUsageError, "test_files_of_other_kinds_are_refused"),
    (FillsUp, "test_files_cut_short_are_refused"),
]
"""A converter with a fault, and a test of the suite that finds it."""
