"""Lists that name the relation of each pair: KinFaceW as published, RFIW in each of its forms."""

import io
import os
import shutil
import zipfile

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from scipy.io import savemat

from utils.data import datasets, relations
from utils.errors import DatasetError

REAL_KINFACEW = os.environ.get("KIN_KINFACEW")
FOLDERS = {"fs": "father-son", "fd": "father-dau", "ms": "mother-son", "md": "mother-dau"}
COLUMNS = ["photo_a", "photo_b", "is_related", "relation", "fold"]


# --- KinFaceW -----------------------------------------------------------------------------------


def pair_list(rows, name="pairs"):
    """The bytes of a MATLAB file with a table of cells."""
    if isinstance(rows, list):
        table = np.empty((len(rows), len(rows[0])), object)
        for number, row in enumerate(rows):
            table[number] = row
        rows = table
    buffer = io.BytesIO()
    savemat(buffer, {name: rows})
    return buffer.getvalue()


def kin_and_strangers(code):
    return [
        [1, 1, f"{code}_001_1.jpg", f"{code}_001_2.jpg"],
        [5, 0, f"{code}_002_1.jpg", f"{code}_001_2.jpg"],
    ]


@pytest.fixture(scope="module")
def members():
    """Name to content of a KinFaceW-I of two pairs a relation."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "gray").save(buffer, "JPEG")
    files = {}
    for code, folder in FOLDERS.items():
        for name in ("001_1", "001_2", "002_1", "002_2"):
            files[f"KinFaceW-I/images/{folder}/{code}_{name}.jpg"] = buffer.getvalue()
        files[f"KinFaceW-I/meta_data/{code}_pairs.mat"] = pair_list(kin_and_strangers(code))
    return files


@pytest.fixture
def kinfacew(tmp_path, members):
    """The extracted folder KinFaceW-I, which a test may spoil."""
    for name, content in members.items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(content)
    return tmp_path / "data/KinFaceW-I"


@pytest.fixture
def load_archive(tmp_path, cache, zipped):
    """A function that loads an archive of these members, or of these bytes."""

    def load(files):
        content = zipped(files) if isinstance(files, dict) else files
        (tmp_path / "kinfacew.zip").write_bytes(content)
        return relations.load_kinfacew(tmp_path / "kinfacew.zip")

    return load


def assert_same_pairs(one, other):
    assert_array_equal(one.pairs, other.pairs)


def test_kinfacew_gives_parent_child_label_relation_and_fold(kinfacew):
    loaded = relations.load_kinfacew(kinfacew)
    expected = []
    for code, relation in (
        ("fs", "father-son"),
        ("fd", "father-daughter"),
        ("ms", "mother-son"),
        ("md", "mother-daughter"),
    ):
        photo = f"images/{FOLDERS[code]}/{code}"
        expected.append([f"{photo}_001_1.jpg", f"{photo}_001_2.jpg", 1, relation, 1])
        expected.append([f"{photo}_002_1.jpg", f"{photo}_001_2.jpg", 0, relation, 5])
    assert loaded.pairs.to_numpy().tolist() == expected
    assert loaded.pairs.columns.tolist() == COLUMNS
    assert loaded.pairs["is_related"].dtype == loaded.pairs["fold"].dtype == np.int64
    assert loaded.paths("photo_b")[:2] == [kinfacew / "images/father-son/fs_001_2.jpg"] * 2


def test_paths_of_related_pairs_are_absolute_also_of_a_relative_folder(kinfacew, monkeypatch):
    monkeypatch.chdir(kinfacew.parent)
    [first, *_] = relations.load_kinfacew("KinFaceW-I").paths("photo_a")
    assert first == kinfacew / "images/father-son/fs_001_1.jpg"


def test_kinfacew_archive_the_folder_around_and_the_second_set_give_the_same(
    kinfacew, members, load_archive
):
    expected = relations.load_kinfacew(kinfacew)
    bare = {name.removeprefix("KinFaceW-I/"): content for name, content in members.items()}
    for files in (members, bare):
        loaded = load_archive(files)
        assert_same_pairs(loaded, expected)
        assert all(path.is_file() for path in loaded.paths("photo_a") + loaded.paths("photo_b"))
    assert_same_pairs(relations.load_kinfacew(kinfacew.parent), expected)
    second = kinfacew.rename(kinfacew.with_name("KinFaceW-II"))
    assert_same_pairs(relations.load_kinfacew(second.parent), expected)


def test_kinfacew_archive_is_extracted_once_and_apart_from_the_competitions(
    tmp_path, members, load_archive
):
    root = load_archive(members).root
    with pytest.raises(DatasetError, match=r"kinfacew\.zip does not hold the competition's data"):
        datasets.load(tmp_path / "kinfacew.zip")
    (root / "mark").touch()
    assert (load_archive(members).root / "mark").is_file()


def test_members_that_are_none_of_kinfacew_are_passed_over(
    tmp_path, members, load_archive, files_under
):
    hostile = [
        "../fs_003_1.jpg",
        "/KinFaceW-I/images/father-son/fs_003_1.jpg",
        "KinFaceW-I/ReadMe.txt",
        "KinFaceW-I/images/father-son/../../../../fs_003_1.jpg",
        "KinFaceW-I/images/father-son/..",
        "KinFaceW-I/images/father-son/.hidden.jpg",
        "KinFaceW-I/images/father-son/sub/fs_003_1.jpg",
        "KinFaceW-I/images/father-son/fs_003_1.jpg/../../../../escaped.jpg",
        "KinFaceW-I/images/father-son/fs_003_1.jpg.exe",
        "KinFaceW-I/images/brothers/bb_003_1.jpg",
        "KinFaceW-I/meta_data/xx_pairs.mat",
        "KinFaceW-I/meta_data/../fs_pairs.mat",
        "..\\KinFaceW-I\\images\\father-son\\fs_003_1.jpg",
        "__MACOSX/KinFaceW-I/images/father-son/fs_003_1.jpg",
    ]
    root = load_archive(members | dict.fromkeys(hostile, b"hostile")).root
    assert files_under(root.parent) == set(members)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if path.read_bytes() == b"hostile"]


def test_missing_half_downloaded_and_other_archives_are_named(
    tmp_path, members, zipped, load_archive
):
    with pytest.raises(
        DatasetError, match=r"nowhere does not exist; name KinFaceW's archive or its extracted"
    ):
        relations.load_kinfacew(tmp_path / "nowhere")
    content = zipped(members)
    with pytest.raises(
        DatasetError, match=r"kinfacew\.zip is not a whole zip archive; download it again"
    ):
        load_archive(content[: len(content) // 2])
    with pytest.raises(
        DatasetError, match=r"kinfacew\.zip does not hold the pairs of KinFaceW: .*images/"
    ):
        load_archive({"beach.jpg": b"sea"})


def bare(name):
    return name.removeprefix("KinFaceW-I/")


@pytest.mark.parametrize(
    "change",
    [
        "./{}".format,
        "download (1)/{}".format,
        str.upper,
        lambda name: name.replace("/", "\\"),
        lambda name: name.replace(".jpg", ".JPEG"),
        lambda name: f"My kin/{bare(name)}",
        lambda name: bare(name).replace("images", "Images").replace("meta_data", "Meta_Data"),
    ],
    ids=["dot", "folder around", "upper", "backslashes", "ending", "other name", "first letters"],
)
def test_every_form_of_kinfacew_gives_the_same(kinfacew, members, load_archive, tmp_path, change):
    expected = relations.load_kinfacew(kinfacew)
    changed = {change(name): content for name, content in members.items()}
    changed |= {"__MACOSX/KinFaceW-I/images/._fs_001_1.jpg": b"x", "KinFaceW-I/.DS_Store": b"x"}
    for name, content in changed.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_bytes(content)
    folder = relations.load_kinfacew(tmp_path / "own")
    assert_same_pairs(folder, expected)
    for loaded in (folder, load_exactly(changed, tmp_path)):
        assert_same_pairs(loaded, expected)
        assert all(path.is_file() for path in loaded.paths("photo_a") + loaded.paths("photo_b"))


def load_exactly(files, folder):
    """The pairs of an archive whose names are exactly so: zipfile alone changes backslashes."""
    with zipfile.ZipFile(folder / "exact.zip", "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, content)
    return relations.load_kinfacew(folder / "exact.zip")


@pytest.mark.parametrize(
    "text",
    [
        "1,1,{0}_001_1.jpg,{0}_001_2.jpg\n5,0,{0}_002_1.jpg,{0}_001_2.jpg\n",
        "fold;kin;p1;p2\r\n1;1;{0}_001_1.jpg;{0}_001_2.jpg\r\n5;0;{0}_002_1.jpg;{0}_001_2.jpg\r\n",
        '"fold"\t"kin"\t"p1"\t"p2"\n"1"\t1\t1\t"{0}_001_1.jpg"\t"{0}_001_2.jpg"\n'
        '"2"\t5\t0\t"{0}_002_1.JPG"\t"{0}_001_2.jpg"\n',
    ],
    ids=["MATLAB's writecell", "Excel", "R"],
)
def test_lists_of_kinfacew_that_were_made_tables_are_read(kinfacew, text):
    expected = relations.load_kinfacew(kinfacew)
    for code, ending in (("fs", "csv"), ("md", "txt")):
        (kinfacew / f"meta_data/{code}_pairs.mat").unlink()
        (kinfacew / f"meta_data/{code}_pairs.{ending}").write_text(text.format(code))
    assert_same_pairs(relations.load_kinfacew(kinfacew), expected)
    (kinfacew / "meta_data/fs_pairs.csv").write_text(text.format("fs") + "\n9,1,a.jpg,b.jpg\n")
    with pytest.raises(DatasetError, match=r"fs_pairs\.csv, line \d: "):
        relations.load_kinfacew(kinfacew)


def test_list_of_kinfacew_in_the_newer_format_of_matlab_is_named(kinfacew):
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM" + bytes(500)
    (kinfacew / "meta_data/fs_pairs.mat").write_bytes(header)
    with pytest.raises(DatasetError, match=r"fs_pairs\.mat is in MATLAB's format 7\.3.*-v7"):
        relations.load_kinfacew(kinfacew)


def test_refused_kinfacew_archive_tells_what_was_found_and_no_folder_of_the_cache(
    members, load_archive, cache
):
    with pytest.raises(
        DatasetError, match=r"kinfacew\.zip does not hold .*Found: beach\.jpg, sea/"
    ):
        load_archive({"beach.jpg": b"x", "sea/a.jpg": b"x"})
    broken = dict(members)
    broken["KinFaceW-I/meta_data/fs_pairs.mat"] = b""
    with pytest.raises(DatasetError, match=r"kinfacew\.zip.*fs_pairs\.mat is not") as refusal:
        load_archive(broken)
    assert str(cache) not in str(refusal.value)


@pytest.mark.parametrize("name", ["images", "meta_data"])
def test_kinfacew_without_one_of_its_folders_is_named(kinfacew, name):
    shutil.rmtree(kinfacew / name)
    with pytest.raises(
        DatasetError, match=rf"KinFaceW-I has no folder {name}/; name KinFaceW's archive or"
    ):
        relations.load_kinfacew(kinfacew)


def test_folder_with_both_kinfacews_is_named(kinfacew):
    shutil.copytree(kinfacew, kinfacew.with_name("KinFaceW-II"))
    with pytest.raises(
        DatasetError, match="data holds KinFaceW-I and KinFaceW-II; name the folder of one"
    ):
        relations.load_kinfacew(kinfacew.parent)


def test_every_missing_relation_of_kinfacew_is_named(kinfacew):
    shutil.rmtree(kinfacew / "images/mother-dau")
    (kinfacew / "meta_data/fs_pairs.mat").unlink()
    with pytest.raises(
        DatasetError,
        match=r"KinFaceW-I lacks meta_data/fs_pairs\.mat \(father-son\), "
        r"images/mother-dau \(mother-daughter\); extract the whole",
    ):
        relations.load_kinfacew(kinfacew)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: b"<html>please log in</html>" * 20,
        lambda content: content[:60],
        lambda content: content[:200],
        lambda content: content[:-20],
    ],
    ids=["empty", "page", "half a header", "half a matrix", "without its end"],
)
def test_damaged_kinfacew_list_is_named(kinfacew, spoil):
    path = kinfacew / "meta_data/ms_pairs.mat"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(
        DatasetError, match=r"ms_pairs\.mat is not a MATLAB file that can be read; extract it"
    ):
        relations.load_kinfacew(kinfacew)


@pytest.mark.parametrize(
    "content, message",
    [
        (pair_list(kin_and_strangers("fd"), name="couples"), " has no variable pairs; extract it"),
        (pair_list([["fd_001_1.jpg"] * 3]), ": pairs is not a table of cells with four columns"),
        (pair_list(np.eye(4)), ": pairs is not a table of cells"),
        (pair_list(np.empty((0, 4), object)), ": pairs is not a table of cells"),
        (pair_list(np.full((2, 4, 2), 1, object)), ": pairs is not a table of cells"),
    ],
    ids=["another name", "three columns", "numbers", "no row", "three axes"],
)
def test_kinfacew_list_of_something_else_is_named(kinfacew, content, message):
    (kinfacew / "meta_data/fd_pairs.mat").write_bytes(content)
    with pytest.raises(DatasetError, match=rf"fd_pairs\.mat{message}"):
        relations.load_kinfacew(kinfacew)


@pytest.mark.parametrize(
    "column, value, message",
    [
        (0, 0, "the fold is 0, expected 1 to 5"),
        (0, 6, "the fold is 6"),
        (0, 1.5, r"the fold is 1\.5"),
        (0, [1, 2], "the fold is None"),
        (0, "one", "the fold is 'one'"),
        (1, 2, "the label is 2, expected 0 or 1"),
        (1, "yes", "the label is 'yes'"),
        (1, np.nan, "the label is nan"),
        (2, 7, "7 is not a photo such as ms_001_1"),
        (2, "../ms_001_1.jpg", "is not a photo"),
        (3, "", "None is not a photo"),
        (3, "ms_001_2.txt", "is not a photo"),
        (
            3,
            "ms_009_2.jpg",
            r"the photo images/mother-son/ms_009_2\.jpg is not in .*KinFaceW-I; check",
        ),
    ],
)
def test_wrong_cell_of_kinfacew_is_named_with_its_row(kinfacew, column, value, message):
    rows = kin_and_strangers("ms")
    rows[1][column] = value
    (kinfacew / "meta_data/ms_pairs.mat").write_bytes(pair_list(rows))
    with pytest.raises(DatasetError, match=rf"ms_pairs\.mat, row 2: .*{message}"):
        relations.load_kinfacew(kinfacew)


@pytest.mark.skipif(
    not REAL_KINFACEW, reason="needs the real data: set KIN_KINFACEW to KinFaceW-I's archive"
)
def test_real_kinfacew_has_the_published_pairs_in_five_balanced_folds(cache):
    loaded = relations.load_kinfacew(REAL_KINFACEW)
    counts = loaded.pairs.groupby(["relation", "is_related"]).size().unstack()
    assert counts[0].equals(counts[1])
    assert counts[1].to_dict() == {
        "father-son": 156,
        "father-daughter": 134,
        "mother-son": 116,
        "mother-daughter": 127,
    }
    folds = loaded.pairs.groupby(["relation", "fold"])["is_related"].agg(["size", "sum"])
    assert len(folds) == 20 and (folds["size"] == 2 * folds["sum"]).all()


# --- RFIW ---------------------------------------------------------------------------------------


@pytest.fixture
def rfiw(tmp_path):
    """A function that writes a list beside the photos a/1.jpg, a/2.jpg and b.jpg, and loads it."""

    def load(content):
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "list.txt").write_bytes(content)
        return relations.load_rfiw(tmp_path / "list.txt", tmp_path / "photos")

    for name in ("a/1.jpg", "a/2.jpg", "b.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    (tmp_path / "outside.jpg").touch()
    return load


@pytest.mark.parametrize(
    "content",
    [
        "0 a/1.jpg a/2.jpg fs 1\n1 a/1.jpg b.jpg gmgd 0\n",
        "a/1.jpg a/2.jpg fs 1\na/1.jpg b.jpg gmgd 0",
        "0,a/1.jpg,a/2.jpg,fs,1\r\n1, a/1.jpg, b.jpg, gmgd, 0\r\n",
        "\n\ta/1.jpg\ta/2.jpg fs 1\n\na/1.jpg b.jpg gmgd 0\n",
        ",p1,p2,ptype,labels\n0,a/1.jpg,a/2.jpg,fs,1\n1,a/1.jpg,b.jpg,gmgd,0\n",
        b"\xef\xbb\xbflabel,relation,family,p2,p1,x\n"
        b"1,fs,F1,a/2.jpg,a/1.jpg,\n0,gmgd,F1,b.jpg,a/1.jpg,\n",
        '"p1" "p2" "ptype" "labels"\n'
        '"1" "a/1.jpg" "a/2.jpg" "fs" 1\n"2" "a/1.jpg" "b.jpg" "gmgd" 0',
        '"","p1","p2","ptype","labels"\n"1","a/1.jpg","a/2.jpg","fs",TRUE\n'
        '"2","a/1.jpg","b.jpg","gmgd",FALSE\n',
        "sep=;\r\nP1;P2;PTYPE;LABELS\r\na/1.jpg;a/2.jpg;fs;1\r\na/1.jpg;b.jpg;gmgd;0\r\n;;;\r\n",
        "p1\tp2\tptype\tlabels\r\na/1.jpg\ta/2.jpg\tfs\t1\r\na/1.jpg\tb.jpg\tgmgd\t0".encode(
            "utf-16"
        ),
        "Row,p1,p2,Relation,Label\nrow1,a\\1.jpg,a\\2.jpg,fs,1\nrow2,a\\1.jpg,b.jpg,gmgd,0\n",
        "a/1.jpg;a/2.jpg;fs;1\ra/1.jpg;b.jpg;gmgd;0\r",
    ],
    ids=[
        "spaces",
        "no number",
        "commas",
        "tabs and blanks",
        "header",
        "another header",
        "R's write.table",
        "R's write.csv",
        "Excel with semicolons",
        "Excel's Unicode text",
        "MATLAB's row names",
        "an old Mac",
    ],
)
def test_rfiw_list_is_read_in_each_of_its_forms(rfiw, tmp_path, content):
    loaded = rfiw(content)
    assert loaded.pairs.to_numpy().tolist() == [
        ["a/1.jpg", "a/2.jpg", 1, "father-son", 0],
        ["a/1.jpg", "b.jpg", 0, "grandmother-granddaughter", 0],
    ]
    assert loaded.pairs.columns.tolist() == COLUMNS
    assert loaded.paths("photo_b") == [tmp_path / "photos/a/2.jpg", tmp_path / "photos/b.jpg"]


def test_every_code_of_rfiw_has_a_readable_name(rfiw):
    names = {
        "bb": "brothers",
        "ss": "sisters",
        "sibs": "siblings",
        "fs": "father-son",
        "fd": "father-daughter",
        "ms": "mother-son",
        "md": "mother-daughter",
        "gfgs": "grandfather-grandson",
        "gfgd": "grandfather-granddaughter",
        "gmgs": "grandmother-grandson",
        "gmgd": "grandmother-granddaughter",
    }
    pairs = rfiw("".join(f"a/1.jpg a/2.jpg {code} 1\n" for code in names)).pairs
    assert pairs["relation"].tolist() == list(names.values())


@pytest.mark.parametrize(
    "line, message",
    [
        (
            "1 a/1.jpg b.jpg cousins 0",
            "'cousins' is not a relation; expected one of bb, ss, sibs",
        ),
        ("1 a/1.jpg b.jpg FS 0", "'FS' is not a relation"),
        ("1 a/1.jpg b.jpg fs 2", "the label is '2', expected 0 or 1"),
        ("1 a/1.jpg b.jpg fs 1.0", r"the label is '1\.0'"),
        ('1 a/1.jpg b.jpg fs ""', "the label is ''"),
        ("1,a/1.jpg,b.jpg,fs,", "1 fields, expected 5"),
        ("1 a/1.jpg c.jpg fs 0", r"the photo c\.jpg is not in .*photos; check"),
        ("1 a b.jpg fs 0", "the photo a is not in"),
        ("1 ../outside.jpg b.jpg fs 0", r"the photo \.\./outside\.jpg"),
        ("1 {root}/outside.jpg b.jpg fs 0", "the photo /.*outside.jpg is not in"),
        ("a/1.jpg b.jpg fs 0", "4 fields, expected 5 as in the lines above"),
    ],
)
def test_wrong_line_of_an_rfiw_list_is_named(rfiw, tmp_path, line, message):
    with pytest.raises(DatasetError, match=rf"list\.txt, line 3: {message}"):
        rfiw("0 a/1.jpg a/2.jpg fs 1\n\n" + line.format(root=tmp_path))


@pytest.mark.parametrize(
    "content, message",
    [
        ("", r"list\.txt lists no pair; copy it"),
        ("\n \n", r"list\.txt lists no pair"),
        ("p1,p2,ptype,labels\n", r"list\.txt lists no pair"),
        ('"p1,p2\n', "is not a list of pairs in UTF-8 text: line 1 has"),
        (b"\xff\xd8\xff\xe0", "is not a list of pairs in UTF-8"),
        ("a/1.jpg b.jpg fs\n", "line 1: 3 fields, expected two photos, a relation and a label"),
        (
            "p1,p2,kind,score\na/1.jpg,b.jpg,fs,1\n",
            "line 1: no column is called ptype or relation, labels or label;",
        ),
    ],
)
def test_file_that_is_no_rfiw_list_is_named(rfiw, content, message):
    with pytest.raises(DatasetError, match=message):
        rfiw(content)


def test_missing_list_or_photos_of_rfiw_are_named(tmp_path, rfiw):
    with pytest.raises(
        DatasetError, match=r"The list .*none\.txt cannot be read \(No such file.*check the path"
    ):
        relations.load_rfiw(tmp_path / "none.txt", tmp_path / "photos")
    with pytest.raises(
        DatasetError, match=r"nowhere is not a folder; name the one that the paths in .*list\.txt"
    ):
        relations.load_rfiw(tmp_path / "list.txt", tmp_path / "nowhere")
