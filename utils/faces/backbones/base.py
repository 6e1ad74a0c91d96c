"""The interface of every face encoder."""

from __future__ import annotations

import abc
import functools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ... import files, surroundings
from ...errors import BackboneError, WeightsError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    Forward = Callable[[np.ndarray], tf.Tensor]


class Backbone(abc.ABC):
    """A face encoder: uint8 RGB crops in, embeddings out.

    Attributes:
        name: key in the registry.
        input_size: side of the square crops in pixels.
        embedding_size: length of an embedding.
        preprocessing: short name of what :meth:`standardise` does; part of every cache key.
    """

    name: str
    input_size: int
    embedding_size: int
    preprocessing: str

    def __reduce__(self):
        """A backbone goes to another program by its name, which builds its network there."""
        from . import get

        return get, (self.name,)

    @property
    def template(self) -> np.ndarray:
        """Where the landmarks of an aligned face lie in the crop: (x, y) in pixels, ``(5, 2)``.

        The order is that of the tables in :mod:`utils.faces.alignment`.
        """
        raise NotImplementedError(f"{self.name} does not take aligned faces")

    @abc.abstractmethod
    def standardise(self, faces: tf.Tensor) -> tf.Tensor:
        """The network's float32 input from float32 RGB ``(n, size, size, 3)`` in [0, 255]."""

    @abc.abstractmethod
    def architecture(self) -> keras.Model:
        """The network without its weights; input: preprocessed crops, output: ``(n, d)``."""

    @abc.abstractmethod
    def load_pretrained(self, model: keras.Model) -> None:
        """Fill ``model`` with the published weights. Raises WeightsError."""

    @abc.abstractmethod
    def weights_path(self) -> Path:
        """The file of the published weights, verified.

        Raises:
            WeightsError: the file is not here, truncated or altered.
        """

    def fetch(self, progress: bool = True) -> Path:
        """Bring the published weights here where they are not; verified. Raises WeightsError."""
        return self.weights_path()

    @property
    @abc.abstractmethod
    def weights_id(self) -> str:
        """Identity of the published weights (a checksum); part of every cache key."""

    @property
    def layer_name(self) -> str:
        """The name as that of a Keras model or layer."""
        return self.name.replace("-", "_")

    @property
    def fingerprint(self) -> str:
        """Names what determines an embedding, apart from the photo."""
        return f"{self.name}-{self.preprocessing}-{self.weights_id[:12]}"

    def build(self, weights: str | Path | None = "pretrained") -> keras.Model:
        """Build the network as a trainable ``keras.Model``; each call gives a model of its own.

        Args:
            weights: ``"pretrained"``, None for random weights, or the path of a weights or
                model file (``.weights.h5``, ``.keras``) that was saved from this network, or of a
                legacy ``.h5`` file with the layer names of the network's publisher.

        Raises:
            WeightsError: the file is missing, damaged, or was written for another network.
        """
        surroundings.check_process()
        # random weights first; whatever is loaded takes their place
        model = self.architecture()
        if weights == "pretrained":
            self.load_pretrained(model)
        elif weights is not None:
            self._load_file(model, Path(weights))
        return model

    def _load_file(self, model: keras.Model, path: Path) -> None:
        """Fill ``model`` from a file of Keras 3, or from a legacy file."""
        if not path.is_file():
            raise WeightsError(f"The weights file {path} does not exist; check the path.")
        from .legacy import is_legacy, load_h5

        # a publisher's file names its tensors, a file of ours numbers its layers
        if is_legacy(path):
            load_h5(model, path)
            return
        try:
            model.load_weights(path)
        except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
            files.check_machine(error, path)
            raise WeightsError(
                f"{path} does not hold weights for {self.name}, or is damaged; name a "
                ".weights.h5 or .keras file that was saved from this network."
            ) from error

    def preprocess(self, faces: np.ndarray | tf.Tensor) -> tf.Tensor:
        """RGB crops to the network's float32 input, in NumPy, in eager TensorFlow and in graphs.

        Args:
            faces: ``(n, size, size, 3)``, uint8, or floats in [0, 255] (augmented photos).

        Raises:
            BackboneError: another size or type, or floats in another range (not seen in graphs).
        """
        from keras import ops

        # the dtype of Keras' own tensors is its name alone
        dtype = str(getattr(faces.dtype, "name", faces.dtype))
        if not self.takes(faces.shape) or not (dtype == "uint8" or dtype.startswith("float")):
            size = self.input_size
            raise BackboneError(
                f"{self.name} takes crops of {size}×{size} RGB pixels, uint8 or float in 0-255, "
                f"not {dtype} {tuple(faces.shape)}."
            )
        # inside a graph there are no values to look at
        has_values = isinstance(faces, np.ndarray) or hasattr(faces, "numpy")
        if dtype != "uint8" and has_values:
            self._check_range(np.asarray(faces))
        return self.standardise(ops.cast(faces, "float32"))

    def _check_range(self, faces: np.ndarray) -> None:
        """Refuse floats that were scaled or standardised already."""
        if not faces.size:
            return
        least, most = faces.min(), faces.max()
        # NaN fails this comparison too
        if not 0 <= least <= most <= 255:
            raise BackboneError(
                f"{self.name} takes float images in 0-255, not {least:.7g} to {most:.7g}; do not "
                "standardise them before."
            )
        # all zeros are a black picture; anything else that is so dark was scaled
        if 0 < most <= 1:
            raise BackboneError(
                f"These float images end at {most:.3g}: they look scaled to 0-1, and {self.name} "
                "takes 0-255; multiply them by 255."
            )

    def embed(
        self, faces: np.ndarray, batch_size: int = 64, forward: Forward | None = None
    ) -> np.ndarray:
        """Embed uint8 RGB crops ``(n, size, size, 3)`` as float32 ``(n, embedding_size)``.

        The pretrained network is built at the first call and kept. Embeddings are what the
        network gives, not normalised.

        Args:
            faces: uint8 RGB ``(n, size, size, 3)``.
            batch_size: faces that go through the network at once.
            forward: a function of :meth:`forward` for a network trained further. None: the
                pretrained network.

        Raises:
            BackboneError: wrong shape or dtype.
        """
        surroundings.check_process()
        self.check(faces)
        if not len(faces):
            return np.empty((0, self.embedding_size), np.float32)
        forward = forward or self._pretrained
        # a batch at a time: the network's feature maps are far larger than its embeddings
        parts = []
        for start in range(0, len(faces), batch_size):
            parts.append(forward(faces[start : start + batch_size]).numpy())  # (batch, d)
        return np.concatenate(parts)

    def takes(self, shape: tuple[int | None, ...]) -> bool:
        """Whether a batch of this shape is one of square RGB crops of the input size."""
        return len(shape) == 4 and tuple(shape[1:]) == (self.input_size, self.input_size, 3)

    def check(self, faces: np.ndarray) -> None:
        """Raise BackboneError unless ``faces`` is a uint8 batch of the input size."""
        if faces.dtype != np.uint8 or not self.takes(faces.shape):
            raise BackboneError(
                f"{self.name} takes RGB uint8 batches of shape (n, {self.input_size}, "
                f"{self.input_size}, 3) with values 0-255, not {faces.dtype} {faces.shape}."
            )

    @functools.cached_property
    def _pretrained(self) -> Forward:
        return self.forward(self.build())

    def forward(self, model: keras.Model) -> Forward:
        """Compile a network of this kind: a function from uint8 crops to float32 ``(n, d)``."""
        import tensorflow as tf

        size = self.input_size

        # one graph for batches of any length, with the preprocessing in it
        @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3), tf.uint8)])
        def forward(faces):
            return tf.cast(model(self.preprocess(faces), training=False), tf.float32)

        return forward
