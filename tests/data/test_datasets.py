"""The competition's data as Kaggle serves it, as a folder, and as an attacker would send it."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pandas.testing import assert_frame_equal

from utils import files, images
from utils.data import datasets, synthetic
from utils.errors import DatasetError, ImageError, NoRoomError

CSV_FILES = ["train_relationships.csv", "sample_submission.csv"]


@pytest.fixture(scope="module")
def small_root(families_root, tmp_path_factory):
    """Three families, a few test photos and the CSV files: enough to be served as an archive."""
    root = tmp_path_factory.mktemp("small") / "folder"
    for family in ("F0001", "F0003", "F0900"):
        shutil.copytree(families_root / "train" / family, root / "train" / family)
    (root / "test").mkdir()
    for path in sorted((families_root / "test").iterdir())[:5]:
        shutil.copy(path, root / "test")
    for name in CSV_FILES:
        shutil.copy(families_root / name, root)
    return root


@pytest.fixture(scope="module")
def members(small_root, files_under):
    """Name to content of the files of ``small_root``."""
    return {name: (small_root / name).read_bytes() for name in sorted(files_under(small_root))}


@pytest.fixture(scope="module")
def kaggle(members, zipped):
    """A function that gives the bytes of the archive that Kaggle serves.

    ``leading`` stands before the names in train.zip, ``extra`` are further members of it.
    """

    def make(leading="", extra=None):
        inner = {"train": dict(extra or {}), "test": {}}
        for name, content in members.items():
            kind, _, rest = name.partition("/")
            if rest:
                inner[kind][(leading if kind == "train" else "") + rest] = content
        packed = {f"{kind}.zip": zipped(files) for kind, files in inner.items()}
        return zipped(packed | {name: members[name] for name in CSV_FILES})

    return make


@pytest.fixture
def archive(tmp_path, cache, kaggle):
    """The archive that Kaggle serves, in a file, with an empty cache."""
    path = tmp_path / "kaggle.zip"
    path.write_bytes(kaggle())
    return path


@pytest.fixture
def folder(tmp_path, small_root):
    """A copy of ``small_root`` that a test may spoil."""
    return shutil.copytree(small_root, tmp_path / "folder")


# --- the archive --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["kaggle", "with train/", "plain", "folder around"])
def test_archive_gives_what_its_folder_gives(
    tmp_path, cache, members, small_root, kaggle, zipped, form
):
    content = kaggle("train/" if form == "with train/" else "")
    if form == "plain":
        content = zipped(members)
    elif form == "folder around":
        (tmp_path / "inner.zip").write_bytes(content)
        with zipfile.ZipFile(tmp_path / "inner.zip") as inner:
            around = {f"recognizing-faces/{name}": inner.read(name) for name in inner.namelist()}
        content = zipped(around, zipfile.ZIP_STORED)
    (tmp_path / "data.zip").write_bytes(content)
    # the same index, and the same bytes of every photo
    loaded, expected = datasets.load(tmp_path / "data.zip"), datasets.load(small_root)
    assert_frame_equal(loaded.photos, expected.photos)
    assert_frame_equal(loaded.relationships, expected.relationships)
    assert_frame_equal(loaded.sample, expected.sample)
    assert loaded.test_photos == expected.test_photos
    for name in [*loaded.photos["path"], *(f"test/{name}" for name in loaded.test_photos)]:
        assert (loaded.root / name).read_bytes() == members[name]


def test_archive_is_extracted_once_for_each_content(tmp_path, archive, kaggle):
    first = datasets.load(archive).root
    (first / "mark").touch()
    assert (datasets.load(archive.rename(tmp_path / "renamed.zip")).root / "mark").is_file()
    archive.write_bytes(kaggle(extra={"F0001/MID1/P99999_face1.jpg": b"new"}))
    assert datasets.load(archive).root != first


def test_many_at_once_extract_one_whole_folder(archive, members, files_under):
    with ThreadPoolExecutor(4) as pool:
        roots = list(pool.map(lambda _: datasets.load(archive).root, range(4)))
    assert len(set(roots)) == 1
    assert files_under(roots[0]) == set(members)


def test_killed_extraction_leaves_no_half_folder(archive, cache, members, files_under):
    code = (
        "import itertools, os, pathlib, signal, sys\n"
        "from utils.data import datasets\n"
        "write, count = pathlib.Path.write_bytes, itertools.count()\n"
        "def dying(self, content):\n"
        "    if next(count) == 20: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return write(self, content)\n"
        "pathlib.Path.write_bytes = dying\n"
        "datasets.load(sys.argv[1])\n"
    )
    # another process dies while it writes the 21st file
    killed = subprocess.run(
        [sys.executable, "-c", code, str(archive)],
        env={**os.environ, "KIN_CACHE": str(cache)},
        cwd=Path(datasets.__file__).parents[2],
    )
    assert killed.returncode == -signal.SIGKILL
    assert files_under(datasets.load(archive).root) == set(members)


def test_failed_extraction_leaves_nothing_behind(tmp_path, cache, members, zipped):
    good, bad = zipped({"F0001/MID1/P00001_face1.jpg": b"x"}), b"no archive"
    files = {CSV_FILES[0]: members[CSV_FILES[0]], "train.zip": good, "test.zip": bad}
    (tmp_path / "kaggle.zip").write_bytes(zipped(files))
    with pytest.raises(DatasetError, match=r"kaggle\.zip is damaged .*download it again"):
        datasets.load(tmp_path / "kaggle.zip")
    assert not [path for path in (cache / "extracted").iterdir() if path.is_dir()]


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_half_downloaded_archive_is_named(archive, share):
    archive.write_bytes(archive.read_bytes()[: int(share * archive.stat().st_size)])
    with pytest.raises(
        DatasetError, match=r"kaggle\.zip is not a whole zip archive; download it again"
    ):
        datasets.load(archive)


def test_archive_cut_behind_its_inner_train_zip_is_not_taken_for_it(
    tmp_path, cache, members, zipped
):
    photos = {name: content for name, content in members.items() if name[:9] == "train/F00"}
    train = zipped({name.removeprefix("train/"): content for name, content in photos.items()})
    packed = {"train.zip": train, CSV_FILES[0]: members[CSV_FILES[0]]}
    whole = zipped(packed, zipfile.ZIP_STORED)
    (tmp_path / "cut.zip").write_bytes(whole[: whole.index(train) + len(train)])
    with pytest.raises(
        DatasetError, match=r"cut\.zip does not hold .*train_relationships\.csv is missing"
    ):
        datasets.load(tmp_path / "cut.zip")


def test_file_that_is_no_archive_and_archive_of_something_else_are_named(tmp_path, cache, zipped):
    (tmp_path / "kaggle.zip").write_text("<html>please log in</html>")
    with pytest.raises(DatasetError, match=r"kaggle\.zip is not a whole zip archive"):
        datasets.load(tmp_path / "kaggle.zip")
    (tmp_path / "holiday.zip").write_bytes(zipped({"beach.jpg": b"sea"}))
    with pytest.raises(
        DatasetError, match=r"holiday\.zip does not hold .*: .*has no folder train/"
    ):
        datasets.load(tmp_path / "holiday.zip")


@settings(max_examples=40, deadline=None)
@given(place=st.integers(0, 10**9), junk=st.binary(min_size=1, max_size=12))
def test_damaged_archive_never_raises_anything_but_the_named_error(
    tmp_path_factory, members, zipped, place, junk
):
    names = [name for name in members if name.startswith("train/F0003/MID1")] + CSV_FILES
    content = bytearray(zipped({name: members[name] for name in names}))
    start = place % len(content)
    content[start : start + len(junk)] = junk
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "kaggle.zip").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIN_CACHE", str(folder))
        try:
            assert len(datasets.load(folder / "kaggle.zip").photos) <= len(names)
        except DatasetError as error:
            assert "kaggle.zip" in str(error)


def test_hostile_members_are_passed_over(tmp_path, cache, members, kaggle, files_under):
    hostile = [
        "../P00001_face1.jpg",
        "../../../escaped.jpg",
        "/absolute/P00001_face1.jpg",
        "/F0001/MID1/P00001_face1.jpg",
        "F0001/MID1/../../../../escaped.jpg",
        "F0001/MID1/..",
        "F0001\\MID1\\P00001_face1.jpg",
        "..\\escaped.jpg",
        "F0001/../P00001_face1.jpg",
        "C:/P00001_face1.jpg",
        "test/..",
        "test/../escaped.jpg",
        "F0001/MID1/.hidden",
        "F0001/MID1/sub/P00001_face1.jpg",
        "__MACOSX/F0001/MID1/P00001_face1.jpg",
    ]
    path = tmp_path / "kaggle.zip"
    path.write_bytes(kaggle(extra=dict.fromkeys(hostile, b"hostile")))
    assert files_under(datasets.load(path).root) == set(members)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if path.read_bytes() == b"hostile"]


# --- the folder ---------------------------------------------------------------------------------


def test_folder_index_holds_family_person_photo_and_path(folder):
    photos = datasets.load(folder).photos
    row = photos.iloc[0]
    assert list(photos) == ["family", "person", "photo_id", "path"]
    assert row["path"] == f"train/{row['person']}/{row['photo_id']}_face{row['path'][-5]}.jpg"
    assert row["person"].startswith(f"{row['family']}/MID")


def test_photo_without_a_face_number_is_taken(folder):
    photo = next((folder / "train").rglob("*.jpg"))
    photo.rename(photo.with_name("P00001_face.jpg"))
    photos = datasets.load(folder).photos
    assert photos.loc[photos["path"].str.endswith("_face.jpg"), "photo_id"].tolist() == ["P00001"]


def test_what_is_no_photo_of_the_layout_is_passed_over(folder):
    before = datasets.load(folder)
    for name in ("F0001/notes.txt", "F0001/MID1/Thumbs.db", "F1/MID1/P1_face1.jpg", "a.jpg"):
        (folder / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "train" / name).write_bytes(b"x")
    (folder / "train/F0001/MID1/P00001.jpg").write_bytes(b"x")
    assert_frame_equal(datasets.load(folder).photos, before.photos)


def test_folder_without_sample_or_test_still_loads(folder):
    (folder / "sample_submission.csv").unlink()
    shutil.rmtree(folder / "test")
    dataset = datasets.load(folder)
    assert dataset.sample.empty and list(dataset.sample) == ["img_pair", "is_related"]
    assert dataset.test_photos == []


def test_missing_source_train_photos_or_relationships_are_named(tmp_path, folder):
    with pytest.raises(DatasetError, match=r"nowhere does not exist; name the Kaggle archive"):
        datasets.load(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"train/F0001 has no folder train/; name the folder"):
        datasets.load(folder / "train/F0001")
    (folder / "train_relationships.csv").unlink()
    with pytest.raises(DatasetError, match=r"train_relationships\.csv is missing; copy it"):
        datasets.load(folder)
    shutil.rmtree(folder / "train")
    (folder / "train/F0001/MID1").mkdir(parents=True)
    with pytest.raises(
        DatasetError, match=r"folder/train holds no photo such as F0123/MID1/P00009_face3\.jpg"
    ):
        datasets.load(folder)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("train_relationships.csv", "expected p1, p2"),
        ("sample_submission.csv", "expected img_pair, is_related"),
    ],
)
def test_wrong_columns_are_named(folder, name, expected):
    (folder / name).write_text("a,b,c\n1,2,3\n")
    with pytest.raises(DatasetError, match=rf"{name} has the columns a, b, c; {expected}"):
        datasets.load(folder)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is not a CSV file that can be read"),
        (b"\xff\xfe\x00\x01", "is not a CSV file that can be read"),
        (b'p1,p2\n"F0001/MID1', "is not a CSV file that can be read"),
        (b"p1,p2\n", "lists no pair of people"),
    ],
)
def test_relationships_that_cannot_be_used_are_named(folder, content, message):
    (folder / "train_relationships.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=rf"train_relationships\.csv {message}"):
        datasets.load(folder)


@pytest.mark.parametrize(
    "person", ["F1/MID1", "F0001", "F0001/MID 1", "F0001/mid1", "../F0001/MID1", "", "7"]
)
def test_bad_person_is_named_with_its_line(folder, person):
    rows = f"p1,p2\nF0001/MID1,F0001/MID2\nF0001/MID1,{person}\n"
    (folder / "train_relationships.csv").write_text(rows)
    with pytest.raises(
        DatasetError, match=r"train_relationships\.csv, line 3: .* is not a person such as F0123"
    ):
        datasets.load(folder)


# --- the index ----------------------------------------------------------------------------------


def test_kin_leaves_out_rows_with_a_person_without_photos(hand_made):
    dataset = hand_made(
        {"F0001/MID1": ["P1"], "F0001/MID2": ["P1"], "F0002/MID1": ["P2"]},
        [("F0001/MID2", "F0001/MID1"), ("F0001/MID1", "F0001/MID3")],
    )
    assert dataset.kin.to_numpy().tolist() == [["F0001/MID2", "F0001/MID1", "F0001"]]
    assert dataset.of_families(["F0002"]).kin.empty


def test_of_families_keeps_only_their_photos_and_kin(families):
    part = families.of_families(["F0003", "F0901"])
    assert part.families == ["F0003", "F0901"]
    assert set(part.kin["family"]) == {"F0003", "F0901"}
    expected = [name for name in families.photos["path"] if name[6:11] in ("F0003", "F0901")]
    assert part.photos["path"].tolist() == expected


def test_without_photos_numbers_the_rows_anew(families):
    dropped = families.photos["path"].iloc[[0, 5]].tolist()
    rest = families.without_photos(dropped)
    assert rest.photos.index.tolist() == list(range(len(families.photos) - 2))
    assert not set(dropped) & set(rest.photos["path"])


def test_paths_lie_under_the_root(families):
    assert families.paths(["train/a.jpg"]) == [families.root / "train/a.jpg"]


def test_unlisted_pairs_are_those_of_one_family_that_the_csv_lacks_in_either_order(hand_made):
    people = ["F0001/MID1", "F0001/MID2", "F0001/MID3", "F0002/MID1"]
    dataset = hand_made(dict.fromkeys(people, ["P1"]), [("F0001/MID2", "F0001/MID1")])
    assert datasets.within_family_pairs(dataset) == [
        ("F0001/MID1", "F0001/MID2"),
        ("F0001/MID1", "F0001/MID3"),
        ("F0001/MID2", "F0001/MID3"),
    ]
    assert datasets.unlisted_pairs(dataset) == [
        ("F0001/MID1", "F0001/MID3"),
        ("F0001/MID2", "F0001/MID3"),
    ]


# --- decoded photos -----------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch):
    """The photos that are read, one entry each time."""

    def counted(source):
        paths.append(Path(source))
        return read(source)

    paths, read = [], images.read
    monkeypatch.setattr(images, "read", counted)
    return paths


@pytest.fixture
def part(families, cache):
    """One family, whose photos are not decoded yet."""
    return families.of_families(["F0003"])


@pytest.fixture
def broken(families_root):
    """Path of the one photo that cannot be read."""
    [name] = synthetic.manifest(families_root)["defects"]["truncated"]
    return name


def test_decoded_in_two_sizes_is_what_each_size_gives_and_is_read_once(part, reads):
    paths = part.paths(part.photos["path"])
    small, large = datasets.decoded(part, [24, 40], progress=False)
    assert sorted(reads) == sorted(paths)
    for pixels, size in ((small, 24), (large, 40)):
        assert isinstance(pixels, np.memmap) and not pixels.flags.writeable
        assert_array_equal(pixels, [images.read_resized(path, size) for path in paths])


def test_decoded_sizes_come_in_the_order_asked_for_also_when_they_are_there(part, reads):
    for sizes in ([40, 24], [24, 40], [24, 24], [24]):
        views = datasets.decoded(part, sizes, progress=False)
        assert [pixels.shape[1] for pixels in views] == sizes
    assert len(reads) == len(part.photos)


def test_only_the_size_that_is_not_there_is_decoded(part, cache, reads):
    datasets.decoded(part, [24], progress=False)
    written = next((cache / "decoded").glob("*-24.npy")).stat()
    reads.clear()
    datasets.decoded(part, [24, 40], progress=False)
    assert sorted(reads) == sorted(part.paths(part.photos["path"]))
    assert next((cache / "decoded").glob("*-24.npy")).stat() == written


def test_broken_photo_is_named_and_leaves_no_half_file_of_any_size(families_root, cache, broken):
    with pytest.raises(ImageError, match=rf"{Path(broken).name} is truncated or damaged"):
        datasets.decoded(datasets.load(families_root), [24, 32], progress=False)
    assert list((cache / "decoded").iterdir()) == []


@pytest.fixture(params=["before anything is read", "when it is taken"])
def full_disk(request, monkeypatch):
    """A disk without room for what is decoded."""

    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    if request.param == "when it is taken":  # by another program, just before
        monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    else:
        monkeypatch.setattr(files, "free_room", lambda folder: 1000)


@pytest.mark.parametrize("decode", [datasets.decoded, datasets.readable])
def test_no_room_for_decoded_photos_is_told_before_any_is_read(
    part, cache, reads, full_disk, decode
):
    # three bytes a pixel, 24 × 24 pixels a photo
    needed = len(part.photos) * 3 * 24 * 24 / 1e6
    digits = 1 if files.free_room(cache) > 1e6 else 2  # 0.0 and 0.0 would say nothing
    told = f"{needed:.{digits}f} MB are needed"
    message = rf"no room in {cache / 'decoded'}: {told}, .*in KIN_CACHE\."
    with pytest.raises(NoRoomError, match=message):
        decode(part, [24])
    assert reads == []
    assert list((cache / "decoded").iterdir()) == []


def test_decoded_file_takes_its_room_before_it_is_written_through(part, cache):
    path = cache / "array.npy"
    cache.mkdir()
    array = datasets._new_array(path, part, 24)
    assert array.shape == (len(part.photos), 24, 24, 3) and array.flags.writeable
    assert path.stat().st_blocks * 512 >= path.stat().st_size > array.size


def test_decoded_files_are_those_that_numpy_saves(part, broken, families_root, cache):
    with pytest.warns(UserWarning, match="left out"):
        whole = datasets.readable(datasets.load(families_root), [24])
    for dataset in (part, whole):
        [pixels] = datasets.decoded(dataset, [24], progress=False)
        written = cache / "decoded" / f"{dataset.fingerprint}-24.npy"
        np.save(cache / "again.npy", pixels)
        assert written.read_bytes() == (cache / "again.npy").read_bytes()


@pytest.mark.parametrize("decode", [datasets.decoded, datasets.readable])
def test_decoding_removes_what_a_killed_run_left(part, cache, decode):
    folder = cache / "decoded"
    folder.mkdir(parents=True)
    (folder / f".{part.fingerprint}-24-abcdefgh.npy").write_bytes(b"half")
    (folder / ".0123456789abcdef-24-abcdefgh.npy").write_bytes(b"half of other data")
    decode(part, [24])
    names = {path.name for path in folder.iterdir()}
    assert names == {f"{part.fingerprint}-24.npy", ".0123456789abcdef-24-abcdefgh.npy"}


def test_readable_leaves_out_the_unreadable_scans_once_and_warns_every_time(
    families_root, families, cache, broken, reads
):
    for _ in range(2):
        with pytest.warns(UserWarning, match=f"1 photo cannot be read and is left out: {broken}"):
            dataset = datasets.readable(datasets.load(families_root))
        assert_frame_equal(dataset.photos, families.photos)
    assert len(reads) == len(families.photos) + 1
    assert not (cache / "decoded").exists()


def test_readable_scans_again_when_a_photo_changed(folder, cache, recwarn):
    whole = datasets.readable(datasets.load(folder))
    assert not recwarn
    path = folder / whole.photos["path"].iloc[0]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.warns(UserWarning, match=path.name):
        assert len(datasets.readable(datasets.load(folder)).photos) == len(whole.photos) - 1


def test_readable_writes_each_size_that_decoded_reads_without_the_unreadable_photos(
    families_root, families, cache, reads
):
    with pytest.warns(UserWarning, match="left out"):
        dataset = datasets.readable(datasets.load(families_root), [24, 32])
    written = {path.name: path.read_bytes() for path in (cache / "decoded").glob("*.npy")}
    assert len(reads) == len(families.photos) + 1 and len(written) == 2
    assert not [path for path in (cache / "decoded").iterdir() if path.is_dir()]
    for path in (cache / "decoded").glob("*.npy"):
        path.unlink()
    datasets.decoded(dataset, [24, 32], progress=False)
    again = {path.name: path.read_bytes() for path in (cache / "decoded").glob("*.npy")}
    assert again == written


def test_link_that_leads_nowhere_is_left_out(folder, cache):
    photo = next((folder / "train").rglob("*.jpg"))
    photo.unlink()
    photo.symlink_to("/nowhere/annexed.jpg")
    with pytest.warns(UserWarning, match=f"1 photo cannot be read .*{photo.name}"):
        datasets.readable(datasets.load(folder))


def test_fingerprint_is_of_root_paths_sizes_and_times(tmp_path):
    # caches of earlier versions are found by this name
    root = tmp_path / "data"
    (root / "train/F0001/MID1").mkdir(parents=True)
    (root / "train_relationships.csv").write_text("p1,p2\nF0001/MID1,F0001/MID2\n")
    for number, size in ((1, 10), (2, 20)):
        path = root / f"train/F0001/MID1/P0000{number}_face1.jpg"
        path.write_bytes(bytes(size))
        os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    dataset = datasets.load(root)
    text = (
        f"{root.resolve()}"
        "train/F0001/MID1/P00001_face1.jpg 10 1700000000123456789\n"
        "train/F0001/MID1/P00002_face1.jpg 20 1700000000123456789\n"
    )
    assert dataset.fingerprint == hashlib.sha256(text.encode()).hexdigest()[:16]
    rest = dataset.without_photos(["train/F0001/MID1/P00001_face1.jpg"])
    text = text.replace("train/F0001/MID1/P00001_face1.jpg 10 1700000000123456789\n", "")
    assert rest.fingerprint == hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        lambda path: os.utime(path, ns=(1, 1)),
        lambda path: path.rename(path.with_name("P77777_face1.jpg")),
        lambda path: path.unlink(),
    ],
    ids=["content", "time", "name", "gone"],
)
def test_fingerprint_changes_when_a_photo_does(folder, change):
    before = datasets.load(folder)
    change(folder / before.photos["path"].iloc[0])
    assert datasets.load(folder).fingerprint != before.fingerprint
