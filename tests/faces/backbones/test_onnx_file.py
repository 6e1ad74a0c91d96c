"""Tensors out of ONNX files that the package ``onnx`` wrote."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from onnx import TensorProto, helper, numpy_helper

from utils.faces.backbones import onnx_file


def written(**tensors):
    """A file with these tensors."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "ab"]
    node = helper.make_node("Relu", ["a"], ["b"])
    listed = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    return helper.make_model(helper.make_graph([node], "other", ends[:1], ends[1:], listed))


def test_tensors_have_their_names_values_and_order():
    expected = {
        "z": np.arange(6, dtype=np.float32).reshape(2, 3),
        "9": np.array([5, -7], np.int64),
        "a": np.array([[-128], [127]], np.int8),
        "none": np.zeros((0, 3), np.float32),
    }
    found = onnx_file.tensors(written(**expected).SerializeToString())
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert_array_equal(found[name], array)


def test_numbers_may_be_in_a_field_of_their_own():
    model = written()
    model.graph.initializer.append(helper.make_tensor("f", TensorProto.FLOAT, [2], [0.5, -2]))
    model.graph.initializer.append(helper.make_tensor("i", TensorProto.INT64, [1], [1 << 40]))
    found = onnx_file.tensors(model.SerializeToString())
    assert_array_equal(found["f"], [0.5, -2])
    assert_array_equal(found["i"], [1 << 40])


def test_tensor_in_blocks_is_put_together_in_its_shape():
    found = onnx_file.tensors(
        written(
            w_quantized=np.int8([[1, 2, 3, 4]]),
            w_scales=np.float32([[1, 10]]),
            w_zero_point=np.int8([[0, 1]]),
            w_shape=np.array([2, 2], np.int64),
        ).SerializeToString()
    )
    assert_array_equal(found["w"], [[1, 2], [20, 30]])


@pytest.mark.parametrize("content", [b"text, not ONNX", b"PK\x03\x04" + bytes(99)])
def test_what_is_not_onnx_is_a_value_error(content):
    with pytest.raises(ValueError, match="not an ONNX file"):
        onnx_file.tensors(content)


def test_tensor_of_another_type_is_a_key_error():
    with pytest.raises(KeyError):
        onnx_file.tensors(written(d=np.zeros(2)).SerializeToString())


def test_integers_in_blocks_become_what_the_operator_gives():
    integers = np.int8([[1, -2, 3, -128, 127], [0, 0, 10, 10, 10]])
    scales, zeros = np.float32([[0.5, 2], [1, 0.1]]), np.int8([[1, -1], [5, 10]])
    # blocks of three and two
    found = onnx_file._dequantised(integers, scales, zeros)
    assert found.dtype == np.float32
    assert_allclose(found, [[0, -1.5, 1, -254, 256], [-5, -5, 5, 0, 0]], atol=1e-6)
