"""Scenes of synthetic people: the same for the same seed, and their faces are where they say."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from utils.answers import verification
from utils.data import scenes
from utils.faces import detection, embeddings
from utils.scoring import metrics

WIDTH, HEIGHT = 720, 405


@pytest.fixture(scope="module")
def walls():
    """Walls of six, by seed."""
    return {seed: scenes.family_wall(6, seed, WIDTH, HEIGHT) for seed in (1, 2, 2026)}


def corners(place):
    """The photo's corners on the wall, without its frame, ``(4, 2)``."""
    turn = np.deg2rad(-place.angle)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return (place.x, place.y) + detection.SQUARE * place.side / 2 @ rotation


def test_wall_has_the_size_asked_for(walls):
    for wall, places in walls.values():
        assert wall.shape == (HEIGHT, WIDTH, 3) and wall.dtype == np.uint8 and len(places) == 6
    assert scenes.family_wall(2, 1, 300, 260)[0].shape == (260, 300, 3)


def test_wall_of_no_stated_size_is_that_of_a_screen():
    assert scenes.family_wall(2)[0].shape == (720, 1280, 3)


@pytest.mark.parametrize("faces", [1, 2, 3, 5, 8])
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
        first, second = places[:3], places[3:]
        assert min(place.side for place in first) > max(place.side for place in second)
        assert max(abs(place.angle) for place in first) <= 2
        assert 2 < max(abs(place.angle) for place in second) <= 7


def test_same_seed_hangs_the_same_wall_and_another_one_another(walls):
    again, places = scenes.family_wall(6, 1, WIDTH, HEIGHT)
    assert_array_equal(again, walls[1][0])
    assert places == walls[1][1] != walls[2][1]
    assert (walls[1][0] != walls[2][0]).any()


def test_every_portrait_is_found_where_it_hangs_and_nothing_else(walls):
    for wall, places in walls.values():
        found = detection.detect(wall)
        assert len(found) == len(places)
        for place in places:
            box = np.array([face.box for face in found])
            centre = box[:, :2] + box[:, 2:] / 2
            distance = np.hypot(*(centre - (place.x, place.y)).T)
            nearest = int(distance.argmin())
            assert distance[nearest] < 0.15 * place.side
            assert 0.6 * place.side < box[nearest, 3] < 1.2 * place.side


def test_photos_are_hung_where_and_as_large_as_asked(walls):
    red = np.full((50, 50, 3), (255, 0, 0), np.uint8)
    wall = scenes.hang([red], [scenes.Portrait(150, 120, 80, 0.0)], 300, 240)
    y, x = np.nonzero((wall == (255, 0, 0)).all(axis=-1))
    assert (x.min(), x.max(), y.min(), y.max()) == (110, 189, 80, 159) and len(x) == 80 * 80
    assert scenes.hang([], [], 90, 60).shape == (60, 90, 3)


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_two_photos_are_crops_with_one_face_each_the_same_for_the_same_seed(kind):
    first, again = scenes.two_photos(kind, 4), scenes.two_photos(kind, 4)
    for photo, other in zip(first, again, strict=True):
        assert photo.shape == (224, 224, 3) and photo.dtype == np.uint8
        assert_array_equal(photo, other)
        assert len(detection.detect(photo)) == 1
    assert (first[0] != first[1]).any() and (first[0] != scenes.two_photos(kind, 5)[0]).any()


def test_first_photo_shows_the_same_person_in_every_kind():
    photos = [scenes.two_photos(kind, 4)[0] for kind in scenes.KINDS]
    assert_array_equal(photos[0], photos[1])
    assert_array_equal(photos[0], photos[2])


def test_kind_that_there_is_not_is_refused():
    with pytest.raises(KeyError, match="twins"):
        scenes.two_photos("twins")


def test_one_person_is_nearer_than_relatives_and_they_nearer_than_strangers(backbone):
    middle = {}
    for kind in scenes.KINDS:
        photos = [photo for seed in range(6) for photo in scenes.two_photos(kind, seed)]
        crops = np.stack([embeddings.align(backbone, photo, faces[0])
                          for photo, faces in zip(photos, detection.detect_many(photos), strict=True)])
        found = backbone.embed(crops)
        middle[kind] = np.median(1 - metrics.cosine(found[::2], found[1::2]))
    assert 1.5 * middle["same"] < middle["relatives"] < middle["strangers"] / 1.1


def test_kinds_are_those_that_verification_tells_apart():
    from utils.data import pairs

    assert scenes.KINDS == pairs.KINDS
    assert verification.verify(*scenes.two_photos("same")).same_person
