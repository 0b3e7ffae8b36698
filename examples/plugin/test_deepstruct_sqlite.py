"""The format passes deepstruct's suite for converters, and refuses databases of others."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import deepstruct
from deepstruct.errors import MalformedFileError
from deepstruct.testing import SAMPLES, ConverterSuite, with_weights


class TestSqlite(ConverterSuite):
    """All tests of the suite."""

    format_name = "sqlite"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("DROP TABLE parameter", "other tables"),
        ("CREATE VIEW endless AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i FROM n", "other"),
        ("DELETE FROM document", "0 documents"),
        ("UPDATE document SET text = 'text'", "no BLOB"),
        ("UPDATE document SET text = x'7b7d'", "document is invalid"),
        ("DELETE FROM parameter WHERE name = 'b.down'", "are not those"),
        ("UPDATE parameter SET name = 'w' WHERE name = 'b.down'", "are not those"),
        ("UPDATE parameter SET kept = x'00' WHERE name = 'w.up'", "the numbers of 'w.up'"),
        ("UPDATE parameter SET kept = 1.5 WHERE name = 'w.up'", "the numbers of 'w.up'"),
    ],
)
def test_files_that_break_a_rule_are_refused(tmp_path: Path, change: str, reason: str) -> None:
    """Each with a sentence that says what is wrong."""
    path = tmp_path / "a.sqlite"
    deepstruct.save(with_weights(SAMPLES["skip-connection"]), path)
    with closing(sqlite3.connect(path)) as database:
        database.execute(change)
        database.commit()
    with pytest.raises(MalformedFileError, match=reason):
        deepstruct.load(path)
