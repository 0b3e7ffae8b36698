"""`deepstruct diff --format markdown`: a comment that is short, whole, and safe whatever things are called."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

import deepstruct
from deepstruct import Mask, Model, Node, Parameter, Structure, ValueInfo, cli_reports, comparison, comparison_markdown
from deepstruct.comparison_markdown import LONGEST, MARKER, code, markdown
from deepstruct.comparison_sides import Side, side
from deepstruct.errors import MissingDependencyError, UsageError
from deepstruct.testing import SAMPLES, chains, feed_forward, with_weights


def given_side(name: str = "net.structure.json", **figures: Any) -> Side:
    values = {
        "density": 0.5,
        "effective_density": 0.25,
        "units": 9,
        "dead_units": 2,
        "note": "",
        "file_bytes": 1000,
        "weights_bytes": None,
    }
    return Side(name=name, **{**values, **figures})


def comment(before: Structure, after: Structure, *sides: Side) -> str:
    old, new = sides or (given_side(), given_side())
    return markdown(comparison.compare(before, after), old, new)


def pruned(structure: Structure, rows: int) -> Structure:
    """The structure without the first rows of its first parameter."""
    first, *others = structure.parameters
    array = np.ones(first.shape, np.bool_) if first.mask is None else first.mask.to_array()
    array[:rows] = False
    changed = Parameter(first.name, first.dtype, first.shape, Mask.from_array(array))
    return dataclasses.replace(structure, parameters=(changed, *others))


def tables(text: str) -> list[list[list[str]]]:
    """Cells of each table; every row must have as many as the head."""
    found: list[list[list[str]]] = []
    for previous, line in zip(["", *text.splitlines()], text.splitlines(), strict=False):
        if line.startswith("|"):
            if not previous.startswith("|"):
                found.append([])
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            assert not found[-1] or len(cells) == len(found[-1][0]), line
            found[-1].append(cells)
    return found


def test_a_change_of_connections() -> None:
    before = feed_forward((5, 7, 3), 1.0)
    old = given_side(density=1.0, effective_density=1.0, dead_units=0, weights_bytes=500)
    new = given_side(density=46 / 56, effective_density=0.8, dead_units=2, file_bytes=990, weights_bytes=460)
    assert (
        comment(before, pruned(before, 2), old, new)
        == f"""{MARKER}
**`net.structure.json`**: connections: **10 lost, 0 new**, 46 kept; layers: 1 rewired

|  | before | after | change |
| :-- | --: | --: | --: |
| connections | 56 | 46 | -10 |
| density | 100.00 % | 82.14 % | -17.86 points |
| effective density | 100.00 % | 80.00 % | -20.00 points |
| dead units | 0 | 2 | +2 |
| file | 1,000 bytes | 990 bytes | -10 (-1.0 %) |
| weights beside it | 500 bytes | 460 bytes | -40 (-8.0 %) |
| both | 1,500 bytes | 1,450 bytes | -50 (-3.3 %) |

| layer | change | shape | kept | lost | new | density before | density after |
| :-- | :-- | :-- | --: | --: | --: | --: | --: |
| `fc0` | rewired | 7x5 | 25 | 10 | 0 | 100.00 % | 71.43 % |
| **all layers** |  |  | 46 | 10 | 0 | 100.00 % | 82.14 % |

<details><summary>Parameters that differ: 1</summary>

| parameter | change | type | kept | lost | new |
| :-- | :-- | :-- | --: | --: | --: |
| `fc0.weight` | rewired | float32 [7, 5] | 25 | 10 | 0 |

</details>
"""
    )


def test_no_difference_is_one_line() -> None:
    assert (
        comment(SAMPLES["plain"], SAMPLES["plain"])
        == f"{MARKER}\n**`net.structure.json`**: the structure is the same\n"
    )


def test_both_names_are_said_if_they_differ() -> None:
    sides = given_side("a/x.pt"), given_side("b/x.onnx")
    assert "**`a/x.pt` → `b/x.onnx`**" in comment(SAMPLES["plain"], SAMPLES["plain"], *sides)
    sides = given_side("base/x.pt"), given_side("x.pt")
    assert "**`x.pt`**" in comment(SAMPLES["plain"], SAMPLES["plain"], *sides)


def test_layers_added_removed_and_resized() -> None:
    text = comment(feed_forward((5, 7, 3)), feed_forward((5, 8, 3, 2)))
    layers = tables(text)[1]
    assert [row[:3] for row in layers[2:]] == [
        ["`fc0`", "resized", "7x5 → 8x5"],
        ["`fc1`", "resized", "3x7 → 3x8"],
        ["`fc2`", "added", "- → 2x3"],
        ["**all layers**", "", ""],
    ]
    assert layers[4][6] == "-"
    assert "layers: 1 added, 2 resized" in text
    assert "Nodes added: `relu_3`, `fc2`" in text


def test_a_change_without_connections_says_so() -> None:
    before = feed_forward()
    nodes = [dataclasses.replace(node, scope="else") if node.op_type == "Relu" else node for node in before.nodes]
    after = dataclasses.replace(before, nodes=tuple(nodes), name="other")
    text = comment(before, after)
    assert "connections: **none lost, none new**, 15 kept\n" in text
    assert "Nodes changed: `relu_1`" in text
    assert "Graph: name changed" in text
    assert len(tables(text)) == 1


def test_long_lists_are_folded() -> None:
    before = feed_forward(tuple(range(2, 20)))
    nodes = [dataclasses.replace(node, scope=f"else.{node.name}") for node in before.nodes]
    text = comment(before, dataclasses.replace(feed_forward(tuple(range(2, 20)), 0.2), nodes=tuple(nodes)))
    assert "<details><summary>Layers that differ: 16</summary>\n\n| layer" in text
    assert "<details><summary>33 nodes changed</summary>\n\nnodes changed: `fc0`, " in text
    assert text.count("<details>") == text.count("</details>") == 3


def test_missing_figures_are_said_and_left_out() -> None:
    unknown = given_side(effective_density=None, units=None, dead_units=None, note="node `x|y`: not known")
    text = comment(feed_forward(), pruned(feed_forward(), 1), unknown, unknown)
    assert text.count("Effective density is not known: <code>node &#96;x&#124;y&#96;&#58; not known</code>") == 1
    assert "| effective density" not in text
    assert "| dead units" not in text
    text = comment(feed_forward(), pruned(feed_forward(), 1), unknown, given_side(weights_bytes=7))
    assert "| effective density | - | 25.00 % |  |" in text
    assert "| weights beside it | - | 7 bytes |  |" in text
    assert "| both | 1,000 bytes | 1,007 bytes | +7 (+0.7 %) |" in text


HOSTILE = [
    "a|b",
    "a`b",
    "``",
    "@someone",
    "<b>bold</b>",
    "<!-- -->",
    "]( javascript:x)",
    "line\nbreak\r\n\n# heading",
    "\u202etxt\x1b[31m",
    "\\",
    "a\\|b",
    " x ",
    "#12 **bold** ~~gone~~ $x$ :tada: www.example.com",
    "</details>",
    "x" * 500,
    "|" * 500,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_one_piece_of_code_on_its_line(name: str) -> None:
    shown = code(name)
    assert shown.isprintable()
    if shown.startswith("`"):
        assert re.fullmatch(r"`[^`|\\]+`", shown)
        content = shown[1:-1]
    else:
        match = re.fullmatch(r"<code>((?:\w| |…|&#\d+;)*)</code>", shown)
        assert match
        content = html.unescape(match[1])
    assert len(content) <= 100
    expected = "".join(c if c.isprintable() else "?" for c in name)
    if len(name) < 50:
        assert re.sub(r"\\(n|r|t|u[0-9a-f]{4})", "?", content) == expected


@given(st.text(max_size=40))
def test_any_name_is_one_piece_of_code(name: str) -> None:
    assert re.fullmatch(r"`[^`|\\]+`|<code>(?:\w| |…|&#\d+;)*</code>", code(name))


def named(names: list[str]) -> Structure:
    """Linear layers one behind the other, everything called as given."""
    nodes, parameters, value = [], [], "input"
    for number, name in enumerate(names):
        parameters.append(Parameter(f"{name}.w{number}", "float32", (2, 2)))
        nodes.append(
            Node(f"{name}.n{number}", "Gemm", (value, f"{name}.w{number}"), (f"{name}.v{number}",), {"transB": 1})
        )
        value = f"{name}.v{number}"
    return Structure(
        nodes=tuple(nodes),
        inputs=(ValueInfo("input", "float32", (1, 2)),),
        outputs=(ValueInfo(value, "float32", (1, 2)),),
        parameters=tuple(parameters),
    )


def test_hostile_names_do_not_break_the_comment() -> None:
    structure = named(HOSTILE)
    text = comment(structure, pruned(structure, 1), given_side("a|b\n@x"), given_side("-->"))
    tables(text)
    text = comment(feed_forward(), structure)
    for line in text.splitlines():
        assert line.isprintable()
        outside = re.sub(r"`[^`]*`|<code>[^<]*</code>|</?(details|summary)>|<!-- deepstruct diff -->", "", line)
        assert not re.search(r"[<>@#`]|\]\(|www", outside), line
    tables(text)


@pytest.mark.parametrize("name", ["layer", "|" * 200, "\U0001f600" * 200])
def test_the_length_is_bounded_and_what_is_left_out_is_said(name: str) -> None:
    many = named([f"{number}{name}" for number in range(3000)])
    for before, after in (
        (feed_forward(), many),
        (many, feed_forward()),
        (many, dataclasses.replace(many, opset={"": 18})),
    ):
        text = comment(before, after, given_side("|" * 1000), given_side("`" * 1000, note="|" * 1000))
        assert len(text) < LONGEST
        assert text.count("<details>") == text.count("</details>")
        tables(text)
    text = comment(feed_forward(), many)
    shown = len(tables(text)[1]) - 3
    assert f"… and {3002 - shown:,} more" in text
    assert text.rstrip().endswith("</details>")


@given(chains(), chains())
def test_any_comparison_has_a_comment(before: Structure, after: Structure) -> None:
    text = comment(before, after)
    assert text.startswith(MARKER + "\n")
    assert text.endswith("\n")
    tables(text)


# The command


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(cli_reports.diff, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    deepstruct.save(with_weights(feed_forward()), "a.structure.json")
    deepstruct.save(Model(pruned(feed_forward(), 2)), "b.structure.json")
    return tmp_path


def test_the_command_prints_the_comment_with_figures(files: Path) -> None:
    result = run("a.structure.json", "b.structure.json", "--format", "markdown")
    assert result.exit_code == 1
    assert result.stdout.startswith(
        f"{MARKER}\n**`a.structure.json` → `b.structure.json`**: connections: **3 lost, 0 new**"
    )
    cells = {row[0]: row[1:] for row in tables(result.stdout)[0]}
    size = f"{Path('a.structure.json').stat().st_size:,} bytes"
    assert cells["file"][0] == size
    assert cells["weights beside it"] == [f"{Path('a.safetensors').stat().st_size:,} bytes", "-", ""]
    analysed = [deepstruct.analysis.analyse(s, order=1).whole for s in (feed_forward(), pruned(feed_forward(), 2))]
    assert cells["dead units"][:2] == [str(whole.dead) for whole in analysed]
    live = [whole.density.live / whole.density.entries for whole in analysed]
    assert cells["effective density"][:2] == [f"{100 * share:.2f} %" for share in live]
    result = run("a.structure.json", "a.structure.json", "--format", "markdown")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 2)


def test_figures_are_in_json_and_text_too(files: Path) -> None:
    result = run("a.structure.json", "b.structure.json", "--json")
    assert result.stdout == run("a.structure.json", "b.structure.json", "--format", "json").stdout
    found = json.loads(result.stdout)
    assert found["layers"][0]["density_before"] == 10 / 35
    assert found["before"]["weights_bytes"] == Path("a.safetensors").stat().st_size
    assert found["after"]["weights_bytes"] is None
    assert 0 < found["after"]["effective_density"] <= found["after"]["density"] < found["before"]["density"]
    text = run("a.structure.json", "b.structure.json").stdout
    assert re.search(r"^density: 26\.79 % -> 21\.43 %$", text, re.MULTILINE)
    assert re.search(r"^effective density: .* % -> .* %$", text, re.MULTILINE)
    assert run("a.structure.json", "a.structure.json").stdout == "equal\n"


def test_contradicting_options_are_refused(files: Path) -> None:
    with pytest.raises(UsageError, match="contradict"):
        run("a.structure.json", "b.structure.json", "--json", "--format", "markdown")


def test_without_scipy_the_rest_is_compared(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise MissingDependencyError("scipy", "graph", "the analysis")

    monkeypatch.setattr(deepstruct.analysis, "analyse", missing)
    text = run("a.structure.json", "b.structure.json", "--format", "markdown").stdout
    assert "Effective density is not known:" in text
    assert "the analysis needs the package" in html.unescape(text)
    assert "| density | 26.79 % | 21.43 % | -5.36 points |" in text
    assert "effective density is not known" in run("a.structure.json", "b.structure.json").stdout
    assert (
        json.loads(run("a.structure.json", "b.structure.json", "--json").stdout)["after"]["effective_density"] is None
    )


def test_operators_that_are_not_known_are_a_note(tmp_path: Path) -> None:
    structure = Structure(
        nodes=(Node("top", "TopK", ("x", "k"), ("y", "i")),),
        inputs=(ValueInfo("x", "float32", (3, 4)), ValueInfo("k", "int64", (1,))),
        outputs=(ValueInfo("y", "float32", None),),
    )
    deepstruct.save(Model(structure), tmp_path / "a.structure.json")
    found = side("a", structure, tmp_path / "a.structure.json")
    assert found.effective_density is None
    assert "TopK" in found.note


@pytest.mark.parametrize("uri", ["../a.safetensors", "missing.safetensors", "/etc/passwd", "sub/link"])
def test_weights_that_are_not_beside_the_document_have_no_size(files: Path, uri: str) -> None:
    Path("sub").mkdir()
    Path("sub/link").symlink_to(sys.executable)
    value = json.loads(Path("a.structure.json").read_text())
    value["weights"]["uri"] = uri
    Path("a.structure.json").write_text(json.dumps(value))
    assert side("a", feed_forward(), Path("a.structure.json")).weights_bytes is None


def test_no_part_of_a_comment_can_end_its_comment_in_html() -> None:
    assert comparison_markdown.MARKER.count("-->") == 1
