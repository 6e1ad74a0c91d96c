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
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from .. import images, settings
from ..errors import DatasetError, ImageError
from ..files import (
    atomic,
    lock,
    need_room,
    read_json,
    remove_leftovers,
    reserve,
    room_in,
    temporary_file,
    write_json,
)
from . import layout, sources, tables, unreadable

TEST_PREFIX = "F09"
PHOTO_SIZE = 224  # side of a crop in pixels
RELATIONSHIPS, SAMPLE = layout.RELATIONSHIPS, layout.SAMPLE
PHOTO_COLUMNS = ["family", "person", "photo_id", "path"]
_PERSON = re.compile(r"F\d{4}/MID\d+")
_TRAIN_PHOTO = re.compile(rf"F\d{{4}}/MID\d+/P\d+_face\d*{layout.ENDING}", re.IGNORECASE)
_TEST_PHOTO = re.compile(rf"face\d+{layout.ENDING}", re.IGNORECASE)


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
        source: the archive or folder that the user named; None for data made by a program.
    """

    root: Path
    photos: pd.DataFrame
    relationships: pd.DataFrame
    test_photos: list[str]
    sample: pd.DataFrame
    file_versions: dict[str, str] = field(repr=False)
    source: Path | None = None

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

    Both are taken as people's tools leave them: see :mod:`utils.data.layout`.

    Raises:
        DatasetError: missing, half downloaded, without training photos, or with wrong columns.
        NoRoomError: the cache has no room for the content of the archive.
    """
    dataset = sources.open_source(
        source,
        archive="the Kaggle archive",
        content="the competition's data",
        extract=sources.extract_kaggle,
        locate=sources.locate_kaggle,
        index=_index_kaggle,
    )
    return replace(dataset, source=Path(source).expanduser())


def _index_kaggle(root: Path) -> Dataset:
    train, test = root / "train", root / "test"
    # one row a training photo, in the order of the paths
    names = sorted(path.relative_to(train).as_posix() for path in train.glob("F*/MID*/*"))
    rows = [_photo_row(name) for name in names if _TRAIN_PHOTO.fullmatch(name)]
    photos = pd.DataFrame(rows, columns=PHOTO_COLUMNS, dtype=object)
    # one name a test photo; of whom they are, nobody says
    test_names = [path.name for path in test.glob("face*") if _TEST_PHOTO.fullmatch(path.name)]
    return Dataset(
        root=root,
        photos=photos,
        relationships=_relationships(root / RELATIONSHIPS),
        test_photos=sorted(test_names),
        sample=_sample(root / SAMPLE),
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
    table = tables.read_columns(path, {"p1": ("p1",), "p2": ("p2",)})
    lines = table.attrs.pop("lines")
    for column in table:
        # Windows writes its own separator
        table[column] = table[column].str.replace("\\", "/")
        wrong = ~table[column].str.fullmatch(_PERSON)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise DatasetError(
                f"{path}, line {lines[row]}: {table[column][row]!r} is not a person "
                "such as F0123/MID1."
            )
    if table.empty:
        raise DatasetError(f"{path} lists no pair of people; copy it from the competition's data.")
    return table


def _sample(path: Path) -> pd.DataFrame:
    """The sample submission; ``attrs["lines"]`` holds the line of each pair."""
    names = ["img_pair", "is_related"]
    if not path.is_file():
        return pd.DataFrame(columns=names)
    table = tables.read_columns(path, {name: (name,) for name in names})
    tables.make_numbers(table, ["is_related"])
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

    Raises:
        DatasetError: none of them can be decoded.
    """
    path = settings.cache_dir() / "unreadable" / f"{dataset.fingerprint}.json"
    if not path.is_file():
        # of several programs at once, one tries the photos and the others wait
        with lock(path, work="trying the photos"):
            remove_leftovers(path)
            if not path.is_file():
                write_json(path, _problems(dataset, sizes))
    problems = read_json(path)
    unreadable.warn(problems, dataset.source or dataset.root, len(dataset.photos))
    return dataset.without_photos(problems)


def _problems(dataset: Dataset, sizes: Sequence[int]) -> dict[str, str]:
    """The photos that cannot be decoded; the others are written in some sizes on the way."""
    return _decode_readable(dataset, sizes) if sizes else unreadable_photos(dataset)


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
        NoRoomError: the disk of the cache is full.
    """
    files = _decoded_files(dataset, sizes)
    missing = {size: path for size, path in files.items() if not path.is_file()}
    # arrays that are there are only read, perhaps from where nothing can be written
    if missing:
        with _decoding(dataset):
            _write_decoded(dataset, missing, progress)
    return [np.load(files[size], mmap_mode="r") for size in sizes]


@contextlib.contextmanager
def _decoding(dataset: Dataset) -> Iterator[None]:
    """A lock on the arrays of a dataset, without what killed runs have left of them."""
    folder = _decoded_folder()
    path = folder / dataset.fingerprint
    with room_in(folder), lock(path, work="decoding the photos"):
        for leftover in folder.glob(f".{dataset.fingerprint}-*"):
            leftover.unlink()
        yield


def _write_decoded(dataset: Dataset, paths: dict[int, Path], progress: bool) -> None:
    """Write the array of each size that nobody has written meanwhile; the caller has the lock."""
    absent = {size: path for size, path in paths.items() if not path.is_file()}
    need_room(_decoded_folder(), _decoded_bytes(dataset, absent))
    with contextlib.ExitStack() as stack:
        # an array gets its final name when it is whole
        arrays = {}
        for size, path in absent.items():
            arrays[size] = _new_array(stack.enter_context(atomic(path)), dataset, size)
        problems = _decode(dataset, arrays, progress) if arrays else {}
        if problems:
            raise ImageError(next(iter(problems.values())))


def _decoded_bytes(dataset: Dataset, sizes: Iterable[int]) -> int:
    """Bytes of the arrays of all photos in some sizes: three for each pixel."""
    return len(dataset.photos) * sum(3 * size * size for size in sizes)


def _decoded_folder() -> Path:
    folder = settings.cache_dir() / "decoded"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _decoded_files(dataset: Dataset, sizes: Sequence[int]) -> dict[int, Path]:
    folder = _decoded_folder()
    return {size: folder / f"{dataset.fingerprint}-{size}.npy" for size in sizes}


def _new_array(path: Path, dataset: Dataset, size: int) -> np.ndarray:
    """A file of zeros, as a memory map: uint8 ``(photos, size, size, 3)``.

    Its room on the disk is taken at once: a full disk would end the program later (SIGBUS).
    """
    shape = (len(dataset.photos), size, size, 3)
    with open(path, "wb") as file:
        _write_header(file, shape)
        length = file.tell() + _decoded_bytes(dataset, [size])
    reserve(path, length)
    return np.load(path, mmap_mode="r+")


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """Write what stands before the values in a ``.npy`` file of bytes."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _decode_readable(dataset: Dataset, sizes: Sequence[int]) -> dict[str, str]:
    """Write what :func:`decoded` reads for the readable photos.

    Returns:
        The other photos: relative path to what is wrong.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_decoding(dataset))
        need_room(_decoded_folder(), _decoded_bytes(dataset, sizes))
        # what an array is called is known at the end only: its name has the readable photos in it
        unfinished = {
            size: stack.enter_context(temporary_file(path))
            for size, path in _decoded_files(dataset, sizes).items()
        }
        arrays = {size: _new_array(path, dataset, size) for size, path in unfinished.items()}
        problems = _decode(dataset, arrays, progress=True)
        rest = dataset.without_photos(problems)
        del arrays  # Windows cuts no file that is mapped
        for size, path in _decoded_files(rest, sizes).items():
            _finish(unfinished[size], len(rest.photos), size, path)
    return problems


def _finish(unfinished: Path, photos: int, size: int, path: Path) -> None:
    """Cut an array to the photos that were written, and give it its final name."""
    shape = (photos, size, size, 3)
    with open(unfinished, "r+b") as file:
        # as long as the one before: NumPy leaves room for longer numbers
        _write_header(file, shape)
        file.truncate(file.tell() + math.prod(shape))
    unfinished.chmod(0o644)
    unfinished.replace(path)


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
