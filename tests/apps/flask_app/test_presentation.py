"""From an answer to what the pages draw."""

import base64
import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose

from apps.flask_app import presentation
from apps.flask_app.uploads import Upload
from utils import images
from utils.answers import explanation, kinship
from utils.answers.explanation import Regions
from utils.data import scenes


@pytest.fixture(scope="module")
def photos():
    """A wall of 1920×1080 pixels with six faces, and a photo with one."""
    return [
        scenes.family_wall(seed=7, width=1920, height=1080)[0],
        scenes.two_photos("same", 3)[0],
    ]


@pytest.fixture(scope="module")
def answer(photos, shipped, few_donors):
    """The answer to the second face of the wall and the single one."""
    return kinship.Kinship.load(shipped).predict(*photos, faces=(2, 1))


def test_pictures_are_not_larger_than_needed_and_boxes_lie_where_the_faces_are(answer, photos):
    wall, single = presentation.result(answer, photos)["pictures"]
    faces = answer.comparison.first.faces
    assert (wall.width, wall.height, single.width, single.height) == (1280, 720, 224, 224)
    assert images.read(base64.b64decode(wall.jpeg)).shape == (720, 1280, 3)
    for box, face in zip(wall.boxes, faces, strict=True):
        assert_allclose((box.x, box.y, box.width, box.height), np.array(face.box) / 1.5, atol=0.06)
    assert [box.number for box in wall.boxes] == [1, 2, 3, 4, 5, 6] and wall.face_count == 6
    assert [box.number for box in wall.boxes if box.is_compared] == [2]
    x, y = map(int, wall.boxes[2].point.split(","))
    assert_allclose((x, y), faces[2].centre / 1.5, atol=1)


def test_thumbnails_are_shown_where_there_is_something_to_choose(answer, photos):
    wall, single = presentation.result(answer, photos)["pictures"]
    for box in wall.boxes:
        kind, content = box.thumbnail.split(",")
        assert kind == "data:image/jpeg;base64"
        assert images.read(base64.b64decode(content)).shape == (96, 96, 3)
    assert [box.thumbnail for box in single.boxes] == [""]


def test_of_many_faces_the_largest_and_the_compared_one_are_shown(answer, photos, monkeypatch):
    monkeypatch.setattr(presentation, "THUMBNAILS", 1)
    wall, _ = presentation.result(answer, photos)["pictures"]
    assert [box.number for box in wall.boxes] == [1, 2] and wall.face_count == 6


@pytest.mark.parametrize(
    ("size", "face", "view"),
    [
        ((300, 200), (10, 10, 20, 20), (0, 0, 300, 200)),
        ((1280, 100), (600, 20, 50, 60), (525, 0, 200, 100)),
        ((1280, 100), (0, 20, 50, 60), (0, 0, 200, 100)),
        ((100, 1280), (20, 1230, 40, 50), (0, 1080, 100, 200)),
        ((1000, 100), (300, 0, 100, 100), (200, 0, 300, 100)),
    ],
)
def test_of_a_long_strip_the_part_with_the_compared_face_is_shown(size, face, view):
    boxes = [presentation.Box(1, 0, 0, 9, 9, False, ""), presentation.Box(2, *face, True, "")]
    assert presentation.Picture("1", "a", "b", "", *size, boxes, 2).view == view
    assert presentation.Picture("1", "a", "b", "", *size, boxes[:1], 1).view == (0, 0, *size)


def test_a_small_face_can_still_be_hit():
    face = presentation.Box(1, 100, 50, 20, 60, False, "")
    assert face.place == (88, 50, 44, 60) and face.point == "110,80"


def test_a_photo_that_was_turned_is_shown_as_it_was_compared(answer, photos):
    side = dataclasses.replace(answer.comparison.second, quarter_turns=1)
    turned = dataclasses.replace(answer.comparison, second=side)
    wall, single = presentation.result(
        dataclasses.replace(answer, comparison=turned), [photos[0], photos[1][:, :200]]
    )["pictures"]
    assert (wall.angle, single.angle) == ("", "by 90° to the left")
    assert (single.width, single.height) == (224, 200)
    angles = [dataclasses.replace(single, quarter_turns=turns).angle for turns in (2, 3)]
    assert angles == ["by 180°", "by 90° to the right"]


def test_gauge_shows_the_bands_and_where_the_probability_is():
    bands = kinship.Bands(0.2172, 0.7762, 0.1, 0.1, 0.5)
    gauge = presentation.gauge(0.98765, bands)
    assert gauge == {"unlikely": 21.7, "likely": 77.6, "mark": 98.8}


@pytest.mark.parametrize(
    ("probability", "words"),
    [
        (0.9, "9 of 100 pairs with this answer were not related."),
        (0.5, "The faces do not decide it. When the model was tested on"),
        (0.5, "this was so for 45 of 100 pairs."),
        (0.1, "10 of 100 pairs with this answer were related after all."),
    ],
)
def test_what_an_answer_is_worth_is_said_for_its_band(answer, probability, words):
    assert words in presentation.worth(dataclasses.replace(answer, probability=probability))


def test_bars_start_in_the_middle_and_are_as_long_as_what_a_region_carries():
    carried = dict(zip(explanation.REGIONS, (1.0, -0.5, 0.25, 0.0, -1.0, 0.1), strict=True))
    spread = dict.fromkeys(explanation.REGIONS, 0.07)
    eyes, brows, *_ = presentation.bars(Regions(carried, spread, np.zeros((2, 6, 4, 4))))
    about_eyes = {"region": "eyes", "value": "+1.00", "error": "0.14"}
    about_brows = {"region": "brows", "value": "-0.50", "error": "0.14"}
    assert eyes == {**about_eyes, "x": 100.0, "width": 98.0, "side": "for"}
    assert brows == {**about_brows, "x": 51.0, "width": 49.0, "side": "against"}


def test_an_answer_without_regions_is_refused(answer, photos):
    with pytest.raises(ValueError, match="ask for an answer that explains"):
        presentation.result(dataclasses.replace(answer, regions=None), photos)


def test_further_photos_are_kept_in_a_smaller_copy(answer, photos):
    wall = Upload(b"", "c", photo=photos[0])
    first = Upload(b"", "a", photo=photos[1], further=[wall, Upload(b"", "not decoded")])
    one, two = presentation.places([first, Upload(b"", "b")])
    assert (len(one.further), two.further) == (1, [])
    assert images.read(base64.b64decode(one.further[0])).shape == (540, 960, 3)
    one, two = presentation.result(answer, photos, [[], [photos[0]]])["pictures"]
    assert (one.further, len(two.further)) == ([], 1)


def test_a_tall_photo_keeps_its_shape():
    tall = Upload(b"", "a", photo=np.zeros((4000, 30, 3), np.uint8))
    picture, empty = presentation.places([tall, Upload(b"", "b")])
    assert (picture.width, picture.height, picture.field) == (10, 1280, "1")
    assert (empty.jpeg, empty.field, empty.name) == ("", "2", "the second photo")
