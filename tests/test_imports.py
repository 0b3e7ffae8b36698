"""What is loaded when: the budget of imports, and who may import whom."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import deepstruct
from deepstruct.testing import feed_forward, with_weights

FRAMEWORKS = {"torch", "onnx", "onnxruntime", "networkx", "scipy"}
HEAVY = FRAMEWORKS | {"numpy", "jsonschema", "jsonschema_rs"}

ROOT = Path(deepstruct.__file__).resolve().parent
CORE = sorted([*ROOT.glob("*.py"), *(ROOT / "validation").glob("*.py")])
CONVERTERS = sorted((ROOT / "converters").glob("*.py"))


def loaded(code: str, watched: set[str]) -> set[str]:
    """Which of the watched packages are loaded after some code has run in a fresh interpreter."""
    listing = f"[name for name in {sorted(watched)!r} if name in sys.modules]"
    script = f"{code}\nimport sys\nprint('\\nloaded:', *{listing})"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines()[-1].removeprefix("loaded:").split())


def command(*arguments: str) -> str:
    return (
        f"import sys\nsys.argv = {['deepstruct', *arguments]!r}\nfrom deepstruct.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit as error:\n    assert not error.code, error.code"
    )


def test_importing_loads_nothing_heavy() -> None:
    assert loaded("import deepstruct", HEAVY) == set()


@pytest.mark.parametrize("arguments", [["--help"], ["convert", "--help"], ["--version"], ["explain", "MASK_SIZE"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    assert loaded(command(*arguments), HEAVY) == set()


@pytest.mark.parametrize("name", ["validate", "info", "diff", "migrate", "format", "textconv", "convert"])
def test_documents_are_handled_without_frameworks(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.structure.json"
    deepstruct.save(with_weights(feed_forward()), path)
    others = {"diff": [str(path)], "convert": [str(tmp_path / "b.structure.json")]}
    assert loaded(command(name, str(path), *others.get(name, [])), FRAMEWORKS) == set()


def test_every_public_name_exists() -> None:
    assert set(deepstruct.__all__) <= set(dir(deepstruct))
    for name in deepstruct.__all__:
        assert getattr(deepstruct, name) is not None
    with pytest.raises(AttributeError):
        deepstruct.nothing  # noqa: B018 - the access is the test


def imports(path: Path) -> list[tuple[str, str]]:
    """(module, name) of every import statement of a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found += [(node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
    return found


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_the_core_imports_no_converter(path: Path) -> None:
    for module, name in imports(path):
        assert "converters" not in (*module.split("."), name)


LOWERING = {"torch_lowering.py": {"onnx_keys", "onnx_reading"}}
"""What torch's exporter gives is ONNX, and is read as such."""


GRAPHS = {"graph_files", "graph_spelling", "graph_words", "graph_xml"}
"""What the formats of graphs have in common; networkx reads and writes them all."""


@pytest.mark.parametrize("path", CONVERTERS, ids=lambda path: path.name)
def test_converters_know_only_their_own_framework(path: Path) -> None:
    for module, name in imports(path):
        if module == "deepstruct.converters" and name not in LOWERING.get(path.name, set()) | GRAPHS:
            assert name.split("_")[0] == path.stem.split("_")[0]
        if module.startswith("deepstruct.converters.") and module.split(".")[2] not in GRAPHS:
            assert module.split(".")[2].split("_")[0] == path.stem.split("_")[0]


@pytest.mark.parametrize("path", [*CORE, *CONVERTERS], ids=lambda path: path.name)
def test_nobody_uses_a_private_name_of_a_sibling(path: Path) -> None:
    for module, name in imports(path):
        if module.startswith("deepstruct"):
            assert not name.startswith("_") or name == "__version__"


def declared() -> set[str]:
    """Import names of the packages that an installation with all extras has."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(name for extra in ("all", "graph", "onnx", "torch", "testing") for name in extras[extra]),
    ]
    names = {re.split(r"[<>=\[]", name)[0].replace("-", "_") for name in wanted}
    return names | {"google", "onnx_ir"}  # protobuf, which comes with onnx, and what comes with onnxscript


def test_the_package_imports_nothing_that_it_does_not_declare() -> None:
    known = declared() | set(sys.stdlib_module_names)
    for path in [*ROOT.rglob("*.py"), *(ROOT / "converters").glob("*.py")]:
        assert {module.split(".")[0] for module, _ in imports(path)} <= known, path
