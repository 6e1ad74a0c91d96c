"""Files that are either whole or absent: atomic writes, room for them, checksums and versions."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from . import settings
from .errors import BusyError, NoRoomError, StorageError

# What NumPy raises on a broken or foreign .npz file, collected by giving it such files.
NPZ_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
)

# Clocks of file systems are coarse: a file that was written less than these seconds ago may change
# once more without a new time of change.
SETTLED = 2.0

# What the system says of a full disk, and of a user's full share of it.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# How libraries tell it that do not pass the number on: NumPy's tofile, and HDF5.
NO_ROOM_TEXT = re.compile(r"\d+ requested and \d+ written|No space left|quota exceeded")
# System errors that speak of the path or of the content, which points before its own start.
OF_THE_FILE = (None, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EINVAL)
ZEROS = bytes(1 << 20)  # written at a time where room cannot be reserved

LEAST_ROOM = 100_000  # bytes: what any output may take, however small it is
# What the longest name adds that stands beside a file while it is written: a dot before it, and
# behind it the eight characters of a temporary file, or ``-once.lock``.
BESIDE = 11
PATIENCE = 1.0  # seconds that a program waits for a lock before it says so


# --- room and the machine -----------------------------------------------------------------------


def free_room(folder: str | Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet."""
    return shutil.disk_usage(_existing(Path(folder))).free


def _existing(path: Path) -> Path:
    """The path, or what is there of those above it."""
    path = path.absolute()
    while not os.path.exists(path):
        path = path.parent
    return path


def need_room(folder: str | Path, size: int) -> None:
    """Check that a folder has room, before long work whose result goes there.

    Args:
        folder: it need not exist yet.
        size: bytes that will be written.

    Raises:
        NoRoomError: it has not; the message has both numbers and names another place.
    """
    if size > free_room(folder):
        raise NoRoomError(_no_room(Path(folder), size))


def check_output(path: str | Path, size: int = LEAST_ROOM) -> None:
    """Check that a file or folder can be written, before long work whose result goes there.

    Args:
        path: what will be written; neither it nor the folders above need exist yet.
        size: bytes that it takes at least.

    Raises:
        StorageError: its name is too long, it is a device, or its folder cannot be written.
        NoRoomError: there is no room.
    """
    path = Path(path)
    # unlike a Path's own methods, those of os.path take names of any length
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise StorageError(
            f"{path} is a device or a pipe, and a file is moved into its place when it is whole: "
            "name another output."
        )
    # the folder that is there already, in which the output and the folders above it are made
    folder = path if os.path.isdir(path) else path.parent
    top = _existing(folder)
    if not top.is_dir():
        raise StorageError(
            f"{top} is a file, so nothing can be written in it: name another output."
        )
    _check_names(top, path)
    if not os.access(top, os.W_OK | os.X_OK):
        raise StorageError(
            f"{path} cannot be written, as nothing can be changed in {top}: name another output."
        )
    need_room(folder, size)


def _check_names(top: Path, path: Path) -> None:
    """Raise StorageError for names below a folder that is there: too long, or of dead links."""
    longest = os.pathconf(top, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    names = path.absolute().relative_to(top).parts
    if names and not os.path.exists(top / names[0]) and os.path.islink(top / names[0]):
        raise StorageError(f"{top / names[0]} is a link that leads nowhere: name another output.")
    for name in names:
        if len(os.fsencode(name)) + BESIDE > longest:
            raise StorageError(
                f"The name {name} is too long for a file in {top}: take one of "
                f"{longest - BESIDE} bytes at most."
            )


@contextlib.contextmanager
def room_in(folder: str | Path, size: int = 0) -> Iterator[None]:
    """Tell a full disk as one sentence, where the block writes to a folder.

    Args:
        folder: where the block writes.
        size: bytes that it writes, which are looked for beforehand; 0: unknown.

    Raises:
        NoRoomError: there is no room.
    """
    need_room(folder, size)
    try:
        yield
    except OSError as error:
        if not is_no_room(error):
            raise
        raise NoRoomError(_no_room(Path(folder), size)) from error


def is_no_room(error: BaseException) -> bool:
    """Whether an error means that a disk is full."""
    if not isinstance(error, OSError):
        return False
    return error.errno in NO_ROOM or bool(NO_ROOM_TEXT.search(str(error)))


def _no_room(folder: Path, size: int) -> str:
    """What a user is told of a full disk: where, how much is needed and free, and what to do."""
    free = free_room(folder) / 1e6
    # one digit, or two where one does not show the difference
    digits = 2 if f"{size / 1e6:.1f}" == f"{free:.1f}" else 1
    # a share may be full on a disk that is not
    needed = f"{size / 1e6:.{digits}f} MB are needed" if size else "more is needed"
    free_now = f"{free:.{digits}f} MB are free"
    text = f"There is no room in {folder}: {needed}, {free_now}. Make room there, or "
    for variable, place in settings.folders().items():
        if folder.absolute().is_relative_to(place.absolute()):
            return f"{text}name a folder on another disk in {variable}."
    return f"{text}name an output on another disk (--out)."


def check_machine(error: BaseException, path: str | Path) -> None:
    """Raise the true cause where a file cannot be read for a reason that is not in the file.

    Call it first wherever an error is about to be told as "the file is damaged".

    Args:
        error: what reading the file raised.
        path: the file.

    Raises:
        NoRoomError: a disk is full.
        StorageError: no permission, a failing disk, too many open files, no memory.
    """
    if is_no_room(error):
        raise NoRoomError(_no_room(Path(path).parent, 0)) from error
    if isinstance(error, MemoryError):
        raise StorageError(
            f"{path} cannot be read: the memory of this machine does not suffice. Close other "
            "programs, and run the command again."
        ) from error
    if isinstance(error, OSError) and error.errno not in OF_THE_FILE:
        raise StorageError(
            f"{path} cannot be read ({error.strerror}), and may well be whole. Check its "
            "permissions and its disk, and run the command again."
        ) from error


def reserve(path: str | Path, size: int) -> None:
    """Give a file its whole length on the disk: writing to it later cannot run out of room.

    A file with holes would end the program (SIGBUS) when it is written through a memory map and
    the disk is full. What the file holds stays; what is new are zeros.

    Args:
        path: the file; it is made if it does not exist.
        size: its length in bytes.

    Raises:
        NoRoomError: the disk is full.
    """
    path = Path(path)
    with room_in(path.parent, size), open(path, "ab") as file:
        # macOS and Windows cannot reserve, and some network disks refuse to
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, size)
                return
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise
        rest = size - file.tell()
        while rest > 0:
            rest -= file.write(ZEROS[:rest])


# --- atomic writes ------------------------------------------------------------------------------


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there only when the block ends well.

    A killed or failed run therefore never leaves half a file under the final name.

    Raises:
        NoRoomError: the disk is full.
    """
    # in the same folder: a file moves within one file system in a single step
    path = Path(path)
    with room_in(path.parent), temporary_file(path) as temporary:
        yield temporary
        # mkstemp lets nobody else read it; the finished file may be read by all
        temporary.chmod(0o644)
        os.replace(temporary, path)


@contextlib.contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """Yield an empty file beside ``path``; it is removed afterwards, unless it was moved."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | Path, size: int = 0) -> Iterator[Path]:
    """Yield an empty folder beside ``path``; give it that name only when the block ends well.

    Call it with a lock on ``path``: what killed runs have left there is removed first.

    Args:
        path: the folder to make; it must not exist.
        size: bytes that will be written, as far as they are known; 0: unknown.

    Raises:
        NoRoomError: the disk is full.
    """
    path = Path(path)
    remove_leftovers(path)
    with room_in(path.parent, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
        # mkdtemp lets nobody else in; the finished folder may be read by all
        try:
            yield temporary
            temporary.chmod(0o755)
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def lock(
    path: str | Path, busy: str | None = None, work: str = "writing the same files"
) -> Iterator[None]:
    """Keep other programs away from a file or folder while the block writes it.

    A program that waits for longer than a second says in one line who is at it.

    The lock is a hidden file beside ``path``, and is gone afterwards; that of a killed program
    holds nobody up.

    Args:
        path: what is written.
        busy: what a second program is told, which then ends; ``{owner}`` stands for the first
            one. None: it waits.
        work: what a program that waits says that the first one is doing.

    Raises:
        BusyError: another program has the lock, and ``busy`` is given.
    """
    path = Path(path)
    with room_in(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.lock")
    guard = filelock.FileLock(file)
    try:
        guard.acquire(timeout=PATIENCE if busy is None else 0)
    except filelock.Timeout as error:
        if busy is not None:
            raise BusyError(busy.replace("{owner}", _owner(file))) from error
        _say_who_is_waited_for(_owner(file), work)
        guard.acquire()
    try:
        with contextlib.suppress(OSError):  # a full disk has no room for the number
            file.write_text(f"{os.getpid()}", encoding="ascii")
        yield
    finally:
        # while it is locked: who waits for it takes a new file
        with contextlib.suppress(OSError):  # Windows removes no open file
            file.unlink()
        guard.release()


def _say_who_is_waited_for(owner: str, work: str) -> None:
    """One line on the stream of errors; what cannot be written there changes nothing."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # full, closed, or without these letters
            print(f"Waiting: {owner} is {work} …", file=sys.stderr, flush=True)


def _owner(file: Path) -> str:
    """The number of the process that holds a lock, as a user looks for it."""
    try:
        return f"process {int(file.read_text(encoding='ascii'))}"
    except (OSError, ValueError):  # just gone, or just begun
        return "another process"


def remove_leftovers(path: str | Path) -> None:
    """Remove what killed runs of :func:`atomic` and :func:`atomic_folder` have left of ``path``.

    Call it with a lock on ``path``: then no living program owns them.

    Args:
        path: the file or folder that was to be made.
    """
    path = Path(path)
    # eight characters that tempfile draws: .NAME-dhr3_k2a, or for a file .STEM-dhr3_k2a.SUFFIX
    stem, name, suffix = map(re.escape, (path.stem, path.name, path.suffix))
    names = re.compile(rf"\.({name}-[a-z0-9_]{{8}}|{stem}-[a-z0-9_]{{8}}{suffix})")
    leftovers = [entry for entry in path.parent.glob(".*") if names.fullmatch(entry.name)]
    for leftover in leftovers:
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 ``text`` atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write ``content`` atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: str | Path, content: object) -> None:
    """Write ``content`` as indented JSON, atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: str | Path) -> dict:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's content, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def version(path: Path) -> tuple[int, ...]:
    """What tells the content of a file from an earlier one without reading it: a key for caches.

    A file that has just changed gets a key that no other call gives.
    """
    stat = path.stat()
    settled = time.time() - stat.st_mtime > SETTLED
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, 0 if settled else time.monotonic_ns()
