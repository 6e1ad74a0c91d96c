"""Where the competition's data lie among the files of an archive or a folder.

Tools put a folder around everything, write ``./`` or backslashes or upper case, unpack an archive
once or twice, and add files of their own. The names of the files decide, never their exact place.
What is given are names in the competition's layout: ``train/F0123/MID1/P00009_face3.jpg``.
"""

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DatasetError
from ..files import check_machine

RELATIONSHIPS = "train_relationships.csv"
SAMPLE = "sample_submission.csv"
KINDS = ("train", "test")
DEPTH = 8  # folders inside of each other that are searched
MOST_FILES = 300_000  # that a folder is searched for
ENDING = r"\.(?:jpe?g|jpe|jfif|png|webp|bmp|tiff?|heic|heif|avif)"  # of a photo, in any case
EXAMPLE = "F0123/MID1/P00009_face3.jpg"
_FAMILY, _MEMBER = re.compile(r"[Ff]\d{4}"), re.compile(r"(?i:mid)\d+")
_TRAIN_PHOTO = re.compile(rf"P(\d+)_face(\d*){ENDING}", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:")
_TEST_PHOTO = re.compile(rf"face(\d+){ENDING}", re.IGNORECASE)

Parts = tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """What was found: each name of the competition's layout, with the name it really has.

    Attributes:
        photos: by kind (``train``, ``test``): layout's name to real name.
        tables: the same for the two CSV files; a real name may end in ``.csv.zip``.
        packed: real names of ``train.zip`` and ``test.zip`` by kind, where the photos of a kind
            lie in such an archive alone.
        in_sample: names of test photos that the sample submission uses.
    """

    photos: dict[str, dict[str, str]]
    tables: dict[str, str]
    packed: dict[str, str]
    in_sample: frozenset[str]


def find(
    source: str | Path, names: list[str], tables: dict[str, str], in_sample: frozenset[str]
) -> Layout:
    """Where everything lies.

    Args:
        source: what messages call the archive or the folder.
        names: its files.
        tables: its CSV files, from :func:`find_tables`.
        in_sample: names of test photos that the sample submission uses, from :func:`names_in`.

    Raises:
        DatasetError: no training photos, no list of kin, or photos in two folders.
    """
    # the photos, or the archives that they come in
    photos, packed = {}, {}
    for kind in KINDS:
        photos[kind] = find_photos(source, names, kind, in_sample)
        if not photos[kind] and (archive := _shallowest(source, names, f"{kind}.zip")):
            packed[kind] = archive
    if not photos["train"] and "train" not in packed:
        raise DatasetError(_no_photos(source, names))
    if RELATIONSHIPS not in tables:
        raise DatasetError(_no_relationships(source, names))
    return Layout(photos, tables, packed, in_sample)


def find_tables(source: str | Path, names: list[str]) -> dict[str, str]:
    """The real names of the two CSV files, by the layout's; a table that is not there is left out.

    They lie beside the training photos, or in a folder around them. One that lies elsewhere may
    belong to other data.

    Args:
        source: what messages call the archive or the folder.
        names: its files.

    Raises:
        DatasetError: two of one name in the same folder.
    """
    photos = find_photos(source, names, "train", frozenset())
    packed = None if photos else _shallowest(source, names, "train.zip")
    photo = next(iter(photos.values()), None)
    home = split(photo)[:-3] if photo else split(packed)[:-1] if packed else ()
    # only what lies in one of the folders around the photos
    around = []
    for name in names:
        folder = split(name)[:-1]
        if folder == home[: len(folder)]:
            around.append(name)
    tables = {}
    for table in (RELATIONSHIPS, SAMPLE):
        # a browser may have downloaded it in an archive of its own
        places = [_shallowest(source, around, f"{table}{ending}") for ending in ("", ".zip")]
        real = [name for name in places if name]
        if real:
            tables[table] = min(real, key=lambda name: len(split(name)))
    return tables


def names_in(sample: bytes) -> frozenset[str]:
    """The names of photos in the text of a sample submission, in UTF-8 or UTF-16."""
    text = sample.replace(b"\0", b"").decode("ascii", errors="replace")
    return frozenset(re.findall(r"face\d+\.\w+", text, re.IGNORECASE))


def split(name: str) -> Parts:
    """The parts of a file's name; none of a name that leads elsewhere, or of a hidden file."""
    name = name.replace("\\", "/")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or _DRIVE.match(name) or "__MACOSX" in parts:
        return ()
    return () if any(part.startswith(".") for part in parts) else parts


def find_photos(
    source: str | Path,
    names: Iterable[str],
    kind: str,
    in_sample: frozenset[str],
    whole: bool = False,
) -> dict[str, str]:
    """The photos of a kind: name in the layout to real name. All lie below one folder.

    Args:
        source: what messages call the archive or the folder.
        names: its files.
        kind: ``train`` or ``test``.
        in_sample: names of test photos that the sample submission uses.
        whole: the archive holds photos of this kind alone; they need no folder of that name.

    Raises:
        DatasetError: two folders may be meant.
    """
    # the photos of each folder, with their names below it
    folders: dict[Parts, list[tuple[str, str]]] = {}
    for name in names:
        parts = split(name)
        photo = _train_photo(parts) if kind == "train" else _test_photo(parts, in_sample)
        if photo:
            above = parts[:-3] if kind == "train" else parts[:-1]
            folders.setdefault(above, []).append((f"{kind}/{photo}", name))
    if kind == "test" and not whole:
        folders = {above: files for above, files in folders.items() if _is_named(above, kind)}
    if not folders:
        return {}
    # a name that is exactly so comes before one that had to be changed
    files = folders[_nearest(source, list(folders), kind)]
    photos: dict[str, str] = {}
    for photo, name in sorted(files, key=lambda file: (not file[1].endswith(file[0]), file)):
        place = photo if photo not in photos else f"{photo.rsplit('/', 1)[0]}/{split(name)[-1]}"
        photos.setdefault(place, name)
    return photos


def _train_photo(parts: Parts) -> str | None:
    """The name of a training photo below ``train/``; None of another file."""
    if len(parts) < 3 or not _FAMILY.fullmatch(parts[-3]) or not _MEMBER.fullmatch(parts[-2]):
        return None
    match = _TRAIN_PHOTO.fullmatch(parts[-1])
    if not match:
        return None
    return f"{parts[-3].upper()}/{parts[-2].upper()}/P{match[1]}_face{match[2]}.jpg"


def _test_photo(parts: Parts, in_sample: frozenset[str]) -> str | None:
    """The name of a test photo, as the sample submission has it; None of another file."""
    match = _TEST_PHOTO.fullmatch(parts[-1]) if parts else None
    if not match:
        return None
    return parts[-1] if parts[-1] in in_sample else f"face{match[1]}.jpg"


def _is_named(folder: Parts, kind: str) -> bool:
    return bool(folder) and folder[-1].lower().startswith(kind)


def _nearest(source: str | Path, folders: list[Parts], kind: str) -> Parts:
    """The one of several folders that is meant: the nearest, or the one with exactly the name."""

    def rank(folder: Parts) -> tuple[int, bool, int]:
        # folders of this name inside of each other count as one: train/train/
        outer = folder
        while _is_named(outer, kind):
            outer = outer[:-1]
        return len(outer), folder[-1:] != (kind,), len(folder)

    first, *others = sorted(folders, key=rank)
    if others and rank(others[0]) == rank(first):
        raise DatasetError(
            f"{source} holds photos of {kind} in two folders, {'/'.join(first)} and "
            f"{'/'.join(others[0])}; leave one of them."
        )
    return first


def _shallowest(source: str | Path, names: list[str], name: str) -> str | None:
    """The real name of the file of this name in the fewest folders; None: there is none."""
    # in how many folders each file of this name lies
    depths = {}
    for real in names:
        parts = split(real) if real.lower().endswith(name) else ()
        if parts and parts[-1].lower() == name:
            depths[real] = len(parts)
    if not depths:
        return None
    least = min(depths.values())
    nearest = [real for real, depth in depths.items() if depth == least]
    if len(nearest) > 1:
        raise DatasetError(
            f"{source} holds {nearest[0]} and {nearest[1]}, and nothing tells which one is meant; "
            "leave one of them."
        )
    return nearest[0]


def _no_photos(source: str | Path, names: list[str]) -> str:
    """Why there are no training photos: no folder for them, or nothing in it."""
    found = f"Found: {summary(names)}."
    # a folder of the right name with other files, or with none
    for name in names:
        for number, part in enumerate(split(name)[:-1], start=1):
            if part.lower() == "train":
                folder = "/".join(split(name)[:number])
                return f"{source}/{folder} holds no photo such as {EXAMPLE}. {found}"
    if Path(source, "train").is_dir():
        return f"{source}/train holds no photo such as {EXAMPLE}. {found}"
    return (
        f"{source} has no folder train/; name the folder that holds train/ and {RELATIONSHIPS}, "
        f"or the archive of it. {found}"
    )


def _no_relationships(source: str | Path, names: list[str]) -> str:
    """That the list of kin is missing, and where one is that was not taken."""
    missing = f"{source}/{RELATIONSHIPS} is missing"
    if Path(source).with_name(RELATIONSHIPS).is_file():
        return f"{missing}; name the folder that holds both: {Path(source).parent}."
    elsewhere = _shallowest(source, names, RELATIONSHIPS)
    if elsewhere:
        return f"{missing}; {elsewhere} may belong to other data: copy it there if it does not."
    return f"{missing}; copy it from the competition's data. Found: {summary(names)}."


def summary(names: Iterable[str], most: int = 6) -> str:
    """The first names of the files, or of the folders that they lie in, as one line."""
    firsts: dict[str, None] = {}
    for name in names:
        first, slash, _ = name.replace("\\", "/").removeprefix("./").partition("/")
        firsts[f"{first}{slash}"] = None
    shown = list(firsts)[:most]
    if len(firsts) > most:
        shown.append(f"and {len(firsts) - most} more")
    return ", ".join(shown) or "nothing"


def files_below(folder: Path) -> list[str]:
    """The files of a folder and of the folders in it, relative to it, in order.

    Raises:
        DatasetError: there are so many that it cannot be a data set.
        StorageError: a folder in it may not be read.
    """
    # one more than allowed tells that there are too many
    try:
        names = list(itertools.islice(_walk(folder, "", DEPTH), MOST_FILES + 1))
    except OSError as error:
        check_machine(error, error.filename or folder)
        raise
    if len(names) > MOST_FILES:
        raise DatasetError(
            f"{folder} holds more than {MOST_FILES} files; name the folder in it that holds "
            f"train/ and {RELATIONSHIPS}."
        )
    return names


def _walk(folder: Path, above: str, depth: int) -> Iterator[str]:
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        # hidden folders are those of tools, and the last one is the system's on each disk
        if entry.name.startswith(".") or entry.name in ("__MACOSX", "lost+found"):
            continue
        if not entry.is_dir():
            yield above + entry.name
        elif depth:
            yield from _walk(Path(entry.path), f"{above}{entry.name}/", depth - 1)
