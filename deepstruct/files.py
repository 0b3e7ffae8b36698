"""Writing files so that nothing is ever lost or half-written: all targets of a conversion appear, or none does."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import signal
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self

from deepstruct.errors import FileError, MalformedFileError, UnreadableFileError, UsageError, WriteError


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """Content of a file, or of its first `limit` bytes.

    Raises:
        UnreadableFileError: the operating system does not let us.
    """
    with reading(path), path.open("rb") as file:
        return file.read() if limit is None else file.read(limit)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns the operating system's refusals while reading `path` into `UnreadableFileError`.

    What is no regular file is refused before anything waits for it.
    """
    try:
        _require_regular(path)
        yield
    except IsADirectoryError as error:
        raise UnreadableFileError(str(path), "is a directory; name a file in it") from error
    except FileNotFoundError as error:
        raise UnreadableFileError(str(path), "does not exist") from error
    except PermissionError as error:
        raise UnreadableFileError(str(path), "no permission to read it") from error
    except FileError:
        raise
    except OSError as error:
        raise UnreadableFileError(str(path), f"cannot be read: {error.strerror or error}") from error


def _require_regular(path: Path) -> None:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise UnreadableFileError(str(path), "is no regular file; for a pipe, use - and standard input")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns the operating system's refusals while writing `path` into `WriteError`."""
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the disk quota is used up",
            errno.EACCES: "no permission to write there",
            errno.EPERM: "no permission to write there",
            errno.EROFS: "the file system is read-only",
            errno.EISDIR: "is a directory",
            errno.ENOTDIR: "a part of the path is not a directory",
            errno.ENOENT: "the folder does not exist",
            errno.ENAMETOOLONG: "the name is too long",
            errno.EFBIG: "the file would be larger than the system allows",
        }
        reason = reasons.get(error.errno or 0, f"cannot be written: {error.strerror or error}")
        raise WriteError(str(path), f"{reason}; nothing was changed") from error


def beside(path: Path, name: str, what: str) -> Path:
    """The file `name` that `path` refers to, which must lie in the same folder or below.

    Args:
        path: the file that refers to another.
        name: as it stands there, ``/`` between parts.
        what: how the file calls the reference, for the error.

    Raises:
        MalformedFileError: the name is no plain relative name, or leads out of the folder through a link.
    """
    odd = any(char in ":\\\0" or 0xD800 <= ord(char) < 0xE000 for char in name)
    if odd or any(part in ("", ".", "..") for part in name.split("/")):
        raise MalformedFileError(
            str(path),
            f"{what} {name!r:.80} is not allowed: it must be a name relative to the file, "
            "of Unicode text without '..', scheme, drive, backslash or leading slash",
        )
    target = path.parent / name
    if not Path(os.path.realpath(target)).is_relative_to(os.path.realpath(path.parent)):
        raise MalformedFileError(str(path), f"{what} {name!r:.80} leads out of the folder through a link")
    return target


class _Pending(NamedTuple):
    """A file that is being written: aside, as the caller called it, and where that leads once links are followed."""

    temporary: Path
    path: Path
    target: Path


class Targets:
    """A set of files that are written aside and put in place together.

    Use it as a context manager: leaving it normally puts all files in place, leaving it by an exception
    (Ctrl-C included) removes what was written and leaves the old files as they were. Between two processes
    that write the same files, the last one wins with all of them. The file that was opened first is put in place
    last, so that it never names one that is not there yet.
    """

    def __init__(self, *, overwrite: bool = False) -> None:
        self._overwrite = overwrite
        self._pending: list[_Pending] = []
        self._open: list[IO[bytes]] = []
        self._sizes: dict[Path, int] = {}

    def sizes(self) -> tuple[tuple[Path, int], ...]:
        """Path and size in bytes of each file once it is in place, in the order in which they were opened."""
        return tuple((path, self._sizes[path]) for _, path, _ in self._pending)

    def open(self, path: Path) -> IO[bytes]:
        """A new binary file, readable and seekable, that becomes `path` in the end.

        Raises:
            UsageError: there is something at `path` and overwriting was not allowed, or it is no regular file.
            WriteError: the operating system does not let us.
        """
        target = Path(os.path.realpath(path))
        if any(target == pending.target for pending in self._pending):
            raise UsageError(f"{path}: is the same file as another one that would be written; choose another target")
        with writing(path):
            path.parent.stat()
            self._check(path)
            temporary = target.parent / f".{target.name[:40]}.{secrets.token_hex(8)}.tmp"
            self._pending.append(
                _Pending(temporary, path, target)
            )  # first, so that an interruption cannot leave it behind
            file = temporary.open("x+b")
        self._open.append(file)
        return file

    def _check(self, path: Path) -> None:
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(mode):
            raise UsageError(f"{path}: exists and is no regular file; choose another target")
        if not self._overwrite:
            raise UsageError(f"{path}: exists already; --force (in Python: overwrite=True) replaces it")
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "the existing file is write-protected", str(path))

    @contextlib.contextmanager
    def preview(self) -> Iterator[Path]:
        """A folder in which the files stand under their names before they are put in place; it goes with the block."""
        beside = self._pending[0].target.parent
        with writing(beside), _temporary_folder(beside) as name:
            for file, (temporary, path, _) in zip(self._open, self._pending, strict=True):
                file.flush()
                shown = Path(name) / path.name
                try:
                    os.link(temporary, shown)
                except OSError:  # a file system without hard links
                    shutil.copyfile(temporary, shown)
            yield Path(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except BaseException:
            self._clean_up()
            raise
        with _uninterrupted():
            try:
                if kind is None:
                    self._commit()
            finally:
                self._clean_up()

    def _clean_up(self) -> None:
        with _uninterrupted():
            for file in self._open:
                with contextlib.suppress(OSError):
                    file.close()
            for pending in self._pending:
                pending.temporary.unlink(missing_ok=True)
                _backup(pending.temporary).unlink(missing_ok=True)

    def _finish(self) -> None:
        """Brings the contents to the disk."""
        for file, (temporary, path, _) in zip(self._open, self._pending, strict=True):
            with writing(path):
                file.flush()
                os.fsync(file.fileno())
                self._sizes[path] = os.fstat(file.fileno()).st_size
                file.close()
                with contextlib.suppress(FileNotFoundError):  # a new file has ordinary permissions already
                    temporary.chmod(stat.S_IMODE(path.stat().st_mode))

    def _commit(self) -> None:
        """Puts all files in place, or none."""
        undo: list[Callable[[], None]] = []
        folders = sorted({pending.target.parent for pending in self._pending})
        with contextlib.ExitStack() as locks:
            for folder in folders:
                locks.enter_context(_locked(folder))
            try:
                for pending in reversed(self._pending):
                    with writing(pending.path):
                        undo.append(self._put(*pending))
            except BaseException:
                for step in reversed(undo):
                    step()
                raise

    def _put(self, temporary: Path, path: Path, target: Path) -> Callable[[], None]:
        """Moves a finished file into place and returns what would undo it."""
        backup = _backup(temporary)
        if not self._overwrite:
            try:
                os.link(temporary, target)
            except FileExistsError:
                self._check(path)
                raise
            except OSError:  # a file system without hard links
                self._check(path)
                temporary.replace(target)
            return target.unlink
        try:
            os.link(target, backup)
        except FileNotFoundError:
            temporary.replace(target)
            return target.unlink
        except OSError:  # a file system without hard links: no way back, but each file is whole
            temporary.replace(target)
            return lambda: None
        temporary.replace(target)

        def restore() -> None:
            backup.replace(target)

        return restore


@contextlib.contextmanager
def _temporary_folder(beside: Path) -> Iterator[str]:
    """A folder in `beside` that goes with the block, also if an interruption comes while it is made or removed."""
    folder: tempfile.TemporaryDirectory[str] | None = None
    try:
        with _uninterrupted():
            folder = tempfile.TemporaryDirectory(prefix=".deepstruct-", dir=beside)
        yield folder.name
    finally:
        if folder is not None:
            with _uninterrupted():
                folder.cleanup()


def _backup(temporary: Path) -> Path:
    return temporary.with_suffix(".old")


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Holds Ctrl-C and SIGTERM back until the end of the block, where they arrive after all."""
    if threading.current_thread() is not threading.main_thread():  # signals arrive in the main thread only
        yield
        return
    held: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _frame: held.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # None: it was not set from Python, and cannot be set again
                signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the folder's lock, where the system has such locks, while files are put in place."""
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):  # Windows, or a folder we may write but not list
        yield
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
