"""ONNX files of pruned networks: size, run time, session creation and writing against dense files and torch's exporter.

Weights are 4096x4096 float32 with random masks, one layer or three with ReLU between them. The peers, in the same run:
the dense model made with `onnx.helper`, and `torch.onnx.export` of the masked module. The size is also measured against
the entropy of the mask and 32 bits for each kept value. Sessions have one thread; they are created in fresh processes,
in turns, and so is the ratio of their run times taken, since it depends on where the weights happen to lie in memory.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from math import inf, log2
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

WIDTH = 4096
TENSOR = 4 * WIDTH * WIDTH  # bytes
LARGEST = {50: 0.54, 90: 0.118, 95: 0.061, 99: 0.0135}  # share of the dense file, by per cent of masked entries
ROUNDS, PROCESSES = 5, 7

Arrays = dict[str, NDArray[np.float32]]


def resident(line: str) -> int:
    """Bytes of this process (Linux): ``VmRSS`` now, ``VmHWM`` at the peak."""
    for text in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if text.startswith(line):
            return int(text.split()[1]) * 1024
    raise RuntimeError(f"no {line} in /proc/self/status")


def network(layers: int, sparsity: int, load: Mapping[str, NDArray[Any]] | None = None) -> tuple[Any, Arrays]:
    """A model of linear layers and its weights, drawn anew or as `stored` has returned them."""
    from deepstruct import Mask, Model, Parameter, Weights
    from deepstruct.sequential import Step, linear, to_structure

    rng = np.random.default_rng(sparsity)
    steps, arrays = [], {}
    for number in range(layers):
        name = f"fc{number}.weight"
        if load is None:
            drawn = rng.random((WIDTH, WIDTH), np.float32) >= sparsity / 100
            mask, arrays[name] = Mask.from_array(drawn), rng.standard_normal((WIDTH, WIDTH), np.float32) * drawn
        else:
            mask, arrays[name] = Mask((WIDTH, WIDTH), load[f"{name}.mask"]), load[name]
        steps += [linear(Parameter(name, "float32", mask.shape, mask), None, f"fc{number}"), Step("Relu")]
    structure = to_structure(steps[:-1])
    return Model(structure, Weights(structure, arrays)), arrays


def write_dense(structure: Any, arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
    """The same network as a dense model, by the onnx package alone."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node(n.op_type, n.inputs, n.outputs, n.name, **dict(n.attributes)) for n in structure.nodes]
    inputs, outputs = (
        [helper.make_tensor_value_info(value.name, TensorProto.FLOAT, ["batch", WIDTH]) for value in values]
        for values in (structure.inputs, structure.outputs)
    )
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "dense", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", structure.opset[""])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)


def session(path: Path | str) -> Any:
    """A session with one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def seconds(function: Callable[[], object]) -> float:
    """Process time of a call; its result goes afterwards."""
    gc.collect()
    start = time.process_time()
    result = function()
    duration = time.process_time() - start
    del result
    return duration


def ratio(pairs: list[tuple[float, ...]]) -> float:
    """Median of the first numbers divided by that of the second ones."""
    return statistics.median(pair[0] for pair in pairs) / statistics.median(pair[1] for pair in pairs)


def create(path: str) -> None:
    """Prints the time to create a session and the bytes by which memory grows at its peak."""
    import onnxruntime

    del onnxruntime
    before, start = resident("VmRSS"), time.process_time()
    opened = session(path)
    print(time.process_time() - start, resident("VmHWM") - before)
    del opened


def compare(first: str, second: str, swap: str) -> None:
    """Prints how much longer the first model runs than the second, with batches of 1 and of 64."""
    paths = {0: first, 1: second}
    sessions = {position: session(paths[position]) for position in sorted(paths, reverse=bool(int(swap)))}
    for batch, rounds in ((1, 100), (64, 15)):
        x = np.random.default_rng(0).standard_normal((batch, WIDTH), np.float32)
        results = [sessions[position].run(None, {"x": x})[0].tobytes() for position in (0, 1)]
        if results[0] != results[1]:
            raise AssertionError("the packed model computes something else than the dense one")
        times: tuple[list[float], list[float]] = ([], [])
        for number in range(2 * rounds):
            for position in (0, 1) if number % 2 else (1, 0):
                start = time.process_time()
                sessions[position].run(None, {"x": x})
                times[position].append(time.process_time() - start)
        print(ratio(list(zip(*times, strict=True))))


def write(arrays: str, layers: str, path: str) -> None:
    """Prints the bytes by which memory grows at its peak while a model is written."""
    import deepstruct
    from deepstruct.converters import onnx as _onnx

    del _onnx
    with np.load(arrays) as file:
        model, _ = network(int(layers), 0, file)
    before = resident("VmRSS")
    deepstruct.save(model, path)
    print(resident("VmHWM") - before)


def apart(*arguments: object) -> list[float]:
    """What a function of this module prints in a fresh process."""
    command = [sys.executable, __file__, *map(str, arguments)]
    return [float(word) for word in subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split()]


class Table:
    """Figures and whether they hold."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self.holds = True

    def add(self, what: str, value: float, most: float = inf, *, least: float = 0) -> None:
        """A figure with its bound, if it has one."""
        fits = least <= value <= most
        self.holds &= fits
        bound = f"at least {least:g}" if least else f"at most {most:g}" if most < inf else ""
        self.rows.append([what, f"{value:.4f}" if value < 1 else f"{value:.3f}", bound, "" if fits else "FAILS"])


def sizes(table: Table, folder: Path) -> None:
    """Files of one layer, which stay for the other measurements."""
    import deepstruct

    for sparsity, most in LARGEST.items():
        model, arrays = network(1, sparsity)
        packed, dense = folder / f"packed-1-{sparsity}.onnx", folder / f"dense-1-{sparsity}.onnx"
        deepstruct.save(model, packed, sparse_encoding="auto")
        write_dense(model.structure, arrays, dense)
        size, whole = packed.stat().st_size, dense.stat().st_size
        (parameter,) = model.structure.parameters
        density = parameter.mask.density
        entropy = -density * log2(density) - (1 - density) * log2(1 - density)
        bound = (32 * parameter.nnz + parameter.size * entropy) / 8
        table.add(f"size, {sparsity} % masked: auto / dense", size / whole, most)
        table.add(f"size, {sparsity} % masked: entropy bound / dense", bound / whole)
        table.add(f"size, {sparsity} % masked: auto / entropy bound", size / bound, 1.02)
        if sparsity == 90:
            deepstruct.save(model, folder / "coo.onnx", sparse_encoding="coo")
            table.add("size, 90 % masked: coo / dense", (folder / "coo.onnx").stat().st_size / whole, 0.20)


def three_layers(folder: Path) -> None:
    """Files of three layers."""
    import deepstruct

    for sparsity in (50, 90, 99):
        model, arrays = network(3, sparsity)
        deepstruct.save(model, folder / f"packed-3-{sparsity}.onnx")
        write_dense(model.structure, arrays, folder / f"dense-3-{sparsity}.onnx")


def running(table: Table, folder: Path) -> None:
    """Run time, packed against dense."""
    for layers in (1, 3):
        paths = [folder / f"{kind}-{layers}-90.onnx" for kind in ("packed", "dense")]
        found = [apart("compare", *paths, number % 2) for number in range(PROCESSES)]
        for batch, ratios in zip((1, 64), zip(*found, strict=True), strict=True):
            what = f"run time, {layers} layer{'s' * (layers > 1)}, 90 % masked, batch {batch}: packed / dense"
            table.add(what, statistics.median(ratios), 1.05)


def creating(table: Table, folder: Path) -> None:
    """Time and peak memory of the creation of sessions, packed against dense."""
    for layers in (1, 3):
        for sparsity in (50, 90, 99):
            paths = [folder / f"{kind}-{layers}-{sparsity}.onnx" for kind in ("packed", "dense")]
            pairs = [[apart("create", path) for path in paths] for _ in range(9 if sparsity == 90 else ROUNDS)]
            name = f"{layers} layer{'s' * (layers > 1)}, {sparsity} % masked"
            slower = ratio([(packed[0], dense[0]) for packed, dense in pairs])
            table.add(f"session, {name}: seconds, packed / dense", slower, 2.5 if layers == 1 else inf)
            packed, dense = (statistics.median(pair[position][1] for pair in pairs) for position in (0, 1))
            table.add(f"session, {name}: peak, dense / tensor", dense / TENSOR)
            most = 3.5 if sparsity == 90 else inf
            table.add(f"session, {name}: (peak, packed - dense) / tensor", (packed - dense) / TENSOR, most)
            highest = max(pair[0][1] for pair in pairs)
            table.add(f"session, {name}: (highest peak, packed - dense) / tensor", (highest - dense) / TENSOR)


def export(module: Any, path: Path) -> None:
    """Writes a module with torch's exporter, which talks."""
    import torch

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.zeros(2, WIDTH),), path, dynamo=True, verbose=False)


def writing(table: Table, folder: Path) -> None:
    """Time and size of writing three layers, against the onnx package and torch's exporter."""
    import torch

    import deepstruct
    from deepstruct import Model, Weights
    from deepstruct.sparse import MaskedDeepFFN, maskable_layers

    torch.manual_seed(0)
    module = MaskedDeepFFN(WIDTH, WIDTH, [WIDTH, WIDTH]).eval()
    for layer in maskable_layers(module):
        layer.mask = torch.rand_like(layer.weight) < 0.1
    module.apply_mask()
    structure = deepstruct.from_module(module).structure
    arrays = {name: value.numpy() for name, value in module.state_dict().items() if not name.endswith("_mask")}
    model = Model(structure, Weights(structure, arrays))
    (folder / "export").mkdir()
    packed = folder / "written.onnx"
    calls: list[Callable[[], object]] = [
        partial(deepstruct.save, model, packed),
        partial(write_dense, structure, arrays, folder / "dense.onnx"),
        partial(deepstruct.save, module, packed),
        partial(export, module, folder / "export" / "network.onnx"),
    ]
    own, dense, live, exported = zip(*[[seconds(call) for call in calls] for _ in range(ROUNDS + 1)][1:], strict=True)
    size = sum(file.stat().st_size for file in (folder / "export").iterdir())
    table.add("writing 3 layers, 90 % masked: seconds, save / onnx.helper and onnx.save", ratio_of(own, dense), 1.5)
    table.add("writing 3 layers, 90 % masked: seconds, torch.onnx.export / save", ratio_of(exported, own), least=4)
    table.add("writing 3 layers, 90 % masked: seconds, torch.onnx.export / save of the module", ratio_of(exported, live))
    table.add("writing 3 layers, 90 % masked: bytes, torch.onnx.export / save", size / packed.stat().st_size, least=15)


def ratio_of(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Quotient of two medians."""
    return ratio(list(zip(first, second, strict=True)))


def writing_memory(table: Table, folder: Path) -> None:
    """Peak memory of writing."""
    model, arrays = network(3, 90)
    masks = {f"{p.name}.mask": p.mask.packed for p in model.structure.parameters}
    np.savez(folder / "arrays.npz", **arrays, **masks)
    for layers in (1, 3):
        found = [apart("write", folder / "arrays.npz", layers, folder / "memory.onnx")[0] for _ in range(ROUNDS)]
        name = f"writing {layers} layer{'s' * (layers > 1)}, 90 % masked"
        table.add(f"{name}: peak / tensor", statistics.median(found) / TENSOR)


def main() -> int:
    """Prints the table; exits 1 if a claim does not hold."""
    if sys.argv[1:]:
        {"create": create, "compare": compare, "write": write}[sys.argv[1]](*sys.argv[2:])
        return 0
    table = Table()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes(table, folder)
        three_layers(folder)
        running(table, folder)
        creating(table, folder)
        writing_memory(table, folder)
        writing(table, folder)
    print(tabulate(table.rows, ["figure", "measured", "bound", "verdict"], tablefmt="github", disable_numparse=True))
    return int(not table.holds)


if __name__ == "__main__":
    sys.exit(main())
