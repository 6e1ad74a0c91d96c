"""From an answer to what the pages draw: pictures as data URLs, boxes, a gauge, bars and words."""

import base64
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from utils import images, plots
from utils.faces import alignment, detection
from utils.scoring.calibration import percent, rounded

from .uploads import PEOPLE, PLACES, Upload, further_photos

if TYPE_CHECKING:
    from utils.answers.comparison import FaceInPhoto
    from utils.answers.explanation import Regions
    from utils.answers.kinship import Bands, KinshipAnswer

SIDE = 1280  # longest side of a picture in the page: what faces are searched at
FURTHER_SIDE = 960  # the same for further photos, of which only the largest face is used
STRIP = 2  # so many times as long as wide, a photo is too long to be shown whole
THUMBNAILS = 24  # faces to choose from in a photo, the largest
THUMBNAIL = 96  # pixels
LEAST = 44  # least side of what is touched to choose a face, in pixels of the picture
LIKELY, UNLIKELY = "likely", "unlikely"  # two of the three bands
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
    def place(self) -> tuple[float, float, float, float]:
        """The box as a finger can hit it: x, y, width, height, at least ``LEAST`` pixels."""
        width, height = max(LEAST, self.width), max(LEAST, self.height)
        x, y = self.x + self.width / 2 - width / 2, self.y + self.height / 2 - height / 2
        return round(x, 1), round(y, 1), width, height

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
        person: whom it shows.
        jpeg: its content in base64; empty where there is none yet.
        width: in pixels.
        height: in pixels.
        boxes: the faces that are drawn.
        face_count: how many faces the photo has.
        quarter_turns: how the photo was turned, counter-clockwise.
        further: more photos of the same person, in base64.
    """

    field: str
    name: str
    person: str
    jpeg: str = ""
    width: int = 0
    height: int = 0
    boxes: Sequence[Box] = ()
    face_count: int = 0
    quarter_turns: int = 0
    further: Sequence[str] = ()

    @property
    def url(self) -> str:
        """The picture itself."""
        return f"data:image/jpeg;base64,{self.jpeg}"

    @property
    def angle(self) -> str:
        """By how much the photo was turned, in words; empty where it was not."""
        return ("", "by 90° to the left", "by 180°", "by 90° to the right")[self.quarter_turns]

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
    """The places for two people in a form, with the photos that are decoded already."""
    pictures = []
    for place, field in enumerate(PLACES):
        upload = uploads[place] if uploads else None
        photo = upload.photo if upload else None
        picture = _empty(field) if photo is None else _picture(field, photo)
        others = further_photos([upload])[0] if upload else []
        pictures.append(dataclasses.replace(picture, further=_kept(others)))
    return pictures


def result(
    answer: "KinshipAnswer",
    photos: Sequence[np.ndarray],
    further: Sequence[Sequence[np.ndarray]] = ((), ()),
) -> dict:
    """What the page of an answer shows.

    Args:
        answer: one with regions.
        photos: the two photos that it is about, uint8 RGB; an answer itself keeps none.
        further: more photos of either person that were used.
    """
    if answer.regions is None:
        raise ValueError("The page shows regions; ask for an answer that explains.")
    # the photos with their faces, and the faces with their regions
    comparison = answer.comparison
    sides = (comparison.first, comparison.second)
    crops = plots.region_pictures(comparison.crops, answer.regions.without_doubtful)
    pictures = []
    for place, (field, side) in enumerate(zip(PLACES, sides, strict=True)):
        picture = _picture_with_faces(field, photos[place], side)
        pictures.append(dataclasses.replace(picture, further=_kept(further[place])))
    return {
        "answer": answer,
        "percent": percent,
        "rounded": rounded,
        "number": rounded(answer.probability),
        "worth": worth(answer),
        "pictures": pictures,
        "gauge": gauge(answer.probability, answer.bands),
        "coloured": [_data_url(crop) for crop in crops],
        "regions": answer.regions.in_words,
        "bars": bars(answer.regions),
    }


def _empty(field: str) -> Picture:
    return Picture(field, PLACES[field], PEOPLE[field])


def _picture(field: str, photo: np.ndarray) -> Picture:
    """A photo, no larger than pages show it."""
    # JPEG and base64 make a photo larger, so it is shrunk to what a page can show
    photo = _shrunk(photo, SIDE)
    height, width = photo.shape[:2]
    picture = _empty(field)
    return dataclasses.replace(picture, jpeg=_base64(photo), width=width, height=height)


def _kept(photos: Sequence[np.ndarray]) -> list[str]:
    """Further photos as the page keeps them, in base64."""
    return [_base64(_shrunk(photo, FURTHER_SIDE)) for photo in photos]


def _picture_with_faces(field: str, photo: np.ndarray, side: "FaceInPhoto") -> Picture:
    """A photo with its largest faces, and the compared one in any case."""
    # the boxes, in pixels of the picture in the page
    photo = detection.turned(photo, side.quarter_turns)
    boxes, scale = [], _scale(photo, SIDE)
    for number, face in enumerate(side.faces, start=1):
        is_compared = number == side.number
        if number > THUMBNAILS and not is_compared:
            continue
        thumbnail = ""
        if len(side.faces) > 1:
            thumbnail = _data_url(alignment.crop(photo, face, THUMBNAIL))
        x, y, width, height = (round(value * scale, 1) for value in face.box)
        boxes.append(Box(number, x, y, width, height, is_compared, thumbnail))
    return dataclasses.replace(
        _picture(field, photo),
        boxes=boxes,
        face_count=len(side.faces),
        quarter_turns=side.quarter_turns,
    )


def _shrunk(photo: np.ndarray, side: int) -> np.ndarray:
    """A photo of at most ``side`` pixels along its longer side."""
    scale = _scale(photo, side)
    if scale == 1:
        return photo
    height, width = (max(1, round(length * scale)) for length in photo.shape[:2])
    return np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.LANCZOS))


def _scale(photo: np.ndarray, side: int) -> float:
    """How much smaller a photo is in the page."""
    return min(1.0, side / max(photo.shape[:2]))


def _base64(picture: np.ndarray) -> str:
    return base64.b64encode(images.to_jpeg(picture)).decode()


def _data_url(picture: np.ndarray) -> str:
    return images.data_url(images.to_jpeg(picture))


# --- words --------------------------------------------------------------------------------------


def worth(answer: "KinshipAnswer") -> str:
    """What an answer of its band is worth, in a sentence for visitors."""
    bands, tested = answer.bands, "When the model was tested on families that it had never seen,"
    wrong = {
        LIKELY: (bands.strangers_among_likely, "were not related"),
        UNLIKELY: (bands.kin_among_unlikely, "were related after all"),
    }
    if answer.band not in wrong:
        return (
            f"The faces do not decide it. {tested} this was so for {100 * bands.cannot_say:.0f} "
            "of 100 pairs."
        )
    share, what = wrong[answer.band]
    return f"{tested} {100 * share:.0f} of 100 pairs with this answer {what}."


# --- drawings -----------------------------------------------------------------------------------


def gauge(probability: float, bands: "Bands") -> dict[str, float]:
    """Where the bands end and where the probability lies, in percent of a bar's length.

    Args:
        probability: where the mark is.
        bands: that are shown, with the limits of "cannot say".
    """
    return {
        "unlikely": round(100 * bands.unlikely, 1),
        "likely": round(100 * bands.likely, 1),
        "mark": round(100 * probability, 1),
    }


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
