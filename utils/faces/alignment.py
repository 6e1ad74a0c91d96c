"""Faces cut out of photos: the tables of landmarks, the transform between them, and the crop.

Every table holds (x, y) of the left eye, the right eye, the nose, the left and the right mouth
corner, in a square of side 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from .. import images
from . import detection
from .detection import Face

# In the competition's crops: medians over 11,940 training photos, made left-right symmetric.
# Encoders are fine-tuned on such crops as they are.
CROP_LANDMARKS = np.array(
    [(0.305, 0.282), (0.695, 0.282), (0.500, 0.520), (0.320, 0.686), (0.680, 0.686)]
)
# In the square around MTCNN's box: medians over 1,034 training photos of the competition, made
# left-right symmetric.
BOX_LANDMARKS = np.array(
    [(0.325, 0.397), (0.675, 0.397), (0.500, 0.600), (0.338, 0.746), (0.662, 0.746)]
)
# In the crops of 150 pixels that dlib's network was trained on.
DLIB_LANDMARKS = (
    np.array([(47.7, 47.1), (100.2, 46.8), (74.1, 77.0), (52.6, 107.8), (96.1, 107.5)]) / 150
)
# In the crops of 112 pixels of ArcFace and of what was trained after it (Deng et al., CVPR 2019).
ARCFACE_LANDMARKS = (
    np.array([(38.29, 51.70), (73.53, 51.50), (56.03, 71.74), (41.55, 92.37), (70.73, 92.20)])
    / 112
)

MARGIN = 4  # pixels around a crop that its filters may reach
# The corners of a square around (0, 0), of side 2.
SQUARE = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])


class Aligning(Protocol):
    """A network that takes aligned faces: a backbone, or an encoder that was fine-tuned."""

    @property
    def input_size(self) -> int:
        """Side of its crops in pixels."""

    @property
    def template(self) -> np.ndarray:
        """Where the landmarks of a face belong in a crop: (x, y) in pixels, ``(5, 2)``."""


@dataclass(frozen=True)
class AlignedFace:
    """A face cut out of its photo so that its landmarks lie on a template.

    Attributes:
        crop: RGB uint8 ``(size, size, 3)``.
        landmarks: where the face's own landmarks lie in the crop, near the template's: (x, y) in
            pixels, float64 ``(5, 2)``.
    """

    crop: np.ndarray
    landmarks: np.ndarray


def align_face(network: Aligning, photo: np.ndarray, face: Face) -> AlignedFace:
    """The face as the network takes it: its landmarks on the network's template.

    Args:
        network: how large the crop is, and where the landmarks belong.
        photo: the photo in which the face was detected, RGB uint8 ``(height, width, 3)``.
        face: what :mod:`detection` found.
    """
    return _align(photo, face.landmarks, network.template, network.input_size)


def aligned_faces(network: Aligning, paths: Sequence[str | Path]) -> tuple[np.ndarray, np.ndarray]:
    """The largest face of each photo, aligned as by :func:`align_face`.

    Returns:
        The faces, uint8 RGB ``(n, size, size, 3)``, where there is none the whole photo, resized;
        and their landmarks in the crops, float64 ``(n, 5, 2)`` pixels, NaN where there is no face.
    """
    photos = list(images.map_threads(images.read, paths))
    size = network.input_size
    crops = np.empty((len(photos), size, size, 3), np.uint8)
    landmarks = np.full((len(photos), 5, 2), np.nan)
    for row, faces in enumerate(detection.detect_many(photos)):
        if faces:
            aligned = align_face(network, photos[row], faces[0])
            crops[row], landmarks[row] = aligned.crop, aligned.landmarks
        else:
            crops[row] = images.resize(photos[row], size)
    return crops, landmarks


def crop(photo: np.ndarray, face: Face, size: int, margin: float = 0.2) -> np.ndarray:
    """The square around a face's box, as published tutorials cut it; the face stays tilted.

    What lies outside the photo is filled with its nearest border pixels.

    Args:
        photo: RGB uint8 ``(height, width, 3)``.
        face: what :mod:`detection` found in it.
        size: side of the crop in pixels.
        margin: this share of the longer side of the box is added to it.

    Returns:
        RGB uint8 ``(size, size, 3)``.
    """
    half = max(face.box[2:]) * (1 + margin) / 2
    return align(photo, face.centre + half * SQUARE, (SQUARE + 1) * size / 2, size)


def align(image: np.ndarray, landmarks: np.ndarray, template: np.ndarray, size: int) -> np.ndarray:
    """Cut out the face so that its landmarks lie on ``template``.

    What lies outside the photo is filled with its nearest border pixels.

    Args:
        image: the photo, RGB uint8 ``(height, width, 3)``.
        landmarks: (x, y) in pixels of the photo, ``(n, 2)``.
        template: where the landmarks belong: (x, y) in pixels of the crop, ``(n, 2)``.
        size: side of the crop in pixels.

    Returns:
        RGB uint8 ``(size, size, 3)``.
    """
    return _align(image, landmarks, template, size).crop


def similarity_transform(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, scale and shift that best carries ``source`` points onto ``target`` points.

    Least squares in closed form (Umeyama, IEEE TPAMI 13, 1991, without reflection).

    Args:
        source: ``(n, 2)`` points (x, y).
        target: ``(n, 2)`` points (x, y), where those of ``source`` should come to lie.

    Returns:
        ``(2, 3)`` matrix M with target ≈ M · (x, y, 1).
    """
    # points around their mean, as complex numbers: one factor turns and scales them, (n,)
    a = (source - source.mean(0)) @ (1, 1j)
    b = (target - target.mean(0)) @ (1, 1j)
    factor = (a.conj() @ b) / (a.conj() @ a)

    # the factor as a matrix, and the shift that carries one mean onto the other
    rotation = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    shift = target.mean(0) - rotation @ source.mean(0)
    return np.column_stack([rotation, shift])


def _align(
    image: np.ndarray, landmarks: np.ndarray, template: np.ndarray, size: int
) -> AlignedFace:
    """What :func:`align` gives, and where the landmarks lie in it."""
    matrix = similarity_transform(landmarks, template)  # (2, 3): from the photo to the crop
    in_crop = landmarks @ matrix[:, :2].T + matrix[:, 2]

    # shrink a large photo first: sampled at few points, it would alias
    if np.hypot(matrix[0, 0], matrix[1, 0]) < 0.5:
        image, landmarks = _shrunk_around(image, landmarks, matrix, size)
        matrix = similarity_transform(landmarks, template)

    return AlignedFace(_sample(image, matrix, size), in_crop)


def _shrunk_around(
    image: np.ndarray, landmarks: np.ndarray, matrix: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The part of a photo that a crop shows, at twice the scale of the crop.

    Args:
        image: the photo, RGB uint8 ``(height, width, 3)``.
        landmarks: (x, y) in pixels of the photo, ``(n, 2)``.
        matrix: from the photo to the crop, ``(2, 3)``.
        size: side of the crop in pixels.

    Returns:
        RGB uint8, and the landmarks in it.
    """
    # whole pixels: the two sides do not shrink by quite the same ratio
    whole = np.array(image.shape[1::-1])  # (width, height)
    shrunk = np.maximum(1, np.round(whole * np.hypot(matrix[0, 0], matrix[1, 0]) * 2))
    ratio = shrunk / whole

    # the crop's corners in the shrunk photo, and some pixels more for the filters
    corners = ((SQUARE + 1) * size / 2 - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T * ratio
    low = np.clip(np.floor(corners.min(0)) - MARGIN, 0, shrunk - 1)
    high = np.clip(np.ceil(corners.max(0)) + MARGIN, low + 1, shrunk)

    # only these pixels of the photo are averaged
    start, stop = np.floor(low / ratio).astype(int), np.ceil(high / ratio).astype(int)
    part = Image.fromarray(np.ascontiguousarray(image[start[1] : stop[1], start[0] : stop[0]]))
    box = np.clip([low / ratio - start, high / ratio - start], 0, part.size).ravel().tolist()
    width, height = (high - low).astype(int).tolist()
    part = part.resize((width, height), Image.Resampling.BOX, box=tuple(box))
    return np.asarray(part), landmarks * ratio - low


def _sample(photo: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """The square of this side that ``matrix`` ``(2, 3)`` carries the photo onto."""
    # a border as wide as the crop, of the nearest pixels
    border = (size, size)
    padded = Image.fromarray(np.pad(photo, (border, border, (0, 0)), mode="edge"))

    # Pillow asks for the transform from the crop to the photo
    inverse = np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))[:2]
    inverse[:, 2] += size
    coefficients = inverse.ravel().tolist()
    crop = padded.transform(
        (size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC
    )
    return np.asarray(crop)
