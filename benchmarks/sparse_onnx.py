"""ONNX files of pruned networks: size, run time, session creation and writing against dense files and torch's exporter.

Weights are 4096x4096 float32 with random masks, one layer or three with ReLU between them. The peers, in the same run:
the dense model made with `onnx.helper`, and `torch.onnx.export` of the module with the masks of `torch.nn.utils.prune`,
or with deepstruct's own bool masks. The size is also measured against the entropy of the mask and 32 bits for each kept
value. Sessions have one thread and are created in fresh processes, in turns; run times are compared in several, since
they depend on where weights happen to lie in memory. Times are those of the processor, without waiting for the disk.
"""

from __future__ import annotations

import contextlib
import gc
import io
import logging
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
SPARSITIES = (50, 90, 99)
ROUNDS, FEWER = 7, 5

Arrays = dict[str, NDArray[Any]]


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
    for batch, rounds in ((1, 30), (64, 6)):
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
        else:
            dense.unlink()


def three_layers(folder: Path) -> None:
    """Files of three layers."""
    import deepstruct

    for sparsity in SPARSITIES:
        model, arrays = network(3, sparsity)
        deepstruct.save(model, folder / f"packed-3-{sparsity}.onnx")
        if sparsity == 90:
            write_dense(model.structure, arrays, folder / "dense-3-90.onnx")
            masks: Arrays = {f"{p.name}.mask": p.mask.packed for p in model.structure.parameters}
            np.savez(folder / "arrays.npz", allow_pickle=False, **arrays, **masks)


def running(table: Table, folder: Path) -> None:
    """Run time, packed against dense."""
    for layers in (1, 3):
        paths = [folder / f"{kind}-{layers}-90.onnx" for kind in ("packed", "dense")]
        found = [apart("compare", *paths, number % 2) for number in range(FEWER)]
        for batch, ratios in zip((1, 64), zip(*found, strict=True), strict=True):
            what = f"run time, {counted(layers)}, 90 % masked, batch {batch}: packed / dense"
            table.add(what, statistics.median(ratios), 1.05)


def creating(table: Table, folder: Path) -> None:
    """Time and peak memory of the creation of sessions, packed against dense, whose numbers do not matter."""
    for layers, rounds in ((1, ROUNDS), (3, FEWER)):
        paths = [folder / f"dense-{layers}-90.onnx", *(folder / f"packed-{layers}-{each}.onnx" for each in SPARSITIES)]
        dense, *packed = zip(*[[apart("create", path) for path in paths] for _ in range(rounds)], strict=True)
        least = statistics.median(peak for _, peak in dense)
        table.add(f"session, {counted(layers)}: peak, dense / tensor", least / TENSOR)
        for sparsity, found in zip(SPARSITIES, packed, strict=True):
            name = f"session, {counted(layers)}, {sparsity} % masked"
            slower = ratio([(own[0], other[0]) for own, other in zip(found, dense, strict=True)])
            table.add(f"{name}: seconds, packed / dense", slower, 2.5 if layers == 1 else inf)
            peaks = [(peak - least) / TENSOR for _, peak in found]
            table.add(
                f"{name}: (peak, packed - dense) / tensor", statistics.median(peaks), 3.5 if sparsity == 90 else inf
            )
            if sparsity == 90:
                table.add(f"{name}: (highest peak, packed - dense) / tensor", max(peaks))


def counted(layers: int) -> str:
    """Number and noun."""
    return f"{layers} layer{'s' * (layers > 1)}"


def export(module: Any, path: Path) -> None:
    """Writes a module with torch's exporter, which talks."""
    import torch

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.zeros(2, WIDTH),), path, dynamo=True, verbose=False)


def pruned(model: Any) -> Any:
    """The same network as plain torch has it: each weight is multiplied with a mask of the same dtype."""
    from torch import nn
    from torch.nn.utils import prune

    from deepstruct.sparse import maskable_layers

    modules: list[nn.Module] = []
    for layer in maskable_layers(model):
        linear = nn.Linear(WIDTH, WIDTH)
        linear.load_state_dict({"weight": layer.weight, "bias": layer.bias})
        prune.custom_from_mask(linear, "weight", layer.mask)  # type: ignore[no-untyped-call]  # torch has no type for it
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1]).eval()


def writing(table: Table, folder: Path) -> None:
    """Time and size of writing three layers, against the onnx package and torch's exporter."""
    import torch

    import deepstruct
    from deepstruct import Model, Weights
    from deepstruct.sparse import MaskedDeepFFN, maskable_layers

    torch.manual_seed(0)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    module = MaskedDeepFFN(WIDTH, WIDTH, [WIDTH, WIDTH]).eval()
    for layer in maskable_layers(module):
        layer.mask = torch.rand_like(layer.weight) < 0.1
    module.apply_mask()
    structure = deepstruct.from_module(module).structure
    arrays = {name: value.numpy() for name, value in module.state_dict().items() if not name.endswith("_mask")}
    model = Model(structure, Weights(structure, arrays))
    packed, exports = folder / "written.onnx", [folder / "prune", folder / "bool"]
    for place in exports:
        place.mkdir()
    calls: list[Callable[[], object]] = [
        partial(deepstruct.save, model, packed),
        partial(write_dense, structure, arrays, folder / "dense.onnx"),
        partial(export, pruned(module), exports[0] / "network.onnx"),
        partial(export, module, exports[1] / "network.onnx"),
    ]
    rounds = [[seconds(call) for call in calls] for _ in range(FEWER + 1)][1:]
    own, dense, floats, bools = (statistics.median(times) for times in zip(*rounds, strict=True))
    name, size = "writing 3 layers, 90 % masked", packed.stat().st_size
    others = [sum(file.stat().st_size for file in place.iterdir()) for place in exports]
    table.add(f"{name}: seconds, save / onnx.helper and onnx.save", own / dense, 1.5)
    table.add(f"{name}: seconds, torch.onnx.export, prune / save", floats / own, least=2.5)
    table.add(f"{name}: seconds, torch.onnx.export, bool masks / save", bools / own)
    table.add(f"{name}: bytes, torch.onnx.export, prune / save", others[0] / size, least=15)
    table.add(f"{name}: bytes, torch.onnx.export, bool masks / save", others[1] / size)


def writing_memory(table: Table, folder: Path) -> None:
    """Peak memory of writing."""
    peaks = [
        statistics.median(apart("write", folder / "arrays.npz", layers, folder / "memory.onnx")[0] for _ in range(3))
        for layers in (1, 3)
    ]
    for layers, peak in zip((1, 3), peaks, strict=True):
        table.add(f"writing {counted(layers)}, 90 % masked: peak / tensor", peak / TENSOR, 1)


def main() -> int:
    """Prints the table; exits 1 if a claim does not hold."""
    if sys.argv[1:]:
        commands: dict[str, Callable[..., None]] = {"create": create, "compare": compare, "write": write}
        commands[sys.argv[1]](*sys.argv[2:])
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
