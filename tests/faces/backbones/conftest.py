"""Faces and networks that the tests of the backbones share."""

import functools

import numpy as np
import pytest

from utils import images
from utils.faces import backbones


@pytest.fixture(scope="session")
def photo_batch(faces):
    """3 synthetic faces and 3 pictures of noise: uint8 RGB ``(6, 150, 150, 3)``."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 150, 150, 3), dtype=np.uint8)
    return np.concatenate([[images.resize(face, 150) for face in faces], noise])


@pytest.fixture(scope="session")
def network():
    """The network of a name, built once without its weights. Its weights may be replaced."""

    @functools.cache
    def network(name):
        return backbones.get(name).build(None)

    return network
