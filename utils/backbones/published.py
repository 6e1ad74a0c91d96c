"""What the backbones have in common whose weights are fetched from a publisher."""

from pathlib import Path

from .. import settings
from ..files import sha256
from ..weights import PublishedWeights
from .base import Backbone
from .legacy import load_h5


class PublishedBackbone(Backbone):
    """A backbone whose code comes with a package, and its weights from the package's publisher."""

    weights: PublishedWeights

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
