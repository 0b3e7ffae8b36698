"""Structure -> UnitGraph: what depends on what, against derivatives; channels, names, merging, errors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import deepstruct
from deepstruct import Model, Node, Parameter, Structure, ValueInfo, graph_data
from deepstruct.analysis import analyse
from deepstruct.errors import MissingDependencyError, UnsupportedError, UsageError
from deepstruct.expansion import unit_graph
from deepstruct.frozen import FrozenMapping
from deepstruct.sparse import MaskedDeepDAN, MaskedDeepFFN, maskable_layers
from deepstruct.tensor import Tensor as Constant
from deepstruct.testing import random_mask, with_weights
from deepstruct.units import UnitGraph


class Net(nn.Module):
    """A module whose forward is a function of its parts."""

    def __init__(self, compute: Callable[[Any, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self._compute = compute
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self._compute(self, x)


def smooth(*parts: nn.Module) -> nn.Sequential:
    """Parts with a tanh between them, whose derivative is nowhere 0."""
    joined: list[nn.Module] = []
    for part in parts:
        joined += [part, nn.Tanh()]
    return nn.Sequential(*joined[:-1])


def attention(net: Any, x: Tensor) -> Tensor:
    scores: Tensor = net.q(x) @ net.k(x).transpose(1, 2)
    mixed: Tensor = scores @ net.v(x)
    return mixed


def squeeze_excitation(net: Any, x: Tensor) -> Tensor:
    channels: Tensor = net.c(x)
    return channels * torch.sigmoid(net.f(channels.mean((2, 3))))[:, :, None, None]


def dense(net: Any, x: Tensor) -> Tensor:
    out: Tensor = net.c(torch.cat([x, torch.tanh(net.a(x)), torch.tanh(net.b(x))], dim=1))
    return out


L, C1, C2 = nn.Linear, nn.Conv1d, nn.Conv2d
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "multilayer": (lambda: smooth(L(6, 5), L(5, 4), L(4, 3)), (1, 6)),
    "convolution": (
        lambda: smooth(C2(2, 3, 3, padding=1), C2(3, 4, 2, stride=2, padding=1, dilation=2), nn.Flatten(), L(36, 3)),
        (1, 2, 6, 5),
    ),
    "grouped": (lambda: smooth(C2(4, 6, (3, 2), groups=2), C2(6, 3, 1)), (1, 4, 4, 5)),
    "depthwise": (lambda: smooth(C1(3, 6, 3, groups=3, padding=1), C1(6, 2, 1)), (1, 3, 5)),
    "causal": (lambda: smooth(C1(2, 3, 3, padding="same"), C1(3, 2, 5, padding=4, dilation=2)), (1, 2, 7)),
    "three dimensions": (
        lambda: smooth(nn.Conv3d(2, 3, 2), nn.AdaptiveAvgPool3d(1), nn.Flatten(), L(3, 2)),
        (1, 2, 3, 3, 3),
    ),
    "transposed": (lambda: smooth(nn.ConvTranspose2d(3, 2, (2, 3), stride=(1, 2), padding=(0, 1))), (1, 3, 3, 2)),
    "transposed, dilated": (
        lambda: smooth(nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2)),
        (1, 4, 2, 3),
    ),
    "pooling": (lambda: smooth(C2(2, 3, 2), nn.AvgPool2d(2, stride=1, ceil_mode=True), C2(3, 2, 2)), (1, 2, 5, 4)),
    "residual": (lambda: Net(lambda n, x: x + n.b(torch.tanh(n.a(x))), a=L(5, 4), b=L(4, 5)), (1, 5)),
    "short residual": (lambda: Net(lambda n, x: x + torch.tanh(n.a(x)), a=L(5, 5)), (1, 5)),
    "projected residual": (
        lambda: Net(lambda n, x: n.c(x) - n.b(torch.tanh(n.a(x))), a=L(5, 4), b=L(4, 3), c=L(5, 3)),
        (1, 5),
    ),
    "gated": (lambda: Net(lambda n, x: n.c(torch.sigmoid(n.a(x)) * n.b(x)), a=L(5, 4), b=L(5, 4), c=L(4, 3)), (1, 5)),
    "swish": (lambda: nn.Sequential(L(5, 4), nn.SiLU(), L(4, 3)), (1, 5)),
    "dense": (lambda: Net(dense, a=L(5, 4), b=L(5, 2), c=L(11, 3)), (1, 5)),
    "tokens": (lambda: Net(lambda n, x: n.b(torch.tanh(n.a(x)).transpose(1, 2)), a=L(3, 4), b=L(6, 2)), (1, 6, 3)),
    "channels last": (
        lambda: Net(lambda n, x: n.b(torch.tanh(n.c(x)).permute(0, 2, 3, 1)), c=C2(2, 3, 2), b=L(3, 2)),
        (1, 2, 3, 4),
    ),
    "attention": (lambda: Net(attention, q=L(3, 4), k=L(3, 4), v=L(3, 2)), (1, 4, 3)),
    "halves": (lambda: Net(lambda n, x: n.a(x[:, 1:4]) + n.b(x.chunk(2, 1)[1]), a=L(3, 4), b=L(3, 4)), (1, 6)),
    "pixel shuffle": (lambda: smooth(C2(2, 8, 1), nn.PixelShuffle(2), C2(2, 1, 2)), (1, 2, 2, 3)),
    "upsampled": (lambda: smooth(C2(2, 2, 1), nn.Upsample(scale_factor=2), C2(2, 1, 2)), (1, 2, 2, 3)),
    "padded": (
        lambda: smooth(nn.ZeroPad2d((1, 0, 2, 0)), C2(2, 2, 2), nn.ReflectionPad2d(1), C2(2, 1, 3)),
        (1, 2, 3, 3),
    ),
    "squeeze and excitation": (lambda: Net(squeeze_excitation, c=C2(2, 3, 2), f=L(3, 3)), (1, 2, 3, 3)),
    "weight from the left": (lambda: Net(lambda n, x: n.w.weight @ x, w=L(3, 4, bias=False)), (1, 3, 2)),
    "einsum": (lambda: Net(lambda n, x: torch.einsum("bi,ji->bj", x, n.w.weight), w=L(3, 4, bias=False)), (1, 3)),
    "einsum of batches": (
        lambda: Net(lambda n, x: torch.einsum("bhsd,dhe->bshe", x, n.w.weight), w=C1(2, 4, 3, bias=False)),
        (1, 2, 5, 4),
    ),
    "einsum of units": (
        lambda: Net(lambda n, x: torch.einsum("bsd,btd->bst", n.q(x), n.k(x)), q=L(3, 4), k=L(3, 4)),
        (1, 5, 3),
    ),
    "weight norm": (lambda: smooth(parametrizations.weight_norm(L(4, 3)), L(3, 2)), (1, 4)),
    "twice the same": (lambda: Net(lambda n, x: n.a(torch.cat([x, x], dim=1)), a=L(6, 4)), (1, 3)),
    "same layer twice": (lambda: Net(lambda n, x: n.a(torch.tanh(n.a(x))), a=L(4, 4)), (1, 4)),
}


def pruned(net: nn.Module, density: float = 0.5) -> nn.Module:
    """The network with random masks on all matrices that can have one."""
    for part in net.modules():
        weight = getattr(part, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.dim() > 1 and "weight" in part._parameters:
            mask = torch.rand(weight.shape) < density
            mask.view(-1)[::5] = True  # something is left of the smallest ones
            prune.custom_from_mask(part, "weight", mask.to(weight.dtype))  # type: ignore[no-untyped-call]  # torch has no type for it
    return net.eval()


def reachable(graph: UnitGraph) -> NDArray[np.bool_]:
    """Bool (units, units): whether a path leads from the second to the first."""
    into = graph.adjacency().toarray().T
    reached = np.eye(graph.units, dtype=np.bool_)
    for unit in range(graph.units):
        reached[unit] |= reached[into[unit]].any(axis=0)
    return reached


def dependence(graph: UnitGraph) -> NDArray[np.bool_]:
    """Bool (output elements, input elements): whether an output depends on an input."""
    first = graph.layers[graph.inputs[0]]
    ends = reachable(graph)[graph.output_units, first.start : first.stop]
    found: NDArray[np.bool_] = ends & (graph.output_units >= 0)[:, None]
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_depend_on_the_inputs_that_have_a_derivative(name: str) -> None:
    torch.manual_seed(4)
    make, shape = NETWORKS[name]
    net = pruned(make().double())
    example = torch.randn(shape, dtype=torch.float64)
    model = deepstruct.from_module(net, (example,), losses=[])
    jacobian: Any = torch.autograd.functional.jacobian(lambda x: net(x).reshape(-1), example)  # type: ignore[no-untyped-call]  # torch has no type for it
    expected = jacobian.reshape(-1, example.numel()).numpy() != 0
    graph = unit_graph(model)
    np.testing.assert_array_equal(dependence(graph), expected)
    assert expected.sum() > 0, "nothing is tested"


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_are_connected_where_a_unit_of_theirs_is(name: str) -> None:
    torch.manual_seed(1)
    make, shape = NETWORKS[name]
    model = deepstruct.from_module(pruned(make()), (torch.randn(shape),), losses=[])
    units, channels = unit_graph(model), unit_graph(model, order=1)
    by_name = {layer.name: layer for layer in units.layers}
    assert {layer.name for layer in channels.layers} <= by_name.keys()
    for layer in channels.layers:
        assert layer.size <= by_name[layer.name].size
    for graph in (units, channels):
        for block in graph.blocks:
            rows = block.rows()
            assert rows.indptr.size == graph.layers[block.layer].size + 1
            assert rows.indptr[-1] == rows.sources.size
            owners = np.unique(graph.layer_of[rows.sources])
            assert set(owners.tolist()) <= set(block.layers)
            assert block.recurrent or all(source < block.layer for source in block.layers)
            if block.shares is not None:
                assert ((block.shares() > 0) & (block.shares() <= 1)).all()
                assert block.shares().size == rows.sources.size


@pytest.mark.parametrize("name", NETWORKS)
def test_every_entry_that_is_connected_exists(name: str) -> None:
    torch.manual_seed(2)
    make, shape = NETWORKS[name]
    structure = deepstruct.from_module(pruned(make()), (torch.randn(shape),), losses=[]).structure
    graph = unit_graph(structure)
    for block in graph.blocks:
        if block.parameter and block.entries is not None:
            entries = block.entries()
            assert entries.size == block.rows().sources.size
            mask = structure.parameter(block.parameter).mask
            if entries.size and mask is not None:
                assert mask.flat()[entries].all()


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_recurrent_layers_have_a_unit_for_each_gate_and_state(kind: Any) -> None:
    gates = {nn.RNN: 1, nn.GRU: 3, nn.LSTM: 4}[kind]
    rnn = kind(3, 5, batch_first=True)
    model = deepstruct.from_module(Net(lambda n, x: n.r(x)[0], r=rnn), (torch.randn(2, 4, 3),), losses=[])
    if kind is nn.RNN:  # torch unrolls it
        assert not unit_graph(model).is_recurrent
        return
    graph = unit_graph(model)
    assert graph.is_recurrent
    sizes = {layer.op_type: layer.size for layer in graph.layers if not layer.name.endswith(".gates")}
    assert sizes[kind.__name__] == 5
    recurrent = [block for block in graph.blocks if block.recurrent]
    assert sum(block.rows().sources.size for block in recurrent) == gates * 25


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_recurrent_operator_without_gates_is_its_own_source(bidirectional: bool) -> None:
    ways = 2 if bidirectional else 1
    weight = Parameter("w", "float32", (ways, 4, 3), random_mask((ways, 4, 3), 0.5))
    again = Parameter("r", "float32", (ways, 4, 4), random_mask((ways, 4, 4), 0.5, seed=1))
    attributes: FrozenMapping[Any] = FrozenMapping(
        {"hidden_size": 4, **({"direction": "bidirectional"} if bidirectional else {})}
    )
    node = Node("rnn", "RNN", ("x", "w", "r"), ("y", "last"), attributes)
    structure = Structure(
        nodes=(node,),
        inputs=(ValueInfo("x", "float32", ("steps", "batch", 3)),),
        outputs=(ValueInfo("last", "float32", (ways, "batch", 4)),),
        parameters=(weight, again),
    )
    graph = unit_graph(structure)
    assert [layer.size for layer in graph.layers] == [3, 4 * ways]
    nnz = {name: sum(b.rows().sources.size for b in graph.blocks if b.parameter == name) for name in ("w", "r")}
    assert nnz == {"w": weight.nnz, "r": again.nnz}
    found = np.concatenate([b.entries() for b in graph.blocks if b.parameter == "r" and b.entries])
    assert again.mask is not None
    np.testing.assert_array_equal(np.sort(found), again.mask.indices())
    assert graph.is_recurrent
    assert len(graph.without({0}).blocks) == ways


@pytest.mark.parametrize("sum_before_activation", [False, True])
@pytest.mark.parametrize("use_layer_norm", [False, True])
def test_networks_of_the_library_answer_as_their_structures_do(
    sum_before_activation: bool, use_layer_norm: bool
) -> None:
    import networkx as nx

    graph = nx.DiGraph((u, v) for u, v in nx.gnp_random_graph(40, 0.1, seed=3, directed=True).edges if u < v)
    dan = MaskedDeepDAN(6, 3, graph, use_layer_norm, sum_before_activation)
    units = unit_graph(deepstruct.from_module(dan, losses=[]).structure)
    assert (units.adjacency() != dan.adjacency(True, True)).nnz == 0
    inner = units.without({*units.inputs, *units.outputs})
    assert (inner.adjacency() != dan.adjacency()).nnz == 0
    assert len(units.layers) == len(dan.wiring.sizes) + 2


def test_feed_forward_networks_answer_as_their_structures_do() -> None:
    ffn = MaskedDeepFFN(6, 3, [5, 4])
    for layer in maskable_layers(ffn):
        layer.mask = torch.rand(layer.mask.shape) < 0.5
    units = unit_graph(deepstruct.from_module(ffn, losses=[]))
    assert (units.adjacency() != ffn.adjacency(True, True)).nnz == 0
    assert [layer.name for layer in units.layers] == ["x", "_layer_first", "_layers_hidden.0", "_layer_out"]


def gemm(shape: tuple[int, int], **more: Any) -> Structure:
    return Structure(
        nodes=(Node("fc", "Gemm", ("x", "w"), ("y",), FrozenMapping({"transB": 1})),),
        inputs=(ValueInfo("x", "float32", more.get("input", ("batch", shape[1]))),),
        outputs=(ValueInfo("y", "float32", ("batch", shape[0])),),
        parameters=(Parameter("w", "float32", shape, more.get("mask")),),
    )


@pytest.mark.parametrize("density", [0.0, 0.5, 1.0])
def test_entries_are_those_of_the_mask(density: float) -> None:
    mask = random_mask((4, 7), density)
    graph = unit_graph(gemm((4, 7), mask=mask))
    (block,) = graph.blocks
    assert block.entries is not None
    np.testing.assert_array_equal(block.entries(), mask.indices())
    np.testing.assert_array_equal(block.rows().sources, mask.indices() % 7)


def of_domain(op_type: str, domain: str = "acme") -> Structure:
    return Structure(
        nodes=(Node("odd", op_type, ("x",), ("h",), domain=domain), Node("fc", "MatMul", ("h", "w"), ("y",))),
        inputs=(ValueInfo("x", "float32", ("batch", 5)),),
        outputs=(ValueInfo("h", "float32", ("batch", 4)), ValueInfo("y", "float32", ("batch", 3))),
        parameters=(Parameter("w", "float32", (4, 3)),),
        opset=FrozenMapping({"": 20, "acme": 1}),
    )


def test_an_unknown_operator_is_named_or_counts_as_a_full_connection() -> None:
    with pytest.raises(UnsupportedError, match=r"'odd'.*acme::Frobnicate.*unknown='full'"):
        unit_graph(of_domain("Frobnicate"))
    graph = unit_graph(of_domain("Frobnicate"), unknown="full")
    assert [layer.size for layer in graph.layers] == [5, 4, 3]
    assert graph.blocks[0].rows().sources.size == 20


def test_extents_that_are_open_are_named() -> None:
    structure = gemm((4, 7), input=("batch", "features"))
    with pytest.raises(UnsupportedError, match=r"'fc'.*1 units.*7.*--input-shape"):
        unit_graph(structure)
    assert unit_graph(structure, shapes={"x": (1, 7)}).units == 11
    assert unit_graph(structure, shapes={"x": (3, 7)}).units == 33
    assert unit_graph(structure, 1, shapes={"x": (3, 7)}).units == 11


@pytest.mark.parametrize(
    "shapes",
    [
        {"x": (1,)},
        {"x": (1, 8)},
        {"x": (0, 7)},
        {"x": (1, 2**40)},
        {"x": ("a", 7)},
        {"nothing": (1, 7)},
        {"x": (True, 7)},
    ],
)
def test_extents_that_do_not_fit_are_refused(shapes: Any) -> None:
    with pytest.raises(UsageError, match="input"):
        unit_graph(gemm((4, 7)), shapes=shapes)


@pytest.mark.parametrize("options", [{"order": 2}, {"order": True}, {"order": "0"}, {"unknown": "maybe"}])
def test_options_that_make_no_sense_are_refused(options: Any) -> None:
    with pytest.raises(UsageError):
        unit_graph(gemm((4, 7)), **options)


def test_huge_extents_take_no_memory() -> None:
    structure = gemm((4, 7), input=("batch", 7))
    with pytest.raises(UnsupportedError, match="units; order 1"):
        unit_graph(structure, shapes={"x": (2**30, 7)})


def test_moving_values_needs_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    model = deepstruct.from_module(NETWORKS["halves"][0](), (torch.randn(1, 6),), losses=[])
    monkeypatch.delitem(sys.modules, "onnx.reference", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r"deepstruct\[graph\]"):
        unit_graph(model)
    assert unit_graph(gemm((4, 7))).units == 11


def test_layers_that_are_left_out_take_their_connections_along() -> None:
    model = with_weights(gemm((4, 7)))
    assert isinstance(model, Model)
    graph = unit_graph(model)
    inner = graph.without({0})
    assert inner.units == 4
    assert inner.adjacency().nnz == 0
    assert inner.inputs == inner.outputs == (0,)
    np.testing.assert_array_equal(inner.output_units, np.arange(4))
    np.testing.assert_array_equal(graph.without({1}).output_units, np.arange(7))


def test_what_is_left_of_a_network_begins_and_ends_where_it_was_cut() -> None:
    units = unit_graph(deepstruct.from_module(MaskedDeepFFN(6, 3, [5, 4]), losses=[]))
    inner = units.without({*units.inputs, *units.outputs})
    assert (inner.inputs, inner.outputs) == ((0,), (1,))
    assert analyse(inner).whole.live == inner.units == 9


def test_more_connections_than_memory_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    structure = Structure(
        nodes=(Node("conv", "Conv", ("x", "w"), ("y",)),),
        inputs=(ValueInfo("x", "float32", ("batch", 8, "height", "width")),),
        outputs=(ValueInfo("y", "float32", ("batch", 8, "height", "width")),),
        parameters=(Parameter("w", "float32", (8, 8, 5, 5)),),
    )
    shapes = {"x": (1, 8, 700, 700)}
    with pytest.raises(UnsupportedError, match=r"'conv'.*connections; order 1"):
        unit_graph(structure, shapes=shapes)
    assert unit_graph(structure, 1, shapes=shapes).units == 16
    monkeypatch.setattr(graph_data, "MOST_EDGES", 1000)
    with pytest.raises(UnsupportedError, match="connections, more than the 1,000"):
        deepstruct.to_networkx(structure, 0, shapes={"x": (1, 8, 9, 7)}, include_input=True, include_output=True)


def one_node(
    op_type: str, shape: tuple[int, ...], out: tuple[int, ...] | None, opset: int = 20, **more: Any
) -> Structure:
    """A network of one operator on input ``x`` and, as said, other inputs, parameters and constants."""
    names = more.get("names", ("x",))
    others = more.get("others", {})
    return Structure(
        nodes=(Node("n", op_type, names, ("y",), FrozenMapping(more.get("attributes", {}))),),
        inputs=tuple(ValueInfo(name, "float32", extents) for name, extents in {"x": shape, **others}.items()),
        outputs=(ValueInfo("y", "float32", out),),
        parameters=tuple(Parameter(name, "float32", extents) for name, extents in more.get("parameters", {}).items()),
        constants={name: Constant.from_array(np.array(value)) for name, value in more.get("constants", {}).items()},
        opset=FrozenMapping({"": opset}),
    )


@pytest.mark.parametrize(
    ("structure", "expected"),
    [
        (one_node("Unsqueeze", (2, 3), None, 11, attributes={"axes": (0,)}), [0, 1, 2, 3, 4, 5]),
        (one_node("Pad", (3,), None, 7, attributes={"pads": (1, 0), "value": 3.0}), [-1, 0, 1, 2]),
        (one_node("Pad", (4,), None, 18, names=("x", "p"), constants={"p": [-1, 1]}), [1, 2, 3, -1]),
        (one_node("Upsample", (1, 2), None, 7, attributes={"scales": (1.0, 2.0)}), [0, 0, 1, 1]),
        (
            one_node("Resize", (1, 4), None, 10, names=("x", "s"), constants={"s": np.array([1, 0.5], np.float32)}),
            [0, 2],
        ),
        (one_node("Slice", (4,), None, 9, attributes={"starts": (1,), "ends": (3,)}), [1, 2]),
    ],
    ids=["unsqueeze-11", "pad-7", "pad-negative", "upsample-7", "resize-10", "slice-9"],
)
def test_values_are_moved_as_every_opset_says(structure: Structure, expected: list[int]) -> None:
    np.testing.assert_array_equal(unit_graph(structure).output_units, expected)


@pytest.mark.parametrize(
    "structure",
    [
        one_node("Gemm", (1, 3), (1, 2), names=("x", "w", "c"), parameters={"w": (3, 2)}, others={"c": (1, 2)}),
        one_node("Clip", (2, 3), (2, 3), names=("x", "low"), others={"low": ()}),
        one_node(
            "ScatterElements",
            (3,),
            (3,),
            names=("x", "i", "u"),
            attributes={"reduction": "add"},
            constants={"i": [0, 0]},
            others={"u": (2,)},
        ),
    ],
    ids=["bias", "limit", "reduction"],
)
def test_what_would_miss_a_dependence_is_unknown(structure: Structure) -> None:
    with pytest.raises(UnsupportedError, match=r"'n'.*unknown='full'"):
        unit_graph(structure)
    graph = unit_graph(structure, unknown="full")
    assert dependence(graph).all()


@pytest.mark.parametrize(
    ("names", "x", "w", "out"),
    [
        (("x", "w"), (4,), (3, 4, 2), (3, 2)),
        (("w", "x"), (4,), (3, 2, 4), (3, 2)),
        (("w", "x"), (3, 4, 5), (3, 2, 4), (3, 2, 5)),
        (("w", "x"), (4, 5), (2, 4), (2, 5)),
        (("x", "w"), (2, 0), (0, 2), (2, 2)),
    ],
)
def test_products_depend_on_what_numpy_multiplies(names: Any, x: Any, w: Any, out: Any) -> None:
    graph = unit_graph(one_node("MatMul", x, out, names=names, parameters={"w": w}))
    expected = []
    for position in range(int(np.prod(x))):
        value = np.zeros(x)
        value.reshape(-1)[position] = 1
        arrays = {"x": value, "w": np.ones(w)}
        expected.append((arrays[names[0]] @ arrays[names[1]]).reshape(-1) != 0)
    np.testing.assert_array_equal(dependence(graph), np.reshape(expected, (-1, int(np.prod(out)))).T)
    assert unit_graph(one_node("MatMul", x, out, names=names, parameters={"w": w}), 1).output_units.size == np.prod(out)


def test_outputs_that_depend_on_nothing_are_no_units() -> None:
    structure = Structure(
        nodes=(Node("n", "Relu", ("x",), ("y",)),),
        inputs=(ValueInfo("x", "float32", (2,)),),
        outputs=(ValueInfo("y", "float32", (2,)), ValueInfo("w", "float32", (3,))),
        parameters=(Parameter("w", "float32", (3,)),),
    )
    np.testing.assert_array_equal(unit_graph(structure).output_units, [0, 1, -1, -1, -1])
