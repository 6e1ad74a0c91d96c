"""Synthetic faces and pictures of them that the tests of faces share."""

from types import SimpleNamespace

import numpy as np
import pytest

from utils import images
from utils.data import eigenfaces, scenes

GREY = 127


@pytest.fixture(scope="session")
def renderer():
    """The synthetic faces' model: it knows where the landmarks of a rendered face lie."""
    return eigenfaces.load()


@pytest.fixture(scope="session")
def faces(renderer):
    """Three synthetic faces, uint8 RGB ``(3, 128, 128, 3)``."""
    coefficients = np.random.default_rng(1).normal(0, 0.6, (3, len(renderer.components)))
    return renderer.render(coefficients)


@pytest.fixture(scope="session")
def paste(renderer):
    """Put a face into a picture at (x, y) with this side; gives where its landmarks are then."""

    def paste(picture, face, x, y, side):
        margin = side // 6
        frame = (margin, margin)
        framed = np.pad(images.resize(face, side), (frame, frame, (0, 0)), mode="edge")
        picture[y - margin : y + side + margin, x - margin : x + side + margin] = framed
        return renderer.landmarks * side / eigenfaces.SIZE + (x, y)

    return paste


@pytest.fixture(scope="session")
def group(faces, paste):
    """A picture of three people of different size, and their landmarks, the largest first."""
    picture = np.full((700, 1000, 3), GREY, np.uint8)
    places = [(300, 200, 300), (750, 100, 180), (50, 60, 120)]
    landmarks = [paste(picture, face, *at) for face, at in zip(faces, places, strict=True)]
    picture.flags.writeable = False
    return picture, landmarks


@pytest.fixture(scope="session")
def aligning():
    """What the alignment has to know of a network, for crops of 24 pixels."""
    template = np.array([(7.0, 8.0), (17.0, 8.0), (12.0, 13.0), (8.0, 17.0), (16.0, 17.0)])
    return SimpleNamespace(input_size=24, template=template)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Four files: a face, a wall of six faces, a picture of nobody, another face."""
    folder = tmp_path_factory.mktemp("pictures")
    first, second = scenes.two_photos()
    wall = scenes.family_wall(6, 1, 640, 360)[0]
    nobody = np.full((120, 200, 3), GREY, np.uint8)
    for number, picture in enumerate([first, wall, nobody, second]):
        (folder / f"{number}.jpg").write_bytes(images.to_jpeg(picture))
    return sorted(folder.iterdir())
