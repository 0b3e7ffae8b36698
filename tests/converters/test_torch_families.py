"""Networks of every family, from the live object through every format and back, as objects of their own class."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import deepstruct
from deepstruct import Loss, Model, Structure
from deepstruct.errors import LossWarning, UnsupportedError
from deepstruct.graph import LabeledDAG
from deepstruct.recurrent import MaskedDeepRNN, MaskedGRULayer, MaskedLSTMLayer, MaskedRecurrentLayer
from deepstruct.sparse import DeepCellDAN, MaskedDeepDAN, MaskedDeepFFN, MaskedLinearLayer, maskable_layers

Network = tuple[nn.Module, Tensor]


def dag(vertices: int = 14, seed: int = 0) -> nx.DiGraph[Any]:
    """A random graph whose keys are tuples, in a shuffled order, with an isolated vertex."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(vertices)
    graph: nx.DiGraph[Any] = nx.DiGraph()
    graph.add_nodes_from(("v", int(vertex)) for vertex in order)
    for source in range(vertices - 1):
        for target in range(source + 1, vertices - 1):
            if rng.random() < 0.3:
                graph.add_edge(("v", source), ("v", target))
    return graph


class Cell(nn.Module):
    """A cell that halves the image in every second layer, so that outputs must be padded."""

    def __init__(self, is_input: bool, in_degree: int, input_channel_size: int, layer: int, **_: Any) -> None:
        super().__init__()
        channels = input_channel_size if is_input else in_degree
        self.convolution = nn.Conv2d(channels, 1, 3, stride=1 + layer % 2, padding=1)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, input: Tensor) -> Tensor:
        return torch.relu(self.norm(self.convolution(input)))


def masked(module: nn.Module) -> nn.Module:
    """The module with random masks, in evaluation mode, its statistics other than they begin."""
    generator = torch.Generator().manual_seed(5)
    for layer in maskable_layers(module):
        layer.mask = torch.rand(layer.weight.shape, generator=generator) > 0.4
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)  # type: ignore[arg-type]  # it has one
            part.num_batches_tracked.fill_(7)  # type: ignore[union-attr]  # as above
        if isinstance(part, (MaskedRecurrentLayer, MaskedGRULayer, MaskedLSTMLayer)):
            part.set_i2h_mask(torch.rand(part._weight_ih.shape, generator=generator) > 0.3)
            part.set_h2h_mask(torch.rand(part._weight_hh.shape, generator=generator) > 0.3)
    return module.eval()


def recurrent(kind: type[Any], **options: Any) -> Callable[[], Network]:
    return lambda: (MaskedDeepRNN(5, [4, 6], kind, **options), torch.randn(3, 7, 5))


NETWORKS: dict[str, Callable[[], Network]] = {
    "ffn": lambda: (MaskedDeepFFN(5, 3, [4, 6]), torch.randn(4, 5)),
    "ffn-norm": lambda: (MaskedDeepFFN(5, 3, [4, 6], use_layer_norm=True), torch.randn(4, 5)),
    "dan": lambda: (MaskedDeepDAN(5, 3, dag()), torch.randn(4, 5)),
    "dan-norm": lambda: (MaskedDeepDAN(5, 3, dag(), use_layer_norm=True), torch.randn(4, 5)),
    "dan-neurons": lambda: (MaskedDeepDAN(5, 3, dag(), sum_before_activation=True), torch.randn(4, 5)),
    "dan-neurons-norm": lambda: (MaskedDeepDAN(5, 3, dag(), True, True), torch.randn(4, 5)),
    "dan-single-layer": lambda: (MaskedDeepDAN(5, 3, nx.empty_graph(3, nx.DiGraph), True), torch.randn(4, 5)),
    "dan-unpacked": lambda: (MaskedDeepDAN(5, 3, dag(), packed=False), torch.randn(4, 5)),
    "cells": lambda: (DeepCellDAN(3, 2, Cell, dag(7)), torch.randn(4, 2, 20, 24)),
    "rnn": recurrent(MaskedRecurrentLayer),
    "rnn-relu": recurrent(MaskedRecurrentLayer, nonlinearity=nn.ReLU()),
    "rnn-function": recurrent(MaskedRecurrentLayer, nonlinearity=torch.sigmoid),
    "gru": recurrent(MaskedGRULayer),
    "gru-batch-first": recurrent(MaskedGRULayer, batch_first=True),
    "lstm": recurrent(MaskedLSTMLayer),
    "lstm-batch-first": recurrent(MaskedLSTMLayer, batch_first=True),
}
FILES = ("a.pt", "b.structure.json", "c.onnx", "d.pt")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def effective(module: nn.Module) -> dict[str, Tensor]:
    """The state_dict with 0 wherever a mask has no connection, without bookkeeping that no forward uses."""
    state = {key: value.clone() for key, value in module.state_dict().items()}
    masks = {"_mask": "weight", "_mask_i2h": "_weight_ih", "_mask_h2h": "_weight_hh"}
    for key, mask in module.state_dict().items():
        path, _, last = key.rpartition(".")
        if last in masks:
            weight = state[f"{path}.{masks[last]}"]
            weight[~mask.bool()] = 0
    return state


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_comes_back_as_itself_from_every_format(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    module, inputs = NETWORKS[name]()
    module, inputs = masked(module).to(dtype), inputs.to(dtype)
    deepstruct.save(module, tmp_path / FILES[0])
    for source, target in pairwise(FILES):
        deepstruct.convert(tmp_path / source, tmp_path / target, fail_on_loss=True)
    expected, state = module(inputs), effective(module)
    for file in FILES:
        back = deepstruct.to_module(deepstruct.load(tmp_path / file)).eval()
        assert type(back) is type(module), file
        if name == "cells" and dtype == torch.float64:  # ONNX holds the epsilon of batch norm as float32
            torch.testing.assert_close(back(inputs), expected)
        else:
            assert torch.equal(back(inputs), expected), file
        found = back.state_dict()
        assert list(found) == list(state), file
        assert all(torch.equal(found[key], state[key]) and found[key].dtype == state[key].dtype for key in state), file


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["dan", "cells", "gru"])
def test_half_precision_comes_back(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    module, _ = NETWORKS[name]()
    module = masked(module).to(dtype)
    deepstruct.save(module, tmp_path / "a.structure.json")
    back = deepstruct.to_module(deepstruct.load(tmp_path / "a.structure.json"))
    state = effective(module)
    assert type(back) is type(module)
    assert all(torch.equal(value, state[key]) for key, value in back.state_dict().items())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_structure_alone_makes_a_fresh_network(name: str) -> None:
    module, inputs = NETWORKS[name]()
    structure = deepstruct.from_module(masked(module), losses=[]).structure
    fresh = deepstruct.to_module(Model(structure)).eval()
    assert type(fresh) is type(module)
    assert fresh(inputs).shape == module(inputs).shape
    masks = {key: value for key, value in module.state_dict().items() if value.dtype == torch.bool}
    assert bool(masks) == (name != "cells")
    assert all(torch.equal(fresh.state_dict()[key], mask) for key, mask in masks.items())
    assert deepstruct.from_module(fresh, losses=[]).structure == structure


@pytest.mark.parametrize("name", NETWORKS)
def test_onnxruntime_computes_the_same(tmp_path: Path, name: str) -> None:
    module, inputs = NETWORKS[name]()
    deepstruct.save(masked(module), tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    axis = 0 if name not in ("rnn", "rnn-relu", "rnn-function", "gru", "lstm") else 1
    for batch in (inputs, inputs.narrow(axis, 0, 1), torch.cat([inputs, inputs], axis)):
        (found,) = session.run(None, {"x": batch.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(found, module(batch).numpy(), rtol=1e-4, atol=1e-5)


def test_vertex_keys_come_back(tmp_path: Path) -> None:
    graph: nx.DiGraph[Any] = nx.DiGraph([(2, "b"), ("b", 1.5), (2, ("c", (1, None))), (True, 1.5), ("b", "é")])
    module = MaskedDeepDAN(5, 3, graph)
    deepstruct.save(module, tmp_path / "a.structure.json")
    back = deepstruct.to_module(deepstruct.load(tmp_path / "a.structure.json"))
    assert isinstance(back, MaskedDeepDAN)
    assert [[repr(key) for key in layer] for layer in back.wiring.vertices] == [
        [repr(key) for key in layer] for layer in module.wiring.vertices
    ]
    rebuilt = back.generate_structure()
    keys = {vertex: data["vertex"] for vertex, data in rebuilt.nodes(data=True)}
    assert set(nx.relabel_nodes(rebuilt, keys).edges) == set(graph.edges)


def test_vertex_keys_without_a_json_form_are_a_loss() -> None:
    losses: list[Loss] = []
    module = MaskedDeepDAN(5, 3, nx.DiGraph([(frozenset("a"), "b")]))
    back = deepstruct.to_module(deepstruct.from_module(module, losses=losses))
    assert [loss.what for loss in losses] == ["vertex keys"]
    assert isinstance(back, MaskedDeepDAN)
    assert back.wiring.vertices == ((0,), (1,))


def test_layers_that_the_user_gave_come_back() -> None:
    graph = LabeledDAG()
    graph.add_vertices(2, layer=0)
    graph.add_vertices(3, layer=1)
    graph.add_vertices(1, layer=4)
    graph.add_edges_from([(0, 3), (1, 5)])
    module = masked(MaskedDeepDAN(5, 3, graph))
    back = deepstruct.to_module(deepstruct.from_module(module, losses=[])).eval()
    inputs = torch.randn(4, 5)
    assert isinstance(back, MaskedDeepDAN)
    assert torch.equal(back(inputs), module(inputs))


def test_order_of_predecessors_comes_back(tmp_path: Path) -> None:
    graph: nx.DiGraph[Any] = nx.DiGraph()
    graph.add_nodes_from("abcd")
    graph.add_edges_from([("c", "d"), ("a", "d"), ("b", "d")])
    module = masked(DeepCellDAN(3, 2, Cell, graph))
    deepstruct.save(module, tmp_path / "a.structure.json")
    back = deepstruct.to_module(deepstruct.load(tmp_path / "a.structure.json"))
    assert isinstance(back, DeepCellDAN)
    assert back.predecessors == module.predecessors == ((), (), (), (2, 0, 1))
    assert back.vertices == ("a", "b", "c", "d")


def test_cells_work_on_images_of_any_size_and_can_be_saved_again(tmp_path: Path) -> None:
    module, _ = NETWORKS["cells"]()
    deepstruct.save(masked(module), tmp_path / "a.structure.json")
    back = deepstruct.to_module(deepstruct.load(tmp_path / "a.structure.json")).eval()
    for size in ((1, 2, 9, 33), (3, 2, 40, 40)):
        inputs = torch.randn(size)
        assert torch.equal(back(inputs), module.eval()(inputs))
    deepstruct.save(back, tmp_path / "b.structure.json")
    first, second = (json.loads((tmp_path / f"{name}.structure.json").read_text()) for name in "ab")
    assert first["graph"] == second["graph"]


def test_masks_in_cells_are_masks() -> None:
    class Pruned(Cell):
        def __init__(self, **keywords: Any) -> None:
            super().__init__(**keywords)
            mask = torch.rand(self.convolution.weight.shape) > 0.5
            prune.custom_from_mask(self.convolution, "weight", mask)  # type: ignore[no-untyped-call]  # torch's

    module = DeepCellDAN(3, 2, Pruned, dag(5))
    structure = deepstruct.from_module(module, losses=[]).structure
    for number, cell in enumerate(module._nodes):
        mask = structure.parameter(f"_nodes.{number}.convolution.weight").mask
        assert mask is not None
        assert isinstance(cell, Pruned)
        assert np.array_equal(mask.to_array(), cell.convolution.get_buffer("weight_mask").numpy() != 0)
    back = deepstruct.to_module(deepstruct.from_module(module, losses=[])).eval()
    inputs = torch.randn(2, 2, 10, 12)
    assert torch.equal(back(inputs), module.eval()(inputs))


class Identity(nn.Module):
    """A cell that gives back what it takes, of which one channel is expected."""

    def __init__(self, **_: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


def test_a_cell_without_operators_comes_back() -> None:
    module = masked(DeepCellDAN(3, 1, Identity, nx.DiGraph([(0, 1)])))
    back = deepstruct.to_module(deepstruct.from_module(module, losses=[])).eval()
    inputs = torch.randn(2, 1, 5, 6)
    assert isinstance(back, DeepCellDAN)
    assert torch.equal(back(inputs), module(inputs))


@cache
def structure_of(name: str) -> Structure:
    module, _ = NETWORKS[name]()
    return deepstruct.from_module(masked(module), losses=[]).structure


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("dan", {"skips": ()}),
        ("dan", {"skips": ((5, 1),)}),
        ("dan", {"skips": "0 2"}),
        ("dan", {"skips": ((0, 2.0),)}),
        ("dan", {"vertices": (("a",),)}),
        ("dan-neurons", {"sum_before_activation": False}),
        ("dan", {"family": "cell-dan"}),
        ("dan", {"family": "rnn"}),
        ("dan", {"family": "ffn"}),
        ("dan", {"family": 3}),
        ("cells", {"predecessors": ()}),
        ("cells", {"predecessors": ((), (0,))}),
        ("cells", {"predecessors": ((0,),)}),
        ("cells", {"predecessors": "none"}),
        ("cells", {"vertices": ("a", "a")}),
        ("gru", {"family": "dan"}),
    ],
)
def test_a_family_is_believed_only_if_it_computes_the_same(name: str, attributes: dict[str, Any]) -> None:
    structure = structure_of(name)
    edited = replace(structure, attributes={**structure.attributes, **attributes})
    module = deepstruct.to_module(Model(edited))
    assert type(module).__name__ == "StructureModule"


def test_what_may_compute_something_else_is_refused() -> None:
    hooked = MaskedDeepDAN(5, 3, dag())
    hooked.layers_skip_hidden[0].register_forward_hook(lambda _module, _inputs, output: output + 1)
    with pytest.raises(UnsupportedError, match=r"'layers_skip_hidden\.0' has forward hooks"):
        deepstruct.from_module(hooked)
    other = MaskedDeepDAN(5, 3, dag())
    other.activation = nn.Tanh()
    with pytest.raises(UnsupportedError, match="'activation' is a Tanh"):
        deepstruct.from_module(other)
    strange = MaskedDeepRNN(5, [4], nonlinearity=torch.exp)
    with pytest.raises(UnsupportedError, match=r"'_recurrent_layers\.0' has the nonlinearity"):
        deepstruct.from_module(strange)
    shared = Identity()
    with pytest.raises(UnsupportedError, match="two vertices have the same cell"):
        deepstruct.from_module(DeepCellDAN(3, 1, lambda **_: shared, nx.DiGraph([(0, 1)])))


@pytest.mark.parametrize("name", ["dan", "cells", "gru"])
def test_a_bare_state_dict_says_what_to_do(tmp_path: Path, name: str) -> None:
    module, _ = NETWORKS[name]()
    torch.save(module.state_dict(), tmp_path / "a.pt")
    with pytest.raises(UnsupportedError, match=f"the names are those of {type(module).__name__}.*deepstruct.save"):
        deepstruct.load(tmp_path / "a.pt")


def test_numbers_under_many_masks_are_one_loss() -> None:
    module, _ = NETWORKS["dan"]()
    with pytest.warns(LossWarning, match=r"masked values of layer.*apply_mask"):
        deepstruct.from_module(masked(module))
    losses: list[Loss] = []
    deepstruct.from_module(masked(module), losses=losses)
    assert len(losses) == 1
    for layer in maskable_layers(module):
        layer.apply_mask()
    assert deepstruct.from_module(module, losses=losses)
    assert len(losses) == 1


def test_a_network_that_was_trained_on_keeps_its_masks(tmp_path: Path) -> None:
    module, inputs = NETWORKS["dan"]()
    masked(module)
    deepstruct.save(module, tmp_path / "a.pt")
    back = deepstruct.to_module(deepstruct.load(tmp_path / "a.pt"))
    optimiser = torch.optim.AdamW(back.parameters(), lr=0.1, weight_decay=0.1)
    masks = [layer.mask.clone() for layer in maskable_layers(back)]
    for _ in range(3):
        optimiser.zero_grad()
        back(inputs).square().sum().backward()
        optimiser.step()
    assert all(torch.equal(layer.mask, mask) for layer, mask in zip(maskable_layers(back), masks, strict=True))
    assert all(isinstance(layer, MaskedLinearLayer) for layer in maskable_layers(back))
    assert not torch.equal(back(inputs), module(inputs))
