"""Faces marked in a picture: where the boxes are, and which of them is in another colour."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import ImageColor

from apps.streamlit_pages import drawing
from utils.faces.detection import Face

GREY = np.full((300, 320, 3), 128, np.uint8)
FACES = [Face((200.0, 100.0, 160.0, 200.0), 0.99, np.zeros((5, 2))),
         Face((400.0, 300.0, 120.0, 160.0), 0.98, np.zeros((5, 2)))]  # fmt: skip


def borders(picture):
    """The colour in the middle of the right side of each box, at half the photo's scale."""
    return [tuple(picture[y, x]) for x, y in ((180, 100), (260, 190))]


@pytest.mark.parametrize(
    ("chosen", "colours"),
    [
        (0, (drawing.CHOSEN, drawing.CHOSEN)),
        (1, (drawing.CHOSEN, drawing.OTHER)),
        (2, (drawing.OTHER, drawing.CHOSEN)),
    ],
)
def test_the_chosen_face_is_in_another_colour(chosen, colours):
    picture = drawing.numbered(GREY, FACES, 0.5, chosen)
    assert borders(picture) == [ImageColor.getrgb(colour) for colour in colours]
    assert_array_equal(picture[60:90, 120:150], 128)  # a face itself is not painted over


def test_numbers_stand_where_there_are_several_and_inside_the_picture():
    one, two = (drawing.numbered(GREY, FACES[:count], 0.5) for count in (1, 2))
    corner = (slice(45, 55), slice(95, 105))
    ground = ImageColor.getrgb(drawing.CHOSEN_GROUND)
    assert (two[corner] == ground).all(-1).any() and not (one[corner] == ground).all(-1).any()
    outside = [Face((-50.0, -40.0, 90.0, 90.0), 0.99, np.zeros((5, 2))), FACES[1]]
    assert (drawing.numbered(GREY, outside, 0.5)[:14, :14] == ground).all(-1).any()
