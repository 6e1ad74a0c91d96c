"""Embeddings of many photos, computed once: a cache keyed by what is in a photo, not by its name.

The cache of a backbone is a folder of shards. A shard is written atomically under a name of its
own, so a killed run keeps what it had finished and two runs at once cannot disturb each other.
"""

import hashlib
import uuid
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm.auto import tqdm

from .. import images, settings
from ..files import atomic
from . import detection
from .backbones import Backbone

# What NumPy raises on broken or foreign shards, found by feeding it such files.
_BROKEN = (OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, RuntimeError,
           zipfile.BadZipFile, zlib.error)

CHUNK = 512  # photos decoded, embedded and written at a time; 35 MB at 150×150


class Aligning(Protocol):
    """What takes aligned faces: a backbone, or an encoder that was fine-tuned."""

    input_size: int
    template: np.ndarray


def embed_photos(backbone: Backbone, paths: Sequence[str | Path], progress: bool = True,
                 aligned: bool = False) -> np.ndarray:
    """Embed photos of faces: float32 ``(len(paths), backbone.embedding_size)``, in order.

    Each photo takes the one way: :func:`images.read`, resize to the input size, preprocess, embed.
    Photos seen before (by content, with the same backbone and preprocessing) come from the cache.

    Args:
        aligned: photos are whole photographs, or crops as they come: find the largest face in each
            and align it (:func:`align`) instead of resizing. A row without a face is NaN.

    Raises:
        ImageError: a photo cannot be read; what was embedded before it is kept.
    """
    kind, chunk = ("-aligned", CHUNK // 4) if aligned else ("", CHUNK)
    embed = _embed_aligned if aligned else _embed_resized
    folder = settings.cache_dir() / "embeddings" / (backbone.fingerprint + kind)
    known = _load(folder, backbone.embedding_size)
    keys = list(images.map_threads(_content_key, paths))
    missing = list({key: path for key, path in zip(keys, paths, strict=True) if key not in known}.items())
    with tqdm(total=len(missing), desc=f"Embedding with {backbone.name}", unit="photo",
              disable=not progress or not missing) as bar:
        for start in range(0, len(missing), chunk):
            part = missing[start:start + chunk]
            vectors = embed(backbone, [path for _, path in part])
            _save(folder, [key for key, _ in part], vectors)
            known.update(zip((key for key, _ in part), vectors, strict=True))
            bar.update(len(part))
    return np.array([known[key] for key in keys], np.float32).reshape(len(keys), backbone.embedding_size)


def _embed_resized(backbone: Backbone, paths: list) -> np.ndarray:
    return backbone.embed(images.read_many(paths, backbone.input_size))


def _embed_aligned(backbone: Backbone, paths: list) -> np.ndarray:
    faces, seen = aligned_faces(backbone, paths)
    vectors = np.full((len(paths), backbone.embedding_size), np.nan, np.float32)
    if seen.any():
        vectors[seen] = backbone.embed(faces[seen])
    return vectors


def aligned_faces(network: Aligning, paths: Sequence[str | Path]) -> tuple[np.ndarray, np.ndarray]:
    """The largest face of each photo as :func:`align` gives it: uint8 RGB ``(n, size, size, 3)``.

    Where none is found, the whole photo, resized; the second array, bool ``(n,)``, says where one was.
    """
    photos = list(images.map_threads(images.read, paths))
    found = detection.detect_many(photos)
    size = network.input_size
    faces = [align(network, photo, face[0]) if face else images.resize(photo, size)
             for photo, face in zip(photos, found, strict=True)]
    return np.reshape(faces, (-1, size, size, 3)).astype(np.uint8), np.array([bool(face) for face in found], bool)


def align(network: Aligning, photo: np.ndarray, face: detection.Face) -> np.ndarray:
    """The face as the network takes it: uint8 RGB ``(size, size, 3)``, landmarks on its template."""
    return detection.align(photo, face.landmarks, network.template, network.input_size)


def landmarks_in_crop(network: Aligning, face: detection.Face) -> np.ndarray:
    """Where the landmarks lie in the aligned face: (x, y), ``(5, 2)`` pixels, near the template's."""
    matrix = detection.similarity_transform(face.landmarks, network.template)
    return face.landmarks @ matrix[:, :2].T + matrix[:, 2]


@dataclass(frozen=True)
class FoundFace:
    """One face of a photo, and all that were found in it, the largest first.

    Attributes:
        photo: uint8 RGB ``(height, width, 3)``; crop: the face as a network takes it.
    """

    photo: np.ndarray
    face: detection.Face
    faces: list[detection.Face]
    crop: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What an answer about two photos is about; the base of every such answer.

    Attributes:
        faces: the face compared in each photo; all_faces: those found in each, the largest first.
        crops: the compared faces as the network saw them, uint8 RGB ``(2, size, size, 3)``.
    """

    faces: tuple[detection.Face, ...]
    all_faces: tuple[list[detection.Face], ...] = field(repr=False)
    crops: np.ndarray = field(repr=False)

    @property
    def faces_found(self) -> tuple[int, ...]:
        """How many faces each photo has."""
        return tuple(map(len, self.all_faces))

    @property
    def face_numbers(self) -> tuple[int, ...]:
        """Which face of each photo was compared: 1 is the largest."""
        return tuple(1 + [face is one for one in every].index(True)
                     for face, every in zip(self.faces, self.all_faces, strict=True))

    def faces_dict(self) -> dict:
        """The compared faces, their numbers, and how many there are, as plain numbers."""
        return {"faces": [face.to_dict() for face in self.faces], "face_numbers": list(self.face_numbers),
                "faces_found": list(self.faces_found)}


def find_two(network: Aligning, a: images.Source, b: images.Source,
             which: Sequence[detection.Which] = (1, 1)) -> list[FoundFace]:
    """Read two photos, find the faces in each, choose one (:func:`detection.choose`), and align it.

    Raises:
        ImageError: a photo cannot be used. FaceError: there is no face in one, or not the chosen one.
    """
    found = []
    for source, place, chosen in zip((a, b), ("the first photo", "the second photo"), which, strict=True):
        name = images.name_of(source, place)
        photo = images.read(source, name)
        faces = detection.detect(photo)
        face = detection.choose(faces, chosen, name)
        found.append(FoundFace(photo, face, faces, align(network, photo, face)))
    return found


def compared(found: Sequence[FoundFace]) -> dict:
    """The fields of :class:`Compared` for two faces of :func:`find_two`."""
    return {"faces": tuple(each.face for each in found), "all_faces": tuple(each.faces for each in found),
            "crops": np.stack([each.crop for each in found])}


def _content_key(path: str | Path) -> bytes:
    try:
        return hashlib.sha256(Path(path).read_bytes()).digest()
    except OSError:
        images.read(path)  # says by name what is wrong with it
        raise


def _save(folder: Path, keys: list[bytes], vectors: np.ndarray) -> None:
    with atomic(folder / f"{uuid.uuid4().hex}.npz") as temporary, open(temporary, "wb") as file:
        np.savez(file, keys=np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32), vectors=vectors)


def _load(folder: Path, size: int) -> dict[bytes, np.ndarray]:
    """All shards as {content key: embedding}; a damaged shard is dropped with a warning."""
    known: dict[bytes, np.ndarray] = {}
    for path in sorted(folder.glob("[!.]*.npz")):
        try:
            with np.load(path) as shard:
                keys, vectors = shard["keys"], shard["vectors"]
            if vectors.shape != (len(keys), size) or keys.shape[1:] != (32,):
                raise ValueError("wrong shape")
            if (keys.dtype, vectors.dtype) != (np.uint8, np.float32):
                raise ValueError("wrong type")
        except _BROKEN as error:
            warnings.warn(f"The embedding cache {path} is damaged ({error}); its photos are "
                          "embedded again.", stacklevel=3)
            path.unlink(missing_ok=True)
            continue
        known.update(zip((key.tobytes() for key in keys), vectors, strict=True))
    return known
