"""The folder of the competition's data, whatever archive or folder the user has of them.

An archive is extracted into the cache. A folder in another form than the competition's gets a
folder of links to it in the cache: nothing is written to the user's, which may be read-only.
"""

import functools
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .. import settings
from ..errors import DatasetError
from ..files import atomic_folder, check_machine, is_no_room, lock
from . import archives, layout

Index = TypeVar("Index")


def open_source(
    source: str | Path,
    archive: str,
    content: str,
    extract: Callable[[Path], Path],
    locate: Callable[[Path], Path],
    index: Callable[[Path], Index],
) -> Index:
    """The index of a folder, or of the folder that an archive is extracted to.

    Args:
        source: the archive or the folder.
        archive: what messages call the archive.
        content: what messages call the data in it.
        extract: gives the folder of an archive.
        locate: gives the folder with the layout that ``index`` reads, of the user's folder.
        index: gives the index of a folder.

    Returns:
        What ``index`` returns.

    Raises:
        DatasetError: the source does not exist or does not hold the data.
    """
    source = Path(source).expanduser()
    if source.is_dir():
        root = locate(source)
    elif source.is_file():
        root = extract(source)
    else:
        raise DatasetError(f"{source} does not exist; name {archive} or its extracted folder.")
    # a message should name what the user named, and no folder in the cache
    try:
        return index(root)
    except DatasetError as error:
        message = str(error)
        if root.is_relative_to(settings.cache_dir()):
            message = message.replace(str(root), str(source))
        if not source.is_dir():
            message = f"{source} does not hold {content}: {message}"
        raise DatasetError(message) from error


# --- an archive of the competition --------------------------------------------------------------


def extract_kaggle(archive: Path) -> Path:
    """The folder in the cache with the content of an archive."""
    write = functools.partial(_write_kaggle, archive)
    return archives.extract_once(archive, "", write, holds="train")


def _write_kaggle(source: Path, outer: zipfile.ZipFile, target: Path) -> None:
    """Write what belongs to the layout; anything else in the archive is passed over."""
    names = [info.filename for info in outer.infolist() if not info.is_dir()]
    # where everything is, before anything is written
    tables = layout.find_tables(source, names)
    in_sample = _in_sample(tables, functools.partial(_member_table, outer))
    try:
        found = layout.find(source, names, tables, in_sample)
    except DatasetError as error:
        raise DatasetError(f"{source} does not hold the competition's data: {error}") from error
    for table, name in found.tables.items():
        (target / table).write_bytes(_member_table(outer, name))
    for kind in layout.KINDS:
        if kind in found.packed:
            with archives.open_inner(outer, found.packed[kind]) as inner:
                _write_packed(kind, found.in_sample, inner, target)
        else:
            _write_photos(outer, found.photos[kind], target)


def _in_sample(tables: dict[str, str], read: Callable[[str], bytes]) -> frozenset[str]:
    """Names of the test photos that the sample submission uses, where there is one."""
    if layout.SAMPLE not in tables:
        return frozenset()
    return layout.names_in(read(tables[layout.SAMPLE]))


def _member_table(archive: zipfile.ZipFile, name: str) -> bytes:
    return _unpacked(archives.read_member(archive, name), f"{archive.filename}/{name}")


def _unpacked(content: bytes, name: str) -> bytes:
    """The content of a CSV file, which may be the only file of an archive."""
    if not name.lower().endswith(".zip"):
        return content
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [info for info in archive.infolist() if layout.split(info.filename)]
            return archive.read(members[0]) if members else b""
    except archives.ZIP_ERRORS as error:
        raise DatasetError(f"{name} is damaged ({error}); download it again.") from error


def _write_packed(
    kind: str, in_sample: frozenset[str], inner: zipfile.ZipFile, target: Path
) -> None:
    """Write the photos of ``train.zip`` or ``test.zip``."""
    name = inner.filename or f"{kind}.zip"
    names = [info.filename for info in inner.infolist() if not info.is_dir()]
    photos = layout.find_photos(name, names, kind, in_sample, whole=True)
    if not photos and kind == "train":
        raise DatasetError(
            f"{name} holds no photo such as {layout.EXAMPLE}. Found: {layout.summary(names)}."
        )
    _write_photos(inner, photos, target)


def _write_photos(archive: zipfile.ZipFile, photos: dict[str, str], target: Path) -> None:
    # in the order of the archive: a compressed archive inside of another is read forwards only
    ordered = sorted(photos.items(), key=lambda photo: archive.getinfo(photo[1]).header_offset)
    for place, name in ordered:
        archives.write_member(archive, name, target / place)


# --- a folder of the competition ----------------------------------------------------------------


def locate_kaggle(folder: Path) -> Path:
    """The folder in the competition's layout: the user's, one in it, or one of links to it."""

    def read(name: str) -> bytes:
        try:
            return _unpacked((folder / name).read_bytes(), f"{folder}/{name}")
        except OSError as error:
            check_machine(error, folder / name)
            raise DatasetError(f"{folder}/{name} cannot be read ({error.strerror}).") from error

    # the user's own folder serves where every name is the layout's
    files = layout.files_below(folder)
    # or it holds the archive alone, as the download left it
    alone = files[0].lower() if len(files) == 1 else ""
    if alone.endswith(".zip") and alone not in ("train.zip", "test.zip"):
        return extract_kaggle(folder / files[0])
    tables = layout.find_tables(folder, files)
    found = layout.find(folder, files, tables, _in_sample(tables, read))
    above = found.tables[layout.RELATIONSHIPS].removesuffix(layout.RELATIONSHIPS)
    names = found.tables | found.photos["train"] | found.photos["test"]
    if not found.packed and all(name == above + place for place, name in names.items()):
        return folder / above
    return linked(folder, _links(folder, found))


def _links(folder: Path, found: layout.Layout) -> dict[str, str]:
    """What stands for each name of the layout: absolute paths."""
    # an archive in the folder is extracted, and the link leads there
    links = {}
    for table, name in found.tables.items():
        links[table] = folder / name
        if name.lower().endswith(".zip"):
            write = functools.partial(_write_table, table)
            links[table] = archives.extract_once(folder / name, f"-{table}", write) / table
    for kind in layout.KINDS:
        if kind in found.packed:
            packed = functools.partial(_write_packed, kind, found.in_sample)
            archive = folder / found.packed[kind]
            extracted = archives.extract_once(archive, f"-{kind}", packed) / kind
            # an archive may hold no test photo
            links |= {kind: extracted} if extracted.is_dir() else {}
        elif base := _common_folder(kind, found.photos[kind]):
            links[kind] = folder / base
        else:
            links |= {place: folder / name for place, name in found.photos[kind].items()}
    return {place: str(path.absolute()) for place, path in links.items()}


def _write_table(table: str, archive: zipfile.ZipFile, target: Path) -> None:
    names = [info.filename for info in archive.infolist() if layout.split(info.filename)]
    (target / table).write_bytes(archives.read_member(archive, names[0]) if names else b"")


def _common_folder(kind: str, photos: dict[str, str]) -> str | None:
    """The folder whose photos have the layout's names; None: some have other names."""
    bases = set()
    for place, name in photos.items():
        rest = place.removeprefix(f"{kind}/")
        bases.add(name.removesuffix(rest) if name.endswith(f"/{rest}") else None)
    return bases.pop() if len(bases) == 1 else None


def linked(folder: Path, links: dict[str, str]) -> Path:
    """A folder in the cache with links to the user's folder, made once.

    Args:
        folder: the user's.
        links: where each link stands in the folder of the cache, and the path that it leads to.

    Raises:
        DatasetError: this system makes no links.
        NoRoomError: the cache has no room.
    """
    content = json.dumps(links, sort_keys=True)
    name = hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    # whoever comes second finds it finished
    target = settings.cache_dir() / "linked" / name
    with lock(target, work="linking the photos"):
        if target.is_dir():
            return target
        try:
            with atomic_folder(target) as temporary:
                for place, path in links.items():
                    (temporary / place).parent.mkdir(parents=True, exist_ok=True)
                    (temporary / place).symlink_to(path)
        except OSError as error:
            if is_no_room(error):
                raise
            raise DatasetError(
                f"{folder} has another layout than is read here, and this system makes no links "
                f"to it ({error.strerror}); move its files to {layout.summary(links)}."
            ) from error
    return target
