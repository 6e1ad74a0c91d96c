"""The embedding cache: nothing is computed twice, and nothing wrong is ever believed."""

import inspect
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

from utils import files, images
from utils.errors import ImageError, NoRoomError, StorageError
from utils.faces import alignment, detection, embeddings
from utils.faces.backbones import Backbone


class Toy(Backbone):
    """Mean, spread, least and most of the pixels; remembers how many photos each call embedded."""

    name = "toy"
    input_size = 24
    embedding_size = 4
    preprocessing = "none"
    weights_id = "0123456789abcdef"
    template = np.array([(7.0, 8.0), (17.0, 8.0), (12.0, 13.0), (8.0, 17.0), (16.0, 17.0)])

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


def write_photos(folder, count):
    """Different photos of noise, larger than the toy's input."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for path in paths:
        path.write_bytes(images.to_jpeg(rng.integers(0, 256, (30, 30, 3), dtype=np.uint8)))
    return paths


@pytest.fixture
def photos(tmp_path):
    """Ten different photos."""
    return write_photos(tmp_path, 10)


def embed(backbone, paths):
    return embeddings.embed_photos(backbone, paths, progress=False)


def expected(paths):
    return Toy().embed(images.read_many(paths, Toy.input_size))


# --- what comes back ----------------------------------------------------------------------------


def test_embeddings_are_those_of_the_photos_in_order(toy, photos):
    rows = embed(toy, photos[::-1])
    assert rows.dtype == np.float32
    assert_array_equal(rows, expected(photos[::-1]))


def test_order_is_kept_when_some_photos_are_known(toy, photos):
    embed(toy, photos[3:6])
    assert_array_equal(embed(toy, photos), expected(photos))


def test_real_backbone_goes_the_one_way_for_a_photo(backbone, pictures):
    crop = images.read_resized(pictures[0], backbone.input_size)
    rows = embed(backbone, pictures[:2])
    assert_allclose(rows[0], backbone.embed(crop[None])[0], atol=1e-5)


def test_no_photos_give_no_rows(toy):
    assert embed(toy, []).shape == (0, 4)
    assert toy.calls == []


# --- what is not computed again -----------------------------------------------------------------


def test_second_call_makes_no_forward_pass_whatever_the_type_of_a_path(toy, photos):
    first = embed(toy, photos)
    assert_array_equal(embed(toy, [str(path) for path in photos]), first)
    assert toy.calls == [10]


def test_same_content_under_another_name_is_reused(toy, photos, tmp_path):
    embed(toy, photos)
    renamed = [photos[4].rename(tmp_path / "renamed.png")]
    assert_array_equal(embed(toy, renamed), expected(renamed))
    assert toy.calls == [10]


def test_duplicates_are_embedded_once_and_all_given(toy, photos, tmp_path):
    twin = shutil.copy(photos[0], tmp_path / "twin.jpg")
    rows = embed(toy, [photos[0], photos[1], twin, photos[0]])
    assert toy.calls == [2]
    assert_array_equal(rows, expected([photos[n] for n in (0, 1, 0, 0)]))


def test_changed_photo_is_embedded_again(toy, photos):
    embed(toy, photos)
    shutil.copy(photos[1], photos[0])
    photos[2].write_bytes(images.to_jpeg(images.read(photos[2])[::-1].copy()))
    assert_array_equal(embed(toy, photos), expected(photos))
    assert toy.calls == [10, 1]


@pytest.mark.parametrize("attribute", ["name", "preprocessing", "weights_id"])
def test_another_backbone_weights_or_preprocessing_shares_nothing(toy, photos, attribute):
    embed(toy, photos)
    another = type("Another", (Toy,), {attribute: "another"})()
    embed(another, photos)
    assert another.calls == [10]


def test_photos_are_embedded_in_chunks(toy, photos, monkeypatch, cache):
    monkeypatch.setattr(embeddings, "CHUNK", 4)
    assert_array_equal(embed(toy, photos), expected(photos))
    assert toy.calls == [4, 4, 2] and len(list(cache.glob("*.npz"))) == 3


@pytest.mark.parametrize("progress", [False, True])
def test_progress_is_shown_only_where_it_is_asked_for(toy, photos, capfd, progress):
    embeddings.embed_photos(toy, photos, progress)
    assert ("Embedding with toy" in capfd.readouterr().err) == progress


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
    code = (
        "import sys\nimport numpy as np\nfrom utils.faces import embeddings\n"
        "from utils.faces.backbones import Backbone\n"
        f"{inspect.getsource(Toy)}\n"
        "embeddings.CHUNK = 1\n"
        "np.save(sys.argv[1], embeddings.embed_photos(Toy(), sys.argv[2:], progress=False))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / f"{number}.npy", *photos],
            cwd=Path(embeddings.__file__).parents[2],
        )
        for number in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    for number in range(2):
        assert_array_equal(np.load(tmp_path / f"{number}.npy"), expected(photos))
    assert_array_equal(embed(toy, photos), expected(photos))
    assert toy.calls == []


# --- photos that cannot be read -----------------------------------------------------------------


def test_unreadable_photo_is_named_and_the_chunks_before_it_are_kept(toy, photos, monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK", 4)
    photos[5].write_bytes(photos[5].read_bytes()[:-500])
    with pytest.raises(ImageError, match=r"5\.jpg is truncated or damaged; copy or download it"):
        embed(toy, photos)
    embed(toy, photos[:4])
    assert toy.calls == [4]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (Path.unlink, "does not exist; check the path"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("hello"), "is not an image"),
    ],
    ids=["missing", "empty", "text"],
)
def test_file_that_is_not_a_photo_is_named(toy, photos, spoil, message):
    spoil(photos[5])
    with pytest.raises(ImageError, match=rf"5\.jpg {message}"):
        embed(toy, photos)


def test_folder_in_the_place_of_a_photo_is_named(toy, tmp_path):
    with pytest.raises(ImageError, match="is a folder and not a photo"):
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
SPOILED = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not an archive"),
    "garbled": garbled,
    "header": lambda path: path.write_bytes(b"\x93NUMPY" + path.read_bytes()),
    "npy": lambda path: array_alone(path, VECTORS),
    "other names": lambda path: shard(path, other=VECTORS),
    "other size": lambda path: shard(path, keys=KEYS, vectors=np.zeros((2, 5), np.float32)),
    "fewer": lambda path: shard(path, keys=KEYS, vectors=VECTORS[:1]),
    "short keys": lambda path: shard(path, keys=KEYS[:, :16], vectors=VECTORS),
    "no keys": lambda path: shard(path, keys=np.uint8(3), vectors=VECTORS),
    "strings": lambda path: shard(path, keys=KEYS, vectors=VECTORS.astype(str)),
    "objects": lambda path: shard(path, keys=KEYS, vectors=VECTORS.astype(object)),
    "float keys": lambda path: shard(path, keys=KEYS.astype(float), vectors=VECTORS),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_damaged_or_foreign_shard_is_dropped_with_a_warning(toy, photos, cache, spoil):
    embed(toy, photos)
    [path] = cache.glob("*.npz")
    spoil(path)
    sentence = f"The embedding cache .*{path.name} is damaged .*embedded again"
    with pytest.warns(UserWarning, match=sentence):
        assert_array_equal(embed(toy, photos), expected(photos))
    assert toy.calls == [10, 10] and not path.exists()
    assert_array_equal(embed(toy, photos), expected(photos))
    assert toy.calls == [10, 10]


def test_flipped_byte_in_a_shard_never_changes_a_result(toy, photos, cache):
    rows = embed(toy, photos[:2])
    [path] = cache.glob("*.npz")
    content = path.read_bytes()

    @settings(max_examples=60, deadline=None, database=None)
    @given(place=st.integers(0, len(content) - 1), byte=st.integers(1, 255))
    def flip(place, byte):
        for shard in cache.glob("*.npz"):
            shard.unlink()
        flipped = bytearray(content)
        flipped[place] ^= byte
        path.write_bytes(flipped)
        with warnings.catch_warnings(action="ignore"):
            assert_array_equal(embed(toy, photos[:2]), rows)

    flip()


# --- aligned faces ------------------------------------------------------------------------------


def embed_aligned(backbone, paths):
    return embeddings.embed_photos(backbone, paths, progress=False, aligned=True)


def of_largest_face(backbone, path):
    """One photo's largest face, found, aligned and embedded."""
    photo = images.read(path)
    face = alignment.align_face(backbone, photo, detection.detect(photo)[0])
    return backbone.embed(face.crop[None])[0]


def test_aligned_embeddings_are_those_of_the_largest_faces_and_nan_where_there_is_none(
    toy, pictures
):
    rows = embed_aligned(toy, pictures)
    assert rows.dtype == np.float32 and rows.shape == (4, 4)
    assert np.isnan(rows).all(axis=1).tolist() == [False, False, True, False]
    for number in (0, 1, 3):
        assert_allclose(rows[number], of_largest_face(toy, pictures[number]), atol=0.05)
    assert not np.isclose(rows, embed(toy, pictures), atol=0.5).all(axis=1).any()


def test_real_backbone_embeds_the_largest_face(backbone, pictures):
    rows = embed_aligned(backbone, pictures[:1])
    assert_allclose(rows[0], of_largest_face(backbone, pictures[0]), atol=1e-3)


def test_aligned_embeddings_have_a_cache_of_their_own(toy, pictures, cache):
    aligned, resized = embed_aligned(toy, pictures), embed(toy, pictures)
    folders = {folder.name for folder in cache.parent.iterdir()}
    assert folders == {cache.name, f"{cache.name}-aligned"}
    assert_array_equal(embed(toy, pictures), resized)
    assert_array_equal(embed_aligned(toy, pictures), aligned)
    assert toy.calls == [3, 4]


def test_second_aligned_call_searches_no_photo(toy, pictures, monkeypatch):
    def search(photos):
        raise AssertionError("a known photo was searched")

    first = embed_aligned(toy, pictures)
    monkeypatch.setattr(detection, "detect_many", search)
    assert_array_equal(embed_aligned(toy, pictures[::-1]), first[::-1])
    assert toy.calls == [3]


def test_photos_without_a_face_are_not_embedded_at_all(toy, pictures):
    assert np.isnan(embed_aligned(toy, [pictures[2]] * 3)).all()
    assert toy.calls == []


def test_aligned_photos_are_searched_in_chunks_a_quarter_as_long(
    toy, pictures, monkeypatch, cache
):
    monkeypatch.setattr(embeddings, "CHUNK", 8)
    embed_aligned(toy, pictures)
    assert toy.calls == [2, 1]
    assert len(list((cache.parent / f"{cache.name}-aligned").glob("*.npz"))) == 2


def test_broken_photo_among_the_aligned_is_named(toy, pictures, tmp_path):
    (tmp_path / "half.jpg").write_bytes(pictures[0].read_bytes()[:2000])
    with pytest.raises(ImageError, match=r"half\.jpg is truncated or damaged"):
        embed_aligned(toy, [pictures[0], tmp_path / "half.jpg"])


# --- the disk -----------------------------------------------------------------------------------


def test_no_room_for_embeddings_is_told_before_any_is_computed(toy, photos, cache, monkeypatch):
    # 32 bytes of a key and four numbers of four bytes for each content
    size = 48 * len({path.read_bytes() for path in photos})
    monkeypatch.setattr(files, "free_room", lambda folder: size - 1)
    with pytest.raises(NoRoomError, match=r"no room in .*embeddings.* KIN_CACHE\."):
        embed(toy, photos)
    assert toy.calls == []
    monkeypatch.setattr(files, "free_room", lambda folder: size)
    embed(toy, photos)
    # what is there needs no room
    monkeypatch.setattr(files, "free_room", lambda folder: 0)
    embed(toy, photos)


def test_half_a_shard_of_a_killed_run_is_removed_by_the_next_that_writes(toy, photos, cache):
    cache.mkdir(parents=True)
    (cache / ".half-abcdefgh.npz").write_bytes(b"PK")
    embed(toy, photos)
    assert [path.suffix for path in cache.iterdir()] == [".npz"]
    assert not list(cache.glob(".*")) and list(cache.parent.iterdir()) == [cache]


def test_shard_that_the_machine_does_not_give_is_neither_dropped_nor_called_damaged(
    toy, photos, cache, monkeypatch
):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    embed(toy, photos)
    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(StorageError, match="Permission denied"):
        embed(toy, photos)
    assert len(list(cache.iterdir())) == 1
