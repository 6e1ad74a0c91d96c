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

import itertools
import random
import sys
from collections.abc import Callable, Iterator

import numpy as np
import side_by_side

from utils.data import datasets, pairs, synthetic
from utils.data.datasets import Dataset
from utils.faces import backbones

BATCH = 16
VGGFACE_MEAN = np.array([91.4953, 103.8827, 131.0912])
UINT8, PREPROCESSED, AUGMENTED = "pipeline: uint8", "pipeline: preprocessed", "pipeline: augmented, preprocessed"
LIKE, PUBLISHED = "article: one image a face, like for like", "article: four images, as published"


class ArticleGenerator:
    """Endless batches ``([a…, b…], labels)`` as the article makes them, kin in the first half.

    Args:
        dataset: photos and kin to draw from.
        views: one function for each kind of image that the networks take, from the paths of a
            batch to an array; the inputs are a and b for the first view, then for the next.
    """

    def __init__(self, dataset: Dataset, views: list[Callable[[list[str]], np.ndarray]], seed: int = 0):
        self.views, self.random = views, random.Random(seed)
        self.kin = list(dataset.kin[["p1", "p2"]].itertuples(index=False, name=None))
        paths = dataset.photos["path"].map(lambda name: str(dataset.root / name))
        self.photos = paths.groupby(dataset.photos["person"]).agg(list).to_dict()
        self.people = list(self.photos)

    def __iter__(self) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
        half = BATCH // 2
        while True:
            people = self.random.sample(self.kin, half) + [self.strangers() for _ in range(half)]
            sides = [[self.random.choice(self.photos[person]) for person in side]
                     for side in zip(*people, strict=True)]
            yield [view(side) for view in self.views for side in sides], np.repeat([1, 0], half)

    def strangers(self) -> tuple[str, str]:
        """Two people drawn anew until the list of kin has them in neither order."""
        while True:
            a, b = self.random.choice(self.people), self.random.choice(self.people)
            if a != b and (a, b) not in self.kin and (b, a) not in self.kin:
                return a, b


def facenet_view(paths: list[str]) -> np.ndarray:
    """float64 ``(n, 160, 160, 3)``, each image with mean 0 and standard deviation 1."""
    return np.array([_standardised(_read(path, 160).astype(np.float64)) for path in paths])


def _standardised(image: np.ndarray) -> np.ndarray:
    return (image - image.mean()) / max(image.std(), 1 / np.sqrt(image.size))


def vggface_view(paths: list[str]) -> np.ndarray:
    """float64 ``(n, 224, 224, 3)``, channels reversed, the means of VGGFace subtracted."""
    return np.array([_read(path, 224).astype(np.float64)[..., ::-1] - VGGFACE_MEAN for path in paths])


def backbone_view(backbone) -> Callable[[list[str]], np.ndarray]:
    """A view that gives what the backbone's pipeline gives: float32, RGB, preprocessed."""
    import cv2

    def view(paths: list[str]) -> np.ndarray:
        faces = [cv2.cvtColor(_read(path, backbone.input_size), cv2.COLOR_BGR2RGB) for path in paths]
        return backbone.preprocess(np.array(faces)).numpy()

    return view


def _read(path: str, size: int) -> np.ndarray:
    import cv2

    return cv2.resize(cv2.imread(path), (size, size))


def contenders(dataset: Dataset, backbone, batches: int) -> dict[str, Callable[[], Iterator]]:
    """By name: what makes an iterator over so many batches of pairs."""
    pixels, sampler = datasets.decoded(dataset, backbone.input_size), pairs.PairSampler(dataset, BATCH)

    def ours(**how):
        return lambda: iter(pairs.pipeline(pixels, sampler, batches, **how))

    def article(*views):
        return lambda: itertools.islice(ArticleGenerator(dataset, list(views)), batches)

    return {UINT8: ours(), PREPROCESSED: ours(preprocess=backbone.preprocess),
            AUGMENTED: ours(preprocess=backbone.preprocess, augmented=True),
            LIKE: article(backbone_view(backbone)), PUBLISHED: article(facenet_view, vggface_view)}


def measure(dataset: Dataset, backbone, batches: int, repeats: int) -> dict:
    """Pairs per second and CPU time of each contender, and the two ratios to (b)."""
    timings = side_by_side.interleaved(contenders(dataset, backbone, batches), BATCH * batches, repeats)
    rate = {name: 1 / timing.wall for name, timing in timings.items()}
    return {"photos": len(dataset.photos), "batches": batches, "repeats": repeats, "pairs_per_second": rate,
            "cpu_ms_a_pair": {name: 1e3 * timing.cpu for name, timing in timings.items()},
            "ratio_like_for_like": rate[PREPROCESSED] / rate[LIKE],
            "ratio_to_published": rate[PREPROCESSED] / rate[PUBLISHED]}


def run(options) -> dict:
    """Measure on the data that the options name; ``text`` is the table."""
    dataset = datasets.readable(synthetic.open_data(options.data))
    found = measure(dataset, backbones.get(), options.batches, options.repeats)
    rows = {name: [f"{rate:.0f}", f"{found['cpu_ms_a_pair'][name]:.2f}"]
            for name, rate in found["pairs_per_second"].items()}
    text = "\n".join([
        f"{found['photos']} photos, {BATCH} pairs a batch, {options.batches} batches, "
        f"median of {options.repeats} interleaved repetitions",
        side_by_side.table(["pairs/s", "CPU ms a pair"], rows),
        f"preprocessed pipeline to the article's generator: {found['ratio_like_for_like']:.1f}× like for like, "
        f"{found['ratio_to_published']:.1f}× as published"])
    return {**found, "text": text}


def build_parser():
    """The options of this benchmark."""
    parser = side_by_side.parser(__doc__, "generator.py --data recognizing-faces-in-the-wild.zip --json", 5)
    parser.add_argument("--batches", type=side_by_side.count, default=100, metavar="N",
                        help="batches in a repetition (default: 100)")
    return parser


if __name__ == "__main__":
    sys.exit(side_by_side.main(run, build_parser().parse_args()))
