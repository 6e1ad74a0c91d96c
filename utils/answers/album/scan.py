"""A folder of photos, walked once: the faces of each photo, found, embedded and kept."""

import hashlib
import io
import os
import re
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from ... import images
from ...errors import AlbumError, ImageError, StorageError
from ...faces import alignment, conditions, detection
from ...faces.backbones import Backbone
from ...faces.detection import Face
from ...files import SETTLED, read_json, write_json
from ...scoring.metrics import normalise
from ...training.ensemble import Ensemble, resized
from .store import PhotoFaces, Store

SEEN = "seen.json"  # which content each file had: what did not change is not read again
# Of the detector. Of 160 training photos of the competition 2 have a face below it; in 19 ordinary
# photographs the two "faces" below it were none.
LEAST_CONFIDENCE = 0.9
PICTURE_SIDE, PICTURE_QUALITY = 96, 80  # of the faces on the page
AHEAD = 4  # photos that are decoded while others are searched
BATCH_PHOTOS, BATCH_PIXELS = 16, 24_000_000  # held and searched at once: 72 MB
# Where cameras write the day: an IFD, and the tags that are looked at in this order.
EXIF_IFD, TAKEN_TAGS, CHANGED_TAG = 0x8769, (0x9003, 0x9004), 0x0132
Progress = bool | Callable[[int, int], None]  # a bar, or what is told of photos done and all
DAY = re.compile(r"(\d{4})[:\-/.](\d{2})[:\-/.](\d{2})")


@dataclass(frozen=True)
class Networks:
    """What looks at faces.

    Attributes:
        identity: an encoder as it was published, which tells people apart.
        kinship: the kinship model.
    """

    identity: Backbone
    kinship: Ensemble

    @property
    def fingerprint(self) -> str:
        """Names what determines an embedding: that of other networks cannot be compared."""
        facts = self.kinship.facts
        parts = [self.identity.fingerprint, *facts["fingerprints"], facts["version"]]
        parts += [str(facts["weights"]), str(facts["logistic"]), facts["name"]]
        digest = hashlib.sha256(" ".join(parts).encode()).hexdigest()
        return f"{self.identity.name}-{digest[:12]}"


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo of the album.

    Attributes:
        names: of the files with this content, from the folder on, sorted; the first names it.
        faces: what was found in it.
    """

    names: tuple[str, ...]
    faces: PhotoFaces


@dataclass(frozen=True, eq=False)
class Scan:
    """A folder as it was found.

    Attributes:
        photos: by the order of their first names.
        problems: a sentence for each file or folder that could not be used.
        searched: how many photos were searched in this run; the others were known.
        known: all that the store has, also of photos that are gone; by digest.
    """

    photos: list[Photo]
    problems: list[str]
    searched: int
    known: dict[str, PhotoFaces]


def scan(folder: Path, out: Path, networks: Networks, progress: Progress = True) -> Scan:
    """Find the faces of every photo in a folder; what the store has is not searched again.

    Args:
        folder: is only read. Hidden files, links to folders and ``out`` are passed over.
        out: where the album is, with its store.
        networks: that embed the faces.
        progress: show a bar; or a function that is told the photos that were looked at, and how
            many there are.

    Raises:
        AlbumError: it is no folder, or there is no photo in it.
        NoRoomError: the disk of ``out`` is full; what was finished is kept.
    """
    store = Store(out / "store" / networks.fingerprint)
    store.remove_leftovers()
    known = store.load()
    paths, problems = photos_in(folder, out)
    seen = _Seen.load(out / "store" / SEEN)
    # the digest of each photo that could be read, by its name
    digests: dict[str, str] = {}
    searched = 0
    with _Bar(len(paths), progress) as bar:
        waiting: list[Decoded] = []
        for decoded in _decoded(folder, paths, seen, known):
            bar.step()
            if decoded.problem:
                problems.append(decoded.problem)
                continue
            digests[decoded.name] = decoded.digest
            if decoded.photo is None:
                continue
            waiting.append(decoded)
            if _is_full(waiting):
                searched += _keep(waiting, networks, store, known)
                waiting = []
        searched += _keep(waiting, networks, store, known)
    seen.save()
    return Scan(_photos(digests, known), problems, searched, known)


class _Bar:
    """How many photos were looked at: shown as a bar, told to a function, or neither."""

    def __init__(self, total: int, progress: Progress):
        self._bar = tqdm(
            total=total, desc="Finding faces", unit="photo", disable=progress is not True
        )
        self._tell = progress if callable(progress) else None
        self._done, self._total = 0, total

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def step(self) -> None:
        """One more."""
        self._done += 1
        self._bar.update(1)
        if self._tell:
            self._tell(self._done, self._total)


def _is_full(photos: "Sequence[Decoded]") -> bool:
    """Whether as many photos wait as are searched at once."""
    pixels = sum(photo.photo.size // 3 for photo in photos if photo.photo is not None)
    return len(photos) >= BATCH_PHOTOS or pixels >= BATCH_PIXELS


def _keep(
    waiting: "Sequence[Decoded]", networks: Networks, store: Store, known: dict[str, PhotoFaces]
) -> int:
    """Search photos, and add what was found to the store and to what is known; how many.

    Args:
        waiting: photos that are decoded.
        networks: embed the faces.
        store: on the disk.
        known: the same in memory.
    """
    # two files of one content may wait side by side
    new = {photo.digest: photo for photo in waiting if photo.digest not in known}
    found = _search(list(new.values()), networks)
    store.add(found)
    known |= {photo.digest: photo for photo in found}
    return len(found)


def _photos(digests: dict[str, str], known: dict[str, PhotoFaces]) -> list[Photo]:
    """The photos, each once however many files have its content."""
    names: dict[str, list[str]] = {}
    for name in sorted(digests):
        names.setdefault(digests[name], []).append(name)
    return [Photo(tuple(group), known[digest]) for digest, group in names.items()]


# --- the folder ---------------------------------------------------------------------------------


def photos_in(folder: Path, out: Path) -> tuple[list[str], list[str]]:
    """Names of the files in a folder that may be photos, sorted, and what could not be looked at.

    Args:
        folder: where to look; links to other folders are not followed, so none leads in a circle.
        out: a folder that is passed over.

    Raises:
        AlbumError: it is no folder, or there is no photo in it.
    """
    check_folder(folder)
    problems: list[str] = []

    def note(error: OSError) -> None:
        problems.append(f"{error.filename} cannot be looked into ({error.strerror}).")

    names = []
    left_out = os.path.realpath(out)
    for top, folders, files in os.walk(folder, onerror=note):
        # what is hidden, and the album itself, are passed over; the others in their order
        inner = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [
            name for name in inner if os.path.realpath(os.path.join(top, name)) != left_out
        ]
        for name in files:
            path = Path(top, name)
            if not name.startswith(".") and _is_file(path) and images.is_photo(path):
                names.append(os.path.relpath(path, folder))
    if not names:
        raise AlbumError(
            f"{folder} is a folder without photos; name the folder of your photos."
            + "".join(f" {problem}" for problem in problems[:3])
        )
    return sorted(names), problems


def check_folder(folder: Path) -> None:
    """Raise AlbumError unless it is a folder."""
    if not os.path.isdir(folder):  # unlike the Path's own, it takes names of any length
        raise AlbumError(f"{folder} is not a folder; name the folder of your photos.")


def _is_file(path: Path) -> bool:
    """Whether it can be opened without waiting: no pipe, no device; a link that leads nowhere is.

    What is wrong with such a link is said when it is read.
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


class _Seen:
    """Which content each file had when it was read, by its name, size and time of change."""

    def __init__(self, path: Path, entries: dict[str, list]):
        self.path, self.entries, self.current = path, entries, dict[str, list]()

    @classmethod
    def load(cls, path: Path) -> "_Seen":
        """From a file; one that is not there or damaged costs time alone."""
        try:
            return cls(path, dict(read_json(path)))
        except (OSError, ValueError, TypeError):
            return cls(path, {})

    def digest(self, name: str, version: tuple[int, int]) -> str | None:
        """The content of a file, if it has not changed."""
        entry = self.entries.get(name)
        if not isinstance(entry, list) or entry[:2] != [*version]:
            return None
        self.current[name] = entry
        return str(entry[2])

    def note(self, name: str, version: tuple[int, int], digest: str) -> None:
        """Remember a file, unless it has just been written: it may change once more."""
        if time.time() - version[1] / 1e9 > SETTLED:
            self.current[name] = [*version, digest]

    def save(self) -> None:
        """Write the files of this run, in place of those of the run before."""
        if self.current != self.entries:
            write_json(self.path, self.current)


# --- reading ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Decoded:
    """A file that was read.

    Attributes:
        name: from the folder on.
        digest: SHA-256 of its bytes; empty where it could not be read.
        photo: RGB uint8 ``(height, width, 3)``; None where it is known, or could not be read.
        taken: the day of its EXIF data.
        problem: what is wrong with it, as a sentence; else empty.
    """

    name: str
    digest: str
    photo: np.ndarray | None = None
    taken: str = ""
    problem: str = ""


def _decoded(
    folder: Path, names: Iterable[str], seen: _Seen, known: dict[str, PhotoFaces]
) -> Iterator[Decoded]:
    """Files, read in threads a few ahead of those that are searched, in order.

    Args:
        folder: where they are.
        names: from the folder on.
        seen: what they held before.
        known: what need not be decoded.
    """

    def read(name: str) -> Decoded:
        try:
            return _read(folder, name, seen, known)
        except (ImageError, StorageError) as error:
            return Decoded(name, "", problem=str(error))

    # as many futures as may be held, however many files there are
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        futures: deque[Future[Decoded]] = deque()
        for name in names:
            futures.append(pool.submit(read, name))
            if len(futures) > AHEAD:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()


def _read(folder: Path, name: str, seen: _Seen, known: dict[str, PhotoFaces]) -> Decoded:
    """One file; decoded only where it is not known."""
    path = folder / name
    version = _version(path)
    if version is not None:
        digest = seen.digest(name, version)
        if digest in known:
            return Decoded(name, str(digest))
    content = images.content_of(path, str(path))
    digest = hashlib.sha256(content).hexdigest()
    photo = None if digest in known else images.decode(content, str(path))
    # a file that changed meanwhile is what was read, and is read again next time
    if version is not None and version == _version(path):
        seen.note(name, version, digest)
    return Decoded(name, digest, photo, day_taken(content) if photo is not None else "")


def _version(path: Path) -> tuple[int, int] | None:
    """Size and time of change of a file; None where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def day_taken(content: bytes) -> str:
    """The day that the camera wrote into a photo, as ``1998-07-21``; empty where there is none.

    Args:
        content: the bytes of a photo that can be decoded.

    Example:
        >>> from utils.data import scenes
        >>> day_taken(images.to_jpeg(scenes.two_photos()[0]))
        ''
    """
    try:
        exif = Image.open(io.BytesIO(content), formats=images.FORMATS).getexif()
        inner = exif.get_ifd(EXIF_IFD)
    except images.DECODING_ERRORS:  # the pixels are whole, and the notes beside them are not
        return ""
    texts = [inner.get(tag) for tag in TAKEN_TAGS] + [exif.get(CHANGED_TAG)]
    for text in texts:
        match = DAY.match(str(text or ""))
        if match and 1826 <= int(match[1]) <= 2200 and 1 <= int(match[2]) <= 12:
            return "-".join(match.groups())
    return ""


# --- searching ----------------------------------------------------------------------------------


def _search(photos: Sequence[Decoded], networks: Networks) -> list[PhotoFaces]:
    """The faces of some photos."""
    pixels = [decoded.photo for decoded in photos if decoded.photo is not None]
    faces_by_photo = []
    for faces in detection.detect_many(pixels):
        faces_by_photo.append([face for face in faces if face.confidence >= LEAST_CONFIDENCE])
    # all faces of all photos, in the size that the kinship model takes: (faces, side, side, 3)
    crops, told = _cut_out(pixels, faces_by_photo, networks.kinship.input_size)
    views = resized(crops, networks.identity.input_size)
    rows = {
        "identity": normalise(networks.identity.embed(views)).astype(np.float32),
        "kin": networks.kinship.embed(crops).astype(np.float32),
        "told": told,
    }
    # back to the photos
    results, start = [], 0
    for decoded, photo, faces in zip(photos, pixels, faces_by_photo, strict=True):
        own = slice(start, start + len(faces))
        start = own.stop
        arrays = {name: values[own] for name, values in rows.items()}
        arrays |= _places(faces)
        pictures = tuple(_picture(crop) for crop in crops[own])
        size = photo.shape[1], photo.shape[0]
        results.append(PhotoFaces(decoded.digest, decoded.taken, size, arrays, pictures))
    return results


def _cut_out(
    photos: Sequence[np.ndarray], faces_by_photo: Sequence[Sequence[Face]], side: int
) -> tuple[np.ndarray, np.ndarray]:
    """All faces as the kinship model takes them, and in what each is hard to compare.

    Args:
        photos: RGB uint8.
        faces_by_photo: what was found in each.
        side: of a crop in pixels.

    Returns:
        uint8 ``(faces, side, side, 3)``, and uint8 ``(faces,)``, a bit for each of
        ``conditions.TOLD``.
    """
    template = alignment.CROP_LANDMARKS * side
    crops, told = [np.empty((0, side, side, 3), np.uint8)], []
    for photo, faces in zip(photos, faces_by_photo, strict=True):
        for face in faces:
            near, landmarks = close_up(photo, face)
            crops.append(alignment.align(near, landmarks, template, side)[None])
            told.append(_bits(conditions.told(near, Face(face.box, face.confidence, landmarks))))
    return np.concatenate(crops), np.array(told, np.uint8)


def _places(faces: Sequence[Face]) -> dict[str, np.ndarray]:
    """Where faces are, and how sure that is."""
    boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
    confidence = np.array([face.confidence for face in faces], np.float32)
    return {"boxes": boxes, "confidence": confidence}


def close_up(photo: np.ndarray, face: Face) -> tuple[np.ndarray, np.ndarray]:
    """The part of a photo around a face, and the landmarks in it: a crop is cut from less.

    Args:
        photo: RGB uint8 ``(height, width, 3)``.
        face: what :mod:`detection` found in it.

    Returns:
        RGB uint8, and (x, y) in its pixels ``(5, 2)``.
    """
    # however the head is turned, its crop lies within one side of the box around the box
    x, y, width, height = face.box
    points = np.vstack([[(x, y), (x + width, y + height)], face.landmarks])
    room = max(*np.ptp(points, axis=0), 8.0)
    left, top = np.maximum(0, np.floor(points.min(0) - room)).astype(int)
    right, bottom = np.ceil(points.max(0) + room).astype(int)
    part = photo[top : max(bottom, top + 1), left : max(right, left + 1)]
    return part, face.landmarks - (left, top)


def _bits(names: Iterable[str]) -> int:
    """Some of ``conditions.TOLD`` as one number."""
    return sum(1 << conditions.TOLD.index(name) for name in names)


def names_of(bits: int) -> list[str]:
    """The names of :mod:`conditions` that a number of the store stands for."""
    return [name for place, name in enumerate(conditions.TOLD) if bits >> place & 1]


def _picture(crop: np.ndarray) -> bytes:
    """A face as the page shows it."""
    return images.to_jpeg(images.resize(crop, PICTURE_SIDE), PICTURE_QUALITY)
