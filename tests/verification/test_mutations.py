"""Certificates of right conversions, and of networks with a fault: the right verdict, at the right place."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from verification import trials
from verification.drawn_networks import FAMILIES, drawn, inputs
from verification.mutations import FAULTS, Draft
from verification.trials import NAMES

import deepstruct

ROWS = (1, 2, 3, 8, 17)
SCALES = (1.0, 1e-6, 1e-3, 1e3, 1e6)
COUNTS = {"feed-forward": 30, "dan": 24, "cells": 14, "recurrent": 30, "convolutional": 24}
"""Faults of each family; some take longer than others."""


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """NaN is among the faults, and runtimes warn of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("family", FAMILIES)
def test_right_conversions_are_certified(tmp_path: Path, family: str) -> None:
    for seed in range(8 if family == "cells" else 12):
        folder = tmp_path / str(seed)
        folder.mkdir()
        trial = trials.right(family, seed, folder, few=True)
        certificate = deepstruct.verify(trial.a, trial.b, seed=seed, rows=ROWS[seed % 5], scale=SCALES[seed % 5])
        assert not trials.complaints(trial, certificate), str(trial)


@pytest.mark.parametrize("encoding", trials.ENCODINGS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_each_encoding_is_certified(tmp_path: Path, encoding: str, dtype: str) -> None:
    deepstruct.save(drawn("dan", 3, dtype), tmp_path / "a.pt")
    deepstruct.convert(tmp_path / "a.pt", tmp_path / "b.onnx", sparse_encoding=encoding)
    certificate = deepstruct.verify(tmp_path / "a.pt", tmp_path / "b.onnx")
    assert (certificate.verdict, certificate.exit_code) == ("equivalent", 0), certificate.reasons


def test_bfloat16_is_certified_where_torch_computes(tmp_path: Path) -> None:
    deepstruct.save(drawn("feed-forward", 4, "bfloat16"), tmp_path / "a.pt")
    deepstruct.convert(tmp_path / "a.pt", tmp_path / "b.structure.json")
    certificate = deepstruct.verify(tmp_path / "a.pt", tmp_path / "b.structure.json")
    assert certificate.verdict == "equivalent", certificate.reasons


def planted(family: str, folder: Path, faults: int) -> list[trials.Trial]:
    """Every fault that a family has, each into another network, up to a number of them."""
    found = []
    for number, name in enumerate(NAMES):
        for attempt in range(3):
            place = folder / f"{number}-{attempt}"
            place.mkdir()
            trial = trials.faulty(family, 100 * number + attempt, name, place, few=True)
            if trial is not None:
                found.append(trial)
                break
    return [found[place * len(found) // faults] for place in range(min(faults, len(found)))]


@pytest.mark.parametrize("family", FAMILIES)
def test_faults_are_found_where_they_are(tmp_path: Path, family: str) -> None:
    """Graphs in another spelling may end as not certifiable, if no output shows that they compute something else."""
    placed = []
    for trial in planted(family, tmp_path, COUNTS[family]):
        certificate = deepstruct.verify(trial.a, trial.b)
        assert not trials.complaints(trial, certificate), f"{trial}: {trials.complaints(trial, certificate)}"
        assert trial.planted is not None
        placed.append(trials.is_placed(trial.planted, certificate.first_difference))
    assert len(placed) >= COUNTS[family]
    assert sum(placed) >= 0.9 * len(placed)


_RARE = {"axes permuted in another way", "axis of a normalisation or softmax changed"}
"""Faults of networks that take long to trace."""


def test_every_fault_is_a_fault_of_some_family(tmp_path: Path) -> None:
    rest = dict.fromkeys(FAULTS)
    for family in FAMILIES:
        for seed in range(6):
            model = drawn(family, seed, few=True)
            for name in tuple(rest):
                draft = Draft.of(model, np.random.default_rng(seed))
                if FAULTS[name](draft) is not None:
                    assert draft.model() != model, name
                    del rest[name]
    assert set(rest) <= _RARE


def test_trials_are_the_same_each_time(tmp_path: Path) -> None:
    digests: Counter[tuple[bytes, bytes]] = Counter()
    for folder in ("1", "2"):
        (tmp_path / folder).mkdir()
        trial = trials.faulty("dan", 7, "stale mask", tmp_path / folder)
        assert trial is not None
        digests[trial.a.read_bytes(), trial.b.read_bytes()] += 1
    assert list(digests.values()) == [2]


def test_units_in_another_order_are_another_network(tmp_path: Path) -> None:
    """Consistently permuted, they compute the same function; the certificate is for the network."""
    seeds = iter(range(50))
    trial = next(filter(None, (trials.faulty("feed-forward", s, "units permuted", tmp_path) for s in seeds)))
    assert trials.is_close(trial)
    certificate = deepstruct.verify(trial.a, trial.b)
    assert (certificate.verdict, certificate.exit_code) == ("different", 1)


def test_inputs_have_the_shapes_of_the_structure() -> None:
    values = inputs(drawn("recurrent", 0, few=True).structure, seed=0, rows=3)
    assert all(3 in value.shape for value in values.values())
