"""StructureModule: dtypes, devices, copies, gradients and first numbers of modules of any operators, and refusals."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepstruct import Model, Node, Parameter, Structure, Tensor, ValueInfo, operators
from deepstruct.converters.torch import from_object, to_module
from deepstruct.converters.torch_operators_table import NOT_COMPUTED, OPERATORS
from deepstruct.errors import UnsupportedError

ROOT = Path(__file__).parents[2]


def constant(*values: float | int, shape: tuple[int, ...] | None = None) -> Tensor:
    dtype = "float32" if isinstance(values[0], float) else "int64"
    return Tensor(dtype, (len(values),) if shape is None else shape, values)


def structure(
    nodes: list[Node], inputs: tuple[ValueInfo, ...] = (ValueInfo("x", "float32", None),), **more: Any
) -> Structure:
    outputs = tuple(ValueInfo(name, "float32", None) for name in nodes[-1].outputs if name)
    return Structure(**({"nodes": tuple(nodes), "inputs": inputs, "outputs": outputs, "opset": {"": 20}} | more))


def image_network() -> Structure:
    """Operators with constants, shapes that are computed, running statistics and sizes that must stay exact."""
    nodes = [
        Node("conv", "Conv", ("x", "conv.weight", "conv.bias"), ("h0",), {"pads": (1, 1, 1, 1)}),
        Node("norm", "BatchNormalization", ("h0", "bn.weight", "bn.bias", "bn.mean", "bn.var"), ("h1",)),
        Node("half", "Constant", (), ("c",), {"value_floats": (0.5, 0.25, 0.5, 0.25)}),
        Node("columns", "Unsqueeze", ("c", "axes"), ("c1",)),
        Node("mul", "Mul", ("h1", "c1"), ("h2",)),
        Node("add", "Add", ("h2", "shift"), ("h3",)),
        Node("shape", "Shape", ("h3",), ("s",)),
        Node("to_float", "Cast", ("s",), ("s1",), {"to": 1}),
        Node("twice", "Mul", ("s1", "factors"), ("s2",)),
        Node("to_int", "Cast", ("s2",), ("s3",), {"to": 7}),
        Node("resize", "Resize", ("h3", "", "", "s3"), ("h4",)),
        Node("again", "Resize", ("h4", "", "scales"), ("h5",), {"mode": "linear"}),
        Node("is_large", "Greater", ("h5", "limit"), ("b",)),
        Node("zero", "ConstantOfShape", ("one",), ("z",)),
        Node("where", "Where", ("b", "h5", "z"), ("h6",)),
        Node("cast", "Cast", ("b",), ("b1",), {"to": 1}),
        Node("sum", "Sum", ("h6", "b1"), ("y",)),
    ]
    return structure(
        nodes,
        parameters=(
            Parameter("conv.weight", "float32", (4, 3, 3, 3)),
            Parameter("conv.bias", "float32", (4,)),
            *(Parameter(f"bn.{name}", "float32", (4,)) for name in ("weight", "bias", "mean", "var")),
            Parameter("scales", "float32", (4,)),
        ),
        constants={
            "axes": constant(1, 2),
            "shift": constant(0.25, -3e38, 0.5, 0.75, shape=(4, 1, 1)),
            "factors": constant(1.0, 1.0, 2.0, 2.0),
            "limit": constant(0.0, shape=()),
            "one": constant(1),
        },
    )


def image_module() -> torch.nn.Module:
    torch.manual_seed(0)
    module = to_module(Model(image_network()))
    module.scales.copy_(torch.tensor([1.0, 1.0, 0.7, 1.1]))  # type: ignore[operator]  # a buffer
    return module


IMAGE = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 5, 10)).astype(np.float32))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_constants_follow_the_dtype_of_the_parameters(dtype: torch.dtype) -> None:
    module = image_module()
    expected = module(IMAGE)
    assert expected.shape == (2, 4, 7, 22)
    other = copy.deepcopy(module).to(dtype)
    result = other(IMAGE.to(dtype))
    assert result.dtype == dtype
    eps = torch.finfo(dtype).eps
    near = torch.isclose(result.to(torch.float32), expected, rtol=20 * eps, atol=20 * eps + 1e-5)
    assert near.float().mean() > 0.97  # a number beside the limit may fall to its other side
    assert module(IMAGE).equal(expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_the_structure_of_a_converted_module_computes_the_same(dtype: torch.dtype) -> None:
    module = image_module().to(dtype)
    model = from_object(module, [])
    name = str(dtype).removeprefix("torch.")
    assert {value.dtype for value in (*model.structure.inputs, *model.structure.outputs)} == {name}
    assert model.structure.parameter("scales").dtype == "float32"
    assert model.structure.constants["factors"].dtype == "float32"
    assert model.structure.constants["shift"].dtype == name
    x = IMAGE.to(dtype)
    assert to_module(model)(x).equal(module(x))
    assert module.float()(IMAGE).dtype == torch.float32
    assert from_object(module, []).structure.constants["limit"] == image_network().constants["limit"]


def test_tensors_on_the_cpu_go_where_the_others_are() -> None:
    nodes = [
        Node("scale", "Mul", ("x", "factors"), ("h",)),
        Node("pick", "Gather", ("h", "places"), ("h1",), {"axis": 1}),
        Node("shape", "Shape", ("h1",), ("s",)),
        Node("double", "Mul", ("s", "factor"), ("s1",)),
        Node("ones", "ConstantOfShape", ("s1",), ("z",)),
        Node("join", "Concat", ("h1", "z"), ("y",), {"axis": 0}),
    ]
    constants = {"factors": constant(1.0, 2.0, 3.0), "places": constant(0, 2, -1), "factor": constant(2, 1)}
    module = to_module(Model(structure(nodes, constants=constants)))
    result = module(torch.zeros(2, 3, device="meta"))
    assert (result.device.type, result.shape) == ("meta", (6, 3))


def test_copies_and_state_dicts_carry_everything() -> None:
    module = image_module()
    other = to_module(Model(image_network()))
    other.load_state_dict(module.state_dict())
    assert other(IMAGE).equal(module(IMAGE))
    assert copy.deepcopy(module)(IMAGE).equal(module(IMAGE))
    assert sorted(module.state_dict()) == sorted(p.name for p in image_network().parameters)


def test_running_statistics_and_sizes_are_no_parameters_of_an_optimiser() -> None:
    module = image_module()
    assert sorted(dict(module.named_buffers())) == ["bn.mean", "bn.var", "scales"]
    module.train()(IMAGE).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert module.bn.mean.equal(torch.zeros(4))  # type: ignore[operator, union-attr]  # a buffer


def test_a_module_of_fixed_sizes_can_be_exported() -> None:
    nodes = [
        Node("reshape", "Reshape", ("x", "shape"), ("h",)),
        Node("slice", "Slice", ("h", "starts", "ends"), ("h1",)),
        Node("mul", "MatMul", ("h1", "weight"), ("y",)),
    ]
    constants = {"shape": constant(0, -1), "starts": constant(1), "ends": constant(3)}
    parameters = (Parameter("weight", "float32", (6, 2)),)
    module = to_module(Model(structure(nodes, constants=constants, parameters=parameters)))
    x = torch.randn(4, 2, 3)
    assert torch.export.export(module, (x,)).module()(x).equal(module(x))


def test_outputs_are_left_out_and_several_are_given() -> None:
    nodes = [
        Node("norm", "LayerNormalization", ("x", "scale"), ("h", "", "inverse")),
        Node("best", "TopK", ("h", "k"), ("values", "places")),
        Node("parts", "Split", ("h", "sizes"), ("a", "b"), {"axis": 1}),
        Node("join", "Concat", ("b", "a", "inverse"), ("y",), {"axis": 1}),
    ]
    constants = {"k": constant(2), "sizes": constant(1, 3), "scale": constant(*[1.0] * 4)}
    outputs = (ValueInfo("y", "float32", None), ValueInfo("places", "int64", None))
    x = torch.randn(3, 4)
    y, places = to_module(Model(structure(nodes, constants=constants, outputs=outputs)))(x)
    h = torch.nn.functional.layer_norm(x, (4,))
    assert places.equal(torch.topk(h, 2).indices)
    torch.testing.assert_close(y[:, :4], torch.cat([h[:, 1:], h[:, :1]], 1))
    torch.testing.assert_close(y[:, 4], (x.var(1, correction=0) + 1e-5).rsqrt())


def test_shapes_may_depend_on_the_data() -> None:
    nodes = [
        Node("places", "NonZero", ("x",), ("n",)),
        Node("shape", "Shape", ("n",), ("s",)),
        Node("count", "Gather", ("s", "one"), ("c",)),
        Node("zeros", "ConstantOfShape", ("c",), ("z",)),
        Node("grown", "Add", ("z", "half"), ("y",)),
    ]
    module = to_module(Model(structure(nodes, constants={"one": constant(1), "half": constant(0.5, shape=())})))
    assert module(torch.tensor([0.0, 2.0, 3.0])).tolist() == [0.5, 0.5]
    assert module(torch.zeros(3)).tolist() == []


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_are_trained_alike_by_kernel_and_loop(kind: str) -> None:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    attributes: dict[str, Any] = {"hidden_size": 3, "direction": "bidirectional"}
    attributes |= {"linear_before_reset": 1} if kind == "GRU" else {}
    parameters = (
        Parameter("w", "float32", (2, gates * 3, 2)),
        Parameter("r", "float32", (2, gates * 3, 3)),
        Parameter("b", "float32", (2, gates * 6)),
    )
    modules = []
    for options in (attributes, attributes | {"clip": 1e6}):
        torch.manual_seed(0)
        node = Node("n", kind, ("x", "w", "r", "b"), ("y", "last"), options)
        modules.append(to_module(Model(structure([node], parameters=parameters))))
    x = torch.randn(5, 4, 2)
    for module in modules:
        y, last = module(x)
        (y.square().sum() + last.sum()).backward()
    for ours, theirs in zip(*(module.parameters() for module in modules), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize(
    ("node", "shape", "bound"),
    [
        (Node("n", "MatMul", ("x", "w"), ("y",)), (100, 9), 0.1),
        (Node("n", "MatMul", ("x", "w"), ("y",)), (5, 100, 9), 0.1),
        (Node("n", "Gemm", ("x", "w"), ("y",)), (100, 9), 0.1),
        (Node("n", "Gemm", ("x", "w"), ("y",), {"transB": 1}), (9, 100), 0.1),
        (Node("n", "Conv", ("x", "w"), ("y",), {"group": 2}), (8, 4, 5, 5), 0.1),
        (Node("n", "ConvTranspose", ("x", "w"), ("y",), {"group": 2}), (8, 3, 5, 5), 0.1),
        (Node("n", "Gather", ("w", "x"), ("y",)), (9, 100), 0.1),
        (Node("n", "Add", ("x", "w"), ("y",)), (1, 9, 1), 0.0),
        (Node("n", "Mul", ("x", "w"), ("y",)), (9,), 1.0),
        (Node("n", "PRelu", ("x", "w"), ("y",)), (9, 1, 1), 0.25),
        (Node("n", "InstanceNormalization", ("x", "w", "w2"), ("y",)), (9,), 1.0),
        (Node("n", "BatchNormalization", ("x", "w2", "w2", "w2", "w"), ("y",)), (9,), 1.0),
        (Node("n", "LSTM", ("x", "w2", "w2", "w"), ("y",), {"hidden_size": 2}), (1, 16), 0.0),
    ],
    ids=lambda value: value.op_type if isinstance(value, Node) else "",
)
def test_first_numbers_fit_what_the_operator_does(node: Node, shape: tuple[int, ...], bound: float) -> None:
    parameters = [Parameter("w", "float32", shape)]
    parameters += [Parameter("w2", "float32", (1,))] if "w2" in node.inputs else []
    inputs = (ValueInfo("x", "int64" if node.op_type == "Gather" else "float32", None),)
    model = structure([node], inputs=inputs, parameters=tuple(parameters)) if "w2" not in node.inputs else None
    if model is None:
        model = structure([node, Node("id", "Identity", ("w2",), ("z",))], inputs=inputs, parameters=tuple(parameters))
    weight = to_module(Model(model)).state_dict()["w"]
    if bound in (0.0, 0.25, 1.0):
        assert weight.equal(torch.full(shape, bound))
    else:
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.9 * bound


REFUSALS: list[tuple[Node, int, str]] = [
    (Node("n", "StringNormalizer", ("x",), ("y",)), 20, "StringNormalizer .*strings"),
    (Node("n", "RandomNormalLike", ("x",), ("y",)), 20, "RandomNormalLike .*random"),
    (Node("n", "Own", ("x",), ("y",), domain="own"), 20, "own::Own"),
    (Node("n", "Cast", ("x",), ("y",), {"to": 8}), 20, "Cast .*data type 8"),
    (Node("n", "Constant", (), ("y",), {"value_string": "a"}), 20, "Constant"),
    (Node("n", "Gelu", ("x",), ("y",), {"approximate": "sigmoid"}), 20, "Gelu .*approximate='sigmoid'"),
    (Node("n", "BatchNormalization", ("x",) * 5, ("y",), {"training_mode": 1}), 20, "BatchNormalization .*training"),
    (Node("n", "BatchNormalization", ("x",) * 5, ("y", "m", "v"), {}), 9, "BatchNormalization .*training"),
    (Node("n", "BatchNormalization", ("x",) * 5, ("y",), {"spatial": 0}), 7, "BatchNormalization .*spatial"),
    (Node("n", "Conv", ("x", "x"), ("y",), {"auto_pad": "SAME"}), 20, "Conv .*auto_pad='SAME'"),
    (Node("n", "Conv", ("x", "x"), ("y",), {"kernel_shape": (1, 1, 1, 1)}), 20, "Conv .*4 dimensions"),
    (
        Node("n", "MaxPool", ("x",), ("y",), {"kernel_shape": (2,), "ceil_mode": 1, "auto_pad": "VALID"}),
        20,
        "MaxPool .*ceil_mode",
    ),
    (
        Node("n", "AveragePool", ("x",), ("y",), {"kernel_shape": (2,), "strides": (3,), "auto_pad": "SAME_UPPER"}),
        20,
        "AveragePool .*strides",
    ),
    (Node("n", "Resize", ("x", "", "s"), ("y",), {"mode": "area"}), 20, "Resize .*mode='area'"),
    (Node("n", "GridSample", ("x", "x"), ("y",), {"mode": "area"}), 20, "GridSample .*mode='area'"),
    (Node("n", "Pad", ("x", "k"), ("y",), {"mode": "mirror"}), 20, "Pad .*mode='mirror'"),
    (Node("n", "ScatterND", ("x", "k", "x"), ("y",), {"reduction": "mean"}), 20, "ScatterND .*reduction='mean'"),
    (Node("n", "LSTM", ("x",) * 3, ("y",), {"activations": ("Sine",) * 3}), 20, "LSTM .*'Sine'"),
    (Node("n", "GRU", ("x",) * 3, ("y",), {"activations": ("Tanh",)}), 20, "GRU .*1 activations, not 2"),
    (Node("n", "RNN", ("x",) * 3, ("y",), {"direction": "backward"}), 20, "RNN .*direction"),
    (Node("n", "Attention", ("x", "x", "x", "", "x"), ("y",), {}), 23, "Attention .*past_value is missing"),
    (Node("n", "Dropout", ("x", "", "x"), ("y",)), 20, "Dropout .*random"),
]


@pytest.mark.parametrize(("node", "opset", "message"), REFUSALS, ids=lambda value: getattr(value, "op_type", ""))
def test_what_cannot_be_computed_is_refused_with_operator_and_node(node: Node, opset: int, message: str) -> None:
    model = structure([node], opset={"": opset, "own": 1}, constants={"k": constant(1), "s": constant(2.0)})
    with pytest.raises(UnsupportedError, match=f"node 'n': .*{message}"):
        to_module(Model(model))


def test_strings_are_refused() -> None:
    text = structure([Node("n", "Shape", ("x",), ("y",))], inputs=(ValueInfo("x", "string", (1,)),))
    with pytest.raises(UnsupportedError, match="input 'x': torch has no strings"):
        to_module(Model(text))


def test_what_fails_while_it_runs_names_the_node() -> None:
    module = to_module(Model(structure([Node("product", "MatMul", ("x", "x"), ("y",))])))
    with pytest.raises(RuntimeError) as caught:
        module(torch.zeros(2, 3))
    assert caught.value.__notes__ == ["at node 'product' (MatMul)"]


@pytest.mark.parametrize(("op_type", "expected"), [("Add", 2**64 - 1), ("Max", None)])
def test_large_unsigned_numbers_are_computed_or_refused(op_type: str, expected: int | None) -> None:
    x, one, y = (ValueInfo(name, "uint64", (1,)) for name in ("x", "one", "y"))
    module = to_module(Model(structure([Node("n", op_type, ("x", "one"), ("y",))], (x, one), outputs=(y,))))
    numbers = torch.tensor([-2]).to(torch.uint64), torch.tensor([1]).to(torch.uint64)
    if expected is None:
        with pytest.raises(UnsupportedError, match="'n': Max of uint64 is computed below"):
            module(*numbers)
    else:
        assert module(*numbers).tolist() == [expected]


def test_every_operator_is_in_one_of_the_tables_and_in_the_page() -> None:
    assert set(OPERATORS) | set(NOT_COMPUTED) == set(operators.names(""))
    assert not set(OPERATORS) & set(NOT_COMPUTED)
    tool = ROOT / "tools" / "generate_operator_table.py"
    subprocess.run([sys.executable, str(tool), "--check"], check=True, stdout=subprocess.DEVNULL)
