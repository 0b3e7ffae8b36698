"""Shared by all tests: hypothesis profile, the --accept flag for golden files, and one thread for torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest

hypothesis.settings.register_profile("deepstruct", deadline=None, print_blob=True, derandomize=True)
hypothesis.settings.load_profile("deepstruct")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="write what is seen into golden files and transcripts")


@pytest.fixture(autouse=True, scope="session")
def unsynced() -> Iterator[None]:
    """Files of tests need not outlive a power failure, and waiting for the disk takes minutes in all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture
def accept(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--accept"))


@pytest.fixture
def here() -> Path:
    """The folder of the tests."""
    return Path(__file__).parent
