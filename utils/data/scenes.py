"""Pictures of synthetic people for those who have no photo at hand."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ..settings import SEED
from . import eigenfaces, synthetic

WALL, FRAME, MAT = (186, 196, 190), (92, 64, 44), (244, 241, 234)  # RGB
SHADOW, SHADOW_STRENGTH = (40, 40, 40), 0.35
# Of the drawn face, RGB.
PAPER, SKIN, HAIR = (226, 221, 208), (224, 180, 150), (66, 48, 38)
SHADE, LIPS, OUTLINE = (206, 158, 128), (178, 84, 80), (110, 70, 56)
FACE_PARTS = ("hair", "brows", "eyes", "nose", "mouth")

# What the apps show to those who have no photo at hand: arguments of `two_photos`, with a seed at
# which the models for verification and kinship are both right.
EXAMPLES = {
    "one person twice": ("same", 0),
    "a parent and a child": ("relatives", 6),
    "two strangers": ("strangers", 8),
}


@dataclass(frozen=True)
class Portrait:
    """Where a portrait hangs on the wall.

    Attributes:
        x: its centre, pixels from the left.
        y: its centre, pixels from the top.
        side: side of the photo in pixels, without mat and frame.
        angle: degrees by which it hangs askew.
    """

    x: int
    y: int
    side: int
    angle: float


def family_wall(
    faces: int = 6, seed: int = SEED, width: int = 1280, height: int = 720
) -> tuple[np.ndarray, list[Portrait]]:
    """Framed portraits of a synthetic family on a wall.

    Half of them hang straight and large, the others smaller and askew.

    Args:
        faces: number of portraits.
        seed: the same seed gives the same wall.
        width: of the wall, in pixels.
        height: of the wall, in pixels.

    Returns:
        The wall, RGB uint8 ``(height, width, 3)``, and where each portrait hangs.
    """
    rng = np.random.default_rng(seed)
    # two parents and as many children as are needed; one parent alone for a single face
    model = eigenfaces.load()
    children = max(1, faces - 2)
    family = synthetic.make_family("F0001", len(model.components), children, False, rng)
    shots = [synthetic.take_photograph([person.coefficients], rng)[0] for person in family[:faces]]
    photos = synthetic.develop(shots, model)
    # two rows of cells, a portrait in each
    columns = -(-faces // 2)
    cell = min(width / columns, height / 2)
    portraits = []
    for number in range(faces):
        row, column = divmod(number, columns)
        centre = width * (column + 0.5) / columns, height * (0.76 if row else 0.29)
        portraits.append(_portrait(*centre, cell, askew=row > 0, rng=rng))
    return hang(photos, portraits, width, height), portraits


def _portrait(x: float, y: float, cell: float, askew: bool, rng: np.random.Generator) -> Portrait:
    """A portrait around (x, y) in a square cell: small and askew, or large and straight."""
    smallest, largest, tilt = (0.30, 0.45, 7) if askew else (0.52, 0.64, 2)
    side = round(cell * rng.uniform(smallest, largest))
    shift = rng.uniform(-0.08, 0.08) * cell
    return Portrait(round(x + shift), round(y), side, float(rng.uniform(-tilt, tilt)))


def family_pictures(count: int = 12, seed: int = 11) -> list[np.ndarray]:
    """Pictures of three synthetic families: each shows two or more of one family, side by side.

    Args:
        count: number of pictures.
        seed: the same seed gives the same pictures.

    Returns:
        RGB uint8, 360 pixels high.
    """
    rng = np.random.default_rng(seed)
    model = eigenfaces.load()
    families = []
    for name, children in (("F0001", 2), ("F0002", 1), ("F0003", 2)):
        families.append(synthetic.make_family(name, len(model.components), children, False, rng))

    # the families take turns; who is in a picture is drawn
    pictures = []
    for number in range(count):
        family = families[number % len(families)]
        there = rng.permutation(len(family))[: int(rng.integers(2, len(family) + 1))]
        people = [family[place].coefficients for place in there]
        photos = synthetic.develop(synthetic.take_photograph(people, rng), model)
        spots = []
        for place in range(len(photos)):
            spots.append(Portrait(160 + 300 * place, 180, 200, float(rng.uniform(-3, 3))))
        pictures.append(hang(photos, spots, 300 * len(photos) + 20, 360))
    return pictures


def hang(
    photos: list[np.ndarray], portraits: list[Portrait], width: int, height: int
) -> np.ndarray:
    """Frame photos and hang them on a wall.

    Args:
        photos: RGB uint8.
        portraits: where each photo hangs.
        width: of the wall, in pixels.
        height: of the wall, in pixels.

    Returns:
        RGB uint8 ``(height, width, 3)``.
    """
    # light falls from the upper left
    down = np.linspace(1.04, 0.9, height)[:, None, None]
    across = np.linspace(1.02, 0.96, width)[None, :, None]
    wall = Image.fromarray((np.array(WALL) * (down * across)).clip(0, 255).astype(np.uint8))
    for photo, portrait in zip(photos, portraits, strict=True):
        framed = _framed(photo, portrait)
        left = round(portrait.x - framed.width / 2)
        top = round(portrait.y - framed.height / 2)
        wall.paste(SHADOW, (0, 0), _shadow(framed, left, top, portrait.side, wall.size))
        wall.paste(framed, (left, top), framed)
    return np.asarray(wall)


def _shadow(
    framed: Image.Image, left: int, top: int, side: int, size: tuple[int, int]
) -> Image.Image:
    """How much of the shadow's colour a portrait casts on each pixel of the wall."""
    shadow = Image.new("L", size)
    shadow.paste(framed.getchannel("A"), (left + side // 25, top + side // 15))
    soft = shadow.filter(ImageFilter.GaussianBlur(side / 25))
    return soft.point(lambda level: level * SHADOW_STRENGTH)


def _framed(photo: np.ndarray, portrait: Portrait) -> Image.Image:
    """A photo in its mat and frame, turned as it hangs; transparent around it."""
    side = portrait.side
    frame, mat = round(side * 0.05), round(side * 0.12)
    whole = side + 2 * (frame + mat)
    tile = Image.new("RGBA", (whole, whole), FRAME)
    inside = (frame, frame, whole - frame - 1, whole - frame - 1)
    ImageDraw.Draw(tile).rectangle(inside, MAT)
    picture = Image.fromarray(photo).resize((side, side), Image.Resampling.BICUBIC)
    tile.paste(picture, (frame + mat, frame + mat))
    return tile.rotate(portrait.angle, Image.Resampling.BICUBIC, expand=True)


def two_photos(kind: str = "same", seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """Two photos of synthetic people, RGB uint8 224×224.

    Args:
        kind: "same" (one person twice), "relatives" (parent and child) or "strangers".
        seed: the same seed gives the same photos.

    Raises:
        KeyError: there is no such kind.
    """
    rng = np.random.default_rng(seed)
    model = eigenfaces.load()
    family = synthetic.make_family("F0001", len(model.components), 1, False, rng)
    parent, spouse, child = (person.coefficients for person in family)
    second = {"same": parent, "relatives": child, "strangers": spouse}[kind]
    shots = [synthetic.take_photograph([person], rng)[0] for person in (parent, second)]
    first_photo, second_photo = synthetic.develop(shots, model)
    return first_photo, second_photo


def drawn_face(parts: Collection[str] = FACE_PARTS) -> np.ndarray:
    """A face that nobody has, drawn with a few shapes, RGB uint8 ``(400, 400, 3)``.

    Args:
        parts: of ``FACE_PARTS``, which are drawn on the bare head.
    """
    picture = Image.new("RGB", (400, 400), PAPER)
    draw = ImageDraw.Draw(picture)
    if "hair" in parts:
        draw.ellipse((92, 50, 308, 300), HAIR)
    draw.ellipse((112, 84, 288, 330), SKIN)
    # what lies left and right of the middle line
    for x in (160, 240):
        if "brows" in parts:
            draw.arc((x - 26, 150, x + 26, 190), 200, 340, HAIR, 7)
        if "eyes" in parts:
            draw.ellipse((x - 20, 172, x + 20, 194), "white", OUTLINE, 2)
            draw.ellipse((x - 9, 174, x + 9, 192), HAIR)
    # what lies on it
    if "nose" in parts:
        draw.polygon([(200, 180), (184, 236), (216, 236)], SHADE)
        draw.arc((184, 222, 216, 242), 10, 170, OUTLINE, 3)
    if "mouth" in parts:
        draw.ellipse((165, 258, 235, 284), LIPS)
        draw.line((165, 271, 235, 271), OUTLINE, 3)
    return np.asarray(picture)
