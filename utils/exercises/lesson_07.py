"""Lesson 07: boxes, the image pyramid, suppression, precision and recall, alignment."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .verdicts import exercise, expect, numbers, require

Answer = Callable[..., Any]

# Five landmarks in a square of 17 pixels, as a template.
TOY_TEMPLATE = np.array([(4.0, 4.0), (12.0, 4.0), (8.0, 8.0), (4.0, 12.0), (12.0, 12.0)])
TOY_SIZE = 17


@exercise
def box_iou(answer: Answer) -> None:
    """IoU of two boxes (x, y, width, height)."""
    # boxes that overlap
    expect(
        answer((0, 0, 10, 10), (5, 0, 10, 10)),
        1 / 3,
        "half of each is covered by the other: 50 in both, 150 in either. The boxes are "
        "(x, y, width, height), and the area that both cover counts once below the line",
    )
    expect(answer((7, 3, 4, 6), (7, 3, 4, 6)), 1, "the same box twice has IoU 1")
    expect(answer((0, 0, 10, 10), (2, 3, 4, 5)), 0.2, "a box inside another: 20 of 100")
    expect(answer((2, 3, 4, 5), (0, 0, 10, 10)), 0.2, "the same with the two boxes swapped")
    # boxes that do not
    expect(answer((0, 0, 10, 10), (10, 0, 10, 10)), 0, "boxes that only touch share no area")
    expect(answer((0, 0, 10, 10), (30, 2, 5, 5)), 0, "boxes apart in x have nothing in both")
    expect(answer((0, 0, 10, 10), (2, 40, 5, 5)), 0, "boxes apart in y have nothing in both")
    expect(
        answer((0, 0, 10, 10), (30, 40, 5, 5)),
        0,
        "boxes apart in x and in y: two negative lengths must not give a positive area",
    )
    boxes = np.array([(100.5, 20.0, 8.0, 4.0), (102.5, 21.0, 8.0, 4.0)])
    expect(answer(*boxes), 18 / 46, "boxes may be arrays, with fractions of pixels")


@exercise
def pyramid_scales(answer: Answer) -> None:
    """Scales of an image pyramid."""
    # powers of two are exact, and the shortest side has 12 pixels exactly
    three = numbers(answer(100, 48, 12, 0.5), (None,), "return a list of scales")
    require(len(three), "at the first level a photo of 100×48 has all of its pixels; it counts")
    expect(three[0], 1, "the first scale is 12 / smallest_face")
    expect(
        three,
        [1, 0.5, 0.25],
        "100×48 pixels with a factor of 0.5: at 0.25 the shorter side has exactly 12 pixels, "
        "which is enough, at 0.125 it has 6",
    )
    expect(answer(48, 100, 12, 0.5), [1, 0.5, 0.25], "the shorter side decides, also the width")
    expect(
        answer(24, 30, 20, 0.709),
        [0.6],
        "24×30 with 12/20 as the first scale: its shorter side has 14.4 pixels, and at the next "
        "scale 10.2, which is too few",
    )
    expect(answer(100, 48, 24, 0.5), [0.5, 0.25], "for faces of 24 pixels start at 12 / 24")
    expect(answer(15, 200, 20, 0.709), [], "15 pixels at a scale of 0.6 are 9: no level is left")
    expect(
        answer(1280, 720, 20, 0.709)[:3],
        [0.6, 0.4254, 0.3016086],
        "each scale is the one before times the factor",
    )


@exercise
def nms(answer: Answer) -> None:
    """Non-maximum suppression of rows (x1, y1, x2, y2, probability)."""
    chain = np.array(
        [(8, 0, 18, 10, 0.7), (0, 0, 10, 10, 0.9), (40, 0, 50, 10, 0.6), (4, 0, 14, 10, 0.8)]
    )  # along the chain two neighbours have IoU 3/7
    expect(
        answer(chain.copy(), 0.5),
        [1, 3, 0, 2],
        "no two of four boxes overlap by more than a half: all stay. Return the numbers of the "
        "rows as they were given, the most probable first",
    )
    expect(
        answer(chain.copy(), 0.4),
        [1, 0, 2],
        "with a threshold of 0.4 row 3 goes, as its overlap with row 1 is 0.43; a box that is "
        "gone takes none with it, so row 0 stays",
    )
    # boxes that lie on each other, an overlap of the threshold, one box alone
    twins = np.array([(0, 0, 10, 10, 0.5), (0, 0, 10, 10, 0.9), (0, 0, 10, 10, 0.7)])
    expect(answer(twins, 0.5), [1], "of three equal boxes only the most probable stays")
    half = np.array([(0, 0, 5, 10, 0.6), (0, 0, 10, 10, 0.8)])
    expect(answer(half, 0.5), [1, 0], "an overlap of exactly the threshold is not more than it")
    expect(answer(half[:1], 0.5), [0], "a single box stays")


@exercise
def precision_recall(answer: Answer) -> None:
    """Precision and recall at a threshold."""
    confidence = np.array([0.6, 0.9, 0.5, 0.8, 0.7])
    is_face = np.array([False, True, True, False, True])
    # a face at the threshold, one below, and one without a box
    both = numbers(
        answer(confidence, is_face, 4, 0.7), (2,), "return two numbers: (precision, recall)"
    )
    expect(
        both[0],
        2 / 3,
        "at 0.7 three boxes are reported, the one at 0.7 among them, and two of them are faces",
    )
    expect(both[1], 2 / 4, "two of the four faces are reported; one face got no box at all")
    expect(
        answer(confidence, is_face, 4, 0.55),
        (2 / 4, 2 / 4),
        "at 0.55 four boxes are reported, two of them faces",
    )
    expect(answer(confidence, is_face, 4, 0.0), (3 / 5, 3 / 4), "at 0 every box is reported")
    expect(
        answer(confidence, is_face, 4, 0.95),
        (1, 0),
        "above all confidences nothing is reported: precision 1 by agreement, recall 0",
    )


@exercise
def aligned_crop(answer: Answer) -> None:
    """A crop in which the landmarks lie on the template."""
    photo = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    whole, pixels = f"return an array ({TOY_SIZE}, {TOY_SIZE}, 3)", np.arange(TOY_SIZE)

    def crop(landmarks: np.ndarray) -> np.ndarray:
        result = answer(photo.copy(), landmarks, TOY_TEMPLATE, TOY_SIZE)
        pixels_of_it = numbers(result, (TOY_SIZE, TOY_SIZE, 3), whole)
        require(
            np.asarray(result).dtype.kind != "f",
            "each pixel of the crop is one of the photo, so it is uint8, not float",
        )
        return pixels_of_it

    def pick(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return photo[np.ix_(rows, columns)]

    # each pixel of the crop is one of the photo
    require(
        (crop(TOY_TEMPLATE) == pick(pixels, pixels)).all(),
        "landmarks that lie on the template already: the crop is the photo's upper left corner",
    )
    require(
        (crop(TOY_TEMPLATE + (50, 20)) == pick(pixels + 20, pixels + 50)).all(),
        "landmarks 50 pixels to the right and 20 down: the crop is cut out there. A landmark is "
        "(x, y), a pixel of an array is [row, column], that is [y, x]",
    )
    require(
        (crop(2 * TOY_TEMPLATE) == pick(2 * pixels, 2 * pixels)).all(),
        "a face of twice the template's size is shrunk: pixel (x, y) of the crop comes from "
        "(2x, 2y) of the photo. Do you go from the crop to the photo, with the inverse?",
    )
    _turned_and_enlarged(crop, pick, pixels)
    _fitted_to_all_and_inside(crop, pick, pixels)


def _turned_and_enlarged(crop: Answer, pick: Answer, pixels: np.ndarray) -> None:
    """Rotation to the right side, and rounding to the nearest pixel."""
    # by a quarter turn: (x, y) of the template lies at (40 - y, 10 + x) of the photo
    x, y = TOY_TEMPLATE.T
    turned = crop(np.column_stack([40 - y, 10 + x]))
    expected = pick(10 + pixels, 40 - pixels).transpose(1, 0, 2)
    require(
        (turned == expected).all(),
        "a face that lies on its side comes out upright; look at the signs of the rotation",
    )
    thirds = np.rint(pixels / 3).astype(int)
    require(
        (crop(TOY_TEMPLATE / 3 + 30) == pick(thirds + 30, thirds + 30)).all(),
        "a face of a third of the template's size: take the nearest pixel. `int` cuts off the "
        "fraction, `np.rint` rounds",
    )


def _fitted_to_all_and_inside(crop: Answer, pick: Answer, pixels: np.ndarray) -> None:
    """All five landmarks count, four unknowns only, and the border goes on."""
    # deformed such that no rotation, scale or shift brings it nearer to the template
    stretched = 8 + (TOY_TEMPLATE - 8) * (1.2, 0.6)
    require(
        (crop(stretched) == pick(pixels, pixels)).all(),
        "a face that is wider and lower than the template: rotation, one scale and shift, fitted "
        "from all five landmarks to the template (and not from the template to them). Two are "
        "not enough, and a transform that stretches one axis deforms the face",
    )
    beyond = np.clip(pixels - 6, 0, None)
    require(
        (crop(TOY_TEMPLATE - 6) == pick(beyond, beyond)).all(),
        "a face at the photo's border: outside take the nearest border pixel (negative row "
        "numbers count from the other end)",
    )
    require(
        (
            crop(TOY_TEMPLATE + (80, 50))
            == pick((pixels + 50).clip(0, 59), pixels.clip(0, 9) + 80)
        ).all(),
        "a face at the lower right border: rows end at height - 1, columns at width - 1",
    )
