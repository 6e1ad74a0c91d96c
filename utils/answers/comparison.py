"""From two photos to two faces: the start of every answer about two photos."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .. import images
from ..faces import alignment, detection
from ..faces.alignment import Aligning
from ..faces.detection import Face, Which


@dataclass(frozen=True)
class ChosenFace:
    """A photo and the one of its faces that is meant.

    It lives as long as a question is worked on: a photo may take 190 MB, so no answer keeps it.

    Attributes:
        photo: uint8 RGB ``(height, width, 3)``.
        face: the face that is meant.
        faces: all faces of the photo, the largest first.
    """

    photo: np.ndarray = field(repr=False)
    face: Face
    faces: list[Face]


@dataclass(frozen=True)
class FaceInPhoto:
    """The face of a photo that is compared, and the others beside it.

    Attributes:
        face: the compared face.
        faces: all faces of the photo, the largest first.
        crop: the compared face, aligned for a network, uint8 RGB ``(size, size, 3)``.
        landmarks: its five landmarks (x, y) in the crop, ``(5, 2)`` pixels.
    """

    face: Face
    faces: list[Face]
    crop: np.ndarray = field(repr=False)
    landmarks: np.ndarray = field(repr=False)

    @property
    def number(self) -> int:
        """The number of the compared face among the faces of the photo; 1 is the largest."""
        # two faces may have equal boxes, so the same object is looked for
        same = [face is self.face for face in self.faces]
        return 1 + same.index(True)


@dataclass(frozen=True)
class Comparison:
    """What an answer about two photos is about: one face in each of them.

    Attributes:
        first: the face in the first photo.
        second: the face in the second photo.
    """

    first: FaceInPhoto
    second: FaceInPhoto

    @property
    def faces(self) -> tuple[Face, Face]:
        """The two compared faces."""
        return self.first.face, self.second.face

    @property
    def all_faces(self) -> tuple[list[Face], list[Face]]:
        """All faces of each photo, the largest first."""
        return self.first.faces, self.second.faces

    @property
    def crops(self) -> np.ndarray:
        """The compared faces as the network sees them: uint8 RGB ``(2, size, size, 3)``."""
        return np.stack([self.first.crop, self.second.crop])

    @property
    def landmarks(self) -> np.ndarray:
        """The landmarks (x, y) in the two crops: ``(2, 5, 2)`` pixels."""
        return np.stack([self.first.landmarks, self.second.landmarks])

    @property
    def faces_found(self) -> tuple[int, int]:
        """How many faces each photo has."""
        return len(self.first.faces), len(self.second.faces)

    @property
    def face_numbers(self) -> tuple[int, int]:
        """Which face of each photo is compared: 1 is the largest."""
        return self.first.number, self.second.number

    def to_dict(self) -> dict:
        """The compared faces, their numbers, and how many there are, as plain numbers."""
        return {
            "faces": [face.to_dict() for face in self.faces],
            "face_numbers": list(self.face_numbers),
            "faces_found": list(self.faces_found),
        }


def choose_faces(
    a: images.Source, b: images.Source, which: Sequence[Which] = (1, 1)
) -> tuple[ChosenFace, ChosenFace]:
    """Read two photos, detect their faces, and choose one in each.

    Args:
        a: the first photo, as :func:`images.read` takes it.
        b: the second photo.
        which: which face of each photo, by number or point (:func:`detection.choose`).

    Raises:
        ImageError: a photo cannot be used.
        FaceError: there is no face in a photo, or not the chosen one.
    """
    # messages call a photo by its path, or by its place
    which_a, which_b = which
    return (
        choose_face(a, "the first photo", which_a),
        choose_face(b, "the second photo", which_b),
    )


def choose_face(source: images.Source, place: str, which: Which = 1) -> ChosenFace:
    """One face of one photo.

    Args:
        source: the photo, as :func:`images.read` takes it.
        place: what messages call a photo without a path.
        which: of its faces, by number or point (:func:`detection.choose`).

    Raises:
        ImageError: the photo cannot be used.
        FaceError: there is no face in it, or not the chosen one.
    """
    name = images.name_of(source, place)
    photo = images.read(source, name)  # uint8 RGB (height, width, 3)
    faces = detection.detect(photo)  # in the photo's own pixels
    return ChosenFace(photo, detection.choose(faces, which, name, photo), faces)


def compare(network: Aligning, a: ChosenFace, b: ChosenFace) -> Comparison:
    """Align two faces for a network.

    Args:
        network: a backbone or an encoder, which says how its faces are aligned.
        a: the face in the first photo.
        b: the face in the second photo.
    """
    return Comparison(_align(network, a), _align(network, b))


def _align(network: Aligning, chosen: ChosenFace) -> FaceInPhoto:
    """The chosen face as the network sees it."""
    aligned = alignment.align_face(network, chosen.photo, chosen.face)
    return FaceInPhoto(chosen.face, chosen.faces, aligned.crop, aligned.landmarks)
