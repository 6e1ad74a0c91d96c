"""Landmarks come to lie where they belong, and crops show what they should."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from utils import images
from utils.faces import alignment, detection

TEMPLATE = alignment.DLIB_LANDMARKS * 150


def face_at(landmarks):
    return detection.Face((0.0, 0.0, 50.0, 60.0), 0.99, np.asarray(landmarks))


def turn(points, angle, scale, shift):
    """Rotate, scale and shift points."""
    cos, sin = np.cos(angle), np.sin(angle)
    return scale * points @ np.array([[cos, sin], [-sin, cos]]) + shift


def dots(shape, points, radius):
    """A black picture with a soft dot around each point (x, y)."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    glow = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius**2)) for px, py in points)
    return np.stack([(255 * glow.clip(0, 1)).astype(np.uint8)] * 3, axis=-1)


def centre_of_light(crop):
    """(x, y) of the mean of a picture's light."""
    light = crop[..., 0] / 255
    rows, columns = np.mgrid[: len(crop), : len(crop)] + 0.5
    return (light * columns).sum() / light.sum(), (light * rows).sum() / light.sum()


# --- the transform ------------------------------------------------------------------------------

FINITE = st.floats(-500, 500)
POINTS = (
    st.lists(st.tuples(FINITE, FINITE), min_size=2, max_size=8)
    .map(np.array)
    .filter(lambda points: np.ptp(points, axis=0).max() > 1)
)


@settings(max_examples=25, deadline=None)
@given(POINTS, st.floats(-np.pi, np.pi), st.floats(0.05, 20), st.tuples(FINITE, FINITE))
def test_similarity_transform_is_found_exactly(points, angle, scale, shift):
    matrix = alignment.similarity_transform(points, turn(points, angle, scale, shift))
    expected = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert_allclose(matrix[:, :2], expected, atol=1e-8 * scale)
    assert_allclose(matrix[:, 2], shift, atol=1e-6 * max(1, scale))


@settings(max_examples=25, deadline=None)
@given(POINTS, st.integers(0, 1000), st.floats(-0.2, 0.2), st.floats(0.8, 1.25))
def test_no_other_similarity_fits_better(source, seed, angle, scale):
    target = source + np.random.default_rng(seed).normal(0, 20, source.shape)
    matrix = alignment.similarity_transform(source, target)
    fitted = source @ matrix[:, :2].T + matrix[:, 2]
    centre = fitted.mean(0)
    worse = turn(fitted - centre, angle, scale, centre)
    assert ((fitted - target) ** 2).sum() <= ((worse - target) ** 2).sum() * (1 + 1e-9) + 1e-9


# --- aligned faces ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("angle", "scale", "size"),
    [(0, 1, 300), (0.5, 0.7, 300), (-1.3, 1.6, 400), (np.pi / 2, 3.0, 700), (3.0, 6.0, 1300)],
    ids=["as it is", "turned and small", "turned far", "sideways, large", "upside down, huge"],
)
def test_aligned_landmarks_lie_on_the_template(angle, scale, size):
    landmarks = turn(TEMPLATE - 75, angle, scale, (size / 2 + 7, size / 2 - 4))
    chip = alignment.align(dots((size, size), landmarks, 2.5 * scale), landmarks, TEMPLATE, 150)
    assert chip.shape == (150, 150, 3) and chip.dtype == np.uint8
    rows, columns = np.mgrid[:150, :150] + 0.5
    for x, y in TEMPLATE:
        near = np.hypot(columns - x, rows - y) < 10
        assert_allclose(centre_of_light(chip * near[..., None]), (x, y), atol=0.35)


def test_what_lies_outside_the_photo_is_filled_with_its_border():
    landmarks = TEMPLATE * 0.9 - (45, 45)  # the chip reaches far beyond the corner
    photo = np.full((70, 70, 3), (200, 100, 50), np.uint8)
    assert (alignment.align(photo, landmarks, TEMPLATE, 150) == (200, 100, 50)).all()


def test_sideways_photo_gives_the_same_aligned_face(faces, renderer):
    upright, landmarks = images.resize(faces[0], 256), renderer.landmarks * 2
    sideways = np.ascontiguousarray(np.rot90(upright, 1))
    turned = np.column_stack([landmarks[:, 1], 256 - landmarks[:, 0]])
    chip = alignment.align(upright, landmarks, TEMPLATE, 150).astype(int)
    assert np.abs(chip - alignment.align(sideways, turned, TEMPLATE, 150)).mean() < 1


def test_aligned_face_is_the_crop_that_the_network_takes(backbone, pictures):
    photo = images.read(pictures[0])
    (face,) = detection.detect(photo)
    aligned = alignment.align_face(backbone, photo, face)
    assert aligned.crop.shape == (150, 150, 3) and aligned.crop.dtype == np.uint8
    assert_array_equal(aligned.crop, alignment.align(photo, face.landmarks, TEMPLATE, 150))

    # MTCNN finds them again in the crop, with an error of its own
    (found,) = detection.detect_in_crops([aligned.crop])
    assert np.hypot(*(found.landmarks - TEMPLATE).T).mean() < 6
    assert np.hypot(*(aligned.landmarks - TEMPLATE).T).mean() < 6


@given(st.floats(-3, 3), st.floats(0.2, 8), st.floats(-90, 900), st.floats(-90, 900))
@settings(max_examples=25, deadline=None)
def test_landmarks_of_a_face_that_fits_the_template_lie_on_it(aligning, angle, scale, x, y):
    face = face_at(turn(aligning.template, angle, scale, (x, y)))
    photo = np.zeros((30, 40, 3), np.uint8)
    assert_allclose(
        alignment.align_face(aligning, photo, face).landmarks, aligning.template, atol=1e-6
    )


@pytest.mark.parametrize("scale", [1, 4], ids=["as it is", "shrunk first"])
def test_landmarks_in_the_crop_are_where_their_pixels_come_to_lie(aligning, scale):
    landmarks = scale * np.array(
        [(60.0, 55.0), (110.0, 62.0), (80.0, 90.0), (58.0, 110.0), (105.0, 118.0)]
    )
    for number, landmark in enumerate(landmarks):
        photo = dots((160 * scale, 160 * scale), [landmark], 5 * scale)
        aligned = alignment.align_face(aligning, photo, face_at(landmarks))
        assert_allclose(centre_of_light(aligned.crop), aligned.landmarks[number], atol=0.3)
    distances = np.hypot(*(aligned.landmarks - aligning.template).T)
    assert distances.max() > 0.3, "they fit too well to show anything"


def test_aligned_faces_are_the_largest_ones_or_the_whole_photo(aligning, pictures):
    crops, landmarks = alignment.aligned_faces(aligning, pictures)
    assert crops.shape == (4, 24, 24, 3) and crops.dtype == np.uint8
    assert landmarks.shape == (4, 5, 2)
    assert (crops[2] == 127).all() and np.isnan(landmarks[2]).all()
    for number in (0, 1, 3):
        photo = images.read(pictures[number])
        face = alignment.align_face(aligning, photo, detection.detect(photo)[0])
        assert np.abs(face.crop.astype(int) - crops[number]).max() <= 2
        assert_allclose(landmarks[number], face.landmarks, atol=0.1)


def test_no_photos_give_no_aligned_faces(aligning):
    crops, landmarks = alignment.aligned_faces(aligning, [])
    assert crops.shape == (0, 24, 24, 3) and landmarks.shape == (0, 5, 2)


# --- crops with a margin ------------------------------------------------------------------------


def ramp(height=200, width=160):
    """A picture whose red is the column and whose green is the row."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)


def face_in(x, y, width, height):
    box = (float(x), float(y), float(width), float(height))
    return detection.Face(box, 0.99, np.zeros((5, 2)))


@pytest.mark.parametrize("margin", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("box", [(50, 60, 40, 60), (50, 60, 60, 40)], ids=["high", "wide"])
def test_crop_is_the_upright_square_around_the_centre_of_the_box(box, margin):
    x, y, width, height = box
    side = 60 * (1 + margin)
    cut = alignment.crop(ramp(), face_in(*box), 120, margin)
    assert cut.shape == (120, 120, 3) and cut.dtype == np.uint8

    # where each pixel of the crop lies in the photo
    places = (np.arange(120) + 0.5) * side / 120 - side / 2 - 0.5
    assert_allclose(cut[60, :, 0], x + width / 2 + places, atol=1.1)
    assert_allclose(cut[:, 60, 1], y + height / 2 + places, atol=1.1)
    assert_allclose(cut[..., 0].astype(int) - cut[:1, :, 0], 0, atol=1)  # no tilt


def test_crop_has_a_margin_of_a_fifth_by_default():
    face = face_in(30, 40, 60, 80)
    assert_array_equal(alignment.crop(ramp(), face, 64), alignment.crop(ramp(), face, 64, 0.2))


def test_crop_beyond_the_border_is_filled_with_border_pixels():
    # from -20 to 100
    cut = alignment.crop(ramp(), face_in(0, 0, 80, 80), 160, 0.5)
    assert (cut[:26, :26, :2] <= 1).all()
    assert_allclose(cut[:20, 80, 0], cut[30, 80, 0], atol=1)
    # to 190 and 230
    cut = alignment.crop(ramp(), face_in(100, 140, 60, 60), 120, 1.0)
    assert_allclose(cut[-10:, -10:, :2].reshape(-1, 2), np.tile((159, 199), (100, 1)), atol=1)


def test_crop_of_a_detected_face_shows_it(group):
    picture, _ = group  # read-only: cutting leaves the photo as it is
    cut = alignment.crop(picture, detection.detect(picture)[0], 200, margin=0.4)
    x, y, width, height = detection.detect(cut)[0].box
    assert_allclose((x + width / 2, y + height / 2), (100, 100), atol=8)
    assert_allclose(max(width, height), 200 / 1.4, rtol=0.1)
