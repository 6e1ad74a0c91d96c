"""From two photos to two faces: which faces are compared, and what is wrong with a photo."""

import io
import itertools
import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from utils import images
from utils.answers import comparison
from utils.data import scenes
from utils.errors import FaceError, ImageError
from utils.faces import alignment, detection


class Aligning:
    """What takes small aligned faces."""

    input_size = 24
    template = np.array([(7.0, 8.0), (17.0, 8.0), (12.0, 13.0), (8.0, 17.0), (16.0, 17.0)])


def compare(a, b, which=(1, 1)):
    return comparison.compare(Aligning(), *comparison.choose_faces(a, b, which))


NOBODY = np.full((120, 200, 3), 127, np.uint8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Files: a face, a wall of six faces, nobody."""
    folder = tmp_path_factory.mktemp("pictures")
    content = {
        "face": scenes.two_photos()[0],
        "wall": scenes.family_wall(6, 1, 640, 360)[0],
        "nobody": NOBODY,
    }
    for name, picture in content.items():
        (folder / f"{name}.jpg").write_bytes(images.to_jpeg(picture))
    return {name: folder / f"{name}.jpg" for name in content}


@pytest.fixture(scope="module")
def wall_and_face(pictures):
    """The comparison of the largest face on the wall with the single face."""
    return compare(pictures["wall"], pictures["face"])


# --- faces --------------------------------------------------------------------------------------


def test_the_largest_face_of_each_photo_is_compared(wall_and_face, pictures):
    faces = detection.detect(images.read(pictures["wall"]))
    assert wall_and_face.faces[0].box == faces[0].box
    assert faces[0].area == max(face.area for face in faces)
    assert wall_and_face.faces_found == (6, 1) and wall_and_face.face_numbers == (1, 1)


def test_a_face_is_aligned_for_the_network_with_its_landmarks(wall_and_face, pictures):
    assert wall_and_face.crops.shape == (2, 24, 24, 3)
    assert wall_and_face.landmarks.shape == (2, 5, 2)
    for side, name in ((wall_and_face.first, "wall"), (wall_and_face.second, "face")):
        photo = images.read(pictures[name])
        aligned = alignment.align_face(Aligning(), photo, side.face)
        assert_array_equal(side.crop, aligned.crop)
        assert_array_equal(side.landmarks, aligned.landmarks)
    assert np.abs(wall_and_face.landmarks - Aligning.template).max() < 3


def test_another_face_is_chosen_by_its_number_or_a_point(wall_and_face, pictures):
    largest, *_, smallest = wall_and_face.first.faces
    numbered = compare(pictures["face"], pictures["wall"], (1, 6))
    assert numbered.faces[1].box == smallest.box and numbered.face_numbers == (1, 6)
    pointed = compare(pictures["wall"], pictures["wall"], (tuple(smallest.centre + 3), 1))
    assert pointed.to_dict() == {
        "faces": [smallest.to_dict(), largest.to_dict()],
        "face_numbers": [6, 1],
        "faces_found": [6, 6],
        "quarter_turns": [0, 0],
    }
    with pytest.raises(
        FaceError, match="^There is no face number 2 in .*; it has 1 face, number 1"
    ):
        compare(pictures["wall"], pictures["face"], (1, 2))


@pytest.fixture(scope="module")
def large_and_small():
    """A face of 200 pixels and one of 40, which nobody means, and where they are."""
    photo = np.full((300, 460, 3), 127, np.uint8)
    face = scenes.two_photos()[0]
    photo[40:240, 40:240] = images.resize(face, 200)
    photo[130:180, 330:380] = images.resize(face, 50)
    return photo, (140, 140), (355, 155)


def test_a_point_chooses_a_face_that_is_too_small_to_be_offered(large_and_small):
    photo, large, small = large_and_small
    assert len(detection.detect(photo)) == 2
    chosen = comparison.choose_face(photo, "the photo")
    assert len(chosen.faces) == 1 and chosen.face.holds(large)

    chosen = comparison.choose_face(photo, "the photo", small)
    assert chosen.face.holds(small) and len(chosen.faces) == 2
    assert chosen.faces[1] is chosen.face and chosen.faces[0].holds(large)
    with pytest.raises(FaceError, match="it has 1 face, number 1"):
        comparison.choose_face(photo, "the photo", 2)


def test_a_point_beside_all_faces_chooses_the_nearest(large_and_small):
    photo, large, _ = large_and_small
    chosen = comparison.choose_face(photo, "the photo", (5, 290))
    assert chosen.face.holds(large) and chosen.faces == [chosen.face]


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_photo_on_its_side_is_turned_before_its_face_is_cut_out(pictures, wall_and_face, turns):
    photo = np.ascontiguousarray(np.rot90(images.read(pictures["face"]), -turns))
    again = compare(pictures["wall"], photo)
    assert again.quarter_turns == (0, turns)
    assert_array_equal(again.crops, wall_and_face.crops)


def test_pixels_are_not_printed(wall_and_face):
    assert len(repr(wall_and_face)) < 5000 and "uint8" not in repr(wall_and_face)


# --- photos -------------------------------------------------------------------------------------


def test_every_way_to_hand_over_a_photo_gives_the_same_faces(wall_and_face, pictures):
    wall, face = pictures["wall"], pictures["face"]
    with wall.open("rb") as first, face.open("rb") as second:
        ways = [
            (str(wall), str(face)),
            (first, second),
            (wall.read_bytes(), face.read_bytes()),
            (images.read(wall), images.read(face)),
            (io.BytesIO(wall.read_bytes()), face),
        ]
        for a, b in ways:
            again = compare(a, b)
            assert_array_equal(again.crops, wall_and_face.crops)
            assert again.to_dict() == wall_and_face.to_dict()


def test_photos_are_left_as_they_were(pictures):
    photo = images.read(pictures["face"])
    before = photo.copy()
    compare(photo, photo)
    assert_array_equal(photo, before)


def ordered(bad, good, place):
    """The bad photo at its place, the good one at the other."""
    return (bad, good) if place == "first" else (good, bad)


@pytest.mark.parametrize("place", ["first", "second"])
def test_a_photo_without_a_face_is_named_by_its_path_or_its_place(pictures, place):
    advice = (
        "; use a sharp, upright photo of somebody who looks at the camera, with a face at least "
        "20 pixels wide."
    )
    for bad, name in (
        (NOBODY, f"the {place} photo"),
        (images.to_jpeg(NOBODY), f"the {place} photo"),
        (pictures["nobody"], str(pictures["nobody"])),
    ):
        with pytest.raises(FaceError) as caught:
            compare(*ordered(bad, pictures["face"], place))
        assert str(caught.value) == f"No face was found in {name}{advice}"


JPEG = images.to_jpeg(NOBODY)
BROKEN = {  # a sentence, and the bytes that it is said of
    "is truncated or damaged; copy or download it again.": JPEG[: len(JPEG) // 2],
    "is empty; copy or download it again.": b"",
    "is not an image that can be read; use JPEG or PNG.": b"<html>",
    "has 120×10 pixels; at least 20 each way are needed to show a face.": images.to_jpeg(
        np.zeros((10, 120, 3), np.uint8)
    ),
}


@pytest.mark.parametrize(("sentence", "place"), [*itertools.product(BROKEN, ["first", "second"])])
def test_a_broken_photo_is_named_by_its_path_or_its_place(pictures, tmp_path, sentence, place):
    content, path = BROKEN[sentence], tmp_path / "broken.jpg"
    path.write_bytes(content)
    for bad, name in (
        (content, f"the {place} photo"),
        (io.BytesIO(content), f"the {place} photo"),
        (path, path),
    ):
        with pytest.raises(ImageError) as caught:
            compare(*ordered(bad, pictures["face"], place))
        assert str(caught.value) == f"{name} {sentence}"


def test_a_file_that_is_not_there_and_an_array_that_is_not_a_photo_are_named(pictures, tmp_path):
    gone = tmp_path / "gone.jpg"
    with pytest.raises(ImageError, match=re.escape(f"{gone} does not exist; check the path.")):
        compare(pictures["face"], gone)
    with pytest.raises(
        ImageError, match=r"^the second photo, an array of float64 \(9, 9\), is not a photo"
    ):
        compare(pictures["face"], np.zeros((9, 9)))
