"""Milliseconds a question: the inexact index of `gallery` against the exact search of FAISS.

The vectors are drawn, not photographed. How photos of people lie to each other is measured on
some photos of the data with the shipped kinship model: the covariance between people, and within
a person. As many people as are asked for are drawn from it, a vector each. Questions are further
photos, half of people in the gallery, half of others. Recall is the share of the exact nearest
ten that the inexact index gives. On one thread; needs faiss-cpu.
"""

import argparse
import functools
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import side_by_side

from utils import images, settings
from utils.answers import nearest
from utils.answers.kinship import Kinship
from utils.data import open_data
from utils.data.datasets import Dataset
from utils.scoring import metrics

CHUNK = 50_000  # vectors drawn at a time


@dataclass(frozen=True)
class Crowd:
    """How embeddings of people lie to each other.

    Attributes:
        mean: of all people, ``(d,)``.
        people: what a standard normal vector is multiplied by for a person, ``(d, d)``.
        photos: the same for how a photo differs from its person.
    """

    mean: np.ndarray
    people: np.ndarray
    photos: np.ndarray

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray) -> "Crowd":
        """From the embeddings of two photos of each of some people, ``(people, d)`` each."""
        within = np.cov((first - second).T) / 2
        means = (first + second) / 2
        between = np.cov(means.T) - within / 2  # a mean of two photos still differs by half
        return cls(means.mean(0).astype(np.float32), root(between), root(within))

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """People, not of length 1: float32 ``(count, d)``."""
        return self.mean + rng.standard_normal((count, len(self.mean)), np.float32) @ self.people

    def photos_of(self, people: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A photo of each person, of length 1: float32 ``(count, d)``."""
        noise = rng.standard_normal(people.shape, np.float32) @ self.photos
        return metrics.normalise(people + noise)


def root(covariance: np.ndarray) -> np.ndarray:
    """A matrix whose product with its own transpose is the covariance: float32 ``(d, d)``."""
    values, directions = np.linalg.eigh(covariance)
    return (directions * np.sqrt(np.clip(values, 0, None))).T.astype(np.float32)


def crowd_of(dataset: Dataset, model: Kinship, count: int) -> Crowd:
    """How the people of the data lie to each other, by two photos of each.

    Args:
        dataset: photos of people.
        model: embeds them.
        count: photos, two a person.
    """
    rng = np.random.default_rng(settings.SEED)
    groups = dataset.photos.groupby("person")["path"].agg(list)
    several = groups[groups.map(len) > 1]
    chosen = rng.permutation(len(several))[: max(2, count // 2)]
    names = [photo for place in chosen for photo in several.iloc[place][:2]]
    faces = images.read_many(dataset.paths(names), model.encoder.input_size)
    embeddings = model.encoder.embed(faces)
    return Crowd.of(embeddings[::2], embeddings[1::2])


def gallery(crowd: Crowd, count: int, path: Path) -> np.ndarray:
    """People drawn from a crowd, as an array on the disk: float32 ``(count, d)``, of length 1."""
    rng = np.random.default_rng(0)
    shape = (count, len(crowd.mean))
    vectors = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        vectors[start : start + size] = crowd.photos_of(crowd.draw(size, rng), rng)
    vectors.flush()
    return np.load(path, mmap_mode="r")


def questions_of(crowd: Crowd, vectors: np.ndarray, count: int) -> np.ndarray:
    """Further photos, half of people of the gallery and half of others: ``(count, d)``."""
    rng = np.random.default_rng(1)
    rows = np.sort(rng.choice(len(vectors), count // 2, replace=count > len(vectors)))
    known = np.asarray(vectors[rows], np.float32)
    return crowd.photos_of(np.concatenate([known, crowd.draw(count - len(known), rng)]), rng)


def ask(search: Callable[[np.ndarray], np.ndarray], questions: np.ndarray) -> list[np.ndarray]:
    """The nearest ten of each question, one question at a time as users ask."""
    return [search(question) for question in questions]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Build both, then ask both in turns."""
    nearest.library().omp_set_num_threads(1)
    crowd = crowd_of(open_data(options.data), Kinship.load(), options.photos)
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        vectors = gallery(crowd, options.vectors, Path(folder) / "vectors.npy")
        builders = {
            "exact": functools.partial(nearest.build, exact_up_to=options.vectors),
            "inexact": functools.partial(nearest.build, exact_up_to=0),
        }
        if options.graph:
            builders["graph"] = graph
        questions = questions_of(crowd, vectors, options.questions)
        return measure(vectors, questions, builders, options.repeats)


def graph(vectors: np.ndarray) -> nearest.Index:
    """The alternative that `gallery` does not take: a graph of neighbours over whole vectors.

    HNSW: Malkov and Yashunin, IEEE TPAMI 42, 2020.
    """
    faiss = nearest.library()
    index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = 80, 64
    index.add(np.ascontiguousarray(vectors, np.float32))
    return nearest.Index(vectors, index)


def measure(
    vectors: np.ndarray,
    questions: np.ndarray,
    builders: dict[str, Callable[[np.ndarray], nearest.Index]],
    repeats: int,
) -> dict[str, Any]:
    """Times, recall and memory of all.

    Args:
        vectors: ``(n, d)``.
        questions: ``(m, d)``.
        builders: "exact" and "inexact", and what else is compared.
        repeats: repetitions that count.
    """
    seconds, indexes = {}, {}
    for name, build in builders.items():
        start = time.process_time()
        indexes[name] = build(vectors)
        seconds[name] = time.process_time() - start
    searches = {name: functools.partial(_rows, index) for name, index in indexes.items()}
    functions = {name: functools.partial(ask, each, questions) for name, each in searches.items()}
    timings, answers = side_by_side.calls(functions, len(questions), repeats)
    inexact = indexes["inexact"]
    result = {
        "vectors": len(vectors),
        "numbers": vectors.shape[1],
        "questions": len(questions),
        "milliseconds": {name: 1000 * timing.wall for name, timing in timings.items()},
        "cpu_milliseconds": {name: 1000 * timing.cpu for name, timing in timings.items()},
        "times_faster": timings["exact"].cpu / timings["inexact"].cpu,
        "recall": {name: nearest.recall(rows, answers["exact"]) for name, rows in answers.items()},
        "recall_at_building": inexact.recall,
        "lists": inexact.faiss.nlist,
        "lists_read": inexact.lists,
        "cpu_seconds_to_build": seconds,
        "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    return {**result, "text": text_of(result)}


def _rows(index: nearest.Index, question: np.ndarray) -> np.ndarray:
    return index.search(question, nearest.NEAREST)[0]


def text_of(result: dict[str, Any]) -> str:
    """A table of both, and what the inexact one costs."""
    rows = {}
    for name, recall in result["recall"].items():
        rows[name] = [
            f"{result['cpu_milliseconds'][name]:.2f}",
            f"{result['milliseconds'][name]:.2f}",
            f"{recall:.3f}",
            f"{result['cpu_seconds_to_build'][name]:.0f}",
        ]
    columns = ["CPU ms a question", "ms on the clock", "recall at 10", "CPU s to build"]
    return (
        f"{result['vectors']:,} vectors of {result['numbers']} numbers, one thread\n"
        f"{side_by_side.table(columns, rows)}\n"
        f"times faster {result['times_faster']:.1f}; {result['lists_read']} of "
        f"{result['lists']} lists are read; peak memory {result['peak_gigabytes']:.1f} GB, the "
        "mapped vectors with it"
    )


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = side_by_side.parser(__doc__, "search.py --vectors 100000", repeats=3)
    parser.add_argument(
        "--vectors", type=side_by_side.count, default=1_000_000, help="default: 1000000"
    )
    parser.add_argument("--questions", type=side_by_side.count, default=100, help="default: 100")
    parser.add_argument(
        "--photos",
        type=side_by_side.count,
        default=300,
        help="photos that the covariances are measured on (default: 300)",
    )
    parser.add_argument(
        "--graph", action="store_true", help="also HNSW, which takes long to build"
    )
    parser.add_argument("--scratch", type=Path, help="folder for the vectors (default: TMPDIR)")
    return parser


if __name__ == "__main__":
    sys.exit(side_by_side.main(run, build_parser().parse_args()))
