"""Faces marked in a photo: boxes with numbers, the chosen one in another colour."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.faces.detection import Face

CHOSEN, CHOSEN_GROUND = "#ff8a3d", "#a8480f"
OTHER, OTHER_GROUND, LETTERS = "#f3eee6", "#1a1f23", "#ffffff"


def numbered(picture: np.ndarray, faces: list[Face], scale: float, chosen: int = 0) -> np.ndarray:
    """A copy of a picture with a box around each face, and its number where there are several.

    Args:
        picture: RGB uint8 ``(height, width, 3)``.
        faces: in pixels of the photo; numbered from 1 in this order.
        scale: pixels of the picture for each pixel of the photo.
        chosen: the number of the face that is in another colour; 0: all are.
    """
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    unit = max(1.0, max(image.size) / 320)  # lines and letters grow with the picture
    # the chosen face last, so that nothing lies on it
    order = sorted(range(1, len(faces) + 1), key=lambda number: number == chosen)
    for number in order:
        x, y, width, height = (scale * value for value in faces[number - 1].box)
        # a dark line around the coloured one, so that it is seen on every ground
        colour = CHOSEN if chosen in (0, number) else OTHER
        for grow, line_colour in ((unit, OTHER_GROUND), (0, colour)):
            corners = (x - grow, y - grow, x + width + grow, y + height + grow)
            line = round(1.5 * unit + grow)
            draw.rounded_rectangle(corners, 4 * unit, outline=line_colour, width=line)
    # no box lies on a number
    for number in order if len(faces) > 1 else []:
        x, y, width, _ = (scale * value for value in faces[number - 1].box)
        ground = CHOSEN_GROUND if chosen in (0, number) else OTHER_GROUND
        _draw_number(draw, (x, y), number, min(unit, width / 22), ground)
    return np.asarray(image)


def _draw_number(
    draw: ImageDraw.ImageDraw, corner: tuple[float, float], number: int, unit: float, ground: str
) -> None:
    """A number on a disc at a corner of a box.

    Args:
        draw: on the picture.
        corner: (x, y) in pixels.
        number: of the face.
        unit: a seventh of the disc's radius.
        ground: colour of the disc.
    """
    radius = 7 * unit
    x, y = (max(radius, value) for value in corner)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ground)
    font = ImageFont.load_default(9 * unit)
    draw.text((x, y), str(number), fill=LETTERS, font=font, anchor="mm")
