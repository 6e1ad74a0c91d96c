"""Seconds a photo: MTCNN as published apps use it, and as `utils.faces.detection` does; do they find the same?

Four ways, in turns: a new detector for each photo and all its pixels (the published app), one
detector for all photos, the same compiled, and compiled with the long side bounded (the course).
Each photo is searched as it is and enlarged to 4 megapixels. Beside the times stands how well the
bounded search agrees with the compiled one at full size: the faces that both find, the overlap of
their boxes (intersection over union), and the distance of their landmarks in percent of the
distance between the eyes. Without photos, walls of synthetic portraits are searched.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import side_by_side
from PIL import Image

from utils import images
from utils.data import scenes
from utils.errors import ImageError
from utils.faces import detection
from utils.faces.detection import Face

NEW, ONE = "new detector a photo", "one detector"
COMPILED, BOUNDED = "one, compiled", "one, compiled, long side bounded"
FULL_SIZE = 100_000  # a long side that no photo has
ENLARGED = 4_000_000  # pixels
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}
SAME_FACE = 0.3  # least overlap of two boxes of one face


def find_photos(folder: Path | None, count: int) -> list[np.ndarray]:
    """The photos in a folder and below, in the order of their paths; without one, synthetic walls."""
    if folder is None:
        sizes = [(640, 360), (1280, 720), (1920, 1080)]
        return [scenes.family_wall(seed=seed, width=w, height=h)[0] for seed, (w, h) in
                zip(range(count), sizes * count, strict=False)]
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ImageError(f"{folder} holds no photos; name a folder with {', '.join(sorted(SUFFIXES))} files.")
    return [images.read(path) for path in paths[:count]]


def enlarge(photo: np.ndarray) -> np.ndarray:
    """The photo at 4 megapixels, or as it is when it has more."""
    factor = np.sqrt(ENLARGED / (photo.shape[0] * photo.shape[1]))
    size = (round(photo.shape[1] * factor), round(photo.shape[0] * factor))
    return photo if factor <= 1 else np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC))


def contenders() -> dict[str, Callable[[np.ndarray], object]]:
    """By name: a function that searches one photo."""
    from mtcnn import MTCNN

    shared = MTCNN()
    return {NEW: lambda photo: MTCNN().detect_faces(photo), ONE: shared.detect_faces,
            COMPILED: lambda photo: detection.detect(photo, long_side=FULL_SIZE), BOUNDED: detection.detect}


def measure(photos: list[np.ndarray], repeats: int) -> dict:
    """Seconds a photo of each contender, ratios to the bounded one, and how far that one agrees."""
    ways, results = contenders(), {}

    def work(name: str) -> Iterator:
        results[name] = [ways[name](photo) for photo in photos]
        yield

    timings = side_by_side.interleaved({name: lambda name=name: work(name) for name in ways}, len(photos), repeats)
    return {"photos": len(photos), "megapixels": float(np.mean([p.shape[0] * p.shape[1] / 1e6 for p in photos])),
            "s_a_photo": {name: timing.wall for name, timing in timings.items()},
            "ratio": {name: timing.wall / timings[BOUNDED].wall for name, timing in timings.items()},
            "agreement": agreement(results[COMPILED], results[BOUNDED])}


def agreement(full: list[list[Face]], bounded: list[list[Face]]) -> dict:
    """Faces of both searches matched photo by photo, each to the one with which it overlaps most."""
    overlaps, errors = [], []
    for ours, theirs in zip(bounded, full, strict=True):
        for face in theirs:
            other = max(ours, key=lambda o, face=face: overlap(face, o), default=None)
            if other is not None and overlap(face, other) >= SAME_FACE:
                overlaps.append(overlap(face, other))
                eyes = np.linalg.norm(face.landmarks[0] - face.landmarks[1])
                errors.append(float(np.linalg.norm(face.landmarks - other.landmarks, axis=1).mean() / eyes))
    found = {"full_size": sum(map(len, full)), "bounded": sum(map(len, bounded)), "both": len(overlaps)}
    if not overlaps:
        return {"faces": found}
    return {"faces": found, "iou_median": float(np.median(overlaps)), "iou_least": min(overlaps),
            "landmark_error_median": float(np.median(errors)), "landmark_error_most": max(errors)}


def overlap(a: Face, b: Face) -> float:
    """Intersection over union of two boxes."""
    low = np.maximum(a.box[:2], b.box[:2])
    high = np.minimum(np.add(a.box[:2], a.box[2:]), np.add(b.box[:2], b.box[2:]))
    both = float(np.prod(np.clip(high - low, 0, None)))
    return both / (a.area + b.area - both)


def run(options) -> dict:
    """Measure on the photos as they are and enlarged; ``text`` is the two tables."""
    photos = find_photos(options.photos, options.count)
    found = {"as they are": measure(photos, options.repeats),
             "enlarged to 4 megapixels": measure([enlarge(photo) for photo in photos], options.repeats)}
    return {**found, "text": "\n\n".join(_text(name, part, options.repeats) for name, part in found.items())}


def _text(name: str, part: dict, repeats: int) -> str:
    rows = {way: [f"{seconds:.2f}", f"{part['ratio'][way]:.1f}×"] for way, seconds in part["s_a_photo"].items()}
    lines = [f"{part['photos']} photos {name}, {part['megapixels']:.2f} megapixels in the mean, "
             f"median of {repeats} interleaved repetitions", side_by_side.table(["s a photo", "time"], rows)]
    same = part["agreement"]
    lines.append("faces: {full_size} at full size, {bounded} bounded, {both} of them the same"
                 .format(**same["faces"]))
    if "iou_median" in same:
        lines.append(f"boxes: IoU median {same['iou_median']:.3f}, least {same['iou_least']:.3f}; landmarks: "
                     f"median {100 * same['landmark_error_median']:.1f} % of the distance of the eyes, most "
                     f"{100 * same['landmark_error_most']:.1f} %")
    return "\n".join(lines)


def build_parser():
    """The options of this benchmark."""
    parser = side_by_side.parser(__doc__, "detection.py --photos holiday/", 1, data=False)
    parser.add_argument("--photos", type=Path, metavar="DIR", help="folder of photos (default: synthetic walls)")
    parser.add_argument("--count", type=side_by_side.count, default=6, metavar="N",
                        help="photos at most (default: 6)")
    return parser


if __name__ == "__main__":
    sys.exit(side_by_side.main(run, build_parser().parse_args()))
