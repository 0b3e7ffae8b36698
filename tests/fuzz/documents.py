"""Hostile documents, each made anew from its name: seed, generator and number."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase

from deepstruct.testing import documents
from fuzz import beside, growth, payloads, texts, trees
from fuzz.seeds import BUDGET, BUDGET_TEXT, DOCUMENT, WEIGHTS, seeds, text

Files = Mapping[str, bytes | str]
"""Name -> content of a file, or the target of a link as a string."""

_BLOCK = 50  # documents that hypothesis makes at a time

_LINKS = (
    "/etc/hostname",
    "../outside.safetensors",
    "net.structure.json",
    "net.safetensors",
    ".",
    "nowhere",
    "/dev/zero",
)


@dataclass(frozen=True, slots=True)
class Case:
    """The name of a hostile document.

    Attributes:
        seed: of `fuzz.seeds`.
        generator: of `GENERATORS`.
        number: any; each makes another document.
    """

    seed: str
    generator: str
    number: int

    def __str__(self) -> str:
        return f"{self.seed}:{self.generator}:{self.number}"

    @classmethod
    def parse(cls, name: str) -> Case:
        """The inverse of `str`."""
        seed, generator, number = name.split(":")
        return cls(seed, generator, int(number))

    def files(self) -> Files:
        """The files of its folder."""
        return GENERATORS[self.generator](seeds()[self.seed], random.Random(str(self)), self.number)


def cases(count: int, start: int = 0) -> list[Case]:
    """`count` names, of all seeds and generators in turn, from the `start`-th on."""
    names, generators = list(seeds()), [name for name, times in _SHARES.items() for _ in range(times)]
    turns = range(start, start + count)
    return [Case(names[at % len(names)], generators[at // len(names) % len(generators)], at) for at in turns]


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The text of a document after mutations of its tree if it is JSON, else, and sometimes anyway, of its bytes."""
    if rng.random() < 0.7:
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            return texts.mutated(content, rng)
        return text(payloads.mutated(value, rng) if rng.random() < 0.4 else trees.mutated(value, rng))
    return texts.mutated(content, rng)


def _tree(seed: Mapping[str, bytes], rng: random.Random, _number: int) -> Files:
    return {**seed, DOCUMENT: text(trees.mutated(json.loads(seed[DOCUMENT]), rng))}


def _mask(seed: Mapping[str, bytes], rng: random.Random, _number: int) -> Files:
    return {**seed, DOCUMENT: text(payloads.mutated(_without_weights(seed), rng))}


def _text(seed: Mapping[str, bytes], rng: random.Random, _number: int) -> Files:
    return {**seed, DOCUMENT: texts.mutated(seed[DOCUMENT], rng)}


def _large(seed: Mapping[str, bytes], rng: random.Random, _number: int) -> Files:
    return {DOCUMENT: text(growth.grown(_without_weights(seed), rng))}


def _weights(seed: Mapping[str, bytes], rng: random.Random, _number: int) -> Files:
    if rng.random() < 0.1:
        return {**seed, WEIGHTS: rng.choice(_LINKS)}
    return {**seed, WEIGHTS: beside.weights(seed[WEIGHTS], rng)}


def _budget(seed: Mapping[str, bytes], rng: random.Random, _number: int) -> Files:
    document = _without_weights(seed)
    if rng.random() < 0.3:
        document = payloads.mutated(document, rng)
    return {DOCUMENT: text(document), BUDGET: beside.budget(BUDGET_TEXT, rng)}


def _random(_seed: Mapping[str, bytes], rng: random.Random, number: int) -> Files:
    """One of hypothesis' documents, half of them with a fault."""
    made = _block(number // _BLOCK)
    content = made[number % len(made)]
    return {DOCUMENT: mutated(content, rng) if rng.random() < 0.5 else content}


@lru_cache(maxsize=2)
def _block(number: int) -> tuple[bytes, ...]:
    made: list[bytes] = []

    @hypothesis.seed(number)
    @hypothesis.settings(
        max_examples=_BLOCK,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(documents())
    def collect(document: dict[str, Any]) -> None:
        made.append(text(document))

    collect()
    return tuple(made)


def _without_weights(seed: Mapping[str, bytes]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(seed[DOCUMENT])
    document.pop("weights")
    return document


GENERATORS: Mapping[str, Callable[[Mapping[str, bytes], random.Random, int], Files]] = {
    "tree": _tree,
    "mask": _mask,
    "text": _text,
    "weights": _weights,
    "budget": _budget,
    "random": _random,
    "large": _large,
}

_SHARES = {"tree": 32, "mask": 24, "text": 20, "weights": 16, "budget": 6, "random": 6, "large": 1}
"""How often a generator has its turn: large documents take a hundred times as long as others."""
