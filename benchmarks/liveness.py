"""Liveness of a network with 10 million connections, against one boolean product of matrix and vector for each layer.

Both start from the matrices of the layers. Also shown: the time from packed masks to matrices, and of the measures that
`deepstruct analyze` takes if none is named.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from deepstruct import Mask, Parameter, Structure
from deepstruct.analysis import analyse
from deepstruct.expansion import unit_graph
from deepstruct.layer_matrices import layer_matrices
from deepstruct.liveness import liveness
from deepstruct.sequential import Step, linear, to_structure

SIZES, DENSITY, ROUNDS = (4096, 4096, 4096, 4096), 0.2, 11


def network() -> Structure:
    """Linear layers with random masks."""
    rng = np.random.default_rng(0)
    steps = []
    for number, (source, target) in enumerate(pairwise(SIZES)):
        mask = Mask.from_array(rng.random((target, source)) < DENSITY)
        weight = Parameter(f"fc{number}.weight", "float32", (target, source), mask)
        steps += [linear(weight, None, f"fc{number}"), Step("Relu")]
    return to_structure(steps[:-1])


def seconds(function: Callable[[], object]) -> float:
    """Process time of a call."""
    gc.collect()
    start = time.process_time()
    result = function()
    duration = time.process_time() - start
    del result
    return duration


def main() -> int:
    """Prints the figures; exits 1 if the claim does not hold."""
    structure = network()
    graph = unit_graph(structure)
    matrices = layer_matrices(graph)
    layers = [incoming.matrix for incoming in matrices.forward if incoming.nnz]
    vectors = [np.ones(matrix.shape[1], np.bool_) for matrix in layers]

    def peer() -> None:
        for matrix, vector in zip(layers, vectors, strict=True):
            matrix @ vector

    pairs = [(seconds(lambda: liveness(matrices)), seconds(peer)) for _ in range(ROUNDS + 1)][1:]
    own, least = (statistics.median(times) for times in zip(*pairs, strict=True))
    building = seconds(lambda: layer_matrices(graph))
    whole = seconds(lambda: analyse(structure))
    print(f"{sum(matrix.nnz for matrix in layers):,} connections")
    print(f"liveness: {own / least:.2f}x one boolean product a layer (at most 10)")
    print(f"matrices from masks: {building:.2f} s; default analysis of the structure: {whole:.2f} s")
    return int(own > 10 * least)


if __name__ == "__main__":
    sys.exit(main())
