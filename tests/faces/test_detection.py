"""Faces are found where they were drawn, by one thread or by many, alone or in batches."""

import functools
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from utils import images
from utils.data import eigenfaces, scenes
from utils.errors import FaceError
from utils.faces import detection

GREY = 127


def grey(height, width):
    return np.full((height, width, 3), GREY, np.uint8)


@pytest.fixture(scope="module")
def group_faces(group):
    """What is found in the picture of three people."""
    return detection.detect(group[0])


def assert_same_faces(results, expected, atol=0.0):
    """Two lists of faces are alike, in numbers of pixels."""
    for face, same in zip(results, expected, strict=True):
        assert_allclose(face.box, same.box, atol=atol)
        assert_allclose(face.landmarks, same.landmarks, atol=atol)
        assert_allclose(face.confidence, same.confidence, atol=1e-4)


# --- detection ----------------------------------------------------------------------------------


def test_landmarks_are_found_where_the_face_was_drawn(faces, paste):
    picture = grey(320, 300)
    drawn = paste(picture, faces[0], 80, 90, 140)
    (face,) = detection.detect(picture)
    assert face.landmarks.shape == (5, 2) and face.landmarks.dtype == np.float64
    assert_allclose(face.landmarks, drawn, atol=7)
    assert 0.9 < face.confidence <= 1


def test_box_holds_the_landmarks_and_lies_in_the_photo(group_faces):
    for face in group_faces:
        x, y, width, height = face.box
        assert (face.landmarks > (x, y)).all() and (face.landmarks < (x + width, y + height)).all()
        assert x >= 0 and y >= 0 and x + width <= 1000 and y + height <= 700
        assert face.area == width * height
        assert all(type(number) is float for number in (*face.box, face.confidence))


def test_box_of_a_face_cut_by_the_border_is_clipped_to_the_photo(faces):
    cut = images.resize(faces[0], 200)[25:, 20:]
    (face,) = detection.detect(cut)
    x, y, width, height = face.box
    assert x >= 0 and y >= 0 and x + width <= cut.shape[1] and y + height <= cut.shape[0]


def test_several_faces_come_the_largest_first(group, group_faces):
    areas = [face.area for face in group_faces]
    assert areas == sorted(areas, reverse=True)
    for face, landmarks in zip(group_faces, group[1], strict=True):
        assert_allclose(face.landmarks, landmarks, atol=16)


def test_large_photo_is_searched_small_and_answered_in_its_own_pixels(group):
    picture, drawn = group
    for face, landmarks in zip(detection.detect(picture, long_side=400), drawn, strict=True):
        assert_allclose(face.landmarks, landmarks, atol=20)


def test_small_faces_are_passed_over_when_only_large_ones_are_asked_for(group):
    picture, drawn = group
    (face,) = detection.detect(picture, min_face=400)
    assert_allclose(face.landmarks, drawn[0], atol=25)
    assert detection.detect(picture, min_face=500) == []


@pytest.mark.parametrize(
    ("height", "width", "least"),
    [(720, 1280, 20), (1280, 1280, 20), (1282, 900, 21), (3508, 2480, 55), (20000, 1080, 313)],
)
def test_a_face_of_the_promised_width_is_found_however_large_the_photo(
    faces, paste, height, width, least
):
    picture = grey(height, width)
    assert detection.least_face(picture) == least
    # a drawn face is wider than its box by a quarter at most
    paste(picture, faces[0], width // 2 - least, height // 2, round(1.3 * least))
    (face,) = detection.detect(picture)
    assert least <= face.box[2] < 1.4 * least


def test_the_promised_width_follows_what_is_asked_for():
    photo = grey(1440, 2560)
    assert detection.least_face(photo) == 40 and detection.least_face(photo, long_side=2560) == 20
    assert detection.least_face(photo, min_face=60) == 60
    assert detection.least_face(grey(300, 300), min_face=5) == 20
    assert detection.least_face(photo, min_face=20) == 20  # in tiles
    # too narrow, at once or when it is shrunk
    for narrow in (grey(23, 400), grey(9000, 100)):
        assert detection.least_face(narrow) is None
    assert detection.least_face(grey(9000, 100), min_face=20) == 20
    assert detection.least_face(grey(9000, 20), min_face=20) is None


def test_min_face_below_that_of_mtcnn_changes_nothing(group, group_faces):
    assert_same_faces(detection.detect(group[0], min_face=5), group_faces)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((200, 300, 3), np.uint8),
        np.full((200, 200, 3), 255, np.uint8),
        np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8),
        *(grey(*shape) for shape in [(20, 20), (23, 400), (24, 24), (40, 4000)]),
    ],
    ids=["black", "white", "noise", "smallest", "narrow", "of 24 pixels", "strip"],
)
def test_picture_without_a_face_gives_none(picture):
    assert detection.detect(picture) == []


def test_face_lying_on_its_side_is_not_found(faces, paste):
    picture = grey(260, 300)
    paste(picture, faces[0], 70, 60, 130)
    for turns in (1, 3):
        assert detection.detect(np.ascontiguousarray(np.rot90(picture, turns))) == []


def test_compiled_networks_find_what_those_of_the_package_find(faces, paste):
    from mtcnn import MTCNN

    picture = grey(300, 420)
    for face, place in zip(faces, [(60, 60, 140), (270, 90, 100), (240, 220, 50)], strict=True):
        paste(picture, face, *place)
    rows = MTCNN().detect_faces(
        [picture], box_format="xyxy", output_type="numpy", fit_to_image=False
    )
    rows = sorted(rows, key=lambda row: -(row[3] - row[1]) * (row[4] - row[2]))
    for face, row in zip(detection.detect(picture), rows, strict=True):
        x, y, width, height = face.box
        assert_allclose((x, y, x + width, y + height), row[1:5], atol=0.01)
        assert_allclose(face.landmarks, row[6:].reshape(2, 5).T, atol=0.01)
        assert_allclose(face.confidence, row[5], atol=1e-4)


# --- small faces in large photos ----------------------------------------------------------------


@pytest.fixture(scope="module")
def crowd(faces, paste):
    """A large face and small ones, one of them where two tiles of 160 pixels meet."""
    photo = grey(320, 800)
    places = [(60, 50, 220), (400, 40, 30), (543, 150, 30), (720, 260, 30)]
    drawn = [paste(photo, faces[number % 3], *place) for number, place in enumerate(places)]
    return photo, drawn


def test_small_faces_in_a_large_photo_are_found_when_asked_for(crowd):
    photo, drawn = crowd
    assert len(detection.detect(photo, long_side=160)) == 1
    assert detection.least_face(photo, long_side=160) == 100
    results = detection.detect(photo, min_face=20, long_side=160)
    assert len(results) == 4 and results[0].box[2] > 100
    for landmarks in drawn[1:]:
        errors = [np.abs(face.landmarks - landmarks).max() for face in results]
        assert min(errors) < 4


def test_tiles_cover_a_photo_and_overlap():
    for length, tile in ((1000, 320), (321, 320), (4000, 1280), (320, 320), (100, 320)):
        starts = detection._starts(length, min(tile, length))
        assert starts[0] == 0 and starts[-1] + min(tile, length) == length
        steps = np.diff(starts)
        assert (steps <= tile - detection.OVERLAP).all() and len(starts) == len(set(starts))


def test_a_face_that_a_tile_cuts_is_left_to_another():
    def is_whole(x, y, corner=(100, 0)):
        face = detection.Face((x, y, 40.0, 40.0), 1.0, np.zeros((5, 2)))
        return detection._is_whole(face, corner, (300, 200), (1000, 200))

    assert is_whole(50.0, 50.0) and is_whole(50.0, 0.0) and is_whole(50.0, 160.0)
    assert not is_whole(0.0, 50.0) and not is_whole(260.0, 50.0)
    assert is_whole(0.0, 50.0, corner=(0, 0)) and is_whole(260.0, 50.0, corner=(700, 0))


# --- many photos --------------------------------------------------------------------------------


def test_photos_of_many_sizes_at_once_are_searched_as_one_by_one(faces, paste, tight):
    pictures = [grey(*size) for size in [(260, 260), (220, 300), (260, 260), (22, 300)]]
    for number in (0, 1):
        paste(pictures[number], faces[number], 60, 50, 120 + 5 * number)
    pictures.append(tight[0])  # found in the second search
    results = detection.detect_many(pictures)
    assert [len(each) for each in results] == [1, 1, 0, 0, 1]
    for picture, result in zip(pictures, results, strict=True):
        assert_same_faces(result, detection.detect(picture), atol=0.01)


def test_batches_of_few_pixels_find_the_same(faces, paste, monkeypatch):
    pictures = [grey(200, 200) for _ in range(4)]
    drawn = {n: paste(pictures[n], faces[n % 3], 40, 40, 110) for n in (0, 1, 3)}
    whole = detection.detect_many(pictures)
    assert [len(result) for result in whole] == [1, 1, 0, 1]
    for number, landmarks in drawn.items():
        assert_allclose(whole[number][0].landmarks, landmarks, atol=8)

    monkeypatch.setattr(detection, "BATCH_PIXELS", 3 * 200 * 200)
    for result, expected in zip(detection.detect_many(pictures), whole, strict=True):
        assert_same_faces(result, expected, atol=0.01)


def test_photos_with_a_face_are_not_searched_a_second_time(faces, paste, monkeypatch):
    def second_search(crops):
        heights.extend(len(crop) for crop in crops)
        return [None] * len(crops)

    heights, with_face, without = [], grey(240, 240), grey(100, 240)
    paste(with_face, faces[0], 50, 50, 120)
    monkeypatch.setattr(detection, "detect_in_crops", second_search)
    results = detection.detect_many([with_face, without])
    assert [len(result) for result in results] == [1, 0] and heights == [100]


def test_no_photos_give_no_lists():
    assert detection.detect_many([]) == [] and detection.detect_in_crops([]) == []


# --- many threads -------------------------------------------------------------------------------


def at_once(functions):
    """What each function gives, called from a thread of its own, all at one moment."""
    start = threading.Barrier(len(functions))

    def call(function):
        start.wait(timeout=300)
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(call, functions))


def test_detector_is_built_once_when_many_threads_ask_at_the_same_time(monkeypatch):
    built = []

    def build():
        built.append(threading.get_ident())
        with pytest.raises(threading.BrokenBarrierError):  # time for the others to ask meanwhile
            threading.Barrier(2).wait(timeout=0.1)
        return object()

    monkeypatch.setattr(detection, "_detector", functools.cache(build))
    detectors = at_once([detection.detector] * 8)
    assert len(built) == 1 and len(set(map(id, detectors))) == 1


def test_many_threads_find_what_one_finds(faces, paste):
    pictures = [grey(200 + 10 * number, 240) for number in range(5)]
    for number, picture in enumerate(pictures[:-1]):  # the last one without a face
        paste(picture, faces[number % 3], 50 + 2 * number, 40, 100 + 5 * number)
    alone = [detection.detect(picture) for picture in pictures]
    together = at_once([functools.partial(detection.detect, picture) for picture in pictures])
    assert [len(result) for result in together] == [1, 1, 1, 1, 0]
    for result, expected in zip(together, alone, strict=True):
        assert_same_faces(result, expected)


# --- a face that fills the picture --------------------------------------------------------------


@pytest.fixture(scope="module")
def tight():
    """A face so tight, 184×144, that one search does not find it; its landmarks by eye."""
    landmarks = np.array([(33, 54), (126, 56), (75, 118), (32, 152), (122, 154)])
    return np.ascontiguousarray(scenes.two_photos("strangers", 1)[0][:184, 40:-40]), landmarks


@pytest.mark.parametrize("factor", [1, 3])
def test_face_that_fills_the_picture_is_found_in_its_own_pixels(tight, factor):
    picture, landmarks = tight
    large = np.asarray(Image.fromarray(picture).resize((144 * factor, 184 * factor)))
    assert detection._search([large]) == [[]]
    (face,) = detection.detect(large)
    assert_allclose(face.landmarks, landmarks * factor, atol=5 * factor)
    x, y, width, height = face.box
    assert 0 <= x < 10 * factor and 0 <= y < 10 * factor
    assert 130 * factor < width <= 144 * factor - x and 165 * factor < height <= 184 * factor - y
    assert face.confidence > 0.9


@pytest.mark.parametrize("shape", ["square", "wide", "high"])
def test_face_in_a_crop_of_any_shape_is_where_it_was_drawn(faces, renderer, shape):
    below, right = {"square": (0, 0), "wide": (0, 100), "high": (150, 0)}[shape]
    crop = np.pad(images.resize(faces[0], 300), ((0, below), (0, right), (0, 0)), mode="edge")
    (face,) = detection.detect_in_crops([crop])
    assert_allclose(face.landmarks, renderer.landmarks * 300 / eigenfaces.SIZE, atol=9)
    x, y, width, height = face.box
    assert x >= 0 and y >= 0 and x + width <= 300 + right and y + height <= 300 + below


def test_each_crop_is_given_its_own_face_or_none(faces, tight):
    blank, large = grey(90, 90), images.resize(faces[1], 260)
    first, second, third, fourth = detection.detect_in_crops([blank, tight[0], blank, large])
    assert first is None and third is None
    assert_allclose(second.landmarks, tight[1], atol=5)
    assert fourth.box[2] > 180


def test_face_narrower_than_half_a_crop_does_not_fill_it(faces, paste):
    picture = grey(400, 400)
    paste(picture, faces[0], 130, 130, 150)
    assert len(detection.detect(picture)) == 1
    assert detection.detect_in_crops([picture]) == [None]


def test_smallest_face_holds_for_a_face_that_fills_the_picture(tight):
    assert len(detection.detect(tight[0], min_face=150)) == 1
    assert detection.detect(tight[0], min_face=185) == []


# --- faces that are meant -----------------------------------------------------------------------


def with_confidence(confidence, width=60, height=80):
    return detection.Face((30.0, 40.0, width, height), confidence, np.zeros((5, 2)))


def test_prominent_faces_are_sure_wide_and_not_much_narrower_than_the_widest():
    wide, third = with_confidence(0.95, 90.0), with_confidence(0.9, 30.0)
    unsure, narrow = with_confidence(0.89, 300.0), with_confidence(1.0, 29.9)
    assert detection._prominent_of([unsure, wide, third, narrow]) == [wide, third]
    # the unsure one does not count as the widest, and by itself the narrow one is a face
    assert detection._prominent_of([unsure, narrow]) == [narrow]
    assert detection._prominent_of([with_confidence(1.0, 19.9), unsure]) == []


def test_prominent_faces_of_a_photo_come_the_largest_first(group, faces, paste):
    photo, drawn = group[0].copy(), list(group[1])
    paste(photo, faces[1], 820, 480, 60)  # too small beside one of 300 pixels
    assert len(detection.detect(photo)) == 4
    for face, landmarks in zip(detection.prominent(photo), drawn, strict=True):
        assert_allclose(face.landmarks, landmarks, atol=16)


def refuse(*_, **__):
    raise AssertionError("the whole photo was searched")


@pytest.mark.parametrize(
    ("height", "width", "side", "x", "y"),
    [(600, 900, 360, 250, 100), (1600, 1300, 300, 700, 900), (700, 700, 500, 90, 90)],
    ids=["in the smallest copy", "in the next", "near the border"],
)
def test_one_wide_face_is_found_without_searching_the_whole_photo(
    faces, paste, monkeypatch, height, width, side, x, y
):
    photo = grey(height, width)
    drawn = paste(photo, faces[0], x, y, side)
    (whole,) = detection.detect(photo)
    monkeypatch.setattr(detection, "detect", refuse)
    (face,) = detection.prominent(photo)
    assert_allclose(face.landmarks, drawn, atol=0.06 * side)
    assert_allclose(face.landmarks, whole.landmarks, atol=0.03 * side)
    assert face.overlap(whole) > 0.85


def test_what_a_window_does_not_confirm_is_looked_for_in_the_whole_photo(
    faces, paste, monkeypatch
):
    photo = grey(600, 900)
    paste(photo, faces[0], 250, 100, 360)
    monkeypatch.setattr(detection, "_in_windows", lambda photo, faces: [None] * len(faces))
    assert_same_faces(detection.prominent(photo), detection.detect(photo))


def test_several_faces_are_those_of_the_whole_search_in_its_order(faces, paste):
    photo = grey(900, 1500)
    for number, (x, y, side) in enumerate([(150, 150, 300), (600, 200, 305), (1100, 300, 120)]):
        paste(photo, faces[number], x, y, side)
    whole = detection.detect(photo)
    for face, same in zip(detection.prominent(photo), whole, strict=True):
        assert face.overlap(same) > 0.8
        assert_allclose(face.landmarks, same.landmarks, atol=0.03 * same.box[2])


@pytest.mark.parametrize("corner", [(100, 50), (-60, 30), (230, -25), (-40, -40)])
@pytest.mark.parametrize("side", [150, 200, 700])
def test_a_window_shows_the_photo_and_its_border_pixels_around_it(corner, side):
    y, x = np.mgrid[:240, :320]
    photo = np.stack([x // 2, y, 0 * x + 7], axis=-1).astype(np.uint8)
    window = detection._window(photo, np.array(corner), side)
    # the photo's own numbers at the middle of each pixel of the window
    middle = (np.arange(200) + 0.5) * side / 200 - 0.5
    columns = np.clip(middle + corner[0], 0, 319)
    rows = np.clip(middle + corner[1], 0, 239)
    assert window.shape == (200, 200, 3)
    assert_allclose(window[..., 0], np.tile(columns / 2, (200, 1)), atol=1.5 + side / 200)
    assert_allclose(window[..., 1], np.tile(rows[:, None], (1, 200)), atol=1.5 + side / 200)


@pytest.mark.parametrize("quarter_turns", range(4))
def test_photo_that_lies_on_its_side_is_turned(faces, paste, quarter_turns):
    photo = grey(260, 300)
    drawn = paste(photo, faces[0], 70, 60, 130)
    on_its_side = np.ascontiguousarray(np.rot90(photo, -quarter_turns))
    turns, (face,) = detection.upright(on_its_side)
    assert turns == quarter_turns
    assert_array_equal(detection.turned(on_its_side, turns), photo)
    assert_allclose(face.landmarks, drawn, atol=8)


@pytest.mark.parametrize(
    ("confidences", "quarter_turns"),
    [
        ((0.96, 0, 0.93, 0.997), 3),
        ((0.96, 0, 0.98, 0), 0),
        ((0, 0.91, 0, 0), 1),
        ((0, 0, 0, 0), 0),
    ],
)
def test_photo_with_a_doubtful_face_is_turned_to_a_much_surer_one(
    monkeypatch, confidences, quarter_turns
):
    def search(photos):
        return [[with_confidence(confidences[int(photo[0, 0, 0])])] for photo in photos]

    # each way to turn it has another number in its corner
    photo = np.kron(np.array([[[0], [1]], [[3], [2]]], np.uint8), np.ones((24, 24, 3), np.uint8))
    monkeypatch.setattr(detection, "detect_many", search)
    monkeypatch.setattr(
        detection, "prominent", lambda photo: detection._prominent_of(search([photo])[0])
    )
    turns, faces = detection.upright(photo)
    assert turns == quarter_turns
    assert max((face.confidence for face in faces), default=0) == confidences[turns]


@pytest.mark.parametrize(("side", "quarter_turns"), [(80, 0), (90, 1)])
def test_photo_is_not_turned_for_a_face_that_is_much_smaller(monkeypatch, side, quarter_turns):
    # on its side, the photo shows a surer face
    views = [[with_confidence(0.95, 100, 100)], [with_confidence(0.999, side, side)], [], []]
    monkeypatch.setattr(detection, "detect_many", lambda photos: views)
    assert detection._turns_to_surest(grey(100, 100)) == quarter_turns


def test_photo_with_a_sure_face_is_not_searched_turned(faces, paste, monkeypatch):
    photo = grey(300, 300)
    paste(photo, faces[0], 70, 60, 150)
    monkeypatch.setattr(detection, "_turns_to_surest", refuse)
    monkeypatch.setattr(detection, "SURELY_UPRIGHT", 0.95)
    turns, (face,) = detection.upright(photo)
    assert turns == 0 and face.confidence >= 0.95


def test_photo_without_a_face_is_not_turned():
    photo = grey(120, 160)
    assert detection.upright(photo) == (0, []) and detection.prominent(photo) == []
    assert detection.turned(photo, 0) is photo


# --- one face -----------------------------------------------------------------------------------


def some_face(x=30, y=40, width=60, height=80):
    points = np.array([(45.04, 60), (75, 60.06), (60, 80), (48, 100), (72, 100)])
    return detection.Face((float(x), float(y), float(width), float(height)), 0.987654, points)


def test_largest_is_the_first():
    first = some_face()
    assert detection.largest([first, some_face(width=10)]) is first


@pytest.mark.parametrize(
    ("which", "number"),
    [(1, 0), (3, 2), ((131, 42), 1), ((0, 0), 0), ((5000.0, 4000.0), 2), ((80, 39), 0)],
)
def test_face_is_chosen_by_number_or_by_the_point_nearest_to_its_centre(which, number):
    several = [some_face(0, 0), some_face(100, 0), some_face(100, 200)]
    assert several[1].centre.tolist() == [130, 40]
    assert detection.choose(several, which) is several[number]


def test_chosen_face_is_the_largest_by_default():
    several = [some_face(), some_face(width=10)]
    assert detection.choose(several) is several[0]


@pytest.mark.parametrize(
    ("count", "which", "sentence"),
    [
        (2, 0, "There is no face number 0 in b.jpg; it has 2 faces, numbered from 1 for the {}."),
        (
            2,
            -1,
            "There is no face number -1 in b.jpg; it has 2 faces, numbered from 1 for the {}.",
        ),
        (2, 3, "There is no face number 3 in b.jpg; it has 2 faces, numbered from 1 for the {}."),
        (1, 2, "There is no face number 2 in b.jpg; it has 1 face, number 1."),
        (
            0,
            1,
            "No face was found in b.jpg; use a sharp, upright photo of somebody who looks at the "
            "camera, with a face at least 20 pixels wide.",
        ),
    ],
)
def test_face_that_is_not_there_is_named(count, which, sentence):
    with pytest.raises(FaceError) as caught:
        detection.choose([some_face()] * count, which, "b.jpg")
    assert str(caught.value) == sentence.format("largest")


def test_face_holds_the_points_in_its_box_and_overlaps_itself():
    face = some_face(30, 40, 60, 80)
    assert face.holds((30, 40)) and face.holds((90.0, 120.0))
    assert not face.holds((29, 60)) and not face.holds((60, 121))
    assert face.overlap(face) == 1 and face.overlap(some_face(95, 40)) == 0
    assert face.overlap(some_face(60, 40, 60, 80)) == pytest.approx(1 / 3)


def test_photo_without_a_name_is_called_the_photo():
    with pytest.raises(FaceError, match="^No face was found in the photo; use"):
        detection.largest([])
    with pytest.raises(FaceError, match="^There is no face number 2 in the photo; it has"):
        detection.choose([some_face()], 2)


NO_FACE = {  # (height, width): the rest of the sentence
    (300, 400): "use a sharp, upright photo of somebody who looks at the camera, with a face at "
    "least 20 pixels wide.",
    (20000, 1080): "use a sharp, upright photo of somebody who looks at the camera, with a face "
    "at least 313 pixels wide (a photo of 1080×20000 pixels is shrunk before the search), or cut "
    "out the part that shows the face.",
    (40000, 600): "its 600×40000 pixels are too narrow to be searched: use a photo of another "
    "shape, or cut out the part that shows the face.",
}


@pytest.mark.parametrize("size", NO_FACE)
def test_photo_without_a_face_is_told_how_large_one_must_be_in_it(size):
    for call in (detection.largest, functools.partial(detection.choose, which=1)):
        with pytest.raises(FaceError) as caught:
            call([], name="a.png", photo=grey(*size))
        assert str(caught.value) == f"No face was found in a.png; {NO_FACE[size]}"


def test_face_is_exported_in_plain_rounded_numbers(group_faces):
    assert json.loads(json.dumps(some_face(x=30.26).to_dict())) == {
        "box": [30.3, 40, 60, 80],
        "confidence": 0.9877,
        "landmarks": {
            "left_eye": [45.0, 60],
            "right_eye": [75, 60.1],
            "nose": [60, 80],
            "mouth_left": [48, 100],
            "mouth_right": [72, 100],
        },
    }
    exported = group_faces[0].to_dict()  # MTCNN's own numbers are plain too
    assert json.loads(json.dumps(exported)) == exported


@pytest.mark.parametrize("shape", [(20, 50_000, 3), (50_000, 20, 3), (30, 50_000, 3)])
def test_photo_of_one_long_line_has_no_face_however_it_is_searched(shape):
    line = np.full(shape, 128, np.uint8)
    assert detection.upright(line) == (0, [])
    assert detection.detect(line, min_face=20) == []
