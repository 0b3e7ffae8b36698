"""A format of another package: installed by pip, found through its entry point, tested by the same suite as ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import deepstruct
from deepstruct.testing import SAMPLES, numbers, with_weights

PLUGIN = Path(__file__).parent.parent / "examples" / "plugin"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, which building may write into, and whose tests do not wait for the disk."""
    folder = Path(shutil.copytree(PLUGIN, tmp_path_factory.mktemp("copy") / "plugin"))
    (folder / "conftest.py").write_text("import os\n\nos.fsync = lambda _: None\n")
    return folder


@pytest.fixture(scope="module")
def site(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the example is installed in."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def run(*command: str, paths: tuple[Path, ...], cwd: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "CI": "1", "PYTHONWARNINGS": "error"}
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def cli(*arguments: str, paths: tuple[Path, ...], cwd: Path) -> subprocess.CompletedProcess[str]:
    return run("-m", "deepstruct", *arguments, paths=paths, cwd=cwd)


def package(folder: Path, name: str, code: str, value: str) -> Path:
    """A folder that another package is installed in, which offers a format called like itself."""
    site = folder / f"site-{name}"
    information = site / f"{name}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[deepstruct.formats]\n{name} = {value}\n")
    (site / f"{name}.py").write_text(code)
    return site


def test_it_is_a_format_like_ours(site: Path, tmp_path: Path) -> None:
    listed = cli("formats", paths=(site,), cwd=tmp_path)
    assert "| sqlite " in listed.stdout, listed.stderr
    model = with_weights(SAMPLES["skip-connection"], numbers)
    deepstruct.save(model, tmp_path / "a.structure.json")
    for source, target in [("a.structure.json", "b.sqlite"), ("b.sqlite", "c.structure.json")]:
        result = cli("convert", source, target, "--fail-on-loss", paths=(site,), cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    assert deepstruct.load(tmp_path / "c.structure.json") == model
    assert "w.down" in cli("info", "b.sqlite", paths=(site,), cwd=tmp_path).stdout
    (tmp_path / "b.sqlite").write_bytes(b"something else")
    refused = cli("convert", "b.sqlite", "d.structure.json", paths=(site,), cwd=tmp_path)
    assert (refused.returncode, "b.sqlite: is no SQLite file" in refused.stderr) == (3, True)


def test_it_passes_its_own_tests(site: Path, copy: Path) -> None:
    result = run("-m", "pytest", "-q", "-p", "no:cacheprovider", ".", paths=(site,), cwd=copy)
    assert result.returncode == 0, result.stdout
    assert "skipped" not in result.stdout


def test_two_packages_with_one_name_are_an_error_that_names_both(site: Path, tmp_path: Path) -> None:
    code = "from dataclasses import replace\nimport deepstruct_sqlite\n"
    code += "FORMAT = replace(deepstruct_sqlite.FORMAT, converter='another')\n"
    another = package(tmp_path, "another", code, "another:FORMAT")
    result = cli("formats", paths=(site, another), cwd=tmp_path)
    assert result.returncode == 2
    assert "two converters call their format 'sqlite'" in result.stderr
    assert "deepstruct_sqlite" in result.stderr
    assert "another" in result.stderr


@pytest.mark.parametrize(
    ("code", "value", "reason"),
    [
        ("import no_such_module", "broken:FORMAT", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "broken:FORMAT", "ZeroDivisionError"),
        ("", "broken:FORMAT", "AttributeError"),
        ("FORMAT = 'sqlite'", "broken:FORMAT", "is no Format"),
    ],
)
def test_a_broken_package_is_named_and_stops_nothing_else(tmp_path: Path, code: str, value: str, reason: str) -> None:
    broken = package(tmp_path, "broken", code, value)
    deepstruct.save(with_weights(SAMPLES["plain"]), tmp_path / "a.structure.json")
    result = cli("formats", paths=(broken,), cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "'broken'" in result.stderr
    assert reason in result.stderr
    for arguments in (["--help"], ["validate", "a.structure.json"], ["schema"]):
        assert cli(*arguments, paths=(broken,), cwd=tmp_path).returncode == 0
