"""What backbones have in common whose weights are fetched."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ... import settings
from ..alignment import BOX_LANDMARKS
from ..weights import FetchedWeights, checksum
from .base import Backbone
from .legacy import load_h5

if TYPE_CHECKING:
    import keras


class PublishedBackbone(Backbone):
    """A backbone whose code comes with a package, and whose weights are fetched.

    Attributes:
        box_share: most networks were trained on detected boxes with a margin; this share of a
            crop's side is the box. One with another ``template`` has none.
    """

    box_share: float

    @property
    @abc.abstractmethod
    def weights(self) -> FetchedWeights:
        """Where the weights come from: a publisher's server, or an archive of a package."""

    @property
    def template(self) -> np.ndarray:
        """The landmarks of a mean face whose box has the margin of the network's training."""
        # the box shrinks around the middle of the crop
        return ((BOX_LANDMARKS - 0.5) * self.box_share + 0.5) * self.input_size

    def weights_path(self) -> Path:
        """The file in the folder that ``KIN_WEIGHTS`` names. Raises WeightsError."""
        return self.weights.path(settings.weights_dir())

    def fetch(self, progress: bool = True) -> Path:
        """Download the file unless the right one is there, and load it. Raises WeightsError."""
        model = self.architecture()  # first: without the network's package, nothing is fetched
        return self.weights.fetch(
            settings.weights_dir(), lambda path: load_h5(model, path), progress
        )

    def load_pretrained(self, model: keras.Model) -> None:
        """Read the file, every tensor by name. Raises WeightsError."""
        # recorded after loading: a checksum stands for weights that fit
        path = self.weights_path()
        load_h5(model, path)
        self.weights.record(path)

    @property
    def weights_id(self) -> str:
        """Checksum of the file at hand.

        Where none is published or recorded yet, the file is loaded first: only the checksum of
        weights that fit is recorded.

        Raises:
            WeightsError: the file is not here, or cannot be used.
        """
        path = self.weights_path()
        if self.weights.expected(path.parent) is None:
            self.load_pretrained(self.architecture())
        return self.weights.expected(path.parent) or checksum(path)
