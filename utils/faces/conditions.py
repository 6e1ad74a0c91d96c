"""Faces unlike those that a model was measured on: told in a photo, and made from other faces.

What is told comes from five landmarks and from pixels; the bounds are such that few of 698
training photos of the competition lie beyond them. What covers a face is not told: landmarks are
found on sunglasses as well.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ..images import resize
from . import alignment
from .detection import Face

SMALL, BLURRED, TURNED = TOLD = ("small", "blurred", "turned")
# Faces are judged in this size, in pixels, with their landmarks where crops have them.
SIDE = 112
# Distance of the eyes in pixels of the photo: a face of about 40 pixels.
LEAST_EYES = 16.0
# Fine detail, see :func:`sharpness`: 3 of the training photos have less, and 19 in 20 of them once
# they are blurred by 5.7 % of the distance of the eyes.
LEAST_SHARPNESS = 0.024
# How far the nose lies from the middle of the eyes, in distances of the eyes: 8 % lie beyond.
MOST_TURN = 0.25

# What faces are made small and blurred by.
SMALL_SIDE = 32  # pixels of the whole crop
BLUR = 0.08  # standard deviation of the blur, in distances of the eyes
DARK, CLOTH = (18, 18, 20), (150, 190, 215)  # RGB of sunglasses and of a mask


# --- told in a photo ----------------------------------------------------------------------------


def told(photo: np.ndarray, face: Face) -> tuple[str, ...]:
    """Which of ``TOLD`` a face in a photo is, in their order.

    Args:
        photo: RGB uint8 ``(height, width, 3)``.
        face: what :mod:`detection` found in it.
    """
    template = alignment.CROP_LANDMARKS * SIDE
    crop = alignment.align(photo, face.landmarks, template, SIDE)
    is_so = {
        SMALL: _distance_of_eyes(face.landmarks) < LEAST_EYES,
        BLURRED: sharpness(crop) < LEAST_SHARPNESS,
        TURNED: turn(face.landmarks) > MOST_TURN,
    }
    return tuple(name for name in TOLD if is_so[name])


def sharpness(crop: np.ndarray) -> float:
    """Share of an aligned face's contrast that is fine detail: in [0, 1].

    Standard deviation of what a Gaussian blur of one pixel takes away, over that of the face.

    Args:
        crop: RGB uint8 ``(SIDE, SIDE, 3)``.
    """
    grey = Image.fromarray(crop).convert("L")
    brightness = np.asarray(grey, np.float64)
    coarse = np.asarray(grey.filter(ImageFilter.GaussianBlur(1)), np.float64)
    return float((brightness - coarse).std() / max(brightness.std(), 1.0))


def turn(landmarks: np.ndarray) -> float:
    """How far the nose lies from the middle between the eyes, along the line of the eyes.

    In distances of the eyes. A face that looks into the camera has 0, and a tilted head as well.

    Args:
        landmarks: ``(5, 2)`` as :class:`detection.Face` has them.
    """
    left, right, nose = landmarks[:3]
    eyes = right - left
    return float(abs((nose - (left + right) / 2) @ eyes) / (eyes @ eyes))


# --- made from other faces ----------------------------------------------------------------------


def sunglasses(crop: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The face behind dark glasses."""
    picture, unit = Image.fromarray(crop), _distance_of_eyes(landmarks)
    draw = ImageDraw.Draw(picture)
    for x, y in landmarks[:2]:
        width, height = 0.40 * unit, 0.30 * unit
        draw.ellipse((x - width, y - height, x + width, y + height), fill=DARK)
    bridge = [tuple(point) for point in landmarks[:2].tolist()]
    draw.line(bridge, fill=DARK, width=max(1, round(0.12 * unit)))
    return np.asarray(picture)


def mask(crop: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The face behind a mask of cloth, from the middle of the nose to the chin."""
    picture, unit = Image.fromarray(crop), _distance_of_eyes(landmarks)
    (_, _), (_, _), nose, left, right = landmarks
    # corners (right, down) from a landmark, in distances of the eyes
    corners = [
        nose + unit * np.array((0.0, -0.35)),
        right + unit * np.array((0.42, -0.45)),
        right + unit * np.array((0.25, 0.45)),
        (left + right) / 2 + unit * np.array((0.0, 0.90)),
        left + unit * np.array((-0.25, 0.45)),
        left + unit * np.array((-0.42, -0.45)),
    ]
    ImageDraw.Draw(picture).polygon([tuple(corner.tolist()) for corner in corners], fill=CLOTH)
    return np.asarray(picture)


def small(crop: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The face as a photo shows it in ``SMALL_SIDE`` pixels."""
    return resize(resize(crop, SMALL_SIDE), len(crop))


def blurred(crop: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The face out of focus."""
    radius = BLUR * _distance_of_eyes(landmarks)
    return np.asarray(Image.fromarray(crop).filter(ImageFilter.GaussianBlur(radius)))


def grey(crop: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The face without colours."""
    return np.asarray(Image.fromarray(crop).convert("L").convert("RGB"))


def _distance_of_eyes(landmarks: np.ndarray) -> float:
    """In pixels."""
    return float(np.hypot(*(landmarks[1] - landmarks[0])))


# Each takes an aligned face, RGB uint8 (size, size, 3), and its landmarks in it, (5, 2) in pixels,
# and gives a face of the same size.
ALTERED: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "sunglasses": sunglasses,
    "mask": mask,
    SMALL: small,
    BLURRED: blurred,
    "grey": grey,
}
