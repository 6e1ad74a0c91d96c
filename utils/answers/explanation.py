"""Whose nose is it? How much each region of two faces carries the answer of a kinship encoder.

Each region of either face is exchanged for that of faces which belong to nobody (drawn from the
eigenfaces), and the change of the answer is what the region carried: occlusion (Zeiler and Fergus, ECCV
2014), but with something that looks like a face instead of a grey patch, which no encoder has seen.
"""

import functools
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageFilter

from ..data import eigenfaces
from ..faces import detection
from ..training.models import CROP_LANDMARKS, KinshipEncoder

REGIONS = ("eyes", "brows", "nose", "mouth", "jaw", "forehead")
DONORS = 6  # faces whose regions are put in

# Ellipses of each region: landmarks between which the centre lies, then the shift of the centre and the
# two radii (right, down), in units of the distance of the eyes. In aligned faces, right is along the eyes.
_ELLIPSES = {
    "eyes": [((0,), (0, 0), (0.38, 0.20)), ((1,), (0, 0), (0.38, 0.20))],
    "brows": [((0,), (0, -0.40), (0.44, 0.18)), ((1,), (0, -0.40), (0.44, 0.18))],
    "nose": [((2,), (0, -0.18), (0.32, 0.42))],
    "mouth": [((3, 4), (0, 0.02), (0.54, 0.26))],
    "jaw": [((3, 4), (0, 0.50), (1.00, 0.46))],
    "forehead": [((0, 1), (0, -0.95), (1.10, 0.55))],
}


@dataclass(frozen=True)
class Explanation:
    """What each region carries, in log-odds of kinship; positive: it speaks for kinship.

    Attributes:
        carried: region to the mean over donors and both faces; spread: its standard error over donors.
        masks: float32 ``(2, regions, size, size)`` in [0, 1], where the regions lie in the two crops.
    """

    carried: dict[str, float]
    spread: dict[str, float]
    masks: np.ndarray = field(repr=False)

    @property
    def sentence(self) -> str:
        """The regions that speak for kinship most, and those against, in words."""
        order = sorted(self.carried, key=self.carried.get, reverse=True)
        clear = [name for name in order if abs(self.carried[name]) > 2 * self.spread[name]]
        named = {sign: [f"{name} ({self.carried[name]:+.2f})" for name in clear if self.carried[name] * sign > 0]
                 for sign in (1, -1)}
        against = "what speaks against it" if named[1] else "What speaks against kinship"
        parts = [f"{what}: {', '.join(found)}" for what, found in
                 (("What speaks for kinship", named[1]), (against, named[-1][::-1])) if found]
        return ("; ".join(parts) or "No region stands out") + ". (Log-odds that a region carries.)"

    def to_dict(self) -> dict:
        """Plain numbers by region."""
        return {name: {"carried": round(self.carried[name], 3), "spread": round(self.spread[name], 3)}
                for name in REGIONS}


def explain(encoder: KinshipEncoder, crops: np.ndarray, landmarks: np.ndarray) -> Explanation:
    """Measure what each region of two aligned faces carries.

    Args:
        crops: the two faces as the encoder takes them, uint8 RGB ``(2, size, size, 3)``.
        landmarks: ``(2, 5, 2)``, (x, y) in the crops.
    """
    size = crops.shape[1]
    masks = np.stack([region_masks(points, size) for points in landmarks])
    donors = donor_faces(size)
    changed = [exchange(crops[side], donor, masks[side, number])
               for side in (0, 1) for number in range(len(REGIONS)) for donor in donors]
    a, b, *others = encoder.embed(np.stack([*crops, *changed]))
    others = np.reshape(others, (2, len(REGIONS), len(donors), -1))
    after = np.stack([_log_odds(encoder, others[side], other) for side, other in ((0, b), (1, a))])
    lost = (_log_odds(encoder, a, b) - after).mean(0)  # (regions, donors): mean over the two faces
    spread = lost.std(1, ddof=1) / np.sqrt(len(donors))
    return Explanation(dict(zip(REGIONS, lost.mean(1).tolist(), strict=True)),
                       dict(zip(REGIONS, spread.tolist(), strict=True)), masks)


def _log_odds(encoder: KinshipEncoder, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return encoder.log_odds(encoder.similarity(a, b))


def region_masks(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Where the regions of an aligned face lie: float32 ``(regions, size, size)`` in [0, 1].

    The borders are soft; where two regions meet, the one that comes first has the pixels.

    Args:
        landmarks: ``(5, 2)`` as :class:`detection.Face` has them, in pixels of the crop.
    """
    unit = float(np.hypot(*(landmarks[1] - landmarks[0])))
    rows, columns = np.mgrid[:size, :size] + 0.5
    free, masks = np.ones((size, size), bool), []
    for name in REGIONS:
        inside = np.zeros((size, size), bool)
        for points, shift, radii in _ELLIPSES[name]:
            x, y = landmarks[list(points)].mean(0) + unit * np.array(shift)
            inside |= ((columns - x) / (unit * radii[0])) ** 2 + ((rows - y) / (unit * radii[1])) ** 2 <= 1
        masks.append(_softened(inside & free, unit / 20))
        free &= ~inside
    return np.stack(masks)


def _softened(mask: np.ndarray, radius: float) -> np.ndarray:
    blurred = Image.fromarray((255 * mask).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(blurred, np.float32) / 255


def exchange(face: np.ndarray, donor: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """``face`` with the donor's pixels under the mask, in the face's own colours and contrast there.

    Args:
        face, donor: uint8 RGB ``(size, size, 3)``, aligned alike; mask: ``(size, size)`` in [0, 1].
    """
    weight = mask[..., None] / max(mask.sum(), 1e-6)
    (mean, deviation), (other, contrast) = (_moments(picture, weight) for picture in (face, donor))
    fitted = (donor - other) * np.minimum(deviation / np.maximum(contrast, 1.0), 2.0) + mean
    return (face + mask[..., None] * (fitted - face)).round().clip(0, 255).astype(np.uint8)


def _moments(picture: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = (weight * picture).sum((0, 1))
    return mean, np.sqrt((weight * (picture - mean) ** 2).sum((0, 1)))


@functools.cache
def donor_faces(size: int, count: int = DONORS) -> np.ndarray:
    """Faces of nobody as kinship encoders take them: uint8 RGB ``(count, size, size, 3)``; always the same."""
    model = eigenfaces.load()
    coefficients = 0.8 * np.random.default_rng(0).standard_normal((count, len(model.components)))
    return np.stack([detection.align(face, model.landmarks, CROP_LANDMARKS * size, size)
                     for face in model.render(coefficients)])
