"""The competition's data as Kaggle serves it, as a folder, and as an attacker would send it."""

import io
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pandas.testing import assert_frame_equal
from PIL import Image
from scipy.io import savemat

from utils import images
from utils.data import datasets, synthetic
from utils.errors import DatasetError, ImageError

REAL_KINFACEW = os.environ.get("KIN_KINFACEW")
CSV_FILES = ["train_relationships.csv", "sample_submission.csv"]


def zipped(files, compression=zipfile.ZIP_DEFLATED):
    """The bytes of an archive with these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def kaggle_archive(path, members, leading="", extra_train=None):
    """Write the archive that Kaggle serves; ``leading`` stands before the names in train.zip."""
    inner = {kind: {name.removeprefix(f"{kind}/"): content for name, content in members.items()
                    if name.startswith(f"{kind}/")} for kind in ("train", "test")}
    train = {leading + name: content for name, content in inner["train"].items()} | (extra_train or {})
    path.write_bytes(zipped({"sample_submission.csv": members["sample_submission.csv"],
                             "test.zip": zipped(inner["test"]), "train.zip": zipped(train),
                             "train_relationships.csv": members["train_relationships.csv"]}))
    return path


def files_under(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def assert_same_index(one, other):
    assert_frame_equal(one.photos, other.photos)
    assert_frame_equal(one.relationships, other.relationships)
    assert_frame_equal(one.sample, other.sample)
    assert one.test_photos == other.test_photos


@pytest.fixture(scope="module")
def small_root(families_root, tmp_path_factory):
    """Three families, a few test photos and the CSV files: enough to be served as an archive."""
    root = tmp_path_factory.mktemp("small") / "folder"
    for family in ("F0001", "F0003", "F0900"):
        shutil.copytree(families_root / "train" / family, root / "train" / family)
    (root / "test").mkdir()
    for path in [*sorted((families_root / "test").iterdir())[:5], *(families_root / name for name in CSV_FILES)]:
        shutil.copy(path, root / path.relative_to(families_root))
    return root


@pytest.fixture(scope="module")
def members(small_root):
    """Name to content of the files of ``small_root``."""
    return {name: (small_root / name).read_bytes() for name in sorted(files_under(small_root))}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the test's own."""
    monkeypatch.setenv("KIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path, small_root):
    """A copy of ``small_root`` that a test may spoil."""
    return shutil.copytree(small_root, tmp_path / "folder")


def hand_made(people, relationships=(), root="data"):
    """A dataset of no files: {person: [file names]}."""
    photos = [(person[:5], person, file.partition("_")[0], f"train/{person}/{file}")
              for person, files in people.items() for file in files]
    return datasets.Dataset(Path(root), pd.DataFrame(photos, columns=["family", "person", "photo_id", "path"]),
                            pd.DataFrame(relationships, columns=["p1", "p2"], dtype=object), [],
                            pd.DataFrame(columns=["img_pair", "is_related"]))


# --- the archive --------------------------------------------------------------------------------


@pytest.mark.parametrize("leading", ["", "train/"])
def test_archive_gives_what_its_folder_gives(tmp_path, cache, members, small_root, leading):
    loaded = datasets.load(kaggle_archive(tmp_path / "kaggle.zip", members, leading))
    assert_same_index(loaded, datasets.load(small_root))
    for name in [*loaded.photos["path"], *(f"test/{name}" for name in loaded.test_photos)]:
        assert (loaded.root / name).read_bytes() == members[name]


def test_archive_of_the_plain_folder_is_taken(tmp_path, cache, members, small_root):
    (tmp_path / "plain.zip").write_bytes(zipped(members))
    assert_same_index(datasets.load(tmp_path / "plain.zip"), datasets.load(small_root))


def test_archive_with_a_folder_around_everything_is_taken(tmp_path, cache, members, small_root):
    inner = kaggle_archive(tmp_path / "inner.zip", members)
    with zipfile.ZipFile(inner) as archive:
        wrapped = {f"recognizing-faces-in-the-wild/{name}": archive.read(name) for name in archive.namelist()}
    (tmp_path / "outer.zip").write_bytes(zipped(wrapped, zipfile.ZIP_STORED))
    assert_same_index(datasets.load(tmp_path / "outer.zip"), datasets.load(small_root))


def test_archive_is_extracted_once_for_each_content(tmp_path, cache, members):
    path = kaggle_archive(tmp_path / "kaggle.zip", members)
    first = datasets.load(path).root
    (first / "mark").touch()
    assert (datasets.load(path.rename(tmp_path / "renamed.zip")).root / "mark").is_file()
    other = kaggle_archive(tmp_path / "other.zip", members, extra_train={"F0001/MID1/P99999_face1.jpg": b"new"})
    assert datasets.load(other).root != first


def test_many_at_once_extract_one_whole_folder(tmp_path, cache, members):
    path = kaggle_archive(tmp_path / "kaggle.zip", members)
    with ThreadPoolExecutor(4) as pool:
        roots = list(pool.map(lambda _: datasets.load(path).root, range(4)))
    assert len(set(roots)) == 1
    assert files_under(roots[0]) == set(members)


def test_killed_extraction_leaves_no_half_folder(tmp_path, cache, members):
    path = kaggle_archive(tmp_path / "kaggle.zip", members)
    code = ("import itertools, os, pathlib, signal, sys\n"
            "from utils.data import datasets\n"
            "write, count = pathlib.Path.write_bytes, itertools.count()\n"
            "def dying(self, content):\n"
            "    if next(count) == 20: os.kill(os.getpid(), signal.SIGKILL)\n"
            "    return write(self, content)\n"
            "pathlib.Path.write_bytes = dying\n"
            "datasets.load(sys.argv[1])\n")
    killed = subprocess.run([sys.executable, "-c", code, str(path)], env={**os.environ, "KIN_CACHE": str(cache)},
                            cwd=Path(datasets.__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert files_under(datasets.load(path).root) == set(members)


def test_failed_extraction_leaves_nothing_behind(tmp_path, cache, members):
    good, bad = zipped({"F0001/MID1/P00001_face1.jpg": b"x"}), b"no archive"
    (tmp_path / "kaggle.zip").write_bytes(zipped({"test.zip": good, "train.zip": bad}))
    with pytest.raises(DatasetError, match=r"kaggle\.zip is damaged .*download it again"):
        datasets.load(tmp_path / "kaggle.zip")
    assert not [path for path in (cache / "extracted").iterdir() if path.is_dir()]


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
def test_half_downloaded_archive_is_named(tmp_path, cache, members, share):
    path = kaggle_archive(tmp_path / "kaggle.zip", members)
    path.write_bytes(path.read_bytes()[:int(share * path.stat().st_size)])
    with pytest.raises(DatasetError, match=r"kaggle\.zip is not a whole zip archive; download it again"):
        datasets.load(path)


def test_archive_cut_behind_its_inner_train_zip_is_not_taken_for_it(tmp_path, cache, members):
    train = zipped({name.removeprefix("train/"): members[name] for name in members if name[:9] == "train/F00"})
    whole = zipped({"train.zip": train, "train_relationships.csv": members["train_relationships.csv"]},
                   zipfile.ZIP_STORED)
    (tmp_path / "cut.zip").write_bytes(whole[:whole.index(train) + len(train)])
    with pytest.raises(DatasetError, match=r"cut\.zip does not hold .*train_relationships\.csv is missing"):
        datasets.load(tmp_path / "cut.zip")


def test_file_that_is_no_archive_is_named(tmp_path, cache):
    (tmp_path / "kaggle.zip").write_text("<html>please log in</html>")
    with pytest.raises(DatasetError, match=r"kaggle\.zip is not a whole zip archive"):
        datasets.load(tmp_path / "kaggle.zip")


def test_archive_of_something_else_is_named(tmp_path, cache):
    (tmp_path / "holiday.zip").write_bytes(zipped({"beach.jpg": b"sea"}))
    with pytest.raises(DatasetError, match=r"holiday\.zip does not hold .*: .*has no folder train/"):
        datasets.load(tmp_path / "holiday.zip")


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 10**9), junk=st.binary(min_size=1, max_size=12))
def test_damaged_archive_never_raises_anything_but_the_named_error(tmp_path_factory, members, place, junk):
    small = {name: members[name] for name in sorted(members) if name.startswith("train/F0003/MID1")}
    small |= {name: members[name] for name in CSV_FILES}
    content = bytearray(zipped(small))
    content[(start := place % len(content)):start + len(junk)] = junk
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "kaggle.zip").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIN_CACHE", str(folder))
        try:
            assert len(datasets.load(folder / "kaggle.zip").photos) <= len(small)
        except DatasetError as error:
            assert "kaggle.zip" in str(error)


@pytest.mark.parametrize("name", [
    "../P00001_face1.jpg", "../../../escaped.jpg", "/absolute/P00001_face1.jpg", "/F0001/MID1/P00001_face1.jpg",
    "F0001/MID1/../../../../escaped.jpg", "F0001/MID1/..", "F0001\\MID1\\P00001_face1.jpg", "..\\escaped.jpg",
    "F0001/../P00001_face1.jpg", "C:/P00001_face1.jpg", "test/..", "test/../escaped.jpg", "F0001/MID1/.hidden",
    "F0001/MID1/sub/P00001_face1.jpg", "__MACOSX/F0001/MID1/P00001_face1.jpg"])
def test_hostile_member_is_passed_over(tmp_path, cache, members, name):
    path = kaggle_archive(tmp_path / "kaggle.zip", members, extra_train={name: b"hostile"})
    assert files_under(datasets.load(path).root) == set(members)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"hostile"]


# --- the folder ---------------------------------------------------------------------------------


def test_folder_index_holds_family_person_photo_and_path(folder):
    row = datasets.load(folder).photos.iloc[0]
    assert row["path"] == f"train/{row['person']}/{row['photo_id']}_face{row['path'][-5]}.jpg"
    assert row["person"].startswith(f"{row['family']}/MID")


def test_photo_without_a_face_number_is_taken(folder):
    photo = next((folder / "train").rglob("*.jpg"))
    photo.rename(photo.with_name("P00001_face.jpg"))
    photos = datasets.load(folder).photos
    assert photos.loc[photos["path"].str.endswith("/P00001_face.jpg"), "photo_id"].tolist() == ["P00001"]


@pytest.mark.parametrize("name", ["train/F0001/notes.txt", "train/F0001/MID1/Thumbs.db",
                                  "train/F1/MID1/P1_face1.jpg", "train/F0001/MID1/P00001.jpg", "train/a.jpg"])
def test_what_is_no_photo_of_the_layout_is_passed_over(folder, name):
    before = datasets.load(folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"x")
    assert_frame_equal(datasets.load(folder).photos, before.photos)


def test_folder_without_sample_or_test_still_loads(folder):
    (folder / "sample_submission.csv").unlink()
    shutil.rmtree(folder / "test")
    dataset = datasets.load(folder)
    assert dataset.sample.empty and list(dataset.sample) == ["img_pair", "is_related"]
    assert dataset.test_photos == []


def test_missing_source_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere does not exist; name the Kaggle archive"):
        datasets.load(tmp_path / "nowhere")


def test_missing_train_is_named(folder):
    with pytest.raises(DatasetError, match=r"train/F0001 has no folder train/; name the folder"):
        datasets.load(folder / "train/F0001")


def test_train_without_photos_is_named(folder):
    shutil.rmtree(folder / "train")
    (folder / "train/F0001/MID1").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"folder/train holds no photo such as F0123/MID1/P00009_face3\.jpg"):
        datasets.load(folder)


def test_missing_relationships_are_named(folder):
    (folder / "train_relationships.csv").unlink()
    with pytest.raises(DatasetError, match=r"train_relationships\.csv is missing; copy it"):
        datasets.load(folder)


@pytest.mark.parametrize("name, expected", [("train_relationships.csv", "expected p1, p2"),
                                            ("sample_submission.csv", "expected img_pair, is_related")])
def test_wrong_columns_are_named(folder, name, expected):
    (folder / name).write_text("a,b,c\n1,2,3\n")
    with pytest.raises(DatasetError, match=rf"{name} has the columns a, b, c; {expected}"):
        datasets.load(folder)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01", b'p1,p2\n"F0001/MID1'])
def test_csv_that_cannot_be_read_is_named(folder, content):
    (folder / "train_relationships.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=r"train_relationships\.csv is not a CSV file that can be read"):
        datasets.load(folder)


def test_relationships_without_a_row_are_named(folder):
    (folder / "train_relationships.csv").write_text("p1,p2\n")
    with pytest.raises(DatasetError, match=r"train_relationships\.csv lists no pair of people"):
        datasets.load(folder)


@pytest.mark.parametrize("person", ["F1/MID1", "F0001", "F0001/MID1 ", "F0001/mid1", "../F0001/MID1", "", "7"])
def test_bad_person_is_named_with_its_line(folder, person):
    (folder / "train_relationships.csv").write_text(f"p1,p2\nF0001/MID1,F0001/MID2\nF0001/MID1,{person}\n")
    with pytest.raises(DatasetError, match=r"train_relationships\.csv, line 3: .* is no person such as F0123"):
        datasets.load(folder)


# --- the index ----------------------------------------------------------------------------------


def test_kin_leaves_out_rows_with_a_person_without_photos():
    dataset = hand_made({"F0001/MID1": ["P1_face1.jpg"], "F0001/MID2": ["P1_face2.jpg"]},
                        [("F0001/MID2", "F0001/MID1"), ("F0001/MID1", "F0001/MID3")])
    assert dataset.kin.to_numpy().tolist() == [["F0001/MID2", "F0001/MID1", "F0001"]]


def test_of_families_keeps_only_their_photos_and_kin(families):
    part = families.of_families(["F0003", "F0901"])
    assert part.families == ["F0003", "F0901"]
    assert set(part.kin["family"]) == {"F0003", "F0901"}
    assert part.photos["path"].tolist() == [path for path in families.photos["path"]
                                            if path.split("/")[1] in {"F0003", "F0901"}]


def test_families_without_relationships_have_no_kin():
    dataset = hand_made({"F0001/MID1": ["P1_face1.jpg"], "F0002/MID1": ["P2_face1.jpg"]},
                        [("F0001/MID1", "F0001/MID2")])
    assert dataset.kin.empty and dataset.of_families(["F0002"]).kin.empty


def test_without_photos_numbers_the_rows_anew(families):
    dropped = families.photos["path"].iloc[[0, 5]].tolist()
    rest = families.without_photos(dropped)
    assert rest.photos.index.tolist() == list(range(len(families.photos) - 2))
    assert not set(dropped) & set(rest.photos["path"])


def test_paths_lie_under_the_root(families):
    assert families.paths(["train/a.jpg"]) == [families.root / "train/a.jpg"]


def test_unlisted_pairs_are_those_of_one_family_that_the_csv_lacks_in_either_order():
    people = ["F0001/MID1", "F0001/MID2", "F0001/MID3", "F0002/MID1"]
    dataset = hand_made(dict.fromkeys(people, ["P1_face1.jpg"]), [("F0001/MID2", "F0001/MID1")])
    assert datasets.within_family_pairs(dataset) == [
        ("F0001/MID1", "F0001/MID2"), ("F0001/MID1", "F0001/MID3"), ("F0001/MID2", "F0001/MID3")]
    assert datasets.unlisted_pairs(dataset) == [("F0001/MID1", "F0001/MID3"), ("F0001/MID2", "F0001/MID3")]


# --- splits -------------------------------------------------------------------------------------


def test_split_looks_at_the_family_name_alone():
    dataset = hand_made({"F0001/MID09": ["P09_F09.jpg"], "F0002/MID1": ["F0905_face1.jpg"],
                         "F0109/MID9": ["P1_face09.jpg"], "F1090/MID1": ["P1_face1.jpg"],
                         "F0900/MID1": ["P1_face1.jpg"]}, root="F09/data")
    assert datasets.split_families(dataset) == (["F0001", "F0002", "F0109", "F1090"], ["F0900"])


@pytest.mark.parametrize("prefix, message", [("F07", "24 families for training and 0"), ("F", "0 families for")])
def test_split_that_leaves_a_side_empty_is_named(families, prefix, message):
    with pytest.raises(DatasetError, match=f"{message}.*choose another prefix"):
        datasets.split_families(families, prefix)


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(0, 12), min_size=5, max_size=40), count=st.integers(1, 5))
def test_folds_are_complete_disjoint_and_balanced(sizes, count):
    names = [f"F{number:04d}" for number in range(len(sizes))]
    people = {f"{name}/MID{n}": ["P1_face1.jpg"] for name, size in zip(names, sizes, strict=True)
              for n in range(size + 1)}
    dataset = hand_made(people, [(f"{name}/MID0", f"{name}/MID{n + 1}")
                                 for name, size in zip(names, sizes, strict=True) for n in range(size)])
    folds = datasets.make_folds(dataset, names, count)
    assert folds["family"].tolist() == names
    load = np.bincount(folds["fold"], weights=sizes, minlength=count)
    assert len(load) == count and load.max() - load.min() <= max(sizes)


def test_folds_are_dealt_from_the_largest_family_to_the_emptiest_fold():
    sizes = [2, 6, 2, 3, 2, 3]
    names = [f"F{number:04d}" for number in range(6)]
    kin = [(f"{name}/MID0", f"{name}/MID{n + 1}") for name, size in zip(names, sizes, strict=True)
           for n in range(size)]
    people = dict.fromkeys((person for pair in kin for person in pair), ["P1_face1.jpg"])
    folds = datasets.make_folds(hand_made(people, kin), names, 2)
    assert np.bincount(folds["fold"], sizes).tolist() == [10, 8]


def test_folds_do_not_depend_on_the_order_of_the_families(families):
    one = datasets.make_folds(families, families.families, 5)
    assert_frame_equal(one, datasets.make_folds(families, families.families[::-1], 5))


def test_more_folds_than_families_are_named(families):
    with pytest.raises(DatasetError, match="2 families cannot make 5 folds"):
        datasets.make_folds(families, families.families[:2])


# --- decoded photos -----------------------------------------------------------------------------


def test_decoded_rows_are_the_photos_resized(families, cache):
    pixels = datasets.decoded(families.of_families(["F0003"]), 48)
    photos = families.of_families(["F0003"]).photos["path"]
    assert_array_equal(pixels, [images.read_resized(families.root / name, 48) for name in photos])
    assert isinstance(pixels, np.memmap) and not pixels.flags.writeable


def test_decoded_photos_are_decoded_once(families, cache):
    part, seen = families.of_families(["F0003"]), []
    datasets.decoded(part, 32, seen.append)
    assert sum(seen) == len(part.photos)
    datasets.decoded(part, 32, seen.append)
    assert sum(seen) == len(part.photos)


def test_decoded_sizes_and_families_do_not_share_a_file(families, cache):
    shapes = {datasets.decoded(families.of_families([name]), size).shape[:2]
              for name in ("F0001", "F0003") for size in (24, 32)}
    assert len(shapes) == 4


@pytest.fixture
def reads(monkeypatch):
    """The photos that are read, one entry each time."""
    def counted(source):
        seen.append(Path(source))
        return read(source)

    seen, read = [], images.read
    monkeypatch.setattr(images, "read", counted)
    return seen


def test_decoded_in_two_sizes_is_what_each_size_gives_and_is_read_once(families, cache, reads):
    part, seen = families.of_families(["F0003"]), []
    small, large = datasets.decoded_sizes(part, [24, 40], seen.append)
    assert sorted(reads) == sorted(part.paths(part.photos["path"])) and sum(seen) == len(part.photos)
    for pixels, size in ((small, 24), (large, 40)):
        assert isinstance(pixels, np.memmap) and not pixels.flags.writeable
        assert_array_equal(pixels, [images.read_resized(path, size) for path in part.paths(part.photos["path"])])


def test_decoded_sizes_come_in_the_order_asked_for_also_when_they_are_there(families, cache, reads):
    part = families.of_families(["F0003"])
    for sizes in ([40, 24], [24, 40], [24, 24], [24]):
        assert [pixels.shape[1] for pixels in datasets.decoded_sizes(part, sizes)] == sizes
    assert len(reads) == len(part.photos)


def test_only_the_size_that_is_not_there_is_decoded(families, cache, reads):
    part = families.of_families(["F0003"])
    datasets.decoded(part, 24)
    there = next((cache / "decoded").glob("*-24.npy")).stat()
    reads.clear()
    small, large = datasets.decoded_sizes(part, [24, 40])
    assert sorted(reads) == sorted(part.paths(part.photos["path"]))
    assert next((cache / "decoded").glob("*-24.npy")).stat() == there
    assert_array_equal(large, datasets.decoded(part, 40))
    assert (small.shape[1], large.shape[1]) == (24, 40)


def test_broken_photo_leaves_no_half_file_of_any_size(families_root, families, cache):
    [broken] = synthetic.manifest(families_root)["defects"]["truncated"]
    with pytest.raises(ImageError, match=Path(broken).name):
        datasets.decoded_sizes(datasets.load(families_root), [24, 32])
    assert [path.suffix for path in (cache / "decoded").iterdir()] == [".lock"]


def test_decoding_a_broken_photo_names_it_and_leaves_no_half_file(families_root, cache):
    [broken] = synthetic.manifest(families_root)["defects"]["truncated"]
    with pytest.raises(ImageError, match=Path(broken).name):
        datasets.decoded(datasets.load(families_root), 32)
    assert not list((cache / "decoded").glob("*.npy"))


def test_unreadable_photos_are_exactly_the_planted_one(families_root):
    found = datasets.unreadable_photos(datasets.load(families_root))
    [broken] = synthetic.manifest(families_root)["defects"]["truncated"]
    assert list(found) == [broken] and "truncated or damaged" in found[broken]


def test_readable_leaves_out_the_unreadable_and_warns_by_name(families_root, families, cache):
    [broken] = synthetic.manifest(families_root)["defects"]["truncated"]
    with pytest.warns(UserWarning, match=f"1 photos cannot be read and are left out: {broken}"):
        assert_frame_equal(datasets.readable(datasets.load(families_root)).photos, families.photos)


def test_readable_scans_once_and_warns_every_time(families_root, cache):
    seen = []
    for _ in range(2):
        with pytest.warns(UserWarning, match="left out"):
            datasets.readable(datasets.load(families_root), seen.append)
    assert sum(seen) == len(datasets.load(families_root).photos)


def test_readable_scans_again_when_a_photo_changed(folder, cache, recwarn):
    whole = datasets.readable(datasets.load(folder))
    assert not recwarn
    path = folder / whole.photos["path"].iloc[0]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.warns(UserWarning, match=path.name):
        assert len(datasets.readable(datasets.load(folder)).photos) == len(whole.photos) - 1


def test_fingerprint_stays_while_nothing_changes(folder):
    assert datasets.fingerprint(datasets.load(folder)) == datasets.fingerprint(datasets.load(folder))


@pytest.mark.parametrize("change", [
    lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    lambda path: os.utime(path, ns=(1, 1)),
    lambda path: path.rename(path.with_name("P77777_face1.jpg")),
    lambda path: path.unlink()], ids=["content", "time", "name", "gone"])
def test_fingerprint_changes_when_a_photo_does(folder, change):
    before = datasets.load(folder)
    old = datasets.fingerprint(before)
    change(folder / before.photos["path"].iloc[0])
    assert datasets.fingerprint(datasets.load(folder)) != old


# --- KinFaceW -----------------------------------------------------------------------------------

RELATION_FOLDERS = {"fs": "father-son", "fd": "father-dau", "ms": "mother-son", "md": "mother-dau"}


def cells(rows):
    """A table of cells, as MATLAB saves it."""
    table = np.empty((len(rows), len(rows[0])), object)
    for number, row in enumerate(rows):
        table[number] = row
    return table


def pair_list(rows, name="pairs"):
    """The bytes of a MATLAB file with a table of cells."""
    buffer = io.BytesIO()
    savemat(buffer, {name: rows if isinstance(rows, np.ndarray) else cells(rows)})
    return buffer.getvalue()


def kin_and_strangers(code):
    return [[1, 1, f"{code}_001_1.jpg", f"{code}_001_2.jpg"], [5, 0, f"{code}_002_1.jpg", f"{code}_001_2.jpg"]]


@pytest.fixture(scope="module")
def kinfacew_members():
    """Name to content of a KinFaceW-I of two pairs a relation."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "gray").save(buffer, "JPEG")
    photos = {f"KinFaceW-I/images/{folder}/{code}_{name}.jpg": buffer.getvalue()
              for code, folder in RELATION_FOLDERS.items() for name in ("001_1", "001_2", "002_1", "002_2")}
    return photos | {f"KinFaceW-I/meta_data/{code}_pairs.mat": pair_list(kin_and_strangers(code))
                     for code in RELATION_FOLDERS}


@pytest.fixture
def kinfacew(tmp_path, kinfacew_members):
    """The extracted folder KinFaceW-I, which a test may spoil."""
    for name, content in kinfacew_members.items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(content)
    return tmp_path / "data/KinFaceW-I"


def test_kinfacew_gives_parent_child_label_relation_and_fold(kinfacew):
    loaded = datasets.load_kinfacew(kinfacew)
    names = {"fs": "father-son", "fd": "father-daughter", "ms": "mother-son", "md": "mother-daughter"}
    expected = [row for code, folder in RELATION_FOLDERS.items() for row in (
        [f"images/{folder}/{code}_001_1.jpg", f"images/{folder}/{code}_001_2.jpg", 1, names[code], 1],
        [f"images/{folder}/{code}_002_1.jpg", f"images/{folder}/{code}_001_2.jpg", 0, names[code], 5])]
    assert loaded.pairs.to_numpy().tolist() == expected
    assert loaded.pairs.columns.tolist() == ["photo_a", "photo_b", "is_related", "relation", "fold"]
    assert loaded.pairs["is_related"].dtype == loaded.pairs["fold"].dtype == np.int64
    assert loaded.paths("photo_b")[:2] == [kinfacew / "images/father-son/fs_001_2.jpg"] * 2


def test_paths_of_related_pairs_are_absolute_also_of_a_relative_folder(kinfacew, monkeypatch):
    monkeypatch.chdir(kinfacew.parent)
    [first, *_] = datasets.load_kinfacew("KinFaceW-I").paths("photo_a")
    assert first == kinfacew / "images/father-son/fs_001_1.jpg"


def test_kinfacew_archive_and_the_folder_around_give_what_its_folder_gives(tmp_path, cache, kinfacew,
                                                                           kinfacew_members):
    (tmp_path / "kinfacew.zip").write_bytes(zipped(kinfacew_members))
    (tmp_path / "bare.zip").write_bytes(zipped({name.removeprefix("KinFaceW-I/"): content
                                                for name, content in kinfacew_members.items()}))
    expected = datasets.load_kinfacew(kinfacew).pairs
    for source in (kinfacew.parent, tmp_path / "kinfacew.zip", tmp_path / "bare.zip"):
        loaded = datasets.load_kinfacew(source)
        assert_frame_equal(loaded.pairs, expected)
        assert all(path.is_file() for path in loaded.paths("photo_a") + loaded.paths("photo_b"))


def test_kinfacew_two_is_read_alike(kinfacew):
    expected = datasets.load_kinfacew(kinfacew).pairs
    second = kinfacew.rename(kinfacew.with_name("KinFaceW-II"))
    assert_frame_equal(datasets.load_kinfacew(second.parent).pairs, expected)


def test_kinfacew_archive_is_extracted_once_and_apart_from_the_competitions(tmp_path, cache, kinfacew_members):
    path = tmp_path / "kinfacew.zip"
    path.write_bytes(zipped(kinfacew_members))
    with pytest.raises(DatasetError, match=r"kinfacew\.zip does not hold the competition's data"):
        datasets.load(path)
    root = datasets.load_kinfacew(path).root
    (root / "mark").touch()
    assert (datasets.load_kinfacew(path).root / "mark").is_file()


@pytest.mark.parametrize("name", [
    "../fs_003_1.jpg", "/KinFaceW-I/images/father-son/fs_003_1.jpg", "KinFaceW-I/ReadMe.txt",
    "KinFaceW-I/images/father-son/../../../../fs_003_1.jpg", "KinFaceW-I/images/father-son/..",
    "KinFaceW-I/images/father-son/.hidden.jpg", "KinFaceW-I/images/father-son/sub/fs_003_1.jpg",
    "KinFaceW-I/images/father-son/fs_003_1.jpg/../../../../escaped.jpg",
    "KinFaceW-I/images/father-son/fs_003_1.jpg.exe", "KinFaceW-I/images/brothers/bb_003_1.jpg",
    "KinFaceW-I/meta_data/xx_pairs.mat", "KinFaceW-I/meta_data/../fs_pairs.mat",
    "KinFaceW-I\\images\\father-son\\fs_003_1.jpg", "__MACOSX/KinFaceW-I/images/father-son/fs_003_1.jpg"])
def test_member_that_is_none_of_kinfacew_is_passed_over(tmp_path, cache, kinfacew_members, name):
    (tmp_path / "kinfacew.zip").write_bytes(zipped(kinfacew_members | {name: b"hostile"}))
    root = datasets.load_kinfacew(tmp_path / "kinfacew.zip").root
    assert files_under(root.parent) == set(kinfacew_members)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"hostile"]


def test_missing_kinfacew_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere does not exist; name KinFaceW's archive or its extracted"):
        datasets.load_kinfacew(tmp_path / "nowhere")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_half_downloaded_kinfacew_is_named(tmp_path, cache, kinfacew_members, share):
    content = zipped(kinfacew_members)
    (tmp_path / "kinfacew.zip").write_bytes(content[:int(share * len(content))])
    with pytest.raises(DatasetError, match=r"kinfacew\.zip is not a whole zip archive; download it again"):
        datasets.load_kinfacew(tmp_path / "kinfacew.zip")


def test_damaged_kinfacew_archive_is_named_and_leaves_nothing_behind(tmp_path, cache, kinfacew_members):
    content = bytearray(zipped(kinfacew_members, zipfile.ZIP_STORED))
    content[content.index(b"MATLAB 5.0")] ^= 1  # in a member's content: its checksum is wrong now
    (tmp_path / "kinfacew.zip").write_bytes(content)
    with pytest.raises(DatasetError, match=r"kinfacew\.zip is damaged \(Bad CRC.*; download it again"):
        datasets.load_kinfacew(tmp_path / "kinfacew.zip")
    assert not [path for path in (cache / "extracted").iterdir() if path.is_dir()]


def test_archive_that_is_no_kinfacew_is_named(tmp_path, cache):
    (tmp_path / "holiday.zip").write_bytes(zipped({"beach.jpg": b"sea"}))
    with pytest.raises(DatasetError, match=r"holiday\.zip does not hold the pairs of KinFaceW: .*images/"):
        datasets.load_kinfacew(tmp_path / "holiday.zip")


@pytest.mark.parametrize("name", ["images", "meta_data"])
def test_kinfacew_without_one_of_its_folders_is_named(kinfacew, name):
    shutil.rmtree(kinfacew / name)
    with pytest.raises(DatasetError, match=rf"KinFaceW-I has no folder {name}/; name KinFaceW's archive or"):
        datasets.load_kinfacew(kinfacew)


def test_folder_with_both_kinfacews_is_named(kinfacew):
    shutil.copytree(kinfacew, kinfacew.with_name("KinFaceW-II"))
    with pytest.raises(DatasetError, match="data holds KinFaceW-I and KinFaceW-II; name the folder of one"):
        datasets.load_kinfacew(kinfacew.parent)


def test_every_missing_relation_of_kinfacew_is_named(kinfacew):
    shutil.rmtree(kinfacew / "images/mother-dau")
    (kinfacew / "meta_data/fs_pairs.mat").unlink()
    with pytest.raises(DatasetError, match=r"KinFaceW-I lacks meta_data/fs_pairs\.mat \(father-son\), "
                                           r"images/mother-dau \(mother-daughter\); extract the whole"):
        datasets.load_kinfacew(kinfacew)


@pytest.mark.parametrize("spoil", [
    lambda content: b"", lambda content: b"<html>please log in</html>" * 20, lambda content: content[:60],
    lambda content: content[:200], lambda content: content[:-20]],
    ids=["empty", "page", "half a header", "half a matrix", "without its end"])
def test_damaged_kinfacew_list_is_named(kinfacew, spoil):
    path = kinfacew / "meta_data/ms_pairs.mat"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DatasetError, match=r"ms_pairs\.mat is not a MATLAB file that can be read; extract it"):
        datasets.load_kinfacew(kinfacew)


def test_kinfacew_list_without_pairs_is_named(kinfacew):
    (kinfacew / "meta_data/fd_pairs.mat").write_bytes(pair_list(kin_and_strangers("fd"), name="couples"))
    with pytest.raises(DatasetError, match=r"fd_pairs\.mat has no variable pairs; extract it again"):
        datasets.load_kinfacew(kinfacew)


@pytest.mark.parametrize("rows", [[row[:3] for row in kin_and_strangers("fd")], np.eye(4),
                                  np.empty((0, 4), object), np.empty((2, 4, 2), object)],
                         ids=["three columns", "numbers", "no row", "three axes"])
def test_kinfacew_list_of_another_shape_is_named(kinfacew, rows):
    if isinstance(rows, np.ndarray) and rows.dtype == object:
        rows[...] = 1
    (kinfacew / "meta_data/fd_pairs.mat").write_bytes(pair_list(rows))
    with pytest.raises(DatasetError, match=r"fd_pairs\.mat: pairs is no table of cells with four columns"):
        datasets.load_kinfacew(kinfacew)


@pytest.mark.parametrize("column, value, message", [
    (0, 0, "the fold is 0, expected 1 to 5"), (0, 6, "the fold is 6"), (0, 1.5, r"the fold is 1\.5"),
    (0, [1, 2], "the fold is None"), (0, "one", "the fold is 'one'"), (1, 2, "the label is 2, expected 0 or 1"),
    (1, "yes", "the label is 'yes'"), (1, np.nan, "the label is nan"), (2, 7, "7 is no photo such as ms_001_1"),
    (2, "../ms_001_1.jpg", "is no photo"), (3, "", "None is no photo"), (3, "ms_001_2.txt", "is no photo"),
    (3, "ms_009_2.jpg", r"the photo images/mother-son/ms_009_2\.jpg is not in .*KinFaceW-I; check")])
def test_wrong_cell_of_kinfacew_is_named_with_its_row(kinfacew, column, value, message):
    rows = kin_and_strangers("ms")
    rows[1][column] = value
    (kinfacew / "meta_data/ms_pairs.mat").write_bytes(pair_list(rows))
    with pytest.raises(DatasetError, match=rf"ms_pairs\.mat, row 2: .*{message}"):
        datasets.load_kinfacew(kinfacew)


@pytest.mark.skipif(not REAL_KINFACEW, reason="needs the real data: set KIN_KINFACEW to KinFaceW-I's archive")
def test_real_kinfacew_has_the_published_pairs_in_five_balanced_folds(cache):
    loaded = datasets.load_kinfacew(REAL_KINFACEW)
    counts = loaded.pairs.groupby(["relation", "is_related"]).size().unstack()
    assert counts[0].equals(counts[1])
    assert counts[1].to_dict() == {"father-son": 156, "father-daughter": 134, "mother-son": 116,
                                   "mother-daughter": 127}
    folds = loaded.pairs.groupby(["relation", "fold"])["is_related"].agg(["size", "sum"])
    assert len(folds) == 20 and (folds["size"] == 2 * folds["sum"]).all()


# --- RFIW ---------------------------------------------------------------------------------------


@pytest.fixture
def rfiw(tmp_path):
    """A function that writes a list beside the photos a/1.jpg, a/2.jpg and b.jpg, and loads it."""
    def load(content):
        (tmp_path / "list.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
        return datasets.load_rfiw(tmp_path / "list.txt", tmp_path / "photos")

    for name in ("a/1.jpg", "a/2.jpg", "b.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    (tmp_path / "outside.jpg").touch()
    return load


@pytest.mark.parametrize("content", [
    "0 a/1.jpg a/2.jpg fs 1\n1 a/1.jpg b.jpg gmgd 0\n", "a/1.jpg a/2.jpg fs 1\na/1.jpg b.jpg gmgd 0",
    "0,a/1.jpg,a/2.jpg,fs,1\r\n1, a/1.jpg, b.jpg, gmgd, 0\r\n",
    "\n\ta/1.jpg\ta/2.jpg fs 1\n\na/1.jpg b.jpg gmgd 0\n",
    ",p1,p2,ptype,labels\n0,a/1.jpg,a/2.jpg,fs,1\n1,a/1.jpg,b.jpg,gmgd,0\n",
    b"\xef\xbb\xbflabel,relation,family,p2,p1,x\n1,fs,F1,a/2.jpg,a/1.jpg,\n0,gmgd,F1,b.jpg,a/1.jpg,\n"],
    ids=["spaces", "no number", "commas", "tabs and blanks", "header", "another header"])
def test_rfiw_list_is_read_in_each_of_its_forms(rfiw, tmp_path, content):
    loaded = rfiw(content)
    assert loaded.pairs.to_numpy().tolist() == [["a/1.jpg", "a/2.jpg", 1, "father-son", 0],
                                                ["a/1.jpg", "b.jpg", 0, "grandmother-granddaughter", 0]]
    assert loaded.pairs.columns.tolist() == ["photo_a", "photo_b", "is_related", "relation", "fold"]
    assert loaded.paths("photo_b") == [tmp_path / "photos/a/2.jpg", tmp_path / "photos/b.jpg"]


def test_every_code_of_rfiw_has_a_readable_name(rfiw):
    codes = "bb ss sibs fs fd ms md gfgs gfgd gmgs gmgd".split()
    pairs = rfiw("".join(f"{n} a/1.jpg a/2.jpg {code} 1\n" for n, code in enumerate(codes))).pairs
    assert pairs["relation"].tolist() == [
        "brothers", "sisters", "siblings", "father-son", "father-daughter", "mother-son", "mother-daughter",
        "grandfather-grandson", "grandfather-granddaughter", "grandmother-grandson", "grandmother-granddaughter"]


@pytest.mark.parametrize("line, message", [
    ("1 a/1.jpg b.jpg cousins 0", "'cousins' is no relation; expected one of bb, ss, sibs"),
    ("1 a/1.jpg b.jpg FS 0", "'FS' is no relation"), ("1 a/1.jpg b.jpg fs 2", "the label is '2', expected 0 or 1"),
    ("1 a/1.jpg b.jpg fs 1.0", r"the label is '1\.0'"), ("1,a/1.jpg,b.jpg,fs,", "the label is ''"),
    ("1 a/1.jpg c.jpg fs 0", r"the photo c\.jpg is not in .*photos; check"),
    ("1 a b.jpg fs 0", "the photo a is not in"), ("1 ../outside.jpg b.jpg fs 0", r"the photo \.\./outside\.jpg"),
    ("1 {root}/outside.jpg b.jpg fs 0", "the photo /.*outside.jpg is not in"),
    ("a/1.jpg b.jpg fs 0", "4 fields, expected 5 as in the lines above")])
def test_wrong_line_of_an_rfiw_list_is_named(rfiw, tmp_path, line, message):
    with pytest.raises(DatasetError, match=rf"list\.txt, line 3: {message}"):
        rfiw("0 a/1.jpg a/2.jpg fs 1\n\n" + line.format(root=tmp_path))


@pytest.mark.parametrize("content, message", [
    ("", r"list\.txt lists no pair; copy it"), ("\n \n", r"list\.txt lists no pair"),
    ("p1,p2,ptype,labels\n", r"list\.txt lists no pair"), (b"\xff\xd8\xff\xe0", "is not a list of pairs in UTF-8"),
    ("a/1.jpg b.jpg fs\n", "line 1: 3 fields, expected two photos, a relation and a label"),
    ("p1,p2,kind,score\na/1.jpg,b.jpg,fs,1\n", "line 1: no column is called ptype or relation, labels or label;")])
def test_file_that_is_no_rfiw_list_is_named(rfiw, content, message):
    with pytest.raises(DatasetError, match=message):
        rfiw(content)


def test_missing_list_or_photos_of_rfiw_are_named(tmp_path, rfiw):
    with pytest.raises(DatasetError, match=r"The list .*none\.txt cannot be read \(No such file.*check the path"):
        datasets.load_rfiw(tmp_path / "none.txt", tmp_path / "photos")
    with pytest.raises(DatasetError, match=r"nowhere is no folder; name the one that the paths in .*list\.txt"):
        datasets.load_rfiw(tmp_path / "list.txt", tmp_path / "nowhere")
