"""From an answer to what the pages draw: pictures as data URLs, boxes, a gauge, bars and words."""

import base64
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from utils import images, plots
from utils.faces import alignment
from utils.scoring.calibration import percent

from .uploads import PLACES, Upload

if TYPE_CHECKING:
    from utils.answers.comparison import FaceInPhoto
    from utils.answers.explanation import Regions
    from utils.answers.kinship import KinshipAnswer

SIDE = 1280  # longest side of a picture in the page: what faces are searched at
STRIP = 2  # so many times as long as wide, a photo is too long to be shown whole
THUMBNAILS = 24  # faces to choose from in a photo, the largest
THUMBNAIL = 96  # pixels
BAR = 98  # length of the longest bar, in a box that is 200 wide


@dataclass(frozen=True)
class Box:
    """A face in a picture.

    Attributes:
        number: 1 is the largest face.
        x: of the left border, in pixels of the picture.
        y: of the upper border.
        width: in pixels.
        height: in pixels.
        is_compared: whether this is the face that was compared.
        thumbnail: a data URL; empty where there is nothing to choose.
    """

    number: int
    x: float
    y: float
    width: float
    height: float
    is_compared: bool
    thumbnail: str

    @property
    def point(self) -> str:
        """The middle, as forms send it."""
        return f"{self.x + self.width / 2:.0f},{self.y + self.height / 2:.0f}"


@dataclass(frozen=True)
class Picture:
    """A photo in a page.

    Attributes:
        field: number of its field in the form.
        name: what the page calls it.
        jpeg: its content in base64; empty where there is none yet.
        width: in pixels.
        height: in pixels.
        boxes: the faces that are drawn.
        face_count: how many faces the photo has.
    """

    field: str
    name: str
    jpeg: str = ""
    width: int = 0
    height: int = 0
    boxes: Sequence[Box] = ()
    face_count: int = 0

    @property
    def url(self) -> str:
        """The picture itself."""
        return f"data:image/jpeg;base64,{self.jpeg}"

    @property
    def view(self) -> tuple[float, float, float, float]:
        """The part that is shown: x, y, width, height.

        That is the whole picture, but of a long strip the part around the compared face.
        """
        compared = [box for box in self.boxes if box.is_compared]
        short, long = sorted((self.width, self.height))
        if not compared or long <= STRIP * short:
            return 0, 0, self.width, self.height
        # enough around the face to see whose it is
        box = compared[0]
        least = max(STRIP * short, 3 * max(box.width, box.height))
        x, width = _window(box.x, box.width, self.width, least)
        y, height = _window(box.y, box.height, self.height, least)
        return x, y, width, height


def _window(start: float, size: float, side: int, least: float) -> tuple[float, float]:
    """Where a window around a face begins along one side of a picture, and its length."""
    length = min(side, least)
    begin = float(np.clip(start + size / 2 - length / 2, 0, side - length))
    return round(begin, 1), length


def places(uploads: Sequence[Upload]) -> list[Picture]:
    """The places for two photos in a form, with the photos that are decoded already."""
    photos = [upload.photo for upload in uploads] or [None, None]
    pictures = []
    for (field, name), photo in zip(PLACES.items(), photos, strict=True):
        pictures.append(Picture(field, name) if photo is None else _picture(field, name, photo))
    return pictures


def result(answer: "KinshipAnswer", photos: Sequence[np.ndarray]) -> dict:
    """What the page of an answer shows.

    Args:
        answer: one with regions.
        photos: the two photos that it is about, uint8 RGB; an answer itself keeps none.
    """
    if answer.regions is None:
        raise ValueError("The page shows regions; ask for an answer that explains.")
    # the photos with their faces, and the faces with their regions
    comparison = answer.comparison
    crops = plots.region_pictures(comparison.crops, answer.regions)
    sides = (comparison.first, comparison.second)
    pictures = [
        _picture_with_faces(field, name, photo, side)
        for (field, name), photo, side in zip(PLACES.items(), photos, sides, strict=True)
    ]
    return {
        "answer": answer,
        "percent": percent,
        "pictures": pictures,
        "gauge": gauge(answer.probability, answer.bands.unlikely, answer.bands.likely),
        "coloured": [_data_url(crop) for crop in crops],
        "bars": bars(answer.regions),
    }


def _picture(field: str, name: str, photo: np.ndarray) -> Picture:
    """A photo, no larger than pages show it."""
    # JPEG and base64 make a photo larger, so it is shrunk to what a page can show
    height, width = photo.shape[:2]
    scale = _scale(photo)
    if scale < 1:
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        shrunk = Image.fromarray(photo).resize((width, height), Image.Resampling.LANCZOS)
        photo = np.asarray(shrunk)
    return Picture(field, name, _base64(photo), width, height)


def _picture_with_faces(field: str, name: str, photo: np.ndarray, side: "FaceInPhoto") -> Picture:
    """A photo with its largest faces, and the compared one in any case."""
    # the boxes, in pixels of the picture in the page
    boxes, scale = [], _scale(photo)
    for number, face in enumerate(side.faces, start=1):
        is_compared = number == side.number
        if number > THUMBNAILS and not is_compared:
            continue
        thumbnail = ""
        if len(side.faces) > 1:
            thumbnail = _data_url(alignment.crop(photo, face, THUMBNAIL))
        x, y, width, height = (round(value * scale, 1) for value in face.box)
        boxes.append(Box(number, x, y, width, height, is_compared, thumbnail))
    picture = _picture(field, name, photo)
    return dataclasses.replace(picture, boxes=boxes, face_count=len(side.faces))


def _scale(photo: np.ndarray) -> float:
    """How much smaller a photo is in the page."""
    return min(1.0, SIDE / max(photo.shape[:2]))


def _base64(picture: np.ndarray) -> str:
    return base64.b64encode(images.to_jpeg(picture)).decode()


def _data_url(picture: np.ndarray) -> str:
    return f"data:image/jpeg;base64,{_base64(picture)}"


# --- drawings -----------------------------------------------------------------------------------


def gauge(probability: float, unlikely: float, likely: float) -> dict[str, str]:
    """Paths of a half circle from 0 % on the left to 100 % on the right, in a box of 240 × 130.

    Args:
        probability: where the needle points.
        unlikely: where the part ends that says no.
        likely: where the part begins that says yes.
    """
    return {
        "below": _arc(0, unlikely),
        "between": _arc(unlikely, likely),
        "above": _arc(likely, 1),
        "needle": f"M 120 120 L {_point(probability, 78)}",
    }


def _point(share: float, radius: float) -> str:
    angle = math.pi * (1 - share)  # from the right, against the clock
    return f"{120 + radius * math.cos(angle):.2f} {120 - radius * math.sin(angle):.2f}"


def _arc(start: float, end: float) -> str:
    return f"M {_point(start, 100)} A 100 100 0 0 1 {_point(end, 100)}"


def bars(regions: "Regions") -> list[dict]:
    """What each region carries: a bar from the middle of a box 200 wide, and the number."""
    # what is next to nothing gets a short bar, even if it is the largest
    sizes = [abs(value) for value in regions.carried.values()]
    largest = max(0.25, *sizes)
    return [
        {
            "region": region,
            "value": f"{value:+.2f}",
            "error": f"{2 * regions.spread[region]:.2f}",
            "x": round(100 + min(0.0, value) / largest * BAR, 1),
            "width": round(abs(value) / largest * BAR, 1),
            "side": "for" if value > 0 else "against",
        }
        for region, value in regions.carried.items()
    ]
