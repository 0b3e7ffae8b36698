"""Makes the document of a finding small, as long as the finding stays the same."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fuzz import workers
from fuzz.documents import Case, Files
from fuzz.seeds import DOCUMENT, SUFFIXES, text
from fuzz.trees import walk
from fuzz.workers import Task, Verdict

Holds = Callable[[Any], bool]
"""Whether a smaller thing shows the finding too."""

_SECONDS = 120
"""How long one finding is worked on."""
_PARTS = 300
"""Of a document, the largest ones, that are left out to see whether they are needed."""


def keep(findings: Iterable[Verdict], folder: Path) -> None:
    """Writes the files of findings of the campaign, made small, as the corpus has them."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks: list[Task] = []
    answers = workers.verdicts(iter(tasks.pop, None), 1)
    for verdict in findings:
        until = time.monotonic() + _SECONDS

        def same(files: Files, verdict: Verdict = verdict, until: float = until) -> bool:
            if time.monotonic() > until:
                return False
            tasks.append(Task(verdict.name, None, files, verdict.mode))
            return next(answers).signature == verdict.signature

        files = minimised(Case.parse(verdict.name).files(), same)
        quirk = re.sub(r"\W+", "-", f"{verdict.kind}-{verdict.place}-{verdict.name}")
        for name, content in files.items():
            if isinstance(content, bytes):
                (folder / f"{quirk}{SUFFIXES[name]}").write_bytes(content)


def minimised(files: Files, holds: Holds) -> Files:
    """The files without what the finding does not need; of their contents only the document's is made smaller."""
    for name in sorted(files.keys() - {DOCUMENT}):
        fewer = {key: content for key, content in files.items() if key != name}
        if holds(fewer):
            files = fewer
    content = files[DOCUMENT]
    assert isinstance(content, bytes)
    try:
        value = json.loads(content)
        rendered = text(value)
    except (ValueError, RecursionError):
        rendered = b""
    if rendered and holds({**files, DOCUMENT: rendered}):
        value = _pruned(value, lambda smaller: holds({**files, DOCUMENT: text(smaller)}))
        return {**files, DOCUMENT: text(value)}
    return {**files, DOCUMENT: _cut(content, lambda smaller: holds({**files, DOCUMENT: smaller}))}


def _pruned(value: Any, holds: Holds) -> Any:
    """A JSON value without the members and elements that are not needed, larger ones first."""
    while True:
        candidates = (_without(value, path) for path in _paths(value))
        found = next(([smaller] for smaller in candidates if holds(smaller)), None)
        if found is None:
            return value
        value = found[0]


def _paths(value: Any) -> list[tuple[Any, ...]]:
    """Ways to parts of the value, those to the largest first; of long lists also to every other element."""
    sized: list[tuple[int, tuple[Any, ...]]] = []
    ways: dict[int, tuple[Any, ...]] = {id(value): ()}
    for container, key in walk(value) if isinstance(value, (dict, list)) else ():
        item, way = container[key], (*ways[id(container)], key)
        if isinstance(item, (dict, list)):
            ways[id(item)] = way
        size = len(json.dumps(item))
        sized.append((size, way))
        if isinstance(item, list) and len(item) > 3:
            sized += [(size, (*way, slice(start, None, 2))) for start in (0, 1)]
    return [way for _, way in sorted(sized, key=lambda pair: -pair[0])[:_PARTS]]


def _without(value: Any, path: tuple[Any, ...]) -> Any:
    made = copy.deepcopy(value)
    current = made
    for key in path[:-1]:
        current = current[key]
    del current[path[-1]]
    return made


def _cut(content: bytes, holds: Holds) -> bytes:
    """A text without the pieces that are not needed, in pieces that become smaller."""
    size = len(content) // 2
    while size:
        at = 0
        while at < len(content):
            smaller = content[:at] + content[at + size :]
            if holds(smaller):
                content = smaller
            else:
                at += size
        size //= 2
    return content
