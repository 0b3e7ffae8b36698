"""Every model of ONNX's own test data whose operators are mapped computes what the data say."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

import deepstruct
from deepstruct import dtypes
from deepstruct.converters import torch_tensors
from deepstruct.converters.torch_operators_table import OPERATORS
from deepstruct.errors import UnsupportedError

REFUSED = {
    "test_batchnorm_epsilon_training_mode": "training mode",
    "test_batchnorm_example_training_mode": "training mode",
    "test_identity_opt": "optional values",
    "test_identity_sequence": "sequences",
    "test_equal_string": "strings",
    "test_equal_string_broadcast": "strings",
    "test_not_2d": "opset 1",
    "test_not_3d": "opset 1",
    "test_not_4d": "opset 1",
    "test_training_dropout": "training mode",
    "test_training_dropout_default": "training mode",
    "test_training_dropout_default_mask": "training mode",
    "test_training_dropout_mask": "training mode",
    "test_training_dropout_zero_ratio": "training mode",
    "test_training_dropout_zero_ratio_mask": "training mode",
}
DIFFERENT = {
    "test_dft_inverse": "rounding where the exact result is 0",
    "test_dft_inverse_opset19": "rounding where the exact result is 0",
    "test_resize_downsample_scales_cubic_align_corners": "the data hold a fraction for length_resized, which is an "
    "integer in the specification and in onnxruntime",
    "test_resize_downsample_scales_linear_align_corners": "the same",
}
WITHOUT_DATA = {"GlobalLpPool"}  # compared with onnxruntime in test_operators.py
LEAST = 1600
NOT_IN_TORCH = {*dtypes.BITS, "float8_e8m0fnu"} - {"bool"}


def to_array(value: Any) -> NDArray[Any]:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def is_mapped(model: onnx.ModelProto) -> bool:
    return all(not node.domain and node.op_type in OPERATORS for node in model.graph.node)


def used_dtypes(model: deepstruct.Model) -> set[str | None]:
    structure = model.structure
    values: tuple[Any, ...] = (*structure.inputs, *structure.outputs, *structure.constants.values())
    return {value.dtype for value in values}


def check(ours: NDArray[Any], theirs: NDArray[Any], case: TestCase) -> None:
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    rtol = case.rtol
    if ours.dtype.kind not in "biuc" and ours.dtype.itemsize <= 2:  # narrow floats round earlier or later
        rtol = max(rtol, 2 * float(torch.finfo(getattr(torch, ours.dtype.name)).eps))
        ours, theirs = ours.astype(np.float32), theirs.astype(np.float32)
    if ours.dtype.kind in "biu":
        np.testing.assert_array_equal(ours, theirs)
    else:
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=case.atol)


def compute(module: torch.nn.Module, case: TestCase) -> None:
    assert case.data_sets
    for inputs, outputs in case.data_sets:
        arrays = [to_array(value) for value in inputs]
        tensors = [torch_tensors.to_tensor(array.copy(), dtypes.from_numpy(array.dtype)) for array in arrays]
        with torch.no_grad():
            results = module(*tensors)
        results = results if isinstance(results, tuple) else (results,)
        for ours, theirs in zip(results, outputs, strict=True):
            check(torch_tensors.to_numpy(None, "result", ours), to_array(theirs), case)


def test_every_model_of_mapped_operators_computes_what_its_data_say(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    passed: Counter[str] = Counter()
    refused, different = [], {}
    count = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of numpy, while onnx computes the data
        cases = load_model_tests(kind="node")
    for case in cases:
        assert case.model is not None
        if not is_mapped(case.model):
            continue
        path.write_bytes(case.model.SerializeToString())
        model = deepstruct.load(path)
        try:
            module = deepstruct.to_module(model)
        except UnsupportedError:
            if not NOT_IN_TORCH & used_dtypes(model):
                refused.append(case.name)
            continue
        try:
            compute(module, case)
        except (AssertionError, RuntimeError, ValueError, TypeError, IndexError) as error:
            different[case.name] = f"{type(error).__name__}: {error}"
            continue
        count += 1
        passed.update({node.op_type for node in case.model.graph.node})
    assert {name: text for name, text in different.items() if name not in DIFFERENT} == {}
    assert sorted(different) == sorted(DIFFERENT)
    assert sorted(refused) == sorted(REFUSED)
    assert set(OPERATORS) - set(passed) == WITHOUT_DATA
    assert count >= LEAST
