"""The VGGFace networks of the package ``keras-vggface`` (Parkhi et al. 2015; Cao et al. 2018)."""

from __future__ import annotations

import functools
import types
from typing import TYPE_CHECKING

import numpy as np

from ..weights import PublishedWeights, package_folder
from .legacy import run_source, with_our_names
from .published import PublishedBackbone

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

REQUIREMENT = "keras-vggface==0.6"
RELEASES = "https://github.com/rcmalli/keras-vggface/releases/download/v2.0"
# The layers that the package's networks are made of.
LAYERS = [
    "Activation",
    "AveragePooling2D",
    "BatchNormalization",
    "Conv2D",
    "Dense",
    "Flatten",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "Input",
    "MaxPooling2D",
    "Permute",
    "Reshape",
]


@functools.cache
def package() -> types.SimpleNamespace:
    """The package's modules ``utils`` and ``models``, on Keras 3.

    Raises:
        WeightsError: the package is absent.
    """
    folder = package_folder("keras_vggface", REQUIREMENT)
    stand_ins = _stand_ins()
    helpers = run_source(folder / "utils.py", stand_ins)
    # models.py imports utils.py of its package
    own = {"keras_vggface": types.SimpleNamespace(utils=helpers)}
    models = run_source(folder / "models.py", {**stand_ins, **own})
    return types.SimpleNamespace(utils=helpers, models=models)


def _stand_ins() -> dict[str, object]:
    """As much of Keras 2 as the package's source asks for, by module."""
    import keras

    # the package gives its layers names with a "/"
    named_layers = {name: with_our_names(getattr(keras.layers, name)) for name in LAYERS}
    layers = types.SimpleNamespace(
        add=keras.layers.add, multiply=keras.layers.multiply, **named_layers
    )
    # the package checks the input's shape with a function that is gone; ours is always right
    shapes = types.SimpleNamespace(_obtain_input_shape=lambda shape, **options: shape)
    return {
        "keras": types.SimpleNamespace(backend=keras.backend, layers=layers),
        "keras.layers": layers,
        "keras.models": keras.models,
        "keras.utils": types.SimpleNamespace(layer_utils=None),
        "keras.utils.data_utils": types.SimpleNamespace(get_file=_never),
        "keras.engine.topology": types.SimpleNamespace(get_source_inputs=_never),
        "keras_applications.imagenet_utils": shapes,
    }


def _never(*args, **options):
    raise NotImplementedError("weights are loaded by utils.faces.backbones.legacy")


class VGGFace(PublishedBackbone):
    """RGB in, blue-green-red minus the mean colour of its training photos inside; 224×224.

    Attributes:
        constructor: the package's function that builds the network.
        mean: blue, green and red mean of the training photos, 0-255.
    """

    input_size = 224
    box_share = 1 / 1.3  # VGGFace2 extends its boxes by a factor of 0.3 (Cao et al. 2018)
    constructor: str
    mean: tuple[float, float, float]

    def standardise(self, faces: tf.Tensor) -> tf.Tensor:
        """Channels reversed, minus their means: about ±130, as the package's preprocessing."""
        # a whole image: TensorFlow broadcasts over an inner axis of 3 at half the speed
        mean = np.asarray(self.mean, np.float32)
        return faces[..., ::-1] - np.broadcast_to(mean, (self.input_size, self.input_size, 3))

    def architecture(self) -> keras.Model:
        """The package's network up to its globally averaged last feature map."""
        import keras

        # the average of a feature map is one number a channel: (n, d)
        network = getattr(package().models, self.constructor)(
            include_top=False, weights=None, input_shape=(224, 224, 3), pooling="avg"
        )
        return keras.Model(network.inputs[0], network.outputs[0], name=self.layer_name)


class VGGFaceResNet50(VGGFace):
    """``vggface-resnet50``: 23.6 million parameters, trained on VGGFace2."""

    name, embedding_size, constructor = "vggface-resnet50", 2048, "RESNET50"
    preprocessing, mean = "vggface2", (91.4953, 103.8827, 131.0912)
    weights = PublishedWeights(name, f"{RELEASES}/rcmalli_vggface_tf_notop_resnet50.h5")


class VGGFaceSENet50(VGGFace):
    """``vggface-senet50``: 26.1 million parameters, trained on VGGFace2.

    A ResNet50 with squeeze-and-excitation blocks.
    """

    name, embedding_size, constructor = "vggface-senet50", 2048, "SENET50"
    preprocessing, mean = VGGFaceResNet50.preprocessing, VGGFaceResNet50.mean
    weights = PublishedWeights(name, f"{RELEASES}/rcmalli_vggface_tf_notop_senet50.h5")


class VGGFaceVGG16(VGGFace):
    """``vggface-vgg16``: 14.7 million parameters, trained on VGGFace."""

    name, embedding_size, constructor = "vggface-vgg16", 512, "VGG16"
    preprocessing, mean = "vggface1", (93.5940, 104.7624, 129.1863)
    weights = PublishedWeights(name, f"{RELEASES}/rcmalli_vggface_tf_notop_vgg16.h5")
