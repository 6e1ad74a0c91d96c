"""Crops in ArcFace's frame, where the encoders that were trained on it have the face."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from utils.faces import backbones
from utils.faces.alignment import ARCFACE_LANDMARKS, CROP_LANDMARKS
from utils.faces.backbones import arcface

SIZE = arcface.SIZE


@pytest.fixture(params=["edgeface", "mobilefacenet", "sface"])
def backbone(request):
    return backbones.get(request.param)


def test_template_is_that_of_the_competitions_crops(backbone):
    assert_array_equal(backbone.template, CROP_LANDMARKS * SIZE)


def spot(x, y):
    """A bright spot at a place, uint8 RGB."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    light = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18)
    return np.repeat(np.round(light)[..., None], 3, -1).astype(np.uint8)


def place(framed, spread):
    """Where the light is: (x, y)."""
    light = np.asarray(framed).mean(-1) * spread + 127.5
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return np.array([(columns * light).sum(), (rows * light).sum()]) / light.sum()


def test_landmarks_of_a_crop_come_to_lie_where_the_network_has_them(backbone):
    framed = backbone.preprocess(np.stack([spot(*point) for point in CROP_LANDMARKS * SIZE]))
    found = np.array([place(picture, backbone.spread) for picture in framed])
    # the two tables are not the same face: the best similarity leaves some pixels
    wanted = ARCFACE_LANDMARKS * SIZE
    assert np.abs(found - wanted).max() < 3
    assert_allclose((found - wanted).mean(0), 0, atol=0.1)
    # nothing turned or mirrored, and smaller than before
    assert_allclose(found[1, 1] - found[0, 1], 0, atol=0.5)
    assert 33 < found[1, 0] - found[0, 0] < 38 < 0.38 * SIZE


def test_frame_is_the_similarity_that_carries_one_table_to_the_other():
    a, b, c, d, e, f = arcface.FRAME.ravel()
    assert_allclose((a, b), (e, -d), atol=1e-12)
    carried = ARCFACE_LANDMARKS * SIZE @ np.array([[a, d], [b, e]]) + (c, f)
    error = carried - CROP_LANDMARKS * SIZE
    for nudge in ((0.01, 0, 0, 0), (0, 0.01, 0, 0), (0, 0, 0.5, 0), (0, 0, 0, 0.5)):
        for sign in (1, -1):
            scale, turn, right, down = sign * np.array(nudge)
            matrix = np.array([[a + scale, d - turn], [b + turn, e + scale]])
            other = ARCFACE_LANDMARKS * SIZE @ matrix + (c + right, f + down)
            assert (error**2).sum() < ((other - CROP_LANDMARKS * SIZE) ** 2).sum()


def test_picture_is_standardised_and_what_lies_outside_is_its_border(backbone):
    colours = np.array([0, 127.5, 255], np.float32)
    faces = np.broadcast_to(colours[:, None, None, None], (3, SIZE, SIZE, 3))
    standardised = np.asarray(backbone.standardise(faces))
    expected = (colours - 127.5) / backbone.spread
    assert_allclose(standardised, np.broadcast_to(expected[:, None, None, None], faces.shape))
    # the frame reaches beyond the crop at the top, where the crop's first row goes on
    striped = np.zeros((1, SIZE, SIZE, 3), np.float32)
    striped[0, 0] = 255
    top = np.asarray(backbone.standardise(striped))[0, 0]
    assert_allclose(top, 127.5 / backbone.spread, atol=1e-6)
