"""Files, folders and patterns that a command is given: which documents they mean, and what is said if none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deepstruct.document_files import expand
from deepstruct.errors import UnreadableFileError, UsageError


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with documents, which is the current one; beside it is a document outside."""
    folder = tmp_path / "tree"
    make(
        folder,
        "b.structure.json",
        "a.structure.json",
        "plain.json",
        "models/c.structure.json",
        "models/deep/er/d.structure.json",
        "models/.structure.json",
        "models/notes.txt",
        ".git/e.structure.json",
        "models/.venv/f.structure.json",
    )
    make(tmp_path, "outside.structure.json")
    monkeypatch.chdir(folder)
    return folder


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")


IN_MODELS = ["models/.structure.json", "models/c.structure.json", "models/deep/er/d.structure.json"]


def test_files_and_standard_input_are_taken_as_they_are() -> None:
    assert expand(["plain.json", "-", "./b.structure.json"]) == ["plain.json", "-", "./b.structure.json"]
    assert expand(["missing.json", "folder/missing.json", ""]) == ["missing.json", "folder/missing.json", ""]
    assert expand([]) == []


def test_a_folder_means_its_documents_but_not_hidden_folders() -> None:
    assert expand(["models"]) == expand(["models/"]) == IN_MODELS
    assert expand(["."]) == ["a.structure.json", "b.structure.json", *IN_MODELS]
    assert expand([".git"]) == [".git/e.structure.json"]


def test_absolute_arguments_give_absolute_names(tree: Path) -> None:
    assert expand([str(tree / "models")]) == [str(tree / name) for name in IN_MODELS]
    assert expand([f"{tree}/*.json"]) == [str(tree / f"{n}.json") for n in ("a.structure", "b.structure", "plain")]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.structure.json", ["a.structure.json", "b.structure.json"]),
        ("?.structure.json", ["a.structure.json", "b.structure.json"]),
        ("[!a]*.json", ["b.structure.json", "plain.json"]),
        ("models/*.structure.json", IN_MODELS[:2]),
        ("**/*.structure.json", ["a.structure.json", "b.structure.json", *IN_MODELS]),
        ("**/**/er/**/*", ["models/deep/er/d.structure.json"]),
        ("models/**", [*IN_MODELS, "models/notes.txt"]),
        ("models/**/d*", ["models/deep/er/d.structure.json"]),
        ("*/*/*/d.structure.json", ["models/deep/er/d.structure.json"]),
        ("**/.venv/*", ["models/.venv/f.structure.json"]),
        ("../*.json", ["../outside.structure.json"]),
        ("./m*/c*", ["models/c.structure.json"]),
    ],
)
def test_patterns(pattern: str, names: list[str]) -> None:
    assert sorted(expand([pattern])) == sorted(names)


def test_each_file_once_in_the_order_of_the_arguments() -> None:
    assert expand(["b*", "*.structure.json", ".", "-", "./a.structure.json", "-"]) == [
        *("b.structure.json", "a.structure.json"),
        *IN_MODELS,
        "-",
    ]


def test_the_order_does_not_depend_on_the_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    before = expand(["."]), expand(["**/*.json"])
    scandir = os.scandir

    class Reversed:
        def __init__(self, path: Path) -> None:
            with scandir(path) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Reversed)
    assert (expand(["."]), expand(["**/*.json"])) == before


@pytest.mark.parametrize("argument", ["models/deep/nothing*", "**/*.onnx", "missing/*.json", "[x]*"])
def test_a_pattern_without_a_match_is_an_error(argument: str) -> None:
    with pytest.raises(UsageError, match="no file matches this pattern"):
        expand([argument])


def test_a_folder_without_documents_is_an_error(tree: Path) -> None:
    make(tree, "empty/.hidden/x.structure.json", "empty/readme.json")
    with pytest.raises(UsageError, match=r"^empty: there is no \*\.structure\.json"):
        expand(["a.structure.json", "empty"])


def test_names_with_characters_of_patterns_are_names_if_there_is_such_a_file(tree: Path) -> None:
    make(tree, "[ab].structure.json", "*.json", "q[1]/x.structure.json")
    assert expand(["[ab].structure.json"]) == ["[ab].structure.json"]
    assert expand(["*.json"]) == ["*.json"]
    assert expand(["q[1]"]) == ["q[1]/x.structure.json"]
    assert expand(["q[[]1]/*"]) == ["q[1]/x.structure.json"]


def test_odd_names_stay_whole(tree: Path) -> None:
    odd = ["line\nbreak.structure.json", " .structure.json", "-x.structure.json", "ü\u202e.structure.json"]
    make(tree / "odd", *odd)
    undecodable = os.fsdecode(b"odd/\xff.structure.json")
    Path(undecodable).write_text("{}")
    assert sorted(expand(["odd"])) == sorted([*(f"odd/{name}" for name in odd), undecodable])
    with pytest.raises(UsageError) as caught:
        expand(["odd/\n\x1b*.nothing"])
    assert str(caught.value).startswith(r"odd/\n\u001b*.nothing: no file")


def test_a_file_called_minus_is_not_standard_input(tree: Path) -> None:
    make(tree, "-")
    assert expand(["-", "[-]"]) == ["-", "./-"]


def test_a_folder_that_is_called_like_a_document_is_a_folder(tree: Path) -> None:
    make(tree, "models/x.structure.json/y.structure.json")
    assert expand(["models"]) == [*IN_MODELS, "models/x.structure.json/y.structure.json"]
    assert expand(["models/x*/*"]) == ["models/x.structure.json/y.structure.json"]


def test_links_to_folders_are_not_followed_and_loops_end(tree: Path) -> None:
    for name in ("models/up", "models/again", "models/deep/top"):
        (tree / name).symlink_to(tree)
    (tree / "models/folder.structure.json").symlink_to(tree / "models/deep")
    assert expand(["models"]) == IN_MODELS
    assert expand(["models/**/*.structure.json"]) == IN_MODELS
    assert expand(["models/up/b*"]) == ["models/up/b.structure.json"]
    assert expand(["models/up/models/deep", "models"]) == [
        "models/up/models/deep/er/d.structure.json",
        *IN_MODELS[:2],
    ]


def test_a_link_to_a_file_inside_is_that_file(tree: Path) -> None:
    (tree / "models/b.structure.json").symlink_to("c.structure.json")
    assert expand(["models"]) == ["models/.structure.json", "models/b.structure.json", IN_MODELS[2]]


@pytest.mark.parametrize("argument", ["models", "models/*.json", "**/*.structure.json"])
def test_a_link_out_of_the_folder_is_refused_unless_it_is_named(tree: Path, argument: str) -> None:
    (tree / "models/x.structure.json").symlink_to("../../outside.structure.json")
    with pytest.raises(UsageError, match=r"models/x\.structure\.json: is a link that leads out of"):
        expand([argument])
    assert expand(["models/x.structure.json"]) == ["models/x.structure.json"]


@pytest.mark.parametrize("target", ["nowhere.structure.json", "x.structure.json"])
def test_a_link_to_nothing_is_kept_so_that_reading_says_so(tree: Path, target: str) -> None:
    (tree / "models/x.structure.json").symlink_to(target)
    assert expand(["models"]) == [*IN_MODELS, "models/x.structure.json"]
    assert expand(["models/x.structure.json"]) == ["models/x.structure.json"]


def test_what_is_no_regular_file_is_kept_so_that_reading_says_so(tree: Path) -> None:
    os.mkfifo(tree / "models/x.structure.json")
    assert expand(["models"]) == [*IN_MODELS, "models/x.structure.json"]


def test_a_folder_that_cannot_be_listed_is_an_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    for argument in ("models", "**/*.structure.json"):
        with pytest.raises(UnreadableFileError, match="models/deep: the folder cannot be listed: Permission denied"):
            expand([argument])
    assert expand(["*/*.structure.json"]) == IN_MODELS[:2]


def test_deep_folders_need_no_recursion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for _ in range(1100):
        os.mkdir("d")
        os.chdir("d")
    Path("x.structure.json").write_text("{}")
    os.chdir(folder)
    assert expand(["."]) == ["d/" * 1100 + "x.structure.json"]
    Path("d/" * 1100 + "x.structure.json").unlink()
    for levels in range(1100, 0, -1):  # pytest's own way to remove them is recursive
        os.rmdir("d/" * levels)


def test_many_wildcards_take_no_time_beyond_the_folders(tree: Path) -> None:
    pattern = "**/*/" * 30 + "*.structure.json"
    with pytest.raises(UsageError, match="no file matches"):
        expand([pattern])
