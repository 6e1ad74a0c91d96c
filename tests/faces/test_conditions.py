"""Faces unlike those measured are told from landmarks and pixels, and are made from others."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageFilter

from utils import images
from utils.data import scenes
from utils.faces import alignment, conditions, detection
from utils.faces.alignment import CROP_LANDMARKS

SIDE = 200
LANDMARKS = CROP_LANDMARKS * SIDE


@pytest.fixture(scope="module")
def portrait():
    """A photo with a face, and what is detected in it."""
    photo = scenes.two_photos("relatives", 5)[0]
    [face] = detection.detect(photo)
    return photo, face


@pytest.fixture(scope="module")
def crop(portrait):
    photo, face = portrait
    return alignment.align(photo, face.landmarks, LANDMARKS, SIDE)


def with_landmarks(landmarks):
    return detection.Face((0.0, 0.0, 10.0, 10.0), 0.99, np.asarray(landmarks, float))


# --- told ---------------------------------------------------------------------------------------


def test_nothing_is_told_of_a_face_that_is_large_sharp_and_straight(portrait):
    assert conditions.told(*portrait) == ()


def test_blurred_face_is_told(portrait):
    photo, face = portrait
    radius = 0.1 * float(np.hypot(*(face.landmarks[1] - face.landmarks[0])))
    dim = np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(radius)))
    assert conditions.told(dim, face) == ("blurred",)


def test_small_face_is_told_by_the_pixels_between_its_eyes(portrait):
    photo, face = portrait
    eyes = np.hypot(*(face.landmarks[1] - face.landmarks[0]))
    for pixels, names in ((15.5, {"small"}), (16.5, set())):
        ratio = pixels / eyes
        size = (round(photo.shape[1] * ratio), round(photo.shape[0] * ratio))
        shrunk = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BOX))
        told = conditions.told(shrunk, with_landmarks(face.landmarks * ratio))
        # what is small lacks detail as well
        assert set(told) - {"blurred"} == names


def test_turned_face_is_told_by_its_nose(portrait):
    photo, face = portrait
    eyes = face.landmarks[1] - face.landmarks[0]
    for shift, names in ((0.35, ("turned",)), (-0.35, ("turned",)), (0.1, ())):
        moved = face.landmarks.copy()
        moved[2] = moved[:2].mean(0) + shift * eyes + (0, 20)
        assert conditions.told(photo, with_landmarks(moved)) == names


def test_all_that_is_told_comes_in_one_order():
    flat = np.full((60, 60, 3), 127, np.uint8)
    landmarks = 20 + 10 * CROP_LANDMARKS
    landmarks[2] += (2, 0)
    assert conditions.told(flat, with_landmarks(landmarks)) == conditions.TOLD


@pytest.mark.parametrize("degrees", [0, 30, -80])
def test_tilted_head_is_not_turned(degrees):
    angle = np.deg2rad(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    straight = CROP_LANDMARKS * 70
    assert_allclose(conditions.turn(straight @ rotation.T), 0, atol=1e-9)
    aside = straight + np.array([(0, 0), (0, 0), (7, 0), (0, 0), (0, 0)])
    # by 7 pixels of the 27.3 between the eyes
    assert_allclose(conditions.turn(aside @ rotation.T), 7 / (0.39 * 70), atol=1e-9)


def test_sharpness_is_the_share_of_fine_detail():
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 1), np.uint8).repeat(3, 2)
    wave = np.sin(np.arange(112) / 112 * 2 * np.pi)[None, :, None].repeat(112, 0).repeat(3, 2)
    smooth = (127 + 100 * wave).astype(np.uint8)
    assert conditions.sharpness(noise) > 0.8 and conditions.sharpness(smooth) < 0.02
    assert conditions.sharpness(np.full((112, 112, 3), 9, np.uint8)) == 0
    # contrast does not count
    assert_allclose(conditions.sharpness(noise // 2), conditions.sharpness(noise), rtol=0.03)


# --- made ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", conditions.ALTERED)
def test_altered_face_is_another_picture_of_the_same_size(crop, name):
    before = crop.copy()
    altered = conditions.ALTERED[name](crop, LANDMARKS)
    assert altered.shape == crop.shape and altered.dtype == np.uint8
    assert np.abs(altered.astype(int) - crop).max() > 10
    assert_array_equal(crop, before)


def changed(crop, name):
    """Where a face is changed: bool ``(size, size)``."""
    return (conditions.ALTERED[name](crop, LANDMARKS) != crop).any(-1)


def pixel(landmark):
    x, y = np.round(LANDMARKS[landmark]).astype(int)
    return y, x


def test_sunglasses_cover_the_eyes_alone(crop):
    where = changed(crop, "sunglasses")
    assert where[pixel(0)] and where[pixel(1)]
    assert not any(where[pixel(landmark)] for landmark in (2, 3, 4))
    assert 0.05 < where.mean() < 0.25


def test_mask_covers_mouth_and_tip_of_the_nose_but_not_the_eyes(crop):
    where = changed(crop, "mask")
    assert all(where[pixel(landmark)] for landmark in (2, 3, 4))
    assert not where[pixel(0)] and not where[pixel(1)]
    assert 0.1 < where.mean() < 0.4


def test_covers_follow_the_landmarks(crop):
    moved = LANDMARKS * 0.5 + 60
    where = (conditions.sunglasses(crop, moved) != crop).any(-1)
    rows, columns = np.nonzero(where)
    eyes = moved[:2].mean(0)
    assert_allclose((columns.mean(), rows.mean()), eyes, atol=2)
    assert where.sum() == pytest.approx(changed(crop, "sunglasses").sum() / 4, rel=0.1)


def test_small_and_blurred_faces_are_made_so_that_it_is_told(crop):
    for name in ("small", "blurred"):
        altered = conditions.ALTERED[name](crop, LANDMARKS)
        judged = images.resize(altered, conditions.SIDE)
        assert conditions.sharpness(judged) < conditions.sharpness(
            images.resize(crop, conditions.SIDE)
        )
    assert conditions.told(conditions.blurred(crop, LANDMARKS), with_landmarks(LANDMARKS)) == (
        "blurred",
    )


def test_grey_face_has_the_brightness_and_no_colour(crop):
    altered = conditions.grey(crop, LANDMARKS)
    assert (altered[..., :1] == altered).all()
    assert_array_equal(altered[..., 0], np.asarray(Image.fromarray(crop).convert("L")))
