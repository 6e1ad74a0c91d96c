"""From an answer to what the pages draw: pictures as data URLs, boxes, a gauge, bars and words."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from utils import images, plots
from utils.faces import detection
from utils.scoring.calibration import percent

from .uploads import PLACES, Upload

if TYPE_CHECKING:
    from utils.answers.kinship import KinshipAnswer

SIDE = 1280  # longest side of a picture in the page: what faces are searched at
STRIP = 2  # so many times as long as wide, a photo is too long to be shown whole
THUMBNAILS, THUMBNAIL = 24, 96  # faces to choose from in a photo, the largest; pixels

# Likelihood in words, from the lowest probability at which each is used: the scale of the
# Intergovernmental Panel on Climate Change (Mastrandrea et al., 2010).
WORDS = [(0.99, "virtually certain"), (0.90, "very likely"), (0.66, "likely"), (0.33, "about as likely as not"),
         (0.10, "unlikely"), (0.01, "very unlikely"), (0.0, "exceptionally unlikely")]


@dataclass(frozen=True)
class Box:
    """A face in a picture, in pixels of it; ``thumbnail`` is a data URL."""

    number: int
    x: float
    y: float
    width: float
    height: float
    chosen: bool
    thumbnail: str

    @property
    def point(self) -> str:
        """The middle, as forms send it."""
        return f"{self.x + self.width / 2:.0f},{self.y + self.height / 2:.0f}"


@dataclass(frozen=True)
class Picture:
    """A photo in a page: its JPEG in base64, its size in pixels, and its faces."""

    field: str
    name: str
    jpeg: str = ""
    width: int = 0
    height: int = 0
    boxes: Sequence[Box] = ()
    found: int = 0

    @property
    def url(self) -> str:
        """The picture itself."""
        return f"data:image/jpeg;base64,{self.jpeg}"

    @property
    def view(self) -> tuple[float, float, float, float]:
        """What is shown of it, (x, y, width, height): all, but of a long strip the part with the chosen face."""
        chosen = next((box for box in self.boxes if box.chosen), None)
        short, long = sorted((self.width, self.height))
        if chosen is None or long <= STRIP * short:
            return 0, 0, self.width, self.height
        width, height = (min(side, max(STRIP * short, 3 * max(chosen.width, chosen.height)))
                         for side in (self.width, self.height))
        x, y = (float(np.clip(start + size / 2 - part / 2, 0, side - part)) for start, size, part, side in
                ((chosen.x, chosen.width, width, self.width), (chosen.y, chosen.height, height, self.height)))
        return round(x, 1), round(y, 1), width, height


def kept(given: Sequence[Upload]) -> list[Picture]:
    """The places for two photos, with those that were decoded already."""
    photos = [each.photo for each in given] or [None, None]
    return [Picture(field, name) if photo is None else _picture(field, name, photo)
            for (field, name), photo in zip(PLACES.items(), photos, strict=True)]


def result(answer: "KinshipAnswer", photos: Sequence[np.ndarray]) -> dict:
    """What the page of an answer shows."""
    pictures = [_picture(field, name, photo, faces, chosen)
                for (field, name), photo, faces, chosen in
                zip(PLACES.items(), photos, answer.all_faces, answer.faces, strict=True)]
    coloured = [_jpeg(crop) for crop in plots.region_pictures(answer.crops, answer.regions)]
    return {"answer": answer, "percent": percent, "pictures": pictures, "words": in_words(answer.probability),
            "gauge": gauge(answer), "coloured": [f"data:image/jpeg;base64,{jpeg}" for jpeg in coloured],
            "bars": bars(answer)}


def in_words(probability: float) -> str:
    """How likely that is, in words."""
    return next(word for least, word in WORDS if probability >= least)


def _picture(field: str, name: str, photo: np.ndarray, faces: Sequence[detection.Face] = (),
             chosen: detection.Face | None = None) -> Picture:
    scale = min(1.0, SIDE / max(photo.shape[:2]))
    size = (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale)))
    small = photo if scale == 1 else np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS))
    several = len(faces) > 1
    boxes = [Box(number, *(round(value * scale, 1) for value in face.box), face is chosen,
                 f"data:image/jpeg;base64,{_jpeg(detection.crop(photo, face, THUMBNAIL))}" if several else "")
             for number, face in enumerate(faces, start=1) if number <= THUMBNAILS or face is chosen]
    return Picture(field, name, _jpeg(small), *size, boxes, len(faces))


def _jpeg(picture: np.ndarray) -> str:
    return base64.b64encode(images.to_jpeg(picture)).decode()


# --- drawings -----------------------------------------------------------------------------------


def gauge(answer: "KinshipAnswer") -> dict:
    """Points of a half circle from 0 % on the left to 100 % on the right, in a box of 240 × 130."""
    def at(share: float, radius: float) -> str:
        angle = math.pi * (1 - share)
        return f"{120 + radius * math.cos(angle):.2f} {120 - radius * math.sin(angle):.2f}"

    def arc(start: float, end: float) -> str:
        return f"M {at(start, 100)} A 100 100 0 0 1 {at(end, 100)}"

    return {"below": arc(0, answer.threshold), "above": arc(answer.threshold, 1),
            "threshold": f"M {at(answer.threshold, 86)} L {at(answer.threshold, 114)}",
            "needle": f"M 120 120 L {at(answer.probability, 78)}"}


def bars(answer: "KinshipAnswer") -> list[dict]:
    """What each region carries: a bar from the middle of a box 200 wide, and the number."""
    largest = max(0.25, *(abs(value) for value in answer.regions.carried.values()))
    return [{"region": region, "value": f"{value:+.2f}", "error": f"{2 * answer.regions.spread[region]:.2f}",
             "x": round(100 + min(0.0, value) / largest * 98, 1), "width": round(abs(value) / largest * 98, 1),
             "side": "for" if value > 0 else "against"}
            for region, value in answer.regions.carried.items()]
