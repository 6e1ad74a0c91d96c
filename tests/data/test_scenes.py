"""Scenes of synthetic people: the same for the same seed, and their faces are where they say."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from utils.data import protocols, scenes
from utils.faces import alignment, detection
from utils.scoring import metrics

WIDTH, HEIGHT = 720, 405


@pytest.fixture(scope="module")
def walls():
    """Walls of six, by seed."""
    return {seed: scenes.family_wall(6, seed, WIDTH, HEIGHT) for seed in (1, 2)}


def corners(place):
    """The photo's corners on the wall, without its frame, ``(4, 2)``."""
    turn = np.deg2rad(-place.angle)
    cos, sin = np.cos(turn), np.sin(turn)
    square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * place.side / 2
    return (place.x, place.y) + square @ [(cos, sin), (-sin, cos)]


def test_wall_has_the_size_asked_for(walls):
    for wall, places in walls.values():
        assert wall.shape == (HEIGHT, WIDTH, 3) and wall.dtype == np.uint8 and len(places) == 6
    assert scenes.family_wall(2, 1, 300, 260)[0].shape == (260, 300, 3)


def test_wall_of_no_stated_size_is_that_of_a_screen():
    assert scenes.family_wall(2)[0].shape == (720, 1280, 3)


@pytest.mark.parametrize("faces", [1, 2, 5])
def test_every_portrait_hangs_inside_the_wall_and_none_over_another(faces):
    _, places = scenes.family_wall(faces, 3, 900, 500)
    assert len(places) == faces
    for number, place in enumerate(places):
        assert (corners(place) > 0).all() and (corners(place) < (900, 500)).all()
        for other in places[:number]:
            apart = max(abs(place.x - other.x), abs(place.y - other.y))
            assert apart > (place.side + other.side) / 2


def test_first_row_is_large_and_straight_and_the_second_small_and_askew(walls):
    for _, places in walls.values():
        sides = np.array([place.side for place in places])
        angles = np.abs([place.angle for place in places])
        assert sides[:3].min() > sides[3:].max()
        assert angles[:3].max() <= 2 < angles[3:].max() <= 7


def test_same_seed_hangs_the_same_wall_and_another_one_another(walls):
    again, places = scenes.family_wall(6, 1, WIDTH, HEIGHT)
    assert_array_equal(again, walls[1][0])
    assert places == walls[1][1] != walls[2][1]
    assert (walls[1][0] != walls[2][0]).any()


def test_every_portrait_is_found_where_it_hangs_and_nothing_else(walls):
    for wall, places in walls.values():
        boxes = np.array([face.box for face in detection.detect(wall)])  # x, y, width, height
        assert len(boxes) == len(places)
        centres = boxes[:, :2] + boxes[:, 2:] / 2
        for place in places:
            distances = np.hypot(*(centres - (place.x, place.y)).T)
            nearest = int(distances.argmin())
            assert distances[nearest] < 0.15 * place.side
            assert 0.6 * place.side < boxes[nearest, 3] < 1.2 * place.side


def test_photos_are_hung_where_and_as_large_as_asked(walls):
    red = np.full((50, 50, 3), (255, 0, 0), np.uint8)
    wall = scenes.hang([red], [scenes.Portrait(150, 120, 80, 0.0)], 300, 240)
    y, x = np.nonzero((wall == (255, 0, 0)).all(axis=-1))
    assert (x.min(), x.max(), y.min(), y.max()) == (110, 189, 80, 159) and len(x) == 80 * 80
    assert scenes.hang([], [], 90, 60).shape == (60, 90, 3)


@pytest.fixture(scope="module")
def photos():
    """Four couples of photos of each kind, by kind."""
    by_kind = {kind: [] for kind in protocols.PAIR_KINDS}
    for kind, crops in by_kind.items():
        for seed in range(4):
            crops.extend(scenes.two_photos(kind, seed))
    return by_kind


def test_two_photos_are_crops_the_same_for_the_same_seed(photos):
    for kind, crops in photos.items():
        assert {(photo.shape, photo.dtype.name) for photo in crops} == {((224, 224, 3), "uint8")}
        assert_array_equal(scenes.two_photos(kind, 1), crops[2:4])
        assert (crops[0] != crops[2]).any() and (crops[0] != crops[1]).any()


def test_first_photo_shows_the_same_person_in_every_kind(photos):
    assert_array_equal(photos["same"][::2], photos["relatives"][::2])
    assert_array_equal(photos["same"][::2], photos["strangers"][::2])


def test_kind_that_there_is_not_is_refused():
    with pytest.raises(KeyError, match="twins"):
        scenes.two_photos("twins")


def test_one_person_is_nearer_than_relatives_and_they_nearer_than_strangers(photos, backbone):
    distance = {}
    for kind, crops in photos.items():
        faces = detection.detect_many(crops)
        assert [len(of_photo) for of_photo in faces] == [1] * 8
        aligned = [
            alignment.align_face(backbone, photo, face).crop
            for photo, [face] in zip(crops, faces, strict=True)
        ]
        embeddings = backbone.embed(np.stack(aligned))  # (8, 128)
        similarities = metrics.cosine(embeddings[::2], embeddings[1::2])
        distance[kind] = np.median(1 - similarities)
    assert 1.5 * distance["same"] < distance["relatives"] < distance["strangers"] / 1.1


def test_drawn_face_is_found_where_its_eyes_and_mouth_are():
    [face] = detection.detect(scenes.drawn_face())
    expected = [(160, 183), (240, 183), (200, 230), (166, 271), (234, 271)]
    assert np.abs(face.landmarks - expected).max() < 12


def test_drawn_face_without_a_part_is_another_picture():
    whole = scenes.drawn_face()
    assert whole.shape == (400, 400, 3) and whole.dtype == np.uint8
    for part in scenes.FACE_PARTS:
        others = [other for other in scenes.FACE_PARTS if other != part]
        assert (scenes.drawn_face(others) != whole).any()


def test_family_pictures_show_people_side_by_side_the_same_for_the_same_seed():
    pictures = scenes.family_pictures(3)
    for picture, again in zip(pictures, scenes.family_pictures(3), strict=True):
        assert_array_equal(picture, again)
        count = (picture.shape[1] - 20) // 300
        faces = [face for face in detection.detect(picture) if face.confidence > 0.9]
        places = sorted(int(face.centre[0] // 300) for face in faces)
        assert 2 <= count <= 4 and places == list(range(count))
