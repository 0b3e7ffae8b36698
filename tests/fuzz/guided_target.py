"""The process of `guided`: libFuzzer calls the judge with documents that `documents.mutated` makes."""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["deepstruct"]):
    from deepstruct.limits import Limits
    from fuzz import judge, workers
    from fuzz.documents import mutated
    from fuzz.seeds import DOCUMENT, seeds

_LIMITS = Limits(mask_elements=2**24, total_mask_elements=2**25)


def main() -> None:
    """Fuzzes as the arguments of libFuzzer say, until there is a finding."""
    folder = Path(tempfile.mkdtemp(prefix="deepstruct-guided-"))
    workers.write(seeds()["plain"], folder)

    def test(content: bytes) -> None:
        (folder / DOCUMENT).write_bytes(content)
        try:
            judge.judge(folder, _LIMITS, lambda _name: None)
        except Exception as error:
            print(f"fuzz: {workers.innermost(error)}: {error!r:.300}", flush=True)
            raise

    atheris.Setup(sys.argv, test, custom_mutator=_mutate)
    atheris.Fuzz()


def _mutate(content: bytes, most: int, seed: int) -> bytes:
    made = mutated(content, random.Random(seed))
    return made if len(made) <= most else content[:most]


if __name__ == "__main__":
    main()
