"""From an answer to what the pages draw."""

import base64

import numpy as np
import pytest
from numpy.testing import assert_allclose

from apps.flask_app import presentation
from apps.flask_app.uploads import Upload
from utils import images
from utils.answers import kinship
from utils.data import scenes


@pytest.fixture(scope="module")
def answered(shipped):
    """A wall of 1920×1080 pixels with six faces against a photo with one, and the answer."""
    two = [scenes.family_wall(seed=7, width=1920, height=1080)[0], scenes.two_photos("same", 3)[0]]
    return two, kinship.Kinship.load(shipped).predict(*two, faces=(2, 1))


@pytest.mark.parametrize(("probability", "words"), [
    (1.0, "virtually certain"), (0.99, "virtually certain"), (0.98, "very likely"), (0.9, "very likely"),
    (0.7, "likely"), (0.66, "likely"), (0.5, "about as likely as not"), (0.33, "about as likely as not"),
    (0.2, "unlikely"), (0.05, "very unlikely"), (0.001, "exceptionally unlikely"),
    (0.0, "exceptionally unlikely")])
def test_probability_in_words(probability, words):
    assert presentation.in_words(probability) == words


def test_pictures_are_not_larger_than_needed_and_boxes_lie_where_the_faces_are(answered):
    photos, answer = answered
    wall, single = presentation.result(answer, photos)["pictures"]
    assert (wall.width, wall.height, single.width, single.height) == (1280, 720, 224, 224)
    shown = images.read(base64.b64decode(wall.jpeg))
    assert shown.shape == (720, 1280, 3)
    for box, face in zip(wall.boxes, answer.all_faces[0], strict=True):
        assert_allclose((box.x, box.y, box.width, box.height), np.array(face.box) / 1.5, atol=0.06)
    assert [box.chosen for box in wall.boxes] == [False, True, False, False, False, False] and wall.found == 6
    assert [box.number for box in wall.boxes] == [1, 2, 3, 4, 5, 6]
    assert images.read(base64.b64decode(wall.boxes[5].thumbnail.partition(",")[2])).shape == (96, 96, 3)
    assert (len(single.boxes), single.boxes[0].thumbnail) == (1, "")
    x, y = map(int, wall.boxes[2].point.split(","))
    assert_allclose((x, y), answer.all_faces[0][2].centre / 1.5, atol=1)


def test_no_more_thumbnails_than_can_be_looked_at(answered, monkeypatch):
    photos, answer = answered
    monkeypatch.setattr(presentation, "THUMBNAILS", 1)
    wall, _ = presentation.result(answer, photos)["pictures"]
    assert [box.number for box in wall.boxes] == [1, 2] and wall.found == 6  # the chosen one is always shown


@pytest.mark.parametrize(("size", "face", "view"), [
    ((300, 200), (10, 10, 20, 20), (0, 0, 300, 200)), ((1280, 100), (600, 20, 50, 60), (525, 0, 200, 100)),
    ((1280, 100), (0, 20, 50, 60), (0, 0, 200, 100)), ((100, 1280), (20, 1230, 40, 50), (0, 1080, 100, 200)),
    ((1000, 100), (300, 0, 100, 100), (200, 0, 300, 100))])
def test_of_a_long_strip_the_part_with_the_chosen_face_is_shown(size, face, view):
    boxes = [presentation.Box(1, 0, 0, 9, 9, False, ""), presentation.Box(2, *face, True, "")]
    assert presentation.Picture("1", "a", "", *size, boxes, 2).view == view
    assert presentation.Picture("1", "a", "", *size, boxes[:1], 1).view == (0, 0, *size)


def test_gauge_points_where_the_probability_is(answered):
    _, answer = answered
    drawn = presentation.gauge(answer)
    for name, share, radius in (("needle", answer.probability, 78), ("threshold", answer.threshold, 114)):
        x, y = map(float, drawn[name].split("L ")[1].split())
        angle = np.pi * (1 - share)
        assert_allclose((x, y), (120 + radius * np.cos(angle), 120 - radius * np.sin(angle)), atol=0.01)
    assert drawn["below"].startswith("M 20.00 120.00") and drawn["above"].endswith("220.00 120.00")
    assert drawn["below"].split("1 ")[-1] == drawn["above"].removeprefix("M ").split(" A")[0]


def test_bars_start_in_the_middle_and_stay_in_their_box(answered):
    _, answer = answered
    drawn = presentation.bars(answer)
    assert [bar["region"] for bar in drawn] == list(answer.regions.carried)
    for bar, value in zip(drawn, answer.regions.carried.values(), strict=True):
        middle = bar["x"] if value > 0 else bar["x"] + bar["width"]
        assert_allclose(middle, 100, atol=0.11)
        assert bar["side"] == ("for" if value > 0 else "against") and 0 <= bar["x"] <= 200 - bar["width"]
    assert max(bar["width"] for bar in drawn) <= 98


def test_a_tall_photo_keeps_its_shape():
    tall = Upload(b"", "a", photo=np.zeros((4000, 30, 3), np.uint8))
    picture, empty = presentation.kept([tall, Upload(b"", "b")])
    assert (picture.width, picture.height, picture.field) == (10, 1280, "1")
    assert (empty.jpeg, empty.field, empty.name) == ("", "2", "the second photo")
