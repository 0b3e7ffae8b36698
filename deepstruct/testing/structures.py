"""Hypothesis strategy for structures of any shape: skip connections, images, sequences, graphs in graphs, functions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from hypothesis import strategies as st

from deepstruct.node import AttributeReference, AttributeValue, Function, Graph, ParameterReference
from deepstruct.structure import Structure
from deepstruct.tensor import Tensor
from deepstruct.testing.building import Building, Value
from deepstruct.testing.values import ATTRIBUTE_VALUES, SCOPES, choose, maybe, shapes
from deepstruct.value_info import ValueInfo

FLOATS = ("float32", "float64", "float16", "bfloat16")
"""Dtypes that the networks of `structures` compute in."""


@st.composite
def structures(
    draw: st.DrawFn,
    *,
    operators: Collection[str] | None = None,
    dtypes: Collection[str] = (*FLOATS, "bool", "int8", "uint8", "int64"),
    extra: bool = False,
) -> Structure:
    """Structures: directed acyclic graphs of operators, with masks on their parameters; all valid ONNX.

    Layers take any value that was made before and fits, so that there are chains, skip connections, several inputs and
    outputs. No weight is square. Names, scopes and user data are such as careless converters change.

    Args:
        draw: given by hypothesis.
        operators: those that may occur, of `OPERATORS`; all if None.
        dtypes: of parameters. The network computes in one of them that is in `FLOATS`, or else in float32; the others
            are those of parameters that no operator uses.
        extra: whether there is what formats may have no place for: members of the document that no version knows, and
            claims on masks (`Parameter.sparsity_structure`).
    """
    names = list(OPERATORS if operators is None else [name for name in OPERATORS if name in operators])
    dtype = draw(st.sampled_from([name for name in FLOATS if name in dtypes] or ["float32"]))
    opset = 22 if dtype == "bfloat16" else choose(draw, [20, 18, 22])
    build = Building(draw, dtype, opset, extra)
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=7)):
        _LAYERS[name](build)
    for unused in draw(st.lists(st.sampled_from(list(dtypes)), max_size=2)):
        build.parameter("unused", draw(shapes()), unused)
    return build.structure()


def _layer(build_layer: Callable[[Building], None]) -> Callable[[Building], None]:
    """A layer with a scope of its own."""

    def build(build: Building) -> None:
        build.scope = choose(build.draw, SCOPES)
        build_layer(build)

    return build


def _activation(op: str, **attributes: float) -> Callable[[Building], None]:
    def build(build: Building) -> None:
        value = build.value(2, 3, 4)
        given = attributes if attributes and maybe(build.draw) else {}
        chosen = {name: choose(build.draw, [default, 0.1, -0.0]) for name, default in given.items()}
        build.node(op, (value.name,), value.shape, **chosen)

    return build


def _clip(build: Building) -> None:
    value = build.value(2, 3, 4)
    most = build.constant(Tensor(build.dtype, (), (6.0,)))
    least = choose(build.draw, ["", "constant"])
    if least:
        least = build.constant(Tensor(build.dtype, (), (-0.0,)))
    build.node("Clip", (value.name, least, most), value.shape)


def _gemm(build: Building) -> None:
    value = build.value(2)
    source = _last(value)
    target = build.extent(source)
    inputs: tuple[str, ...] = (value.name, build.parameter("weight", (target, source)))
    if maybe(build.draw):
        inputs += (build.parameter("bias", (target,)),)
    build.node("Gemm", inputs, (value.shape[0], target), transB=1)


def _matmul(build: Building) -> None:
    value = build.value(3, 2)
    source = _last(value)
    target = build.extent(source)
    weight = build.parameter("weight", (source, target))
    build.node("MatMul", (value.name, weight), (*value.shape[:-1], target))


def _layer_norm(build: Building) -> None:
    value = build.value(2, 3)
    scale = build.parameter("scale", (_last(value),))
    epsilon = choose(build.draw, [1e-5, 1e-12, 0.1])
    build.node("LayerNormalization", (value.name, scale), value.shape, axis=-1, epsilon=epsilon)


def _elementwise(op: str) -> Callable[[Building], None]:
    def build(build: Building) -> None:
        value = build.value(2, 3, 4)
        others = [other for other in build.values if other.shape == value.shape]
        other = choose(build.draw, others)
        build.node(op, (value.name, other.name), value.shape)

    return build


def _concat(build: Building) -> None:
    value = build.value(2, 4)
    rest = (value.shape[:1], value.shape[2:])
    others = [v for v in build.values if len(v.shape) in (2, 4) and (v.shape[:1], v.shape[2:]) == rest]
    other = choose(build.draw, others)
    joined = _features(value) + _features(other)
    build.node("Concat", (other.name, value.name), (value.shape[0], joined, *value.shape[2:]), axis=1)


def _conv(build: Building) -> None:
    value = build.value(4)
    batch, channels, *extents = value.shape
    height, width = (extent for extent in extents if isinstance(extent, int))
    kernels = [(2, 3), (3, 1), (1, 2), (1, 1)]
    high, wide = choose(build.draw, [k for k in kernels if k[0] <= height and k[1] <= width])
    filters = build.extent(channels)
    groups = choose(build.draw, [1, channels]) if isinstance(channels, int) else 1
    weight = build.parameter("weight", (filters * groups, _features(value) // groups, high, wide))
    attributes: dict[str, Any] = {"group": groups} if groups > 1 else {}
    if maybe(build.draw):
        attributes["pads"] = (1, 0, 0, 0)
        height += 1
    shape = (batch, filters * groups, height - high + 1, width - wide + 1)
    build.node("Conv", (value.name, weight), shape, **attributes)


def _flatten(build: Building) -> None:
    value = build.value(4)
    size = 1
    for extent in value.shape[1:]:
        size *= extent if isinstance(extent, int) else 1
    build.node("Flatten", (value.name,), (value.shape[0], size))


def _reshape(build: Building) -> None:
    value = build.value(2)
    rows = choose(build.draw, [0, -1])
    shape = build.constant(Tensor("int64", (2,), (rows, _last(value))))
    build.node("Reshape", (value.name, shape), value.shape)


def _recurrent(op: str, gates: int) -> Callable[[Building], None]:
    def build(build: Building) -> None:
        value = build.value(3)
        steps, batch, _ = value.shape
        features = _last(value)
        hidden = build.extent(features, features / gates)
        directions = choose(build.draw, [1, 2])
        weight = build.parameter("weight_ih", (directions, gates * hidden, features))
        again = build.parameter("weight_hh", (directions, gates * hidden, hidden))
        bias = choose(build.draw, ["", "bias"])
        if bias:
            bias = build.parameter("bias", (directions, 2 * gates * hidden))
        inputs = (value.name, weight, again, bias) if bias else (value.name, weight, again)
        attributes: dict[str, Any] = {"hidden_size": hidden}
        if directions == 2:
            attributes["direction"] = "bidirectional"
        if op == "LSTM" and maybe(build.draw):
            inputs = (*inputs, *("",) * (7 - len(inputs)), build.parameter("peepholes", (directions, 3 * hidden)))
        if maybe(build.draw):
            whole = build.name("v")
            build.nodes.append(build.make(op, inputs, (whole,), attributes))
            axes = build.constant(Tensor("int64", (1,), (1,)))
            build.node("ReduceSum", (whole, axes), (steps, batch, hidden), keepdims=0)
        else:
            last = Value(build.name("v"), (directions, batch, hidden))
            build.append(build.make(op, inputs, ("", last.name), attributes), last)

    return build


def _if(build: Building) -> None:
    value = build.value(2)
    source = _last(value)
    target = build.extent(source)
    condition = build.input("bool", ())
    branches: dict[str, Graph] = {}
    for branch in ("then_branch", "else_branch"):
        made = Value(build.name("v"), (value.shape[0], target))
        weight = build.parameter("weight", (source, target))
        node = build.make("MatMul", (value.name, weight), (made.name,), {})
        branches[branch] = Graph((node,), (), (build.typed(made),), build.name("graph"), extra=build.extra())
    build.node("If", (condition.name,), (value.shape[0], target), **branches)


def _loop(build: Building) -> None:
    value = build.value(2, 3)
    trips = build.constant(Tensor("int64", (), (2,)))
    step, go, state = build.name("step"), build.name("go"), Value(build.name("state"), value.shape)
    again, made = build.name("again"), Value(build.name("v"), value.shape)
    scale = build.parameter("scale", (_last(value),))
    nodes = (
        build.make("Identity", (go,), (again,), {}),
        build.make("Mul", (state.name, scale), (made.name,), {}),
    )
    inputs = (ValueInfo(step, "int64", ()), ValueInfo(go, "bool", ()), build.typed(state))
    outputs = (ValueInfo(again, "bool", ()), build.typed(made))
    body = Graph(nodes, inputs, outputs, build.name("graph"), extra=build.extra())
    build.node("Loop", (trips, "", value.name), value.shape, body=body)


def _function(build: Building) -> None:
    value = build.value(2, 3)
    domain, overload = "example.functions", choose(build.draw, ["", "wide"])
    build.opset[domain] = 1
    name, scale = build.name("Block"), build.parameter("scale", (_last(value),))
    function = Function(
        name=name,
        domain=domain,
        overload=overload,
        inputs=("x",),
        outputs=("y",),
        nodes=(
            build.make("Mul", ("x", scale), ("h",), {}),
            build.make("Elu", ("h",), ("a",), {"alpha": AttributeReference("alpha", "FLOAT")}),
            build.make("Add", ("x", "a"), ("y",), {}),
        ),
        opset={"": build.opset[""]},
        attributes=("alpha",),
        extra=build.extra(),
    )
    build.functions.append(function)
    made = Value(build.name("v"), value.shape)
    build.append(build.make(name, (value.name,), (made.name,), {"alpha": 0.1}, domain, overload), made)


def _custom(build: Building) -> None:
    drawn = build.draw(ATTRIBUTE_VALUES)
    _mix(build, {f"attribute{number}": value for number, value in enumerate(drawn)})


def _table(build: Building) -> None:
    table = build.parameter("table", (build.extent(), 10))
    _mix(build, {"table": ParameterReference(table, sparse=maybe(build.draw))})


def _mix(build: Building, attributes: Mapping[str, AttributeValue]) -> None:
    """An operator of another domain."""
    value = build.value(2, 3, 4)
    domain = "example.operators"
    build.opset[domain] = 3
    made = Value(build.name("v"), value.shape)
    build.append(build.make("Mix", (value.name,), (made.name,), attributes, domain), made)


def _last(value: Value) -> int:
    """Extent of the last dimension, which every value has as a number."""
    extent = value.shape[-1]
    assert isinstance(extent, int)
    return extent


def _features(value: Value) -> int:
    """Extent of the second dimension of a value without steps, likewise."""
    extent = value.shape[1]
    assert isinstance(extent, int)
    return extent


_LAYERS: Mapping[str, Callable[[Building], None]] = {
    "Relu": _layer(_activation("Relu")),
    "Tanh": _layer(_activation("Tanh")),
    "Elu": _layer(_activation("Elu", alpha=1.0)),
    "Clip": _layer(_clip),
    "Gemm": _layer(_gemm),
    "MatMul": _layer(_matmul),
    "LayerNormalization": _layer(_layer_norm),
    "Add": _layer(_elementwise("Add")),
    "Mul": _layer(_elementwise("Mul")),
    "Concat": _layer(_concat),
    "Conv": _layer(_conv),
    "Flatten": _layer(_flatten),
    "Reshape": _layer(_reshape),
    "LSTM": _layer(_recurrent("LSTM", 4)),
    "GRU": _layer(_recurrent("GRU", 3)),
    "If": _layer(_if),
    "Loop": _layer(_loop),
    "Function": _layer(_function),
    "Custom": _layer(_custom),
    "Table": _layer(_table),
}

OPERATORS = tuple(_LAYERS)
"""What `structures` are made of: operators of ONNX; a call of a Function; an operator of another domain with attributes
(Custom), or with one that is a parameter (Table)."""
