"""Pictures of synthetic people for those who have no photo at hand: a wall of portraits, two photos."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .. import settings
from . import eigenfaces, synthetic

WALL, FRAME, MAT = (186, 196, 190), (92, 64, 44), (244, 241, 234)
KINDS = ("same", "relatives", "strangers")

# What the apps show to those who have no photo at hand: arguments of `two_photos`, with a seed at which
# the models for verification and kinship are both right.
EXAMPLES = {"one person twice": ("same", 0), "a parent and a child": ("relatives", 6),
            "two strangers": ("strangers", 8)}


@dataclass(frozen=True)
class Portrait:
    """Where a portrait hangs: centre (x, y) and side of the photo in pixels, angle in degrees."""

    x: int
    y: int
    side: int
    angle: float


def family_wall(faces: int = 6, seed: int = settings.SEED, width: int = 1280,
                height: int = 720) -> tuple[np.ndarray, list[Portrait]]:
    """Framed portraits of a synthetic family on a wall: RGB uint8 ``(height, width, 3)``, and where each hangs.

    Half of them hang straight and large, the others smaller and askew.
    """
    rng = np.random.default_rng(seed)
    model = eigenfaces.load()
    people = synthetic.make_family("F0001", len(model.components), max(1, faces - 2), False, rng)[:faces]
    shots = [synthetic.take_photograph([person.coefficients], rng)[0] for person in people]
    crops = synthetic.develop(shots, model)
    columns = -(-faces // 2)
    cell = min(width / columns, height / 2)
    places = []
    for number in range(faces):
        row, column = divmod(number, columns)
        side = round(cell * rng.uniform(*((0.30, 0.45) if row else (0.52, 0.64))))
        x, y = width * (column + 0.5) / columns, height * (0.29 if row == 0 else 0.76)
        places.append(Portrait(round(x + rng.uniform(-0.08, 0.08) * cell), round(y), side,
                               float(rng.uniform(-7, 7)) if row else float(rng.uniform(-2, 2))))
    return hang(crops, places, width, height), places


def hang(photos: list[np.ndarray], places: list[Portrait], width: int, height: int) -> np.ndarray:
    """Frame photos and hang them on a wall: RGB uint8 ``(height, width, 3)``."""
    light = np.linspace(1.04, 0.9, height)[:, None, None] * np.linspace(1.02, 0.96, width)[None, :, None]
    wall = Image.fromarray((np.array(WALL) * light).clip(0, 255).astype(np.uint8))
    for photo, place in zip(photos, places, strict=True):
        framed = _framed(photo, place)
        corner = (round(place.x - framed.width / 2), round(place.y - framed.height / 2))
        shadow = Image.new("L", wall.size)
        shadow.paste(framed.getchannel("A"), (corner[0] + place.side // 25, corner[1] + place.side // 15))
        shadow = shadow.filter(ImageFilter.GaussianBlur(place.side / 25)).point(lambda value: value * 0.35)
        wall.paste((40, 40, 40), (0, 0), shadow)
        wall.paste(framed, corner, framed)
    return np.asarray(wall)


def _framed(photo: np.ndarray, place: Portrait) -> Image.Image:
    frame, mat = round(place.side * 0.05), round(place.side * 0.12)
    whole = place.side + 2 * (frame + mat)
    tile = Image.new("RGBA", (whole, whole), FRAME)
    ImageDraw.Draw(tile).rectangle((frame, frame, whole - frame - 1, whole - frame - 1), MAT)
    photo = Image.fromarray(photo).resize((place.side, place.side), Image.Resampling.BICUBIC)
    tile.paste(photo, (frame + mat, frame + mat))
    return tile.rotate(place.angle, Image.Resampling.BICUBIC, expand=True)


def two_photos(kind: str = "same", seed: int = settings.SEED) -> tuple[np.ndarray, np.ndarray]:
    """Two photos, RGB uint8 224×224: of one person ("same"), of two "relatives", or of two "strangers"."""
    rng = np.random.default_rng(seed)
    model = eigenfaces.load()
    family = synthetic.make_family("F0001", len(model.components), 1, False, rng)
    parent, spouse, child = (person.coefficients for person in family)
    other = {"same": parent, "relatives": child, "strangers": spouse}[kind]
    shots = [synthetic.take_photograph([person], rng)[0] for person in (parent, other)]
    return tuple(synthetic.develop(shots, model))
