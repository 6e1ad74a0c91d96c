"""Seconds a photo: MTCNN as published apps use it, and as `utils.faces.detection` does.

Four ways, in turns: a new detector for each photo and all its pixels (the published app), one
detector for all photos, the same compiled, and compiled with the long side bounded (the course).
Each photo is searched as it is and enlarged to 4 megapixels. Beside the times stands how well the
bounded search agrees with the compiled one at full size: the faces that both find, the overlap of
their boxes (intersection over union), and the distance of their landmarks in percent of the
distance between the eyes. Without photos, walls of synthetic portraits are searched.
"""

import argparse
import functools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import side_by_side
from PIL import Image

from utils import images, quiet
from utils.data import scenes
from utils.errors import ImageError
from utils.faces import detection
from utils.faces.detection import Face

NEW, ONE = "new detector a photo", "one detector"
COMPILED, BOUNDED = "one, compiled", "one, compiled, long side bounded"
FULL_SIZE = 100_000  # a long side that no photo has
ENLARGED = 4_000_000  # pixels
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}
WALLS = [(640, 360), (1280, 720), (1920, 1080)]  # sizes of synthetic photos, in turn
SAME_FACE = 0.3  # least overlap of two boxes of one face

Searches = list[list[Face]]  # the faces of each photo


# --- photos -------------------------------------------------------------------------------------


def find_photos(folder: Path | None, count: int) -> list[np.ndarray]:
    """The photos in a folder and below, in the order of their paths; without one, synthetic walls.

    Args:
        folder: where to look; None: draw walls of portraits.
        count: photos at most.

    Raises:
        ImageError: no photos there, or one that cannot be read.
    """
    if folder is None:
        return [_wall(seed) for seed in range(count)]
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ImageError(
            f"{folder} holds no photos; name a folder with {', '.join(sorted(SUFFIXES))} files."
        )
    return [images.read(path) for path in paths[:count]]


def _wall(seed: int) -> np.ndarray:
    """A synthetic photo of portraits on a wall, in one of three sizes."""
    width, height = WALLS[seed % len(WALLS)]
    photo, _ = scenes.family_wall(seed=seed, width=width, height=height)
    return photo


def enlarge(photo: np.ndarray, pixels: int = ENLARGED) -> np.ndarray:
    """The photo at 4 megapixels or as many as are asked for; as it is when it has more."""
    height, width, _ = photo.shape
    factor = np.sqrt(pixels / (height * width))
    if factor <= 1:
        return photo
    size = (round(width * factor), round(height * factor))
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC))


# --- time ---------------------------------------------------------------------------------------


def contenders() -> dict[str, Callable[[np.ndarray], object]]:
    """By name: a function that searches one photo."""
    from mtcnn import MTCNN

    @quiet.without_late_readers()
    def new_detector() -> MTCNN:
        return MTCNN()

    return {
        NEW: lambda photo: new_detector().detect_faces(photo),
        ONE: new_detector().detect_faces,
        COMPILED: functools.partial(detection.detect, long_side=FULL_SIZE),
        BOUNDED: detection.detect,
    }


def _search(detect: Callable[[np.ndarray], object], photos: list[np.ndarray]) -> list:
    """What is found in each photo."""
    return [detect(photo) for photo in photos]


def measure(photos: list[np.ndarray], repeats: int) -> dict:
    """Seconds a photo of each contender, ratios to the bounded one, and how far that one agrees.

    Args:
        photos: uint8 RGB ``(height, width, 3)`` each.
        repeats: repetitions, of which the median counts.
    """
    searches = {
        name: functools.partial(_search, detect, photos) for name, detect in contenders().items()
    }
    # seconds a photo, and the faces of each photo, by contender
    timings, faces = side_by_side.calls(searches, len(photos), repeats)
    pixels = [photo.shape[0] * photo.shape[1] for photo in photos]
    seconds = {name: timing.wall for name, timing in timings.items()}
    return {
        "photos": len(photos),
        "megapixels": float(np.mean(pixels)) / 1e6,
        "s_a_photo": seconds,
        "ratio": {name: wall / seconds[BOUNDED] for name, wall in seconds.items()},
        "agreement": agreement(faces[COMPILED], faces[BOUNDED]),
    }


# --- agreement ----------------------------------------------------------------------------------


def agreement(full: Searches, bounded: Searches) -> dict:
    """How well two searches of the same photos agree.

    Args:
        full: the faces that the search at full size found.
        bounded: those of the bounded search.

    Returns:
        Number of faces of either and of both; where there are such, the median and the worst
        overlap of their boxes and distance of their landmarks, in distances between the eyes.
    """
    # each face at full size with the bounded one that overlaps it most, photo by photo
    matches = []
    for ours, theirs in zip(bounded, full, strict=True):
        for face in theirs:
            nearest = max(ours, key=functools.partial(overlap, face), default=None)
            if nearest is not None and overlap(face, nearest) >= SAME_FACE:
                matches.append((face, nearest))

    faces = {
        "full_size": sum(map(len, full)),
        "bounded": sum(map(len, bounded)),
        "both": len(matches),
    }
    if not matches:
        return {"faces": faces}
    # one number a match
    overlaps = [overlap(*match) for match in matches]
    errors = [landmark_error(*match) for match in matches]
    return {
        "faces": faces,
        "iou_median": float(np.median(overlaps)),
        "iou_least": min(overlaps),
        "landmark_error_median": float(np.median(errors)),
        "landmark_error_most": max(errors),
    }


def overlap(a: Face, b: Face) -> float:
    """Intersection over union of two boxes."""
    low = np.maximum(a.box[:2], b.box[:2])
    high = np.minimum(np.add(a.box[:2], a.box[2:]), np.add(b.box[:2], b.box[2:]))
    both = float(np.prod(np.clip(high - low, 0, None)))
    return both / (a.area + b.area - both)


def landmark_error(a: Face, b: Face) -> float:
    """Mean distance of two faces' landmarks, in distances between the eyes of the first."""
    eyes = np.linalg.norm(a.landmarks[0] - a.landmarks[1])
    return float(np.linalg.norm(a.landmarks - b.landmarks, axis=1).mean() / eyes)


# --- together -----------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> dict:
    """Measure on the photos as they are and enlarged; ``text`` is the two tables."""
    photos = find_photos(options.photos, options.count)
    enlarged = [enlarge(photo) for photo in photos]
    results = {
        "as they are": measure(photos, options.repeats),
        "enlarged to 4 megapixels": measure(enlarged, options.repeats),
    }
    texts = [report(name, result, options.repeats) for name, result in results.items()]
    return {**results, "text": "\n\n".join(texts)}


def report(name: str, result: dict, repeats: int) -> str:
    """A table of the times, and the agreement in sentences.

    Args:
        name: how large the photos are, in words.
        result: what :func:`measure` gave.
        repeats: repetitions.
    """
    # one row a contender
    rows = {}
    for way, seconds in result["s_a_photo"].items():
        rows[way] = [f"{seconds:.2f}", f"{result['ratio'][way]:.1f}×"]
    # then how well the bounded search agrees with the one at full size
    same = result["agreement"]
    lines = [
        f"{result['photos']} photos {name}, {result['megapixels']:.2f} megapixels on average, "
        f"median of {repeats} interleaved repetitions",
        side_by_side.table(["s a photo", "time"], rows),
        "faces: {full_size} at full size, {bounded} bounded, {both} of them the same".format(
            **same["faces"]
        ),
    ]
    if "iou_median" in same:
        lines.append(
            f"boxes: IoU median {same['iou_median']:.3f}, least {same['iou_least']:.3f}; "
            f"landmarks: median {100 * same['landmark_error_median']:.1f} % of the distance of "
            f"the eyes, most {100 * same['landmark_error_most']:.1f} %"
        )
    return "\n".join(lines)


def build_parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    parser = side_by_side.parser(__doc__, "detection.py --photos holiday/", 1, data=False)
    parser.add_argument(
        "--photos", type=Path, metavar="DIR", help="folder of photos (default: synthetic walls)"
    )
    parser.add_argument(
        "--count",
        type=side_by_side.count,
        default=6,
        metavar="N",
        help="photos at most (default: 6)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(side_by_side.main(run, build_parser().parse_args()))
