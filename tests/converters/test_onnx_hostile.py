"""ONNX files that are broken or made to harm: one clear error, in bounded time and memory, and no misreading."""

from __future__ import annotations

import contextlib
import copy
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto
from onnx.helper import make_function, make_graph, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array

import deepstruct
from deepstruct import Mask, io
from deepstruct.converters import onnx_packed, onnx_packed_operators
from deepstruct.errors import DeepstructError, MalformedFileError
from deepstruct.limits import Limits

X, Y = (make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
CONDITION = make_tensor_value_info("c", TensorProto.BOOL, [])
OPSETS = [make_opsetid("", 20), make_opsetid("f", 1)]
ONES = np.ones(2, np.float32)
HUGE = [2**62, 2**62]


def model(
    nodes: Iterable[NodeProto], *tensors: Any, functions: Iterable[FunctionProto] = (), **notes: str
) -> ModelProto:
    dense = [tensor for tensor in tensors if isinstance(tensor, TensorProto)]
    sparse = [tensor for tensor in tensors if isinstance(tensor, SparseTensorProto)]
    graph = make_graph(list(nodes), "g", [X, CONDITION], [Y], dense, sparse_initializer=sparse)
    made = ModelProto(ir_version=10, graph=graph, opset_import=OPSETS, functions=functions)
    for key, text in notes.items():
        made.metadata_props.add(key=f"deepstruct.{key}", value=text)
    return made


def relu(source: str, target: str) -> NodeProto:
    return make_node("Relu", [source], [target])


def add(other: str, target: str = "y") -> NodeProto:
    return make_node("Add", ["x", other], [target])


def call(name: str, source: str, target: str, **attributes: Any) -> NodeProto:
    return make_node(name, [source], [target], domain="f", **attributes)


def function(name: str, *nodes: NodeProto, inputs: Iterable[str] = ("a",)) -> FunctionProto:
    return make_function("f", name, list(inputs), ["b"], list(nodes), OPSETS)


def branch(*nodes: NodeProto, result: str = "o", tensors: Iterable[TensorProto] = ()) -> GraphProto:
    return make_graph(list(nodes), "g", [], [make_tensor_value_info(result, TensorProto.FLOAT, None)], list(tensors))


def decide(then: GraphProto, target: str = "y", name: str = "if") -> NodeProto:
    return make_node("If", ["c"], [target], name=name, then_branch=then, else_branch=then)


def dense(dims: Iterable[int] = (2,), kind: int = TensorProto.FLOAT, **data: Any) -> TensorProto:
    return TensorProto(name="w", data_type=kind, dims=dims, **data)


def sparse(indices: Any, dims: Iterable[int] = (2,), values: Any = (1.0,), name: str = "w") -> SparseTensorProto:
    found = from_array(np.array(values, np.float32), name)
    return SparseTensorProto(values=found, indices=from_array(np.array(indices, np.int64)), dims=dims)


def attribute(**fields: Any) -> ModelProto:
    node = make_node("LeakyRelu", ["x"], ["y"])
    node.attribute.append(AttributeProto(name="alpha", **fields))
    return model([node])


def twice(node: NodeProto) -> NodeProto:
    node.attribute.append(copy.deepcopy(node.attribute[0]))
    node.attribute[1].f = 0.25
    return node


def varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + varint(value >> 7)


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def nested(depth: int) -> bytes:
    """Branches within branches, deeper than the classes of messages can be put together."""
    graph = branch(relu("x", f"o{depth}"), result=f"o{depth}").SerializeToString()
    for level in range(depth, 0, -1):
        out, spare = f"o{level - 1}" if level > 1 else "y", branch(relu("x", f"p{level}"), result=f"p{level}")
        arms = field(5, field(1, b"then_branch") + field(6, graph) + field(20, 5))
        arms += field(5, field(1, b"else_branch") + field(6, spare.SerializeToString()) + field(20, 5))
        graph = field(1, field(1, b"c") + field(2, out.encode()) + field(4, b"If") + arms) + field(2, b"g")
        graph += field(12, make_tensor_value_info(out, TensorProto.FLOAT, None).SerializeToString())
    graph += b"".join(field(11, value.SerializeToString()) for value in (X, CONDITION))
    return field(1, 10) + field(7, graph) + field(8, field(2, 20))


W = from_array(ONES, "w")
CONSTANT = make_node("Constant", [], ["k"], value=from_array(ONES))
REFERRING = make_node("LeakyRelu", ["a"], ["b"])
REFERRING.attribute.add(name="alpha", type=AttributeProto.FLOAT, ref_attr_name="al")
CAPTURING = function("g", make_node("Add", ["a", "w"], ["b"]))
UNDEFINED = make_node("Cast", ["x"], ["y"], to=0)

REFUSED: dict[str, tuple[ModelProto | bytes, str]] = {
    "empty": (b"", "no ONNX model"),
    "zip": (b"PK\x03\x04" + bytes(50), "no ONNX model"),
    "zeros": (bytes(1000), "no ONNX model"),
    "nested beyond what readers take": (nested(40), "no ONNX model"),
    "2^60 elements of 10 bytes": (model([add("w")], dense([2**60], raw_data=b"0123456789")), "'w' is inconsistent"),
    "dims whose product overflows": (model([add("w")], dense(HUGE, raw_data=b"0123")), "'w'"),
    "negative dims": (model([add("w")], dense([-2], raw_data=bytes(8))), "'w' is inconsistent"),
    "unknown extent": (model([add("w")], dense([-1], float_data=[1, 2])), "'w' is inconsistent"),
    "empty and huge": (model([add("w")], dense([0, 2**62], TensorProto.FLOAT8E4M3FN)), r"a\.onnx.*'w'"),
    "typed data of another count": (model([add("w")], dense(float_data=[1] * 3)), "'w' is inconsistent"),
    "segment": (model([add("w")], dense(raw_data=bytes(8), segment={"begin": 0, "end": 2})), "segment"),
    "data twice": (model([add("w")], dense(raw_data=bytes(8), float_data=[1, 2])), "'w' is inconsistent"),
    "int4 of another size": (model([add("w")], dense([2], TensorProto.INT4, raw_data=bytes(3))), "'w' is inconsistent"),
    "undefined data type": (model([add("w")], dense(kind=0, raw_data=bytes(8))), "no valid data type"),
    "unknown data type": (model([add("w")], dense(kind=99, raw_data=bytes(8))), "no valid data type"),
    "sparse without indices": (model([add("w")], SparseTensorProto(values=W, dims=[2])), "indices of w"),
    "sparse of huge dims": (model([add("w")], sparse([1], HUGE)), "MAX_MASK_ELEMENTS"),
    "sparse rank": (model([add("w")], sparse([1], [1] * 65)), "more than 64 dimensions"),
    "sparse index min": (model([add("w")], sparse([-(2**63)])), "outside"),
    "sparse index max": (model([add("w")], sparse([[2**63 - 1]])), "outside"),
    "sparse 3d": (model([add("w")], sparse([[[1]]])), "indices have shape"),
    "initializer without name": (model([relu("x", "y")], from_array(ONES, "")), "no name"),
    "initializer in a branch without name": (
        model([decide(branch(add("w", "o"), tensors=[from_array(ONES, "")]))]),
        "no name",
    ),
    "initializer twice in a branch": (model([decide(branch(add("w", "o"), tensors=[W, W]))]), "called 'w'"),
    "output that nobody makes": (model([]), "UNRESOLVED_REFERENCE"),
    "output of a branch that nobody makes": (model([decide(branch(relu("x", "q")))]), "UNRESOLVED_REFERENCE"),
    "branch that takes its own result": (model([decide(branch(relu("y", "o")))]), "'y'"),
    "long cycle": (
        model([relu(f"a{(i - 1) % 2000}", f"a{i}") for i in range(2000)] + [relu("a5", "y")]),
        "GRAPH_CYCLE",
    ),
    "value twice": (model([relu("x", "y"), relu("x", "y")]), "DUPLICATE_NAME"),
    "function that calls itself": (
        model([call("g", "x", "y")], functions=[function("g", call("g", "a", "b"))]),
        "itself",
    ),
    "functions that call each other": (
        model(
            [call("g", "x", "y")], functions=[function("g", call("h", "a", "b")), function("h", call("g", "a", "b"))]
        ),
        "itself",
    ),
    "function that calls itself in a branch": (
        model(
            [make_node("g", ["x", "c"], ["y"], domain="f")],
            functions=[
                function("g", decide(branch(make_node("g", ["a", "c"], ["o"], domain="f")), "b"), inputs=["a", "c"])
            ],
        ),
        "itself",
    ),
    "function twice": (model([call("g", "x", "y")], functions=[function("g", relu("a", "b"))] * 2), "DUPLICATE_NAME"),
    "function that takes from outside": (model([call("g", "x", "y")], W, functions=[CAPTURING]), "'w'"),
    "attribute without type": (attribute(), "no valid type"),
    "attribute of another type": (attribute(type=AttributeProto.FLOAT, i=1, ref_attr_name="q"), "body of a function"),
    "attribute of two values": (attribute(f=0.5, i=3), "alpha"),
    "attribute of one type and two values": (attribute(type=AttributeProto.FLOAT, f=0.5, floats=[1]), "alpha"),
    "attribute twice": (model([twice(make_node("LeakyRelu", ["x"], ["y"], alpha=0.5))]), "alpha"),
    "attribute without numbers": (attribute(type=AttributeProto.SPARSE_TENSOR), "LeakyRelu"),
    "unmarked gate": (model([make_node("If", ["c"], [])]), "OPERATOR_ARITY|If"),
    "mask of 2^40 entries": (
        model([add("w")], W, masks='{"w": {"encoding": "bitmap", "nnz": 1099511627776, "data": ""}}'),
        "mask of 'w'",
    ),
    "masks of another shape": (
        model([add("w")], W, masks='{"w": {"encoding": "coo", "nnz": 1, "indices": [[9]]}}'),
        "mask",
    ),
    "masks twice": (model([add("w")], W, masks='{"w": true, "w": true}'), "twice"),
    "masks of a list": (model([add("w")], W, masks="[1]"), "no JSON object"),
    "deep masks": (model([add("w")], W, masks="[" * 100_000), "MAX_DEPTH"),
    "unused without name": (
        model([relu("x", "y")], unused='{"": {"dtype": "float32", "shape": [], "data": [1]}}'),
        r"a\.onnx",
    ),
    "unused of 2^40 elements": (
        model([relu("x", "y")], unused='{"u": {"dtype": "float32", "shape": [1099511627776], "data": []}}'),
        "unused",
    ),
    "unused string": (
        model([relu("x", "y")], unused='{"u": {"dtype": "string", "shape": [1], "data": ["a"]}}'),
        "unused",
    ),
}
for version in (0, -1, 2**40, -(2**63)):
    changed = model([relu("x", "y")])
    changed.opset_import[0].version = version
    REFUSED[f"opset {version}"] = changed, "positive integer"
marked = model([make_node("If", ["c"], []), relu("x", "y")])
marked.graph.node[0].metadata_props.add(key=onnx_packed_operators.MARK, value="stage")
REFUSED["gate without output"] = marked, "OPERATOR_ARITY"


def write(path: Path, content: ModelProto | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def everything(path: Path) -> Iterator[Callable[[], Any]]:
    """What a person can do with a model, written beside it."""
    out = path.with_name("out")
    yield lambda: [deepstruct.load(path, losses=[]).weights]
    yield lambda: io.ledger(path)
    yield lambda: deepstruct.convert(path, out.with_suffix(".structure.json"))
    for encoding in ("dense", "packed"):
        yield partial(deepstruct.convert, path, out.with_suffix(".onnx"), sparse_encoding=encoding)
    yield lambda: deepstruct.convert(path, out.with_suffix(".onnx"), external_data=True, opset=22)


@pytest.mark.parametrize("name", REFUSED)
def test_broken_models_are_refused_everywhere(name: str, tmp_path: Path) -> None:
    content, reason = REFUSED[name]
    path = write(tmp_path / "a.onnx", content)
    for step in everything(path):
        with pytest.raises(DeepstructError, match=reason) as caught:
            step()
        assert "a.onnx" in str(caught.value)
        assert len(str(caught.value)) < 4000
    assert [file.name for file in tmp_path.iterdir()] == ["a.onnx"]


def rich() -> ModelProto:
    """A model with something of everything."""
    first = branch(add("w", "o"), tensors=[W])
    second = function("h", CONSTANT, relu("a", "q"), decide(branch(relu("q", "o")), "b"), inputs=["a", "c"])
    custom = make_node("Own", ["z3", "i4", "st"], ["z4"], domain="f", ints=[1, 2], floats=[0.5], strings=["a"], t=W)
    nodes = [
        make_node("Constant", [], ["k"], sparse_value=sparse([1], name="")),
        decide(first, "z"),
        make_node("Add", ["z", "k"], ["z1"]),
        call("g", "z1", "z2", al=0.5),
        make_node("h", ["z2", "c"], ["z3"], domain="f"),
        custom,
        make_node("Add", ["z4", "v"], ["z5"]),
        make_node("Add", ["z5", "s"], ["y"]),
    ]
    referring = function("g", REFERRING)
    referring.attribute.append("al")
    four = TensorProto(name="i4", data_type=TensorProto.INT4, dims=[3], raw_data=b"\x21\x03")
    text = TensorProto(name="st", data_type=TensorProto.STRING, dims=[2], string_data=[b"a", b"b"])
    notes = {
        "masks": '{"v": true}',
        "parameters": '{"i4": true}',
        "unused": "{}",
        "attributes": '{"a": [1, {"b": null}]}',
    }
    made = model(
        nodes, four, text, from_array(ONES, "v"), sparse([[1]], name="s"), functions=[referring, second], **notes
    )
    made.graph.node[0].metadata_props.add(key="deepstruct.scope", value="s")
    return made


def packed(*, flat: bool = False, chunk: int = onnx_packed.CHUNK) -> ModelProto:
    """A model whose weight ``w`` is packed; its product with the unit matrix is the weight."""
    kept = np.zeros((40, 30), np.bool_)
    kept.reshape(-1)[::7] = True
    mask = Mask.from_array(kept)
    plan = {"w": onnx_packed.plan("w", mask, "float32", chunk=chunk)}
    parts = onnx_packed.assemble(plan, 20, function=not flat)
    tensors = [*parts.initializers, *onnx_packed.initializers(plan["w"], mask, np.ones(mask.nnz, np.float32))]
    made = model([*parts.nodes, make_node("MatMul", ["x", "w"], ["y"])], *tensors, functions=parts.functions)
    made.opset_import.append(make_opsetid("deepstruct", 1))
    for value, extent in ((made.graph.input[0], 40), (made.graph.output[0], 30)):
        value.CopyFrom(make_tensor_value_info(value.name, TensorProto.FLOAT, ["n", extent]))
    return made


def test_files_cut_off_anywhere_are_refused(tmp_path: Path) -> None:
    for content in (rich().SerializeToString(), packed().SerializeToString()):
        for length in [*range(200), *range(200, len(content) - 1, 37)]:
            path = write(tmp_path / "a.onnx", content[:length])
            with contextlib.suppress(DeepstructError):  # the end of a field may be the end of a whole model
                deepstruct.load(path, losses=[])


INTS = [0, 1, -1, 2, 7, 9, 16, 22, 64, 65, 255, 2**31 - 1, -(2**31), 2**31, 2**40, 2**53, 2**62, 2**63 - 1, -(2**63)]
TEXTS = [
    "",
    "x",
    "w",
    "\0",
    "a\n",
    "../x",
    "é",
    "x" * 300,
    "If",
    "value",
    "sparse_value",
    "stage",
    "join",
    "[",
    "9" * 19,
]
BYTES = [b"", b"\xff", bytes(3), bytes(8), b"\xff" * 8]


def parts_of(message: Any) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in [value] if hasattr(value, "ListFields") else value:
                yield from parts_of(item)


def mutate(message: ModelProto, rng: random.Random) -> None:
    """Changes one field of one message somewhere: away, twice, elsewhere, or to a value that hurts."""
    messages = list(parts_of(message))
    target = rng.choice(messages)
    field = rng.choice([field for field, _ in target.ListFields()] or list(target.DESCRIPTOR.fields))
    value, action = getattr(target, field.name), rng.random()
    repeated = hasattr(value, "extend")
    if action < 0.2:
        target.ClearField(field.name)
    elif field.message_type is not None:
        donors = [found for found in messages if found.DESCRIPTOR is field.message_type]
        donor = copy.deepcopy(rng.choice(donors)) if donors else None
        if repeated and donor is not None:
            value.append(donor) if action < 0.6 or not value else value[rng.randrange(len(value))].CopyFrom(donor)
        elif donor is not None:
            value.CopyFrom(donor)
    else:
        kinds: dict[int, list[Any]] = {
            field.TYPE_STRING: TEXTS,
            field.TYPE_BYTES: BYTES,
            field.TYPE_FLOAT: [0.0, 1e30, float("nan")],
        }
        new = rng.choice(kinds.get(field.type, INTS))
        with contextlib.suppress(ValueError):  # no such number of an enum, or of 32 bits
            if repeated and value and action < 0.7:
                value[rng.randrange(len(value))] = new
            elif repeated:
                value.append(new)
            else:
                setattr(target, field.name, new)


@pytest.mark.parametrize("name", ["rich", "functions", "flat", "chunks"])
def test_damaged_models_are_refused_or_read(name: str, tmp_path: Path) -> None:
    good = {"rich": rich(), "functions": packed(), "flat": packed(flat=True), "chunks": packed(chunk=200)}[name]
    rng = random.Random(name)
    assert deepstruct.load(write(tmp_path / "a.onnx", good), losses=[]).structure
    for number in range(150):
        damaged = ModelProto.FromString(good.SerializeToString())
        for _ in range(rng.choice([1, 1, 2, 3])):
            mutate(damaged, rng)
        content = bytearray(damaged.SerializeToString())
        if number % 4 == 0:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path = write(tmp_path / "a.onnx", bytes(content))
        steps = list(everything(path))
        for step in (steps[0], steps[1], steps[2 + number % 4]):
            with contextlib.suppress(DeepstructError):
                step()


def test_text_that_is_no_text_is_refused_in_every_field(tmp_path: Path) -> None:
    marker, found = "\x01\x02\x03", 0
    for position in range(len(list(parts_of(rich())))):
        good = rich()
        part = list(parts_of(good))[position]
        for field, value in part.ListFields():
            if field.type != field.TYPE_STRING:
                continue
            if isinstance(value, str):
                setattr(part, field.name, marker)
            else:
                value[0] = marker
            content = good.SerializeToString().replace(marker.encode(), b"\xff\xfe\xfd")
            with pytest.raises(MalformedFileError, match=f"{field.name} is no UTF-8 text|no ONNX model"):
                deepstruct.load(write(tmp_path / "a.onnx", content))
            setattr(part, field.name, value) if isinstance(value, str) else value.__setitem__(0, "")
            found += 1
    assert found > 100


def place(folder: Path) -> Path:
    (folder / "inside").mkdir()
    (folder / "secret").write_bytes(ONES.tobytes())
    (folder / "inside" / "w").write_bytes(ONES.tobytes())
    return folder / "inside"


LINKS = {"file": "../secret", "folder": "..", "device": "/dev/zero", "chain": "chained", "loop": "loop"}
ELSEWHERE: dict[str, dict[str, str]] = {
    **{
        f"location {name!r:.20}": {"location": name}
        for name in ["../secret", "/dev/zero", "w\0", "", ".", "a.onnx/w", "w/"]
    },
    **{f"link to a {name}": {"location": name} for name in LINKS},
    "link to a folder, and on": {"location": "folder/secret"},
    "folder": {"location": "sub"},
    "pipe": {"location": "pipe"},
    "long name": {"location": "w" * 5000},
    **{
        f"offset {text!r:.20}": {"offset": text}
        for text in ["-1", "1", "0x0", "", " 0", "9" * 17, "9" * 4000, "nan", "٣"]
    },
    **{f"length {text!r:.20}": {"length": text} for text in ["-1", "0", "7", "8.0", "9" * 18]},
}


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes")
@pytest.mark.parametrize("case", ELSEWHERE)
def test_nothing_is_read_outside_of_the_folder_or_beyond_a_file(case: str, tmp_path: Path) -> None:
    folder = place(tmp_path)
    for name, target in LINKS.items():
        (folder / name).symlink_to(target)
    (folder / "chained").symlink_to("file")
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe")
    tensor = dense(data_location=TensorProto.EXTERNAL)
    for key, text in ({"location": "w"} | ELSEWHERE[case]).items():
        tensor.external_data.add(key=key, value=text)
    with pytest.raises(DeepstructError, match="inside"):
        deepstruct.convert(write(folder / "a.onnx", model([add("w")], tensor)), tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def ladder(depth: int, width: int) -> list[FunctionProto]:
    """Functions of which each calls the next one `width` times."""
    last = [function(f"f{depth}", relu("a", "b"))]
    names = ["a", *(f"m{i}" for i in range(1, width)), "b"]
    return last + [
        function(f"f{i}", *(call(f"f{i + 1}", names[j], names[j + 1]) for j in range(width))) for i in range(1, depth)
    ]


def doing_nothing(number: int) -> ModelProto:
    """A model of many packed weights without entries, each as large as a mask may be."""
    made, kind = packed(), onnx_packed_operators.NOTHING
    made.functions.append(onnx_packed_operators.function(kind, 20))
    made.graph.initializer.extend([from_array(ONES[:1] * 0, "v"), from_array(np.array([2**31 - 1]), "s")])
    made.graph.node.extend(make_node(kind, ["v", "s"], [f"w{i}"], domain="deepstruct") for i in range(number))
    return made


def gates(number: int) -> ModelProto:
    nodes = [onnx_packed_operators.gate_node(i) for i in range(1, number)]
    made = model(nodes, from_array(np.array([True]), onnx_packed_operators.gate(0)))
    made.graph.output[0].CopyFrom(make_tensor_value_info(onnx_packed_operators.gate(number - 1), TensorProto.BOOL, [1]))
    return made


SLOW: dict[str, Callable[[], ModelProto | bytes]] = {
    "functions that call each other exponentially often": lambda: model(
        [call("f1", "x", "y")], functions=ladder(40, 2)
    ),
    "a long chain of functions": lambda: model([call("f1", "x", "y")], functions=ladder(1000, 1)),
    "deep branches": lambda: nested(31),
    "many names that nothing has": lambda: model([relu(f"n{i}", f"v{i}") for i in range(3000)] + [relu("x", "y")]),
    "branches that hide names": lambda: model(
        [
            relu("x", "v"),
            *(decide(branch(relu("x", "v"), result="v"), f"y{i}", "q") for i in range(2000)),
            relu("v", "y"),
        ]
    ),
    "a long list": lambda: model([call("Own", "x", "y", ints=list(range(200_000)))]),
    "many gates": lambda: gates(1000),
    "many huge masks": lambda: doing_nothing(40),
    "undefined type to cast to": lambda: model([UNDEFINED]),
}


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits")
@pytest.mark.parametrize("name", SLOW)
def test_time_and_memory_are_bounded(name: str, tmp_path: Path) -> None:
    import resource

    path, memory = write(tmp_path / "a.onnx", SLOW[name]()), 3 * 2**30
    done = subprocess.run(
        [sys.executable, "-m", "deepstruct", "convert", str(path), str(tmp_path / "b.onnx")],
        timeout=10,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory)),
    )
    assert done.returncode in (0, 3, 4), done.stderr
    assert "not enough memory" not in done.stderr
    assert (tmp_path / "b.onnx").exists() == (done.returncode == 0)


def test_masks_of_all_tensors_together_are_bounded(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", model([add("w"), relu("v", "z")], sparse([1]), sparse([1], name="v")))
    with pytest.raises(MalformedFileError, match="MAX_TOTAL_MASK_ELEMENTS"):
        deepstruct.load(path, limits=Limits(total_mask_elements=3))


def swap(made: ModelProto, kind: str) -> None:
    node = next(node for node in made.functions[0].node if node.op_type == kind)
    node.input[0], node.input[1] = node.input[1], node.input[0]


def elsewhere(nodes: Iterable[NodeProto], kind: str) -> None:
    next(node for node in nodes if node.op_type == kind).domain = "f"


OTHERS: dict[str, Callable[[ModelProto], Any]] = {
    "inputs in another order": lambda made: swap(made, "Sub"),
    "another attribute": lambda made: made.functions[0].node[-4].attribute.add(name="axis", type=2, i=1),
    "another domain": lambda made: elsewhere(made.functions[0].node, "Cast"),
    "constants of another domain": lambda made: elsewhere(made.functions[0].node, "Constant"),
    "another operator set": lambda made: setattr(made.functions[0].opset_import[0], "version", 1),
    "another definition": lambda made: made.functions[0].CopyFrom(
        make_function(
            "deepstruct", made.functions[0].name, list("abcd"), ["e"], [make_node("Identity", ["b"], ["e"])], OPSETS
        )
    ),
    "an attribute in the call": lambda made: made.graph.node[0].attribute.add(name="q", type=2, i=1),
    "an overload": lambda made: setattr(made.functions[0], "overload", "q"),
    "an input of the graph": lambda made: made.graph.input.append(
        make_tensor_value_info("deepstruct.shape.40x30", TensorProto.INT64, [2])
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_only_looks_packed_is_not_taken_for_it(name: str, tmp_path: Path) -> None:
    made = packed()
    OTHERS[name](made)
    with contextlib.suppress(DeepstructError):
        read = deepstruct.load(write(tmp_path / "a.onnx", made), losses=[])
        assert "w" not in {parameter.name for parameter in read.structure.parameters}


@pytest.mark.parametrize("kind", ["Concat", "Where", "If"])
def test_operators_of_others_do_not_join_chunks(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_packed, "_STAGE_BYTES", 1)
    made = packed(chunk=200)
    elsewhere(made.graph.node, kind)
    with contextlib.suppress(DeepstructError):
        read = deepstruct.load(write(tmp_path / "a.onnx", made), losses=[])
        assert kind in {node.op_type for node in read.structure.nodes}


def test_a_function_without_operator_set_is_no_bug(tmp_path: Path) -> None:
    made = packed()
    del made.opset_import[-1]
    with contextlib.suppress(DeepstructError):
        deepstruct.load(write(tmp_path / "a.onnx", made), losses=[])


@pytest.mark.parametrize("form", ["a.structure.json", "a.onnx"])
def test_names_come_back_again_and_again(form: str, tmp_path: Path) -> None:
    first = deepstruct.load(write(tmp_path / "b.onnx", rich()), losses=[])
    deepstruct.save(first, tmp_path / form)
    second = deepstruct.load(tmp_path / form)
    assert second.structure.functions == first.structure.functions
    assert second == first


@pytest.mark.parametrize("form", ["raw", "typed", "sparse"])
def test_bools_other_than_0_and_1_are_true(form: str, tmp_path: Path) -> None:
    numbers = bytes([255, 2, 1, 0] * 500)
    tensor: Any = dense([2000], TensorProto.BOOL, raw_data=numbers)
    if form == "typed":
        tensor = dense([2000], TensorProto.BOOL, int32_data=list(numbers))
    if form == "sparse":
        indices = from_array(np.arange(2000))
        tensor = SparseTensorProto(values=tensor, indices=indices, dims=[4000])
    made = model([make_node("Not", ["w"], ["y"])], tensor)
    made.graph.output[0].CopyFrom(make_tensor_value_info("y", TensorProto.BOOL, list(tensor.dims)))
    read = deepstruct.load(write(tmp_path / "a.onnx", made))
    assert set(read.weights.kept("w").tobytes()) == {0, 1} if read.weights else False
    deepstruct.save(read, tmp_path / "b.structure.json")
    assert deepstruct.load(tmp_path / "b.structure.json") == read
