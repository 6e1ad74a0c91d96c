"""The competition's data: the Kaggle archive or a folder, as an index; splits by exact family.

Layout::

    train/F0123/MID1/P00009_face3.jpg     family / person / photo id _ number of the face in it (may be absent)
    test/face00000.jpg
    train_relationships.csv               p1,p2: each a person such as F0123/MID1
    sample_submission.csv                 img_pair,is_related
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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import filelock
import numpy as np
import pandas as pd

from . import images, settings
from .errors import DatasetError, ImageError
from .files import atomic, read_json, sha256, write_json

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
    source = Path(source).expanduser()
    if source.is_dir():
        return _index(source)
    if source.is_file():
        folder = extract(source)
        try:
            return _index(folder)
        except DatasetError as error:
            raise DatasetError(f"{source} does not hold the competition's data: {error}") from error
    raise DatasetError(f"{source} does not exist; name the Kaggle archive or its extracted folder.")


def extract(archive: Path) -> Path:
    """Extract the archive into the cache, once for each content, and return the folder."""
    if not zipfile.is_zipfile(archive):
        raise DatasetError(f"{archive} is not a whole zip archive; download it again.")
    target = settings.cache_dir() / "extracted" / sha256(archive)[:16]
    target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{target}.lock"):
        if not target.is_dir():
            temporary = Path(tempfile.mkdtemp(dir=target.parent))
            try:
                _extract_members(archive, temporary)
                temporary.chmod(0o755)
                temporary.rename(target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return target


def _extract_members(archive: Path, target: Path) -> None:
    """Write what belongs to the layout; anything else in the archive is passed over."""
    try:
        with zipfile.ZipFile(archive) as outer:
            for name in outer.namelist():
                inner = PurePosixPath(name).name
                if inner in (RELATIONSHIPS, SAMPLE):
                    (target / inner).write_bytes(outer.read(name))
                elif inner in ("train.zip", "test.zip"):
                    with outer.open(name) as stream, zipfile.ZipFile(stream) as photos:
                        _extract_photos(photos, target, inner.removesuffix(".zip"))
            _extract_photos(outer, target, "train")
    except _BROKEN as error:
        raise DatasetError(f"{archive} is damaged ({error}); download it again.") from error


def _extract_photos(photos: zipfile.ZipFile, target: Path, kind: str) -> None:
    for info in photos.infolist():
        folder = "test" if info.filename.startswith("test/") else kind
        match = _MEMBERS[folder].fullmatch(info.filename)
        if match:
            path = target / folder / match[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photos.read(info))


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
