"""Examples for visitors who have no photos at hand: people who do not exist."""

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image

from utils import images
from utils.data import scenes
from utils.faces.detection import Which

THUMBNAIL = (320, 160)  # width and height in pixels
WALL_SEED = 3  # here they are likely related, as they should be


@dataclass(frozen=True)
class Example:
    """Two photos, and what they show.

    Attributes:
        truth: what they show in truth.
        kind: of the two people, as :func:`scenes.two_photos` takes it; empty for a wall of six
            portraits, of which a parent is compared with a child.
        seed: which of the many.
    """

    truth: str
    kind: str
    seed: int

    @functools.cached_property
    def photos(self) -> tuple[np.ndarray, np.ndarray]:
        """Both photos, uint8 RGB."""
        if self.kind:
            return scenes.two_photos(self.kind, self.seed)
        wall, _ = scenes.family_wall(seed=self.seed)
        return wall, wall

    @functools.cached_property
    def faces(self) -> tuple[Which, Which]:
        """Which face of each photo is compared."""
        if self.kind:
            return 1, 1
        # two parents hang first, then their children
        _, (parent, _, child, *_) = scenes.family_wall(seed=self.seed)
        return (parent.x, parent.y), (child.x, child.y)

    @functools.cached_property
    def thumbnail(self) -> bytes:
        """Both photos in one small JPEG, or the wall."""
        first, second = self.photos
        picture = np.hstack([first, second]) if self.kind else first[:640]  # twice as wide as high
        small = Image.fromarray(picture).resize(THUMBNAIL, Image.Resampling.LANCZOS)
        return images.to_jpeg(np.asarray(small))


def _examples() -> dict[str, Example]:
    """By the name in the address."""
    examples = [Example(truth, *pair) for truth, pair in scenes.EXAMPLES.items()]
    examples.append(Example("two other strangers", "strangers", 14))
    examples.append(Example("two of a family of six", "", WALL_SEED))
    return {example.truth.replace(" ", "-"): example for example in examples}


EXAMPLES = _examples()
