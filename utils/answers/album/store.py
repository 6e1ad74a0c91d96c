"""What was found in each photo of an album, kept by the photo's content: a killed run goes on.

The store is a folder of shards. A shard is written atomically under a name of its own, so a killed
run keeps what it had finished, and no photo is searched twice, whatever it is called.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ... import errors
from ...files import NPZ_ERRORS, atomic, check_machine

# Of a face: where it is, what it looks like to two networks, and in what it is hard to compare.
SHAPES = {
    "boxes": (4,),  # x, y, width, height in pixels of the photo
    "confidence": (),  # of the detector, in [0, 1]
    "told": (),  # a bit for each of `conditions.TOLD`
    "identity": (-1,),  # embedding of the encoder of identity, of length 1
    "kin": (-1,),  # embedding of the kinship model, of length 1
}


@dataclass(frozen=True, eq=False)
class PhotoFaces:
    """The faces of one photo, the largest first; n of them.

    Attributes:
        digest: SHA-256 of the photo's bytes, hexadecimal.
        taken: the day that the camera wrote down, as ``1998-07-21``; empty where it did not.
        size: width and height of the photo in pixels.
        arrays: by the names of ``SHAPES``, an array ``(n, ...)`` each.
        pictures: each face as a small JPEG, for the page.
    """

    digest: str
    taken: str
    size: tuple[int, int]
    arrays: dict[str, np.ndarray]
    pictures: tuple[bytes, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True)
class Store:
    """The shards of one album, made by one pair of networks.

    Attributes:
        folder: where they are; it need not exist yet.
    """

    folder: Path

    def add(self, photos: Sequence[PhotoFaces]) -> None:
        """Write some photos as one shard.

        Raises:
            NoRoomError: the disk is full; what was written before is kept.
        """
        if not photos:
            return
        # faces of all photos one after the other, and how many each photo has
        content: dict[str, np.ndarray] = {}
        for name in SHAPES:
            content[name] = np.concatenate([photo.arrays[name] for photo in photos])
        content["counts"] = np.array([len(photo) for photo in photos], np.int64)
        content["digests"] = np.array([photo.digest for photo in photos])
        content["taken"] = np.array([photo.taken for photo in photos])
        content["sizes"] = np.array([photo.size for photo in photos], np.int64)
        # pictures have lengths of their own: all bytes, and where each begins
        pictures = [picture for photo in photos for picture in photo.pictures]
        content["pictures"] = np.frombuffer(b"".join(pictures), np.uint8)
        content["lengths"] = np.array([len(picture) for picture in pictures], np.int64)
        with atomic(self.folder / f"{uuid.uuid4().hex}.npz") as path, open(path, "wb") as file:
            np.savez(file, **content)  # type: ignore[arg-type]

    def load(self) -> dict[str, PhotoFaces]:
        """All photos by their digest; a damaged shard is dropped with a warning."""
        photos: dict[str, PhotoFaces] = {}
        for path in sorted(self.folder.glob("[!.]*.npz")):  # a name with a dot is being written
            try:
                photos |= {photo.digest: photo for photo in _read(path)}
            except NPZ_ERRORS as error:
                check_machine(error, path)
                errors.warn(
                    f"{path} is damaged ({error}); the photos in it are searched once more."
                )
                path.unlink(missing_ok=True)
        return photos

    def remove_leftovers(self) -> None:
        """Remove what killed runs had begun to write; call it with the album's lock."""
        for leftover in self.folder.glob(".*.npz"):
            leftover.unlink()


def _read(path: Path) -> list[PhotoFaces]:
    """The photos of one shard. Raises one of ``NPZ_ERRORS``: it is not as it was written."""
    with np.load(path) as shard:
        content = {name: shard[name] for name in shard.files}
    counts, lengths = content["counts"], content["lengths"]
    if len(lengths) != counts.sum() or len(content["pictures"]) != lengths.sum():
        raise ValueError("another number of faces")
    for name, shape in SHAPES.items():
        if len(content[name]) != len(lengths) or content[name].ndim != 1 + len(shape):
            raise ValueError(f"wrong shape of {name}")
    # where the faces of each photo end, and where each picture ends
    ends, picture_ends = np.cumsum(counts), np.cumsum(lengths)
    whole = content["pictures"].tobytes()
    photos = []
    for number, digest in enumerate(content["digests"].tolist()):
        faces = slice(ends[number] - counts[number], ends[number])
        cuts = zip(picture_ends[faces] - lengths[faces], picture_ends[faces], strict=True)
        own = {name: content[name][faces] for name in SHAPES}
        pictures = tuple(whole[start:end] for start, end in cuts)
        width, height = content["sizes"][number].tolist()
        taken = str(content["taken"][number])
        photos.append(PhotoFaces(digest, taken, (width, height), own, pictures))
    return photos
