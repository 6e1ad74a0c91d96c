"""The embedding cache: nothing is computed twice, and nothing wrong is ever believed."""

import inspect
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from utils import images
from utils.data import scenes
from utils.errors import FaceError, ImageError
from utils.faces import detection, embeddings
from utils.faces.backbones import Backbone


class Toy(Backbone):
    """Mean, spread, least and most of the pixels; remembers how many photos each call embedded."""

    name = "toy"
    input_size = 24
    embedding_size = 4
    preprocessing = "none"
    weights_id = "0123456789abcdef"

    def __init__(self):
        self.calls = []

    def standardise(self, faces):
        return faces

    def architecture(self):
        raise NotImplementedError

    def load_pretrained(self, model):
        raise NotImplementedError

    def weights_path(self):
        raise NotImplementedError

    def embed(self, faces, batch_size=64):
        self.check(faces)
        self.calls.append(len(faces))
        flat = faces.reshape(len(faces), -1).astype(np.float32)
        return np.stack([flat.mean(1), flat.std(1), flat.min(1), flat.max(1)], axis=1)


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache of the test's own."""
    monkeypatch.setenv("KIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "embeddings" / Toy().fingerprint


@pytest.fixture
def photos(families, tmp_path):
    """Copies of ten different photos."""
    sources = families.paths(families.photos["path"].iloc[10:20])
    return [Path(shutil.copy(source, tmp_path / f"{number}.jpg")) for number, source in enumerate(sources)]


def embed(backbone, paths):
    return embeddings.embed_photos(backbone, paths, progress=False)


def expected(paths):
    return Toy().embed(images.read_many(paths, Toy.input_size))


# --- what comes back ----------------------------------------------------------------------------


def test_embeddings_are_those_of_the_photos_in_order(toy, photos):
    found = embed(toy, photos[::-1])
    assert found.dtype == np.float32
    assert_array_equal(found, expected(photos[::-1]))


def test_order_is_kept_when_some_photos_are_known(toy, photos):
    embed(toy, photos[3:6])
    assert_array_equal(embed(toy, photos), expected(photos))


def test_real_backbone_goes_the_one_way_for_a_photo(families, backbone, family_embeddings):
    crop = images.read_resized(families.root / families.photos["path"].iloc[3], backbone.input_size)
    assert_allclose(family_embeddings[3], backbone.embed(crop[None])[0], atol=1e-5)


def test_no_photos_give_no_rows(toy):
    assert embed(toy, []).shape == (0, 4)
    assert toy.calls == []


def test_names_may_be_strings(toy, photos):
    assert_array_equal(embed(toy, [str(path) for path in photos]), expected(photos))


# --- what is not computed again -----------------------------------------------------------------


def test_second_call_makes_no_forward_pass(toy, photos):
    first = embed(toy, photos)
    assert_array_equal(embed(toy, photos), first)
    assert toy.calls == [10]


def test_same_content_under_another_name_is_reused(toy, photos, tmp_path):
    embed(toy, photos)
    renamed = [photos[4].rename(tmp_path / "renamed.png")]
    assert_array_equal(embed(toy, renamed), expected(renamed))
    assert toy.calls == [10]


def test_duplicates_are_embedded_once_and_all_given(toy, photos, tmp_path):
    twin = shutil.copy(photos[0], tmp_path / "twin.jpg")
    found = embed(toy, [photos[0], photos[1], twin, photos[0]])
    assert toy.calls == [2]
    assert_array_equal(found, expected([photos[n] for n in (0, 1, 0, 0)]))


def test_changed_photo_is_embedded_again(toy, photos):
    embed(toy, photos)
    shutil.copy(photos[1], photos[0])
    photos[2].write_bytes(images.to_jpeg(images.read(photos[2])[::-1].copy()))
    assert_array_equal(embed(toy, photos), expected(photos))
    assert toy.calls == [10, 1]


@pytest.mark.parametrize("what", ["name", "preprocessing", "weights_id"])
def test_another_backbone_weights_or_preprocessing_shares_nothing(toy, photos, what):
    embed(toy, photos)
    other = type("Other", (Toy,), {what: "another"})()
    embed(other, photos)
    assert other.calls == [10]


def test_photos_are_embedded_in_chunks(toy, photos, monkeypatch, cache):
    monkeypatch.setattr(embeddings, "CHUNK", 4)
    assert_array_equal(embed(toy, photos), expected(photos))
    assert toy.calls == [4, 4, 2] and len(list(cache.glob("*.npz"))) == 3


# --- interrupted and concurrent runs ------------------------------------------------------------


def test_killed_run_keeps_its_finished_chunks(toy, photos, monkeypatch):
    class Dying(Toy):
        def embed(self, faces, batch_size=64):
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().embed(faces, batch_size)

    monkeypatch.setattr(embeddings, "CHUNK", 4)
    with pytest.raises(KeyboardInterrupt):
        embed(Dying(), photos)
    assert_array_equal(embed(toy, photos), expected(photos))
    assert toy.calls == [2]


def test_half_written_shard_of_a_killed_run_is_not_looked_at(toy, photos, cache, recwarn):
    embed(toy, photos)
    (cache / ".half-written.npz").write_bytes(b"PK\x03\x04")
    embed(toy, photos)
    assert toy.calls == [10] and not recwarn


def test_two_processes_at_once_give_the_same_result(photos, tmp_path, toy):
    code = ("import sys\nimport numpy as np\nfrom utils.faces import embeddings\n"
            "from utils.faces.backbones import Backbone\n"
            f"{inspect.getsource(Toy)}\n"
            "embeddings.CHUNK = 1\n"
            "np.save(sys.argv[1], embeddings.embed_photos(Toy(), sys.argv[2:], progress=False))\n")
    running = [subprocess.Popen([sys.executable, "-c", code, tmp_path / f"{number}.npy", *photos],
                                cwd=Path(embeddings.__file__).parents[2]) for number in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    for number in range(2):
        assert_array_equal(np.load(tmp_path / f"{number}.npy"), expected(photos))
    assert_array_equal(embed(toy, photos), expected(photos))
    assert toy.calls == []


def test_unreadable_photo_is_named_and_the_chunks_before_it_are_kept(toy, photos, monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK", 4)
    photos[5].write_bytes(photos[5].read_bytes()[:-500])
    with pytest.raises(ImageError, match=r"5\.jpg is truncated or damaged; copy or download it again"):
        embed(toy, photos)
    embed(toy, photos[:4])
    assert toy.calls == [4]


@pytest.mark.parametrize("spoil, message", [(lambda path: path.unlink(), "does not exist; check the path"),
                                            (lambda path: path.write_bytes(b""), "is empty"),
                                            (lambda path: path.write_text("hello"), "is not an image")])
def test_photo_that_is_none_is_named(toy, photos, spoil, message):
    spoil(photos[5])
    with pytest.raises(ImageError, match=rf"5\.jpg {message}"):
        embed(toy, photos)


def test_folder_in_the_place_of_a_photo_is_named(toy, tmp_path):
    with pytest.raises(ImageError, match="cannot be opened"):
        embed(toy, [tmp_path])


# --- damaged shards -----------------------------------------------------------------------------


def shard(path, **arrays):
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def array_alone(path, array):
    with open(path, "wb") as file:
        np.save(file, array)


def garbled(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


KEYS, VECTORS = np.zeros((2, 32), np.uint8), np.zeros((2, 4), np.float32)


@pytest.mark.parametrize("spoil", [
    lambda path: path.write_bytes(path.read_bytes()[:-40]),
    lambda path: path.write_bytes(b""),
    lambda path: path.write_text("no archive"),
    garbled,
    lambda path: path.write_bytes(b"\x93NUMPY" + path.read_bytes()),
    lambda path: array_alone(path, VECTORS),
    lambda path: shard(path, other=VECTORS),
    lambda path: shard(path, keys=KEYS, vectors=np.zeros((2, 5), np.float32)),
    lambda path: shard(path, keys=KEYS, vectors=VECTORS[:1]),
    lambda path: shard(path, keys=KEYS[:, :16], vectors=VECTORS),
    lambda path: shard(path, keys=np.uint8(3), vectors=VECTORS),
    lambda path: shard(path, keys=KEYS, vectors=VECTORS.astype(str)),
    lambda path: shard(path, keys=KEYS, vectors=VECTORS.astype(object)),
    lambda path: shard(path, keys=KEYS.astype(float), vectors=VECTORS),
], ids=["truncated", "empty", "text", "garbled", "header", "npy", "other-names", "other-size", "fewer",
        "short-keys", "no-keys", "strings", "objects", "float-keys"])
def test_damaged_or_foreign_shard_is_dropped_with_a_warning_and_built_again(toy, photos, cache, spoil):
    embed(toy, photos)
    [path] = cache.glob("*.npz")
    spoil(path)
    with pytest.warns(UserWarning, match=f"The embedding cache .*{path.name} is damaged .*embedded again"):
        assert_array_equal(embed(toy, photos), expected(photos))
    assert toy.calls == [10, 10] and not path.exists()
    assert_array_equal(embed(toy, photos), expected(photos))
    assert toy.calls == [10, 10]


@settings(max_examples=80, deadline=None)
@given(place=st.integers(0, 10**6), byte=st.integers(1, 255))
def test_flipped_byte_in_a_shard_never_changes_a_result(families, tmp_path_factory, place, byte):
    paths = families.paths(families.photos["path"].iloc[:2])
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(action="ignore"):
        patch.setenv("KIN_CACHE", str(tmp_path_factory.mktemp("flipped")))
        embed(Toy(), paths)
        [path] = (Path(os.environ["KIN_CACHE"]) / "embeddings" / Toy().fingerprint).glob("*.npz")
        content = bytearray(path.read_bytes())
        content[place % len(content)] ^= byte
        path.write_bytes(content)
        assert_array_equal(embed(Toy(), paths), expected(paths))


# --- aligned faces ------------------------------------------------------------------------------


class Aligning(Toy):
    """A toy that says where landmarks belong."""

    template = np.array([(7.0, 8.0), (17.0, 8.0), (12.0, 13.0), (8.0, 17.0), (16.0, 17.0)])


@pytest.fixture
def aligning():
    return Aligning()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A face, a wall of six faces, a picture of nobody, another face: four files."""
    folder = tmp_path_factory.mktemp("pictures")
    several = scenes.family_wall(6, 1, 640, 360)[0]
    content = [scenes.two_photos()[0], several, np.full((120, 200, 3), 127, np.uint8), scenes.two_photos()[1]]
    for number, picture in enumerate(content):
        (folder / f"{number}.jpg").write_bytes(images.to_jpeg(picture))
    return sorted(folder.iterdir())


def embed_aligned(backbone, paths):
    return embeddings.embed_photos(backbone, paths, progress=False, aligned=True)


def by_hand(backbone, path):
    """One photo's largest face, found, aligned and embedded."""
    photo = images.read(path)
    face = detection.largest(detection.detect(photo))
    return backbone.embed(detection.align(photo, face.landmarks, backbone.template, backbone.input_size)[None])[0]


def test_aligned_embeddings_are_those_of_the_largest_faces_and_nan_where_there_is_none(aligning, pictures):
    found = embed_aligned(aligning, pictures)
    assert found.dtype == np.float32 and found.shape == (4, 4)
    assert np.isnan(found).all(axis=1).tolist() == [False, False, True, False]
    for number in (0, 1, 3):
        assert_allclose(found[number], by_hand(aligning, pictures[number]), atol=0.05)
    assert not np.isclose(found, embed(aligning, pictures), atol=0.5).all(axis=1).any()


def test_real_backbone_aligns_as_by_hand(backbone, pictures):
    found = embed_aligned(backbone, pictures[:2])
    for row, path in zip(found, pictures[:2], strict=True):
        assert_allclose(row, by_hand(backbone, path), atol=1e-3)


def test_align_gives_the_crop_that_the_backbone_takes(backbone, pictures):
    photo = images.read(pictures[0])
    face, = detection.detect(photo)
    crop = embeddings.align(backbone, photo, face)
    assert crop.shape == (150, 150, 3) and crop.dtype == np.uint8
    assert_array_equal(crop, detection.align(photo, face.landmarks, backbone.template, 150))
    found = detection.detect_in_crops([crop])[0].landmarks  # found anew, so with MTCNN's own error
    assert np.hypot(*(found - backbone.template).T).mean() < 6


def test_aligned_embeddings_have_a_cache_of_their_own(aligning, pictures, cache):
    aligned, resized = embed_aligned(aligning, pictures), embed(aligning, pictures)
    assert {folder.name for folder in cache.parent.iterdir()} == {cache.name, f"{cache.name}-aligned"}
    assert_array_equal(embed(aligning, pictures), resized)
    assert_array_equal(embed_aligned(aligning, pictures), aligned)
    assert aligning.calls == [3, 4]


def test_second_aligned_call_searches_no_photo(aligning, pictures, monkeypatch):
    def search(photos):
        raise AssertionError("a known photo was searched")

    first = embed_aligned(aligning, pictures)
    monkeypatch.setattr(detection, "detect_many", search)
    assert_array_equal(embed_aligned(aligning, pictures[::-1]), first[::-1])
    assert aligning.calls == [3]


def test_photos_without_a_face_are_not_embedded_at_all(aligning, pictures):
    assert np.isnan(embed_aligned(aligning, [pictures[2]] * 3)).all()
    assert aligning.calls == []


def test_aligned_photos_are_searched_in_chunks_a_quarter_as_long(aligning, pictures, monkeypatch, cache):
    monkeypatch.setattr(embeddings, "CHUNK", 8)
    embed_aligned(aligning, pictures)
    assert aligning.calls == [2, 1]
    assert len(list((cache.parent / f"{cache.name}-aligned").glob("*.npz"))) == 2


def test_broken_photo_among_the_aligned_is_named(aligning, pictures, tmp_path):
    (tmp_path / "half.jpg").write_bytes(pictures[0].read_bytes()[:2000])
    with pytest.raises(ImageError, match=r"half\.jpg is truncated or damaged"):
        embed_aligned(aligning, [pictures[0], tmp_path / "half.jpg"])


def test_aligned_faces_are_those_of_users_or_the_whole_photo_and_it_is_said_which(aligning, pictures):
    found, seen = embeddings.aligned_faces(aligning, pictures)
    assert found.shape == (4, 24, 24, 3) and found.dtype == np.uint8
    assert seen.dtype == bool and seen.tolist() == [True, True, False, True]
    assert_array_equal(found[2], images.resize(images.read(pictures[2]), 24))
    assert (found[2] == 127).all()
    for number, other in ((0, 1), (3, 0)):
        two = embeddings.find_two(aligning, pictures[number], pictures[other])
        assert np.abs(two[0].crop.astype(int) - found[number]).max() <= 2
    none, empty = embeddings.aligned_faces(aligning, [])
    assert none.shape == (0, 24, 24, 3) and empty.shape == (0,)


def test_two_found_faces_are_the_largest_of_each_photo_with_how_many_there_are(aligning, pictures):
    wall, single = embeddings.find_two(aligning, pictures[1], images.read(pictures[0]))
    assert (len(wall.faces), len(single.faces)) == (6, 1)
    faces = detection.detect(images.read(pictures[1]))
    assert wall.face.box == faces[0].box and wall.face.area == max(face.area for face in faces)
    for found, path in ((wall, pictures[1]), (single, pictures[0])):
        assert_array_equal(found.crop, embeddings.align(aligning, images.read(path), found.face))


def test_of_several_faces_the_chosen_one_is_taken(aligning, pictures):
    first, *_, last = detection.detect(images.read(pictures[1]))
    single, wall = embeddings.find_two(aligning, pictures[0], pictures[1], (1, 6))
    assert (single.face.box, wall.face.box) == (single.faces[0].box, last.box)
    wall, other = embeddings.find_two(aligning, pictures[1], pictures[1], (tuple(last.centre + 3), 1))
    assert (wall.face.box, other.face.box) == (last.box, first.box)
    answer = embeddings.Compared(**embeddings.compared([wall, other]))
    assert answer.face_numbers == (6, 1) and answer.faces_found == (6, 6)
    assert answer.faces_dict() == {"faces": [last.to_dict(), first.to_dict()], "face_numbers": [6, 1],
                                   "faces_found": [6, 6]}
    assert_array_equal(answer.crops, [wall.crop, other.crop])
    with pytest.raises(FaceError, match="^There is no face number 2 in .*; it has 1 face, number 1"):
        embeddings.find_two(aligning, pictures[1], pictures[0], (1, 2))


@pytest.mark.parametrize("place", [0, 1])
def test_photo_of_two_without_a_face_is_named(aligning, pictures, place):
    given = [pictures[0], pictures[2]][::1 if place else -1]
    with pytest.raises(FaceError, match=rf"^No face was found in {pictures[2]}; use a photo"):
        embeddings.find_two(aligning, *given)
    given[place] = images.read(pictures[2])
    with pytest.raises(FaceError, match=f"^No face was found in the {('first', 'second')[place]} photo; use"):
        embeddings.find_two(aligning, *given)


def face_at(landmarks):
    return detection.Face((0.0, 0.0, 50.0, 60.0), 0.99, np.asarray(landmarks))


@given(angle=st.floats(-3, 3), scale=st.floats(0.2, 8), x=st.floats(-90, 900), y=st.floats(-90, 900))
def test_landmarks_of_a_face_that_fits_the_template_lie_on_it_in_the_crop(angle, scale, x, y):
    turn = scale * np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    found = embeddings.landmarks_in_crop(Aligning(), face_at(Aligning.template @ turn.T + (x, y)))
    assert_allclose(found, Aligning.template, atol=1e-6)


def test_landmarks_in_the_crop_are_where_their_pixels_come_to_lie(aligning):
    landmarks = np.array([(60.0, 55.0), (110.0, 62.0), (80.0, 90.0), (58.0, 110.0), (105.0, 118.0)])
    placed = embeddings.landmarks_in_crop(aligning, face_at(landmarks))
    assert np.hypot(*(placed - aligning.template).T).max() > 0.3, "they fit too well to show anything"
    for landmark, (x, y) in zip(landmarks, placed, strict=True):
        photo = np.zeros((160, 160, 3), np.uint8)
        rows, columns = np.mgrid[:160, :160] + 0.5
        photo[np.hypot(columns - landmark[0], rows - landmark[1]) < 10] = 255
        crop = embeddings.align(aligning, photo, face_at(landmarks))[..., 0] / 255
        rows, columns = np.mgrid[:24, :24] + 0.5
        assert_allclose([(crop * columns).sum() / crop.sum(), (crop * rows).sum() / crop.sum()], (x, y), atol=0.3)
