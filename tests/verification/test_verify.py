"""The four tiers together: what is the same network and what is not, and what the certificate says of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from networks import made
from onnx import numpy_helper

import deepstruct
from deepstruct import Certificate, Mask, Model, Structure, Weights, formats
from deepstruct.errors import NotCertifiedError, UsageError, VerificationError
from deepstruct.testing import SAMPLES, feed_forward, with_weights
from deepstruct.verification import certificate, report

SUFFIXES = (".pt", ".structure.json", ".onnx")


def checked(found: Certificate) -> Certificate:
    """The certificate, once it is valid."""
    jsonschema.Draft202012Validator(certificate.schema()).validate(found.to_json())
    assert report.text(found).splitlines()[0].startswith(report.TITLES[found.verdict])
    return found


def changed(model: Model, name: str, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Model:
    assert model.weights is not None
    arrays = {key: model.weights[key] for key in model.weights}
    arrays[name] = change(arrays[name].copy())
    return Model(model.structure, Weights(model.structure, arrays))


def verdicts(found: Certificate) -> dict[str, str]:
    return {name: tier["verdict"] for name, tier in found.tiers.items()}


@pytest.fixture
def plain() -> Model:
    return with_weights(feed_forward(density=0.4))


@pytest.mark.parametrize("second", SUFFIXES)
@pytest.mark.parametrize("first", SUFFIXES)
def test_a_model_is_the_same_in_every_format(tmp_path: Path, plain: Model, first: str, second: str) -> None:
    a, b = tmp_path / f"a{first}", tmp_path / f"b{second}"
    deepstruct.save(plain, a)
    deepstruct.save(plain, b)
    found = checked(deepstruct.verify(a, b))
    assert (found.verdict, found.exit_code, found.reasons, found.first_difference) == ("equivalent", 0, (), None)
    assert set(verdicts(found).values()) == {"passed"}
    assert found.tiers["identity"]["kept"] == plain.structure.nnz
    assert found.to_json() == deepstruct.verify(a, b).to_json()


@pytest.mark.parametrize("encoding", ["dense", "coo", "constant", "packed", "packed-flat"])
def test_every_encoding_is_the_same(tmp_path: Path, plain: Model, encoding: str) -> None:
    a, b = tmp_path / "a.pt", tmp_path / "b.onnx"
    deepstruct.save(plain, a)
    deepstruct.save(plain, b, sparse_encoding=encoding)
    assert checked(deepstruct.verify(a, b)).verdict == "equivalent"


@pytest.mark.parametrize("name", ["resnet", "unet", "bert", "recurrent", "cells", "pieces", "scorer"])
def test_real_networks(tmp_path: Path, name: str) -> None:
    module, example_inputs = made(name)
    a, b = tmp_path / "a.pt", tmp_path / "b.onnx"
    deepstruct.save(module, a, example_inputs=example_inputs)
    deepstruct.convert(a, b)
    found = checked(deepstruct.verify(a, b))
    assert found.verdict == "equivalent", found.reasons
    assert found.tiers["numerics"]["verdict"] == "passed"
    assert all("reference" not in layer["ratio"] or layer["finding"] for layer in found.tiers["numerics"]["layers"])


def test_one_bit_is_a_difference_that_is_shown(tmp_path: Path, plain: Model) -> None:
    name = "fc1.weight"

    def nudge(weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        index = tuple(np.argwhere(plain.structure.parameter(name).mask.to_array())[2])  # type: ignore[union-attr]  # it has one
        weight[index] = np.nextafter(weight[index], np.float32(9))
        return weight

    deepstruct.save(plain, tmp_path / "a.pt")
    deepstruct.save(changed(plain, name, nudge), tmp_path / "b.onnx")
    found = checked(deepstruct.verify(tmp_path / "a.pt", tmp_path / "b.onnx"))
    assert (found.verdict, found.exit_code) == ("different", 1)
    assert verdicts(found) == {"identity": "failed", "wiring": "passed", "numerics": "passed", "outputs": "passed"}
    first = found.first_difference
    assert first is not None
    assert (first.tier, first.parameter, first.differing) == ("identity", name, 1)
    (connection,) = first.connections
    assert tuple(connection["index"]) == tuple(np.argwhere(plain.structure.parameter(name).mask.to_array())[2])  # type: ignore[union-attr]  # it has one
    assert np.nextafter(np.float32(connection["a"]), np.float32(9)) == np.float32(connection["b"])


def test_at_most_ten_connections_are_listed(tmp_path: Path, plain: Model) -> None:
    deepstruct.save(plain, tmp_path / "a.structure.json")
    deepstruct.save(changed(plain, "fc0.weight", np.negative), tmp_path / "b.structure.json")
    found = checked(deepstruct.verify(tmp_path / "a.structure.json", tmp_path / "b.structure.json"))
    first = found.first_difference
    assert first is not None
    assert len(first.connections) == 10
    assert first.differing == plain.structure.parameter("fc0.weight").nnz
    assert f"and {first.differing - 10:,} more" in report.text(found)


def test_moved_connections_are_lost_and_new(tmp_path: Path, plain: Model) -> None:
    parameter = plain.structure.parameter("fc0.weight")
    assert parameter.mask is not None
    bits = parameter.mask.to_array()
    lost, new = tuple(np.argwhere(bits)[0]), tuple(np.argwhere(~bits)[0])
    bits[lost], bits[new] = False, True
    moved = replace(parameter, mask=Mask.from_array(bits))
    others = tuple(moved if p.name == parameter.name else p for p in plain.structure.parameters)
    structure = replace(plain.structure, parameters=others)
    assert plain.weights is not None
    arrays = {name: plain.weights[name].copy() for name in plain.weights}
    arrays[parameter.name][new] = arrays[parameter.name][lost]
    deepstruct.save(plain, tmp_path / "a.pt")
    deepstruct.save(Model(structure, Weights(structure, arrays)), tmp_path / "b.pt")
    found = checked(deepstruct.verify(tmp_path / "a.pt", tmp_path / "b.pt"))
    assert verdicts(found)["wiring"] == verdicts(found)["numerics"] == "failed"
    (difference,) = found.tiers["identity"]["differences"]
    assert (difference["lost"], difference["new"], difference["changed"]) == (1, 1, 0)
    shown = {tuple(c["index"]): (bool(c["a"]), bool(c["b"])) for c in difference["connections"]}
    assert shown == {lost: (True, False), new: (False, True)}


def test_kept_zeros_are_connections(tmp_path: Path, plain: Model) -> None:
    deepstruct.save(changed(plain, "fc0.weight", np.zeros_like), tmp_path / "a.pt")
    empty = tuple(
        replace(p, mask=Mask.from_indices(p.shape, np.empty(0, np.int64))) if p.name == "fc0.weight" else p
        for p in plain.structure.parameters
    )
    structure = replace(plain.structure, parameters=empty)
    assert plain.weights is not None
    arrays = {name: plain.weights[name] for name in plain.weights}
    arrays["fc0.weight"] = np.zeros_like(arrays["fc0.weight"])
    deepstruct.save(Model(structure, Weights(structure, arrays)), tmp_path / "b.pt")
    found = checked(deepstruct.verify(tmp_path / "a.pt", tmp_path / "b.pt"))
    assert found.verdict == "different"
    assert found.tiers["identity"]["differences"][0]["lost"] == plain.structure.parameter("fc0.weight").nnz


def test_zeros_stand_for_masked_entries_where_one_file_has_no_masks(tmp_path: Path, plain: Model) -> None:
    deepstruct.save(plain, tmp_path / "a.pt")
    deepstruct.save(plain, tmp_path / "b.onnx", sparse_encoding="dense")
    proto = onnx.load(tmp_path / "b.onnx")
    del proto.metadata_props[:]
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        array[(array == 0) & (array.ndim == 2)] = -0.0
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(proto, tmp_path / "b.onnx")
    assert deepstruct.load(tmp_path / "b.onnx").structure.density == 1
    found = checked(deepstruct.verify(tmp_path / "a.pt", tmp_path / "b.onnx"))
    assert found.verdict == "equivalent"
    assert "masks are given on one side only" in found.tiers["identity"]["notes"][0]


def edited(model: Model, folder: Path, change: Callable[[onnx.ModelProto], None]) -> Certificate:
    """What is found out about a model and its ONNX file after a change."""
    deepstruct.save(model, folder / "a.pt")
    deepstruct.save(model, folder / "b.onnx", sparse_encoding="dense")
    proto = onnx.load(folder / "b.onnx")
    change(proto)
    onnx.save(proto, folder / "b.onnx")
    return checked(deepstruct.verify(folder / "a.pt", folder / "b.onnx"))


def test_another_activation_is_named(tmp_path: Path, plain: Model) -> None:
    def change(proto: onnx.ModelProto) -> None:
        next(node for node in proto.graph.node if node.op_type == "Relu").op_type = "Elu"

    found = edited(plain, tmp_path, change)
    assert found.verdict == "different"
    assert found.first_difference is not None
    assert "is Relu" in found.first_difference.message
    assert "is Elu" in found.first_difference.message


def test_a_dropped_bias_is_named(tmp_path: Path, plain: Model) -> None:
    def change(proto: onnx.ModelProto) -> None:
        node = next(node for node in proto.graph.node if node.op_type == "Gemm")
        del node.input[2]

    found = edited(plain, tmp_path, change)
    assert found.verdict == "different"
    assert "bias" in " ".join(found.reasons)


def renamed(structure: Structure, names: Mapping[str, str]) -> Structure:
    def of(values: Any) -> Any:
        return tuple(replace(value, name=names.get(value.name, value.name)) for value in values)

    nodes = tuple(
        replace(
            node,
            inputs=tuple(names.get(name, name) for name in node.inputs),
            outputs=tuple(names.get(name, name) for name in node.outputs),
        )
        for node in structure.nodes
    )
    return replace(structure, nodes=nodes, inputs=of(structure.inputs), outputs=of(structure.outputs))


def test_other_names_are_passed_by_on_request_only(tmp_path: Path, plain: Model) -> None:
    structure = renamed(plain.structure, {"y": "z", "x": "features"})
    assert plain.weights is not None
    deepstruct.save(plain, tmp_path / "a.pt")
    deepstruct.save(Model(structure, Weights(structure, dict(plain.weights))), tmp_path / "b.onnx")
    found = checked(deepstruct.verify(tmp_path / "a.pt", tmp_path / "b.onnx"))
    assert (found.verdict, found.exit_code, found.tiers) == ("not certifiable", 4, {})
    assert any("'y' in one and 'z' in the other" in reason for reason in found.reasons)
    found = checked(deepstruct.verify(tmp_path / "a.pt", tmp_path / "b.onnx", by_position=True))
    assert found.verdict == "equivalent"


def test_dtypes_differ_unless_a_cast_is_declared(tmp_path: Path, plain: Model) -> None:
    deepstruct.save(plain, tmp_path / "a.pt")
    half = deepstruct.to_module(plain).half()
    deepstruct.save(half, tmp_path / "b.onnx")
    found = checked(deepstruct.verify(tmp_path / "a.pt", tmp_path / "b.onnx"))
    assert found.verdict == "not certifiable"
    assert "has dtype float32 in one and float16 in the other" in found.reasons[0]
    assert checked(deepstruct.verify(tmp_path / "a.pt", tmp_path / "b.onnx", cast="float16")).verdict == "equivalent"
    with pytest.raises(UsageError, match="unknown cast 'int8'"):
        deepstruct.verify(tmp_path / "a.pt", tmp_path / "b.onnx", cast="int8")


def test_a_cast_of_weights_alone_is_exact(tmp_path: Path, plain: Model) -> None:
    def rounded(weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return weight.astype(np.float16).astype(np.float32)

    def truncated(weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return (weight.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)

    model = plain
    for name in plain.structure.parameters:
        model = changed(model, name.name, rounded)
    deepstruct.save(plain, tmp_path / "a.pt")
    deepstruct.save(model, tmp_path / "b.onnx")
    assert deepstruct.verify(tmp_path / "a.pt", tmp_path / "b.onnx").verdict == "different"
    assert checked(deepstruct.verify(tmp_path / "a.pt", tmp_path / "b.onnx", cast="float16")).verdict == "equivalent"
    wrong = changed(plain, "fc0.weight", truncated)
    deepstruct.save(wrong, tmp_path / "c.onnx")
    assert deepstruct.verify(tmp_path / "a.pt", tmp_path / "c.onnx", cast="float16").verdict == "different"


def test_without_weights_masks_are_compared_and_nothing_is_certified(tmp_path: Path, plain: Model) -> None:
    deepstruct.save(plain, tmp_path / "a.pt")
    deepstruct.save(Model(plain.structure), tmp_path / "b.structure.json")
    found = checked(deepstruct.verify(tmp_path / "a.pt", tmp_path / "b.structure.json"))
    assert found.verdict == "not certifiable"
    assert found.reasons == ("b.structure.json has no weights, so that only structure and masks could be compared",)
    assert verdicts(found) == {"identity": "passed", "wiring": "passed", "numerics": "not run", "outputs": "not run"}
    other = feed_forward(density=0.6)
    deepstruct.save(Model(other), tmp_path / "c.structure.json")
    found = checked(deepstruct.verify(tmp_path / "a.pt", tmp_path / "c.structure.json"))
    assert found.verdict == "different"
    assert verdicts(found)["wiring"] == "failed"


def test_randomness_is_not_certifiable(tmp_path: Path, plain: Model) -> None:
    def change(proto: onnx.ModelProto) -> None:
        node = next(node for node in proto.graph.node if node.op_type == "Relu")
        noise = proto.graph.node.add(op_type="RandomNormalLike", input=node.input, output=["noise"], name="noise")
        node.input[0] = "noise"
        proto.graph.node.remove(noise)
        place = list(proto.graph.node).index(node)
        proto.graph.node.insert(place, noise)

    found = edited(plain, tmp_path, change)
    assert found.verdict == "not certifiable"
    assert any("'noise': RandomNormalLike draws numbers" in reason for reason in found.reasons)


def test_operators_that_onnxruntime_lacks_are_not_certifiable(tmp_path: Path) -> None:
    model = with_weights(SAMPLES["bfloat16"])
    deepstruct.save(model, tmp_path / "a.pt")
    deepstruct.save(model, tmp_path / "b.onnx")
    found = checked(deepstruct.verify(tmp_path / "a.pt", tmp_path / "b.onnx"))
    assert found.verdict == "not certifiable"
    assert "cannot be computed: onnxruntime: " in found.reasons[0]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_smallest_models_that_show_it(tmp_path: Path, plain: Model, suffix: str) -> None:
    def change(weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return weight * np.float32(1 + 2**-20)

    deepstruct.save(plain, tmp_path / f"a{suffix}")
    deepstruct.save(changed(plain, "fc1.weight", change), tmp_path / "b.onnx")
    folder = tmp_path / "repro"
    assert deepstruct.verify(tmp_path / f"a{suffix}", tmp_path / "b.onnx", repro=folder).verdict == "different"
    a, b = folder / f"a{suffix}", folder / "b.onnx"
    assert deepstruct.load(a).structure.parameter("fc1.weight").shape[0] == 1
    assert [node.op_type for node in deepstruct.load(b).structure.nodes] == ["Gemm"]
    again = checked(deepstruct.verify(a, b, by_position=True, inputs=folder / "inputs.npz"))
    assert again.verdict == "different"
    assert f"deepstruct verify a{suffix} b.onnx --by-position" in (folder / "README.md").read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="no empty folder"):
        deepstruct.verify(tmp_path / f"a{suffix}", tmp_path / "b.onnx", repro=folder)


def test_conversions_are_certified_before_they_are_written(tmp_path: Path, plain: Model) -> None:
    deepstruct.save(plain, tmp_path / "a.pt")
    written = deepstruct.convert(tmp_path / "a.pt", tmp_path / "b.structure.json", verify=True)
    assert written.certificate is not None
    assert written.certificate.verdict == "equivalent"
    assert written.certificate.b.files[0].name == "b.structure.json"
    deepstruct.save(with_weights(SAMPLES["bfloat16"]), tmp_path / "c.pt")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(NotCertifiedError, match=r"c\.onnx: not written: it cannot be certified") as raised:
        deepstruct.convert(tmp_path / "c.pt", tmp_path / "c.onnx", verify=True)
    assert raised.value.exit_code == 4
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    for target, weights in (("d.graphml", True), ("d.structure.json", False)):
        with pytest.raises(UsageError, match="--verify compares numbers"):
            deepstruct.convert(tmp_path / "a.pt", tmp_path / target, verify=True, weights=weights)


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path, plain: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    deepstruct.save(plain, tmp_path / "a.pt")
    row: Any = formats.by_name("json").load()
    wrong = changed(plain, "fc0.weight", np.negative)
    write = row.write
    monkeypatch.setattr(row, "write", lambda _model, *arguments: write(wrong, *arguments))
    (tmp_path / "b.structure.json").write_text("mine", encoding="utf-8")
    with pytest.raises(VerificationError, match="it would not hold the network of its source") as raised:
        deepstruct.convert(tmp_path / "a.pt", tmp_path / "b.structure.json", verify=True)
    assert raised.value.certificate.verdict == "different"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt", "b.structure.json"]
    assert (tmp_path / "b.structure.json").read_text(encoding="utf-8") == "mine"


def test_given_inputs_are_computed_on(tmp_path: Path, plain: Model) -> None:
    deepstruct.save(plain, tmp_path / "a.pt")
    deepstruct.save(plain, tmp_path / "b.onnx")
    (info,) = plain.structure.inputs
    np.savez(tmp_path / "x.npz", x=np.full((3, info.shape[1]), 0.5, np.float32))  # type: ignore[index]  # known
    found = checked(deepstruct.verify(tmp_path / "a.pt", tmp_path / "b.onnx", inputs=tmp_path / "x.npz"))
    assert found.verdict == "equivalent"
    assert len(found.options["inputs"]) == 64
    assert "given" in {c["case"]["kind"] for c in found.tiers["outputs"]["comparisons"]}


def test_certificates_can_be_saved(tmp_path: Path, plain: Model) -> None:
    deepstruct.save(plain, tmp_path / "a.pt")
    found = deepstruct.verify(tmp_path / "a.pt", tmp_path / "a.pt")
    found.save(tmp_path / "certificate.json")
    assert certificate.load(tmp_path / "certificate.json") == found.to_json()
    assert json.loads((tmp_path / "certificate.json").read_text(encoding="utf-8")) == found.to_json()
