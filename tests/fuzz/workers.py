"""Processes that judge documents under limits of time and memory, and are ended from outside if they do not answer."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from fuzz.documents import Case, Files
from fuzz.seeds import DOCUMENT

SECONDS = 5
"""Processor time that one step, such as to validate, may take of one document."""
PATIENCE = 300
"""Seconds after which a process is ended that neither answers nor stops by itself."""
ADDRESS_SPACE = 8 * 2**30
"""Of a worker, so that a document that takes too much does not take it from others."""
BASE_BYTES = 64 * 2**20
BYTES_FOR_EACH = 100
MASKS = 3
"""Memory that a document may take: `BASE_BYTES`, `BYTES_FOR_EACH` byte of its files, `MASKS` times all its masks."""

_HIGHEST = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a document.

    Attributes:
        name: of the case or file.
        kind: ``""`` if all is well, else ``crash``, ``hang``, ``memory`` or ``disagreement``.
        detail: what happened, in a line.
        place: where: a step, and for a crash the innermost line of code.
        seconds: of processor time.
        memory: bytes at most beyond what the process had before.
        mode: of its task.
    """

    name: str
    kind: str
    detail: str
    place: str
    seconds: float
    memory: int
    mode: str

    @property
    def signature(self) -> tuple[str, str, str]:
        """What findings with one cause have in common."""
        return self.kind, self.place, "" if self.kind in ("hang", "memory") else self.detail[:60]


class HangError(Exception):
    """The time is up."""


@dataclass(frozen=True, slots=True)
class Task:
    """A document to be judged: a case, or files.

    Attributes:
        name: for the verdict.
        case: to be made, if there are no files.
        files: of the folder.
        mode: ``usual`` or ``small`` limits, or ``brief``: the usual ones, and the judge is.
    """

    name: str
    case: Case | None
    files: Files | None
    mode: str

    @classmethod
    def of(cls, case: Case) -> Task:
        """Every fourth case is judged with small limits."""
        return cls(str(case), case, None, "small" if case.number % 4 == 3 else "usual")


def write(files: Files, folder: Path) -> None:
    """Makes a folder that has these files and links only."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    for name, content in files.items():
        if isinstance(content, str):
            (folder / name).symlink_to(content)
        else:
            (folder / name).write_bytes(content)


def examine(task: Task, folder: Path) -> Verdict:
    """The verdict on a document in this process, whose address space should be limited."""
    from deepstruct.limits import Limits
    from fuzz import judge

    files = task.files if task.files is not None else task.case.files() if task.case is not None else {}
    write(files, folder)
    limits = judge.SMALL if task.mode == "small" else Limits()
    kind = detail = ""
    step = ["", ""]

    def begin(name: str) -> None:
        step[0] = name
        signal.setitimer(signal.ITIMER_PROF, SECONDS)

    handler = signal.signal(signal.SIGPROF, _stop)
    _reset_peak()
    before, start = _resident(), time.process_time()
    try:
        judge.judge(folder, limits, begin, brief=task.mode == "brief")
    except HangError:
        kind, detail = "hang", f"more than {SECONDS} seconds of processor time"
    except MemoryError as error:
        kind, detail = "memory", f"{error!r:.200}"
    except judge.DisagreementError as error:
        kind, detail = "disagreement", str(error)
    except Exception as error:
        kind, detail, step[1] = "crash", f"{error!r:.300}", innermost(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
    seconds, memory = time.process_time() - start, max(0, _peak() - before)
    contents = [content for content in files.values() if isinstance(content, bytes)]
    allowed = BASE_BYTES + BYTES_FOR_EACH * sum(map(len, contents))
    if not kind and memory > allowed:
        document = files[DOCUMENT]
        allowed += MASKS * judge.claimed(document, limits) if isinstance(document, bytes) else 0
        if memory > allowed:
            kind, detail = "memory", f"{memory >> 20} MiB, {allowed >> 20} MiB are allowed"
    return Verdict(task.name, kind, detail, " ".join(filter(None, step)), seconds, memory, task.mode)


def innermost(error: BaseException) -> str:
    """File and function in which an exception was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.name}"


def _reset_peak() -> None:
    with contextlib.suppress(OSError):
        _HIGHEST.write_text("5")


def _peak() -> int:
    """Bytes of memory at most since `_reset_peak`."""
    return _status("VmHWM")


def _resident() -> int:
    return _status("VmRSS")


def _status(name: str) -> int:
    """A figure of the process in bytes; 0 where the system has no /proc, so that memory is not judged there."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":")), 0)


def _work(connection: Connection, folder: str) -> None:
    """What a worker does: a verdict for each task, until there is none."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    examine(Task("first", Case("plain", "tree", 0), None, "usual"), Path(folder))  # imports everything
    while (task := connection.recv()) is not None:
        connection.send(examine(task, Path(folder)))


def _stop(_number: int, _frame: Any) -> None:
    raise HangError


class _Worker:
    """One process, and what it is doing."""

    def __init__(self, folder: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, folder), daemon=True)
        self.process.start()
        theirs.close()
        self.task: Task | None = None
        self.began = 0.0

    def give(self, task: Task) -> None:
        self.task, self.began = task, time.monotonic()
        self.connection.send(task)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def verdicts(tasks: Iterable[Task], jobs: int) -> Iterator[Verdict]:
    """The verdict on each task, in the order in which they come."""
    waiting = iter(tasks)
    with tempfile.TemporaryDirectory(prefix="deepstruct-fuzz-") as place:
        workers = [_Worker(os.path.join(place, str(number))) for number in range(jobs)]
        try:
            busy = [worker for worker in workers if _next(worker, waiting)]
            while busy:
                ready = wait([worker.connection for worker in busy], timeout=1)
                for worker in list(busy):
                    found = _answer(worker, ready)
                    if found is None:
                        continue
                    yield found
                    busy.remove(worker)
                    if not worker.process.is_alive():
                        worker.end()
                        place_of = os.path.join(place, str(workers.index(worker)))
                        workers[workers.index(worker)] = worker = _Worker(place_of)
                    if _next(worker, waiting):
                        busy.append(worker)
        finally:
            for worker in workers:
                worker.end()


def _next(worker: _Worker, waiting: Iterator[Task]) -> bool:
    task = next(waiting, None)
    if task is not None:
        worker.give(task)
    return task is not None


def _answer(worker: _Worker, ready: Sequence[object]) -> Verdict | None:
    """The verdict of a worker if there is one; a worker that died, or had its time, has one too."""
    task = worker.task
    if task is None:
        return None
    if worker.connection in ready:
        try:
            found: Verdict = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            code = worker.process.exitcode
            return Verdict(task.name, "crash", f"the process died with {code}", "process", 0.0, 0, task.mode)
        return found
    if time.monotonic() - worker.began > PATIENCE:
        worker.process.kill()
        worker.process.join()
        return Verdict(task.name, "hang", f"no answer in {PATIENCE} seconds", "process", float(PATIENCE), 0, task.mode)
    return None
