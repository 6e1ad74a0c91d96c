"""Whose nose is it? How much each region of two faces carries the answer of a kinship encoder.

Each region of either face is exchanged for that of faces which belong to nobody (drawn from the
eigenfaces). The change of the answer is what the region carried. This is occlusion (Zeiler and
Fergus, ECCV 2014), but with something that looks like a face instead of a grey patch, which no
encoder has seen.
"""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageFilter

from ..data import eigenfaces
from ..faces import alignment
from ..faces.alignment import CROP_LANDMARKS
from ..training.ensemble import Ensemble
from ..training.models import Encoder

REGIONS = ("eyes", "brows", "nose", "mouth", "jaw", "forehead")
DONORS = 6  # faces whose regions are put in
BATCH = 16  # faces that are embedded at a time: more take memory and no less time
SMALL_PART = 0.15  # what carries less than this share of the largest region is not named
CLEAR = 2  # a region stands out if it carries more than so many standard errors


@dataclass(frozen=True)
class _Ellipse:
    """Where a region, or a half of it, lies in an aligned face. Right is along the eyes.

    Attributes:
        landmarks: the landmarks whose mean is the starting point of the centre.
        shift: from there to the centre (right, down), in distances of the eyes.
        radii: (right, down), in the same unit.
    """

    landmarks: tuple[int, ...]
    shift: tuple[float, float]
    radii: tuple[float, float]


# Landmarks: 0 and 1 the eyes, 2 the nose, 3 and 4 the corners of the mouth.
_ELLIPSES = {
    "eyes": [_Ellipse((0,), (0, 0), (0.38, 0.20)), _Ellipse((1,), (0, 0), (0.38, 0.20))],
    "brows": [
        _Ellipse((0,), (0, -0.40), (0.44, 0.18)),
        _Ellipse((1,), (0, -0.40), (0.44, 0.18)),
    ],
    "nose": [_Ellipse((2,), (0, -0.18), (0.32, 0.42))],
    "mouth": [_Ellipse((3, 4), (0, 0.02), (0.54, 0.26))],
    "jaw": [_Ellipse((3, 4), (0, 0.50), (1.00, 0.46))],
    "forehead": [_Ellipse((0, 1), (0, -0.95), (1.10, 0.55))],
}


@dataclass(frozen=True)
class Regions:
    """What each region carries, in log-odds of kinship; a positive number speaks for kinship.

    Attributes:
        carried: region to the mean over donors and both faces.
        spread: region to the standard error of that mean over donors.
        masks: float32 ``(2, regions, size, size)`` in [0, 1], where the regions lie in the crops.
    """

    carried: dict[str, float]
    spread: dict[str, float]
    masks: np.ndarray = field(repr=False)

    @property
    def sentence(self) -> str:
        """The regions that speak for kinship most, and those against it, in words."""
        order = sorted(REGIONS, key=self.carried.__getitem__, reverse=True)
        clear = [name for name in order if self.stands_out(name)]
        supporting = [self._named(name) for name in clear if self.carried[name] > 0]
        opposing = [self._named(name) for name in reversed(clear) if self.carried[name] < 0]
        parts = []
        if supporting:
            parts.append(f"What speaks for kinship: {', '.join(supporting)}")
        if opposing:
            beginning = "what speaks against it" if supporting else "What speaks against kinship"
            parts.append(f"{beginning}: {', '.join(opposing)}")
        return ("; ".join(parts) or "No region stands out") + ". (Log-odds that a region carries.)"

    @property
    def named(self) -> list[str]:
        """The regions that stand out and carry more than a small part, the largest first."""
        order = sorted(self.carried, key=lambda name: -abs(self.carried[name]))
        least = SMALL_PART * abs(self.carried[order[0]])
        return [
            name for name in order if self.stands_out(name) and abs(self.carried[name]) >= least
        ]

    @property
    def without_doubtful(self) -> "Regions":
        """The same, but what :attr:`in_words` does not name carries nothing: for pictures."""
        names = self.named
        carried = {name: value * (name in names) for name, value in self.carried.items()}
        return dataclasses.replace(self, carried=carried)

    @property
    def in_words(self) -> str:
        """Which regions speak for kinship and which against it, without numbers."""
        names: dict[bool, list[str]] = {True: [], False: []}
        for name in self.named:
            names[self.carried[name] > 0].append(f"the {name}")

        sentences = []
        for is_for, what in ((True, "for kinship"), (False, "against it")):
            if names[is_for]:
                # eyes and brows are several by themselves
                is_one = len(names[is_for]) == 1 and not names[is_for][0].endswith("s")
                verb = "speaks" if is_one else "speak"
                sentences.append(f"{_listed(names[is_for]).capitalize()} {verb} {what}.")
        if not names[True] and names[False]:
            return sentences[0].replace("against it", "against kinship")
        return " ".join(sentences) or "No part of the faces stands out."

    def stands_out(self, name: str) -> bool:
        """Whether a region carries more than chance: two standard errors."""
        return abs(self.carried[name]) > CLEAR * self.spread[name]

    def _named(self, name: str) -> str:
        return f"{name} ({self.carried[name]:+.2f})"

    def to_dict(self) -> dict:
        """Plain numbers by region."""
        return {
            name: {"carried": round(self.carried[name], 3), "spread": round(self.spread[name], 3)}
            for name in REGIONS
        }


def _listed(names: Sequence[str]) -> str:
    """Such as ``the eyes, the nose and the jaw``."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def explain(encoder: Encoder | Ensemble, crops: np.ndarray, landmarks: np.ndarray) -> Regions:
    """Measure what each region of two aligned faces carries.

    Args:
        encoder: the kinship encoder whose answer is explained.
        crops: the two faces as the encoder takes them, uint8 RGB ``(2, size, size, 3)``.
        landmarks: ``(2, 5, 2)``, (x, y) in the crops.
    """
    size = crops.shape[1]
    donors = donor_faces(size)
    masks = np.stack([region_masks(points, size) for points in landmarks])

    # one batch: the two faces, then each with every region exchanged for that of every donor. A
    # difference of similarities needs no mirror image, which would take as long again
    exchanged = _exchanged_faces(crops, masks, donors)
    embeddings = encoder.embed(np.concatenate([crops, exchanged]), BATCH, mirrored=False)
    first, second = embeddings[:2]
    shape = (2, len(REGIONS), len(donors), -1)
    first_exchanged, second_exchanged = embeddings[2:].reshape(shape)

    # how far the log-odds fall is what the region carried
    before = _log_odds(encoder, first, second)
    after = np.stack(  # (2, regions, donors)
        [
            _log_odds(encoder, first_exchanged, second),
            _log_odds(encoder, second_exchanged, first),
        ]
    )
    carried = (before - after).mean(0)  # (regions, donors): mean over the two faces
    spread = carried.std(1, ddof=1) / np.sqrt(len(donors))
    return Regions(_by_region(carried.mean(1)), _by_region(spread), masks)


def _exchanged_faces(crops: np.ndarray, masks: np.ndarray, donors: np.ndarray) -> np.ndarray:
    """Both faces, every region exchanged: uint8 ``(2 * regions * donors, size, size, 3)``."""
    faces = []
    for face, face_masks in zip(crops, masks, strict=True):
        for mask in face_masks:
            faces += [exchange(face, donor, mask) for donor in donors]
    return np.stack(faces)


def _log_odds(encoder: Encoder | Ensemble, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return encoder.log_odds(encoder.similarity(a, b))


def _by_region(values: np.ndarray) -> dict[str, float]:
    return dict(zip(REGIONS, values.tolist(), strict=True))


def region_masks(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Where the regions of an aligned face lie: float32 ``(regions, size, size)`` in [0, 1].

    The borders are soft. Where two regions meet, the one that comes first has the pixels.

    Args:
        landmarks: ``(5, 2)`` as :class:`detection.Face` has them, in pixels of the crop.
        size: side of the crop in pixels.
    """
    unit = float(np.hypot(*(landmarks[1] - landmarks[0])))  # the distance of the eyes
    free = np.ones((size, size), bool)
    masks = []
    for name in REGIONS:
        # all ellipses of the region together, without what earlier regions have
        inside = np.zeros((size, size), bool)
        for ellipse in _ELLIPSES[name]:
            inside |= _ellipse_mask(ellipse, landmarks, unit, size)
        masks.append(_softened(inside & free, unit / 20))
        free &= ~inside
    return np.stack(masks)


def _ellipse_mask(ellipse: _Ellipse, landmarks: np.ndarray, unit: float, size: int) -> np.ndarray:
    """The pixels whose centres lie in the ellipse: bool ``(size, size)``."""
    rows, columns = np.mgrid[:size, :size] + 0.5
    x, y = landmarks[list(ellipse.landmarks)].mean(0) + unit * np.array(ellipse.shift)
    radius_x, radius_y = unit * np.array(ellipse.radii)
    return ((columns - x) / radius_x) ** 2 + ((rows - y) / radius_y) ** 2 <= 1


def _softened(mask: np.ndarray, radius: float) -> np.ndarray:
    """The mask with soft borders: float32 in [0, 1]; ``radius`` is in pixels."""
    picture = Image.fromarray((255 * mask).astype(np.uint8))
    blurred = picture.filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(blurred, np.float32) / 255


def exchange(face: np.ndarray, donor: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """``face`` with the donor's pixels under the mask, in the face's own colours and contrast.

    Args:
        face: uint8 RGB ``(size, size, 3)``.
        donor: the same, aligned in the same way.
        mask: ``(size, size)`` in [0, 1].
    """
    weight = mask[..., None] / max(mask.sum(), 1e-6)  # (size, size, 1), sums to 1
    mean, contrast = _moments(face, weight)
    donor_mean, donor_contrast = _moments(donor, weight)
    # at most twice the donor's contrast: more would show its noise
    factor = np.minimum(contrast / np.maximum(donor_contrast, 1.0), 2.0)
    fitted = (donor - donor_mean) * factor + mean
    blended = face + mask[..., None] * (fitted - face)
    return blended.round().clip(0, 255).astype(np.uint8)


def _moments(picture: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and standard deviation of each channel, both ``(3,)``."""
    mean = (weight * picture).sum((0, 1))
    variance = (weight * (picture - mean) ** 2).sum((0, 1))
    return mean, np.sqrt(variance)


@functools.cache
def donor_faces(size: int, count: int = DONORS) -> np.ndarray:
    """Faces of nobody as kinship encoders take them, the same at each call.

    Args:
        size: side of a face in pixels.
        count: how many faces.

    Returns:
        uint8 RGB ``(count, size, size, 3)``.
    """
    model = eigenfaces.load()
    rng = np.random.default_rng(0)
    coefficients = 0.8 * rng.standard_normal((count, len(model.components)))
    template = CROP_LANDMARKS * size
    faces = [
        alignment.align(face, model.landmarks, template, size)
        for face in model.render(coefficients)
    ]
    return np.stack(faces)
