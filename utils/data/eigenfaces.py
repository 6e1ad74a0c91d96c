"""A statistical model of faces that holds no person: principal components of aligned faces.

Eigenfaces (Turk and Pentland, J. Cognitive Neuroscience 3, 1991): a face is the mean face plus a
weighted sum of components. The components here are scaled by their standard deviation, so that a
vector of independent standard normal coefficients gives a face as common as those it came from.

A face is kept as luma at full and two chroma planes at half resolution (as JPEG does), which
halves the numbers; components are stored as 8-bit integers with one step size for all.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from .. import images
from ..errors import DatasetError
from ..faces import alignment, detection
from ..files import NPZ_ERRORS, atomic, check_machine
from ..settings import EIGENFACES
from ..surroundings import check_installed
from .datasets import PHOTO_SIZE, Dataset

SIZE = 128  # side of a face in pixels
HALF = SIZE // 2  # side of a chroma plane
CHROMA_WEIGHT = 2.0  # a chroma pixel stands for four pixels; 2² = 4 in squared error
MAX_MISFIT = 14.0  # pixels; beyond it lie profiles, which blur the components
CHUNK = 128  # photos that are searched for faces at a time


@dataclass(frozen=True)
class Eigenfaces:
    """Mean and components of faces.

    Attributes:
        mean: float32 ``(planes,)`` in 0-255: luma ``SIZE²``, then blue and red chroma ``HALF²``.
        components: float32 ``(k, planes)``, each scaled by its standard deviation, largest first.
        landmarks: ``(5, 2)``, where the eyes, nose and mouth corners lie in the ``SIZE`` square.
    """

    mean: np.ndarray
    components: np.ndarray
    landmarks: np.ndarray

    def render(self, coefficients: np.ndarray) -> np.ndarray:
        """Faces for standard coefficients ``(n, k)``: uint8 RGB ``(n, SIZE, SIZE, 3)``."""
        planes = self.mean + np.asarray(coefficients, np.float32) @ self.components  # (n, planes)
        levels = planes.round().clip(0, 255).astype(np.uint8)
        return np.stack([_to_rgb(face) for face in levels])


def fit(
    faces: Iterable[np.ndarray], landmarks: np.ndarray, count: int = 200, seed: int = 0
) -> tuple[Eigenfaces, float]:
    """Find the largest principal components of faces.

    Args:
        faces: aligned uint8 RGB faces ``(SIZE, SIZE, 3)``.
        landmarks: the template they were aligned to, ``(5, 2)``.
        count: number of components.
        seed: of the randomised decomposition.

    Returns:
        The model, and the share of the variance that it holds, in [0, 1].
    """
    from sklearn.utils.extmath import randomized_svd

    planes = np.stack([_from_rgb(face) for face in faces]).astype(np.float32)  # (faces, planes)
    mean = planes.mean(0)
    # decompose differences from the mean, chroma counted as often as its pixels
    weight = np.where(np.arange(len(mean)) < SIZE**2, 1, CHROMA_WEIGHT).astype(np.float32)
    planes -= mean
    planes *= weight
    _, singular, directions = randomized_svd(planes, count, n_iter=3, random_state=seed)
    # each direction scaled by the standard deviation of the faces along it, (count, planes)
    components = directions * (singular / np.sqrt(len(planes)))[:, None] / weight
    variance = np.einsum("ij,ij->", planes, planes, dtype=np.float64)
    share = float((singular**2).sum() / variance)
    template = np.asarray(landmarks, np.float64)
    return Eigenfaces(mean, components.astype(np.float32), template), share


def save(model: Eigenfaces, path: str | Path, step: float = 0.3) -> None:
    """Write the model, its components as 8-bit integers.

    Args:
        model: the model to write.
        path: the file, .npz.
        step: grey levels that one integer stands for; components are rounded to multiples of it.
    """
    quantised = np.clip(np.round(model.components / step), -127, 127).astype(np.int8)
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            mean=model.mean.astype(np.float16),
            components=quantised,
            step=np.float32(step),
            landmarks=model.landmarks,
        )


def load(path: str | Path = EIGENFACES) -> Eigenfaces:
    """Read the model that :func:`save` wrote.

    Raises:
        DatasetError: the file is missing or damaged.
    """
    check_installed(path)
    try:
        with np.load(path) as stored:
            components = stored["components"].astype(np.float32) * stored["step"]
            return Eigenfaces(stored["mean"].astype(np.float32), components, stored["landmarks"])
    except NPZ_ERRORS as error:
        check_machine(error, path)
        raise DatasetError(
            f"The eigenfaces {path} are missing or damaged; restore the file from the "
            "repository, or build it with: kincourse eigenfaces"
        ) from error


def _from_rgb(face: np.ndarray) -> np.ndarray:
    """The planes of a face ``(SIZE, SIZE, 3)``: uint8 ``(planes,)``."""
    luma, blue, red = Image.fromarray(face).convert("YCbCr").split()
    planes = [np.asarray(luma).ravel()]
    for chroma in (blue, red):
        half = chroma.resize((HALF, HALF), Image.Resampling.BOX)
        planes.append(np.asarray(half).ravel())
    return np.concatenate(planes)


def _to_rgb(planes: np.ndarray) -> np.ndarray:
    """A face ``(SIZE, SIZE, 3)`` from its planes, uint8 ``(planes,)``."""
    luma, blue, red = np.split(planes, [SIZE**2, SIZE**2 + HALF**2])
    bands = [Image.fromarray(luma.reshape(SIZE, SIZE))]
    for chroma in (blue, red):
        half = Image.fromarray(chroma.reshape(HALF, HALF))
        bands.append(half.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    return np.asarray(Image.merge("YCbCr", bands).convert("RGB"))


# --- from photos --------------------------------------------------------------------------------


def build(
    dataset: Dataset, count: int = 200, progress: bool = True
) -> tuple[Eigenfaces, dict[str, int | float]]:
    """Fit eigenfaces to every training photo on which MTCNN finds a roughly frontal face.

    Args:
        dataset: the photos.
        count: number of components.
        progress: show a bar.

    Returns:
        The model, and facts about it: photos, without_face, too_turned, used, components,
        variance_share (in [0, 1]).
    """
    paths = dataset.paths(dataset.photos["path"])
    template = alignment.CROP_LANDMARKS * SIZE
    # aligned faces, uint8 (SIZE, SIZE, 3) each, and how many photos give none
    aligned = []
    without_face = too_turned = 0
    with tqdm(total=len(paths), desc="Aligning faces", unit="photo", disable=not progress) as bar:
        for start in range(0, len(paths), CHUNK):
            photos = images.read_many(paths[start : start + CHUNK], PHOTO_SIZE)
            for photo, face in zip(photos, detection.detect_in_crops(list(photos)), strict=True):
                if face is None:
                    without_face += 1
                elif _misfit(face.landmarks) > MAX_MISFIT:
                    too_turned += 1
                else:
                    aligned.append(alignment.align(photo, face.landmarks, template, SIZE))
            bar.update(len(photos))
    model, share = fit(aligned, template, count)
    return model, {
        "photos": len(paths),
        "without_face": without_face,
        "too_turned": too_turned,
        "used": len(aligned),
        "components": count,
        "variance_share": round(share, 4),
    }


def _misfit(landmarks: np.ndarray) -> float:
    """Root mean square distance in pixels of landmarks from the template after the best fit."""
    template = alignment.CROP_LANDMARKS * PHOTO_SIZE
    matrix = alignment.similarity_transform(landmarks, template)
    fitted = landmarks @ matrix[:, :2].T + matrix[:, 2]
    return float(np.sqrt(((fitted - template) ** 2).sum(1).mean()))
