"""What fuzzing found stays found: the corpus and the hostile documents again, and a short campaign."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from deepstruct.errors import Fault
from deepstruct.validation.report import FileReport
from deepstruct.validation.validate import validate
from fuzz import documents, judge, minimising, workers
from fuzz.documents import Case, Files
from fuzz.hostile import HOSTILE
from fuzz.seeds import DOCUMENT, SUFFIXES, seeds, text
from fuzz.workers import Task, Verdict

CORPUS = Path(__file__).parent / "corpus"

SHORT = 2_000
"""Documents of the campaign here; `fuzz.campaign` has more."""


def findings(tasks: Iterable[Task]) -> list[Verdict]:
    return [verdict for verdict in workers.verdicts(tasks, 1) if verdict.kind]


def corpus() -> dict[str, Files]:
    """Quirk -> files of its folder; the document of a weights file or budget alone is the plain seed."""
    found: dict[str, dict[str, bytes | str]] = defaultdict(dict)
    for file in sorted(CORPUS.iterdir()):
        for name, suffix in SUFFIXES.items():
            if file.name.endswith(suffix):
                found[file.name.removesuffix(suffix)][name] = file.read_bytes()
    plain = seeds()["plain"]
    return {quirk: {DOCUMENT: plain[DOCUMENT], **files} for quirk, files in found.items()}


def test_documents_of_the_corpus_stay_harmless() -> None:
    found = corpus()
    assert len(found) >= 30
    assert sum(file.stat().st_size for file in CORPUS.iterdir()) < 300_000
    modes = ("usual", "small")
    assert findings([Task(quirk, None, files, mode) for quirk, files in found.items() for mode in modes]) == []


def test_large_hostile_documents_stay_harmless() -> None:
    assert findings(Task(name, None, make(), "brief") for name, make in HOSTILE.items()) == []


def test_a_short_campaign_finds_nothing() -> None:
    assert findings([Task.of(case) for case in documents.cases(SHORT) if case.generator != "large"]) == []


def test_seeds_are_valid() -> None:
    assert findings([Task(name, None, files, "usual") for name, files in seeds().items()]) == []


@pytest.mark.parametrize("generator", documents.GENERATORS)
def test_a_document_is_made_again_from_its_name(generator: str) -> None:
    case = Case("functions", generator, 12)
    assert Case.parse(str(case)) == case
    assert case.files() == case.files()
    assert case.files() != Case("functions", generator, 13).files()


def test_guided_mutation_copes_with_any_content() -> None:
    rng = random.Random(3)
    content = seeds()["branches"][DOCUMENT]
    for _ in range(100):
        content = documents.mutated(content, rng)[:100_000]
        assert isinstance(content, bytes)


def crash(*_arguments: object, **_options: object) -> None:
    raise KeyError("x")


def hang(*_arguments: object, **_options: object) -> None:
    while True:
        pass


def grow(path: Path, **options: Any) -> FileReport:
    assert len(b"x" * (200 * 2**20))
    return validate(path, **options)


def stray(*_arguments: object, **_options: object) -> None:
    Path(__file__).with_name("elsewhere").read_bytes()


def contradict(*_arguments: object, **_options: object) -> FileReport:
    return FileReport("net.structure.json", (Fault("INVALID_JSON", "", "x", line=9_999, column=1),), {})


@pytest.mark.parametrize(
    ("kind", "replacement"),
    [("crash", crash), ("hang", hang), ("memory", grow), ("disagreement", contradict), ("disagreement", stray)],
)
def test_the_judge_sees_every_kind_of_finding(
    kind: str, replacement: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    task = Task("plain", None, seeds()["plain"], "usual")
    assert workers.examine(task, tmp_path).kind == ""
    monkeypatch.setattr(judge, "validate", replacement)
    monkeypatch.setattr(workers, "SECONDS", 0.2 if kind == "hang" else 60)
    verdict = workers.examine(task, tmp_path)
    assert verdict.kind == kind


def test_findings_are_made_small() -> None:
    small = minimising.minimised(seeds()["branches"], lambda files: b'"If"' in files[DOCUMENT])
    assert small == {DOCUMENT: text({"graph": {"nodes": [{"op": "If"}]}})}
    small = minimising.minimised({DOCUMENT: b"no JSON \xff of any kind"}, lambda files: b"\xff" in files[DOCUMENT])
    assert small == {DOCUMENT: b"\xff"}
