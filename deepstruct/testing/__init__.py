"""Tools for testing converters: hypothesis strategies, samples named by their quirk, and a suite to subclass.

A package that adds a format tests it with what deepstruct's own formats are tested with (`docs/testing.md`)::

    from deepstruct.testing import ConverterSuite

    class TestMine(ConverterSuite):
        format_name = "mine"

Needs the packages of the extra ``testing``.
"""

from __future__ import annotations

from deepstruct.errors import MissingDependencyError

try:
    import hypothesis  # noqa: F401 - whether it is there
    import pytest
except ModuleNotFoundError as error:
    raise MissingDependencyError(error.name or "pytest", "testing", "deepstruct.testing") from error

pytest.register_assert_rewrite("deepstruct.testing.suite")

from deepstruct.testing.models import chains, documents, models  # noqa: E402 - likewise
from deepstruct.testing.numbers import numbers, tame, with_weights  # noqa: E402 - behind the check
from deepstruct.testing.quirks import QUIRKS  # noqa: E402 - likewise
from deepstruct.testing.samples import SAMPLES, feed_forward, random_mask, skip_connection  # noqa: E402 - likewise
from deepstruct.testing.structures import FLOATS, OPERATORS, structures  # noqa: E402 - likewise
from deepstruct.testing.suite import ConverterSuite  # noqa: E402 - registered for pytest first
from deepstruct.testing.values import json_values, masks, shapes  # noqa: E402 - likewise

__all__ = [
    "FLOATS",
    "OPERATORS",
    "QUIRKS",
    "SAMPLES",
    "ConverterSuite",
    "chains",
    "documents",
    "feed_forward",
    "json_values",
    "masks",
    "models",
    "numbers",
    "random_mask",
    "shapes",
    "skip_connection",
    "structures",
    "tame",
    "with_weights",
]
