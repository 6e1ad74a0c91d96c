"""From two photos to two faces: the start of every answer about two photos."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .. import images
from ..faces import alignment, detection
from ..faces.alignment import Aligning
from ..faces.detection import Face, Which

SAME_FACE = 0.5  # least overlap of two boxes of one face, found in two ways


@dataclass(frozen=True)
class ChosenFace:
    """A photo and the one of its faces that is meant.

    It lives as long as a question is worked on: a photo may take 190 MB, so no answer keeps it.

    Attributes:
        photo: uint8 RGB ``(height, width, 3)``, turned so that its faces are upright.
        face: the face that is meant, in pixels of ``photo``.
        faces: the prominent faces, the largest first (:func:`detection.prominent`), and the face
            that is meant, if it is a smaller one.
        quarter_turns: how the photo was turned, 0 to 3 (:func:`detection.turned`).
    """

    photo: np.ndarray = field(repr=False)
    face: Face
    faces: list[Face]
    quarter_turns: int


@dataclass(frozen=True)
class FaceInPhoto:
    """The face of a photo that is compared, and the others beside it.

    Attributes:
        face: the compared face, in pixels of the turned photo.
        faces: it and the others that may be chosen by their number, the largest first.
        quarter_turns: how the photo was turned, 0 to 3 (:func:`detection.turned`).
        crop: the compared face, aligned for a network, uint8 RGB ``(size, size, 3)``.
        landmarks: its five landmarks (x, y) in the crop, ``(5, 2)`` pixels.
    """

    face: Face
    faces: list[Face]
    quarter_turns: int
    crop: np.ndarray = field(repr=False)
    landmarks: np.ndarray = field(repr=False)

    @property
    def number(self) -> int:
        """The number of the compared face among ``faces``; 1 is the largest."""
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
        """The faces of each photo that may be chosen by number, the largest first."""
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
        """How many faces each photo has to choose from."""
        return len(self.first.faces), len(self.second.faces)

    @property
    def face_numbers(self) -> tuple[int, int]:
        """Which face of each photo is compared: 1 is the largest."""
        return self.first.number, self.second.number

    @property
    def quarter_turns(self) -> tuple[int, int]:
        """How each photo was turned so that its face is upright: 0 to 3, counter-clockwise."""
        return self.first.quarter_turns, self.second.quarter_turns

    def to_dict(self) -> dict:
        """The compared faces, their numbers, how many there are, and the turns of the photos."""
        return {
            "faces": [face.to_dict() for face in self.faces],
            "face_numbers": list(self.face_numbers),
            "faces_found": list(self.faces_found),
            "quarter_turns": list(self.quarter_turns),
        }


def choose_faces(
    a: images.Source, b: images.Source, which: Sequence[Which] = (1, 1)
) -> tuple[ChosenFace, ChosenFace]:
    """Read two photos, detect their faces, and choose one in each.

    Args:
        a: the first photo, as :func:`images.read` takes it.
        b: the second photo.
        which: which face of each photo, by number or point (:func:`choose_face`).

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
    """One face of one photo, which is turned if it shows faces only on their side.

    Args:
        source: the photo, as :func:`images.read` takes it.
        place: what messages call a photo without a path.
        which: one of the prominent faces by its number, the largest by default, or any face by a
            point (x, y) in pixels of the turned photo.

    Raises:
        ImageError: the photo cannot be used.
        FaceError: there is no face in it, or not the chosen one.
    """
    # the faces are in pixels of the photo as it was turned
    name = images.name_of(source, place)
    photo = images.read(source, name)  # uint8 RGB (height, width, 3)
    quarter_turns, faces = detection.upright(photo)
    photo = detection.turned(photo, quarter_turns)

    if isinstance(which, int):
        face = detection.choose(faces, which, name, photo)
    else:
        face = _face_at(which, faces, photo, name)
        faces = _with(face, faces)
    return ChosenFace(photo, face, faces, quarter_turns)


def _face_at(point: tuple[float, float], faces: list[Face], photo: np.ndarray, name: str) -> Face:
    """The prominent face that holds a point, or the nearest of all faces of the photo."""
    around = [face for face in faces if face.holds(point)]
    if around:
        return detection.choose(around, point)

    # a prominent face is the same object as before: it has its number
    nearest = detection.choose(detection.detect(photo), point, name, photo)
    same = [face for face in faces if face.overlap(nearest) > SAME_FACE]
    return detection.choose(same, point) if same else nearest


def _with(face: Face, faces: list[Face]) -> list[Face]:
    """The faces, and this one, if it is not among them, at its place."""
    if any(face is other for other in faces):
        return faces
    return sorted([*faces, face], key=lambda other: -other.area)


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
    return FaceInPhoto(
        face=chosen.face,
        faces=chosen.faces,
        quarter_turns=chosen.quarter_turns,
        crop=aligned.crop,
        landmarks=aligned.landmarks,
    )
