"""Size of mask payloads against Shannon's bound log2 C(N, nnz), and whether they stay within what we claim."""

from __future__ import annotations

import base64
import sys
from math import lgamma, log

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from deepstruct.encoding import decode, encode
from deepstruct.mask import Mask


def bound(size: int, nnz: int) -> float:
    """Bytes that tell one of C(size, nnz) masks from the others."""
    return (lgamma(size + 1) - lgamma(nnz + 1) - lgamma(size - nnz + 1)) / log(2) / 8


def measure(name: str, array: NDArray[np.bool_], limit: float, extra: float, size: int, nnz: int) -> list[object]:
    """One row: the payload must have at most `limit` times the bound of `nnz` in `size`, plus `extra` bytes."""
    mask = Mask.from_array(array)
    encoded = encode(mask)
    if decode(encoded, mask.shape) != mask:
        raise AssertionError(f"{name}: the mask does not come back")
    payload = len(base64.b64decode(encoded["data"]))
    least = bound(size, nnz)
    allowed = limit * least + extra
    form = f"{encoded['encoding']}, {encoded.get('compression', 'none')}"
    return [name, form, payload, least, payload / least, allowed, "ok" if payload <= allowed else "TOO LARGE"]


def main() -> int:
    """Prints the table; exits 1 if a claim does not hold."""
    rng = np.random.default_rng(0)
    rows = []
    for density, limit in [(0.5, 1.05), (0.2, 1.05), (0.1, 1.05), (0.05, 1.05), (0.01, 1.25), (0.001, 1.25)]:
        array = rng.random((1024, 1024)) < density
        rows.append(measure(f"random {density}", array, limit, 0, array.size, int(array.sum())))
    lines = rng.random(4096) < 0.5
    count = int(lines.sum())
    whole = np.zeros((4096, 4096), dtype=np.bool_)
    whole[lines] = True
    rows.append(measure("rows pruned", whole, 1.1, 64, 4096, count))
    rows.append(measure("columns pruned", whole.T.copy(), 1.1, 64, 4096, count))
    coarse = rng.random((256, 256)) < 0.1
    blocks = coarse.repeat(16, axis=0).repeat(16, axis=1)
    rows.append(measure("16x16 blocks", blocks, 1.1, 64, coarse.size, int(coarse.sum())))
    headers = ["mask", "encoding", "bytes", "bound", "bytes/bound", "allowed", "verdict"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=".4g", intfmt=","))
    return int(any(row[-1] != "ok" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
