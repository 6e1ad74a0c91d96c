"""Seconds a photo: MTCNN as published apps use it, and as `utils.faces.detection` does.

Four ways, in turns: a new detector for each photo and all its pixels (the published app), one
detector for all photos, the same compiled, and compiled with the long side bounded (the course).
Each photo is searched as it is and enlarged to 4 megapixels. Beside the times stands how well the
bounded search agrees with the compiled one at full size: the faces that both find, the overlap of
their boxes (intersection over union), and the distance of their landmarks in percent of the
distance between the eyes. Without photos, walls of synthetic portraits are searched.

Then the faces that somebody may mean: from large to small (the course) and by searching the whole
photo, as they are looked for before an answer about two photos. Timed are photos with one face as
they are, those with a wide face enlarged to 12 megapixels, and the shipped model's whole answer to
two of each; compared are the faces, and their landmarks in percent of the face's width.
"""

import argparse
import functools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from unittest import mock

import numpy as np
import side_by_side
from PIL import Image

from utils import images, quiet
from utils.answers.kinship import Kinship
from utils.data import scenes
from utils.faces import detection
from utils.faces.detection import Face

NEW, ONE = "new detector a photo", "one detector"
COMPILED, BOUNDED = "one, compiled", "one, compiled, long side bounded"
FULL_SIZE = 100_000  # a long side that no photo has
ENLARGED = 4_000_000  # pixels
SELFIE = 12_000_000  # pixels
WIDE = 0.25  # of the longer side of the photo: as wide as a face is in a selfie
WHOLE, COARSE = "whole photo", "from large to small"
WALLS = [(640, 360), (1280, 720), (1920, 1080)]  # sizes of synthetic photos, in turn
SAME_FACE = 0.3  # least overlap of two boxes of one face
SCENES = [(640, 360), (1280, 720), (1920, 1080), (4000, 2250)]  # sizes of scenes, in turn

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
    return [images.read(path) for path in images.photos_in(folder)[:count]]


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


# --- the faces that are meant -------------------------------------------------------------------


def search_whole(photo: np.ndarray) -> list[Face]:
    """The prominent faces by a search of the whole photo."""
    return detection._prominent_of(detection.detect(photo))


def answer(photos: list[np.ndarray], search: Callable[[np.ndarray], list[Face]]) -> float:
    """The probability of kinship of the first two photos; their faces are looked for so."""
    with mock.patch.object(detection, "prominent", search):
        return Kinship.load().predict(*photos[:2], explain=False).probability


def time_meant(photos: list[np.ndarray], repeats: int) -> dict:
    """Seconds a photo, and of an answer to two of them, both ways.

    Args:
        photos: uint8 RGB ``(height, width, 3)`` each, with one face each.
        repeats: repetitions, of which the median counts.
    """
    searches = {WHOLE: search_whole, COARSE: detection.prominent}
    finding = {way: functools.partial(_search, searches[way], photos) for way in searches}
    timings, _ = side_by_side.calls(finding, len(photos), repeats)
    result = {"photos": len(photos), "s_a_photo": {way: timings[way].wall for way in timings}}
    if len(photos) > 1:
        answers = {way: functools.partial(answer, photos, searches[way]) for way in searches}
        timings, chances = side_by_side.calls(answers, 1, repeats)
        result["s_an_answer"] = {way: timings[way].wall for way in timings}
        result["answers"] = chances
    return result


def compare_meant(photos: Iterable[np.ndarray]) -> dict:
    """In how many photos both ways give the same faces, and how far their landmarks lie apart.

    Args:
        photos: uint8 RGB ``(height, width, 3)``, searched one by one.
    """
    counts, errors = {"photos": 0, "faces": 0, "same_largest": 0, "same_faces": 0}, []
    for photo in photos:
        whole, coarse = search_whole(photo), detection.prominent(photo)
        pairs = list(zip(whole, coarse, strict=False))
        same = [overlap(*pair) >= SAME_FACE for pair in pairs]
        counts["photos"] += 1
        counts["faces"] += len(whole)
        counts["same_largest"] += all(same[:1]) and bool(whole) == bool(coarse)
        counts["same_faces"] += all(same) and len(whole) == len(coarse)
        # of the faces that are the same, in widths of the face
        for (a, b), is_same in zip(pairs, same, strict=True):
            if is_same:
                apart = np.linalg.norm(a.landmarks - b.landmarks, axis=1).mean()
                errors.append(float(apart / a.box[2]))
    if not errors:
        return counts
    return {**counts, "landmarks_median": np.median(errors).item(), "landmarks_most": max(errors)}


def scene(seed: int) -> np.ndarray:
    """A wall with 1 to 12 portraits, in one of four sizes."""
    width, height = SCENES[seed // 12 % len(SCENES)]
    return scenes.family_wall(1 + seed % 12, seed, width, height)[0]


def measure_meant(photos: list[np.ndarray], count: int, repeats: int) -> dict:
    """Times and agreement of both ways.

    Args:
        photos: uint8 RGB ``(height, width, 3)`` each.
        count: synthetic scenes that are compared as well.
        repeats: repetitions, of which the median counts.
    """
    # photos with one face, and of them those that it fills as in a selfie
    single, selfies = [], []
    for photo in photos:
        faces = search_whole(photo)
        if len(faces) == 1:
            single.append(photo)
            if faces[0].box[2] >= WIDE * max(photo.shape[:2]):
                selfies.append(enlarge(photo, SELFIE))
    groups = {"with one face, as they are": single, "of 12 megapixels, a wide face": selfies}
    times = {name: time_meant(group, repeats) for name, group in groups.items() if group}
    return {
        "times": times,
        "photos": compare_meant(photos),
        "scenes": compare_meant(map(scene, range(count))),
    }


def report_meant(result: dict, repeats: int) -> str:
    """Tables of the times, and the agreement in sentences.

    Args:
        result: what :func:`measure_meant` gave.
        repeats: repetitions.
    """
    lines = [f"the faces that are meant, median of {repeats} interleaved repetitions"]
    for name, times in result["times"].items():
        rows = {}
        for column in ("s_a_photo", "s_an_answer"):
            seconds = times.get(column)
            if seconds:
                numbers = [f"{seconds[way]:.3f}" for way in (WHOLE, COARSE)]
                label = column.replace("_", " ")
                rows[label] = [*numbers, f"{seconds[WHOLE] / seconds[COARSE]:.1f}×"]
        lines += [f"{times['photos']} photos {name}"]
        lines += [side_by_side.table([WHOLE, COARSE, "faster"], rows)]
        if "answers" in times:
            lines.append("answers: " + ", ".join(f"{p:.3f}" for p in times["answers"].values()))
    for name in ("photos", "scenes"):
        same = result[name]
        lines.append(
            "{photos} {name} with {faces} faces: the same largest face in {same_largest}, the "
            "same faces in {same_faces}".format(name=name, **same)
        )
        if "landmarks_median" in same:
            lines[-1] += (
                f"; landmarks: median {100 * same['landmarks_median']:.1f} % of the width of the "
                f"face, most {100 * same['landmarks_most']:.1f} %"
            )
    return "\n".join(lines)


# --- together -----------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> dict:
    """Measure on the photos as they are and enlarged, then the faces meant; ``text`` is all."""
    photos = find_photos(options.photos, options.count)
    enlarged = [enlarge(photo) for photo in photos]
    results = {
        "as they are": measure(photos, options.repeats),
        "enlarged to 4 megapixels": measure(enlarged, options.repeats),
    }
    texts = [report(name, result, options.repeats) for name, result in results.items()]
    meant = measure_meant(photos, options.scenes, options.repeats)
    texts.append(report_meant(meant, options.repeats))
    return {**results, "meant": meant, "text": "\n\n".join(texts)}


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
    parser.add_argument(
        "--scenes",
        type=side_by_side.count,
        default=6,
        metavar="N",
        help="synthetic scenes in which the faces that are meant are compared (default: 6)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(side_by_side.main(run, build_parser().parse_args()))
