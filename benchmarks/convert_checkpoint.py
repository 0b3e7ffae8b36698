"""Checkpoint -> document of a large pruned network, against the least that any program must do.

The peer, in the same run: `torch.load`, `numpy.packbits` of the masks, writing the kept values. Three layers of
4096x4096 float32 (201 MB), 90 % pruned. Also measured: peak memory above what is imported and memory-mapped, and
the size of the result against kept values plus Shannon's bound of the masks in base64.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from math import lgamma, log
from pathlib import Path

LAYERS, WIDTH, DENSITY, ROUNDS = 3, 4096, 0.1, 5


def make(path: Path) -> None:
    """Writes the checkpoint."""
    import torch

    import deepstruct
    from deepstruct.sparse import MaskedDeepFFN, maskable_layers

    torch.manual_seed(0)
    model = MaskedDeepFFN(WIDTH, WIDTH, [WIDTH] * (LAYERS - 1))
    for layer in maskable_layers(model):
        layer.mask = torch.rand_like(layer.weight) < DENSITY
    model.apply_mask()
    deepstruct.save(model, path)


def peer(path: Path, folder: Path) -> float:
    """Seconds of the least work."""
    import numpy as np
    import torch

    start = time.perf_counter()
    state = torch.load(path, weights_only=True)["state_dict"]
    with (folder / "values").open("wb") as file:
        for key, tensor in state.items():
            if key.endswith("_mask"):
                mask = tensor.numpy()
                np.packbits(mask, bitorder="little").tofile(file)
                state[key.replace("_mask", "weight")].numpy()[mask].tofile(file)
    return time.perf_counter() - start


def ours(path: Path, folder: Path) -> float:
    """Seconds of the conversion."""
    import deepstruct

    start = time.perf_counter()
    deepstruct.convert(path, folder / "net.structure.json")
    return time.perf_counter() - start


def memory(path: Path, folder: Path) -> int:
    """Peak of anonymous memory during the conversion above that before it, in bytes (Linux)."""
    import threading

    import deepstruct
    from deepstruct.converters import json as _json
    from deepstruct.converters import torch as _torch

    del _json, _torch

    def anonymous() -> int:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no RssAnon in /proc/self/status")

    before, peak, done = anonymous(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, anonymous())
            time.sleep(0.0005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    deepstruct.convert(path, folder / "net.structure.json")
    done.set()
    watcher.join()
    return peak - before


def main() -> int:
    """Prints the figures; exits 1 if a claim does not hold."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "model.pt"
        if len(sys.argv) == 3 and sys.argv[1] == "--memory":
            print(memory(Path(sys.argv[2]), folder))
            return 0
        make(path)
        peer(path, folder)
        ours(path, folder)
        pairs = [(ours(path, folder), peer(path, folder)) for _ in range(ROUNDS)]
        ratio = statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)
        result = sum((folder / f"net.{suffix}").stat().st_size for suffix in ("structure.json", "safetensors"))
        import deepstruct

        structure = deepstruct.load(path).structure
        sizes = [(p.size, p.nnz) for p in structure.parameters if p.mask is not None]
        bits = sum((lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)) / log(2) for n, k in sizes)
        least = 4 * structure.nnz + bits / 8 * 4 / 3
        command = [sys.executable, __file__, "--memory", str(path)]
        peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    largest = 4 * WIDTH * WIDTH
    print(f"time: {ratio:.2f}x the peer (at most 8, aim 4)")
    print(f"peak memory: {peak / largest:.2f}x the largest tensor (at most 2.5)")
    print(f"size: {result / least:.4f}x kept values + bound x 4/3 (at most 1.06)")
    return int(ratio > 8 or peak > 2.5 * largest or result > 1.06 * least)


if __name__ == "__main__":
    sys.exit(main())
