"""Seconds and memory of the article's two-network model against the course's models.

Plain: each of the four inputs goes through its tower by itself, batch normalisation uses and
updates the statistics of the batch, all layers train, and a step holds all pairs in memory. Ours:
`networks.pair_network` in `pair_network.PairTrainer`, all layers training too, a few pairs in
memory at a time. Both have the article's features. The fine-tuned encoder: the one small network
that `EncoderTrainer` fine-tunes, as many pairs a step, and that scores a photo and its mirror
image: version 0.1 of the shipped model was one such network. These have random weights, which take
as long as trained ones. The shipped model is the file itself, and answers only. In the two
photographs (synthetic walls of 1280×720 pixels) the same MTCNN finds the faces for every version.
Each version has a process of its own, because a process has one peak of memory; they take turns,
and the others wait meanwhile. A first step of each, which builds the graph, is not counted.
"""

import argparse
import functools
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
import side_by_side

from utils import settings
from utils.data import scenes
from utils.faces import alignment, detection
from utils.faces.alignment import Aligning
from utils.faces.backbones import DEFAULT, REGISTRY, Backbone
from utils.training import networks, pair_network
from utils.training.encoder import EncoderTrainer
from utils.training.ensemble import Ensemble

PLAIN, OURS, TUNED = "plain, as published", "ours", "fine-tuned encoder"
SHIPPED = "shipped model"
FIGURES = ("seconds", "cpu_seconds", "peak_gb")
# the first two: of one pair; training comes last, because it takes the most memory
TRAINING = "training step"
WORK = ("pair of crops", "pair of photographs", "prediction", TRAINING)

Crops = list[np.ndarray]  # a and b for each backbone: uint8 (pairs, size, size, 3)


# --- the versions -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Version:
    """What a model does.

    Attributes:
        score: from crops to probabilities.
        train: a step on crops and labels, float32 ``(pairs,)``; None: it is trained already.
    """

    score: Callable[[Crops], object]
    train: Callable[[Crops, np.ndarray], object] | None = None


def plain(backbones: list[Backbone], micro_batch: int | None) -> Version:
    """The article's model."""
    import keras

    # a tower for each backbone, which photo a and photo b go through one by one
    inputs, embeddings = [], []
    for backbone in backbones:
        tower = backbone.build(None)
        for _ in "ab":
            inputs.append(keras.Input((backbone.input_size, backbone.input_size, 3)))
            embeddings.append(tower(inputs[-1]))
    sizes = {backbone.layer_name: backbone.embedding_size for backbone in backbones}
    model = keras.Model(inputs, networks.pair_head(sizes, "article")(embeddings))
    model.compile(keras.optimizers.Adam(1e-5), "binary_crossentropy")

    def score(crops: Crops) -> object:
        return model.predict_on_batch(_preprocessed(backbones, crops))

    def train(crops: Crops, labels: np.ndarray) -> object:
        return model.train_on_batch(_preprocessed(backbones, crops), labels)

    return Version(score, train)


def ours(backbones: list[Backbone], micro_batch: int | None) -> Version:
    """The same with the course's model and trainer."""
    import keras

    from utils.training import models

    # as many pairs in memory as the course would have, or as the options say
    training = pair_network.NetworkSettings(
        micro_batch=micro_batch, batch_size=micro_batch or 16
    ).for_this_machine()
    model = networks.pair_network(backbones, "article", "all", None)
    network = models.PairScorer(model, backbones)
    trainer = pair_network.PairTrainer(network, training.micro_batch)
    trainer.compile(keras.optimizers.Adam(1e-5))

    def score(crops: Crops) -> object:
        return network.score(network.embed(crops[0::2]), network.embed(crops[1::2]))

    def train(crops: Crops, labels: np.ndarray) -> object:
        return trainer.train_on_batch(tuple(_preprocessed(backbones, crops)), labels)

    return Version(score, train)


def tuned(backbones: list[Backbone], micro_batch: int | None) -> Version:
    """An encoder that is fine-tuned by a contrastive loss."""
    import keras

    from utils.training import losses, models

    (backbone,) = backbones
    encoder = models.Encoder(backbone.build(None), {"logistic": (0, 1)}, backbone)
    # the second network keeps the moving average of the weights
    loss = losses.get("contrastive", 0, 0.05)
    trainer = EncoderTrainer(encoder.model, backbone.build(None), loss, averaging=0.98)
    trainer.compile(keras.optimizers.Adam(1e-5))

    def score(crops: Crops) -> object:
        return encoder.score(*np.split(encoder.embed(np.concatenate(crops)), 2))

    def train(crops: Crops, labels: np.ndarray) -> object:
        families = np.arange(len(labels))
        return trainer.train_on_batch(tuple(_preprocessed(backbones, crops)), families)

    return Version(score, train)


def shipped(models: list[Ensemble], micro_batch: int | None) -> Version:
    """The model of the file that ships."""
    (model,) = models

    def score(crops: Crops) -> object:
        return model.score(*np.split(model.embed(np.concatenate(crops)), 2))

    return Version(score)


VERSIONS = {PLAIN: plain, OURS: ours, TUNED: tuned, SHIPPED: shipped}


def _preprocessed(backbones: list[Backbone], crops: Crops) -> list:
    """What the towers take: a and b for each backbone."""
    return [backbones[number // 2].preprocess(faces) for number, faces in enumerate(crops)]


# --- one version, in a process of its own -------------------------------------------------------


def draw_crops(backbones: Sequence[Aligning], pairs: int) -> Crops:
    """Random pixels, a and b for each backbone."""
    rng = np.random.default_rng(settings.SEED)
    crops = []
    for backbone in backbones:
        shape = (pairs, backbone.input_size, backbone.input_size, 3)
        crops += [rng.integers(0, 256, shape, np.uint8) for _ in "ab"]
    return crops


def faces_of(photos: list[np.ndarray], backbones: Sequence[Aligning]) -> Crops:
    """The largest face of each photograph, aligned for each backbone."""
    faces = [detection.largest(detection.detect(photo), "the photo") for photo in photos]
    crops = []
    for backbone in backbones:
        for photo, face in zip(photos, faces, strict=True):
            crops.append(alignment.align_face(backbone, photo, face).crop[None])
    return crops


def work_of(
    version: Version, backbones: Sequence[Aligning], pairs: int
) -> dict[str, Callable[[], object]]:
    """The functions to be timed, by the names in ``WORK``.

    Args:
        version: what a model does.
        backbones: of the model, or the model itself: what crops are made for.
        pairs: of a prediction, and of a training step.
    """
    crops = draw_crops(backbones, pairs)
    labels = np.arange(pairs, dtype=np.float32) % 2  # every other pair is kin
    walls = [scenes.family_wall(seed=seed)[0] for seed in (0, 1)]

    def pair_of_crops() -> object:
        return version.score([faces[:1] for faces in crops])

    def pair_of_photographs() -> object:
        return version.score(faces_of(walls, backbones))

    def prediction() -> object:
        return version.score(crops)

    functions = [pair_of_crops, pair_of_photographs, prediction]
    if version.train is not None:
        functions.append(functools.partial(version.train, crops, labels))
    return dict(zip(WORK, functions, strict=False))


def child(
    pipe: Connection, version: str, names: list[str], pairs: int, micro_batch: int | None
) -> None:
    """Do the work that comes through a pipe, until None comes.

    Args:
        pipe: gives names of work; takes seconds, CPU seconds, and the peak so far in GB.
        version: one of ``VERSIONS``.
        names: of the backbones.
        pairs: of a prediction, and of a training step.
        micro_batch: pairs in memory at a time, ours; None: the course's.
    """
    import keras

    from utils.faces import backbones
    from utils.training import ensemble

    keras.utils.set_random_seed(settings.SEED)
    if version == SHIPPED:
        towers: list = [ensemble.load(settings.KINSHIP)]
    else:
        towers = [backbones.get(name) for name in names]
    functions = work_of(VERSIONS[version](towers, micro_batch), towers, pairs)
    while (work := pipe.recv()) is not None:
        start, cpu = time.perf_counter(), time.process_time()
        functions[work]()
        seconds = time.perf_counter() - start, time.process_time() - cpu
        pipe.send((*seconds, _peak()))


def _peak() -> float:
    """The most memory that this process has held, in GB."""
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


# --- all versions -------------------------------------------------------------------------------


def measure(names: list[str], pairs: int, micro_batch: int | None, repeats: int) -> dict:
    """Median seconds of each kind of work, and peak memory after it, of all versions.

    Args:
        names: of the backbones.
        pairs: of a prediction, and of a training step.
        micro_batch: pairs in memory at a time, ours; None: the course's.
        repeats: repetitions that count; one more, before them, builds the graphs.
    """
    # a process for each version, which waits at its pipe
    context, pipes, processes = multiprocessing.get_context("spawn"), {}, []
    for version in VERSIONS:
        pipes[version], theirs = context.Pipe()
        backbones = [DEFAULT] if version == TUNED else names
        arguments = (theirs, version, backbones, pairs, micro_batch)
        processes.append(context.Process(target=child, args=arguments, daemon=True))
        processes[-1].start()
        theirs.close()
    results = {}
    for work in WORK:
        those = {version: pipes[version] for version in versions_of(work)}
        results[work] = _in_turns(those, work, repeats)
    # None ends them
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(None)
        process.join()
    return results


def versions_of(work: str) -> list[str]:
    """The versions that do a kind of work: what ships is trained already."""
    return [version for version in VERSIONS if (work, version) != (TRAINING, SHIPPED)]


def _in_turns(pipes: dict[str, Connection], work: str, repeats: int) -> dict[str, dict]:
    """One kind of work, done by all versions in turns: the figures of each."""
    answers: dict[str, list[tuple]] = {version: [] for version in pipes}
    for _ in range(repeats + 1):
        for version, pipe in pipes.items():
            pipe.send(work)
            answers[version].append(pipe.recv())
    return {version: _figures(turns[1:]) for version, turns in answers.items()}


def _figures(turns: list[tuple[float, float, float]]) -> dict[str, float]:
    """Medians of the seconds; of the peaks so far the last."""
    seconds, cpu_seconds, peaks = zip(*turns, strict=True)
    return {
        "seconds": statistics.median(seconds),
        "cpu_seconds": statistics.median(cpu_seconds),
        "peak_gb": peaks[-1],
    }


def run(options: argparse.Namespace) -> dict:
    """Measure all versions; ``text`` is the table."""
    results = measure(options.backbones, options.pairs, options.micro_batch, options.repeats)
    # the figures of each version, then their ratios to those of the plain one
    rows = {}
    for work, versions in results.items():
        for version, figures in versions.items():
            cells = [f"{figures[name]:.2f}" for name in FIGURES]
            cells += [f"{figures[name] / versions[PLAIN][name]:.2f}×" for name in FIGURES]
            rows[f"{work}, {version}"] = cells
    heading = (
        f"{' + '.join(options.backbones)}, {options.pairs} pairs, median of {options.repeats} "
        "repetitions in turns"
    )
    columns = ["s", "CPU s", "peak GB", "time", "CPU time", "memory"]
    return {
        "backbones": options.backbones,
        "pairs": options.pairs,
        "repeats": options.repeats,
        **results,
        "text": f"{heading}\n{side_by_side.table(columns, rows)}",
    }


def build_parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    parser = side_by_side.parser(__doc__, "two_networks.py --repeats 3 --json", 5, data=False)
    parser.add_argument(
        "--backbones", nargs="+", choices=list(REGISTRY), default=["facenet", "vggface-resnet50"]
    )
    parser.add_argument(
        "--pairs", type=side_by_side.count, default=16, metavar="N", help="a batch (default: 16)"
    )
    parser.add_argument(
        "--micro-batch",
        type=side_by_side.count,
        metavar="N",
        help="pairs in memory at a time, ours (default: the course's)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(side_by_side.main(run, build_parser().parse_args()))
