"""The competition's data as people's tools leave them: archives and folders in many forms."""

import io
import shutil
import struct
import tarfile
import zipfile

import pytest

from utils.data import datasets, layout, synthetic
from utils.errors import DatasetError, NoRoomError, StorageError

KIN, SAMPLE = layout.RELATIONSHIPS, layout.SAMPLE


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Name to content of a few small families in the competition's layout."""
    root = tmp_path_factory.mktemp("plain") / "families"
    synthetic.generate(root, families=20, children=(1, 1), photos=(1, 1), seed=3, progress=False)
    names = [
        name for name in layout.files_below(root) if name.startswith(("train", "test", "sam"))
    ]
    return {name: (root / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def facts():
    """A function that gives what must be the same in every form of the data."""

    def of(dataset):
        return (
            dataset.photos["path"].tolist(),
            dataset.relationships.to_numpy().tolist(),
            dataset.test_photos,
            dataset.sample.to_numpy().tolist(),
        )

    return of


@pytest.fixture(scope="module")
def expected(files, facts, tmp_path_factory):
    """What the plain folder gives."""
    return facts(datasets.load(written(files, tmp_path_factory.mktemp("plain"))))


def written(files, folder):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def archive_of(files, compression=zipfile.ZIP_DEFLATED):
    """An archive whose names are exactly so: zipfile alone would change backslashes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, compression
            archive.writestr(info, content)
    return buffer.getvalue()


def renamed(files, change):
    return {change(name): content for name, content in files.items()}


def packed(files, change=lambda name: name):
    """train.zip and test.zip beside the tables, as the archive holds them and as Kaggle mounts."""
    parts = {}
    for kind in ("train", "test"):
        inner = {
            change(name.removeprefix(f"{kind}/")): content
            for name, content in files.items()
            if name.startswith(f"{kind}/")
        }
        parts[f"{kind}.zip"] = archive_of(inner)
    return parts | {KIN: files[KIN], SAMPLE: files[SAMPLE]}


def with_other_table(files, name):
    return files | {name: b"p1,p2\nF0001/MID1,F0001/MID2\n"}


FORMS = {
    "plain": lambda files: files,
    "packed": packed,
    "folder around": lambda files: renamed(files, "recognizing faces (1)/{}".format),
    "folder around packed": lambda files: renamed(packed(files), "data/fiw/{}".format),
    "unpacked twice": lambda files: renamed(
        files, lambda name: name.replace("train/", "train/train/").replace("test/", "test/test/")
    ),
    "inner folders": lambda files: packed(files, "faces/{}".format),
    "other folder names": lambda files: renamed(
        files, lambda name: name.replace("train/", "train-faces/").replace("test/", "TEST/")
    ),
    "upper case": lambda files: renamed(
        files, lambda name: name.upper() if name.startswith("t") else name
    ),
    "lower case": lambda files: renamed(files, str.lower),
    "endings of other programs": lambda files: renamed(
        files, lambda name: name.replace(".jpg", ".jfif")
    ),
    "backslashes": lambda files: renamed(files, lambda name: name.replace("/", "\\")),
    "backslashes inside": lambda files: packed(files, lambda name: name.replace("/", "\\")),
    "a second table in a folder": lambda files: with_other_table(files, f"zz_old/{KIN}"),
    "a second table before": lambda files: with_other_table({}, f"a_old/{KIN}") | files,
    "a copy in a folder": lambda files: (
        files | renamed(dict.fromkeys(files, b"old"), "old/{}".format)
    ),
    "files of a Mac": lambda files: (
        files
        | renamed(dict.fromkeys(files, b"\x00\x05\x16\x07"), "__MACOSX/{}".format)
        | {"train/.DS_Store": b"Bud1", "train/F0001/MID1/._P00001_face1.jpg": b"\0\5"}
    ),
    "tables packed": lambda files: {
        name + (".zip" if name in (KIN, SAMPLE) else ""): (
            archive_of({name: content}) if name in (KIN, SAMPLE) else content
        )
        for name, content in files.items()
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_archive_gives_the_same(files, expected, facts, tmp_path, cache, form):
    (tmp_path / "data.zip").write_bytes(archive_of(FORMS[form](files)))
    dataset = datasets.load(tmp_path / "data.zip")
    assert facts(dataset) == expected
    assert dataset.source == tmp_path / "data.zip"
    path = dataset.photos["path"].iloc[-1]
    assert (dataset.root / path).read_bytes() == files[path]
    assert (dataset.root / "test" / dataset.test_photos[0]).is_file()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_folder_gives_the_same_and_is_not_written_to(
    files, expected, facts, tmp_path, cache, form
):
    folder = written(FORMS[form](files), tmp_path / "mount")
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    for _ in range(2):
        dataset = datasets.load(folder)
        assert facts(dataset) == expected
    path = dataset.photos["path"].iloc[-1]
    assert (dataset.root / path).read_bytes() == files[path]
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before


def test_folder_in_the_layout_stays_the_root_and_one_around_it_is_looked_into(files, tmp_path):
    written(files, tmp_path / "around/fiw")
    assert datasets.load(tmp_path / "around/fiw").root == tmp_path / "around/fiw"
    assert datasets.load(tmp_path / "around").root == tmp_path / "around/fiw"


def test_train_unpacked_and_test_still_packed_are_taken_together(
    files, expected, facts, tmp_path, cache
):
    plain = {name: content for name, content in files.items() if not name.startswith("test/")}
    folder = written(plain | {"test.zip": packed(files)["test.zip"]}, tmp_path / "mount")
    assert facts(datasets.load(folder)) == expected


@pytest.mark.parametrize("missing", ["test.zip", SAMPLE])
def test_test_photos_and_sample_are_not_needed(files, expected, tmp_path, cache, missing):
    parts = packed(files)
    del parts[missing]
    (tmp_path / "data.zip").write_bytes(archive_of(parts))
    for source in (tmp_path / "data.zip", written(parts, tmp_path / "folder")):
        dataset = datasets.load(source)
        assert dataset.photos["path"].tolist() == expected[0]
        assert (not dataset.test_photos) == (missing == "test.zip")
        assert dataset.sample.empty == (missing == SAMPLE)


def test_sample_that_names_other_endings_keeps_the_names_of_the_photos(files, tmp_path, cache):
    changed = renamed(files, lambda name: name.replace(".jpg", ".png"))
    changed[SAMPLE] = files[SAMPLE].replace(b".jpg", b".png")
    (tmp_path / "data.zip").write_bytes(archive_of(changed))
    dataset = datasets.load(tmp_path / "data.zip")
    assert dataset.test_photos and dataset.test_photos[0].endswith(".png")
    assert set(dataset.sample["img_pair"].iloc[0].split("-")) <= set(dataset.test_photos)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda files: {"train.zip": packed(files)["train.zip"]}, f"{KIN} is missing.*Found: tra"),
        (lambda files: {"beach.jpg": b"sea"}, r"has no folder train/.*Found: beach\.jpg\."),
        (
            lambda files: {KIN: files[KIN], "Train/holiday.jpg": b"x"},
            r"/Train holds no photo such as F0123/MID1.*Found: .*Train/",
        ),
        (
            lambda files: renamed(files, "a/{}".format) | renamed(files, "b/{}".format),
            "holds photos of train in two folders, a/train and b/train; leave one",
        ),
        (
            lambda files: files | renamed(files, lambda name: name.replace("train/", "other/")),
            None,
        ),
        (
            lambda files: (
                renamed(files, lambda name: name.replace("train/", "v1/"))
                | renamed(files, lambda name: name.replace("train/", "v2/"))
            ),
            "holds photos of train in two folders, v1 and v2; leave one",
        ),
        (
            lambda files: files | {KIN: files[KIN] + b"\n\nF0001/MID1,nobody\n"},
            rf"{KIN}, line \d+: 'nobody' is not a person",
        ),
    ],
)
def test_refusal_tells_what_was_found_and_names_only_what_the_user_named(
    files, tmp_path, cache, change, message
):
    content = change(files)
    (tmp_path / "data.zip").write_bytes(archive_of(content))
    for source in (tmp_path / "data.zip", written(content, tmp_path / "folder")):
        if message is None:
            assert datasets.load(source).source == source
            continue
        with pytest.raises(DatasetError, match=message) as refusal:
            datasets.load(source)
        assert str(source) in str(refusal.value)
        assert str(cache) not in str(refusal.value)


def test_table_elsewhere_is_not_taken_but_named(files, tmp_path, cache):
    moved = renamed(files, lambda name: name.replace(KIN, f"old/{KIN}"))
    (tmp_path / "data.zip").write_bytes(archive_of(moved))
    for source in (tmp_path / "data.zip", written(moved, tmp_path / "folder")):
        with pytest.raises(
            DatasetError, match=f"/{KIN} is missing; old/{KIN} may belong to other data"
        ):
            datasets.load(source)
    # an archive of the table beside the photos comes before another in a folder
    packed_table = {f"{KIN}.zip": archive_of({KIN: files[KIN]}), f"old/{KIN}": b"p1,p2\n"}
    rest = {name: content for name, content in files.items() if name != KIN}
    (tmp_path / "data.zip").write_bytes(archive_of(rest | packed_table))
    assert not datasets.load(tmp_path / "data.zip").relationships.empty


def test_folder_or_archive_of_the_photos_alone_is_told_of_the_folder_above(files, tmp_path, cache):
    folder = written(packed(files) | files, tmp_path / "mount")
    for source in (folder / "train", folder / "train.zip"):
        with pytest.raises(
            DatasetError, match=f"is missing; name the folder that holds both: {folder}"
        ):
            datasets.load(source)


def test_folder_that_holds_the_archive_alone_is_taken_for_it(
    files, expected, facts, tmp_path, cache
):
    content = archive_of(packed(files))
    folder = written({"recognizing-faces.zip": content}, tmp_path / "downloads")
    assert facts(datasets.load(folder)) == expected


def test_train_zip_without_photos_is_named_inside_its_archive(files, tmp_path, cache):
    parts = packed(files) | {"train.zip": archive_of({"F0001/holiday.jpg": b"x"})}
    (tmp_path / "data.zip").write_bytes(archive_of(parts))
    with pytest.raises(
        DatasetError, match=r"data\.zip/train\.zip holds no photo such as .* Found: F0001/\."
    ):
        datasets.load(tmp_path / "data.zip")


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("data.tar.gz", b"\x1f\x8b\x08\0" + bytes(99), r"packed with gzip \(\.tar\.gz\)\. Unpack"),
        ("data.zip", b"7z\xbc\xaf\x27\x1c" + bytes(99), "it is a 7z archive. Unpack"),
        ("data.zip", b"Rar!\x1a\x07" + bytes(99), "it is a RAR archive. Unpack"),
        ("data.zip", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS. Fetch the file"),
        ("data.zip", b"\n<!DOCTYPE html><html>", "it is a web page. Log in"),
        ("data.zip.001", b"PK\3\4" + bytes(99), "a part of a split one. Join all"),
        ("data.z01", b"PK\7\x08PK\3\4" + bytes(99), "a part of a split one. Join all"),
        ("pairs.csv", b"p1,p2\n", "it is a table. Name the folder"),
        ("data.zip", b"", "empty, not a whole zip archive"),
    ],
)
def test_file_of_another_kind_is_named_as_what_it_is(tmp_path, cache, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=rf"{name} is .*{message}|{name} is {message}"):
        datasets.load(tmp_path / name)


def test_tar_archive_is_named(tmp_path, cache, files):
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("train"), io.BytesIO())
    with pytest.raises(DatasetError, match=r"data\.tar is not a whole zip archive: it is a tar"):
        datasets.load(tmp_path / "data.tar")


def marked(content, flag=0, method=None):
    """The archive with a flag or a method of compression written into the heads of its members."""
    content = bytearray(content)
    for mark, place in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        start = content.find(mark)
        while start >= 0:
            content[start + place] |= flag
            if method is not None:
                struct.pack_into("<H", content, start + place + 2, method)
            start = content.find(mark, start + 1)
    return bytes(content)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"flag": 1}, r"is protected by a password\. Unpack it"),
        ({"method": 99}, r"is protected by a password"),
        ({"method": 9}, r"uses the compression Deflate64, which Python lacks\. Unpack it"),
        ({"method": 77}, r"uses the compression number 77"),
    ],
)
def test_password_and_compression_are_named_also_of_an_archive_inside(
    files, tmp_path, cache, change, message
):
    outer = archive_of({KIN: files[KIN], "train/F0001/MID1/P00001_face1.jpg": b"x"})
    inside = archive_of({"F0001/MID1/P00001_face1.jpg": b"x"})
    (tmp_path / "outer.zip").write_bytes(marked(outer, **change))
    with pytest.raises(DatasetError, match=rf"outer\.zip {message}"):
        datasets.load(tmp_path / "outer.zip")
    parts = {KIN: files[KIN], "train.zip": marked(inside, **change)}
    (tmp_path / "inside.zip").write_bytes(archive_of(parts))
    with pytest.raises(DatasetError, match=rf"inside\.zip/train\.zip {message}"):
        datasets.load(tmp_path / "inside.zip")
    assert not [path for path in (cache / "extracted").iterdir() if path.is_dir()]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_python_has_are_read(files, expected, facts, tmp_path, cache, method):
    (tmp_path / "data.zip").write_bytes(archive_of(packed(files), method))
    assert facts(datasets.load(tmp_path / "data.zip")) == expected


def test_last_part_of_a_split_archive_is_named(files, tmp_path, cache):
    whole = archive_of(packed(files))
    (tmp_path / "half.zip").write_bytes(whole[len(whole) // 2 :])
    numbered = bytearray(whole)
    struct.pack_into("<H", numbered, whole.rindex(b"PK\5\6") + 4, 15)
    (tmp_path / "numbered.zip").write_bytes(numbered)
    for name in ("half.zip", "numbered.zip"):
        with pytest.raises(DatasetError, match=rf"{name} is the last part of a split .* Join all"):
            datasets.load(tmp_path / name)


# --- the machine --------------------------------------------------------------------------------


def test_no_room_for_an_archive_is_told_before_it_is_extracted(
    files, tmp_path, cache, monkeypatch
):
    (tmp_path / "data.zip").write_bytes(archive_of(files))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(NoRoomError, match=r"no room in .*extracted: .* MB are needed.*KIN_CACHE"):
        datasets.load(tmp_path / "data.zip")
    assert not [path for path in (cache / "extracted").iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    "error, kind, message",
    [
        (OSError(5, "Input/output error"), StorageError, "cannot be read .*may well be whole"),
        (OSError(22, "Invalid argument"), DatasetError, "is damaged"),
    ],
)
def test_error_of_the_machine_is_not_called_damage(
    files, tmp_path, cache, monkeypatch, error, kind, message
):
    def failing(*_):
        raise error

    (tmp_path / "data.zip").write_bytes(archive_of(files))
    monkeypatch.setattr(zipfile.ZipFile, "read", failing)
    with pytest.raises(kind, match=message):
        datasets.load(tmp_path / "data.zip")


def test_disk_that_fills_up_during_the_extraction_is_told_and_nothing_stays(
    files, tmp_path, cache, monkeypatch
):
    def failing(*_):
        raise OSError(28, "No space left on device")

    (tmp_path / "data.zip").write_bytes(archive_of(files))
    monkeypatch.setattr("pathlib.Path.write_bytes", failing)
    with pytest.raises(NoRoomError, match=r"no room in .*extracted: .*KIN_CACHE"):
        datasets.load(tmp_path / "data.zip")
    assert not [path for path in (cache / "extracted").iterdir() if path.is_dir()]


def test_leftover_of_a_killed_extraction_goes_with_the_next(files, tmp_path, cache):
    (tmp_path / "data.zip").write_bytes(archive_of(files))
    root = datasets.load(tmp_path / "data.zip").root
    leftover = root.rename(root.with_name(f".{root.name}-abcd1234"))
    assert datasets.load(tmp_path / "data.zip").root == root
    assert not leftover.exists()


def test_extraction_in_which_an_earlier_version_found_nothing_is_made_again(
    files, expected, facts, tmp_path, cache
):
    (tmp_path / "data.zip").write_bytes(archive_of(files))
    root = datasets.load(tmp_path / "data.zip").root
    shutil.rmtree(root / "train")
    assert facts(datasets.load(tmp_path / "data.zip")) == expected


def test_folder_without_links_on_this_system_says_what_to_do(files, tmp_path, cache, monkeypatch):
    def refused(*_):
        raise OSError(1, "Operation not permitted")

    folder = written(packed(files), tmp_path / "mount")
    monkeypatch.setattr("pathlib.Path.symlink_to", refused)
    with pytest.raises(DatasetError, match=r"mount has another layout .*not permitted.*move its"):
        datasets.load(folder)


def test_folder_of_too_many_files_is_named(files, tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "MOST_FILES", 10)
    with pytest.raises(DatasetError, match="mount holds more than 10 files; name the folder"):
        datasets.load(written(files, tmp_path / "mount"))
