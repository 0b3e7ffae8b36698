"""The seeds: valid documents with their weights, from which hostile ones are made."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from deepstruct import Structure, document, sidecar
from deepstruct.testing import QUIRKS, SAMPLES, numbers, with_weights

DOCUMENT = "net.structure.json"
WEIGHTS = "net.safetensors"
BUDGET = "budget.toml"

SUFFIXES = {DOCUMENT: ".structure.json", WEIGHTS: ".safetensors", BUDGET: ".budget.toml"}
"""File of a folder -> end of the name of such a file in the corpus, in which a name is a quirk."""

BUDGET_TEXT = b"""\
[network]
max_nnz = 1000
min_density = 0.25
max_effective_density = 0.5
max_bytes = 100_000
max_nodes = 3
max_dead_units = 0
max_dead_inputs = 0
max_dead_outputs = 0
max_collapsed_layers = 0
operators = ["Gemm", "Relu", "com.example::Custom"]
unknown = "full"
input_shapes = { x = [1, 4] }

[parameters."*.weight"]
max_nnz = 7
min_density = 0.1
max_density = 0.9
sparsity_structure = { n = 2, m = 4, axis = 1 }
"""


@cache
def seeds() -> Mapping[str, Mapping[str, bytes]]:
    """Name -> files of a folder: `DOCUMENT` and `WEIGHTS`."""
    structures: dict[str, Structure] = {**SAMPLES, **QUIRKS}
    return {name: _files(structure, dense=bool(at % 2)) for at, (name, structure) in enumerate(structures.items())}


def _files(structure: Structure, *, dense: bool) -> dict[str, bytes]:
    layout, file = "dense" if dense else "values", io.BytesIO()
    digest = sidecar.write(file, with_weights(structure, numbers), layout, lambda items: items)
    reference = document.WeightsReference(uri=WEIGHTS, layout=layout, digest=digest)
    return {DOCUMENT: text(document.to_json(structure, reference)), WEIGHTS: file.getvalue()}


def text(value: Any) -> bytes:
    """A JSON value as the bytes of a file; what UTF-8 cannot hold is escaped."""
    return json.dumps(value, separators=(",\n", ": ")).encode("ascii")
