"""Faces in photos: MTCNN (Zhang et al., IEEE SPL 2016) from the package ``mtcnn``, and alignment."""

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image

# MTCNN's own smallest face in pixels. The package (1.0) sizes its pyramid for this value only: with
# a larger one, levels shrink below P-Net's 12 pixels, the error is swallowed, and a photo full of
# faces gives none. So a larger smallest face is had by shrinking the photo instead.
MTCNN_MIN_FACE = 20
MTCNN_MIN_SIDE = 24
LONG_SIDE = 1280


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


@functools.cache
def detector():
    """The one MTCNN of this process, built at the first call."""
    from mtcnn import MTCNN

    return MTCNN()


def detect(image: np.ndarray, min_face: int = MTCNN_MIN_FACE, long_side: int = LONG_SIDE) -> list[Face]:
    """Find the faces in an RGB uint8 photo, the largest first. No face gives an empty list.

    Args:
        min_face: about the smallest face to look for, in pixels of the photo; MTCNN may still find
            faces of half that size.
        long_side: larger photos are shrunk to it before the search.
    """
    return detect_many([image], min_face, long_side)[0]


def detect_many(photos: list[np.ndarray], min_face: int = MTCNN_MIN_FACE,
                long_side: int = LONG_SIDE) -> list[list[Face]]:
    """:func:`detect` on photos of one size, in a single batch."""
    if not photos:
        return []
    height, width = photos[0].shape[:2]
    scale = min(1.0, MTCNN_MIN_FACE / min_face, long_side / max(height, width))
    size = (round(width * scale), round(height * scale))
    if min(size) < MTCNN_MIN_SIDE:
        return [[] for _ in photos]
    if scale < 1:
        photos = [np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BILINEAR)) for p in photos]
    rows = detector().detect_faces(list(photos), output_type="numpy", box_format="xyxy", fit_to_image=False)
    found = [[_face(row, scale, width, height) for row in rows if int(row[0]) == number]
             for number in range(len(photos))]
    return [sorted(faces, key=lambda face: -face.area) for faces in found]


def _face(row: np.ndarray, scale: float, width: int, height: int) -> Face:
    """From MTCNN's row (number, x1, y1, x2, y2, confidence, five x, five y)."""
    x1, x2 = np.clip(row[[1, 3]] / scale, 0, width)
    y1, y2 = np.clip(row[[2, 4]] / scale, 0, height)
    box = (float(x1), float(y1), float(x2 - x1), float(y2 - y1))
    return Face(box, float(row[5]), row[6:16].astype(np.float64).reshape(2, 5).T / scale)


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
