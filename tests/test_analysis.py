"""The analysis as a whole: densities of parameters, dead units, degenerate networks, what it refuses, strict JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from numpy.typing import NDArray
from unit_graphs import chain, unit_graph, unit_graphs

import deepstruct
from deepstruct import Mask, Node, Parameter, Structure, ValueInfo, analysis, motifs
from deepstruct.analysis import COSTLY, DEFAULT, MEASURES, Analysis, analyse
from deepstruct.analysis_text import text
from deepstruct.cli import cli
from deepstruct.errors import MissingDependencyError, UnsupportedError, UsageError
from deepstruct.testing import SAMPLES, chains, feed_forward, masks, random_mask, with_weights
from deepstruct.units import UnitGraph


def strict(found: Analysis) -> Any:
    """What the analysis is in JSON, which must be strict."""
    return json.loads(json.dumps(found.to_json(), allow_nan=False))


@given(unit_graphs())
def test_every_graph_has_an_analysis(graph: UnitGraph) -> None:
    found = analyse(graph, measures="all")
    assert tuple(found.measures) == MEASURES
    assert not found.omitted
    assert strict(found) == strict(analyse(graph, measures="all"))
    assert text(found)
    whole = found.whole
    assert whole.units == graph.units
    assert whole.dead == whole.units - whole.live
    assert whole.live_connections <= whole.connections
    assert max(whole.unreached, whole.unused) <= whole.dead <= whole.unreached + whole.unused


@given(chains())
def test_densities_of_feed_forward_networks(structure: Structure) -> None:
    """Against following the masks layer by layer."""
    weights = [p for p in structure.parameters if p.name.endswith(".weight") and len(p.shape) == 2]
    kept = [np.ones(p.shape, bool) if p.mask is None else p.mask.to_array() for p in weights]
    norms = any(node.op_type == "LayerNormalization" for node in structure.nodes)
    if norms:
        return  # each unit of a normalisation depends on all of its inputs, which masks alone do not say
    found = analyse(structure, measures=())
    reached: list[NDArray[np.bool_]] = [np.ones(kept[0].shape[1], bool)]
    for mask in kept:
        reached.append(np.asarray((mask & reached[-1]).any(axis=1)))
    used: list[NDArray[np.bool_]] = [np.ones(kept[-1].shape[0], bool)]
    for mask in reversed(kept):
        used.insert(0, np.asarray((mask & used[0][:, None]).any(axis=0)))
    for number, (parameter, mask) in enumerate(zip(weights, kept, strict=True)):
        live = mask & reached[number] & used[number + 1][:, None]
        density = found.parameters[parameter.name]
        assert (density.entries, density.kept, density.live) == (mask.size, mask.sum(), live.sum())
    assert [layer.units for layer in found.layers] == [mask.size for mask in reached]
    assert [layer.live for layer in found.layers] == [
        int((one & other).sum()) for one, other in zip(reached, used, strict=True)
    ]
    assert found.whole.density.entries == sum(mask.size for mask in kept)


def convolutions() -> Structure:
    """Two convolutions with masked kernels, padding and a stride."""
    first = random_mask((5, 3, 3, 3), 0.06, seed=1)
    second = random_mask((4, 5, 3, 3), 0.06, seed=2)
    attributes = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}
    return Structure(
        nodes=(
            Node("conv0", "Conv", ("x", "w0"), ("h",), attributes),
            Node("relu", "Relu", ("h",), ("a",)),
            Node("conv1", "Conv", ("a", "w1"), ("y",), {**attributes, "strides": (2, 2)}),
        ),
        inputs=(ValueInfo("x", "float32", (1, 3, 8, 8)),),
        outputs=(ValueInfo("y", "float32", None),),
        parameters=(Parameter("w0", "float32", (5, 3, 3, 3), first), Parameter("w1", "float32", (4, 5, 3, 3), second)),
    )


def test_densities_of_convolutions() -> None:
    """A channel is live if there is a path through it; entries of a kernel are live or not together."""
    structure = convolutions()
    found = analyse(structure, order=1, measures=())
    first, second = (structure.parameter(name).mask.to_array() for name in ("w0", "w1"))  # type: ignore[union-attr]  # masked
    channels = first.any(axis=(1, 2, 3)) & second.any(axis=(0, 2, 3))
    assert 0 < channels.sum() < 5
    assert found.layers[1].live == channels.sum()
    live = int(first[channels].sum()), int(second[:, channels].sum())
    assert (found.parameters["w0"].live, found.parameters["w1"].live) == live
    assert found.parameters["w0"].entries == first.size
    assert found.order == 1


def test_densities_of_single_units_of_convolutions() -> None:
    """An entry is live if one of its connections is; there are more connections than entries."""
    found = analyse(convolutions(), measures=())
    assert found.whole.connections > found.whole.density.kept
    channels = analyse(convolutions(), order=1, measures=())
    for name, density in found.parameters.items():
        assert density.kept == channels.parameters[name].kept
        assert 0 < density.live <= channels.parameters[name].live


def test_a_shared_parameter_counts_once() -> None:
    mask = Mask.from_array(np.array([[True, False], [False, False]]))
    structure = Structure(
        nodes=(
            Node("one", "Gemm", ("x", "w"), ("h",), {"transB": 1}),
            Node("two", "Gemm", ("h", "w"), ("y",), {"transB": 1}),
        ),
        inputs=(ValueInfo("x", "float32", (1, 2)),),
        outputs=(ValueInfo("y", "float32", (1, 2)),),
        parameters=(Parameter("w", "float32", (2, 2), mask),),
    )
    found = analyse(structure)
    assert found.whole.connections == 2
    assert found.whole.density.to_json() == {
        "entries": 4,
        "kept_entries": 1,
        "live_entries": 1,
        "density": 0.25,
        "effective_density": 0.25,
    }


def test_pairs_of_units_where_nothing_is_known_of_parameters() -> None:
    found = analyse(chain([[1, 0, 0], [1, 1, 0]], [[0, 1]]))
    assert found.order is None
    density = found.layers[1].density
    assert density is not None
    assert (density.entries, density.kept, density.live) == (6, 3, 2)
    assert found.whole.density.density == 4 / 8
    assert found.whole.density.effective_density == 3 / 8
    assert (found.whole.unreached, found.whole.unused, found.whole.dead) == (0, 2, 2)
    assert (found.whole.dead_inputs, found.whole.dead_outputs) == (1, 0)


def test_collapsed_and_constant_layers() -> None:
    """A layer all of whose units are dead has collapsed; one that nothing leads into is constant."""
    graph = unit_graph([2, 2, 2, 1], [(0, 2), (1, 3), (4, 6), (5, 6)])
    found = analyse(graph)
    assert [layer.name for layer in found.layers if layer.constant] == ["layer2"]
    assert found.whole.collapsed == ("layer0", "layer1", "layer3")
    assert "constant layers: layer2" in text(found)


def test_recurrent_connections_keep_units_alive() -> None:
    """A unit that only the step before feeds is reached, and one that only the next step uses is used."""
    edges, back = [(0, 2), (1, 5)], [(2, 3), (3, 4), (4, 5)]
    found = analyse(unit_graph([2, 3, 1], edges, recurrent=back), measures="all")
    assert found.whole.dead == 0
    assert found.whole.recurrent == 3
    assert found.whole.live_connections == 5
    assert found.measures["paths"].count == 1
    assert "recurrent connections: 3" in text(found)
    without = analyse(unit_graph([2, 3, 1], edges))
    assert without.whole.dead == 4
    assert without.layers[1].collapsed


@pytest.mark.parametrize(
    "graph",
    [
        unit_graph([], []),
        unit_graph([0], []),
        unit_graph([1], []),
        unit_graph([3, 2], []),
        unit_graph([1, 1], [(0, 1)]),
        unit_graph([0, 2, 0], []),
        unit_graph([2, 2], [], outputs=()),
        unit_graph([2, 2], [(0, 2)], inputs=()),
    ],
    ids=["no-layers", "no-units", "one-unit", "no-connections", "one-connection", "empty", "no-outputs", "no-inputs"],
)
def test_degenerate_networks(graph: UnitGraph) -> None:
    found = analyse(graph, measures="all")
    assert not found.omitted
    assert strict(found)["whole"]["units"] == graph.units
    assert text(found)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("name", SAMPLES)
def test_samples(name: str, order: Any) -> None:
    found = analyse(SAMPLES[name], order=order, measures=MEASURES)
    for parameter, density in found.parameters.items():
        assert density.kept == SAMPLES[name].parameter(parameter).nnz
        assert density.live <= density.kept
    assert strict(found)["order"] == order
    assert strict(analyse(with_weights(SAMPLES[name]), order=order, measures="all")) == strict(found)


@given(masks((6, 5)))
def test_connections_of_one_layer_are_the_entries(mask: Mask) -> None:
    weight = Parameter("w", "float32", (6, 5), mask)
    structure = Structure(
        nodes=(Node("fc", "Gemm", ("x", "w"), ("y",), {"transB": 1}),),
        inputs=(ValueInfo("x", "float32", (1, 5)),),
        outputs=(ValueInfo("y", "float32", (1, 6)),),
        parameters=(weight,),
    )
    found = analyse(structure)
    assert found.whole.connections == found.whole.live_connections == mask.nnz
    assert found.measures["paths"].count == mask.nnz
    assert found.whole.dead_outputs == int((~mask.to_array().any(axis=1)).sum())


def test_measures_are_chosen_by_name() -> None:
    graph = chain([[1, 1]])
    assert tuple(analyse(graph).measures) == DEFAULT
    assert tuple(analyse(graph, measures=()).measures) == ()
    assert tuple(analyse(graph, measures="paths").measures) == ("paths",)
    assert tuple(analyse(graph, measures=["cores", "default"]).measures) == (*DEFAULT, "cores")
    assert set(MEASURES) == {*DEFAULT, *COSTLY}
    with pytest.raises(UsageError, match=r"unknown measure 'path' .*; did you mean 'paths'"):
        analyse(graph, measures="path")


def test_what_takes_too_long_is_omitted_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motifs, "MAX_WEDGES", 0)
    found = analyse(chain(np.ones((3, 3))), measures="all")
    assert set(found.omitted) == {"butterflies", "small-world"}
    assert "butterflies is missing: " in text(found)
    assert "meet in a unit" in strict(found)["omitted"]["butterflies"]


def test_scipy_is_named_if_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "deepstruct.layer_matrices", raising=False)
    monkeypatch.delattr(deepstruct, "layer_matrices", raising=False)
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(MissingDependencyError, match=r"deepstruct\[graph\]"):
        analyse(chain([[1]]))


def test_operators_whose_units_are_unknown() -> None:
    structure = Structure(
        nodes=(Node("odd", "Odd", ("x",), ("y",), domain="somewhere"),),
        inputs=(ValueInfo("x", "float32", (1, 3)),),
        outputs=(ValueInfo("y", "float32", (1, 2)),),
        opset={"": 20, "somewhere": 1},
    )
    with pytest.raises(UnsupportedError, match="--unknown full"):
        analyse(structure)


def command(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["analyze", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_the_command_prints_the_analysis(tmp_path: Path) -> None:
    path = tmp_path / "a.structure.json"
    structure = feed_forward((5, 7, 3), 0.5)
    deepstruct.save(with_weights(structure), path)
    assert command(str(path), "--measures", "all") == text(analyse(structure, measures="all")) + "\n"
    printed: Mapping[str, Any] = json.loads(command(str(path), "--order", "1", "--json", "--input-shape", "x=1,5"))
    assert printed == strict(analyse(structure, order=1))
    result = CliRunner().invoke(cli, ["analyze", str(path), "--input-shape", "x=1,b"])
    assert isinstance(result.exception, UsageError)


def test_help_names_every_measure() -> None:
    shown = " ".join(CliRunner().invoke(cli, ["analyze", "--help"]).output.split())
    for name in analysis.MEASURES:
        assert f" {name}" in shown


def test_documents_are_analysed_without_frameworks(tmp_path: Path) -> None:
    path = tmp_path / "a.structure.json"
    deepstruct.save(with_weights(feed_forward()), path)
    code = (
        f"import sys\nsys.argv = ['deepstruct', 'analyze', {str(path)!r}]\nfrom deepstruct.__main__ import main\n"
        "try:\n    main()\nfinally:\n    print(sorted({'torch', 'onnx', 'networkx'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_the_documentation_describes_every_measure(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "analysis.md").read_text(encoding="utf-8")
    for name in MEASURES:
        assert f"\n## {name}\n" in page
        assert f"| `{name}` | {'by default' if name in DEFAULT else 'if named'} |" in page
    example = page.split("```python\n")[1].split("```")[0]
    result = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True, cwd=tmp_path)
    said = [line.partition("# ")[2] for line in example.splitlines() if line.startswith("print")]
    assert result.stdout.splitlines() == said
