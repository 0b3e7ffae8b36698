"""Large documents: one part of a small one repeated thousands of times, to find what takes more than linear time."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from fuzz.trees import walk

MOST_BYTES = 1_500_000


def grown(value: Any, rng: random.Random) -> Any:
    """A copy of a document in which one to three lists, objects or texts have become long."""
    root = [copy.deepcopy(value)]
    room = MOST_BYTES
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(walk(root))
        container, key = rng.choice(places[1:] or places)
        room = _grow(container, key, min(room, int(10 ** rng.uniform(4, 6.1))), rng)
        if room < 1000:
            break
    return root[0]


def _grow(container: Any, key: Any, room: int, rng: random.Random) -> int:
    """Lengthens a value to about `room` bytes, by copies with other names; returns how many bytes are left."""
    value = container[key]
    if isinstance(value, str):
        length = rng.choice((300, 100_000, 500_000))
        container[key] = (value or "a") * (min(length, room) // len(value or "a"))
        if rng.random() < 0.5:
            container[key] = "".join(rng.choices("ab", k=min(length, room)))
        return room - len(container[key])
    if not isinstance(value, (list, dict)) or not value:
        sample, value = (value, container) if isinstance(container, (list, dict)) else (0, [])
    else:
        sample = rng.choice(list(value.values() if isinstance(value, dict) else value))
    count = max(1, room // (len(json.dumps(sample)) + 8))
    style = rng.choice(("other names", "same", "broken"))
    copies = [_renamed(sample, number, style) for number in range(count)]
    if isinstance(value, dict):
        prefix = "k" * rng.choice((1, 1, 1, 50_000)) if count < 10 else "k"
        value.update({f"{prefix}{number}": item for number, item in enumerate(copies)})
    else:
        at = rng.choice((0, len(value)))
        value[at:at] = copies
    return 0


def _renamed(sample: Any, number: int, style: str) -> Any:
    """A copy in which names are others, so that nothing is defined twice; or in which they refer to nothing."""
    if style == "same" or not isinstance(sample, (dict, list, str)):
        return copy.deepcopy(sample)
    if isinstance(sample, str):
        return f"{sample}{number}"
    if isinstance(sample, list):
        return [_renamed(item, number, style) for item in sample]
    own = {"name", "outputs"} if style == "other names" else {"name", "outputs", "inputs", "op", "dtype"}
    return {key: _renamed(item, number, style) if key in own else copy.deepcopy(item) for key, item in sample.items()}
