"""The competition's data: the Kaggle archive or a folder, as an index of photos and kin.

The competition's layout::

    train/F0123/MID1/P00009_face3.jpg     family / person / photo id _ number of the face in it
    test/face00000.jpg
    train_relationships.csv               p1,p2: each a person such as F0123/MID1
    sample_submission.csv                 img_pair,is_related

The number of the face may be absent.
"""

import contextlib
import functools
import hashlib
import itertools
import re
import shutil
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

import filelock
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from .. import images, settings
from ..errors import DatasetError, ImageError
from ..files import atomic, read_json, sha256, write_json

TEST_PREFIX = "F09"
PHOTO_SIZE = 224  # side of a crop in pixels
RELATIONSHIPS = "train_relationships.csv"
SAMPLE = "sample_submission.csv"
PHOTO_COLUMNS = ["family", "person", "photo_id", "path"]
_PERSON = re.compile(r"F\d{4}/MID\d+")
_TRAIN_PHOTO = re.compile(r"F\d{4}/MID\d+/P\d+_face\d*\.jpe?g", re.IGNORECASE)
_TEST_PHOTO = re.compile(r"face\d+\.jpe?g", re.IGNORECASE)
# Members of the archive that are extracted; everything else in it is passed over.
_MEMBERS = {
    "train": re.compile(r"(?:train/)?(F\d{4}/MID\d+/\w[\w.-]*)"),
    "test": re.compile(r"(?:test/)?(\w[\w.-]*)"),
}
# What zipfile raises on broken content, found by feeding it such archives.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
)

Index = TypeVar("Index")


@dataclass(frozen=True)
class Dataset:
    """An index of the data; photos stay on disk.

    Attributes:
        root: the extracted folder.
        photos: one row a training photo: family, person, photo_id, path (relative to ``root``).
        relationships: the pairs of people who are kin: p1, p2, as the CSV lists them.
        test_photos: names in ``test/``, sorted.
        sample: the sample submission: img_pair, is_related; empty when there is none.
        file_versions: size and time of change of each training photo, by its path, as they were
            when the data was opened.
    """

    root: Path
    photos: pd.DataFrame
    relationships: pd.DataFrame
    test_photos: list[str]
    sample: pd.DataFrame
    file_versions: dict[str, str] = field(repr=False)

    @functools.cached_property
    def people(self) -> set[str]:
        """People with at least one photo."""
        return set(self.photos["person"])

    @functools.cached_property
    def kin(self) -> pd.DataFrame:
        """Relationships of which both people have photos: p1, p2, family (that of p1)."""
        rows = self.relationships
        have_photos = rows["p1"].isin(self.people) & rows["p2"].isin(self.people)
        usable = rows[have_photos].reset_index(drop=True)
        return usable.assign(family=family_of(usable["p1"]))

    @functools.cached_property
    def families(self) -> list[str]:
        """Families with at least one photo, sorted."""
        return sorted(self.photos["family"].unique())

    @functools.cached_property
    def fingerprint(self) -> str:
        """Names what is cached for the photos; another when a path, size or time of change is."""
        # a change of this text would make every earlier cache useless
        digest = hashlib.sha256(str(self.root.resolve()).encode())
        for name in self.photos["path"]:
            digest.update(f"{name} {self.file_versions[name]}\n".encode())
        return digest.hexdigest()[:16]

    def paths(self, names: pd.Series | list[str]) -> list[Path]:
        """Absolute paths of photos given relative to the root."""
        return [self.root / name for name in names]

    def of_families(self, families: Iterable[str]) -> "Dataset":
        """The same data, restricted to the training photos and kin of some families."""
        names = set(families)
        photos = self.photos[self.photos["family"].isin(names)]
        rows = self.relationships[family_of(self.relationships["p1"]).isin(names)]
        return replace(
            self,
            photos=photos.reset_index(drop=True),
            relationships=rows.reset_index(drop=True),
        )

    def without_photos(self, names: Iterable[str]) -> "Dataset":
        """The same data without some training photos (relative paths)."""
        rest = self.photos[~self.photos["path"].isin(set(names))]
        return replace(self, photos=rest.reset_index(drop=True))


def family_of(people: pd.Series) -> pd.Series:
    """The family in names such as F0123/MID1."""
    return people.str.split("/").str[0]


# --- opening a folder or an archive -------------------------------------------------------------


def load(source: str | Path) -> Dataset:
    """Index the competition's archive (extracted once into the cache) or its folder.

    Raises:
        DatasetError: missing, half downloaded, without training photos, or with wrong columns.
    """
    return open_source(
        source,
        archive="the Kaggle archive",
        content="the competition's data",
        extract=_extract_kaggle,
        index=_index_kaggle,
    )


def open_source(
    source: str | Path,
    archive: str,
    content: str,
    extract: Callable[[Path], Path],
    index: Callable[[Path], Index],
) -> Index:
    """The index of a folder, or of the folder that an archive is extracted to.

    Args:
        source: the archive or the folder.
        archive: what messages call the archive.
        content: what messages call the data in it.
        extract: gives the folder of an archive.
        index: gives the index of a folder.

    Returns:
        What ``index`` returns.

    Raises:
        DatasetError: the source does not exist or does not hold the data.
    """
    source = Path(source).expanduser()
    if source.is_dir():
        return index(source)
    if not source.is_file():
        raise DatasetError(f"{source} does not exist; name {archive} or its extracted folder.")
    folder = extract(source)
    # a message should name the archive, not only the folder in the cache
    try:
        return index(folder)
    except DatasetError as error:
        raise DatasetError(f"{source} does not hold {content}: {error}") from error


def extract_once(
    archive: Path, suffix: str, write: Callable[[zipfile.ZipFile, Path], None]
) -> Path:
    """Extract an archive into the cache, once for each content.

    Args:
        archive: the zip archive.
        suffix: stands behind the folder's name: an archive that is read as data of two kinds has
            two folders.
        write: writes the members that are needed to a folder.

    Returns:
        The folder that was filled, now or in an earlier call.

    Raises:
        DatasetError: the archive is not whole or is damaged.
    """
    if not zipfile.is_zipfile(archive):
        # the list of members stands at the end, which half a download lacks
        raise DatasetError(f"{archive} is not a whole zip archive; download it again.")
    # the same content has the same folder, whatever the archive is called
    target = settings.cache_dir() / "extracted" / f"{sha256(archive)[:16]}{suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    # of several programs at once, one extracts and the others wait
    with filelock.FileLock(f"{target}.lock"):
        if not target.is_dir():
            # fill another folder first: a killed run leaves none under the final name
            temporary = Path(tempfile.mkdtemp(dir=target.parent))
            try:
                _write_members(archive, temporary, write)
                temporary.chmod(0o755)
                temporary.rename(target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return target


def _write_members(
    path: Path, target: Path, write: Callable[[zipfile.ZipFile, Path], None]
) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            write(archive, target)
    except ZIP_ERRORS as error:
        raise DatasetError(f"{path} is damaged ({error}); download it again.") from error


def write_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    """Write a member of an archive to a path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(archive.read(info))


# --- the competition's layout -------------------------------------------------------------------


def _extract_kaggle(archive: Path) -> Path:
    return extract_once(archive, "", _write_kaggle)


def _write_kaggle(outer: zipfile.ZipFile, target: Path) -> None:
    """Write what belongs to the layout; anything else in the archive is passed over."""
    for name in outer.namelist():
        inner = PurePosixPath(name).name
        if inner in (RELATIONSHIPS, SAMPLE):
            (target / inner).write_bytes(outer.read(name))
        elif inner in ("train.zip", "test.zip"):
            with outer.open(name) as stream, zipfile.ZipFile(stream) as photos:
                _write_photos(photos, target, inner.removesuffix(".zip"))
    # an archive of the plain folder holds the photos themselves
    _write_photos(outer, target, "train")


def _write_photos(photos: zipfile.ZipFile, target: Path, kind: str) -> None:
    for info in photos.infolist():
        folder = "test" if info.filename.startswith("test/") else kind
        match = _MEMBERS[folder].fullmatch(info.filename)
        if match:
            write_member(photos, info, target / folder / match[1])


def _index_kaggle(root: Path) -> Dataset:
    train, test = root / "train", root / "test"
    if not train.is_dir():
        raise DatasetError(
            f"{root} has no folder train/; name the folder that holds train/ and {RELATIONSHIPS}."
        )
    # one row a training photo, in the order of the paths
    names = sorted(path.relative_to(train).as_posix() for path in train.glob("F*/MID*/*"))
    rows = [_photo_row(name) for name in names if _TRAIN_PHOTO.fullmatch(name)]
    photos = pd.DataFrame(rows, columns=PHOTO_COLUMNS, dtype=object)
    if photos.empty:
        raise DatasetError(f"{train} holds no photo such as F0123/MID1/P00009_face3.jpg.")
    # one name a test photo; of whom they are, nobody says
    test_names = [path.name for path in test.glob("face*") if _TEST_PHOTO.fullmatch(path.name)]
    return Dataset(
        root=root,
        photos=photos,
        relationships=_relationships(root / RELATIONSHIPS),
        test_photos=sorted(test_names),
        sample=_read_csv(root / SAMPLE, ["img_pair", "is_related"], required=False),
        file_versions={name: _file_version(root / name) for name in photos["path"]},
    )


def _photo_row(name: str) -> tuple[str, str, str, str]:
    family, member, file = name.split("/")
    return family, f"{family}/{member}", file.partition("_")[0], f"train/{name}"


def _file_version(path: Path) -> str:
    """Size in bytes and time of change in nanoseconds; "missing" for a link that leads nowhere."""
    try:
        status = path.stat()
    except OSError:
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"


def _relationships(path: Path) -> pd.DataFrame:
    table = _read_csv(path, ["p1", "p2"], required=True)
    for column in table:
        wrong = ~table[column].astype(str).str.fullmatch(_PERSON)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            # the first row stands in line 2, below the names of the columns
            raise DatasetError(
                f"{path}, line {row + 2}: {table[column][row]!r} is not a person "
                "such as F0123/MID1."
            )
    if table.empty:
        raise DatasetError(f"{path} lists no pair of people; copy it from the competition's data.")
    return table


def _read_csv(path: Path, columns: list[str], required: bool) -> pd.DataFrame:
    if not path.is_file():
        if required:
            raise DatasetError(f"{path} is missing; copy it from the competition's data.")
        return pd.DataFrame(columns=columns)
    # pandas raises a ValueError of its own for an empty file or an open quote
    try:
        table = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is not a CSV file that can be read.") from error
    if list(table.columns) != columns:
        raise DatasetError(
            f"{path} has the columns {', '.join(map(str, table.columns))}; "
            f"expected {', '.join(columns)}."
        )
    return table


# --- pairs of people ----------------------------------------------------------------------------


def unlisted_pairs(dataset: Dataset) -> list[tuple[str, str]]:
    """Pairs of one family's people (with photos) that the CSV does not list as kin, sorted.

    They may be spouses, in-laws, or relatives that nobody wrote down.
    """
    # the CSV lists a pair in either order
    rows = dataset.kin[["p1", "p2"]].itertuples(index=False)
    kin = {frozenset(pair) for pair in rows}
    return [pair for pair in within_family_pairs(dataset) if frozenset(pair) not in kin]


def within_family_pairs(dataset: Dataset) -> list[tuple[str, str]]:
    """All unordered pairs of different people with photos in the same family."""
    pairs: list[tuple[str, str]] = []
    for people in dataset.photos.groupby("family")["person"].unique():
        pairs.extend(itertools.combinations(sorted(people), 2))
    return pairs


# --- decoded photos -----------------------------------------------------------------------------


def unreadable_photos(dataset: Dataset) -> dict[str, str]:
    """Training photos that cannot be decoded: relative path to what is wrong with it."""
    return _decode(dataset, {})


def readable(dataset: Dataset, sizes: Sequence[int] = ()) -> Dataset:
    """The dataset without the photos that cannot be decoded; one warning names them.

    All photos are decoded once to see; the cache remembers those that could not be.

    Args:
        dataset: the data as it was loaded.
        sizes: sizes that :func:`decoded` will be asked for. They are written in the same pass, so
            that no photo is decoded a second time.
    """
    path = settings.cache_dir() / "unreadable" / f"{dataset.fingerprint}.json"
    if not path.is_file():
        write_json(path, _decode_readable(dataset, sizes) if sizes else unreadable_photos(dataset))
    problems = read_json(path)
    if problems:
        warnings.warn(
            f"{len(problems)} photos cannot be read and are left out: {', '.join(problems)}",
            stacklevel=2,
        )
    return dataset.without_photos(problems)


def decoded(dataset: Dataset, sizes: Sequence[int], progress: bool = True) -> list[np.ndarray]:
    """All training photos in each size, as read-only memory maps.

    They are decoded once into the cache, a photo once for all sizes that are not there yet; later
    calls only map them.

    Args:
        dataset: the photos, of which each must be readable.
        sizes: sides in pixels.
        progress: show a bar while photos are decoded.

    Returns:
        One array a size, uint8 RGB ``(photos, size, size, 3)``; row i is row i of
        ``dataset.photos``.

    Raises:
        ImageError: a photo cannot be read; leave it out with :func:`readable`.
    """
    files = _decoded_files(dataset, sizes)
    lock = filelock.FileLock(_decoded_folder() / f"{dataset.fingerprint}.lock")
    with lock, contextlib.ExitStack() as stack:
        # an array for each size that is not there; it gets its final name when it is whole
        arrays = {}
        for size, path in files.items():
            if not path.is_file():
                arrays[size] = _new_array(stack.enter_context(atomic(path)), dataset, size)
        problems = _decode(dataset, arrays, progress) if arrays else {}
        if problems:
            raise ImageError(next(iter(problems.values())))
    return [np.load(files[size], mmap_mode="r") for size in sizes]


def _decoded_folder() -> Path:
    folder = settings.cache_dir() / "decoded"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _decoded_files(dataset: Dataset, sizes: Sequence[int]) -> dict[int, Path]:
    folder = _decoded_folder()
    return {size: folder / f"{dataset.fingerprint}-{size}.npy" for size in sizes}


def _new_array(path: Path, dataset: Dataset, size: int) -> np.ndarray:
    """A file of zeros, as a memory map: uint8 ``(photos, size, size, 3)``."""
    shape = (len(dataset.photos), size, size, 3)
    return np.lib.format.open_memmap(path, "w+", np.uint8, shape)


def _decode_readable(dataset: Dataset, sizes: Sequence[int]) -> dict[str, str]:
    """Write what :func:`decoded` reads for the readable photos.

    Returns:
        The other photos: relative path to what is wrong.
    """
    with tempfile.TemporaryDirectory(dir=_decoded_folder()) as folder:
        paths = {size: Path(folder) / f"{size}.npy" for size in sizes}
        arrays = {size: _new_array(path, dataset, size) for size, path in paths.items()}
        problems = _decode(dataset, arrays, progress=True)
        # how many photos a file holds, and what it is called, is known only now
        rest = dataset.without_photos(problems)
        for size, path in _decoded_files(rest, sizes).items():
            with atomic(path) as temporary:
                np.save(temporary, arrays[size][: len(rest.photos)])
    return problems


def _decode(
    dataset: Dataset, arrays: dict[int, np.ndarray], progress: bool = False
) -> dict[str, str]:
    """Decode each training photo once, into the next row of each array.

    Args:
        dataset: the photos.
        arrays: uint8 ``(photos, size, size, 3)`` by size; without any, photos are only tried.
        progress: show a bar.

    Returns:
        The photos that cannot be decoded, which take no row: relative path to what is wrong.
    """
    names = dataset.photos["path"]
    pictures_of = functools.partial(_pictures, dataset.root, list(arrays))
    rows, problems = 0, {}
    with tqdm(
        total=len(names), desc="Decoding", unit="photo", leave=False, disable=not progress
    ) as bar:
        # threads decode in any order, but give their results in that of the names
        for name, pictures in zip(names, images.map_threads(pictures_of, names), strict=True):
            if isinstance(pictures, ImageError):
                problems[name] = str(pictures)
            else:
                for array, picture in zip(arrays.values(), pictures, strict=True):
                    array[rows] = picture
                rows += 1
            bar.update()
    return problems


def _pictures(root: Path, sizes: list[int], name: str) -> list[np.ndarray] | ImageError:
    """A photo in each size, or why it cannot be read."""
    try:
        photo = images.read(root / name)
    except ImageError as error:
        return error
    return [images.resize(photo, size) for size in sizes]
