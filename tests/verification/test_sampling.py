"""Inputs for two networks: shapes, kinds, ids that stay in range, files of tensors; interfaces and randomness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from deepstruct import Node, Parameter, Structure, Tensor, ValueInfo
from deepstruct.errors import MalformedFileError, UnreadableFileError, UsageError
from deepstruct.structure import Function, Graph
from deepstruct.testing import feed_forward
from deepstruct.verification.extents import Assignment, CannotSampleError
from deepstruct.verification.interface import interface_faults, randomness
from deepstruct.verification.sampling import Case, Sampler, from_npz


def taking(*inputs: ValueInfo, nodes: tuple[Node, ...] = (), **members: Any) -> Structure:
    """A structure with some inputs, which hands on the last one unless it has nodes of its own."""
    nodes = nodes or (Node("id", "Identity", (inputs[-1].name,), ("y",)),)
    return Structure(nodes=nodes, inputs=inputs, outputs=(ValueInfo(nodes[-1].outputs[0], None, None),), **members)


def of(*shape: int | str | None, name: str = "x", dtype: str = "float32") -> ValueInfo:
    return ValueInfo(name, dtype, shape)


def first(a: Structure, b: Structure | None = None, **options: Any) -> tuple[Sampler, Assignment]:
    sampler = Sampler(a, a if b is None else b, **options)
    return sampler, sampler.candidates()[0]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((2, 3), (2, 3), ("x", (2, 3))),
        (("n", 3), ("m", 3), ("x", (None, 3))),
        (("n", 3), (5, 3), ("x", (5, 3))),
        ((None, 3), (None, 4), ("x", (None, 3))),
        (("n", "n"), ("n", 4), ("x", (4, 4))),
        (("n", 3, "h", "w"), (None, 3, None, None), ("x", (None, 3, 32, 32))),
        (("n", "s", 3), ("n", "s", 3), ("x", (None, 8, 3))),
    ],
)
def test_open_and_fixed_extents(a: Any, b: Any, expected: Any) -> None:
    assert first(taking(of(*a)), taking(of(*b)))[1].shapes == dict([expected])


def test_an_unknown_rank_is_taken_from_the_other_side() -> None:
    unknown = taking(ValueInfo("x", "float32", None))
    assert first(unknown, taking(of("n", 4)))[1].shapes == {"x": (None, 4)}
    with pytest.raises(CannotSampleError, match=r"the rank of the input 'x' is unknown; --input-shape x=N"):
        Sampler(unknown, unknown)
    assert first(unknown, shapes={"x": (2, 3)})[1].shapes == {"x": (2, 3)}
    with pytest.raises(CannotSampleError, match="another rank"):
        Sampler(taking(of(2)), taking(of(2, 3)))


def test_the_batch_is_the_name_that_all_inputs_share() -> None:
    ids, mask, state = of("s", "n", name="ids"), of("s", "n", name="mask"), of(2, "n", 4, name="h")
    assert first(taking(ids, mask, state))[1].shapes == {"ids": (8, None), "mask": (8, None), "h": (2, None, 4)}
    assert first(taking(ids, mask))[1].shapes == {"ids": (None, 8), "mask": (None, 8)}
    unnamed = taking(of(None, None, name="a"), of(2, None, 128, name="b"), of(name="c"))
    assert first(unnamed)[1].shapes == {"a": (None, 8), "b": (2, None, 128), "c": ()}


def test_candidates_try_other_extents_but_keep_what_belongs_together() -> None:
    candidates = Sampler(
        taking(of("n", "t"), of("t", 3, name="z")), taking(of("n", "t"), of("t", 3, name="z"))
    ).candidates()
    assert 2 <= len(candidates) <= 12
    assert len({tuple(c.shapes.items()) for c in candidates}) == len(candidates)
    fixed = Sampler(taking(of(2, 3)), taking(of(2, 3))).candidates()
    assert len(fixed) == 1
    assert not fixed[0].has_batch
    several = Sampler(taking(of("b", "t"), of("b", "t", name="z")), taking(of("b", "t"), of("b", "t", name="z")))
    assert all(c.shapes["x"][1] == c.shapes["z"][1] for c in several.candidates())


def test_shapes_may_be_asked_for() -> None:
    a = taking(of("n", 3, "t"), of("t", name="z"))
    assert first(a, shapes={"x": (-1, 3, 5)})[1].shapes == {"x": (None, 3, 5), "z": (5,)}
    cases: list[tuple[dict[str, tuple[int, ...]], str]] = [
        ({"y": (1,)}, "there is no input 'y'"),
        ({"x": (1, 2)}, "2 extents for a tensor of rank 3"),
        ({"x": (1, 4, 5)}, "the extent of axis 1 is 3, not 4"),
        ({"x": (1, 3, -2)}, "axis 2"),
    ]
    for shapes, message in cases:
        with pytest.raises(UsageError, match=message):
            Sampler(a, a, shapes=shapes)


def test_the_same_seed_gives_the_same_inputs_in_any_order() -> None:
    a = feed_forward()
    sampler, assignment = first(a, seed=3)
    cases = sampler.cases(assignment)
    once = {case: sampler.inputs(assignment, case)["x"] for case in cases}
    again, _ = first(a, seed=3)
    for case in reversed(cases):
        np.testing.assert_array_equal(again.inputs(assignment, case)["x"], once[case])
    other, _ = first(a, seed=4)
    assert (other.inputs(assignment, cases[0])["x"] != once[cases[0]]).all()
    assert {case.batch for case in cases} == {0, 1, 2, 3, 17}
    assert [case.is_ordinary for case in cases].index(False) == 4
    assert str(cases[0]) == "normal inputs, batch 2"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "complex64"])
def test_every_kind_in_every_dtype(dtype: str) -> None:
    sampler, assignment = first(taking(of("n", 7, dtype=dtype)))
    made = {kind: sampler.inputs(assignment, Case(kind, 3))["x"] for kind in ("normal", "ones", "zeros", "one-hot")}
    made |= {kind: sampler.inputs(assignment, Case(kind, 3))["x"] for kind in ("extremes", "denormals", "cancellation")}
    assert {array.dtype.name for array in made.values()} == {dtype}
    assert {array.shape for array in made.values()} == {(3, 7)}
    wide = {kind: array.astype(np.complex128) for kind, array in made.items()}
    assert all(np.isfinite(array).all() for array in wide.values())
    assert (wide["zeros"] == 0).all()
    assert (wide["one-hot"].real != 0).sum(axis=1).tolist() == [1, 1, 1]
    if dtype != "complex64":
        info = ml_dtypes.finfo(made["normal"].dtype)  # type: ignore[no-untyped-call]  # ml_dtypes leaves it untyped
        assert set(np.abs(wide["extremes"].real).ravel()) == {float(info.max) / 2}
        assert 0 < np.abs(wide["denormals"].real).max() <= 3 * float(info.smallest_subnormal)
        magnitudes = np.abs(wide["cancellation"].real)
        assert (magnitudes == magnitudes[:, :1]).all()
        assert (np.diff(np.sign(wide["cancellation"].real), axis=1) != 0).all()


def test_one_lane_is_spoiled_and_no_other_sample() -> None:
    sampler, assignment = first(taking(of("n", 4)))
    nan = sampler.inputs(assignment, Case("nan-lane", 3))["x"]
    inf = sampler.inputs(assignment, Case("inf-lane", 3))["x"]
    assert np.isnan(nan).sum() == np.isinf(inf).sum() == 1
    assert np.isfinite(nan[1:]).all()
    assert np.isfinite(inf[1:]).all()


def test_one_hot_rows_are_different_basis_vectors() -> None:
    sampler, assignment = first(taking(of("n", 2, 3)))
    rows = sampler.inputs(assignment, Case("one-hot", 6))["x"].reshape(6, 6)
    assert (rows.sum(axis=0) == 1).all()
    assert (rows.sum(axis=1) == 1).all()
    alone, fixed = first(taking(of(2, 3)))
    assert alone.inputs(fixed, Case("one-hot", 1))["x"].sum() == 1


def test_integers_bools_and_words() -> None:
    inputs = [of("n", 50, name=name, dtype=name) for name in ("int64", "int8", "uint8", "int4", "bool", "string")]
    sampler, assignment = first(taking(*inputs, of("n", 50)))
    values = sampler.inputs(assignment, Case("normal", 20))
    assert set(values["int64"].ravel()) == {0, 1}
    assert values["int8"].min() < -100
    assert values["uint8"].max() > 200
    assert values["int4"].astype(int).min() == -8
    assert set(values["bool"].ravel()) == {False, True}
    assert all(isinstance(word, str) for word in values["string"].ravel())
    small = sampler.inputs(assignment, Case("integers", 20, below=4))
    assert set(small["x"].ravel()) == {0, 1, 2, 3}
    assert set(small["int64"].ravel()) == {0, 1}
    assert set(small["uint8"].ravel()) == {0, 1, 2, 3}
    assert sampler.inputs(assignment, Case("ones", 2))["int64"].all()


def embedding(*before: Node, index: str = "ids", limits: tuple[int, ...] = (20, 4), axis: int = 0) -> Structure:
    nodes = (*before, Node("e", "Gather", ("table", index), ("y",), {"axis": axis}))
    return taking(
        of("n", 6, name="ids", dtype="int64"), nodes=nodes, parameters=(Parameter("table", "float32", limits),)
    )


@pytest.mark.parametrize(
    ("structure", "limit"),
    [
        (embedding(), 20),
        (embedding(axis=1), 4),
        (embedding(Node("c", "Cast", ("ids",), ("i",), {"to": 6}), index="i"), 20),
        (embedding(Node("t", "Transpose", ("ids",), ("i",)), index="i"), 20),
        (embedding(Node("c", "Add", ("ids", "ids"), ("i",)), index="i"), 2),
    ],
    ids=["plain", "axis", "cast", "transpose", "computed"],
)
def test_ids_stay_within_the_table(structure: Structure, limit: int) -> None:
    sampler, assignment = first(structure)
    ids = sampler.inputs(assignment, Case("normal", 200))["ids"]
    assert (ids.min(), ids.max()) == (0, limit - 1)


def test_other_ways_to_look_up() -> None:
    ids = of("n", 2, name="ids", dtype="int64")
    table = Parameter("table", "float32", (9, 3))
    cast = Node("c", "Cast", ("table",), ("wide",), {"to": 11})
    ways: list[tuple[tuple[Node, ...], int]] = [
        ((Node("g", "GatherND", ("table", "ids"), ("y",)),), 3),
        ((cast, Node("g", "Gather", ("wide", "ids"), ("y",))), 9),
        ((Node("o", "OneHot", ("ids", "depth", "pair"), ("y",)),), 5),
        ((Node("t", "Transpose", ("table",), ("wide",)), Node("g", "Gather", ("wide", "ids"), ("y",))), 2),
        ((Node("g", "Gather", ("depth", "ids"), ("y",)),), 1),
    ]
    constants = {"depth": Tensor("int64", (1,), (5,)), "pair": Tensor("float32", (2,), (0.0, 1.0))}
    for nodes, limit in ways:
        sampler, assignment = first(taking(ids, nodes=nodes, parameters=(table,), constants=constants))
        assert sampler.inputs(assignment, Case("normal", 300))["ids"].max() == limit - 1


def test_the_smaller_table_counts_and_functions_are_seen() -> None:
    lookup = Function(
        name="Lookup",
        domain="mine",
        inputs=("i",),
        outputs=("z",),
        nodes=(Node("g", "Gather", ("table", "i"), ("z",)),),
        opset={"": 20},
    )
    node = Node("call", "Lookup", ("ids",), ("y",), domain="mine")
    table = Parameter("table", "float32", (9, 2))
    inputs = (of("n", 6, name="ids", dtype="int64"),)
    within = taking(*inputs, nodes=(node,), parameters=(table,), functions=(lookup,), opset={"": 20, "mine": 1})
    for pair in ((embedding(), within), (within, embedding())):
        sampler, assignment = first(*pair)
        assert sampler.inputs(assignment, Case("normal", 200))["ids"].max() == 8


def test_what_becomes_a_shape_cannot_be_made_up() -> None:
    reshape = (Node("r", "Reshape", ("x", "s"), ("y",)),)
    a = taking(of("n"), of(2, name="s", dtype="int64"), nodes=reshape)
    with pytest.raises(CannotSampleError, match=r"the input 's' cannot be made up: the Reshape 'r' .*--inputs"):
        Sampler(a, a)
    computed = (Node("m", "Mul", ("s", "s"), ("t",)), Node("r", "Reshape", ("x", "t"), ("y",)))
    with pytest.raises(CannotSampleError, match="Reshape"):
        Sampler(taking(of("n"), of(2, name="s", dtype="int64"), nodes=computed), a)
    with pytest.raises(CannotSampleError, match="the input 'x' is a sequence"):
        Sampler(*[taking(ValueInfo("x", "float32", (2,), containers=("sequence",)))] * 2)
    given = {"x": np.arange(6, dtype=np.float32), "s": np.array([2, 3])}
    sampler, assignment = first(a, given=given)
    assert not assignment.has_batch
    assert sampler.cases(assignment)[0].kind == "given"
    normal = sampler.inputs(assignment, Case("normal", 1))
    assert normal["s"].tolist() == [2, 3]
    assert normal["x"].shape == (6,)
    assert sampler.inputs(assignment, Case("given", 1))["x"] is given["x"]
    with pytest.raises(UsageError, match="means nothing beside --inputs"):
        Sampler(a, a, given=given, shapes={"x": (6,)})


def test_the_second_network_may_call_inputs_otherwise() -> None:
    sampler, assignment = first(taking(of("n", 2, name="x")), taking(of("m", 2, name="input.1")))
    values = sampler.inputs(assignment, Case("ones", 2))
    assert sampler.renamed(values)["input.1"] is values["x"]


def test_no_empty_batch_where_onnxruntime_would_end_the_process() -> None:
    gru = Node("g", "GRU", ("x", "w", "r"), ("y",), {"hidden_size": 4})
    weights = (Parameter("w", "float32", (1, 12, 5)), Parameter("r", "float32", (1, 12, 4)))
    sampler, assignment = first(taking(of(6, "n", 5), nodes=(gru,), parameters=weights))
    assert min(case.batch for case in sampler.cases(assignment)) == 1


def test_inputs_come_from_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "in.npz"
    structure = taking(of("n", 3), of(2, name="h", dtype="bfloat16"), of(name="s", dtype="string"))
    good: dict[str, Any] = {
        "x": np.ones((4, 3), np.float32),
        "h": np.array([1, 2]).astype(ml_dtypes.bfloat16),
        "s": np.array("ä"),
    }
    np.savez(path, **good)
    found = from_npz(path, structure)
    assert found["h"].dtype == ml_dtypes.bfloat16
    assert found["h"].tolist() == [1, 2]
    assert found["s"].dtype == object
    assert found["x"].shape == (4, 3)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"z": np.ones(1)}, "there is no input 'z'"),
        ({"x": np.ones((4, 3))}, "the input 'x' is float32, not float64"),
        ({"x": np.ones((4, 2), np.float32)}, r"the input 'x' has shape \[n, 3\], not \[4, 2\]"),
        ({"x": np.ones(3, np.float32)}, r"the input 'x' has shape \[n, 3\], not \[3\]"),
    ]
    for change, message in changes:
        np.savez(path, **{**good, **change})
        with pytest.raises(UsageError, match=message):
            from_npz(path, structure)
    np.savez(path, x=good["x"], h=good["h"])
    with pytest.raises(UsageError, match="the input 's' is missing"):
        from_npz(path, structure)


def test_archives_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.npz"
    structure = taking(of("n", 3))
    with pytest.raises(UnreadableFileError, match="does not exist"):
        from_npz(path, structure)
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    objects = path.read_bytes()
    np.save(tmp_path / "a.npy", np.ones(3))
    whole = (tmp_path / "a.npy").read_bytes()
    for content in (b"", b"nonsense", objects, objects[:60], whole):
        path.write_bytes(content)
        with pytest.raises(MalformedFileError, match="no numpy archive of plain tensors"):
            from_npz(path, structure)


def test_interfaces_are_compared() -> None:
    a = taking(of("n", 3), of(2, name="h"))
    assert interface_faults(a, a, False) == []
    assert interface_faults(a, taking(of(7, 3), of(2, name="h")), False) == []
    swapped = taking(of(2, name="h"), of("n", 3))
    assert "the inputs stand in another order: x, h and h, x" in interface_faults(a, swapped, False)
    renamed = taking(of("n", 3, name="z"), of(2, name="h"))
    (fault,) = interface_faults(a, renamed, False)
    assert fault.startswith("input 0 is called 'x' in one and 'z' in the other; --by-position")
    assert interface_faults(a, renamed, True) == []
    assert interface_faults(a, taking(of("n", 3)), False) == ["one has 2 inputs, the other 1"]
    for other, message in [
        (of("n", 3, dtype="float64"), "the input 'x' has dtype float32 in one and float64 in the other"),
        (of("n", 3, 1), "the input 'x' has rank 2 in one and 3 in the other"),
        (of("n", 4), "the input 'x' has 3 entries along axis 1 in one and 4 in the other"),
        (ValueInfo("x", "float32", None, containers=("sequence",)), "the input 'x' is a tensor in one and a sequence"),
    ]:
        (fault,) = interface_faults(a, taking(other, of(2, name="h")), True)
        assert fault.startswith(message)


@pytest.mark.parametrize(
    "node",
    [
        Node("r", "RandomNormalLike", ("x",), ("y",)),
        Node("r", "RandomUniform", (), ("y",), {"shape": (2,)}),
        Node("r", "Bernoulli", ("x",), ("y",)),
        Node("r", "Multinomial", ("x",), ("y",)),
        Node("r", "Dropout", ("x", "", "on"), ("y",)),
        Node("r", "Dropout", ("x", "", "b"), ("y",)),
        Node("r", "BatchNormalization", ("x", "s", "s", "s", "s"), ("y", "m", "v"), {"training_mode": 1}),
    ],
    ids=lambda node: f"{node.op_type}-{'-'.join(node.inputs[2:3])}",
)
def test_random_operators_are_named(node: Node) -> None:
    inputs = (of("n", 3), of(3, name="s"), of(name="b", dtype="bool"))
    constants = {"on": Tensor("bool", (), (True,)), "off": Tensor("bool", (), (False,))}
    assert randomness(taking(*inputs, nodes=(node,), constants=constants))[0].startswith(f"node 'r': {node.op_type} ")
    aside = Node("id", "Identity", ("x",), ("out",))
    assert randomness(taking(*inputs, nodes=(node, aside), constants=constants)) == []
    unknown = (ValueInfo("z", None, None),)
    body = Graph((node, Node("n", "Identity", ("y",), ("z",))), (), unknown)
    choice = Node("if", "If", ("b",), ("out",), {"then_branch": body, "else_branch": body})
    assert len(randomness(taking(*inputs, nodes=(choice,), constants=constants))) == 1


def test_randomness_in_functions_and_its_absence() -> None:
    inputs = (of("n", 3),)
    function = Function(
        name="F",
        domain="mine",
        inputs=("u",),
        outputs=("z",),
        nodes=(
            Node("k", "Constant", (), ("mode",), {"value": Tensor("bool", (), (True,))}),
            Node("d", "Dropout", ("u", "", "mode"), ("z",)),
        ),
        opset={"": 20},
    )
    opset = {"": 20, "mine": 1}
    call = Node("call", "F", ("x",), ("y",), domain="mine")
    assert randomness(taking(*inputs, nodes=(call,), functions=(function,), opset=opset)) == [
        "node 'd': Dropout is in training mode, where it draws numbers"
    ]
    aside = Node("id", "Identity", ("x",), ("y",))
    assert randomness(taking(*inputs, nodes=(aside,), functions=(function,), opset=opset)) == []
    off = {"off": Tensor("bool", (), (False,))}
    plain = Node("d", "Dropout", ("x", "", "off"), ("y",))
    assert randomness(taking(*inputs, nodes=(plain,), constants=off)) == []
    assert randomness(taking(*inputs, nodes=(Node("d", "Dropout", ("x",), ("y",)),))) == []
    old = Node("d", "Dropout", ("x",), ("y",), {"ratio": 0.5})
    assert len(randomness(taking(*inputs, nodes=(old,), opset={"": 6}))) == 1
