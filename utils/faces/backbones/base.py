"""The small interface behind which every face encoder stands."""

import abc
import functools
import zipfile
from pathlib import Path

import numpy as np

from ...errors import BackboneError, WeightsError


class Backbone(abc.ABC):
    """A face encoder: uint8 RGB crops in, embeddings out.

    Attributes:
        name: key in the registry.
        input_size: side of the square crops in pixels.
        embedding_size: length of an embedding.
        preprocessing: short name of what :meth:`standardise` does; part of every cache key.
        template: where the landmarks of an aligned face lie in the crop: eye on the left of the
            picture, eye on the right, nose, left and right mouth corner; (x, y), ``(5, 2)`` pixels.
    """

    name: str
    input_size: int
    embedding_size: int
    preprocessing: str
    template: np.ndarray

    @abc.abstractmethod
    def standardise(self, faces):
        """float32 RGB ``(n, size, size, 3)`` in [0, 255], checked, to the network's float32 input."""

    @abc.abstractmethod
    def architecture(self):
        """The network as an untrained ``keras.Model`` on preprocessed input, output ``(n, d)``."""

    @abc.abstractmethod
    def load_pretrained(self, model) -> None:
        """Fill ``model`` with the published weights. Raises WeightsError."""

    @abc.abstractmethod
    def weights_path(self) -> Path:
        """The published weights' file, verified. Raises WeightsError: not here, truncated or altered."""

    def fetch(self, progress: bool = True) -> Path:
        """Bring the published weights here if they are not, and verify them. Raises WeightsError."""
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

    def build(self, weights: str | Path | None = "pretrained"):
        """Build the network as a trainable ``keras.Model``.

        Args:
            weights: ``"pretrained"``, None for random weights, or the path of a weights or
                model file (``.weights.h5``, ``.keras``) that was saved from this network, or of a
                legacy ``.h5`` file with the layer names of the network's publisher.

        Raises:
            WeightsError: the file is missing, damaged, or was written for another network.
        """
        model = self.architecture()
        if weights == "pretrained":
            self.load_pretrained(model)
        elif weights is not None:
            self._load_file(model, Path(weights))
        return model

    def _load_file(self, model, path: Path) -> None:
        if not path.is_file():
            raise WeightsError(f"The weights file {path} does not exist; check the path.")
        from .legacy import is_legacy, load_h5

        if is_legacy(path):
            return load_h5(model, path)
        try:
            model.load_weights(path)
        except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
            raise WeightsError(f"{path} does not hold weights for {self.name}, or is damaged; name a "
                               ".weights.h5 or .keras file that was saved from this network.") from error

    def preprocess(self, faces):
        """RGB crops to the network's float32 input, in NumPy, in eager TensorFlow and in graphs.

        Args:
            faces: ``(n, size, size, 3)``, uint8, or floats in [0, 255] (augmented photos).

        Raises:
            BackboneError: another size or type, or floats in another range (not seen in graphs).
        """
        from keras import ops

        dtype = getattr(faces.dtype, "name", faces.dtype)  # Keras' own tensors have the name alone
        if not self.takes(faces.shape) or not (dtype == "uint8" or dtype.startswith("float")):
            raise BackboneError(
                f"{self.name} takes crops of {self.input_size}×{self.input_size} RGB pixels, uint8 or float in "
                f"0-255, not {dtype} {tuple(faces.shape)}.")
        if dtype != "uint8" and (isinstance(faces, np.ndarray) or hasattr(faces, "numpy")):
            self._check_range(np.asarray(faces))
        return self.standardise(ops.cast(faces, "float32"))

    def _check_range(self, faces: np.ndarray) -> None:
        """Refuse floats that were scaled or standardised already."""
        if not faces.size:
            return
        least, most = faces.min(), faces.max()
        if not 0 <= least <= most <= 255:
            raise BackboneError(f"{self.name} takes float images in 0-255, not {least:.7g} to {most:.7g}; do not "
                                "standardise them before.")
        if 0 < most <= 1:
            raise BackboneError(f"These float images end at {most:.3g}: they look scaled to 0-1, and {self.name} "
                                "takes 0-255; multiply them by 255.")

    def embed(self, faces: np.ndarray, batch_size: int = 64, forward=None) -> np.ndarray:
        """Embed uint8 RGB crops ``(n, size, size, 3)`` as float32 ``(n, embedding_size)``.

        The pretrained network is built at the first call and kept. Embeddings are what the
        network gives, not normalised.

        Args:
            forward: what :meth:`forward` gave for a network trained further. None: the pretrained one.

        Raises:
            BackboneError: wrong shape or dtype.
        """
        self.check(faces)
        forward = forward or self._pretrained
        parts = [forward(faces[i:i + batch_size]).numpy() for i in range(0, len(faces), batch_size)]
        return np.concatenate(parts) if parts else np.empty((0, self.embedding_size), np.float32)

    def takes(self, shape: tuple) -> bool:
        """Whether a batch of this shape is one of square RGB crops of the input size."""
        return len(shape) == 4 and tuple(shape[1:]) == (self.input_size, self.input_size, 3)

    def check(self, faces: np.ndarray) -> None:
        """Raise BackboneError unless ``faces`` is a uint8 batch of the input size."""
        if faces.dtype != np.uint8 or not self.takes(faces.shape):
            raise BackboneError(
                f"{self.name} takes RGB uint8 batches of shape (n, {self.input_size}, "
                f"{self.input_size}, 3) with values 0-255, not {faces.dtype} {faces.shape}.")

    @functools.cached_property
    def _pretrained(self):
        return self.forward(self.build())

    def forward(self, model):
        """A compiled function from uint8 crops to what ``model``, a network of this kind, gives: float32."""
        import tensorflow as tf

        size = self.input_size

        @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3), tf.uint8)])
        def forward(faces):
            return tf.cast(model(self.preprocess(faces), training=False), tf.float32)

        return forward
