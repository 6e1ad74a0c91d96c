"""What the backbones have in common whose weights are fetched from a publisher."""

from pathlib import Path

import numpy as np

from ... import settings
from ...files import sha256
from ..weights import PublishedWeights
from .base import Backbone
from .legacy import load_h5

# Where landmarks lie in the square around MTCNN's box, its side 1: medians over 1,034 training photos
# of the competition, made left-right symmetric.
BOX_LANDMARKS = np.array([(0.325, 0.397), (0.675, 0.397), (0.500, 0.600), (0.338, 0.746), (0.662, 0.746)])


class PublishedBackbone(Backbone):
    """A backbone whose code comes with a package, and its weights from the package's publisher.

    Attributes:
        box_share: the networks were trained on detected boxes with a margin; this share of a crop's
            side is the box.
    """

    weights: PublishedWeights
    box_share: float

    @property
    def template(self) -> np.ndarray:
        """The landmarks of a mean face whose box has the margin of the network's training."""
        return ((BOX_LANDMARKS - 0.5) * self.box_share + 0.5) * self.input_size

    def weights_path(self) -> Path:
        """The published file in the folder that ``KIN_WEIGHTS`` names. Raises WeightsError."""
        return self.weights.path(settings.weights_dir())

    def fetch(self, progress: bool = True) -> Path:
        """Download the file unless the right one is there, and load it once. Raises WeightsError."""
        model = self.architecture()  # first: without the network's package, nothing is fetched
        return self.weights.fetch(settings.weights_dir(), lambda path: load_h5(model, path), progress)

    def load_pretrained(self, model) -> None:
        """Read the published file, every tensor by name. Raises WeightsError."""
        path = self.weights_path()
        load_h5(model, path)
        self.weights.record(path)

    @property
    def weights_id(self) -> str:
        """Checksum of the file at hand, loaded once if none is published. Raises WeightsError."""
        folder = self.weights_path().parent
        if self.weights.expected(folder) is None:
            self.load_pretrained(self.architecture())
        return self.weights.expected(folder) or sha256(self.weights_path())
