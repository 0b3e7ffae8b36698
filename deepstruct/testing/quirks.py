"""Structures named by a quirk that a format of networks may find hard; see `samples` for those that all must carry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from deepstruct.node import AttributeReference, AttributeValue, EmptyList, Function, Graph, Node, ParameterReference
from deepstruct.structure import Parameter, Structure
from deepstruct.tensor import Tensor
from deepstruct.testing.samples import random_mask
from deepstruct.value_info import TypeInfo, ValueInfo

_X = ValueInfo("x", "float32", ("batch", 4))


def _parameter(name: str, *shape: int, dtype: str = "float32", density: float = 0.5) -> Parameter:
    return Parameter(name, dtype, shape, random_mask(shape, density, seed=len(name)))


def _names() -> Structure:
    """Names that differ in case or in the form of an accent alone, and such as XML, SQL or paths change."""
    names = (
        "weight",
        "Weight",
        "é",
        "e\u0301",
        "a/b",
        "../x",
        "~",
        " ",
        "'",
        '"<&>',
        "層.0",
        "x\ty\n",
        "\N{SNAKE}",
        "0",
    )
    nodes, value = [], "x"
    for number, name in enumerate(names):
        nodes.append(Node(f"n {name}", "Mul", (value, name), (f"v {name}",), scope=f"s{number} {name}"))
        value = f"v {name}"
    return Structure(
        nodes=tuple(nodes),
        inputs=(_X,),
        outputs=(ValueInfo(value, "float32", ("Batch é", 4)),),
        parameters=tuple(_parameter(name, 1, 4) for name in names),
        name="größer/<main>",
    )


def _several_ends() -> Structure:
    """Inputs and outputs that are not in alphabetical order, one of each twice or never used."""
    return Structure(
        nodes=(Node("b", "Add", ("z", "a"), ("y2",)), Node("a", "Sub", ("a", "z"), ("y1",))),
        inputs=tuple(ValueInfo(name, "float32", (2, "n")) for name in ("z", "unused", "a")),
        outputs=tuple(ValueInfo(name, "float32", (2, "n")) for name in ("y2", "y1", "z")),
    )


def _shared() -> Structure:
    """One weight in both orientations, as in a tied autoencoder; one bias twice."""
    return Structure(
        nodes=(
            Node("encode", "Gemm", ("x", "w", "b7"), ("h",), {"transB": 1}),
            Node("again", "Add", ("h", "b7"), ("h2",)),
            Node("decode", "Gemm", ("h2", "w"), ("y",)),
        ),
        inputs=(_X,),
        outputs=(ValueInfo("y", "float32", ("batch", 4)),),
        parameters=(_parameter("w", 7, 4), _parameter("b7", 7)),
    )


def _open_shapes() -> Structure:
    """Extents and ranks that are not known, and an output of which nothing is."""
    return Structure(
        nodes=(Node("relu", "Relu", ("x",), ("y",)), Node("abs", "Abs", ("z",), ("w",))),
        inputs=(ValueInfo("x", "float32", (None, "n", 0, 3)), ValueInfo("z", "float64", None)),
        outputs=(ValueInfo("y", "float32", None), ValueInfo("w", None, None)),
    )


def _unused(*dtypes: str) -> Structure:
    """Parameters that no operator uses, of each dtype one with a mask, one without, a scalar and an empty one."""
    parameters: list[Parameter] = []
    for dtype in dtypes:
        parameters += [_parameter(f"{dtype}.masked", 3, 5, dtype=dtype), Parameter(f"{dtype}.full", dtype, (5, 2))]
        parameters += [Parameter(f"{dtype}.scalar", dtype, ()), Parameter(f"{dtype}.none", dtype, (2, 0, 3))]
    relu = Node("relu", "Relu", ("x",), ("y",))
    outputs = (ValueInfo("y", "float32", None),)
    return Structure(nodes=(relu,), inputs=(_X,), outputs=outputs, parameters=tuple(parameters))


def _convolutions() -> Structure:
    """Images: masked kernels of a full and a grouped convolution, and batch normalisation."""
    statistics = tuple(Parameter(f"bn.{name}", "float32", (6,)) for name in ("scale", "bias", "mean", "var"))
    return Structure(
        nodes=(
            Node("conv", "Conv", ("x", "conv.w"), ("c",), {"pads": (1, 0, 0, 1), "strides": (1, 2)}, "features.0"),
            Node("bn", "BatchNormalization", ("c", *(p.name for p in statistics)), ("n",), {"epsilon": 1e-3}, "bn"),
            Node("depthwise", "Conv", ("n", "dw.w"), ("y",), {"group": 6}, "features.1"),
        ),
        inputs=(ValueInfo("x", "float32", ("batch", 3, 8, 9)),),
        outputs=(ValueInfo("y", "float32", ("batch", 12, None, None)),),
        parameters=(_parameter("conv.w", 6, 3, 2, 4), *statistics, _parameter("dw.w", 12, 1, 3, 2)),
    )


def _recurrent() -> Structure:
    """A bidirectional LSTM with inputs left out in the middle and an output left out at the front."""
    inputs = ("x", "W", "R", "", "", "", "", "P")
    return Structure(
        nodes=(Node("lstm", "LSTM", inputs, ("", "h"), {"hidden_size": 5, "direction": "bidirectional"}),),
        inputs=(ValueInfo("x", "float32", ("steps", "batch", 3)),),
        outputs=(ValueInfo("h", "float32", (2, "batch", 5)),),
        parameters=(_parameter("W", 2, 20, 3), _parameter("R", 2, 20, 5), _parameter("P", 2, 15)),
    )


def _branch(name: str, weight: str) -> Graph:
    node = Node("product", "MatMul", ("x", weight), (f"{name}.y",))
    return Graph((node,), (), (ValueInfo(f"{name}.y", "float32", ("batch", 6)),), name)


def _branches() -> Structure:
    """An If whose graphs take a value and a weight each from outside, their nodes named alike."""
    branches: dict[str, AttributeValue] = {"then_branch": _branch("then", "w1"), "else_branch": _branch("else", "w2")}
    return Structure(
        nodes=(Node("if", "If", ("condition",), ("y",), branches),),
        inputs=(_X, ValueInfo("condition", "bool", ())),
        outputs=(ValueInfo("y", "float32", ("batch", 6)),),
        parameters=(_parameter("w1", 4, 6), _parameter("w2", 4, 6, density=0.2)),
    )


def _loop() -> Structure:
    """A Loop that carries a state."""
    body = Graph(
        (Node("go", "Identity", ("go.in",), ("go.out",)), Node("scale", "Mul", ("state.in", "w"), ("state.out",))),
        (ValueInfo("step", "int64", ()), ValueInfo("go.in", "bool", ()), ValueInfo("state.in", None, None)),
        (ValueInfo("go.out", "bool", ()), ValueInfo("state.out", "float32", None)),
    )
    return Structure(
        nodes=(Node("loop", "Loop", ("trips", "", "x"), ("y",), {"body": body}),),
        inputs=(_X,),
        outputs=(ValueInfo("y", "float32", ("batch", 4)),),
        parameters=(_parameter("w", 4),),
        constants={"trips": Tensor("int64", (), (3,))},
    )


def _functions() -> Structure:
    """Two overloads of a function, which calls another one, with an attribute and a weight from outside."""

    def block(overload: str, weight: str) -> Function:
        nodes = (
            Node("shift", "Shift", ("a",), ("b",), domain="example.functions"),
            Node("product", "Mul", ("b", weight), ("c",)),
            Node("elu", "Elu", ("c",), ("d",), {"alpha": AttributeReference("alpha", "FLOAT")}),
        )
        opset = {"": 20, "example.functions": 1}
        return Function(
            name="Block",
            domain="example.functions",
            overload=overload,
            inputs=("a",),
            outputs=("d",),
            nodes=nodes,
            opset=opset,
            attributes=("alpha",),
        )

    shift = Function(
        name="Shift",
        domain="example.functions",
        inputs=("x",),
        outputs=("y",),
        nodes=(Node("add", "Add", ("x", "x"), ("y",)),),
        opset={"": 20},
    )
    calls = [("first", "x", "h", "", 0.5), ("second", "h", "y", "wide", -0.0)]
    return Structure(
        nodes=tuple(
            Node(name, "Block", (source,), (target,), {"alpha": alpha}, domain="example.functions", overload=overload)
            for name, source, target, overload, alpha in calls
        ),
        inputs=(_X,),
        outputs=(ValueInfo("y", "float32", ("batch", 4)),),
        parameters=(_parameter("w1", 4), _parameter("w2", 4)),
        functions=(shift, block("", "w1"), block("wide", "w2")),
        opset={"": 20, "example.functions": 1},
    )


def _attributes() -> Structure:
    """An operator of another domain with attributes of every kind."""
    values: dict[str, AttributeValue] = {
        "int": 2**63 - 1,
        "one": 1,
        "float": 1.0,
        "negative zero": -0.0,
        "not a number": math.nan,
        "text": "ü/\n",
        "bytes": b"\xff\x00",
        "ints": (1, -(2**63)),
        "floats": (1.0, math.inf, -0.0),
        "strings": ("", "a", b"\xfe"),
        "tensor": Tensor("int64", (2, 3), (0, 1, 2, 3, 4, -(2**63))),
        "scalar": Tensor("float32", (), (math.nan,)),
        "tensors": (Tensor("bool", (1,), (True,)), Tensor("string", (), ("é",))),
        "type": TypeInfo("string", ("n", None), containers=("sequence", "map:int64")),
        "types": (TypeInfo("float32", None),),
        "graph": Graph((Node("relu", "Relu", ("x",), ("inner",)),), (), (ValueInfo("inner", None, None),)),
        "empty": EmptyList("FLOATS"),
    }
    return Structure(
        nodes=(Node("mix", "Mix", ("x",), ("y",), values, domain="example.operators"),),
        inputs=(_X,),
        outputs=(ValueInfo("y", "float32", None),),
        opset={"": 20, "example.operators": 2},
    )


def _tables() -> Structure:
    """Parameters that attributes refer to, one of them from two places."""
    attributes: dict[str, AttributeValue] = {"sparse": ParameterReference("s", sparse=True)}
    attributes |= {"tables": (ParameterReference("w"), ParameterReference("w"))}
    return Structure(
        nodes=(Node("mix", "Mix", ("x",), ("y",), attributes, domain="example.operators"),),
        inputs=(_X,),
        outputs=(ValueInfo("y", "float32", None),),
        parameters=(_parameter("w", 3, 5), _parameter("s", 2, 4)),
        opset={"": 20, "example.operators": 2},
    )


def _user_data() -> Structure:
    """User data of every JSON type, whose types and signs matter."""
    attributes: dict[str, Any] = {
        "numbers": [1, 1.0, 0.0, -0.0, 2**53 - 1, 5e-324, 1e300],
        "others": [True, None, "", "ü\t\n", [], {}],
        "": {"a/b": {"~": [[[]]]}},
    }
    relu = Node("relu", "Relu", ("x",), ("y",))
    return Structure(nodes=(relu,), inputs=(_X,), outputs=(ValueInfo("y", "float32", None),), attributes=attributes)


def _constants() -> Structure:
    """Constants of several dtypes, one without elements, one that nothing uses."""
    constants = {
        "shape": Tensor("int64", (2,), (-1, 4)),
        "limit": Tensor("float32", (), (-0.0,)),
        "unused": Tensor("string", (2, 1), ("", "ü")),
        "flags": Tensor("bool", (3,), (True, False, True)),
        "none": Tensor("int32", (0, 2), ()),
    }
    return Structure(
        nodes=(Node("reshape", "Reshape", ("x", "shape"), ("r",)), Node("clip", "Clip", ("r", "limit"), ("y",))),
        inputs=(_X,),
        outputs=(ValueInfo("y", "float32", (None, 4)),),
        constants=constants,
    )


QUIRKS: Mapping[str, Structure] = MappingProxyType(
    {
        "names": _names(),
        "several-ends": _several_ends(),
        "shared-parameters": _shared(),
        "open-shapes": _open_shapes(),
        "floats-unused": _unused("float32", "bfloat16"),
        "integers": _unused("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
        "float8": _unused("float8_e4m3fn", "float8_e5m2"),
        "narrow": _unused("int4", "uint4", "float4_e2m1fn"),
        "complex": _unused("complex64", "complex128"),
        "convolutions": _convolutions(),
        "recurrent": _recurrent(),
        "branches": _branches(),
        "loop": _loop(),
        "functions": _functions(),
        "attributes": _attributes(),
        "tables": _tables(),
        "user-data": _user_data(),
        "constants": _constants(),
    }
)
"""Quirk -> structure."""
