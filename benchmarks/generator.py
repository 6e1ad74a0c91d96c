"""Pairs per second: `utils.data.pairs.pipeline` against the generator of the published article.

Ours reads photos decoded once into a memory map, in three steps: (a) uint8 pairs, (b) with the
encoder's `preprocess`, (c) augmented as well. The article's generator is written anew here with
its habits: a Python list of kin, strangers found by scanning that list for both orders, every
file decoded at every use, images standardised one by one in float64. It runs in two forms:

- as published: four images a pair, 160×160 standardised for FaceNet and 224×224 with VGGFace's
  means subtracted, each with a reader (and a decoding) of its own;
- like for like with (b): one 150×150 RGB image a face, preprocessed as ours, a batch at once.

All run in turns in one process on the same photos. Needs opencv (`requirements-test.txt`).
"""

import argparse
import functools
import itertools
import random
import sys
from collections.abc import Callable, Iterator

import numpy as np
import side_by_side

from utils.data import datasets, open_data, pairs
from utils.data.datasets import Dataset
from utils.faces import backbones
from utils.faces.backbones import Backbone

BATCH = 16
VGGFACE_MEAN = np.array([91.4953, 103.8827, 131.0912])
UINT8, PREPROCESSED, AUGMENTED = (
    "pipeline: uint8",
    "pipeline: preprocessed",
    "pipeline: augmented, preprocessed",
)
LIKE, PUBLISHED = "article: one image a face, like for like", "article: four images, as published"

View = Callable[[list[str]], np.ndarray]  # from the paths of photos to what a network takes


# --- the article's generator --------------------------------------------------------------------


class ArticleGenerator:
    """Endless batches ``([a…, b…], labels)`` as the article makes them, kin in the first half.

    Args:
        dataset: photos and kin to draw from.
        views: one function for each kind of image that the networks take; the inputs are a and b
            for the first view, then for the next.
        seed: of the draws.
    """

    def __init__(self, dataset: Dataset, views: list[View], seed: int = 0):
        self.views, self.random = views, random.Random(seed)
        self.kin = list(dataset.kin[["p1", "p2"]].itertuples(index=False, name=None))
        paths = dataset.photos["path"].map(lambda name: str(dataset.root / name))
        self.photos = paths.groupby(dataset.photos["person"]).agg(list).to_dict()
        self.people = list(self.photos)

    def __iter__(self) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
        half = BATCH // 2
        while True:
            # pairs of people, kin first, and a photo of each: the paths of a, and those of b
            people = self.random.sample(self.kin, half)
            people += [self.strangers() for _ in range(half)]
            sides = [self.photos_of(side) for side in zip(*people, strict=True)]
            images = [view(paths) for view, paths in itertools.product(self.views, sides)]
            yield images, np.repeat([1, 0], half)

    def strangers(self) -> tuple[str, str]:
        """Two people drawn anew until the list of kin has them in neither order."""
        while True:
            a, b = self.random.choice(self.people), self.random.choice(self.people)
            if a != b and (a, b) not in self.kin and (b, a) not in self.kin:
                return a, b

    def photos_of(self, people: tuple[str, ...]) -> list[str]:
        """The path of a photo of each person, drawn at random."""
        return [self.random.choice(self.photos[person]) for person in people]


def facenet_view(paths: list[str]) -> np.ndarray:
    """float64 ``(n, 160, 160, 3)``, each image with mean 0 and standard deviation 1."""
    return np.array([_standardised(_read(path, 160).astype(np.float64)) for path in paths])


def _standardised(image: np.ndarray) -> np.ndarray:
    return (image - image.mean()) / max(image.std(), 1 / np.sqrt(image.size))


def vggface_view(paths: list[str]) -> np.ndarray:
    """float64 ``(n, 224, 224, 3)``, channels reversed, the means of VGGFace subtracted."""
    faces = []
    for path in paths:
        # (224, 224, 3); VGGFace's function reverses the channels
        image = _read(path, 224).astype(np.float64)
        faces.append(image[..., ::-1] - VGGFACE_MEAN)
    return np.array(faces)


def backbone_view(backbone: Backbone) -> View:
    """A view that gives what the backbone's pipeline gives: float32, RGB, preprocessed."""
    import cv2

    def view(paths: list[str]) -> np.ndarray:
        images = [_read(path, backbone.input_size) for path in paths]
        faces = np.array([cv2.cvtColor(image, cv2.COLOR_BGR2RGB) for image in images])
        return backbone.preprocess(faces).numpy()

    return view


def _read(path: str, size: int) -> np.ndarray:
    """uint8 ``(size, size, 3)``, in the order of colours that OpenCV has: BGR."""
    import cv2

    return cv2.resize(cv2.imread(path), (size, size))


# --- time ---------------------------------------------------------------------------------------


def contenders(
    dataset: Dataset, backbone: Backbone, batches: int
) -> dict[str, Callable[[], Iterator]]:
    """By name: what makes an iterator over batches of pairs.

    Args:
        dataset: photos and kin to draw from.
        backbone: what the images are preprocessed for.
        batches: how many each iterator gives.
    """
    views = datasets.decoded(dataset, [backbone.input_size])
    sampler = pairs.PairSampler(dataset, BATCH)
    pipeline = functools.partial(pairs.pipeline, views, sampler, batches)
    preprocess = [backbone.preprocess]

    # each call of what they return starts anew
    def ours(**options) -> Callable[[], Iterator]:
        return lambda: iter(pipeline(**options))

    def article(*views: View) -> Callable[[], Iterator]:
        return lambda: itertools.islice(ArticleGenerator(dataset, list(views)), batches)

    return {
        UINT8: ours(),
        PREPROCESSED: ours(preprocess=preprocess),
        AUGMENTED: ours(preprocess=preprocess, augmentation_strength=1.0),
        LIKE: article(backbone_view(backbone)),
        PUBLISHED: article(facenet_view, vggface_view),
    }


def measure(dataset: Dataset, backbone: Backbone, batches: int, repeats: int) -> dict:
    """Pairs per second and CPU time of each contender, and the two ratios to (b).

    Args:
        dataset: photos and kin to draw from.
        backbone: what the images are preprocessed for.
        batches: in a repetition.
        repeats: repetitions, of which the median counts.
    """
    ways = contenders(dataset, backbone, batches)
    timings = side_by_side.interleaved(ways, BATCH * batches, repeats)
    rate = {name: 1 / timing.wall for name, timing in timings.items()}
    return {
        "photos": len(dataset.photos),
        "batches": batches,
        "repeats": repeats,
        "pairs_per_second": rate,
        "cpu_ms_a_pair": {name: 1e3 * timing.cpu for name, timing in timings.items()},
        "ratio_like_for_like": rate[PREPROCESSED] / rate[LIKE],
        "ratio_to_published": rate[PREPROCESSED] / rate[PUBLISHED],
    }


def run(options: argparse.Namespace) -> dict:
    """Measure on the data that the options name; ``text`` is the table."""
    backbone = backbones.get()
    dataset = open_data(options.data, sizes=[backbone.input_size])
    result = measure(dataset, backbone, options.batches, options.repeats)
    # one row a contender
    rows = {}
    for name, rate in result["pairs_per_second"].items():
        rows[name] = [f"{rate:.0f}", f"{result['cpu_ms_a_pair'][name]:.2f}"]
    lines = [
        f"{result['photos']} photos, {BATCH} pairs a batch, {options.batches} batches, "
        f"median of {options.repeats} interleaved repetitions",
        side_by_side.table(["pairs/s", "CPU ms a pair"], rows),
        "preprocessed pipeline to the article's generator: "
        f"{result['ratio_like_for_like']:.1f}× like for like, "
        f"{result['ratio_to_published']:.1f}× as published",
    ]
    return {**result, "text": "\n".join(lines)}


def build_parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    parser = side_by_side.parser(
        __doc__, "generator.py --data recognizing-faces-in-the-wild.zip --json", 5
    )
    parser.add_argument(
        "--batches",
        type=side_by_side.count,
        default=100,
        metavar="N",
        help="batches in a repetition (default: 100)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(side_by_side.main(run, build_parser().parse_args()))
