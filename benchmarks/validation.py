"""Validation against the least that any validator must do, alternating in the same run.

- A small document: the command `deepstruct validate` against an interpreter that imports jsonschema.
- Documents of 10^8 mask bits, at densities from 5 % to 50 %: against reading the file, decoding base64 and inflating
  every payload. Each runs in a process of its own, after a small document has been validated. At 1 % the payload is so
  small that SHA-256 of the bits, which the digests ask for, takes longer than all of that: shown without a claim.
- The peak of anonymous memory meanwhile, above that before (Linux), against the file and one bit for each mask bit.
- A document of 100,000 nodes: against `json.loads` of its text.
"""

from __future__ import annotations

import base64
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path
from typing import Any

SHAPE, DENSITIES, ROUNDS = (10_000, 10_000), (0.5, 0.2, 0.1, 0.05, 0.01), 5


def make_masks(folder: Path) -> None:
    """A document for each density, of 10^8 entries in five layers."""
    import numpy as np

    import deepstruct
    from deepstruct import Mask, Model, Node, Parameter, Structure, ValueInfo

    layers = 5
    shape = (SHAPE[0] // layers, SHAPE[1])
    rng = np.random.default_rng(0)
    for density in DENSITIES:
        names = [f"w{i}" for i in range(layers)]
        masks = [Mask.from_array(rng.random(shape) < density) for _ in names]
        structure = Structure(
            nodes=tuple(Node(f"n{i}", "Gemm", ("x", name), (f"y{i}",), {"transB": 1}) for i, name in enumerate(names)),
            inputs=(ValueInfo("x", "float32", ("batch", shape[1])),),
            outputs=tuple(ValueInfo(f"y{i}", "float32", ("batch", shape[0])) for i in range(layers)),
            parameters=tuple(Parameter(name, "float32", shape, mask) for name, mask in zip(names, masks, strict=True)),
        )
        deepstruct.save(Model(structure), folder / f"{density}.structure.json")


def make_small(folder: Path) -> Path:
    """The document of a small network, with its weights."""
    import numpy as np

    import deepstruct
    from deepstruct import Mask, Model, Node, Parameter, Structure, ValueInfo, Weights

    array = np.random.default_rng(0).random((8, 6)) < 0.5
    structure = Structure(
        nodes=(Node("fc", "Gemm", ("x", "w"), ("y",), {"transB": 1}),),
        inputs=(ValueInfo("x", "float32", ("batch", 6)),),
        outputs=(ValueInfo("y", "float32", ("batch", 8)),),
        parameters=(Parameter("w", "float32", (8, 6), Mask.from_array(array)),),
    )
    weights = Weights(structure, {"w": array.astype(np.float32)})
    deepstruct.save(Model(structure, weights), folder / "small.structure.json")
    return folder / "small.structure.json"


def make_nodes(folder: Path) -> Path:
    """A document of 100,000 nodes in a chain."""
    nodes = [{"name": f"n{i}", "op": "Relu", "inputs": [f"v{i}"], "outputs": [f"v{i + 1}"]} for i in range(100_000)]
    value = {"name": "v0", "dtype": "float32", "shape": ["batch", 3]}
    graph = {"opset": {"": 20}, "inputs": [value], "outputs": [{"name": "v100000"}], "nodes": nodes}
    path = folder / "nodes.json"
    path.write_text(json.dumps({"format": "deepstruct", "version": "1.0.0", "graph": graph}), encoding="utf-8")
    return path


def least(path: Path) -> float:
    """Seconds to read a document's text and to decode and inflate its payloads."""
    start = time.perf_counter()
    text = path.read_bytes()
    for mask in re.finditer(rb'"mask": \{[^}]*\}', text):
        payload = base64.b64decode(re.search(rb'"data": "([^"]*)"', mask[0])[1])  # type: ignore[index]  # it is there
        if b'"deflate"' in mask[0]:
            zlib.decompress(payload)
    return time.perf_counter() - start


def ours(path: Path) -> float:
    """Seconds to validate a document."""
    from deepstruct.validation.validate import validate

    start = time.perf_counter()
    if not validate(path).valid:
        raise RuntimeError(f"{path} is invalid")
    return time.perf_counter() - start


def anonymous() -> int:
    """Anonymous memory of this process, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon in /proc/self/status")


def peak(path: Path) -> int:
    """Peak of anonymous memory during validation above that before it, in bytes."""
    before, highest, done = anonymous(), 0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.0005):
            highest = max(highest, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    ours(path)
    done.set()
    watcher.join()
    return highest - before


def measured(what: str, small: Path, path: Path) -> float:
    """The result of a function of this module in a process of its own."""
    command = [sys.executable, __file__, what, str(small), str(path)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def seconds(*command: str) -> float:
    """Wall time of one command."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def ratio(pairs: list[tuple[float, float]]) -> float:
    """Median of the first through median of the second."""
    return statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)


def report(claim: str, found: float, most: float) -> bool:
    """Prints a figure; says whether the claim does not hold."""
    bound = "" if most == math.inf else f" (at most {most:g}x)"
    print(f"{claim}: {found:.2f}x{bound}{'' if found <= most else '  FAILS'}")
    return found > most


def main() -> int:
    """Prints the ratios; exits 1 if a claim does not hold."""
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = make_small(folder)
        script = str(Path(sys.executable).with_name("deepstruct"))
        pairs = [
            (seconds(script, "validate", str(small)), seconds(sys.executable, "-c", "import jsonschema"))
            for _ in range(4 * ROUNDS)
        ]
        failed |= report("small document, against importing jsonschema", ratio(pairs), 3)
        make_masks(folder)
        for density in DENSITIES:
            path = folder / f"{density}.structure.json"
            times = [(measured("ours", small, path), measured("least", small, path)) for _ in range(ROUNDS)]
            claim = f"10^8 mask bits, density {density:g}, against reading and inflating"
            failed |= report(claim, ratio(times), 5 if density >= 0.05 else math.inf)
            allowed = 3 * path.stat().st_size + SHAPE[0] * SHAPE[1] // 8
            above = statistics.median(measured("peak", small, path) for _ in range(ROUNDS))
            failed |= report(
                f"memory for that, against 3x the file ({path.stat().st_size:,} bytes) + one mask", above / allowed, 1
            )
        nodes = make_nodes(folder)
        text = nodes.read_text(encoding="utf-8")
        loads = [seconds_of(lambda: json.loads(text)) for _ in range(ROUNDS)]
        chain = [(measured("ours", small, nodes), load) for load in loads]
        print(f"100,000 nodes, against json.loads of the text: {ratio(chain):.1f}x")
    return int(failed)


def seconds_of(work: Any) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    if len(sys.argv) > 1:
        ours(Path(sys.argv[2]))
        print({"ours": ours, "least": least, "peak": peak}[sys.argv[1]](Path(sys.argv[3])))
        sys.exit(0)
    sys.exit(main())
