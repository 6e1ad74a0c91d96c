"""Faces are found where they were drawn, and alignment puts landmarks where they belong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from utils import detection, eigenfaces, images

TEMPLATE = np.array([(47.7, 47.1), (100.2, 46.8), (74.1, 77.0), (52.6, 107.8), (96.1, 107.5)])
GREY = 127


@pytest.fixture(scope="module")
def model():
    return eigenfaces.load()


@pytest.fixture(scope="module")
def faces(model):
    """Three synthetic faces, 128×128."""
    return model.render(np.random.default_rng(1).normal(0, 0.6, (3, len(model.components))))


@pytest.fixture(scope="module")
def paste(model):
    """Put a face into a picture at (x, y) with this side, and tell where its landmarks are then."""
    def paste(picture, face, x, y, side):
        margin = side // 6
        framed = np.pad(images.resize(face, side), ((margin, margin), (margin, margin), (0, 0)), mode="edge")
        picture[y - margin:y + side + margin, x - margin:x + side + margin] = framed
        return model.landmarks * side / eigenfaces.SIZE + (x, y)
    return paste


@pytest.fixture(scope="module")
def group(faces, paste):
    """A picture of three people of different size, and their landmarks, the largest first."""
    picture = np.full((700, 1000, 3), GREY, np.uint8)
    places = [(300, 200, 300), (750, 100, 180), (50, 60, 120)]
    return picture, [paste(picture, face, *place) for face, place in zip(faces, places, strict=True)]


# --- detection ----------------------------------------------------------------------------------


def test_landmarks_are_found_where_the_face_was_drawn(faces, paste):
    picture = np.full((320, 300, 3), GREY, np.uint8)
    drawn = paste(picture, faces[0], 80, 90, 140)
    found, = detection.detect(picture)
    assert found.landmarks.shape == (5, 2) and found.landmarks.dtype == np.float64
    assert_allclose(found.landmarks, drawn, atol=7)
    assert 0.9 < found.confidence <= 1


def test_box_holds_the_landmarks_and_lies_in_the_photo(group):
    picture, _ = group
    for face in detection.detect(picture):
        x, y, width, height = face.box
        assert (face.landmarks > (x, y)).all() and (face.landmarks < (x + width, y + height)).all()
        assert x >= 0 and y >= 0 and x + width <= 1000 and y + height <= 700
        assert face.area == width * height
        assert all(type(number) is float for number in (*face.box, face.confidence))


def test_box_of_a_face_cut_by_the_border_is_clipped_to_the_photo(faces):
    cut = images.resize(faces[0], 200)[25:, 20:]
    found, = detection.detect(cut)
    x, y, width, height = found.box
    assert 0 <= x and 0 <= y and x + width <= cut.shape[1] and y + height <= cut.shape[0]


def test_several_faces_come_the_largest_first(group):
    picture, drawn = group
    found = detection.detect(picture)
    assert [face.area for face in found] == sorted((face.area for face in found), reverse=True)
    for face, landmarks in zip(found, drawn, strict=True):
        assert_allclose(face.landmarks, landmarks, atol=16)


def test_large_photo_is_searched_small_and_answered_in_its_own_pixels(group):
    picture, drawn = group
    found = detection.detect(picture, long_side=400)
    for face, landmarks in zip(found, drawn, strict=True):
        assert_allclose(face.landmarks, landmarks, atol=20)


def test_small_faces_are_passed_over_when_only_large_ones_are_wanted(group):
    picture, drawn = group
    found, = detection.detect(picture, min_face=400)
    assert_allclose(found.landmarks, drawn[0], atol=25)
    assert detection.detect(picture, min_face=500) == []


def test_min_face_below_that_of_mtcnn_changes_nothing(group):
    picture, _ = group
    for one, other in zip(detection.detect(picture, min_face=5), detection.detect(picture), strict=True):
        assert one.box == other.box


@pytest.mark.parametrize("picture", [
    np.zeros((200, 300, 3), np.uint8), np.full((200, 200, 3), 255, np.uint8),
    np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)],
    ids=["black", "white", "noise"])
def test_picture_without_a_face_gives_none(picture):
    assert detection.detect(picture) == []


@pytest.mark.parametrize("shape", [(20, 20), (23, 400), (24, 24), (40, 4000)])
def test_tiny_or_narrow_picture_gives_none(shape):
    assert detection.detect(np.full((*shape, 3), GREY, np.uint8)) == []


def test_batch_keeps_each_photo_to_its_own_faces(faces, paste):
    pictures = [np.full((260, 260, 3), GREY, np.uint8) for _ in range(3)]
    drawn = [paste(pictures[number], faces[number], 60, 60, 140) for number in (0, 2)]
    first, none, last = detection.detect_many(pictures)
    assert none == [] and len(first) == len(last) == 1
    assert_allclose(first[0].landmarks, drawn[0], atol=8)
    assert_allclose(last[0].landmarks, drawn[1], atol=8)


def test_detector_is_built_once():
    assert detection.detector() is detection.detector()


# --- alignment ----------------------------------------------------------------------------------

FINITE = st.floats(-500, 500)
POINTS = st.lists(st.tuples(FINITE, FINITE), min_size=2, max_size=8).map(np.array).filter(
    lambda points: np.ptp(points, axis=0).max() > 1)


def turn(points, angle, scale, shift):
    """Rotate, scale and shift points."""
    cos, sin = np.cos(angle), np.sin(angle)
    return scale * points @ np.array([[cos, sin], [-sin, cos]]) + shift


@settings(max_examples=80, deadline=None)
@given(POINTS, st.floats(-np.pi, np.pi), st.floats(0.05, 20), st.tuples(FINITE, FINITE))
def test_similarity_transform_is_found_exactly(points, angle, scale, shift):
    matrix = detection.similarity_transform(points, turn(points, angle, scale, shift))
    expected = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert_allclose(matrix[:, :2], expected, atol=1e-8 * scale)
    assert_allclose(matrix[:, 2], shift, atol=1e-6 * max(1, scale))


@settings(max_examples=60, deadline=None)
@given(POINTS, st.integers(0, 1000), st.floats(-0.2, 0.2), st.floats(0.8, 1.25))
def test_no_other_similarity_fits_better(source, seed, angle, scale):
    target = source + np.random.default_rng(seed).normal(0, 20, source.shape)
    matrix = detection.similarity_transform(source, target)
    fitted = source @ matrix[:, :2].T + matrix[:, 2]
    centre = fitted.mean(0)
    other = turn(fitted - centre, angle, scale, centre)
    assert ((fitted - target) ** 2).sum() <= ((other - target) ** 2).sum() * (1 + 1e-9) + 1e-9


def dots(shape, points, radius):
    """A black picture with a soft dot around each point (x, y)."""
    y, x = np.mgrid[:shape[0], :shape[1]] + 0.5
    glow = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius**2)) for px, py in points)
    return np.stack([(255 * glow.clip(0, 1)).astype(np.uint8)] * 3, axis=-1)


@pytest.mark.parametrize(("angle", "scale", "size"), [
    (0, 1, 300), (0.5, 0.7, 300), (-1.3, 1.6, 400), (np.pi / 2, 3.0, 700), (3.0, 6.0, 1300)],
    ids=["as it is", "turned and small", "turned far", "sideways and large", "upside down and huge"])
def test_aligned_landmarks_lie_on_the_template(angle, scale, size):
    landmarks = turn(TEMPLATE - 75, angle, scale, (size / 2 + 7, size / 2 - 4))
    chip = detection.align(dots((size, size), landmarks, 2.5 * scale), landmarks, TEMPLATE, 150)
    assert chip.shape == (150, 150, 3) and chip.dtype == np.uint8
    rows, columns = np.mgrid[:150, :150] + 0.5
    for x, y in TEMPLATE:
        light = chip[..., 0] * (np.hypot(columns - x, rows - y) < 10)
        centre = np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()
        assert_allclose(centre, (x, y), atol=0.35)


def test_what_lies_outside_the_photo_is_filled_with_its_border():
    landmarks = TEMPLATE * 0.9 - (45, 45)  # the chip reaches far beyond the corner
    photo = np.full((70, 70, 3), (200, 100, 50), np.uint8)
    assert (detection.align(photo, landmarks, TEMPLATE, 150) == (200, 100, 50)).all()


def test_sideways_photo_gives_the_same_aligned_face(faces, model):
    upright = images.resize(faces[0], 256)
    landmarks = model.landmarks * 2
    sideways, turned = np.rot90(upright, 1), np.column_stack([landmarks[:, 1], 256 - landmarks[:, 0]])
    chips = [detection.align(np.ascontiguousarray(photo), points, TEMPLATE, 150).astype(int)
             for photo, points in ((upright, landmarks), (sideways, turned))]
    assert np.abs(chips[0] - chips[1]).mean() < 1


def test_align_leaves_the_photo_as_it_was(group):
    picture, drawn = group
    before = picture.copy()
    detection.align(picture, drawn[0], TEMPLATE, 150)
    assert_array_equal(picture, before)
