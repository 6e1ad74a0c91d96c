"""Files that are either whole or absent: atomic writes, checksums and versions."""

import contextlib
import hashlib
import json
import os
import tempfile
import time
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

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


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there only when the block ends well.

    A killed or failed run therefore never leaves half a file under the final name.
    """
    # in the same folder: a file moves within one file system in a single step
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)

    # mkstemp lets nobody else read it; the finished file may be read by all
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
