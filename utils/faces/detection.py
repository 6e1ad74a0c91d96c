"""Faces in photos: MTCNN (Zhang et al., IEEE SPL 2016) from the package ``mtcnn``, and alignment."""

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import FaceError

# MTCNN's own smallest face in pixels. The package (1.0) sizes its pyramid for this value only: with
# a larger one, levels shrink below P-Net's 12 pixels, the error is swallowed, and a photo full of
# faces gives none. So a larger smallest face is had by shrinking the photo instead.
MTCNN_MIN_FACE = 20
MTCNN_MIN_SIDE = 24
LONG_SIDE = 1280
BATCH_PIXELS = 4_000_000  # searched at once

# How a tight crop is searched: small, in a frame of its own border pixels (both in pixels).
CROP_SIDE, CROP_FRAME = 112, 24

Which = int | tuple[float, float]  # one face of several: see `choose`

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

    box: tuple[float, float, float, float]
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

    def to_dict(self) -> dict:
        """Plain numbers, in pixels to one decimal; landmarks by name."""
        points = np.round(self.landmarks, 1).tolist()
        return {"box": [round(number, 1) for number in self.box], "confidence": round(self.confidence, 4),
                "landmarks": dict(zip(LANDMARKS, points, strict=True))}


_building = threading.Lock()


def detector():
    """The one MTCNN of this process, built at the first call; any number of threads may use it."""
    with _building:
        return _detector()


@functools.cache
def _detector():
    """MTCNN with its networks compiled: eagerly, as the package runs them, a small photo takes twice the time."""
    import tensorflow as tf
    from mtcnn import MTCNN

    network = MTCNN()
    for stage, shape in zip(network.stages, [(None, None, 3), (24, 24, 3), (48, 48, 3)], strict=True):
        signature = [tf.TensorSpec((None, *shape), tf.float32)]
        stage._model = tf.function(stage.model.__call__, input_signature=signature)
    return network


def detect(photo: np.ndarray, min_face: int = MTCNN_MIN_FACE, long_side: int = LONG_SIDE) -> list[Face]:
    """Find the faces in an RGB uint8 photo, the largest first. No face gives an empty list.

    MTCNN needs some room around a face. Where it finds none, the photo is searched once more as
    :func:`detect_in_crops` does: a face may fill the whole picture.

    Args:
        min_face: about the smallest face to look for, in pixels of the photo; MTCNN may still find
            faces of half that size.
        long_side: larger photos are shrunk to it before the search; what is found is in pixels of
            the photo all the same.
    """
    return detect_many([photo], min_face, long_side)[0]


def detect_many(photos: Sequence[np.ndarray], min_face: int = MTCNN_MIN_FACE,
                long_side: int = LONG_SIDE) -> list[list[Face]]:
    """:func:`detect` on many photos, those of one size in batches."""
    found = _search(photos, min_face, long_side)
    empty = [number for number, faces in enumerate(found) if not faces]
    for number, face in zip(empty, detect_in_crops([photos[i] for i in empty]), strict=True):
        if face is not None and face.box[3] >= min_face:
            found[number] = [face]
    return found


def largest(faces: Sequence[Face], name: str = "the photo") -> Face:
    """The first of what :func:`detect` found; ``name`` is used in the message only.

    Raises:
        FaceError: there is none.
    """
    if not faces:
        raise FaceError(f"No face was found in {name}; use a photo in which one looks at the camera, "
                        f"sharp, upright and at least {MTCNN_MIN_FACE} pixels wide.")
    return faces[0]


def choose(faces: Sequence[Face], which: Which = 1, name: str = "the photo") -> Face:
    """One of what :func:`detect` found: by its number, or the one whose centre is nearest to a point.

    Args:
        which: 1 is the largest face, 2 the next, and so on; or (x, y) in pixels of the photo.
        name: used in messages only.

    Raises:
        FaceError: there is no face, or none of this number.
    """
    largest(faces, name)
    if not isinstance(which, int):
        return min(faces, key=lambda face: np.hypot(*(face.centre - which)))
    if not 1 <= which <= len(faces):
        several = "faces, numbered from 1 for the largest" if len(faces) > 1 else "face, number 1"
        raise FaceError(f"There is no face number {which} in {name}; it has {len(faces)} {several}.")
    return faces[which - 1]


def detect_in_crops(crops: Sequence[np.ndarray]) -> list[Face | None]:
    """The face that fills each crop, or None.

    Each crop is shrunk to 112 pixels and framed with its border pixels, so that MTCNN has the room
    that it needs. A face narrower than half the crop does not count.
    """
    small, factors = [], []
    for crop in crops:
        factor = CROP_SIDE / max(crop.shape[:2])
        size = [max(1, round(side * factor)) for side in crop.shape[1::-1]]
        shrunk = np.asarray(Image.fromarray(crop).resize(size, Image.Resampling.BILINEAR))
        frame = (CROP_FRAME, CROP_FRAME)
        small.append(np.pad(shrunk, (frame, frame, (0, 0)), mode="edge"))
        factors.append(factor)
    return [_unframed(found[0], factor, crop) if found else None
            for found, factor, crop in zip(_search(small), factors, crops, strict=True)]


def _unframed(face: Face, factor: float, crop: np.ndarray) -> Face | None:
    """From a framed and shrunk crop back to the crop's own pixels."""
    height, width = crop.shape[:2]
    x, y, w, h = face.box
    if w / factor <= width / 2:
        return None
    corners = (np.array([(x, y), (x + w, y + h)]) - CROP_FRAME) / factor
    return Face(_box(*corners.ravel(), width, height), face.confidence, (face.landmarks - CROP_FRAME) / factor)


def _search(photos: Sequence[np.ndarray], min_face: int = MTCNN_MIN_FACE,
            long_side: int = LONG_SIDE) -> list[list[Face]]:
    """One pass of MTCNN; photos of one size share its batches."""
    found: list[list[Face]] = [[] for _ in photos]
    groups: dict[tuple[int, int], list[int]] = {}
    for number, photo in enumerate(photos):
        groups.setdefault(photo.shape[:2], []).append(number)
    for (height, width), numbers in groups.items():
        scale = min(1.0, MTCNN_MIN_FACE / min_face, long_side / max(height, width))
        size = (round(width * scale), round(height * scale))
        if min(size) < MTCNN_MIN_SIDE:
            continue
        count = max(1, BATCH_PIXELS // (size[0] * size[1]))
        for start in range(0, len(numbers), count):
            batch = numbers[start:start + count]
            faces = _run([photos[number] for number in batch], size, scale)
            for number, those in zip(batch, faces, strict=True):
                found[number] = those
    return found


def _run(photos: list[np.ndarray], size: tuple[int, int], scale: float) -> list[list[Face]]:
    """MTCNN on photos of one size, shrunk to ``size`` (width, height)."""
    height, width = photos[0].shape[:2]
    if scale < 1:
        photos = [np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BILINEAR)) for p in photos]
    rows = detector().detect_faces(list(photos), output_type="numpy", box_format="xyxy", fit_to_image=False)
    found = [[_face(row, scale, width, height) for row in rows if int(row[0]) == number]
             for number in range(len(photos))]
    return [sorted(faces, key=lambda face: -face.area) for faces in found]


def _face(row: np.ndarray, scale: float, width: int, height: int) -> Face:
    """From MTCNN's row (number, x1, y1, x2, y2, confidence, five x, five y)."""
    landmarks = row[6:16].astype(np.float64).reshape(2, 5).T / scale
    return Face(_box(*(row[1:5] / scale), width, height), float(row[5]), landmarks)


def _box(x1: float, y1: float, x2: float, y2: float, width: int, height: int) -> tuple:
    """(x, y, width, height), clipped to a photo of this width and height."""
    (x1, x2), (y1, y2) = np.clip([x1, x2], 0, width), np.clip([y1, y2], 0, height)
    return float(x1), float(y1), float(x2 - x1), float(y2 - y1)


# --- cutting faces out --------------------------------------------------------------------------

SQUARE = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])


def crop(photo: np.ndarray, face: Face, size: int, margin: float = 0.2) -> np.ndarray:
    """The square around a face's box, as published tutorials cut it: RGB uint8 ``(size, size, 3)``.

    Its side is the longer side of the box and ``margin`` times that; the face stays as tilted as it
    is. What lies outside the photo is filled with its nearest border pixels.
    """
    half = max(face.box[2:]) * (1 + margin) / 2
    return align(photo, face.centre + half * SQUARE, (SQUARE + 1) * size / 2, size)


def similarity_transform(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, scale and shift that best carries ``source`` points onto ``target`` points.

    Least squares in closed form (Umeyama, IEEE TPAMI 13, 1991, without reflection).

    Args:
        source, target: ``(n, 2)`` points (x, y).

    Returns:
        ``(2, 3)`` matrix M with target ≈ M · (x, y, 1).
    """
    a = (source - source.mean(0)) @ (1, 1j)  # points as complex numbers: one factor turns and scales
    b = (target - target.mean(0)) @ (1, 1j)
    factor = (a.conj() @ b) / (a.conj() @ a)
    rotation = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([rotation, target.mean(0) - rotation @ source.mean(0)])


def align(image: np.ndarray, landmarks: np.ndarray, template: np.ndarray, size: int) -> np.ndarray:
    """Cut out the face so that its landmarks lie on ``template``: RGB uint8 ``(size, size, 3)``.

    What lies outside the photo is filled with its nearest border pixels.
    """
    matrix = similarity_transform(landmarks, template)
    factor = np.hypot(matrix[0, 0], matrix[1, 0])
    photo = Image.fromarray(image)
    if factor < 0.5:  # shrink first: sampling a large photo at few points would alias
        smaller = (max(1, round(photo.width * factor * 2)), max(1, round(photo.height * factor * 2)))
        ratio = np.array(smaller) / photo.size
        photo = photo.resize(smaller, Image.Resampling.BOX)
        matrix = similarity_transform(landmarks * ratio, template)
    pad = size
    padded = Image.fromarray(np.pad(np.asarray(photo), ((pad, pad), (pad, pad), (0, 0)), mode="edge"))
    inverse = np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))[:2]
    inverse[:, 2] += pad
    return np.asarray(padded.transform((size, size), Image.Transform.AFFINE, inverse.ravel(),
                                       Image.Resampling.BICUBIC))
