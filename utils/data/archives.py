"""Zip archives, extracted once into the cache; what is none, or cannot be opened, is named."""

import contextlib
import lzma
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from .. import settings
from ..errors import DatasetError
from ..files import atomic_folder, check_machine, lock, sha256

# What zipfile raises on broken content, found by feeding it such archives.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
)
_ENCRYPTED = 0x1  # bit of a member's flags
_COMPRESSIONS = {
    6: "Implode",
    9: "Deflate64",
    93: "Zstandard",
    95: "XZ",
    97: "WavPack",
    98: "PPMd",
}
_AES = 99  # number of a compression that says: encrypted with AES
_UNPACK = "Unpack it with the program that made it, and name the folder."
_DOWNLOAD = "Download it again."
# How files start that are taken for a zip archive, what they are, and what to do.
_FOREIGN = {
    b"\x1f\x8b": ("an archive packed with gzip (.tar.gz)", _UNPACK),
    b"BZh": ("an archive packed with bzip2 (.tar.bz2)", _UNPACK),
    b"\xfd7zXZ": ("an archive packed with xz (.tar.xz)", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("an archive packed with Zstandard (.tar.zst)", _UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", _UNPACK),
    b"Rar!": ("a RAR archive", _UNPACK),
    b"version https://git-lfs": ("a pointer of Git LFS", "Fetch the file itself: git lfs pull."),
    b"<": ("a web page", "Log in where you download it, and download it again."),
}
_TAR = b"ustar"  # stands at byte 257
_SPLIT = "Join all its parts into one archive, or unpack it and name the folder."
_FIRST_PART = b"PK\x07\x08"
_PART_ENDING = tuple(f".{kind}{number:02}" for kind in ("z", "0") for number in range(1, 100))
_END = struct.Struct("<4s4H2LH")  # the end of central directory record
_LONGEST_COMMENT = 1 << 16
_ZIP64 = 0xFFFFFFFF  # stands for a number that is told elsewhere


def extract_once(
    archive: Path,
    suffix: str,
    write: Callable[[zipfile.ZipFile, Path], None],
    holds: str = "*",
) -> Path:
    """Extract an archive into the cache, once for each content.

    Args:
        archive: the zip archive.
        suffix: stands behind the folder's name: an archive that is read as data of two kinds has
            two folders.
        write: writes the members that are needed to a folder.
        holds: a name or pattern that is in the folder when it was filled.

    Returns:
        The folder that was filled, now or in an earlier call.

    Raises:
        DatasetError: the archive is not whole, is damaged, or is of a kind that cannot be read.
        NoRoomError: the cache has no room.
    """
    check_kind(archive)
    # the same content has the same folder, whatever the archive is called
    target = settings.cache_dir() / "extracted" / f"{sha256(archive)[:16]}{suffix}"
    # of several programs at once, one extracts and the others wait
    with lock(target, work=f"extracting {archive}"):
        if any(target.glob(holds)):
            return target
        if target.is_dir():
            # an earlier version found nothing in this archive, and kept that
            shutil.rmtree(target)
        with open_zip(archive) as members, atomic_folder(target, _size(members)) as folder:
            write(members, folder)
    return target


def _size(archive: zipfile.ZipFile) -> int:
    """Bytes of all members when they are unpacked."""
    return sum(info.file_size for info in archive.infolist())


def check_kind(path: Path) -> None:
    """DatasetError for a file that is no zip archive, or a part of one; it says what it is."""
    try:
        with open(path, "rb") as file:
            start = file.read(512)
            file.seek(0, os.SEEK_END)
            length = file.tell()
            file.seek(max(0, length - _END.size - _LONGEST_COMMENT))
            end = file.read()
    except OSError as error:
        check_machine(error, path)
        raise DatasetError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    if not length:
        raise DatasetError(f"{path} is empty, not a whole zip archive; download it again.")
    # a whole archive ends in a record that says where its list of members begins
    place = end.rfind(b"PK\x05\x06")
    if place < 0 or len(end) < place + _END.size:
        raise DatasetError(f"{path} is not a whole zip archive{_foreign(path, start)}")
    _, disk, _, _, _, size, offset, _ = _END.unpack_from(end, place)
    records = length - len(end) + place
    if 0 < disk < 0xFFFF or (_ZIP64 not in (size, offset) and size + offset > records):
        raise DatasetError(f"{path} is the last part of a split zip archive. {_SPLIT}")


def _foreign(path: Path, start: bytes) -> str:
    """The rest of the sentence about a file that is no whole zip archive."""
    if start.startswith(_FIRST_PART) or path.name.lower().endswith(_PART_ENDING):
        return f": it is a part of a split one. {_SPLIT}"
    if path.name.lower().endswith(".csv"):
        return ": it is a table. Name the folder that it lies in."
    if start[257:262] == _TAR:
        return f": it is a tar archive. {_UNPACK}"
    for signature, (kind, advice) in _FOREIGN.items():
        if start.lstrip().startswith(signature):
            return f": it is {kind}. {advice}"
    # the list of members stands at the end, which half a download lacks
    return "; download it again."


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open an archive.

    Raises:
        DatasetError: it is damaged.
    """
    try:
        return zipfile.ZipFile(path)
    except ZIP_ERRORS as error:
        check_machine(error, path)
        raise DatasetError(_damaged(path, error)) from error


@contextlib.contextmanager
def open_inner(archive: zipfile.ZipFile, name: str) -> Iterator[zipfile.ZipFile]:
    """Open an archive that is a member of another, without writing it anywhere.

    Raises:
        DatasetError: it is damaged, encrypted, or compressed in a way that cannot be read.
    """
    info = archive.getinfo(name)
    try:
        stream = archive.open(info)
        inner = zipfile.ZipFile(stream)
    except ZIP_ERRORS as error:
        raise _refusal(archive, info, error) from error
    # what messages call it
    inner.filename = f"{archive.filename}/{name}"
    with stream, inner:
        yield inner


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The content of a member.

    Raises:
        DatasetError: it is damaged, encrypted, or compressed in a way that cannot be read.
    """
    info = archive.getinfo(name)
    try:
        return archive.read(info)
    except ZIP_ERRORS as error:
        raise _refusal(archive, info, error) from error


def write_member(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    """Write a member of an archive to a path.

    Args:
        archive: the archive.
        name: of the member.
        path: the file to write.

    Raises:
        DatasetError: it is damaged, encrypted, or compressed in a way that cannot be read.
    """
    # reading and writing fail for different causes
    content = read_member(archive, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _refusal(archive: zipfile.ZipFile, info: zipfile.ZipInfo, error: Exception) -> DatasetError:
    """Why a member cannot be read, which is not always that it is damaged."""
    path = archive.filename or info.filename
    check_machine(error, path)
    if info.flag_bits & _ENCRYPTED or info.compress_type == _AES:
        return DatasetError(f"{path} is protected by a password. {_UNPACK}")
    if isinstance(error, NotImplementedError):
        number = info.compress_type
        name = _COMPRESSIONS.get(number, f"number {number}")
        return DatasetError(f"{path} uses the compression {name}, which Python lacks. {_UNPACK}")
    return DatasetError(_damaged(path, error))


def _damaged(path: str | Path, error: Exception) -> str:
    return f"{path} is damaged ({error}); download it again."
