"""Faces found in photos by MTCNN (Zhang et al., IEEE SPL 2016), from the package ``mtcnn``."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .. import quiet, surroundings
from ..errors import FaceError

if TYPE_CHECKING:
    from mtcnn import MTCNN

# MTCNN's own smallest face in pixels. The package (1.0) sizes its pyramid for this value only:
# with a larger one, levels shrink below P-Net's 12 pixels, the error is swallowed, and a photo
# full of faces gives none. So to look for larger faces only, the photo is shrunk instead.
MTCNN_MIN_FACE = 20
MTCNN_MIN_SIDE = 24
LONG_SIDE = 1280
BATCH_PIXELS = 4_000_000  # searched at once

# Which faces of a photo somebody may mean: MTCNN is as sure of each as this, each is as wide in
# pixels as a network needs, and as wide as this share of the widest. In photographs of the street
# and of offices, sleeves and patterns that look like faces had confidences of up to 0.86.
SURE, LEAST_WIDTH, SHARE_OF_WIDEST = 0.9, 20, 1 / 3

# How a tight crop is searched: small, in a frame of its own border pixels (both in pixels).
CROP_SIDE, CROP_FRAME = 112, 24

Which = int | tuple[float, float]  # one face of several: see `choose`
Box = tuple[float, float, float, float]

LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


@dataclass(frozen=True)
class Face:
    """One detected face, in pixels of the photo that was given.

    Attributes:
        box: (x, y, width, height), clipped to the photo.
        confidence: of MTCNN's last stage, in [0, 1].
        landmarks: (x, y) of the eye on the left of the picture, the eye on the right, nose,
            left and right mouth corner; float64 ``(5, 2)``.
    """

    box: Box
    confidence: float
    landmarks: np.ndarray

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        return self.box[2] * self.box[3]

    @property
    def centre(self) -> np.ndarray:
        """(x, y) of the middle of the box."""
        x, y, width, height = self.box
        return np.array([x + width / 2, y + height / 2])

    def holds(self, point: tuple[float, float]) -> bool:
        """Whether a point (x, y) in pixels of the photo lies in the box."""
        x, y, width, height = self.box
        return x <= point[0] <= x + width and y <= point[1] <= y + height

    def overlap(self, other: Face) -> float:
        """Intersection over union of two boxes, in [0, 1]."""
        (x1, y1, w1, h1), (x2, y2, w2, h2) = self.box, other.box
        width = min(x1 + w1, x2 + w2) - max(x1, x2)
        height = min(y1 + h1, y2 + h2) - max(y1, y2)
        both = max(0.0, width) * max(0.0, height)
        return both / (self.area + other.area - both)

    def to_dict(self) -> dict:
        """Plain numbers, in pixels to one decimal; landmarks by name."""
        points = np.round(self.landmarks, 1).tolist()
        return {
            "box": [round(number, 1) for number in self.box],
            "confidence": round(self.confidence, 4),
            "landmarks": dict(zip(LANDMARKS, points, strict=True)),
        }


def detect(
    photo: np.ndarray, min_face: int = MTCNN_MIN_FACE, long_side: int = LONG_SIDE
) -> list[Face]:
    """Find the faces in an RGB uint8 photo, the largest first. No face gives an empty list.

    MTCNN needs some room around a face. Where it finds none, the photo is searched once more as
    :func:`detect_in_crops` does: a face may fill the whole picture.

    Args:
        photo: RGB uint8 ``(height, width, 3)``.
        min_face: about the smallest face to look for, in pixels of the photo; MTCNN may still find
            faces of half that size. In a large photo those below :func:`least_face` may be missed.
        long_side: larger photos are shrunk to this many pixels before the search; the faces are
            in pixels of the photo all the same.

    Example:
        >>> from utils import images
        >>> faces = detect(images.read("data/five_families.jpg"))
        >>> len(faces)
        45
        >>> faces[0].landmarks.shape
        (5, 2)
    """
    return detect_many([photo], min_face, long_side)[0]


def prominent(photo: np.ndarray) -> list[Face]:
    """The faces of a photo that somebody may mean, the largest first.

    These are the faces that an app offers and numbers: the detector is sure of them, they are at
    least 20 pixels wide, and none is narrower than a third of the widest. :func:`detect` gives all
    faces.

    Args:
        photo: RGB uint8 ``(height, width, 3)``.

    Example:
        >>> from utils import images
        >>> photo = images.read("data/five_families.jpg")
        >>> len(prominent(photo))
        45
    """
    return _prominent_of(detect(photo))


def _prominent_of(faces: Sequence[Face]) -> list[Face]:
    """Those of a photo's faces that are sure and wide enough, in the same order."""
    sure = [face for face in faces if face.confidence >= SURE and face.box[2] >= LEAST_WIDTH]
    widest = max((face.box[2] for face in sure), default=0.0)
    return [face for face in sure if face.box[2] >= widest * SHARE_OF_WIDEST]


def upright(photo: np.ndarray) -> tuple[int, list[Face]]:
    """How to turn a photo so that it shows a face, and its prominent faces when it is turned.

    A photo is turned only if it shows no prominent face as it is: some cameras and scanners do not
    note how they were held.

    Args:
        photo: RGB uint8 ``(height, width, 3)``.

    Returns:
        Quarter turns, 0 to 3, for :func:`turned`, and the faces in pixels of the turned photo, as
        :func:`prominent` gives them. 0 and no faces if there is none whichever way it is turned.
    """
    for quarter_turns in range(4):
        faces = prominent(turned(photo, quarter_turns))
        if faces:
            return quarter_turns, faces
    return 0, []


def turned(photo: np.ndarray, quarter_turns: int) -> np.ndarray:
    """The photo after so many quarter turns, each 90 degrees counter-clockwise.

    Args:
        photo: RGB uint8 ``(height, width, 3)``.
        quarter_turns: 0 gives the photo itself.
    """
    if not quarter_turns % 4:
        return photo
    return np.ascontiguousarray(np.rot90(photo, quarter_turns))


def detect_many(
    photos: Sequence[np.ndarray], min_face: int = MTCNN_MIN_FACE, long_side: int = LONG_SIDE
) -> list[list[Face]]:
    """:func:`detect` on many photos, those of one size in batches.

    Args:
        photos: RGB uint8 ``(height, width, 3)``, of any sizes.
        min_face: as for :func:`detect`.
        long_side: as for :func:`detect`.

    Returns:
        The faces of each photo, the largest first.
    """
    faces_by_photo = _search(photos, min_face, long_side)

    # a photo without a face may be one that a face fills
    empty = [row for row, faces in enumerate(faces_by_photo) if not faces]
    crops = [photos[row] for row in empty]
    for row, face in zip(empty, detect_in_crops(crops), strict=True):
        if face is not None and face.box[3] >= min_face:
            faces_by_photo[row] = [face]
    return faces_by_photo


def detect_in_crops(crops: Sequence[np.ndarray]) -> list[Face | None]:
    """The face that fills each crop, or None.

    Each crop is shrunk to 112 pixels and framed with its border pixels, so that MTCNN has the room
    that it needs. A face narrower than half the crop does not count.
    """
    framed, factors = [], []
    for crop in crops:
        factor = CROP_SIDE / max(crop.shape[:2])
        width, height = (max(1, round(side * factor)) for side in crop.shape[1::-1])
        small = _shrink(crop, (width, height))
        frame = (CROP_FRAME, CROP_FRAME)
        framed.append(np.pad(small, (frame, frame, (0, 0)), mode="edge"))
        factors.append(factor)

    # only the largest face of a crop can fill it
    results: list[Face | None] = []
    for faces, factor, crop in zip(_search(framed), factors, crops, strict=True):
        results.append(_unframed(faces[0], factor, crop) if faces else None)
    return results


def least_face(
    photo: np.ndarray, min_face: int = MTCNN_MIN_FACE, long_side: int = LONG_SIDE
) -> int | None:
    """The width in pixels from which :func:`detect` finds faces in this photo.

    A photo that is shrunk before the search must show larger faces than one that is not.

    Args:
        photo: RGB uint8 ``(height, width, 3)``.
        min_face: as for :func:`detect`.
        long_side: as for :func:`detect`.

    Returns:
        Pixels of the photo; None if it is too narrow to be searched at all.

    Example:
        >>> least_face(np.zeros((720, 1280, 3), np.uint8))
        20
        >>> least_face(np.zeros((3000, 4000, 3), np.uint8))
        63
    """
    height, width = photo.shape[:2]
    size, _ = _searched_size(height, width, MTCNN_MIN_FACE, long_side)
    if min(size) < MTCNN_MIN_SIDE:
        return None
    # rounded up: the face has 20 pixels when the longer side has so many
    shrunk = -(-MTCNN_MIN_FACE * max(height, width) // long_side)
    return max(MTCNN_MIN_FACE, min_face, shrunk)


def largest(
    faces: Sequence[Face], name: str = "the photo", photo: np.ndarray | None = None
) -> Face:
    """The first of the faces that :func:`detect` gives.

    Args:
        faces: those of one photo.
        name: what the message calls the photo.
        photo: in which they were looked for; the message says how large a face must be in it.
            None: a photo that is not shrunk.

    Raises:
        FaceError: there is none.
    """
    if not faces:
        raise FaceError(f"No face was found in {name}; {_advice(photo)}")
    return faces[0]


def _advice(photo: np.ndarray | None) -> str:
    """What to do about a photo without a face, the rest of a sentence."""
    photo = np.empty((MTCNN_MIN_SIDE, MTCNN_MIN_SIDE, 3), np.uint8) if photo is None else photo
    least, size = least_face(photo), f"{photo.shape[1]}×{photo.shape[0]} pixels"
    if least is None:
        return (
            f"its {size} are too narrow to be searched: use a photo of another shape, or cut out "
            "the part that shows the face."
        )
    wanted = (
        "use a photo in which one looks at the camera, sharp, upright and at least "
        f"{least} pixels wide"
    )
    # a photo that is not shrunk needs no explanation
    if least == MTCNN_MIN_FACE:
        return f"{wanted}."
    return (
        f"{wanted} (a photo of {size} is shrunk before the search), or cut out the part that "
        "shows the face."
    )


def choose(
    faces: Sequence[Face],
    which: Which = 1,
    name: str = "the photo",
    photo: np.ndarray | None = None,
) -> Face:
    """One face of several: by its number, or the one whose centre is nearest to a point.

    Args:
        faces: those of one photo, the largest first, as :func:`detect` gives them.
        which: 1 is the largest face, 2 the next, and so on; or (x, y) in pixels of the photo.
        name: used in messages only.
        photo: used in messages only: see :func:`largest`.

    Raises:
        FaceError: there is no face, or none of this number.
    """
    largest(faces, name, photo)  # says so when there is none
    if not isinstance(which, int):
        return min(faces, key=lambda face: np.hypot(*(face.centre - which)))
    if not 1 <= which <= len(faces):
        several = "faces, numbered from 1 for the largest" if len(faces) > 1 else "face, number 1"
        raise FaceError(
            f"There is no face number {which} in {name}; it has {len(faces)} {several}."
        )
    return faces[which - 1]


# --- MTCNN --------------------------------------------------------------------------------------

_building = threading.Lock()


def detector() -> MTCNN:
    """The one MTCNN of this process, built at the first call; any number of threads may use it."""
    surroundings.check_process()
    with _building:
        return _detector()


@functools.cache
def _detector() -> MTCNN:
    """MTCNN, its networks compiled: a small photo takes half the time that the package needs."""
    import tensorflow as tf
    from mtcnn import MTCNN

    with quiet.without_late_readers():  # its weights are read by joblib
        network = MTCNN()
    # P-Net takes whole photos, R-Net and O-Net the candidates that the stage before cut out
    shapes = [(None, None, 3), (24, 24, 3), (48, 48, 3)]
    for stage, shape in zip(network.stages, shapes, strict=True):
        signature = [tf.TensorSpec((None, *shape), tf.float32)]
        stage._model = tf.function(stage.model.__call__, input_signature=signature)
    return network


def _search(
    photos: Sequence[np.ndarray], min_face: int = MTCNN_MIN_FACE, long_side: int = LONG_SIDE
) -> list[list[Face]]:
    """One pass of MTCNN; photos of one size share its batches."""
    # the rows of the photos of each (height, width)
    groups: dict[tuple[int, int], list[int]] = {}
    for row, photo in enumerate(photos):
        height, width = photo.shape[:2]
        groups.setdefault((height, width), []).append(row)

    faces_by_photo: list[list[Face]] = [[] for _ in photos]
    for (height, width), rows in groups.items():
        size, scale = _searched_size(height, width, min_face, long_side)
        if min(size) < MTCNN_MIN_SIDE:
            continue
        count = max(1, BATCH_PIXELS // (size[0] * size[1]))
        for start in range(0, len(rows), count):
            batch = rows[start : start + count]
            faces_by_row = _run([photos[row] for row in batch], size, scale)
            for row, faces in zip(batch, faces_by_row, strict=True):
                faces_by_photo[row] = faces
    return faces_by_photo


def _searched_size(
    height: int, width: int, min_face: int, long_side: int
) -> tuple[tuple[int, int], float]:
    """(width, height) in which a photo is searched, and the factor between; 1 at most."""
    scale = min(1.0, MTCNN_MIN_FACE / min_face, long_side / max(height, width))
    return (round(width * scale), round(height * scale)), scale


def _run(photos: list[np.ndarray], size: tuple[int, int], scale: float) -> list[list[Face]]:
    """MTCNN on photos of one size, shrunk to ``size`` (width, height); the largest face first."""
    height, width = photos[0].shape[:2]
    if scale < 1:
        photos = [_shrink(photo, size) for photo in photos]
    rows = detector().detect_faces(
        list(photos), output_type="numpy", box_format="xyxy", fit_to_image=False
    )

    # one row a face, of whichever photo
    faces_by_photo: list[list[Face]] = [[] for _ in photos]
    for row in rows:
        faces_by_photo[int(row[0])].append(_face(row, scale, width, height))
    for faces in faces_by_photo:
        faces.sort(key=lambda face: -face.area)
    return faces_by_photo


def _shrink(photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The photo in ``size`` (width, height), bilinear."""
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR))


def _face(row: np.ndarray, scale: float, width: int, height: int) -> Face:
    """From MTCNN's row (number, x1, y1, x2, y2, confidence, five x, five y)."""
    corners = row[1:5].reshape(2, 2) / scale
    landmarks = row[6:16].astype(np.float64).reshape(2, 5).T / scale
    return Face(_box(corners, width, height), float(row[5]), landmarks)


def _unframed(face: Face, factor: float, crop: np.ndarray) -> Face | None:
    """From a framed and shrunk crop back to the crop's own pixels."""
    height, width = crop.shape[:2]
    x, y, w, h = face.box
    if w / factor <= width / 2:
        return None
    corners = (np.array([(x, y), (x + w, y + h)]) - CROP_FRAME) / factor
    landmarks = (face.landmarks - CROP_FRAME) / factor
    return Face(_box(corners, width, height), face.confidence, landmarks)


def _box(corners: np.ndarray, width: int, height: int) -> Box:
    """(x, y, width, height) of a box given by two corners, clipped to a photo of this size."""
    x1, x2 = np.clip(corners[:, 0], 0, width)
    y1, y2 = np.clip(corners[:, 1], 0, height)
    return float(x1), float(y1), float(x2 - x1), float(y2 - y1)
