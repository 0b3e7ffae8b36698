"""The campaign: many hostile documents, and what they found; ``PYTHONPATH=tests python -m fuzz.campaign --help``."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tabulate import tabulate

from fuzz import guided, minimising, workers
from fuzz.documents import Case, cases
from fuzz.hostile import HOSTILE
from fuzz.workers import Task, Verdict

_SHOWN = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the campaign; returns 1 if there are findings."""
    options = _parser().parse_args(arguments)
    os.nice(options.nice)
    begun = time.monotonic()
    tasks = [Task.of(Case.parse(name)) for name in options.case] or _tasks(options.documents, options.start)
    found: list[Verdict] = []
    with contextlib.suppress(KeyboardInterrupt):  # what there is until then is shown
        for verdict in workers.verdicts(tasks, options.jobs):
            found.append(verdict)
            if verdict.kind:
                print(f"{verdict.kind}: {verdict.name} ({verdict.mode}, {verdict.place}): {verdict.detail}", flush=True)
            if len(found) % 5_000 == 0:
                print(f"{len(found):,} documents, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    print(f"\n{len(found):,} documents in {time.monotonic() - begun:.0f} s with {options.jobs} processes\n")
    print(_table(found))
    causes = _causes([verdict for verdict in found if verdict.kind])
    print(f"\n{sum(map(len, causes)):,} findings of {len(causes)} kinds")
    if options.keep is not None:
        minimising.keep([group[0] for group in causes if not group[0].name.startswith("known:")], options.keep)
    if not options.guided:
        return 1 if causes else 0
    result = guided.campaign(options.guided, options.seed)
    print(f"guided by coverage: {result.summary}")
    _causes(result.findings)
    return 1 if causes or result.findings else 0


def _tasks(count: int, start: int) -> Iterator[Task]:
    """The hostile documents that are known, and then cases; `count` in all."""
    known = (Task(f"known:{quirk}", None, make(), "usual") for quirk, make in HOSTILE.items())
    return chain(islice(known, count), map(Task.of, cases(max(0, count - len(HOSTILE)), start)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fuzz.campaign", description=__doc__)
    parser.add_argument("--documents", type=int, default=100_000, help="how many are judged")
    parser.add_argument("--start", type=int, default=0, help="number of the first one")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--seed", type=int, default=1, help="of the part that is guided by coverage")
    parser.add_argument("--guided", type=int, default=0, metavar="SECONDS", help="how long that part takes")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where findings are kept, made small")
    parser.add_argument("--case", action="append", default=[], metavar="NAME", help="judge this case only")
    parser.add_argument("--nice", type=int, default=10, help="by how much others have the right of way")
    return parser


def _table(found: list[Verdict]) -> str:
    rows = []
    groups: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in found:
        seed, generator, *_ = verdict.name.split(":")
        groups["known" if seed == "known" else generator].append(verdict)
    for name, members in groups.items():
        kinds = Counter(verdict.kind for verdict in members if verdict.kind)
        slowest, largest = (max(members, key=key) for key in (_seconds, _memory))
        rows.append(
            [
                name,
                len(members),
                ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "none",
                f"{sum(map(_seconds, members)) / len(members) * 1000:.1f} ms",
                f"{slowest.seconds:.2f} s ({slowest.name})",
                f"{largest.memory / 2**20:.0f} MiB ({largest.name})",
            ]
        )
    return tabulate(rows, ["generator", "documents", "findings", "mean", "slowest", "most memory"], tablefmt="github")


def _seconds(verdict: Verdict) -> float:
    return verdict.seconds


def _memory(verdict: Verdict) -> int:
    return verdict.memory


def _causes(findings: list[Verdict]) -> list[list[Verdict]]:
    """Findings in groups that seem to have one cause, the largest first."""
    groups: dict[tuple[str, str, str], list[Verdict]] = defaultdict(list)
    for verdict in findings:
        groups[verdict.signature].append(verdict)
    ordered = sorted(groups.values(), key=len, reverse=True)
    for group in ordered:
        names = ", ".join(verdict.name for verdict in group[:_SHOWN])
        print(f"{len(group):>6} {group[0].kind} in {group[0].place}: {group[0].detail:.160} ({names})")
    return ordered


if __name__ == "__main__":
    sys.exit(main())
