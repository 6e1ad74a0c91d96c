"""Embeddings of many photos, computed once: a cache keyed by the content of a photo, not its name.

The cache of a backbone is a folder of shards. A shard is written atomically under a name of its
own, so a killed run keeps what it had finished and two runs at once cannot disturb each other.
"""

import functools
import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from .. import errors, images, settings
from ..files import NPZ_ERRORS, atomic, check_machine, lock, need_room, room_in
from . import alignment
from .backbones import Backbone
from .engines import Engine

CHUNK = 512  # photos decoded, embedded and written at a time; 35 MB at 150×150
KEY = 32  # bytes of a SHA-256


def embed_photos(
    backbone: Backbone,
    paths: Sequence[str | Path],
    progress: bool = True,
    aligned: bool = False,
    engine: Engine | None = None,
) -> np.ndarray:
    """Embed photos of faces: float32 ``(len(paths), backbone.embedding_size)``, in order.

    Each photo takes the one way: :func:`images.read`, resize to the input size, preprocess, embed.
    Photos seen before (by content, with the same backbone and preprocessing) come from the cache.

    Args:
        backbone: the network that embeds.
        paths: photos of faces.
        progress: whether to show a progress bar.
        aligned: the photos are whole photographs, or crops as they come: find the largest face in
            each and align it (:func:`alignment.align_face`) instead of resizing. A row without a
            face is NaN.
        engine: where the chunks are embedded. None: in this program.

    Raises:
        ImageError: a photo cannot be read; the embeddings of the chunks before it are kept.
        NoRoomError: the disk of the cache is full.

    Example:
        >>> from utils.faces import backbones
        >>> photos = ["data/five_families.jpg"]
        >>> embed_photos(backbones.get(), photos, progress=False, aligned=True).shape
        (1, 128)
    """
    # what is in the cache; aligned faces have a folder of their own
    engine = engine or Engine()
    kind, chunk = ("-aligned", CHUNK // 4) if aligned else ("", CHUNK)
    folder = settings.cache_dir() / "embeddings" / (backbone.fingerprint + kind)
    embeddings = read_shards(folder, backbone.embedding_size)

    # one (key, path) for each content that is not in the cache
    keys = list(images.map_threads(content_key, paths))
    path_of = dict(zip(keys, paths, strict=True))
    missing = [(key, path) for key, path in path_of.items() if key not in embeddings]

    # a key and numbers of four bytes for each photo
    need_room(folder, len(missing) * (KEY + 4 * backbone.embedding_size))
    # each chunk is written as soon as it is embedded
    chunks = [missing[start : start + chunk] for start in range(0, len(missing), chunk)]
    embed = functools.partial(_embed_chunk, backbone, folder.absolute(), aligned)
    with tqdm(
        total=len(missing),
        desc=f"Embedding with {backbone.name}",
        unit="photo",
        disable=not progress or not missing,
    ) as bar:
        for photos, vectors in zip(chunks, engine.map(embed, chunks), strict=True):
            for (key, _), vector in zip(photos, vectors, strict=True):
                embeddings[key] = vector
            bar.update(len(photos))

    rows = np.array([embeddings[key] for key in keys], np.float32)
    return rows.reshape(len(keys), backbone.embedding_size)  # also where there are no photos


def _embed_chunk(
    backbone: Backbone, folder: Path, aligned: bool, photos: Sequence[tuple[bytes, str | Path]]
) -> np.ndarray:
    """Embed some photos and write them as one shard: float32 ``(n, d)``.

    Args:
        backbone: the network that embeds.
        folder: of the shards.
        aligned: whether faces are looked for.
        photos: key and path of each.
    """
    keys, paths = zip(*photos, strict=True)
    embed = _embed_aligned if aligned else _embed_resized
    vectors = embed(backbone, paths)  # (n, d)
    write_shard(folder, keys, vectors)
    return vectors


def _embed_resized(backbone: Backbone, paths: Sequence[str | Path]) -> np.ndarray:
    return backbone.embed(images.read_many(paths, backbone.input_size))


def _embed_aligned(backbone: Backbone, paths: Sequence[str | Path]) -> np.ndarray:
    """The largest face of each photo; NaN in the rows of photos without one."""
    faces, landmarks = alignment.aligned_faces(backbone, paths)
    has_face = np.isfinite(landmarks).all((1, 2))
    vectors = np.full((len(paths), backbone.embedding_size), np.nan, np.float32)
    if has_face.any():
        vectors[has_face] = backbone.embed(faces[has_face])
    return vectors


def content_key(path: str | Path) -> bytes:
    """SHA-256 of a photo's bytes.

    Raises:
        ImageError: the photo cannot be read.
    """
    try:
        return hashlib.sha256(Path(path).read_bytes()).digest()
    except OSError:
        images.read(path)  # says by name what is wrong with it
        raise


# --- shards -------------------------------------------------------------------------------------


def write_shard(folder: Path, keys: Sequence[bytes], vectors: np.ndarray) -> None:
    """Write one shard: keys uint8 ``(n, 32)`` and vectors float32 ``(n, d)``."""
    # as bytes of one array: 32 a key
    rows = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY)
    # one program writes at a time, so what was begun by others belongs to killed ones
    with room_in(folder), lock(folder, work="writing embeddings"):
        for leftover in folder.glob(".*.npz"):
            leftover.unlink()
        shard = folder / f"{uuid.uuid4().hex}.npz"
        with atomic(shard) as temporary, open(temporary, "wb") as file:
            np.savez(file, keys=rows, vectors=vectors)


def read_shards(folder: Path, size: int) -> dict[bytes, np.ndarray]:
    """All shards as {content key: embedding}; a damaged shard is dropped with a warning."""
    embeddings: dict[bytes, np.ndarray] = {}
    for path in sorted(folder.glob("[!.]*.npz")):  # a name with a dot is being written
        try:
            keys, vectors = _read(path, size)
        except FileNotFoundError:  # another program has just dropped it
            continue
        except NPZ_ERRORS as error:
            check_machine(error, path)
            errors.warn(
                f"The embedding cache {path} is damaged ({error}); its photos are embedded again."
            )
            path.unlink(missing_ok=True)
            continue
        # a photo that two runs embedded at once is in two shards, with the same vector
        for key, vector in zip(keys, vectors, strict=True):
            embeddings[key.tobytes()] = vector
    return embeddings


def _read(path: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys and vectors of one shard. Raises one of ``NPZ_ERRORS``: it is not as it was written."""
    with np.load(path) as shard:
        keys, vectors = shard["keys"], shard["vectors"]
    if vectors.shape != (len(keys), size) or keys.shape[1:] != (KEY,):
        raise ValueError("wrong shape")
    if (keys.dtype, vectors.dtype) != (np.uint8, np.float32):
        raise ValueError("wrong type")
    return keys, vectors
