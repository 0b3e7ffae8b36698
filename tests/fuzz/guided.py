"""Fuzzing guided by coverage with atheris, which keeps documents that reach new code and mutates them further.

The process that does it is `guided_target`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from fuzz.seeds import DOCUMENT, seeds
from fuzz.workers import SECONDS, Verdict

_MEMORY = 2_048  # MiB of the whole process
_LARGEST = 100_000  # bytes of a document


@dataclass(frozen=True, slots=True)
class Result:
    """What a guided campaign found, and figures of it in a sentence."""

    summary: str
    findings: list[Verdict]


def campaign(seconds: int, seed: int) -> Result:
    """Runs the fuzzer in a process of its own, again and again as it ends at each finding, for some seconds."""
    if importlib.util.find_spec("atheris") is None:
        return Result("not done, as atheris is not installed (pip install 'deepstruct[fuzz]')", [])
    until, executed, covered, findings = time.monotonic() + seconds, 0, 0, []
    with tempfile.TemporaryDirectory(prefix="deepstruct-guided-") as place:
        corpus, found = Path(place, "corpus"), Path(place, "found")
        for folder in (corpus, found):
            folder.mkdir()
        for name, files in seeds().items():
            (corpus / name).write_bytes(files[DOCUMENT])
        while (left := int(until - time.monotonic())) > 0:
            log = _run(corpus, found, left, seed)
            executed += max(map(int, re.findall(r"^#(\d+)", log, re.MULTILINE)), default=0)
            covered = max(map(int, re.findall(r" cov: (\d+) ", log)), default=covered)
            findings += _findings(found, log)
            seed += 1
        kept = len(list(corpus.iterdir()))
    summary = f"{executed:,} documents in {seconds} s, {covered:,} edges of code reached, {kept:,} documents kept"
    return Result(f"{summary}, {len(findings)} findings", findings)


def _run(corpus: Path, found: Path, seconds: int, seed: int) -> str:
    command = [sys.executable, "-m", "fuzz.guided_target", str(corpus), f"-max_total_time={seconds}", f"-seed={seed}"]
    command += [f"-timeout={2 * SECONDS}", f"-rss_limit_mb={_MEMORY}", f"-max_len={_LARGEST}", "-len_control=0"]
    command += [f"-artifact_prefix={found}{os.sep}", "-print_final_stats=0"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    return done.stderr.decode("utf-8", "replace") + done.stdout.decode("utf-8", "replace")


def _findings(found: Path, log: str) -> list[Verdict]:
    made = []
    for file in sorted(found.iterdir()):
        kind = {"timeout": "hang", "oom": "memory", "slow": ""}.get(file.name.split("-")[0], "crash")
        if kind:
            kept = Path(tempfile.gettempdir(), f"deepstruct-fuzz-{file.name[:60]}")
            kept.write_bytes(file.read_bytes())
            lines = re.findall(r"^fuzz: (.*)$", log, re.MULTILINE)
            made.append(Verdict(str(kept), kind, lines[-1] if lines else "see the file", "guided", 0.0, 0, "usual"))
        file.unlink()
    return made
