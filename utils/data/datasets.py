"""The competition's data: the Kaggle archive or a folder, as an index; splits by exact family.

Beside it, the pairs of two other benchmarks, KinFaceW and RFIW, whose lists name the relation.

The competition's layout::

    train/F0123/MID1/P00009_face3.jpg     family / person / photo id _ number of the face in it (may be absent)
    test/face00000.jpg
    train_relationships.csv               p1,p2: each a person such as F0123/MID1
    sample_submission.csv                 img_pair,is_related
"""

import contextlib
import functools
import hashlib
import itertools
import os
import re
import shutil
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import filelock
import numpy as np
import pandas as pd

from .. import images, settings
from ..errors import DatasetError, ImageError
from ..files import atomic, read_json, sha256, write_json

TEST_PREFIX = "F09"
RELATIONSHIPS = "train_relationships.csv"
SAMPLE = "sample_submission.csv"
_PERSON = re.compile(r"F\d{4}/MID\d+")
_TRAIN_PHOTO = re.compile(r"F\d{4}/MID\d+/P\d+_face\d*\.jpe?g", re.IGNORECASE)
_TEST_PHOTO = re.compile(r"face\d+\.jpe?g", re.IGNORECASE)
# Members of the archive that are extracted; everything else in it is passed over.
_MEMBERS = {"train": re.compile(r"(?:train/)?(F\d{4}/MID\d+/\w[\w.-]*)"),
            "test": re.compile(r"(?:test/)?(\w[\w.-]*)")}
# What zipfile raises on broken content, found by feeding it such archives.
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)

# The relations by the codes that KinFaceW and RFIW give them.
RELATIONS = {"bb": "brothers", "ss": "sisters", "sibs": "siblings",
             "fs": "father-son", "fd": "father-daughter", "ms": "mother-son", "md": "mother-daughter",
             "gfgs": "grandfather-grandson", "gfgd": "grandfather-granddaughter",
             "gmgs": "grandmother-grandson", "gmgd": "grandmother-granddaughter"}
# KinFaceW's relations, in the order of its papers' tables, and the folder of each one's photos.
KINFACEW = {"fs": "father-son", "fd": "father-dau", "ms": "mother-son", "md": "mother-dau"}
_KINFACEW_SETS = ("KinFaceW-I", "KinFaceW-II")
_KINFACEW_FOLDS = range(1, 6)
_KINFACEW_PHOTO = re.compile(r"\w[\w.-]*\.(?i:jpe?g)")
_KINFACEW_MEMBER = re.compile(rf"(?:(?:{'|'.join(_KINFACEW_SETS)})/)?"
                              rf"(?:images/(?:{'|'.join(KINFACEW.values())})/{_KINFACEW_PHOTO.pattern}"
                              rf"|meta_data/(?:{'|'.join(KINFACEW)})_pairs\.mat)")
# What a column may be called in the first line of an RFIW list; further columns are passed over.
RFIW_COLUMNS = {"photo_a": ("p1",), "photo_b": ("p2",), "relation": ("ptype", "relation"),
                "is_related": ("labels", "label")}
_RFIW_NAMES = {name for names in RFIW_COLUMNS.values() for name in names}
# Where the same columns stand in a list without such a line, by the number of fields in its lines;
# of five, the first is the pair's number.
_RFIW_PLACES = {4: [0, 1, 2, 3], 5: [1, 2, 3, 4]}


@dataclass(frozen=True)
class Dataset:
    """An index of the data; photos stay on disk.

    Attributes:
        root: the extracted folder.
        photos: one row a training photo: family, person, photo_id, path (relative to ``root``).
        relationships: the pairs of people who are kin: p1, p2, as the CSV lists them.
        test_photos: names in ``test/``, sorted.
        sample: the sample submission: img_pair, is_related; empty when there is none.
    """

    root: Path
    photos: pd.DataFrame
    relationships: pd.DataFrame
    test_photos: list[str]
    sample: pd.DataFrame

    @functools.cached_property
    def people(self) -> set[str]:
        """People with at least one photo."""
        return set(self.photos["person"])

    @functools.cached_property
    def kin(self) -> pd.DataFrame:
        """Relationships of which both people have photos: p1, p2, family (that of p1)."""
        both = self.relationships["p1"].isin(self.people) & self.relationships["p2"].isin(self.people)
        usable = self.relationships[both].reset_index(drop=True)
        return usable.assign(family=family_of(usable["p1"]))

    @functools.cached_property
    def families(self) -> list[str]:
        """Families with at least one photo, sorted."""
        return sorted(self.photos["family"].unique())

    def paths(self, names: pd.Series | list[str]) -> list[Path]:
        """Absolute paths of photos given relative to the root."""
        return [self.root / name for name in names]

    def of_families(self, families: set[str] | list[str]) -> "Dataset":
        """The same data, restricted to the training photos and kin of some families."""
        families = set(families)
        wanted = family_of(self.relationships["p1"]).isin(families)
        return replace(self, photos=self.photos[self.photos["family"].isin(families)].reset_index(drop=True),
                       relationships=self.relationships[wanted].reset_index(drop=True))

    def without_photos(self, names: set[str] | list[str]) -> "Dataset":
        """The same data without some training photos (relative paths)."""
        kept = self.photos[~self.photos["path"].isin(set(names))]
        return replace(self, photos=kept.reset_index(drop=True))


def family_of(people: pd.Series) -> pd.Series:
    """The family in names such as F0123/MID1."""
    return people.str.split("/").str[0]


def load(source: str | Path) -> Dataset:
    """Index the competition's archive (extracted once into the cache) or its folder.

    Raises:
        DatasetError: missing, half downloaded, without training photos, or with wrong columns.
    """
    return _open(source, "the Kaggle archive", "the competition's data", extract, _index)


def _open(source: str | Path, archive: str, content: str, extract: Callable, index: Callable):
    """What ``index`` makes of a folder, or of the folder that ``extract`` makes of an archive."""
    source = Path(source).expanduser()
    if source.is_dir():
        return index(source)
    if not source.is_file():
        raise DatasetError(f"{source} does not exist; name {archive} or its extracted folder.")
    folder = extract(source)
    try:
        return index(folder)
    except DatasetError as error:
        raise DatasetError(f"{source} does not hold {content}: {error}") from error


def extract(archive: Path) -> Path:
    """Extract the Kaggle archive into the cache, once for each content, and return the folder."""
    return _extract_once(archive, "", _extract_members)


def _extract_once(archive: Path, suffix: str, write: Callable[[zipfile.ZipFile, Path], None]) -> Path:
    """The folder that ``write`` filled from this content of an archive, now or in an earlier call.

    ``suffix`` stands behind the folder's name, so that one archive read as two kinds has two folders.
    """
    if not zipfile.is_zipfile(archive):
        raise DatasetError(f"{archive} is not a whole zip archive; download it again.")
    target = settings.cache_dir() / "extracted" / f"{sha256(archive)[:16]}{suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{target}.lock"):
        if not target.is_dir():
            temporary = Path(tempfile.mkdtemp(dir=target.parent))
            try:
                _write_members(archive, temporary, write)
                temporary.chmod(0o755)
                temporary.rename(target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return target


def _write_members(archive: Path, target: Path, write: Callable[[zipfile.ZipFile, Path], None]) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            write(opened, target)
    except _BROKEN as error:
        raise DatasetError(f"{archive} is damaged ({error}); download it again.") from error


def _extract_members(outer: zipfile.ZipFile, target: Path) -> None:
    """Write what belongs to the layout; anything else in the archive is passed over."""
    for name in outer.namelist():
        inner = PurePosixPath(name).name
        if inner in (RELATIONSHIPS, SAMPLE):
            (target / inner).write_bytes(outer.read(name))
        elif inner in ("train.zip", "test.zip"):
            with outer.open(name) as stream, zipfile.ZipFile(stream) as photos:
                _extract_photos(photos, target, inner.removesuffix(".zip"))
    _extract_photos(outer, target, "train")


def _extract_photos(photos: zipfile.ZipFile, target: Path, kind: str) -> None:
    for info in photos.infolist():
        folder = "test" if info.filename.startswith("test/") else kind
        match = _MEMBERS[folder].fullmatch(info.filename)
        if match:
            _write_member(photos, info, target / folder / match[1])


def _write_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(archive.read(info))


def _index(root: Path) -> Dataset:
    train, test = root / "train", root / "test"
    if not train.is_dir():
        raise DatasetError(f"{root} has no folder train/; name the folder that holds train/ and "
                           f"{RELATIONSHIPS}.")
    names = sorted(path.relative_to(train).as_posix() for path in train.glob("F*/MID*/*"))
    photos = pd.DataFrame([_photo_row(name) for name in names if _TRAIN_PHOTO.fullmatch(name)],
                          columns=["family", "person", "photo_id", "path"], dtype=object)
    if photos.empty:
        raise DatasetError(f"{train} holds no photo such as F0123/MID1/P00009_face3.jpg.")
    sample = _read_csv(root / SAMPLE, ["img_pair", "is_related"], required=False)
    return Dataset(root, photos, _relationships(root / RELATIONSHIPS),
                   sorted(path.name for path in test.glob("face*") if _TEST_PHOTO.fullmatch(path.name)), sample)


def _photo_row(name: str) -> tuple[str, str, str, str]:
    family, member, file = name.split("/")
    return family, f"{family}/{member}", file.partition("_")[0], f"train/{name}"


def _relationships(path: Path) -> pd.DataFrame:
    table = _read_csv(path, ["p1", "p2"], required=True)
    for column in table:
        wrong = ~table[column].astype(str).str.fullmatch(_PERSON)
        if wrong.any():
            line = int(np.flatnonzero(wrong)[0]) + 2
            raise DatasetError(f"{path}, line {line}: {table[column][line - 2]!r} is no person "
                               "such as F0123/MID1.")
    if table.empty:
        raise DatasetError(f"{path} lists no pair of people; copy it from the competition's data.")
    return table


def _read_csv(path: Path, columns: list[str], required: bool) -> pd.DataFrame:
    if not path.is_file():
        if required:
            raise DatasetError(f"{path} is missing; copy it from the competition's data.")
        return pd.DataFrame(columns=columns)
    try:
        table = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is not a CSV file that can be read.") from error
    if list(table.columns) != columns:
        raise DatasetError(f"{path} has the columns {', '.join(map(str, table.columns))}; "
                           f"expected {', '.join(columns)}.")
    return table


def unlisted_pairs(dataset: Dataset) -> list[tuple[str, str]]:
    """Pairs of one family's people (with photos) that the CSV does not list as kin, sorted.

    They may be spouses, in-laws, or relatives that nobody wrote down.
    """
    kin = {frozenset(pair) for pair in dataset.kin[["p1", "p2"]].itertuples(index=False)}
    return [pair for pair in within_family_pairs(dataset) if frozenset(pair) not in kin]


def within_family_pairs(dataset: Dataset) -> list[tuple[str, str]]:
    """All unordered pairs of different people with photos in the same family."""
    members = dataset.photos.groupby("family")["person"].unique()
    return [pair for people in members for pair in itertools.combinations(sorted(people), 2)]


# --- splits -------------------------------------------------------------------------------------


def split_families(dataset: Dataset, prefix: str = TEST_PREFIX) -> tuple[list[str], list[str]]:
    """Families for training and for the final test, by the exact family name.

    A family is held out when its own name starts with ``prefix``; the rest of a path is not
    looked at. (The published split asked whether ``F09`` occurs anywhere in a photo's path.)

    Raises:
        DatasetError: one side would be empty.
    """
    test = [family for family in dataset.families if family.startswith(prefix)]
    train = [family for family in dataset.families if not family.startswith(prefix)]
    if not test or not train:
        raise DatasetError(f"Splitting on {prefix!r} leaves {len(train)} families for training and "
                           f"{len(test)} for the test; choose another prefix.")
    return train, test


def make_folds(dataset: Dataset, families: list[str], count: int = 5) -> pd.DataFrame:
    """Family-disjoint folds of about equal numbers of kin pairs: family, fold (0 to count − 1).

    Families are dealt out from the largest to the smallest, each to the fold that has least.
    """
    if len(families) < count:
        raise DatasetError(f"{len(families)} families cannot make {count} folds.")
    sizes = dataset.kin["family"].value_counts()
    order = sorted(families, key=lambda family: (-int(sizes.get(family, 0)), family))
    load, members, fold_of = np.zeros(count), np.zeros(count), {}
    for family in order:
        fold = int(np.lexsort((members, load))[0])
        load[fold] += sizes.get(family, 0)
        members[fold] += 1
        fold_of[family] = fold
    return pd.DataFrame(sorted(fold_of.items()), columns=["family", "fold"])


# --- decoded photos -----------------------------------------------------------------------------


def unreadable_photos(dataset: Dataset, advance=lambda count: None) -> dict[str, str]:
    """Training photos that cannot be decoded: relative path to what is wrong with it."""
    def problem(name):
        try:
            images.read(dataset.root / name)
        except ImageError as error:
            return str(error)
        return None

    found = {}
    for name, reason in zip(dataset.photos["path"],
                            images.map_threads(problem, dataset.photos["path"]), strict=True):
        advance(1)
        if reason:
            found[name] = reason
    return found


def readable(dataset: Dataset, advance=lambda count: None) -> Dataset:
    """The dataset without the photos that cannot be decoded; one warning names them.

    The photos are scanned once; the cache remembers what was found.
    """
    known = settings.cache_dir() / "unreadable" / f"{fingerprint(dataset)}.json"
    if not known.is_file():
        write_json(known, unreadable_photos(dataset, advance))
    names = read_json(known)
    if names:
        warnings.warn(f"{len(names)} photos cannot be read and are left out: {', '.join(names)}",
                      stacklevel=2)
    return dataset.without_photos(names)


def fingerprint(dataset: Dataset) -> str:
    """Changes when a photo's path, size or time of change does; names what is cached for it."""
    digest = hashlib.sha256(str(dataset.root.resolve()).encode())
    for name in dataset.photos["path"]:
        status = (dataset.root / name).stat()
        digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def decoded(dataset: Dataset, size: int, advance=lambda count: None) -> np.ndarray:
    """All training photos as a read-only memory map, uint8 RGB ``(photos, size, size, 3)``.

    Row i is row i of ``dataset.photos``. Decoded once into the cache; later calls only map it.

    Raises:
        ImageError: a photo cannot be read; leave it out with :meth:`Dataset.without_photos`.
    """
    return decoded_sizes(dataset, [size], advance)[0]


def decoded_sizes(dataset: Dataset, sizes: Sequence[int], advance=lambda count: None) -> list[np.ndarray]:
    """:func:`decoded` in several sizes; a photo is decoded once for all that are not there yet."""
    folder, name = settings.cache_dir() / "decoded", fingerprint(dataset)
    files = {size: folder / f"{name}-{size}.npy" for size in sizes}
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / f"{name}.lock"), contextlib.ExitStack() as stack:
        arrays = {}
        for size in (size for size, path in files.items() if not path.is_file()):
            temporary = stack.enter_context(atomic(files[size]))
            shape = (len(dataset.photos), size, size, 3)
            arrays[size] = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
        if arrays:
            images.read_sizes(dataset.paths(dataset.photos["path"]), arrays, advance)
    return [np.load(files[size], mmap_mode="r") for size in sizes]


# --- pairs with a relation ----------------------------------------------------------------------


@dataclass(frozen=True)
class RelationPairs:
    """A published list of pairs that names each pair's relation; photos stay on disk.

    Attributes:
        root: the folder that the photos' paths start from.
        pairs: one row a pair, in the list's order: photo_a, photo_b (str, relative to ``root``),
            is_related (int: 1 for kin, 0 for strangers), relation (str, a value of ``RELATIONS``;
            of strangers the one they are set against), fold (int; 0 everywhere when there are none).
    """

    root: Path
    pairs: pd.DataFrame

    def paths(self, column: str) -> list[Path]:
        """Absolute paths of the photos in a column, photo_a or photo_b."""
        return [(self.root / name).absolute() for name in self.pairs[column]]


def load_kinfacew(source: str | Path) -> RelationPairs:
    """The pairs of KinFaceW-I or -II, from the published archive or its extracted folder.

    An archive is extracted once into the cache. photo_a shows the parent, photo_b the child; the
    folds are the published five, 1 to 5. Most kin of KinFaceW-II were cropped from one photograph,
    which alone tells them from strangers (Bordallo López, Boutellaa and Hadid, Comments on the
    "Kinship Face in the Wild" Data Sets, TPAMI 38, 2016).

    Source: Lu, Zhou, Tan, Shang and Zhou, Neighborhood Repulsed Metric Learning for Kinship
    Verification, TPAMI 36, 2014 (first at CVPR 2012).

    Raises:
        DatasetError: missing, half downloaded, without one of the four relations, a list that
            cannot be read or has other cells, or a photo that is not there.
    """
    return _open(source, "KinFaceW's archive", "the pairs of KinFaceW",
                 lambda archive: _extract_once(archive, "-kinfacew", _extract_kinfacew), _index_kinfacew)


def _extract_kinfacew(archive: zipfile.ZipFile, target: Path) -> None:
    for info in archive.infolist():
        if _KINFACEW_MEMBER.fullmatch(info.filename):
            _write_member(archive, info, target / info.filename)


def _index_kinfacew(folder: Path) -> RelationPairs:
    root = _kinfacew_root(folder)
    needed = {code: (f"images/{photos}", f"meta_data/{code}_pairs.mat") for code, photos in KINFACEW.items()}
    missing = [f"{name} ({RELATIONS[code]})" for code, names in needed.items() for name in names
               if not (root / name).exists()]
    if missing:
        raise DatasetError(f"{root} lacks {', '.join(missing)}; extract the whole archive again.")
    origins, rows = [], []
    for code, (_, name) in needed.items():
        for number, cells in enumerate(_kinfacew_cells(root / name), start=1):
            origins.append(f"{root / name}, row {number}")
            rows.append(_kinfacew_row(origins[-1], code, cells))
    return _relation_pairs(root, origins, rows)


def _kinfacew_root(folder: Path) -> Path:
    """The folder with images/ and meta_data/: the one given, or the only such one of KinFaceW in it."""
    inner = [folder / name for name in _KINFACEW_SETS if (folder / name).is_dir()]
    if len(inner) > 1:
        raise DatasetError(f"{folder} holds {' and '.join(_KINFACEW_SETS)}; name the folder of one of them.")
    root = inner[0] if inner else folder
    for name in ("images", "meta_data"):
        if not (root / name).is_dir():
            raise DatasetError(f"{root} has no folder {name}/; name KinFaceW's archive or the folder that "
                               "holds images/ and meta_data/.")
    return root


def _kinfacew_cells(path: Path) -> np.ndarray:
    """The cells of a list, object ``(pairs, 4)``: fold, kin or not, parent's photo, child's photo."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    # What loadmat raises on broken content, found by feeding it such files.
    broken = (MatReadError, zlib.error, OSError, ValueError, TypeError, LookupError, NotImplementedError,
              MemoryError)
    try:
        variables = loadmat(path, variable_names=["pairs"])
    except broken as error:
        raise DatasetError(f"{path} is not a MATLAB file that can be read; extract it again.") from error
    if "pairs" not in variables:
        raise DatasetError(f"{path} has no variable pairs; extract it again from KinFaceW's archive.")
    cells = variables["pairs"]
    if not isinstance(cells, np.ndarray) or cells.dtype != object or cells.ndim != 2 \
            or cells.shape[1] != 4 or not len(cells):
        raise DatasetError(f"{path}: pairs is no table of cells with four columns (fold, kin, parent, child); "
                           "extract it again from KinFaceW's archive.")
    return cells


def _kinfacew_row(origin: str, code: str, cells: np.ndarray) -> tuple[str, str, int, str, int]:
    fold, label, *names = map(_cell_value, cells)
    if fold not in _KINFACEW_FOLDS:
        raise DatasetError(f"{origin}: the fold is {fold!r}, expected 1 to 5; extract the list again.")
    if label not in (0, 1):
        raise DatasetError(f"{origin}: the label is {label!r}, expected 0 or 1; extract the list again.")
    for name in names:
        if not isinstance(name, str) or not _KINFACEW_PHOTO.fullmatch(name):
            raise DatasetError(f"{origin}: {name!r} is no photo such as {code}_001_1.jpg; "
                               "extract the list again.")
    parent, child = (f"images/{KINFACEW[code]}/{name}" for name in names)
    return parent, child, int(label), RELATIONS[code], int(fold)


def _cell_value(cell: object) -> int | float | str | None:
    """The one number or text in a cell as loadmat gives it; None when it holds something else."""
    plain = isinstance(cell, np.ndarray) and cell.size == 1 and cell.dtype.kind in "iufU"
    return cell.item() if plain else None


def load_rfiw(list_file: str | Path, photos: str | Path) -> RelationPairs:
    """The pairs of a list of the challenge Recognizing Families in the Wild, track 1 (verification).

    A line is a pair, its fields separated by commas or by spaces::

        0 F0001/MID1/P00001_face1.jpg F0001/MID2/P00003_face0.jpg fs 1

    that is its number (which may be left out), two photos, a code of ``RELATIONS``, and 1 for kin or
    0 for strangers. Or the first line names the columns, in any order, as in ``RFIW_COLUMNS``. Such
    lists have no folds.

    Source: Robinson, Yin, Khan, Shao, Xia, Stopa, Timoner, Turk, Chellappa and Fu, Recognizing Families
    In the Wild (RFIW): The 4th Edition, FG 2020.

    Args:
        list_file: the list, UTF-8 text.
        photos: the folder that the list's paths start from.

    Raises:
        DatasetError: the list or the folder is missing, the list is no text or has no pair, or, with
            its line, another number of fields, an unknown code, another label, or a missing photo.
    """
    list_file, photos = Path(list_file).expanduser(), Path(photos).expanduser()
    if not photos.is_dir():
        raise DatasetError(f"{photos} is no folder; name the one that the paths in {list_file} start from.")
    lines = _list_lines(list_file)
    named = bool(lines) and not _RFIW_NAMES.isdisjoint(lines[0][1])
    body = lines[1:] if named else lines
    if not body:
        raise DatasetError(f"{list_file} lists no pair; copy it from the challenge's data.")
    places = _rfiw_places(*lines[0], named)
    rows = [_rfiw_row(origin, *(fields[place] for place in places)) for origin, fields in body]
    return _relation_pairs(photos, [origin for origin, _ in body], rows)


def _list_lines(path: Path) -> list[tuple[str, list[str]]]:
    """The lines that are not blank, each as where it stands and its fields, as many in every line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DatasetError(f"The list {path} cannot be read ({error.strerror}); check the path.") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not a list of pairs in UTF-8 text; copy it again.") from error
    lines = [(f"{path}, line {number}", _fields(line))
             for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    for origin, fields in lines:
        if len(fields) != len(lines[0][1]):
            raise DatasetError(f"{origin}: {len(fields)} fields, expected {len(lines[0][1])} as in the lines "
                               "above; mend the line.")
    return lines


def _fields(line: str) -> list[str]:
    return [field.strip() for field in line.split(",")] if "," in line else line.split()


def _rfiw_places(origin: str, fields: list[str], named: bool) -> list[int]:
    """Where photo_a, photo_b, relation and is_related stand in every line, by what the first one holds."""
    if not named:
        if len(fields) not in _RFIW_PLACES:
            raise DatasetError(f"{origin}: {len(fields)} fields, expected two photos, a relation and a label, "
                               "or the columns' names; choose another list.")
        return _RFIW_PLACES[len(fields)]
    places = {names: fields.index(name) for names in RFIW_COLUMNS.values() for name in names if name in fields}
    missing = [" or ".join(names) for names in RFIW_COLUMNS.values() if names not in places]
    if missing:
        raise DatasetError(f"{origin}: no column is called {', '.join(missing)}; name it so.")
    return [places[names] for names in RFIW_COLUMNS.values()]


def _rfiw_row(origin: str, photo_a: str, photo_b: str, code: str, label: str) -> tuple[str, str, int, str, int]:
    if code not in RELATIONS:
        raise DatasetError(f"{origin}: {code!r} is no relation; expected one of {', '.join(RELATIONS)}.")
    if label not in ("0", "1"):
        raise DatasetError(f"{origin}: the label is {label!r}, expected 0 or 1; mend the line.")
    return photo_a, photo_b, int(label), RELATIONS[code], 0


def _relation_pairs(root: Path, origins: list[str], rows: list[tuple[str, str, int, str, int]]) -> RelationPairs:
    """The rows as pairs, once every photo is there; ``origins`` says where each row stands."""
    pairs = pd.DataFrame(rows, columns=["photo_a", "photo_b", "is_related", "relation", "fold"])
    missing = {name for name in {*pairs["photo_a"], *pairs["photo_b"]} if not _is_photo_below(root, name)}
    for origin, *names in zip(origins, pairs["photo_a"], pairs["photo_b"], strict=True):
        for name in (name for name in names if name in missing):
            raise DatasetError(f"{origin}: the photo {name} is not in {root}; check that it is whole and "
                               "the folder that the paths start from.")
    return RelationPairs(root, pairs)


def _is_photo_below(root: Path, name: str) -> bool:
    path = Path(name)
    return not path.anchor and ".." not in path.parts and os.path.isfile(root / path)
