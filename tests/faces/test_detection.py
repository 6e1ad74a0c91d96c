"""Faces are found where they were drawn, and alignment puts landmarks where they belong."""

import functools
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from utils import images
from utils.data import eigenfaces, scenes
from utils.errors import FaceError
from utils.faces import detection

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


THREADS = 8


def at_once(functions):
    """What each function gives, called from a thread of its own, all at one moment."""
    start = threading.Barrier(len(functions))

    def call(function):
        start.wait(timeout=60)
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(call, functions))


def assert_same_faces(found, expected, atol=0.0):
    """Two lists of faces are alike, in numbers of pixels."""
    for one, other in zip(found, expected, strict=True):
        assert_allclose(one.box, other.box, atol=atol)
        assert_allclose(one.landmarks, other.landmarks, atol=atol)
        assert_allclose(one.confidence, other.confidence, atol=1e-4)


def test_detector_is_built_once_when_many_threads_ask_at_the_same_time(monkeypatch):
    built = []

    def build():
        built.append(threading.get_ident())
        with pytest.raises(threading.BrokenBarrierError):  # time for the others to ask meanwhile
            threading.Barrier(2).wait(timeout=0.2)
        return object()

    monkeypatch.setattr(detection, "_detector", functools.cache(build))
    found = at_once([detection.detector] * THREADS)
    assert len(built) == 1 and len({id(each) for each in found}) == 1


def test_many_threads_find_what_one_finds(faces, paste):
    pictures = [np.full((200 + 10 * number, 240, 3), GREY, np.uint8) for number in range(THREADS)]
    for number, picture in enumerate(pictures[:-1]):  # the last one without a face
        paste(picture, faces[number % 3], 50 + 2 * number, 40, 100 + 5 * number)
    alone = [detection.detect(picture) for picture in pictures]
    together = at_once([functools.partial(detection.detect, picture) for picture in pictures])
    assert [len(found) for found in together] == [1] * (THREADS - 1) + [0]
    for found, expected in zip(together, alone, strict=True):
        assert_same_faces(found, expected)


def test_compiled_networks_find_what_those_of_the_package_find(faces, paste):
    from mtcnn import MTCNN

    picture = np.full((300, 420, 3), GREY, np.uint8)
    for face, place in zip(faces, [(60, 60, 140), (270, 90, 100), (240, 220, 50)], strict=True):
        paste(picture, face, *place)
    theirs = MTCNN().detect_faces([picture], box_format="xyxy", output_type="numpy", fit_to_image=False)
    theirs = sorted(theirs, key=lambda row: -(row[3] - row[1]) * (row[4] - row[2]))
    ours = detection.detect(picture)
    assert len(ours) == 3
    for face, row in zip(ours, theirs, strict=True):
        x, y, width, height = face.box
        assert_allclose((x, y, x + width, y + height), row[1:5], atol=0.01)
        assert_allclose(face.landmarks, row[6:].reshape(2, 5).T, atol=0.01)
        assert_allclose(face.confidence, row[5], atol=1e-4)


def test_photos_of_many_sizes_at_once_are_searched_as_one_by_one(faces, paste, group):
    sizes = [(260, 260), (220, 300), (260, 260), (22, 300), (220, 300)]
    pictures = [np.full((*size, 3), GREY, np.uint8) for size in sizes]
    for number in (0, 1, 4):
        paste(pictures[number], faces[number % 3], 60, 50, 120 + 5 * number)
    pictures += [group[0], images.resize(faces[2], 90)]
    found = detection.detect_many(pictures)
    assert [len(each) for each in found] == [1, 1, 0, 0, 1, 3, 1]
    for picture, each in zip(pictures, found, strict=True):
        assert_same_faces(each, detection.detect(picture), atol=0.01)


def test_batches_of_few_pixels_find_the_same(faces, paste, monkeypatch):
    pictures = [np.full((200, 200, 3), GREY, np.uint8) for _ in range(4)]
    for number in (0, 1, 3):
        paste(pictures[number], faces[number % 3], 40, 40, 110)
    whole = detection.detect_many(pictures)
    monkeypatch.setattr(detection, "BATCH_PIXELS", 3 * 200 * 200)
    for found, expected in zip(detection.detect_many(pictures), whole, strict=True):
        assert_same_faces(found, expected, atol=0.01)


def test_no_photos_give_no_lists():
    assert detection.detect_many([]) == [] and detection.detect_in_crops([]) == []


# --- a face that fills the picture --------------------------------------------------------------


@pytest.fixture(scope="module")
def tight():
    """A face cut so tight, 184×144, that MTCNN does not find it; its landmarks, by eye to a few pixels."""
    landmarks = np.array([(33, 54), (126, 56), (75, 118), (32, 152), (122, 154)])
    return np.ascontiguousarray(scenes.two_photos("strangers", 1)[0][:184, 40:-40]), landmarks


@pytest.mark.parametrize("factor", [1, 3])
def test_face_that_fills_the_picture_is_found_in_its_own_pixels(tight, factor):
    picture, landmarks = tight
    large = np.asarray(Image.fromarray(picture).resize((144 * factor, 184 * factor)))
    assert detection._search([large]) == [[]]
    found, = detection.detect(large)
    assert_allclose(found.landmarks, landmarks * factor, atol=5 * factor)
    x, y, width, height = found.box
    assert 0 <= x < 10 * factor and 0 <= y < 10 * factor
    assert 130 * factor < width <= 144 * factor - x and 165 * factor < height <= 184 * factor - y
    assert found.confidence > 0.9


@pytest.mark.parametrize("shape", ["square", "wide", "high"])
def test_face_in_a_crop_of_any_shape_is_where_it_was_drawn(faces, model, shape):
    below, right = {"square": (0, 0), "wide": (0, 100), "high": (150, 0)}[shape]
    crop = np.pad(images.resize(faces[0], 300), ((0, below), (0, right), (0, 0)), mode="edge")
    found, = detection.detect_in_crops([crop])
    assert_allclose(found.landmarks, model.landmarks * 300 / eigenfaces.SIZE, atol=9)
    x, y, width, height = found.box
    assert x >= 0 and y >= 0 and x + width <= 300 + right and y + height <= 300 + below


def test_each_crop_is_given_its_own_face_or_none(faces, tight):
    blank, large = np.full((90, 90, 3), GREY, np.uint8), images.resize(faces[1], 260)
    found = detection.detect_in_crops([blank, tight[0], blank, large])
    assert [face is None for face in found] == [True, False, True, False]
    assert_allclose(found[1].landmarks, tight[1], atol=5)
    assert found[3].box[2] > 180


def test_face_narrower_than_half_a_crop_does_not_fill_it(faces, paste):
    picture = np.full((400, 400, 3), GREY, np.uint8)
    paste(picture, faces[0], 130, 130, 150)
    assert len(detection.detect(picture)) == 1
    assert detection.detect_in_crops([picture]) == [None]


def test_smallest_face_holds_for_a_face_that_fills_the_picture(tight):
    assert len(detection.detect(tight[0], min_face=150)) == 1
    assert detection.detect(tight[0], min_face=185) == []


def test_photos_with_a_face_are_not_searched_a_second_time(faces, paste, monkeypatch):
    def second(crops):
        searched.extend(len(crop) for crop in crops)
        return [None] * len(crops)

    searched, with_face, without = [], np.full((240, 240, 3), GREY, np.uint8), np.zeros((100, 240, 3), np.uint8)
    paste(with_face, faces[0], 50, 50, 120)
    monkeypatch.setattr(detection, "detect_in_crops", second)
    assert [len(found) for found in detection.detect_many([with_face, without])] == [1, 0]
    assert searched == [100]


def test_face_lying_on_its_side_is_not_found_and_found_when_it_is_turned_back(faces, paste):
    picture = np.full((260, 300, 3), GREY, np.uint8)
    paste(picture, faces[0], 70, 60, 130)
    for turns in (1, 3):
        sideways = np.ascontiguousarray(np.rot90(picture, turns))
        assert detection.detect(sideways) == []
        assert_same_faces(detection.detect(np.ascontiguousarray(np.rot90(sideways, -turns))),
                          detection.detect(picture))


# --- one face -----------------------------------------------------------------------------------


def some_face(x=30, y=40, width=60, height=80):
    points = np.array([(45.04, 60), (75, 60.06), (60, 80), (48, 100), (72, 100)])
    return detection.Face((float(x), float(y), float(width), float(height)), 0.987654, points)


def test_largest_is_the_first():
    first = some_face()
    assert detection.largest([first, some_face(width=10)]) is first


def test_face_is_chosen_by_number_or_by_the_point_nearest_to_its_centre():
    faces = [some_face(0, 0), some_face(100, 0), some_face(100, 200)]
    assert faces[1].centre.tolist() == [130, 40]
    assert detection.choose(faces) is faces[0]
    for which, number in ((1, 0), (3, 2), ((131, 42), 1), ((0, 0), 0), ((5000.0, 4000.0), 2), ((80, 39), 0)):
        assert detection.choose(faces, which) is faces[number]


@pytest.mark.parametrize("which", [0, -1, 3])
def test_a_face_that_is_not_there_is_named(which):
    with pytest.raises(FaceError, match=rf"^There is no face number {which} in b\.jpg; it has 2 faces, "
                                        r"numbered from 1 for the largest\.$"):
        detection.choose([some_face(), some_face()], which, "b.jpg")
    with pytest.raises(FaceError, match=r"^There is no face number 2 in the photo; it has 1 face, number 1\.$"):
        detection.choose([some_face()], 2)
    with pytest.raises(FaceError, match="^No face was found in the photo; use"):
        detection.choose([], which)


@pytest.mark.parametrize("name", ["the photo", "a/b.jpg"])
def test_no_face_to_choose_from_is_named(name):
    with pytest.raises(FaceError) as caught:
        detection.largest([], *([name] if name != "the photo" else []))
    assert str(caught.value) == (f"No face was found in {name}; use a photo in which one looks at the camera, "
                                 "sharp, upright and at least 20 pixels wide.")


def test_face_is_exported_in_plain_rounded_numbers():
    exported = json.loads(json.dumps(some_face(x=30.26).to_dict()))
    assert exported == {
        "box": [30.3, 40, 60, 80], "confidence": 0.9877,
        "landmarks": {"left_eye": [45.0, 60], "right_eye": [75, 60.1], "nose": [60, 80],
                      "mouth_left": [48, 100], "mouth_right": [72, 100]}}


def test_detected_face_is_exported_too(group):
    exported = [face.to_dict() for face in detection.detect(group[0])]
    assert json.loads(json.dumps(exported)) == exported and len(exported) == 3


# --- cutting faces out --------------------------------------------------------------------------


def ramp(height=200, width=160):
    """A picture whose red is the column and whose green is the row."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("margin", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("box", [(50, 60, 40, 60), (50, 60, 60, 40)], ids=["high", "wide"])
def test_crop_is_the_upright_square_around_the_centre_of_the_box(box, margin):
    x, y, width, height = box
    side = 60 * (1 + margin)
    left, top = x + width / 2 - side / 2, y + height / 2 - side / 2
    cut = detection.crop(ramp(), some_face(*box), 120, margin)
    assert cut.shape == (120, 120, 3) and cut.dtype == np.uint8
    places = (np.arange(120) + 0.5) * side / 120 - 0.5  # where each pixel of the crop lies in the photo
    assert_allclose(cut[60, :, 0], left + places, atol=1.1)
    assert_allclose(cut[:, 60, 1], top + places, atol=1.1)
    assert_allclose(cut[..., 0].astype(int) - cut[:1, :, 0], 0, atol=1)  # no tilt


def test_crop_has_a_margin_of_a_fifth_unless_told_otherwise():
    assert_array_equal(detection.crop(ramp(), some_face(), 64), detection.crop(ramp(), some_face(), 64, 0.2))


@pytest.mark.parametrize("size", [20, 64, 224])
def test_crop_has_the_size_asked_for(size):
    assert detection.crop(ramp(), some_face(), size).shape == (size, size, 3)


def test_crop_beyond_the_border_is_filled_with_border_pixels():
    cut = detection.crop(ramp(), some_face(x=0, y=0, width=80, height=80), 160, 0.5)  # from -20 to 100
    assert (cut[:26, :26, :2] <= 1).all()
    assert_allclose(cut[:20, 80, 0], cut[30, 80, 0], atol=1)
    low = detection.crop(ramp(), some_face(x=100, y=140, width=60, height=60), 120, 1.0)  # to 190 and 230
    assert_allclose(low[-10:, -10:, :2].reshape(-1, 2), np.tile((159, 199), (100, 1)), atol=1)


def test_crop_of_a_detected_face_shows_it_and_leaves_the_photo(group):
    picture = group[0].copy()
    largest, *_ = detection.detect(picture)
    cut = detection.crop(picture, largest, 200, margin=0.4)
    assert_array_equal(picture, group[0])
    x, y, width, height = detection.detect(cut)[0].box
    assert_allclose((x + width / 2, y + height / 2), (100, 100), atol=8)
    assert_allclose(max(width, height), 200 / 1.4, rtol=0.1)


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
