"""Faces found in photos by MTCNN (Zhang et al., IEEE SPL 2016), from the package ``mtcnn``.

:func:`detect` searches a whole photo for all its faces. :func:`prominent` looks only for those
that somebody may mean, from large to small, and takes a fraction of the time.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .. import quiet, surroundings
from ..errors import FaceError

if TYPE_CHECKING:
    from mtcnn import MTCNN

# MTCNN's own smallest face in pixels. The package (1.0) sizes its pyramid for this value only:
# with a larger one, levels shrink below P-Net's 12 pixels, the error is swallowed, and a photo
# full of faces gives none. So to look for larger faces only, the photo is shrunk instead.
MTCNN_MIN_FACE = 20
MTCNN_MIN_SIDE = 24
LONG_SIDE = 1280
BATCH_PIXELS = 4_000_000  # searched at once

# Which faces of a photo somebody may mean: MTCNN is as sure of each as this, each is as wide in
# pixels as a network needs, and as wide as this share of the widest. In photographs of the street
# and of offices, sleeves and patterns that look like faces had confidences of up to 0.86.
SURE, LEAST_WIDTH, SHARE_OF_WIDEST = 0.9, 20, 1 / 3

# They are looked for in the photo shrunk to these long sides, one after the other, until the
# widest has so many pixels: then every face that counts beside it has MTCNN's 20.
COARSE_SIDES, WIDE_ENOUGH = (256, 640), 60
# Then each is looked for once more, in a square window in which it has about so many pixels. MTCNN
# takes a face to pieces of 48 pixels without smoothing it: where the face is much larger, its
# landmarks tremble. The same face overlaps itself by this much (intersection over union).
WINDOW, FACE_IN_WINDOW, SAME_FACE = 200, 80, 0.5
# Photos on their side or upside down show false faces, with confidences of up to 0.992. A photo is
# not turned if one of its faces is surer than that, and else only if a face of the turned photo
# leaves a tenth of the doubt and is not much smaller: this share of the area. They are compared
# shrunk to this long side. By this rule, 49 of 54 views of 18 photographs turned in three ways
# came out right, and 1,412 of 1,482 of 494 crops of the competition; of 668 upright photos two
# were turned. The rule was chosen on these photos.
SURELY_UPRIGHT, LESS_DOUBT, LEAST_AREA, TURNED_SIDE = 0.995, 0.1, 0.8, 640

# Where faces are looked for that a photo shrunk to ``LONG_SIDE`` would lose: in overlapping tiles
# of larger and larger copies. A face that the copy before may lose has 40 pixels at most, and lies
# whole in one tile. One that lies in another face by this share is the same, as in MTCNN.
OVERLAP, INSIDE = 80, 0.7

# How a tight crop is searched: small, in a frame of its own border pixels (both in pixels).
CROP_SIDE, CROP_FRAME = 112, 24

Which = int | tuple[float, float]  # one face of several: see `choose`
Box = tuple[float, float, float, float]

LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


@dataclass(frozen=True)
class Face:
    """One detected face, in pixels of the photo that was given.

    Attributes:
        box: (x, y, width, height), clipped to the photo.
        confidence: of MTCNN's last stage, in [0, 1].
        landmarks: (x, y) of the eye on the left of the picture, the eye on the right, nose,
            left and right mouth corner; float64 ``(5, 2)``.
    """

    box: Box
    confidence: float
    landmarks: np.ndarray

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        return self.box[2] * self.box[3]

    @property
    def centre(self) -> np.ndarray:
        """(x, y) of the middle of the box."""
        x, y, width, height = self.box
        return np.array([x + width / 2, y + height / 2])

    def holds(self, point: tuple[float, float]) -> bool:
        """Whether a point (x, y) in pixels of the photo lies in the box."""
        x, y, width, height = self.box
        return x <= point[0] <= x + width and y <= point[1] <= y + height

    def overlap(self, other: Face) -> float:
        """Intersection over union of two boxes, in [0, 1]."""
        both = self.shared(other)
        return both / (self.area + other.area - both)

    def shared(self, other: Face) -> float:
        """Area in square pixels that two boxes have in common."""
        (x1, y1, w1, h1), (x2, y2, w2, h2) = self.box, other.box
        width = min(x1 + w1, x2 + w2) - max(x1, x2)
        height = min(y1 + h1, y2 + h2) - max(y1, y2)
        return max(0.0, width) * max(0.0, height)

    def to_dict(self) -> dict:
        """Plain numbers, in pixels to one decimal; landmarks by name."""
        points = np.round(self.landmarks, 1).tolist()
        return {
            "box": [round(number, 1) for number in self.box],
            "confidence": round(self.confidence, 4),
            "landmarks": dict(zip(LANDMARKS, points, strict=True)),
        }


def detect(
    photo: np.ndarray, min_face: int | None = None, long_side: int = LONG_SIDE
) -> list[Face]:
    """Find all faces in an RGB uint8 photo, the largest first. No face gives an empty list.

    MTCNN needs some room around a face. Where it finds none, the photo is searched once more as
    :func:`detect_in_crops` does: a face may fill the whole picture.

    Args:
        photo: RGB uint8 ``(height, width, 3)``.
        min_face: about the smallest face to look for, in pixels of the photo; MTCNN may still find
            faces of half that size. In a large photo this takes long, because it is searched in
            tiles. None: 20 pixels in a photo that is not shrunk, and :func:`least_face` in others.
        long_side: larger photos are shrunk to this many pixels before the search, and tiles have
            so many at most; the faces are in pixels of the photo all the same.

    Example:
        >>> from utils import images
        >>> faces = detect(images.read("data/five_families.jpg"))
        >>> len(faces)
        45
        >>> faces[0].landmarks.shape
        (5, 2)
    """
    return detect_many([photo], min_face, long_side)[0]


def prominent(photo: np.ndarray) -> list[Face]:
    """The faces of a photo that somebody may mean, the largest first.

    These are the faces that an app offers and numbers: the detector is sure of them, they are at
    least 20 pixels wide, and none is narrower than a third of the widest. :func:`detect` gives all
    faces.

    Args:
        photo: RGB uint8 ``(height, width, 3)``.

    Example:
        >>> from utils import images
        >>> photo = images.read("data/five_families.jpg")
        >>> len(prominent(photo))
        45
    """
    face = _only_wide_face(photo)
    if face is not None:
        return [face]
    faces = _prominent_of(detect(photo))
    if max(photo.shape[:2]) <= LONG_SIDE:
        return faces
    # more exact where the photo was shrunk; which faces there are, and their order, stays
    finer = zip(faces, _in_windows(photo, faces), strict=True)
    return [in_window or face for face, in_window in finer]


def _prominent_of(faces: Sequence[Face]) -> list[Face]:
    """Those of a photo's faces that are sure and wide enough, in the same order."""
    sure = [face for face in faces if _is_sure(face) and face.box[2] >= LEAST_WIDTH]
    widest = max((face.box[2] for face in sure), default=0.0)
    return [face for face in sure if face.box[2] >= widest * SHARE_OF_WIDEST]


def _is_sure(face: Face) -> bool:
    return face.confidence >= SURE


def _by_area(faces: Iterable[Face]) -> list[Face]:
    """The faces, the largest first."""
    return sorted(faces, key=lambda face: -face.area)


def upright(photo: np.ndarray) -> tuple[int, list[Face]]:
    """How to turn a photo so that it shows a face, and its prominent faces when it is turned.

    Some cameras and scanners do not note how they were held. A photo is turned if it shows no
    prominent face as it is, or only a doubtful one and a much surer one, which is not much
    smaller, when it is turned. In a photo of more than 640 pixels a side, a face on its side is
    found if it is as wide as 1/32 of the longer side.

    Args:
        photo: RGB uint8 ``(height, width, 3)``.

    Returns:
        Quarter turns, 0 to 3, for :func:`turned`, and the faces in pixels of the turned photo, as
        :func:`prominent` gives them. 0 and no faces if there is none whichever way it is turned.
    """
    faces = prominent(photo)
    if max(map(_confidence, faces), default=0.0) >= SURELY_UPRIGHT:
        return 0, faces
    quarter_turns = _turns_to_surest(photo)
    faces_turned = prominent(turned(photo, quarter_turns)) if quarter_turns else []
    return (quarter_turns, faces_turned) if faces_turned else (0, faces)


def _confidence(face: Face) -> float:
    return face.confidence


def _turns_to_surest(photo: np.ndarray) -> int:
    """The quarter turns after which a small copy of a photo shows a much surer face; 0: none."""
    height, width = photo.shape[:2]
    size, scale = _searched_size(height, width, None, TURNED_SIDE)
    if min(size) < MTCNN_MIN_SIDE:
        return 0
    small = _shrink(photo, size, quickly=True) if scale < 1 else photo
    views = [turned(small, quarter_turns) for quarter_turns in range(4)]

    # the surest face of each view
    nothing = Face((0.0, 0.0, 0.0, 0.0), 0.0, np.zeros((5, 2)))
    surest = []
    for faces in detect_many(views):
        surest.append(max(_prominent_of(faces), key=_confidence, default=nothing))

    doubts = [1 - face.confidence for face in surest]
    best = int(np.argmin(doubts))
    is_sure = doubts[best] < LESS_DOUBT * doubts[0]
    return best if is_sure and surest[best].area >= LEAST_AREA * surest[0].area else 0


def turned(photo: np.ndarray, quarter_turns: int) -> np.ndarray:
    """The photo after so many quarter turns, each 90 degrees counter-clockwise.

    Args:
        photo: RGB uint8 ``(height, width, 3)``.
        quarter_turns: 0 gives the photo itself.
    """
    if not quarter_turns % 4:
        return photo
    return np.ascontiguousarray(np.rot90(photo, quarter_turns))


def detect_many(
    photos: Sequence[np.ndarray], min_face: int | None = None, long_side: int = LONG_SIDE
) -> list[list[Face]]:
    """:func:`detect` on many photos, those of one size in batches.

    Args:
        photos: RGB uint8 ``(height, width, 3)``, of any sizes.
        min_face: as for :func:`detect`.
        long_side: as for :func:`detect`.

    Returns:
        The faces of each photo, the largest first.
    """
    faces_by_photo = _search(photos, min_face, long_side)
    if min_face is not None:
        for row, photo in enumerate(photos):
            faces_by_photo[row] = _with_smaller(faces_by_photo[row], photo, min_face, long_side)

    # a photo without a face may be one that a face fills
    least = MTCNN_MIN_FACE if min_face is None else min_face
    empty = [row for row, faces in enumerate(faces_by_photo) if not faces]
    crops = [photos[row] for row in empty]
    for row, face in zip(empty, detect_in_crops(crops), strict=True):
        if face is not None and face.box[3] >= least:
            faces_by_photo[row] = [face]
    return faces_by_photo


def detect_in_crops(crops: Sequence[np.ndarray]) -> list[Face | None]:
    """The face that fills each crop, or None.

    Each crop is shrunk to 112 pixels and framed with its border pixels, so that MTCNN has the room
    that it needs. A face narrower than half the crop does not count.
    """
    framed, factors = [], []
    for crop in crops:
        factor = CROP_SIDE / max(crop.shape[:2])
        width, height = (max(1, round(side * factor)) for side in crop.shape[1::-1])
        small = _shrink(crop, (width, height))
        frame = (CROP_FRAME, CROP_FRAME)
        framed.append(np.pad(small, (frame, frame, (0, 0)), mode="edge"))
        factors.append(factor)

    # only the largest face of a crop can fill it
    results: list[Face | None] = []
    for faces, factor, crop in zip(_search(framed), factors, crops, strict=True):
        results.append(_unframed(faces[0], factor, crop) if faces else None)
    return results


def least_face(
    photo: np.ndarray, min_face: int | None = None, long_side: int = LONG_SIDE
) -> int | None:
    """The width in pixels from which :func:`detect` finds faces in this photo.

    A photo that is shrunk before the search must show larger faces than one that is not, unless it
    is asked for smaller ones.

    Args:
        photo: RGB uint8 ``(height, width, 3)``.
        min_face: as for :func:`detect`.
        long_side: as for :func:`detect`.

    Returns:
        Pixels of the photo; None if it is too narrow to be searched at all.

    Example:
        >>> least_face(np.zeros((720, 1280, 3), np.uint8))
        20
        >>> least_face(np.zeros((3000, 4000, 3), np.uint8))
        63
        >>> least_face(np.zeros((3000, 4000, 3), np.uint8), min_face=30)
        30
    """
    height, width = photo.shape[:2]
    size, _ = _searched_size(height, width, None, long_side)
    if min_face is not None:
        # in tiles the photo has the size that the search needs, at most its own
        return None if min(height, width) < MTCNN_MIN_SIDE else max(MTCNN_MIN_FACE, min_face)
    if min(size) < MTCNN_MIN_SIDE:
        return None
    # rounded up: the face has 20 pixels when the longer side has so many
    return max(MTCNN_MIN_FACE, -(-MTCNN_MIN_FACE * max(height, width) // long_side))


def largest(
    faces: Sequence[Face], name: str = "the photo", photo: np.ndarray | None = None
) -> Face:
    """The first of the faces that :func:`detect` gives.

    Args:
        faces: those of one photo.
        name: what the message calls the photo.
        photo: in which they were looked for; the message says how large a face must be in it.
            None: a photo that is not shrunk.

    Raises:
        FaceError: there is none.
    """
    if not faces:
        raise FaceError(f"No face was found in {name}; {_advice(photo)}")
    return faces[0]


def _advice(photo: np.ndarray | None) -> str:
    """What to do about a photo without a face, the rest of a sentence."""
    photo = np.empty((MTCNN_MIN_SIDE, MTCNN_MIN_SIDE, 3), np.uint8) if photo is None else photo
    least, size = least_face(photo), f"{photo.shape[1]}×{photo.shape[0]} pixels"
    if least is None:
        return (
            f"its {size} are too narrow to be searched: use a photo of another shape, or cut out "
            "the part that shows the face."
        )
    wanted = (
        "use a sharp, upright photo of somebody who looks at the camera, with a face at least "
        f"{least} pixels wide"
    )
    # a photo that is not shrunk needs no explanation
    if least == MTCNN_MIN_FACE:
        return f"{wanted}."
    return (
        f"{wanted} (a photo of {size} is shrunk before the search), or cut out the part that "
        "shows the face."
    )


def choose(
    faces: Sequence[Face],
    which: Which = 1,
    name: str = "the photo",
    photo: np.ndarray | None = None,
) -> Face:
    """One face of several: by its number, or the one whose centre is nearest to a point.

    Args:
        faces: those of one photo, the largest first, as :func:`detect` gives them.
        which: 1 is the largest face, 2 the next, and so on; or (x, y) in pixels of the photo.
        name: used in messages only.
        photo: used in messages only: see :func:`largest`.

    Raises:
        FaceError: there is no face, or none of this number.
    """
    largest(faces, name, photo)  # says so when there is none
    if not isinstance(which, int):
        return min(faces, key=lambda face: np.hypot(*(face.centre - which)))
    if not 1 <= which <= len(faces):
        several = "faces, numbered from 1 for the largest" if len(faces) > 1 else "face, number 1"
        raise FaceError(
            f"There is no face number {which} in {name}; it has {len(faces)} {several}."
        )
    return faces[which - 1]


# --- from large to small ------------------------------------------------------------------------


def _only_wide_face(photo: np.ndarray) -> Face | None:
    """The prominent face of a photo with one wide face; else None: then all of it is searched.

    A small copy of the photo shows a wide face as well as a large one does, in a tenth of the
    time. What looks like a face in it has to look like one in a window of the photo as well.
    Of several faces, only the whole search says which is the largest, and how many there are.
    """
    longest = max(photo.shape[:2])
    for long_side in COARSE_SIDES:
        # a copy of more than this share of the size saves nothing
        if long_side > 0.6 * min(longest, LONG_SIDE):
            return None
        faces = _prominent_of(_search([photo], long_side=long_side, quickly=True)[0])
        if len(faces) > 1:
            return None
        # smaller ones beside a face that is not wide enough may be lost in this copy
        if faces and faces[0].box[2] * long_side / longest >= WIDE_ENOUGH:
            [in_window] = _in_windows(photo, faces)
            if in_window is not None:
                return in_window
    return None


def _in_windows(photo: np.ndarray, faces: Sequence[Face]) -> list[Face | None]:
    """Each face as it is found in a window of the photo around it; None where it is not.

    Args:
        photo: RGB uint8 ``(height, width, 3)``.
        faces: what a search of the photo gave.
    """
    windows, places = [], []
    for face in faces:
        # a square of whole pixels of the photo, with room on every side
        side = max(2, round(face.box[2] * WINDOW / FACE_IN_WINDOW))
        corner = np.round(face.centre - side / 2).astype(int)  # (x, y), perhaps outside
        windows.append(_window(photo, corner, side))
        places.append((corner, side / WINDOW))

    # of what is found in a window, the surest that lies where the face is
    height, width = photo.shape[:2]
    results: list[Face | None] = []
    searches = _search(windows)
    for face, found, (corner, factor) in zip(faces, searches, places, strict=True):
        whole = [_out_of_window(other, corner, factor, width, height) for other in found]
        same = [other for other in whole if _is_sure(other) and other.overlap(face) > SAME_FACE]
        results.append(max(same, key=lambda other: other.confidence, default=None))
    return results


def _window(photo: np.ndarray, corner: np.ndarray, side: int) -> np.ndarray:
    """A square of the photo in ``WINDOW`` pixels; its border pixels fill what lies outside.

    Args:
        photo: RGB uint8 ``(height, width, 3)``.
        corner: (x, y) of its upper left pixel, perhaps outside.
        side: of the square in pixels of the photo.
    """
    # the pixels of the window that lie in the photo, and where they begin and end there
    whole, factor = np.array(photo.shape[1::-1]), side / WINDOW  # (width, height)
    low = np.ceil(np.maximum(0, -corner) / factor).astype(int)
    high = np.floor(np.minimum(side, whole - corner) / factor).astype(int)
    first, last = corner + low * factor, corner + high * factor

    # those pixels, then the border
    start, stop = np.floor(first).astype(int), np.minimum(np.ceil(last).astype(int), whole)
    part = photo[start[1] : stop[1], start[0] : stop[0]]
    box = np.clip([first - start, last - start], 0, stop - start)
    inner = _shrink(part, (high - low).tolist(), quickly=True, box=box)
    before, after = low[::-1], WINDOW - high[::-1]  # (y, x)
    return np.pad(inner, [*zip(before, after, strict=True), (0, 0)], mode="edge")


def _out_of_window(face: Face, corner: np.ndarray, factor: float, width: int, height: int) -> Face:
    """A face of a window in pixels of the photo.

    Args:
        face: in pixels of the window.
        corner: (x, y) of the window's upper left pixel.
        factor: pixels of the photo in one of the window.
        width: of the photo.
        height: of the photo.
    """

    # a pixel of the window lies where the middle of so many pixels of the photo does
    def out(points: np.ndarray) -> np.ndarray:
        return (points + 0.5) * factor - 0.5 + corner

    x, y, w, h = face.box
    corners = out(np.array([(x, y), (x + w, y + h)]))
    return Face(_box(corners, width, height), face.confidence, out(face.landmarks))


# --- small faces in large photos ----------------------------------------------------------------


def _with_smaller(
    faces: list[Face], photo: np.ndarray, min_face: int, long_side: int
) -> list[Face]:
    """The faces of the shrunk photo, and those that it lost.

    Copies of the photo are searched, each twice as large as the one before.

    Args:
        faces: of the photo shrunk to ``long_side``.
        photo: RGB uint8 ``(height, width, 3)``.
        min_face: the smallest face to look for.
        long_side: of the shrunk photo, and of the tiles.
    """
    longest = max(photo.shape[:2])
    finest = min(1.0, MTCNN_MIN_FACE / min_face)
    scale = long_side / longest
    while scale < finest:
        scale = min(2 * scale, finest)
        for face in sorted(_in_tiles(photo, scale, long_side), key=lambda face: -face.confidence):
            if not any(_is_inside(face, other) for other in faces):
                faces = [*faces, face]
    return _by_area(faces)


def _in_tiles(photo: np.ndarray, scale: float, side: int) -> list[Face]:
    """The faces of a shrunk photo that lie whole in one of its tiles.

    Args:
        photo: RGB uint8 ``(height, width, 3)``.
        scale: the factor by which it is shrunk, 1 at most.
        side: of a tile in pixels, or the photo's own where it is shorter.
    """
    height, width = (round(length * scale) for length in photo.shape[:2])
    if min(height, width) < MTCNN_MIN_SIDE:
        return []
    copy = _shrink(photo, (width, height)) if scale < 1 else photo
    high, wide = min(side, height), min(side, width)
    faces = []
    for y in _starts(height, high):
        for x in _starts(width, wide):
            # one at a time: memory stays that of one tile
            [found] = _search([copy[y : y + high, x : x + wide]])
            for face in found:
                if _is_whole(face, (x, y), (wide, high), (width, height)):
                    faces.append(_out_of_tile(face, (x, y), scale, photo))
    return faces


def _starts(length: int, tile: int) -> list[int]:
    """Where tiles begin along a side, so that each overlaps the next by ``OVERLAP`` pixels."""
    count = 1 if tile >= length else -(-(length - OVERLAP) // (tile - OVERLAP))
    return [round(start) for start in np.linspace(0, length - tile, count)]


def _is_whole(
    face: Face, corner: tuple[int, int], tile: tuple[int, int], photo: tuple[int, int]
) -> bool:
    """Whether the face ends before the tile does, or where the photo ends.

    Args:
        face: in pixels of the tile, its box clipped to it.
        corner: (x, y) of the tile in the photo.
        tile: (width, height).
        photo: (width, height).
    """
    low, high = np.array(face.box[:2]), np.add(face.box[:2], face.box[2:])
    ends_low = (low > 0) | (np.array(corner) == 0)
    ends_high = (high < tile) | (np.add(corner, tile) == photo)
    return bool((ends_low & ends_high).all())


def _out_of_tile(face: Face, corner: tuple[int, int], scale: float, photo: np.ndarray) -> Face:
    """A face of a tile in pixels of the photo.

    Args:
        face: in pixels of the tile.
        corner: (x, y) of the tile in the shrunk photo.
        scale: the factor by which the photo was shrunk.
        photo: RGB uint8 ``(height, width, 3)``.
    """
    x, y, w, h = face.box
    corners = (np.array([(x, y), (x + w, y + h)]) + corner) / scale
    box = _box(corners, photo.shape[1], photo.shape[0])
    return Face(box, face.confidence, (face.landmarks + corner) / scale)


def _is_inside(face: Face, other: Face) -> bool:
    """Whether most of the smaller box lies in the larger one."""
    return face.shared(other) > INSIDE * min(face.area, other.area)


# --- MTCNN --------------------------------------------------------------------------------------

_building = threading.Lock()


def detector() -> MTCNN:
    """The one MTCNN of this process, built at the first call; any number of threads may use it."""
    surroundings.check_process()
    with _building:
        return _detector()


@functools.cache
def _detector() -> MTCNN:
    """MTCNN, its networks compiled: a small photo takes half the time that the package needs."""
    import tensorflow as tf
    from mtcnn import MTCNN

    with quiet.without_late_readers():  # its weights are read by joblib
        network = MTCNN()
    # P-Net takes whole photos, R-Net and O-Net the candidates that the stage before cut out
    shapes = [(None, None, 3), (24, 24, 3), (48, 48, 3)]
    for stage, shape in zip(network.stages, shapes, strict=True):
        signature = [tf.TensorSpec((None, *shape), tf.float32)]
        stage._model = tf.function(stage.model.__call__, input_signature=signature)
    return network


def _search(
    photos: Sequence[np.ndarray],
    min_face: int | None = None,
    long_side: int = LONG_SIDE,
    quickly: bool = False,
) -> list[list[Face]]:
    """One pass of MTCNN; photos of one size share its batches.

    Args:
        photos: RGB uint8 ``(height, width, 3)``, of any sizes.
        min_face: photos are shrunk so that a face of this width has 20 pixels.
        long_side: photos are shrunk to this many pixels a side at most.
        quickly: shrink photos as :func:`_shrink` does quickly.
    """
    # the rows of the photos of each (height, width)
    groups: dict[tuple[int, int], list[int]] = {}
    for row, photo in enumerate(photos):
        height, width = photo.shape[:2]
        groups.setdefault((height, width), []).append(row)

    faces_by_photo: list[list[Face]] = [[] for _ in photos]
    for (height, width), rows in groups.items():
        size, scale = _searched_size(height, width, min_face, long_side)
        if min(size) < MTCNN_MIN_SIDE:
            continue
        count = max(1, BATCH_PIXELS // (size[0] * size[1]))
        for start in range(0, len(rows), count):
            batch = rows[start : start + count]
            faces_by_row = _run([photos[row] for row in batch], size, scale, quickly)
            for row, faces in zip(batch, faces_by_row, strict=True):
                faces_by_photo[row] = faces
    return faces_by_photo


def _searched_size(
    height: int, width: int, min_face: int | None, long_side: int
) -> tuple[tuple[int, int], float]:
    """(width, height) in which a photo is searched, and the factor between; 1 at most.

    Args:
        height: of the photo in pixels.
        width: of the photo in pixels.
        min_face: the smallest face to look for; None: as small as MTCNN can.
        long_side: pixels of the longer side at most.
    """
    least = MTCNN_MIN_FACE if min_face is None else min_face
    scale = min(1.0, MTCNN_MIN_FACE / least, long_side / max(height, width))
    return (round(width * scale), round(height * scale)), scale


def _run(
    photos: list[np.ndarray], size: tuple[int, int], scale: float, quickly: bool = False
) -> list[list[Face]]:
    """MTCNN on photos of one size; the largest face of each first.

    Args:
        photos: RGB uint8 ``(height, width, 3)``.
        size: (width, height) in which they are searched.
        scale: the factor between.
        quickly: shrink them as :func:`_shrink` does quickly.
    """
    height, width = photos[0].shape[:2]
    if scale < 1:
        photos = [_shrink(photo, size, quickly) for photo in photos]
    rows = detector().detect_faces(
        list(photos), output_type="numpy", box_format="xyxy", fit_to_image=False
    )

    # one row a face, of whichever photo
    faces_by_photo: list[list[Face]] = [[] for _ in photos]
    for row in rows:
        faces_by_photo[int(row[0])].append(_face(row, scale, width, height))
    return [_by_area(faces) for faces in faces_by_photo]


def _shrink(
    photo: np.ndarray,
    size: Sequence[int],
    quickly: bool = False,
    box: np.ndarray | None = None,
) -> np.ndarray:
    """The photo in another size, bilinear.

    Args:
        photo: RGB uint8 ``(height, width, 3)``.
        size: (width, height).
        quickly: average blocks of pixels first, down to about twice the size: a photo of 12
            megapixels takes a quarter of the time, and the pixels are nearly the same.
        box: the part to take, two corners (x, y); None: all of it.
    """
    width, height = size
    image = Image.fromarray(np.ascontiguousarray(photo))
    small = image.resize(
        (width, height),
        Image.Resampling.BILINEAR,
        box=None if box is None else tuple(box.ravel().tolist()),
        reducing_gap=2.0 if quickly else None,
    )
    return np.asarray(small)


def _face(row: np.ndarray, scale: float, width: int, height: int) -> Face:
    """From MTCNN's row (number, x1, y1, x2, y2, confidence, five x, five y)."""
    corners = row[1:5].reshape(2, 2) / scale
    landmarks = row[6:16].astype(np.float64).reshape(2, 5).T / scale
    return Face(_box(corners, width, height), float(row[5]), landmarks)


def _unframed(face: Face, factor: float, crop: np.ndarray) -> Face | None:
    """From a framed and shrunk crop back to the crop's own pixels."""
    height, width = crop.shape[:2]
    x, y, w, h = face.box
    if w / factor <= width / 2:
        return None
    corners = (np.array([(x, y), (x + w, y + h)]) - CROP_FRAME) / factor
    landmarks = (face.landmarks - CROP_FRAME) / factor
    return Face(_box(corners, width, height), face.confidence, landmarks)


def _box(corners: np.ndarray, width: int, height: int) -> Box:
    """(x, y, width, height) of a box given by two corners, clipped to a photo of this size."""
    x1, x2 = np.clip(corners[:, 0], 0, width)
    y1, y2 = np.clip(corners[:, 1], 0, height)
    return float(x1), float(y1), float(x2 - x1), float(y2 - y1)
