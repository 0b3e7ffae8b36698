"""The standard operators that rebuild a dense tensor from codes and kept values, as functions and as plain nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import FunctionProto, NodeProto, TensorProto, helper, numpy_helper

from deepstruct.converters import onnx_keys
from deepstruct.converters.onnx_packed_layout import BITS, LAYOUTS, Layout

DOMAIN = "deepstruct"
VERSION = 1
MINIMUM_OPSET = dict.fromkeys(
    ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"],
    11,
) | {"bfloat16": 13}
"""Dtype -> version of ai.onnx since which every operator takes it; CumSum and ScatterElements are of version 11."""

MARK = onnx_keys.PACKED
"""Key of ``metadata_props`` of a node that is not an operator of `DOMAIN`, but part of a packed weight."""

WHOLE = "SparseDecodeBits"
NOTHING = "SparseDecodeNothing"
BY_INDEX = "ByIndex"
"""End of the names of operators without Expand of values, which onnxruntime lacks for bfloat16."""


@dataclass
class _Body:
    """Nodes under construction; `rename` gives values their names, and those of constants begin with `prefix`."""

    rename: Callable[[str], str]
    prefix: str
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    nodes: list[NodeProto] = field(default_factory=list)

    def add(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        names = [name if name in self.constants else self.rename(name) for name in inputs]
        self.nodes.append(helper.make_node(op_type, names, [self.rename(output)], **attributes))
        return output

    def constant(self, name: str, value: Any, dtype: Any) -> str:
        name = f"{self.prefix}{name}"
        self.constants[name] = np.asarray(value, dtype=dtype)
        return name

    def integers(self, value: str, output: str) -> str:
        return self.add("Cast", [value], output, to=TensorProto.INT32)

    def flat(self, value: str, output: str) -> str:
        return self.add("Reshape", [value, self.constant("flat", [-1], np.int64)], output)

    def total(self, value: str, output: str) -> str:
        return self.add("CumSum", [value, self.constant("first_axis", 0, np.int32)], output)


OPERATIONS: dict[str, Layout | None] = {
    NOTHING: None,
    WHOLE: BITS,
    **{f"SparseDecode{layout.name}{suffix}": layout for layout in LAYOUTS for suffix in ("", BY_INDEX)},
}
"""Operators of the domain, and the layout of the codes that each decodes."""


def operation(layout: Layout, nnz: int, length: int, dtype: str) -> str:
    """The operator for `length` codes of a layout that take `nnz` entries of a document's dtype."""
    if not nnz:
        return NOTHING
    if layout is BITS and not length % 8:
        return WHOLE
    return f"SparseDecode{layout.name}{BY_INDEX if dtype == 'bfloat16' else ''}"


def inputs_of(op_type: str) -> list[str]:
    """Names of an operator's inputs, in order; its output is called ``dense``."""
    layout = OPERATIONS[op_type]
    if layout is None:
        return ["values", "shape"]
    if op_type == WHOLE or layout.codes == 1:
        return ["codes", "values", "shape"]
    return ["codes", "length", "values", "shape"]


def expand(
    op_type: str, rename: Callable[[str], str], *, function: bool
) -> tuple[list[NodeProto], dict[str, NDArray[Any]]]:
    """Nodes that are one operator, and the constants that they take.

    Args:
        op_type: one of `OPERATIONS`.
        rename: gives each value its name: the operator's inputs, its output ``dense`` and what is between them.
        function: whether they are the body of a function, or written out.
    """
    body = _Body(rename, "c." if function else f"{DOMAIN}.")
    layout = OPERATIONS[op_type]
    if layout is None:
        body.add("Expand", [body.constant("nothing", 0, np.int32), "shape"], "index")
        body.add("Gather", ["values", "index"], "dense")
    elif op_type == WHOLE:
        _from_bits(body, "GatherElements" if function else "Gather")
    else:
        _from_codes(body, layout, by_index=op_type.endswith(BY_INDEX))
    return body.nodes, body.constants


def function(op_type: str, opset: int) -> FunctionProto:
    """The definition of an operator as a model-local function, for models of the given version of ai.onnx."""
    nodes, constants = expand(op_type, str, function=True)
    stored = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))
        for name, array in constants.items()
    ]
    imports = [helper.make_opsetid("", opset)]
    return helper.make_function(DOMAIN, op_type, inputs_of(op_type), ["dense"], stored + nodes, imports)


def call(op_type: str, names: Mapping[str, str]) -> NodeProto:
    """A node that calls an operator; `names` gives its inputs and its output their names."""
    inputs = [names[name] for name in inputs_of(op_type)]
    return helper.make_node(op_type, inputs, [names["dense"]], domain=DOMAIN)


def write_out(op_type: str, names: Mapping[str, str], prefix: str) -> tuple[list[NodeProto], dict[str, NDArray[Any]]]:
    """The nodes of an operator, the last one marked, and the constants that they take from the graph."""
    nodes, constants = expand(op_type, lambda name: names.get(name) or f"{prefix}.{name}", function=False)
    for node in nodes:
        node.name = node.output[0]
    return [*nodes[:-1], _marked(nodes[-1], op_type)], constants


def join(parts: list[str], name: str, axis: int) -> NodeProto:
    """The node that joins the chunks of a weight."""
    return _marked(helper.make_node("Concat", parts, [name], name=name, axis=axis), "join")


def gate(stage: int) -> str:
    """Name of the bool ``[1]``, always true, that becomes constant when a stage begins; stage 0 is at once."""
    return f"{DOMAIN}.s{stage}"


def gate_node(stage: int) -> NodeProto:
    """The node that makes the gate of a stage from the one before.

    onnxruntime replaces the If by its branch in one pass and evaluates the branch, whose shape it learns only then, in
    the next one.
    """
    before, name = gate(stage - 1), gate(stage)
    branches = {}
    for branch in ("then", "else"):
        node = helper.make_node("Compress", [before, before], [f"{name}.{branch}"])
        output = helper.make_tensor_value_info(f"{name}.{branch}", TensorProto.BOOL, [None])
        branches[f"{branch}_branch"] = helper.make_graph([node], branch, [], [output])
    return _marked(helper.make_node("If", [before], [name], **branches), "stage")


def delayed(stage: int, codes: str, name: str) -> NodeProto:
    """The node that hands out codes when a stage begins."""
    return _marked(helper.make_node("Where", [gate(stage), codes, codes], [name]), "stage")


def _marked(node: NodeProto, part: str) -> NodeProto:
    node.metadata_props.add(key=MARK, value=part)
    return node


@cache
def _table(layout: Layout) -> NDArray[np.uint8]:
    """uint8 ``[256, codes]``: the codes in each byte."""
    return (np.arange(256)[:, None] // layout.powers % layout.radix).astype(np.uint8)


def _from_bits(body: _Body, gather: str) -> None:
    """The whole bitmap: `gather` is GatherElements, ten times as fast in onnxruntime, or Gather, which all have."""
    body.integers("codes", "bytes")
    table = body.constant("bits", _table(BITS) == 0, np.bool_)
    body.add("Gather", [table, "bytes"], "bits")
    body.flat("bits", "kept")
    body.integers("kept", "taken")
    body.total("taken", "count")
    body.add("Mul", ["count", "taken"], "index")
    body.add(gather, ["values", "index"], "entries")
    body.add("Reshape", ["entries", "shape"], "dense")


def _from_codes(body: _Body, layout: Layout, *, by_index: bool) -> None:
    zero = body.constant("start", [0], np.int64)
    one = body.constant("one", 1, np.int32)
    code = _codes(body, layout, zero)
    body.add("Less", [code, body.constant(f"escape_{layout.name}", layout.escape, np.int32)], "kept")
    body.integers("kept", "taken")
    body.total("taken", "count")
    body.add("Mul", ["count", "taken"], "index")
    body.add("Gather", ["values", "index"], "entries")
    body.add("Add", [code, "taken"], "step")
    body.total("step", "end")
    body.add("Sub", ["end", one], "position")
    body.add("Slice", [code, zero, body.constant("stop", [1], np.int64)], "first")
    body.add("Sub", ["first", "first"], "zeroth")
    body.add("ReduceProd", ["shape"], "size", keepdims=1)
    if by_index:
        body.add("Expand", ["zeroth", "size"], "nowhere")
        body.add("Gather", ["values", "nowhere"], "zeros")
    else:
        body.add("Gather", ["values", "zeroth"], "zero")
        body.add("Expand", ["zero", "size"], "zeros")
    body.add("ScatterElements", ["zeros", "position", "entries"], "flat")
    body.add("Reshape", ["flat", "shape"], "dense")


def _codes(body: _Body, layout: Layout, zero: str) -> str:
    """The codes one by one, int32 ``[length]``."""
    if layout.width == 1 and layout.codes == 1:
        return body.integers("codes", "code")
    if layout.width == 1:
        body.integers("codes", "bytes")
        table = body.constant(f"table_{layout.name}", _table(layout), np.uint8)
        body.add("Gather", [table, "bytes"], "digits")
        body.flat("digits", "digit")
        body.add("Slice", ["digit", zero, "length"], "counted")
        return body.integers("counted", "code")
    body.add("Reshape", ["codes", body.constant(f"words_{layout.width}", [-1, layout.width], np.int64)], "columns")
    body.integers("columns", "bytes")
    word = ""
    for place in range(layout.width):
        part = body.constant(f"column_{place}", [place], np.int64)
        body.add("Gather", ["bytes", part], f"byte_{place}", axis=1)
        if not place:
            word = "byte_0"
            continue
        scale = body.constant(f"scale_{place}", 256**place, np.int32)
        body.add("Mul", [f"byte_{place}", scale], f"scaled_{place}")
        word = body.add("Add", [word, f"scaled_{place}"], f"word_{place}")
    if layout.codes == 1:
        return body.flat(word, "code")
    body.add("Div", [word, body.constant(f"powers_{layout.name}", layout.powers, np.int32)], "quotients")
    body.add("Mod", ["quotients", body.constant(f"radix_{layout.name}", layout.radix, np.int32)], "digits")
    body.flat("digits", "digit")
    return body.add("Slice", ["digit", zero, "length"], "code")
