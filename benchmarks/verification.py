"""Verification: which planted faults it finds, whether it lets right conversions pass, and what it costs.

The campaign plants faults into networks of five families: one in weights, masks, operators or files each time; see
`tests/verification`. The peer is what people do instead: ``allclose(1e-3, 1e-5)`` of the outputs for 64 random inputs.
Right conversions run between torch checkpoints, documents and ONNX files in all encodings, with inputs of 1e-6 to 1e6.
The cost is that of a checkpoint against the ONNX file of three layers of 4096x4096, 90 % masked, with one thread; the
peer for the time, in the same run, is a session of the dense ONNX file and 20 batches of 64 in it.

    python benchmarks/verification.py [--faults 500] [--right 100] [--quick]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tabulate import tabulate

TESTS = Path(__file__).resolve().parent.parent / "tests"
LAYERS, WIDTH, DENSITY, ROUNDS = 3, 4096, 0.1, 3
TENSOR = 4 * WIDTH * WIDTH  # bytes
SLOWEST, LARGEST = 6, 4
RUNS, BATCH = 20, 64
SCALES = (1.0, 1e-6, 1e6, 1e-3, 1e3)
PROVING = ("identity", "wiring", "numerics")
CHUNK = 20


@dataclass
class Findings:
    """What some trials have shown.

    Attributes:
        trials: number of them.
        caught: tier, or other way to find a fault -> how many it has found.
        complaints: sentences, one for each trial that went wrong.
        faults: fault -> how often it was planted.
        missed: fault -> how often outputs that are close hide it.
    """

    trials: int = 0
    caught: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)

    def add(self, other: Findings) -> None:
        """Takes in those of other trials."""
        self.trials += other.trials
        self.complaints += other.complaints
        for own, its in ((self.caught, other.caught), (self.faults, other.faults), (self.missed, other.missed)):
            own.update(its)


def prepare() -> None:
    """Makes the networks of the tests importable, and files quick: they need not outlive a power failure."""
    sys.path[0] = str(TESTS)
    mock.patch.object(os, "fsync").start()


def planted(family: str, first: int, last: int) -> Findings:
    """Faults of one family, each kind in turn; where a network has nothing that one could change, the next seed's."""
    from verification import trials

    import deepstruct

    found = Findings()
    for number in range(first, last):
        fault, trial = trials.NAMES[number % len(trials.NAMES)], None
        with tempfile.TemporaryDirectory() as name:
            for attempt in range(200):
                if attempt % 4 == 3:  # the family may lack what the fault needs
                    fault = trials.NAMES[(number + attempt) % len(trials.NAMES)]
                trial = trials.faulty(family, 1000 * number + attempt, fault, Path(name))
                if trial is not None:
                    break
            if trial is None:
                raise RuntimeError(f"nothing can be planted into the {family} networks from seed {1000 * number} on")
            certificate = deepstruct.verify(trial.a, trial.b)
            tiers = trials.caught(certificate)
            is_close = trials.is_close(trial)
        assert trial.planted is not None
        found.trials += 1
        found.faults[trial.fault] += 1
        found.caught.update(tiers)
        found.caught["together"] += trials.is_found(certificate)
        found.caught["different"] += certificate.verdict == "different"
        found.caught["placed"] += trials.is_placed(trial.planted, certificate.first_difference)
        found.caught["allclose"] += not is_close
        found.missed[trial.fault] += is_close
        found.complaints += [
            f"{trial}: {'; '.join(complaints)}" for complaints in [trials.complaints(trial, certificate)] if complaints
        ]
    return found


def right(family: str, first: int, last: int) -> Findings:
    """Right conversions of one family."""
    from verification import trials

    import deepstruct

    found = Findings()
    for seed in range(first, last):
        with tempfile.TemporaryDirectory() as name:
            trial = trials.right(family, seed, Path(name))
            scale = SCALES[seed % len(SCALES)]
            certificate = deepstruct.verify(trial.a, trial.b, seed=seed, rows=1 + seed % 17, scale=scale)
        found.trials += 1
        found.complaints += [f"{trial}, scale {scale:g}: {text}" for text in trials.complaints(trial, certificate)]
    return found


def campaign(table: Table, faults: int, conversions: int) -> None:
    """Faults and right conversions of all families, in two processes."""
    prepare()
    from verification.drawn_networks import FAMILIES

    start = time.perf_counter()
    rows, alarms, hidden = [], Findings(), Findings()
    with ProcessPoolExecutor(2, get_context("forkserver"), prepare) as pool:
        for family in FAMILIES:
            found, mine = Findings(), Findings()
            for part in pool.map(partial(planted, family), *_chunks(faults)):
                found.add(part)
            for part in pool.map(partial(right, family), *_chunks(conversions)):
                mine.add(part)
            report = [*found.complaints, *mine.complaints]
            print("\n".join(report), end="\n" if report else "", flush=True)
            names = (*PROVING, "together", "outputs", "different", "placed", "allclose")
            rows.append([family, found.trials, *(f"{100 * found.caught[n] / found.trials:.1f} %" for n in names)])
            share = found.caught["together"] / found.trials
            table.add(f"{family}: share of {found.trials} faults caught by tiers 1 to 3", share, least=1)
            table.add(f"{family}: wrong verdicts or places", len(found.complaints), 0)
            alarms.add(mine)
            hidden.add(found)
    table.add(f"false alarms in {alarms.trials} right conversions", len(alarms.complaints), 0)
    headers = ["family", "faults", *PROVING, "1 to 3", "outputs", "called different", "placed", "allclose"]
    print(tabulate(rows, headers, tablefmt="github"))
    worst = [(count / hidden.faults[name], name) for name, count in hidden.missed.items()]
    worst_rows = [
        [name, hidden.faults[name], f"{100 * share:.0f} %"] for share, name in sorted(worst, reverse=True)[:12]
    ]
    print(tabulate(worst_rows, ["fault", "planted", "hidden from allclose"], tablefmt="github"))
    print(f"{time.perf_counter() - start:.0f} s for the campaign")


def _chunks(count: int) -> tuple[range, list[int]]:
    """First and last numbers of what a process does at a time."""
    firsts = range(0, count, CHUNK)
    return firsts, [min(first + CHUNK, count) for first in firsts]


def large(folder: Path) -> None:
    """Writes the checkpoint, and the ONNX files made of it."""
    import torch

    import deepstruct
    from deepstruct.sparse import MaskedDeepFFN, maskable_layers

    torch.manual_seed(0)
    module = MaskedDeepFFN(WIDTH, WIDTH, [WIDTH] * (LAYERS - 1))
    for layer in maskable_layers(module):
        layer.mask = torch.rand_like(layer.weight) < DENSITY
    module.apply_mask()
    deepstruct.save(module, folder / "model.pt")
    deepstruct.convert(folder / "model.pt", folder / "model.onnx")
    deepstruct.convert(folder / "model.pt", folder / "dense.onnx", sparse_encoding="dense")


def certify(folder: str) -> None:
    """Prints the seconds that a certificate takes, and by how many bytes anonymous memory grows (Linux)."""
    import deepstruct

    for name in ("torch", "onnx", "onnxruntime"):
        __import__(name)
    before, peak, done = anonymous(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.process_time()
    certificate = deepstruct.verify(Path(folder) / "model.pt", Path(folder) / "model.onnx")
    seconds = time.process_time() - start
    done.set()
    watcher.join()
    if certificate.verdict != "equivalent":
        raise AssertionError(f"{certificate.verdict}: {certificate.reasons}")
    print(seconds, peak - before)


def peer(folder: str) -> None:
    """Prints the seconds that a session and some batches take."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    batches = np.random.default_rng(0).standard_normal((RUNS, BATCH, WIDTH), np.float32)
    start = time.process_time()
    session = onnxruntime.InferenceSession(Path(folder) / "dense.onnx", options, providers=["CPUExecutionProvider"])
    for batch in batches:
        session.run(None, {"x": batch})
    print(time.process_time() - start)


def anonymous() -> int:
    """Bytes of this process that no file backs (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon in /proc/self/status")


def apart(*arguments: object) -> list[float]:
    """What a function of this module prints in a fresh process."""
    command = [sys.executable, __file__, *map(str, arguments)]
    return [float(word) for word in subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split()]


class Table:
    """Figures and whether they hold."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self.holds = True

    def add(self, what: str, value: float, most: float | None = None, *, least: float | None = None) -> None:
        """A figure with its bound, if it has one."""
        fits = (most is None or value <= most) and (least is None or value >= least)
        self.holds &= fits
        bound = f"at least {least:g}" if least is not None else f"at most {most:g}" if most is not None else ""
        self.rows.append([what, f"{value:.3g}", bound, "" if fits else "FAILS"])


def cost(table: Table, rounds: int) -> None:
    """Time and memory of the certificate of a large network."""
    with tempfile.TemporaryDirectory() as name:
        large(Path(name))
        found = [(apart("certify", name), apart("peer", name)) for _ in range(rounds)]
    own, others = (statistics.median(f[place][0] for f in found) for place in (0, 1))
    peak = statistics.median(f[0][1] for f in found) / TENSOR
    table.add("certificate, 3 layers of 4096x4096, 90 % masked: seconds", own)
    table.add("certificate / session of the dense file and 20 batches of 64", own / others, SLOWEST)
    table.add("peak memory / tensor of one layer", peak)
    table.add("peak memory beyond both models when dense / tensor of one layer", peak - 2 * LAYERS, LARGEST)


def main() -> int:
    """Prints the figures; exits 1 if a claim does not hold."""
    commands = {"certify": certify, "peer": peer}
    if sys.argv[1:] and sys.argv[1] in commands:
        commands[sys.argv[1]](*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description="What verification finds, and what it costs.")
    parser.add_argument("--faults", type=int, default=500, help="of each family")
    parser.add_argument("--right", type=int, default=100, help="conversions of each family")
    parser.add_argument("--quick", action="store_true", help="40 faults and 10 conversions of each family")
    given = parser.parse_args()
    table = Table()
    cost(table, 1 if given.quick else ROUNDS)
    campaign(table, 40 if given.quick else given.faults, 10 if given.quick else given.right)
    print(tabulate(table.rows, ["figure", "measured", "bound", "verdict"], tablefmt="github", disable_numparse=True))
    return int(not table.holds)


if __name__ == "__main__":
    sys.exit(main())
