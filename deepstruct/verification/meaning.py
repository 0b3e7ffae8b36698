"""What an operator computes, apart from how it is spelled: attributes without those that change nothing, and tables."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cache
from typing import Any

import onnx

from deepstruct import operators
from deepstruct.frozen import strict_key
from deepstruct.node import AttributeValue, EmptyList, Graph, Node, ParameterReference, round_to_float32, walk
from deepstruct.tensor import Tensor

COMMUTATIVE = frozenset(
    {
        *("Add", "Mul", "Max", "Min", "Sum", "Mean", "And", "Or", "Xor", "Equal"),
        *("BitwiseAnd", "BitwiseOr", "BitwiseXor"),
    }
)
"""Operators whose inputs may stand in any order."""

RESHAPING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that give their first input another shape, and nothing else."""

RANDOM = frozenset(
    {
        *("Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike"),
        *("RandomUniform", "RandomUniformLike"),
    }
)
"""Operators that may give something else each time."""

SEQUENCES = frozenset(
    {
        *("Optional", "OptionalGetElement", "OptionalHasElement", "SequenceAt", "SequenceConstruct", "SequenceEmpty"),
        *("SequenceErase", "SequenceInsert", "SequenceLength", "SplitToSequence", "ConcatFromSequence"),
        *("ZipMap", "CastMap", "DictVectorizer"),
    }
)
"""Operators whose inputs or outputs are not all tensors."""

ADDENDS = {
    **{"Gemm": 2, "Conv": 2, "ConvTranspose": 2, "LayerNormalization": 2, "DeformConv": 3},
    **{"LSTM": 3, "GRU": 3, "RNN": 3},
}
"""Operator -> position of its bias, without which it adds nothing."""

ELEMENTWISE = frozenset(
    {
        *("Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual", "Less"),
        *("LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor"),
    }
)
"""Operators whose inputs are broadcast, so that leading extents of 1 may be left out where another input has them."""

GROWING = frozenset(
    {
        *("CenterCropPad", "ConstantOfShape", "Expand", "EyeLike", "OneHot", "Pad", "Range", "Resize", "Tile"),
        *("Upsample", "Col2Im", "MaxUnpool", "AffineGrid", "BlackmanWindow", "HammingWindow", "HannWindow"),
    }
)
"""Operators whose outputs may be much larger than their inputs."""

OPTIONAL_OUTPUTS = frozenset(
    {"Dropout", "GRU", "GroupNormalization", "LSTM", "LayerNormalization", "MaxPool", "RNN", "TopK", "Unique"}
)
"""Operators that compute each output in the same way, whether or not they have the others."""

_DECISIVE = frozenset(
    {
        *("alpha", "approximate", "axis", "axes", "beta", "bias", "blocksize", "direction", "epsilon", "equation"),
        *("exclusive", "gamma", "group", "k", "keepdims", "lambd", "linear_before_reset", "mode", "num_groups", "p"),
        *("pads", "perm", "repeats", "reverse", "size", "slice", "split", "strides", "to", "transA", "transB", "upper"),
        *("value", "is_causal"),
    }
)
"""Attributes of which two values never compute the same, unless an axis is counted from the other end."""

_WINDOWED = frozenset({"AveragePool", "Conv", "ConvInteger", "ConvTranspose", "LpPool", "MaxPool", "QLinearConv"})
_WEIGHTS = {"Conv": 1, "ConvInteger": 1, "ConvTranspose": 1, "QLinearConv": 3}
_ZERO = Tensor("float32", (1,), (0.0,))
_FLOAT8 = frozenset({17, 18, 19, 20, 24})
_ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "LSTM": ("sigmoid", "tanh", "tanh"),
    "GRU": ("sigmoid", "tanh"),
    "RNN": ("tanh",),
}


def is_derivable(node: Node) -> bool:
    """Whether the node gives tensors that are fixed once its inputs are: it is neither random nor unknown."""
    if node.domain not in ("", "ai.onnx.ml") or node.graphs:
        return False
    return node.op_type not in RANDOM and node.op_type not in SEQUENCES


def is_random(node: Node) -> bool:
    """Whether the node, or one in the graphs of its attributes, may give something else each time."""
    return any(inner.op_type in RANDOM or not operators.is_known_domain(inner.domain) for inner in walk((node,)))


@cache
def signature(domain: str, op_type: str, version: int) -> Hashable:
    """What tells versions of an operator apart: attributes with their defaults, numbers of inputs and outputs.

    Operators of an unknown domain are told apart by the version of the domain.
    """
    schema = _schema(domain, op_type, version)
    if schema is None:
        return version
    members = {name: (a.required, a.default_value.SerializeToString()) for name, a in schema.attributes.items()}
    return frozenset(members.items()), schema.min_input, schema.max_input, schema.min_output, schema.max_output


@cache
def result_type_positions(domain: str, op_type: str, version: int) -> tuple[int, ...]:
    """Positions of the inputs whose dtype the first output has; none if the operator does not tie them."""
    schema = _schema(domain, op_type, version)
    if schema is None or not schema.outputs:
        return ()
    kind = schema.outputs[0].type_str
    if "(" in kind or op_type in SEQUENCES:
        return ()
    return tuple(n for n, value in enumerate(schema.inputs) if value.type_str == kind and value.is_homogeneous)


@cache
def _schema(domain: str, op_type: str, version: int) -> Any:
    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None


@cache
def _defaults(domain: str, op_type: str, version: int) -> Mapping[str, Hashable]:
    schema = _schema(domain, op_type, version)
    found = {}
    for name, attribute in ({} if schema is None else schema.attributes).items():
        if attribute.default_value.type:
            found[name] = strict_key(_plain(onnx.helper.get_attribute_value(attribute.default_value)))
    return found


def default(domain: str, op_type: str, version: int, name: str) -> AttributeValue | None:
    """What an attribute is that a node does not have; None if that is not said."""
    schema = _schema(domain, op_type, version)
    attribute = None if schema is None else schema.attributes.get(name)
    if attribute is None or not attribute.default_value.type:
        return None
    value: AttributeValue = _plain(onnx.helper.get_attribute_value(attribute.default_value))
    return value


def _plain(value: Any) -> Any:
    """A value as structures have it: text rather than bytes, tuples rather than lists, floats in float32."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, float):
        return round_to_float32(value)
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item) for item in value)
    return value


def plain_attributes(
    node: Node, version: int, weight: tuple[int, ...] | None = None, outputs: int = 1
) -> dict[str, AttributeValue]:
    """The attributes that say something: those without which the node would compute something else.

    Graphs and references to parameters are left in. Left out is what equals the default of the operator's version,
    and what cannot have an effect:

    - windows: strides and dilations of 1, padding of 0, the extents of a kernel that is the weight's own; how to
      count padding where there is none;
    - ``momentum`` of a BatchNormalization that does not train; ``beta`` of a Gemm without a bias;
    - ``storage_order`` without indices, ``saturate`` for other dtypes than float8;
    - a permutation that reverses the axes; activations of recurrent cells that are the usual ones;
    - ``num_outputs`` of a Split, which it has anyway; a ``value`` of 0 of a ConstantOfShape;
    - attributes of modes of a Resize that it does not use.

    Args:
        node: whose attributes they are.
        version: of its operator set.
        weight: shape of its weight, if it is known.
        outputs: how many of its outputs something uses, counted up to the last.
    """
    defaults = _defaults(node.domain, node.op_type, version)
    found: dict[str, AttributeValue] = {}
    for name, value in node.attributes.items():
        value = _plain(value) if isinstance(value, (bytes, tuple)) and not _is_special(value) else value
        if name not in defaults or strict_key(value) != defaults[name]:
            found[name] = value
    if node.domain == "":
        for name in _idle(node, found, weight, outputs):
            found.pop(name, None)
    return found


def _is_special(value: Any) -> bool:
    items = value if isinstance(value, tuple) else (value,)
    return any(isinstance(item, (Graph, ParameterReference)) for item in items)


def _idle(
    node: Node, attributes: Mapping[str, AttributeValue], weight: tuple[int, ...] | None, outputs: int
) -> list[str]:
    """Names of attributes that have no effect beside the others."""
    op_type = node.op_type
    if op_type in _WINDOWED:
        return _idle_in_window(node, attributes, weight, outputs)
    if op_type == "BatchNormalization" and not attributes.get("training_mode") and len(node.outputs) == 1:
        return ["momentum"]
    if op_type == "Gemm" and len(node.inputs) < 3:
        return ["beta"]
    if op_type == "Cast" and attributes.get("to") not in _FLOAT8:
        return ["saturate"]
    if op_type == "Transpose":
        perm = attributes.get("perm")
        return ["perm"] if isinstance(perm, tuple) and perm == tuple(range(len(perm)))[::-1] else []
    if op_type == "Split" and attributes.get("num_outputs") == len(node.outputs):
        return ["num_outputs"]
    if op_type == "ConstantOfShape" and attributes.get("value") == _ZERO:
        return ["value"]
    if op_type in _ACTIVATIONS:
        return _idle_in_cell(op_type, attributes)
    if op_type == "Resize":
        mode = attributes.get("mode", "nearest")
        idle = [] if mode == "cubic" else ["cubic_coeff_a", "exclude_outside"]
        idle += [] if mode == "nearest" else ["nearest_mode"]
        crops = attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize"
        return idle if crops else [*idle, "extrapolation_value"]
    return []


def _idle_in_window(
    node: Node, attributes: Mapping[str, AttributeValue], weight: tuple[int, ...] | None, outputs: int
) -> list[str]:
    def all_are(name: str, number: int) -> bool:
        value = attributes.get(name)
        return isinstance(value, EmptyList) or (isinstance(value, tuple) and set(value) <= {number})

    idle = [name for name, number in (("strides", 1), ("dilations", 1), ("output_padding", 0)) if all_are(name, number)]
    automatic = attributes.get("auto_pad", "NOTSET")
    if automatic == "NOTSET" and all_are("pads", 0):
        idle.append("pads")
    is_bare = automatic == "NOTSET" and ("pads" in idle or "pads" not in attributes)
    if automatic == "VALID" and node.op_type == "Conv":
        idle += ["auto_pad", "pads"]
    if is_bare and not attributes.get("ceil_mode"):
        idle.append("count_include_pad")
    if node.op_type == "MaxPool" and outputs < 2:
        idle.append("storage_order")
    if node.op_type in _WEIGHTS and weight is not None and attributes.get("kernel_shape") == weight[2:]:
        idle.append("kernel_shape")
    return idle


def weight_position(node: Node) -> int | None:
    """The position among its inputs of the weight that says how large the node's kernel is."""
    return _WEIGHTS.get(node.op_type) if node.domain == "" else None


def _idle_in_cell(op_type: str, attributes: Mapping[str, AttributeValue]) -> list[str]:
    idle = [n for n in ("activation_alpha", "activation_beta") if isinstance(attributes.get(n), EmptyList)]
    usual = _ACTIVATIONS[op_type] * (2 if attributes.get("direction") == "bidirectional" else 1)
    given = attributes.get("activations")
    if isinstance(given, EmptyList) or (isinstance(given, tuple) and tuple(str(g).lower() for g in given) == usual):
        plain = all(name in idle or name not in attributes for name in ("activation_alpha", "activation_beta"))
        idle += ["activations"] if plain else []
    return idle


def is_decisive(name: str, first: AttributeValue | None, second: AttributeValue | None) -> bool:
    """Whether two values of an attribute, None for its default, surely compute something else.

    Operands that `operands` reads as attributes count as such.

    Args:
        name: of the attribute.
        first: one value.
        second: another one.
    """
    if name not in _DECISIVE:
        return False
    if name in ("axis", "axes"):
        return _is_counted_alike(first) and _is_counted_alike(second) and _sign(first) == _sign(second)
    return name not in ("slice", "split") or (first is not None and second is not None)


def _is_counted_alike(value: AttributeValue | None) -> bool:
    items = value if isinstance(value, tuple) else (value,)
    return all(isinstance(item, int) for item in items) and len({item < 0 for item in items}) == 1  # type: ignore[operator]  # ints


def _sign(value: AttributeValue | None) -> bool:
    items = value if isinstance(value, tuple) else (value,)
    return items[0] < 0  # type: ignore[operator]  # ints, as `_is_counted_alike` found
