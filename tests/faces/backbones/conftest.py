"""Faces that the backbone tests share."""

import numpy as np
import pytest

from utils import images
from utils.data import eigenfaces


@pytest.fixture(scope="session")
def photo_batch():
    """16 synthetic faces and 16 pictures of noise: uint8 RGB ``(32, 150, 150, 3)``."""
    rng = np.random.default_rng(0)
    model = eigenfaces.load()
    faces = model.render(rng.normal(0, 0.8, (16, len(model.components))))
    noise = rng.integers(0, 256, (16, 150, 150, 3), dtype=np.uint8)
    return np.concatenate([[images.resize(face, 150) for face in faces], noise])
