"""Writing: all files of a set or none, whatever interrupts; reading: the system's refusals in plain words."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from deepstruct import files
from deepstruct.errors import MalformedFileError, UnreadableFileError, UsageError, WriteError
from deepstruct.files import Targets


def write(folder: Path, content: bytes, *, overwrite: bool = True) -> None:
    with Targets(overwrite=overwrite) as targets:
        for name in ("document", "weights"):
            targets.open(folder / name).write(content)


def read(folder: Path) -> set[bytes]:
    return {(folder / name).read_bytes() for name in ("document", "weights")}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_both_files_appear_with_ordinary_permissions(tmp_path: Path) -> None:
    write(tmp_path, b"new")
    assert names(tmp_path) == ["document", "weights"]
    assert read(tmp_path) == {b"new"}
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "document").stat().st_mode & 0o777 == 0o666 & ~mask


def test_permissions_of_a_replaced_file_stay(tmp_path: Path) -> None:
    write(tmp_path, b"old")
    (tmp_path / "document").chmod(0o640)
    write(tmp_path, b"new")
    assert (tmp_path / "document").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError, MemoryError])
def test_an_interruption_leaves_everything_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    write(tmp_path, b"old")

    def interrupted() -> None:
        with Targets(overwrite=True) as targets:
            targets.open(tmp_path / "document").write(b"half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert read(tmp_path) == {b"old"}
    assert names(tmp_path) == ["document", "weights"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failure_while_putting_in_place_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    write(tmp_path, b"old")
    replace, calls = Path.replace, 0

    def fail(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += self.suffix == ".tmp"
        if calls == failing and self.suffix == ".tmp":
            raise OSError(errno.ENOSPC, "full")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(WriteError, match="disk is full"):
        write(tmp_path, b"new")
    assert read(tmp_path) == {b"old"}
    assert names(tmp_path) == ["document", "weights"]


@pytest.mark.parametrize("failing", [1, 2])
def test_new_files_vanish_if_one_cannot_be_put_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    link, calls = os.link, 0

    def fail(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise FileExistsError(errno.EEXIST, "exists")
        link(source, target)

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(WriteError):
        write(tmp_path, b"new", overwrite=False)
    assert names(tmp_path) == []


def test_file_systems_without_hard_links_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", refuse)
    write(tmp_path, b"new", overwrite=False)
    assert read(tmp_path) == {b"new"}
    write(tmp_path, b"newer")
    assert read(tmp_path) == {b"newer"}
    assert names(tmp_path) == ["document", "weights"]


def test_existing_files_are_refused_unless_told(tmp_path: Path) -> None:
    write(tmp_path, b"old")
    with pytest.raises(UsageError, match="exists already; --force"):
        write(tmp_path, b"new", overwrite=False)
    assert read(tmp_path) == {b"old"}


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    def late() -> None:
        with Targets() as targets:
            targets.open(tmp_path / "document").write(b"ours")
            (tmp_path / "document").write_bytes(b"theirs")

    with pytest.raises(UsageError, match="exists already"):
        late()
    assert (tmp_path / "document").read_bytes() == b"theirs"
    assert names(tmp_path) == ["document"]


def test_the_target_of_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("folder/real")
    with Targets(overwrite=True) as targets:
        targets.open(tmp_path / "link").write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "real").read_bytes() == b"new"


def test_two_writers_leave_one_consistent_set(tmp_path: Path) -> None:
    def repeat(content: bytes) -> None:
        for _ in range(20):
            write(tmp_path, content)

    threads = [threading.Thread(target=repeat, args=(content,)) for content in (b"one", b"two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read(tmp_path)) == 1
    assert names(tmp_path) == ["document", "weights"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing/file", "folder does not exist"), ("f" * 300, "name is too long"), ("file/below", "not a directory")],
)
def test_impossible_targets_are_explained(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WriteError, match=reason), Targets() as targets:
        targets.open(tmp_path / name)


def test_targets_that_are_no_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no regular file"), Targets(overwrite=True) as targets:
        targets.open(tmp_path)


def test_two_targets_cannot_be_one_file(tmp_path: Path) -> None:
    (tmp_path / "weights").symlink_to("document")
    with pytest.raises(UsageError, match="the same file"):
        write(tmp_path, b"new")
    assert names(tmp_path) == ["weights"]


def test_a_path_through_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="folder does not exist"), Targets() as targets:
        targets.open(tmp_path / "missing" / ".." / "file")
    assert names(tmp_path) == []


def test_unreadable_sources_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="is a directory"):
        files.read_bytes(tmp_path)
    with pytest.raises(UnreadableFileError, match="does not exist"):
        files.read_bytes(tmp_path / "missing")


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "a/../../x", "/etc/passwd", "\\x", "a\\..\\x", "C:x", "a//b", "x\0y"]
)
def test_references_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(MalformedFileError, match="is not allowed"):
        files.beside(tmp_path / "document", name, "weights.uri")


def test_references_do_not_leave_through_links(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "link").symlink_to("../out")
    (tmp_path / "in" / "here").symlink_to("there")
    with pytest.raises(MalformedFileError, match="through a link"):
        files.beside(tmp_path / "in" / "document", "link/weights", "weights.uri")
    assert files.beside(tmp_path / "in" / "document", "here", "weights.uri").name == "here"
