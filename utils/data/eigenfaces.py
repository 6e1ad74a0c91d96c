"""A statistical model of faces that holds no person: principal components of aligned faces.

Eigenfaces (Turk and Pentland, J. Cognitive Neuroscience 3, 1991): a face is the mean face plus a
weighted sum of components. The components here are scaled by their standard deviation, so that a
vector of independent standard normal coefficients gives a face as common as those it came from.

A face is kept as luma at full and two chroma planes at half resolution (as JPEG does), which
halves the numbers; components are stored as 8-bit integers with one step size for all.
"""

import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .. import settings
from ..errors import DatasetError
from ..files import atomic

SIZE = 128
CHROMA_WEIGHT = 2.0  # a chroma pixel stands for four pixels; 2² = 4 in squared error
# What NumPy raises on broken or foreign files, found by feeding it such files.
_BROKEN = (OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, RuntimeError,
           zipfile.BadZipFile, zlib.error, tokenize.TokenError)


@dataclass(frozen=True)
class Eigenfaces:
    """Mean and components of faces.

    Attributes:
        mean: float32 ``(planes,)``: luma ``SIZE²``, then blue and red chroma ``(SIZE/2)²`` each, 0–255.
        components: float32 ``(k, planes)``, each scaled by its standard deviation, largest first.
        landmarks: ``(5, 2)``, where the eyes, nose and mouth corners lie in the ``SIZE`` square.
    """

    mean: np.ndarray
    components: np.ndarray
    landmarks: np.ndarray

    def render(self, coefficients: np.ndarray) -> np.ndarray:
        """Faces for standard coefficients ``(n, k)``: uint8 RGB ``(n, SIZE, SIZE, 3)``."""
        planes = self.mean + np.asarray(coefficients, np.float32) @ self.components
        return np.stack([_to_rgb(row) for row in planes.round().clip(0, 255).astype(np.uint8)])


def fit(faces, landmarks: np.ndarray, count: int = 200, seed: int = 0) -> tuple[Eigenfaces, float]:
    """Find the ``count`` largest principal components.

    Args:
        faces: iterable of aligned uint8 RGB faces ``(SIZE, SIZE, 3)``.
        landmarks: the template they were aligned to.

    Returns:
        the model, and the share of the variance that it holds, in [0, 1].
    """
    from sklearn.utils.extmath import randomized_svd

    planes = np.stack([_from_rgb(face) for face in faces]).astype(np.float32)
    mean = planes.mean(0)
    weight = np.where(np.arange(len(mean)) < SIZE**2, 1, CHROMA_WEIGHT).astype(np.float32)
    planes -= mean
    planes *= weight
    _, singular, directions = randomized_svd(planes, count, n_iter=3, random_state=seed)
    components = directions * (singular / np.sqrt(len(planes)))[:, None] / weight
    share = float((singular**2).sum() / np.einsum("ij,ij->", planes, planes, dtype=np.float64))
    return Eigenfaces(mean, components.astype(np.float32), np.asarray(landmarks, np.float64)), share


def save(model: Eigenfaces, path: str | Path, step: float = 0.3) -> None:
    """Write the model, components rounded to multiples of ``step`` grey levels (8 bits)."""
    quantised = np.clip(np.round(model.components / step), -127, 127).astype(np.int8)
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, mean=model.mean.astype(np.float16), components=quantised,
                            step=np.float32(step), landmarks=model.landmarks)


def load(path: str | Path = settings.EIGENFACES) -> Eigenfaces:
    """Read the model that :func:`save` wrote.

    Raises:
        DatasetError: the file is missing or damaged.
    """
    try:
        with np.load(path) as stored:
            components = stored["components"].astype(np.float32) * stored["step"]
            return Eigenfaces(stored["mean"].astype(np.float32), components, stored["landmarks"])
    except _BROKEN as error:
        raise DatasetError(f"The eigenfaces {path} are missing or damaged; restore the file from the "
                           "repository, or build it with: python -m utils eigenfaces") from error


def _from_rgb(face: np.ndarray) -> np.ndarray:
    luma, blue, red = Image.fromarray(face).convert("YCbCr").split()
    half = (SIZE // 2, SIZE // 2)
    return np.concatenate([np.asarray(luma).ravel(),
                           np.asarray(blue.resize(half, Image.Resampling.BOX)).ravel(),
                           np.asarray(red.resize(half, Image.Resampling.BOX)).ravel()])


def _to_rgb(planes: np.ndarray) -> np.ndarray:
    luma, blue, red = np.split(planes, [SIZE**2, SIZE**2 + (SIZE // 2) ** 2])
    bands = [Image.fromarray(luma.reshape(SIZE, SIZE))]
    for chroma in (blue, red):
        small = Image.fromarray(chroma.reshape(SIZE // 2, SIZE // 2))
        bands.append(small.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    return np.asarray(Image.merge("YCbCr", bands).convert("RGB"))
