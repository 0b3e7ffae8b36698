"""Start-up time of the command against a bare interpreter, alternating in the same run."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 20


def seconds(*command: str) -> float:
    """Wall time of one command."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    """Prints the ratio; exits 1 if the claim does not hold."""
    script = str(Path(sys.executable).with_name("deepstruct"))
    pairs = [(seconds(script, "--help"), seconds(sys.executable, "-c", "pass")) for _ in range(ROUNDS)]
    ratio = statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)
    print(f"deepstruct --help: {ratio:.2f}x python -c pass (at most 6)")
    return int(ratio > 6)


if __name__ == "__main__":
    sys.exit(main())
