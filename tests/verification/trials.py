"""Trials: a network in two files, the second one right or with a fault, and what is wrong with a certificate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from verification import node_mutations, recurrent_mutations
from verification.drawn_networks import FAMILIES, drawn, inputs
from verification.file_mutations import CHECKPOINT_FAULTS, ONNX_FAULTS, difference, mutate
from verification.mutations import FAULTS, Draft, Planted

import deepstruct
from deepstruct import Model
from deepstruct.errors import DeepstructError

ENCODINGS = ("auto", "dense", "coo", "constant", "packed", "packed-flat")
NAMES = (*FAULTS, *ONNX_FAULTS, *CHECKPOINT_FAULTS)
"""Of all faults."""
TIERS = ("identity", "wiring", "numerics", "outputs")

assert {node_mutations, recurrent_mutations}  # they fill FAULTS


@dataclass(frozen=True)
class Trial:
    """Two files.

    Attributes:
        family: of the network.
        seed: that makes the trial anew, together with family and fault.
        fault: what was planted, ``""`` for a right conversion.
        a: the first file.
        b: the second one.
        encoding: of the second one, if it is ONNX.
        dtype: of the network.
        planted: what the fault has changed.
    """

    family: str
    seed: int
    fault: str
    a: Path
    b: Path
    encoding: str
    dtype: str
    planted: Planted | None

    def __str__(self) -> str:
        what = self.fault or "no fault"
        return f"{self.family}, seed {self.seed}, {self.dtype}: {what}: {self.a.name} {self.b.name} {self.encoding}"


def right(family: str, seed: int, folder: Path, *, dtype: str | None = None, few: bool = False) -> Trial:
    """A network in two formats, converted from one to the other by way of a third in one of two cases."""
    rng = np.random.default_rng([1, FAMILIES.index(family), seed])
    names = list(rng.permutation(np.array(["a.pt", "a.structure.json", "a.onnx"], dtype=object)))
    encoding = str(rng.choice(ENCODINGS))
    a, b = folder / names[0], folder / f"b{names[1][1:]}"
    dtype = _dtype(family, rng, a, b) if dtype is None else dtype
    model = drawn(family, seed, dtype, few=few)
    _save(model, a, str(rng.choice(ENCODINGS)))
    source = a
    if rng.random() < 0.5:
        source = folder / f"between{names[2][1:]}"
        deepstruct.convert(a, source, fail_on_loss=True)
    options: dict[str, Any] = {"sparse_encoding": encoding} if b.suffix == ".onnx" else {}
    deepstruct.convert(source, b, fail_on_loss=True, **options)
    return Trial(family, seed, "", a, b, encoding if b.suffix == ".onnx" else "", dtype, None)


def faulty(family: str, seed: int, fault: str, folder: Path, *, few: bool = False) -> Trial | None:
    """A network, and the same with a fault; None if the network has nothing that the fault could change."""
    rng = np.random.default_rng([2, FAMILIES.index(family), seed])
    first = str(rng.choice(["a.pt", "a.pt", "a.pt", "a.structure.json", "a.onnx"]))
    second = str(rng.choice(["b.onnx", "b.onnx", "b.onnx", "b.pt", "b.structure.json"]))
    encoding = str(rng.choice(ENCODINGS))
    if fault in CHECKPOINT_FAULTS:
        first, second = "a.pt", "b.onnx"
    elif fault in ONNX_FAULTS:
        second = "b.onnx"
    a, b = folder / first, folder / second
    dtype = _dtype(family, rng, a, b)
    model = drawn(family, seed, dtype, few=few)
    planted: Planted | None = None
    after = model
    if fault in FAULTS:
        draft = Draft.of(model, rng)
        planted = FAULTS[fault](draft)
        if planted is None:
            return None
        after = draft.model()
    try:
        _save(model, a, encoding)
        _save(after, b, encoding)
        if fault not in FAULTS:
            changed = a if fault in CHECKPOINT_FAULTS else b
            if not mutate(fault, changed, rng):
                return None
        found = difference(deepstruct.load(a, losses=[]), deepstruct.load(b, losses=[]))
        if found is not None and fault == "ONNX: outputs in another order":
            planted = found
    except DeepstructError:
        return None  # the fault makes a file that cannot even be read or written
    if found is None:
        if fault in FAULTS:
            raise AssertionError(f"{family}, seed {seed}: {fault}: the file is the same as without it")
        return None
    if fault in ONNX_FAULTS and _names(b) != _names_of(model):
        return None  # it has hit the nodes that decode a tensor
    planted = found if planted is None else planted
    return Trial(family, seed, fault, a, b, encoding if second == "b.onnx" else "", dtype, planted)


def _names(path: Path) -> set[str]:
    return _names_of(deepstruct.load(path, losses=[]))


def _names_of(model: Model) -> set[str]:
    return {node.name for node in model.structure.nodes}


def complaints(trial: Trial, certificate: Any) -> list[str]:
    """What is wrong with a certificate."""
    if trial.planted is None:
        found = [f"verdict {certificate.verdict!r}: {'; '.join(certificate.reasons)[:300]}"]
        return found if certificate.verdict != "equivalent" or certificate.exit_code else []
    if certificate.exit_code != 0 and is_refused(certificate):
        return []
    found = []
    if certificate.exit_code == 0 or (certificate.verdict != "different" and not is_spelling(certificate)):
        found.append(f"verdict {certificate.verdict!r}: {'; '.join(certificate.reasons)[:300]}")
    if not is_found(certificate):
        found.append(f"no tier but {sorted(caught(certificate))} has failed")
    return found + _misplaced(trial.planted, certificate.first_difference)


def is_found(certificate: Any) -> bool:
    """Whether a fault is found without a look at the outputs of the whole network."""
    return certificate.exit_code != 0 and (is_refused(certificate) or bool(caught(certificate) & set(TIERS[:3])))


def is_refused(certificate: Any) -> bool:
    """Whether inputs or outputs are other ones, or in another order, so that there is nothing to compare."""
    return not certificate.tiers and any("stand in another order" in reason for reason in certificate.reasons)


def is_spelling(certificate: Any) -> bool:
    """Whether graphs that differ are not certified because no output shows it, as with a unit that never fires."""
    return certificate.verdict == "not certifiable" and any("spelled in different" in r for r in certificate.reasons)


def is_placed(planted: Planted, first: Any) -> bool:
    """Whether the first difference names what was changed, or what it directly leads to."""
    return first is not None and bool({first.a, first.b, first.parameter} & planted.names)


def _misplaced(planted: Planted, first: Any) -> list[str]:
    """What is wrong with the place that is named. Where whole graphs differ, another one than the first may be."""
    if first is None:
        return ["no first difference"]
    found = [] if len(first.connections) <= 10 else [f"{len(first.connections)} connections"]
    if planted.differing is None:
        return found
    if not is_placed(planted, first):
        found.append(f"names {first.parameter!r} in {first.a!r}, not one of {sorted(planted.names)[:6]}")
    if first.differing != planted.differing:
        found.append(f"{first.differing} entries differ instead of {planted.differing}")
    if len(first.connections) != min(planted.differing, 10):
        found.append(f"{len(first.connections)} connections of {planted.differing}")
    listed = {tuple(connection["index"]) for connection in first.connections}
    if first.parameter == planted.parameter and not listed <= planted.entries:
        found.append(f"lists {sorted(listed - planted.entries)[:3]}, which are the same")
    return found


def caught(certificate: Any) -> set[str]:
    """The tiers that have found something: those that have failed, and the first if the graphs are not the same."""
    tiers = {name: certificate.tiers.get(name, {}) for name in TIERS}
    return {name for name, tier in tiers.items() if tier.get("verdict") == "failed" or tier.get("graph")}


def is_close(trial: Trial, rows: int = 64) -> bool:
    """Whether ``allclose(1e-3, 1e-5)`` of the outputs takes the two files for the same network."""
    values = inputs(deepstruct.load(trial.a, losses=[]).structure, trial.seed, rows)
    try:
        a, b = _run(trial.a, values), _run(trial.b, values)
    except Exception:  # of any runtime: a file that does not run is found out
        return False
    return len(a) == len(b) and all(
        x.shape == y.shape and np.allclose(x, y, rtol=1e-3, atol=1e-5) for x, y in zip(a, b, strict=True)
    )


def _run(path: Path, values: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    if path.suffix == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return list(session.run(None, values))
    import torch

    module = deepstruct.to_module(deepstruct.load(path, losses=[])).eval()
    with torch.no_grad():
        result = module(*(torch.from_numpy(value) for value in values.values()))
    return [tensor.numpy() for tensor in torch.utils._pytree.tree_leaves(result)]


def _dtype(family: str, rng: Generator, *files: Path) -> str:
    """A dtype that the runtime of each file computes: onnxruntime has few operators in float64."""
    kinds = ("float32", "float32", "float32", "float64")
    if family not in ("feed-forward", "dan") and any(file.suffix == ".onnx" for file in files):
        return "float32"
    return str(rng.choice((*kinds, "float16") if family in ("feed-forward", "dan") else kinds))


def _save(model: Model, path: Path, encoding: str) -> None:
    options: dict[str, Any] = {"sparse_encoding": encoding} if path.suffix == ".onnx" else {}
    deepstruct.save(model, path, **options)
