"""The wheel, built from the source distribution: it has exactly the tree, and works without torch and onnx."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import deepstruct
from deepstruct.testing import feed_forward, with_weights

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Source distribution and wheel, built from a clean copy of what git has."""
    folder = tmp_path_factory.mktemp("distributions")
    copy = folder / "copy"
    copy.mkdir()
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    archive = subprocess.run(["tar", "-c", *names.split()], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x"], cwd=copy, input=archive, check=True)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(copy)]
    subprocess.run(build, check=True, capture_output=True)
    (source,), (wheel,) = (folder / "dist").glob("*.tar.gz"), (folder / "dist").glob("*.whl")
    return source, wheel


def tracked(*folders: str) -> set[str]:
    command = ["git", "ls-files", *folders]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


def test_the_wheel_has_exactly_the_tree(distributions: tuple[Path, Path]) -> None:
    names = {name for name in zipfile.ZipFile(distributions[1]).namelist() if ".dist-info/" not in name}
    package = tracked("deepstruct") - {"deepstruct/converters", "deepstruct/schemas"}
    expected = package | {f"deepstruct/{name}" for name in tracked("converters", "schemas")}
    assert names == expected
    assert "deepstruct/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"deepstruct"}


def test_the_source_distribution_has_the_shape_of_the_repository(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked("converters", "schemas") <= names
    assert {"pyproject.toml", "README.md", "LICENSE"} <= names


def test_the_base_works_without_torch_and_onnx(distributions: tuple[Path, Path], tmp_path: Path) -> None:
    site, document = tmp_path / "site", tmp_path / "a.structure.json"
    zipfile.ZipFile(distributions[1]).extractall(site)
    deepstruct.save(with_weights(feed_forward()), document)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = (
            "import sys\n"
            f"sys.path.insert(0, {str(site)!r})\n"
            "class Blocker:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name.split('.')[0] in ('torch', 'onnx', 'onnxruntime', 'google'):\n"
            "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
            "sys.meta_path.insert(0, Blocker())\n"
            f"sys.argv = {['deepstruct', *arguments]!r}\n"
            "import deepstruct\n"
            f"assert deepstruct.__file__.startswith({str(site)!r})\n"
            "from deepstruct.__main__ import main\nmain()\n"
        )
        return subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run("validate", str(document)).returncode == 0
    assert "fc0.weight" in run("info", str(document)).stdout
    assert run("diff", str(document), str(document)).stdout == "equal\n"
    assert "onnx" in run("formats").stdout
    refused = run("convert", str(document), str(tmp_path / "a.onnx"))
    assert refused.returncode == 6
    assert "pip install 'deepstruct[onnx]'" in refused.stderr
