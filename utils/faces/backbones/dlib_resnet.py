"""dlib's face recognition ResNet as a trainable Keras model.

The network is that of dlib's ``dnn_face_recognition_ex`` (King, 2017): a ResNet-34 (He et al.,
2016) with fewer layers and half the filters, 29 convolutions, 150×150 RGB in, 128 numbers out,
trained with a metric loss on 3 million faces. Its weights are in the public domain (CC0) and
come with the package ``face-recognition-models``.

dlib stores a convolution and the affine layer behind it (a frozen batch normalisation) apart.
An affine map after a linear one is one linear map, so the two are merged when the file is read:
``gamma · (W x + b) + beta = (gamma W) x + (gamma b + beta)``.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ... import files
from ...errors import WeightsError
from ..alignment import DLIB_LANDMARKS
from ..weights import PackagedWeights
from .base import Backbone

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

WEIGHTS = PackagedWeights(
    package="face_recognition_models",
    requirement="face-recognition-models==0.3.0",
    inner_path="models/dlib_face_recognition_resnet_model_v1.dat",
    sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
)
CHANNEL_MEAN = np.array([122.782, 117.001, 104.298], np.float32)  # red, green, blue
# A whole image of it: TensorFlow broadcasts over an inner axis of 3 at half the speed.
MEAN_IMAGE = np.broadcast_to(CHANNEL_MEAN, (150, 150, 3)).copy()
# (filters, whether the block halves the image), from the input to the output
BLOCKS = (
    [(32, False)] * 3
    + [(64, True)]
    + [(64, False)] * 3
    + [(128, True)]
    + [(128, False)] * 2
    + [(256, True)]
    + [(256, False)] * 2
    + [(256, True)]
)
CONVOLUTIONS = 1 + 2 * len(BLOCKS)


class DlibResNet(Backbone):
    """``dlib-resnet``: 5.6 million parameters, 99.4 % on LFW according to its author."""

    name = "dlib-resnet"
    input_size = 150
    embedding_size = 128
    preprocessing = "centred256"
    weights_id = WEIGHTS.sha256

    template = DLIB_LANDMARKS * input_size

    def standardise(self, faces: tf.Tensor) -> tf.Tensor:
        """(x − channel mean) / 256: within about ±0.5."""
        return (faces - MEAN_IMAGE) / 256.0

    def architecture(self) -> keras.Model:
        """29 convolutions and one matrix, all trainable."""
        import keras
        from keras import layers

        inputs = keras.Input((self.input_size, self.input_size, 3), name="face")
        # (n, 150, 150, 3) to (n, 35, 35, 32)
        x = layers.Conv2D(32, 7, strides=2, activation="relu", name="stem")(inputs)
        x = layers.MaxPooling2D(3, 2, name="stem_pool")(x)
        # to (n, 2, 2, 256)
        for number, (filters, down) in enumerate(BLOCKS, start=1):
            x = _block(x, filters, down, f"block{number:02d}")
        x = layers.GlobalAveragePooling2D(name="average")(x)
        outputs = layers.Dense(128, use_bias=False, name="embedding")(x)
        return keras.Model(inputs, outputs, name="dlib_resnet")

    def load_pretrained(self, model: keras.Model) -> None:
        """Copy the weights of the package's file into ``model``. Raises WeightsError."""
        path = self.weights_path()
        model.set_weights(_converted(path, files.version(path)))

    def weights_path(self) -> Path:
        """The file in the installed package. Raises WeightsError."""
        return WEIGHTS.path()


def _block(x: keras.KerasTensor, filters: int, down: bool, name: str) -> keras.KerasTensor:
    """Two 3×3 convolutions added to a shortcut; a down block halves the image on both ways."""
    from keras import layers

    # the convolutions
    y = layers.Conv2D(
        filters,
        3,
        strides=2 if down else 1,
        padding="valid" if down else "same",
        activation="relu",
        name=f"{name}_conv1",
    )(x)
    y = layers.Conv2D(filters, 3, padding="same", name=f"{name}_conv2")(y)

    # the shortcut
    if down:
        x = layers.AveragePooling2D(2, 2, name=f"{name}_shortcut")(x)
        x, y = _pad_to_match(x, y, name)
    return layers.ReLU(name=name)(layers.Add(name=f"{name}_add")([x, y]))


def _pad_to_match(
    x: keras.KerasTensor, y: keras.KerasTensor, name: str
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Zero-pad the smaller one at the bottom, the right and the last channels, as dlib does."""
    return _pad(x, y.shape, name, "x"), _pad(y, x.shape, name, "y")


def _pad(
    tensor: keras.KerasTensor, shape: tuple[int, ...], name: str, side: str
) -> keras.KerasTensor:
    """Zeros up to ``shape`` (n, rows, columns, channels), where ``tensor`` is smaller."""
    from keras import layers

    rows = max(shape[1] - tensor.shape[1], 0)
    columns = max(shape[2] - tensor.shape[2], 0)
    if rows or columns:
        padding = ((0, rows), (0, columns))
        tensor = layers.ZeroPadding2D(padding, name=f"{name}_pad_{side}")(tensor)

    # the channels only ever double: as many zeros as there are channels
    if shape[3] > tensor.shape[3]:
        zeros = layers.Rescaling(0.0, name=f"{name}_zeros")(tensor)
        tensor = layers.Concatenate(name=f"{name}_widen")([tensor, zeros])
    return tensor


# --- dlib's file --------------------------------------------------------------------------------

# The tags of the layers that hold parameters, as dlib writes a string: its length, then its text.
_TAG = re.compile(rb"\x01\x05(?P<con_4>con_4)|\x01\x07(?P<affine_>affine_)|\x01\x04(?P<fc_2>fc_2)")


@functools.lru_cache(maxsize=1)
def _converted(path: Path, version: tuple[int, ...]) -> list[np.ndarray]:
    """The arrays of a file of this version, converted once; the models copy them."""
    return convert(path.read_bytes())


def convert(content: bytes) -> list[np.ndarray]:
    """Convert dlib's serialised network to the arrays that ``Model.set_weights`` takes.

    Convolution kernels become (row, column, in, out), float32, merged with the affine layer
    behind them.

    Raises:
        WeightsError: the content does not hold this network.
    """
    try:
        arrays = list(_arrays(content))
        if len(arrays) != 2 * CONVOLUTIONS + 1:
            raise ValueError(f"{len(arrays)} arrays")
    except (ValueError, TypeError, OverflowError) as error:
        raise WeightsError(
            f"The content is not dlib's face recognition network; reinstall {WEIGHTS.requirement}."
        ) from error
    return arrays


def _arrays(content: bytes) -> Iterator[np.ndarray]:
    """Kernel and bias of each convolution, then the matrix of the last layer."""
    reader = _Reader(content)
    # empty until there is a convolution: multiplying by an affine layer's gamma raises ValueError
    kernel: np.ndarray = np.empty((0, 0, 0, 0), np.float32)
    bias: np.ndarray = np.empty(0, np.float32)
    while (tag := reader.next_tag()) is not None:
        if tag == "con_4":
            # one tensor: the kernels (out, in, row, column), and a bias for each
            values = reader.tensor()
            filters, rows, columns, *_ = (reader.integer() for _ in range(7))
            kernel = values[:-filters].reshape(filters, -1, rows, columns)
            bias = values[-filters:]
        elif tag == "affine_":
            gamma, beta = reader.tensor().reshape(2, -1)
            yield (kernel * gamma[:, None, None, None]).transpose(2, 3, 1, 0)
            yield gamma * bias + beta
        else:
            outputs, inputs = reader.integer(), reader.integer()
            yield reader.tensor().reshape(inputs, outputs).copy()  # not the whole file with it


class _Reader:
    """Reads dlib's binary format from the front to the back."""

    def __init__(self, content: bytes):
        self.content, self.position = content, 0

    def next_tag(self) -> str | None:
        """Move behind the next tag of a layer with parameters; None at the end of the file."""
        match = _TAG.search(self.content, self.position)
        if match is None:
            return None
        self.position = match.end()
        return match.lastgroup

    def integer(self) -> int:
        """A control byte (low 4 bits: how many bytes follow; 0x80: negative), then the bytes."""
        control = self.content[self.position] if self.position < len(self.content) else 0
        start, self.position = self.position + 1, self.position + 1 + (control & 0x0F)
        value = int.from_bytes(self.content[start : self.position], "little")
        return -value if control & 0x80 else value

    def tensor(self) -> np.ndarray:
        """Version 2, four sizes, and as many little-endian float32."""
        version, *sizes = (self.integer() for _ in range(5))
        if version != 2 or min(sizes) < 0:
            raise ValueError(f"tensor version {version}, sizes {sizes}")
        count = math.prod(sizes)
        values = np.frombuffer(self.content, "<f4", count, self.position)
        self.position += 4 * count
        return values
